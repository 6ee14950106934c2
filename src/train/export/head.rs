//! What is fitted on the frozen embedding and goes into the same file: classifier, temperature, novelty, drift.
//!
//! What it must never do: pass on a value that does not fit the network it belongs to.

use super::details::Details;
use super::error::ExportError;
use crate::model::head::{AlignmentReference, Classifier, NoveltyReference, OutputLayer};
use crate::model::names::{ALIGNMENT_MEAN, ALIGNMENT_SD};
use crate::model::{Calibration, Drift, InputOrigin, Kind, Novelty, Output, PROTOTYPES_MAX, THRESHOLDS_MAX};
use crate::train::spec::NetworkSpec;

/// Maximum deviation of a prototype's length from 1.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// Everything in a model's file besides the network. The default adds nothing.
#[derive(Clone, Debug, Default)]
pub struct FittedHead {
    /// Replaces the network's own classifier: the probe fitted on the frozen embedding.
    pub classifier: Option<Classifier>,
    /// Its temperature is folded into the classifier that is written.
    pub calibration: Option<Calibration>,
    /// Adds the output `outputs` to the file.
    pub outputs: Option<FittedOutputs>,
    /// Adds the output `novelty` to the file.
    pub novelty: Option<FittedNovelty>,
    /// When a high mean novelty is reported as an event.
    pub drift: Option<Drift>,
    /// For `calibrate`: mean and spread of the raw embeddings of training.
    pub alignment: Option<AlignmentReference>,
    /// The origin of the training frames.
    pub input_origin: InputOrigin,
    /// SHA-256 of the data set; empty = unknown.
    pub data_sha256: String,
}

/// The layer of the continuous outputs, and what the manifest says of each.
#[derive(Clone, Debug)]
pub struct FittedOutputs {
    /// Embedding → outputs.
    pub layer: OutputLayer,
    /// In the order of the layer.
    pub described: Vec<Output>,
}

/// A novelty reference and where it was measured.
#[derive(Clone, Debug)]
pub struct FittedNovelty {
    /// Prototypes and thresholds.
    pub reference: NoveltyReference,
    /// The animals the thresholds were measured on.
    pub measured_on: String,
}

impl FittedNovelty {
    pub(crate) fn manifest(&self) -> Novelty {
        let NoveltyReference { prototypes, thresholds } = &self.reference;
        let (prototypes, thresholds) = (prototypes.nrows(), thresholds.len());
        Novelty { prototypes, thresholds, measured_on: self.measured_on.clone() }
    }
}

impl FittedHead {
    /// The divisor of the logits.
    pub(crate) fn temperature(&self) -> f64 {
        self.calibration.as_ref().map_or(1.0, |c| c.temperature)
    }

    /// Checks that every part fits the network.
    ///
    /// # Errors
    /// [`ExportError::Unfit`] with the part, what it is, and what it must be.
    pub fn check(&self, spec: &NetworkSpec) -> Result<(), ExportError> {
        let (embedding, labels) = (spec.embedding, spec.labels.len());
        if let Some(classifier) = &self.classifier {
            let (found, biases) = (classifier.weight.dim(), classifier.bias.len());
            let good = labels > 0 && found == (embedding, labels) && biases == labels;
            fits(good, "the classifier", format!("{found:?} with {biases} biases"), || {
                format!("[{embedding}, {labels}] with {labels} biases, for the network's embedding and labels")
            })?;
        }
        if let Some(FittedOutputs { layer, described }) = &self.outputs {
            let (found, biases, named) = (layer.weight.dim(), layer.bias.len(), described.len());
            fits(
                found == (embedding, named) && biases == named,
                "the outputs' layer",
                format!("{found:?} with {biases} biases"),
                || {
                    format!(
                        "[{embedding}, {named}] with {named} biases, for the network's embedding and the outputs that are named"
                    )
                },
            )?;
        }
        if let Some(novelty) = &self.novelty {
            check_novelty(&novelty.reference, embedding)?;
        }
        let Some(AlignmentReference { mean, sd }) = &self.alignment else { return Ok(()) };
        let good = mean.len() == embedding && sd.len() == embedding && sd.iter().all(|v| *v >= 0.0);
        fits(good, "the alignment's reference", format!("{} means and {} sds", mean.len(), sd.len()), || {
            format!("{embedding} of each, no sd negative")
        })
    }

    /// The metadata that describe the file without its manifest.
    pub(crate) fn metadata(&self, spec: &NetworkSpec, details: &Details) -> Vec<(&'static str, String)> {
        let mut entries = form_and_labels(spec, details.kind);
        entries.extend([
            ("name", details.name.clone()),
            ("made_by", details.provenance.made_by.clone()),
            ("trained", details.provenance.trained.to_string()),
            ("trained_on", details.provenance.trained_on.clone()),
            ("frame_rate_hz", details.frame_rate_hz.to_string()),
            ("window_frames", spec.window_frames.to_string()),
            ("look_ahead_frames", details.look_ahead_frames.to_string()),
            ("input_origin", self.input_origin.name().to_owned()),
        ]);
        entries.extend((!self.data_sha256.is_empty()).then(|| ("data_sha256", self.data_sha256.clone())));
        entries.extend(self.calibration.as_ref().map(|c| ("temperature", c.temperature.to_string())));
        if let Some(AlignmentReference { mean, sd }) = &self.alignment {
            // Text, not constants: ONNX Runtime warns of unused constants. Rust prints the shortest text that reads back to
            // the same bits.
            entries.extend([(ALIGNMENT_MEAN, numbers(mean)), (ALIGNMENT_SD, numbers(sd))]);
        }
        entries
    }
}

pub(crate) fn form_and_labels(spec: &NetworkSpec, kind: Kind) -> Vec<(&'static str, String)> {
    let form = if kind == Kind::Streaming { "streaming" } else { "windowed" };
    vec![("form", form.to_owned()), ("labels", spec.labels.join(","))]
}

fn numbers(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

fn check_novelty(reference: &NoveltyReference, embedding: usize) -> Result<(), ExportError> {
    let NoveltyReference { prototypes, thresholds } = reference;
    let (rows, columns) = prototypes.dim();
    let good = (1..=PROTOTYPES_MAX).contains(&rows) && columns == embedding;
    fits(good, "the novelty's prototypes", format!("[{rows}, {columns}]"), || {
        format!("[1 to {PROTOTYPES_MAX}, {embedding}]")
    })?;
    let count = thresholds.len();
    fits((2..=THRESHOLDS_MAX).contains(&count), "the number of the novelty's thresholds", count.to_string(), || {
        format!("2 to {THRESHOLDS_MAX}")
    })?;
    let rising = thresholds.is_sorted_by(|a, b| a <= b);
    fits(rising, "the novelty's thresholds", "not in order, or NaN".into(), || "ascending".into())?;
    let length = |row: ndarray::ArrayView1<f32>| row.iter().map(|v| v * v).sum::<f32>().sqrt();
    let worst = prototypes.rows().into_iter().map(length).find(|l| l.is_nan() || (l - 1.0).abs() > LENGTH_TOLERANCE);
    fits(worst.is_none(), "the length of a prototype", format!("{worst:?}"), || "1".into())
}

fn fits(good: bool, what: &'static str, found: String, expected: impl FnOnce() -> String) -> Result<(), ExportError> {
    if good { Ok(()) } else { Err(ExportError::Unfit { what, found, expected: expected() }) }
}
