//! Prepared frames on disk, by the content they were made from.
//!
//! Why it exists: preprocessing a night of recordings takes as long as looking at it did; it is done once for the same content
//! and the same parameters. What it must never do: give a file its name before it is whole, trust one whose size is wrong, or
//! write anywhere but in its own folder.
//!
//! `<key>.frames` holds the model frames (little-endian float32), `<key>.json` what is known of each. `hashes.json` remembers the
//! SHA-256 of large files by path, size and time of change, so that gigabytes are not hashed again at every start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::DatasetError;
use super::trials::FrameStore;
use super::warning::DataWarning;
use crate::sys::files::{Bound, hex, put_in_place, read_text_bounded, sha256_of, try_writing, unfinished, write_whole};

/// Notes about frames that were made, and about files that were hashed.
const NOTES: Bound = Bound::new("a note of the cache", 1 << 30);

/// Name of the folder.
const FOLDER: &str = ".haltere-cache";
/// Layout of the files here, and the state of the program's preprocessing: another one makes another key.
const FORMAT: &str = concat!("haltere cache 3, ", env!("CARGO_PKG_VERSION"));
/// A file changed so recently may change again within the resolution of its time stamp; its hash is not remembered.
const SETTLED: Duration = Duration::from_secs(2);

/// What is known of the model frames of a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Values of a model frame.
    pub pixels: usize,
    /// For each model frame the last two-photon frame that went into it.
    pub last_frame: Vec<u32>,
    /// For each model frame: preprocessing was warm and no pixel of it was damaged.
    pub usable: Vec<bool>,
    /// Model frames before preprocessing was warm.
    pub warmup: usize,
    /// Model frames with NaN or infinite pixels.
    pub non_finite: usize,
    /// Two-photon frames whose shift was at the bound.
    pub at_bound: usize,
    /// Of a session: two-photon frames before which everything was reset.
    pub resets: Vec<u32>,
    /// Two-photon frames with which a window begins anew: after a pause, or the first of a series.
    pub restarts: Vec<u32>,
    /// Two-photon frames that are not believed: they are in no model frame.
    pub distrusted: Vec<u32>,
    /// Of a session: two-photon frames that preprocessing refuses, as it did live.
    pub refused: usize,
}

/// Size and time of change of a file, and what its content hashed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hashed {
    bytes: u64,
    changed_ns: u64,
    sha256: String,
}

/// The cache folder.
pub(super) struct Cache {
    folder: PathBuf,
    hashes: Mutex<BTreeMap<String, Hashed>>,
}

impl Cache {
    /// The folder that was named; else one beside the data, or, when that cannot be written, in the working directory.
    pub fn open(home: &Path, named: Option<&Path>) -> Result<(Self, Option<DataWarning>), DatasetError> {
        if let Some(folder) = named {
            return Self::at(folder).map(|cache| (cache, None));
        }
        let wanted = home.join(FOLDER);
        match Self::at(&wanted) {
            Ok(cache) => Ok((cache, None)),
            Err(DatasetError::Cache { cause, .. }) => {
                let used = PathBuf::from(FOLDER);
                Self::at(&used).map(|cache| (cache, Some(DataWarning::CacheElsewhere { wanted, cause, used })))
            }
            Err(other) => Err(other),
        }
    }

