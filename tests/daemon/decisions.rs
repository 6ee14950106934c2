//! Rules of a running daemon: what a stimulus controller hears, what the operator switches, and that a replay decides the same.
//!
//! Method: real processes over real sockets. The rule holds on every decode that counts, so that what is tested are its limits, its switches and
//! the fail-safe, not the decoder.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use support::{LOSSLESS, Listener, Message, Process, Rig, fly, haltere, model};

/// Enough of a deadline for a busy machine.
const DEADLINE: [&str; 4] = ["--set", "publish.deadline_ms=1500", "--set", "publish.heartbeat_ms=100"];

/// A rule that decides every 200 ms.
const RULE: [&str; 14] = [
    "--set",
    "decision.light.when=light > 0.001 and shift_peak > 0.001",
    "--set",
    "decision.light.repeat=true",
    "--set",
    "decision.light.refractory_ms=200",
    "--set",
    "decision.light.width_ms=5",
    "--set",
    "decision.light.jitter_ms=20",
    "--set",
    "decision.light.sham_percent=30",
    "--set",
    "decision.light.quality=degraded",
];

fn is_decision(message: &Message, what: &str) -> bool {
    message.kind == "decision" && message.header["what"] == what
}

fn decisions(listener: &Listener) -> Vec<&Message> {
    listener.heard.iter().filter(|message| message.kind == "decision").collect()
}

fn session_in(folder: &Path) -> PathBuf {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

fn diff(session: &Path, more: &[&str]) -> (i32, Value) {
    let command = ["diff", "--json", session.to_str().unwrap()];
    let done = Process::start("diff", &mut haltere([&command[..], more].concat())).finish();
    (done.code.unwrap(), serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.err)))
}

#[test]
fn decisions_are_published_before_their_decode_recorded_and_made_again_by_a_replay() {
    let rig = Rig::new(model("rules_recorded", &[0], 0));
    let folder = rig.path("sessions");
    let record = ["--once", "--record", folder.to_str().unwrap()];
    let daemon = rig.daemon(&[&record[..], &LOSSLESS, &RULE].concat());
    let mut listener = rig.listen();
    let play = ["--push", "--rate", "30", "--loop", "0", "--frames", "300", "--series", "s1"];
    let play = rig.play(&[&fly("GC6s.tif")], &play);
    let disarmed = listener.until("a decision without output", |m| is_decision(m, "withheld"));
    assert_eq!((&disarmed.header["reason"], &disarmed.header["armed"]), (&"disarmed".into(), &false.into()));
    rig.control(&["decision", "light", "arm"]).code(0);
    listener.until("the event", |m| m.is_event("decision_switched") && m.header["what"] == "arm");
    let output = listener.until("an output", |m| is_decision(m, "output"));
    let header = &output.header;
    assert_eq!(
        (&header["name"], &header["decided"], &header["armed"]),
        (&"light".into(), &"output".into(), &true.into())
    );
    assert!(header["cause"]["light"].as_f64().unwrap() > 0.001 && header["cause"]["shift_peak"].is_f64(), "{header}");
    assert!((0.0..20.0).contains(&header["train"]["delay_ms"].as_f64().unwrap()), "{header}");
    let decode = listener.until("its decode", |m| m.kind == "decode" && m.header["frame"] == header["frame"]);
    assert_eq!(decode.header["seq"], header["decode_seq"]);
    listener.until("a sham trial", |m| is_decision(m, "withheld") && m.header["reason"] == "sham");
    let status = &rig.status()["decisions"]["light"];
    assert!(status["armed"] == true && status["outputs"].as_u64() >= Some(1), "{status}");
    play.finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0);
    let heard = decisions(&listener);
    assert!(heard.iter().map(|m| m.number("seq")).eq(0..heard.len() as u64), "no message is missing");

    let session = session_in(&folder);
    let (code, difference) = diff(&session, &[]);
    let made = heard.iter().filter(|m| m.header["what"] != "ended").count() as u64;
    assert_eq!((code, &difference["decisions_differ"]), (0, &0.into()), "{difference}");
    assert_eq!(difference["decisions"], serde_json::json!([made, made]), "{difference}");
    assert_decided_offline(&rig, &session, made);
    assert_reported(&rig, &session);
    let (code, other) = diff(&session, &["--set", "decision.light.refractory_ms=300"]);
    assert!(code == 10 && other["identical"] == other["frames"], "{other}");
    assert!(other["decisions_differ"].as_u64() > Some(3), "{other}");
}

