//! The light of every axon of simulated animals, before optics: what a decoder could know at most.
//!
//! Why it exists: the last rung of a ladder is what the data allow. What it must never do: stand in for frames in a training.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::npy::Array;
use super::trials::{Dataset, Representation, Sample};

/// What `simulate --truth activity` writes into the folder of a trial.
const ACTIVITY: &str = "truth_activity.npy";
const AXONS: &str = "truth_axons.csv";
/// Axons from this number on are an animal's own; those below are the species'.
const OWN_AXON: usize = 1000;

/// Light of one trial: `[frames][axons]`, standardised over the trial, and which axon each column is.
struct Light {
    axons: Vec<usize>,
    frames: Vec<Vec<f32>>,
}

/// Have all trials the light of their axons beside them?
pub fn is_known(folders: &[PathBuf]) -> bool {
    !folders.is_empty() && folders.iter().all(|folder| folder.join(ACTIVITY).is_file() && folder.join(AXONS).is_file())
}

/// The light of every axon of the species in the bins of each sample's window (`bins`: frames, newest first), in place of pixels. An axon
/// that an animal lacks is 0, which is its mean. `folders`: of the trials of `data`, in their order.
///
/// # Errors
/// [`DatasetError`] for files that cannot be read, or are not of these trials.
pub fn represent(
    data: &Dataset,
    samples: &[Sample],
    folders: &[PathBuf],
    bins: &[usize],
    look_ahead_frames: usize,
) -> Result<Representation, DatasetError> {
    let lights: Vec<Light> = folders.iter().map(|folder| read(folder)).collect::<Result<_, _>>()?;
    for ((light, trial), folder) in lights.iter().zip(&data.trials).zip(folders) {
        if light.frames.len() != trial.frames.len() {
            let cause = format!("{} frames, but the trial has {} model frames", light.frames.len(), trial.frames.len());
            return Err(DatasetError::file(&folder.join(ACTIVITY), cause));
        }
    }
    let every: BTreeSet<usize> = lights.iter().flat_map(|light| light.axons.iter().copied()).collect();
    let every: Vec<usize> = every.into_iter().filter(|axon| *axon < OWN_AXON).collect();
    let mut values = Vec::with_capacity(samples.len() * every.len() * bins.len());
    for sample in samples {
        let light = &lights[sample.trial];
        let places: Vec<Option<usize>> = every.iter().map(|id| light.axons.iter().position(|own| own == id)).collect();
        let mut end = sample.frame + look_ahead_frames + 1;
        for &bin in bins {
            let frames = &light.frames[end - bin..end];
            end -= bin;
            let mean = |place: usize| frames.iter().map(|frame| frame[place]).sum::<f32>() / bin as f32;
            values.extend(places.iter().map(|place| place.map_or(0.0, mean)));
        }
    }
    Ok(Representation::of(data, samples, values))
}

fn read(folder: &Path) -> Result<Light, DatasetError> {
    let (table, path) = (folder.join(AXONS), folder.join(ACTIVITY));
    let text = std::fs::read_to_string(&table).map_err(|e| DatasetError::file(&table, e))?;
    let number = |line: &str| line.split(',').next().and_then(|field| field.parse().ok());
    let axons: Option<Vec<usize>> = text.lines().skip(1).map(number).collect();
    let axons = axons.ok_or_else(|| DatasetError::file(&table, "a line does not begin with the number of an axon"))?;
    let array = Array::read(&path)?.ok_or_else(|| DatasetError::file(&path, "it is no .npy file"))?;
    let (columns, numbers) = (axons.len(), array.numbers().unwrap_or_default());
    if columns == 0 || array.header.shape.get(1) != Some(&columns) {
        let cause = format!("it must have one column for each of the {columns} axons of {AXONS}");
        return Err(DatasetError::file(&path, cause));
    }
    let rows = numbers.chunks_exact(columns).map(|row| row.iter().map(|value| *value as f32).collect()).collect();
    Ok(Light { frames: standardised(rows, columns), axons })
}

fn standardised(mut rows: Vec<Vec<f32>>, columns: usize) -> Vec<Vec<f32>> {
    let count = rows.len().max(1) as f64;
    for column in 0..columns {
        let of = |row: &Vec<f32>| f64::from(row[column]);
        let mean = rows.iter().map(of).sum::<f64>() / count;
        let sd = (rows.iter().map(|row| (of(row) - mean).powi(2)).sum::<f64>() / count).sqrt().max(f64::MIN_POSITIVE);
        rows.iter_mut().for_each(|row| row[column] = ((f64::from(row[column]) - mean) / sd) as f32);
    }
    rows
}
