//! Only the first frames of a source, for `embed --frames` and tests.

use crate::frame::{Frame, Requests};

use super::{Next, Source, SourceError};

/// A source that ends after a given number of frames.
pub struct Limited {
    source: Box<dyn Source>,
    total: u64,
    left: u64,
}

impl Limited {
    /// At most `frames` frames of `source`.
    pub fn new(source: Box<dyn Source>, frames: u64) -> Self {
        Self { source, total: frames, left: frames }
    }
}

impl Source for Limited {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.left == 0 {
            return Ok(Next::End);
        }
        let next = self.source.next(into)?;
        self.left -= u64::from(next == Next::Frame);
        Ok(next)
    }

    fn requests(&self) -> Requests {
        self.source.requests()
    }

    fn frame_bytes_max(&self) -> usize {
        self.source.frame_bytes_max()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.source.frames_total().map_or(self.total, |frames| frames.min(self.total)))
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.source.frame_rate_hz()
    }

    fn about(&self) -> super::About {
        self.source.about()
    }
}
