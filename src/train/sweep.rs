//! A sweep: one file that describes many trainings, each found by its index alone, so that a cluster can run them in any order, on any
//! machine, and any of them again.
//!
//! What it must never do: depend on what other trainings of the sweep gave, or on the order in which they ran.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Value;

use crate::model::describe;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_text_or_pipe};
use crate::sys::random::Random;

/// Most trainings of a sweep.
pub const TRAININGS_MAX: usize = 10_000;
/// A sweep's file.
const SWEEP: Bound = Bound::new("a sweep", 1 << 20);

/// What a sweep's file says; `config/sweep-example.toml` explains every key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Options of `haltere train` that all trainings share, as on a command line: data, preset, steps …
    pub options: Vec<String>,
    /// Seeds: every setting is trained with each of them.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Sets of animals to hold out: every setting is trained without each of them, and scored on it.
    pub hold_out: Vec<Vec<String>>,
    /// Settings and the values to try: every combination is trained.
    #[serde(default)]
    grid: BTreeMap<String, Vec<Value>>,
    /// Settings to draw, besides those of the grid.
    random: Option<Draws>,
}

/// Settings that are drawn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draws {
    draws: usize,
    #[serde(default = "first_seed")]
    seed: u64,
    set: BTreeMap<String, Range>,
}

/// Between which numbers; both included for whole numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: Value,
    to: Value,
    #[serde(default)]
    log: bool,
}

/// One training of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Its index, from 0.
    pub index: usize,
    /// What differs from other trainings, `key=value`, besides seed and animals.
    pub settings: Vec<String>,
    /// Seed.
    pub seed: u64,
    /// Animals held out.
    pub hold_out: Vec<String>,
}

impl Training {
    /// The settings in one text; trainings that differ in seed and animals only have the same.
    pub fn name(&self) -> String {
        if self.settings.is_empty() { "as given".to_owned() } else { self.settings.join(" ") }
    }

    /// The method, where it is one of the settings.
    pub fn method(&self) -> Option<&str> {
        let value = self.settings.iter().find_map(|setting| setting.strip_prefix("method="));
        value.map(|text| text.trim_matches('"'))
    }
}

/// A sweep that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct SweepError {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl HasExitCode for SweepError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}

fn one_seed() -> Vec<u64> {
    vec![first_seed()]
}

fn first_seed() -> u64 {
    1
}

impl Sweep {
    /// Reads and checks a sweep's file.
    ///
    /// # Errors
    /// [`SweepError`]: what is wrong, with its line where there is one.
    pub fn read(path: &Path) -> Result<Self, SweepError> {
        let wrong = |what: String| SweepError { path: path.into(), what };
        let text = read_text_or_pipe(path, SWEEP).map_err(|error| wrong(error.cause.to_string()))?;
        let sweep: Self = toml::from_str(&text).map_err(|error| wrong(describe(&error)))?;
        sweep.check().map_err(wrong)?;
        Ok(sweep)
    }

    fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() {
            return Err("seeds = []: at least one seed".to_owned());
        }
        if self.hold_out.is_empty() || self.hold_out.iter().any(Vec::is_empty) {
            return Err(
                "hold_out: at least one set of at least one animal, such as [[\"fly_1\"], [\"fly_2\"]]".to_owned()
            );
        }
        if let Some((key, _)) = self.grid.iter().find(|(_, values)| values.is_empty()) {
            return Err(format!("grid.{key} = []: at least one value"));
        }
        if let Some(random) = &self.random {
            random.check(&self.grid)?;
        }
        let factors = self.grid.values().map(Vec::len).chain([self.draws(), self.hold_out.len(), self.seeds.len()]);
        let count = factors.fold(1_usize, usize::saturating_mul);
        if count > TRAININGS_MAX {
            return Err(format!(
                "{count} trainings: at most {TRAININGS_MAX}; try fewer values, or draw them by [random]"
            ));
        }
        Ok(())
    }

    fn draws(&self) -> usize {
        self.random.as_ref().map_or(1, |random| random.draws)
    }

    /// Number of trainings.
    pub fn count(&self) -> usize {
        self.grid.values().map(Vec::len).product::<usize>() * self.draws() * self.hold_out.len() * self.seeds.len()
    }

    /// The training of an index; `None` from [`Self::count`] on. Seeds change fastest, then animals, draws and the grid.
    pub fn training(&self, index: usize) -> Option<Training> {
        if index >= self.count() {
            return None;
        }
        let mut rest = index;
        let mut digit = |base: usize| {
            let digit = rest % base;
            rest /= base;
            digit
        };
        let seed = self.seeds[digit(self.seeds.len())];
        let hold_out = self.hold_out[digit(self.hold_out.len())].clone();
        let drawn = self.random.as_ref().map(|random| random.draw(digit(random.draws))).unwrap_or_default();
        // The last key of the grid changes fastest.
        let mut settings: Vec<String> =
            self.grid.iter().rev().map(|(key, values)| format!("{key}={}", values[digit(values.len())])).collect();
        settings.reverse();
        settings.extend(drawn);
        Some(Training { index, settings, seed, hold_out })
    }

    /// All of them.
    pub fn trainings(&self) -> impl Iterator<Item = Training> + '_ {
        (0..self.count()).filter_map(|index| self.training(index))
    }
}

impl Draws {
    fn check(&self, grid: &BTreeMap<String, Vec<Value>>) -> Result<(), String> {
        if self.draws == 0 {
            return Err("random.draws = 0: at least 1".to_owned());
        }
        for (key, range) in &self.set {
            if grid.contains_key(key) {
                return Err(format!("{key} stands in [grid] and in [random.set]: leave one out"));
            }
            range.bounds().map_err(|what| format!("random.set.{key}: {what}"))?;
        }
        Ok(())
    }

    /// The settings of one draw. Each key has its own stream: a further key changes no other.
    fn draw(&self, number: usize) -> Vec<String> {
        let one = |(key, range): (&String, &Range)| {
            let stream: Vec<u64> = key.bytes().map(u64::from).chain([number as u64]).collect();
            let uniform = Random::new(self.seed, &stream).uniform();
            range.at(uniform).map(|value| format!("{key}={value}"))
        };
        self.set.iter().filter_map(one).collect()
    }
}

impl Range {
    /// Both ends as numbers, and whether they are whole.
    fn bounds(&self) -> Result<(f64, f64, bool), String> {
        let number = |value: &Value| match value {
            Value::Integer(whole) => Ok((*whole as f64, true)),
            Value::Float(number) if number.is_finite() => Ok((*number, false)),
            other => Err(format!("{other}: a number")),
        };
        let ((from, first), (to, second)) = (number(&self.from)?, number(&self.to)?);
        if from >= to {
            return Err(format!("from = {from}, to = {to}: `from` must be less than `to`"));
        }
        if self.log && from <= 0.0 {
            return Err(format!("from = {from} with log = true: above 0"));
        }
        Ok((from, to, first && second))
    }

