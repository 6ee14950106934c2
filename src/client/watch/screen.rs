//! `haltere watch --screen`: the facts of the monitor's page on a terminal.
//!
//! Why it exists: over ssh there is no browser. What it must never do: know anything that the page does not (both are drawn from
//! the same state), show stale data as if it were fresh, or leave the terminal changed when it ends in order.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use super::plane::Plane;
use super::{WatchError, WatchOptions};
use crate::client::state::events::{Fate, Level};
use crate::client::state::{Daemon, State};
use crate::client::subscribe::subscribe;
use crate::frame::Quality;
use crate::sys::clock::now_ns;
use crate::wire::subscriber::{Content, DecodeMessage, parse};

/// Time between two updates of the screen, ns.
const DRAW_EVERY_NS: u64 = 200_000_000;
/// Longest wait for a message, ms.
const WAIT_MS: i32 = 50;
/// An older decode is not shown, ns.
const STALE_NS: u64 = 1_500_000_000;
/// Characters of a bar.
const BAR: usize = 40;
/// Labels and events shown.
const LABELS_MAX: usize = 16;
const EVENTS: usize = 8;
/// Decisions shown.
const DECISIONS: usize = 4;
/// A second screen without cursor, on which long lines are cut at the edge instead of wrapped.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Back to the terminal as it was.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Ends a line: clears what is left of a longer one; the last line clears everything below.
const END_OF_LINE: &str = "\x1b[0m\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const BOLD: &str = "\x1b[1m";
const ALARM: &str = "\x1b[1;97;41m";
const GOOD: &str = "\x1b[1;30;42m";
const CAUTION: &str = "\x1b[1;30;43m";

/// The terminal while it shows the screen; gives it back on every way out except a second Ctrl-C, which ends the process at once.
struct Terminal<'a>(&'a mut dyn Write);

impl<'a> Terminal<'a> {
    fn enter(out: &'a mut dyn Write) -> io::Result<Self> {
        let terminal = Self(out);
        terminal.0.write_all(ENTER.as_bytes())?;
        Ok(terminal)
    }

    fn show(&mut self, drawn: &str) -> io::Result<()> {
        self.0.write_all(drawn.as_bytes())?;
        self.0.flush()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = self.show(LEAVE);
    }
}

/// Draws until `stop`, the duration, the number of decodes, or until `out` is closed.
///
/// # Errors
/// Any [`WatchError`]. An absent daemon is no error: it may start later.
pub fn screen(options: &WatchOptions, stop: &AtomicBool, out: &mut dyn Write) -> Result<(), WatchError> {
    let fault = |cause| WatchError::Socket { endpoint: options.endpoint.clone(), cause };
    let socket = subscribe(&options.endpoint, WAIT_MS, options.keys.as_ref()).map_err(fault)?;
    let began_ns = now_ns();
    let mut state = State::new(&options.endpoint, Err("a terminal draws its own".to_owned()), began_ns);
    let (mut plane, mut due_ns) = (Plane::default(), began_ns);
    let Ok(mut terminal) = Terminal::enter(out) else { return Ok(()) };
    loop {
        let now_ns = match socket.recv_multipart(0) {
            Ok(parts) => {
                state.receive(&parts, now_ns());
                follow(&parts, &mut plane);
                now_ns()
            }
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => now_ns(),
            Err(cause) => return Err(fault(cause)),
        };
        state.check_silence(now_ns);
        let over = options.duration.is_some_and(|d| Duration::from_nanos(now_ns - began_ns) >= d)
            || options.frames.is_some_and(|n| state.tally.decodes >= n);
        let ends = over || stop.load(Relaxed);
        if !ends && now_ns < due_ns {
            continue;
        }
        due_ns = now_ns + DRAW_EVERY_NS;
        if ends {
            drop(terminal);
            // The last picture stays above the prompt. A terminal that is gone has no use for it.
            let _ = picture(&state, &mut plane, now_ns).iter().try_for_each(|line| writeln!(out, "{line}\x1b[0m"));
            return Ok(());
        }
        if terminal.show(&draw(&state, &mut plane, now_ns)).is_err() {
            return Ok(());
        }
    }
}

