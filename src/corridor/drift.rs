//! Has the animal drifted away from those of training? The running mean of the novelty, and when it is an event.
//!
//! Why it exists: one novel sample means nothing, a minute of them does. A novelty is a rank among held-out samples, so its
//! long-run mean on an animal like those of training is 0.5. What it must never do: read a clock (time is counted in model
//! frames, so that a replay drifts at the same frame), or allocate.

use crate::model::{Manifest, NOVELTY_EXPECTED};

/// The limits of the manifest, in frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftSettings {
    /// Time constant of the exponential mean, model frames; above 0.
    pub time_constant_frames: f64,
    /// The mean that is too much.
    pub limit: f64,
}

impl DriftSettings {
    /// As the model's manifest has it; `None` when the model does not say.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        manifest.drift.map(|drift| Self {
            time_constant_frames: drift.time_constant_s * manifest.frame_rate_hz,
            limit: drift.limit,
        })
    }
}

/// What one more novelty changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The mean exceeded the limit.
    Began,
    /// It fell back under half of the way from the expected mean to the limit.
    Ended,
}

/// The running mean. It begins at the expected one, so that the first seconds raise no alarm.
#[derive(Debug)]
pub(super) struct Drift {
    settings: DriftSettings,
    /// Weight of the newest value.
    gain: f64,
    mean: f64,
    seen: bool,
    beyond: bool,
}

impl Drift {
    pub(super) fn new(settings: DriftSettings) -> Self {
        let gain = 1.0 - (-1.0 / settings.time_constant_frames).exp();
        Self { settings, gain, mean: NOVELTY_EXPECTED, seen: false, beyond: false }
    }

    /// Takes the novelty of one model frame.
    pub(super) fn push(&mut self, novelty: f32) -> Change {
        self.seen = true;
        self.mean += self.gain * (f64::from(novelty) - self.mean);
        let back = (self.settings.limit + NOVELTY_EXPECTED) / 2.0;
        if !self.beyond && self.mean > self.settings.limit {
            self.beyond = true;
            return Change::Began;
        }
        if self.beyond && self.mean < back {
            self.beyond = false;
            return Change::Ended;
        }
        Change::None
    }

    /// The mean; `None` before the first novelty.
    pub(super) fn mean(&self) -> Option<f32> {
        self.seen.then_some(self.mean as f32)
    }

    pub(super) fn limit(&self) -> f32 {
        self.settings.limit as f32
    }

    /// A new animal.
    pub(super) fn reset(&mut self) {
        (self.mean, self.seen, self.beyond) = (NOVELTY_EXPECTED, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift() -> Drift {
        Drift::new(DriftSettings { time_constant_frames: 100.0, limit: 0.8 })
    }

    #[test]
    fn a_strange_animal_is_told_once_at_the_frame_that_arithmetic_says() {
        let mut drift = drift();
        let changes: Vec<Change> = (0..500).map(|_| drift.push(1.0)).collect();
        // 1 − 0.5·exp(−n/100) > 0.8 from n = 100·ln(2.5) = 91.6 on.
        assert_eq!(changes.iter().position(|c| *c == Change::Began), Some(91));
        assert_eq!(changes.iter().filter(|c| **c != Change::None).count(), 1);
    }

    #[test]
    fn it_is_over_half_of_the_way_back_and_not_before() {
        let mut drift = drift();
        let _ = (0..500).map(|_| drift.push(1.0)).collect::<Vec<_>>();
        // Just under the limit is not yet over.
        (0..2000).for_each(|_| assert_eq!(drift.push(0.7), Change::None));
        let changes: Vec<Change> = (0..200).map(|_| drift.push(0.5)).collect();
        // 0.5 + 0.2·exp(−n/100) < 0.65 from n = 100·ln(4/3) = 28.8 on.
        assert_eq!(changes.iter().position(|c| *c == Change::Ended), Some(28));
        assert!((0..500).any(|_| drift.push(1.0) == Change::Began), "and it is reported again");
    }

    #[test]
    fn an_animal_like_those_of_training_raises_nothing_and_a_new_one_begins_anew() {
        let mut drift = drift();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            assert_eq!(drift.push((state >> 40) as f32 / (1 << 24) as f32), Change::None);
        }
        assert!((drift.mean().unwrap() - 0.5).abs() < 0.15, "{:?}", drift.mean());
        let _ = (0..500).map(|_| drift.push(1.0)).collect::<Vec<_>>();
        drift.reset();
        assert_eq!((drift.mean(), drift.push(0.5)), (None, Change::None));
    }
}
