//! What a data set would be trained on, without preparing a frame: `haltere info` of a `dataset.toml`.
//!
//! Why it exists: a wrong column, rate or label is seen at once when it is printed with its range and its time axis. What it must never
//! do: read differently from training.

use ndarray::{Array2, ArrayView1};
use serde::Serialize;

use super::assemble::Read;
use super::error::DatasetError;
use super::frames::Probe;
use super::prepare::Recipe;
use super::spec::{DataSpec, TrialSpec};
use super::warning::DataWarning;
use super::{LoadOptions, checks, read_all, recipe};
use crate::dataset::trials::NO_BEHAVIOUR;
use crate::source::Fact;

/// One column of behaviour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Smallest finite value.
    pub least: f32,
    /// Largest finite value.
    pub most: f32,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialFacts {
    /// Its name.
    pub name: String,
    /// Its animal.
    pub animal: String,
    /// What its recording says of itself, and by which text.
    pub recording: Vec<Fact>,
    /// Two-photon frames.
    pub frames: usize,
    /// Channels × height × width of a frame.
    pub shape: String,
    /// Two-photon frames per second.
    pub frame_rate_hz: f64,
    /// How long they last, s.
    pub imaging_s: f64,
    /// Rows of behaviour.
    pub rows: usize,
    /// How long they last by their rate, s.
    pub behaviour_s: f64,
    /// Columns of behaviour.
    pub columns: Vec<ColumnFacts>,
    /// The targets, over two-photon frames.
    pub targets: Vec<ColumnFacts>,
    /// Two-photon frames that have behaviour, and the first and last of them.
    pub with_behaviour: usize,
    /// The first of them.
    pub first_with_behaviour: Option<usize>,
    /// The last of them.
    pub last_with_behaviour: Option<usize>,
    /// Two-photon frames of each label.
    pub labels: Vec<(String, usize)>,
    /// Two-photon frames without a label.
    pub unlabelled: usize,
}

/// Reads everything but the frames of all trials, as [`super::load`] does.
///
/// # Errors
/// Any [`DatasetError`] that training would end with before its first frame.
pub fn inspect(spec: &DataSpec) -> Result<(Vec<TrialFacts>, Vec<DataWarning>), DatasetError> {
    let options = LoadOptions::default();
    let mut warnings = spec.warnings.clone();
    let trials = checks::chosen(spec, &options)?;
    let labels = checks::label_names(spec)?;
    let (recipe, probes) = recipe::settle(spec, &trials, &options)?;
    let read = read_all(spec, &trials, &probes, &recipe, &labels, &mut warnings)?;
    Ok((facts(spec, (&trials, &probes), &recipe, &labels, &read), warnings))
}

/// The facts of trials that were read.
pub(super) fn facts(
    spec: &DataSpec,
    (trials, probes): (&[&TrialSpec], &[Probe]),
    recipe: &Recipe,
    labels: &[String],
    read: &[Read],
) -> Vec<TrialFacts> {
    let targets: Vec<String> = spec.targets.iter().map(|target| target.name.clone()).collect();
    let one = |((trial, probe), read): ((&&TrialSpec, &Probe), &Read)| {
        let with: Vec<usize> = (0..read.frames).filter(|frame| read.newest[*frame] != NO_BEHAVIOUR).collect();
        let of = |label: usize| read.label.iter().filter(|own| **own == Some(label as u8)).count();
        TrialFacts {
            name: trial.name.clone(),
            animal: trial.animal.clone(),
            recording: probe.about.facts.clone(),
            frames: read.frames,
            shape: probe.shape.to_string(),
            frame_rate_hz: recipe.frame_rate_hz,
            imaging_s: read.frames as f64 / recipe.frame_rate_hz,
            rows: read.behaviour.nrows(),
            behaviour_s: read.behaviour.nrows() as f64 / spec.behaviour_rate_hz,
            columns: columns(&read.columns, &read.behaviour),
            targets: columns(&targets, &read.targets),
            with_behaviour: with.len(),
            first_with_behaviour: with.first().copied(),
            last_with_behaviour: with.last().copied(),
            labels: labels.iter().enumerate().map(|(at, name)| (name.clone(), of(at))).collect(),
            unlabelled: read.label.iter().filter(|label| label.is_none()).count(),
        }
    };
    trials.iter().zip(probes).zip(read).map(one).collect()
}

/// Names and ranges of the columns of `values`.
fn columns(names: &[String], values: &Array2<f32>) -> Vec<ColumnFacts> {
    let column = |(name, column): (&String, ArrayView1<f32>)| {
        let finite = || column.iter().copied().filter(|value| value.is_finite());
        let (least, most) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
        ColumnFacts { name: name.clone(), least, most }
    };
    names.iter().zip(values.columns()).map(column).collect()
}
