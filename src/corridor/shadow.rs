//! Another model, between two frames: it runs in the shadow of the old one until it is warm, then takes over.
//!
//! Why it exists: a model that was calibrated while the animal waits must go in without a lost frame or a silence. What it
//! must never do: touch the decode of the old model (the shadow works after that has left), free memory on the compute
//! thread (what is replaced goes back to the supervisor), take over while it is warming up, or be on trial for ever: who waits
//! for it can give no other model.

use crate::decoder::{DecodeError, Decoder, Step};
use crate::frame::event::TrialFault;
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

/// Frames that a model on trial may fail to decode although the running one decodes them. A network that returns NaN for a frame
/// of light returns it for the next one as well.
const NON_FINITE_MAX: u64 = 8;
/// Frames beyond its own warm-up, four times over, after which a model on trial is given up: some are always lost to a reset.
const PATIENCE_FRAMES: u64 = 64;

/// What the running model made of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// A decode, or a part of an average: another model can be expected to take the frame as well.
    Well,
    /// No decode; what fails here need not be the fault of the model on trial.
    Not,
}

/// What the running model's preprocessing made of a frame.
pub(super) struct SharedInput<'a> {
    /// `None` while frames are being averaged.
    pub(super) tensor: Option<&'a Tensor<'a>>,
    pub(super) observation: &'a Observation,
}

/// What a model on trial made of a frame.
enum Tried {
    Decoded,
    NonFinite,
    Nothing,
}

/// A model on trial.
pub(super) struct Shadow {
    swap: Box<Swap>,
    warm: bool,
    /// Frames on which it was tried, since the last reset.
    tried: u64,
    /// Of them, at most.
    tried_max: u64,
    /// Frames that it could not decode.
    non_finite: u64,
}

impl Shadow {
    pub(super) fn new(swap: Box<Swap>) -> Self {
        let warm_up = swap.decoder.model().manifest.stream_warm_up_frames() as u64;
        Self { swap, warm: false, tried: 0, tried_max: 4 * warm_up + PATIENCE_FRAMES, non_finite: 0 }
    }

    /// Is it ready to take over before the next frame?
    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    pub(super) fn request(&mut self, request: Request) {
        if request.begins_animal() {
            (self.warm, self.tried) = (false, 0);
        }
        // Preprocessing of its own that is not used must not take memory for an animal.
        let idle = self.swap.shares_preprocessing && request.begins_animal();
        self.swap.decoder.request(if idle { Request::Reset } else { request });
    }

    /// One frame, of which the running model made `ran`. `shared` is what that one read of it.
    ///
    /// # Errors
    /// Why the model must go.
    pub(super) fn follow(&mut self, frame: &Frame, shared: &SharedInput<'_>, ran: Ran) -> Result<(), TrialFault> {
        let Swap { decoder, shares_preprocessing, trial, .. } = &mut *self.swap;
        self.warm &= shared.observation.restart.is_none();
        if let (true, Some(why)) = (*shares_preprocessing, shared.observation.restart) {
            decoder.restart_window(why);
        }
        let tried = match (*shares_preprocessing, shared.tensor) {
            (true, Some(tensor)) => {
                let warming_up = shared.observation.warming_up;
                match decoder.step_tensor(tensor, warming_up, trial).map_err(DecodeError::from) {
                    Ok(()) => Tried::Decoded,
                    Err(error) if error.is_survivable() => Tried::NonFinite,
                    Err(error) => return Err(fault_of(&error)),
                }
            }
            (true, None) => Tried::Nothing,
            (false, _) => match decoder.step(frame, trial) {
                Ok(Step::Decoded(_)) => Tried::Decoded,
                Ok(Step::NonFinite(_)) => Tried::NonFinite,
                // What is refused is counted for the running model, which saw the same frame.
                Ok(Step::Distrusted | Step::Averaged | Step::Refused(_)) => Tried::Nothing,
                Err(error) => return Err(fault_of(&error)),
            },
        };
        if matches!(tried, Tried::Decoded) {
            self.warm = trial.quality != Quality::Warmup;
        }
        if ran == Ran::Well {
            self.tried += 1;
            self.non_finite += u64::from(matches!(tried, Tried::NonFinite));
        }
        match () {
            () if self.non_finite >= NON_FINITE_MAX => Err(TrialFault::NonFinite),
            () if !self.warm && self.tried > self.tried_max => Err(TrialFault::NotWarm),
            () => Ok(()),
        }
    }

    /// The model, to take over or to be given up.
    pub(super) fn into_swap(self) -> Box<Swap> {
        self.swap
    }
}

fn fault_of(error: &DecodeError) -> TrialFault {
    if error.is_of_a_device() { TrialFault::Device } else { TrialFault::Encoder }
}
