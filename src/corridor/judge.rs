//! How far a decode may be trusted, and what begins and ends with a frame.
//!
//! Why it exists: "ok" must mean the same live and offline. What it must never do: read a clock, or allocate once it is made.

use super::Shared;
use super::drift::{Change, Drift, DriftSettings};
use super::focus::{self, Focus};
use crate::frame::event::Event;
use crate::frame::placement::Placement;
use crate::frame::{Decode, Distrust, FrameInfo, FrameSlot, MISSING_SHARE_MAX, Observation, Quality, Relearn};

/// What happened since the last decode that was published.
#[derive(Default)]
struct Unpublished {
    skipped: u64,
    missing: u64,
    decoded: u64,
}

/// What was seen before, to tell what begins and what ends, and how far a decode may be trusted.
pub(super) struct Judge {
    /// Frames that have arrived up to and including the last one seen.
    arrived: u64,
    unpublished: Unpublished,
    /// Ordinal of the last frame seen.
    last: Option<u64>,
    /// Frames missing before each of the last decodes, one window long.
    missing: Vec<u64>,
    next: usize,
    ready: bool,
    rate_off: bool,
    non_finite: bool,
    at_bound: bool,
    distrusted: Distrusted,
    focus: Option<Focus>,
    drift: Option<Drift>,
    /// As reported.
    placement: Option<Placement>,
}

impl Judge {
    pub(super) fn new(window_frames: usize, drift: Option<DriftSettings>) -> Self {
        Self {
            arrived: 0,
            unpublished: Unpublished::default(),
            last: None,
            missing: vec![0; window_frames.max(1)],
            next: 0,
            ready: false,
            rate_off: false,
            non_finite: false,
            at_bound: false,
            distrusted: Distrusted::default(),
            focus: None,
            drift: drift.map(Drift::new),
            placement: None,
        }
    }

    /// One more novelty. Only decodes of quality `ok` count: whatever else is off has an event of its own.
    pub(super) fn drift(&mut self, novelty: Option<f32>, frame: u64, shared: &Shared<'_>) {
        let (Some(drift), Some(novelty)) = (&mut self.drift, novelty) else { return };
        let change = drift.push(novelty);
        shared.handles.stats.compute.novelty_mean.set(drift.mean());
        let novelty_mean = drift.mean().unwrap_or_default();
        match change {
            Change::None => {}
            Change::Began => shared.emit(Event::Drift { frame, novelty_mean, limit: drift.limit() }),
            Change::Ended => shared.emit(Event::DriftBack { frame, novelty_mean }),
        }
    }

    /// How the animal lies after this frame: a change is an event.
    pub(super) fn place(&mut self, placement: Option<Placement>, frame: u64, shared: &Shared<'_>) {
        if placement == self.placement {
            return;
        }
        self.placement = placement;
        shared.handles.stats.compute.placement.set(placement);
        let Some(placement) = placement else { return };
        shared.emit(if placement.fits {
            Event::Placement { frame, placement }
        } else {
            Event::PlacementPoor { frame, placement }
        });
    }

    /// Another model: its novelty is another measure.
    pub(super) fn begin_drift(&mut self, settings: Option<DriftSettings>, shared: &Shared<'_>) {
        self.drift = settings.map(Drift::new);
        shared.handles.stats.compute.novelty_mean.set(None);
    }

    /// A new animal: the novelty of the one before means nothing for it.
    pub(super) fn forget_drift(&mut self, shared: &Shared<'_>) {
        if let Some(drift) = &mut self.drift {
            drift.reset();
        }
        shared.handles.stats.compute.novelty_mean.set(None);
    }

    /// Frames that arrived after the last one taken, or since the start, and before this one.
    pub(super) fn skipped(&mut self, slot: &FrameSlot) -> u64 {
        let arrived = std::mem::replace(&mut self.arrived, slot.arrival + 1);
        let skipped = slot.arrival.saturating_sub(arrived);
        self.unpublished.skipped += skipped;
        self.unpublished.missing = self.unpublished.missing.saturating_add(slot.frame.info.gap);
        skipped
    }

    /// A decode that is not published: the next one that is says so.
    pub(super) fn pass_over(&mut self) {
        self.unpublished.decoded += 1;
    }

    /// Completes a decode that is to be published by what happened since the one before it. Returns the frames decoded without
    /// being published.
    pub(super) fn complete(&mut self, decode: &mut Decode) -> u64 {
        let Unpublished { skipped, missing, decoded } = std::mem::take(&mut self.unpublished);
        (decode.skipped, decode.frame.gap, decode.caught_up) = (skipped, missing, decoded);
        decoded
    }

