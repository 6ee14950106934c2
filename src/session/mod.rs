//! The file of a recorded session: MCAP, written by the recorder and read by replay, comparison and report.
//!
//! Why it exists: an experiment can be trusted only if it can be repeated, so one file, which other programs can open too, holds
//! what was decoded, from which pixels, with which latency and by which model. What it must never do: know how a session is
//! produced or used, or accept a damaged part as whole.
//!
//! | topic | encoding | one message |
//! |---|---|---|
//! | `frames` | `haltere.frame-1` | every frame taken by the compute thread: [`layout`], then its pixels |
//! | `requests` | JSON | requests carried out between this frame and the previous one; stored just before the frame's message |
//! | `decodes` | JSON | the published header, and under `decoded` the full result: embedding, probabilities, observation |
//! | `events`, `status` | JSON | as published |
//! | `marks` | JSON | the experimenter's notes |
//! | `decisions` | JSON | as published |
//!
//! `log_time` is UTC, ns since 1970, from one offset measured when the recording started; the time stamps inside are the
//! machine's own (`CLOCK_MONOTONIC`). Attachments: `model.onnx`, `model.toml`, `config.toml`. Metadata `haltere.session` comes
//! first, `haltere.end` last; a file without the latter was truncated, and every chunk before the cut is complete. For each
//! model that took over during the recording there are `model-<generation>.onnx` and `.toml`, and metadata `haltere.model`; for each
//! saved state of an animal that was taken up `NAME.animal`.

pub mod export;
pub mod recorder;
pub mod rows;
pub mod unpacked;

mod damage;
mod decoded_by;
pub mod layout;
pub mod messages;
mod outline;
mod read;
mod records;
mod schemas;
mod watched;
mod write;

use std::path::{Path, PathBuf};

use crate::sys::exit::{ExitCode, HasExitCode};

pub use damage::{Damage, Hole};
pub use outline::Outline;
pub use read::{HeldItem, Item, Reader};
pub use write::{SessionWriter, name_of};

/// Extension of a session's file.
pub const EXTENSION: &str = "mcap";
/// Version of the format described here, in `haltere.session`.
pub const FORM: &str = "1";
/// Name of the metadata at the start of a session.
pub const BEGIN: &str = "haltere.session";
/// Name of the metadata at the end of a complete session.
pub const END: &str = "haltere.end";
/// Name of the metadata about a model that took over during the recording; [`BEGIN`] names the one that decoded at its start.
pub const MODEL: &str = "haltere.model";
/// Names of the attachments. Of a model that took over during the recording they have its generation in them: `model-2.onnx`.
pub const MODEL_ONNX: &str = "model.onnx";
/// The manifest.
pub const MODEL_TOML: &str = "model.toml";
/// The effective configuration.
pub const CONFIG_TOML: &str = "config.toml";

/// Content of a channel.
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
    /// Decisions.
    Decisions,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Frames, Self::Requests, Self::Decodes, Self::Events, Self::Status, Self::Marks, Self::Decisions];

    /// The topic's name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Requests => "requests",
            Self::Decodes => "decodes",
            Self::Events => "events",
            Self::Status => "status",
            Self::Marks => "marks",
            Self::Decisions => "decisions",
        }
    }
}

/// A session cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The operating system's error.
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

    /// The same with more to say.
    fn with(self, more: &str) -> Self {
        match self {
            Self::File { path, cause } => {
                Self::File { path, cause: std::io::Error::new(cause.kind(), format!("{cause}{more}")) }
            }
            Self::Form { path, cause } => Self::Form { path, cause: format!("{cause}{more}") },
        }
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
