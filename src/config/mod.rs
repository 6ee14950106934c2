//! The configuration: what was written ([`RawConfig`]) becomes what was decided ([`Config`]), once, with every error message.
//!
//! Why it exists: after start nothing is optional and nothing is looked up by name. There are three layers, each overriding the
//! one before: the file, the environment (`HALTERE__SECTION__KEY`), the command line (`--set section.key=value`).
//! What it must never do: hold a parameter that changes what a model sees (those are in the model's manifest), or guess.
//!
//! `config/default.toml` is the manual of every key; the table of keys, ranges and setters is `keys.rs`; what a value may be is `kind.rs`.

mod checks;
pub mod endpoint;
mod error;
mod keys;
mod kind;
mod outlets;
mod put;
mod raw;
mod rule_list;
mod rules;
mod schema;
mod sockets;
pub mod template;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::decide::Rules;
use crate::frame::Name;

pub use checks::Warning;
pub use error::{ConfigError, Place, Problem};
pub use outlets::{Binary, Lsl, LslMarkers, Osc, Plain, Serial, SerialWrite, Ttl};
pub use raw::RawConfig;
pub use schema::schema;
pub use sockets::{Control, Inlet};

/// The variable that names the configuration file when `--config` does not.
pub const FILE_VARIABLE: &str = "HALTERE_CONFIG";
/// Prefix of the variables that set a key.
pub const VARIABLE_PREFIX: &str = "HALTERE__";
/// Largest configuration file read, bytes: a larger file is certainly not a configuration.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Name of a rig without a configured one.
const DEFAULT_RIG: Name = Name::literal("rig1");

/// The keys that a replay takes from the configuration in a session: words and small numbers that a decode may depend on. A path, an
/// address or the name of a library in it is of another machine, and perhaps of somebody else's choice.
const REPLAYED: &[&str] = &[
    "rig",
    "accept_ready_made_input",
    "compute.device",
    "compute.threads",
    "compute.encoder_graph",
    "decision.action",
];
/// Of the others, those that name code; ignoring them is told.
const LIBRARIES: &[&str] = &["compute.onnxruntime", "lsl.library"];

/// All decided values for one run of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the rig, used for frames without a `source`.
    pub rig: Name,
    /// The model's manifest.
    pub model: PathBuf,
    /// Run a model that was trained on input that the daemon cannot produce?
    pub accept_ready_made_input: bool,
    /// Bind sockets without keys where other machines can reach them?
    pub insecure: bool,
    /// Keys of the sockets.
    pub curve: Curve,
    /// Input frames.
    pub source: Source,
    /// Between receipt and compute.
    pub lane: Lane,
    /// Device and threads.
    pub compute: Compute,
    /// Real-time settings.
    pub realtime: Realtime,
    /// Published decodes.
    pub publish: Publish,
    /// Decodes as text.
    pub plain: Plain,
    /// Decodes as fixed bytes.
    pub binary: Binary,
    /// Decodes as Open Sound Control.
    pub osc: Osc,
    /// Actions on a serial line.
    pub serial: Serial,
    /// Pulses of decisions on lines.
    pub ttl: Ttl,
    /// Decodes on Lab Streaming Layer.
    pub lsl: Lsl,
    /// Control socket.
    pub control: Control,
    /// Marks with times.
    pub inlet: Inlet,
    /// What was learnt of animals, on disk.
    pub animal: Animal,
    /// What is decided with the decodes.
    pub decision: Rules,
    /// Sessions on disk.
    pub record: Record,
    /// Log lines.
    pub log: Log,
}

/// Keys of the sockets (CURVE): encryption, and who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// The daemon's own pair, `NAME.key_secret`; `None` = no keys anywhere.
    pub key: Option<PathBuf>,
    /// Folder with the public key of each client that may connect.
    pub clients: Option<PathBuf>,
    /// Public key of the sender that the source connects to; `None` = it sends without encryption.
    pub sender: Option<PathBuf>,
    /// Ask for keys on sockets that only this machine can reach as well?
    pub local: bool,
}

/// Input frames over ZeroMQ, or from a growing file.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// `tcp://…` or `ipc://…`.
    pub endpoint: String,
    /// SUB or PULL.
    pub pattern: Pattern,
    /// Connect to the microscope, or let it connect to the daemon.
    pub attach: Attach,
    /// SUB: topic prefix subscribed to; empty = everything.
    pub topic: String,
    /// Receive queue, messages.
    pub hwm: i32,
    /// Largest frame accepted, bytes: the slots of the lane have this size.
    pub frame_bytes_max: usize,
    /// Follow the raw file of this ThorImage folder instead of a socket.
    pub follow: Option<PathBuf>,
    /// Time between two checks of a followed file.
    pub follow_poll: Duration,
    /// With `--once`, a followed file that has not grown for this long has ended.
    pub follow_idle: Duration,
    /// A followed file that cannot be read is tried again for this long.
    pub follow_retry: Duration,
    /// Decode only this plane of a volume; frames of another `plane` are skipped silently.
    pub plane: Option<u64>,
    /// Does a new series mean a new animal (discard template, baseline, statistics)?
    pub new_series: NewSeries,
}

