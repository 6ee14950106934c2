//! The decodes of a whole recording as plain arrays: the input of calibration.

use crate::frame::{Decode, Quality};

/// Every decode of a recording, in order.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    /// Frames per second of the recording, where it says so.
    pub frame_rate_hz: Option<f64>,
    /// Numbers of the recording's first and last frame; `None` without a frame.
    pub span: Option<(u64, u64)>,
    /// Embeddings one after the other, decodes × dimensions.
    pub values: Vec<f32>,
    /// Of each decode, the number of its frame.
    pub frames: Vec<u64>,
    /// Of each decode, how far it may be trusted.
    pub quality: Vec<Quality>,
}

impl Embeddings {
    /// One more decode.
    pub fn push(&mut self, decode: &Decode) {
        self.values.extend_from_slice(&decode.embedding.values);
        self.frames.push(decode.frame.number);
        self.quality.push(decode.quality);
    }

    /// The recording has a frame of this number.
    pub fn widen(&mut self, number: u64) {
        let (first, last) = self.span.unwrap_or((number, number));
        self.span = Some((first.min(number), last.max(number)));
    }

    /// Decodes.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
