//! Registration judged against motion that is known exactly.
//!
//! Method: seeded 256×256 movies of a band-limited scene, shifted analytically, with Poisson noise; errors are RMS over both
//! axes after removal of a constant offset (a template made from the stream has an origin of its own).

use crate::support::scene;

use haltere::model::parameters::Registration;
use haltere::preprocess::registration::{Registrar, Shift};
use haltere::preprocess::template::TemplateBuilder;
use scene::{Random, Scene, motion};

const SIDE: usize = 256;
const FRAMES: usize = 36;

/// RMS error and share of frames more than 1 px off.
fn errors(found: &[Shift], truth: &[[f64; 2]]) -> (f64, f64) {
    let differences = |axis: usize| -> Vec<f64> {
        let value = |s: &Shift| f64::from(if axis == 0 { s.dy } else { s.dx });
        let raw: Vec<f64> = found.iter().zip(truth).map(|(s, t)| value(s) - t[axis]).collect();
        let mut sorted = raw.clone();
        sorted.sort_by(f64::total_cmp);
        raw.iter().map(|e| e - sorted[sorted.len() / 2]).collect()
    };
    let (y, x) = (differences(0), differences(1));
    let sum: f64 = y.iter().chain(&x).map(|e| e * e).sum();
    let off = y.iter().zip(&x).filter(|(y, x)| y.abs().max(x.abs()) > 1.0).count();
    ((sum / (2 * y.len()) as f64).sqrt(), off as f64 / y.len() as f64)
}

fn movie(photons: f64) -> (Scene, Vec<[f64; 2]>, Vec<Vec<f32>>) {
    let (scene, mut random) = (Scene::new(7), Random(11));
    let truth = motion(FRAMES, &mut random);
    let frames = truth.iter().map(|t| scene.exposure(SIDE, *t, photons, &mut random)).collect();
    (scene, truth, frames)
}

fn built(frames: &[Vec<f32>]) -> (Registrar, TemplateBuilder) {
    let parameters = Registration { template_frames: frames.len(), ..Registration::default() };
    let mut registrar = Registrar::new(&parameters, SIDE, SIDE);
    let mut builder = TemplateBuilder::new(&parameters, SIDE, SIDE);
    for frame in frames.iter().cycle().take(1000) {
        if builder.ready() {
            break;
        }
        builder.add(frame, &mut registrar);
    }
    assert!(builder.ready() && registrar.has_template(), "the template is not finished after 1000 frames");
    (registrar, builder)
}

#[test]
fn shifts_against_a_clean_template_are_exact_at_three_light_levels() {
    for (photons, bound) in [(2.0, 0.025), (0.2, 0.075), (0.05, 0.16)] {
        let (scene, truth, frames) = movie(photons);
        let mut registrar = Registrar::new(&Registration::default(), SIDE, SIDE);
        registrar.set_template(&scene.image(SIDE, SIDE, [0.0; 2]));
        let found: Vec<Shift> = frames.iter().map(|f| registrar.estimate(f)).collect();
        let (rms, off) = errors(&found, &truth);
        println!("given template, {photons} photons/px: RMS {rms:.4} px, {off:.3} off");
        assert!(rms < bound && off == 0.0, "{photons} photons/px: RMS {rms} px, {off} off");
    }
}

#[test]
fn a_template_built_from_the_moving_stream_serves_as_well() {
    for (photons, bound) in [(2.0, 0.03), (0.2, 0.105), (0.05, 0.28)] {
        let (_, truth, frames) = movie(photons);
        let (mut registrar, _) = built(&frames);
        let found: Vec<Shift> = frames.iter().map(|f| registrar.estimate(f)).collect();
        let (rms, off) = errors(&found, &truth);
        println!("own template, {photons} photons/px: RMS {rms:.4} px, {off:.3} off");
        assert!(rms < bound && off == 0.0, "{photons} photons/px: RMS {rms} px, {off} off");
        let mean = found.iter().fold([0.0; 2], |m, s| [m[0] + s.dy, m[1] + s.dx]).map(|m| m / FRAMES as f32);
        assert!(mean.iter().all(|m| m.abs() < 0.1), "the template is not centred: {mean:?}");
    }
}

#[test]
fn the_same_frames_give_the_same_template_bit_by_bit() {
    let (_, _, frames) = movie(2.0);
    let (_, first) = built(&frames[..12]);
    let (_, second) = built(&frames[..12]);
    assert_eq!(first.template(), second.template());
}

#[test]
fn whole_pixel_shifts_of_clean_frames_are_exact() {
    let scene = Scene::new(3);
    let mut registrar = Registrar::new(&Registration::default(), SIDE, SIDE);
    registrar.set_template(&scene.image(SIDE, SIDE, [0.0; 2]));
    for (dy, dx) in [(0i32, 0i32), (1, 0), (0, -1), (7, -5), (-12, 3)] {
        let shift = registrar.estimate(&scene.image(SIDE, SIDE, [f64::from(dy), f64::from(dx)]));
        let error = (shift.dy - dy as f32).abs().max((shift.dx - dx as f32).abs());
        // The window sees other content the farther it moved.
        let bound = if dy.abs() < 8 { 0.01 } else { 0.06 };
        assert!(error < bound, "({dy}, {dx}): {shift:?}");
    }
}

