//! The outlets of relays: text, fixed bytes, OSC, a serial line, TTL lines, Lab Streaming Layer.
//!
//! Each is a format and a device, nothing more; the relay decides what may be sent. What an outlet must never do: wait, or
//! allocate for every decode.

use std::fmt::Write;

use crate::wire::decision::DecisionHeader;

mod binary;
mod lsl;
mod osc;
mod plain;
mod serial;
mod ttl;

pub use binary::{BINARY_BYTES, Binary};
pub use lsl::{Lsl, Marker, MarkerReader, liblsl};
pub use osc::Osc;
pub use plain::Plain;
pub use serial::Serial;
pub use ttl::Ttl;

/// Appends a decision as words: rule, `output`, `withheld` or `ended`, its number, its frame, the reason or `-`, then delay, width, period (ms)
/// and count of the pulses, which are 0 of an end.
fn write_decision(decision: &DecisionHeader<'_>, text: &mut String) {
    let DecisionHeader { name, what, number, frame, reason, train, .. } = decision;
    let train = train.unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{name} {} {number} {frame} {} {:.3} {} {} {}",
        what.name(),
        reason.unwrap_or("-"),
        train.delay_ms,
        train.width_ms,
        train.period_ms,
        train.count
    );
}
