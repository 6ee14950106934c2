//! Disturbances of a noisy, moving scene, each with the reason by which it must be found; and the same scene undisturbed, in which
//! nothing may be.

use super::*;
use crate::frame::{Clock, DeviceTime, PixelType};
use crate::model::parameters::Registration;

const SIDE: usize = 64;
const DARK: f32 = 1300.0;
/// Of a larger frame.
const DENSE: usize = 256;

/// Uniform in 0 to 1, the same for the same keys.
fn noise(frame: u64, at: usize) -> f32 {
    let mut z = frame.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 29)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Light of some axons on a background, in counts: it moves by 2 px and flickers by a twentieth.
fn tissue(frame: u64, at: usize) -> f32 {
    let t = frame as f32;
    let (y, x) = ((at / SIDE) as f32 - 2.0 * (0.3 * t).sin(), (at % SIDE) as f32 - 2.0 * (0.23 * t).cos());
    let blob = |cy: f32, cx: f32, r: f32| (-((y - cy).powi(2) + (x - cx).powi(2)) / (2.0 * r * r)).exp();
    let axons = blob(16.0, 20.0, 4.0) + blob(44.0, 18.0, 5.0) + blob(30.0, 46.0, 6.0) + blob(52.0, 50.0, 3.0);
    (100.0 + 900.0 * axons) * (1.0 + 0.05 * (0.7 * t).sin())
}

/// A frame of such light, with noise.
fn expose(frame: u64, light: impl Fn(usize) -> f32) -> Frame {
    let mut exposed = Frame::with_capacity(2 * SIDE * SIDE);
    exposed.info.shape = Shape::new(1, SIDE, SIDE);
    exposed.info.pixel_type = PixelType::U16;
    exposed.info.number = frame;
    exposed.info.t_device = Some(DeviceTime { ns: frame as i64 * 62_500_000, clock: Clock::Device, stamp: None });
    let counts = (0..SIDE * SIDE).map(|at| {
        let light = light(at);
        let grain = light.max(0.0).sqrt() * 5.0 + 9.0;
        (DARK + light + grain * 3.4 * (noise(frame, at) - 0.5)).clamp(0.0, 65535.0) as u16
    });
    exposed.bytes_mut().copy_from_slice(&counts.flat_map(u16::to_ne_bytes).collect::<Vec<u8>>());
    exposed
}

fn plain(frame: u64) -> Frame {
    expose(frame, |at| tissue(frame, at))
}

fn dark(frame: u64) -> Frame {
    expose(frame, |_| 0.0)
}

fn parameters(settings: Settings) -> Parameters {
    Parameters { trust: settings, registration: Some(Registration::default()), ..Parameters::default() }
}

fn trust(settings: Settings) -> Trust {
    Trust::new(&parameters(settings), Simd::detect(), 16.0, Shape::new(1, SIDE, SIDE))
}

/// What is found in `frames`, each of them learnt if it is believed.
fn run(trust: &mut Trust, frames: impl IntoIterator<Item = Frame>) -> Vec<Option<Distrust>> {
    let one = |frame: Frame| {
        let found = trust.judge(&frame);
        if found.is_none() {
            trust.learn();
        }
        found
    };
    frames.into_iter().map(one).collect()
}

/// A trust that has seen 100 frames, none of which it may doubt.
fn settled() -> Trust {
    let mut trust = trust(Settings::default());
    assert_eq!(run(&mut trust, (0..100).map(plain)), [None; 100]);
    trust
}

#[test]
fn a_scene_that_moves_and_flickers_is_believed_to_the_last_frame() {
    let mut trust = settled();
    assert!(run(&mut trust, (100..1000).map(plain)).iter().all(Option::is_none));
}

#[test]
fn every_disturbance_is_found_for_what_it_is_and_what_follows_is_believed_again() {
    let band = |lit: f32| {
        move |frame: u64| {
            expose(frame, move |at| {
                let inside = (16..28).contains(&(at / SIDE));
                if inside { lit + if lit > 0.0 { tissue(frame, at) } else { 0.0 } } else { tissue(frame, at) }
            })
        }
    };
    type Make = Box<dyn Fn(u64) -> Frame>;
    let cases: [(Distrust, Make); 8] = [
        (Distrust::Dark, Box::new(dark)),
        (Distrust::Dark, Box::new(|frame| expose(frame, |_| -DARK))),
        (Distrust::Dark, Box::new(|frame| expose(frame, move |at| 0.4 * tissue(frame, at)))),
        (Distrust::Saturated, Box::new(|frame| expose(frame, |_| 1e6))),
        (Distrust::Flash, Box::new(|frame| expose(frame, move |at| 300.0 + tissue(frame, at)))),
        (Distrust::Blank, Box::new(|frame| expose(frame, |_| 220.0))),
        (Distrust::Banded, Box::new(band(1000.0))),
        (Distrust::Banded, Box::new(band(0.0))),
    ];
    for (index, (reason, make)) in cases.into_iter().enumerate() {
        for length in [1, 3, 32] {
            let mut trust = settled();
            let found = run(&mut trust, (100..100 + length).map(&make));
            assert!(found.iter().all(|found| *found == Some(reason)), "case {index}: {found:?}");
            let after = run(&mut trust, (100 + length..200).map(plain));
            assert!(after.iter().all(Option::is_none), "after case {index}: {after:?}");
        }
    }
}

