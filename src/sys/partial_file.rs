//! A file that gets its name when it is whole.
//!
//! Why it exists: what `embed` and `export` write may be read by the next program as soon as it exists. What it must never do:
//! leave half a file under the name of a whole one, or fail without naming the file.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::files::{FileError, put_in_place};

/// Rows go to `<path>.part`; [`PartialFile::rename`] gives the file its name.
pub struct PartialFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl PartialFile {
    /// Opens `<path>.part`.
    ///
    /// # Errors
    /// When it cannot be created; the message names it.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let mut part = path.as_os_str().to_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|cause| FileError::write(&part, cause))?;
        Ok(Self { path: path.to_path_buf(), part, file: BufWriter::with_capacity(64 << 10, file) })
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error of a failed write, which names the file.
    pub fn error(&self, cause: io::Error) -> FileError {
        FileError::write(&self.part, cause)
    }

    /// Appends.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(|cause| self.error(cause))
    }

    /// Hands everything so far to the system.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn hand_on(&mut self) -> Result<(), FileError> {
        self.file.flush().map_err(|cause| self.error(cause))
    }

    /// Writes over the first bytes and goes back to the end.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn overwrite_start(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let mut overwrite = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(bytes)?;
            self.file.seek(SeekFrom::End(0)).map(drop)
        };
        overwrite().map_err(|cause| self.error(cause))
    }

    /// The file is whole: it gets its name.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn rename(&mut self) -> Result<(), FileError> {
        self.hand_on()?;
        put_in_place(&self.part, &self.path).map_err(|cause| FileError::write(&self.path, cause))
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