/// Which ZeroMQ socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// SUB: the sender does not wait for the daemon.
    Sub,
    /// PULL: a slow daemon slows the sender down.
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
    /// A new animal: everything learnt from the old one is discarded.
    Reset,
}

/// The lane between receipt and compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Frames that may be queued.
    pub depth_frames: usize,
    /// What happens when more arrive.
    pub overload: Overload,
}

/// What happens when decoding is slower than the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Decode the newest frame; the older ones are skipped and counted.
    SkipToLatest,
    /// Decode every frame; read the source no faster than frames are decoded.
    Wait,
}

/// Device and threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compute {
    /// Which device.
    pub device: Device,
    /// Threads of ONNX Runtime; 1 gives the steadiest latency.
    pub threads: usize,
    /// ONNX Runtime's shared library; `None` = `ORT_DYLIB_PATH`, then beside the executable, then `.runtime-gpu/` for a CUDA
    /// device, then what was installed with this program, then `.runtime/`.
    pub onnxruntime: Option<PathBuf>,
    /// Launch the model as one CUDA graph on a device.
    pub encoder_graph: bool,
    /// What to do when a device fails.
    pub on_device_fault: OnDeviceFault,
    /// How often an idle CUDA device runs a short kernel to keep its clock up; `None` = never.
    pub pulse: Option<Duration>,
}

/// What to do when a device fails during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeviceFault {
    /// End the run with the cause; publish the neutral action.
    Stop,
    /// Continue on the CPU after a new warm-up, with an event.
    Cpu,
}

/// Which device preprocesses and encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
    /// The best available; the log says which and why.
    Auto,
}

/// Highest number of a CUDA device.
const CUDA_ORDINAL_MAX: usize = 63;

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for Device {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "auto" => Ok(Self::Auto),
            _ => {
                let ordinal =
                    text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).filter(|n| *n <= CUDA_ORDINAL_MAX);
                ordinal.map(Self::Cuda).ok_or(())
            }
        }
    }
}

/// Real-time settings. A right that is denied gives a named warning, never a failure.
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
    /// Busy-wait: fastest reaction, occupies a core.
    Spin,
    /// Yield the core between checks.
    Yield,
    /// Sleep until woken: free, but some microseconds slower.
    Park,
    /// Sleep through most of a period, warm up, and be awake when the next frame is due.
    Anticipate,
}

/// Published decodes over ZeroMQ.
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
    /// Shortest time between two pictures for people; `None` = no pictures.
    pub preview_every: Option<Duration>,
    /// The action that does no harm, published when there is no fresh decode.
    pub neutral_action: String,
    /// What the decode of a frame that is not believed shows.
    pub when_distrusted: WhenDistrusted,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            endpoint: "tcp://127.0.0.1:5711".to_owned(),
            hwm: 64,
            deadline: Duration::from_millis(250),
            heartbeat: Duration::from_millis(100),
            status: Duration::from_millis(1000),
            preview_every: Some(Duration::from_millis(200)),
            neutral_action: "neutral".to_owned(),
            when_distrusted: WhenDistrusted::Hold,
        }
    }
}

impl Publish {
    /// How long a believed decode may be shown for frames that are not, by the frames' own times, ns; `None` = not at all.
    pub fn hold_ns(&self) -> Option<u64> {
        match self.when_distrusted {
            WhenDistrusted::Hold => Some(self.deadline.as_nanos() as u64),
            WhenDistrusted::Neutral => None,
        }
    }
}

/// What the decode of a frame that is not believed shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDistrusted {
    /// The last believed one, until it is older than the deadline; then the neutral action.
    Hold,
    /// The neutral action.
    Neutral,
}

/// How the chunks of a recording are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: photon noise does not compress, and a frame on its way to the disk costs no core.
    None,
    /// LZ4: for movies with much darkness.
    Lz4,
}

/// Sessions on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Folder for session files; `None` = never record.
    pub folder: Option<PathBuf>,
    /// Record from the first frame on?
    pub at_start: bool,
    /// Record the frames with their pixels?
    pub frames: bool,
    /// Frames that may be queued for the disk.
    pub queue_frames: usize,
    /// How chunks of the file are compressed.
    pub compression: Compression,
}

/// What was learnt of animals, saved by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Animal {
    /// The animal with which a run begins; `None` = it has no name and is not saved.
    pub name: Option<Name>,
    /// Folder of the saved states.
    pub folder: PathBuf,
    /// Save an animal that has a name at the end of a series and of the run?
    pub save: bool,
}

/// Log lines on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

impl Record {
    /// Nothing is recorded; what is written once there is a folder.
    const fn off() -> Self {
        Self { folder: None, at_start: true, frames: true, queue_frames: 64, compression: Compression::None }
    }
}

