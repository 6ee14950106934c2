//! The PUB socket against real SUB sockets. Nothing here depends on how fast the machine is: messages are counted, and time is
//! handed in where it matters.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::Value;

use zmq::Socket;

use super::*;
use crate::publish::testing::decode;

const LABELS: [&str; 3] = ["resting", "walking", "grooming"];

fn config(endpoint: &str, hwm: i32) -> config::Publish {
    config::Publish {
        endpoint: endpoint.into(),
        hwm,
        deadline: Duration::from_secs(60),
        heartbeat: Duration::from_millis(100),
        status: Duration::from_millis(500),
        preview_every: None,
        neutral_action: "resting".into(),
        when_distrusted: config::WhenDistrusted::Hold,
    }
}

fn model(trained: bool) -> ModelTag {
    let labels = LABELS.map(String::from).to_vec();
    ModelTag {
        name: "m".into(),
        sha256: "ab".into(),
        generation: 1,
        labels,
        outputs: Vec::new(),
        embedding: 2,
        trained,
    }
}

struct Rig {
    context: Context,
    sink: ZmqSink,
    stats: Arc<Stats>,
}

fn rig(config: &config::Publish, trained: bool) -> Rig {
    let (context, stats) = (Context::new(), Arc::new(Stats::default()));
    let warnings = vec!["a warning".into()];
    let (door, name) = (Door::new(None, stats.connections.clone()), "rig1".parse().unwrap());
    let sink = ZmqSink::bind_at(&context, &door, config, name, model(trained), stats.clone(), warnings).unwrap();
    Rig { context, sink, stats }
}

impl Rig {
    /// A subscriber that certainly hears: events are sent until the first arrives.
    fn knocking(&mut self) -> Socket {
        let socket = self.context.socket(zmq::SUB).unwrap();
        socket.set_subscribe(b"").unwrap();
        socket.set_rcvtimeo(20).unwrap();
        socket.connect(&self.sink.endpoint()).unwrap();
        let heard = (0..500).any(|_| {
            self.sink.event(&Event::Request { what: "knock" }).unwrap();
            socket.recv_multipart(0).is_ok()
        });
        assert!(heard, "nothing arrived at {}", self.sink.endpoint());
        socket
    }

    /// The same, drained up to a marker.
    fn subscriber(&mut self) -> Socket {
        let socket = self.knocking();
        self.sink.event(&Event::Request { what: "begin" }).unwrap();
        socket.set_rcvtimeo(10_000).unwrap();
        while receive(&socket).1["what"] != "begin" {}
        socket
    }

    fn publish(&mut self, decode: &Decode) {
        self.sink.publish(decode).unwrap();
    }
}

fn receive(socket: &Socket) -> (String, Value, Vec<f32>) {
    let parts = socket.recv_multipart(0).expect("a message within ten seconds");
    let topic = String::from_utf8(parts[0].clone()).unwrap();
    assert_eq!(parts.len(), if topic.starts_with("decode/") { 3 } else { 2 }, "{topic}");
    let body = parts.get(2).map_or(&[][..], |p| p);
    let values = body.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (topic, serde_json::from_slice(&parts[1]).unwrap(), values)
}

fn walking(number: u64) -> Decode {
    let mut decode = decode(number, &[0.5, -2.0]);
    decode.action = Some(1);
    decode.embedding.probabilities = vec![0.05, 0.93, 0.02];
    decode
}

#[test]
fn decodes_arrive_in_order_and_numbered_without_gap_over_every_transport() {
    let folder = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}", folder.path().join("decodes").display());
    for endpoint in ["tcp://127.0.0.1:*", &ipc, "inproc://decodes"] {
        let mut rig = rig(&config(endpoint, 2000), true);
        let socket = rig.subscriber();
        (0..500).for_each(|number| rig.publish(&walking(number)));
        for number in 0..500u64 {
            let (topic, header, values) = receive(&socket);
            assert_eq!(topic, "decode/rig1", "{endpoint}");
            assert_eq!((&header["seq"], &header["frame"]), (&number.into(), &number.into()), "{endpoint}");
            assert_eq!(values, [0.5, -2.0]);
        }
    }
}

#[test]
fn novelty_is_told_by_trained_models_while_it_means_something() {
    for trained in [true, false] {
        let mut rig = rig(&config("inproc://novelty", 100), trained);
        let socket = rig.subscriber();
        for (number, quality) in [Quality::Ok, Quality::Degraded, Quality::Warmup].into_iter().enumerate() {
            let mut decode = walking(number as u64);
            (decode.quality, decode.embedding.novelty) = (quality, Some(0.125));
            rig.publish(&decode);
            let (_, header, _) = receive(&socket);
            let expected = trained && quality != Quality::Warmup;
            assert_eq!(header.get("novelty"), expected.then_some(&0.125.into()), "{trained}, {quality:?}");
        }
        rig.publish(&walking(3));
        assert!(receive(&socket).1.get("novelty").is_none(), "a model that cannot tell it");
    }
}

