//! A GPU through the CUDA driver, which is loaded on first use: a build with this module also runs on machines without a GPU.
//!
//! Why it exists: it is the [`Machine`] of a rig. What it must never do: panic because a library is missing (`cudarc` does, so the
//! library is checked first), or allocate once its programs are made.
//!
//! Not yet run on a GPU. The tests run it with a driver that is the CPU behind it (`tests/driver.rs`), stricter than any device.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaStream};

use super::{Fault, KERNELS_PTX, Launch, Machine, Program, THREADS};

/// `CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP`: for every context, and seen by the device.
const HOST_MEMORY: u32 = 1 | 2;
/// Oldest driver that reads the PTX of [`KERNELS_PTX`], as people know it.
const DRIVER_MIN: &str = "580";

/// A stream of the CUDA driver.
pub type StreamHandle = *mut c_void;

/// A device that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number for `compute.device`.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Compute capability, such as (9, 0).
    pub capability: (i32, i32),
    /// Its memory, bytes.
    pub bytes: usize,
}

/// The version of CUDA that the driver supports, such as 13000 for 13.0.
///
/// # Errors
/// No driver, or one that cannot be asked.
pub fn versions() -> Result<i32, Fault> {
    present()?;
    let mut version = 0;
    // SAFETY: the library is there, and the pointer is that of a local.
    let status = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    status.result().map_err(|e| fault("CUDA", "asking the driver for its version", e))?;
    Ok(version)
}

/// All devices.
///
/// # Errors
/// No driver, or one that cannot be asked.
pub fn find() -> Result<Vec<Found>, Fault> {
    present()?;
    let asking = "listing devices";
    result::init().map_err(|e| fault("CUDA", asking, e))?;
    let count = result::device::get_count().map_err(|e| fault("CUDA", asking, e))?;
    (0..count).map(|ordinal| look_at(ordinal).map_err(|e| fault("CUDA", asking, e))).collect()
}

fn look_at(ordinal: i32) -> Result<Found, DriverError> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(ordinal)?;
    // SAFETY: the device was just got from the driver.
    let (bytes, capability) = unsafe {
        let capability = (result::device::get_attribute(device, MAJOR)?, result::device::get_attribute(device, MINOR)?);
        (result::device::total_mem(device)?, capability)
    };
    Ok(Found { ordinal: ordinal as usize, name: result::device::get_name(device)?, capability, bytes })
}

/// Looks for the driver's library before `cudarc` does, which panics without it.
fn present() -> Result<(), Fault> {
    // SAFETY: loads the driver's library, whose initialisers have no requirements.
    if unsafe { sys::is_culib_present() } {
        return Ok(());
    }
    let cause = format!(
        "there is no NVIDIA driver (libcuda.so.1): install one of version {DRIVER_MIN} or newer (Debian: apt install \
         nvidia-driver), or set compute.device = \"cpu\""
    );
    Err(Fault { device: "CUDA".to_owned(), doing: "loading the driver", cause })
}

/// Opens a device: context, a stream of its own, and the kernels as the driver compiled them for it.
///
/// # Errors
/// What is missing and what to do.
pub fn open(ordinal: usize) -> Result<Arc<dyn Machine>, Fault> {
    present()?;
    let named = format!("CUDA device {ordinal}");
    let context = CudaContext::new(ordinal).map_err(|e| fault(&named, "opening it", e))?;
    let capability = context.compute_capability().map_err(|e| fault(&named, "asking it", e))?;
    let name = context.name().map_err(|e| fault(&named, "asking it", e))?;
    let name = format!("CUDA device {ordinal}, {name} (compute capability {}.{})", capability.0, capability.1);
    let stream = context.new_stream().map_err(|e| fault(&name, "making a stream", e))?;
    let text = CString::new(KERNELS_PTX).unwrap_or_default();
    // SAFETY: a NUL-terminated text that outlives the call; the context is bound to this thread by what came before.
    let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
    let module = module.map_err(|e| fault(&name, "loading the kernels", e))?;
    Ok(Arc::new(Gpu(Arc::new(Held { context, stream, module, name, ordinal }))))
}

struct Gpu(Arc<Held>);

/// What programs need to live.
struct Held {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    module: sys::CUmodule,
    name: String,
    ordinal: usize,
}

// SAFETY: the driver's contexts, streams and modules may be used from every thread; each use binds the context first.
unsafe impl Send for Held {}
// SAFETY: as above; nothing in it is changed after it was made.
unsafe impl Sync for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: loaded by `open` and unloaded once; whatever ran its kernels holds this value, so it is gone.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}

impl Held {
    fn bind(&self, doing: &'static str) -> Result<(), Fault> {
        self.context.bind_to_thread().map_err(|e| self.fault(doing, e))
    }

    fn fault(&self, doing: &'static str, error: DriverError) -> Fault {
        fault(&self.name, doing, error)
    }

