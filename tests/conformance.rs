//! The CPU is the oracle: every other implementation of preprocessing goes through the same cases as it does, and must give the
//! same, within tolerances that have a name. Implementations are the kernels emulated on the CPU (always) and on the first CUDA
//! device (when there is one; else a line says that it was skipped).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/emulator.rs"]
mod emulator;

use std::sync::Arc;

use conformance::{Case, Look, Step, cases, everything};
use emulator::{Emulator, Order};
use haltere::config::Device;
use haltere::cuda::Machine;
use haltere::frame::{Frame, Observation};
use haltere::preprocess::{BuildError, Chosen, Preprocess, PreprocessError, Request, build, build_on};

const RATE_HZ: f64 = 30.0;
/// Displacement, px. Both sum the same products, in another order; 2e-6 was seen.
const SHIFT_PX: f32 = 2e-5;
/// Height of the peak; 4e-7 was seen.
const PEAK: f32 = 4e-6;
/// Model input, relative to 1 + |value|: what a shift that is off by `SHIFT_PX` does to the steepest edge; 2e-5 was seen.
const TENSOR: f32 = 2e-4;
/// The same where nothing is registered: nothing but the sums of a channel is in another order.
const TENSOR_UNREGISTERED: f32 = 1e-6;

type Outcome = (Observation, Option<Vec<f32>>);

fn oracle(case: &Case) -> Box<dyn Preprocess> {
    build(&case.parameters, case.input, rate_hz(case), Device::Cpu).expect("valid parameters")
}

fn rate_hz(case: &Case) -> f64 {
    RATE_HZ / case.parameters.average_frames as f64
}

fn on(machine: &Arc<dyn Machine>, case: &Case) -> Box<dyn Preprocess> {
    let chosen = Chosen { machine: Some(machine.clone()), why: String::new() };
    build_on(&case.parameters, case.input, rate_hz(case), &chosen).expect("valid parameters")
}

fn apply(preprocess: &mut dyn Preprocess, frame: &Frame, room: usize) -> Result<Outcome, PreprocessError> {
    let prepared = preprocess.apply(frame)?;
    let mut staging = vec![f32::NAN; room];
    let tensor = prepared.tensor.map(|tensor| tensor.to_host(&mut staging).expect("a copy").to_vec());
    Ok((prepared.observation, tensor))
}

fn run(preprocess: &mut dyn Preprocess, case: &Case) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for step in &case.steps {
        match step {
            Step::Frame(frame) => {
                // What is rehearsed or done while resting must change nothing.
                preprocess.keep_warm();
                preprocess.rest();
                outcomes.push(apply(preprocess, frame, case.input.pixels()).expect("a fitting frame"));
            }
            Step::Request(request) => preprocess.request(*request),
        }
    }
    outcomes
}

/// Largest differences of shift, peak and tensor; everything that is counted or decided must be equal.
#[derive(Default, Debug)]
struct Difference {
    shift_px: f32,
    peak: f32,
    tensor: f32,
}

fn compare(found: &[Outcome], expected: &[Outcome]) -> Result<Difference, String> {
    let mut difference = Difference::default();
    if found.len() != expected.len() {
        return Err(format!("{} frames, not {}", found.len(), expected.len()));
    }
    for (at, ((a, x), (b, y))) in found.iter().zip(expected).enumerate() {
        let decided = |o: &Observation| Observation { shift_px: None, shift_peak: 0.0, ..*o };
        if decided(a) != decided(b) {
            return Err(format!("frame {at}: {a:?}, not {b:?}"));
        }
        match (a.shift_px, b.shift_px) {
            (Some(a), Some(b)) => {
                let apart = (a[0] - b[0]).abs().max((a[1] - b[1]).abs());
                difference.shift_px = difference.shift_px.max(apart);
            }
            (None, None) => {}
            _ => return Err(format!("frame {at}: shift {:?}, not {:?}", a.shift_px, b.shift_px)),
        }
        difference.peak = difference.peak.max((a.shift_peak - b.shift_peak).abs());
        match (x, y) {
            (Some(x), Some(y)) => {
                let apart = x.iter().zip(y).map(|(x, y)| (x - y).abs() / (1.0 + y.abs())).fold(0.0, worse);
                difference.tensor = worse(difference.tensor, apart);
            }
            (None, None) => {}
            _ => return Err(format!("frame {at}: a tensor on one side only")),
        }
    }
    Ok(difference)
}

/// The maximum; NaN is the worst.
fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

fn conforms(machine: &Arc<dyn Machine>) {
    let mut faults = Vec::new();
    for case in cases() {
        let expected = run(&mut *oracle(&case), &case);
        let found = run(&mut *on(machine, &case), &case);
        let tensor_max = if case.parameters.registration.is_some() { TENSOR } else { TENSOR_UNREGISTERED };
        match compare(&found, &expected) {
            Ok(d) => {
                eprintln!(
                    "{:<50} shift {:.1e} px, peak {:.1e}, tensor {:.1e}",
                    case.name, d.shift_px, d.peak, d.tensor
                );
                if !(d.shift_px <= SHIFT_PX && d.peak <= PEAK && d.tensor <= tensor_max) {
                    faults.push(format!("{}: {d:?}", case.name));
                }
            }
            Err(what) => faults.push(format!("{}: {what}", case.name)),
        }
    }
    assert!(faults.is_empty(), "{}:\n{}", machine.name(), faults.join("\n"));
}

