//! What a new series means for the frame that begins it.
//!
//! Why it exists: the first frame of a series may have been skipped or refused, and what it would have brought about must then
//! happen with the next. What it must never do: reset anything for a frame that the model cannot take.

use super::Shared;
use crate::decoder::Decoder;
use crate::frame::event::Event;
use crate::frame::{FrameInfo, FrameSlot, Shape};
use crate::preprocess::Squeeze;

/// The series that is being decoded.
#[derive(Default)]
pub(super) struct Series {
    /// Series begun up to the last frame.
    begun: u64,
    /// No frame of this series has been taken yet: the next may have another shape or pixel type.
    is_new: bool,
    /// Shape of the last frame taken and of the input it went into.
    shapes: Option<(Shape, Shape)>,
}

impl Series {
    /// Notes the series of a frame that comes.
    pub(super) fn arrives(&mut self, slot: &mut FrameSlot) {
        // Where the first frames of a series were skipped, the first one that is decoded begins it.
        let began = std::mem::replace(&mut self.begun, slot.series) != slot.series;
        slot.frame.info.series_began = began;
        self.is_new |= began;
    }

    /// Does this frame of a new series mean another animal, because it has another shape or pixel type?
    pub(super) fn is_of_another_animal(&self, info: &FrameInfo, decoder: &Decoder) -> bool {
        self.is_new && decoder.is_of_another_animal(info)
    }

    /// Notes whether the frame was taken, and reports frames of another shape that the model's input squeezes.
    pub(super) fn after(&mut self, info: &FrameInfo, decoder: &Decoder, shared: &Shared<'_>) {
        if decoder.geometry() != Some(info.geometry()) {
            return;
        }
        self.is_new = false;
        let shapes = (info.shape, decoder.model().manifest.input);
        if self.shapes.replace(shapes) == Some(shapes) {
            return;
        }
        if let Some(Squeeze { frame_px, input_px, ratio }) = Squeeze::of(shapes.0, shapes.1) {
            shared.emit(Event::AspectRatio { frame_px, input_px, ratio });
        }
    }
}