/// The report draws, counts and lists them.
fn assert_reported(rig: &Rig, session: &Path) {
    let page = rig.path("report.html");
    let command = ["report", session.to_str().unwrap(), "--out", page.to_str().unwrap()];
    let said = Process::start("report", &mut haltere(command)).finish();
    assert!([Some(0), Some(10)].contains(&said.code), "{}", said.err);
    let html = std::fs::read_to_string(&page).unwrap();
    for words in ["Decisions by rule", "Decisions one by one", "sham trial", "shift_peak = 0.", "disarmed"] {
        assert!(html.contains(words), "{words:?} is not in the report");
    }
    if let Some(kept) = std::env::var_os("HALTERE_REPORT") {
        std::fs::copy(&page, kept).unwrap();
    }
}

/// `haltere decide` makes the same decisions of the recorded decodes, and holds them against labels.
fn assert_decided_offline(rig: &Rig, session: &Path, made: u64) {
    let decide = |more: &[&str]| {
        let command = ["decide", session.to_str().unwrap()];
        Process::start("decide", &mut haltere([&command[..], more].concat())).finish()
    };
    let verdict =
        |more: &[&str]| -> Value { serde_json::from_str(&decide(&[more, &["--json"]].concat()).code(0).out).unwrap() };
    let own = verdict(&[]);
    assert_eq!((&own["rules"][0]["name"], &own["rules"][0]["decisions"]), (&"light".into(), &made.into()), "{own}");
    assert!(own["rules"][0]["score"].is_null(), "{own}");
    let (labels, picture) = (rig.path("labels.csv"), rig.path("decisions.svg"));
    let rows: String =
        (0..300).map(|n| format!("{n},{}\n", if (100..200).contains(&n) { "lit" } else { "dark" })).collect();
    std::fs::write(&labels, format!("frame,label\n{rows}")).unwrap();
    let scored = ["--labels", labels.to_str().unwrap(), "--target", "light=lit", "--out", picture.to_str().unwrap()];
    let score = &verdict(&scored)["rules"][0]["score"];
    assert_eq!((&score["bouts"], &score["hits"], &score["missed"]), (&1.into(), &1.into(), &0.into()), "{score}");
    assert!(score["false_alarms"].as_u64() > Some(5) && score["latency_s"][0].as_f64() < Some(0.25), "{score}");
    assert!(std::fs::read_to_string(&picture).unwrap().starts_with("<svg "));
    let table = decide(&scored).code(0).out;
    assert!(table.contains("bouts          1 of lit") && table.contains("per minute"), "{table}");
    let stricter = verdict(&["--set", "decision.light.at_most=3 in 60 s"]);
    assert_eq!(stricter["rules"][0]["outputs"].as_u64().max(Some(3)), Some(3), "{stricter}");
    decide(&["--set", "decision.light.when=p(x) > 0.5"]).code(3).says(&["names the action \"x\""]);
}

#[test]
fn an_output_that_goes_on_is_ended_by_the_operator_by_silence_and_by_the_end() {
    let rig = Rig::new(model("rules_ended", &[0], 0));
    let long = ["--set", "decision.light.width_ms=60000", "--set", "decision.light.armed=true"];
    let unmixed = ["--set", "decision.light.sham_percent=0"];
    let daemon = rig.daemon(&[&DEADLINE[..], &RULE, &long, &unmixed].concat());
    let mut listener = rig.listen();
    let microscope = |rig: &Rig| rig.play(&[&fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
    let play = microscope(&rig);
    let first = listener.until("an output", |m| is_decision(m, "output"));
    rig.control(&["decision", "light", "disarm"]).code(0);
    let ended = listener.until("its end", |m| is_decision(m, "ended"));
    assert_eq!((ended.number("number"), &ended.header["reason"]), (first.number("number"), &"disarmed".into()));
    // The next one: its refractory time is a minute by the frames' own stamps, so a new daemon is as good.
    play.kill();
    daemon.kill();

    let daemon = rig.daemon(&[&DEADLINE[..], &RULE, &long, &unmixed].concat());
    let mut listener = rig.listen();
    let play = microscope(&rig);
    listener.until("an output", |m| is_decision(m, "output"));
    play.kill();
    let ended = listener.until("its end", |m| is_decision(m, "ended"));
    assert_eq!(ended.header["reason"], "no_frame");
    let order: Vec<&str> = listener.heard.iter().rev().take(40).map(|m| m.kind.as_str()).collect();
    assert!(order.contains(&"decision"), "{order:?}");
    let refused = rig.control(&["decision", "dark", "arm"]).code(1).out;
    assert!(refused.contains("there is no rule \\\"dark\\\"; rules are light"), "{refused}");
    let refused = rig.control(&["decision", "light", "fire"]).code(1).out;
    assert!(refused.contains("write on, off, arm or disarm"), "{refused}");
    daemon.kill();
}

/// Edges on a line: time, ns, and level.
fn edges(file: &Path) -> Vec<(u64, u8)> {
    let text = std::fs::read_to_string(file).unwrap();
    let edge = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].parse().unwrap(), words[2].parse().unwrap())
    };
    text.lines().map(edge).collect()
}

