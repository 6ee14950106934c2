//! The network with its memory, and the rule by which it forgets.
//!
//! Why it exists: the rule must be the same wherever a model is run. What it must never do: know where its tensors come from.

use super::believed::Believed;
use crate::encode::{EncodeError, EncodeInfo, Encoder};
use crate::frame::{Decode, Embedding, ModelTag, Observation, Quality, Restart, TakenUp, Tensor};

pub(super) struct Network {
    encoder: Encoder,
    pub(super) tag: ModelTag,
    /// The last tensor was one of preprocessing's warm-up.
    unsettled: bool,
    /// Why the window is being filled anew, while it is.
    restarted: Option<Restart>,
    /// Frames of the stream that become one tensor.
    average_frames: u32,
}

impl Network {
    pub(super) fn new(encoder: Encoder, tag: ModelTag, average_frames: usize) -> Self {
        Self { encoder, tag, unsettled: false, restarted: None, average_frames: average_frames as u32 }
    }

    /// One tensor. On an error `into` is as it was, but for its sizes.
    pub(super) fn step(&mut self, tensor: &Tensor<'_>, warming_up: bool, into: &mut Decode) -> Result<(), EncodeError> {
        let settled = std::mem::replace(&mut self.unsettled, warming_up) && !warming_up;
        if settled {
            // The model has only learnt from whole windows of settled frames: what came before must not be in its window.
            self.reset();
        }
        self.fit(into);
        self.encoder.encode(tensor, &mut into.embedding)?;
        let warmup = warming_up || self.encoder.warming_up();
        into.quality = if warmup { Quality::Warmup } else { Quality::Ok };
        self.restarted = self.restarted.filter(|_| warmup);
        into.restart = self.restarted.filter(|_| !warming_up);
        let acts = self.tag.decodes_actions() && !warmup;
        into.action = if acts { strongest(&into.embedding.probabilities) } else { None };
        Ok(())
    }

    /// A frame that is not believed: `into` shows the last one that was. `warming_up`: preprocessing is.
    pub(super) fn hold(&mut self, warming_up: bool, believed: &mut Believed, into: &mut Decode) {
        self.fit(into);
        let warmup = warming_up || self.encoder.warming_up();
        if warmup {
            believed.forget();
        }
        believed.stand_in(into);
        into.restart = None;
        into.quality = if warmup { Quality::Warmup } else { Quality::Degraded };
    }

    /// A state that was taken up and is still on trial is believed by no decode; and how many frames are left until one is `ok`.
    pub(super) fn judge_trial(&self, seen: &Observation, into: &mut Decode) {
        let on_trial = match seen.taken_up {
            Some(TakenUp::OnTrial(left)) => left,
            _ => 0,
        };
        if on_trial > 0 {
            (into.quality, into.action) = (Quality::Warmup, None);
        }
        let window = if seen.warming_up { self.encoder.window_frames() } else { self.encoder.frames_missing() };
        let left = seen.warmup_left.saturating_add(window * self.average_frames).max(on_trial);
        into.warmup_left = if into.quality == Quality::Warmup { left } else { 0 };
    }

    /// Gives a slot this model's sizes, at its first use since the model changed.
    fn fit(&self, into: &mut Decode) {
        if into.generation != self.tag.generation {
            into.embedding = self.encoder.new_embedding();
            into.generation = self.tag.generation;
        }
    }

    pub(super) fn new_embedding(&self) -> Embedding {
        self.encoder.new_embedding()
    }

    /// Forgets everything: a new animal, or a window of frames that were not yet settled.
    pub(super) fn reset(&mut self) {
        self.encoder.reset();
        self.restarted = None;
    }

    /// The window begins anew with the next tensor, because no window may span it and those before; until it is full, decodes are
    /// `warmup` for this reason.
    pub(super) fn restart(&mut self, why: Restart) {
        self.encoder.reset();
        self.restarted = Some(why);
    }

    pub(super) fn keep_warm(&mut self) {
        self.encoder.keep_warm();
    }

    pub(super) fn new_decode(&self) -> Decode {
        let decode = Decode::with_embedding(self.new_embedding());
        Decode { generation: self.tag.generation, ..decode }
    }

    pub(super) fn info(&self) -> &EncodeInfo {
        self.encoder.info()
    }
}

/// Index of the largest probability.
fn strongest(probabilities: &[f32]) -> Option<usize> {
    probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index)
}
