//! A session becomes NWB.
//!
//! Method: Python's own `pynwb` and `nwbinspector`, which share no code with haltere, open what was exported. A session that was
//! recorded live, and one that was put together with everything that can happen to one, are held against what `pynwb` reads, number
//! for number.
#![allow(clippy::unwrap_used)]

use crate::support::nwb;
use crate::support::nwb_session as session;
use crate::support::process as support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haltere::config::Compression;
use haltere::frame::{Clock, DeviceTime, Frame, FrameSlot, PixelType, Shape};
use haltere::model::Manifest;
use haltere::session::{Item, Reader, SessionWriter, Topic};
use haltere::source::{Next, open_recording};
use nwb::{python, run, spec, text};
use serde_json::{Value, json};
use session::{Opened, Session};
use support::{LOSSLESS, Rig};

/// 30 s of a simulated fly at its own rate.
const FLY: &str = "sim:seed=9001,animal=2,trial=3,seconds=30";
const FRAMES: usize = 480;

/// A rule that holds whenever the light is on: four decisions a second, and some of them sham trials.
const RULE: [&str; 14] = [
    "--set",
    "decision.light.when=light > 0.001",
    "--set",
    "decision.light.repeat=true",
    "--set",
    "decision.light.refractory_ms=250",
    "--set",
    "decision.light.quality=degraded",
    "--set",
    "decision.light.armed=true",
    "--set",
    "decision.light.sham_percent=30",
    "--set",
    "decision.light.width_ms=20",
];

/// Every decision is in its table, every output in the intervals, and each in the row of its decode in a CSV.
fn assert_decided(path: &Path, session: &Session, opened: &Opened) {
    let mut reader = Reader::open(path).unwrap();
    let mut made: Vec<Value> = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        let Item::Message { topic: Topic::Decisions, data, .. } = item else { continue };
        made.push(serde_json::from_slice(&data).unwrap());
    }
    assert!(made.len() > 20 && made.iter().any(|d| d["reason"] == "sham"), "{} decisions", made.len());
    let of = |key: &str, none: Value| {
        made.iter().map(|d| if d[key].is_null() { none.clone() } else { d[key].clone() }).collect::<Vec<_>>()
    };
    for (column, key) in [("rule", "name"), ("what", "what"), ("number", "number"), ("frame", "frame")] {
        assert_eq!(opened.column("decisions", column), of(key, json!(0)), "{column}");
    }
    assert_eq!(opened.column("decisions", "reason"), of("reason", json!("")));
    let seconds = |d: &Value| json!(session.seconds(opened, d["t_pub_ns"].as_u64().unwrap()));
    assert_eq!(opened.column("decisions", "timestamp"), made.iter().map(seconds).collect::<Vec<_>>());
    let outputs: Vec<Value> = made.iter().filter(|d| d["what"] == "output").map(|d| d["number"].clone()).collect();
    assert_eq!(opened.column("decided_outputs", "number"), outputs);
    let length = |of: &str| opened.column("decided_outputs", of)[0].as_f64().unwrap();
    assert!((length("stop_time") - length("start_time") - 0.02).abs() < 1e-6, "one pulse of 20 ms");

    let csv = path.with_extension("csv");
    run(&["export", text(path), "--to", "csv", "--out", text(&csv)]).code(0);
    let table = std::fs::read_to_string(csv).unwrap();
    let head: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let at = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let found: Vec<(String, String)> = rows
        .filter(|row| !row[at("decisions")].is_empty())
        .map(|row| (row[at("frame")].into(), row[at("decisions")].into()))
        .collect();
    let became = |d: &Value| d["reason"].as_str().map_or("light:output".to_owned(), |why| format!("light:{why}"));
    let decided = made.iter().filter(|d| d["what"] != "ended");
    assert_eq!(found, decided.map(|d| (d["frame"].to_string(), became(d))).collect::<Vec<_>>());
}

/// Numbers of a JSON list, as the bits of float32.
fn bits(values: &Value) -> Vec<u32> {
    values.as_array().unwrap().iter().map(|value| (value.as_f64().unwrap() as f32).to_bits()).collect()
}

