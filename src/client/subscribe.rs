//! Opens the subscriber's socket, for every program that listens to a daemon.

use crate::sys::sockets::ClientKeys;
use crate::wire::decode::Kind;

/// Messages that may wait in the socket; a subscriber that falls further behind loses messages, which `seq` shows.
const QUEUE_MESSAGES: i32 = 1000;

/// Subscribes to everything but the pictures. The daemon need not be running yet. Receiving waits at most `wait_ms`.
///
/// # Errors
/// ZeroMQ's, when `endpoint` is not an endpoint or no socket can be opened.
pub(crate) fn subscribe(endpoint: &str, wait_ms: i32, keys: Option<&ClientKeys>) -> Result<zmq::Socket, zmq::Error> {
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_linger(0)?;
    socket.set_rcvhwm(QUEUE_MESSAGES)?;
    socket.set_rcvtimeo(wait_ms)?;
    for kind in Kind::FACTS {
        socket.set_subscribe(format!("{}/", kind.name()).as_bytes())?;
    }
    keys.map_or(Ok(()), |keys| keys.put_on(&socket))?;
    socket.connect(endpoint)?;
    Ok(socket)
}
