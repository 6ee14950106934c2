//! Live frames over ZeroMQ: SUB or PULL, bound or connected, tcp or ipc.
//!
//! Why it exists: microscopes send in many ways; a valid frame ends up in a slot, anything else in a counter.
//! What it must never do: end the stream for one bad message, wait longer than [`IDLE_MS_MAX`], or allocate per frame (the
//! three messages that receive the parts are reused).
//!
//! A connecting socket with `ZMQ_MAXMSGSIZE` goes silent for good after one oversized message (libzmq 4.3), so the limit is
//! set only when binding, where it disconnects senders of absurd sizes; smaller excesses are measured and counted here.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::config::{Attach, Pattern, Source as Settings, Wait};
use crate::frame::{Frame, FrameInfo, Geometry, Name, SenderClock};
use crate::source::arrival::{Advice, ArrivalPredictor};
use crate::sys::clock::now_ns;
use crate::sys::sockets::{ClientKeys, Door, GuardedSocket};
use crate::wire::frame_header::{FrameHeader, HeaderError, Message, PARTS_MAX, parse_message};
use crate::wire::pixels::{self, Layout};

use super::age::{Ages, Arrived};
use super::continuity::{Continuity, Place};
use super::{IDLE_MS_MAX, Next, Source, SourceError};

/// A TCP peer that has been silent for so long is probed, s; so often, s; and is disconnected after so many probes without an answer. By the
/// kernel, because libzmq's own heartbeats end the process (an assertion in `out_event`) if one is due on a connection that was lost while
/// its frames still waited to be read: a sender that leaves while the daemon is stopped for a moment is enough.
const KEEPALIVE: [i32; 3] = [2, 1, 3];
/// Longest wait between attempts to reconnect, ms.
const RECONNECT_MS_MAX: i32 = 1000;
/// Silence after which a sender is gone, unless [`ZmqSource::silent_after`] says otherwise.
const SILENT_AFTER: Duration = Duration::from_millis(250);
/// Longest path of a Unix socket, bytes, without the final zero.
const IPC_PATH_BYTES_MAX: usize = 107;

/// Who may be at the other end of a socket for frames.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Of a socket that is bound.
    pub door: Door,
    /// Of one that connects: this side's key and the other's.
    pub keys: Option<ClientKeys>,
}

impl Access {
    /// Binds or connects a socket of `context`.
    ///
    /// # Errors
    /// libzmq's.
    pub fn attach(
        &self,
        context: &zmq::Context,
        socket: zmq::Socket,
        endpoint: &str,
        attach: Attach,
    ) -> Result<GuardedSocket, zmq::Error> {
        if attach == Attach::Bind {
            return self.door.bind(context, socket, endpoint, "frames");
        }
        self.keys.as_ref().map_or(Ok(()), |keys| keys.put_on(&socket))?;
        socket.connect(endpoint)?;
        Ok(GuardedSocket::unguarded(socket))
    }
}

/// Frames from a ZeroMQ socket.
pub struct ZmqSource {
    socket: GuardedSocket,
    parts: [zmq::Message; PARTS_MAX],
    continuity: Continuity,
    rig: Name,
    endpoint: String,
    frame_bytes_max: usize,
    plane: Option<u64>,
    wait: Wait,
    arrivals: ArrivalPredictor,
    ages: Ages,
    /// What was left out of the last frame's header.
    ignored: Option<HeaderError>,
    /// When the socket was last found empty, ns.
    drained_ns: u64,
}

impl ZmqSource {
    /// Opens the socket. `rig` names frames without a `source`.
    ///
    /// # Errors
    /// An endpoint that cannot be used, and what to do about it.
    pub fn open(settings: &Settings, rig: Name, wait: Wait) -> Result<Self, SourceError> {
        Self::open_with(settings, rig, wait, &Access::default())
    }

