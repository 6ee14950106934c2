//! Manifests as they are and as they must not be: each test writes one into a folder of its own and reads it.

use super::parameters::{Parameters, Registration};
use super::*;
use crate::frame::Shape;

/// A folder with `m.onnx` (five bytes) and its manifest, changed by `edit`.
fn written(edit: impl FnOnce(&mut Manifest)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.onnx"), b"bytes").unwrap();
    let mut manifest = sound(&sha256_of(&folder.path().join("m.onnx")).unwrap());
    edit(&mut manifest);
    std::fs::write(folder.path().join("m.toml"), toml::to_string_pretty(&manifest).unwrap()).unwrap();
    folder
}

fn sound(sha256: &str) -> Manifest {
    Manifest {
        format: FORMAT,
        name: "m".into(),
        file: "m.onnx".into(),
        sha256: sha256.into(),
        kind: Kind::Streaming,
        frame_rate_hz: 16.0,
        window_frames: 32,
        look_ahead_frames: 0,
        input: Shape::new(1, 128, 128),
        embedding: 128,
        state: Some([31, 128]),
        labels: vec!["rest".into(), "walk".into()],
        outputs: Vec::new(),
        provenance: Provenance { trained: true, ..Provenance::default() },
        parity: Some(Parity { against: "burn".into(), frames: 3, max_abs_difference: 1e-6 }),
        input_origin: InputOrigin::ReadyMade,
        calibration: Some(Calibration {
            temperature: 1.5,
            measured_on: "fly7".into(),
            moments: 300,
            ece_before: 0.1,
            ece_after: 0.02,
        }),
        novelty: Some(Novelty { prototypes: 64, thresholds: 101, measured_on: "fly7".into() }),
        drift: Some(Drift { time_constant_s: 60.0, limit: 0.8 }),
        adapted: Some(Adapted {
            from_name: "fly".into(),
            from_sha256: "0a".repeat(32),
            recording: "fly8.tif".into(),
            frames: 4000,
            aligned: true,
            refitted_on: 0,
        }),
        preprocess: Parameters::default(),
    }
}

