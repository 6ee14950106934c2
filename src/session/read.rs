//! Reads the file of a session, complete or truncated, chunk by chunk.
//!
//! Why it exists: a killed daemon, a full disk or a bad cable leaves a file without its end, and its intact part must be readable.
//! What it must never do: hold more than one chunk in memory, or return a message from a chunk whose CRC is wrong: such a chunk
//! is skipped and counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mcap::records::{Record, op};
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};

use super::messages::{DecodeRecord, ModelRecord};
use super::{BEGIN, END, FORM, MODEL, SessionError, Topic};
use crate::frame::FIRST_GENERATION;
use crate::model::ONNX;
use crate::sys::files::open_regular;
use crate::sys::statistics::median;

/// Opcode and length.
const RECORD_HEAD_BYTES: u64 = 9;
/// Largest record read into memory: a chunk with a frame of 128 MiB, or a model with its name.
const RECORD_BYTES_MAX: u64 = ONNX.bytes_max + (1 << 16);
/// Most bytes that LZ4 makes of one.
const LZ4_GAIN_MAX: u64 = 255;
/// What a chunk of a few bytes may hold all the same.
const CHUNK_BYTES_SPARE: u64 = 1 << 16;
/// Frame times used to estimate the frame rate.
const TIMES_MAX: usize = 1024;

/// What a session contains, without reading its chunks.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Which file.
    pub path: PathBuf,
    /// The metadata at the start.
    pub about: BTreeMap<String, String>,
    /// The metadata at the end; `None` when the file was truncated.
    pub end: Option<BTreeMap<String, String>>,
    /// Messages of each topic in complete chunks, in the order of [`Topic::ALL`]; a chunk without its index is not counted.
    pub messages: [u64; Topic::ALL.len()],
    /// Median rate of the recorded frames, Hz, from their times of receipt.
    pub frame_rate_hz: Option<f64>,
    /// Bytes after the last complete record of a truncated file.
    pub bytes_lost: u64,
    /// Models that took over during the recording and whose files are attached, in order.
    pub taken_over: Vec<ModelRecord>,
    /// The models of the first and of the last decode in complete chunks; `None` without a decode.
    pub decoded_by: Option<[ModelRecord; 2]>,
}

impl Outline {
    /// Scans a file.
    ///
    /// # Errors
    /// A file that cannot be read or is not a session.
    pub fn of(path: &Path) -> Result<Self, SessionError> {
        let mut file = RecordFile::open(path)?;
        let mut outline = Self { path: path.into(), ..Self::default() };
        let (mut channels, mut times, mut decodes) = (HashMap::new(), Vec::new(), DecodeChunks::default());
        while let Some(head) = file.head()? {
            match head.opcode {
                op::MESSAGE_INDEX | op::CHANNEL | op::METADATA | op::CHUNK => {}
                op::DATA_END => break,
                _ => {
                    file.skip(head)?;
                    continue;
                }
            }
            if head.opcode == op::CHUNK {
                decodes.met = Some((file.at, head));
            }
            let body = if head.opcode == op::CHUNK && !channels.is_empty() {
                file.skip(head)?;
                continue;
            } else {
                file.body(head)?
            };
            match file.parse(head.opcode, &body)? {
                Record::Metadata(found) if found.name == BEGIN => outline.about.extend(found.metadata),
                Record::Metadata(found) if found.name == END => outline.end = Some(found.metadata),
                Record::Metadata(found) if found.name == MODEL => outline.taken_over.extend(model_of(&found.metadata)),
                Record::Channel(channel) => note_channel(&mut channels, &channel),
                Record::Chunk { .. } => {
                    for record in records_of(&body).into_iter().flatten() {
                        if let Record::Channel(channel) = record {
                            note_channel(&mut channels, &channel);
                        }
                    }
                }
                Record::MessageIndex(index) => {
                    let Some(topic) = channels.get(&index.channel_id) else { continue };
                    outline.messages[*topic as usize] += index.records.len() as u64;
                    if *topic == Topic::Decodes {
                        decodes.note();
                    }
                    if *topic == Topic::Frames && times.len() < TIMES_MAX {
                        times.extend(index.records.iter().map(|entry| entry.log_time));
                    }
                }
                _ => {}
            }
        }
        outline.bytes_lost = file.left();
        if outline.end.is_some() {
            outline.bytes_lost = 0;
        }
        outline.frame_rate_hz = rate_hz(&times);
        check(path, &outline.about)?;
        outline.decoded_by = decodes.models(&mut file, &channels)?;
        Ok(outline)
    }

