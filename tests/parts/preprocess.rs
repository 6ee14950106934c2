//! Promises of preprocessing as a whole, through its public seam: a known scene is moved, bent, damaged and renumbered, and
//! the tensors are compared with those of the plain scene. Each step's arithmetic is tested beside the step.

use std::path::PathBuf;

use haltere::config::Device;
use haltere::frame::{Frame, Observation, PixelType, Relearn, Shape, Tensor};
use haltere::model::parameters::{Convert, LinePhase, Parameters, Piecewise, Registration, Trust};
use haltere::preprocess::{BuildError, Preprocess, PreprocessError, Request, build};

const SIDE: usize = 96;
const MODEL: usize = 24;
const RATE_HZ: f64 = 30.0;

/// Light of a scene without symmetry, at any point.
fn scene(y: f32, x: f32) -> f32 {
    let blob = |cy: f32, cx: f32, r: f32| (-((y - cy).powi(2) + (x - cx).powi(2)) / (2.0 * r * r)).exp();
    let cells = 70.0 * blob(30.0, 40.0, 4.0) + 90.0 * blob(60.0, 25.0, 3.0) + 60.0 * blob(55.0, 70.0, 5.0);
    60.0 + cells + 50.0 * blob(20.0, 75.0, 2.5) + 10.0 * (0.6 * x + 0.2 * y).sin() + 10.0 * (0.5 * y - 0.3 * x).cos()
}

/// One plane with the content displaced by `shift` and, in odd lines, by `bend` px more to the right.
fn plane(shift: [f32; 2], bend: f32, gain: f32) -> Vec<u16> {
    let light = |i: usize| {
        let (y, x) = (i / SIDE, i % SIDE);
        let odd = if y % 2 == 1 { bend } else { 0.0 };
        (gain * scene(y as f32 - shift[0], x as f32 - shift[1] - odd)) as u16
    };
    (0..SIDE * SIDE).map(light).collect()
}

fn frame_of(number: u64, pixel_type: PixelType, channels: usize, bytes: &[u8]) -> Frame {
    let mut frame = Frame::with_capacity(bytes.len());
    frame.info.shape = Shape::new(channels, SIDE, SIDE);
    frame.info.pixel_type = pixel_type;
    frame.info.number = number;
    frame.info.t_received_ns = (number + 1) * 33_333_333;
    frame.info.t_live_ns = Some(frame.info.t_received_ns);
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

fn frame(number: u64, planes: &[&[u16]]) -> Frame {
    let bytes: Vec<u8> = planes.iter().flat_map(|p| p.iter()).flat_map(|v| v.to_ne_bytes()).collect();
    frame_of(number, PixelType::U16, planes.len(), &bytes)
}

/// A stream that moves, flickers, and is bent by two pixels.
fn stream(frames: usize) -> Vec<Frame> {
    let one = |t: usize| {
        let shift = [(t % 5) as f32 - 2.0, ((t * 3) % 7) as f32 - 3.0];
        frame(t as u64, &[&plane(shift, 2.0, 1.0 + (t % 4) as f32 * 0.1)])
    };
    (0..frames).map(one).collect()
}

fn registration() -> Registration {
    Registration { reach_px: 8, template_frames: 4, template_rounds: 2, ..Registration::default() }
}

/// No frame is doubted: these scenes brighten by a third at once, bend, and lose all their pixels. What is doubted, and what that
/// keeps from learning, is tested with the judgement.
fn credulous() -> Parameters {
    Parameters { trust: Trust { enabled: false, ..Trust::default() }, ..Parameters::default() }
}

/// Registered light and nothing else.
fn light_only() -> Parameters {
    Parameters { registration: Some(registration()), baseline: None, normalise: None, ..credulous() }
}

fn everything() -> Parameters {
    let mut all = Parameters {
        line_phase: Some(LinePhase { reach_px: 4, frames: 3 }),
        registration: Some(registration()),
        ..credulous()
    };
    all.normalise.as_mut().expect("on by default").warmup_frames = 5;
    all
}

fn make(parameters: &Parameters) -> Box<dyn Preprocess> {
    let input = Shape::new(parameters.channels.len(), MODEL, MODEL);
    build(parameters, input, RATE_HZ / parameters.average_frames as f64, Device::Cpu).expect("valid parameters")
}

type Outcome = (Observation, Option<Vec<f32>>);

fn apply(preprocess: &mut dyn Preprocess, frame: &Frame) -> Outcome {
    let prepared = preprocess.apply(frame).expect("a fitting frame");
    let tensor = prepared.tensor.map(|tensor| match tensor {
        Tensor::Host(values) => values.to_vec(),
        _ => panic!("not in host memory"),
    });
    (prepared.observation, tensor)
}

fn run<'a>(preprocess: &mut dyn Preprocess, frames: impl IntoIterator<Item = &'a Frame>) -> Vec<Outcome> {
    frames.into_iter().map(|frame| apply(preprocess, frame)).collect()
}

