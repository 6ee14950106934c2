//! The other processes of a demo: this program as microscope, daemon and page, each with a log of its own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::DemoError;
use crate::config::{FILE_VARIABLE, VARIABLE_PREFIX};
use crate::sys::exit::ExitCode;

/// Sections of the configuration that the environment may set for a demo; whatever else is set there is meant for a rig.
const KEPT: [&str; 2] = ["COMPUTE__", "LOG__"];
/// How long a process may take to end in order before it is killed.
const ENDING: Duration = Duration::from_secs(10);
/// Ctrl-C in a terminal reaches every process of it. A second signal would end the daemon at once, so those are waited for first.
const BY_THEMSELVES: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 20;

/// One process. It does not outlive this value.
pub(super) struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts `haltere` with these arguments, without the user's own configuration; `name` is for people. Its log is written into `folder`.
    ///
    /// # Errors
    /// [`DemoError::Start`].
    pub(super) fn start(name: &'static str, folder: &Path, arguments: &[String]) -> Result<Self, DemoError> {
        let failed = |cause: io::Error| DemoError::Start { name, cause };
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        for (variable, _) in std::env::vars_os() {
            let variable = variable.to_string_lossy();
            let section = variable.strip_prefix(VARIABLE_PREFIX);
            if variable == FILE_VARIABLE || section.is_some_and(|rest| !KEPT.iter().any(|kept| rest.starts_with(kept)))
            {
                command.env_remove(&*variable);
            }
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&log).map_err(failed)?).spawn().map_err(failed)?;
        Ok(Self { name, child, log })
    }

    /// Nothing while it runs.
    ///
    /// # Errors
    /// [`DemoError::Ended`], with its exit code and the end of its log.
    pub(super) fn must_run(&mut self) -> Result<(), DemoError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(cause) => Err(DemoError::Start { name: self.name, cause }),
        }
    }

    /// Asks it to end in order, and waits.
    ///
    /// # Errors
    /// [`DemoError::Ended`] if it had ended before, or ends otherwise than in order.
    pub(super) fn end(&mut self) -> Result<(), DemoError> {
        self.must_run()?;
        self.signal();
        match self.wait(ENDING) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.ended(status)),
            None => Err(DemoError::Hangs { name: self.name, seconds: ENDING.as_secs(), log: self.log() }),
        }
    }

    /// After a signal to this program: ends it, however it ends.
    pub(super) fn end_with_us(&mut self) {
        if self.wait(BY_THEMSELVES).is_none() {
            self.signal();
            self.wait(ENDING);
        }
    }

    fn signal(&self) {
        // Refused only for a process that has ended.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    fn wait(&mut self, longest: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + longest;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
                _ => return None,
            }
        }
    }

    fn ended(&self, status: ExitStatus) -> DemoError {
        let code = status.code().and_then(ExitCode::of).filter(|code| *code != ExitCode::Ok).unwrap_or(ExitCode::Other);
        DemoError::Ended { name: self.name, status, code, log: self.log() }
    }

    /// The last lines of its log.
    pub(super) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
