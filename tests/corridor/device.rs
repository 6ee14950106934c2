//! A corridor on a device: preprocessing and encoder on an emulated one give what they give on the CPU; a device that fails ends
//! the run, or hands over to the CPU where that is wanted; one that is asked for and not there is told with what is missing.
//!
//! The emulated device computes in host memory, so its sessions are ONNX Runtime's own for the CPU; everything around them –
//! tensors by address, window, state, verdict – is what a GPU gets.

#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::corridor as support;
use crate::support::emulator;

use std::ffi::c_void;
use std::sync::Arc;

use burn::tensor::Device as BurnDevice;
use emulator::{Emulator, Order};
use haltere::config::Device;
use haltere::corridor;
use haltere::corridor::{Corridor, Failure, Handles};
use haltere::cuda::{Answer, Fault, Launch, Machine, Program};
use haltere::decoder::{DecodeError, Decoder};
use haltere::encode::{EncodeError, Encoder, Place};
use haltere::frame::event::Event;
use haltere::frame::{Decode, Embedding, Quality, Shape, Tensor};
use haltere::model::parameters::Parameters;
use haltere::model::{Kind, Model, Provenance};
use haltere::train::export::head::FittedHead;
use haltere::train::export::{Details, write_with_head};
use haltere::train::{Network, NetworkSpec};
use support::{Keeper, Small};

/// Embedding values: what the tolerance of preprocessing makes of them.
const EMBEDDING: f32 = 1e-3;

/// Runs `frames` frames and returns how it ended, the decodes and the events.
fn run(decoder: Decoder, frames: u64, handles: &Handles) -> (Result<(), Failure>, Vec<Decode>, Vec<Event>, Keeper) {
    let keeper = Keeper::default();
    let corridor = support::corridor(decoder, support::recording(frames), vec![Box::new(keeper.clone())], handles);
    let settings = corridor::Settings { pulse: Some(std::time::Duration::from_millis(1)), ..corridor.settings };
    let ended = corridor::run(Corridor { settings, ..corridor }, || {});
    let (decodes, events) = {
        let kept = keeper.0.lock().unwrap();
        (kept.decodes.clone(), kept.events.clone())
    };
    (ended, decodes, events, keeper)
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_corridor_on_a_device_decodes_what_the_cpu_decodes() {
    let small = Small::strange();
    let (ended, expected, ..) = run(small.decoder(), 80, &Handles::default());
    ended.unwrap();
    let (ended, found, ..) = run(small.decoder_on(&Emulator::open(Order::Mixed)), 80, &Handles::default());
    ended.unwrap();
    assert_eq!((found.len(), expected.len()), (80, 80));
    let mut worst = 0.0f32;
    for (found, expected) in found.iter().zip(&expected) {
        let number = expected.frame.number;
        assert_eq!((found.frame.number, found.quality), (number, expected.quality), "frame {number}");
        worst = worst.max(apart(&found.embedding.values, &expected.embedding.values));
        worst = worst.max(apart(&found.embedding.probabilities, &expected.embedding.probabilities));
        assert_eq!(found.embedding.novelty.is_some(), expected.embedding.novelty.is_some());
    }
    eprintln!("largest difference of an embedding: {worst:e}");
    assert!(worst <= EMBEDDING, "{worst}");
    let last = |decodes: &[Decode]| decodes[79].embedding.values.clone();
    assert!(apart(&last(&expected), &expected[40].embedding.values) > 10.0 * EMBEDDING, "nothing moves");
}

/// Where a frame meets a device that fails: a kernel of preprocessing, and one behind the encoder's session.
const FAILING: [&str; 2] = ["begin", "deliver"];

#[test]
fn a_device_that_fails_ends_the_run_with_its_cause() {
    for kernel in FAILING {
        let small = Small::new();
        let decoder = small.decoder_on(&Emulator::failing(Order::Forward, kernel, 30));
        let (ended, decodes, _, keeper) = run(decoder, 60, &Handles::default());
        let failure = ended.expect_err(kernel);
        assert_eq!(matches!(failure, Failure::Decode(DecodeError::Preprocess(_))), kernel == "begin", "{failure:?}");
        assert!(failure.to_string().contains("emulated device: running the kernels: it was told to fail"), "{failure}");
        assert_eq!(decodes.len(), 30, "{kernel}");
        assert_eq!(keeper.0.lock().unwrap().finished, [Some("compute")], "the fail-safe was not told");
    }
}

#[test]
fn the_cpu_takes_over_from_a_device_that_fails_where_that_is_wanted_and_warms_up_anew() {
    for kernel in FAILING {
        let small = Small::new();
        let decoder = small.decoder_on(&Emulator::failing(Order::Forward, kernel, 40));
        let on_cpu = small.decoder();
        let handles = Handles::default();
        assert!(handles.standby.push(Box::new(on_cpu)).is_ok());
        let (ended, decodes, events, _) = run(decoder, 100, &handles);
        ended.unwrap();
        assert!(events.contains(&Event::DeviceFault { frame: 40 }), "{kernel}: {events:?}");
        let quality = |number: u64| decodes.iter().find(|d| d.frame.number == number).map(|d| d.quality);
        let after = (quality(39), quality(40));
        assert_eq!(after, (Some(Quality::Ok), None), "{kernel}: the frame that failed has no decode");
        assert_eq!((quality(41), quality(99)), (Some(Quality::Warmup), Some(Quality::Ok)), "{kernel}");
        let again = events.iter().filter(|event| matches!(event, Event::Ready { .. })).count();
        assert_eq!(again, 2, "{kernel}: ready once more after the warm-up: {events:?}");
    }
}

fn windowed(folder: &std::path::Path, kind: Kind) -> Model {
    let mut spec = NetworkSpec::for_input(Shape::new(1, 32, 32));
    (spec.window_frames, spec.labels) = (5, vec!["rest".into(), "walk".into()]);
    let network = Network::new(&spec, 3, &BurnDevice::flex()).unwrap();
    let details = Details {
        name: if kind == Kind::Windowed { "windowed".into() } else { "streaming".into() },
        kind,
        frame_rate_hz: 30.0,
        look_ahead_frames: 0,
        provenance: Provenance { trained: true, ..Provenance::default() },
        preprocess: Parameters::default(),
    };
    Model::load(&write_with_head(&network, &spec, &details, &FittedHead::default(), folder).unwrap()).unwrap()
}

/// Frames of a moving texture; one of them overflows the network, one is not a number.
fn frames() -> Vec<Vec<f32>> {
    let texture = |t: usize, i: usize| (((i + 3 * t) * 7919 % 211) as f32 / 211.0 - 0.5) * (1.0 + t as f32 * 0.1);
    let mut frames: Vec<Vec<f32>> = (0..16).map(|t| (0..1024).map(|i| texture(t, i)).collect()).collect();
    frames[9].fill(3e38);
    frames[12][5] = f32::NAN;
    frames
}

#[test]
fn window_state_and_verdict_on_a_device_are_those_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Streaming, Kind::Windowed] {
        let model = windowed(folder.path(), kind);
        let machine = Some(Emulator::open(Order::Backward));
        let mut host = Encoder::open(&model, None, 1).unwrap();
        let mut device = Encoder::open_on(&model, None, &Place { threads: 1, machine, graph: false }).unwrap();
        assert_eq!(host.new_embedding(), device.new_embedding());
        let (mut a, mut b) = (host.new_embedding(), device.new_embedding());
        for round in 0..2 {
            for (t, frame) in frames().iter().enumerate() {
                device.keep_warm();
                let told = |ended: Result<(), EncodeError>| ended.map_err(|error| error.to_string());
                let ended = told(device.encode(&Tensor::Host(frame), &mut b));
                assert_eq!(ended, told(host.encode(&Tensor::Host(frame), &mut a)), "{kind:?}, frame {t}");
                assert_eq!(
                    ended.is_err(),
                    t == 9 || t == 12 || (kind == Kind::Windowed && (9..15).contains(&t)),
                    "frame {t}"
                );
                let same = |a: &Embedding, b: &Embedding| a == b;
                assert!(same(&a, &b), "{kind:?}, round {round}, frame {t}: other bits");
                assert_eq!(host.warming_up(), device.warming_up());
            }
            host.reset();
            device.reset();
        }
        let short = device.encode(&Tensor::Host(&[0.0; 7]), &mut b);
        assert!(matches!(short, Err(EncodeError::Length { found: 7, expected: 1024 })));
    }
}

