//! Senders as they are: planes by either numbering, a restart, another field of view, a second microscope, a header that is wrong,
//! no sender at all. What is refused is told with its sentence, and nothing that could be decoded is refused for ever.
//!
//! Method: a real daemon and a microscope of the test's own, which sends what `haltere play` never would. Times of frames come with
//! the frames, so that no test depends on how fast a machine is; where a silence counts, it is far longer than the deadline.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Finished, LOSSLESS, Listener, Message, Microscope, Process, Rig, fly, haltere, small, two_channels, wait_for,
};

use crate::support::tissue::still_cells;

/// Of the model and of what is sent to it.
const RATE_HZ: f64 = 30.0;
/// A deadline that can be waited for, after settings that never are late.
const DEADLINE: [&str; 4] = ["--set", "publish.deadline_ms=600", "--set", "publish.heartbeat_ms=100"];
/// A silence beyond that deadline.
const SILENCE: Duration = Duration::from_millis(1500);

/// Sends one frame of the `n`-th period with more keys in its header.
fn send(scope: &Microscope, shape: &[usize], n: u64, more: &Value) {
    let mut header = json!({ "timestamp_ns": (n as f64 / RATE_HZ * 1e9) as i64, "clock": "device" });
    header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    scope.send(shape, &header, still_cells(shape[shape.len() - 1]));
}

fn status_when(rig: &Rig, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(rig.status()).filter(&enough))
}

fn lossless<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&LOSSLESS[..], more].concat()
}

/// The events of this name that were heard.
fn events(listener: &Listener, name: &str) -> Vec<Message> {
    listener.heard.iter().filter(|m| m.is_event(name)).cloned().collect()
}

fn run(arguments: &[&str]) -> Finished {
    Process::start("haltere", &mut haltere(arguments)).finish()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn one_plane_of_a_volume_is_decoded_by_either_numbering_without_gaps_and_at_its_own_rate() {
    const VOLUMES: u64 = 80;
    for by_frame in [false, true] {
        let rig = Rig::new(small());
        let daemon = rig.daemon(&lossless(&["--set", "source.plane=1"]));
        let mut listener = rig.listen();
        let scope = Microscope::new(&rig.frames);
        for volume in 0..VOLUMES {
            for plane in 0..4 {
                let frame = if by_frame { 4 * volume + plane } else { volume };
                send(&scope, &[64, 64], volume, &json!({ "frame": frame, "plane": plane }));
            }
        }
        let status = status_when(&rig, "every volume", |s| s["published"] == VOLUMES);
        assert_eq!((&status["rejected"], &status["gaps"], &status["missing"]), (&json!({}), &0.into(), &0.into()));
        let last = listener.until("the last", |m| m.kind == "decode" && m.number("seq") == VOLUMES - 1);
        let number = if by_frame { 4 * (VOLUMES - 1) + 1 } else { VOLUMES - 1 };
        assert_eq!((last.number("frame"), last.quality()), (number, "ok"), "{}", last.header);
        assert!(events(&listener, "frame_rate_off").is_empty());
        daemon.kill();
    }
}

#[test]
fn a_restarted_sender_of_every_second_frame_is_taken_after_three_frames_or_after_a_silence() {
    for (more, refused) in [(&[][..], 2), (&DEADLINE[..], 0)] {
        let rig = Rig::new(small());
        let daemon = rig.daemon(&lossless(more));
        let mut listener = rig.listen();
        let scope = Microscope::new(&rig.frames);
        (0..100).for_each(|n| send(&scope, &[64, 64], n, &json!({ "frame": 2 * n })));
        status_when(&rig, "the first", |s| s["received"] == 100);
        drop(scope);
        if refused == 0 {
            listener.during(SILENCE);
        }
        let scope = wait_for("the endpoint to be free", || Microscope::try_new(&rig.frames));
        (0..50).for_each(|n| send(&scope, &[64, 64], n, &json!({ "frame": 31 + 2 * n })));
        let status = status_when(&rig, "the second", |s| s["received"] == 150);
        assert_eq!(status["accepted"], 150 - refused, "{status}");
        let counted = if refused == 0 { json!({}) } else { json!({ "backwards": refused }) };
        assert_eq!((&status["rejected"], &status["missing"]), (&counted, &0.into()));
        listener.until("the last frame", |m| m.kind == "decode" && m.header["frame"] == 129);
        let began: Vec<u64> = events(&listener, "series_began").iter().map(|m| m.number("frame")).collect();
        assert_eq!(began, [0, 31 + 2 * refused]);
        daemon.kill();
    }
}

#[test]
fn a_new_series_may_bring_another_geometry_and_replays_bit_for_bit_and_one_within_a_series_is_refused_with_its_sentence()
 {
    let rig = Rig::new(small());
    let folder = rig.path("sessions");
    let daemon = rig.daemon(&lossless(&["--record", text(&folder), "--set", "source.frame_max_mib=1"]));
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    let series = |name: &str, shape: &[usize], from: u64| {
        (from..from + 60).for_each(|n| send(&scope, shape, n, &json!({ "frame": n, "series": name })));
    };
    series("a", &[64, 64], 0);
    send(&scope, &[80, 80], 60, &json!({ "frame": 60, "series": "a" }));
    let refusal = listener.until("the refusal", |m| m.is_event("rejected"));
    let sentence = refusal.header["message"].as_str().unwrap();
    assert!(sentence.contains("1×80×80 uint16") && sentence.contains("1×64×64 uint16"), "{sentence}");
    series("b", &[80, 80], 0);
    let status = status_when(&rig, "both", |s| s["published"] == 120);
    assert_eq!(status["rejected"], json!({ "geometry": 1 }));
    listener.until("the last of b", |m| m.kind == "decode" && m.header["series"] == "b" && m.header["frame"] == 59);
    let quality: Vec<&str> = listener.decodes().iter().map(|decode| decode.quality()).collect();
    assert_eq!(
        (quality[59], quality[60], quality[119]),
        ("ok", "warmup", "ok"),
        "a template and statistics of its own"
    );
    assert!(events(&listener, "request").iter().any(|m| m.header["what"] == "reset"));
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0);
    let session = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let same: Value = serde_json::from_str(&run(&["diff", "--json", text(&session)]).code(0).out).unwrap();
    assert_eq!((&same["identical"], &same["quality_differs"]), (&120.into(), &0.into()), "{same}");
}

