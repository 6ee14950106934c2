//! The comparison: every method on every population, one training and one result file each, so that an interrupted comparison
//! continues where it stopped.
//!
//! Why it exists: a claim about methods is a table over animals and seeds next to chance, not one lucky run. What it must never
//! do: let an encoder see an animal that counts as unseen, or a label of an animal that it is scored on.
//!
//! An encoder is trained on all animals of a population except the unseen ones, and answers all four questions: single-animal,
//! across-animal and identity on the animals it saw, unseen on the others. One training serves all, and an encoder that does
//! well on its own animals cannot hide how it does on the next.
//!
//! What learns from the labels of every animal it sees (`supervised`, and a contrast with a `label_weight`) is judged on animals that it
//! never saw, by the classifier that it was trained with: its across-animal score is its unseen score, and it has no single-animal score.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::augment::Augmentations;
use super::behaviour::Behaviour;
use super::export::accept::samples_of;
use super::fit::{Checkpoints, Ended, Fit, FitError, Progress};
use super::represent::represent;
use super::settings::{Method, TrainSettings};
use crate::dataset::trials::{Dataset, Representation};
use crate::evaluate::domain_gap::{DomainGap, GapOptions, domain_gap};
use crate::evaluate::probe::Probe;
use crate::evaluate::questions::{EvaluateError, Evaluation, Options, Question, evaluate_question};
use crate::evaluate::rivals::Rival;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_text_bounded};

/// An outcome that an earlier run wrote.
const RESULT: Bound = Bound::new("an outcome", 1 << 30);

/// What an ablation leaves out besides the augmentations.
const ALIGNMENT: &str = "alignment between animals";
/// How representations are scored, counted up with every change: results that were scored otherwise are not mixed in. 2: penalties
/// are chosen inside training. 3: what learns from labels decodes unseen animals by its own classifier.
const SCORING: u32 = 3;

/// One row of the comparison: a method, perhaps without one of its augmentations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contender {
    /// The method.
    pub method: Method,
    /// The augmentation that is switched off, by its name.
    pub without: Option<String>,
}

impl Contender {
    /// Its name in tables.
    pub fn name(&self) -> String {
        match &self.without {
            Some(switch) => format!("{} without {switch}", self.method.name()),
            None => self.method.name().to_owned(),
        }
    }

    /// The rows of an ablation of `haltere`: each augmentation, and the alignment between animals.
    pub fn ablation() -> Vec<Self> {
        let names = Augmentations::switches().into_iter().map(|(name, _)| name).chain([ALIGNMENT]);
        let without = |name: &str| Self { method: Method::Haltere, without: Some(name.to_owned()) };
        names.map(without).collect()
    }

    /// Its settings, from those of its method.
    pub fn settings(&self, mut settings: TrainSettings) -> TrainSettings {
        let switches = Augmentations::switches();
        let off = switches.iter().find(|(name, _)| Some(*name) == self.without.as_deref());
        if let Some((_, off)) = off {
            off(&mut settings.augment);
        }
        if self.without.as_deref() == Some(ALIGNMENT) {
            settings.alignment = 0.0;
        }
        settings
    }
}

/// One training and its scores, as the result file keeps them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which row.
    pub contender: Contender,
    /// The population, by the name of its folder.
    pub population: String,
    /// Hash of the data that was scored.
    pub data_sha256: String,
    /// Seed for weights, batches and draws.
    pub seed: u64,
    /// The settings it was trained with.
    pub settings: TrainSettings,
    /// How it was scored.
    #[serde(default)]
    pub scoring: u32,
    /// Were the unseen animals all that was asked about?
    #[serde(default)]
    pub unseen_only: bool,
    /// Names of the actions.
    pub labels: Vec<String>,
    /// The scores.
    pub evaluation: Evaluation,
    /// Distance between animals in the representation; `None` when it could not be measured.
    pub domain_gap: Option<DomainGap>,
    /// Wall time of the training, s.
    pub training_s: f64,
}

impl Outcome {
    /// The result in a folder that holds those of one training; `None` while there is none.
    ///
    /// # Errors
    /// [`CompareError::File`] for a result that cannot be read, or several.
    pub fn only_one_in(folder: &Path) -> Result<Option<Self>, CompareError> {
        let failed = |path: &Path, cause: String| CompareError::File { path: path.into(), cause };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(folder, error.to_string())),
        };
        let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        let mut results: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
        let Some(path) = results.pop() else { return Ok(None) };
        if !results.is_empty() {
            let cause = "holds several results: it was made by an earlier form of the sweep; remove it, or choose another --out";
            return Err(failed(folder, cause.to_owned()));
        }
        let text = read_text_bounded(&path, RESULT).map_err(|error| failed(&path, error.cause.to_string()))?;
        let outcome: Self = serde_json::from_str(&text).map_err(|error| failed(&path, error.to_string()))?;
        Ok((outcome.scoring == SCORING).then_some(outcome))
    }
}

