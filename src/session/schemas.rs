//! The schemas stored in a session, one for each channel, so that it can be understood years later. A schema never promises a field
//! that is not written.

use super::Topic;

/// Name, encoding and text.
pub(super) fn schema(topic: Topic) -> (&'static str, &'static str, &'static str) {
    match topic {
        Topic::Frames => ("haltere.Frame", "text", FRAME),
        Topic::Requests => ("haltere.Requests", "jsonschema", REQUESTS),
        Topic::Decodes => ("haltere.Decode", "jsonschema", DECODE),
        Topic::Events => ("haltere.Event", "jsonschema", EVENT),
        Topic::Status => ("haltere.Status", "jsonschema", STATUS),
        Topic::Marks => ("haltere.Mark", "jsonschema", MARK),
        Topic::Decisions => ("haltere.Decision", "jsonschema", DECISION),
    }
}

/// Encoding of a channel's messages.
pub(super) fn encoding(topic: Topic) -> &'static str {
    if topic == Topic::Frames { "haltere.frame-1" } else { "json" }
}

const FRAME: &str = "256 bytes of head, little-endian, then the pixels, C order, channel by channel.
0 4s HFRM | 4 u16 version 1 | 6 u16 head bytes 256 | 8 u8 pixels (0 uint8, 1 uint16, 2 int16, 3 float32)
9 u8 flags (1 first of its series, 2 has a device time, 4 has a series, 8 has a stamp, 16 pixels are big-endian, 32 marked as not valid, 64 light went in)
10 u8 clock (0 monotonic, 1 unix, 2 device, 3 ptp) | 11 u8 stamp (0 start, 1 mid, 2 end)
12 u32 channels | 16 u32 height | 20 u32 width | 24 u64 frame number | 32 u64 frames missing before it
40 u64 frames that had arrived before it | 48 u64 received, CLOCK_MONOTONIC ns | 56 i64 device time, ns
64 64s source | 128 64s series | 192 zeros";

const REQUESTS: &str = r#"{"type":"object","title":"Carried out after the frame before and before this one","properties":{
"frame":{"type":"integer","description":"number of the frame before which they were carried out"},
"requests":{"type":"array","items":{"type":"string"},"description":"reset or animal, template reset, baseline reset, normalisation freeze or resume, decision NAME on, off, arm or disarm; in this order"},
"animal":{"type":"object","description":"with animal: the saved state that was taken up, the last attachment NAME.animal before this message","properties":{"name":{"type":"string"},"sha256":{"type":"string"}}}}}"#;

const DECODE: &str = r#"{"type":"object","title":"A decode as published, and what was decoded","properties":{
"htype":{"type":"string","description":"decode-1.0: the header of the same name in PROTOCOL.md"},
"seq":{"type":"integer"},"frame":{"type":"integer"},"frame_gap":{"type":"integer"},"skipped":{"type":"integer"},
"source":{"type":"string"},"series":{"type":"string"},
"t_device_ns":{"type":"integer"},"t_recv_ns":{"type":"integer","description":"CLOCK_MONOTONIC"},"t_pub_ns":{"type":"integer","description":"CLOCK_MONOTONIC"},
"latency_us":{"type":"object","properties":{"queue":{"type":"number"},"preprocess":{"type":"number"},"encode":{"type":"number"},"total":{"type":"number"}}},
"shift_px":{"type":["array","null"],"items":{"type":"number"},"description":"dy, dx"},"shift_peak":{"type":"number"},
"quality":{"type":"string"},"reason":{"type":"string"},"action":{"type":"string"},"confidence":{"type":"number"},
"decoded":{"type":"object","description":"before its age was judged; not there for a neutral decode","properties":{
"quality":{"type":"string"},"action_id":{"type":["integer","null"]},"probs":{"type":"array","items":{"type":"number"}},"outputs":{"type":"array","items":{"type":"number"},"description":"continuous outputs of the model"},"novelty":{"type":["number","null"]},
"shift_at_bound":{"type":"boolean"},"shift_doubtful":{"type":"boolean"},"line_phase_px":{"type":"number"},
"non_finite_pixels":{"type":"integer"},"saturated_pixels":{"type":"integer"},"distrust":{"type":["string","null"],"description":"why its frame is not trusted; embedding and action are then those of the last trusted frame"},"frame_rate_hz":{"type":"number"},"series_began":{"type":"boolean"},
"embedding":{"type":"array","items":{"type":"number"},"description":"float32, shortest digits that lead back to it"}}}}}"#;

const EVENT: &str = r#"{"type":"object","title":"An event as published: event-1.0 in PROTOCOL.md","properties":{
"event":{"type":"string"},"source":{"type":"string"},"frame":{"type":"integer"},"t_pub_ns":{"type":"integer","description":"CLOCK_MONOTONIC"}}}"#;

const STATUS: &str = r#"{"type":"object","title":"A status as published: status-1.0 in PROTOCOL.md","properties":{
"received":{"type":"integer"},"accepted":{"type":"integer"},"published":{"type":"integer"},"t_pub_ns":{"type":"integer","description":"CLOCK_MONOTONIC"}}}"#;

const MARK: &str = r#"{"type":"object","title":"Words of the experimenter","properties":{
"text":{"type":"string"},"t_ns":{"type":"integer","description":"CLOCK_MONOTONIC"},"unix_ns":{"type":"integer"}}}"#;

const DECISION: &str = r#"{"type":"object","title":"What a rule decided, as published: decision-1.0 in PROTOCOL.md","properties":{
"name":{"type":"string"},"number":{"type":"integer"},"what":{"type":"string"},"reason":{"type":"string"},"frame":{"type":"integer"},
"decided":{"type":"string","description":"before the age of the decode was judged; not there where an output ends"},
"cause":{"type":"object"},"train":{"type":"object"},"t_pub_ns":{"type":"integer","description":"CLOCK_MONOTONIC"}}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_json_schema_is_json() {
        for topic in Topic::ALL {
            let (_, kind, text) = schema(topic);
            assert!(kind == "text" || serde_json::from_str::<serde_json::Value>(text).is_ok(), "{topic:?}");
        }
    }
}
