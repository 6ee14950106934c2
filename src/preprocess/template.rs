//! Builds the template from the first frames of a stream, and follows slow changes afterwards.
//!
//! Why it exists: there is no template until the animal is under the microscope. The first frames are collected, aligned to the
//! sum of the others in a few rounds from coarse to fine, and averaged. A frame is never compared with itself: at low light it
//! would match its own noise. What it must never do: count anything but frames (no clock), or delay a frame by more than a few
//! milliseconds: each call refines a bounded number of stored frames.

use pulp::Arch;

use super::correlation::{Grid, Planes, Reference};
use super::registration::{Registrar, Shift};
use super::spectrum::Spectrum;
use crate::model::parameters;
use crate::sys::statistics::median;

/// Stored frames aligned per call; about 0.1 ms each, and the sooner there is a template, the sooner decodes begin.
const ALIGNED_PER_CALL: usize = 24;
/// Pixels averaged per call; about a nanosecond each.
const AVERAGED_PX_PER_CALL: usize = 1 << 21;
/// Rounds at full resolution at the end; those before are twice as coarse each.
const FINE_ROUNDS: usize = 2;
/// A frame whose peak is below this share of the usual one is odd, and so many may be.
const ODD_SHARE: f32 = 0.5;
const ODD_FRAMES_MAX: f32 = 0.25;
/// Refreshed frames between two new spectra of the template.
const REFRESHED_PER_SPECTRUM: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Collecting,
    Aligning { round: usize, next: usize },
    Averaging { next: usize },
    Ready,
}

/// Collects, aligns and averages the first frames of a stream.
pub struct TemplateBuilder {
    parameters: parameters::Registration,
    width: usize,
    stage: Stage,
    collected: usize,
    frames: Vec<f32>,
    spectra: Vec<Planes>,
    shifts: Vec<[f32; 2]>,
    grid: Grid,
    /// Sum of the aligned spectra, at times without the frame under test.
    sum: Planes,
    reference: Reference,
    waves: [[Vec<f32>; 2]; 2],
    image: Vec<f32>,
    weight: Vec<f32>,
    row: Vec<f32>,
    refreshed: usize,
    /// Height of each frame's peak against the sum of the others, in the last round.
    peaks: Vec<f32>,
}

impl TemplateBuilder {
    /// Takes the memory for `template_frames` frames of `height` × `width` px.
    pub fn new(parameters: &parameters::Registration, height: usize, width: usize) -> Self {
        let spectrum = Spectrum::new(height, width, parameters.frequencies, parameters.smooth_px);
        let (grid, count) = (Grid::new(&spectrum), parameters.template_frames.max(1));
        Self {
            parameters: parameters.clone(),
            width,
            stage: Stage::Collecting,
            collected: 0,
            frames: vec![0.0; count * height * width],
            spectra: vec![grid.planes(); count],
            shifts: vec![[0.0; 2]; count],
            sum: grid.planes(),
            reference: Reference::new(&grid, parameters.smooth_px),
            waves: [grid.rows, grid.columns].map(|n| [vec![0.0; n], vec![0.0; n]]),
            image: vec![0.0; height * width],
            weight: vec![0.0; height * width],
            row: vec![0.0; width],
            refreshed: 0,
            peaks: vec![0.0; count],
            grid,
        }
    }

    /// Whether the template is finished.
    pub fn ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// The template, once it is finished: height × width, C order.
    pub fn template(&self) -> Option<&[f32]> {
        self.ready().then_some(self.image.as_slice())
    }

    /// Takes up a template that was built before, and makes it the registrar's.
    pub(super) fn take_up(&mut self, pixels: &[f32], registrar: &mut Registrar) {
        self.image.copy_from_slice(pixels);
        (self.stage, self.refreshed) = (Stage::Ready, 0);
        registrar.set_template(&self.image);
    }

    /// Frames that are still needed.
    pub(super) fn frames_left(&self) -> usize {
        let (count, rounds) = (self.spectra.len(), self.parameters.template_rounds);
        let aligning = |frames: usize| frames.div_ceil(ALIGNED_PER_CALL);
        let averaging = |frames: usize| frames.div_ceil(self.averaged_per_call());
        match self.stage {
            Stage::Collecting => count - self.collected + rounds * aligning(count) + averaging(count),
            Stage::Aligning { round, next } => {
                aligning(count - next) + rounds.saturating_sub(round + 1) * aligning(count) + averaging(count)
            }
            Stage::Averaging { next } => averaging(count - next),
            Stage::Ready => 0,
        }
    }

    fn averaged_per_call(&self) -> usize {
        (AVERAGED_PX_PER_CALL / self.image.len()).clamp(1, ALIGNED_PER_CALL)
    }

