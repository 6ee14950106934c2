//! Is this the animal of which a state was taken up? Its first believed frames must match the saved template and the saved light.
//!
//! Why it exists: a name is quickly mistyped and an animal quickly moved, and a wrong template and a wrong F₀ make every decode
//! wrong. What it must never do: judge by one frame (animals move), or look at more than the first frames.

use super::trust::Trust;
use crate::frame::{AnimalState, Mismatch, TakenUp};
use crate::model::parameters::Trust as Settings;

/// Frames that a state is on trial.
const FRAMES: usize = 8;
/// Share of its saved level that the median peak must reach, where frames are not judged by their pixels.
const PEAK_SHARE_MIN: f32 = 0.5;
/// The mean light may differ from the saved one by so many of the steps that are allowed from one frame to the next: activity
/// changes it as well.
const LIGHT_STEPS: f64 = 2.0;

/// A state on trial.
pub(super) struct Trial {
    frames: usize,
    peaks: [f32; FRAMES],
    /// Running level of the peak when the state was saved; `None` without registration.
    saved_peak: Option<f32>,
    /// Level and contrast of each plane when it was saved.
    saved_light: Vec<[f64; 2]>,
}

impl Trial {
    /// Of this state.
    pub fn of(state: &AnimalState) -> Self {
        let template = state.template.as_ref().filter(|template| template.peak_frames > 0);
        let light = state.light_levels.iter().zip(&state.light_contrasts).map(|(level, contrast)| [*level, *contrast]);
        Self {
            frames: 0,
            peaks: [0.0; FRAMES],
            saved_peak: template.map(|template| template.peak_level),
            saved_light: light.collect(),
        }
    }

    /// As it stands.
    pub fn standing(&self) -> TakenUp {
        TakenUp::OnTrial((FRAMES - self.frames) as u32)
    }

    /// One more frame that shows a picture, with its correlation peak; the verdict after the last one.
    pub fn add(&mut self, peak: f32, trust: &Trust, settings: &Settings) -> TakenUp {
        self.peaks[self.frames] = peak;
        self.frames += 1;
        if self.frames < FRAMES {
            return self.standing();
        }
        self.peaks.sort_by(f32::total_cmp);
        let peak = 0.5 * (self.peaks[FRAMES / 2 - 1] + self.peaks[FRAMES / 2]);
        if let Some(saved) = self.saved_peak {
            let share = if settings.enabled { settings.peak_share_min } else { PEAK_SHARE_MIN };
            let needed = share * saved;
            if peak < needed {
                return TakenUp::Mismatch(Mismatch::Template { found: peak, needed });
            }
        }
        for (&[saved, contrast], [found, contrast_now]) in self.saved_light.iter().zip(trust.light()) {
            let allowed = LIGHT_STEPS * f64::from(settings.level_step) * contrast.max(contrast_now);
            if (found - saved).abs() > allowed {
                return TakenUp::Mismatch(Mismatch::Light { found: found as f32, saved: saved as f32 });
            }
        }
        TakenUp::Known { peak, saved_peak: self.saved_peak.unwrap_or(0.0) }
    }
}
