//! One ONNX session: bound once, warmed, its shapes checked against the manifest.
//!
//! Why it exists: the daemon, the trainer's acceptance test and the benches must run a model in exactly the same way.
//! What it must never do: allocate on the Rust side after construction, use another device than requested, or run a model whose
//! tensors differ from its manifest. Together with its `runtime`, the device code and `publish/outlet/lsl/library.rs` it is the only
//! place with `unsafe`.

mod device;
mod runtime;
mod session;
mod signature;
mod tensors;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use ort::AsPointer;
use ort::session::{IoBinding, RunOptions, Session};

pub use signature::{Signature, TensorInfo};

use crate::cuda::{Fault, Machine, Program};
use crate::frame::{Embedding, Tensor};
use crate::model::external::refuse_outside;
use crate::model::{Model, ModelError};
use crate::sys::exit::{ExitCode, HasExitCode};
use device::DeviceSide;
use runtime::Runtime;
use session::{allocator, open_session, provider};
use signature::Plan;
use tensors::{Tensors, values};

/// Runs before the first frame: ONNX Runtime allocates its memory and packs its weights during the first ones.
const WARM_UP_RUNS: usize = 5;

/// A loaded model and its streaming state or window.
pub struct Encoder {
    info: EncodeInfo,
    model: String,
    binding: IoBinding,
    options: RunOptions,
    session: Session,
    /// A run of the session as one graph, which any thread may start.
    recorded: Option<Box<dyn Program>>,
    tensors: Tensors,
    /// After the session, which uses its stream: fields are dropped in this order.
    side: Side,
    window_frames: usize,
    frames_seen: usize,
}

/// Where the tensors are.
enum Side {
    /// In host memory; `staging` is for a tensor on a device.
    Host {
        staging: Vec<f32>,
    },
    Device(Box<DeviceSide>),
}

/// Where a model runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Threads that compute on the CPU, at least 1.
    pub threads: usize,
    /// The device; `None` = the CPU.
    pub machine: Option<Arc<dyn Machine>>,
    /// Record what ONNX Runtime asks of a CUDA device once, and start it as one graph; no effect on the CPU.
    pub graph: bool,
}

impl Place {
    /// The CPU.
    pub const fn cpu(threads: usize) -> Self {
        Self { threads, machine: None, graph: false }
    }
}

/// What runs the model, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EncodeInfo {
    /// Version of ONNX Runtime.
    pub runtime_version: String,
    /// The library in use.
    pub runtime_path: std::path::PathBuf,
    /// ONNX Runtime's name of the execution provider in use.
    pub provider: &'static str,
    /// Part of the model runs on the CPU although a device was chosen, because ONNX Runtime's provider cannot run it there.
    pub partly_on_cpu: bool,
    /// Threads that compute.
    pub threads: usize,
    /// The file's inputs and outputs.
    pub signature: Signature,
}

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// ONNX Runtime is missing or too old.
    #[error("ONNX Runtime: {cause}")]
    Runtime {
        /// What is missing and the command that fetches it.
        cause: String,
    },
    /// The file's tensors differ from the manifest.
    #[error("{model}: {what} is {found}, the manifest says {expected}")]
    Mismatch {
        /// ONNX file.
        model: String,
        /// Which tensor or property.
        what: String,
        /// In the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// ONNX Runtime refused to load or run the model.
    #[error("{model}: {cause}")]
    Session {
        /// ONNX file.
        model: String,
        /// ONNX Runtime's message.
        cause: String,
    },
    /// The file keeps weights where it must not, or is no ONNX file.
    #[error(transparent)]
    File(#[from] ModelError),
    /// A value is NaN or infinite. The state is as before the frame and `into` is untouched, so the next frame may succeed: the
    /// corridor counts it and continues, but this frame has no decode.
    #[error("{what} contains NaN or infinity: this frame has no embedding")]
    NonFinite {
        /// `the frame`, `the embedding`, `the probabilities`, `the outputs`, `the novelty` or `the state`.
        what: &'static str,
    },
    /// The device failed, or something that it needs is missing.
    #[error("{cause}")]
    Device {
        /// Its message.
        cause: String,
    },
    /// The frame does not have the model's size.
    #[error("the frame has {found} values, the model needs {expected}")]
    Length {
        /// In the frame.
        found: usize,
        /// Channels × height × width of the model.
        expected: usize,
    },
}

impl HasExitCode for EncodeError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Mismatch { .. } => ExitCode::Model,
            Self::File(error) => error.exit_code(),
            Self::Runtime { .. }
            | Self::Session { .. }
            | Self::NonFinite { .. }
            | Self::Device { .. }
            | Self::Length { .. } => ExitCode::OnnxRuntime,
        }
    }
}

