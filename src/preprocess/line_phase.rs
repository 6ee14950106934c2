//! Bidirectional scanning: the offset between odd and even lines, measured on the first frames and then corrected.
//!
//! Why it exists: a resonant or galvo scanner that writes lines both ways displaces every second line when the phase is off
//! by microseconds; edges become combs, which registration and ΔF/F take for signal.
//! What it must never do: change the correction during the experiment with one animal, or smooth the odd lines only.
//!
//! Sign: + means that the content of odd lines (rows 1, 3, …) lies to the *right* of where the even lines have it.
//! The offset is reported to a fraction of a pixel, but undone to the nearest whole pixel: interpolation would smooth odd
//! lines and not even ones, a comb in the noise instead of one in the edges. At most half a frame pixel remains.

use super::simd::Simd;
use crate::model::parameters::LinePhase;

/// Lanes of the inner sums: fixed, so that the order of summation does not depend on the vector unit.
const LANES: usize = 8;

/// Sums over all lines of all frames so far, for one lag.
#[derive(Clone, Copy, Default)]
struct Pool {
    product: f64,
    odd_square: f64,
}

/// Estimates the offset from the first frames; then constant.
pub struct LinePhaseEstimator {
    simd: Simd,
    frames_wanted: usize,
    frames: usize,
    reach: usize,
    height: usize,
    width: usize,
    /// Mean of the even neighbours of one odd line, its own mean subtracted, within the window all lags share.
    reference: Vec<f32>,
    pools: Vec<Pool>,
    offset_px: Option<f32>,
}

impl LinePhaseEstimator {
    /// For frames of `height` × `width` px; `width` is at least [`LinePhaseEstimator::width_px_min`], `height` 3.
    pub fn new(parameters: &LinePhase, simd: Simd, height: usize, width: usize) -> Self {
        let reach = parameters.reach_px;
        Self {
            simd,
            frames_wanted: parameters.frames,
            frames: 0,
            reach,
            height,
            width,
            reference: vec![0.0; width - 2 * reach],
            pools: vec![Pool::default(); 2 * reach + 1],
            offset_px: None,
        }
    }

    /// Narrowest frame in which every lag sees at least eight pixels.
    pub fn width_px_min(parameters: &LinePhase) -> usize {
        2 * parameters.reach_px + 8
    }

    /// Starts again with the next frame.
    pub fn forget(&mut self) {
        self.frames = 0;
        self.pools.fill(Pool::default());
        self.offset_px = None;
    }

    /// Takes up an offset that was measured before.
    pub(super) fn take_up(&mut self, offset_px: f32) {
        self.offset_px = Some(offset_px);
    }

    /// Frames that are still needed.
    pub(super) fn frames_left(&self) -> usize {
        if self.offset_px.is_some() { 0 } else { self.frames_wanted.saturating_sub(self.frames) }
    }

    /// Offset of the odd lines, px, once it is known.
    pub fn offset_px(&self) -> Option<f32> {
        self.offset_px
    }

    /// Takes one uncorrected frame while frames are still wanted; the last of them settles the offset.
    pub fn add(&mut self, light: &[f32]) {
        if self.offset_px.is_some() {
            return;
        }
        let width = self.width;
        for row in (1..self.height - 1).step_by(2) {
            let line = |r: usize| &light[r * width..(r + 1) * width];
            self.simd.run(
                pool_line,
                (line(row - 1), line(row), line(row + 1), self.reach, &mut self.reference[..], &mut self.pools[..]),
            );
        }
        self.frames += 1;
        if self.frames == self.frames_wanted {
            self.offset_px = Some(peak(&self.pools, self.reach));
        }
    }
}

type Lines<'a> = (&'a [f32], &'a [f32], &'a [f32], usize, &'a mut [f32], &'a mut [Pool]);

#[inline(always)]
fn pool_line((above, odd, below, reach, reference, pools): Lines<'_>) {
    let length = reference.len();
    for (r, (a, b)) in reference.iter_mut().zip(above[reach..].iter().zip(&below[reach..])) {
        *r = 0.5 * (a + b);
    }
    let mean = sum(reference) / length as f32;
    reference.iter_mut().for_each(|r| *r -= mean);
    // One level for all lags of the line keeps its sums small; the exact mean of each window is subtracted below.
    let level = sum(&odd[reach..reach + length]) / length as f32;
    for (lag, pool) in pools.iter_mut().enumerate() {
        let (product, plain, square) = moments(reference, &odd[lag..lag + length], level);
        pool.product += product as f64;
        pool.odd_square += (square - plain * plain / length as f32) as f64;
    }
}

/// Σ r·(o − level), Σ (o − level), Σ (o − level)².
#[inline(always)]
fn moments(reference: &[f32], odd: &[f32], level: f32) -> (f32, f32, f32) {
    let mut lanes = [[0.0f32; LANES]; 3];
    let (r, o) = (reference.chunks_exact(LANES), odd.chunks_exact(LANES));
    let tail = r.remainder().iter().zip(o.remainder());
    for (i, (r, o)) in tail.enumerate() {
        let o = o - level;
        lanes[0][i] = r * o;
        lanes[1][i] = o;
        lanes[2][i] = o * o;
    }
    for (r, o) in r.zip(o) {
        for i in 0..LANES {
            let o = o[i] - level;
            lanes[0][i] += r[i] * o;
            lanes[1][i] += o;
            lanes[2][i] += o * o;
        }
    }
    (lanes[0].iter().sum(), lanes[1].iter().sum(), lanes[2].iter().sum())
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    lanes.iter_mut().zip(chunks.remainder()).for_each(|(lane, v)| *lane = *v);
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
    }
    lanes.iter().sum()
}

