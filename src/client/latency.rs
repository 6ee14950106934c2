//! Listens to decisions and their acknowledgements.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::subscribe::subscribe;
use crate::frame::RoundTrips;
use crate::sys::sockets::ClientKeys;
use crate::wire::decode::Kind;
use crate::wire::round_trip::{take_decision, take_event};
use crate::wire::subscriber::{Content, parse};

/// How long a look for a message takes at most, ms.
const WAIT_MS: i32 = 100;

/// What to listen to, and how long.
#[derive(Clone, Debug)]
pub struct LatencyOptions {
    /// The daemon's `publish.endpoint`.
    pub endpoint: String,
    /// Only this rig.
    pub source: Option<String>,
    /// End after so many round trips.
    pub count: Option<usize>,
    /// End after so long.
    pub duration: Option<Duration>,
    /// If the daemon asks for them.
    pub keys: Option<ClientKeys>,
}

/// Collects round trips until there are enough, the time is over, or `stop` is set.
///
/// # Errors
/// ZeroMQ's, when the endpoint is none or no socket can be opened.
pub fn listen(options: &LatencyOptions, stop: &AtomicBool) -> Result<RoundTrips, zmq::Error> {
    let socket = subscribe(&options.endpoint, WAIT_MS, options.keys.as_ref())?;
    for kind in Kind::FACTS.into_iter().filter(|kind| !matches!(kind, Kind::Decision | Kind::Event)) {
        socket.set_unsubscribe(format!("{}/", kind.name()).as_bytes())?;
    }
    let (mut trips, began) = (RoundTrips::default(), Instant::now());
    let goes_on = |trips: &RoundTrips| {
        !stop.load(Relaxed)
            && options.duration.is_none_or(|duration| began.elapsed() < duration)
            && options.count.is_none_or(|count| trips.done.len() < count)
    };
    while goes_on(&trips) {
        let Ok(parts) = socket.recv_multipart(0) else { continue };
        let Ok(message) = parse(&parts) else { continue };
        if options.source.as_ref().is_some_and(|source| *source != message.source) {
            continue;
        }
        match message.content {
            Content::Decision(_) => take_decision(&message.header, &mut trips),
            Content::Event => take_event(&message.header, &mut trips),
            _ => {}
        }
    }
    Ok(trips)
}
