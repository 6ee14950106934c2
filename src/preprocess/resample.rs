//! From the frame's grid to the model's, with the shift undone in the same pass.
//!
//! Why it exists: shifting first and shrinking afterwards would interpolate twice and read the frame twice.
//! What it must never do: invent light. Every output pixel is a mean of frame pixels whose weights are ≥ 0 and sum to 1.
//!
//! A frame pixel is the light on a square. An output pixel is the mean over a rectangle, one output pixel wide but never narrower
//! than one frame pixel, placed where the content moved to. For a rectangle of whole pixels that is the average of linearly
//! interpolated pixels; at scale 1 and shift 0 it is the pixel itself, bit for bit; for enlarging it is linear interpolation.
//! Edge pixels are repeated outwards.

use super::simd::Simd;

/// Which frame pixels make an output pixel, along one axis.
struct Axis {
    from: usize,
    to: usize,
    /// Taps of every output pixel.
    taps: usize,
    /// First frame pixel of each output pixel.
    first: Vec<usize>,
    /// `taps` weights per output pixel.
    weights: Vec<f32>,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let taps = taps(from, to);
        Self { from, to, taps, first: vec![0; to], weights: vec![0.0; to * taps] }
    }

    /// Fills the table for content displaced by `shift` px.
    fn aim(&mut self, shift: f64) {
        let (scale, side) = (self.from as f64 / self.to as f64, box_px(self.from, self.to));
        self.weights.fill(0.0);
        for (i, first) in self.first.iter_mut().enumerate() {
            let left = (i as f64 + 0.5) * scale + shift - 0.5 * side;
            let right = left + side;
            let begin = left.floor() as i64;
            let last_start = (self.from - self.taps) as i64;
            *first = begin.clamp(0, last_start) as usize;
            let weights = &mut self.weights[i * self.taps..(i + 1) * self.taps];
            let mut pixel = begin;
            while (pixel as f64) < right {
                let overlap = right.min((pixel + 1) as f64) - left.max(pixel as f64);
                // Beyond the frame the edge pixel stands in.
                let inside = pixel.clamp(0, self.from as i64 - 1) as usize;
                weights[inside - *first] += (overlap / side) as f32;
                pixel += 1;
            }
        }
    }
}

/// Frame pixels that make an output pixel along one axis: a box of b pixels touches at most ⌈b⌉ + 1 of them.
pub(super) fn taps(from: usize, to: usize) -> usize {
    (box_px(from, to).ceil() as usize + 1).min(from)
}

/// Side of the averaging box, frame px.
fn box_px(from: usize, to: usize) -> f64 {
    (from as f64 / to as f64).max(1.0)
}

/// Resamples planes of one frame size to planes of one model size. Memory is made once.
pub struct Resampler {
    simd: Simd,
    rows: Axis,
    columns: Axis,
    /// One output row at the frame's width.
    line: Vec<f32>,
}

impl Resampler {
    /// From `from` = (height, width) to `to` = (height, width), px; no side is 0.
    pub fn new(simd: Simd, from: (usize, usize), to: (usize, usize)) -> Self {
        Self { simd, rows: Axis::new(from.0, to.0), columns: Axis::new(from.1, to.1), line: vec![0.0; from.1] }
    }

    /// Sets the shift to undo: [dy, dx] of the content, frame px, + is down and right.
    pub fn aim(&mut self, shift_px: [f32; 2]) {
        self.rows.aim(shift_px[0] as f64);
        self.columns.aim(shift_px[1] as f64);
    }

    /// Resamples one plane as aimed.
    pub fn resample(&mut self, image: &[f32], out: &mut [f32]) {
        self.simd.run(separable, (&self.rows, &self.columns, image, &mut self.line[..], out));
    }
}

#[inline(always)]
fn separable((rows, columns, image, line, out): (&Axis, &Axis, &[f32], &mut [f32], &mut [f32])) {
    let width = columns.from;
    for (i, out) in out.chunks_exact_mut(columns.to).enumerate() {
        let weights = &rows.weights[i * rows.taps..(i + 1) * rows.taps];
        let band = &image[rows.first[i] * width..(rows.first[i] + rows.taps) * width];
        blend_rows(band, weights, line);
        match columns.taps {
            2 => along::<2>(columns, line, out),
            3 => along::<3>(columns, line, out),
            5 => along::<5>(columns, line, out),
            9 => along::<9>(columns, line, out),
            _ => along_any(columns, line, out),
        }
    }
}

