//! A condition brought together with a model: every name has become a number.
//!
//! What it must never do: look anything up by name once frames flow.

use super::condition::{Condition, evaluate};
use super::rule::{Point, RuleError};
use super::seen::Seen;
use super::terms::{Op, Quantity, Term, Test};
use crate::frame::{ModelTag, Quality};

/// Where a value comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    Probability(usize),
    OwnProbability,
    Confidence,
    Novelty,
    Distance(usize),
    Light,
    Output(usize),
    Shift,
    ShiftPeak,
    Action,
    Quality,
}

/// What it is compared with.
#[derive(Clone, Copy, Debug)]
enum With {
    Above(f32),
    AtLeast(f32),
    Below(f32),
    AtMost(f32),
    Is(f32),
    IsNot(f32),
}

/// A condition over the decodes of one model.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    terms: Vec<(From, With)>,
    ops: Vec<Op>,
}

/// The model and the points, and which condition is being bound.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub model: &'a ModelTag,
    pub points: &'a [Point],
    pub rule: &'a str,
    pub key: &'static str,
}

impl Bound {
    pub fn new(condition: &Condition, names: Names<'_>) -> Result<Self, RuleError> {
        let terms = condition.terms.iter().map(|term| names.bind(term)).collect::<Result<_, _>>()?;
        Ok(Self { terms, ops: condition.ops.clone() })
    }

    /// How many values it compares.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Writes the values that it compares; NaN where one is not known.
    pub fn values(&self, seen: &Seen<'_>, points: &[Point], into: &mut [f32]) {
        for ((from, _), value) in self.terms.iter().zip(into) {
            *value = from.value(seen, points).unwrap_or(f32::NAN);
        }
    }

    /// Does it hold for these values? `None` where that depends on one that is not known.
    pub fn holds(&self, values: &[f32]) -> Option<bool> {
        evaluate(&self.ops, |term| {
            let (value, (_, with)) = (values[term], self.terms[term]);
            (!value.is_nan()).then(|| with.holds(value))
        })
    }

    /// The same with another value of `p`.
    pub fn with_own(&self, own: f32, values: &mut [f32]) {
        let of_own = |(from, _): &(From, With)| matches!(from, From::OwnProbability);
        self.terms.iter().zip(values).filter(|(term, _)| of_own(term)).for_each(|(_, value)| *value = own);
    }
}

impl Names<'_> {
    fn bind(self, term: &Term) -> Result<(From, With), RuleError> {
        let from = match &term.quantity {
            Quantity::Probability(label) => From::Probability(self.action(label)?),
            Quantity::OwnProbability => From::OwnProbability,
            Quantity::Confidence => From::Confidence,
            Quantity::Novelty => From::Novelty,
            Quantity::Distance(point) => From::Distance(self.point(point)?),
            Quantity::Output(name) => From::Output(self.output(name)?),
            Quantity::Light => From::Light,
            Quantity::Shift => From::Shift,
            Quantity::ShiftPeak => From::ShiftPeak,
            Quantity::Action => From::Action,
            Quantity::Quality => From::Quality,
        };
        let word = |word: &str| -> Result<f32, RuleError> {
            match term.quantity {
                Quantity::Quality => {
                    Ok(if word == Quality::Ok.name() { code(Quality::Ok) } else { code(Quality::Degraded) })
                }
                _ => Ok(self.action(word)? as f32),
            }
        };
        let with = match &term.test {
            Test::Above(number) => With::Above(*number),
            Test::AtLeast(number) => With::AtLeast(*number),
            Test::Below(number) => With::Below(*number),
            Test::AtMost(number) => With::AtMost(*number),
            Test::Is(name) => With::Is(word(name)?),
            Test::IsNot(name) => With::IsNot(word(name)?),
        };
        Ok((from, with))
    }

    fn action(self, label: &str) -> Result<usize, RuleError> {
        let model = self.model;
        let place = model.labels.iter().position(|known| known == label).filter(|_| model.trained);
        place.ok_or_else(|| {
            let known = if model.decodes_actions() {
                format!("its actions are {}", model.labels.join(", "))
            } else {
                "it decodes no actions".to_owned()
            };
            let (rule, label) = (self.rule.to_owned(), label.to_owned());
            RuleError::Action { rule, key: self.key, label, model: model.name.clone(), known }
        })
    }

    fn output(self, name: &str) -> Result<usize, RuleError> {
        let model = self.model;
        let place = model.outputs.iter().position(|known| known == name).filter(|_| model.trained);
        place.ok_or_else(|| {
            let known = if model.outputs.is_empty() || !model.trained {
                "it has no continuous outputs".to_owned()
            } else {
                format!("its outputs are {}", model.outputs.join(", "))
            };
            let (rule, output) = (self.rule.to_owned(), name.to_owned());
            RuleError::Output { rule, key: self.key, output, model: model.name.clone(), known }
        })
    }

    fn point(self, name: &str) -> Result<usize, RuleError> {
        let place = self.points.iter().position(|point| point.name.as_str() == name);
        place.ok_or_else(|| {
            let all: Vec<&str> = self.points.iter().map(|point| point.name.as_str()).collect();
            let known = if all.is_empty() {
                "there are no points".to_owned()
            } else {
                format!("points are {}", all.join(", "))
            };
            RuleError::NoPoint { rule: self.rule.to_owned(), key: self.key, point: name.to_owned(), known }
        })
    }
}

impl From {
    fn value(self, seen: &Seen<'_>, points: &[Point]) -> Option<f32> {
        match self {
            Self::Probability(label) => seen.probabilities.get(label).copied(),
            // Written by whoever asks about one action after the other.
            Self::OwnProbability => None,
            Self::Confidence => seen.probabilities.iter().copied().filter(|p| p.is_finite()).reduce(f32::max),
            Self::Novelty => seen.novelty,
            Self::Distance(point) => Some(distance(seen.embedding, &points[point].values)),
            Self::Output(output) => seen.outputs.get(output).copied(),
            Self::Light => seen.light,
            Self::Shift => seen.shift_px.map(|[dy, dx]| dy.hypot(dx)),
            Self::ShiftPeak => seen.shift_px.and(Some(seen.shift_peak)),
            Self::Action => seen.action.map(|action| action as f32),
            Self::Quality => Some(code(seen.quality)),
        }
    }
}

impl With {
    fn holds(self, value: f32) -> bool {
        match self {
            Self::Above(number) => value > number,
            Self::AtLeast(number) => value >= number,
            Self::Below(number) => value < number,
            Self::AtMost(number) => value <= number,
            // Whole numbers far below 2²⁴: exact.
            Self::Is(code) => value == code,
            Self::IsNot(code) => value != code,
        }
    }
}

fn code(quality: Quality) -> f32 {
    f32::from(quality.code())
}

/// Euclidean, in one fixed order, so that every machine and every build finds the same bits.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let square: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    square.sqrt() as f32
}
