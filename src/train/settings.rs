//! The settings of a training run: method, sizes, batch, optimiser, augmentations. The run's folder keeps them as they were used.
//!
//! Why it exists: every number taken from a paper is a default here, never a constant in the code, and a run can be repeated from
//! its own `config.toml`. What it must never do: hold a path, a device or anything else that does not change the result.

use serde::{Deserialize, Serialize};

use super::augment::Augmentations;
use super::bounds::within;
use super::spec::{NetworkKind, NetworkSpec, SpecError};
use crate::evaluate::rivals::Rival;
use crate::frame::Shape;
use crate::sys::assign::assign;

pub use super::bounds::SettingError;

/// How the encoder is trained; the rows of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Logistic regression on down-sampled frames; no network.
    Linear,
    /// Shrinkage discriminant on down-sampled frames, finer in space and in the newest frames; no network.
    Lda,
    /// The same on frames that every animal is laid on an atlas for, as `supervised` reads them.
    LdaAtlas,
    /// The small network of pixels, trained on the labels, with every animal laid on the atlas of the training animals.
    Supervised,
    /// Neural window → pose; the representation is the embedding before the last layer.
    Regression,
    /// The same with a recurrent layer over the frame features; for comparison only, not exported.
    RegressionRecurrent,
    /// The contrast of neural and behavioural windows with standard augmentations only.
    Simclr,
    /// As `simclr`, plus a domain classifier with gradient reversal on each modality.
    SimclrGrl,
    /// As `simclr`, plus the maximum mean discrepancy between animals.
    SimclrMmd,
    /// As `simclr`, plus correlation alignment between animals.
    SimclrCoral,
    /// The contrast with all augmentations.
    Haltere,
}

impl Method {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Linear,
        Self::Lda,
        Self::LdaAtlas,
        Self::Supervised,
        Self::Regression,
        Self::RegressionRecurrent,
        Self::Simclr,
        Self::SimclrGrl,
        Self::SimclrMmd,
        Self::SimclrCoral,
        Self::Haltere,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Lda => "lda",
            Self::LdaAtlas => "lda-atlas",
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
            Self::Linear => {
                "logistic regression on 8×8 pixels in four time bins, its penalty chosen on training animals left out"
            }
            Self::Lda => {
                "linear discriminant with equal priors on 16×16 pixels in six time bins, its shrinkage chosen on training \
                 animals left out"
            }
            Self::LdaAtlas => {
                "the same, with every animal laid on an atlas of the training animals, without labels, without F₀, each \
                pixel by its share of signal"
            }
            Self::Supervised => {
                "a linear map of 32×32 pixels, filters over time and a linear layer, on the frames of `lda-atlas`, begun as \
                its discriminant and trained on the labels (class-balanced cross-entropy)"
            }
            Self::Regression => "the encoder and a linear layer, trained to predict the pose",
            Self::RegressionRecurrent => "the frame network and a gated recurrent unit, trained to predict the pose",
            Self::Simclr => "symmetric InfoNCE between neural and behavioural windows, standard augmentations",
            Self::SimclrGrl => "InfoNCE and a domain classifier behind a gradient reversal on each modality",
            Self::SimclrMmd => "InfoNCE and the maximum mean discrepancy between animals on each modality",
            Self::SimclrCoral => "InfoNCE and correlation alignment between animals on each modality",
            Self::Haltere => {
                "symmetric InfoNCE with behavioural swap, neural swap and mix, calcium and placement augmentation, \
                behaviour standardised per animal, and a penalty on the maximum mean discrepancy between animals that grows \
                during training"
            }
        }
    }

    /// Does it pull the two views of a sample together?
    pub fn contrasts(self) -> bool {
        matches!(self, Self::Simclr | Self::SimclrGrl | Self::SimclrMmd | Self::SimclrCoral | Self::Haltere)
    }

    /// Is it given frames on an atlas, prepared for the network of pixels, unless the user says otherwise? All but the two that tell what is lost
    /// without it.
    pub fn reads_an_atlas(self) -> bool {
        !matches!(self, Self::Linear | Self::Lda)
    }

    /// The read-out of pixels that it is; `None` for a network.
    pub fn rival(self) -> Option<Rival> {
        match self {
            Self::Linear => Some(Rival::Linear),
            Self::Lda | Self::LdaAtlas => Some(Rival::Discriminant),
            _ => None,
        }
    }

    /// Does it learn from labels?
    pub fn needs_labels(self) -> bool {
        self == Self::Supervised
    }

    /// Can the daemon run its model?
    pub fn exports(self) -> bool {
        self.rival().is_none() && self != Self::RegressionRecurrent
    }
}

/// How much is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Minutes on two cores: a small network, few steps.
    Quick,
    /// Less than an hour on two cores.
    Standard,
    /// The sizes of the published method: meant for a GPU.
    Paper,
}

