//! Invariant 8: every limit is stated, and everything outside is refused with the value, the bound and the key.
//!
//! Method: tables. Each row has a value at the bound, which must pass, and one just beyond it, which must be refused in
//! words that name the key, the value and the bound. The bounds are written out here, not taken from the constants: a bound
//! that moves must move here as well.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;
use std::time::{Duration, Instant};

use haltere::client::ask::ask;
use haltere::config::Config;
use haltere::corridor::Handles;
use haltere::corridor::supervisor::animals::Animals;
use haltere::corridor::supervisor::control::Control;
use haltere::frame::Shape;
use haltere::frame::event::{Event, Reason};
use haltere::model::parameters::{Baseline, LinePhase, Normalise, Parameters, Piecewise, Registration};
use haltere::model::{Calibration, Drift, FORMAT, InputOrigin, Kind, Manifest, Novelty, Provenance};
use haltere::preprocess::{self, Request};
use haltere::source::raw::RawLayout;
use haltere::sys::sockets::Door;
use haltere::wire::frame_header::{HeaderError, Message, parse, parse_message};

fn load(sets: &[String]) -> Result<Config, String> {
    Config::load(None, Vec::new(), sets).map(|(config, _)| config).map_err(|error| error.to_string())
}

/// Key, least, most, and what else must be set for either to make sense.
const NUMBERS: [(&str, i64, i64, &str); 20] = [
    ("source.hwm", 1, 10_000, ""),
    ("source.frame_max_mib", 1, 128, ""),
    ("source.follow_poll_ms", 1, 50, ""),
    ("source.follow_idle_s", 1, 3600, ""),
    ("source.follow_retry_s", 1, 3600, ""),
    ("source.plane", 0, 100_000, ""),
    ("lane.depth_frames", 1, 1024, ""),
    ("record.queue_frames", 2, 4096, ""),
    ("compute.threads", 1, 64, ""),
    ("compute.pulse_ms", 1, 1000, ""),
    ("realtime.ingest_core", 0, 1023, ""),
    ("realtime.compute_core", 0, 1023, ""),
    ("realtime.publish_core", 0, 1023, ""),
    ("realtime.priority", 1, 99, ""),
    ("publish.hwm", 1, 10_000, ""),
    ("publish.deadline_ms", 20, 60_000, "publish.heartbeat_ms=10"),
    ("publish.heartbeat_ms", 10, 10_000, "publish.deadline_ms=60000"),
    ("publish.status_ms", 100, 60_000, ""),
    ("publish.preview_hz", 0, 50, ""),
    ("serial.baud", 300, 4_000_000, ""),
];

#[test]
fn every_number_of_the_configuration_has_two_bounds() {
    for (key, least, most, beside) in NUMBERS {
        let beside: Vec<String> = (!beside.is_empty()).then(|| beside.to_owned()).into_iter().collect();
        let with = |value: i64| load(&[vec![format!("{key}={value}")], beside.clone()].concat());
        for value in [least, most] {
            with(value).unwrap_or_else(|error| panic!("{key} = {value} is allowed: {error}"));
        }
        for value in [least - 1, most + 1] {
            let error = with(value).expect_err(&format!("{key} = {value} is not allowed"));
            for word in [key, &format!("= {value}"), &format!("{least} to {most}")] {
                assert!(error.contains(word), "{key} = {value}: no {word:?} in: {error}");
            }
        }
    }
}

#[test]
fn no_number_of_the_configuration_was_forgotten() {
    let printed: toml::Table = Config::default().to_toml().parse().unwrap();
    for (section, values) in &printed {
        for (leaf, value) in values.as_table().into_iter().flatten() {
            let key = format!("{section}.{leaf}");
            assert!(!value.is_integer() || NUMBERS.iter().any(|(known, ..)| *known == key), "{key} has no row");
        }
    }
}

