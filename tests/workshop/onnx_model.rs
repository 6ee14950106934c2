//! What is written to ONNX is what burn computes, what the daemon runs, and what other people's programs read.
//!
//! Method: networks with seeded weights and, where it matters, batch-normalisation statistics far from the identity are
//! exported in both forms and run by the daemon's encoder on real frames. Oracles: burn itself, `onnx.checker` and
//! onnxruntime in Python. Wrong files must fail with the error that is theirs.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::fly;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use burn::module::{Param, RunningState};
use burn::tensor::{Device, Tensor, TensorData};
use haltere::encode::{EncodeError, Encoder};
use haltere::frame::{Shape, Tensor as Input};
use haltere::model::head::{AlignmentReference, Classifier, NoveltyReference, OutputLayer};
use haltere::model::head::{Head, raw_only, set_classifier, shift_raw};
use haltere::model::onnx::{Graph, OnnxFile, OnnxReadError};
use haltere::model::parameters::Parameters;
use haltere::model::{Calibration, InputOrigin, Kind, Manifest, Model, ModelError, Output, Provenance};
use haltere::sys::denormals::flushed;
use haltere::sys::files::sha256_of;
use haltere::train::export::head::{FittedHead, FittedNovelty, FittedOutputs};
use haltere::train::export::{Details, ExportError, measure_parity, seeded_frames, to_onnx, write, write_with_head};
use haltere::train::{Network, NetworkKind, NetworkSpec};

/// Streaming against windowed, and either against burn: different orders of the same f32 sums.
const SUMMATION_ORDER: f32 = 1e-5;

fn spec(side: usize) -> NetworkSpec {
    let labels = ["rest", "walk", "groom"].map(String::from).to_vec();
    NetworkSpec { labels, ..NetworkSpec::for_input(Shape::new(1, side, side)) }
}

/// The network of pixels for this input.
fn pixels(input: Shape) -> NetworkSpec {
    let labels = spec(32).labels;
    NetworkSpec { kind: NetworkKind::Pixels, widths: Vec::new(), labels, ..NetworkSpec::for_input(input) }
}

/// Seeded weights, and batch-normalisation values such as training leaves: nothing is 0 or 1.
fn network(spec: &NetworkSpec) -> Network {
    let device = Device::flex();
    let mut network = Network::new(spec, 11, &device).unwrap();
    let of_blocks = network.frame.blocks.iter_mut().map(|block| &mut block.norm);
    for norm in of_blocks.chain(&mut network.frame.norm) {
        let width = norm.gamma.val().dims()[0];
        let wave = |offset: f32, scale: f32, step: f32| {
            let values: Vec<f32> = (0..width).map(|i| offset + scale * (i as f32 * step).sin()).collect();
            Tensor::<1>::from_data(TensorData::new(values, [width]), &device)
        };
        norm.gamma = Param::from_tensor(wave(1.2, 0.7, 1.3));
        norm.beta = Param::from_tensor(wave(0.1, 0.4, 2.1));
        norm.running_mean = RunningState::new(wave(-0.2, 0.5, 0.7));
        norm.running_var = RunningState::new(wave(1.5, 1.3, 3.1));
    }
    network
}

fn exported(network: &Network, spec: &NetworkSpec, kind: Kind, folder: &Path) -> Model {
    Model::load(&write(network, spec, &details(spec, kind), folder).unwrap()).unwrap()
}

fn details(spec: &NetworkSpec, kind: Kind) -> Details {
    let name = if kind == Kind::Streaming { "streaming" } else { "windowed" };
    Details {
        name: name.into(),
        kind,
        frame_rate_hz: 16.0,
        look_ahead_frames: 0,
        provenance: Provenance { trained: true, ..Provenance::default() },
        preprocess: Parameters { channels: (0..spec.input.channels).collect(), ..Parameters::default() },
    }
}

