//! Another model for a daemon that goes on meanwhile: a load that takes for ever, a path that is no file, and a session that was
//! recorded while one model took over from another.
//!
//! Method: real processes. A load is made to take for ever by a lease on the model's file, which another process does not give
//! back: whoever opens the file waits, as on a network share that does not answer.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::fly as pixels;
use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use haltere::model::Manifest;
use haltere::session::{Item, Outline, Reader, Topic};
use serde_json::{Value, json};
use support::{Finished, LOSSLESS, Listener, Microscope, Process, Rig, haltere, model, wait_for};

/// Side of the frames, px.
const SIDE: usize = 64;

/// A model beside `of` with its preprocessing, another name and other weights.
fn other(of: &Path, name: &str) -> PathBuf {
    let folder = of.parent().unwrap().to_str().unwrap();
    let made = ["model", "init", "--force", "--window", "8", "--seed", "2", "--name", name, "--out", folder];
    run(&[&made[..], &["--input", "1x64x64", "--channels", "0"]].concat()).code(0);
    let path = of.with_file_name(format!("{name}.toml"));
    let (mut manifest, first) = (Manifest::read(&path).unwrap(), Manifest::read(of).unwrap());
    manifest.preprocess = first.preprocess;
    manifest.save(&path).unwrap();
    path
}

/// Sends these frames of the fly and waits for the last decode.
fn feed(microscope: &Microscope, listener: &mut Listener, frames: std::ops::Range<usize>) {
    let movie = pixels::frames(1, SIDE, frames.end);
    let last = frames.end as u64 - 1;
    for number in frames {
        let frame = &movie[number * SIDE * SIDE..][..SIDE * SIDE];
        let light = |pixel: usize| (frame[pixel] * 1000.0 + 5000.0).clamp(0.0, 65535.0) as u16;
        microscope.send(&[SIDE, SIDE], &json!({ "frame": number }), light);
    }
    listener.until("the last decode", |m| m.kind == "decode" && m.header["frame"].as_u64() == Some(last));
}

fn answer(finished: &Finished) -> Value {
    serde_json::from_str(&finished.out).unwrap()
}

fn run(arguments: &[&str]) -> Finished {
    Process::start("haltere", &mut haltere(arguments)).finish()
}

/// Holds a file so that whoever opens it waits.
const LEASE: &str = "
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
time.sleep(600)
";

#[test]
fn while_a_model_loads_for_ever_the_daemon_answers_refuses_a_second_one_and_stops() {
    let rig = Rig::new(model("quick", &[0], 0));
    let slow = other(&rig.model, "slow");
    let mut holder =
        Process::start("lease", Command::new("python3").args(["-c", LEASE]).arg(slow.with_extension("onnx")));
    holder.until_it_says("held");
    let daemon = rig.daemon(&LOSSLESS);
    let mut command = haltere(["control", "--timeout-ms", "60000", "--set"]);
    command.arg(format!("control.endpoint={}", rig.control)).arg("model").arg(&slow);
    let asker = Process::start("control model", &mut command);
    let loading = wait_for("the status to say so", || rig.status().get("loading").cloned());
    assert_eq!(loading["path"], slow.to_str().unwrap());
    let second = answer(&rig.control(&["model", slow.to_str().unwrap()]).code(1));
    let error = second["error"].as_str().unwrap();
    assert!(error.contains("has been loading for") && error.contains("slow.toml"), "{error}");
    let mut listener = rig.listen();
    let asked = Instant::now();
    rig.control(&["shutdown"]).code(0);
    listener.until("the event of the end", |m| m.is_event("shutdown"));
    daemon.finish().code(0);
    // A lease is taken back by force after 45 s; nobody waited for that.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    holder.kill();
    asker.kill();
}

