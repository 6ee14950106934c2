//! haltere: live two-photon frames in, action embeddings out.
pub mod bench;
pub mod config;
pub mod control;
pub mod encode;
pub mod event;
pub mod frame;
pub mod lane;
pub mod model;
pub mod pipeline;
pub mod preprocess;
pub mod publish;
pub mod rt;
pub mod source;
pub mod stats;
#[cfg(feature = "train")]
pub mod train;
pub mod wire;
