//! Every mistake of a user: its exit code, a message that names culprit and remedy, and never a panic.
//!
//! Method: the real binary is given each mistake once. Mistakes of a sender do not end the daemon: they are counted under
//! their reason, and the next good frame is decoded.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Finished, LOSSLESS, Microscope, Process, Rig, fly, haltere, small, two_channels, wait_for};

fn finish(command: &mut Command) -> Finished {
    Process::start("haltere", command).finish()
}

/// Copies a model, so that a test may damage it.
fn copy_of_model(folder: &Path) -> PathBuf {
    let manifest = folder.join("small.toml");
    std::fs::copy(small(), &manifest).unwrap();
    std::fs::copy(small().with_extension("onnx"), folder.join("small.onnx")).unwrap();
    manifest
}

/// Status, when `enough` holds.
fn status_when(rig: &Rig, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(rig.status()).filter(&enough))
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let rig = Rig::new(small());
    for (key, more, code) in [
        ("publish.endpoint", None, 7),
        ("control.endpoint", None, 7),
        ("source.endpoint", Some("source.attach=bind"), 6),
    ] {
        let mut command = rig.command(&["--set", &format!("{key}=tcp://{address}")]);
        if let Some(setting) = more {
            command.args(["--set", setting]);
        }
        finish(&mut command).code(code).says(&[&port, "in use", key]);
    }
}

#[test]
fn a_running_daemon_keeps_its_unix_sockets() {
    let rig = Rig::new(small());
    let mut daemon = rig.daemon(&[]);
    let elsewhere = format!("ipc://{}", rig.path("elsewhere").display());
    for (key, other) in [("publish", "control"), ("control", "publish")] {
        let mut command = rig.command(&["--set", &format!("{other}.endpoint={elsewhere}")]);
        finish(&mut command).code(7).says(&[&format!("{key}.endpoint"), "stop that"]);
    }
    assert!(daemon.is_running());
    assert_eq!(rig.status()["received"], 0, "it still answers");
    rig.listen();
}

#[test]
fn a_model_that_is_missing_changed_or_no_model_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let run = |model: &Path| finish(&mut Rig::new(model.into()).command(&[]));
    run(&missing).code(4).says(&["missing.toml", "haltere model init"]);

    let manifest = copy_of_model(folder.path());
    let onnx = manifest.with_extension("onnx");
    let mut bytes = std::fs::read(&onnx).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&onnx, bytes).unwrap();
    run(&manifest).code(4).says(&["small.onnx", "SHA-256", "haltere model inspect"]);

    std::fs::remove_file(&onnx).unwrap();
    run(&manifest).code(4).says(&["small.onnx"]);

    std::fs::write(&manifest, "name = \"x\"\nnonsense = 1\n").unwrap();
    run(&manifest).code(4).says(&["small.toml", "nonsense"]);
}

#[test]
fn a_missing_onnx_runtime_is_named_with_the_command_that_fetches_it() {
    let nowhere = ("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    let rig = Rig::new(small());
    finish(rig.command(&[]).env(nowhere.0, nowhere.1)).code(5).says(&["/nowhere/libonnxruntime.so", "make setup"]);
    let out = rig.path("out.npy");
    let mut embed = haltere(["embed", "--model"]);
    embed.arg(&rig.model).arg("--out").arg(&out).arg(fly("GC6s.tif")).env(nowhere.0, nowhere.1);
    finish(&mut embed).code(5).says(&["make setup"]);
    assert!(!out.exists());
}

#[test]
fn an_unknown_configuration_key_is_shown_with_the_nearest_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rig.toml");
    std::fs::write(&file, "rig = \"a\"\n[publish]\ndeadlin_ms = 100\n").unwrap();
    let mut command = haltere(["run", "--config"]);
    finish(command.arg(&file)).code(3).says(&["rig.toml:3", "deadlin_ms", "deadline_ms"]);
    finish(&mut haltere(["run", "--set", "publish.deadline_ms=soon"])).code(3).says(&["publish.deadline_ms", "20"]);
    finish(&mut haltere(["run", "--frobnicate"])).code(2).says(&["--frobnicate"]);
}

#[test]
fn a_recording_that_is_missing_damaged_or_none_is_named() {
    let rig = Rig::new(small());
    let play = |recording: &Path| rig.play(&[recording], &["--no-wait"]).finish();
    play(&rig.path("absent.tif")).code(6).says(&["absent.tif"]);

    let whole = std::fs::read(fly("GC6s.tif")).unwrap();
    let damaged = rig.path("damaged.tif");
    for length in [0, 3, 100, whole.len() / 2, whole.len() - 1000] {
        std::fs::write(&damaged, &whole[..length]).unwrap();
        rig.play(&[&damaged], &["--no-wait", "--strict"]).finish().code(6).says(&["damaged.tif"]);
    }
    let text = rig.path("notes.txt");
    std::fs::write(&text, "no recording").unwrap();
    play(&text).code(6).says(&["notes.txt", "readable formats"]);
    play(rig.folder.path()).code(6).says(&["tif"]);
}

