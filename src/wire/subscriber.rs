//! Parses the daemon's messages, as a subscriber does.
//!
//! Why it exists: like any other client, `haltere watch` and the tests do not read with the code that the daemon writes with.
//! What it must never do: trust a length, or stop at an unknown message. It may allocate.

use serde::Deserialize;
use serde_json::Value;

use super::decision::What;
use super::decode::Kind;
use crate::frame::{Clock, Picture, Quality};

/// Longest header accepted, bytes: even a status with many warnings is far shorter.
pub const HEADER_BYTES_MAX: usize = 256 << 10;
/// Largest embedding or picture accepted, values.
pub const EMBEDDING_MAX: usize = 1 << 20;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not `<kind>/<source>`.
    #[error(
        "the topic {0:?} is not one of decode/, decision/, status/, event/, heartbeat/, preview/: is another program publishing there?"
    )]
    Topic(String),
    /// Two parts, or three for a decode and a preview.
    #[error("a {kind} message has {found} parts; it must have {expected}")]
    Parts {
        /// Which kind.
        kind: &'static str,
        /// Parts received.
        found: usize,
        /// Parts required.
        expected: usize,
    },
    /// A header beyond [`HEADER_BYTES_MAX`].
    #[error("the header has {0} bytes; at most {HEADER_BYTES_MAX} are accepted")]
    HeaderSize(usize),
    /// Not JSON of the documented form.
    #[error("the {kind} header does not have the documented form: {cause}")]
    Header {
        /// Which kind.
        kind: &'static str,
        /// The parser's message.
        cause: serde_json::Error,
    },
    /// The third part does not match `shape`.
    #[error(
        "the values take {found} bytes, which does not match shape {shape:?} (4 bytes per value, at most {EMBEDDING_MAX} values)"
    )]
    Embedding {
        /// Bytes of the part.
        found: usize,
        /// In the header.
        shape: Vec<usize>,
    },
}

/// The fields of a decode header for a person or a controller; unknown fields are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct DecodeMessage {
    /// Gapless since the daemon started.
    pub seq: u64,
    /// Dimensions of the embedding.
    pub shape: Vec<usize>,
    /// The frame; absent in a neutral decode before any frame.
    pub frame: Option<u64>,
    /// Frames missing before it.
    #[serde(default)]
    pub frame_gap: u64,
    /// Frames skipped before it by overload.
    #[serde(default)]
    pub skipped: u64,
    /// Age of the frame at publication, µs, if it is known.
    pub age_us: Option<f64>,
    /// The microscope's time, ns.
    pub t_device_ns: Option<i64>,
    /// On which clock.
    pub t_device_clock: Option<Clock>,
    /// Time of publishing, ns.
    pub t_pub_ns: u64,
    /// Latency by stage; absent in a decode without a frame.
    pub latency_us: Option<MessageLatency>,
    /// [dy, dx], px; a value that was not finite is `None`.
    pub shift_px: Option<[Option<f32>; 2]>,
    /// Height of the correlation peak.
    pub shift_peak: Option<f32>,
    /// Mean light, counts above the dark level, if frames are judged.
    pub light: Option<f32>,
    /// Pixels at the top of the range of their type.
    pub saturated_pixels: Option<u32>,
    /// How far to trust it.
    pub quality: Quality,
    /// Why, when not `ok`.
    pub reason: Option<String>,
    /// The action, decoded or neutral.
    pub action: Option<String>,
    /// Its index among the model's labels.
    pub action_id: Option<usize>,
    /// Of all labels; empty when no action was decoded. A value that was not finite is `None`.
    #[serde(default)]
    pub probs: Vec<Option<f32>>,
    /// Continuous outputs, in the order of the status' `outputs`; empty where there are none or they are not to be trusted.
    #[serde(default)]
    pub outputs: Vec<Option<f32>>,
    /// Its probability, when it was decoded.
    pub confidence: Option<f32>,
    /// Novelty of the embedding, 0 to 1, if the model provides it.
    pub novelty: Option<f32>,
    /// In `warmup`: frames left until a decode is `ok`.
    pub warmup_frames_left: Option<u64>,
    /// What is rehearsed, if it is a rehearsal.
    pub rehearsal: Option<String>,
}

/// Latency of one decode within the daemon, µs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct MessageLatency {
    /// Waiting in the lane.
    pub queue: f64,
    /// Preprocessing.
    pub preprocess: f64,
    /// Encoding.
    pub encode: f64,
    /// From receipt of the frame to publishing.
    pub total: f64,
}

/// A decision for a person or a controller; unknown fields are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct DecisionMessage {
    /// Gapless since the daemon started.
    pub seq: u64,
    /// The rule.
    pub name: String,
    /// Its decisions so far.
    pub number: u64,
    /// Whether an output begins.
    pub what: What,
    /// Why not, or why it ends.
    pub reason: Option<String>,
    /// Which output of an earlier session it repeats.
    #[serde(default)]
    pub yoked: Option<u32>,
    /// The values that made it, by their names in the conditions.
    #[serde(default)]
    pub cause: serde_json::Map<String, Value>,
    /// The frame.
    pub frame: u64,
    /// Time of publishing, ns.
    pub t_pub_ns: u64,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct HeartbeatMessage {
    /// Silence after which the daemon must be assumed dead, ms.
    pub deadline_ms: u64,
    /// Of the last decode.
    pub quality: Quality,
}

