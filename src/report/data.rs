//! The contents of a report, as plain values that are stored as JSON and can be rendered again.
//!
//! Why it exists: `train`, `eval` and `compare` fill it, the HTML file and its plots read it, and an old run's report can be
//! recreated. What it must never do: compute a score. A missing value (an animal without a class) is NaN: `null` in JSON.

use serde::{Deserialize, Deserializer, Serialize};

/// Everything a report can show. `None` or empty: no section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportData {
    /// Title: `haltere on 8 simulated flies`.
    pub title: String,
    /// One or two sentences below it: the result in words.
    pub summary: String,
    /// The table of scores.
    pub scores: Vec<ScoreRow>,
    /// What was trained, in words and settings.
    pub method: Option<Method>,
    /// What it was trained on.
    pub data: Option<DataSummary>,
    /// How far the windows looked into the future.
    pub look_ahead: Option<LookAhead>,
    /// Loss and similarity during training.
    pub loss: Option<LossCurves>,
    /// The embedding in its first principal components.
    pub embedding: Option<super::pca::EmbeddingView>,
    /// The confusion matrix.
    pub confusion: Option<Confusion>,
    /// The score of each animal.
    pub per_animal: Option<PerAnimal>,
    /// Calibration of the probabilities.
    pub calibration: Option<Calibration>,
    /// Distance between animals before and after each augmentation.
    pub domain_gap: Vec<GapBar>,
    /// The contribution of each augmentation.
    pub ablation: Vec<Ablation>,
    /// Methods side by side.
    pub comparison: Option<Comparison>,
    /// What a reader must know before trusting the numbers.
    pub warnings: Vec<String>,
    /// How to reproduce it.
    pub reproduce: Option<Reproduce>,
}

impl ReportData {
    /// As JSON.
    ///
    /// # Errors
    /// Never for these types; the signature is serde's.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// From what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// When `text` is not such JSON; the message says where.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Mean and spread over animals and seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean: f64,
    /// Standard deviation.
    #[serde(deserialize_with = "null_is_nan")]
    pub sd: f64,
    /// Number of values.
    pub count: usize,
}

/// One row of the table that `eval` prints. Scores are shares, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// `haltere`, `simclr`, …
    pub method: String,
    /// `single-animal`, `across-animal`, `unseen animal`, `identity`.
    pub protocol: String,
    /// Share of the labels that the probe saw, per cent.
    pub labels_percent: f64,
    /// Share of samples decoded correctly.
    pub accuracy: Spread,
    /// Mean recall over the classes.
    pub balanced_accuracy: Spread,
    /// Mean F1 over the classes.
    pub macro_f1: Spread,
    /// Balanced accuracy with permuted labels.
    #[serde(deserialize_with = "null_is_nan")]
    pub chance: f64,
    /// True where lower is better (identity).
    pub lower_is_better: bool,
}

/// What was trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// `haltere`.
    pub name: String,
    /// A paragraph in words.
    pub description: String,
    /// Settings worth reading, name and value with unit.
    pub settings: Vec<(String, String)>,
}

/// What it was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSummary {
    /// Where it comes from, in words.
    pub name: String,
    /// Names of the actions.
    pub labels: Vec<String>,
    /// Each animal.
    pub animals: Vec<AnimalSummary>,
    /// Model frames per second.
    pub frame_rate_hz: f64,
    /// Behaviour frames per second.
    pub behaviour_rate_hz: f64,
    /// `1 × 64 × 64`.
    pub input: String,
    /// How frames became the model's input, in words: the daemon's own preprocessing, or elsewhere.
    pub preprocessing: String,
    /// How it was split, in words.
    pub split: String,
    /// Licence of the data.
    pub licence: String,
    /// SHA-256 over everything read.
    pub sha256: String,
    /// Each trial as it was read, as `haltere info` shows it.
    pub trials: Vec<TrialSummary>,
    /// Columns of behaviour with their range over all trials.
    pub columns: Vec<ColumnSummary>,
}

/// One trial as it was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialSummary {
    /// Its name.
    pub name: String,
    /// Frames, shape and rate, in words.
    pub imaging: String,
    /// By which texts its recording was read, in words.
    pub decided: String,
    /// Rows and length, in words.
    pub behaviour: String,
    /// Which frames have behaviour, in words.
    pub aligned: String,
    /// Frames of each label, in words.
    pub labels: String,
}

/// A column of behaviour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Smallest finite value.
    #[serde(deserialize_with = "null_is_nan")]
    pub least: f64,
    /// Largest finite value.
    #[serde(deserialize_with = "null_is_nan")]
    pub most: f64,
}

/// One animal's share of the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnimalSummary {
    /// Its name.
    pub name: String,
    /// Recordings.
    pub trials: usize,
    /// Model frames.
    pub frames: u64,
    /// Of them usable.
    pub usable: u64,
    /// Usable frames of each action, in the order of the labels; the rest has no label.
    pub per_label: Vec<u64>,
}

/// The look-ahead of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookAhead {
    /// Frames of a window.
    pub window_frames: usize,
    /// Number of them after the current frame; 0 = causal.
    pub frames: usize,
    /// The same in seconds.
    pub seconds: f64,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Training step.
    pub step: u64,
    /// Value at it.
    #[serde(deserialize_with = "null_is_nan")]
    pub value: f64,
}

/// Curves of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossCurves {
    /// Loss of the batches.
    pub train: Vec<Point>,
    /// Loss on held-out samples.
    pub held_out: Vec<Point>,
    /// Unit of the loss: `nats`.
    pub unit: String,
    /// Mean cosine similarity of the two views of a sample; may be empty.
    pub positive: Vec<Point>,
    /// Mean cosine similarity of views of different samples; may be empty.
    pub negative: Vec<Point>,
    /// Step of the best checkpoint.
    pub best_step: Option<u64>,
}

