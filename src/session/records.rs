//! The records of a session's file, one after the other, also across damage.
//!
//! Why it exists: one flipped bit in a length, or one lost byte, moves everything behind it, and what lies behind is whole all the same.
//! Where a record cannot be one, the next whole chunk is looked for. What it must never do: take damaged bytes for a record, read one
//! chunk twice, or go on for ever.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mcap::records::{Record, op};
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};

use super::SessionError;
use crate::model::ONNX;
use crate::sys::files::open_regular;

/// Opcode and length.
const RECORD_HEAD_BYTES: u64 = 9;
/// Largest record read into memory: a chunk with a frame of 128 MiB, or a model with its name.
const RECORD_BYTES_MAX: u64 = ONNX.bytes_max + (1 << 16);
/// Most bytes that LZ4 makes of one.
const LZ4_GAIN_MAX: u64 = 255;
/// What a chunk of a few bytes may hold all the same.
const CHUNK_BYTES_SPARE: u64 = 1 << 16;
/// Bytes of a chunk's record before its compression: times, size, CRC, length of the name (MCAP specification, "Chunk").
const CHUNK_HEAD_BYTES: usize = 32;
/// Bytes looked through at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Opcode and length of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub opcode: u8,
    pub bytes: u64,
}

/// A file of records; incomplete ones are never returned.
pub(super) struct Records {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    length: u64,
    /// Everything before this was read or given up.
    done: u64,
}

impl Records {
    pub fn open(path: &Path) -> Result<Self, SessionError> {
        let failed = |cause| SessionError::file(path, cause);
        let file = open_regular(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::new(file);
        let mut magic = [0; mcap::MAGIC.len()];
        let is_mcap = file.read_exact(&mut magic).is_ok() && magic == *mcap::MAGIC;
        if !is_mcap {
            return Err(SessionError::form(path, "is not an MCAP file"));
        }
        let at = magic.len() as u64;
        Ok(Self { path: path.into(), file, at, length, done: at })
    }

    /// The head of the next record; `None` where no complete record follows.
    pub fn head(&mut self) -> Result<Option<Head>, SessionError> {
        let head = self.peek(self.at);
        if head.is_some() {
            self.at += RECORD_HEAD_BYTES;
            self.seek()?;
        }
        Ok(head)
    }

    /// The head of a complete record of a length that its kind can have.
    fn peek(&self, at: u64) -> Option<Head> {
        let mut head = [0; RECORD_HEAD_BYTES as usize];
        self.file.get_ref().read_exact_at(&mut head, at).ok()?;
        let [opcode, length @ ..] = head;
        let bytes = u64::from_le_bytes(length);
        let left = self.length.saturating_sub(at + RECORD_HEAD_BYTES);
        let least = match opcode {
            op::DATA_END if bytes != 4 => return None,
            op::FOOTER if bytes != 20 => return None,
            op::CHUNK => 40,
            op::HEADER | op::SCHEMA | op::CHANNEL | op::MESSAGE_INDEX | op::METADATA => 6,
            op::ATTACHMENT => 20,
            op::DATA_END | op::FOOTER | op::CHUNK_INDEX | op::ATTACHMENT_INDEX => 0,
            op::STATISTICS | op::METADATA_INDEX | op::SUMMARY_OFFSET => 0,
            // Messages stand in chunks, and there is no other kind.
            _ => return None,
        };
        (bytes >= least && bytes <= left && bytes <= RECORD_BYTES_MAX).then_some(Head { opcode, bytes })
    }

    /// The body of the record whose head was read.
    pub fn body(&mut self, head: Head) -> Result<Vec<u8>, SessionError> {
        let mut body = Vec::new();
        self.body_into(head, &mut body)?;
        Ok(body)
    }

    /// The same into memory that was used before.
    pub fn body_into(&mut self, head: Head, body: &mut Vec<u8>) -> Result<(), SessionError> {
        body.resize(head.bytes as usize, 0);
        self.file.read_exact(body).map_err(|cause| SessionError::file(&self.path, cause))?;
        self.at += head.bytes;
        Ok(())
    }

    /// Where the body of the record whose head was read begins.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The body of a record that was passed before.
    pub fn body_at(&self, (at, head): (u64, Head)) -> Result<Vec<u8>, SessionError> {
        let mut body = vec![0; head.bytes as usize];
        let read = self.file.get_ref().read_exact_at(&mut body, at);
        read.map_err(|cause| SessionError::file(&self.path, cause))?;
        Ok(body)
    }

    /// Leaves out the body of the record whose head was read.
    pub fn skip(&mut self, head: Head) -> Result<(), SessionError> {
        self.at += head.bytes;
        self.seek()
    }

    fn seek(&mut self) -> Result<(), SessionError> {
        let at = self.file.stream_position().unwrap_or(u64::MAX);
        let step = i64::try_from(i128::from(self.at) - i128::from(at)).ok();
        let moved = match step {
            Some(step) => self.file.seek_relative(step),
            None => self.file.seek(SeekFrom::Start(self.at)).map(drop),
        };
        moved.map_err(|cause| SessionError::file(&self.path, cause))
    }

    /// The chunk just read is whole: what lies before its end need not be looked at again.
    pub fn chunk_is_whole(&mut self) {
        self.done = self.at;
    }

    /// The chunk just read is damaged. Is a record behind it, as its length says?
    pub fn goes_on(&self) -> bool {
        self.peek(self.at).is_some() || self.left() == 0
    }

    /// Looks for the next whole chunk behind what was read, and stands before it; false where there is none.
    pub fn find_chunk(&mut self) -> Result<bool, SessionError> {
        let mut window = vec![0; WINDOW_BYTES];
        let mut from = self.done;
        while from + RECORD_HEAD_BYTES < self.length {
            let count = WINDOW_BYTES.min((self.length - from) as usize);
            let failed = |cause| SessionError::file(&self.path, cause);
            self.file.get_ref().read_exact_at(&mut window[..count], from).map_err(failed)?;
            for at in (0..count).filter(|at| window[*at] == op::CHUNK) {
                if self.is_chunk(from + at as u64) {
                    (self.at, self.done) = (from + at as u64, from + at as u64);
                    self.seek()?;
                    return Ok(true);
                }
            }
            from += count as u64;
        }
        self.done = self.length;
        Ok(false)
    }

    /// Does a whole chunk begin here? Its lengths agree with each other, and its CRC with its content.
    fn is_chunk(&self, at: u64) -> bool {
        let Some(head) = self.peek(at) else { return false };
        let mut begin = [0; CHUNK_HEAD_BYTES + 12];
        let fits = self.file.get_ref().read_exact_at(&mut begin, at + RECORD_HEAD_BYTES).is_ok();
        let name = u32::from_le_bytes([begin[28], begin[29], begin[30], begin[31]]) as usize;
        if !fits || ![0, 3, 4].contains(&name) {
            return false;
        }
        let size = &begin[CHUNK_HEAD_BYTES + name..][..8];
        let size = size.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        if size.checked_add((CHUNK_HEAD_BYTES + name + 8) as u64) != Some(head.bytes) {
            return false;
        }
        let mut body = vec![0; head.bytes as usize];
        let read = self.file.get_ref().read_exact_at(&mut body, at + RECORD_HEAD_BYTES).is_ok();
        read && records_of(&body).is_some()
    }

    /// Bytes not yet read.
    pub fn left(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }
}

/// Parses the body of a record; `None` where it is damaged.
pub(super) fn parsed(opcode: u8, body: &[u8]) -> Option<Record<'_>> {
    // mcap's reader of attachments assumes the four bytes of CRC at their end.
    if opcode == op::ATTACHMENT && body.len() < 4 {
        return None;
    }
    mcap::parse_record(opcode, body).ok()
}

