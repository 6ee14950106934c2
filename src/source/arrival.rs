//! When the next frame is due: the arithmetic behind the wait policy `anticipate`.
//!
//! Why it exists: a microscope is as regular as a metronome. A thread that sleeps through most of a period and is awake, with
//! warm caches, when the frame arrives costs little and reacts almost as fast as one that never sleeps. What it must never do:
//! read a clock (times are passed in) or affect a result: only how a thread idles depends on it.

/// Longest period that is anticipated: the prediction for slower streams would be too imprecise, ns.
const PERIOD_NS_MAX: u64 = 1_000_000_000;
/// Shortest period that is anticipated: faster streams leave no time to sleep, ns.
const PERIOD_NS_MIN: u64 = 500_000;
/// Fraction of the period by which a frame may be early or late and still find the thread awake, as a divisor.
const TOLERANCE_DIVISOR: u64 = 10;
/// Upper bound on that tolerance, ns: it limits the cost of being awake.
const TOLERANCE_NS_MAX: u64 = 2_000_000;
/// Time before that for warming up code and data, ns.
const WARM_NS: u64 = 1_500_000;
/// Weight of a new interval in the smoothed period, as a divisor.
const SMOOTHING: u64 = 8;

/// Consecutive unexpected intervals after which the period is measured again.
const UNEXPECTED_MAX: u32 = 4;

/// What an idle thread should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Sleep, at most this long, ns.
    Sleep(u64),
    /// The frame is about to arrive: warm up code and data.
    Warm,
    /// The frame is due: stay awake.
    Awake,
}

/// The smoothed period of a stream and its last arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArrivalPredictor {
    last_ns: u64,
    period_ns: u64,
    /// Consecutive intervals that do not match the period.
    unexpected: u32,
    warmed: bool,
}

impl ArrivalPredictor {
    /// Notes the arrival of a frame.
    pub fn note(&mut self, arrived_ns: u64) {
        let interval = arrived_ns.saturating_sub(self.last_ns);
        if self.last_ns > 0 {
            self.update_period(interval);
        }
        self.last_ns = arrived_ns;
        self.warmed = false;
    }

    fn update_period(&mut self, interval: u64) {
        if (self.period_ns / 2..2 * self.period_ns).contains(&interval) {
            self.period_ns = self.period_ns - self.period_ns / SMOOTHING + interval / SMOOTHING;
            self.unexpected = 0;
            return;
        }
        // One unexpected interval is a gap or a burst; several are a new rate.
        self.unexpected += 1;
        if self.period_ns == 0 || self.unexpected == UNEXPECTED_MAX {
            self.period_ns = interval;
            self.unexpected = 0;
        }
    }

    /// What to do now. [`Advice::Warm`] is given once per frame.
    pub fn advise(&mut self, now_ns: u64) -> Advice {
        if !(PERIOD_NS_MIN..=PERIOD_NS_MAX).contains(&self.period_ns) {
            return Advice::Sleep(u64::MAX);
        }
        let tolerance = (self.period_ns / TOLERANCE_DIVISOR).min(TOLERANCE_NS_MAX);
        let due = self.last_ns + self.period_ns;
        let (awake, warm) = (due - tolerance, due.saturating_sub(tolerance + WARM_NS));
        if now_ns < warm {
            Advice::Sleep(warm - now_ns)
        } else if now_ns < awake
            && self.period_ns > 2 * (WARM_NS + tolerance)
            && !std::mem::replace(&mut self.warmed, true)
        {
            Advice::Warm
        } else if now_ns < due + tolerance {
            Advice::Awake
        } else {
            Advice::Sleep(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at_30_hz() -> ArrivalPredictor {
        let mut arrivals = ArrivalPredictor::default();
        (1..=20).for_each(|k| arrivals.note(k * 33 * MS));
        arrivals
    }

    #[test]
    fn nothing_is_anticipated_before_a_period_is_known_or_when_it_is_too_long() {
        let mut arrivals = ArrivalPredictor::default();
        assert_eq!(arrivals.advise(5), Advice::Sleep(u64::MAX));
        arrivals.note(MS);
        assert_eq!(arrivals.advise(5 * MS), Advice::Sleep(u64::MAX));
        arrivals.note(3_000 * MS);
        assert_eq!(arrivals.advise(3_001 * MS), Advice::Sleep(u64::MAX));
    }

    #[test]
    fn a_thread_sleeps_then_warms_once_then_stays_awake_until_the_frame_is_overdue() {
        let (mut arrivals, last) = (at_30_hz(), 660 * MS);
        let Advice::Sleep(left) = arrivals.advise(last + MS) else { panic!("not asleep") };
        assert!((28 * MS..30 * MS).contains(&left), "{left}");
        assert_eq!(arrivals.advise(last + 30 * MS), Advice::Warm);
        assert_eq!(arrivals.advise(last + 30 * MS), Advice::Awake);
        assert_eq!(arrivals.advise(last + 34 * MS), Advice::Awake);
        assert_eq!(arrivals.advise(last + 36 * MS), Advice::Sleep(u64::MAX));
    }

    #[test]
    fn a_gap_or_a_new_rate_is_followed_within_a_few_frames() {
        let mut arrivals = at_30_hz();
        (1..=40).for_each(|k| arrivals.note(660 * MS + 5_000 * MS + k * 10 * MS));
        let last = 660 * MS + 5_400 * MS;
        assert!(matches!(arrivals.advise(last + MS), Advice::Sleep(left) if left < 8 * MS));
    }
}
