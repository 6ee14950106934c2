//! Published beside the decodes: heartbeat, events, status.
//!
//! Why it exists: a controller must know that the daemon is alive, and people what it did with every frame.
//! What it must never do: allocate once its buffer has grown, or report a number that was not measured.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::decision::RuleStandings;
use super::decode::{CLOCK, ModelHeader};
use crate::frame::event::{Event, Reason};
use crate::frame::placement::Placement;
use crate::frame::{Distrust, Name, Quality, Scene, SenderClock, TimedMark};

/// `heartbeat/<source>`: sent while decodes can be relied on; its absence means that they cannot.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct HeartbeatHeader {
    htype: &'static str,
    source: Name,
    /// Number of the last decode; left out before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Silence after which a subscriber must assume the daemon dead, ms.
    deadline_ms: u64,
    /// Time between two heartbeats, ms.
    period_ms: u64,
    t_pub_ns: u64,
    clock: &'static str,
    /// Of the last decode; before the first `warmup`, or `stale` while whatever comes is refused.
    quality: Quality,
}

impl HeartbeatHeader {
    /// A heartbeat; `seq` is the number of the last decode.
    pub fn new(
        source: Name,
        seq: Option<u64>,
        quality: Quality,
        deadline_ms: u64,
        period_ms: u64,
        t_pub_ns: u64,
    ) -> Self {
        Self { htype: "heartbeat-1.0", source, seq, deadline_ms, period_ms, t_pub_ns, clock: CLOCK, quality }
    }
}

/// `event/<source>`: one event.
#[derive(Clone, Copy, Debug)]
pub struct EventHeader<'a> {
    /// The event.
    pub event: &'a Event,
    /// Which rig.
    pub source: Name,
    /// Time of publishing, `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
}

impl Serialize for EventHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("htype", "event-1.0")?;
        map.serialize_entry("event", event_name(self.event))?;
        map.serialize_entry("source", &self.source)?;
        serialize_details(self.event, &mut map)?;
        map.serialize_entry("t_pub_ns", &self.t_pub_ns)?;
        map.serialize_entry("clock", CLOCK)?;
        map.end()
    }
}

/// The word under `event`.
pub const fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Rejected { .. } => "rejected",
        Event::KeyIgnored { .. } => "key_ignored",
        Event::AspectRatio { .. } => "aspect_ratio",
        Event::Gap { .. } => "gap",
        Event::Skipped { .. } => "skipped",
        Event::CaughtUp { .. } => "caught_up",
        Event::WindowRestarted { .. } => "window_restarted",
        Event::SeriesBegan { .. } => "series_began",
        Event::SeriesEnded => "series_ended",
        Event::FileLost { .. } => "file_lost",
        Event::FileUnreachable { .. } => "file_unreachable",
        Event::FileBack { .. } => "file_back",
        Event::EndMissing { .. } => "end_missing",
        Event::Ready { .. } => "ready",
        Event::FrameRateOff { .. } => "frame_rate_off",
        Event::FrameRateBack { .. } => "frame_rate_back",
        Event::NonFinitePixels { .. } => "non_finite_pixels",
        Event::NonFiniteEmbedding { .. } => "non_finite_embedding",
        Event::Drift { .. } => "drift",
        Event::DriftBack { .. } => "drift_back",
        Event::FocusDrift { .. } => "focus_drift",
        Event::FocusBack { .. } => "focus_back",
        Event::FramesDistrusted { .. } => "frames_distrusted",
        Event::FramesTrusted { .. } => "frames_trusted",
        Event::Relearning { .. } => "relearning",
        Event::Placement { .. } => "placement",
        Event::PlacementPoor { .. } => "placement_poor",
        Event::ShiftAtBound { .. } => "shift_at_bound",
        Event::WarmingUp { .. } => "warming_up",
        Event::AnimalKnown { .. } => "animal_known",
        Event::AnimalMismatch { .. } => "animal_mismatch",
        Event::AnimalSaved { .. } => "animal_saved",
        Event::AnimalNotSaved { .. } => "animal_not_saved",
        Event::Stale { .. } => "stale",
        Event::Recovered { .. } => "recovered",
        Event::Swapped { .. } => "swapped",
        Event::SwapFailed { .. } => "swap_failed",
        Event::DeviceFault { .. } => "device_fault",
        Event::OutletLost { .. } => "outlet_lost",
        Event::OutletBack { .. } => "outlet_back",
        Event::Request { .. } => "request",
        Event::DecisionSwitched { .. } => "decision_switched",
        Event::Rehearsal { .. } => "rehearsal",
        Event::RehearsalOver => "rehearsal_over",
        Event::RecordBegan => "record_began",
        Event::RecordEnded => "record_ended",
        Event::RecordLost { .. } => "record_lost",
        Event::RecordFailed { .. } => "record_failed",
        Event::Mark { .. } => "mark",
        Event::Inlet { .. } => "inlet",
        Event::Fault { .. } => "fault",
        Event::Shutdown => "shutdown",
    }
}

