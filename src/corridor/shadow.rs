//! Another model, between two frames: it runs in the shadow of the old one until it is warm, then takes over.
//!
//! Why it exists: a model that was calibrated while the animal waits must go in without a lost frame or a silence. What it
//! must never do: touch the decode of the old model (the shadow works after it was handed on), free memory on the compute
//! thread (what is replaced goes back to the supervisor), or take over while it is warming up.

use crate::encode::Encoder;
use crate::frame::event::Event;
use crate::frame::{Embedding, FIRST_GENERATION, Frame, ModelTag, Tensor};
use crate::preprocess::{Preprocess, Request};

use super::standby::Standby;
use super::{DriftSettings, Shared};

/// A model that was loaded, checked and warmed; after the swap, the one that it replaced.
pub struct Swap {
    /// Its session.
    pub encoder: Encoder,
    /// Its preprocessing; `None` = the one that runs, because the two models want the same.
    pub preprocess: Option<Box<dyn Preprocess>>,
    /// How it is named in decodes; its `generation` is above all before.
    pub tag: ModelTag,
    /// Does it decode actions?
    pub decodes_actions: bool,
    /// When its drift is told.
    pub drift: Option<DriftSettings>,
}

/// What runs now.
pub(super) struct Running<'a> {
    pub preprocess: &'a mut Box<dyn Preprocess>,
    pub encoder: &'a mut Encoder,
    pub generation: u64,
    pub decodes_actions: bool,
    pub shadow: Option<Shadow>,
    /// Takes over when the device fails.
    pub standby: Option<Box<Standby>>,
    /// What failed.
    pub spent: Option<Box<Standby>>,
}

/// A model on trial.
pub(super) struct Shadow {
    swap: Box<Swap>,
    embedding: Embedding,
    /// The last frame was one of its preprocessing's warm-up.
    unsettled: bool,
    warm: bool,
}

impl Shadow {
    pub(super) fn new(swap: Box<Swap>) -> Self {
        let embedding = swap.encoder.new_embedding();
        Self { swap, embedding, unsettled: false, warm: false }
    }

    /// Is it ready to take over before the next frame?
    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    /// What changes the state of the old model changes that of the new one.
    pub(super) fn request(&mut self, request: Request) {
        if let Some(preprocess) = &mut self.swap.preprocess {
            preprocess.request(request);
        }
        if request == Request::Reset {
            self.swap.encoder.reset();
            self.warm = false;
        }
    }

    /// One frame with a preprocessing of its own; false when the model fails and must go.
    pub(super) fn follow(&mut self, frame: &Frame) -> bool {
        let Some(mut preprocess) = self.swap.preprocess.take() else { return true };
        let alive = match preprocess.apply(frame) {
            Ok(prepared) => match prepared.tensor {
                Some(tensor) => self.encode(&tensor, prepared.observation.warming_up),
                None => true,
            },
            // Counted for the old model, which saw the same frame.
            Err(_) => true,
        };
        self.swap.preprocess = Some(preprocess);
        alive
    }

    /// One tensor of the preprocessing that both share; false when the model fails and must go.
    pub(super) fn share(&mut self, tensor: &Tensor<'_>, warming_up: bool) -> bool {
        self.swap.preprocess.is_some() || self.encode(tensor, warming_up)
    }

    /// It fails on live frames: the old model goes on.
    pub(super) fn give_up(self, shared: &Shared<'_>) {
        shared.emit(Event::SwapFailed { generation: self.swap.tag.generation });
        let _ = shared.handles.retired.force_push(self.swap);
    }

    fn encode(&mut self, tensor: &Tensor<'_>, warming_up: bool) -> bool {
        if std::mem::replace(&mut self.unsettled, warming_up) && !warming_up {
            self.swap.encoder.reset();
        }
        let ended = self.swap.encoder.encode(tensor, &mut self.embedding);
        self.warm = !warming_up && !self.swap.encoder.warming_up();
        ended.is_ok() || ended.is_err_and(|cause| cause.is_survivable())
    }
}

impl<'a> Running<'a> {
    /// What runs from the start, with what stands by.
    pub(super) fn new(preprocess: &'a mut Box<dyn Preprocess>, encoder: &'a mut Encoder, shared: &Shared<'_>) -> Self {
        Self {
            preprocess,
            encoder,
            generation: FIRST_GENERATION,
            decodes_actions: shared.settings.decodes_actions,
            shadow: None,
            standby: shared.handles.standby.pop(),
            spent: None,
        }
    }

    /// Takes a model that waits into the shadow, and lets the one there take over when it is warm. `Some` when the model
    /// changed: how its drift is told.
    pub(super) fn look(&mut self, shared: &Shared<'_>) -> Option<Option<DriftSettings>> {
        if self.shadow.is_none() {
            self.shadow = shared.handles.swaps.pop().map(Shadow::new);
        }
        let Shadow { mut swap, .. } = self.shadow.take_if(|shadow| shadow.is_warm())?;
        std::mem::swap(self.encoder, &mut swap.encoder);
        if let Some(preprocess) = &mut swap.preprocess {
            std::mem::swap(self.preprocess, preprocess);
        }
        // What stands by is the model before; from now on a failing device ends the run.
        self.standby = None;
        self.generation = swap.tag.generation;
        self.decodes_actions = swap.decodes_actions;
        shared.emit(Event::Swapped { generation: self.generation });
        let drift = swap.drift;
        let _ = shared.tags.force_push(std::mem::take(&mut swap.tag));
        let _ = shared.handles.retired.force_push(swap);
        Some(drift)
    }
}
