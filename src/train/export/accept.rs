//! From a trained network to an accepted model: probe, calibrated probabilities, novelty, and the daemon's own encoder as judge.
//!
//! Why it exists: a network that separates actions cannot yet name them, and nothing goes to `models/` that the daemon has not
//! reproduced. What it must never do: fit a temperature or a novelty to samples that the probe learnt from, or leave rejected
//! files behind.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ndarray::{Array1, Array2, Axis};

use super::head::{FittedHead, FittedNovelty};
use super::outputs::{NothingToLearn, fit_outputs};
use super::{Details, ExportError, measure_parity, write_with_head};
use crate::dataset::trials::{Dataset, Origin, Representation, Sample};
use crate::encode::Encoder;
use crate::evaluate::calibration;
use crate::evaluate::calibration::CalibrationError;
use crate::evaluate::novelty::{NoveltyError, fit_novelty};
use crate::evaluate::probe::{Probe, ProbeError, ProbeOptions};
use crate::evaluate::readout::{Readout, Rows, Strengths};
use crate::model::head::{AlignmentReference, Classifier};
use crate::model::{Calibration, Drift, InputOrigin, Model, Parity};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::train::learner::Learner;
use crate::train::represent::{represent, represent_raw};
use crate::train::settings::TrainSettings;
use crate::train::spec::NetworkSpec;

/// Number of prototypes that represent the embeddings of training.
const PROTOTYPES: usize = 64;
/// Number of novelty quantiles: steps of half a per cent.
const THRESHOLDS: usize = 200;
/// Maximum number of samples that a probe, a temperature or a novelty is fitted to.
const SAMPLES_MAX: usize = 20_000;
/// Time constant of the drift, s: several bouts, so that one rare action does not count as drift.
const DRIFT_TIME_CONSTANT_S: f64 = 60.0;
/// Minimum distance between the highest mean novelty of held-out animals and the limit.
const DRIFT_MARGIN: f64 = 0.05;
/// Maximum accepted difference between the network and the daemon's encoder.
pub const PARITY_MAX: f32 = 1e-5;
/// Number of frames after the first window that the daemon's encoder must reproduce.
const PARITY_FRAMES: usize = 200;

/// Why a trained network does not become a model.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The probe.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The temperature.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The novelty.
    #[error(transparent)]
    Novelty(#[from] NoveltyError),
    /// A continuous output.
    #[error(transparent)]
    Output(#[from] NothingToLearn),
    /// The files.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The daemon's encoder differs from the network.
    #[error(
        "the daemon's encoder differs from the trained network by {difference:e} over {frames} held-out frames (allowed: \
         {PARITY_MAX:e}): the model is not accepted"
    )]
    Parity {
        /// Largest difference.
        difference: f32,
        /// Frames compared.
        frames: usize,
    },
}

impl HasExitCode for AcceptError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Export(error) => error.exit_code(),
            Self::Parity { .. } => ExitCode::Model,
            Self::Probe(_) | Self::Calibration(_) | Self::Novelty(_) | Self::Output(_) => ExitCode::Other,
        }
    }
}

/// What is fitted on the frozen embedding.
#[derive(Debug)]
pub struct Head {
    /// Embedding → logits; `None` when nothing is labelled.
    pub probe: Option<Probe>,
    /// The temperature and what it did; `None` without labels.
    pub calibration: Option<calibration::Calibration>,
    /// The animals that temperature and novelty were measured on.
    pub measured_on: String,
    /// Number of their labelled samples.
    pub measured_samples: usize,
    /// What goes into the file.
    pub fitted: FittedHead,
}

/// The samples of a data set that a network with these settings can represent, evenly thinned to at most `SAMPLES_MAX`, and the
/// stride in frames.
pub fn samples_of(data: &Dataset, settings: &TrainSettings) -> (Vec<Sample>, usize) {
    let all = data.samples(settings.network.window_frames, settings.look_ahead_frames);
    let stride = all.len().div_ceil(SAMPLES_MAX).max(1);
    (all.into_iter().filter(|m| m.frame.is_multiple_of(stride)).collect(), stride)
}

