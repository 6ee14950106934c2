//! Invariant 2: nothing allocates after warm-up on the frame path.
//!
//! Method: an allocator that counts every call of every thread of this process but the test's own, around 10 and around
//! 10,000 frames. The corridor is the daemon's: ZeroMQ in, ZeroMQ out, supervisor, heartbeats, status. The microscope and
//! the listener are processes of their own or not there, so that nothing of theirs is counted. What ONNX Runtime and
//! libzmq take inside is C++ and not seen here.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, unsafe_code)]

#[path = "support/corridor.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use haltere::config::{self, Attach, Overload, Pattern, Wait};
use haltere::pipeline::{self, Corridor, Line, PreviewSettings, Settings};
use haltere::publish::zmq::ZmqSink;
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
    if !APART.with(Cell::get) {
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

fn wait_for(line: &Line, frames: u64) {
    let until = Instant::now() + Duration::from_secs(GIVE_UP_S);
    while line.stats.publish.published.load(Relaxed) < frames {
        assert!(Instant::now() < until, "{} of {frames} decodes", line.stats.publish.published.load(Relaxed));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Calls of the allocator while at least so many frames are decoded.
fn calls_in(line: &Line, frames: u64) -> u64 {
    let published = line.stats.publish.published.load(Relaxed);
    let before = CALLS.load(Relaxed);
    wait_for(line, published + frames);
    CALLS.load(Relaxed) - before
}

#[test]
fn ten_frames_allocate_as_much_as_ten_thousand_and_that_is_nothing() {
    APART.with(|apart| apart.set(true));
    for overload in [Overload::Wait, Overload::SkipToLatest] {
        measure(overload);
    }
}

fn measure(overload: Overload) {
    // With novelty and drift: what a trained model adds to the frame path.
    let small = Small::strange();
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
    let line = Line::default();
    let decoder = small.decoder();
    let sink = ZmqSink::bind(&publish, settings.rig, decoder.tag(), line.stats.clone(), vec!["a warning".into()]);
    let source = ZmqSource::open(&source, settings.rig, Wait::Park).unwrap();
    let settings = support::settings(&decoder, overload, 4, Wait::Park);
    // Pictures as often as they can be had.
    let preview = settings.preview.map(|preview| PreviewSettings { every: Duration::from_millis(1), ..preview });
    assert!(preview.is_some());
    let settings = Settings { preview, ..settings };
    let sinks = vec![Box::new(sink.unwrap()) as _];
    let corridor = Corridor { settings, ..support::corridor(decoder, Box::new(source), sinks, &line) };
    let listener = Process::start(&["watch", "--json", "--endpoint", &decodes_at]);
    let movie = movie.to_str().unwrap();
    let args = ["play", movie, "--raw", RAW, "--push", "--flood", "--loop", "0", "--endpoint", &frames_at];
    let microscope = Process::start(&args);
    std::thread::scope(|threads| {
        let daemon = threads.spawn(|| {
            pipeline::run(corridor, || {
                // As the daemon does, without writing a line.
                while line.log.pop().is_some() {}
            })
        });
        wait_for(&line, WARM_FRAMES);
        let few = calls_in(&line, 10);
        let many = calls_in(&line, 10_000);
        drop((microscope, listener));
        line.stop.store(true, Relaxed);
        daemon.join().unwrap().unwrap();
        assert_eq!((few, many), (0, 0), "calls of the allocator during 10 and during 10,000 frames, {overload:?}");
    });
    assert!(CALLS.load(Relaxed) > 100, "the counter counts");
    let skipped = line.stats.compute.skipped.load(Relaxed);
    assert!(skipped == 0 || overload == Overload::SkipToLatest, "{skipped} skipped");
}
