//! The four questions of the table: within an animal, across animals, the animal's identity, an animal never seen.
//!
//! Why it exists: each question about a representation is a rule for which samples a probe learns from and which it is tested on;
//! everything else is the same. What it must never do: let a probe learn from a sample that shares frames with a test sample, or
//! report a score without its chance level.
//!
//! The samples of a trial are in the order of time. Scores of an animal come from all its test samples together (folds are pooled
//! first), so that a class missing from one trial does not count as a failure.

mod labels;
mod outputs;
mod split;

use std::fmt;

use ndarray::{Array2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::metrics::Confusion;
use super::probe::{Probe, ProbeError, ProbeOptions};
use super::readout::{Readout, Rows, Strengths};
use crate::dataset::trials::Representation;
use crate::sys::exit::{ExitCode, HasExitCode};
pub use outputs::{OutputScore, evaluate_outputs, evaluate_published};
use split::{Samples, Split};

/// A question about a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Probe trained and tested on the same animal, on other trials of it. High is good.
    SingleAnimal,
    /// Probe trained on all animals but one, tested on that one; the encoder may have seen it without labels. High is good.
    AcrossAnimal,
    /// Probe that identifies the animal. Low is good, chance is best.
    Identity,
    /// Probe trained on the animals that the encoder saw, tested on one that it never saw. High is good.
    Unseen,
}

impl Question {
    /// In the order of the table.
    pub const ALL: [Self; 4] = [Self::SingleAnimal, Self::AcrossAnimal, Self::Identity, Self::Unseen];

    /// Its name in tables and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SingleAnimal => "single-animal",
            Self::AcrossAnimal => "across-animal",
            Self::Identity => "identity",
            Self::Unseen => "unseen",
        }
    }

    /// False for identity.
    pub const fn higher_is_better(self) -> bool {
        !matches!(self, Self::Identity)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How questions are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The kind of linear read-out.
    pub readout: Readout,
    /// The read-out that the encoder was trained with: where there is one, animals that it never saw are decoded by it, with all labels,
    /// and nothing is fitted.
    pub own: Option<Probe>,
    /// Strengths of its penalty, of which each read-out chooses one inside its training rows, by animals or trials left out.
    pub strengths: Strengths,
    /// Every probe; its `c` is not used.
    pub probe: ProbeOptions,
    /// Shares of the labelled bouts that a probe may learn from.
    pub label_shares: Vec<f64>,
    /// Use every n-th sample of a trial.
    pub stride: usize,
    /// Samples left out between training and test where one trial is cut in two (before thinning): at least the window.
    pub gap_samples: usize,
    /// Maximum number of folds over the trials of an animal.
    pub folds_max: usize,
    /// Permutations behind each chance level; 0 = no chance level.
    pub permutations: usize,
    /// Maximum number of rows of a probe fitted to permuted labels: chance needs less precision.
    pub chance_rows_max: usize,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readout: Readout::default(),
            own: None,
            strengths: Strengths::default(),
            probe: ProbeOptions { rows_max: 10_000, ..ProbeOptions::default() },
            label_shares: vec![0.5, 1.0],
            stride: 1,
            gap_samples: 32,
            folds_max: 4,
            permutations: 5,
            chance_rows_max: 3000,
            seed: 0,
        }
    }
}

/// Three scores of one set of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Share of samples decoded correctly.
    pub accuracy: f64,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// Mean F1 over the classes that occur.
    pub macro_f1: f64,
}

/// The scores of one animal in one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The question.
    #[serde(rename = "setting")]
    pub question: Question,
    /// Share of the labelled bouts that the probes learnt from.
    pub label_share: f64,
    /// Which animal was tested; `None` = all together (identity).
    pub animal: Option<String>,
    /// Share of samples decoded correctly.
    pub accuracy: f64,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// Mean F1 over the classes that occur.
    pub macro_f1: f64,
    /// Samples tested.
    #[serde(rename = "moments")]
    pub samples: u64,
    /// Truth against decoded.
    pub confusion: Confusion,
    /// The same for probes fitted to permuted labels (of all bouts, whatever the share: chance hardly depends on it).
    pub chance: Option<Shares>,
}

/// Scores, and warnings about them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Ordered by question, label share, animal.
    pub scores: Vec<Score>,
    /// Continuous outputs, ordered by question, output, animal; [`evaluate_outputs`] makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputScore>,
    /// Classes that training lacked, animals that could not be tested.
    pub warnings: Vec<String>,
}

