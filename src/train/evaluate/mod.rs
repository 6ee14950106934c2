//! What a representation is worth: probes, scores, chance, calibration, domain gap. Plain arithmetic on plain arrays.
//!
//! Why it exists: every method is judged by the same code, on values that any encoder can make ([`Representation`]). What it
//! must never do: touch an encoder's weights, read or write a file, or draw at random without a seed.
//!
//! [`Representation`]: super::data::Representation

pub mod lbfgs;
pub mod metrics;
pub mod probe;
mod rows;
pub mod settings;

pub use metrics::{Confusion, Reliability};
pub use probe::{ClassWeight, Probe, ProbeError, ProbeOptions};
pub use settings::{Evaluation, Options, Score, Setting, evaluate};