    fn raw(&self) -> sys::CUstream {
        self.stream.cu_stream()
    }

    fn wait(&self, doing: &'static str) -> Result<(), Fault> {
        // SAFETY: the stream is alive as long as `self`.
        unsafe { result::stream::synchronize(self.raw()) }.map_err(|e| self.fault(doing, e))
    }

    /// The kernels of a program, loaded: the driver loads lazily, and may not while a stream is captured.
    fn functions(&self, launches: &[Launch]) -> Result<Vec<sys::CUfunction>, Fault> {
        use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NUM_REGS;
        let one = |launch: &Launch| {
            let name = CString::new(launch.kernel).unwrap_or_default();
            // SAFETY: the module is loaded as long as `self` lives; asking for an attribute loads the function.
            unsafe {
                let function = result::module::get_function(self.module, name)?;
                result::function::get_function_attribute(function, CU_FUNC_ATTRIBUTE_NUM_REGS)?;
                Ok(function)
            }
        };
        let functions: Result<_, DriverError> = launches.iter().map(one).collect();
        functions.map_err(|e| self.fault("looking for a kernel", e))
    }

    /// Puts the launches on the stream, which is being captured.
    fn record(&self, launches: &[Launch], functions: &[sys::CUfunction], argument: &[u8]) -> Result<(), Fault> {
        // Eight bytes each, so that the argument is aligned as its struct is.
        let mut copy = vec![0u64; argument.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut copy)[..argument.len()].copy_from_slice(argument);
        for (launch, function) in launches.iter().zip(functions) {
            let mut parameters = [copy.as_mut_ptr().cast::<c_void>()];
            // SAFETY: every kernel takes one struct by value, which the driver copies during this call; the caller answers for
            // the addresses in it. The stream and the function belong to this context.
            unsafe {
                let (grid, block) = ((launch.blocks, 1, 1), (THREADS, 1, 1));
                result::launch_kernel(*function, grid, block, launch.shared_bytes, self.raw(), &mut parameters)
            }
            .map_err(|e| self.fault("capturing a kernel", e))?;
        }
        Ok(())
    }
}

/// A captured graph.
struct Captured {
    held: Arc<Held>,
    graph: sys::CUgraph,
}

impl Drop for Captured {
    fn drop(&mut self) {
        if self.held.bind("dropping a program").is_ok() {
            // SAFETY: made by `Gpu::program`, destroyed once.
            let _ = unsafe { result::graph::destroy(self.graph) };
        }
    }
}

impl Captured {
    fn instantiate(self) -> Result<Graph, Fault> {
        let doing = "capturing the kernels";
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is alive.
        let executable = unsafe { result::graph::instantiate(self.graph, flags) };
        let executable = executable.map_err(|e| self.held.fault(doing, e))?;
        let graph = Graph { captured: self, executable };
        let held = &graph.captured.held;
        // SAFETY: graph and stream are alive. Uploading now spares the first frame.
        unsafe { result::graph::upload(executable, held.raw()) }.map_err(|e| held.fault(doing, e))?;
        Ok(graph)
    }
}

/// An instantiated graph, and what it was made of.
struct Graph {
    captured: Captured,
    executable: sys::CUgraphExec,
}

// SAFETY: graphs may be used from every thread, by one at a time; `Program::launch` is called by the thread that owns it.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.captured.held.bind("dropping a program").is_ok() {
            // SAFETY: made by `Captured::instantiate`, destroyed once; one that still runs is destroyed when it ended.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
        }
    }
}

impl Program for Graph {
    fn launch(&self) -> Result<(), Fault> {
        let (held, doing) = (&self.captured.held, "running the kernels");
        held.bind(doing)?;
        // SAFETY: graph and stream are alive, and belong to the same context.
        unsafe { result::graph::launch(self.executable, held.raw()) }.map_err(|e| held.fault(doing, e))
    }
}

