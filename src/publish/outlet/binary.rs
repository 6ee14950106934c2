//! Twenty-four bytes for each decode, over a ZeroMQ PUB socket.
//!
//! Why it exists: a microcontroller bridge or a LabVIEW cluster reads a fixed structure without parsing. What it must never do:
//! change its layout, which `clients/PROTOCOL.md` guarantees.

use zmq::Context;

use super::plain::send;
use crate::publish::SinkError;
use crate::publish::relay::{Outlet, RelayedDecode};
use crate::publish::zmq::{Address, open_pub};
use crate::sys::sockets::{Door, GuardedSocket};

/// Length of a message: `u64 seq, u64 t_pub_ns, i32 action_id, f32 confidence`, little-endian, no padding.
pub const BINARY_BYTES: usize = 24;
/// Messages queued for a slow subscriber.
const HWM: i32 = 64;

/// A PUB socket for fixed structures.
pub struct Binary {
    socket: GuardedSocket,
}

impl Binary {
    /// Binds the PUB socket behind `door`.
    ///
    /// # Errors
    /// An endpoint that is invalid, in use or not permitted.
    pub fn bind(door: &Door, endpoint: &str) -> Result<Self, SinkError> {
        let address = Address { endpoint, key: "binary.endpoint", name: "binary" };
        Ok(Self { socket: open_pub(&Context::new(), door, address, HWM)? })
    }
}

impl Outlet for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()> {
        send(&self.socket, &bytes(decode))
    }
}

fn bytes(decode: &RelayedDecode<'_>) -> [u8; BINARY_BYTES] {
    let mut bytes = [0; BINARY_BYTES];
    bytes[..8].copy_from_slice(&decode.seq.to_le_bytes());
    bytes[8..16].copy_from_slice(&decode.t_pub_ns.to_le_bytes());
    bytes[16..20].copy_from_slice(&decode.action_id.to_le_bytes());
    bytes[20..].copy_from_slice(&decode.confidence.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Quality;

    #[test]
    fn the_layout_is_that_of_the_protocol() {
        let decode = RelayedDecode {
            seq: 0x0102_0304_0506_0708,
            t_pub_ns: 2,
            t_received_ns: Some(1),
            frame: Some(1),
            generation: 1,
            quality: Quality::Ok,
            action: "walking",
            action_id: -1,
            confidence: 1.0,
            embedding: &[],
        };
        let expected = [8, 7, 6, 5, 4, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x80, 0x3f];
        assert_eq!(bytes(&decode), expected);
    }
}
