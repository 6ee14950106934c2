//! A rehearsal: everything that a controller may meet, and every message of it says what it is.
//!
//! Method: `haltere rehearse` as a process speaks to a subscriber of the test's own, to `haltere watch` and to the example controller.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::Path;
use std::process::Command;

use super::clients::python;
use support::{Listener, Message, Process, Rig, haltere};

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml")
}

/// A rule whose output lasts longer than any scene.
const RULE: [&str; 3] = ["when=confidence > 0.5", "width_ms=60000", "repeat=true"];

fn rehearse(rig: &Rig, seconds: &str, what: &[&str]) -> Process {
    let rule = RULE.map(|set| format!("decision.light.{set}"));
    let endpoint = format!("publish.endpoint={}", rig.decodes);
    let mut command = haltere(["rehearse", "--seconds", seconds, "--model"]);
    command.arg(shipped()).args([
        "--set",
        &endpoint,
        "--set",
        "publish.deadline_ms=400",
        "--set",
        "publish.heartbeat_ms=100",
    ]);
    for set in &rule {
        command.args(["--set", set]);
    }
    Process::start("rehearse", command.args(what))
}

fn plays(message: &Message, what: &str) -> bool {
    message.header["rehearsal"] == what
}

/// Nothing in it may be acted upon.
fn assert_neutral(decode: &Message, quality: &str, reason: &str) {
    let header = &decode.header;
    assert_eq!((decode.quality(), &header["reason"], &header["action"]), (quality, &reason.into(), &"neutral".into()));
    assert!(header.get("probs").is_none() && decode.embedding.iter().all(|value| *value == 0.0), "{header}");
}

#[test]
fn each_scene_says_what_the_daemon_would_say_and_that_it_is_a_rehearsal() {
    let rig = Rig::over_tcp(shipped());
    let mut listener = Listener::new(&rig.decodes);
    let watch = rig.watch(&["--seconds", "60"]);
    let scenes = ["late", "stale", "silent", "swapped", "novel", "degraded", "faulty", "restarted"];
    let rehearsal = rehearse(&rig, "2", &scenes);
    let decode = |m: &Message, what: &str| m.kind == "decode" && plays(m, what);
    let ok = listener.until("a decode", |m| decode(m, "ok"));
    assert!(ok.quality() == "ok" && ok.header["confidence"].as_f64() > Some(0.8), "{}", ok.header);
    assert_neutral(&listener.until("late", |m| decode(m, "late") && m.header["reason"] == "late"), "stale", "late");
    assert_neutral(&listener.until("stale", |m| decode(m, "stale") && m.header["reason"] == "aged"), "stale", "aged");
    listener
        .until("the output's end", |m| m.kind == "decision" && m.header["reason"] == "no_frame" && plays(m, "silent"));
    listener.until("silence", |m| m.is_event("stale") && plays(m, "silent"));
    let swapped = listener.until("another model", |m| decode(m, "swapped"));
    assert_eq!(swapped.header["model"]["generation"], 2);
    listener.until("novelty", |m| decode(m, "novel") && m.header["novelty"].as_f64() > Some(0.99));
    listener.until("doubt", |m| decode(m, "degraded") && m.quality() == "degraded");
    assert_neutral(&listener.until("the fault", |m| decode(m, "faulty") && m.quality() == "fail"), "fail", "compute");
    let again = listener.until("numbers that begin anew", |m| decode(m, "restarted"));
    assert_eq!(again.quality(), "warmup", "{}", again.header);
    listener.until("the end", |m| m.kind == "decode" && m.header["reason"] == "shutdown");
    let said = rehearsal.finish().code(0).out;
    assert!(scenes.iter().all(|scene| said.contains(scene)), "{said}");
    assert!(listener.heard.iter().all(|m| m.header["rehearsal"].is_string()), "a message that does not say so");
    let kinds: std::collections::BTreeSet<_> = listener.heard.iter().map(|m| m.kind.as_str()).collect();
    assert_eq!(kinds, ["decision", "decode", "event", "heartbeat", "status"].into());
    let watched = watch.out();
    assert!(watched.contains("REHEARSAL: late") && watched.contains("REHEARSAL: silent"), "{watched}");
    watch.kill();
}

