//! A small corridor for tests: an untrained model whose warm-up lasts a few frames, a movie with known motion, a source that
//! does what the test says, and a sink that keeps what it is given.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use burn::tensor::Device;
use haltere::cli::bench::movie::Movie;
use haltere::config::{self, Compression, Config, NewSeries, Overload, Wait};
use haltere::corridor::{Corridor, Handles, Settings, no_realtime};
use haltere::cuda::Machine;
use haltere::decide::{Point, Rule, Rules, Train, Trusted};
use haltere::decoder::Decoder;
use haltere::frame::event::Event;
use haltere::frame::{Clock, Decode, DeviceTime, Frame, FrameInfo, Geometry, Marks, PixelType, Shape};
use haltere::model::head::NoveltyReference;
use haltere::model::parameters::{Atlas, Baseline, Normalise, Parameters, Registration};
use haltere::model::{Drift, Kind, Model, Provenance};
use haltere::preprocess::placement::{View, make_atlas};
use haltere::preprocess::{Chosen, Prepared, Preprocess, PreprocessError, Request};
use haltere::publish::{Sink, SinkError};
use haltere::session::recorder::{About, Buffers, Recorder};
use haltere::source::{Next, Source, SourceError};
use haltere::train::export::head::{FittedHead, FittedNovelty};
use haltere::train::export::{Details, write_with_head};
use haltere::train::{Network, NetworkSpec};

/// Side of the frames and of the model's input, px.
pub const SIDE: usize = 64;
/// Frames per second of the model and of every source here.
pub const RATE_HZ: f64 = 30.0;
/// Longest time that anything here is waited for, s; reaching it is a failure.
pub const GIVE_UP_S: u64 = 60;

/// Path of the daemon under test.
pub const HALTERE: &str = env!("CARGO_BIN_EXE_haltere");

/// A model of 64×64 px in a folder of its own, ready after about a dozen frames.
pub struct Small {
    pub folder: tempfile::TempDir,
    pub manifest: PathBuf,
}

impl Small {
    /// Untrained, without labels.
    pub fn new() -> Self {
        Self::with(&[], false, &FittedHead::default())
    }

    /// It has labels, says that it is trained, and finds every embedding as strange as can be; drift is told after about 28
    /// decodes of quality `ok`.
    pub fn strange() -> Self {
        Self::with(&["rest", "walk"], true, &Self::finds_everything_strange())
    }

    /// As [`Small::strange`], and it lays every animal on an atlas: all that the CPU can do on the frame path.
    pub fn strange_on_an_atlas() -> Self {
        Self::built(&["rest", "walk"], true, &Self::finds_everything_strange(), Some(Self::atlas(0.3)))
    }

    fn finds_everything_strange() -> FittedHead {
        let mut prototypes = ndarray::Array2::zeros((2, 128));
        (prototypes[[0, 0]], prototypes[[1, 1]]) = (1.0, -1.0);
        let reference = NoveltyReference { prototypes, thresholds: vec![0.0; 10] };
        FittedHead {
            novelty: Some(FittedNovelty { reference, measured_on: "nobody".into() }),
            drift: Some(Drift { time_constant_s: 1.0, limit: 0.8 }),
            ..FittedHead::default()
        }
    }

    /// As [`Small::new`], but it lays every animal on an atlas made of the movie of all tests, and asks for a likeness of at least
    /// `likeness_min`.
    pub fn on_an_atlas(likeness_min: f32) -> Self {
        Self::built(&[], false, &FittedHead::default(), Some(Self::atlas(likeness_min)))
    }

    fn atlas(likeness_min: f32) -> Atlas {
        let mean: Vec<f32> =
            (0..SIDE * SIDE).map(|px| movie().iter().map(|frame| f32::from(frame[px])).sum::<f32>() / 60.0).collect();
        let view = View::of(&Atlas::default(), "the movie", &mean, SIDE, SIDE).unwrap();
        Atlas { likeness_min, ..make_atlas(&Atlas::default(), &[view]).unwrap() }
    }

    pub fn with(labels: &[&str], trained: bool, learnt: &FittedHead) -> Self {
        Self::built(labels, trained, learnt, None)
    }

    fn built(labels: &[&str], trained: bool, learnt: &FittedHead, atlas: Option<Atlas>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = NetworkSpec::for_input(Shape::new(1, SIDE, SIDE));
        spec.window_frames = 4;
        spec.labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let network = Network::new(&spec, 3, &Device::flex()).unwrap();
        let details = Details {
            name: "small".into(),
            kind: Kind::Streaming,
            frame_rate_hz: RATE_HZ,
            look_ahead_frames: 0,
            provenance: Provenance { trained, ..Provenance::default() },
            preprocess: Parameters {
                registration: Some(Registration {
                    template_frames: 6,
                    template_rounds: 2,
                    reach_px: 8,
                    ..Registration::default()
                }),
                atlas,
                baseline: Some(Baseline { average_frames: 3, ..Baseline::default() }),
                normalise: Some(Normalise { warmup_frames: 4, ..Normalise::default() }),
                ..Parameters::default()
            },
        };
        let manifest = write_with_head(&network, &spec, &details, learnt, folder.path()).unwrap();
        Self { folder, manifest }
    }

