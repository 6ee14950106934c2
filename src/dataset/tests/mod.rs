//! Method: small folders are written with known content, loaded, and held against what was written, or against the daemon's
//! preprocessing driven by hand. Every fault is put into an otherwise sound folder, and must be named.

mod described;
mod faults;
mod targets;

use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::config::Device;
use crate::dataset::trials::Origin;
use crate::frame::{Frame, Name, PixelType, Tensor};
use crate::model::parameters::{Baseline, Normalise, Registration};

const SIDE: usize = 32;
const FRAMES: usize = 60;
const ROWS: usize = 360;
const COLUMNS: usize = 5;

/// A folder that can be spoilt.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    /// Two animals of one trial each, nested.
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        lab.trial("fly_01/001", 1);
        lab.trial("fly_02/001", 2);
        lab
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        std::fs::write(self.path(file), bytes).unwrap();
    }

    fn trial(&self, name: &str, seed: usize) {
        self.write(&format!("{name}/green.mm"), f32s(&movie(seed, 0)));
        self.write(&format!("{name}/red.mm"), f32s(&movie(seed, 1)));
        self.write(&format!("{name}/pose_3d.mm"), f32s(&pose(seed)));
        self.write(&format!("{name}/indices.npy"), npy("<i8", &[ROWS], &i64s(&index())));
        self.write(&format!("{name}/labels.csv"), labels());
    }

    fn spec(&self) -> Result<DataSpec, DatasetError> {
        DataSpec::mc2p(self.folder.path(), &Mc2pOptions::default())
    }

    fn load(&self, options: &LoadOptions) -> Result<(Dataset, Vec<DataWarning>), DatasetError> {
        load(&self.spec()?, options, &|_| ())
    }

    /// Writes `dataset.toml` and loads it.
    fn toml(&self, text: &str) -> Result<(Dataset, Vec<DataWarning>), DatasetError> {
        self.write("dataset.toml", text);
        let options = LoadOptions { parameters: None, ..options() };
        load(&DataSpec::from_toml(&self.path("dataset.toml"))?, &options, &|_| ())
    }

    fn fault(&self, options: &LoadOptions) -> String {
        self.load(options).unwrap_err().to_string()
    }
}

/// A CSV file with this text.
pub(super) fn csv(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Warm after few frames, so that the movies may be short.
fn parameters() -> Parameters {
    Parameters {
        registration: Some(Registration { channel: 1, reach_px: 4, template_frames: 10, ..Registration::default() }),
        baseline: Some(Baseline { average_frames: 3, ..Baseline::default() }),
        normalise: Some(Normalise { warmup_frames: 8, ..Normalise::default() }),
        ..Parameters::default()
    }
}

fn options() -> LoadOptions {
    LoadOptions { parameters: Some(parameters()), window_frames: 8, ..LoadOptions::default() }
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn npy(kind: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n},")).collect();
    let head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.bytes());
    bytes.extend(data);
    bytes
}

fn movie(seed: usize, channel: usize) -> Vec<f32> {
    let pixel = |at: usize| {
        let (t, y, x) = (at / (SIDE * SIDE), at / SIDE % SIDE, at % SIDE);
        let blob = |cy: f32, cx: f32| 300.0 * (-((y as f32 - cy).powi(2) + (x as f32 - cx).powi(2)) / 6.0).exp();
        let drift = (t % 3) as f32;
        let noise = (at.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 7) % 40;
        let glow = if channel == 0 { (t as f32 * 0.3).sin() + 1.5 } else { 1.0 };
        100.0 + glow * blob(9.0 + drift, 20.0) + blob(22.0 + drift, 12.0) + noise as f32
    };
    (0..FRAMES * SIDE * SIDE).map(pixel).collect()
}

fn pose(seed: usize) -> Vec<f32> {
    (0..ROWS * COLUMNS).map(|at| ((at * seed) as f32 * 0.01).sin()).collect()
}

/// Six behaviour frames a two-photon frame.
fn index() -> Vec<i64> {
    (0..ROWS as i64).map(|row| row / 6).collect()
}

