//! What calibration looks at of a recording: the embeddings of quality ok, and where they lie.

use ndarray::Array2;

use crate::decoder::Embeddings;
use crate::frame::Quality;
use crate::model::Manifest;
use crate::sys::exit::{ExitCode, Failure};

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

impl Gathered {
    /// Of the decodes of a recording by the model of `manifest`.
    ///
    /// # Errors
    /// When none of them is of quality ok.
    pub(super) fn of(decodes: Embeddings, manifest: &Manifest) -> anyhow::Result<Self> {
        let width = manifest.embedding;
        let good: Vec<usize> = (0..decodes.len()).filter(|&d| decodes.quality[d] == Quality::Ok).collect();
        let Some(span) = decodes.span.filter(|_| !good.is_empty()) else {
            let frames = decodes.span.map_or(0, |(first, last)| last - first + 1);
            let window = manifest.window_frames * manifest.preprocess.average_frames;
            let what = format!(
                "the recording has {frames} frames and gives no embedding of quality ok: the model's window alone is {window} frames, \
                 and preprocessing warms up before it; record longer, or look at the warnings above"
            );
            return Err(Failure { code: ExitCode::Source, what }.into());
        };
        let values = good.iter().flat_map(|&d| &decodes.values[d * width..(d + 1) * width]).copied().collect();
        let rows = Array2::from_shape_vec((good.len(), width), values)?;
        let number = good.iter().map(|&d| decodes.frames[d]).collect();
        Ok(Self { good: rows, number, at: good, span, all: decodes.values })
    }
}