impl Default for Config {
    /// As in `config/default.toml`; a test compares the two.
    fn default() -> Self {
        Self {
            rig: DEFAULT_RIG,
            model: PathBuf::from("models/untrained.toml"),
            accept_ready_made_input: false,
            insecure: false,
            curve: Curve { key: None, clients: None, sender: None, local: true },
            source: Source {
                endpoint: "tcp://127.0.0.1:5710".to_owned(),
                pattern: Pattern::Sub,
                attach: Attach::Connect,
                topic: String::new(),
                hwm: 8,
                frame_bytes_max: 4 * keys::MIB,
                follow: None,
                follow_poll: Duration::from_millis(2),
                follow_idle: Duration::from_secs(10),
                follow_retry: Duration::from_secs(60),
                plane: None,
                new_series: NewSeries::Keep,
            },
            lane: Lane { depth_frames: 4, overload: Overload::SkipToLatest },
            compute: Compute {
                device: Device::Cpu,
                threads: 1,
                onnxruntime: None,
                encoder_graph: false,
                on_device_fault: OnDeviceFault::Stop,
                pulse: Some(Duration::from_millis(2)),
            },
            realtime: Realtime {
                ingest_core: None,
                compute_core: None,
                publish_core: None,
                priority: None,
                lock_memory: false,
                wait: Wait::Anticipate,
            },
            publish: Publish::default(),
            plain: Plain { endpoint: None, template: "{action} {confidence} {frame}".to_owned(), decisions: false },
            binary: Binary { endpoint: None, decisions: false },
            osc: Osc { receiver: None, embedding: false, decisions: false },
            serial: Serial { device: None, baud: 115_200, write: SerialWrite::Change, decisions: false },
            ttl: Ttl { device: None, lines: String::new(), active_low: false },
            lsl: Lsl { name: None, library: None, markers: LslMarkers::Change, decisions: false },
            control: Control { endpoint: Some("tcp://127.0.0.1:5712".to_owned()), rehearse: false },
            inlet: Inlet { endpoint: None, lsl: None },
            animal: Animal { name: None, folder: PathBuf::from("animals"), save: true },
            decision: Rules::default(),
            record: Record::off(),
            log: Log { filter: "info".to_owned(), json: false },
        }
    }
}

impl Config {
    /// Reads the layers and decides. The file is `path`, else the one that [`FILE_VARIABLE`] names in `environment`; without
    /// either the defaults hold, nothing is searched. Paths in the file are relative to the file, those from the environment
    /// and the command line to the current folder.
    ///
    /// `sets` are the texts given to `--set`, `section.key=value`, the last one wins.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load<I>(path: Option<&Path>, environment: I, sets: &[String]) -> Result<(Self, Vec<Warning>), ConfigError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let environment: Vec<_> = environment.into_iter().collect();
        let named = environment.iter().find(|(name, text)| name == FILE_VARIABLE && !text.is_empty());
        let mut raw = RawConfig::default();
        match (path, named) {
            (Some(path), _) => raw.read_file(path, "--config")?,
            (None, Some((_, text))) => raw.read_file(Path::new(text), FILE_VARIABLE)?,
            (None, None) => {}
        }
        Self::decide(raw, &environment, sets)
    }

    /// As [`Config::load`], over the configuration at `path` that was found in a recorded session: of it count only words and numbers that a
    /// decode may depend on. Whatever names a file, a library or an address is taken from the environment and `sets`, else the default.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_recorded<I>(path: &Path, environment: I, sets: &[String]) -> Result<(Self, Vec<Warning>), ConfigError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let mut raw = RawConfig::default();
        raw.read_file(path, "session")?;
        let forgotten = raw.keep_only(REPLAYED);
        let (config, mut warnings) = Self::decide(raw, &environment.into_iter().collect::<Vec<_>>(), sets)?;
        let libraries = forgotten.into_iter().filter(|key| LIBRARIES.contains(key));
        warnings.extend(libraries.map(|key| Warning::LibraryOfSession { key }));
        Ok((config, warnings))
    }

    fn decide(
        mut raw: RawConfig,
        environment: &[(String, String)],
        sets: &[String],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        raw.read_environment(environment)?;
        raw.read_sets(sets)?;
        let mut config = raw.decide();
        (config.decision.rules, config.decision.points) = rule_list::decide(&raw)?;
        checks::contradictions(&config, &raw)?;
        let warnings = checks::warnings(&config);
        Ok((config, warnings))
    }

    /// The effective configuration as a file that [`Config::load`] reads back to the same value.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in keys::KEYS {
            if key.section() != section {
                section = key.section();
                text.push_str(&format!("\n[{section}]\n"));
            }
            text.push_str(&format!("{} = {}\n", key.leaf(), (key.get)(self).to_toml()));
        }
        text.push_str(&rules::to_toml(&self.decision));
        text
    }
}

/// The process's environment as [`Config::load`] takes it: only haltere's variables.
pub fn environment() -> Vec<(String, String)> {
    let texts = std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()));
    texts.filter(|(name, _)| name == FILE_VARIABLE || name.starts_with(VARIABLE_PREFIX)).collect()
}

#[cfg(test)]
mod tests;
