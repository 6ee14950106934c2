//! The frames of a session, without their pixels: their numbers and times.
//!
//! Why it exists: to align behaviour or labels with a session, one needs the number and time of every recorded frame, and which are
//! missing. What it must never do: renumber a frame, or correct a time.

use std::path::Path;

use crate::frame::{Clock, DeviceTime, FrameInfo, Shape, Stamp};
use crate::session::{Item, Outline, Reader, SessionError, Topic, layout};

use super::SourceError;
use super::mcap::cause_text;
use super::recording::file_error;
use crate::sys::statistics::median;

/// Nanoseconds of a second.
const NS: f64 = 1e9;

/// The clock used for the times of a session's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FrameClock {
    /// Seconds since the first frame, from the times of receipt.
    #[default]
    Start,
    /// Seconds since 1970, from the times of receipt.
    Unix,
    /// `CLOCK_MONOTONIC` of the daemon's machine, from the times of receipt.
    Monotonic,
    /// The microscope's own time stamps, s, whatever their clock.
    Device,
}

/// Number and times of one frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    number: u64,
    ordinal: u64,
    received_ns: u64,
    device: Option<DeviceTime>,
}

/// The frames of a session, in the order in which they were recorded.
#[derive(Debug)]
pub struct SessionIndex {
    heads: Vec<Head>,
    /// Indices at which a series begins.
    begins: Vec<usize>,
    /// Channels × height × width of the first frame.
    shape: Shape,
    /// From `CLOCK_MONOTONIC` to UTC, ns.
    to_unix_ns: Option<i64>,
    warnings: Vec<String>,
}

/// Position of a frame number in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameIndex {
    /// Index of the frame in the session.
    At(usize),
    /// Between the first and the last frame but not recorded: lost on the way, or skipped.
    Missing,
    /// Before the first or after the last frame.
    Outside,
}

