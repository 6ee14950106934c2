//! The recorder's thread: empties the queues into the file.
//!
//! Why it exists: no other thread may wait for the disk. What it must never do: give up silently when the disk is full, or hold
//! back more than half a second of data in its own memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use crossbeam::queue::ArrayQueue;

use super::{About, Command, Published, Recorder};
use crate::config;
use crate::frame::Sentence;
use crate::frame::event::{Event, RecordFault};
use crate::session::messages::{MarkRecord, write_decode};
use crate::session::{SessionError, SessionWriter, Topic, name_of};
use crate::sys::calendar::unix_ns;
use crate::sys::clock::now_ns;
use crate::sys::counters::{Record, count};
use crate::wire::decode::Kind;

/// The most that a killed daemon may lose beside the contents of the queues, ns.
const FLUSH_EVERY_NS: u64 = 500_000_000;
/// Time between two looks whether the file is still there, ns: a stat, on the recorder's own thread.
const WATCH_EVERY_NS: u64 = 1_000_000_000;
/// Time between two checks of empty queues: a few frames of the fastest microscope.
const IDLE: Duration = Duration::from_millis(5);
/// Frames written before the other queues are checked.
const FRAMES_AT_ONCE: usize = 8;

/// The recorder's own side. Runs on a thread of its own until [`Recorder::end`].
pub struct Worker {
    recorder: Arc<Recorder>,
    config: config::Record,
    asked: Receiver<Command>,
    events: Arc<ArrayQueue<Event>>,
    file: Option<SessionWriter>,
    /// Generations of the models that the file names.
    models: BTreeSet<u64>,
    /// Counters when the file was started.
    before: Lost,
    marks: u64,
    flushed_ns: u64,
    /// When it was last seen whether the file is still where it was.
    watched_ns: u64,
    /// Frames written since the last flush: recorded once the next flush has succeeded.
    unflushed: u64,
    buffer: Vec<u8>,
    /// Why the last recording ended by itself.
    why_not: Option<String>,
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
        asked: Receiver<Command>,
        events: Arc<ArrayQueue<Event>>,
    ) -> Self {
        Self {
            recorder,
            config,
            asked,
            events,
            file: None,
            models: BTreeSet::new(),
            before: Lost::default(),
            marks: 0,
            flushed_ns: 0,
            watched_ns: 0,
            unflushed: 0,
            buffer: Vec::new(),
            why_not: None,
        }
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
        // The model that decodes now. One that takes over while the file is open brings its own files.
        let generation = self.recorder.stats.generation();
        let about = self.about(generation).unwrap_or_default();
        let mut facts = about.facts.clone();
        facts.insert("began_unix_ns".into(), unix_ns.to_string());
        facts.insert("monotonic_to_unix_ns".into(), offset_ns.to_string());
        facts.insert("generation".into(), generation.to_string());
        let path = name_of(folder, &about.rig, unix_ns / 1_000_000_000);
        let attachments: Vec<_> = about.attachments.iter().map(|(n, t, data)| (*n, *t, data.as_slice())).collect();
        let mut file = SessionWriter::create(&path, self.config.compression, offset_ns, &facts, &attachments)?;
        self.models = BTreeSet::from([generation]);
        self.before = self.lost();
        self.recorder.set_open(true);
        // Checked after the recorder is open: if nothing had been received by then, nothing is missing from the file.
        let from_start = self.recorder.stats.intake.received.load(Relaxed) == 0;
        file.add_facts(BTreeMap::from([("from_start".to_owned(), from_start.to_string())]))?;
        (self.file, self.flushed_ns, self.marks, self.why_not) = (Some(file), now_ns(), 0, None);
        self.watched_ns = self.flushed_ns;
        self.emit(Event::RecordBegan);
        Ok(path)
    }

    /// Finishes the file: closes the recorder, writes what is queued, then the end.
    fn stop(&mut self, why: &str) -> Result<PathBuf, String> {
        self.recorder.set_open(false);
        while self.empty_queues() {}
        let Some(mut file) = self.file.take() else {
            let since = self.why_not.as_ref().map(|why| format!(": the last recording ended by itself: {why}"));
            return Err(format!("nothing is being recorded{}", since.unwrap_or_default()));
        };
        let gone = file.watch().err();
        let path = file.path().to_owned();
        let lost = self.lost();
        let end = [
            ("why", why.to_owned()),
            ("ended_unix_ns", unix_ns().to_string()),
            ("frames_lost", (lost.frames - self.before.frames).to_string()),
            ("messages_lost", (lost.messages - self.before.messages).to_string()),
        ];
        match gone.map_or_else(|| file.finish(end.map(|(key, value)| (key.to_owned(), value)).into()), Err) {
            Ok(()) => {
                self.count_frames(true);
                self.emit(Event::RecordEnded);
                Ok(path)
            }
            Err(cause) => {
                self.count_frames(false);
                self.emit(Event::RecordFailed { reason: fault_of(&cause) });
                Err(cause.to_string())
            }
        }
    }

    fn mark(&mut self, text: String, t_ns: u64) {
        let Some(file) = &mut self.file else { return };
        let shown = Sentence::of(&text);
        let written = write_mark(file, &mut self.buffer, &MarkRecord { text, t_ns, unix_ns: unix_ns(), inlet: None });
        self.marks += 1;
        self.emit(Event::Mark { number: self.marks, text: shown });
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
        while let Some(mark) = self.recorder.marks.pop() {
            more = true;
            let written = self.file.as_mut().map_or(Ok(()), |file| write_mark(file, &mut self.buffer, &mark));
            self.end_if_failed(written);
        }
        self.flush_when_due();
        more
    }

    fn write_message(&mut self, message: &Published) -> Result<(), SessionError> {
        if message.decoded {
            self.name_model(message.decode.generation)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let topic = match message.kind {
            Kind::Decode => Topic::Decodes,
            Kind::Event => Topic::Events,
            Kind::Status => Topic::Status,
            Kind::Decision => Topic::Decisions,
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
        self.watch_when_due(now);
    }

    /// A file that was removed takes bytes as before, for nobody.
    fn watch_when_due(&mut self, now_ns: u64) {
        if now_ns - self.watched_ns < WATCH_EVERY_NS {
            return;
        }
        self.watched_ns = now_ns;
        let Some(file) = &mut self.file else { return };
        let watched = file.watch();
        if let Ok(Some(path)) = &watched {
            tracing::warn!("the file of the recording was moved: it is now {}", path.display());
        }
        self.end_if_failed(watched.map(drop));
    }

    /// Adds the files of a model that took over since the file was begun.
    fn name_model(&mut self, generation: u64) -> Result<(), SessionError> {
        if self.file.is_none() || !self.models.insert(generation) {
            return Ok(());
        }
        let (about, Some(file)) = (self.about(generation), &mut self.file) else { return Ok(()) };
        let Some(about) = about else {
            // Readers compare the decodes with the models that the file names, and say so as well.
            tracing::warn!("{}: the files of model generation {generation} are not at hand", file.path().display());
            return Ok(());
        };
        file.add_model(generation, &about.facts, &about.attachments)
    }

    fn about(&self, generation: u64) -> Option<Arc<About>> {
        self.recorder.models().get(&generation).cloned()
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
        self.emit(Event::RecordFailed { reason: fault_of(&cause) });
        self.why_not = Some(cause.to_string());
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

fn fault_of(cause: &SessionError) -> RecordFault {
    use std::io::ErrorKind::{FileTooLarge, NotFound, QuotaExceeded, StorageFull};
    match cause {
        SessionError::File { cause, .. } => match cause.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => RecordFault::DiskFull,
            NotFound => RecordFault::FileRemoved,
            _ => RecordFault::Write,
        },
        SessionError::Form { .. } => RecordFault::Write,
    }
}

fn send_answer<T>(answer: &Sender<T>, what: T) {
    // The requester may have stopped waiting.
    drop(answer.try_send(what));
}

fn write_mark(file: &mut SessionWriter, buffer: &mut Vec<u8>, mark: &MarkRecord) -> Result<(), SessionError> {
    buffer.clear();
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(&mut *buffer, mark);
    file.write_message(Topic::Marks, mark.t_ns, buffer)
}
