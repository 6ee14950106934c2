//! What a saved state of an animal must fit, on the CPU and on a device.
//!
//! Why it exists: a state of other parameters would make every decode wrong. What it must never do: let one through whose lists are not as
//! long as the model's.

use sha2::{Digest, Sha256};

use super::accept::takes;
use super::placement::lies_within;
use crate::frame::animal::StateError;
use crate::frame::{AnimalState, Frame, FrameInfo, Mismatch, PixelType, Shape};
use crate::model::parameters::{Estimator, Parameters, Scope};

/// Why a state is not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeUpError {
    /// It came of other parameters.
    #[error(
        "the state was learnt with other preprocessing ({}…, this model has {}…): learn anew, or use a model with the same [preprocess]",
        found.get(..12).unwrap_or(found), wanted.get(..12).unwrap_or(wanted)
    )]
    Preprocessing {
        /// SHA-256 of what it came of.
        found: String,
        /// Of this model's.
        wanted: String,
    },
    /// Its lists do not fit.
    #[error("the state does not fit the model: {0}")]
    State(#[from] StateError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] crate::cuda::Fault),
}

/// SHA-256 of everything that a state depends on beside the frames: a state fits every model with the same one.
pub(super) fn fingerprint(parameters: &Parameters, input: Shape, frame_rate_hz: f64) -> String {
    // Plain values become JSON without fail; floats with enough digits to tell any two apart.
    let text = serde_json::to_string(&(parameters, input, frame_rate_hz)).unwrap_or_default();
    crate::sys::files::hex(&Sha256::digest(text))
}

/// Header of frames like those of a state; `None` where the model cannot take such frames. What does not fit is noted in `refused`.
pub(super) fn frames_of(
    state: &AnimalState,
    parameters: &Parameters,
    input: Shape,
    fingerprint: &str,
    refused: &mut Option<Mismatch>,
) -> Result<Option<FrameInfo>, TakeUpError> {
    let checked = check(state, parameters, input, fingerprint);
    let (shape, pixel_type) = checked.inspect_err(|_| *refused = Some(Mismatch::Preprocessing))?;
    if takes(parameters, shape).is_err() {
        *refused = Some(Mismatch::Geometry);
        return Ok(None);
    }
    Ok(Some(FrameInfo { shape, pixel_type, ..Frame::with_capacity(0).info }))
}

/// Refuses a state that does not fit.
fn check(
    state: &AnimalState,
    parameters: &Parameters,
    input: Shape,
    fingerprint: &str,
) -> Result<(Shape, PixelType), TakeUpError> {
    if state.preprocessing != fingerprint {
        return Err(TakeUpError::Preprocessing { found: state.preprocessing.clone(), wanted: fingerprint.to_owned() });
    }
    let pixels = input.pixels();
    let f0 = parameters.baseline.as_ref().map(|baseline| match baseline.estimator {
        Estimator::RunningMinimum => [pixels, baseline.average_frames * pixels, 0],
        Estimator::RunningQuantile => [pixels, 0, pixels],
    });
    let groups = parameters.normalise.as_ref().map(|normalise| match normalise.scope {
        Scope::Pixel => [pixels, if normalise.signal_share { pixels } else { 0 }],
        Scope::Channel => [input.channels, 0],
    });
    state.check_lists(f0, groups)?;
    let missing =
        |key, value: &str| StateError::Value { key, value: value.to_owned(), wanted: "what the model has".into() };
    if state.template.is_some() != parameters.registration.is_some() {
        return Err(missing("template", if state.template.is_some() { "there" } else { "not there" }).into());
    }
    if state.line_phase_px.is_some() != parameters.line_phase.is_some() {
        return Err(missing("line_phase_px", if state.line_phase_px.is_some() { "there" } else { "not there" }).into());
    }
    if state.placement.is_some() != parameters.atlas.is_some() {
        return Err(missing("placement", if state.placement.is_some() { "there" } else { "not there" }).into());
    }
    if state.placement.as_ref().is_some_and(|placement| !lies_within(placement)) {
        return Err(missing("placement", "further away than any that is searched").into());
    }
    let pixel_type = state.pixel_type().ok_or_else(|| missing("pixel_type", "unknown"))?;
    Ok((state.shape(), pixel_type))
}

/// Frames that F₀ or the statistics still need, and how many they need from their beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needed {
    pub left: u64,
    pub whole: u64,
}