#[test]
fn a_saved_manifest_reads_back_the_same_by_either_of_its_two_names() {
    let folder = written(|_| {});
    let saved = sound(&sha256_of(&folder.path().join("m.onnx")).unwrap());
    saved.save(&folder.path().join("m.toml")).unwrap();
    for name in ["m.toml", "m.onnx"] {
        let model = Model::load(&folder.path().join(name)).unwrap();
        assert_eq!(model.manifest, saved);
        assert_eq!(model.onnx_path, folder.path().join("m.onnx"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no partial file is left");
}

#[test]
fn every_value_that_cannot_be_is_refused_by_its_key() {
    type Edit = fn(&mut Manifest);
    let cases: [(&str, Edit); 45] = [
        ("format", |m| m.format = 2),
        ("name", |m| m.name = "a/b".into()),
        ("name", |m| m.name.clear()),
        ("file", |m| m.file = "".into()),
        ("file", |m| m.file = "/m.onnx".into()),
        ("file", |m| m.file = "../m.onnx".into()),
        ("file", |m| m.file = "a/../../m.onnx".into()),
        ("sha256", |m| m.sha256 = "12".into()),
        ("frame_rate_hz", |m| m.frame_rate_hz = 0.0),
        ("frame_rate_hz", |m| m.frame_rate_hz = f64::NAN),
        ("window_frames", |m| m.window_frames = 0),
        ("window_frames", |m| m.window_frames = 1025),
        ("look_ahead_frames", |m| m.look_ahead_frames = 32),
        ("input.channels", |m| m.input.channels = 3),
        ("input.height", |m| m.input.height = 0),
        ("input.width", |m| m.input.width = 4097),
        ("embedding", |m| m.embedding = 0),
        ("state", |m| m.state = None),
        ("state", |m| m.state = Some([0, 128])),
        ("state", |m| m.kind = Kind::Windowed),
        ("labels", |m| m.labels = (0..257).map(|i| i.to_string()).collect()),
        ("labels[1]", |m| m.labels[1].clear()),
        ("labels[1]", |m| m.labels[1] = "rest".into()),
        ("labels[0]", |m| m.labels[0] = "a\nb".into()),
        ("parity.frames", |m| m.parity.as_mut().unwrap().frames = 0),
        ("parity.max_abs_difference", |m| m.parity.as_mut().unwrap().max_abs_difference = f32::NAN),
        ("parity.against", |m| m.parity.as_mut().unwrap().against.clear()),
        ("calibration.temperature", |m| m.calibration.as_mut().unwrap().temperature = 0.0),
        ("calibration.measured_on", |m| m.calibration.as_mut().unwrap().measured_on.clear()),
        ("calibration.moments", |m| m.calibration.as_mut().unwrap().moments = 0),
        ("calibration.ece_after", |m| m.calibration.as_mut().unwrap().ece_after = f64::NAN),
        ("calibration", |m| m.labels.clear()),
        ("novelty.prototypes", |m| m.novelty.as_mut().unwrap().prototypes = 0),
        ("novelty.thresholds", |m| m.novelty.as_mut().unwrap().thresholds = 1),
        ("novelty.measured_on", |m| m.novelty.as_mut().unwrap().measured_on = "a\nb".into()),
        ("drift.time_constant_s", |m| m.drift.as_mut().unwrap().time_constant_s = 0.0),
        ("drift.limit", |m| m.drift.as_mut().unwrap().limit = 0.5),
        ("drift.limit", |m| m.drift.as_mut().unwrap().limit = f64::NAN),
        ("drift", |m| m.novelty = None),
        ("adapted.from_name", |m| m.adapted.as_mut().unwrap().from_name.clear()),
        ("adapted.from_sha256", |m| m.adapted.as_mut().unwrap().from_sha256 = "0g".repeat(32)),
        ("adapted.recording", |m| m.adapted.as_mut().unwrap().recording = "x".repeat(1025)),
        ("adapted.frames", |m| m.adapted.as_mut().unwrap().frames = 0),
        ("preprocess.average_frames", |m| m.preprocess.average_frames = 0),
        ("preprocess.channels", |m| m.preprocess.channels = vec![0, 1]),
    ];
    for (expected, edit) in cases {
        let folder = written(edit);
        match Model::load(&folder.path().join("m.toml")) {
            Err(ModelError::Value { key, .. }) => assert_eq!(key, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn an_exchanged_onnx_file_is_refused_with_both_hashes() {
    let folder = written(|_| {});
    std::fs::write(folder.path().join("m.onnx"), b"other").unwrap();
    let error = Model::load(&folder.path().join("m.toml")).unwrap_err();
    assert!(matches!(&error, ModelError::Hash { found, expected, .. } if found != expected), "{error}");
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_the_nearest_known_key() {
    let folder = written(|_| {});
    let path = folder.path().join("m.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("window_frames", "window_frame");
    std::fs::write(&path, text).unwrap();
    let message = Model::load(&path).unwrap_err().to_string();
    assert!(message.contains("line 7"), "{message}");
    assert!(message.contains("did you mean `window_frames`?"), "{message}");
}

#[test]
fn an_unknown_word_is_answered_with_the_nearest_known_word() {
    let folder = written(|_| {});
    let path = folder.path().join("m.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"streaming\"", "\"steaming\"");
    std::fs::write(&path, text).unwrap();
    let message = Model::load(&path).unwrap_err().to_string();
    assert!(message.contains("did you mean `streaming`?"), "{message}");
}

#[test]
fn missing_files_and_oversized_manifests_are_named() {
    let folder = written(|_| {});
    let missing = Model::load(&folder.path().join("none.toml")).unwrap_err();
    assert!(missing.to_string().contains("none.toml"), "{missing}");
    std::fs::remove_file(folder.path().join("m.onnx")).unwrap();
    let missing = Model::load(&folder.path().join("m.toml")).unwrap_err();
    assert!(missing.to_string().contains("m.onnx"), "{missing}");
    std::fs::write(folder.path().join("m.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    let large = Model::load(&folder.path().join("m.toml"));
    assert!(matches!(large, Err(ModelError::File { cause, .. }) if cause.kind() == std::io::ErrorKind::FileTooLarge));
}

#[test]
fn a_manifest_of_an_earlier_version_is_read_as_live_and_as_having_measured_nothing() {
    let folder = written(|_| {});
    let path = folder.path().join("m.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    for key in ["input_origin", "calibration", "novelty", "drift", "adapted"] {
        assert!(table.remove(key).is_some(), "{key} is written");
    }
    std::fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
    let model = Model::load(&path).unwrap();
    let m = &model.manifest;
    assert!(m.calibration.is_none() && m.novelty.is_none() && m.drift.is_none() && m.adapted.is_none());
    assert_eq!(m.input_origin, InputOrigin::Live);
    model.refuse_ready_made(false).unwrap();
}

#[test]
fn a_model_of_ready_made_input_is_refused_with_the_reason_and_the_key_that_accepts_it() {
    let folder = written(|_| {});
    let model = Model::load(&folder.path().join("m.toml")).unwrap();
    let message = model.refuse_ready_made(false).unwrap_err().to_string();
    for words in ["m.toml", "ready-made", "no running daemon", "accept_ready_made_input = true"] {
        assert!(message.contains(words), "{words:?} is not in {message}");
    }
    model.refuse_ready_made(true).unwrap();
}

#[test]
fn a_model_without_training_or_without_labels_decodes_no_action() {
    let mut manifest = sound("");
    assert!(manifest.decodes_actions());
    manifest.provenance.trained = false;
    assert!(!manifest.decodes_actions());
    manifest.provenance.trained = true;
    manifest.labels.clear();
    assert!(!manifest.decodes_actions());
}

/// Everything off; what a model of ready-made ΔF/F was trained on.
fn nothing_done() -> Parameters {
    Parameters { line_phase: None, registration: None, baseline: None, normalise: None, ..Parameters::default() }
}

#[test]
fn a_step_that_is_off_stays_off_when_the_manifest_is_read_again() {
    let folder = written(|m| m.preprocess = nothing_done());
    let path = folder.path().join("m.toml");
    let read = Model::load(&path).unwrap().manifest;
    assert_eq!(read.preprocess, nothing_done());
    read.save(&path).unwrap();
    assert_eq!(Manifest::read(&path).unwrap(), read);
    let text = std::fs::read_to_string(&path).unwrap();
    for step in ["line_phase", "registration", "baseline", "normalise"] {
        assert!(text.contains(&format!("{step} = \"off\"")), "{step} in\n{text}");
    }
}

#[test]
fn a_step_that_a_manifest_does_not_name_has_its_defaults() {
    let parameters: Parameters = toml::from_str("registration.reach_px = 5\nbaseline = \"off\"").unwrap();
    assert_eq!(parameters.registration, Some(Registration { reach_px: 5, ..Registration::default() }));
    assert_eq!((parameters.baseline, parameters.line_phase), (None, None));
    assert_eq!(parameters.normalise, Parameters::default().normalise);
    assert_eq!(toml::from_str::<Parameters>("").unwrap(), Parameters::default());
    let wrong = |text: &str| toml::from_str::<Parameters>(text).unwrap_err().to_string();
    assert!(wrong("baseline = \"of\"").contains("a table with the step's parameters, or \"off\""));
    assert!(wrong("baseline = false").contains("\"off\""));
    assert!(wrong("baseline.floor = 1").contains("unknown field `floor`"));
}

#[test]
fn a_step_is_switched_by_its_key() {
    let mut parameters = Parameters::default();
    parameters.set("baseline=off").unwrap();
    parameters.set("line_phase.frames=12").unwrap();
    parameters.set("registration.channel=1").unwrap();
    assert_eq!(parameters.baseline, None);
    assert_eq!(parameters.line_phase.as_ref().map(|p| (p.frames, p.reach_px)), Some((12, 8)));
    assert_eq!(parameters.registration.as_ref().map(|r| r.channel), Some(1));
    let error = |text: &str| Parameters::default().set(text).unwrap_err().to_string();
    assert!(error("base=off").contains("no key `base`; the keys are: "), "{}", error("base=off"));
    assert!(error("line_phase.frame=3").contains("unknown field `frame`"), "{}", error("line_phase.frame=3"));
    assert!(error("average_frames=65").contains("1 to 64 frames"));
}
