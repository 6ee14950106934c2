//! Labels: by frame, by interval, or one entry for every frame.
//!
//! What it must never do: choose between two labels of the same frame, or drop one that does not fit.

use std::path::Path;

use super::arrays::is_csv;
use super::error::{DatasetError, LabelFault};
use super::imports::{self, Bout};
use super::npy::Array;
use super::sheet::{self, Sheet};
use super::spec::{LabelFile, Per, TrialSpec, Who};
use super::synchrony::Axis;
use crate::model::LABEL_BYTES_MAX;
use crate::source::FrameIndex;

/// Labels of a trial by the file's own names.
#[derive(Debug)]
pub(super) struct Labels {
    /// Each name with the line of its first occurrence.
    pub names: Vec<(String, usize)>,
    /// For each frame, an index into `names`.
    pub at: Vec<Option<u16>>,
    /// Which frames these are.
    pub per: Per,
    /// Labels of frames that a session does not contain.
    pub not_seen: usize,
}

/// The label of one frame: line, frame number as written, label.
type LabelOfFrame = (usize, f64, String);

/// The contents of a label file.
enum Entries {
    /// One frame each.
    Frames(Vec<LabelOfFrame>),
    /// One bout each.
    Intervals(Vec<Bout>),
    /// One per frame; empty = unlabelled.
    Every(Vec<String>),
}

