//! Animals laid on an atlas: simulated flies whose true placement is known. The registration template of each is made by the daemon's
//! preprocessing; the atlas is made of eight flies, and the error is that of points of the section, in px of the frame of 64 px:
//! where does a point of the section come to lie on the atlas in each fly, and how far from where it lies in the mean fly?

use crate::support::scene::Random;

use haltere::config::Device;
use haltere::frame::placement::Placement;
use haltere::frame::{Frame, PixelType, Relearn, Shape};
use haltere::model::parameters::{Atlas, MeanPicture, PICTURE_PX, Parameters, Registration};
use haltere::preprocess::build;
use haltere::preprocess::placement::{Affine, Placer, View, make_atlas};
use haltere::simulate::{Spec, Trial};

const SIDE: usize = 64;

/// Registration on the red channel, with a template that is soon there.
fn parameters(atlas: Option<Atlas>) -> Parameters {
    let registration = Registration { channel: 1, template_frames: 60, template_rounds: 2, ..Registration::default() };
    let mut parameters = Parameters { registration: Some(registration), atlas, ..Parameters::default() };
    parameters.normalise.as_mut().expect("on by default").warmup_frames = 5;
    parameters
}

struct Fly {
    trial: Trial,
    template: Vec<f32>,
}

fn frame(trial: &mut Trial, number: usize) -> Frame {
    let mut counts = vec![0u16; 2 * SIDE * SIDE];
    trial.expose(number, &mut counts);
    let mut frame = Frame::with_capacity(counts.len() * 2);
    frame.info.shape = Shape::new(2, SIDE, SIDE);
    frame.info.pixel_type = PixelType::U16;
    frame.info.number = number as u64;
    frame.info.t_received_ns = (number as u64 + 1) * 62_500_000;
    let bytes: Vec<u8> = counts.iter().flat_map(|v| v.to_ne_bytes()).collect();
    frame.bytes_mut().copy_from_slice(&bytes);
    frame
}

fn trial(animal: u64) -> Trial {
    let mut spec = Spec { seed: 90_210, animal, seconds: 12.0, ..Spec::default() };
    // What an animal's view says is then what its trial shows.
    spec.recipe.optics.trial_placement = 0.0;
    Trial::new(&spec)
}

impl Fly {
    fn new(animal: u64) -> Self {
        let mut trial = trial(animal);
        let mut steps = build(&parameters(None), Shape::new(1, SIDE, SIDE), 16.0, Device::Cpu).expect("valid");
        for number in 0..trial.frames() {
            steps.apply(&frame(&mut trial, number)).expect("a fitting frame");
            if let Some(template) = steps.template() {
                let template = template.pixels.to_vec();
                return Self { trial, template };
            }
        }
        panic!("no template");
    }

    fn view(&self, name: &str) -> View {
        View::of(&Atlas::default(), name, &self.template, SIDE, SIDE).expect("light")
    }

    fn placed(&self, atlas: &Atlas) -> (Placement, Affine) {
        let mut placer = Placer::new(atlas, SIDE, SIDE);
        (0..50).any(|_| placer.step(&self.template));
        (placer.found().expect("found"), placer.affine().expect("found"))
    }

    /// Where a point of the section lies in the template, px from its middle: where the view puts it, moved as the tissue was on
    /// average while the template was collected.
    fn truth(&self, [y, x]: [f64; 2]) -> [f64; 2] {
        let view = &self.trial.animal().view;
        let (sin, cos) = view.rotation_deg.to_radians().sin_cos();
        let (u, v) = (view.scale[0] * y, view.scale[1] * x);
        let moved = [0, 1].map(|axis| (0..60).map(|t| self.trial.motion_px(t)[axis]).sum::<f64>() / 60.0);
        [cos * u + sin * v + view.shift_px[0] + moved[0], cos * v - sin * u + view.shift_px[1] + moved[1]]
    }
}

