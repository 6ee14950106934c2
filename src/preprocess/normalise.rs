//! (x − mean) / max(sd, floor) with the running statistics of this animal.
//!
//! Why it exists: animals differ in expression and depth; a model sees each of them with mean 0 and variance 1.
//! What it must never do: look ahead. The statistics include the frame being normalised and those before it, with equal weight up to
//! `memory_s`; beyond it older frames fade. Once they are used, a distance counts up to `influence_sd` standard deviations.
//!
//! With `signal_share` the result is multiplied by the share of the pixel's variance that is signal: Σ eₜ eₜ₋₁ / Σ eₜ², 0 to 1, with the
//! distances e from the mean. Dividing by the standard deviation makes a pixel without activity as loud as one with; this makes it quiet again,
//! as a Wiener filter does.
//!
//! Welford's recurrence in f64: after an hour at 30 Hz a new frame moves the mean by a hundred-thousandth of its distance,
//! which f32 would round away. The standard deviation is that of the population (M₂ / n).

use super::baseline::bound;
use super::memory::Needed;
use super::simd::Simd;
use crate::frame::animal::StatisticsState;
use crate::model::parameters::{Normalise as Parameters, Scope};

/// Squared distances that are divided by are at least this.
const SMALLEST: f64 = 1e-30;
/// Lanes of the sums over a plane: fixed, so that the order of summation does not depend on the vector unit.
const LANES: usize = 8;

/// Which frames enter the statistics, and with what weight: only the decision, separate from their storage.
#[derive(Clone, Copy)]
pub(super) struct Census {
    warmup_frames: u64,
    freeze_after_frames: u64,
    /// Frames that count the same; more of them fade.
    memory_frames: u64,
    influence_sd: f64,
    /// Model frames that have entered.
    counted: u64,
    /// Model frames in the statistics.
    frames: u64,
    frozen_by_count: bool,
    frozen_on_request: bool,
}

/// How one frame enters the statistics.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Frames with this one.
    pub frames: f64,
    /// Share of the statistics that remains afterwards.
    pub fade: f64,
    /// Distances count up to so many standard deviations.
    pub influence_sd: f64,
}

impl Census {
    pub(super) fn new(parameters: &Parameters, frame_rate_hz: f64) -> Self {
        let memory = bound(parameters.memory_s) * frame_rate_hz;
        Self {
            warmup_frames: parameters.warmup_frames as u64,
            freeze_after_frames: parameters.freeze_after_frames as u64,
            // A float too large for the type becomes the largest one.
            memory_frames: (memory.ceil() as u64).max(parameters.warmup_frames as u64),
            influence_sd: bound(parameters.influence_sd),
            counted: 0,
            frames: 0,
            frozen_by_count: false,
            frozen_on_request: false,
        }
    }

    /// Starts again, unless frozen on request; true when the statistics must be discarded.
    pub(super) fn forget(&mut self) -> bool {
        if self.frozen_on_request {
            return false;
        }
        (self.counted, self.frames) = (0, 0);
        self.frozen_by_count = false;
        true
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen_on_request = frozen;
        self.frozen_by_count &= frozen;
    }

    pub(super) fn is_warm(&self) -> bool {
        self.counted >= self.warmup_frames
    }

    /// Model frames until the statistics are valid.
    pub(super) fn needed(&self) -> Needed {
        Needed { left: self.warmup_frames.saturating_sub(self.counted), whole: self.warmup_frames }
    }

    /// How far the counting is; mean and variance are added by whoever has them.
    pub(super) fn keep(&self) -> StatisticsState {
        let Self { counted, frames, frozen_by_count: frozen, .. } = *self;
        StatisticsState { counted, frames, frozen, ..StatisticsState::default() }
    }

    pub(super) fn take_up(&mut self, state: &StatisticsState) {
        (self.counted, self.frames, self.frozen_by_count) = (state.counted, state.frames, state.frozen);
    }

    /// Model frames in the statistics.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// One more frame: how it enters the statistics, if it does.
    pub(super) fn learns(&mut self) -> Option<Entry> {
        if self.frozen_on_request || self.frozen_by_count {
            return None;
        }
        let influence_sd = if self.is_warm() { self.influence_sd } else { f64::INFINITY };
        let entering = self.frames + 1;
        self.frames = entering.min(self.memory_frames);
        self.counted += 1;
        self.frozen_by_count = self.counted == self.freeze_after_frames;
        Some(Entry { frames: entering as f64, fade: self.frames as f64 / entering as f64, influence_sd })
    }
}