#[test]
fn a_flash_of_every_tenth_frame_is_found_and_the_frames_between_are_not() {
    let mut trust = settled();
    let flash =
        |frame: u64| expose(frame, move |at| tissue(frame, at) + if frame.is_multiple_of(10) { 800.0 } else { 0.0 });
    let found = run(&mut trust, (100..400).map(flash));
    for (index, found) in found.into_iter().enumerate() {
        assert_eq!(found, (index % 10 == 0).then_some(Distrust::Flash), "frame {}", index + 100);
    }
}

#[test]
fn darkness_at_the_start_is_not_learnt_and_the_first_light_is_no_flash() {
    let mut trust = trust(Settings::default());
    assert!(run(&mut trust, (0..150).map(dark)).iter().all(|found| *found == Some(Distrust::Blank)));
    assert_eq!(run(&mut trust, (150..250).map(plain)), [None; 100]);
    assert_eq!(trust.relearn(), None);
}

#[test]
fn a_dark_pattern_that_was_learnt_gives_way_to_the_first_light() {
    let mut trust = trust(Settings::default());
    // The lines of the detector differ by some counts: a picture, but a faint one.
    let faint = |frame: u64| expose(frame, |at| 1.5 * ((at / SIDE) as f32 * 0.2).sin());
    assert!(run(&mut trust, (0..120).map(faint)).contains(&None), "it is learnt, for want of anything better");
    let found = run(&mut trust, (120..160).map(plain));
    assert!(found[..15].iter().all(Option::is_some) && found[16..].iter().all(Option::is_none), "{found:?}");
    assert_eq!(trust.relearn(), Some(Relearn::Everything));
}

/// A frame of 256×256 px of such counts above darkness, in noise.
fn with_noise(frame: u64, counts: impl Fn(usize) -> f32) -> Frame {
    let mut exposed = Frame::with_capacity(2 * DENSE * DENSE);
    (exposed.info.shape, exposed.info.pixel_type) = (Shape::new(1, DENSE, DENSE), PixelType::U16);
    (exposed.info.number, exposed.info.t_received_ns) = (frame, frame * 62_500_000);
    let counts = (0..DENSE * DENSE).map(|at| (DARK + counts(at) + 200.0 * noise(frame, at)) as u16);
    exposed.bytes_mut().copy_from_slice(&counts.flat_map(u16::to_ne_bytes).collect::<Vec<u8>>());
    exposed
}

/// Full of cells that are smaller than half a block, each with a brightness of its own.
fn dense(frame: u64, light: f32) -> Frame {
    let cell = |at: usize| (at / DENSE / 4) * DENSE / 4 + at % DENSE / 4;
    with_noise(frame, |at| light * (0.5 + noise(u64::MAX, cell(at))))
}

#[test]
fn a_field_full_of_small_cells_is_a_picture_and_a_dark_detector_is_none() {
    let first = dense(0, 100.0);
    let new = || Trust::new(&parameters(Settings::default()), Simd::detect(), 16.0, first.info.shape);
    let mut trust = new();
    assert_eq!(run(&mut trust, (0..100).map(|frame| dense(frame, 100.0))), [None; 100]);
    // Brighter for longer than a minute.
    let brighter = run(&mut trust, (100..1200).map(|frame| dense(frame, 300.0)));
    assert_eq!((brighter[0], brighter[1099]), (Some(Distrust::Flash), None));
    // A dim one, seen only over some frames.
    let dim = run(&mut new(), (0..100).map(|frame| dense(frame, 40.0)));
    assert_eq!((dim[0], dim[99]), (Some(Distrust::Blank), None));
    // In the same noise, and with pixels that differ by some counts, in every frame alike.
    let offset = |at: usize| 20.0 * noise(u64::MAX, at);
    for counts in [&(|_: usize| 0.0_f32) as &dyn Fn(usize) -> f32, &offset] {
        let mut trust = new();
        let dark = run(&mut trust, (0..500).map(|frame| with_noise(frame, counts)));
        assert!(dark.iter().all(|found| *found == Some(Distrust::Blank)), "{dark:?}");
        let light = run(&mut trust, (500..600).map(|frame| dense(frame, 100.0)));
        assert_eq!(light, [None; 100]);
    }
}

