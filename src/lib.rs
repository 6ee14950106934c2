//! haltere: live two-photon frames in, action embeddings out.
pub mod config;
pub mod encode;
pub mod event;
pub mod frame;
pub mod model;
pub mod preprocess;
pub mod publish;
pub mod source;
pub mod stats;
pub mod watch;
pub mod wire;