/// Equal to the last bit; names the first frame that is not.
fn same(found: &[Outcome], expected: &[Outcome]) {
    let different = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((different, found.len()), (None, expected.len()), "index of the first frame that differs");
}

/// Feeds a frame until the template is ready; the next frame number and the tensor of the first registered frame.
fn settle(preprocess: &mut dyn Preprocess, planes: &[&[u16]]) -> (u64, Vec<f32>) {
    for number in 0..100 {
        let (observation, tensor) = apply(preprocess, &frame(number, planes));
        assert_eq!(observation.shift_px.is_none(), observation.warming_up, "frame {number}");
        if observation.shift_px.is_some() {
            return (number + 1, tensor.unwrap_or_default());
        }
    }
    panic!("no template after a hundred frames");
}

/// Largest difference away from the border, where a shift brings in repeated pixels.
fn inner_difference(a: &[f32], b: &[f32]) -> f32 {
    let inside = |i: &usize| (3..MODEL - 3).contains(&(i % MODEL)) && (3..MODEL - 3).contains(&(i / MODEL));
    (0..MODEL * MODEL).filter(inside).map(|i| (a[i] - b[i]).abs()).fold(0.0, f32::max)
}

#[test]
fn the_same_frames_give_the_same_bits_and_a_reset_forgets_everything() {
    let frames = stream(60);
    for average_frames in [1, 2] {
        let parameters = Parameters { average_frames, ..everything() };
        let first = run(&mut *make(&parameters), &frames);
        assert!(first.iter().any(|(o, t)| !o.warming_up && t.is_some()), "nothing came after the warm-up");
        let mut used = make(&parameters);
        let other: Vec<Frame> = (0..30).map(|t| frame(t, &[&plane([4.0, -4.0], -3.0, 1.3)])).collect();
        run(&mut *used, &other);
        used.request(Request::FreezeNormalisation(true));
        used.request(Request::Reset);
        same(&run(&mut *used, &frames), &first);
    }
}

#[test]
fn a_later_frame_changes_no_earlier_tensor() {
    for average_frames in [1, 3] {
        let parameters = Parameters { average_frames, ..everything() };
        let mut frames = stream(50);
        let before = run(&mut *make(&parameters), &frames);
        for late in [40, 11, 5] {
            frames[late] = frame(late as u64, &[&plane([-3.0, 3.0], 1.0, 1.4)]);
            let after = run(&mut *make(&parameters), &frames);
            same(&after[..late], &before[..late]);
            assert!(after[late..] != before[late..], "frame {late} has no effect at all");
        }
    }
}

#[test]
fn the_clock_never_reaches_a_pixel() {
    let mut frames = stream(40);
    let before = run(&mut *make(&everything()), &frames);
    frames.iter_mut().for_each(|f| {
        f.info.t_received_ns = f.info.t_received_ns * 2 + f.info.number % 3;
        f.info.t_live_ns = Some(f.info.t_received_ns);
    });
    let after = run(&mut *make(&everything()), &frames);
    for ((a, x), (b, y)) in before.iter().zip(&after) {
        assert!(x == y, "frame rates differ, and so do tensors");
        assert_eq!((a.shift_px, a.warming_up), (b.shift_px, b.warming_up));
    }
    let rates = [&before, &after].map(|r| r.last().map(|(o, _)| (o.frame_rate_hz.round(), o.frame_rate_off)));
    assert_eq!(rates, [Some((30.0, false)), Some((15.0, true))]);
}

