//! Method: small recordings, made twice or with one parameter changed; what must be equal is compared bit by bit.

use std::path::Path;

use super::write::{Format, Known, Order, WriteError, dataset};
use super::*;
use crate::frame::{Frame, Name};
use crate::source::{Next, Source};

const SECONDS: f64 = 6.0;

fn order(out: &Path) -> Order {
    let mut recipe = Recipe::default();
    recipe.optics.side_px = 32;
    Order {
        out: out.into(),
        animals: 2,
        first_animal: 1,
        trials: 1,
        seconds: SECONDS,
        seed: 5,
        recipe,
        format: Format::Both,
        truth: Vec::new(),
        force: false,
    }
}

fn floats(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[test]
fn the_same_order_makes_the_same_bytes_and_another_seed_makes_others() {
    let (a, b, c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    dataset(&order(a.path()), &|_| ()).unwrap();
    dataset(&order(b.path()), &|_| ()).unwrap();
    dataset(&Order { seed: 6, ..order(c.path()) }, &|_| ()).unwrap();
    for name in ["green.mm", "red.mm", "2p_dff.mm", "pose_3d.mm", "raw.tif", "indices.npy", "rest.npy", "labels.csv"] {
        let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("fly_02/001").join(name)).unwrap();
        assert_eq!(read(&a), read(&b), "{name}");
        let by_time_alone = name == "indices.npy";
        let by_chance = ["rest.npy", "labels.csv"].contains(&name);
        assert!(by_chance || (read(&a) == read(&c)) == by_time_alone, "{name}");
    }
}

#[test]
fn files_have_the_sizes_of_the_layout_and_agree_with_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let order = order(dir.path());
    dataset(&order, &|_| ()).unwrap();
    let folder = dir.path().join("fly_01/001");
    let (n, m, plane) = ((SECONDS * 16.0) as usize, (SECONDS * 100.0) as usize, 32 * 32);
    for name in ["green.mm", "red.mm", "2p_dff.mm"] {
        let values = floats(&folder.join(name));
        assert_eq!(values.len(), n * plane, "{name}");
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
    }
    assert_eq!(floats(&folder.join("pose_3d.mm")).len(), m * limbs::CHANNELS);
    let lines = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap().lines().count();
    assert_eq!((lines("labels.csv"), lines("truth.csv"), lines("targets.csv")), (m + 1, n + 1, m + 1));
    let npy = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!((npy("rest.npy").len() % 64, npy("indices.npy").len() % 8), ((m % 64), 0));
    let trial = Trial::new(&Spec { seed: 5, seconds: SECONDS, recipe: order.recipe, ..Spec::default() });
    let indices = npy("indices.npy");
    let written: Vec<i64> =
        indices[indices.len() - 8 * m..].as_chunks::<8>().0.iter().map(|w| i64::from_le_bytes(*w)).collect();
    let expected: Vec<i64> = (0..m as i64).map(|frame| frame * 16 / 100).collect();
    assert_eq!(written, expected);
    let (actions, of_frame) = (trial.actions(), trial.action_of_frame());
    assert_eq!(of_frame.len(), n);
    for (frame, action) in of_frame.iter().enumerate() {
        let newest = (0..m).rev().find(|&at| expected[at] == frame as i64).unwrap();
        assert_eq!(*action, actions[newest]);
    }
    assert_eq!(of_frame, truth(&Spec { seed: 5, seconds: SECONDS, ..Spec::default() }).action_of_frame);
}

#[test]
fn the_live_source_equals_the_written_recording_frame_by_frame() {
    let dir = tempfile::tempdir().unwrap();
    dataset(&order(dir.path()), &|_| ()).unwrap();
    let (green, red) = (floats(&dir.path().join("fly_02/001/green.mm")), floats(&dir.path().join("fly_02/001/red.mm")));
    let word = format!("sim:seed=5,animal=2,seconds={SECONDS},optics.side_px=32");
    let mut live = SimulatedSource::open(Path::new(&word), Name::literal("rig")).unwrap();
    let mut frame = Frame::with_capacity(live.frame_bytes_max());
    let plane = 32 * 32;
    let mut number = 0;
    while live.next(&mut frame).unwrap() == Next::Frame {
        assert_eq!(frame.info.number, number as u64);
        assert_eq!(frame.info.series.unwrap().as_str(), "sim-5-2-1");
        let counts: Vec<f32> =
            frame.bytes().as_chunks::<2>().0.iter().map(|w| f32::from(u16::from_ne_bytes(*w))).collect();
        assert_eq!(counts[..plane], green[number * plane..][..plane], "frame {number}");
        assert_eq!(counts[plane..], red[number * plane..][..plane], "frame {number}");
        number += 1;
    }
    assert_eq!(number, green.len() / plane);
}

