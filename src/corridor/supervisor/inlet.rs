//! The inlet: marks with times from whatever stands beside the microscope, on a socket and a thread of their own.
//!
//! Why it exists: what a controller, a photodiode or a projector did is part of the experiment, at the time when it did it. What it must
//! never do: touch a frame, or make the publisher or the recorder wait. A flood of marks loses marks, which are counted.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam::queue::ArrayQueue;
use tracing::warn;

use super::Handles;
use super::doors::Doors;
use crate::config::Config;
use crate::frame::event::Event;
use crate::frame::{Clock, Name, SenderClock, TimedMark};
use crate::publish::outlet::{Marker, MarkerReader};
use crate::source::zmq::explain;
use crate::sys::clock::now_ns;
use crate::sys::clock_offset::ClockOffset;
use crate::sys::counters::count;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::sockets::GuardedSocket;
use crate::wire::inlet::{INLET_BYTES_MAX, InletError, InletMessage, of_marker, parse};

/// How long it sleeps at most before it looks whether the run has ended, ms.
const WAIT_MS: i32 = 50;
/// Markers that may wait for the thread.
const MARKERS_MAX: usize = 1024;
/// Senders whose clocks are followed; more of them take turns.
const SENDERS_MAX: usize = 16;
/// Events are sent at most so often, ns: they share their way with those of the corridor.
const EVENT_EVERY_NS: u64 = 2_000_000;
/// Stamps of one sender may go back by so much, ns.
const BACK_NS_MAX: i64 = 1_000_000_000;
/// A stamp of this machine's own clock is no older than this, ns.
const OWN_CLOCK_NS_MAX: u64 = 60_000_000_000;

/// The thread, while it runs.
pub(super) struct Inlet {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Inlet {
    /// Binds the socket and loads liblsl, as far as the configuration wants them.
    ///
    /// # Errors
    /// The endpoint that cannot be had, or liblsl.
    pub(super) fn open(config: &Config, doors: &Doors, handles: &Handles) -> anyhow::Result<Option<Self>> {
        let lsl = config.inlet.lsl.as_deref().map(|name| MarkerReader::open(config.lsl.library.as_deref(), name));
        let lsl =
            lsl.transpose().map_err(|cause| Failure { code: ExitCode::Source, what: format!("inlet.lsl: {cause}") })?;
        let socket = config.inlet.endpoint.as_deref().map(|endpoint| bind(endpoint, doors)).transpose()?;
        if socket.is_none() && lsl.is_none() {
            return Ok(None);
        }
        handles.stats.inlet.open.store(true, Relaxed);
        let ended = Arc::new(AtomicBool::new(false));
        let markers = Arc::new(ArrayQueue::new(MARKERS_MAX));
        let failed = "cannot start the inlet's thread";
        let builder = |name: &str| std::thread::Builder::new().name(name.into());
        let mut threads = Vec::new();
        if let Some(reader) = lsl {
            let (until, into) = (ended.clone(), markers.clone());
            threads.push(builder("inlet-lsl").spawn(move || read_markers(reader, &into, &until)).context(failed)?);
        }
        let mut marks = Marks { handles: handles.clone(), senders: Vec::new(), told_ns: 0 };
        let until = ended.clone();
        threads.push(builder("inlet").spawn(move || marks.take(socket.as_ref(), &markers, &until)).context(failed)?);
        Ok(Some(Self { ended, threads }))
    }

    /// Ends it, before the recording does.
    pub(super) fn end(self) {
        self.ended.store(true, Relaxed);
        if self.threads.into_iter().any(|thread| thread.join().is_err()) {
            warn!("internal error in the inlet: marks may be missing; please report this");
        }
    }
}

fn bind(endpoint: &str, doors: &Doors) -> anyhow::Result<GuardedSocket> {
    let bind = || {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::PULL)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(WAIT_MS)?;
        socket.set_maxmsgsize(2 * INLET_BYTES_MAX as i64)?;
        doors.at(endpoint).bind(&context, socket, endpoint, "inlet")
    };
    bind().map_err(|cause| {
        let what = format!("the inlet {endpoint}: {}", explain(cause, endpoint, "inlet.endpoint"));
        Failure { code: ExitCode::Source, what }.into()
    })
}

/// A marker and when it came, ns.
type Came = (Marker, u64);

