//! The JSON messages of a session.
//!
//! Why it exists: replay, comparison, report and export read the same messages. What it must never do: lose a bit of an
//! embedding; float32 is written with enough digits to read back the same value.

use serde::{Deserialize, Serialize};

use crate::frame::animal::ANIMAL_EXTENSION;
use crate::frame::{Clock, Decode, Distrust, Name, Quality, SenderClock, TimedMark};
pub use crate::wire::decision::What;

/// One message of the topic `decodes`: those fields of the published header that are needed later, and the full result.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DecodeRecord {
    /// Gapless number since the daemon started.
    pub seq: u64,
    /// The frame; `None` for a neutral decode before any frame.
    #[serde(default)]
    pub frame: Option<u64>,
    /// Frames missing just before it, by the sender's numbers.
    #[serde(default)]
    pub frame_gap: Option<u64>,
    /// Frames skipped just before it by overload.
    #[serde(default)]
    pub skipped: Option<u64>,
    /// Which rig.
    pub source: String,
    /// The model; `None` in a file that does not name it.
    #[serde(default)]
    pub model: Option<ModelRecord>,
    /// Which acquisition.
    #[serde(default)]
    pub series: Option<String>,
    /// The microscope's time, ns.
    #[serde(default)]
    pub t_device_ns: Option<i64>,
    /// On which clock.
    #[serde(default)]
    pub t_device_clock: Option<Clock>,
    /// Receipt of the frame, `CLOCK_MONOTONIC`, ns.
    #[serde(default)]
    pub t_recv_ns: Option<u64>,
    /// Publishing, `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// Age of the frame at publication, µs, if it is known.
    #[serde(default)]
    pub age_us: Option<f64>,
    /// Frames decoded without being published since the decode before.
    #[serde(default)]
    pub caught_up: Option<u64>,
    /// Where the time went.
    #[serde(default)]
    pub latency_us: Option<Latency>,
    /// [dy, dx], px.
    #[serde(default)]
    pub shift_px: Option<[f32; 2]>,
    /// 0 to 1.
    #[serde(default)]
    pub shift_peak: Option<f32>,
    /// As published.
    pub quality: Quality,
    /// Why, when not `ok`.
    #[serde(default)]
    pub reason: Option<String>,
    /// As published.
    #[serde(default)]
    pub action: Option<String>,
    /// Its index among the model's labels; with `[decision.action]` not always that of the most probable one.
    #[serde(default)]
    pub action_id: Option<usize>,
    /// Of the action as published.
    #[serde(default)]
    pub confidence: Option<f32>,
    /// What was decoded; `None` for a neutral decode, which has no frame.
    #[serde(default)]
    pub decoded: Option<Decoded>,
    /// The decisions that were made with it, as far as whoever read it looked for them: rule and what became of it, `walk:output`.
    #[serde(skip)]
    pub decisions: Option<String>,
}

/// The model that a decode came from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ModelRecord {
    /// Name in the manifest.
    pub name: String,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub sha256: String,
    /// 1 for the first model since the daemon started, then one more with every model swap.
    pub generation: u64,
}

/// Where the time of one decode went, µs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Latency {
    /// Waiting in the lane.
    pub queue: f64,
    /// Preprocessing.
    pub preprocess: f64,
    /// Encoding.
    pub encode: f64,
    /// From receipt to publishing.
    pub total: f64,
}

/// The full result of decoding, whatever was published of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decoded {
    /// How far to trust it, before its age was judged.
    pub quality: Quality,
    /// Index of the most probable label.
    pub action_id: Option<usize>,
    /// Of every label.
    pub probs: Vec<f32>,
    /// Continuous outputs of the model, bit for bit.
    #[serde(default)]
    pub outputs: Vec<f32>,
    /// 0 to 1.
    pub novelty: Option<f32>,
    /// The correlation peak is at the bound of the search.
    pub shift_at_bound: bool,
    /// The peak is too low: the shift was rejected.
    pub shift_doubtful: bool,
    /// px.
    pub line_phase_px: f32,
    /// NaN or infinite pixels.
    pub non_finite_pixels: u32,
    /// Pixels at the top of their range.
    pub saturated_pixels: u32,
    /// Why its frame is not believed.
    #[serde(default)]
    pub distrust: Option<Distrust>,
    /// Mean light of the registered channel, counts above the dark level.
    #[serde(default)]
    pub light: Option<f32>,
    /// Measured; 0 until it is known.
    pub frame_rate_hz: f32,
    /// First frame of a series.
    pub series_began: bool,
    /// One value per dimension, bit for bit.
    pub embedding: Vec<f32>,
}

