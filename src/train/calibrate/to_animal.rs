//! A trained model and a few minutes of a new animal: a model for that animal.
//!
//! Why it exists: what a model lacks for the animal under the microscope can be learnt before the experiment. The recording goes
//! through the daemon's own preprocessing and encoder, and the result is written only after that encoder reproduced it. What it
//! must never do: have a path of its own from frame to embedding, change the model it starts from, or claim a gain measured on the
//! samples it was learnt from.

use std::path::PathBuf;

use ndarray::ArrayView2;

use super::write::{Changes, Scratch, Target, Written};
use super::{
    Alignment, CalibrateArguments, Embed, Embeddings, Labelled, Refit, align, refit, scores, unit_rows, write,
};
use crate::evaluate::{ClassWeight, Probe, ProbeOptions};
use crate::model::head::{Classifier, Head, raw_only};
use crate::model::labels::Labels;
use crate::model::onnx::{OnnxFile, OnnxReadError};
use crate::model::{Manifest, Model};
use crate::sys::exit::{ExitCode, Failure};

/// Maximum number of rows in one fit.
const FIT_ROWS_MAX: usize = 4000;

/// What was done, for people and as JSON.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CalibrateReport {
    /// Name of the model it started from.
    pub from: String,
    /// The new manifest.
    pub manifest: PathBuf,
    /// Embeddings of quality ok in the recording.
    pub frames: usize,
    /// What alignment found; absent when it was not tried.
    pub alignment: Option<Alignment>,
    /// What the labels gave; absent without labels.
    pub refit: Option<Refit>,
    /// Largest difference between the daemon's own encoder and the arithmetic, over the whole recording.
    pub parity_max_abs_difference: f32,
    /// Is the new model the old one?
    pub unchanged: bool,
}

/// Calibrates `model`. `embed` runs a model over the recording of the new animal.
///
/// # Errors
/// What is wrong with model, recording or labels; nothing is written then.
pub fn calibrate(
    model: &Model,
    arguments: &CalibrateArguments,
    embed: &mut Embed<'_>,
) -> anyhow::Result<CalibrateReport> {
    let target = Target::new(&arguments.out, arguments.force)?;
    let (file, head) = pieces(model)?;
    can_be_done(model, &head, arguments)?;
    let scratch = Scratch::new()?;
    let raw = scratch.raw_model(model, &raw_only(&file).map_err(|e| unfit(model, e))?)?;
    let embeddings = embed(&raw)?;

    let manifest = &model.manifest;
    let labels = arguments.labels.as_deref().map(Labels::read).transpose()?;
    let label_of_frame =
        labels.map(|l| l.by_frame(&manifest.labels, embeddings.span, embeddings.rate_hz)).transpose()?;
    let labelled = label_of_frame.map(|of| embeddings.labelled(&of, delay_frames(manifest)));
    let alignment = aligned(arguments, manifest, &head, &embeddings, labelled.as_ref())?;
    let shift = alignment.as_ref().filter(|a| a.refused.is_none()).map(|a| a.shift.clone());
    let refit = match (&labelled, &head.classifier) {
        (Some(labelled), Some(present)) => {
            let shift = shift.clone().unwrap_or_else(|| vec![0.0; embeddings.good.ncols()]);
            Some(refitted(manifest, present, labelled, &embeddings, &shift)?)
        }
        _ => None,
    };
    let kept = refit.as_ref().filter(|r| r.refused.is_none());
    let changes = Changes {
        unchanged: shift.is_none() && kept.is_none(),
        shift,
        classifier: kept.map(|r| r.classifier.clone()),
        refitted_on: kept.map_or(0, |r| r.samples),
    };
    let new =
        write::NewModel { from: model, file, changes: &changes, target: &target, recording: &arguments.recording };
    let Written { manifest: path, parity } = write::write(new, &scratch, &embeddings, embed)?;
    Ok(CalibrateReport {
        from: manifest.name.clone(),
        manifest: path,
        frames: embeddings.good.nrows(),
        alignment,
        refit,
        parity_max_abs_difference: parity,
        unchanged: changes.unchanged,
    })
}

/// The ONNX file and head of a trained model.
fn pieces(model: &Model) -> anyhow::Result<(OnnxFile, Head)> {
    if !model.manifest.provenance.trained {
        return Err(refused(model, "it is untrained: there is nothing to align an animal to"));
    }
    let read = || {
        let file = OnnxFile::read(&model.onnx_path)?;
        let head = Head::of(&file)?;
        Ok((file, head))
    };
    read().map_err(|e| unfit(model, e))
}

/// Does the model have what the arguments ask for?
fn can_be_done(model: &Model, head: &Head, arguments: &CalibrateArguments) -> anyhow::Result<()> {
    let (align, labels) = (arguments.align, arguments.labels.is_some());
    let why = if !align && !labels {
        "neither labels nor alignment: there is nothing to be done"
    } else if !labels && head.novelty.is_none() {
        "it has no novelty reference to align to; train it with one, or give labels (--labels)"
    } else if labels && head.classifier.is_none() {
        "it decodes no actions, so it cannot learn from labels"
    } else {
        return Ok(());
    };
    Err(refused(model, why))
}

fn refused(model: &Model, why: &str) -> anyhow::Error {
    let what = format!("{} cannot be calibrated: {why}", model.manifest_path.display());
    Failure { code: ExitCode::Model, what }.into()
}

fn unfit(model: &Model, cause: OnnxReadError) -> anyhow::Error {
    refused(model, &cause.to_string())
}