/// The bouts, found once more: runs of the same word, cut where something is missing.
fn expected_bouts(session: &Session) -> Vec<(u64, String, Vec<f64>)> {
    let mut bouts: Vec<(u64, String, Vec<f64>)> = Vec::new();
    let mut before: Option<String> = None;
    for decode in &session.decodes {
        let missing = ["frame_gap", "skipped"].iter().any(|key| decode[*key].as_u64().unwrap_or(0) > 0);
        let word = (decode["quality"] == "ok" && decode.get("decoded").is_some())
            .then(|| decode["action"].as_str().map(str::to_owned))
            .flatten();
        if let Some(word) = &word {
            if missing || before.as_ref() != Some(word) || decode["decoded"]["series_began"] == true {
                bouts.push((decode["t_recv_ns"].as_u64().unwrap(), word.clone(), vec![]));
            }
            let confidence = decode["confidence"].as_f64().unwrap() as f32;
            bouts.last_mut().unwrap().2.push(f64::from(confidence));
        }
        before = word;
    }
    bouts
}

fn assert_bouts(session: &Session, opened: &Opened) -> usize {
    let expected = expected_bouts(session);
    let starts: Vec<Value> = expected.iter().map(|(start, ..)| json!(session.seconds(opened, *start))).collect();
    assert_eq!(opened.column("decoded_bouts", "start_time"), starts);
    assert_eq!(opened.column("decoded_bouts", "action"), expected.iter().map(|b| json!(b.1)).collect::<Vec<_>>());
    assert_eq!(opened.column("decoded_bouts", "frames"), expected.iter().map(|b| json!(b.2.len())).collect::<Vec<_>>());
    for ((_, _, confidences), found) in expected.iter().zip(opened.column("decoded_bouts", "mean_confidence")) {
        let mean = confidences.iter().sum::<f64>() / confidences.len() as f64;
        assert!((found.as_f64().unwrap() - mean).abs() < 1e-12);
    }
    expected.len()
}

#[test]
fn a_live_session_is_in_the_file_number_for_number_and_nobody_has_anything_to_say_against_it() {
    let Some(python) = python() else { return };
    let models = tempfile::tempdir().unwrap();
    let rig = Rig::new(soon_warm(models.path()));
    let (folder, nwb) = (rig.path("sessions"), rig.path("session.nwb"));
    let daemon = rig.daemon(&[&["--once", "--record", text(&folder)][..], &LOSSLESS, &RULE].concat());
    let mut listener = rig.listen();
    let play = rig.play(&[Path::new(FLY)], &["--push"]);
    listener.until("frame 200", |m| m.kind == "decode" && m.header["frame"].as_u64() >= Some(200));
    rig.control(&["mark", "light", "on"]).code(0);
    rig.control(&["mark", "light", "off"]).code(0);
    play.finish().code(0);
    daemon.finish().code(0);
    let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let metadata = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/nwb-example.toml");
    let arguments = ["export", text(&path), "--to", "nwb", "--out", text(&nwb), "--metadata", text(&metadata)];
    let said = run(&arguments).code(0);
    assert!(said.out.starts_with(&format!("{FRAMES} frames, {FRAMES} decodes, ")), "{}", said.out);
    assert!(!said.err.contains("not given"), "{}", said.err);
    let (session, opened) = (Session::read(&path), Opened::of(&python, &nwb));
    opened.assert_clean();
    assert_eq!(session.frames.len(), FRAMES);
    session.assert_movie(&opened, "TwoPhotonSeries-green", &session.frames, 0);
    session.assert_movie(&opened, "TwoPhotonSeries-red", &session.frames, 1);
    session.assert_decodes(&opened);
    assert_told(&session, &opened);
    assert_decided(&path, &session, &opened);
    let bouts = assert_bouts(&session, &opened);
    assert!(bouts >= 3, "{bouts} bouts: a fly does something in 30 s");
    assert_read_back(&nwb, &session);
}

/// The shipped model, warm after some seconds instead of half a minute.
fn soon_warm(folder: &Path) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::fs::copy(shipped.join("fly.onnx"), folder.join("fly.onnx")).unwrap();
    let mut manifest = Manifest::read(&shipped.join("fly.toml")).unwrap();
    let preprocess = &mut manifest.preprocess;
    preprocess.registration.as_mut().unwrap().template_frames = 20;
    preprocess.normalise.as_mut().unwrap().warmup_frames = 20;
    let path = folder.join("fly.toml");
    manifest.save(&path).unwrap();
    path
}