fn serialize_switch<M: SerializeMap>(rule: &Name, what: &str, map: &mut M) -> Result<(), M::Error> {
    map.serialize_entry("name", rule)?;
    map.serialize_entry("what", what)
}

fn serialize_rehearsal<M: SerializeMap>(scene: Scene, seconds: u32, map: &mut M) -> Result<(), M::Error> {
    map.serialize_entry("what", scene.name())?;
    map.serialize_entry("seconds", &seconds)
}

fn serialize_inlet<M: SerializeMap>(name: &Name, t_ns: u64, mark: &TimedMark, map: &mut M) -> Result<(), M::Error> {
    map.serialize_entry("name", name)?;
    map.serialize_entry("from", &mark.from)?;
    map.serialize_entry("t_ns", &t_ns)?;
    map.serialize_entry("t_recv_ns", &mark.t_recv_ns)?;
    map.serialize_entry("timestamp_ns", &mark.timestamp_ns)?;
    map.serialize_entry("timestamp_clock", &mark.timestamp_clock)?;
    map.serialize_entry("decision", &mark.decision)?;
    map.serialize_entry("offset_ns", &mark.sender_clock.map(|clock| clock.offset_ns))?;
    map.serialize_entry("offset_error_us", &mark.sender_clock.map(|clock| clock.offset_error_us))?;
    map.serialize_entry("drift_ppm", &mark.sender_clock.and_then(|clock| clock.drift_ppm))
}