/// A picture.
#[derive(Clone, Debug, Deserialize)]
pub struct PreviewMessage {
    /// What it shows.
    pub what: Picture,
    /// Channels, rows, columns.
    pub shape: Vec<usize>,
    /// The frame after which it was taken.
    pub frame: u64,
}

/// The content of a message, by kind.
#[derive(Clone, Debug)]
pub enum Content {
    /// A decode and its embedding.
    Decode(Box<DecodeMessage>, Vec<f32>),
    /// Counters since start.
    Status,
    /// An event.
    Event,
    /// What a rule decided.
    Decision(Box<DecisionMessage>),
    /// The daemon is alive.
    Heartbeat(HeartbeatMessage),
    /// A picture and its values.
    Preview(PreviewMessage, Vec<f32>),
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The publishing source: the topic after the slash.
    pub source: String,
    /// The whole header.
    pub header: Value,
    /// The parsed content.
    pub content: Content,
}

/// Reads one multipart message.
///
/// # Errors
/// Any [`MessageError`]; the next message may still be valid.
pub fn parse(parts: &[Vec<u8>]) -> Result<Message, MessageError> {
    let topic = String::from_utf8_lossy(parts.first().map_or(&[][..], |p| p));
    let split = topic.split_once('/').and_then(|(word, source)| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == word)?;
        Some((kind, source.to_string()))
    });
    let (kind, source) = split.ok_or_else(|| MessageError::Topic(topic.chars().take(80).collect()))?;
    let expected = if matches!(kind, Kind::Decode | Kind::Preview) { 3 } else { 2 };
    if parts.len() != expected {
        return Err(MessageError::Parts { kind: kind.name(), found: parts.len(), expected });
    }
    if parts[1].len() > HEADER_BYTES_MAX {
        return Err(MessageError::HeaderSize(parts[1].len()));
    }
    let fault = |cause| MessageError::Header { kind: kind.name(), cause };
    let header: Value = serde_json::from_slice(&parts[1]).map_err(fault)?;
    let content = match kind {
        Kind::Decode => {
            let decode = DecodeMessage::deserialize(&header).map_err(fault)?;
            let embedding = parse_values(&parts[2], &decode.shape)?;
            Content::Decode(Box::new(decode), embedding)
        }
        Kind::Heartbeat => Content::Heartbeat(HeartbeatMessage::deserialize(&header).map_err(fault)?),
        Kind::Preview => {
            let preview = PreviewMessage::deserialize(&header).map_err(fault)?;
            let values = parse_values(&parts[2], &preview.shape)?;
            Content::Preview(preview, values)
        }
        Kind::Status => Content::Status,
        Kind::Event => Content::Event,
        Kind::Decision => Content::Decision(Box::new(DecisionMessage::deserialize(&header).map_err(fault)?)),
    };
    Ok(Message { source, header, content })
}

fn parse_values(bytes: &[u8], shape: &[usize]) -> Result<Vec<f32>, MessageError> {
    let values = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    let (chunks, rest) = bytes.as_chunks::<4>();
    if values != Some(chunks.len()) || !rest.is_empty() || chunks.len() > EMBEDDING_MAX {
        return Err(MessageError::Embedding { found: bytes.len(), shape: shape.to_vec() });
    }
    Ok(chunks.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"seq":3,"shape":[2],"t_pub_ns":9,"quality":"ok","action":null,"unknown":[1]}"#;

    fn message(topic: &str, header: &str, body: Option<&[u8]>) -> Vec<Vec<u8>> {
        [Some(topic.as_bytes()), Some(header.as_bytes()), body].into_iter().flatten().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_decode_is_read_back_with_its_embedding() {
        let body = [0.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat();
        let heard = parse(&message("decode/rig.1", HEADER, Some(&body))).unwrap();
        let Content::Decode(decode, embedding) = heard.content else { panic!("not a decode") };
        assert_eq!((heard.source.as_str(), decode.seq, decode.quality), ("rig.1", 3, Quality::Ok));
        assert_eq!((embedding.as_slice(), decode.frame, decode.action), (&[0.5, -2.0][..], None, None));
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let said = |parts: &[Vec<u8>]| parse(parts).unwrap_err().to_string();
        assert!(said(&[]).contains("topic"));
        assert!(said(&message("frames/rig1", HEADER, None)).contains("frames/rig1"));
        assert!(said(&message("decode/rig1", HEADER, None)).contains("has 2 parts; it must have 3"));
        assert!(said(&message("event/rig1", "{", None)).contains("event header"));
        assert!(said(&message("heartbeat/rig1", "{}", None)).contains("deadline_ms"));
        assert!(said(&message("event/rig1", &" ".repeat(HEADER_BYTES_MAX + 1), None)).contains("at most 262144"));
        assert!(said(&message("decode/rig1", HEADER, Some(&[0; 7]))).contains("7 bytes"));
        assert!(said(&message("preview/rig1", HEADER, Some(&[0; 8]))).contains("preview header"));
        let huge = HEADER.replace("[2]", "[4294967296,4294967296]");
        assert!(said(&message("decode/rig1", &huge, Some(&[0; 8]))).contains("8 bytes"));
    }
}