#[test]
fn a_new_series_that_the_model_cannot_take_is_refused_and_the_animal_before_it_is_kept() {
    let rig = Rig::new(two_channels());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    (0..60).for_each(|n| send(&scope, &[2, 64, 64], n, &json!({ "frame": n, "series": "a" })));
    (0..5).for_each(|n| send(&scope, &[64, 64], n, &json!({ "frame": n, "series": "b" })));
    (0..60).for_each(|n| send(&scope, &[2, 64, 64], n, &json!({ "frame": n, "series": "c" })));
    let status = status_when(&rig, "all", |s| s["published"] == 120);
    assert_eq!(status["rejected"], json!({ "channel": 5 }));
    assert!(events(&listener, "request").is_empty(), "nothing was reset");
    let first = listener.until("c", |m| m.kind == "decode" && m.header["series"] == "c");
    assert!(first.header["shift_px"].is_array(), "on the template of before: {}", first.header);
    daemon.kill();
}

#[test]
fn a_second_source_is_refused_told_and_counted_until_the_first_is_silent() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&lossless(&DEADLINE));
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    let of = |source: &str, n: u64| send(&scope, &[64, 64], n, &json!({ "frame": n, "source": source }));
    for n in 0..40 {
        of("left", n);
        of("right", 500 + n);
    }
    let refusal = listener.until("the refusal", |m| m.is_event("rejected"));
    assert_eq!(refusal.header["reason"], "other_source");
    let sentence = refusal.header["message"].as_str().unwrap();
    assert!(["right", "left", "600 ms"].iter().all(|word| sentence.contains(word)), "{sentence}");
    let status = status_when(&rig, "all of them", |s| s["received"] == 80);
    assert_eq!((&status["rejected"], &status["accepted"]), (&json!({ "other_source": 40 }), &40.into()));
    listener.during(SILENCE);
    (540..560).for_each(|n| of("right", n));
    let status = status_when(&rig, "the other", |s| s["published"] == 60);
    assert_eq!(status["rejected"], json!({ "other_source": 40 }));
    listener.until("the last of the other", |m| m.kind == "decode" && m.header["frame"] == 559);
    let fresh = listener.decodes().into_iter().filter(|d| d.header.get("latency_us").is_some());
    for decode in fresh {
        assert_eq!(decode.source, if decode.number("frame") < 500 { "left" } else { "right" }, "{}", decode.header);
    }
    let began: Vec<u64> = events(&listener, "series_began").iter().map(|m| m.number("frame")).collect();
    assert_eq!(began, [0, 540]);
    daemon.kill();
}