#[test]
fn every_pixel_type_gives_the_same_tensor() {
    let planes: Vec<Vec<u16>> = (0..12).map(|t| plane([t as f32 % 3.0, 0.0], 0.0, 0.9)).collect();
    type Encode = fn(u16) -> Vec<u8>;
    let convert: [(PixelType, Encode); 4] = [
        (PixelType::U16, |v| v.to_ne_bytes().to_vec()),
        (PixelType::U8, |v| vec![v as u8]),
        (PixelType::I16, |v| (v as i16).to_ne_bytes().to_vec()),
        (PixelType::F32, |v| (v as f32).to_ne_bytes().to_vec()),
    ];
    let results = convert.map(|(pixel_type, bytes_of)| {
        let bytes = |p: &Vec<u16>| p.iter().flat_map(|&v| bytes_of(v)).collect::<Vec<u8>>();
        let frames: Vec<Frame> =
            planes.iter().enumerate().map(|(t, p)| frame_of(t as u64, pixel_type, 1, &bytes(p))).collect();
        run(&mut *make(&everything()), &frames).into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>()
    });
    assert!(results.iter().all(|r| r == &results[0]));
}

#[test]
fn what_moved_is_put_back_and_every_channel_moves_with_the_guide() {
    let still = plane([0.0, 0.0], 0.0, 1.0);
    // Channel 0 is a dim copy that could not be registered by itself: it is told by channel 1.
    let parameters = Parameters {
        channels: vec![1, 0],
        registration: Some(Registration { channel: 1, ..registration() }),
        convert: Convert { dark_level: 10.0, invert: false },
        ..light_only()
    };
    let mut preprocess = make(&parameters);
    let dim = |shift| plane(shift, 0.0, 0.5);
    let (next, reference) = settle(&mut *preprocess, &[&dim([0.0; 2]), &still]);
    for (t, shift) in (next..).zip([[3.0, -2.0], [-5.0, 4.0], [1.5, 0.5]]) {
        let (observation, tensor) = apply(&mut *preprocess, &frame(t, &[&dim(shift), &plane(shift, 0.0, 1.0)]));
        let (found, tensor) = (observation.shift_px.expect("a template"), tensor.expect("no averaging"));
        assert!((found[0] - shift[0]).abs() < 0.15 && (found[1] - shift[1]).abs() < 0.15, "{found:?} for {shift:?}");
        for channel in [0, 1] {
            let one = |v: &[f32]| v[channel * MODEL * MODEL..(channel + 1) * MODEL * MODEL].to_vec();
            let difference = inner_difference(&one(&tensor), &one(&reference));
            assert!(difference < 2.5, "channel {channel} is off by {difference} counts after {shift:?}");
        }
        let ratio = (tensor[300] + 10.0) / (tensor[MODEL * MODEL + 300] + 10.0);
        assert!((ratio - 2.0).abs() < 0.1, "the model's first channel is the frame's second: {ratio}");
    }
}

#[test]
fn what_bent_is_straightened_by_a_field_of_shifts() {
    // The lower half moves to the right, the upper to the left, with a smooth passage.
    let bent: Vec<u16> = (0..SIDE * SIDE)
        .map(|i| {
            let (y, x) = ((i / SIDE) as f32, (i % SIDE) as f32);
            scene(y, x - 2.0 * ((y - 48.0) / 24.0).clamp(-1.0, 1.0)) as u16
        })
        .collect();
    let still = plane([0.0; 2], 0.0, 1.0);
    let remaining = |piecewise: Option<Piecewise>| {
        let registration = Registration { piecewise, ..registration() };
        let mut preprocess = make(&Parameters { registration: Some(registration), ..light_only() });
        let (next, reference) = settle(&mut *preprocess, &[&still]);
        let (_, tensor) = apply(&mut *preprocess, &frame(next, &[&bent]));
        inner_difference(&tensor.expect("no averaging"), &reference)
    };
    let (rigid, field) = (remaining(None), remaining(Some(Piecewise { blocks: 4, reach_px: 4 })));
    assert!(field < 0.5 * rigid, "{field} counts remain, {rigid} with a rigid shift");
}