#[test]
fn light_that_stays_is_learnt_after_a_while_and_darkness_never() {
    let mut trust = settled();
    let brighter = |frame: u64| expose(frame, move |at| 2.0 * tissue(frame, at));
    let found = run(&mut trust, (100..1200).map(brighter));
    assert_eq!(found.iter().filter(|found| found.is_some()).count(), 959, "60 s of 16 Hz, the last of them believed");
    assert_eq!(trust.relearn(), Some(Relearn::Light));
    let found = run(&mut trust, (1200..3200).map(dark));
    assert!(found.iter().all(|found| *found == Some(Distrust::Dark)));
}

#[test]
fn the_senders_word_counts_and_a_mask_in_time_follows_a_stimulus() {
    let settings = Settings { mask_after_stimulus_ms: 150, ..Settings::default() };
    let mut trust = trust(settings);
    run(&mut trust, (0..20).map(plain));
    let mut frames: Vec<Frame> = (20..30).map(plain).collect();
    frames[1].info.marks.invalid = true;
    frames[4].info.marks.stimulus = true;
    let found = run(&mut trust, frames);
    let mut expected = vec![None; 10];
    (expected[1], expected[4]) = (Some(Distrust::MarkedInvalid), Some(Distrust::Stimulus));
    // Frames are 62.5 ms apart.
    (expected[5], expected[6]) = (Some(Distrust::AfterStimulus), Some(Distrust::AfterStimulus));
    assert_eq!(found, expected);
    let mut off = Trust::new(
        &parameters(Settings { enabled: false, ..Settings::default() }),
        Simd::detect(),
        16.0,
        Shape::new(1, SIDE, SIDE),
    );
    let mut marked = dark(1);
    assert_eq!(off.judge(&marked), None);
    marked.info.marks.invalid = true;
    assert_eq!(off.judge(&marked), Some(Distrust::MarkedInvalid), "a mark counts in any case");
}

#[test]
fn frames_of_nothing_but_damage_are_not_believed() {
    let mut frame = Frame::with_capacity(4 * SIDE * SIDE);
    frame.info.shape = Shape::new(1, SIDE, SIDE);
    frame.info.pixel_type = PixelType::F32;
    let mut counts: Vec<f32> = (0..SIDE * SIDE).map(|at| tissue(0, at)).collect();
    for (damaged, expected) in [(3, None), (200, Some(Distrust::NonFinitePixels))] {
        counts[..damaged].fill(f32::NAN);
        frame.bytes_mut().copy_from_slice(bytemuck::cast_slice(&counts));
        assert_eq!(trust(Settings::default()).judge(&frame), expected, "{damaged} pixels");
    }
}

#[test]
fn a_template_of_darkness_shows_no_tissue_and_one_of_tissue_does() {
    for (make, shows) in [(dark as fn(u64) -> Frame, false), (plain, true)] {
        let mut trust = trust(Settings { structure_min: 0.3, ..Settings::default() });
        trust.begin_template();
        for frame in (0..100).map(make) {
            trust.judge(&frame);
            // As if it had been believed.
            trust.read = true;
            trust.learn();
        }
        assert_eq!(trust.template_shows_tissue(), shows);
    }
}

/// For people: `cargo test --release --lib trust::tests::the_time -- --nocapture`; the bar is 20 µs on one core.
#[test]
fn the_time_that_judging_a_frame_takes() {
    let side = 512;
    let mut frame = Frame::with_capacity(2 * side * side);
    frame.info.shape = Shape::new(1, side, side);
    frame.info.pixel_type = PixelType::U16;
    let pixels: Vec<u16> =
        (0..side * side).map(|at| (300.0 + 500.0 * noise(7, at / side / 64 * 8 + at % side / 64)) as u16).collect();
    frame.bytes_mut().copy_from_slice(bytemuck::cast_slice(&pixels));
    let mut trust = Trust::new(&parameters(Settings::default()), Simd::detect(), 30.0, frame.info.shape);
    let mut times: Vec<u128> = (0..200)
        .map(|_| {
            let began = std::time::Instant::now();
            let found = trust.judge(&frame);
            trust.learn();
            assert_eq!(found, None);
            began.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    println!("judging 512×512 uint16: median {} µs, 99 % {} µs", times[100] / 1000, times[198] / 1000);
}
