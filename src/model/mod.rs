//! A model's two files: the ONNX file and, beside it, the manifest: what the model expects, what it says, where it comes from.
//!
//! Why it exists: a network is only as good as the input it was trained on. The manifest holds shapes, frame rate, every
//! preprocessing parameter, labels, look-ahead, the file's hash and its measured parity, and refuses a mismatch at start.
//! What it must never do: open an ONNX session (that is `encode`), or fill a gap with a guess.

pub mod external;
pub mod head;
pub mod labels;
pub mod names;
pub mod onnx;
pub mod parameters;

mod atlas;
mod check;
mod error;
mod manifest;
mod step;
mod trained;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::sys::files::{Bound, FileError, open_regular, sha256_of};

pub use error::{ModelError, describe};
pub use manifest::{
    FORMAT, Kind, LABEL_BYTES_MAX, LABELS_MAX, MANIFEST_BYTES_MAX, Manifest, Parity, Provenance, VALUES_MAX, WIDTH_MAX,
    WINDOW_FRAMES_MAX, schema,
};
pub use trained::{
    Adapted, Calibration, DRIFT_S, Drift, InputOrigin, NOVELTY_EXPECTED, Novelty, OUTPUTS_MAX, Output, PROTOTYPES_MAX,
    TEMPERATURE, THRESHOLDS_MAX,
};

/// The largest ONNX file that is run: so much fits into one attachment of a recorded session.
pub const ONNX: Bound = Bound::new("an ONNX file", 1 << 30);

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

impl Model {
    /// Reads a manifest (or the manifest beside an `.onnx`), checks every value, and verifies the hash of the ONNX file.
    ///
    /// # Errors
    /// Any [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let model = Self::load_unverified(path)?;
        let failed = |cause| FileError::read(&model.onnx_path, cause);
        let bytes = open_regular(&model.onnx_path).and_then(|file| file.metadata()).map_err(failed)?.len();
        ONNX.admit(bytes).map_err(failed)?;
        let found = sha256_of(&model.onnx_path)?;
        if !found.eq_ignore_ascii_case(&model.manifest.sha256) {
            let expected = model.manifest.sha256;
            return Err(ModelError::Hash { path: model.onnx_path, found, expected });
        }
        Ok(model)
    }

    /// As [`Model::load`], without reading the ONNX file. For showing a manifest whose file was exchanged; never for running it.
    ///
    /// # Errors
    /// Any [`ModelError`] but [`ModelError::Hash`].
    pub fn load_unverified(path: &Path) -> Result<Self, ModelError> {
        let is_onnx = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
        let manifest_path = if is_onnx { path.with_extension("toml") } else { path.to_path_buf() };
        let manifest = Manifest::read(&manifest_path)?;
        let onnx_path = manifest_path.parent().unwrap_or(Path::new("")).join(&manifest.file);
        Ok(Self { manifest, onnx_path, manifest_path })
    }

    /// True when its probabilities may be called actions: it was trained, and its classes have names.
    pub fn decodes_actions(&self) -> bool {
        self.manifest.decodes_actions()
    }

    /// Refuses a model whose input no running daemon can make, unless `accepted` (`accept_ready_made_input`).
    ///
    /// # Errors
    /// [`ModelError::ReadyMade`].
    pub fn refuse_ready_made(&self, accepted: bool) -> Result<(), ModelError> {
        if self.manifest.input_origin == InputOrigin::Live || accepted {
            return Ok(());
        }
        Err(ModelError::ReadyMade { path: self.manifest_path.clone() })
    }
}
