//! From the received frame to the encoder's input: the trait, the parameters, and the one place that chooses the implementation.
//!
//! Why it exists: `run` must see what `train` saw, so there is one preprocessing, driven by the parameters in the model's
//! manifest, every step causal. The CPU implementation is the oracle that every other one must reproduce.
//! What it must never do: read a clock (time enters only inside the frame), allocate after the first frame of a geometry,
//! or use a future frame.

mod accept;
mod affine;
mod alone;
pub mod average;
pub mod baseline;
pub mod convert;
mod correlation;
mod cpu;
mod cuda;
mod host;
mod kernels;
pub mod line_phase;
mod memory;
pub mod normalise;
pub mod piecewise;
pub mod placement;
pub mod rate;
pub mod registration;
pub mod resample;
pub mod simd;
mod spectrum;
pub mod template;
pub mod tracker;
mod trial;
mod trust;

use std::sync::Arc;

use crate::config::Device;
use crate::cuda::{Fault, Machine};
use crate::frame::event::{Reason, Refusal};
use crate::frame::placement::Placement;
use crate::frame::{AnimalState, Frame, Geometry, Observation, PixelMemory, SIDE_PX_MAX, Sentence, Shape, Tensor};
use crate::model::parameters::{Estimator, ParameterError, Parameters};
use crate::sys::exit::{ExitCode, HasExitCode};

pub use self::accept::{Squeeze, takes};
pub use crate::frame::Request;
pub use alone::KernelAlone;
pub use memory::TakeUpError;

/// Result for one frame.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// What was measured on the frame.
    pub observation: Observation,
    /// The model's input; `None` while frames are being averaged and this was not the last of its group.
    pub tensor: Option<Tensor<'a>>,
}

/// A frame that preprocessing rejects: the corridor counts it by reason and continues. Or a device that failed, which ends the run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreprocessError {
    /// Fewer channels than the model reads.
    #[error(
        "the frame has {found} channel(s), the model needs channel {wanted}: set `preprocess.channels` in the manifest or send that channel"
    )]
    Channel {
        /// Channels in the frame.
        found: usize,
        /// Index of the channel that is missing.
        wanted: usize,
    },
    /// Height or width cannot be processed.
    #[error("the frame is {height}×{width} px; sides of {min} to {max} px are supported")]
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
    /// The geometry or the pixel type changed without a reset.
    #[error(
        "the frame is {found}, but this animal's frames so far are {expected}; one animal keeps its shape and pixel type: begin a \
         new series (another `series`, or `{{\"htype\":\"end\"}}` before it), or send `haltere control reset`"
    )]
    Geometry {
        /// Of the frame.
        found: Geometry,
        /// Of the frames before.
        expected: Geometry,
    },
    /// The device failed and its state is lost.
    #[error(transparent)]
    Device(#[from] Fault),
}

impl HasExitCode for PreprocessError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

impl PreprocessError {
    /// True when the next frame may well succeed.
    pub fn is_survivable(&self) -> bool {
        !matches!(self, Self::Device(_))
    }

    /// The refusal of a frame; `None` for a fault of the device.
    pub fn refusal(&self) -> Option<Refusal> {
        let reason = match self {
            Self::Channel { .. } => Reason::Channel,
            Self::Side { .. } => Reason::Shape,
            Self::Geometry { .. } => Reason::Geometry,
            Self::Device(_) => return None,
        };
        Some(Refusal { reason, message: Sentence::of(self) })
    }
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
    /// When the frame does not match the parameters; the state is then unchanged.
    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError>;

    /// Processes a frame and discards the result, so that code and data are in the caches when the next frame arrives. Changes no
    /// state.
    fn keep_warm(&mut self) {}

    /// Keeps an idle device busy for a moment, so that it does not lower its clock. Changes no state.
    fn rest(&mut self) {}

    /// Memory for a frame of up to `bytes` that this implementation reads fastest; `None` = any memory.
    fn frame_memory(&self, _bytes: usize) -> Option<Box<dyn PixelMemory>> {
        None
    }

    /// Bytes that the kernels of one frame move at least, and how many kernels there are; `None` on the CPU and before the first
    /// frame. For the floor that the bench prints.
    fn device_work(&self) -> Option<(usize, usize)> {
        None
    }

    /// Each kernel of a frame alone, `times` times over; none on the CPU and before the first frame.
    ///
    /// # Errors
    /// The device's error.
    fn device_kernels(&self, _times: usize) -> Result<Vec<KernelAlone>, Fault> {
        Ok(Vec::new())
    }

    /// The registration template in use; `None` before there is one, while a new one is built, and without registration.
    fn template(&self) -> Option<Template<'_>> {
        None
    }

    /// What this animal's frames have in common; `None` before its first.
    fn geometry(&self) -> Option<Geometry>;

    /// What was learnt of this animal, to be taken up later; `None` until all of it has warmed up and is believed. Allocates.
    ///
    /// # Errors
    /// The device failed.
    fn keep(&self) -> Result<Option<AnimalState>, Fault> {
        Ok(None)
    }

    /// Forgets everything, as at [`Request::Reset`], and goes on from a saved state. Its first frames are on trial: if they do not
    /// match it, everything is forgotten again ([`Observation::taken_up`]). So it is on an error. Allocates.
    ///
    /// # Errors
    /// A state that does not fit the parameters, or a device that failed.
    fn take_up(&mut self, state: &AnimalState) -> Result<(), TakeUpError> {
        let _ = state;
        self.request(Request::Reset);
        Ok(())
    }

    /// How the animal lies relative to the model's atlas; `None` until that is found and believed, and without an atlas.
    fn placement(&self) -> Option<Placement> {
        None
    }

    /// The name of the device in use, for people.
    fn device(&self) -> &str;
}

