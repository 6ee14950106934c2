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
use crate::wire::decision::{DecisionHeader, What};

/// Length of a message: `u64 seq, u64 t_pub_ns, i32 action_id, f32 confidence`, little-endian, no padding.
pub const BINARY_BYTES: usize = 24;
/// Length of a decision: `u64 seq, u64 t_pub_ns, u64 number, u64 frame, u32 delay_us, u32 width_ms, u32 period_ms, u16 count, u8 rule,
/// u8 what`, little-endian, no padding.
const DECISION_BYTES: usize = 48;
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

    fn decision(&mut self, rule: usize, decision: &DecisionHeader<'_>) -> std::io::Result<()> {
        send(&self.socket, &decision_bytes(rule, decision))
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

fn decision_bytes(rule: usize, decision: &DecisionHeader<'_>) -> [u8; DECISION_BYTES] {
    let train = decision.train.unwrap_or_default();
    let what = match decision.what {
        What::Withheld => 0,
        What::Output => 1,
        What::Ended => 2,
    };
    let mut bytes = [0; DECISION_BYTES];
    let long = [decision.seq, decision.t_pub_ns, decision.number, decision.frame];
    bytes[..32].as_chunks_mut().0.iter_mut().zip(long).for_each(|(to, value)| *to = value.to_le_bytes());
    let short = [(train.delay_ms * 1e3).round() as u32, train.width_ms, train.period_ms];
    bytes[32..44].as_chunks_mut().0.iter_mut().zip(short).for_each(|(to, value)| *to = value.to_le_bytes());
    // The configuration keeps the count of pulses and that of rules below these bounds.
    bytes[44..46].copy_from_slice(&u16::try_from(train.count).unwrap_or(u16::MAX).to_le_bytes());
    (bytes[46], bytes[47]) = (u8::try_from(rule).unwrap_or(u8::MAX), what);
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