#[test]
fn bent_lines_are_straightened_before_registration() {
    let parameters = Parameters { line_phase: Some(LinePhase { reach_px: 4, frames: 3 }), ..light_only() };
    let (_, straight) = settle(&mut *make(&light_only()), &[&plane([0.0; 2], 0.0, 1.0)]);
    let bent: Vec<Frame> = (0..30).map(|t| frame(t, &[&plane([0.0; 2], 2.0, 1.0)])).collect();
    let found = run(&mut *make(&parameters), &bent);
    for (t, (observation, _)) in found.iter().enumerate() {
        let expected = if t < 3 { 0.0 } else { 2.0 };
        assert!((observation.line_phase_px - expected).abs() < 0.2, "frame {t}: {}", observation.line_phase_px);
    }
    let (observation, tensor) = &found[29];
    assert!(observation.shift_px.is_some_and(|s| s.iter().all(|px| px.abs() < 0.05)), "{:?}", observation.shift_px);
    assert!(inner_difference(tensor.as_ref().expect("no averaging"), &straight) < 1.0);
}

#[test]
fn frames_before_the_template_leave_no_trace_in_baseline_and_statistics() {
    let mut parameters = everything();
    parameters.registration = None;
    let still = |t: usize, gain: f32| frame(t as u64, &[&plane([0.0; 2], 2.0, gain)]);
    let run_with = |gain: f32| {
        let frames: Vec<Frame> = (0..20).map(|t| still(t, if t < 3 { gain } else { 1.0 + t as f32 * 0.01 })).collect();
        run(&mut *make(&parameters), &frames)
    };
    let (dim, bright) = (run_with(0.5), run_with(1.5));
    assert!(dim[1].1.is_some(), "frames become tensors from the first one on");
    // The offset was measured on other pixels: its fraction may differ, its nearest pixel not.
    assert!(dim[3..].iter().zip(&bright[3..]).all(|((_, a), (_, b))| a == b));
}

#[test]
fn a_renewed_template_takes_over_without_a_step_and_keeps_the_coordinates() {
    let mut preprocess = make(&light_only());
    let (still, moved) = (plane([0.0; 2], 0.0, 1.0), plane([3.0, -4.0], 0.0, 1.0));
    let (next, reference) = settle(&mut *preprocess, &[&still]);
    for round in 0..2 {
        preprocess.request(Request::RenewTemplate);
        let mut shift = None;
        for t in 0..40 {
            let (observation, tensor) = apply(&mut *preprocess, &frame(next + round * 40 + t, &[&moved]));
            assert!(!observation.warming_up && observation.shift_px.is_some(), "the old template stays in use");
            shift = observation.shift_px;
            let difference = inner_difference(&tensor.expect("no averaging"), &reference);
            assert!(difference < 2.5, "frame {t} lies elsewhere: {difference} counts");
        }
        assert!(shift.is_some_and(|s| s.iter().all(|px| px.abs() < 0.1)), "{shift:?} is not of the new template");
    }
}

#[test]
fn a_template_whose_frames_show_different_pictures_is_not_used_and_the_next_frames_make_another() {
    let registration = Some(Registration { template_frames: 8, ..registration() });
    let mut preprocess = make(&Parameters { registration, ..light_only() });
    let here = plane([0.0; 2], 0.0, 1.0);
    // The same light elsewhere: further away than is searched, and each time in another place.
    let turned = |row: &[u16], by: usize| [&row[by..], &row[..by]].concat();
    let elsewhere = |by: usize| -> Vec<u16> { here.chunks_exact(SIDE).flat_map(|row| turned(row, by)).collect() };
    let (mut told, mut registered) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let stray = [1, 4, 6].iter().position(|stray| *stray == number);
        let shown = stray.map_or(here.clone(), |place| elsewhere((place + 1) * SIDE / 4));
        let (seen, _) = apply(&mut *preprocess, &frame(number, &[&shown]));
        assert_eq!(seen.distrust, None, "frame {number}");
        told.extend(seen.relearn.map(|what| (number, what)));
        registered.extend(seen.shift_px.map(|_| (number, seen.shift_peak)));
    }
    let [(at, Relearn::Template)] = told[..] else { panic!("{told:?}") };
    let (first, peak) = registered[0];
    assert!((at + 9..at + 20).contains(&first) && peak > 0.9, "told at {at}, registered from {first} on, peak {peak}");
}

