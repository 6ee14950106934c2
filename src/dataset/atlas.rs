//! The atlas of a data set: made of the registration template of every trial, before any frame is prepared.
//!
//! Why it exists: the frames of training and those of the next animal are laid on the same atlas, so it must exist before both. What
//! it must never do: look at more of a recording than a daemon has seen when its template stands.

use rayon::prelude::*;

use super::error::DatasetError;
use super::frames::{self, broken};
use super::prepare::Recipe;
use super::spec::{DataSpec, TrialSpec};
use super::{LoadOptions, checks, recipe};
use crate::config::Device;
use crate::frame::{Frame, Request};
use crate::model::parameters::{Atlas, Parameters};
use crate::preprocess;
use crate::preprocess::placement::{View, make_atlas};

/// The preprocessing that [`load`](super::load) would use, with an atlas of the trials that it would load. Parameters that have an
/// atlas already are returned as they are.
///
/// # Errors
/// As [`load`](super::load), and [`DatasetError::Atlas`] where there can be none: ready-made ΔF/F, registration that is off, trials that
/// are all too short.
pub fn with_atlas(spec: &DataSpec, options: &LoadOptions) -> Result<Parameters, DatasetError> {
    let trials = checks::chosen(spec, options)?;
    let (recipe, probes) = recipe::settle(spec, &trials, options)?;
    let none = |cause: &str| DatasetError::Atlas { cause: cause.to_owned() };
    let Some(mut parameters) = recipe.parameters.clone() else {
        return Err(none("ready-made ΔF/F has no registration template; use the raw recordings"));
    };
    if parameters.atlas.is_some() {
        return Ok(parameters);
    }
    if parameters.registration.is_none() {
        return Err(none("registration is off, and a placement is measured on its template"));
    }
    let how = Atlas::default();
    let one = |(trial, probe): (&&TrialSpec, &frames::Probe)| view_of(trial, &recipe, probe.frames, &how);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads.max(1)).build();
    let pool = pool.map_err(|e| none(&e.to_string()))?;
    let found: Vec<Result<Option<View>, DatasetError>> =
        pool.install(|| trials.par_iter().zip(probes.par_iter()).map(one).collect());
    let (mut views, mut errors) = (Vec::new(), Vec::new());
    for result in found {
        match result {
            Ok(view) => views.extend(view),
            Err(error) => errors.push(error),
        }
    }
    DatasetError::gathered(errors)?;
    parameters.atlas = Some(make_atlas(&how, &views).map_err(|e| none(&e.to_string()))?);
    Ok(parameters)
}

/// The picture of a trial's first registration template; `None` when the trial ends before there is one. Frames that a session
/// rejected are skipped, and its requests repeated, as when it is prepared.
fn view_of(trial: &TrialSpec, recipe: &Recipe, frames: usize, how: &Atlas) -> Result<Option<View>, DatasetError> {
    let Some(parameters) = &recipe.parameters else { return Ok(None) };
    let mut steps = preprocess::build(parameters, recipe.input, recipe.model_rate_hz(), Device::Cpu)?;
    let mut source = frames::open(trial, Some(recipe.frame_rate_hz))?;
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    let recorded_live = frames::session(trial).is_some();
    let mut number = 0;
    while number <= frames as u64 && frames::pull(trial, source.as_mut(), &mut frame, number)? {
        source.requests().iter().for_each(|request: Request| steps.request(request));
        match steps.apply(&frame) {
            Ok(_) => {}
            Err(_) if recorded_live => {}
            Err(refusal) => return Err(broken(trial, number, refusal)),
        }
        if let Some(template) = steps.template() {
            let view = View::of(how, &trial.name, template.pixels, template.height, template.width);
            return view.map(Some).map_err(|e| DatasetError::Atlas { cause: e.to_string() });
        }
        number += 1;
    }
    Ok(None)
}
