//! Is an open file still where it was?
//!
//! Why it exists: a file whose folder was cleared away takes every byte that is written to it, and then is gone. What it must never
//! do: take a file that was only moved for one that was removed.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How network file systems name a removed file that somebody still has open.
const REMOVED: &str = ".nfs";

/// An open file, under a handle of its own.
pub(super) struct Watched {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// It could not be looked at when it was looked at last.
    doubtful: bool,
}

impl Watched {
    /// Watches `file`, which is at `path`.
    ///
    /// # Errors
    /// When the system gives no handle.
    pub(super) fn of(path: &Path, file: &File) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { file: file.try_clone()?, identity: (found.dev(), found.ino()), doubtful: false })
    }

    /// Looks where it is. `Some`: no longer at `path`, but there.
    ///
    /// # Errors
    /// It was removed.
    pub(super) fn look(&mut self, path: &Path) -> io::Result<Option<PathBuf>> {
        let removed = |how| Err(io::Error::new(io::ErrorKind::NotFound, format!("the file was removed ({how})")));
        if self.file.metadata().is_ok_and(|found| found.nlink() == 0) {
            return removed("it has no name any more");
        }
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => {
                self.doubtful = false;
                return Ok(None);
            }
            // A share that does not answer at this moment has not lost the file.
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        match self.name_now() {
            Some(now) if now == path => Ok(None),
            Some(now) if !is_removed(&now) => Ok(Some(now)),
            Some(_) => removed("its server keeps it only until it is closed"),
            // Without a name to be had, a file is looked for twice before it is given up.
            None if !std::mem::replace(&mut self.doubtful, true) => Ok(None),
            None => removed("there is none of this name"),
        }
    }

    /// The file's present name, where the system tells: Linux.
    fn name_now(&self) -> Option<PathBuf> {
        let link = fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()?;
        fs::metadata(&link).is_ok_and(|found| (found.dev(), found.ino()) == self.identity).then_some(link)
    }
}

fn is_removed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REMOVED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_is_followed_and_one_that_was_removed_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.mcap"), folder.path().join("b.mcap"));
        let file = File::create(&path).unwrap();
        let mut watched = Watched::of(&path, &file).unwrap();
        assert_eq!(watched.look(&path).unwrap(), None);
        fs::rename(&path, &other).unwrap();
        // Another file of the old name is another file.
        File::create(&path).unwrap();
        assert_eq!(watched.look(&path).unwrap(), Some(other.clone()));
        assert_eq!(watched.look(&other).unwrap(), None);
        fs::remove_dir_all(folder.path()).unwrap();
        let gone = watched.look(&other).unwrap_err();
        assert!(gone.kind() == io::ErrorKind::NotFound && gone.to_string().contains("removed"), "{gone}");
    }
}
