//! What was learnt of an animal is kept and taken up again: by the CPU and by a device, of which the CPU is the oracle.
//!
//! Method: a run is cut in two. The second half, begun with the state that was kept at the cut, is held against the undisturbed run;
//! the same on the emulated device, also with the state of the other. Then everything that may not fit: another tissue, another
//! light, another geometry, other parameters, a file that is damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use crate::support::conformance::{Case, Look, Step, atlas, everything, registration};
use crate::support::emulator::{Emulator, Order};
use crate::support::oracle::{Outcome, apply, conforms_to, on, on_cpu, run};

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use haltere::config::Compression;
use haltere::frame::{AnimalState, Frame, FrameSlot, Mismatch, PixelType, Request, SavedAnimal, Shape, TakenUp};
use haltere::model::parameters::{Baseline, Estimator, Normalise, Parameters, Registration, Scope, Trust};
use haltere::preprocess::Preprocess;
use haltere::session::{SessionWriter, Topic};
use haltere::source::mcap::McapSource;
use haltere::source::{Next, Source};
use haltere::sys::files::sha256_of_bytes;

/// Frames before the cut, and after it.
const FIRST: u64 = 60;
const SECOND: u64 = 40;
/// Frames of a trial.
const TRIAL: usize = 8;

const LOOK: Look = Look { photons: Some(20.0), ..Look::new(40, 44) };

fn case(parameters: Parameters, frames: impl IntoIterator<Item = Frame>) -> Case {
    let input = Shape::new(parameters.channels.len(), 10, 11);
    let steps = frames.into_iter().map(|frame| Step::Frame(Box::new(frame))).collect();
    Case { name: "warm start".into(), parameters, input, steps }
}

/// Frames that move, and flicker so little that all of them are believed.
fn frames(look: Look, numbers: Range<u64>) -> impl Iterator<Item = Frame> {
    numbers.map(move |number| {
        let t = number as f32;
        look.frame_at(number, [3.0 * (0.7 * t).sin(), 3.0 * (0.43 * t + 1.0).cos()], 1.0 + 0.02 * (0.9 * t).sin())
    })
}

/// What is kept after the first half.
fn kept(preprocess: &mut dyn Preprocess, parameters: &Parameters) -> AnimalState {
    run(preprocess, &case(parameters.clone(), frames(LOOK, 0..FIRST)));
    preprocess.keep().expect("no fault").expect("it is warm")
}

/// The request with which a state is taken up, by way of a file's bytes.
fn take_up(state: &AnimalState) -> Request {
    let saved = SavedAnimal::read("fly3".parse().unwrap(), state.to_bytes(), "ab".into());
    Request::TakeUp(Arc::new(saved.unwrap()))
}

fn parameters() -> Vec<(&'static str, Parameters)> {
    let quantile = Baseline { estimator: Estimator::RunningQuantile, time_constant_s: 0.5, ..Baseline::default() };
    let channel = Normalise { scope: Scope::Channel, warmup_frames: 5, ..Normalise::default() };
    let quiet = Normalise { signal_share: true, warmup_frames: 5, ..Normalise::default() };
    let refreshed = Registration { refresh: 0.05, ..registration() };
    vec![
        ("everything", everything()),
        ("running quantile", Parameters { baseline: Some(quantile), ..everything() }),
        ("statistics of a channel", Parameters { normalise: Some(channel), ..everything() }),
        ("pixels by their share of signal", Parameters { normalise: Some(quiet), ..everything() }),
        ("averaged over two", Parameters { average_frames: 2, ..everything() }),
        ("a template that is refreshed", Parameters { registration: Some(refreshed), ..everything() }),
        ("laid on an atlas", Parameters { atlas: Some(atlas()), ..everything() }),
        ("light only", Parameters { baseline: None, normalise: None, line_phase: None, ..everything() }),
    ]
}

fn largest_difference(a: &[Outcome], b: &[Outcome]) -> f32 {
    let tensors = a.iter().zip(b).filter_map(|((_, a), (_, b))| a.as_ref().zip(b.as_ref()));
    let pixels = tensors.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())));
    pixels.fold(0.0, f32::max)
}