    /// Forgets everything; the next frames make a new template. The registrar keeps the old one until then.
    pub fn restart(&mut self) {
        self.stage = Stage::Collecting;
        self.collected = 0;
    }

    /// Takes one frame of the stream: stores it, or works on the stored ones, and sets the registrar's template at the end.
    pub fn add(&mut self, image: &[f32], registrar: &mut Registrar) {
        self.add_judged(image, registrar, || true);
    }

    /// As [`TemplateBuilder::add`]; at the end the template is only used if `is_tissue`, and if its frames agree. Otherwise the next
    /// frames make another one, and this is false.
    pub fn add_judged(&mut self, image: &[f32], registrar: &mut Registrar, is_tissue: impl FnOnce() -> bool) -> bool {
        match self.stage {
            Stage::Collecting => self.collect(image, registrar),
            Stage::Aligning { round, next } => self.stage = self.align(round, next, registrar),
            Stage::Averaging { next } => {
                self.stage = self.average(next);
                if self.ready() && !(is_tissue() && self.frames_agree()) {
                    self.restart();
                    return false;
                }
                if self.ready() {
                    registrar.set_template(&self.image);
                }
            }
            Stage::Ready => {}
        }
        true
    }

    /// Do the collected frames show the same? At most a quarter of them may match the others half as well as is usual.
    fn frames_agree(&mut self) -> bool {
        let usual = median(&mut self.peaks, f32::total_cmp).unwrap_or(0.0);
        let odd = self.peaks.iter().filter(|&&peak| peak < ODD_SHARE * usual).count();
        odd as f32 <= ODD_FRAMES_MAX * self.peaks.len() as f32
    }

    /// Adds an accepted, aligned frame to the template with weight `parameters.refresh`.
    pub fn refresh(&mut self, image: &[f32], shift: &Shift, registrar: &mut Registrar) {
        let rate = self.parameters.refresh;
        let accepted = shift.peak > 0.0 && shift.peak >= self.parameters.peak_min && !shift.at_bound;
        if rate <= 0.0 || !accepted || !self.ready() {
            return;
        }
        let template = &mut self.image;
        aligned(image, self.width, [shift.dy, shift.dx], &mut self.row, |start, row| {
            for (old, new) in template[start..].iter_mut().zip(row) {
                *old += rate * (new - *old);
            }
        });
        self.refreshed += 1;
        if self.refreshed.is_multiple_of(REFRESHED_PER_SPECTRUM) {
            registrar.set_template(&self.image);
        }
    }

    fn collect(&mut self, image: &[f32], registrar: &mut Registrar) {
        if self.collected == 0 {
            self.sum.values.fill(0.0);
            self.sum.light = 0.0;
            self.shifts.fill([0.0; 2]);
        }
        let at = self.collected * image.len();
        self.frames[at..at + image.len()].copy_from_slice(image);
        let planes = registrar.transform(image);
        let stored = &mut self.spectra[self.collected];
        stored.values.copy_from_slice(&planes.values);
        stored.light = planes.light;
        self.sum.light += planes.light;
        self.sum.values.iter_mut().zip(&planes.values).for_each(|(sum, v)| *sum += v);
        self.collected += 1;
        if self.collected == self.spectra.len() {
            self.stage = Stage::Aligning { round: 0, next: 0 };
        }
    }

    /// Aligns some stored frames, each to the sum of the others.
    fn align(&mut self, round: usize, next: usize, registrar: &mut Registrar) -> Stage {
        if next == 0 {
            let coarse = (self.parameters.template_rounds.saturating_sub(round + FINE_ROUNDS)).min(3) as i32;
            self.reference.smooth(&self.grid, self.parameters.smooth_px.max(0.5) * 2f32.powi(coarse));
        }
        let end = (next + ALIGNED_PER_CALL).min(self.collected);
        for i in next..end {
            self.turn_into_sum(i, -1.0);
            self.reference.set(&self.grid, &self.sum);
            let shift = registrar.correlate(&self.spectra[i], &self.reference);
            self.shifts[i] = [shift.dy, shift.dx];
            self.peaks[i] = shift.peak;
            self.turn_into_sum(i, 1.0);
        }
        if end < self.collected {
            return Stage::Aligning { round, next: end };
        }
        self.centre();
        if round + 1 < self.parameters.template_rounds {
            return Stage::Aligning { round: round + 1, next: 0 };
        }
        self.image.fill(0.0);
        self.weight.fill(0.0);
        Stage::Averaging { next: 0 }
    }

