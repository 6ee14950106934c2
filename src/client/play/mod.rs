//! The microscope's stand-in: a recording becomes a ZeroMQ stream, in the form that `clients/PROTOCOL.md` documents.
//!
//! Why it exists: a daemon can be tried, tested and measured without a microscope. Frames are paced by *intended* send times
//! on an absolute schedule, and the header carries the intended time: a late sender makes latencies longer, not invisible.
//! What it must never do: drift, drop a frame silently, or hold a recording in memory that does not fit.

mod schedule;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::config::Attach;
use crate::frame::{Frame, FrameInfo, Name, Shape};
use crate::source::zmq::{Access, check_endpoint, explain};
use crate::source::{Next, Source, SourceError};
use crate::sys::clock::now_ns;
use crate::sys::counters::{Histogram, Quantiles};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::sockets::GuardedSocket;

pub use self::schedule::{Burst, Pace, Schedule};

/// Frame rate when neither the user nor the file gives one, Hz.
pub const RATE_HZ_DEFAULT: f64 = 30.0;
/// Longest time between two checks of `stop`, ms.
const STOP_MS: u64 = 50;
/// How long the socket may keep sending after the last frame, ms.
const LINGER_MS: i32 = 3000;
/// How long the connection is kept after the end message.
const HOLD: Duration = Duration::from_millis(500);
/// Time between two calls of `progress`, ns.
const PROGRESS_NS: u64 = 100_000_000;
/// A spinning sender wakes up this long before an intended time.
const SPIN: Duration = Duration::from_millis(1);

/// Which ZeroMQ socket sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// PUB: a slow receiver loses frames.
    Pub,
    /// PUSH: a slow receiver slows the sender down.
    Push,
}

/// How to play.
#[derive(Clone, Debug)]
pub struct PlayOptions {
    /// `tcp://…` or `ipc://…`.
    pub endpoint: String,
    /// PUB or PUSH.
    pub pattern: Pattern,
    /// Bind, or connect to a receiver that binds.
    pub attach: Attach,
    /// First part of every message; empty = no topic part.
    pub topic: String,
    /// Series in the headers.
    pub series: Option<Name>,
    /// `animal` in every header.
    pub animal: Option<Name>,
    /// When frames go out.
    pub pace: Pace,
    /// How often the recording is played; `None` = until stopped.
    pub loops: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Stop after this many frames were due.
    pub frames: Option<u64>,
    /// Largest random shift of each intended time, ± ms.
    pub jitter_ms: f64,
    /// Seed of the jitter.
    pub seed: u64,
    /// Every n-th frame is not sent; its number is skipped.
    pub skip_every: Option<u64>,
    /// Every n-th frame is sent twice, with the same number.
    pub repeat_every: Option<u64>,
    /// Frames held back and sent at once.
    pub burst: Option<Burst>,
    /// Spin through the last millisecond before an intended time, instead of sleeping.
    pub spin: bool,
    /// Longest wait for a receiver before the first frame; zero = do not wait.
    pub wait_for_receiver: Duration,
    /// Send `{"htype":"end"}` at the end.
    pub end_message: bool,
    /// Send queue per receiver, messages.
    pub hwm: i32,
    /// A looped recording up to this size is kept in memory, bytes; a larger one is read again.
    pub memory_bytes_max: usize,
    /// Who may receive, or with which keys to connect.
    pub access: Access,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self {
            endpoint: "tcp://127.0.0.1:5710".to_string(),
            pattern: Pattern::Pub,
            attach: Attach::Bind,
            topic: String::new(),
            series: None,
            animal: None,
            pace: Pace::Recording,
            loops: Some(1),
            duration: None,
            frames: None,
            jitter_ms: 0.0,
            seed: 1,
            skip_every: None,
            repeat_every: None,
            burst: None,
            spin: false,
            wait_for_receiver: Duration::from_secs(10),
            end_message: true,
            hwm: 64,
            memory_bytes_max: 1 << 30,
            access: Access::default(),
        }
    }
}

/// What has been sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayProgress {
    /// Frames sent, repeats included.
    pub sent: u64,
    /// Frames skipped on purpose.
    pub skipped: u64,
    /// Frames sent twice on purpose.
    pub repeated: u64,
    /// Total frames due, if known.
    pub total: Option<u64>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlayReport {
    /// Counts.
    pub progress: PlayProgress,
    /// From the first to the last frame, s.
    pub elapsed_s: f64,
    /// Messages per second.
    pub rate_hz: f64,
    /// Was a receiver connected when the first frame was sent? (A connecting PUSH socket queues, and counts as yes.)
    pub receiver_seen: bool,
    /// Delay between the intended time of each frame and its handover to the socket.
    pub lateness: Quantiles,
}

