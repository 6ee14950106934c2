//! From the frame's grid to the model's, with the animal laid on the atlas and the shift undone in the same pass.
//!
//! Why it exists: laying a resampled frame on the atlas would interpolate twice. What it must never do: invent light. Every output
//! pixel is a mean of frame pixels whose weights are ≥ 0 and sum to 1.
//!
//! An output pixel is the mean of bilinear samples spread evenly over the box that it covers in the animal's frame, turned and
//! stretched as the placement says. Of a frame with several pixels per sample, whole pixels are averaged first. Edge pixels are
//! repeated outwards.

use super::placement::Affine;
use super::simd::Simd;

/// One axis of the frame and of the model's frame.
#[derive(Clone, Copy)]
struct Axis {
    /// Frame pixels averaged into one.
    bin: usize,
    /// Those that result.
    binned: usize,
    /// Samples of an output pixel.
    samples: usize,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let side = (from as f64 / to as f64).max(1.0);
        // Two binned pixels or more stay in a box: a bilinear sample reaches as far as its neighbour.
        let bin = ((side / 2.0) as usize).max(1);
        Self { bin, binned: from / bin, samples: (side / bin as f64).round().max(1.0) as usize }
    }
}

/// Where the samples of every output pixel lie, for the CPU and for a device. Memory is made once.
pub(super) struct Laying {
    from: (usize, usize),
    to: (usize, usize),
    /// Frame pixels averaged into one along y and x, and how many result.
    pub bins: [usize; 2],
    pub binned: [usize; 2],
    /// Samples of an output pixel along y and x.
    samples: [usize; 2],
    /// In binned px: y of the middle of every output pixel in the frame without shift, then x of each; then from there to each of the
    /// samples, y and x.
    pub table: Vec<f32>,
}

impl Laying {
    /// From `from` = (height, width) to `to` = (height, width), px; no side is 0.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        let (rows, columns) = (Axis::new(from.0, to.0), Axis::new(from.1, to.1));
        let samples = [rows.samples, columns.samples];
        Self {
            from,
            to,
            bins: [rows.bin, columns.bin],
            binned: [rows.binned, columns.binned],
            samples,
            table: vec![0.0; 2 * (to.0 * to.1 + samples[0] * samples[1])],
        }
    }

    /// Samples of an output pixel.
    pub fn samples(&self) -> usize {
        self.samples[0] * self.samples[1]
    }

    /// Sets the placement to undo.
    pub fn lay(&mut self, affine: &Affine) {
        let ((height, width), [[a, b], [c, d]]) = (self.to, affine.matrix);
        let frame = [self.from.0 as f64, self.from.1 as f64];
        let bins = self.bins.map(|bin| bin as f64);
        let binned = |share: [f64; 2], axis: usize| (share[axis] * frame[axis] / bins[axis]) as f32;
        let turned = |[y, x]: [f64; 2]| [a * y + b * x, c * y + d * x];
        let (middles, around) = self.table.split_at_mut(2 * height * width);
        let (middle_y, middle_x) = middles.split_at_mut(height * width);
        for i in 0..height * width {
            let y = (((i / width) as f64) + 0.5) / height as f64 - 0.5;
            let x = (((i % width) as f64) + 0.5) / width as f64 - 0.5;
            let [y, x] = turned([y, x]);
            // The frame's middle lies half a frame from its edge, and a pixel's middle half a pixel from its own.
            let at = [y + affine.shift[0] + 0.5, x + affine.shift[1] + 0.5];
            (middle_y[i], middle_x[i]) = (binned(at, 0) - 0.5, binned(at, 1) - 0.5);
        }
        let [down, right] = self.samples;
        for (k, around) in around.chunks_exact_mut(2).enumerate() {
            let of = |at: usize, count: usize, side: usize| ((at as f64 + 0.5) / count as f64 - 0.5) / side as f64;
            let offset = turned([of(k / right, down, height), of(k % right, right, width)]);
            (around[0], around[1]) = (binned(offset, 0), binned(offset, 1));
        }
    }
}

