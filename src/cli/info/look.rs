//! `haltere info --picture`: reads a recording, plane by plane, and draws it.
//!
//! What it must never do: show a plane that the other commands would not read so.

use std::path::Path;

use super::super::recording::{RecordingArgs, open};
use super::facts::{detector_end, each};
use crate::frame::{Frame, Name};
use crate::report::picture::{Tile, png};
use crate::source::{About, Next, SourceError};
use crate::sys::files::write_whole;

/// Most planes that are drawn.
const PLANES_MAX: u64 = 32;

/// Draws the recording and notes what was seen.
///
/// # Errors
/// A recording that cannot be read to its end, or a picture that cannot be written.
pub(super) fn draw(args: &RecordingArgs, about: &mut About, path: &Path) -> anyhow::Result<()> {
    let planes = about.get("planes").and_then(|fact| fact.value.as_u64()).unwrap_or(1);
    let along_depth = about.get("plane").is_none() && planes > 1;
    let chosen: Vec<Option<u64>> = match (args.plane, along_depth) {
        (Some(plane), _) => vec![Some(plane)],
        (None, true) => (0..planes.min(PLANES_MAX)).map(Some).collect(),
        (None, false) => vec![None],
    };
    let mut tiles = Vec::new();
    for plane in &chosen {
        tiles.extend(of_plane(args, *plane)?);
    }
    let by = "all frames that were drawn";
    about.fact("light", tiles.iter().map(mean).collect::<Vec<_>>(), format!("{by}: mean of each channel and plane"));
    about.fact("saturated_share", tiles.iter().map(|tile| tile.saturated_share).collect::<Vec<_>>(), by);
    tiles.iter().filter_map(dark).for_each(|text| about.warn(text));
    let bytes = png(&tiles).map_err(anyhow::Error::msg)?;
    write_whole(path, &bytes)?;
    about.fact("picture", path.display().to_string(), "--picture");
    Ok(())
}

fn mean(tile: &Tile) -> f64 {
    tile.light.iter().sum::<f64>() / tile.light.len().max(1) as f64
}

/// Frames at the end that are darker than the rest by more than half: a shutter that closed, or a file that was allocated.
fn dark(tile: &Tile) -> Option<String> {
    let floor = mean(tile).min(f64::MAX) / 2.0;
    let count = tile.light.iter().rev().take_while(|light| **light < floor).count();
    (floor > 0.0 && count > 0 && count < tile.light.len())
        .then(|| format!("{}: the last {count} of {} frames are dark", tile.title.to_lowercase(), tile.light.len()))
}

/// A tile while its frames are read.
struct Growing {
    tile: Tile,
    /// The largest value so far, and how many pixels had it.
    top: f64,
    at_top: u64,
    sum: f64,
}

impl Growing {
    fn begin(frame: &Frame, plane: Option<u64>, channel: usize) -> Self {
        let shape = frame.info.shape;
        let of_plane = plane.map(|plane| format!("plane {plane} ")).unwrap_or_default();
        let title = format!("{of_plane}channel {channel}");
        let (mean, saturated) = (vec![0.0; shape.plane()], vec![false; shape.plane()]);
        let tile = Tile { title, size: [shape.height, shape.width], mean, saturated, ..Tile::default() };
        Self { tile, top: f64::NEG_INFINITY, at_top: 0, sum: 0.0 }
    }

    fn take(&mut self, at: usize, value: f64, is_first: bool) {
        self.tile.mean[at] += value;
        self.sum += value;
        if value > self.top {
            (self.top, self.at_top) = (value, 0);
            self.tile.saturated.fill(false);
        }
        if value >= self.top {
            self.at_top += 1;
            self.tile.saturated[at] = true;
        }
        if is_first {
            self.tile.first.push(value);
        }
    }

    fn finish(mut self, pixel_bytes: usize) -> Tile {
        let frames = self.tile.light.len().max(1) as f64;
        self.tile.mean.iter_mut().for_each(|sum| *sum /= frames);
        if detector_end(self.top, pixel_bytes) {
            self.tile.saturated_share = self.at_top as f64 / (frames * self.tile.mean.len().max(1) as f64);
        } else {
            self.tile.saturated.fill(false);
        }
        self.tile
    }
}

fn of_plane(args: &RecordingArgs, plane: Option<u64>) -> Result<Vec<Tile>, SourceError> {
    let mut spec = args.spec(Name::literal("info"));
    spec.plane = plane.or(spec.plane);
    let mut source = open(&spec)?;
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    let mut tiles: Vec<Growing> = Vec::new();
    let (mut seen, mut shape) = (0, frame.info.shape);
    while args.frames.is_none_or(|most| seen < most) {
        match source.next(&mut frame)? {
            Next::Frame => {}
            Next::End => break,
            _ => continue,
        }
        if seen == 0 {
            shape = frame.info.shape;
            tiles = (0..shape.channels).map(|channel| Growing::begin(&frame, plane, channel)).collect();
        }
        seen += 1;
        // A session may change its geometry; what does not fit the first frame is not drawn.
        if frame.info.shape == shape {
            add(&frame, &mut tiles, seen == 1);
        }
    }
    let pixel_bytes = frame.info.pixel_type.bytes();
    Ok(tiles.into_iter().map(|tile| tile.finish(pixel_bytes)).collect())
}

fn add(frame: &Frame, tiles: &mut [Growing], is_first: bool) {
    let pixels = frame.info.shape.plane();
    each(frame, |at, value| tiles[at / pixels].take(at % pixels, value, is_first));
    for tile in tiles {
        tile.tile.light.push(tile.sum / pixels as f64);
        tile.sum = 0.0;
    }
}
