//! One step of training: forward, backward and AdamW, the same network and batch as `benches/train_step.py` gives PyTorch.
//!
//! 32 segments of 56 frames 64×64, four windows of 32 frames from each (stride 8), so that each frame is encoded once and
//! serves up to four windows; symmetric InfoNCE of the 128 windows against fixed embeddings. `--burn` lets burn's own
//! convolutions do the frame network. Without `--bench` a small step runs, and the loss must fall.
//!
//! `cargo bench --bench train_step -- [--burn] [--widths 24,48,64] [--threads 2] [--steps 20] [--warm-up 3]` prints one line
//! of JSON: medians of CPU seconds (all threads, user and system) and of wall seconds per step. `--device cuda`, in a build with the
//! feature `train-cuda`, trains on the first NVIDIA GPU by burn's kernels.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Instant;

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use haltere::frame::Shape;
use haltere::train::export::seeded_frames;
use haltere::train::frame_pass::FramePass;
use haltere::train::frame_pass::burn_side::step_gradients;
use haltere::train::{Network, NetworkSpec};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TEMPERATURE: f64 = 0.1;
const RATE: f64 = 1e-3;

struct Options {
    full: bool,
    burn: bool,
    cuda: bool,
    widths: Vec<usize>,
    threads: usize,
    steps: usize,
    warm_up: usize,
}

impl Options {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let after = |flag: &str| words.iter().position(|w| w == flag).map(|at| words[at + 1].clone());
        let number = |flag: &str, otherwise| after(flag).map_or(otherwise, |text| text.parse().unwrap());
        let has = |flag: &str| words.iter().any(|w| w == flag);
        let widths = after("--widths").unwrap_or_else(|| "24,48,64".into());
        Self {
            full: has("--bench"),
            burn: has("--burn") || after("--device").as_deref() == Some("cuda"),
            cuda: after("--device").as_deref() == Some("cuda"),
            widths: widths.split(',').map(|w| w.parse().unwrap()).collect(),
            threads: number("--threads", 2),
            steps: number("--steps", 20),
            warm_up: number("--warm-up", 3),
        }
    }
}

/// Segments of a trial, and the windows cut from them.
struct Batch {
    segments: usize,
    segment_frames: usize,
    stride: usize,
    frames: Vec<f32>,
    target: Tensor<2>,
}

impl Batch {
    fn new(spec: &NetworkSpec, segments: usize, segment_frames: usize, stride: usize, device: &Device) -> Self {
        let frames = seeded_frames(spec.input, segments * segment_frames, 1);
        let windows = segments * (1 + (segment_frames - spec.window_frames) / stride);
        // Any fixed numbers that tell windows apart.
        let values: Vec<f32> =
            (0..windows * spec.embedding).map(|i| ((i * i + 7 * i) % 101) as f32 / 50.0 - 1.0).collect();
        let target = Tensor::<2>::from_data(TensorData::new(values, [windows, spec.embedding]), device);
        let target = target.clone() / target.square().sum_dim(1).sqrt();
        Self { segments, segment_frames, stride, frames, target }
    }

    fn loss(&self, network: &Network, spec: &NetworkSpec, features: Tensor<2>) -> Tensor<1> {
        let rows = features.reshape([self.segments, self.segment_frames, spec.features]);
        let starts = (0..=self.segment_frames - spec.window_frames).step_by(self.stride);
        let windows = starts.map(|start| rows.clone().narrow(1, start, spec.window_frames)).collect();
        let embeddings = network.forward_features(Tensor::cat(windows, 0));
        let logits = embeddings.matmul(self.target.clone().transpose()) / TEMPERATURE;
        let [count, _] = logits.dims();
        let same = Tensor::<2>::eye(count, &logits.device());
        let both = log_softmax(logits.clone(), 1) + log_softmax(logits, 0);
        -(both * same).sum() / (2.0 * count as f64)
    }
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Loss, CPU seconds and wall seconds of each step.
fn train(spec: &NetworkSpec, batch: &Batch, burn: bool, steps: usize, device: &Device) -> Vec<[f64; 3]> {
    let mut network = Network::new(spec, 1, device).unwrap();
    let mut optimiser = AdamWConfig::new().init();
    let mut pass = FramePass::new(spec).unwrap();
    let Shape { channels, height, width } = spec.input;
    let mut measured = Vec::new();
    for _ in 0..steps {
        let (cpu, wall) = (cpu_s(), Instant::now());
        let (loss, gradients) = if burn {
            let shape = [batch.segments * batch.segment_frames, channels, height, width];
            let frames = Tensor::from_data(TensorData::new(batch.frames.clone(), shape), device);
            let loss = batch.loss(&network, spec, network.forward_frame(frames));
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            (loss.into_scalar::<f32>(), gradients)
        } else {
            step_gradients(&mut pass, &network, &batch.frames, |f| batch.loss(&network, spec, f)).unwrap()
        };
        network = optimiser.step(RATE, network, gradients);
        measured.push([f64::from(loss), cpu_s() - cpu, wall.elapsed().as_secs_f64()]);
    }
    measured
}

/// The first GPU, or why there is none.
#[cfg(feature = "train-cuda")]
fn cuda() -> Result<Device, String> {
    haltere::cli::training::cuda().map_err(|error| error.to_string())
}

#[cfg(not(feature = "train-cuda"))]
fn cuda() -> Result<Device, String> {
    Err("built without the feature `train-cuda`".into())
}

/// Relative difference of the losses of five steps on a GPU from those on the CPU: sums in another order, carried through five
/// updates. Never measured so far; the bound is that of our kernels against burn's.
const LOSS_APART: f64 = 0.02;

fn same_losses(found: &[[f64; 3]], expected: &[[f64; 3]], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        let apart = (found[0] - expected[0]).abs();
        assert!(apart < LOSS_APART * expected[0], "{} {what}, {} by burn on the CPU", found[0], expected[0]);
    }
}

fn main() {
    let options = Options::read();
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global().unwrap();
    let (side, segments) = if options.full { (64, 32) } else { (32, 3) };
    let widths = if options.full { options.widths.clone() } else { vec![8, 8] };
    let spec = NetworkSpec { widths, features: 64, embedding: 64, ..NetworkSpec::for_input(Shape::new(1, side, side)) };
    let device = if options.cuda { cuda().unwrap() } else { Device::flex() }.autodiff();
    let batch = Batch::new(&spec, segments, 56, 8, &device);
    if !options.full {
        let losses = [false, true].map(|burn| train(&spec, &batch, burn, 5, &device));
        same_losses(&losses[0], &losses[1], "by our kernels");
        match cuda() {
            Ok(gpu) => {
                let gpu = gpu.autodiff();
                let batch = Batch::new(&spec, segments, 56, 8, &gpu);
                same_losses(&train(&spec, &batch, true, 5, &gpu), &losses[1], "on the GPU");
            }
            Err(why) => eprintln!("SKIPPED, training on a GPU: {why}"),
        }
        assert!(losses[0][4][0] < losses[0][0][0], "the loss must fall: {losses:?}");
        return;
    }
    let measured = train(&spec, &batch, options.burn, options.warm_up + options.steps, &device);
    let part = |index: usize| measured[options.warm_up..].iter().map(|m| m[index]).collect();
    assert!(measured[measured.len() - 1][0] < measured[0][0], "the loss must fall");
    let report = serde_json::json!({
        "widths": spec.widths, "threads": options.threads, "steps": options.steps,
        "first_loss": measured[0][0], "last_loss": measured[measured.len() - 1][0],
        "cpu_s": median(part(1)), "wall_s": median(part(2)),
    });
    println!("{report}");
}
