//! Open Sound Control 1.0 over UDP: `/haltere/decode ,sifis` and, if wanted, `/haltere/embedding ,fff…` and `/haltere/decision ,sssiifiii`.
//!
//! Why it exists: Max, Pure Data, TouchDesigner and Bonsai read OSC directly. What it must never do: wait for a receiver; a UDP
//! datagram that nobody receives is lost.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rosc::{OscMessage, OscPacket, OscType, encoder};

use crate::publish::SinkError;
use crate::publish::relay::{Outlet, RelayedDecode};
use crate::wire::decision::DecisionHeader;

/// Address of a decode; arguments: action, action id, confidence, frame (modulo 2³¹, -1 = none), quality.
const DECODE: &str = "/haltere/decode";
/// Address of an embedding; one float argument for each dimension.
const EMBEDDING: &str = "/haltere/embedding";

/// Address of a decision; arguments: rule, what, reason (empty if there is none), number and frame (modulo 2³¹), delay, width and period of the
/// pulses, ms, and their count.
const DECISION: &str = "/haltere/decision";

/// A UDP socket for OSC messages, which are allocated once and refilled for each decode.
pub struct Osc {
    socket: UdpSocket,
    receiver: SocketAddr,
    decode: OscPacket,
    embedding: Option<OscPacket>,
    decision: OscPacket,
    bytes: Vec<u8>,
}

impl Osc {
    /// Opens a UDP socket towards `receiver`; with `dimensions` the embedding is sent as well.
    ///
    /// # Errors
    /// When the system provides no socket.
    pub fn open(receiver: SocketAddr, dimensions: Option<usize>) -> Result<Self, SinkError> {
        let here: SocketAddr = match receiver {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let open = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind(here)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let fail = |e: std::io::Error| SinkError { sink: format!("osc {receiver}"), cause: e.to_string() };
        let message = |address: &str, args| OscPacket::Message(OscMessage { addr: address.to_owned(), args });
        let text = || OscType::String(String::with_capacity(64));
        Ok(Self {
            socket: open().map_err(fail)?,
            receiver,
            decode: message(DECODE, vec![text(), OscType::Int(0), OscType::Float(0.0), OscType::Int(0), text()]),
            embedding: dimensions.map(|count| message(EMBEDDING, vec![OscType::Float(0.0); count])),
            decision: message(DECISION, [vec![text(), text(), text()], decision_numbers()].concat()),
            bytes: Vec::with_capacity(4096),
        })
    }
}

/// The arguments of a decision after its words.
fn decision_numbers() -> Vec<OscType> {
    let int = || OscType::Int(0);
    vec![int(), int(), OscType::Float(0.0), int(), int(), int()]
}

/// As OSC's only integer has it: modulo 2³¹.
fn int(number: u64) -> OscType {
    OscType::Int((number & 0x7fff_ffff) as i32)
}

/// One message as one datagram.
fn send(socket: &UdpSocket, receiver: SocketAddr, packet: &OscPacket, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    bytes.clear();
    // Writing to memory cannot fail.
    let _ = encoder::encode_into(packet, bytes);
    socket.send_to(bytes, receiver).map(drop)
}

fn arguments(packet: &mut OscPacket) -> &mut [OscType] {
    match packet {
        OscPacket::Message(message) => &mut message.args,
        OscPacket::Bundle(_) => &mut [],
    }
}

fn put(into: &mut OscType, text: &str) {
    if let OscType::String(place) = into {
        place.clear();
        place.push_str(text);
    }
}

impl Outlet for Osc {
    fn name(&self) -> &'static str {
        "osc"
    }

    fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()> {
        if let [action, id, confidence, frame, quality] = arguments(&mut self.decode) {
            put(action, decode.action);
            *id = OscType::Int(decode.action_id);
            *confidence = OscType::Float(decode.confidence);
            *frame = OscType::Int(decode.frame.map_or(-1, |frame| (frame & 0x7fff_ffff) as i32));
            put(quality, decode.quality.name());
        }
        send(&self.socket, self.receiver, &self.decode, &mut self.bytes)?;
        let Some(packet) = &mut self.embedding else { return Ok(()) };
        let values = decode.embedding.iter().map(|&value| OscType::Float(value));
        arguments(packet).iter_mut().zip(values).for_each(|(to, from)| *to = from);
        send(&self.socket, self.receiver, packet, &mut self.bytes)
    }

    fn decision(&mut self, _rule: usize, decision: &DecisionHeader<'_>) -> std::io::Result<()> {
        let train = decision.train.unwrap_or_default();
        if let [name, what, reason, number, frame, delay, width, period, count] = arguments(&mut self.decision) {
            put(name, decision.name.as_str());
            put(what, decision.what.name());
            put(reason, decision.reason.unwrap_or_default());
            (*number, *frame) = (int(decision.number), int(decision.frame));
            *delay = OscType::Float(train.delay_ms as f32);
            *width = int(train.width_ms.into());
            *period = int(train.period_ms.into());
            *count = int(train.count.into());
        }
        send(&self.socket, self.receiver, &self.decision, &mut self.bytes)
    }
}