/// What the model said, what the experimenter said, and what the metadata say.
fn assert_told(session: &Session, opened: &Opened) {
    let rows = session.of_frames();
    let sha256 = Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml")).unwrap().sha256;
    for (name, key) in [("Embedding", "embedding"), ("ActionProbabilities", "probs")] {
        let expected: Vec<u32> = rows.iter().flat_map(|row| bits(&row["decoded"][key])).collect();
        assert!(opened.words(name) == expected, "{name} is not the session's, bit for bit");
        let description = opened.series(name)["description"].as_str().unwrap();
        assert!(description.contains(&format!("the model fly (SHA-256 {sha256}")), "{description}");
    }
    let confidence = rows.iter().map(|row| row["confidence"].as_f64().map_or(f32::NAN, |value| value as f32).to_bits());
    assert_eq!(opened.words("Confidence"), confidence.collect::<Vec<_>>());
    let actions: Vec<i16> =
        rows.iter().map(|row| row["decoded"]["action_id"].as_i64().map_or(-1, |id| id as i16)).collect();
    let found = opened.bytes("Action");
    assert_eq!(found.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect::<Vec<_>>(), actions);
    assert!(opened.series("Action")["description"].as_str().unwrap().contains("resting, walking"));
    assert_eq!(opened.column("marks", "text"), [json!("light on"), json!("light off")]);
    let last = opened.column("sender_clock", "offset_ns").last().and_then(Value::as_i64);
    assert!(
        last.is_some_and(|offset| (0..100_000_000).contains(&offset)),
        "{last:?} ns between two clocks that are one"
    );
    let marked: Vec<Value> =
        session.marks.iter().map(|mark| json!(session.seconds(opened, mark["t_ns"].as_u64().unwrap()))).collect();
    assert_eq!(opened.column("marks", "timestamp"), marked);
    let mut events: Vec<(u64, Value)> =
        session.events.iter().map(|event| (event["t_pub_ns"].as_u64().unwrap(), event["event"].clone())).collect();
    let neutral = session.decodes.iter().filter(|decode| decode.get("decoded").is_none());
    events.extend(neutral.map(|decode| (decode["t_pub_ns"].as_u64().unwrap(), json!("neutral_decode"))));
    events.sort_by_key(|(t_ns, _)| *t_ns);
    let times: Vec<Value> = events.iter().map(|(t_ns, _)| json!(session.seconds(opened, *t_ns))).collect();
    assert_eq!(opened.column("events", "timestamp"), times);
    assert_eq!(opened.column("events", "event"), events.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
    let what = &opened.what;
    assert_eq!(what["subject"]["species"], "Drosophila melanogaster");
    assert_eq!((&what["subject"]["subject_id"], &what["subject"]["age"]), (&json!("fly_07"), &json!("P5D")));
    assert_eq!((&what["lab"], &what["experimenter"]), (&json!("Lab of Flies"), &json!(["Doe, Jane"])));
    let plane = &what["planes"]["ImagingPlane-green"];
    assert_eq!((&plane["indicator"], &plane["excitation"]), (&json!("GCaMP6s"), &json!(930.0)));
    assert_eq!(plane["emission"], json!([525.0]));
    assert!(what["data_collection"].as_str().unwrap().contains("by haltere 0."));
}

/// The exported file is itself a recording, of the same frames.
fn assert_read_back(nwb: &Path, session: &Session) {
    let series = ["green", "red"].map(|name| format!("{}#TwoPhotonSeries-{name}", nwb.display()));
    let mut source = open_recording(&spec(&[&series[0], &series[1]])).unwrap();
    assert!((source.frame_rate_hz().unwrap() - 16.0).abs() < 1.0, "{:?}", source.frame_rate_hz());
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    for (_, pixels) in &session.frames {
        assert_eq!(source.next(&mut frame).unwrap(), Next::Frame);
        assert!(frame.bytes() == pixels);
    }
    assert_eq!(source.next(&mut frame).unwrap(), Next::End);
}

/// When frame `at` of the made session came.
fn received(at: u64) -> u64 {
    5_000_000_000 + at * 33_000_000 + at * at % 7 * 1_000
}

/// Two channels of int16, then one of uint8 in another series; a gap, a neutral decode, a model exchanged for one of another size.
pub fn made(path: &Path) {
    let about = [
        ("rig", "rig1"),
        ("began_unix_ns", "1764000000123456789"),
        ("monotonic_to_unix_ns", "1763999995000000000"),
        ("model_sha256", "aa"),
        ("labels", r#"["rest","walk"]"#),
    ];
    let about = about.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let mut session = SessionWriter::create(path, Compression::Lz4, 0, &about, &[]).unwrap();
    let mut arrived = FrameSlot::with_capacity(2 * 16 * 12 * 2);
    for at in (0..90).filter(|at| !(30..33).contains(at)) {
        let info = &mut arrived.frame.info;
        let second = at >= 60;
        (info.shape, info.pixel_type) = match second {
            false => (Shape::new(2, 16, 12), PixelType::I16),
            true => (Shape::new(1, 10, 14), PixelType::U8),
        };
        (info.number, info.source, info.t_received_ns) = (at, "rig1".parse().unwrap(), received(at));
        info.gap = if at == 33 { 3 } else { 0 };
        info.series_began = at == 0 || at == 60;
        let ns = 7 + 33_000_000 * at as i64;
        info.t_device = (at != 5).then_some(DeviceTime { ns, clock: Clock::Device, stamp: None });
        let bytes = arrived.frame.bytes_mut();
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i as u64 * 37 + at * 11) as u8);
        session.write_frame(&arrived).unwrap();
        session.write_message(Topic::Decodes, received(at), decode(at).to_string().as_bytes()).unwrap();
        if at == 45 {
            let neutral = json!({ "seq": 1000, "source": "rig1", "t_pub_ns": received(at) + 20_000_000, "quality": "stale", "reason": "overdue", "action": "neutral" });
            session.write_message(Topic::Decodes, received(at), neutral.to_string().as_bytes()).unwrap();
            let event = json!({ "htype": "event-1.0", "source": "rig1", "event": "fault", "at": { "stage": "encode" }, "t_pub_ns": received(at) + 21_000_000 });
            session.write_message(Topic::Events, received(at), event.to_string().as_bytes()).unwrap();
        }
    }
    session.finish(BTreeMap::new()).unwrap();
}

