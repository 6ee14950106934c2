//! Assembles trials from their parts: behaviour, labels and masks are mapped onto model frames.
//!
//! Why it exists: files refer to behaviour frames and two-photon frames, a model to its own (perhaps averaged) frames. What it must
//! never do: read frames, or drop a fault.

use ndarray::{Array2, Axis as Along};
use sha2::{Digest, Sha256};

use super::arrays;
use super::checks;
use super::error::DatasetError;
use super::frames::{Probe, file_name};
use super::labels;
use super::missing_frames::MissingFrames;
use super::own_times;
use super::prepare::{Prepared, Recipe};
use super::spec::{DataSpec, Neural, Per, TrialSpec};
use super::synchrony::{Axis, Synchronised, place_rows, synchronise};
use super::table::Table;
use super::target_rows;
use super::trials::{Dataset, NO_BEHAVIOUR, Origin, Trial};
use super::warning::DataWarning;
use crate::sys::files::hex;

/// Everything of a trial except its frames.
#[derive(Debug)]
pub(super) struct Read {
    /// Two-photon frames.
    pub frames: usize,
    /// Names of the behaviour's columns.
    pub columns: Vec<String>,
    /// Behaviour; rows that were not finite repeat the last one that was.
    pub behaviour: Array2<f32>,
    /// For each two-photon frame, its newest behaviour frame.
    pub newest: Vec<u32>,
    /// For each two-photon frame, its label.
    pub label: Vec<Option<u8>>,
    /// The targets, `[two-photon frames, targets]`; NaN where they are not known.
    pub targets: Array2<f32>,
    /// Two-photon frames to leave out: masked, or their behaviour was not finite.
    pub left_out: Vec<bool>,
    /// For a session, the frames missing before each two-photon frame, `None` where a series begins. Empty for other recordings.
    pub missing: Vec<Option<u64>>,
}

/// Reads and checks behaviour, synchrony, labels and mask.
pub(super) fn read(
    trial: &TrialSpec,
    probe: &Probe,
    (spec, frame_rate_hz): (&DataSpec, f64),
    names: &[String],
    warnings: &mut Vec<DataWarning>,
) -> Result<Read, DatasetError> {
    let behaviour_rate_hz = spec.behaviour_rate_hz;
    let mut table = arrays::table(&trial.behaviour, &trial.columns, &trial.pick)?;
    // Where each row has a time of its own, the file's own numbers do not place it.
    if trial.synchrony.takes_rows_as_regular() {
        let missing = place_rows(trial, &trial.behaviour, &mut table, behaviour_rate_hz)?;
        if missing > 0 {
            let (trial, file, of) = (trial.name.clone(), file_name(&trial.behaviour), table.values.nrows());
            warnings.push(DataWarning::RowsMissing { trial, file, missing, of });
        }
    }
    let Table { mut values, names: columns, .. } = table;
    let (frames, session) = (probe.frames, probe.session.as_deref());
    let begins_s = if trial.synchrony.needs_own_times() {
        own_times::irregular(trial, probe, frame_rate_hz, warnings)?
    } else {
        None
    };
    let begins_s = begins_s.as_deref();
    let first_s = probe.times_ns.first().map(|ns| *ns as f64 / 1e9);
    let axis = Axis { rows: values.nrows(), frames, frame_rate_hz, behaviour_rate_hz, session, begins_s, first_s };
    let of_session = session.map(|session| session.warnings()).unwrap_or_default().iter();
    warnings.extend(of_session.map(|what| DataWarning::Session { trial: trial.name.clone(), what: what.clone() }));
    let of_recording = probe.about.warnings.iter();
    warnings.extend(of_recording.map(|what| DataWarning::Recording { trial: trial.name.clone(), what: what.clone() }));
    let Synchronised { frame_of, times_s } = synchronise(trial, axis, warnings)?;
    let newest = newest(&frame_of, axis);
    let targets = target_rows::of_frames(trial, spec, (&values, &columns), &newest)?;
    let damaged = checks::behaviour(trial, &values, warnings)?;
    hold_last(&mut values, &damaged);
    let mut left_out = mask(trial, axis, &newest)?;
    let label = match &trial.labels {
        Some(file) => {
            let read = labels::read(trial, file, axis, &times_s, spec.labels.as_deref())?;
            if read.not_seen > 0 {
                let (trial, count) = (trial.name.clone(), read.not_seen);
                warnings.push(DataWarning::LabelsNotSeen { trial, count });
            }
            checks::known(trial, file, &read, names)?;
            label_of_frames(&read, &newest, names)
        }
        None => vec![None; frames],
    };
    for (out, &row) in left_out.iter_mut().zip(&newest) {
        *out |= row != NO_BEHAVIOUR && damaged[row as usize];
    }
    let without = newest.iter().filter(|&&row| row == NO_BEHAVIOUR).count();
    if without > 0 {
        let (trial, count, of) = (trial.name.clone(), without, frames);
        warnings.push(DataWarning::FramesWithoutBehaviour { trial, count, of });
    }
    let missing = session.map(|session| session.missing()).unwrap_or_default();
    Ok(Read { frames, columns, behaviour: values, newest, label, targets, left_out, missing })
}

