//! A published decode: topic, JSON header, and the bytes of the embedding.
//!
//! Why it exists: subscribers in four languages read these bytes, so they are written in one place, exactly as documented.
//! What it must never do: allocate once its buffers have grown, invent a value (unknown ones are left out or `null`), or write
//! JSON that a strict parser rejects (a number that is not finite becomes `null`).

use serde::Serialize;

use crate::frame::{Clock, Decode, Distrust, ModelTag, Name, Quality, Restart, Stamp};

/// The clock of every `t_recv_ns`, `t_pub_ns` and `t_seen_ns`: `CLOCK_MONOTONIC` of the daemon's machine.
pub const CLOCK: &str = "monotonic";

/// First word of a topic: what kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One decode: topic, header, embedding.
    Decode,
    /// Counters since start: topic, header.
    Status,
    /// An event: topic, header.
    Event,
    /// The daemon is alive: topic, header.
    Heartbeat,
    /// A picture for people: topic, header, pixels.
    Preview,
    /// What a rule decided with a decode: topic, header.
    Decision,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Decode, Self::Status, Self::Event, Self::Heartbeat, Self::Preview, Self::Decision];
    /// All but the pictures.
    pub const FACTS: [Self; 5] = [Self::Decode, Self::Status, Self::Event, Self::Heartbeat, Self::Decision];

    /// The word before the slash.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Status => "status",
            Self::Event => "event",
            Self::Heartbeat => "heartbeat",
            Self::Preview => "preview",
            Self::Decision => "decision",
        }
    }
}

/// Writes `<kind>/<source>` into `into`, replacing what was there.
pub fn write_topic(kind: Kind, source: &Name, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(kind.name().as_bytes());
    into.push(b'/');
    into.extend_from_slice(source.as_str().as_bytes());
}

/// Writes the embedding as little-endian float32 into `into`, replacing what was there.
pub fn write_embedding(values: &[f32], into: &mut Vec<u8>) {
    into.clear();
    into.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

/// Writes any header as JSON into `into`, replacing what was there.
///
/// # Errors
/// Never for the headers of this module: their keys are text and their buffer is memory.
pub fn write_json<T: Serialize>(header: &T, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    into.clear();
    serde_json::to_writer(into, header)
}

/// The model of a decode, as published.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ModelHeader<'a> {
    /// Name in the manifest.
    pub name: &'a str,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub sha256: &'a str,
    /// 1 for the first model since start, then one more with every model swap.
    pub generation: u64,
}

impl<'a> ModelHeader<'a> {
    /// As a model is named in decodes.
    pub fn of(model: &'a ModelTag) -> Self {
        Self { name: &model.name, sha256: &model.sha256, generation: model.generation }
    }
}

/// Where the time of one decode went, µs, to a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencyHeader {
    /// Waiting in the lane.
    pub queue: f64,
    /// Preprocessing.
    pub preprocess: f64,
    /// Encoding.
    pub encode: f64,
    /// From receipt of the whole frame to `t_pub_ns`.
    pub total: f64,
}

/// The action in a decode.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Action<'a> {
    /// The label; `None` when the model decodes no action.
    pub label: Option<&'a str>,
    /// Its index among the model's labels, if it is one of them.
    pub id: Option<usize>,
    /// The model's probabilities, in the order of its labels; empty = left out.
    pub probabilities: &'a [f32],
}

/// The header of a decode, field by field as documented.
#[derive(Clone, Debug, Serialize)]
pub struct DecodeHeader<'a> {
    htype: &'static str,
    dtype: &'static str,
    shape: [usize; 1],
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_gap: Option<u64>,
    source: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<Name>,
    model: ModelHeader<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_device_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_device_clock: Option<Clock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_device_stamp: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_recv_ns: Option<u64>,
    t_pub_ns: u64,
    clock: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<LatencyHeader>,
    shift_px: Option<[f32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift_peak: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_phase_px: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    light: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saturated_pixels: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caught_up: Option<u64>,
    quality: Quality,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_id: Option<usize>,
    #[serde(skip_serializing_if = "<[f32]>::is_empty")]
    probs: &'a [f32],
    #[serde(skip_serializing_if = "<[f32]>::is_empty")]
    outputs: &'a [f32],
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    novelty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup_frames_left: Option<u32>,
}

/// The fields that decoded and neutral headers share.
#[derive(Clone, Copy, Debug)]
pub struct Stamped<'a> {
    /// Gapless number since start.
    pub seq: u64,
    /// Time of publishing, `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// The model in use.
    pub model: ModelHeader<'a>,
    /// How far to trust it.
    pub quality: Quality,
    /// Why, when the quality is not `ok`.
    pub reason: Option<&'a str>,
    /// The action, decoded or neutral.
    pub action: Action<'a>,
    /// Continuous outputs, in the model's order; empty = left out.
    pub outputs: &'a [f32],
    /// Novelty of the embedding, 0 to 1; `None` is left out.
    pub novelty: Option<f32>,
}

/// The last decoded frame, as named in a neutral decode.
#[derive(Clone, Copy, Debug)]
pub struct LastFrame {
    /// Its number.
    pub number: u64,
    /// Time of receipt, `CLOCK_MONOTONIC`, ns.
    pub t_received_ns: u64,
    /// Its acquisition.
    pub series: Option<Name>,
}