/// Statistics of every pixel, or of every channel.
pub struct Normalise {
    simd: Simd,
    scope: Scope,
    plane: usize,
    sd_floor: f64,
    census: Census,
    mean: Vec<f64>,
    /// Sum of squared distances from the mean.
    m2: Vec<f64>,
    signal: Option<Signal>,
}

/// What tells signal from noise, for every pixel.
#[derive(Clone)]
struct Signal {
    /// Sum of the products of a distance and the one before.
    joint: Vec<f64>,
    /// Distance of the last frame from the mean, that frame included.
    last: Vec<f64>,
}

impl Normalise {
    /// For frames of `channels` planes of `plane` px, `frame_rate_hz` of them per second.
    pub fn new(parameters: &Parameters, simd: Simd, frame_rate_hz: f64, channels: usize, plane: usize) -> Self {
        let groups = if parameters.scope == Scope::Pixel { channels * plane } else { channels };
        Self {
            simd,
            scope: parameters.scope,
            plane,
            sd_floor: parameters.sd_floor as f64,
            census: Census::new(parameters, frame_rate_hz),
            mean: vec![0.0; groups],
            m2: vec![0.0; groups],
            signal: parameters.signal_share.then(|| Signal { joint: vec![0.0; groups], last: vec![0.0; groups] }),
        }
    }

    /// Starts the statistics again, unless they are frozen on request.
    pub fn forget(&mut self) {
        if self.census.forget() {
            self.mean.fill(0.0);
            self.m2.fill(0.0);
            if let Some(Signal { joint, last }) = &mut self.signal {
                joint.fill(0.0);
                last.fill(0.0);
            }
        }
    }

    /// Stops the update, or resumes it (also after `freeze_after_frames`).
    pub fn freeze(&mut self, frozen: bool) {
        self.census.freeze(frozen);
    }

    /// Do the statistics rest on enough frames to be valid?
    pub fn is_warm(&self) -> bool {
        self.census.is_warm()
    }

    /// Model frames until the statistics are valid.
    pub(super) fn needed(&self) -> Needed {
        self.census.needed()
    }

    /// The statistics.
    pub(super) fn keep(&self) -> StatisticsState {
        let (joint, last) = self.signal.clone().map(|signal| (signal.joint, signal.last)).unwrap_or_default();
        StatisticsState { mean: self.mean.clone(), m2: self.m2.clone(), joint, last, ..self.census.keep() }
    }

    /// Goes on from saved ones of the same lengths.
    pub(super) fn take_up(&mut self, state: &StatisticsState) {
        self.census.take_up(state);
        self.mean.copy_from_slice(&state.mean);
        self.m2.copy_from_slice(&state.m2);
        if let Some(Signal { joint, last }) = &mut self.signal {
            joint.copy_from_slice(&state.joint);
            last.copy_from_slice(&state.last);
        }
    }

    /// Learns from one frame, unless frozen.
    pub fn learn(&mut self, image: &[f32]) {
        let before = self.census.frames() as f64;
        let Some(Entry { frames, fade, influence_sd }) = self.census.learns() else { return };
        match self.scope {
            Scope::Pixel => {
                if let Some(signal) = &mut self.signal {
                    // Before the statistics: both need the mean and the variance of the frames before.
                    let before = if before > 0.0 { 1.0 / before } else { 0.0 };
                    let bound = Bound { influence_sd, share: before, floor: self.sd_floor };
                    let (mean, m2, share) = (&self.mean[..], &self.m2[..], 1.0 / frames);
                    self.simd.run(learn_signal, Joining { signal, mean, m2, image, bound, share, fade });
                }
                if influence_sd.is_finite() {
                    let sd = Bound { influence_sd, share: 1.0 / before, floor: self.sd_floor };
                    self.simd.run(learn_bounded, (&mut self.mean[..], &mut self.m2[..], image, 1.0 / frames, sd));
                } else {
                    self.simd.run(learn_pixels, (&mut self.mean[..], &mut self.m2[..], image, 1.0 / frames));
                }
            }
            Scope::Channel => {
                let groups = self.mean.iter_mut().zip(&mut self.m2).zip(image.chunks_exact(self.plane));
                for ((mean, m2), plane) in groups {
                    let (plane_mean, plane_m2) = self.simd.run(moments, plane);
                    // Chan's rule for joining two samples, of before · n and n values.
                    let n = self.plane as f64;
                    let most = if influence_sd.is_finite() {
                        influence_sd * (*m2 / (before * n)).sqrt().max(self.sd_floor)
                    } else {
                        f64::INFINITY
                    };
                    let distance = (plane_mean - *mean).clamp(-most, most);
                    *mean += distance / frames;
                    *m2 += plane_m2.min(most * most * n) + distance * distance * n * before / frames;
                }
            }
        }
        if fade < 1.0 {
            self.m2.iter_mut().for_each(|m2| *m2 *= fade);
        }
    }

