//! One ONNX session: bound once, warmed, its shapes checked against the manifest.
//!
//! Why it exists: the daemon, the trainer's acceptance test and the benches must run a model in exactly one way.
//! What it must never do: allocate on the Rust side once it is made, choose another device than it was told, or run a model
//! whose tensors differ from its manifest. Together with its `runtime` and the device code it is the only place with `unsafe`, beside `publish/outlet/lsl/library.rs`.

mod runtime;
mod signature;

use std::panic::AssertUnwindSafe;
use std::path::Path;

use ort::AsPointer;
use ort::session::{IoBinding, Session};
use ort::value::Tensor as Value;

pub use signature::{Signature, TensorInfo};

use crate::frame::{Embedding, Tensor};
use crate::model::Model;
use runtime::Runtime;
use signature::{Bound, Plan};

/// Runs before the first frame: ONNX Runtime takes its memory and packs its weights in the first ones.
const WARM_UP_RUNS: usize = 5;

/// A loaded model and its streaming state or window.
pub struct Encoder {
    info: EncodeInfo,
    model: String,
    binding: IoBinding,
    session: Session,
    tensors: Tensors,
    window_frames: usize,
    frames_seen: usize,
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
    /// Threads that compute.
    pub threads: usize,
    /// The file's inputs and outputs.
    pub signature: Signature,
}

/// The memory the session reads and writes, made once. `frames` is one frame (streaming) or the window, oldest first.
struct Tensors {
    frames: Value<f32>,
    embedding: Value<f32>,
    probabilities: Option<Value<f32>>,
    novelty: Option<Value<f32>>,
    /// What the session reads, what it wrote.
    state: Option<(Value<f32>, Value<f32>)>,
}

/// A model that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// ONNX Runtime itself is not there or too old.
    #[error("ONNX Runtime: {cause}")]
    Runtime {
        /// What is missing and the command that fetches it.
        cause: String,
    },
    /// The file's tensors are not what the manifest says.
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
        /// ONNX Runtime's words.
        cause: String,
    },
    /// A value that is not a number. The state is as before the frame and `into` is untouched, so the next frame may be good:
    /// the corridor counts it and goes on, but this frame has no decode.
    #[error("{what} holds NaN or infinity: this frame has no embedding")]
    NonFinite {
        /// `the frame`, `the embedding`, `the probabilities`, `the novelty` or `the state`.
        what: &'static str,
    },
    /// The frame is not of the model's size.
    #[error("the frame has {found} values, the model takes {expected}")]
    Length {
        /// In the frame.
        found: usize,
        /// Channels × height × width of the model.
        expected: usize,
    },
}

impl EncodeError {
    /// True when the next frame may well succeed.
    pub fn is_survivable(&self) -> bool {
        matches!(self, Self::NonFinite { .. })
    }
}

impl Encoder {
    /// Opens, checks, binds and warms a model; the first real frame runs as fast as any later one.
    ///
    /// `runtime` is ONNX Runtime's shared library; `None` searches `ORT_DYLIB_PATH`, beside the executable, `.runtime/`.
    /// `threads` is at least 1.
    ///
    /// # Errors
    /// Any [`EncodeError`].
    pub fn open(model: &Model, runtime: Option<&Path>, threads: usize) -> Result<Self, EncodeError> {
        let name = model.onnx_path.display().to_string();
        let runtime = runtime::runtime(runtime)?;
        let mut encoder = guarded(&name, || Self::bind(model, &name, &runtime, threads.max(1)))?;
        for _ in 0..WARM_UP_RUNS {
            encoder.run()?;
        }
        encoder.reset();
        Ok(encoder)
    }

    fn bind(model: &Model, name: &str, runtime: &Runtime, threads: usize) -> Result<Self, EncodeError> {
        let session = open_session(&model.onnx_path, runtime, threads).map_err(|e| session_error(name, &e))?;
        let signature = Signature::of(&session);
        let plan = Plan::new(name, &signature, &model.manifest)?;
        let (binding, tensors) = bind_tensors(&session, &plan).map_err(|e| session_error(name, &e))?;
        let info = EncodeInfo {
            runtime_version: runtime.version.clone(),
            runtime_path: runtime.path.clone(),
            provider: "CPUExecutionProvider",
            threads,
            signature,
        };
        let window_frames = model.manifest.window_frames;
        Ok(Self { info, model: name.into(), binding, session, tensors, window_frames, frames_seen: 0 })
    }