    /// Notes what begins and ends with this frame.
    pub(super) fn observe(&mut self, frame: &FrameInfo, seen: &Observation, shared: &Shared<'_>) {
        self.observe_pixels(frame, seen, shared);
        self.distrusted.observe(frame, seen, shared);
        if let Some(what) = seen.relearn {
            shared.emit(Event::Relearning { what, frame: frame.number });
            if what == Relearn::Everything {
                self.forget_focus(shared);
            }
        }
        if seen.distrust.is_some() {
            // The window goes on without it: the next believed frame finds it missing.
            return;
        }
        if seen.shift_px.is_some() {
            self.focus(seen.shift_peak, frame.number, shared);
        }
        if let Some(reason) = seen.restart {
            // What is missing before the new window is not missing in it.
            self.missing.fill(0);
            shared.emit(Event::WindowRestarted { frame: frame.number, reason });
        }
        let begins = frame.series_began || seen.restart.is_some();
        let last = self.last.replace(frame.ordinal()).filter(|_| !begins);
        self.missing[self.next] = last.map_or(0, |last| frame.ordinal().saturating_sub(last).saturating_sub(1));
        self.next = (self.next + 1) % self.missing.len();

        if began(&mut self.rate_off, seen.frame_rate_off) {
            let (measured_hz, needed_hz) = (seen.frame_rate_hz, shared.settings.needed_hz as f32);
            shared.emit(Event::FrameRateOff { measured_hz, needed_hz });
        } else if !seen.frame_rate_off && std::mem::take(&mut self.rate_off) {
            shared.emit(Event::FrameRateBack { measured_hz: seen.frame_rate_hz });
        }
        if began(&mut self.at_bound, seen.shift_at_bound) {
            shared.emit(Event::ShiftAtBound { frame: frame.number });
        }
        self.at_bound = seen.shift_at_bound;
    }

    /// The correlation peak of one more registered frame.
    fn focus(&mut self, peak: f32, frame: u64, shared: &Shared<'_>) {
        let focus = self.focus.get_or_insert_with(|| Focus::new(shared.settings.needed_hz));
        let change = focus.push(peak);
        shared.handles.stats.compute.focus.set(focus.share());
        match change {
            focus::Change::None => {}
            focus::Change::Began { start, now } => shared.emit(Event::FocusDrift { frame, shift_peak: now, start }),
            focus::Change::Ended { now } => shared.emit(Event::FocusBack { frame, shift_peak: now }),
        }
    }

    /// Another template: other peaks.
    pub(super) fn forget_focus(&mut self, shared: &Shared<'_>) {
        if let Some(focus) = &mut self.focus {
            focus.forget();
        }
        shared.handles.stats.compute.focus.set(None);
    }

    fn observe_pixels(&mut self, frame: &FrameInfo, seen: &Observation, shared: &Shared<'_>) {
        if began(&mut self.non_finite, seen.non_finite_pixels > 0) {
            shared.emit(Event::NonFinitePixels { frame: frame.number, pixels: seen.non_finite_pixels });
        }
        self.non_finite = seen.non_finite_pixels > 0;
    }

    /// How far a decode may be trusted that is `ok` or `warmup` as the decoder alone sees it.
    pub(super) fn quality(&mut self, decode: &Decode, shared: &Shared<'_>) -> Quality {
        let seen = &decode.observation;
        if decode.quality == Quality::Warmup {
            self.ready = false;
            return Quality::Warmup;
        }
        if seen.distrust.is_some() {
            return Quality::Degraded;
        }
        if began(&mut self.ready, true) {
            shared.emit(Event::Ready { frame: decode.frame.number });
        }
        let missing = self.missing.iter().fold(0, |sum: u64, frames| sum.saturating_add(*frames));
        let torn = missing as f64 > MISSING_SHARE_MAX * self.missing.len() as f64;
        let off = seen.frame_rate_off || seen.non_finite_pixels > 0 || seen.shift_at_bound || seen.shift_doubtful;
        if torn || off { Quality::Degraded } else { Quality::Ok }
    }
}

/// Frames in a row that are not believed.
#[derive(Default)]
struct Distrusted {
    /// Why the first of them is not.
    reason: Option<Distrust>,
    count: u64,
}

impl Distrusted {
    /// Reports their beginning, and at their end how many there were.
    fn observe(&mut self, frame: &FrameInfo, seen: &Observation, shared: &Shared<'_>) {
        if let Some(reason) = seen.distrust {
            self.count += 1;
            if self.reason.is_none() {
                self.reason = Some(reason);
                shared.emit(Event::FramesDistrusted { reason, frame: frame.number });
            }
        } else if let Some(reason) = self.reason.take() {
            let count = std::mem::take(&mut self.count);
            shared.emit(Event::FramesTrusted { reason, frame: frame.number, count });
        }
    }
}

/// Sets `flag` if `now`; true when it was not set before.
fn began(flag: &mut bool, now: bool) -> bool {
    now && !std::mem::replace(flag, true)
}
