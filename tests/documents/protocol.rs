//! clients/PROTOCOL.md against the program, in both directions. Method: real headers are produced through the public library (frame
//! headers are parsed; everything else is published by the daemon's own sink and received on a real socket), and their keys and words
//! are compared with the first columns of the document's tables. What the program can send and the document does not list fails,
//! and so does what the document lists and the program does not send. Lists of enum values come from [`every!`], which does not
//! compile when a variant is missing. The links of the other documents are followed here as well.

#![allow(clippy::unwrap_used)] // clippy takes the helpers of a test for something else

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use haltere::config::{Publish, WhenDistrusted};
use haltere::decide::{Rule, Rules, Train};
use haltere::frame::event::{Event, Reason, RecordFault, SkipCause, StaleReason, TrialFault};
use haltere::frame::placement::Placement;
use haltere::frame::{
    Clock, Decision, Decode, DeviceTime, Distrust, Embedding, FIRST_GENERATION, Frame, Mismatch, ModelTag, Name,
    Observation, Picture, Preview, Quality, Relearn, Restart, Scene, SenderClock, Sentence, Shape, Shown, StageTimes,
    Stamp, TimedMark, Withheld,
};
use haltere::publish::Sink;
use haltere::publish::decisions::RuleTable;
use haltere::publish::zmq::ZmqSink;
use haltere::session::Topic;
use haltere::session::messages::write_decode;
use haltere::sys::clock::now_ns;
use haltere::sys::counters::Stats;
use haltere::sys::sockets::Door;
use haltere::wire::control::COMMANDS;
use haltere::wire::decode::Kind;
use haltere::wire::frame_header;
use haltere::wire::inlet;
use serde_json::Value;

type Words = BTreeSet<String>;

const DOCUMENT: &str = include_str!("../../clients/PROTOCOL.md");
/// The threads of the corridor, by which a decode of quality `fail` names the stage that failed.
const STAGES: [&str; 3] = ["ingest", "compute", "publish"];
const STAGES_TIMED: [&str; 4] = ["queue", "preprocess", "encode", "total"];
const DEADLINE_MS: u64 = 1_000;
const PLACEMENT: Placement =
    Placement { turn_deg: 4.0, shift_px: [1.0, -2.0], scale: [1.0, 1.1], likeness: 0.9, fits: true };

const SENDER_CLOCK: SenderClock = SenderClock {
    clock: Clock::Device,
    offset_ns: -7,
    offset_error_us: 12.5,
    drift_ppm: Some(50.0),
    drift_error_ppm: Some(0.5),
    span_s: 60.0,
    steps: 1,
};

const TIMED_MARK: TimedMark = TimedMark {
    from: Name::literal("diode"),
    t_recv_ns: 9,
    timestamp_ns: Some(7),
    timestamp_clock: Some(Clock::Device),
    decision: Some(3),
    sender_clock: Some(SENDER_CLOCK),
};

/// One value of every variant of an enum; a variant that is not listed is a compile error.
macro_rules! every {
    ($type:ty: $($pattern:pat => $value:expr),+ $(,)?) => {{
        let is: Vec<fn(&$type) -> bool> = vec![$(|value| matches!(value, $pattern)),+];
        let values: Vec<$type> = vec![$($value),+];
        let _exhaustive = |value: &$type| match value { $($pattern => ()),+ };
        assert!(is.iter().zip(&values).all(|(is, value)| is(value)), "a value is not of the variant it stands for");
        values
    }};
}

