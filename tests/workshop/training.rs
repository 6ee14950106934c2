//! Training as a user does it: simulate, train, eval, embed, and a live loop, all through the binary.
//!
//! Method: three simulated flies of 32×32 px, sixty steps on two of them, the third judges. The run is made once and every
//! test looks at another part of what it left. Animals are laid on an atlas. What is decoded is compared with the network of the checkpoint, computed by
//! burn from the recordings as training read them.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use burn::tensor::Device;
use haltere::dataset::trials::Dataset;
use haltere::dataset::{DataSpec, LoadOptions, Mc2pOptions, load};
use haltere::model::{InputOrigin, Model};
use haltere::train::behaviour::Behaviour;
use haltere::train::fit::Fit;
use haltere::train::represent::represent;
use haltere::train::settings::TrainSettings;
use ndarray::Array2;
use serde_json::Value;
use support::{Finished, LOSSLESS, Process, Rig, in_folder};

/// Optimiser steps.
const STEPS: usize = 60;
/// The recording that is decoded, as one word: the second trial of the animal that nothing was trained on.
const UNSEEN: &str = "sim:seed=3,animal=3,trial=2,seconds=60,optics.side_px=32";
/// Largest difference between what the daemon decodes and what the network of the checkpoint says.
const TOLERANCE: f32 = 1e-5;
/// Nats by which the mean loss of the last fifth of the steps must lie below that of the first fifth, and below guessing.
const LOSS_FALLS_BY: f64 = 0.3;
/// Windows of a batch: guessing among them costs its logarithm.
const WINDOWS: f64 = 24.0;

/// What one run left, in a folder that is made anew for each run of these tests.
struct Trained {
    folder: PathBuf,
    said: Finished,
}

impl Trained {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("models/tiny.toml")
    }

    fn run(&self, words: &[&str]) -> Finished {
        run(&self.folder, words).code(0)
    }
}

static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("training");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let simulate = "simulate flies --animals 3 --trials 2 --seconds 60 --seed 3 --format both --set optics.side_px=32";
    run(&folder, &words(simulate)).code(0);
    // `simclr`, because animals differ in their raw behaviour: there is something to be learnt within so few steps. The network of
    // convolutions; that of pixels goes the same way in `pixels.rs`.
    let train = "train --mc2p flies --name tiny --method simclr --hold-out fly_03 --steps 60 --set batch.segments=6 --set \
                 network.kind=patches --set network.widths=[8,12] --set temperature=0.5 --set optimiser.learning_rate=0.005";
    let said = run(&folder, &words(train)).code(0);
    Trained { folder, said }
});

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn run(folder: &Path, words: &[&str]) -> Finished {
    Process::start("haltere", &mut in_folder(folder, words)).finish()
}

/// `metrics.csv`, by the first word of each column.
fn metrics(path: &Path) -> BTreeMap<String, Vec<Option<f64>>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let names: Vec<String> =
        reader.headers().unwrap().iter().map(|h| h.split([' ', '[']).next().unwrap().to_owned()).collect();
    let mut columns: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for record in reader.records() {
        for (name, field) in names.iter().zip(&record.unwrap()) {
            columns.entry(name.clone()).or_default().push(field.parse().ok());
        }
    }
    columns
}

/// The rows of a `.npy` of float32.
fn rows(path: &Path) -> Array2<f32> {
    ndarray_npy::read_npy(path).unwrap()
}

/// Of one recording: embedding, quality, action, confidence and novelty of each frame, by `embed`.
struct Embedded {
    values: Array2<f32>,
    table: Vec<csv::StringRecord>,
}

