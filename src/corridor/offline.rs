//! Recordings through the daemon's own corridor, as fast as it goes: into a file (`embed`), into rows (`diff`), into arrays
//! (`calibrate`).
//!
//! Why it exists: what was decoded live must come out again offline, bit for bit. So nothing here computes: it opens a
//! file instead of a socket, lets the lane wait instead of skip, and writes instead of publishing.
//! What it must never do: have a code path of its own between frame and embedding.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::summary::{Summary, distrusted};
use super::{Corridor, Handles, Settings, no_realtime};
use crate::config::{Config, Lane, Overload, Wait};
use crate::decide::Rules;
use crate::decoder::{Decoder, Embeddings};
use crate::frame::event::Event;
use crate::frame::{Decode, Frame, Requests, Sentence};
use crate::model::Manifest;
use crate::publish::decisions::RuleTable;
use crate::publish::npy::NpySink;
use crate::publish::{Sink, SinkError};
use crate::session::messages::DecisionRecord;
use crate::session::rows::{Row, Rows};
use crate::source::mcap::McapSource;
use crate::source::{Next, Source, SourceError};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::progress::{FRAMES, progress_bar};
use crate::sys::signals;

/// Frames that may wait for the encoder.
const DEPTH_FRAMES: usize = 8;
/// Most decodes that are held in memory: nine hours at 30 Hz.
const DECODES_MAX: usize = 1_000_000;

/// Decodes `recording` into `out` (and a table beside it), and returns what was done.
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
) -> anyhow::Result<Summary> {
    let handles = Handles::default();
    signals::stop_on_signals(&handles.stop)?;
    let manifest = decoder.model().manifest.clone();
    let sink = NpySink::create(out, table, decoder.tag())?;
    let summary = through(config, decoder, recording, Box::new(sink), &handles, progress)?;
    expect_warm(&handles, &manifest)?;
    Ok(summary)
}

/// Decodes the frames of a session again, with this configuration's model, and decides again with its rules.
///
/// # Errors
/// The model, or the stage that failed.
pub fn decoded_again(
    session: &Path,
    config: &Config,
    progress: bool,
) -> anyhow::Result<(Vec<Row>, Vec<DecisionRecord>)> {
    let decoder = Decoder::open(config)?;
    let source = McapSource::open(session, None)?;
    let handles = Handles::default();
    signals::stop_on_signals(&handles.stop)?;
    let keeper = Keeper::new(Rows::deciding(RuleTable::new(&config.decision, decoder.tag())));
    let (kept, manifest) = (keeper.kept.clone(), decoder.model().manifest.clone());
    through(config, decoder, Box::new(source), Box::new(keeper), &handles, progress)?;
    expect_warm(&handles, &manifest)?;
    Ok(taken(&kept).into_all())
}

/// Every embedding of a recording, with its frame's number and its quality.
///
/// # Errors
/// The stage that failed, a recording that is too long to be held, or that it was interrupted.
pub fn embeddings(
    config: &Config,
    decoder: Decoder,
    recording: Box<dyn Source>,
    progress: bool,
) -> anyhow::Result<Embeddings> {
    let handles = Handles::default();
    signals::stop_on_signals(&handles.stop)?;
    let keeper = Keeper::new(Embeddings { frame_rate_hz: recording.frame_rate_hz(), ..Embeddings::default() });
    let kept = keeper.kept.clone();
    let source = Box::new(Spanned { source: recording, into: kept.clone() });
    // Nothing is decided with them, and a model that is yet to be made may lack the actions that rules name.
    let config = &Config { decision: Rules::default(), ..config.clone() };
    through(config, decoder, source, Box::new(keeper), &handles, progress)?;
    if handles.stop.load(Relaxed) {
        let what = "interrupted: nothing was written".to_owned();
        return Err(Failure { code: ExitCode::Interrupted, what }.into());
    }
    Ok(taken(&kept))
}

