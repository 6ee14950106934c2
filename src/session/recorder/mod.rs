//! Records a session while it happens, on a thread of its own.
//!
//! ```text
//!  compute ──frame buffer───────▶ queue ─▶ ┌──────────┐
//!          ◀──spare buffer───── pool ◀─── │ recorder │ ─▶ session file
//!  publish ──what was published─▶ queue ─▶└──────────┘
//! ```
//!
//! Why it exists: pixels must reach the disk, and the disk must never reach a decode. The compute thread copies nothing: when a
//! frame is decoded, it hands the frame's buffer itself to the recorder and takes a spare one, made at the start, in its place. What it must
//! never do: make anybody wait. No spare buffer means that the recorder is behind: the frame is counted as not recorded, one event
//! reports the whole burst, and the decode has long left. A disk that fails ends the recording, not the daemon.

mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use crossbeam::queue::ArrayQueue;

use crate::config;
use crate::frame::event::Event;
use crate::frame::{Decode, FrameSlot};
use crate::publish::Witness;
use crate::sys::stats::{Stats, count};
use crate::wire::decode::Kind;

pub use worker::Worker;

/// Longest text of a mark, bytes.
pub const MARK_BYTES_MAX: usize = 1024;
/// Messages (decodes, events, status) that may wait for the recorder.
pub const MESSAGES_WAITING_MAX: usize = 256;
/// Longest published header that is recorded, bytes; a status with many warnings is the longest there is.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Requests of the control socket that may wait.
const COMMANDS_WAITING_MAX: usize = 16;
/// How long the control socket waits for the recorder's answer: opening a file and writing the model into it.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// Description of a session, the same for every file of a start.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Name of the rig, with which the file's name begins.
    pub rig: String,
    /// Key and value, for the metadata of the begin.
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
    Describe(Box<About>),
    End,
}

/// What the corridor, the control socket and the recorder's thread share.
pub struct Recorder {
    /// A file is open: frames and messages are wanted.
    open: AtomicBool,
    wants_frames: bool,
    frames: ArrayQueue<Box<FrameSlot>>,
    spare_frames: ArrayQueue<Box<FrameSlot>>,
    messages: ArrayQueue<Box<Published>>,
    spare_messages: ArrayQueue<Box<Published>>,
    commands: Sender<Command>,
    stats: Arc<Stats>,
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
            spare_messages: ArrayQueue::new(MESSAGES_WAITING_MAX),
            commands,
            stats,
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
        let worker = Worker::new(recorder.clone(), config.clone(), about, asked, events);
        (recorder, worker)
    }

    /// Does the compute thread hand its frames over?
    pub fn takes_frames(&self) -> bool {
        // Pairs with the Release in `set_open`: whoever sees the file open may push.
        self.wants_frames && self.open.load(Acquire)
    }

    /// A buffer to go on with in place of one that is handed over; `None` when the recorder is behind, which is counted.
    pub fn spare(&self) -> Option<Box<FrameSlot>> {
        let spare = self.spare_frames.pop();
        if spare.is_none() {
            count(&self.stats.record.frames_lost_queue, 1);
        }
        spare
    }

    /// Hands a decoded frame over. There are no more buffers than places, so none is ever refused.
    pub fn keep(&self, slot: Box<FrameSlot>) {
        drop(self.frames.push(slot));
    }

    /// Puts a spare buffer back.
    pub fn give_back(&self, spare: Box<FrameSlot>) {
        drop(self.spare_frames.push(spare));
    }

    /// Begins a file and gives its path.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn start(&self) -> Result<PathBuf, String> {
        self.ask(Command::Start)
    }

    /// Is a file open?
    pub fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// What the next files say of themselves: another model runs.
    pub fn describe(&self, about: About) {
        // A recorder that does not take it is behind by more than it can be: the next file then names the model before, and its
        // decodes the one that ran, which `embed` and `diff` report.
        drop(self.commands.try_send(Command::Describe(Box::new(about))));
    }

    /// Ends the file in order and gives its path.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn stop(&self) -> Result<PathBuf, String> {
        self.ask(Command::Stop)
    }

    /// Writes words into the recording.
    ///
    /// # Errors
    /// When nothing is being recorded, or the text is empty, too long or holds control characters.
    pub fn mark(&self, text: &str) -> Result<(), String> {
        if !(1..=MARK_BYTES_MAX).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(format!("a mark is 1 to {MARK_BYTES_MAX} bytes of text without control characters"));
        }
        if !self.open.load(Acquire) {
            return Err("nothing is being recorded: `record start` first".to_owned());
        }
        let mark = Command::Mark { text: text.to_owned(), t_ns: crate::sys::stats::now_ns() };
        self.commands.try_send(mark).map_err(|_| BUSY.to_owned())
    }

    /// The end: what waits is written, the file ended.
    pub fn end(&self) {
        // An ended worker has done so already.
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

const BUSY: &str = "the recorder is busy with a slow disk and has not answered; ask again";

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
        // There are no more buffers than places.
        drop(self.messages.push(message));
    }
}

/// A copy into memory that is there: of one model, all embeddings are of one size.
fn copy(decode: &Decode, into: &mut Decode) {
    let embedding = &mut into.embedding;
    embedding.values.clear();
    embedding.values.extend_from_slice(&decode.embedding.values);
    embedding.probabilities.clear();
    embedding.probabilities.extend_from_slice(&decode.embedding.probabilities);
    embedding.novelty = decode.embedding.novelty;
    (into.frame, into.observation, into.quality) = (decode.frame, decode.observation, decode.quality);
    (into.skipped, into.action, into.times) = (decode.skipped, decode.action, decode.times);
    into.generation = decode.generation;
}

#[cfg(test)]
mod tests;