#[test]
fn a_folder_that_holds_something_is_not_written_into_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let order = Order { animals: 1, format: Format::Tiff, ..order(dir.path()) };
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let error = dataset(&order, &|_| ()).unwrap_err();
    assert!(matches!(error, WriteError::Exists(_)) && error.to_string().contains("--force"), "{error}");
    dataset(&Order { force: true, ..order.clone() }, &|_| ()).unwrap();
    assert!(dir.path().join("fly_01/001/raw.tif").is_file() && dir.path().join("notes.txt").is_file());
    let again = Recipe::load(Some(&dir.path().join("recipe.toml")), &[]).unwrap();
    assert_eq!(again, order.recipe);
    let none = dataset(&Order { animals: 0, force: true, ..order }, &|_| ()).unwrap_err().to_string();
    assert!(none.contains("`animals` is 0; it must be 1 to 10000"), "{none}");
}

/// One difference between animals: its parameter, and what it changes in an animal.
type Facet = (&'static str, fn(&Animal) -> Vec<f64>);

fn axons(animal: &Animal, of: fn(&neurons::Axon) -> Vec<f64>) -> Vec<f64> {
    animal.population.axons.iter().flat_map(of).collect()
}

const FACETS: &[Facet] = &[
    ("limbs.length_sd", |a| a.body.length_mm.concat()),
    ("limbs.frequency_sd", |a| a.body.frequency.to_vec()),
    ("limbs.posture_rad_sd", |a| a.body.posture_rad.concat()),
    ("limbs.style_sd", |a| a.body.style.to_vec()),
    ("limbs.camera_rotation_deg_sd", |a| a.body.camera_rotation_rad.to_vec()),
    ("limbs.camera_offset_mm_sd", |a| a.body.camera_offset_mm.to_vec()),
    ("limbs.camera_scale_sd", |a| vec![a.body.camera_scale]),
    ("limbs.camera_noise_sd", |a| vec![a.body.camera_noise_mm]),
    ("neurons.position_px_sd", |a| axons(a, |x| x.place_px.to_vec())),
    ("neurons.size_sd", |a| axons(a, |x| vec![x.radius_px])),
    ("neurons.gain_sd", |a| axons(a, |x| vec![x.gain])),
    ("neurons.mixing_sd", |a| axons(a, |x| x.actions.to_vec())),
    ("neurons.lead_s_sd", |a| axons(a, |x| vec![x.lead_s])),
    ("neurons.decay_sd", |a| vec![a.population.decay_s]),
    ("optics.rotation_deg_sd", |a| vec![a.view.rotation_deg]),
    ("optics.shift_px_sd", |a| a.view.shift_px.to_vec()),
    ("optics.scale_sd", |a| a.view.scale.to_vec()),
    ("optics.brightness_sd", |a| a.view.brightness.to_vec()),
    ("optics.expression_sd", |a| a.view.expression.concat()),
    ("optics.illumination_sd", |a| a.view.illumination.to_vec()),
    ("optics.detector_sd", |a| a.view.detector.to_vec()),
];

/// The same axons in both animals, so that they can be compared one by one.
fn whole() -> Recipe {
    Recipe::load(None, &["neurons.missing=0", "neurons.extra=0"].map(str::to_owned)).unwrap()
}

#[test]
fn each_parameter_at_zero_takes_away_its_own_difference_between_animals_and_no_other() {
    for (parameter, _) in FACETS {
        let mut recipe = whole();
        recipe.set(parameter, "0").unwrap();
        let [a, b] = [1, 2].map(|number| Animal::new(&recipe, 3, number));
        let [a_before, b_before] = [1, 2].map(|number| Animal::new(&whole(), 3, number));
        for (other, facet) in FACETS {
            assert_eq!(facet(&a) == facet(&b), other == parameter, "{other} with {parameter} = 0");
            let untouched = facet(&a) == facet(&a_before) && facet(&b) == facet(&b_before);
            assert_eq!(untouched, other != parameter, "{other} with {parameter} = 0");
        }
    }
}

#[test]
fn missing_and_extra_axons_have_parameters_and_leave_the_others_as_they_are() {
    let common = Animal::new(&whole(), 3, 1).population;
    let usual = Animal::new(&Recipe::default(), 3, 1).population;
    assert_eq!(common.axons.len(), 86);
    let shared: Vec<_> = usual.axons.iter().filter(|axon| axon.id < 86).collect();
    assert!(shared.len() < 86 && shared.len() < usual.axons.len(), "some are missing, some are extra");
    assert!(shared.iter().all(|axon| common.axons.contains(axon)));
}

#[test]
fn two_animals_doing_the_same_hold_their_legs_differently_and_alike_when_nothing_differs() {
    let pose = |recipe: &Recipe, animal: u64| {
        let animal = Animal::new(recipe, 3, animal);
        let mut motion = limbs::Motion::new(&animal.body, &recipe.limbs, [3, 1, 1]);
        let walking = behaviour::Doing { action: 1, since_s: 0.0, vigour: 1.0, speed: 1.0, turn: 0.0, arousal: 0.0 };
        let mut pose = vec![0.0; limbs::CHANNELS];
        (0..200).for_each(|_| motion.next(&walking, &mut pose));
        pose
    };
    let apart = |recipe: &Recipe| {
        let (a, b) = (pose(recipe, 1), pose(recipe, 2));
        (a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / a.len() as f32).sqrt()
    };
    assert!(apart(&Recipe::default()) > 0.05, "{} mm", apart(&Recipe::default()));
    let mut alike = Recipe::default();
    FACETS
        .iter()
        .filter(|(parameter, _)| parameter.starts_with("limbs"))
        .for_each(|(parameter, _)| alike.set(parameter, "0").unwrap());
    assert_eq!(apart(&alike), 0.0);
}

#[test]
fn an_axon_answers_its_own_action_more_than_rest() {
    let trial = Trial::new(&Spec { seconds: 60.0, recipe: whole(), ..Spec::default() });
    let mean = |walking: bool| {
        let (mut sum, mut n) = (0.0, 0.0);
        let actions = trial.action_of_frame();
        for (frame, action) in actions.iter().enumerate() {
            if (*action == behaviour::WALKING) == walking && (walking || *action == behaviour::RESTING) {
                // Axons 4 to 15 are the six pairs of the walking types.
                sum += trial.activity(frame)[4..16].iter().sum::<f32>() / 12.0;
                n += 1.0;
            }
        }
        sum / n
    };
    assert!(mean(true) > mean(false) + 0.2, "walking {} rest {}", mean(true), mean(false));
}

#[test]
fn what_only_the_simulation_knows_is_written_on_request_and_changes_nothing_else() {
    let (plain, known) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    dataset(&order(plain.path()), &|_| ()).unwrap();
    let truth = vec![Known::Activity, Known::Placement, Known::Motion];
    dataset(&Order { truth, ..order(known.path()) }, &|_| ()).unwrap();
    let [plain, known] = [&plain, &known].map(|folder| folder.path().join("fly_01/001"));
    assert_eq!(std::fs::read(plain.join("green.mm")).unwrap(), std::fs::read(known.join("green.mm")).unwrap());
    assert!(!plain.join("truth_activity.npy").exists());
    let matrix = |name: &str| ndarray_npy::read_npy::<_, ndarray::Array2<f32>>(known.join(name)).unwrap();
    let spec = Spec { seed: 5, animal: 1, trial: 1, seconds: SECONDS, recipe: order(&known).recipe };
    let trial = Trial::new(&spec);
    let axons = trial.animal().population.axons.len();
    let light = matrix("truth_activity.npy");
    assert_eq!(light.dim(), (trial.frames(), axons));
    assert_eq!(light.row(17).as_slice().unwrap(), trial.activity(17));
    assert_eq!(matrix("truth_motion.npy")[[17, 1]], trial.motion_px(17)[1] as f32);
    let lines =
        |name: &str| std::fs::read_to_string(known.join(name)).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines("truth_axons.csv").len(), 1 + axons);
    let placed = &lines("truth_placement.csv")[1];
    assert!(placed.starts_with(&format!("{},", trial.animal().view.rotation_deg)), "{placed}");
}
