//! NWB recordings: the frames of a TwoPhotonSeries, or of two as two channels.
//!
//! Why it exists: imaging archives (DANDI) and labs that share data use NWB. Frames are read on demand, a chunk at a time, so a
//! recording may be larger than memory. What it must never do: trust metadata that the data contradict, or choose among several
//! series by itself.
//!
//! NWB's order is (time, x, y), so frames are stored transposed, unless the file's `dimension` says otherwise. Pixels are the
//! stored values: `conversion` and `offset` are not applied.

mod find;
mod series;
mod times;
mod whole;

use std::path::Path;

use crate::frame::{CHANNELS_MAX, Frame, Name, Shape};

use self::series::Series;
use self::times::Times;
use super::recording::{Stamper, file_error};
use super::{About, Next, Source, SourceError};

pub(super) use self::find::{is_nwb, split};
pub use self::series::Orientation;

/// The frames of one series, or of two series as two channels.
pub struct NwbSource {
    /// One for each channel.
    channels: Vec<Series>,
    times: Times,
    stamper: Stamper,
    about: About,
    next: u64,
    total: u64,
}

impl NwbSource {
    /// Opens a series for each of `channels`: a file, followed by `#NAME` or `#/path/NAME` if it holds several series.
    ///
    /// `rate_hz` overrides the times in the file; `plane` selects a plane of a volume.
    ///
    /// # Errors
    /// A file that cannot be read, a series that is missing or ambiguous, or two series that do not match.
    pub fn open(
        channels: &[&Path],
        rate_hz: Option<f64>,
        plane: Option<u64>,
        orientation: Option<Orientation>,
        source: Name,
    ) -> Result<Self, SourceError> {
        let opened = channels
            .iter()
            .map(|path| Series::open(path, plane, rate_hz, orientation))
            .collect::<Result<Vec<_>, _>>()?;
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
                    "channels must match: {} has {}, {} of {} has {}",
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
            let cause = format!("{} channels were given; at most {CHANNELS_MAX} are supported", all.len());
            return Err(file_error(first.path(), cause));
        }
        let [height, width] = first.sides();
        let (shape, pixel_type, total) = (Shape::new(all.len(), height, width), first.pixel_type(), first.frames());
        let stamper = Stamper { source, rate_hz: times.rate_hz(), shape, pixel_type };
        let about = about(&all, &times, rate_hz, plane, total);
        Ok(Self { channels: all, times, stamper, about, next: 0, total })
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

    fn about(&self) -> About {
        self.about.clone()
    }

    fn times_ns(&mut self) -> Result<Vec<i64>, SourceError> {
        Ok((0..self.total).map_while(|frame| self.times.at(frame)).map(|time| time.ns).collect())
    }
}

fn about(all: &[Series], times: &Times, rate_hz: Option<f64>, plane: Option<u64>, total: u64) -> About {
    let mut about = About::default();
    let by = "the TwoPhotonSeries' data";
    about.fact("channels", all.len(), if all.len() > 1 { "two series were given" } else { "a series is one channel" });
    about.fact("channel_names", all.iter().map(Series::name).collect::<Vec<_>>(), "the series' paths");
    about.by(by, all.first().map_or(1, Series::planes), total as usize, plane);
    about.maybe("rate_hz", times.rate_hz(), if rate_hz.is_some() { "the given rate" } else { times.by() });
    for series in all {
        let (orientation, decided) = series.orientation();
        if about.get("orientation").is_none() {
            about.fact("orientation", orientation.name(), decided);
        }
        if decided == series::BY_DEFAULT {
            let [height, width] = series.sides();
            let square = if height == width { "are square and " } else { "" };
            let contradicts = series
                .contradicting_dimension()
                .map(|[x, y]| format!(" (its `dimension` says {x}×{y}, which are not the sides of its data)"));
            about.warn(format!(
                "{}: its frames {square}have {height} rows and {width} columns, but nothing in the file says whether rows or columns come first{}: they \
                 are taken as (time, x, y), as NWB orders them; many files hold (time, rows, columns): then say --orientation rows-first \
                 (`orientation` in a dataset.toml)",
                series.name(),
                contradicts.unwrap_or_default()
            ));
        }
    }
    about
}
