//! What one step sees: pieces of recordings, spread evenly over the animals, augmented.
//!
//! Why it exists: the frame network sees one frame at a time, so the windows of a piece share their frames and each is encoded
//! once. Batch k of a seed is the same on every run, whatever came before it: that is what makes a resumed run identical. What
//! it must never do: hold a frame store open for writing, or see a network.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use super::augment::{Augmentations, NoiseTable, augment_frames};
use super::behaviour::kinds;
use super::behaviour::{self, Behaviour, SwapIndex};
use super::settings::TrainSettings;
use crate::dataset::trials::{Dataset, Moment};

/// Pieces of recordings with their other views.
#[derive(Debug)]
pub struct Batch {
    /// Model frames of all pieces one after the other, each C×H×W.
    pub frames: Vec<f32>,
    /// Number of frames.
    pub frame_count: usize,
    /// Where each window begins in `frames`.
    pub first_frames: Vec<usize>,
    /// The moment of each window.
    pub moments: Vec<Moment>,
    /// The animal of each window.
    pub animals: Vec<usize>,
    /// The action of each window.
    pub labels: Vec<Option<u8>>,
    /// 1 / how frequent the action is; 0 without an action.
    pub label_weights: Vec<f32>,
    /// `[windows, columns, frames]`.
    pub behaviour: Vec<f32>,
    /// Behaviour frames of a window.
    pub behaviour_frames: usize,
    /// Values of a behaviour frame.
    pub behaviour_columns: usize,
    /// For each window the one of another animal whose behaviour is the nearest, and whether it is drawn to it.
    pub partners: Option<Vec<(usize, bool)>>,
    /// For each window the one it is mixed with, and with how much of it.
    pub mix: Option<Vec<(usize, f32)>>,
}

/// Makes batches.
#[derive(Debug)]
pub struct Sampler<'a> {
    data: &'a Dataset,
    behaviour: &'a Behaviour,
    settings: &'a TrainSettings,
    swap: Option<SwapIndex>,
    noise: NoiseTable,
    label_weights: Vec<f32>,
    training: Vec<Kinds>,
    held_out: Vec<Kinds>,
}

/// The moments of an animal at which a piece may end, by kind of behaviour.
type Kinds = Vec<Vec<Moment>>;

/// No piece can be cut from the data.
#[derive(Debug, thiserror::Error)]
#[error(
    "animal {animal}: no stretch of {frames} usable frames in a row to train on (window {window} + {windows} windows \
     {stride} apart): record longer trials, or lower `batch.windows`, `batch.stride_frames` or `held_out_share`"
)]
pub struct TooShort {
    animal: String,
    frames: usize,
    window: usize,
    windows: usize,
    stride: usize,
}

impl<'a> Sampler<'a> {
    /// Splits the moments into those trained on and those looked at, and indexes the poses of the former.
    ///
    /// # Errors
    /// [`TooShort`] when an animal has nothing to train on.
    pub fn new(data: &'a Dataset, behaviour: &'a Behaviour, settings: &'a TrainSettings) -> Result<Self, TooShort> {
        let mut random = Pcg64::seed_from_u64(settings.seed ^ 0x5eed);
        let window = settings.network.window_frames;
        let moments = data.moments(window, settings.look_ahead_frames);
        let cuts: Vec<usize> =
            data.trials.iter().map(|t| (t.frames.len() as f64 * (1.0 - settings.held_out_share)) as usize).collect();
        let (early, late): (Vec<Moment>, Vec<Moment>) =
            moments.iter().copied().partition(|m| m.frame + settings.look_ahead_frames < cuts[m.trial]);
        let late: Vec<Moment> =
            late.into_iter().filter(|m| m.frame + settings.look_ahead_frames >= cuts[m.trial] + window).collect();
        let swaps = settings.method.contrasts() && settings.augment.behavioural_swap.probability > 0.0;
        let swap =
            swaps.then(|| SwapIndex::new(data, behaviour, &early, &settings.augment.behavioural_swap, &mut random));
        let basis = behaviour::principal_components(data, behaviour, &early, &mut random);
        let mut by_kind = |moments: &[Moment]| -> Vec<Kinds> {
            let ends = piece_ends(data, moments, settings);
            let kinds = settings.batch.kinds;
            ends.iter().map(|own| kinds::sorted(data, behaviour, &basis, own, kinds, &mut random)).collect()
        };
        let (training, held_out) = (by_kind(&early), by_kind(&late));
        let noise = NoiseTable::new(&mut random);
        let sampler = Self {
            data,
            behaviour,
            settings,
            swap,
            noise,
            label_weights: label_weights(data, &early),
            training,
            held_out,
        };
        match sampler.training.iter().position(Vec::is_empty) {
            Some(animal) => Err(sampler.too_short(animal)),
            None => Ok(sampler),
        }
    }

