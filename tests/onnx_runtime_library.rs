//! A wrong ONNX Runtime library is a sentence, never a panic; the right one can still be loaded afterwards, and only one.
//!
//! Method: one test in a process of its own, because a process loads one library.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use haltere::encode::{EncodeError, Encoder};
use haltere::frame::Shape;
use haltere::model::parameters::Parameters;
use haltere::model::{Kind, Model, Provenance};
use haltere::train::export::{Details, write};
use haltere::train::{Network, NetworkSpec};

fn model(folder: &Path) -> Model {
    let spec = NetworkSpec::for_input(Shape::new(1, 32, 32));
    let network = Network::new(&spec, 1, &burn::tensor::Device::flex()).unwrap();
    let details = Details {
        name: "m".into(),
        kind: Kind::Streaming,
        frame_rate_hz: 16.0,
        look_ahead_frames: 0,
        provenance: Provenance::default(),
        preprocess: Parameters::default(),
    };
    Model::load(&write(&network, &spec, &details, folder).unwrap()).unwrap()
}

#[test]
fn a_missing_or_damaged_library_is_named_with_its_remedy_and_the_right_one_loads_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let said = |library: &Path| match Encoder::open(&model, Some(library), 1) {
        Err(EncodeError::Runtime { cause }) => cause,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} was taken", library.display()),
    };
    let missing = said(Path::new("nowhere/libonnxruntime.so"));
    assert!(missing.contains("nowhere/libonnxruntime.so") && missing.contains("make setup"), "{missing}");
    let damaged = folder.path().join("libonnxruntime.so");
    std::fs::write(&damaged, b"\x7fELF and no more").unwrap();
    assert!(said(&damaged).contains("is damaged"), "{}", said(&damaged));

    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|p| p.is_file());
    let right = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/libonnxruntime.so"));
    let encoder = Encoder::open(&model, Some(&right), 1).unwrap();
    assert!(encoder.info().runtime_version.starts_with("1."));
    assert_eq!(encoder.info().provider, "CPUExecutionProvider");
    assert!(Encoder::open(&model, None, 1).is_ok());
    assert!(said(&damaged).contains("a process has one"), "{}", said(&damaged));
}
