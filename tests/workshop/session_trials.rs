//! A recorded session as a trial that is learnt from.
//!
//! Method: sessions are written frame by frame with known numbers, times, gaps and requests, named in a `dataset.toml`, and what is
//! loaded is held against the daemon's preprocessing driven by hand, and against synchrony worked out here. Last, a session is
//! recorded by a daemon over real sockets, goes through `embed`'s own corridor and through training's preparation, and both must
//! agree to the last bit; then a model is trained on it.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]
#![allow(clippy::result_large_err, reason = "the errors of a data set name many things")]

use crate::support::process as support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use haltere::config::Compression;
use haltere::config::{Config, Device};
use haltere::corridor::Handles;
use haltere::dataset::trials::{Dataset, NO_BEHAVIOUR};
use haltere::dataset::{DataSpec, DataWarning, DatasetError, LoadOptions, load};
use haltere::decoder::Decoder;
use haltere::encode::Encoder;
use haltere::frame::{
    Clock, Decode, DeviceTime, Frame, FrameSlot, Geometry, PixelType, Request, Requests, Restart, Shape, Stamp, Tensor,
};
use haltere::model::Model;
use haltere::model::parameters::{Baseline, Normalise, Parameters, Registration};
use haltere::preprocess::{self, Prepared, Preprocess, PreprocessError};
use haltere::publish::{Sink, SinkError};
use haltere::session::{Item, Reader, SessionWriter, Topic, layout};
use haltere::source::mcap::McapSource;
use support::{Finished, LOSSLESS, Process, Rig, fly, in_folder, model};

const SIDE: usize = 32;
const RATE_HZ: f64 = 20.0;
const PERIOD_NS: u64 = 50_000_000;
/// When the daemon received the first frame, on its clock; and how that clock stands to UTC.
const FIRST_NS: u64 = 5_000_000_000;
const TO_UNIX_NS: i128 = 1_700_000_000_000_000_000;

/// One frame of a session.
#[derive(Clone, Copy, Default)]
struct Recorded {
    number: u64,
    /// Received so many periods after the first.
    period: u64,
    series_began: bool,
    requests: &'static [Request],
}

/// Frames without a hole.
fn steady(frames: u64) -> Vec<Recorded> {
    (0..frames).map(|n| Recorded { number: n, period: n, series_began: n == 0, ..Recorded::default() }).collect()
}

fn write(path: &Path, frames: &[Recorded]) {
    let about = BTreeMap::from([
        ("frame_bytes_max".to_owned(), (2 * SIDE * SIDE).to_string()),
        ("monotonic_to_unix_ns".to_owned(), TO_UNIX_NS.to_string()),
        ("from_start".to_owned(), "true".to_owned()),
    ]);
    let mut session = SessionWriter::create(path, Compression::None, TO_UNIX_NS, &about, &[]).unwrap();
    let mut arrived = FrameSlot::with_capacity(2 * SIDE * SIDE);
    for (place, frame) in frames.iter().enumerate() {
        fill(&mut arrived.frame, frame, place);
        arrived.requests = Requests::default();
        frame.requests.iter().for_each(|request| arrived.requests.add(request.clone()));
        session.write_frame(&arrived).unwrap();
        if place % 20 == 19 {
            session.flush().unwrap();
        }
    }
    session.finish(BTreeMap::new()).unwrap();
}

/// A blob that drifts and glows, with noise.
fn fill(frame: &mut Frame, recorded: &Recorded, place: usize) {
    let info = &mut frame.info;
    (info.shape, info.pixel_type, info.source) = (Shape::new(1, SIDE, SIDE), PixelType::U16, "rig1".parse().unwrap());
    (info.number, info.series_began) = (recorded.number, recorded.series_began);
    info.t_received_ns = FIRST_NS + recorded.period * PERIOD_NS;
    let ns = (recorded.period * PERIOD_NS) as i64;
    info.t_device = Some(DeviceTime { ns, clock: Clock::Device, stamp: Some(Stamp::Start) });
    let pixel = |at: usize| {
        let (y, x) = ((at / SIDE) as f32, (at % SIDE) as f32);
        let drift = (place % 3) as f32;
        let blob = |cy: f32, cx: f32| 300.0 * (-((y - cy - drift).powi(2) + (x - cx).powi(2)) / 6.0).exp();
        let noise = (at + place * SIDE * SIDE).wrapping_mul(2_654_435_761) >> 9 & 31;
        (100.0 + ((place as f32 * 0.3).sin() + 1.5) * blob(9.0, 20.0) + blob(22.0, 12.0)) as u16 + noise as u16
    };
    let pixels: Vec<u8> = (0..SIDE * SIDE).flat_map(|at| pixel(at).to_ne_bytes()).collect();
    frame.bytes_mut().copy_from_slice(&pixels);
}