/// Fits probe, temperature, novelty and drift. `held_out` are animals that nothing was trained on; without any, each animal is
/// judged by a probe of the others, which `measured_on` states.
///
/// # Errors
/// Any [`AcceptError`] but those of the export.
pub fn fit_head(
    learner: &Learner,
    spec: &NetworkSpec,
    settings: &TrainSettings,
    training: &Dataset,
    held_out: Option<&Dataset>,
    device: &Device,
) -> Result<Head, AcceptError> {
    let look_ahead = settings.look_ahead_frames;
    let (own_samples, mut stride) = samples_of(training, settings);
    let own = represent(learner, spec, look_ahead, training, &own_samples, device);
    let raw = represent_raw(learner, spec, look_ahead, training, &own_samples, device);
    let others = held_out.map(|data| {
        let (samples, own_stride) = samples_of(data, settings);
        (represent(learner, spec, look_ahead, data, &samples, device), own_stride)
    });
    let others = others.filter(|(r, _)| r.values.nrows() > 0).map(|(r, own_stride)| {
        stride = own_stride;
        r
    });
    let (measured_on, judged) = match (&others, held_out) {
        (Some(others), Some(data)) => (format!("held-out {}", data.animals.join(", ")), others),
        _ => ("training animals, each by a probe of the others".to_owned(), &own),
    };
    // What was trained on labels is read out as it was trained: a probe would learn from embeddings that know these labels already.
    let probe = match settings.learns_from_labels().then(|| learner.own_classifier()).flatten() {
        Some(own) => Some(own),
        None => fit(&own, |_| true)?,
    };
    let (logits, truth) = match (&others, &probe) {
        (Some(others), Some(probe)) => of_held_out(others, probe),
        (None, Some(_)) => of_left_out(&own)?,
        _ => (Array2::zeros((0, 0)), Vec::new()),
    };
    let calibration = (!truth.is_empty()).then(|| calibration::fit_temperature(logits.view(), &truth)).transpose()?;
    let reference = fit_novelty(own.values.view(), judged.values.view(), PROTOTYPES, THRESHOLDS, settings.seed)?;
    let step_s = stride as f64 / training.frame_rate_hz;
    let highest = highest_mean_novelty(judged, |row| reference.rank(reference.distance(row)), step_s);
    let limit = (highest + DRIFT_MARGIN).clamp(0.7, 0.98);
    let fitted = FittedHead {
        outputs: fit_outputs(&training.targets, &own, others.as_ref())?,
        classifier: probe.as_ref().map(|p| Classifier { weight: p.weights.clone(), bias: p.intercept.to_vec() }),
        calibration: calibration.as_ref().map(|c| Calibration {
            temperature: c.temperature,
            measured_on: measured_on.clone(),
            moments: truth.len(),
            ece_before: c.before.ece,
            ece_after: c.after.ece,
        }),
        novelty: Some(FittedNovelty { reference, measured_on: measured_on.clone() }),
        drift: Some(Drift { time_constant_s: DRIFT_TIME_CONSTANT_S, limit }),
        alignment: Some(AlignmentReference::of(raw.view())),
        input_origin: match training.origin {
            Origin::Preprocessed(_) => InputOrigin::Live,
            Origin::ReadyMade { .. } => InputOrigin::ReadyMade,
        },
        data_sha256: training.sha256.clone(),
    };
    Ok(Head { probe, calibration, measured_on, measured_samples: truth.len(), fitted })
}

/// A probe of the labelled samples of the animals to `keep`, its penalty chosen on animals left out (of one animal: on trials);
/// `None` without any.
fn fit(own: &Representation, keep: impl Fn(usize) -> bool) -> Result<Option<Probe>, ProbeError> {
    let rows: Vec<usize> = (0..own.label.len()).filter(|&r| keep(own.animal[r]) && own.label[r].is_some()).collect();
    let labels: Vec<usize> = rows.iter().filter_map(|&row| own.label[row]).map(usize::from).collect();
    let Some(&first) = rows.first() else { return Ok(None) };
    let alone = rows.iter().all(|&row| own.animal[row] == own.animal[first]);
    let group: Vec<usize> = rows.iter().map(|&row| if alone { own.trial[row] } else { own.animal[row] }).collect();
    let values = own.values.select(Axis(0), &rows);
    let rows = Rows { values: values.view(), labels: &labels, classes: own.labels.len() };
    let (readout, options) = (Readout::Logistic, ProbeOptions::default());
    let strength = readout.choose(rows, &group, Strengths::default().of(readout), &options)?;
    readout.fit(rows, strength, &options).map(Some)
}