fn every_event() -> Vec<Event> {
    let (frame, count, animal) = (7, 3, Name::literal("fly3"));
    every! { Event:
        Event::Rejected { .. } => Event::Rejected { reason: Reason::Shape, count, message: Sentence::of(&"no shape") },
        Event::KeyIgnored { .. } => Event::KeyIgnored { key: "clock", message: Sentence::of(&"unknown") },
        Event::AspectRatio { .. } => Event::AspectRatio { frame_px: [512, 256], input_px: [64, 64], ratio: 2.0 },
        Event::Gap { .. } => Event::Gap { frame, missing: 2 },
        Event::Skipped { .. } => Event::Skipped { frame, count, cause: SkipCause::Burst },
        Event::CaughtUp { .. } => Event::CaughtUp { frame, count },
        Event::WindowRestarted { .. } => Event::WindowRestarted { frame, reason: Restart::Pause },
        Event::SeriesBegan { .. } => Event::SeriesBegan { frame },
        Event::SeriesEnded => Event::SeriesEnded,
        Event::FileLost { .. } => Event::FileLost { how: "truncated" },
        Event::FileUnreachable { .. } => Event::FileUnreachable { cause: "EIO" },
        Event::FileBack { .. } => Event::FileBack { after_ms: 900 },
        Event::EndMissing { .. } => Event::EndMissing { silent_s: 5 },
        Event::Ready { .. } => Event::Ready { frame },
        Event::FrameRateOff { .. } => Event::FrameRateOff { measured_hz: 20.0, needed_hz: 30.0 },
        Event::FrameRateBack { .. } => Event::FrameRateBack { measured_hz: 30.0 },
        Event::NonFinitePixels { .. } => Event::NonFinitePixels { frame, pixels: 1 },
        Event::NonFiniteEmbedding { .. } => Event::NonFiniteEmbedding { frame },
        Event::Drift { .. } => Event::Drift { frame, novelty_mean: 0.9, limit: 0.8 },
        Event::DriftBack { .. } => Event::DriftBack { frame, novelty_mean: 0.5 },
        Event::FocusDrift { .. } => Event::FocusDrift { frame, shift_peak: 0.5, start: 0.9 },
        Event::FocusBack { .. } => Event::FocusBack { frame, shift_peak: 0.9 },
        Event::FramesDistrusted { .. } => Event::FramesDistrusted { reason: Distrust::Flash, frame },
        Event::FramesTrusted { .. } => Event::FramesTrusted { reason: Distrust::Flash, frame, count },
        Event::Relearning { .. } => Event::Relearning { what: Relearn::Light, frame },
        Event::Placement { .. } => Event::Placement { frame, placement: PLACEMENT },
        Event::PlacementPoor { .. } => Event::PlacementPoor { frame, placement: PLACEMENT },
        Event::ShiftAtBound { .. } => Event::ShiftAtBound { frame },
        Event::WarmingUp { .. } => Event::WarmingUp { frame, frames_left: 120, seconds_left: 4.0 },
        Event::AnimalKnown { .. } => Event::AnimalKnown { animal, frame, peak: 0.9, saved_peak: 0.95 },
        Event::AnimalMismatch { .. } => {
            Event::AnimalMismatch { animal, frame, mismatch: Mismatch::Template { found: 0.1, needed: 0.4 } }
        },
        Event::AnimalSaved { .. } => Event::AnimalSaved { animal },
        Event::AnimalNotSaved { .. } => Event::AnimalNotSaved { animal: None, why: "why" },
        Event::Stale { .. } => Event::Stale { age_ms: 300, reason: StaleReason::Late },
        Event::Recovered { .. } => Event::Recovered { frame },
        Event::Swapped { .. } => Event::Swapped { generation: 2 },
        Event::SwapFailed { .. } => Event::SwapFailed { generation: 2, reason: TrialFault::NotWarm },
        Event::DeviceFault { .. } => Event::DeviceFault { frame },
        Event::OutletLost { .. } => Event::OutletLost { outlet: "serial" },
        Event::OutletBack { .. } => Event::OutletBack { outlet: "serial" },
        Event::Request { .. } => Event::Request { what: "reset" },
        Event::DecisionSwitched { .. } => Event::DecisionSwitched { rule: animal, what: "arm" },
        Event::Rehearsal { .. } => Event::Rehearsal { scene: Scene::Late, seconds: 1 },
        Event::RehearsalOver => Event::RehearsalOver,
        Event::RecordBegan => Event::RecordBegan,
        Event::RecordEnded => Event::RecordEnded,
        Event::RecordLost { .. } => Event::RecordLost { frame, count },
        Event::RecordFailed { .. } => Event::RecordFailed { reason: RecordFault::DiskFull },
        Event::Mark { .. } => Event::Mark { number: 1, text: Sentence::of(&"odour") },
        Event::Inlet { .. } => Event::Inlet { name: animal, t_ns: 7, mark: TIMED_MARK },
        Event::Fault { .. } => Event::Fault { stage: "compute" },
        Event::Shutdown => Event::Shutdown,
    }
}

#[test]
fn every_topic_is_documented_and_published() {
    let kinds = every! { Kind:
        Kind::Decode => Kind::Decode, Kind::Status => Kind::Status, Kind::Event => Kind::Event,
        Kind::Heartbeat => Kind::Heartbeat, Kind::Preview => Kind::Preview, Kind::Decision => Kind::Decision,
    };
    let names: Words = kinds.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(documented("Out: topics"), names);
    let messages = everything_published();
    assert_eq!(messages.iter().map(|message| message.topic.clone()).collect::<Words>(), names);
    for row in table("Out: topics") {
        let parts = 1 + row[2].matches(", ").count();
        let published: BTreeSet<usize> =
            messages.iter().filter(|m| m.topic == words(&row[0])[0]).map(|m| m.parts).collect();
        assert_eq!(published, [parts].into(), "{}", row[0]);
    }
}