#[test]
fn a_peak_that_is_not_believed_leaves_the_last_shift_in_use() {
    let registration = Registration { peak_min: 0.3, ..registration() };
    let mut preprocess = make(&Parameters { registration: Some(registration), ..light_only() });
    let (next, _) = settle(&mut *preprocess, &[&plane([0.0; 2], 0.0, 1.0)]);
    let (moved, _) = apply(&mut *preprocess, &frame(next, &[&plane([2.0, 3.0], 0.0, 1.0)]));
    let noise: Vec<u16> = (0..SIDE * SIDE).map(|i| ((i * i * 7919 + i * 104_729) % 251) as u16).collect();
    let (lost, tensor) = apply(&mut *preprocess, &frame(next + 1, &[&noise]));
    assert!(moved.shift_peak >= 0.3 && lost.shift_peak < 0.3, "{} {}", moved.shift_peak, lost.shift_peak);
    assert_eq!((lost.shift_px, lost.shift_doubtful, moved.shift_doubtful), (moved.shift_px, true, false));
    assert!(tensor.is_some());
}

#[test]
fn damaged_pixels_are_counted_and_never_reach_the_model() {
    let values = |t: usize| {
        let mut light: Vec<f32> = plane([0.0; 2], 0.0, 1.0).into_iter().map(f32::from).collect();
        light[t * 37 % 900] = f32::NAN;
        light[17] = f32::INFINITY;
        if t == 9 { vec![f32::NAN; SIDE * SIDE] } else { light }
    };
    let mut preprocess = make(&everything());
    for t in 0..30 {
        let bytes: Vec<u8> = values(t).into_iter().flat_map(f32::to_ne_bytes).collect();
        let (observation, tensor) = apply(&mut *preprocess, &frame_of(t as u64, PixelType::F32, 1, &bytes));
        let expected = if t == 9 { (SIDE * SIDE) as u32 } else { 2 };
        assert_eq!(observation.non_finite_pixels, expected, "frame {t}");
        assert!(tensor.expect("no averaging").iter().all(|v| v.is_finite()), "frame {t}");
        assert!(observation.shift_px.is_none_or(|s| s.iter().all(|v| v.is_finite())), "frame {t}");
    }
    let mut bright = plane([0.0; 2], 0.0, 1.0);
    bright[3..7].fill(65535);
    let (observation, _) = apply(&mut *make(&everything()), &frame(0, &[&bright]));
    assert_eq!(observation.saturated_pixels, 4);
}

#[test]
fn averaging_gives_a_tensor_every_kth_frame_from_registered_frames() {
    let parameters = Parameters { average_frames: 3, ..light_only() };
    let mut preprocess = make(&parameters);
    let still = plane([0.0; 2], 0.0, 1.0);
    // The group begins anew with the first registered frame: it is the first of three.
    let (next, _) = settle(&mut *preprocess, &[&still]);
    let shifts = [[2.0, 1.0], [-3.0, 2.0], [0.0, -1.0], [1.0, 0.0], [0.0, 0.0]];
    let found: Vec<Outcome> =
        (next..).zip(shifts).map(|(t, shift)| apply(&mut *preprocess, &frame(t, &[&plane(shift, 0.0, 1.0)]))).collect();
    assert_eq!(found.iter().map(|(_, t)| t.is_some()).collect::<Vec<_>>(), [false, true, false, false, true]);
    let (_, reference) = settle(&mut *make(&light_only()), &[&still]);
    let averaged = found[1].1.as_ref().expect("a full group");
    assert!(inner_difference(averaged, &reference) < 2.0, "averaged frames are not aligned");
}