fn labels() -> String {
    let row = |row: usize| format!("{row},{}\n", if row % 120 < 60 { "rest" } else { "walk" });
    std::iter::once("frame,label\n".to_string()).chain((0..ROWS).map(row)).collect()
}

/// The model frames of a trial of [`Lab`] by the daemon's preprocessing: values, last frame, warm.
fn by_hand(seed: usize, parameters: &Parameters, input: Shape) -> Vec<(Vec<f32>, u32, bool)> {
    let rate_hz = 16.0 / parameters.average_frames as f64;
    let mut steps = crate::preprocess::build(parameters, input, rate_hz, Device::Cpu).unwrap();
    let mut frame = Frame::with_capacity(2 * SIDE * SIDE * 4);
    let (green, red) = (movie(seed, 0), movie(seed, 1));
    let mut made = Vec::new();
    for t in 0..FRAMES {
        frame.info.shape = Shape::new(2, SIDE, SIDE);
        frame.info.pixel_type = PixelType::F32;
        frame.info.number = t as u64;
        frame.info.source = Name::literal("hand");
        let plane = t * SIDE * SIDE..(t + 1) * SIDE * SIDE;
        let both = [&green[plane.clone()], &red[plane]].concat();
        frame.bytes_mut().copy_from_slice(&f32s(&both));
        let prepared = steps.apply(&frame).unwrap();
        let warm = !prepared.observation.warming_up;
        if let Some(Tensor::Host(values)) = prepared.tensor {
            made.push((values.to_vec(), t as u32, warm));
        }
    }
    made
}

#[test]
fn a_folder_of_raw_channels_becomes_what_the_daemon_would_feed_to_the_encoder() {
    let lab = Lab::new();
    let (data, warnings) = lab.load(&options()).unwrap();
    assert_eq!(data.animals, ["fly_01", "fly_02"]);
    assert_eq!(data.labels, ["rest", "walk"]);
    assert_eq!(data.input, Shape::new(1, SIDE, SIDE));
    assert_eq!((data.frame_rate_hz, data.behaviour_rate_hz), (16.0, 100.0));
    assert_eq!(data.origin, Origin::Preprocessed(Box::new(parameters())));
    assert_eq!(warnings, []);
    for (seed, trial) in [(1, &data.trials[0]), (2, &data.trials[1])] {
        let hand = by_hand(seed, &parameters(), data.input);
        assert_eq!((trial.name.as_str(), trial.animal), (format!("fly_0{seed}/001").as_str(), seed - 1));
        assert_eq!(trial.frames.len(), hand.len());
        for (k, (values, frame, warm)) in hand.iter().enumerate() {
            assert_eq!(trial.frames.frame(k), values, "frame {k}");
            assert_eq!(trial.usable[k], *warm, "frame {k}");
            assert_eq!(trial.behaviour_at[k], frame * 6 + 5, "the newest of six");
            let walks = (frame * 6 + 5) % 120 >= 60;
            assert_eq!(trial.label[k], Some(u8::from(walks)));
        }
        assert!(trial.usable.iter().any(|u| *u) && !trial.usable[10 + 8 - 1], "the template, then the statistics");
        assert_eq!(trial.behaviour.as_slice().unwrap(), pose(seed));
        assert_eq!(trial.behaviour.dim(), (ROWS, COLUMNS));
    }
}

/// Name, size and time of change of everything in the cache, and its bytes.
fn cached(lab: &Lab) -> Vec<(PathBuf, std::time::SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(lab.path(".haltere-cache")).unwrap().map(|e| e.unwrap().path());
    let frames = entries.filter(|p| p.extension().is_some_and(|e| e == "frames"));
    let read = |p: PathBuf| (p.clone(), p.metadata().unwrap().modified().unwrap(), std::fs::read(p).unwrap());
    let mut all: Vec<_> = frames.map(read).collect();
    all.sort();
    all
}

