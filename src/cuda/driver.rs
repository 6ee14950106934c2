//! A GPU through the CUDA driver, which is loaded on first use: a build with this module also runs on machines without a GPU.
//!
//! Why it exists: it is the [`Machine`] of a rig. What it must never do: wait for ever. A driver's own waits have no end when a device
//! hangs; so the host looks until a deadline, and asks a device that is lost for nothing more, not even to take memory back.
//!
//! Not yet run on a GPU. The tests run it with a driver that is the CPU behind it (`tests/driver.rs`), stricter than any device.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};

use super::card::{Card, Spare};
use super::pool::Pool;
use super::{Answer, Fault, Launch, Machine, Program, THREADS};

/// `CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP`: for every context, and seen by the device.
const HOST_MEMORY: u32 = 1 | 2;
/// Longest wait for the device. A frame takes well under a millisecond; the first one after a pause, or while another program has the
/// device, a few.
const DEADLINE: Duration = Duration::from_secs(1);
/// Looks at a word before the driver is asked whether the device has failed: some ten microseconds.
const LOOKS: u32 = 300;

/// A stream of the CUDA driver.
pub type StreamHandle = *mut c_void;

/// Opens a device: a stream of its own on a context and kernels that a process has once for all machines of this device.
///
/// # Errors
/// What is missing and what to do.
pub fn open(ordinal: usize) -> Result<Arc<dyn Machine>, Fault> {
    let card = Card::take(ordinal)?;
    card.bind("making a stream")?;
    let stream = card.context.new_stream().map_err(|e| card.fault("making a stream", e))?;
    Ok(Arc::new(Gpu(Arc::new(Held { card, stream: Some(stream), memory: Mutex::default() }))))
}

struct Gpu(Arc<Held>);

/// What programs need to live.
struct Held {
    card: Arc<Card>,
    /// `None` while it is being dropped.
    stream: Option<Arc<CudaStream>>,
    /// Memory that this machine lends, and what was given back to it. Its own stream may still be writing there, so nobody else gets
    /// it before that has ended.
    memory: Mutex<Spare>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.wait("giving it back").is_ok() {
            let memory = self.memory.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut spare = self.card.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.device.absorb(&mut memory.device);
            spare.host.absorb(&mut memory.host);
        } else if self.card.is_lost() {
            // A driver waits for the device before it destroys anything.
            std::mem::forget(self.stream.take());
        }
    }
}

impl Held {
    fn bind(&self, doing: &'static str) -> Result<(), Fault> {
        self.card.bind(doing)
    }

    fn fault(&self, doing: &'static str, error: DriverError) -> Fault {
        self.card.fault(doing, error)
    }

    fn raw(&self) -> sys::CUstream {
        self.stream.as_ref().map_or(std::ptr::null_mut(), |stream| stream.cu_stream())
    }

    /// Has everything on the stream been done? Never waits.
    fn is_done(&self, doing: &'static str) -> Result<bool, Fault> {
        // SAFETY: the stream is alive as long as `self`.
        match unsafe { sys::cuStreamQuery(self.raw()) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => status.result().map(|()| true).map_err(|e| self.fault(doing, e)),
        }
    }

    /// Waits until everything on the stream was done, or until [`DEADLINE`].
    fn wait(&self, doing: &'static str) -> Result<(), Fault> {
        self.bind(doing)?;
        let began = Instant::now();
        while !self.is_done(doing)? {
            self.unless_late(began, doing)?;
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Waits until `answer` was written. The word is looked at far more often than the driver is asked, which takes a lock.
    fn wait_for(&self, answer: Answer, doing: &'static str) -> Result<(), Fault> {
        // SAFETY: the caller answers for the address: eight aligned bytes of page-locked memory that live longer than this call. The
        // device writes them whole, and nobody reads or writes them otherwise meanwhile.
        let word = unsafe { AtomicU64::from_ptr(answer.address as usize as *mut u64) };
        let began = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if word.load(Ordering::Acquire) == answer.value {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            if self.is_done(doing)? {
                let found = word.load(Ordering::Acquire);
                if found == answer.value {
                    return Ok(());
                }
                let cause = format!("the device answered for run {found}, not for {}", answer.value);
                return Err(Fault { device: self.card.name.clone(), doing, cause });
            }
            self.unless_late(began, doing)?;
        }
    }

    /// An error once the deadline is over; the device is lost then.
    fn unless_late(&self, began: Instant, doing: &'static str) -> Result<(), Fault> {
        if began.elapsed() < DEADLINE {
            return Ok(());
        }
        self.card.lose();
        let cause = format!(
            "the device did not answer within {} ms: `nvidia-smi` and `dmesg` (Xid) may say why",
            DEADLINE.as_millis()
        );
        Err(Fault { device: self.card.name.clone(), doing, cause })
    }

    /// Captures what `work` puts on the stream.
    fn capture(self: &Arc<Self>, work: impl FnOnce() -> Result<(), Fault>) -> Result<Graph, Fault> {
        let doing = "capturing the kernels";
        // Only this thread's calls are watched: another one may be loading a model meanwhile.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive and nobody else captures it: programs are made by the owner of the machine.
        unsafe { result::stream::begin_capture(self.raw(), mode) }.map_err(|e| self.fault(doing, e))?;
        let recorded = work();
        // SAFETY: as above; ended even if something failed, else the stream stays in capture.
        let captured = unsafe { result::stream::end_capture(self.raw()) };
        let captured = captured.map_err(|e| self.fault(doing, e)).map(|graph| Captured { held: self.clone(), graph });
        recorded?;
        captured?.instantiate()
    }

    /// Memory from what lies ready here, else from what lies ready on the card, else from the driver.
    fn take(
        &self,
        bytes: usize,
        of: fn(&mut Spare) -> &mut Pool,
        fresh: impl Fn() -> Result<u64, Fault>,
    ) -> Result<u64, Fault> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spare = self.card.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = of(&mut memory).take(bytes) {
            return Ok(address);
        }
        if let Some(address) = of(&mut memory).take_from(of(&mut spare), bytes) {
            return Ok(address);
        }
        let address = fresh().or_else(|_| {
            // What lies ready in other sizes may be what is missing.
            memory.release();
            spare.release();
            fresh()
        })?;
        of(&mut memory).lend(address, bytes);
        Ok(address)
    }

    fn give_back(&self, address: u64, of: fn(&mut Spare) -> &mut Pool) {
        of(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner)).give_back(address);
    }

