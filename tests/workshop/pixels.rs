//! The network of pixels as a user trains it: on labels, on an atlas, and then run by the daemon.
//!
//! Method: three simulated flies of 32×32 px, the third judges. The run is made once, stopped half-way and continued; what `embed` and a
//! live daemon say of the unseen fly is compared with each other to the last bit, and with the network of the checkpoint.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use haltere::model::Model;
use support::{Finished, LOSSLESS, Process, Rig, in_folder};

const TRAIN: &str =
    "train --mc2p flies --name small --method supervised --hold-out fly_03 --steps 40 --set batch.segments=6";
const UNSEEN: &str = "sim:seed=3,animal=3,trial=2,seconds=60,optics.side_px=32";

fn run(folder: &Path, line: &str) -> Finished {
    Process::start("haltere", &mut in_folder(folder, line.split(' ').collect::<Vec<_>>())).finish()
}

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pixels");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let simulate =
        "simulate flies --animals 3 --trials 2 --seconds 60 --seed 3 --set optics.side_px=32 --truth activity";
    run(&folder, simulate).code(0);
    run(&folder, TRAIN).code(0);
    folder
});

#[test]
fn the_same_command_gives_the_same_model_and_the_daemon_accepts_it() {
    let model = Model::load(&FOLDER.join("models/small.toml")).unwrap();
    let manifest = &model.manifest;
    assert!(manifest.parity.as_ref().unwrap().max_abs_difference <= 1e-5);
    assert_eq!(manifest.state, Some([31, 64]));
    assert!(manifest.preprocess.atlas.is_some() && manifest.preprocess.baseline.is_none() && model.decodes_actions());
    assert!(manifest.preprocess.normalise.as_ref().unwrap().signal_share);
    run(&FOLDER, &TRAIN.replace("--name small", "--name again")).code(0);
    assert!(losses("small").len() >= 40);
    assert_eq!(losses("small"), losses("again"));
}

/// The loss of each step of a run.
fn losses(name: &str) -> Vec<String> {
    let mut rows = csv::Reader::from_path(FOLDER.join(format!("runs/{name}/metrics.csv"))).unwrap();
    let column = rows.headers().unwrap().iter().position(|header| header.starts_with("loss")).unwrap();
    rows.records().map(|row| row.unwrap()[column].to_owned()).filter(|loss| !loss.is_empty()).collect()
}

#[test]
fn without_a_method_labels_decide_which_one_it_is() {
    let unasked = TRAIN.replace("--method supervised ", "");
    let line = unasked.replace("--name small", "--name unasked");
    run(&FOLDER, &line).code(0).says(&["every trial has labels: --method supervised"]);
    assert_eq!(losses("unasked"), losses("small"));
    let model = Model::load(&FOLDER.join("models/unasked.toml")).unwrap();
    assert!(model.manifest.preprocess.atlas.is_some() && model.manifest.preprocess.baseline.is_none());
    // One trial without labels is enough for the method that needs none.
    let copied = std::process::Command::new("cp").args(["-r", "flies", "partly"]).current_dir(&*FOLDER).status();
    assert!(copied.unwrap().success());
    let trial = FOLDER.join("partly/fly_01/001");
    let names = std::fs::read_dir(&trial).unwrap().map(|entry| entry.unwrap().path());
    let labels: Vec<PathBuf> =
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("labels")).collect();
    assert_eq!(labels.len(), 1);
    std::fs::remove_file(&labels[0]).unwrap();
    let line = unasked
        .replace("flies", "partly")
        .replace("--name small", "--name contrast")
        .replace("--steps 40", "--steps 2");
    run(&FOLDER, &line).code(0).says(&["1 of 6 trials has no labels: --method haltere"]);
    let model = Model::load(&FOLDER.join("models/contrast.toml")).unwrap();
    assert!(model.manifest.preprocess.atlas.is_some() && model.manifest.preprocess.baseline.is_none());
    assert_eq!(model.manifest.state, Some([31, 64]), "the network of pixels");
}

#[test]
fn a_live_daemon_decodes_what_embed_writes_to_the_last_bit() {
    run(&FOLDER, &format!("embed {UNSEEN} --model models/small.toml --out unseen.npy")).code(0);
    let offline: ndarray::Array2<f32> = ndarray_npy::read_npy(FOLDER.join("unseen.npy")).unwrap();
    let rig = Rig::new(FOLDER.join("models/small.toml"));
    let daemon = rig.daemon(&[&["--once"][..], &LOSSLESS].concat());
    let mut listener = rig.listen();
    rig.play(&[Path::new(UNSEEN)], &["--push", "--flood"]).finish().code(0);
    daemon.finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    let decodes: Vec<_> = listener.decodes().into_iter().filter(|d| d.quality() != "fail").collect();
    assert_eq!(decodes.len(), offline.nrows());
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    for (row, decode) in decodes.iter().enumerate() {
        assert_eq!(bits(&decode.embedding), bits(offline.row(row).as_slice().unwrap()), "frame {row}");
    }
    assert!(decodes.iter().filter(|decode| decode.header["probs"].is_array()).count() > 500);
}

