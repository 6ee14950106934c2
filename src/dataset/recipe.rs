//! Decides input shape, parameters and rate once for all trials, before the first frame, and checks that the frames fit.

use super::error::DatasetError;
use super::frames::{Probe, probe};
use super::prepare::Recipe;
use super::spec::{DataSpec, Neural, TrialSpec};
use super::warning::DataWarning;
use super::{LoadOptions, checks};
use crate::frame::Shape;
use crate::model::parameters::{Parameters, Registration};
use crate::preprocess::BuildError;
use crate::preprocess::Squeeze;

/// Default side of a model frame, px.
pub(super) const SIDE_PX: usize = 64;
/// Pixels that registration needs besides its search range; preprocessing's own limit.
const REGISTERED_PX_MIN: usize = 16;

/// Default preprocessing for training, for frames of `channels` channels whose shorter side is `side_px`.
///
/// The daemon's defaults: registration to a template of 100 frames, F₀ as a running minimum with a leak, normalisation per pixel,
/// accepted after 100 frames. Two things differ: registration is measured on channel 1 (red, anatomical) where there is one, and
/// its reach is at most a quarter of the side and always leaves enough to correlate; frames under 18 px are not registered. The
/// model reads channel 0 (green, functional).
pub fn training_parameters(channels: usize, side_px: usize) -> Parameters {
    let usual = Registration::default();
    let reach_px = usual.reach_px.min(side_px / 4).min(side_px.saturating_sub(REGISTERED_PX_MIN) / 2);
    let registration = Registration { channel: usize::from(channels > 1), reach_px, ..usual };
    Parameters { registration: (reach_px > 0).then_some(registration), ..Parameters::default() }
}

/// Decides, and checks every trial.
pub(super) fn settle(
    spec: &DataSpec,
    trials: &[&TrialSpec],
    options: &LoadOptions,
) -> Result<(Recipe, Vec<Probe>), DatasetError> {
    let ready = same_origin(trials)?;
    let (mut probes, mut errors) = (Vec::new(), Vec::new());
    for trial in trials {
        match probe(trial) {
            Ok(probe) => probes.push(probe),
            Err(error) => errors.push(error),
        }
    }
    DatasetError::gathered(errors)?;
    // Including the animals that are left out, so that leaving one out changes nothing for the others.
    let taken = |one: &TrialSpec| trials.iter().any(|trial| trial.name == one.name);
    let others = spec.trials.iter().filter(|one| !taken(one)).filter_map(|one| probe(one).ok());
    let shapes: Vec<Shape> = probes.iter().map(|p| p.shape).chain(others.map(|p| p.shape)).collect();
    let channels = shapes.iter().map(|shape| shape.channels).min().unwrap_or(1);
    let side_px = shapes.iter().map(|shape| shape.height.min(shape.width)).min().unwrap_or(SIDE_PX);
    let given = options.parameters.clone().or_else(|| spec.parameters.clone());
    let mut parameters = (!ready).then(|| given.unwrap_or_else(|| training_parameters(channels, side_px)));
    if let (Some(parameters), None) = (&mut parameters, &options.parameters) {
        for assignment in &options.set {
            parameters.set(assignment).map_err(BuildError::from)?;
        }
    }
    let read = parameters.as_ref().map_or(1, |p| p.channels.len());
    let wanted = options.side_px_max;
    let side = if ready && side_px % wanted != 0 { side_px } else { side_px.min(wanted) };
    let input = options.input.unwrap_or(Shape::new(read, side, side));
    let frame_rate_hz = frame_rate(spec, trials, &probes)?;
    let recipe = Recipe { parameters, input, frame_rate_hz, window_frames: options.window_frames };
    let faults = trials.iter().zip(&probes).filter_map(|(trial, probe)| fits(trial, probe, &recipe).err());
    DatasetError::gathered(faults.collect())?;
    Ok((recipe, probes))
}

