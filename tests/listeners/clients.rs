//! The example clients, and the recipes of others, against the real daemon.
//!
//! Method: the scripts in `clients/python` are run as they stand in the repository; beside it stand two senders that know nothing of haltere:
//! pyzmq's documented `send_array`/`recv_array` and the header of areaDetector's ZeroMQ plug-in. Python is
//! `$HALTERE_PYTHON`, else `.venv/bin/python` (`make setup` makes it).
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::fly as pixels;
use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use ndarray::Array3;
use rustix::process::Signal;
use support::{LOSSLESS, Process, Rig, cheap_model, skip, small};

fn cheap() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| cheap_model("cheap")).clone()
}

/// Python with pyzmq and numpy, or `None` and a loud line.
pub(super) fn python() -> Option<PathBuf> {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("HALTERE_PYTHON").map_or_else(installed, PathBuf::from);
    let found = Command::new(&python).args(["-c", "import zmq, numpy"]).status().is_ok_and(|status| status.success());
    if found { Some(python) } else { skip(&format!("{} has no pyzmq and numpy: `make setup`", python.display())) }
}

fn client(python: &Path, script: &str, arguments: &[&str]) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python").join(script);
    Process::start("client", Command::new(python).arg(script).args(arguments))
}

/// A script written here; its arguments are the rig's endpoints and what else it needs.
fn inline(python: &Path, script: &str, rig: &Rig, more: &[&str]) -> Process {
    Process::start("script", Command::new(python).args(["-c", script, &rig.frames, &rig.decodes]).args(more))
}

/// The fly recording as numpy would have saved it: (time, height, width), uint16.
pub(super) fn movie(rig: &Rig, frames: usize) -> String {
    movie_of(rig, frames, 64)
}

