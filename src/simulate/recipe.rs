//! The parameters of simulated animals: every source of the domain gap has a parameter of its own.
//!
//! Why it exists: a gap that cannot be switched off cannot be studied. Each `…_sd` between animals is one difference between them;
//! at 0 that difference is gone and nothing else changes. The defaults come from what is known about such recordings, with the
//! reason next to each. What it must never do: be tuned until a method looks good.

use serde::{Deserialize, Serialize};

use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_text_or_pipe};

/// Largest recipe file read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A recipe that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// A value outside its bounds.
    #[error("`{key}` is {value}; it must be {low} to {high}")]
    Bound {
        /// Dotted key.
        key: String,
        /// What was given.
        value: f64,
        /// Smallest.
        low: f64,
        /// Largest.
        high: f64,
    },
    /// A key that does not exist.
    #[error("there is no key `{key}`; did you mean `{near}`?")]
    Unknown {
        /// What was given.
        key: String,
        /// The most similar key.
        near: String,
    },
    /// A text that is not a value.
    #[error("`{text}`: {cause}")]
    Text {
        /// What was given.
        text: String,
        /// Why, and what to write.
        cause: String,
    },
    /// A recipe file that cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        cause: String,
    },
}

impl HasExitCode for RecipeError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Bound { .. } | Self::Unknown { .. } | Self::Text { .. } | Self::File { .. } => ExitCode::Config,
        }
    }
}

