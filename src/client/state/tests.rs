//! The state under messages and times of the test's own: no socket, no clock.

use super::*;
use crate::client::monitor::live::{Cursor, messages};
use serde_json::json;

const MS: u64 = 1_000_000;

fn state() -> State {
    State::new("tcp://127.0.0.1:5711", Err("none".into()), 0)
}

fn message(kind: &str, header: &Value, body: Option<&[f32]>) -> Vec<Vec<u8>> {
    let body = body.map(|values| values.iter().flat_map(|v| v.to_le_bytes()).collect());
    [Some(format!("{kind}/rig1").into_bytes()), Some(header.to_string().into_bytes()), body]
        .into_iter()
        .flatten()
        .collect()
}

fn decode(seq: u64, quality: &str) -> Vec<Vec<u8>> {
    let header = json!({"seq": seq, "shape": [2], "t_pub_ns": 1, "quality": quality, "frame": seq, "frame_gap": 0,
        "action": "walking", "action_id": 1, "probs": [0.1, 0.9], "confidence": 0.9, "model": {"name": "m", "sha256": "ab", "generation": 1},
        "latency_us": {"queue": 1.0, "preprocess": 2.0, "encode": 3.0, "total": 700.0}});
    message("decode", &header, Some(&[0.5, 0.1]))
}

fn heartbeat() -> Vec<Vec<u8>> {
    message("heartbeat", &json!({"deadline_ms": 300, "quality": "ok"}), None)
}

fn status(uptime_s: f64) -> Vec<Vec<u8>> {
    message("status", &json!({"uptime_s": uptime_s, "deadline_ms": 250}), None)
}

fn event_texts(state: &State) -> Vec<&str> {
    state.events.since(&mut 0).map(|line| line.text.as_str()).collect()
}

#[test]
fn readiness_says_at_each_step_what_is_missing() {
    let mut state = state();
    assert!(state.ready(0).unwrap_err().contains("nothing received from tcp://127.0.0.1:5711"));
    state.receive(&heartbeat(), 10 * MS);
    assert!(state.ready(11 * MS).unwrap_err().contains("waiting for frames"));
    state.receive(&decode(0, "warmup"), 20 * MS);
    assert_eq!(state.ready(21 * MS).unwrap_err(), "decode quality is warmup");
    state.receive(&status(1.0), 25 * MS);
    state.receive(&decode(1, "ok"), 30 * MS);
    assert_eq!(state.ready(31 * MS), Ok(()));
    state.receive(&heartbeat(), 290 * MS);
    assert!(state.ready(290 * MS).unwrap_err().contains("260 ms old (limit 250 ms)"), "a heartbeat without decodes");
    assert!(state.ready(700 * MS).unwrap_err().contains("no heartbeat for 410 ms (limit 300 ms)"));
}

#[test]
fn a_daemon_that_refuses_every_frame_is_not_said_to_wait_and_the_sentence_is_shown() {
    let mut state = state();
    state.receive(&message("heartbeat", &json!({"deadline_ms": 300, "quality": "stale"}), None), 10 * MS);
    assert!(state.ready(11 * MS).unwrap_err().contains("refuses every frame: see its log"));
    let sentence = "header has no \"dtype\"; it must give uint8";
    let event =
        json!({"event": "rejected", "reason": "pixel_type", "count": 1, "message": sentence, "clock": "monotonic"});
    state.receive(&message("event", &event, None), 12 * MS);
    assert!(state.ready(13 * MS).unwrap_err().ends_with(sentence));
    assert_eq!(event_texts(&state), [format!("rejected, count 1, reason pixel_type: {sentence}")]);
    state.receive(&decode(0, "warmup"), 20 * MS);
    assert_eq!(state.ready(21 * MS).unwrap_err(), "decode quality is warmup");
}

#[test]
fn a_silence_is_reported_once_and_so_is_its_end() {
    let mut state = state();
    state.check_silence(5_000 * MS);
    assert!(event_texts(&state).is_empty(), "a daemon that was never heard does not fall silent");
    state.receive(&heartbeat(), 5_000 * MS);
    for ms in (5_000..6_000).step_by(20) {
        state.check_silence(ms * MS);
    }
    state.receive(&heartbeat(), 6_000 * MS);
    assert_eq!(
        event_texts(&state),
        ["no heartbeat for more than 300 ms: assume neutral", "the heartbeat has returned"]
    );
    assert_eq!((state.tally.silences, state.daemon(6_000 * MS)), (1, Daemon::Alive));
}

#[test]
fn a_stale_decode_is_no_sign_of_life() {
    let mut state = state();
    state.receive(&heartbeat(), 0);
    state.receive(&decode(0, "stale"), 400 * MS);
    state.receive(&status(1.0), 400 * MS);
    assert_eq!(state.daemon(400 * MS), Daemon::Silent);
}