#[test]
fn an_identical_frame_has_peak_one_and_no_shift() {
    let image = Scene::new(3).image(SIDE, SIDE, [0.0; 2]);
    let mut registrar = Registrar::new(&Registration::default(), SIDE, SIDE);
    registrar.set_template(&image);
    let shift = registrar.estimate(&image);
    assert!(shift.peak > 0.999 && shift.dy.abs() < 1e-3 && shift.dx.abs() < 1e-3, "{shift:?}");
    let brighter: Vec<f32> = image.iter().map(|v| 3.0 * v + 500.0).collect();
    let shift = registrar.estimate(&brighter);
    assert!(shift.peak > 0.99 && shift.dy.abs() < 1e-2, "gain and offset must not matter: {shift:?}");
}

#[test]
fn every_geometry_is_registered_odd_and_decimated_ones_too() {
    let scene = Scene::new(5);
    for (height, width) in [(16, 16), (17, 31), (61, 127), (250, 333), (509, 512), (640, 1021), (1100, 600)] {
        let mut registrar = Registrar::new(&Registration { reach_px: 4, ..Registration::default() }, height, width);
        registrar.set_template(&scene.image(height, width, [0.0; 2]));
        let shift = registrar.estimate(&scene.image(height, width, [1.3, -0.6]));
        let error = (shift.dy - 1.3).abs().max((shift.dx + 0.6).abs());
        let bound = if height < 40 { 0.4 } else { 0.05 };
        assert!(error < bound, "{height}×{width}: {shift:?}");
    }
}

#[test]
fn a_search_wider_than_the_frame_is_cut_to_where_lags_are_unique() {
    let image = Scene::new(5).image(16, 20, [0.0; 2]);
    let mut registrar = Registrar::new(&Registration { reach_px: 64, ..Registration::default() }, 16, 20);
    registrar.set_template(&image);
    let shift = registrar.estimate(&image);
    assert!(shift.peak > 0.999 && shift.dy.abs() < 1e-2 && shift.dx.abs() < 1e-2 && !shift.at_bound, "{shift:?}");
}

#[test]
fn blank_and_constant_frames_have_no_shift_and_no_peak() {
    let mut registrar = Registrar::new(&Registration::default(), 64, 512);
    assert_eq!(registrar.estimate(&vec![1.0; 64 * 512]), Shift::default(), "no template yet");
    registrar.set_template(&Scene::new(3).image(64, 512, [0.0; 2]));
    for level in [0.0, 1.0, 300.0, 65535.0, -20.0] {
        assert_eq!(registrar.estimate(&vec![level; 64 * 512]), Shift::default(), "{level}");
    }
    registrar.set_template(&vec![42.0; 64 * 512]);
    assert_eq!(registrar.estimate(&Scene::new(3).image(64, 512, [0.0; 2])), Shift::default(), "a blank template");
}

#[test]
fn a_shift_at_the_rim_of_the_search_says_so() {
    let scene = Scene::new(3);
    let mut registrar = Registrar::new(&Registration { reach_px: 5, ..Registration::default() }, SIDE, SIDE);
    registrar.set_template(&scene.image(SIDE, SIDE, [0.0; 2]));
    let inside = registrar.estimate(&scene.image(SIDE, SIDE, [3.2, 1.0]));
    assert!(!inside.at_bound, "{inside:?}");
    let outside = registrar.estimate(&scene.image(SIDE, SIDE, [6.4, 1.0]));
    assert!(outside.at_bound && outside.dy == 5.0, "{outside:?}");
}

#[test]
fn a_refreshed_template_follows_a_changing_scene() {
    let parameters = Registration { template_frames: 2, refresh: 0.1, ..Registration::default() };
    let (old, new) = (Scene::new(3).image(SIDE, SIDE, [0.0; 2]), Scene::new(4).image(SIDE, SIDE, [0.0; 2]));
    let mut registrar = Registrar::new(&parameters, SIDE, SIDE);
    let mut builder = TemplateBuilder::new(&parameters, SIDE, SIDE);
    (0..20).for_each(|_| builder.add(&old, &mut registrar));
    let before = registrar.estimate(&new).peak;
    let believed = Shift { peak: 0.5, ..Shift::default() };
    (0..64).for_each(|_| builder.refresh(&new, &believed, &mut registrar));
    let after = registrar.estimate(&new).peak;
    assert!(before < 0.5 && after > 0.9, "{before} {after}");
    (0..64).for_each(|_| builder.refresh(&old, &Shift { at_bound: true, ..believed }, &mut registrar));
    assert_eq!(registrar.estimate(&new).peak, after, "a shift at the rim is not believed");
}

#[test]
fn a_restarted_template_forgets_the_frames_before() {
    let (_, _, frames) = movie(2.0);
    let (mut registrar, mut builder) = built(&frames[..10]);
    builder.restart();
    assert!(!builder.ready() && builder.template().is_none() && registrar.has_template());
    while !builder.ready() {
        builder.add(&frames[20], &mut registrar);
    }
    assert!(registrar.estimate(&frames[20]).peak > 0.99);
}
