//! What cannot be written: every command that writes leaves with 7, names the path, and says what to do.
//!
//! Method: real processes. A file stands where a folder would have to be, a folder where a file would have to be, a folder is missing,
//! and `/proc` takes nothing from anybody; so the same happens for root, for whom no folder is closed. Standard output is a full disk
//! or a reader that left.
#![cfg(all(feature = "train", feature = "parquet"))]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use haltere::report::data::ReportData;
use support::{Finished, LOSSLESS, Process, Rig, fly, in_folder, model};

/// What makes a training small.
const SMALL: &str = "--steps 4 --set batch.segments=2 --set batch.windows=2 --set network.widths=[4,8]";
/// One of these tells what to do.
const ADVICE: [&str; 5] = ["choose another", "name another", "create it first", "make room", "may be written to"];

/// Everything that the commands read, and what stands in their way.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unwritable");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("own/own.toml")).unwrap();
    fs::create_dir_all(folder.join("occupied.html")).unwrap();
    fs::write(folder.join("taken"), "a file").unwrap();
    fs::write(folder.join("report.json"), ReportData::default().to_json().unwrap()).unwrap();
    let model = model("small", &[0], 0);
    fs::copy(model.with_extension("onnx"), folder.join("own/own.onnx")).unwrap();
    for extension in ["toml", "onnx"] {
        fs::copy(model.with_extension(extension), folder.join("small").with_extension(extension)).unwrap();
    }
    fs::copy(fly("GC6s.tif"), folder.join("movie.tif")).unwrap();
    run(&folder, "model init --name slow --input 1x64x64 --window 8 --frame-rate 16 --out .").code(0);
    run(&folder, "simulate flies --animals 2 --trials 1 --seconds 60 --seed 5 --set optics.side_px=64").code(0);
    record(model, &folder.join("session.mcap"));
    folder
});

/// Runs a line in a folder.
fn run(folder: &Path, line: &str) -> Finished {
    Process::start("haltere", &mut in_folder(folder, line.split(' '))).finish()
}

/// Records some seconds of a fly.
fn record(model: PathBuf, session: &Path) {
    let rig = Rig::new(model);
    let sessions = rig.path("sessions");
    let daemon = rig.daemon(&[&["--once", "--record", sessions.to_str().unwrap()][..], &LOSSLESS].concat());
    let fly = Path::new("sim:seed=1,animal=2,seconds=4");
    rig.play(&[fly], &["--push", "--rate", "64", "--series", "s1"]).finish().code(0);
    daemon.finish().code(0);
    let recorded = fs::read_dir(sessions).unwrap().next().unwrap().unwrap().path();
    fs::copy(recorded, session).unwrap();
}

/// Requires 7 and a message that names `path` and says what to do; nothing may lie where it should not.
fn refused(line: &str, path: &str) {
    let Finished { code, out, err } = run(&FOLDER, line);
    assert_eq!(code, Some(7), "haltere {line}\n{out}{err}");
    let message = err.lines().filter(|line| line.starts_with("error: ")).collect::<String>();
    assert!(message.contains(path), "haltere {line}\n{path} is not named: {message}");
    assert!(ADVICE.iter().any(|advice| message.contains(advice)), "haltere {line}\nno advice: {message}");
    assert_eq!(fs::read_to_string(FOLDER.join("taken")).unwrap(), "a file", "haltere {line}");
    assert!(!FOLDER.join("nowhere").exists(), "haltere {line}");
}

#[test]
fn a_model_that_cannot_be_written() {
    refused("model init --out taken/models", "taken/models");
    refused("model init --out /proc/models", "/proc/models");
    refused("model adopt own/own.onnx --frame-rate 30 --force", "own/own.toml");
    let fly = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml");
    let calibrate = format!("calibrate {} sim:seed=1,animal=9,seconds=60", fly.display());
    refused(&format!("{calibrate} --out taken/fly9"), "taken/fly9");
    refused(&format!("{calibrate} --out nowhere/fly9"), "nowhere/fly9");
}