fn serialize_details<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    match event {
        Event::Rejected { .. } | Event::KeyIgnored { .. } | Event::AspectRatio { .. } => serialize_message(event, map),
        Event::Gap { frame, missing } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("missing", missing)
        }
        Event::Skipped { .. } | Event::WindowRestarted { .. } | Event::Stale { .. } => serialize_cause(event, map),
        Event::CaughtUp { frame, count } | Event::RecordLost { frame, count } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("count", count)
        }
        Event::FocusDrift { .. }
        | Event::FocusBack { .. }
        | Event::FramesDistrusted { .. }
        | Event::FramesTrusted { .. }
        | Event::Relearning { .. } => serialize_trust(event, map),
        Event::WarmingUp { .. }
        | Event::AnimalKnown { .. }
        | Event::AnimalMismatch { .. }
        | Event::AnimalSaved { .. }
        | Event::AnimalNotSaved { .. } => serialize_animal(event, map),
        Event::SeriesBegan { frame }
        | Event::Ready { frame }
        | Event::NonFiniteEmbedding { frame }
        | Event::ShiftAtBound { frame }
        | Event::DeviceFault { frame }
        | Event::Recovered { frame } => map.serialize_entry("frame", frame),
        Event::FrameRateOff { measured_hz, needed_hz } => {
            map.serialize_entry("measured_hz", measured_hz)?;
            map.serialize_entry("needed_hz", needed_hz)
        }
        Event::FrameRateBack { measured_hz } => map.serialize_entry("measured_hz", measured_hz),
        Event::Drift { .. } | Event::DriftBack { .. } | Event::Placement { .. } | Event::PlacementPoor { .. } => {
            serialize_likeness(event, map)
        }
        Event::NonFinitePixels { frame, pixels } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("pixels", pixels)
        }
        Event::FileUnreachable { cause } => map.serialize_entry("cause", cause),
        Event::FileBack { after_ms } => map.serialize_entry("after_ms", after_ms),
        Event::EndMissing { silent_s } => map.serialize_entry("silent_s", silent_s),
        Event::Swapped { generation } => map.serialize_entry("generation", generation),
        Event::SwapFailed { generation, reason } => {
            map.serialize_entry("generation", generation)?;
            map.serialize_entry("reason", reason.name())
        }
        Event::RecordFailed { reason } => map.serialize_entry("reason", reason.name()),
        Event::OutletLost { outlet } | Event::OutletBack { outlet } => map.serialize_entry("outlet", outlet),
        Event::FileLost { how } => map.serialize_entry("how", how),
        Event::Request { what } => map.serialize_entry("what", what),
        Event::DecisionSwitched { rule, what } => serialize_switch(rule, what, map),
        Event::Rehearsal { scene, seconds } => serialize_rehearsal(*scene, *seconds, map),
        Event::Fault { stage } => map.serialize_entry("stage", stage),
        Event::Mark { number, text } => serialize_mark(*number, text.as_str(), map),
        Event::Inlet { name, t_ns, mark } => serialize_inlet(name, *t_ns, mark, map),
        Event::SeriesEnded | Event::RehearsalOver | Event::RecordBegan | Event::RecordEnded | Event::Shutdown => Ok(()),
    }
}

fn serialize_mark<M: SerializeMap>(number: u64, text: &str, map: &mut M) -> Result<(), M::Error> {
    map.serialize_entry("number", &number)?;
    map.serialize_entry("text", text)
}

/// How much the animal is like those of training.
fn serialize_likeness<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    match event {
        Event::Drift { frame, novelty_mean, limit } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("novelty_mean", novelty_mean)?;
            map.serialize_entry("limit", limit)
        }
        Event::DriftBack { frame, novelty_mean } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("novelty_mean", novelty_mean)
        }
        Event::Placement { frame, placement } | Event::PlacementPoor { frame, placement } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("turn_deg", &placement.turn_deg)?;
            map.serialize_entry("shift_px", &placement.shift_px)?;
            map.serialize_entry("scale", &placement.scale)?;
            map.serialize_entry("likeness", &placement.likeness)
        }
        _ => Ok(()),
    }
}

/// What is wrong or odd with what was sent.
fn serialize_message<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    match event {
        Event::Rejected { reason, count, message } => {
            map.serialize_entry("reason", reason.name())?;
            map.serialize_entry("count", count)?;
            map.serialize_entry("message", message)
        }
        Event::KeyIgnored { key, message } => {
            map.serialize_entry("key", key)?;
            map.serialize_entry("message", message)
        }
        Event::AspectRatio { frame_px, input_px, ratio } => {
            map.serialize_entry("frame_px", frame_px)?;
            map.serialize_entry("input_px", input_px)?;
            map.serialize_entry("ratio", ratio)
        }
        _ => Ok(()),
    }
}

/// Events that say why.
fn serialize_cause<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    match event {
        Event::Skipped { frame, count, cause } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("count", count)?;
            map.serialize_entry("cause", cause.name())
        }
        Event::WindowRestarted { frame, reason } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("reason", reason.name())
        }
        Event::Stale { age_ms, reason } => {
            map.serialize_entry("age_ms", age_ms)?;
            map.serialize_entry("reason", reason.name())
        }
        _ => Ok(()),
    }
}

