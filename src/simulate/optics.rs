//! From axons to counts: how the microscope sees one animal in one trial.
//!
//! Why it exists: a decoder gets pixels, with the placement, the light, the neuropil, the motion and the noise of this animal on
//! this day. What it must never do: use the behaviour for anything but motion; light comes from the axons alone.
//!
//! Measured magnitudes are documented at their parameters in [`super::recipe::Optics`]; the real recording mentioned there is that
//! of NeLy-EPFL/motion_compensation (MIT; Chen, Hermans et al. 2018, Nat Commun 9:4390).

use super::behaviour::{ACTIONS, Doing};
use super::neurons::Population;
use super::recipe;
use super::stream::Stream;
use super::tissue::{Affine, Blob, Canvas};
use crate::sys::random::{Random, Wander};

/// The field that the recipe's distances refer to, px.
const FIELD_PX: f64 = 64.0;
/// Maximum displacement of a frame along one axis, px of that field.
pub(super) const MOTION_PX_MAX: f64 = 4.0;
/// How much the tissue moves in each action: walking and abdominal movements pull most.
const VIGOUR: [f64; ACTIONS.len()] = [0.12, 0.8, 0.7, 0.6, 0.6, 1.0, 0.9];
/// Correlation times of drift, of fast motion and of the neuropil's own signal, s.
const TIMES_S: [f64; 3] = [25.0, 0.25, 12.0];
/// The start of a movement displaces the tissue by this many sd of its fast motion; it returns with this time constant, s.
const START: (f64, f64) = (1.6, 0.5);
/// The time that the recipe's bleaching refers to, s.
const BLEACHING_S: f64 = 600.0;
/// Light at the centre of an axon at rest, where 1 is `photons`.
const AXON_LIGHT: f64 = 2.0;
/// Light of the structural marker, where 1 is `photons`: the red channel of the real recording has four fifths of the green.
const RED_LIGHT: f64 = 0.8;

/// How the microscope sees one animal.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Rotation, degrees, + turns right towards down.
    pub rotation_deg: f64,
    /// Shift [dy, dx], px of a field of 64 px.
    pub shift_px: [f64; 2],
    /// Magnification along y and x.
    pub scale: [f64; 2],
    /// Light of the green and the red channel.
    pub brightness: [f64; 2],
    /// Slope of the light along y and x, share at the border.
    pub illumination: [f64; 2],
    /// Strength of the neuropil's own texture.
    pub texture: f64,
    /// Expression of each axon, green and red, in the order of the population.
    pub expression: Vec<[f64; 2]>,
    /// Factor on the detectors' gain, green and red.
    pub detector: [f64; 2],
    /// Share of light lost in ten minutes.
    pub bleaching: f64,
}

impl View {
    pub(super) fn of(recipe: &recipe::Optics, population: &Population, seed: u64, animal: u64) -> Self {
        let random = |stream| Random::new(stream, &[seed, animal]);
        let (mut rotation, mut shift, mut scale) =
            (random(Stream::Rotation), random(Stream::Shift), random(Stream::Scale));
        let (mut light, mut slope) = (random(Stream::Brightness), random(Stream::Illumination));
        let (mut detector, mut bleaching) = (random(Stream::Detector), random(Stream::Bleaching));
        let expression = |axon: u64| {
            let mut random = Random::new(Stream::Expression, &[seed, animal, axon]);
            [(); 2].map(|()| random.factor(recipe.expression_sd))
        };
        Self {
            rotation_deg: recipe.rotation_deg_sd * rotation.normal(),
            shift_px: std::array::from_fn(|_| recipe.shift_px_sd * shift.normal()),
            scale: std::array::from_fn(|_| scale.factor(recipe.scale_sd)),
            brightness: std::array::from_fn(|_| light.factor(recipe.brightness_sd)),
            illumination: std::array::from_fn(|_| recipe.illumination_sd * slope.normal().clamp(-2.0, 2.0)),
            texture: recipe.texture_sd,
            expression: population.axons.iter().map(|axon| expression(axon.id)).collect(),
            detector: std::array::from_fn(|_| detector.factor(recipe.detector_sd)),
            bleaching: recipe.bleaching * (0.5 + bleaching.uniform()),
        }
    }

