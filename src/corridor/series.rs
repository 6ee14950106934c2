//! What a new series means for the frame that begins it.
//!
//! Why it exists: the first frame of a series may have been skipped or refused, and what it would have brought about must then
//! happen with the next. What it must never do: reset anything for a frame that the model cannot take.

use super::Shared;
use crate::config::NewSeries;
use crate::decoder::Decoder;
use crate::frame::event::Event;
use crate::frame::{FrameInfo, FrameSlot, Request, Shape};
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
    /// What must be carried out before this frame: what was before it when it was recorded, and a reset when its series means a
    /// new animal, by configuration or because it has another shape or pixel type.
    pub(super) fn before(
        &mut self,
        slot: &mut FrameSlot,
        decoder: &Decoder,
        shared: &Shared<'_>,
    ) -> impl Iterator<Item = Request> + use<> {
        // Where the first frames of a series were skipped, the first one that is decoded begins it.
        let began = std::mem::replace(&mut self.begun, slot.series) != slot.series;
        slot.frame.info.series_began = began;
        self.is_new |= began;
        let configured = began && shared.settings.new_series == NewSeries::Reset;
        let another = self.is_new && decoder.is_of_another_animal(&slot.frame.info);
        slot.requests.iter().chain((configured || another).then_some(Request::Reset))
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
