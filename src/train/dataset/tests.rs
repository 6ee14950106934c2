//! Method: small folders are written with known content, loaded, and held against what was written, or against the daemon's
//! preprocessing driven by hand. Every fault is put into an otherwise sound folder, and must be named.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;
use crate::config::Device;
use crate::frame::{Frame, Name, PixelType, Tensor};
use crate::preprocess::parameters::{Baseline, Normalise, Registration};
use crate::train::data::{NO_BEHAVIOUR, Origin};

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
        load(&DataSpec::from_toml(&self.path("dataset.toml"))?, &options(), &|_| ())
    }

    fn fault(&self, options: &LoadOptions) -> String {
        self.load(options).unwrap_err().to_string()
    }
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
        assert_eq!(trial.usable.iter().filter(|u| **u).count(), FRAMES - 17, "10 for the template, 8 to be warm");
        assert_eq!(trial.behaviour.as_slice().unwrap(), pose(seed));
        assert_eq!(trial.behaviour.dim(), (ROWS, COLUMNS));
    }
}