/// Resamples planes of one frame size to planes of one model size. Memory is made once.
pub struct AffineResampler {
    simd: Simd,
    laying: Laying,
    /// The shift, [y, x] in binned px.
    shift: [f32; 2],
    binned: Vec<f32>,
}

/// What the loop over output pixels reads.
struct Aimed<'a> {
    height: usize,
    width: usize,
    middle_y: &'a [f32],
    middle_x: &'a [f32],
    around: &'a [f32],
    shift: [f32; 2],
}

impl AffineResampler {
    /// From `from` = (height, width) to `to` = (height, width), px; no side is 0.
    pub fn new(simd: Simd, from: (usize, usize), to: (usize, usize)) -> Self {
        let laying = Laying::new(from, to);
        let values = if laying.bins == [1, 1] { 0 } else { laying.binned[0] * laying.binned[1] };
        Self { simd, laying, shift: [0.0; 2], binned: vec![0.0; values] }
    }

    /// Sets the placement to undo.
    pub fn lay(&mut self, affine: &Affine) {
        self.laying.lay(affine);
    }

    /// Sets the shift to undo: [dy, dx] of the content, frame px, + is down and right.
    pub fn aim(&mut self, shift_px: [f32; 2]) {
        self.shift = [0, 1].map(|axis| shift_px[axis] / self.laying.bins[axis] as f32);
    }

    /// Resamples one plane as laid and aimed.
    pub fn resample(&mut self, image: &[f32], out: &mut [f32]) {
        let Laying { from, to, bins, binned: [height, width], table, .. } = &self.laying;
        let light = if self.binned.is_empty() {
            image
        } else {
            let arguments = (image, from.1, *bins, [*height, *width], &mut self.binned[..]);
            self.simd.run(bin, arguments);
            &self.binned
        };
        let (middles, around) = table.split_at(2 * to.0 * to.1);
        let (middle_y, middle_x) = middles.split_at(to.0 * to.1);
        let aimed = Aimed { height: *height, width: *width, middle_y, middle_x, around, shift: self.shift };
        self.simd.run(sample, (aimed, light, out));
    }
}

/// Means of whole pixels.
#[inline(always)]
fn bin((image, width, [down, right], [rows, columns], binned): (&[f32], usize, [usize; 2], [usize; 2], &mut [f32])) {
    let share = 1.0 / (down * right) as f32;
    for (row, out) in binned.chunks_exact_mut(columns).take(rows).enumerate() {
        out.fill(0.0);
        for line in image[row * down * width..].chunks_exact(width).take(down) {
            for (sum, pixels) in out.iter_mut().zip(line.chunks_exact(right)) {
                *sum += pixels.iter().sum::<f32>();
            }
        }
        out.iter_mut().for_each(|v| *v *= share);
    }
}

