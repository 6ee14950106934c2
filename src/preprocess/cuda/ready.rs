//! The tensor that lies ready on a device for the encoder.
//!
//! Why it exists: it stays there; only who needs its values on the host copies them. What it must never do: own the memory.

use std::fmt;
use std::sync::Arc;

use crate::cuda::Machine;
use crate::frame::DeviceTensor;

/// The tensor of the last full group.
pub(super) struct Ready {
    pub machine: Arc<dyn Machine>,
    pub address: u64,
    pub values: usize,
    pub finite: bool,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values on {}", self.values, self.machine.name())
    }
}

impl DeviceTensor for Ready {
    fn address(&self) -> u64 {
        self.address
    }

    fn len(&self) -> usize {
        self.values
    }

    fn is_finite(&self) -> bool {
        self.finite
    }

    fn copy_to(&self, into: &mut [f32]) -> Result<(), String> {
        self.machine.download(self.address, bytemuck::cast_slice_mut(into)).map_err(|fault| fault.to_string())
    }
}
