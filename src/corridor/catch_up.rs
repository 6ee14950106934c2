//! What `skip-to-latest` does with frames that wait: catch up with them, or skip to the newest.
//!
//! Why it exists: frames that arrive in a burst while decoding is fast need not be lost. They go through preprocessing and the
//! network like any other, so that window and statistics have no hole, and only the newest is published. What it must never do:
//! let a stream that is too fast for the decoder make decodes late. So a backlog is worked off only if the lane was empty before it,
//! or it is smaller than the last one; and only as many of its frames as take half of the deadline at most.

use std::time::Duration;

use crate::frame::event::SkipCause;

/// Share of the deadline that catching up may take, as a divisor.
const DEADLINE_DIVISOR: u64 = 2;
/// Weight of one frame in the smoothed cost, as a divisor.
const COST_SMOOTHING: u64 = 8;
/// Weight of one frame in the smoothed interval, as a divisor: longer than a burst.
const INTERVAL_SMOOTHING: u64 = 32;

/// The backlog that is being worked off, and what decides about the next one.
pub(super) struct CatchUp {
    budget_ns: u64,
    /// Frames of the stream in one model frame: a group's last frame has the decode.
    average_frames: usize,
    /// Smoothed time to decode one frame; 0 before the first.
    cost_ns: u64,
    /// Smoothed time between two frames that arrive.
    interval_ns: u64,
    /// How many of them were measured, [`INTERVAL_SMOOTHING`] at most.
    intervals: u64,
    /// Receipt and arrival number of the last frame.
    last: Option<(u64, u64)>,
    /// Frames left of the backlog that is being worked off.
    left: usize,
    /// Only a smaller backlog than this is worked off.
    below: usize,
}

impl CatchUp {
    pub(super) fn new(deadline: Duration, average_frames: usize) -> Self {
        let budget_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX) / DEADLINE_DIVISOR;
        let average_frames = average_frames.max(1);
        Self {
            budget_ns,
            average_frames,
            cost_ns: 0,
            interval_ns: 0,
            intervals: 0,
            last: None,
            left: 0,
            below: usize::MAX,
        }
    }

    /// To be asked before each frame is taken, with the number of frames that wait: how many of the oldest must be skipped.
    pub(super) fn skips(&mut self, waiting: usize) -> usize {
        match waiting {
            // What is left was evicted, or there never was more than one.
            0 => (self.left, self.below) = (0, usize::MAX),
            _ if self.left > 0 => {}
            1 => self.left = 1,
            _ => {
                let worked_off = if waiting < self.below { self.affordable().clamp(1, waiting) } else { 1 };
                // After a skip only an empty lane shows that the stream is not too fast.
                self.below = if worked_off > 1 { waiting } else { 0 };
                self.left = worked_off;
                return waiting - worked_off;
            }
        }
        0
    }

    /// Frames that can be decoded within the budget.
    fn affordable(&self) -> usize {
        usize::try_from(self.budget_ns / self.cost_ns.max(1)).unwrap_or(usize::MAX)
    }

    /// A frame was taken, the `arrival`-th, received at `received_ns`. Will the decode of a later frame of the same backlog be
    /// published in place of its own?
    pub(super) fn takes(&mut self, received_ns: u64, arrival: u64) -> bool {
        if let Some((last_ns, last)) = self.last.replace((received_ns, arrival)) {
            let interval_ns = received_ns.saturating_sub(last_ns) / arrival.saturating_sub(last).max(1);
            self.intervals = (self.intervals + 1).min(INTERVAL_SMOOTHING);
            self.interval_ns = self.interval_ns - self.interval_ns / self.intervals + interval_ns / self.intervals;
        }
        self.left = self.left.saturating_sub(1);
        self.left >= self.average_frames
    }

    /// How long the frame took to decode.
    pub(super) fn took(&mut self, ns: u64) {
        self.cost_ns = smoothed(self.cost_ns, ns, COST_SMOOTHING);
    }

    /// Why frames are skipped: on the whole, does decoding take longer than the stream allows? The first frames do not tell: the distance of
    /// two of them is that within a burst, and the first decodes take longer than others.
    pub(super) fn cause(&self) -> SkipCause {
        let known = self.intervals == INTERVAL_SMOOTHING;
        if known && self.cost_ns > self.interval_ns { SkipCause::Slow } else { SkipCause::Burst }
    }
}

