//! Yoked outputs: those of an earlier session, at their times, in place of a condition.
//!
//! Why it exists: whether the stimulus or its bond with the behaviour did something is told by an animal that gets the stimuli of another one.
//! What it must never do: give more than the rule's own limits allow, or catch up: an output whose time has passed is not given later.

use crate::frame::Quality;

/// Most outputs of a yoke.
pub const YOKE_OUTPUTS_MAX: usize = 10_000;
/// Latest output of a yoke, s.
const YOKE_S_MAX: f64 = 86_400.0;

/// When outputs began: times of their first pulses since the first frame, µs, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Yoke {
    times_us: Vec<u64>,
}

impl Yoke {
    /// Of times in s.
    ///
    /// # Errors
    /// Says what is wrong: no time, too many, one outside a day, or one before its predecessor.
    pub fn of_seconds(times_s: &[f64]) -> Result<Self, String> {
        if !(1..=YOKE_OUTPUTS_MAX).contains(&times_s.len()) {
            return Err(format!("{} times; there may be 1 to {YOKE_OUTPUTS_MAX}", times_s.len()));
        }
        if let Some(time) = times_s.iter().find(|time| !(0.0..=YOKE_S_MAX).contains(*time)) {
            return Err(format!("the time {time}; each must lie between 0 and {YOKE_S_MAX} s"));
        }
        if let Some(pair) = times_s.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(format!("{} s after {} s; they must ascend", pair[1], pair[0]));
        }
        Ok(Self { times_us: times_s.iter().map(|time| (time * 1e6).round() as u64).collect() })
    }

    /// The times, s.
    pub fn seconds(&self) -> impl Iterator<Item = f64> + '_ {
        self.times_us.iter().map(|us| *us as f64 / 1e6)
    }

    /// How many outputs.
    pub fn outputs(&self) -> usize {
        self.times_us.len()
    }
}

/// An output whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Counted from 1.
    pub number: u32,
    /// From now to its first pulse, µs.
    pub delay_us: u32,
    /// Its time passed too long ago.
    pub missed: bool,
}

/// A yoke and how far it is.
pub(super) struct Yoked {
    times_us: Vec<u64>,
    next: usize,
    began_ns: Option<u64>,
    /// The next frame comes about so much later, ns: an output before it begins now, with a delay.
    ahead_ns: u64,
    /// Longest time for which an output may be late, ns.
    late_ns: u64,
}

impl Yoked {
    pub fn new(yoke: &Yoke, ahead_ns: u64, late_ns: u64) -> Self {
        Self { times_us: yoke.times_us.clone(), next: 0, began_ns: None, ahead_ns, late_ns }
    }

    /// From its first output on, counted from the next frame.
    pub fn rewind(&mut self) {
        (self.next, self.began_ns) = (0, None);
    }

    /// A decode at `now_ns`; the output whose turn it is, one per decode.
    pub fn due(&mut self, quality: Quality, now_ns: u64) -> Option<Due> {
        let began_ns = *self.began_ns.get_or_insert(now_ns);
        if !matches!(quality, Quality::Ok | Quality::Degraded) {
            return None;
        }
        let at_ns = began_ns + self.times_us.get(self.next)? * 1000;
        if at_ns >= now_ns.saturating_add(self.ahead_ns) {
            return None;
        }
        self.next += 1;
        let delay_us = (at_ns.saturating_sub(now_ns) / 1000) as u32;
        Some(Due { number: self.next as u32, delay_us, missed: now_ns.saturating_sub(at_ns) > self.late_ns })
    }
}