#[test]
fn the_keys_of_every_published_header_are_documented_with_when_they_are_there() {
    let messages = everything_published();
    for (topic, heading) in [
        ("decode", "Keys of a decode header"),
        ("heartbeat", "Keys of a heartbeat header"),
        ("status", "Keys of a status header"),
        ("preview", "Keys of a preview header"),
        ("decision", "Keys of a decision header"),
    ] {
        let headers: Vec<Words> = messages.iter().filter(|m| m.topic == topic).map(|m| keys_of(&m.header)).collect();
        assert_eq!(documented(heading), union(&headers), "{heading}: documented, published");
        assert_eq!(always(heading), common(&headers), "{heading}: documented as always there, always published");
    }
}

#[test]
fn every_event_is_documented_with_its_keys() {
    let common_keys = documented("Keys of an event header");
    let mut published = BTreeMap::new();
    for message in everything_published().iter().filter(|message| message.topic == "event") {
        let keys = keys_of(&message.header);
        assert!(common_keys.is_subset(&keys), "{keys:?}");
        let name = message.header["event"].as_str().unwrap().to_owned();
        published.insert(name, keys.difference(&common_keys).cloned().collect::<Words>());
    }
    let rows = table("Events and their keys");
    let documented: BTreeMap<String, Words> =
        rows.iter().map(|row| (words(&row[0])[0].clone(), words(&row[1]).into_iter().collect())).collect();
    assert_eq!(documented, published);
    assert_eq!(rows.len(), documented.len(), "an event has two rows");
}

#[test]
fn every_reason_of_a_swap_or_a_recording_that_failed_is_documented() {
    let trials = every! { TrialFault:
        TrialFault::NonFinite => TrialFault::NonFinite, TrialFault::Encoder => TrialFault::Encoder,
        TrialFault::NotWarm => TrialFault::NotWarm, TrialFault::Device => TrialFault::Device,
    };
    let records = every! { RecordFault:
        RecordFault::DiskFull => RecordFault::DiskFull, RecordFault::FileRemoved => RecordFault::FileRemoved,
        RecordFault::Write => RecordFault::Write,
    };
    let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Words>();
    assert_eq!(documented("Reasons for swap_failed"), names(trials.iter().map(|fault| fault.name()).collect()));
    assert_eq!(documented("Reasons for record_failed"), names(records.iter().map(|fault| fault.name()).collect()));
}

#[test]
fn every_quality_and_its_reasons_are_documented() {
    let qualities = every! { Quality:
        Quality::Ok => Quality::Ok, Quality::Warmup => Quality::Warmup, Quality::Stale => Quality::Stale,
        Quality::Degraded => Quality::Degraded, Quality::Fail => Quality::Fail,
    };
    assert_eq!(documented("Quality"), qualities.iter().map(|quality| quality.name().to_owned()).collect());
    let text = |header: &Value, key: &str| header[key].as_str().unwrap_or_default().to_owned();
    let published: BTreeSet<(String, String)> = everything_published()
        .iter()
        .filter(|message| message.topic == "decode" && message.header["quality"] != "ok")
        .map(|message| (text(&message.header, "reason"), text(&message.header, "quality")))
        .collect();
    let rows = table("Reasons for a quality");
    let documented = rows.iter().flat_map(|row| {
        words(&row[0])
            .into_iter()
            .flat_map(|reason| words(&row[1]).into_iter().map(move |quality| (reason.clone(), quality)))
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), published);
}

#[test]
fn every_reason_of_a_decision_is_documented() {
    let withheld = every! { Withheld:
        Withheld::Disarmed => Withheld::Disarmed, Withheld::Sham => Withheld::Sham, Withheld::Refractory => Withheld::Refractory,
        Withheld::Rate => Withheld::Rate, Withheld::DoseMinute => Withheld::DoseMinute,
        Withheld::DoseSession => Withheld::DoseSession, Withheld::Missed => Withheld::Missed,
    };
    assert_eq!(withheld, Withheld::ALL);
    let text = |header: &Value, key: &str| header[key].as_str().unwrap_or_default().to_owned();
    let published: BTreeSet<(String, String)> = everything_published()
        .iter()
        .filter(|message| message.topic == "decision" && message.header["what"] != "output")
        .map(|message| (text(&message.header, "reason"), text(&message.header, "what")))
        .collect();
    let rows = table("Reasons of a decision");
    let documented = rows.iter().flat_map(|row| {
        words(&row[0]).into_iter().flat_map(|reason| words(&row[1]).into_iter().map(move |what| (reason.clone(), what)))
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), published);
}