fn parameters() -> Parameters {
    Parameters {
        registration: Some(Registration { reach_px: 4, template_frames: 10, ..Registration::default() }),
        baseline: Some(Baseline { average_frames: 3, ..Baseline::default() }),
        normalise: Some(Normalise { warmup_frames: 8, ..Normalise::default() }),
        ..Parameters::default()
    }
}

fn options() -> LoadOptions {
    LoadOptions { parameters: Some(parameters()), window_frames: 8, ..LoadOptions::default() }
}

/// A folder with one session.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new(frames: &[Recorded]) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        write(&lab.path("session.mcap"), frames);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A behaviour of so many rows, one column that counts them.
    fn behaviour(&self, rows: usize) {
        let rows: String = (0..rows).map(|row| format!("{row}\n")).collect();
        self.text("pose.csv", format!("knee\n{rows}"));
    }

    /// One number in a row.
    fn column(&self, name: &str, header: &str, values: impl Iterator<Item = impl ToString>) {
        let rows: String = values.map(|value| format!("{}\n", value.to_string())).collect();
        self.text(name, format!("{header}\n{rows}"));
    }

    fn spec(&self, keys: &str, behaviour_hz: f64) -> Result<DataSpec, DatasetError> {
        self.text(
            "dataset.toml",
            format!(
                "behaviour_rate_hz = {behaviour_hz:?}\n[[trial]]\nanimal = \"a\"\nframes = {{ path = \"session.mcap\" }}\n\
                 behaviour = \"pose.csv\"\n{keys}\n"
            ),
        );
        DataSpec::from_toml(&self.path("dataset.toml"))
    }

    fn load(&self, keys: &str) -> Result<(Dataset, Vec<DataWarning>), DatasetError> {
        load(&self.spec(keys, RATE_HZ)?, &options(), &|_| ())
    }

    fn fault(&self, keys: &str, words: &[&str]) {
        let fault = self.load(keys).expect_err(keys).to_string();
        words.iter().for_each(|word| assert!(fault.contains(word), "{word:?} is not in: {fault}"));
    }
}