fn embed(trained: &Trained, recording: &str, name: &str) -> Embedded {
    let [npy, csv] = ["npy", "csv"].map(|extension| format!("{name}.{extension}"));
    trained.run(&["embed", recording, "--model", "models/tiny.toml", "--out", &npy, "--csv", &csv]);
    let values = rows(&trained.path(&npy));
    let table = csv::Reader::from_path(trained.path(&csv)).unwrap().records().map(Result::unwrap).collect();
    Embedded { values, table }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The recordings of some animals, as training reads them.
fn dataset(trained: &Trained, animals: &[&str]) -> Dataset {
    let manifest = Model::load(&trained.model()).unwrap().manifest;
    let options = Mc2pOptions { frame_rate_hz: 16.0, behaviour_rate_hz: Some(100.0), ..Mc2pOptions::default() };
    let spec = DataSpec::mc2p(&trained.path("flies"), &options).unwrap();
    let options = LoadOptions {
        parameters: Some(manifest.preprocess),
        input: Some(manifest.input),
        animals: animals.iter().map(|a| (*a).to_owned()).collect(),
        window_frames: manifest.window_frames,
        ..LoadOptions::default()
    };
    load(&spec, &options, &|_| ()).unwrap().0
}

#[test]
fn the_loss_falls_and_the_row_of_every_step_is_there() {
    let table = metrics(&TRAINED.path("runs/tiny/metrics.csv"));
    let losses: Vec<f64> = table["loss"].iter().flatten().copied().collect();
    assert_eq!(losses.len(), STEPS);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..STEPS / 5]), mean(&losses[STEPS - STEPS / 5..]));
    assert!(last < first - LOSS_FALLS_BY && last < WINDOWS.ln() - LOSS_FALLS_BY, "{first} → {last}");
    assert!(table["held_out_loss"].iter().flatten().count() >= 10, "looks at the held-out part");
}

#[test]
fn the_model_is_accepted_by_the_daemons_encoder_and_says_what_was_measured() {
    let model = Model::load(&TRAINED.model()).unwrap();
    let manifest = &model.manifest;
    let parity = manifest.parity.as_ref().unwrap();
    assert!(parity.frames > 100 && parity.max_abs_difference <= TOLERANCE, "{parity:?}");
    assert_eq!(manifest.input_origin, InputOrigin::Live);
    assert!(manifest.provenance.trained && model.decodes_actions());
    assert_eq!(manifest.labels, dataset(&TRAINED, &["fly_03"]).labels);
    let atlas = manifest.preprocess.atlas.as_ref().unwrap();
    assert!((0.3..=0.9).contains(&atlas.likeness_min), "{}", atlas.likeness_min);
    let calibration = manifest.calibration.as_ref().unwrap();
    assert!(calibration.moments > 500 && calibration.measured_on.contains("fly_03"), "{calibration:?}");
    let novelty = manifest.novelty.as_ref().unwrap();
    assert!(novelty.measured_on.contains("fly_03"), "{novelty:?}");
    assert!(manifest.drift.as_ref().is_some_and(|d| d.time_constant_s > 0.0 && (0.5..1.0).contains(&d.limit)));
    assert!(TRAINED.said.err.contains("the daemon's encoder reproduces it"), "{}", TRAINED.said.err);
    let inspected = TRAINED.run(&["model", "inspect", "models/tiny.toml"]);
    assert!(inspected.out.contains("(as in the manifest)"), "{}", inspected.out);
}

#[test]
fn the_folder_of_the_run_holds_all_of_it() {
    let of_run = [
        "config.toml",
        "provenance.json",
        "metrics.csv",
        "report.html",
        "report.json",
        "MODEL_CARD.md",
        "checkpoints/best/learner.bpk",
        "checkpoints/last/learner.bpk",
        "checkpoints/last/optimiser.bpk",
        "checkpoints/last/state.toml",
    ];
    for name in of_run {
        let size =
            std::fs::metadata(TRAINED.path("runs/tiny").join(name)).unwrap_or_else(|e| panic!("{name}: {e}")).len();
        assert!(size > 0, "{name} is empty");
    }
    assert!(std::fs::read_dir(TRAINED.path("runs/tiny/tensorboard")).unwrap().count() > 0);
    let page = std::fs::read_to_string(TRAINED.path("runs/tiny/report.html")).unwrap();
    for fact in ["Trials as they were read", "fly_01", "have behaviour", "decided by"] {
        assert!(page.contains(fact), "no {fact:?} in the report");
    }
    let card = std::fs::read_to_string(TRAINED.path("runs/tiny/MODEL_CARD.md")).unwrap();
    assert!(card.contains("fly_03"), "{card}");
    let provenance = std::fs::read_to_string(TRAINED.path("runs/tiny/provenance.json")).unwrap();
    let provenance: Value = serde_json::from_str(&provenance).unwrap();
    assert_eq!(provenance["data_sha256"].as_str().unwrap(), dataset(&TRAINED, &["fly_01", "fly_02"]).sha256);
}

