//! NWB recordings: the frames of a TwoPhotonSeries, or of two as two channels.
//!
//! Why it exists: archives of imaging (DANDI) and labs that share data have NWB. Frames are read as they are asked for, a chunk at a
//! time, so that a recording may be larger than memory. What it must never do: take a file's word against its data, or choose among
//! several series by itself.
//!
//! NWB's order is (time, x, y), so a frame lies transposed; a file that says otherwise by its `dimension` is believed. Pixels are
//! the stored ones: `conversion` and `offset` are not applied.

mod find;
mod series;
mod times;
mod whole;

use std::path::Path;

use crate::frame::{CHANNELS_MAX, Frame, Name, Shape};

use self::series::Series;
use self::times::Times;
use super::recording::{Stamper, file_error};
use super::{Next, Source, SourceError};

pub(super) use self::find::{is_nwb, split};

/// Frames of one file, or of two series.
pub struct NwbSource {
    /// One for each channel.
    channels: Vec<Series>,
    times: Times,
    stamper: Stamper,
    next: u64,
    total: u64,
}

impl NwbSource {
    /// Opens a series for each of `channels`: a file, with `#NAME` or `#/path/NAME` behind it where it holds several.
    ///
    /// `rate_hz` wins over the times in the file; `plane` is one of a volume's.
    ///
    /// # Errors
    /// A file that cannot be read, a series that is not there or not the only one, or two that do not fit each other.
    pub fn open(
        channels: &[&Path],
        rate_hz: Option<f64>,
        plane: Option<u64>,
        source: Name,
    ) -> Result<Self, SourceError> {
        let opened = channels.iter().map(|path| Series::open(path, plane, rate_hz)).collect::<Result<Vec<_>, _>>()?;
        let (mut all, mut times) = (Vec::new(), None);
        for (series, own) in opened {
            times.get_or_insert(own);
            all.push(series);
        }
        let (Some(first), Some(times)) = (all.first(), times) else {
            return Err(file_error(Path::new("recording"), "no file was given"));
        };
        for other in &all[1..] {
            if !other.is_like(first) {
                let cause = format!(
                    "channels must be alike: {} is {}, {} of {} is {}",
                    other.name(),
                    other.describe(),
                    first.name(),
                    first.path().display(),
                    first.describe()
                );
                return Err(file_error(other.path(), cause));
            }
        }
        if all.len() > CHANNELS_MAX {
            let cause = format!("{} channels; at most {CHANNELS_MAX} are taken", all.len());
            return Err(file_error(first.path(), cause));
        }
        let [height, width] = first.sides();
        let (shape, pixel_type, total) = (Shape::new(all.len(), height, width), first.pixel_type(), first.frames());
        let stamper = Stamper { source, rate_hz: times.rate_hz(), shape, pixel_type };
        Ok(Self { channels: all, times, stamper, next: 0, total })
    }
}

impl Source for NwbSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.total {
            return Ok(Next::End);
        }
        let path = self.channels.first().map_or(Path::new("recording"), Series::path);
        self.stamper.stamp(self.next, path, into)?;
        into.info.t_device = self.times.at(self.next);
        let plane_bytes = self.stamper.frame_bytes() / self.channels.len();
        for (series, slot) in self.channels.iter_mut().zip(into.bytes_mut().chunks_exact_mut(plane_bytes)) {
            series.read(self.next, slot)?;
        }
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.stamper.frame_bytes()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.total)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.times.rate_hz()
    }
}
