//! The outlets of relays: text, fixed bytes, OSC, a serial line, Lab Streaming Layer.
//!
//! Why it exists: each is a format and a device, nothing more; what may be decode is the relay's business. What it must never do:
//! wait, or take up memory with every decode.

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
