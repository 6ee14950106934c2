//! Pixels as a sender or a file lays them out, to the one layout used inside: native byte order, C order of the axes.
//!
//! Why it exists: byte order and axis order are undone here, once, so that nothing downstream has to ask. What it must never
//! do: allocate, change a value, or read past what the shape says.

use super::frame_header::Order;
use crate::frame::{PixelType, Shape};

/// How the pixels of a payload lie in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shape of the array, as its owner sees it.
    pub shape: Shape,
    /// How one pixel is stored.
    pub pixel_type: PixelType,
    /// Most significant byte first.
    pub big_endian: bool,
    /// Which axis is fastest.
    pub order: Order,
}

impl Layout {
    /// Bytes of one frame.
    pub fn bytes(&self) -> usize {
        self.shape.pixels() * self.pixel_type.bytes()
    }
}

/// Copies one frame into a slot.
///
/// # Panics
/// If payload or slot are not exactly [`Layout::bytes`] long; callers have checked both.
pub fn copy(layout: &Layout, payload: &[u8], slot: &mut [u8]) {
    assert_eq!(payload.len(), layout.bytes(), "payload of a checked frame");
    assert_eq!(slot.len(), layout.bytes(), "slot of a checked frame");
    match layout.pixel_type.bytes() {
        1 => copy_items::<1>(layout, payload, slot),
        2 => copy_items::<2>(layout, payload, slot),
        _ => copy_items::<4>(layout, payload, slot),
    }
}

/// Undoes the byte order of a frame in C order that lies in its slot already.
///
/// # Panics
/// If the slot is not exactly [`Layout::bytes`] long, or the frame is in another order; callers have checked both.
pub fn in_place(layout: &Layout, slot: &mut [u8]) {
    assert_eq!((slot.len(), layout.order), (layout.bytes(), Order::C), "slot of a checked frame in C order");
    if layout.big_endian != cfg!(target_endian = "big") {
        match layout.pixel_type.bytes() {
            1 => {}
            2 => swap::<2>(slot),
            _ => swap::<4>(slot),
        }
    }
}

fn copy_items<const N: usize>(layout: &Layout, payload: &[u8], slot: &mut [u8]) {
    match layout.order {
        Order::C => slot.copy_from_slice(payload),
        Order::F => transpose::<N>(layout.shape, payload, slot),
    }
    if N > 1 && layout.big_endian != cfg!(target_endian = "big") {
        swap::<N>(slot);
    }
}

/// Turns the bytes of every item around, in place.
fn swap<const N: usize>(slot: &mut [u8]) {
    // As integers, because then the compiler does it in vector registers.
    if N == 2 {
        slot.as_chunks_mut::<2>().0.iter_mut().for_each(|i| *i = u16::from_ne_bytes(*i).swap_bytes().to_ne_bytes());
    } else {
        slot.as_chunks_mut::<4>().0.iter_mut().for_each(|i| *i = u32::from_ne_bytes(*i).swap_bytes().to_ne_bytes());
    }
}

/// Side of the square that is turned at once: 32 rows of 64 bytes (u16) stay in the first cache.
const TILE: usize = 32;

/// Column-major [channels, height, width] to row-major: the pixel (c, y, x) comes from `c + channels × (y + height × x)`.
fn transpose<const N: usize>(shape: Shape, payload: &[u8], slot: &mut [u8]) {
    let from = payload.as_chunks::<N>().0;
    let to = slot.as_chunks_mut::<N>().0;
    for (channel, plane) in to.chunks_exact_mut(shape.plane()).enumerate() {
        for top in (0..shape.height).step_by(TILE) {
            for left in (0..shape.width).step_by(TILE) {
                turn_tile::<N>(shape, channel, [top, left], from, plane);
            }
        }
    }
}

/// Turns the tile whose upper left corner is (`top`, `left`).
#[inline(always)]
fn turn_tile<const N: usize>(
    shape: Shape,
    channel: usize,
    [top, left]: [usize; 2],
    from: &[[u8; N]],
    plane: &mut [[u8; N]],
) {
    let Shape { channels, height, width } = shape;
    let (bottom, right) = ((top + TILE).min(height), (left + TILE).min(width));
    for y in top..bottom {
        let row = &mut plane[y * width + left..y * width + right];
        let column = &from[channel + channels * (y + height * left)..];
        for (into, item) in row.iter_mut().zip(column.iter().step_by(channels * height)) {
            *into = *item;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, item by item.
    fn naive(layout: &Layout, payload: &[u8]) -> Vec<u8> {
        let (s, n) = (layout.shape, layout.pixel_type.bytes());
        let mut slot = Vec::new();
        for (c, y, x) in
            (0..s.channels).flat_map(|c| (0..s.height).flat_map(move |y| (0..s.width).map(move |x| (c, y, x))))
        {
            let index = match layout.order {
                Order::C => (c * s.height + y) * s.width + x,
                Order::F => c + s.channels * (y + s.height * x),
            };
            let item = &payload[index * n..(index + 1) * n];
            if layout.big_endian { slot.extend(item.iter().rev()) } else { slot.extend(item) }
        }
        slot
    }

    #[test]
    fn every_layout_is_copied_as_defined() {
        let shapes = [(1, 1, 1), (1, 3, 5), (2, 3, 5), (1, 64, 32), (2, 33, 65), (1, 100, 31), (1, 1, 40), (2, 40, 1)];
        for (channels, height, width) in shapes {
            for pixel_type in [PixelType::U8, PixelType::U16, PixelType::I16, PixelType::F32] {
                for (big_endian, order) in [(false, Order::C), (true, Order::C), (false, Order::F), (true, Order::F)] {
                    let shape = Shape::new(channels, height, width);
                    let layout = Layout { shape, pixel_type, big_endian, order };
                    let payload: Vec<u8> = (0..layout.bytes()).map(|i| (i * 31 + i / 256) as u8).collect();
                    let mut slot = vec![0; layout.bytes()];
                    copy(&layout, &payload, &mut slot);
                    assert_eq!(slot, naive(&layout, &payload), "{layout:?}");
                }
            }
        }
    }

    #[test]
    fn a_matlab_array_of_2_by_3_arrives_with_its_rows() {
        // MATLAB: [1 2 3; 4 5 6](:)' is 1 4 2 5 3 6.
        let layout =
            Layout { shape: Shape::new(1, 2, 3), pixel_type: PixelType::U16, big_endian: true, order: Order::F };
        let payload: Vec<u8> = [1u16, 4, 2, 5, 3, 6].iter().flat_map(|v| v.to_be_bytes()).collect();
        let mut slot = vec![0; 12];
        copy(&layout, &payload, &mut slot);
        let found: Vec<u16> = slot.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(found, [1, 2, 3, 4, 5, 6]);
    }
}