/// The labelled rows and their classes; `None` without any.
pub fn labelled(r: &Representation) -> Option<(Array2<f32>, Vec<usize>)> {
    let rows: Vec<usize> = (0..r.label.len()).filter(|&row| r.label[row].is_some()).collect();
    let classes = rows.iter().filter_map(|&row| r.label[row]).map(usize::from).collect();
    (!rows.is_empty()).then(|| (r.values.select(Axis(0), &rows), classes))
}

fn of_held_out(others: &Representation, probe: &Probe) -> (Array2<f32>, Vec<usize>) {
    labelled(others).map_or_else(
        || (Array2::zeros((0, 0)), Vec::new()),
        |(values, classes)| (probe.predict_logits(values.view()), classes),
    )
}

/// Logits of every animal by a probe of the others.
fn of_left_out(own: &Representation) -> Result<(Array2<f32>, Vec<usize>), AcceptError> {
    let mut logits = Array2::zeros((0, own.labels.len()));
    let mut truth = Vec::new();
    for animal in 0..own.animals.len() {
        let rows: Vec<usize> =
            (0..own.label.len()).filter(|&r| own.animal[r] == animal && own.label[r].is_some()).collect();
        let Some(probe) = fit(own, |a| a != animal)?.filter(|_| !rows.is_empty()) else { continue };
        let values = own.values.select(Axis(0), &rows);
        let found = probe.predict_logits(values.view());
        logits.append(Axis(0), found.view()).unwrap_or_default();
        truth.extend(rows.iter().filter_map(|&row| own.label[row]).map(usize::from));
    }
    Ok((logits, truth))
}

/// The highest exponential mean of the novelty over all trials, as the daemon would compute it.
fn highest_mean_novelty(judged: &Representation, novelty: impl Fn(&[f32]) -> f32, step_s: f64) -> f64 {
    let keep = (-step_s / DRIFT_TIME_CONSTANT_S).exp();
    let (mut highest, mut mean, mut trial) = (0.5_f64, 0.5_f64, usize::MAX);
    for (row, &of) in judged.values.outer_iter().zip(&judged.trial) {
        if of != trial {
            (trial, mean) = (of, 0.5);
        }
        let row: Array1<f32> = row.to_owned();
        let value = f64::from(novelty(row.as_slice().unwrap_or_default()));
        mean = keep * mean + (1.0 - keep) * value;
        highest = highest.max(mean);
    }
    highest
}

/// Writes the model into `folder`, runs it through the daemon's own encoder over frames of `judge`, and accepts it or removes
/// it again. Returns the manifest's path and what was measured.
///
/// # Errors
/// [`AcceptError::Export`] or [`AcceptError::Parity`]; what was written is removed.
pub fn export(
    learner: &Learner,
    spec: &NetworkSpec,
    details: &Details,
    head: &FittedHead,
    judge: &Dataset,
    folder: &Path,
    runtime: Option<&Path>,
) -> Result<(PathBuf, Parity), AcceptError> {
    let path = write_with_head(&learner.network, spec, details, head, folder)?;
    let accepted = accept(learner, spec, judge, &path, runtime);
    if accepted.is_err() {
        // A rejected file must not be mistaken for a model. If it cannot be removed, the first error is still the one to report.
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(path.with_extension("onnx"));
    }
    Ok((path, accepted?))
}

fn accept(
    learner: &Learner,
    spec: &NetworkSpec,
    judge: &Dataset,
    path: &Path,
    runtime: Option<&Path>,
) -> Result<Parity, AcceptError> {
    let mut model = Model::load(path).map_err(ExportError::from)?;
    let mut encoder = Encoder::open(&model, runtime, 1).map_err(ExportError::from)?;
    let trial = judge.trials.iter().max_by_key(|t| t.frames.len());
    let last = trial.map_or(0, |t| t.frames.len());
    let first = last.saturating_sub(spec.window_frames - 1 + PARITY_FRAMES);
    let frames: Vec<f32> =
        trial.into_iter().flat_map(|t| (first..last).flat_map(|f| t.frames.frame(f))).copied().collect();
    let parity = measure_parity(&learner.network, spec, &mut encoder, &frames, &Device::flex())?;
    // Not `>`: NaN must be rejected as well.
    let reproduced = parity.max_abs_difference <= PARITY_MAX && parity.frames > 0;
    if !reproduced {
        return Err(AcceptError::Parity { difference: parity.max_abs_difference, frames: parity.frames });
    }
    model.manifest.parity = Some(parity.clone());
    model.manifest.save(path).map_err(ExportError::from)?;
    Ok(parity)
}