#[test]
fn a_restart_is_seen_once_by_seq_or_by_uptime_and_begins_the_measurements_anew() {
    let by_seq = [decode(5, "ok"), status(9.0), decode(0, "ok"), status(0.5)];
    let by_uptime = [decode(5, "ok"), status(9.0), status(0.5), decode(0, "ok")];
    for messages in [by_seq, by_uptime] {
        let mut state = state();
        for (at, parts) in messages.iter().enumerate() {
            state.receive(parts, at as u64 * 100 * MS);
        }
        assert_eq!((state.tally.restarts, state.tally.lost, event_texts(&state)), (1, 0, vec!["the daemon restarted"]));
        assert_eq!(state.latencies.to_json()["count"], 1, "of the new daemon only");
    }
}

#[test]
fn decodes_lost_in_transit_are_counted_and_reported() {
    let mut state = state();
    [0, 1, 4].iter().for_each(|seq| state.receive(&decode(*seq, "ok"), seq * 33 * MS));
    assert_eq!((state.tally.lost, event_texts(&state)), (2, vec!["2 decode(s) lost between daemon and monitor"]));
    state.receive(&[b"noise".to_vec()], 200 * MS);
    assert_eq!(state.tally.damaged, 1);
}

#[test]
fn a_page_gets_the_past_once_and_then_only_what_is_new_and_the_past_is_bounded() {
    let mut state = state();
    (0..20_000u64).for_each(|seq| state.receive(&decode(seq, "ok"), seq * 2 * MS));
    let mut cursor = 0;
    let points = state.points.since(&mut cursor).count();
    assert!(points <= POINTS_MAX && points > 2000, "{points} points of 20,000 decodes at 500 per second");
    assert_eq!(state.points.since(&mut cursor).count(), 0);
    state.receive(&decode(20_000, "degraded"), 40_000 * MS);
    assert_eq!(state.points.since(&mut cursor).count(), 1, "a change is never thinned out");
    assert!((state.rate_hz(40_000 * MS).unwrap() - 500.0).abs() < 5.0);
    assert_eq!(state.rate_hz(45_000 * MS), None, "an old rate is no rate");
}

#[test]
fn metrics_leave_out_what_is_old_and_end_as_they_must() {
    let mut state = state();
    let header = json!({"uptime_s": 1.5, "received": 7, "rejected": {"shape": 2}, "dropped": {"skip_to_latest": 1}});
    state.receive(&message("status", &header, None), 0);
    state.receive(&heartbeat(), 0);
    state.receive(&decode(0, "ok"), 0);
    let fresh = crate::client::monitor::metrics::text(&state, 100 * MS);
    for line in [
        "haltere_up 1",
        "haltere_frames_received_total 7",
        "haltere_rejected_total{reason=\"shape\"} 2",
        "haltere_quality{haltere_quality=\"ok\"} 1",
        "haltere_latency_seconds_bucket{stage=\"total\",le=\"0.001\"} 1",
        "haltere_latency_seconds_bucket{stage=\"total\",le=\"0.0005\"} 0",
    ] {
        assert!(fresh.lines().any(|found| found == line), "{line:?} is not in\n{fresh}");
    }
    assert!(fresh.ends_with("\n# EOF\n"));
    let old = crate::client::monitor::metrics::text(&state, 60_000 * MS);
    assert!(
        old.contains("haltere_up 0") && !old.contains("frames_received") && !old.contains("haltere_quality"),
        "{old}"
    );
}

