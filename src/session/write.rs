//! Writes the file of a session.
//!
//! Why it exists: the recorder deals in frames and decodes, MCAP in records. What it must never do: put more than the last chunk
//! at risk. A chunk is handed to the system whole, with its length and CRC, so a killed daemon loses only what was not yet
//! flushed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mcap::records::MessageHeader;
use mcap::write::{Metadata, NoSeek};
use mcap::{Attachment, WriteOptions, Writer};

use super::messages::{AnimalRecord, RequestRecord};
use super::watched::Watched;
use super::{BEGIN, END, EXTENSION, FORM, MODEL, MODEL_ONNX, MODEL_TOML, SessionError, Topic, layout, schemas};
use crate::config::Compression;
use crate::frame::{FrameSlot, Request, Requests};
use crate::sys::calendar;

/// A chunk is closed when it exceeds this, bytes: small enough to be written before the next frame arrives.
const CHUNK_BYTES: u64 = 1 << 20;
/// Most files of one rig with the same second in their name; more would mean that something is wrong.
const SAME_SECOND_MAX: u32 = 100;

/// Of the facts about a run, those that are another model's after a hot swap.
const OF_A_MODEL: [&str; 4] = ["model", "model_sha256", "labels", "outputs"];

/// Bytes between two hints to the system.
const STEP_BYTES: u64 = 1 << 20;
/// How far back bytes may still be on their way to the disk when the system is told that nobody will read them again.
#[cfg(target_os = "linux")]
const BEHIND_BYTES: u64 = 64 << 20;

/// A session being written.
pub struct SessionWriter {
    path: PathBuf,
    watched: Watched,
    writer: Writer<NoSeek<BufWriter<SteadyFile>>>,
    channels: [u16; Topic::ALL.len()],
    counts: [u32; Topic::ALL.len()],
    /// Reused for every frame.
    buffer: Vec<u8>,
    /// From `CLOCK_MONOTONIC` to UTC, ns.
    offset_ns: i128,
    bytes: u64,
}

