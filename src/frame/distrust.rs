//! Frames that are not tissue: why a frame is not believed, what its sender said of it, and what its decode then shows.
//!
//! Why it exists: light goes into the animal exactly when the loop acts. A frame that shows the light instead of the animal must not
//! be learnt from, and its decode must not look right. What it must never do: judge; that is `preprocess`.

use super::{Clock, FrameInfo};

/// What the sender said of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// `"valid":false`: do not believe it.
    pub invalid: bool,
    /// `"stimulus":true`: light went in during this frame.
    pub stimulus: bool,
}

/// Why a frame is not believed. Each has a counter of its own in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Distrust {
    /// The sender marked it as not valid.
    MarkedInvalid,
    /// The sender marked it: light went in during this frame.
    Stimulus,
    /// It came too soon after a marked stimulus.
    AfterStimulus,
    /// Too many pixels are NaN or infinite.
    NonFinitePixels,
    /// Too many pixels are at the top of their range.
    Saturated,
    /// Its light is far below what it was.
    Dark,
    /// Its picture has no structure.
    Blank,
    /// Its light is far above what it was.
    Flash,
    /// Some of its lines are lit, or darkened, and the others are not.
    Banded,
    /// It does not match the registration template as the frames before it did.
    TemplateMismatch,
}

impl Distrust {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::MarkedInvalid,
        Self::Stimulus,
        Self::AfterStimulus,
        Self::NonFinitePixels,
        Self::Saturated,
        Self::Dark,
        Self::Blank,
        Self::Flash,
        Self::Banded,
        Self::TemplateMismatch,
    ];

    /// The `reason` of a decode, and the key under `distrusted` in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MarkedInvalid => "marked_invalid",
            Self::Stimulus => "stimulus",
            Self::AfterStimulus => "after_stimulus",
            Self::NonFinitePixels => "non_finite_pixels",
            Self::Saturated => "saturated",
            Self::Dark => "dark",
            Self::Blank => "blank",
            Self::Flash => "flash",
            Self::Banded => "banded",
            Self::TemplateMismatch => "template_mismatch",
        }
    }
}

impl serde::Serialize for Distrust {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Distrust {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        let known = Self::ALL.into_iter().find(|distrust| distrust.name() == text);
        known.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no reason to distrust a frame")))
    }
}

/// What preprocessing begins to learn anew, from this frame on and by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relearn {
    /// F₀ and statistics: the light has been steady at another level for long.
    Light,
    /// Everything: what was learnt so far came from darkness.
    Everything,
    /// The registration template: the one that was built shows no tissue, or its frames did not agree.
    Template,
}

impl Relearn {
    /// The word in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Everything => "everything",
            Self::Template => "template",
        }
    }
}

/// Whose embedding, probabilities and action a decode shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Those of its own frame.
    #[default]
    Own,
    /// Its frame is not believed: those of the last frame that was.
    Held {
        /// From that frame to this one by the frames' own times, ns.
        age_ns: u64,
    },
    /// Its frame is not believed, and nothing before it can be shown: zeros, and no action.
    Nothing,
}

impl Shown {
    /// May it be shown, if what is held may be so old? `None`: nothing is held.
    pub fn is_young(self, hold_ns: Option<u64>) -> bool {
        match self {
            Self::Own => true,
            Self::Held { age_ns } => hold_ns.is_some_and(|longest| age_ns <= longest),
            Self::Nothing => false,
        }
    }
}

/// The time of a frame, on whichever clock tells it: the microscope's if it sent one, else that of receipt. Times of different
/// clocks are never subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTime {
    ns: i64,
    clock: Clock,
}

impl FrameTime {
    /// Of this frame.
    pub fn of(info: &FrameInfo) -> Self {
        match info.t_device {
            Some(time) => Self { ns: time.ns, clock: time.clock },
            // As a replay has it, which knows the receipt as a recorded time.
            None => Self { ns: info.t_received_ns as i64, clock: Clock::Monotonic },
        }
    }

    /// From `earlier` to this one, ns; `None` on different clocks, or backwards.
    pub fn since(self, earlier: Self) -> Option<u64> {
        // In 128 bits: a damaged device time may lie anywhere in 64.
        let step = i128::from(self.ns) - i128::from(earlier.ns);
        if self.clock == earlier.clock { u64::try_from(step).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_reason_and_its_counter() {
        for (index, distrust) in Distrust::ALL.into_iter().enumerate() {
            assert_eq!(distrust as usize, index);
            let text = serde_json::to_string(&distrust).unwrap();
            assert_eq!(serde_json::from_str::<Distrust>(&text).unwrap(), distrust);
        }
        assert!(serde_json::from_str::<Distrust>("\"bored\"").is_err());
    }

    #[test]
    fn what_is_held_is_shown_as_long_as_it_is_young() {
        let held = |age_ns| Shown::Held { age_ns };
        assert!(Shown::Own.is_young(None) && held(5).is_young(Some(5)));
        assert!(!held(6).is_young(Some(5)) && !held(0).is_young(None) && !Shown::Nothing.is_young(Some(u64::MAX)));
    }
}
