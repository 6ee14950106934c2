//! Which frames preprocessing takes, and how the model's input squeezes them.
//!
//! Why it exists: every implementation refuses the same frames, and whoever must know beforehand asks here. What it must never
//! do: change any state.

use std::fmt;

use super::PreprocessError;
use super::line_phase::LinePhaseEstimator;
use crate::frame::{FrameInfo, Geometry, SIDE_PX_MAX, Shape};
use crate::model::parameters::Parameters;

/// Smallest side when no step needs more, px.
const SIDE_PX_MIN: usize = 8;
/// Frame pixels that must remain beside the range searched by registration, for the correlation to mean anything.
const REGISTERED_PX_MIN: usize = 16;
/// Relative difference between the two directions' reduction that is not worth a warning: rounding of a side.
const SQUEEZE_TOLERANCE: f64 = 0.05;

/// Refuses a frame that these parameters cannot process, whatever came before it.
///
/// # Errors
/// [`PreprocessError::Channel`] or [`PreprocessError::Side`].
pub fn takes(parameters: &Parameters, shape: Shape) -> Result<(), PreprocessError> {
    let wanted = parameters.last_channel();
    if wanted >= shape.channels {
        return Err(PreprocessError::Channel { found: shape.channels, wanted });
    }
    let (height, width, min, max) = (shape.height, shape.width, side_px_min(parameters), SIDE_PX_MAX);
    if [height, width].iter().any(|side| !(min..=max).contains(side)) {
        return Err(PreprocessError::Side { height, width, min, max });
    }
    Ok(())
}

/// The same, and a frame that differs from what the present animal began with.
pub(super) fn check_frame(
    parameters: &Parameters,
    animal: Option<Geometry>,
    info: &FrameInfo,
) -> Result<(), PreprocessError> {
    takes(parameters, info.shape)?;
    let found = info.geometry();
    match animal {
        Some(expected) if expected != found => Err(PreprocessError::Geometry { found, expected }),
        _ => Ok(()),
    }
}

/// Smallest side that every step can work on, px.
fn side_px_min(parameters: &Parameters) -> usize {
    let line_phase = parameters.line_phase.as_ref().map_or(0, LinePhaseEstimator::width_px_min);
    let registration = parameters.registration.as_ref().map_or(0, |r| 2 * r.reach_px + REGISTERED_PX_MIN);
    SIDE_PX_MIN.max(line_phase).max(registration)
}

/// Frames whose sides are reduced by different factors into the model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Squeeze {
    /// Rows and columns of the frames, px.
    pub frame_px: [usize; 2],
    /// Of the model's input, px.
    pub input_px: [usize; 2],
    /// How many times more one direction is reduced than the other, above 1.
    pub ratio: f64,
}

impl Squeeze {
    /// `None` when both directions are reduced alike, within 5 %.
    pub fn of(frame: Shape, input: Shape) -> Option<Self> {
        let by = |frame: usize, input: usize| frame as f64 / input.max(1) as f64;
        let [rows, columns] = [by(frame.height, input.height), by(frame.width, input.width)];
        let ratio = rows.max(columns) / rows.min(columns).max(f64::MIN_POSITIVE);
        let (frame_px, input_px) = ([frame.height, frame.width], [input.height, input.width]);
        (ratio > 1.0 + SQUEEZE_TOLERANCE).then_some(Self { frame_px, input_px, ratio })
    }
}

impl fmt::Display for Squeeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([height, width], [rows, columns]) = (self.frame_px, self.input_px);
        write!(
            f,
            "frames of {height}×{width} px are squeezed into the model's input of {rows}×{columns} px: one direction is reduced \
             {:.2} times as much as the other",
            self.ratio
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_of_another_aspect_ratio_are_squeezed() {
        let input = Shape::new(1, 64, 64);
        let squeezed = |height, width| Squeeze::of(Shape::new(2, height, width), input).map(|s| s.ratio);
        assert_eq!([(64, 64), (512, 512), (500, 512)].map(|(h, w)| squeezed(h, w)), [None; 3]);
        assert_eq!([(512, 256), (256, 512)].map(|(h, w)| squeezed(h, w)), [Some(2.0); 2]);
        let said = Squeeze::of(Shape::new(1, 512, 256), input).unwrap().to_string();
        assert!(said.contains("512×256 px") && said.contains("64×64 px") && said.contains("2.00 times"), "{said}");
    }
}
