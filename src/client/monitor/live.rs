//! What a page is sent: the current facts, and the part of the history that it does not have yet.
//!
//! Why it exists: sending everything thirty times a second would load the browser's machine. What it must never do: leave out
//! the age of a fact.

use axum::extract::ws::Message;
use serde_json::{Value, json};

use crate::client::state::{State, Urgent};

/// Shortest time between two updates of numbers, charts and pictures, ns; a browser without a graphics card draws them on the processor.
/// Urgent changes do not wait for it. Checks are 80 ms apart and an update follows a decode, which makes four updates a second.
const UPDATE_EVERY_NS: u64 = 200_000_000;
/// Time between two updates of the latencies and their histogram, ns.
const LATENCY_EVERY_NS: u64 = 500_000_000;

/// What one page already has.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    point: u64,
    event: u64,
    decision: u64,
    status: u64,
    /// `None` before the first.
    plane: Option<u64>,
    pictures: [u64; 3],
    latency_due_ns: u64,
    due_ns: u64,
    urgent: Option<Urgent>,
}

impl Cursor {
    /// Is an update due, or has something urgent changed?
    pub(crate) fn is_due(&self, state: &State, now_ns: u64) -> bool {
        now_ns >= self.due_ns || self.urgent != Some(state.urgent(now_ns))
    }
}

/// The messages that bring a page up to date.
pub(crate) fn messages(state: &State, cursor: &mut Cursor, may_control: bool, now_ns: u64) -> Vec<Message> {
    (cursor.due_ns, cursor.urgent) = (now_ns + UPDATE_EVERY_NS, Some(state.urgent(now_ns)));
    let mut messages = vec![Message::text(update(state, cursor, may_control, now_ns).to_string())];
    for (picture, sent) in state.pictures.iter().zip(&mut cursor.pictures) {
        match picture {
            Some(picture) if picture.number != *sent => {
                *sent = picture.number;
                messages.push(Message::binary(picture.message.clone()));
            }
            Some(_) => {}
            None => *sent = 0,
        }
    }
    messages
}

fn update(state: &State, cursor: &mut Cursor, may_control: bool, now_ns: u64) -> Value {
    let age_ms = |seen_ns: u64| now_ns.saturating_sub(seen_ns) / 1_000_000;
    let mut update = json!({
        "now": state.since_start_ms(now_ns),
        "endpoint": state.endpoint,
        "may_control": may_control,
        "daemon": state.daemon(now_ns).name(),
        "ended": state.has_ended(now_ns),
        "silence_ms": state.silence_ns(now_ns).map(|ns| ns / 1_000_000),
        "heartbeat_deadline_ms": state.deadline_ms(),
        "not_ready": state.ready(now_ns).err(),
        "refuses": state.refuses(),
        "rate_hz": state.rate_hz(now_ns),
        "tally": state.tally,
        "status_age_ms": state.status.as_ref().map(|(seen_ns, _)| age_ms(*seen_ns)),
        "picture_age_ms": state.pictures.each_ref().map(|p| p.as_ref().map(|picture| age_ms(picture.seen_ns))),
        "last": last(state, age_ms),
        "word": word(state, now_ns),
        "points": state.points.since(&mut cursor.point).collect::<Vec<_>>(),
        "events": state.events.since(&mut cursor.event).collect::<Vec<_>>(),
        "decisions": state.decisions.since(&mut cursor.decision).collect::<Vec<_>>(),
    });
    if state.statuses != cursor.status {
        cursor.status = state.statuses;
        update["status"] = state.status.as_ref().map_or(Value::Null, |(_, status)| status.clone());
    }
    if cursor.plane != Some(state.plane.version) {
        cursor.plane = Some(state.plane.version);
        update["plane"] = state.plane.to_json();
    }
    if now_ns >= cursor.latency_due_ns {
        cursor.latency_due_ns = now_ns + LATENCY_EVERY_NS;
        update["latency"] = state.latencies.to_json();
    }
    update
}

/// The action as shown to people.
fn word(state: &State, now_ns: u64) -> Value {
    state.words.shown().map_or(Value::Null, |word| {
        let for_ms = now_ns.saturating_sub(word.since_ns) / 1_000_000;
        json!({ "action": word.action, "id": word.id, "confidence": word.confidence, "for_ms": for_ms })
    })
}

/// One rig in one row of the page of all rigs.
pub(crate) fn row(state: &State, now_ns: u64) -> Value {
    let age_ms = |seen_ns: u64| now_ns.saturating_sub(seen_ns) / 1_000_000;
    let event = state.events.since(&mut 0).last();
    json!({
        "endpoint": state.endpoint,
        "daemon": state.daemon(now_ns).name(),
        "ended": state.has_ended(now_ns),
        "silence_ms": state.silence_ns(now_ns).map(|ns| ns / 1_000_000),
        "not_ready": state.ready(now_ns).err(),
        "refuses": state.refuses(),
        "rate_hz": state.rate_hz(now_ns),
        "p99_ms": state.latencies.to_json()["p99"],
        "record": state.status.as_ref().map(|(_, status)| &status["record"]),
        "last": last(state, age_ms),
        "word": word(state, now_ns),
        "event": event,
    })
}

fn last(state: &State, age_ms: impl Fn(u64) -> u64) -> Value {
    let Some(last) = &state.last else { return Value::Null };
    let decode = &last.decode;
    json!({
        "age_ms": age_ms(last.seen_ns),
        "source": last.source,
        "series": last.series,
        "model": last.model,
        "seq": decode.seq,
        "frame": decode.frame,
        "quality": decode.quality,
        "reason": decode.reason,
        "rehearsal": decode.rehearsal,
        "action": decode.action,
        "action_id": decode.action_id,
        "confidence": decode.confidence,
        "novelty": decode.novelty,
        "warmup_frames_left": decode.warmup_frames_left,
        "shift_px": decode.shift_px,
        "shift_peak": decode.shift_peak,
        "light": decode.light,
        "saturated_pixels": decode.saturated_pixels,
        "total_ms": decode.latency_us.map(|latency| latency.total / 1e3),
        "frame_age_ms": decode.age_us.map(|age| age / 1e3),
    })
}