#[test]
fn a_header_holds_every_documented_field() {
    let mut rig = rig(&config("inproc://fields", 100), true);
    let socket = rig.subscriber();
    let mut decode = walking(1234);
    decode.frame.series = Some("s-1".parse().unwrap());
    decode.frame.gap = 2;
    decode.frame.t_device = Some(crate::frame::DeviceTime { ns: 77, clock: crate::frame::Clock::Unix, stamp: None });
    decode.observation.shift_px = Some([0.31, -1.2]);
    decode.observation.shift_peak = 0.83;
    rig.publish(&decode);
    let (_, header, _) = receive(&socket);
    let text = |key: &str| header[key].as_str().unwrap_or_default().to_string();
    assert_eq!(
        [text("htype"), text("dtype"), text("source"), text("series")],
        ["decode-1.0", "float32", "rig1", "s-1"]
    );
    assert_eq!([text("t_device_clock"), text("clock"), text("quality")], ["unix", "monotonic", "ok"]);
    assert_eq!((&header["shape"], &header["frame_gap"]), (&serde_json::json!([2]), &2.into()));
    assert_eq!(header["model"], serde_json::json!({"name": "m", "sha256": "ab", "generation": 1}));
    assert_eq!((&header["t_device_ns"], &header["t_recv_ns"]), (&77.into(), &decode.frame.t_received_ns.into()));
    let latency = &header["latency_us"];
    assert_eq!([&latency["queue"], &latency["preprocess"], &latency["encode"]], [1.0, 20.0, 300.0]);
    let total_us = (header["t_pub_ns"].as_u64().unwrap() - decode.frame.t_received_ns) as f64 / 1000.0;
    assert!((latency["total"].as_f64().unwrap() - total_us).abs() < 0.06, "{latency} for {total_us}");
    assert_eq!(header["shift_px"].to_string(), "[0.31,-1.2]");
    assert_eq!(header["shift_peak"].to_string(), "0.83");
    assert_eq!((&header["action"], &header["action_id"]), (&"walking".into(), &1.into()));
    assert_eq!(
        (header["probs"].to_string().as_str(), header["confidence"].to_string().as_str()),
        ("[0.05,0.93,0.02]", "0.93")
    );
    let absent = ["novelty", "reason"];
    assert!(absent.iter().all(|key| header.get(key).is_none()), "nobody measured {absent:?}");
}

#[test]
fn numbers_that_are_not_finite_still_make_json() {
    let mut rig = rig(&config("inproc://nan", 100), true);
    let socket = rig.subscriber();
    let mut decode = walking(1);
    decode.embedding.probabilities = vec![f32::NAN, 0.5, f32::INFINITY];
    decode.observation.shift_px = Some([f32::NAN, 1.0]);
    rig.publish(&decode);
    let (_, header, _) = receive(&socket);
    assert_eq!(header["probs"].to_string(), "[null,0.5,null]");
    assert_eq!((header["shift_px"].to_string().as_str(), &header["confidence"]), ("[null,1.0]", &0.5.into()));
}

#[test]
fn by_quality_the_action_is_decoded_neutral_or_absent() {
    let mut rig = rig(&config("inproc://quality", 100), true);
    let socket = rig.subscriber();
    for (quality, action, values) in [
        (Quality::Ok, "walking", [0.5, -2.0]),
        (Quality::Degraded, "walking", [0.5, -2.0]),
        (Quality::Warmup, "resting", [0.5, -2.0]),
        (Quality::Fail, "resting", [0.0, 0.0]),
    ] {
        rig.publish(&Decode { quality, ..walking(1) });
        let (_, header, heard) = receive(&socket);
        assert_eq!((&header["action"], &header["quality"]), (&action.into(), &quality.name().into()));
        assert_eq!((heard.as_slice(), header.get("probs").is_some()), (&values[..], action == "walking"));
        assert_eq!(header.get("reason").is_some(), quality != Quality::Ok);
    }
}

#[test]
fn an_untrained_model_publishes_no_action_and_still_fails_to_the_neutral_one() {
    let mut rig = rig(&config("inproc://untrained", 100), false);
    let socket = rig.subscriber();
    for quality in [Quality::Ok, Quality::Warmup] {
        rig.publish(&Decode { quality, ..walking(1) });
        let (_, header, _) = receive(&socket);
        assert!(["action", "action_id", "probs", "confidence"].iter().all(|key| header.get(key).is_none()));
    }
    rig.sink.finish(None).unwrap();
    assert_eq!(receive(&socket).1["action"], "resting");
}

