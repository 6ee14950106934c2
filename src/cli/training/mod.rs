//! The subcommands of training: `train`, `eval`, `compare`, `calibrate`, `model init`.
//!
//! Why it exists: `train` computes and knows neither a terminal nor a command line; somebody must bring them together. What it
//! must never do: compute a score of its own.

mod calibrate;
mod compare;
mod data;
mod eval;
mod init;
mod learn;
mod show;
mod train;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Subcommand;

pub(super) use init::with_untrained_model;
pub use init::{InitArguments, InitError, init};
#[cfg(feature = "train-cuda")]
pub use learn::cuda;

use super::{log, stop_flag};
use crate::sys::exit::{ExitCode, Failure};

/// The subcommands of training.
#[derive(Debug, Subcommand)]
pub enum TrainingCommand {
    /// Fit a trained model to a new animal, from a few minutes of it, with or without labels.
    Calibrate(calibrate::CalibrateArgs),
    /// Train a model on recordings of several animals.
    Train(train::TrainArgs),
    /// Score a model: within an animal, across animals, which animal it is, animals never seen.
    Eval(eval::EvalArgs),
    /// Train and score all methods on all populations; the table of the project.
    Compare(compare::CompareArgs),
}

/// What training adds to `haltere model`.
#[derive(Debug, Subcommand)]
pub enum ModelTrainingCommand {
    /// Make an untrained model: right shapes, random weights. Its decodes carry an embedding and no action.
    #[command(after_long_help = "Example: haltere model init --name untrained --out models --input 1x128x128 --seed 1")]
    Init(init::ModelInitArgs),
}

/// Does what was asked.
///
/// # Errors
/// Whatever the subcommand could not do.
pub fn run(command: TrainingCommand, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        TrainingCommand::Calibrate(args) => calibrate::run(args, out)?,
        TrainingCommand::Train(args) => train::run(&args, &begin()?, out)?,
        TrainingCommand::Eval(args) => {
            begin()?;
            eval::run(&args, out)?;
        }
        TrainingCommand::Compare(args) => compare::run(&args, &begin()?, out)?,
    }
    Ok(ExitCode::Ok)
}

/// Does what was asked of `haltere model`.
///
/// # Errors
/// As [`init`].
pub fn run_model(command: ModelTrainingCommand, mut out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        ModelTrainingCommand::Init(args) => drop(init(&args.into(), &mut out)?),
    }
    Ok(())
}

/// Training tells what it does on standard error; a first Ctrl-C ends it in order.
fn begin() -> anyhow::Result<Arc<AtomicBool>> {
    log::start_default()?;
    stop_flag()
}

/// Something that was typed cannot be done.
fn usage(what: String) -> anyhow::Error {
    Failure { code: ExitCode::Usage, what }.into()
}
