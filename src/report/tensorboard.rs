//! Writes scalars as TensorBoard reads them: one event file, TFRecord framing, protobuf inside.
//!
//! Why it exists: people watch their runs in TensorBoard, and the format is small enough to write without a library. What it must
//! never do: slow down training (a record is a few dozen bytes), or write into a file of an earlier start.
//!
//! Framing: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data; all little-endian. Messages and field
//! numbers are those of TensorBoard's `event.proto` and `summary.proto`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

/// Names of event files begin with this; TensorBoard looks for it.
pub const FILE_PREFIX: &str = "events.out.tfevents.";

/// `SessionLog.SessionStatus`.
const START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, required, tag = "1")]
    at_s: f64,
    #[prost(uint64, optional, tag = "2")]
    step: Option<u64>,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    scalars: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, required, tag = "1")]
    tag: String,
    #[prost(float, required, tag = "2")]
    value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, required, tag = "1")]
    status: i32,
}

impl Event {
    fn at(now_s: f64) -> Self {
        Self { at_s: now_s, ..Self::default() }
    }
}

/// An event file under construction.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Begins a new event file in `folder`. After a resume, `first_step` is the first step that will be written: TensorBoard
    /// then forgets what earlier files say of this step and later ones.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(folder: &Path, first_step: Option<u64>, now_s: f64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let earlier = fs::read_dir(folder)?
            .filter(|e| e.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().starts_with(FILE_PREFIX)))
            .count();
        // TensorBoard reads files in the order of their names: seconds first, then a count for starts within one second.
        let path = folder.join(format!("{FILE_PREFIX}{:010}.haltere.{earlier:04}", now_s as u64));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let mut events = Self { file, path };
        events.write(&Event { file_version: Some("brain.Event:2".into()), ..Event::at(now_s) })?;
        if let Some(step) = first_step {
            let session = Some(SessionLog { status: START });
            events.write(&Event { step: Some(step), session, ..Event::at(now_s) })?;
        }
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the scalars of one step in one record. What is not finite is written too: TensorBoard shows it as such.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, now_s: f64, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let scalar = |&(tag, value): &(&str, f64)| Scalar { tag: tag.into(), value: value as f32 };
        let summary = Some(Summary { scalars: values.iter().map(scalar).collect() });
        self.write(&Event { step: Some(step), summary, ..Event::at(now_s) })
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        // One write, so that a kill tears at most the last record, which readers skip.
        self.file.write_all(&record(&event.encode_to_vec()))
    }
}

/// One TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked(crc32c(data)).to_le_bytes());
    record
}

/// The mask of TFRecord: a checksum of data that holds its own checksum would be weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, as in RFC 3720, appendix B.4.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !data.iter().fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the catalogue of parametrised CRCs.
    #[test]
    fn the_checksum_gives_the_published_values() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (data, expected) in [
            (&[][..], 0),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(crc32c(data), expected, "{data:02x?}");
        }
    }

    #[test]
    fn a_record_is_length_checksum_data_checksum() {
        let record = record(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[8..12], masked(crc32c(&record[..8])).to_le_bytes());
        assert_eq!(&record[12..15], b"abc");
        assert_eq!(record[15..], masked(crc32c(b"abc")).to_le_bytes());
    }

    #[test]
    fn a_second_start_writes_a_file_of_its_own_that_sorts_after_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Events::create(folder.path(), None, 1_700_000_000.0).unwrap();
        let second = Events::create(folder.path(), Some(5), 1_700_000_000.4).unwrap();
        assert!(first.path() < second.path());
        assert_ne!(fs::read(first.path()).unwrap(), fs::read(second.path()).unwrap());
    }
}