impl<'a> DecodeHeader<'a> {
    /// The header of a decoded frame.
    pub fn of(decode: &Decode, stamped: Stamped<'a>) -> Self {
        let (frame, seen, times) = (&decode.frame, &decode.observation, &decode.times);
        let total_ns = stamped.t_pub_ns.saturating_sub(frame.t_received_ns);
        let latency_us = LatencyHeader {
            queue: tenths_us(times.queue_ns),
            preprocess: tenths_us(times.preprocess_ns),
            encode: tenths_us(times.encode_ns),
            total: tenths_us(total_ns),
        };
        Self {
            frame: Some(frame.number),
            frame_gap: Some(frame.gap),
            series: frame.series,
            t_device_ns: frame.t_device.map(|t| t.ns),
            t_device_clock: frame.t_device.map(|t| t.clock),
            t_device_stamp: frame.t_device.and_then(|t| t.stamp),
            t_recv_ns: Some(frame.t_received_ns),
            age_us: frame.age_ns.map(|age_ns| tenths_us(age_ns.saturating_add(total_ns))),
            latency_us: Some(latency_us),
            shift_px: seen.shift_px,
            shift_peak: seen.shift_px.map(|_| seen.shift_peak),
            line_phase_px: Some(seen.line_phase_px),
            light: seen.light.filter(|light| light.is_finite()),
            saturated_pixels: Some(seen.saturated_pixels),
            skipped: Some(decode.skipped),
            caught_up: Some(decode.caught_up),
            warmup_frames_left: (stamped.quality == Quality::Warmup).then_some(decode.warmup_left),
            ..Self::bare(frame.source, decode.embedding.values.len(), stamped)
        }
    }

    /// The header of a neutral decode without a frame of its own: it names the last frame, if there was one.
    pub fn neutral(source: Name, embedding: usize, last: Option<LastFrame>, stamped: Stamped<'a>) -> Self {
        Self {
            frame: last.map(|l| l.number),
            series: last.and_then(|l| l.series),
            t_recv_ns: last.map(|l| l.t_received_ns),
            ..Self::bare(source, embedding, stamped)
        }
    }

    fn bare(source: Name, embedding: usize, stamped: Stamped<'a>) -> Self {
        let Stamped { seq, t_pub_ns, model, quality, reason, action, outputs, novelty } = stamped;
        Self {
            htype: "decode-1.0",
            dtype: "float32",
            shape: [embedding],
            seq,
            frame: None,
            frame_gap: None,
            source,
            series: None,
            model,
            t_device_ns: None,
            t_device_clock: None,
            t_device_stamp: None,
            t_recv_ns: None,
            t_pub_ns,
            clock: CLOCK,
            age_us: None,
            latency_us: None,
            shift_px: None,
            shift_peak: None,
            line_phase_px: None,
            light: None,
            saturated_pixels: None,
            skipped: None,
            caught_up: None,
            quality,
            reason,
            action: action.label,
            action_id: action.id,
            probs: action.probabilities,
            outputs,
            confidence: confidence(action.probabilities, action.id),
            novelty,
            warmup_frames_left: None,
        }
    }
}

/// How a rehearsal changes the header of a decode.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsed {
    /// Its frame was received so much longer ago, ns …
    pub since_ns: u64,
    /// … and was so much older then.
    pub older_ns: u64,
    /// It comes from the next generation of the model.
    pub another_model: bool,
    /// In place of its novelty, where it has actions.
    pub novelty: Option<f32>,
}

impl DecodeHeader<'_> {
    /// Changes what a rehearsal changes.
    pub fn rehearse(&mut self, change: Rehearsed) {
        let Rehearsed { since_ns, older_ns, another_model, novelty } = change;
        let since_us = tenths_us(since_ns);
        self.t_recv_ns = self.t_recv_ns.map(|ns| ns.saturating_sub(since_ns));
        if let Some(latency) = &mut self.latency_us {
            latency.queue += since_us;
            latency.total += since_us;
        }
        if since_ns + older_ns > 0 {
            self.age_us = Some(self.age_us.unwrap_or(0.0) + since_us + tenths_us(older_ns));
        }
        self.model.generation += u64::from(another_model);
        self.novelty = novelty.filter(|_| !self.probs.is_empty()).or(self.novelty);
    }
}

/// Why a decode is not `ok`, according to preprocessing. If frame rate, pixels and shift are all right, `degraded` can only mean an
/// incomplete window: more than a tenth of its frames are missing.
pub fn reason_of(decode: &Decode) -> Option<&'static str> {
    let seen = &decode.observation;
    match decode.quality {
        Quality::Ok => None,
        Quality::Warmup | Quality::Degraded if seen.distrust.is_some() => seen.distrust.map(Distrust::name),
        Quality::Warmup => Some(decode.restart.map_or("warming_up", Restart::name)),
        Quality::Degraded if seen.frame_rate_off => Some("frame_rate"),
        Quality::Degraded if seen.non_finite_pixels > 0 => Some("non_finite_pixels"),
        Quality::Degraded if seen.shift_at_bound || seen.shift_doubtful => Some("registration"),
        Quality::Degraded => Some("missing_frames"),
        Quality::Stale => Some("late"),
        Quality::Fail => Some("stage"),
    }
}

/// Nanoseconds as µs, rounded to a tenth, for headers and tables.
pub fn tenths_us(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

/// The probability of the published action; of an action without a place among the labels, the largest.
pub fn confidence(probabilities: &[f32], action: Option<usize>) -> Option<f32> {
    let own = action.and_then(|action| probabilities.get(action)).copied();
    own.filter(|p| p.is_finite()).or_else(|| largest(probabilities))
}

/// The largest finite value.
fn largest(values: &[f32]) -> Option<f32> {
    values.iter().copied().filter(|v| v.is_finite()).reduce(f32::max)
}
