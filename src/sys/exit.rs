//! Exit codes by cause, so that a script, a unit file or a supervisor can tell a typing error from a dead socket.
//!
//! Why it exists: 1 says nothing. What it must never do: change the meaning of a number; scripts rely on it.

use crate::cli::model::CommandError;
use crate::client::monitor::MonitorError;
use crate::client::play::PlayError;
use crate::config::ConfigError;
use crate::dataset::DatasetError;
use crate::dataset::trials::StoreError;
use crate::encode::EncodeError;
use crate::model::ModelError;
use crate::model::labels::LabelsError;
use crate::preprocess::BuildError;
use crate::publish::SinkError;
use crate::simulate::RecipeError;
use crate::simulate::write::WriteError;
use crate::source::SourceError;
use crate::sys::replace_folder::ReplaceError;
#[cfg(feature = "train")]
use crate::train::compare::CompareError;
use crate::train::export::ExportError;
use crate::train::export::accept::AcceptError;
use crate::train::fit::FitError;
use crate::train::metrics_log::MetricsError;
use crate::train::run_folder::RunFolderError;
use crate::train::settings::SettingError;
use crate::train::spec::SpecError;

/// What the process says when it leaves. The README lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Ok = 0,
    /// Anything without a number of its own.
    Other = 1,
    /// The command line is wrong (clap leaves by itself with this number).
    Usage = 2,
    /// The configuration is wrong.
    Config = 3,
    /// The model or its manifest is wrong.
    Model = 4,
    /// ONNX Runtime, or the device that was asked for, is missing, too old, or refuses the model.
    OnnxRuntime = 5,
    /// Frames cannot be had: file unreadable, socket not to be opened.
    Source = 6,
    /// Decodes cannot be delivered: port taken, file not writable.
    Sink = 7,
    /// A stage failed in mid-run.
    Stage = 8,
    /// `check` found faults.
    Faults = 9,
    /// What was asked about is not so: `diff` found a difference, `report` a missed deadline.
    Unmet = 10,
    /// Interrupted before its end: a training or a comparison that goes on later, or anything that was interrupted twice.
    Interrupted = 130,
}