#[test]
fn a_line_is_on_during_each_pulse_and_dropped_when_frames_end_and_when_the_daemon_does() {
    let rig = Rig::new(model("rules_ttl", &[0], 0));
    let line = rig.path("line");
    std::fs::write(&line, "").unwrap();
    let device = format!("ttl.device={}", line.display());
    let lines = ["--set", &device, "--set", "ttl.lines=light=rts", "--set", "decision.light.armed=true"];
    let unmixed = ["--set", "decision.light.sham_percent=0", "--set", "decision.light.quality=degraded"];
    let pulses = ["--set", "decision.light.count=2", "--set", "decision.light.period_ms=20"];
    let daemon = rig.daemon(&[&DEADLINE[..], &RULE, &lines, &unmixed, &pulses].concat());
    let mut listener = rig.listen();
    let microscope = || rig.play(&[&fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
    let play = microscope();
    for _ in 0..5 {
        listener.until("an output", |m| is_decision(m, "output"));
    }
    play.kill();
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
    let found = edges(&line);
    assert!(found.len() > 12 && found[0].1 == 0, "{found:?}");
    assert!(found.windows(2).skip(1).all(|pair| pair[0].1 != pair[1].1), "{found:?}");
    assert_eq!(found.last().unwrap().1, 0);

    // One that would last for a minute.
    let long = ["--set", "decision.light.width_ms=60000"];
    let daemon = rig.daemon(&[&DEADLINE[..], &RULE, &lines, &unmixed, &long].concat());
    let mut listener = rig.listen();
    let play = microscope();
    listener.until("an output", |m| is_decision(m, "output"));
    play.kill();
    let ended = listener.until("its end", |m| is_decision(m, "ended"));
    assert_eq!(ended.header["reason"], "no_frame");
    listener.until("a status", |m| m.kind == "status" && m.header["ttl"]["edges"].as_u64() >= Some(2));
    let (at_ns, level) = *edges(&line).last().unwrap();
    assert!(level == 0 && at_ns < ended.number("t_pub_ns") + 100_000_000, "{at_ns} {level}");
    daemon.kill();
}

/// Outputs and when their pulse began, s since the first decode, as the frames' own times tell.
fn given(listener: &Listener) -> Vec<(f64, &Message)> {
    let time = |m: &Message| m.header["t_device_ns"].as_f64().or(m.header["t_recv_ns"].as_f64()).unwrap() / 1e9;
    let first = listener.heard.iter().find(|m| m.kind == "decode" && m.header["frame"].is_u64()).unwrap();
    let delay = |m: &Message| m.header["train"]["delay_ms"].as_f64().unwrap() / 1e3;
    let outputs = listener.heard.iter().filter(|m| is_decision(m, "output"));
    outputs.map(|m| (time(m) - time(first) + delay(m), m)).collect()
}

/// A recorded session of 300 frames with these rules, and what was heard.
fn recorded(rig: &Rig, folder: &str, rules: &[&str]) -> (PathBuf, Listener) {
    let folder = rig.path(folder);
    let record = ["--once", "--record", folder.to_str().unwrap(), "--set", "decision.light.armed=true"];
    let daemon = rig.daemon(&[&record[..], &LOSSLESS, rules].concat());
    let mut listener = rig.listen();
    let play = ["--push", "--rate", "30", "--loop", "0", "--frames", "300", "--series", "s1"];
    let play = rig.play(&[&fly("GC6s.tif")], &play);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    play.finish().code(0);
    daemon.finish().code(0);
    (session_in(&folder), listener)
}

#[test]
fn an_animal_gets_the_outputs_of_another_one_at_their_times_within_its_own_limits() {
    let rig = Rig::new(model("rules_yoked", &[0], 0));
    let (session, listener) = recorded(&rig, "first", &RULE);
    let first: Vec<f64> = given(&listener).iter().map(|(at_s, _)| *at_s).collect();
    assert!(first.len() > 5, "{first:?}");
    let table = rig.path("light.csv");
    let yoke = format!("light={}", table.display());
    let command = ["decide", session.to_str().unwrap(), "--yoke", &yoke];
    Process::start("decide", &mut haltere(command)).finish().code(0);
    assert_eq!(std::fs::read_to_string(&table).unwrap().lines().count(), first.len() + 1);
    let nothing = ["decide", session.to_str().unwrap(), "--yoke", "dark=x.csv"];
    Process::start("decide", &mut haltere(nothing)).finish().code(6).says(&["gave no output in this session"]);

    // A condition that never holds, and a dose for all but the last of them.
    let yoke = format!("decision.light.yoke={}", table.display());
    let dose = format!("decision.light.dose_session_ms={}", 5 * (first.len() - 1));
    let never = ["--set", "decision.light.when=light > 1e9", "--set", "decision.light.width_ms=5"];
    let (session, listener) = recorded(&rig, "second", &[&never[..], &["--set", &yoke, "--set", &dose]].concat());
    let second = given(&listener);
    assert_eq!(second.len(), first.len() - 1, "{first:?}");
    for (number, ((at_s, output), expected_s)) in (1..).zip(second.iter().zip(&first)) {
        assert!((at_s - expected_s).abs() < 0.04, "{at_s} instead of {expected_s}");
        assert!(output.header["yoked"] == number && output.header["cause"]["light"].is_f64(), "{}", output.header);
    }
    let refused = listener.heard.iter().find(|m| is_decision(m, "withheld")).unwrap();
    assert_eq!((&refused.header["reason"], &refused.header["yoked"]), (&"dose_session".into(), &first.len().into()));
    std::fs::remove_file(&table).unwrap();
    let (code, difference) = diff(&session, &[]);
    assert_eq!((code, &difference["decisions_differ"]), (0, &0.into()), "{difference}");
    let (page, out) = (rig.path("report.html"), session.to_str().unwrap());
    Process::start("report", &mut haltere(["report", out, "--out", page.to_str().unwrap()])).finish();
    assert!(std::fs::read_to_string(&page).unwrap().contains("output, yoked to 1"));
}

#[test]
fn a_yoked_output_ends_when_frames_do() {
    let rig = Rig::new(model("rules_yoked_silent", &[0], 0));
    let table = rig.path("light.csv");
    // The first ones are missed during the warm-up.
    let times: String = (1..100).map(|s| format!("{s}\n")).collect();
    std::fs::write(&table, format!("time_s\n{times}")).unwrap();
    let yoke = format!("decision.light.yoke={}", table.display());
    let rule = ["--set", &yoke, "--set", "decision.light.armed=true", "--set", "decision.light.width_ms=60000"];
    let daemon = rig.daemon(&[&DEADLINE[..], &rule].concat());
    let mut listener = rig.listen();
    let play = rig.play(&[&fly("GC6s.tif")], &["--rate", "30", "--loop", "0"]);
    let output = listener.until("an output", |m| is_decision(m, "output"));
    play.kill();
    let ended = listener.until("its end", |m| is_decision(m, "ended"));
    assert_eq!((ended.number("number"), &ended.header["reason"]), (output.number("number"), &"no_frame".into()));
    assert!(output.header["yoked"].is_u64() && output.header["cause"] == serde_json::json!({}), "{}", output.header);
    daemon.kill();
}

#[test]
fn a_rule_that_does_not_fit_the_model_ends_the_start_before_anything_is_opened() {
    let rig = Rig::new(model("rules_refused", &[0], 0));
    let rule = ["--set", "decision.groom.when=p(grooming) > 0.8"];
    Process::start("run", &mut rig.command(&rule))
        .finish()
        .code(3)
        .says(&["the rules do not fit the model", "`decision.groom.when` names the action \"grooming\""]);
    assert!(!rig.path("decodes").exists());
    let model = rig.model.to_str().unwrap();
    let check =
        |rule: &str| Process::start("check", &mut haltere(["check", "--model", model, "--set", rule])).finish().out;
    assert!(check(rule[1]).contains("✗ decisions"), "{}", check(rule[1]));
    assert!(check("decision.light.when=light > 5").contains("1 rule, 0 armed from the start"));
}
