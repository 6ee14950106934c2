//! The last decode that is believed, for the frames that are not.
//!
//! Why it exists: while light goes in, a stimulus may hold the action that was decoded last, for as long as the deadline allows.
//! What it must never do: judge whether that is still so (the sinks do, by their deadline), or survive a new animal.

use crate::frame::{Decode, Embedding, FrameTime, Shown};

/// Embedding and action of the last believed decode.
pub(super) struct Believed {
    embedding: Embedding,
    action: Option<usize>,
    /// Of its frame; `None` = there is none.
    time: Option<FrameTime>,
}

impl Believed {
    /// `embedding` has the model's sizes.
    pub(super) fn new(embedding: Embedding) -> Self {
        Self { embedding, action: None, time: None }
    }

    /// Keeps a decode.
    pub(super) fn keep(&mut self, decode: &Decode) {
        self.embedding.values.copy_from_slice(&decode.embedding.values);
        self.embedding.probabilities.copy_from_slice(&decode.embedding.probabilities);
        self.embedding.outputs.copy_from_slice(&decode.embedding.outputs);
        self.embedding.novelty = decode.embedding.novelty;
        (self.action, self.time) = (decode.action, Some(FrameTime::of(&decode.frame)));
    }

    /// There is none any more.
    pub(super) fn forget(&mut self) {
        self.time = None;
    }

    /// Puts it into the decode of a frame that is not believed; zeros where there is none.
    pub(super) fn stand_in(&self, into: &mut Decode) {
        let age_ns = self.time.and_then(|time| FrameTime::of(&into.frame).since(time));
        let embedding = &mut into.embedding;
        let Some(age_ns) = age_ns else {
            embedding.values.fill(0.0);
            embedding.probabilities.fill(0.0);
            embedding.outputs.fill(0.0);
            embedding.novelty = None;
            (into.action, into.shown) = (None, Shown::Nothing);
            return;
        };
        embedding.values.copy_from_slice(&self.embedding.values);
        embedding.probabilities.copy_from_slice(&self.embedding.probabilities);
        embedding.outputs.copy_from_slice(&self.embedding.outputs);
        embedding.novelty = self.embedding.novelty;
        (into.action, into.shown) = (self.action, Shown::Held { age_ns });
    }
}
