//! Puts a whole folder in the place of an older one, so that a kill at any time loses neither.
//!
//! Why it exists: a checkpoint is several files that belong together, and a folder cannot be renamed over another. What it must
//! never do: delete the old folder before the new one is complete and on the disk.
//!
//! With `best` as the target, the steps and what is whole after each of them:
//!
//! | step | `best` | `best.new` | `best.old` |
//! |---|---|---|---|
//! | 1. write `best.new`, flush it to the disk | old | growing | – |
//! | 2. rename `best` to `best.old` | – | **new** | old |
//! | 3. rename `best.new` to `best` | **new** | – | old |
//! | 4. delete `best.old` | **new** | – | vanishing |
//!
//! So `best`, where it exists, is the newest whole folder. Where it does not, but `best.old` does, step 3 is what is missing:
//! `best.new` is whole and newer. `best.new` alone was never finished. [`newest_whole`] reads by this rule; [`replace_folder`]
//! first finishes what a killed predecessor began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::exit::{ExitCode, HasExitCode};
use super::files::{flush, rename};

/// A folder that could not be replaced. The old one is still whole.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {cause}; the previous content is intact", path.display())]
pub struct ReplaceError {
    /// Which file or folder.
    pub path: PathBuf,
    /// What was tried.
    pub action: &'static str,
    /// Why it failed.
    pub cause: io::Error,
}

impl HasExitCode for ReplaceError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Sink
    }
}

/// Writes a folder beside `target` by `write`, then puts it in `target`'s place.
///
/// # Errors
/// [`ReplaceError`] when `write` or the file system fails (disk full, say); `target`, or [`newest_whole`], is then what it was before.
pub fn replace_folder(target: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), ReplaceError> {
    let (new, old) = (beside(target, "new"), beside(target, "old"));
    finish_predecessor(target)?;
    remove(&new)?;
    fs::create_dir_all(&new).map_err(failed(&new, "create the folder"))?;
    if let Err(cause) = write(&new).and_then(|()| flush(&new)) {
        // The message of the first failure counts; what cannot be removed now is removed by the next call.
        let _ = fs::remove_dir_all(&new);
        return Err(ReplaceError { path: new, action: "write the folder", cause });
    }
    if target.exists() {
        // Flushed together with the next renaming; until then [`newest_whole`] finds either.
        fs::rename(target, &old).map_err(failed(target, "rename the old folder"))?;
    }
    rename(&new, target).map_err(failed(&new, "rename the new folder"))?;
    remove(&old)
}

/// Where the newest whole folder is that [`replace_folder`] was ever asked to put at `target`; `None` when none was finished.
/// Changes nothing on the disk.
pub fn newest_whole(target: &Path) -> Option<PathBuf> {
    let (new, old) = (beside(target, "new"), beside(target, "old"));
    match (target.exists(), old.exists(), new.exists()) {
        (true, _, _) => Some(target.into()),
        (false, true, true) => Some(new),
        (false, true, false) => Some(old),
        (false, false, _) => None,
    }
}

/// Renames what [`newest_whole`] finds to `target`, and removes what is older.
fn finish_predecessor(target: &Path) -> Result<(), ReplaceError> {
    match newest_whole(target) {
        Some(found) if found != target => {
            rename(&found, target).map_err(failed(&found, "rename the folder"))?;
        }
        _ => {}
    }
    remove(&beside(target, "old"))
}

/// `best` → `best.new`.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    target.with_file_name(name)
}

fn remove(folder: &Path) -> Result<(), ReplaceError> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed(folder, "remove the folder")(cause)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ReplaceError {
    move |cause| ReplaceError { path: path.into(), action, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder is whole when its two files say the same.
    fn write_pair(folder: &Path, text: &str) -> io::Result<()> {
        fs::write(folder.join("weights"), text)?;
        fs::create_dir_all(folder.join("more"))?;
        fs::write(folder.join("more/optimizer"), text)
    }

    fn whole(folder: &Path) -> Option<String> {
        let weights = fs::read_to_string(folder.join("weights")).ok()?;
        let optimizer = fs::read_to_string(folder.join("more/optimizer")).ok()?;
        (weights == optimizer).then_some(weights)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_takes_the_place_of_the_older_one_and_nothing_stays_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("best");
        assert_eq!(newest_whole(&target), None);
        for text in ["first", "second", "third"] {
            replace_folder(&target, |folder| write_pair(folder, text)).unwrap();
            assert_eq!(whole(&target).unwrap(), text);
            assert_eq!(names(root.path()), ["best"]);
        }
    }

    #[test]
    fn a_failure_in_the_middle_of_writing_leaves_the_old_folder_whole() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("best");
        replace_folder(&target, |folder| write_pair(folder, "old")).unwrap();
        let error = replace_folder(&target, |folder| {
            fs::write(folder.join("weights"), "new")?;
            Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
        })
        .unwrap_err();
        assert!(error.to_string().contains("no space left on device"), "{error}");
        assert_eq!(whole(&newest_whole(&target).unwrap()).unwrap(), "old");
        assert_eq!(names(root.path()), ["best"]);
    }

    /// Makes the state that a kill leaves after each step of the table, reads it, and goes on from it.
    #[test]
    fn after_a_kill_at_any_step_the_newest_whole_folder_is_found_and_the_next_write_succeeds() {
        type State = &'static [(&'static str, &'static str)];
        const TORN: &str = "torn";
        let states: &[(State, Option<&str>)] = &[
            (&[("best.new", TORN)], None),
            (&[("best", "1"), ("best.new", TORN)], Some("1")),
            (&[("best", "1"), ("best.new", "2")], Some("1")),
            (&[("best.new", "2"), ("best.old", "1")], Some("2")),
            (&[("best", "2"), ("best.old", "1")], Some("2")),
            (&[("best", "2"), ("best.old", TORN)], Some("2")),
            // Killed while it tidied up after such a kill.
            (&[("best.old", "1")], Some("1")),
        ];
        for (state, expected) in states {
            let root = tempfile::tempdir().unwrap();
            let target = root.path().join("best");
            for (name, text) in *state {
                let folder = root.path().join(name);
                fs::create_dir(&folder).unwrap();
                if *text == TORN {
                    fs::write(folder.join("weights"), "half").unwrap();
                } else {
                    write_pair(&folder, text).unwrap();
                }
            }
            let found = newest_whole(&target).map(|folder| whole(&folder).unwrap());
            assert_eq!(found.as_deref(), *expected, "{state:?}");
            // A failed write after the kill must not lose it either.
            replace_folder(&target, |_| Err(io::Error::other("disk full"))).unwrap_err();
            let found = newest_whole(&target).map(|folder| whole(&folder).unwrap());
            assert_eq!(found.as_deref(), *expected, "{state:?}, after a failed write");
            replace_folder(&target, |folder| write_pair(folder, "3")).unwrap();
            assert_eq!(whole(&target).unwrap(), "3", "{state:?}");
            assert_eq!(names(root.path()), ["best"], "{state:?}");
        }
    }
}