#[test]
fn a_run_a_comparison_or_an_evaluation_that_cannot_be_written() {
    refused(&format!("train --mc2p flies --method haltere --name a --out taken/models {SMALL}"), "taken/models");
    refused(&format!("train --mc2p flies --method haltere --name a --out /proc/models {SMALL}"), "/proc/models");
    refused(&format!("train --mc2p flies --method haltere --name a --runs taken/runs {SMALL}"), "taken/runs");
    refused(&format!("compare --mc2p flies --unseen 1 --methods simclr --out taken/results {SMALL}"), "taken/results");
    refused("eval slow.toml --mc2p flies --out taken/results", "taken/results");
}

#[test]
fn embeddings_a_session_or_shifts_that_cannot_be_written() {
    for folder in ["taken", "nowhere", "/proc"] {
        let embed = "embed sim:seed=1,animal=2,seconds=2 --model small.toml";
        refused(&format!("{embed} --out {folder}/out.npy"), &format!("{folder}/out.npy"));
        refused(&format!("{embed} --out out.npy --csv {folder}/out.csv"), &format!("{folder}/out.csv"));
        for form in ["csv", "parquet", "npy", "nwb"] {
            let out = format!("{folder}/out.{form}");
            refused(&format!("export session.mcap --to {form} --out {out}"), &out);
        }
        let shifts = format!("{folder}/shifts.csv");
        refused(&format!("bench registration movie.tif --template movie.tif --out {shifts}"), &shifts);
    }
    if Path::new("/dev/full").exists() {
        refused("bench registration movie.tif --template movie.tif --out /dev/full", "/dev/full");
    }
    assert!(!FOLDER.join("out.npy").exists());
}

#[test]
fn a_page_or_a_simulation_that_cannot_be_written() {
    refused("report session.mcap --out taken/page.html", "taken/page.html");
    for out in ["taken/page.html", "nowhere/page.html", "/proc/page.html", "occupied.html"] {
        refused(&format!("report report.json --out {out}"), out);
    }
    for out in ["taken/flies", "/proc/flies"] {
        refused(&format!("simulate {out} --animals 1 --trials 1 --seconds 2"), out);
    }
}

#[test]
fn a_report_or_a_recording_of_a_run_is_refused_before_the_first_frame() {
    let rig = Rig::new(FOLDER.join("small.toml"));
    for folder in ["taken", "/proc/nowhere"] {
        let folder = FOLDER.join(folder);
        let report = folder.join("report.json");
        for (option, value) in [("--report", &report), ("--record", &folder)] {
            let done = Process::start("run", &mut rig.command(&[option, value.to_str().unwrap()])).finish().code(7);
            done.says(&[value.to_str().unwrap()]);
        }
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_told() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    for line in [
        "completions bash",
        "check --model small.toml --show",
        "simulate --show-recipe",
        "model inspect small.toml",
        "model inspect small.toml --json",
        "diff session.mcap session.mcap",
        "diff session.mcap session.mcap --json",
    ] {
        let mut command = in_folder(&FOLDER, line.split(' '));
        let done = command.stdout(full.try_clone().unwrap()).output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(7), "haltere {line}: {err}");
        assert!(
            err.contains("standard output cannot be written") && err.contains("disk full"),
            "haltere {line}: {err}"
        );
    }
}

#[test]
fn a_reader_that_left_is_no_mistake_unless_the_exit_code_is_the_answer() {
    let lines = [
        ("completions bash", 0),
        ("simulate --show-recipe", 0),
        ("model inspect small.toml", 0),
        ("check --model small.toml", 7),
        ("diff session.mcap session.mcap", 7),
    ];
    for (line, code) in lines {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = in_folder(&FOLDER, line.split(' '));
        let done = command.stdout(Stdio::from(writer)).output().unwrap();
        assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(code), &b""[..]), "haltere {line}");
    }
}
