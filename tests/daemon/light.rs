//! A running daemon while light goes in: a flash, a closed shutter and the sender's own marks, over real sockets.
//!
//! Method: a microscope of the test's own sends a scene that moves a little; what a subscriber hears is held against what was sent.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use serde_json::{Value, json};
use support::{LOSSLESS, Microscope, Process, Rig, haltere, model};

use crate::support::tissue::cells;

const SIDE: usize = 64;

/// Light of some cells on a background, which moves by a pixel or two.
fn tissue(frame: u64, at: usize) -> f64 {
    let t = frame as f64;
    let (y, x) = ((at / SIDE) as f64 - 1.5 * (0.2 * t).sin(), (at % SIDE) as f64 - 1.5 * (0.13 * t).cos());
    cells(y, x, at as u64 * 7919 + frame * 104_729)
}

/// Its time stamps are 33 ms apart, whatever the machine does meanwhile.
fn header(frame: u64, more: &Value) -> Value {
    let mut header = json!({ "frame": frame, "timestamp_ns": frame * 33_333_333, "clock": "device" });
    header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    header
}

#[test]
fn a_flash_a_shutter_and_marked_frames_are_told_and_never_ok() {
    let rig = Rig::new(model("light", &[0], 0));
    // The deadline by which a decode is held; the frames' own times count, not this machine's.
    let daemon = rig.daemon(&[&LOSSLESS[..], &["--set", "publish.deadline_ms=5000"]].concat());
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    let normal = |frame: u64, more: Value| {
        scope.send(&[SIDE, SIDE], &header(frame, &more), |at| tissue(frame, at) as u16);
    };
    (0..90).for_each(|frame| normal(frame, json!({})));
    scope.send(&[SIDE, SIDE], &header(90, &json!({})), |at| tissue(90, at) as u16 + 1500);
    (91..100).for_each(|frame| normal(frame, json!({})));
    normal(100, json!({ "valid": false }));
    normal(101, json!({ "stimulus": true }));
    (102..110).for_each(|frame| normal(frame, json!({})));
    // Seven seconds of shutter.
    (110..320).for_each(|frame| scope.send(&[SIDE, SIDE], &header(frame, &json!({})), |at| 10 + (at * 31 % 7) as u16));
    (320..400).for_each(|frame| normal(frame, json!({})));
    listener.until("the last decode", |m| m.kind == "decode" && m.header["frame"] == 399);

    let decodes = listener.decodes();
    let of = |frame: u64| *decodes.iter().find(|m| m.header["frame"] == frame).unwrap();
    let story = |frame: u64| (of(frame).quality().to_owned(), of(frame).header["reason"].as_str().map(str::to_owned));
    let degraded = |reason: &str| ("degraded".to_owned(), Some(reason.to_owned()));
    assert_eq!((story(89).0, story(399).0), ("ok".into(), "ok".into()));
    assert_eq!(
        (story(90), story(100), story(101)),
        (degraded("flash"), degraded("marked_invalid"), degraded("stimulus"))
    );
    assert_eq!(of(90).embedding, of(89).embedding, "the last trusted decode is held");
    // One of eight frames of the window is missing, and in the end none.
    assert_eq!((story(91), story(99).0.as_str()), (degraded("missing_frames"), "ok"));
    for frame in 110..320 {
        assert_eq!(story(frame), degraded("dark"), "frame {frame}");
    }
    // 150 periods after the last trusted frame are 5 s.
    assert_eq!((of(200).embedding == of(109).embedding, of(200).header.get("action")), (true, None));
    let late = of(300);
    assert_eq!(late.header["action"], "neutral", "{}", late.header);
    assert!(late.embedding.iter().all(|value| *value == 0.0) && late.header.get("probs").is_none());
    let events = |name: &str| -> Vec<(Value, Value)> {
        let named = listener.heard.iter().filter(|m| m.is_event(name));
        named.map(|m| (m.header["reason"].clone(), m.header["frame"].clone())).collect()
    };
    let began = [("flash", 90), ("marked_invalid", 100), ("dark", 110)].map(|(r, f)| (json!(r), json!(f)));
    assert_eq!(events("frames_distrusted"), began);
    assert_eq!(events("frames_trusted").len(), 3);
    let counted = &rig.status()["distrusted"];
    assert_eq!(
        ["flash", "marked_invalid", "stimulus", "dark", "blank"].map(|key| counted[key].as_u64().unwrap_or(0)),
        [1, 1, 1, 210, 0]
    );
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0).says(&["frames are not trusted from frame 90 on (flash)"]);
}

#[test]
fn the_neutral_action_comes_at_once_where_that_is_asked_for_and_the_session_replays_bit_for_bit() {
    let rig = Rig::new(model("light", &[0], 0));
    let folder = rig.path("sessions");
    let more = ["publish.when_distrusted=neutral", "source.frame_max_mib=1", "record.queue_frames=256"];
    let more: Vec<&str> = more.iter().flat_map(|set| ["--set", set]).collect();
    let daemon = rig.daemon(&[&LOSSLESS[..], &["--record", folder.to_str().unwrap()], &more].concat());
    let mut listener = rig.listen();
    let scope = Microscope::new(&rig.frames);
    for frame in 0..80 {
        let (lit, marks) = match frame {
            60 => (1500, json!({})),
            70 => (0, json!({ "stimulus": true })),
            _ => (0, json!({})),
        };
        scope.send(&[SIDE, SIDE], &header(frame, &marks), |at| tissue(frame, at) as u16 + lit);
    }
    listener.until("the last decode", |m| m.kind == "decode" && m.header["frame"] == 79);
    let decodes = listener.decodes();
    decodes[60].assert_neutral("degraded", "flash");
    decodes[70].assert_neutral("degraded", "stimulus");
    assert_eq!((decodes[59].quality(), decodes[79].quality()), ("ok", "ok"));
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0);
    let session = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let diff = Process::start("diff", haltere(["diff", "--json"]).arg(&session)).finish().code(0);
    let same: Value = serde_json::from_str(&diff.out).unwrap();
    assert_eq!((&same["identical"], &same["quality_differs"]), (&80.into(), &0.into()), "{same}");
}
