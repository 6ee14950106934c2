//! The provenance of a run: program, revision, data, seed, command, machine.
//!
//! Why it exists: a number without these cannot be reproduced. What it must never do: fail a run because git is missing.

use serde::{Deserialize, Serialize};

use crate::sys::calendar::unix_s;
use crate::sys::revision::git_revision;

/// `provenance.json` of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// This program's version.
    pub program_version: String,
    /// Commit of the working directory, with `-dirty` when tracked files differ from it; `unknown` outside a checkout.
    pub git_revision: String,
    /// SHA-256 over all the data (the data set's `sha256`).
    pub data_sha256: String,
    /// Seed of everything random.
    pub seed: u64,
    /// The command as it was typed.
    pub command_line: Vec<String>,
    /// Logical cores of the machine.
    pub host_cores: usize,
    /// `linux x86_64`.
    pub host: String,
    /// When the run began, seconds since 1970 UTC.
    pub started_unix_s: f64,
    /// Each time the run was taken up again.
    #[serde(default)]
    pub resumed: Vec<Resumption>,
}

/// A run that was taken up again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumption {
    /// Last step that was kept.
    pub after_step: u64,
    /// This program's version then.
    pub program_version: String,
    /// Commit of the working directory then.
    pub git_revision: String,
    /// The command as it was typed.
    pub command_line: Vec<String>,
    /// When, seconds since 1970 UTC.
    pub at_unix_s: f64,
}

impl Provenance {
    /// Of this process.
    pub fn now(data_sha256: &str, seed: u64) -> Self {
        Self {
            program_version: env!("CARGO_PKG_VERSION").into(),
            git_revision: git_revision(),
            data_sha256: data_sha256.into(),
            seed,
            command_line: command_line(),
            host_cores: std::thread::available_parallelism().map_or(1, usize::from),
            host: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started_unix_s: unix_s(),
            resumed: Vec::new(),
        }
    }
}

impl Resumption {
    /// By this process.
    pub fn now(after_step: u64) -> Self {
        Self {
            after_step,
            program_version: env!("CARGO_PKG_VERSION").into(),
            git_revision: git_revision(),
            command_line: command_line(),
            at_unix_s: unix_s(),
        }
    }
}

fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}