/// Why playing failed.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The recording.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The socket.
    #[error("{endpoint}: {cause}")]
    Socket {
        /// Which endpoint.
        endpoint: String,
        /// Why, and what to do.
        cause: String,
    },
    /// An option out of range.
    #[error("{option} is {value}; it must be {bound}")]
    Option {
        /// Which.
        option: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        bound: &'static str,
    },
    /// The recording contains no frame.
    #[error("the recording contains no frame")]
    Empty,
}

impl HasExitCode for PlayError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::Empty => ExitCode::Source,
            Self::Socket { .. } => ExitCode::Sink,
            Self::Option { .. } => ExitCode::Usage,
        }
    }
}

/// Opens the recording from its beginning.
pub type Open<'a> = dyn FnMut() -> Result<Box<dyn Source>, SourceError> + 'a;

/// Plays a recording until its end, its limits, or `stop`. `open` is called once, and again for each loop that cannot be
/// played from memory; `progress` about ten times a second and at the end.
///
/// # Errors
/// [`PlayError`]; a receiver that disconnects is no error.
pub fn play(
    options: &PlayOptions,
    open: &mut Open<'_>,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&PlayProgress),
) -> Result<PlayReport, PlayError> {
    let recording = open()?;
    let schedule = Schedule::new(options, recording.frame_rate_hz())?;
    let limit = total_frames(options, recording.frames_total());
    let mut reel = Reel::new(recording, options);
    let mut sender = Sender::open(options)?;
    let receiver_seen = sender.wait_for_receiver(options.wait_for_receiver, stop);
    let run = Run { options, schedule, stop, begin_ns: now_ns(), limit };
    let lateness = Histogram::default();
    let counts = run.send_frames(&mut sender, &mut reel, open, &lateness, progress)?;
    let elapsed_s = run.elapsed().as_secs_f64();
    if options.end_message {
        sender.send_end(stop)?;
    }
    progress(&counts);
    let rate_hz = if elapsed_s > 0.0 { counts.sent as f64 / elapsed_s } else { 0.0 };
    Ok(PlayReport { progress: counts, elapsed_s, rate_hz, receiver_seen, lateness: lateness.quantiles() })
}

fn total_frames(options: &PlayOptions, in_recording: Option<u64>) -> Option<u64> {
    let by_loops = options.loops.zip(in_recording).map(|(loops, frames)| loops.saturating_mul(frames));
    match (by_loops, options.frames) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What stays the same during one run.
struct Run<'a> {
    options: &'a PlayOptions,
    schedule: Schedule,
    stop: &'a AtomicBool,
    /// One reading for pace and stamps: a pause between two would stamp frames later than they are sent.
    begin_ns: u64,
    limit: Option<u64>,
}

