//! `haltere calibrate`: a model for a new animal, through the daemon's own corridor.
//!
//! Method: "training" is a movie through a network of seeded weights; its embeddings are the prototypes. A "new animal" is the
//! same movie through the same network whose raw embedding was shifted: the gap is known, and so is what a perfect calibration
//! would give. Labels follow the phase of the movie, which the network's own (random) classifier does not know.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::path::{Path, PathBuf};
use std::process::Command;

use haltere::cli::check::{Level, check};
use haltere::cli::exit::exit_code;
use haltere::cli::training::calibrate_on;
use haltere::config::Config;
use haltere::corridor;
use haltere::corridor::Handles;
use haltere::decoder::Decoder;
use haltere::evaluate::fit_novelty;
use haltere::frame::Quality;
use haltere::model::head::{raw_only, shift_raw};
use haltere::model::onnx::OnnxFile;
use haltere::model::{InputOrigin, Manifest, Model};
use haltere::preprocess::Chosen;
use haltere::source::{RecordingSpec, open_recording};
use haltere::sys::exit::ExitCode;
use haltere::sys::files::sha256_of;
use haltere::train::calibrate::{CalibrateArguments, CalibrateReport};
use haltere::train::export::head::{FittedHead, FittedNovelty};
use support::{HALTERE, Keeper, RAW, Small};

const LABELS: [&str; 2] = ["rest", "walk"];
const FRAMES: u64 = 600;

/// Frame number, embedding, action.
type Seen = (u64, Vec<f32>, Option<usize>);

/// Good embeddings of the first frames of the movie: frame number and values.
fn embeddings(decoder: Decoder, frames: u64) -> Vec<Seen> {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let sinks = vec![Box::new(keeper.clone()) as _];
    corridor::run(support::corridor(decoder, support::recording(frames), sinks, &handles), || {}).unwrap();
    let kept = keeper.0.lock().unwrap();
    let good = kept.decodes.iter().filter(|d| d.quality == Quality::Ok);
    good.map(|d| (d.frame.number, d.embedding.values.clone(), d.action)).collect()
}

/// A trained model whose prototypes are its own embeddings of the movie.
fn trained(learnt: impl FnOnce(&mut FittedHead)) -> Small {
    let plain = Small::with(&LABELS, true, &FittedHead::default());
    let seen = embeddings(plain.decoder(), 900);
    let values: Vec<f32> = seen.iter().flat_map(|(_, values, _)| values.clone()).collect();
    let values = ndarray::Array2::from_shape_vec((seen.len(), 128), values).unwrap();
    let (training, held_out) = values.view().split_at(ndarray::Axis(0), 600);
    let reference = fit_novelty(training, held_out, 8, 50, 1).unwrap();
    let novelty = Some(FittedNovelty { reference, measured_on: "the movie itself".into() });
    let mut all = FittedHead { novelty, ..FittedHead::default() };
    learnt(&mut all);
    Small::with(&LABELS, true, &all)
}

/// Shifts the raw embedding of a model, as another animal would.
fn make_strange(small: &Small) {
    let model = Model::load(&small.manifest).unwrap();
    let mut file = OnnxFile::read(&model.onnx_path).unwrap();
    let mut raw = model.clone();
    raw.onnx_path = small.folder.path().join("raw.onnx");
    std::fs::write(&raw.onnx_path, raw_only(&file).unwrap().bytes()).unwrap();
    (raw.manifest.labels, raw.manifest.novelty) = (Vec::new(), None);
    let decoder = Decoder::open_on(&raw, &small.config().compute, &Chosen::cpu("")).unwrap();
    let seen = embeddings(decoder, 100);
    let size = seen.iter().flat_map(|(_, v, _)| v).map(|v| v.abs()).sum::<f32>() / (seen.len() * 128) as f32;
    let gap: Vec<f32> = (0..128).map(|d| if d % 2 == 0 { 0.5 * size } else { -0.5 * size }).collect();
    shift_raw(&mut file, &gap).unwrap();
    std::fs::write(&model.onnx_path, file.bytes()).unwrap();
    edit(small, |m| m.sha256 = sha256_of(&model.onnx_path).unwrap());
}

