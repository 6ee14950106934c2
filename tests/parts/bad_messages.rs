//! Method: every file of `tests/data/bad_messages` is one message that is wrong in one way, with the reason under which it
//! must be counted, or the optional key that must be ignored. Each is sent over a real socket, between two frames that are right: the
//! bad one must be refused under its own reason and with a sentence, or taken without the key, and the stream must go on with the
//! next number.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;
use std::time::{Duration, Instant};

use haltere::config::{Attach, Config, Pattern, Source as Settings, Wait};
use haltere::frame::Frame;
use haltere::frame::event::{Reason, Refusal};
use haltere::source::{Next, Source, ZmqSource};

const FRAME_BYTES_MAX: usize = 4096;

struct Case {
    name: String,
    /// Why it is refused; `None`: it is taken.
    reason: Option<String>,
    /// The key that is left out then.
    ignored: Option<String>,
    parts: Vec<Vec<u8>>,
}

fn corpus() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bad_messages");
    let mut cases: Vec<Case> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            Case {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                reason: json["reason"].as_str().map(str::to_owned),
                ignored: json["ignored"].as_str().map(str::to_owned),
                parts: json["parts"].as_array().unwrap().iter().map(part).collect(),
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// `{"text": …}`, `{"zeros": length}` or `{"hex": …}`.
fn part(json: &serde_json::Value) -> Vec<u8> {
    if let Some(text) = json["text"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(length) = json["zeros"].as_u64() {
        return vec![0; length as usize];
    }
    let hex = json["hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn open(attach: Attach, endpoint: &str) -> ZmqSource {
    let settings = Settings {
        endpoint: endpoint.to_string(),
        pattern: Pattern::Pull,
        attach,
        hwm: 16,
        frame_bytes_max: FRAME_BYTES_MAX,
        ..Config::default().source
    };
    ZmqSource::open(&settings, "rig".parse().unwrap(), Wait::Park).unwrap()
}

/// What the next message is; a source that stays silent for 20 s is broken.
fn next(source: &mut ZmqSource, slot: &mut Frame) -> Next {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match source.next(slot).unwrap() {
            Next::Idle => assert!(Instant::now() < until, "the source went silent"),
            next => return next,
        }
    }
}

fn send_good(socket: &zmq::Socket, number: u64) {
    let header = format!(r#"{{"dtype":"uint16","shape":[4,4],"frame":{number}}}"#);
    socket.send_multipart([header.as_bytes(), &[number as u8; 32]], 0).unwrap();
}

#[test]
fn every_bad_message_is_refused_under_its_own_reason_and_the_stream_goes_on() {
    let mut source = open(Attach::Bind, "tcp://127.0.0.1:*");
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.set_linger(0).unwrap();
    socket.connect(source.endpoint()).unwrap();
    let mut slot = Frame::with_capacity(FRAME_BYTES_MAX);
    let cases = corpus();
    assert!(cases.len() >= 70, "the corpus is there");
    for (number, case) in cases.iter().enumerate() {
        socket.send_multipart(&case.parts, 0).unwrap();
        send_good(&socket, number as u64 + 10);
        match next(&mut source, &mut slot) {
            Next::Rejected(Refusal { reason, message }) => {
                assert_eq!(Some(reason.name()), case.reason.as_deref(), "{}: {message}", case.name);
                assert!(message.as_str().len() > 20 && !message.as_str().ends_with('…'), "{}: {message}", case.name);
            }
            Next::Frame => {
                let left_out = source.ignored().map(|error| error.key().to_owned());
                assert!(left_out.is_some() && left_out == case.ignored, "{}: {left_out:?}", case.name);
            }
            other => panic!("{}: {other:?}", case.name),
        }
        assert_eq!(next(&mut source, &mut slot), Next::Frame, "after {}", case.name);
        assert_eq!(source.ignored(), None, "after {}", case.name);
        assert_eq!((slot.info.number, slot.info.gap), (number as u64 + 10, 0), "after {}", case.name);
    }
}

#[test]
fn every_reason_a_header_can_have_is_in_the_corpus() {
    let covered: Vec<String> = corpus().into_iter().filter_map(|c| c.reason).collect();
    let by_itself = |reason: &Reason| {
        use Reason::{Backwards, Geometry, Jumped, OtherSeries, OtherSource, Repeated};
        !matches!(reason, Geometry | Repeated | Backwards | Jumped | OtherSource | OtherSeries)
    };
    for reason in Reason::ALL.iter().filter(|reason| by_itself(reason)) {
        assert!(covered.iter().any(|c| c == reason.name()), "no bad message for {}", reason.name());
    }
}

#[test]
fn an_oversized_message_to_a_connected_socket_is_counted_and_the_stream_goes_on() {
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.set_linger(0).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let mut source = open(Attach::Connect, &endpoint);
    let mut slot = Frame::with_capacity(FRAME_BYTES_MAX);
    for round in 0..3 {
        send_good(&socket, 2 * round);
        let huge = vec![0u8; 3000 * 3000 * 2];
        socket.send_multipart([&br#"{"dtype":"u2","shape":[3000,3000]}"#[..], &huge], 0).unwrap();
        send_good(&socket, 2 * round + 1);
        assert_eq!(next(&mut source, &mut slot), Next::Frame);
        let Next::Rejected(refusal) = next(&mut source, &mut slot) else { panic!("too large, and taken") };
        assert!(refusal.reason == Reason::TooLarge && refusal.message.as_str().contains("4096"), "{refusal:?}");
        assert_eq!(next(&mut source, &mut slot), Next::Frame);
    }
}
