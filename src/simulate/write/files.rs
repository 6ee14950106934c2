//! Plain files: headerless float32, `.npy`, text; every error names the file.
//!
//! What it must never do: lose an error in a `Drop`; a file is complete only after `finish`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{WriteError, failed};
use crate::sys::npy::header;

/// A file that is being written.
pub(super) struct Output {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self, WriteError> {
        let file = File::create(path).map_err(|e| failed(path, e))?;
        Ok(Self { path: path.into(), file: BufWriter::with_capacity(1 << 18, file) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|e| failed(&self.path, e))
    }

    /// Little-endian float32.
    pub(super) fn write_f32(&mut self, values: impl Iterator<Item = f32>) -> Result<(), WriteError> {
        let mut values = values;
        values.try_for_each(|value| self.file.write_all(&value.to_le_bytes())).map_err(|e| failed(&self.path, e))
    }

    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        self.file.flush().map_err(|e| failed(&self.path, e))
    }
}

/// Frames of a headerless float32 file, one after the other.
pub(super) struct Input {
    path: PathBuf,
    file: BufReader<File>,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Input {
    pub(super) fn open(path: &Path, pixels: usize) -> Result<Self, WriteError> {
        let file = File::open(path).map_err(|e| failed(path, e))?;
        let (bytes, values) = (vec![0; 4 * pixels], vec![0.0; pixels]);
        Ok(Self { path: path.into(), file: BufReader::with_capacity(1 << 18, file), bytes, values })
    }

    pub(super) fn next(&mut self) -> Result<&[f32], WriteError> {
        self.file.read_exact(&mut self.bytes).map_err(|e| failed(&self.path, e))?;
        let words = self.bytes.as_chunks::<4>().0;
        self.values.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_le_bytes(*word));
        Ok(&self.values)
    }
}

/// A matrix of float32, row by row.
pub(super) fn npy_f32(path: &Path, shape: [usize; 2], values: impl Iterator<Item = f32>) -> Result<(), WriteError> {
    let mut file = Output::create(path)?;
    file.write(&header("<f4", &shape.map(|side| side as u64)))?;
    file.write_f32(values)?;
    file.finish()
}

/// A vector of int64.
pub(super) fn npy_i64(path: &Path, values: impl ExactSizeIterator<Item = i64>) -> Result<(), WriteError> {
    let mut file = Output::create(path)?;
    file.write(&header("<i8", &[values.len() as u64]))?;
    for value in values {
        file.write(&value.to_le_bytes())?;
    }
    file.finish()
}

/// A vector of bool.
pub(super) fn npy_bool(path: &Path, values: impl ExactSizeIterator<Item = bool>) -> Result<(), WriteError> {
    let mut file = Output::create(path)?;
    file.write(&header("|b1", &[values.len() as u64]))?;
    for value in values {
        file.write(&[u8::from(value)])?;
    }
    file.finish()
}
