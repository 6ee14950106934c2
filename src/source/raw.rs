//! Any vendor's raw file: a header of known length, then frame after frame.
//!
//! Why it exists: a format without a reader can still be used if the user gives its layout. What it must never do: guess a geometry
//! from the file's size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::frame::{CHANNELS_MAX, Frame, Name, PixelType, SIDE_PX_MAX, Shape};
use crate::wire::frame_header::Order;
use crate::wire::pixels::{self, Layout};

use super::recording::{Stamper, file_error};
use super::{About, Next, Source, SourceError};

/// Layout of a raw file, such as `uint16:512x512`, `int16:2x256x256:4096`, `uint16be:512x512:0:F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLayout {
    /// One frame.
    pub frame: Layout,
    /// Bytes before the first frame.
    pub header_bytes: u64,
}

const FORM: &str = "write TYPE:HEIGHTxWIDTH or TYPE:CHANNELSxHEIGHTxWIDTH, then optionally :HEADERBYTES and :F for \
    column-major; TYPE is uint8, uint16, int16 or float32, with be at its end for big-endian (uint16:512x512:0)";

impl FromStr for RawLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = |what: String| format!("{text:?}: {what}; {FORM}");
        let mut fields = text.split(':');
        let word = fields.next().unwrap_or_default();
        let (name, big_endian) = word.strip_suffix("be").map_or((word, false), |name| (name, true));
        let pixel_type = [PixelType::U8, PixelType::U16, PixelType::I16, PixelType::F32]
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| fail(format!("{word:?} is not a pixel type")))?;
        let shape = parse_shape(fields.next().unwrap_or_default()).map_err(fail)?;
        let header = fields.next().unwrap_or("0");
        let header_bytes = header.parse().map_err(|_| fail(format!("{header:?} is not a number of bytes")))?;
        let order = match fields.next() {
            None | Some("C") => Order::C,
            Some("F") => Order::F,
            Some(other) => return Err(fail(format!("{other:?} is not an order (C or F)"))),
        };
        if let Some(extra) = fields.next() {
            return Err(fail(format!("{extra:?} is one field too many")));
        }
        Ok(Self { frame: Layout { shape, pixel_type, big_endian, order }, header_bytes })
    }
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    let sides: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
    let (channels, height, width) = match sides.as_deref() {
        Ok([h, w]) => (1, *h, *w),
        Ok([c, h, w]) => (*c, *h, *w),
        _ => return Err(format!("{text:?} is not a shape")),
    };
    let side = 1..=SIDE_PX_MAX;
    if !(1..=CHANNELS_MAX).contains(&channels) || !side.contains(&height) || !side.contains(&width) {
        return Err(format!("{text:?} is out of range (channels 1 to {CHANNELS_MAX}, sides 1 to {SIDE_PX_MAX} px)"));
    }
    Ok(Shape::new(channels, height, width))
}

/// The frames of one raw file.
pub struct RawSource {
    file: File,
    path: PathBuf,
    layout: RawLayout,
    stamper: Stamper,
    payload: Vec<u8>,
    next: u64,
    total: u64,
}

impl RawSource {
    /// Opens the file.
    ///
    /// # Errors
    /// A file whose length is not header + complete frames: the layout is wrong, or the recording was cut off.
    pub fn open(path: &Path, layout: RawLayout, rate_hz: Option<f64>, source: Name) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|e| file_error(path, e.to_string()))?;
        let length = file.metadata().map_err(|e| file_error(path, e.to_string()))?.len();
        let frame_bytes = layout.frame.bytes() as u64;
        let pixels = length.saturating_sub(layout.header_bytes);
        if pixels < frame_bytes || pixels % frame_bytes != 0 {
            let cause = format!(
                "is {length} bytes long; after {} header bytes that makes {} frame(s) of {frame_bytes} bytes with {} bytes \
                 left over: check type, shape and header bytes; if the file was cut off, cut it back to whole frames (truncate)",
                layout.header_bytes,
                pixels / frame_bytes,
                pixels % frame_bytes
            );
            return Err(file_error(path, cause));
        }
        let stamper = Stamper { source, rate_hz, shape: layout.frame.shape, pixel_type: layout.frame.pixel_type };
        let payload = vec![0; layout.frame.bytes()];
        Ok(Self { file, path: path.into(), layout, stamper, payload, next: 0, total: pixels / frame_bytes })
    }
}

impl Source for RawSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.total {
            return Ok(Next::End);
        }
        let at = self.layout.header_bytes + self.next * self.payload.len() as u64;
        self.stamper.stamp(self.next, &self.path, into)?;
        let in_place = self.layout.frame.order == Order::C;
        let bytes = if in_place { into.bytes_mut() } else { &mut self.payload[..] };
        self.file.read_exact_at(bytes, at).map_err(|e| unreadable(&self.path, self.next, &e))?;
        match in_place {
            true => pixels::in_place(&self.layout.frame, bytes),
            false => pixels::copy(&self.layout.frame, &self.payload, into.bytes_mut()),
        }
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.payload.len()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.total)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.stamper.rate_hz
    }

    fn about(&self) -> About {
        let mut about = About::default();
        about.fact("channels", self.stamper.shape.channels, "the given layout");
        about.fact("times", self.total, "the length of the file");
        about.maybe("rate_hz", self.stamper.rate_hz, "the given rate");
        about
    }
}

fn unreadable(path: &Path, frame: u64, error: &io::Error) -> SourceError {
    file_error(path, format!("frame {frame} cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_read_from_its_short_form_and_mistakes_are_named() {
        let layout: RawLayout = "int16be:2x256x128:4096:F".parse().unwrap();
        assert_eq!(layout.frame.shape, Shape::new(2, 256, 128));
        assert_eq!((layout.header_bytes, layout.frame.order, layout.frame.big_endian), (4096, Order::F, true));
        assert_eq!("uint16:8x4".parse::<RawLayout>().unwrap().frame.bytes(), 64);
        for (text, word) in [
            ("uint32:8x8", "pixel type"),
            ("uint16", "not a shape"),
            ("uint16:8", "not a shape"),
            ("uint16:3x8x8", "out of range"),
            ("uint16:0x8", "out of range"),
            ("uint16:8x8:-1", "number of bytes"),
            ("uint16:8x8:0:G", "order"),
            ("uint16:8x8:0:F:1", "too many"),
        ] {
            let error = text.parse::<RawLayout>().unwrap_err();
            assert!(error.contains(word) && error.contains("uint16:512x512"), "{text}: {error}");
        }
    }
}
