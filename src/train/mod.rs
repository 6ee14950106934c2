//! The network, and the way from its weights to the ONNX file that the daemon runs.
//!
//! Why it exists: the network is defined once, so that what is trained, what is written to ONNX and what is compared with the
//! daemon's own encoder cannot drift apart. What it must never do: run on the frame path, or touch lane, pipeline or publish.

pub mod calibrate;
pub mod data;
pub mod dataset;
pub mod evaluate;
pub mod export;
pub mod head;
pub mod learnt;
pub mod network;
pub mod onnx;
pub mod onnx_read;
pub mod report;
pub mod spec;

pub use network::Network;
pub use spec::NetworkSpec;
