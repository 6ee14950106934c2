//! What training measured and the manifest passes on: where the input came from, how far probabilities and novelty may be
//! believed, and when the embedding has drifted.
//!
//! Why it exists: a number that nobody measured must not look like one that somebody did, so each of these sections is
//! absent or whole. What it must never do: hold a default for a measured value.

use serde::{Deserialize, Serialize};

use super::{Check, Manifest, Model, ModelError};

/// Most prototypes that a novelty is measured against.
pub const PROTOTYPES_MAX: usize = 4096;
/// Most thresholds that a novelty is ranked by; fewest are 2.
pub const THRESHOLDS_MAX: usize = 4096;
/// Smallest and largest temperature.
pub const TEMPERATURE: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// Shortest and longest time constant of the drift, s.
pub const DRIFT_S: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;
/// Mean novelty of an animal that is like those of training: a rank among held-out moments is uniform on 0 to 1.
pub const NOVELTY_EXPECTED: f64 = 0.5;
/// Longest text of a measurement, bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Where the model frames of training came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The logits were divided by it.
    pub temperature: f64,
    /// On which animals it was measured.
    pub measured_on: String,
    /// Labelled moments of them.
    pub moments: usize,
    /// Expected calibration error without the temperature, 0 to 1.
    pub ece_before: f64,
    /// Expected calibration error with it, 0 to 1.
    pub ece_after: f64,
}

/// What the output `novelty` is measured against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Of the exponential mean, s.
    pub time_constant_s: f64,
    /// The event is told when the mean exceeds it; above [`NOVELTY_EXPECTED`], below 1.
    pub limit: f64,
}

/// What `calibrate` made of another model for one animal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Model {
    /// Refuses a model whose input no running daemon can make, unless `accepted` (`accept_ready_made_input`).
    ///
    /// # Errors
    /// [`ModelError::ReadyMade`].
    pub fn refuse_ready_made(&self, accepted: bool) -> Result<(), ModelError> {
        if self.manifest.input_origin == InputOrigin::Live || accepted {
            return Ok(());
        }
        Err(ModelError::ReadyMade { path: self.manifest_path.clone() })
    }
}

impl Manifest {
    /// Checks what training measured.
    pub(super) fn check_trained(&self, check: &Check) -> Result<(), ModelError> {
        if let Some(c) = &self.calibration {
            let bound = format!("{} to {}", TEMPERATURE.start(), TEMPERATURE.end());
            check.that(TEMPERATURE.contains(&c.temperature), "calibration.temperature", &c.temperature, &bound)?;
            check.text("calibration.measured_on", &c.measured_on)?;
            check.that(c.moments >= 1, "calibration.moments", &c.moments, "at least 1 moment")?;
            for (key, error) in [("ece_before", c.ece_before), ("ece_after", c.ece_after)] {
                check.that((0.0..=1.0).contains(&error), &format!("calibration.{key}"), &error, "0 to 1")?;
            }
            let labels = self.labels.len();
            check.that(labels > 0, "calibration", &"present", "absent: the model has no labels")?;
        }
        if let Some(n) = &self.novelty {
            let bound = format!("1 to {PROTOTYPES_MAX}");
            check.that((1..=PROTOTYPES_MAX).contains(&n.prototypes), "novelty.prototypes", &n.prototypes, &bound)?;
            let bound = format!("2 to {THRESHOLDS_MAX}");
            check.that((2..=THRESHOLDS_MAX).contains(&n.thresholds), "novelty.thresholds", &n.thresholds, &bound)?;
            check.text("novelty.measured_on", &n.measured_on)?;
        }
        if let Some(a) = &self.adapted {
            check.text("adapted.from_name", &a.from_name)?;
            let hash = a.from_sha256.len() == 64 && a.from_sha256.bytes().all(|b| b.is_ascii_hexdigit());
            check.that(hash, "adapted.from_sha256", &a.from_sha256, "64 hexadecimal digits")?;
            check.text("adapted.recording", &a.recording)?;
            check.that(a.frames >= 1, "adapted.frames", &a.frames, "at least 1 frame")?;
        }
        let Some(d) = &self.drift else { return Ok(()) };
        let bound = format!("{} to {} s", DRIFT_S.start(), DRIFT_S.end());
        check.that(DRIFT_S.contains(&d.time_constant_s), "drift.time_constant_s", &d.time_constant_s, &bound)?;
        let good = d.limit > NOVELTY_EXPECTED && d.limit < 1.0;
        check.that(good, "drift.limit", &d.limit, &format!("above {NOVELTY_EXPECTED}, below 1"))?;
        check.that(
            self.novelty.is_some(),
            "drift",
            &"present",
            "absent: drift is the mean of a novelty, and [novelty] is absent",
        )
    }
}

impl Check<'_> {
    fn text(&self, key: &str, text: &str) -> Result<(), ModelError> {
        let plain = (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        let bound = format!("1 to {TEXT_BYTES_MAX} bytes without control characters");
        // A text of a megabyte is not shown whole.
        let shown: String = text.chars().take(80).collect();
        self.that(plain, key, &shown, &bound)
    }
}
