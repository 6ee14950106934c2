//! The ear: one subscriber socket, one thread.
//!
//! Why it exists: ZeroMQ's sockets wait in their own way. What it must never do: ask for pictures while nobody looks at them;
//! the daemon's machine would send them for nothing.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::MonitorError;
use super::web::Site;
use crate::sys::clock::now_ns;
use crate::wire::decode::Kind;

/// Longest wait for a message before silence, viewers and stop are looked at, ms.
const WAIT_MS: i32 = 20;
/// Messages that may wait here; what is lost beyond it is seen by `seq`.
const WAITING_MAX: i32 = 1000;
/// Topics of the pictures.
const PICTURES: &[u8] = b"preview/";

/// Opens the socket. The daemon need not be there yet.
pub(super) fn connect(endpoint: &str) -> Result<zmq::Socket, MonitorError> {
    let open = || {
        let socket = zmq::Context::new().socket(zmq::SUB)?;
        socket.set_linger(0)?;
        socket.set_rcvhwm(WAITING_MAX)?;
        socket.set_rcvtimeo(WAIT_MS)?;
        for kind in Kind::FACTS {
            socket.set_subscribe(format!("{}/", kind.name()).as_bytes())?;
        }
        socket.connect(endpoint)?;
        Ok(socket)
    };
    open().map_err(|cause| MonitorError::Socket { endpoint: endpoint.to_owned(), cause })
}

/// Takes everything that is heard into the state until `stop`.
pub(super) fn listen(socket: &zmq::Socket, site: &Site, stop: &AtomicBool) -> Result<(), zmq::Error> {
    let mut pictured = false;
    while !stop.load(Relaxed) {
        let wanted = site.is_watched();
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
        let mut state = site.state();
        let now_ns = now_ns();
        let before = state.tally.decodes;
        if let Some(parts) = message {
            state.hear(&parts, now_ns);
        }
        state.look(now_ns);
        if state.tally.decodes != before {
            site.decoded.notify_waiters();
        }
    }
    Ok(())
}

impl Site {
    /// The state, whoever held it before.
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, super::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
