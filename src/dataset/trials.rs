//! Trials of several animals, frame by frame, as plain values: what training works on.
//!
//! Why it exists: an MC2P folder, a `dataset.toml`, a recorded session and a simulated animal must look alike to training and
//! evaluation. What it must never do: read a format, or hold all frames in memory.

use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::{Target, TrialFacts};
use crate::frame::Shape;
use crate::model::parameters::Parameters;
use crate::sys::exit::{ExitCode, HasExitCode};

/// No behaviour frame belongs to this model frame.
pub const NO_BEHAVIOUR: u32 = u32::MAX;

/// Trials of one or more animals, ready for training.
#[derive(Debug)]
pub struct Dataset {
    /// Names of the animals; [`Trial::animal`] counts in this order.
    pub animals: Vec<String>,
    /// Names of the actions; [`Trial::label`] counts in this order.
    pub labels: Vec<String>,
    /// Numbers to decode; the columns of [`Trial::targets`] are in this order.
    pub targets: Vec<Target>,
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
    /// What was read of each of them, for reports.
    pub facts: Vec<TrialFacts>,
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
    /// What the targets were, `[model frames, targets]`; NaN where it is not known.
    pub targets: Array2<f32>,
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

impl HasExitCode for StoreError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Source
    }
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
    /// Names of the targets.
    pub targets: Vec<String>,
    /// What the targets were, `[samples, targets]`; NaN where it is not known.
    pub target: Array2<f32>,
}

impl Representation {
    /// Values `[samples, dimensions]`, row by row, with the animal, trial and action of each sample.
    pub fn of(data: &Dataset, samples: &[Sample], values: Vec<f32>) -> Self {
        let columns = values.len() / samples.len().max(1);
        Self {
            animals: data.animals.clone(),
            labels: data.labels.clone(),
            values: Array2::from_shape_vec((samples.len(), columns), values).unwrap_or_default(),
            animal: samples.iter().map(|m| data.trials[m.trial].animal).collect(),
            trial: samples.iter().map(|m| m.trial).collect(),
            label: samples.iter().map(|m| data.trials[m.trial].label[m.frame]).collect(),
            targets: data.targets.iter().map(|target| target.name.clone()).collect(),
            target: data.targets_at(samples),
        }
    }
}

impl Dataset {
    /// The targets of samples, `[samples, targets]`.
    fn targets_at(&self, samples: &[Sample]) -> Array2<f32> {
        let mut all = Array2::zeros((samples.len(), self.targets.len()));
        let rows = all.rows_mut().into_iter().zip(samples);
        rows.for_each(|(mut row, m)| row.assign(&self.trials[m.trial].targets.row(m.frame)));
        all
    }

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