/// A probe, a temperature, and prototypes that are embeddings of `frames`, so that novelties lie between 0 and 1.
fn learnt(network: &Network, spec: &NetworkSpec, frames: &[f32]) -> FittedHead {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = open(&exported(network, spec, Kind::Streaming, folder.path()));
    let seen = run(&mut plain, frames, spec.input.pixels());
    let (rows, columns) = (3, spec.embedding);
    let values: Vec<f32> = [8, 9, 10].iter().flat_map(|&at| seen[at].0.clone()).collect();
    let prototypes = ndarray::Array2::from_shape_vec((rows, columns), values).unwrap();
    let mut reference = NoveltyReference { prototypes, thresholds: Vec::new() };
    let mut distances: Vec<f32> = seen.iter().map(|(embedding, _)| reference.distance(embedding)).collect();
    distances.sort_by(f32::total_cmp);
    // Between distances that differ by more than rounding (prototypes lie at 0, or nearly), so that another order of the same
    // sums changes no rank.
    let apart = distances.windows(2).filter(|pair| pair[1] - pair[0] > 1e-5);
    reference.thresholds = apart.map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    let weight = ndarray::Array2::from_shape_fn((columns, spec.labels.len()), |(i, j)| ((i * 3 + j) as f32).sin());
    FittedHead {
        classifier: Some(Classifier { weight, bias: vec![0.3, -0.2, 0.1] }),
        calibration: Some(Calibration {
            temperature: 2.5,
            measured_on: "fly7".into(),
            moments: 40,
            ece_before: 0.2,
            ece_after: 0.05,
        }),
        outputs: Some(outputs(columns)),
        novelty: Some(FittedNovelty { reference, measured_on: "fly7".into() }),
        drift: None,
        alignment: Some(AlignmentReference { mean: vec![0.1; columns], sd: vec![1.0 / 3.0; columns] }),
        input_origin: InputOrigin::ReadyMade,
        data_sha256: "ab".repeat(32),
    }
}

/// Two continuous outputs.
fn outputs(columns: usize) -> FittedOutputs {
    let described = ["speed", "turning"].map(|name| Output {
        name: name.into(),
        unit: String::new(),
        mean: 1.0,
        sd: 2.0,
        r2: None,
        correlation: None,
        measured_on: String::new(),
    });
    let weight = ndarray::Array2::from_shape_fn((columns, 2), |(i, j)| ((i * 2 + j) as f32).cos());
    FittedOutputs { layer: OutputLayer { weight, bias: vec![3.0, -1.0] }, described: described.into() }
}

/// A small streaming model and its folder.
fn small() -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec { window_frames: 6, ..spec(32) };
    let model = exported(&network(&spec), &spec, Kind::Streaming, folder.path());
    (folder, model)
}

fn open(model: &Model) -> Encoder {
    Encoder::open(model, None, 1).unwrap()
}

