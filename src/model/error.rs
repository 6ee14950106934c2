//! Why a model cannot be used, and what to do about it.

use std::path::PathBuf;

use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Action, FileError};

/// A manifest or a model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(FileError),
    /// There is no such file.
    #[error(
        "{}: there is no such file; --model (or `model` in the configuration) names a manifest, `haltere model init` makes \
         an untrained model, `haltere model adopt` a manifest for an ONNX file", path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Not a manifest: syntax, unknown or missing keys, with the line.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, key and reason.
        message: String,
    },
    /// A value that cannot be.
    #[error("{}: {key} = {value}: {bound}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// What was written.
        value: String,
        /// What is allowed.
        bound: String,
    },
    /// The ONNX file is not the one the manifest was written for.
    #[error("{}: SHA-256 is {found}, the manifest says {expected}: the file was changed or exchanged; `haltere model inspect` shows both", path.display())]
    Hash {
        /// The ONNX file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// Weights outside the model's folder.
    #[error("{}: keeps weights in \"{location}\", which {cause}", path.display())]
    External {
        /// The ONNX file.
        path: PathBuf,
        /// What it names.
        location: String,
        /// Why that is refused.
        cause: &'static str,
    },
    /// A model of input that no running daemon can make.
    #[error(
        "{}: this model was trained on ready-made ΔF/F (input_origin = \"ready-made\": F0 of whole trials, perhaps denoised with \
         future frames), which no running daemon can make from raw frames; its decodes would mean nothing. Train on the raw \
         channels, or set `accept_ready_made_input = true` if the frames you send are such ΔF/F", path.display()
    )]
    ReadyMade {
        /// The manifest.
        path: PathBuf,
    },
}

impl HasExitCode for ModelError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::File { .. }
            | Self::Missing { .. }
            | Self::Syntax { .. }
            | Self::Value { .. }
            | Self::Hash { .. }
            | Self::External { .. }
            | Self::ReadyMade { .. } => ExitCode::Model,
            Self::Write(error) => error.exit_code(),
        }
    }
}

impl From<FileError> for ModelError {
    fn from(error: FileError) -> Self {
        match error.action {
            Action::Read if error.cause.kind() == std::io::ErrorKind::NotFound => Self::Missing { path: error.path },
            Action::Read => Self::File { path: error.path, cause: error.cause },
            Action::Write => Self::Write(error),
        }
    }
}

/// The parser's message (line, key, reason) and, for an unknown word, the nearest known one.
pub fn describe(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let text = text.trim_end();
    // serde says: unknown field `x`, expected one of `a`, `b`
    let mut words = error.message().split('`').skip(1).step_by(2);
    let unknown = error.message().starts_with("unknown ").then(|| words.next()).flatten();
    let Some(unknown) = unknown else { return text.into() };
    let nearest = words.map(|known| (strsim::jaro_winkler(unknown, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, known)) if likeness > 0.7 => format!("{text}\ndid you mean `{known}`?"),
        _ => text.into(),
    }
}