#[test]
fn the_second_time_everything_comes_from_the_cache_and_is_the_same() {
    let lab = Lab::new();
    let seen = Mutex::new(Vec::new());
    let tell = |p: Progress<'_>| seen.lock().unwrap().push((p.cached, p.frames_done, p.frames_total));
    let spec = lab.spec().unwrap();
    let (first, _) = load(&spec, &options(), &tell).unwrap();
    let told = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(told.len(), 2 * FRAMES);
    assert!(told.iter().all(|(cached, _, total)| !cached && *total == 2 * FRAMES as u64));
    let before = cached(&lab);
    assert_eq!(before.len(), 2);
    let (second, _) = load(&spec, &options(), &tell).unwrap();
    let mut told = std::mem::take(&mut *seen.lock().unwrap());
    told.sort();
    assert_eq!(told, [(true, FRAMES as u64, 2 * FRAMES as u64), (true, 2 * FRAMES as u64, 2 * FRAMES as u64)]);
    assert_eq!(cached(&lab), before);
    assert_eq!(first.sha256, second.sha256);
    for (a, b) in first.trials.iter().zip(&second.trials) {
        assert_eq!((&a.usable, &a.behaviour_at, &a.label), (&b.usable, &b.behaviour_at, &b.label));
    }
    let left = std::fs::read_dir(lab.path(".haltere-cache")).unwrap().map(|e| e.unwrap().path());
    assert!(left.into_iter().all(|p| !p.display().to_string().contains(".partial")));
}

#[test]
fn a_damaged_cache_and_changed_frames_or_parameters_are_made_anew() {
    let lab = Lab::new();
    let (data, _) = lab.load(&options()).unwrap();
    let whole = cached(&lab);
    std::fs::write(&whole[0].0, &whole[0].2[..whole[0].2.len() - 4096]).unwrap();
    drop(data);
    let (again, _) = lab.load(&options()).unwrap();
    assert_eq!(cached(&lab)[0].2, whole[0].2, "cut short, made anew");
    let other = Parameters { average_frames: 2, ..parameters() };
    let (averaged, _) = lab.load(&LoadOptions { parameters: Some(other), ..options() }).unwrap();
    assert_ne!(averaged.sha256, again.sha256);
    assert_eq!(cached(&lab).len(), 4);
    lab.write("fly_01/001/green.mm", f32s(&movie(7, 0)));
    let (changed, _) = lab.load(&options()).unwrap();
    assert_ne!(changed.sha256, again.sha256);
    assert_eq!(cached(&lab).len(), 5);
    assert_ne!(changed.trials[0].frames.frame(30), again.trials[0].frames.frame(30));
}

#[test]
fn averaged_frames_take_behaviour_and_label_of_the_last_of_their_group() {
    let lab = Lab::new();
    let averaging = Parameters { average_frames: 2, ..parameters() };
    let options = LoadOptions { parameters: Some(averaging.clone()), window_frames: 4, ..options() };
    let (data, _) = lab.load(&options).unwrap();
    assert_eq!(data.frame_rate_hz, 8.0);
    let (trial, hand) = (&data.trials[0], by_hand(1, &averaging, data.input));
    assert!(hand.len() < FRAMES / 2 + 1 && trial.frames.len() == hand.len());
    for (k, (values, last, warm)) in hand.iter().enumerate() {
        assert_eq!(trial.frames.frame(k), values);
        assert_eq!((trial.usable[k], trial.behaviour_at[k]), (*warm, last * 6 + 5));
        assert_eq!(trial.label[k], Some(u8::from((last * 6 + 5) % 120 >= 60)));
    }
}

#[test]
fn animals_are_chosen_and_left_out_without_renumbering_the_labels() {
    let lab = Lab::new();
    lab.write("fly_02/001/labels.csv", labels().replace("rest", "grooming"));
    let chosen = |animals: &[&str], leave_out: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        LoadOptions { animals: own(animals), leave_out: own(leave_out), ..options() }
    };
    let (data, warnings) = lab.load(&chosen(&["fly_01"], &[])).unwrap();
    assert_eq!(
        (data.animals.as_slice(), data.labels.as_slice()),
        (&["fly_01".to_owned()][..], &["grooming", "rest", "walk"].map(String::from)[..])
    );
    assert!(warnings.contains(&DataWarning::OneAnimal { animal: "fly_01".into() }), "{warnings:?}");
    assert!(warnings.contains(&DataWarning::EmptyClass { label: "grooming".into() }), "{warnings:?}");
    let (data, _) = lab.load(&chosen(&[], &["fly_01"])).unwrap();
    assert_eq!(data.animals, ["fly_02"]);
    assert_eq!(data.trials[0].label[0], Some(0));
    assert!(lab.fault(&chosen(&["fly_9"], &[])).contains("fly_01, fly_02"));
    assert!(lab.fault(&chosen(&["fly_01"], &["fly_01"])).contains("no animal is left"));
}

