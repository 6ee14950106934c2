//! A file whose bytes go to the disk as they are written, not in bursts.
//!
//! Why it exists: left alone, the system keeps written bytes for half a minute and then writes gigabytes at once, beside whatever the
//! machine does just then; who ends a recording waits for all of it, and an hour of frames pushes everything else out of memory.
//! What it must never do: wait for the disk, which only [`SteadyFile::sync`] does.

use std::fs::File;
use std::io::{self, Write};

/// Bytes between two words to the system.
const STEP_BYTES: u64 = 1 << 20;
/// How far back bytes may still be on their way to the disk when the system is told that nobody will read them.
#[cfg(target_os = "linux")]
const BEHIND_BYTES: u64 = 64 << 20;

/// A file that is written from its beginning to its end.
pub(crate) struct SteadyFile {
    file: File,
    written: u64,
    told: u64,
}

impl SteadyFile {
    pub(crate) fn new(file: File) -> Self {
        Self { file, written: 0, told: 0 }
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Linux then begins to write what is new, and forgets what the disk has. A hint: that it was refused matters to nobody.
    #[cfg(target_os = "linux")]
    fn tell(&self) {
        let from = self.told.saturating_sub(BEHIND_BYTES);
        let length = std::num::NonZeroU64::new(self.written - from);
        let _ = rustix::fs::fadvise(&self.file, from, length, rustix::fs::Advice::DontNeed);
    }

    #[cfg(not(target_os = "linux"))]
    fn tell(&self) {}
}

impl Write for SteadyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.told >= STEP_BYTES {
            self.tell();
            self.told = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