    /// The model whose files are attached as [`MODEL_ONNX`](super::MODEL_ONNX), and those that took over during the recording. Files
    /// of earlier versions do not say a generation; it is then that of the first model.
    pub fn models(&self) -> Vec<ModelRecord> {
        model_of(&self.about).into_iter().chain(self.taken_over.iter().cloned()).collect()
    }

    /// What does not fit between the decodes and the attached models; `None` when the first attached model made every decode, so
    /// that a replay with it can be bit-identical.
    pub fn not_by_one_model(&self) -> Option<String> {
        let ([first, last], models) = (self.decoded_by.as_ref()?, self.models());
        let attached = models.first()?;
        let listed = || models.iter().map(described).collect::<Vec<_>>().join(", ");
        let strange = [first, last].into_iter().find(|by| models.iter().all(|model| model.sha256 != by.sha256));
        if let Some(by) = strange {
            return Some(format!(
                "decodes are by model {}, whose files are not attached; attached: {}",
                described(by),
                listed()
            ));
        }
        // Of three models the first may have come back: its generation is another one then.
        let swapped = last.generation != first.generation;
        (swapped || first.sha256 != attached.sha256 || last.sha256 != attached.sha256)
            .then(|| format!("more than one model decoded this session (hot swap): {}", listed()))
    }

    /// Messages of one topic.
    pub fn count(&self, topic: Topic) -> u64 {
        self.messages[topic as usize]
    }

