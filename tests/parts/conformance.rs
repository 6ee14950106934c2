//! The CPU is the oracle: every other implementation of preprocessing goes through the same cases as it does, and must give the
//! same, within tolerances that have a name. Implementations are the kernels emulated on the CPU (always) and on the first CUDA
//! device (when there is one; else a line says that it was skipped).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::conformance;
use crate::support::emulator;
use crate::support::oracle;

use std::sync::Arc;

use conformance::{Look, Step, cases, everything};
use emulator::{Emulator, Order};
use haltere::config::Device;
use haltere::cuda::Machine;
use haltere::frame::{Distrust, Observation, Relearn};
use haltere::preprocess::{BuildError, Chosen, Request, build, build_on};
use oracle::{RATE_HZ, apply, conforms, on, on_cpu, run};

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
        run(&mut *on_cpu(&case), &case).into_iter().map(|(observation, _)| observation).collect::<Vec<_>>()
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
    let dark = "darkness that was learnt, and laid on an atlas";
    assert!(any(dark, |o| o.relearn == Some(Relearn::Everything)));
    assert!(cases().iter().all(|case| case.steps.len() > 4));
    for (name, reason, frames) in [
        ("darkness between", Distrust::Dark, 10),
        ("darkness from the beginning", Distrust::Blank, 30),
        ("a flash of every tenth frame", Distrust::Flash, 3),
        ("lit lines", Distrust::Banded, 3),
        ("one saturated frame", Distrust::Saturated, 1),
        ("frames unlike the template", Distrust::TemplateMismatch, 4),
        ("marked stimuli", Distrust::Stimulus, 4),
    ] {
        let outcomes = outcomes(name);
        let found = outcomes.iter().filter(|o| o.distrust == Some(reason)).count();
        let others: Vec<_> = outcomes.iter().filter_map(|o| o.distrust).filter(|d| *d != reason).collect();
        assert!(found == frames && others.iter().all(|d| *d == Distrust::AfterStimulus), "{name}: {found}, {others:?}");
        assert!(outcomes.iter().any(|o| !o.warming_up), "{name}: ends its warm-up");
    }
}

#[test]
fn the_emulated_kernels_do_what_the_cpu_does() {
    conforms(&Emulator::open(Order::Forward), cases());
}

#[test]
fn the_first_cuda_device_does_what_the_cpu_does() {
    match cuda() {
        Ok(machine) => conforms(&machine, cases()),
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
    let machine = Emulator::failing(Order::Forward, "begin", 3);
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