/// Why a representation cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    /// A list of the representation has another length.
    #[error("the representation has {rows} samples but {found} entries of {what}: each sample needs one")]
    Length {
        /// Which list.
        what: &'static str,
        /// Rows of the values.
        rows: usize,
        /// Entries of the list.
        found: usize,
    },
    /// An index without a name.
    #[error("sample {row} has {what} {found}; there are {known} names, counted from 0")]
    Index {
        /// Animal or label.
        what: &'static str,
        /// Which row.
        row: usize,
        /// Its index.
        found: usize,
        /// Number of names.
        known: usize,
    },
    /// An unseen animal without a name.
    #[error("unseen animal {found} does not exist; there are {known}, counted from 0")]
    Unseen {
        /// The index.
        found: usize,
        /// Number of animals.
        known: usize,
    },
    /// An invalid share of labels.
    #[error("label share {0} must be above 0 and at most 1")]
    LabelShare(f64),
    /// A probe that cannot be fitted.
    #[error("{question}, {animal}: {cause}")]
    Probe {
        /// The question.
        question: Question,
        /// Which animal.
        animal: String,
        /// Why.
        cause: ProbeError,
    },
}

impl HasExitCode for EvaluateError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

/// Every question. `unseen` are the animals (indices) that the encoder never saw; the other questions are about the rest.
///
/// # Errors
/// [`EvaluateError`]; an animal or a question that has too little data is a warning instead.
pub fn evaluate(
    representation: &Representation,
    unseen: &[usize],
    options: &Options,
) -> Result<Evaluation, EvaluateError> {
    let mut all = Evaluation::default();
    for question in Question::ALL {
        let one = evaluate_question(representation, question, unseen, options)?;
        all.scores.extend(one.scores);
        all.warnings.extend(one.warnings);
    }
    Ok(all)
}

/// One question; see [`evaluate`].
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_question(
    representation: &Representation,
    question: Question,
    unseen: &[usize],
    options: &Options,
) -> Result<Evaluation, EvaluateError> {
    check(representation, unseen, options)?;
    let seen = |animal: &usize| !unseen.contains(animal);
    let animals: Vec<usize> = (0..representation.animals.len()).filter(seen).collect();
    let samples = Samples::new(representation, question, options.stride);
    let mut warnings = Vec::new();
    let splits = match question {
        Question::SingleAnimal => samples.within(&animals, options, &mut warnings),
        Question::AcrossAnimal => samples.leave_one_out(&animals, &mut warnings),
        Question::Identity => samples.name_the_animal(&animals, options, &mut warnings),
        Question::Unseen => samples.never_seen(&animals, unseen, &mut warnings),
    };
    let bench = Bench { representation, question, samples: &samples, options };
    warnings.extend(splits.iter().filter_map(|split| bench.missing_classes(split)));
    warnings.dedup();
    let scores = bench.scores(&splits)?;
    Ok(Evaluation { scores, warnings, ..Evaluation::default() })
}

/// One read-out to be fitted.
struct Fit<'a> {
    /// Training rows, as indices into [`Samples`].
    train: &'a [usize],
    /// Their classes.
    targets: &'a [usize],
    /// Of the penalty.
    strength: f64,
    /// With more rows than this, a choice of them.
    rows_max: usize,
}

/// Everything that fitting and testing one split needs.
struct Bench<'a> {
    representation: &'a Representation,
    question: Question,
    samples: &'a Samples,
    options: &'a Options,
}

