//! A run that was interrupted ends as if it had not been.
//!
//! Method: the same run once in one go, once stopped by Ctrl-C and resumed, once killed and resumed; the files of the models
//! must be the same to the last bit. A comparison that was killed must leave its finished results alone.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use haltere::model::onnx::OnnxFile;
use rustix::process::Signal;
use support::{Finished, Process, in_folder, wait_for};

/// Two flies of one short trial each, in a folder of their own.
static FLIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resume");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let line = "simulate flies --animals 2 --trials 1 --seconds 60 --seed 5 --set optics.side_px=32";
    start(&folder, &words(line)).finish().code(0);
    folder.join("flies")
});

/// Of every run here: small, and with a look (and so a checkpoint) every fourth step.
const SMALL: [&str; 8] = [
    "--set",
    "batch.segments=2",
    "--set",
    "batch.windows=2",
    "--set",
    "network.widths=[4,8]",
    "--set",
    "validate_every=4",
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn start(folder: &Path, words: &[&str]) -> Process {
    Process::start("haltere", &mut in_folder(folder, words))
}

/// `haltere train` of `name` in the folder of all runs.
fn train(name: &str, more: &[&str]) -> Process {
    let folder = FLIES.parent().unwrap();
    let line = format!("train --mc2p flies --method haltere --steps {STEPS} --hold-out fly_02 --name {name}");
    start(folder, &[&words(&line)[..], &SMALL, more].concat())
}

/// Enough for a signal to come in the middle.
const STEPS: usize = 120;

fn of_run(name: &str, file: &str) -> PathBuf {
    FLIES.parent().unwrap().join("runs").join(name).join(file)
}

fn model_of(name: &str) -> PathBuf {
    FLIES.parent().unwrap().join("models").join(format!("{name}.onnx"))
}

/// Step, loss and held-out loss of every row; the times differ.
fn losses(name: &str) -> Vec<[String; 3]> {
    let mut reader = csv::Reader::from_path(of_run(name, "metrics.csv")).unwrap();
    reader.records().map(Result::unwrap).map(|r| [0, 2, 6].map(|column| r[column].to_owned())).collect()
}

/// Waits until `step` is in the table of the run.
fn until_step(name: &str, step: usize) {
    wait_for(&format!("step {step} of {name}"), || {
        let text = std::fs::read_to_string(of_run(name, "metrics.csv")).ok()?;
        text.lines().any(|line| line.starts_with(&format!("{step},"))).then_some(())
    });
}

fn resumed(name: &str) -> Finished {
    train(name, &["--resume"]).finish().code(0)
}

/// The same losses, and the same weights in the model.
fn assert_same(a: &str, b: &str) {
    assert_eq!(losses(a), losses(b));
    // The files themselves differ by the model's name, the checkpoints by the numbers that burn gives to parameters.
    assert!(weights(a) == weights(b), "the models of {a} and {b} differ");
}

/// Every constant of a model's file, by name.
fn weights(name: &str) -> Vec<(String, Vec<f32>)> {
    let file = OnnxFile::read(&model_of(name)).unwrap();
    let inputs = file.nodes().iter().flat_map(|node| &node.inputs);
    let floats = |name: &String| file.floats(name).ok().flatten().map(|(_, values)| (name.clone(), values));
    let found: Vec<_> = inputs.filter_map(floats).collect();
    assert!(found.len() > 10, "only {} constants", found.len());
    found
}

#[test]
fn a_run_that_was_stopped_or_killed_and_resumed_ends_as_one_that_was_not_to_the_last_bit() {
    train("whole", &[]).finish().code(0);
    assert_eq!(losses("whole").last().unwrap()[0], STEPS.to_string());
    let reference = std::fs::read(model_of("whole")).unwrap();

    let stopped = train("stopped", &[]);
    until_step("stopped", 21);
    stopped.signal(Signal::INT);
    stopped.finish().code(130).says(&["stopped after step", "--resume"]);
    assert!(!model_of("stopped").exists(), "a run that was stopped leaves no model");
    resumed("stopped");
    assert_same("whole", "stopped");

    let mut killed = train("killed", &[]);
    for step in [9, 50] {
        until_step("killed", step);
        // Somewhere within the next steps, a look and a checkpoint among them; another moment in every run of this test.
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(clock.subsec_nanos()) % 200));
        killed.kill();
        killed = train("killed", &["--resume"]);
    }
    killed.finish().code(0);
    assert_same("whole", "killed");

    // The same name, elsewhere: then the files are the same as well.
    let folder = FLIES.parent().unwrap();
    let again = train("whole", &["--runs", "again", "--out", "again"]);
    let table = folder.join("again/whole/metrics.csv");
    wait_for("a few steps", || std::fs::read_to_string(&table).ok()?.lines().nth(30).map(|_| ()));
    again.signal(Signal::INT);
    again.finish().code(130);
    train("whole", &["--runs", "again", "--out", "again", "--resume"]).finish().code(0);
    assert!(std::fs::read(folder.join("again/whole.onnx")).unwrap() == reference, "the models differ");
}

