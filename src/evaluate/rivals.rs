//! The linear rivals: read-outs of the pixels themselves, which every encoder must beat.
//!
//! Why it exists: `compare` and `eval` put the same rivals beside a method, on the frames that the method reads. What it must never
//! do: read a frame after the window of its sample.

use super::pixels::{LDA_SIDE, LINEAR_BINS, LINEAR_SIDE, downsample, features_of_bins, features_of_small, recent_bins};
use super::readout::Readout;
use crate::dataset::trials::{Dataset, Representation, Sample};

/// A linear read-out of down-sampled frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// Logistic regression on 8×8 pixels in four bins of equal length.
    Linear,
    /// Shrinkage discriminant on 16×16 pixels in six bins that grow with age.
    Discriminant,
}

impl Rival {
    /// How it is read out.
    pub fn readout(self) -> Readout {
        match self {
            Self::Linear => Readout::Logistic,
            Self::Discriminant => Readout::Discriminant,
        }
    }

    /// Its features of `samples`, which are in order of trial and frame: of each the `window_frames` frames that end
    /// `look_ahead_frames` after it. Each frame is down-sampled once.
    pub fn represent(
        self,
        data: &Dataset,
        samples: &[Sample],
        window_frames: usize,
        look_ahead_frames: usize,
    ) -> Representation {
        let side = match self {
            Self::Linear => LINEAR_SIDE,
            Self::Discriminant => LDA_SIDE,
        };
        let bins = recent_bins(window_frames);
        let mut values = Vec::new();
        for of_trial in samples.chunk_by(|a, b| a.trial == b.trial) {
            let frames = &data.trials[of_trial[0].trial].frames;
            let small = |frame| downsample(frames.frame(frame), data.input, side);
            let small: Vec<Vec<f32>> = (0..frames.len()).map(small).collect();
            for sample in of_trial {
                let newest = sample.frame + look_ahead_frames;
                let window: Vec<&[f32]> =
                    small[newest + 1 - window_frames..=newest].iter().map(Vec::as_slice).collect();
                values.extend(match self {
                    Self::Linear => features_of_small(&window, LINEAR_BINS),
                    Self::Discriminant => features_of_bins(&window, &bins),
                });
            }
        }
        Representation::of(data, samples, values)
    }
}
