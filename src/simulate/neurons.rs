//! Descending neurons: functional types that all animals share, and their variation between animals.
//!
//! Why it exists: the same action activates the same *kind* of axons in every animal, but never the same pixels with the same
//! strength. What it must never do: know the microscope; it ends at the ΔF/F of each axon.
//!
//! Types, their shares and their tuning are a sketch of Aymanns et al. 2022 (eLife 11:e81527): most descending neurons there
//! follow walking and its speed, some turning, fewer head and abdominal grooming, a few rest, and many share a slow input.

use super::behaviour::{Doing, N, RATE_HZ};
use super::recipe;
use super::stream::Stream;
use crate::sys::random::{Random, Wander};

/// A group of types with one tuning: how many types, weights of the seven actions, of speed, turning and arousal.
struct Group {
    types: usize,
    actions: [f64; N],
    speed: f64,
    turn: f64,
    arousal: f64,
}

const fn group(types: usize, actions: [f64; N], speed: f64, turn: f64, arousal: f64) -> Group {
    Group { types, actions, speed, turn, arousal }
}

/// 43 types, each with an axon on the left and one on the right.
#[rustfmt::skip]
const GROUPS: [Group; 14] = [
    //        rest walk fore ante eye  abdo hind
    group(2, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0, 0.0, -0.3),
    group(6, [0.0, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0], 0.3, 0.0,  0.2),
    group(3, [0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], 0.8, 0.0,  0.1),
    group(2, [0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0, 0.6,  0.1),
    group(3, [0.0, 0.0, 1.0, 0.2, 0.2, 0.0, 0.0], 0.0, 0.0,  0.1),
    group(3, [0.0, 0.0, 0.2, 1.0, 0.3, 0.0, 0.0], 0.0, 0.0,  0.1),
    group(3, [0.0, 0.0, 0.2, 0.3, 1.0, 0.0, 0.0], 0.0, 0.0,  0.1),
    group(3, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.3], 0.0, 0.0,  0.1),
    group(3, [0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 1.0], 0.0, 0.0,  0.1),
    group(2, [0.0, 0.0, 0.7, 0.7, 0.7, 0.0, 0.0], 0.0, 0.0,  0.2),
    group(2, [0.0, 0.0, 0.0, 0.0, 0.0, 0.7, 0.7], 0.0, 0.0,  0.2),
    group(3, [0.0, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5], 0.0, 0.0,  0.4),
    group(3, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0, 0.0,  1.0),
    group(5, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0, 0.0,  0.2),
];

/// Half axes of the connective's cross section, px of a field of 64 px.
pub(super) const SECTION_PX: [f64; 2] = [18.0, 26.0];
/// Scatter of the axons of one group around their tract, px.
const TRACT_PX: f64 = 6.0;
/// Minimum distance between two axons of one side, px.
const APART_PX: f64 = 2.2;
/// Adaptation time constant of phasic responses, s.
const FADE_S: f64 = 0.8;
/// Maximum number of behaviour frames by which an axon may fire early.
pub(super) const LEAD_FRAMES_MAX: usize = 100;
/// Number of the first extra axon.
const EXTRA_ID: u64 = 1000;
/// Saturation of the indicator: the ΔF/F at which half of the gain is lost.
const HALF_GAIN: f64 = 4.0;

/// One axon of one animal.
#[derive(Clone, Debug, PartialEq)]
pub struct Axon {
    /// Which of the species' axons; extra ones are numbered from 1000.
    pub id: u64,
    /// [y, x] from the middle of the section, px of a field of 64 px.
    pub place_px: [f64; 2],
    /// Radius (sd of the blob before the point spread), px.
    pub radius_px: f64,
    /// Strength of its response.
    pub gain: f64,
    /// Weights of the seven actions.
    pub actions: [f64; N],
    /// Weights of speed, turning, arousal.
    pub slow: [f64; 3],
    /// Share of its response that remains in a long bout, 0 to 1.
    pub tonic: f64,
    /// Time by which it fires before behaviour, s.
    pub lead_s: f64,
    /// Firing at rest, where 1 is full drive.
    pub idle: f64,
}

