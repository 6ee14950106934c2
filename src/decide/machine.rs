//! The machine that follows the rules, decode by decode.
//!
//! Why it exists: one object decides live, in a replay and in `haltere decide`. What it must never do: allocate once it is made, read a
//! clock, or look at a decode twice.

use super::action::Smoother;
use super::bound::{Bound, Names};
use super::clock::{FrameClock, Moment};
use super::dwell::Dwell;
use super::limits::Limits;
use super::rule::{ACTION, Point, Rule, RuleError, Rules};
use super::seen::Seen;
use super::yoke::{Due, Yoked};
use crate::frame::{Decision, ModelTag, Name, Switch, TERMS_MAX, Withheld};
use crate::sys::random::Random;

/// All rules over the decodes of one model.
pub struct Decider {
    clock: FrameClock,
    rules: Vec<Machine>,
    points: Vec<Point>,
    action: Option<Smoother>,
}

impl Decider {
    /// Brings the rules together with a model that takes `frame_rate_hz` frames per second of the stream.
    ///
    /// # Errors
    /// A rule that names an action or a point that is not there, or a point of another embedding.
    pub fn new(rules: &Rules, model: &ModelTag, frame_rate_hz: f64) -> Result<Self, RuleError> {
        let points = &rules.points;
        if let Some(point) = points.iter().find(|point| point.values.len() != model.embedding) {
            let (found, needed) = (point.values.len(), model.embedding);
            let (point, model) = (point.name.to_string(), model.name.clone());
            return Err(RuleError::Dimensions { point, found, needed, model });
        }
        let action = &rules.action;
        if action.on && !model.decodes_actions() {
            return Err(RuleError::NoActions { model: model.name.clone() });
        }
        let period_ns = (1e9 / frame_rate_hz.max(1e-3)) as u64;
        let names = Names { model, points, rule: ACTION, key: "when" };
        let smoother =
            || Bound::new(&action.when, names).map(|when| Smoother::new(when, action.enter, model.labels.len()));
        Ok(Self {
            clock: FrameClock::new(frame_rate_hz),
            rules: rules
                .rules
                .iter()
                .map(|rule| Machine::new(rule, (model, points), period_ns))
                .collect::<Result<_, _>>()?,
            points: points.clone(),
            action: action.on.then(smoother).transpose()?,
        })
    }

    /// One decode. Adds what is decided to `made`, one decision of a rule at most, and returns the action to be published; `None` = that of
    /// the decode itself.
    pub fn step(&mut self, seen: &Seen<'_>, made: &mut Vec<Decision>) -> Option<usize> {
        let now_ns = self.clock.advance(seen.moment);
        for (index, rule) in self.rules.iter_mut().enumerate() {
            made.extend(rule.step(index, seen, &self.points, now_ns));
        }
        self.action.as_mut().and_then(|smoother| smoother.step(seen, &self.points, now_ns))
    }

    /// Time of the last decode since the first, by the frames' own times, ns.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Throws a switch of a rule; false when there is no rule of this name.
    pub fn switch(&mut self, name: Name, switch: Switch) -> bool {
        let rule = self.rules.iter_mut().find(|rule| rule.name == name);
        rule.map(|rule| rule.switch(switch)).is_some()
    }

    /// How the rules stand, in the order of the configuration.
    pub fn standing(&self) -> impl Iterator<Item = Standing> + '_ {
        let now_ns = self.clock.now_ns();
        self.rules.iter().map(move |rule| {
            let [minute_left_ms, session_left_ms] = rule.limits.left_ms(now_ns);
            Standing { on: rule.on, armed: rule.armed, minute_left_ms, session_left_ms }
        })
    }
}

/// Longest time that a yoked output is decided ahead, ns: the slowest volumes.
const AHEAD_NS_MAX: u64 = 2_000_000_000;