#[test]
fn a_released_folder_of_ready_dff_is_standardised_per_pixel_and_says_so() {
    let lab = Lab { folder: tempfile::tempdir().unwrap() };
    for fly in ["210830_PR_Fly1_001", "210830_PR_Fly2_001"] {
        let dff = movie(3, 0);
        lab.write(&format!("{fly}/2p_dff_tif_padded.mm"), f32s(&dff));
        lab.write(&format!("{fly}/angles_resized.pkl"), f32s(&pose(1)));
        lab.write(&format!("{fly}/sync_indices.pkl"), i64s(&index()));
    }
    let options = LoadOptions { input: Some(Shape::new(1, 16, 16)), ..options() };
    let (data, warnings) = lab.load(&options).unwrap();
    assert_eq!(data.animals, ["210830_PR_Fly1", "210830_PR_Fly2"]);
    assert!(matches!(&data.origin, Origin::ReadyMade { note } if note.contains("2p_dff_tif_padded.mm")));
    assert!(warnings.contains(&DataWarning::ReadyMade) && warnings.contains(&DataWarning::NoLabels), "{warnings:?}");
    let trial = &data.trials[0];
    assert!(trial.usable.iter().all(|u| *u) && trial.frames.len() == FRAMES);
    let source = movie(3, 0);
    let area = |t: usize, y: usize, x: usize| {
        let at = |dy, dx| f64::from(source[t * SIDE * SIDE + (2 * y + dy) * SIDE + 2 * x + dx]);
        (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0
    };
    for (y, x) in [(0, 0), (5, 10), (15, 3)] {
        let series: Vec<f64> = (0..FRAMES).map(|t| area(t, y, x)).collect();
        let mean = series.iter().sum::<f64>() / FRAMES as f64;
        let sd = (series.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / FRAMES as f64).sqrt();
        for t in [0, 17, 59] {
            let found = f64::from(trial.frames.frame(t)[y * 16 + x]);
            assert!((found - (series[t] - mean) / sd).abs() < 1e-3, "{t} {y} {x}: {found}");
        }
    }
}

#[test]
fn resting_frames_are_left_out_only_when_asked_for() {
    let lab = Lab::new();
    for fly in ["fly_01", "fly_02"] {
        let rest: Vec<u8> = (0..ROWS).map(|row| u8::from(row >= 330)).collect();
        lab.write(&format!("{fly}/001/rest.npy"), npy("|b1", &[ROWS], &rest));
    }
    let (data, _) = lab.load(&options()).unwrap();
    assert!(data.trials[0].usable[FRAMES - 1]);
    let masked = Mc2pOptions { mask_rest: true, ..Mc2pOptions::default() };
    let (data, _) = load(&DataSpec::mc2p(lab.folder.path(), &masked).unwrap(), &options(), &|_| ()).unwrap();
    assert_eq!(data.trials[0].usable[54..], [true, false, false, false, false, false]);
}

#[test]
fn the_default_parameters_fit_the_frames_and_register_on_the_anatomical_channel() {
    for (channels, side, reach, channel) in [(2, 128, 16, 1), (2, 64, 16, 1), (1, 40, 10, 0), (1, 24, 4, 0)] {
        let parameters = training_parameters(channels, side);
        let registration = parameters.registration.as_ref().unwrap();
        assert_eq!((registration.reach_px, registration.channel), (reach, channel), "{side}");
        assert!(parameters.check().is_ok());
    }
    assert_eq!(training_parameters(1, 17).registration, None);
}