#[test]
fn two_senders_of_one_source_share_no_window_and_the_one_that_came_first_is_told_to_wait() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    for n in 0..60 {
        send(&scope, &[64, 64], n, &json!({ "frame": n, "series": "left" }));
        send(&scope, &[64, 64], n, &json!({ "frame": 500 + n, "series": "right" }));
    }
    let refusal = listener.until("the refusal", |m| m.is_event("rejected"));
    assert_eq!(refusal.header["reason"], "other_series");
    let sentence = refusal.header["message"].as_str().unwrap();
    assert!(
        ["`series` is left", "right has begun", "two senders"].iter().all(|word| sentence.contains(word)),
        "{sentence}"
    );
    let status = status_when(&rig, "all of them", |s| s["received"] == 120 && s["published"] == 61);
    assert_eq!(status["rejected"], json!({ "other_series": 59 }));
    listener.until("the last", |m| m.kind == "decode" && m.header["frame"] == 559);
    let trusted: Vec<Message> = listener.decodes().into_iter().filter(|d| d.quality() == "ok").cloned().collect();
    assert!(!trusted.is_empty() && trusted.iter().all(|decode| decode.header["series"] == "right"));
    daemon.kill();
}

#[test]
fn the_first_refusal_of_a_kind_is_told_with_its_sentence_and_a_daemon_that_refuses_all_does_not_look_healthy() {
    let rig = Rig::new(small());
    let mut daemon = rig.daemon(&LOSSLESS);
    let mut watch = rig.watch(&["--every-line"]);
    let mut listener = rig.listen();
    assert_eq!(listener.heard.last().unwrap().quality(), "warmup", "waiting for the first message");
    // So that it does not miss what is published once.
    wait_for("an event in watch", || {
        rig.control(&["baseline", "reset"]).code(0);
        watch.out().contains("baseline reset").then_some(())
    });
    let scope = Microscope::new(&rig.frames);
    for n in 0..5 {
        send(&scope, &[64, 64], n, &json!({ "frame": -1 }));
        send(&scope, &[64, 64], n, &json!({ "dtype": "uint32" }));
    }
    let status = status_when(&rig, "ten refusals", |s| s["received"] == 10);
    assert_eq!(status["rejected"], json!({ "field": 5, "pixel_type": 5 }));
    let told = [
        ("field", "\"frame\" is -1; it must be a whole number from 0"),
        ("pixel_type", "\"uint32\"; it must be uint8"),
    ];
    for (reason, sentence) in told {
        let event = listener.until(reason, |m| m.is_event("rejected") && m.header["reason"] == reason);
        assert!(event.header["message"].as_str().unwrap().contains(sentence), "{}", event.header);
        assert_eq!(event.header["count"], 1);
        daemon.until_it_says(sentence);
        watch.until_it_says(sentence);
    }
    let heartbeat = listener.until("a heartbeat", |m| m.kind == "heartbeat" && m.quality() != "warmup");
    assert_eq!(heartbeat.quality(), "stale");
    let status = listener.until("a status", |m| m.kind == "status" && m.header["rejected"]["field"] == 5);
    assert_eq!(status.header["quality"], "stale");
    // The sender is put right.
    (0..5).for_each(|n| send(&scope, &[64, 64], n, &json!({ "frame": n })));
    listener.until("a decode", |m| m.kind == "decode");
    listener.until("a healthy heartbeat", |m| m.kind == "heartbeat" && m.quality() == "warmup");
    daemon.kill();
}

#[test]
fn a_daemon_without_a_sender_says_what_it_waits_for() {
    let rig = Rig::new(small());
    let mut daemon = rig.daemon(&["--set", "source.pattern=pull", "--set", "source.attach=bind"]);
    daemon.until_it_says("no message after 5 s");
    let said = daemon.err();
    for words in [rig.frames.as_str(), "PULL, bound", "a PUSH that connects to"] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    daemon.kill();
}

