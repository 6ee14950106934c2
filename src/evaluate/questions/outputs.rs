//! Continuous outputs: the same questions, asked of numbers instead of actions, with ridge regression as the read-out.
//!
//! Why it exists: a model's outputs are judged by the splits that its actions are judged by. What it must never do: report a score without
//! its chance level, unless there was nothing to measure it on.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use ndarray::{Array2, Axis};

use super::split::{Samples, Split};
use super::{Options, Question, labels};
use crate::dataset::trials::Representation;
use crate::evaluate::ridge::{Agreement, Numbers, Ridge};

/// The score of one output on one animal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputScore {
    /// The question.
    #[serde(rename = "setting")]
    pub question: Question,
    /// Which output.
    pub output: String,
    /// Which animal was tested.
    pub animal: String,
    /// 1 − squared error / squared distance from the animal's own mean.
    pub r2: f64,
    /// Pearson's correlation of truth and output.
    pub correlation: f64,
    /// Mean of both over read-outs that learnt from targets turned round in time, each trial by a random part of itself; `None` where the
    /// output was not fitted here.
    pub chance: Option<[f64; 2]>,
    /// Samples tested.
    #[serde(rename = "moments")]
    pub samples: u64,
}

/// The questions about outputs; identity is none.
const QUESTIONS: [Question; 3] = [Question::SingleAnimal, Question::AcrossAnimal, Question::Unseen];

/// The scores of every output of the representation, by question, output, animal. `unseen` are the animals that the encoder never saw.
pub fn evaluate_outputs(r: &Representation, unseen: &[usize], options: &Options) -> Vec<OutputScore> {
    let animals: Vec<usize> = (0..r.animals.len()).filter(|animal| !unseen.contains(animal)).collect();
    // Of identity, because every sample takes part, whether it has an action or not.
    let samples = Samples::new(r, Question::Identity, options.stride);
    let mut scores = Vec::new();
    for question in QUESTIONS.into_iter().filter(|_| !r.targets.is_empty()) {
        // What cannot be tested has been said of the actions, or is seen by its absence.
        let silent = &mut Vec::new();
        let splits = match question {
            Question::SingleAnimal => samples.within(&animals, options, silent),
            Question::AcrossAnimal => samples.leave_one_out(&animals, silent),
            _ => samples.never_seen(&animals, unseen, silent),
        };
        let mut tested: Vec<usize> = splits.iter().filter_map(|split| split.animal).collect();
        tested.dedup();
        for output in 0..r.targets.len() {
            let bench = Bench { r, samples: &samples, question, output, options };
            scores.extend(tested.par_iter().filter_map(|&animal| bench.score(&splits, animal)).collect::<Vec<_>>());
        }
    }
    scores
}

/// The scores of outputs as a finished model gives them, `read` `[samples, outputs]`, on the unseen animals.
pub fn evaluate_published(r: &Representation, unseen: &[usize], read: &Array2<f32>) -> Vec<OutputScore> {
    let mut scores = Vec::new();
    for (output, (name, values)) in r.targets.iter().zip(read.columns()).enumerate() {
        for &animal in unseen {
            let known = |&row: &usize| r.animal[row] == animal && r.target[[row, output]].is_finite();
            let rows: Vec<usize> = (0..r.animal.len()).filter(known).collect();
            let truth: Vec<f64> = rows.iter().map(|&row| f64::from(r.target[[row, output]])).collect();
            let read: Vec<f64> = rows.iter().map(|&row| f64::from(values[row])).collect();
            let found = Agreement::of(&truth, &read);
            scores.extend(found.map(|Agreement { r2, correlation }| OutputScore {
                question: Question::Unseen,
                output: name.clone(),
                animal: r.animals[animal].clone(),
                r2,
                correlation,
                chance: None,
                samples: rows.len() as u64,
            }));
        }
    }
    scores
}

/// One output and one question.
struct Bench<'a> {
    r: &'a Representation,
    samples: &'a Samples,
    question: Question,
    output: usize,
    options: &'a Options,
}

impl Bench<'_> {
    /// Of all splits that test this animal together; `None` where the truth never changes or nothing can be learnt.
    fn score(&self, splits: &[Split], animal: usize) -> Option<OutputScore> {
        let own: Vec<Split> =
            splits.iter().filter(|split| split.animal == Some(animal)).map(|s| self.known(s)).collect();
        let (mut truth, mut read, mut by_chance) =
            (Vec::new(), Vec::new(), vec![Vec::new(); self.options.permutations]);
        for (number, split) in own.iter().enumerate() {
            let tested = self.values(&split.test);
            let learnt = self.truth(&split.train);
            let values = self.values(&split.train);
            let ridge = Ridge::fit(Numbers { values: values.view(), truth: &learnt }, &self.groups(&split.train))?;
            truth.extend(self.truth(&split.test));
            read.extend(ridge.predict(tested.view()));
            for (run, read) in by_chance.iter_mut().enumerate() {
                let seed = self.options.seed ^ (((animal * 64 + number) as u64) << 32 | (run as u64) << 8 | 7);
                let truth = labels::rotated(self.samples, &split.train, learnt.clone(), seed);
                let numbers = Numbers { values: values.view(), truth: &truth };
                read.extend(Ridge::with_penalty(numbers, ridge.penalty)?.predict(tested.view()));
            }
        }
        let Agreement { r2, correlation } = Agreement::of(&truth, &read)?;
        let runs: Vec<Agreement> = by_chance.iter().filter_map(|read| Agreement::of(&truth, read)).collect();
        let mean = |of: fn(&Agreement) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        Some(OutputScore {
            question: self.question,
            output: self.r.targets[self.output].clone(),
            animal: self.r.animals[animal].clone(),
            r2,
            correlation,
            chance: (!runs.is_empty()).then(|| [mean(|a| a.r2), mean(|a| a.correlation)]),
            samples: truth.len() as u64,
        })
    }

    /// The split without the samples whose target is not known.
    fn known(&self, split: &Split) -> Split {
        let known = |rows: &[usize]| rows.iter().copied().filter(|&at| self.target(at).is_finite()).collect();
        Split { animal: split.animal, train: known(&split.train), test: known(&split.test) }
    }

    fn target(&self, at: usize) -> f32 {
        self.r.target[[self.samples.row[at], self.output]]
    }

    fn truth(&self, rows: &[usize]) -> Vec<f64> {
        rows.iter().map(|&at| f64::from(self.target(at))).collect()
    }

    /// What a penalty is chosen by: animals left out, or the trials of one animal.
    fn groups(&self, rows: &[usize]) -> Vec<usize> {
        let of = if self.question == Question::SingleAnimal { &self.samples.trial } else { &self.samples.animal };
        rows.iter().map(|&at| of[at]).collect()
    }

    fn values(&self, rows: &[usize]) -> Array2<f32> {
        let rows: Vec<usize> = rows.iter().map(|&at| self.samples.row[at]).collect();
        self.r.values.select(Axis(0), &rows)
    }
}
