//! Finds the two-photon frame of each behaviour frame.
//!
//! Why it exists: an index file, timestamps, two rates, ThorSync's lines and PrairieView's voltages answer the same question. What it must never do:
//! sort or repair: a decreasing index is an error, because it means that two recordings were joined.
//!
//! A session contains the numbers and times of its frames: an index refers to those numbers, and times are compared with those.

use std::path::Path;

use super::arrays;
use super::error::DatasetError;
use super::row_clock;
use super::spec::{Neural, Synchrony, TrialSpec};
use super::table::Table;
use super::warning::DataWarning;
use super::{thorsync, voltage};
use crate::source::{FrameClock, FrameIndex, SessionIndex, voltage_begins_s};
use crate::sys::statistics::median;

/// How near to a whole number the ratio of two durations is when a rate is wrong by that factor.
const FACTOR_TOLERANCE: f64 = 0.03;
/// Ratio of two durations beyond which it is told.
const UNEQUAL_MAX: f64 = 1.1;
/// No two-photon frame: before the first, after the last, or in a pause.
const NO_FRAME: i64 = -1;

/// The behaviour frames mapped to two-photon frames.
#[derive(Debug)]
pub(super) struct Synchronised {
    /// For each behaviour frame, its two-photon frame or [`NO_FRAME`]; never decreasing where there is one.
    pub frame_of: Vec<i64>,
    /// For each behaviour frame, its time, s: its own timestamp, or regular from 0.
    pub times_s: Vec<f64>,
}

/// What is known about the recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis<'a> {
    /// Behaviour frames.
    pub rows: usize,
    /// Two-photon frames.
    pub frames: usize,
    /// Two-photon frames per second.
    pub frame_rate_hz: f64,
    /// Behaviour frames per second.
    pub behaviour_rate_hz: f64,
    /// Numbers and times of the two-photon frames, for frames of a session.
    pub session: Option<&'a SessionIndex>,
    /// When each two-photon frame of another recording began, s from the first, where they are not regular.
    pub begins_s: Option<&'a [f64]>,
    /// When the first of them began on the recording's own clock, s, where that is known.
    pub first_s: Option<f64>,
}

/// Places rows that count as regular by the numbers that their file gives them. Returns how many were missing.
pub(super) fn place_rows(
    trial: &TrialSpec,
    path: &Path,
    table: &mut Table,
    behaviour_rate_hz: f64,
) -> Result<usize, DatasetError> {
    let known = !matches!(trial.synchrony, Synchrony::Offset { stated: false, .. });
    let clock = std::mem::take(&mut table.clock);
    row_clock::place(path, clock, &mut table.values, behaviour_rate_hz, known)
}

/// Synchronises a trial.
pub(super) fn synchronise(
    trial: &TrialSpec,
    axis: Axis<'_>,
    warnings: &mut Vec<DataWarning>,
) -> Result<Synchronised, DatasetError> {
    let regular = || (0..axis.rows).map(|row| row as f64 / axis.behaviour_rate_hz).collect::<Vec<_>>();
    let (frame_of, times_s) = match &trial.synchrony {
        Synchrony::Index(path) => (by_index(trial, path, axis)?, regular()),
        Synchrony::Offset { seconds: offset_s, .. } if axis.session.is_some() => {
            let starts = of_session(trial, axis, FrameClock::Start)?;
            let times: Vec<f64> = regular().iter().map(|time| time + offset_s).collect();
            (among(&starts, &times, axis), regular())
        }
        Synchrony::Offset { seconds: offset_s, .. } if axis.begins_s.is_some() => {
            let times: Vec<f64> = regular().iter().map(|time| time + offset_s).collect();
            (among(axis.begins_s.unwrap_or_default(), &times, axis), regular())
        }
        Synchrony::Offset { seconds: offset_s, stated } => {
            last_equally(trial, axis, *stated, warnings)?;
            let frame = |&time: &f64| within(((time + offset_s) * axis.frame_rate_hz + 1e-9).floor(), axis.frames);
            (regular().iter().map(frame).collect(), regular())
        }
        Synchrony::Times { behaviour, frames, clock } => {
            let times = ascending(trial, behaviour)?;
            let same = (times.len(), axis.rows);
            equal(trial, behaviour, same, "behaviour frames", "the behaviour file")?;
            in_seconds(behaviour, &times, axis.behaviour_rate_hz, "behaviour_rate_hz")?;
            (by_times(trial, &times, (frames.as_deref(), *clock), axis)?, times)
        }
        Synchrony::ThorSync { path, .. } if axis.session.is_some() => {
            let cause = "counts frames from the microscope's start, which a session does not know; tie behaviour to the frames \
                         by `index` (frame numbers) or `behaviour_times_s`";
            return Err(DatasetError::file(path, format!("trial {}: {cause}", trial.name)));
        }
        Synchrony::ThorSync { path, camera_line, counts_per_frame } => {
            let lines = thorsync::Lines::read(path, camera_line.as_deref())?;
            let frame_of = lines.frame_of_behaviour(*counts_per_frame);
            equal(trial, path, (frame_of.len(), axis.rows), "camera pulses", "the rows of the behaviour file")?;
            let within = |frame: Option<i64>| frame.map_or(NO_FRAME, |frame| within(frame as f64, axis.frames));
            (frame_of.into_iter().map(within).collect(), regular())
        }
        Synchrony::Voltage { path, camera_line } => by_voltage(trial, path, camera_line.as_deref(), axis)?,
    };
    if !frame_of.iter().any(|&frame| frame >= 0) {
        let (by, rows, frames) = (name(&trial.synchrony), axis.rows, axis.frames);
        return Err(DatasetError::NoBehaviour { trial: trial.name.clone(), by, rows, frames });
    }
    Ok(Synchronised { frame_of, times_s })
}

