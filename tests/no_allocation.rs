//! Invariant 2: nothing allocates after warm-up on the frame path.
//!
//! Method: an allocator that counts every call of every thread of this process but the test's own, around 10 and around
//! 10,000 frames. The corridor is the daemon's: ZeroMQ in, ZeroMQ out, supervisor, heartbeats, status. The microscope and
//! the listener are processes of their own or not there, so that nothing of theirs is counted. What ONNX Runtime and
//! libzmq take inside is C++ and not seen here.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, unsafe_code)]

#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/corridor.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use emulator::{Emulator, Order};
use haltere::config::Compression;
use haltere::config::{self, Attach, Overload, Pattern, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles, PreviewSettings, Settings};
use haltere::cuda::Machine;
use haltere::decoder::Decoder;
use haltere::publish::decisions::RuleTable;
use haltere::publish::zmq::ZmqSink;
use haltere::session::recorder::{About, Buffers, Recorder};
use haltere::source::ZmqSource;
use support::{GIVE_UP_S, Process, RAW, Small};

struct Counting;

/// Calls of the allocator by threads that count.
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Does this thread not count? Only the one that drives the test.
    static APART: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    // The main thread of the process belongs to the test harness, which after a minute says that a test takes long.
    let harness = rustix::thread::gettid() == rustix::process::getpid();
    if !harness && !APART.with(Cell::get) {
        CALLS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches an atomic and a thread-local without a
// destructor, neither of which allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames before the first count: template, baseline, statistics, window, and every buffer's first use.
const WARM_FRAMES: u64 = 300;

fn wait_for(handles: &Handles, frames: u64) {
    let until = Instant::now() + Duration::from_secs(GIVE_UP_S);
    while handles.stats.publish.published.load(Relaxed) < frames {
        assert!(Instant::now() < until, "{} of {frames} decodes", handles.stats.publish.published.load(Relaxed));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Calls of the allocator while at least so many frames are decoded.
fn calls_in(handles: &Handles, frames: u64) -> u64 {
    let published = handles.stats.publish.published.load(Relaxed);
    let (before, encoded) = (CALLS.load(Relaxed), handles.stats.compute.encoded.load(Relaxed));
    wait_for(handles, published + frames);
    let calls = CALLS.load(Relaxed) - before;
    // A frame that is not trusted is published without being encoded, and would show little.
    let encoded = handles.stats.compute.encoded.load(Relaxed) - encoded;
    assert!(encoded >= frames * 9 / 10, "{encoded} of {frames} frames were encoded");
    calls
}

#[test]
fn ten_frames_allocate_as_much_as_ten_thousand_and_that_is_nothing() {
    APART.with(|apart| apart.set(true));
    for overload in [Overload::Wait, Overload::SkipToLatest] {
        measure(overload, None, None);
    }
}

/// The recorder's own thread may do as it likes; what is counted is the frame path, with the recorder keeping up and with a
/// recorder whose disk has stopped.
#[test]
fn recording_allocates_nothing_on_the_frame_path_whether_the_disk_keeps_up_or_not() {
    APART.with(|apart| apart.set(true));
    for keeps_up in [true, false] {
        measure(Overload::Wait, Some(keeps_up), None);
    }
}

/// What surrounds the kernels and the session on a device: tensors by address, programs, verdicts. The emulator itself allocates
/// nothing while it runs, either.
#[test]
fn a_device_allocates_nothing_on_the_frame_path() {
    APART.with(|apart| apart.set(true));
    measure(Overload::Wait, None, Some(Emulator::open(Order::Forward)));
}

/// Pictures as often as they can be had.
fn often_pictured(settings: Settings) -> Settings {
    let preview = settings.preview.map(|preview| PreviewSettings { every: Duration::from_millis(1), ..preview });
    assert!(preview.is_some());
    Settings { preview, ..settings }
}

fn measure(overload: Overload, record: Option<bool>, device: Option<Arc<dyn Machine>>) {
    // One count for the whole process: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // With novelty and drift, and on the CPU an atlas: what a trained model adds to the frame path.
    let small = if device.is_some() { Small::strange() } else { Small::strange_on_an_atlas() };
    let movie = small.folder.path().join("movie.raw");
    support::write_raw(&movie, 600);
    let (frames_at, decodes_at) = (small.endpoint("frames"), small.endpoint("decodes"));
    let settings = small.config();
    let source = config::Source {
        endpoint: frames_at.clone(),
        pattern: Pattern::Pull,
        attach: Attach::Connect,
        ..settings.source.clone()
    };
    // Often enough that heartbeats and status fall into both counts.
    let (heartbeat, status) = (Duration::from_millis(10), Duration::from_millis(100));
    let publish = config::Publish { endpoint: decodes_at.clone(), heartbeat, status, ..settings.publish.clone() };
    let mut handles = Handles::default();
    // The emulator runs the threads of a device one after the other.
    let many_frames = if device.is_some() { 1_000 } else { 10_000 };
    let decoder = device.map_or_else(|| small.decoder(), |machine| small.decoder_on(&machine));
    let (tag, warnings) = (decoder.tag().clone(), vec!["a warning".into()]);
    let (decision, table) = (support::rules(), RuleTable::new(&support::rules(), &tag));
    let sink = ZmqSink::bind(&publish, settings.rig, tag, handles.stats.clone(), warnings);
    let sink = sink.unwrap().deciding(table);
    let (sink, writer) = match record {
        Some(keeps_up) => recorded(&small, &decoder, sink, &mut handles, keeps_up),
        None => (sink, None),
    };
    let source = ZmqSource::open(&source, settings.rig, Wait::Park).unwrap();
    let settings = support::settings(&decoder, overload, 4, Wait::Park);
    let settings = Settings { decision, ..often_pictured(settings) };
    let sinks = vec![Box::new(sink) as _];
    let corridor = Corridor { settings, ..support::corridor(decoder, Box::new(source), sinks, &handles) };
    let listener = Process::start(&["watch", "--json", "--endpoint", &decodes_at]);
    let movie = movie.to_str().unwrap();
    let args = ["play", movie, "--raw", RAW, "--push", "--flood", "--loop", "0", "--endpoint", &frames_at];
    let microscope = Process::start(&args);
    std::thread::scope(|threads| {
        let daemon = threads.spawn(|| {
            corridor::run(corridor, || {
                // As the daemon does, without writing a line.
                while handles.log.pop().is_some() {}
            })
        });
        wait_for(&handles, WARM_FRAMES);
        let few = calls_in(&handles, 10);
        let many = calls_in(&handles, many_frames);
        drop((microscope, listener));
        handles.stop.store(true, Relaxed);
        daemon.join().unwrap().unwrap();
        if let (Some(recorder), Some(writer)) = (&handles.recorder, writer) {
            recorder.end();
            writer.join().unwrap();
        }
        assert_eq!((few, many), (0, 0), "calls of the allocator in 10 and in {many_frames} frames, {overload:?}");
    });
    look_back(&handles, overload, record);
}

/// Was it what the test says it was?
fn look_back(handles: &Handles, overload: Overload, record: Option<bool>) {
    let rules = &handles.stats.decisions.rules;
    assert!(rules[..2].iter().all(|rule| rule.outputs.load(Relaxed) > 3), "{rules:?}");
    assert!(CALLS.load(Relaxed) > 100, "the counter counts");
    let stats = &handles.stats.record;
    let (kept, lost) = (stats.frames.load(Relaxed), stats.frames_lost_queue.load(Relaxed));
    match record {
        None => assert_eq!((kept, lost), (0, 0)),
        Some(true) => assert!(kept > 5_000, "{kept} recorded, {lost} lost"),
        Some(false) => assert!(lost > 10_000, "{kept} recorded, {lost} lost"),
    }
    let skipped = handles.stats.compute.skipped.load(Relaxed);
    assert!(skipped == 0 || overload == Overload::SkipToLatest, "{skipped} skipped");
}

/// A recorder with its thread, which is not counted; without a thread its disk has stopped.
fn recorded(
    small: &Small,
    decoder: &Decoder,
    sink: ZmqSink,
    handles: &mut Handles,
    keeps_up: bool,
) -> (ZmqSink, Option<JoinHandle<()>>) {
    let folder = Some(small.folder.path().join("sessions"));
    let record =
        config::Record { folder, at_start: true, frames: true, queue_frames: 64, compression: Compression::None };
    let buffers = Buffers { frame_bytes_max: 1 << 14, decode: &decoder.new_decode() };
    let (stats, events) = (handles.stats.clone(), handles.events.clone());
    let (recorder, mut worker) = Recorder::new(&record, buffers, About::default(), stats, events);
    worker.start().unwrap();
    handles.recorder = Some(recorder.clone());
    let writer = std::thread::spawn(move || {
        APART.with(|apart| apart.set(true));
        if keeps_up {
            worker.run();
        }
    });
    (sink.witnessed_by(Box::new(recorder)), Some(writer))
}
