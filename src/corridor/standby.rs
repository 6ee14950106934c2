//! What takes over when a device fails: preprocessing and encoder on the CPU, made ready at start.
//!
//! Why it exists: with `compute.on_device_fault` = "cpu" a lost GPU must not end an experiment; but nobody may overlook it either, so
//! it is an event, and decodes are warm-up until everything was learnt anew.
//! What it must never do: take over for anything but a device, or for another model than the one it was made for.

use crate::encode::Encoder;
use crate::frame::event::Event;
use crate::preprocess::{Preprocess, Request};

use super::shadow::Running;
use super::{Failure, Shared};

/// Another place for the model to run; afterwards, what failed.
pub struct Standby {
    /// Frame to tensor.
    pub preprocess: Box<dyn Preprocess>,
    /// Tensor to embedding.
    pub encoder: Encoder,
}

impl Failure {
    /// Is it a device that failed?
    fn is_of_a_device(&self) -> bool {
        match self {
            Self::Preprocess(error) => !error.is_survivable(),
            Self::Encode(error) => error.is_of_a_device(),
            _ => false,
        }
    }
}

impl Running<'_> {
    /// What outlives a change of place: everything else is learnt anew.
    pub(super) fn prepare_standby(&mut self, request: Request) {
        self.standby.iter_mut().for_each(|standby| standby.preprocess.request(request));
    }

    /// Goes on on the CPU after `failure` at `frame`, which is lost.
    ///
    /// # Errors
    /// The failure, when it is not of a device or nothing stands by.
    pub(super) fn fall_back(&mut self, failure: Failure, frame: u64, shared: &Shared<'_>) -> Result<(), Failure> {
        if !failure.is_of_a_device() {
            return Err(failure);
        }
        let Some(mut standby) = self.standby.take() else { return Err(failure) };
        // Rare, and the only place where the cause is still known.
        tracing::error!("frame {frame}: {failure}; the CPU takes over, and everything is learnt anew");
        std::mem::swap(self.preprocess, &mut standby.preprocess);
        std::mem::swap(self.encoder, &mut standby.encoder);
        if let Some(shadow) = self.shadow.take() {
            shadow.give_up(shared);
        }
        // Kept to the end of the run: to free what lies on a lost device may take long.
        self.spent = Some(standby);
        shared.emit(Event::DeviceFault { frame });
        Ok(())
    }
}