/// `line` = Σ weight · row; four rows at a time, so that the line is written once or twice.
#[inline(always)]
fn blend_rows(band: &[f32], weights: &[f32], line: &mut [f32]) {
    let width = line.len();
    for (group, weights) in weights.chunks(4).enumerate() {
        let row = |t: usize| &band[(group * 4 + t) * width..(group * 4 + t + 1) * width];
        if let &[a, b, c, d] = weights {
            let rows = row(0).iter().zip(row(1)).zip(row(2).iter().zip(row(3)));
            for (sum, ((p, q), (r, s))) in line.iter_mut().zip(rows) {
                let four = (p * a + q * b) + (r * c + s * d);
                *sum = if group == 0 { four } else { *sum + four };
            }
            continue;
        }
        for (t, &weight) in weights.iter().enumerate() {
            let fresh = group == 0 && t == 0;
            for (sum, p) in line.iter_mut().zip(row(t)) {
                *sum = if fresh { p * weight } else { *sum + p * weight };
            }
        }
    }
}

#[inline(always)]
fn along<const TAPS: usize>(columns: &Axis, line: &[f32], out: &mut [f32]) {
    let (weights, _) = columns.weights.as_chunks::<TAPS>();
    for ((out, weights), &first) in out.iter_mut().zip(weights).zip(&columns.first) {
        let pixels = &line[first..first + TAPS];
        let mut sum = pixels[0] * weights[0];
        for t in 1..TAPS {
            sum += pixels[t] * weights[t];
        }
        *out = sum;
    }
}

#[inline(always)]
fn along_any(columns: &Axis, line: &[f32], out: &mut [f32]) {
    let weights = columns.weights.chunks_exact(columns.taps);
    for ((out, weights), &first) in out.iter_mut().zip(weights).zip(&columns.first) {
        *out = line[first..].iter().zip(weights).map(|(p, w)| p * w).sum();
    }
}

/// A field of local shifts: total displacement [dy, dx] at the centres of a grid of blocks, row-major.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// Displacement of the content per block, frame px.
    pub shifts_px: &'a [[f32; 2]],
    /// Rows of the block centres, px, ascending.
    pub centres_y: &'a [f32],
    /// Columns of the block centres, px, ascending.
    pub centres_x: &'a [f32],
}

/// Resamples with a displacement of its own for every output pixel: the field, interpolated bilinearly between block centres and
/// constant beyond the outermost ones.
pub struct FieldResampler {
    from: (usize, usize),
    to: (usize, usize),
    /// Displacement of every output pixel, frame px.
    shifts: Vec<[f32; 2]>,
}

impl FieldResampler {
    /// As [`Resampler::new`].
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { from, to, shifts: vec![[0.0; 2]; to.0 * to.1] }
    }

    /// Sets the field to undo.
    pub fn aim(&mut self, field: Field<'_>) {
        let (height, width) = self.to;
        let (scale_y, scale_x) = (self.from.0 as f32 / height as f32, self.from.1 as f32 / width as f32);
        for (i, row) in self.shifts.chunks_exact_mut(width).enumerate() {
            let (above, share_y) = between(field.centres_y, (i as f32 + 0.5) * scale_y - 0.5);
            for (j, shift) in row.iter_mut().enumerate() {
                let (left, share_x) = between(field.centres_x, (j as f32 + 0.5) * scale_x - 0.5);
                *shift = interpolate(field, (above, share_y), (left, share_x));
            }
        }
    }

    /// Resamples one plane as aimed: each output pixel is the mean of bilinear samples, one per frame pixel of its box.
    pub fn resample(&self, image: &[f32], out: &mut [f32]) {
        let (height, width) = self.to;
        let (samples_y, step_y) = samples(self.from.0, height);
        let (samples_x, step_x) = samples(self.from.1, width);
        let (scale_y, scale_x) = (self.from.0 as f32 / height as f32, self.from.1 as f32 / width as f32);
        let share = 1.0 / (samples_y * samples_x) as f32;
        for (index, (out, shift)) in out.iter_mut().zip(&self.shifts).enumerate() {
            let (i, j) = (index / width, index % width);
            let y = (i as f32 + 0.5) * scale_y - 0.5 + shift[0] - 0.5 * (samples_y - 1) as f32 * step_y;
            let x = (j as f32 + 0.5) * scale_x - 0.5 + shift[1] - 0.5 * (samples_x - 1) as f32 * step_x;
            let mut sum = 0.0;
            for sample in 0..samples_y * samples_x {
                let (down, right) = (sample / samples_x, sample % samples_x);
                sum += bilinear(image, self.from, y + down as f32 * step_y, x + right as f32 * step_x);
            }
            *out = sum * share;
        }
    }
}