/// Of an event about frames that are not tissue.
fn serialize_trust<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    match event {
        Event::FocusDrift { frame, shift_peak, start } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("shift_peak", shift_peak)?;
            map.serialize_entry("start", start)
        }
        Event::FocusBack { frame, shift_peak } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("shift_peak", shift_peak)
        }
        Event::FramesDistrusted { reason, frame } => {
            map.serialize_entry("reason", reason)?;
            map.serialize_entry("frame", frame)
        }
        Event::FramesTrusted { reason, frame, count } => {
            map.serialize_entry("reason", reason)?;
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("count", count)
        }
        Event::Relearning { what, frame } => {
            map.serialize_entry("what", what.name())?;
            map.serialize_entry("frame", frame)
        }
        _ => Ok(()),
    }
}

/// Of an event about warm-up and saved animals.
fn serialize_animal<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    match event {
        Event::WarmingUp { frame, frames_left, seconds_left } => {
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("frames_left", frames_left)?;
            map.serialize_entry("seconds_left", seconds_left)
        }
        Event::AnimalKnown { animal, frame, peak, saved_peak } => {
            map.serialize_entry("animal", animal)?;
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("peak", peak)?;
            map.serialize_entry("saved_peak", saved_peak)
        }
        Event::AnimalMismatch { animal, frame, mismatch } => {
            map.serialize_entry("animal", animal)?;
            map.serialize_entry("frame", frame)?;
            map.serialize_entry("what", mismatch.name())?;
            let [found, expected] = mismatch.numbers().map_or([None; 2], |numbers| numbers.map(Some));
            map.serialize_entry("found", &found)?;
            map.serialize_entry("expected", &expected)
        }
        Event::AnimalSaved { animal } => map.serialize_entry("animal", animal),
        Event::AnimalNotSaved { animal, why } => {
            map.serialize_entry("animal", animal)?;
            map.serialize_entry("why", why)
        }
        _ => Ok(()),
    }
}

/// Quantiles of one stage, µs, to a tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct LatencySummary {
    /// Median.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
    /// Values.
    pub count: u64,
}

/// Quantiles of all stages since start.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct StageLatencies {
    /// Waiting in the lane.
    pub queue: LatencySummary,
    /// Preprocessing.
    pub preprocess: LatencySummary,
    /// Encoding.
    pub encode: LatencySummary,
    /// From receipt of the frame to publishing.
    pub total: LatencySummary,
}

/// Frames and decodes that were lost to overload since start, by policy.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Dropped {
    /// Frames that arrived and were not decoded because a newer one was there.
    pub skip_to_latest: u64,
    /// Decodes that found the lane to the publisher full.
    pub decodes: u64,
}

/// Queue lengths at the time of the status.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Queues {
    /// Frames between receipt and compute.
    pub frames: u64,
    /// Decodes between compute and publishing.
    pub decodes: u64,
}

/// Rejected messages by reason; every reason is listed, even at zero.
#[derive(Clone, Copy, Debug)]
pub struct Rejected(pub [u64; Reason::ALL.len()]);

impl Serialize for Rejected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Reason::ALL.iter().map(|r| r.name()).zip(&self.0))
    }
}

/// Frames that are not believed by reason; every reason is listed, even at zero.
#[derive(Clone, Copy, Debug)]
pub struct DistrustedFrames(pub [u64; Distrust::ALL.len()]);

impl Serialize for DistrustedFrames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Distrust::ALL.iter().map(|reason| reason.name()).zip(&self.0))
    }
}

/// The recorder's counters since start.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Recording {
    /// Is a file open?
    pub recording: bool,
    /// Frames written.
    pub frames: u64,
    /// Bytes of the current file.
    pub bytes: u64,
    /// Frames decoded and not recorded, by reason.
    pub lost: RecordingLost,
}

/// Decoded or published, but missing from the recording.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct RecordingLost {
    /// Frames: the queue was full because the disk is too slow.
    pub queue: u64,
    /// Frames: writing failed.
    pub disk: u64,
    /// Decodes, events, status: the queue was full.
    pub messages: u64,
}

/// Pulses on lines, since start.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct TtlCounts {
    /// Edges made.
    pub edges: u64,
    /// Pulses that were left out because their time had passed.
    pub missed: u64,
    /// How late an edge was, µs.
    pub late_us: LatencySummary,
}