impl Machine for Gpu {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        let doing = "taking memory";
        self.0.bind(doing)?;
        // SAFETY: the context is bound.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|e| self.0.fault(doing, e))?;
        // On our stream: a memset without one may still be going on when it returns, and our stream does not wait for it.
        // SAFETY: the memory was just taken, and nobody else knows of it.
        let cleared = unsafe { result::memset_d8_async(address, 0, bytes, self.0.raw()) };
        match cleared.map_err(|e| self.0.fault(doing, e)).and_then(|()| self.0.wait(doing)) {
            Ok(()) => Ok(address),
            Err(fault) => {
                self.free(address);
                Err(fault)
            }
        }
    }

    fn free(&self, address: u64) {
        if self.0.bind("giving memory back").is_ok() {
            // SAFETY: from `allocate`, once, by the owner that drops it. The driver waits for what still runs.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn allocate_host(&self, bytes: usize) -> Result<u64, Fault> {
        let doing = "taking page-locked memory";
        self.0.bind(doing)?;
        // SAFETY: the context is bound; the memory is cleared before anybody sees it.
        unsafe {
            let pointer = result::malloc_host(bytes, HOST_MEMORY).map_err(|e| self.0.fault(doing, e))?;
            std::ptr::write_bytes(pointer.cast::<u8>(), 0, bytes);
            Ok(pointer as u64)
        }
    }

    fn free_host(&self, address: u64) {
        if self.0.bind("giving memory back").is_ok() {
            // SAFETY: from `allocate_host`, once, by the owner that drops it.
            let _ = unsafe { result::free_host(address as usize as *mut c_void) };
        }
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        let doing = "copying to it";
        self.0.bind(doing)?;
        // SAFETY: the caller answers for the address; `bytes` is borrowed until the copy is done.
        unsafe { result::memcpy_htod_async(to, bytes, self.0.raw()) }.map_err(|e| self.0.fault(doing, e))?;
        self.0.wait(doing)
    }

    fn download(&self, from: u64, into: &mut [u8]) -> Result<(), Fault> {
        let doing = "copying from it";
        self.0.bind(doing)?;
        // SAFETY: the caller answers for the address; `into` is borrowed until the copy is done.
        unsafe { result::memcpy_dtoh_async(into, from, self.0.raw()) }.map_err(|e| self.0.fault(doing, e))?;
        self.0.wait(doing)
    }

    fn program(&self, launches: &[Launch], argument: &[u8]) -> Result<Box<dyn Program>, Fault> {
        let (held, doing) = (&self.0, "capturing the kernels");
        held.bind(doing)?;
        let functions = held.functions(launches)?;
        // Only this thread's calls are watched: another one may be loading a model meanwhile.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive and nobody else captures it: programs are made by the owner of the machine.
        unsafe { result::stream::begin_capture(held.raw(), mode) }.map_err(|e| held.fault(doing, e))?;
        let recorded = held.record(launches, &functions, argument);
        // SAFETY: as above; ended even if a launch failed, else the stream stays in capture.
        let captured = unsafe { result::stream::end_capture(held.raw()) };
        let captured = captured.map_err(|e| held.fault(doing, e)).map(|graph| Captured { held: held.clone(), graph });
        recorded?;
        Ok(Box::new(captured?.instantiate()?))
    }

    fn run(&self, frame: &[u8], to: u64, program: &dyn Program) -> Result<(), Fault> {
        let doing = "copying a frame";
        self.0.bind(doing)?;
        // SAFETY: the caller answers for the address; `frame` is borrowed until the stream was waited for.
        unsafe { result::memcpy_htod_async(to, frame, self.0.raw()) }.map_err(|e| self.0.fault(doing, e))?;
        let launched = program.launch();
        // Waited for in every case: the copy may still be reading `frame`.
        let waited = self.0.wait("running the kernels");
        launched.and(waited)
    }

    fn wait(&self) -> Result<(), Fault> {
        self.0.bind("waiting for it")?;
        self.0.wait("waiting for it")
    }

    fn stream(&self) -> *mut c_void {
        self.0.raw().cast()
    }

    fn ordinal(&self) -> usize {
        self.0.ordinal
    }
}

fn fault(device: &str, doing: &'static str, error: DriverError) -> Fault {
    let words = error.error_string().map(CStr::to_string_lossy).unwrap_or_default().into_owned();
    let name = error.error_name().map(CStr::to_string_lossy).unwrap_or_default().into_owned();
    let remedy = remedy(error.0).map(|text| format!(": {text}")).unwrap_or_default();
    Fault { device: device.to_owned(), doing, cause: format!("{words} ({name}){remedy}") }
}

/// What a user can do, where that is known.
fn remedy(status: CUresult) -> Option<String> {
    use CUresult::{
        CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_PTX, CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_DEVICE,
        CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
    };
    let text = match status {
        CUDA_ERROR_NO_DEVICE => {
            "`nvidia-smi -L` lists the GPUs; is CUDA_VISIBLE_DEVICES set, or the container without them?"
        }
        CUDA_ERROR_INVALID_DEVICE => "`nvidia-smi -L` lists the GPUs with the numbers for compute.device",
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            return Some(format!(
                "the driver is too old, or was updated without a restart; {DRIVER_MIN} or newer is needed"
            ));
        }
        CUDA_ERROR_INVALID_PTX | CUDA_ERROR_NO_BINARY_FOR_GPU => {
            "the GPU must have compute capability 7.5 or newer (Turing)"
        }
        CUDA_ERROR_OUT_OF_MEMORY => "`nvidia-smi` shows who uses its memory",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_is_told_what_to_install() {
        match open(0) {
            Ok(machine) => eprintln!("skipped: this machine has {}", machine.name()),
            Err(fault) => {
                assert!(fault.to_string().contains(DRIVER_MIN) || fault.cause.contains("nvidia-smi"), "{fault}")
            }
        }
    }
}
