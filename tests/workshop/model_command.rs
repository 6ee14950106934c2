//! `haltere model init`, `inspect` and `adopt`, as functions.
//!
//! Method: init in a temporary folder, then look at it with the others; every refusal is provoked once.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use haltere::cli::model::{AdoptArguments, CommandError, InspectArguments, Inspection, adopt, inspect};
use haltere::cli::training::{InitArguments, InitError, init};
use haltere::frame::Shape;
use haltere::model::onnx::Graph;
use haltere::model::{Kind, Model};

fn arguments(folder: &Path, kind: Kind) -> InitArguments {
    InitArguments {
        name: "fly".into(),
        folder: folder.join("models"),
        seed: 1,
        kind,
        input: Shape::new(2, 32, 32),
        channels: vec![0, 1],
        frame_rate_hz: 16.0,
        window_frames: 8,
        force: false,
        runtime: None,
    }
}

fn adoption(onnx: PathBuf) -> AdoptArguments {
    AdoptArguments {
        onnx,
        name: None,
        frame_rate_hz: 30.0,
        window_frames: None,
        labels: Vec::new(),
        trained: false,
        force: false,
        runtime: None,
    }
}

fn inspected(model: &Path, json: bool) -> (Inspection, String) {
    let mut out = Vec::new();
    let arguments = InspectArguments { model: model.into(), json, runtime: None, threads: 1 };
    let found = inspect(&arguments, &mut out).unwrap();
    (found, String::from_utf8(out).unwrap())
}

#[test]
fn init_writes_a_model_that_says_untrained_decodes_no_action_and_has_measured_parity() {
    for kind in [Kind::Streaming, Kind::Windowed] {
        let folder = tempfile::tempdir().unwrap();
        let path = init(&arguments(folder.path(), kind), &mut Vec::new()).unwrap();
        let model = Model::load(&path).unwrap();
        assert_eq!(model.manifest.kind, kind);
        assert!(!model.manifest.provenance.trained && !model.decodes_actions());
        assert_eq!(model.manifest.provenance.note, "untrained: random weights, decodes no action");
        let parity = model.manifest.parity.unwrap();
        assert!(parity.frames == 16 && parity.max_abs_difference < 1e-5, "{parity:?}");
    }
}

#[test]
fn init_is_reproducible_and_overwrites_only_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = arguments(folder.path(), Kind::Streaming);
    let path = init(&wanted, &mut Vec::new()).unwrap();
    let bytes = std::fs::read(path.with_extension("onnx")).unwrap();
    assert!(matches!(init(&wanted, &mut Vec::new()), Err(InitError::Exists(there)) if there == path));
    wanted.force = true;
    init(&wanted, &mut Vec::new()).unwrap();
    assert!(std::fs::read(path.with_extension("onnx")).unwrap() == bytes);
    wanted.seed = 2;
    init(&wanted, &mut Vec::new()).unwrap();
    assert!(std::fs::read(path.with_extension("onnx")).unwrap() != bytes);
}

#[test]
fn init_refuses_what_no_network_can_be_before_it_writes_anything() {
    let folder = tempfile::tempdir().unwrap();
    let sound = arguments(folder.path(), Kind::Streaming);
    let bad = [
        InitArguments { input: Shape::new(2, 30, 32), ..sound.clone() },
        InitArguments { window_frames: 11, ..sound.clone() },
        InitArguments { channels: vec![0], ..sound.clone() },
        InitArguments { frame_rate_hz: 0.0, ..sound.clone() },
        InitArguments { name: "../fly".into(), ..sound },
    ];
    for arguments in bad {
        init(&arguments, &mut Vec::new()).unwrap_err();
        let written = std::fs::read_dir(folder.path().join("models")).map_or(0, Iterator::count);
        assert_eq!(written, 0, "{arguments:?}");
    }
}

#[test]
fn inspect_shows_hash_shapes_and_speed_as_text_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = init(&arguments(folder.path(), Kind::Streaming), &mut Vec::new()).unwrap();
    let (found, text) = inspected(&path, false);
    assert!(found.is_sound());
    for part in
        ["(as in the manifest)", "frame float32 [1, 2, 32, 32]", "next_state float32 [1, 7, 128]", "p99", "untrained"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (_, json) = inspected(&path.with_extension("onnx"), true);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["manifest"]["name"], "fly");
    assert_eq!(json["run"]["steps"], 200);
    assert_eq!(json["decodes_actions"], false);
}

#[test]
fn inspect_shows_an_exchanged_file_and_does_not_run_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = init(&arguments(folder.path(), Kind::Streaming), &mut Vec::new()).unwrap();
    std::fs::write(path.with_extension("onnx"), b"something else").unwrap();
    let (found, text) = inspected(&path, false);
    assert!(!found.is_sound() && found.run.is_none());
    assert!(text.contains("NOT the one in the manifest") && text.contains("PROBLEM"), "{text}");
}

#[test]
fn adopt_recognises_both_kinds_and_writes_a_manifest_that_loads() {
    for kind in [Kind::Streaming, Kind::Windowed] {
        let folder = tempfile::tempdir().unwrap();
        let path = init(&arguments(folder.path(), kind), &mut Vec::new()).unwrap();
        let original = Model::load(&path).unwrap().manifest;
        let onnx = folder.path().join("theirs.onnx");
        std::fs::copy(path.with_extension("onnx"), &onnx).unwrap();
        let adopted = Model::load(&adopt(&adoption(onnx.clone()), &mut Vec::new()).unwrap()).unwrap().manifest;
        assert_eq!((adopted.kind, adopted.window_frames, adopted.input), (kind, 8, original.input));
        assert_eq!((adopted.embedding, adopted.state, &*adopted.name), (128, original.state, "theirs"));
        assert!(matches!(adopt(&adoption(onnx), &mut Vec::new()), Err(CommandError::Exists(_))));
    }
}

#[test]
fn adopt_says_what_a_file_would_need() {
    let folder = tempfile::tempdir().unwrap();
    let onnx = folder.path().join("other.onnx");
    let mut graph = Graph::default();
    graph.input("x", &[1, 5]);
    graph.node("Relu", &["x"], "y", &[]);
    graph.output("y", &[1, 5]);
    std::fs::write(&onnx, graph.finish("other", &[])).unwrap();
    let error = adopt(&adoption(onnx.clone()), &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, CommandError::Unfit { cause, .. } if cause.contains("[1,T,C,H,W]")), "{error}");
    assert!(!onnx.with_extension("toml").exists());
}

#[test]
fn somebody_elses_streaming_encoder_is_adopted_and_runs() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("HALTERE_SHARED").map_or_else(|| here.join("../shared"), PathBuf::from);
    let theirs = shared.join("peers/encoder_small.onnx");
    if !theirs.is_file() {
        eprintln!("SKIPPED: {} is not there", theirs.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let onnx = folder.path().join("encoder_small.onnx");
    std::fs::copy(theirs, &onnx).unwrap();
    let path = adopt(&adoption(onnx), &mut Vec::new()).unwrap();
    let (found, text) = inspected(&path, false);
    assert!(found.is_sound(), "{text}");
    assert_eq!((found.manifest.window_frames, found.manifest.state), (32, Some([31, 128])));
    println!("{text}");
}