#[test]
fn what_was_kept_goes_on_where_it_was_and_without_a_warm_up() {
    for (name, parameters) in parameters() {
        let whole = case(parameters.clone(), frames(LOOK, 0..FIRST + SECOND));
        let undisturbed = run(&mut *on_cpu(&whole), &whole).split_off(FIRST as usize);
        let state = kept(&mut *on_cpu(&whole), &parameters);
        let mut fresh = on_cpu(&whole);
        fresh.request(take_up(&state));
        let again = run(&mut *fresh, &case(parameters.clone(), frames(LOOK, FIRST..FIRST + SECOND)));
        assert!(again.iter().all(|(seen, _)| !seen.warming_up && seen.warmup_left == 0), "{name}");
        let taken_up: Vec<_> = again.iter().map(|(seen, _)| seen.taken_up).collect();
        let on_trial = (1..TRIAL as u32).rev().map(|left| Some(TakenUp::OnTrial(left)));
        assert_eq!(taken_up[..TRIAL - 1], on_trial.collect::<Vec<_>>(), "{name}");
        assert!(matches!(taken_up[TRIAL - 1], Some(TakenUp::Known { .. })), "{name}: {taken_up:?}");
        assert!(taken_up[TRIAL..].iter().all(Option::is_none));
        let apart = largest_difference(&again, &undisturbed);
        // A refreshed template has a new spectrum at once, and not at its next turn.
        assert!(apart < if name.contains("refreshed") { 0.5 } else { 1e-3 }, "{name}: {apart}");
        assert!(fresh.keep().unwrap().is_some());
        // To the bit: the placement itself is kept, and not sought again.
        assert_eq!(fresh.keep().unwrap().unwrap().placement, state.placement);
        assert_eq!(fresh.placement().is_some(), parameters.atlas.is_some(), "{name}");
    }
}

#[test]
fn a_device_keeps_and_takes_up_what_the_cpu_does() {
    for (name, parameters) in parameters() {
        let second = case(parameters.clone(), frames(LOOK, FIRST..FIRST + SECOND));
        let machine = Emulator::open(Order::Forward);
        let states = [kept(&mut *on_cpu(&second), &parameters), kept(&mut *on(&machine, &second), &parameters)];
        let near = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + b.abs()))
        };
        if let [Some(a), Some(b)] = states.each_ref().map(|state| state.baseline.as_ref()) {
            assert!(a.frames == b.frames && near(&a.f0, &b.f0) && near(&a.deviation, &b.deviation), "{name}");
        }
        if let [Some(a), Some(b)] = states.each_ref().map(|state| state.statistics.as_ref()) {
            assert!(a.frames == b.frames && near(&a.mean, &b.mean) && near(&a.m2, &b.m2), "{name}");
            assert!(near(&a.joint, &b.joint) && near(&a.last, &b.last), "{name}");
        }
        for state in &states {
            let again = |preprocess: &mut dyn Preprocess| {
                preprocess.request(take_up(state));
                run(preprocess, &second)
            };
            conforms_to(&again(&mut *on(&machine, &second)), &again(&mut *on_cpu(&second)));
        }
    }
}

/// The outcomes of frames to which a kept state does not fit, with what was found.
fn mismatch(preprocess: &mut dyn Preprocess, state: &AnimalState, second: &Case) -> (Vec<Outcome>, usize, Mismatch) {
    preprocess.request(take_up(state));
    let outcomes = run(preprocess, second);
    let standings = || outcomes.iter().map(|(seen, _)| (seen.distrust, seen.taken_up)).collect::<Vec<_>>();
    let found = outcomes.iter().enumerate().find_map(|(at, (seen, _))| match seen.taken_up {
        Some(TakenUp::Mismatch(mismatch)) => Some((at, mismatch)),
        _ => None,
    });
    let (at, mismatch) = found.unwrap_or_else(|| panic!("no mismatch in {:?}", standings()));
    (outcomes, at, mismatch)
}

#[test]
fn another_tissue_another_light_and_another_geometry_are_found_and_learnt_anew_as_if_nothing_had_been() {
    // Only where frames are judged by their pixels is their light known.
    let parameters = Parameters { trust: Trust::default(), ..everything() };
    let cases = [
        // Far beyond the search.
        ("template", TRIAL - 1, LOOK, [-14.0, 13.0], 1.0),
        ("light", TRIAL - 1, LOOK, [0.0; 2], 2.5),
        ("geometry", 0, Look { side: (48, 40), ..LOOK }, [0.0; 2], 1.0),
        ("geometry", 0, Look { pixel_type: PixelType::F32, ..LOOK }, [0.0; 2], 1.0),
    ];
    let state = kept(&mut *on_cpu(&case(parameters.clone(), [])), &parameters);
    for (what, at, look, [dy, dx], gain) in cases {
        let frame = move |n| look.frame_at(n, [dy + 0.1 * (n % 5) as f32, dx], gain);
        let second = case(parameters.clone(), (0..SECOND).map(frame));
        // The frame that ends a trial is the last of the old state.
        let first = if what == "geometry" { at } else { at + 1 };
        let anew = case(parameters.clone(), (first as u64..SECOND).map(frame));
        let expected = run(&mut *on_cpu(&anew), &anew);
        let machine = Emulator::open(Order::Forward);
        for mut preprocess in [on_cpu(&second), on(&machine, &second)] {
            let (outcomes, found_at, found) = mismatch(&mut *preprocess, &state, &second);
            assert_eq!((found.name(), found_at), (what, at), "{found:?}");
            assert!(outcomes[at..first + 8].iter().all(|(seen, _)| seen.warming_up), "{what}");
            let mut rest = outcomes[first..].to_vec();
            rest[0].0.taken_up = None;
            conforms_to(&rest, &expected);
        }
    }
}

