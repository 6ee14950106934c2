//! The table of keys: name, what is allowed, how it gets into [`Config`] and out again.
//!
//! Why it exists: reading, checking, suggesting, printing and the manual share one list; a test compares `config/default.toml`
//! with it. What it must never do: know about files or places.

use std::time::Duration;

use super::kind::{Kind, Value};
use super::put::{
    choice, ms, number, number_or, path, path_or, put_choice, put_maybe, put_ms, put_number, put_parsed, put_switch,
    put_text,
};
use super::{
    Attach, Compression, Config, LslMarkers, NewSeries, OnDeviceFault, Overload, Pattern, SerialWrite, Wait,
    WhenDistrusted,
};
use crate::decide::Condition;

/// Bytes of one mebibyte.
pub(super) const MIB: usize = 1024 * 1024;
/// Largest frame that headers can describe: two channels of 4096×4096 float32.
const FRAME_MIB_MAX: i64 = 128;

/// One key.
pub(super) struct Key {
    /// Dotted name.
    pub name: &'static str,
    pub kind: Kind,
    pub set: fn(&mut Config, &Value),
    pub get: fn(&Config) -> Value,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Key {
    /// What stands in `[…]`; empty for a key at the top of the file.
    pub fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The name within its section.
    pub fn leaf(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, leaf)| leaf)
    }
}

const PATTERNS: &[&str] = &["sub", "pull"];
const FAULTS: &[&str] = &["stop", "cpu"];
const ATTACH: &[&str] = &["bind", "connect"];
const NEW_SERIES: &[&str] = &["keep", "reset"];
const OVERLOADS: &[&str] = &["skip-to-latest", "wait"];
const SERIAL_WRITES: &[&str] = &["change", "every"];
const TTL_LEVELS: &[&str] = &["high", "low"];
const LSL_MARKERS: &[&str] = &["change", "every"];
const COMPRESSIONS: &[&str] = &["none", "lz4"];
const WHEN_DISTRUSTED: &[&str] = &["hold", "neutral"];
const WAITS: &[&str] = &["spin", "yield", "park", "anticipate"];
/// Cores that a thread may be pinned to; no rig has more.
const CORE: Kind = Kind::Integer { min: 0, max: 1023, unit: "", word: Some("any") };
/// Queue lengths; 0 would mean "without bound" to ZeroMQ, which nothing here is.
const HWM: Kind = Kind::Integer { min: 1, max: 10_000, unit: " messages", word: None };

pub(super) const fn period(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max, unit: " ms", word: None }
}

