//! From the frame that arrived to the tensor that the encoder reads: the seam, the parameters, and the one place that chooses.
//!
//! Why it exists: what `run` sees must be what `train` saw, so there is one preprocessing, driven by the parameters in the
//! model's manifest, every step causal. The CPU implementation is the oracle that every other one must reproduce.
//! What it must never do: read a clock (time enters only inside the frame), allocate after the first frame of a geometry,
//! or look at a frame that has not come yet.

mod correlation;
mod kernels;
pub mod parameters;
pub mod piecewise;
pub mod registration;
mod spectrum;
pub mod template;

use crate::frame::{Frame, Observation, Tensor};

/// What came of one frame.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// What was measured on the way.
    pub observation: Observation,
    /// The model's input; `None` while frames are being averaged and this was not the last of its group.
    pub tensor: Option<Tensor<'a>>,
}

/// A frame that preprocessing cannot take. The corridor counts it by reason and goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreprocessError {
    /// Fewer channels than the model reads.
    #[error(
        "the frame has {found} channel(s), the model reads channel {wanted}: set `preprocess.channels` in the manifest or send that channel"
    )]
    Channel {
        /// Channels in the frame.
        found: usize,
        /// Index of the channel that is missing.
        wanted: usize,
    },
    /// Height or width cannot be processed.
    #[error("the frame is {height}×{width} px; {min} to {max} px a side can be processed")]
    Side {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Smallest side.
        min: usize,
        /// Largest side.
        max: usize,
    },
    /// The geometry or the pixel type changed within a series.
    #[error("the frame is {found}, this animal began with {expected}: a new geometry needs a new series or a reset")]
    Geometry {
        /// What came.
        found: String,
        /// What was there before.
        expected: String,
    },
}

/// Requests that change the state of preprocessing between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new animal: forget template, baseline, statistics, frame rate.
    Reset,
    /// Build a new template from the next frames; keep baseline and statistics.
    RenewTemplate,
    /// Forget F₀ and the moving average; keep the template.
    ResetBaseline,
    /// Stop or resume the update of the normalisation statistics.
    FreezeNormalisation(bool),
}

/// One implementation of preprocessing. Chosen once at start.
pub trait Preprocess: Send {
    /// Carries out a request; takes effect with the next frame.
    fn request(&mut self, request: Request);

    /// Turns one frame into the model's input.
    ///
    /// # Errors
    /// When the frame does not fit the parameters; the state is then unchanged.
    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError>;

    /// The name of the device in use, for people.
    fn device(&self) -> &str;
}
