//! Checks one training setting against its range.

use crate::sys::exit::{ExitCode, HasExitCode};

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{key} = {value}: {bound}")]
pub struct SettingError {
    /// Dotted key.
    pub key: String,
    /// What was written.
    pub value: String,
    /// What is allowed.
    pub bound: String,
}

impl HasExitCode for SettingError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}

/// `good`, or an error that names key, value and bound.
pub(super) fn within(good: bool, key: &str, value: &dyn std::fmt::Debug, bound: &str) -> Result<(), SettingError> {
    if good { Ok(()) } else { Err(SettingError { key: key.into(), value: format!("{value:?}"), bound: bound.into() }) }
}