#[test]
fn a_refused_frame_is_named_and_changes_nothing() {
    let frames = stream(24);
    let (mut clean, mut disturbed) = (make(&everything()), make(&everything()));
    let wrong_type = frame_of(0, PixelType::U8, 1, &[0; SIDE * SIDE]);
    let mut small = Frame::with_capacity(SIDE * SIDE * 2);
    small.info.shape = Shape::new(1, SIDE, 20);
    let two_wanted = Parameters { channels: vec![0, 1], ..everything() };
    let refusal = make(&two_wanted).apply(&frames[0]).expect_err("one channel only");
    assert_eq!(refusal, PreprocessError::Channel { found: 1, wanted: 1 });
    for frame in &frames {
        let expected = apply(&mut *clean, frame);
        same(&[apply(&mut *disturbed, frame)], &[expected]);
        let refusal = disturbed.apply(&wrong_type).expect_err("another pixel type").to_string();
        assert!(refusal.contains("1×96×96 uint8") && refusal.contains("1×96×96 uint16"), "{refusal}");
        let refusal = disturbed.apply(&small).expect_err("too narrow to register");
        assert_eq!(refusal, PreprocessError::Side { height: SIDE, width: 20, min: 32, max: 4096 });
    }
    disturbed.request(Request::Reset);
    assert!(disturbed.apply(&wrong_type).is_ok(), "a reset allows a new geometry");
}

#[test]
fn frozen_statistics_stop_learning_even_when_asked_before_the_first_frame() {
    let parameters = Parameters { registration: None, baseline: None, ..everything() };
    let frames = stream(20);
    let mut preprocess = make(&parameters);
    preprocess.request(Request::FreezeNormalisation(true));
    assert!(run(&mut *preprocess, &frames).iter().all(|(o, _)| o.warming_up), "nothing was learnt");
    preprocess.request(Request::FreezeNormalisation(false));
    assert!(!run(&mut *preprocess, &frames)[10].0.warming_up);
    preprocess.request(Request::FreezeNormalisation(true));
    let (a, b) = (run(&mut *preprocess, &frames), run(&mut *preprocess, &frames));
    let tensors = |r: Vec<Outcome>| r.into_iter().map(|(_, t)| t).collect::<Vec<_>>();
    assert!(tensors(a) == tensors(b), "the same frame, normalised by the same statistics");
}

#[test]
fn a_forgotten_baseline_is_learnt_again() {
    let mut preprocess = make(&Parameters { registration: None, normalise: None, ..credulous() });
    let steps = |p: &mut dyn Preprocess, gain: f32| {
        let frames: Vec<Frame> = (0..15).map(|t| frame(t, &[&plane([0.0; 2], 0.0, gain)])).collect();
        run(p, &frames).pop().and_then(|(o, t)| t.map(|t| (o.warming_up, t[300]))).expect("no averaging")
    };
    let is_zero = |(warming_up, change): (bool, f32)| !warming_up && change.abs() < 1e-5;
    assert!(is_zero(steps(&mut *preprocess, 1.0)));
    assert!(steps(&mut *preprocess, 1.5).1 > 0.4);
    preprocess.request(Request::ResetBaseline);
    let (observation, _) = apply(&mut *preprocess, &frame(99, &[&plane([0.0; 2], 0.0, 1.5)]));
    assert!(observation.warming_up);
    assert!(is_zero(steps(&mut *preprocess, 1.5)));
}

#[test]
fn what_cannot_be_built_says_which_key_is_wrong() {
    let input = Shape::new(1, MODEL, MODEL);
    let error = |parameters: &Parameters, input, rate| {
        build(parameters, input, rate, Device::Cpu).err().expect("must be refused").to_string()
    };
    let wrong = Parameters { average_frames: 0, ..Parameters::default() };
    assert_eq!(error(&wrong, input, 30.0), "preprocess.average_frames = 0: 1 to 64 frames");
    let all = Parameters::default();
    assert!(error(&all, Shape::new(2, MODEL, MODEL), 30.0).contains("input.channels = 2"));
    assert!(error(&all, Shape::new(1, 0, MODEL), 30.0).contains("1×0×24"));
    assert!(error(&all, input, f64::NAN).contains("frame_rate_hz = NaN"));
    let mut long = Parameters::default();
    long.baseline.as_mut().expect("on by default").average_frames = 1000;
    assert!(matches!(
        build(&long, Shape::new(1, 1024, 1024), 30.0, Device::Cpu).err(),
        Some(BuildError::AverageMemory { frames: 1000, .. })
    ));
    let auto = build(&all, input, 30.0, Device::Auto).expect("the CPU is always there");
    // The device, or why it is not there.
    let device = auto.device();
    assert!(
        device.starts_with("CUDA device 0") || device.len() > "CPU: ".len() && device.starts_with("CPU: "),
        "{device}"
    );
}

