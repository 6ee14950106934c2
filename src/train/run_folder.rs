//! `runs/<name>/`: everything that belongs to one run, in plain files.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.toml` | the effective configuration |
//! | `provenance.json` | program, revision, data's hash, seed, command, machine ([`Provenance`]) |
//! | `metrics.csv` | one row per report, units in the header ([`Metrics`]) |
//! | `tensorboard/` | the same scalars as TensorBoard reads them |
//! | `checkpoints/{best,last}/` | put in place by [`replace_folder`](crate::sys::replace_folder::replace_folder) |
//! | `report.json`, `report.html` | [`ReportData`] and what people read |
//! | `MODEL_CARD.md` | the model card |
//!
//! Why it exists: a run can be found, resumed and understood from its folder alone. What it must never do: overwrite a run
//! unasked, or delete a folder that is not a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::metrics_log::{Column, Metrics, MetricsError};
use crate::frame::Name;
use crate::report::data::ReportData;
use crate::report::html;
use crate::report::provenance::{Provenance, Resumption};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, intended_name, read_text_bounded, write_whole};
use crate::sys::replace_folder;

/// Settings and provenance of a run.
const OWN_TEXT: Bound = Bound::new("a text file of a run folder", 64 << 20);
/// What a run's folder may contain, including that of a run killed while it was started or deleted.
const CONTENT: [&str; 8] = [
    "config.toml",
    "provenance.json",
    "metrics.csv",
    "tensorboard",
    "checkpoints",
    "report.json",
    "report.html",
    "MODEL_CARD.md",
];

/// What to do when the folder exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Refuse (an empty folder is used).
    New,
    /// Delete the old run first (`--force`).
    Replace,
    /// Continue in it (`--resume`).
    Resume,
}

/// Which of a run's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// The best on held-out data.
    Best,
    /// The newest.
    Last,
}

/// A run folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The name would leave the folder of runs, or is no valid folder name.
    #[error("run name `{name}` {cause}; a name must not begin with a dot")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The folder holds another run.
    #[error("{} exists: choose another --name, --resume it, or overwrite it with --force", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// `--force` on something that is not a run.
    #[error("{}: `{found}` does not belong to a run, so the folder is not overwritten: choose another --name", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// An entry that does not belong to a run.
        found: String,
    },
    /// `--resume` without a run.
    #[error("{}: no run to resume; leave out --resume to start one", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: {cause}; choose another folder with --runs, or make room there", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file or folder of the run cannot be read.
    #[error("{}: cannot be read: {cause}; check that it exists and may be read", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file of the run is damaged.
    #[error("{}: {cause}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

