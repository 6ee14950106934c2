//! Why a network cannot be exported.

use crate::encode::EncodeError;
use crate::model::ModelError;

/// A network that cannot be exported, or that the daemon does not reproduce.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A weight or a folded statistic is not a number: training diverged.
    #[error("{weight} holds NaN or infinity: the network is not exported")]
    NonFinite {
        /// Which tensor.
        weight: String,
    },
    /// A piece that was learnt beside the network does not fit it.
    #[error("{what} is {found}; it must be {expected}")]
    Unfit {
        /// Which piece.
        what: &'static str,
        /// What it is.
        found: String,
        /// What the network needs.
        expected: String,
    },
    /// burn could not hand its values over.
    #[error("burn: {0}")]
    Values(String),
    /// The files cannot be written, or the manifest would not be sound.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The daemon's encoder does not take what was written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
