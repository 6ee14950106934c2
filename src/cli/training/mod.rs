//! The subcommands of training: `train`, `eval`, `compare`, `sweep`, `calibrate`, `model init`.
//!
//! Why it exists: `train` computes and knows neither a terminal nor a command line; this room connects them.
//! What it must never do: compute a score of its own.

mod calibrate;
mod compare;
mod data;
mod embeddings;
mod eval;
mod init;
mod ladder;
mod learn;
mod show;
mod sweep;
mod train;
mod trials;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Subcommand;

pub use calibrate::calibrate_on;
pub(super) use init::with_untrained_model;
pub use init::{InitArguments, InitError, init};
#[cfg(feature = "train-cuda")]
pub use learn::cuda;

use super::{log, stop_flag};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::try_writing;

/// The subcommands of training.
#[derive(Debug, Subcommand)]
pub enum TrainingCommand {
    /// Adapt a trained model to a new animal from a few minutes of recording, with or without labels.
    Calibrate(calibrate::CalibrateArgs),
    /// Train a model on recordings of several animals.
    Train(train::TrainArgs),
    /// Score a model within animals, across animals, on animal identity and on unseen animals.
    Eval(eval::EvalArgs),
    /// Train and score all methods on all populations and tabulate the results.
    Compare(compare::CompareArgs),
    /// Run one training of a sweep by its index, for job arrays, or tabulate those that are finished.
    Sweep(sweep::SweepArgs),
}

/// What training adds to `haltere model`.
#[derive(Debug, Subcommand)]
pub enum ModelTrainingCommand {
    /// Create an untrained model: correct shapes, random weights. Its decodes carry an embedding but no action.
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
        TrainingCommand::Compare(args) if args.ladder => ladder::run(&args, &begin()?, out)?,
        TrainingCommand::Compare(args) => compare::run(&args, &begin()?, out)?,
        TrainingCommand::Sweep(args) => sweep::run(&args, &begin()?, out)?,
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

/// The number of an error that only training makes.
pub(super) fn exit_code(cause: &(dyn Error + 'static)) -> Option<ExitCode> {
    code_of_one_of!(cause;
        InitError,
        crate::train::calibrate::CalibrateError,
        crate::train::compare::CompareError,
        crate::train::export::ExportError,
        crate::train::export::accept::AcceptError,
        crate::train::fit::FitError,
        crate::train::metrics_log::MetricsError,
        crate::train::run_folder::RunFolderError,
        crate::train::settings::SettingError,
        crate::train::spec::SpecError,
        crate::train::sweep::SweepError,
    )
}

/// Training reports on standard error; a first Ctrl-C ends it in order.
fn begin() -> anyhow::Result<Arc<AtomicBool>> {
    log::start_default()?;
    stop_flag()
}

/// Makes the folder for results and tries to write there: better known before hours of work than after them.
///
/// # Errors
/// A [`Failure`] that names the folder.
fn prepare_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(cannot_write(folder, "the folder cannot be made"))?;
    try_writing(folder).with_context(cannot_write(folder, "nothing can be written into the folder"))
}

/// The context of a file or folder that `--out` names and that cannot be written.
fn cannot_write<'a>(path: &'a Path, what: &'a str) -> impl FnOnce() -> Failure + 'a {
    move || {
        let what = format!("{}: {what}; name another place with --out, or make room there", path.display());
        Failure { code: ExitCode::Sink, what }
    }
}

/// Something that was typed cannot be done.
fn usage(what: String) -> anyhow::Error {
    Failure { code: ExitCode::Usage, what }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::exit_code as of_main;
    use crate::dataset::DatasetError;
    use crate::encode::EncodeError;
    use crate::model::ModelError;
    use crate::sys::files::FileError;
    use crate::train::compare::CompareError;
    use crate::train::export::ExportError;
    use crate::train::export::accept::AcceptError;
    use crate::train::fit::FitError;
    use crate::train::run_folder::RunFolderError;
    use crate::train::settings::SettingError;

    #[test]
    fn training_tells_settings_recordings_files_and_models_apart() {
        let of = |error: anyhow::Error| of_main(&error);
        let setting = || SettingError { key: "steps".into(), value: "0".into(), bound: "1 or more".into() };
        assert_eq!(of(FitError::from(setting()).into()), ExitCode::Config);
        assert_eq!(of(CompareError::from(FitError::from(setting())).into()), ExitCode::Config);
        assert_eq!(of(setting().into()), ExitCode::Config);
        assert_eq!(of(CompareError::from(FitError::NoLabels).into()), ExitCode::Source);
        assert_eq!(of(DatasetError::NoAnimalLeft { known: "fly_1".into() }.into()), ExitCode::Source);
        assert_eq!(of(FitError::Diverged { step: 1, loss: f32::NAN, rate: 1.0 }.into()), ExitCode::Stage);
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(of(RunFolderError::Io { path: "runs".into(), cause: full() }.into()), ExitCode::Sink);
        assert_eq!(of(CompareError::File { path: "a.json".into(), cause: "full".into() }.into()), ExitCode::Sink);
        assert_eq!(of(AcceptError::Parity { difference: 1.0, frames: 3 }.into()), ExitCode::Model);
        let runtime = || EncodeError::Runtime { cause: "missing".to_owned() };
        assert_eq!(of(AcceptError::from(ExportError::from(runtime())).into()), ExitCode::OnnxRuntime);
        assert_eq!(of(ExportError::from(runtime()).into()), ExitCode::OnnxRuntime, "the rehearsal before training");
        let unwritten = ModelError::Write(FileError::write("a.onnx".as_ref(), full()));
        assert_eq!(of(InitError::from(ExportError::from(unwritten)).into()), ExitCode::Sink);
        let name = RunFolderError::Name { name: "..".into(), cause: "leaves".into() };
        assert_eq!(of(name.into()), ExitCode::Usage);
    }
}
