//! What a training run is told: method, sizes, batch, optimiser, augmentations. Written into the run's folder as it was used.
//!
//! Why it exists: a number of a paper is a default here, never a constant in the code; and a run must be repeatable from its
//! own `config.toml`. What it must never do: hold a path, a device or anything else that does not change the result.

use serde::{Deserialize, Serialize};

use super::augment::Augmentations;
use super::bounds::within;
use super::spec::{NetworkSpec, SpecError};
use crate::frame::Shape;

pub use super::bounds::SettingError;

/// How the encoder is trained; the rows of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Logistic regression on down-sampled frames, no network.
    Linear,
    /// The same encoder, trained on the labels.
    Supervised,
    /// Neural window → pose; the representation is the embedding before the last layer.
    Regression,
    /// The same with a recurrent layer over the frames' features; for comparison only, it is not exported.
    RegressionRecurrent,
    /// The contrast of neural and behavioural windows with standard augmentations only.
    Simclr,
    /// Plus a domain classifier with gradient reversal on each modality.
    SimclrGrl,
    /// Plus the maximum mean discrepancy between animals.
    SimclrMmd,
    /// Plus correlation alignment between animals.
    SimclrCoral,
    /// The contrast with all augmentations.
    Haltere,
}

impl Method {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Linear,
        Self::Supervised,
        Self::Regression,
        Self::RegressionRecurrent,
        Self::Simclr,
        Self::SimclrGrl,
        Self::SimclrMmd,
        Self::SimclrCoral,
        Self::Haltere,
    ];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Supervised => "supervised",
            Self::Regression => "regression",
            Self::RegressionRecurrent => "regression-recurrent",
            Self::Simclr => "simclr",
            Self::SimclrGrl => "simclr-grl",
            Self::SimclrMmd => "simclr-mmd",
            Self::SimclrCoral => "simclr-coral",
            Self::Haltere => "haltere",
        }
    }

    /// One sentence for a report.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Linear => "logistic regression on down-sampled frames of the window",
            Self::Supervised => {
                "the encoder and a linear layer, trained on the labels (cross-entropy, classes balanced)"
            }
            Self::Regression => "the encoder and a linear layer, trained to predict the pose",
            Self::RegressionRecurrent => "the frame network and a gated recurrent unit, trained to predict the pose",
            Self::Simclr => "symmetric InfoNCE between neural and behavioural windows, standard augmentations",
            Self::SimclrGrl => "InfoNCE and a domain classifier behind a gradient reversal on each modality",
            Self::SimclrMmd => "InfoNCE and the maximum mean discrepancy between animals on each modality",
            Self::SimclrCoral => "InfoNCE and correlation alignment between animals on each modality",
            Self::Haltere => {
                "symmetric InfoNCE with behavioural swap, neural swap and mix, calcium and placement augmentation, \
                behaviour standardised per animal, and a growing maximum mean discrepancy between animals"
            }
        }
    }

    /// Does it pull the two views of a moment together?
    pub fn contrasts(self) -> bool {
        matches!(self, Self::Simclr | Self::SimclrGrl | Self::SimclrMmd | Self::SimclrCoral | Self::Haltere)
    }

    /// Does it learn from labels?
    pub fn needs_labels(self) -> bool {
        self == Self::Supervised
    }

    /// Can the daemon run what it makes?
    pub fn exports(self) -> bool {
        !matches!(self, Self::Linear | Self::RegressionRecurrent)
    }
}

/// How much is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Minutes on two cores: a small network, few steps.
    Quick,
    /// Under an hour on two cores.
    Standard,
    /// The sizes of the published method: meant for a GPU.
    Paper,
}

/// Everything that decides a run, beside the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// How.
    pub method: Method,
    /// Of the weights, the batches and the augmentations.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: usize,
    /// Steps between two looks at the held-out part.
    pub validate_every: usize,
    /// Looks without a better held-out loss after which training stops; 0 = never.
    pub patience: usize,
    /// The last share of each trial that is not trained on but looked at.
    pub held_out_share: f64,
    /// Future model frames in a window: 0 = causal.
    pub look_ahead_frames: usize,
    /// Sizes of the network.
    pub network: NetworkSizes,
    /// The behaviour window.
    pub behaviour: BehaviourWindow,
    /// What one step sees.
    pub batch: Batch,
    /// How weights move.
    pub optimiser: Optimiser,
    /// τ of InfoNCE.
    pub temperature: f64,
    /// Dimensions of the space of the contrast, behind a projection head; 0 = no head, the embeddings themselves are contrasted.
    /// A head may ignore what it does not need, and so lets the embedding keep it: identity, too.
    pub projection: usize,
    /// Weight of what `simclr-grl`, `-mmd`, `-coral` and `haltere` (maximum mean discrepancy of the neural view) add to the
    /// contrast, at the end of the run; it grows from 0 in a straight line, so that there is something to align (Ganin et al.
    /// 2016 let theirs grow, too). 0 = off.
    pub alignment: f64,
    /// The augmentations; a method other than `haltere` uses the standard ones only.
    pub augment: Augmentations,
}

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSizes {
    /// Channels of each layer of the frame network; fewer or more than the input needs are cut or repeated at the last.
    pub widths: Vec<usize>,
    /// Features of one frame.
    pub features: usize,
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// Model frames in a window.
    pub window_frames: usize,
}