impl ExitCode {
    /// The number of a failure: that of a [`Failure`] in the chain, else of the first cause that has one.
    pub fn of(error: &anyhow::Error) -> Self {
        // As a context it is found by anyhow alone, not by going through the chain.
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.code;
        }
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Other)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(error) = cause.downcast_ref::<EncodeError>() {
            let wrong_model = matches!(error, EncodeError::Mismatch { .. });
            return Some(if wrong_model { Self::Model } else { Self::OnnxRuntime });
        }
        if let Some(BuildError::Device(_)) = cause.downcast_ref() {
            return Some(Self::OnnxRuntime);
        }
        // Errors that only pass another one on do not show it in the chain.
        match cause.downcast_ref::<CommandError>() {
            Some(CommandError::Model(inner)) => return Self::of_cause(inner),
            Some(CommandError::Encode(inner)) => return Self::of_cause(inner),
            Some(CommandError::Unfit { .. }) => return Some(Self::Model),
            _ => {}
        }
        match cause.downcast_ref::<PlayError>() {
            Some(PlayError::Source(_) | PlayError::Empty) => return Some(Self::Source),
            Some(PlayError::Socket { .. }) => return Some(Self::Sink),
            Some(PlayError::Option { .. }) => return Some(Self::Usage),
            None => {}
        }
        match cause.downcast_ref::<MonitorError>() {
            Some(MonitorError::Remote(_)) => return Some(Self::Usage),
            Some(MonitorError::Socket { .. } | MonitorError::Bind { .. }) => return Some(Self::Sink),
            _ => {}
        }
        match cause.downcast_ref::<WriteError>() {
            Some(WriteError::Recipe(_)) => return Some(Self::Config),
            Some(_) => return Some(Self::Sink),
            None => {}
        }
        #[cfg(feature = "train")]
        if let Some(code) = Self::of_training(cause) {
            return Some(code);
        }
        let is = [
            (cause.is::<ConfigError>() || cause.is::<RecipeError>(), Self::Config),
            (cause.is::<ModelError>(), Self::Model),
            (cause.is::<SourceError>() || cause.is::<LabelsError>(), Self::Source),
            (cause.is::<SinkError>(), Self::Sink),
        ];
        is.into_iter().find(|(fits, _)| *fits).map(|(_, code)| code)
    }

    /// A setting is a configuration, recordings are a source, and a run's folder is where something is to be delivered.
    #[cfg(feature = "train")]
    fn of_training(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(CompareError::Fit(inner)) = cause.downcast_ref() {
            return Self::of_training(inner);
        }
        match cause.downcast_ref::<FitError>() {
            Some(FitError::Setting(_) | FitError::Spec(_)) => return Some(Self::Config),
            Some(FitError::TooShort(_) | FitError::NoLabels) => return Some(Self::Source),
            Some(FitError::Diverged { .. }) => return Some(Self::Stage),
            Some(FitError::Save(_)) => return Some(Self::Sink),
            _ => {}
        }
        match cause.downcast_ref::<AcceptError>() {
            Some(AcceptError::Export(ExportError::Model(inner))) => return Self::of_cause(inner),
            Some(AcceptError::Export(ExportError::Encode(inner))) => return Self::of_cause(inner),
            Some(AcceptError::Export(_) | AcceptError::Parity { .. }) => return Some(Self::Model),
            _ => {}
        }
        match cause.downcast_ref::<RunFolderError>() {
            Some(RunFolderError::Name { .. }) => return Some(Self::Usage),
            Some(RunFolderError::Io { .. }) => return Some(Self::Sink),
            _ => {}
        }
        let is = [
            (cause.is::<SettingError>() || cause.is::<SpecError>(), Self::Config),
            (cause.is::<DatasetError>() || cause.is::<StoreError>(), Self::Source),
            (cause.is::<ReplaceError>() || cause.is::<MetricsError>(), Self::Sink),
            (matches!(cause.downcast_ref(), Some(CompareError::File { .. })), Self::Sink),
            (matches!(cause.downcast_ref(), Some(CompareError::Stopped)), Self::Interrupted),
        ];
        is.into_iter().find(|(fits, _)| *fits).map(|(_, code)| code)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// A failure whose number its type does not tell: put before the cause with `anyhow::Context`.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// The number to leave with.
    pub code: ExitCode,
    /// What failed, for people.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_code_is_that_of_the_first_cause_that_has_one() {
        let sink = SinkError { sink: "tcp://127.0.0.1:5711".to_owned(), cause: "taken".to_owned() };
        let error = anyhow::Error::new(sink).context("starting");
        assert_eq!(ExitCode::of(&error), ExitCode::Sink);
        let failure = Failure { code: ExitCode::Stage, what: "encode failed in mid-run".to_owned() };
        assert_eq!(ExitCode::of(&Err::<(), _>(error).context(failure).unwrap_err()), ExitCode::Stage);
        assert_eq!(ExitCode::of(&anyhow::anyhow!("anything")), ExitCode::Other);
    }

    #[test]
    fn a_cause_that_is_only_passed_on_keeps_its_code() {
        let file = || SourceError::File { path: "a.tif".into(), cause: "not there".to_owned() };
        assert_eq!(ExitCode::of(&PlayError::from(file()).into()), ExitCode::Source);
        let socket = PlayError::Socket { endpoint: "tcp://127.0.0.1:1".to_owned(), cause: "taken".to_owned() };
        assert_eq!(ExitCode::of(&socket.into()), ExitCode::Sink);
        let runtime = EncodeError::Runtime { cause: "missing".to_owned() };
        assert_eq!(ExitCode::of(&CommandError::from(runtime).into()), ExitCode::OnnxRuntime);
        let model = ModelError::Missing { path: "a.toml".into() };
        assert_eq!(ExitCode::of(&CommandError::from(model).into()), ExitCode::Model);
    }

    #[test]
    fn a_model_that_does_not_fit_its_manifest_is_not_blamed_on_onnx_runtime() {
        let of = |error: EncodeError| ExitCode::of(&error.into());
        let text = || "x".to_owned();
        let mismatch = EncodeError::Mismatch { model: text(), what: text(), found: text(), expected: text() };
        assert_eq!(of(mismatch), ExitCode::Model);
        assert_eq!(of(EncodeError::Runtime { cause: text() }), ExitCode::OnnxRuntime);
    }

    #[cfg(feature = "train")]
    #[test]
    fn training_tells_settings_recordings_files_and_models_apart() {
        let of = |error: anyhow::Error| ExitCode::of(&error);
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
        let runtime = EncodeError::Runtime { cause: "missing".to_owned() };
        assert_eq!(of(AcceptError::from(ExportError::from(runtime)).into()), ExitCode::OnnxRuntime);
        let name = RunFolderError::Name { name: "..".into(), cause: "leaves".into() };
        assert_eq!(of(name.into()), ExitCode::Usage);
    }

    #[test]
    fn the_readme_lists_every_exit_code() {
        use ExitCode::*;
        let readme = include_str!("../../README.md");
        for code in [Ok, Other, Usage, Config, Model, OnnxRuntime, Source, Sink, Stage, Faults, Unmet, Interrupted] {
            assert!(
                readme.contains(&format!("| {} |", code as u8)),
                "README.md does not list exit code {}",
                code as u8
            );
        }
    }
}
