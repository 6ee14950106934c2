//! Time of each step of preprocessing and of all together, 512×512 u16 → 128×128. `cargo bench --bench preprocess`.
//!
//! Every benchmark first asserts that the work was done. Under `cargo test --benches` each runs once, small.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use haltere::config::Device;
use haltere::frame::{Frame, PixelType, Pixels, Shape, Tensor};
use haltere::model::parameters;
use haltere::model::parameters::{Estimator, Parameters, Registration, Scope};
use haltere::preprocess::baseline::Baseline;
use haltere::preprocess::convert::convert;
use haltere::preprocess::line_phase::correct;
use haltere::preprocess::normalise::Normalise;
use haltere::preprocess::resample::{Field, FieldResampler, Resampler};
use haltere::preprocess::simd::Simd;
use haltere::preprocess::{Preprocess, build};

const SIDE: usize = 512;
const MODEL: usize = 128;

/// Counts with structure on several scales and noise.
fn counts() -> Vec<u16> {
    let one = |i: usize| {
        let (y, x) = ((i / SIDE) as f32, (i % SIDE) as f32);
        let blobs = 300.0 * (0.11 * x).sin() * (0.07 * y).cos() + 200.0 * (0.031 * (x + y)).sin();
        (1000.0 + blobs + ((i * 7919) % 127) as f32) as u16
    };
    (0..SIDE * SIDE).map(one).collect()
}

fn light() -> Vec<f32> {
    counts().into_iter().map(f32::from).collect()
}

fn frame(number: u64) -> Frame {
    let mut frame = Frame::with_capacity(SIDE * SIDE * 2);
    frame.info.shape = Shape::new(1, SIDE, SIDE);
    frame.info.pixel_type = PixelType::U16;
    frame.info.number = number;
    frame.info.t_received_ns = number * 33_333_333;
    let bytes: Vec<u8> = counts().into_iter().flat_map(u16::to_ne_bytes).collect();
    frame.bytes_mut().copy_from_slice(&bytes);
    frame
}

fn steps(c: &mut Criterion) {
    let (simd, pixels, mut plane) = (Simd::detect(), counts(), light());
    let parameters = parameters::Convert { dark_level: 100.0, invert: false };
    assert_eq!(convert(simd, Pixels::U16(&pixels), 0, &parameters, &mut plane).saturated, 0);
    assert_eq!(plane[5], f32::from(pixels[5]) - 100.0);
    c.bench_function("convert 512² u16", |b| {
        b.iter(|| convert(simd, Pixels::U16(black_box(&pixels)), 0, &parameters, &mut plane));
    });
    c.bench_function("line phase correction 512²", |b| b.iter(|| correct(black_box(&mut plane), SIDE, 3.0)));
    resampling(c);
}

fn resampling(c: &mut Criterion) {
    let (plane, mut out) = (light(), vec![0.0; MODEL * MODEL]);
    let mut resampler = Resampler::new(Simd::detect(), (SIDE, SIDE), (MODEL, MODEL));
    resampler.aim([0.0, 0.0]);
    resampler.resample(&plane, &mut out);
    let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
    assert!((mean(&out) / mean(&plane) - 1.0).abs() < 0.02);
    c.bench_function("resample 512² → 128²", |b| {
        b.iter(|| {
            resampler.aim(black_box([1.3, -2.6]));
            resampler.resample(&plane, &mut out);
        });
    });
    let mut full = vec![0.0; SIDE * SIDE];
    let mut same_size = Resampler::new(Simd::detect(), (SIDE, SIDE), (SIDE, SIDE));
    c.bench_function("resample 512² → 512²", |b| {
        b.iter(|| {
            same_size.aim(black_box([1.3, -2.6]));
            same_size.resample(&plane, &mut full);
        });
    });
    let mut piecewise = FieldResampler::new((SIDE, SIDE), (MODEL, MODEL));
    let field = Field { shifts_px: &[[1.3, -2.6]; 4], centres_y: &[127.5, 383.5], centres_x: &[127.5, 383.5] };
    c.bench_function("resample piecewise 512² → 128²", |b| {
        b.iter(|| {
            piecewise.aim(black_box(field));
            piecewise.resample(&plane, &mut out);
        });
    });
}