/// Samples per output pixel along an axis and their distance, frame px.
fn samples(from: usize, to: usize) -> (usize, f32) {
    let side = box_px(from, to);
    let count = side.round() as usize;
    (count, (side / count as f64) as f32)
}

/// The centre at or before `at`, and how far `at` lies towards the next one, 0 to 1.
fn between(centres: &[f32], at: f32) -> (usize, f32) {
    let next = centres.partition_point(|&c| c <= at);
    if next == 0 {
        return (0, 0.0);
    }
    if next == centres.len() {
        return (centres.len() - 1, 0.0);
    }
    (next - 1, (at - centres[next - 1]) / (centres[next] - centres[next - 1]))
}

fn interpolate(field: Field<'_>, (above, share_y): (usize, f32), (left, share_x): (usize, f32)) -> [f32; 2] {
    let columns = field.centres_x.len();
    let (below, right) = ((above + 1).min(field.centres_y.len() - 1), (left + 1).min(columns - 1));
    let at = |row: usize, column: usize| field.shifts_px[row * columns + column];
    let (a, b, c, d) = (at(above, left), at(above, right), at(below, left), at(below, right));
    std::array::from_fn(|axis| {
        let top = a[axis] + share_x * (b[axis] - a[axis]);
        let bottom = c[axis] + share_x * (d[axis] - c[axis]);
        top + share_y * (bottom - top)
    })
}

