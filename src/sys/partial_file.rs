//! A file that gets its name when it is whole.
//!
//! Why it exists: what `embed` and `export` write may be read by the next program the moment it is there. What it must never do:
//! leave half a file under the name of a whole one, or fail without naming the file.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::publish::SinkError;

/// Rows go to `<path>.part`; [`Part::rename`] gives the file its name.
pub struct Part {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Part {
    /// Opens `<path>.part`.
    ///
    /// # Errors
    /// When it cannot be created; the message names it.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        let mut part = path.as_os_str().to_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|e| sink_error(&part, &e))?;
        Ok(Self { path: path.to_path_buf(), part, file: BufWriter::with_capacity(64 << 10, file) })
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error of a failed write, in words that name the file.
    pub fn error(&self, cause: &std::io::Error) -> SinkError {
        sink_error(&self.part, cause)
    }

    /// Appends.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.file.write_all(bytes).map_err(|e| sink_error(&self.part, &e))
    }

    /// Hands everything so far to the system.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn hand_on(&mut self) -> Result<(), SinkError> {
        self.file.flush().map_err(|e| sink_error(&self.part, &e))
    }

    /// Writes over the first bytes and goes back to the end.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn overwrite_start(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let mut overwrite = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(bytes)?;
            self.file.seek(SeekFrom::End(0)).map(|_| ())
        };
        overwrite().map_err(|e| sink_error(&self.part, &e))
    }

    /// The file is whole: it gets its name.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn rename(&mut self) -> Result<(), SinkError> {
        self.hand_on()?;
        self.file.get_ref().sync_all().map_err(|e| sink_error(&self.part, &e))?;
        std::fs::rename(&self.part, &self.path).map_err(|e| sink_error(&self.path, &e))
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn sink_error(path: &Path, error: &std::io::Error) -> SinkError {
    let cause = format!("cannot be written: {error}; check that the folder exists, may be written to, and has room");
    SinkError { sink: path.display().to_string(), cause }
}
