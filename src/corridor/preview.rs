//! Pictures for people, from the compute thread to the publish thread, beside the decodes.
//!
//! Why it exists: the model's input exists only on the compute thread. It is copied after its decode was handed on, some times a
//! second, into one of a few slots that go round. What it must never do: allocate, wait, or hold a decode up: without a free
//! slot there is no picture this time.

use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::decoder::Decoder;
use crate::frame::{Frame, FrameInfo, Picture, Preview, Shape, Tensor};
use crate::preprocess::Template;

/// Slots that go round: a frame, its raw picture and a template on their way, and one in a hand.
const SLOTS: usize = 4;
/// A raw picture follows so many pictures of the model's input; it is larger.
const RAW_EVERY: u64 = 2;
/// The template is sent again after so long, for late subscribers, ns.
const TEMPLATE_EVERY_NS: u64 = 3_000_000_000;

/// How often pictures are taken, and of what.
#[derive(Clone, Copy, Debug)]
pub struct PreviewSettings {
    /// Shortest time between two pictures of frames.
    pub every: Duration,
    /// The model's input.
    pub input: Shape,
}

/// The slots, full and empty. Bounded, lock-free; a box is a pointer, so that no picture moves.
pub(super) struct Previews {
    free: ArrayQueue<Box<Preview>>,
    filled: ArrayQueue<Box<Preview>>,
}

impl Previews {
    /// Takes the memory of all slots, unless no picture will ever be taken.
    pub(super) fn new(wanted: bool) -> Self {
        let previews = Self { free: ArrayQueue::new(SLOTS), filled: ArrayQueue::new(SLOTS) };
        (0..if wanted { SLOTS } else { 0 }).for_each(|_| drop(previews.free.push(Box::default())));
        previews
    }

    /// The oldest picture that waits; to be given back.
    pub(super) fn pop(&self) -> Option<Box<Preview>> {
        self.filled.pop()
    }

    /// Gives a slot back. There is room for all slots that there are.
    pub(super) fn give_back(&self, slot: Box<Preview>) {
        drop(self.free.push(slot));
    }

    /// Nobody has had time to send them.
    pub(super) fn are_stuck(&self) -> bool {
        self.free.is_empty() && !self.filled.is_empty()
    }
}

/// Decides on the compute thread when a picture is due.
pub(super) struct Photographer<'a> {
    settings: Option<PreviewSettings>,
    previews: &'a Previews,
    frame_due_ns: u64,
    raw_due_ns: u64,
    template_due_ns: u64,
    generation: u64,
    /// For a tensor that lies on a device.
    staging: Vec<f32>,
}

impl<'a> Photographer<'a> {
    pub(super) fn new(settings: Option<PreviewSettings>, previews: &'a Previews) -> Self {
        let staging = vec![0.0; settings.map_or(0, |settings| settings.input.pixels())];
        Self { settings, previews, frame_due_ns: 0, raw_due_ns: 0, template_due_ns: 0, generation: 0, staging }
    }

    /// Takes a picture of the model's input if one is due, by the time of receipt: no clock is read.
    pub(super) fn frame(&mut self, info: &FrameInfo, tensor: &Tensor<'_>) {
        let now_ns = info.t_received_ns;
        let Some(settings) = self.settings.filter(|_| now_ns >= self.frame_due_ns) else { return };
        // A device that fails here will fail, and be reported, at the next frame.
        let Ok(pixels) = tensor.to_host(&mut self.staging) else { return };
        let Some(mut slot) = self.previews.free.pop() else { return };
        slot.take(Picture::Frame, info, pixels, settings.input);
        self.frame_due_ns = now_ns + settings.every.as_nanos() as u64;
        drop(self.previews.filled.push(slot));
    }

    /// After a frame, whatever became of it: the pictures that do not need the model's input.
    pub(super) fn after(&mut self, frame: &Frame, decoder: &Decoder) {
        self.raw(frame);
        self.template(&frame.info, decoder);
    }

    /// Takes a picture of the frame as it came if one is due, whatever became of it: of a distrusted frame above all.
    fn raw(&mut self, frame: &Frame) {
        let now_ns = frame.info.t_received_ns;
        let Some(settings) = self.settings.filter(|_| now_ns >= self.raw_due_ns) else { return };
        let Some(mut slot) = self.previews.free.pop() else { return };
        slot.take_raw(frame);
        self.raw_due_ns = now_ns + RAW_EVERY * settings.every.as_nanos() as u64;
        drop(self.previews.filled.push(slot));
    }

    /// Takes a picture of the template when it is a new one, and every few seconds.
    fn template(&mut self, info: &FrameInfo, decoder: &Decoder) {
        let now_ns = info.t_received_ns;
        if self.settings.is_none() {
            return;
        }
        let Some(Template { pixels, height, width, generation }) = decoder.template() else {
            self.generation = 0;
            return;
        };
        if generation == self.generation && now_ns < self.template_due_ns {
            return;
        }
        let Some(mut slot) = self.previews.free.pop() else { return };
        slot.take(Picture::Template, info, pixels, Shape::new(1, height, width));
        slot.generation = generation;
        (self.generation, self.template_due_ns) = (generation, now_ns + TEMPLATE_EVERY_NS);
        drop(self.previews.filled.push(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: PreviewSettings = PreviewSettings { every: Duration::from_millis(200), input: Shape::new(1, 8, 8) };

    fn photographed(times_ms: &[u64], previews: &Previews) {
        let (mut info, pixels) = (Frame::with_capacity(0).info, [1.0; 64]);
        let mut photographer = Photographer::new(Some(SETTINGS), previews);
        for ms in times_ms {
            info.t_received_ns = ms * 1_000_000;
            photographer.frame(&info, &Tensor::Host(&pixels));
        }
    }

    #[test]
    fn pictures_are_taken_no_more_often_than_asked() {
        let previews = Previews::new(true);
        photographed(&[1000, 1033, 1066, 1199, 1200, 1233], &previews);
        assert_eq!(std::iter::from_fn(|| previews.pop()).count(), 2);
    }

    #[test]
    fn raw_pictures_are_taken_half_as_often() {
        let previews = Previews::new(true);
        let mut photographer = Photographer::new(Some(SETTINGS), &previews);
        let mut frame = Frame::with_capacity(64);
        frame.info.shape = Shape::new(1, 8, 8);
        for ms in [1000, 1200, 1399, 1400, 1600] {
            frame.info.t_received_ns = ms * 1_000_000;
            photographer.raw(&frame);
        }
        assert_eq!(std::iter::from_fn(|| previews.pop()).filter(|p| p.what == Picture::Raw).count(), 2);
    }

    #[test]
    fn without_a_free_slot_there_is_no_picture_and_no_wait() {
        let previews = Previews::new(true);
        photographed(&[1000, 2000, 3000, 4000, 5000, 6000], &previews);
        assert!(previews.are_stuck());
        let sent: Vec<Box<Preview>> = std::iter::from_fn(|| previews.pop()).collect();
        assert_eq!(sent.len(), SLOTS);
        assert!(!previews.are_stuck());
        sent.into_iter().for_each(|slot| previews.give_back(slot));
        photographed(&[9000], &previews);
        assert_eq!(previews.pop().map(|p| p.values().len()), Some(64));
    }

    #[test]
    fn who_wants_no_pictures_pays_nothing_for_them() {
        let previews = Previews::new(false);
        let info = Frame::with_capacity(0).info;
        Photographer::new(None, &previews).frame(&info, &Tensor::Host(&[]));
        assert!(previews.free.is_empty() && previews.pop().is_none());
    }
}
