//! F₀ per pixel from the past alone, and ΔF/F = (F − F₀) / max(F₀, floor).
//!
//! Why it exists: brightness differs between cells, animals and days; a model can compare only its relative change.
//! What it must never do: look ahead, or drift: after hours the same last frames must give the same moving average, so its sum
//! is recomputed from the ring on every frame.
//!
//! `running-minimum`: F₀ ← min(F₀ + leak · max(F₀, floor), moving average). The leak is relative to the denominator of ΔF/F and not
//! to F₀ itself: F₀ may be 0 or negative once the dark level is subtracted, and would then never rise again. A baseline that is
//! too low thus decays in ΔF/F by `leak_per_s` per second, however bright the pixel. Until the ring is full, F₀ is the average of
//! the frames so far: the minimum of partial averages would be the minimum of noise. F₀ falls by at most `fall_per_s` of that
//! denominator per second: what is dark for a second must not be a pixel's rest.
//!
//! `running-quantile`: F₀ += g · D · (q − 1{F < F₀}), where D is the running mean of |F − F₀|. At the fixed point a share q of
//! frames lies below F₀. The gain g = 4·α, α = 1 − exp(−1 / (τ · rate)), brings a step back within about τ for
//! quantiles from 0.1 to 0.9 of noise near normal (density · D is about ¼ there). α begins as 1/n, so that the first
//! seconds converge fast; the estimate counts as warm after τ. From then on |F − F₀| counts up to `influence` · D only.

use super::memory::Needed;
use super::simd::Simd;
use crate::frame::animal::BaselineState;
use crate::model::parameters::{Baseline as Parameters, Estimator};

/// Mean distance from F₀ that every pixel is granted, as a share of the floor.
pub(super) const LEAST_DISTANCE: f64 = 0.01;

/// What one frame does to F₀: only the decision, separate from the storage of F₀.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// `running-minimum`: the frame goes to `slot` of the ring, of which `filled` slots are then averaged.
    Minimum {
        slot: usize,
        filled: usize,
        /// The average starts the minimum.
        begins: bool,
    },
    /// `running-quantile`.
    Quantile {
        /// The frame starts F₀.
        begins: bool,
        alpha: f64,
        gain: f64,
        /// Distances count up to so many mean distances.
        influence: f64,
    },
}

/// Counts frames and decides what each does.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Frames seen since the last forgetting.
    frames: u64,
    rule: Rule,
}

#[derive(Clone, Copy)]
enum Rule {
    Minimum { frames: u64 },
    Quantile { alpha: f64, warm_frames: u64, influence: f64 },
}

impl Pace {
    pub(super) fn new(parameters: &Parameters, frame_rate_hz: f64) -> Self {
        let rule = match parameters.estimator {
            Estimator::RunningMinimum => Rule::Minimum { frames: parameters.average_frames as u64 },
            Estimator::RunningQuantile => {
                let frames = parameters.time_constant_s as f64 * frame_rate_hz;
                let (alpha, warm_frames) = (1.0 - (-1.0 / frames).exp(), frames.ceil() as u64);
                Rule::Quantile { alpha, warm_frames, influence: bound(parameters.influence) }
            }
        };
        Self { frames: 0, rule }
    }

    /// Starts again with the next frame.
    pub(super) fn forget(&mut self) {
        self.frames = 0;
    }

