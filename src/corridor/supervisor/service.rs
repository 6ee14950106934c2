//! What systemd is told of the daemon: that it is ready, that its decode loop turns, that it is stopping.
//!
//! Why it exists: a daemon that hangs looks alive to everybody but its subscribers; systemd starts it again when the decode loop has not
//! turned for the unit's `WatchdogSec`. What it must never do: speak for a loop that stands, or fail a run because nobody listens.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How often within the watchdog's time it is told that all is well.
const BEATS: u32 = 3;

/// The socket of systemd, where this process was started as a service of `Type=notify`.
pub(super) struct Service {
    systemd: Option<(UnixDatagram, SocketAddr)>,
    /// Time between two signs of life; `None` = no watchdog.
    every: Option<Duration>,
    /// Turns of the decode loop at the last sign of life, and when that was, since the start.
    last: (u64, Duration),
}

impl Service {
    /// As systemd says in the environment; without it, one that tells nobody.
    pub(super) fn from_environment() -> Self {
        let text = |name: &str| env::var(name).ok();
        let for_us = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let every = text("WATCHDOG_USEC").filter(|_| for_us).and_then(|us| us.parse().ok()).map(Duration::from_micros);
        let systemd = text("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET={name}: {error}; systemd is not told how the daemon is");
                None
            }
        });
        Self::new(systemd, every)
    }

    fn new(systemd: Option<(UnixDatagram, SocketAddr)>, within: Option<Duration>) -> Self {
        Self { systemd, every: within.map(|time| time / BEATS), last: (0, Duration::ZERO) }
    }

    /// Decodes can begin.
    pub(super) fn ready(&self, what: &str) {
        self.tell(&format!("READY=1\nSTATUS={what}"));
    }

    /// The run ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A sign of life, if one is due and the decode loop has turned since the last: `turns` so far, `after` the start.
    pub(super) fn look(&mut self, turns: u64, after: Duration) {
        let due = self.every.is_some_and(|every| after >= self.last.1 + every);
        if due && turns != self.last.0 {
            self.last = (turns, after);
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.systemd {
            // It does not block; a sign of life that is lost is followed by another.
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}

/// A socket for datagrams to `name`: a path, or an abstract name that is written with `@`.
fn connect(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener in the place of systemd, and what it has heard.
    fn heard(listener: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 256];
        let mut next = || listener.recv(&mut bytes).ok().map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned());
        std::iter::from_fn(&mut next).collect()
    }

    #[test]
    fn a_loop_that_turns_is_alive_and_one_that_stands_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let ms = Duration::from_millis;
        let mut service = Service::new(Some(connect(path.to_str().unwrap()).unwrap()), Some(ms(300)));
        service.ready("frames from here");
        assert_eq!(heard(&listener), ["READY=1\nSTATUS=frames from here"]);
        for (turns, after, said) in
            [(1, 50, 0), (2, 100, 1), (3, 150, 0), (4, 200, 1), (4, 300, 0), (4, 5000, 0), (5, 5001, 1)]
        {
            service.look(turns, ms(after));
            assert_eq!(heard(&listener), vec!["WATCHDOG=1"; said], "{turns} turns after {after} ms");
        }
        service.stopping();
        assert_eq!(heard(&listener), ["STOPPING=1"]);
        drop(listener);
        service.look(9, ms(9000));
    }

    #[test]
    fn without_a_watchdog_or_without_systemd_nothing_is_sent() {
        let listener =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("haltere-test-service").unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut service = Service::new(Some(connect("@haltere-test-service").unwrap()), None);
        service.look(1, Duration::from_secs(9));
        assert!(heard(&listener).is_empty());
        service.ready("abstract names are told as well");
        assert_eq!(heard(&listener).len(), 1);
        Service::new(None, Some(Duration::from_secs(1))).look(1, Duration::from_secs(9));
    }
}
