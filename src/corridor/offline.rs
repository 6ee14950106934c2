//! `haltere embed`: a recording through the daemon's own corridor, as fast as it goes, into a file.
//!
//! Why it exists: what was decoded live must come out again offline, bit for bit. So nothing here computes: it opens a
//! file instead of a socket, lets the lane wait instead of skip, and writes instead of publishing.
//! What it must never do: have a code path of its own between frame and embedding.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::config::{Config, Overload, Wait};
use crate::corridor;
use crate::corridor::summary::Report;
use crate::corridor::{Corridor, Handles, Settings};
use crate::decoder::Decoder;
use crate::publish::Sink;
use crate::publish::npy::NpySink;
use crate::source::Source;
use crate::sys::progress::progress_bar;
use crate::sys::signals;

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
    let handles = Handles::default();
    signals::stop_on_signals(&handles.stop)?;
    let manifest = decoder.model.manifest.clone();
    let said = (manifest.labels.as_slice(), manifest.provenance.trained);
    let sink = NpySink::create(out, table, manifest.embedding, said)?;
    through(config, decoder, recording, Box::new(sink), &handles, progress)
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
    handles: &Handles,
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
        handles: handles.clone(),
    };
    let ended = corridor::run(corridor, || {
        bar.set_position(handles.stats.compute.preprocessed.load(Relaxed));
        while let Some(event) = handles.log.pop() {
            bar.suspend(|| tracing::info!("{event}"));
        }
    });
    bar.finish_and_clear();
    ended?;
    Ok(Report::of(&handles.stats, &name, began.elapsed()))
}
