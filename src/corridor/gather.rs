//! Runs a recording through the corridor into memory: every embedding with its frame number and its quality.
//!
//! Why it exists: calibration needs minutes of embeddings at once. What it must never do: compute anything; it is a sink.

use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Array2;

use crate::config::{Compute, Config, Device};
use crate::corridor::Line;
use crate::corridor::offline;
use crate::decoder::Decoder;
use crate::encode::Encoder;
use crate::frame::{Decode, Frame, Quality};
use crate::model::Model;
use crate::preprocess;
use crate::publish::{Sink, SinkError};
use crate::source::{Next, Source, SourceError};
use crate::sys::exit::{ExitCode, Failure};

/// Maximum number of embeddings held in memory: nine hours at 30 Hz.
const DECODES_MAX: usize = 1_000_000;

/// The embeddings of one recording.
pub struct Gathered {
    /// Embeddings of quality ok, `[samples, dimensions]`.
    pub good: Array2<f32>,
    /// Index of each of them among all decodes.
    pub at: Vec<usize>,
    /// Frame number of each of them.
    pub number: Vec<u64>,
    /// Numbers of the recording's first and last frame.
    pub span: (u64, u64),
    /// Every embedding of the recording, whatever its quality, one after the other.
    pub all: Vec<f32>,
    /// Frames per second of the recording, or the rate the model needs where the recording states none.
    pub rate_hz: f64,
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
            let cause =
                format!("the recording has more than {DECODES_MAX} frames; use --frames to take only a part of it");
            return Err(SinkError { sink: "calibrate".into(), cause });
        }
        kept.values.extend_from_slice(&decode.embedding.values);
        kept.decodes.push((decode.frame.number, decode.quality));
        Ok(())
    }
}

/// Records the numbers of the frames that pass.
struct Numbered {
    source: Box<dyn Source>,
    span: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Source for Numbered {
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

/// Runs a recording through `model` on the CPU, which calibration is proven against.
///
/// # Errors
/// The model cannot be opened, the recording cannot be read, it gives no embedding of quality ok, or the run was interrupted.
pub fn gather(config: &Config, model: &Model, recording: Box<dyn Source>, progress: bool) -> anyhow::Result<Gathered> {
    let on_cpu = Compute { device: Device::Cpu, ..config.compute.clone() };
    let config = &Config { compute: on_cpu, ..config.clone() };
    let decoder = on_the_cpu(config, model)?;
    let rate_hz = recording.frame_rate_hz().unwrap_or_else(|| decoder.settings(config).needed_hz);
    let (kept, span) = (Arc::new(Mutex::new(Kept::default())), Arc::default());
    let width = decoder.model.manifest.embedding;
    let window = decoder.model.manifest.window_frames * decoder.model.manifest.preprocess.average_frames;
    let source = Box::new(Numbered { source: recording, span: Arc::clone(&span) });
    let line = Line::default();
    crate::corridor::supervisor::stop_on_signals(&line.stop)?;
    offline::through(config, decoder, source, Box::new(Keeper(Arc::clone(&kept))), &line, progress)?;
    if line.stop.load(std::sync::atomic::Ordering::Relaxed) {
        let what = "interrupted: nothing was written".to_owned();
        return Err(Failure { code: ExitCode::Interrupted, what }.into());
    }
    let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    let span = *span.lock().unwrap_or_else(PoisonError::into_inner);
    let good: Vec<usize> = (0..kept.decodes.len()).filter(|&d| kept.decodes[d].1 == Quality::Ok).collect();
    let Some(span) = span.filter(|_| !good.is_empty()) else {
        let frames = span.map_or(0, |(first, last)| last - first + 1);
        let what = format!(
            "none of the recording's {frames} frames gives an embedding of quality ok: the model's window alone is {window} frames, \
             and preprocessing warms up before it; record longer, or see the warnings above"
        );
        return Err(Failure { code: ExitCode::Source, what }.into());
    };
    let values = good.iter().flat_map(|&d| &kept.values[d * width..(d + 1) * width]).copied().collect();
    let rows = Array2::from_shape_vec((good.len(), width), values)?;
    let number = good.iter().map(|&d| kept.decodes[d].0).collect();
    Ok(Gathered { good: rows, number, at: good, span, all: kept.values, rate_hz })
}

fn on_the_cpu(config: &Config, model: &Model) -> anyhow::Result<Decoder> {
    let manifest = &model.manifest;
    let encoder = Encoder::open(model, config.compute.onnxruntime.as_deref(), config.compute.threads)?;
    let (parameters, input, rate_hz) = (&manifest.preprocess, manifest.input, manifest.frame_rate_hz);
    let preprocess = preprocess::build(parameters, input, rate_hz, config.compute.device)?;
    Ok(Decoder { model: model.clone(), preprocess, encoder, on_device: false })
}