/// The whole way once more, in other hands: the MC2P folder instead of the stream, burn instead of ONNX Runtime, a window
/// instead of a state.
#[test]
fn what_embed_writes_is_what_the_network_of_the_checkpoint_says_of_the_recording() {
    let trained = &*TRAINED;
    let text = std::fs::read_to_string(trained.path("runs/tiny/config.toml")).unwrap();
    let settings: TrainSettings = toml::from_str(&text).unwrap();
    let training = dataset(trained, &["fly_01", "fly_02"]);
    let behaviour = Behaviour::standardised(&training, settings.augment.standardise_behaviour);
    let device = Device::flex();
    let fit = Fit::new(&training, &behaviour, &settings, &device).unwrap();
    let fit = fit.resume(&trained.path("runs/tiny/checkpoints/best")).unwrap();
    let data = dataset(trained, &["fly_03"]);
    let samples = data.samples(settings.network.window_frames, 0);
    let offline = represent(&fit.learner(), fit.spec(), 0, &data, &samples, &device);

    let embedded = embed(trained, UNSEEN, "unseen");
    let mut compared = 0;
    for (sample, expected) in samples.iter().zip(offline.values.rows()) {
        if data.trials[sample.trial].name.ends_with("002") {
            let found = embedded.values.row(sample.frame);
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= TOLERANCE, "frame {}: {off}", sample.frame);
            assert_eq!(&embedded.table[sample.frame][1], "ok", "frame {}", sample.frame);
            compared += 1;
        }
    }
    let ok = embedded.table.iter().filter(|record| &record[1] == "ok").count();
    // The daemon says ok from where training begins: at the first whole window of frames that are not of the warm-up.
    assert!(compared > 500, "{compared}");
    assert_eq!(ok, compared);
}

#[test]
fn the_tiff_and_the_live_fly_are_decoded_alike_to_the_last_bit() {
    let live = embed(&TRAINED, UNSEEN, "live");
    let file = embed(&TRAINED, "flies/fly_03/002/raw.tif", "file");
    assert_eq!(bits(live.values.as_slice().unwrap()), bits(file.values.as_slice().unwrap()));
    assert_eq!(live.table, file.table);
}

#[test]
fn a_live_loop_decodes_what_embed_writes_to_the_last_bit_with_the_same_action_confidence_and_novelty() {
    let offline = embed(&TRAINED, UNSEEN, "offline");
    let rig = Rig::new(TRAINED.model());
    let daemon = rig.daemon(&[&["--once"][..], &LOSSLESS].concat());
    let mut json = rig.watch(&["--json"]);
    let mut listener = rig.listen();
    json.until_it_says("heartbeat/");
    rig.play(&[Path::new(UNSEEN)], &["--push", "--flood"]).finish().code(0);
    daemon.finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    let mut actions = 0;
    let decodes: Vec<_> = listener.decodes().into_iter().filter(|d| d.quality() != "fail").collect();
    assert_eq!(decodes.len(), offline.values.nrows());
    for (row, decode) in decodes.iter().enumerate() {
        let (header, told) = (&decode.header, &offline.table[row]);
        assert_eq!(decode.number("frame").to_string(), told[0]);
        assert_eq!(bits(&decode.embedding), bits(offline.values.row(row).as_slice().unwrap()), "frame {row}");
        // Played faster than life, a frame that is ok is called degraded for its rate, and for nothing else.
        let too_fast = decode.quality() == "degraded" && header["reason"] == "frame_rate";
        assert!(decode.quality() == &told[1] || (too_fast && &told[1] == "ok"), "{header}");
        for (key, column) in [("action", 5), ("confidence", 6), ("novelty", 7)] {
            assert_eq!(as_written(header.get(key)), told[column], "{key} of frame {row}: {header}");
        }
        if &told[1] == "ok" {
            let probabilities: Vec<f64> =
                header["probs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-4, "{header}");
            actions += 1;
        }
    }
    assert!(actions > 500, "{actions}");
    let placed = listener.heard.iter().filter(|m| m.kind == "event" && m.header["event"] == "placement").count();
    assert_eq!(placed, 1, "the unseen fly was laid on the atlas");
    // The other reader of the same socket, for scripts.
    json.until_it_says("\"fail\"");
    json.signal(rustix::process::Signal::INT);
    let lines: Vec<Value> = json.finish().code(0).out.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let has_probabilities = |header: &&Value| header["probs"].is_array();
    let of_watch: Vec<&Value> = lines.iter().map(|line| &line["header"]).filter(has_probabilities).collect();
    let heard: Vec<&Value> = decodes.iter().map(|d| &d.header).filter(has_probabilities).collect();
    assert_eq!(of_watch.len(), heard.len());
    for (a, b) in of_watch.iter().zip(heard) {
        assert_eq!((&a["frame"], &a["action"], &a["probs"]), (&b["frame"], &b["action"], &b["probs"]));
    }
}

/// A header's value as the table of `embed` has it: f32 as the shortest text.
fn as_written(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) if text != "neutral" => text.clone(),
        Some(Value::Number(number)) => (number.as_f64().unwrap() as f32).to_string(),
        _ => String::new(),
    }
}

