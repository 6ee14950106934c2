//! Prepares behaviour for training: standardised, cut into windows, with similar poses of other animals as stand-ins.
//!
//! Why it exists: posture and limb lengths reveal identity; standardising per animal and replacing poses by those of other
//! animals removes it from the behaviour while the action remains. What it must never do: see a label.

pub mod kinds;
pub mod network;

use ndarray::{Array2, ArrayView1, Axis};
use rand::RngExt;
use rand_pcg::Pcg64;

use super::augment::{Augmentations, BehaviouralSwap};
use super::settings::BehaviourWindow;
use crate::dataset::trials::{Dataset, Sample};
use crate::sys::linalg::strongest;

/// Principal components of a pose that distances are taken in.
const COMPONENTS: usize = 12;
/// Rounds of subspace iteration that they are found by.
const ROUNDS: usize = 30;
/// Minimum standard deviation to divide by.
const SD_MIN: f64 = 1e-6;
/// Standardised values beyond this are tracking errors and are clipped.
const VALUE_MAX: f32 = 8.0;

/// Standardised behaviour of every trial.
#[derive(Debug)]
pub struct Behaviour {
    /// For each trial `[behaviour frames, columns]`; values that were not finite are 0, the mean.
    pub trials: Vec<Array2<f32>>,
    /// Values of one behaviour frame.
    pub columns: usize,
}

impl Behaviour {
    /// z-scores every column, over each animal or over all animals together.
    pub fn standardised(data: &Dataset, per_animal: bool) -> Self {
        let columns = data.behaviour_columns.len();
        let groups = if per_animal { data.animals.len() } else { 1 };
        let group = |animal: usize| if per_animal { animal } else { 0 };
        let mut sums = vec![vec![[0.0_f64; 3]; columns]; groups];
        for trial in &data.trials {
            for row in trial.behaviour.outer_iter() {
                for (sum, &value) in sums[group(trial.animal)].iter_mut().zip(row) {
                    let value = if value.is_finite() { f64::from(value) } else { continue };
                    *sum = [sum[0] + 1.0, sum[1] + value, sum[2] + value * value];
                }
            }
        }
        let scale = |[count, sum, squares]: [f64; 3]| {
            let mean = sum / count.max(1.0);
            (mean, (squares / count.max(1.0) - mean * mean).max(0.0).sqrt().max(SD_MIN))
        };
        let scales: Vec<Vec<(f64, f64)>> = sums.into_iter().map(|s| s.into_iter().map(scale).collect()).collect();
        let standardise = |trial: &crate::dataset::trials::Trial| {
            let mut values = trial.behaviour.clone();
            for (mut column, &(mean, sd)) in values.axis_iter_mut(Axis(1)).zip(&scales[group(trial.animal)]) {
                column.mapv_inplace(|v| {
                    let scaled = ((f64::from(v) - mean) / sd) as f32;
                    if scaled.is_finite() { scaled.clamp(-VALUE_MAX, VALUE_MAX) } else { 0.0 }
                });
            }
            values
        };
        Self { trials: data.trials.iter().map(standardise).collect(), columns }
    }

    /// Behaviour frames of the window of a sample, oldest first; at the ends of a trial the last one is repeated.
    pub fn window_frames(&self, data: &Dataset, sample: Sample, window: &BehaviourWindow) -> Vec<usize> {
        let newest = data.trials[sample.trial].behaviour_at[sample.frame] as usize + window.lead;
        let last = self.trials[sample.trial].nrows().saturating_sub(1);
        (0..window.frames).rev().map(|back| newest.saturating_sub(back * window.stride).min(last)).collect()
    }

    /// One pose.
    pub fn pose(&self, trial: usize, frame: usize) -> ArrayView1<'_, f32> {
        self.trials[trial].row(frame)
    }
}

/// The poses of each animal, indexed for the search of stand-ins.
#[derive(Debug)]
pub struct StandInIndex {
    /// Columns → components.
    basis: Array2<f32>,
    neighbourhood: usize,
    neighbours: usize,
    animals: Vec<Candidates>,
}

/// Poses of one animal.
#[derive(Debug)]
struct Candidates {
    /// Trial and behaviour frame.
    places: Vec<(usize, usize)>,
    /// `[poses, components · neighbourhood]`.
    features: Array2<f32>,
    /// Half their squared lengths.
    half_squares: Vec<f32>,
}

