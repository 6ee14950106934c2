//! What subscribers are told when something dies, stops or is late: a stale decode must never look fresh.
//!
//! Method: real processes are killed, interrupted and flooded; a subscriber of the test's own hears what a stimulus
//! controller would hear. Waits are generous, silence is listened for over several heartbeat periods, no speed is asserted.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use support::{LOSSLESS, Listener, Message, Microscope, Process, Rig, fly, small, wait_for};

/// Long enough that a busy machine does not miss it by itself; the heartbeat comes every 100 ms.
const DEADLINE: [&str; 4] = ["--set", "publish.deadline_ms=1500", "--set", "publish.heartbeat_ms=100"];
/// Heartbeats that would have come meanwhile: ten.
const SILENCE: Duration = Duration::from_millis(1000);

/// A microscope that goes on until it is killed, and the first decode of it that may be believed.
fn play_until_trusted(rig: &Rig, listener: &mut Listener) -> Process {
    let play = rig.play(&[&fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
    listener.until("a decode to be trusted", |m| m.kind == "decode" && m.quality() == "ok");
    play
}

fn assert_silent(listener: &mut Listener) {
    let heard = listener.during(SILENCE);
    let signs: Vec<&Message> = heard.iter().filter(|m| matches!(m.kind.as_str(), "heartbeat" | "decode")).collect();
    assert!(signs.is_empty(), "after the neutral decode there is silence, but there came {signs:?}");
}

#[test]
fn a_killed_microscope_brings_one_neutral_decode_then_silence_and_a_new_one_ends_it() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&DEADLINE);
    let mut listener = rig.listen();
    play_until_trusted(&rig, &mut listener).kill();
    let stale = listener.until("the event of silence", |m| m.is_event("stale"));
    assert!(stale.number("age_ms") >= 1500, "{}", stale.header);
    let decodes = listener.decodes();
    let (last, before) = (decodes[decodes.len() - 1], decodes[decodes.len() - 2]);
    last.assert_neutral("stale", "no_frame");
    assert_eq!(last.number("frame"), before.number("frame"), "it names the last frame");
    assert_silent(&mut listener);

    let play = play_until_trusted_again(&rig, &mut listener);
    let heartbeat = listener.until("the heartbeat again", |m| m.kind == "heartbeat");
    assert_eq!(heartbeat.quality(), "ok");
    listener.assert_gapless_from_zero();
    assert!(rig.status()["stale"].as_u64().unwrap() >= 1);
    play.kill();
    daemon.kill();
}

/// The next microscope: the silence is ended by its first frame, and said to be.
fn play_until_trusted_again(rig: &Rig, listener: &mut Listener) -> Process {
    let play = rig.play(&[&fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
    let recovered = listener.until("the event of recovery", |m| m.is_event("recovered"));
    let first = listener.until("a decode", |m| m.kind == "decode");
    assert_eq!(first.number("frame"), recovered.number("frame"));
    assert!(!matches!(first.quality(), "stale" | "fail"), "{}", first.header);
    listener.until("a decode to be trusted", |m| m.kind == "decode" && m.quality() == "ok");
    play
}

#[test]
fn an_interrupted_daemon_says_so_once_publishes_the_neutral_action_and_leaves_with_zero() {
    for signal in [Signal::INT, Signal::TERM] {
        let rig = Rig::new(small());
        let daemon = rig.daemon(&DEADLINE);
        let mut listener = rig.listen();
        let play = play_until_trusted(&rig, &mut listener);
        daemon.signal(signal);
        listener.until("the event of the end", |m| m.is_event("shutdown"));
        daemon.finish().code(0).says(&["shutting down", "latency, µs"]);
        listener.decodes().last().unwrap().assert_neutral("fail", "shutdown");
        assert_silent(&mut listener);
        assert_eq!(listener.heard.iter().filter(|m| m.is_event("shutdown")).count(), 1);
        let status = listener.heard.iter().rfind(|m| m.kind == "status").unwrap();
        assert_eq!(status.quality(), "fail", "the last status says that it is over");
        listener.assert_gapless_from_zero();
        play.kill();
    }
}

#[test]
fn a_sender_that_falls_silent_without_its_last_word_ends_a_run_that_waits_for_it_and_is_told() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&[&["--once", "--silence", "2"][..], &LOSSLESS].concat());
    let mut listener = rig.listen();
    // Silence before the first frame is no silence: a microscope may be armed for hours.
    listener.during(Duration::from_millis(3000));
    let microscope = Microscope::new(&rig.frames);
    for frame in 0..10 {
        microscope.send(&[64, 64], &json!({ "frame": frame }), |i| i as u16);
    }
    let missing = listener.until("the event", |m| m.is_event("end_missing"));
    assert!(missing.number("silent_s") >= 2, "{}", missing.header);
    let done = daemon.finish().code(6).says(&["silent for", "end message never arrived", "--silence"]);
    assert!(done.err.contains("10"), "the summary is there all the same: {}", done.err);
    assert!(listener.decodes().iter().filter(|d| d.quality() != "fail").count() == 10);
    let refused = Process::start("run", &mut rig.command(&["--silence", "2"])).finish().code(2);
    assert!(refused.err.contains("--once"), "{}", refused.err);
}

