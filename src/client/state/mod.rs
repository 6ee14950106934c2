//! The current state of the daemon as seen by a subscriber, with the age of each fact.
//!
//! Why it exists: page, terminal, metrics and readiness must agree. What it must never do: read a clock for an age (times are
//! passed in), keep an unbounded history, or let a fact look more recent than it is.

pub(crate) mod events;
pub mod latency;
pub mod plane;
pub(crate) mod word;

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde::Serialize;
use serde_json::Value;

use self::events::{Fate, Level, decision_line, event_line, level_of};
use self::latency::Latencies;
use self::plane::{Plane, Training};
use self::word::Words;
use crate::client::publication::Publication;
use crate::frame::{Picture, Quality};
use crate::wire::subscriber::{
    Content, DecisionMessage, DecodeMessage, HeartbeatMessage, Message, PreviewMessage, parse,
};

/// Points kept: one minute at 60 per second.
const POINTS_MAX: usize = 3600;
/// Shortest time between two points, unless something changed, ns. The counters count every decode.
const POINT_EVERY_NS: u64 = 15_000_000;
/// Events kept.
const EVENTS_MAX: usize = 200;
/// Decisions kept.
const DECISIONS_MAX: usize = 50;
/// Silence allowed until the first heartbeat gives the daemon's own limit, ns.
const DEADLINE_DEFAULT_NS: u64 = 1_000_000_000;
/// After the end of a series the daemon publishes no heartbeat; as long as a status is younger than this, that is no alarm, ns.
const STATUS_FRESH_NS: u64 = 3_000_000_000;
/// Decodes of frames that were still waiting when the end of their series was announced, ns.
const LAST_DECODES_NS: u64 = 500_000_000;
/// Time over which the rate of decodes is measured, ns.
const RATE_OVER_NS: u64 = 1_000_000_000;

/// Everything known about the daemon.
pub(crate) struct State {
    /// The daemon's PUB endpoint.
    pub(crate) endpoint: String,
    began_ns: u64,
    publication: Publication,
    /// Last sign of life, ns.
    sign_ns: Option<u64>,
    deadline_ns: u64,
    silent: bool,
    /// The last heartbeat says that nothing can be decoded.
    refuses: bool,
    /// Why the last message that was told of was refused.
    refusal: Option<String>,
    /// When the sender ended its series, until frames arrive again, ns.
    ended_ns: Option<u64>,
    /// When the state was last brought up to date, ns.
    now_ns: u64,
    /// The last decode.
    pub(crate) last: Option<Last>,
    /// The action as shown to people.
    pub(crate) words: Words,
    /// The last status and when it was received.
    pub(crate) status: Option<(u64, Value)>,
    /// Counts statuses, so that a viewer knows which one it has.
    pub(crate) statuses: u64,
    /// Counted since the monitor started.
    pub(crate) tally: Tally,
    expected_seq: Option<u64>,
    rate: Rate,
    /// The recent history of what is drawn over time.
    pub(crate) points: Series<Point>,
    /// The recent events.
    pub(crate) events: Series<Line>,
    /// The recent decisions.
    pub(crate) decisions: Series<Decided>,
    /// Of the daemon that is running now.
    pub(crate) latencies: Latencies,
    /// The embedding.
    pub(crate) plane: Plane,
    /// Frame, template and raw frame.
    pub(crate) pictures: [Option<PictureMessage>; 3],
}

/// The last decode, its sender and when it was received.
pub(crate) struct Last {
    pub(crate) seen_ns: u64,
    pub(crate) source: String,
    pub(crate) decode: DecodeMessage,
    /// As in the header: name, sha256, generation.
    pub(crate) model: Value,
    pub(crate) series: Option<String>,
}

/// The monitor's own counters.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) decodes: u64,
    /// Decodes that did not reach the monitor.
    pub(crate) lost: u64,
    /// Frames missing at the microscope.
    pub(crate) missing: u64,
    /// Frames skipped by the daemon.
    pub(crate) skipped: u64,
    pub(crate) restarts: u64,
    pub(crate) silences: u64,
    /// Messages that could not be read.
    pub(crate) damaged: u64,
}

/// One decode as drawn over time; the keys are short because there are thousands of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    /// When it was received, ms since the monitor started.
    t: u64,
    q: Quality,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    p: Vec<Option<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<[Option<f32>; 2]>,
    /// Latency in the daemon, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    l: Option<f64>,
    /// Mean light, counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<f32>,
    /// Saturated pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    sat: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xy: Option<[f32; 2]>,
    /// Frames missing or skipped before it.
    g: u64,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// ms since 1970.
    unix_ms: u64,
    /// ms since the monitor started.
    t: u64,
    /// A note of the experimenter, drawn over the traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// A decision, or the end of an output.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decided {
    /// ms since 1970.
    unix_ms: u64,
    pub(crate) fate: Fate,
    pub(crate) text: String,
}

