//! The outlets of relays: text, fixed bytes, OSC, a serial line, Lab Streaming Layer.
//!
//! Each is a format and a device, nothing more; the relay decides what may be sent. What an outlet must never do: wait, or
//! allocate for every decode.

mod binary;
mod lsl;
mod osc;
mod plain;
mod serial;

pub use binary::{BINARY_BYTES, Binary};
pub use lsl::{Lsl, liblsl};
pub use osc::Osc;
pub use plain::Plain;
pub use serial::Serial;
