//! One step of the encoder: the default network at three sizes, and, where it lies beside the checkout, the peers' encoder.
//!
//! One thread, real bindings; the embedding is checked before it is timed. Back to back: a rig that idles between frames is
//! slower, which the corridor's bench shows.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use haltere::cli::model::{AdoptArguments, adopt};
use haltere::encode::Encoder;
use haltere::frame::{Shape, Tensor};
use haltere::model::parameters::Parameters;
use haltere::model::{Kind, Model, Provenance};
use haltere::sys::denormals::flush_to_zero;
use haltere::train::export::{Details, seeded_frames, write};
use haltere::train::{Network, NetworkSpec};

fn step(criterion: &mut Criterion, name: &str, model: &Model) {
    let mut encoder = Encoder::open(model, None, 1).unwrap();
    let mut embedding = encoder.new_embedding();
    let frames = seeded_frames(model.manifest.input, 8, 1);
    let frames: Vec<&[f32]> = frames.chunks_exact(model.manifest.input.pixels()).collect();
    encoder.encode(&Tensor::Host(frames[0]), &mut embedding).unwrap();
    let length: f32 = embedding.values.iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-4, "{name}: an embedding has length 1, not {length}");
    let mut next = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            next = (next + 1) % frames.len();
            encoder.encode(&Tensor::Host(frames[next]), black_box(&mut embedding)).unwrap();
        });
    });
}

/// Frames of denormal numbers, as a blank stream or tiny weights lead to them: as the compute thread runs them, and without
/// [`flush_to_zero`].
fn denormal(criterion: &mut Criterion, name: &str, model: &Model) {
    let mut encoder = Encoder::open(model, None, 1).unwrap();
    let mut embedding = encoder.new_embedding();
    let frames = seeded_frames(model.manifest.input, 8, 1);
    let frames: Vec<f32> = frames.iter().map(|value| f32::from_bits(value.to_bits() & 0x807f_ffff)).collect();
    let frames: Vec<&[f32]> = frames.chunks_exact(model.manifest.input.pixels()).collect();
    for (how, flush) in [("denormal", true), ("denormal-not-flushed", false)] {
        let before = flush_to_zero(flush);
        let mut next = 0;
        criterion.bench_function(&format!("{name}/{how}"), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % frames.len();
                encoder.encode(&Tensor::Host(frames[next]), black_box(&mut embedding)).unwrap();
            });
        });
        flush_to_zero(before);
    }
}

fn own(criterion: &mut Criterion, kind: Kind, side: usize) {
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec::for_input(Shape::new(1, side, side));
    let network = Network::new(&spec, 1, &Device::flex()).unwrap();
    let details = Details {
        name: "bench".into(),
        kind,
        frame_rate_hz: 16.0,
        look_ahead_frames: 0,
        provenance: Provenance::default(),
        preprocess: Parameters::default(),
    };
    let model = Model::load(&write(&network, &spec, &details, folder.path()).unwrap()).unwrap();
    let form = if kind == Kind::Streaming { "streaming" } else { "windowed" };
    let name = format!("encode/{form}/{side}px/{:.0}mflop", spec.mflop_per_frame());
    step(criterion, &name, &model);
    if (kind, side) == (Kind::Streaming, 128) {
        denormal(criterion, &name, &model);
    }
}

fn peers(criterion: &mut Criterion) {
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
    let arguments = AdoptArguments {
        onnx,
        name: None,
        frame_rate_hz: 30.0,
        window_frames: None,
        labels: Vec::new(),
        trained: false,
        force: false,
        runtime: None,
    };
    let path = adopt(&arguments, &mut std::io::sink()).unwrap();
    step(criterion, "encode/peers/128px/38mflop", &Model::load(&path).unwrap());
}

fn encode(criterion: &mut Criterion) {
    for side in [64, 128, 256] {
        own(criterion, Kind::Streaming, side);
    }
    own(criterion, Kind::Windowed, 128);
    peers(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = encode
}
criterion_main!(benches);
