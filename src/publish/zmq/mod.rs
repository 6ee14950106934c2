//! Decodes out over a ZeroMQ PUB socket, with heartbeat, status, events and the fail-safe.
//!
//! Why it exists: a stimulus controller listens to it, so it numbers, stamps and judges every decode just before sending it.
//! What it must never do: wait for a subscriber (PUB drops messages for slow ones, who see it in `seq`), let a stale decode look
//! fresh, or allocate on the Rust side once its buffers have grown with the first messages.
//!
//! What a decode contains, by quality:
//!
//! | quality | action | probs, outputs | novelty | embedding |
//! |---|---|---|---|---|
//! | `ok`, `degraded` | the decoded one, if the model decodes actions | yes | if the model is trained and provides it | yes |
//! | `degraded`, frame not believed | the last believed one while `publish.when_distrusted` allows, then the neutral one | as the action | as the action | as the action, then zeros |
//! | `warmup` | the neutral one, if the model decodes actions | no | no | yes |
//! | `stale`, `fail` | the neutral one, always | no | no | zeros, same shape |

mod rehearsal;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use zmq::{Context, DONTWAIT, SNDMORE};

use super::NeutralAction;
use super::decisions::{Outputs, RuleTable};
use super::failsafe::{FailSafe, Verdict};
use super::status::{Reporter, Subject};
use super::{Sink, SinkError, Witness};
use crate::config;
use crate::frame::event::{Event, StaleReason};
use crate::frame::{Decode, FrameInfo, ModelTag, Name, Preview, Quality, Scene};
use crate::sys::clock::now_ns;
use crate::sys::counters::{Stats, count};
use crate::sys::sockets::{Door, GuardedSocket};
use crate::wire::decision::DecisionHeader;
use crate::wire::decode::{Action, DecodeHeader, Kind, LastFrame, ModelHeader, Stamped};
use crate::wire::decode::{reason_of, write_embedding, write_json, write_topic};
use crate::wire::preview::PreviewHeader;
use crate::wire::report::{EventHeader, HeartbeatHeader};
use rehearsal::Act;

/// Longest time that closing may wait for unsent messages, ms.
const LINGER_MS: i32 = 200;
/// Longest message that a subscriber may send, bytes: its topic.
const SUBSCRIPTION_BYTES_MAX: i64 = 4096;
/// Memory reserved at start for a header, bytes: more than the status of a rig with a few warnings needs.
const HEADER_BYTES_EXPECTED: usize = 16 << 10;
/// Heartbeats within a deadline, at least: one of them may be lost or late.
const HEARTBEATS_PER_DEADLINE_MIN: u32 = 2;

/// The PUB socket of the daemon.
pub struct ZmqSink {
    out: Outbox,
    failsafe: FailSafe,
    reporter: Reporter,
    voice: Voice,
    source: Name,
    seq: u64,
    last: Option<LastFrame>,
    last_quality: Option<Quality>,
    frame_rate_hz: f32,
    heartbeat: Period,
    status: Period,
    witness: Option<Box<dyn Witness>>,
    /// Decisions, where there are rules.
    outputs: Option<Outputs>,
    deadline_ns: u64,
    /// A rehearsal of the running daemon.
    act: Option<Act>,
}

impl ZmqSink {
    /// Binds the PUB socket. `rig` names heartbeat and status until a frame names its source; `warnings` go into every status.
    ///
    /// # Errors
    /// When the endpoint is in use, not an endpoint, or not allowed; the message says what to do.
    pub fn bind(
        config: &config::Publish,
        rig: Name,
        model: ModelTag,
        stats: Arc<Stats>,
        warnings: Vec<String>,
    ) -> Result<Self, SinkError> {
        let door = Door::new(None, stats.connections.clone());
        Self::bind_at(&Context::new(), &door, config, rig, model, stats, warnings)
    }