/// Everything that determines a run, besides the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// The method.
    pub method: Method,
    /// Seed for the weights, the batches and the augmentations.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: usize,
    /// Steps between two validations on the held-out part.
    pub validate_every: usize,
    /// Training stops after this many validations without a lower held-out loss; 0 = never.
    pub patience: usize,
    /// Share of each trial, at its end, that is held out for validation.
    pub held_out_share: f64,
    /// Future model frames in a window: 0 = causal.
    pub look_ahead_frames: usize,
    /// Sizes of the network.
    pub network: NetworkSizes,
    /// The behaviour window.
    pub behaviour: BehaviourWindow,
    /// The batch of one step.
    pub batch: Batch,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// τ of InfoNCE.
    pub temperature: f64,
    /// Dimensions of the projection head's output, which is contrasted; 0 = no head, the embeddings themselves are contrasted.
    /// A head may ignore what it does not need, so the embedding can keep it: identity, too.
    pub projection: usize,
    /// Weight of what `simclr-grl`, `-mmd`, `-coral` and `haltere` (maximum mean discrepancy of the neural view) add to the
    /// contrast at the end of the run; it grows linearly from 0, so that there is something to align (Ganin et al. 2016 let
    /// theirs grow, too). 0 = off.
    pub alignment: f64,
    /// Weight of the class-balanced cross-entropy with the labels that is added to a contrast; 0 = labels are not used. `supervised`
    /// has no contrast, and always this.
    #[serde(default)]
    pub label_weight: f64,
    /// Weight of the mean squared error of the standardised targets, read from the embedding by a linear layer; without targets it has no
    /// effect. 0 = the encoder does not learn them, and an output can only read what its embedding holds by itself.
    #[serde(default = "target_weight")]
    pub target_weight: f64,
    /// Share of the values between the layers over time that a step leaves out; of the network `pixels` only.
    #[serde(default)]
    pub dropout: f32,
    /// Does the network of pixels begin as the shrinkage discriminant of its training animals, where it learns from labels?
    #[serde(default)]
    pub linear_start: bool,
    /// The augmentations; `supervised` and `haltere` have their own, all other methods the standard ones.
    pub augment: Augmentations,
}

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSizes {
    /// Which network: `patches`, or the smaller and faster `pixels`, for animals that lie on one atlas.
    #[serde(default)]
    pub kind: NetworkKind,
    /// Channels of each layer of the frame network of `patches`; if the input needs fewer layers the list is cut, if more, the last is repeated.
    pub widths: Vec<usize>,
    /// Features of one frame.
    pub features: usize,
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// Model frames in a window.
    pub window_frames: usize,
}

/// See [`TrainSettings::target_weight`].
fn target_weight() -> f64 {
    1.0
}

impl NetworkSizes {
    /// The specification for an input, with these labels.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn spec(&self, input: Shape, labels: &[String]) -> Result<NetworkSpec, SpecError> {
        let layers = if self.kind == NetworkKind::Pixels { 0 } else { NetworkSpec::layers(input) };
        let last = self.widths.last().copied().unwrap_or_default();
        let widths = (0..layers).map(|layer| self.widths.get(layer).copied().unwrap_or(last)).collect();
        let spec = NetworkSpec {
            kind: self.kind,
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

/// The behaviour window: `frames` behaviour frames, `stride` apart, the last one at the current time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourWindow {
    /// Number of frames; even.
    pub frames: usize,
    /// Behaviour frames between two of them.
    pub stride: usize,
    /// Number of behaviour frames by which the window ends after the current one; half its length centres it.
    pub lead: usize,
}

/// The batch of one step: contiguous segments of recordings with several windows each, so that a frame is encoded once for all
/// the windows that contain it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Number of segments, spread evenly over the animals.
    pub segments: usize,
    /// Windows per segment.
    pub windows: usize,
    /// Model frames between two windows of a segment.
    pub stride_frames: usize,
    /// Number of kinds of behaviour of each animal that segments are drawn from equally; 1 = as often as they occur.
    pub kinds: usize,
    /// Share of the segments that are drawn by the action in their middle, each of an animal's actions equally often; 0 = labels
    /// have no say in what is drawn.
    #[serde(default)]
    pub by_action: f64,
}

impl Batch {
    /// Model frames per segment.
    pub fn segment_frames(&self, window_frames: usize) -> usize {
        window_frames + (self.windows - 1) * self.stride_frames
    }
}