/// The names that a file uses. `list` names the numbers of a numeric file.
pub(super) fn names_in(file: &LabelFile, list: Option<&[String]>) -> Result<Vec<String>, DatasetError> {
    let mut names: Vec<String> = match entries(file, list)? {
        Entries::Frames(all) => all.into_iter().map(|(_, _, label)| label).collect(),
        Entries::Intervals(all) => all.into_iter().map(|bout| bout.label).collect(),
        Entries::Every(all) => all,
    };
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads the labels of a trial. `times_s`: time of each behaviour frame, needed for intervals.
pub(super) fn read(
    trial: &TrialSpec,
    file: &LabelFile,
    axis: Axis<'_>,
    times_s: &[f64],
    list: Option<&[String]>,
) -> Result<Labels, DatasetError> {
    let mut placing = Placing::new(trial, &file.path);
    match entries(file, list)? {
        Entries::Every(all) => {
            placing.every(&all, axis)?;
            let per = if all.len() == axis.rows { Per::Behaviour } else { Per::Frame };
            Ok(placing.finish(per))
        }
        Entries::Frames(all) if file.per == Per::Frame && axis.session.is_some() => {
            let (all, not_seen) = placing.by_number(all, axis)?;
            placing.frames(&all, axis.frames)?;
            Ok(Labels { not_seen, ..placing.finish(file.per) })
        }
        Entries::Frames(all) => {
            let end = if file.per == Per::Frame { axis.frames } else { axis.rows };
            placing.frames(&all, end)?;
            Ok(placing.finish(file.per))
        }
        Entries::Intervals(mut all) => {
            placing.intervals(&mut all, times_s, 1.0 / axis.behaviour_rate_hz)?;
            Ok(placing.finish(Per::Behaviour))
        }
    }
}

fn entries(file: &LabelFile, list: Option<&[String]>) -> Result<Entries, DatasetError> {
    let path = &file.path;
    if is_csv(path) || path.extension().is_none_or(|e| e != "npy") && sheet::is_text(path)? {
        return sheet_entries(path, &file.who, list);
    }
    if file.who != Who::default() {
        return Err(not_boris(path));
    }
    array_entries(path, list)
}

/// Names of the column of labels: tables of hand, keypoint-moseq's `syllable`, B-SOiD's `B-SOiD labels`.
const LABEL: [&str; 9] =
    ["label", "labels", "action", "behaviour", "behavior", "syllable", "syllables", "b-soid labels", "b-soid label"];

fn sheet_entries(path: &Path, who: &Who, list: Option<&[String]>) -> Result<Entries, DatasetError> {
    let sheet = match imports::bouts(path, who)? {
        Ok(bouts) => return Ok(Entries::Intervals(bouts)),
        Err(lines) => Sheet::of(path, lines)?,
    };
    if *who != Who::default() {
        return Err(not_boris(path));
    }
    let column = |names: &[&str]| sheet.column(names);
    let (label, frame) = (column(&LABEL), column(&["frame", "frame_idx", "frame_number"]));
    let (start, stop) = (column(&["start_s", "start"]), column(&["stop_s", "stop", "end_s", "end"]));
    let of_runs = column(&["start time (frames)"]).zip(column(&["run lengths"]));
    let value = |line: usize, text: &str| {
        let fault = || DatasetError::file(path, format!("line {line}: {text:?} is not a number"));
        text.parse::<f64>().ok().filter(|v| v.is_finite()).ok_or_else(fault)
    };
    let rows = || sheet.rows.iter().enumerate().map(|(row, fields)| (row + 2, fields));
    match (label, frame, start.zip(stop), of_runs) {
        (Some(label), Some(frame), ..) => {
            { rows().map(|(line, f)| Ok((line, value(line, &f[frame])?, f[label].clone()))).collect::<Result<_, _>>() }
                .map(Entries::Frames)
        }
        (Some(label), None, Some((from, to)), _) => {
            let one = |(line, f): (usize, &Vec<String>)| {
                let (start_s, stop_s) = (value(line, &f[from])?, value(line, &f[to])?);
                Ok(Bout { line, start_s, stop_s, label: f[label].clone() })
            };
            rows().map(one).collect::<Result<_, _>>().map(Entries::Intervals)
        }
        (Some(label), None, None, Some((from, length))) => {
            let mut all = Vec::new();
            for (line, f) in rows() {
                let (from, length) = (value(line, &f[from])?, value(line, &f[length])?);
                if !(0.0..=RUN_MAX).contains(&length) {
                    return Err(DatasetError::file(path, format!("line {line}: a run of {length} frames")));
                }
                all.extend((0..length as usize).map(|n| (line, from + n as f64, f[label].clone())));
            }
            Ok(Entries::Frames(all))
        }
        (Some(label), None, None, None) => every_row(path, &sheet, label, list),
        _ => Err(no_labels(path, &sheet)),
    }
}

/// Longest run of one label, frames.
const RUN_MAX: f64 = 1e7;

/// A label in every row, without a column that numbers or times them.
fn every_row(path: &Path, sheet: &Sheet, label: usize, list: Option<&[String]>) -> Result<Entries, DatasetError> {
    // B-SOiD puts its labels beside DeepLabCut's table, whose further header rows have none.
    let is_header = |fields: &&Vec<String>| {
        fields[label].is_empty()
            && fields.iter().any(|field| ["bodyparts", "coords", "individuals"].contains(&field.as_str()))
    };
    let heads = sheet.rows.iter().take_while(is_header).count();
    let texts: Vec<String> = sheet.rows[heads..].iter().map(|fields| fields[label].clone()).collect();
    let whole =
        |text: &String| text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 1e9).map(|n| n as i64);
    match texts.iter().map(whole).collect::<Option<Vec<i64>>>() {
        Some(numbers) => numbered(path, numbers, list),
        None => Ok(Entries::Every(texts)),
    }
}

fn no_labels(path: &Path, sheet: &Sheet) -> DatasetError {
    let cause = format!(
        "its columns are {}; a label file has `frame,label` or `start_s,stop_s,label`, a column `label` or `syllable` with a row for every \
         frame, or is an export of BORIS or B-SOiD. Columns of 0 and 1 for each action (BORIS's binary table, DeepEthogram) are not read: \
         write the name of the action into a column `label`",
        sheet.header.join(", ")
    );
    DatasetError::file(path, cause)
}

fn not_boris(path: &Path) -> DatasetError {
    DatasetError::file(path, "is not an export of BORIS: leave `label_subject` and `label_observation` out")
}

