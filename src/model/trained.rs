//! What training measured and the manifest passes on: where the input came from, how far to trust probabilities and novelty, and when the embedding has drifted.
//!
//! Why it exists: an unmeasured number must not look like a measured one, so each of these sections is
//! absent or whole. What it must never do: hold a default for a measured value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::error::ModelError;

/// Most prototypes that a novelty is measured against.
pub const PROTOTYPES_MAX: usize = 4096;
/// Most thresholds that a novelty is ranked by; fewest are 2.
pub const THRESHOLDS_MAX: usize = 4096;
/// Most continuous outputs of a model.
pub const OUTPUTS_MAX: usize = 64;
/// Longest name or unit of a continuous output, bytes.
const OUTPUT_BYTES_MAX: usize = 64;
/// Smallest and largest temperature.
pub const TEMPERATURE: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// Shortest and longest time constant of the drift, s.
pub const DRIFT_S: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;
/// Mean novelty of an animal that is like those of training: a rank among held-out samples is uniform on 0 to 1.
pub const NOVELTY_EXPECTED: f64 = 0.5;

/// Where the model frames of training came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputOrigin {
    /// Raw frames through this program's own preprocessing: a running daemon makes the same.
    #[default]
    Live,
    /// ΔF/F made elsewhere, with knowledge of the whole trial: no running daemon can make the same.
    ReadyMade,
}

impl InputOrigin {
    /// As written in the manifest and in the ONNX file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::ReadyMade => "ready-made",
        }
    }

    pub(super) fn is_live(&self) -> bool {
        *self == Self::Live
    }
}

/// How the probabilities were calibrated. The temperature is already in the classifier's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The logits were divided by it.
    pub temperature: f64,
    /// On which animals it was measured.
    pub measured_on: String,
    /// Number of labelled samples.
    pub moments: usize,
    /// Expected calibration error without the temperature, 0 to 1.
    pub ece_before: f64,
    /// Expected calibration error with it, 0 to 1.
    pub ece_after: f64,
}

/// A continuous output: a number of the animal's behaviour, such as its speed, read from the embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name in decodes.
    pub name: String,
    /// Its unit, for people; absent = none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Its mean over the samples of training.
    pub mean: f64,
    /// Its standard deviation over the samples of training, above 0.
    pub sd: f64,
    /// 1 − squared error / squared distance from the animal's own mean, mean over the animals of `measured_on`; below 0 = worse than that
    /// mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// Correlation of truth and output, mean over the same animals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<f64>,
    /// On which animals they were measured; absent = on none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub measured_on: String,
}

impl Output {
    pub(super) fn check(&self, key: &str, check: &Check) -> Result<(), ModelError> {
        let plain = |text: &str| text.len() <= OUTPUT_BYTES_MAX && !text.chars().any(char::is_control);
        let bound = format!("1 to {OUTPUT_BYTES_MAX} bytes without control characters");
        check.that(!self.name.is_empty() && plain(&self.name), &format!("{key}.name"), &self.name, &bound)?;
        let bound = format!("at most {OUTPUT_BYTES_MAX} bytes without control characters");
        check.that(plain(&self.unit), &format!("{key}.unit"), &self.unit, &bound)?;
        check.that(self.mean.is_finite(), &format!("{key}.mean"), &self.mean, "finite")?;
        check.that(self.sd.is_finite() && self.sd > 0.0, &format!("{key}.sd"), &self.sd, "above 0, finite")?;
        let r2 = self.r2.unwrap_or(0.0);
        check.that(r2.is_finite() && r2 <= 1.0, &format!("{key}.r2"), &r2, "at most 1, finite")?;
        let correlation = self.correlation.unwrap_or(0.0);
        let key = format!("{key}.correlation");
        check.that((-1.0..=1.0).contains(&correlation), &key, &correlation, "-1 to 1")
    }
}

/// What the output `novelty` is measured against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Novelty {
    /// Typical embeddings of training.
    pub prototypes: usize,
    /// Quantiles of the distance over held-out moments.
    pub thresholds: usize,
    /// On which animals they were measured.
    pub measured_on: String,
}

/// When the running mean of the novelty says that the animal is no longer like those of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Of the exponential mean, s.
    pub time_constant_s: f64,
    /// The event is published when the mean exceeds this; above [`NOVELTY_EXPECTED`], below 1.
    pub limit: f64,
}

/// What `calibrate` made of another model for one animal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adapted {
    /// Name of the model it was made from.
    pub from_name: String,
    /// SHA-256 of that model's ONNX file, hexadecimal.
    pub from_sha256: String,
    /// The recording of the animal.
    pub recording: String,
    /// Embeddings of quality ok that it gave.
    pub frames: usize,
    /// Was the embedding shifted?
    pub aligned: bool,
    /// Labelled frames that the classifier was fitted anew to; 0 = it was not.
    pub refitted_on: usize,
}

impl Calibration {
    /// `labels` is how many the model has.
    pub(super) fn check(&self, labels: usize, check: &Check) -> Result<(), ModelError> {
        let bound = format!("{} to {}", TEMPERATURE.start(), TEMPERATURE.end());
        check.that(TEMPERATURE.contains(&self.temperature), "calibration.temperature", &self.temperature, &bound)?;
        check.text("calibration.measured_on", &self.measured_on)?;
        check.that(self.moments >= 1, "calibration.moments", &self.moments, "at least 1 moment")?;
        for (key, error) in [("ece_before", self.ece_before), ("ece_after", self.ece_after)] {
            check.that((0.0..=1.0).contains(&error), &format!("calibration.{key}"), &error, "0 to 1")?;
        }
        check.that(labels > 0, "calibration", &"present", "absent: the model has no labels")
    }
}

impl Novelty {
    pub(super) fn check(&self, check: &Check) -> Result<(), ModelError> {
        let bound = format!("1 to {PROTOTYPES_MAX}");
        check.that((1..=PROTOTYPES_MAX).contains(&self.prototypes), "novelty.prototypes", &self.prototypes, &bound)?;
        let bound = format!("2 to {THRESHOLDS_MAX}");
        check.that((2..=THRESHOLDS_MAX).contains(&self.thresholds), "novelty.thresholds", &self.thresholds, &bound)?;
        check.text("novelty.measured_on", &self.measured_on)
    }
}

impl Adapted {
    pub(super) fn check(&self, check: &Check) -> Result<(), ModelError> {
        check.text("adapted.from_name", &self.from_name)?;
        let hash = self.from_sha256.len() == 64 && self.from_sha256.bytes().all(|b| b.is_ascii_hexdigit());
        check.that(hash, "adapted.from_sha256", &self.from_sha256, "64 hexadecimal digits")?;
        check.text("adapted.recording", &self.recording)?;
        check.that(self.frames >= 1, "adapted.frames", &self.frames, "at least 1 frame")
    }
}

impl Drift {
    /// `novelty`: does the model have one?
    pub(super) fn check(&self, novelty: bool, check: &Check) -> Result<(), ModelError> {
        let bound = format!("{} to {} s", DRIFT_S.start(), DRIFT_S.end());
        check.that(DRIFT_S.contains(&self.time_constant_s), "drift.time_constant_s", &self.time_constant_s, &bound)?;
        let good = self.limit > NOVELTY_EXPECTED && self.limit < 1.0;
        check.that(good, "drift.limit", &self.limit, &format!("above {NOVELTY_EXPECTED}, below 1"))?;
        check.that(novelty, "drift", &"present", "absent: drift is the mean of a novelty, and [novelty] is absent")
    }
}
