//! A recording through the corridor into memory: every embedding with its frame's number and its quality.
//!
//! Why it exists: calibration looks at minutes, not at frames. What it must never do: compute anything; it is a sink.

use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Array2;

use crate::config::Config;
use crate::corridor::Handles;
use crate::corridor::offline;
use crate::decoder::Decoder;
use crate::frame::{Decode, Frame, Quality};
use crate::publish::{Sink, SinkError};
use crate::source::{Next, Source, SourceError};
use crate::sys::exit::{ExitCode, Failure};

/// Most embeddings that are held: nine hours at 30 Hz.
pub(super) const DECODES_MAX: usize = 1_000_000;

/// What a recording gave.
pub(super) struct Gathered {
    /// Embeddings of quality ok, `[moments, dimensions]`.
    pub good: Array2<f32>,
    /// Of each of them, its place among all decodes.
    pub at: Vec<usize>,
    /// Of each of them, its frame's number.
    pub number: Vec<u64>,
    /// Numbers of the recording's first and last frame.
    pub span: (u64, u64),
    /// Every embedding, of whatever quality, in order.
    pub all: Vec<f32>,
}

#[derive(Default)]
struct Kept {
    values: Vec<f32>,
    decodes: Vec<(u64, Quality)>,
}

struct Keeper(Arc<Mutex<Kept>>);

impl Sink for Keeper {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.decodes.len() == DECODES_MAX {
            let cause = format!("the recording has more than {DECODES_MAX} frames; --frames takes a part of it");
            return Err(SinkError { sink: "calibrate".into(), cause });
        }
        kept.values.extend_from_slice(&decode.embedding.values);
        kept.decodes.push((decode.frame.number, decode.quality));
        Ok(())
    }
}

/// Notes the numbers of the frames that pass.
struct Noting {
    source: Box<dyn Source>,
    span: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Source for Noting {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let next = self.source.next(into)?;
        if next == Next::Frame {
            let number = into.info.number;
            let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
            *span = Some(span.map_or((number, number), |(first, last)| (first.min(number), last.max(number))));
        }
        Ok(next)
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

/// Runs the recording through the decoder.
pub(super) fn gather(
    config: &Config,
    decoder: Decoder,
    recording: Box<dyn Source>,
    progress: bool,
) -> anyhow::Result<Gathered> {
    let (kept, span) = (Arc::new(Mutex::new(Kept::default())), Arc::default());
    let width = decoder.model.manifest.embedding;
    let window = decoder.model.manifest.window_frames * decoder.model.manifest.preprocess.average_frames;
    let source = Box::new(Noting { source: recording, span: Arc::clone(&span) });
    let handles = Handles::default();
    crate::sys::signals::stop_on_signals(&handles.stop)?;
    offline::through(config, decoder, source, Box::new(Keeper(Arc::clone(&kept))), &handles, progress)?;
    if handles.stop.load(std::sync::atomic::Ordering::Relaxed) {
        let what = "interrupted: nothing was written".to_owned();
        return Err(Failure { code: ExitCode::Interrupted, what }.into());
    }
    let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    let span = *span.lock().unwrap_or_else(PoisonError::into_inner);
    let good: Vec<usize> = (0..kept.decodes.len()).filter(|&d| kept.decodes[d].1 == Quality::Ok).collect();
    let Some(span) = span.filter(|_| !good.is_empty()) else {
        let frames = span.map_or(0, |(first, last)| last - first + 1);
        let what = format!(
            "the recording has {frames} frames and gives no embedding of quality ok: the model's window alone is {window} frames, \
             and preprocessing warms up before it; record longer, or look at the warnings above"
        );
        return Err(Failure { code: ExitCode::Source, what }.into());
    };
    let values = good.iter().flat_map(|&d| &kept.values[d * width..(d + 1) * width]).copied().collect();
    let rows = Array2::from_shape_vec((good.len(), width), values)?;
    let number = good.iter().map(|&d| kept.decodes[d].0).collect();
    Ok(Gathered { good: rows, number, at: good, span, all: kept.values })
}