impl NetworkSizes {
    /// The specification for an input, with these labels.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn spec(&self, input: Shape, labels: &[String]) -> Result<NetworkSpec, SpecError> {
        let layers = NetworkSpec::layers(input);
        let last = self.widths.last().copied().unwrap_or_default();
        let widths = (0..layers).map(|layer| self.widths.get(layer).copied().unwrap_or(last)).collect();
        let spec = NetworkSpec {
            input,
            widths,
            features: self.features,
            window_frames: self.window_frames,
            embedding: self.embedding,
            labels: labels.to_vec(),
        };
        spec.check()?;
        Ok(spec)
    }
}

/// The behaviour window: `frames` behaviour frames, `stride` apart, the last one at the moment that is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourWindow {
    /// Frames; even.
    pub frames: usize,
    /// Behaviour frames between two of them.
    pub stride: usize,
    /// How many behaviour frames after now the window ends: with half its length it is centred.
    pub lead: usize,
}

/// What one step sees: contiguous pieces of recordings, several windows in each, so that a frame is encoded once for all the
/// windows it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Pieces, spread evenly over the animals.
    pub segments: usize,
    /// Windows of a piece.
    pub windows: usize,
    /// Model frames between two windows of a piece.
    pub stride_frames: usize,
    /// Kinds of behaviour of each animal that pieces are drawn from alike; 1 = as often as they occur.
    pub kinds: usize,
}

impl Batch {
    /// Model frames of a piece.
    pub fn segment_frames(&self, window_frames: usize) -> usize {
        window_frames + (self.windows - 1) * self.stride_frames
    }
}

/// AdamW (Loshchilov and Hutter 2019) with a linear warm-up and a cosine to zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// Largest step size.
    pub learning_rate: f64,
    /// Decoupled decay.
    pub weight_decay: f32,
    /// Steps until the largest step size.
    pub warmup_steps: usize,
}

impl Optimiser {
    /// Step size at a step of `steps`.
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let warm = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let done = step as f64 / steps.max(1) as f64;
        self.learning_rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
    }
}

impl TrainSettings {
    /// The defaults of a preset.
    pub fn preset(preset: Preset, method: Method, seed: u64) -> Self {
        let (steps, widths, features, embedding) = match preset {
            Preset::Quick => (300, vec![16, 32, 48], 64, 64),
            Preset::Standard => (900, vec![24, 48, 64], 64, 64),
            Preset::Paper => (20_000, vec![48, 80, 128, 160], 128, 128),
        };
        let segments = if preset == Preset::Paper { 64 } else { 32 };
        let augment = if method == Method::Haltere { Augmentations::all() } else { Augmentations::standard() };
        Self {
            method,
            seed,
            steps,
            validate_every: (steps / 15).max(1),
            patience: 0,
            held_out_share: 0.1,
            look_ahead_frames: 0,
            network: NetworkSizes { widths, features, embedding, window_frames: 32 },
            behaviour: BehaviourWindow { frames: 8, stride: 3, lead: 0 },
            batch: Batch { segments, windows: 4, stride_frames: 8, kinds: 16 },
            optimiser: Optimiser { learning_rate: 2e-3, weight_decay: 1e-4, warmup_steps: (steps / 20).max(1) },
            temperature: 0.1,
            projection: if method == Method::Haltere { 0 } else { 64 },
            alignment: if method == Method::Haltere { 12.0 } else { 1.0 },
            augment,
        }
    }

