//! Subsets of the labelled bouts, and the permutations that give the chance level.
//!
//! Why it exists: annotators skip whole bouts, not single frames, and labels are correlated in time; drawing or permuting single
//! frames would be too optimistic. What it must never do: draw without a seed.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::split::{Samples, Split};
use crate::evaluate::rows::{choose, generator};

/// The samples of a seeded `share` of the bouts of `train`, drawn class by class; each class keeps at least one bout. A bout
/// is a run of one action in one trial, of samples that follow each other.
pub(super) fn share_of_bouts(samples: &Samples, train: &[usize], share: f64, seed: u64) -> Vec<usize> {
    if share >= 1.0 {
        return train.to_vec();
    }
    let mut of_class: BTreeMap<usize, Vec<&[usize]>> = BTreeMap::new();
    for bout in bouts(samples, train) {
        of_class.entry(samples.target[bout[0]]).or_default().push(bout);
    }
    let mut rng = generator(seed, 2);
    let mut kept = Vec::with_capacity(train.len());
    for bouts in of_class.values() {
        let wanted = ((bouts.len() as f64 * share).round() as usize).max(1);
        let chosen = choose(bouts.len(), wanted, &mut rng);
        kept.extend(chosen.into_iter().flat_map(|bout| bouts[bout]));
    }
    kept.sort_unstable();
    kept
}

fn bouts<'a>(samples: &Samples, train: &'a [usize]) -> Vec<&'a [usize]> {
    let key = |at: usize| (samples.trial[at], samples.target[at], samples.label[at]);
    train.chunk_by(|&a, &b| b == a + 1 && key(a) == key(b)).collect()
}

/// The targets of `train`, rotated within each trial by a random tenth to nine tenths of its length: they keep their counts and
/// their persistence, and lose their meaning.
pub(super) fn rotated<T: Copy>(samples: &Samples, train: &[usize], mut targets: Vec<T>, seed: u64) -> Vec<T> {
    let mut rng = generator(seed, 3);
    for places in by_trial(samples, train).into_values() {
        let mut own: Vec<T> = places.iter().map(|&place| targets[place]).collect();
        let turn = rng.random_range(0.1..0.9) * own.len() as f64;
        let turn = (turn as usize).min(own.len() - 1);
        own.rotate_left(turn);
        places.iter().zip(own).for_each(|(&place, target)| targets[place] = target);
    }
    targets
}

/// Animals (targets of train and test) permuted between whole trials, within training and within test. Where each animal has one
/// trial, training stays correct up to the names, and only the test is permuted.
pub(super) fn names_permuted(samples: &Samples, split: &Split, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let deal = |rows: &[usize], stream: u64| {
        let mut rng = generator(seed, stream);
        let trials = by_trial(samples, rows);
        let mut names: Vec<usize> = trials.values().map(|places| samples.target[rows[places[0]]]).collect();
        names.shuffle(&mut rng);
        let mut targets = vec![0; rows.len()];
        for (places, name) in trials.values().zip(names) {
            places.iter().for_each(|&place| targets[place] = name);
        }
        targets
    };
    (deal(&split.train, 4), deal(&split.test, 5))
}

/// Places in `rows`, by trial.
fn by_trial(samples: &Samples, rows: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut trials: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    rows.iter().enumerate().for_each(|(place, &at)| trials.entry(samples.trial[at]).or_default().push(place));
    trials
}
