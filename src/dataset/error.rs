//! What is wrong with a data set: which trial, file, frame and value, and what to do.
//!
//! A data set of many animals is never clean, and a message that does not name the place costs an afternoon.

use std::path::PathBuf;

use crate::preprocess::BuildError;
use crate::sys::exit::{ExitCode, HasExitCode};

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file that cannot be read, or does not contain what it should.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        cause: String,
    },
    /// `dataset.toml` does not parse: syntax, unknown or missing keys, with the line.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, key, reason and the nearest known key.
        message: String,
    },
    /// An invalid value.
    #[error("{}: {key} = {value}: {bound}", path.display())]
    Value {
        /// Which file (or folder, for options of an MC2P folder).
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// What was written.
        value: String,
        /// What is allowed.
        bound: String,
    },
    /// No trial in a folder.
    #[error(
        "{}: contains no trial: a trial is a folder with `indices.npy` (or `sync_indices.*`), its frames \
         (`green.mm`, `red.mm` or `*dff*.mm`) and its behaviour (`*pose*`, `*angles*`); {hint}", folder.display()
    )]
    Empty {
        /// The folder that was searched.
        folder: PathBuf,
        /// What was found instead.
        hint: String,
    },
    /// A trial folder that lacks a file.
    #[error("trial {trial}: {} has no {what}; it contains: {found}", folder.display())]
    Lacks {
        /// Which trial.
        trial: String,
        /// Its folder.
        folder: PathBuf,
        /// What is missing, with the names it may have.
        what: &'static str,
        /// Files in the folder.
        found: String,
    },
    /// The animal of a trial is not known.
    #[error(
        "trial {trial}: which animal? Nest the folders (ANIMAL/TRIAL), name the folder with `Fly<N>` (210830_Fly1_003 is animal \
         210830_Fly1), or write a dataset.toml"
    )]
    AnimalOf {
        /// Which trial.
        trial: String,
    },
    /// The data do not have the requested animal.
    #[error("there is no animal {asked:?}; the data have: {known}")]
    AnimalUnknown {
        /// The requested animal.
        asked: String,
        /// What there is.
        known: String,
    },
    /// Nothing left after choosing animals.
    #[error("no animal is left of {known}: choose more, or leave out fewer")]
    NoAnimalLeft {
        /// What there was.
        known: String,
    },
    /// A Python pickle: a program, which is never run.
    #[error(
        "{}: is a Python pickle; unpickling runs whatever code it contains, so it is not read. If you trust the file, convert \
         it once: python -c \"import numpy as np, pickle; np.save('{stem}.npy', np.asarray(pickle.load(open('{name}', 'rb'))))\"",
        path.display()
    )]
    Pickle {
        /// Which file.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Its name without extension.
        stem: String,
    },
    /// Two files of a trial do not fit together.
    #[error("trial {trial}: {}: {found} {unit}, but {expected} {unit} by {by}: {advice}", path.display())]
    Lengths {
        /// Which trial.
        trial: String,
        /// The file that does not fit.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
        /// Of what.
        unit: &'static str,
        /// Where that number comes from.
        by: String,
        /// What to do.
        advice: &'static str,
    },
    /// A behaviour frame points to a two-photon frame that does not exist.
    #[error(
        "trial {trial}: {}: behaviour frame {row} points to two-photon frame {value}, but the recording has {frames} \
         (0 to {last}): the index belongs to another recording or counts from 1, or the frames are truncated", path.display()
    )]
    IndexPastEnd {
        /// Which trial.
        trial: String,
        /// The index file.
        path: PathBuf,
        /// Behaviour frame.
        row: usize,
        /// Where it points.
        value: i64,
        /// Frames of the recording.
        frames: usize,
        /// The last of them.
        last: usize,
    },
    /// An index or a timestamp smaller than the one before it.
    #[error(
        "trial {trial}: {}: entry {row} is {value} after {before}: entries must never decrease; split a restarted recording \
         into two trials", path.display()
    )]
    Backwards {
        /// Which trial.
        trial: String,
        /// Which file.
        path: PathBuf,
        /// Which entry.
        row: usize,
        /// Its value.
        value: String,
        /// The value before it.
        before: String,
    },
    /// More than half of something is NaN or infinite.
    #[error(
        "trial {trial}: {}: {count} of {of} frames are NaN or infinite (the first is frame {first}); at most half may be: \
         repair the file, or leave the trial out", path.display()
    )]
    NonFinite {
        /// Which trial.
        trial: String,
        /// Which file.
        path: PathBuf,
        /// Damaged frames.
        count: usize,
        /// All frames.
        of: usize,
        /// The first damaged one.
        first: usize,
    },
    /// No two-photon frame has behaviour.
    #[error(
        "trial {trial}: no two-photon frame has behaviour: the synchronisation ({by}) puts all {rows} behaviour frames outside \
         the recording of {frames} frames"
    )]
    NoBehaviour {
        /// Which trial.
        trial: String,
        /// How they were synchronised.
        by: &'static str,
        /// Behaviour frames.
        rows: usize,
        /// Two-photon frames.
        frames: usize,
    },
    /// A label that cannot be placed.
    #[error("trial {trial}: {}: line {line}: {value}: {cause}", path.display())]
    Label {
        /// Which trial.
        trial: String,
        /// The label file.
        path: PathBuf,
        /// Its line (an entry of an array counts as a line, from 1).
        line: usize,
        /// What stands there.
        value: String,
        /// What is wrong.
        cause: LabelFault,
    },
    /// Trials with different behaviour.
    #[error(
        "trial {trial}: {}: {found} behaviour columns, but {expected} in trial {other}: all trials need the same columns in \
         the same order", path.display()
    )]
    Columns {
        /// Which trial.
        trial: String,
        /// Its behaviour file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What the first trial has.
        expected: String,
        /// The first trial.
        other: String,
    },
    /// Raw frames in one trial, ready ΔF/F in another.
    #[error(
        "trial {ready} has only ready-made ΔF/F, but trial {raw} has raw frames: a model has one kind of input; leave one out"
    )]
    MixedOrigin {
        /// A trial with ready ΔF/F.
        ready: String,
        /// A trial with raw frames.
        raw: String,
    },
    /// A recording at another rate.
    #[error(
        "trial {trial}: its recording runs at {found_hz} Hz, but the data set at {expected_hz} Hz: all trials need the same rate \
         (within 10 %); leave it out, or correct `rate_hz`"
    )]
    Rate {
        /// Which trial.
        trial: String,
        /// Of the recording.
        found_hz: f64,
        /// Of the data set.
        expected_hz: f64,
    },
    /// Frames that do not fit the model's input.
    #[error("trial {trial}: frames of {found} do not fit an input of {input}: {advice}")]
    Input {
        /// Which trial.
        trial: String,
        /// Channels × height × width of its frames.
        found: String,
        /// Of the model.
        input: String,
        /// What to do.
        advice: String,
    },
    /// Preprocessing rejects its parameters.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Preprocessing rejects a frame, or the recording is truncated.
    #[error("trial {trial}: frame {frame}: {cause}")]
    Frame {
        /// Which trial.
        trial: String,
        /// Which frame.
        frame: u64,
        /// Why, and what to do.
        cause: String,
    },
    /// The cache folder cannot be used.
    #[error("cache folder {}: {cause}; choose another one with --cache", folder.display())]
    Cache {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        cause: String,
    },
    /// No space for the cache.
    #[error(
        "cache folder {}: the disk is full; the frames of trial {trial} take {mib} MiB: free some space, or choose another \
         folder with --cache. Finished trials are kept.", folder.display()
    )]
    DiskFull {
        /// Which folder.
        folder: PathBuf,
        /// Whose frames did not fit.
        trial: String,
        /// What they take.
        mib: u64,
    },
    /// No trial has a usable window.
    #[error(
        "not one window of {window} frames is usable: the longest trial, {trial}, has {usable} usable frames of {frames} \
         ({warmup} of them warm-up): record longer trials, or shorten `registration.template_frames` and \
         `normalise.warmup_frames`"
    )]
    NothingUsable {
        /// Frames of a window.
        window: usize,
        /// The trial with most usable frames.
        trial: String,
        /// Its usable frames.
        usable: usize,
        /// All its frames.
        frames: usize,
        /// Its frames before preprocessing was warm.
        warmup: usize,
    },
    /// No atlas can be made of the data.
    #[error("there is no atlas: {cause}")]
    Atlas {
        /// Why, and what to do.
        cause: String,
    },
    /// More than one thing is wrong.
    #[error("{} things are wrong with the data:{}", .0.len(), listed(.0))]
    Several(Vec<DatasetError>),
}