    /// As [`ZmqSink::bind`], behind a door that may ask for keys, and in a context of the caller's, so that `inproc://` endpoints can be
    /// reached.
    ///
    /// # Errors
    /// As [`ZmqSink::bind`].
    pub fn bind_at(
        context: &Context,
        door: &Door,
        config: &config::Publish,
        rig: Name,
        model: ModelTag,
        stats: Arc<Stats>,
        warnings: Vec<String>,
    ) -> Result<Self, SinkError> {
        let address = Address { endpoint: &config.endpoint, key: "publish.endpoint", name: "decodes" };
        let socket = open_pub(context, door, address, config.hwm)?;
        let now_ns = now_ns();
        let heartbeat = config.heartbeat.min(config.deadline / HEARTBEATS_PER_DEADLINE_MIN);
        Ok(Self {
            out: Outbox::new(socket, config.endpoint.clone(), model.embedding),
            failsafe: FailSafe::new(config.deadline.as_nanos() as u64),
            reporter: Reporter::new(stats, warnings, config.deadline, now_ns),
            voice: Voice {
                neutral: NeutralAction::of(&config.neutral_action, &model),
                zeros: vec![0.0; model.embedding],
                hold_ns: config.hold_ns(),
                model,
            },
            source: rig,
            seq: 0,
            last: None,
            last_quality: None,
            frame_rate_hz: 0.0,
            heartbeat: Period::starting(heartbeat.as_nanos() as u64, now_ns),
            status: Period::starting(config.status.as_nanos() as u64, now_ns),
            witness: None,
            outputs: None,
            deadline_ns: config.deadline.as_nanos() as u64,
            act: None,
        })
    }

