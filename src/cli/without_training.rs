//! What stands in the place of `training` in a build without it: its subcommands, which say how to get them.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::sys::exit::{ExitCode, Failure};

/// The subcommands of training, not listed in the help.
#[derive(Debug, Subcommand)]
pub enum TrainingCommand {
    /// Not in this build.
    #[command(hide = true, disable_help_flag = true)]
    Calibrate(Anything),
    /// Not in this build.
    #[command(hide = true, disable_help_flag = true)]
    Train(Anything),
    /// Not in this build.
    #[command(hide = true, disable_help_flag = true)]
    Eval(Anything),
    /// Not in this build.
    #[command(hide = true, disable_help_flag = true)]
    Compare(Anything),
    /// Not in this build.
    #[command(hide = true, disable_help_flag = true)]
    Sweep(Anything),
}

/// Whatever follows the subcommand.
#[derive(Debug, Args)]
pub struct Anything {
    /// What was typed after the subcommand.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The part of `haltere model` that needs training, not listed in the help.
#[derive(Debug, Subcommand)]
pub enum ModelTrainingCommand {
    /// Not in this build.
    #[command(hide = true, disable_help_flag = true)]
    Init(Anything),
}

/// Says what is missing.
pub(super) fn run(command: TrainingCommand, _out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (name, given) = match &command {
        TrainingCommand::Calibrate(given) => ("calibrate", given),
        TrainingCommand::Train(given) => ("train", given),
        TrainingCommand::Eval(given) => ("eval", given),
        TrainingCommand::Compare(given) => ("compare", given),
        TrainingCommand::Sweep(given) => ("sweep", given),
    };
    Err(missing(name, given))
}

/// Says what is missing.
pub(super) fn run_model(command: ModelTrainingCommand, _out: &mut dyn Write) -> anyhow::Result<()> {
    let ModelTrainingCommand::Init(given) = command;
    Err(missing("model init", &given))
}

fn missing(name: &str, given: &Anything) -> anyhow::Error {
    let typed = [name].into_iter().chain(given.arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let what =
        format!("haltere {typed}: this build cannot train; `make build` builds a haltere that can (feature `train`)");
    Failure { code: ExitCode::Usage, what }.into()
}

/// No error is of training.
pub(super) fn exit_code(_cause: &(dyn Error + 'static)) -> Option<ExitCode> {
    None
}

/// Without the trainer no model can be made: the configuration's is measured.
pub(super) fn with_untrained_model(config: Config, _folder: &Path) -> anyhow::Result<Config> {
    Ok(config)
}