/// `config/monitoring` names no metric that a daemon in full swing does not have.
#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let mut state = state();
    let counts = json!({"uptime_s": 1.5, "deadline_ms": 250, "frame_rate_hz": 30.0, "focus": 0.9, "memory_bytes": 1e8,
        "received": 7, "accepted": 7, "missing": 0, "published": 7, "rejected": {"shape": 2}, "distrusted": {"dark": 1}});
    state.receive(&message("status", &counts, None), 0);
    state.receive(&heartbeat(), 0);
    let header = json!({"seq": 0, "shape": [1], "t_pub_ns": 1, "quality": "ok", "frame": 0, "frame_gap": 0, "age_us": 900.0,
        "confidence": 0.9, "novelty": 0.4, "shift_px": [0.5, 0.1], "model": {"name": "m"},
        "latency_us": {"queue": 1.0, "preprocess": 2.0, "encode": 3.0, "total": 700.0}});
    state.receive(&message("decode", &header, Some(&[0.5])), 0);
    let page = crate::client::monitor::metrics::text(&state, 100 * MS);
    let samples: Vec<&str> = page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    for file in ["grafana-dashboard.json", "haltere-alerts.yml"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/monitoring").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let asked: Vec<&str> = words.filter(|word| word.starts_with("haltere_")).collect();
        assert!(asked.len() >= 7, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.iter().filter(|name| !samples.contains(name)).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}

#[test]
fn a_picture_is_packed_so_that_a_page_can_lay_floats_over_it() {
    let mut state = state();
    for what in ["frame", "template", "frame"] {
        let header = json!({"what": what, "shape": [1, 1, 3], "frame": 9});
        state.receive(&message("preview", &header, Some(&[1.0, 2.0, 3.0])), MS);
    }
    let [Some(frame), Some(template), None] = &state.pictures else { panic!("a picture is missing") };
    assert_eq!((frame.number, template.number), (2, 1));
    let length = u32::from_le_bytes(frame.message[..4].try_into().unwrap()) as usize;
    assert_eq!((length % 4, frame.message.len()), (0, 4 + length + 12));
    let header: Value = serde_json::from_slice(&frame.message[4..4 + length]).unwrap();
    assert_eq!((&header["what"], &frame.message[4 + length..][..4]), (&"frame".into(), &1f32.to_le_bytes()[..]));
}

#[test]
fn numbers_wait_for_the_next_update_and_what_matters_does_not() {
    let mut state = state();
    let mut cursor = Cursor::default();
    let mut send = |state: &State, ms: u64| {
        let due = cursor.is_due(state, ms * MS);
        if due {
            messages(state, &mut cursor, false, ms * MS);
        }
        due
    };
    assert!(send(&state, 0), "a page that has nothing yet");
    state.receive(&heartbeat(), MS);
    assert!(send(&state, 1), "a daemon that lives");
    state.receive(&decode(0, "ok"), 2 * MS);
    assert!(send(&state, 2), "the first action");
    state.receive(&decode(1, "ok"), 35 * MS);
    assert!(!send(&state, 35) && !send(&state, 201), "the same action once more");
    assert!(send(&state, 202), "it was long enough");
    state.receive(&decode(2, "degraded"), 210 * MS);
    assert!(send(&state, 210), "another quality");
    state.receive(&[b"noise".to_vec()], 220 * MS);
    assert!(send(&state, 220), "an event");
    assert!(send(&state, 420) && !send(&state, 510) && send(&state, 511), "silence, before the next update");
}

#[test]
fn a_message_that_waited_says_how_things_were_and_not_how_they_are() {
    let mut state = state();
    let published = |mut parts: Vec<Vec<u8>>, ms: u64| {
        let mut header: Value = serde_json::from_slice(&parts[1]).unwrap();
        header["t_pub_ns"] = json!(ms * MS);
        header["clock"] = json!("monotonic");
        parts[1] = header.to_string().into_bytes();
        parts
    };
    state.receive(&published(heartbeat(), 1_000), 1_001 * MS);
    state.receive(&published(status(1.0), 1_010), 1_011 * MS);
    state.receive(&published(decode(0, "ok"), 1_020), 1_021 * MS);
    assert_eq!(state.ready(1_022 * MS), Ok(()));
    // This program was stopped for ten seconds; the messages of the first one waited in its socket.
    for n in 1..30 {
        state.receive(&published(heartbeat(), 1_020 + n * 33), 11_000 * MS);
        state.receive(&published(decode(n, "ok"), 1_020 + n * 33), 11_000 * MS);
    }
    assert_eq!(state.daemon(11_000 * MS), Daemon::Silent);
    let mut cursor = Cursor::default();
    let sent = messages(&state, &mut cursor, false, 11_000 * MS);
    let page: Value = serde_json::from_str(sent[0].to_text().unwrap()).unwrap();
    assert_eq!(page["last"]["age_ms"], 11_000 - 1_020 - 29 * 33);
}

#[test]
fn a_series_that_the_sender_ends_is_no_alarm_as_long_as_the_daemon_reports() {
    let mut state = state();
    let event = |name: &str| message("event", &json!({"event": name, "reason": "no_frame"}), None);
    state.receive(&heartbeat(), 0);
    state.receive(&status(1.0), 0);
    state.receive(&decode(0, "ok"), 100 * MS);
    state.receive(&event("series_ended"), 110 * MS);
    // One that was still waiting.
    state.receive(&decode(1, "ok"), 130 * MS);
    state.receive(&event("stale"), 400 * MS);
    state.receive(&decode(2, "stale"), 400 * MS);
    for ms in (420..2_900).step_by(20) {
        state.check_silence(ms * MS);
    }
    let levels: Vec<Level> = state.events.since(&mut 0).map(|line| line.level).collect();
    assert_eq!((state.daemon(2_900 * MS), state.tally.silences), (Daemon::Ended, 0));
    assert_eq!(levels, [Level::Info, Level::Info], "{:?}", event_texts(&state));
    assert_eq!(state.ready(2_900 * MS).unwrap_err(), "the series has ended: waiting for the next");
    state.check_silence(4_000 * MS);
    assert_eq!((state.daemon(4_000 * MS), state.tally.silences), (Daemon::Silent, 1), "a daemon that reports nothing");
    state.receive(&status(5.0), 5_000 * MS);
    state.receive(&decode(3, "ok"), 5_000 * MS);
    assert_eq!((state.daemon(5_000 * MS), state.daemon(6_000 * MS)), (Daemon::Alive, Daemon::Silent), "frames again");
}

#[test]
fn a_mark_is_shown_with_its_text_and_its_time() {
    let mut state = state();
    state.receive(&message("event", &json!({"event": "mark", "number": 3, "text": "odour on"}), None), 700 * MS);
    let line = serde_json::to_value(state.events.since(&mut 0).next().unwrap()).unwrap();
    assert_eq!(
        (&line["text"], &line["mark"], &line["t"]),
        (&"mark 3: odour on".into(), &"odour on".into(), &700.into())
    );
}
