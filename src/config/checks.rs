//! Checks across keys: contradictions between valid values, and warnings.
//!
//! Why it exists: two valid values can make an invalid rig. What it must never do: access the machine; that is for `haltere check`.

use std::path::{Path, PathBuf};

use super::endpoint::Endpoint;
use super::error::{ConfigError, Place, Problem};
use super::raw::RawConfig;
use super::{Attach, Config, Overload, Pattern, Wait};
use crate::frame::Name;

/// A lane larger than this is worth a warning, bytes.
const LANE_BYTES_NOTED: usize = 1 << 30;

/// Ports that other programs on a rig use by default.
const TAKEN: [(std::ops::RangeInclusive<u16>, &str); 3] =
    [(5555..=5557, "Open Ephys"), (4827..=4827, "Micro-Manager"), (65179..=65179, "ScanImage")];

/// A setting that is allowed but may be unintended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A socket that other machines can reach.
    #[error(
        "`{key}` = \"{endpoint}\" can be reached from other machines, without keys or encryption, because `insecure` = true: \
         whoever is on that network can use this socket"
    )]
    NotLoopback {
        /// Dotted key.
        key: &'static str,
        /// What was written.
        endpoint: String,
    },
    /// A library that a recorded session named.
    #[error(
        "`{key}` of the session's own configuration is ignored: a recording does not choose which library is loaded; set it with \
         --set or in your own configuration"
    )]
    LibraryOfSession {
        /// Dotted key.
        key: &'static str,
    },
    /// Streams that other machines can find.
    #[error(
        "`lsl.name` = \"{name}\": Lab Streaming Layer announces its streams to the network and lets every machine there read them, \
         unless LSLAPICFG names a file that says ResolveScope = machine (see [lsl] in config/default.toml)"
    )]
    LslAnnounced {
        /// The streams.
        name: Name,
    },
    /// A port that another program on a rig uses by default.
    #[error("`{key}` uses port {port}, the default of {by}; haltere's own ports are 5710 to 5713")]
    TakenPort {
        /// Dotted key.
        key: &'static str,
        /// The port.
        port: u16,
        /// Whose it is.
        by: &'static str,
    },
    /// A lane that needs much memory.
    #[error(
        "`lane.depth_frames` × `source.frame_max_mib` makes a lane of {mib} MiB: set `source.frame_max_mib` to what your \
         microscope sends"
    )]
    LaneMemory {
        /// Its size.
        mib: usize,
    },
    /// A recorder that needs much memory.
    #[error(
        "`record.queue_frames` × `source.frame_max_mib` makes a queue of {mib} MiB: set `source.frame_max_mib` to what your \
         microscope sends"
    )]
    QueueMemory {
        /// Its size.
        mib: usize,
    },
    /// Two threads on one core.
    #[error("`{first}` and `{second}` are both core {core}: the two threads share it; give each a core of its own")]
    SharedCore {
        /// Dotted key.
        first: &'static str,
        /// Dotted key.
        second: &'static str,
        /// The core.
        core: usize,
    },
    /// Threads that spin with real-time priority wherever they land.
    #[error(
        "`realtime.wait` = \"spin\" with `realtime.priority` set and threads not pinned: on a machine with few cores they can \
         starve all other programs; set the three `realtime.…_core` keys, or set `realtime.wait` to \"park\""
    )]
    SpinUnpinned,
    /// A policy that the pattern does not support.
    #[error(
        "`lane.overload` = \"wait\" with `source.pattern` = \"sub\": a PUB sender does not wait and drops frames itself; use PUSH \
         and \"pull\" if every frame must be decoded"
    )]
    WaitOnSub,
}

/// A key and its value, as shown in a message.
struct Setting {
    key: &'static str,
    value: String,
}

impl Setting {
    fn new(key: &'static str, value: impl ToString) -> Self {
        Self { key, value: value.to_string() }
    }

    fn quoted(key: &'static str, value: impl std::fmt::Display) -> Self {
        Self { key, value: format!("\"{value}\"") }
    }
}

/// Rejects values that contradict each other.
pub(super) fn contradictions(config: &Config, raw: &RawConfig) -> Result<(), ConfigError> {
    let publish = &config.publish;
    if publish.deadline < publish.heartbeat {
        let deadline = Setting::new("publish.deadline_ms", publish.deadline.as_millis());
        let heartbeat = Setting::new("publish.heartbeat_ms", publish.heartbeat.as_millis());
        let why = "the deadline must not be shorter than the heartbeat, or subscribers would assume the daemon dead between two heartbeats";
        return Err(contradiction(raw, deadline, heartbeat, why));
    }
    let endpoints = endpoints(config);
    for (index, (key, endpoint, _)) in endpoints.iter().enumerate() {
        for (other, taken, _) in &endpoints[..index] {
            if endpoint.collides_with(taken) {
                let why = "two sockets cannot share an endpoint; give each its own";
                return Err(contradiction(raw, Setting::quoted(key, endpoint), Setting::quoted(other, taken), why));
            }
        }
    }
    for (key, endpoint, bound) in &endpoints {
        if !bound && endpoint.is_wildcard() {
            let attach = Setting::quoted("source.attach", "connect");
            let why =
                "connecting needs the address of one machine; an address for every interface works only with \"bind\"";
            return Err(contradiction(raw, Setting::quoted(key, endpoint), attach, why));
        }
        if *bound && !endpoint.is_local() && config.curve.key.is_none() && !config.insecure {
            let allowed = "other machines can reach it, and without keys everyone there can use it: set `curve.key` and \
                           `curve.clients` (`haltere keys` makes keys), or bind to tcp://127.0.0.1:port or ipc:///path, or, on a \
                           network of the rig's own, accept that with `insecure` = true";
            let value = format!("\"{endpoint}\"");
            let problem = Problem::Range { key: (*key).to_owned(), value, allowed: allowed.to_owned() };
            return Err(ConfigError::new(raw.place_of(key), problem));
        }
    }
    half_given_keys(config, raw)
}