/// All axons of one animal.
#[derive(Clone, Debug, PartialEq)]
pub struct Population {
    /// The axons of this animal, in the order of the species, extra ones last.
    pub axons: Vec<Axon>,
    /// Decay of the indicator in this animal, s.
    pub decay_s: f64,
}

/// The species: the same for every seed, because another seed means other animals of the same species.
fn species() -> Vec<Axon> {
    let mut random = Random::new(Stream::Species, &[]);
    let mut axons: Vec<Axon> = Vec::new();
    for group in &GROUPS {
        let tract = inside(&mut random, 0.85);
        for _ in 0..group.types {
            let place_px = free_place(&mut random, tract, &axons);
            let left = Axon {
                id: axons.len() as u64,
                place_px,
                radius_px: 0.8 * random.factor(0.25),
                gain: 1.0,
                actions: group.actions,
                slow: [group.speed, group.turn, group.arousal],
                tonic: 0.2 + 0.8 * random.uniform(),
                lead_s: 0.05 + 0.08 * random.normal(),
                idle: 0.04 + 0.08 * random.uniform(),
            };
            let mut right = left.clone();
            right.id += 1;
            right.place_px[1] = -place_px[1];
            right.slow[1] = -right.slow[1];
            axons.extend([left, right]);
        }
    }
    axons
}

/// A point of the left half of the section.
fn inside(random: &mut Random, share: f64) -> [f64; 2] {
    loop {
        let [y, x] = [2.0 * random.uniform() - 1.0, -random.uniform()];
        if y * y + x * x < share * share {
            return [y * SECTION_PX[0], x * SECTION_PX[1]];
        }
    }
}

fn free_place(random: &mut Random, tract: [f64; 2], taken: &[Axon]) -> [f64; 2] {
    let mut place = tract;
    for _ in 0..1000 {
        place = tract.map(|t| t + TRACT_PX * random.normal());
        let [y, x] = [place[0] / SECTION_PX[0], place[1] / SECTION_PX[1]];
        let near = |a: &Axon| (a.place_px[0] - place[0]).hypot(a.place_px[1] - place[1]) < APART_PX;
        if y * y + x * x < 0.85 && place[1] < -0.5 * APART_PX && !taken.iter().any(near) {
            break;
        }
    }
    place
}

impl Population {
    pub(super) fn of(recipe: &recipe::Neurons, seed: u64, animal: u64) -> Self {
        let random = |stream| Random::new(stream, &[seed, animal]);
        let (mut position, mut size, mut gain) = (random(Stream::Position), random(Stream::Size), random(Stream::Gain));
        let (mut mixing, mut lead) = (random(Stream::Mixing), random(Stream::Lead));
        let mut axons = species();
        axons.extend(extra(recipe.extra, random(Stream::Extra)));
        for axon in &mut axons {
            axon.place_px.iter_mut().for_each(|p| *p += recipe.position_px_sd * position.normal());
            axon.radius_px *= size.factor(recipe.size_sd);
            axon.gain *= gain.factor(recipe.gain_sd);
            axon.actions.iter_mut().for_each(|w| *w += recipe.mixing_sd * mixing.normal());
            axon.lead_s += recipe.lead_s_sd * lead.normal();
        }
        let mut missing = random(Stream::Missing);
        axons.retain(|_| missing.uniform() >= recipe.missing);
        Self { axons, decay_s: recipe.decay_s * random(Stream::Decay).factor(recipe.decay_sd) }
    }
}

/// Axons that no other animal has, tuned to anything.
fn extra(mean: f64, mut random: Random) -> Vec<Axon> {
    let count = random.poisson(mean) as usize;
    let one = |id: u64, random: &mut Random| {
        let mut place_px = inside(random, 0.9);
        if random.uniform() < 0.5 {
            place_px[1] = -place_px[1];
        }
        let mut actions = [0.0; N];
        actions[random.choice(&[1.0; N])] = random.uniform();
        Axon {
            id,
            place_px,
            radius_px: 0.8 * random.factor(0.25),
            gain: 1.0,
            actions,
            slow: [0.3 * random.normal(), 0.2 * random.normal(), 0.4 * random.normal()],
            tonic: 0.2 + 0.8 * random.uniform(),
            lead_s: 0.05 + 0.08 * random.normal(),
            idle: 0.04 + 0.08 * random.uniform(),
        }
    };
    (0..count).map(|index| one(EXTRA_ID + index as u64, &mut random)).collect()
}