/// Every key, by section, in the order in which they are printed.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "rig",
        kind: Kind::Name { word: None },
        set: |c, v| c.rig = v.text().and_then(|t| t.parse().ok()).unwrap_or(c.rig),
        get: |c| Value::Text(c.rig.as_str().to_owned()),
    },
    Key {
        name: "model",
        kind: Kind::Path { word: None },
        set: |c, v| c.model = v.path().unwrap_or_default(),
        get: |c| path(&c.model),
    },
    Key {
        name: "accept_ready_made_input",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.accept_ready_made_input, v),
        get: |c| Value::Switch(c.accept_ready_made_input),
    },
    Key {
        name: "insecure",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.insecure, v),
        get: |c| Value::Switch(c.insecure),
    },
    Key {
        name: "curve.key",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.curve.key = v.path(),
        get: |c| path_or(c.curve.key.as_deref(), "off"),
    },
    Key {
        name: "curve.clients",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.curve.clients = v.path(),
        get: |c| path_or(c.curve.clients.as_deref(), "off"),
    },
    Key {
        name: "curve.sender",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.curve.sender = v.path(),
        get: |c| path_or(c.curve.sender.as_deref(), "off"),
    },
    Key {
        name: "curve.local",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.curve.local, v),
        get: |c| Value::Switch(c.curve.local),
    },
    Key {
        name: "source.endpoint",
        kind: Kind::Endpoint { word: None },
        set: |c, v| put_text(&mut c.source.endpoint, v),
        get: |c| Value::Text(c.source.endpoint.clone()),
    },
    Key {
        name: "source.pattern",
        kind: Kind::Choice(PATTERNS),
        set: |c, v| put_choice(&mut c.source.pattern, v, &[Pattern::Sub, Pattern::Pull]),
        get: |c| choice(PATTERNS, c.source.pattern as usize),
    },
    Key {
        name: "source.attach",
        kind: Kind::Choice(ATTACH),
        set: |c, v| put_choice(&mut c.source.attach, v, &[Attach::Bind, Attach::Connect]),
        get: |c| choice(ATTACH, c.source.attach as usize),
    },
    Key {
        name: "source.topic",
        kind: Kind::Text { empty: true },
        set: |c, v| put_text(&mut c.source.topic, v),
        get: |c| Value::Text(c.source.topic.clone()),
    },
    Key { name: "source.hwm", kind: HWM, set: |c, v| put_number(&mut c.source.hwm, v), get: |c| number(c.source.hwm) },
    Key {
        name: "source.frame_max_mib",
        kind: Kind::Integer { min: 1, max: FRAME_MIB_MAX, unit: " MiB", word: None },
        set: |c, v| c.source.frame_bytes_max = v.number().unwrap_or(1).clamp(1, FRAME_MIB_MAX) as usize * MIB,
        get: |c| number(c.source.frame_bytes_max.div_ceil(MIB)),
    },
    Key {
        name: "source.follow",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.source.follow = v.path(),
        get: |c| path_or(c.source.follow.as_deref(), "off"),
    },
    Key {
        name: "source.follow_poll_ms",
        kind: period(1, 50),
        set: |c, v| put_ms(&mut c.source.follow_poll, v),
        get: |c| ms(c.source.follow_poll),
    },
    Key {
        name: "source.follow_idle_s",
        kind: Kind::Integer { min: 1, max: 3600, unit: " s", word: None },
        set: |c, v| c.source.follow_idle = Duration::from_secs(v.number().unwrap_or(1).unsigned_abs()),
        get: |c| number(c.source.follow_idle.as_secs()),
    },
    Key {
        name: "source.follow_retry_s",
        kind: Kind::Integer { min: 1, max: 3600, unit: " s", word: None },
        set: |c, v| c.source.follow_retry = Duration::from_secs(v.number().unwrap_or(1).unsigned_abs()),
        get: |c| number(c.source.follow_retry.as_secs()),
    },
    Key {
        name: "source.plane",
        kind: Kind::Integer { min: 0, max: 100_000, unit: "", word: Some("all") },
        set: |c, v| put_maybe(&mut c.source.plane, v),
        get: |c| number_or(c.source.plane, "all"),
    },
    Key {
        name: "source.new_series",
        kind: Kind::Choice(NEW_SERIES),
        set: |c, v| put_choice(&mut c.source.new_series, v, &[NewSeries::Keep, NewSeries::Reset]),
        get: |c| choice(NEW_SERIES, c.source.new_series as usize),
    },
    Key {
        name: "lane.depth_frames",
        kind: Kind::Integer { min: 1, max: 1024, unit: " frames", word: None },
        set: |c, v| put_number(&mut c.lane.depth_frames, v),
        get: |c| number(c.lane.depth_frames),
    },
    Key {
        name: "lane.overload",
        kind: Kind::Choice(OVERLOADS),
        set: |c, v| put_choice(&mut c.lane.overload, v, &[Overload::SkipToLatest, Overload::Wait]),
        get: |c| choice(OVERLOADS, c.lane.overload as usize),
    },
    Key {
        name: "compute.device",
        kind: Kind::Device,
        set: |c, v| c.compute.device = v.text().and_then(|text| text.parse().ok()).unwrap_or(c.compute.device),
        get: |c| Value::Text(c.compute.device.to_string()),
    },
    Key {
        name: "compute.threads",
        kind: Kind::Integer { min: 1, max: 64, unit: "", word: None },
        set: |c, v| put_number(&mut c.compute.threads, v),
        get: |c| number(c.compute.threads),
    },
    Key {
        name: "compute.onnxruntime",
        kind: Kind::Path { word: Some("search") },
        set: |c, v| c.compute.onnxruntime = v.path(),
        get: |c| path_or(c.compute.onnxruntime.as_deref(), "search"),
    },
    Key {
        name: "compute.encoder_graph",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.compute.encoder_graph, v),
        get: |c| Value::Switch(c.compute.encoder_graph),
    },
    Key {
        name: "compute.on_device_fault",
        kind: Kind::Choice(FAULTS),
        set: |c, v| put_choice(&mut c.compute.on_device_fault, v, &[OnDeviceFault::Stop, OnDeviceFault::Cpu]),
        get: |c| choice(FAULTS, c.compute.on_device_fault as usize),
    },
    Key {
        name: "compute.pulse_ms",
        kind: Kind::Integer { min: 1, max: 1000, unit: " ms", word: Some("off") },
        set: |c, v| c.compute.pulse = v.number().and_then(|n| u64::try_from(n).ok()).map(Duration::from_millis),
        get: |c| c.compute.pulse.map_or(Value::Word("off"), ms),
    },
    Key {
        name: "realtime.ingest_core",
        kind: CORE,
        set: |c, v| put_maybe(&mut c.realtime.ingest_core, v),
        get: |c| number_or(c.realtime.ingest_core, "any"),
    },
    Key {
        name: "realtime.compute_core",
        kind: CORE,
        set: |c, v| put_maybe(&mut c.realtime.compute_core, v),
        get: |c| number_or(c.realtime.compute_core, "any"),
    },
    Key {
        name: "realtime.publish_core",
        kind: CORE,
        set: |c, v| put_maybe(&mut c.realtime.publish_core, v),
        get: |c| number_or(c.realtime.publish_core, "any"),
    },
    Key {
        name: "realtime.priority",
        kind: Kind::Integer { min: 1, max: 99, unit: "", word: Some("ordinary") },
        set: |c, v| put_maybe(&mut c.realtime.priority, v),
        get: |c| number_or(c.realtime.priority, "ordinary"),
    },
    Key {
        name: "realtime.lock_memory",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.realtime.lock_memory, v),
        get: |c| Value::Switch(c.realtime.lock_memory),
    },
    Key {
        name: "realtime.wait",
        kind: Kind::Choice(WAITS),
        set: |c, v| put_choice(&mut c.realtime.wait, v, &[Wait::Spin, Wait::Yield, Wait::Park, Wait::Anticipate]),
        get: |c| choice(WAITS, c.realtime.wait as usize),
    },
    Key {
        name: "publish.endpoint",
        kind: Kind::Endpoint { word: None },
        set: |c, v| put_text(&mut c.publish.endpoint, v),
        get: |c| Value::Text(c.publish.endpoint.clone()),
    },
    Key {
        name: "publish.hwm",
        kind: HWM,
        set: |c, v| put_number(&mut c.publish.hwm, v),
        get: |c| number(c.publish.hwm),
    },
    Key {
        name: "publish.deadline_ms",
        kind: period(20, 60_000),
        set: |c, v| put_ms(&mut c.publish.deadline, v),
        get: |c| ms(c.publish.deadline),
    },
    Key {
        name: "publish.heartbeat_ms",
        kind: period(10, 10_000),
        set: |c, v| put_ms(&mut c.publish.heartbeat, v),
        get: |c| ms(c.publish.heartbeat),
    },
    Key {
        name: "publish.status_ms",
        kind: period(100, 60_000),
        set: |c, v| put_ms(&mut c.publish.status, v),
        get: |c| ms(c.publish.status),
    },
    Key {
        name: "publish.preview_hz",
        kind: Kind::Integer { min: 0, max: 50, unit: " pictures per second", word: None },
        set: |c, v| {
            let hz = v.number().and_then(|n| u32::try_from(n).ok()).filter(|&hz| hz > 0);
            c.publish.preview_every = hz.map(|hz| Duration::from_secs(1) / hz);
        },
        get: |c| number(c.publish.preview_every.map_or(0, |every| (1.0 / every.as_secs_f64()).round() as i64)),
    },
    Key {
        name: "publish.neutral_action",
        kind: Kind::Name { word: None },
        set: |c, v| put_text(&mut c.publish.neutral_action, v),
        get: |c| Value::Text(c.publish.neutral_action.clone()),
    },
    Key {
        name: "publish.when_distrusted",
        kind: Kind::Choice(WHEN_DISTRUSTED),
        set: |c, v| {
            put_choice(&mut c.publish.when_distrusted, v, &[WhenDistrusted::Hold, WhenDistrusted::Neutral]);
        },
        get: |c| choice(WHEN_DISTRUSTED, c.publish.when_distrusted as usize),
    },
    Key {
        name: "plain.endpoint",
        kind: Kind::Endpoint { word: Some("off") },
        set: |c, v| c.plain.endpoint = v.text().map(str::to_owned),
        get: |c| c.plain.endpoint.clone().map_or(Value::Word("off"), Value::Text),
    },
    Key {
        name: "plain.template",
        kind: Kind::Template,
        set: |c, v| put_text(&mut c.plain.template, v),
        get: |c| Value::Text(c.plain.template.clone()),
    },
    Key {
        name: "plain.decisions",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.plain.decisions, v),
        get: |c| Value::Switch(c.plain.decisions),
    },
    Key {
        name: "binary.endpoint",
        kind: Kind::Endpoint { word: Some("off") },
        set: |c, v| c.binary.endpoint = v.text().map(str::to_owned),
        get: |c| c.binary.endpoint.clone().map_or(Value::Word("off"), Value::Text),
    },
    Key {
        name: "binary.decisions",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.binary.decisions, v),
        get: |c| Value::Switch(c.binary.decisions),
    },
    Key {
        name: "osc.receiver",
        kind: Kind::Address { word: Some("off") },
        set: |c, v| c.osc.receiver = v.text().and_then(|t| t.parse().ok()),
        get: |c| c.osc.receiver.map_or(Value::Word("off"), |receiver| Value::Text(receiver.to_string())),
    },
    Key {
        name: "osc.embedding",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.osc.embedding, v),
        get: |c| Value::Switch(c.osc.embedding),
    },
    Key {
        name: "osc.decisions",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.osc.decisions, v),
        get: |c| Value::Switch(c.osc.decisions),
    },
    Key {
        name: "serial.device",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.serial.device = v.path(),
        get: |c| path_or(c.serial.device.as_deref(), "off"),
    },
    Key {
        name: "serial.baud",
        kind: Kind::Integer { min: 300, max: 4_000_000, unit: " bits/s", word: None },
        set: |c, v| put_number(&mut c.serial.baud, v),
        get: |c| number(c.serial.baud),
    },
    Key {
        name: "serial.write",
        kind: Kind::Choice(SERIAL_WRITES),
        set: |c, v| put_choice(&mut c.serial.write, v, &[SerialWrite::Change, SerialWrite::Every]),
        get: |c| choice(SERIAL_WRITES, c.serial.write as usize),
    },
    Key {
        name: "serial.decisions",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.serial.decisions, v),
        get: |c| Value::Switch(c.serial.decisions),
    },
    Key {
        name: "ttl.device",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.ttl.device = v.path(),
        get: |c| path_or(c.ttl.device.as_deref(), "off"),
    },
    Key {
        name: "ttl.lines",
        kind: Kind::Text { empty: true },
        set: |c, v| c.ttl.lines = v.text().unwrap_or_default().to_owned(),
        get: |c| Value::Text(c.ttl.lines.clone()),
    },
    Key {
        name: "ttl.active",
        kind: Kind::Choice(TTL_LEVELS),
        set: |c, v| put_choice(&mut c.ttl.active_low, v, &[false, true]),
        get: |c| choice(TTL_LEVELS, usize::from(c.ttl.active_low)),
    },
    Key {
        name: "lsl.name",
        kind: Kind::Name { word: Some("off") },
        set: |c, v| c.lsl.name = v.text().and_then(|t| t.parse().ok()),
        get: |c| c.lsl.name.map_or(Value::Word("off"), |name| Value::Text(name.as_str().to_owned())),
    },
    Key {
        name: "lsl.library",
        kind: Kind::Path { word: Some("search") },
        set: |c, v| c.lsl.library = v.path(),
        get: |c| path_or(c.lsl.library.as_deref(), "search"),
    },
    Key {
        name: "lsl.markers",
        kind: Kind::Choice(LSL_MARKERS),
        set: |c, v| put_choice(&mut c.lsl.markers, v, &[LslMarkers::Change, LslMarkers::Every]),
        get: |c| choice(LSL_MARKERS, c.lsl.markers as usize),
    },
    Key {
        name: "lsl.decisions",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.lsl.decisions, v),
        get: |c| Value::Switch(c.lsl.decisions),
    },
    Key {
        name: "control.endpoint",
        kind: Kind::Endpoint { word: Some("off") },
        set: |c, v| c.control.endpoint = v.text().map(str::to_owned),
        get: |c| c.control.endpoint.clone().map_or(Value::Word("off"), Value::Text),
    },
    Key {
        name: "control.rehearse",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.control.rehearse, v),
        get: |c| Value::Switch(c.control.rehearse),
    },
    Key {
        name: "inlet.endpoint",
        kind: Kind::Endpoint { word: Some("off") },
        set: |c, v| c.inlet.endpoint = v.text().map(str::to_owned),
        get: |c| c.inlet.endpoint.clone().map_or(Value::Word("off"), Value::Text),
    },
    Key {
        name: "inlet.lsl",
        kind: Kind::Text { empty: true },
        set: |c, v| c.inlet.lsl = v.text().filter(|name| !name.is_empty()).map(str::to_owned),
        get: |c| Value::Text(c.inlet.lsl.clone().unwrap_or_default()),
    },
    Key {
        name: "animal.name",
        kind: Kind::Name { word: Some("off") },
        set: |c, v| c.animal.name = v.text().and_then(|t| t.parse().ok()),
        get: |c| c.animal.name.map_or(Value::Word("off"), |name| Value::Text(name.as_str().to_owned())),
    },
    Key {
        name: "animal.folder",
        kind: Kind::Path { word: None },
        set: |c, v| c.animal.folder = v.path().unwrap_or_default(),
        get: |c| path(&c.animal.folder),
    },
    Key {
        name: "animal.save",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.animal.save, v),
        get: |c| Value::Switch(c.animal.save),
    },
    Key {
        name: "decision.action.on",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.decision.action.on, v),
        get: |c| Value::Switch(c.decision.action.on),
    },
    Key {
        name: "decision.action.when",
        kind: Kind::Condition { of_action: true },
        set: |c, v| {
            let read = v.text().and_then(|text| Condition::read(text, true).ok());
            c.decision.action.when = read.unwrap_or_else(|| c.decision.action.when.clone());
        },
        get: |c| Value::Text(c.decision.action.when.text().to_owned()),
    },
    Key {
        name: "decision.action.enter_frames",
        kind: Kind::Frames,
        set: |c, v| put_parsed(&mut c.decision.action.enter.frames, v),
        get: |c| Value::Text(c.decision.action.enter.frames.to_string()),
    },
    Key {
        name: "decision.action.enter_ms",
        kind: period(0, 60_000),
        set: |c, v| put_number(&mut c.decision.action.enter.ms, v),
        get: |c| number(c.decision.action.enter.ms),
    },
    Key {
        name: "record.folder",
        kind: Kind::Path { word: Some("off") },
        set: |c, v| c.record.folder = v.path(),
        get: |c| path_or(c.record.folder.as_deref(), "off"),
    },
    Key {
        name: "record.at_start",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.record.at_start, v),
        get: |c| Value::Switch(c.record.at_start),
    },
    Key {
        name: "record.frames",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.record.frames, v),
        get: |c| Value::Switch(c.record.frames),
    },
    Key {
        name: "record.queue_frames",
        kind: Kind::Integer { min: 2, max: 4096, unit: " frames", word: None },
        set: |c, v| put_number(&mut c.record.queue_frames, v),
        get: |c| number(c.record.queue_frames),
    },
    Key {
        name: "record.compression",
        kind: Kind::Choice(COMPRESSIONS),
        set: |c, v| put_choice(&mut c.record.compression, v, &[Compression::None, Compression::Lz4]),
        get: |c| choice(COMPRESSIONS, c.record.compression as usize),
    },
    Key {
        name: "log.filter",
        kind: Kind::Filter,
        set: |c, v| put_text(&mut c.log.filter, v),
        get: |c| Value::Text(c.log.filter.clone()),
    },
    Key {
        name: "log.json",
        kind: Kind::Switch,
        set: |c, v| put_switch(&mut c.log.json, v),
        get: |c| Value::Switch(c.log.json),
    },
];
