//! What preprocessing measured on one frame, beside the tensor.
//!
//! Why it exists: whatever decides how far a decode may be trusted is seen here, live and offline. What it must never do: hold
//! anything that needs memory of its own.

use super::{Distrust, Relearn, Restart, TakenUp};

/// What preprocessing measured on one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// [dy, dx] of the content relative to the template, px of the incoming frame; + is down and right.
    /// `None` while there is no template or when registration is off.
    pub shift_px: Option<[f32; 2]>,
    /// Height of the correlation peak, 0 to 1; 1 is a perfect copy of the template.
    pub shift_peak: f32,
    /// The peak lies on the border of the search range: the true shift may be larger.
    pub shift_at_bound: bool,
    /// The peak is below `registration.peak_min`: the shift was rejected and the last accepted one used instead.
    pub shift_doubtful: bool,
    /// Offset between odd and even lines in use, px; 0 when line-phase correction is off.
    pub line_phase_px: f32,
    /// NaN or infinite pixels of the frame (replaced by the dark level).
    pub non_finite_pixels: u32,
    /// Pixels at the top of the range of their type.
    pub saturated_pixels: u32,
    /// Mean light of the channel that is registered, counts above the dark level; `None` where frames are not judged.
    pub light: Option<f32>,
    /// Still filling the template, the baseline or the statistics.
    pub warming_up: bool,
    /// No window may span this frame and the one before it; training leaves such windows out.
    pub restart: Option<Restart>,
    /// Frame rate measured from the frames' own times, Hz; 0 until it is known.
    pub frame_rate_hz: f32,
    /// The measured rate, after averaging, is more than 10 % off the model's.
    pub frame_rate_off: bool,
    /// Why the frame is not believed: nothing was learnt from it, and it has no tensor.
    pub distrust: Option<Distrust>,
    /// What is learnt anew from this frame on.
    pub relearn: Option<Relearn>,
    /// What becomes of a saved state that was taken up.
    pub taken_up: Option<TakenUp>,
    /// Frames after this one before preprocessing has warmed up, if all of them are believed.
    pub warmup_left: u32,
}

impl Observation {
    /// Is a saved state that was taken up still to be confirmed, or has this frame refuted it?
    pub fn on_trial(&self) -> bool {
        matches!(self.taken_up, Some(TakenUp::OnTrial(_) | TakenUp::Mismatch(_)))
    }
}