/// Raw frames that the model's input squeezes, one warning for each shape of frames.
pub(super) fn squeezed(trials: &[&TrialSpec], probes: &[Probe], recipe: &Recipe) -> Vec<DataWarning> {
    let mut warnings: Vec<DataWarning> = Vec::new();
    // Ready-made ΔF/F of another aspect ratio is refused.
    for (trial, probe) in trials.iter().zip(probes).filter(|_| recipe.parameters.is_some()) {
        let Some(found) = Squeeze::of(probe.shape, recipe.input) else { continue };
        let known = warnings.iter_mut().find_map(|warning| match warning {
            DataWarning::Squeezed { squeeze, others, .. } if *squeeze == found => Some(others),
            _ => None,
        });
        match known {
            Some(others) => *others += 1,
            None => warnings.push(DataWarning::Squeezed { trial: trial.name.clone(), others: 0, squeeze: found }),
        }
    }
    warnings
}

/// True when all trials are ready-made ΔF/F.
fn same_origin(trials: &[&TrialSpec]) -> Result<bool, DatasetError> {
    let is_ready = |trial: &&&TrialSpec| matches!(trial.neural, Neural::Ready { .. });
    let (ready, raw) = (trials.iter().find(is_ready), trials.iter().find(|trial| !is_ready(trial)));
    match (ready, raw) {
        (Some(ready), Some(raw)) => Err(DatasetError::MixedOrigin { ready: ready.name.clone(), raw: raw.name.clone() }),
        (ready, _) => Ok(ready.is_some()),
    }
}

/// The given rate, otherwise that of the recordings; all must agree within a tenth.
fn frame_rate(spec: &DataSpec, trials: &[&TrialSpec], probes: &[Probe]) -> Result<f64, DatasetError> {
    let own = probes.iter().find_map(|probe| probe.rate_hz);
    let Some(expected_hz) = spec.frame_rate_hz.or(own) else {
        let bound = "two-photon frames per second; no recording states its own".to_string();
        let (path, key) = (spec.path.clone(), "frame_rate_hz".to_string());
        return Err(DatasetError::Value { path, key, value: "absent".into(), bound });
    };
    checks::rate(&spec.path, "frame_rate_hz", expected_hz)?;
    let off = |found: &f64| (found / expected_hz - 1.0).abs() > 0.1;
    for (trial, probe) in trials.iter().zip(probes) {
        if let Some(found_hz) = probe.rate_hz.filter(off) {
            return Err(DatasetError::Rate { trial: trial.name.clone(), found_hz, expected_hz });
        }
    }
    Ok(expected_hz)
}

/// Do the frames of a trial fit the model's input?
fn fits(trial: &TrialSpec, probe: &Probe, recipe: &Recipe) -> Result<(), DatasetError> {
    let refuse = |advice: String| {
        let (found, input) = (probe.shape.to_string(), recipe.input.to_string());
        Err(DatasetError::Input { trial: trial.name.clone(), found, input, advice })
    };
    let Some(parameters) = &recipe.parameters else {
        let Shape { channels, height, width } = recipe.input;
        let whole = probe.shape.height.is_multiple_of(height) && probe.shape.width.is_multiple_of(width);
        let square = whole && probe.shape.height / height == probe.shape.width / width;
        if channels == 1 && square {
            return Ok(());
        }
        return refuse(
            "ready-made ΔF/F has one channel and is reduced by an integer factor, the same in both directions".into(),
        );
    };
    let wanted = parameters.last_channel();
    if wanted >= probe.shape.channels {
        return refuse(format!(
            "preprocessing reads channel {wanted}: provide that channel, or change `channels` and `registration.channel`"
        ));
    }
    let side = probe.shape.height.min(probe.shape.width);
    let needed = parameters.registration.as_ref().map_or(0, |r| 2 * r.reach_px + REGISTERED_PX_MIN);
    if side < needed {
        return refuse(format!("registration with this reach needs sides of {needed} px: lower registration.reach_px"));
    }
    Ok(())
}