/// One section: numbers with a default and bounds each.
macro_rules! section {
    ($(#[$about:meta])* $name:ident, $prefix:literal;
     $($(#[$doc:meta])* $field:ident: $kind:ty = $default:literal, $low:literal to $high:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            fn check(&self) -> Result<(), RecipeError> {
                $(bounded(concat!($prefix, ".", stringify!($field)), self.$field as f64, $low as f64, $high as f64)?;)*
                Ok(())
            }
        }
    };
}

section! {
    /// What the animals do. The constants of the species are in [`super::behaviour`].
    Behaviour, "behaviour";
    /// Between animals: how the shares of time of resting and walking differ, sd of the logarithm. Grooming differs 1.6 times
    /// as much. 0.5 gives a rest between a third and four fifths, as in the seven annotated flies.
    balance_sd: f64 = 0.5, 0 to 2;
    /// Between animals: how the mean length of bouts of one action differs, sd of the logarithm. A rough estimate from the same
    /// flies, which have too few bouts each for a better one.
    bout_length_sd: f64 = 0.2, 0 to 1;
    /// Maximum time without an action, s (plus the current bout, and other overdue actions): then it comes next, so that a trial
    /// of four minutes contains every action and can be scored. 0 = off: a fly may then lack an action altogether, as some of the
    /// seven do.
    absence_s_max: f64 = 80.0, 0 to 100000;
}

section! {
    /// How the legs move, and how the cameras see it. Lengths in mm, near enough: the units of the aligned poses.
    Limbs, "limbs";
    /// Between animals: lengths of the legs' segments, sd of the logarithm for the whole animal, and half of it for each leg.
    /// Flies of one genotype differ by about 5 %.
    length_sd: f64 = 0.06, 0 to 0.5;
    /// Between animals: frequency of stepping and of each grooming movement, sd of the logarithm.
    frequency_sd: f64 = 0.12, 0 to 1;
    /// Between animals: posture on the ball, rad for each joint angle.
    posture_rad_sd: f64 = 0.1, 0 to 1;
    /// Between animals: amplitude of each action's movements, sd of the logarithm.
    style_sd: f64 = 0.2, 0 to 1;
    /// Between animals: rotation of the camera frame about each axis (how the animal is glued and calibrated), degrees.
    camera_rotation_deg_sd: f64 = 4.0, 0 to 45;
    /// Between animals: offset of the camera frame along each axis, mm.
    camera_offset_mm_sd: f64 = 0.1, 0 to 2;
    /// Between animals: scale of the camera frame, sd of the logarithm.
    camera_scale_sd: f64 = 0.04, 0 to 0.5;
    /// Noise of every joint of every frame, mm, as left by pose estimation.
    camera_noise_mm: f64 = 0.015, 0 to 1;
    /// Between animals: that noise, sd of the logarithm (focus, light, dirt).
    camera_noise_sd: f64 = 0.3, 0 to 2;
    /// How often a joint is mistracked for some frames, per second.
    camera_jumps_hz: f64 = 0.1, 0 to 50;
}

section! {
    /// The axons of descending neurons. The same functional types exist in every animal; see [`super::neurons`].
    Neurons, "neurons";
    /// Between animals: position of an axon, px of a field of 64 px. Tracts keep their place, axons within a tract do not.
    position_px_sd: f64 = 1.5, 0 to 20;
    /// Between animals: diameter of the axons, sd of the logarithm.
    size_sd: f64 = 0.2, 0 to 1;
    /// Between animals: response strength of an axon, sd of the logarithm.
    gain_sd: f64 = 0.4, 0 to 2;
    /// Between animals: weights of actions that an axon of its type should not respond to (mixed selectivity), sd, where 1 is the
    /// weight of its own action.
    mixing_sd: f64 = 0.2, 0 to 2;
    /// Between animals: probability that an axon is missing (driver line not expressed, out of the plane).
    missing: f64 = 0.1, 0 to 1;
    /// Between animals: mean number of axons that no other animal has.
    extra: f64 = 6.0, 0 to 100;
    /// Between animals: how much earlier or later than its type an axon fires, s.
    lead_s_sd: f64 = 0.05, 0 to 1;
    /// Decay of the indicator, s. GCaMP6s falls to half in half a second and more (Chen et al. 2013), which is 0.6 to 1 s here;
    /// the low end, because most grooming bouts are over in that time: with 0.8 s a causal linear decoder of one animal gets
    /// little above a third (balanced) even without noise.
    decay_s: f64 = 0.6, 0.05 to 10;
    /// Between animals: that decay, sd of the logarithm (expression level, temperature).
    decay_sd: f64 = 0.15, 0 to 1;
    /// Rise of the indicator, s.
    rise_s: f64 = 0.12, 0.01 to 5;
    /// ΔF/F of an axon at sustained full drive. Saturates above. Descending axons reach one to three in such recordings.
    peak: f64 = 1.8, 0 to 20;
    /// Strength of the slow input that many axons share (arousal), which is not an action.
    arousal: f64 = 0.5, 0 to 5;
    /// Variation of strength between bouts of one action, sd of the logarithm.
    bout_sd: f64 = 0.35, 0 to 2;
    /// How much the response of phasic types adapts within a bout, 0 to 1.
    adaptation: f64 = 0.7, 0 to 1;
    /// Spontaneous firing of an axon, sd, where 1 is full drive.
    private: f64 = 0.12, 0 to 5;
    /// Noise of spiking: 1 = Poisson, 0 = none.
    spiking: f64 = 1.0, 0 to 1;
    /// Firing at full drive, Hz: tens of spikes per second in descending neurons.
    firing_hz: f64 = 40.0, 0.1 to 500;
}

section! {
    /// The two-photon microscope and the tissue. Distances in px of a field of 64 px, whatever `side_px` is.
    Optics, "optics";
    /// Rows and columns of a frame, px.
    side_px: usize = 64, 16 to 1024;
    /// Frames per second.
    rate_hz: f64 = 16.0, 1 to 100;
    /// Between animals: rotation of the field, degrees. The head is glued by hand and the scan field is turned by eye.
    rotation_deg_sd: f64 = 6.0, 0 to 180;
    /// Between animals: shift of the field along each axis, px.
    shift_px_sd: f64 = 2.5, 0 to 32;
    /// Between animals: magnification (size of the animal, level of the section), sd of the logarithm, for each axis.
    scale_sd: f64 = 0.05, 0 to 0.5;
    /// Between trials of one animal: the placement varies by this share of the three above.
    trial_placement: f64 = 0.15, 0 to 1;
    /// Between animals: light (expression, depth, laser power), sd of the logarithm.
    brightness_sd: f64 = 0.3, 0 to 2;
    /// Between animals: expression of each axon, green and red apart, sd of the logarithm. Axons that are dim in one animal are
    /// bright in the next.
    expression_sd: f64 = 0.5, 0 to 2;
    /// Between animals: unevenness of light over the field, share at the border.
    illumination_sd: f64 = 0.2, 0 to 1;
    /// Between animals: individual texture of the neuropil, share of its brightness.
    texture_sd: f64 = 0.25, 0 to 2;
    /// Between animals: gain of the detectors, sd of the logarithm.
    detector_sd: f64 = 0.1, 0 to 1;
    /// Light of the tissue, photons per px and frame, mean of the green channel. The real recording of the nerve cord has about
    /// three in each of its 256×256 px, thus 50 in 64×64, at a slower scan; at 16 Hz there is less.
    photons: f64 = 15.0, 0.1 to 10000;
    /// Brightness of the neuropil, where 1 is that of the middle of an axon.
    neuropil: f64 = 0.6, 0 to 10;
    /// The neuropil's own slow signal, sd as ΔF/F.
    neuropil_signal: f64 = 0.06, 0 to 5;
    /// How much of the mean activity of all axons shows in the neuropil, as ΔF/F per ΔF/F: out-of-focus light.
    contamination: f64 = 0.4, 0 to 5;
    /// Width of the point spread, sd in px.
    psf_px: f64 = 0.7, 0.1 to 10;
    /// Share of the green light that is lost to bleaching in ten minutes; red loses half as much. Half of it varies by animal.
    bleaching: f64 = 0.2, 0 to 0.95;
    /// Slow drift of the tissue in the plane, sd per axis, px.
    drift_px: f64 = 0.7, 0 to 10;
    /// Fast motion while the animal moves, sd per axis at its most vigorous, px. Together up to about 3 px, as in the real one.
    jerk_px: f64 = 0.7, 0 to 10;
    /// Share of the green light that the red detector sees.
    crosstalk: f64 = 0.03, 0 to 1;
    /// Counts per photon: 380 in the real recording, whose 16 px are averaged into one here.
    gain: f64 = 24.0, 0.01 to 10000;
    /// Counts without light, as in the real recording.
    dark_level: f64 = 1300.0, 0 to 30000;
    /// Noise of the electronics, counts: 36 in the real recording, over 16 px.
    read_counts_sd: f64 = 9.0, 0 to 10000;
}

/// All parameters of simulated animals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What the animals do.
    pub behaviour: Behaviour,
    /// How the legs move.
    pub limbs: Limbs,
    /// The axons.
    pub neurons: Neurons,
    /// The microscope.
    pub optics: Optics,
}

