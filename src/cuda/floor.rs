//! The time a device needs for empty work: the lower bound that a bench compares real work with.
//!
//! Why it exists: launch time and memory bandwidth differ between devices, so they are measured where the bench runs. What it must
//! never do: run while frames are decoded.

use std::sync::Arc;

use crate::frame::PixelMemory;

use super::{DeviceMemory, Fault, HostMemory, Launch, Machine, Program, PulseArgument};

/// Values that [`Copying`] copies: more than the caches of any GPU hold.
const VALUES: usize = 32 << 20;

/// `launches` kernels that do nothing, as one program.
///
/// # Errors
/// The device's error.
pub fn nothing(machine: &Arc<dyn Machine>, launches: usize) -> Result<Box<dyn Program>, Fault> {
    let argument = PulseArgument { sink: 0, rounds: 0, pad: 0 };
    machine.program(&vec![Launch::new("pulse", 1, 0); launches.max(1)], bytemuck::bytes_of(&argument))
}

/// A kernel that reads `from`, page-locked memory of the host, where it lies, and writes it to `to`, which has as much room.
///
/// # Errors
/// The device's error.
pub fn reading(machine: &Arc<dyn Machine>, from: &HostMemory, to: &DeviceMemory) -> Result<Box<dyn Program>, Fault> {
    let values = from.bytes().len() / size_of::<f32>();
    let argument = CopyArgument { from: from.address(), to: to.address(), values: values as i32, pad: 0 };
    machine.program(&[Launch::over("copy", values, 0)], bytemuck::bytes_of(&argument))
}

/// Argument of the kernel `copy`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct CopyArgument {
    from: u64,
    to: u64,
    values: i32,
    pad: i32,
}

/// A copy within the device's memory.
pub struct Copying {
    program: Box<dyn Program>,
    _memory: [DeviceMemory; 2],
}

impl Copying {
    /// Bytes read and written by one run.
    pub const BYTES_MOVED: usize = 2 * VALUES * size_of::<f32>();

    /// Takes memory for both sides.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn new(machine: &Arc<dyn Machine>) -> Result<Self, Fault> {
        let bytes = VALUES * size_of::<f32>();
        let memory = [DeviceMemory::new(machine, bytes)?, DeviceMemory::new(machine, bytes)?];
        let argument =
            CopyArgument { from: memory[0].address(), to: memory[1].address(), values: VALUES as i32, pad: 0 };
        let program = machine.program(&[Launch::over("copy", VALUES, 0)], bytemuck::bytes_of(&argument))?;
        Ok(Self { program, _memory: memory })
    }

    /// Starts one copy on the device.
    ///
    /// # Errors
    /// The device's error.
    pub fn launch(&self) -> Result<(), Fault> {
        self.program.launch()
    }
}
