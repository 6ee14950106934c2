//! haltere: live two-photon frames in, action embeddings out.
pub mod config;
pub mod encode;
pub mod event;
pub mod frame;
pub mod model;
pub mod model_command;
pub mod preprocess;
pub mod publish;
pub mod source;
pub mod stats;
#[cfg(feature = "train")]
pub mod train;
pub mod wire;