#[test]
fn a_path_that_is_no_file_or_too_large_is_refused_at_once_and_costs_no_memory() {
    let rig = Rig::new(model("safe", &[0], 0));
    let daemon = rig.daemon(&[]);
    let mut listener = rig.listen();
    let mut memory = |what: &str| {
        listener.heard.clear();
        listener.until(what, |m| m.kind == "status").number("memory_bytes")
    };
    let before = memory("a status before");
    let pipe = rig.path("pipe.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let manifest = rig.path("large.toml");
    std::fs::copy(&rig.model, &manifest).unwrap();
    let onnx = std::fs::File::create(rig.path("safe.onnx")).unwrap();
    onnx.set_len((1 << 30) + 1).unwrap();
    for (path, reason) in [
        (Path::new("/dev/zero"), "is a device; it must be a regular file"),
        (&pipe, "is a pipe; it must be a regular file"),
        (&rig.path(""), "is a folder; it must be a regular file"),
        (&manifest, "1073741825 bytes; an ONNX file has at most 1073741824"),
    ] {
        let asked = Instant::now();
        let refused = answer(&rig.control(&["model", path.to_str().unwrap()]).code(1));
        assert!(refused["error"].as_str().unwrap().contains(reason), "{refused}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{path:?} took {:?}", asked.elapsed());
    }
    let after = memory("a status after");
    assert!(after < before + (100 << 20), "{before} bytes before, {after} after");
    assert!(rig.status().get("loading").is_none());
    daemon.signal(rustix::process::Signal::INT);
    daemon.finish().code(0);
}

/// Names and contents of the attachments of a session.
fn attachments(session: &Path) -> Vec<(String, Vec<u8>)> {
    let mut reader = Reader::open(session).unwrap();
    let all = std::iter::from_fn(|| reader.read().unwrap());
    all.filter_map(|item| match item {
        Item::Attachment { name, data } => Some((name, data)),
        Item::Message { .. } => None,
    })
    .collect()
}

/// Generation of every recorded decode of a frame.
fn generations(session: &Path) -> Vec<u64> {
    let mut reader = Reader::open(session).unwrap();
    let all = std::iter::from_fn(|| reader.read().unwrap());
    let decode = |item| match item {
        Item::Message { topic: Topic::Decodes, data, .. } => serde_json::from_slice::<Value>(&data).ok(),
        _ => None,
    };
    let of_frames = all.filter_map(decode).filter(|decode| decode.get("decoded").is_some());
    of_frames.map(|decode| decode["model"]["generation"].as_u64().unwrap()).collect()
}

#[test]
fn a_session_begun_while_another_model_is_on_trial_names_and_holds_both_and_readers_say_so() {
    let first = model("early", &[0], 0);
    let second = other(&first, "late");
    let rig = Rig::new(first.clone());
    let microscope = Microscope::new(&rig.frames);
    let folder = rig.path("sessions");
    let more =
        ["--record", folder.to_str().unwrap(), "--set", "record.at_start=false", "--set", "source.frame_max_mib=1"];
    let daemon = rig.daemon(&[&more[..], &LOSSLESS].concat());
    let mut listener = rig.listen();
    feed(&microscope, &mut listener, 0..40);
    assert_eq!(answer(&rig.control(&["model", second.to_str().unwrap()]).code(0))["generation"], 2);
    assert_eq!(rig.status()["on_trial"], json!({ "model": "late", "generation": 2 }));
    let session = PathBuf::from(answer(&rig.control(&["record", "start"]).code(0))["file"].as_str().unwrap());
    feed(&microscope, &mut listener, 40..120);
    let status = rig.status();
    assert_eq!((&status["model"], status.get("on_trial")), (&"late".into(), None));
    rig.control(&["record", "stop"]).code(0);
    // From here on there is one model again, and a session of its own is as any other.
    let own = PathBuf::from(answer(&rig.control(&["record", "start"]).code(0))["file"].as_str().unwrap());
    rig.control(&["reset"]).code(0);
    feed(&microscope, &mut listener, 120..200);
    rig.control(&["record", "stop"]).code(0);
    daemon.signal(rustix::process::Signal::INT);
    daemon.finish().code(0);

    let by = generations(&session);
    assert!(by.is_sorted() && by.contains(&1) && by.contains(&2) && by.len() == 80, "{by:?}");
    let files = attachments(&session);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["model.onnx", "model.toml", "config.toml", "model-2.onnx", "model-2.toml"]);
    assert_eq!(files[0].1, std::fs::read(first.with_extension("onnx")).unwrap(), "the one that decoded at its start");
    assert_eq!(files[3].1, std::fs::read(second.with_extension("onnx")).unwrap(), "the one that took over");
    let models: Vec<(String, u64)> =
        Outline::of(&session).unwrap().models().into_iter().map(|m| (m.name, m.generation)).collect();
    assert_eq!(models, [("early".to_owned(), 1), ("late".to_owned(), 2)]);
    assert_readers_say_so(&rig, &session, &second);

    assert!(Outline::of(&own).unwrap().not_by_one_model().is_none());
    assert_eq!(attachments(&own)[0].1, files[3].1);
    assert_eq!(generations(&own), [2; 80]);
    let again = rig.path("again.npy");
    run(&["embed", own.to_str().unwrap(), "--out", again.to_str().unwrap()]).code(0);
}

fn assert_readers_say_so(rig: &Rig, session: &Path, second: &Path) {
    let (session, out) = (session.to_str().unwrap(), rig.path("out"));
    let out = out.to_str().unwrap();
    let words = ["more than one model decoded this session", "early (generation 1", "late (generation 2"];
    for arguments in [&["embed", session, "--out", out][..], &["diff", session]] {
        run(arguments).code(6).says(&words).says(&["--model"]);
    }
    run(&["embed", session, "--out", out, "--model", second.to_str().unwrap()]).code(0).says(&words);
    run(&["export", session, "--to", "csv", "--out", out]).code(0).says(&words);
    let reported = run(&["report", session, "--out", out]).says(&words);
    assert!(matches!(reported.code, Some(0 | 10)), "{}", reported.err);
}
