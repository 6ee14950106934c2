//! Checks what was asked for, and each trial by itself, before training starts: a fault that shows after an hour of training
//! costs an hour. Nothing is repaired here.

use std::path::Path;

use ndarray::Array2;

use super::LoadOptions;
use super::error::{DatasetError, LabelFault};
use super::frames::file_name;
use super::labels::{self, Labels};
use super::spec::{DataSpec, LabelFile, TrialSpec};
use super::warning::DataWarning;
use crate::model::LABELS_MAX;

/// Checks a rate.
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

/// The labels in their order: as given, otherwise those of *all* animals by name, so that leaving one out does not renumber them.
/// A file that cannot be read is reported later, if its animal is used.
pub(super) fn label_names(spec: &DataSpec) -> Result<Vec<String>, DatasetError> {
    let names = spec.labels.clone().unwrap_or_else(|| {
        let files = spec.trials.iter().filter_map(|trial| trial.labels.as_ref());
        let mut names: Vec<String> = files.flat_map(|file| labels::names_in(file, None).unwrap_or_default()).collect();
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
    // Two annotators write `Walk` and `walk`, and mean one action.
    let plain = |name: &String| {
        name.to_lowercase().split([' ', '_', '-']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    for (at, name) in names.iter().enumerate() {
        if let Some(other) = names[..at].iter().find(|other| plain(other) == plain(name)) {
            let bound = "labels that differ by more than case, spaces and signs: correct the label files, or list `labels` in the dataset.toml so \
                         that every other spelling is found";
            return Err(value(format!("{other:?} and {name:?}"), bound));
        }
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