/// Follows the embedding of decodes that can be trusted.
fn follow(parts: &[Vec<u8>], plane: &mut Plane) {
    if let Ok(Content::Decode(decode, values)) = parse(parts).map(|message| message.content)
        && matches!(decode.quality, Quality::Ok | Quality::Degraded)
    {
        plane.push(&values);
    }
}

/// The picture, each line on a row of its own, so that a terminal with fewer rows does not scroll.
fn draw(state: &State, plane: &mut Plane, now_ns: u64) -> String {
    let lines = picture(state, plane, now_ns);
    let rows = lines.iter().enumerate();
    let drawn: String = rows.map(|(row, line)| format!("\x1b[{};1H{line}{END_OF_LINE}", row + 1)).collect();
    format!("{drawn}{CLEAR_BELOW}")
}

fn picture(state: &State, plane: &mut Plane, now_ns: u64) -> Vec<String> {
    let mut lines = vec![headline(state, now_ns), String::new()];
    let last = state.last.as_ref().filter(|last| now_ns.saturating_sub(last.seen_ns) <= STALE_NS);
    let alive = state.daemon(now_ns) == Daemon::Alive;
    lines.push(match (last, state.ready(now_ns)) {
        (Some(last), _) if alive => action(&last.decode),
        (_, Err(why)) if state.has_ended(now_ns) => format!("{BOLD}{why}"),
        (_, Err(why)) => format!("{ALARM}  {}  ", loud(&why)),
        _ => String::new(),
    });
    lines.push(String::new());
    if let Some(last) = last.filter(|_| alive) {
        probabilities(&last.decode, state.status.as_ref().map(|(_, status)| status), &mut lines);
        lines.push(motion(&last.decode, plane));
    }
    lines.push(latencies(state));
    lines.push(counts(state, now_ns));
    decisions(state, now_ns, &mut lines);
    lines.push(String::new());
    let events: Vec<_> = state.events.since(&mut 0).collect();
    lines.extend(events.iter().rev().take(EVENTS).map(|line| match line.level {
        Level::Info => line.text.clone(),
        Level::Warn => format!("{BOLD}{}", line.text),
        Level::Bad => format!("{ALARM}{}", line.text),
    }));
    lines
}

/// How each rule stands, and the last decisions; of a daemon that is silent no rule is said to be armed.
fn decisions(state: &State, now_ns: u64, lines: &mut Vec<String>) {
    let Some((_, status)) = &state.status else { return };
    let Some(rules) = status["decisions"].as_object() else { return };
    for (name, rule) in rules {
        let (colour, standing) = match (state.daemon(now_ns), rule["on"] == true, rule["armed"] == true) {
            (Daemon::Alive, true, true) => (CAUTION, " ARMED "),
            (Daemon::Alive, true, false) => (BOLD, "disarmed"),
            (Daemon::Alive, false, _) => (BOLD, "off"),
            _ => (ALARM, " unknown "),
        };
        let left = |key: &str, of: &str| rule[key].as_u64().map_or(String::new(), |ms| format!("  {ms} ms left {of}"));
        let number = |key: &str| rule[key].as_u64().unwrap_or_default();
        lines.push(format!(
            "rule {name}  {colour}{standing}\x1b[0m  decisions {}, outputs {}, sham {}, ended early {}{}{}",
            number("decisions"),
            number("outputs"),
            number("shams"),
            number("ended"),
            left("minute_left_ms", "of the minute's dose"),
            left("session_left_ms", "of the session's dose")
        ));
    }
    let made: Vec<_> = state.decisions.since(&mut 0).collect();
    lines.extend(made.iter().rev().take(DECISIONS).map(|decided| match decided.fate {
        Fate::Output => format!("{BOLD}  {}", decided.text),
        Fate::Sham | Fate::Withheld | Fate::Ended => format!("  {}", decided.text),
    }));
}