    /// The same, with a witness of every message sent.
    #[must_use]
    pub fn witnessed_by(self, witness: Box<dyn Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// The same, which publishes the decisions of these rules.
    #[must_use]
    pub fn deciding(self, table: RuleTable) -> Self {
        let outputs = Outputs::counting(table, self.reporter.shared_stats());
        Self { outputs: Some(outputs), ..self }
    }

    /// Publishes the decisions that were made with a decode, before the decode: what acts on them should not wait for it.
    fn publish_decisions(&mut self, decode: &Decode, stale: Option<StaleReason>, now_ns: u64) -> Result<(), SinkError> {
        let seq = self.shown_seq();
        let Self { outputs: Some(outputs), out, witness, source, .. } = self else { return Ok(()) };
        let mut send = |_, header: &DecisionHeader<'_>| out.send_to(witness, source, header, now_ns);
        let stale = stale.map(StaleReason::name);
        if stale.is_some() {
            outputs.end(stale, now_ns, &mut send)?;
        }
        outputs.issue(decode, (seq, stale), now_ns, send)
    }

    /// Ends outputs that go on: all of them for `reason`, or without one those of rules that were switched off or disarmed.
    fn end_outputs(&mut self, reason: Option<&'static str>, now_ns: u64) -> Result<(), SinkError> {
        let Self { outputs: Some(outputs), out, witness, source, .. } = self else { return Ok(()) };
        outputs.end(reason, now_ns, |_, header| out.send_to(witness, source, header, now_ns))
    }

    /// Shows a message that has been sent to the witness.
    fn show_witness(&mut self, kind: Kind, t_pub_ns: u64, decode: Option<&Decode>) {
        if let Some(witness) = &mut self.witness {
            witness.published(kind, &self.out.header, t_pub_ns, decode);
        }
    }

    /// The endpoint actually bound: for `tcp://127.0.0.1:*` with the port that was free.
    pub fn endpoint(&self) -> String {
        self.out.socket.get_last_endpoint().ok().and_then(Result::ok).unwrap_or_else(|| self.out.endpoint.clone())
    }

    /// One decode without a frame: the neutral action, no embedding, and why.
    fn publish_neutral(&mut self, quality: Quality, reason: &str, now_ns: u64) -> Result<(), SinkError> {
        let seq = self.shown_seq();
        let Voice { model, neutral, zeros, .. } = &self.voice;
        let (action, reason) = (neutral.action(), Some(reason));
        let embedding = model.embedding;
        let model = model_header(model, self.act);
        let stamped = Stamped { seq, t_pub_ns: now_ns, model, quality, reason, action, outputs: &[], novelty: None };
        let header = DecodeHeader::neutral(self.source, embedding, self.last, stamped);
        self.out.send(Kind::Decode, &self.source, &header, Some(zeros))?;
        self.show_witness(Kind::Decode, now_ns, None);
        self.seq += 1;
        self.last_quality = Some(quality);
        count(&self.reporter.stats().publish.stale, 1);
        Ok(())
    }

    fn publish_event(&mut self, event: &Event, now_ns: u64) -> Result<(), SinkError> {
        let header = EventHeader { event, source: self.source, t_pub_ns: now_ns };
        self.out.send(Kind::Event, &self.source, &header, None)?;
        self.show_witness(Kind::Event, now_ns, None);
        Ok(())
    }

    /// Of the last decode. Before the first it warms up, unless whatever comes is refused: nothing then gets any warmer.
    fn quality(&self) -> Quality {
        let before = if self.reporter.stats().refuses_everything() { Quality::Stale } else { Quality::Warmup };
        self.last_quality.unwrap_or(before)
    }

    fn publish_heartbeat(&mut self, now_ns: u64) -> Result<(), SinkError> {
        let last = self.last_quality.map(|_| self.shown_seq().saturating_sub(1));
        let period_ms = self.heartbeat.every_ns.div_ceil(1_000_000);
        let deadline_ms = self.reporter.deadline_ms();
        let header = HeartbeatHeader::new(self.source, last, self.quality(), deadline_ms, period_ms, now_ns);
        self.out.send(Kind::Heartbeat, &self.source, &header, None)
    }

    fn publish_status(&mut self, now_ns: u64) -> Result<(), SinkError> {
        let subject = Subject {
            source: self.source,
            model: model_header(&self.voice.model, self.act),
            trained: self.voice.model.trained,
            labels: &self.voice.model.labels,
            outputs: &self.voice.model.outputs,
            quality: self.quality(),
            frame_rate_hz: self.frame_rate_hz,
        };
        let header = self.reporter.status(subject, now_ns);
        self.out.send(Kind::Status, &self.source, &header, None)?;
        self.show_witness(Kind::Status, now_ns, None);
        Ok(())
    }
}

impl Sink for ZmqSink {
    fn model_changed(&mut self, model: &ModelTag) {
        self.voice.model = model.clone();
    }

    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let now_ns = now_ns();
        let frame = &decode.frame;
        self.source = frame.source;
        if self.act.is_some_and(|act| act.is_silent(now_ns)) {
            return self.record_unpublished(decode, now_ns);
        }
        self.count_anew();
        let truth = self.failsafe;
        let [since_ns, older_ns] = self.act.map_or([0, 0], |act| act.older_ns(self.deadline_ns));
        let (received_ns, age_ns) =
            (frame.t_received_ns.saturating_sub(since_ns), frame.age_ns.unwrap_or(0) + older_ns);
        let Verdict { stale, event } = self.failsafe.decode(frame.number, received_ns, age_ns, now_ns);
        if let Some(event @ Event::Recovered { .. }) = event {
            self.publish_event(&event, now_ns)?;
            self.heartbeat.due_ns = now_ns;
        }
        self.publish_decisions(decode, stale, now_ns)?;
        let (quality, reason) =
            self.act.map_or_else(|| (decode.quality, reason_of(decode)), |act| act.quality(decode, now_ns));
        let (quality, reason) = stale.map_or((quality, reason), |stale| (Quality::Stale, Some(stale.name())));
        let (mut header, values) = self.voice.header(decode, (quality, reason), self.shown_seq(), now_ns);
        if let Some(act) = self.act {
            header.rehearse(act.change([since_ns, older_ns]));
        }
        self.out.send(Kind::Decode, &self.source, &header, Some(values))?;
        self.last = Some(LastFrame { number: frame.number, t_received_ns: frame.t_received_ns, series: frame.series });
        self.last_quality = Some(quality);
        self.frame_rate_hz = decode.observation.frame_rate_hz;
        count_published(self.reporter.stats(), frame, now_ns);
        if self.act.is_some() {
            self.record_truth(decode, truth, now_ns)?;
        } else {
            self.show_witness(Kind::Decode, now_ns, Some(decode));
        }
        self.seq += 1;
        if let Some(event @ Event::Stale { .. }) = event {
            count(&self.reporter.stats().publish.stale, 1);
            self.publish_event(&event, now_ns)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        let now_ns = now_ns();
        match event {
            Event::Rehearsal { scene, seconds } => self.begin_rehearsal(*scene, *seconds, now_ns),
            Event::RehearsalOver => self.end_rehearsal(now_ns),
            _ if self.act.is_some_and(|act| act.is_dead(now_ns)) => self.record_event(event, now_ns),
            _ => self.publish_event(event, now_ns),
        }
    }