/// A picture, ready to be sent to a page.
pub(crate) struct PictureMessage {
    pub(crate) seen_ns: u64,
    /// Number of this picture among those of its kind.
    pub(crate) number: u64,
    pub(crate) message: Bytes,
}

/// The most recent values of a series; each has a number of its own.
pub(crate) struct Series<T> {
    kept: VecDeque<T>,
    most: usize,
    next: u64,
}

impl<T> Series<T> {
    const fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most, next: 0 }
    }

    fn push(&mut self, value: T) {
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(value);
        self.next += 1;
    }

    /// The values added since `cursor`, which moves to the end.
    pub(crate) fn since(&self, cursor: &mut u64) -> impl Iterator<Item = &T> {
        let fresh = usize::try_from(self.next - (*cursor).min(self.next)).unwrap_or(usize::MAX);
        *cursor = self.next;
        self.kept.iter().skip(self.kept.len().saturating_sub(fresh))
    }
}

/// Decodes per second, measured over a second.
#[derive(Debug, Default)]
struct Rate {
    from_ns: u64,
    decodes: u64,
    hz: Option<f64>,
}

impl Rate {
    fn count(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.from_ns);
        if elapsed >= RATE_OVER_NS {
            // The first second after a pause gives no rate.
            self.hz = (elapsed < 3 * RATE_OVER_NS).then_some(self.decodes as f64 / (elapsed as f64 / 1e9));
            (self.from_ns, self.decodes) = (now_ns, 0);
        }
        self.decodes += 1;
    }
}

/// Changes that are sent to a viewer at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Urgent {
    daemon: Daemon,
    quality: Option<Quality>,
    action: Option<String>,
    events: u64,
    decisions: u64,
}

/// Is the daemon alive?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// No sign of life since the monitor started.
    Unheard,
    /// The last sign of life is younger than the deadline.
    Alive,
    /// It is older.
    Silent,
    /// It is older because the sender ended its series; the daemon still reports its status.
    Ended,
}

impl Daemon {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unheard => "unheard",
            Self::Alive => "alive",
            Self::Silent => "silent",
            Self::Ended => "ended",
        }
    }
}