/// The model frames of a session by the daemon's preprocessing, driven by hand: values, and whether it was warm.
fn by_hand(frames: &[Recorded], ask: bool) -> Vec<(Vec<f32>, bool)> {
    let mut steps = preprocess::build(&parameters(), Shape::new(1, SIDE, SIDE), RATE_HZ, Device::Cpu).unwrap();
    let mut frame = Frame::with_capacity(2 * SIDE * SIDE);
    let one = |(place, recorded): (usize, &Recorded)| {
        recorded.requests.iter().filter(|_| ask).for_each(|request| steps.request(request.clone()));
        fill(&mut frame, recorded, place);
        let prepared = steps.apply(&frame).unwrap();
        let warm = !prepared.observation.warming_up;
        let Some(Tensor::Host(values)) = prepared.tensor else { panic!("no frame is averaged") };
        (values.to_vec(), warm)
    };
    frames.iter().enumerate().map(one).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn what_was_asked_of_the_daemon_is_asked_again_at_the_same_frame() {
    let mut frames = steady(200);
    frames[60].requests = &[Request::RenewTemplate];
    frames[80].requests = &[Request::ResetBaseline];
    frames[100].requests = &[Request::FreezeNormalisation(true)];
    frames[110].requests = &[Request::FreezeNormalisation(false)];
    frames[140].requests = &[Request::Reset];
    let lab = Lab::new(&frames);
    lab.behaviour(200);
    let (data, warnings) = lab.load("").unwrap();
    let (asked, not_asked) = (by_hand(&frames, true), by_hand(&frames, false));
    let trial = &data.trials[0];
    assert_eq!((data.frame_rate_hz, trial.frames.len()), (RATE_HZ, 200), "its rate is in its stamps");
    for (frame, (values, warm)) in asked.iter().enumerate() {
        assert_eq!(bits(trial.frames.frame(frame)), bits(values), "frame {frame}");
        assert_eq!(trial.usable[frame], *warm, "frame {frame}");
    }
    assert!(asked[59].0 == not_asked[59].0 && asked[90].0 != not_asked[90].0, "the requests change something");
    assert!(trial.usable[139] && !trial.usable[140] && trial.usable[199], "after a reset everything warms up anew");
    let told = |w: &DataWarning| matches!(w, DataWarning::MissingFrames { missing: 0, begins: 1, .. });
    assert!(warnings.iter().any(told), "{warnings:?}");
}

/// Frames 0 to 79, then five lost ones, then 85 to 199.
fn with_hole() -> Vec<Recorded> {
    let later =
        |r: Recorded| if r.number < 80 { r } else { Recorded { number: r.number + 5, period: r.period + 5, ..r } };
    steady(195).into_iter().map(later).collect()
}

#[test]
fn no_window_reaches_over_a_hole_or_a_new_series() {
    let lab = Lab::new(&with_hole());
    lab.behaviour(200);
    let (data, warnings) = lab.load("").unwrap();
    assert!(data.trials[0].usable[79] && !data.trials[0].usable[80] && data.trials[0].usable[81]);
    let now: Vec<usize> = data.samples(8, 0).iter().map(|sample| sample.frame).collect();
    assert!(now.contains(&79) && now.contains(&88) && !now.iter().any(|now| (80..88).contains(now)), "{now:?}");
    let told = |w: &DataWarning| matches!(w, DataWarning::MissingFrames { missing: 5, begins: 0, left_out: 1, .. });
    assert!(warnings.iter().any(told), "{warnings:?}");
    // A tenth of a window may be missing, as the daemon sees it.
    let (data, _) =
        load(&lab.spec("", RATE_HZ).unwrap(), &LoadOptions { window_frames: 60, ..options() }, &|_| ()).unwrap();
    assert!(data.trials[0].usable[80]);

    let mut anew = steady(200);
    anew[100..].iter_mut().for_each(|r| *r = Recorded { number: r.number - 100, series_began: r.number == 100, ..*r });
    let lab = Lab::new(&anew);
    lab.behaviour(200);
    let (data, _) = lab.load("").unwrap();
    assert!(data.trials[0].usable[99] && !data.trials[0].usable[100] && data.trials[0].usable[101]);

    // The numbers go on, the time does not: live the window begins anew with the same frame.
    let mut paused = steady(200);
    paused[100..].iter_mut().for_each(|r| r.period += 15);
    let lab = Lab::new(&paused);
    lab.behaviour(215);
    let (data, warnings) = lab.load("").unwrap();
    let now: Vec<usize> = data.samples(8, 0).iter().map(|sample| sample.frame).collect();
    assert!(now.contains(&99) && now.contains(&108) && !now.iter().any(|now| (100..108).contains(now)), "{now:?}");
    let told = |w: &DataWarning| matches!(w, DataWarning::MissingFrames { missing: 0, begins: 1, left_out: 1, .. });
    assert!(warnings.iter().any(told), "{warnings:?}");
    let mut steps = preprocess::build(&parameters(), Shape::new(1, SIDE, SIDE), RATE_HZ, Device::Cpu).unwrap();
    let mut frame = Frame::with_capacity(2 * SIDE * SIDE);
    let mut restarts = Vec::new();
    for (place, recorded) in paused.iter().enumerate() {
        fill(&mut frame, recorded, place);
        restarts.extend(steps.apply(&frame).unwrap().observation.restart.map(|why| (place, why)));
    }
    assert_eq!(restarts, [(100, Restart::Pause)]);
}

#[test]
fn an_index_and_labels_by_frame_mean_the_numbers_that_the_session_has() {
    let lab = Lab::new(&with_hole());
    lab.behaviour(400);
    // Two behaviour frames for each frame that the microscope took, lost ones too.
    lab.column("index.csv", "index", (0..400).map(|row| row / 2));
    let rows: String = (0..200).map(|n| format!("{n},{}\n", if n < 100 { "rest" } else { "walk" })).collect();
    lab.text("labels.csv", format!("frame,label\n{rows}"));
    let keys = "index = \"index.csv\"\nlabels = \"labels.csv\"\nlabels_per = \"frame\"";
    let (data, warnings) = load(&lab.spec(keys, 2.0 * RATE_HZ).unwrap(), &options(), &|_| ()).unwrap();
    let trial = &data.trials[0];
    for (place, recorded) in with_hole().iter().enumerate() {
        assert_eq!(u64::from(trial.behaviour_at[place]), 2 * recorded.number + 1, "frame {place}");
        assert_eq!(trial.label[place], Some(u8::from(recorded.number >= 100)), "frame {place}");
    }
    assert!(warnings.contains(&DataWarning::LabelsNotSeen { trial: "a/001".into(), count: 5 }), "{warnings:?}");
    lab.text("labels.csv", "frame,label\n200,rest\n");
    lab.fault(
        "index = \"index.csv\"\nlabels = \"labels.csv\"\nlabels_per = \"frame\"",
        &["frame 200", "frame 199 of its session"],
    );

    let mut anew = steady(60);
    anew[30..].iter_mut().for_each(|r| *r = Recorded { number: r.number - 30, series_began: r.number == 30, ..*r });
    let lab = Lab::new(&anew);
    lab.behaviour(60);
    lab.column("index.csv", "index", 0..60);
    lab.fault("index = \"index.csv\"", &["index.csv", "start again", "number 0 after 29", "behaviour_times_s"]);
}

#[test]
fn behaviour_with_time_stamps_finds_its_frame_on_every_clock_without_an_index() {
    let frames = with_hole();
    let lab = Lab::new(&frames);
    lab.behaviour(400);
    // Row r lies a quarter or three quarters into period r / 2; in the hole it belongs to no frame, but for the half period by
    // which a frame may be late.
    let expected: Vec<u32> = frames.iter().map(|r| 2 * r.period as u32 + if r.number == 79 { 2 } else { 1 }).collect();
    let period = 1.0 / RATE_HZ;
    // A frame that was received at a time began one period before.
    let first = FIRST_NS as f64 / 1e9 - period;
    for (clock, zero) in
        [("start", 0.0), ("monotonic", first), ("unix", TO_UNIX_NS as f64 / 1e9 + first), ("device", 0.0)]
    {
        let times = (0..400).map(|row| format!("{:.6}", zero + (f64::from(row) / 2.0 + 0.25) * period));
        lab.column("times.csv", "time_s", times);
        let keys = format!("behaviour_times_s = \"times.csv\"\nframe_clock = \"{clock}\"");
        let (data, _) = load(&lab.spec(&keys, 2.0 * RATE_HZ).unwrap(), &options(), &|_| ()).unwrap();
        assert_eq!(data.trials[0].behaviour_at, expected, "{clock}");
    }
    // Both regular, from the first frame on: the hole is in the session's times.
    let offset = load(&lab.spec("offset_s = 0.0125", 2.0 * RATE_HZ).unwrap(), &options(), &|_| ()).unwrap().0;
    assert_eq!(offset.trials[0].behaviour_at, expected);
    // Labels by seconds lie on the same clock.
    lab.text("bouts.csv", "start_s,stop_s,label\n0.1,2.0,rest\n2.0,9.9,walk\n");
    let keys = "offset_s = 0.0125\nlabels = \"bouts.csv\"";
    let labelled = load(&lab.spec(keys, 2.0 * RATE_HZ).unwrap(), &options(), &|_| ()).unwrap().0;
    // Behaviour frame 79, at 1.975 s, is the last before 2 s, and the newest of frame 39.
    assert_eq!(labelled.trials[0].label[38..42], [Some(0), Some(0), Some(1), Some(1)]);
}

#[test]
fn what_a_session_cannot_answer_is_refused_with_the_reason() {
    let lab = Lab::new(&steady(60));
    lab.behaviour(60);
    lab.column("times.csv", "time_s", (0..60).map(|row| f64::from(row) / RATE_HZ));
    lab.fault("thorsync = \"Episode001.h5\"", &["Episode001.h5", "a/001", "`index` (frame numbers)"]);
    lab.fault("frame_clock = \"unix\"", &["trial[0].frame_clock", "beside `behaviour_times_s`"]);
    lab.fault(
        "behaviour_times_s = \"times.csv\"\nframe_times_s = \"times.csv\"\nframe_clock = \"unix\"",
        &["trial[0].frame_clock", "in place of `frame_times_s`"],
    );
    lab.fault("behaviour_times_s = \"times.csv\"\nframe_clock = \"utc\"", &["utc", "unix"]);
    lab.fault("behaviour_times_s = \"times.csv\"\nframe_clock = \"unix\"", &["no two-photon frame has behaviour"]);
    let toml = std::fs::read_to_string(lab.path("dataset.toml")).unwrap();
    lab.text("dataset.toml", toml.replace("{ path = \"session.mcap\" }", "{ path = \"movie.tif\" }"));
    let fault = DataSpec::from_toml(&lab.path("dataset.toml")).unwrap_err().to_string();
    assert!(fault.contains("frame_clock") && fault.contains(".mcap"), "{fault}");
    lab.text("session.mcap", b"no session");
    lab.fault("", &["session.mcap", "not an MCAP file"]);
}

#[test]
fn a_session_that_was_cut_off_is_learnt_from_as_far_as_it_is_whole_and_that_is_told() {
    let lab = Lab::new(&steady(200));
    lab.behaviour(200);
    let whole = std::fs::read(lab.path("session.mcap")).unwrap();
    lab.text("session.mcap", &whole[..whole.len() / 2]);
    let (data, warnings) = lab.load("").unwrap();
    let frames = data.trials[0].frames.len();
    assert!((60..120).contains(&frames), "{frames}");
    let hand = by_hand(&steady(frames as u64), true);
    (0..frames).for_each(|frame| assert_eq!(bits(data.trials[0].frames.frame(frame)), bits(&hand[frame].0)));
    let told = |w: &DataWarning| w.to_string().contains("was cut off") && matches!(w, DataWarning::Session { .. });
    assert!(warnings.iter().any(told), "{warnings:?}");
}

/// Keeps every tensor that preprocessing makes.
struct Witness {
    inner: Box<dyn Preprocess>,
    tensors: Arc<Mutex<Vec<Vec<u32>>>>,
}

impl Preprocess for Witness {
    fn request(&mut self, request: Request) {
        self.inner.request(request);
    }

    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
        let prepared = self.inner.apply(frame)?;
        if let Some(Tensor::Host(values)) = prepared.tensor {
            self.tensors.lock().unwrap().push(bits(values));
        }
        Ok(prepared)
    }

    fn geometry(&self) -> Option<Geometry> {
        self.inner.geometry()
    }

    fn device(&self) -> &str {
        self.inner.device()
    }
}