impl SessionWriter {
    /// Creates the file, which must not exist yet, with its metadata and attachments (name, media type, bytes).
    ///
    /// # Errors
    /// The system's error.
    pub fn create(
        path: &Path,
        compression: Compression,
        offset_ns: i128,
        about: &BTreeMap<String, String>,
        attachments: &[(&str, &str, &[u8])],
    ) -> Result<Self, SessionError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|cause| SessionError::file(path, cause))?;
        Self::begin(path, file, compression, offset_ns, about, attachments).map_err(|cause| {
            // On a full disk it would stay behind, empty or cut off in the model. If it cannot be removed, the cause is still the cause.
            match std::fs::remove_file(path) {
                Ok(()) => cause.with("; the file that was begun is removed again"),
                Err(_) => cause,
            }
        })
    }

    fn begin(
        path: &Path,
        file: File,
        compression: Compression,
        offset_ns: i128,
        about: &BTreeMap<String, String>,
        attachments: &[(&str, &str, &[u8])],
    ) -> Result<Self, SessionError> {
        let failed = |cause| SessionError::mcap(path, cause);
        let compression = match compression {
            Compression::None => None,
            Compression::Lz4 => Some(mcap::Compression::Lz4),
        };
        let options = WriteOptions::new()
            .profile("haltere")
            .library(concat!("haltere ", env!("CARGO_PKG_VERSION")))
            .compression(compression)
            .chunk_size(Some(CHUNK_BYTES))
            // Each chunk has a CRC of its own; a second one over all of them would repeat the work.
            .calculate_data_section_crc(false)
            // A chunk is assembled in memory and written whole.
            .disable_seeking(true);
        let watched = Watched::of(path, &file).map_err(|cause| SessionError::file(path, cause))?;
        let mut writer = options.create(NoSeek::new(BufWriter::new(SteadyFile::new(file)))).map_err(failed)?;
        let mut about = about.clone();
        about.insert("form".into(), FORM.into());
        writer.write_metadata(&Metadata { name: BEGIN.into(), metadata: about }).map_err(failed)?;
        for (name, media_type, data) in attachments {
            writer.attach(&attachment(name, media_type, data)).map_err(failed)?;
        }
        let mut channels = [0; Topic::ALL.len()];
        for topic in Topic::ALL {
            let (name, kind, text) = schemas::schema(topic);
            let schema = writer.add_schema(name, kind, text.as_bytes()).map_err(failed)?;
            let added = writer.add_channel(schema, topic.name(), schemas::encoding(topic), &BTreeMap::new());
            channels[topic as usize] = added.map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
        let (counts, buffer) = ([0; Topic::ALL.len()], Vec::new());
        Ok(Self { path: path.into(), writer, watched, channels, counts, buffer, offset_ns, bytes: 0 })
    }

    /// Adds the files of a model that took over while the file was open, and the metadata that names them.
    ///
    /// # Errors
    /// The system's error.
    pub fn add_model(
        &mut self,
        generation: u64,
        facts: &BTreeMap<String, String>,
        attachments: &[(&'static str, &'static str, Vec<u8>)],
    ) -> Result<(), SessionError> {
        let failed = |cause| SessionError::mcap(&self.path, cause);
        let mut metadata: BTreeMap<String, String> = facts
            .iter()
            .filter(|(key, _)| OF_A_MODEL.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        metadata.insert("generation".into(), generation.to_string());
        for (name, media_type, data) in attachments.iter().filter(|(name, ..)| [MODEL_ONNX, MODEL_TOML].contains(name))
        {
            let own = name.replacen("model.", &format!("model-{generation}."), 1);
            self.writer.attach(&attachment(&own, media_type, data)).map_err(failed)?;
            metadata.insert((*name).into(), own);
        }
        self.writer.write_metadata(&Metadata { name: MODEL.into(), metadata }).map_err(failed)
    }

    /// Is the file still there? `Some`: it was moved, and where it is now.
    ///
    /// # Errors
    /// It was removed; what is written from now on is lost.
    pub fn watch(&mut self) -> Result<Option<PathBuf>, SessionError> {
        let moved = self.watched.look(&self.path).map_err(|cause| SessionError::file(&self.path, cause))?;
        if let Some(path) = &moved {
            self.path.clone_from(path);
        }
        Ok(moved)
    }

    /// Adds facts about the session to the metadata at its start.
    ///
    /// # Errors
    /// The system's error.
    pub fn add_facts(&mut self, facts: BTreeMap<String, String>) -> Result<(), SessionError> {
        let written = self.writer.write_metadata(&Metadata { name: BEGIN.into(), metadata: facts });
        written.map_err(|cause| SessionError::mcap(&self.path, cause))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all messages so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a frame, preceded by the requests carried out before it.
    ///
    /// # Errors
    /// The system's error: nothing more can be written.
    pub fn write_frame(&mut self, slot: &FrameSlot) -> Result<(), SessionError> {
        let info = &slot.frame.info;
        if !slot.requests.is_empty() {
            self.write_requests(&slot.requests, info.number, info.t_received_ns)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        layout::write(&slot.frame, slot.arrival, &mut buffer);
        let written = self.write_message(Topic::Frames, info.t_received_ns, &buffer);
        self.buffer = buffer;
        written
    }

    /// Writes requests; a saved state that was taken up goes before them, as an attachment.
    fn write_requests(&mut self, requests: &Requests, frame: u64, t_ns: u64) -> Result<(), SessionError> {
        let mut record = RequestRecord { frame, requests: Vec::new(), animal: None };
        for request in requests.iter() {
            record.requests.push(request.words());
            if let Request::TakeUp(saved) = request {
                let animal = AnimalRecord { name: saved.name, sha256: saved.sha256.clone() };
                self.attach(&animal.attachment(), "application/protobuf", &saved.bytes)?;
                record.animal = Some(animal);
            }
        }
        // Plain values become JSON without fail.
        let message = serde_json::to_vec(&record).unwrap_or_default();
        self.write_message(Topic::Requests, t_ns, &message)
    }

    fn attach(&mut self, name: &str, media_type: &str, data: &[u8]) -> Result<(), SessionError> {
        let attachment = Attachment {
            log_time: 0,
            create_time: 0,
            name: name.into(),
            media_type: media_type.into(),
            data: data.into(),
        };
        self.bytes += data.len() as u64;
        self.writer.attach(&attachment).map_err(|cause| SessionError::mcap(&self.path, cause))
    }

    /// Writes one message of a topic, with its time on `CLOCK_MONOTONIC`, ns.
    ///
    /// # Errors
    /// As [`SessionWriter::write_frame`].
    pub fn write_message(&mut self, topic: Topic, t_ns: u64, data: &[u8]) -> Result<(), SessionError> {
        let time = u64::try_from(i128::from(t_ns) + self.offset_ns).unwrap_or(t_ns);
        let sequence = self.counts[topic as usize];
        let header =
            MessageHeader { channel_id: self.channels[topic as usize], sequence, log_time: time, publish_time: time };
        let written = self.writer.write_to_known_channel(&header, data);
        written.map_err(|cause| SessionError::mcap(&self.path, cause))?;
        self.counts[topic as usize] = sequence.wrapping_add(1);
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Hands everything so far to the system: from then on it survives the end of this process.
    ///
    /// # Errors
    /// As [`SessionWriter::write_frame`].
    pub fn flush(&mut self) -> Result<(), SessionError> {
        self.writer.flush().map_err(|cause| SessionError::mcap(&self.path, cause))
    }

    /// Leaves the file as it is, because it can no longer be written.
    pub fn abandon(self) {
        // Skips the writer's own ending, which would try to write again.
        drop(self.writer.into_inner());
    }

    /// Finishes the file; `about` becomes the metadata at its end.
    ///
    /// # Errors
    /// As [`SessionWriter::write_frame`].
    pub fn finish(mut self, about: BTreeMap<String, String>) -> Result<(), SessionError> {
        let failed = |path: &Path, cause| SessionError::mcap(path, cause);
        let written = self.writer.write_metadata(&Metadata { name: END.into(), metadata: about });
        written.map_err(|cause| failed(&self.path, cause))?;
        self.writer.finish().map_err(|cause| failed(&self.path, cause))?;
        let mut file = self.writer.into_inner().into_inner();
        let synced = file.flush().and_then(|()| file.get_ref().sync());
        synced.map_err(|cause| SessionError::file(&self.path, cause))
    }
}

fn attachment<'a>(name: &str, media_type: &str, data: &'a [u8]) -> Attachment<'a> {
    Attachment { log_time: 0, create_time: 0, name: name.into(), media_type: media_type.into(), data: data.into() }
}

/// A free name: `<rig>_<UTC>.mcap` in `folder`, with a number when two recordings start in the same second.
pub fn name_of(folder: &Path, rig: &str, unix_s: u64) -> PathBuf {
    let stamp = utc(unix_s);
    let named = |more: String| folder.join(format!("{rig}_{stamp}{more}.{EXTENSION}"));
    let numbered = (2..SAME_SECOND_MAX).map(|n| named(format!("_{n}")));
    std::iter::once(named(String::new()))
        .chain(numbered)
        .find(|path| !path.exists())
        .unwrap_or_else(|| named("_".into()))
}

/// `20261124-093015`.
fn utc(unix_s: u64) -> String {
    let [year, month, day, hour, minute, second] = calendar::utc(unix_s);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// A file whose bytes go to the disk as they are written, not in bursts: left alone, the system keeps written bytes for half a minute and
/// then writes gigabytes at once, beside whatever the machine does just then; whoever ends a recording waits for all of it, and an hour of
/// frames pushes everything else out of memory. Only [`SteadyFile::sync`] waits for the disk.
struct SteadyFile {
    file: File,
    written: u64,
    hinted: u64,
}

impl SteadyFile {
    fn new(file: File) -> Self {
        Self { file, written: 0, hinted: 0 }
    }

    /// Waits until everything is on the disk.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Linux then begins to write what is new, and forgets what the disk has. If it refuses, nothing is lost.
    #[cfg(target_os = "linux")]
    fn hint(&self) {
        let from = self.hinted.saturating_sub(BEHIND_BYTES);
        let length = std::num::NonZeroU64::new(self.written - from);
        let _ = rustix::fs::fadvise(&self.file, from, length, rustix::fs::Advice::DontNeed);
    }

    #[cfg(not(target_os = "linux"))]
    fn hint(&self) {}
}

impl Write for SteadyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.hinted >= STEP_BYTES {
            self.hint();
            self.hinted = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_rig_and_time_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let name = |unix_s| name_of(folder.path(), "rig1", unix_s).file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name(0), "rig1_19700101-000000.mcap");
        assert_eq!(name(951_827_696), "rig1_20000229-123456.mcap");
        assert_eq!(name(1_796_090_415), "rig1_20261201-020015.mcap");
        std::fs::write(folder.path().join(name(0)), b"").unwrap();
        assert_eq!(name(0), "rig1_19700101-000000_2.mcap");
    }
}