    fn preview(&mut self, preview: &Preview) -> Result<(), SinkError> {
        let now_ns = now_ns();
        if self.act.is_some_and(|act| act.is_dead(now_ns)) {
            return Ok(());
        }
        let header = PreviewHeader::of(preview, now_ns);
        self.out.send(Kind::Preview, &preview.source, &header, Some(preview.values()))
    }

    fn tick(&mut self, now_ns: u64) -> Result<(), SinkError> {
        if self.act.is_some_and(|act| act.is_over(now_ns)) {
            self.end_rehearsal(now_ns)?;
        }
        if self.act.is_some_and(|act| act.is_dead(now_ns)) {
            return Ok(());
        }
        self.count_anew();
        self.end_outputs(None, now_ns)?;
        if let Some(event) = self.failsafe.tick(now_ns) {
            self.end_outputs(Some(StaleReason::NoFrame.name()), now_ns)?;
            self.publish_neutral(Quality::Stale, StaleReason::NoFrame.name(), now_ns)?;
            self.publish_event(&event, now_ns)?;
        }
        if self.failsafe.alive() && self.heartbeat.is_due(now_ns) {
            self.publish_heartbeat(now_ns)?;
        }
        if self.status.is_due(now_ns) {
            self.publish_status(now_ns)?;
        }
        Ok(())
    }

    fn finish(&mut self, fault: Option<&'static str>) -> Result<(), SinkError> {
        if !self.failsafe.finish() {
            return Ok(());
        }
        let now_ns = now_ns();
        // These words are meant.
        self.end_rehearsal(now_ns)?;
        self.end_outputs(Some(fault.unwrap_or("shutdown")), now_ns)?;
        self.publish_neutral(Quality::Fail, fault.unwrap_or("shutdown"), now_ns)?;
        let event = fault.map_or(Event::Shutdown, |stage| Event::Fault { stage });
        self.publish_event(&event, now_ns)?;
        self.publish_status(now_ns)
    }
}

/// As the model is named; in a rehearsal of a swap as the next one.
fn model_header(model: &ModelTag, act: Option<Act>) -> ModelHeader<'_> {
    let swapped = act.is_some_and(|act| act.scene == Scene::Swapped);
    let header = ModelHeader::of(model);
    ModelHeader { generation: header.generation + u64::from(swapped), ..header }
}

/// Counts a decode and how long it took.
fn count_published(stats: &Stats, frame: &FrameInfo, now_ns: u64) {
    let publish = &stats.publish;
    count(&publish.published, 1);
    publish.total.record(crate::sys::clock::now_ns().saturating_sub(frame.t_received_ns));
    if let Some(age_ns) = frame.age_ns {
        publish.age.record(age_ns.saturating_add(now_ns.saturating_sub(frame.t_received_ns)));
    }
}

/// What may be said of a decode.
struct Voice {
    model: ModelTag,
    neutral: NeutralAction,
    zeros: Vec<f32>,
    /// How long a decode may be held for frames that are not believed, ns.
    hold_ns: Option<u64>,
}

