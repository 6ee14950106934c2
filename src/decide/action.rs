//! The published action as the decision of a rule: a bout is one bout.
//!
//! Why it exists: the most probable action flickers where two are about as probable, and an animal does not. What it must never do:
//! change a probability, or show an action that was never decoded.

use super::bound::Bound;
use super::dwell::Dwell;
use super::rule::{Hold, Point};
use super::seen::Seen;
use crate::frame::{Quality, TERMS_MAX};

/// Which action is shown.
pub(super) struct Smoother {
    when: Bound,
    /// How long each action has been fit to take over.
    fit: Vec<Dwell>,
    shown: Option<usize>,
}

impl Smoother {
    pub fn new(when: Bound, enter: Hold, actions: usize) -> Self {
        Self { when, fit: vec![Dwell::new(enter); actions], shown: None }
    }

    /// One decode; `None` = nothing is to be shown but what it says itself.
    pub fn step(&mut self, seen: &Seen<'_>, points: &[Point], now_ns: u64) -> Option<usize> {
        if !matches!(seen.quality, Quality::Ok | Quality::Degraded) {
            self.fit.iter_mut().for_each(Dwell::forget);
            self.shown = None;
            return None;
        }
        if seen.distrust.is_some() {
            // It shows the decode before it, if anything.
            return self.shown.filter(|_| seen.action.is_some());
        }
        let mut values = [f32::NAN; TERMS_MAX];
        let values = &mut values[..self.when.len()];
        self.when.values(seen, points, values);
        let mut best: Option<(usize, f32)> = None;
        for (action, (fit, &p)) in self.fit.iter_mut().zip(seen.probabilities).enumerate() {
            self.when.with_own(p, values);
            let is_fit = fit.push(self.when.holds(values) == Some(true), now_ns);
            if is_fit && best.is_none_or(|(_, most)| p > most) {
                best = Some((action, p));
            }
        }
        let before = self.shown.and_then(|action| seen.probabilities.get(action)).copied();
        if let Some((action, p)) = best
            && before.is_none_or(|before| p > before)
        {
            self.shown = Some(action);
        }
        self.shown
    }
}