    /// The kernels of a program, loaded: the driver loads lazily, and may not while a stream is captured.
    fn functions(&self, launches: &[Launch]) -> Result<Vec<sys::CUfunction>, Fault> {
        use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NUM_REGS;
        let one = |launch: &Launch| {
            let name = CString::new(launch.kernel).unwrap_or_default();
            // SAFETY: the module is loaded as long as `self` lives; asking for an attribute loads the function.
            unsafe {
                let function = result::module::get_function(self.card.module, name)?;
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
        &self.0.card.name
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        let doing = "taking memory";
        self.0.bind(doing)?;
        // SAFETY: the context is bound.
        let fresh = || unsafe { result::malloc_sync(bytes) }.map_err(|e| self.0.fault(doing, e));
        let address = self.0.take(bytes, |spare| &mut spare.device, fresh)?;
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
        self.0.give_back(address, |spare| &mut spare.device);
    }

    fn allocate_host(&self, bytes: usize) -> Result<u64, Fault> {
        let doing = "taking page-locked memory";
        self.0.bind(doing)?;
        // SAFETY: the context is bound.
        let fresh = || unsafe { result::malloc_host(bytes, HOST_MEMORY) }.map_err(|e| self.0.fault(doing, e));
        let address = self.0.take(bytes, |spare| &mut spare.host, || fresh().map(|pointer| pointer as u64))?;
        // Memory that was given back may still be written by what its owner had asked for.
        if let Err(fault) = self.0.wait(doing) {
            self.free_host(address);
            return Err(fault);
        }
        // SAFETY: memory of at least this length, which nobody else knows of.
        unsafe { std::ptr::write_bytes(address as usize as *mut u8, 0, bytes) };
        Ok(address)
    }

    fn free_host(&self, address: u64) {
        self.0.give_back(address, |spare| &mut spare.host);
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
        let held = &self.0;
        held.bind("capturing the kernels")?;
        let functions = held.functions(launches)?;
        Ok(Box::new(held.capture(|| held.record(launches, &functions, argument))?))
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<(), Fault>) -> Result<Box<dyn Program>, Fault> {
        // What was asked before is no part of it.
        self.0.wait("recording")?;
        Ok(Box::new(self.0.capture(work)?))
    }

    fn run(&self, frame: &[u8], to: u64, program: &dyn Program, answer: Answer) -> Result<(), Fault> {
        let doing = "copying a frame";
        self.0.bind(doing)?;
        // SAFETY: the caller answers for the address; `frame` is borrowed until the kernels behind the copy have answered. If they do
        // not, the device is lost, and page-locked memory stays where it is.
        unsafe { result::memcpy_htod_async(to, frame, self.0.raw()) }.map_err(|e| self.0.fault(doing, e))?;
        if let Err(fault) = program.launch() {
            // The copy may still be reading `frame`.
            let _ = self.0.wait(doing);
            return Err(fault);
        }
        self.0.wait_for(answer, "running the kernels")
    }

    fn wait_for(&self, answer: Answer) -> Result<(), Fault> {
        self.0.bind("waiting for it")?;
        self.0.wait_for(answer, "waiting for it")
    }

    fn wait(&self) -> Result<(), Fault> {
        self.0.wait("waiting for it")
    }

    fn is_lost(&self) -> bool {
        self.0.card.is_lost()
    }

    fn stream(&self) -> *mut c_void {
        self.0.raw().cast()
    }

    fn ordinal(&self) -> usize {
        self.0.card.ordinal
    }
}
