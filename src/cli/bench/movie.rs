//! A synthetic two-photon movie whose motion is known exactly.
//!
//! Why it exists: an estimator of motion can only be judged against motion that is known. The field holds ring-shaped
//! cells, neuropil, fine texture and dark vessels; it drifts, and sometimes jumps, by whole pixels in the first half of
//! the movie and by fractions in the second (Fourier shift of a canvas larger than the view, so nothing wraps into it).
//! A pixel is Poisson(photons · brightness) · gain + read noise + dark level. What it must never do: serve as evidence
//! about animals. It has no line noise, no motion in depth, no scan distortion.

use std::f64::consts::TAU;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal, Poisson};
use rand_pcg::Pcg64;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftDirection, FftPlanner};

/// Counts per photon.
const GAIN: f64 = 60.0;
/// Read noise, counts.
const READ_SD: f64 = 15.0;
/// Counts without light.
pub const DARK_LEVEL: f64 = 200.0;
/// Largest shift, px.
const SHIFT_PX_MAX: f64 = 8.0;
/// The canvas is this much larger on each side, px: more than the field ever moves.
const MARGIN_PX: usize = 16;

/// Frames without noise, and how each was moved: [dy, dx], + is down and right.
pub struct Movie {
    side: usize,
    brightness: Vec<Vec<f32>>,
    /// True displacement of the content of each frame, px.
    pub shifts_px: Vec<[f64; 2]>,
    scene: Vec<f32>,
}

impl Movie {
    /// `frames` square frames of `side` px; the same seed gives the same movie.
    pub fn new(side: usize, frames: usize, seed: u64) -> Self {
        let mut rng = Pcg64::seed_from_u64(seed);
        let canvas = Canvas::new(side + 2 * MARGIN_PX);
        let scene = canvas.scene(&mut rng);
        let spectrum = canvas.spectrum(&scene);
        let shifts_px = motion(&mut rng, frames);
        let brightness = shifts_px.iter().map(|&shift| canvas.view(&canvas.translated(&spectrum, shift))).collect();
        let unmoved = canvas.view(&scene.iter().map(|&v| v as f32).collect::<Vec<_>>());
        Self { side, brightness, shifts_px, scene: unmoved }
    }