/// The records in the body of a chunk; `None` where it is damaged.
pub(super) fn records_of(chunk: &[u8]) -> Option<Vec<Record<'_>>> {
    match parsed(op::CHUNK, chunk)? {
        Record::Chunk { header, data: Cow::Borrowed(data) } if header.compression.is_empty() => {
            if header.uncompressed_size != data.len() as u64 {
                return None;
            }
            let mut crc = flate2::Crc::new();
            crc.update(data);
            // By MCAP's specification, 0 says that there is none.
            let is_whole = header.uncompressed_crc == 0 || header.uncompressed_crc == crc.sum();
            is_whole.then(|| where_they_lie(data)).flatten()
        }
        _ => decompressed(chunk),
    }
}

/// The records in bytes that need no decompression: none of them is copied.
fn where_they_lie(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let ([opcode, length @ ..], behind) = bytes.split_first_chunk::<{ RECORD_HEAD_BYTES as usize }>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (body, behind) = behind.split_at_checked(length)?;
        records.push(parsed(*opcode, body)?);
        bytes = behind;
    }
    Some(records)
}

/// The records in the body of a compressed chunk; `None` where it is damaged. How much memory that takes is said by the chunk itself:
/// no more is taken than LZ4 can make of its bytes.
fn decompressed(chunk: &[u8]) -> Option<Vec<Record<'static>>> {
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
        // The first error ends it: the reader would repeat it for ever.
        match event.ok()? {
            LinearReadEvent::ReadRequest(need) => {
                let into = reader.insert(need.min(chunk.len() + RECORD_HEAD_BYTES as usize));
                let read = bytes.read(into).ok()?;
                reader.notify_read(read);
            }
            LinearReadEvent::Record { data, opcode } => {
                records.push(mcap::parse_record(opcode, data).ok()?.into_owned());
            }
        }
    }
    Some(records)
}
