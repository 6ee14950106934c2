//! NumPy's `.npy`, and how to recognise a pickle.
//!
//! Why it exists: files of the field come as float32 or float64, as any integer, as bool, as text, and one does not know
//! before looking. What it must never do: run a pickle; an array of Python objects is refused.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::DatasetError;
use super::whole::bytes_of;
pub use crate::sys::npy_read::{Array, Header};

/// Longest header read, bytes.
const HEADER_BYTES_MAX: usize = 1 << 16;

impl Header {
    /// Reads the head of `path`; `None` when it is no `.npy`.
    pub fn read(path: &Path) -> Result<Option<Self>, DatasetError> {
        let failed = |e: std::io::Error| DatasetError::file(path, e);
        let mut bytes = Vec::new();
        File::open(path).map_err(failed)?.take(HEADER_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
        Self::of(&bytes).map_err(|cause| DatasetError::file(path, cause))
    }
}

impl Array {
    /// Reads the whole of `path`; `None` when it is no `.npy`.
    pub fn read(path: &Path) -> Result<Option<Self>, DatasetError> {
        // The head first: another file may be larger than an array may be.
        if Header::read(path)?.is_none() {
            return Ok(None);
        }
        Self::of(bytes_of(path)?).map_err(|cause| DatasetError::file(path, cause))
    }
}

/// Is it a pickle? One begins with its protocol (or, very old, with an opening word) and ends with a full stop; the number
/// that a memory map ends with practically never does.
pub fn is_pickle(path: &Path) -> Result<bool, DatasetError> {
    let bytes = ends(path).map_err(|e| DatasetError::file(path, e))?;
    let Some((head, last)) = bytes else { return Ok(false) };
    let modern = head[0] == 0x80 && (2..=5).contains(&head[1]);
    let named = head[0] == b'c' && (head[1].is_ascii_lowercase() || head[1] == b'_');
    let old = named || [*b"(l", *b"(d", *b"}q", *b"]q"].contains(&head);
    Ok(last == b'.' && (modern || old))
}

/// Does it begin as a pickle of arrays does, whole or cut off? Protocols 4 and 5 begin with a frame, whose length is below a
/// terabyte; the others with a dictionary, a list or a name.
pub fn begins_as_pickle(path: &Path) -> Result<bool, DatasetError> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 12];
    let file = File::open(path).map_err(|e| DatasetError::file(path, e))?;
    if file.read_exact_at(&mut head, 0).is_err() {
        return is_pickle(path);
    }
    let framed = head[0] == 0x80 && matches!(head[1], 4 | 5) && head[2] == 0x95 && head[8..11] == [0; 3];
    let bare =
        [&b"}q\0"[..], b"(dp0\n", b"(lp0\n", b"cnumpy", b"ccollection"].iter().any(|begin| head.starts_with(begin));
    let unframed = head[0] == 0x80 && matches!(head[1], 2 | 3) && matches!(&head[2..4], b"}q" | b"cn" | b"cc" | b"]q");
    Ok(framed || bare || unframed || is_pickle(path)?)
}

/// The first two bytes and the last.
fn ends(path: &Path) -> std::io::Result<Option<([u8; 2], u8)>> {
    use std::os::unix::fs::FileExt;
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length < 3 {
        return Ok(None);
    }
    let (mut head, mut last) = ([0; 2], [0; 1]);
    file.read_exact_at(&mut head, 0)?;
    file.read_exact_at(&mut last, length - 1)?;
    Ok(Some((head, last[0])))
}

/// Files that begin with these bytes (from that place on) are no numbers in memory, with the way out.
const FOREIGN: [(usize, &[u8], &str); 13] = [
    (0, b"PK\x03\x04", "an Excel workbook or a zip (.xlsx, .npz): save the sheet as CSV, or the array with np.save"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls): save the sheet as CSV"),
    (
        0,
        b"MATLAB 5.0",
        "a MATLAB file: write a CSV (writematrix with a header), or save the array with scipy.io and np.save",
    ),
    (0, b"PAR1", "a Parquet file: write a CSV"),
    (0, b"ARROW1", "a Feather file: write a CSV"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
    (0, b"BZh", "a bzip2 archive: unpack it"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive: unpack it"),
    (0, b"RIFF", "a movie or a sound (AVI, WAV)"),
    (4, b"ftyp", "a movie (MP4)"),
    (0, b"\x89PNG", "a picture"),
    (0, b"II*\0", "a TIFF"),
    (0, b"SQLite format 3", "a database (SQLite): write a CSV"),
];

/// Refuses what another program wrote in a format of its own: it would pass as numbers in memory, of any meaning.
pub fn refuse_foreign(path: &Path) -> Result<(), DatasetError> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    read.map_err(|e| DatasetError::file(path, e))?;
    let begins = |(at, magic, _): &&(usize, &[u8], &str)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((.., what)) = FOREIGN.iter().find(begins) {
        return Err(DatasetError::file(path, format!("is no array of numbers but {what}")));
    }
    if !is_pickle(path)? {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Err(DatasetError::Pickle { path: path.into(), name, stem })
}