impl StandInIndex {
    /// Draws poses of every animal among the frames that `allowed` samples point at.
    pub fn new(
        data: &Dataset,
        behaviour: &Behaviour,
        allowed: &[Sample],
        swap: &BehaviouralSwap,
        random: &mut Pcg64,
    ) -> Self {
        let mut index = Self {
            basis: principal_components(data, behaviour, allowed, random),
            neighbourhood: swap.neighbourhood,
            neighbours: swap.neighbours,
            animals: Vec::new(),
        };
        for animal in 0..data.animals.len() {
            let own: Vec<Sample> = allowed.iter().copied().filter(|m| data.trials[m.trial].animal == animal).collect();
            let count = if own.is_empty() { 0 } else { swap.candidates };
            let places: Vec<(usize, usize)> = (0..count)
                .map(|_| {
                    let sample = own[random.random_range(0..own.len())];
                    let newest = data.trials[sample.trial].behaviour_at[sample.frame] as usize;
                    // Cameras are faster than the microscope: any behaviour frame since the last two-photon frame.
                    (sample.trial, newest.saturating_sub(random.random_range(0..6)))
                })
                .collect();
            let features = index.features(behaviour, &places);
            let half_squares = features.outer_iter().map(|row| row.dot(&row) / 2.0).collect();
            index.animals.push(Candidates { places, features, half_squares });
        }
        index
    }

    /// Components of each pose and its neighbours in time.
    fn features(&self, behaviour: &Behaviour, places: &[(usize, usize)]) -> Array2<f32> {
        let (components, reach) = (self.basis.ncols(), self.neighbourhood);
        let mut poses = Array2::zeros((places.len() * reach, behaviour.columns));
        for (mut chunk, &(trial, frame)) in poses.axis_chunks_iter_mut(Axis(0), reach).zip(places) {
            let last = behaviour.trials[trial].nrows() - 1;
            for (offset, mut row) in chunk.rows_mut().into_iter().enumerate() {
                let at = (frame + offset).saturating_sub(reach / 2).min(last);
                row.assign(&behaviour.pose(trial, at));
            }
        }
        let scale = 1.0 / (reach as f32).sqrt();
        let projected = poses.dot(&self.basis) * scale;
        projected.into_shape_with_order((places.len(), components * reach)).unwrap_or_default()
    }

    /// For each pose, one of another animal, drawn among the nearest with probability ∝ exp(−distance). `None` where no other
    /// animal has any.
    pub fn stand_ins(
        &self,
        data: &Dataset,
        behaviour: &Behaviour,
        poses: &[(usize, usize)],
        random: &mut Pcg64,
    ) -> Vec<Option<(usize, usize)>> {
        let peopled: Vec<usize> = (0..self.animals.len()).filter(|&a| !self.animals[a].places.is_empty()).collect();
        let others: Vec<Option<usize>> = poses
            .iter()
            .map(|&(trial, _)| {
                let own = data.trials[trial].animal;
                let choice: Vec<usize> = peopled.iter().copied().filter(|&a| a != own).collect();
                let drawn = random.random_range(0..choice.len().max(1));
                choice.get(drawn).copied()
            })
            .collect();
        let mut found = vec![None; poses.len()];
        for &animal in &peopled {
            let rows: Vec<usize> = (0..poses.len()).filter(|&row| others[row] == Some(animal)).collect();
            let queries: Vec<(usize, usize)> = rows.iter().map(|&row| poses[row]).collect();
            let features = self.features(behaviour, &queries);
            let candidates = &self.animals[animal];
            let products = features.dot(&candidates.features.t());
            for ((&row, query), products) in rows.iter().zip(features.outer_iter()).zip(products.outer_iter()) {
                let own = query.dot(&query);
                let half = products.iter().zip(&candidates.half_squares).map(|(p, h)| h - p);
                let chosen = draw_near(half, own, self.neighbours, random);
                found[row] = Some(candidates.places[chosen]);
            }
        }
        found
    }
}