/// The lag with the largest pooled correlation, refined by a parabola; 0 when nothing varies.
fn peak(pools: &[Pool], reach: usize) -> f32 {
    let at = |lag: usize| {
        let Pool { product, odd_square } = pools[lag];
        if odd_square > 0.0 { product / odd_square.sqrt() } else { 0.0 }
    };
    // Of equal lags the one closest to zero: a featureless frame is left as it is.
    let best = (0..pools.len()).fold(reach, |best, lag| if at(lag) > at(best) { lag } else { best });
    let whole = best as f32 - reach as f32;
    if best == 0 || best + 1 == pools.len() {
        return whole;
    }
    let (left, middle, right) = (at(best - 1), at(best), at(best + 1));
    let curvature = left - 2.0 * middle + right;
    if curvature < 0.0 { whole + (0.5 * (left - right) / curvature) as f32 } else { whole }
}

/// Moves the odd lines left by the nearest whole pixel of `offset_px`; edge pixels are repeated.
pub fn correct(light: &mut [f32], width: usize, offset_px: f32) {
    let shift = offset_px.round();
    let by = (shift.abs() as usize).min(width - 1);
    if by == 0 {
        return;
    }
    for odd in light.chunks_exact_mut(width).skip(1).step_by(2) {
        if shift > 0.0 {
            let edge = odd[width - 1];
            odd.copy_within(by.., 0);
            odd[width - by..].fill(edge);
        } else {
            let edge = odd[0];
            odd.copy_within(..width - by, by);
            odd[..by].fill(edge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Smooth blobs; the content of odd rows lies `offset` px to the right.
    fn scene(height: usize, width: usize, offset: f32) -> Vec<f32> {
        let light = |y: usize, x: usize| {
            let x = x as f32 - if y % 2 == 1 { offset } else { 0.0 };
            let y = y as f32;
            100.0 + 50.0 * (0.31 * x + 0.05 * y).sin() + 30.0 * (0.17 * x - 0.08 * y).cos() + 0.5 * y
        };
        (0..height * width).map(|i| light(i / width, i % width)).collect()
    }

    fn estimate(light: &[f32], height: usize, width: usize) -> f32 {
        let mut estimator =
            LinePhaseEstimator::new(&LinePhase { reach_px: 8, frames: 2 }, Simd::detect(), height, width);
        estimator.add(light);
        assert_eq!(estimator.offset_px(), None);
        estimator.add(light);
        estimator.offset_px().unwrap()
    }

    #[test]
    fn odd_lines_displaced_to_the_right_give_a_positive_offset() {
        for (offset, tolerance) in [(3.0, 0.05), (-5.0, 0.05), (0.0, 0.05), (1.4, 0.1), (-2.6, 0.1)] {
            let found = estimate(&scene(65, 101, offset), 65, 101);
            assert!((found - offset).abs() < tolerance, "{found} for {offset}");
        }
    }

    #[test]
    fn the_correlation_is_the_naive_one() {
        let (height, width, reach) = (9, 37, 4);
        let light: Vec<f32> = (0..height * width).map(|i| ((i * 7919) % 211) as f32).collect();
        let mut estimator =
            LinePhaseEstimator::new(&LinePhase { reach_px: reach, frames: 5 }, Simd::detect(), height, width);
        estimator.add(&light);
        let n = width - 2 * reach;
        for lag in 0..=2 * reach {
            let (mut product, mut square) = (0.0f64, 0.0f64);
            for row in (1..height - 1).step_by(2) {
                let at = |r: usize, x: usize| light[r * width + x] as f64;
                let even: Vec<f64> = (0..n).map(|x| 0.5 * (at(row - 1, x + reach) + at(row + 1, x + reach))).collect();
                let odd: Vec<f64> = (0..n).map(|x| at(row, x + lag)).collect();
                let (even_mean, odd_mean) = (even.iter().sum::<f64>() / n as f64, odd.iter().sum::<f64>() / n as f64);
                product += even.iter().zip(&odd).map(|(e, o)| (e - even_mean) * (o - odd_mean)).sum::<f64>();
                square += odd.iter().map(|o| (o - odd_mean).powi(2)).sum::<f64>();
            }
            let pool = estimator.pools[lag];
            assert!((pool.product - product).abs() < 1e-4 * square, "lag {lag}: {} for {product}", pool.product);
            assert!((pool.odd_square / square - 1.0).abs() < 1e-5, "lag {lag}");
        }
    }

    #[test]
    fn the_correction_undoes_a_whole_offset_away_from_the_edges_and_repeats_them() {
        let (straight, mut bent) = (scene(8, 40, 0.0), scene(8, 40, 3.0));
        correct(&mut bent, 40, 3.2);
        for row in 0..8 {
            for x in 0..37 {
                assert!((bent[row * 40 + x] - straight[row * 40 + x]).abs() < 1e-3, "row {row}, column {x}");
            }
        }
        let mut rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        correct(&mut rows, 4, -2.4);
        assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 6.0]);
        correct(&mut rows, 4, 0.4);
        assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 6.0]);
    }

    #[test]
    fn frames_without_structure_leave_the_lines_alone() {
        assert_eq!(estimate(&[7.0; 65 * 101], 65, 101), 0.0);
    }
}