fn shared(file: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("HALTERE_SHARED").map_or(beside, PathBuf::from).join("data").join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there; set HALTERE_SHARED to the folder that holds data/", path.display());
    None
}

fn pages(path: PathBuf) -> Vec<Vec<u16>> {
    let mut file = tiff::decoder::Decoder::new(std::fs::File::open(path).expect("readable")).expect("a TIFF");
    let mut pages = Vec::new();
    loop {
        let tiff::decoder::DecodingResult::U16(page) = file.read_image().expect("an image") else { panic!("not u16") };
        pages.push(page);
        if !file.more_images() {
            return pages;
        }
        file.next_image().expect("the next page");
    }
}

#[test]
fn a_real_fly_registered_on_red_and_decoded_on_green_holds_still() {
    let (Some(green), Some(red)) = (shared("fly_vnc_2p/GC6s.tif"), shared("fly_vnc_2p/tdTom.tif")) else { return };
    let (green, red) = (pages(green), pages(red));
    let run_with = |registered: bool| {
        let registration = Registration { channel: 1, reach_px: 16, template_frames: 10, ..Registration::default() };
        let parameters = Parameters {
            channels: vec![0, 1],
            registration: registered.then_some(registration),
            baseline: None,
            normalise: None,
            ..Parameters::default()
        };
        let mut preprocess = build(&parameters, Shape::new(2, 256, 256), 30.0, Device::Auto).expect("valid parameters");
        let mut tensors = Vec::new();
        // For the template, and at last against it.
        for t in 0..60 {
            let bytes: Vec<u8> =
                [&green[t % 10], &red[t % 10]].iter().flat_map(|p| p.iter()).flat_map(|v| v.to_ne_bytes()).collect();
            let mut frame = Frame::with_capacity(bytes.len());
            frame.info.shape = Shape::new(2, 256, 256);
            frame.info.pixel_type = PixelType::U16;
            frame.info.number = t as u64;
            frame.bytes_mut().copy_from_slice(&bytes);
            let (observation, tensor) = apply(&mut *preprocess, &frame);
            assert!(observation.shift_px.is_some() == registered || t < 50, "frame {t}");
            tensors.push(tensor.expect("no averaging"));
        }
        tensors.split_off(50)
    };
    let (moving, still) = (run_with(false), run_with(true));
    for (channel, name) in [(0, "green"), (1, "red")] {
        let (before, after) = (agreement(&moving, channel), agreement(&still, channel));
        eprintln!("{name}: mean correlation with the mean image {before:.4} before, {after:.4} after");
        assert!(after > before, "{name}: registration made the recording less stable, {before} → {after}");
    }
}

/// Mean correlation of each frame's channel with the mean of all, border left out.
fn agreement(tensors: &[Vec<f32>], channel: usize) -> f64 {
    let inside = |i: usize| (24..232).contains(&(i % 256)) && (24..232).contains(&(i / 256));
    let one = |t: &Vec<f32>| -> Vec<f64> {
        (0..65536).filter(|&i| inside(i)).map(|i| t[channel * 65536 + i] as f64).collect()
    };
    let planes: Vec<Vec<f64>> = tensors.iter().map(one).collect();
    let n = planes[0].len();
    let mean: Vec<f64> = (0..n).map(|i| planes.iter().map(|p| p[i]).sum::<f64>() / planes.len() as f64).collect();
    let centred = |v: &[f64]| {
        let m = v.iter().sum::<f64>() / v.len() as f64;
        v.iter().map(|x| x - m).collect::<Vec<_>>()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mean = centred(&mean);
    let correlation = |p: &Vec<f64>| {
        let p = centred(p);
        dot(&p, &mean) / (dot(&p, &p) * dot(&mean, &mean)).sqrt()
    };
    planes.iter().map(correlation).sum::<f64>() / planes.len() as f64
}