/// Light at a point in px from the centre of the first pixel; edge pixels repeated.
fn bilinear(image: &[f32], (height, width): (usize, usize), y: f32, x: f32) -> f32 {
    let (y, x) = (y.clamp(0.0, (height - 1) as f32), x.clamp(0.0, (width - 1) as f32));
    let (top, left) = (y as usize, x as usize);
    let (bottom, right) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
    let (share_y, share_x) = (y - top as f32, x - left as f32);
    let at = |row: usize, column: usize| image[row * width + column];
    let upper = at(top, left) * (1.0 - share_x) + at(top, right) * share_x;
    let lower = at(bottom, left) * (1.0 - share_x) + at(bottom, right) * share_x;
    upper * (1.0 - share_y) + lower * share_y
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize) -> Vec<f32> {
        (0..height * width).map(|i| ((i * 7919 + i / 7 * 31) % 1009) as f32 - 100.0).collect()
    }

    fn rigid(image: &[f32], from: (usize, usize), to: (usize, usize), shift: [f32; 2]) -> Vec<f32> {
        Simd::same_bits(|simd| {
            let (mut resampler, mut out) = (Resampler::new(simd, from, to), vec![f32::NAN; to.0 * to.1]);
            resampler.aim(shift);
            resampler.resample(image, &mut out);
            out
        })
    }

    fn pixel(image: &[f32], (height, width): (usize, usize), y: i64, x: i64) -> f64 {
        image[y.clamp(0, height as i64 - 1) as usize * width + x.clamp(0, width as i64 - 1) as usize] as f64
    }

    /// Mean over the box by brute force: a grid of points, each the light of the square it falls on.
    fn integral(image: &[f32], from: (usize, usize), to: (usize, usize), at: (usize, usize), shift: [f32; 2]) -> f64 {
        const POINTS: usize = 240;
        let side = (box_px(from.0, to.0), box_px(from.1, to.1));
        let centre_y = (at.0 as f64 + 0.5) * from.0 as f64 / to.0 as f64 + shift[0] as f64;
        let centre_x = (at.1 as f64 + 0.5) * from.1 as f64 / to.1 as f64 + shift[1] as f64;
        let mut sum = 0.0;
        for i in 0..POINTS {
            let y = centre_y + ((i as f64 + 0.5) / POINTS as f64 - 0.5) * side.0;
            for j in 0..POINTS {
                let x = centre_x + ((j as f64 + 0.5) / POINTS as f64 - 0.5) * side.1;
                sum += pixel(image, from, y.floor() as i64, x.floor() as i64);
            }
        }
        sum / (POINTS * POINTS) as f64
    }

    #[test]
    fn scale_one_and_shift_zero_is_the_identity_bit_by_bit() {
        let light = image(37, 41);
        assert_eq!(rigid(&light, (37, 41), (37, 41), [0.0, 0.0]), light);
        let mut out = vec![0.0; light.len()];
        let mut resampler = FieldResampler::new((37, 41), (37, 41));
        resampler.aim(Field { shifts_px: &[[0.0; 2]], centres_y: &[18.0], centres_x: &[20.0] });
        resampler.resample(&light, &mut out);
        assert_eq!(out, light);
    }

    #[test]
    fn a_whole_scale_without_shift_is_the_mean_of_each_block() {
        let light = image(12, 20);
        let out = rigid(&light, (12, 20), (3, 5), [0.0, 0.0]);
        for (index, found) in out.iter().enumerate() {
            let block = (0..16).map(|k| light[(index / 5 * 4 + k / 4) * 20 + index % 5 * 4 + k % 4]);
            let mean = block.sum::<f32>() / 16.0;
            assert!((found - mean).abs() < 1e-3, "{found} for {mean}");
        }
    }

    #[test]
    fn a_whole_shift_takes_the_pixel_the_content_went_to_and_repeats_the_edges() {
        let light = image(9, 11);
        let out = rigid(&light, (9, 11), (9, 11), [2.0, -3.0]);
        for y in 0..9i64 {
            for x in 0..11i64 {
                assert_eq!(out[(y * 11 + x) as usize] as f64, pixel(&light, (9, 11), y + 2, x - 3), "({y}, {x})");
            }
        }
    }

    #[test]
    fn every_ratio_size_and_shift_is_the_integral_over_the_box() {
        let cases = [
            ((16, 16), (4, 4), [0.3, -0.7]),
            ((17, 23), (5, 7), [-1.25, 2.4]),
            ((13, 9), (13, 9), [0.5, 0.25]),
            ((7, 8), (19, 21), [0.4, -0.6]),
            ((20, 12), (7, 12), [-30.0, 40.0]),
            ((10, 10), (1, 1), [0.2, 0.0]),
            ((8, 36), (2, 4), [0.1, 0.9]),
        ];
        for (from, to, shift) in cases {
            let light = image(from.0, from.1);
            let out = rigid(&light, from, to, shift);
            for (index, &found) in out.iter().enumerate() {
                let truth = integral(&light, from, to, (index / to.1, index % to.1), shift);
                assert!(
                    (found as f64 - truth).abs() < 8.0,
                    "{from:?} → {to:?} by {shift:?} at {index}: {found}, {truth}"
                );
            }
        }
    }

    #[test]
    fn enlarging_is_linear_interpolation() {
        // Along x by 2: centres at −0.25, 0.25, 0.75 … of the old pixels.
        let out = rigid(&[0.0, 8.0, 4.0], (1, 3), (1, 6), [0.0, 0.0]);
        assert_eq!(out, [0.0, 2.0, 6.0, 7.0, 5.0, 4.0]);
    }

    #[test]
    fn weights_sum_to_one_whatever_the_shift() {
        for (from, to) in [((64, 64), (16, 16)), ((65, 63), (17, 31)), ((5, 5), (9, 9))] {
            for shift in [[0.0, 0.0], [0.37, -5.9], [100.0, -100.0]] {
                let out = rigid(&vec![7.0; from.0 * from.1], from, to, shift);
                assert!(out.iter().all(|v| (v - 7.0).abs() < 1e-5), "{from:?} {to:?} {shift:?}");
            }
        }
    }

    #[test]
    fn a_uniform_field_resamples_like_the_rigid_shift() {
        let light = image(24, 32);
        for to in [(24, 32), (6, 8), (12, 8)] {
            let (shifts, mut out) = ([[1.3, -2.6]; 4], vec![0.0; to.0 * to.1]);
            let mut resampler = FieldResampler::new((24, 32), to);
            resampler.aim(Field { shifts_px: &shifts, centres_y: &[5.5, 17.5], centres_x: &[7.5, 23.5] });
            resampler.resample(&light, &mut out);
            for (a, b) in out.iter().zip(rigid(&light, (24, 32), to, [1.3, -2.6])) {
                assert!((a - b).abs() < 2e-3, "{a} for {b}");
            }
        }
    }

    #[test]
    fn a_field_is_bilinear_between_block_centres_and_constant_beyond() {
        let shifts = [[0.0, 0.0], [0.0, 4.0], [2.0, 0.0], [2.0, 4.0]];
        let mut resampler = FieldResampler::new((24, 32), (24, 32));
        resampler.aim(Field { shifts_px: &shifts, centres_y: &[6.0, 18.0], centres_x: &[8.0, 24.0] });
        let at = |y: usize, x: usize| resampler.shifts[y * 32 + x];
        assert_eq!((at(0, 0), at(23, 31), at(12, 16)), ([0.0, 0.0], [2.0, 4.0], [1.0, 2.0]));
        assert_eq!((at(9, 0), at(3, 12)), ([0.5, 0.0], [0.0, 1.0]));
    }
}