#[test]
fn every_reason_for_rejection_is_documented() {
    let reasons = every! { Reason:
        Reason::Parts => Reason::Parts, Reason::HeaderSize => Reason::HeaderSize, Reason::HeaderSyntax => Reason::HeaderSyntax,
        Reason::PixelType => Reason::PixelType, Reason::Shape => Reason::Shape, Reason::Length => Reason::Length,
        Reason::Name => Reason::Name, Reason::Field => Reason::Field, Reason::TooLarge => Reason::TooLarge,
        Reason::Channel => Reason::Channel, Reason::Geometry => Reason::Geometry, Reason::Repeated => Reason::Repeated,
        Reason::Backwards => Reason::Backwards, Reason::Jumped => Reason::Jumped, Reason::OtherSource => Reason::OtherSource,
        Reason::OtherSeries => Reason::OtherSeries,
    };
    let names: Words = reasons.iter().map(|reason| reason.name().to_owned()).collect();
    assert_eq!(documented("Reasons for rejection"), names);
    let status = everything_published().into_iter().find(|message| message.topic == "status").unwrap();
    assert_eq!(status.header["rejected"].as_object().unwrap().keys().cloned().collect::<Words>(), names);
}

#[test]
fn every_key_of_a_frame_header_is_documented_and_means_something() {
    let keys = documented("Keys of a frame header");
    assert_eq!(keys, frame_header::keys().map(str::to_owned).collect());
    let required = |row: &[String]| row[1] != "no";
    let needed: Words =
        table("Keys of a frame header").iter().filter(|row| required(row)).flat_map(|row| words(&row[0])).collect();
    assert_eq!(needed, ["shape", "dtype", "type"].map(str::to_owned).into());
    let minimal = frame_header::parse(br#"{"shape":[2,3],"dtype":"uint8"}"#).unwrap();
    assert_eq!(frame_header::parse(br#"{"shape":[2,3],"type":"uint8"}"#), Ok(minimal));
    let unknown = frame_header::parse(br#"{"shape":[2,3],"dtype":"uint8","gain":{"a":[1]}}"#);
    assert_eq!(unknown, Ok(minimal), "an unknown key is ignored");
    // A value of the wrong kind, or a word nobody knows, is noticed exactly where a key is read; `ndattr` acts by its presence.
    for key in keys {
        let changes = |value: &str| {
            let header = format!(r#"{{"shape":[2,3],"dtype":"uint8","{key}":{value}}}"#);
            frame_header::parse(header.as_bytes()) != Ok(minimal)
        };
        assert!(changes(r#"{"a":1}"#) || changes(r#""no such word""#), "{key} changes nothing");
    }
}

#[test]
fn every_word_of_a_rehearsal_is_documented() {
    assert_eq!(documented("Words of a rehearsal"), Scene::ALL.map(|scene| scene.name().to_owned()).into());
}

#[test]
fn every_key_of_a_mark_at_the_inlet_is_documented_and_means_something() {
    assert_eq!(documented("Keys of a mark"), inlet::KEYS.map(str::to_owned).into());
    let minimal = inlet::parse(&[br#"{"name":"flash"}"#]).unwrap();
    for (key, value) in [("from", "\"a\""), ("timestamp_ns", "1"), ("clock", "\"ptp\""), ("decision", "1")] {
        let mark = inlet::parse(&[format!(r#"{{"name":"flash","{key}":{value}}}"#)]).unwrap();
        assert_ne!(mark, minimal, "{key} changes nothing");
    }
}

#[test]
fn every_clock_and_stamp_is_documented() {
    let clocks = every! { Clock:
        Clock::Monotonic => Clock::Monotonic, Clock::Unix => Clock::Unix, Clock::Device => Clock::Device, Clock::Ptp => Clock::Ptp,
    };
    let stamps = every! { Stamp: Stamp::Start => Stamp::Start, Stamp::Mid => Stamp::Mid, Stamp::End => Stamp::End };
    let pictures = every! { Picture: Picture::Frame => Picture::Frame, Picture::Template => Picture::Template, Picture::Raw => Picture::Raw };
    let text = |value: Result<Value, _>| -> String {
        let value: Result<Value, serde_json::Error> = value;
        value.unwrap().as_str().unwrap().to_owned()
    };
    let clocks: Words = clocks.iter().map(|clock| text(serde_json::to_value(clock))).collect();
    let stamps: Words = stamps.iter().map(|stamp| text(serde_json::to_value(stamp))).collect();
    let pictures: Words = pictures.iter().map(|picture| text(serde_json::to_value(picture))).collect();
    assert_eq!(values("Keys of a frame header", "clock"), clocks);
    assert_eq!(values("Keys of a frame header", "stamp"), stamps);
    assert_eq!(values("Keys of a preview header", "what"), pictures);
}

#[test]
fn every_control_command_is_documented() {
    // `model PATH` in the document is `model <path>` in the help; arguments are not compared.
    let command = |name: &str| {
        let lower = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        name.split(' ').take_while(lower).collect::<Vec<_>>().join(" ")
    };
    let known: Words = COMMANDS.iter().map(|(name, _)| command(name)).collect();
    assert_eq!(documented("Commands").iter().map(|name| command(name)).collect::<Words>(), known);
    assert_eq!(known.len(), COMMANDS.len());
}

#[test]
fn every_topic_of_a_session_and_every_key_of_a_recorded_decode_is_documented() {
    let topics = every! { Topic:
        Topic::Frames => Topic::Frames, Topic::Requests => Topic::Requests, Topic::Decodes => Topic::Decodes,
        Topic::Events => Topic::Events, Topic::Status => Topic::Status, Topic::Marks => Topic::Marks,
        Topic::Decisions => Topic::Decisions,
    };
    assert_eq!(documented("Topics of a session"), topics.iter().map(|topic| topic.name().to_owned()).collect());
    let mut message = Vec::new();
    write_decode(b"{\"seq\":1}", Some(&decode(1, Quality::Ok)), &mut message);
    let message: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!(documented("Keys of decoded"), keys_of(&message["decoded"]));
    assert_eq!(always("Keys of decoded"), keys_of(&message["decoded"]));
}

// ---- what the program sends ----

struct Message {
    topic: String,
    parts: usize,
    header: Value,
}

/// The daemon's sink and a subscriber, in one process.
struct Daemon {
    // Closed before the sink, which waits until nobody in this process is connected to it.
    socket: zmq::Socket,
    sink: ZmqSink,
    stats: Arc<Stats>,
    /// A subscription over `inproc` lives as long as its context.
    _context: zmq::Context,
}

impl Daemon {
    fn start(labels: &[&str], neutral_action: &str) -> Self {
        let (context, stats) = (zmq::Context::new(), Arc::new(Stats::default()));
        let config = Publish {
            endpoint: "inproc://protocol".into(),
            hwm: 1000,
            deadline: Duration::from_millis(DEADLINE_MS),
            heartbeat: Duration::from_millis(100),
            status: Duration::from_millis(500),
            preview_every: None,
            neutral_action: neutral_action.into(),
            when_distrusted: WhenDistrusted::Hold,
        };
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let labels_known = !labels.is_empty();
        let tag = ModelTag {
            name: "fly".into(),
            sha256: "ab".into(),
            generation: 1,
            trained: !labels.is_empty(),
            outputs: labels.first().map(|_| "speed".to_owned()).into_iter().collect(),
            labels,
            embedding: 2,
        };
        let rig = "rig1".parse().unwrap();
        let warnings = vec!["no priority".into()];
        let door = Door::new(None, stats.connections.clone());
        let rules = rules(labels_known);
        let table = RuleTable::new(&rules, &tag);
        stats.decisions.name(rules.rules.iter().map(|rule| rule.name));
        let sink = ZmqSink::bind_at(&context, &door, &config, rig, tag, Arc::clone(&stats), warnings).unwrap();
        let sink = sink.deciding(table);
        let socket = context.socket(zmq::SUB).unwrap();
        socket.set_subscribe(b"").unwrap();
        socket.connect(&config.endpoint).unwrap();
        let mut daemon = Self { sink, socket, stats, _context: context };
        daemon.knock();
        daemon
    }

    /// Sends events until the subscription is in place, then reads them away.
    fn knock(&mut self) {
        self.socket.set_rcvtimeo(20).unwrap();
        let arrived = (0..500).any(|_| {
            self.sink.event(&Event::SeriesEnded).unwrap();
            self.socket.recv_multipart(0).is_ok()
        });
        assert!(arrived, "no message arrived");
        while self.socket.recv_multipart(0).is_ok() {}
    }

    /// Everything published since the last call.
    fn received(&self) -> Vec<Message> {
        let next = || self.socket.recv_multipart(0).ok();
        std::iter::from_fn(next)
            .map(|parts| {
                let topic = String::from_utf8(parts[0].clone()).unwrap();
                let (kind, source) = topic.split_once('/').unwrap();
                assert_eq!(source, "rig1");
                Message {
                    topic: kind.to_owned(),
                    parts: parts.len(),
                    header: serde_json::from_slice(&parts[1]).unwrap(),
                }
            })
            .collect()
    }
}

/// At least one message of every kind, with as few and as many keys as it can have.
fn everything_published() -> Vec<Message> {
    let mut messages = before_any_frame();
    messages.extend(while_decoding());
    messages.extend(STAGES.into_iter().map(Some).chain([None]).flat_map(ending));
    messages.extend(STAGES.into_iter().map(Some).chain([None]).flat_map(ending_an_output));
    messages
}

/// Heartbeat, status and the fail-safe's decode of a model without actions, when nothing has come yet.
fn before_any_frame() -> Vec<Message> {
    let mut daemon = Daemon::start(&[], "neutral");
    daemon.sink.tick(now_ns()).unwrap();
    let mut messages = daemon.received();
    // A frame without anything that a sender may leave out, from a model that decodes no action.
    let mut bare = decode(1, Quality::Ok);
    (bare.frame.series, bare.frame.t_device, bare.observation.shift_px, bare.action) = (None, None, None, None);
    bare.embedding.probabilities.clear();
    bare.embedding.novelty = None;
    daemon.sink.publish(&bare).unwrap();
    let mut unstamped = bare.clone();
    unstamped.frame.t_device = Some(DeviceTime { ns: 5, clock: Clock::Device, stamp: None });
    daemon.sink.publish(&unstamped).unwrap();
    daemon.sink.preview(&preview(Picture::Frame, false)).unwrap();
    messages.extend(daemon.received());
    messages
}

/// Every quality and reason of decodes of frames, every event, both images, then silence.
fn while_decoding() -> Vec<Message> {
    let mut daemon = Daemon::start(&["resting", "walking"], "resting");
    daemon.stats.compute.novelty_mean.set(Some(0.5));
    daemon.stats.compute.focus.set(Some(1.0));
    daemon.stats.compute.warmup_frames_left.store(120, Relaxed);
    daemon.stats.compute.placement.set(Some(PLACEMENT));
    daemon.stats.intake.sender_clock.set(Some(SENDER_CLOCK));
    daemon.stats.inlet.open.store(true, Relaxed);
    daemon.stats.ttl.open.store(true, Relaxed);
    daemon.stats.record.recording.store(1, Relaxed);
    daemon.sink.publish(&decode(1, Quality::Ok)).unwrap();
    let restarts = every! { Restart: Restart::Pause => Restart::Pause, Restart::NewSeries => Restart::NewSeries };
    for restart in restarts.into_iter().map(Some).chain([None]) {
        daemon.sink.publish(&Decode { restart, ..decode(2, Quality::Warmup) }).unwrap();
    }
    let faults: [fn(&mut Observation); 4] = [
        |seen| seen.frame_rate_off = true,
        |seen| seen.non_finite_pixels = 1,
        |seen| seen.shift_doubtful = true,
        |_| (),
    ];
    for (number, fault) in (3..).zip(faults) {
        let mut degraded = decode(number, Quality::Degraded);
        fault(&mut degraded.observation);
        daemon.sink.publish(&degraded).unwrap();
    }
    // Frames that are not believed: the decode before them is held, then neutral; and during the warm-up.
    for (number, distrust) in (10..).zip(Distrust::ALL) {
        for (quality, shown) in [
            (Quality::Degraded, Shown::Held { age_ns: 1 }),
            (Quality::Degraded, Shown::Nothing),
            (Quality::Warmup, Shown::Nothing),
        ] {
            let mut distrusted = decode(number, quality);
            (distrusted.observation.distrust, distrusted.shown) = (Some(distrust), shown);
            daemon.sink.publish(&distrusted).unwrap();
        }
    }
    for event in every_event() {
        daemon.sink.event(&event).unwrap();
    }
    decisions(&mut daemon);
    daemon.sink.preview(&preview(Picture::Template, true)).unwrap();
    daemon.sink.tick(now_ns()).unwrap();
    output_begins(&mut daemon, 20);
    daemon.sink.tick(now_ns() + 2 * DEADLINE_MS * 1_000_000).unwrap();
    let mut late = deciding(7, None);
    late.frame.t_received_ns -= 2 * DEADLINE_MS * 1_000_000;
    output_begins(&mut daemon, 21);
    daemon.sink.publish(&late).unwrap();
    output_begins(&mut daemon, 22);
    let mut aged = deciding(8, None);
    aged.frame.age_ns = Some(2 * DEADLINE_MS * 1_000_000);
    daemon.sink.publish(&aged).unwrap();
    daemon.received()
}

/// The last words of a daemon that is shut down, or whose stage fails.
fn ending(fault: Option<&'static str>) -> Vec<Message> {
    let mut daemon = Daemon::start(&[], "neutral");
    daemon.sink.finish(fault).unwrap();
    daemon.received()
}

/// The same while an output goes on.
fn ending_an_output(fault: Option<&'static str>) -> Vec<Message> {
    let mut daemon = Daemon::start(&["resting", "walking"], "neutral");
    output_begins(&mut daemon, 1);
    daemon.sink.finish(fault).unwrap();
    daemon.received()
}

/// One rule with a long output, of a model with actions.
fn rules(with_actions: bool) -> Rules {
    if !with_actions {
        return Rules::default();
    }
    let when = "p(walking) > 0.5 and novelty < 0.9 and quality == ok and action == walking";
    let train = Train { delay_ms: 1, jitter_ms: 0, width_ms: 60_000, period_ms: 60_001, count: 2 };
    let rule = Rule { when: when.parse().ok(), train, ..Rule::named(Name::literal("walk")) };
    Rules { rules: vec![rule], ..Rules::default() }
}

/// A decode with a decision.
fn deciding(number: u64, withheld: Option<Withheld>) -> Decode {
    let mut decode = decode(number, Quality::Ok);
    let limited = withheld.is_some();
    decode.decisions.push(Decision {
        rule: 0,
        number,
        withheld,
        armed: true,
        sham: false,
        yoked: limited.then_some(1),
        delay_us: 1_250,
        minute_left_ms: limited.then_some(40),
        session_left_ms: limited.then_some(400),
        values: [0.9, 0.25, 0.0, 1.0, f32::NAN, f32::NAN, f32::NAN, f32::NAN],
        t_decided_ns: now_ns(),
    });
    decode
}

/// The rule as the compute thread would have left it.
fn switch(daemon: &Daemon, on: bool, armed: bool) {
    let rule = &daemon.stats.decisions.rules[0];
    rule.on.store(on, Relaxed);
    rule.armed.store(armed, Relaxed);
}

fn output_begins(daemon: &mut Daemon, number: u64) {
    switch(daemon, true, true);
    daemon.sink.publish(&deciding(number, None)).unwrap();
}

/// Decisions with and without output, with few and with many keys, and switches while an output goes on and just before one would begin.
fn decisions(daemon: &mut Daemon) {
    let counters = &daemon.stats.decisions.rules[0];
    counters.minute_left_ms.set(Some(40.0));
    counters.session_left_ms.set(Some(400.0));
    let mut bare = deciding(1, None);
    (bare.frame.series, bare.frame.t_device) = (None, None);
    switch(daemon, true, true);
    daemon.sink.publish(&bare).unwrap();
    let mut known = deciding(1, None);
    known.frame.age_ns = Some(1_000);
    daemon.sink.publish(&known).unwrap();
    for withheld in Withheld::ALL {
        daemon.sink.publish(&deciding(2, Some(withheld))).unwrap();
    }
    for (on, armed) in [(false, true), (true, false)] {
        output_begins(daemon, 3);
        switch(daemon, on, armed);
        daemon.sink.tick(now_ns()).unwrap();
        daemon.sink.publish(&deciding(4, None)).unwrap();
    }
}

/// A decode of a frame received just now, with everything that can be known of it.
fn decode(number: u64, quality: Quality) -> Decode {
    let mut frame = Frame::with_capacity(0).info;
    frame.number = number;
    frame.source = "rig1".parse().unwrap();
    frame.series = Some("trial2".parse().unwrap());
    frame.t_device = Some(DeviceTime { ns: 5, clock: Clock::Unix, stamp: Some(Stamp::End) });
    frame.t_received_ns = now_ns();
    let observation = Observation {
        shift_px: Some([0.5, -1.0]),
        shift_peak: 0.8,
        frame_rate_hz: 30.0,
        light: Some(7.0),
        ..Observation::default()
    };
    let embedding =
        Embedding { values: vec![0.5, -2.0], probabilities: vec![0.1, 0.9], outputs: vec![1.5], novelty: Some(0.25) };
    let times = StageTimes { queue_ns: 1_000, preprocess_ns: 20_000, encode_ns: 300_000 };
    let made = Decode::with_embedding(embedding);
    Decode {
        frame,
        observation,
        quality,
        action: Some(1),
        generation: FIRST_GENERATION,
        times,
        warmup_left: 90,
        ..made
    }
}

fn preview(what: Picture, named: bool) -> Preview {
    let mut preview = Preview::new();
    let mut info = decode(1, Quality::Ok).frame;
    info.series = info.series.filter(|_| named);
    preview.take(what, &info, &[0.0; 4], Shape::new(1, 2, 2));
    preview.generation = u64::from(what == Picture::Template);
    preview
}

/// The keys of a header; those of an object within it have its name before a dot. The members of `rejected` and the stages of the
/// status' latencies, which the document names once, are one key each.
fn keys_of(header: &Value) -> Words {
    fn walk(before: &str, value: &Value, keys: &mut Words) {
        let Some(object) = value.as_object() else {
            keys.insert(before.to_owned());
            return;
        };
        for (key, value) in object {
            walk(&if before.is_empty() { key.clone() } else { format!("{before}.{key}") }, value, keys);
        }
    }
    let mut keys = Words::new();
    walk("", header, &mut keys);
    let short = |key: String| match key.split('.').collect::<Vec<_>>()[..] {
        ["rejected", _] => "rejected.<reason>".to_owned(),
        ["distrusted", _] => "distrusted.<reason>".to_owned(),
        ["decisions", _, key] => format!("decisions.<name>.{key}"),
        ["cause", _, ..] => "cause.<value>".to_owned(),
        ["latency_us", stage, quantile] if STAGES_TIMED.contains(&stage) => format!("latency_us.<stage>.{quantile}"),
        _ => key,
    };
    keys.into_iter().map(short).collect()
}

fn union(sets: &[Words]) -> Words {
    sets.iter().flatten().cloned().collect()
}

fn common(sets: &[Words]) -> Words {
    let first = sets.first().cloned().unwrap_or_default();
    sets.iter().fold(first, |common, set| common.intersection(set).cloned().collect())
}

// ---- what the document says ----

/// The rows of the first table under a heading, cell by cell, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let title = |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
    let under: Vec<&str> =
        DOCUMENT.lines().skip_while(|line| !title(line)).skip(1).take_while(|line| !line.starts_with('#')).collect();
    assert!(!under.is_empty(), "PROTOCOL.md has no heading {heading:?}");
    let rows = under.iter().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &&str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table under {heading:?}");
    rows
}

/// The words in backticks.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The words of the first column; one that is listed twice fails.
fn documented(heading: &str) -> Words {
    let all: Vec<String> = table(heading).iter().flat_map(|row| words(&row[0])).collect();
    let distinct: Words = all.iter().cloned().collect();
    assert_eq!(all.len(), distinct.len(), "{heading}: a word is listed twice");
    distinct
}

/// Those whose second column begins with "always" and says no more than on which system.
fn always(heading: &str) -> Words {
    let rows = table(heading);
    rows.iter()
        .filter(|row| matches!(row[1].as_str(), "always" | "always on Linux"))
        .flat_map(|row| words(&row[0]))
        .collect()
}

/// The words in the third column of one key.
fn values(heading: &str, key: &str) -> Words {
    let rows = table(heading);
    let row = rows.iter().find(|row| words(&row[0]).iter().any(|word| word == key)).unwrap();
    words(&row[2]).into_iter().collect()
}

#[test]
fn the_deadline_that_documents_name_is_the_default() {
    let default = haltere::config::Config::default().publish.deadline.as_millis();
    let bonsai = include_str!("../../clients/bonsai/README.md");
    for (document, words) in [
        (include_str!("../../docs/close-a-loop.md"), format!("(`publish.deadline_ms`, {default} ms)")),
        (bonsai, format!("Timeout({default} ms)")),
        (bonsai, format!("`publish.deadline_ms` of the daemon (default {default})")),
    ] {
        assert!(document.contains(&words), "{words:?}");
    }
}

#[test]
fn the_reader_of_the_document_takes_words_in_backticks_only() {
    assert_eq!(words("`a`, `b.c` or d"), ["a", "b.c"]);
    assert_eq!(words("nothing"), Vec::<String>::new());
}