fn array_entries(path: &Path, list: Option<&[String]>) -> Result<Entries, DatasetError> {
    let other =
        "is neither .npy nor .csv; of keypoint-moseq's results.h5 write a CSV for each recording (save_results_as_csv)";
    let array = Array::read(path)?.ok_or_else(|| DatasetError::file(path, other))?;
    if let Some(texts) = array.texts() {
        return Ok(Entries::Every(texts.iter().map(|text| text.trim().to_owned()).collect()));
    }
    let numbers = array.integers().ok_or_else(|| DatasetError::file(path, "labels are whole numbers or text"))?;
    numbered(path, numbers, list)
}

/// A number for every frame: an index into the list, or a name by itself. Negative: unlabelled.
fn numbered(path: &Path, numbers: Vec<i64>, list: Option<&[String]>) -> Result<Entries, DatasetError> {
    if let Some(list) = list {
        from_zero(path, &numbers, list)?;
    }
    let name = |number: i64| match (usize::try_from(number), list) {
        (Err(_), _) => String::new(),
        (Ok(index), Some(list)) => list.get(index).cloned().unwrap_or_else(|| number.to_string()),
        (Ok(_), None) => number.to_string(),
    };
    Ok(Entries::Every(numbers.into_iter().map(name).collect()))
}

/// Numbers of labels count from 0; MATLAB and people count from 1.
fn from_zero(path: &Path, numbers: &[i64], list: &[String]) -> Result<(), DatasetError> {
    let (least, most) = (numbers.iter().filter(|n| **n >= 0).min(), numbers.iter().max());
    match (least, most) {
        (Some(_), Some(&most)) if most == list.len() as i64 => Err(DatasetError::file(
            path,
            format!(
                "holds the label {most}, but the {} labels of `labels` are counted from 0 to {}: is it counted from 1? Subtract 1 (negative = \
             unlabelled), e.g. np.save(name, labels - 1)",
                list.len(),
                most - 1
            ),
        )),
        _ => Ok(()),
    }
}

/// Assigns labels to frames.
struct Placing<'a> {
    trial: &'a TrialSpec,
    path: &'a Path,
    names: Vec<(String, usize)>,
    at: Vec<Option<u16>>,
}

impl<'a> Placing<'a> {
    fn new(trial: &'a TrialSpec, path: &'a Path) -> Self {
        Self { trial, path, names: Vec::new(), at: Vec::new() }
    }

    fn finish(self, per: Per) -> Labels {
        Labels { names: self.names, at: self.at, per, not_seen: 0 }
    }

    fn fault(&self, line: usize, value: impl ToString, cause: LabelFault) -> DatasetError {
        DatasetError::Label {
            trial: self.trial.name.clone(),
            path: self.path.into(),
            line,
            value: value.to_string(),
            cause,
        }
    }

    fn name(&mut self, line: usize, name: &str) -> Result<u16, DatasetError> {
        if let Some(known) = self.names.iter().position(|(known, _)| known == name) {
            return Ok(known as u16);
        }
        if name.len() > LABEL_BYTES_MAX || name.chars().any(char::is_control) {
            let cause =
                LabelFault::Malformed(format!("a label has 1 to {LABEL_BYTES_MAX} bytes and no control characters"));
            return Err(self.fault(line, name, cause));
        }
        self.names.push((name.into(), line));
        Ok(self.names.len() as u16 - 1)
    }

    /// Maps frame numbers of a session to its frames; labels of lost or skipped frames are counted.
    fn by_number(&self, all: Vec<LabelOfFrame>, axis: Axis<'_>) -> Result<(Vec<LabelOfFrame>, usize), DatasetError> {
        let Some(session) = axis.session else { return Ok((all, 0)) };
        let place = session
            .places()
            .map_err(|cause| DatasetError::file(self.path, format!("trial {}: {cause}", self.trial.name)))?;
        let (mut placed, mut not_seen) = (Vec::with_capacity(all.len()), 0);
        for (line, number, name) in all {
            let is_whole = number >= 0.0 && number.fract() == 0.0 && number < 2f64.powi(53);
            match if is_whole { place(number as u64) } else { FrameIndex::Outside } {
                FrameIndex::At(frame) => placed.push((line, frame as f64, name)),
                FrameIndex::Missing => not_seen += 1,
                FrameIndex::Outside => {
                    let end = format!("frame {} of its session", session.last_number());
                    return Err(self.fault(line, format!("frame {number}"), LabelFault::Outside { end }));
                }
            }
        }
        Ok((placed, not_seen))
    }

