//! The recorder's thread: empties the queues into the file.
//!
//! Why it exists: no other thread may wait for the disk. What it must never do: give up silently when the disk is full, or hold
//! back more than half a second of data in its own memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use crossbeam::queue::ArrayQueue;

use super::{About, Command, Published, Recorder};
use crate::config;
use crate::frame::event::Event;
use crate::session::messages::{MarkRecord, write_decode};
use crate::session::{SessionError, SessionWriter, Topic, name_of};
use crate::sys::calendar::unix_ns;
use crate::sys::clock::now_ns;
use crate::sys::counters::{Record, count};
use crate::wire::decode::Kind;

/// The most that a killed daemon may lose beside the contents of the queues, ns.
const FLUSH_EVERY_NS: u64 = 500_000_000;
/// Time between two checks of empty queues: a few frames of the fastest microscope.
const IDLE: Duration = Duration::from_millis(5);
/// Frames written before the other queues are checked.
const FRAMES_AT_ONCE: usize = 8;

/// The recorder's own side. Runs on a thread of its own until [`Recorder::end`].
pub struct Worker {
    recorder: Arc<Recorder>,
    config: config::Record,
    about: About,
    asked: Receiver<Command>,
    events: Arc<ArrayQueue<Event>>,
    file: Option<SessionWriter>,
    /// Counters when the file was started.
    before: Lost,
    marks: u64,
    flushed_ns: u64,
    /// Frames written since the last flush: recorded once the next flush has succeeded.
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

    /// Starts a file.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn start(&mut self) -> Result<PathBuf, String> {
        if let Some(file) = &self.file {
            return Err(format!("{} is already being recorded", file.path().display()));
        }
        let folder = self.config.folder.clone().ok_or("`record.folder` is off in this configuration")?;
        self.begin(&folder)
            .map_err(|cause| format!("{cause}; set `record.folder` to a folder that haltere may write to"))
    }

    /// Runs until [`Recorder::end`].
    pub fn run(mut self) {
        loop {
            let more = self.empty_queues();
            let command = if more { self.asked.try_recv().ok() } else { self.wait() };
            match command {
                None => {}
                Some(Command::Start(answer)) => send_answer(&answer, self.start()),
                Some(Command::Stop(answer)) => {
                    let stopped = self.stop("asked to stop");
                    send_answer(&answer, stopped);
                }
                Some(Command::Mark { text, t_ns }) => self.mark(text, t_ns),
                Some(Command::Describe(about)) => self.about = *about,
                Some(Command::End) => {
                    // Without an open file there is nothing to finish.
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
        self.discard_queued();
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
        // Checked after the recorder is open: if nothing had been received by then, nothing is missing from the file.
        let from_start = self.recorder.stats.intake.received.load(Relaxed) == 0;
        file.add_facts(BTreeMap::from([("from_start".to_owned(), from_start.to_string())]))?;
        (self.file, self.flushed_ns, self.marks) = (Some(file), now_ns(), 0);
        self.emit(Event::RecordBegan);
        Ok(path)
    }

    /// Finishes the file: closes the recorder, writes what is queued, then the end.
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
                self.count_frames(true);
                self.emit(Event::RecordEnded);
                Ok(path)
            }
            Err(cause) => {
                self.count_frames(false);
                self.emit(Event::RecordFailed);
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
        let written = file.write_message(Topic::Marks, t_ns, &self.buffer);
        self.marks += 1;
        self.emit(Event::Mark { number: self.marks });
        self.end_if_failed(written);
    }

    /// Writes some of what is queued; true when there may be more.
    fn empty_queues(&mut self) -> bool {
        let mut more = false;
        for _ in 0..FRAMES_AT_ONCE {
            let Some(slot) = self.recorder.frames.pop() else { break };
            more = true;
            let written = self.file.as_mut().map(|file| file.write_frame(&slot));
            self.recorder.give_back(slot);
            self.unflushed += 1;
            if written.is_none() {
                self.count_frames(false);
            }
            if let Some(written) = written {
                self.end_if_failed(written);
            }
        }
        while let Some(message) = self.recorder.messages.pop() {
            more = true;
            let written = self.write_message(&message);
            drop(self.recorder.spare_messages.push(message));
            self.end_if_failed(written);
        }
        self.flush_when_due();
        more
    }

    fn write_message(&mut self, message: &Published) -> Result<(), SessionError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let topic = match message.kind {
            Kind::Decode => Topic::Decodes,
            Kind::Event => Topic::Events,
            Kind::Status => Topic::Status,
            Kind::Heartbeat | Kind::Preview => return Ok(()),
        };
        write_decode(&message.header, message.decoded.then_some(&message.decode), &mut self.buffer);
        file.write_message(topic, message.t_pub_ns, &self.buffer)
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
            self.count_frames(true);
        }
        self.end_if_failed(flushed);
    }

    /// A write error ends the recording: what was written stays, the daemon continues.
    fn end_if_failed(&mut self, written: Result<(), SessionError>) {
        let Err(cause) = written else { return };
        let Some(file) = self.file.take() else { return };
        self.recorder.set_open(false);
        tracing::error!("the recording has ended: {cause}; decoding continues");
        file.abandon();
        self.count_frames(false);
        self.discard_queued();
        self.emit(Event::RecordFailed);
    }

    /// Counts the frames since the last flush as recorded or lost.
    fn count_frames(&mut self, recorded: bool) {
        let record = &self.recorder.stats.record;
        let counter = if recorded { &record.frames } else { &record.frames_lost_disk };
        count(counter, std::mem::take(&mut self.unflushed));
    }

    /// Discards what arrived while a file was being finished: it belongs to no file.
    fn discard_queued(&mut self) {
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

    fn emit(&self, event: Event) {
        // A full queue drops its oldest event.
        let _ = self.events.force_push(event);
    }
}

fn send_answer<T>(answer: &Sender<T>, what: T) {
    // The requester may have stopped waiting.
    drop(answer.try_send(what));
}
