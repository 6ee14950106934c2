//! Why a network cannot be exported.

use crate::encode::EncodeError;
use crate::model::ModelError;
use crate::sys::exit::{ExitCode, HasExitCode};

/// A network that cannot be exported, or that the daemon does not reproduce.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A weight or a folded statistic is not a number: training diverged.
    #[error("{weight} contains NaN or infinity: the network is not exported")]
    NonFinite {
        /// Which tensor.
        weight: String,
    },
    /// A part of the head does not fit the network.
    #[error("{what} is {found}; it must be {expected}")]
    Unfit {
        /// Which part.
        what: &'static str,
        /// What it is.
        found: String,
        /// What the network needs.
        expected: String,
    },
    /// burn could not return its values.
    #[error("burn: {0}")]
    Values(String),
    /// The files cannot be written, or the manifest would not be sound.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The daemon's encoder rejects the file.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl HasExitCode for ExportError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Model(error) => error.exit_code(),
            Self::Encode(error) => error.exit_code(),
            Self::NonFinite { .. } | Self::Unfit { .. } | Self::Values(_) => ExitCode::Model,
        }
    }
}