/// From the field to the atlas, px from the middle.
fn back(affine: &Affine, [y, x]: [f64; 2]) -> [f64; 2] {
    let side = SIDE as f64;
    let [[a, b], [c, d]] = affine.matrix;
    let (y, x) = (y - affine.shift[0] * side, x - affine.shift[1] * side);
    let determinant = a * d - b * c;
    [(d * y - b * x) / determinant, (a * x - c * y) / determinant]
}

/// Root mean square distance of each fly's points from where they lie in the mean of the first `known` flies.
fn errors(flies: &[Fly], affines: &[Affine], known: usize) -> Vec<f64> {
    let points: Vec<[f64; 2]> =
        (-2..=2).flat_map(|y| (-2..=2).map(move |x| [7.0 * f64::from(y), 10.0 * f64::from(x)])).collect();
    let laid = |fly: usize, point: [f64; 2]| back(&affines[fly], flies[fly].truth(point));
    let mean = |point: [f64; 2]| {
        let all: Vec<[f64; 2]> = (0..known).map(|fly| laid(fly, point)).collect();
        [0, 1].map(|axis| all.iter().map(|p| p[axis]).sum::<f64>() / known as f64)
    };
    let error = |fly: usize| {
        let square = |&point: &[f64; 2]| {
            let (at, mean) = (laid(fly, point), mean(point));
            (at[0] - mean[0]).powi(2) + (at[1] - mean[1]).powi(2)
        };
        (points.iter().map(square).sum::<f64>() / points.len() as f64).sqrt()
    };
    (0..flies.len()).map(error).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn simulated_flies_are_laid_where_they_truly_lie() {
    let flies: Vec<Fly> = (1..=12).map(Fly::new).collect();
    let views: Vec<View> = flies[..8].iter().map(|fly| fly.view("fly")).collect();
    let atlas = make_atlas(&Atlas::default(), &views).expect("an atlas");
    let straight = Affine { matrix: [[1.0, 0.0], [0.0, 1.0]], shift: [0.0; 2] };
    let before = errors(&flies, &vec![straight; flies.len()], 8);
    let (placements, affines): (Vec<Placement>, Vec<Affine>) = flies.iter().map(|fly| fly.placed(&atlas)).unzip();
    let after = errors(&flies, &affines, 8);
    for (fly, placement) in placements.iter().enumerate() {
        println!("fly {}: {:.2} px, then {:.2} px; {placement:?}", fly + 1, before[fly], after[fly]);
    }
    println!(
        "as they lie {:.2} px; of the atlas {:.2} px; new {:.2} px; likeness_min {}",
        mean(&before),
        mean(&after[..8]),
        mean(&after[8..]),
        atlas.likeness_min
    );
    assert!(mean(&before) > 2.0, "{before:?}");
    assert!(mean(&after[..8]) < 1.2 && mean(&after[8..]) < 1.3, "{after:?}");
    assert!(after.iter().all(|px| *px < 2.2), "{after:?}");
    assert!(placements.iter().all(|placement| placement.fits), "{placements:?}");
}

/// What changes, and at which frame: the placement, and everything that is learnt anew.
#[derive(Debug, PartialEq)]
enum Change {
    /// There is one, or none any more.
    Template(usize),
    Found(usize, Placement),
    Lost(usize),
    Relearnt(usize),
}

fn changes(atlas: &Atlas, frames: impl IntoIterator<Item = Frame>) -> Vec<Change> {
    let parameters = parameters(Some(atlas.clone()));
    let mut steps = build(&parameters, Shape::new(1, SIDE, SIDE), 16.0, Device::Cpu).expect("valid");
    let (mut has_template, mut before, mut changes) = (false, None, Vec::new());
    for (at, frame) in frames.into_iter().enumerate() {
        let seen = steps.apply(&frame).expect("a fitting frame").observation;
        if seen.relearn == Some(Relearn::Everything) {
            changes.push(Change::Relearnt(at));
        }
        if steps.template().is_some() != has_template {
            has_template = !has_template;
            changes.push(Change::Template(at));
        }
        let now = steps.placement();
        if now != before {
            changes.push(now.map_or(Change::Lost(at), |placement| Change::Found(at, placement)));
        }
        before = now;
    }
    changes
}

fn frames(animal: u64, numbers: std::ops::Range<usize>) -> Vec<Frame> {
    let mut trial = trial(animal);
    numbers.map(|number| frame(&mut trial, number)).collect()
}

#[test]
fn frames_that_are_not_believed_take_no_part_in_the_search() {
    let atlas = make_atlas(&Atlas::default(), &[Fly::new(1).view("fly")]).expect("an atlas");
    let undisturbed = changes(&atlas, frames(1, 0..80));
    let [Change::Template(begun), Change::Found(at, placement)] = undisturbed[..] else { panic!("{undisturbed:?}") };
    assert_eq!(at, begun + 5);
    let mut marked = frames(1, 0..80);
    marked[begun + 1..begun + 4].iter_mut().for_each(|frame| frame.info.marks.stimulus = true);
    assert_eq!(changes(&atlas, marked), [Change::Template(begun), Change::Found(at + 3, placement)]);
}

#[test]
fn a_placement_that_was_sought_in_darkness_is_forgotten_at_the_first_light() {
    let atlas = make_atlas(&Atlas::default(), &[Fly::new(1).view("fly")]).expect("an atlas");
    // The lines of the detector differ by less than its noise: a picture, for want of anything better.
    let darken = |mut frame: Frame| {
        let mut random = Random(frame.info.number);
        let mut faint = |at: usize| (12.0 + 0.8 * ((at / SIDE) as f64 * 0.2).sin() + 16.0 * random.next()) as u16;
        let bytes: Vec<u8> = (0..2 * SIDE * SIDE).flat_map(|at| faint(at).to_ne_bytes()).collect();
        frame.bytes_mut().copy_from_slice(&bytes);
        frame
    };
    let dark = 90;
    let shown: Vec<Frame> = frames(1, 0..dark).into_iter().map(darken).chain(frames(1, dark..190)).collect();
    let seen = changes(&atlas, shown);
    let [_, Change::Found(_, poor), Change::Relearnt(lit), _, Change::Lost(lost), _, Change::Found(at, placement)] =
        seen[..]
    else {
        panic!("{seen:?}")
    };
    assert!(!poor.fits && lost == lit && lit >= dark, "{seen:?}");
    // As if nothing had been before, but for the last digits of the template.
    let anew = changes(&atlas, frames(1, lit..190));
    let [_, Change::Found(after, expected)] = anew[..] else { panic!("{anew:?}") };
    assert!(after == at - lit && (expected.turn_deg - placement.turn_deg).abs() < 1e-4, "{expected:?} {placement:?}");
    assert!(placement.fits);
}

#[test]
fn an_atlas_without_registration_or_without_contrast_is_refused_by_its_key() {
    let picture = MeanPicture::rounded(&(0..PICTURE_PX * PICTURE_PX).map(|i| (i % 7) as f32).collect::<Vec<_>>());
    let laid = parameters(Some(Atlas { picture, ..Atlas::default() }));
    let unregistered = Parameters { registration: None, ..laid.clone() };
    assert_eq!(unregistered.check().expect_err("no template").key, "registration");
    let mut blank = laid.clone();
    blank.atlas = Some(Atlas::default());
    assert_eq!(blank.check().expect_err("nothing to compare with").key, "atlas.picture");
    let text = toml::to_string_pretty(&laid).expect("TOML");
    assert_eq!(toml::from_str::<Parameters>(&text).expect("its own text"), laid);
    let short = text.replacen(" 0.000", "", 1);
    assert!(toml::from_str::<Parameters>(&short).expect_err("a number less").to_string().contains("32 lines of 32"));
}
