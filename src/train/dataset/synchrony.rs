//! Which two-photon frame each behaviour frame belongs to, however it was recorded.
//!
//! Why it exists: an index file, time stamps, two rates and ThorSync's lines answer the same question. What it must never do:
//! sort or repair: an index that goes back is an error, because it means that two recordings were joined.

use std::path::Path;

use super::arrays;
use super::error::DatasetError;
use super::spec::{Synchrony, TrialSpec};
use super::thorsync;

/// No two-photon frame: before the first, after the last, or in a pause.
pub(super) const NO_FRAME: i64 = -1;

/// The behaviour frames on the axis of the two-photon frames.
#[derive(Debug)]
pub(super) struct Synchronised {
    /// For each behaviour frame its two-photon frame, or [`NO_FRAME`]; never decreasing where there is one.
    pub frame_of: Vec<i64>,
    /// For each behaviour frame its time, s: by its own stamps, or regular from 0.
    pub times_s: Vec<f64>,
}

/// What is known of the recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Behaviour frames.
    pub rows: usize,
    /// Two-photon frames.
    pub frames: usize,
    /// Two-photon frames per second.
    pub frame_rate_hz: f64,
    /// Behaviour frames per second.
    pub behaviour_rate_hz: f64,
}

/// Reads the synchrony of a trial.
pub(super) fn synchronise(trial: &TrialSpec, axis: Axis) -> Result<Synchronised, DatasetError> {
    let regular = || (0..axis.rows).map(|row| row as f64 / axis.behaviour_rate_hz).collect::<Vec<_>>();
    let (frame_of, times_s) = match &trial.synchrony {
        Synchrony::Index(path) => (by_index(trial, path, axis)?, regular()),
        Synchrony::Offset(offset_s) => {
            let frame = |&time: &f64| within(((time + offset_s) * axis.frame_rate_hz + 1e-9).floor(), axis.frames);
            (regular().iter().map(frame).collect(), regular())
        }
        Synchrony::Times { behaviour, frames } => {
            let times = ascending(trial, behaviour)?;
            let same = (times.len(), axis.rows);
            equal(trial, behaviour, same, "behaviour frames", "the behaviour file")?;
            (by_times(trial, &times, frames.as_deref(), axis)?, times)
        }
        Synchrony::ThorSync { path, camera_line, counts_per_frame } => {
            let lines = thorsync::Lines::read(path, camera_line.as_deref())?;
            let frame_of = lines.frame_of_behaviour(*counts_per_frame);
            equal(trial, path, (frame_of.len(), axis.rows), "camera pulses", "the rows of the behaviour file")?;
            (frame_of.into_iter().map(|f| within(f as f64, axis.frames)).collect(), regular())
        }
    };
    if !frame_of.iter().any(|&frame| frame >= 0) {
        let (by, rows, frames) = (name(&trial.synchrony), axis.rows, axis.frames);
        return Err(DatasetError::NoBehaviour { trial: trial.name.clone(), by, rows, frames });
    }
    Ok(Synchronised { frame_of, times_s })
}

fn name(synchrony: &Synchrony) -> &'static str {
    match synchrony {
        Synchrony::Index(_) => "an index file",
        Synchrony::Times { .. } => "time stamps",
        Synchrony::Offset(_) => "the rates and offset_s",
        Synchrony::ThorSync { .. } => "ThorSync",
    }
}

/// A computed frame number; what lies outside the recording has none.
fn within(frame: f64, frames: usize) -> i64 {
    if frame >= 0.0 && frame < frames as f64 { frame as i64 } else { NO_FRAME }
}

fn equal(
    trial: &TrialSpec,
    path: &Path,
    (found, expected): (usize, usize),
    unit: &'static str,
    by: &str,
) -> Result<(), DatasetError> {
    if found == expected {
        return Ok(());
    }
    Err(DatasetError::Lengths {
        trial: trial.name.clone(),
        path: path.into(),
        found: found.to_string(),
        expected: expected.to_string(),
        unit,
        by: by.into(),
        advice: "the files belong to different recordings, or one was cut off",
    })
}

fn by_index(trial: &TrialSpec, path: &Path, axis: Axis) -> Result<Vec<i64>, DatasetError> {
    let index = arrays::integers(path)?;
    equal(trial, path, (index.len(), axis.rows), "behaviour frames", "the behaviour file")?;
    let mut before = NO_FRAME;
    for (row, &value) in index.iter().enumerate() {
        let trial = || trial.name.clone();
        if value >= axis.frames as i64 {
            let (frames, last) = (axis.frames, axis.frames.saturating_sub(1));
            return Err(DatasetError::IndexPastEnd { trial: trial(), path: path.into(), row, value, frames, last });
        }
        if value >= 0 {
            if value < before {
                return Err(backwards(trial(), path, row, value.to_string(), before.to_string()));
            }
            before = value;
        }
    }
    Ok(index.into_iter().map(|value| value.max(NO_FRAME)).collect())
}

fn backwards(trial: String, path: &Path, row: usize, value: String, before: String) -> DatasetError {
    DatasetError::Backwards { trial, path: path.into(), row, value, before }
}

/// Time stamps, finite and never going back.
fn ascending(trial: &TrialSpec, path: &Path) -> Result<Vec<f64>, DatasetError> {
    let times = arrays::times_s(path)?;
    if let Some(row) = times.iter().position(|time| !time.is_finite()) {
        return Err(DatasetError::file(path, format!("time {row} is {}: times must be finite seconds", times[row])));
    }
    match times.windows(2).position(|pair| pair[1] < pair[0]) {
        Some(row) => {
            let (value, before) = (times[row + 1].to_string(), times[row].to_string());
            Err(backwards(trial.name.clone(), path, row + 1, value, before))
        }
        None => Ok(times),
    }
}

/// The last frame that began at or before each time; a frame lasts one and a half periods at most.
fn by_times(trial: &TrialSpec, times: &[f64], frames: Option<&Path>, axis: Axis) -> Result<Vec<i64>, DatasetError> {
    let Some(path) = frames else {
        let frame = |&time: &f64| within((time * axis.frame_rate_hz + 1e-9).floor(), axis.frames);
        return Ok(times.iter().map(frame).collect());
    };
    let starts = ascending(trial, path)?;
    equal(trial, path, (starts.len(), axis.frames), "two-photon frames", "the recording")?;
    let longest = 1.5 / axis.frame_rate_hz;
    let frame = |&time: &f64| match starts.partition_point(|&start| start <= time).checked_sub(1) {
        Some(frame) if time - starts[frame] < longest => frame as i64,
        _ => NO_FRAME,
    };
    Ok(times.iter().map(frame).collect())
}
