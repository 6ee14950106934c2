//! The batch of one step: augmented segments of recordings, spread evenly over the animals.
//!
//! Why it exists: the frame network sees one frame at a time, so the windows of a segment share their frames and each is encoded
//! once. Batch k of a seed is the same in every run, whatever came before it, so a resumed run is identical. What it must never
//! do: open a frame store for writing, or see a network.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use super::augment::{Augmentations, NoiseTable, augment_frames};
use super::behaviour::kinds;
use super::behaviour::{self, Augmenting, Behaviour, StandInIndex};
use super::loss::Partner;
use super::settings::TrainSettings;
use super::targets::Standardised;
use crate::dataset::trials::{Dataset, Sample};

/// Segments of recordings with their behaviour and labels.
#[derive(Debug)]
pub struct Batch {
    /// Model frames of all segments, one after the other, each C×H×W.
    pub frames: Vec<f32>,
    /// Number of frames.
    pub frame_count: usize,
    /// Index of the first frame of each window in `frames`.
    pub first_frames: Vec<usize>,
    /// The sample of each window.
    pub samples: Vec<Sample>,
    /// The animal of each window.
    pub animals: Vec<usize>,
    /// The action of each window.
    pub labels: Vec<Option<u8>>,
    /// 1 / how frequent the action is; 0 without an action.
    pub label_weights: Vec<f32>,
    /// Standardised targets, `[windows, targets]`; NaN where one is not known.
    pub targets: Vec<f32>,
    /// `[windows, columns, frames]`.
    pub behaviour: Vec<f32>,
    /// Behaviour frames of a window.
    pub behaviour_frames: usize,
    /// Values of a behaviour frame.
    pub behaviour_columns: usize,
    /// For each window, that of another animal with the most similar behaviour, and whether it is pulled towards it.
    pub partners: Option<Vec<Partner>>,
    /// For each window, the one it is mixed with.
    pub mix: Option<Vec<Mix>>,
    /// Seed of what a step leaves out at random; `None` in a validation.
    pub dropout: Option<u64>,
}

/// What one window is mixed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The other window; itself where nothing is mixed.
    pub window: usize,
    /// Share of the other window, 0 to 1.
    pub share: f32,
}

/// Makes batches.
#[derive(Debug)]
pub struct Sampler<'a> {
    data: &'a Dataset,
    behaviour: &'a Behaviour,
    settings: &'a TrainSettings,
    stand_ins: Option<StandInIndex>,
    noise: NoiseTable,
    label_weights: Vec<f32>,
    targets: Standardised,
    training: Vec<Ends>,
    held_out: Vec<Ends>,
}

/// The samples at which a segment may end, by what it is drawn by.
type Kinds = Vec<Vec<Sample>>;

/// The samples of an animal at which a segment may end.
#[derive(Debug)]
struct Ends {
    /// All of them, by kind of behaviour.
    kinds: Kinds,
    /// Those with a label in the middle of the segment, by action; empty when nothing is drawn by it.
    actions: Kinds,
}

/// The data hold no segment long enough.
#[derive(Debug, thiserror::Error)]
#[error(
    "animal {animal}: no {frames} consecutive usable frames to train on (window {window} + {windows} windows {stride} apart): \
     record longer trials, or lower `batch.windows`, `batch.stride_frames` or `held_out_share`"
)]
pub struct TooShort {
    animal: String,
    frames: usize,
    window: usize,
    windows: usize,
    stride: usize,
}

