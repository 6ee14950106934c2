//! `haltere calibrate`: a trained model, a few minutes of a new animal, a model for that animal.
//!
//! Why it exists: animals differ, and what a model lacks for the one under the microscope can be learnt before the experiment.
//! The recording goes through the daemon's own corridor, and the result is written only after the daemon's own encoder
//! reproduced it. What it must never do: have a way of its own from frame to embedding, change the model it began with, or
//! claim a gain that was measured on the moments it was learnt from.

use std::path::PathBuf;

use ndarray::ArrayView2;

use super::gather::Gathered;
use super::write::Written;
use crate::config::{Compute, Config, Device};
use crate::decoder::{Decoder, Embeddings};
use crate::evaluate::{ClassWeight, Probe, ProbeOptions};
use crate::model::head::Classifier;
use crate::model::head::{Head, raw_only};
use crate::model::labels::Labels;
use crate::model::onnx::{OnnxFile, OnnxReadError};
use crate::model::{Manifest, Model};
use crate::preprocess::Chosen;
use crate::sys::exit::{ExitCode, Failure};
use crate::train::calibrate::{Alignment, Labelled, Refit, align, refit, scores, unit_rows};

/// Most rows that one fit looks at.
const FIT_ROWS_MAX: usize = 4000;

/// What to calibrate on and where the result goes.
#[derive(Clone, Debug)]
pub struct CalibrateArguments {
    /// The new model, without extension.
    pub out: PathBuf,
    /// The recording as provenance names it.
    pub recording: String,
    /// Labels of some frames.
    pub labels: Option<PathBuf>,
    /// Try to align the embedding?
    pub align: bool,
    /// Overwrite a model that is there.
    pub force: bool,
}

/// What was done, for people and as JSON.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CalibrateReport {
    /// The model it began with.
    pub from: String,
    /// The new manifest.
    pub manifest: PathBuf,
    /// Embeddings of quality ok in the recording.
    pub frames: usize,
    /// What alignment found; absent when it was not tried.
    pub alignment: Option<Alignment>,
    /// What the labels gave; absent without labels.
    pub refit: Option<Refit>,
    /// The daemon's own encoder against the arithmetic, over the whole recording.
    pub parity_max_abs_difference: f32,
    /// Is the new model the old one?
    pub unchanged: bool,
}

/// Decodes the recording with a decoder, from its beginning, each time it is called.
pub type DecodeRecording<'a> = dyn FnMut(Decoder) -> anyhow::Result<Embeddings> + 'a;

/// Calibrates the configuration's model.
///
/// # Errors
/// What is wrong with model, recording or labels; nothing is written then.
pub fn calibrate(
    config: &Config,
    arguments: &CalibrateArguments,
    decode: &mut DecodeRecording<'_>,
) -> anyhow::Result<CalibrateReport> {
    let out = super::write::Target::new(&arguments.out, arguments.force)?;
    // Proven to 1e-5 against arithmetic on the CPU's embeddings.
    let on_cpu = Compute { device: Device::Cpu, ..config.compute.clone() };
    let config = &Config { compute: on_cpu, ..config.clone() };
    let decoder = Decoder::open(config)?;
    let model = decoder.model().clone();
    let (file, head) = pieces(&model)?;
    if !arguments.align && arguments.labels.is_none() {
        return Err(refused(&model, "neither labels nor alignment: there is nothing to be done"));
    }
    if arguments.align && arguments.labels.is_none() && head.novelty.is_none() {
        let why = "it has no novelty reference to align to; train it with one, or give labels (--labels)";
        return Err(refused(&model, why));
    }
    if arguments.labels.is_some() && head.classifier.is_none() {
        return Err(refused(&model, "it decodes no action, so labels cannot be learnt"));
    }
    let scratch = super::write::Scratch::new()?;
    let raw = scratch.model(&model, &raw_only(&file).map_err(|e| unfit(&model, e))?, "raw", true)?;
    let decodes = decode(Decoder::open_on(&raw, &config.compute, &Chosen::cpu(""))?)?;
    let rate_hz = decodes.frame_rate_hz.unwrap_or_else(|| stream_rate_hz(&model.manifest));
    let gathered = Gathered::of(decodes, &model.manifest)?;

    let labels = arguments.labels.as_deref().map(Labels::read).transpose()?;
    let at = labels.map(|l| l.by_frame(&model.manifest.labels, gathered.span, rate_hz)).transpose()?;
    let labelled = at.map(|at| gathered.labelled(&at, delay_frames(&model.manifest)));
    let alignment = aligned(arguments, &model.manifest, &head, &gathered, labelled.as_ref())?;
    let shift = alignment.as_ref().filter(|a| a.refused.is_none()).map(|a| a.shift.clone());
    let refit = match (&labelled, &head.classifier) {
        (Some(labelled), Some(present)) => {
            let shift = shift.clone().unwrap_or_else(|| vec![0.0; gathered.good.ncols()]);
            Some(refitted(&model.manifest, present, labelled, &gathered, &shift)?)
        }
        _ => None,
    };
    let classifier = refit.as_ref().filter(|r| r.refused.is_none()).map(|r| r.classifier.clone());
    let changes = super::write::Changes {
        unchanged: shift.is_none() && classifier.is_none(),
        shift,
        refitted_on: classifier.as_ref().map_or(0, |_| refit.as_ref().map_or(0, |r| r.moments)),
        classifier,
    };
    let Written { manifest, parity } =
        super::write::write(config, &model, file, &changes, &gathered, (&out, &scratch, arguments), decode)?;
    Ok(CalibrateReport {
        from: model.manifest.name,
        manifest,
        frames: gathered.good.nrows(),
        alignment,
        refit,
        parity_max_abs_difference: parity,
        unchanged: changes.unchanged,
    })
}