    /// Frames seen, and going on from so many.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn take_up(&mut self, frames: u64) {
        self.frames = frames;
    }

    /// Frames until F₀ is valid.
    pub(super) fn needed(&self) -> Needed {
        let (Rule::Minimum { frames: whole } | Rule::Quantile { warm_frames: whole, .. }) = self.rule;
        Needed { left: whole.saturating_sub(self.frames), whole }
    }

    /// Has F₀ seen enough frames to be valid?
    pub(super) fn is_warm(&self) -> bool {
        let (Rule::Minimum { frames: wanted } | Rule::Quantile { warm_frames: wanted, .. }) = self.rule;
        self.frames >= wanted
    }

    /// One more frame.
    pub(super) fn step(&mut self) -> Step {
        let index = self.frames;
        self.frames += 1;
        match self.rule {
            Rule::Minimum { frames } => {
                let (slot, filled) = ((index % frames) as usize, self.frames.min(frames) as usize);
                // The first full average starts the minimum.
                Step::Minimum { slot, filled, begins: index < frames }
            }
            Rule::Quantile { alpha, warm_frames, influence } => {
                let alpha = alpha.max(1.0 / self.frames as f64);
                let influence = if index < warm_frames { f64::INFINITY } else { influence };
                Step::Quantile { begins: index == 0, alpha, gain: (4.0 * alpha).min(1.0), influence }
            }
        }
    }
}

/// A bound as it is used: 0 is none.
pub(super) fn bound(written: f32) -> f64 {
    if written > 0.0 { f64::from(written) } else { f64::INFINITY }
}

/// F₀ of every pixel of the model's frame.
pub struct Baseline {
    simd: Simd,
    floor: f32,
    /// In f64: a leak of a millionth per frame is below the resolution of f32.
    f0: Vec<f64>,
    pace: Pace,
    method: Method,
}

enum Method {
    Minimum {
        leak: f64,
        fall: f64,
        /// The last frames, oldest overwritten.
        ring: Vec<f32>,
        average: Vec<f32>,
    },
    Quantile {
        quantile: f64,
        /// Running mean of |F − F₀|.
        deviation: Vec<f64>,
    },
}

impl Baseline {
    /// For frames of `pixels` values (all channels) at `frame_rate_hz` model frames per second.
    pub fn new(parameters: &Parameters, simd: Simd, frame_rate_hz: f64, pixels: usize) -> Self {
        let method = match parameters.estimator {
            Estimator::RunningMinimum => Method::Minimum {
                leak: parameters.leak_per_s as f64 / frame_rate_hz,
                fall: bound(parameters.fall_per_s) / frame_rate_hz,
                ring: vec![0.0; parameters.average_frames * pixels],
                average: vec![0.0; pixels],
            },
            Estimator::RunningQuantile => {
                Method::Quantile { quantile: parameters.quantile as f64, deviation: vec![0.0; pixels] }
            }
        };
        let pace = Pace::new(parameters, frame_rate_hz);
        Self { simd, floor: parameters.floor_counts, f0: vec![0.0; pixels], pace, method }
    }

    /// Starts again with the next frame.
    pub fn forget(&mut self) {
        // Everything else is written before it is read again.
        self.pace.forget();
    }

    /// Has F₀ seen enough frames to be valid?
    pub fn is_warm(&self) -> bool {
        self.pace.is_warm()
    }

    /// Frames until F₀ is valid.
    pub(super) fn needed(&self) -> Needed {
        self.pace.needed()
    }

    /// F₀ and what it goes on from.
    pub(super) fn keep(&self) -> BaselineState {
        let (ring, deviation) = match &self.method {
            Method::Minimum { ring, .. } => (ring.clone(), Vec::new()),
            Method::Quantile { deviation, .. } => (Vec::new(), deviation.clone()),
        };
        BaselineState { frames: self.pace.frames(), f0: self.f0.clone(), ring, deviation }
    }

    /// Goes on from a saved one of the same lengths.
    pub(super) fn take_up(&mut self, state: &BaselineState) {
        self.pace.take_up(state.frames);
        self.f0.copy_from_slice(&state.f0);
        match &mut self.method {
            Method::Minimum { ring, .. } => ring.copy_from_slice(&state.ring),
            Method::Quantile { deviation, .. } => deviation.copy_from_slice(&state.deviation),
        }
    }