impl<'a> Sampler<'a> {
    /// Splits the samples into training and held-out ones, and indexes the poses of the former.
    ///
    /// # Errors
    /// [`TooShort`] when an animal has nothing to train on.
    pub fn new(data: &'a Dataset, behaviour: &'a Behaviour, settings: &'a TrainSettings) -> Result<Self, TooShort> {
        let mut random = Pcg64::seed_from_u64(settings.seed ^ 0x5eed);
        let window = settings.network.window_frames;
        let samples = data.samples(window, settings.look_ahead_frames);
        let cuts: Vec<usize> =
            data.trials.iter().map(|t| (t.frames.len() as f64 * (1.0 - settings.held_out_share)) as usize).collect();
        let (early, late): (Vec<Sample>, Vec<Sample>) =
            samples.iter().copied().partition(|m| m.frame + settings.look_ahead_frames < cuts[m.trial]);
        let late: Vec<Sample> =
            late.into_iter().filter(|m| m.frame + settings.look_ahead_frames >= cuts[m.trial] + window).collect();
        let replaces_poses = settings.method.contrasts() && settings.augment.behavioural_swap.probability > 0.0;
        let stand_ins = replaces_poses
            .then(|| StandInIndex::new(data, behaviour, &early, &settings.augment.behavioural_swap, &mut random));
        let basis = behaviour::principal_components(data, behaviour, &early, &mut random);
        let mut sorted = |samples: &[Sample]| -> Vec<Ends> {
            let one = |own: &Vec<Sample>| Ends {
                kinds: kinds::sorted(data, behaviour, &basis, own, settings.batch.kinds, &mut random),
                actions: by_action(data, own, settings),
            };
            piece_ends(data, samples, settings).iter().map(one).collect()
        };
        let (training, held_out) = (sorted(&early), sorted(&late));
        let noise = NoiseTable::new(&mut random);
        let sampler = Self {
            data,
            behaviour,
            settings,
            stand_ins,
            noise,
            label_weights: label_weights(data, &early, settings.batch.by_action),
            targets: Standardised::of(data, &early),
            training,
            held_out,
        };
        match sampler.training.iter().position(|ends| ends.kinds.is_empty()) {
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

    /// Is there a held-out part long enough for a segment?
    pub fn has_held_out(&self) -> bool {
        self.held_out.iter().any(|ends| !ends.kinds.is_empty())
    }

    /// The batch of a step.
    pub fn training_batch(&self, step: usize) -> Batch {
        let seed = self.settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (step as u64 + 1);
        Batch { dropout: Some(seed), ..self.batch(&self.training, &mut Pcg64::seed_from_u64(seed)) }
    }

    /// One of the batches of every validation, augmented as in training, so that what is measured is what is minimised.
    pub fn held_out_batch(&self, number: usize) -> Batch {
        let seed = self.settings.seed ^ 0x0e1d_0077_0000_0000 ^ number as u64;
        self.batch(&self.held_out, &mut Pcg64::seed_from_u64(seed))
    }

    fn batch(&self, ends: &[Ends], random: &mut Pcg64) -> Batch {
        let batch = &self.settings.batch;
        let peopled: Vec<usize> = (0..ends.len()).filter(|&animal| !ends[animal].kinds.is_empty()).collect();
        let first = random.random_range(0..peopled.len());
        let pieces: Vec<Sample> = (0..batch.segments)
            .map(|piece| self.end(&ends[peopled[(first + piece) % peopled.len()]], random))
            .collect();
        let (window, length) = {
            let window = self.settings.network.window_frames;
            (window, batch.segment_frames(window))
        };
        let mut samples = Vec::with_capacity(pieces.len() * batch.windows);
        let mut first_frames = Vec::with_capacity(samples.capacity());
        for (piece, end) in pieces.iter().enumerate() {
            for number in 0..batch.windows {
                let back = (batch.windows - 1 - number) * batch.stride_frames;
                samples.push(Sample { trial: end.trial, frame: end.frame - back });
                first_frames.push(piece * length + length - back - window);
            }
        }
        let frames = self.frames(&pieces, length, random);
        self.finish(frames, pieces.len() * length, first_frames, samples, random)
    }

    fn finish(
        &self,
        frames: Vec<f32>,
        frame_count: usize,
        first_frames: Vec<usize>,
        samples: Vec<Sample>,
        random: &mut Pcg64,
    ) -> Batch {
        let settings = self.settings;
        let (augment, stand_ins) = (&settings.augment, self.stand_ins.as_ref());
        let augmenting = settings.method.contrasts().then_some(Augmenting { augment, stand_ins, random: &mut *random });
        let behaviour = behaviour::windows(self.data, self.behaviour, &samples, &settings.behaviour, augmenting);
        let animals: Vec<usize> = samples.iter().map(|m| self.data.trials[m.trial].animal).collect();
        let labels: Vec<Option<u8>> = samples.iter().map(|m| self.data.trials[m.trial].label[m.frame]).collect();
        let weight = |label: &Option<u8>| label.map_or(0.0, |l| self.label_weights[usize::from(l)]);
        let label_weights = labels.iter().map(weight).collect();
        let targets = self.targets.rows(self.data, &samples);
        let needed = augment.neural_mix.probability > 0.0 || augment.neural_swap.probability > 0.0;
        let nearest = (settings.method.contrasts() && needed).then(|| self.nearest(&samples, &animals));
        let partners = nearest.as_ref().map(|nearest| draw_partners(nearest, augment, random));
        let mix = match &nearest {
            Some(nearest) => Some(draw_mix(nearest, augment, random)),
            None if settings.method.needs_labels() && augment.neural_mix.probability > 0.0 => {
                Some(mix_segments(&animals, settings.batch.windows, augment, random))
            }
            None => None,
        };
        Batch {
            frames,
            frame_count,
            first_frames,
            samples,
            animals,
            labels,
            label_weights,
            targets,
            behaviour,
            behaviour_frames: settings.behaviour.frames,
            behaviour_columns: self.behaviour.columns,
            partners,
            mix,
            dropout: None,
        }
    }

    /// Where a segment of an animal ends.
    fn end(&self, ends: &Ends, random: &mut Pcg64) -> Sample {
        let share = self.settings.batch.by_action;
        let by_action = share > 0.0 && random.random::<f64>() < share && !ends.actions.is_empty();
        drawn(if by_action { &ends.actions } else { &ends.kinds }, random)
    }

    /// The frames of the segments; all frames of a segment are augmented in the same way.
    fn frames(&self, pieces: &[Sample], length: usize, random: &mut Pcg64) -> Vec<f32> {
        let pixels = self.data.input.pixels();
        let augment: &Augmentations = &self.settings.augment;
        let plans: Vec<(Sample, Sample, u64)> = pieces
            .iter()
            .map(|&piece| {
                let own = &self.training[self.data.trials[piece.trial].animal].kinds;
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

    /// For each window, that of another animal with the most similar behaviour; `None` when there is no other animal.
    fn nearest(&self, samples: &[Sample], animals: &[usize]) -> Vec<Option<usize>> {
        let pose = |m: &Sample| {
            let newest = self.data.trials[m.trial].behaviour_at[m.frame] as usize;
            [0, 6, 12].map(|back| self.behaviour.pose(m.trial, newest.saturating_sub(back)))
        };
        let poses: Vec<_> = samples.iter().map(pose).collect();
        let distance = |a: usize, b: usize| -> f32 {
            let squares = |(a, b): (&ndarray::ArrayView1<f32>, &ndarray::ArrayView1<f32>)| -> f32 {
                a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
            };
            poses[a].iter().zip(&poses[b]).map(squares).sum()
        };
        (0..samples.len())
            .map(|own| {
                let others = (0..samples.len()).filter(|&other| animals[other] != animals[own]);
                others.min_by(|&a, &b| distance(own, a).total_cmp(&distance(own, b)))
            })
            .collect()
    }
}

fn draw_partners(nearest: &[Option<usize>], augment: &Augmentations, random: &mut Pcg64) -> Vec<Partner> {
    let one = |(own, partner): (usize, &Option<usize>)| {
        let drawn = random.random::<f64>() < augment.neural_swap.probability;
        Partner { row: partner.unwrap_or(own), pulled: drawn && partner.is_some() }
    };
    nearest.iter().enumerate().map(one).collect()
}

fn draw_mix(nearest: &[Option<usize>], augment: &Augmentations, random: &mut Pcg64) -> Vec<Mix> {
    let strength = augment.neural_mix;
    let one = |(own, partner): (usize, &Option<usize>)| {
        let mixed = random.random::<f64>() < strength.probability;
        let share = strength.magnitude * random.random::<f32>();
        partner.filter(|_| mixed).map_or(Mix { window: own, share: 0.0 }, |window| Mix { window, share })
    };
    nearest.iter().enumerate().map(one).collect()
}

/// Each segment with one of another animal, the same share for all its windows.
fn mix_segments(animals: &[usize], windows: usize, augment: &Augmentations, random: &mut Pcg64) -> Vec<Mix> {
    let of_segments: Vec<usize> = animals.iter().copied().step_by(windows).collect();
    let strength = augment.neural_mix;
    let mut mix = Vec::with_capacity(animals.len());
    for (own, animal) in of_segments.iter().enumerate() {
        let others: Vec<usize> = (0..of_segments.len()).filter(|&other| of_segments[other] != *animal).collect();
        let mixed = random.random::<f64>() < strength.probability && !others.is_empty();
        let share = if mixed { strength.magnitude * random.random::<f32>() } else { 0.0 };
        let other = if mixed { others[random.random_range(0..others.len())] } else { own };
        mix.extend((0..windows).map(|window| Mix { window: other * windows + window, share }));
    }
    mix
}

/// A sample of any kind, each kind equally likely. There is at least one.
fn drawn(kinds: &Kinds, random: &mut Pcg64) -> Sample {
    let kind = &kinds[random.random_range(0..kinds.len())];
    kind[random.random_range(0..kind.len())]
}

/// 1 / frequency of each action in the batches, so that all weigh the same; 0 for one that never occurs. Of the segments drawn by their
/// action, each action has as many.
fn label_weights(data: &Dataset, samples: &[Sample], by_action: f64) -> Vec<f32> {
    let mut counts = vec![0_usize; data.labels.len()];
    let labelled = samples.iter().filter_map(|m| data.trials[m.trial].label[m.frame]);
    labelled.for_each(|label| counts[usize::from(label)] += 1);
    let total: usize = counts.iter().sum();
    let evenly = 1.0 / counts.iter().filter(|&&count| count > 0).count().max(1) as f32;
    let share = |count: usize| {
        let as_they_occur = count as f32 / total as f32;
        as_they_occur + by_action as f32 * (evenly - as_they_occur)
    };
    counts.iter().map(|&count| if count == 0 { 0.0 } else { 1.0 / share(count) }).collect()
}

/// The ends of segments by the action in the middle of the windows' newest frames.
fn by_action(data: &Dataset, ends: &[Sample], settings: &TrainSettings) -> Kinds {
    if settings.batch.by_action == 0.0 {
        return Vec::new();
    }
    let half = (settings.batch.windows - 1) * settings.batch.stride_frames / 2;
    let mut actions = vec![Vec::new(); data.labels.len()];
    for &end in ends {
        if let Some(label) = data.trials[end.trial].label[end.frame - half] {
            actions[usize::from(label)].push(end);
        }
    }
    actions.retain(|ends| !ends.is_empty());
    actions
}

/// For each animal, the samples at which a whole segment can end.
fn piece_ends(data: &Dataset, samples: &[Sample], settings: &TrainSettings) -> Vec<Vec<Sample>> {
    let span = (settings.batch.windows - 1) * settings.batch.stride_frames;
    let mut ends = vec![Vec::new(); data.animals.len()];
    let mut run = 0;
    let mut before: Option<Sample> = None;
    for &sample in samples {
        let follows = before.is_some_and(|b| b.trial == sample.trial && b.frame + 1 == sample.frame);
        run = if follows { run + 1 } else { 1 };
        before = Some(sample);
        if run > span {
            ends[data.trials[sample.trial].animal].push(sample);
        }
    }
    ends
}