#[test]
fn embeddings_for_a_folder_that_is_not_there_are_refused_before_any_work() {
    let rig = Rig::new(small());
    let out = rig.path("no/such/folder/out.npy");
    let mut embed = haltere(["embed", "--model"]);
    let done = finish(embed.arg(&rig.model).arg("--out").arg(&out).arg(fly("GC6s.tif")));
    done.code(7).says(&["no/such/folder", "out.npy"]);
}

#[test]
fn a_report_for_a_folder_that_is_not_there_is_refused_before_the_experiment() {
    let rig = Rig::new(small());
    let report = rig.path("no/such/folder/report.json");
    finish(&mut rig.command(&["--report", report.to_str().unwrap()])).code(7).says(&["--report", "no/such/folder"]);
}

#[test]
fn frames_with_too_few_channels_are_counted_and_the_next_good_ones_decoded() {
    let rig = Rig::new(two_channels());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    for frame in 0..5 {
        scope.send(&[64, 64], &json!({ "frame": frame, "series": "one" }), |i| i as u16);
    }
    let status = status_when(&rig, "five refusals", |s| s["received"] == 5 && s["rejected"]["channel"] == 5);
    assert_eq!(status["published"], 0);
    let event = listener.until("the event", |m| m.is_event("rejected"));
    assert_eq!(event.header["reason"], "channel");
    for frame in 0..5 {
        scope.send(&[2, 64, 64], &json!({ "frame": frame, "series": "two" }), |i| i as u16);
    }
    assert_eq!(status_when(&rig, "five decodes", |s| s["published"] == 5)["rejected"]["channel"], 5);
    daemon.kill();
}

#[test]
fn a_geometry_that_changes_within_a_series_and_a_frame_too_large_are_counted_and_nothing_else_is_lost() {
    let rig = Rig::new(small());
    let mut daemon = rig.daemon(&[&LOSSLESS[..], &["--set", "source.frame_max_mib=1"]].concat());
    let scope = Microscope::new(&rig.frames);
    let number = |frame: u64| json!({ "frame": frame, "series": "one" });
    for frame in 0..4 {
        scope.send(&[64, 64], &number(frame), |i| i as u16);
    }
    for frame in 4..9 {
        scope.send(&[64, 80], &number(frame), |i| i as u16);
    }
    for frame in 9..11 {
        scope.send(&[1024, 1024], &number(frame), |i| i as u16);
    }
    for frame in 11..14 {
        scope.send(&[64, 64], &number(frame), |i| i as u16);
    }
    let status = status_when(&rig, "all frames", |s| s["received"] == 14 && s["published"] == 7);
    assert_eq!(status["rejected"], json!({ "geometry": 5, "too_large": 2 }));
    assert_eq!((&status["gaps"], &status["missing"]), (&1.into(), &7.into()), "what was refused is missing");
    assert!(daemon.is_running());
}

#[test]
fn the_control_socket_answers_every_command_and_refuses_what_it_does_not_know() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let status = rig.status();
    assert_eq!((&status["model"], &status["received"]), (&"small".into(), &0.into()));
    for (words, name) in [
        (["template", "reset"], "template reset"),
        (["normalisation", "freeze"], "normalisation freeze"),
        (["normalisation", "resume"], "normalisation resume"),
        (["baseline", "reset"], "baseline reset"),
    ] {
        let answer: Value = serde_json::from_str(&rig.control(&words).code(0).out).unwrap();
        assert_eq!(answer["ok"], true);
        let event = listener.until(name, |m| m.is_event("request"));
        assert_eq!(event.header["what"], name, "carried out without a frame");
    }
    let refused = rig.control(&["templat", "reset"]).code(1);
    assert!(refused.out.contains("did you mean \\\"template reset\\\"?"), "{}", refused.out);
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0).says(&["shutting down"]);
    listener.until("the end", |m| m.is_event("shutdown"));
}

#[test]
fn a_daemon_that_is_not_there_is_said_to_be_missing() {
    let rig = Rig::new(small());
    let mut ask = haltere(["control", "status", "--timeout-ms", "200", "--set"]);
    let asked = finish(ask.arg(format!("control.endpoint={}", rig.control)));
    asked.code(1).says(&[&rig.control, "haltere run"]);
}

#[test]
fn a_template_is_renewed_on_request_while_frames_flow() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let _play = rig.play(&[&fly("GC6s.tif")], &["--push", "--rate", "60", "--loop", "0"]);
    listener.until("a registered frame", |m| m.kind == "decode" && m.header["shift_px"].is_array());
    rig.control(&["reset"]).code(0);
    listener.until("the request carried out", |m| m.is_event("request"));
    // A decode from before may follow the event: they travel on two ways.
    let after = listener.until("a new animal", |m| m.kind == "decode" && m.header["shift_px"].is_null());
    assert_eq!(after.quality(), "warmup", "{}", after.header);
    listener.until("a registered frame", |m| m.kind == "decode" && m.header["shift_px"].is_array());
    daemon.kill();
}
