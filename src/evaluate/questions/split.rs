//! Which samples a probe learns from, and which it is tested on.
//!
//! Why it exists: leakage between training and test is the commonest cause of a wrong table, so the rules are in one place.
//! What it must never do: put neighbours in time on both sides.

use std::collections::BTreeMap;

use crate::dataset::trials::Representation;

use super::{Options, Question};

/// Share of a single trial that is trained on.
const TRAINED_SHARE: f64 = 0.7;

/// Samples to learn from, and to test on.
type Fold = (Vec<usize>, Vec<usize>);

/// The samples that a question uses, thinned, with the target of each.
pub(super) struct Samples {
    /// Row of the representation.
    pub row: Vec<usize>,
    /// Class: the action, or the animal.
    pub target: Vec<usize>,
    /// Animal.
    pub animal: Vec<usize>,
    /// Trial.
    pub trial: Vec<usize>,
    /// Action, for bouts; `None` = unlabelled.
    pub label: Vec<Option<u8>>,
    /// Position in its trial before thinning.
    pub time: Vec<usize>,
}

/// The samples of one probe, as indices into [`Samples`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Split {
    /// Which animal is tested; `None` = all.
    pub animal: Option<usize>,
    /// Training samples, ascending.
    pub train: Vec<usize>,
    /// Test samples, ascending.
    pub test: Vec<usize>,
}

impl Split {
    /// The targets of the test samples.
    pub fn test_targets(&self, samples: &Samples) -> Vec<usize> {
        self.test.iter().map(|&at| samples.target[at]).collect()
    }
}

impl Samples {
    /// Every `stride`-th sample of each trial; for actions, those that have one.
    pub fn new(representation: &Representation, question: Question, stride: usize) -> Self {
        let r = representation;
        let mut next = BTreeMap::new();
        let mut samples =
            Self { row: vec![], target: vec![], animal: vec![], trial: vec![], label: vec![], time: vec![] };
        for row in 0..r.values.nrows() {
            let next: &mut usize = next.entry(r.trial[row]).or_default();
            let time = *next;
            *next += 1;
            let target = match question {
                Question::Identity => Some(r.animal[row]),
                _ => r.label[row].map(usize::from),
            };
            let Some(target) = target.filter(|_| time.is_multiple_of(stride.max(1))) else { continue };
            samples.row.push(row);
            samples.target.push(target);
            samples.animal.push(r.animal[row]);
            samples.trial.push(r.trial[row]);
            samples.label.push(r.label[row]);
            samples.time.push(time);
        }
        samples
    }

    /// For each of these samples the rank of its trial among those of its animal.
    pub fn trial_of_animal(&self, of: &[usize]) -> Vec<usize> {
        let mut trials: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &at in of {
            let own = trials.entry(self.animal[at]).or_default();
            // The samples of a trial follow each other.
            if own.last() != Some(&self.trial[at]) && !own.contains(&self.trial[at]) {
                own.push(self.trial[at]);
            }
        }
        let rank = |at: usize| trials[&self.animal[at]].iter().position(|trial| *trial == self.trial[at]);
        of.iter().map(|&at| rank(at).unwrap_or(0)).collect()
    }

    /// Each animal by itself: its trials left out in turn, or its one trial cut in two.
    pub fn within(&self, animals: &[usize], options: &Options, warnings: &mut Vec<String>) -> Vec<Split> {
        let mut splits = Vec::new();
        for &animal in animals {
            for (train, test) in self.folds(animal, options) {
                splits.push(Split { animal: Some(animal), train, test });
            }
        }
        usable(splits, Question::SingleAnimal, warnings)
    }

    /// Each animal against all others.
    pub fn leave_one_out(&self, animals: &[usize], warnings: &mut Vec<String>) -> Vec<Split> {
        if animals.len() < 2 {
            warnings.push(format!("{}: needs two animals that the encoder saw", Question::AcrossAnimal));
            return Vec::new();
        }
        let split = |&animal: &usize| {
            let train = self.of(|at| self.animal[at] != animal && animals.contains(&self.animal[at]));
            Split { animal: Some(animal), train, test: self.of(|at| self.animal[at] == animal) }
        };
        usable(animals.iter().map(split).collect(), Question::AcrossAnimal, warnings)
    }