/// Marks that came in at the inlet, since start.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct InletCounts {
    /// Messages.
    pub received: u64,
    /// Of these, such as were no marks.
    pub refused: u64,
    /// Marks that were not recorded although a file was open: the queue was full.
    pub lost: u64,
    /// Marks without an event, because they came too fast.
    pub untold: u64,
}

/// Who came to the bound sockets, since start.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PeerCounts {
    /// Peers that were let in.
    pub let_in: u64,
    /// Peers that were refused: a protocol older than ZMTP 3, or a key that is not on the list.
    pub refused: u64,
}

/// `status/<source>`: counters since start.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StatusHeader<'a> {
    /// `status-1.0`.
    pub htype: &'static str,
    /// Which rig.
    pub source: Name,
    /// haltere's version.
    pub version: &'static str,
    /// Seconds since the sink was opened.
    pub uptime_s: f64,
    /// Time of publishing, `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// Clock of the nanoseconds.
    pub clock: &'static str,
    /// Messages received.
    pub received: u64,
    /// Frames accepted.
    pub accepted: u64,
    /// Messages rejected.
    pub rejected: Rejected,
    /// Frames taken without an optional key that could not be read.
    pub ignored_keys: u64,
    /// Jumps in the sender's numbers.
    pub gaps: u64,
    /// Frames missing in them.
    pub missing: u64,
    /// Lost to overload.
    pub dropped: Dropped,
    /// Decoded without being published, because newer frames had already arrived.
    pub caught_up: u64,
    /// Decodes of frames published.
    pub published: u64,
    /// Times the fail-safe took over.
    pub stale: u64,
    /// Decodes that an outlet (text, bytes, OSC, serial line, LSL) did not accept.
    pub relay_lost: u64,
    /// NaN or infinite pixels.
    pub non_finite_pixels: u64,
    /// Saturated pixels.
    pub saturated_pixels: u64,
    /// Frames that are not believed.
    pub distrusted: DistrustedFrames,
    /// Quantiles by stage.
    pub latency_us: StageLatencies,
    /// Age of the frames whose age at receipt is known, at the publication of their decodes.
    pub age_us: LatencySummary,
    /// Queue lengths.
    pub queue_depth: Queues,
    /// Frames whose embedding was NaN or infinite, and which therefore have no decode.
    pub non_finite_embeddings: u64,
    /// The model in use.
    pub model: ModelHeader<'a>,
    /// False for random weights.
    pub trained: bool,
    /// The model's action labels, in the order of `probs`.
    pub labels: &'a [String],
    /// Names of the model's continuous outputs, in the order of `outputs` in a decode; left out where there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub outputs: &'a [String],
    /// Age at which a decode is stale, ms.
    pub deadline_ms: u64,
    /// Of the last decode; before the first `warmup`, or `stale` while whatever comes is refused.
    pub quality: Quality,
    /// What was not available at start, such as real-time rights.
    pub warnings: &'a [String],
    /// Resident memory; left out where the system does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Frame rate measured from the frames' own times; left out until it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_rate_hz: Option<f32>,
    /// Who came to the bound sockets.
    pub peers: PeerCounts,
    /// The recorder; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Recording>,
    /// Running mean of the novelty over the model's time constant, 0.5 is expected; left out when the model cannot measure drift, and
    /// before the first decode of quality `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub novelty_mean: Option<f32>,
    /// Correlation peak of the last seconds as a share of that at the start; left out until the start is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<f32>,
    /// While it warms up: frames left until a decode is `ok`, if all of them are believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_frames_left: Option<u64>,
    /// How the animal lies on the model's atlas; left out until that is known, and for a model without an atlas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Marks that came in; left out without an inlet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inlet: Option<InletCounts>,
    /// Pulses on lines; left out without lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<TtlCounts>,
    /// How the sender's clock lies to ours; left out for frames without time stamps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_clock: Option<SenderClock>,
    /// How the rules stand; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<RuleStandings>,
}