#[inline(always)]
fn sample((aimed, light, out): (Aimed<'_>, &[f32], &mut [f32])) {
    let Aimed { height, width, middle_y, middle_x, around, shift } = aimed;
    let (last_y, last_x) = ((height - 1) as f32, (width - 1) as f32);
    let (around, _) = around.as_chunks::<2>();
    let share = 1.0 / around.len() as f32;
    for ((out, middle_y), middle_x) in out.iter_mut().zip(middle_y).zip(middle_x) {
        let mut sum = 0.0;
        for [down, right] in around {
            let y = (middle_y + shift[0] + down).clamp(0.0, last_y);
            let x = (middle_x + shift[1] + right).clamp(0.0, last_x);
            let (top, left) = (y as usize, x as usize);
            let (below, beside) = ((top + 1).min(height - 1) * width, (left + 1).min(width - 1));
            let (share_y, share_x) = (y - top as f32, x - left as f32);
            let upper = light[top * width + left] * (1.0 - share_x) + light[top * width + beside] * share_x;
            let lower = light[below + left] * (1.0 - share_x) + light[below + beside] * share_x;
            sum += upper * (1.0 - share_y) + lower * share_y;
        }
        *out = sum * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::resample::Resampler;

    const STRAIGHT: Affine = Affine { matrix: [[1.0, 0.0], [0.0, 1.0]], shift: [0.0; 2] };

    fn scene(height: usize, width: usize) -> Vec<f32> {
        let light = |i: usize| {
            let (y, x) = ((i / width) as f32 / height as f32, (i % width) as f32 / width as f32);
            100.0 + 50.0 * (9.0 * y + 2.0 * x).sin() + 40.0 * (7.0 * x - 3.0 * y).cos()
        };
        (0..height * width).map(light).collect()
    }

    fn affine(image: &[f32], from: (usize, usize), to: (usize, usize), at: &Affine, shift: [f32; 2]) -> Vec<f32> {
        Simd::same_bits(|simd| {
            let (mut resampler, mut out) = (AffineResampler::new(simd, from, to), vec![f32::NAN; to.0 * to.1]);
            resampler.lay(at);
            resampler.aim(shift);
            resampler.resample(image, &mut out);
            out
        })
    }

    #[test]
    fn without_a_placement_it_is_the_rigid_resampling() {
        let cases = [
            ((64, 64), (64, 64), [0.0, 0.0]),
            ((64, 64), (64, 64), [1.3, -2.6]),
            ((128, 128), (64, 64), [0.5, 0.25]),
            ((256, 192), (64, 48), [3.0, -1.5]),
            ((500, 333), (64, 64), [0.7, 4.0]),
        ];
        for (from, to, shift) in cases {
            let image = scene(from.0, from.1);
            let mut rigid = Resampler::new(Simd::detect(), from, to);
            let mut expected = vec![0.0; to.0 * to.1];
            rigid.aim(shift);
            rigid.resample(&image, &mut expected);
            let found = affine(&image, from, to, &STRAIGHT, shift);
            // A last incomplete bin is left out, and the edges are repeated otherwise: compare inside.
            let inside = |i: usize| (4..to.0 - 4).contains(&(i / to.1)) && (4..to.1 - 4).contains(&(i % to.1));
            for (i, (a, b)) in found.iter().zip(&expected).enumerate().filter(|(i, _)| inside(*i)) {
                assert!((a - b).abs() < 0.8, "{from:?} → {to:?} by {shift:?} at {i}: {a}, {b}");
            }
        }
        let image = scene(37, 41);
        let same = affine(&image, (37, 41), (37, 41), &STRAIGHT, [0.0; 2]);
        assert!(same.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-3));
    }

    #[test]
    fn content_is_taken_from_where_the_placement_and_the_shift_put_it() {
        // A point of the section appears at matrix · point + shift of the placement, and then moves with the tissue.
        let at = Affine { matrix: [[0.98, 0.2], [-0.17, 1.05]], shift: [0.03, -0.05] };
        let (from, to, shift) = ((128, 96), (32, 24), [2.0f32, -3.0f32]);
        let light = |y: f64, x: f64| 100.0 + 50.0 * (9.0 * y + 2.0 * x).sin() + 40.0 * (7.0 * x - 3.0 * y).cos();
        let image: Vec<f32> = (0..128 * 96)
            .map(|i| {
                let y = ((i / 96) as f64 + 0.5 - f64::from(shift[0])) / 128.0 - 0.5 - at.shift[0];
                let x = ((i % 96) as f64 + 0.5 - f64::from(shift[1])) / 96.0 - 0.5 - at.shift[1];
                let [[a, b], [c, d]] = at.matrix;
                let determinant = a * d - b * c;
                light((d * y - b * x) / determinant, (a * x - c * y) / determinant) as f32
            })
            .collect();
        let found = affine(&image, from, to, &at, shift);
        for (i, v) in found.iter().enumerate() {
            let (row, column) = (i / 24, i % 24);
            if !(5..27).contains(&row) || !(4..20).contains(&column) {
                continue;
            }
            let truth = light((row as f64 + 0.5) / 32.0 - 0.5, (column as f64 + 0.5) / 24.0 - 0.5);
            assert!((f64::from(*v) - truth).abs() < 1.5, "({row}, {column}): {v} for {truth}");
        }
    }
}
