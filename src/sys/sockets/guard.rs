//! The thread beside a bound socket: decides who is let in (ZAP, ZeroMQ RFC 27) and counts.
//!
//! Why it exists: libzmq asks a socket at `inproc://zeromq.zap.01` of the same context whether a key is welcome, and tells of connections by its
//! monitor. What it must never do: write a log itself. A log that nobody reads would stop it, and libzmq's own thread behind it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::keys::PublicKey;
use super::{Connections, Note, ServerKeys};

/// Where libzmq asks.
const ZAP_ENDPOINT: &str = "inproc://zeromq.zap.01";
/// Events of a socket's monitor, by libzmq's numbers.
const ACCEPTED: u16 = 0x0020;
const DISCONNECTED: u16 = 0x0200;
const MONITOR_STOPPED: u16 = 0x0400;
const HANDSHAKE_BROKEN_OFF: u16 = 0x0800;
const HANDSHAKE_SUCCEEDED: u16 = 0x1000;
const HANDSHAKE_FAILED: u16 = 0x2000;
const HANDSHAKE_DENIED: u16 = 0x4000;
/// Connections that may be in their handshake at once and are still told apart.
const PENDING_MAX: usize = 1024;
/// Longest wait for a socket to close: more than messages linger anywhere.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// Least time between two notes of refusals; what happened between is counted.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The thread; it leaves when its socket is closed, and is waited for. Nothing is ever sent: the other end lives as long as the thread.
pub(super) struct Guard(Receiver<()>);

impl Guard {
    /// Starts to watch `socket`, before it is bound.
    pub(super) fn start(
        context: &zmq::Context,
        socket: &zmq::Socket,
        keys: Option<Arc<ServerKeys>>,
        connections: Arc<Connections>,
        name: &'static str,
    ) -> Result<Self, zmq::Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let at = format!("inproc://haltere.guard.{}", COUNT.fetch_add(1, Relaxed));
        let events = [
            ACCEPTED,
            DISCONNECTED,
            MONITOR_STOPPED,
            HANDSHAKE_BROKEN_OFF,
            HANDSHAKE_SUCCEEDED,
            HANDSHAKE_FAILED,
            HANDSHAKE_DENIED,
        ];
        socket.monitor(&at, events.iter().fold(0, |all, event| all | i32::from(*event)))?;
        let monitor = context.socket(zmq::PAIR)?;
        monitor.connect(&at)?;
        let questions = match keys {
            None => None,
            Some(keys) => {
                let socket = context.socket(zmq::REP)?;
                socket.set_linger(0)?;
                socket.bind(ZAP_ENDPOINT)?;
                Some((socket, keys))
            }
        };
        let mut watch =
            Watch { name, questions, connections, pending: VecDeque::new(), cause: None, noted: None, unnoted: 0 };
        let (alive, ended) = channel();
        let thread = std::thread::Builder::new().name("guard".to_owned()).spawn(move || {
            watch.run(&monitor);
            drop((watch, monitor));
            drop::<Sender<()>>(alive);
        });
        thread.map_err(|_| zmq::Error::EAGAIN)?;
        Ok(Self(ended))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It ends when libzmq has closed the socket, which takes as long as messages may linger, or as a socket of the same context that is
        // connected to it is not closed itself.
        let _ = self.0.recv_timeout(CLOSED_WITHIN);
    }
}

/// Why a handshake came to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The peer left, or never said anything.
    BrokenOff,
    /// It speaks another protocol, or has no key, or the wrong one for this server.
    Failed,
    /// Its key is on no list; it was told so, and so was the log.
    Denied,
}

/// What a guard knows.
struct Watch {
    name: &'static str,
    questions: Option<(zmq::Socket, Arc<ServerKeys>)>,
    connections: Arc<Connections>,
    /// File descriptors of the connections in their handshake, the oldest first.
    pending: VecDeque<u32>,
    /// Of the last handshake that came to nothing.
    cause: Option<Cause>,
    noted: Option<Instant>,
    unnoted: u64,
}

impl Watch {
    fn run(&mut self, monitor: &zmq::Socket) {
        loop {
            let mut items = vec![monitor.as_poll_item(zmq::POLLIN)];
            items.extend(self.questions.as_ref().map(|(socket, _)| socket.as_poll_item(zmq::POLLIN)));
            // A guard that left early would leave its door open: libzmq asks nobody then. Only the end of the context ends it.
            match zmq::poll(&mut items, -1) {
                Ok(_) => {}
                Err(zmq::Error::ETERM) => return,
                Err(_) => continue,
            }
            let ready: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
            if ready.get(1) == Some(&true) {
                self.answer();
            }
            if ready[0] && !self.hear(monitor) {
                return;
            }
        }
    }