/// The rule as its limits see it: a yoked one draws no delay.
fn with_limited_train(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    if rule.yoke.is_some() {
        (rule.train.delay_ms, rule.train.jitter_ms) = (0, 0);
    }
    rule
}

/// How a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Does it look at decodes?
    pub on: bool,
    /// Does it give outputs?
    pub armed: bool,
    /// What is left of the dose of a minute, ms.
    pub minute_left_ms: Option<u32>,
    /// Of that of the session, ms.
    pub session_left_ms: Option<u32>,
}

/// One rule and what it remembers.
struct Machine {
    name: Name,
    rule: Rule,
    when: Bound,
    leave: Option<Bound>,
    on: bool,
    armed: bool,
    enter: Dwell,
    left: Dwell,
    /// A bout goes on.
    inside: bool,
    /// Its beginning was decided about.
    tried: bool,
    /// Time of the last decode that was looked at.
    looked_ns: Option<u64>,
    limits: Limits,
    number: u64,
    /// Outputs of an earlier session, in place of the condition.
    yoked: Option<Yoked>,
}

/// What a rule decides about.
#[derive(Clone, Copy)]
struct Occasion {
    /// Its first: only then is it said that nothing may be decided.
    first: bool,
    /// The values compared.
    values: [f32; TERMS_MAX],
    /// It repeats an output of an earlier session.
    due: Option<Due>,
}

impl Machine {
    fn new(rule: &Rule, (model, points): (&ModelTag, &[Point]), period_ns: u64) -> Result<Self, RuleError> {
        let names = |key| Names { model, points, rule: rule.name.as_str(), key };
        let never = super::Condition::never();
        let when = Bound::new(rule.when.as_ref().unwrap_or(&never), names("when"))?;
        let leave = rule.leave.as_ref().map(|leave| Bound::new(leave, names("leave"))).transpose()?;
        Ok(Self {
            name: rule.name,
            when,
            leave,
            on: rule.on,
            armed: rule.armed,
            enter: Dwell::new(rule.enter),
            left: Dwell::new(rule.left),
            inside: false,
            tried: false,
            looked_ns: None,
            limits: Limits::of(&with_limited_train(rule)),
            number: 0,
            yoked: rule
                .yoke
                .as_ref()
                .map(|yoke| Yoked::new(yoke, period_ns.min(AHEAD_NS_MAX), u64::from(rule.forget_ms) * 1_000_000)),
            rule: rule.clone(),
        })
    }