#[test]
fn a_killed_daemon_is_called_silent_by_watch_and_a_new_one_is_noticed() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&[]);
    let mut watch = rig.watch(&[]);
    let mut listener = rig.listen();
    let play = play_until_trusted(&rig, &mut listener);
    watch.until_it_says("shift");
    daemon.kill();
    watch.until_it_says("DAEMON SILENT");
    let daemon = rig.daemon(&[]);
    watch.until_it_says("the daemon is back");
    watch.until_it_says("the daemon restarted");
    watch.signal(Signal::INT);
    let table = watch.finish().code(0).out;
    assert!(table.contains("1 restart(s)") && !table.contains(" 0 silence(s)"), "{table}");
    play.kill();
    daemon.kill();
}

#[test]
fn a_subscriber_that_never_reads_costs_another_one_no_decode() {
    const FRAMES: u64 = 1200;
    let rig = Rig::new(small());
    let daemon = rig.daemon(&[&["--once"][..], &LOSSLESS, &["--set", "publish.hwm=200"]].concat());
    let dead = zmq::Context::new().socket(zmq::SUB).unwrap();
    dead.set_rcvhwm(1).unwrap();
    dead.set_rcvbuf(4096).unwrap();
    dead.set_subscribe(b"decode/").unwrap();
    dead.connect(&rig.decodes).unwrap();
    let mut listener = rig.listen();
    let count = FRAMES.to_string();
    let play = ["--push", "--rate", "300", "--loop", "0", "--frames", &count];
    rig.play(&[&fly("GC6s.tif")], &play).finish().code(0);
    listener.until("the end", |m| m.is_event("shutdown"));
    daemon.finish().code(0);
    listener.assert_gapless_from_zero();
    assert_eq!(listener.decodes().len() as u64, FRAMES + 1, "whoever reads gets every decode");
    let mut late = 0;
    while dead.poll(zmq::POLLIN, 200).unwrap() > 0 {
        dead.recv_multipart(0).unwrap();
        late += 1;
    }
    assert!(late > 0, "it was connected");
    assert!(late < FRAMES, "and it had been full: it got {late}");
}

#[test]
fn frames_decoded_too_late_are_stale_with_the_neutral_action_and_no_embedding() {
    let rig = Rig::new(small());
    // Every frame is decoded, from a long queue, and 20 ms after its receipt it is too old.
    let late = ["lane.overload=wait", "lane.depth_frames=1024", "publish.deadline_ms=20", "publish.heartbeat_ms=10"];
    let mut more =
        vec!["--once", "--set", "source.pattern=pull", "--set", "source.hwm=10000", "--set", "publish.hwm=10000"];
    late.iter().for_each(|setting| more.extend(["--set", setting]));
    let daemon = rig.daemon(&more);
    let mut listener = rig.listen();
    rig.play(&[&fly("GC6s.tif")], &["--push", "--flood", "--loop", "100"]).finish().code(0);
    listener.until("the end", |m| m.is_event("shutdown"));
    daemon.finish().code(0);
    listener.assert_gapless_from_zero();
    let decodes = listener.decodes();
    let framed: Vec<&&Message> = decodes.iter().filter(|d| d.header.get("latency_us").is_some()).collect();
    assert_eq!(framed.len(), 1000);
    let too_late = framed.iter().filter(|d| d.header["latency_us"]["total"].as_f64().unwrap() > 20_000.0);
    for decode in too_late.clone() {
        decode.assert_neutral("stale", "late");
    }
    assert!(too_late.count() > 0, "a thousand frames were decoded within 20 ms");
    let in_time = framed.iter().filter(|d| d.header["age_us"].as_f64().unwrap() < 19_999.0);
    in_time.for_each(|d| assert_ne!(d.quality(), "stale", "{}", d.header));
}

#[test]
fn a_second_interrupt_leaves_at_once_with_130() {
    let attempt = || {
        let rig = Rig::new(small());
        let daemon = rig.daemon(&[]);
        daemon.signal(Signal::STOP);
        // While it is stopped both wait for it; a pending signal is delivered once, so the two must differ.
        daemon.signal(Signal::INT);
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::CONT);
        daemon.finish().code
    };
    // Two threads may take the two at the same moment, each before the other has said so: then they count as one.
    let codes: Vec<Option<i32>> = std::iter::repeat_with(attempt).take(5).collect();
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 130))) && codes.contains(&Some(130)), "{codes:?}");
}

#[test]
fn the_heart_beats_before_the_first_frame_and_says_warmup() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&[]);
    let mut listener = rig.listen();
    for _ in 0..3 {
        let heartbeat = listener.until("a heartbeat", |m| m.kind == "heartbeat");
        assert_eq!((heartbeat.source.as_str(), heartbeat.quality()), ("rig1", "warmup"));
        assert_eq!((heartbeat.number("deadline_ms"), heartbeat.number("period_ms")), (250, 100));
    }
    assert!(listener.decodes().is_empty());
    let asked = wait_for("a status", || Some(rig.status()));
    assert_eq!(asked["received"], 0);
    let status = listener.until("a status", |m| m.kind == "status");
    assert_eq!(status.number("deadline_ms"), 250, "the same number");
    daemon.kill();
    // The deadline is one number, and two heartbeats fit into it whatever their period is set to.
    let rig = Rig::new(small());
    let daemon = rig.daemon(&["--set", "publish.deadline_ms=120", "--set", "publish.heartbeat_ms=120"]);
    let heartbeat = Listener::new(&rig.decodes).until("a heartbeat", |m| m.kind == "heartbeat");
    assert_eq!((heartbeat.number("deadline_ms"), heartbeat.number("period_ms")), (120, 60));
    daemon.kill();
}
