//! What is odd about data that can nevertheless be used.
//!
//! Why it exists: a user must know it before training, and training must go on. What it must never do: hide what makes a result
//! wrong; that is an error.

use std::path::PathBuf;

/// What is odd about data that can be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DataWarning {
    /// Behaviour with NaN.
    #[error(
        "trial {trial}: {file}: {count} of {of} behaviour frames are NaN or infinite (the first is {first}): frames that \
         point there are left out"
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
    /// Two-photon frames with NaN.
    #[error("trial {trial}: {count} of {of} two-photon frames hold NaN or infinite pixels: left out")]
    NonFiniteFrames {
        /// Which trial.
        trial: String,
        /// Damaged frames.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// What must be known of a recorded session.
    #[error("trial {trial}: its session: {what}")]
    Session {
        /// Which trial.
        trial: String,
        /// What.
        what: String,
    },
    /// A session in which frames do not follow each other.
    #[error(
        "trial {trial}: {missing} frames are missing in its session, and {begins} times a series or, by a reset, everything begins \
         anew: {left_out} frames are left out, so that no window misses more than a tenth or reaches over a new begin"
    )]
    Holes {
        /// Which trial.
        trial: String,
        /// Frames that are not there, by their numbers.
        missing: u64,
        /// Series and resets after the first frame.
        begins: usize,
        /// Model frames left out for it.
        left_out: usize,
    },
    /// Frames of a session that were refused live and are again.
    #[error(
        "trial {trial}: {count} of {of} frames of its session are of another geometry and were not decoded live: passed over"
    )]
    Refused {
        /// Which trial.
        trial: String,
        /// How many.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// Labels of frames that a session lacks.
    #[error(
        "trial {trial}: {count} labels are of frames that its session does not hold (lost or skipped live): they say nothing"
    )]
    LabelsNotSeen {
        /// Which trial.
        trial: String,
        /// How many.
        count: usize,
    },
    /// Registration was at its limit.
    #[error(
        "trial {trial}: in {count} of {of} frames the shift lies at the end of the search range: raise \
         registration.reach_px, or the animal moved too much"
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
    #[error("trial {trial}: {count} of {of} two-photon frames have no behaviour: they are not learnt from")]
    FramesWithoutBehaviour {
        /// Which trial.
        trial: String,
        /// Frames without.
        count: usize,
        /// All frames.
        of: usize,
    },
    /// A trial that gives nothing.
    #[error(
        "trial {trial}: only {usable} of {frames} frames are usable in a row ({warmup} were warm-up), a window takes \
         {window}: nothing can be learnt from it"
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
    #[error("animal {animal} never shows: {labels}; scores over it count the other classes only")]
    MissingClasses {
        /// Which animal.
        animal: String,
        /// Which actions.
        labels: String,
    },
    /// A class of the list that nobody shows.
    #[error("no animal shows {label:?}, which the list of labels names")]
    EmptyClass {
        /// Which action.
        label: String,
    },
    /// Only one animal.
    #[error(
        "there is one animal only ({animal}): across-animal scores, swaps between animals, `simclr+grl`, `simclr+mmd` and \
         `simclr+coral` are impossible"
    )]
    OneAnimal {
        /// Which one.
        animal: String,
    },
    /// Nobody said what the animals do.
    #[error("no trial has labels: the encoder can be trained, but nothing can be decoded or evaluated")]
    NoLabels,
    /// More than one file fitted.
    #[error("trial {trial}: {chosen} is taken for the {what}; not read: {others}")]
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
        "the frames are ready-made ΔF/F: no live daemon can make this input, and `haltere run` refuses such a model unless \
         told to accept it"
    )]
    ReadyMade,
    /// The cache does not lie beside the data.
    #[error("{} cannot be written ({cause}): the cache lies in {} instead", wanted.display(), used.display())]
    CacheElsewhere {
        /// Where it should be.
        wanted: PathBuf,
        /// Why it is not.
        cause: String,
        /// Where it is.
        used: PathBuf,
    },
}
