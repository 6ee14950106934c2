//! Which door each socket of the daemon is bound behind: with keys, or without.
//!
//! Why it exists: keys are read once and asked for wherever a socket is bound. What it must never do: bind a socket without keys that the
//! configuration wants with them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing::{info, warn};

use crate::config::Curve;
use crate::config::endpoint::Endpoint;
use crate::source::zmq::Access;
use crate::sys::sockets::{ClientKeys, Clients, Connections, Door, KeyError, KeyPair, PublicKey, ServerKeys};

/// The two kinds of door, and the keys for connecting to a sender.
pub(super) struct Doors {
    open: Door,
    keyed: Option<Door>,
    /// Sockets that only this machine can reach ask for keys as well.
    local: bool,
    sender: Option<ClientKeys>,
}

impl Doors {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(super) fn of(curve: &Curve, connections: &Arc<Connections>) -> Result<Self, KeyError> {
        let pair = curve.key.as_deref().map(KeyPair::read).transpose()?;
        let clients = curve.clients.as_deref().map(Clients::of).transpose()?;
        let keys = pair.clone().zip(clients).map(|(pair, clients)| Arc::new(ServerKeys { pair, clients }));
        let server = curve.sender.as_deref().map(PublicKey::read).transpose()?;
        Ok(Self {
            open: Door::new(None, connections.clone()),
            keyed: keys.map(|keys| Door::new(Some(keys), connections.clone())),
            local: curve.local,
            sender: pair.zip(server).map(|(pair, server)| ClientKeys { pair, server }),
        })
    }

    /// The door of a socket that is bound to `endpoint`.
    pub(super) fn at(&self, endpoint: &str) -> &Door {
        let is_local = endpoint.parse::<Endpoint>().is_ok_and(|endpoint| endpoint.is_local());
        self.keyed.as_ref().filter(|_| self.local || !is_local).unwrap_or(&self.open)
    }

    /// Whom frames may come from.
    pub(super) fn frames(&self, endpoint: &str) -> Access {
        Access { door: self.at(endpoint).clone(), keys: self.sender.clone() }
    }
}

/// Logs who was let in and who was refused since the last call.
pub(super) fn log(connections: &Connections) {
    while let Some(note) = connections.notes.pop() {
        if note.refused {
            warn!("{} ({} refused since start)", note.text, connections.refused.load(Relaxed));
        } else {
            info!("{}", note.text);
        }
    }
}
