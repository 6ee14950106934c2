//! A frame in some hundred numbers: the mean light of every block of a grid, twice, from two halves of the block's lines.
//!
//! Why it exists: a frame must be judged before anything learns from it, and in microseconds; so only a part of its pixels is
//! read: on every line some short runs, which take turns over the columns, so that no block and no line is left out.
//! What it must never do: allocate after construction, or sum in an order that depends on the vector unit.
//!
//! Structure is what both halves of the blocks have in common: noise is not. Their covariance is the variance of the picture without
//! its noise, however dim it is.

use super::runs::{Run, grid, runs};
use super::texture::Texture;
use crate::frame::Pixels;
use crate::model::parameters::Convert;
use crate::preprocess::simd::Simd;

/// Floating-point pixels beyond this are no counts of any detector.
const COUNTS_MAX: f32 = 1e9;
/// Lanes of the sums over floating-point pixels: fixed, so that the order of summation does not depend on the vector unit.
const LANES: usize = 8;
/// Fewer blocks say nothing about structure.
const BLOCKS_TELLING: usize = 64;

/// What was read of half a block.
#[derive(Clone, Copy, Default)]
struct Cell {
    light: f64,
    pixels: u32,
}

/// One plane of a frame.
pub(super) struct Sketch {
    simd: Simd,
    rows: usize,
    columns: usize,
    /// Pixels of a line and of the plane.
    width: usize,
    plane_px: usize,
    runs: Vec<Run>,
    cells: Vec<Cell>,
    /// Light of the two halves of each block.
    halves: [Vec<f64>; 2],
    /// Mean light of each block.
    pub blocks: Vec<f64>,
    /// Mean light of each strip of lines: a row of blocks.
    pub strips: Vec<f64>,
    /// Mean light.
    pub level: f64,
    /// Standard deviation of the picture without its noise.
    pub spread: f64,
    /// Correlation of the two halves: 1 is a picture without noise, 0 is noise without a picture.
    pub likeness: f64,
    /// Noise of a pixel, and its structure within half a block.
    pub noise: f64,
    /// Share of the pixels at the top of their range.
    pub saturated: f64,
    /// Share of the pixels that are NaN or infinite.
    pub non_finite: f64,
    /// What lines have in common; of the frame for which it was last asked.
    pub texture: Texture,
}

impl Sketch {
    /// For planes of `height` × `width` px.
    pub fn new(simd: Simd, height: usize, width: usize) -> Self {
        let [rows, columns] = grid([height, width]);
        let blocks = rows * columns;
        Self {
            simd,
            rows,
            columns,
            width,
            plane_px: height * width,
            runs: runs([height, width], [rows, columns]),
            cells: vec![Cell::default(); 2 * blocks],
            halves: [vec![0.0; blocks], vec![0.0; blocks]],
            blocks: vec![0.0; blocks],
            strips: vec![0.0; rows],
            level: 0.0,
            spread: 0.0,
            likeness: 0.0,
            noise: 0.0,
            saturated: 0.0,
            non_finite: 0.0,
            texture: Texture::default(),
        }
    }

    /// Do its blocks suffice to tell a picture from noise?
    pub fn tells_structure(&self) -> bool {
        self.blocks.len() >= BLOCKS_TELLING
    }

    /// The light of the two halves of each block.
    pub fn halves(&self) -> &[Vec<f64>; 2] {
        &self.halves
    }

    /// Reads one plane of a frame: pixels from `offset` on.
    pub fn read(&mut self, pixels: Pixels<'_>, offset: usize, convert: &Convert) {
        self.cells.fill(Cell::default());
        let (runs, cells, invert) = (&self.runs[..], &mut self.cells[..], convert.invert);
        let (saturated, non_finite) = match pixels {
            Pixels::U8(all) => (self.simd.run(integers::<u8>, (&all[offset..], runs, 255, invert, cells)), 0),
            Pixels::U16(all) => (self.simd.run(integers::<u16>, (&all[offset..], runs, 65535, invert, cells)), 0),
            Pixels::I16(all) => (self.simd.run(integers::<i16>, (&all[offset..], runs, 32767, invert, cells)), 0),
            Pixels::F32(all) => (0, self.simd.run(floats, (&all[offset..], runs, cells))),
        };
        let pixels: u32 = self.cells.iter().map(|cell| cell.pixels).sum();
        let share = |count: u32| f64::from(count) / f64::from(pixels.max(1));
        (self.saturated, self.non_finite) = (share(saturated), share(non_finite));
        self.reckon(f64::from(convert.dark_level));
    }

    /// Reads what the lines of the same plane have in common.
    pub fn read_texture(&mut self, pixels: Pixels<'_>, offset: usize) {
        self.texture = Texture::default();
        let (texture, runs, width, plane) =
            (&mut self.texture, &self.runs[..], self.width, offset..offset + self.plane_px);
        match pixels {
            Pixels::U8(all) => texture.read(&all[plane], runs, width),
            Pixels::U16(all) => texture.read(&all[plane], runs, width),
            Pixels::I16(all) => texture.read(&all[plane], runs, width),
            Pixels::F32(all) => texture.read(&all[plane], runs, width),
        }
    }