    /// What runs the model.
    pub fn info(&self) -> &EncodeInfo {
        &self.info
    }

    /// An embedding of the right sizes, to be written by [`Encoder::encode`].
    pub fn new_embedding(&self) -> Embedding {
        let probabilities = self.tensors.probabilities.as_ref().map_or(0, |p| p.extract_tensor().1.len());
        let values = self.tensors.embedding.extract_tensor().1.len();
        let novelty = self.tensors.novelty.as_ref().map(|_| 0.0);
        Embedding { values: vec![0.0; values], probabilities: vec![0.0; probabilities], novelty }
    }

    /// Encodes one model frame: one step of a streaming model, or the window that ends with this frame.
    ///
    /// # Errors
    /// [`EncodeError::Session`] when ONNX Runtime fails, [`EncodeError::Length`] for a frame of another size: both end the
    /// run. [`EncodeError::NonFinite`] when the frame or what came of it is not a number: survivable, and forgotten by a
    /// streaming model at once. A windowed model forgets a frame that was not a number at once, and one that made the
    /// network overflow when it leaves the window.
    pub fn encode(&mut self, input: &Tensor<'_>, into: &mut Embedding) -> Result<(), EncodeError> {
        let Tensor::Host(frame) = *input;
        finite(frame, "the frame")?;
        self.tensors.accept(frame)?;
        self.run()?;
        self.tensors.deliver(into)?;
        self.frames_seen = self.frames_seen.saturating_add(1);
        Ok(())
    }

    /// Runs a streaming model once more over what is bound and forgets the result: code and weights are then in the
    /// caches when the next frame comes. Costs one step; changes nothing. Windowed models are left alone: their step is
    /// too long to be in the way.
    pub fn keep_warm(&mut self) {
        if self.tensors.state.is_some() {
            // A failure here will be met again, and told, when it matters.
            let _ = self.run();
        }
    }

    /// True until the window is full: embeddings before that saw zeros for frames that never were.
    pub fn warming_up(&self) -> bool {
        self.frames_seen < self.window_frames
    }

    /// Forgets state and window: a new animal.
    pub fn reset(&mut self) {
        self.frames_seen = 0;
        self.tensors.frames.extract_tensor_mut().1.fill(0.0);
        if let Some((before, _)) = &mut self.tensors.state {
            before.extract_tensor_mut().1.fill(0.0);
        }
    }

    /// One run over the bound memory, by the C API because `Session::run_binding` allocates its list of outputs.
    #[allow(unsafe_code)]
    fn run(&mut self) -> Result<(), EncodeError> {
        let (session, binding) = (self.session.ptr_mut(), self.binding.ptr());
        // SAFETY: both pointers are valid: `session` and `binding` own them, and the binding belongs to this session. Every
        // bound tensor was allocated by ONNX Runtime and lives in `self.tensors` and in the binding. `&mut self` keeps
        // anybody else from running the session or touching the tensors meanwhile. Null options mean the default ones.
        let status = unsafe { (ort::api().RunWithBinding)(session, std::ptr::null(), binding) };
        // SAFETY: the status was just returned by the API and is handed over once.
        unsafe { ort::Error::result_from_status(status) }.map_err(|error| session_error(&self.model, &error))
    }
}

impl Tensors {
    /// Puts the frame where the session reads it.
    fn accept(&mut self, frame: &[f32]) -> Result<(), EncodeError> {
        let streaming = self.state.is_some();
        let (shape, frames) = self.frames.extract_tensor_mut();
        let window = if streaming { 1 } else { usize::try_from(shape[1]).unwrap_or(1) };
        let (found, expected) = (frame.len(), frames.len() / window);
        if found != expected {
            return Err(EncodeError::Length { found, expected });
        }
        frames.copy_within(expected.., 0);
        let newest = frames.len() - expected;
        frames[newest..].copy_from_slice(frame);
        Ok(())
    }

