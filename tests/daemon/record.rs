//! A session is recorded while it happens and comes out again bit for bit: `run --record`, `embed`, `play`, `diff`, `report`,
//! `export` as processes over real sockets.
//!
//! Method: a daemon records what a microscope sends; a subscriber of the test's own keeps what was published meanwhile. What the
//! file says is held against what was heard, and what is decoded again from the file against both. Overload, a request in
//! mid-run, kill -9 and a disk that refuses are brought about, not imagined.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use haltere::frame::FrameInfo;
use haltere::model::Manifest;
use haltere::session::{Item, Outline, Reader, Topic, layout};
use rustix::process::Signal;
use serde_json::Value;
use support::{Finished, LOSSLESS, Listener, Process, Rig, fly, haltere, model};

/// Slots for the frames of the tests, so that the recorder's queue may be long.
const SMALL_FRAMES: [&str; 4] = ["--set", "source.frame_max_mib=1", "--set", "record.queue_frames=256"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(arguments: &[&str]) -> Finished {
    Process::start("haltere", &mut haltere(arguments)).finish()
}

/// The only session in a folder.
fn session_in(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

/// All messages of a topic.
fn messages(session: &Path, wanted: Topic) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(session).unwrap();
    let mut found = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        match item {
            Item::Message { topic, data, .. } if topic == wanted => found.push(data),
            _ => {}
        }
    }
    assert_eq!(reader.damaged_chunks(), 0);
    found
}

fn json(session: &Path, topic: Topic) -> Vec<Value> {
    messages(session, topic).iter().map(|data| serde_json::from_slice(data).unwrap()).collect()
}

/// `diff` of a session with its own replay.
fn diff(arguments: &[&str]) -> (i32, Value) {
    let done = run(&[&["diff", "--json"][..], arguments].concat());
    let code = done.code.unwrap();
    assert!(code == 0 || code == 10, "{}", done.err);
    (code, serde_json::from_str(&done.out).unwrap())
}

/// Embeddings of a file that `embed` or `export` wrote, as bits.
fn rows(npy: &Path, dimensions: usize) -> Vec<Vec<u32>> {
    let bytes = std::fs::read(npy).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values = bytes[header..].chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
    values.collect::<Vec<_>>().chunks(dimensions).map(<[u32]>::to_vec).collect()
}

/// Frame number and embedding of every decode of a frame that was heard, as bits.
fn heard(listener: &Listener) -> Vec<(u64, Vec<u32>)> {
    let decodes = listener.decodes();
    let of_frames = decodes.iter().filter(|decode| ["ok", "warmup", "degraded"].contains(&decode.quality()));
    of_frames.map(|d| (d.number("frame"), d.embedding.iter().map(|v| v.to_bits()).collect())).collect()
}

/// Records `frames` frames of the fly, with `during` in the middle of them.
fn record(
    rig: &Rig,
    frames: u64,
    more: &[&str],
    play: &[&str],
    during: impl FnOnce(&mut Listener),
) -> (PathBuf, Listener) {
    let folder = rig.path("sessions");
    let always = ["--once", "--record", text(&folder)];
    let daemon = rig.daemon(&[&always[..], &LOSSLESS, &SMALL_FRAMES, more].concat());
    let mut listener = rig.listen();
    let count = frames.to_string();
    let always = ["--push", "--loop", "0", "--frames", &count, "--series", "s1"];
    let play = rig.play(&[&fly("GC6s.tif")], &[&always[..], play].concat());
    during(&mut listener);
    play.finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0).says(&["recording into", "recording ended"]);
    (session_in(&folder), listener)
}

#[test]
fn a_session_with_a_template_renewed_in_mid_run_comes_out_again_bit_for_bit() {
    let rig = Rig::new(model("recorded", &[0], 0));
    let (session, listener) = record(&rig, 120, &[], &["--rate", "40"], |listener| {
        listener.until("frame 50", |m| m.kind == "decode" && m.header["frame"].as_u64() >= Some(50));
        rig.control(&["template", "reset"]).code(0);
        rig.control(&["mark", "light", "on"]).code(0);
    });
    assert_recorded(&session, &listener, 120);
    assert_replayed(&rig, &session, &listener);
    assert_told_apart(&rig, &session);
    assert_reported(&rig, &session, 120);
}

