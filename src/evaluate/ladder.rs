//! A ladder: what each step of the preparation is worth to one read-out, paired over animals, and how much is attainable.
//!
//! Why it exists: where accuracy is lost is only seen when one thing is changed at a time on the same animals. What it must never do: put
//! a mean beside another without saying over which animals they differ.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::table::Table;
use crate::sys::csv::csv_field;

/// Resamplings of the animals behind each interval.
const RESAMPLINGS: usize = 2000;
/// Share of them on either side of an interval of 95 %.
const TAIL: f64 = 0.025;

/// An animal: name of its population, its own name.
pub type Animal = (String, String);

/// One step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rung {
    /// What was changed.
    pub name: String,
    /// The rung that it is compared with, by its place in the ladder.
    pub against: Option<usize>,
    /// Balanced accuracy of each unseen animal.
    pub scores: BTreeMap<Animal, f64>,
    /// Chance level of each.
    pub chance: BTreeMap<Animal, f64>,
    /// Is this what the data allow, as far as is known?
    pub ceiling: bool,
}

/// A difference, paired over animals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean over the animals that both rungs scored.
    pub mean: f64,
    /// Interval of 95 % of resampled animals.
    pub interval: [f64; 2],
    /// Animals that are better.
    pub better: usize,
    /// Animals.
    pub animals: usize,
}

impl Rung {
    fn mean_of(values: &BTreeMap<Animal, f64>) -> f64 {
        values.values().sum::<f64>() / values.len() as f64
    }

    /// Mean over animals; NaN without any.
    pub fn mean(&self) -> f64 {
        Self::mean_of(&self.scores)
    }

    /// Minus `other`, over the animals that both scored; `None` without any.
    pub fn minus(&self, other: &Self) -> Option<Step> {
        let difference = |(animal, score): (&Animal, &f64)| other.scores.get(animal).map(|before| score - before);
        let differences: Vec<f64> = self.scores.iter().filter_map(difference).collect();
        let animals = differences.len();
        if animals == 0 {
            return None;
        }
        let mean = differences.iter().sum::<f64>() / animals as f64;
        let mut random = Pcg64::seed_from_u64(animals as u64);
        let mut one =
            || (0..animals).map(|_| differences[random.random_range(0..animals)]).sum::<f64>() / animals as f64;
        let mut means: Vec<f64> = (0..RESAMPLINGS).map(|_| one()).collect();
        means.sort_by(f64::total_cmp);
        let at = |share: f64| means[(share * (RESAMPLINGS - 1) as f64).round() as usize];
        let better = differences.iter().filter(|d| **d > 0.0).count();
        Some(Step { mean, interval: [at(TAIL), at(1.0 - TAIL)], better, animals })
    }

    /// Share of what `ceiling` is above chance that this is above chance; both have scored the same animals.
    fn attained(&self, ceiling: &Self) -> f64 {
        let chance = Self::mean_of(&self.chance);
        (self.mean() - chance) / (ceiling.mean() - chance)
    }
}

/// The ladder in percent, for a terminal, Markdown and the report.
pub fn table(rungs: &[Rung]) -> Table {
    let ceiling = rungs.iter().find(|rung| rung.ceiling);
    let percent = |value: f64| if value.is_finite() { format!("{:.1}", 100.0 * value) } else { "–".to_owned() };
    let row = |rung: &Rung| {
        let step = rung.against.and_then(|other| Some((other, rung.minus(rungs.get(other)?)?)));
        let step = step.map_or_else(String::new, |(other, step)| {
            let Step { mean, interval: [low, high], better, animals } = step;
            let [mean, low, high] = [mean, low, high].map(|v| 100.0 * v);
            format!("{mean:+.1} [{low:.1}, {high:.1}] against {}, better on {better} of {animals}", other + 1)
        });
        let attained = ceiling.map_or_else(String::new, |ceiling| percent(rung.attained(ceiling)));
        [percent(rung.mean()), rung.scores.len().to_string(), percent(Rung::mean_of(&rung.chance)), step, attained]
    };
    let rows = rungs.iter().enumerate().map(|(number, rung)| {
        let mut cells = vec![format!("{} {}", number + 1, rung.name)];
        cells.extend(row(rung));
        cells
    });
    let header = ["rung", "unseen", "animals", "chance", "step", "attained"].map(str::to_owned).into();
    let mut caption = "balanced accuracy of unseen animals, %; step: difference paired over animals, with the 95 % interval of resampled \
                       animals; attained: "
        .to_owned();
    caption += match ceiling {
        Some(_) => "share of what the last rung is above chance, %",
        None => "not known, as nobody knows the true light of these axons",
    };
    Table { caption, header, rows: rows.collect() }
}

/// Every number unrounded, one line per rung and animal.
pub fn to_csv(rungs: &[Rung]) -> String {
    let mut text = String::from("rung,population,animal,balanced_accuracy,chance\n");
    for rung in rungs {
        for ((population, animal), score) in &rung.scores {
            let chance =
                rung.chance.get(&(population.clone(), animal.clone())).map_or_else(String::new, f64::to_string);
            let [name, population, animal] = [&rung.name, population, animal].map(|field| csv_field(field));
            text += &format!("{name},{population},{animal},{score},{chance}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(name: &str, against: Option<usize>, scores: &[f64]) -> Rung {
        let animal = |number: usize| ("flies".to_owned(), format!("fly_{number}"));
        Rung {
            name: name.to_owned(),
            against,
            scores: scores.iter().enumerate().map(|(number, score)| (animal(number), *score)).collect(),
            chance: (0..scores.len()).map(|number| (animal(number), 0.2)).collect(),
            ceiling: false,
        }
    }

    #[test]
    fn a_step_is_paired_over_the_animals_of_both_and_its_interval_holds_its_mean() {
        let (before, after) = (rung("before", None, &[0.3, 0.4, 0.5, 0.9]), rung("after", Some(0), &[0.4, 0.4, 0.7]));
        let step = after.minus(&before).unwrap();
        assert!((step.mean - 0.1).abs() < 1e-12);
        assert_eq!((step.better, step.animals), (2, 3));
        assert!(step.interval[0] >= 0.0 && step.interval[0] < 0.1 && step.interval[1] > 0.1 && step.interval[1] <= 0.2);
        assert_eq!(after.minus(&rung("none", None, &[])), None);
    }

    #[test]
    fn the_table_says_what_a_step_is_compared_with_and_what_share_is_attained() {
        let mut rungs = vec![rung("as they lie", None, &[0.4, 0.4]), rung("on an atlas", Some(0), &[0.5, 0.5])];
        rungs.push(Rung { ceiling: true, ..rung("light of the axons", Some(1), &[0.8, 0.8]) });
        let table = table(&rungs);
        assert_eq!(table.rows[0], ["1 as they lie", "40.0", "2", "20.0", "", "33.3"]);
        assert_eq!(table.rows[1][4], "+10.0 [10.0, 10.0] against 1, better on 2 of 2");
        assert_eq!(table.rows[1][5], "50.0");
        assert_eq!(table.rows[2][5], "100.0");
        assert_eq!(to_csv(&rungs).lines().count(), 7);
    }
}