    /// As [`ZmqSource::open`], with keys.
    ///
    /// # Errors
    /// As [`ZmqSource::open`].
    pub fn open_with(settings: &Settings, rig: Name, wait: Wait, access: &Access) -> Result<Self, SourceError> {
        let fail = |cause: String| SourceError::Socket { endpoint: settings.endpoint.clone(), cause };
        check_endpoint(&settings.endpoint, settings.attach).map_err(fail)?;
        let context = zmq::Context::new();
        let socket = make_socket(&context, settings).map_err(|e| fail(format!("the socket cannot be set up: {e}")))?;
        let attached = access.attach(&context, socket, &settings.endpoint, settings.attach);
        let socket = attached.map_err(|e| fail(explain(e, &settings.endpoint, "source.endpoint")))?;
        let bound = socket.get_last_endpoint().ok().and_then(Result::ok);
        Ok(Self {
            socket,
            parts: std::array::from_fn(|_| zmq::Message::new()),
            continuity: Continuity::new(SILENT_AFTER),
            rig,
            endpoint: bound.unwrap_or_else(|| settings.endpoint.clone()),
            frame_bytes_max: settings.frame_bytes_max,
            plane: settings.plane,
            wait,
            arrivals: ArrivalPredictor::default(),
            ages: Ages::default(),
            ignored: None,
            drained_ns: 0,
        })
    }

    /// The endpoint in use; a port chosen by the system (`tcp://127.0.0.1:*`) is filled in.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The same, for a sender that is taken to be gone after this much silence: numbers may then begin anew, or another source
    /// take over.
    #[must_use]
    pub fn silent_after(self, deadline: Duration) -> Self {
        Self { continuity: Continuity::new(deadline), ..self }
    }

    /// Waits for the first part of a message. `false`: nothing arrived.
    fn first_part(&mut self, until_ns: u64) -> Result<bool, SourceError> {
        loop {
            match self.socket.recv(&mut self.parts[0], zmq::DONTWAIT) {
                Ok(()) => return Ok(true),
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
            self.drained_ns = now_ns();
            let left = Duration::from_nanos(until_ns.saturating_sub(self.drained_ns));
            if left.is_zero() {
                return Ok(false);
            }
            match self.wait {
                Wait::Spin => std::hint::spin_loop(),
                Wait::Yield => std::thread::yield_now(),
                Wait::Park => self.poll(left)?,
                Wait::Anticipate => match self.arrivals.advise(self.drained_ns) {
                    Advice::Sleep(ns) => self.poll(left.min(Duration::from_nanos(ns)))?,
                    Advice::Warm | Advice::Awake => std::thread::yield_now(),
                },
            }
        }
    }

    /// Sleeps until a message arrives, or for `at_most` (to the millisecond).
    fn poll(&self, at_most: Duration) -> Result<(), SourceError> {
        match self.socket.poll(zmq::POLLIN, at_most.as_millis().max(1) as i64) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Receives the other parts, which arrive together with the first; parts beyond the third are discarded. Returns the number of
    /// parts.
    fn other_parts(&mut self) -> Result<usize, SourceError> {
        let mut count = 1;
        let mut more = self.parts[0].get_more();
        let mut beyond = zmq::Message::new();
        while more {
            let part = self.parts.get_mut(count).unwrap_or(&mut beyond);
            match self.socket.recv(part, 0) {
                Ok(()) => {}
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(self.failed(error)),
            }
            more = part.get_more();
            count += 1;
        }
        Ok(count)
    }

    /// Judges the message in `parts`. `None`: a frame of another plane.
    fn judge(&mut self, count: usize, t_received_ns: u64, into: &mut Frame) -> Option<Next> {
        if count > PARTS_MAX {
            return Some(Next::Rejected(HeaderError::Parts(count).into()));
        }
        let [a, b, c] = &self.parts;
        let all: [&[u8]; PARTS_MAX] = [a, b, c];
        let (header, pixels) = match parse_message(&all[..count]) {
            Ok((Message::Frame(header), pixels)) => (header, pixels),
            Ok((Message::SeriesBegins(source), _)) => return Some(self.announce(source, Next::SeriesBegan)),
            Ok((Message::SeriesEnds(source), _)) => return Some(self.announce(source, Next::SeriesEnded)),
            Err(error) => return Some(Next::Rejected(error.into())),
        };
        if let Err(error) = header.check_payload(pixels.len(), self.frame_bytes_max.min(into.capacity_bytes())) {
            return Some(Next::Rejected(error.into()));
        }
        if let (Some(wanted), Some(plane)) = (self.plane, header.plane)
            && wanted != plane
        {
            return None;
        }
        let place = place(&header, self.rig, t_received_ns);
        let standing = match self.continuity.judge(place, self.drained_ns) {
            Ok(standing) => standing,
            Err(why) => return Some(Next::Rejected(why.into())),
        };
        let arrived = Arrived {
            stamp: header.t_device,
            series_began: standing.series_began,
            frames: standing.gap.saturating_add(1),
            received_ns: t_received_ns,
            empty_ns: self.drained_ns,
        };
        let age_ns = self.ages.of(&arrived);
        self.arrivals.note(t_received_ns);
        self.ignored = header.ignored;
        into.info = FrameInfo {
            shape: header.shape,
            pixel_type: header.pixel_type,
            number: standing.number,
            gap: standing.gap,
            ordinal_offset: standing.ordinal.wrapping_sub(standing.number) as i64,
            t_device: header.t_device,
            t_received_ns,
            t_live_ns: Some(t_received_ns),
            age_ns,
            unpublished: false,
            source: place.source,
            series: header.series,
            series_began: standing.series_began,
            marks: header.marks,
            animal: header.animal,
        };
        pixels::copy(&layout(&header), pixels, into.bytes_mut());
        Some(Next::Frame)
    }

    fn announce(&mut self, source: Option<Name>, next: Next) -> Next {
        match self.continuity.announce(source, self.drained_ns) {
            Ok(()) => next,
            Err(why) => Next::Rejected(why.into()),
        }
    }

    fn failed(&self, error: zmq::Error) -> SourceError {
        SourceError::Socket { endpoint: self.endpoint.clone(), cause: format!("receiving failed: {error}") }
    }
}

impl Source for ZmqSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let until_ns = now_ns() + IDLE_MS_MAX * 1_000_000;
        loop {
            if !self.first_part(until_ns)? {
                return Ok(Next::Idle);
            }
            let count = self.other_parts()?;
            let t_received_ns = now_ns();
            if let Some(next) = self.judge(count, t_received_ns, into) {
                return Ok(next);
            }
            // Frames of other planes may arrive faster than ours: the bound on waiting applies to them too.
            if t_received_ns >= until_ns {
                return Ok(Next::Idle);
            }
        }
    }