/// Every frame of a recording through the corridor, as fast as it goes, into one sink: what everything here is made of.
///
/// # Errors
/// The stage that failed, or a recording of which no frame could be taken, with the first reason.
pub fn through(
    config: &Config,
    decoder: Decoder,
    recording: Box<dyn Source>,
    sink: Box<dyn Sink>,
    handles: &Handles,
    progress: bool,
) -> anyhow::Result<Summary> {
    let name = decoder.model().manifest.name.clone();
    let settings = Settings {
        lane: Lane { depth_frames: DEPTH_FRAMES, overload: Overload::Wait },
        realtime: no_realtime(Wait::Park),
        preview: None,
        // What a name changes is recorded as requests; nothing is saved.
        keeps_animals: false,
        ..Settings::of(&decoder, config)
    };
    let bar = progress_bar(recording.frames_total(), progress, FRAMES);
    let began = Instant::now();
    let corridor = Corridor { source: recording, decoder, sinks: vec![sink], settings, handles: handles.clone() };
    let mut refusal = None;
    let ended = super::run(corridor, || {
        bar.set_position(handles.stats.compute.preprocessed.load(Relaxed));
        while let Some(event) = handles.log.pop() {
            if let Event::Rejected { message, .. } = event {
                refusal.get_or_insert(message);
            }
            bar.suspend(|| tracing::info!("{event}"));
        }
    });
    bar.finish_and_clear();
    ended?;
    expect_frames(handles, refusal)?;
    Ok(Summary::of(&handles.stats, &name, began.elapsed()))
}

/// A result of no frame is not a result.
fn expect_frames(handles: &Handles, refusal: Option<Sentence>) -> anyhow::Result<()> {
    if handles.stats.compute.preprocessed.load(Relaxed) > 0 || handles.stop.load(Relaxed) {
        return Ok(());
    }
    let refused: u64 = handles.stats.rejected().iter().sum();
    let why = refusal.map_or_else(|| "it contains none".to_owned(), |why| format!("all {refused} were refused: {why}"));
    Err(Failure { code: ExitCode::Source, what: format!("no frame of the recording was decoded: {why}") }.into())
}

/// Nor is one of the warm-up alone.
fn expect_warm(handles: &Handles, manifest: &Manifest) -> anyhow::Result<()> {
    if handles.stats.compute.warm.load(Relaxed) > 0 || handles.stop.load(Relaxed) {
        return Ok(());
    }
    let frames = handles.stats.compute.preprocessed.load(Relaxed);
    let what = format!(
        "the recording ends within the warm-up: none of its {frames} frames has a decode that can be trusted{}. Template and \
         statistics must be learnt and a window of {} frames filled first; give a longer recording, or shorten \
         `registration.template_frames` and `normalise.warmup_frames` in the manifest",
        doubts(handles),
        manifest.stream_window_frames()
    );
    Err(Failure { code: ExitCode::Source, what }.into())
}

/// Frames that were not believed, by reason: ` (not tissue: 40 blank)`.
fn doubts(handles: &Handles) -> String {
    let told: Vec<String> =
        distrusted(&handles.stats).iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if told.is_empty() { String::new() } else { format!(" (not tissue: {})", told.join(", ")) }
}

/// Takes decodes in, one after the other.
trait Collect: Default + Send {
    fn decode(&mut self, decode: &Decode) -> Result<(), SinkError>;
}

impl Collect for Rows {
    fn decode(&mut self, decode: &Decode) -> Result<(), SinkError> {
        self.push(decode);
        Ok(())
    }
}

impl Collect for Embeddings {
    fn decode(&mut self, decode: &Decode) -> Result<(), SinkError> {
        if self.len() == DECODES_MAX {
            let cause =
                format!("the recording has more than {DECODES_MAX} frames; use --frames to take only a part of it");
            return Err(SinkError { sink: "calibrate".into(), cause });
        }
        self.push(decode);
        Ok(())
    }
}

/// A sink that keeps what is collected, for when the corridor has ended.
struct Keeper<T> {
    kept: Arc<Mutex<T>>,
}

impl<T> Keeper<T> {
    fn new(kept: T) -> Self {
        Self { kept: Arc::new(Mutex::new(kept)) }
    }
}

impl<T: Collect> Sink for Keeper<T> {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).decode(decode)
    }
}

fn taken<T: Collect>(kept: &Mutex<T>) -> T {
    std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Notes the numbers of the frames that pass.
struct Spanned {
    source: Box<dyn Source>,
    into: Arc<Mutex<Embeddings>>,
}

impl Source for Spanned {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let next = self.source.next(into)?;
        if next == Next::Frame {
            self.into.lock().unwrap_or_else(PoisonError::into_inner).widen(into.info.number);
        }
        Ok(next)
    }

    fn requests(&self) -> Requests {
        self.source.requests()
    }

    fn frame_bytes_max(&self) -> usize {
        self.source.frame_bytes_max()
    }

    fn frames_total(&self) -> Option<u64> {
        self.source.frames_total()
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.source.frame_rate_hz()
    }
}