fn decode(at: u64) -> Value {
    let second = at >= 60;
    let (dimensions, action_id) = (if second { 3 } else { 4 }, at / 10 % 2);
    let embedding: Vec<f32> = (0..dimensions).map(|i| (at as f32 + 0.1) / (i as f32 + 3.0)).collect();
    let (began, action) = (at == 0 || at == 60, ["rest", "walk"][action_id as usize]);
    let (model, sha256) = if second { ("new", "bb") } else { ("old", "aa") };
    json!({
        "seq": at, "frame": at, "frame_gap": if at == 33 { 3 } else { 0 }, "source": "rig1",
        "model": { "name": model, "sha256": sha256, "generation": 1 + u64::from(second) },
        "t_recv_ns": received(at), "t_pub_ns": received(at) + 2_000_000,
        "latency_us": { "queue": 1.5, "preprocess": 2.5, "encode": 3.0, "total": 7.0 + at as f64 / 10.0 },
        "quality": if at < 5 { "warmup" } else if at == 25 { "degraded" } else { "ok" },
        "action": action, "confidence": 0.5 + at as f32 / 300.0,
        "decoded": {
            "quality": if at < 5 { "warmup" } else { "ok" }, "action_id": action_id, "probs": [0.25, 0.75], "novelty": null,
            "shift_at_bound": false, "shift_doubtful": false, "line_phase_px": 0.0, "non_finite_pixels": 0, "saturated_pixels": 0,
            "frame_rate_hz": 30.0, "series_began": began, "embedding": embedding,
        },
    })
}

#[test]
fn gaps_neutral_decodes_a_new_geometry_and_a_new_model_stand_in_the_file_as_what_they_are() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, nwb) = (folder.path().join("made.mcap"), folder.path().join("made.nwb"));
    made(&path);
    let done = run(&["export", text(&path), "--to", "nwb", "--out", text(&nwb)]).code(0);
    done.says(&["subject.id, subject.species, subject.sex, subject.age not given"]);
    let (session, opened) = (Session::read(&path), Opened::of(&python, &nwb));
    assert_eq!(opened.what["errors"], json!([]));
    let found = opened.what["found"].as_array().unwrap();
    let important = found.iter().filter(|found| found[0] != "BEST_PRACTICE_SUGGESTION");
    let important: Vec<&Value> = important.map(|found| &found[1]).collect();
    assert_eq!(important, ["check_subject_exists"], "nothing but what nobody said: {found:?}");
    let (first, second) = session.frames.split_at(57);
    session.assert_movie(&opened, "TwoPhotonSeries1", first, 0);
    session.assert_movie(&opened, "TwoPhotonSeries2", first, 1);
    session.assert_movie(&opened, "TwoPhotonSeries1-part2", second, 0);
    assert_eq!(opened.series("TwoPhotonSeries2")["plane"], "ImagingPlane2");
    let numbers: Vec<i64> = (0..60).filter(|at| !(30..33).contains(at)).collect();
    assert_eq!(opened.longs("FrameNumber"), numbers);
    let told: Vec<i64> = numbers.iter().filter(|at| **at != 5).map(|at| 7 + 33_000_000 * at).collect();
    assert_eq!(opened.longs("MicroscopeTime-device"), told, "frame 5 told no time");
    session.assert_decodes(&opened);
    assert_by_model(&session, &opened);
    assert_eq!(opened.column("events", "event"), [json!("neutral_decode"), json!("fault")]);
    assert_eq!(opened.column("events", "detail"), [json!("quality=stale reason=overdue"), json!("at.stage=encode")]);
    assert_bouts(&session, &opened);
    assert_stops(&session, &opened);
    let plane = &opened.what["planes"]["ImagingPlane1"];
    assert_eq!(
        (&plane["indicator"], &plane["location"], &plane["excitation"]),
        (&json!("unknown"), &json!("unknown"), &Value::Null)
    );
    assert_eq!((&opened.what["subject"], &opened.what["lab"]), (&Value::Null, &Value::Null));
}

