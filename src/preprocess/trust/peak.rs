//! The running level of the correlation peak: does a frame match the template as the frames before it did?
//!
//! Why it exists: how high the peak is depends on light and tissue (0.98 on a bright recording, 0.1 on a dim one), so a fixed bound
//! says nothing, and its own level says all. What it must never do: learn from a frame that is not believed.

use crate::frame::animal::TemplateState;

/// Weight of the newest frame.
const GAIN: f32 = 0.05;
/// Registered frames before the level means anything.
const FRAMES_MIN: u32 = 8;
/// A peak so many usual distances below the level is unusual.
const UNUSUAL: f32 = 8.0;

/// The peaks of the last believed frames.
pub(in crate::preprocess) struct PeakWatch {
    /// Share of the level below which a peak is a mismatch.
    share_min: f32,
    frames: u32,
    level: f32,
    /// Mean distance from the level.
    distance: f32,
}

impl PeakWatch {
    /// `share_min`: share of its running level that a peak must reach; 0 = any.
    pub fn new(share_min: f32) -> Self {
        Self { share_min, frames: 0, level: 0.0, distance: 0.0 }
    }

    /// A peak below this does not match the template.
    pub fn lowest(&self) -> f32 {
        if self.frames < FRAMES_MIN {
            return 0.0;
        }
        (self.share_min * self.level).min(self.level - UNUSUAL * self.distance).max(0.0)
    }

    /// The peak of one more believed frame.
    pub fn learn(&mut self, peak: f32) {
        self.frames = self.frames.saturating_add(1);
        let gain = (1.0 / self.frames as f32).max(GAIN);
        // From the second on: the first has no level to be distant from.
        if self.frames > 1 {
            self.distance += gain * ((peak - self.level).abs() - self.distance);
        }
        self.level += gain * (peak - self.level);
    }

    /// Notes the running level beside its template.
    pub fn keep(&self, state: &mut TemplateState) {
        (state.peak_frames, state.peak_level, state.peak_distance) = (self.frames, self.level, self.distance);
    }

    /// Goes on from a saved level.
    pub fn take_up(&mut self, state: &TemplateState) {
        (self.frames, self.level, self.distance) = (state.peak_frames, state.peak_level, state.peak_distance);
    }

    /// Another template: other peaks.
    pub fn forget(&mut self) {
        self.frames = 0;
        (self.level, self.distance) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_far_below_its_own_level_is_a_mismatch_and_a_steady_low_one_is_not() {
        for level in [0.98, 0.1] {
            let mut watch = PeakWatch::new(0.5);
            for frame in 0..40 {
                assert!(level > watch.lowest(), "frame {frame}");
                watch.learn(level * if frame % 2 == 0 { 1.01 } else { 0.99 });
            }
            assert!(watch.lowest() > 0.45 * level && watch.lowest() < 0.51 * level, "{}", watch.lowest());
            watch.forget();
            assert_eq!(watch.lowest(), 0.0);
        }
    }

    #[test]
    fn peaks_that_vary_much_are_allowed_to() {
        let mut watch = PeakWatch::new(0.5);
        (0..40).for_each(|frame| watch.learn(if frame % 2 == 0 { 0.1 } else { 0.3 }));
        assert_eq!(watch.lowest(), 0.0);
    }
}