    fn every(&mut self, all: &[String], axis: Axis<'_>) -> Result<(), DatasetError> {
        if all.len() != axis.rows && all.len() != axis.frames {
            return Err(DatasetError::Lengths {
                trial: self.trial.name.clone(),
                path: self.path.into(),
                found: all.len().to_string(),
                expected: format!("{} (behaviour) or {} (two-photon)", axis.rows, axis.frames),
                unit: "labels",
                by: "the recording".into(),
                advice: "an array of labels has one entry per frame",
            });
        }
        for (frame, name) in all.iter().enumerate() {
            let label = if name.is_empty() { None } else { Some(self.name(frame + 1, name)?) };
            self.at.push(label);
        }
        Ok(())
    }

    fn frames(&mut self, all: &[LabelOfFrame], end: usize) -> Result<(), DatasetError> {
        self.at = vec![None; end];
        for (line, frame, name) in all.iter().filter(|(_, _, name)| !name.is_empty()) {
            if !(*frame >= 0.0 && *frame < end as f64) {
                let from_one = *frame == end as f64 && all.iter().all(|(_, frame, _)| *frame >= 1.0);
                let why = if from_one { ": are the frames counted from 1? They count from 0" } else { "" };
                let end = format!("frame {}{why}", end.saturating_sub(1));
                return Err(self.fault(*line, format!("frame {frame}"), LabelFault::Outside { end }));
            }
            if frame.fract() != 0.0 {
                let cause = LabelFault::Malformed("a frame is a whole number".into());
                return Err(self.fault(*line, format!("frame {frame}"), cause));
            }
            let label = self.name(*line, name)?;
            if let Some(other) = self.at[*frame as usize].filter(|&other| other != label) {
                let other = self.names[usize::from(other)].0.clone();
                return Err(self.fault(*line, format!("frame {frame}, {name:?}"), LabelFault::Twice { other }));
            }
            self.at[*frame as usize] = Some(label);
        }
        Ok(())
    }

    /// `start ≤ time < stop`. The recording ends one period after its last behaviour frame.
    fn intervals(&mut self, all: &mut [Bout], times_s: &[f64], period_s: f64) -> Result<(), DatasetError> {
        self.at = vec![None; times_s.len()];
        let (begin, end) = (times_s.first().copied().unwrap_or(0.0), times_s.last().map_or(0.0, |t| t + period_s));
        all.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        let mut before: Option<(usize, f64)> = None;
        for Bout { line, start_s: start, stop_s: stop, label: name } in all.iter().filter(|bout| !bout.label.is_empty())
        {
            let interval = format!("{name:?} from {start} s to {stop} s");
            if stop <= start {
                return Err(self.fault(
                    *line,
                    interval,
                    LabelFault::Malformed("the end is not after the start".into()),
                ));
            }
            if *start < begin - 1e-6 || *stop > end + 1e-6 {
                let in_ms = *stop > end && *stop / 1e3 <= end;
                let why = if in_ms { ": are the times in ms? They are seconds" } else { "" };
                return Err(self.fault(*line, interval, LabelFault::Outside { end: format!("{end:.3} s{why}") }));
            }
            if let Some((other, _)) = before.filter(|&(_, ended)| *start < ended - 1e-9) {
                return Err(self.fault(*line, interval, LabelFault::Overlap { other }));
            }
            before = Some((*line, *stop));
            let label = self.name(*line, name)?;
            let (from, to) = (times_s.partition_point(|t| t < start), times_s.partition_point(|t| t < stop));
            self.at[from..to].fill(Some(label));
        }
        Ok(())
    }
}