/// What `eval --embeddings` wrote has one order, and says of an unseen animal's trial what `embed` says.
fn embeddings_and_samples_agree() {
    let of = |name: &str| rows(&TRAINED.path(&format!("evaluation/{name}.npy")));
    let (embeddings, behaviour) = (of("embeddings"), of("behaviour"));
    let mut table = csv::Reader::from_path(TRAINED.path("evaluation/samples.csv")).unwrap();
    let samples: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!((embeddings.nrows(), behaviour.nrows()), (samples.len(), samples.len()));
    let columns = std::fs::read_to_string(TRAINED.path("evaluation/behaviour_columns.csv")).unwrap();
    assert_eq!(behaviour.ncols(), columns.lines().count());
    assert!(samples.iter().all(|s| (&s[0] == "fly_03") == (&s[5] == "true")), "only fly_03 is unseen");
    assert!(samples.iter().any(|s| &s[4] == "walking"), "{:?}", samples[0]);
    let live = embed(&TRAINED, UNSEEN, "beside_eval");
    let mut compared = 0;
    for (sample, found) in samples.iter().zip(embeddings.rows()) {
        if &sample[0] == "fly_03" && sample[1].ends_with("002") {
            let frame: usize = sample[2].parse().unwrap();
            let off = found.iter().zip(live.values.row(frame)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= TOLERANCE, "frame {frame}: {off}");
            compared += 1;
        }
    }
    assert!(compared > 500, "{compared}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("HALTERE_PYTHON").map_or(root.join(".venv/bin/python"), PathBuf::from);
    if !Command::new(&python).args(["-c", "import numpy"]).status().is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "{} has no numpy: `make setup`", python.display());
        return eprintln!("SKIPPED, clients/python/embeddings.py: {} has no numpy: `make setup`", python.display());
    }
    let script = root.join("clients/python/embeddings.py");
    let said = Command::new(&python).arg(script).arg(TRAINED.path("evaluation")).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(
        text.lines().count() == 3 && text.lines().last().unwrap().starts_with("fly_03: balanced accuracy 0."),
        "{text}"
    );
    assert!(text.lines().last().unwrap().ends_with("unseen"), "{text}");
}

#[test]
fn eval_prints_the_table_and_writes_it() {
    let line = "eval models/tiny.toml --mc2p flies --unseen fly_03 --rivals linear --out evaluation --embeddings";
    let said = TRAINED.run(&words(line));
    for setting in ["single-animal", "across-animal", "identity", "unseen"] {
        assert!(said.out.contains(setting), "no {setting} in\n{}", said.out);
    }
    assert!(said.out.lines().any(|row| row.starts_with("linear  ")), "no rival in\n{}", said.out);
    for name in ["evaluation.json", "table.txt", "table.md", "table.csv", "report.json", "report.html"] {
        assert!(TRAINED.path("evaluation").join(name).metadata().unwrap().len() > 0, "{name}");
    }
    embeddings_and_samples_agree();
    let page = std::fs::read_to_string(TRAINED.path("evaluation/report.html")).unwrap();
    assert!(page.contains("Trials as they were read"), "the facts that `info` shows");
    let text = std::fs::read_to_string(TRAINED.path("evaluation/evaluation.json")).unwrap();
    let evaluation: Value = serde_json::from_str(&text).unwrap();
    let scores = evaluation["scores"].as_array().unwrap();
    assert!(scores.iter().all(|s| (0.0..=1.0).contains(&s["balanced_accuracy"].as_f64().unwrap())), "{text}");
}
