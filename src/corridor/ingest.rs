//! The ingest thread: from the source to the lane of frames.
//!
//! Why it exists: whatever a source does, a frame comes with its place in the stream. What it must never do: wait for the compute
//! thread, except where the overload policy says `wait`.

use super::animal::Keep;
use super::lane::Producer;
use super::realtime::Idle;
use super::silence::Silence;
use super::{Failure, IDLE_MAX, Shared};
use crate::frame::event::Event;
use crate::frame::{FrameInfo, FrameSlot, Sentence};
use crate::source::{Next, Source};
use crate::sys::counters::count;
use crate::wire::frame_header::HeaderError;

/// Fills slots from the source until it ends, the run is stopped, or the lane is closed.
pub(super) fn ingest(
    source: &mut dyn Source,
    lane: &mut Producer<FrameSlot>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    shared.settle("ingest", shared.settings.realtime.ingest_core);
    let intake = &shared.handles.stats.intake;
    let (mut arrivals, mut series, mut left_out) = (0, 0, KeysLeftOut::default());
    let mut silence = Silence::new(shared.settings.end_with_series);
    while !lane.is_closed() && !shared.stopping() {
        let Some(slot) = lane.slot() else {
            silence.is_not_the_senders();
            idle.idle(IDLE_MAX);
            continue;
        };
        let next = source.next(&mut slot.frame)?;
        match next {
            Next::Frame => {
                let info = slot.frame.info;
                series += u64::from(info.series_began);
                (slot.arrival, slot.series) = (arrivals, series);
                silence.broken_by_frame();
                slot.requests = source.requests();
                arrivals += 1;
                count(&intake.received, 1);
                emit_continuity(&info, shared);
                intake.sender_clock.set(source.sender_clock());
                left_out.note(source.ignored(), &info, shared);
                if lane.send() {
                    count(&intake.evicted, 1);
                }
                count(&intake.accepted, 1);
            }
            Next::Rejected(refusal) => {
                silence.is_not_the_senders();
                count(&intake.received, 1);
                shared.refuse(&intake.rejected, &refusal);
            }
            Next::Idle => {
                if let Some(silent) = silence.too_long() {
                    shared.emit(Event::EndMissing { silent_s: silent.as_secs() });
                    break;
                }
            }
            Next::FileUnreachable(_) | Next::FileBack(_) => {
                silence.is_not_the_senders();
                emit_outage(next, shared);
            }
            Next::SeriesBegan => silence.is_not_the_senders(),
            Next::SeriesEnded | Next::FileLost(_) if shared.settings.end_with_series.is_some() => {
                emit_end(next, shared);
                break;
            }
            Next::SeriesEnded | Next::FileLost(_) => emit_end(next, shared),
            Next::End => break,
        }
    }
    Ok(())
}

/// Reports the start of a series, and frames missing before this one.
fn emit_continuity(info: &FrameInfo, shared: &Shared<'_>) {
    let intake = &shared.handles.stats.intake;
    if info.series_began {
        shared.emit(Event::SeriesBegan { frame: info.number });
    }
    if info.gap > 0 {
        count(&intake.gaps, 1);
        count(&intake.missing, info.gap);
        shared.emit(Event::Gap { frame: info.number, missing: info.gap });
    }
}

/// The acquisition is over, in order or not.
fn emit_end(next: Next, shared: &Shared<'_>) {
    // Carried out once the frames before it are decoded. A full queue has enough of them.
    let _ = shared.handles.animals.keep.push(Keep::AtEnd);
    shared.emit(match next {
        Next::FileLost(how) => Event::FileLost { how },
        _ => Event::SeriesEnded,
    });
}

/// A followed file is away, or back.
fn emit_outage(next: Next, shared: &Shared<'_>) {
    match next {
        Next::FileUnreachable(cause) => shared.emit(Event::FileUnreachable { cause }),
        Next::FileBack(after) => shared.emit(Event::FileBack { after_ms: after.as_millis() as u64 }),
        _ => {}
    }
}

/// Keys that were reported as left out, in this series.
#[derive(Default)]
struct KeysLeftOut([Option<&'static str>; KEYS_REPORTED_MAX]);

/// Optional keys that can be left out: times, clock, stamp, channel names.
const KEYS_REPORTED_MAX: usize = 5;

impl KeysLeftOut {
    /// Counts a frame that was taken without this key, and reports the first in a series.
    fn note(&mut self, error: Option<HeaderError>, info: &FrameInfo, shared: &Shared<'_>) {
        if info.series_began {
            *self = Self::default();
        }
        let Some(error) = error else { return };
        count(&shared.handles.stats.intake.ignored_keys, 1);
        let key = error.key();
        if self.0.contains(&Some(key)) {
            return;
        }
        if let Some(free) = self.0.iter_mut().find(|reported| reported.is_none()) {
            *free = Some(key);
            shared.emit(Event::KeyIgnored { key, message: Sentence::of(&error) });
        }
    }
}