#[test]
fn silence_of_the_frames_brings_one_neutral_decode_and_silence_until_they_are_back() {
    let mut rig = rig(&config("inproc://stale", 1000), true);
    let socket = rig.subscriber();
    let begin_ns = now_ns();
    rig.publish(&walking(7));
    assert_eq!(receive(&socket).1["quality"], "ok");
    let late_ns = begin_ns + 61_000_000_000;
    (0..100).for_each(|ms| rig.sink.tick(late_ns + ms * 10_000_000).unwrap());
    let (topic, header, values) = receive(&socket);
    assert_eq!(
        (topic.as_str(), &header["quality"], &header["action"]),
        ("decode/rig1", &"stale".into(), &"resting".into())
    );
    assert_eq!((&header["seq"], &header["frame"], &header["reason"]), (&1.into(), &7.into(), &"no_frame".into()));
    assert_eq!((values.as_slice(), &header["shift_px"]), (&[0.0, 0.0][..], &Value::Null));
    assert!(header.get("latency_us").is_none(), "no frame, no latency");
    let (topic, header, _) = receive(&socket);
    assert_eq!((topic.as_str(), &header["event"]), ("event/rig1", &"stale".into()));
    rig.publish(&walking(8));
    rig.sink.tick(late_ns + 2_000_000_000).unwrap();
    let mut topics = Vec::new();
    while topics.last().is_none_or(|t| t != "decode/rig1") {
        let (topic, header, _) = receive(&socket);
        assert!(topic != "event/rig1" || header["event"] == "recovered");
        topics.push(topic);
    }
    assert!(!topics.iter().any(|t| t.starts_with("heartbeat")), "a heart beat while stale: {topics:?}");
    assert!(topics.iter().any(|t| t == "event/rig1"));
}

#[test]
fn a_frame_decoded_too_late_is_published_as_stale_with_the_neutral_action_and_no_embedding() {
    let mut rig = rig(&config("inproc://late", 100), true);
    let socket = rig.subscriber();
    let mut late = walking(3);
    late.frame.t_received_ns -= 61_000_000_000;
    rig.publish(&late);
    let (_, header, values) = receive(&socket);
    assert_eq!((&header["quality"], &header["reason"]), (&"stale".into(), &"late".into()));
    assert_eq!((&header["action"], values.as_slice()), (&"resting".into(), &[0.0, 0.0][..]));
    assert_eq!(receive(&socket).1["event"], "stale");
}

#[test]
fn before_the_first_frame_the_heart_beats_and_says_warmup() {
    let mut rig = rig(&config("inproc://heart", 1000), true);
    let socket = rig.subscriber();
    let begin_ns = now_ns();
    (0..100).for_each(|i| rig.sink.tick(begin_ns + i * 10_000_000).unwrap());
    rig.sink.event(&Event::SeriesEnded).unwrap();
    let mut counts = [0; 2];
    loop {
        let (topic, header, _) = receive(&socket);
        match topic.as_str() {
            "heartbeat/rig1" => {
                counts[0] += 1;
                assert_eq!((&header["quality"], header.get("seq")), (&"warmup".into(), None));
                assert_eq!((&header["deadline_ms"], &header["period_ms"]), (&60_000.into(), &100.into()));
            }
            "status/rig1" => {
                counts[1] += 1;
                assert_eq!((&header["warnings"][0], &header["trained"]), (&"a warning".into(), &true.into()));
            }
            _ => break,
        }
    }
    assert_eq!(counts, [10, 2], "heartbeats and status messages in a second");
}

#[test]
fn the_end_is_a_neutral_decode_an_event_a_status_and_then_nothing() {
    for (fault, reason, event) in [(Some("encode"), "encode", "fault"), (None, "shutdown", "shutdown")] {
        let mut rig = rig(&config("inproc://end", 100), true);
        let socket = rig.subscriber();
        rig.sink.finish(fault).unwrap();
        rig.sink.finish(fault).unwrap();
        let (_, header, _) = receive(&socket);
        assert_eq!((&header["quality"], &header["reason"]), (&"fail".into(), &reason.into()));
        assert!(header.get("frame").is_none() && header.get("t_recv_ns").is_none(), "there was no frame");
        assert_eq!(receive(&socket).1["event"], event);
        assert_eq!(receive(&socket).0, "status/rig1");
        socket.set_rcvtimeo(0).unwrap();
        assert!(socket.recv_multipart(0).is_err(), "something after the end");
    }
}

