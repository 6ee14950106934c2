//! Trials of several animals, frame by frame, as plain values: what training works on.
//!
//! Why it exists: an MC2P folder, a `dataset.toml`, a recorded session and a simulated animal must look alike to training and
//! evaluation. What it must never do: read a format, or hold all frames in memory.

use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::frame::Shape;
use crate::model::parameters::Parameters;

/// No behaviour frame belongs to this model frame.
pub const NO_BEHAVIOUR: u32 = u32::MAX;

/// Trials of one or more animals, ready for training.
#[derive(Debug)]
pub struct Dataset {
    /// Names of the animals; [`Trial::animal`] counts in this order.
    pub animals: Vec<String>,
    /// Names of the actions; [`Trial::label`] counts in this order.
    pub labels: Vec<String>,
    /// Names of the behaviour's columns, the same in every trial (`"0"`, `"1"`, … when the files have none).
    pub behaviour_columns: Vec<String>,
    /// One model frame.
    pub input: Shape,
    /// Model frames per second (after averaging).
    pub frame_rate_hz: f64,
    /// Behaviour frames per second.
    pub behaviour_rate_hz: f64,
    /// Where the model frames come from.
    pub origin: Origin,
    /// SHA-256 over the content of everything that was read, hexadecimal: the same data, the same hash.
    pub sha256: String,
    /// The trials, grouped by animal.
    pub trials: Vec<Trial>,
}

/// Where model frames come from, which decides whether a live daemon can produce them.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Raw frames that went through the daemon's own preprocessing with these parameters.
    Preprocessed(Box<Parameters>),
    /// ΔF/F made elsewhere (whole-trial F₀, perhaps denoised with future frames) and only scaled per pixel here. No live daemon
    /// can produce this input.
    ReadyMade {
        /// How it was made, as far as known, for the manifest.
        note: String,
    },
}

/// One recording of one animal. Everything that is per model frame has `frames.len()` entries.
#[derive(Debug)]
pub struct Trial {
    /// Its name in messages.
    pub name: String,
    /// Index into [`Dataset::animals`].
    pub animal: usize,
    /// The model's input, frame by frame.
    pub frames: FrameStore,
    /// False during warm-up, where masked, and where the frame is damaged.
    pub usable: Vec<bool>,
    /// What the animal did, `[behaviour frames, columns]`, as recorded. Rows that were not finite repeat the last finite row, and
    /// no usable frame points to them.
    pub behaviour: Array2<f32>,
    /// For each model frame, its newest behaviour frame; [`NO_BEHAVIOUR`] where there is none.
    pub behaviour_at: Vec<u32>,
    /// For each model frame, its action: index into [`Dataset::labels`]; `None` = unlabelled.
    pub label: Vec<Option<u8>>,
}

/// The model frames of a trial in a memory-mapped file of little-endian f32, so that data may be larger than memory.
#[derive(Debug)]
pub struct FrameStore {
    path: PathBuf,
    map: Option<memmap2::Mmap>,
    pixels: usize,
    frames: usize,
}

/// A frame store that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct StoreError {
    /// Which file.
    pub path: PathBuf,
    /// Why, and what to do.
    pub cause: String,
}

impl FrameStore {
    /// Opens `path`, a headerless file of frames of `pixels` values each.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read or does not hold a whole number of frames.
    pub fn open(path: &Path, pixels: usize) -> Result<Self, StoreError> {
        let failed = |cause: String| StoreError { path: path.into(), cause };
        let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
        let bytes = file.metadata().map_err(|e| failed(e.to_string()))?.len() as usize;
        let each = pixels * size_of::<f32>();
        if each == 0 || !bytes.is_multiple_of(each) {
            return Err(failed(format!("{bytes} bytes are not a whole number of frames of {pixels} float32 values")));
        }
        // SAFETY: the map is only read. The files are this program's own cache, or a data set that is not written during
        // training; a file that shrinks meanwhile ends the process by SIGBUS and cannot corrupt anything.
        #[allow(unsafe_code)]
        let map = (bytes > 0).then(|| unsafe { memmap2::Mmap::map(&file) }).transpose();
        let map = map.map_err(|e| failed(e.to_string()))?;
        Ok(Self { path: path.into(), map, pixels, frames: bytes / each })
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames
    }

    /// True without frames.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Values of one frame, C×H×W.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frame `index`, C×H×W.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn frame(&self, index: usize) -> &[f32] {
        let map: &[u8] = self.map.as_deref().unwrap_or_default();
        let values: &[f32] = bytemuck::cast_slice(&map[index * self.pixels * 4..(index + 1) * self.pixels * 4]);
        values
    }
}

/// One sample: the current model frame of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sample {
    /// Index into [`Dataset::trials`].
    pub trial: usize,
    /// The current model frame.
    pub frame: usize,
}

/// The embeddings of many samples: the input of every probe and measure.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Names of the animals.
    pub animals: Vec<String>,
    /// Names of the actions.
    pub labels: Vec<String>,
    /// `[samples, dimensions]`.
    pub values: Array2<f32>,
    /// Animal of each sample: index into `animals`.
    pub animal: Vec<usize>,
    /// Trial of each sample (any numbering that tells trials apart).
    pub trial: Vec<usize>,
    /// Action of each sample: index into `labels`; `None` = unlabelled.
    pub label: Vec<Option<u8>>,
}

