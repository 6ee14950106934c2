//! Says now and then how long the warm-up will last.
//!
//! Why it exists: whoever waits beside a microscope wants to know for how long. What it must never do: read a clock; it counts frames.

use super::Shared;
use crate::frame::event::Event;
use crate::frame::{Decode, Quality};
use std::sync::atomic::Ordering::Relaxed;

/// Between two reports, s of the stream.
const EVERY_S: f64 = 10.0;

/// Counts the frames of a warm-up.
#[derive(Default)]
pub(super) struct Countdown {
    /// Since the last report; `None` outside a warm-up.
    since: Option<u32>,
}

impl Countdown {
    /// One more decode.
    pub(super) fn observe(&mut self, decode: &Decode, shared: &Shared<'_>) {
        let left = decode.warmup_left;
        shared.handles.stats.compute.warmup_frames_left.store(u64::from(left), Relaxed);
        if decode.quality != Quality::Warmup {
            self.since = None;
            return;
        }
        let rate_hz = shared.settings.needed_hz;
        let due = self.since.is_none_or(|since| f64::from(since) >= EVERY_S * rate_hz);
        if due {
            let seconds_left = (f64::from(left) / rate_hz) as f32;
            shared.emit(Event::WarmingUp { frame: decode.frame.number, frames_left: left, seconds_left });
        }
        self.since = Some(if due { 1 } else { self.since.unwrap_or(0) + 1 });
    }
}