/// In capitals, but for the sentence of a refusal: its keys and values are read letter by letter.
fn loud(why: &str) -> String {
    match why.split_once("every frame: ") {
        Some((what, sentence)) => format!("{}EVERY FRAME: {sentence}", what.to_uppercase()),
        None => why.to_uppercase(),
    }
}

/// Quality, rig, model, frame, rate.
fn headline(state: &State, now_ns: u64) -> String {
    let Some(last) = &state.last else { return format!("{}  no decode yet", state.endpoint) };
    let (colour, quality) = match (state.daemon(now_ns), last.decode.quality) {
        (Daemon::Alive, Quality::Ok) => (GOOD, "ok"),
        (Daemon::Alive, quality @ (Quality::Degraded | Quality::Warmup)) => (CAUTION, quality.name()),
        (Daemon::Alive, quality) => (ALARM, quality.name()),
        (Daemon::Ended, _) => (BOLD, "ended"),
        _ => (ALARM, "silent"),
    };
    let model = last.model["name"].as_str().unwrap_or("-");
    let generation = last.model["generation"].as_u64().unwrap_or_default();
    let frame = last.decode.frame.map_or("-".into(), |frame| frame.to_string());
    let rate = state.rate_hz(now_ns).map_or("-".into(), |hz| format!("{hz:.1}"));
    format!(
        "{colour} {quality} \x1b[0m  {}  model {model} generation {generation}  frame {frame}  {rate} decodes/s",
        last.source
    )
}

fn action(decode: &DecodeMessage) -> String {
    let reason = decode.reason.as_deref().map_or(String::new(), |reason| format!("  ({})", reason.replace('_', " ")));
    let novelty = decode.novelty.map_or(String::new(), |novelty| format!("  novelty {novelty:.2}"));
    let confidence = decode.confidence.map_or(String::new(), |c| format!("  {:.0} %", c * 100.0));
    let spaced = |word: &str| word.to_uppercase().replace('_', " ").chars().flat_map(|c| [c, ' ']).collect::<String>();
    let word = match (decode.quality, decode.action.as_deref()) {
        (Quality::Warmup, _) => {
            let left = decode.warmup_frames_left.map_or(String::new(), |left| format!(": {left} frames left"));
            format!("warming up{left}")
        }
        (_, None) => "this model names no action".to_owned(),
        (_, Some(action)) => spaced(action),
    };
    let colour = if matches!(decode.quality, Quality::Stale | Quality::Fail) { ALARM } else { BOLD };
    format!("  {colour}{word}\x1b[0m{confidence}{novelty}{reason}")
}

fn probabilities(decode: &DecodeMessage, status: Option<&Value>, lines: &mut Vec<String>) {
    let labels = status.and_then(|status| status["labels"].as_array());
    for (id, value) in decode.probs.iter().enumerate().take(LABELS_MAX) {
        let label =
            labels.and_then(|labels| labels.get(id)?.as_str()).map_or_else(|| format!("label {id}"), str::to_owned);
        let value = value.unwrap_or_default().clamp(0.0, 1.0);
        let bold = if decode.action_id == Some(id) { BOLD } else { "" };
        let bar = "█".repeat((value * BAR as f32).round() as usize);
        lines.push(format!("{bold}{label:>22} {:>4.0} % {bar}", value * 100.0));
    }
}

fn motion(decode: &DecodeMessage, plane: &mut Plane) -> String {
    let mut line = match decode.shift_px {
        Some([Some(dy), Some(dx)]) => format!("shift {dy:+6.2} {dx:+6.2} px"),
        _ => "no shift".to_owned(),
    };
    if let Some(peak) = decode.shift_peak {
        // Writing to a text cannot fail.
        let _ = write!(line, "  peak {peak:.2}");
    }
    if let Some(([x, y], arrow)) = plane.position() {
        let _ = write!(line, "   embedding ({x:+5.2}, {y:+5.2}) {arrow} [{}]", plane.trail());
    }
    line
}