    /// All `seen` animals against each unseen one.
    pub fn never_seen(&self, seen: &[usize], unseen: &[usize], warnings: &mut Vec<String>) -> Vec<Split> {
        let train = self.of(|at| seen.contains(&self.animal[at]));
        let mut unseen = unseen.to_vec();
        unseen.sort_unstable();
        unseen.dedup();
        let split = |animal: usize| {
            let test = self.of(|at| self.animal[at] == animal);
            Split { animal: Some(animal), train: train.clone(), test }
        };
        usable(unseen.into_iter().map(split).collect(), Question::Unseen, warnings)
    }

    /// All animals together, the animals being the classes: fold k holds out the k-th trials of every animal.
    pub fn name_the_animal(&self, animals: &[usize], options: &Options, warnings: &mut Vec<String>) -> Vec<Split> {
        if animals.len() < 2 {
            warnings.push(format!("{}: needs two animals that the encoder saw", Question::Identity));
            return Vec::new();
        }
        let of_each: Vec<_> = animals.iter().map(|&animal| self.folds(animal, options)).collect();
        let folds = of_each.iter().map(Vec::len).min().unwrap_or(0);
        let joined = |fold: usize, part: fn(&Fold) -> &Vec<usize>| {
            let mut all: Vec<usize> = of_each.iter().flat_map(|folds| part(&folds[fold])).copied().collect();
            all.sort_unstable();
            all
        };
        let split = |fold| Split { animal: None, train: joined(fold, |f| &f.0), test: joined(fold, |f| &f.1) };
        usable((0..folds).map(split).collect(), Question::Identity, warnings)
    }

    /// Training and test samples of one animal, fold by fold.
    fn folds(&self, animal: usize, options: &Options) -> Vec<Fold> {
        let own = self.of(|at| self.animal[at] == animal);
        let mut trials: Vec<usize> = own.iter().map(|&at| self.trial[at]).collect();
        trials.sort_unstable();
        trials.dedup();
        if trials.len() < 2 {
            return vec![self.cut_in_time(&own, options.gap_samples)];
        }
        let folds = trials.len().min(options.folds_max.max(2));
        let fold_of = |at: usize| trials.binary_search(&self.trial[at]).unwrap_or(0) % folds;
        (0..folds).map(|fold| own.iter().partition(|&&at| fold_of(at) != fold)).collect()
    }

    /// First 70 % of one trial's time, a gap, the rest.
    fn cut_in_time(&self, own: &[usize], gap_samples: usize) -> Fold {
        let (Some(&first), Some(&last)) = (own.first(), own.last()) else { return (Vec::new(), Vec::new()) };
        let (first, last) = (self.time[first], self.time[last]);
        let cut = first + ((last + 1 - first) as f64 * TRAINED_SHARE) as usize;
        let train = own.iter().copied().filter(|&at| self.time[at] < cut).collect();
        let test = own.iter().copied().filter(|&at| self.time[at] >= cut + gap_samples).collect();
        (train, test)
    }

    fn of(&self, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.row.len()).filter(|&at| wanted(at)).collect()
    }
}

/// Splits with samples on both sides; the others become warnings.
fn usable(splits: Vec<Split>, question: Question, warnings: &mut Vec<String>) -> Vec<Split> {
    let (good, empty): (Vec<Split>, Vec<Split>) =
        splits.into_iter().partition(|split| !split.train.is_empty() && !split.test.is_empty());
    for split in empty {
        let side = if split.train.is_empty() { "train on" } else { "test" };
        let animal = split.animal.map_or_else(|| "all animals".into(), |animal| format!("animal {animal} (from 0)"));
        warnings.push(format!("{question}, {animal}: no labelled samples to {side}; left out"));
    }
    good
}
