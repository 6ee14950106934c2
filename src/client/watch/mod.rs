//! A subscriber for people and scripts: one line per decode at reading speed, and a table at the end.
//!
//! Why it exists: whoever sets up a rig must see at a glance that it decodes, how fast, and when not to trust it.
//! What it must never do: slow the daemon down (it is one more subscriber), or show a number without naming it.

mod plane;
mod screen;
mod tally;
mod truth;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use super::publication::Publication;
use super::state::events::{decision_line, event_line};
use super::subscribe::subscribe;
use crate::frame::Quality;
use crate::sys::clock::now_ns;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::sockets::ClientKeys;
use crate::wire::subscriber::{Content, DecodeMessage, HeartbeatMessage, Message, parse};
use plane::Plane;
pub use screen::screen;
pub use tally::{DecisionCounts, StageReport, WatchReport};
use tally::{Tally, closed_loop_ns};
pub use truth::{ActionScore, MostProbable, Truth, TruthReport, truth_of};

/// Longest wait for a message before `stop` and silence are checked, ms.
const WAIT_MS: i32 = 20;
/// Time without any message after which a hint is printed, ns.
const NOTHING_NS: u64 = 2_000_000_000;

/// What to watch and for how long.
#[derive(Debug)]
pub struct WatchOptions {
    /// The daemon's PUB endpoint.
    pub endpoint: String,
    /// Only this source; `None` = all. Losses are counted over all sources, because `seq` is.
    pub source: Option<String>,
    /// Stop after this time; `None` = no limit.
    pub duration: Option<Duration>,
    /// Stop after this many decodes; `None` = no limit.
    pub frames: Option<u64>,
    /// One JSON object per message instead of lines for people.
    pub json: bool,
    /// Lines per second for people; events are shown at once.
    pub lines_per_s: f64,
    /// What the animal actually did, shown and scored beside the decodes.
    pub truth: Option<Truth>,
    /// Compare each decode with the label this many frames earlier: the model's look-ahead, in frames of the stream.
    pub look_ahead: u64,
    /// The model's actions in the order of their probabilities, if they are known before a status says so.
    pub labels: Vec<String>,
    /// Keys of this side and of the daemon; `None` = it asks for none.
    pub keys: Option<ClientKeys>,
}

/// Why watching could not start or continue.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Not an endpoint, or the socket failed.
    #[error("{endpoint}: {cause}; an endpoint is written tcp://ADDRESS:PORT or ipc://PATH, as in tcp://127.0.0.1:5711")]
    Socket {
        /// Which endpoint.
        endpoint: String,
        /// ZeroMQ's message.
        cause: zmq::Error,
    },
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl HasExitCode for WatchError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Socket { .. } => ExitCode::Other,
            Self::Output(_) => ExitCode::Sink,
        }
    }
}

/// Watches until `stop`, the duration, the number of decodes, or until `out` is closed.
///
/// # Errors
/// Any [`WatchError`]. An absent daemon is no error: it may start later.
pub fn watch(options: &WatchOptions, stop: &AtomicBool, out: &mut dyn Write) -> Result<WatchReport, WatchError> {
    let fault = |cause| WatchError::Socket { endpoint: options.endpoint.clone(), cause };
    let socket = subscribe(&options.endpoint, WAIT_MS, options.keys.as_ref()).map_err(fault)?;
    let began_ns = now_ns();
    let mut watcher = Watcher::new(options, began_ns);
    let shown = loop {
        let elapsed = Duration::from_nanos(now_ns() - began_ns);
        let enough = options.duration.is_some_and(|d| elapsed >= d)
            || options.frames.is_some_and(|n| watcher.tally.report.decodes >= n);
        if enough || stop.load(Relaxed) {
            break Ok(());
        }
        let message = match socket.recv_multipart(0) {
            Ok(parts) => Some(parts),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => None,
            Err(cause) => return Err(fault(cause)),
        };
        let now_ns = now_ns();
        let shown = message.map_or(Ok(()), |parts| watcher.receive(&parts, now_ns, out));
        if let Err(error) = shown.and_then(|()| watcher.check_silence(now_ns, out)) {
            break Err(error);
        }
    };
    let report = watcher.tally.finish((now_ns() - began_ns) as f64 / 1e9, options.truth.is_some());
    let shown = shown.and_then(|()| write_report(&report, options.json, out));
    match shown {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(report),
    }
}

fn write_report(report: &WatchReport, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if !json {
        return report.write(out);
    }
    let line = serde_json::json!({"topic": "summary", "report": report});
    writeln!(out, "{line}")
}

/// One message as written for scripts.
#[derive(serde::Serialize)]
struct Line<'a> {
    topic: &'a str,
    t_seen_ns: u64,
    header: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    /// The true action of the frame that the decode is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<&'a str>,
}