impl From<&Decode> for Decoded {
    fn from(decode: &Decode) -> Self {
        let seen = &decode.observation;
        Self {
            quality: decode.quality,
            action_id: decode.action,
            probs: decode.embedding.probabilities.clone(),
            outputs: decode.embedding.outputs.clone(),
            novelty: decode.embedding.novelty,
            shift_at_bound: seen.shift_at_bound,
            shift_doubtful: seen.shift_doubtful,
            line_phase_px: seen.line_phase_px,
            non_finite_pixels: seen.non_finite_pixels,
            saturated_pixels: seen.saturated_pixels,
            distrust: seen.distrust,
            light: seen.light,
            frame_rate_hz: seen.frame_rate_hz,
            series_began: decode.frame.series_began,
            embedding: decode.embedding.values.clone(),
        }
    }
}

/// One message of the topic `requests`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The frame before which they were carried out.
    pub frame: u64,
    /// Their names, in order.
    pub requests: Vec<String>,
    /// With `animal`: the saved state that was taken up. Its bytes are the last attachment before this message with that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub animal: Option<AnimalRecord>,
}

/// A saved state that was taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnimalRecord {
    /// Whose.
    pub name: Name,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl AnimalRecord {
    /// Name of the attachment that holds the state.
    pub fn attachment(&self) -> String {
        format!("{}.{ANIMAL_EXTENSION}", self.name)
    }
}

/// One message of the topic `decisions`: what a replay must repeat of a published header, and when it was published.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DecisionRecord {
    /// The rule.
    pub name: String,
    /// Its decisions so far.
    pub number: u64,
    /// As published.
    pub what: What,
    /// Why there is no output, or why it ends.
    #[serde(default)]
    pub reason: Option<String>,
    /// What the rule decided, before the age of the decode was judged; `None` where an output ends.
    #[serde(default)]
    pub decided: Option<String>,
    /// The frame.
    pub frame: u64,
    /// Number of its decode; `None` where an output ends.
    #[serde(default)]
    pub decode_seq: Option<u64>,
    /// Was the rule armed?
    #[serde(default)]
    pub armed: Option<bool>,
    /// Was it a sham trial?
    #[serde(default)]
    pub sham: Option<bool>,
    /// Which output of an earlier session it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yoked: Option<u32>,
    /// The values that made it.
    #[serde(default)]
    pub cause: serde_json::Map<String, serde_json::Value>,
    /// The pulses.
    #[serde(default)]
    pub train: Option<serde_json::Value>,
    /// What is left of the doses, ms.
    #[serde(default)]
    pub dose_left_ms: Option<serde_json::Value>,
    /// Publishing, `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
}

impl DecisionRecord {
    /// Is it the same decision, whatever became of it when it was published?
    pub fn repeats(&self, other: &Self) -> bool {
        let made =
            |record: &Self| Self { what: What::Output, reason: None, decode_seq: None, t_pub_ns: 0, ..record.clone() };
        made(self) == made(other)
    }
}

/// One message of the topic `marks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkRecord {
    /// The experimenter's note, or the name of what came in at the inlet.
    pub text: String,
    /// When it was made, `CLOCK_MONOTONIC`, ns.
    pub t_ns: u64,
    /// UTC, ns since 1970.
    pub unix_ns: u64,
    /// Of a mark that came in with a time: who sent it, and how its time was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inlet: Option<TimedMark>,
}

/// What a message of the topic `status` says of the sender's clock.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClockRecord {
    /// Publishing, `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// How it lay then.
    pub sender_clock: SenderClock,
}

/// One message of the topic `events`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EventRecord {
    /// Its name.
    pub event: String,
    /// `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// Its other fields.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// Appends what was decoded to a published header, both JSON: `{…}` becomes `{…,"decoded":{…}}`.
pub fn write_decode(header: &[u8], decode: Option<&Decode>, into: &mut Vec<u8>) {
    into.clear();
    let (Some(decode), Some(open)) = (decode, header.strip_suffix(b"}")) else {
        into.extend_from_slice(header);
        return;
    };
    into.extend_from_slice(open);
    into.extend_from_slice(b",\"decoded\":");
    // Writing numbers and texts into memory cannot fail.
    let _ = serde_json::to_writer(&mut *into, &Decoded::from(decode));
    into.push(b'}');
}