/// Everything that was heard is in the file, and what was asked for lies where it was carried out.
fn assert_recorded(session: &Path, listener: &Listener, frames: u64) {
    let outline = Outline::of(session).unwrap();
    assert_eq!(outline.warnings(), Vec::<String>::new());
    assert_eq!(outline.count(Topic::Frames), frames);
    let numbers: Vec<u64> =
        messages(session, Topic::Frames).iter().map(|m| layout::read(m).unwrap().0.number).collect();
    assert_eq!(numbers, (0..frames).collect::<Vec<_>>());
    let decodes = json(session, Topic::Decodes);
    assert_eq!(decodes.len(), listener.decodes().len());
    for (recorded, published) in decodes.iter().zip(listener.decodes()) {
        for (key, value) in published.header.as_object().unwrap() {
            assert_eq!(&recorded[key], value, "{key} of {}", published.header);
        }
    }
    let requests = json(session, Topic::Requests);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0]["requests"], serde_json::json!(["template reset"]));
    assert!(requests[0]["frame"].as_u64() > Some(50));
    let marks = json(session, Topic::Marks);
    assert_eq!((marks.len(), &marks[0]["text"]), (1, &"light on".into()));
    let events: Vec<Value> = json(session, Topic::Events).iter().map(|event| event["event"].clone()).collect();
    for name in ["record_began", "series_began", "ready", "request", "mark", "shutdown"] {
        assert!(events.contains(&name.into()), "no {name} in {events:?}");
    }
    assert!(!json(session, Topic::Status).is_empty());
}

/// `embed` with nothing but the file, and the same frames played to another daemon.
fn assert_replayed(rig: &Rig, session: &Path, listener: &Listener) {
    let (again, table) = (rig.path("again.npy"), rig.path("again.csv"));
    run(&["embed", text(session), "--out", text(&again), "--csv", text(&table)]).code(0);
    let live = heard(listener);
    let replayed = rows(&again, 128);
    assert_eq!(live.len(), replayed.len());
    let different = live.iter().zip(&replayed).find(|((_, a), b)| a != *b);
    assert!(different.is_none(), "frame {:?}", different.map(|((frame, _), _)| frame));
    let (code, same) = diff(&[text(session)]);
    assert_eq!((code, &same["identical"], &same["quality_differs"]), (0, &120.into(), &0.into()), "{same}");
}

/// The same movie without the request: equal before it, not after it; and `diff` says from where on.
fn assert_told_apart(rig: &Rig, session: &Path) {
    let reset = json(session, Topic::Requests)[0]["frame"].as_u64().unwrap();
    let other = Rig::new(rig.model.clone());
    let folder = other.path("sessions");
    let daemon = other.daemon(&[&["--once", "--record", text(&folder)][..], &LOSSLESS, &SMALL_FRAMES].concat());
    other.play(&[session], &["--push", "--rate", "60"]).finish().code(0).says(&["sent 120 frames"]);
    daemon.finish().code(0);
    let (code, found) = diff(&[text(session), text(&session_in(&folder))]);
    assert_eq!((code, &found["frames"]), (10, &120.into()), "{found}");
    assert_eq!((&found["only_a"], &found["only_b"]), (&0.into(), &0.into()));
    let first = found["first"]["frame"].as_u64().unwrap();
    // The old template stays in use until the new one is ready.
    assert!((reset..reset + 40).contains(&first), "reset before frame {reset}, first difference at {first}");
    assert_eq!(found["identical"].as_u64(), Some(first), "all before it are the same");
}

/// `play` reads the clock of this machine: a stamp is ours but for the way here, and the clock was never set.
fn assert_clock(session: &Path) {
    let status = json(session, Topic::Status);
    let clocks: Vec<&Value> = status.iter().map(|status| &status["sender_clock"]).filter(|c| !c.is_null()).collect();
    assert!(clocks.len() >= 2, "{clocks:?}");
    for clock in clocks {
        let (offset, steps) = (clock["offset_ns"].as_i64().unwrap(), &clock["steps"]);
        assert!((0..100_000_000).contains(&offset) && clock["clock"] == "monotonic" && steps == 0, "{clock}");
    }
}

fn assert_reported(rig: &Rig, session: &Path, frames: usize) {
    let page = rig.path("page.html");
    let said = run(&["report", text(session), "--out", text(&page)]).code(0).out;
    assert!(said.contains("deadline of 60000 ms met"), "{said}");
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<svg") && html.contains("light on") && html.contains("Clock of the sender"));
    assert_clock(session);
    let (table, array) = (rig.path("decodes.csv"), rig.path("embedding.npy"));
    run(&["export", text(session), "--to", "csv", "--out", text(&table)]).code(0);
    let csv = std::fs::read_to_string(table).unwrap();
    assert_eq!(csv.lines().count(), frames + 1);
    assert!(csv.starts_with("seq,frame,") && csv.lines().next().unwrap().ends_with(",e127"));
    run(&["export", text(session), "--to", "npy", "--out", text(&array)]).code(0);
    assert_eq!(rows(&array, 128), rows(&rig.path("again.npy"), 128));
}