impl Bench<'_> {
    fn scores(&self, splits: &[Split]) -> Result<Vec<Score>, EvaluateError> {
        let (mut of_shares, mut strengths) = (Vec::new(), vec![1.0; splits.len()]);
        let own = self.options.own.as_ref().filter(|_| self.question == Question::Unseen);
        for &share in self.options.label_shares.iter().filter(|share| own.is_none() || **share == 1.0) {
            let tested = in_parallel(splits, |number, split| {
                if let Some(own) = own {
                    let decoded = own.predict(self.values(&split.test).view());
                    return Ok((Confusion::of(&split.test_targets(self.samples), &decoded, self.classes()), 1.0));
                }
                let train = labels::share_of_bouts(self.samples, &split.train, share, self.seed(number, 0));
                let targets: Vec<usize> = train.iter().map(|&row| self.samples.target[row]).collect();
                let strength = self.choose(split, &train, &targets)?;
                let truth = split.test_targets(self.samples);
                let fit = Fit { train: &train, targets: &targets, strength, rows_max: usize::MAX };
                Ok((self.test(split, &fit, &truth)?, strength))
            })?;
            let (confusions, chosen): (Vec<Confusion>, Vec<f64>) = tested.into_iter().unzip();
            strengths = chosen;
            of_shares.push((share, self.pooled(splits, &confusions)));
        }
        let chance = self.chance(splits, &strengths)?;
        let mut scores = Vec::new();
        for (share, pooled) in of_shares {
            for (animal, confusion) in pooled {
                let chance = chance.iter().find(|(of, _)| *of == animal).map(|(_, shares)| *shares);
                scores.push(self.score(share, animal, confusion, chance));
            }
        }
        Ok(scores)
    }

    /// Mean scores over permutations, per tested animal, with the strengths that the true labels asked for.
    fn chance(&self, splits: &[Split], strengths: &[f64]) -> Result<Vec<(Option<usize>, Shares)>, EvaluateError> {
        let count = self.options.permutations;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut runs = Vec::with_capacity(count);
        for run in 0..count {
            let tested = in_parallel(splits, |number, split| {
                let seed = self.seed(number, 1 + run as u64);
                let (targets, truth) = match self.question {
                    Question::Identity => labels::names_permuted(self.samples, split, seed),
                    _ => {
                        let own = split.train.iter().map(|&at| self.samples.target[at]).collect();
                        (labels::rotated(self.samples, &split.train, own, seed), split.test_targets(self.samples))
                    }
                };
                let (strength, rows_max) = (strengths[number], self.options.chance_rows_max);
                self.test(split, &Fit { train: &split.train, targets: &targets, strength, rows_max }, &truth)
            })?;
            runs.push(self.pooled(splits, &tested));
        }
        let mean = |animal: usize, of: fn(&Confusion) -> f64| {
            runs.iter().map(|run| of(&run[animal].1)).sum::<f64>() / count as f64
        };
        let shares = |animal| Shares {
            accuracy: mean(animal, Confusion::accuracy),
            balanced_accuracy: mean(animal, Confusion::balanced_accuracy),
            macro_f1: mean(animal, Confusion::macro_f1),
        };
        Ok(runs[0].iter().enumerate().map(|(at, (animal, _))| (*animal, shares(at))).collect())
    }

    /// The strength that decodes animals (of a question within animals: trials) left out of `train` best.
    fn choose(&self, split: &Split, train: &[usize], targets: &[usize]) -> Result<f64, EvaluateError> {
        let group: Vec<usize> = match self.question {
            Question::AcrossAnimal | Question::Unseen => train.iter().map(|&at| self.samples.animal[at]).collect(),
            Question::SingleAnimal => train.iter().map(|&at| self.samples.trial[at]).collect(),
            Question::Identity => self.samples.trial_of_animal(train),
        };
        let Options { readout, strengths, .. } = self.options;
        let values = self.values(train);
        let rows = Rows { values: values.view(), labels: targets, classes: self.classes() };
        readout
            .choose(rows, &group, strengths.of(*readout), &self.probe_options(usize::MAX))
            .map_err(|cause| self.failed(split, cause))
    }

    /// Fits a read-out and counts its predictions on the split's test rows.
    fn test(&self, split: &Split, fit: &Fit<'_>, truth: &[usize]) -> Result<Confusion, EvaluateError> {
        let values = self.values(fit.train);
        let rows = Rows { values: values.view(), labels: fit.targets, classes: self.classes() };
        let probe = self
            .options
            .readout
            .fit(rows, fit.strength, &self.probe_options(fit.rows_max))
            .map_err(|cause| self.failed(split, cause))?;
        Ok(Confusion::of(truth, &probe.predict(self.values(&split.test).view()), self.classes()))
    }

    fn values(&self, chosen: &[usize]) -> Array2<f32> {
        let rows: Vec<usize> = chosen.iter().map(|&at| self.samples.row[at]).collect();
        self.representation.values.select(Axis(0), &rows)
    }

    fn probe_options(&self, rows_max: usize) -> ProbeOptions {
        ProbeOptions {
            rows_max: self.options.probe.rows_max.min(rows_max),
            seed: self.options.probe.seed ^ self.options.seed,
            ..self.options.probe.clone()
        }
    }

    fn failed(&self, split: &Split, cause: ProbeError) -> EvaluateError {
        EvaluateError::Probe { question: self.question, animal: self.name(split.animal), cause }
    }

    /// Confusions of the splits that test the same animal, added; animals ascending.
    fn pooled(&self, splits: &[Split], tested: &[Confusion]) -> Vec<(Option<usize>, Confusion)> {
        let mut animals: Vec<Option<usize>> = splits.iter().map(|split| split.animal).collect();
        animals.sort_unstable();
        animals.dedup();
        let sum = |animal: Option<usize>| {
            let mut all = Confusion::new(self.classes());
            let own = splits.iter().zip(tested).filter(|(split, _)| split.animal == animal);
            own.for_each(|(_, confusion)| all.add(confusion));
            (animal, all)
        };
        animals.into_iter().map(sum).collect()
    }

    fn score(&self, label_share: f64, animal: Option<usize>, confusion: Confusion, chance: Option<Shares>) -> Score {
        Score {
            question: self.question,
            label_share,
            animal: animal.map(|animal| self.representation.animals[animal].clone()),
            accuracy: confusion.accuracy(),
            balanced_accuracy: confusion.balanced_accuracy(),
            macro_f1: confusion.macro_f1(),
            samples: confusion.samples(),
            confusion,
            chance,
        }
    }

    /// Warns of classes that occur in the test but not in training: they cannot be decoded, and are scored as they are.
    fn missing_classes(&self, split: &Split) -> Option<String> {
        let has = |rows: &[usize], class: usize| rows.iter().any(|&row| self.samples.target[row] == class);
        let names = if self.question == Question::Identity {
            &self.representation.animals
        } else {
            &self.representation.labels
        };
        let missing = |&class: &usize| has(&split.test, class) && !has(&split.train, class);
        let lacking: Vec<&str> = (0..self.classes()).filter(missing).map(|class| names[class].as_str()).collect();
        let (question, animal) = (self.question, self.name(split.animal));
        (!lacking.is_empty()).then(|| {
            format!(
                "{question}, {animal}: {} occurs in the test but not in training; no probe can decode it",
                lacking.join(", ")
            )
        })
    }

    fn classes(&self) -> usize {
        match self.question {
            Question::Identity => self.representation.animals.len(),
            _ => self.representation.labels.len(),
        }
    }

    fn name(&self, animal: Option<usize>) -> String {
        animal.map_or_else(|| "all animals".into(), |animal| self.representation.animals[animal].clone())
    }

    fn seed(&self, split: usize, purpose: u64) -> u64 {
        self.options.seed ^ ((split as u64) << 32 | purpose << 8 | self.question as u64)
    }
}

