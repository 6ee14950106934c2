//! Takes every case of the conformance suite through the CPU, which is the oracle, and through another implementation, and says
//! where they are further apart than the tolerances that are named here.

#![allow(dead_code)]

use std::sync::Arc;

use haltere::config::Device;
use haltere::cuda::Machine;
use haltere::frame::{Frame, Observation};
use haltere::preprocess::{Chosen, Preprocess, PreprocessError, build, build_on};

use super::conformance::{Case, Step};

pub const RATE_HZ: f64 = 30.0;
/// Displacement, px. Both sum the same products, in another order; 2e-6 was seen.
const SHIFT_PX: f32 = 2e-5;
/// Height of the peak; 4e-7 was seen.
const PEAK: f32 = 4e-6;
/// Model input, relative to 1 + |value|: what a shift that is off by `SHIFT_PX` does to the steepest edge; 2e-5 was seen.
const TENSOR: f32 = 2e-4;
/// The same where nothing is registered: nothing but the sums of a channel is in another order.
const TENSOR_UNREGISTERED: f32 = 1e-6;

pub type Outcome = (Observation, Option<Vec<f32>>);

pub fn on_cpu(case: &Case) -> Box<dyn Preprocess> {
    build(&case.parameters, case.input, rate_hz(case), Device::Cpu).expect("valid parameters")
}

fn rate_hz(case: &Case) -> f64 {
    RATE_HZ / case.parameters.average_frames as f64
}

pub fn on(machine: &Arc<dyn Machine>, case: &Case) -> Box<dyn Preprocess> {
    let chosen = Chosen { machine: Some(machine.clone()), why: String::new() };
    build_on(&case.parameters, case.input, rate_hz(case), &chosen).expect("valid parameters")
}

pub fn apply(preprocess: &mut dyn Preprocess, frame: &Frame, room: usize) -> Result<Outcome, PreprocessError> {
    let prepared = preprocess.apply(frame)?;
    let mut staging = vec![f32::NAN; room];
    let tensor = prepared.tensor.map(|tensor| tensor.to_host(&mut staging).expect("a copy").to_vec());
    Ok((prepared.observation, tensor))
}

pub fn run(preprocess: &mut dyn Preprocess, case: &Case) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for step in &case.steps {
        match step {
            Step::Frame(frame) => {
                // What is rehearsed or done while resting must change nothing.
                preprocess.keep_warm();
                preprocess.rest();
                outcomes.push(apply(preprocess, frame, case.input.pixels()).expect("a fitting frame"));
            }
            Step::Request(request) => preprocess.request(request.clone()),
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

/// Requires that these outcomes of a device are those of the CPU.
pub fn conforms_to(found: &[Outcome], expected: &[Outcome]) {
    let difference = compare(found, expected).expect("the same decisions");
    let Difference { shift_px, peak, tensor } = difference;
    assert!(shift_px <= SHIFT_PX && peak <= PEAK && tensor <= TENSOR, "{difference:?}");
}

fn compare(found: &[Outcome], expected: &[Outcome]) -> Result<Difference, String> {
    let mut difference = Difference::default();
    if found.len() != expected.len() {
        return Err(format!("{} frames, not {}", found.len(), expected.len()));
    }
    for (at, ((a, x), (b, y))) in found.iter().zip(expected).enumerate() {
        let decided = |o: &Observation| Observation { shift_px: None, shift_peak: 0.0, taken_up: None, ..*o };
        let standing = |o: &Observation| o.taken_up.as_ref().map(std::mem::discriminant);
        if decided(a) != decided(b) || standing(a) != standing(b) {
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

pub fn conforms(machine: &Arc<dyn Machine>, cases: impl IntoIterator<Item = Case>) {
    let mut faults = Vec::new();
    for case in cases {
        let expected = run(&mut *on_cpu(&case), &case);
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