impl EncodeError {
    /// True when the next frame may well succeed.
    pub fn is_survivable(&self) -> bool {
        matches!(self, Self::NonFinite { .. })
    }

    /// True when a device failed or is missing, and the CPU could have run the model.
    pub fn is_of_a_device(&self) -> bool {
        matches!(self, Self::Device { .. })
    }
}

impl Encoder {
    /// Opens, checks, binds and warms a model; the first real frame runs as fast as any later one.
    ///
    /// `runtime` is ONNX Runtime's shared library; `None` searches `ORT_DYLIB_PATH`, beside the executable, what was installed
    /// with it, `.runtime/`.
    /// `threads` is at least 1.
    ///
    /// # Errors
    /// Any [`EncodeError`].
    pub fn open(model: &Model, runtime: Option<&Path>, threads: usize) -> Result<Self, EncodeError> {
        Self::open_on(model, runtime, &Place::cpu(threads))
    }

    /// As [`Encoder::open`], on a device.
    ///
    /// # Errors
    /// Any [`EncodeError`]; [`EncodeError::Device`] names what the device lacks and the command that fetches it.
    pub fn open_on(model: &Model, runtime: Option<&Path>, place: &Place) -> Result<Self, EncodeError> {
        let name = model.onnx_path.display().to_string();
        let runtime = runtime::runtime(runtime, place.machine.is_some())?;
        let mut encoder = guarded(&name, || Self::bind(model, &name, &runtime, place))?;
        for _ in 0..WARM_UP_RUNS {
            encoder.run()?;
        }
        if let Side::Device(side) = &encoder.side {
            side.wait()?;
        }
        if place.graph && provider(place).is_cuda() {
            encoder.record()?;
        }
        encoder.reset();
        Ok(encoder)
    }

    /// Records one run, on the thread that opens the model. ONNX Runtime's own recording belongs to the thread of the run, which would
    /// record again where frames are decoded, and forbids other threads to use the device meanwhile.
    fn record(&mut self) -> Result<(), EncodeError> {
        let cause = if self.info.partly_on_cpu {
            "ONNX Runtime runs a part of it on the CPU".to_owned()
        } else {
            let (session, options, binding) = (self.session.ptr_mut(), &self.options, &self.binding);
            let Side::Device(side) = &self.side else { return Ok(()) };
            let device = self.model.clone();
            let mut work = || {
                run_once(session, options, binding).map_err(|error| Fault {
                    device: device.clone(),
                    doing: "recording",
                    cause: error.message().to_owned(),
                })
            };
            match side.record(&mut work) {
                Ok(program) => {
                    self.recorded = Some(program);
                    return Ok(());
                }
                Err(fault) => fault.to_string(),
            }
        };
        let cause = format!("{}: not recorded as one graph: {cause}: set compute.encoder_graph = false", self.model);
        Err(EncodeError::Device { cause })
    }

