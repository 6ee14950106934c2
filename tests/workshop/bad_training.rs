//! What can be wrong with training's arguments and data, through the command line: each is refused with its own exit code and
//! a message that names the culprit and says what to do; what can be lived with is warned of.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use haltere::model::Model;
use support::{Finished, Process, in_folder};

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_training");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let simulate = |line: &str| start(&folder, line).code(0);
    simulate("simulate flies --animals 2 --trials 1 --seconds 60 --seed 5 --set optics.side_px=32");
    simulate("simulate unlabelled --animals 2 --trials 1 --seconds 60 --seed 5 --set optics.side_px=32");
    for animal in ["fly_01", "fly_02"] {
        std::fs::remove_file(folder.join("unlabelled").join(animal).join("001/labels.csv")).unwrap();
    }
    folder
});

fn start(folder: &Path, line: &str) -> Finished {
    Process::start("haltere", &mut in_folder(folder, line.split(' '))).finish()
}

fn haltere(line: &str) -> Finished {
    start(&FOLDER, line)
}

/// What makes a training small.
const SMALL: &str = "--steps 4 --set batch.segments=2 --set batch.windows=2 --set network.widths=[4,8]";

fn train(line: &str) -> Finished {
    haltere(&format!("train {line} {SMALL}"))
}

#[test]
fn what_was_typed_wrong_is_refused_before_anything_is_trained() {
    let refused: [(&str, &[&str]); 4] = [
        ("--mc2p flies --name a --hold-out fly_9", &["--hold-out fly_9", "no such animal", "fly_01, fly_02"]),
        ("--mc2p flies --name a --hold-out fly_01,fly_02", &["--hold-out", "no animal to train on"]),
        ("--mc2p flies --name a --method linear", &["--method linear", "no daemon could run", "haltere compare"]),
        ("--mc2p flies --mc2p unlabelled --name a", &["one data set", "2 were given"]),
    ];
    for (line, words) in refused {
        train(line).code(2).says(words);
    }
    train("--mc2p flies --name a --set batch.segment=3")
        .code(3)
        .says(&["batch.segment", "segments, stride_frames, windows"]);
    train("--mc2p flies --name a --set temperature=0").code(3).says(&["temperature", "0.001 to 10"]);
    train("--mc2p nowhere --name a").code(6).says(&["nowhere"]);
    assert!(!FOLDER.join("models/a.toml").exists());
    haltere("eval models/none.toml --mc2p flies").code(4).says(&["models/none.toml"]);
}

#[cfg(not(feature = "train-cuda"))]
#[test]
fn a_gpu_that_this_build_cannot_use_names_the_build_that_can() {
    let refused = train("--mc2p flies --name gpu --device cuda").code(2);
    refused.says(&["--device cuda", "cargo build --release --features train-cuda", "leave --device out"]);
}

#[test]
fn one_animal_is_trained_on_and_told_but_a_comparison_needs_one_to_leave_out() {
    let alone = train("--mc2p flies --animals fly_01 --name alone").code(0);
    assert!(alone.err.contains("WARN"), "{}", alone.err);
    assert!(FOLDER.join("models/alone.toml").exists());
    let line = format!("compare --mc2p flies --animals fly_01 --unseen 1 --methods simclr --out alone {SMALL}");
    haltere(&line).code(2).says(&["--unseen 1", "flies has 1 animals", "lower --unseen"]);
}

#[test]
fn without_labels_the_contrast_is_learnt_and_no_action_is_promised_and_supervised_refuses() {
    train("--mc2p unlabelled --name quiet").code(0);
    let model = Model::load(&FOLDER.join("models/quiet.toml")).unwrap();
    assert!(model.manifest.provenance.trained && !model.decodes_actions() && model.manifest.labels.is_empty());
    assert!(model.manifest.novelty.is_some(), "a novelty needs no label");
    train("--mc2p unlabelled --name loud --method supervised").code(6).says(&[
        "supervised",
        "labels",
        "another method",
    ]);
    assert!(!FOLDER.join("models/loud.toml").exists());
}

#[test]
fn behaviour_that_is_no_number_names_trial_file_and_count() {
    let trial = FOLDER.join("broken");
    start(&FOLDER, "simulate broken --animals 2 --trials 1 --seconds 60 --seed 6 --set optics.side_px=32").code(0);
    let pose = trial.join("fly_02/001/pose_3d.mm");
    let nan: Vec<u8> =
        f32::NAN.to_le_bytes().into_iter().cycle().take(pose.metadata().unwrap().len() as usize).collect();
    std::fs::write(&pose, nan).unwrap();
    train("--mc2p broken --name broken").code(6).says(&[
        "fly_02",
        "pose_3d.mm",
        "NaN or infinite",
        "leave the trial out",
    ]);
}

#[test]
fn trials_that_end_within_the_warm_up_are_refused_with_their_numbers() {
    start(&FOLDER, "simulate short --animals 2 --trials 1 --seconds 6 --seed 7 --set optics.side_px=32").code(0);
    train("--mc2p short --name short").code(6).says(&["not one window", "of them warm-up", "record longer trials"]);
    assert!(!FOLDER.join("models/short.toml").exists());
}

#[test]
fn a_run_and_a_model_that_are_there_are_not_overwritten_unless_told() {
    train("--mc2p flies --name twice").code(0);
    let bytes = |name: &str| std::fs::read(FOLDER.join("models").join(name)).unwrap();
    let before = (bytes("twice.onnx"), bytes("twice.toml"));
    train("--mc2p flies --name twice --seed 2").code(1).says(&["models/twice.toml", "--force", "--name"]);
    train("--mc2p flies --name twice --seed 2 --out elsewhere").code(1).says(&["runs/twice", "--force", "--resume"]);
    assert!(before == (bytes("twice.onnx"), bytes("twice.toml")));
    train("--mc2p flies --name twice --seed 2 --force").code(0);
    assert!(before.0 != bytes("twice.onnx"));
}