const fn smoothed(before: u64, now: u64, divisor: u64) -> u64 {
    if before == 0 { now } else { before - before / divisor + now / divisor }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Takes what waits, as the compute thread does when nothing arrives meanwhile: frames skipped, and for each frame taken
    /// whether it is not published.
    fn work_off(catch_up: &mut CatchUp, mut waiting: usize) -> (usize, Vec<bool>) {
        let skipped = catch_up.skips(waiting);
        waiting -= skipped;
        let mut taken = Vec::new();
        while waiting > 0 {
            assert!(taken.is_empty() || catch_up.skips(waiting) == 0, "one decision for a backlog");
            waiting -= 1;
            taken.push(catch_up.takes(0, 0));
        }
        (skipped, taken)
    }

    fn at_cost(cost_ms: u64, deadline_ms: u64) -> CatchUp {
        let mut catch_up = CatchUp::new(Duration::from_millis(deadline_ms), 1);
        catch_up.took(cost_ms * MS);
        catch_up
    }

    #[test]
    fn a_burst_is_worked_off_and_only_its_newest_frame_is_published() {
        let mut catch_up = at_cost(1, 250);
        for _ in 0..10 {
            assert_eq!(work_off(&mut catch_up, 1), (0, vec![false]));
            assert_eq!(work_off(&mut catch_up, 3), (0, vec![true, true, false]));
            assert_eq!(catch_up.skips(0), 0);
        }
    }

    #[test]
    fn of_a_backlog_that_takes_too_long_the_oldest_frames_are_skipped() {
        let mut catch_up = at_cost(50, 250);
        assert_eq!(work_off(&mut catch_up, 10), (8, vec![true, false]));
        let mut catch_up = at_cost(200, 250);
        assert_eq!(work_off(&mut catch_up, 10), (9, vec![false]));
        let mut never = at_cost(1, 0);
        assert_eq!(work_off(&mut never, 2), (1, vec![false]));
    }

    #[test]
    fn a_backlog_that_does_not_shrink_is_skipped_until_the_lane_was_empty() {
        let mut catch_up = at_cost(20, 250);
        assert_eq!(work_off(&mut catch_up, 4).0, 0);
        assert_eq!(work_off(&mut catch_up, 3).0, 0, "it shrinks");
        assert_eq!(work_off(&mut catch_up, 3), (2, vec![false]), "it does not");
        assert_eq!(work_off(&mut catch_up, 2), (1, vec![false]));
        assert_eq!(work_off(&mut catch_up, 1), (0, vec![false]));
        assert_eq!(work_off(&mut catch_up, 2), (1, vec![false]));
        catch_up.skips(0);
        assert_eq!(work_off(&mut catch_up, 2), (0, vec![true, false]));
    }

    #[test]
    fn of_averaged_frames_the_last_group_that_can_be_full_is_published() {
        let mut catch_up = CatchUp::new(Duration::from_millis(250), 2);
        // Two full groups and the beginning of a third, or the end of one, a full one and the beginning of another.
        assert_eq!(work_off(&mut catch_up, 5), (0, vec![true, true, true, false, false]));
    }

    #[test]
    fn frames_of_a_burst_are_not_said_to_be_too_fast_on_the_whole() {
        let mut catch_up = at_cost(1, 250);
        for arrival in 0..100 {
            catch_up.takes(arrival / 4 * 133 * MS, arrival);
        }
        assert_eq!(catch_up.cause(), SkipCause::Burst);
        (0..50).for_each(|_| catch_up.took(50 * MS));
        assert_eq!(catch_up.cause(), SkipCause::Slow);
    }
}