    /// Learns from one frame.
    pub fn learn(&mut self, image: &[f32]) {
        match (self.pace.step(), &mut self.method) {
            (Step::Minimum { slot, filled, begins }, Method::Minimum { leak, fall, ring, average }) => {
                ring[slot * image.len()..(slot + 1) * image.len()].copy_from_slice(image);
                self.simd.run(mean_of_ring, (&ring[..filled * image.len()], &mut average[..]));
                self.simd.run(minimum, (&mut self.f0[..], &average[..], begins, [*leak, *fall], self.floor as f64));
            }
            (Step::Quantile { begins: true, .. }, Method::Quantile { deviation, .. }) => {
                deviation.fill(0.0);
                self.f0.iter_mut().zip(image).for_each(|(f0, &x)| *f0 = x as f64);
            }
            (Step::Quantile { alpha, gain, influence, .. }, Method::Quantile { quantile, deviation }) => {
                // A pixel that never varied must be able to begin to.
                let bound = (influence, f64::from(self.floor) * LEAST_DISTANCE);
                self.simd.run(follow, (&mut self.f0[..], &mut deviation[..], image, *quantile, [alpha, gain], bound));
            }
            // Pace and method are made of the same parameters.
            (Step::Minimum { .. }, Method::Quantile { .. }) | (Step::Quantile { .. }, Method::Minimum { .. }) => {}
        }
    }

    /// F becomes ΔF/F, in place.
    pub fn relative_change(&self, image: &mut [f32]) {
        self.simd.run(relative_change, (&self.f0[..], self.floor, image));
    }
}

#[inline(always)]
fn mean_of_ring((ring, average): (&[f32], &mut [f32])) {
    let share = 1.0 / (ring.len() / average.len()) as f32;
    let pixels = average.len();
    // In pieces that stay in the nearest cache while all frames of the ring pass by.
    const PIECE: usize = 2048;
    for (piece, average) in average.chunks_mut(PIECE).enumerate() {
        let at = piece * PIECE..piece * PIECE + average.len();
        let mut frames = ring.chunks_exact(pixels).map(|frame| &frame[at.clone()]);
        if let Some(first) = frames.next() {
            average.copy_from_slice(first);
        }
        for frame in frames {
            average.iter_mut().zip(frame).for_each(|(sum, x)| *sum += x);
        }
        average.iter_mut().for_each(|sum| *sum *= share);
    }
}

#[inline(always)]
fn minimum((f0, average, start, [leak, fall], floor): (&mut [f64], &[f32], bool, [f64; 2], f64)) {
    for (f0, &average) in f0.iter_mut().zip(average) {
        let average = average as f64;
        let denominator = if *f0 > floor { *f0 } else { floor };
        let (risen, lowest) = (*f0 + leak * denominator, *f0 - fall * denominator);
        let falling = if average > lowest { average } else { lowest };
        *f0 = if start {
            average
        } else if average < risen {
            falling
        } else {
            risen
        };
    }
}

type Follow<'a> = (&'a mut [f64], &'a mut [f64], &'a [f32], f64, [f64; 2], (f64, f64));

#[inline(always)]
fn follow((f0, deviation, image, quantile, [alpha, gain], (influence, least)): Follow<'_>) {
    for ((f0, deviation), &x) in f0.iter_mut().zip(deviation).zip(image) {
        let distance = x as f64 - *f0;
        let most = influence * if *deviation > least { *deviation } else { least };
        let counted = if distance.abs() < most { distance.abs() } else { most };
        *deviation += alpha * (counted - *deviation);
        let direction = if distance < 0.0 { quantile - 1.0 } else { quantile };
        *f0 += gain * *deviation * direction;
    }
}

