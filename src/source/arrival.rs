//! When the next frame is due: the arithmetic behind the wait policy `anticipate`.
//!
//! Why it exists: a microscope is a metronome. A thread that sleeps through most of a period and is awake, with warm
//! caches, when the frame comes, costs little and decodes a paced stream almost as fast as a flood. What it must never do:
//! read a clock (it is told the time) or touch what is computed: only how a thread idles depends on it.

/// Streams slower than this are not anticipated: the guess would be far off, ns.
const PERIOD_NS_MAX: u64 = 1_000_000_000;
/// Streams faster than this leave no time to sleep, ns.
const PERIOD_NS_MIN: u64 = 500_000;
/// Share of the period by which a frame may be early or late and still be met awake, as a divisor.
const TOLERANCE_DIVISOR: u64 = 10;
/// But never more than this, ns: it bounds what being awake costs.
const TOLERANCE_NS_MAX: u64 = 2_000_000;
/// Time before that for running once through code and data, ns.
const WARM_NS: u64 = 1_500_000;
/// Weight of a new interval in the smoothed period, as a divisor.
const SMOOTHING: u64 = 8;

/// Intervals in a row that do not fit before the period is taken anew.
const STRANGE_MAX: u32 = 4;

/// What an idle thread should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Sleep, at most so many ns.
    Sleep(u64),
    /// The frame is about to come: run once through code and data.
    Warm,
    /// The frame is due: stay awake.
    Awake,
}

/// The smoothed period of a stream and its last arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArrivalPredictor {
    last_ns: u64,
    period_ns: u64,
    /// Intervals in a row that do not fit the period.
    strange: u32,
    warmed: bool,
}

impl ArrivalPredictor {
    /// A frame arrived.
    pub fn note(&mut self, arrived_ns: u64) {
        let interval = arrived_ns.saturating_sub(self.last_ns);
        if self.last_ns > 0 {
            self.learn(interval);
        }
        self.last_ns = arrived_ns;
        self.warmed = false;
    }

    fn learn(&mut self, interval: u64) {
        if (self.period_ns / 2..2 * self.period_ns).contains(&interval) {
            self.period_ns = self.period_ns - self.period_ns / SMOOTHING + interval / SMOOTHING;
            self.strange = 0;
            return;
        }
        // One strange interval is a gap or a burst; several are another rate.
        self.strange += 1;
        if self.period_ns == 0 || self.strange == STRANGE_MAX {
            self.period_ns = interval;
            self.strange = 0;
        }
    }

    /// What to do at this time. [`Advice::Warm`] is given once per frame.
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
        let mut rhythm = ArrivalPredictor::default();
        (1..=20).for_each(|k| rhythm.note(k * 33 * MS));
        rhythm
    }

    #[test]
    fn nothing_is_anticipated_before_a_period_is_known_or_when_it_is_too_long() {
        let mut rhythm = ArrivalPredictor::default();
        assert_eq!(rhythm.advise(5), Advice::Sleep(u64::MAX));
        rhythm.note(MS);
        assert_eq!(rhythm.advise(5 * MS), Advice::Sleep(u64::MAX));
        rhythm.note(3_000 * MS);
        assert_eq!(rhythm.advise(3_001 * MS), Advice::Sleep(u64::MAX));
    }

    #[test]
    fn a_thread_sleeps_then_warms_once_then_stays_awake_until_the_frame_is_overdue() {
        let (mut rhythm, last) = (at_30_hz(), 660 * MS);
        let Advice::Sleep(left) = rhythm.advise(last + MS) else { panic!("not asleep") };
        assert!((28 * MS..30 * MS).contains(&left), "{left}");
        assert_eq!(rhythm.advise(last + 30 * MS), Advice::Warm);
        assert_eq!(rhythm.advise(last + 30 * MS), Advice::Awake);
        assert_eq!(rhythm.advise(last + 34 * MS), Advice::Awake);
        assert_eq!(rhythm.advise(last + 36 * MS), Advice::Sleep(u64::MAX));
    }

    #[test]
    fn a_gap_or_a_new_rate_is_followed_within_a_few_frames() {
        let mut rhythm = at_30_hz();
        (1..=40).for_each(|k| rhythm.note(660 * MS + 5_000 * MS + k * 10 * MS));
        let last = 660 * MS + 5_400 * MS;
        assert!(matches!(rhythm.advise(last + MS), Advice::Sleep(left) if left < 8 * MS));
    }
}
