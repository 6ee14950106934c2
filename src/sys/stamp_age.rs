//! How old a time stamp is that may have been read from another clock.
//!
//! Why it exists: a frame or a decode can wait for seconds in a socket or on a slow link, and its receiver only sees when it
//! arrived. Its stamp tells more, where the clocks can be compared: directly if they are the same, otherwise by the smallest
//! difference seen so far, which is that of a message that did not wait.
//! What it must never do: read a clock (times are passed in), or subtract times of two clocks as if they were one.

/// An older stamp, or one from the future, is not of this machine's own clock, ns.
const OWN_CLOCK_NS_MAX: i128 = 60_000_000_000;
/// The smallest difference rises by 1/5000 of the time: quartz clocks drift apart by less than these 200 ppm. A delay that
/// never ends is forgotten as slowly: one second in 83 minutes.
const LEAK_DIVISOR: i128 = 5_000;

/// The ages of the stamps of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct StampAge {
    /// The sender reads the clock of this machine; `None` until a stamp has told.
    own: Option<bool>,
    /// Smallest difference of receipt and stamp, up to `received_ns`.
    least_ns: Option<i128>,
    stamp_ns: i64,
    received_ns: u64,
}

impl StampAge {
    /// Age of a stamp that claims to be of this machine's `CLOCK_MONOTONIC`. One from the future, or a first one of more than a
    /// minute ago, is another machine's: its age is then that of [`StampAge::of_other`].
    pub fn of_monotonic(&mut self, stamp_ns: i64, received_ns: u64, waited_ns: u64) -> u64 {
        self.notice_restart(stamp_ns);
        let difference = i128::from(received_ns) - i128::from(stamp_ns);
        let plausible = match self.own {
            // Once it is known to be ours, a stamp may be of any age: the receiver may have been stopped for minutes.
            Some(own) => own && difference >= 0,
            None => (0..=OWN_CLOCK_NS_MAX).contains(&difference),
        };
        self.own = Some(plausible);
        if plausible {
            (self.stamp_ns, self.received_ns) = (stamp_ns, received_ns);
            return u64::try_from(difference).unwrap_or(u64::MAX);
        }
        self.of_other(stamp_ns, received_ns, waited_ns)
    }

    /// Age of a stamp of a clock of unknown origin: how much more than the smallest difference so far lies between it and its
    /// receipt. `waited_ns`: how long the first message may have waited already, for all that is known.
    pub fn of_other(&mut self, stamp_ns: i64, received_ns: u64, waited_ns: u64) -> u64 {
        self.notice_restart(stamp_ns);
        let difference = i128::from(received_ns) - i128::from(stamp_ns);
        let leak = i128::from(received_ns.saturating_sub(self.received_ns)) / LEAK_DIVISOR;
        let least = self.least_ns.map_or(difference - i128::from(waited_ns), |least| difference.min(least + leak));
        (self.least_ns, self.stamp_ns, self.received_ns) = (Some(least), stamp_ns, received_ns);
        u64::try_from(difference - least).unwrap_or(u64::MAX)
    }

    /// Does a stamp lie before the last one?
    pub const fn restarts_at(&self, stamp_ns: i64) -> bool {
        stamp_ns < self.stamp_ns
    }

    /// A stamp before the last one: the clock was set or started again, or the last stamp was damaged. Nothing is known then.
    fn notice_restart(&mut self, stamp_ns: i64) {
        if self.restarts_at(stamp_ns) {
            *self = Self { stamp_ns, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    #[test]
    fn a_stamp_of_the_own_clock_is_as_old_as_it_says_however_long_one_was_stopped() {
        let mut age = StampAge::default();
        assert_eq!(age.of_monotonic(1_000, 4_000, 0), 3_000);
        assert_eq!(age.of_monotonic(2_000, 90 * S, 0), 90 * S - 2_000);
    }

    #[test]
    fn a_stamp_of_another_machine_is_measured_against_the_fastest_message() {
        // Its clock is an hour behind ours, or ahead of it.
        for offset in [3_600, -3_600i64] {
            let mut age = StampAge::default();
            let stamp = |sent_ns: u64| 4_000_000_000_000 + sent_ns as i64 - offset * 1_000_000_000;
            let receipt = |ns: u64| 4_000_000_000_000 + ns;
            assert_eq!(age.of_monotonic(stamp(0), receipt(5 * MS), 0), 0);
            assert_eq!(age.of_monotonic(stamp(100 * MS), receipt(102 * MS), 0), 0, "a faster one");
            let slow = age.of_monotonic(stamp(200 * MS), receipt(500 * MS), 0);
            assert!((297 * MS..=298 * MS).contains(&slow), "{slow}");
        }
    }

    #[test]
    fn the_age_on_a_link_that_is_too_slow_grows_and_a_drift_of_the_clocks_does_not_add_up() {
        let mut age = StampAge::default();
        // Every frame takes a quarter longer than the one before it.
        let last = (0..120).map(|n| age.of_other((n * 33 * MS) as i64, n * 33 * MS * 5 / 4, 0)).last();
        let delay = 119 * 33 * MS / 4;
        assert!((delay - delay / 100..=delay).contains(&last.unwrap_or_default()), "{last:?}");
        // An hour of clocks that drift apart by 100 ppm, in either direction.
        for ppm in [100, -100i64] {
            let mut age = StampAge::default();
            for second in 0..3_600 {
                let receipt = 10_000 * S + second * S;
                let stamp = (second * S) as i64 + second as i64 * ppm * 1_000;
                let measured = age.of_other(stamp, receipt, 0);
                assert!(measured <= 200_000, "{measured} ns after {second} s");
            }
        }
    }

    #[test]
    fn a_clock_that_starts_again_or_a_damaged_stamp_makes_no_later_one_old() {
        let mut age = StampAge::default();
        for n in 0..10 {
            age.of_other((n * 33 * MS) as i64, 50 * S + n * 33 * MS, 0);
        }
        assert_eq!(age.of_other(0, 80 * S, 0), 0, "a new acquisition");
        assert_eq!(age.of_other(i64::MAX, 80 * S + 33 * MS, 0), 0, "damaged");
        assert_eq!(age.of_other((66 * MS) as i64, 80 * S + 66 * MS, 0), 0);
        let mut age = StampAge::default();
        age.of_monotonic(1_000, 4_000, 0);
        age.of_monotonic(i64::MAX, 5_000, 0);
        assert_eq!(age.of_monotonic(3_000, 6_000, 0), 3_000, "the own clock is known again");
    }

    #[test]
    fn a_first_message_that_waited_is_not_taken_for_a_fast_one() {
        let mut age = StampAge::default();
        assert_eq!(age.of_other(0, 3 * S, 3 * S), 3 * S);
        assert!(age.of_other((2 * S) as i64, 3 * S, 0).abs_diff(S) < MS);
    }
}