/// Replaces rows that are not finite by the last finite one (at the start, by the first), so that windows across them stay
/// finite; the frames that point to them are left out.
fn hold_last(values: &mut Array2<f32>, damaged: &[bool]) {
    let Some(first) = damaged.iter().position(|bad| !bad) else { return };
    let mut good = first;
    for (row, &bad) in damaged.iter().enumerate() {
        if bad {
            let copy = values.row(good).to_owned();
            values.row_mut(row).assign(&copy);
        } else {
            good = row;
        }
    }
}

/// For each two-photon frame, the newest behaviour frame that belongs to it. Where the cameras are slower than the microscope, a
/// behaviour frame is held for as many frames as its period lasts.
fn newest(frame_of: &[i64], axis: Axis<'_>) -> Vec<u32> {
    let mut newest = vec![NO_BEHAVIOUR; axis.frames];
    for (row, &frame) in frame_of.iter().enumerate().filter(|(_, frame)| **frame >= 0) {
        newest[frame as usize] = row as u32;
    }
    let stays = (axis.frame_rate_hz / axis.behaviour_rate_hz).ceil() as usize;
    let mut age = stays;
    for frame in 0..axis.frames {
        age = if newest[frame] == NO_BEHAVIOUR { age.saturating_add(1) } else { 0 };
        if (1..stays).contains(&age) {
            newest[frame] = newest[frame - 1];
        }
    }
    newest
}

/// Two-photon frames that the mask leaves out. Its length decides whether it is per behaviour frame or per two-photon frame.
fn mask(trial: &TrialSpec, axis: Axis<'_>, newest: &[u32]) -> Result<Vec<bool>, DatasetError> {
    let Some(path) = &trial.mask else { return Ok(vec![false; axis.frames]) };
    let flags = arrays::flags(path)?;
    if flags.len() == axis.frames {
        return Ok(flags);
    }
    if flags.len() == axis.rows {
        return Ok(newest.iter().map(|&row| row != NO_BEHAVIOUR && flags[row as usize]).collect());
    }
    Err(DatasetError::Lengths {
        trial: trial.name.clone(),
        path: path.clone(),
        found: flags.len().to_string(),
        expected: format!("{} (behaviour) or {} (two-photon)", axis.rows, axis.frames),
        unit: "flags",
        by: "the recording".into(),
        advice: "a mask has one flag per frame, true = leave out",
    })
}

fn label_of_frames(read: &labels::Labels, newest: &[u32], names: &[String]) -> Vec<Option<u8>> {
    let index = |name: &String| names.iter().position(|known| known == name).map(|at| at as u8);
    let global: Vec<Option<u8>> = read.names.iter().map(|(name, _)| index(name)).collect();
    let of = |at: Option<u16>| at.and_then(|at| global[usize::from(at)]);
    let behind = |&row: &u32| if row == NO_BEHAVIOUR { None } else { of(read.at[row as usize]) };
    match read.per {
        Per::Behaviour => newest.iter().map(behind).collect(),
        Per::Frame => read.at.iter().map(|&at| of(at)).collect(),
    }
}

/// A data set, and how many frames of each trial were warm-up.
pub(super) struct Assembled {
    pub data: Dataset,
    pub warmup: Vec<usize>,
}

/// Puts the trials together, in the order of their animals.
pub(super) fn assemble(
    spec: &DataSpec,
    trials: &[&TrialSpec],
    recipe: &Recipe,
    labels: Vec<String>,
    read: Vec<Read>,
    prepared: Vec<Prepared>,
    warnings: &mut Vec<DataWarning>,
) -> Assembled {
    let mut animals: Vec<String> = Vec::new();
    let mut hash = Sha256::new();
    let rates = [recipe.frame_rate_hz, spec.behaviour_rate_hz];
    hash.update(format!("{rates:?} {labels:?} {:?} {:?}", recipe.input, recipe.parameters));
    let behaviour_columns = read.first().map(|r| r.columns.clone()).unwrap_or_default();
    let warmup = prepared.iter().map(|p| p.notes.warmup).collect();
    let mut made = Vec::new();
    for ((trial, read), prepared) in trials.iter().zip(read).zip(prepared) {
        let known = animals.iter().position(|animal| *animal == trial.animal);
        let animal = known.unwrap_or_else(|| {
            animals.push(trial.animal.clone());
            animals.len() - 1
        });
        warn(trial, &prepared, read.frames, warnings);
        let key = prepared.key.clone();
        let discontinuous = discontinuous(trial, &read, &prepared, recipe.window_frames, warnings);
        let one = join(trial, animal, read, prepared, &discontinuous);
        digest(&mut hash, &trial.animal, &key, &one);
        made.push(one);
    }
    let data = Dataset {
        animals,
        labels,
        targets: spec.targets.clone(),
        behaviour_columns,
        input: recipe.input,
        frame_rate_hz: recipe.model_rate_hz(),
        behaviour_rate_hz: spec.behaviour_rate_hz,
        origin: origin(trials, recipe),
        sha256: hex(&hash.finalize()),
        trials: made,
        facts: Vec::new(),
    };
    Assembled { data, warmup }
}