#[test]
fn the_example_controller_ends_its_pulse_in_every_scene_that_asks_for_it_and_says_that_it_is_rehearsed() {
    let Some(python) = python() else { return };
    let rig = Rig::over_tcp(shipped());
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients.join("controller.py"));
    let mut controller =
        Process::start("controller.py", command.args(["--endpoint", &rig.decodes, "--source", "rig1"]));
    let rehearsal = rehearse(&rig, "6", &["silent"]);
    controller.until_it_says("REHEARSAL ok");
    controller.until_it_says("light on");
    controller.until_it_says("REHEARSAL silent");
    controller.until_it_says("light off");
    rehearsal.finish().code(0);
    controller.kill();
}

/// Waits for the daemon's word that the rehearsal is over, then for a decode that says nothing of one.
fn until_over(listener: &mut Listener) {
    let over = listener.until("the end of it", |m| m.is_event("rehearsal_over"));
    assert!(over.header["rehearsal"].is_string(), "{}", over.header);
    listener.until("a decode that is meant", |m| {
        m.kind == "decode" && m.header["quality"] == "ok" && !m.header["rehearsal"].is_string()
    });
}

#[test]
fn a_running_daemon_rehearses_with_its_own_decodes_if_it_may_and_records_the_truth() {
    let rig = Rig::over_tcp(shipped());
    let folder = rig.path("sessions");
    let rules = RULE.map(|set| format!("decision.light.{set}"));
    let mut sets = vec!["--once", "--record", folder.to_str().unwrap(), "--set", "publish.deadline_ms=3000"];
    sets.extend(["--set", "publish.heartbeat_ms=100", "--set", "decision.light.armed=true"]);
    rules.iter().for_each(|set| sets.extend(["--set", set]));
    let refused = rig.daemon(&sets[3..]);
    assert!(rig.control(&["rehearse", "silent"]).code(1).out.contains("control.rehearse"));
    refused.kill();

    sets.extend(["--set", "control.rehearse=true", "--set", "source.pattern=pull", "--set", "lane.overload=wait"]);
    let daemon = rig.daemon(&sets);
    let mut listener = rig.listen();
    let play = rig.play(&[Path::new("sim:seed=9001,animal=2,trial=3,seconds=90")], &["--rate", "16", "--push"]);
    listener.until("an output", |m| m.kind == "decision" && m.header["what"] == "output");
    let ask = |words: &[&str]| rig.control(&[&["rehearse"], words].concat()).code(0);

    ask(&["silent", "8"]);
    let ended = listener.until("the output's end", |m| m.kind == "decision" && m.header["what"] == "ended");
    assert!(ended.header["reason"] == "no_frame" && plays(&ended, "silent"), "{}", ended.header);
    assert_neutral(&listener.until("silence", |m| m.kind == "decode" && m.quality() == "stale"), "stale", "no_frame");
    until_over(&mut listener);
    ask(&["late", "2"]);
    assert_neutral(&listener.until("late", |m| m.kind == "decode" && plays(m, "late")), "stale", "late");
    until_over(&mut listener);
    ask(&["degraded", "60"]);
    listener.until("doubt", |m| m.kind == "decode" && plays(m, "degraded") && m.quality() == "degraded");
    ask(&["off"]);
    until_over(&mut listener);
    ask(&["swapped", "2"]);
    listener.until("another model", |m| m.kind == "decode" && m.header["model"]["generation"] == 2);
    until_over(&mut listener);
    ask(&["restarted", "6"]);
    let again = listener.until("numbers that begin anew", |m| m.kind == "decode" && plays(m, "restarted"));
    assert!(again.quality() == "warmup" && again.number("seq") == 0, "{}", again.header);
    until_over(&mut listener);
    ask(&["faulty", "2"]);
    assert_neutral(&listener.until("the fault", |m| m.kind == "decode" && plays(m, "faulty")), "fail", "compute");
    until_over(&mut listener);

    play.finish().code(0);
    daemon.finish().code(0);
    let session = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let difference = Process::start("diff", &mut haltere(["diff", "--json", session.to_str().unwrap()])).finish();
    let difference: serde_json::Value = serde_json::from_str(&difference.code(0).out).unwrap();
    assert_eq!(
        (&difference["identical"], &difference["decisions_differ"]),
        (&difference["frames"], &0.into()),
        "{difference}"
    );
}
