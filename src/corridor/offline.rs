//! `haltere embed`: a recording through the daemon's own corridor, as fast as it goes, into a file.
//!
//! Why it exists: what was decoded live must come out again offline, bit for bit. So nothing here computes: it opens a
//! file instead of a socket, lets the lane wait instead of skip, and writes instead of publishing.
//! What it must never do: have a code path of its own between frame and embedding.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::{Config, Overload, Wait};
use crate::corridor;
use crate::corridor::summary::Report;
use crate::corridor::{Corridor, Line, Settings};
use crate::decoder::Decoder;
use crate::publish::Sink;
use crate::publish::npy::NpySink;
use crate::source::Source;

/// Frames that may wait for the encoder.
const DEPTH_FRAMES: usize = 8;

/// Decodes `recording` into `out` (and a table beside it), and says what was done.
///
/// # Errors
/// What could not be opened, or the stage that failed.
pub fn embed(
    config: &Config,
    decoder: Decoder,
    recording: Box<dyn Source>,
    out: &Path,
    table: Option<&Path>,
    progress: bool,
) -> anyhow::Result<Report> {
    let line = Line::default();
    corridor::supervisor::stop_on_signals(&line.stop)?;
    let manifest = decoder.model.manifest.clone();
    let said = (manifest.labels.as_slice(), manifest.provenance.trained);
    let sink = NpySink::create(out, table, manifest.embedding, said)?;
    through(config, decoder, recording, Box::new(sink), &line, progress)
}

/// Every frame of a recording through the corridor, as fast as it goes, into one sink: what `embed` and `calibrate` are made of.
///
/// # Errors
/// The stage that failed.
pub fn through(
    config: &Config,
    decoder: Decoder,
    recording: Box<dyn Source>,
    sink: Box<dyn Sink>,
    line: &Line,
    progress: bool,
) -> anyhow::Result<Report> {
    let name = decoder.model.manifest.name.clone();
    let settings = Settings {
        lane: crate::config::Lane { depth_frames: DEPTH_FRAMES, overload: Overload::Wait },
        realtime: corridor::no_realtime(Wait::Park),
        preview: None,
        ..decoder.settings(config)
    };
    let bar = progress_bar(recording.frames_total(), progress);
    let began = Instant::now();
    let corridor = Corridor {
        source: recording,
        preprocess: decoder.preprocess,
        encoder: decoder.encoder,
        sinks: vec![sink],
        settings,
        line: line.clone(),
    };
    let ended = corridor::run(corridor, || {
        bar.set_position(line.stats.compute.preprocessed.load(Relaxed));
        while let Some(event) = line.log.pop() {
            bar.suspend(|| tracing::info!("{event}"));
        }
    });
    bar.finish_and_clear();
    ended?;
    Ok(Report::of(&line.stats, &name, began.elapsed()))
}

/// A bar of frames, on standard error if `shown`.
pub fn progress_bar(frames: Option<u64>, shown: bool) -> ProgressBar {
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(frames, target);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} frames, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