fn origin(trials: &[&TrialSpec], recipe: &Recipe) -> Origin {
    if let Some(parameters) = &recipe.parameters {
        return Origin::Preprocessed(Box::new(parameters.clone()));
    }
    let file = trials.iter().find_map(|trial| match &trial.neural {
        Neural::Ready { path, .. } => Some(file_name(path)),
        _ => None,
    });
    let file = file.unwrap_or_default();
    Origin::ReadyMade {
        note: format!("ready ΔF/F ({file}), scaled to mean 0 and sd 1 per pixel over each whole trial"),
    }
}

/// Adds the warnings of preparation.
fn warn(trial: &TrialSpec, prepared: &Prepared, frames: usize, warnings: &mut Vec<DataWarning>) {
    let notes = &prepared.notes;
    let name = || trial.name.clone();
    if notes.refused > 0 {
        warnings.push(DataWarning::Refused { trial: name(), count: notes.refused, of: frames });
    }
    if notes.non_finite > 0 {
        let (count, of) = (notes.non_finite, notes.usable.len());
        warnings.push(DataWarning::NonFiniteFrames { trial: name(), count, of });
    }
    if !notes.distrusted.is_empty() {
        warnings.push(DataWarning::Distrusted { trial: name(), count: notes.distrusted.len(), of: frames });
    }
    // An occasional shift at the bound is a jump of the animal; one in twenty means that the search range is too small.
    if notes.at_bound * 20 > frames {
        warnings.push(DataWarning::AtBound { trial: name(), count: notes.at_bound, of: frames });
    }
}

/// Model frames at which a session is not continuous.
fn discontinuous(
    trial: &TrialSpec,
    read: &Read,
    prepared: &Prepared,
    window_frames: usize,
    warnings: &mut Vec<DataWarning>,
) -> Vec<bool> {
    let notes = &prepared.notes;
    let missing_frames = MissingFrames {
        missing: &read.missing,
        resets: &notes.resets,
        restarts: &notes.restarts,
        distrusted: &notes.distrusted,
    };
    let discontinuous = missing_frames.discontinuous(&notes.last_frame, window_frames);
    let (missing, begins) = missing_frames.counts();
    if missing > 0 || begins > 0 {
        let left_out = discontinuous.iter().filter(|discontinuous| **discontinuous).count();
        warnings.push(DataWarning::MissingFrames { trial: trial.name.clone(), missing, begins, left_out });
    }
    discontinuous
}

/// From two-photon frames to model frames: each takes the values of the last frame of its group.
fn join(trial: &TrialSpec, animal: usize, read: Read, prepared: Prepared, discontinuous: &[bool]) -> Trial {
    let last = &prepared.notes.last_frame;
    let good = prepared.notes.usable.iter().zip(discontinuous).map(|(&good, &discontinuous)| good && !discontinuous);
    let usable = good.zip(last).map(|(good, &f)| good && !read.left_out[f as usize]);
    Trial {
        name: trial.name.clone(),
        animal,
        usable: usable.collect(),
        behaviour_at: last.iter().map(|&f| read.newest[f as usize]).collect(),
        label: last.iter().map(|&f| read.label[f as usize]).collect(),
        targets: read.targets.select(Along(0), &last.iter().map(|&f| f as usize).collect::<Vec<_>>()),
        frames: prepared.store,
        behaviour: read.behaviour,
    }
}

fn digest(hash: &mut Sha256, animal: &str, key: &str, trial: &Trial) {
    for text in [animal, key, &trial.name] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(format!("{:?}", trial.behaviour.shape()));
    for row in trial.behaviour.axis_iter(Along(0)) {
        row.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    for ((&row, label), &usable) in trial.behaviour_at.iter().zip(&trial.label).zip(&trial.usable) {
        hash.update(row.to_le_bytes());
        hash.update([label.map_or(255, |l| l), u8::from(label.is_some()), u8::from(usable)]);
    }
    trial.targets.iter().for_each(|value| hash.update(value.to_le_bytes()));
}