impl Dataset {
    /// Every sample that has behaviour and whose window of `window` frames, `look_ahead` of them after the current one, lies in
    /// one trial and is usable throughout.
    pub fn samples(&self, window: usize, look_ahead: usize) -> Vec<Sample> {
        let mut found = Vec::new();
        for (trial, t) in self.trials.iter().enumerate() {
            let mut run = 0;
            for (newest, &usable) in t.usable.iter().enumerate() {
                run = if usable { run + 1 } else { 0 };
                if run < window || newest < look_ahead {
                    continue;
                }
                let frame = newest - look_ahead;
                if t.behaviour_at[frame] != NO_BEHAVIOUR {
                    found.push(Sample { trial, frame });
                }
            }
        }
        found
    }
}

/// What makes an embedding strange: how far it lies from those of training, ranked among samples of held-out animals.
#[derive(Clone, Debug, PartialEq)]
pub struct NoveltyReference {
    /// Typical embeddings of training, `[prototypes, dimensions]`, rows of length 1.
    pub prototypes: Array2<f32>,
    /// Ascending quantiles of the distance 1 − max cosine over held-out samples, equally spaced in rank. The novelty of an
    /// embedding is the share of them below its own distance: 0.99 = stranger than 99 % of held-out samples.
    pub thresholds: Vec<f32>,
}

impl NoveltyReference {
    /// Distance of an embedding from the nearest prototype, 1 − max cosine: 0 = the same direction.
    pub fn distance(&self, embedding: &[f32]) -> f32 {
        let cosine = |row: ndarray::ArrayView1<f32>| row.iter().zip(embedding).map(|(a, b)| a * b).sum::<f32>();
        1.0 - self.prototypes.rows().into_iter().map(cosine).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Novelty of that distance, 0 to 1: the share of thresholds strictly below it.
    pub fn rank(&self, distance: f32) -> f32 {
        self.thresholds.partition_point(|threshold| *threshold < distance) as f32 / self.thresholds.len() as f32
    }
}

/// The last linear layer: embedding → one logit for each label.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[dimensions, labels]`.
    pub weight: Array2<f32>,
    /// One for each label.
    pub bias: Vec<f32>,
}

impl Classifier {
    /// The logits of one embedding.
    pub fn logits(&self, embedding: &[f32]) -> Vec<f32> {
        let mut logits = self.bias.clone();
        for (value, row) in embedding.iter().zip(self.weight.rows()) {
            logits.iter_mut().zip(row).for_each(|(logit, weight)| *logit += value * weight);
        }
        logits
    }

    /// The index of the largest logit, the first of equal ones.
    pub fn strongest(&self, embedding: &[f32]) -> usize {
        let logits = self.logits(embedding);
        (0..logits.len()).fold(0, |best, index| if logits[index] > logits[best] { index } else { best })
    }
}

/// How raw embeddings (before they are brought to length 1) lay in training: the unit for the shift of another animal.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignmentReference {
    /// Mean of each dimension.
    pub mean: Vec<f32>,
    /// Standard deviation of each dimension.
    pub sd: Vec<f32>,
}

impl AlignmentReference {
    /// Of raw embeddings `[samples, dimensions]`; sums in f64 and in order.
    pub fn of(raw: ndarray::ArrayView2<f32>) -> Self {
        let count = raw.nrows().max(1) as f64;
        let mean: Vec<f64> =
            raw.columns().into_iter().map(|c| c.iter().map(|&v| f64::from(v)).sum::<f64>() / count).collect();
        let spread = raw.columns().into_iter().zip(&mean);
        let sd =
            spread.map(|(c, m)| (c.iter().map(|&v| (f64::from(v) - m).powi(2)).sum::<f64>() / count).sqrt() as f32);
        Self { sd: sd.collect(), mean: mean.iter().map(|&m| m as f32).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novelty_is_the_share_of_thresholds_strictly_below_the_distance_to_the_nearest_prototype() {
        let prototypes = ndarray::array![[1.0, 0.0], [0.0, 1.0]];
        let reference = NoveltyReference { prototypes, thresholds: vec![0.0, 0.1, 0.2, 0.9] };
        assert_eq!(reference.distance(&[0.8, 0.6]), 1.0 - 0.8);
        let ranks = [0.0, 0.05, 0.1, 0.15, 1.5].map(|distance| reference.rank(distance));
        assert_eq!(ranks, [0.0, 0.25, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn a_classifier_gives_the_products_of_hand() {
        let classifier = Classifier { weight: ndarray::array![[1.0, 2.0], [3.0, -4.0]], bias: vec![0.5, 0.0] };
        assert_eq!(classifier.logits(&[2.0, 1.0]), [5.5, 0.0]);
        assert_eq!((classifier.strongest(&[2.0, 1.0]), classifier.strongest(&[0.0, -1.0])), (0, 1));
    }

    #[test]
    fn mean_and_sd_are_those_of_hand() {
        let reference = AlignmentReference::of(ndarray::array![[1.0_f32, 5.0], [3.0, 5.0]].view());
        assert_eq!((reference.mean, reference.sd), (vec![2.0, 5.0], vec![1.0, 0.0]));
    }
}