#[test]
fn a_subscriber_that_never_reads_loses_messages_and_nobody_else_does() {
    let mut rig = rig(&config("tcp://127.0.0.1:*", 1), true);
    let dead = rig.knocking();
    let decodes = 200_000;
    // Each send either takes the message or drops it; a send that waited for the dead reader would never come back.
    (0..decodes).for_each(|number| rig.publish(&walking(number)));
    assert_eq!(rig.stats.publish.published.load(Relaxed), decodes);
    dead.set_rcvtimeo(100).unwrap();
    let heard = std::iter::from_fn(|| dead.recv_multipart(0).ok()).count() as u64;
    assert!(heard < decodes, "all {heard} arrived: the queue was never full, the test proves nothing");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let rig = rig(&config("tcp://127.0.0.1:*", 10), true);
    let endpoint = rig.sink.endpoint();
    let second = |endpoint: &str| {
        let name = "rig2".parse().unwrap();
        let sink = ZmqSink::bind(&config(endpoint, 10), name, model(true), Arc::default(), vec![]);
        sink.err().expect("a second owner").to_string()
    };
    let (error, port) = (second(&endpoint), endpoint.rsplit(':').next().unwrap());
    assert!(error.contains(&format!("port {port} is already in use")) && error.contains("publish.endpoint"), "{error}");
    assert!(second("tcp://203.0.113.1:5711").contains("no such address"));
    assert!(second("nonsense").contains("tcp://127.0.0.1:5711"));
}

#[test]
fn a_living_daemons_ipc_path_is_not_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}", folder.path().join("d").display());
    let first = rig(&config(&endpoint, 10), true);
    let name = "rig2".parse().unwrap();
    let second = || ZmqSink::bind(&config(&endpoint, 10), name, model(true), Arc::default(), vec![]);
    assert!(second().err().unwrap().to_string().contains("another process already listens"));
    drop(first);
    assert!(second().is_ok(), "a path that nobody listens on is free");
}

#[test]
fn a_picture_is_three_parts_whose_header_says_what_it_is() {
    use crate::frame::{Picture, Preview, Shape};
    let mut rig = rig(&config("inproc://pictures", 100), true);
    let socket = rig.subscriber();
    let (info, mut preview) = (decode(7, &[0.0]).frame, Preview::new());
    let pixels: Vec<f32> = (0..12).map(|i| i as f32 - 0.5).collect();
    preview.take(Picture::Template, &info, &pixels, Shape::new(1, 3, 4));
    preview.generation = 2;
    rig.sink.preview(&preview).unwrap();
    let parts = socket.recv_multipart(0).unwrap();
    let header: Value = serde_json::from_slice(&parts[1]).unwrap();
    assert_eq!((parts.len(), parts[0].as_slice()), (3, &b"preview/rig1"[..]));
    for (key, value) in [("htype", "preview-1.0"), ("dtype", "float32"), ("what", "template"), ("source", "rig1")] {
        assert_eq!(header[key], value, "{header}");
    }
    let shape = serde_json::json!([1, 3, 4]);
    assert_eq!((&header["shape"], &header["full_shape"], &header["generation"]), (&shape, &shape, &2.into()));
    let values: Vec<f32> = parts[2].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values, pixels);
}

#[test]
fn a_restart_that_is_rehearsed_counts_from_its_first_decode_whenever_that_comes() {
    let mut rig = rig(&config("inproc://rehearsed", 1000), true);
    let socket = rig.knocking();
    rig.sink.publish(&decode(1, &[0.5, 0.5])).unwrap();
    rig.sink.event(&Event::Rehearsal { scene: Scene::Restarted, seconds: 1 }).unwrap();
    rig.sink.publish(&decode(2, &[0.5, 0.5])).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    // No tick in between.
    rig.sink.publish(&decode(3, &[0.5, 0.5])).unwrap();
    rig.sink.event(&Event::RehearsalOver).unwrap();
    rig.sink.publish(&decode(4, &[0.5, 0.5])).unwrap();
    let heard = std::iter::from_fn(|| socket.recv_multipart(0).ok());
    let decodes: Vec<Value> = heard
        .filter(|parts| parts[0].starts_with(b"decode/"))
        .map(|parts| serde_json::from_slice(&parts[1]).unwrap())
        .collect();
    let told = |header: &Value| (header["frame"].as_u64(), header["seq"].as_u64(), header["rehearsal"].is_string());
    let expected = [(Some(1), Some(0), false), (Some(3), Some(0), true), (Some(4), Some(3), false)];
    assert_eq!(decodes.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(decodes[1]["quality"], "warmup");
}