    fn bind(model: &Model, name: &str, runtime: &Runtime, place: &Place) -> Result<Self, EncodeError> {
        let told = |e: ort::Error| session_error(name, &e);
        refuse_outside(&model.onnx_path)?;
        let (session, partly_on_cpu) = open_session(&model.onnx_path, runtime, place)
            .map_err(|e| if provider(place).is_cuda() { session::device_error(name, runtime, &e) } else { told(e) })?;
        let signature = Signature::of(&session);
        let plan = Plan::new(name, &signature, &model.manifest)?;
        let memory = allocator(&session, place).map_err(told)?;
        let memory = memory.as_ref().unwrap_or(session.allocator());
        let (binding, mut tensors) = Tensors::bind(&session, memory, &plan).map_err(told)?;
        let pixels = model.manifest.input.pixels();
        let side = match &place.machine {
            Some(machine) => Side::Device(Box::new(DeviceSide::new(machine, &tensors, pixels)?)),
            None => {
                tensors.clear();
                Side::Host { staging: vec![0.0; pixels] }
            }
        };
        let info = EncodeInfo {
            runtime_version: runtime.version.clone(),
            runtime_path: runtime.path.clone(),
            provider: provider(place).name(),
            partly_on_cpu,
            threads: place.threads.max(1),
            signature,
        };
        let mut options = RunOptions::new().map_err(told)?;
        if matches!(side, Side::Device(_)) {
            // Wait for the device once, after the last kernel.
            options.disable_device_sync().map_err(told)?;
        }
        if place.graph && provider(place).is_cuda() {
            // A session that can be recorded, which `record` does: not ONNX Runtime.
            options.set("gpu_graph_id", "-1").map_err(told)?;
        }
        let window_frames = model.manifest.window_frames;
        let (model, recorded) = (name.into(), None);
        Ok(Self { info, model, binding, options, session, recorded, tensors, side, window_frames, frames_seen: 0 })
    }

    /// What runs the model.
    pub fn info(&self) -> &EncodeInfo {
        &self.info
    }

    /// An embedding of the right sizes, to be written by [`Encoder::encode`].
    pub fn new_embedding(&self) -> Embedding {
        self.tensors.new_embedding()
    }

    /// Encodes one model frame: one step of a streaming model, or the window that ends with this frame.
    ///
    /// # Errors
    /// [`EncodeError::Session`] when ONNX Runtime fails, [`EncodeError::Length`] for a frame of another size: both end the
    /// run. [`EncodeError::NonFinite`] when the frame or what came of it is not a number: survivable, and forgotten by a
    /// streaming model at once. A windowed model forgets a frame that was not a number at once, and one that made the
    /// network overflow when it leaves the window.
    pub fn encode(&mut self, input: &Tensor<'_>, into: &mut Embedding) -> Result<(), EncodeError> {
        match &mut self.side {
            Side::Host { staging } => {
                let frame = input.to_host(staging).map_err(|cause| EncodeError::Device { cause })?;
                finite(frame, "the frame")?;
                self.tensors.accept(frame)?;
            }
            Side::Device(side) => side.accept(input)?,
        }
        self.run()?;
        match &mut self.side {
            Side::Host { .. } => self.tensors.deliver(into)?,
            Side::Device(side) => side.deliver(into)?,
        }
        self.frames_seen = self.frames_seen.saturating_add(1);
        Ok(())
    }

    /// Runs a streaming model once more over what is bound and discards the result, so that code and weights are in the caches
    /// when the next frame arrives. Costs one step; changes no state. Windowed models are skipped: their step takes too long.
    pub fn keep_warm(&mut self) {
        if self.tensors.state.is_some() {
            // A failure here recurs, and is reported, when it matters.
            let _ = self.run();
        }
    }

    /// True until the window is full: until then zeros stand in for the missing frames.
    pub fn warming_up(&self) -> bool {
        self.frames_seen < self.window_frames
    }

    /// Model frames of a window.
    pub fn window_frames(&self) -> u32 {
        self.window_frames as u32
    }

    /// Model frames that the window still lacks.
    pub fn frames_missing(&self) -> u32 {
        self.window_frames.saturating_sub(self.frames_seen) as u32
    }

