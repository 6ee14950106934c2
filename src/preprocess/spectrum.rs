//! The low end of an image's spectrum: the only frequencies that registration reads.
//!
//! Why it exists: at the resolution that registration smooths to, most of a transform is thrown away. So rows and columns are
//! low-passed and decimated first, two real rows share one complex transform, and only kept columns are transformed at all.
//! What it must never do: allocate after construction, or shift the content: every filter is the same for frame and template.

use std::f64::consts::{PI, TAU};
use std::sync::Arc;

use pulp::Arch;
use rustfft::num_complex::{Complex, Complex32};
use rustfft::{Fft, FftPlanner};

/// Taps summed in one pass over a row; filters are padded to a multiple of it.
const TAPS_FUSED: usize = 3;
/// Columns are stored this much apart beyond their length, so that they do not share cache sets.
const COLUMN_GAP: usize = 8;
/// Width of the taper at an edge, in units of the smoothing: 24 px for σ = 1.15 px.
const TAPER_SMOOTHINGS: f64 = 21.0;
/// ln of twice the suppression of what decimation would fold over the kept frequencies (46 dB).
const STOPBAND_LN: f64 = 5.96;

/// One axis of the image: window, low pass, decimation, transform length.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Pixels of the image along this axis.
    pub px: usize,
    /// Pixels per transformed sample: a power of two.
    pub factor: usize,
    /// Samples of the transform, a product of 2, 3 and 5.
    pub length: usize,
    /// Samples that hold image; the rest is padding.
    pub samples: usize,
    /// Kept frequencies: 0 to `kept − 1` of each sign.
    pub kept: usize,
    /// Low pass, centred between `taps.len() / 2 − 1` and `taps.len() / 2` or so: the same for every image.
    pub taps: Vec<f32>,
    /// One almost everywhere, falling to zero at the edges.
    pub window: Vec<f32>,
}

impl Axis {
    /// Plans an axis of `px` pixels of which at most `frequencies` low frequencies are kept.
    pub fn new(px: usize, frequencies: usize, smooth_px: f32) -> Self {
        let mut factor = 1;
        while px / (2 * factor) * 2 >= 5 * frequencies {
            factor *= 2;
        }
        let samples = px.div_ceil(factor);
        let length = smooth_length(samples);
        let kept = frequencies.min((length - 1) / 2 + 1);
        let taps = low_pass(factor, kept as f64 / (length * factor) as f64);
        Self { px, factor, length, samples, kept, taps, window: edge_taper(px, smooth_px) }
    }

    /// Radians per pixel of displacement at frequency index `k`.
    pub fn radians_per_px(&self, k: usize) -> f64 {
        TAU * k as f64 / (self.length * self.factor) as f64
    }

    /// Gaussian weight of frequency `k` for smoothing by σ = `smooth_px`.
    pub fn weight(&self, k: usize, smooth_px: f32) -> f32 {
        (-0.5 * (self.radians_per_px(k) * f64::from(smooth_px)).powi(2)).exp() as f32
    }

    /// First image pixel under the filter for sample 0.
    fn origin(&self) -> isize {
        -((self.taps.len() / 2) as isize)
    }

    /// The window's own kept spectrum: what a constant image of 1 becomes.
    fn constant(&self) -> Vec<Complex32> {
        let sample = |j: usize| -> f64 {
            let at = |t: usize| usize::try_from((j * self.factor + t) as isize + self.origin()).ok();
            let tap = |t: usize| at(t).and_then(|x| self.window.get(x)).map_or(0.0, |w| f64::from(w * self.taps[t]));
            (0..self.taps.len()).map(tap).sum()
        };
        let samples: Vec<f64> = (0..self.samples).map(sample).collect();
        let phase = |j: usize, k: usize| -TAU * ((j * k) % self.length) as f64 / self.length as f64;
        let bin = |k: usize| samples.iter().enumerate().map(|(j, s)| Complex::from_polar(*s, phase(j, k))).sum();
        (0..self.kept).map(bin).map(|sum: Complex<f64>| Complex32::new(sum.re as f32, sum.im as f32)).collect()
    }
}

/// The smallest product of 2, 3 and 5 that is not under `n`; even, so that rows pair.
fn smooth_length(n: usize) -> usize {
    let smooth = |mut m: usize| {
        for p in [2, 3, 5] {
            while m.is_multiple_of(p) {
                m /= p;
            }
        }
        m == 1
    };
    (n.max(2)..).find(|&m| m.is_multiple_of(2) && smooth(m)).unwrap_or(n)
}