/// ΔF/F of every axon, averaged over the scan of each two-photon frame: `[frames, axons]`.
///
/// `doings` holds [`LEAD_FRAMES_MAX`] behaviour frames more than `frame_at`, because axons fire early.
pub(super) fn activity(
    population: &Population,
    recipe: &recipe::Neurons,
    doings: &[Doing],
    frame_at: &[usize],
    keys: [u64; 3],
) -> Vec<f32> {
    let frames = frame_at.last().map_or(0, |last| last + 1);
    let axons = population.axons.len();
    let mut sums = vec![0.0f32; frames * axons];
    let mut steps = vec![0.0f32; frames];
    frame_at.iter().for_each(|&frame| steps[frame] += 1.0);
    for (index, axon) in population.axons.iter().enumerate() {
        let mut cell = Cell::new(axon, population.decay_s, recipe, keys);
        for (step, &frame) in frame_at.iter().enumerate() {
            let lead = (axon.lead_s * RATE_HZ).round() as isize;
            let at = (step as isize + lead).clamp(0, doings.len() as isize - 1) as usize;
            sums[frame * axons + index] += cell.next(drive(axon, recipe, &doings[at])) as f32;
        }
    }
    sums.chunks_mut(axons.max(1)).zip(&steps).for_each(|(row, n)| row.iter_mut().for_each(|v| *v /= n.max(1.0)));
    sums
}

/// The drive of an axon; 1 is full.
fn drive(axon: &Axon, recipe: &recipe::Neurons, doing: &Doing) -> f64 {
    let fades = recipe.adaptation * (1.0 - axon.tonic);
    let fresh = 1.0 - fades * (1.0 - (-f64::from(doing.since_s) / FADE_S).exp());
    let [speed, turn, arousal] = axon.slow;
    let action = axon.actions[usize::from(doing.action)] * f64::from(doing.vigour) * fresh;
    let moving = speed * f64::from(doing.speed) + turn * f64::from(doing.turn);
    axon.gain * (action + moving + recipe.arousal * arousal * f64::from(doing.arousal))
}

/// Spikes and calcium of one axon.
struct Cell {
    spikes: Random,
    private: Wander,
    private_random: Random,
    private_sd: f64,
    idle: f64,
    spikes_per_step: f64,
    spiking: f64,
    keep_rise: f64,
    keep_decay: f64,
    per_spike: f64,
    peak: f64,
    rising: f64,
    calcium: f64,
}

impl Cell {
    fn new(axon: &Axon, decay_s: f64, recipe: &recipe::Neurons, [seed, animal, trial]: [u64; 3]) -> Self {
        let keys = [seed, animal, trial, axon.id];
        let mut private_random = Random::new(Stream::Private, &keys);
        let keep = |s: f64| (-1.0 / (s * RATE_HZ)).exp();
        let keep_decay = keep(decay_s);
        let spikes_per_step = recipe.firing_hz / RATE_HZ;
        let idle = axon.idle;
        Self {
            spikes: Random::new(Stream::Spikes, &keys),
            private: Wander::new(2.0 * RATE_HZ, &mut private_random),
            private_random,
            private_sd: recipe.private,
            idle,
            spikes_per_step,
            spiking: recipe.spiking,
            keep_rise: keep(recipe.rise_s),
            keep_decay,
            // Sustained full drive converges to 1.
            per_spike: (1.0 - keep_decay) / spikes_per_step,
            peak: recipe.peak,
            rising: idle * (1.0 - keep_decay),
            calcium: idle,
        }
    }

    /// ΔF/F after one behaviour frame.
    fn next(&mut self, drive: f64) -> f64 {
        let own = self.private_sd * self.private.next(&mut self.private_random);
        let mean = (self.idle + drive + own).max(0.0) * self.spikes_per_step;
        let count = mean + self.spiking * (self.spikes.poisson(mean) - mean);
        self.rising = self.keep_rise * self.rising + (1.0 - self.keep_rise) * count * self.per_spike;
        self.calcium = self.keep_decay * self.calcium + self.rising;
        let linear = self.peak * (self.calcium - self.idle);
        if linear > 0.0 { linear / (1.0 + linear / HALF_GAIN) } else { linear }
    }
}