impl Voice {
    /// The header of a decode of this quality, for this reason, and the embedding that goes with it.
    fn header<'a>(
        &'a self,
        decode: &'a Decode,
        (quality, reason): (Quality, Option<&'static str>),
        seq: u64,
        now_ns: u64,
    ) -> (DecodeHeader<'a>, &'a [f32]) {
        let held_too_long = !decode.shown.is_young(self.hold_ns);
        let (action, values) = match quality {
            Quality::Degraded if held_too_long => (self.neutral.action(), &self.zeros),
            Quality::Ok | Quality::Degraded => (decoded_action(&self.model, decode), &decode.embedding.values),
            Quality::Warmup if self.model.decodes_actions() => (self.neutral.action(), &decode.embedding.values),
            Quality::Warmup => (Action::default(), &decode.embedding.values),
            Quality::Stale | Quality::Fail => (self.neutral.action(), &self.zeros),
        };
        let trusted = matches!(quality, Quality::Ok | Quality::Degraded) && !held_too_long;
        let novelty = decode.embedding.novelty.filter(|_| trusted && self.model.trained);
        let outputs = if trusted && self.model.trained { &decode.embedding.outputs[..] } else { &[] };
        let model = ModelHeader::of(&self.model);
        let stamped = Stamped { seq, t_pub_ns: now_ns, model, quality, reason, action, outputs, novelty };
        (DecodeHeader::of(decode, stamped), values)
    }
}

/// The action that the model decoded; nothing when it decodes none.
fn decoded_action<'a>(model: &'a ModelTag, decode: &'a Decode) -> Action<'a> {
    let known = decode.published_action().filter(|_| model.trained).and_then(|id| Some((id, model.labels.get(id)?)));
    known.map_or(Action::default(), |(id, label)| Action {
        label: Some(label),
        id: Some(id),
        probabilities: &decode.embedding.probabilities,
    })
}

impl NeutralAction {
    fn action(&self) -> Action<'_> {
        Action { label: Some(&self.label), id: self.id, probabilities: &[] }
    }
}

/// A periodic action; checking late does not trigger it twice.
#[derive(Clone, Copy, Debug)]
struct Period {
    every_ns: u64,
    due_ns: u64,
}

impl Period {
    const fn starting(every_ns: u64, now_ns: u64) -> Self {
        Self { every_ns, due_ns: now_ns }
    }

    fn is_due(&mut self, now_ns: u64) -> bool {
        let due = now_ns >= self.due_ns;
        if due {
            self.due_ns = (self.due_ns + self.every_ns).max(now_ns + self.every_ns / 2);
        }
        due
    }
}

/// The socket and the buffers for its messages.
struct Outbox {
    socket: GuardedSocket,
    endpoint: String,
    topic: Vec<u8>,
    header: Vec<u8>,
    body: Vec<u8>,
    /// How every header ends in a rehearsal; else empty.
    rehearsal: Vec<u8>,
}

impl Outbox {
    fn new(socket: GuardedSocket, endpoint: String, embedding: usize) -> Self {
        let buffer = || Vec::with_capacity(HEADER_BYTES_EXPECTED);
        Self {
            socket,
            endpoint,
            topic: Vec::with_capacity(80),
            header: buffer(),
            body: Vec::with_capacity(4 * embedding),
            rehearsal: Vec::new(),
        }
    }

    fn send<T: serde::Serialize>(
        &mut self,
        kind: Kind,
        source: &Name,
        header: &T,
        values: Option<&[f32]>,
    ) -> Result<(), SinkError> {
        write_topic(kind, source, &mut self.topic);
        self.write(header)?;
        self.part(&self.topic, SNDMORE)?;
        let Some(values) = values else { return self.part(&self.header, 0) };
        self.part(&self.header, SNDMORE)?;
        if cfg!(target_endian = "little") {
            return self.part(bytemuck::cast_slice(values), 0);
        }
        write_embedding(values, &mut self.body);
        self.part(&self.body, 0)
    }

    /// Writes a header as it is sent.
    fn write<T: serde::Serialize>(&mut self, header: &T) -> Result<(), SinkError> {
        write_json(header, &mut self.header).map_err(|e| self.error(&e))?;
        if !self.rehearsal.is_empty() {
            // In place of the brace that closes it.
            self.header.pop();
            self.header.extend_from_slice(&self.rehearsal);
        }
        Ok(())
    }

