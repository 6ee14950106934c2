//! The judgement of frames on real recordings, with the thresholds that a manifest has by default: nothing that a microscope took is
//! doubted, and what light and shutters do to it is.
//!
//! Method: the committed fly and, where the shared data are there, a mouse and a kidney slide go through preprocessing as the daemon drives
//! it. A short recording is played round and round: its tissue jumps back by some pixels each time.

use std::path::{Path, PathBuf};

use haltere::config::Device;
use haltere::frame::{Distrust, Frame, FrameInfo, PixelType, Shape};
use haltere::model::parameters::{Parameters, Registration};
use haltere::preprocess::build;
use haltere::source::{Next, RecordingSpec, open_recording};

const RATE_HZ: f64 = 16.0;

/// A recording in memory, uint16.
struct Recording {
    info: FrameInfo,
    frames: Vec<Vec<u16>>,
}

impl Recording {
    fn read(channels: &[PathBuf]) -> Self {
        let spec = RecordingSpec::new("", "rig".parse().expect("a name"));
        let spec = RecordingSpec { channels: channels.iter().map(|path| vec![path.clone()]).collect(), ..spec };
        let mut source = open_recording(&spec).expect("a recording");
        let mut frame = Frame::with_capacity(source.frame_bytes_max());
        let mut frames = Vec::new();
        while source.next(&mut frame).expect("a frame") == Next::Frame {
            assert_eq!(frame.info.pixel_type, PixelType::U16);
            frames.push(bytemuck::cast_slice(frame.bytes()).to_vec());
        }
        Self { info: FrameInfo { t_device: None, ..frame.info }, frames }
    }

    /// What is found in `count` frames, of which `disturb` makes what it will.
    fn judge(&self, registered: bool, count: usize, disturb: impl Fn(usize, &mut [u16])) -> Vec<Option<Distrust>> {
        let registration = Registration { template_frames: 20, template_rounds: 2, ..Registration::default() };
        let parameters = Parameters {
            channels: (0..self.info.shape.channels).collect(),
            registration: registered.then_some(registration),
            baseline: None,
            normalise: None,
            ..Parameters::default()
        };
        let input = Shape::new(self.info.shape.channels, 16, 16);
        let mut steps = build(&parameters, input, RATE_HZ, Device::Cpu).expect("valid parameters");
        let mut frame = Frame::with_capacity(2 * self.info.shape.pixels());
        let one = |number: usize| {
            let mut counts = self.frames[number % self.frames.len()].clone();
            disturb(number, &mut counts);
            let t_received_ns = (number as f64 * 1e9 / RATE_HZ) as u64;
            frame.info = FrameInfo { number: number as u64, series_began: number == 0, t_received_ns, ..self.info };
            frame.bytes_mut().copy_from_slice(bytemuck::cast_slice(&counts));
            steps.apply(&frame).expect("a fitting frame").observation.distrust
        };
        (0..count).map(one).collect()
    }
}

/// Each recording that is there, with the frames to be taken of it.
fn recordings() -> Vec<(&'static str, Recording, usize)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fly = |file: &str| here.join("tests/data/fly_vnc_2p").join(file);
    let (green, red) = (fly("GC6s.tif"), fly("tdTom.tif"));
    let mut all = vec![
        ("fly, green", Recording::read(std::slice::from_ref(&green)), 60),
        ("fly, red and green", Recording::read(&[red, green]), 60),
    ];
    let data = std::env::var_os("HALTERE_SHARED").map_or_else(|| here.join("../shared"), PathBuf::from).join("data");
    for (name, file, count) in [
        ("mouse", "mouse_2p/mouse_2p_first400.tif", 400),
        ("kidney", "thorimage_sync/mouse_kidney_raw/2p/Untitled_001", 30),
    ] {
        let path = data.join(file);
        if path.exists() {
            all.push((name, Recording::read(&[path]), count));
        } else {
            eprintln!("SKIPPED: {} is not there; set HALTERE_SHARED", path.display());
        }
    }
    all
}

/// Light above the background, in counts: what the step of a flash is measured against.
fn contrast(frame: &[u16]) -> u16 {
    let mut sorted = frame.to_vec();
    sorted.sort_unstable();
    let mean = frame.iter().map(|&count| f64::from(count)).sum::<f64>() / frame.len() as f64;
    (mean - f64::from(sorted[sorted.len() / 50])) as u16
}

#[test]
fn no_frame_of_a_real_recording_is_doubted_and_every_disturbance_of_it_is_found() {
    for (name, recording, count) in recordings() {
        assert_eq!(recording.judge(true, count, |_, _| ()), vec![None; count], "{name}");
        let dark = recording.frames.iter().flatten().copied().min().expect("pixels");
        let step = 3 * contrast(&recording.frames[0]);
        let rows = recording.info.shape.width * (recording.info.shape.height / 4);
        // Some counts of the electronics' noise, other ones in each frame.
        let darken = |number: usize, counts: &mut [u16]| {
            let noise = |at: usize| ((at * 7919 + number * 104_729) >> 3) as u16 % 13;
            counts.iter_mut().enumerate().for_each(|(at, count)| *count = dark + noise(at));
        };
        let plane = recording.info.shape.plane();
        let light = |counts: &mut [u16]| counts.iter_mut().for_each(|count| *count = count.saturating_add(step));
        let disturb = |number: usize, counts: &mut [u16]| match number {
            20 => counts.fill(u16::MAX),
            22..=24 => darken(number, counts),
            26 => light(counts),
            // Some lines of every channel.
            28 => counts.chunks_exact_mut(plane).for_each(|plane| light(&mut plane[rows..2 * rows])),
            _ => {}
        };
        let found = recording.judge(false, 30, disturb);
        for (number, found) in found.into_iter().enumerate() {
            let right = match number {
                20 => found == Some(Distrust::Saturated),
                22..=24 => matches!(found, Some(Distrust::Dark | Distrust::Blank)),
                26 => matches!(found, Some(Distrust::Flash | Distrust::Saturated)),
                28 => matches!(found, Some(Distrust::Banded | Distrust::Flash | Distrust::Saturated)),
                _ => found.is_none(),
            };
            assert!(right, "{name}, frame {number}: {found:?}");
        }
    }
}
