//! The manifest beside an ONNX file: what the model expects, what it says, where it comes from.
//!
//! Why it exists: a network is only as good as the input it was trained on. The manifest holds shapes, frame rate, every
//! preprocessing parameter, labels, look-ahead, the file's hash and its measured parity, and refuses a mismatch at start.
//! What it must never do: open an ONNX session (that is `encode`), or fill a gap with a guess.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::frame::Shape;
use crate::preprocess::parameters::Parameters;

/// Version of the manifest's layout that this program writes and reads.
pub const FORMAT: u32 = 1;

/// `<name>.toml` beside `<name>.onnx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout version, [`FORMAT`].
    pub format: u32,
    /// Name of the model, as published in every decode: `[A-Za-z0-9_.-]`, at most 64.
    pub name: String,
    /// The ONNX file, relative to the manifest.
    pub file: PathBuf,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub sha256: String,
    /// How the model is fed.
    pub kind: Kind,
    /// Model frames per second it was made for (after averaging).
    pub frame_rate_hz: f64,
    /// Model frames it sees at once.
    pub window_frames: usize,
    /// Future frames the windows of training saw; 0 = causal. Above 0 the decode is late by as much.
    #[serde(default)]
    pub look_ahead_frames: usize,
    /// Channels × height × width of one model frame.
    pub input: Shape,
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// Streaming models: shape of the state, `[rows, columns]` (31 × 128 feature vectors, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<[usize; 2]>,
    /// Action labels, in the order of the probabilities; empty = the model decodes no action.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// How exactly the daemon's own encoder reproduced it when it was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// What happens to a frame before it reaches the model.
    #[serde(default)]
    pub preprocess: Parameters,
}

/// How a model is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// (`frame` [1,C,H,W], `state` [1,R,D]) → (`embedding` [1,E], optional `probabilities` [1,L], `next_state` [1,R,D]).
    Streaming,
    /// one input [1,T,C,H,W] → `embedding` [1,E] (or the only output), optional `probabilities` [1,L].
    Windowed,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provenance {
    /// False for random weights: such a model decodes no action, whatever labels it has.
    pub trained: bool,
    /// Program and version, or person, that made it.
    pub made_by: String,
    /// Data it was trained on.
    pub trained_on: String,
    /// Anything a user must know.
    pub note: String,
}

/// A measured agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// What it was compared with.
    pub against: String,
    /// Frames compared.
    pub frames: usize,
    /// Largest absolute difference of any embedding value.
    pub max_abs_difference: f32,
}

/// A manifest that was read, checked against its file, and knows where that file is.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the manifest says.
    pub manifest: Manifest,
    /// The ONNX file, resolved.
    pub onnx_path: PathBuf,
    /// Where the manifest was read.
    pub manifest_path: PathBuf,
}

/// A manifest or a model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Not a manifest: syntax, unknown or missing keys, with the line.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, key and reason.
        message: String,
    },
    /// A value that cannot be.
    #[error("{}: {key} = {value}: {bound}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// What was written.
        value: String,
        /// What is allowed.
        bound: String,
    },
    /// The ONNX file is not the one the manifest was written for.
    #[error("{}: SHA-256 is {found}, the manifest says {expected}: the file was changed or exchanged; `haltere model inspect` shows both", path.display())]
    Hash {
        /// The ONNX file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
}

impl Model {
    /// Reads a manifest (or the manifest beside an `.onnx`), checks every value, and verifies the hash of the ONNX file.
    ///
    /// # Errors
    /// Any [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let _ = path;
        unimplemented!()
    }
}
