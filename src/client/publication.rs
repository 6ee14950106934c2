//! When a message was published, on this machine's clock.
//!
//! Why it exists: a message that waited in a socket says how things were, and a subscriber that shows it as how they are misleads.
//! What it must never do: read a clock (times are passed in).

use serde_json::Value;

use crate::sys::stamp_age::StampAge;
use crate::wire::decode::CLOCK;

/// The times of publication of one daemon's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Publication(StampAge);

impl Publication {
    /// When the message with this header was published, ns, at the latest `now_ns`. Of a daemon on another machine, whose clock cannot be
    /// compared: measured against the message that arrived fastest. Without a known clock: now.
    pub(crate) fn of(&mut self, header: &Value, now_ns: u64) -> u64 {
        let stamp = header["t_pub_ns"].as_i64().filter(|_| header["clock"] == CLOCK);
        stamp.map_or(now_ns, |stamp| now_ns.saturating_sub(self.0.of_monotonic(stamp, now_ns, 0)))
    }
}
