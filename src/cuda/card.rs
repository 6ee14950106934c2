//! What one GPU has once in a process, however many machines are opened on it: driver, context, kernels, and memory that was given back.
//!
//! Why it exists: a model that is loaded while another one decodes must not load the kernels again, nor ask the driver for memory that
//! another model has given back: the driver stops the whole device for both. What it must never do: touch a stream.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};

use super::pool::Pool;
use super::{Fault, KERNELS_PTX};

/// Oldest driver that reads the PTX of [`KERNELS_PTX`], as people know it.
const DRIVER_MIN: &str = "580";

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
pub(super) fn present() -> Result<(), Fault> {
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

/// A device with its context and kernels.
pub(super) struct Card {
    pub(super) context: Arc<CudaContext>,
    pub(super) module: sys::CUmodule,
    pub(super) name: String,
    pub(super) ordinal: usize,
    /// Memory that machines have given back.
    pub(super) spare: Mutex<Spare>,
    lost: AtomicBool,
}

/// Memory of the device, and page-locked memory of the host.
#[derive(Default)]
pub(super) struct Spare {
    pub(super) device: Pool,
    pub(super) host: Pool,
}

impl Spare {
    /// Gives what is free back to the driver, which waits for the device. The context is bound.
    pub(super) fn release(&mut self) {
        for address in self.device.drain() {
            // SAFETY: from the driver, once: the pool forgets it. Whoever had it gave it back.
            let _ = unsafe { result::free_sync(address) };
        }
        for address in self.host.drain() {
            // SAFETY: as above.
            let _ = unsafe { result::free_host(address as usize as *mut c_void) };
        }
    }
}

// SAFETY: the driver's contexts and modules may be used from every thread; each use binds the context first.
unsafe impl Send for Card {}
// SAFETY: as above; nothing in it is changed after it was made but what has a lock.
unsafe impl Sync for Card {}

/// The cards in use.
static CARDS: Mutex<Vec<Weak<Card>>> = Mutex::new(Vec::new());

impl Card {
    /// The device, as it is in use already, or opened.
    pub(super) fn take(ordinal: usize) -> Result<Arc<Self>, Fault> {
        let mut cards = CARDS.lock().unwrap_or_else(PoisonError::into_inner);
        cards.retain(|card| card.strong_count() > 0);
        if let Some(card) = cards.iter().filter_map(Weak::upgrade).find(|card| card.ordinal == ordinal) {
            return Ok(card);
        }
        let card = Arc::new(Self::open(ordinal)?);
        cards.push(Arc::downgrade(&card));
        Ok(card)
    }

    fn open(ordinal: usize) -> Result<Self, Fault> {
        present()?;
        let named = format!("CUDA device {ordinal}");
        let context = CudaContext::new(ordinal).map_err(|e| fault(&named, "opening it", e))?;
        // We order streams ourselves. With it, the second stream of a context would wait for the whole device.
        // SAFETY: nothing is allocated or launched through `cudarc`'s own slices, which these events would protect.
        unsafe { context.disable_event_tracking() };
        let capability = context.compute_capability().map_err(|e| fault(&named, "asking it", e))?;
        let name = context.name().map_err(|e| fault(&named, "asking it", e))?;
        let name = format!("CUDA device {ordinal}, {name} (compute capability {}.{})", capability.0, capability.1);
        let text = CString::new(KERNELS_PTX).unwrap_or_default();
        // SAFETY: a NUL-terminated text that outlives the call; the context is bound to this thread by what came before.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
        let module = module.map_err(|e| fault(&name, "loading the kernels", e))?;
        Ok(Self { context, module, name, ordinal, spare: Mutex::default(), lost: AtomicBool::new(false) })
    }

    /// Binds the context to this thread.
    pub(super) fn bind(&self, doing: &'static str) -> Result<(), Fault> {
        if self.is_lost() {
            let cause = "it did not answer before, and is not asked any more".to_owned();
            return Err(Fault { device: self.name.clone(), doing, cause });
        }
        self.context.bind_to_thread().map_err(|e| self.fault(doing, e))
    }

    pub(super) fn fault(&self, doing: &'static str, error: DriverError) -> Fault {
        fault(&self.name, doing, error)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.bind("giving it back").is_err() {
            return;
        }
        self.spare.get_mut().unwrap_or_else(PoisonError::into_inner).release();
        // SAFETY: loaded by `open` and unloaded once; whatever ran its kernels held this value, so it is gone.
        let _ = unsafe { result::module::unload(self.module) };
    }
}

pub(super) fn fault(device: &str, doing: &'static str, error: DriverError) -> Fault {
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
        match Card::take(0) {
            Ok(card) => eprintln!("skipped: this machine has {}", card.name),
            Err(fault) => {
                assert!(fault.to_string().contains(DRIVER_MIN) || fault.cause.contains("nvidia-smi"), "{fault}")
            }
        }
    }
}
