//! What is saved of an animal, and what a saved state must fit: the parts that the CPU and a device share.
//!
//! Why it exists: F₀ and statistics lie where they are computed, everything else lies on the host for both. What it must never do:
//! take up a state that came of other parameters or has lists of other lengths.

use sha2::{Digest, Sha256};

use super::average::Group;
use super::line_phase::LinePhaseEstimator;
use super::placement::{Placer, lies_within};
use super::tracker::Tracker;
use super::trust::{PeakWatch, Trust};
use crate::frame::animal::StateError;
use crate::frame::{AnimalState, PixelType, Shape};
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

/// What is learnt on the host.
pub(super) struct Host<'a> {
    pub line_phase: Option<&'a mut LinePhaseEstimator>,
    pub tracker: Option<&'a mut Tracker>,
    pub placer: Option<&'a mut Placer>,
    pub peaks: &'a mut PeakWatch,
}

impl Host<'_> {
    /// Takes up the host's part of a state that fits.
    pub fn take_up(self, state: &AnimalState) {
        if let (Some(line_phase), Some(offset_px)) = (self.line_phase, state.line_phase_px) {
            line_phase.take_up(offset_px);
        }
        if let (Some(tracker), Some(template)) = (self.tracker, &state.template) {
            tracker.take_up(template);
            self.peaks.take_up(template);
        }
        if let (Some(placer), Some(placement)) = (self.placer, &state.placement) {
            placer.take_up(placement);
        }
    }
}

/// The state of frames like these, without F₀ and statistics; `None` while a template is being built.
pub(super) fn keep(
    (shape, pixel_type): (Shape, PixelType),
    line_phase: Option<&LinePhaseEstimator>,
    tracker: Option<&Tracker>,
    placer: Option<&Placer>,
    peaks: &PeakWatch,
    trust: &Trust,
) -> Option<AnimalState> {
    let template = match tracker {
        Some(tracker) => {
            let mut template = tracker.keep()?;
            peaks.keep(&mut template);
            Some(template)
        }
        None => None,
    };
    let light: Vec<[f64; 2]> = trust.light().collect();
    let state = AnimalState {
        line_phase_px: line_phase.and_then(LinePhaseEstimator::offset_px),
        template,
        placement: placer.and_then(Placer::keep),
        light_levels: light.iter().map(|[level, _]| *level).collect(),
        light_contrasts: light.iter().map(|[_, contrast]| *contrast).collect(),
        ..AnimalState::default()
    };
    Some(state.of_frames(shape, pixel_type))
}

/// Refuses a state that does not fit.
pub(super) fn check(
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
        Scope::Pixel => pixels,
        Scope::Channel => input.channels,
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

/// Frames of the stream that will still be warm-up: those of line phase, template and placement, then those of F₀ and statistics, which
/// begin with the first registered frame (`settled`: it has been). `group`: frames averaged into one, and how many of the next are there.
pub(super) fn warmup_left(
    line_phase: Option<&LinePhaseEstimator>,
    tracker: Option<&Tracker>,
    placer: Option<&Placer>,
    settled: bool,
    needed: [Option<Needed>; 2],
    group: &Group,
) -> u32 {
    let before = line_phase.map_or(0, LinePhaseEstimator::frames_left)
        + tracker.map_or(0, Tracker::frames_left)
        + placer.map_or(0, Placer::frames_left);
    let learning = needed.into_iter().flatten().map(|n| if settled { n.left } else { n.whole }).max().unwrap_or(0);
    let begun = if settled { group.frames() } else { 0 };
    // The last of them is no warm-up any more.
    let learning = (learning * group.wanted() as u64).saturating_sub(begun as u64 + 1);
    u32::try_from(before as u64 + learning).unwrap_or(u32::MAX)
}