/// The state between two messages.
struct Watcher<'a> {
    options: &'a WatchOptions,
    tally: Tally,
    /// The model's actions, as far as they are known.
    labels: Vec<String>,
    plane: Plane,
    line_due_ns: u64,
    began_ns: u64,
    publication: Publication,
    /// Last sign of life and the silence that it allows, ns; `None` before the first heartbeat.
    sign_ns: Option<u64>,
    deadline_ns: u64,
    silent: bool,
    /// The hint that nothing was received is no longer due.
    hinted: bool,
    /// What is rehearsed, if it is a rehearsal.
    rehearsal: Option<String>,
}

impl<'a> Watcher<'a> {
    fn new(options: &'a WatchOptions, began_ns: u64) -> Self {
        Self {
            options,
            tally: Tally::default(),
            labels: options.labels.clone(),
            plane: Plane::default(),
            line_due_ns: 0,
            began_ns,
            publication: Publication::default(),
            sign_ns: None,
            deadline_ns: 0,
            silent: false,
            hinted: false,
            rehearsal: None,
        }
    }

    fn receive(&mut self, parts: &[Vec<u8>], now_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        self.hinted = true;
        let message = match parse(parts) {
            Ok(message) => message,
            Err(error) => {
                self.tally.report.damaged += 1;
                return self.notify(&format!("cannot read a message: {error}"), out);
            }
        };
        let old_ns = now_ns - self.publication.of(&message.header, now_ns);
        // `seq` counts over all sources, so losses are counted before any source is left out.
        let lost = match &message.content {
            Content::Decode(decode, _) => self.tally.count_decode(decode, now_ns),
            _ => None,
        };
        if self.options.source.as_ref().is_some_and(|wanted| *wanted != message.source) {
            return Ok(());
        }
        if let Some(line) = lost {
            self.notify(&line, out)?;
        }
        self.notice_rehearsal(&message.header, out)?;
        let truth = match &message.content {
            Content::Decode(decode, _) => self.truth_of(decode),
            _ => None,
        };
        if self.options.json {
            write_json(parts, &message, truth.as_deref(), now_ns, out)?;
        }
        match &message.content {
            Content::Decode(decode, embedding) => {
                self.tally.score.count(decode, truth.as_deref(), &self.labels);
                let trusted = matches!(decode.quality, Quality::Ok | Quality::Degraded);
                if trusted || decode.quality == Quality::Warmup {
                    self.sign_of_life(now_ns, out)?;
                }
                if trusted {
                    self.plane.push(embedding);
                }
                self.show(decode, truth.as_deref(), now_ns, old_ns, out)
            }
            Content::Heartbeat(HeartbeatMessage { deadline_ms, .. }) => {
                self.deadline_ns = deadline_ms.saturating_mul(1_000_000);
                self.sign_of_life(now_ns, out)
            }
            Content::Status => {
                let labels = message.header["labels"].as_array().into_iter().flatten();
                self.labels = labels.filter_map(|label| Some(label.as_str()?.to_owned())).collect();
                self.tally.report.status = Some(message.header);
                Ok(())
            }
            Content::Preview(..) => Ok(()),
            Content::Decision(decision) => {
                self.tally.count_decision(decision);
                self.notify(&decision_line(decision), out)
            }
            Content::Event => self.notify(&event_line(&message.header), out),
        }
    }

    /// A person must not take a rehearsal for an experiment.
    fn notice_rehearsal(&mut self, header: &Value, out: &mut dyn Write) -> io::Result<()> {
        let what = header.get("rehearsal").and_then(Value::as_str);
        if what == self.rehearsal.as_deref() {
            return Ok(());
        }
        self.rehearsal = what.map(str::to_owned);
        self.notify(&what.map_or_else(|| "the rehearsal is over".to_owned(), |what| format!("REHEARSAL: {what}")), out)
    }

    fn truth_of(&self, decode: &DecodeMessage) -> Option<String> {
        let frame = decode.frame?.checked_sub(self.options.look_ahead)?;
        self.options.truth.as_ref()?.of(frame)
    }

    /// The truth beside a decode: whether it was decoded correctly, the true action, and the accuracies so far.
    fn truth_text(&self, decode: &DecodeMessage, truth: Option<&str>) -> String {
        let mark = if decode.action.as_deref() == truth { '✓' } else { '✗' };
        let truth = truth.map_or_else(|| "? ".to_owned(), |truth| format!("{mark} {truth}"));
        let so_far = self.tally.score.accuracies();
        let so_far = so_far.map(|(a, b)| format!("accuracy {:5.1} %, balanced {:5.1} %", a * 100.0, b * 100.0));
        format!("{truth:<20}  {:<34}", so_far.unwrap_or_default())
    }

