//! The outlets for devices that do not read the wire format: where each sends, and what.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::frame::Name;

/// Decodes as text over ZeroMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// PUB endpoint, bound; `None` = off.
    pub endpoint: Option<String>,
    /// The line, with fields in braces.
    pub template: String,
    /// Send decisions as well?
    pub decisions: bool,
}

/// Decodes as fixed bytes over ZeroMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// PUB endpoint, bound; `None` = off.
    pub endpoint: Option<String>,
    /// Send decisions as well?
    pub decisions: bool,
}

/// Decodes as Open Sound Control over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Osc {
    /// Receiver; `None` = off.
    pub receiver: Option<SocketAddr>,
    /// Send the embedding as well?
    pub embedding: bool,
    /// Send decisions as well?
    pub decisions: bool,
}

/// Actions on a serial line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// The line; `None` = off.
    pub device: Option<PathBuf>,
    /// Bits per second.
    pub baud: u32,
    /// When a byte is written.
    pub write: SerialWrite,
    /// Show the outputs of decisions in place of actions?
    pub decisions: bool,
}

/// When a byte is written to the serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialWrite {
    /// When the action changes, and once a second.
    Change,
    /// For every decode.
    Every,
}

/// Pulses of decisions on lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// A serial port, a GPIO chip, or a file that notes every edge; `None` = off.
    pub device: Option<PathBuf>,
    /// Which rule drives which line: `groom=rts walk=dtr`.
    pub lines: String,
    /// Is a line on when its level is low?
    pub active_low: bool,
}

/// Decodes on Lab Streaming Layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lsl {
    /// Prefix of the streams' names; `None` = off.
    pub name: Option<Name>,
    /// liblsl's shared library; `None` = as found by the system.
    pub library: Option<PathBuf>,
    /// When a marker is sent.
    pub markers: LslMarkers,
    /// Open a stream of decisions as well?
    pub decisions: bool,
}

/// When a marker is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LslMarkers {
    /// When the action changes.
    Change,
    /// For every decode.
    Every,
}
