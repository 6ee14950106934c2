//! From recordings of several animals to a model that decodes the next one: network, methods, training, export, calibration.
//!
//! Why it exists: what is trained, what is written to ONNX and what the daemon runs share one definition and one preprocessing,
//! so that they cannot drift apart. What it must never do: run on the frame path, or use `corridor`, `publish` or `cli`.
//!
//! ```text
//!  dataset ─▶ batch (augment, behaviour) ─▶ learner (network, frame_pass, loss) ─▶ fit ─▶ represent ─▶ evaluate
//!                                                                                   └─▶ export::accept ─▶ models/
//! ```

pub mod domain_gaps;
pub mod metrics_log;
pub mod run_folder;

pub mod augment;
pub mod batch;
pub mod behaviour;
mod bounds;
pub mod calibrate;
pub mod compare;
pub mod export;
pub mod fit;
pub mod frame_pass;
pub mod learner;
mod linear_start;
pub mod loss;
pub mod network;
pub mod represent;
mod seeded;
pub mod settings;
pub mod spec;
mod statistics;
pub mod sweep;
mod target_loss;
mod targets;
pub mod time_filters;

pub use network::Network;
pub use spec::{NetworkKind, NetworkSpec};