fn assert_by_model(session: &Session, opened: &Opened) {
    let (old, new): (Vec<&Value>, Vec<&Value>) =
        session.of_frames().into_iter().partition(|row| row["model"]["name"] == "old");
    for (suffix, rows, labels) in [("", old, "rest, walk"), ("2", new, "rest, walk")] {
        let name = format!("Embedding{suffix}");
        let expected: Vec<u32> = rows.iter().flat_map(|row| bits(&row["decoded"]["embedding"])).collect();
        assert_eq!(opened.words(&name), expected);
        let times: Vec<f64> =
            rows.iter().map(|row| session.seconds(opened, row["t_recv_ns"].as_u64().unwrap())).collect();
        assert_eq!(opened.doubles(&format!("{name}.times")), times);
        let said = opened.series(&format!("Action{suffix}"))["description"].as_str().unwrap();
        assert!(said.contains(labels), "{said}");
    }
    assert!(opened.series("Embedding2")["description"].as_str().unwrap().contains("the model new (SHA-256 bb"));
    assert!(opened.what["series"].get("Novelty").is_none(), "no model told a novelty");
}

/// A bout ends with the frame that ended it, or where the frames end.
fn assert_stops(session: &Session, opened: &Opened) {
    let seconds = |at: u64| session.seconds(opened, received(at));
    let frames: Vec<[u64; 2]> = vec![
        [5, 10],
        [10, 20],
        [20, 25],
        [26, 30],
        [33, 40],
        [40, 46],
        [46, 50],
        [50, 60],
        [60, 70],
        [70, 80],
        [80, 90],
    ];
    let starts: Vec<Value> = frames.iter().map(|[start, _]| json!(seconds(*start))).collect();
    assert_eq!(opened.column("decoded_bouts", "start_time"), starts);
    let stops = opened.column("decoded_bouts", "stop_time");
    for ([_, stop], found) in frames.iter().zip(stops) {
        let found = found.as_f64().unwrap();
        // Before a gap, a neutral decode, a new series and the end: one period after the last frame.
        let directly = ![30, 46, 60, 90].contains(stop);
        if directly {
            assert_eq!(found, seconds(*stop));
        } else {
            let after = found - seconds(*stop - 1);
            assert!((after - 0.033).abs() < 1e-4, "{after} s after frame {}", stop - 1);
        }
    }
}

#[test]
fn what_cannot_be_exported_is_said_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.mcap");
    made(&path);
    let out = folder.path().join("a.nwb");
    let export =
        |more: &[&str]| run(&[&["export", text(&path), "--to", "nwb", "--out", text(&out)][..], more].concat());
    let metadata = folder.path().join("fly.toml");
    std::fs::write(&metadata, "[subject]\nsexx = \"F\"\n").unwrap();
    export(&["--metadata", text(&metadata)]).code(3).says(&["fly.toml", "did you mean `sex`?"]);
    std::fs::write(&metadata, "[subject]\nage = \"young\"\n").unwrap();
    export(&["--metadata", text(&metadata)]).code(3).says(&["`subject.age` is young", "P5D"]);
    export(&["--metadata", text(&folder.path().join("none.toml"))]).code(3).says(&["none.toml"]);
    let csv = ["export", text(&path), "--to", "csv", "--out", text(&out), "--metadata", text(&metadata)];
    run(&csv).code(2).says(&["only NWB"]);
    let nowhere = folder.path().join("nowhere/a.nwb");
    run(&["export", text(&path), "--to", "nwb", "--out", text(&nowhere)])
        .code(7)
        .says(&["nowhere/a.nwb: cannot be written"]);
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["fly.toml", "made.mcap"]);
    // The second time the same objects get the same identities, and the file before is replaced.
    export(&[]).code(0);
    export(&[]).code(0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}
