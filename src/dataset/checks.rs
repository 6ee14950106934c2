//! What must hold before training starts.
//!
//! Why it exists: a fault that shows after an hour of training costs an hour. What it must never do: repair.

use std::path::Path;

use ndarray::Array2;

use super::LoadOptions;
use super::assemble::{Assembled, Read};
use super::error::{DatasetError, LabelFault};
use super::frames::file_name;
use super::labels::{self, Labels};
use super::prepare::Prepared;
use super::spec::{DataSpec, LabelFile, TrialSpec};
use super::warning::DataWarning;
use crate::dataset::trials::{NO_BEHAVIOUR, Origin, Trial};
use crate::model::LABELS_MAX;

/// A rate that can be.
pub(super) fn rate(path: &Path, key: &str, hz: f64) -> Result<(), DatasetError> {
    if hz > 0.0 && hz <= 1e5 {
        return Ok(());
    }
    let bound = "above 0, to 100000 Hz".to_string();
    Err(DatasetError::Value { path: path.into(), key: key.into(), value: hz.to_string(), bound })
}

/// The trials of the animals that were asked for.
pub(super) fn chosen<'a>(spec: &'a DataSpec, options: &LoadOptions) -> Result<Vec<&'a TrialSpec>, DatasetError> {
    let known = spec.animals();
    let list = || known.join(", ");
    if let Some(asked) = options.animals.iter().chain(&options.leave_out).find(|asked| !known.contains(asked)) {
        return Err(DatasetError::AnimalUnknown { asked: asked.clone(), known: list() });
    }
    let wanted = |trial: &&TrialSpec| {
        let taken = options.animals.is_empty() || options.animals.contains(&trial.animal);
        taken && !options.leave_out.contains(&trial.animal)
    };
    let mut trials: Vec<&TrialSpec> = spec.trials.iter().filter(wanted).collect();
    if trials.is_empty() {
        return Err(DatasetError::NoAnimalLeft { known: list() });
    }
    trials.sort_by_key(|trial| known.iter().position(|animal| *animal == trial.animal));
    Ok(trials)
}

/// The labels in their order: as told, else those of *all* animals by name, so that leaving one out does not renumber them. A
/// file that cannot be read is told later, if its animal is taken at all.
pub(super) fn label_names(spec: &DataSpec) -> Result<Vec<String>, DatasetError> {
    let names = spec.labels.clone().unwrap_or_else(|| {
        let files = spec.trials.iter().filter_map(|trial| trial.labels.as_ref());
        let mut names: Vec<String> =
            files.flat_map(|file| labels::names_in(&file.path, None).unwrap_or_default()).collect();
        names.sort_by(|a, b| a.parse::<i64>().ok().cmp(&b.parse().ok()).then_with(|| a.cmp(b)));
        names.dedup();
        names
    });
    let value = |value: String, bound: &str| DatasetError::Value {
        path: spec.path.clone(),
        key: "labels".into(),
        value,
        bound: bound.into(),
    };
    if names.len() > LABELS_MAX - 1 {
        return Err(value(format!("{} labels", names.len()), "at most 255; is the right column read?"));
    }
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(value(twice.1.clone(), "each label once"));
    }
    Ok(names)
}

/// Every label of a trial is in the list.
pub(super) fn known(trial: &TrialSpec, file: &LabelFile, read: &Labels, names: &[String]) -> Result<(), DatasetError> {
    let Some((label, line)) = read.names.iter().find(|(name, _)| !names.contains(name)) else { return Ok(()) };
    let likeness = |known: &&String| strsim::jaro_winkler(label, known);
    let nearest = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|n| likeness(n) > 0.7);
    let hint = nearest.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    let cause = LabelFault::Unknown { known: names.join(", "), hint };
    let value = format!("{label:?}");
    Err(DatasetError::Label { trial: trial.name.clone(), path: file.path.clone(), line: *line, value, cause })
}

/// Which behaviour frames hold NaN or infinity.
pub(super) fn behaviour(
    trial: &TrialSpec,
    values: &Array2<f32>,
    warnings: &mut Vec<DataWarning>,
) -> Result<Vec<bool>, DatasetError> {
    let damaged: Vec<bool> = values.rows().into_iter().map(|row| row.iter().any(|v| !v.is_finite())).collect();
    let (count, of) = (damaged.iter().filter(|bad| **bad).count(), damaged.len());
    let Some(first) = damaged.iter().position(|bad| *bad) else { return Ok(damaged) };
    if count * 2 > of {
        let (trial, path) = (trial.name.clone(), trial.behaviour.clone());
        return Err(DatasetError::NonFinite { trial, path, count, of, first });
    }
    let (trial, file) = (trial.name.clone(), file_name(&trial.behaviour));
    warnings.push(DataWarning::NonFiniteBehaviour { trial, file, count, of, first });
    Ok(damaged)
}

/// All trials have the columns of the first.
pub(super) fn same_columns(trials: &[&TrialSpec], read: &[Read]) -> Result<(), DatasetError> {
    let Some(first) = read.first() else { return Ok(()) };
    let differs = |(_, other): &(&&TrialSpec, &Read)| other.columns != first.columns;
    let faults = trials.iter().zip(read).filter(differs).map(|(trial, other)| {
        let same_number = other.columns.len() == first.columns.len();
        let told = |names: &[String]| {
            if same_number { format!("the columns {}", names.join(" ")) } else { names.len().to_string() }
        };
        DatasetError::Columns {
            trial: trial.name.clone(),
            path: trial.behaviour.clone(),
            found: told(&other.columns),
            expected: told(&first.columns),
            other: trials[0].name.clone(),
        }
    });
    DatasetError::gathered(faults.collect())
}

/// At most half of the frames of a trial hold NaN.
pub(super) fn finite_frames(trials: &[&TrialSpec], prepared: &[Prepared]) -> Result<(), DatasetError> {
    let mut errors = Vec::new();
    for (trial, Prepared { notes, .. }) in trials.iter().zip(prepared) {
        let (count, of) = (notes.non_finite, notes.usable.len());
        if count * 2 > of {
            let path = super::frames::files(trial)?.0.into_iter().next().unwrap_or_default();
            let first = notes.usable.iter().position(|good| !good).unwrap_or(0);
            errors.push(DatasetError::NonFinite { trial: trial.name.clone(), path, count, of, first });
        }
    }
    DatasetError::gathered(errors)
}

/// What shows only when everything is together.
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
    if data.moments(window, 0).is_empty() {
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

/// Who never shows what, in frames that can be used.
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