    /// The slightly different placement in one trial.
    fn in_trial(&self, recipe: &recipe::Optics, keys: [u64; 3]) -> Self {
        let mut random = Random::new(Stream::TrialPlace, &keys);
        let share = recipe.trial_placement;
        let mut view = self.clone();
        view.rotation_deg += share * recipe.rotation_deg_sd * random.normal();
        view.shift_px.iter_mut().for_each(|s| *s += share * recipe.shift_px_sd * random.normal());
        view.scale.iter_mut().for_each(|s| *s *= random.factor(share * recipe.scale_sd));
        view
    }

    /// From the section of the species to the field, px.
    fn affine(&self, side: usize) -> Affine {
        let unit = side as f64 / FIELD_PX;
        let (sin, cos) = self.rotation_deg.to_radians().sin_cos();
        let [sy, sx] = self.scale.map(|s| s * unit);
        let middle = (side as f64 - 1.0) / 2.0;
        Affine {
            matrix: [[cos * sy, sin * sx], [-sin * sy, cos * sx]],
            shift: self.shift_px.map(|s| s * unit + middle),
        }
    }
}

/// Everything that the frames of one trial are made from.
pub(super) struct Scene {
    side: usize,
    keys: [u64; 3],
    /// Photons without activity, green and red, and neuropil alone (green), on a canvas larger than the field.
    still: [Canvas; 2],
    neuropil: Canvas,
    /// Green photons of each axon per ΔF/F.
    blobs: Vec<Blob>,
    /// Per two-photon frame: [dy, dx] in px, the neuropil's ΔF/F, light left in green and red.
    motion_px: Vec<[f64; 2]>,
    haze: Vec<f64>,
    light: Vec<[f64; 2]>,
    /// `[frames, axons]`.
    activity: Vec<f32>,
    gain: [f64; 2],
    dark: f64,
    read_sd: f64,
    crosstalk: f64,
}

impl Scene {
    /// `doing` is what the animal does at the end of each two-photon frame.
    pub(super) fn new(
        view: &View,
        population: &Population,
        recipe: &recipe::Optics,
        activity: Vec<f32>,
        doing: &[Doing],
        keys: [u64; 3],
    ) -> Self {
        let side = recipe.side_px;
        let view = view.in_trial(recipe, keys);
        let affine = view.affine(side);
        let margin = (MOTION_PX_MAX * side as f64 / FIELD_PX).ceil() as usize + 2;
        let mut neuropil = Canvas::new(side, margin);
        neuropil.paint_neuropil(&affine, view.texture, [keys[0], keys[1]]);
        neuropil.scale(recipe.neuropil * recipe.photons);
        let mut still = [neuropil.clone(), neuropil.clone()];
        let mut blobs = Vec::new();
        for (axon, expression) in population.axons.iter().zip(&view.expression) {
            let unit = side as f64 / FIELD_PX;
            let radius = axon.radius_px.hypot(recipe.psf_px) * unit * (view.scale[0] * view.scale[1]).sqrt();
            for channel in 0..2 {
                let light = AXON_LIGHT * recipe.photons * expression[channel];
                let blob = Blob::new(&still[channel], affine.apply(axon.place_px), radius, light);
                still[channel].add(&blob);
                if channel == 0 {
                    blobs.push(blob);
                }
            }
        }
        let field = still[0].lit(view.illumination);
        for (canvas, light) in still.iter_mut().zip([view.brightness[0], view.brightness[1] * RED_LIGHT]) {
            canvas.multiply(&field, light);
        }
        neuropil.multiply(&field, view.brightness[0]);
        blobs.iter_mut().for_each(|blob| blob.multiply(&field, view.brightness[0]));
        let mut scene = Self {
            side,
            keys,
            still,
            neuropil,
            blobs,
            motion_px: motion(recipe, doing, keys),
            haze: Vec::new(),
            light: lights(view.bleaching, recipe.rate_hz, doing.len()),
            activity,
            gain: view.detector.map(|d| d * recipe.gain),
            dark: recipe.dark_level,
            read_sd: recipe.read_counts_sd,
            crosstalk: recipe.crosstalk,
        };
        scene.haze = scene.haze(recipe);
        scene
    }

    /// Two-photon frames.
    pub(super) fn frames(&self) -> usize {
        self.motion_px.len()
    }

    /// How far the content of a frame has moved, [dy, dx] px.
    pub(super) fn motion_px(&self, frame: usize) -> [f64; 2] {
        self.motion_px[frame]
    }

    /// ΔF/F of every axon in one frame.
    pub(super) fn activity(&self, frame: usize) -> &[f32] {
        let axons = self.blobs.len();
        &self.activity[frame * axons..(frame + 1) * axons]
    }