/// The first CUDA device, or why there is none.
fn cuda() -> Result<Arc<dyn Machine>, String> {
    #[cfg(feature = "cuda")]
    return haltere::cuda::open(0).map_err(|fault| fault.to_string());
    #[cfg(not(feature = "cuda"))]
    return Err("built without the feature `cuda`".to_owned());
}

#[test]
fn the_cases_hold_what_their_names_say() {
    let outcomes = |name: &str| {
        let case = cases().into_iter().find(|case| case.name == name).expect("a case");
        run(&mut *oracle(&case), &case).into_iter().map(|(observation, _)| observation).collect::<Vec<_>>()
    };
    let any = |name, of: fn(&Observation) -> bool| outcomes(name).iter().any(of);
    assert!(any("beyond reach, over the border", |o| o.shift_at_bound));
    assert!(any("saturated", |o| o.saturated_pixels > 0));
    assert!(any("NaN, infinity, and a frame of nothing else", |o| o.non_finite_pixels > 1000));
    let doubtful = outcomes("low light, most peaks not believed");
    let registered = doubtful.iter().filter(|o| o.shift_px.is_some());
    let (doubted, believed): (Vec<&Observation>, Vec<&Observation>) = registered.partition(|o| o.shift_doubtful);
    assert!(doubted.len() > believed.len() && !believed.is_empty(), "{} and {}", doubted.len(), believed.len());
    assert!(any("uint16", |o| o.line_phase_px.abs() > 1.0));
    assert!(cases().iter().all(|case| case.steps.len() > 4));
}

#[test]
fn the_emulated_kernels_do_what_the_cpu_does() {
    conforms(&Emulator::open(Order::Forward));
}

#[test]
fn the_first_cuda_device_does_what_the_cpu_does() {
    match cuda() {
        Ok(machine) => conforms(&machine),
        Err(why) => {
            assert!(std::env::var_os("HALTERE_NEEDS_CUDA").is_none(), "{why}");
            eprintln!("SKIPPED, NOT RUN ON A DEVICE: {why}");
        }
    }
}

/// Threads of a phase that looked at each other's results would not agree: there is no order on a device.
#[test]
fn the_order_of_threads_and_blocks_changes_no_bit() {
    let wanted = ["uint16", "statistics of a channel", "very wide, all frequencies", "averaged over three, with gaps"];
    for case in cases().into_iter().filter(|case| wanted.contains(&case.name.as_str())) {
        let forward = run(&mut *on(&Emulator::open(Order::Forward), &case), &case);
        for order in [Order::Backward, Order::Mixed] {
            let other = run(&mut *on(&Emulator::open(order), &case), &case);
            assert!(other == forward, "{}: {order:?}", case.name);
        }
    }
}

#[test]
fn the_same_frames_give_the_same_bits_on_every_machine() {
    for machine in [Some(Emulator::open(Order::Forward)), cuda().ok()].into_iter().flatten() {
        let case = cases().into_iter().find(|case| case.name == "600 registered frames").expect("a case");
        let mut used = on(&machine, &case);
        let first = run(&mut *used, &case);
        used.request(Request::FreezeNormalisation(true));
        used.request(Request::Reset);
        assert!(run(&mut *used, &case) == first, "{}: a reset leaves a trace", machine.name());
    }
}

#[test]
fn a_frame_that_does_not_fit_is_refused_and_changes_nothing() {
    let machine = Emulator::open(Order::Forward);
    let case = cases().into_iter().find(|case| case.name == "uint16").expect("a case");
    let expected = run(&mut *on(&machine, &case), &case);
    let mut preprocess = on(&machine, &case);
    let mut found = Vec::new();
    for step in &case.steps {
        let Step::Frame(frame) = step else { continue };
        found.push(apply(&mut *preprocess, frame, case.input.pixels()).expect("a fitting frame"));
        for look in [Look::new(48, 40), Look::new(8, 8)] {
            assert!(apply(&mut *preprocess, &look.frame(0), case.input.pixels()).is_err_and(|e| e.is_survivable()));
        }
    }
    assert!(found == expected);
}

#[test]
fn a_device_that_fails_is_named_with_its_cause_and_is_not_survivable() {
    let machine = Emulator::failing(Order::Forward, Some(3));
    let case = cases().into_iter().find(|case| case.name == "uint16").expect("a case");
    let mut preprocess = on(&machine, &case);
    for (at, step) in case.steps.iter().enumerate().take(6) {
        let Step::Frame(frame) = step else { continue };
        let ended = apply(&mut *preprocess, frame, case.input.pixels());
        match ended {
            Ok(_) => assert!(at < 3, "frame {at} was decoded by a device that failed"),
            Err(error) => {
                assert!(at >= 3 && !error.is_survivable(), "frame {at}: {error}");
                assert_eq!(error.to_string(), "emulated device: running the kernels: it was told to fail here");
            }
        }
    }
}

#[test]
fn a_model_that_registers_piecewise_is_refused_on_a_device_and_auto_says_why_it_takes_the_cpu() {
    let mut parameters = everything();
    parameters.registration.as_mut().expect("on").piecewise = Some(Default::default());
    let input = haltere::frame::Shape::new(1, 10, 11);
    let chosen = Chosen { machine: Some(Emulator::open(Order::Forward)), why: String::new() };
    assert_eq!(build_on(&parameters, input, RATE_HZ, &chosen).err(), Some(BuildError::Piecewise));
    assert_eq!(build(&parameters, input, RATE_HZ, Device::Cuda(0)).err(), Some(BuildError::Piecewise));
    let auto = build(&parameters, input, RATE_HZ, Device::Auto).expect("the CPU");
    assert!(auto.device().contains("piecewise"), "{}", auto.device());
}