    /// Hands the outputs over and advances the state, or does neither.
    fn deliver(&mut self, into: &mut Embedding) -> Result<(), EncodeError> {
        let embedding = self.embedding.extract_tensor().1;
        finite(embedding, "the embedding")?;
        let probabilities = self.probabilities.as_ref().map_or(&[][..], |p| p.extract_tensor().1);
        finite(probabilities, "the probabilities")?;
        let novelty = self.novelty.as_ref().map_or(&[][..], |n| n.extract_tensor().1);
        finite(novelty, "the novelty")?;
        if let Some((before, after)) = &mut self.state {
            let after = after.extract_tensor().1;
            finite(after, "the state")?;
            before.extract_tensor_mut().1.copy_from_slice(after);
        }
        // No allocation: an embedding of `new_embedding` has the room.
        into.values.clear();
        into.values.extend_from_slice(embedding);
        into.probabilities.clear();
        into.probabilities.extend_from_slice(probabilities);
        into.novelty = novelty.first().copied();
        Ok(())
    }
}

/// The inputs and outputs of an ONNX file, as ONNX Runtime reads them.
///
/// # Errors
/// [`EncodeError::Runtime`] or [`EncodeError::Session`].
pub fn read_signature(onnx: &Path, runtime: Option<&Path>) -> Result<Signature, EncodeError> {
    let name = onnx.display().to_string();
    let runtime = runtime::runtime(runtime)?;
    guarded(&name, || {
        let session = open_session(onnx, &runtime, 1).map_err(|e| session_error(&name, &e))?;
        Ok(Signature::of(&session))
    })
}

/// `ort` panics on some shapes of broken models; a user gets a sentence.
fn guarded<T>(name: &str, open: impl FnOnce() -> Result<T, EncodeError>) -> Result<T, EncodeError> {
    std::panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        Err(EncodeError::Session {
            model: name.into(),
            cause: "its inputs or outputs are of a kind `ort` cannot read".into(),
        })
    })
}

fn session_error(model: &str, error: &ort::Error) -> EncodeError {
    EncodeError::Session { model: model.into(), cause: error.message().into() }
}

fn open_session(onnx: &Path, runtime: &Runtime, threads: usize) -> ort::Result<Session> {
    // Spinning threads meet everybody else's on a busy machine and gain nothing on a small graph.
    let builder = Session::builder(&runtime.environment)?.with_intra_threads(threads)?.with_inter_threads(1)?;
    builder.with_intra_op_spinning(false)?.with_inter_op_spinning(false)?.commit_from_file(onnx)
}

/// Owned tensors only: `bind_input` dead-locks on borrowed ones (ort 2.0.0-rc.15).
fn bind_tensors(session: &Session, plan: &Plan) -> ort::Result<(IoBinding, Tensors)> {
    let mut binding = session.create_binding()?;
    let make = |bound: &Bound| -> ort::Result<Value<f32>> {
        let mut tensor = Value::new(session.allocator(), bound.shape.as_slice())?;
        tensor.extract_tensor_mut().1.fill(0.0);
        Ok(tensor)
    };
    let frames = make(&plan.frames)?;
    binding.bind_input(plan.frames.name.as_str(), &frames)?;
    let mut embedding = make(&plan.embedding)?;
    binding.bind_output(plan.embedding.name.as_str(), &mut embedding)?;
    let mut probabilities = plan.probabilities.as_ref().map(make).transpose()?;
    if let (Some(tensor), Some(bound)) = (&mut probabilities, &plan.probabilities) {
        binding.bind_output(bound.name.as_str(), tensor)?;
    }
    let mut novelty = plan.novelty.as_ref().map(make).transpose()?;
    if let (Some(tensor), Some(bound)) = (&mut novelty, &plan.novelty) {
        binding.bind_output(bound.name.as_str(), tensor)?;
    }
    let mut state = None;
    if let Some((read, written)) = &plan.state {
        let (before, mut after) = (make(read)?, make(written)?);
        binding.bind_input(read.name.as_str(), &before)?;
        binding.bind_output(written.name.as_str(), &mut after)?;
        state = Some((before, after));
    }
    Ok((binding, Tensors { frames, embedding, probabilities, novelty, state }))
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
