//! A picture for people: the raw frame, the model's input or the registration template, small enough to be sent several times a second.
//!
//! Why it exists: people at the rig must see that the right thing is imaged. Its memory is allocated once and reused.
//! What it must never do: read more than a bounded number of pixels, or be mistaken for data: it may be reduced, and states
//! by how much.

use super::{CHANNELS_MAX, Frame, FrameInfo, Name, Pixels, Shape};

/// Longest side of a picture, px; larger ones are reduced by a whole number.
pub const PREVIEW_SIDE_MAX: usize = 256;
/// Largest number of values in a picture.
pub const PREVIEW_VALUES_MAX: usize = CHANNELS_MAX * PREVIEW_SIDE_MAX * PREVIEW_SIDE_MAX;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Picture {
    /// The model's input: registered, relative, normalised.
    Frame,
    /// The registration template, in units of light.
    Template,
    /// The frame as it came, in counts.
    Raw,
}

/// One picture and its origin. A slot that is passed back and forth between two threads.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What it shows.
    pub what: Picture,
    /// The frame after which it was taken.
    pub frame: u64,
    /// Which rig.
    pub source: Name,
    /// Which acquisition.
    pub series: Option<Name>,
    /// When that frame had arrived, `CLOCK_MONOTONIC`, ns.
    pub t_received_ns: u64,
    /// How often the template was replaced, from 1; 0 for a frame.
    pub generation: u64,
    /// Channels × height × width of the picture.
    pub shape: Shape,
    /// The same before it was reduced.
    pub full: Shape,
    values: Vec<f32>,
}

impl Preview {
    /// A slot with memory for the largest picture; the only allocation of its life.
    pub fn new() -> Self {
        let nothing = Frame::with_capacity(0).info;
        Self {
            what: Picture::Frame,
            frame: 0,
            source: nothing.source,
            series: None,
            t_received_ns: 0,
            generation: 0,
            shape: Shape::default(),
            full: Shape::default(),
            values: Vec::with_capacity(PREVIEW_VALUES_MAX),
        }
    }

    /// The picture, C order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Takes a picture of `pixels`, of shape `full` in C order, after the frame `info`. Each pixel of a reduced picture is the mean
    /// of up to four pixels. If the number of pixels does not match `full`, the picture is empty.
    pub fn take(&mut self, what: Picture, info: &FrameInfo, pixels: &[f32], full: Shape) {
        self.fill(what, info, pixels, full, |v| v);
    }

    /// Takes a picture of a frame as it came.
    pub fn take_raw(&mut self, frame: &Frame) {
        let (info, full) = (&frame.info, frame.info.shape);
        match frame.pixels() {
            Pixels::U8(all) => self.fill(Picture::Raw, info, all, full, f32::from),
            Pixels::U16(all) => self.fill(Picture::Raw, info, all, full, f32::from),
            Pixels::I16(all) => self.fill(Picture::Raw, info, all, full, f32::from),
            Pixels::F32(all) => self.fill(Picture::Raw, info, all, full, |v| v),
        }
    }

    fn fill<T: Copy>(&mut self, what: Picture, info: &FrameInfo, pixels: &[T], full: Shape, value: impl Fn(T) -> f32) {
        let step = full.height.max(full.width).div_ceil(PREVIEW_SIDE_MAX).max(1);
        let side = |px: usize| (px / step).max(1);
        self.what = what;
        (self.frame, self.source, self.series) = (info.number, info.source, info.series);
        (self.t_received_ns, self.generation) = (info.t_received_ns, 0);
        self.full = full;
        self.shape = Shape::new(full.channels, side(full.height), side(full.width));
        self.values.clear();
        if pixels.len() != full.pixels() || pixels.is_empty() || self.shape.pixels() > PREVIEW_VALUES_MAX {
            self.shape = Shape::default();
            return;
        }
        if step == 1 {
            self.values.extend(pixels.iter().map(|&v| value(v)));
            return;
        }
        for plane in pixels.chunks_exact(full.plane()) {
            for y in 0..self.shape.height {
                let rows = [y * step, (y * step + step / 2).min(full.height - 1)].map(|y| &plane[y * full.width..]);
                self.values.extend((0..self.shape.width).map(|x| {
                    let columns = [x * step, (x * step + step / 2).min(full.width - 1)];
                    rows.iter().map(|row| value(row[columns[0]]) + value(row[columns[1]])).sum::<f32>() / 4.0
                }));
            }
        }
    }
}

impl Default for Preview {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pixels: &[f32], shape: Shape) -> Preview {
        let mut preview = Preview::new();
        preview.take(Picture::Frame, &Frame::with_capacity(0).info, pixels, shape);
        preview
    }

    #[test]
    fn a_small_picture_is_copied_bit_for_bit() {
        let pixels: Vec<f32> = (0..2 * 3 * 5).map(|i| i as f32 * 0.3).collect();
        let preview = taken(&pixels, Shape::new(2, 3, 5));
        assert_eq!((preview.values(), preview.shape), (pixels.as_slice(), Shape::new(2, 3, 5)));
    }

    #[test]
    fn a_raw_picture_holds_the_counts_of_every_channel() {
        let mut frame = Frame::with_capacity(24);
        (frame.info.shape, frame.info.pixel_type) = (Shape::new(2, 2, 3), crate::frame::PixelType::I16);
        let counts: Vec<i16> = (-4..8).collect();
        frame.bytes_mut().copy_from_slice(bytemuck::cast_slice(&counts));
        let mut preview = Preview::new();
        preview.take_raw(&frame);
        assert_eq!((preview.what, preview.shape), (Picture::Raw, Shape::new(2, 2, 3)));
        assert!(preview.values().iter().zip(&counts).all(|(shown, count)| *shown == f32::from(*count)));
    }

    #[test]
    fn a_large_picture_is_reduced_and_never_outgrows_its_slot() {
        for (height, width) in [(512, 512), (257, 300), (4096, 4096), (2, 4096), (1, 1000)] {
            let pixels: Vec<f32> = (0..2 * height * width).map(|i| (i % width) as f32 / width as f32).collect();
            let preview = taken(&pixels, Shape::new(2, height, width));
            let Shape { channels, height: rows, width: columns } = preview.shape;
            assert_eq!(preview.values().len(), preview.shape.pixels());
            assert!(channels == 2 && rows.max(columns) <= PREVIEW_SIDE_MAX && columns >= 100, "{}", preview.shape);
            // A ramp from left to right stays one.
            let row = &preview.values()[..columns];
            assert!(row.is_sorted() && row[0] < 0.01 && row[columns - 1] > 0.97, "{row:?}");
            assert_eq!(preview.values.capacity(), PREVIEW_VALUES_MAX, "no memory was taken");
        }
    }

    #[test]
    fn pixels_that_are_not_what_the_shape_says_are_no_picture() {
        assert!(taken(&[1.0; 7], Shape::new(1, 2, 4)).values().is_empty());
        assert!(taken(&[], Shape::default()).values().is_empty());
    }
}