    /// Normalises one frame in place.
    pub fn apply(&self, image: &mut [f32]) {
        let frames = self.census.frames().max(1) as f64;
        match self.scope {
            Scope::Pixel => {
                self.simd.run(apply_pixels, (&self.mean[..], &self.m2[..], 1.0 / frames, self.sd_floor, &mut *image));
                if let Some(Signal { joint, .. }) = &self.signal {
                    self.simd.run(quieten, (&joint[..], &self.m2[..], image));
                }
            }
            Scope::Channel => {
                for ((mean, m2), plane) in self.mean.iter().zip(&self.m2).zip(image.chunks_exact_mut(self.plane)) {
                    let sd = (m2 / (frames * self.plane as f64)).sqrt().max(self.sd_floor);
                    self.simd.run(apply_plane, (*mean, sd, plane));
                }
            }
        }
    }
}

#[inline(always)]
fn learn_pixels((mean, m2, image, share): (&mut [f64], &mut [f64], &[f32], f64)) {
    for ((mean, m2), &x) in mean.iter_mut().zip(m2).zip(image) {
        let x = x as f64;
        let distance = x - *mean;
        *mean += distance * share;
        *m2 += distance * (x - *mean);
    }
}

/// Up to where a distance counts.
#[derive(Clone, Copy)]
struct Bound {
    influence_sd: f64,
    /// 1 / frames before this one.
    share: f64,
    floor: f64,
}

/// As [`learn_pixels`], with distances cut.
#[inline(always)]
fn learn_bounded((mean, m2, image, share, bound): (&mut [f64], &mut [f64], &[f32], f64, Bound)) {
    for ((mean, m2), &x) in mean.iter_mut().zip(m2).zip(image) {
        let sd = (*m2 * bound.share).sqrt();
        let most = bound.influence_sd * if sd > bound.floor { sd } else { bound.floor };
        let distance = x as f64 - *mean;
        let distance = if distance < -most { -most } else { distance };
        let distance = if distance > most { most } else { distance };
        let step = distance * share;
        *mean += step;
        *m2 += distance * (distance - step);
    }
}

/// One frame, and what it joins.
struct Joining<'a> {
    signal: &'a mut Signal,
    /// Of the frames before.
    mean: &'a [f64],
    m2: &'a [f64],
    image: &'a [f32],
    bound: Bound,
    /// 1 / frames with this one.
    share: f64,
    /// Share of the sum that remains afterwards.
    fade: f64,
}

/// The product of this distance, cut as in [`learn_bounded`], and the last one joins the sum; what is left of it becomes the last one.
#[inline(always)]
fn learn_signal(joining: Joining<'_>) {
    let Joining { signal: Signal { joint, last }, mean, m2, image, bound, share, fade } = joining;
    let sums = joint.iter_mut().zip(last);
    for ((((joint, last), mean), m2), &x) in sums.zip(mean).zip(m2).zip(image) {
        let sd = (*m2 * bound.share).sqrt();
        let most = bound.influence_sd * if sd > bound.floor { sd } else { bound.floor };
        let distance = x as f64 - *mean;
        let distance = if distance < -most { -most } else { distance };
        let distance = if distance > most { most } else { distance };
        *joint = (*joint + *last * distance) * fade;
        *last = distance - distance * share;
    }
}

/// Multiplies each pixel by the share of its variance that is signal.
#[inline(always)]
fn quieten((joint, m2, image): (&[f64], &[f64], &mut [f32])) {
    for ((x, joint), m2) in image.iter_mut().zip(joint).zip(m2) {
        let share = (*joint / if *m2 > SMALLEST { *m2 } else { SMALLEST }) as f32;
        let share = if share < 0.0 { 0.0 } else { share };
        *x *= if share > 1.0 { 1.0 } else { share };
    }
}

/// Mean of a plane and its sum of squared distances, in two passes.
#[inline(always)]
fn moments(plane: &[f32]) -> (f64, f64) {
    let mean = lanes_sum(plane, |x| x) / plane.len() as f64;
    (mean, lanes_sum(plane, |x| (x - mean) * (x - mean)))
}

#[inline(always)]
fn lanes_sum(values: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let chunks = values.chunks_exact(LANES);
    lanes.iter_mut().zip(chunks.remainder()).for_each(|(lane, &x)| *lane = of(x as f64));
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += of(x as f64));
    }
    lanes.iter().sum()
}