/// Keeps every decode.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Decode>>>);

impl Sink for Keeper {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        self.0.lock().unwrap().push(decode.clone());
        Ok(())
    }
}

/// What `embed` makes of a session: the encoder's inputs, and its decodes.
fn embedded(model: &Path, session: &Path) -> (Vec<Vec<u32>>, Vec<Decode>) {
    let config = Config { model: model.into(), ..Config::default() };
    let decoder = Decoder::open(&config).unwrap();
    let (tensors, keeper) = (Arc::<Mutex<Vec<_>>>::default(), Keeper::default());
    let source = Box::new(McapSource::open(session, None).unwrap());
    let decoder = decoder.with_preprocessing(|inner| Box::new(Witness { inner, tensors: tensors.clone() }));
    haltere::corridor::offline::through(&config, decoder, source, Box::new(keeper.clone()), &Handles::default(), false)
        .unwrap();
    let decodes = std::mem::take(&mut *keeper.0.lock().unwrap());
    (std::mem::take(&mut *tensors.lock().unwrap()), decodes)
}

fn run(folder: &Path, line: &str) -> Finished {
    Process::start("haltere", &mut in_folder(folder, line.split(' '))).finish()
}

/// Two acquisitions, the first with every 40th frame lost, and requests in the middle of it.
fn recorded_live(rig: &Rig) -> PathBuf {
    let folder = rig.path("sessions");
    let always =
        ["--record", folder.to_str().unwrap(), "--set", "source.frame_max_mib=1", "--set", "record.queue_frames=256"];
    let daemon = rig.daemon(&[&always[..], &LOSSLESS].concat());
    let mut listener = rig.listen();
    let play =
        |more: &[&str]| rig.play(&[&fly("GC6s.tif")], &[&["--push", "--rate", "30", "--loop", "0"], more].concat());
    let first = play(&["--frames", "200", "--series", "s1", "--skip-every", "40"]);
    for (frame, words) in [(60, ["template", "reset"]), (90, ["baseline", "reset"]), (120, ["normalisation", "freeze"])]
    {
        listener.until("a frame", |m| m.kind == "decode" && m.header["frame"].as_u64() >= Some(frame));
        rig.control(&words).code(0);
    }
    first.finish().code(0);
    play(&["--frames", "60", "--series", "s2"]).finish().code(0);
    listener
        .until("the second series", |m| m.kind == "decode" && m.header["series"] == "s2" && m.header["frame"] == 59);
    daemon.signal(rustix::process::Signal::INT);
    daemon.finish().code(0);
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

/// UTC at which each frame of a session was received, s.
fn received_s(session: &Path) -> Vec<f64> {
    let mut reader = Reader::open(session).unwrap();
    let mut times = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        if let Item::Message { topic: Topic::Frames, unix_ns, data } = item {
            assert!(layout::read(&data).is_ok());
            times.push(unix_ns as f64 / 1e9);
        }
    }
    times
}