/// Keys that are of no use without others.
fn half_given_keys(config: &Config, raw: &RawConfig) -> Result<(), ConfigError> {
    let of = |key, path: &Option<PathBuf>| Setting::quoted(key, path.as_deref().unwrap_or(Path::new("off")).display());
    let curve = &config.curve;
    let (key, clients) = (of("curve.key", &curve.key), of("curve.clients", &curve.clients));
    if curve.key.is_some() != curve.clients.is_some() {
        let why = "the daemon's own key and the folder with the public keys of its clients are needed together";
        return Err(contradiction(raw, key, clients, why));
    }
    let sender = of("curve.sender", &curve.sender);
    if curve.sender.is_some() && curve.key.is_none() {
        let why = "to connect to a sender with keys, the daemon needs one of its own";
        return Err(contradiction(raw, sender, key, why));
    }
    if curve.sender.is_some() && config.source.attach == Attach::Bind {
        let why = "a sender that connects here is one of the clients: put its public key into `curve.clients`";
        return Err(contradiction(raw, sender, Setting::quoted("source.attach", "bind"), why));
    }
    Ok(())
}

/// Key, endpoint, and whether the daemon binds it. All were checked when they were read.
fn endpoints(config: &Config) -> Vec<(&'static str, Endpoint, bool)> {
    // A source that follows a file opens no socket.
    let connects = config.source.follow.is_none();
    let source = ("source.endpoint", connects.then_some(&config.source.endpoint), config.source.attach == Attach::Bind);
    let publish = ("publish.endpoint", Some(&config.publish.endpoint), true);
    let plain = ("plain.endpoint", config.plain.endpoint.as_ref(), true);
    let binary = ("binary.endpoint", config.binary.endpoint.as_ref(), true);
    let control = ("control.endpoint", config.control.endpoint.as_ref(), true);
    let inlet = ("inlet.endpoint", config.inlet.endpoint.as_ref(), true);
    let all = [source, publish, plain, binary, control, inlet].into_iter();
    all.filter_map(|(key, text, bound)| Some((key, text?.parse().ok()?, bound))).collect()
}

/// The place shown is where the user wrote one of the two; if both, the first.
fn contradiction(raw: &RawConfig, first: Setting, second: Setting, why: &'static str) -> ConfigError {
    let place = match raw.place_of(first.key) {
        Place::Default => raw.place_of(second.key),
        place => place,
    };
    let (Setting { key, value }, Setting { key: other, value: other_value }) = (first, second);
    ConfigError::new(place, Problem::Contradiction { key, value, other, other_value, why })
}

/// Settings that are allowed but may be unintended.
pub(super) fn warnings(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (key, endpoint, bound) in endpoints(config) {
        if bound && !endpoint.is_local() && config.curve.key.is_none() {
            warnings.push(Warning::NotLoopback { key, endpoint: endpoint.to_string() });
        }
        // A source that connects to such a port may well want that very program.
        if let Endpoint::Tcp { port, .. } = endpoint
            && bound
            && let Some((_, by)) = TAKEN.iter().find(|(ports, _)| ports.contains(&port))
        {
            warnings.push(Warning::TakenPort { key, port, by });
        }
    }
    let lane_bytes = config.lane.depth_frames.saturating_mul(config.source.frame_bytes_max);
    if lane_bytes > LANE_BYTES_NOTED {
        warnings.push(Warning::LaneMemory { mib: lane_bytes / (1024 * 1024) });
    }
    let record = &config.record;
    let queue_bytes = record.queue_frames.saturating_mul(config.source.frame_bytes_max);
    if record.folder.is_some() && record.frames && queue_bytes > LANE_BYTES_NOTED {
        warnings.push(Warning::QueueMemory { mib: queue_bytes / (1024 * 1024) });
    }
    warnings.extend(config.lsl.name.map(|name| Warning::LslAnnounced { name }));
    realtime_warnings(config, &mut warnings);
    let live = config.source.pattern == Pattern::Sub && config.source.follow.is_none();
    if config.lane.overload == Overload::Wait && live {
        warnings.push(Warning::WaitOnSub);
    }
    warnings
}

fn realtime_warnings(config: &Config, warnings: &mut Vec<Warning>) {
    let realtime = &config.realtime;
    let cores = [
        ("realtime.ingest_core", realtime.ingest_core),
        ("realtime.compute_core", realtime.compute_core),
        ("realtime.publish_core", realtime.publish_core),
    ];
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        if let (Some(core), true) = (cores[a].1, cores[a].1 == cores[b].1) {
            warnings.push(Warning::SharedCore { first: cores[a].0, second: cores[b].0, core });
        }
    }
    let pinned = cores.iter().all(|(_, core)| core.is_some());
    if realtime.wait == Wait::Spin && realtime.priority.is_some() && !pinned {
        warnings.push(Warning::SpinUnpinned);
    }
}
