//! Raw counts as an ImageJ hyperstack (green, red, green, red, …), which every other tool opens.
//!
//! What it must never do: hold more than a page in memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tiff::TiffResult;
use tiff::encoder::colortype::Gray16;
use tiff::encoder::{TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard};
use tiff::tags::Tag;

use super::{WriteError, failed};

/// Above this many bytes of pixels, the offsets of a classic TIFF are too small.
const CLASSIC_BYTES_MAX: usize = 3 << 30;
/// Channels of a frame.
const CHANNELS: usize = 2;

enum Encoder {
    Classic(TiffEncoder<Arc<File>, TiffKindStandard>),
    Big(TiffEncoder<Arc<File>, TiffKindBig>),
}

/// A stack that is being written, page by page.
pub(super) struct TiffStack {
    path: PathBuf,
    encoder: Encoder,
    side: u32,
    /// For the first page; then taken.
    description: Option<String>,
}

impl TiffStack {
    pub(super) fn create(path: &Path, side: usize, frames: usize, rate_hz: f64) -> Result<Self, WriteError> {
        // No buffer: a failure to write its rest on drop would go unnoticed.
        let file = Arc::new(File::create(path).map_err(|e| failed(path, e))?);
        let encoder = if side * side * 2 * CHANNELS * frames > CLASSIC_BYTES_MAX {
            TiffEncoder::new_big(file).map(Encoder::Big)
        } else {
            TiffEncoder::new(file).map(Encoder::Classic)
        };
        let description = format!(
            "ImageJ=1.53\nimages={}\nchannels={CHANNELS}\nslices=1\nframes={frames}\nhyperstack=true\nmode=grayscale\n\
             finterval={}\nfps={rate_hz}\nunit=pixel\nloop=false\n",
            CHANNELS * frames,
            1.0 / rate_hz
        );
        let encoder = encoder.map_err(|e| failed(path, e))?;
        Ok(Self { path: path.into(), encoder, side: side as u32, description: Some(description) })
    }

    /// Writes the next page.
    pub(super) fn write(&mut self, counts: &[u16]) -> Result<(), WriteError> {
        let description = self.description.take();
        let description = description.as_deref();
        let written = match &mut self.encoder {
            Encoder::Classic(encoder) => page(encoder, self.side, counts, description),
            Encoder::Big(encoder) => page(encoder, self.side, counts, description),
        };
        written.map_err(|e| failed(&self.path, e))
    }
}

fn page<K: TiffKind>(
    encoder: &mut TiffEncoder<Arc<File>, K>,
    side: u32,
    counts: &[u16],
    description: Option<&str>,
) -> TiffResult<()> {
    let mut image = encoder.new_image::<Gray16>(side, side)?;
    if let Some(text) = description {
        image.encoder().write_tag(Tag::ImageDescription, text)?;
    }
    image.write_data(counts)
}