/// A decode describes the frame this many frames before its own.
fn delay_frames(manifest: &Manifest) -> u64 {
    (manifest.look_ahead_frames * manifest.preprocess.average_frames) as u64
}

/// Rows of the good embeddings that have a label, and their labels.
struct LabelledRows {
    rows: Vec<usize>,
    label: Vec<usize>,
}

impl Embeddings {
    fn labelled(&self, label_of: &std::collections::BTreeMap<u64, usize>, delay_frames: u64) -> LabelledRows {
        let of = |number: &u64| number.checked_sub(delay_frames).and_then(|frame| label_of.get(&frame)).copied();
        let found = self.number.iter().enumerate().filter_map(|(row, number)| Some((row, of(number)?)));
        let (rows, label) = found.unzip();
        LabelledRows { rows, label }
    }
}

/// What alignment finds. With labels, it must not make the present classifier worse on them.
fn aligned(
    arguments: &CalibrateArguments,
    manifest: &Manifest,
    head: &Head,
    embeddings: &Embeddings,
    labelled: Option<&LabelledRows>,
) -> anyhow::Result<Option<Alignment>> {
    let Some(novelty) = head.novelty.as_ref().filter(|_| arguments.align) else { return Ok(None) };
    let mut found = align(embeddings.good.view(), manifest.window_frames, novelty, head.alignment.as_ref())?;
    if let (None, Some(labelled), Some(classifier)) = (&found.refused, labelled, &head.classifier) {
        let balanced = |shift: &[f32]| {
            let rows = embeddings.good.select(ndarray::Axis(0), &labelled.rows);
            let units = unit_rows(rows.view(), shift);
            let decoded: Vec<usize> = units.rows().into_iter().map(|r| classifier.strongest(&r.to_vec())).collect();
            scores(&labelled.label, &decoded, manifest.labels.len()).balanced_accuracy * 100.0
        };
        let (before, after) = (balanced(&vec![0.0; found.shift.len()]), balanced(&found.shift));
        found.refused = (after < before).then(|| {
            format!("it makes the decodes of the labelled frames worse (balanced accuracy {before:.1} → {after:.1} %)")
        });
    }
    Ok(Some(found))
}

fn refitted(
    manifest: &Manifest,
    present: &Classifier,
    labelled: &LabelledRows,
    embeddings: &Embeddings,
    shift: &[f32],
) -> anyhow::Result<Refit> {
    if labelled.rows.is_empty() {
        let what = "no labelled frame has an embedding of quality ok: the labels fall in the warm-up, or in frames that were degraded";
        return Err(Failure { code: ExitCode::Source, what: what.to_owned() }.into());
    }
    let values = unit_rows(embeddings.good.select(ndarray::Axis(0), &labelled.rows).view(), shift);
    let at: Vec<usize> = labelled.rows.iter().map(|&row| embeddings.at[row]).collect();
    let rows = Labelled { values: values.view(), at: &at, label: &labelled.label };
    Ok(refit(present, rows, manifest.window_frames, &manifest.labels, &fit_towards)?)
}

/// The probe of the evaluation, penalised towards the present classifier.
fn fit_towards(
    present: &Classifier,
    strength: f64,
    values: ArrayView2<f32>,
    labels: &[usize],
) -> Result<Classifier, String> {
    let prior = Probe::from_layer(present.weight.clone(), present.bias.clone().into());
    // The model was trained as if all actions were equally frequent. Two minutes of labels also tell how this animal divides its time;
    // giving every action the same weight would discard that, and the few frames of a rare action would outvote the rest.
    let (class_weight, rows_max) = (ClassWeight::Root, FIT_ROWS_MAX);
    let options = ProbeOptions { rows_max, class_weight, standardise: false, ..ProbeOptions::default() };
    let probe = Probe::fit_towards(&prior, strength, values, labels, &options).map_err(|e| e.to_string())?;
    Ok(Classifier { weight: probe.weights, bias: probe.intercept.to_vec() })
}

impl std::fmt::Display for CalibrateReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} embeddings of quality ok", self.frames)?;
        if let Some(a) = &self.alignment {
            writeln!(
                f,
                "alignment: median novelty {:.2} → {:.2}, distance {:.4} → {:.4} (two-fold cross-validated), turned {:.1}°",
                a.novelty_before, a.novelty_after, a.distance_before, a.distance_after, a.turned_degrees
            )?;
            match &a.refused {
                None => writeln!(f, "  kept")?,
                Some(why) => writeln!(f, "  not kept: {why}")?,
            }
        }
        if let Some(r) = &self.refit {
            writeln!(
                f,
                "classifier: on held-out bouts, accuracy {:.1} → {:.1} %, balanced {:.1} → {:.1} % ({} frames, {} pieces, hold {})",
                r.before.accuracy * 100.0,
                r.after.accuracy * 100.0,
                r.before.balanced_accuracy * 100.0,
                r.after.balanced_accuracy * 100.0,
                r.samples,
                r.pieces,
                r.strength
            )?;
            match &r.refused {
                None => writeln!(f, "  kept")?,
                Some(why) => writeln!(f, "  not kept: {why}")?,
            }
        }
        let unchanged = if self.unchanged { ": the weights are those of the original model" } else { "" };
        writeln!(
            f,
            "wrote {}{unchanged}; the daemon's encoder reproduces it to within {:.1e}",
            self.manifest.display(),
            self.parity_max_abs_difference
        )
    }
}
