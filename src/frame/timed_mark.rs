//! A mark that came with a time.

use super::{Clock, Name, SenderClock};

/// What somebody beside the microscope said of a moment, and how its time was found.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TimedMark {
    /// Who says it.
    pub from: Name,
    /// Receipt, `CLOCK_MONOTONIC`, ns.
    pub t_recv_ns: u64,
    /// Its own time, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_ns: Option<i64>,
    /// On which clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_clock: Option<Clock>,
    /// `seq` of the decision that it acknowledges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<u64>,
    /// How the clock lay then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_clock: Option<SenderClock>,
}
