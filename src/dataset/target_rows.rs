//! The values of the targets: from the columns of a file to one row for each two-photon frame.
//!
//! Why it exists: a target lies in a column of the behaviour or of a file beside it, at the rate of the cameras; a model needs one value
//! for each of its frames. What it must never do: invent a value: where none was measured, it is NaN.

use std::path::Path;

use ndarray::{Array2, Axis as Along};

use super::arrays;
use super::error::DatasetError;
use super::spec::{DataSpec, TrialSpec};
use super::synchrony::place_rows;
use super::table::{Columns, Pick, Table};
use super::trials::NO_BEHAVIOUR;

/// The targets of every two-photon frame, `[frames, targets]`: those of its newest behaviour frame, as the labels. `behaviour` is what was
/// read of the behaviour, before anything that is not finite was replaced, with the names of its columns.
pub(super) fn of_frames(
    trial: &TrialSpec,
    spec: &DataSpec,
    behaviour: (&Array2<f32>, &[String]),
    newest: &[u32],
) -> Result<Array2<f32>, DatasetError> {
    if spec.targets.is_empty() {
        return Ok(Array2::zeros((newest.len(), 0)));
    }
    let mut rows = read(trial, spec, behaviour)?;
    for (target, mut column) in spec.targets.iter().zip(rows.columns_mut()) {
        let half = (target.smooth_s * spec.behaviour_rate_hz / 2.0).round() as usize;
        let smooth = smoothed(&column.to_vec(), half);
        column.iter_mut().zip(smooth).for_each(|(value, smooth)| *value = smooth);
    }
    let mut of_frames = Array2::from_elem((newest.len(), spec.targets.len()), f32::NAN);
    for (mut frame, &row) in of_frames.rows_mut().into_iter().zip(newest).filter(|(_, row)| **row != NO_BEHAVIOUR) {
        frame.assign(&rows.row(row as usize));
    }
    Ok(of_frames)
}

/// The columns of the targets, a row for each behaviour frame; what is not finite is NaN.
fn read(
    trial: &TrialSpec,
    spec: &DataSpec,
    (behaviour, columns): (&Array2<f32>, &[String]),
) -> Result<Array2<f32>, DatasetError> {
    let names: Vec<String> = spec.targets.iter().map(|target| target.name.clone()).collect();
    let at: Option<Vec<usize>> = names.iter().map(|name| columns.iter().position(|own| own == name)).collect();
    let mut rows = match (&trial.targets, at) {
        (None, Some(at)) => behaviour.select(Along(1), &at),
        (None, None) if !matches!(trial.columns, Columns::Names(_)) => {
            let missing = names.iter().find(|name| !columns.contains(name)).map_or("", String::as_str);
            let has = format!("has no column {missing:?}; it has {}", columns.join(", "));
            return Err(DatasetError::file(&trial.behaviour, has));
        }
        (file, _) => {
            let path = file.as_ref().unwrap_or(&trial.behaviour);
            let pick = if file.is_some() { Pick::default() } else { trial.pick.clone() };
            let mut table = arrays::table(path, &Columns::Names(names), &pick)?;
            if trial.synchrony.takes_rows_as_regular() {
                place_rows(trial, path, &mut table, spec.behaviour_rate_hz)?;
            }
            let Table { values, .. } = table;
            as_many(trial, path, values.nrows(), behaviour.nrows())?;
            values
        }
    };
    rows.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = f32::NAN);
    Ok(rows)
}

fn as_many(trial: &TrialSpec, path: &Path, found: usize, expected: usize) -> Result<(), DatasetError> {
    if found == expected {
        return Ok(());
    }
    Err(DatasetError::Lengths {
        trial: trial.name.clone(),
        path: path.into(),
        found: found.to_string(),
        expected: expected.to_string(),
        unit: "rows",
        by: "the behaviour".into(),
        advice: "targets have one row per behaviour frame",
    })
}

/// The mean of `half` values before, the value, and `half` after; of those that were measured. What was not measured stays NaN.
fn smoothed(values: &[f32], half: usize) -> Vec<f32> {
    let mean = |at: usize| {
        let (first, last) = (at.saturating_sub(half), (at + half + 1).min(values.len()));
        let measured = values[first..last].iter().filter(|value| !value.is_nan());
        let (sum, count) = measured.fold((0.0, 0.0), |(sum, count), value| (sum + f64::from(*value), count + 1.0));
        if values[at].is_nan() { f32::NAN } else { (sum / count) as f32 }
    };
    if half == 0 { values.to_vec() } else { (0..values.len()).map(mean).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_the_mean_of_what_was_measured_around_a_moment() {
        let found = smoothed(&[1.0, 2.0, 6.0, f32::NAN, 4.0], 1);
        assert_eq!(found[..3], [1.5, 3.0, 4.0]);
        assert!(found[3].is_nan() && found[4] == 4.0);
        assert_eq!(smoothed(&[1.0, 5.0], 0), [1.0, 5.0]);
    }
}
