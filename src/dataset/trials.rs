//! What training works on: trials of several animals, frame by frame, as plain values.
//!
//! Why it exists: a folder of the MC2P layout, a `dataset.toml`, a recorded session and a simulated animal must look alike to
//! everything that learns or measures. What it must never do: read a format (that is `dataset`), or hold all frames in memory.

use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::frame::Shape;
use crate::model::parameters::Parameters;
use crate::sys::exit::{ExitCode, HasExitCode};

/// No behaviour frame belongs to this model frame.
pub const NO_BEHAVIOUR: u32 = u32::MAX;

/// Trials of one or more animals, ready to be learnt from.
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

/// Where model frames come from, and so whether a live daemon can make the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Raw frames that went through the daemon's own preprocessing with these parameters.
    Preprocessed(Box<Parameters>),
    /// ΔF/F made elsewhere (whole-trial F₀, perhaps denoised with future frames); scaled per pixel, nothing else done. No live
    /// daemon can make this input.
    ReadyMade {
        /// What is known of how it was made, for the manifest.
        note: String,
    },
}

/// One recording of one animal. Everything that is per model frame has `frames.len()` entries.
#[derive(Debug)]
pub struct Trial {
    /// As messages name it.
    pub name: String,
    /// Index into [`Dataset::animals`].
    pub animal: usize,
    /// The model's input, frame by frame.
    pub frames: FrameStore,
    /// False while preprocessing warmed up, where a mask says so, and where the frame was damaged.
    pub usable: Vec<bool>,
    /// What the animal did, `[behaviour frames, columns]`, as recorded. Where that was not finite, the last finite row stands
    /// there instead, and no usable frame points to it.
    pub behaviour: Array2<f32>,
    /// For each model frame the newest behaviour frame of its moment; [`NO_BEHAVIOUR`] where there is none.
    pub behaviour_at: Vec<u32>,
    /// For each model frame the action of its moment, index into [`Dataset::labels`]; `None` = nobody said.
    pub label: Vec<Option<u8>>,
}

/// The model frames of a trial in a file of little-endian f32, mapped into memory: data larger than memory is read as needed.
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
    /// [`StoreError`] when the file cannot be read or holds no whole number of frames.
    pub fn open(path: &Path, pixels: usize) -> Result<Self, StoreError> {
        let failed = |cause: String| StoreError { path: path.into(), cause };
        let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
        let bytes = file.metadata().map_err(|e| failed(e.to_string()))?.len() as usize;
        let each = pixels * size_of::<f32>();
        if each == 0 || !bytes.is_multiple_of(each) {
            return Err(failed(format!("{bytes} bytes are no whole number of frames of {pixels} float32 values")));
        }
        // SAFETY: the map is only read. The files are this program's own cache, or a data set that nobody writes while it is
        // trained on; a file that shrinks meanwhile ends the process by SIGBUS and cannot corrupt anything.
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

/// One moment of one trial: the model frame that is *now*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Index into [`Dataset::trials`].
    pub trial: usize,
    /// Model frame that is now.
    pub frame: usize,
}

/// What an encoder made of many moments: what every probe and every measure works on.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Names of the animals.
    pub animals: Vec<String>,
    /// Names of the actions.
    pub labels: Vec<String>,
    /// `[moments, dimensions]`.
    pub values: Array2<f32>,
    /// Of each moment, index into `animals`.
    pub animal: Vec<usize>,
    /// Of each moment, its trial (any numbering that tells trials apart).
    pub trial: Vec<usize>,
    /// Of each moment, index into `labels`; `None` = nobody said.
    pub label: Vec<Option<u8>>,
}

impl Dataset {
    /// Every moment whose window of `window` frames, `look_ahead` of them after now, lies in one trial, is usable throughout
    /// and has behaviour.
    pub fn moments(&self, window: usize, look_ahead: usize) -> Vec<Moment> {
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
                    found.push(Moment { trial, frame });
                }
            }
        }
        found
    }
}
