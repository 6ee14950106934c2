//! What preprocessing and encoder ask of a GPU, and the memory they share with it.
//!
//! Why it exists: kernel, argument and number of blocks form one description, [`Launch`]; a device runs it, and so does the tests'
//! emulator on machines without a GPU. The kernels are in `kernels.cu`.
//! What it must never do: know what a frame is, or choose a device by itself.

#[cfg(feature = "cuda")]
mod card;
#[cfg(feature = "cuda")]
mod driver;
pub mod floor;
mod memory;
#[cfg(feature = "cuda")]
mod pool;

use std::fmt;
use std::sync::Arc;

use crate::sys::exit::{ExitCode, HasExitCode};

#[cfg(feature = "cuda")]
pub use card::{Found, find, versions};
#[cfg(feature = "cuda")]
pub use driver::{StreamHandle, open};
pub use memory::{DeviceMemory, HostMemory};

/// The kernels as PTX, made ahead of time by `scripts/make-ptx.sh`: the driver turns it into its device's machine code, so that a
/// rig needs a driver and nothing else for preprocessing. It does so once for each device and version of the driver, which keeps the
/// result on disk; machine code for every architecture would be megabytes in the program to spare one start a fraction of a second.
pub const KERNELS_PTX: &str = include_str!("kernels.ptx");

/// Threads of a block; every kernel is written for this many.
pub const THREADS: u32 = 256;

/// A failure of a device, in its driver's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device}: {doing}: {cause}")]
pub struct Fault {
    /// Which device.
    pub device: String,
    /// What was being done.
    pub doing: &'static str,
    /// The driver's message, and what to do where that is known.
    pub cause: String,
}

impl HasExitCode for Fault {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

/// One kernel of a program. All kernels of a program get the same argument, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its name in `kernels.cu`.
    pub kernel: &'static str,
    /// Blocks of [`THREADS`] threads.
    pub blocks: u32,
    /// Shared memory of a block, bytes.
    pub shared_bytes: u32,
}

impl Launch {
    /// A launch of `blocks` blocks, at least one.
    pub fn new(kernel: &'static str, blocks: usize, shared_bytes: usize) -> Self {
        Self { kernel, blocks: blocks.max(1) as u32, shared_bytes: shared_bytes as u32 }
    }

    /// A launch with one thread for each of `items`.
    pub fn over(kernel: &'static str, items: usize, shared_bytes: usize) -> Self {
        Self::new(kernel, items.div_ceil(THREADS as usize), shared_bytes)
    }
}

/// A number that the last kernel of a program writes into memory which the host sees: what the host looks at while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where it is written, in memory of [`Machine::allocate_host`], eight bytes.
    pub address: u64,
    /// The number of this run; the one there now is another.
    pub value: u64,
}

/// Launches that were made ready once and run in their order.
pub trait Program: Send {
    /// Hands the program to the device; returns before it has run.
    ///
    /// # Errors
    /// The device's error.
    fn launch(&self) -> Result<(), Fault>;
}

/// A device and one stream on it: everything asked of it happens in the order in which it was asked.
///
/// Addresses are the device's own. The caller that puts them into a program's argument is responsible for them: a wrong one is a
/// [`Fault`] on a GPU, and ends the process in the emulator.
pub trait Machine: Send + Sync {
    /// Name, number and compute capability, for people.
    fn name(&self) -> &str;

    /// Memory of the device, every byte 0.
    ///
    /// # Errors
    /// Not enough memory.
    fn allocate(&self, bytes: usize) -> Result<u64, Fault>;

    /// Frees memory of [`Machine::allocate`]. A failure has no consequence and is not reported.
    fn free(&self, address: u64);

    /// Page-locked memory of the host that the device reads and writes at the same address, every byte 0.
    ///
    /// # Errors
    /// Not enough memory.
    fn allocate_host(&self, bytes: usize) -> Result<u64, Fault>;

    /// Frees memory of [`Machine::allocate_host`].
    fn free_host(&self, address: u64);

    /// Copies to the device; done when it returns.
    ///
    /// # Errors
    /// The device's error.
    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Copies from the device, after everything that was asked before; done when it returns.
    ///
    /// # Errors
    /// The device's error.
    fn download(&self, from: u64, into: &mut [u8]) -> Result<(), Fault>;

    /// Makes a program ready. `argument` is copied.
    ///
    /// # Errors
    /// A missing kernel, or the device's error.
    fn program(&self, launches: &[Launch], argument: &[u8]) -> Result<Box<dyn Program>, Fault>;

    /// Makes a program of what `work` asks of the stream by other means, such as a library: it runs again with the same memory.
    ///
    /// # Errors
    /// What `work` says, or the device's error: not all work can be recorded.
    fn record(&self, work: &mut dyn FnMut() -> Result<(), Fault>) -> Result<Box<dyn Program>, Fault> {
        let _ = work;
        let cause = "this device cannot record what a library asks of it".to_owned();
        Err(Fault { device: self.name().to_owned(), doing: "recording", cause })
    }

    /// Copies `frame` to the device, runs the program, and waits for both. Fastest from memory of [`Machine::allocate_host`].
    ///
    /// # Errors
    /// As [`Machine::wait_for`].
    fn run(&self, frame: &[u8], to: u64, program: &dyn Program, answer: Answer) -> Result<(), Fault>;

    /// Waits until a program that was launched before has answered.
    ///
    /// # Errors
    /// The device's error, another answer, or none in time. A device that did not answer in time is lost ([`Machine::is_lost`]).
    fn wait_for(&self, answer: Answer) -> Result<(), Fault>;

    /// Waits until all work is done.
    ///
    /// # Errors
    /// The device's error, or work that is not done in time.
    fn wait(&self) -> Result<(), Fault>;

    /// True once the device did not answer in time: nothing is asked of it any more, and what lies there is not given back, because
    /// a driver waits for the device before it frees anything.
    fn is_lost(&self) -> bool {
        false
    }

    /// The stream, for a library that joins it; null where there is none.
    fn stream(&self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    /// Number of the device.
    fn ordinal(&self) -> usize {
        0
    }
}

impl fmt::Debug for dyn Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A short kernel that keeps an idle device from lowering its clock.
pub struct Pulse {
    program: Box<dyn Program>,
    _sink: DeviceMemory,
}

/// Argument of the kernel `pulse`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PulseArgument {
    sink: u64,
    rounds: i32,
    pad: i32,
}

/// Rounds of a pulse; some four cycles each, so about ten microseconds at the clock of a busy device.
const PULSE_ROUNDS: i32 = 4000;

impl Pulse {
    /// Makes it ready.
    ///
    /// # Errors
    /// The device's error.
    pub fn new(machine: &Arc<dyn Machine>) -> Result<Self, Fault> {
        let sink = DeviceMemory::new(machine, size_of::<u32>())?;
        let argument = PulseArgument { sink: sink.address(), rounds: PULSE_ROUNDS, pad: 0 };
        let program = machine.program(&[Launch::new("pulse", 1, 0)], bytemuck::bytes_of(&argument))?;
        Ok(Self { program, _sink: sink })
    }

    /// One pulse; returns before it has run. A failure recurs, and is reported, when it matters.
    pub fn beat(&self) {
        let _ = self.program.launch();
    }
}
