//! Checks the frame numbers of an acquisition: which frames are missing, repeated or out of order, where a series begins, and
//! whose frames they are.
//!
//! Why it exists: senders start numbering anywhere, count planes or every second frame, repeat, lose and restart; each case must
//! be recognised for what it is. What it must never do: read a clock (times are passed in), or cling to the old numbers of a
//! stream that has evidently restarted.
//!
//! **Steps.** A sender may number planes of a volume one after the other, or every second frame: any constant step is learnt
//! from the numbers themselves (see `step.rs`), and only what departs from it is a gap.
//!
//! **Series.** A series begins with the first frame; after a `header` or `end` message; when the `series` name changes; when the
//! number returns to 0 or 1; when [`RESTART_FRAMES`] frames in a row continue each other by one step from a number that went
//! back, or that is too far ahead to be a gap ([`GAP_FRAMES_MAX`]); and with any such number once no frame has been accepted for
//! longer than the deadline. A number that goes on after a silence is a gap. As many frames in a row of another geometry begin
//! a series too, unless the sender names its series and its numbers go on: then a changed geometry is a contradiction and
//! stays refused.
//!
//! A series that was left a moment ago does not simply come back: two senders that share a socket and a source would begin a series
//! with every frame. Its frames are refused until the present one is silent, or until [`RESTART_FRAMES`] of them came in a row.
//!
//! **Sources.** The stream belongs to one source at a time. Frames of another are refused until the first has ended its
//! acquisition or been silent for longer than the deadline; then the other takes over as a new series.

#![allow(clippy::result_large_err, reason = "a box would allocate on the frame path")]

mod step;

use std::time::Duration;

use crate::frame::event::{Reason, Refusal};
use crate::frame::{Geometry, Name, Sentence};
use step::{STEP_MAX, Step};

/// Consecutive frames that prove a restart.
pub const RESTART_FRAMES: u32 = 3;
/// Most frames that may be missing in one jump: nine hours at 30 Hz. A number further ahead is damaged, or of another numbering.
pub const GAP_FRAMES_MAX: u64 = 1_000_000;
/// Highest number that a sender begins with: one that falls back to it has restarted.
const FIRST_NUMBER_MAX: u64 = 1;
/// Series left last that are remembered.
const LEFT_MAX: usize = 4;

/// A frame's position in the stream, as given by the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sender's number.
    pub number: Option<u64>,
    /// The sender's plane.
    pub plane: Option<u64>,
    /// Whose frame it is.
    pub source: Name,
    /// The sender's series.
    pub series: Option<Name>,
    /// Shape and pixel type.
    pub geometry: Geometry,
    /// When it had arrived, ns.
    pub t_received_ns: u64,
}

/// The position of an accepted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number; counted from 0 in each series if the sender gives none.
    pub number: u64,
    /// Its place in the series, counted in frames, missing ones included; the number where that counts every frame.
    pub ordinal: u64,
    /// Frames missing before it.
    pub gap: u64,
    /// First of its series.
    pub series_began: bool,
}

/// Why a frame does not continue the stream.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Discontinuity {
    /// The number of the frame before.
    #[error(
        "`frame` is {number} twice in a row; each frame needs a number of its own, or leave `frame` out and the daemon counts"
    )]
    Repeated {
        /// The number.
        number: u64,
    },
    /// A number below that of the frame before.
    #[error(
        "`frame` is {number} after {last}; numbers must increase. {RESTART_FRAMES} frames in a row that do, or a new `series`, \
         begin a new series"
    )]
    Backwards {
        /// The number.
        number: u64,
        /// The one before.
        last: u64,
    },
    /// A number too far ahead.
    #[error(
        "`frame` is {number} after {last}; at most {GAP_FRAMES_MAX} frames may be missing. {RESTART_FRAMES} frames in a row that \
         count on, or a new `series`, begin a new series"
    )]
    Jumped {
        /// The number.
        number: u64,
        /// The one before.
        last: u64,
    },
    /// Another shape or pixel type.
    #[error(
        "the frame is {found}, but those of its series are {expected}; a series keeps its shape and pixel type: give the new \
         frames another `series`, or send `{{\"htype\":\"end\"}}` before them"
    )]
    Geometry {
        /// Of the frame.
        found: Geometry,
        /// Of the series.
        expected: Geometry,
    },
    /// Another source.
    #[error(
        "`source` is {found}, but the frames so far come from {kept}; one daemon decodes one source. It changes when {kept} has \
         sent its end or been silent for {deadline_ms} ms"
    )]
    OtherSource {
        /// Of the frame.
        found: Name,
        /// Whose stream it is.
        kept: Name,
        /// The silence that is waited for.
        deadline_ms: u64,
    },
    /// A series that was left while its sender goes on.
    #[error(
        "`series` is {}, but {} has begun since, and both are being sent: are there two senders on this socket? Give each a \
         `source` of its own; {RESTART_FRAMES} frames in a row are taken as a new series",
        shown(found),
        shown(kept)
    )]
    OtherSeries {
        /// Of the frame.
        found: Option<Name>,
        /// The one being decoded.
        kept: Option<Name>,
    },
}