    fn too_short(&self, animal: usize) -> TooShort {
        let batch = &self.settings.batch;
        let window = self.settings.network.window_frames;
        TooShort {
            animal: self.data.animals[animal].clone(),
            frames: batch.segment_frames(window),
            window,
            windows: batch.windows,
            stride: batch.stride_frames,
        }
    }

    /// Is there a held-out part in which a piece fits?
    pub fn has_held_out(&self) -> bool {
        self.held_out.iter().any(|ends| !ends.is_empty())
    }

    /// The batch of a step.
    pub fn training_batch(&self, step: usize) -> Batch {
        let seed = self.settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (step as u64 + 1);
        self.batch(&self.training, &mut Pcg64::seed_from_u64(seed))
    }

    /// One of the batches that are always looked at, augmented as in training: what is measured is what is minimised.
    pub fn held_out_batch(&self, number: usize) -> Batch {
        let seed = self.settings.seed ^ 0x0e1d_0077_0000_0000 ^ number as u64;
        self.batch(&self.held_out, &mut Pcg64::seed_from_u64(seed))
    }

    fn batch(&self, ends: &[Kinds], random: &mut Pcg64) -> Batch {
        let batch = &self.settings.batch;
        let peopled: Vec<usize> = (0..ends.len()).filter(|&animal| !ends[animal].is_empty()).collect();
        let first = random.random_range(0..peopled.len());
        let pieces: Vec<Moment> =
            (0..batch.segments).map(|piece| drawn(&ends[peopled[(first + piece) % peopled.len()]], random)).collect();
        let (window, length) = {
            let window = self.settings.network.window_frames;
            (window, batch.segment_frames(window))
        };
        let mut moments = Vec::with_capacity(pieces.len() * batch.windows);
        let mut first_frames = Vec::with_capacity(moments.capacity());
        for (piece, end) in pieces.iter().enumerate() {
            for number in 0..batch.windows {
                let back = (batch.windows - 1 - number) * batch.stride_frames;
                moments.push(Moment { trial: end.trial, frame: end.frame - back });
                first_frames.push(piece * length + length - back - window);
            }
        }
        let frames = self.frames(&pieces, length, random);
        self.finish(frames, pieces.len() * length, first_frames, moments, random)
    }

    fn finish(
        &self,
        frames: Vec<f32>,
        frame_count: usize,
        first_frames: Vec<usize>,
        moments: Vec<Moment>,
        random: &mut Pcg64,
    ) -> Batch {
        let settings = self.settings;
        let augmented = settings.method.contrasts().then_some((&settings.augment, self.swap.as_ref(), &mut *random));
        let behaviour = behaviour::windows(self.data, self.behaviour, &moments, &settings.behaviour, augmented);
        let animals: Vec<usize> = moments.iter().map(|m| self.data.trials[m.trial].animal).collect();
        let labels: Vec<Option<u8>> = moments.iter().map(|m| self.data.trials[m.trial].label[m.frame]).collect();
        let weight = |label: &Option<u8>| label.map_or(0.0, |l| self.label_weights[usize::from(l)]);
        let label_weights = labels.iter().map(weight).collect();
        let augment = &settings.augment;
        let needed = augment.neural_mix.probability > 0.0 || augment.neural_swap.probability > 0.0;
        let nearest = (settings.method.contrasts() && needed).then(|| self.nearest(&moments, &animals));
        let partners = nearest.as_ref().map(|nearest| draw_partners(nearest, augment, random));
        let mix = nearest.as_ref().map(|nearest| draw_mix(nearest, augment, random));
        Batch {
            frames,
            frame_count,
            first_frames,
            moments,
            animals,
            labels,
            label_weights,
            behaviour,
            behaviour_frames: settings.behaviour.frames,
            behaviour_columns: self.behaviour.columns,
            partners,
            mix,
        }
    }

