//! The whole corridor on 512×512 u16 with the default untrained model: in this process (what the stages cost), and through
//! real sockets in a closed loop (what they cost between two processes' sockets, one frame at a time).
//!
//! Every run first goes through the warm-up of template, baseline and statistics, which is not timed; that every frame was
//! decoded is asserted. A paced stream is slower per frame than either: `haltere bench` measures that.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haltere::cli::bench::client::Mode;
use haltere::cli::bench::corridor::measure;
use haltere::cli::bench::movie::Movie;
use haltere::cli::training::{InitArguments, init};
use haltere::config::{self, Config, Overload, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles, no_realtime};
use haltere::decoder::Decoder;
use haltere::frame::{Decode, Frame, FrameInfo, PixelType, Shape};
use haltere::model::Kind;
use haltere::publish::{Sink, SinkError};
use haltere::source::{Next, Source, SourceError};
use haltere::sys::clock::now_ns;

const SIDE_PX: usize = 512;
/// Frames until nothing is learnt any more: template with its rounds, moving average, statistics, window.
const WARM_FRAMES: u64 = 800;

/// A movie, over and over.
struct Reel {
    movie: Arc<Vec<Vec<u16>>>,
    next: u64,
    frames: u64,
}

impl Source for Reel {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.frames {
            return Ok(Next::End);
        }
        into.info = FrameInfo {
            shape: Shape::new(1, SIDE_PX, SIDE_PX),
            pixel_type: PixelType::U16,
            number: self.next,
            t_received_ns: now_ns(),
            ..into.info
        };
        into.bytes_mut().copy_from_slice(bytemuck::cast_slice(&self.movie[self.next as usize % self.movie.len()]));
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        2 * SIDE_PX * SIDE_PX
    }
}

/// When the last frame of the warm-up and when the last of all was decoded, and how many were.
#[derive(Default)]
struct Times {
    warm_ns: AtomicU64,
    last_ns: AtomicU64,
    decoded: AtomicU64,
}

struct Clock(Arc<Times>);

impl Sink for Clock {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let now = now_ns();
        if decode.frame.number + 1 == WARM_FRAMES {
            self.0.warm_ns.store(now, Relaxed);
        }
        self.0.last_ns.store(now, Relaxed);
        self.0.decoded.fetch_add(1, Relaxed);
        Ok(())
    }
}

fn in_process(config: &Config, movie: &Arc<Vec<Vec<u16>>>, frames: u64) -> Duration {
    let decoder = Decoder::open(config).unwrap();
    let times = Arc::new(Times::default());
    let handles = Handles::default();
    let settings = corridor::Settings {
        lane: config::Lane { depth_frames: 4, overload: Overload::Wait },
        realtime: no_realtime(Wait::Park),
        ..corridor::Settings::of(&decoder, config)
    };
    let corridor = Corridor {
        source: Box::new(Reel { movie: movie.clone(), next: 0, frames: WARM_FRAMES + frames }),
        decoder,
        sinks: vec![Box::new(Clock(times.clone()))],
        settings,
        handles: handles.clone(),
    };
    corridor::run(corridor, || {}).unwrap();
    assert_eq!(times.decoded.load(Relaxed), WARM_FRAMES + frames, "every frame has a decode");
    // One that is not trusted has that of another frame.
    let encoded = handles.stats.compute.encoded.load(Relaxed);
    assert!(encoded >= frames + WARM_FRAMES / 2, "{encoded} frames were encoded");
    Duration::from_nanos(times.last_ns.load(Relaxed) - times.warm_ns.load(Relaxed))
}

fn closed_loop(config: &Config, movie: &[Vec<u16>], frames: u64) -> Duration {
    let row = measure(config, SIDE_PX, movie, Mode::Closed, frames as usize).unwrap();
    assert_eq!(row.missing, 0, "every frame is answered");
    Duration::from_secs_f64(frames as f64 / row.fps)
}

fn corridor(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let arguments = InitArguments {
        name: "untrained".into(),
        folder: folder.path().into(),
        seed: 1,
        kind: Kind::Streaming,
        input: Shape::new(1, 128, 128),
        channels: vec![0],
        frame_rate_hz: 30.0,
        window_frames: 32,
        force: false,
        runtime: None,
    };
    let model = init(&arguments, &mut std::io::sink()).unwrap();
    let config = Config { model, ..Config::default() };
    let movie = Movie::new(SIDE_PX, 20, 1);
    let movie: Arc<Vec<Vec<u16>>> = Arc::new((0..movie.frames()).map(|n| movie.expose(n, 2.0, 1)).collect());
    let mut group = criterion.benchmark_group("corridor/512px");
    group.throughput(Throughput::Elements(1));
    group.bench_function("in_process", |b| b.iter_custom(|frames| in_process(&config, &movie, frames)));
    group.bench_function("sockets_closed_loop", |b| b.iter_custom(|frames| closed_loop(&config, &movie, frames)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(3));
    targets = corridor
}
criterion_main!(benches);