#[test]
fn a_session_recorded_live_is_prepared_for_training_as_embed_sees_it_and_a_model_learns_from_it() {
    let model_path = model("sessions", &[0], 0);
    let rig = Rig::new(model_path.clone());
    let session = recorded_live(&rig);
    let begins: Vec<f64> = received_s(&session).iter().map(|time| time - 1.0 / 30.0).collect();
    // A camera of 200 Hz on the same machine, from half a second before to half a second after.
    let (from, to) = (begins[0] - 0.5, begins[begins.len() - 1] + 0.5);
    let cameras: Vec<f64> = (0..).map(|row| from + f64::from(row) / 200.0).take_while(|time| *time < to).collect();
    let lab = Lab(tempfile::tempdir().unwrap());
    std::fs::copy(&session, lab.path("session.mcap")).unwrap();
    let pose: String =
        (0..cameras.len()).map(|row| format!("{},{}\n", (row as f64 * 0.1).sin(), (row as f64 * 0.07).cos())).collect();
    lab.text("pose.csv", format!("knee_x,knee_y\n{pose}"));
    lab.column("camera.csv", "time_s", cameras.iter().map(|time| format!("{time:.6}")));
    let bouts: String = (0..)
        .map(|bout| (bout, from + f64::from(bout)))
        .take_while(|(_, start)| start + 1.0 < to)
        .map(|(bout, start)| format!("{start:.6},{:.6},{}\n", start + 1.0, if bout % 2 == 0 { "rest" } else { "walk" }))
        .collect();
    lab.text("bouts.csv", format!("start_s,stop_s,label\n{bouts}"));
    let keys = "behaviour_times_s = \"camera.csv\"\nframe_clock = \"unix\"\nlabels = \"bouts.csv\"";
    let manifest = Model::load(&model_path).unwrap().manifest;
    let options = LoadOptions {
        parameters: Some(manifest.preprocess.clone()),
        input: Some(manifest.input),
        window_frames: manifest.window_frames,
        ..LoadOptions::default()
    };
    lab.spec(keys, 200.0).unwrap();
    let toml = std::fs::read_to_string(lab.path("dataset.toml")).unwrap();
    lab.text("dataset.toml", format!("frame_rate_hz = 30\n{}", toml.replace(".mcap\" }", ".mcap\", rate_hz = 30 }")));
    let spec = DataSpec::from_toml(&lab.path("dataset.toml")).unwrap();
    let (data, warnings) = load(&spec, &options, &|_| ()).unwrap();
    let told = |w: &DataWarning| matches!(w, DataWarning::MissingFrames { missing, .. } if *missing > 0);
    assert!(warnings.iter().any(told), "{warnings:?}");
    assert_as_embedded(&data, &model_path, &session);
    assert_synchronised(&data, &begins, &cameras, from);
    learns(&lab);
}

