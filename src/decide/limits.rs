//! What a rule may do at most: refractory time, decisions in a window, output in a minute and in the session.
//!
//! Why it exists: light that is given too often or for too long harms an animal, and no condition, however it flickers, may bring that
//! about. What it must never do: forgive. What counts is remembered until it has left every window, and nothing takes it back.

use std::collections::VecDeque;

use super::rule::Rule;
use crate::frame::Withheld;

const MS: u64 = 1_000_000;
/// The window of `dose_minute_ms`.
const MINUTE_MS: u64 = 60_000;

/// The last times of something that may happen so often in a window.
struct Window {
    times_ns: VecDeque<u64>,
    most: usize,
    length_ns: u64,
}

impl Window {
    fn new(most: usize, length_ns: u64) -> Self {
        Self { times_ns: VecDeque::with_capacity(most), most, length_ns }
    }

    fn is_full(&self, now_ns: u64) -> bool {
        // As many as allowed are remembered; it is full as long as the oldest of them is still in the window.
        self.times_ns.len() == self.most
            && self.times_ns.front().is_none_or(|first| now_ns.saturating_sub(*first) < self.length_ns)
    }

    fn push(&mut self, now_ns: u64) {
        if self.times_ns.len() == self.most {
            self.times_ns.pop_front();
        }
        self.times_ns.push_back(now_ns);
    }

    /// How many are in the window.
    fn inside(&self, now_ns: u64) -> usize {
        self.times_ns.len() - self.times_ns.partition_point(|time| now_ns.saturating_sub(*time) >= self.length_ns)
    }
}

/// What has been decided and given so far. Times are those of decisions; of a yoked rule those of the first pulses, which may lie up to a frame
/// ahead.
pub(super) struct Limits {
    refractory_ns: u64,
    last_ns: Option<u64>,
    decisions: Option<Window>,
    outputs: Option<Window>,
    output_ms: u64,
    given_ms: u64,
    session_ms: Option<u64>,
}

impl Limits {
    pub fn of(rule: &Rule) -> Self {
        let train = rule.train;
        let output_ms = train.dose_ms().max(1);
        // Pulses that began before a minute reach into it, and jitter moves them together: so much longer is the time in which outputs
        // are counted.
        let minute_ns = (MINUTE_MS + train.length_ms() + u64::from(train.jitter_ms)) * MS;
        Self {
            refractory_ns: u64::from(rule.refractory_ms).max(train.span_ms()) * MS,
            last_ns: None,
            decisions: rule.at_most.map(|most| Window::new(most.count as usize, u64::from(most.window_s) * 1000 * MS)),
            outputs: rule.dose_minute_ms.map(|ms| Window::new((u64::from(ms) / output_ms) as usize, minute_ns)),
            output_ms,
            given_ms: 0,
            session_ms: rule.dose_session_ms.map(u64::from),
        }
    }

    /// Is it too early for another decision?
    pub fn too_early(&self, now_ns: u64) -> Option<Withheld> {
        if self.last_ns.is_some_and(|last| now_ns.saturating_sub(last) < self.refractory_ns) {
            return Some(Withheld::Refractory);
        }
        self.decisions.as_ref().is_some_and(|window| window.is_full(now_ns)).then_some(Withheld::Rate)
    }

    /// A decision is made, with an output or without.
    pub fn decided(&mut self, now_ns: u64) {
        self.last_ns = Some(now_ns);
        if let Some(window) = &mut self.decisions {
            window.push(now_ns);
        }
    }

    /// Would another output be too much?
    pub fn too_much(&self, now_ns: u64) -> Option<Withheld> {
        if self.session_ms.is_some_and(|most| self.given_ms + self.output_ms > most) {
            return Some(Withheld::DoseSession);
        }
        self.outputs.as_ref().is_some_and(|window| window.is_full(now_ns)).then_some(Withheld::DoseMinute)
    }

    /// An output is given.
    pub fn give(&mut self, now_ns: u64) {
        self.given_ms += self.output_ms;
        if let Some(window) = &mut self.outputs {
            window.push(now_ns);
        }
    }

    /// What is left of the doses of the minute and of the session, ms.
    pub fn left_ms(&self, now_ns: u64) -> [Option<u32>; 2] {
        let minute = self.outputs.as_ref().map(|window| (window.most - window.inside(now_ns)) as u64 * self.output_ms);
        let session = self.session_ms.map(|most| most - self.given_ms);
        [minute, session].map(|left| left.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)))
    }
}
