//! The recorder's thread: empties the queues into the file.
//!
//! Why it exists: whoever waits for a disk must be nobody else. What it must never do: give up at the first full disk without
//! having reported it, or keep more than half a second in its own memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use crossbeam::queue::ArrayQueue;

use super::{About, Command, Published, Recorder};
use crate::config;
use crate::frame::event::Event;
use crate::session::messages::{MarkRecord, write_decode};
use crate::session::{SessionError, SessionWriter, Topic, name_of};
use crate::sys::stats::{Record, count, now_ns};
use crate::wire::decode::Kind;

/// What a killed daemon may cost at most, beside what waits in the queues.
const FLUSH_EVERY_NS: u64 = 500_000_000;
/// Between two looks at empty queues: some frames of the fastest microscope.
const IDLE: Duration = Duration::from_millis(5);
/// Frames written before the other queues are looked at.
const FRAMES_AT_ONCE: usize = 8;

/// The recorder's own side. Runs on a thread of its own until [`Recorder::end`].
pub struct Worker {
    recorder: Arc<Recorder>,
    config: config::Record,
    about: About,
    asked: Receiver<Command>,
    events: Arc<ArrayQueue<Event>>,
    file: Option<SessionWriter>,
    /// Counters when the file was begun.
    before: Lost,
    marks: u64,
    flushed_ns: u64,
    /// Frames given to the file since then: recorded when the next flush has succeeded.
    unflushed: u64,
    buffer: Vec<u8>,
}

/// What was lost so far.
#[derive(Clone, Copy, Default)]
struct Lost {
    frames: u64,
    messages: u64,
}

impl Worker {
    pub(super) fn new(
        recorder: Arc<Recorder>,
        config: config::Record,
        about: About,
        asked: Receiver<Command>,
        events: Arc<ArrayQueue<Event>>,
    ) -> Self {
        let (before, buffer, unflushed) = (Lost::default(), Vec::new(), 0);
        Self { recorder, config, about, asked, events, file: None, before, marks: 0, flushed_ns: 0, unflushed, buffer }
    }

    /// Begins a file before there is a frame.
    ///
    /// # Errors
    /// Why it cannot be written, in words.
    pub fn start(&mut self) -> Result<PathBuf, String> {
        if let Some(file) = &self.file {
            return Err(format!("{} is already being recorded", file.path().display()));
        }
        let folder = self.config.folder.clone().ok_or("`record.folder` is off in this configuration")?;
        self.begin(&folder).map_err(|cause| format!("{cause}; give haltere a `record.folder` it may write to"))
    }

    /// Works until [`Recorder::end`].
    pub fn run(mut self) {
        loop {
            let more = self.empty_queues();
            let command = if more { self.asked.try_recv().ok() } else { self.wait() };
            match command {
                None => {}
                Some(Command::Start(answer)) => reply(&answer, self.start()),
                Some(Command::Stop(answer)) => {
                    let stopped = self.stop("asked to stop");
                    reply(&answer, stopped);
                }
                Some(Command::Mark { text, t_ns }) => self.mark(text, t_ns),
                Some(Command::Describe(about)) => self.about = *about,
                Some(Command::End) => {
                    // Without a file there is nothing to end.
                    let _ = self.stop("the daemon ended");
                    return;
                }
            }
        }
    }