/// One training to run and score.
pub struct Job<'a> {
    /// Which row.
    pub contender: Contender,
    /// The training settings.
    pub settings: TrainSettings,
    /// Name of the population.
    pub population: String,
    /// Everything, for the scores.
    pub all: &'a Dataset,
    /// What training sees: `all` without the unseen animals.
    pub training: &'a Dataset,
    /// Indices into `all.animals` that training does not see.
    pub unseen: Vec<usize>,
    /// Are the unseen animals all that is asked about, with all labels? The other questions take much longer.
    pub unseen_only: bool,
}

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Training.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// Scoring.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A result that cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Stopped by the user; finished results are kept.
    #[error("stopped; finished results are kept, and the same command continues from here")]
    Stopped,
}

impl HasExitCode for CompareError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Fit(error) => error.exit_code(),
            Self::Evaluate(error) => error.exit_code(),
            Self::File { .. } => ExitCode::Sink,
            Self::Stopped => ExitCode::Interrupted,
        }
    }
}

impl Job<'_> {
    /// Name of the result's file.
    pub fn file(&self) -> String {
        let row = self.contender.name().replace(' ', "_");
        format!("{}__seed{}__{row}.json", self.population, self.settings.seed)
    }

    /// The existing result, if it has the same data and settings and was asked no less.
    pub fn finished(&self, folder: &Path) -> Option<Outcome> {
        let text = read_text_bounded(&folder.join(self.file()), RESULT).ok()?;
        let outcome: Outcome = serde_json::from_str(&text).ok()?;
        let data = outcome.scoring == SCORING && outcome.data_sha256 == self.all.sha256;
        let asked = self.unseen_only || !outcome.unseen_only;
        (data && asked && outcome.settings == self.settings).then_some(outcome)
    }

    /// Trains, scores, and writes the result. An interrupted training continues from its checkpoint.
    ///
    /// # Errors
    /// Any [`CompareError`].
    pub fn run(
        &self,
        folder: &Path,
        options: &Options,
        device: &Device,
        stop: &AtomicBool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Outcome, CompareError> {
        let began = Instant::now();
        let checkpoints = folder.join("checkpoints").join(self.file());
        let rival = self.contender.method.rival();
        let (representation, own) = match rival {
            Some(rival) => {
                let (samples, _) = samples_of(self.all, &self.settings);
                let window = self.settings.network.window_frames;
                (rival.represent(self.all, &samples, window, self.settings.look_ahead_frames), None)
            }
            None => self.trained(&checkpoints, device, stop, report)?,
        };
        let options = Options { readout: rival.map_or(options.readout, Rival::readout), own, ..options.clone() };
        let training_s = began.elapsed().as_secs_f64();
        let mut evaluation = Evaluation::default();
        for &question in self.questions() {
            let one = evaluate_question(&representation, question, &self.unseen, &options)?;
            evaluation.scores.extend(one.scores);
            evaluation.warnings.extend(one.warnings);
        }
        let gap = domain_gap(representation.values.view(), &representation.animal, &GapOptions::default()).ok();
        let outcome = Outcome {
            contender: self.contender.clone(),
            population: self.population.clone(),
            data_sha256: self.all.sha256.clone(),
            seed: self.settings.seed,
            settings: self.settings.clone(),
            scoring: SCORING,
            unseen_only: self.unseen_only,
            labels: self.all.labels.clone(),
            evaluation,
            domain_gap: gap,
            training_s,
        };
        let path = folder.join(self.file());
        let failed = |cause: String| CompareError::File { path: path.clone(), cause };
        let text = serde_json::to_string_pretty(&outcome).map_err(|e| failed(e.to_string()))?;
        crate::sys::files::write_whole(&path, text.as_bytes()).map_err(|e| failed(e.to_string()))?;
        // The result is written; a checkpoint left behind only costs disk space.
        let _ = std::fs::remove_dir_all(&checkpoints);
        Ok(outcome)
    }

    fn questions(&self) -> &'static [Question] {
        if self.unseen_only {
            return &[Question::Unseen];
        }
        match (self.settings.learns_from_labels(), self.unseen.is_empty()) {
            // It learnt from the labels of every animal it saw.
            (true, true) => &[Question::Identity],
            (true, false) => &[Question::Identity, Question::Unseen],
            (_, true) => &[Question::SingleAnimal, Question::AcrossAnimal, Question::Identity],
            (_, false) => &Question::ALL,
        }
    }

    fn trained(
        &self,
        checkpoints: &Path,
        device: &Device,
        stop: &AtomicBool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(Representation, Option<Probe>), CompareError> {
        let behaviour = Behaviour::standardised(self.training, self.settings.augment.standardise_behaviour);
        let mut fit = Fit::new(self.training, &behaviour, &self.settings, device)?;
        let folders = Checkpoints { best: checkpoints.join("best"), last: checkpoints.join("last") };
        std::fs::create_dir_all(checkpoints)
            .map_err(|e| CompareError::File { path: checkpoints.into(), cause: e.to_string() })?;
        if let Some(whole) = crate::sys::replace_folder::newest_whole(&folders.last) {
            fit = fit.resume(&whole)?;
        }
        if fit.run(Some(&folders), stop, report)? == Ended::Stopped {
            return Err(CompareError::Stopped);
        }
        fit = fit.at_best(&folders)?;
        let (samples, _) = samples_of(self.all, &self.settings);
        let (look_ahead, learner) = (self.settings.look_ahead_frames, fit.learner());
        let own = self.settings.learns_from_labels().then(|| learner.own_classifier()).flatten();
        Ok((represent(&learner, fit.spec(), look_ahead, self.all, &samples, device), own))
    }
}