/// A warm-up of a few frames: of a flood, a busy machine decodes few.
fn soon_warm(path: PathBuf) -> PathBuf {
    let mut manifest = Manifest::read(&path).unwrap();
    let preprocess = &mut manifest.preprocess;
    let registration = preprocess.registration.as_mut().unwrap();
    (registration.template_frames, registration.template_rounds) = (2, 1);
    preprocess.baseline.as_mut().unwrap().average_frames = 1;
    preprocess.normalise.as_mut().unwrap().warmup_frames = 2;
    manifest.save(&path).unwrap();
    path
}

#[test]
fn a_session_under_overload_replays_the_frames_that_were_seen_and_no_others() {
    let rig = Rig::new(soon_warm(model("overloaded", &[0], 0)));
    let more = ["--set", "lane.overload=skip-to-latest", "--set", "lane.depth_frames=2"];
    let (session, listener) = record(&rig, 3000, &more, &["--flood"], |_| {});
    let live = heard(&listener);
    assert!(live.len() < 2900, "{} of 3000 frames were decoded: no overload", live.len());
    let recorded: Vec<(FrameInfo, u64)> =
        messages(&session, Topic::Frames).iter().map(|message| layout::read(message).unwrap()).collect();
    let published = recorded.iter().filter(|(info, _)| !info.unpublished).map(|(info, _)| info.number);
    assert!(published.eq(live.iter().map(|(number, _)| *number)));
    assert!(recorded.iter().all(|(info, arrival)| info.number == *arrival), "holes in the arrivals are skipped frames");
    let decodes = json(&session, Topic::Decodes);
    let sum = |key: &str| decodes.iter().filter_map(|decode| decode[key].as_u64()).sum::<u64>();
    let (skipped, caught_up) = (sum("skipped"), sum("caught_up"));
    assert!(skipped > 0 && skipped + recorded.len() as u64 <= 3000, "{skipped} skipped, {} decoded", recorded.len());
    assert_eq!(caught_up, recorded.iter().filter(|(info, _)| info.unpublished).count() as u64);
    let again = rig.path("again.npy");
    run(&["embed", text(&session), "--out", text(&again)]).code(0);
    assert_eq!(live.into_iter().map(|(_, bits)| bits).collect::<Vec<_>>(), rows(&again, 128));
    assert_eq!(diff(&[text(&session)]).0, 0);
    // Played once more the frames keep their numbers, so that a reader sees the same holes.
    let other = Rig::new(rig.model.clone());
    let daemon = other.daemon(&[&["--once"][..], &LOSSLESS].concat());
    let mut listener = other.listen();
    other.play(&[&session], &["--push", "--rate", "2000"]).finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0);
    assert_eq!(
        heard(&listener).iter().map(|(n, _)| *n).collect::<Vec<_>>(),
        recorded.iter().map(|(info, _)| info.number).collect::<Vec<_>>()
    );
    // A sender sends frame after frame, so those that were caught up with are published, too.
    let published: Vec<u64> =
        recorded.iter().filter(|(info, _)| !info.unpublished).map(|(info, _)| info.number).collect();
    let same = heard(&listener).into_iter().filter(|(number, _)| published.contains(number));
    assert_eq!(same.map(|(_, bits)| bits).collect::<Vec<_>>(), rows(&again, 128));
}

#[test]
fn a_decode_that_came_too_late_is_recorded_as_it_was_decoded_and_the_report_says_that_it_was_late() {
    let rig = Rig::new(model("late", &[0], 0));
    // As fast as it goes through a long lane: every frame waits for many others.
    let more = ["lane.depth_frames=64", "publish.deadline_ms=20", "publish.heartbeat_ms=10"];
    let more: Vec<&str> = more.iter().flat_map(|set| ["--set", set]).collect();
    let (session, listener) = record(&rig, 300, &more, &["--flood"], |_| {});
    let stale = listener.decodes().iter().filter(|d| d.quality() == "stale" && d.header["reason"] == "late").count();
    assert!(stale > 50, "{stale} were late");
    assert_eq!(diff(&[text(&session)]).0, 0, "published were zeros, recorded is what was decoded");
    let said = run(&["report", text(&session)]).code(10).out;
    assert!(said.contains("deadline of 20 ms MISSED") && said.contains(&format!("{stale} decodes late")), "{said}");
    assert!(session.with_extension("html").is_file());
}

