//! The watcher against messages as the daemon writes them, with time handed in, and once against a real sink.

use std::sync::Arc;

use super::*;
use crate::frame::ModelTag;
use crate::publish::Sink;
use crate::publish::testing::decode;
use crate::publish::zmq::ZmqSink;

fn options(json: bool) -> WatchOptions {
    WatchOptions {
        endpoint: "tcp://127.0.0.1:5711".into(),
        source: None,
        duration: None,
        frames: None,
        json,
        lines_per_s: 5.0,
        truth: None,
        look_ahead: 0,
        labels: Vec::new(),
        keys: None,
    }
}

const MS: u64 = 1_000_000;
const HEARTBEAT: &str = r#"{"htype":"heartbeat-1.0","deadline_ms":300,"quality":"ok"}"#;

fn message(topic: &str, header: &str) -> Vec<Vec<u8>> {
    let mut parts = vec![topic.as_bytes().to_vec(), header.as_bytes().to_vec()];
    parts.extend(topic.starts_with("decode/").then(|| vec![0; 4]));
    parts
}

fn decode_message(seq: u64, quality: &str) -> Vec<Vec<u8>> {
    let header = format!(
        r#"{{"seq":{seq},"shape":[1],"frame":{},"t_pub_ns":1,"quality":"{quality}","shift_px":[0.5,-1.25],
        "latency_us":{{"queue":1,"preprocess":2,"encode":3,"total":1500}}}}"#,
        seq + 100
    );
    message("decode/rig1", &header)
}

fn lines_of(watcher: &mut Watcher<'_>, messages: &[(Vec<Vec<u8>>, u64)]) -> String {
    let mut out = Vec::new();
    for (parts, now_ns) in messages {
        watcher.receive(parts, *now_ns, &mut out).unwrap();
        watcher.check_silence(*now_ns, &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_person_reads_five_lines_a_second_and_sees_what_must_be_seen_at_once() {
    let options = options(false);
    let mut watcher = Watcher::new(&options, 0);
    let stream: Vec<_> = (0..100).map(|i| (decode_message(i, "ok"), i * 10 * MS)).collect();
    let lines = lines_of(&mut watcher, &stream);
    assert_eq!(lines.lines().count(), 5, "{lines}");
    let line = lines.lines().last().unwrap();
    for part in ["180", "—", "shift  +0.50  -1.25 px", "ok", "daemon    1.50 ms"] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    let lines = lines_of(
        &mut watcher,
        &[(decode_message(100, "stale"), 1000 * MS + 1), (decode_message(103, "ok"), 1000 * MS + 2)],
    );
    assert!(lines.contains("stale") && lines.contains("!! 2 decode(s) lost"), "{lines}");
    let gap = r#"{"htype":"event-1.0","event":"series_began","frame":9,"clock":"monotonic"}"#;
    assert_eq!(lines_of(&mut watcher, &[(message("event/rig1", gap), 1001 * MS)]), "!! series began, frame 9\n");
}

#[test]
fn novelty_is_shown_where_a_model_has_it() {
    let options = options(false);
    let mut watcher = Watcher::new(&options, 0);
    let header = r#"{"seq":0,"shape":[1],"frame":7,"t_pub_ns":1,"quality":"ok","novelty":0.973}"#;
    let line = lines_of(&mut watcher, &[(message("decode/rig1", header), 0)]);
    assert!(line.contains("novelty 0.97"), "{line}");
    let without = lines_of(&mut watcher, &[(decode_message(1, "ok"), 1000 * MS)]);
    assert!(!without.contains("novelty"), "{without}");
}

#[test]
fn the_true_action_stands_beside_the_decoded_one_and_the_score_at_the_end() {
    let truth = || Some(Truth::new(|frame| (frame < 8).then(|| if frame < 5 { "rest" } else { "walk" }.to_owned())));
    let decodes = |look_ahead: u64, json: bool| {
        let options = WatchOptions { truth: truth(), look_ahead, lines_per_s: f64::INFINITY, ..options(json) };
        let mut watcher = Watcher::new(&options, 0);
        let header = |n: u64| {
            let header = r#"{"seq":N,"shape":[1],"frame":N,"t_pub_ns":1,"quality":"ok","action":"rest"}"#;
            (message("decode/rig1", &header.replace('N', &n.to_string())), n * MS)
        };
        let text = lines_of(&mut watcher, &(0..10).map(header).collect::<Vec<_>>());
        (text, watcher.tally.finish(1.0, true))
    };
    let (text, report) = decodes(0, false);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[4].contains("✓ rest") && lines[4].contains("accuracy 100.0 %, balanced 100.0 %"), "{}", lines[4]);
    assert!(lines[7].contains("✗ walk") && lines[7].contains("accuracy  62.5 %, balanced  50.0 %"), "{}", lines[7]);
    assert!(lines[9].contains("? "), "the action of frame 9 is unknown: {}", lines[9]);
    let score = report.truth.clone().unwrap();
    assert_eq!((score.frames, score.accuracy, score.balanced_accuracy), (8, Some(0.625), Some(0.5)));
    let mut table = Vec::new();
    report.write(&mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("accuracy 62.5 %, balanced 50.0 % over 8 decodes"), "{table}");
    // A decode that looked two frames ahead is compared with the frame two before its own.
    assert_eq!(decodes(2, false).1.truth.unwrap().frames, 8);
    assert_eq!(decodes(4, false).1.truth.unwrap().accuracy, Some(5.0 / 6.0));
    let (json, _) = decodes(0, true);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[6]["truth"], lines[9].get("truth")), (&"walk".into(), None));
}

