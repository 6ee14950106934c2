//! Sockets that let in only whom they should.
//!
//! Why it exists: libzmq takes whatever connects. An HTTP request reads as a message of ZMTP 1.0, so a web page could command a daemon; and
//! without keys everybody on a network can. Every socket of this program that is bound, is bound here: peers older than ZMTP 3 are refused, and
//! with keys (CURVE) everyone who is not on the list.
//! What it must never do: let a peer in before its guard listens, or know what a message means.

mod guard;
mod keys;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam::queue::ArrayQueue;

use guard::Guard;
pub use keys::{Clients, KeyError, KeyPair, PUBLIC_SUFFIX, PublicKey, SECRET_SUFFIX};

/// Notes that wait for the log; more of them are counted and not told.
const NOTES_MAX: usize = 64;

/// Who came to the bound sockets of a process. Written by their guards, read by anyone.
#[derive(Debug)]
pub struct Connections {
    /// Peers that were let in.
    pub let_in: AtomicU64,
    /// Peers that were refused.
    pub refused: AtomicU64,
    /// Who was let in by name, and who was refused and why, for the log.
    pub notes: ArrayQueue<Note>,
}

/// A line for the log.
#[derive(Debug)]
pub struct Note {
    /// Somebody was refused; else let in.
    pub refused: bool,
    /// Which socket, who and why.
    pub text: String,
}

impl Default for Connections {
    fn default() -> Self {
        Self { let_in: AtomicU64::new(0), refused: AtomicU64::new(0), notes: ArrayQueue::new(NOTES_MAX) }
    }
}

/// What a bound socket asks of its peers.
#[derive(Clone, Debug, Default)]
pub struct Door {
    keys: Option<Arc<ServerKeys>>,
    connections: Arc<Connections>,
}

/// The key of this side, and those of the peers that it lets in.
#[derive(Debug)]
pub struct ServerKeys {
    /// This side's own.
    pub pair: KeyPair,
    /// Who is let in.
    pub clients: Clients,
}

impl Door {
    /// A door that opens to `keys.clients`, or without keys to every peer that speaks ZMTP 3. `connections` counts them.
    pub fn new(keys: Option<Arc<ServerKeys>>, connections: Arc<Connections>) -> Self {
        Self { keys, connections }
    }

    /// Binds `socket`, which must belong to `context`. `name` stands in the log: `control`, `frames`, ….
    ///
    /// # Errors
    /// libzmq's, of the endpoint or of the keys; `EAGAIN` when the system has no thread for the guard.
    pub fn bind(
        &self,
        context: &zmq::Context,
        socket: zmq::Socket,
        endpoint: &str,
        name: &'static str,
    ) -> Result<GuardedSocket, zmq::Error> {
        // With a domain, libzmq refuses peers whose protocol has no handshake to be judged by: ZMTP 1 and 2, and so HTTP.
        socket.set_zap_domain(name)?;
        if let Some(keys) = &self.keys {
            socket.set_curve_server(true)?;
            socket.set_curve_publickey(keys.pair.public().bytes())?;
            socket.set_curve_secretkey(keys.pair.secret())?;
        }
        let guard = Guard::start(context, &socket, self.keys.clone(), self.connections.clone(), name)?;
        // Together, so that one that cannot be bound is closed before its guard is waited for.
        let guarded = GuardedSocket { socket, _guard: Some(guard) };
        guarded.socket.bind(endpoint)?;
        Ok(guarded)
    }
}

/// The keys with which this side connects.
#[derive(Clone, Debug)]
pub struct ClientKeys {
    /// This side's own.
    pub pair: KeyPair,
    /// The side that is connected to: nobody else can pretend to be it.
    pub server: PublicKey,
}

impl ClientKeys {
    /// Makes `socket` prove who it is wherever it connects from now on, and encrypt.
    ///
    /// # Errors
    /// libzmq's; `EINVAL` in a build without CURVE.
    pub fn put_on(&self, socket: &zmq::Socket) -> Result<(), zmq::Error> {
        socket.set_curve_serverkey(self.server.bytes())?;
        socket.set_curve_publickey(self.pair.public().bytes())?;
        socket.set_curve_secretkey(self.pair.secret())
    }
}

/// A socket that is bound behind a guard, or that connects and needs none.
pub struct GuardedSocket {
    // Closed before the guard leaves: the fields are dropped in this order.
    socket: zmq::Socket,
    _guard: Option<Guard>,
}

impl GuardedSocket {
    /// A socket that only connects.
    pub fn unguarded(socket: zmq::Socket) -> Self {
        Self { socket, _guard: None }
    }
}

impl Deref for GuardedSocket {
    type Target = zmq::Socket;

    fn deref(&self) -> &zmq::Socket {
        &self.socket
    }
}

#[cfg(test)]
mod tests;
