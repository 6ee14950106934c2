//! Memory of a device, and memory shared by device and host, freed on drop.
//!
//! Why it exists: addresses are numbers; here they have an owner and a length. What it must never do: return a reference to memory
//! that the device may be writing. Shared memory is read and written by copies, between runs.

#![allow(unsafe_code)]

use std::sync::Arc;

use bytemuck::Pod;

use super::{Fault, Machine};
use crate::frame::PixelMemory;

/// Memory of a device.
pub struct DeviceMemory {
    machine: Arc<dyn Machine>,
    address: u64,
    bytes: usize,
}

impl DeviceMemory {
    /// Allocates `bytes` (at least one), all 0.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn new(machine: &Arc<dyn Machine>, bytes: usize) -> Result<Self, Fault> {
        let bytes = bytes.max(1);
        Ok(Self { machine: machine.clone(), address: machine.allocate(bytes)?, bytes })
    }

    /// Allocates memory for `values` and copies them into it.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn of<T: Pod>(machine: &Arc<dyn Machine>, values: &[T]) -> Result<Self, Fault> {
        let memory = Self::new(machine, size_of_val(values))?;
        memory.fill(values)?;
        Ok(memory)
    }

    /// Its address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Overwrites its beginning.
    ///
    /// # Errors
    /// The device's error.
    ///
    /// # Panics
    /// When there are more values than it holds: a defect of the caller.
    pub fn fill<T: Pod>(&self, values: &[T]) -> Result<(), Fault> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert!(bytes.len() <= self.bytes, "{} bytes into {}", bytes.len(), self.bytes);
        self.machine.upload(self.address, bytes)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        self.machine.free(self.address);
    }
}

/// Page-locked memory of the host that the device reads and writes as well.
pub struct HostMemory {
    machine: Arc<dyn Machine>,
    address: u64,
    bytes: usize,
}

impl HostMemory {
    /// Allocates `bytes` (at least one), all 0, aligned to 64.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn new(machine: &Arc<dyn Machine>, bytes: usize) -> Result<Self, Fault> {
        let bytes = bytes.max(1);
        Ok(Self { machine: machine.clone(), address: machine.allocate_host(bytes)?, bytes })
    }

    /// Its address on device and host.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Copies a value out that lies `at` bytes behind the beginning. Only between runs: what the device writes meanwhile is torn.
    ///
    /// # Panics
    /// When it does not lie within: a defect of the caller.
    pub fn get<T: Pod>(&self, at: usize) -> T {
        assert!(at + size_of::<T>() <= self.bytes, "outside of {} bytes", self.bytes);
        // SAFETY: the value lies within memory that `allocate_host` gave and that lives as long as `self`; any bytes are a
        // `Pod`, and an unaligned read asks for no alignment.
        unsafe { std::ptr::read_unaligned((self.address as usize + at) as *const T) }
    }

    /// Copies values out that lie `at` bytes behind the beginning. Only between runs.
    ///
    /// # Panics
    /// When they do not lie within: a defect of the caller.
    pub fn copy_to<T: Pod>(&self, at: usize, into: &mut [T]) {
        assert!(at + size_of_val(into) <= self.bytes, "outside of {} bytes", self.bytes);
        let into: &mut [u8] = bytemuck::cast_slice_mut(into);
        // SAFETY: as in `get`; the two do not overlap, because nobody else has a reference to this memory.
        unsafe {
            std::ptr::copy_nonoverlapping((self.address as usize + at) as *const u8, into.as_mut_ptr(), into.len())
        }
    }

    /// Copies a value in. Only between runs.
    ///
    /// # Panics
    /// When it does not lie within: a defect of the caller.
    pub fn put<T: Pod>(&mut self, at: usize, value: T) {
        assert!(at + size_of::<T>() <= self.bytes, "outside of {} bytes", self.bytes);
        // SAFETY: as in `get`, and `&mut self` keeps others on this side away.
        unsafe { std::ptr::write_unaligned((self.address as usize + at) as *mut T, value) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        self.machine.free_host(self.address);
    }
}

impl PixelMemory for HostMemory {
    fn bytes(&self) -> &[u8] {
        // SAFETY: memory of this length that lives as long as `self`. As pixel memory the device only ever reads it.
        unsafe { std::slice::from_raw_parts(self.address as usize as *const u8, self.bytes) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only one. The device reads a frame only while its caller waits in
        // `Machine::run`, which borrows it.
        unsafe { std::slice::from_raw_parts_mut(self.address as usize as *mut u8, self.bytes) }
    }
}