    /// Weight of the alignment between animals at a step.
    pub fn alignment_at(&self, step: usize) -> f64 {
        self.alignment * (step as f64 / self.steps.max(1) as f64).min(1.0)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one outside its range, by key, value and bound.
    pub fn check(&self) -> Result<(), SettingError> {
        let window = self.network.window_frames;
        within((1..=10_000_000).contains(&self.steps), "steps", &self.steps, "1 to 10000000")?;
        within(self.validate_every >= 1, "validate_every", &self.validate_every, "at least 1 step")?;
        within(self.network.widths.iter().any(|&w| w > 0), "network.widths", &self.network.widths, "at least one")?;
        let share = self.held_out_share;
        within((0.0..=0.5).contains(&share), "held_out_share", &share, "0 to 0.5")?;
        within(self.look_ahead_frames < window, "look_ahead_frames", &self.look_ahead_frames, "less than a window")?;
        let frames = self.behaviour.frames;
        within((2..=512).contains(&frames) && frames.is_multiple_of(2), "behaviour.frames", &frames, "even, 2 to 512")?;
        within((1..=1000).contains(&self.behaviour.stride), "behaviour.stride", &self.behaviour.stride, "1 to 1000")?;
        within(self.behaviour.lead <= 10_000, "behaviour.lead", &self.behaviour.lead, "0 to 10000")?;
        within((2..=4096).contains(&self.batch.segments), "batch.segments", &self.batch.segments, "2 to 4096")?;
        within((1..=256).contains(&self.batch.windows), "batch.windows", &self.batch.windows, "1 to 256")?;
        let stride = self.batch.stride_frames;
        within((1..=1024).contains(&stride), "batch.stride_frames", &stride, "1 to 1024 frames")?;
        within((1..=1000).contains(&self.batch.kinds), "batch.kinds", &self.batch.kinds, "1 to 1000")?;
        let rate = self.optimiser.learning_rate;
        within(rate > 0.0 && rate <= 1.0, "optimiser.learning_rate", &rate, "above 0, to 1")?;
        let decay = self.optimiser.weight_decay;
        within((0.0..=1.0).contains(&decay), "optimiser.weight_decay", &decay, "0 to 1")?;
        within((0.001..=10.0).contains(&self.temperature), "temperature", &self.temperature, "0.001 to 10")?;
        let projection = self.projection;
        within(projection == 0 || (2..=4096).contains(&projection), "projection", &projection, "0, or 2 to 4096")?;
        within((0.0..=1000.0).contains(&self.alignment), "alignment", &self.alignment, "0 to 1000")?;
        self.augment.check()
    }

    /// Sets one value by its dotted key, as in `augment.calcium.probability=0.3`.
    ///
    /// # Errors
    /// [`SettingError`] for a key that is not there or a value of another kind.
    pub fn set(&mut self, assignment: &str) -> Result<(), SettingError> {
        let wrong = |bound: String| SettingError { key: assignment.into(), value: String::new(), bound };
        let (key, value) = assignment.split_once('=').ok_or_else(|| wrong("write KEY=VALUE".into()))?;
        let mut whole = toml::Table::try_from(&*self).map_err(|e| wrong(e.to_string()))?;
        let document = format!("value = {value}");
        let parsed: toml::Table = document
            .parse()
            .or_else(|_| format!("value = {value:?}").parse())
            .map_err(|e: toml::de::Error| wrong(e.message().into()))?;
        let mut place = &mut whole;
        let mut parts = key.trim().split('.').peekable();
        while let Some(part) = parts.next() {
            let known = place.keys().cloned().collect::<Vec<_>>().join(", ");
            let entry = place.get_mut(part).ok_or_else(|| wrong(format!("no key `{part}`; there are: {known}")))?;
            if parts.peek().is_none() {
                *entry = parsed["value"].clone();
                break;
            }
            place = entry.as_table_mut().ok_or_else(|| wrong(format!("`{part}` holds a value, no keys")))?;
        }
        *self = whole.try_into().map_err(|e: toml::de::Error| wrong(e.message().into()))?;
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_of_every_method_is_sound_and_survives_toml() {
        for preset in [Preset::Quick, Preset::Standard, Preset::Paper] {
            for method in Method::ALL {
                let settings = TrainSettings::preset(preset, method, 3);
                assert_eq!(settings.check(), Ok(()));
                let text = toml::to_string(&settings).unwrap();
                assert_eq!(toml::from_str::<TrainSettings>(&text).unwrap(), settings);
            }
        }
    }

    #[test]
    fn a_key_is_set_by_its_dotted_name_and_a_wrong_one_names_the_known_ones() {
        let mut settings = TrainSettings::preset(Preset::Quick, Method::Haltere, 1);
        settings.set("augment.calcium.probability=0.25").unwrap();
        assert_eq!(settings.augment.calcium.probability, 0.25);
        settings.set("method=simclr").unwrap();
        assert_eq!(settings.method, Method::Simclr);
        let unknown = settings.set("batch.segment=3").unwrap_err().to_string();
        assert!(unknown.contains("kinds, segments, stride_frames, windows"), "{unknown}");
        let outside = settings.set("temperature=0").unwrap_err();
        assert_eq!((outside.key.as_str(), outside.value.as_str()), ("temperature", "0.0"));
    }

    #[test]
    fn the_step_size_rises_then_falls_to_zero() {
        let optimiser = Optimiser { learning_rate: 1.0, weight_decay: 0.0, warmup_steps: 10 };
        assert!(optimiser.rate(0, 100) < 0.11 && optimiser.rate(9, 100) > 0.95 && optimiser.rate(99, 100) < 0.001);
    }
}