impl SessionIndex {
    /// Reads the index of a session.
    ///
    /// # Errors
    /// A file that is not a session, or a frame that cannot be read.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let failed = |cause: SessionError| file_error(path, cause_text(path, &cause));
        let outline = Outline::of(path).map_err(failed)?;
        let mut reader = Reader::open(path).map_err(failed)?;
        let mut infos = Vec::new();
        while let Some(item) = reader.read().map_err(failed)? {
            if let Item::Message { topic: Topic::Frames, data, .. } = item {
                infos.push(layout::read(&data).map_err(|cause| file_error(path, format!("a frame {cause}")))?.0);
            }
        }
        let mut warnings = outline.warnings();
        warnings.extend(reader.damage().warnings(&outline));
        let to_unix_ns = outline.about.get("monotonic_to_unix_ns").and_then(|text| text.parse().ok());
        Self::of(&infos, to_unix_ns, warnings).ok_or_else(|| file_error(path, "this session contains no frame"))
    }

    /// `None` without frames.
    pub(super) fn of(infos: &[FrameInfo], to_unix_ns: Option<i64>, warnings: Vec<String>) -> Option<Self> {
        let shape = infos.first()?.shape;
        let head = |info: &FrameInfo| Head {
            number: info.number,
            ordinal: info.ordinal(),
            received_ns: info.t_received_ns,
            device: info.t_device,
        };
        let begins = infos.iter().enumerate().filter(|(_, info)| info.series_began).map(|(at, _)| at).collect();
        Some(Self { heads: infos.iter().map(head).collect(), begins, shape, to_unix_ns, warnings })
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.heads.len()
    }

    /// Channels × height × width of the first one.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What a user of the session must know.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Frames per second, from the median interval between consecutive frames, by the microscope's time stamps, else by
    /// receipt.
    pub fn frame_rate_hz(&self) -> Option<f64> {
        let device = |head: &Head| head.device.map(|time| (i128::from(time.ns), Some(time.clock)));
        let received = |head: &Head| Some((i128::from(head.received_ns), None));
        self.median_ns(device).or_else(|| self.median_ns(received)).map(|ns| NS / ns)
    }

    fn median_ns(&self, time: impl Fn(&Head) -> Option<(i128, Option<Clock>)>) -> Option<f64> {
        let interval = |pair: &[Head]| {
            let ((from, a), (to, b)) = time(&pair[0]).zip(time(&pair[1]))?;
            let follows = pair[1].ordinal.checked_sub(pair[0].ordinal) == Some(1) && a == b && to > from;
            follows.then_some((to - from) as f64)
        };
        let mut intervals: Vec<f64> = self.heads.windows(2).filter_map(interval).collect();
        median(&mut intervals, f64::total_cmp)
    }

    /// Start of each frame, s, never decreasing. A frame is received at its end: it began `period_s` earlier. A time stamp of the
    /// microscope marks what its `stamp` says, else the start.
    ///
    /// # Errors
    /// The frame, and why it has no valid time.
    pub fn begins_s(&self, clock: FrameClock, period_s: f64) -> Result<Vec<f64>, (u64, String)> {
        let first_ns = self.heads.first().map_or(0, |head| head.received_ns);
        let time = |head: &Head| match clock {
            FrameClock::Start => Ok((i128::from(head.received_ns) - i128::from(first_ns)) as f64 / NS),
            FrameClock::Monotonic => Ok(head.received_ns as f64 / NS - period_s),
            FrameClock::Unix => {
                let offset = self.to_unix_ns.ok_or("this session does not give the offset of its clock to UTC")?;
                Ok((i128::from(head.received_ns) + i128::from(offset)) as f64 / NS - period_s)
            }
            FrameClock::Device => self.device_s(head, period_s),
        };
        let mut times = Vec::with_capacity(self.heads.len());
        for head in &self.heads {
            let fault = |cause: String| (head.number, cause);
            let time: f64 = time(head).map_err(|cause: String| fault(cause))?;
            if let Some(before) = times.last().filter(|before| **before > time) {
                let cause = format!(
                    "its time is {time} s, after {before} s: times must not decrease; use another `frame_clock`"
                );
                return Err(fault(cause));
            }
            times.push(time);
        }
        Ok(times)
    }

    fn device_s(&self, head: &Head, period_s: f64) -> Result<f64, String> {
        let clock = self.heads.first().and_then(|first| first.device).map(|time| time.clock);
        let time = head.device.ok_or("has no time stamp of the microscope; use another `frame_clock`")?;
        if Some(time.clock) != clock {
            return Err(
                "its time stamp is on another clock than that of the first frame; use another `frame_clock`".into()
            );
        }
        let before = match time.stamp {
            None | Some(Stamp::Start) => 0.0,
            Some(Stamp::Mid) => period_s / 2.0,
            Some(Stamp::End) => period_s,
        };
        Ok(time.ns as f64 / NS - before)
    }

    /// Looks up frame numbers, if each stands for one frame only.
    ///
    /// # Errors
    /// Where the numbers start again.
    pub fn places(&self) -> Result<impl Fn(u64) -> FrameIndex + '_, String> {
        if let Some(at) = self.heads.windows(2).position(|pair| pair[1].number <= pair[0].number) {
            let [before, after] = [at, at + 1].map(|at| self.heads[at].number);
            return Err(format!(
                "its frame numbers start again (number {after} after {before}, frame {} of the session), so a number does not \
                 identify a frame: use `behaviour_times_s`, or record one session per acquisition",
                at + 2
            ));
        }
        Ok(|number| match self.heads.binary_search_by_key(&number, |head| head.number) {
            Ok(at) => FrameIndex::At(at),
            Err(at) if at == 0 || at == self.heads.len() => FrameIndex::Outside,
            Err(_) => FrameIndex::Missing,
        })
    }

    /// The last frame's number.
    pub fn last_number(&self) -> u64 {
        self.heads.last().map_or(0, |head| head.number)
    }

    /// Number of frames missing just before each frame; `None` where a series begins.
    pub fn missing(&self) -> Vec<Option<u64>> {
        let gaps =
            self.heads.windows(2).map(|pair| pair[1].ordinal.checked_sub(pair[0].ordinal).map(|n| n.saturating_sub(1)));
        let mut missing: Vec<Option<u64>> = std::iter::once(None).chain(gaps).collect();
        self.begins.iter().for_each(|&at| missing[at] = None);
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    const SECOND: u64 = 1_000_000_000;

    fn info(number: u64, received_s: u64, device_s: Option<i64>, series_began: bool) -> FrameInfo {
        let device = |s: i64| DeviceTime { ns: s * SECOND as i64, clock: Clock::Device, stamp: Some(Stamp::End) };
        let t_device = device_s.map(device);
        FrameInfo { number, t_received_ns: received_s * SECOND, t_device, series_began, ..Frame::with_capacity(0).info }
    }

    fn seen(infos: &[FrameInfo]) -> SessionIndex {
        SessionIndex::of(infos, Some(1_000 * SECOND as i64), Vec::new()).unwrap()
    }

    #[test]
    fn numbers_lead_to_frames_and_holes_are_told_from_what_lies_outside() {
        let seen = seen(&[info(10, 1, None, true), info(11, 2, None, false), info(14, 5, None, false)]);
        let place = seen.places().unwrap();
        let places = [9, 10, 11, 12, 14, 15].map(place);
        assert_eq!(
            places,
            [
                FrameIndex::Outside,
                FrameIndex::At(0),
                FrameIndex::At(1),
                FrameIndex::Missing,
                FrameIndex::At(2),
                FrameIndex::Outside
            ]
        );
        assert_eq!(seen.missing(), [None, Some(0), Some(2)]);
        assert_eq!(seen.frame_rate_hz(), Some(1.0), "the hole is no interval");
    }

    #[test]
    fn numbers_that_begin_anew_tell_no_frame() {
        let seen =
            seen(&[info(0, 1, None, true), info(1, 2, None, false), info(0, 9, None, true), info(1, 10, None, false)]);
        let fault = seen.places().err().unwrap();
        assert!(fault.contains("number 0 after 1, frame 3 of the session"), "{fault}");
        assert_eq!(seen.missing(), [None, Some(0), None, Some(0)]);
    }

    #[test]
    fn every_clock_gives_the_begin_of_a_frame() {
        let seen = seen(&[info(0, 7, Some(50), true), info(1, 8, Some(51), false)]);
        let at = |clock| seen.begins_s(clock, 1.0).unwrap();
        assert_eq!(at(FrameClock::Start), [0.0, 1.0]);
        assert_eq!(at(FrameClock::Monotonic), [6.0, 7.0]);
        assert_eq!(at(FrameClock::Unix), [1006.0, 1007.0]);
        assert_eq!(at(FrameClock::Device), [49.0, 50.0], "stamped at the end of the exposure");
    }

    #[test]
    fn stamps_that_are_missing_or_go_back_are_told_with_their_frame() {
        let back = seen(&[info(0, 7, Some(50), true), info(1, 8, Some(40), false)]);
        let (frame, cause) = back.begins_s(FrameClock::Device, 1.0).unwrap_err();
        assert!(frame == 1 && cause.contains("must not decrease"), "{cause}");
        let none = seen(&[info(4, 7, None, true)]);
        let (frame, cause) = none.begins_s(FrameClock::Device, 1.0).unwrap_err();
        assert!(frame == 4 && cause.contains("no time stamp"), "{cause}");
    }
}