    fn wait(&self) -> Option<Command> {
        match self.asked.recv_timeout(IDLE) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::End),
        }
    }

    fn begin(&mut self, folder: &std::path::Path) -> Result<PathBuf, SessionError> {
        std::fs::create_dir_all(folder).map_err(|cause| SessionError::File { path: folder.into(), cause })?;
        self.discard_waiting();
        let (unix_ns, mono_ns) = (unix_ns(), now_ns());
        let offset_ns = i128::from(unix_ns) - i128::from(mono_ns);
        let mut facts = self.about.facts.clone();
        facts.insert("began_unix_ns".into(), unix_ns.to_string());
        facts.insert("monotonic_to_unix_ns".into(), offset_ns.to_string());
        let path = name_of(folder, &self.about.rig, unix_ns / 1_000_000_000);
        let attachments: Vec<_> = self.about.attachments.iter().map(|(n, t, data)| (*n, *t, data.as_slice())).collect();
        let mut file = SessionWriter::create(&path, self.config.compression, offset_ns, &facts, &attachments)?;
        self.before = self.lost();
        self.recorder.set_open(true);
        // Looked at after the door is open: when nothing had come by then, everything that comes is seen.
        let from_start = self.recorder.stats.intake.received.load(Relaxed) == 0;
        file.add_facts(BTreeMap::from([("from_start".to_owned(), from_start.to_string())]))?;
        (self.file, self.flushed_ns, self.marks) = (Some(file), now_ns(), 0);
        self.say(Event::RecordBegan);
        Ok(path)
    }

    /// Ends the file: first the door, then what waits, then the end.
    fn stop(&mut self, why: &str) -> Result<PathBuf, String> {
        self.recorder.set_open(false);
        while self.empty_queues() {}
        let Some(file) = self.file.take() else { return Err("nothing is being recorded".to_owned()) };
        let path = file.path().to_owned();
        let lost = self.lost();
        let end = [
            ("why", why.to_owned()),
            ("ended_unix_ns", unix_ns().to_string()),
            ("frames_lost", (lost.frames - self.before.frames).to_string()),
            ("messages_lost", (lost.messages - self.before.messages).to_string()),
        ];
        match file.finish(end.map(|(key, value)| (key.to_owned(), value)).into()) {
            Ok(()) => {
                self.settle(true);
                self.say(Event::RecordEnded);
                Ok(path)
            }
            Err(cause) => {
                self.settle(false);
                self.say(Event::RecordFailed);
                Err(cause.to_string())
            }
        }
    }

    fn mark(&mut self, text: String, t_ns: u64) {
        let Some(file) = &mut self.file else { return };
        let mark = MarkRecord { text, t_ns, unix_ns: unix_ns() };
        self.buffer.clear();
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.buffer, &mark);
        let written = file.message(Topic::Marks, t_ns, &self.buffer);
        self.marks += 1;
        self.say(Event::Mark { number: self.marks });
        self.unless_failed(written);
    }

    /// Some of what waits; true when there may be more.
    fn empty_queues(&mut self) -> bool {
        let mut more = false;
        for _ in 0..FRAMES_AT_ONCE {
            let Some(slot) = self.recorder.frames.pop() else { break };
            more = true;
            let written = self.file.as_mut().map(|file| file.frame(&slot));
            self.recorder.give_back(slot);
            self.unflushed += 1;
            if written.is_none() {
                self.settle(false);
            }
            written.into_iter().for_each(|written| self.unless_failed(written));
        }
        while let Some(message) = self.recorder.messages.pop() {
            more = true;
            let written = self.message(&message);
            drop(self.recorder.spare_messages.push(message));
            self.unless_failed(written);
        }
        self.flush_when_due();
        more
    }

    fn message(&mut self, message: &Published) -> Result<(), SessionError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let topic = match message.kind {
            Kind::Decode => Topic::Decodes,
            Kind::Event => Topic::Events,
            Kind::Status => Topic::Status,
            Kind::Heartbeat | Kind::Preview => return Ok(()),
        };
        write_decode(&message.header, message.decoded.then_some(&message.decode), &mut self.buffer);
        file.message(topic, message.t_pub_ns, &self.buffer)
    }

    fn flush_when_due(&mut self) {
        let now = now_ns();
        if now - self.flushed_ns < FLUSH_EVERY_NS {
            return;
        }
        self.flushed_ns = now;
        let Some(file) = &mut self.file else { return };
        let record: &Record = &self.recorder.stats.record;
        record.bytes.store(file.bytes(), Relaxed);
        let flushed = file.flush();
        if flushed.is_ok() {
            self.settle(true);
        }
        self.unless_failed(flushed);
    }

    /// A disk that refuses ends the recording: what was written stays, the daemon goes on.
    fn unless_failed(&mut self, written: Result<(), SessionError>) {
        let Err(cause) = written else { return };
        let Some(file) = self.file.take() else { return };
        self.recorder.set_open(false);
        tracing::error!("the recording has ended: {cause}; decoding goes on");
        file.abandon();
        self.settle(false);
        self.discard_waiting();
        self.say(Event::RecordFailed);
    }

    /// What becomes of the frames since the last flush.
    fn settle(&mut self, recorded: bool) {
        let record = &self.recorder.stats.record;
        let counter = if recorded { &record.frames } else { &record.frames_lost_disk };
        count(counter, std::mem::take(&mut self.unflushed));
    }

    /// What came in the moment in which a file was ended belongs to no file.
    fn discard_waiting(&mut self) {
        while let Some(slot) = self.recorder.frames.pop() {
            self.recorder.give_back(slot);
            count(&self.recorder.stats.record.frames_lost_disk, 1);
        }
        while let Some(message) = self.recorder.messages.pop() {
            drop(self.recorder.spare_messages.push(message));
        }
    }

    fn lost(&self) -> Lost {
        let record = &self.recorder.stats.record;
        let frames = record.frames_lost_queue.load(Relaxed) + record.frames_lost_disk.load(Relaxed);
        Lost { frames, messages: record.messages_lost.load(Relaxed) }
    }

    fn say(&self, event: Event) {
        // A full queue drops its oldest event.
        let _ = self.events.force_push(event);
    }
}

fn reply<T>(answer: &Sender<T>, what: T) {
    // Whoever asked may have stopped waiting.
    drop(answer.try_send(what));
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
