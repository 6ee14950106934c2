//! Adapts a trained model to a new animal: shifts its embedding to where those of training lie, and refits its classifier to a
//! few labelled bouts.
//!
//! Why it exists: animals differ, and a few minutes of the one under the microscope can be recorded before the experiment. What
//! it must never do: accept a change that was judged on the samples it was made from.

mod align;
mod refit;
mod to_animal;
mod write;

use std::path::PathBuf;

use ndarray::Array2;

use crate::frame::Quality;
use crate::model::Model;
use crate::sys::exit::{ExitCode, Failure, HasExitCode};

pub use align::{Alignment, TURN_MAX_DEGREES, align, unit_rows};
pub use refit::{Fit, Labelled, PIECE_WINDOWS, PIECES_MIN, Refit, Scores, refit, scores};
pub use to_animal::{CalibrateReport, calibrate};

/// What to calibrate on and where the result goes.
#[derive(Clone, Debug)]
pub struct CalibrateArguments {
    /// The new model, without extension.
    pub out: PathBuf,
    /// Name of the recording in the new model's provenance.
    pub recording: String,
    /// Labels of some frames.
    pub labels: Option<PathBuf>,
    /// Try to align the embedding?
    pub align: bool,
    /// Overwrite an existing model.
    pub force: bool,
}

/// What a model gives for the whole recording, as plain arrays.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Embeddings of quality ok, `[samples, dimensions]`.
    pub good: Array2<f32>,
    /// Index of each of them among all decodes.
    pub at: Vec<usize>,
    /// Frame number of each of them.
    pub number: Vec<u64>,
    /// Numbers of the recording's first and last frame.
    pub span: (u64, u64),
    /// Every embedding of the recording, whatever its quality, one after the other.
    pub all: Vec<f32>,
    /// Frames per second of the recording.
    pub rate_hz: f64,
}

impl Embeddings {
    /// The decodes of a recording by `model`, those of quality ok apart.
    ///
    /// # Errors
    /// When none of them is of quality ok.
    pub fn of(decodes: crate::decoder::Embeddings, model: &Model) -> anyhow::Result<Self> {
        let manifest = &model.manifest;
        let width = manifest.embedding;
        let at: Vec<usize> = (0..decodes.len()).filter(|&d| decodes.quality[d] == Quality::Ok).collect();
        let Some(span) = decodes.span.filter(|_| !at.is_empty()) else {
            let frames = decodes.span.map_or(0, |(first, last)| last - first + 1);
            let what = format!(
                "none of the recording's {frames} frames gives an embedding of quality ok: the model's window alone is {} frames, \
                 and preprocessing warms up before it; record longer, or see the warnings above",
                manifest.stream_window_frames()
            );
            return Err(Failure { code: ExitCode::Source, what }.into());
        };
        let values = at.iter().flat_map(|&d| &decodes.values[d * width..(d + 1) * width]).copied().collect();
        Ok(Self {
            good: Array2::from_shape_vec((at.len(), width), values)?,
            number: at.iter().map(|&d| decodes.frames[d]).collect(),
            at,
            span,
            rate_hz: decodes.frame_rate_hz.unwrap_or_else(|| manifest.stream_rate_hz()),
            all: decodes.values,
        })
    }
}

/// Runs a model over the whole recording, from its first frame, each time it is called.
pub type Embed<'a> = dyn FnMut(&Model) -> anyhow::Result<Embeddings> + 'a;

/// Why a model cannot be calibrated on this recording.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrateError {
    /// Too few embeddings.
    #[error(
        "the recording gives {found} embeddings of quality ok, but {needed} are needed ({windows} windows of {window} frames): \
         record for at least a few minutes"
    )]
    TooShort {
        /// Embeddings found.
        found: usize,
        /// Embeddings needed.
        needed: usize,
        /// The same in windows.
        windows: usize,
        /// Frames in a window.
        window: usize,
    },
    /// An embedding that is not a number.
    #[error("embedding {row} contains NaN or infinity")]
    NonFinite {
        /// Which one, from 0.
        row: usize,
    },
    /// A reference of other dimensions.
    #[error("the model's {what} has {found} dimensions, but its embedding has {expected}")]
    Dimensions {
        /// Which reference.
        what: &'static str,
        /// Dimensions of the reference.
        found: usize,
        /// Dimensions of the embedding.
        expected: usize,
    },
    /// One action only.
    #[error("every labelled frame is {action:?}: label at least two actions")]
    OneAction {
        /// Which one.
        action: String,
    },
    /// Too few bouts to hold some out.
    #[error(
        "the labels make {found} pieces of whole bouts of at least {PIECE_WINDOWS} windows ({frames} frames) each, but \
         {PIECES_MIN} are needed so that some can be held out: label more bouts, about two minutes"
    )]
    FewBouts {
        /// Pieces found.
        found: usize,
        /// Frames in the shortest piece.
        frames: usize,
    },
    /// The probe could not be fitted.
    #[error("the classifier cannot be refitted: {0}")]
    Fit(String),
    /// The new model's files exist.
    #[error("{} is there already: choose another name or folder, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
}

impl HasExitCode for CalibrateError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}