    fn ignored(&self) -> Option<HeaderError> {
        self.ignored
    }

    fn sender_clock(&self) -> Option<SenderClock> {
        self.ages.sender_clock()
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }
}

fn place(header: &FrameHeader, rig: Name, t_received_ns: u64) -> Place {
    Place {
        number: header.number,
        plane: header.plane,
        source: header.source.unwrap_or(rig),
        series: header.series,
        geometry: Geometry { shape: header.shape, pixel_type: header.pixel_type },
        t_received_ns,
    }
}

fn layout(header: &FrameHeader) -> Layout {
    Layout { shape: header.shape, pixel_type: header.pixel_type, big_endian: header.big_endian, order: header.order }
}

fn make_socket(context: &zmq::Context, settings: &Settings) -> Result<zmq::Socket, zmq::Error> {
    let kind = match settings.pattern {
        Pattern::Sub => zmq::SUB,
        Pattern::Pull => zmq::PULL,
    };
    let socket = context.socket(kind)?;
    socket.set_linger(0)?;
    socket.set_rcvhwm(settings.hwm)?;
    let [idle_s, interval_s, probes] = KEEPALIVE;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(idle_s)?;
    socket.set_tcp_keepalive_intvl(interval_s)?;
    socket.set_tcp_keepalive_cnt(probes)?;
    socket.set_reconnect_ivl_max(RECONNECT_MS_MAX)?;
    if settings.pattern == Pattern::Sub {
        socket.set_subscribe(settings.topic.as_bytes())?;
    }
    if settings.attach == Attach::Bind {
        // Twice a frame: what is merely too large still arrives, to be counted.
        let limit = settings.frame_bytes_max.saturating_mul(2).max(1 << 20);
        socket.set_maxmsgsize(i64::try_from(limit).unwrap_or(i64::MAX))?;
    }
    Ok(socket)
}

