//! How the clock of a sender lies to ours.

use super::Clock;

/// A stamp plus `offset_ns` is our time of the same moment, later by the smallest delay, which is part of the offset.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SenderClock {
    /// The sender's.
    pub clock: Clock,
    /// What to add to a stamp, ns.
    pub offset_ns: i64,
    /// How far the fastest messages of a window typically lie above the line that tells the offset, µs.
    pub offset_error_us: f32,
    /// How much faster than ours the clock runs, ppm; left out before it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_ppm: Option<f32>,
    /// Twice the error of the offset over `span_s`, ppm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_error_ppm: Option<f32>,
    /// Time that was looked at, s.
    pub span_s: f32,
    /// Times that the clock was set or began anew.
    pub steps: u32,
}