    /// Pixels of a side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.brightness.len()
    }

    /// The frame as a detector would give it at this mean number of photons per pixel, u16 counts.
    pub fn expose(&self, frame: usize, photons: f64, seed: u64) -> Vec<u16> {
        let mut rng = Pcg64::seed_from_u64(seed ^ (frame as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let read = Normal::new(DARK_LEVEL, READ_SD);
        let mut pixel = |brightness: f32| {
            let mean = f64::from(brightness).max(0.0) * photons;
            let photons = Poisson::new(mean).map_or(0.0, |p| p.sample(&mut rng));
            let noise = read.map_or(DARK_LEVEL, |n| n.sample(&mut rng));
            (photons * GAIN + noise).clamp(0.0, 65535.0) as u16
        };
        self.brightness[frame].iter().map(|&b| pixel(b)).collect()
    }

    /// What a mean of `frames` aligned frames at this light looks like, in counts above the dark level.
    pub fn template(&self, photons: f64, frames: usize, seed: u64) -> Vec<f32> {
        let mut rng = Pcg64::seed_from_u64(seed);
        let noise = |mean: f64| Normal::new(0.0, ((mean * GAIN * GAIN + READ_SD * READ_SD) / frames as f64).sqrt());
        let mut pixel = |brightness: f32| {
            let mean = f64::from(brightness).max(0.0) * photons;
            (mean * GAIN + noise(mean).map_or(0.0, |n| n.sample(&mut rng))) as f32
        };
        self.scene.iter().map(|&b| pixel(b)).collect()
    }
}

/// Slow drift, and a jump every 50 frames on average; whole pixels in the first half.
fn motion(rng: &mut Pcg64, frames: usize) -> Vec<[f64; 2]> {
    let mut position = [0.0f64; 2];
    let mut step = |t: usize| {
        let jump = rng.random::<f64>() < 0.02;
        for axis in &mut position {
            let drift = *axis * 0.97 + 0.6 * gaussian(rng);
            *axis = if jump { (rng.random::<f64>() * 2.0 - 1.0) * SHIFT_PX_MAX } else { drift };
            *axis = axis.clamp(-SHIFT_PX_MAX, SHIFT_PX_MAX);
            if t < frames / 2 {
                *axis = axis.round();
            }
        }
        position
    };
    (0..frames).map(&mut step).collect()
}

fn gaussian(rng: &mut Pcg64) -> f64 {
    rand_distr::StandardNormal.sample(rng)
}

/// A square of `side` px and its two-dimensional Fourier transform.
struct Canvas {
    side: usize,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
}

impl Canvas {
    fn new(side: usize) -> Self {
        let mut planner = FftPlanner::new();
        Self {
            side,
            forward: planner.plan_fft(side, FftDirection::Forward),
            inverse: planner.plan_fft(side, FftDirection::Inverse),
        }
    }

    /// Frequency of bin `k`, cycles per px.
    fn frequency(&self, k: usize) -> f64 {
        let signed = if k <= self.side / 2 { k as f64 } else { k as f64 - self.side as f64 };
        signed / self.side as f64
    }

    /// Rows, transpose, rows, transpose.
    fn transform(&self, values: &mut Vec<Complex<f64>>, plan: &Arc<dyn Fft<f64>>) {
        for _ in 0..2 {
            plan.process(values);
            let n = self.side;
            *values = (0..n * n).map(|i| values[(i % n) * n + i / n]).collect();
        }
    }

    fn spectrum(&self, image: &[f64]) -> Vec<Complex<f64>> {
        let mut values: Vec<_> = image.iter().map(|&v| Complex::new(v, 0.0)).collect();
        self.transform(&mut values, &self.forward);
        values
    }

    fn image(&self, mut spectrum: Vec<Complex<f64>>) -> Vec<f64> {
        self.transform(&mut spectrum, &self.inverse);
        let scale = 1.0 / (self.side * self.side) as f64;
        spectrum.iter().map(|v| v.re * scale).collect()
    }

    /// Content moved down by dy and right by dx, exact at the band limit.
    fn translated(&self, spectrum: &[Complex<f64>], [dy, dx]: [f64; 2]) -> Vec<f32> {
        let n = self.side;
        let phase = |k: usize, d: f64| Complex::from_polar(1.0, -TAU * self.frequency(k) * d);
        let (rows, columns): (Vec<_>, Vec<_>) = (0..n).map(|k| (phase(k, dy), phase(k, dx))).unzip();
        let moved = (0..n * n).map(|i| spectrum[i] * rows[i / n] * columns[i % n]).collect();
        self.image(moved).iter().map(|&v| v as f32).collect()
    }

    /// The part of the canvas that the microscope sees.
    fn view(&self, image: &[f32]) -> Vec<f32> {
        let rows = image.chunks_exact(self.side).skip(MARGIN_PX).take(self.side - 2 * MARGIN_PX);
        rows.flat_map(|row| &row[MARGIN_PX..self.side - MARGIN_PX]).copied().collect()
    }

    /// White noise through a radial transfer function.
    fn noise(&self, rng: &mut Pcg64, transfer: impl Fn(f64) -> f64) -> Vec<f64> {
        let white: Vec<f64> = (0..self.side * self.side).map(|_| gaussian(rng)).collect();
        let mut spectrum = self.spectrum(&white);
        for (i, value) in spectrum.iter_mut().enumerate() {
            let radius = self.frequency(i / self.side).hypot(self.frequency(i % self.side));
            *value *= transfer(radius);
        }
        self.image(spectrum)
    }

    /// Neuropil, texture, vessels and cells; mean brightness one.
    fn scene(&self, rng: &mut Pcg64) -> Vec<f64> {
        let neuropil = self.noise(rng, |r| (-(9.0 * r).powi(2)).exp() / (r + 0.01));
        let (low, high) = neuropil.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        let texture = self.noise(rng, |r| (-(4.0 * r).powi(2)).exp());
        let sd = (texture.iter().map(|v| v * v).sum::<f64>() / texture.len() as f64).sqrt();
        let pair = neuropil.iter().zip(&texture);
        let mut scene: Vec<f64> =
            pair.map(|(n, t)| (0.35 + 0.65 * (n - low) / (high - low)) * (1.0 + 0.25 * t / sd).max(0.2)).collect();
        (0..4).for_each(|_| self.add_vessel(rng, &mut scene));
        (0..self.side * self.side / 1700).for_each(|_| self.add_cell(rng, &mut scene));
        let mean = scene.iter().sum::<f64>() / scene.len() as f64;
        scene.iter_mut().for_each(|v| *v /= mean);
        scene
    }

    fn add_vessel(&self, rng: &mut Pcg64, scene: &mut [f64]) {
        let side = self.side as f64;
        let (angle, width) = (rng.random::<f64>() * TAU / 2.0, 4.0 + 6.0 * rng.random::<f64>());
        let [cy, cx] = [(); 2].map(|()| (0.2 + 0.6 * rng.random::<f64>()) * side);
        for (i, value) in scene.iter_mut().enumerate() {
            let (y, x) = ((i / self.side) as f64, (i % self.side) as f64);
            let line = (x - cx) * angle.sin() - (y - cy) * angle.cos() + 12.0 * ((x + y) / 60.0).sin();
            *value *= 1.0 - 0.7 * (-(line / width).powi(2)).exp();
        }
    }

    fn add_cell(&self, rng: &mut Pcg64, scene: &mut [f64]) {
        let side = self.side as f64;
        let [cy, cx] = [(); 2].map(|()| 14.0 + rng.random::<f64>() * (side - 28.0));
        let (radius, light) = (5.0 + 3.0 * rng.random::<f64>(), 0.8 + 1.4 * rng.random::<f64>());
        for y in (cy - 13.0) as usize..(cy + 14.0) as usize {
            for x in (cx - 13.0) as usize..(cx + 14.0) as usize {
                let distance = (y as f64 - cy).hypot(x as f64 - cx);
                scene[y * self.side + x] += light * (-((distance - 0.75 * radius) / 1.8).powi(2)).exp();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_movie_and_whole_shifts_move_whole_pixels() {
        let (a, b) = (Movie::new(64, 8, 5), Movie::new(64, 8, 5));
        assert_eq!(a.expose(3, 2.0, 1), b.expose(3, 2.0, 1));
        let moved = (0..4).find(|&t| a.shifts_px[t] != [0.0; 2]).expect("a shift in four frames");
        let [dy, dx] = a.shifts_px[moved].map(|d| d as isize);
        assert_eq!(a.shifts_px[moved], [dy as f64, dx as f64]);
        for (y, x) in [(20isize, 20isize), (32, 40), (41, 25)] {
            let there = a.brightness[moved][(y + dy) as usize * 64 + (x + dx) as usize];
            assert!((a.scene[y as usize * 64 + x as usize] - there).abs() < 1e-4);
        }
    }

    #[test]
    fn light_is_as_asked() {
        let movie = Movie::new(64, 2, 9);
        let frame = movie.expose(0, 2.0, 1);
        let brightness = movie.brightness[0].iter().map(|&b| f64::from(b)).sum::<f64>() / 4096.0;
        let mean = frame.iter().map(|&v| f64::from(v)).sum::<f64>() / 4096.0;
        assert!(((mean - DARK_LEVEL) / GAIN / brightness / 2.0 - 1.0).abs() < 0.05, "mean {mean}");
    }
}