fn edit(small: &Small, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = Manifest::read(&small.manifest).unwrap();
    change(&mut manifest);
    manifest.save(&small.manifest).unwrap();
}

fn movie(small: &Small, frames: usize) -> PathBuf {
    let path = small.folder.path().join(format!("movie{frames}.raw"));
    support::write_raw(&path, frames);
    path
}

/// Half of the movie's 60 frames is rest, half of them is walking.
fn action(frame: u64) -> usize {
    usize::from(frame % 60 >= 30)
}

fn labels(small: &Small, text: impl AsRef<str>) -> PathBuf {
    let path = small.folder.path().join("labels.csv");
    std::fs::write(&path, text.as_ref()).unwrap();
    path
}

fn arguments(small: &Small, name: &str) -> CalibrateArguments {
    CalibrateArguments {
        out: small.folder.path().join(name),
        recording: "movie".into(),
        labels: None,
        align: true,
        force: false,
    }
}

fn calibrated(config: &Config, arguments: &CalibrateArguments, movie: &Path) -> anyhow::Result<CalibrateReport> {
    let mut spec = RecordingSpec::new(movie, "rig".parse().unwrap());
    (spec.raw, spec.rate_hz) = (Some(RAW.parse().unwrap()), Some(support::RATE_HZ));
    calibrate_on(config, arguments, &mut || open_recording(&spec), false)
}

fn refused(config: &Config, arguments: &CalibrateArguments, movie: &Path) -> (ExitCode, String) {
    let error = calibrated(config, arguments, movie).unwrap_err();
    let written = ["onnx", "toml"].map(|extension| arguments.out.with_extension(extension).exists());
    assert_eq!(written, [false, false], "a failure leaves nothing");
    (exit_code(&error), format!("{error:#}"))
}

fn decoder(manifest: &Path) -> Decoder {
    Decoder::open(&Config { model: manifest.to_path_buf(), ..Config::default() }).unwrap()
}

fn mean_cosine(a: &[Seen], b: &[Seen]) -> f32 {
    assert_eq!(a.len(), b.len());
    let cosine = |(a, b): (&Seen, &Seen)| a.1.iter().zip(&b.1).map(|(a, b)| a * b).sum::<f32>();
    a.iter().zip(b).map(cosine).sum::<f32>() / a.len() as f32
}

#[test]
fn an_animal_with_a_gap_is_brought_back_without_labels_and_the_new_model_says_where_it_comes_from() {
    let small = trained(|_| {});
    let truth = embeddings(small.decoder(), 200);
    make_strange(&small);
    let before = sha256_of(&small.manifest.with_extension("onnx")).unwrap();
    let strange = embeddings(small.decoder(), 200);
    let report = calibrated(&small.config(), &arguments(&small, "fly8"), &movie(&small, FRAMES as usize)).unwrap();
    println!("{report}");
    let found = report.alignment.unwrap();
    assert!(found.refused.is_none() && !report.unchanged, "{found:?}");
    assert!(found.novelty_after < found.novelty_before && report.parity_max_abs_difference <= 1e-5, "{found:?}");
    let after = embeddings(decoder(&report.manifest), 200);
    let (near, far) = (mean_cosine(&after, &truth), mean_cosine(&strange, &truth));
    println!("cosine with the embedding before the gap: {far} → {near}");
    assert!(near > far + 0.5 * (1.0 - far), "at least half of the gap is closed: {far} → {near}");

    let model = Model::load(&report.manifest).unwrap();
    let adapted = model.manifest.adapted.clone().unwrap();
    assert_eq!((adapted.from_sha256, adapted.from_name.as_str()), (before.clone(), "small"));
    assert_eq!((adapted.recording.as_str(), adapted.frames, adapted.aligned), ("movie", report.frames, true));
    assert_eq!((adapted.refitted_on, model.manifest.name.as_str()), (0, "fly8"));
    let file = OnnxFile::read(&model.onnx_path).unwrap();
    assert_eq!((file.metadata("name"), file.metadata("calibrated_from")), (Some("fly8"), Some(before.as_str())));
    assert_eq!(sha256_of(&small.manifest.with_extension("onnx")).unwrap(), before, "the old model is as it was");
}

