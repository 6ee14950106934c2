//! From the frame that arrived to the tensor that the encoder reads: the seam, the parameters, and the one place that chooses.
//!
//! Why it exists: what `run` sees must be what `train` saw, so there is one preprocessing, driven by the parameters in the
//! model's manifest, every step causal. The CPU implementation is the oracle that every other one must reproduce.
//! What it must never do: read a clock (time enters only inside the frame), allocate after the first frame of a geometry,
//! or look at a frame that has not come yet.

pub mod average;
pub mod baseline;
pub mod convert;
mod correlation;
mod cpu;
mod kernels;
pub mod line_phase;
pub mod normalise;
pub mod parameters;
pub mod piecewise;
pub mod rate;
pub mod registration;
pub mod resample;
pub mod simd;
mod spectrum;
pub mod template;
pub mod tracker;

use crate::config::Device;
use crate::frame::{Frame, Observation, SIDE_PX_MAX, Shape, Tensor};
use parameters::{Estimator, ParameterError, Parameters};

pub use crate::frame::Request;

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

/// What frames are registered on.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// Light, height × width, C order.
    pub pixels: &'a [f32],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Counts the templates of this animal, from 1. Slow refreshing does not count.
    pub generation: u64,
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

    /// Runs once through the code and data of a frame and forgets the result, so that they are in the caches when the next
    /// one comes. Changes nothing.
    fn keep_warm(&mut self) {}

    /// The registration template in use; `None` before there is one, while a new one is built, and without registration.
    fn template(&self) -> Option<Template<'_>> {
        None
    }

    /// The name of the device in use, for people.
    fn device(&self) -> &str;
}

/// Most memory that the frames of the moving average may take, bytes.
const AVERAGE_BYTES_MAX: usize = 1 << 30;

/// Why preprocessing cannot be built. All of it stands in the model's manifest.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// A parameter outside its range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// As many channels must be chosen as the model reads.
    #[error("input.channels = {input}, but preprocess.channels names {chosen}: make them equal")]
    Channels {
        /// Channels of the model's input.
        input: usize,
        /// Channels chosen from the frame.
        chosen: usize,
    },
    /// The model's frame is empty or too large.
    #[error("input = {0}: height and width must be 1 to {SIDE_PX_MAX} px")]
    Side(Shape),
    /// Not a frame rate.
    #[error("frame_rate_hz = {0}: must be above 0, to 100000")]
    FrameRate(f64),
    /// The moving average of so large a frame over so many frames would not fit.
    #[error(
        "preprocess.baseline.average_frames = {frames}: for an input of {input} the moving average would take {bytes} bytes, at most {AVERAGE_BYTES_MAX} are given: average fewer frames or use `running-quantile`"
    )]
    AverageMemory {
        /// Frames averaged.
        frames: usize,
        /// The model's frame.
        input: Shape,
        /// What it would take.
        bytes: usize,
    },
}

/// Builds preprocessing for a model: its parameters, the shape of its frame, its frame rate (after averaging).
///
/// The one place that chooses a device; `Auto` takes the best that this build has, and [`Preprocess::device`] says why.
///
/// # Errors
/// Any [`BuildError`], before the first frame.
pub fn build(
    parameters: &Parameters,
    input: Shape,
    frame_rate_hz: f64,
    device: Device,
) -> Result<Box<dyn Preprocess>, BuildError> {
    parameters.check()?;
    check_input(parameters, input)?;
    if !(frame_rate_hz > 0.0 && frame_rate_hz <= 1e5) {
        return Err(BuildError::FrameRate(frame_rate_hz));
    }
    let name = match device {
        Device::Cpu => "CPU",
        Device::Auto => "CPU: this build has no CUDA preprocessing",
    };
    Ok(Box::new(cpu::CpuPreprocess::new(parameters, input, frame_rate_hz, name)))
}

fn check_input(parameters: &Parameters, input: Shape) -> Result<(), BuildError> {
    let chosen = parameters.channels.len();
    if input.channels != chosen {
        return Err(BuildError::Channels { input: input.channels, chosen });
    }
    if [input.height, input.width].iter().any(|side| !(1..=SIDE_PX_MAX).contains(side)) {
        return Err(BuildError::Side(input));
    }
    let averaged = parameters.baseline.as_ref().filter(|b| b.estimator == Estimator::RunningMinimum);
    let frames = averaged.map_or(0, |b| b.average_frames);
    let bytes = frames * input.pixels() * size_of::<f32>();
    if bytes > AVERAGE_BYTES_MAX {
        return Err(BuildError::AverageMemory { frames, input, bytes });
    }
    Ok(())
}
