//! The whole daemon under load, over real sockets: paced, closed loop, flood.
//!
//! Why it exists: the sum of the stages is not the latency of a rig; sockets and waking up belong to it. The client of
//! [`super::client`] talks to a corridor that is assembled exactly as `haltere run` assembles it.
//! What it must never do: quote the closed loop as the latency of a rig; a paced stream is slower, because every stage
//! takes longer after 25 ms of idling.

use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;

use crate::config::{Attach, Config, Overload, Pattern};
use crate::corridor;
use crate::corridor::summary::distrusted;
use crate::corridor::{Corridor, Handles};
use crate::decoder::Decoder;
use crate::frame::Shape;
use crate::publish::zmq::ZmqSink;
use crate::source::zmq::ZmqSource;
use crate::sys::counters::Quantiles;

use super::client::{Client, MEET_S, Measured, Mode, quantile};

/// Frames before a measurement that are sent alike and not measured.
const WARM_FRAMES: usize = 60;

/// One run under one load.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// `paced 30 Hz`, `closed loop`, `flood`.
    pub load: String,
    /// Frames sent.
    pub sent: usize,
    /// Frames never answered; they are in no percentile.
    pub missing: usize,
    /// From the intended send to the receipt of the decode, µs: p50, p90, p99, p99.9, max.
    pub latency_us: [f64; 5],
    /// Decodes per second.
    pub fps: f64,
    /// Latencies over one period of a paced stream.
    pub late: usize,
    /// How late the sender itself was, 99 %, µs.
    pub sender_lag_p99_us: f64,
    /// Stages of the daemon in this run: name, p50, p99, p99.9, max, µs.
    pub stages: Vec<(&'static str, [f64; 4])>,
}

/// Measures one load: a daemon of its own, a client of its own, `count` frames after the warm-up of template and
/// baseline.
///
/// # Errors
/// When the daemon cannot be opened, a socket fails, or a frame was not decoded.
pub fn measure(config: &Config, side: usize, frames: &[Vec<u16>], mode: Mode, count: usize) -> anyhow::Result<Row> {
    let config = on_free_ports(config)?;
    let decoder = Decoder::open(&config)?;
    let warm = warm_frames(&decoder) + WARM_FRAMES;
    let shape = Shape::new(1 + decoder.model().manifest.preprocess.last_channel(), side, side);
    let handles = Handles::default();
    let source =
        ZmqSource::open(&config.source, config.rig, config.realtime.wait)?.silent_after(config.publish.deadline);
    let sink = ZmqSink::bind(&config.publish, config.rig, decoder.tag().clone(), handles.stats.clone(), Vec::new())?;
    let corridor = Corridor {
        source: Box::new(source),
        settings: corridor::Settings::of(&decoder, &config),
        decoder,
        sinks: vec![Box::new(sink)],
        handles: handles.clone(),
    };
    // The first frames may show too little of a picture; those that are timed must be decoded.
    let mut before = handles.stats.distrusted();
    std::thread::scope(|threads| {
        let daemon = threads.spawn(|| corridor::run(corridor, || {}));
        let measured = (|| {
            let mut client = Client::open(&config.source.endpoint, &config.publish.endpoint, shape, frames)?;
            client.meet()?;
            client.measure(Mode::Closed, 0, warm)?;
            clear(&handles);
            before = handles.stats.distrusted();
            client.measure(mode, 0, count)
        })();
        handles.stop.store(true, Relaxed);
        let ended = daemon.join().map_err(|_| anyhow::anyhow!("the daemon thread panicked"))?;
        ended.context("the corridor under test failed")?;
        let doubts = distrusted(&handles.stats);
        anyhow::ensure!(handles.stats.distrusted() == before, "frames were not trusted and so not encoded: {doubts:?}");
        let measured = measured.map_err(|error| match error {
            zmq::Error::EAGAIN => anyhow::anyhow!(
                "no frame of the bench was decoded within {MEET_S} s: `haltere check` says what the model needs"
            ),
            error => anyhow::Error::new(error).context("client of the bench"),
        })?;
        Ok(row(mode, &measured, &handles))
    })
}

/// Frames until the decodes are no longer warm-up.
pub(super) fn warm_frames(decoder: &Decoder) -> usize {
    decoder.model().manifest.stream_warm_up_frames()
}

/// The same configuration with sockets of its own.
fn on_free_ports(config: &Config) -> anyhow::Result<Config> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let mut config = config.clone();
    config.source.endpoint = format!("tcp://{}", listeners[0].local_addr()?);
    config.source.pattern = Pattern::Pull;
    config.source.attach = Attach::Connect;
    config.lane.overload = Overload::Wait;
    config.publish.endpoint = format!("tcp://{}", listeners[1].local_addr()?);
    Ok(config)
}

fn clear(handles: &Handles) {
    // The corridor is idle: the client waits for nothing and sends nothing.
    let stats = &handles.stats;
    for histogram in [&stats.compute.queue, &stats.compute.preprocess, &stats.compute.encode, &stats.publish.total] {
        histogram.clear();
    }
}

fn row(mode: Mode, measured: &Measured, handles: &Handles) -> Row {
    let us = |ns: u64| ns as f64 / 1e3;
    let load = match mode {
        Mode::Paced(hz) => format!("paced {hz} Hz"),
        Mode::Closed => "closed loop".to_owned(),
        Mode::Flood => "flood".to_owned(),
    };
    let period_ns = if let Mode::Paced(hz) = mode { (1e9 / hz) as u64 } else { u64::MAX };
    let stats = &handles.stats;
    let stage = |q: Quantiles| [q.p50_ns, q.p99_ns, q.p999_ns, q.max_ns].map(us);
    Row {
        load,
        sent: measured.sent,
        missing: measured.sent - measured.latency_ns.len(),
        latency_us: [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| us(quantile(&measured.latency_ns, share))),
        fps: measured.fps,
        late: measured.latency_ns.iter().filter(|ns| **ns > period_ns).count(),
        sender_lag_p99_us: us(measured.sender_lag_p99_ns),
        stages: vec![
            ("queue", stage(stats.compute.queue.quantiles())),
            ("preprocess", stage(stats.compute.preprocess.quantiles())),
            ("encode", stage(stats.compute.encode.quantiles())),
            ("total", stage(stats.publish.total.quantiles())),
        ],
    }
}
