//! What the test programs share; each of them uses its part.
//!
//! A program links all of haltere, so there are few: a folder each, and within it a file for each subject, whose tests
//! `cargo test --test daemon swap::` runs alone. A file beside the folders is a program because its allocator, its ONNX Runtime or its CUDA
//! driver is that of the whole process. Tests that measure times live in `daemon`, where nothing trains or opens a browser.
#![allow(dead_code, reason = "every test program uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

pub mod conformance;
#[cfg(feature = "train")]
pub mod corridor;
pub mod emulator;
pub mod fly;
pub mod nwb;
pub mod nwb_session;
pub mod old_peers;
pub mod oracle;
pub mod process;
pub mod scanbox;
pub mod scene;
pub mod tiffs;
pub mod tissue;
pub mod web;