    /// A number from the metadata at the start.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.about.get(key)?.parse().ok()
    }

    /// What to know before trusting a replay of this file; empty for a complete recording from the start of the run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let of_end = |key: &str| self.end.as_ref().and_then(|end| end.get(key)?.parse::<u64>().ok()).unwrap_or(0);
        if self.end.is_none() {
            warnings.push(format!(
                "the recording was cut off (daemon killed, or disk full): {} frames and {} decodes are intact; {} bytes of an \
                 unfinished chunk at the end are lost, which may be up to the last second",
                self.count(Topic::Frames),
                self.count(Topic::Decodes),
                self.bytes_lost
            ));
        }
        let lost = of_end("frames_lost");
        if lost > 0 {
            warnings.push(format!(
                "{lost} frames were decoded live but not recorded because the disk was too slow: from the first of them until the \
                 next reset a replay is not bit-identical"
            ));
        }
        if let Some(what) = self.not_by_one_model() {
            warnings.push(format!("{what}: every decode names its model"));
        }
        if self.about.get("from_start").is_some_and(|from_start| from_start == "false") {
            warnings.push(
                "the recording was started mid-run and does not contain the state built up before it (template, baseline, \
                 statistics): a replay is bit-identical only after the next reset"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Chunks that are read at most to find the first or the last decode of a frame; in between there may be neutral ones.
const CHUNKS_SEARCHED_MAX: usize = 256;

/// Where decodes are, without having read them.
#[derive(Default)]
struct DecodeChunks {
    /// The chunk that was met last: position of its content, and its head.
    met: Option<(u64, Head)>,
    /// Those that hold decodes.
    all: Vec<(u64, Head)>,
}

impl DecodeChunks {
    /// The chunk that was met last holds decodes.
    fn note(&mut self) {
        self.all.extend(self.met.take());
    }

    /// The models of the first and of the last decode of a frame.
    fn models(
        &self,
        file: &mut RecordFile,
        channels: &HashMap<u16, Topic>,
    ) -> Result<Option<[ModelRecord; 2]>, SessionError> {
        let mut in_chunk = |at: &(u64, Head)| -> Result<Vec<ModelRecord>, SessionError> {
            let body = file.body_at(*at)?;
            let records = records_of(&body).unwrap_or_default();
            Ok(records.iter().filter_map(|record| model_in(record, channels)).collect())
        };
        let (mut first, mut last) = (None, None);
        for at in self.all.iter().take(CHUNKS_SEARCHED_MAX) {
            first = in_chunk(at)?.into_iter().next();
            if first.is_some() {
                break;
            }
        }
        for at in self.all.iter().rev().take(CHUNKS_SEARCHED_MAX) {
            last = in_chunk(at)?.pop();
            if last.is_some() {
                break;
            }
        }
        Ok(first.zip(last).map(|(first, last)| [first, last]))
    }
}

/// The model that a decode names.
fn model_in(record: &Record<'_>, channels: &HashMap<u16, Topic>) -> Option<ModelRecord> {
    let Record::Message { header, data } = record else { return None };
    if channels.get(&header.channel_id) != Some(&Topic::Decodes) {
        return None;
    }
    // A neutral decode, which has no frame, says nothing about what was decoded.
    let decode: DecodeRecord = serde_json::from_slice(data).ok()?;
    decode.decoded.and(decode.model)
}

fn model_of(facts: &BTreeMap<String, String>) -> Option<ModelRecord> {
    let generation = facts.get("generation").and_then(|text| text.parse().ok()).unwrap_or(FIRST_GENERATION);
    Some(ModelRecord { name: facts.get("model")?.clone(), sha256: facts.get("model_sha256")?.clone(), generation })
}

/// For people.
fn described(model: &ModelRecord) -> String {
    let short: String = model.sha256.chars().take(12).collect();
    format!("{} (generation {}, SHA-256 {short}…)", model.name, model.generation)
}

fn check(path: &Path, about: &BTreeMap<String, String>) -> Result<(), SessionError> {
    match about.get("form").map(String::as_str) {
        Some(FORM) => Ok(()),
        Some(other) => Err(SessionError::form(
            path,
            format!(
                "is a session of format {other}; this haltere reads format {FORM}: use the version that wrote it, or a newer one"
            ),
        )),
        None => {
            Err(SessionError::form(path, "is an MCAP file but not a haltere session (it has no `haltere.session`)"))
        }
    }
}

fn note_channel(channels: &mut HashMap<u16, Topic>, channel: &mcap::records::Channel) {
    if let Some(topic) = Topic::ALL.into_iter().find(|topic| topic.name() == channel.topic) {
        channels.insert(channel.id, topic);
    }
}

fn rate_hz(times: &[u64]) -> Option<f64> {
    let mut intervals: Vec<u64> = times.windows(2).filter_map(|pair| pair[1].checked_sub(pair[0])).collect();
    intervals.retain(|ns| *ns > 0);
    median(&mut intervals, u64::cmp).map(|ns| 1e9 / ns as f64)
}

/// One item of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A message.
    Message {
        /// What it is.
        topic: Topic,
        /// UTC, ns since 1970.
        unix_ns: u64,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// An attachment at the start.
    Attachment {
        /// Its name.
        name: String,
        /// Its bytes.
        data: Vec<u8>,
    },
}

/// Reads a session in the order in which it was written.
pub struct Reader {
    file: RecordFile,
    channels: HashMap<u16, Topic>,
    waiting: VecDeque<Item>,
    /// Damaged chunks skipped.
    damaged_chunks: u64,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is not MCAP.
    pub fn open(path: &Path) -> Result<Self, SessionError> {
        let file = RecordFile::open(path)?;
        Ok(Self { file, channels: HashMap::new(), waiting: VecDeque::new(), damaged_chunks: 0 })
    }

    /// The next item; `None` at the end, or where the file was truncated.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn read(&mut self) -> Result<Option<Item>, SessionError> {
        while self.waiting.is_empty() {
            let Some(head) = self.file.head()? else { return Ok(None) };
            match head.opcode {
                op::DATA_END => return Ok(None),
                op::CHANNEL | op::CHUNK | op::ATTACHMENT => {
                    let body = self.file.body(head)?;
                    self.record(head.opcode, &body);
                }
                _ => self.file.skip(head)?,
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// Chunks skipped so far because their CRC was wrong.
    pub fn damaged_chunks(&self) -> u64 {
        self.damaged_chunks
    }

    fn record(&mut self, opcode: u8, body: &[u8]) {
        if opcode == op::CHUNK {
            match records_of(body) {
                Ok(records) => records.into_iter().for_each(|record| self.in_chunk(record)),
                Err(_) => self.damaged_chunks += 1,
            }
            return;
        }
        match self.file.parse(opcode, body) {
            Ok(Record::Channel(channel)) => note_channel(&mut self.channels, &channel),
            Ok(Record::Attachment { header, data, .. }) => {
                self.waiting.push_back(Item::Attachment { name: header.name, data: data.into_owned() });
            }
            _ => self.damaged_chunks += 1,
        }
    }

    fn in_chunk(&mut self, record: Record<'_>) {
        match record {
            Record::Channel(channel) => note_channel(&mut self.channels, &channel),
            Record::Message { header, data } => {
                if let Some(topic) = self.channels.get(&header.channel_id) {
                    let (topic, unix_ns, data) = (*topic, header.log_time, data.into_owned());
                    self.waiting.push_back(Item::Message { topic, unix_ns, data });
                }
            }
            _ => {}
        }
    }
}

/// The records of a chunk, whose CRC is right. How much memory that takes is said by the chunk itself: no more is taken than LZ4 can make of
/// its bytes.
fn records_of(chunk: &[u8]) -> mcap::McapResult<Vec<Record<'static>>> {
    let most =
        (chunk.len() as u64).saturating_mul(LZ4_GAIN_MAX).saturating_add(CHUNK_BYTES_SPARE).min(RECORD_BYTES_MAX);
    let options = LinearReaderOptions::default()
        .with_skip_start_magic(true)
        .with_skip_end_magic(true)
        .with_validate_chunk_crcs(true)
        .with_record_length_limit(most as usize);
    let mut reader = LinearReader::new_with_options(options);
    let mut head = vec![op::CHUNK];
    head.extend((chunk.len() as u64).to_le_bytes());
    let (mut bytes, mut records) = (head.chain(chunk), Vec::new());
    while let Some(event) = reader.next_event() {
        match event? {
            LinearReadEvent::ReadRequest(need) => {
                let read = bytes.read(reader.insert(need.min(chunk.len() + RECORD_HEAD_BYTES as usize)))?;
                reader.notify_read(read);
            }
            LinearReadEvent::Record { data, opcode } => records.push(mcap::parse_record(opcode, data)?.into_owned()),
        }
    }
    Ok(records)
}

/// Opcode and length of a record.
#[derive(Clone, Copy)]
struct Head {
    opcode: u8,
    bytes: u64,
}

/// A file of records; incomplete ones are never returned.
struct RecordFile {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    length: u64,
}

impl RecordFile {
    fn open(path: &Path) -> Result<Self, SessionError> {
        let failed = |cause| SessionError::file(path, cause);
        let file = open_regular(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::new(file);
        let mut magic = [0; mcap::MAGIC.len()];
        let is_mcap = file.read_exact(&mut magic).is_ok() && magic == *mcap::MAGIC;
        if !is_mcap {
            return Err(SessionError::form(path, "is not an MCAP file"));
        }
        Ok(Self { path: path.into(), file, at: magic.len() as u64, length })
    }

    /// The head of the next record, if the record is complete.
    fn head(&mut self) -> Result<Option<Head>, SessionError> {
        let mut head = [0; RECORD_HEAD_BYTES as usize];
        if self.left() < RECORD_HEAD_BYTES {
            return Ok(None);
        }
        self.file.read_exact(&mut head).map_err(|cause| SessionError::file(&self.path, cause))?;
        let [opcode, length @ ..] = head;
        let bytes = u64::from_le_bytes(length);
        // An incomplete record is never read, so `left` is the number of bytes lost.
        if bytes > self.left() - RECORD_HEAD_BYTES || bytes > RECORD_BYTES_MAX {
            return Ok(None);
        }
        self.at += RECORD_HEAD_BYTES;
        Ok(Some(Head { opcode, bytes }))
    }

    fn body(&mut self, head: Head) -> Result<Vec<u8>, SessionError> {
        let mut body = vec![0; head.bytes as usize];
        self.file.read_exact(&mut body).map_err(|cause| SessionError::file(&self.path, cause))?;
        self.at += head.bytes;
        Ok(body)
    }

    /// The body of a record that was passed before.
    fn body_at(&mut self, (at, head): (u64, Head)) -> Result<Vec<u8>, SessionError> {
        self.file.seek(SeekFrom::Start(at)).map_err(|cause| SessionError::file(&self.path, cause))?;
        self.at = at;
        self.body(head)
    }

    fn skip(&mut self, head: Head) -> Result<(), SessionError> {
        self.at += head.bytes;
        let inside = i64::try_from(head.bytes).ok().map(|bytes| self.file.seek_relative(bytes));
        let moved = inside.unwrap_or_else(|| self.file.seek(SeekFrom::Start(self.at)).map(drop));
        moved.map_err(|cause| SessionError::file(&self.path, cause))
    }

    fn parse<'a>(&self, opcode: u8, body: &'a [u8]) -> Result<Record<'a>, SessionError> {
        // mcap's reader of attachments assumes the four bytes of CRC at their end.
        if opcode == op::ATTACHMENT && body.len() < 4 {
            return Err(SessionError::form(&self.path, "contains a malformed attachment"));
        }
        mcap::parse_record(opcode, body).map_err(|cause| SessionError::mcap(&self.path, cause))
    }

    /// Bytes not yet read.
    fn left(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }
}
