//! How far a decode may be trusted, and what begins and ends with a frame.
//!
//! Why it exists: "ok" must mean the same live and offline. What it must never do: read a clock, or allocate once it is made.

use super::Shared;
use super::drift::{Change, Drift, DriftSettings};
use crate::frame::event::Event;
use crate::frame::placement::Placement;
use crate::frame::{Decode, FrameInfo, FrameSlot, Observation, Quality};

/// Share of a window that may be missing before its decode is `degraded`.
const MISSING_SHARE_MAX: f64 = 0.1;

/// What was seen before, to tell what begins and what ends, and how far a decode may be trusted.
pub(super) struct Judge {
    /// Frames that have arrived up to and including the last one seen.
    arrived: u64,
    /// Ordinal of the last frame seen.
    last: Option<u64>,
    /// Frames missing before each of the last decodes, one window long.
    missing: Vec<u64>,
    next: usize,
    ready: bool,
    rate_off: bool,
    non_finite: bool,
    at_bound: bool,
    drift: Option<Drift>,
    /// As reported.
    placement: Option<Placement>,
}

impl Judge {
    pub(super) fn new(window_frames: usize, drift: Option<DriftSettings>) -> Self {
        Self {
            arrived: 0,
            last: None,
            missing: vec![0; window_frames.max(1)],
            next: 0,
            ready: false,
            rate_off: false,
            non_finite: false,
            at_bound: false,
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
        slot.arrival.saturating_sub(arrived)
    }

    /// Notes what begins and ends with this frame.
    pub(super) fn observe(&mut self, frame: &FrameInfo, seen: &Observation, shared: &Shared<'_>) {
        let last = self.last.replace(frame.ordinal()).filter(|_| !frame.series_began);
        self.missing[self.next] = last.map_or(0, |last| frame.ordinal().saturating_sub(last).saturating_sub(1));
        self.next = (self.next + 1) % self.missing.len();

        if began(&mut self.rate_off, seen.frame_rate_off) {
            let (measured_hz, needed_hz) = (seen.frame_rate_hz, shared.settings.needed_hz as f32);
            shared.emit(Event::FrameRateOff { measured_hz, needed_hz });
        } else if !seen.frame_rate_off && std::mem::take(&mut self.rate_off) {
            shared.emit(Event::FrameRateBack { measured_hz: seen.frame_rate_hz });
        }
        if began(&mut self.non_finite, seen.non_finite_pixels > 0) {
            shared.emit(Event::NonFinitePixels { frame: frame.number, pixels: seen.non_finite_pixels });
        }
        self.non_finite = seen.non_finite_pixels > 0;
        if began(&mut self.at_bound, seen.shift_at_bound) {
            shared.emit(Event::ShiftAtBound { frame: frame.number });
        }
        self.at_bound = seen.shift_at_bound;
    }

    /// How far a decode may be trusted that is `ok` or `warmup` as the decoder alone sees it.
    pub(super) fn quality(&mut self, decode: &Decode, shared: &Shared<'_>) -> Quality {
        let seen = &decode.observation;
        if decode.quality == Quality::Warmup {
            self.ready = false;
            return Quality::Warmup;
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

/// Sets `flag` if `now`; true when it was not set before.
fn began(flag: &mut bool, now: bool) -> bool {
    now && !std::mem::replace(flag, true)
}