    /// The value at a share of the range.
    fn at(&self, share: f64) -> Option<Value> {
        let (from, to, whole) = self.bounds().ok()?;
        // Every whole number has the same share.
        let (low, high) = if whole { (from, to + 1.0) } else { (from, to) };
        let value =
            if self.log { (low.ln() + share * (high.ln() - low.ln())).exp() } else { low + share * (high - low) };
        Some(if whole { Value::Integer(value.floor().clamp(from, to) as i64) } else { Value::Float(value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Result<Sweep, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, text).unwrap();
        Sweep::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_a_sweep() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sweep-example.toml");
        let sweep = Sweep::read(&path).unwrap();
        assert_eq!(sweep.count(), 3 * 3 * 8 * 4);
        assert_eq!(sweep.training(0).unwrap().settings.len(), 5);
    }

    const HEAD: &str = "options = ['--mc2p', 'flies']\nseeds = [3, 4]\nhold_out = [['a'], ['b', 'c']]\n";

    #[test]
    fn every_combination_has_one_index() {
        let grid = "[grid]\nmethod = ['simclr', 'haltere']\ntemperature = [0.1, 0.2, 0.3]\n";
        let random = "[random]\ndraws = 5\nset.'batch.segments' = { from = 2, to = 9 }\n";
        let sweep = sweep(&format!("{HEAD}{grid}{random}")).unwrap();
        let all: Vec<Training> = sweep.trainings().collect();
        assert_eq!((sweep.count(), all.len(), sweep.training(all.len())), (120, 120, None));
        let texts: std::collections::BTreeSet<String> =
            all.iter().map(|t| format!("{} {} {:?}", t.name(), t.seed, t.hold_out)).collect();
        // Two draws may agree.
        assert!(texts.len() > 90, "{}", texts.len());
        assert_eq!((all[0].seed, all[1].seed, all[2].hold_out.len()), (3, 4, 2));
        assert_eq!((all[0].method(), all[119].method()), (Some("simclr"), Some("haltere")));
        assert!(all[119].settings.contains(&"temperature=0.3".to_owned()), "{:?}", all[119]);
    }

    #[test]
    fn draws_stay_in_their_range_reach_its_ends_and_do_not_depend_on_each_other() {
        let of = |more: &str| {
            let set = format!("[random]\ndraws = 300\n[random.set]\nsteps = {{ from = 1, to = 4 }}\n{more}");
            let sweep = sweep(&format!("{HEAD}{set}")).unwrap();
            let drawn = |key: &str| -> Vec<f64> {
                let of_key = |t: Training| t.settings.iter().find_map(|s| s.strip_prefix(key)?.parse().ok());
                sweep.trainings().step_by(4).filter_map(of_key).collect()
            };
            (drawn("steps="), drawn("optimiser.learning_rate="))
        };
        let (steps, none) = of("");
        assert_eq!((steps.len(), none.len()), (300, 0));
        let counts: Vec<usize> = (0..6).map(|n| steps.iter().filter(|s| **s == f64::from(n)).count()).collect();
        assert!(counts[0] == 0 && counts[5] == 0 && counts[1..5].iter().all(|&c| c > 45), "{counts:?}");
        let (again, rates) = of("'optimiser.learning_rate' = { from = 1e-4, to = 1e-2, log = true }\n");
        assert_eq!(again, steps, "another key changes no draw");
        assert!(rates.iter().all(|r| (1e-4..1e-2).contains(r)));
        let small = rates.iter().filter(|r| **r < 1e-3).count();
        assert!((110..190).contains(&small), "half of them below the geometric mean: {small}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("options = []\nhold_out = []\n", "hold_out: at least one set"),
            ("options = []\nhold_out = [['a']]\nseeds = []\n", "at least one seed"),
            ("options = []\nhold_out = [['a']]\nsede = 1\n", "sede"),
            ("options = []\nhold_out = [['a']]\n[grid]\ntemperature = []\n", "grid.temperature = []"),
            ("options = []\nhold_out = [['a']]\n[random]\ndraws = 2\nset.x = { from = 2, to = 1 }\n", "less than `to`"),
            (
                "options = []\nhold_out = [['a']]\n[random]\ndraws = 2\nset.x = { from = 0, to = 1, log = true }\n",
                "above 0",
            ),
            (
                "options = []\nhold_out = [['a']]\n[random]\ndraws = 200000\nset.x = { from = 0, to = 1 }\n",
                "at most 10000",
            ),
            (
                "options = []\nhold_out = [['a']]\n[grid]\nx = [1]\n[random]\ndraws = 2\nset.x = { from = 0, to = 1 }\n",
                "leave one out",
            ),
        ] {
            let error = sweep(text).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
