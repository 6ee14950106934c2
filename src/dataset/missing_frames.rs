//! Finds where the frames of a recording are not consecutive, and leaves out frames so that no window spans a break.
//!
//! Why it exists: a live recording has lost or skipped frames, pauses, new series and resets; a window across one shows something
//! that never happened, and live the decoder begins a new one there. What it must never do: be more lenient than the daemon, which calls a decode degraded when more than a tenth
//! of its window is missing.

use std::collections::{BTreeSet, VecDeque};

use crate::frame::MISSING_SHARE_MAX;

/// What is known about the transitions between two-photon frames.
pub(super) struct MissingFrames<'a> {
    /// Frames missing before each; `None` where a series begins; empty when nothing is known.
    pub missing: &'a [Option<u64>],
    /// Frames before which the decoder was reset, in order.
    pub resets: &'a [u32],
    /// Frames with which the decoder's window begins anew, as preprocessing found them: after a pause, or in a new series. In order.
    pub restarts: &'a [u32],
    /// Frames that are not believed, in order: missing in every window that they lie in.
    pub distrusted: &'a [u32],
}

impl MissingFrames<'_> {
    /// For each model frame, whether it must be left out so that no window of `window_frames` model frames contains a break or
    /// lacks more than a tenth of its frames. `last_frame`: the last two-photon frame of each model frame.
    pub fn discontinuous(&self, last_frame: &[u32], window_frames: usize) -> Vec<bool> {
        let mut discontinuous = vec![false; last_frame.len()];
        if self.missing.is_empty() && self.restarts.is_empty() && self.distrusted.is_empty() {
            return discontinuous;
        }
        let (mut from, mut recent) = (0, VecDeque::with_capacity(window_frames));
        let average = last_frame.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(1).max(1);
        let most = MISSING_SHARE_MAX * f64::from(average) * window_frames as f64;
        for (frame, &last) in last_frame.iter().enumerate() {
            let missing = self.before(from, last as usize);
            from = last as usize + 1;
            if recent.len() >= window_frames.max(1) {
                recent.pop_front();
            }
            recent.push_back(missing.unwrap_or(0));
            if missing.is_none() || recent.iter().sum::<u64>() as f64 > most {
                discontinuous[frame] = true;
                recent.clear();
            }
        }
        discontinuous
    }

    /// Frames missing before or between these; `None` at a new series, a pause or a reset. Nothing is missing before the first frame,
    /// or where nothing is known.
    fn before(&self, from: usize, to: usize) -> Option<u64> {
        let place = |frame: usize| self.distrusted.partition_point(|&at| (at as usize) < frame);
        let mut sum = (place(to + 1) - place(from)) as u64;
        for at in from.max(1)..=to {
            if [self.resets, self.restarts].iter().any(|frames| frames.binary_search(&(at as u32)).is_ok()) {
                return None;
            }
            sum = sum.saturating_add(self.missing.get(at).map_or(Some(0), |missing| *missing)?);
        }
        Some(sum)
    }

    /// Total number of missing frames, and of new series, pauses and resets.
    pub fn counts(&self) -> (u64, usize) {
        let sum = self.missing.iter().skip(1).flatten().fold(0u64, |sum, n| sum.saturating_add(*n));
        let begins = (1..self.missing.len()).filter(|at| self.missing[*at].is_none()).map(|at| at as u32);
        let breaks: BTreeSet<u32> = begins.chain(self.resets.iter().chain(self.restarts).copied()).collect();
        (sum, breaks.iter().filter(|at| **at > 0).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discontinuous(missing: &[Option<u64>], resets: &[u32], last: &[u32], window: usize) -> Vec<usize> {
        let discontinuous =
            MissingFrames { missing, resets, restarts: &[], distrusted: &[] }.discontinuous(last, window);
        discontinuous.iter().enumerate().filter(|(_, discontinuous)| **discontinuous).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_tenth_of_a_window_may_be_missing_and_not_more() {
        let last: Vec<u32> = (0..60).collect();
        let mut missing = vec![Some(0); 60];
        missing[0] = None;
        (missing[10], missing[30], missing[35]) = (Some(2), Some(1), Some(1));
        assert_eq!(discontinuous(&missing, &[], &last, 20), [0usize; 0], "2 of 20 at most at once");
        missing[40] = Some(1);
        assert_eq!(discontinuous(&missing, &[], &last, 20), [40], "the third within 20 frames");
        missing[10] = Some(3);
        assert_eq!(discontinuous(&missing, &[], &last, 20), [10, 40]);
        assert_eq!(discontinuous(&missing, &[], &last, 100), [0usize; 0]);
        assert_eq!(discontinuous(&[], &[], &last, 20), [0usize; 0], "of other recordings nothing is known");
    }

    #[test]
    fn a_series_and_a_reset_break_a_window() {
        let last: Vec<u32> = (0..30).collect();
        let mut missing = vec![Some(0); 30];
        (missing[0], missing[12]) = (None, None);
        assert_eq!(discontinuous(&missing, &[0, 20], &last, 4), [12, 20]);
        assert_eq!(
            MissingFrames { missing: &missing, resets: &[0, 12, 20], restarts: &[12], distrusted: &[] }.counts(),
            (0, 2)
        );
    }

    #[test]
    fn a_pause_breaks_a_window_of_any_recording() {
        let last: Vec<u32> = (0..30).collect();
        let paused = MissingFrames { missing: &[], resets: &[], restarts: &[7], distrusted: &[] };
        let found = paused.discontinuous(&last, 4);
        assert_eq!(
            (found.iter().position(|broken| *broken), found.iter().filter(|broken| **broken).count()),
            (Some(7), 1)
        );
        assert_eq!(paused.counts(), (0, 1));
        // Of two averaged frames the second comes after the pause: preprocessing has begun the group anew with it.
        let last: Vec<u32> = (0..10).map(|k| 2 * k + 1).collect();
        assert!(paused.discontinuous(&last, 4)[3]);
    }

    #[test]
    fn frames_that_are_not_believed_are_missing_whatever_the_recording() {
        // Frames 10 to 14 are in no model frame.
        let last: Vec<u32> = (0..60).filter(|n| !(10..15).contains(n)).collect();
        let distrusted: Vec<u32> = (10..15).collect();
        let out = |missing: &[Option<u64>], window| {
            MissingFrames { missing, resets: &[], restarts: &[], distrusted: &distrusted }.discontinuous(&last, window)
        };
        let whole = vec![Some(0); 60];
        for missing in [&whole[..], &[]] {
            let breaks: Vec<usize> =
                out(missing, 20).iter().enumerate().filter(|(_, b)| **b).map(|(at, _)| at).collect();
            assert_eq!(breaks, [10], "5 of 20");
            assert!(out(missing, 50).iter().all(|out| !out), "5 of 50");
        }
    }

    #[test]
    fn averaged_frames_have_the_holes_of_their_group() {
        let last: Vec<u32> = (0..10).map(|k| 2 * k + 1).collect();
        let mut missing = vec![Some(0); 20];
        missing[9] = Some(4);
        assert_eq!(discontinuous(&missing, &[], &last, 10), [4], "4 of 20 frames of the stream");
        missing[9] = None;
        assert_eq!(discontinuous(&missing, &[], &last, 10), [4]);
    }
}