    /// From the sums to what they mean.
    fn reckon(&mut self, dark: f64) {
        let mean = |cell: &Cell| cell.light / f64::from(cell.pixels.max(1)) - dark;
        let [upper, lower] = &mut self.halves;
        let mut rest = 0.0;
        for (block, pair) in self.cells.chunks_exact(2).enumerate() {
            let (a, b) = (mean(&pair[0]), mean(&pair[1]));
            (upper[block], lower[block]) = (a, b);
            self.blocks[block] = 0.5 * (a + b);
            rest += (a - b) * (a - b) * 0.5 * f64::from(pair[0].pixels.min(pair[1].pixels));
        }
        let count = self.blocks.len() as f64;
        for (strip, blocks) in self.strips.iter_mut().zip(self.blocks.chunks_exact(self.columns)) {
            *strip = blocks.iter().sum::<f64>() / self.columns as f64;
        }
        self.level = self.strips.iter().sum::<f64>() / self.rows as f64;
        self.noise = (rest / count).sqrt();
        let (covariance, likeness) = common(upper, lower);
        (self.spread, self.likeness) = (covariance.max(0.0).sqrt(), likeness);
    }
}

/// Covariance and correlation of two pictures; the correlation of a picture without any variation is 0.
pub(super) fn common(a: &[f64], b: &[f64]) -> (f64, f64) {
    let count = a.len().max(1) as f64;
    let [mean_a, mean_b] = [a, b].map(|values| values.iter().sum::<f64>() / count);
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        (product, square_a, square_b) = (product + a * b, square_a + a * a, square_b + b * b);
    }
    let scale = (square_a * square_b).sqrt();
    (product / count, if scale > 0.0 { product / scale } else { 0.0 })
}

type Integers<'a, T> = (&'a [T], &'a [Run], i32, bool, &'a mut [Cell]);

/// Sums of integer pixels, exact; how many are saturated. Inverted ones are `top` minus their value, after the sum.
#[inline(always)]
fn integers<T: Copy + Into<i32>>((plane, runs, top, invert, cells): Integers<'_, T>) -> u32 {
    let mut saturated = 0;
    for run in runs {
        let pixels = &plane[run.at..run.at + run.length];
        let (sum, full) = if invert { sums(pixels, |pixel| pixel <= 0) } else { sums(pixels, |pixel| pixel >= top) };
        let cell = &mut cells[run.cell];
        cell.light += f64::from(if invert { run.length as i32 * top - sum } else { sum });
        cell.pixels += run.length as u32;
        saturated += full as u32;
    }
    saturated
}

/// The sum, and how many are `full`. Two plain loops: with both in one, over pieces of 16, this took four times as long.
#[inline(always)]
fn sums<T: Copy + Into<i32>>(pixels: &[T], full: impl Fn(i32) -> bool) -> (i32, i32) {
    let sum = pixels.iter().map(|&pixel| pixel.into()).sum();
    (sum, pixels.iter().map(|&pixel| i32::from(full(pixel.into()))).sum())
}

/// Sums of floating-point pixels; those that are not finite count as 0. How many these are.
#[inline(always)]
fn floats((plane, runs, cells): (&[f32], &[Run], &mut [Cell])) -> u32 {
    let mut non_finite = 0;
    for run in runs {
        let pixels = &plane[run.at..run.at + run.length];
        let mut lanes = [0.0f32; LANES];
        // False for NaN too.
        let is_good = |pixel: f32| pixel.abs() <= COUNTS_MAX;
        let good_of = |pixel: f32| if is_good(pixel) { pixel } else { 0.0 };
        let (pieces, rest) = pixels.as_chunks::<LANES>();
        for piece in pieces {
            for i in 0..LANES {
                lanes[i] += good_of(piece[i]);
            }
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, &pixel)| *lane += good_of(pixel));
        let bad: u32 = pixels.iter().map(|&pixel| u32::from(!is_good(pixel))).sum();
        let cell = &mut cells[run.cell];
        cell.light += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        cell.pixels += run.length as u32;
        non_finite += bad;
    }
    non_finite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_saturation_and_inversion_are_those_of_the_conversion() {
        let mut sketch = Sketch::new(Simd::detect(), 8, 8);
        let mut pixels = vec![100u16; 64];
        pixels[..16].fill(65535);
        sketch.read(Pixels::U16(&pixels), 0, &Convert { dark_level: 40.0, invert: false });
        assert_eq!((sketch.saturated, sketch.non_finite), (0.25, 0.0));
        assert_eq!(sketch.level, (16.0 * 65495.0 + 48.0 * 60.0) / 64.0);
        sketch.read(Pixels::U16(&pixels), 0, &Convert { dark_level: 0.0, invert: true });
        assert_eq!((sketch.saturated, sketch.level), (0.0, 48.0 * 65435.0 / 64.0));
        let mut floats = vec![f32::NAN; 128];
        floats[64..].fill(2.5);
        floats[64] = f32::INFINITY;
        sketch.read(Pixels::F32(&floats), 64, &Convert::default());
        assert_eq!((sketch.non_finite, sketch.level), (1.0 / 64.0, 63.0 * 2.5 / 64.0));
        sketch.read(Pixels::I16(&[-7; 64]), 0, &Convert::default());
        assert_eq!((sketch.level, sketch.spread, sketch.likeness), (-7.0, 0.0, 0.0));
    }

    #[test]
    fn no_vector_unit_changes_a_bit() {
        let pixels: Vec<f32> = (0..64 * 70).map(|i: i32| (i * 7919 % 1013) as f32 * 0.37).collect();
        let read = |simd| {
            let mut sketch = Sketch::new(simd, 64, 70);
            sketch.read(Pixels::F32(&pixels), 0, &Convert::default());
            (sketch.blocks.clone(), sketch.spread, sketch.noise)
        };
        assert_eq!(read(Simd::detect()), read(Simd::baseline()));
    }
}