fn shown(series: &Option<Name>) -> &str {
    series.as_ref().map_or("not given", Name::as_str)
}

impl Discontinuity {
    /// The counter it belongs to.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Repeated { .. } => Reason::Repeated,
            Self::Backwards { .. } => Reason::Backwards,
            Self::Jumped { .. } => Reason::Jumped,
            Self::Geometry { .. } => Reason::Geometry,
            Self::OtherSource { .. } => Reason::OtherSource,
            Self::OtherSeries { .. } => Reason::OtherSeries,
        }
    }
}

impl From<Discontinuity> for Refusal {
    fn from(why: Discontinuity) -> Self {
        Self { reason: why.reason(), message: Sentence::of(&why) }
    }
}

/// The last frame accepted.
#[derive(Clone, Copy, Debug)]
struct Last {
    place: Place,
    number: u64,
    ordinal: u64,
    step: Step,
}

/// The frames refused last, as far as they continue each other.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    place: Place,
    /// From number to number; `None` until there are two.
    step: Option<u64>,
    in_a_row: u32,
}

/// A series that was left.
#[derive(Clone, Copy, Debug)]
struct Left {
    series: Option<Name>,
    /// Receipt of its last frame, be it accepted or refused.
    heard_ns: u64,
}

/// The state of one stream.
#[derive(Clone, Debug)]
pub struct Continuity {
    deadline: Duration,
    last: Option<Last>,
    /// The series before the present one, of the same source.
    left: [Option<Left>; LEFT_MAX],
    /// The next frame begins a series in any case.
    announced: bool,
    candidate: Option<Candidate>,
}

impl Continuity {
    /// A sender is gone once none of its frames has been accepted for longer than `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline, last: None, left: [None; LEFT_MAX], announced: false, candidate: None }
    }

    /// The sender announced the beginning or the end of an acquisition. `source` and `drained_ns` as in [`Continuity::judge`];
    /// a message without a source counts for any.
    ///
    /// # Errors
    /// [`Discontinuity::OtherSource`].
    pub fn announce(&mut self, source: Option<Name>, drained_ns: u64) -> Result<(), Discontinuity> {
        if let (Some(last), Some(source)) = (&self.last, source) {
            self.owns(last, source, drained_ns)?;
        }
        self.announced = true;
        Ok(())
    }

    /// Accepts or refuses a frame. `drained_ns` is when everything that had arrived was last known to have been read: a sender
    /// whose frames wait to be read is not silent.
    ///
    /// # Errors
    /// Any [`Discontinuity`].
    pub fn judge(&mut self, place: Place, drained_ns: u64) -> Result<Standing, Discontinuity> {
        let Some(mut last) = self.last else { return Ok(self.begin(place, Step::default())) };
        if !self.announced {
            self.owns(&last, place.source, drained_ns)?;
        }
        if self.announced || last.place.source != place.source {
            return Ok(self.begin(place, Step::default()));
        }
        let follows = if last.place.series == place.series { last.follow(&place) } else { self.change_series(&place) };
        match follows {
            Ok(Some(gap)) => {
                let ordinal = last.ordinal.saturating_add(1).saturating_add(gap);
                let number = place.number.unwrap_or(last.number.saturating_add(1));
                self.last = Some(Last { place, number, ordinal, step: last.step });
                self.candidate = None;
                Ok(Standing { number, ordinal, gap, series_began: false })
            }
            Ok(None) => Ok(self.begin(place, Step::default())),
            Err(why) if !last.may_restart(&place, why) => Err(why),
            Err(_) if self.is_silent(&last, drained_ns) => Ok(self.begin(place, Step::default())),
            Err(why) => self.prove_restart(place).ok_or(why),
        }
    }

    /// Is it the source whose stream this is, or is that one gone?
    fn owns(&self, last: &Last, source: Name, drained_ns: u64) -> Result<(), Discontinuity> {
        let kept = last.place.source;
        if source == kept || self.is_silent(last, drained_ns) {
            return Ok(());
        }
        Err(Discontinuity::OtherSource { found: source, kept, deadline_ms: self.deadline.as_millis() as u64 })
    }

    fn is_silent(&self, last: &Last, drained_ns: u64) -> bool {
        u128::from(drained_ns.saturating_sub(last.place.t_received_ns)) > self.deadline.as_nanos()
    }

    /// Another series begins with a frame, unless it was left a moment ago: then its sender is another one.
    fn change_series(&mut self, place: &Place) -> Result<Option<u64>, Discontinuity> {
        let (deadline, now_ns) = (self.deadline.as_nanos(), place.t_received_ns);
        let left = self.left.iter_mut().flatten().find(|left| left.series == place.series);
        let Some(left) = left else { return Ok(None) };
        let since_ns = now_ns.saturating_sub(std::mem::replace(&mut left.heard_ns, now_ns));
        let kept = self.last.and_then(|last| last.place.series);
        let is_gone = u128::from(since_ns) > deadline;
        if is_gone { Ok(None) } else { Err(Discontinuity::OtherSeries { found: place.series, kept }) }
    }

    /// The series before this frame's is remembered; that of the frame is left no more.
    fn leave(&mut self, place: &Place) {
        let Some(last) = self.last.map(|last| last.place).filter(|last| !self.announced && last.source == place.source)
        else {
            self.left = [None; LEFT_MAX];
            return;
        };
        if last.series == place.series {
            return;
        }
        let again = self.left.iter().position(|left| left.is_some_and(|left| left.series == place.series));
        // The oldest is forgotten.
        self.left[..=again.unwrap_or(LEFT_MAX - 1)].rotate_right(1);
        self.left[0] = Some(Left { series: last.series, heard_ns: last.t_received_ns });
    }

    fn begin(&mut self, place: Place, step: Step) -> Standing {
        self.leave(&place);
        let number = place.number.unwrap_or(0);
        self.last = Some(Last { place, number, ordinal: number, step });
        (self.announced, self.candidate) = (false, None);
        Standing { number, ordinal: number, gap: 0, series_began: true }
    }

    /// Counts a frame that does not continue the stream; the last of enough such frames in a row begins a series.
    fn prove_restart(&mut self, place: Place) -> Option<Standing> {
        let continued = self.candidate.and_then(|candidate| candidate.continued(place));
        let candidate = continued.unwrap_or(Candidate { place, step: None, in_a_row: 1 });
        self.candidate = Some(candidate);
        (candidate.in_a_row >= RESTART_FRAMES)
            .then(|| self.begin(place, candidate.step.map_or(Step::default(), Step::of)))
    }
}

