//! Which number an error leaves with: the first error in the chain of causes that knows one.
//!
//! Why it exists: `anyhow` forgets the types of what it carries, and each type knows its own number. What it must never
//! do: decide a number. Here stands only the list of types that are asked, and a test holds that none is missing.

use std::error::Error;

use super::{model, output, training};
use crate::sys::exit::{ExitCode, Failure, HasExitCode};

/// Asks a cause whether it is one of these types, and if so for its number.
macro_rules! code_of_one_of {
    ($cause:expr; $($error:path,)+) => {{
        let cause: &(dyn std::error::Error + 'static) = $cause;
        None$(.or_else(|| cause.downcast_ref::<$error>().map($crate::sys::exit::HasExitCode::exit_code)))+
    }};
}

/// The number of a failure: that of a [`Failure`] put before it, else of the first cause that knows one.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    // As a context it is found by anyhow alone, not by going through the chain.
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit_code();
    }
    error.chain().find_map(of_cause).unwrap_or(ExitCode::Other)
}

fn of_cause(cause: &(dyn Error + 'static)) -> Option<ExitCode> {
    output::exit_code(cause).or_else(|| training::exit_code(cause)).or_else(|| {
        code_of_one_of!(cause;
            Failure,
            model::CommandError,
            crate::client::ask::AskError,
            crate::client::demo::DemoError,
            crate::client::monitor::MonitorError,
            crate::client::play::PlayError,
            crate::client::watch::WatchError,
            crate::config::ConfigError,
            crate::corridor::Failure,
            crate::corridor::supervisor::control::ControlError,
            crate::cuda::Fault,
            crate::dataset::DatasetError,
            crate::decide::RuleError,
            crate::decoder::DecodeError,
            crate::dataset::trials::StoreError,
            crate::encode::EncodeError,
            crate::evaluate::calibration::CalibrationError,
            crate::evaluate::questions::EvaluateError,
            crate::evaluate::domain_gap::GapError,
            crate::evaluate::novelty::NoveltyError,
            crate::evaluate::ProbeError,
            crate::model::ModelError,
            crate::model::labels::LabelsError,
            crate::model::onnx::OnnxReadError,
            crate::preprocess::BuildError,
            crate::preprocess::PreprocessError,
            crate::publish::SinkError,
            crate::session::SessionError,
            crate::simulate::RecipeError,
            crate::simulate::write::WriteError,
            crate::source::SourceError,
            crate::sys::files::FileError,
            crate::sys::replace_folder::ReplaceError,
            crate::sys::sockets::KeyError,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use anyhow::Context;

    use super::*;
    use crate::client::play::PlayError;
    use crate::encode::EncodeError;
    use crate::model::ModelError;
    use crate::publish::SinkError;
    use crate::source::SourceError;
    use crate::sys::files::FileError;
    use model::CommandError;

    /// Errors that never reach `main`, each with where it ends.
    const NEVER_ALONE: &[(&str, &str)] = &[
        ("Discontinuity", "counted under its name"),
        ("EndpointError", "clap shows it, or a ConfigError holds it"),
        ("HeaderError", "counted under its name"),
        ("InletError", "counted, and logged"),
        ("LabelFault", "a DatasetError holds it"),
        ("MessageError", "a viewer counts it"),
        ("NameError", "clap shows it, or a ConfigError holds it"),
        ("ParameterError", "a ModelError or a BuildError holds it"),
        ("NothingToLearn", "an AcceptError holds it"),
        ("PassError", "a FitError holds it"),
        ("Problem", "a ConfigError holds it"),
        ("SwapError", "the daemon answers with it"),
        ("TemplateError", "a ConfigError holds it"),
        ("TooShort", "a FitError holds it"),
        ("Warning", "logged only"),
        ("DataWarning", "told, and nothing ends"),
        ("AnimalError", "answered to whoever named the animal, and logged"),
        ("AtlasError", "a DatasetError holds it"),
        ("StateError", "an AnimalError holds it"),
        ("TakeUpError", "told as a mismatch of the animal"),
    ];

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    /// Every type that `thiserror` makes an error.
    fn errors() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for (at, _) in text.match_indices("thiserror::Error)]\n") {
                let item = text[at..].lines().find_map(|line| line.strip_prefix("pub ")).unwrap_or_default();
                let name = item.split_whitespace().nth(1).unwrap_or_default();
                found.insert(name.trim_end_matches(['{', '<', '(', ';']).to_owned());
            }
        }
        found
    }

    #[test]
    fn every_error_that_can_reach_main_is_asked_for_its_code() {
        let asked: BTreeSet<&str> = [include_str!("exit.rs"), include_str!("training/mod.rs")]
            .iter()
            .flat_map(|text| text.split("code_of_one_of!(").skip(1).filter_map(|list| list.split(')').next()))
            .flat_map(|list| list.lines().filter_map(|line| line.trim().strip_suffix(',')))
            .filter_map(|path| path.rsplit("::").next())
            .collect();
        let errors = errors();
        assert!(errors.len() > 30 && asked.len() > 30, "{} errors, {} asked", errors.len(), asked.len());
        for error in &errors {
            let never = NEVER_ALONE.iter().any(|(name, _)| name == error);
            assert!(asked.contains(error.as_str()) != never, "{error}: ask it in cli/exit.rs, or say where it ends");
        }
    }

    #[test]
    fn the_code_is_that_of_the_first_cause_that_has_one() {
        let sink = SinkError { sink: "tcp://127.0.0.1:5711".to_owned(), cause: "taken".to_owned() };
        let error = anyhow::Error::new(sink).context("starting");
        assert_eq!(exit_code(&error), ExitCode::Sink);
        let failure = Failure { code: ExitCode::Stage, what: "encode failed in mid-run".to_owned() };
        assert_eq!(exit_code(&Err::<(), _>(error).context(failure).unwrap_err()), ExitCode::Stage);
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), ExitCode::Other);
    }

    #[test]
    fn a_cause_that_is_only_passed_on_keeps_its_code() {
        let file = || SourceError::File { path: "a.tif".into(), cause: "not there".to_owned() };
        assert_eq!(exit_code(&PlayError::from(file()).into()), ExitCode::Source);
        let socket = PlayError::Socket { endpoint: "tcp://127.0.0.1:1".to_owned(), cause: "taken".to_owned() };
        assert_eq!(exit_code(&socket.into()), ExitCode::Sink);
        let runtime = EncodeError::Runtime { cause: "missing".to_owned() };
        assert_eq!(exit_code(&CommandError::from(runtime).into()), ExitCode::OnnxRuntime);
        let model = ModelError::Missing { path: "a.toml".into() };
        assert_eq!(exit_code(&CommandError::from(model).into()), ExitCode::Model);
        let full = std::io::ErrorKind::StorageFull.into();
        let unwritten = ModelError::Write(FileError::write("a.toml".as_ref(), full));
        assert_eq!(exit_code(&CommandError::from(unwritten).into()), ExitCode::Sink);
    }

    #[test]
    fn a_model_that_does_not_fit_its_manifest_is_not_blamed_on_onnx_runtime() {
        let of = |error: EncodeError| exit_code(&error.into());
        let text = || "x".to_owned();
        let mismatch = EncodeError::Mismatch { model: text(), what: text(), found: text(), expected: text() };
        assert_eq!(of(mismatch), ExitCode::Model);
        assert_eq!(of(EncodeError::Runtime { cause: text() }), ExitCode::OnnxRuntime);
    }
}