impl Recipe {
    /// Reads a recipe file, or the defaults, and overrides single keys (`section.key=value`).
    ///
    /// # Errors
    /// [`RecipeError`], naming file, key, value and bound.
    pub fn load(file: Option<&std::path::Path>, set: &[String]) -> Result<Self, RecipeError> {
        let mut recipe = match file {
            None => Self::default(),
            Some(path) => {
                let failed = |cause: String| RecipeError::File { path: path.into(), cause };
                let bound = Bound::new("a recipe", FILE_BYTES_MAX);
                let text = read_text_or_pipe(path, bound).map_err(|e| failed(e.cause.to_string()))?;
                Self::of_file(&text).map_err(failed)?
            }
        };
        for assignment in set {
            let (key, value) = assignment.split_once('=').ok_or_else(|| RecipeError::Text {
                text: assignment.clone(),
                cause: "write section.key=value, as in neurons.missing=0".to_owned(),
            })?;
            recipe.set(key.trim(), value.trim())?;
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// A recipe file, or the `recipe.toml` beside simulated animals, whose `[simulation]` states their number.
    fn of_file(text: &str) -> Result<Self, String> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        table.remove("simulation");
        table.try_into().map_err(|e: toml::de::Error| e.to_string())
    }

    /// Sets one dotted key. The bounds are checked by [`Recipe::check`].
    ///
    /// # Errors
    /// An unknown key, or a text that is not a number.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), RecipeError> {
        let failed = |cause: String| RecipeError::Text { text: format!("{key}={value}"), cause };
        let mut table = toml::Table::try_from(&*self).map_err(|e| failed(e.to_string()))?;
        let keys = keys_of(&table);
        if !keys.iter().any(|k| k == key) {
            let like = |k: &&String| (strsim::jaro_winkler(k, key) * 1e6) as i64;
            let near = keys.iter().max_by_key(like).cloned().unwrap_or_default();
            return Err(RecipeError::Unknown { key: key.to_owned(), near });
        }
        let number: f64 = value.parse().map_err(|_| failed("is not a number".to_owned()))?;
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        if let Some(toml::Value::Table(section)) = table.get_mut(section) {
            let whole = matches!(section.get(name), Some(toml::Value::Integer(_)));
            if whole && (number.fract() != 0.0 || number < 0.0) {
                return Err(failed("must be a whole number".to_owned()));
            }
            let value = if whole { toml::Value::Integer(number as i64) } else { toml::Value::Float(number) };
            section.insert(name.to_owned(), value);
        }
        *self = table.try_into().map_err(|e: toml::de::Error| failed(e.to_string()))?;
        Ok(())
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first key that is out of its bounds.
    pub fn check(&self) -> Result<(), RecipeError> {
        self.behaviour.check()?;
        self.limbs.check()?;
        self.neurons.check()?;
        self.optics.check()
    }
}

fn keys_of(table: &toml::Table) -> Vec<String> {
    let sections = table.iter().filter_map(|(section, values)| Some((section, values.as_table()?)));
    sections.flat_map(|(section, values)| values.keys().map(move |key| format!("{section}.{key}"))).collect()
}

fn bounded(key: &str, value: f64, low: f64, high: f64) -> Result<(), RecipeError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(RecipeError::Bound { key: key.to_owned(), value, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_or_key_is_named_with_its_bound() {
        let error = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            Recipe::load(None, &set).unwrap_err().to_string()
        };
        assert_eq!(error(&["neurons.missing=1.5"]), "`neurons.missing` is 1.5; it must be 0 to 1");
        assert!(error(&["optics.side_px=7"]).contains("`optics.side_px` is 7; it must be 16 to 1024"));
        assert!(error(&["optics.side_px=64.5"]).contains("whole number"));
        assert!(error(&["neurons.decay_s=NaN"]).contains("`neurons.decay_s` is NaN"));
        assert!(error(&["neuron.missing=0"]).contains("did you mean `neurons.missing`?"));
        assert!(error(&["missing"]).contains("section.key=value"));
        assert!(error(&["limbs.style_sd=wide"]).contains("limbs.style_sd=wide"));
    }

    #[test]
    fn the_defaults_pass_and_a_file_with_a_typing_error_does_not() {
        assert_eq!(Recipe::load(None, &[]).unwrap(), Recipe::default());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recipe.toml");
        std::fs::write(&file, "[optics]\nshift_px_sd = 0.0\n\n[simulation]\nseed = 3\n").unwrap();
        let recipe = Recipe::load(Some(&file), &["neurons.extra=0".to_owned()]).unwrap();
        assert_eq!((recipe.optics.shift_px_sd, recipe.neurons.extra), (0.0, 0.0));
        std::fs::write(&file, "[optics]\nshift_px = 0.0\n").unwrap();
        let error = Recipe::load(Some(&file), &[]).unwrap_err().to_string();
        assert!(error.contains("recipe.toml") && error.contains("shift_px"), "{error}");
    }
}