fn latencies(state: &State) -> String {
    let latency = state.latencies.to_json();
    let ms = |key: &str| latency[key].as_f64().unwrap_or_default();
    if latency["count"] == 0 {
        return "no latency measured".to_owned();
    }
    let deadline = state.status.as_ref().and_then(|(_, status)| status["deadline_ms"].as_u64());
    let deadline = deadline.map_or(String::new(), |ms| format!("  deadline {ms}"));
    let [p50, p99, p999, max] = ["p50", "p99", "p999", "max"].map(ms);
    let age = state.last.as_ref().and_then(|last| last.decode.age_us);
    let age = age.map_or(String::new(), |us| format!("  age of the frame {:.2}", us / 1e3));
    format!("latency in the daemon, ms: p50 {p50:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2}{deadline}{age}")
}

fn counts(state: &State, now_ns: u64) -> String {
    let tally = &state.tally;
    let mut line = format!(
        "missing {}  skipped {}  lost in transit {}  silences {}  restarts {}",
        tally.missing, tally.skipped, tally.lost, tally.silences, tally.restarts
    );
    if let Some((seen_ns, status)) = &state.status {
        let number = |key: &str| status[key].as_u64().unwrap_or_default();
        let age_s = now_ns.saturating_sub(*seen_ns) / 1_000_000_000;
        let old = if age_s > 4 { format!("  ({age_s} s ago)") } else { String::new() };
        let _ = write!(line, "  received {}  fail-safe {}{old}", number("received"), number("stale"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn receive(state: &mut State, kind: &str, header: &str, ms: u64) {
        let mut parts = vec![format!("{kind}/rig1").into_bytes(), header.as_bytes().to_vec()];
        parts.extend((kind == "decode").then(|| vec![0; 4]));
        state.receive(&parts, ms * MS);
    }

    #[test]
    fn the_screen_shows_the_current_decode_and_an_alarm_once_it_is_stale() {
        let mut state = State::new("tcp://127.0.0.1:5711", Err(String::new()), 0);
        let mut plane = Plane::default();
        assert!(draw(&state, &mut plane, 0).contains("NOTHING RECEIVED FROM"));
        receive(&mut state, "heartbeat", r#"{"deadline_ms":300,"quality":"ok"}"#, 0);
        receive(&mut state, "status", r#"{"labels":["resting","walking"],"deadline_ms":250,"received":9}"#, 0);
        let decode = r#"{"seq":0,"shape":[1],"t_pub_ns":1,"quality":"ok","frame":12,"action":"walking","action_id":1,"probs":[0.25,0.75],
            "confidence":0.75,"shift_px":[0.5,-1.0],"latency_us":{"queue":1,"preprocess":2,"encode":3,"total":1500}}"#;
        receive(&mut state, "decode", decode, 10);
        let drawn = draw(&state, &mut plane, 20 * MS);
        for words in
            ["W A L K I N G", "75 %", "frame 12", "resting   25 %", "shift  +0.50  -1.00 px", "p99 1.5", "deadline 250"]
        {
            assert!(drawn.contains(words), "{words:?} is not in\n{drawn}");
        }
        assert_eq!(drawn.matches('█').count(), BAR);
        let rules = r#"{"decisions":{"walk":{"on":true,"armed":true,"decisions":3,"outputs":1,"shams":1,"ended":0,"minute_left_ms":40}}}"#;
        receive(&mut state, "status", rules, 12);
        let made = r#"{"seq":0,"name":"walk","number":3,"what":"withheld","reason":"sham","frame":12,"t_pub_ns":1,"cause":{}}"#;
        receive(&mut state, "decision", made, 13);
        let drawn = draw(&state, &mut plane, 20 * MS);
        for words in
            ["rule walk", " ARMED ", "outputs 1, sham 1", "40 ms left of the minute", "walk 3 at frame 12: SHAM trial"]
        {
            assert!(drawn.contains(words), "{words:?} is not in\n{drawn}");
        }
        let later = draw(&state, &mut plane, 5_000 * MS);
        assert!(!later.contains(" ARMED "), "{later}");
        assert!(
            later.contains("NO HEARTBEAT FOR") && !later.contains("W A L K I N G") && !later.contains('█'),
            "{later}"
        );
    }
}