#[test]
fn a_killed_daemon_leaves_everything_but_about_the_last_second() {
    let rig = Rig::new(model("killed", &[0], 0));
    let folder = rig.path("sessions");
    let daemon = rig.daemon(&[&["--record", text(&folder)][..], &LOSSLESS, &SMALL_FRAMES].concat());
    let mut listener = rig.listen();
    let play = rig.play(&[&fly("GC6s.tif")], &["--push", "--rate", "50", "--loop", "0"]);
    let last = listener.until("frame 150", |m| m.kind == "decode" && m.header["frame"].as_u64() >= Some(150));
    daemon.kill();
    drop(play);
    let session = session_in(&folder);
    let outline = Outline::of(&session).unwrap();
    let whole = outline.count(Topic::Frames);
    assert!(outline.end.is_none());
    assert!(whole + 75 >= last.number("frame"), "{whole} frames of {} are whole", last.number("frame"));
    let again = rig.path("again.npy");
    let done = run(&["embed", text(&session), "--out", text(&again)]).code(0).says(&["cut off", "are intact"]);
    assert!(done.err.contains(&format!("{whole} frames")), "{}", done.err);
    let (_, same) = diff(&[text(&session)]);
    // At the cut a frame may lie before it and its decode behind it, or the other way round.
    assert_eq!(same["identical"], same["frames"], "{same}");
    assert!(same["frames"].as_u64() > Some(50) && same["only_a"].as_u64() < Some(10), "{same}");
    // A file cut in its middle by something else.
    let bytes = std::fs::read(&session).unwrap();
    let half = rig.path("half.mcap");
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    run(&["embed", text(&half), "--out", text(&again)]).code(0).says(&["cut off"]);
    assert!((10..whole as usize).contains(&rows(&again, 128).len()));
    run(&["report", text(&half), "--out", text(&rig.path("half.html"))]).code(0);
}

#[test]
fn a_full_disk_ends_the_recording_and_not_one_decode() {
    let rig = Rig::new(model("full", &[0], 0));
    let folder = rig.path("sessions");
    let inner = rig.command(&[&["--once", "--record", text(&folder)][..], &LOSSLESS, &SMALL_FRAMES].concat());
    // Files of this process may have 8 MiB: the model, and some sixty frames.
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 8192; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    let mut daemon = Process::start("run", &mut command);
    daemon.until_it_says("ready:");
    let mut listener = rig.listen();
    let play = rig.play(&[&fly("GC6s.tif")], &["--push", "--rate", "60", "--loop", "0", "--frames", "240"]);
    listener.until("the failure", |m| m.is_event("record_failed"));
    play.finish().code(0);
    let last = listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0).says(&["the recording has ended", "decoding continues"]);
    let decoded: Vec<u64> = heard(&listener).iter().map(|(number, _)| *number).collect();
    assert_eq!(decoded, (0..240).collect::<Vec<_>>(), "no decode is missing");
    let record = &last.header["record"];
    assert_eq!(record["recording"], false, "{record}");
    let (written, lost) = (record["frames"].as_u64().unwrap(), record["lost"]["disk"].as_u64().unwrap());
    assert!((10..200).contains(&written) && lost >= 1, "{record}");
    let whole = Outline::of(&session_in(&folder)).unwrap().count(Topic::Frames);
    assert!(whole >= written && whole < written + lost, "{whole} whole, {written} said to be recorded, {lost} lost");
}