    /// Sends a decision and shows it to the witness.
    fn send_to(
        &mut self,
        witness: &mut Option<Box<dyn Witness>>,
        source: &Name,
        header: &DecisionHeader<'_>,
        t_pub_ns: u64,
    ) -> Result<(), SinkError> {
        self.send(Kind::Decision, source, header, None)?;
        if let Some(witness) = witness {
            witness.published(Kind::Decision, &self.header, t_pub_ns, None);
        }
        Ok(())
    }

    /// Sends one part. PUB takes it at once or drops it; only a signal can interrupt.
    fn part(&self, bytes: &[u8], flags: i32) -> Result<(), SinkError> {
        loop {
            match self.socket.send(bytes, DONTWAIT | flags) {
                Err(zmq::Error::EINTR) => {}
                Ok(()) | Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(e) => return Err(self.error(&e)),
            }
        }
    }

    fn error(&self, cause: &dyn std::fmt::Display) -> SinkError {
        SinkError { sink: self.endpoint.clone(), cause: cause.to_string() }
    }
}

/// Where a socket is bound, and what it is called.
#[derive(Clone, Copy)]
pub(super) struct Address<'a> {
    pub(super) endpoint: &'a str,
    /// Key of the configuration that says so.
    pub(super) key: &'static str,
    /// What the log calls it.
    pub(super) name: &'static str,
}

/// Opens and binds a PUB socket. `XPUB_NODROP` stays off: a full queue must never block.
///
/// # Errors
/// An endpoint that is invalid, in use or not permitted; the message says what to do.
pub(super) fn open_pub(
    context: &Context,
    door: &Door,
    address: Address<'_>,
    hwm: i32,
) -> Result<GuardedSocket, SinkError> {
    let Address { endpoint, key, name } = address;
    let fail = |cause: String| SinkError { sink: endpoint.to_string(), cause };
    let option = |e: zmq::Error| fail(format!("the socket cannot be set up: {e}"));
    let socket = context.socket(zmq::PUB).map_err(option)?;
    socket.set_sndhwm(hwm).map_err(option)?;
    socket.set_linger(LINGER_MS).map_err(option)?;
    socket.set_maxmsgsize(SUBSCRIPTION_BYTES_MAX).map_err(option)?;
    // libzmq would silently take over the path of a running daemon.
    let path = endpoint.strip_prefix("ipc://");
    if path.is_some_and(|path| UnixStream::connect(path).is_ok()) {
        return Err(fail(in_use(endpoint, key)));
    }
    door.bind(context, socket, endpoint, name).map_err(|e| fail(bind_cause(endpoint, key, e)))
}

/// Why binding failed and what to do.
fn bind_cause(endpoint: &str, key: &str, error: zmq::Error) -> String {
    match error {
        zmq::Error::EADDRINUSE => in_use(endpoint, key),
        zmq::Error::EADDRNOTAVAIL | zmq::Error::ENODEV => format!(
            "this machine has no such address; set `{key}` to 127.0.0.1, the address of one of its interfaces, or * ({error})"
        ),
        zmq::Error::EACCES => {
            format!(
                "permission denied; ports below 1024 and other users' folders need special rights: choose another `{key}`"
            )
        }
        other => format!(
            "cannot be bound ({other}); `{key}` is written tcp://ADDRESS:PORT or ipc://PATH, as in tcp://127.0.0.1:5711"
        ),
    }
}

fn in_use(endpoint: &str, key: &str) -> String {
    let what = match endpoint.rsplit_once(':').map(|(_, port)| port).filter(|_| endpoint.starts_with("tcp://")) {
        Some(port) => format!("port {port} is already in use (`ss -ltnp | grep :{port}` shows the program)"),
        None => "another process already listens there".to_string(),
    };
    format!("{what}: stop that program (another haltere?) or set another `{key}`")
}

#[cfg(test)]
mod tests;