impl HasExitCode for DatasetError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Source
    }
}

/// What is wrong with a label.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LabelFault {
    /// A frame or a time that was not recorded.
    #[error("lies outside the recording, which ends at {end}")]
    Outside {
        /// End of the recording, frames or seconds.
        end: String,
    },
    /// Two intervals at once.
    #[error("overlaps the interval of line {other}: only one action at a time is possible; shorten one of them")]
    Overlap {
        /// The other line.
        other: usize,
    },
    /// A frame with two labels.
    #[error("this frame already has the label {other:?}")]
    Twice {
        /// The first label.
        other: String,
    },
    /// A label that is not in the list.
    #[error("is not in the list of labels ({known}){hint}")]
    Unknown {
        /// The list.
        known: String,
        /// The nearest known label, if one is near.
        hint: String,
    },
    /// Not a number, an end before a start, an invalid name.
    #[error("{0}")]
    Malformed(String),
}

fn listed(errors: &[DatasetError]) -> String {
    errors.iter().map(|error| format!("\n  - {error}")).collect()
}

impl DatasetError {
    /// A file and what is wrong with it.
    pub(super) fn file(path: &std::path::Path, cause: impl ToString) -> Self {
        Self::File { path: path.into(), cause: cause.to_string() }
    }

    /// One error as itself, several as a list.
    pub(super) fn gathered(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}