    /// The frames of the pieces, each piece augmented alike from its first frame to its last.
    fn frames(&self, pieces: &[Moment], length: usize, random: &mut Pcg64) -> Vec<f32> {
        let pixels = self.data.input.pixels();
        let augment: &Augmentations = &self.settings.augment;
        let plans: Vec<(Moment, Moment, u64)> = pieces
            .iter()
            .map(|&piece| {
                let own = &self.training[self.data.trials[piece.trial].animal];
                let tail = if own.is_empty() { piece } else { drawn(own, random) };
                (piece, tail, random.random())
            })
            .collect();
        let mut frames = vec![0.0; pieces.len() * length * pixels];
        frames.par_chunks_exact_mut(length * pixels).zip(plans).for_each(|(piece, (end, tail, seed))| {
            let trial = &self.data.trials[end.trial];
            let first = end.frame + self.settings.look_ahead_frames + 1 - length;
            for (offset, frame) in piece.chunks_exact_mut(pixels).enumerate() {
                frame.copy_from_slice(trial.frames.frame(first + offset));
            }
            let tail = self.data.trials[tail.trial].frames.frame(tail.frame);
            let mut random = Pcg64::seed_from_u64(seed);
            let (shape, rate) = (self.data.input, self.data.frame_rate_hz);
            augment_frames(piece, shape, rate, tail, &self.noise, augment, &mut random);
        });
        frames
    }

    /// For each window the nearest by behaviour among those of other animals; `None` when there is no other animal.
    fn nearest(&self, moments: &[Moment], animals: &[usize]) -> Vec<Option<usize>> {
        let pose = |m: &Moment| {
            let newest = self.data.trials[m.trial].behaviour_at[m.frame] as usize;
            [0, 6, 12].map(|back| self.behaviour.pose(m.trial, newest.saturating_sub(back)))
        };
        let poses: Vec<_> = moments.iter().map(pose).collect();
        let distance = |a: usize, b: usize| -> f32 {
            let squares = |(a, b): (&ndarray::ArrayView1<f32>, &ndarray::ArrayView1<f32>)| -> f32 {
                a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
            };
            poses[a].iter().zip(&poses[b]).map(squares).sum()
        };
        (0..moments.len())
            .map(|own| {
                let others = (0..moments.len()).filter(|&other| animals[other] != animals[own]);
                others.min_by(|&a, &b| distance(own, a).total_cmp(&distance(own, b)))
            })
            .collect()
    }
}

fn draw_partners(nearest: &[Option<usize>], augment: &Augmentations, random: &mut Pcg64) -> Vec<(usize, bool)> {
    let one = |(own, partner): (usize, &Option<usize>)| {
        let drawn = random.random::<f64>() < augment.neural_swap.probability;
        partner.map_or((own, false), |partner| (partner, drawn))
    };
    nearest.iter().enumerate().map(one).collect()
}

fn draw_mix(nearest: &[Option<usize>], augment: &Augmentations, random: &mut Pcg64) -> Vec<(usize, f32)> {
    let strength = augment.neural_mix;
    let one = |(own, partner): (usize, &Option<usize>)| {
        let mixed = random.random::<f64>() < strength.probability;
        let share = strength.magnitude * random.random::<f32>();
        partner.filter(|_| mixed).map_or((own, 0.0), |partner| (partner, share))
    };
    nearest.iter().enumerate().map(one).collect()
}

/// A moment of any kind, all kinds alike. There is at least one.
fn drawn(kinds: &Kinds, random: &mut Pcg64) -> Moment {
    let kind = &kinds[random.random_range(0..kinds.len())];
    kind[random.random_range(0..kind.len())]
}

/// 1 / frequency of each action, so that all of them weigh the same; 0 for one that never occurs.
fn label_weights(data: &Dataset, moments: &[Moment]) -> Vec<f32> {
    let mut counts = vec![0_usize; data.labels.len()];
    let labelled = moments.iter().filter_map(|m| data.trials[m.trial].label[m.frame]);
    labelled.for_each(|label| counts[usize::from(label)] += 1);
    let total: usize = counts.iter().sum();
    counts.iter().map(|&count| if count == 0 { 0.0 } else { total as f32 / count as f32 }).collect()
}

/// For each animal the moments at which a whole piece can end.
fn piece_ends(data: &Dataset, moments: &[Moment], settings: &TrainSettings) -> Vec<Vec<Moment>> {
    let span = (settings.batch.windows - 1) * settings.batch.stride_frames;
    let mut ends = vec![Vec::new(); data.animals.len()];
    let mut run = 0;
    let mut before: Option<Moment> = None;
    for &moment in moments {
        let follows = before.is_some_and(|b| b.trial == moment.trial && b.frame + 1 == moment.frame);
        run = if follows { run + 1 } else { 1 };
        before = Some(moment);
        if run > span {
            ends[data.trials[moment.trial].animal].push(moment);
        }
    }
    ends
}
