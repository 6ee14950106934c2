//! `haltere demo`: what it shows, what it says when something is missing, and its fly, which must show more than rest.
//!
//! Method: the program is run as a user runs it; the whole demo with the shipped model is run from the wheel (`listeners/packages.rs`). The
//! fly was chosen by its truth alone: the search is repeated here, and the fly of the program must be the first it finds.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use haltere::client::demo::FLY;
use haltere::simulate::{Spec, truth};

use crate::support::process::{Process, fly, haltere, wait_for};

/// A seed that no model is trained on.
const SEED: u64 = 9001;
/// Shown after a warm-up of some 112 frames.
const SHOWN: RangeInclusive<usize> = 113..=433;
/// Different actions in it, of a second (16 frames) or more each.
const ACTIONS_MIN: usize = 4;
const FRAMES_MIN: usize = 16;

fn does_several_things(spec: &Spec) -> bool {
    let mut frames: BTreeMap<u8, usize> = BTreeMap::new();
    truth(spec).action_of_frame[SHOWN].iter().for_each(|action| *frames.entry(*action).or_default() += 1);
    frames.values().filter(|&&frames| frames >= FRAMES_MIN).count() >= ACTIONS_MIN
}

#[test]
fn the_fly_of_the_demo_is_the_first_that_does_several_things_while_it_is_watched() {
    let of = |animal, trial| Spec { seed: SEED, animal, trial, seconds: 60.0, ..Spec::default() };
    let mut flies = (1..=8).flat_map(|animal| (1..=20).map(move |trial| of(animal, trial)));
    let first = flies.find(does_several_things).unwrap();
    assert_eq!(FLY.parse::<Spec>().unwrap(), first);
}

/// Folders of a demo that are still there; ONNX Runtime leaves a file of its own.
fn left_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("haltere")).collect()
}

/// A model that is warm after a second, and the recorded fly. The user's own configuration names a port that is taken and a broken
/// outlet: a demo has nothing to do with either.
#[cfg(feature = "train")]
#[test]
fn a_recording_is_decoded_and_the_users_own_configuration_is_left_alone() {
    use crate::support::process::model;

    let folder = tempfile::tempdir().unwrap();
    let rig = folder.path().join("rig.toml");
    std::fs::write(&rig, "[publish]\nendpoint = \"tcp://127.0.0.1:1\"\n[serial]\ndevice = \"/nowhere\"\n").unwrap();
    let mut command = haltere(["demo", "--seconds", "2", "--rate", "30", "--page=127.0.0.1:0", "--model"]);
    command.arg(model("shown", &[0], 0)).arg(fly("tdTom.tif")).env("HALTERE_CONFIG", rig).env("TMPDIR", folder.path());
    command.env("HALTERE__SERIAL__DEVICE", "/nowhere");
    let shown = Process::start("demo", &mut command).finish().code(0).out;
    for words in ["a recording, over and over", "names no actions", "seconds left:", "closed loop", "haltere check"] {
        assert!(shown.contains(words), "{words:?} is not in\n{shown}");
    }
    let left = left_in(folder.path());
    assert!(left.is_empty(), "logs and sockets are left behind: {left:?}");
}

/// The shipped model registers on a second channel, which this recording lacks.
#[test]
fn frames_that_the_model_cannot_take_are_told_at_once() {
    let mut command = haltere(["demo", "--rate", "30"]);
    Process::start("demo", command.arg(fly("tdTom.tif"))).finish().code(10).says(&["rejects the frames, channel:"]);
}

#[test]
fn interrupted_in_the_warm_up_it_ends_its_processes_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Process::start("demo", haltere(["demo"]).env("TMPDIR", folder.path()));
    wait_for("the warm-up", || {
        let begun = std::fs::read_dir(folder.path()).unwrap().find_map(|entry| {
            let log = std::fs::read_to_string(entry.unwrap().path().join("daemon.log")).ok()?;
            log.contains("warming up").then_some(())
        });
        assert!(demo.is_running());
        begun
    });
    demo.signal(rustix::process::Signal::INT);
    demo.finish().code(130).says(&["interrupted before the first decode"]);
    let place = folder.path().display().to_string();
    let running = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(&place))
    });
    assert_eq!(running.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
}

#[test]
fn a_missing_model_is_told_before_anything_starts() {
    let command = &mut haltere(["demo", "--model", "nowhere/mine.toml"]);
    Process::start("demo", command).finish().code(4).says(&["nowhere/mine.toml"]);
}

#[test]
fn what_the_daemon_died_of_is_told_with_its_own_exit_code() {
    let command = &mut haltere(["demo", "--set", "compute.onnxruntime=/nowhere/libonnxruntime.so"]);
    Process::start("demo", command).finish().code(5).says(&["the daemon ended", "/nowhere/libonnxruntime.so"]);
    let command = &mut haltere(["demo", "nowhere.tif"]);
    Process::start("demo", command).finish().code(6).says(&["the microscope ended", "nowhere.tif"]);
}

#[test]
fn without_onnx_runtime_every_place_is_named_and_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = haltere(["demo"]);
    command.current_dir(empty.path()).env_remove("ORT_DYLIB_PATH");
    let prefix = Path::new(env!("CARGO_BIN_EXE_haltere")).ancestors().nth(2).unwrap().display().to_string();
    let in_python = format!("{prefix}/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so");
    let installed = format!("{prefix}/lib/haltere/libonnxruntime.so");
    let places = ["release/libonnxruntime.so", ".runtime/libonnxruntime.so", &in_python, &installed];
    let finished = Process::start("demo", &mut command).finish().code(5).says(&places);
    finished.says(&["pip install onnxruntime", "make setup", "ORT_DYLIB_PATH"]);
}
