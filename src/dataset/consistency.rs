//! Checks all trials of a data set together before training starts. Nothing is repaired here.

use super::LoadOptions;
use super::assemble::{Assembled, Read};
use super::error::DatasetError;
use super::frames;
use super::prepare::Prepared;
use super::spec::TrialSpec;
use super::trials::{NO_BEHAVIOUR, Origin, Trial};
use super::warning::DataWarning;

/// All trials must have the columns of the first.
pub(super) fn same_columns(trials: &[&TrialSpec], read: &[Read]) -> Result<(), DatasetError> {
    let Some(first) = read.first() else { return Ok(()) };
    let differs = |(_, other): &(&&TrialSpec, &Read)| other.columns != first.columns;
    let faults = trials.iter().zip(read).filter(differs).map(|(trial, other)| {
        let same_number = other.columns.len() == first.columns.len();
        let columns = |names: &[String]| {
            if same_number { format!("the columns {}", names.join(" ")) } else { names.len().to_string() }
        };
        DatasetError::Columns {
            trial: trial.name.clone(),
            path: trial.behaviour.clone(),
            found: columns(&other.columns),
            expected: columns(&first.columns),
            other: trials[0].name.clone(),
        }
    });
    DatasetError::gathered(faults.collect())
}

/// At most half of the frames of a trial may contain NaN.
pub(super) fn finite_frames(trials: &[&TrialSpec], prepared: &[Prepared]) -> Result<(), DatasetError> {
    let mut errors = Vec::new();
    for (trial, Prepared { notes, .. }) in trials.iter().zip(prepared) {
        let (count, of) = (notes.non_finite, notes.usable.len());
        if count * 2 > of {
            let path = frames::files(trial)?.0.into_iter().next().unwrap_or_default();
            let first = notes.usable.iter().position(|good| !good).unwrap_or(0);
            errors.push(DatasetError::NonFinite { trial: trial.name.clone(), path, count, of, first });
        }
    }
    DatasetError::gathered(errors)
}

/// Checks the assembled data set.
pub(super) fn after(
    all: &Assembled,
    options: &LoadOptions,
    warnings: &mut Vec<DataWarning>,
) -> Result<(), DatasetError> {
    let data = &all.data;
    let window = options.window_frames.max(1);
    for (trial, &warmup) in data.trials.iter().zip(&all.warmup) {
        let usable = longest_run(trial);
        if usable < window {
            let (trial, frames) = (trial.name.clone(), trial.usable.len());
            warnings.push(DataWarning::TooShort { trial, usable, frames, warmup, window });
        }
    }
    if data.samples(window, 0).is_empty() {
        let best = data.trials.iter().zip(&all.warmup).max_by_key(|(trial, _)| longest_run(trial));
        let (trial, usable, frames, warmup) = best.map_or(("none", 0, 0, 0), |(trial, &warmup)| {
            (trial.name.as_str(), longest_run(trial), trial.usable.len(), warmup)
        });
        return Err(DatasetError::NothingUsable { window, trial: trial.into(), usable, frames, warmup });
    }
    if matches!(data.origin, Origin::ReadyMade { .. }) {
        warnings.push(DataWarning::ReadyMade);
    }
    if let [animal] = data.animals.as_slice() {
        warnings.push(DataWarning::OneAnimal { animal: animal.clone() });
    }
    classes(all, options, warnings);
    Ok(())
}

fn longest_run(trial: &Trial) -> usize {
    let runs = trial.usable.chunk_by(|a, b| a == b).filter(|run| run[0]);
    runs.map(<[bool]>::len).max().unwrap_or(0)
}

/// Warns of actions that an animal never shows in usable frames.
fn classes(all: &Assembled, options: &LoadOptions, warnings: &mut Vec<DataWarning>) {
    let data = &all.data;
    let mut shows = vec![vec![false; data.labels.len()]; data.animals.len()];
    for trial in &data.trials {
        for frame in 0..trial.usable.len() {
            if let Some(label) =
                trial.label[frame].filter(|_| trial.usable[frame] && trial.behaviour_at[frame] != NO_BEHAVIOUR)
            {
                shows[trial.animal][usize::from(label)] = true;
            }
        }
    }
    if !shows.iter().flatten().any(|shown| *shown) {
        warnings.push(DataWarning::NoLabels);
        return;
    }
    let unseen = |(at, _): &(usize, &String)| !shows.iter().any(|animal| animal[*at]);
    for (_, label) in data.labels.iter().enumerate().filter(unseen) {
        warnings.push(DataWarning::EmptyClass { label: label.clone() });
    }
    if options.accept_missing_classes {
        return;
    }
    for (animal, shown) in data.animals.iter().zip(&shows) {
        let missing: Vec<&str> = data.labels.iter().zip(shown).filter(|(_, s)| !**s).map(|(l, _)| l.as_str()).collect();
        if !missing.is_empty() {
            warnings.push(DataWarning::MissingClasses { animal: animal.clone(), labels: missing.join(", ") });
        }
    }
}