/// One of the `count` smallest, with probability ∝ exp(−√(own + 2·half)).
fn draw_near(half: impl Iterator<Item = f32>, own: f32, count: usize, random: &mut Pcg64) -> usize {
    let mut near: Vec<(f32, usize)> = half.enumerate().map(|(index, half)| (half, index)).collect();
    let count = count.min(near.len());
    if count < near.len() {
        near.select_nth_unstable_by(count, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(count);
    }
    near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let distance = |half: f32| (own + 2.0 * half).max(0.0).sqrt();
    let nearest = distance(near[0].0);
    let weights: Vec<f32> = near.iter().map(|&(half, _)| (nearest - distance(half)).exp()).collect();
    let mut left = random.random::<f32>() * weights.iter().sum::<f32>();
    for (weight, &(_, index)) in weights.iter().zip(&near) {
        left -= weight;
        if left <= 0.0 {
            return index;
        }
    }
    near[count - 1].1
}

/// The strongest directions of the poses, `[columns, components]`, by subspace iteration from a seeded start.
pub(crate) fn principal_components(
    data: &Dataset,
    behaviour: &Behaviour,
    allowed: &[Sample],
    random: &mut Pcg64,
) -> Array2<f32> {
    let columns = behaviour.columns;
    let components = COMPONENTS.min(columns);
    let samples = 4096.min(allowed.len() * 4).max(1);
    let mut poses = Array2::<f32>::zeros((samples, columns));
    for mut row in poses.outer_iter_mut().filter(|_| !allowed.is_empty()) {
        let sample = allowed[random.random_range(0..allowed.len())];
        row.assign(&behaviour.pose(sample.trial, data.trials[sample.trial].behaviour_at[sample.frame] as usize));
    }
    if let Some(mean) = poses.mean_axis(Axis(0)) {
        poses -= &mean;
    }
    let covariance = poses.t().dot(&poses) / samples as f32;
    let start = Array2::from_shape_simple_fn((columns, components), || 2.0 * random.random::<f32>() - 1.0);
    strongest(start, ROUNDS, |basis| covariance.dot(basis))
}

/// What behaviour windows are augmented with.
#[derive(Debug)]
pub struct Augmenting<'a> {
    /// The settings.
    pub augment: &'a Augmentations,
    /// The poses of other animals; `None` without behavioural swap.
    pub stand_ins: Option<&'a StandInIndex>,
    /// The generator of every draw.
    pub random: &'a mut Pcg64,
}

/// The behaviour windows of samples, augmented, `[samples, columns, frames]` flattened in this order (as a convolution over
/// time wants it).
pub fn windows(
    data: &Dataset,
    behaviour: &Behaviour,
    samples: &[Sample],
    window: &BehaviourWindow,
    augmenting: Option<Augmenting<'_>>,
) -> Vec<f32> {
    let (columns, frames) = (behaviour.columns, window.frames);
    let mut poses: Vec<(usize, usize)> = samples
        .iter()
        .flat_map(|&m| behaviour.window_frames(data, m, window).into_iter().map(move |frame| (m.trial, frame)))
        .collect();
    let mut random = None;
    if let Some(Augmenting { augment, stand_ins, random: generator }) = augmenting {
        if let Some(index) = stand_ins.filter(|_| augment.behavioural_swap.probability > 0.0) {
            let found = index.stand_ins(data, behaviour, &poses, generator);
            for (pose, stand_in) in poses.iter_mut().zip(found) {
                let replaced = generator.random::<f64>() < augment.behavioural_swap.probability;
                *pose = stand_in.filter(|_| replaced).unwrap_or(*pose);
            }
        }
        random = Some((augment, generator));
    }
    let mut out = vec![0.0; samples.len() * columns * frames];
    let mut rows = vec![0.0; frames * columns];
    for (poses, out) in poses.chunks_exact(frames).zip(out.chunks_exact_mut(columns * frames)) {
        for (row, &(trial, frame)) in rows.chunks_exact_mut(columns).zip(poses) {
            row.iter_mut().zip(behaviour.pose(trial, frame)).for_each(|(to, from)| *to = *from);
        }
        if let Some((augment, generator)) = &mut random {
            super::augment::augment_behaviour(&mut rows, columns, augment, generator);
        }
        for (frame, row) in rows.chunks_exact(columns).enumerate() {
            row.iter().enumerate().for_each(|(column, value)| out[column * frames + frame] = *value);
        }
    }
    out
}