    fn sign_of_life(&mut self, now_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        self.sign_ns = Some(now_ns);
        if std::mem::take(&mut self.silent) { self.notify("the daemon is back", out) } else { Ok(()) }
    }

    fn check_silence(&mut self, now_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        let Some(sign_ns) = self.sign_ns else {
            if self.hinted || now_ns.saturating_sub(self.began_ns) < NOTHING_NS {
                return Ok(());
            }
            self.hinted = true;
            let endpoint = &self.options.endpoint;
            let hint = format!("nothing received from {endpoint} yet: does `haltere run` publish there?");
            return self.notify(&hint, out);
        };
        let age_ns = now_ns.saturating_sub(sign_ns);
        if self.silent || self.deadline_ns == 0 || age_ns <= self.deadline_ns {
            return Ok(());
        }
        self.silent = true;
        self.tally.report.silences += 1;
        self.notify(&format!("DAEMON SILENT for {} ms: assume neutral", age_ns / 1_000_000), out)
    }

    /// A separate line for what a person must not miss; scripts find it in the messages and the summary.
    fn notify(&self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.options.json { Ok(()) } else { writeln!(out, "!! {text}").and_then(|()| out.flush()) }
    }

    fn show(
        &mut self,
        decode: &DecodeMessage,
        truth: Option<&str>,
        now_ns: u64,
        old_ns: u64,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let untrusted = matches!(decode.quality, Quality::Stale | Quality::Fail);
        if self.options.json || (now_ns < self.line_due_ns && !untrusted) {
            return Ok(());
        }
        self.line_due_ns = now_ns + (1e9 / self.options.lines_per_s.max(0.01)) as u64;
        let frame = decode.frame.map_or("-".into(), |n| n.to_string());
        let action = decode.action.as_deref().unwrap_or("—");
        let confidence = decode.confidence.map_or(String::new(), |c| format!("{:.0} %", c * 100.0));
        let shift = match decode.shift_px {
            Some([Some(dy), Some(dx)]) => format!("shift {dy:+6.2} {dx:+6.2} px"),
            _ => format!("{:<22}", "no shift"),
        };
        let quality = decode.quality.name();
        let latency = latency_text(decode, now_ns);
        let beside =
            if self.options.truth.is_some() { self.truth_text(decode, truth) } else { self.motion_text(untrusted) };
        let novelty = decode.novelty.map_or(String::new(), |n| format!("  novelty {n:.2}"));
        let left = decode.warmup_frames_left.map_or(String::new(), |left| format!(", {left} frames left"));
        let reason = decode.reason.as_deref().map_or(String::new(), |r| format!("  ({r}{left})"));
        let old = if self.deadline_ns > 0 && old_ns > self.deadline_ns {
            format!("  PUBLISHED {} ms AGO: this program reads too slowly", old_ns / 1_000_000)
        } else {
            String::new()
        };
        writeln!(
            out,
            "{frame:>8}  {action:<18}{confidence:>5}  {beside}  {shift}  {quality:<8}  {latency}{novelty}{reason}{old}"
        )?;
        out.flush()
    }

    /// Where the embedding is and where it is moving; a line with the truth has no room for it.
    fn motion_text(&mut self, untrusted: bool) -> String {
        match self.plane.position().filter(|_| !untrusted) {
            Some(([x, y], arrow)) => format!("({x:+5.2}, {y:+5.2}) {arrow} [{}]", self.plane.trail()),
            None => format!("{:<27}", "no embedding yet"),
        }
    }
}

/// The closed-loop latency if it can be measured, else the age of the frame, else the daemon's share, each with its name.
fn latency_text(decode: &DecodeMessage, now_ns: u64) -> String {
    match (closed_loop_ns(decode, now_ns), decode.age_us, decode.latency_us) {
        (Some(ns), _, _) => format!("closed loop {:7.2} ms", ns as f64 / 1e6),
        (None, Some(age_us), _) => format!("age {:7.2} ms", age_us / 1e3),
        (None, None, Some(latency)) => format!("daemon {:7.2} ms", latency.total / 1e3),
        (None, None, None) => String::new(),
    }
}

fn write_json(
    parts: &[Vec<u8>],
    message: &Message,
    truth: Option<&str>,
    now_ns: u64,
    out: &mut dyn Write,
) -> io::Result<()> {
    let embedding = match &message.content {
        Content::Decode(_, embedding) => Some(embedding.as_slice()),
        _ => None,
    };
    let topic = String::from_utf8_lossy(&parts[0]);
    let line = Line { topic: &topic, t_seen_ns: now_ns, header: &message.header, embedding, truth };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)?;
    out.flush()
}

#[cfg(test)]
mod tests;