#[test]
fn a_disk_that_is_full_from_the_start_keeps_no_file_of_nothing() {
    let rig = Rig::new(model("nothing", &[0], 0));
    let folder = rig.path("sessions");
    let inner = rig.command(&["--record", text(&folder)]);
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 4; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    let done = Process::start("run", &mut command).finish().code(7);
    done.says(&["record.folder", "the file that was begun is removed again"]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// Hears twenty decodes of now; what was heard before may have been waiting.
fn more_decodes(listener: &mut Listener) {
    listener.during(Duration::from_millis(100));
    for _ in 0..20 {
        listener.until("a decode", |m| m.kind == "decode");
    }
}

#[test]
fn a_recording_whose_folder_is_removed_ends_and_the_next_one_is_whole() {
    let rig = Rig::new(model("removed", &[0], 0));
    let folder = rig.path("sessions");
    let daemon = rig.daemon(&[&["--record", text(&folder)][..], &LOSSLESS, &SMALL_FRAMES].concat());
    let mut listener = rig.listen();
    let play = rig.play(&[&fly("GC6s.tif")], &["--push", "--rate", "30", "--loop", "0"]);
    listener.until("frame 5", |m| m.kind == "decode" && m.header["frame"].as_u64() >= Some(5));
    std::fs::remove_dir_all(&folder).unwrap();
    let failed = listener.until("the failure", |m| m.is_event("record_failed"));
    assert_eq!(failed.header["reason"], "file_removed");
    let refused = rig.control(&["record", "stop"]).code(1);
    assert!(
        refused.out.contains("nothing is being recorded") && refused.out.contains("was removed"),
        "{}",
        refused.out
    );
    let status = listener.until("a status", |m| m.kind == "status" && m.header["record"]["recording"] == false);
    assert!(status.header["record"]["lost"]["disk"].is_u64());
    rig.control(&["record", "start"]).code(0);
    more_decodes(&mut listener);
    // Removed a moment before it is stopped: nobody has looked yet.
    std::fs::remove_dir_all(&folder).unwrap();
    let refused = rig.control(&["record", "stop"]).code(1);
    assert!(refused.out.contains("was removed"), "{}", refused.out);
    rig.control(&["record", "start"]).code(0);
    more_decodes(&mut listener);
    // Moved is not removed.
    let moved = rig.path("moved.mcap");
    std::fs::rename(session_in(&folder), &moved).unwrap();
    let answer: Value = serde_json::from_str(&rig.control(&["record", "stop"]).code(0).out).unwrap();
    assert_eq!(answer["file"], text(&moved));
    drop(play);
    daemon.signal(Signal::INT);
    daemon.finish().code(0).says(&["the file was removed"]);
    let outline = Outline::of(&moved).unwrap();
    assert!(outline.end.is_some() && outline.count(Topic::Frames) > 5);
}

#[test]
fn a_folder_that_cannot_be_written_is_known_before_the_first_frame() {
    let rig = Rig::new(model("unwritable", &[0], 0));
    let done = Process::start("run", &mut rig.command(&["--record", "/proc/nowhere"])).finish().code(7);
    done.says(&["record.folder", "/proc/nowhere"]);
}

#[test]
fn recordings_are_begun_and_ended_in_mid_run_and_say_what_that_means() {
    let rig = Rig::new(model("midrun", &[0], 0));
    let folder = rig.path("sessions");
    let more = ["--record", text(&folder), "--set", "record.at_start=false"];
    let daemon = rig.daemon(&[&more[..], &LOSSLESS, &SMALL_FRAMES].concat());
    let refused = rig.control(&["mark", "too", "early"]).code(1);
    assert!(refused.out.contains("record start"), "{}", refused.out);
    let mut listener = rig.listen();
    let play = rig.play(&[&fly("GC6s.tif")], &["--push", "--rate", "60", "--loop", "0"]);
    listener.until("frame 30", |m| m.kind == "decode" && m.header["frame"].as_u64() >= Some(30));
    let answer: Value = serde_json::from_str(&rig.control(&["record", "start"]).code(0).out).unwrap();
    let session = PathBuf::from(answer["file"].as_str().unwrap());
    assert!(rig.control(&["record", "start"]).code(1).out.contains("already being recorded"));
    listener.during(Duration::from_millis(1500));
    rig.control(&["reset"]).code(0);
    listener.during(Duration::from_millis(1000));
    assert_eq!(rig.status()["recorded"].as_u64().map(|frames| frames > 30), Some(true));
    rig.control(&["record", "stop"]).code(0);
    drop(play);
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
    let outline = Outline::of(&session).unwrap();
    assert!(outline.warnings()[0].contains("started mid-run"), "{:?}", outline.warnings());
    // What was learnt before the recording began is not in it; from the reset on everything is.
    let reset = json(&session, Topic::Requests)[0]["frame"].as_u64().unwrap();
    let (code, found) = diff(&[text(&session)]);
    assert_eq!(code, 10, "{found}");
    assert!(found["first"]["frame"].as_u64() < Some(reset));
    let after = json(&session, Topic::Decodes).iter().filter(|d| d["frame"].as_u64() >= Some(reset)).count();
    assert!(
        found["identical"].as_u64().unwrap() as usize + 1 >= after && after > 20,
        "{after} after the reset: {found}"
    );
}

#[test]
fn without_a_recorder_the_control_socket_says_how_to_get_one() {
    let rig = Rig::new(model("none", &[0], 0));
    let daemon = rig.daemon(&[]);
    assert!(rig.control(&["record", "start"]).code(1).out.contains("record.folder"));
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
}