    /// Adds the aligned spectrum of frame `i` to the sum, `sign` times.
    fn turn_into_sum(&mut self, i: usize, sign: f32) {
        set_waves(&mut self.waves, &self.grid, self.shifts[i], sign);
        Arch::new().dispatch(
            #[inline(always)]
            || turn(&mut self.sum.values, &self.spectra[i].values, &self.waves, 1.0),
        );
    }

    /// Makes the mean shift zero, so that the template lies where the brain mostly is.
    fn centre(&mut self) {
        let count = self.collected as f32;
        let mean = [0, 1].map(|axis| self.shifts.iter().map(|s| s[axis]).sum::<f32>() / count);
        self.shifts.iter_mut().for_each(|s| *s = [s[0] - mean[0], s[1] - mean[1]]);
        self.sum.values.fill(0.0);
        for i in 0..self.collected {
            self.turn_into_sum(i, 1.0);
        }
    }

    /// Averages some stored frames, aligned; the last call divides.
    fn average(&mut self, next: usize) -> Stage {
        let px = self.image.len();
        let end = (next + self.averaged_per_call()).min(self.collected);
        for i in next..end {
            let (sum, weight) = (&mut self.image, &mut self.weight);
            aligned(&self.frames[i * px..][..px], self.width, self.shifts[i], &mut self.row, |start, row| {
                for ((sum, weight), v) in sum[start..].iter_mut().zip(&mut weight[start..]).zip(row) {
                    *sum += v;
                    *weight += 1.0;
                }
            });
        }
        if end < self.collected {
            return Stage::Averaging { next: end };
        }
        let total = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>();
        let mean = (total(&self.image) / total(&self.weight).max(1.0)) as f32;
        for (v, weight) in self.image.iter_mut().zip(&self.weight) {
            *v = if *weight > 0.0 { *v / weight } else { mean };
        }
        Stage::Ready
    }
}

/// cos and sin that move content by −shift; `sign` is multiplied in.
fn set_waves(waves: &mut [[Vec<f32>; 2]; 2], grid: &Grid, shift: [f32; 2], sign: f32) {
    for axis in 0..2 {
        let [cos, sin] = &mut waves[axis];
        let scale = if axis == 0 { 1.0 } else { sign };
        for (k, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
            let (s, c) = (grid.radians[axis] * shift[axis] * k as f32).sin_cos();
            (*sin, *cos) = (s * scale, c * scale);
        }
    }
}

/// `sum += from × wave`, planes as in [`Planes`].
#[inline(always)]
fn turn(sum: &mut [f32], from: &[f32], waves: &[[Vec<f32>; 2]; 2], scale: f32) {
    let [cos, sin] = &waves[0];
    let rows = cos.len();
    let columns = sum.chunks_exact_mut(4 * rows).zip(from.chunks_exact(4 * rows));
    for ((to, from), (cx, sx)) in columns.zip(waves[1][0].iter().zip(&waves[1][1])) {
        for (half, direction) in [scale, -scale].into_iter().enumerate() {
            let to = &mut to[half * 2 * rows..][..2 * rows];
            let from = &from[half * 2 * rows..][..2 * rows];
            let ((to_re, to_im), (re, im)) = (to.split_at_mut(rows), from.split_at(rows));
            for k in 0..rows {
                let (c, s) = (cos[k], direction * sin[k]);
                let (a, b) = (cx * c - sx * s, cx * s + sx * c);
                to_re[k] += re[k] * a - im[k] * b;
                to_im[k] += re[k] * b + im[k] * a;
            }
        }
    }
}

/// Undoes `shift` by bilinear interpolation; calls `take` with the index of the first pixel and the values of every row,
/// only where there is image.
fn aligned(image: &[f32], width: usize, shift: [f32; 2], row: &mut [f32], mut take: impl FnMut(usize, &[f32])) {
    let height = image.len() / width;
    let [(dy, fy), (dx, fx)] = shift.map(|s| (s.floor() as isize, s - s.floor()));
    let (left, right) = ((-dx).clamp(0, width as isize), (width as isize - dx).clamp(0, width as isize));
    for y in (-dy).max(0)..(height as isize - dy).min(height as isize) {
        let source = (y + dy) as usize;
        let [upper, lower] = [source, (source + 1).min(height - 1)].map(|s| &image[s * width..][..width]);
        let row = &mut row[..(right - left).max(0) as usize];
        for (i, v) in row.iter_mut().enumerate() {
            let x = (left + dx) as usize + i;
            let next = (x + 1).min(width - 1);
            let [a, b] = [upper, lower].map(|line| line[x] + fx * (line[next] - line[x]));
            *v = a + fy * (b - a);
        }
        take(y as usize * width + left as usize, row);
    }
}