/// Every embedding and every set of probabilities of a recording.
fn run(encoder: &mut Encoder, frames: &[f32], pixels: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut embedding = encoder.new_embedding();
    let mut all = Vec::new();
    for frame in frames.chunks_exact(pixels) {
        encoder.encode(&Input::Host(frame), &mut embedding).unwrap();
        all.push((embedding.values.clone(), embedding.probabilities.clone()));
    }
    all
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn refused(model: &Model) -> EncodeError {
    Encoder::open(model, None, 1).err().expect("the model is refused")
}

#[test]
fn streaming_equals_windowed_on_real_frames_once_the_window_is_full() {
    for spec in [spec(128), pixels(Shape::new(1, 128, 128))] {
        let folder = tempfile::tempdir().unwrap();
        let network = network(&spec);
        let frames = fly::frames(1, 128, 40);
        let mut streaming = open(&exported(&network, &spec, Kind::Streaming, folder.path()));
        let mut windowed = open(&exported(&network, &spec, Kind::Windowed, folder.path()));
        let a = run(&mut streaming, &frames, spec.input.pixels());
        let b = run(&mut windowed, &frames, spec.input.pixels());
        let mut difference = 0.0_f32;
        for (a, b) in a.iter().zip(&b).skip(31) {
            difference = difference.max(worst(&a.0, &b.0)).max(worst(&a.1, &b.1));
            assert!((a.1.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        println!("streaming against windowed: {difference:e}");
        assert!(difference <= SUMMATION_ORDER, "{difference}");
        assert!(worst(&a[31].0, &a[39].0) > 1e-3, "the embeddings must differ, or the comparison says nothing");
    }
}

#[test]
fn the_daemon_reproduces_burn_in_both_forms_at_every_size() {
    let shapes = [(1, 32, 32), (2, 64, 96), (1, 128, 128), (2, 256, 256), (1, 512, 512)];
    let inputs = shapes.map(|(channels, height, width)| Shape::new(channels, height, width));
    // Windows that are no whole number of steps of the filters, and shorter than one.
    let small = inputs.iter().zip([6, 32, 10, 13, 2]).map(|(input, window)| (pixels(*input), window));
    let patches = inputs.iter().map(|input| (NetworkSpec::for_input(*input), 6));
    for (spec, window_frames) in patches.chain(small) {
        let spec = NetworkSpec { window_frames, ..spec };
        let Shape { channels, height, width } = spec.input;
        let input = spec.input;
        let network = network(&spec);
        let side = height.max(width);
        let square = fly::frames(channels, side, window_frames + 2);
        let rows = square.chunks_exact(side * side).flat_map(|plane| &plane[..height * side]);
        let frames: Vec<f32> = rows.copied().collect();
        for kind in [Kind::Streaming, Kind::Windowed] {
            let folder = tempfile::tempdir().unwrap();
            let mut encoder = open(&exported(&network, &spec, kind, folder.path()));
            let parity = measure_parity(&network, &spec, &mut encoder, &frames, &Device::flex()).unwrap();
            println!("{input} {kind:?}: {:e}", parity.max_abs_difference);
            assert_eq!(parity.frames, 3);
            assert!(parity.max_abs_difference <= SUMMATION_ORDER, "{input} {kind:?}: {parity:?}");
        }
    }
}

#[test]
fn a_window_through_burn_is_the_last_step_of_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec { window_frames: 30, ..spec(64) };
    let network = network(&spec);
    let frames = fly::frames(1, 64, 30);
    let mut encoder = open(&exported(&network, &spec, Kind::Streaming, folder.path()));
    let (embedding, probabilities) = run(&mut encoder, &frames, 64 * 64).pop().unwrap();
    let window = Tensor::<5>::from_data(TensorData::new(frames, [1, 30, 1, 64, 64]), &Device::flex());
    let own = network.forward_window(window);
    let classes = network.probabilities(own.clone()).unwrap();
    assert!(worst(&own.into_data().try_to_vec::<f32>().unwrap(), &embedding) <= SUMMATION_ORDER);
    assert!(worst(&classes.into_data().try_to_vec::<f32>().unwrap(), &probabilities) <= SUMMATION_ORDER);
}

#[test]
fn batch_normalisation_matters_and_is_folded() {
    let spec = NetworkSpec { window_frames: 2, ..spec(32) };
    let frames = fly::frames(1, 32, 2);
    let plain = Network::new(&spec, 11, &Device::flex()).unwrap();
    let mut last = Vec::new();
    for network in [plain, network(&spec)] {
        let folder = tempfile::tempdir().unwrap();
        let mut encoder = open(&exported(&network, &spec, Kind::Streaming, folder.path()));
        last.push(run(&mut encoder, &frames, 32 * 32).pop().unwrap().0);
    }
    // The parity tests run the second of the two: they would see a fold that is left out.
    assert!(worst(&last[0], &last[1]) > 0.01);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_other_ones() {
    let spec = spec(32);
    let bytes = |seed| to_onnx(&Network::new(&spec, seed, &Device::flex()).unwrap(), &spec, Kind::Streaming).unwrap();
    assert!(bytes(3) == bytes(3));
    assert!(bytes(3) != bytes(4));
}

#[test]
fn a_network_that_diverged_is_not_exported() {
    let spec = spec(32);
    let mut network = network(&spec);
    network.frame.blocks[0].norm.running_var =
        RunningState::new(Tensor::full([spec.widths[0]], f32::NAN, &Device::flex()));
    let error = to_onnx(&network, &spec, Kind::Streaming).unwrap_err();
    assert!(matches!(&error, ExportError::NonFinite { weight } if weight == "frame.0.weight"), "{error}");
}

#[test]
fn a_reset_replays_to_the_same_bits_and_warms_up_for_exactly_one_window() {
    let (_folder, model) = small();
    let frames = fly::frames(1, 32, 12);
    let mut encoder = open(&model);
    let first = run(&mut encoder, &frames, 32 * 32);
    assert!(!encoder.warming_up());
    encoder.reset();
    assert!(encoder.warming_up());
    assert!(run(&mut encoder, &frames[..5 * 1024], 32 * 32) == first[..5]);
    assert!(encoder.warming_up());
    assert!(run(&mut encoder, &frames[5 * 1024..6 * 1024], 32 * 32) == first[5..6]);
    assert!(!encoder.warming_up());
}

#[test]
fn a_frame_that_is_not_a_number_has_no_embedding_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec { window_frames: 6, ..spec(32) };
    let network = network(&spec);
    let frames = fly::frames(1, 32, 12);
    for kind in [Kind::Streaming, Kind::Windowed] {
        let mut encoder = open(&exported(&network, &spec, kind, folder.path()));
        let undisturbed = run(&mut encoder, &frames, 32 * 32);
        encoder.reset();
        run(&mut encoder, &frames[..8 * 1024], 32 * 32);
        let mut bad = frames[8 * 1024..9 * 1024].to_vec();
        bad[77] = f32::NAN;
        let mut embedding = encoder.new_embedding();
        let error = encoder.encode(&Input::Host(&bad), &mut embedding).unwrap_err();
        assert!(matches!(error, EncodeError::NonFinite { what: "the frame" }) && error.is_survivable(), "{error}");
        if kind == Kind::Streaming {
            let error = encoder.encode(&Input::Host(&[f32::MAX; 1024]), &mut embedding).unwrap_err();
            assert!(matches!(error, EncodeError::NonFinite { what: "the embedding" }), "{error}");
        }
        assert!(embedding.values.iter().all(|&v| v == 0.0), "nothing was handed over");
        assert!(run(&mut encoder, &frames[8 * 1024..], 32 * 32) == undisturbed[8..], "{kind:?}");
    }
}

#[test]
fn frames_of_denormal_numbers_take_no_longer_than_others() {
    let spec = spec(128);
    let folder = tempfile::tempdir().unwrap();
    // Without biases the numbers stay as small as they come in.
    let network = Network::new(&spec, 3, &Device::flex()).unwrap();
    let mut encoder = open(&exported(&network, &spec, Kind::Streaming, folder.path()));
    let mut embedding = encoder.new_embedding();
    let ordinary = seeded_frames(spec.input, 4, 1);
    let denormal: Vec<f32> = ordinary.iter().map(|value| f32::from_bits(value.to_bits() & 0x807f_ffff)).collect();
    // The fastest of some runs: other programs only make them slower.
    let mut fastest = |frames: &[f32]| {
        let one = |frame: &[f32]| {
            let began = Instant::now();
            encoder.encode(&Input::Host(frame), &mut embedding).unwrap();
            began.elapsed()
        };
        frames.chunks_exact(spec.input.pixels()).cycle().take(40).map(one).min().unwrap()
    };
    let (usual, tiny) = flushed(|| (fastest(&ordinary), fastest(&denormal)));
    assert!(tiny < 2 * usual, "{tiny:?}, and {usual:?} for ordinary frames");
}

#[test]
fn a_frame_of_another_size_is_an_error_that_says_both_sizes() {
    let (_folder, model) = small();
    let mut encoder = open(&model);
    let mut embedding = encoder.new_embedding();
    let error = encoder.encode(&Input::Host(&[0.0; 1000]), &mut embedding).unwrap_err();
    assert_eq!(error.to_string(), "the frame has 1000 values, the model needs 1024");
}

#[test]
fn a_file_that_differs_from_its_manifest_is_refused_by_the_tensor_that_differs() {
    type Edit = fn(&mut Manifest);
    let cases: [(&str, Edit); 8] = [
        ("output `embedding`", |m| m.embedding = 127),
        ("input `frame`", |m| m.input.width = 36),
        ("input `frame`", |m| m.input.channels = 2),
        ("input `state`", |m| m.state = Some([6, 128])),
        ("output `outputs`", |m| m.outputs.push(outputs(1).described[0].clone())),
        ("output `probabilities`", |m| m.labels.push("fly".into())),
        ("the number of inputs", |m| (m.kind, m.state) = (Kind::Windowed, None)),
        ("the number of inputs", |m| m.kind = Kind::Windowed),
    ];
    let (_folder, sound) = small();
    for (expected, edit) in cases {
        let mut model = sound.clone();
        edit(&mut model.manifest);
        let error = refused(&model);
        assert!(matches!(&error, EncodeError::Mismatch { what, .. } if what == expected), "{expected}: {error}");
    }
}

#[test]
fn a_missing_output_is_named_and_what_is_there_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec { labels: Vec::new(), window_frames: 6, ..spec(32) };
    let mut model = exported(&network(&spec), &spec, Kind::Streaming, folder.path());
    model.manifest.labels = vec!["rest".into()];
    let message = refused(&model).to_string();
    assert!(message.contains("output `probabilities` is not there") && message.contains("next_state"), "{message}");
}

#[test]
fn a_file_that_is_no_onnx_and_a_truncated_one_are_refused_by_name() {
    let (folder, model) = small();
    let bytes = std::fs::read(&model.onnx_path).unwrap();
    for damaged in [b"not an ONNX file".to_vec(), Vec::new(), bytes[..bytes.len() / 2].to_vec()] {
        std::fs::write(&model.onnx_path, damaged).unwrap();
        let load = Model::load(&folder.path().join("streaming.toml"));
        assert!(matches!(load, Err(ModelError::Hash { .. })));
        let mut rehashed = model.clone();
        rehashed.manifest.sha256 = sha256_of(&model.onnx_path).unwrap();
        let error = refused(&rehashed);
        assert!(matches!(error, EncodeError::Session { .. } | EncodeError::File(_)), "{error:?}");
        assert!(error.to_string().contains("streaming.onnx"), "{error}");
    }
    std::fs::remove_file(&model.onnx_path).unwrap();
    assert!(refused(&model).to_string().contains("streaming.onnx"));
}

#[test]
fn novelty_outputs_and_tempered_probabilities_come_out_of_the_file_as_plain_arithmetic_says() {
    let spec = NetworkSpec { window_frames: 8, ..spec(32) };
    let (network, frames) = (network(&spec), fly::frames(1, 32, 24));
    let learnt = learnt(&network, &spec, &frames);
    let (classifier, novelty) = (learnt.classifier.clone().unwrap(), learnt.novelty.clone().unwrap().reference);
    for kind in [Kind::Streaming, Kind::Windowed] {
        let folder = tempfile::tempdir().unwrap();
        let path = write_with_head(&network, &spec, &details(&spec, kind), &learnt, folder.path()).unwrap();
        let mut encoder = open(&Model::load(&path).unwrap());
        let mut embedding = encoder.new_embedding();
        let mut ranks = std::collections::BTreeSet::new();
        for frame in frames.chunks_exact(1024) {
            encoder.encode(&Input::Host(frame), &mut embedding).unwrap();
            let logits: Vec<f32> = classifier.logits(&embedding.values).iter().map(|l| (l / 2.5).exp()).collect();
            let probabilities: Vec<f32> = logits.iter().map(|l| l / logits.iter().sum::<f32>()).collect();
            assert!(worst(&probabilities, &embedding.probabilities) <= SUMMATION_ORDER);
            let row = ndarray::ArrayView2::from_shape((1, spec.embedding), &embedding.values).unwrap();
            let read = learnt.outputs.as_ref().unwrap().layer.read(row);
            assert!(worst(read.as_slice().unwrap(), &embedding.outputs) <= SUMMATION_ORDER, "{:?}", embedding.outputs);
            let rank = novelty.rank(novelty.distance(&embedding.values));
            assert!((embedding.novelty.unwrap() - rank).abs() < 1e-6, "{:?} for {rank}", embedding.novelty);
            ranks.insert((rank * novelty.thresholds.len() as f32).round() as usize);
        }
        assert!(ranks.len() > 15, "the novelties must differ, or the comparison says nothing: {ranks:?}");
    }
}

#[test]
fn pieces_that_do_not_fit_the_network_are_refused_by_name_before_anything_is_written() {
    type Edit = fn(&mut FittedHead);
    let cases: [(&str, Edit); 9] = [
        ("classifier", |l| l.classifier.as_mut().unwrap().bias.push(0.0)),
        ("classifier", |l| l.classifier.as_mut().unwrap().weight = ndarray::Array2::zeros((127, 3))),
        ("outputs' layer", |l| l.outputs.as_mut().unwrap().layer.bias.push(0.0)),
        ("prototypes", |l| novelty(l).prototypes = ndarray::Array2::zeros((0, 128))),
        ("prototypes", |l| novelty(l).prototypes = ndarray::Array2::ones((2, 127))),
        ("length of a prototype", |l| novelty(l).prototypes[[0, 0]] += 0.5),
        ("thresholds", |l| novelty(l).thresholds.truncate(1)),
        ("thresholds", |l| novelty(l).thresholds.reverse()),
        ("alignment", |l| l.alignment.as_mut().unwrap().sd.truncate(5)),
    ];
    fn novelty(learnt: &mut FittedHead) -> &mut NoveltyReference {
        &mut learnt.novelty.as_mut().unwrap().reference
    }
    let spec = NetworkSpec { window_frames: 8, ..spec(32) };
    let network = network(&spec);
    let sound = learnt(&network, &spec, &fly::frames(1, 32, 24));
    let folder = tempfile::tempdir().unwrap();
    for (what, edit) in cases {
        let mut learnt = sound.clone();
        edit(&mut learnt);
        let error =
            write_with_head(&network, &spec, &details(&spec, Kind::Streaming), &learnt, folder.path()).unwrap_err();
        assert!(matches!(&error, ExportError::Unfit { what: found, .. } if found.contains(what)), "{what}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let mut diverged = sound;
    novelty(&mut diverged).thresholds[0] = f32::NEG_INFINITY;
    let error =
        write_with_head(&network, &spec, &details(&spec, Kind::Streaming), &diverged, folder.path()).unwrap_err();
    assert!(matches!(&error, ExportError::NonFinite { weight } if weight == "novelty.thresholds"), "{error}");
}

#[test]
fn an_exported_file_is_taken_apart_put_together_to_the_same_bytes_and_runs_with_exchanged_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec { window_frames: 8, ..spec(32) };
    let (network, frames) = (network(&spec), fly::frames(1, 32, 24));
    let learnt = learnt(&network, &spec, &frames);
    let path = write_with_head(&network, &spec, &details(&spec, Kind::Streaming), &learnt, folder.path()).unwrap();
    let model = Model::load(&path).unwrap();
    let bytes = std::fs::read(&model.onnx_path).unwrap();
    let file = OnnxFile::parse(&bytes).unwrap();
    assert!(file.bytes() == bytes);
    let said =
        ["name", "trained", "frame_rate_hz", "window_frames", "look_ahead_frames", "input_origin", "temperature"];
    let said = said.map(|key| file.metadata(key).unwrap());
    assert_eq!(said, ["streaming", "true", "16", "8", "0", "ready-made", "2.5"]);
    assert_eq!(file.metadata("data_sha256"), Some(&*"ab".repeat(32)));
    let head = Head::of(&file).unwrap();
    assert_eq!(head.novelty.unwrap(), learnt.novelty.unwrap().reference);
    assert_eq!(head.alignment, learnt.alignment);

    // Raw embeddings, shifted and brought to length 1 by hand, are what the shifted file gives.
    let before = run(&mut open(&model), &frames, 1024);
    assert_eq!(head.outputs, learnt.outputs.map(|outputs| outputs.layer));
    let raw = rewritten(&model, &raw_only(&file).unwrap(), true);
    let raw = run(&mut open(&raw), &frames, 1024);
    let size = raw[20].0.iter().map(|v| v.abs()).sum::<f32>() / spec.embedding as f32;
    let shift: Vec<f32> = (0..spec.embedding).map(|i| 0.5 * size * (i as f32).cos()).collect();
    let mut shifted = file.clone();
    shift_raw(&mut shifted, &shift).unwrap();
    let after = run(&mut open(&rewritten(&model, &shifted, false)), &frames, 1024);
    for ((raw, before), after) in raw.iter().zip(&before).zip(&after) {
        let unit = |values: Vec<f32>| {
            let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
            values.iter().map(|v| v / length).collect::<Vec<f32>>()
        };
        assert!(worst(&unit(raw.0.clone()), &before.0) <= SUMMATION_ORDER);
        let moved: Vec<f32> = raw.0.iter().zip(&shift).map(|(r, s)| r + s).collect();
        assert!(worst(&unit(moved), &after.0) <= SUMMATION_ORDER);
    }
    assert!(worst(&before[20].0, &after[20].0) > 0.01, "the shift moves");

    // Another classifier.
    let mut other = head.classifier.unwrap();
    other.weight.mapv_inplace(|w| -w);
    let mut exchanged = file.clone();
    set_classifier(&mut exchanged, &other).unwrap();
    assert_eq!(Head::of(&OnnxFile::parse(&exchanged.bytes()).unwrap()).unwrap().classifier, Some(other));
    let changed = run(&mut open(&rewritten(&model, &exchanged, false)), &frames, 1024);
    assert!(changed[20].0 == before[20].0 && changed[20].1 != before[20].1);
}

/// The model with another file under a name of its own.
fn rewritten(model: &Model, file: &OnnxFile, raw: bool) -> Model {
    let mut model = model.clone();
    model.onnx_path = model.onnx_path.with_file_name(if raw { "raw.onnx" } else { "changed.onnx" });
    std::fs::write(&model.onnx_path, file.bytes()).unwrap();
    if raw {
        (model.manifest.labels, model.manifest.novelty, model.manifest.calibration) = (Vec::new(), None, None);
        model.manifest.outputs.clear();
    }
    model
}

#[test]
fn a_file_of_an_earlier_version_has_no_raw_embedding_and_says_so() {
    let mut graph = Graph::default();
    graph.input("frame", &[1, 2]);
    graph.node("Relu", &["frame"], "embedding", &[]);
    graph.output("embedding", &[1, 2]);
    let file = OnnxFile::parse(&graph.finish("haltere", &[])).unwrap();
    let error = raw_only(&file).unwrap_err();
    assert!(matches!(&error, OnnxReadError::Piece { name, .. } if name == "embedding.raw.bias"), "{error}");
    assert!(error.to_string().contains("export it anew"), "{error}");
}

/// A Python with onnx and onnxruntime: `HALTERE_PYTHON`, else `.venv/bin/python`. Without one: loud, and in CI a failure.
fn python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("HALTERE_PYTHON").map_or(venv, PathBuf::from);
    let works = Command::new(&python).args(["-c", "import onnx, onnxruntime, numpy"]).output();
    if works.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    let why = format!("{} has no onnx, onnxruntime and numpy: `make test` makes a .venv that has", python.display());
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
    None
}

const CHECK: &str = r#"
import json, sys, numpy as np, onnx, onnxruntime as ort
path, frames, window = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = onnx.load(path)
onnx.checker.check_model(model, full_check=True)
assert model.ir_version == 8 and model.opset_import[0].version == 17
said = {p.key: p.value for p in model.metadata_props}
assert said["labels"] == "rest,walk,groom" and said["form"] in ("streaming", "windowed"), said
session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
frames = np.fromfile(frames, "<f4").reshape(-1, 1, 64, 64)
names = [o.name for o in session.get_outputs()]
if "state" in [i.name for i in session.get_inputs()]:
    state = np.zeros((1, window - 1, 128), "f4")
    for frame in frames:
        out = dict(zip(names, session.run(names, {"frame": frame[None], "state": state})))
        state = out["next_state"]
else:
    out = dict(zip(names, session.run(names, {"frames": frames[None, -window:]})))
novelty = out["novelty"][0].tolist() if "novelty" in names else []
print(json.dumps([out["embedding"][0].tolist(), out["probabilities"][0].tolist(), novelty]))
"#;

#[test]
fn onnx_checker_accepts_what_is_written_and_onnxruntime_in_python_computes_the_same() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let spec = NetworkSpec { window_frames: 8, ..spec(64) };
    let network = network(&spec);
    let frames = fly::frames(1, 64, 12);
    let raw = folder.path().join("frames.raw");
    std::fs::write(&raw, frames.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let learnt = learnt(&network, &spec, &frames);
    for (kind, learnt) in [
        (Kind::Streaming, &FittedHead::default()),
        (Kind::Windowed, &FittedHead::default()),
        (Kind::Streaming, &learnt),
        (Kind::Windowed, &learnt),
    ] {
        let path = write_with_head(&network, &spec, &details(&spec, kind), learnt, folder.path()).unwrap();
        let model = Model::load(&path).unwrap();
        let mut encoder = open(&model);
        let ours = run(&mut encoder, &frames, 64 * 64).pop().unwrap();
        encoder.reset();
        let mut embedding = encoder.new_embedding();
        frames.chunks_exact(64 * 64).for_each(|f| encoder.encode(&Input::Host(f), &mut embedding).unwrap());
        let output =
            Command::new(&python).args(["-c", CHECK]).arg(&model.onnx_path).arg(&raw).arg("8").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: (Vec<f32>, Vec<f32>, Vec<f32>) = serde_json::from_slice(&output.stdout).unwrap();
        assert!(worst(&ours.0, &theirs.0) <= 1e-6 && worst(&ours.1, &theirs.1) <= 1e-6, "{kind:?}");
        assert_eq!(embedding.novelty.into_iter().collect::<Vec<f32>>(), theirs.2, "{kind:?}");
        assert_eq!(embedding.novelty.is_some(), learnt.novelty.is_some());
    }
}