    fn at(folder: &Path) -> Result<Self, DatasetError> {
        let failed = |e: std::io::Error| DatasetError::Cache { folder: folder.into(), cause: e.to_string() };
        std::fs::create_dir_all(folder).map_err(failed)?;
        try_writing(folder).map_err(failed)?;
        let text = read_text_bounded(&folder.join("hashes.json"), NOTES).unwrap_or_default();
        // A damaged index costs time, nothing else.
        let hashes = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { folder: folder.into(), hashes: Mutex::new(hashes) })
    }

    /// SHA-256 of a file's content, remembered while size and time of change stay.
    pub fn sha256(&self, path: &Path) -> Result<String, DatasetError> {
        let failed = |e: std::io::Error| DatasetError::file(path, e);
        let meta = std::fs::metadata(path).map_err(failed)?;
        let changed = meta.modified().map_err(failed)?;
        let changed_ns = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let name = path.canonicalize().map_err(failed)?.display().to_string();
        let lock = || self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&name).filter(|k| (k.bytes, k.changed_ns) == (meta.len(), changed_ns)) {
            return Ok(known.sha256.clone());
        }
        let sha256 = sha256_of(path).map_err(|e| failed(e.cause))?;
        if SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED) {
            lock().insert(name, Hashed { bytes: meta.len(), changed_ns, sha256: sha256.clone() });
        }
        Ok(sha256)
    }

    /// Writes down which files were hashed; failing to costs time, nothing else.
    pub fn remember(&self) {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(text) = serde_json::to_vec(&*hashes) {
            let _ = write_whole(&self.folder.join("hashes.json"), &text);
        }
    }

    /// The key of frames made from `parts`: content, parameters, shapes, rates.
    pub fn key(parts: &[String]) -> String {
        let mut hash = Sha256::new();
        for part in std::iter::once(FORMAT).chain(parts.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hex(&hash.finalize())
    }

    /// Frames that were made before, if they are whole.
    pub fn find(&self, key: &str, pixels: usize) -> Option<(FrameStore, Notes)> {
        let text = read_text_bounded(&self.path(key, "json"), NOTES).ok()?;
        let notes: Notes = serde_json::from_str(&text).ok()?;
        let store = FrameStore::open(&self.path(key, "frames"), pixels).ok()?;
        let whole =
            notes.pixels == pixels && notes.usable.len() == store.len() && notes.last_frame.len() == store.len();
        whole.then_some((store, notes))
    }

    /// Begins to write frames; `bytes` is what they will take, for messages.
    pub fn write(&self, key: &str, trial: &str, bytes: u64) -> Result<Writer<'_>, DatasetError> {
        let partial = unfinished(&self.path(key, "frames"));
        let file = File::create(&partial).map_err(|e| self.failed(&e, trial, bytes))?;
        Ok(Writer { cache: self, key: key.into(), trial: trial.into(), bytes, partial, file: BufWriter::new(file) })
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{key}.{extension}"))
    }

    pub(super) fn failed(&self, error: &std::io::Error, trial: &str, bytes: u64) -> DatasetError {
        let folder = self.folder.clone();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                DatasetError::DiskFull { folder, trial: trial.into(), mib: bytes.div_ceil(1 << 20) }
            }
            _ => DatasetError::Cache { folder, cause: error.to_string() },
        }
    }
}

/// Frames that have no name yet. Dropped before [`Writer::finish`] it leaves nothing behind.
pub(super) struct Writer<'a> {
    cache: &'a Cache,
    key: String,
    trial: String,
    bytes: u64,
    partial: PathBuf,
    file: BufWriter<File>,
}

impl Writer<'_> {
    /// Appends one model frame.
    pub fn frame(&mut self, values: &[f32]) -> Result<(), DatasetError> {
        let written = if cfg!(target_endian = "little") {
            self.file.write_all(bytemuck::cast_slice(values))
        } else {
            values.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()))
        };
        written.map_err(|e| self.cache.failed(&e, &self.trial, self.bytes))
    }

    /// Gives the frames their name, then writes what is known of them: only with both is an entry whole.
    pub fn finish(mut self, notes: &Notes) -> Result<FrameStore, DatasetError> {
        let path = self.cache.path(&self.key, "frames");
        let failed = |e: &std::io::Error| self.cache.failed(e, &self.trial, self.bytes);
        let whole = self.file.flush().and_then(|()| put_in_place(&self.partial, &path));
        whole.map_err(|e| failed(&e))?;
        let text = serde_json::to_vec(notes).map_err(|e| failed(&e.into()))?;
        write_whole(&self.cache.path(&self.key, "json"), &text).map_err(|e| failed(&e.cause))?;
        FrameStore::open(&path, notes.pixels).map_err(|e| DatasetError::file(&e.path, e.cause))
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // After `finish` there is no such file any more.
        let _ = std::fs::remove_file(&self.partial);
    }
}
