//! The listening thread: one subscriber socket whose messages update the state.
//!
//! What it must never do: subscribe to pictures while no page is open; the daemon would send them for nothing.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::MonitorError;
use super::web::Rig;
use crate::client::subscribe::subscribe;
use crate::sys::clock::now_ns;
use crate::sys::sockets::ClientKeys;

/// Longest wait for a message before silence, open pages and `stop` are checked, ms.
const WAIT_MS: i32 = 20;
/// Topics of the pictures.
const PICTURES: &[u8] = b"preview/";

/// Opens the socket. The daemon need not be running yet.
pub(super) fn connect(endpoint: &str, keys: Option<&ClientKeys>) -> Result<zmq::Socket, MonitorError> {
    subscribe(endpoint, WAIT_MS, keys).map_err(|cause| MonitorError::Socket { endpoint: endpoint.to_owned(), cause })
}

/// Updates the state with every message until `stop`.
pub(super) fn listen(socket: &zmq::Socket, rig: &Rig, stop: &AtomicBool) -> Result<(), zmq::Error> {
    let mut pictured = false;
    while !stop.load(Relaxed) {
        let wanted = rig.is_watched();
        if wanted != pictured {
            if wanted {
                socket.set_subscribe(PICTURES)?
            } else {
                socket.set_unsubscribe(PICTURES)?
            }
            pictured = wanted;
        }
        let message = match socket.recv_multipart(0) {
            Ok(parts) => Some(parts),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => None,
            Err(cause) => return Err(cause),
        };
        let mut state = rig.state();
        let now_ns = now_ns();
        let before = state.tally.decodes;
        if let Some(parts) = message {
            state.receive(&parts, now_ns);
        }
        state.check_silence(now_ns);
        if state.tally.decodes != before {
            rig.decoded.notify_waiters();
        }
    }
    Ok(())
}

impl Rig {
    /// The state, even if a thread that held it has panicked.
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, super::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
