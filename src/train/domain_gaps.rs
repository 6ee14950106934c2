//! The domain gap between animals before and after each augmentation, in the encoders' input.
//!
//! Why it exists: an augmentation is meant to hide the animal's identity; whether it does can be measured before training. What
//! it must never do: use a label.

use ndarray::Array2;

use super::augment::Augmentations;
use super::batch::{Batch, Mix, Sampler};
use super::behaviour::Behaviour;
use super::fit::FitError;
use super::settings::TrainSettings;
use crate::dataset::trials::Dataset;
use crate::evaluate::domain_gap::{GapOptions, domain_gap};
use crate::evaluate::pixels;

/// Number of batches a distance is measured on.
const BATCHES: usize = 12;

/// The domain gap with and without one augmentation.
#[derive(Clone, Debug, PartialEq)]
pub struct GapRow {
    /// Its name.
    pub augmentation: String,
    /// `pixels` or `behaviour`.
    pub space: &'static str,
    /// Mean MMD² between animals without any augmentation.
    pub before: f64,
    /// The same with this one alone.
    pub after: f64,
}

/// Measures each augmentation alone, in the space that it changes.
///
/// # Errors
/// [`FitError`] when no batch can be made.
pub fn augmentation_gaps(data: &Dataset, settings: &TrainSettings) -> Result<Vec<GapRow>, FitError> {
    let mut off = settings.clone();
    Augmentations::switches().iter().for_each(|(_, switch)| switch(&mut off.augment));
    let [pixels, behaviour] = gaps(data, &off)?;
    let mut rows = Vec::new();
    for (name, switch) in Augmentations::switches() {
        let mut alone = settings.clone();
        let others = Augmentations::switches().into_iter().filter(|(other, _)| *other != name);
        others.for_each(|(_, off)| off(&mut alone.augment));
        // A switch that is already off changes nothing and gets no row.
        let mut without = alone.clone();
        switch(&mut without.augment);
        if without == alone {
            continue;
        }
        let [own_pixels, own_behaviour] = gaps(data, &alone)?;
        let changes_behaviour = name.contains("behaviour");
        let (space, before, after) =
            if changes_behaviour { ("behaviour", behaviour, own_behaviour) } else { ("pixels", pixels, own_pixels) };
        if let (Some(before), Some(after)) = (before, after) {
            rows.push(GapRow { augmentation: name.into(), space, before, after });
        }
    }
    Ok(rows)
}

/// MMD² between animals, in down-sampled windows and in behaviour windows.
fn gaps(data: &Dataset, settings: &TrainSettings) -> Result<[Option<f64>; 2], FitError> {
    let behaviour = Behaviour::standardised(data, settings.augment.standardise_behaviour);
    let sampler = Sampler::new(data, &behaviour, settings)?;
    let batches: Vec<Batch> = (0..BATCHES).map(|step| sampler.training_batch(step)).collect();
    let animals: Vec<usize> = batches.iter().flat_map(|b| b.animals.iter().copied()).collect();
    let window = settings.network.window_frames;
    let pictures: Vec<f32> = batches.iter().flat_map(|batch| small_windows(batch, data, window)).collect();
    let poses: Vec<f32> = batches.iter().flat_map(|b| b.behaviour.iter().copied()).collect();
    Ok([pictures, poses].map(|values| {
        let rows = Array2::from_shape_vec((animals.len(), values.len() / animals.len().max(1)), values).ok()?;
        let gap = domain_gap(rows.view(), &animals, &GapOptions::default()).ok()?;
        Some(gap.between)
    }))
}

/// The mean of each down-sampled window, mixed as the network's features would be.
fn small_windows(batch: &Batch, data: &Dataset, window: usize) -> Vec<f32> {
    let pixels_each = data.input.pixels();
    let small: Vec<Vec<f32>> = batch
        .frames
        .chunks_exact(pixels_each)
        .map(|frame| pixels::downsample(frame, data.input, pixels::LINEAR_SIDE))
        .collect();
    let mean = |&first: &usize| {
        let frames: Vec<&[f32]> = small[first..first + window].iter().map(Vec::as_slice).collect();
        pixels::features_of_small(&frames, 1)
    };
    let means: Vec<Vec<f32>> = batch.first_frames.iter().map(mean).collect();
    let Some(mix) = &batch.mix else { return means.concat() };
    let mixed = mix.iter().enumerate().flat_map(|(own, &Mix { window, share })| {
        means[own].iter().zip(&means[window]).map(move |(a, b)| a + share * (b - a)).collect::<Vec<_>>()
    });
    mixed.collect()
}