/// One almost everywhere, falling to zero at the edges as half a cosine. A jump left at the edge (as of suite2p's sigmoid) does
/// not move with the content: it would pull every shift towards zero.
fn edge_taper(length: usize, smooth_px: f32) -> Vec<f32> {
    let ramp = (TAPER_SMOOTHINGS * f64::from(smooth_px).max(0.5)).min(length as f64 / 5.0);
    let inside = |x: usize| (x.min(length - 1 - x) as f64 + 0.5) / ramp;
    (0..length).map(|x| (0.5 - 0.5 * (PI * inside(x).min(1.0)).cos()) as f32).collect()
}

/// Dolph–Chebyshev low pass for decimation by `factor`: what folds onto the kept band (to `band` cycles/px) is suppressed.
/// The droop within the band does not matter: registration reads the phase and weighs frame and template alike.
fn low_pass(factor: usize, band: f64) -> Vec<f32> {
    if factor == 1 {
        return vec![1.0];
    }
    let edge = 1.0 / (PI * (1.0 / factor as f64 - band)).cos();
    let count = ((STOPBAND_LN / edge.acosh()).ceil() as usize + 1).next_multiple_of(TAPS_FUSED);
    let chebyshev = |x: f64| {
        let order = (count - 1) as f64;
        if x.abs() <= 1.0 { (order * x.acos()).cos() } else { (order * x.acosh()).cosh() }
    };
    let gain = |k: usize| chebyshev(edge * (PI * k as f64 / count as f64).cos());
    let angle = |k: usize, n: usize| TAU * k as f64 * (n as f64 - (count as f64 - 1.0) / 2.0) / count as f64;
    let tap = |n: usize| gain(0) + 2.0 * (1..=(count - 1) / 2).map(|k| gain(k) * angle(k, n).cos()).sum::<f64>();
    let taps: Vec<f64> = (0..count).map(tap).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|t| (t / sum) as f32).collect()
}

/// Transforms images of one geometry into kept columns. All memory is taken in `new`.
pub(super) struct Spectrum {
    /// Rows: the vertical axis.
    pub y: Axis,
    /// Columns: the horizontal axis.
    pub x: Axis,
    /// Spectrum of an image of ones along each axis.
    pub constant: [Vec<Complex32>; 2],
    arch: Arch,
    row_plan: Arc<dyn Fft<f32>>,
    column_plan: Arc<dyn Fft<f32>>,
    scratch: Vec<Complex32>,
    packed: Vec<Complex32>,
    rows: [Row; 2],
    columns: Vec<Complex32>,
}

/// One filtered row on its way.
struct Row {
    /// The row after the vertical filter, windowed, with the margins that the horizontal filter reads.
    wide: Vec<f32>,
    /// The same, split by position modulo the decimation factor.
    phases: Vec<f32>,
    /// The decimated row.
    narrow: Vec<f32>,
}

impl Spectrum {
    /// Plans transforms of `height` × `width` images.
    pub fn new(height: usize, width: usize, frequencies: usize, smooth_px: f32) -> Self {
        let [y, x] = [height, width].map(|px| Axis::new(px, frequencies, smooth_px));
        let mut planner = FftPlanner::new();
        let row_plan = planner.plan_fft_forward(x.length);
        let column_plan = planner.plan_fft_forward(y.length);
        let scratch = row_plan.get_inplace_scratch_len().max(column_plan.get_inplace_scratch_len());
        let phase = x.length + x.taps.len();
        let row = || Row {
            wide: vec![0.0; phase * x.factor],
            phases: vec![0.0; phase * x.factor],
            narrow: vec![0.0; x.length],
        };
        Self {
            arch: Arch::new(),
            scratch: vec![Complex32::ZERO; scratch],
            packed: vec![Complex32::ZERO; x.length],
            rows: [row(), row()],
            columns: vec![Complex32::ZERO; x.kept * (y.length + COLUMN_GAP)],
            constant: [y.constant(), x.constant()],
            row_plan,
            column_plan,
            y,
            x,
        }
    }

