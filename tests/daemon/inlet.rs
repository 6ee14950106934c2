//! The inlet of a running daemon: marks with times, and the loop from a frame to an acknowledged pulse.
//!
//! Method: real processes over real sockets. The controller is a thread of this process: it hears decisions as any subscriber does, and
//! acknowledges each with a stamp of the machine's clock. What `haltere latency` says live is held against what it says of the recording.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use haltere::session::rows::Recorded;
use haltere::sys::clock::now_ns;
use serde_json::{Value, json};
use support::{Finished, LOSSLESS, Process, Rig, fly, haltere, model};

/// A rule that gives an output every 200 ms, 3 ms after its decision.
const RULE: [&str; 7] = [
    "when=light > 0.001",
    "repeat=true",
    "refractory_ms=200",
    "width_ms=5",
    "delay_ms=3",
    "armed=true",
    "quality=degraded",
];

fn push(endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.set_linger(0).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

/// Acknowledges every output, until it is told to end; returns how many.
fn controller(decodes: &str, inlet: &str, ended: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (socket, inlet, ended) = (zmq::Context::new().socket(zmq::SUB).unwrap(), push(inlet), ended.clone());
    socket.set_subscribe(b"decision/").unwrap();
    socket.set_rcvtimeo(50).unwrap();
    socket.connect(decodes).unwrap();
    std::thread::spawn(move || {
        let mut acknowledged = 0;
        while !ended.load(Relaxed) {
            let Ok(parts) = socket.recv_multipart(0) else { continue };
            let header: Value = serde_json::from_slice(&parts[1]).unwrap();
            if header["what"] == "output" {
                let due_ns = header["t_decided_ns"].as_u64().unwrap() + 3_000_000;
                std::thread::sleep(std::time::Duration::from_nanos(due_ns.saturating_sub(now_ns())));
                let said = json!({ "name": "pulse", "from": "controller", "timestamp_ns": now_ns(), "clock": "monotonic",
                                   "decision": header["seq"] });
                inlet.send(said.to_string().as_bytes(), 0).unwrap();
                acknowledged += 1;
            }
        }
        acknowledged
    })
}

fn latency(more: &[&str]) -> Finished {
    Process::start("latency", &mut haltere([&["latency", "--json"][..], more].concat())).finish()
}

fn stages(said: &Finished) -> Vec<Value> {
    let said: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    said["stages"].as_array().unwrap().clone()
}

#[test]
fn marks_come_in_with_their_times_and_a_decision_is_followed_to_its_acknowledgement() {
    let rig = Rig::new(model("inlet", &[0], 0));
    let (folder, inlet) = (rig.path("sessions"), format!("ipc://{}", rig.path("inlet").display()));
    let rule = RULE.map(|set| format!("decision.light.{set}"));
    let at = format!("inlet.endpoint={inlet}");
    let sets = rule.iter().chain([&at]).flat_map(|set| ["--set", set.as_str()]);
    let record = ["--once", "--record", folder.to_str().unwrap()];
    let daemon = rig.daemon(&record.into_iter().chain(LOSSLESS).chain(sets).collect::<Vec<_>>());
    let mut listener = rig.listen();
    let ended = Arc::new(AtomicBool::new(false));
    let controller = controller(&rig.decodes, &inlet, &ended);
    let picture = rig.path("loop.svg");
    let live = ["--endpoint", &rig.decodes, "--count", "5", "--out", picture.to_str().unwrap()];
    let live = Process::start("latency", &mut haltere([&["latency", "--json"][..], &live].concat()));
    let play = ["--push", "--rate", "30", "--loop", "0", "--frames", "300", "--series", "s1"];
    let play = rig.play(&[&fly("GC6s.tif")], &play);

    // A clock of its own, a quarter of an hour behind; and something that is no mark.
    listener.until("an acknowledgement", |m| m.is_event("inlet") && m.header["name"] == "pulse");
    let diode = push(&inlet);
    let happened = now_ns();
    let stamp = happened as i64 - 900_000_000_000;
    diode.send(json!({ "name": "flash", "from": "diode", "timestamp_ns": stamp }).to_string().as_bytes(), 0).unwrap();
    diode.send("{\"name\":7}", 0).unwrap();
    let flash = listener.until("the flash", |m| m.is_event("inlet") && m.header["name"] == "flash").header;
    assert_eq!((&flash["from"], &flash["timestamp_clock"]), (&"diode".into(), &"device".into()), "{flash}");
    assert!(flash["t_ns"].as_u64().unwrap().abs_diff(happened) < 2_000_000_000, "{flash}");
    assert!((flash["offset_ns"].as_i64().unwrap() - 900_000_000_000).abs() < 2_000_000_000, "{flash}");
    let counted = listener.until("the count", |m| m.kind == "status" && m.header["inlet"]["refused"] == 1).header;
    assert!(counted["inlet"]["received"].as_u64() >= Some(3) && counted["inlet"]["lost"] == 0, "{counted}");

    let live = live.finish().code(0);
    play.finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0);
    ended.store(true, Relaxed);
    let acknowledged = controller.join().unwrap();
    assert_loop(&stages(&live), 5);
    assert!(std::fs::read_to_string(picture).unwrap().contains("decision to acknowledgement"));
    assert_recorded(&rig, acknowledged);
}

/// Every stage is there, in order, and takes no time that it cannot take.
fn assert_loop(stages: &[Value], least: u64) {
    assert_eq!(stages.len(), 6, "{stages:?}");
    for stage in stages {
        let us = |key: &str| stage[key].as_f64().unwrap();
        assert!(stage["count"].as_u64() >= Some(least), "{stage}");
        assert!(us("p50_us") > 0.0 && us("p50_us") <= us("p999_us") && us("max_us") < 60e6, "{stage}");
    }
    // From the decision: to the pulse and back is more than back alone.
    assert!(stages[4]["p50_us"].as_f64() > stages[3]["p50_us"].as_f64(), "{stages:?}");
}

/// The session tells the same, its page shows it, and its replay is bit for bit what it was without an inlet.
fn assert_recorded(rig: &Rig, acknowledged: u64) {
    let session = std::fs::read_dir(rig.path("sessions")).unwrap().next().unwrap().unwrap().path();
    let (name, page) = (session.to_str().unwrap(), rig.path("page.html"));
    let recorded = Recorded::read(&session).unwrap();
    let flash = recorded.marks.iter().find(|mark| mark.text == "flash").unwrap();
    let of_flash = flash.inlet.unwrap();
    assert_eq!((of_flash.from.as_str(), of_flash.timestamp_ns.is_some()), ("diode", true));
    let pulses = recorded.marks.iter().filter(|mark| mark.text == "pulse").count() as u64;
    assert!(
        pulses <= acknowledged && pulses + 2 >= acknowledged,
        "{pulses} of {acknowledged}: the last come as it ends"
    );
    assert_loop(&stages(&latency(&[name]).code(0)), pulses);
    let run = |arguments: &[&str]| Process::start("haltere", &mut haltere(arguments)).finish();
    run(&["report", name, "--out", page.to_str().unwrap()]);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("flash (from diode)") && html.contains("decision to acknowledgement"), "the page");
    run(&["diff", name]).code(0);
}
