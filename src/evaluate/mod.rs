//! Evaluates a representation: probes, scores, chance, calibration, domain gap. Plain arithmetic on plain arrays.
//!
//! Why it exists: every method is judged by the same code, on values that any encoder can produce ([`Representation`]). What it
//! must never do: touch an encoder's weights, read or write a file, or draw at random without a seed.
//!
//! [`Representation`]: super::dataset::trials::Representation

pub mod questions;

pub mod calibration;
pub mod domain_gap;
pub mod ladder;
pub mod lbfgs;
pub mod lda;
pub mod metrics;
pub mod novelty;
pub mod output_table;
pub mod pixels;
pub mod probe;
pub mod readout;
pub mod reference_losses;
pub mod ridge;
pub mod rivals;
mod rows;
pub mod summary;
pub mod table;

pub use calibration::{Calibration, fit_temperature};
pub use domain_gap::{DomainGap, GapOptions, domain_gap};
pub use metrics::{Confusion, Reliability};
pub use novelty::{fit_novelty, novelty_of};
pub use output_table::{OutputRun, output_table, outputs_to_csv};
pub use probe::{ClassWeight, Probe, ProbeError, ProbeOptions};
pub use questions::{
    Evaluation, Options, OutputScore, Question, Score, evaluate, evaluate_outputs, evaluate_published,
};
pub use readout::{Readout, Rows, Strengths};
pub use summary::{Metric, Run, Summary, summarise};
pub use table::Table;