/// Frames for training are the encoder's inputs of `embed`, and so are the embeddings of every window that is learnt from.
fn assert_as_embedded(data: &Dataset, model: &Path, session: &Path) {
    let (tensors, decodes) = embedded(model, session);
    let trial = &data.trials[0];
    assert_eq!(trial.frames.len(), tensors.len());
    for (frame, tensor) in tensors.iter().enumerate() {
        assert!(bits(trial.frames.frame(frame)) == *tensor, "frame {frame}");
    }
    let loaded = Model::load(model).unwrap();
    let window = loaded.manifest.window_frames;
    let mut encoder = Encoder::open(&loaded, None, 1).unwrap();
    let mut embedding = encoder.new_embedding();
    let samples = data.samples(window, 0);
    assert!(samples.len() > 60, "{}", samples.len());
    for sample in samples {
        encoder.reset();
        for frame in sample.frame + 1 - window..=sample.frame {
            encoder.encode(&Tensor::Host(trial.frames.frame(frame)), &mut embedding).unwrap();
        }
        assert_eq!(bits(&embedding.values), bits(&decodes[sample.frame].embedding.values), "frame {}", sample.frame);
    }
}

/// The newest camera frame, by a search that knows nothing of the loader's.
fn assert_synchronised(data: &Dataset, begins: &[f64], cameras: &[f64], from: f64) {
    let trial = &data.trials[0];
    let mut newest = vec![NO_BEHAVIOUR; begins.len()];
    for (row, time) in cameras.iter().enumerate() {
        let last = begins.iter().rposition(|begin| *begin <= *time);
        if let Some(frame) = last.filter(|frame| time - begins[*frame] < 1.5 / 30.0) {
            newest[frame] = row as u32;
        }
    }
    // Where a camera frame and a frame begin within the microseconds that a CSV keeps, either may be first.
    let close = |a: u32, b: u32| a == b || (a != NO_BEHAVIOUR && b != NO_BEHAVIOUR && a.abs_diff(b) == 1);
    let same = trial.behaviour_at.iter().zip(&newest).filter(|(a, b)| a == b).count();
    assert!(trial.behaviour_at.iter().zip(&newest).all(|(a, b)| close(*a, *b)), "{:?}\n{newest:?}", trial.behaviour_at);
    assert!(same + 5 > newest.len() && newest.iter().filter(|row| **row != NO_BEHAVIOUR).count() > 200, "{same}");
    for (frame, &row) in trial.behaviour_at.iter().enumerate().filter(|(_, row)| **row != NO_BEHAVIOUR) {
        let since = cameras[row as usize] - from;
        // At the border of two bouts a rounded time may lie on either side; the last bout ends before the cameras do.
        if (since - since.round()).abs() > 1e-3 && since.floor() + 1.01 < cameras[cameras.len() - 1] - from {
            assert_eq!(trial.label[frame], Some(u8::from(since as u32 % 2 == 1)), "frame {frame}");
        }
    }
}

/// `haltere train` on the session, and the daemon's encoder accepts the model.
fn learns(lab: &Lab) {
    let toml = std::fs::read_to_string(lab.path("dataset.toml")).unwrap();
    let (head, trial) = toml.split_once("[[trial]]").unwrap();
    let short = "[preprocess]\nregistration.template_frames = 10\nnormalise.warmup_frames = 10\n";
    lab.text("dataset.toml", format!("{head}{short}[[trial]]{trial}"));
    let small = "--steps 4 --set batch.segments=2 --set batch.windows=2 --set network.widths=[4,8] --set network.window_frames=8";
    let done = run(lab.0.path(), &format!("train --data dataset.toml --name session {small}")).code(0);
    assert!(done.err.contains("its recording lacks"), "{}", done.err);
    let model = Model::load(&lab.path("models/session.toml")).unwrap();
    assert!(model.manifest.provenance.trained && model.manifest.labels == ["rest", "walk"]);
    run(lab.0.path(), "embed session.mcap --model models/session.toml --out again.npy").code(0);
}
