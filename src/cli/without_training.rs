//! What stands in the place of `training` in a build without it: no subcommand.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use clap::Subcommand;

use crate::config::Config;
use crate::sys::exit::ExitCode;

/// No subcommand of training.
#[derive(Debug, Subcommand)]
pub enum TrainingCommand {}

/// Nothing to add to `haltere model`.
#[derive(Debug, Subcommand)]
pub enum ModelTrainingCommand {}

/// Nobody can ask for it.
pub(super) fn run(command: TrainingCommand, _out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {}
}

/// Nobody can ask for it.
pub(super) fn run_model(command: ModelTrainingCommand, _out: &mut dyn Write) -> anyhow::Result<()> {
    match command {}
}

/// No error is of training.
pub(super) fn exit_code(_cause: &(dyn Error + 'static)) -> Option<ExitCode> {
    None
}

/// Without the trainer no model can be made: the configuration's is measured.
pub(super) fn with_untrained_model(config: Config, _folder: &Path) -> anyhow::Result<Config> {
    Ok(config)
}