impl Last {
    /// Frames missing before `place`; `None` when it has evidently begun anew.
    fn follow(&mut self, place: &Place) -> Result<Option<u64>, Discontinuity> {
        let (last, before) = (self.number, self.place.number.is_some());
        if place.number.is_some_and(|number| before && number < last && number <= FIRST_NUMBER_MAX) {
            return Ok(None);
        }
        if self.place.geometry != place.geometry {
            return Err(Discontinuity::Geometry { found: place.geometry, expected: self.place.geometry });
        }
        // Without a number, or with none before it, there is nothing to compare.
        let Some(number) = place.number.filter(|_| before) else { return Ok(Some(0)) };
        let Some(difference) = number.checked_sub(last) else { return Err(Discontinuity::Backwards { number, last }) };
        match difference {
            // The planes of a volume may share a number.
            0 if place.plane != self.place.plane => Ok(Some(0)),
            0 => Err(Discontinuity::Repeated { number }),
            _ if self.step.gap(difference) > GAP_FRAMES_MAX => Err(Discontinuity::Jumped { number, last }),
            _ => Ok(Some(self.step.take(difference))),
        }
    }

    /// Can a frame that was refused because of `why` be the first of another series?
    fn may_restart(&self, place: &Place, why: Discontinuity) -> bool {
        match why {
            Discontinuity::Backwards { .. } | Discontinuity::Jumped { .. } | Discontinuity::OtherSeries { .. } => true,
            Discontinuity::Geometry { .. } => {
                place.series.is_none() || place.number.is_some_and(|number| number < self.number)
            }
            Discontinuity::Repeated { .. } | Discontinuity::OtherSource { .. } => false,
        }
    }
}

impl Candidate {
    /// With one more frame, if that continues the ones before it by one step.
    fn continued(self, place: Place) -> Option<Self> {
        if (self.place.geometry, self.place.series) != (place.geometry, place.series) {
            return None;
        }
        let step = match (self.place.number, place.number) {
            (Some(before), Some(number)) => {
                let difference = number.checked_sub(before)?;
                let of_another_plane = difference == 0 && place.plane != self.place.plane;
                let known = self.step.is_none_or(|step| step == difference);
                if of_another_plane {
                    self.step
                } else {
                    Some(difference).filter(|step| known && (1..=STEP_MAX).contains(step)).map(Some)?
                }
            }
            (None, None) => self.step,
            _ => return None,
        };
        Some(Self { place, step, in_a_row: self.in_a_row + 1 })
    }
}

#[cfg(test)]
mod tests;