    /// Transforms `image`, a window of rows `stride` apart, after subtraction of `offset`.
    pub fn transform(&mut self, image: &[f32], stride: usize, offset: f32) {
        let (arch, stored) = (self.arch, self.y.length + COLUMN_GAP);
        for first in (0..self.y.samples).step_by(2) {
            arch.dispatch(
                #[inline(always)]
                || {
                    let [a, b] = &mut self.rows;
                    decimate(a, &self.y, &self.x, first, image, stride, offset);
                    decimate(b, &self.y, &self.x, first + 1, image, stride, offset);
                    for ((z, a), b) in self.packed.iter_mut().zip(&a.narrow).zip(&b.narrow) {
                        *z = Complex32::new(*a, *b);
                    }
                },
            );
            self.row_plan.process_with_scratch(&mut self.packed, &mut self.scratch);
            arch.dispatch(
                #[inline(always)]
                || unpack(&self.packed, &mut self.columns[first..], stored, self.x.kept),
            );
        }
        for column in self.columns.chunks_exact_mut(stored) {
            column[self.y.samples.next_multiple_of(2)..].fill(Complex32::ZERO);
            self.column_plan.process_with_scratch(&mut column[..self.y.length], &mut self.scratch);
        }
    }

    /// Column `kx` of the last transform: frequencies 0 to `kept − 1`, and `1 − kept` to −1.
    pub fn column(&self, kx: usize) -> (&[Complex32], &[Complex32]) {
        let column = &self.columns[kx * (self.y.length + COLUMN_GAP)..][..self.y.length];
        (&column[..self.y.kept], &column[self.y.length + 1 - self.y.kept..])
    }
}

/// Filters, windows and decimates output row `r` of the image into `row.narrow`.
#[inline(always)]
fn decimate(row: &mut Row, y: &Axis, x: &Axis, r: usize, image: &[f32], stride: usize, offset: f32) {
    let margin = x.taps.len() / 2;
    let wide = &mut row.wide[margin..margin + x.px];
    wide.fill(0.0);
    let mut sum = 0.0;
    let first = (r * y.factor) as isize + y.origin();
    let source = |t: usize| usize::try_from(first + t as isize).ok().filter(|&s| s < y.px && r < y.samples);
    for t in (0..y.taps.len()).step_by(TAPS_FUSED) {
        let weight = |i: usize| source(t + i).map_or(0.0, |s| y.taps.get(t + i).map_or(0.0, |tap| tap * y.window[s]));
        let weights = [weight(0), weight(1), weight(2)];
        let line = |i: usize| &image[source(t + i).unwrap_or(0) * stride..][..x.px];
        accumulate(wide, [line(0), line(1), line(2)], weights);
        sum += weights[0] + weights[1] + weights[2];
    }
    for (value, window) in wide.iter_mut().zip(&x.window) {
        *value = (*value - sum * offset) * window;
    }
    if x.factor == 1 {
        row.narrow[..x.px].copy_from_slice(wide);
        return;
    }
    let phase = row.wide.len() / x.factor;
    for (p, part) in row.phases.chunks_exact_mut(phase).enumerate() {
        split(part, &row.wide, x.factor, p);
    }
    let narrow = &mut row.narrow[..x.samples];
    narrow.fill(0.0);
    for (t, taps) in x.taps.chunks_exact(TAPS_FUSED).enumerate() {
        let line = |i: usize| {
            let tap = t * TAPS_FUSED + i;
            &row.phases[tap % x.factor * phase + tap / x.factor..][..narrow.len()]
        };
        accumulate(narrow, [line(0), line(1), line(2)], [taps[0], taps[1], taps[2]]);
    }
}

/// `part[j] = wide[j × factor + p]`; the common factor written out so that it becomes shuffles.
#[inline(always)]
fn split(part: &mut [f32], wide: &[f32], factor: usize, p: usize) {
    if factor == 2 {
        for (to, from) in part.iter_mut().zip(wide.as_chunks::<2>().0) {
            *to = from[p];
        }
    } else {
        for (to, from) in part.iter_mut().zip(wide.chunks_exact(factor)) {
            *to = from[p];
        }
    }
}

#[inline(always)]
fn accumulate(sum: &mut [f32], [a, b, c]: [&[f32]; TAPS_FUSED], [u, v, w]: [f32; TAPS_FUSED]) {
    for (((sum, a), b), c) in sum.iter_mut().zip(a).zip(b).zip(c) {
        *sum += (u * a + v * b) + w * c;
    }
}

/// Separates the spectra of the two rows in `packed` and stores them side by side in each kept column.
#[inline(always)]
fn unpack(packed: &[Complex32], columns: &mut [Complex32], stored: usize, kept: usize) {
    for kx in 0..kept {
        let z = packed[kx];
        let mirror = packed[(packed.len() - kx) % packed.len()];
        columns[kx * stored] = Complex32::new(0.5 * (z.re + mirror.re), 0.5 * (z.im - mirror.im));
        columns[kx * stored + 1] = Complex32::new(0.5 * (z.im + mirror.im), 0.5 * (mirror.re - z.re));
    }
}