    /// Forgets state and window: a new animal.
    pub fn reset(&mut self) {
        self.frames_seen = 0;
        match &self.side {
            Side::Host { .. } => self.tensors.reset(),
            // A device that fails here fails again at the next frame, where it is reported.
            Side::Device(side) => drop(side.reset()),
        }
    }

    /// One run over the bound memory.
    fn run(&mut self) -> Result<(), EncodeError> {
        if let Some(recorded) = &self.recorded {
            return Ok(recorded.launch()?);
        }
        run_once(self.session.ptr_mut(), &self.options, &self.binding).map_err(|error| match &self.side {
            Side::Host { .. } => session_error(&self.model, &error),
            Side::Device(_) => EncodeError::Device { cause: format!("{}: {}", self.model, error.message()) },
        })
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if let Side::Device(side) = &self.side
            && side.is_lost()
        {
            // ONNX Runtime would wait for the device without an end.
            std::mem::forget(self.session.inner());
        }
    }
}

/// One run, by the C API because `Session::run_binding` allocates its list of outputs.
#[allow(unsafe_code)]
fn run_once(session: *mut ort::sys::OrtSession, options: &RunOptions, binding: &IoBinding) -> ort::Result<()> {
    // SAFETY: the pointers are valid: an encoder owns all three, and the binding belongs to this session. Every bound tensor was
    // allocated by ONNX Runtime and lives in the encoder and in the binding. The encoder's `&mut self` keeps anybody else from running
    // the session or touching the tensors meanwhile; on a device, what still runs on the stream when this returns is followed there by
    // whatever touches them next.
    let status = unsafe { (ort::api().RunWithBinding)(session, options.ptr(), binding.ptr()) };
    // SAFETY: the status was just returned by the API and is handed over once.
    unsafe { ort::Error::result_from_status(status) }
}

/// Loads ONNX Runtime, of which a process has one: with `cuda` the library that has the CUDA provider, where there is one.
///
/// # Errors
/// [`EncodeError::Runtime`].
pub fn load_runtime(wanted: Option<&Path>, cuda: bool) -> Result<(), EncodeError> {
    runtime::runtime(wanted, cuda).map(drop)
}

/// The inputs and outputs of an ONNX file, as ONNX Runtime reads them.
///
/// # Errors
/// [`EncodeError::Runtime`] or [`EncodeError::Session`].
pub fn read_signature(onnx: &Path, runtime: Option<&Path>) -> Result<Signature, EncodeError> {
    let name = onnx.display().to_string();
    let runtime = runtime::runtime(runtime, false)?;
    guarded(&name, || {
        let (session, _) = open_session(onnx, &runtime, &Place::cpu(1)).map_err(|e| session_error(&name, &e))?;
        Ok(Signature::of(&session))
    })
}

/// `ort` panics on some kinds of damaged models; the user gets an error message.
fn guarded<T>(name: &str, open: impl FnOnce() -> Result<T, EncodeError>) -> Result<T, EncodeError> {
    std::panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        Err(EncodeError::Session {
            model: name.into(),
            cause: "its inputs or outputs have types that `ort` cannot read".into(),
        })
    })
}

fn session_error(model: &str, error: &ort::Error) -> EncodeError {
    EncodeError::Session { model: model.into(), cause: error.message().into() }
}

fn finite(values: &[f32], what: &'static str) -> Result<(), EncodeError> {
    // On the bits, so that the compiler makes vectors of it.
    const EXPONENT: u32 = 0x7f80_0000;
    let good = values.iter().fold(true, |good, value| good & (value.to_bits() & EXPONENT != EXPONENT));
    if good { Ok(()) } else { Err(EncodeError::NonFinite { what }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_non_finite_value_is_seen_and_no_finite_one() {
        assert!(finite(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE / 2.0], "x").is_ok());
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(finite(&[1.0, bad, 1.0], "x").is_err());
        }
    }

    #[test]
    fn an_encoder_can_move_to_the_compute_thread() {
        fn sendable<T: Send>() {}
        sendable::<Encoder>();
    }
}
