//! The trials and their files, as listed by a `dataset.toml` or found by walking MC2P folders.
//!
//! What it must never do: read more of a file than its header.

use std::path::PathBuf;

use super::table::{Columns, Pick};
use super::targets::Target;
use super::warning::DataWarning;
use crate::model::parameters::Parameters;
use crate::source::raw::RawLayout;
use crate::source::{FrameClock, RecordingSpec};

/// The description of a data set: which trials, which files, which rates.
#[derive(Clone, Debug)]
pub struct DataSpec {
    /// The folder or file that describes it, for messages.
    pub(super) path: PathBuf,
    /// Default place of the cache.
    pub(super) home: PathBuf,
    /// Order of the labels; without it they are sorted by name.
    pub(super) labels: Option<Vec<String>>,
    /// Numbers to decode beside or instead of actions, or none.
    pub(super) targets: Vec<Target>,
    /// Preprocessing, where the description names it.
    pub parameters: Option<Parameters>,
    /// Two-photon frames per second, before averaging; `None` = by the recordings' own metadata.
    pub(super) frame_rate_hz: Option<f64>,
    /// Behaviour frames per second.
    pub(super) behaviour_rate_hz: f64,
    /// The trials, grouped by animal.
    pub(super) trials: Vec<TrialSpec>,
    /// Warnings about the folders.
    pub(super) warnings: Vec<DataWarning>,
}

/// The files of one trial.
#[derive(Clone, Debug)]
pub(super) struct TrialSpec {
    pub name: String,
    pub animal: String,
    pub neural: Neural,
    pub behaviour: PathBuf,
    pub columns: Columns,
    pub pick: Pick,
    pub synchrony: Synchrony,
    pub labels: Option<LabelFile>,
    /// The file with the columns of the targets; `None` = that of the behaviour.
    pub targets: Option<PathBuf>,
    /// True = leave out.
    pub mask: Option<PathBuf>,
}

/// The frames of a trial.
#[derive(Clone, Debug)]
pub(super) enum Neural {
    /// Anything the corridor reads.
    Recording(Box<RecordingSpec>),
    /// One headerless file per channel.
    Planar { channels: Vec<PathBuf>, layout: RawLayout },
    /// ΔF/F made elsewhere: (frames, height, width) of little-endian float32 after `data_at` bytes.
    Ready { path: PathBuf, frames: usize, height: usize, width: usize, data_at: usize },
}

/// How behaviour frames find their two-photon frame.
#[derive(Clone, Debug)]
pub(super) enum Synchrony {
    /// A file with the two-photon frame of every behaviour frame; negative = before imaging began.
    Index(PathBuf),
    /// Timestamps of the behaviour frames and of the two-photon frames; without the latter, those of a session on this clock, or
    /// regular from 0 s for other recordings.
    Times { behaviour: PathBuf, frames: Option<PathBuf>, clock: FrameClock },
    /// Regular behaviour frames, and two-photon frames that are regular or timed by a session; behaviour frame 0 comes this many
    /// seconds after the start of two-photon frame 0.
    Offset {
        /// Seconds.
        seconds: f64,
        /// The user stated it, and so knows that the two need not begin or end together.
        stated: bool,
    },
    /// The lines recorded by ThorSync.
    ThorSync { path: PathBuf, camera_line: Option<String>, counts_per_frame: usize },
    /// The voltage recording of PrairieView.
    Voltage { path: PathBuf, camera_line: Option<String> },
}

impl Synchrony {
    /// Are the rows of behaviour placed by their number, so that a missing one must be filled?
    pub fn takes_rows_as_regular(&self) -> bool {
        matches!(self, Self::Offset { .. } | Self::ThorSync { .. } | Self::Voltage { .. })
    }

    /// Are rows compared with the recording's own times? What the user gives of all frames, and ThorSync, needs none.
    pub fn needs_own_times(&self) -> bool {
        matches!(self, Self::Offset { .. } | Self::Times { frames: None, .. } | Self::Voltage { .. })
    }
}

/// A file of labels.
#[derive(Clone, Debug)]
pub(super) struct LabelFile {
    pub path: PathBuf,
    pub per: Per,
    pub who: Who,
}

/// Whose bouts, where a file of BORIS holds those of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Who {
    pub subject: Option<String>,
    pub observation: Option<String>,
}

/// What a `frame` column counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Per {
    /// Behaviour frames.
    #[default]
    Behaviour,
    /// Two-photon frames.
    Frame,
}

impl DataSpec {
    /// Trials of `animals` (of all animals, if none is named), and how many of them have labels.
    pub fn labelled_trials(&self, animals: &[String]) -> (usize, usize) {
        let chosen = |trial: &&TrialSpec| animals.is_empty() || animals.contains(&trial.animal);
        let chosen: Vec<&TrialSpec> = self.trials.iter().filter(chosen).collect();
        (chosen.len(), chosen.iter().filter(|trial| trial.labels.is_some()).count())
    }

    /// Names of the animals, in the order of their first trial.
    pub fn animals(&self) -> Vec<String> {
        let mut animals: Vec<String> = Vec::new();
        for trial in &self.trials {
            if !animals.contains(&trial.animal) {
                animals.push(trial.animal.clone());
            }
        }
        animals
    }

    /// The folder of each trial's behaviour, of the trials of `animals` (of all, if none is named), in the order in which they are loaded:
    /// by animal.
    pub fn trial_folders(&self, animals: &[String]) -> Vec<PathBuf> {
        let known = self.animals();
        let chosen = |trial: &&TrialSpec| animals.is_empty() || animals.contains(&trial.animal);
        let mut trials: Vec<&TrialSpec> = self.trials.iter().filter(chosen).collect();
        trials.sort_by_key(|trial| known.iter().position(|animal| *animal == trial.animal));
        let folder = |trial: &TrialSpec| trial.behaviour.parent().unwrap_or(std::path::Path::new("")).to_owned();
        trials.into_iter().map(folder).collect()
    }

    /// Names of the trials with their animals, for listings.
    pub fn trials(&self) -> Vec<(&str, &str)> {
        self.trials.iter().map(|t| (t.animal.as_str(), t.name.as_str())).collect()
    }
}