#[test]
fn a_number_far_ahead_does_not_spoil_the_count_of_missing_frames() {
    let rig = Rig::new(small());
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    let far = 1_u64 << 63;
    let numbers = [0, 1, 2, far, 3, 4, u64::MAX, 5, 8, far + 10, far + 11, far + 12, far + 13];
    numbers.iter().zip(0..).for_each(|(frame, n)| send(&scope, &[64, 64], n, &json!({ "frame": frame })));
    let status = status_when(&rig, "all", |s| s["received"] == numbers.len());
    assert_eq!((&status["missing"], &status["rejected"]), (&2.into(), &json!({ "jumped": 4 })));
    let sentence = listener.until("the refusal", |m| m.is_event("rejected")).header["message"].clone();
    assert!(sentence.as_str().unwrap().contains("at most 1000000 frames may be missing"), "{sentence}");
    let last = listener.until("the last", |m| m.kind == "decode" && m.header["frame"] == far + 13);
    assert_eq!(last.number("frame_gap"), 0);
    let began: Vec<u64> = events(&listener, "series_began").iter().map(|m| m.number("frame")).collect();
    assert_eq!(began, [0, far + 12], "another numbering");
    daemon.kill();
}

#[test]
fn a_time_as_text_costs_the_time_and_not_the_frame() {
    let rig = Rig::new(small());
    let mut daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    let time = "2026-11-30 14:31:09.123";
    for frame in 0..120 {
        // areaDetector's own keys, with its fastest axis first.
        scope.send(&[64, 64], &json!({ "frame": frame, "timeStamp": time, "ndattr": {} }), still_cells(64));
    }
    let status = status_when(&rig, "all", |s| s["published"] == 120);
    assert_eq!((&status["ignored_keys"], &status["rejected"]), (&120.into(), &json!({})));
    let event = listener.until("the warning", |m| m.is_event("key_ignored"));
    assert_eq!(event.header["key"], "timeStamp");
    daemon.until_it_says("\"timeStamp\" must be a number of seconds");
    listener.until("the last", |m| m.kind == "decode" && m.header["frame"] == 119);
    assert!(listener.decodes().iter().all(|decode| decode.header.get("t_device_ns").is_none()));
    assert_eq!(events(&listener, "key_ignored").len(), 1, "once in a series");
    daemon.kill();
}

#[test]
fn frames_that_the_models_input_squeezes_are_a_warning_with_both_numbers() {
    let rig = Rig::new(small());
    let mut daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    (0..3).for_each(|n| send(&scope, &[128, 64], n, &json!({ "frame": n })));
    let event = listener.until("the warning", |m| m.is_event("aspect_ratio"));
    assert_eq!(event.header["frame_px"], json!([128, 64]));
    assert_eq!((&event.header["input_px"], &event.header["ratio"]), (&json!([64, 64]), &2.0.into()));
    daemon.until_it_says("frames of 128×64 px are squeezed into the model's input of 64×64 px");
    daemon.kill();
}

#[test]
fn a_recording_of_which_no_frame_is_taken_or_none_leaves_the_warm_up_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.npy");
    let (movie, two) = (fly("GC6s.tif"), two_channels());
    let embed = |model: &Path| run(&["embed", "--model", text(model), "--out", text(&out), text(&movie)]);
    embed(&two).code(6).says(&["no frame of the recording was decoded", "the model needs channel 1"]);
    assert!(!out.exists());
    embed(&small()).code(6).says(&["ends within the warm-up", "normalise.warmup_frames"]);
    assert!(!out.exists());
    let trained = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml");
    let calibrated = folder.path().join("calibrated");
    let calibrate = |more: &[&str]| {
        run(&[&["calibrate", text(&trained), "--out", text(&calibrated), text(&movie)][..], more].concat())
    };
    calibrate(&[]).code(6).says(&["no frame of the recording was decoded", "channel"]);
    calibrate(&["--channel-file", text(&fly("tdTom.tif"))]).code(6).says(&["10 frames", "record longer"]);
    assert!(!calibrated.with_extension("toml").exists());
}

#[test]
fn two_runs_that_are_warm_up_alone_prove_nothing() {
    let rig = Rig::new(small());
    let folder = rig.path("sessions");
    let daemon = rig.daemon(&lossless(&["--record", text(&folder)]));
    let scope = Microscope::new(&rig.frames);
    (0..8).for_each(|n| send(&scope, &[64, 64], n, &json!({ "frame": n })));
    status_when(&rig, "all", |s| s["published"] == 8);
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0);
    let session = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    run(&["diff", text(&session)]).code(6).says(&["warm-up"]);
    run(&["diff", text(&session), text(&session)]).code(6).says(&["all 8 decodes are of the warm-up"]);
}