/// Most memory for the frames of the moving average, bytes.
const AVERAGE_BYTES_MAX: usize = 1 << 30;

/// Why preprocessing cannot be built from the model's manifest.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// A parameter outside its range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The number of chosen channels differs from the model's.
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
    #[error("frame_rate_hz = {0}: must be above 0 and at most 100000")]
    FrameRate(f64),
    /// The moving average would take too much memory.
    #[error(
        "preprocess.baseline.average_frames = {frames}: for an input of {input} the moving average would take {bytes} bytes, more than the limit of {AVERAGE_BYTES_MAX}: average fewer frames or use `running-quantile`"
    )]
    AverageMemory {
        /// Frames averaged.
        frames: usize,
        /// The model's frame.
        input: Shape,
        /// What it would take.
        bytes: usize,
    },
    /// The requested device is not available.
    #[error(transparent)]
    Device(#[from] Fault),
    /// A device was requested for a model that only the CPU can preprocess.
    #[error(
        "the model's preprocess.registration.piecewise has no CUDA implementation: set compute.device = \"cpu\" (or \"auto\")"
    )]
    Piecewise,
}

impl HasExitCode for BuildError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Device(_) => ExitCode::OnnxRuntime,
            Self::Parameter(_)
            | Self::Channels { .. }
            | Self::Side(_)
            | Self::FrameRate(_)
            | Self::AverageMemory { .. }
            | Self::Piecewise => ExitCode::Other,
        }
    }
}

/// Where preprocessing and encoding run.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device; `None` = the CPU.
    pub machine: Option<Arc<dyn Machine>>,
    /// Why, for people; empty where there was nothing to choose.
    pub why: String,
}

impl Chosen {
    /// The CPU, because of `why`.
    pub fn cpu(why: impl Into<String>) -> Self {
        Self { machine: None, why: why.into() }
    }
}

/// The one place that chooses a device, for a model with these parameters. `Auto` takes the best available and says why.
///
/// # Errors
/// [`BuildError::Device`] or [`BuildError::Piecewise`] when the requested device cannot be used.
pub fn choose(device: Device, parameters: &Parameters) -> Result<Chosen, BuildError> {
    let piecewise = parameters.registration.as_ref().is_some_and(|r| r.piecewise.is_some());
    match device {
        Device::Cpu => Ok(Chosen::cpu("")),
        Device::Cuda(_) if piecewise => Err(BuildError::Piecewise),
        Device::Cuda(ordinal) => open(ordinal).map(|machine| Chosen { machine: Some(machine), why: String::new() }),
        Device::Auto if piecewise => Ok(Chosen::cpu("the model registers piecewise, which CUDA preprocessing cannot")),
        Device::Auto => Ok(match open(0) {
            Ok(machine) => Chosen { machine: Some(machine), why: "the first CUDA device".to_owned() },
            Err(BuildError::Device(fault)) => Chosen::cpu(fault.cause),
            Err(other) => Chosen::cpu(other.to_string()),
        }),
    }
}

#[cfg(feature = "cuda")]
fn open(ordinal: usize) -> Result<Arc<dyn Machine>, BuildError> {
    Ok(crate::cuda::open(ordinal)?)
}

#[cfg(not(feature = "cuda"))]
fn open(ordinal: usize) -> Result<Arc<dyn Machine>, BuildError> {
    let cause = "this build has no CUDA: build it with `--features cuda`".to_owned();
    Err(Fault { device: format!("CUDA device {ordinal}"), doing: "looking for it", cause }.into())
}

/// Builds preprocessing for a model: its parameters, the shape of its frame, its frame rate (after averaging), on the `device`
/// chosen. [`Preprocess::device`] names it, with the reason.
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
    build_on(parameters, input, frame_rate_hz, &choose(device, parameters)?)
}

/// As [`build`], with a device chosen before.
///
/// # Errors
/// Any [`BuildError`], before the first frame.
pub fn build_on(
    parameters: &Parameters,
    input: Shape,
    frame_rate_hz: f64,
    chosen: &Chosen,
) -> Result<Box<dyn Preprocess>, BuildError> {
    parameters.check()?;
    check_input(parameters, input)?;
    if !(frame_rate_hz > 0.0 && frame_rate_hz <= 1e5) {
        return Err(BuildError::FrameRate(frame_rate_hz));
    }
    let Chosen { machine, why } = chosen;
    let Some(machine) = machine else {
        let name = if why.is_empty() { "CPU".to_owned() } else { format!("CPU: {why}") };
        return Ok(Box::new(cpu::CpuPreprocess::new(parameters, input, frame_rate_hz, name)));
    };
    if parameters.registration.as_ref().is_some_and(|r| r.piecewise.is_some()) {
        return Err(BuildError::Piecewise);
    }
    Ok(Box::new(cuda::CudaPreprocess::new(parameters, input, frame_rate_hz, machine.clone(), why)?))
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