#[inline(always)]
fn apply_pixels((mean, m2, share, floor, image): (&[f64], &[f64], f64, f64, &mut [f32])) {
    let floor = floor as f32;
    for ((x, mean), m2) in image.iter_mut().zip(mean).zip(m2) {
        // The difference in f64, the rest in f32: twice as many per vector and exact to 1e-7.
        let distance = (*x as f64 - mean) as f32;
        let sd = ((m2 * share) as f32).sqrt();
        *x = distance / if sd > floor { sd } else { floor };
    }
}

#[inline(always)]
fn apply_plane((mean, sd, plane): (f64, f64, &mut [f32])) {
    plane.iter_mut().for_each(|x| *x = ((*x as f64 - mean) / sd) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(frames: usize, pixels: usize) -> Vec<Vec<f32>> {
        let light = |t: usize, p: usize| ((t * 7919 + p * 104_729 + t * t * 31) % 1013) as f32 * 0.01 + p as f32;
        (0..frames).map(|t| (0..pixels).map(|p| light(t, p)).collect()).collect()
    }

    fn parameters(scope: Scope) -> Parameters {
        Parameters { scope, warmup_frames: 4, ..Parameters::default() }
    }

    /// All frames count the same, however far they are.
    fn unbounded(scope: Scope) -> Parameters {
        Parameters { memory_s: 0.0, influence_sd: 0.0, ..parameters(scope) }
    }

    /// Two passes over all values so far.
    fn two_pass(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
        let n = values.clone().count() as f64;
        let mean = values.clone().map(|v| v as f64).sum::<f64>() / n;
        (mean, (values.map(|v| (v as f64 - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn statistics_per_pixel_are_those_of_two_passes_over_the_past() {
        let images = images(50, 22);
        let mut normalise = Normalise::new(&unbounded(Scope::Pixel), Simd::detect(), 30.0, 2, 11);
        for t in 0..50 {
            let mut image = images[t].clone();
            normalise.learn(&image);
            normalise.apply(&mut image);
            for p in 0..22 {
                let (mean, sd) = two_pass(images[..=t].iter().map(|i| i[p]));
                let truth = (images[t][p] as f64 - mean) / sd.max(0.01);
                assert!((image[p] as f64 - truth).abs() < 1e-4, "frame {t}, pixel {p}: {} for {truth}", image[p]);
            }
            assert_eq!(normalise.is_warm(), t >= 3);
        }
    }

    #[test]
    fn statistics_per_channel_are_those_of_two_passes_over_the_past() {
        let images = images(30, 2 * 13);
        let mut normalise = Normalise::new(&unbounded(Scope::Channel), Simd::detect(), 30.0, 2, 13);
        for t in 0..30 {
            let mut image = images[t].clone();
            normalise.learn(&image);
            normalise.apply(&mut image);
            for p in 0..26 {
                let channel = p / 13 * 13..(p / 13 + 1) * 13;
                let (mean, sd) = two_pass(images[..=t].iter().flat_map(|i| i[channel.clone()].iter().copied()));
                let truth = (images[t][p] as f64 - mean) / sd;
                assert!((image[p] as f64 - truth).abs() < 1e-4, "frame {t}, pixel {p}: {} for {truth}", image[p]);
            }
        }
    }

    #[test]
    fn a_small_spread_on_a_large_mean_survives_three_hundred_thousand_frames() {
        let mut normalise = Normalise::new(&unbounded(Scope::Pixel), Simd::detect(), 30.0, 1, 1);
        for t in 0..300_000u32 {
            normalise.learn(&[1000.0 + if t % 2 == 0 { 0.25 } else { -0.25 }]);
        }
        let mut image = [1000.5];
        normalise.apply(&mut image);
        assert!((image[0] - 2.0).abs() < 1e-4, "{}", image[0]);
    }

    #[test]
    fn a_flash_and_two_seconds_of_darkness_hardly_widen_the_statistics() {
        for scope in [Scope::Pixel, Scope::Channel] {
            let make = || Normalise::new(&parameters(scope), Simd::detect(), 16.0, 1, 40);
            let (mut plain, mut disturbed) = (make(), make());
            for image in images(960, 40) {
                plain.learn(&image);
                disturbed.learn(&image);
            }
            disturbed.learn(&[65_535.0; 40]);
            (0..32).for_each(|_| disturbed.learn(&[-1000.0; 40]));
            let (mut a, mut b) = (images(961, 40).remove(960), images(961, 40).remove(960));
            plain.apply(&mut a);
            disturbed.apply(&mut b);
            let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1.2, "{scope:?}: a normalised value is {off} off");
        }
    }

    #[test]
    fn what_is_older_than_the_memory_fades() {
        let short = Parameters { memory_s: 10.0, ..parameters(Scope::Pixel) };
        let mut normalise = Normalise::new(&short, Simd::detect(), 10.0, 1, 1);
        // 100 frames count the same; another level is reached to e⁻⁵ after 500 more.
        (0..1000).for_each(|t| normalise.learn(&[if t % 2 == 0 { 9.0 } else { 11.0 }]));
        (0..600).for_each(|t| normalise.learn(&[if t % 2 == 0 { 11.0 } else { 13.0 }]));
        let mut image = [13.0];
        normalise.apply(&mut image);
        assert!((image[0] - 1.0).abs() < 0.1, "{}", image[0]);
        assert_eq!(normalise.census.frames(), 100);
    }

    #[test]
    fn frozen_statistics_stay_and_can_be_resumed() {
        for scope in [Scope::Pixel, Scope::Channel] {
            let counted = Parameters { freeze_after_frames: 5, ..parameters(scope) };
            let mut normalise = Normalise::new(&counted, Simd::detect(), 30.0, 1, 2);
            let images = images(8, 2);
            images.iter().for_each(|image| normalise.learn(image));
            assert_eq!(normalise.census.frames(), 5);
            normalise.freeze(false);
            images.iter().for_each(|image| normalise.learn(image));
            assert_eq!(normalise.census.frames(), 13, "resumed for good after freezing by count");
            normalise.freeze(true);
            let before = normalise.mean.clone();
            images.iter().for_each(|image| normalise.learn(image));
            normalise.forget();
            assert_eq!((normalise.census.frames(), &normalise.mean), (13, &before));
        }
    }

    #[test]
    fn a_pixel_counts_by_the_share_of_its_variance_that_the_frame_before_foretells() {
        let parameters = Parameters { signal_share: true, ..unbounded(Scope::Pixel) };
        let (mut with, mut without) = (
            Normalise::new(&parameters, Simd::detect(), 30.0, 1, 3),
            Normalise::new(&unbounded(Scope::Pixel), Simd::detect(), 30.0, 1, 3),
        );
        let mut random = crate::sys::random::SplitMix(5);
        let (mut slow, mut weighed) = (0.0_f32, [0.0_f64; 3]);
        for frame in 0..4000 {
            // Activity that lasts; white noise; both, with the same variance: 1 / (1 − 0.9²) and 1, in units of uniform noise.
            slow = 0.9 * slow + random.signed();
            let scale = (1.0_f32 - 0.81).sqrt();
            let (noise, more) = (random.signed(), random.signed());
            let image = [slow, noise, scale * slow + more];
            let (mut a, mut b) = (image, image);
            with.learn(&image);
            without.learn(&image);
            with.apply(&mut a);
            without.apply(&mut b);
            if frame == 3999 {
                weighed = [0, 1, 2].map(|pixel| f64::from(a[pixel] / b[pixel]));
            }
        }
        for (found, expected) in weighed.iter().zip([0.9, 0.0, 0.45]) {
            assert!((found - expected).abs() < 0.05, "{weighed:?}");
        }
        let kept = with.keep();
        let mut again = Normalise::new(&parameters, Simd::detect(), 30.0, 1, 3);
        again.take_up(&kept);
        let (mut a, mut b) = ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]);
        for normalise in [&mut with, &mut again] {
            normalise.learn(&[0.5, 0.1, -0.3]);
        }
        with.apply(&mut a);
        again.apply(&mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn a_pixel_that_never_changes_is_zero_and_not_nan() {
        let mut normalise = Normalise::new(&parameters(Scope::Pixel), Simd::detect(), 30.0, 1, 3);
        let mut image = [5.0; 3];
        normalise.learn(&image);
        normalise.apply(&mut image);
        assert_eq!(image, [0.0; 3]);
    }

    #[test]
    fn no_vector_unit_changes_a_bit() {
        for (scope, signal_share) in [(Scope::Pixel, false), (Scope::Pixel, true), (Scope::Channel, false)] {
            let parameters = Parameters { signal_share, ..parameters(scope) };
            let make = |simd| Normalise::new(&parameters, simd, 30.0, 2, 37);
            let (mut fast, mut plain) = (make(Simd::detect()), make(Simd::baseline()));
            for image in images(20, 74) {
                let (mut a, mut b) = (image.clone(), image.clone());
                fast.learn(&image);
                plain.learn(&image);
                fast.apply(&mut a);
                plain.apply(&mut b);
                assert_eq!(a, b);
            }
        }
    }
}