#[test]
fn an_animal_like_those_of_training_is_hardly_moved() {
    let small = trained(|_| {});
    let truth = embeddings(small.decoder(), 200);
    let report = calibrated(&small.config(), &arguments(&small, "same"), &movie(&small, FRAMES as usize)).unwrap();
    println!("{report}");
    let after = embeddings(decoder(&report.manifest), 200);
    assert!(mean_cosine(&after, &truth) > 0.99, "{report}");
    let model = Model::load(&report.manifest).unwrap();
    assert_eq!(report.unchanged, report.alignment.unwrap().refused.is_some());
    assert_eq!(model.manifest.adapted.unwrap().aligned, !report.unchanged);
}

#[test]
fn labels_teach_the_classifier_and_the_daemon_then_decodes_better() {
    let small = trained(|_| {});
    let text = (30..FRAMES).map(|n| format!("{n},{}\n", LABELS[action(n)])).collect::<String>();
    let labels = labels(&small, format!("frame,label\n{text}"));
    let arguments = CalibrateArguments { labels: Some(labels), ..arguments(&small, "taught") };
    let report = calibrated(&small.config(), &arguments, &movie(&small, FRAMES as usize)).unwrap();
    println!("{report}");
    let refit = report.refit.unwrap();
    assert!(refit.refused.is_none() && refit.after.balanced_accuracy > refit.before.balanced_accuracy, "{refit:?}");
    assert!(refit.after.balanced_accuracy > 0.8 && refit.pieces >= 10, "{refit:?}");
    let hits = |decoder: Decoder| {
        let seen = embeddings(decoder, 1200);
        let later: Vec<_> = seen.iter().filter(|(number, ..)| *number >= FRAMES).collect();
        later.iter().filter(|(number, _, decoded)| *decoded == Some(action(*number))).count() as f64
            / later.len() as f64
    };
    let (before, after) = (hits(small.decoder()), hits(decoder(&report.manifest)));
    println!("running daemon on later frames: {before:.3} → {after:.3}");
    assert!(after > before && after > 0.8, "{before} → {after}");
    let manifest = Manifest::read(&report.manifest).unwrap();
    assert_eq!(manifest.adapted.unwrap().refitted_on, refit.samples);
}

#[test]
fn every_recording_and_label_file_that_cannot_be_is_refused_in_words_and_leaves_nothing() {
    let small = trained(|_| {});
    let (config, long) = (small.config(), movie(&small, 300));
    let plain = arguments(&small, "out");
    let (code, words) = refused(&config, &plain, &movie(&small, 3));
    assert!(code == ExitCode::Source && words.contains("3 frames") && words.contains("record longer"), "{words}");
    let (_, words) = refused(&config, &plain, &movie(&small, 40));
    assert!(words.contains("32 are needed"), "{words}");
    for (text, expected) in [
        ("frame,label\n300,rest\n", "frame 300 is outside the recording, which has 0 to 299"),
        ("frame,label\n30,swim\n", "\"swim\" is no label of the model; it knows rest, walk"),
        ("start_s,stop_s,label\n9,11,rest\n", "9 to 11 s is outside the recording"),
        ("start_s,stop_s,label\n2,9,rest\n", "every labelled frame is \"rest\""),
        ("frame,label\n0,rest\n1,walk\n", "no labelled frame has an embedding of quality ok"),
        ("frame,label\n100,rest\n101,walk\n", "1 pieces"),
        ("frame,label\n100,rest\n100,walk\n", "frame 100 is \"walk\" and also \"rest\""),
    ] {
        let arguments = CalibrateArguments { labels: Some(labels(&small, text)), ..plain.clone() };
        let (_, words) = refused(&config, &arguments, &long);
        assert!(words.contains(expected), "{expected:?} is not in {words}");
    }
    let nothing = CalibrateArguments { align: false, ..plain.clone() };
    assert!(refused(&config, &nothing, &long).1.contains("nothing to be done"));
    let nowhere = CalibrateArguments { out: small.folder.path().join("none/out"), ..plain };
    let (code, words) = refused(&config, &nowhere, &long);
    assert!(code == ExitCode::Sink && words.contains("does not exist; create it first"), "{words}");
}