/// The file in pieces, of a trained model.
fn pieces(model: &Model) -> anyhow::Result<(OnnxFile, Head)> {
    if !model.manifest.provenance.trained {
        return Err(refused(model, "it is untrained: there is nothing that an animal could be aligned to"));
    }
    let read = || {
        let file = OnnxFile::read(&model.onnx_path)?;
        let head = Head::of(&file)?;
        Ok((file, head))
    };
    read().map_err(|e| unfit(model, e))
}

fn refused(model: &Model, why: &str) -> anyhow::Error {
    let what = format!("{} cannot be calibrated: {why}", model.manifest_path.display());
    Failure { code: ExitCode::Model, what }.into()
}

fn unfit(model: &Model, cause: OnnxReadError) -> anyhow::Error {
    refused(model, &cause.to_string())
}

/// Frames per second that the model needs of the stream, before averaging.
fn stream_rate_hz(manifest: &Manifest) -> f64 {
    manifest.frame_rate_hz * manifest.preprocess.average_frames as f64
}

/// How many frames of the stream a decode lies behind the moment it describes.
fn delay_frames(manifest: &Manifest) -> u64 {
    (manifest.look_ahead_frames * manifest.preprocess.average_frames) as u64
}

/// Rows of the good embeddings that have a label, and what it is.
struct LabelledRows {
    rows: Vec<usize>,
    label: Vec<usize>,
}

impl Gathered {
    fn labelled(&self, at: &std::collections::BTreeMap<u64, usize>, delay_frames: u64) -> LabelledRows {
        let of = |number: &u64| number.checked_sub(delay_frames).and_then(|frame| at.get(&frame)).copied();
        let found = self.number.iter().enumerate().filter_map(|(row, number)| Some((row, of(number)?)));
        let (rows, label) = found.unzip();
        LabelledRows { rows, label }
    }
}

/// What alignment finds. With labels it must also not make the present classifier worse on them.
fn aligned(
    arguments: &CalibrateArguments,
    manifest: &Manifest,
    head: &Head,
    gathered: &Gathered,
    labelled: Option<&LabelledRows>,
) -> anyhow::Result<Option<Alignment>> {
    let Some(novelty) = head.novelty.as_ref().filter(|_| arguments.align) else { return Ok(None) };
    let mut found = align(gathered.good.view(), manifest.window_frames, novelty, head.alignment.as_ref())?;
    if let (None, Some(labelled), Some(classifier)) = (&found.refused, labelled, &head.classifier) {
        let balanced = |shift: &[f32]| {
            let rows = gathered.good.select(ndarray::Axis(0), &labelled.rows);
            let units = unit_rows(rows.view(), shift);
            let decoded: Vec<usize> = units.rows().into_iter().map(|r| classifier.strongest(&r.to_vec())).collect();
            scores(&labelled.label, &decoded, manifest.labels.len()).balanced_accuracy * 100.0
        };
        let (before, after) = (balanced(&vec![0.0; found.shift.len()]), balanced(&found.shift));
        found.refused = (after < before).then(|| {
            format!("on the labelled frames it makes the decodes worse (balanced accuracy {before:.1} → {after:.1} %)")
        });
    }
    Ok(Some(found))
}

fn refitted(
    manifest: &Manifest,
    present: &Classifier,
    labelled: &LabelledRows,
    gathered: &Gathered,
    shift: &[f32],
) -> anyhow::Result<Refit> {
    if labelled.rows.is_empty() {
        let what = "no labelled frame has an embedding of quality ok: the labels lie in the warm-up, or where something was off";
        return Err(Failure { code: ExitCode::Source, what: what.to_owned() }.into());
    }
    let values = unit_rows(gathered.good.select(ndarray::Axis(0), &labelled.rows).view(), shift);
    let at: Vec<usize> = labelled.rows.iter().map(|&row| gathered.at[row]).collect();
    let rows = Labelled { values: values.view(), at: &at, label: &labelled.label };
    Ok(refit(present, rows, manifest.window_frames, &manifest.labels, &fit_towards)?)
}

/// The probe of the evaluation, held to the present classifier.
fn fit_towards(
    present: &Classifier,
    strength: f64,
    values: ArrayView2<f32>,
    labels: &[usize],
) -> Result<Classifier, String> {
    let prior = Probe::from_layer(present.weight.clone(), present.bias.clone().into());
    // The model was trained as if all actions were as frequent. Two minutes of labels also say how this animal divides its time: with each
    // action counting the same, that is thrown away, and the few frames of a rare action outvote the rest.
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
                "alignment: median novelty {:.2} → {:.2}, distance {:.4} → {:.4} (each half by the other), turned {:.1}°",
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
                "classifier: on bouts left out, accuracy {:.1} → {:.1} %, balanced {:.1} → {:.1} % ({} frames, {} pieces, hold {})",
                r.before.accuracy * 100.0,
                r.after.accuracy * 100.0,
                r.before.balanced_accuracy * 100.0,
                r.after.balanced_accuracy * 100.0,
                r.moments,
                r.pieces,
                r.strength
            )?;
            match &r.refused {
                None => writeln!(f, "  kept")?,
                Some(why) => writeln!(f, "  not kept: {why}")?,
            }
        }
        let unchanged = if self.unchanged { ": the weights are those of the model it began with" } else { "" };
        writeln!(
            f,
            "wrote {}{unchanged}; the daemon's encoder reproduces it within {:.1e}",
            self.manifest.display(),
            self.parity_max_abs_difference
        )
    }
}