/// Camera pulses of a voltage recording: the frame of each, and its time from the first of them.
fn by_voltage(
    trial: &TrialSpec,
    path: &Path,
    line: Option<&str>,
    axis: Axis<'_>,
) -> Result<(Vec<i64>, Vec<f64>), DatasetError> {
    let fail = |cause: String| DatasetError::file(path, format!("trial {}: {cause}", trial.name));
    let Neural::Recording(spec) = &trial.neural else {
        return Err(fail("`voltage_recording` belongs to a recording of PrairieView".to_owned()));
    };
    let begin_s = voltage_begins_s(spec, path).map_err(|e| fail(e.to_string()))?;
    let first_s = axis.first_s.ok_or_else(|| fail("the frames of its recording have no times".to_owned()))?;
    let pulses: Vec<f64> = voltage::pulses_ms(path, line)?.iter().map(|ms| begin_s + ms / 1e3 - first_s).collect();
    equal(trial, path, (pulses.len(), axis.rows), "camera pulses", "the rows of the behaviour file")?;
    let frames = match axis.begins_s {
        Some(begins) => among(begins, &pulses, axis),
        None => pulses.iter().map(|time| within((time * axis.frame_rate_hz + 1e-9).floor(), axis.frames)).collect(),
    };
    let from_first = pulses.iter().map(|time| time - pulses[0]).collect();
    Ok((frames, from_first))
}

/// A rate that is wrong by a factor makes the behaviour end at half of the imaging, or twice as late.
fn last_equally(
    trial: &TrialSpec,
    axis: Axis<'_>,
    stated: bool,
    warnings: &mut Vec<DataWarning>,
) -> Result<(), DatasetError> {
    let (behaviour_s, imaging_s) = (axis.rows as f64 / axis.behaviour_rate_hz, axis.frames as f64 / axis.frame_rate_hz);
    let ratio = behaviour_s / imaging_s;
    let times = if ratio > 1.0 { ratio } else { 1.0 / ratio };
    let by_factor = times >= 1.9 && (times - times.round()).abs() / times < FACTOR_TOLERANCE;
    if by_factor && !stated {
        let (rows, frames) = (axis.rows, axis.frames);
        return Err(DatasetError::file(
            &trial.behaviour,
            format!(
                "trial {}: {rows} rows at {} Hz last {behaviour_s:.1} s, but {frames} frames at {} Hz last {imaging_s:.1} s, a factor of {:.0}: is \
             behaviour_rate_hz {:.0} Hz, or the frame rate wrong? If the two really last so differently, say offset_s = 0.0",
                trial.name,
                axis.behaviour_rate_hz,
                axis.frame_rate_hz,
                times,
                axis.behaviour_rate_hz * ratio
            ),
        ));
    }
    if times > UNEQUAL_MAX {
        let by = format!("{} rows at {} Hz", axis.rows, axis.behaviour_rate_hz);
        warnings.push(DataWarning::Durations { trial: trial.name.clone(), by, behaviour_s, imaging_s });
    }
    Ok(())
}

/// Times whose steps are a thousand times too long are in ms, and sixty times too short in minutes.
fn in_seconds(path: &Path, times: &[f64], rate_hz: f64, key: &str) -> Result<(), DatasetError> {
    let mut steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let Some(step) = median(&mut steps, f64::total_cmp).filter(|step| *step > 0.0) else { return Ok(()) };
    let units = [
        ("ms", 1e3),
        ("µs", 1e6),
        ("ns", 1e9),
        ("minutes", 1.0 / 60.0),
        ("hours", 1.0 / 3600.0),
        ("days (MATLAB's datenum)", 1.0 / 86_400.0),
    ];
    let unit = units.iter().find(|(_, per_s)| (0.5..2.0).contains(&(step * rate_hz / per_s)));
    match unit {
        None => Ok(()),
        Some((unit, per_s)) => Err(DatasetError::file(
            path,
            format!(
                "its times advance by {step} (median), but {key} is {rate_hz} Hz, a step of {:.6} s: they are in {unit}; {}",
                1.0 / rate_hz,
                if *per_s > 1.0 {
                    format!("divide them by {per_s}")
                } else {
                    format!("multiply them by {:.0}", 1.0 / per_s)
                }
            ),
        )),
    }
}

