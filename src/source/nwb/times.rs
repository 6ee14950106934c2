//! The times of a series.
//!
//! Why it exists: NWB gives time stamps, or a rate and a start, or neither. What it must never do: invent a time stamp.

use rust_hdf5::{H5Dataset, H5File};

use crate::frame::{Clock, DeviceTime, Stamp};
use crate::sys::statistics::median;

/// Seconds that fit into ns of an i64.
const SECONDS_MAX: f64 = 9e9;

/// The times of a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Times {
    /// Not given.
    Unknown,
    /// Frame n began at `start_s` + n / `rate_hz`.
    Regular { start_s: f64, rate_hz: f64, stamp: Option<Stamp> },
    /// Time of each frame, ns.
    Stamps(Vec<i64>),
}

impl Times {
    /// Regular times from 0 at a rate given by the user, as for every recording without times.
    pub fn of_rate(rate_hz: f64) -> Self {
        Self::Regular { start_s: 0.0, rate_hz, stamp: Some(Stamp::Start) }
    }

    /// Reads the times of the series at `series`, which has `frames` frames.
    ///
    /// # Errors
    /// Times that are invalid or cannot be read.
    pub fn read(file: &H5File, series: &str, frames: u64) -> Result<Self, String> {
        if let Ok(data) = file.dataset(&format!("{series}/timestamps")) {
            return stamps(&data, frames);
        }
        let Ok(data) = file.dataset(&format!("{series}/starting_time")) else { return Ok(Self::Unknown) };
        let unreadable = |cause| format!("its starting_time cannot be read: {cause}");
        let start_s = data.read_numeric_as::<f64>().map_err(unreadable)?.first().copied().unwrap_or(0.0);
        let rate = data.attr("rate").and_then(|rate| rate.read_numeric_as::<f64>()).map_err(unreadable)?;
        let rate_hz = rate.first().copied().unwrap_or(0.0);
        let last_s = start_s + frames as f64 / rate_hz;
        if !(rate_hz.is_finite() && rate_hz > 0.0 && start_s.abs() < SECONDS_MAX && last_s < SECONDS_MAX) {
            return Err(format!(
                "declares a start at {start_s} s and a rate of {rate_hz} Hz; the rate must be positive: give the right one (--rate)"
            ));
        }
        Ok(Self::Regular { start_s, rate_hz, stamp: None })
    }

    /// Time of frame `index`.
    pub fn at(&self, index: u64) -> Option<DeviceTime> {
        let (ns, stamp) = match self {
            Self::Unknown => return None,
            Self::Regular { start_s, rate_hz, stamp } => {
                (((start_s + index as f64 / rate_hz) * 1e9).round() as i64, *stamp)
            }
            Self::Stamps(all) => (*all.get(usize::try_from(index).ok()?)?, None),
        };
        Some(DeviceTime { ns, clock: Clock::Device, stamp })
    }

    /// Where they stand.
    pub fn by(&self) -> &'static str {
        match self {
            Self::Unknown => "nothing in the file",
            Self::Regular { .. } => "the series' starting_time and rate",
            Self::Stamps(_) => "the median interval of the series' timestamps",
        }
    }

    /// Frames per second: as given, or from the median interval between time stamps.
    pub fn rate_hz(&self) -> Option<f64> {
        match self {
            Self::Unknown => None,
            Self::Regular { rate_hz, .. } => Some(*rate_hz),
            Self::Stamps(all) => {
                let mut periods: Vec<i64> = all.windows(2).map(|pair| pair[1] - pair[0]).filter(|ns| *ns > 0).collect();
                median(&mut periods, i64::cmp).map(|ns| 1e9 / ns as f64)
            }
        }
    }
}

fn stamps(data: &H5Dataset, frames: u64) -> Result<Times, String> {
    if data.total_elements() as u64 != frames {
        return Err(format!("has {} time stamps for {frames} frames: the file is damaged", data.total_elements()));
    }
    let seconds = data.read_numeric_as::<f64>().map_err(|cause| format!("its timestamps cannot be read: {cause}"))?;
    if let Some((at, s)) = seconds.iter().enumerate().find(|(_, s)| !(s.is_finite() && s.abs() < SECONDS_MAX)) {
        return Err(format!("has {s} s as the time of frame {at}: give a rate instead (--rate)"));
    }
    Ok(Times::Stamps(seconds.iter().map(|s| (s * 1e9).round() as i64).collect()))
}