/// Rejects endpoints whose failure ZeroMQ would report late, unclearly, or not at all.
///
/// # Errors
/// What is wrong and what to write instead.
pub fn check_endpoint(endpoint: &str, attach: Attach) -> Result<(), String> {
    if let Some(path) = endpoint.strip_prefix("ipc://") {
        return check_ipc(path, attach);
    }
    let Some(address) = endpoint.strip_prefix("tcp://") else {
        return Err("an endpoint begins with tcp:// or ipc://, e.g. tcp://127.0.0.1:5710".to_string());
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(format!("{address:?} has no port; write e.g. tcp://127.0.0.1:5710"));
    };
    if host.is_empty() {
        return Err("the host is missing; write e.g. tcp://127.0.0.1:5710".to_string());
    }
    let wild = attach == Attach::Bind && port == "*";
    if !wild && !port.parse::<u16>().is_ok_and(|p| p > 0) {
        return Err(format!("the port {port:?} is not a number from 1 to 65535"));
    }
    if attach == Attach::Connect && matches!(host, "*" | "0.0.0.0") {
        return Err(format!("cannot connect to {host:?}; give the address of the other machine, or bind"));
    }
    Ok(())
}

fn check_ipc(path: &str, attach: Attach) -> Result<(), String> {
    if path.is_empty() {
        return Err("the path is missing; write e.g. ipc:///run/haltere/frames".to_string());
    }
    if path.len() > IPC_PATH_BYTES_MAX {
        return Err(format!("the path has {} bytes; a Unix socket takes at most {IPC_PATH_BYTES_MAX}", path.len()));
    }
    let file = Path::new(path);
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(format!("the folder {} does not exist; create it first", folder.display()));
    }
    let Ok(found) = std::fs::metadata(file) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err("a file that is not a socket has this path; move it or choose another path".to_string());
    }
    // ZeroMQ would silently take the path over from the program that listens there.
    if attach == Attach::Bind && UnixStream::connect(file).is_ok() {
        return Err("another program listens on this path; stop it or choose another path".to_string());
    }
    Ok(())
}

/// ZeroMQ's errors, with what to do about them. `key` is where the endpoint is set.
pub fn explain(error: zmq::Error, endpoint: &str, key: &str) -> String {
    let port = endpoint.rsplit_once(':').map_or("?", |(_, port)| port);
    match error {
        zmq::Error::EADDRINUSE => {
            format!(
                "port {port} is in use by another program; stop it (`ss -ltnp` shows which) or choose another port in {key}"
            )
        }
        zmq::Error::EADDRNOTAVAIL | zmq::Error::ENODEV => {
            format!("this machine has no such address; bind 127.0.0.1, 0.0.0.0 or an address of its own ({key})")
        }
        zmq::Error::EACCES => {
            format!("permission denied; ports below 1024 and other users' folders need special rights ({key})")
        }
        zmq::Error::EINVAL => format!("not an endpoint; write e.g. tcp://127.0.0.1:5710 in {key}"),
        other => format!("{other} ({key})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_cannot_work_are_refused_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        let long = format!("ipc:///tmp/{}", "x".repeat(120));
        let in_the_way = format!("ipc://{}", file.display());
        for (endpoint, attach, word) in [
            ("udp://127.0.0.1:1", Attach::Bind, "tcp:// or ipc://"),
            ("tcp://127.0.0.1", Attach::Bind, "no port"),
            ("tcp://127.0.0.1:99999", Attach::Bind, "65535"),
            ("tcp://127.0.0.1:*", Attach::Connect, "65535"),
            ("tcp://*:5710", Attach::Connect, "cannot connect"),
            ("tcp://:5710", Attach::Connect, "host is missing"),
            ("ipc:///no/such/folder/socket", Attach::Bind, "/no/such/folder"),
            (long.as_str(), Attach::Bind, "107"),
            (in_the_way.as_str(), Attach::Bind, "not a socket"),
        ] {
            let error = check_endpoint(endpoint, attach).unwrap_err();
            assert!(error.contains(word), "{endpoint}: {error}");
        }
        for (endpoint, attach) in [
            ("tcp://127.0.0.1:5710", Attach::Connect),
            ("tcp://*:*", Attach::Bind),
            ("tcp://[::1]:5710", Attach::Connect),
            ("ipc:///tmp/haltere-no-such-socket", Attach::Bind),
        ] {
            assert_eq!(check_endpoint(endpoint, attach), Ok(()), "{endpoint}");
        }
    }
}
