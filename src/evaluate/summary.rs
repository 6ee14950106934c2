//! Many runs, few numbers: mean and spread over animals and over seeds.
//!
//! Why it exists: a comparison is a folder of runs; what a reader wants is one line per method. What it must never do: call
//! the spread over animals the spread over seeds, or average what was never measured.

use serde::{Deserialize, Serialize};

use super::questions::{Question, Score, Shares};

/// The scores of one trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name in `--method`.
    pub method: String,
    /// Seed of the training (and of the data, where they were simulated).
    pub seed: u64,
    /// What [`evaluate`](super::questions::evaluate) gave.
    pub scores: Vec<Score>,
}

/// Which of the three shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Share of samples decoded correctly.
    Accuracy,
    /// Mean recall over the classes that occur.
    #[default]
    BalancedAccuracy,
    /// Mean F1 over the classes that occur.
    MacroF1,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BalancedAccuracy, Self::MacroF1, Self::Accuracy];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced accuracy",
            Self::MacroF1 => "macro-F1",
        }
    }

    fn of_score(self, score: &Score) -> f64 {
        match self {
            Self::Accuracy => score.accuracy,
            Self::BalancedAccuracy => score.balanced_accuracy,
            Self::MacroF1 => score.macro_f1,
        }
    }

    fn of_shares(self, shares: &Shares) -> f64 {
        match self {
            Self::Accuracy => shares.accuracy,
            Self::BalancedAccuracy => shares.balanced_accuracy,
            Self::MacroF1 => shares.macro_f1,
        }
    }
}

/// A mean and its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over animals, then over seeds.
    pub mean: f64,
    /// Standard deviation (n − 1) over the animals of one seed, root mean square over seeds; `None` with one animal.
    pub sd_animals: Option<f64>,
    /// Standard deviation (n − 1) of the means over seeds; `None` with one seed.
    pub sd_seeds: Option<f64>,
    /// The mean of the same scores under permuted labels.
    pub chance: Option<f64>,
}

/// One method in one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name in `--method`.
    pub method: String,
    /// The question.
    #[serde(rename = "setting")]
    pub question: Question,
    /// Share of the labelled bouts.
    pub label_share: f64,
    /// Share of samples decoded correctly.
    pub accuracy: Spread,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: Spread,
    /// Mean F1 over the classes that occur.
    pub macro_f1: Spread,
    /// Animals tested per seed, the most of all seeds; 1 for identity, which tests all together.
    pub animals: usize,
    /// Seeds.
    pub seeds: usize,
}

impl Summary {
    /// One of the three.
    pub fn spread(&self, metric: Metric) -> Spread {
        match metric {
            Metric::Accuracy => self.accuracy,
            Metric::BalancedAccuracy => self.balanced_accuracy,
            Metric::MacroF1 => self.macro_f1,
        }
    }
}

/// One summary per method, question and label share that occur: methods in the order of their first run, questions in the order
/// of the table, label shares ascending.
pub fn summarise(runs: &[Run]) -> Vec<Summary> {
    let mut methods: Vec<&str> = Vec::new();
    runs.iter().for_each(|run| {
        if !methods.contains(&run.method.as_str()) {
            methods.push(&run.method);
        }
    });
    let mut shares: Vec<f64> = runs.iter().flat_map(|run| &run.scores).map(|score| score.label_share).collect();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    let mut summaries = Vec::new();
    for method in methods {
        for question in Question::ALL {
            summaries.extend(shares.iter().filter_map(|&share| summary(runs, method, question, share)));
        }
    }
    summaries
}

fn summary(runs: &[Run], method: &str, question: Question, label_share: f64) -> Option<Summary> {
    let own = |run: &Run| -> Vec<Score> {
        run.scores.iter().filter(|s| s.question == question && s.label_share == label_share).cloned().collect()
    };
    let by_seed: Vec<Vec<Score>> =
        runs.iter().filter(|run| run.method == method).map(own).filter(|scores| !scores.is_empty()).collect();
    let animals = by_seed.iter().map(Vec::len).max()?;
    Some(Summary {
        method: method.into(),
        question,
        label_share,
        accuracy: spread(&by_seed, Metric::Accuracy),
        balanced_accuracy: spread(&by_seed, Metric::BalancedAccuracy),
        macro_f1: spread(&by_seed, Metric::MacroF1),
        animals,
        seeds: by_seed.len(),
    })
}

fn spread(by_seed: &[Vec<Score>], metric: Metric) -> Spread {
    let values: Vec<Vec<f64>> =
        by_seed.iter().map(|scores| scores.iter().map(|score| metric.of_score(score)).collect()).collect();
    let means: Vec<f64> = values.iter().map(|animals| mean(animals)).collect();
    let variances: Vec<f64> = values.iter().filter_map(|animals| variance(animals)).collect();
    let chances: Vec<f64> =
        by_seed.iter().flatten().filter_map(|score| score.chance.as_ref()).map(|c| metric.of_shares(c)).collect();
    Spread {
        mean: mean(&means),
        sd_animals: (!variances.is_empty()).then(|| mean(&variances).sqrt()),
        sd_seeds: variance(&means).map(f64::sqrt),
        chance: (!chances.is_empty()).then(|| mean(&chances)),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::evaluate::metrics::Confusion;

    /// A score in which all three shares are `value`.
    pub fn score(question: Question, animal: &str, value: f64) -> Score {
        let chance = Some(Shares { accuracy: 0.2, balanced_accuracy: 0.2, macro_f1: 0.2 });
        let animal = (question != Question::Identity).then(|| animal.to_owned());
        Score {
            question,
            label_share: 1.0,
            animal,
            accuracy: value,
            balanced_accuracy: value,
            macro_f1: value,
            samples: 100,
            confusion: Confusion::default(),
            chance,
        }
    }

    pub fn run(method: &str, seed: u64, scores: Vec<Score>) -> Run {
        Run { method: method.into(), seed, scores }
    }

    #[test]
    fn spreads_over_animals_and_over_seeds_are_kept_apart() {
        let of = |a, b| vec![score(Question::Unseen, "a", a), score(Question::Unseen, "b", b)];
        let runs = [run("haltere", 1, of(0.5, 0.7)), run("haltere", 2, of(0.6, 1.0)), run("simclr", 1, of(0.4, 0.4))];
        let found = summarise(&runs);
        assert_eq!(found.iter().map(|s| s.method.as_str()).collect::<Vec<_>>(), ["haltere", "simclr"]);
        let spread = found[0].spread(Metric::BalancedAccuracy);
        // Means 0.6 and 0.8; variances over animals 0.02 and 0.08.
        assert!((spread.mean - 0.7).abs() < 1e-12);
        assert!((spread.sd_seeds.unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
        assert!((spread.sd_animals.unwrap() - 0.05f64.sqrt()).abs() < 1e-12);
        assert!((spread.chance.unwrap() - 0.2).abs() < 1e-12);
        assert_eq!((found[0].animals, found[0].seeds), (2, 2));
        assert_eq!(found[1].accuracy.sd_seeds, None);
    }

    #[test]
    fn identity_is_one_score_and_has_no_spread_over_animals() {
        let found = summarise(&[run("linear", 1, vec![score(Question::Identity, "", 0.3)])]);
        assert_eq!((found[0].animals, found[0].macro_f1.sd_animals), (1, None));
        assert_eq!(summarise(&[]), []);
    }
}