    fn switch(&mut self, switch: Switch) {
        match switch {
            Switch::On => self.on = true,
            Switch::Off => self.on = false,
            // A bout that goes on was decided about: it has no output in its middle.
            Switch::Arm => self.armed = true,
            Switch::Disarm => self.armed = false,
        }
        if let (Switch::On, Some(yoked)) = (switch, &mut self.yoked) {
            yoked.rewind();
        }
        if matches!(switch, Switch::On | Switch::Off) {
            // What was seen before the switch decides nothing after it; what was decided and given still counts.
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        self.enter.forget();
        self.left.forget();
        (self.inside, self.tried, self.looked_ns) = (false, false, None);
    }

    fn step(&mut self, index: usize, seen: &Seen<'_>, points: &[Point], now_ns: u64) -> Option<Decision> {
        if !self.on {
            return None;
        }
        if let Some(yoked) = &mut self.yoked {
            let due = yoked.due(seen.quality, now_ns)?;
            let (values, ..) = self.compare(seen, points);
            return self.decide(index, Occasion { first: true, values, due: Some(due) }, seen, now_ns);
        }
        // A frame that is not believed says nothing about the animal: it neither begins a bout nor ends one.
        if seen.distrust.is_some() || !self.rule.quality.takes(seen.quality) {
            return None;
        }
        let forget_ns = u64::from(self.rule.forget_ms) * 1_000_000;
        if self.looked_ns.replace(now_ns).is_some_and(|looked| now_ns - looked > forget_ns) {
            self.begin_anew();
            self.looked_ns = Some(now_ns);
        }
        let (values, when, leaves) = self.compare(seen, points);
        if self.inside {
            // What is not known does not keep a bout going.
            if self.left.push(leaves.unwrap_or(true), now_ns) {
                self.inside = false;
                self.enter.forget();
            }
        } else if self.enter.push(when.unwrap_or(false), now_ns) {
            (self.inside, self.tried) = (true, false);
            self.left.forget();
        }
        let first = !std::mem::replace(&mut self.tried, self.inside);
        let asked = self.inside && (first || self.rule.repeat);
        if asked { self.decide(index, Occasion { first, values, due: None }, seen, now_ns) } else { None }
    }

    /// The values that both conditions compare, whether `when` holds, and whether `leave` does.
    fn compare(&self, seen: &Seen<'_>, points: &[Point]) -> ([f32; TERMS_MAX], Option<bool>, Option<bool>) {
        let mut values = [f32::NAN; TERMS_MAX];
        let (of_when, of_leave) = values.split_at_mut(self.when.len());
        self.when.values(seen, points, of_when);
        let when = self.when.holds(of_when);
        let leaves = match &self.leave {
            Some(leave) => {
                leave.values(seen, points, of_leave);
                leave.holds(of_leave)
            }
            None => when.map(|holds| !holds),
        };
        (values, when, leaves)
    }

    /// A bout begins, or goes on and the rule repeats, or the time of a yoked output has come.
    fn decide(&mut self, index: usize, occasion: Occasion, seen: &Seen<'_>, now_ns: u64) -> Option<Decision> {
        let Occasion { first, values, due } = occasion;
        let (sham, drawn_us) = self.draw(seen);
        let delay_us = due.map_or(drawn_us, |due| due.delay_us);
        // Limits of a yoked rule hold between pulses: its decisions come up to a frame before them.
        let now_ns = now_ns + due.map_or(0, |due| u64::from(due.delay_us) * 1000);
        let missed = due.is_some_and(|due| due.missed).then_some(Withheld::Missed);
        let early = missed.or_else(|| self.limits.too_early(now_ns));
        let withheld = early
            .or((!self.armed).then_some(Withheld::Disarmed))
            .or_else(|| self.limits.too_much(now_ns))
            .or(sham.then_some(Withheld::Sham));
        let silent = matches!(
            withheld,
            Some(Withheld::Refractory | Withheld::Rate | Withheld::DoseMinute | Withheld::DoseSession)
        );
        if silent && !first {
            return None;
        }
        if early.is_none() {
            self.limits.decided(now_ns);
        }
        if withheld.is_none() {
            self.limits.give(now_ns);
        }
        self.number += 1;
        let [minute_left_ms, session_left_ms] = self.limits.left_ms(now_ns);
        Some(Decision {
            rule: index,
            number: self.number,
            withheld,
            armed: self.armed,
            sham,
            yoked: due.map(|due| due.number),
            delay_us,
            minute_left_ms,
            session_left_ms,
            values,
            t_decided_ns: 0,
        })
    }

    /// The lots of a decision: sham or not, and its delay with jitter. They depend on the rule's name and seed and on the frame alone, so that a
    /// replay from anywhere draws the same.
    fn draw(&self, seen: &Seen<'_>) -> (bool, u32) {
        let Moment { device, received_ns, number, .. } = seen.moment;
        let name = self.name.as_str().bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(byte.into()));
        let keys = [name, device.map_or(0, |(ns, _)| ns as u64), received_ns.unwrap_or(0), number];
        let mut random = Random::new(self.rule.seed, &keys);
        let (lot, share) = (random.uniform(), random.uniform());
        let jitter_us = share * f64::from(self.rule.train.jitter_ms) * 1e3;
        (lot * 100.0 < f64::from(self.rule.sham_percent), self.rule.train.delay_ms * 1000 + jitter_us as u32)
    }
}
