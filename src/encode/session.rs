//! Opens a session for the CPU or for a device.
//!
//! Why it exists: the execution provider that runs a model is decided here and reported truthfully. ONNX Runtime itself falls back
//! to the CPU silently, so a provider that does not register is an error.
//! What it must never do: let a session outlive the stream it runs on (the encoder keeps the machine, behind the session).

use std::path::Path;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::runtime::Runtime;
use super::{EncodeError, Place};

/// What to do about a missing provider.
const REMEDY: &str = "`make gpu` (scripts/fetch-onnxruntime-gpu.sh) fetches ONNX Runtime with its CUDA provider and the libraries it needs \
                      (CUDA runtime, cuBLAS, cuRAND, cuDNN 9 with NVRTC) into .runtime-gpu/; the driver must be of version \
                      580 or newer; `compute.onnxruntime` or ORT_DYLIB_PATH may name another library; or set compute.device = \"cpu\"";

/// Which of ONNX Runtime's execution providers runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// ONNX Runtime's name for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }

    pub(super) fn is_cuda(self) -> bool {
        self == Self::Cuda
    }
}

/// A machine without a stream computes in host memory (the emulator of the tests does): its sessions run on the CPU, over the same
/// memory.
pub(super) fn provider(place: &Place) -> Provider {
    let streams = place.machine.as_ref().is_some_and(|machine| !machine.stream().is_null());
    if streams { Provider::Cuda } else { Provider::Cpu }
}

/// Opens a session; true when it runs partly on the CPU although its place is a device.
pub(super) fn open_session(onnx: &Path, runtime: &Runtime, place: &Place) -> ort::Result<(Session, bool)> {
    if !provider(place).is_cuda() {
        return Ok((builder(runtime, place)?.commit_from_file(onnx)?, false));
    }
    // ONNX Runtime silently gives the CPU what its provider cannot run, copies included. Only forbidding the fall-back reveals it.
    match builder(runtime, place)?.with_disable_cpu_fallback()?.commit_from_file(onnx) {
        Ok(session) => Ok((session, false)),
        Err(_) => Ok((builder(runtime, place)?.commit_from_file(onnx)?, true)),
    }
}

fn builder(runtime: &Runtime, place: &Place) -> ort::Result<SessionBuilder> {
    // Spinning threads compete with all others on a busy machine and gain nothing on a small graph.
    let builder =
        Session::builder(&runtime.environment)?.with_intra_threads(place.threads.max(1))?.with_inter_threads(1)?;
    let builder = builder.with_intra_op_spinning(false)?.with_inter_op_spinning(false)?;
    // A blank stream or tiny weights must not take several times as long.
    let builder = builder.with_flush_to_zero()?;
    #[cfg(feature = "cuda")]
    let builder = match &place.machine {
        Some(machine) if provider(place).is_cuda() => {
            builder.with_execution_providers([cuda(machine.as_ref(), place.graph)])?
        }
        _ => builder,
    };
    Ok(builder)
}

/// ONNX Runtime's CUDA provider on the machine's stream.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
fn cuda(machine: &dyn crate::cuda::Machine, graph: bool) -> ort::ep::ExecutionProviderDispatch {
    // Ten bits of mantissa would not reproduce the CPU's embeddings.
    let provider = ort::ep::CUDA::default().with_device_id(machine.ordinal() as i32).with_tf32(false);
    // ONNX Runtime's own choice is to time every algorithm, which may end with another one in the next process: other bits.
    let provider =
        provider.with_conv_algorithm_search(ort::ep::cuda::ConvAlgorithmSearch::Heuristic).with_cuda_graph(graph);
    // SAFETY: the encoder keeps the machine, and so its stream, until after its session.
    let provider = unsafe { provider.with_compute_stream(machine.stream().cast()) };
    provider.build().error_on_failure()
}

/// Memory of the device, for a session that runs there.
pub(super) fn allocator(session: &Session, place: &Place) -> ort::Result<Option<Allocator>> {
    let Some(machine) = place.machine.as_ref().filter(|_| provider(place).is_cuda()) else { return Ok(None) };
    let (ordinal, kind, of) = (machine.ordinal() as i32, AllocatorType::Device, MemoryType::Default);
    Allocator::new(session, MemoryInfo::new(AllocationDevice::CUDA, ordinal, kind, of)?).map(Some)
}

/// A CUDA session that did not open.
pub(super) fn device_error(model: &str, runtime: &Runtime, error: &ort::Error) -> EncodeError {
    EncodeError::Device { cause: format!("{model}, with {}: {}: {REMEDY}", runtime.path.display(), error.message()) }
}
