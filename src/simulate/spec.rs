//! The specification of a recording (seed, animal, trial, length, recipe), also written as `sim:seed=7,animal=9`.
//!
//! Why it exists: `play sim:…`, `embed sim:…` and `watch --truth sim:…` must mean the same recording.
//! What it must never do: give another recording when only the length differs; a longer one begins the same.

use std::path::PathBuf;
use std::str::FromStr;

use super::recipe::{Recipe, RecipeError};

/// Prefix of a simulated recording.
const PREFIX: &str = "sim:";
/// Maximum length of a recording, s: a day.
pub const SECONDS_MAX: f64 = 86_400.0;
/// Default length, s: that of the published recordings.
pub const SECONDS_DEFAULT: f64 = 240.0;

/// One recording of one simulated animal.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Other seed, other animals of the same species.
    pub seed: u64,
    /// Number of the animal, from 1.
    pub animal: u64,
    /// Number of the trial, from 1.
    pub trial: u64,
    /// Length, s.
    pub seconds: f64,
    /// The parameters of the animals.
    pub recipe: Recipe,
}

impl Default for Spec {
    fn default() -> Self {
        Self { seed: 1, animal: 1, trial: 1, seconds: SECONDS_DEFAULT, recipe: Recipe::default() }
    }
}

/// Does this path stand for a simulated recording?
pub fn is_simulated(path: &std::path::Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with(PREFIX))
}

impl FromStr for Spec {
    type Err = RecipeError;

    /// `sim:` and then `key=value`, separated by commas: `seed`, `animal`, `trial`, `seconds`, `recipe` (a file), and any key of
    /// a recipe (`optics.motion_px=0`). `sim:` alone is the first animal of seed 1.
    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let failed = |cause: &str| RecipeError::Text { text: text.to_owned(), cause: cause.to_owned() };
        let list = text.strip_prefix(PREFIX).ok_or_else(|| failed("does not begin with sim:"))?;
        let mut spec = Self::default();
        let (mut file, mut set) = (None, Vec::new());
        for assignment in list.split(',').filter(|a| !a.trim().is_empty()) {
            let (key, value) = assignment.trim().split_once('=').ok_or_else(|| {
                failed("write key=value, separated by commas, as in sim:seed=7,animal=9,trial=1,seconds=60")
            })?;
            match key {
                "seed" => spec.seed = whole(key, value)?,
                "animal" => spec.animal = whole(key, value)?,
                "trial" => spec.trial = whole(key, value)?,
                "seconds" => spec.seconds = value.parse().map_err(|_| no_number(key, value))?,
                "recipe" => file = Some(PathBuf::from(value)),
                _ if key.contains('.') => set.push(format!("{key}={value}")),
                _ => return Err(unknown(key)),
            }
        }
        spec.recipe = Recipe::load(file.as_deref(), &set)?;
        spec.check()?;
        Ok(spec)
    }
}

fn unknown(key: &str) -> RecipeError {
    let keys = ["seed", "animal", "trial", "seconds", "recipe"];
    let like = |k: &&&str| (strsim::jaro_winkler(k, key) * 1e6) as i64;
    let near = (*keys.iter().max_by_key(like).unwrap_or(&"seed")).to_owned();
    RecipeError::Unknown { key: key.to_owned(), near }
}

fn no_number(key: &str, value: &str) -> RecipeError {
    RecipeError::Text { text: format!("{key}={value}"), cause: "is not a number".to_owned() }
}

fn whole(key: &str, value: &str) -> Result<u64, RecipeError> {
    value
        .parse()
        .map_err(|_| RecipeError::Text { text: format!("{key}={value}"), cause: "is not a whole number".to_owned() })
}

impl Spec {
    /// Checks the length and the recipe.
    ///
    /// # Errors
    /// The first value that is out of its bounds.
    pub fn check(&self) -> Result<(), RecipeError> {
        if !(1.0..=SECONDS_MAX).contains(&self.seconds) {
            let (key, value) = ("seconds".to_owned(), self.seconds);
            return Err(RecipeError::Bound { key, value, low: 1.0, high: SECONDS_MAX });
        }
        self.recipe.check()
    }

    /// The name of the recording in its frames.
    pub fn series(&self) -> String {
        format!("sim-{}-{}-{}", self.seed, self.animal, self.trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_which_recording_and_mistakes_are_named() {
        let spec: Spec = "sim:seed=7,animal=9, trial=2,seconds=60,neurons.missing=0".parse().unwrap();
        assert_eq!((spec.seed, spec.animal, spec.trial, spec.seconds), (7, 9, 2, 60.0));
        assert_eq!(spec.recipe.neurons.missing, 0.0);
        assert_eq!("sim:".parse::<Spec>().unwrap(), Spec::default());
        let error = |text: &str| text.parse::<Spec>().unwrap_err().to_string();
        assert!(error("sim:sead=7").contains("did you mean `seed`"));
        assert!(error("sim:seed=x").contains("seed=x"));
        assert!(error("sim:7").contains("key=value"));
        assert!(error("sim:seconds=0").contains("`seconds` is 0; it must be 1 to 86400"));
        assert!(error("sim:neurons.mising=0").contains("neurons.missing"));
        assert!(error("sim:recipe=nowhere.toml").contains("nowhere.toml"));
    }
}
