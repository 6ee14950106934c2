//! haltere: live two-photon frames in, action embeddings out.
pub mod check;
pub mod cli;
pub mod config;
pub mod encode;
pub mod event;
pub mod exit;
pub mod frame;
pub mod model;
pub mod preprocess;
pub mod publish;
pub mod source;
pub mod stats;
pub mod wire;
