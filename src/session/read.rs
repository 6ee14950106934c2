//! Reads the file of a session, complete, truncated or damaged, chunk by chunk.
//!
//! Why it exists: a killed daemon, a full disk or a bad cable leaves a file without its end or with a hole, and its intact part must be
//! readable. What it must never do: hold more than one chunk in memory, or return a message from a chunk whose CRC is wrong: such a
//! chunk is skipped, and the hole is told.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::Path;

use mcap::records::{Record, op};

use super::damage::{Damage, Hole};
use super::outline::note_channel;
use super::records::{Records, parsed, records_of};
use super::{Outline, SessionError, Topic};

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

/// One item as it lies in the chunk that is held.
#[derive(Debug)]
pub enum HeldItem<'a> {
    /// A message.
    Message {
        /// What it is.
        topic: Topic,
        /// UTC, ns since 1970.
        unix_ns: u64,
        /// Its bytes.
        data: &'a [u8],
    },
    /// An attachment.
    Attachment {
        /// Its name.
        name: String,
        /// Its bytes.
        data: Vec<u8>,
    },
}

/// An item of the chunk that is held, until it is asked for.
enum Waiting {
    Message { topic: Topic, unix_ns: u64, data: Bytes },
    Attachment { name: String, data: Vec<u8> },
}

/// Where the bytes of a message are.
enum Bytes {
    /// In the chunk.
    InChunk(Range<usize>),
    /// The chunk was compressed.
    Own(Vec<u8>),
}

/// Reads a session in the order in which it was written.
pub struct Reader {
    records: Records,
    path: std::path::PathBuf,
    channels: HashMap<u16, Topic>,
    /// The chunk that is held.
    held: Vec<u8>,
    waiting: VecDeque<Waiting>,
    /// Of a compressed chunk, the message that was asked for last.
    last: Vec<u8>,
    chunks: u64,
    damage: Damage,
    last_ns: Option<u64>,
    /// The last chunk was damaged.
    in_hole: bool,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is not MCAP.
    pub fn open(path: &Path) -> Result<Self, SessionError> {
        Ok(Self {
            records: Records::open(path)?,
            path: path.into(),
            channels: HashMap::new(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            last: Vec::new(),
            chunks: 0,
            damage: Damage::default(),
            last_ns: None,
            in_hole: false,
        })
    }

    /// The next item; `None` at the end, or where the file was truncated.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn read(&mut self) -> Result<Option<Item>, SessionError> {
        let own = |item: HeldItem<'_>| match item {
            HeldItem::Message { topic, unix_ns, data } => Item::Message { topic, unix_ns, data: data.to_vec() },
            HeldItem::Attachment { name, data } => Item::Attachment { name, data },
        };
        Ok(self.read_held()?.map(own))
    }

    /// The same without a copy of a message's bytes.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn read_held(&mut self) -> Result<Option<HeldItem<'_>>, SessionError> {
        while self.waiting.is_empty() {
            let Some(head) = self.records.head()? else {
                // The rest of a file that was cut holds no whole chunk and is no hole: the outline tells of it.
                if !self.records.find_chunk()? {
                    return Ok(None);
                }
                self.hole();
                continue;
            };
            match head.opcode {
                op::DATA_END => return Ok(None),
                op::CHUNK => {
                    let mut held = std::mem::take(&mut self.held);
                    self.records.body_into(head, &mut held)?;
                    let taken = self.chunk(&held);
                    self.held = held;
                    taken?;
                }
                op::CHANNEL | op::ATTACHMENT | op::MESSAGE_INDEX => {
                    let body = self.records.body(head)?;
                    self.record(head.opcode, &body);
                }
                _ => self.records.skip(head)?,
            }
        }
        Ok(self.waiting.pop_front().map(|waiting| match waiting {
            Waiting::Attachment { name, data } => HeldItem::Attachment { name, data },
            Waiting::Message { topic, unix_ns, data: Bytes::InChunk(place) } => {
                HeldItem::Message { topic, unix_ns, data: &self.held[place] }
            }
            Waiting::Message { topic, unix_ns, data: Bytes::Own(data) } => {
                self.last = data;
                HeldItem::Message { topic, unix_ns, data: &self.last }
            }
        }))
    }

    /// What could not be read so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Chunks skipped so far because they are damaged.
    pub fn damaged_chunks(&self) -> u64 {
        self.damage.holes.len() as u64
    }

    fn chunk(&mut self, body: &[u8]) -> Result<(), SessionError> {
        if let Some(records) = records_of(body) {
            self.records.chunk_is_whole();
            self.chunks += 1;
            self.in_hole = false;
            records.into_iter().for_each(|record| self.in_chunk(record, body));
            return Ok(());
        }
        self.hole();
        self.chunks += 1;
        // Where nothing follows as the chunk's length says, that length is wrong as well.
        if !self.records.goes_on() {
            self.records.find_chunk()?;
        }
        Ok(())
    }

    /// Something is missing here.
    fn hole(&mut self) {
        if !self.in_hole {
            self.damage.holes.push(Hole { chunk: self.chunks, after_ns: self.last_ns, ..Hole::default() });
        }
        self.in_hole = true;
        self.know_channels();
    }

    /// The first chunk names the channels; where it is damaged, the summary names them again.
    fn know_channels(&mut self) {
        if self.channels.is_empty() {
            self.channels = Outline::of(&self.path).map(|outline| outline.channels).unwrap_or_default();
        }
    }

    fn record(&mut self, opcode: u8, body: &[u8]) {
        match parsed(opcode, body) {
            Some(Record::Channel(channel)) => note_channel(&mut self.channels, &channel),
            Some(Record::Attachment { header, data, .. }) => {
                self.waiting.push_back(Waiting::Attachment { name: header.name, data: data.into_owned() });
            }
            Some(Record::MessageIndex(index)) if self.in_hole => {
                let topic = self.channels.get(&index.channel_id);
                if let Some((topic, hole)) = topic.zip(self.damage.holes.last_mut()) {
                    hole.messages.get_or_insert_default()[*topic as usize] += index.records.len() as u64;
                }
            }
            _ => {}
        }
    }

    fn in_chunk(&mut self, record: Record<'_>, chunk: &[u8]) {
        match record {
            Record::Channel(channel) => note_channel(&mut self.channels, &channel),
            Record::Message { header, data } => {
                self.know_channels();
                if let Some(topic) = self.channels.get(&header.channel_id) {
                    let (topic, unix_ns) = (*topic, header.log_time);
                    self.damage.first_ns.get_or_insert(unix_ns);
                    self.damage.read[topic as usize] += 1;
                    if let Some(hole) = self.damage.holes.last_mut() {
                        hole.before_ns.get_or_insert(unix_ns);
                    }
                    self.last_ns = self.last_ns.max(Some(unix_ns));
                    let data = match data {
                        Cow::Borrowed(data) => {
                            let begin = data.as_ptr().addr() - chunk.as_ptr().addr();
                            Bytes::InChunk(begin..begin + data.len())
                        }
                        Cow::Owned(data) => Bytes::Own(data),
                    };
                    self.waiting.push_back(Waiting::Message { topic, unix_ns, data });
                }
            }
            _ => {}
        }
    }
}