#[test]
fn resume_auto_begins_what_has_not_begun_continues_what_has_and_overwrites_no_other_model() {
    // What a kill leaves between the folder and its first file.
    std::fs::create_dir_all(of_run("auto", "checkpoints")).unwrap();
    let begun = train("auto", &["--resume", "auto"]);
    until_step("auto", 9);
    begun.signal(Signal::USR1);
    begun.finish().code(130).says(&["stopped after step", "--resume"]);
    train("auto", &["--resume", "auto"]).finish().code(0);
    assert_eq!(losses("auto").last().unwrap()[0], STEPS.to_string());
    let resumed = std::fs::read_to_string(of_run("auto", "provenance.json")).unwrap();
    assert!(resumed.contains("\"after_step\""), "the second command continued: {resumed}");
    let elsewhere = train("auto", &["--resume", "auto", "--runs", "elsewhere"]).finish();
    assert_ne!(elsewhere.code, Some(0));
    elsewhere.says(&["auto.toml is there already", "--force"]);
}

#[test]
fn a_run_is_not_resumed_with_other_settings_or_other_data_or_where_there_is_none() {
    let run = train("strict", &[]);
    until_step("strict", 5);
    run.signal(Signal::INT);
    run.finish().code(130);
    let other = train("strict", &["--resume", "--seed", "2"]).finish();
    assert_ne!(other.code, Some(0));
    other.says(&["--resume", "settings differ", "config.toml", "repeat the command"]);
    let folder = FLIES.parent().unwrap();
    let line = format!("train --mc2p flies --method haltere --steps {STEPS} --hold-out fly_01 --name strict --resume");
    let other = start(folder, &[&words(&line)[..], &SMALL].concat()).finish();
    assert_ne!(other.code, Some(0));
    other.says(&["--resume", "data differ", "SHA-256", "start a new run"]);
    let nothing = train("nothing", &["--resume"]).finish();
    assert_ne!(nothing.code, Some(0));
    nothing.says(&["nothing", "no run to resume", "leave out --resume"]);
}

#[test]
fn a_comparison_that_was_killed_goes_on_and_leaves_finished_results_alone() {
    let folder = FLIES.parent().unwrap();
    let line = "compare --mc2p flies --methods linear,simclr,haltere,simclr-mmd --unseen 1 --steps 60 --out comparison";
    let compare = || start(folder, &[&words(line)[..], &SMALL].concat());
    let results = folder.join("comparison/results");
    let finished = || -> Vec<(PathBuf, SystemTime)> {
        let files = std::fs::read_dir(&results).into_iter().flatten().map(|e| e.unwrap().path());
        let whole = files.filter(|p| p.extension().is_some_and(|e| e == "json"));
        whole.map(|p| (p.clone(), p.metadata().unwrap().modified().unwrap())).collect()
    };
    let killed = compare();
    wait_for("two results", || (finished().len() >= 2).then_some(()));
    killed.kill();
    let before = finished();
    assert!((2..4).contains(&before.len()), "it should have been killed in the middle: {before:?}");
    let whole = compare().finish().code(0);
    assert!(whole.out.contains("linear") && whole.out.contains("simclr"), "{}", whole.out);
    let after = finished();
    assert_eq!(after.len(), 4);
    before.iter().for_each(|result| assert!(after.contains(result), "{result:?} was made again"));
    assert!(folder.join("comparison/table.csv").exists() && folder.join("comparison/report.html").exists());
}