#[inline(always)]
fn relative_change((f0, floor, image): (&[f64], f32, &mut [f32])) {
    for (x, &f0) in image.iter_mut().zip(f0) {
        let f0 = f0 as f32;
        let denominator = if f0 > floor { f0 } else { floor };
        *x = (*x - f0) / denominator;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence, uniform in 0 to 1.
    fn uniform(n: usize) -> Vec<f64> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        std::iter::repeat_with(step).take(n).collect()
    }

    fn minimum_parameters(average_frames: usize, leak_per_s: f32) -> Parameters {
        Parameters { average_frames, leak_per_s, fall_per_s: 0.0, floor_counts: 20.0, ..Parameters::default() }
    }

    #[test]
    fn the_running_minimum_is_the_plain_quadratic_one() {
        let (frames, rate, leak) = (5, 30.0, 0.3f32);
        let mut baseline = Baseline::new(&minimum_parameters(frames, leak), Simd::detect(), rate, 3);
        let light: Vec<[f32; 3]> =
            uniform(900).chunks(3).map(|c| [c[0] as f32 * 200.0, c[1] as f32 * 40.0 - 20.0, -50.0]).collect();
        let mut truth = [0.0f64; 3];
        for t in 0..light.len() {
            baseline.learn(&light[t]);
            for pixel in 0..3 {
                let window = &light[(t + 1).saturating_sub(frames)..=t];
                let mean = window.iter().map(|f| f[pixel] as f64).sum::<f64>() / window.len() as f64;
                let risen = truth[pixel] + leak as f64 / rate * truth[pixel].max(20.0);
                truth[pixel] = if t < frames { mean } else { mean.min(risen) };
                assert!((baseline.f0[pixel] - truth[pixel]).abs() < 1e-4, "frame {t}, pixel {pixel}");
            }
            assert_eq!(baseline.is_warm(), t + 1 >= frames);
        }
    }

    #[test]
    fn a_baseline_below_zero_rises_again_and_one_without_leak_never_does() {
        for (leak, expected) in [(0.5, 0.0), (0.0, -10.0)] {
            let mut baseline = Baseline::new(&minimum_parameters(1, leak), Simd::detect(), 10.0, 1);
            baseline.learn(&[-10.0]);
            // 0.5 / s · 20 counts · 0.1 s = 1 count per frame.
            (0..10).for_each(|_| baseline.learn(&[50.0]));
            assert!((baseline.f0[0] - expected).abs() < 1e-6, "{}", baseline.f0[0]);
        }
    }

    #[test]
    fn the_moving_average_does_not_drift_in_a_hundred_thousand_frames() {
        let parameters = minimum_parameters(15, 0.0);
        let mut old = Baseline::new(&parameters, Simd::detect(), 30.0, 1);
        let noise = uniform(15);
        for i in 0..15 * 7000 {
            old.learn(&[(1e6 * noise[i % 15] + (i % 7) as f64) as f32]);
        }
        let mut young = Baseline::new(&parameters, Simd::detect(), 30.0, 1);
        for i in 0..15 {
            let image = [i as f32 * 0.1];
            old.learn(&image);
            young.learn(&image);
        }
        let average = |b: &Baseline| match &b.method {
            Method::Minimum { average, .. } => average[0],
            Method::Quantile { .. } => f32::NAN,
        };
        assert_eq!(average(&old).to_bits(), average(&young).to_bits());
    }

    #[test]
    fn a_tiny_leak_is_not_lost_to_rounding() {
        let mut baseline = Baseline::new(&minimum_parameters(1, 1e-6), Simd::detect(), 100.0, 1);
        baseline.learn(&[1000.0]);
        (0..100_000).for_each(|_| baseline.learn(&[2000.0]));
        assert!((baseline.f0[0] - 1001.0005).abs() < 1e-3, "{}", baseline.f0[0]);
    }

    /// Quantiles of 200 + 100·u³, u uniform: 200 + 100·q³.
    #[test]
    fn the_running_quantile_settles_at_the_quantile_of_a_stationary_stream() {
        for quantile in [0.1, 0.25, 0.5, 0.9] {
            let parameters = Parameters {
                estimator: Estimator::RunningQuantile,
                quantile,
                time_constant_s: 20.0,
                ..Parameters::default()
            };
            let mut baseline = Baseline::new(&parameters, Simd::detect(), 30.0, 1);
            let stream: Vec<f32> = uniform(30 * 300).iter().map(|u| (200.0 + 100.0 * u.powi(3)) as f32).collect();
            let (mut below, mut counted) = (0, 0);
            for (t, &x) in stream.iter().enumerate() {
                below += u32::from(t > 3000 && (x as f64) < baseline.f0[0]);
                counted += u32::from(t > 3000);
                baseline.learn(&[x]);
            }
            let share = below as f64 / counted as f64;
            assert!((share - quantile as f64).abs() < 0.02, "a share {share} lies below the {quantile} quantile");
            let truth = 200.0 + 100.0 * (quantile as f64).powi(3);
            assert!((baseline.f0[0] - truth).abs() < 5.0, "{} for {truth}", baseline.f0[0]);
        }
    }

    #[test]
    fn the_running_quantile_follows_a_step_within_a_few_time_constants() {
        let parameters = Parameters {
            estimator: Estimator::RunningQuantile,
            quantile: 0.5,
            time_constant_s: 5.0,
            ..Parameters::default()
        };
        let mut baseline = Baseline::new(&parameters, Simd::detect(), 30.0, 1);
        let noise = uniform(1200);
        for (t, u) in noise.iter().enumerate() {
            assert_eq!(baseline.is_warm(), t >= 150);
            baseline.learn(&[(if t < 600 { 100.0 } else { 140.0 } + 10.0 * u) as f32]);
            if t == 599 {
                assert!((baseline.f0[0] - 105.0).abs() < 1.0, "{}", baseline.f0[0]);
            }
        }
        assert!((baseline.f0[0] - 145.0).abs() < 1.0, "{}", baseline.f0[0]);
    }

    #[test]
    fn a_second_of_darkness_and_a_flash_hardly_move_f0() {
        for estimator in [Estimator::RunningMinimum, Estimator::RunningQuantile] {
            let parameters = Parameters { estimator, time_constant_s: 10.0, ..Parameters::default() };
            let mut baseline = Baseline::new(&parameters, Simd::detect(), 16.0, 1);
            let light = uniform(4000);
            let frame = |t: usize| [(300.0 + 20.0 * light[t]) as f32];
            (0..1000).for_each(|t| baseline.learn(&frame(t)));
            let before = baseline.f0[0];
            (0..16).for_each(|_| baseline.learn(&[0.0]));
            assert!((baseline.f0[0] / before - 1.0).abs() < 0.06, "{estimator:?}: {} for {before}", baseline.f0[0]);
            baseline.learn(&[65_535.0]);
            (1000..1320).for_each(|t| baseline.learn(&frame(t)));
            assert!((baseline.f0[0] / before - 1.0).abs() < 0.04, "{estimator:?}: {} for {before}", baseline.f0[0]);
        }
    }

    #[test]
    fn the_denominator_never_falls_below_the_floor() {
        let mut baseline = Baseline::new(&minimum_parameters(1, 0.0), Simd::detect(), 30.0, 3);
        baseline.learn(&[100.0, 5.0, -5.0]);
        let mut image = [150.0, 15.0, 15.0];
        baseline.relative_change(&mut image);
        assert_eq!(image, [0.5, 0.5, 1.0]);
    }

    #[test]
    fn what_was_forgotten_leaves_no_trace_and_no_vector_unit_changes_a_bit() {
        for estimator in [Estimator::RunningMinimum, Estimator::RunningQuantile] {
            let parameters = Parameters { estimator, ..Parameters::default() };
            let images: Vec<Vec<f32>> =
                uniform(40 * 37).chunks(37).map(|c| c.iter().map(|&u| u as f32).collect()).collect();
            let mut used = Baseline::new(&parameters, Simd::detect(), 30.0, 37);
            images.iter().for_each(|image| used.learn(&image.iter().map(|x| x * 9.0 - 4.0).collect::<Vec<_>>()));
            used.forget();
            let mut fresh = Baseline::new(&parameters, Simd::baseline(), 30.0, 37);
            for image in &images {
                used.learn(image);
                fresh.learn(image);
                assert_eq!(used.f0, fresh.f0);
            }
        }
    }
}
