//! A trained model and a new animal: how its embedding is moved to where training's lay, and how its classifier learns from a
//! few labelled bouts.
//!
//! Why it exists: animals differ, and a few minutes of the one under the microscope are to be had before the experiment. What
//! it must never do: accept a change that was judged on the moments it was made from.

use crate::sys::exit::{ExitCode, HasExitCode};

pub mod gather;
pub mod to_animal;
pub mod write;

mod align;
mod refit;

pub use align::{Alignment, TURN_MAX_DEGREES, align, unit_rows};
pub use refit::{Fit, Labelled, PIECE_WINDOWS, PIECES_MIN, Refit, Scores, refit, scores};

/// Why a model cannot be calibrated on this recording.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrateError {
    /// Too few embeddings.
    #[error(
        "the recording gives {found} embeddings of quality ok, and {needed} are needed ({windows} windows of {window} frames): \
         record longer, at least some minutes"
    )]
    TooShort {
        /// There are.
        found: usize,
        /// There must be.
        needed: usize,
        /// In windows.
        windows: usize,
        /// Frames in a window.
        window: usize,
    },
    /// An embedding that is not a number.
    #[error("embedding {row} holds NaN or infinity")]
    NonFinite {
        /// Which one, from 0.
        row: usize,
    },
    /// A reference of other dimensions.
    #[error("the model's {what} has {found} dimensions, its embedding {expected}")]
    Dimensions {
        /// Which reference.
        what: &'static str,
        /// Of the reference.
        found: usize,
        /// Of the embedding.
        expected: usize,
    },
    /// One action only.
    #[error("every labelled frame is {action:?}: label at least two actions")]
    OneAction {
        /// Which one.
        action: String,
    },
    /// Too few bouts to leave some out.
    #[error(
        "the labels make {found} pieces of whole bouts of at least {PIECE_WINDOWS} windows ({frames} frames) each, and \
         {PIECES_MIN} are needed, so that some can be left out: label more bouts, about two minutes"
    )]
    FewBouts {
        /// There are.
        found: usize,
        /// Frames in the shortest piece.
        frames: usize,
    },
    /// The probe could not be fitted.
    #[error("the classifier cannot be fitted anew: {0}")]
    Fit(String),
}

impl HasExitCode for CalibrateError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}