impl Run<'_> {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(now_ns() - self.begin_ns)
    }

    /// Sends all frames.
    fn send_frames(
        &self,
        sender: &mut Sender<'_>,
        reel: &mut Reel,
        open: &mut Open<'_>,
        lateness: &Histogram,
        progress: &mut dyn FnMut(&PlayProgress),
    ) -> Result<PlayProgress, PlayError> {
        let mut counts = PlayProgress { total: self.limit, ..PlayProgress::default() };
        let mut progress_ns = 0;
        let mut positions = Positions::default();
        let every = |n: Option<u64>, index: u64| n.is_some_and(|n| (index + 1).is_multiple_of(n));
        for _ in 0..self.options.frames.unwrap_or(u64::MAX) {
            let Some(frame) = reel.next(open)? else { break };
            let (index, number) = positions.next(frame.info.number);
            let due = self.schedule.due(index);
            if self.options.duration.is_some_and(|d| due.unwrap_or_else(|| self.elapsed()) >= d) {
                break;
            }
            if every(self.options.skip_every, index) {
                counts.skipped += 1;
                continue;
            }
            if !self.wait_until(due) {
                break;
            }
            let intended_ns = due.map_or_else(now_ns, |d| self.begin_ns + d.as_nanos() as u64);
            let again = every(self.options.repeat_every, index);
            for _ in 0..=usize::from(again) {
                if !sender.send_frame(frame, number, intended_ns, self.stop)? {
                    return Ok(counts);
                }
                counts.sent += 1;
            }
            counts.repeated += u64::from(again);
            let now = now_ns();
            lateness.record(now.saturating_sub(intended_ns));
            if now - progress_ns > PROGRESS_NS {
                progress_ns = now;
                progress(&counts);
            }
        }
        Ok(counts)
    }

    /// Sleeps until a time after the start; `false`: `stop` was set.
    fn wait_until(&self, due: Option<Duration>) -> bool {
        let early = if self.options.spin { SPIN } else { Duration::ZERO };
        loop {
            if self.stop.load(Relaxed) {
                return false;
            }
            let left = due.unwrap_or_default().saturating_sub(self.elapsed());
            if left.is_zero() {
                return true;
            }
            if left > early {
                std::thread::sleep((left - early).min(Duration::from_millis(STOP_MS)));
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// Positions of the frames on the schedule, and their numbers: a recorded session keeps its own numbers and the gaps between them,
/// every other recording counts from 0. Both continue from one loop to the next.
#[derive(Default)]
struct Positions {
    first: u64,
    /// Number in the recording and position of the last frame.
    last: Option<(u64, u64)>,
}

impl Positions {
    fn next(&mut self, recorded: u64) -> (u64, u64) {
        let index = match self.last {
            None => {
                self.first = recorded;
                0
            }
            // A number that goes back starts the next loop, one position on.
            Some((last, index)) => index + recorded.checked_sub(last).filter(|step| *step > 0).unwrap_or(1),
        };
        self.last = Some((recorded, index));
        (index, self.first.saturating_add(index))
    }
}

/// The recording: read frame by frame, kept in memory for the next loop if it fits.
struct Reel {
    source: Box<dyn Source>,
    loops_left: u64,
    frame: Frame,
    kept: Vec<Frame>,
    keep: bool,
    /// Position in `kept`, once the recording is played from memory.
    at: Option<usize>,
    read: u64,
}

impl Reel {
    fn new(source: Box<dyn Source>, options: &PlayOptions) -> Self {
        let loops = options.loops.unwrap_or(u64::MAX);
        let bytes = source.frame_bytes_max() as u64;
        let size = source.frames_total().map(|n| n.saturating_mul(bytes));
        let keep = loops > 1 && size.is_some_and(|s| s <= options.memory_bytes_max as u64);
        let frame = Frame::with_capacity(source.frame_bytes_max());
        Self { source, loops_left: loops, frame, kept: Vec::new(), keep, at: None, read: 0 }
    }

    fn next(&mut self, open: &mut Open<'_>) -> Result<Option<&Frame>, PlayError> {
        if let Some(at) = self.at {
            return Ok(self.next_kept(at));
        }
        loop {
            match self.source.next(&mut self.frame)? {
                Next::Frame => break,
                Next::End => {
                    if self.read == 0 {
                        return Err(PlayError::Empty);
                    }
                    self.loops_left = self.loops_left.saturating_sub(1);
                    if self.loops_left == 0 {
                        return Ok(None);
                    }
                    if self.keep {
                        return Ok(self.next_kept(0));
                    }
                    (self.source, self.read) = (open()?, 0);
                }
                _ => {}
            }
        }
        self.read += 1;
        if self.keep {
            let mut copy = Frame::with_capacity(self.frame.len_bytes());
            copy.info = self.frame.info;
            copy.bytes_mut().copy_from_slice(self.frame.bytes());
            self.kept.push(copy);
        }
        Ok(Some(&self.frame))
    }

    fn next_kept(&mut self, mut at: usize) -> Option<&Frame> {
        if at == self.kept.len() {
            self.loops_left = self.loops_left.saturating_sub(1);
            at = 0;
        }
        self.at = Some(at + 1);
        if self.loops_left == 0 { None } else { self.kept.get(at) }
    }
}

/// The sending socket.
struct Sender<'a> {
    socket: GuardedSocket,
    options: &'a PlayOptions,
    header: String,
}

impl<'a> Sender<'a> {
    fn open(options: &'a PlayOptions) -> Result<Self, PlayError> {
        let endpoint = &options.endpoint;
        let fail = |cause: String| PlayError::Socket { endpoint: endpoint.clone(), cause };
        check_endpoint(endpoint, options.attach).map_err(fail)?;
        let kind = match options.pattern {
            // XPUB is PUB that also reports subscriptions.
            Pattern::Pub => zmq::XPUB,
            Pattern::Push => zmq::PUSH,
        };
        let context = zmq::Context::new();
        let make = || -> Result<zmq::Socket, zmq::Error> {
            let socket = context.socket(kind)?;
            socket.set_linger(LINGER_MS)?;
            socket.set_sndhwm(options.hwm)?;
            Ok(socket)
        };
        let socket = make().map_err(|e| fail(format!("the socket cannot be set up: {e}")))?;
        let attached = options.access.attach(&context, socket, endpoint, options.attach);
        let socket = attached.map_err(|e| fail(explain(e, endpoint, "--endpoint")))?;
        Ok(Self { socket, options, header: String::with_capacity(512) })
    }

    /// Waits until a receiver subscribes (PUB) or can take a message (PUSH).
    fn wait_for_receiver(&self, longest: Duration, stop: &AtomicBool) -> bool {
        let until = Instant::now() + longest;
        loop {
            let seen = match self.options.pattern {
                Pattern::Pub => self.has_subscriber(),
                Pattern::Push => self.socket.poll(zmq::POLLOUT, 0).is_ok_and(|n| n > 0),
            };
            let left = until.saturating_duration_since(Instant::now());
            if seen || left.is_zero() || stop.load(Relaxed) {
                return seen;
            }
            let events = if self.options.pattern == Pattern::Pub { zmq::POLLIN } else { zmq::POLLOUT };
            // A failure shows up at the first frame, with its cause.
            let _ = self.socket.poll(events, left.as_millis().clamp(1, STOP_MS.into()) as i64);
        }
    }

    /// Subscriptions arrive as messages that begin with a byte 1.
    fn has_subscriber(&self) -> bool {
        let mut message = zmq::Message::new();
        while self.socket.recv(&mut message, zmq::DONTWAIT).is_ok() {
            if message.first() == Some(&1) {
                return true;
            }
        }
        false
    }

    /// Sends one frame; `false`: `stop` was set while no receiver took it.
    fn send_frame(&mut self, frame: &Frame, number: u64, ns: u64, stop: &AtomicBool) -> Result<bool, PlayError> {
        let info = &frame.info;
        self.write_header(info, number, ns);
        Ok(self.send_head(zmq::SNDMORE, stop)? && self.send(frame.bytes(), 0, stop)?)
    }

    fn send_end(&mut self, stop: &AtomicBool) -> Result<(), PlayError> {
        self.header.clear();
        self.header.push_str(r#"{"htype":"end"}"#);
        self.send_head(0, stop)?;
        // A receiver with a full queue would lose what it has not read yet when the socket closes: give it time.
        let until = Instant::now() + HOLD;
        while Instant::now() < until && !stop.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(STOP_MS));
        }
        Ok(())
    }

    fn write_header(&mut self, info: &FrameInfo, number: u64, ns: u64) {
        let FrameInfo { shape, pixel_type, source, marks, .. } = info;
        let Shape { channels, height, width } = shape;
        let header = &mut self.header;
        header.clear();
        // Writing to a string cannot fail; names need no escapes.
        let _ = match channels {
            1 => write!(header, r#"{{"dtype":"{pixel_type}","shape":[{height},{width}]"#),
            _ => write!(header, r#"{{"dtype":"{pixel_type}","shape":[{channels},{height},{width}]"#),
        };
        let _ = write!(header, r#","frame":{number},"timestamp_ns":{ns},"clock":"monotonic","stamp":"end""#);
        let _ = write!(header, r#","source":"{source}""#);
        if marks.invalid {
            header.push_str(r#","valid":false"#);
        }
        if marks.stimulus {
            header.push_str(r#","stimulus":true"#);
        }
        if let Some(animal) = self.options.animal {
            let _ = write!(header, r#","animal":"{animal}""#);
        }
        if let Some(series) = self.options.series {
            let _ = write!(header, r#","series":"{series}""#);
        }
        header.push('}');
        if cfg!(target_endian = "big") {
            header.insert_str(1, r#""endianness":"big","#);
        }
    }

    fn send_head(&self, flags: i32, stop: &AtomicBool) -> Result<bool, PlayError> {
        let topic = self.options.topic.as_bytes();
        if !topic.is_empty() && !self.send(topic, zmq::SNDMORE, stop)? {
            return Ok(false);
        }
        self.send(self.header.as_bytes(), flags, stop)
    }

    /// Sends one part; waits while a PUSH socket has no receiver.
    fn send(&self, part: &[u8], flags: i32, stop: &AtomicBool) -> Result<bool, PlayError> {
        loop {
            match self.socket.send(part, flags | zmq::DONTWAIT) {
                Ok(()) => return Ok(true),
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if stop.load(Relaxed) => return Ok(false),
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {
                    let _ = self.socket.poll(zmq::POLLOUT, STOP_MS as i64);
                }
                Err(error) => {
                    let cause = format!("sending failed: {error}");
                    return Err(PlayError::Socket { endpoint: self.options.endpoint.clone(), cause });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(recorded: &[u64]) -> Vec<(u64, u64)> {
        let mut positions = Positions::default();
        recorded.iter().map(|number| positions.next(*number)).collect()
    }

    #[test]
    fn a_session_keeps_its_numbers_and_the_time_of_its_gaps_and_a_loop_continues() {
        assert_eq!(positions(&[0, 1, 2, 0, 1]), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(positions(&[70, 71, 75, 75, 3, 4]), [(0, 70), (1, 71), (5, 75), (6, 76), (7, 77), (8, 78)]);
    }
}
