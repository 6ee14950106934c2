//! `haltere model`: look at a model, make one without training, bring one of your own.
//!
//! Why it exists: a user must be able to do all three without writing a manifest by hand. What it must never do:
//! overwrite a model unasked, or call random weights trained.

mod adopt;
mod inspect;

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::training::{self, ModelTrainingCommand};
use crate::encode::EncodeError;
use crate::model::ModelError;
use crate::sys::exit::{ExitCode, HasExitCode};

pub use adopt::{AdoptArguments, ModelAdoptArgs, adopt};
pub use inspect::{InspectArguments, Inspection, ModelInspectArgs, Run, inspect};

/// `haltere model …`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Show a manifest, verify its ONNX file, run and time it.
    Inspect(ModelInspectArgs),
    /// What a build with training adds.
    #[command(flatten)]
    Training(ModelTrainingCommand),
    /// Write a manifest for your own ONNX file, `[1,T,C,H,W]` → embedding.
    #[command(after_long_help = "\
Example: haltere model adopt mine.onnx --frame-rate 30

The manifest is written beside the file, with its shapes and the default preprocessing. Edit [preprocess] to \
match how the network was trained: haltere cannot detect a difference there.")]
    Adopt(ModelAdoptArgs),
}

/// Does what was asked.
///
/// # Errors
/// What is wrong with the model, or a file that cannot be written.
pub fn run(command: ModelCommand, mut out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::Inspect(args) => drop(inspect(&args.into(), &mut out)?),
        ModelCommand::Training(command) => training::run_model(command, out)?,
        ModelCommand::Adopt(args) => drop(adopt(&args.into(), &mut out)?),
    }
    Ok(ExitCode::Ok)
}

/// What a `model` command could not do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The manifest or the file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// ONNX Runtime or the session.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Something is there already.
    #[error("{} is there already: choose another name or folder, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    /// The file's inputs and outputs are not those of a model that the daemon can feed.
    #[error("{}: {cause}", path.display())]
    Unfit {
        /// The ONNX file.
        path: PathBuf,
        /// What is there, and what would be needed.
        cause: String,
    },
    /// The output cannot be written.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
    /// The report cannot be written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl HasExitCode for CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Model(error) => error.exit_code(),
            Self::Encode(error) => error.exit_code(),
            Self::Unfit { .. } => ExitCode::Model,
            Self::Exists(_) | Self::Json(_) => ExitCode::Other,
            Self::Output(_) => ExitCode::Sink,
        }
    }
}