#[test]
fn models_that_cannot_be_calibrated_say_why() {
    let untrained = Small::new();
    let (code, words) = refused(&untrained.config(), &arguments(&untrained, "out"), &movie(&untrained, 100));
    assert!(code == ExitCode::Model && words.contains("it is untrained"), "{words}");
    let blind = Small::with(&LABELS, true, &FittedHead::default());
    let (_, words) = refused(&blind.config(), &arguments(&blind, "out"), &movie(&blind, 100));
    assert!(words.contains("no novelty reference"), "{words}");
    let there = CalibrateArguments { out: blind.manifest.clone(), ..arguments(&blind, "small") };
    let error = calibrated(&blind.config(), &there, &movie(&blind, 100)).unwrap_err().to_string();
    assert!(error.contains("is there already") && error.contains("--force"), "{error}");
}

#[test]
fn ready_made_input_is_refused_everywhere_unless_it_is_accepted_by_its_key() {
    let small = trained(|learnt| learnt.input_origin = InputOrigin::ReadyMade);
    let (code, words) = refused(&small.config(), &arguments(&small, "out"), &movie(&small, 100));
    assert!(code == ExitCode::Model && words.contains("accept_ready_made_input = true"), "{words}");
    let level = |config: Config| {
        let report = check(Ok((config, Vec::new())));
        let of_model = report.lines.iter().filter(|line| ["model", "input"].contains(&line.what));
        of_model.map(|line| (line.what, line.level)).max_by_key(|(_, level)| *level).unwrap()
    };
    assert_eq!(level(small.config()), ("model", Level::Fault));
    let accepted = Config { accept_ready_made_input: true, ..small.config() };
    assert_eq!(level(accepted.clone()), ("input", Level::Warning));
    Decoder::open(&accepted).unwrap();
    for command in ["run", "embed"] {
        let movie = movie(&small, 100);
        let rest = ["--raw", RAW, "--out", "/nowhere/out.npy"];
        let mut process = Command::new(HALTERE);
        process.arg(command).arg("--model").arg(&small.manifest);
        if command == "embed" {
            process.arg(movie).args(rest);
        }
        let out = process.output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(4), "{command}: {words}");
        assert!(words.contains("ready-made") && words.contains("no running daemon"), "{command}: {words}");
    }
}

#[test]
fn the_command_line_does_the_same_and_reports_as_json() {
    let small = trained(|_| {});
    make_strange(&small);
    let out = small.folder.path().join("fly8");
    let run = |extra: &[&str]| {
        let mut process = Command::new(HALTERE);
        process.arg("calibrate").arg(&small.manifest).arg(movie(&small, FRAMES as usize));
        process.args(["--raw", RAW, "--json"]).arg("--out").arg(&out).args(extra).output().unwrap()
    };
    let first = run(&[]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let report: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    assert!(report["alignment"]["novelty_after"].as_f64() < report["alignment"]["novelty_before"].as_f64(), "{report}");
    assert_eq!((&report["unchanged"], &report["refit"]), (&false.into(), &serde_json::Value::Null));
    Model::load(&out.with_extension("toml")).unwrap();
    assert_eq!(run(&[]).status.code(), Some(1), "it is there already");
    assert!(run(&["--force"]).status.success());
}