/// One result per split, in their order, whatever the threads do.
fn in_parallel<T: Send>(
    splits: &[Split],
    test: impl Fn(usize, &Split) -> Result<T, EvaluateError> + Sync,
) -> Result<Vec<T>, EvaluateError> {
    splits.par_iter().enumerate().map(|(number, split)| test(number, split)).collect()
}

fn check(representation: &Representation, unseen: &[usize], options: &Options) -> Result<(), EvaluateError> {
    let r = representation;
    let rows = r.values.nrows();
    let lists =
        [("animal", r.animal.len()), ("trial", r.trial.len()), ("label", r.label.len()), ("target", r.target.nrows())];
    for (what, found) in lists {
        if found != rows {
            return Err(EvaluateError::Length { what, rows, found });
        }
    }
    let index = |what, known, list: &mut dyn Iterator<Item = Option<usize>>| {
        let wrong = list.enumerate().find_map(|(row, value)| value.filter(|&v| v >= known).map(|found| (row, found)));
        wrong.map_or(Ok(()), |(row, found)| Err(EvaluateError::Index { what, row, found, known }))
    };
    index("animal", r.animals.len(), &mut r.animal.iter().map(|&a| Some(a)))?;
    index("label", r.labels.len(), &mut r.label.iter().map(|l| l.map(usize::from)))?;
    if let Some(&found) = unseen.iter().find(|&&animal| animal >= r.animals.len()) {
        return Err(EvaluateError::Unseen { found, known: r.animals.len() });
    }
    let wrong = options.label_shares.iter().find(|&&share| !(share > 0.0 && share <= 1.0));
    wrong.map_or(Ok(()), |&share| Err(EvaluateError::LabelShare(share)))
}

#[cfg(test)]
mod tests;
