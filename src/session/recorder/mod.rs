//! Records a session while it happens, on a thread of its own.
//!
//! ```text
//!  compute ──frame slot────────▶ queue ─▶ ┌──────────┐
//!          ◀──spare slot─────── pool ◀─── │ recorder │ ─▶ session file
//!  publish ──published message──▶ queue ─▶└──────────┘
//! ```
//!
//! Why it exists: pixels must reach the disk without the disk ever delaying a decode. The compute thread copies nothing: once a
//! frame is decoded, it hands the slot itself to the recorder and continues with a spare one, allocated at start. What it must
//! never do: make another thread wait. Without a spare slot the recorder is behind: the frame is counted as not recorded, one
//! event reports the whole burst, and the decode has already been sent. A disk error ends the recording, not the daemon.

mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use crossbeam::queue::ArrayQueue;

use crate::config;
use crate::frame::event::Event;
use crate::frame::{Decode, FIRST_GENERATION, FrameSlot, Name, TimedMark};
use crate::publish::Witness;
use crate::session::messages::MarkRecord;
use crate::sys::calendar::unix_ns;
use crate::sys::clock::now_ns;
use crate::sys::counters::{Stats, count};
use crate::wire::decode::Kind;

pub use worker::Worker;

/// Longest text of a mark, bytes.
pub const MARK_BYTES_MAX: usize = 1024;
/// Messages (decodes, events, status) that may wait for the recorder.
pub const MESSAGES_WAITING_MAX: usize = 256;
/// Marks of the inlet that may wait for the recorder.
const MARKS_WAITING_MAX: usize = 1024;
/// Longest published header that is recorded, bytes; the longest is a status with many warnings.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Requests of the control socket that may wait.
const COMMANDS_WAITING_MAX: usize = 16;
/// How long the control socket waits for the recorder to open a file and write the model into it.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// Facts about the run with one model, the same in every file that it records.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Name of the rig, with which the file name begins.
    pub rig: String,
    /// Key and value, for the metadata at the start.
    pub facts: BTreeMap<String, String>,
    /// Name, media type, bytes.
    pub attachments: Vec<(&'static str, &'static str, Vec<u8>)>,
}

/// What the recorder's buffers must hold.
#[derive(Clone, Copy)]
pub struct Buffers<'a> {
    /// Largest frame, bytes of pixels.
    pub frame_bytes_max: usize,
    /// A decode of the model: its embedding and probabilities give the sizes.
    pub decode: &'a Decode,
}

/// One message as it was published.
struct Published {
    kind: Kind,
    t_pub_ns: u64,
    header: Vec<u8>,
    /// What came down the corridor, when `decoded`.
    decode: Decode,
    decoded: bool,
}

enum Command {
    Start(Sender<Result<PathBuf, String>>),
    Stop(Sender<Result<PathBuf, String>>),
    Mark { text: String, t_ns: u64 },
    End,
}

/// What the corridor, the control socket and the recorder's thread share.
pub struct Recorder {
    /// A file is open: frames and messages are recorded.
    open: AtomicBool,
    wants_frames: bool,
    frames: ArrayQueue<Box<FrameSlot>>,
    spare_frames: ArrayQueue<Box<FrameSlot>>,
    messages: ArrayQueue<Box<Published>>,
    /// What came in at the inlet.
    marks: ArrayQueue<MarkRecord>,
    spare_messages: ArrayQueue<Box<Published>>,
    commands: Sender<Command>,
    stats: Arc<Stats>,
    /// By generation: the model that decodes, and one that may take over. Never locked by a thread of the corridor.
    models: Mutex<BTreeMap<u64, Arc<About>>>,
}

impl Recorder {
    /// Takes all memory that the recorder will ever need of the frame path. Nothing is recorded until it is asked for. `events`
    /// carries its events to the publish thread.
    pub fn new(
        config: &config::Record,
        buffers: Buffers<'_>,
        about: About,
        stats: Arc<Stats>,
        events: Arc<ArrayQueue<Event>>,
    ) -> (Arc<Self>, Worker) {
        let (commands, asked) = bounded(COMMANDS_WAITING_MAX);
        let depth = config.queue_frames;
        let recorder = Self {
            open: AtomicBool::new(false),
            wants_frames: config.frames,
            frames: ArrayQueue::new(depth),
            spare_frames: ArrayQueue::new(depth),
            messages: ArrayQueue::new(MESSAGES_WAITING_MAX),
            marks: ArrayQueue::new(MARKS_WAITING_MAX),
            spare_messages: ArrayQueue::new(MESSAGES_WAITING_MAX),
            commands,
            stats,
            models: Mutex::new(BTreeMap::from([(FIRST_GENERATION, Arc::new(about))])),
        };
        for _ in 0..if config.frames { depth } else { 0 } {
            recorder.give_back(Box::new(FrameSlot::with_capacity(buffers.frame_bytes_max)));
        }
        for _ in 0..MESSAGES_WAITING_MAX {
            let header = Vec::with_capacity(HEADER_BYTES_MAX);
            let (kind, decode) = (Kind::Status, buffers.decode.clone());
            let message = Published { kind, t_pub_ns: 0, header, decode, decoded: false };
            drop(recorder.spare_messages.push(Box::new(message)));
        }
        let recorder = Arc::new(recorder);
        let worker = Worker::new(recorder.clone(), config.clone(), asked, events);
        (recorder, worker)
    }