    pub fn config(&self) -> Config {
        Config { model: self.manifest.clone(), ..Config::default() }
    }

    pub fn decoder(&self) -> Decoder {
        Decoder::open(&self.config()).unwrap()
    }

    /// The same on a device.
    pub fn decoder_on(&self, machine: &Arc<dyn Machine>) -> Decoder {
        let model = Model::load(&self.manifest).unwrap();
        let chosen = Chosen { machine: Some(machine.clone()), why: String::new() };
        Decoder::open_on(&model, &Config::default().compute, &chosen).unwrap()
    }

    /// `ipc://` in this model's folder: no two tests ever want the same.
    pub fn endpoint(&self, name: &str) -> String {
        format!("ipc://{}", self.folder.path().join(name).display())
    }
}

/// The movie of all tests: 60 noisy, moving frames of 64×64 px, the same every time.
pub fn movie() -> &'static [Vec<u16>] {
    static MOVIE: OnceLock<Vec<Vec<u16>>> = OnceLock::new();
    MOVIE.get_or_init(|| {
        let movie = Movie::new(SIDE, 60, 11);
        (0..movie.frames()).map(|frame| movie.expose(frame, 2.0, 5)).collect()
    })
}

/// Writes the first `frames` frames of the endless movie as a raw file `uint16:64x64`.
pub fn write_raw(path: &Path, frames: usize) {
    let pixels = (0..frames).flat_map(|n| &movie()[n % movie().len()]);
    std::fs::write(path, pixels.flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

/// Layout of [`write_raw`] for `--raw`.
pub const RAW: &str = "uint16:64x64";

/// What a scripted source does at its `n`-th call.
pub enum Step {
    /// The movie's frame of this number.
    Frame(u64),
    /// The frame of this number with its first rows only: another geometry.
    Cropped(u64),
    /// Nothing yet.
    Idle,
    /// The end of the recording.
    End,
    /// The end of the world.
    Fail,
}

/// A source that does what a function of its calls says.
pub struct Scripted<F>(pub u64, pub F);

impl<F> Scripted<F> {
    pub fn new(script: F) -> Self {
        Self(0, script)
    }
}

/// Frames 0 to `frames` and then the end.
pub fn recording(frames: u64) -> Box<dyn Source> {
    Box::new(Scripted::new(move |n| if n < frames { Step::Frame(n) } else { Step::End }))
}

impl<F: FnMut(u64) -> Step + Send> Source for Scripted<F> {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let step = (self.1)(self.0);
        self.0 += 1;
        let (number, height) = match step {
            Step::Frame(number) => (number, SIDE),
            Step::Cropped(number) => (number, SIDE - 8),
            Step::Idle => {
                std::thread::yield_now();
                return Ok(Next::Idle);
            }
            Step::End => return Ok(Next::End),
            Step::Fail => {
                return Err(SourceError::Socket { endpoint: "scripted".into(), cause: "the cable was pulled".into() });
            }
        };
        into.info = FrameInfo {
            shape: Shape::new(1, height, SIDE),
            pixel_type: PixelType::U16,
            number,
            gap: 0,
            ordinal_offset: 0,
            t_device: Some(DeviceTime {
                ns: (number as f64 * 1e9 / RATE_HZ) as i64,
                clock: Clock::Device,
                stamp: None,
            }),
            t_received_ns: haltere::sys::clock::now_ns(),
            t_live_ns: None,
            age_ns: None,
            unpublished: false,
            source: "scripted".parse().unwrap(),
            series: None,
            series_began: number == 0,
            marks: Marks::default(),
            animal: None,
        };
        let pixels = &movie()[number as usize % movie().len()][..height * SIDE];
        into.bytes_mut().copy_from_slice(bytemuck::cast_slice(pixels));
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        2 * SIDE * SIDE
    }
}

/// What a sink was given.
#[derive(Default)]
pub struct Kept {
    pub decodes: Vec<Decode>,
    pub events: Vec<Event>,
    pub finished: Vec<Option<&'static str>>,
}

impl Kept {
    pub fn numbers(&self) -> Vec<u64> {
        self.decodes.iter().map(|decode| decode.frame.number).collect()
    }

    /// Everything of each decode that must not depend on time, to the last bit.
    pub fn bits(&self) -> Vec<(u64, Vec<u32>, String)> {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
        let told = |d: &Decode| format!("{:?} {:?} {:?}", d.observation, d.quality, d.action);
        self.decodes.iter().map(|d| (d.frame.number, bits(&d.embedding.values), told(d))).collect()
    }
}

/// A sink that keeps everything.
#[derive(Clone, Default)]
pub struct Keeper(pub Arc<Mutex<Kept>>);

impl Sink for Keeper {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        self.0.lock().unwrap().decodes.push(decode.clone());
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        self.0.lock().unwrap().events.push(*event);
        Ok(())
    }

    fn finish(&mut self, fault: Option<&'static str>) -> Result<(), SinkError> {
        self.0.lock().unwrap().finished.push(fault);
        Ok(())
    }
}

