//! One line of text for each decode, over a ZeroMQ PUB socket: `walking 0.93 1234`.
//!
//! Why it exists: Bonsai, LabVIEW and serial relays parse a line more easily than JSON. What it must never do: send anything but
//! the one part that the template defines.

use std::io::Write;

use zmq::{Context, DONTWAIT, Socket};

use super::write_decision;
use crate::config::template::{Field, Piece, Template};
use crate::publish::SinkError;
use crate::publish::relay::{Outlet, RelayedDecode};
use crate::publish::zmq::{Address, open_pub};
use crate::sys::sockets::{Door, GuardedSocket};
use crate::wire::decision::DecisionHeader;

/// Messages queued for a slow subscriber.
const HWM: i32 = 64;

/// Writes the line; -1 stands for no frame.
fn write_line(template: &Template, decode: &RelayedDecode<'_>, line: &mut Vec<u8>) -> std::io::Result<()> {
    line.clear();
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
            Piece::Field(Field::Action) => line.extend_from_slice(decode.action.as_bytes()),
            Piece::Field(Field::ActionId) => write!(line, "{}", decode.action_id)?,
            Piece::Field(Field::Confidence) => write!(line, "{:.2}", decode.confidence)?,
            Piece::Field(Field::Frame) => match decode.frame {
                Some(frame) => write!(line, "{frame}")?,
                None => write!(line, "-1")?,
            },
            Piece::Field(Field::Quality) => line.extend_from_slice(decode.quality.name().as_bytes()),
            Piece::Field(Field::Seq) => write!(line, "{}", decode.seq)?,
            Piece::Field(Field::TimeNs) => write!(line, "{}", decode.t_pub_ns)?,
        }
    }
    Ok(())
}

/// A PUB socket for lines of text.
pub struct Plain {
    socket: GuardedSocket,
    template: Template,
    line: Vec<u8>,
    decision: String,
}

impl Plain {
    /// Binds the PUB socket behind `door`.
    ///
    /// # Errors
    /// An endpoint that is invalid, in use or not permitted.
    pub fn bind(door: &Door, endpoint: &str, template: Template) -> Result<Self, SinkError> {
        let address = Address { endpoint, key: "plain.endpoint", name: "plain" };
        let socket = open_pub(&Context::new(), door, address, HWM)?;
        Ok(Self { socket, template, line: Vec::with_capacity(512), decision: String::with_capacity(256) })
    }
}

impl Outlet for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()> {
        write_line(&self.template, decode, &mut self.line)?;
        send(&self.socket, &self.line)
    }

    fn decision(&mut self, _rule: usize, decision: &DecisionHeader<'_>) -> std::io::Result<()> {
        self.decision.clear();
        self.decision.push_str("decision ");
        write_decision(decision, &mut self.decision);
        send(&self.socket, self.decision.as_bytes())
    }
}

/// Sends one message. PUB takes it at once or drops it for slow subscribers.
pub(super) fn send(socket: &Socket, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        match socket.send(bytes, DONTWAIT) {
            Err(zmq::Error::EINTR) => {}
            Ok(()) | Err(zmq::Error::EAGAIN) => return Ok(()),
            Err(e) => return Err(std::io::Error::from_raw_os_error(e.to_raw())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Quality;

    const SAID: RelayedDecode<'_> = RelayedDecode {
        seq: 7,
        t_pub_ns: 99,
        t_received_ns: Some(98),
        frame: Some(1234),
        generation: 1,
        quality: Quality::Ok,
        action: "walking",
        action_id: 6,
        confidence: 0.926,
        embedding: &[],
    };

    fn line(template: &str, decode: &RelayedDecode<'_>) -> String {
        let mut line = b"rubbish of the line before".to_vec();
        write_line(&template.parse().unwrap(), decode, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_template_is_filled_field_by_field() {
        assert_eq!(line("{action} {confidence} {frame}", &SAID), "walking 0.93 1234");
        assert_eq!(line("<{quality}|{action_id};{seq}@{t_ns}>", &SAID), "<ok|6;7@99>");
        assert_eq!(line("no field", &SAID), "no field");
        let without = RelayedDecode { frame: None, ..SAID };
        assert_eq!(line("{frame}", &without), "-1");
    }
}