#[test]
fn a_state_of_other_parameters_or_with_other_lists_is_refused_with_both_and_learnt_anew() {
    let second = case(everything(), frames(LOOK, 0..20));
    let state = kept(&mut *on_cpu(&second), &everything());
    let other = Parameters { average_frames: 2, ..everything() };
    let other = case(other, frames(LOOK, 0..20));
    let damaged = AnimalState { line_phase_px: None, ..state.clone() };
    let machine = Emulator::open(Order::Forward);
    for (case, state, words) in
        [(&other, &state, "with other preprocessing ("), (&second, &damaged, "`line_phase_px` is not there")]
    {
        for mut preprocess in [on_cpu(case), on(&machine, case)] {
            let refused = preprocess.take_up(state).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
            let (outcomes, at, found) = mismatch(&mut *preprocess, state, case);
            assert_eq!((at, found), (0, Mismatch::Preprocessing));
            assert!(outcomes[0].0.warming_up);
        }
    }
}

#[test]
fn nothing_is_kept_before_it_is_warm_or_while_it_is_on_trial_or_built_anew() {
    let whole = case(everything(), frames(LOOK, 0..FIRST));
    let mut preprocess = on_cpu(&whole);
    let mut was_warm = false;
    for frame in frames(LOOK, 0..FIRST) {
        let (seen, _) = apply(&mut *preprocess, &frame, whole.input.pixels()).unwrap();
        assert_eq!(preprocess.keep().unwrap().is_some(), !seen.warming_up, "frame {}", frame.info.number);
        was_warm |= !seen.warming_up;
    }
    assert!(was_warm);
    let state = preprocess.keep().unwrap().unwrap();
    preprocess.request(take_up(&state));
    for (index, frame) in frames(LOOK, FIRST..FIRST + 20).enumerate() {
        assert_eq!(preprocess.keep().unwrap().is_some(), index >= TRIAL, "frame {index}");
        apply(&mut *preprocess, &frame, whole.input.pixels()).unwrap();
    }
    preprocess.request(Request::RenewTemplate);
    assert!(preprocess.keep().unwrap().is_none());
    preprocess.request(Request::Reset);
    assert!(preprocess.keep().unwrap().is_none());
}

#[test]
fn the_countdown_of_a_warm_up_is_right_from_its_first_frame() {
    for (name, parameters) in parameters() {
        let whole = case(parameters.clone(), frames(LOOK, 0..FIRST));
        let outcomes = run(&mut *on_cpu(&whole), &whole);
        let warm_at = outcomes.iter().position(|(seen, _)| !seen.warming_up).expect("it warms up");
        for (at, (seen, _)) in outcomes[..warm_at].iter().enumerate() {
            assert_eq!(seen.warmup_left as usize, warm_at - 1 - at, "{name}: frame {at} of {warm_at}");
        }
    }
}

/// A session of one frame, before which this state is taken up; `damage` is done to what is written.
fn session(path: &Path, request: &Request, damage: impl FnOnce(&mut SessionWriter)) {
    let about = BTreeMap::from([("frame_bytes_max".to_owned(), "4096".to_owned())]);
    let mut file = SessionWriter::create(path, Compression::None, 0, &about, &[]).unwrap();
    damage(&mut file);
    let mut slot = FrameSlot::of(LOOK.frame(3));
    slot.frame.info.source = "rig1".parse().unwrap();
    slot.requests.add(request.clone());
    file.write_frame(&slot).unwrap();
    file.finish(BTreeMap::new()).unwrap();
}

#[test]
fn a_session_holds_the_state_that_was_taken_up_and_one_that_lacks_it_says_so() {
    let whole = case(everything(), []);
    let state = kept(&mut *on_cpu(&whole), &everything());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    let bytes = state.to_bytes();
    let saved = SavedAnimal::read("fly3".parse().unwrap(), bytes.clone(), sha256_of_bytes(&bytes)).unwrap();
    let request = Request::TakeUp(Arc::new(saved));
    session(&path, &request, |_| {});
    let mut source = McapSource::open(&path, None).unwrap();
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    assert_eq!(source.next(&mut frame).unwrap(), Next::Frame);
    assert_eq!(source.requests().iter().collect::<Vec<_>>(), [request]);

    let saved = SavedAnimal::read("fly3".parse().unwrap(), bytes, "00".repeat(32)).unwrap();
    let path = folder.path().join("b.mcap");
    session(&path, &Request::TakeUp(Arc::new(saved)), |_| {});
    let error = McapSource::open(&path, None).unwrap().next(&mut frame).unwrap_err().to_string();
    assert!(error.contains("its attachment fly3.animal is not the one that was taken up"), "{error}");

    let record = br#"{"frame":3,"requests":["animal"],"animal":{"name":"fly4","sha256":"ab"}}"#;
    let path = folder.path().join("c.mcap");
    session(&path, &Request::Reset, |file| file.write_message(Topic::Requests, 1, record).unwrap());
    let error = McapSource::open(&path, None).unwrap().next(&mut frame).unwrap_err().to_string();
    assert!(error.contains("its attachment fly4.animal is missing"), "{error}");
}