impl HasExitCode for RunFolderError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Name { .. } => ExitCode::Usage,
            Self::Io { .. } | Self::Read { .. } => ExitCode::Sink,
            Self::Exists { .. } | Self::NotARun { .. } | Self::Missing { .. } | Self::Content { .. } => ExitCode::Other,
        }
    }
}

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Opens `root/name`, creating it if necessary.
    ///
    /// # Errors
    /// [`RunFolderError`]: why not, and what to do.
    pub fn create(root: &Path, name: &str, opening: Opening) -> Result<Self, RunFolderError> {
        check_name(name)?;
        let folder = Self { path: root.join(name) };
        let is_run = folder.provenance_path().exists();
        let empty = fs::read_dir(&folder.path).is_ok_and(|mut entries| entries.next().is_none());
        match opening {
            Opening::Resume if !is_run => return Err(RunFolderError::Missing { path: folder.path }),
            Opening::New if folder.path.exists() && !empty => return Err(RunFolderError::Exists { path: folder.path }),
            Opening::Replace if folder.path.exists() && !empty => {
                if let Some(found) = foreign(&folder.path).map_err(read_error(&folder.path))? {
                    return Err(RunFolderError::NotARun { path: folder.path, found });
                }
                fs::remove_dir_all(&folder.path).map_err(io_error(&folder.path))?;
            }
            _ => {}
        }
        for path in [folder.path.join("checkpoints"), folder.path.join("tensorboard")] {
            fs::create_dir_all(&path).map_err(io_error(&path))?;
        }
        Ok(folder)
    }

    /// An existing run, to read from.
    ///
    /// # Errors
    /// [`RunFolderError::Missing`] when there is none.
    pub fn existing(path: &Path) -> Result<Self, RunFolderError> {
        let folder = Self { path: path.into() };
        if folder.provenance_path().exists() { Ok(folder) } else { Err(RunFolderError::Missing { path: path.into() }) }
    }

    /// `runs/<name>`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a checkpoint is written, by [`replace_folder`](crate::sys::replace_folder::replace_folder).
    pub fn checkpoint(&self, which: Checkpoint) -> PathBuf {
        self.path.join("checkpoints").join(if which == Checkpoint::Best { "best" } else { "last" })
    }

    /// Where the newest whole checkpoint can be read, also after a kill while it was replaced.
    pub fn newest_checkpoint(&self, which: Checkpoint) -> Option<PathBuf> {
        replace_folder::newest_whole(&self.checkpoint(which))
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// [`RunFolderError::Content`] when TOML cannot hold the value; [`RunFolderError::Io`].
    pub fn write_config(&self, config: &impl Serialize) -> Result<(), RunFolderError> {
        let path = self.config_path();
        let text = toml::to_string_pretty(config)
            .map_err(|e| RunFolderError::Content { path: path.clone(), cause: e.to_string() })?;
        self.write_config_text(&text)
    }

    /// Writes `config.toml` from its text.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn write_config_text(&self, text: &str) -> Result<(), RunFolderError> {
        self.write("config.toml", text.as_bytes())
    }

    /// The text of `config.toml`, to compare with the settings of a resumed run.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn config_text(&self) -> Result<String, RunFolderError> {
        let path = self.config_path();
        read_text_bounded(&path, OWN_TEXT).map_err(|error| read_error(&path)(error.cause))
    }

    /// Writes `provenance.json`.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn write_provenance(&self, provenance: &Provenance) -> Result<(), RunFolderError> {
        let path = self.provenance_path();
        let text = serde_json::to_string_pretty(provenance)
            .map_err(|e| RunFolderError::Content { path: path.clone(), cause: e.to_string() })?;
        self.write("provenance.json", (text + "\n").as_bytes())
    }

    /// Reads `provenance.json`.
    ///
    /// # Errors
    /// [`RunFolderError::Io`]; [`RunFolderError::Content`] when it is not what [`Self::write_provenance`] writes.
    pub fn provenance(&self) -> Result<Provenance, RunFolderError> {
        let path = self.provenance_path();
        let text = read_text_bounded(&path, OWN_TEXT).map_err(|error| read_error(&path)(error.cause))?;
        serde_json::from_str(&text).map_err(|e| RunFolderError::Content { path, cause: e.to_string() })
    }

    /// Adds this process to the run's provenance: it continues after `after_step`.
    ///
    /// # Errors
    /// As [`Self::provenance`] and [`Self::write_provenance`].
    pub fn note_resumption(&self, after_step: u64) -> Result<(), RunFolderError> {
        let mut provenance = self.provenance()?;
        provenance.resumed.push(Resumption::now(after_step));
        self.write_provenance(&provenance)
    }

    /// Opens `metrics.csv` and an event file; see [`Metrics::open`].
    ///
    /// # Errors
    /// As [`Metrics::open`].
    pub fn metrics(&self, columns: &[Column], after_step: Option<u64>) -> Result<Metrics, MetricsError> {
        Metrics::open(&self.path, columns, after_step)
    }

    /// Writes `report.json` and `report.html`; returns the path of the latter.
    ///
    /// # Errors
    /// [`RunFolderError::Io`]; [`RunFolderError::Content`] when JSON cannot hold the data.
    pub fn write_report(&self, report: &ReportData) -> Result<PathBuf, RunFolderError> {
        let json = report.to_json().map_err(|e| {
            let cause = e.to_string();
            RunFolderError::Content { path: self.path.join("report.json"), cause }
        })?;
        self.write("report.json", json.as_bytes())?;
        self.write("report.html", html::render(report).as_bytes())?;
        Ok(self.path.join("report.html"))
    }

    /// Writes a file of the run, whole or not at all. `--force` refuses a folder with names that are not in this module's table.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn write(&self, file: &str, bytes: &[u8]) -> Result<(), RunFolderError> {
        let path = self.path.join(file);
        write_whole(&path, bytes).map_err(|error| io_error(&path)(error.cause))
    }

    fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    fn provenance_path(&self) -> PathBuf {
        self.path.join("provenance.json")
    }
}

