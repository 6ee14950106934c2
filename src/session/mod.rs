//! The file of a recorded session: MCAP, written by the recorder and read by replay, comparison and report.
//!
//! Why it exists: an experiment can be trusted only if it can be run again, so what was decoded, from which pixels, how late and
//! by which model lies in one file that other programs can open as well. What it must never do: know how a session came about or
//! what is done with it; and never take a damaged part for a whole one.
//!
//! | topic | encoding | one message |
//! |---|---|---|
//! | `frames` | `haltere.frame-1` | every frame that the compute thread took: [`layout`], then its pixels |
//! | `requests` | JSON | what was carried out between that frame and the one before; lies just before the frame's message |
//! | `decodes` | JSON | the header as published, and under `decoded` what was decoded: embedding, probabilities, observation |
//! | `events`, `status` | JSON | as published |
//! | `marks` | JSON | words of the experimenter |
//!
//! `log_time` is UTC, ns since 1970, by one offset measured when the recording began; the stamps inside are the machine's own
//! (`CLOCK_MONOTONIC`). Attachments: `model.onnx`, `model.toml`, `config.toml`. Metadata `haltere.session` comes first,
//! `haltere.end` last; a file without the latter was cut off, and everything before the cut is whole, chunk by chunk.

pub mod export;
pub mod recorder;
pub mod rows;
pub mod unpacked;

pub mod layout;
pub mod messages;
mod read;
mod schemas;
mod write;

use std::path::{Path, PathBuf};

use crate::sys::exit::{ExitCode, HasExitCode};

pub use read::{Item, Outline, Reader};
pub use write::{SessionWriter, name_of};

/// Extension of a session's file.
pub const EXTENSION: &str = "mcap";
/// Version of the form described here, in `haltere.session`.
pub const FORM: &str = "1";
/// Name of the metadata that a session begins with.
pub const BEGIN: &str = "haltere.session";
/// Name of the metadata that a whole session ends with.
pub const END: &str = "haltere.end";
/// Names of the attachments.
pub const MODEL_ONNX: &str = "model.onnx";
/// The manifest.
pub const MODEL_TOML: &str = "model.toml";
/// The effective configuration.
pub const CONFIG_TOML: &str = "config.toml";

/// What a channel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Frames with their pixels.
    Frames,
    /// Requests carried out before the next frame.
    Requests,
    /// Decodes.
    Decodes,
    /// Events.
    Events,
    /// Status.
    Status,
    /// Marks.
    Marks,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Frames, Self::Requests, Self::Decodes, Self::Events, Self::Status, Self::Marks];

    /// The topic's name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Requests => "requests",
            Self::Decodes => "decodes",
            Self::Events => "events",
            Self::Status => "status",
            Self::Marks => "marks",
        }
    }
}

/// A session that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The system refused.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Not a session, or not one that this version can read.
    #[error("{}: {cause}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        cause: String,
    },
}

impl HasExitCode for SessionError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::File { .. } | Self::Form { .. } => ExitCode::Source,
        }
    }
}

impl SessionError {
    fn file(path: &Path, cause: std::io::Error) -> Self {
        Self::File { path: path.into(), cause }
    }

    fn form(path: &Path, cause: impl Into<String>) -> Self {
        Self::Form { path: path.into(), cause: cause.into() }
    }

    fn mcap(path: &Path, cause: mcap::McapError) -> Self {
        match cause {
            mcap::McapError::Io(cause) => Self::file(path, cause),
            other => Self::form(path, other.to_string()),
        }
    }
}

/// Is this path a session's file, by its name?
pub fn is_session(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

#[cfg(test)]
mod tests;
