//! An animal's picture: its registration template, small, in relative brightness, comparable between animals.
//!
//! What it must never do: use a number of counts. Detectors, gains and dark levels differ, so everything is relative to the
//! template's own darkest and brightest parts.

use crate::model::parameters::{Atlas, PICTURE_PX};
use crate::preprocess::resample::Resampler;
use crate::preprocess::simd::Simd;

/// Pixels of a picture.
pub(super) const PIXELS: usize = PICTURE_PX * PICTURE_PX;
/// Shares of the pixels below which a picture counts as dark, and above which as bright: no single pixel decides.
const DARK_AND_BRIGHT: [f64; 2] = [0.02, 0.98];
/// Reach of the Gaussian, in its standard deviations.
const REACH_SD: f32 = 4.0;

/// Makes pictures of templates of one geometry. Memory is made once.
pub struct Pictures {
    resampler: Resampler,
    sorted: Vec<f32>,
    line: Vec<f32>,
    kernel: Vec<f32>,
}

impl Pictures {
    /// For templates of `height` × `width` px, with the smoothing of `atlas`.
    pub fn new(atlas: &Atlas, height: usize, width: usize) -> Self {
        Self {
            resampler: Resampler::new(Simd::detect(), (height, width), (PICTURE_PX, PICTURE_PX)),
            sorted: vec![0.0; PIXELS],
            line: vec![0.0; PICTURE_PX],
            kernel: kernel(atlas.smooth_px),
        }
    }

    /// Fills `picture` from a template: area means, the logarithm of the light above the dark, smoothed, mean 0 and deviation 1. A
    /// template without contrast gives zeros.
    pub fn take(&mut self, atlas: &Atlas, template: &[f32], picture: &mut [f32]) {
        self.resampler.aim([0.0; 2]);
        self.resampler.resample(template, picture);
        self.sorted.copy_from_slice(picture);
        self.sorted.sort_unstable_by(f32::total_cmp);
        let [dark, bright] = DARK_AND_BRIGHT.map(|share| self.sorted[(share * (PIXELS - 1) as f64).round() as usize]);
        let range = bright - dark;
        // Not `<=`: NaN must not pass.
        let has_contrast = range > 0.0 && range.is_finite();
        if !has_contrast {
            picture.fill(0.0);
            return;
        }
        for v in picture.iter_mut() {
            *v = ((*v - dark) / range).max(atlas.floor_share).ln();
        }
        smooth(picture, &self.kernel, &mut self.line);
        standardise(picture);
    }
}

/// Half of a Gaussian of `sd` px, the middle first; its whole sums to 1.
pub(super) fn kernel(sd: f32) -> Vec<f32> {
    let reach = (REACH_SD * sd).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=reach).map(|px| (-0.5 * (px as f32 / sd.max(1e-6)).powi(2)).exp()).collect();
    let sum = 2.0 * kernel.iter().sum::<f32>() - kernel[0];
    kernel.iter_mut().for_each(|v| *v /= sum);
    kernel
}

/// Smooths along both axes; edge pixels are repeated outwards.
pub(super) fn smooth(picture: &mut [f32], kernel: &[f32], line: &mut [f32]) {
    for (step, stride) in [(1, PICTURE_PX), (PICTURE_PX, 1)] {
        for at in (0..PICTURE_PX).map(|n| n * stride) {
            for (to, v) in line.iter_mut().enumerate() {
                let pixel = |px: isize| picture[at + px.clamp(0, PICTURE_PX as isize - 1) as usize * step];
                let to = to as isize;
                let pair = |(px, weight): (usize, &f32)| weight * (pixel(to - px as isize) + pixel(to + px as isize));
                *v = kernel[0] * pixel(to) + kernel.iter().enumerate().skip(1).map(pair).sum::<f32>();
            }
            for (px, v) in line.iter().enumerate() {
                picture[at + px * step] = *v;
            }
        }
    }
}

/// Mean 0, standard deviation 1; zeros where nothing varies.
pub(super) fn standardise(picture: &mut [f32]) {
    let count = picture.len() as f64;
    let mean = picture.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let square = picture.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
    let sd = (square / count).sqrt();
    let scale = if sd > 1e-9 { 1.0 / sd } else { 0.0 };
    picture.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * scale) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_does_not_know_gain_dark_level_or_size() {
        let atlas = Atlas::default();
        let light = |y: usize, x: usize, side: f32| {
            let (y, x) = (y as f32 / side - 0.5, x as f32 / side - 0.4);
            100.0 * (-(y * y + 2.0 * x * x) / 0.05).exp()
        };
        let of = |side: usize, gain: f32, dark: f32| {
            let template: Vec<f32> =
                (0..side * side).map(|i| gain * light(i / side, i % side, side as f32) + dark).collect();
            let mut picture = vec![0.0; PIXELS];
            Pictures::new(&atlas, side, side).take(&atlas, &template, &mut picture);
            picture
        };
        let small = of(64, 1.0, 0.0);
        let worst = |other: &[f32]| small.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst(&of(64, 24.0, 1300.0)) < 1e-2, "{}", worst(&of(64, 24.0, 1300.0)));
        assert!(worst(&of(256, 3.0, -10.0)) < 0.3, "{}", worst(&of(256, 3.0, -10.0)));
        assert_eq!(of(64, 0.0, 500.0), vec![0.0; PIXELS]);
    }

    #[test]
    fn smoothing_keeps_the_mean_and_spreads_a_point_by_its_deviation() {
        let mut picture = vec![0.0; PIXELS];
        picture[16 * PICTURE_PX + 16] = 1.0;
        smooth(&mut picture, &kernel(1.5), &mut [0.0; PICTURE_PX]);
        let moment = |power: i32| {
            picture.iter().enumerate().map(|(i, v)| v * ((i % PICTURE_PX) as f32 - 16.0).powi(power)).sum::<f32>()
        };
        assert!((moment(0) - 1.0).abs() < 1e-5);
        assert!(moment(1).abs() < 1e-5);
        assert!((moment(2) - 2.25).abs() < 0.02, "{}", moment(2));
    }
}
