//! Warnings about data that can still be used.
//!
//! What it must never do: downgrade what makes a result wrong; that is an error.

use std::path::PathBuf;

use crate::preprocess::Squeeze;

/// A warning about data that can still be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DataWarning {
    /// Behaviour with NaN.
    #[error(
        "trial {trial}: {file}: {count} of {of} behaviour frames are NaN or infinite (the first is {first}): the two-photon \
         frames that point to them are left out"
    )]
    NonFiniteBehaviour {
        /// Which trial.
        trial: String,
        /// Which file.
        file: String,
        /// Damaged frames.
        count: usize,
        /// All frames.
        of: usize,
        /// The first damaged one.
        first: usize,
    },
    /// A behaviour file whose frame numbers jump.
    #[error(
        "trial {trial}: {file}: {missing} of {of} behaviour frames have no row: rows are placed by their frame numbers, and the two-photon \
         frames that point to the missing ones are left out"
    )]
    RowsMissing {
        /// Which trial.
        trial: String,
        /// Which file.
        file: String,
        /// Rows that are not there.
        missing: usize,
        /// All rows.
        of: usize,
    },
    /// Behaviour and imaging do not last equally long.
    #[error(
        "trial {trial}: the behaviour lasts {behaviour_s:.1} s ({by}), the imaging {imaging_s:.1} s: check behaviour_rate_hz and the frame rate"
    )]
    Durations {
        /// Which trial.
        trial: String,
        /// By which rate.
        by: String,
        /// s.
        behaviour_s: f64,
        /// s.
        imaging_s: f64,
    },
    /// A recording of which something is missing or uncertain.
    #[error("trial {trial}: {what}")]
    Recording {
        /// Which trial.
        trial: String,
        /// What.
        what: String,
    },
    /// Two-photon frames that do not come at a regular rate.
    #[error(
        "trial {trial}: its frames do not come at a regular rate (by their time stamps up to {off_s:.3} s from it: frames were dropped, or it \
         paused): behaviour is aligned by the time stamps"
    )]
    OwnTimes {
        /// Which trial.
        trial: String,
        /// Largest distance from the regular time, s.
        off_s: f64,
    },
    /// Two-photon frames with NaN.
    #[error("trial {trial}: {count} of {of} two-photon frames have NaN or infinite pixels and are left out")]
    NonFiniteFrames {
        /// Which trial.
        trial: String,
        /// Damaged frames.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// Two-photon frames that preprocessing does not believe, as it would not live.
    #[error(
        "trial {trial}: {count} of {of} two-photon frames are not trusted (dark, flashed, saturated, banded, marked or unlike the          template) and are left out; the thresholds are in [preprocess.trust]"
    )]
    Distrusted {
        /// Which trial.
        trial: String,
        /// How many.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// A warning about a recorded session.
    #[error("trial {trial}: session: {what}")]
    Session {
        /// Which trial.
        trial: String,
        /// What.
        what: String,
    },
    /// A recording whose frames are not all consecutive.
    #[error(
        "trial {trial}: its recording lacks {missing} frame(s) and has {begins} pause(s), new series or resets: {left_out} frames are left \
         out, so that no window lacks more than a tenth of its frames or spans a pause, a new series or a reset"
    )]
    MissingFrames {
        /// Which trial.
        trial: String,
        /// Missing frames, by their numbers.
        missing: u64,
        /// Pauses, series and resets after the first frame.
        begins: usize,
        /// Model frames left out for it.
        left_out: usize,
    },
    /// Frames of a session that preprocessing rejects, as it did live.
    #[error(
        "trial {trial}: {count} of {of} frames of its session have another geometry and were not decoded live: they are skipped"
    )]
    Refused {
        /// Which trial.
        trial: String,
        /// How many.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// Frames of another aspect ratio than the model's input.
    #[error(
        "trial {trial}{}: {squeeze}; the model learns tissue of that shape, so give it only frames of the same proportions later, or crop \
         the recordings to those of the input",
        and_others(*.others)
    )]
    Squeezed {
        /// The first trial with such frames.
        trial: String,
        /// Trials with such frames beside it.
        others: usize,
        /// Both shapes.
        squeeze: Squeeze,
    },
    /// Labels of frames that a session lacks.
    #[error(
        "trial {trial}: {count} labels belong to frames that its session does not contain (lost or skipped live): they are ignored"
    )]
    LabelsNotSeen {
        /// Which trial.
        trial: String,
        /// How many.
        count: usize,
    },
    /// Registration reached its limit.
    #[error(
        "trial {trial}: in {count} of {of} frames the shift is at the limit of the search range: raise registration.reach_px, \
         unless the animal moved too much"
    )]
    AtBound {
        /// Which trial.
        trial: String,
        /// Frames at the bound.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// Two-photon frames without behaviour.
    #[error("trial {trial}: {count} of {of} two-photon frames have no behaviour and are not used for training")]
    FramesWithoutBehaviour {
        /// Which trial.
        trial: String,
        /// Frames without.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// A trial without a usable window.
    #[error(
        "trial {trial}: only {usable} of {frames} frames are usable in a row ({warmup} were warm-up), but a window takes \
         {window}: the trial is not used"
    )]
    TooShort {
        /// Which trial.
        trial: String,
        /// Longest run of usable frames.
        usable: usize,
        /// All frames.
        frames: usize,
        /// Frames before preprocessing was warm.
        warmup: usize,
        /// Frames of a window.
        window: usize,
    },
    /// An animal that never shows some actions.
    #[error("animal {animal} never shows: {labels}; its scores count the other classes only")]
    MissingClasses {
        /// Which animal.
        animal: String,
        /// Which actions.
        labels: String,
    },
    /// A label of the list that no animal shows.
    #[error("no animal shows {label:?}, which is in the list of labels")]
    EmptyClass {
        /// Which action.
        label: String,
    },
    /// The index of an MC2P folder and the rates do not agree.
    #[error(
        "the index has {per_frame:.2} behaviour frames for each two-photon frame, which is {index_hz:.2} Hz at {frame_rate_hz} Hz of \
         two-photon frames, not {assumed_hz}: {used_hz:.2} Hz is used; state --frame-rate and --behaviour-rate"
    )]
    BehaviourRate {
        /// Behaviour frames for each two-photon frame, median over the trials.
        per_frame: f64,
        /// Two-photon frames per second, stated or assumed.
        frame_rate_hz: f64,
        /// Behaviour frames per second by the index.
        index_hz: f64,
        /// What was stated, or the usual rate.
        assumed_hz: f64,
        /// What is used.
        used_hz: f64,
    },
    /// Only one animal.
    #[error(
        "there is only one animal ({animal}): across-animal scores, behavioural and neural swap, `simclr-grl`, `simclr-mmd` and \
         `simclr-coral` are impossible"
    )]
    OneAnimal {
        /// Which one.
        animal: String,
    },
    /// No labels.
    #[error("no trial has labels: the encoder can be trained, but no action can be decoded and nothing evaluated")]
    NoLabels,
    /// More than one file matched.
    #[error("trial {trial}: {chosen} is used as the {what}; not read: {others}")]
    Chosen {
        /// Which trial.
        trial: String,
        /// For what.
        what: &'static str,
        /// The one taken.
        chosen: String,
        /// The others.
        others: String,
    },
    /// Ready ΔF/F is trained on.
    #[error(
        "the frames are ready-made ΔF/F: no live daemon can produce this input, and `haltere run` refuses such a model unless \
         `accept_ready_made_input` is set"
    )]
    ReadyMade,
    /// The cache is not next to the data.
    #[error("{} cannot be written ({cause}): the cache is in {} instead", wanted.display(), used.display())]
    CacheElsewhere {
        /// Where it should be.
        wanted: PathBuf,
        /// Why it is not.
        cause: String,
        /// Where it is.
        used: PathBuf,
    },
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and one other".to_owned(),
        _ => format!(" and {count} others"),
    }
}