#[test]
fn every_text_of_the_configuration_has_a_length() {
    let path = |bytes: usize| format!("ipc:///{}", "x".repeat(bytes - 1));
    let text = |bytes: usize| "x".repeat(bytes);
    type Make<'a> = &'a dyn Fn(usize) -> String;
    let cases: [(&str, usize, Make<'_>); 6] = [
        ("rig", 64, &text),
        ("model", 256, &text),
        ("source.topic", 256, &text),
        ("source.endpoint", 107, &path),
        ("publish.endpoint", 107, &path),
        ("publish.neutral_action", 64, &text),
    ];
    for (key, bytes, make) in cases {
        let with = |bytes| load(&[format!("{key}={}", make(bytes))]);
        with(bytes).unwrap_or_else(|error| panic!("{key} of {bytes} bytes is allowed: {error}"));
        let error = with(bytes + 1).expect_err(key);
        for word in [key, &(bytes + 1).to_string(), &bytes.to_string()] {
            assert!(error.contains(word), "{key}: no {word:?} in: {error}");
        }
    }
}

#[test]
fn a_configuration_file_and_a_manifest_have_a_size() {
    const BYTES: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rig.toml");
    for (bytes, good) in [(BYTES, true), (BYTES + 1, false)] {
        std::fs::write(&path, vec![b'#'; bytes]).unwrap();
        let found = Config::load(Some(&path), Vec::new(), &[]).map(drop).map_err(|error| error.to_string());
        assert_eq!(found.is_ok(), good, "{found:?}");
        assert!(good || found.unwrap_err().contains(&BYTES.to_string()));
        // As a manifest both are wrong; only one of them for its size.
        let error = Manifest::read(&path).unwrap_err().to_string();
        assert_eq!(error.contains("bytes; a manifest has at most 1048576"), !good, "{error}");
        assert!(good || error.contains("1048577"), "{error}");
    }
}

/// A header whose fields are changed or added.
fn header(fields: &str) -> String {
    let rest = [("dtype", "\"u1\""), ("shape", "[4,4]")];
    let rest = rest.iter().filter(|(key, _)| !fields.contains(&format!("\"{key}\"")));
    let rest: String = rest.map(|(key, value)| format!(r#""{key}":{value},"#)).collect();
    format!("{{{rest}{fields}}}")
}

#[test]
fn every_limit_of_a_header_is_held_and_named() {
    let name = |bytes: usize| "n".repeat(bytes);
    let long = |bytes: usize| {
        let short = header(r#""note":"""#).len();
        header(&format!(r#""note":"{}""#, "x".repeat(bytes - short)))
    };
    let named = |key: &str, bytes: usize| header(&format!(r#""{key}":"{}""#, name(bytes)));
    let channels = |bytes: usize| header(&format!(r#""channels":["{}"]"#, name(bytes)));
    // A number out of range is named to the precision of a double.
    let cases: [(&str, String, String, Reason, &[&str]); 11] = [
        ("size", long(16384), long(16385), Reason::HeaderSize, &["16385", "16384"]),
        (
            "channels",
            header(r#""shape":[2,4,4]"#),
            header(r#""shape":[3,4,4]"#),
            Reason::Channel,
            &["3 channels", "1 to 2"],
        ),
        ("no channel", header(r#""shape":[1,4,4]"#), header(r#""shape":[0,4,4]"#), Reason::Shape, &["shape", "0", "1"]),
        ("height", header(r#""shape":[4096,4]"#), header(r#""shape":[4097,4]"#), Reason::Shape, &["4097", "4096"]),
        ("width", header(r#""shape":[4,4096]"#), header(r#""shape":[4,4097]"#), Reason::Shape, &["4097", "4096"]),
        ("no width", header(r#""shape":[4,1]"#), header(r#""shape":[4,0]"#), Reason::Shape, &["shape", "0", "1"]),
        ("axes", header(r#""shape":[1,4,4]"#), header(r#""shape":[1,1,4,4]"#), Reason::Shape, &["4 axes", "shape"]),
        ("source", named("source", 64), named("source", 65), Reason::Name, &["source", "65", "64"]),
        ("series", named("series", 64), named("series", 65), Reason::Name, &["series", "65", "64"]),
        (
            "frame",
            header(r#""frame":18446744073709551615"#),
            header(r#""frame":18446744073709551616"#),
            Reason::Field,
            &["frame", "18446744073709552000", "18446744073709551615"],
        ),
        ("plane", header(r#""plane":0"#), header(r#""plane":-1"#), Reason::Field, &["plane", "-1", "0"]),
    ];
    for (what, good, bad, reason, words) in cases {
        assert!(matches!(parse(good.as_bytes()), Ok(Message::Frame(_))), "{what}: {:?}", parse(good.as_bytes()));
        let error = parse(bad.as_bytes()).expect_err(what);
        assert_eq!(error.reason(), reason, "{what}: {error}");
        for word in words {
            assert!(error.to_string().contains(word), "{what}: no {word:?} in: {error}");
        }
    }
    // What can be left out is, and the limit is named all the same.
    for (good, bad, words) in [
        (channels(64), channels(65), ["channels", "65", "64"]),
        (
            header(r#""timestamp_ns":9223372036854775807"#),
            header(r#""timestamp_ns":9223372036854775808"#),
            ["timestamp_ns", "9223372036854775807", "9223372036854776000"],
        ),
    ] {
        let ignored = |text: &str| match parse(text.as_bytes()) {
            Ok(Message::Frame(header)) => header.ignored,
            other => panic!("{other:?}"),
        };
        assert_eq!(ignored(&good), None);
        let said = ignored(&bad).unwrap().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn parts_and_pixels_have_limits_that_name_the_key() {
    let header = header(r#""frame":0"#);
    let (topic, pixels) = (&b"topic"[..], &[0; 16][..]);
    assert!(parse_message(&[topic, header.as_bytes(), pixels]).is_ok());
    let error = parse_message(&[topic, header.as_bytes(), pixels, pixels]).unwrap_err();
    assert!(error.to_string().contains("4 part(s)") && error.to_string().contains("2 or 3"), "{error}");
    let Ok((Message::Frame(frame), _)) = parse_message(&[header.as_bytes(), pixels]) else { panic!("a frame") };
    assert_eq!(frame.check_payload(16, 16), Ok(()));
    for bytes in [15, 17] {
        assert!(matches!(frame.check_payload(bytes, 16), Err(HeaderError::Length { expected: 16, .. })));
    }
    let error = frame.check_payload(16, 15).unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge);
    let key = "source.frame_max_mib";
    let words = error.to_string();
    assert!(words.contains("16 bytes") && words.contains("at most 15") && words.contains(key), "{words}");
    assert!(load(&[format!("{key}=1")]).is_ok(), "the key that the message names exists");
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        name: "m".into(),
        file: "m.onnx".into(),
        sha256: "0".repeat(64),
        kind: Kind::Streaming,
        frame_rate_hz: 30.0,
        window_frames: 32,
        look_ahead_frames: 0,
        input: Shape::new(1, 128, 128),
        embedding: 128,
        state: Some([31, 128]),
        labels: vec!["rest".into(), "walk".into()],
        outputs: Vec::new(),
        provenance: Provenance::default(),
        parity: None,
        input_origin: InputOrigin::Live,
        calibration: None,
        novelty: None,
        drift: None,
        adapted: None,
        preprocess: Parameters::default(),
    }
}

type Put = fn(&mut Manifest, f64);

fn calibration(manifest: &mut Manifest) -> &mut Calibration {
    let measured_on = "fly7".to_owned();
    manifest.calibration.insert(Calibration {
        temperature: 1.0,
        measured_on,
        moments: 1,
        ece_before: 0.0,
        ece_after: 0.0,
    })
}

fn novelty(manifest: &mut Manifest) -> &mut Novelty {
    manifest.novelty.insert(Novelty { prototypes: 1, thresholds: 2, measured_on: "fly7".into() })
}

fn drift(manifest: &mut Manifest) -> &mut Drift {
    novelty(manifest);
    manifest.drift.insert(Drift { time_constant_s: 60.0, limit: 0.8 })
}

fn labels(manifest: &mut Manifest, count: f64) {
    manifest.labels = (0..count as usize).map(|label| label.to_string()).collect();
}

/// Key, a value at the bound, one beyond, what the message must say of the bound, and how to put it.
const MANIFEST: [(&str, f64, f64, &str, Put); 30] = [
    ("frame_rate_hz", 100_000.0, 100_001.0, "100000 Hz", |m, v| m.frame_rate_hz = v),
    ("frame_rate_hz", 1e-6, 0.0, "above 0", |m, v| m.frame_rate_hz = v),
    ("window_frames", 1.0, 0.0, "1 to 1024", |m, v| m.window_frames = v as usize),
    ("window_frames", 1024.0, 1025.0, "1 to 1024", |m, v| m.window_frames = v as usize),
    ("look_ahead_frames", 31.0, 32.0, "less than window_frames", |m, v| m.look_ahead_frames = v as usize),
    ("input.channels", 1.0, 0.0, "1 to 2", |m, v| m.input.channels = v as usize),
    ("input.channels", 2.0, 3.0, "1 to 2", |m, v| {
        m.input.channels = v as usize;
        m.preprocess.channels = vec![0, 1];
    }),
    ("input.height", 1.0, 0.0, "1 to 4096", |m, v| m.input.height = v as usize),
    ("input.height", 4096.0, 4097.0, "1 to 4096", |m, v| m.input.height = v as usize),
    ("input.width", 4096.0, 4097.0, "1 to 4096", |m, v| m.input.width = v as usize),
    ("embedding", 1.0, 0.0, "1 to 16384", |m, v| m.embedding = v as usize),
    ("embedding", 16384.0, 16385.0, "1 to 16384", |m, v| m.embedding = v as usize),
    ("state", 16384.0, 16385.0, "1 to 16384", |m, v| m.state = Some([v as usize, 128])),
    ("state", 16384.0, 16385.0, "1 to 16384", |m, v| m.state = Some([31, v as usize])),
    ("labels", 256.0, 257.0, "at most 256", labels),
    ("labels[0]", 64.0, 65.0, "1 to 64 bytes", |m, v| m.labels[0] = "6".repeat(v as usize)),
    // 1024 × 512 × 512 is 2²⁸; four columns more are too many.
    ("window_frames", 512.0, 516.0, "268435456", |m, v| {
        (m.kind, m.state, m.window_frames, m.input) = (Kind::Windowed, None, 1024, Shape::new(1, 512, v as usize));
    }),
    ("calibration.temperature", 0.01, 0.009, "0.01 to 100", |m, v| calibration(m).temperature = v),
    ("calibration.temperature", 100.0, 101.0, "0.01 to 100", |m, v| calibration(m).temperature = v),
    ("calibration.moments", 1.0, 0.0, "at least 1", |m, v| calibration(m).moments = v as usize),
    ("calibration.ece_before", 1.0, 1.5, "0 to 1", |m, v| calibration(m).ece_before = v),
    ("calibration.ece_after", 0.0, -0.5, "0 to 1", |m, v| calibration(m).ece_after = v),
    ("novelty.prototypes", 4096.0, 4097.0, "1 to 4096", |m, v| novelty(m).prototypes = v as usize),
    ("novelty.thresholds", 2.0, 1.0, "2 to 4096", |m, v| novelty(m).thresholds = v as usize),
    ("novelty.thresholds", 4096.0, 4097.0, "2 to 4096", |m, v| novelty(m).thresholds = v as usize),
    ("drift.time_constant_s", 1.0, 0.5, "1 to 86400 s", |m, v| drift(m).time_constant_s = v),
    ("drift.time_constant_s", 86400.0, 86401.0, "1 to 86400 s", |m, v| drift(m).time_constant_s = v),
    ("drift.limit", 0.51, 0.5, "above 0.5, below 1", |m, v| drift(m).limit = v),
    ("preprocess.channels", 1.0, 2.0, "0 or 1", |m, v| m.preprocess.channels = vec![v as usize]),
    ("preprocess.average_frames", 64.0, 65.0, "1 to 64", |m, v| m.preprocess.average_frames = v as usize),
];

#[test]
fn every_limit_of_a_manifest_is_held_and_named() {
    for (key, good, bad, bound, put) in MANIFEST {
        let with = |value| {
            let mut manifest = manifest();
            put(&mut manifest, value);
            manifest.check(Path::new("m.toml")).map_err(|error| error.to_string())
        };
        with(good).unwrap_or_else(|error| panic!("{key} = {good}: {error}"));
        let error = with(bad).expect_err(key);
        assert!(error.contains(&format!("{key} = ")) && error.contains(bound), "{key} = {bad}: {error}");
        // Labels are shown as they are, and 516 columns as the window that is too long for them.
        let shown = match key {
            "labels[0]" => "6666".to_owned(),
            "window_frames" if bound.starts_with('2') => "1024".to_owned(),
            _ => bad.to_string(),
        };
        assert!(error.contains(&shown), "{key} = {bad}: {error}");
    }
}

type Tune = fn(&mut Parameters, f32);

/// Key, a value at the bound, one beyond, and how to put it.
const PARAMETERS: [(&str, f32, f32, Tune); 33] = [
    ("convert.dark_level", 65535.0, 65536.0, |p, v| p.convert.dark_level = v),
    ("convert.dark_level", -65535.0, -65536.0, |p, v| p.convert.dark_level = v),
    ("average_frames", 1.0, 0.0, |p, v| p.average_frames = v as usize),
    ("line_phase.reach_px", 1.0, 0.0, |p, v| line_phase(p).reach_px = v as usize),
    ("line_phase.reach_px", 32.0, 33.0, |p, v| line_phase(p).reach_px = v as usize),
    ("line_phase.frames", 1000.0, 1001.0, |p, v| line_phase(p).frames = v as usize),
    ("registration.channel", 1.0, 2.0, |p, v| registration(p).channel = v as usize),
    ("registration.reach_px", 1.0, 0.0, |p, v| registration(p).reach_px = v as usize),
    ("registration.reach_px", 64.0, 65.0, |p, v| registration(p).reach_px = v as usize),
    ("registration.template_frames", 1000.0, 1001.0, |p, v| registration(p).template_frames = v as usize),
    ("registration.template_rounds", 20.0, 21.0, |p, v| registration(p).template_rounds = v as usize),
    ("registration.smooth_px", 8.0, 8.5, |p, v| registration(p).smooth_px = v),
    ("registration.smooth_px", 0.0, -0.5, |p, v| registration(p).smooth_px = v),
    ("registration.frequencies", 8.0, 7.0, |p, v| registration(p).frequencies = v as usize),
    ("registration.frequencies", 2048.0, 2049.0, |p, v| registration(p).frequencies = v as usize),
    ("registration.refresh", 0.5, 0.75, |p, v| registration(p).refresh = v),
    ("registration.peak_min", 1.0, 1.5, |p, v| registration(p).peak_min = v),
    ("registration.piecewise.blocks", 2.0, 1.0, |p, v| piecewise(p).blocks = v as usize),
    ("registration.piecewise.blocks", 16.0, 17.0, |p, v| piecewise(p).blocks = v as usize),
    ("registration.piecewise.reach_px", 16.0, 17.0, |p, v| piecewise(p).reach_px = v as usize),
    ("baseline.average_frames", 1000.0, 1001.0, |p, v| baseline(p).average_frames = v as usize),
    ("baseline.leak_per_s", 1.0, 1.5, |p, v| baseline(p).leak_per_s = v),
    ("baseline.leak_per_s", 0.0, -0.5, |p, v| baseline(p).leak_per_s = v),
    ("baseline.quantile", 0.01, 0.0, |p, v| baseline(p).quantile = v),
    ("baseline.quantile", 0.99, 1.0, |p, v| baseline(p).quantile = v),
    ("baseline.time_constant_s", 0.1, 0.0, |p, v| baseline(p).time_constant_s = v),
    ("baseline.time_constant_s", 3600.0, 3601.0, |p, v| baseline(p).time_constant_s = v),
    ("baseline.floor_counts", 65535.0, 65536.0, |p, v| baseline(p).floor_counts = v),
    ("normalise.warmup_frames", 2.0, 1.0, |p, v| normalise(p).warmup_frames = v as usize),
    ("normalise.warmup_frames", 100_000.0, 100_001.0, |p, v| normalise(p).warmup_frames = v as usize),
    ("normalise.freeze_after_frames", 32.0, 31.0, |p, v| normalise(p).freeze_after_frames = v as usize),
    ("normalise.sd_floor", 1e6, 2e6, |p, v| normalise(p).sd_floor = v),
    ("normalise.sd_floor", 1e-6, 0.0, |p, v| normalise(p).sd_floor = v),
];

fn line_phase(p: &mut Parameters) -> &mut LinePhase {
    p.line_phase.get_or_insert_default()
}

fn registration(p: &mut Parameters) -> &mut Registration {
    p.registration.get_or_insert_default()
}

fn piecewise(p: &mut Parameters) -> &mut Piecewise {
    registration(p).piecewise.get_or_insert_default()
}

fn baseline(p: &mut Parameters) -> &mut Baseline {
    p.baseline.get_or_insert_default()
}

fn normalise(p: &mut Parameters) -> &mut Normalise {
    p.normalise.get_or_insert_default()
}

#[test]
fn every_limit_of_preprocessing_is_held_and_named() {
    for (key, good, bad, put) in PARAMETERS {
        let with = |value: f32| {
            let mut parameters = Parameters::default();
            put(&mut parameters, value);
            parameters.check()
        };
        assert_eq!(with(good), Ok(()), "{key} = {good}");
        assert!(with(f32::NAN).is_err() || good.fract() == 0.0, "{key} = NaN");
        let error = with(bad).expect_err(key);
        let words = error.to_string();
        assert_eq!(error.key, key);
        assert!(words.contains(&format!("preprocess.{key} = {bad}")) || bad >= 1e6, "{words}");
        assert!(error.bound.chars().any(|c| c.is_ascii_digit() || c == 'w'), "{key} states its bound: {words}");
    }
}

#[test]
fn the_memory_of_the_moving_average_has_a_limit() {
    let parameters = |frames| Parameters {
        registration: None,
        baseline: Some(Baseline { average_frames: frames, ..Baseline::default() }),
        ..Parameters::default()
    };
    let input = Shape::new(1, 4096, 4096);
    let build = |frames| preprocess::build(&parameters(frames), input, 30.0, haltere::config::Device::Cpu);
    let error = build(17).err().expect("17 × 64 MiB is beyond 1 GiB").to_string();
    for word in ["preprocess.baseline.average_frames = 17", "1140850688", "1073741824"] {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

#[test]
fn the_sides_of_a_raw_layout_are_bounded() {
    assert!("uint8:2x4096x4096".parse::<RawLayout>().is_ok());
    for text in ["uint8:3x8x8", "uint8:4097x8", "uint8:8x4097", "uint8:0x8"] {
        let error = text.parse::<RawLayout>().unwrap_err();
        assert!(error.contains(&text[6..]) && error.contains("channels 1 to 2, sides 1 to 4096 px"), "{error}");
    }
}

#[test]
fn queues_hold_what_they_say_and_refuse_or_forget_the_rest() {
    let handles = Handles::default();
    for _ in 0..16 {
        handles.requests.push(Request::ResetBaseline).unwrap();
    }
    assert!(handles.requests.push(Request::Reset).is_err(), "a request is refused, never lost");
    for frame in 0..257 {
        let _ = handles.log.force_push(Event::Ready { frame });
    }
    assert_eq!((handles.log.len(), handles.log.pop()), (256, Some(Event::Ready { frame: 1 })));
}

#[test]
fn a_request_over_the_control_socket_has_a_size_and_a_longer_one_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}/control", folder.path().display());
    let no_model = std::sync::Arc::new(|_: &Path| Err(haltere::corridor::supervisor::load_model::SwapError::UnderWay));
    let mut control = Control::bind(&Door::default(), &endpoint, false, no_model).unwrap();
    let (handles, mut animals) = (Handles::default(), Animals::new(&Config::default().animal));
    let (until, ends) = (Instant::now() + Duration::from_secs(60), endpoint.clone());
    let client = std::thread::spawn(move || {
        let framed = r#"{"command":""}"#.len();
        let longest = ask(&ends, &"x".repeat(4096 - framed), 30_000).unwrap();
        assert!(longest["error"].as_str().unwrap().contains("unknown command"), "{longest}");
        let error = ask(&ends, &"x".repeat(4097 - framed), 30_000).unwrap_err().to_string();
        assert!(error.contains("4097 bytes; at most 4096"), "{error}");
        // Somebody else's program may not look first: its connection ends, and the next one is answered.
        let socket = zmq::Context::new().socket(zmq::REQ).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(&ends).unwrap();
        socket.send(vec![b'x'; 4097], 0).unwrap();
        assert_eq!(socket.poll(zmq::POLLIN, 200).unwrap(), 0, "no answer");
        assert_eq!(ask(&ends, "status", 30_000).unwrap()["ok"], true);
    });
    while !client.is_finished() {
        assert!(Instant::now() < until);
        control.answer(&handles, &mut animals, || serde_json::Value::Null);
        std::thread::yield_now();
    }
    client.join().unwrap();
}

#[cfg(feature = "train")]
#[test]
fn every_limit_of_a_network_is_held_and_named() {
    use haltere::train::NetworkSpec;
    type Put = fn(&mut NetworkSpec, usize);
    fn side(spec: &mut NetworkSpec, side: usize) {
        *spec = NetworkSpec::for_input(Shape::new(1, side, side));
    }
    let cases: [(&str, usize, usize, Put); 8] = [
        ("input.channels", 2, 3, |s, v| s.input.channels = v),
        ("input.height", 32, 28, side),
        ("input.height", 512, 516, side),
        ("window_frames", 2, 1, |s, v| s.window_frames = v),
        ("window_frames", 1024, 1025, |s, v| s.window_frames = v),
        ("features", 4096, 4097, |s, v| s.features = v),
        ("embedding", 4096, 4097, |s, v| s.embedding = v),
        ("labels", 256, 257, |s, v| s.labels = (0..v).map(|label| label.to_string()).collect()),
    ];
    for (key, good, bad, put) in cases {
        let with = |value| {
            let mut spec = NetworkSpec::for_input(Shape::new(1, 128, 128));
            put(&mut spec, value);
            spec.check()
        };
        assert_eq!(with(good), Ok(()), "{key} = {good}");
        let error = with(bad).expect_err(key).to_string();
        let shown = if key == "labels" { format!("\"{bad} labels\"") } else { bad.to_string() };
        assert!(error.contains(&format!("network.{key} = {shown}: ")), "{error}");
        assert!(error.contains(&good.to_string()), "{error}");
    }
}