    /// Takes one event; false when the socket is closed.
    fn hear(&mut self, monitor: &zmq::Socket) -> bool {
        let parts = match monitor.recv_multipart(0) {
            Ok(parts) => parts,
            // A signal, for one.
            Err(error) => return error != zmq::Error::ETERM,
        };
        let Some((event, value)) = parts.first().and_then(|part| event_of(part)) else { return true };
        match event {
            MONITOR_STOPPED => return false,
            ACCEPTED => {
                self.pending.push_back(value);
                self.pending.truncate(PENDING_MAX);
            }
            // libzmq does not say which one it was. The oldest is as good as any: it is the sum that counts.
            HANDSHAKE_SUCCEEDED => {
                self.pending.pop_front();
                self.connections.let_in.fetch_add(1, Relaxed);
            }
            HANDSHAKE_BROKEN_OFF => self.cause = Some(Cause::BrokenOff),
            HANDSHAKE_FAILED => self.cause = Some(Cause::Failed),
            HANDSHAKE_DENIED => self.cause = Some(Cause::Denied),
            DISCONNECTED => {
                let cause = self.cause.take();
                if let Some(at) = self.pending.iter().position(|fd| *fd == value) {
                    self.pending.remove(at);
                    self.refused(cause);
                }
            }
            _ => {}
        }
        true
    }

    /// A connection ended in its handshake.
    fn refused(&mut self, cause: Option<Cause>) {
        // Who has no key sees at once that one is wanted, and may leave before it is sent away.
        if cause == Some(Cause::BrokenOff) && self.questions.is_none() {
            return;
        }
        self.connections.refused.fetch_add(1, Relaxed);
        let why = match (cause, self.questions.is_some()) {
            (Some(Cause::Denied), _) => return,
            (_, true) => "it has no key, or not this daemon's public key, or speaks a protocol older than ZMTP 3",
            (_, false) => {
                "it speaks a protocol older than ZMTP 3, which libzmq 4.0, JeroMQ 0.4 and NetMQ 4.0.1 brought; or it is a web page"
            }
        };
        self.note_refusal(format_args!("refused a connection: {why}"));
    }

    /// One refusal a second is told.
    fn note_refusal(&mut self, what: impl Display) {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE_EVERY) {
            self.unnoted += 1;
            return;
        }
        let others = match std::mem::take(&mut self.unnoted) {
            0 => String::new(),
            n => format!(" ({n} more since the last such line)"),
        };
        self.noted = Some(Instant::now());
        self.note(true, format!("{}: {what}{others}", self.name));
    }

    fn note(&self, refused: bool, text: String) {
        // A full queue loses the line; the peer was counted.
        let _ = self.connections.notes.push(Note { refused, text });
    }

    /// Answers libzmq's question whether a key is welcome.
    fn answer(&mut self) {
        let Some((socket, keys)) = &self.questions else { return };
        let Ok(question) = socket.recv_multipart(0) else { return };
        let part = |at: usize| question.get(at).map_or(&[][..], |part| part);
        let address = String::from_utf8_lossy(part(3)).into_owned();
        let key = PublicKey::of_bytes(part(6)).filter(|_| part(0) == b"1.0" && part(5) == b"CURVE");
        let client = key.and_then(|key| keys.clients.name_of(&key));
        let (status, text) = if client.is_some() { ("200", "welcome") } else { ("400", "no client of this key") };
        let name = client.as_deref().unwrap_or_default();
        let answer = [b"1.0", part(1), status.as_bytes(), text.as_bytes(), name.as_bytes(), b""];
        let _ = socket.send_multipart(answer, 0);
        let folder = keys.clients.folder().display().to_string();
        match (client, key) {
            (Some(name), _) => self.note(false, format!("{}: let in `{name}` from {address}", self.name)),
            (None, Some(key)) => self.note_refusal(format_args!(
                "refused a connection from {address}: no file in {folder} has its public key, {key}"
            )),
            (None, None) => self.note_refusal(format_args!("refused a connection from {address}: it has no key")),
        }
    }
}

/// Number and value of an event: a u16 and a u32 of this machine.
fn event_of(part: &[u8]) -> Option<(u16, u32)> {
    let (event, value) = part.split_at_checked(2)?;
    Some((u16::from_ne_bytes(event.try_into().ok()?), u32::from_ne_bytes(value.try_into().ok()?)))
}
