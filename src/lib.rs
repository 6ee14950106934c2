//! haltere: live two-photon frames in, action embeddings out.
//!
//! ```text
//!         thread "ingest"        │          thread "compute"            │        thread "publish"
//!  source ─▶ wire ─▶ frame ─lane─▶ preprocess ─▶ encode ─▶ decode ─lane─▶ wire ─▶ sinks (ZeroMQ, file, …)
//!                                │                                      │
//!  main thread = supervisor: signals, control socket, log, exit code. It never touches a frame.
//! ```
//!
//! Data flows one way. The rooms below are listed from the ground up: each uses only rooms above it in this list.
//! `ARCHITECTURE.md` says what each is for, and holds the invariants: same in, same out; nothing allocates on the frame path;
//! no real-time stage ever blocks; stop is end-of-stream; the CPU is the oracle; a stale decode never looks fresh; every
//! limit is stated.

pub mod frame;

pub mod sys;

pub mod decide;

pub mod config;

pub mod wire;

pub mod model;

pub mod publish;

pub mod session;

pub mod source;

pub mod cuda;

pub mod preprocess;

pub mod encode;

pub mod decoder;

pub mod corridor;

pub mod simulate;

pub mod client;

pub mod dataset;

pub mod evaluate;

pub mod report;

#[cfg(feature = "train")]
pub mod train;

pub mod cli;
