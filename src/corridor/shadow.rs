//! Another model, between two frames: it runs in the shadow of the old one until it is warm, then takes over.
//!
//! Why it exists: a model that was calibrated while the animal waits must go in without a lost frame or a silence. What it
//! must never do: touch the decode of the old model (the shadow works after that has left), free memory on the compute
//! thread (what is replaced goes back to the supervisor), or take over while it is warming up.

use crate::decoder::{DecodeError, Decoder, Step};
use crate::frame::{Decode, Frame, ModelTag, Observation, Quality, Request, Tensor};

/// A model that was loaded, checked and warmed; after the swap, the one that it replaced.
pub struct Swap {
    /// The model; its generation is above all before.
    pub(super) decoder: Decoder,
    /// It wants the preprocessing of the one that runs: that one serves both and goes over with the swap; its own stays unused and is
    /// freed with the swap.
    pub(super) shares_preprocessing: bool,
    /// How it is named in decodes, for the publish thread.
    pub(super) tag: ModelTag,
    /// What it decodes until it takes over; never published.
    trial: Decode,
}

impl Swap {
    /// `shares_preprocessing`: its preprocessing is that of the model that runs now.
    pub fn new(decoder: Decoder, shares_preprocessing: bool) -> Self {
        let (tag, trial) = (decoder.tag().clone(), decoder.new_decode());
        Self { decoder, shares_preprocessing, tag, trial }
    }
}

/// What the running model's preprocessing made of a frame.
pub(super) struct SharedInput<'a> {
    /// `None` while frames are being averaged.
    pub(super) tensor: Option<&'a Tensor<'a>>,
    pub(super) observation: &'a Observation,
}

/// A model on trial.
pub(super) struct Shadow {
    swap: Box<Swap>,
    warm: bool,
}

impl Shadow {
    pub(super) fn new(swap: Box<Swap>) -> Self {
        Self { swap, warm: false }
    }

    /// Is it ready to take over before the next frame?
    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    pub(super) fn request(&mut self, request: Request) {
        self.swap.decoder.request(request);
        self.warm &= request != Request::Reset;
    }

    /// One frame; false when the model fails and must go. `shared` is what the running model read of it.
    pub(super) fn follow(&mut self, frame: &Frame, shared: &SharedInput<'_>) -> bool {
        let Swap { decoder, shares_preprocessing, trial, .. } = &mut *self.swap;
        self.warm &= shared.observation.restart.is_none();
        let decoded = if *shares_preprocessing {
            if let Some(why) = shared.observation.restart {
                decoder.restart_window(why);
            }
            let Some(tensor) = shared.tensor else { return true };
            decoder.step_tensor(tensor, shared.observation.warming_up, trial).map_err(DecodeError::from)
        } else {
            match decoder.step(frame, trial) {
                Ok(Step::Decoded(_)) => Ok(()),
                // What is refused is counted for the running model, which saw the same frame.
                Ok(Step::Averaged | Step::NonFinite(_) | Step::Refused(_)) => return true,
                Err(error) => Err(error),
            }
        };
        match decoded {
            Ok(()) => {
                self.warm = trial.quality != Quality::Warmup;
                true
            }
            Err(error) => error.is_survivable(),
        }
    }

    /// The model, to take over or to be given up.
    pub(super) fn into_swap(self) -> Box<Swap> {
        self.swap
    }
}
