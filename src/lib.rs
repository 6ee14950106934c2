//! haltere: live two-photon frames in, action embeddings out.
//!
//! ```text
//!         thread "ingest"        │          thread "compute"            │        thread "publish"
//!  source ─▶ wire ─▶ frame ─lane─▶ preprocess ─▶ encode ─▶ decode ─lane─▶ wire ─▶ sinks (ZeroMQ, file, …)
//!                                │                                      │
//!  main thread = supervisor: signals, control socket, log, exit code. It never touches a frame.
//! ```
//!
//! Data flows one way, and the modules below stand in its order. `ARCHITECTURE.md` holds the invariants: same in, same
//! out; nothing allocates on the frame path; nothing waits that must not; stop is end-of-stream; the CPU is the oracle; a
//! stale decode never looks fresh; every limit is stated.

pub mod event;
pub mod frame;
pub mod stats;
pub mod swap;

pub mod config;
pub mod model;
pub mod wire;

pub mod session;

pub mod source;

pub mod lane;
pub mod rhythm;
pub mod rt;

pub mod cuda;
pub mod preprocess;

pub mod encode;

pub mod publish;
pub mod record;

pub mod pipeline;

pub mod simulate;

#[cfg(feature = "train")]
pub mod train;

pub mod bench;
#[cfg(feature = "train")]
pub mod calibrate;
pub mod check;
pub mod cli;
pub mod commands;
pub mod control;
pub mod decoder;
pub mod embed;
pub mod exit;
pub mod labels;
pub mod log;
pub mod model_command;
pub mod monitor;
pub mod play;
pub mod report;
#[cfg(feature = "train")]
pub mod report_command;
pub mod run;
pub mod session_command;
pub mod simulate_command;
#[cfg(feature = "train")]
pub mod train_command;
pub mod watch;