/// The name of an entry that does not belong to a run.
fn foreign(folder: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Earlier versions wrote `<name>.new`.
        if !CONTENT.contains(&intended_name(&name).trim_end_matches(".new")) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn check_name(name: &str) -> Result<(), RunFolderError> {
    let wrong = |cause: String| RunFolderError::Name { name: name.into(), cause };
    Name::from_str(name).map_err(|e| wrong(e.to_string()))?;
    if name.starts_with('.') { Err(wrong("begins with a dot".into())) } else { Ok(()) }
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> RunFolderError {
    move |cause| RunFolderError::Read { path: path.into(), cause }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RunFolderError {
    move |cause| RunFolderError::Io { path: path.into(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;
    use crate::sys::replace_folder::replace_folder;

    #[derive(Serialize)]
    struct Config {
        method: &'static str,
        temperature: f64,
    }

    fn started(root: &Path) -> RunFolder {
        let run = RunFolder::create(root, "first", Opening::New).unwrap();
        run.write_config(&Config { method: "haltere", temperature: 0.1 }).unwrap();
        run.write_provenance(&Provenance::now("ab12", 7)).unwrap();
        run
    }

    #[test]
    fn a_run_is_written_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let run = started(root.path());
        assert_eq!(run.config_text().unwrap(), "method = \"haltere\"\ntemperature = 0.1\n");
        let provenance = run.provenance().unwrap();
        assert_eq!((provenance.seed, provenance.data_sha256.as_str()), (7, "ab12"));
        assert!(!provenance.command_line.is_empty() && provenance.host_cores > 0);
        run.note_resumption(120).unwrap();
        assert_eq!(run.provenance().unwrap().resumed[0].after_step, 120);
        let report = run.write_report(&example::report()).unwrap();
        assert!(report.ends_with("first/report.html") && report.exists());
        let json = fs::read_to_string(run.path().join("report.json")).unwrap();
        assert_eq!(ReportData::from_json(&json).unwrap().title, example::report().title);
    }

    #[test]
    fn an_existing_run_is_refused_replaced_or_resumed_as_it_was_said() {
        let root = tempfile::tempdir().unwrap();
        let run = started(root.path());
        replace_folder(&run.checkpoint(Checkpoint::Last), |folder| fs::write(folder.join("w"), "1")).unwrap();
        let refused = RunFolder::create(root.path(), "first", Opening::New).unwrap_err().to_string();
        assert!(refused.contains("--resume") && refused.contains("--force"), "{refused}");
        let resumed = RunFolder::create(root.path(), "first", Opening::Resume).unwrap();
        assert!(resumed.newest_checkpoint(Checkpoint::Last).unwrap().join("w").exists());
        let replaced = RunFolder::create(root.path(), "first", Opening::Replace).unwrap();
        assert_eq!(replaced.newest_checkpoint(Checkpoint::Last), None);
        assert!(!replaced.provenance_path().exists());
    }

    #[test]
    fn what_is_no_run_is_neither_overwritten_nor_resumed() {
        let root = tempfile::tempdir().unwrap();
        let thesis = root.path().join("thesis");
        fs::create_dir(&thesis).unwrap();
        fs::write(thesis.join("chapter-1.tex"), "years of work").unwrap();
        let error = RunFolder::create(root.path(), "thesis", Opening::Replace).unwrap_err().to_string();
        assert!(error.contains("chapter-1.tex"), "{error}");
        RunFolder::create(root.path(), "thesis", Opening::Resume).unwrap_err();
        assert!(thesis.join("chapter-1.tex").exists());
    }

    #[test]
    fn a_run_that_was_killed_while_it_began_can_be_replaced() {
        let root = tempfile::tempdir().unwrap();
        let begun = RunFolder::create(root.path(), "first", Opening::New).unwrap();
        fs::write(begun.path().join("config.toml.partial12.0"), "metho").unwrap();
        fs::write(begun.path().join("config.toml.new"), "metho").unwrap();
        RunFolder::create(root.path(), "first", Opening::New).unwrap_err();
        RunFolder::create(root.path(), "first", Opening::Replace).unwrap();
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "../x", "a/b", "/tmp", ".hidden", "with space"] {
            let error = RunFolder::create(root.path(), name, Opening::New).unwrap_err();
            assert!(matches!(error, RunFolderError::Name { .. }), "{name}: {error}");
        }
    }
}