/// Reads a stream of markers until the end; liblsl waits, so it has a thread of its own.
fn read_markers(mut reader: MarkerReader, into: &ArrayQueue<Came>, ended: &AtomicBool) {
    while !ended.load(Relaxed) {
        match reader.read() {
            Ok(Some(marker)) => drop(into.push((marker, now_ns()))),
            Ok(None) => {}
            Err(cause) => {
                warn!("inlet.lsl: {cause}");
                return;
            }
        }
    }
}

/// What the thread holds.
struct Marks {
    handles: Handles,
    senders: Vec<Sender>,
    /// When the last event was sent.
    told_ns: u64,
}

struct Sender {
    name: Name,
    clock: Clock,
    offset: ClockOffset,
    last_ns: i64,
    lies: Option<SenderClock>,
}

impl Marks {
    fn take(&mut self, socket: Option<&GuardedSocket>, markers: &ArrayQueue<Came>, ended: &AtomicBool) {
        while !ended.load(Relaxed) {
            match socket.map(|socket| socket.recv_multipart(0)) {
                Some(Ok(parts)) => self.hear(parse(&parts), now_ns()),
                Some(Err(_)) => {}
                None => std::thread::sleep(Duration::from_millis(WAIT_MS as u64)),
            }
            while let Some((Marker { text, t_ns }, received_ns)) = markers.pop() {
                self.hear(of_marker(&text, t_ns), received_ns);
            }
        }
    }

    fn hear(&mut self, message: Result<InletMessage, InletError>, received_ns: u64) {
        let stats = self.handles.stats.clone();
        count(&stats.inlet.received, 1);
        match message {
            Ok(message) => self.keep(&message, received_ns),
            Err(cause) => {
                count(&stats.inlet.refused, 1);
                let so_far = stats.inlet.refused.load(Relaxed);
                if so_far % 100 == 1 {
                    warn!("inlet: message refused ({so_far} so far): {cause}");
                }
            }
        }
    }

    fn keep(&mut self, message: &InletMessage, t_recv_ns: u64) {
        let InletMessage { name, from, timestamp_ns, clock, decision } = *message;
        let timed = timestamp_ns.map(|stamp_ns| self.time(from, clock, stamp_ns, t_recv_ns));
        let (t_ns, sender_clock) = timed.unwrap_or((t_recv_ns, None));
        let timestamp_clock = timestamp_ns.map(|_| clock);
        let mark = TimedMark { from, t_recv_ns, timestamp_ns, timestamp_clock, decision, sender_clock };
        let Handles { stats, events, recorder, .. } = &self.handles;
        if let Some(recorder) = recorder
            && !recorder.timed_mark(name, t_ns, mark)
        {
            count(&stats.inlet.lost, 1);
        }
        if t_recv_ns.saturating_sub(self.told_ns) < EVENT_EVERY_NS || events.len() > events.capacity() / 2 {
            count(&stats.inlet.untold, 1);
            return;
        }
        self.told_ns = t_recv_ns;
        let _ = events.push(Event::Inlet { name, t_ns, mark });
    }

    /// Our time of a stamp, and how its clock lies.
    fn time(&mut self, from: Name, clock: Clock, stamp_ns: i64, received_ns: u64) -> (u64, Option<SenderClock>) {
        let at = self.senders.iter().position(|sender| sender.name == from && sender.clock == clock);
        let at = at.unwrap_or_else(|| {
            if self.senders.len() == SENDERS_MAX {
                self.senders.remove(0);
            }
            self.senders.push(Sender {
                name: from,
                clock,
                offset: ClockOffset::default(),
                last_ns: stamp_ns,
                lies: None,
            });
            self.senders.len() - 1
        });
        let sender = &mut self.senders[at];
        // What is looked at later may have happened earlier; a clock that began anew lies further back.
        if stamp_ns.saturating_add(BACK_NS_MAX) < sender.last_ns {
            sender.offset.restart();
        }
        sender.last_ns = stamp_ns;
        sender.lies = sender.offset.note(clock, stamp_ns, received_ns).or(sender.lies);
        let own = u64::try_from(stamp_ns).ok().filter(|stamp_ns| {
            clock == Clock::Monotonic && received_ns.checked_sub(*stamp_ns).is_some_and(|age| age <= OWN_CLOCK_NS_MAX)
        });
        let ours = || sender.offset.ours(stamp_ns).and_then(|ns| u64::try_from(ns).ok()).unwrap_or(received_ns);
        (own.unwrap_or_else(ours), sender.lies)
    }
}