#[test]
fn a_lost_heartbeat_is_reported_once_and_so_is_its_return() {
    let options = options(false);
    let mut watcher = Watcher::new(&options, 0);
    let mut out = Vec::new();
    lines_of(&mut watcher, &[(message("heartbeat/rig1", HEARTBEAT), 1000 * MS)]);
    (1000..=1300).for_each(|ms| watcher.check_silence(ms * MS, &mut out).unwrap());
    assert!(out.is_empty(), "exactly at the deadline is not yet silent");
    (1301..3000).for_each(|ms| watcher.check_silence(ms * MS, &mut out).unwrap());
    assert_eq!(String::from_utf8(out).unwrap(), "!! DAEMON SILENT for 301 ms: assume neutral\n");
    let back = lines_of(&mut watcher, &[(message("heartbeat/rig1", HEARTBEAT), 3000 * MS)]);
    assert_eq!((back.as_str(), watcher.tally.report.silences), ("!! the daemon is back\n", 1));
}

#[test]
fn a_stale_decode_is_no_sign_of_life() {
    let options = options(false);
    let mut watcher = Watcher::new(&options, 0);
    lines_of(&mut watcher, &[(message("heartbeat/rig1", HEARTBEAT), 0), (decode_message(0, "stale"), 299 * MS)]);
    let mut out = Vec::new();
    watcher.check_silence(301 * MS, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("assume neutral"));
}

#[test]
fn for_scripts_every_message_is_one_json_object_on_one_line() {
    let options = options(true);
    let mut watcher = Watcher::new(&options, 0);
    let messages =
        [(decode_message(0, "ok"), 5), (message("heartbeat/rig1", HEARTBEAT), 6), (vec![b"junk".to_vec()], 7)];
    let text = lines_of(&mut watcher, &messages);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!((&lines[0]["topic"], &lines[0]["header"]["frame"]), (&"decode/rig1".into(), &100.into()));
    assert_eq!((&lines[0]["embedding"], &lines[0]["t_seen_ns"]), (&serde_json::json!([0.0]), &5.into()));
    assert_eq!(watcher.tally.report.damaged, 1);
}

#[test]
fn other_sources_are_not_shown_but_their_numbers_are_counted() {
    let options = WatchOptions { source: Some("rig10".into()), ..options(false) };
    let mut watcher = Watcher::new(&options, 0);
    let shown = lines_of(&mut watcher, &[(decode_message(0, "ok"), 0), (decode_message(1, "ok"), 1)]);
    assert_eq!((shown.as_str(), watcher.tally.report.lost, watcher.tally.report.decodes), ("", 0, 2));
}

#[test]
fn a_real_sink_is_watched_to_the_last_table() {
    let config = crate::config::Publish {
        endpoint: "tcp://127.0.0.1:*".into(),
        hwm: 1000,
        deadline: Duration::from_secs(60),
        heartbeat: Duration::from_millis(100),
        status: Duration::from_millis(500),
        preview_every: None,
        neutral_action: "resting".into(),
        when_distrusted: crate::config::WhenDistrusted::Hold,
    };
    let model = ModelTag {
        name: "m".into(),
        sha256: "ab".into(),
        generation: 1,
        labels: vec![],
        outputs: vec![],
        embedding: 3,
        trained: false,
    };
    let mut sink = ZmqSink::bind(&config, "rig1".parse().unwrap(), model, Arc::default(), vec![]).unwrap();
    let options = WatchOptions { endpoint: sink.endpoint(), frames: Some(50), ..options(false) };
    let (stop, mut out) = (AtomicBool::new(false), Vec::new());
    let report = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&options, &stop, &mut out).unwrap());
        let mut number = 0;
        while !watcher.is_finished() {
            let mut decode = decode(number, &[1.0, number as f32, (number % 7) as f32]);
            decode.frame.t_device = Some(crate::frame::DeviceTime {
                ns: decode.frame.t_received_ns as i64,
                clock: crate::frame::Clock::Monotonic,
                stamp: None,
            });
            sink.publish(&decode).unwrap();
            sink.tick(now_ns()).unwrap();
            number += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        watcher.join().unwrap()
    });
    let text = String::from_utf8(out).unwrap();
    assert_eq!((report.decodes, report.lost, report.qualities), (50, 0, [50, 0, 0, 0, 0]), "{text}");
    assert_eq!(report.latency_us.iter().filter(|s| s.count == 50).count(), 6, "{text}");
    assert!(text.contains("closed loop ") && text.contains("p99.9"), "{text}");
}

#[test]
fn a_decode_that_waited_longer_than_the_deadline_is_not_shown_as_the_present() {
    let options = options(false);
    let mut watcher = Watcher::new(&options, 0);
    let published = |seq: u64, ms: u64| {
        let header = format!(
            r#"{{"seq":{seq},"shape":[1],"frame":{seq},"t_pub_ns":{},"clock":"monotonic","quality":"ok","age_us":12500.0}}"#,
            ms * MS
        );
        message("decode/rig1", &header)
    };
    let stream = [
        (message("heartbeat/rig1", HEARTBEAT), 1_000 * MS),
        (published(0, 1_000), 1_001 * MS),
        (published(1, 1_300), 1_599 * MS),
        (published(2, 1_600), 5_000 * MS),
    ];
    let lines: Vec<String> = lines_of(&mut watcher, &stream).lines().map(str::to_owned).collect();
    assert!(lines[0].contains("age   12.50 ms") && !lines[0].contains("AGO") && !lines[1].contains("AGO"), "{lines:?}");
    assert!(lines[2].contains("PUBLISHED 3400 ms AGO"), "{lines:?}");
    let report = watcher.tally.finish(1.0, false);
    assert!(report.latency_us.iter().any(|stage| stage.stage == "age" && stage.count == 3));
}
