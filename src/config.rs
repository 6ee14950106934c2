//! What was written ([`RawConfig`], later) becomes what was decided ([`Config`]), once, with every message a user may need.
//!
//! Why it exists: after start nothing is optional and nothing is looked up by name. What it must never do: hold a parameter
//! that changes what a model sees (those live in the model's manifest), or guess.

use std::path::PathBuf;
use std::time::Duration;

use crate::frame::Name;

/// Everything that was decided for one run of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the rig, used for frames that do not say their `source`.
    pub rig: Name,
    /// The model's manifest.
    pub model: PathBuf,
    /// Frames in.
    pub source: Source,
    /// Between receipt and compute.
    pub lane: Lane,
    /// Who computes.
    pub compute: Compute,
    /// Real-time rights and habits.
    pub realtime: Realtime,
    /// Decodes out.
    pub publish: Publish,
    /// Control socket.
    pub control: Control,
    /// Log lines.
    pub log: Log,
}

/// Frames in over ZeroMQ.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// `tcp://…` or `ipc://…`.
    pub endpoint: String,
    /// SUB or PULL.
    pub pattern: Pattern,
    /// Connect to the microscope, or let it connect to us.
    pub attach: Attach,
    /// SUB: topic prefix subscribed to; empty = everything.
    pub topic: String,
    /// Receive queue, messages.
    pub hwm: i32,
    /// Largest frame taken, bytes: slots of the lane are made for it.
    pub frame_bytes_max: usize,
    /// Only this plane of a volume is decoded; frames that say another `plane` are passed over silently.
    pub plane: Option<u64>,
    /// Does a new series begin a new animal (template, baseline, statistics forgotten)?
    pub new_series: NewSeries,
}

/// Which ZeroMQ socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// SUB: the sender does not wait for us.
    Sub,
    /// PULL: the sender is held back when we are slow.
    Pull,
}

/// Who binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The daemon binds.
    Bind,
    /// The daemon connects.
    Connect,
}

/// What a new series means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSeries {
    /// Same animal, next trial.
    Keep,
    /// A new animal: everything learnt of the old one is forgotten.
    Reset,
}

/// The lane between receipt and compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Frames that may wait.
    pub depth_frames: usize,
    /// What happens when they are too many.
    pub overload: Overload,
}

/// What happens when compute is slower than the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Decode the newest frame; the older ones are skipped and counted.
    SkipToLatest,
    /// Decode every frame; the source is read no faster than frames are decoded.
    Wait,
}

/// Who computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compute {
    /// Which device.
    pub device: Device,
    /// Threads of ONNX Runtime; 1 is steadiest.
    pub threads: usize,
    /// ONNX Runtime's shared library; `None` = `ORT_DYLIB_PATH`, then beside the executable, then `.runtime/`.
    pub onnxruntime: Option<PathBuf>,
}

/// Which device preprocesses and encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The best there is; the log says which and why.
    Auto,
}

/// Real-time rights and habits. What is denied is a named warning, never a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realtime {
    /// Core of the ingest thread.
    pub ingest_core: Option<usize>,
    /// Core of the compute thread.
    pub compute_core: Option<usize>,
    /// Core of the publish thread.
    pub publish_core: Option<usize>,
    /// SCHED_FIFO priority of the three threads, 1 to 99; `None` = ordinary scheduling.
    pub priority: Option<u8>,
    /// Lock all memory into RAM.
    pub lock_memory: bool,
    /// How an idle thread waits.
    pub wait: Wait,
}

/// How an idle thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Burn a core: fastest wake-up.
    Spin,
    /// Give the core away between looks.
    Yield,
    /// Sleep until woken: no cost, some microseconds later.
    Park,
}

/// Decodes out over ZeroMQ.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// PUB endpoint, bound.
    pub endpoint: String,
    /// Send queue per subscriber, messages; beyond it that subscriber loses messages.
    pub hwm: i32,
    /// A decode older than this is stale: neutral action, then silence.
    pub deadline: Duration,
    /// Period of the heartbeat.
    pub heartbeat: Duration,
    /// Period of the status.
    pub status: Duration,
    /// The action that does no harm, published when there is no fresh decode.
    pub neutral_action: String,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// REP endpoint, bound; `None` = no control socket.
    pub endpoint: Option<String>,
}

/// Log lines on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}