/// Whether a frame is tissue: the difference of the two rows; the bar is 20 µs.
fn judging(c: &mut Criterion) {
    for (name, enabled) in [("convert 512² and judge the frame", true), ("convert 512² and believe it", false)] {
        let trust = parameters::Trust { enabled, ..Default::default() };
        let bare = Parameters { registration: None, baseline: None, normalise: None, ..Parameters::default() };
        let parameters = Parameters { trust, ..bare };
        let mut steps = build(&parameters, Shape::new(1, 1, 1), 30.0, Device::Cpu).expect("valid parameters");
        let mut frame = frame(0);
        c.bench_function(name, |b| {
            b.iter(|| {
                frame.info.number += 1;
                let prepared = steps.apply(black_box(&frame)).expect("a fitting frame");
                assert_eq!(prepared.observation.distrust, None);
            });
        });
    }
}

fn learning(c: &mut Criterion) {
    let (simd, image) = (Simd::detect(), light()[..MODEL * MODEL].to_vec());
    for (name, estimator) in [("minimum", Estimator::RunningMinimum), ("quantile", Estimator::RunningQuantile)] {
        let parameters = parameters::Baseline { estimator, ..Default::default() };
        let mut baseline = Baseline::new(&parameters, simd, 30.0, image.len());
        (0..20).for_each(|_| baseline.learn(&image));
        let mut out = image.clone();
        baseline.relative_change(&mut out);
        assert!(out.iter().all(|v| v.abs() < 1e-3), "ΔF/F of a constant stream is 0");
        c.bench_function(&format!("ΔF/F running {name} 128²"), |b| {
            b.iter(|| {
                baseline.learn(black_box(&image));
                out.copy_from_slice(&image);
                baseline.relative_change(&mut out);
            });
        });
    }
    let share = "pixel by its share of signal";
    for (name, scope) in [("pixel", Scope::Pixel), (share, Scope::Pixel), ("channel", Scope::Channel)] {
        let parameters = parameters::Normalise { scope, signal_share: name == share, ..Default::default() };
        let mut normalise = Normalise::new(&parameters, simd, 30.0, 1, image.len());
        let mut out = image.clone();
        normalise.learn(&image);
        normalise.apply(&mut out);
        assert!(out.iter().all(|v| v.is_finite()));
        c.bench_function(&format!("normalise per {name} 128²"), |b| {
            b.iter(|| {
                normalise.learn(black_box(&image));
                out.copy_from_slice(&image);
                normalise.apply(&mut out);
            });
        });
    }
}

/// A preprocessing that has seen enough frames to be past its warm-up.
fn warm(registration: Option<Registration>) -> (Box<dyn Preprocess>, Frame) {
    let parameters = Parameters {
        registration,
        line_phase: Some(parameters::LinePhase { frames: 1, ..Default::default() }),
        ..Parameters::default()
    };
    let mut all = build(&parameters, Shape::new(1, MODEL, MODEL), 30.0, Device::Cpu).expect("valid parameters");
    let mut frame = frame(0);
    for number in 0..130 {
        frame.info.number = number;
        frame.info.t_received_ns = number * 33_333_333;
        all.apply(&frame).expect("a fitting frame");
    }
    (all, frame)
}

fn whole(c: &mut Criterion) {
    let registration = Registration { template_frames: 10, template_rounds: 2, ..Registration::default() };
    for (name, registration) in [("without registration", None), ("with registration", Some(registration))] {
        let (mut all, mut frame) = warm(registration);
        c.bench_function(&format!("all steps {name}"), |b| {
            b.iter(|| {
                frame.info.number += 1;
                frame.info.t_received_ns += 33_333_333;
                let prepared = all.apply(black_box(&frame)).expect("a fitting frame");
                assert!(!prepared.observation.warming_up);
                let Some(Tensor::Host(tensor)) = prepared.tensor else { panic!("no tensor in host memory") };
                black_box(tensor[0])
            });
        });
    }
}

fn criterion() -> Criterion {
    Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(1))
}

criterion_group! { name = benches; config = criterion(); targets = steps, judging, learning, whole }
criterion_main!(benches);