    /// Counts per photon in green.
    pub(super) fn gain(&self) -> f64 {
        self.gain[0]
    }

    /// ΔF/F of the neuropil in each frame: its own slow signal, plus out-of-focus light of all axons.
    fn haze(&self, recipe: &recipe::Optics) -> Vec<f64> {
        let mut random = Random::new(Stream::Neuropil, &self.keys);
        let mut own = Wander::new(TIMES_S[2] * recipe.rate_hz, &mut random);
        let axons = self.blobs.len().max(1);
        let mut means =
            self.activity.chunks(axons).map(|row| row.iter().map(|&v| f64::from(v)).sum::<f64>() / axons as f64);
        let mut one =
            |_| recipe.neuropil_signal * own.next(&mut random) + recipe.contamination * means.next().unwrap_or(0.0);
        (0..self.frames()).map(&mut one).collect()
    }

    /// Counts of one frame: green, then red; 2 × side × side values.
    pub(super) fn expose(&self, frame: usize, work: &mut Canvas, into: &mut [u16]) {
        let plane = self.side * self.side;
        let (green, red) = into.split_at_mut(plane);
        work.copy_from(&self.still[0]);
        work.add_scaled(&self.neuropil, self.haze[frame].max(-0.9));
        let axons = self.blobs.len();
        for (blob, &signal) in self.blobs.iter().zip(&self.activity[frame * axons..]) {
            work.add_times(blob, f64::from(signal).max(-0.9));
        }
        let [seed, animal, trial] = self.keys;
        let mut random = Random::new(Stream::Shot, &[seed, animal, trial, frame as u64]);
        let [green_light, red_light] = self.light[frame];
        let shift = self.motion_px[frame];
        for index in 0..plane {
            let at = [index / self.side, index % self.side];
            let g = work.moved(at, shift) * green_light;
            let r = self.still[1].moved(at, shift) * red_light + self.crosstalk * g;
            green[index] = self.detect(&mut random, g, 0);
            red[index] = self.detect(&mut random, r, 1);
        }
    }

    fn detect(&self, random: &mut Random, photons: f64, channel: usize) -> u16 {
        let counts = random.poisson(photons.max(0.0)) * self.gain[channel] + self.dark + self.read_sd * random.normal();
        counts.round().clamp(0.0, f64::from(u16::MAX)) as u16
    }

    /// A canvas to work on, for [`Scene::expose`].
    pub(super) fn work(&self) -> Canvas {
        self.still[0].clone()
    }
}

/// Light left in each frame, green and red.
fn lights(bleaching: f64, rate_hz: f64, frames: usize) -> Vec<[f64; 2]> {
    let left = (1.0 - bleaching.min(0.95)).ln() / (BLEACHING_S * rate_hz);
    (0..frames).map(|frame| [1.0, 0.5].map(|share| (share * left * frame as f64).exp())).collect()
}

/// Drift, fast motion while the animal moves, and a displacement at each start of a movement; px.
fn motion(recipe: &recipe::Optics, doing: &[Doing], keys: [u64; 3]) -> Vec<[f64; 2]> {
    let mut random = Random::new(Stream::Motion, &keys);
    let unit = recipe.side_px as f64 / FIELD_PX;
    let mut wander = |s: f64| [(); 2].map(|()| Wander::new(s * recipe.rate_hz, &mut random));
    let (mut drift, mut fast) = (wander(TIMES_S[0]), wander(TIMES_S[1]));
    let mut throw = [0.0; 2];
    let back = (-1.0 / (START.1 * recipe.rate_hz)).exp();
    let (mut before, mut vigour) = (0, VIGOUR[0]);
    let mut moved = Vec::with_capacity(doing.len());
    for now in doing {
        let action = usize::from(now.action);
        vigour += 0.3 * (VIGOUR[action] - vigour);
        let starts = before == 0 && action != 0;
        before = action;
        let shift = std::array::from_fn(|axis| {
            let kick = START.0 * recipe.jerk_px * random.normal();
            throw[axis] = back * throw[axis] + if starts { kick } else { 0.0 };
            let slow = recipe.drift_px * drift[axis].next(&mut random);
            let quick = recipe.jerk_px * vigour * fast[axis].next(&mut random);
            (slow + quick + throw[axis]).clamp(-MOTION_PX_MAX, MOTION_PX_MAX) * unit
        });
        moved.push(shift);
    }
    moved
}