/// An emulated device that says it has a stream, so that ONNX Runtime's CUDA provider is asked for.
struct Streaming(Arc<dyn Machine>);

impl Machine for Streaming {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        self.0.allocate(bytes)
    }

    fn free(&self, address: u64) {
        self.0.free(address);
    }

    fn allocate_host(&self, bytes: usize) -> Result<u64, Fault> {
        self.0.allocate_host(bytes)
    }

    fn free_host(&self, address: u64) {
        self.0.free_host(address);
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.0.upload(to, bytes)
    }

    fn download(&self, from: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.0.download(from, into)
    }

    fn program(&self, launches: &[Launch], argument: &[u8]) -> Result<Box<dyn Program>, Fault> {
        self.0.program(launches, argument)
    }

    fn run(&self, frame: &[u8], to: u64, program: &dyn Program, answer: Answer) -> Result<(), Fault> {
        self.0.run(frame, to, program, answer)
    }

    fn wait_for(&self, answer: Answer) -> Result<(), Fault> {
        self.0.wait_for(answer)
    }

    fn wait(&self) -> Result<(), Fault> {
        self.0.wait()
    }

    fn stream(&self) -> *mut c_void {
        std::ptr::dangling_mut::<u64>().cast()
    }
}

#[cfg(feature = "cuda")]
#[test]
fn a_runtime_without_the_cuda_provider_is_an_error_that_names_the_command_and_never_the_cpu() {
    let small = Small::new();
    let model = Model::load(&small.manifest).unwrap();
    let machine: Arc<dyn Machine> = Arc::new(Streaming(Emulator::open(Order::Forward)));
    let opened = Encoder::open_on(&model, None, &Place { threads: 1, machine: Some(machine), graph: false });
    let error = opened.err().expect("the library of the tests has no CUDA");
    assert!(error.is_of_a_device(), "{error}");
    let text = error.to_string();
    assert!(text.contains("make gpu") && text.contains("libonnxruntime"), "{text}");
    eprintln!("{text}");
}

#[test]
fn a_device_that_is_asked_for_and_not_there_is_an_error_and_auto_takes_the_cpu_and_says_why() {
    let small = Small::new();
    let with = |device| {
        let mut config = small.config();
        config.compute.device = device;
        Decoder::open(&config)
    };
    // The highest number that can be asked for: no machine of ours has so many.
    let refused = with(Device::Cuda(63)).err().unwrap();
    let text = format!("{refused:#}");
    assert!(["driver", "nvidia-smi", "--features cuda"].iter().any(|remedy| text.contains(remedy)), "{text}");
    let auto = with(Device::Auto).unwrap();
    if auto.on_device() {
        eprintln!("skipped in part: this machine has {}", auto.device());
        return;
    }
    let device = auto.device();
    assert!(device.starts_with("CPU: ") && device.len() > "CPU: ".len(), "{device}");
}
