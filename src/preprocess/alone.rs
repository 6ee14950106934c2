//! One kernel of a frame by itself, for a bench that times it.
//!
//! Why it exists: which kernel takes how long is known to nobody but the device. What it must never do: run while frames are decoded; what
//! was learnt of the animal is worth nothing afterwards.

use std::sync::Arc;

use crate::cuda::{Fault, Launch, Machine, Program};

/// A kernel, some times over.
pub struct KernelAlone {
    /// Its name.
    pub name: &'static str,
    program: Box<dyn Program>,
    machine: Arc<dyn Machine>,
}

impl KernelAlone {
    pub(super) fn new(
        machine: &Arc<dyn Machine>,
        launch: Launch,
        times: usize,
        argument: &[u8],
    ) -> Result<Self, Fault> {
        let program = machine.program(&vec![launch; times], argument)?;
        Ok(Self { name: launch.kernel, program, machine: machine.clone() })
    }

    /// Runs it and waits for it.
    ///
    /// # Errors
    /// The device's error.
    pub fn run(&self) -> Result<(), Fault> {
        self.program.launch()?;
        self.machine.wait()
    }
}