fn movie_of(rig: &Rig, frames: usize, side: usize) -> String {
    let counts =
        pixels::frames(1, side, frames).iter().map(|v| (v * 1000.0 + 5000.0).clamp(0.0, 65535.0) as u16).collect();
    let path = rig.path("movie.npy");
    ndarray_npy::write_npy(&path, &Array3::from_shape_vec((frames, side, side), counts).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A rule whose output lasts as long as it may: its controller must end it with the frames.
#[test]
fn the_example_controller_gives_the_output_of_a_decision_and_ends_it_when_frames_stop() {
    let Some(python) = python() else { return };
    let rig = Rig::over_tcp(small());
    let rule = ["when=light > 0.001", "armed=true", "quality=degraded", "width_ms=60000", "repeat=true"];
    let rule = rule.map(|set| format!("decision.light.{set}"));
    let sets: Vec<&str> =
        rule.iter().flat_map(|set| ["--set", set]).chain(["--set", "publish.deadline_ms=1500"]).collect();
    let inlet = Rig::over_tcp(small()).frames;
    let arguments = ["--endpoint", &rig.decodes, "--source", "play", "--inlet", &inlet];
    let mut controller = client(&python, "controller.py", &arguments);
    let at = format!("inlet.endpoint={inlet}");
    let daemon = rig.daemon(&[&sets[..], &["--set", &at]].concat());
    let mut listener = rig.listen();
    let play = rig.play(&[&support::fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
    // If it was not connected yet, the next output begins a minute later.
    controller.until_it_says("light on");
    let pulse = listener.until("the acknowledgement", |m| m.is_event("inlet")).header;
    assert_eq!((&pulse["name"], &pulse["from"]), (&"pulse".into(), &"controller".into()), "{pulse}");
    assert!(pulse["decision"].is_u64() && pulse["t_ns"].as_u64() <= pulse["t_recv_ns"].as_u64(), "{pulse}");
    let ended = std::time::Instant::now();
    play.kill();
    controller.until_it_says("light off");
    assert!(ended.elapsed() < Duration::from_secs(30), "the pulse lasts a minute");
    controller.kill();
    daemon.kill();
}

/// Nobody says that an output must end: a daemon that was killed, or stands still, is silent, and the controller hears that.
#[test]
fn the_example_controller_ends_its_output_when_the_daemon_is_killed_or_stands_still() {
    let Some(python) = python() else { return };
    let rule = ["when=light > 0.001", "armed=true", "quality=degraded", "width_ms=60000", "repeat=true"];
    let rule = rule.map(|set| format!("decision.light.{set}"));
    let sets: Vec<&str> =
        rule.iter().flat_map(|set| ["--set", set]).chain(["--set", "publish.deadline_ms=1500"]).collect();
    for signal in [Signal::KILL, Signal::STOP] {
        let rig = Rig::over_tcp(small());
        let mut controller = client(&python, "controller.py", &["--endpoint", &rig.decodes, "--source", "play"]);
        let daemon = rig.daemon(&sets);
        let play = rig.play(&[&support::fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
        controller.until_it_says("light on");
        let silent = std::time::Instant::now();
        daemon.signal(signal);
        controller.until_it_says("light off");
        assert!(silent.elapsed() < Duration::from_secs(30), "the pulse lasts a minute");
        play.kill();
        controller.kill();
        daemon.kill();
    }
}

#[test]
fn the_example_publisher_and_subscriber_drive_the_daemon() {
    let Some(python) = python() else { return };
    let rig = Rig::over_tcp(small());
    let daemon = rig.daemon(&["--set", "publish.deadline_ms=60000"]);
    let arguments = ["--endpoint", &rig.decodes, "--source", "scope-3", "--decodes", "60", "--neutral", "resting"];
    let subscriber = client(&python, "subscriber.py", &arguments);
    let mut listener = rig.listen();
    let movie = movie(&rig, 36);
    let publisher =
        client(&python, "publisher.py", &["--endpoint", &rig.frames, "--source", "scope-3", "--movie", &movie]);
    let acted = subscriber.finish().code(0).out;
    let lines: Vec<&str> = acted.lines().collect();
    let decodes: u64 = lines.iter().map(|line| 1 + number_after(line, "passed over ")).sum();
    assert!((60..70).contains(&decodes), "{acted}");
    assert!(lines[0].starts_with("resting ") && lines[0].contains("warmup"), "in the warm-up it does nothing: {acted}");
    let trusted: Vec<&&str> = lines.iter().filter(|line| line.contains(" ok ")).collect();
    assert!(!trusted.is_empty(), "{acted}");
    assert!(trusted.iter().all(|line| line.starts_with("no action") && line.contains("|embedding| 1.000")), "{acted}");

    let decode = listener.until("a decode to be trusted", |m| m.kind == "decode" && m.quality() == "ok");
    assert_eq!((decode.source.as_str(), &decode.header["t_device_clock"]), ("scope-3", &"monotonic".into()));
    assert!(decode.number("t_recv_ns") >= decode.number("t_device_ns"), "python and the daemon share a clock");
    assert_eq!(rig.status()["rejected"], serde_json::json!({}));
    publisher.kill();
    daemon.kill();
}

#[test]
fn the_example_subscriber_does_the_neutral_thing_when_the_daemon_dies() {
    let Some(python) = python() else { return };
    let rig = Rig::new(small());
    let daemon = rig.daemon(&[]);
    let movie = movie(&rig, 36);
    let mut subscriber =
        client(&python, "subscriber.py", &["--endpoint", &rig.decodes, "--source", "rig1", "--neutral", "resting"]);
    let publisher = client(&python, "publisher.py", &["--endpoint", &rig.frames, "--movie", &movie]);
    subscriber.until_it_says(" ok lost 0 ");
    daemon.kill();
    subscriber.until_it_says("resting      daemon silent");
    publisher.kill();
    subscriber.kill();
}

/// The number behind `words` in a line of the subscriber.
fn number_after(line: &str, words: &str) -> u64 {
    let after = line.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {line:?}")).1;
    after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_controller_that_acts_slower_than_decodes_come_acts_on_the_newest_and_never_on_an_old_one() {
    let Some(python) = python() else { return };
    for same_machine in [true, false] {
        let rig = if same_machine { Rig::new(cheap()) } else { Rig::over_tcp(cheap()) };
        let daemon = rig.daemon(&["--set", "publish.deadline_ms=500"]);
        // By another of its names this machine is another one to the subscriber: it then measures against the fastest message.
        let endpoint = if same_machine { rig.decodes.clone() } else { rig.decodes.replace("127.0.0.1", "0.0.0.0") };
        let arguments = ["--endpoint", &endpoint, "--source", "rig1", "--act-ms", "60", "--decodes", "240"];
        let subscriber = client(&python, "subscriber.py", &arguments);
        let movie = movie_of(&rig, 36, 32);
        let publisher = client(&python, "publisher.py", &["--endpoint", &rig.frames, "--movie", &movie]);
        let acted = subscriber.finish().code(0).out;
        let trusted: Vec<&str> = acted.lines().filter(|line| line.contains(" ok ")).collect();
        assert!(trusted.len() > 20, "{acted}");
        for line in &trusted {
            assert!(number_after(line, "published ") <= 500, "acted on an old decode: {line}");
        }
        // Eight seconds at 30 Hz: reading one after the other, it would be four seconds behind by now.
        let passed_over: u64 = trusted.iter().map(|line| number_after(line, "passed over ")).sum();
        assert!(passed_over > trusted.len() as u64 / 3, "{acted}");
        publisher.kill();
        daemon.kill();
    }
}

#[test]
fn a_controller_that_was_stopped_refuses_what_waited_meanwhile() {
    let Some(python) = python() else { return };
    let rig = Rig::new(cheap());
    let daemon = rig.daemon(&["--set", "publish.deadline_ms=500"]);
    let movie = movie_of(&rig, 36, 32);
    let mut subscriber = client(&python, "subscriber.py", &["--endpoint", &rig.decodes, "--neutral", "resting"]);
    let publisher = client(&python, "publisher.py", &["--endpoint", &rig.frames, "--movie", &movie]);
    subscriber.until_it_says(" ok lost 0 ");
    subscriber.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(1500));
    publisher.kill();
    daemon.kill();
    std::thread::sleep(Duration::from_millis(600));
    let before = subscriber.out().lines().count();
    subscriber.signal(Signal::CONT);
    subscriber.until_it_says("resting      ");
    std::thread::sleep(Duration::from_millis(300));
    let after: Vec<String> = subscriber.out().lines().skip(before + 1).map(str::to_owned).collect();
    assert!(after.iter().all(|line| line.starts_with("resting ")), "{after:?}");
    subscriber.kill();
}

#[test]
fn the_example_publisher_ends_only_when_its_last_frame_is_out() {
    let Some(python) = python() else { return };
    let rig = Rig::new(small());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let (movie, endpoint) = (movie(&rig, 36), rig.frames.as_str());
    let arguments = ["--push", "--endpoint", endpoint, "--movie", &movie, "--frames", "150", "--hz", "2000"];
    client(&python, "publisher.py", &arguments).finish().code(0);
    listener.until("the last decode", |m| m.kind == "decode" && m.number("frame") == 149);
    listener.assert_gapless_from_zero();
    assert_eq!(listener.decodes().len(), 150);
    daemon.kill();
}

/// pyzmq's guide, "Serializing messages with PyZMQ", numpy example; nothing of haltere in it.
const PYZMQ_RECIPE: &str = r#"
import sys, threading
import numpy, zmq

def send_array(socket, A, flags=0, copy=True, track=False):
    md = dict(dtype=str(A.dtype), shape=A.shape)
    socket.send_json(md, flags | zmq.SNDMORE)
    return socket.send(A, flags, copy=copy, track=track)

def recv_array(socket, flags=0, copy=True, track=False):
    md = socket.recv_json(flags=flags)
    msg = socket.recv(flags=flags, copy=copy, track=track)
    A = numpy.frombuffer(msg, dtype=md["dtype"])
    return A.reshape(md["shape"])

frames, decodes, movie = sys.argv[1:]
context = zmq.Context()
sub = context.socket(zmq.SUB)
sub.connect(decodes)
sub.subscribe(b"heartbeat/")
sub.recv_multipart()
sub.subscribe(b"decode/")
sub.unsubscribe(b"heartbeat/")
push = context.socket(zmq.PUSH)
push.bind(frames)
for frame in numpy.load(movie):
    send_array(push, frame)
for index in range(len(numpy.load(movie))):
    while True:
        topic = sub.recv()
        if topic.startswith(b"decode/"):
            break
        while sub.getsockopt(zmq.RCVMORE):
            sub.recv()
    embedding = recv_array(sub)
    assert embedding.dtype == numpy.float32 and embedding.shape == (128,), (embedding.dtype, embedding.shape)
    assert numpy.isfinite(embedding).all()
    print(embedding.tobytes().hex(), flush=True)
"#;

#[test]
fn pyzmqs_documented_recipe_sends_frames_and_receives_embeddings() {
    let Some(python) = python() else { return };
    let rig = Rig::new(small());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let movie = movie(&rig, 36);
    let said = inline(&python, PYZMQ_RECIPE, &rig, &[&movie]).finish().code(0).out;
    listener.until("the last decode", |m| m.kind == "decode" && m.number("seq") == 35);
    let heard: Vec<String> = listener.decodes().iter().map(|d| hexadecimal(&d.embedding)).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), heard, "python reads the very values that were sent");
    let numbers: Vec<u64> = listener.decodes().iter().map(|d| d.number("frame")).collect();
    assert_eq!(numbers, (0..36).collect::<Vec<u64>>(), "frames without numbers are counted");
    assert!(listener.decodes()[5].header.get("t_device_ns").is_none(), "no time is invented");
    daemon.kill();
}

fn hexadecimal(values: &[f32]) -> String {
    values.iter().flat_map(|v| v.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

/// What the NDPluginZMQ of areaDetector sends: sides with the fastest first, seconds since its epoch, attributes.
const AREA_DETECTOR: &str = r#"
import json, sys
import numpy, zmq

frames, decodes, movie, recipe = sys.argv[1:]
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.bind(frames)
for number, frame in enumerate(numpy.load(movie)[:, :52, :]):
    frame = numpy.ascontiguousarray(frame)
    header = {"dtype": "uint16", "shape": frame.shape}
    if recipe == "areaDetector":
        height, width = frame.shape
        header = {"htype": ["array-1.0"], "type": "uint16", "shape": [width, height], "frame": number,
                  "timeStamp": 1000.0 + number / 30.0, "encoding": "",
                  "ndattr": {"ColorMode": 0, "Gain": 2.5, "Comment": "two-photon"}}
    push.send_string(json.dumps(header), zmq.SNDMORE)
    push.send(frame.tobytes())
push.close()
context.term()
"#;

#[test]
fn area_detectors_header_means_the_same_frames() {
    let Some(python) = python() else { return };
    let embeddings = ["areaDetector", "plain"].map(|recipe| {
        let rig = Rig::new(small());
        let daemon = rig.daemon(&LOSSLESS);
        let mut listener = rig.listen();
        inline(&python, AREA_DETECTOR, &rig, &[&movie(&rig, 80), recipe]).finish().code(0);
        listener.until("the last decode", |m| m.kind == "decode" && m.number("frame") == 79);
        listener.assert_gapless_from_zero();
        if recipe == "areaDetector" {
            let time_ns = |index: usize| listener.decodes()[index].header["t_device_ns"].as_i64().unwrap();
            assert_eq!((time_ns(0), time_ns(30)), (1_000_000_000_000, 1_001_000_000_000));
            assert_eq!(listener.decodes()[79].quality(), "ok", "30 frames a second by its own times");
        }
        daemon.kill();
        listener.decodes().iter().map(|d| hexadecimal(&d.embedding)).collect::<Vec<_>>()
    });
    assert_eq!(embeddings[0].len(), 80);
    assert!(embeddings[0] == embeddings[1], "sides taken the other way round would be another picture");
    assert_ne!(embeddings[0][20], embeddings[0][35]);
}