#[test]
fn each_method_reads_frames_prepared_for_it_unless_the_user_says_otherwise() {
    let line = "compare --mc2p flies --unseen 1 --steps 3 --set batch.segments=6 --methods lda,lda-atlas,supervised --out prepared";
    run(&FOLDER, line).code(0);
    let data = |folder: &str, method: &str| {
        let path = FOLDER.join(format!("{folder}/results/flies__seed1__{method}.json"));
        let outcome: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        outcome["data_sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(data("prepared", "supervised"), data("prepared", "lda-atlas"));
    assert_ne!(data("prepared", "supervised"), data("prepared", "lda"));
    let asked = line.replace("prepared", "asked").replace("lda-atlas,", "");
    run(&FOLDER, &format!("{asked} --atlas=off --preprocess normalise.signal_share=false")).code(0);
    assert_eq!(data("asked", "supervised"), data("prepared", "lda"), "32 px, F₀, as they lie");
    run(&FOLDER, &format!("{line} --atlas=off")).code(2).says(&["lda-atlas reads animals on an atlas", "--atlas=off"]);
}

#[test]
fn labels_may_join_a_contrast_and_the_scores_then_leave_out_what_would_flatter() {
    let line = "compare --mc2p flies --unseen 1 --methods haltere --steps 20 --out joint --set batch.segments=6 --set label_weight=1";
    let joint = run(&FOLDER, line).code(0);
    let alone = run(&FOLDER, &line.replace("label_weight=1", "label_weight=0").replace("joint", "alone")).code(0);
    assert!(joint.out.contains("unseen") && alone.out.contains("single-animal"));
    let scores = |folder: &str| {
        let text = std::fs::read_dir(FOLDER.join(folder).join("results")).unwrap();
        let file = text.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "json"));
        let text = std::fs::read_to_string(file.unwrap()).unwrap();
        let outcome: serde_json::Value = serde_json::from_str(&text).unwrap();
        let scores = outcome["evaluation"]["scores"].as_array().unwrap().clone();
        scores.iter().map(|s| s["setting"].as_str().unwrap().to_owned()).collect::<Vec<String>>()
    };
    assert!(!scores("joint").contains(&"single-animal".to_owned()), "{:?}", scores("joint"));
    assert!(scores("alone").contains(&"single-animal".to_owned()));
}

#[test]
fn a_ladder_changes_one_thing_at_a_time_and_ends_with_what_the_data_allow() {
    let known = "simulate known --animals 3 --trials 1 --seconds 60 --seed 3 --set optics.side_px=32 --truth activity";
    run(&FOLDER, known).code(0);
    let line = "compare --mc2p known --ladder --unseen 1 --seeds 1 --steps 20 --set batch.segments=6 --out ladder";
    let first = run(&FOLDER, line);
    let rungs = [
        "1 as they lie, F₀",
        "2 as they lie, without F₀",
        "3 on the atlas, F₀",
        "4 on the atlas, without F₀",
        "5 pixels by their share of signal",
        "6 the network on the same",
        "7 true light of every axon",
    ];
    let first = first.code(0);
    assert!(rungs.iter().all(|rung| first.out.contains(rung)), "{}", first.out);
    let mut rows = csv::Reader::from_path(FOLDER.join("ladder/ladder.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), rungs.len(), "one animal on every rung");
    let of = |row: &csv::StringRecord, column: usize| row[column].parse::<f64>().unwrap();
    for row in rows.iter().filter(|row| &row[0] == "true light of every axon") {
        assert!(of(row, 3) > of(row, 4) + 0.1, "the light of the axons tells no action: {row:?}");
    }
    let page = std::fs::read_to_string(FOLDER.join("ladder/report.html")).unwrap();
    assert!(page.contains("What each step of the preparation is worth") && page.contains("on the atlas, without F₀"));
    assert_eq!(run(&FOLDER, line).code(0).out, first.out, "finished rungs are not run again");
    let again = run(&FOLDER, &line.replace("--seeds 1", "--seeds 1,4"));
    again.code(2).says(&["seed 4 leaves out fly_02 of known again", "at most 3 seeds"]);
    run(&FOLDER, "simulate unlabelled --animals 2 --trials 1 --seconds 4 --set optics.side_px=32").code(0);
    std::fs::remove_file(FOLDER.join("unlabelled/fly_02/001/labels.csv")).unwrap();
    let refused = run(&FOLDER, "compare --mc2p unlabelled --ladder --unseen 1 --out no_ladder");
    refused.code(2).says(&["1 of 2 trials of unlabelled have no labels"]);
}
