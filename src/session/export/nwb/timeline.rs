//! The one clock of an exported session.
//!
//! Why it exists: NWB has one time axis, in seconds after a calendar date; a session has the machine's `CLOCK_MONOTONIC` and its
//! offset to UTC, measured once at the start. What it must never do: place a microscope's own time stamps on it; times of different
//! clocks are never subtracted.

use anyhow::bail;

use crate::session::rows::Recorded;
use crate::sys::calendar;
use crate::sys::exit::{ExitCode, Failure};

/// NWB specifies dates to the millisecond.
const MS_NS: i128 = 1_000_000;

/// The origin of the time axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Zero on the machine's clock, ns.
    zero_ns: i128,
    /// Zero, UTC, ns since 1970; whole milliseconds.
    zero_unix_ns: i128,
}

impl Timeline {
    /// Starts with the recording, or at its first time stamp if that is earlier, so that no time is negative.
    ///
    /// # Errors
    /// A session without the offset between its clock and the calendar.
    pub fn of(recorded: &Recorded, first_frame_ns: Option<u64>) -> anyhow::Result<Self> {
        let about = &recorded.outline.about;
        let fact = |key: &str| about.get(key).and_then(|text| text.parse::<i128>().ok());
        let (Some(began), Some(offset)) = (fact("began_unix_ns"), fact("monotonic_to_unix_ns")) else {
            let what = format!(
                "{}: has no start time (`began_unix_ns` and `monotonic_to_unix_ns` in its metadata): it was not recorded by `haltere run`",
                recorded.outline.path.display()
            );
            bail!(Failure { code: ExitCode::Source, what });
        };
        let decodes = recorded.decodes.iter().flat_map(|decode| decode.t_recv_ns.into_iter().chain([decode.t_pub_ns]));
        let events = recorded.events.iter().map(|event| event.t_pub_ns);
        let marks = recorded.marks.iter().map(|mark| mark.t_ns);
        let clocks = recorded.clocks.iter().map(|clock| clock.t_pub_ns);
        let first = decodes.chain(events).chain(marks).chain(clocks).chain(first_frame_ns).min();
        let earliest = first.map_or(began, |ns| began.min(i128::from(ns) + offset));
        let zero_unix_ns = earliest.max(0) / MS_NS * MS_NS;
        Ok(Self { zero_ns: zero_unix_ns - offset, zero_unix_ns })
    }

    /// Seconds after zero of a time on the machine's clock.
    pub fn seconds(&self, t_ns: u64) -> f64 {
        (i128::from(t_ns) - self.zero_ns) as f64 / 1e9
    }

    /// Zero on the machine's clock, ns.
    pub const fn zero_ns(&self) -> i128 {
        self.zero_ns
    }

    /// Zero, as ISO 8601.
    pub fn zero(&self) -> String {
        iso(self.zero_unix_ns)
    }
}

/// `2026-11-24T09:30:15.123+00:00`.
pub(super) fn iso(unix_ns: i128) -> String {
    let ms = (unix_ns.max(0) / MS_NS) as u64;
    let [year, month, day, hour, minute, second] = calendar::utc(ms / 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}+00:00", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Recorded {
        let mut recorded = Recorded::default();
        let about = [("began_unix_ns", "951827696123456789"), ("monotonic_to_unix_ns", "951827696000000000")];
        recorded.outline.about = about.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        recorded
    }

    #[test]
    fn zero_is_the_begin_in_whole_milliseconds_or_the_first_stamp_if_that_is_earlier() {
        let begin = Timeline::of(&recorded(), Some(200_000_000)).unwrap();
        assert_eq!(begin.zero(), "2000-02-29T12:34:56.123+00:00");
        assert_eq!(begin.seconds(123_000_000), 0.0);
        assert_eq!(begin.seconds(1_123_000_001), 1.000_000_001);
        let earlier = Timeline::of(&recorded(), Some(100_999_999)).unwrap();
        assert_eq!(
            (earlier.zero().as_str(), earlier.seconds(100_999_999)),
            ("2000-02-29T12:34:56.100+00:00", 0.000_999_999)
        );
    }

    #[test]
    fn a_session_without_a_calendar_is_refused() {
        assert!(Timeline::of(&Recorded::default(), None).unwrap_err().to_string().contains("began_unix_ns"));
    }
}