impl State {
    pub(crate) fn new(endpoint: &str, training: Result<Training, String>, now_ns: u64) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            began_ns: now_ns,
            publication: Publication::default(),
            sign_ns: None,
            deadline_ns: DEADLINE_DEFAULT_NS,
            silent: false,
            refuses: false,
            refusal: None,
            ended_ns: None,
            now_ns,
            last: None,
            words: Words::default(),
            status: None,
            statuses: 0,
            tally: Tally::default(),
            expected_seq: None,
            rate: Rate::default(),
            points: Series::new(POINTS_MAX),
            events: Series::new(EVENTS_MAX),
            decisions: Series::new(DECISIONS_MAX),
            latencies: Latencies::default(),
            plane: Plane::new(training),
            pictures: [None, None, None],
        }
    }

    /// ms since the monitor started.
    pub(crate) fn since_start_ms(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.began_ns) / 1_000_000
    }

    /// Takes one message. Whatever it says counts from when it was published.
    pub(crate) fn receive(&mut self, parts: &[Vec<u8>], now_ns: u64) {
        self.now_ns = now_ns;
        let Message { source, header, content } = match parse(parts) {
            Ok(message) => message,
            Err(error) => {
                self.tally.damaged += 1;
                return self.add_event(Level::Warn, format!("cannot read a message: {error}"));
            }
        };
        let now_ns = self.publication.of(&header, now_ns);
        match content {
            Content::Decode(decode, values) => self.take_decode(*decode, &values, source, &header, now_ns),
            Content::Heartbeat(HeartbeatMessage { deadline_ms, quality }) => {
                self.refuses = quality == Quality::Stale;
                self.deadline_ns = deadline_ms.saturating_mul(1_000_000);
                self.sign_of_life(now_ns);
            }
            Content::Status => self.take_status(header, now_ns),
            Content::Decision(decision) => self.take_decision(&decision),
            Content::Event => self.take_event(&header, now_ns),
            Content::Preview(preview, _) => self.take_preview(&preview, &header, &parts[2], now_ns),
        }
    }

    /// Notices when the daemon has fallen silent.
    pub(crate) fn check_silence(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        if self.daemon(now_ns) == Daemon::Silent && !self.silent {
            self.silent = true;
            self.tally.silences += 1;
            let allowed = self.deadline_ns / 1_000_000;
            self.add_event(Level::Bad, format!("no heartbeat for more than {allowed} ms: assume neutral"));
        }
    }

    /// Whether it is alive, as far as can be told from here.
    pub(crate) fn daemon(&self, now_ns: u64) -> Daemon {
        match self.silence_ns(now_ns) {
            None => Daemon::Unheard,
            Some(age_ns) if age_ns <= self.deadline_ns => Daemon::Alive,
            Some(_) if self.has_ended(now_ns) => Daemon::Ended,
            Some(_) => Daemon::Silent,
        }
    }

    /// Did the sender end its series, and does the daemon wait for the next?
    pub(crate) fn has_ended(&self, now_ns: u64) -> bool {
        let reported = self.status.as_ref().map(|(seen_ns, _)| now_ns.saturating_sub(*seen_ns));
        self.ended_ns.is_some() && reported.is_some_and(|age_ns| age_ns <= STATUS_FRESH_NS)
    }

    /// Age of the last sign of life.
    pub(crate) fn silence_ns(&self, now_ns: u64) -> Option<u64> {
        self.sign_ns.map(|sign_ns| now_ns.saturating_sub(sign_ns))
    }

    /// Silence after which the daemon must be assumed dead.
    pub(crate) fn deadline_ms(&self) -> u64 {
        self.deadline_ns / 1_000_000
    }

    /// Does the daemon live, and refuse every frame?
    pub(crate) fn refuses(&self) -> bool {
        self.refuses
    }

    /// What cannot wait for the next update.
    pub(crate) fn urgent(&self, now_ns: u64) -> Urgent {
        let decode = self.last.as_ref().map(|last| &last.decode);
        Urgent {
            daemon: self.daemon(now_ns),
            quality: decode.map(|decode| decode.quality),
            action: self.words.shown().map(|word| word.action.clone()),
            events: self.events.next,
            decisions: self.decisions.next,
        }
    }

    /// Decodes per second; `None` while none arrive.
    pub(crate) fn rate_hz(&self, now_ns: u64) -> Option<f64> {
        self.rate.hz.filter(|_| now_ns.saturating_sub(self.rate.from_ns) < 3 * RATE_OVER_NS)
    }

    /// Can the decodes be trusted now?
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn ready(&self, now_ns: u64) -> Result<(), String> {
        match (self.daemon(now_ns), self.silence_ns(now_ns)) {
            (Daemon::Alive, _) => {}
            (Daemon::Silent, Some(age_ns)) => {
                let (age, allowed) = (age_ns / 1_000_000, self.deadline_ms());
                return Err(format!("no heartbeat for {age} ms (limit {allowed} ms)"));
            }
            (Daemon::Ended, _) => return Err("the series has ended: waiting for the next".to_owned()),
            _ => return Err(format!("nothing received from {} yet", self.endpoint)),
        }
        let Some(last) = &self.last else {
            return Err(match (self.refuses, &self.refusal) {
                (false, _) => "no decode yet: the daemon is waiting for frames".to_owned(),
                (true, Some(why)) => format!("no decode yet: the daemon refuses every frame: {why}"),
                (true, None) => "no decode yet: the daemon refuses every frame: see its log".to_owned(),
            });
        };
        let age_ms = now_ns.saturating_sub(last.seen_ns) / 1_000_000;
        let stale_ms = self.status.as_ref().and_then(|(_, status)| status["deadline_ms"].as_u64());
        if let Some(stale_ms) = stale_ms.filter(|&stale_ms| age_ms > stale_ms) {
            return Err(format!("the last decode is {age_ms} ms old (limit {stale_ms} ms)"));
        }
        if last.decode.quality == Quality::Ok {
            return Ok(());
        }
        let reason = last.decode.reason.as_deref().map_or(String::new(), |reason| format!(" ({reason})"));
        Err(format!("decode quality is {}{reason}", last.decode.quality.name()))
    }

    fn add_event(&mut self, level: Level, text: String) {
        let t = self.since_start_ms(self.now_ns);
        self.events.push(Line { unix_ms: unix_ms(), t, mark: None, level, text });
    }

    fn take_event(&mut self, header: &Value, now_ns: u64) {
        match header["event"].as_str().unwrap_or_default() {
            "rejected" => self.refusal = header["message"].as_str().map(str::to_owned),
            "series_ended" => self.ended_ns = Some(now_ns),
            "series_began" => self.ended_ns = None,
            _ => {}
        }
        // After the end of a series no fresh decode is to be expected.
        let expected = header["event"] == "stale" && self.ended_ns.is_some();
        let level = if expected { Level::Info } else { level_of(header) };
        let mark = (header["event"] == "mark").then(|| header["text"].as_str().unwrap_or_default().to_owned());
        let t = self.since_start_ms(now_ns);
        self.events.push(Line { unix_ms: unix_ms(), t, mark, level, text: event_line(header) });
    }

    fn take_decision(&mut self, decision: &DecisionMessage) {
        let (fate, text) = (Fate::of(decision), decision_line(decision));
        self.decisions.push(Decided { unix_ms: unix_ms(), fate, text });
    }

    fn sign_of_life(&mut self, now_ns: u64) {
        self.sign_ns = Some(now_ns);
        if std::mem::take(&mut self.silent) {
            self.add_event(Level::Info, "the heartbeat has returned".to_owned());
        }
    }

    /// A new process: what was measured on the old one does not apply.
    fn note_restart(&mut self) {
        self.tally.restarts += 1;
        self.latencies = Latencies::default();
        (self.status, self.expected_seq, self.last, self.refusal) = (None, None, None, None);
        self.pictures = [None, None, None];
        self.add_event(Level::Bad, "the daemon restarted".to_owned());
    }

    fn take_status(&mut self, status: Value, now_ns: u64) {
        let uptime = |status: &Value| status["uptime_s"].as_f64().unwrap_or_default();
        if self.status.as_ref().is_some_and(|(_, before)| uptime(&status) < uptime(before)) {
            self.note_restart();
        }
        self.status = Some((now_ns, status));
        self.statuses += 1;
    }

    fn take_decode(&mut self, decode: DecodeMessage, values: &[f32], source: String, header: &Value, now_ns: u64) {
        match self.expected_seq {
            Some(expected) if decode.seq < expected => self.note_restart(),
            Some(expected) if decode.seq > expected => {
                let lost = decode.seq - expected;
                self.tally.lost += lost;
                self.add_event(Level::Warn, format!("{lost} decode(s) lost between daemon and monitor"));
            }
            _ => {}
        }
        self.expected_seq = Some(decode.seq + 1);
        self.tally.decodes += 1;
        self.tally.missing += decode.frame_gap;
        self.tally.skipped += decode.skipped;
        self.rate.count(now_ns);
        if let Some(latency) = &decode.latency_us {
            self.latencies.record(latency);
            self.ended_ns = self.ended_ns.filter(|ended_ns| now_ns.saturating_sub(*ended_ns) < LAST_DECODES_NS);
        }
        self.words.push(&decode, now_ns);
        if matches!(decode.quality, Quality::Ok | Quality::Degraded | Quality::Warmup) {
            self.sign_of_life(now_ns);
        }
        let (model, series) = (header["model"].clone(), header["series"].as_str().map(str::to_owned));
        self.add_point(&decode, values, &model, now_ns);
        self.last = Some(Last { seen_ns: now_ns, source, decode, model, series });
    }

    /// Keeps a point of a decode if one is due or something changed.
    fn add_point(&mut self, decode: &DecodeMessage, values: &[f32], model: &Value, now_ns: u64) {
        let t = self.since_start_ms(now_ns);
        let g = decode.frame_gap + decode.skipped;
        let before = self.points.kept.back();
        let soon = before.is_some_and(|p| t.saturating_sub(p.t) * 1_000_000 < POINT_EVERY_NS);
        let changed = before.is_some_and(|p| (p.q, p.id) != (decode.quality, decode.action_id));
        if soon && !changed && g == 0 {
            return;
        }
        let trusted = matches!(decode.quality, Quality::Ok | Quality::Degraded);
        let sha256 = model["sha256"].as_str().unwrap_or_default();
        let xy = if trusted { self.plane.push(values, decode.action_id, sha256) } else { None };
        self.points.push(Point {
            t,
            q: decode.quality,
            id: decode.action_id,
            p: decode.probs.clone(),
            s: decode.shift_px,
            l: decode.latency_us.map(|latency| latency.total / 1e3),
            b: decode.light,
            sat: decode.saturated_pixels,
            xy,
            g,
        });
    }

    /// Packs a picture for a page: length of the header (u32), header padded to a multiple of four bytes, values. Little-endian.
    fn take_preview(&mut self, preview: &PreviewMessage, header: &Value, pixels: &[u8], now_ns: u64) {
        let mut text = header.to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(4) - text.len()));
        let mut message = Vec::with_capacity(4 + text.len() + pixels.len());
        message.extend((text.len() as u32).to_le_bytes());
        message.extend(text.as_bytes());
        message.extend(pixels);
        let slot = &mut self.pictures[match preview.what {
            Picture::Frame => 0,
            Picture::Template => 1,
            Picture::Raw => 2,
        }];
        let number = slot.as_ref().map_or(0, |picture| picture.number) + 1;
        *slot = Some(PictureMessage { seen_ns: now_ns, number, message: message.into() });
    }
}

/// ms since 1970, for people.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests;
