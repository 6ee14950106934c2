//! `play`, `run` and `watch` as three processes over real sockets.
//!
//! Method: real recordings are played over a PUSH socket, so that every frame played must be decoded, whatever else the
//! machine does; a subscriber of the test's own (which shares no code with the daemon) hears what `watch` hears, and the
//! numbers of all four are held against each other. Recordings outside the repository are looked for in `../shared/data`.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::Path;

use haltere::frame::event::Reason;
use rustix::process::Signal;
use serde_json::Value;
use support::{LOSSLESS, Listener, Message, Rig, fly, model, shared};

/// What one loop of three processes left.
struct Loop {
    listener: Listener,
    table: String,
    lines: Vec<Value>,
    report: Value,
}

/// Plays `frames` frames through all three processes, and ends them in order.
fn close_the_loop(rig: &Rig, recording: &[&Path], frames: u64, play: &[&str]) -> Loop {
    let report = rig.path("report.json");
    let daemon = rig.daemon(&[&["--once", "--report", report.to_str().unwrap()][..], &LOSSLESS].concat());
    let mut watch = rig.watch(&["--every-line"]);
    // The neutral decode at the end is one more.
    let mut json = rig.watch(&["--json", "--frames", &(frames + 1).to_string()]);
    let mut listener = rig.listen();
    json.until_it_says("heartbeat/");
    let count = frames.to_string();
    let always = ["--push", "--loop", "0", "--frames", &count, "--source", "fly.7"];
    let play = rig.play(recording, &[&always[..], play].concat());
    play.finish().code(0).says(&[&format!("sent {frames} frames"), "skipped 0, repeated 0"]);
    daemon.finish().code(0).says(&["warm-up over", "shutting down"]);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    watch.until_it_says("(shutdown)");
    watch.signal(Signal::INT);
    let lines = json.finish().code(0).out;
    Loop {
        listener,
        table: watch.finish().code(0).out,
        lines: lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        report: serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap(),
    }
}

impl Loop {
    /// Everything that holds for any recording of which `frames` were played.
    fn assert_whole(&self, frames: u64) {
        self.assert_decodes(frames);
        self.assert_watched(frames);
        self.assert_counted(frames);
        let beats = self.listener.heard.iter().filter(|m| m.kind == "heartbeat" && m.source == "fly.7").count();
        assert!(beats > 0, "no heartbeat while decoding");
    }

    fn assert_decodes(&self, frames: u64) {
        self.listener.assert_gapless_from_zero();
        let decodes = self.listener.decodes();
        assert_eq!(decodes.len() as u64, frames + 1);
        let (last, decoded) = decodes.split_last().unwrap();
        last.assert_neutral("fail", "shutdown");
        assert_eq!(last.number("frame"), frames - 1, "the last frame, once more named");
        for (index, decode) in decoded.iter().enumerate() {
            let header = &decode.header;
            assert_eq!(decode.number("frame"), index as u64, "every frame played is decoded, in order: {header}");
            assert_eq!((decode.number("skipped"), decode.number("frame_gap")), (0, 0), "{header}");
            assert_eq!((&header["shape"], decode.embedding.len()), (&serde_json::json!([128]), 128), "{header}");
            assert!(decode.embedding.iter().all(|v| v.is_finite()), "{header}");
            assert_eq!((&header["t_device_clock"], &header["source"]), (&"monotonic".into(), &"fly.7".into()));
            assert!(
                decode.number("t_recv_ns") >= decode.number("t_device_ns"),
                "received after it was taken: {header}"
            );
            assert!(header.get("action").is_none(), "untrained: no action: {header}");
            assert_norm(decode);
        }
        self.assert_qualities(decoded);
    }

    /// Warm-up first, then trusted for good; and one event says when.
    fn assert_qualities(&self, decoded: &[&Message]) {
        let warm = decoded.iter().take_while(|d| d.quality() == "warmup").count();
        assert!((20..decoded.len()).contains(&warm), "{warm} of {} warming up", decoded.len());
        for decode in &decoded[warm..] {
            assert_eq!(decode.quality(), "ok", "{}", decode.header);
            let shift: Vec<f64> = serde_json::from_value(decode.header["shift_px"].clone()).unwrap();
            assert!(shift.len() == 2 && shift.iter().all(|px| px.abs() < 16.0), "{}", decode.header);
        }
        let ready: Vec<u64> =
            self.listener.heard.iter().filter(|m| m.is_event("ready")).map(|m| m.number("frame")).collect();
        assert_eq!(ready, [warm as u64]);
    }