    /// Should the compute thread hand over its frames?
    pub fn takes_frames(&self) -> bool {
        // Pairs with the Release in `set_open`: a thread that sees the file open may push.
        self.wants_frames && self.open.load(Acquire)
    }

    /// A spare slot in exchange for one that is handed over; `None` when the recorder is behind, which is counted.
    pub fn spare(&self) -> Option<Box<FrameSlot>> {
        let spare = self.spare_frames.pop();
        if spare.is_none() {
            count(&self.stats.record.frames_lost_queue, 1);
        }
        spare
    }

    /// Hands over a decoded frame. The queue has room for every slot, so none is ever refused.
    pub fn keep(&self, slot: Box<FrameSlot>) {
        drop(self.frames.push(slot));
    }

    /// Returns a spare slot.
    pub fn give_back(&self, spare: Box<FrameSlot>) {
        drop(self.spare_frames.push(spare));
    }

    /// Starts a file and returns its path.
    ///
    /// # Errors
    /// Why not.
    pub fn start(&self) -> Result<PathBuf, String> {
        self.ask(Command::Start)
    }

    /// Is a file open?
    pub fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// Facts about a model that may take over, before it can: they are used from its first decode on, and never if it fails.
    pub fn describe(&self, generation: u64, about: About) {
        let decoding = self.stats.generation();
        let mut models = self.models();
        models.retain(|known, _| *known == decoding);
        models.insert(generation, Arc::new(about));
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<About>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finishes the file and returns its path.
    ///
    /// # Errors
    /// Why not.
    pub fn stop(&self) -> Result<PathBuf, String> {
        self.ask(Command::Stop)
    }

    /// Adds a time-stamped note to the recording.
    ///
    /// # Errors
    /// When nothing is being recorded, or the text is empty, too long or contains control characters.
    pub fn mark(&self, text: &str) -> Result<(), String> {
        if !(1..=MARK_BYTES_MAX).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(format!("a mark is 1 to {MARK_BYTES_MAX} bytes of text without control characters"));
        }
        if !self.open.load(Acquire) {
            return Err("nothing is being recorded: `record start` first".to_owned());
        }
        let mark = Command::Mark { text: text.to_owned(), t_ns: now_ns() };
        self.commands.try_send(mark).map_err(|_| BUSY.to_owned())
    }

    /// Adds a mark that came in with a time. False: it is lost, because the recorder is behind. Without an open file nothing is lost.
    pub fn timed_mark(&self, name: Name, t_ns: u64, mark: TimedMark) -> bool {
        let ago_ns = i128::from(now_ns()) - i128::from(t_ns);
        let unix_ns = u64::try_from(i128::from(unix_ns()) - ago_ns).unwrap_or_default();
        let record = MarkRecord { text: name.to_string(), t_ns, unix_ns, inlet: Some(mark) };
        !self.open.load(Acquire) || self.marks.push(record).is_ok()
    }

    /// Ends the recorder: writes what is queued and finishes the file.
    pub fn end(&self) {
        // A worker that has ended has already done so.
        drop(self.commands.send(Command::End));
    }

    fn ask(&self, command: impl FnOnce(Sender<Result<PathBuf, String>>) -> Command) -> Result<PathBuf, String> {
        let (answer, answered) = bounded(1);
        self.commands.try_send(command(answer)).map_err(|_| BUSY.to_owned())?;
        answered.recv_timeout(ANSWER_WITHIN).map_err(|_| BUSY.to_owned())?
    }

    fn set_open(&self, open: bool) {
        self.open.store(open, Release);
        self.stats.record.recording.store(u64::from(open), Relaxed);
    }
}

const BUSY: &str = "the recorder has not answered because the disk is slow; try again";

impl Witness for Arc<Recorder> {
    fn published(&mut self, kind: Kind, header: &[u8], t_pub_ns: u64, decode: Option<&Decode>) {
        if matches!(kind, Kind::Heartbeat | Kind::Preview) || !self.open.load(Acquire) {
            return;
        }
        let spare = if header.len() > HEADER_BYTES_MAX { None } else { self.spare_messages.pop() };
        let Some(mut message) = spare else {
            count(&self.stats.record.messages_lost, 1);
            return;
        };
        (message.kind, message.t_pub_ns, message.decoded) = (kind, t_pub_ns, decode.is_some());
        message.header.clear();
        message.header.extend_from_slice(header);
        if let Some(decode) = decode {
            copy(decode, &mut message.decode);
        }
        // The queue has room for every message.
        drop(self.messages.push(message));
    }
}

/// Copies into allocated memory: all embeddings of a model have the same size.
fn copy(decode: &Decode, into: &mut Decode) {
    let embedding = &mut into.embedding;
    embedding.values.clear();
    embedding.values.extend_from_slice(&decode.embedding.values);
    embedding.probabilities.clear();
    embedding.probabilities.extend_from_slice(&decode.embedding.probabilities);
    embedding.outputs.clear();
    embedding.outputs.extend_from_slice(&decode.embedding.outputs);
    embedding.novelty = decode.embedding.novelty;
    (into.frame, into.observation, into.quality) = (decode.frame, decode.observation, decode.quality);
    (into.skipped, into.action, into.times) = (decode.skipped, decode.action, decode.times);
    (into.generation, into.smoothed) = (decode.generation, decode.smoothed);
}

#[cfg(test)]
mod tests;