/// A confusion matrix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Names of the actions.
    pub labels: Vec<String>,
    /// Number of samples, `[true action][decoded action]`.
    pub counts: Vec<Vec<u64>>,
    /// Which samples these are, in words: `unseen animal, 3 seeds`.
    pub note: String,
}

/// The score of each animal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerAnimal {
    /// `balanced accuracy, unseen animal`.
    pub measure: String,
    /// Each animal and its score for each seed, 0 to 1.
    pub animals: Vec<Values>,
    /// Chance level, 0 to 1.
    pub chance: Option<f64>,
}

/// A name and its values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Animal or method.
    pub name: String,
    /// One for each seed (or animal and seed).
    #[serde(deserialize_with = "nulls_are_nan")]
    pub values: Vec<f64>,
}

/// Probabilities before and after the temperature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The divisor of the logits.
    pub temperature: f64,
    /// Before.
    pub before: Reliability,
    /// After.
    pub after: Reliability,
    /// Which samples were used, in words.
    pub note: String,
}

/// Confidence against accuracy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Expected calibration error, 0 to 1.
    #[serde(deserialize_with = "null_is_nan")]
    pub expected_error: f64,
    /// Bins of confidence, ascending.
    pub bins: Vec<ReliabilityBin>,
}

/// Samples of similar confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower edge of confidence.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Mean confidence in the bin; NaN when it is empty.
    #[serde(deserialize_with = "null_is_nan")]
    pub confidence: f64,
    /// Share of correct samples in the bin; NaN when it is empty.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
    /// Number of samples in the bin.
    pub count: u64,
}

/// Distance between animals before and after one augmentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapBar {
    /// `behavioural swap`.
    pub augmentation: String,
    /// What the distance was measured in: `pixels`, `behaviour`, `embedding`. Bars of one space share an axis.
    pub space: String,
    /// MMD² without it, over pairs of animals.
    pub before: Spread,
    /// MMD² with it.
    pub after: Spread,
}

/// The contribution of each augmentation, by one measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    /// `across-animal balanced accuracy`.
    pub measure: String,
    /// Bars, the full method first: 0 to 1.
    pub bars: Vec<Bar>,
    /// Chance level, 0 to 1.
    pub chance: Option<f64>,
    /// True where lower is better (identity).
    pub lower_is_better: bool,
}

/// A bar with an error bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// `without behavioural swap`.
    pub name: String,
    /// Height and error.
    pub score: Spread,
}

/// Methods side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `balanced accuracy`.
    pub measure: String,
    /// One panel for each protocol.
    pub protocols: Vec<ProtocolPanel>,
}

/// All methods under one protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProtocolPanel {
    /// `across-animal`.
    pub name: String,
    /// Each method and its values over animals and seeds, 0 to 1. The same methods in the same order in every panel.
    pub methods: Vec<Values>,
    /// Chance level, 0 to 1.
    pub chance: Option<f64>,
    /// True where lower is better (identity).
    pub lower_is_better: bool,
}

/// How to reproduce the numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reproduce {
    /// The command.
    pub command: String,
    /// Seed.
    pub seed: u64,
    /// Program's version.
    pub program_version: String,
    /// Commit.
    pub git_revision: String,
    /// Host in words: system, cores.
    pub host: String,
    /// Names and SHA-256 of files: model, data, configuration.
    pub hashes: Vec<(String, String)>,
}

/// JSON has no NaN; serde writes it as `null`.
fn null_is_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn nulls_are_nan<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let values: Vec<Option<f64>> = Vec::deserialize(from)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

impl Spread {
    /// Mean and standard deviation (n − 1) of the finite values; NaN mean without any, sd 0 for one.
    pub fn of(values: &[f64]) -> Self {
        let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let count = finite.len();
        let mean = finite.iter().sum::<f64>() / count as f64;
        let squares: f64 = finite.iter().map(|v| (v - mean).powi(2)).sum();
        let sd = if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 };
        Self { mean, sd, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_report_survives_json() {
        let report = example::report();
        // serde_json may read the last bit of a number differently; what people see is the same.
        let back = ReportData::from_json(&report.to_json().unwrap()).unwrap();
        assert_eq!(super::super::html::render(&back), super::super::html::render(&report));
        assert_eq!((back.scores.len(), back.loss.unwrap().train.len()), (8, 800));
    }

    #[test]
    fn what_was_not_a_number_is_none_after_json_either() {
        let mut report = example::report();
        report.per_animal.as_mut().unwrap().animals[0].values[0] = f64::NAN;
        report.loss.as_mut().unwrap().train[3].value = f64::INFINITY;
        let back = ReportData::from_json(&report.to_json().unwrap()).unwrap();
        assert!(back.per_animal.unwrap().animals[0].values[0].is_nan());
        assert!(back.loss.unwrap().train[3].value.is_nan());
    }

    #[test]
    fn a_report_with_nothing_but_a_title_is_read() {
        assert_eq!(ReportData::from_json(r#"{"title":"x"}"#).unwrap().title, "x");
    }

    #[test]
    fn the_spread_is_mean_and_sample_standard_deviation() {
        let spread = Spread::of(&[1.0, f64::NAN, 3.0]);
        assert_eq!((spread.mean, spread.count), (2.0, 2));
        assert!((spread.sd - 2f64.sqrt()).abs() < 1e-12);
        assert!(Spread::of(&[]).mean.is_nan());
    }
}