/// AdamW (Loshchilov and Hutter 2019) with a linear warm-up and a cosine decay to zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// Largest step size.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Steps until the largest step size is reached.
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
        let settings = Self {
            method,
            seed,
            steps,
            validate_every: (steps / 15).max(1),
            patience: 0,
            held_out_share: 0.1,
            look_ahead_frames: 0,
            network: NetworkSizes { kind: NetworkKind::Patches, widths, features, embedding, window_frames: 32 },
            behaviour: BehaviourWindow { frames: 8, stride: 3, lead: 0 },
            batch: Batch { segments, windows: 4, stride_frames: 8, kinds: 16, by_action: 0.0 },
            optimiser: Optimiser { learning_rate: 2e-3, weight_decay: 1e-4, warmup_steps: (steps / 20).max(1) },
            temperature: 0.1,
            projection: if method == Method::Haltere { 0 } else { 64 },
            // Chosen by the accuracy on animals never seen, on simulated and on real flies: 12 hides the animal better and costs seven points.
            alignment: if method == Method::Haltere { 3.0 } else { 1.0 },
            label_weight: 0.0,
            target_weight: target_weight(),
            dropout: 0.0,
            linear_start: false,
            augment,
        };
        match (method, preset) {
            (Method::Supervised, _) => settings.with_labels(preset),
            (_, Preset::Paper) => settings,
            _ => settings.of_pixels(preset),
        }
    }

    /// The network of pixels, for animals that lie on one atlas: it decodes the next animal better, and a step takes a tenth of the time.
    fn of_pixels(self, preset: Preset) -> Self {
        let steps = if preset == Preset::Quick { 1000 } else { 3000 };
        Self {
            steps,
            validate_every: steps / 15,
            network: NetworkSizes { kind: NetworkKind::Pixels, ..self.network },
            optimiser: Optimiser { warmup_steps: steps / 20, ..self.optimiser },
            ..self
        }
    }

    /// What differs where the labels are all that is learnt from: the network of pixels, and its own way to train it.
    fn with_labels(self, preset: Preset) -> Self {
        let steps = match preset {
            Preset::Quick => 1000,
            Preset::Standard => 3000,
            Preset::Paper => 20_000,
        };
        Self {
            steps,
            validate_every: steps / 15,
            // What is learnt of an animal's end says nothing about the next animal: all frames are learnt from.
            held_out_share: 0.0,
            network: NetworkSizes { kind: NetworkKind::Pixels, features: 64, embedding: 64, ..self.network },
            batch: Batch { segments: 8, windows: 25, stride_frames: 2, kinds: 1, by_action: 0.5 },
            optimiser: Optimiser { learning_rate: 2e-3, weight_decay: 0.05, warmup_steps: steps / 5 },
            dropout: 0.3,
            linear_start: true,
            augment: Augmentations::with_labels(),
            ..self
        }
    }

    /// Does training see the labels?
    pub fn learns_from_labels(&self) -> bool {
        self.method.needs_labels() || (self.method.contrasts() && self.label_weight > 0.0)
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
        let share = self.batch.by_action;
        within((0.0..=1.0).contains(&share), "batch.by_action", &share, "0 to 1")?;
        within((0.0..=1000.0).contains(&self.label_weight), "label_weight", &self.label_weight, "0 to 1000")?;
        within((0.0..=1000.0).contains(&self.target_weight), "target_weight", &self.target_weight, "0 to 1000")?;
        within((0.0..=0.9).contains(&self.dropout), "dropout", &self.dropout, "0 to 0.9")?;
        self.augment.check()
    }

    /// Sets one value by its dotted key, as in `augment.calcium.probability=0.3`.
    ///
    /// # Errors
    /// [`SettingError`] for a key that is not there or a value of another kind.
    pub fn set(&mut self, assignment: &str) -> Result<(), SettingError> {
        assign(self, assignment).map_err(|bound| SettingError {
            key: assignment.into(),
            value: String::new(),
            bound,
        })?;
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
    fn settings_of_a_run_from_before_there_were_two_networks_are_read_as_what_they_were() {
        let mut settings = TrainSettings::preset(Preset::Quick, Method::Haltere, 1);
        settings.network.kind = NetworkKind::Patches;
        let text = toml::to_string(&settings).unwrap();
        let (mut old, mut dropped) = (String::new(), 0);
        for line in text.lines() {
            let new =
                ["kind = ", "by_action = ", "label_weight = ", "target_weight = ", "dropout = ", "linear_start = "]
                    .iter()
                    .any(|key| line.starts_with(key));
            dropped += usize::from(new);
            if !new {
                old += &format!("{line}\n");
            }
        }
        let [before, after] = ["[augment.gain_field]", "[augment.cut_out]"].map(|table| old.contains(table));
        assert!(before && after && dropped == 6, "{old}");
        let mut tables: toml::Table = old.parse().unwrap();
        let augment = tables["augment"].as_table_mut().unwrap();
        ["gain_field", "cut_out"].iter().for_each(|key| drop(augment.remove(*key)));
        assert_eq!(tables.try_into::<TrainSettings>().unwrap(), settings);
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