fn name(synchrony: &Synchrony) -> &'static str {
    match synchrony {
        Synchrony::Index(_) => "an index file",
        Synchrony::Times { .. } => "timestamps",
        Synchrony::Offset { .. } => "the rates and offset_s",
        Synchrony::ThorSync { .. } => "ThorSync",
        Synchrony::Voltage { .. } => "the voltage recording",
    }
}

/// A computed frame number; [`NO_FRAME`] outside the recording.
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
        advice: "the files belong to different recordings, or one is truncated",
    })
}

fn by_index(trial: &TrialSpec, path: &Path, axis: Axis<'_>) -> Result<Vec<i64>, DatasetError> {
    let index = arrays::integers(path)?;
    equal(trial, path, (index.len(), axis.rows), "behaviour frames", "the behaviour file")?;
    never_back(trial, path, &index)?;
    if let Some(session) = axis.session {
        let place =
            session.places().map_err(|cause| DatasetError::file(path, format!("trial {}: {cause}", trial.name)))?;
        let of = |&number: &i64| match u64::try_from(number).map(&place) {
            Ok(FrameIndex::At(frame)) => frame as i64,
            _ => NO_FRAME,
        };
        return Ok(index.iter().map(of).collect());
    }
    let last = axis.frames.saturating_sub(1);
    if let Some((row, &value)) = index.iter().enumerate().find(|(_, value)| **value >= axis.frames as i64) {
        let (trial, frames) = (trial.name.clone(), axis.frames);
        return Err(DatasetError::IndexPastEnd { trial, path: path.into(), row, value, frames, last });
    }
    Ok(index.into_iter().map(|value| value.max(NO_FRAME)).collect())
}

/// Entries that point to a frame must never decrease.
fn never_back(trial: &TrialSpec, path: &Path, index: &[i64]) -> Result<(), DatasetError> {
    let mut before = NO_FRAME;
    for (row, &value) in index.iter().enumerate().filter(|(_, value)| **value >= 0) {
        if value < before {
            return Err(backwards(trial.name.clone(), path, row, value.to_string(), before.to_string()));
        }
        before = value;
    }
    Ok(())
}

fn backwards(trial: String, path: &Path, row: usize, value: String, before: String) -> DatasetError {
    DatasetError::Backwards { trial, path: path.into(), row, value, before }
}

/// Reads timestamps, which must be finite and never decrease.
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

/// Compares times with the start of each frame: by the frames' own file, otherwise by the session, otherwise regular from 0 s.
fn by_times(
    trial: &TrialSpec,
    times: &[f64],
    (frames, clock): (Option<&Path>, FrameClock),
    axis: Axis<'_>,
) -> Result<Vec<i64>, DatasetError> {
    if let Some(path) = frames {
        let starts = ascending(trial, path)?;
        equal(trial, path, (starts.len(), axis.frames), "two-photon frames", "the recording")?;
        in_seconds(path, &starts, axis.frame_rate_hz, "the frame rate")?;
        return Ok(among(&starts, times, axis));
    }
    if axis.session.is_some() {
        return Ok(among(&of_session(trial, axis, clock)?, times, axis));
    }
    if let Some(begins) = axis.begins_s {
        return Ok(among(begins, times, axis));
    }
    let frame = |&time: &f64| within((time * axis.frame_rate_hz + 1e-9).floor(), axis.frames);
    Ok(times.iter().map(frame).collect())
}

/// When the frames of a session began.
fn of_session(trial: &TrialSpec, axis: Axis<'_>, clock: FrameClock) -> Result<Vec<f64>, DatasetError> {
    let Some(session) = axis.session else { return Ok(Vec::new()) };
    let fault = |(frame, cause)| DatasetError::Frame { trial: trial.name.clone(), frame, cause };
    session.begins_s(clock, 1.0 / axis.frame_rate_hz).map_err(fault)
}

/// The last frame that began at or before each time; a frame lasts one and a half periods at most.
fn among(starts: &[f64], times: &[f64], axis: Axis<'_>) -> Vec<i64> {
    let longest = 1.5 / axis.frame_rate_hz;
    // A time that equals a frame's start up to rounding belongs to that frame.
    let frame = |&time: &f64| match starts.partition_point(|&start| start <= time + 1e-9).checked_sub(1) {
        Some(frame) if time - starts[frame] < longest => frame as i64,
        _ => NO_FRAME,
    };
    times.iter().map(frame).collect()
}