    fn assert_watched(&self, frames: u64) {
        let said: Vec<(u64, &Value)> = self
            .lines
            .iter()
            .filter(|line| line["topic"] == "decode/fly.7")
            .map(|line| (line["header"]["seq"].as_u64().unwrap(), &line["embedding"]))
            .collect();
        assert_eq!(said.len() as u64, frames + 1);
        for ((seq, embedding), decode) in said.iter().zip(self.listener.decodes()) {
            let embedding: Vec<f32> = serde_json::from_value((*embedding).clone()).unwrap();
            assert_eq!((*seq, &embedding), (decode.number("seq"), &decode.embedding), "watch tells what was published");
        }
        let summary = self.lines.last().unwrap();
        assert_eq!(summary["topic"], "summary");
        assert_eq!(summary["report"]["decodes"], frames + 1);
        assert_eq!((&summary["report"]["lost"], &summary["report"]["damaged"]), (&0.into(), &0.into()));
        for row in ["decodes in", "quality    ok ", "0 decodes lost in transit", "received", "p99.9", "closed loop"] {
            assert!(self.table.contains(row), "{row:?} is not in the table of watch:\n{}", self.table);
        }
    }

    /// The status adds up, and the report says the same.
    fn assert_counted(&self, frames: u64) {
        let status = self.listener.heard.iter().rfind(|m| m.kind == "status").unwrap();
        let rejected = &status.header["rejected"];
        let refused: u64 = Reason::ALL.iter().map(|reason| rejected[reason.name()].as_u64().unwrap()).sum();
        let skipped = status.header["dropped"]["skip_to_latest"].as_u64().unwrap();
        assert_eq!(status.number("received"), frames);
        assert_eq!(status.number("received"), status.number("accepted") + refused);
        assert_eq!(status.number("accepted"), status.number("published") + skipped);
        assert_eq!(status.header["queue_depth"], serde_json::json!({ "frames": 0, "decodes": 0 }));
        for key in ["received", "accepted", "published", "gaps", "missing"] {
            assert_eq!(self.report[key], status.header[key], "{key} of the report and of the last status");
        }
        let counts = ["queue", "preprocess", "encode", "total"].map(|stage| &self.report["latency_us"][stage]["count"]);
        assert_eq!(counts, [frames; 4].map(Value::from).each_ref());
    }
}

/// An embedding is a direction: a network of unit outputs says nothing only of a window that is still empty.
fn assert_norm(decode: &Message) {
    let norm = decode.embedding.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    assert!(norm == 0.0 && decode.number("frame") == 0 || (norm - 1.0).abs() < 1e-4, "{norm}: {}", decode.header);
}

#[test]
fn two_channels_of_a_fly_registered_on_red_are_decoded_from_green() {
    let rig = Rig::new(model("green-on-red", &[1], 0));
    let (red, green) = (fly("tdTom.tif"), fly("GC6s.tif"));
    let done = close_the_loop(&rig, &[&red], 80, &["--rate", "30", "--channel-file", green.to_str().unwrap()]);
    done.assert_whole(80);
    // The recording is looped every ten frames: the same frame has the same shift, and the fly moves.
    let shift = |index: usize| done.listener.decodes()[index].header["shift_px"].clone();
    assert!((40..60).all(|index| shift(index) == shift(index + 10)));
    assert_ne!(shift(40), shift(41));
}

#[test]
fn a_movie_of_a_mouse_is_decoded_over_tcp() {
    let Some(movie) = shared("mouse_2p/mouse_2p_first400.tif") else { return };
    let rig = Rig::over_tcp(model("one-channel", &[0], 0));
    close_the_loop(&rig, &[&movie], 80, &["--rate", "30"]).assert_whole(80);
}

#[test]
fn a_thorimage_folder_is_played_as_it_was_recorded() {
    let Some(folder) = shared("thorimage_sync/mouse_kidney_raw/2p/Untitled_001") else { return };
    let rig = Rig::new(model("second-on-first", &[1], 0));
    close_the_loop(&rig, &[&folder], 60, &["--rate", "30"]).assert_whole(60);
}