/// How a corridor of a test runs.
pub fn settings(decoder: &Decoder, overload: Overload, depth_frames: usize, wait: Wait) -> Settings {
    Settings {
        lane: config::Lane { depth_frames, overload },
        realtime: no_realtime(wait),
        new_series: NewSeries::Keep,
        ..Settings::of(decoder, &Config::default())
    }
}

/// Rules that decide often: one with an output on nearly every frame, one with every limit.
pub fn rules() -> Rules {
    let named = |name: &str, when: &str| Rule {
        when: Some(when.parse().unwrap()),
        armed: true,
        repeat: true,
        quality: Trusted::Degraded,
        train: Train { delay_ms: 0, jitter_ms: 3, width_ms: 1, period_ms: 2, count: 1 },
        ..Rule::named(name.parse().unwrap())
    };
    let often = named("often", "shift_peak > 0.001 or light > 0.001");
    let limited = Rule {
        leave: Some("shift < 0.5".parse().unwrap()),
        refractory_ms: 100,
        at_most: "5 in 1 s".parse().ok(),
        dose_minute_ms: Some(20),
        sham_percent: 30,
        ..named("limited", "shift > 0.6 and distance(home) < 100")
    };
    let home = Point { name: "home".parse().unwrap(), values: vec![0.0; 128] };
    Rules { rules: vec![often, limited], points: vec![home], ..Rules::default() }
}

/// A corridor from `source` to `sinks`, every frame decoded, parked while idle.
pub fn corridor(decoder: Decoder, source: Box<dyn Source>, sinks: Vec<Box<dyn Sink>>, handles: &Handles) -> Corridor {
    let settings = settings(&decoder, Overload::Wait, 4, Wait::Park);
    Corridor { source, decoder, sinks, settings, handles: handles.clone() }
}

/// A session that is being recorded from a corridor of this file.
pub struct Recording {
    pub session: PathBuf,
    recorder: Arc<Recorder>,
    writer: std::thread::JoinHandle<()>,
}

impl Recording {
    /// Begins; whatever runs with `handles` is recorded.
    pub fn begin(small: &Small, folder: &Path, handles: &mut Handles) -> Self {
        let (folder, compression) = (Some(folder.into()), Compression::None);
        let record = config::Record { folder, at_start: true, frames: true, queue_frames: 128, compression };
        let bytes = 2 * SIDE * SIDE;
        let facts = BTreeMap::from([("frame_bytes_max".to_owned(), bytes.to_string())]);
        let about = About { rig: "rig1".into(), facts, attachments: Vec::new() };
        let decode = small.decoder().new_decode();
        let buffers = Buffers { frame_bytes_max: bytes, decode: &decode };
        let events = handles.events.clone();
        let (recorder, mut worker) = Recorder::new(&record, buffers, about, handles.stats.clone(), events);
        let session = worker.start().unwrap();
        handles.recorder = Some(recorder.clone());
        Self { session, recorder, writer: std::thread::spawn(|| worker.run()) }
    }

    /// Ends; the session's file.
    pub fn end(self) -> PathBuf {
        self.recorder.end();
        self.writer.join().unwrap();
        self.session
    }
}

/// A child process that does not outlive its test.
pub struct Process(pub Child);

impl Process {
    pub fn start(args: &[&str]) -> Self {
        let child = Command::new(HALTERE).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap())
    }

    /// Waits for the end; the process must succeed.
    pub fn join(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says which frame it was given, and goes on when it is told to.
struct Gated {
    inner: Box<dyn Preprocess>,
    taken: Sender<u64>,
    go_on: Receiver<()>,
}

impl Preprocess for Gated {
    fn request(&mut self, request: Request) {
        self.inner.request(request);
    }

    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
        self.taken.send(frame.info.number).unwrap();
        // A source that is gone has opened the gate for good; one that is held up itself never opens it.
        let opened = self.go_on.recv_timeout(Duration::from_secs(GIVE_UP_S));
        assert!(opened != Err(RecvTimeoutError::Timeout), "the source is blocked");
        self.inner.apply(frame)
    }

    fn geometry(&self) -> Option<Geometry> {
        self.inner.geometry()
    }

    fn device(&self) -> &str {
        self.inner.device()
    }
}

/// Its preprocessing says which frame it was given, and goes on when it is told to.
pub fn gated(corridor: Corridor) -> (Corridor, Receiver<u64>, Sender<()>) {
    let ((taken, was_taken), (open, go_on)) = (channel(), channel());
    let decoder = corridor.decoder.with_preprocessing(|inner| Box::new(Gated { inner, taken, go_on }));
    (Corridor { decoder, ..corridor }, was_taken, open)
}
