//! A daemon whose terminal is closed, whose log nobody reads, or that is told to stop in another way than by Ctrl-C: it must end as
//! it always ends, with the neutral action for the subscriber and the end of the session in its file, and until then answer.
//!
//! Method: real processes get real signals, and a standard error that is a full or a closed pipe.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use haltere::session::Outline;
use haltere::sys::log_lines::LINES_WAITING_MAX;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{LOSSLESS, Listener, Microscope, PATIENCE, Process, Rig, model, wait_for};

/// Slots for the frames of these tests.
const SMALL_FRAMES: [&str; 2] = ["--set", "source.frame_max_mib=1"];
/// Each is a line of the log.
const GAPS: u64 = LINES_WAITING_MAX as u64 + 200;

fn small() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| model("unattended", &[0], 0)).clone()
}

/// Arguments of a daemon that records everything into `sessions`.
fn recording(rig: &Rig) -> Vec<String> {
    let folder = rig.path("sessions").to_str().unwrap().to_owned();
    let more = ["--record".to_owned(), folder];
    more.into_iter().chain(LOSSLESS.into_iter().chain(SMALL_FRAMES).map(str::to_owned)).collect()
}

fn texts(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

/// The only session of the rig has its end.
fn assert_ended(rig: &Rig) {
    let mut files = std::fs::read_dir(rig.path("sessions")).unwrap().map(|entry| entry.unwrap().path());
    let session = files.next().unwrap();
    assert!(files.next().is_none());
    let outline = Outline::of(&session).unwrap();
    assert!(outline.end.is_some(), "{:?}", outline.warnings());
}

#[test]
fn every_signal_that_would_kill_ends_the_run_in_order() {
    for signal in [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::ALARM, Signal::XCPU] {
        let rig = Rig::new(small());
        let more = recording(&rig);
        let daemon = rig.daemon(&texts(&more));
        let mut listener = rig.listen();
        let microscope = Microscope::new(&rig.frames);
        (0..5).for_each(|frame| microscope.send(&[64, 64], &json!({ "frame": frame }), |i| i as u16));
        listener.until("frame 4", |m| m.kind == "decode" && m.header["frame"] == 4);
        daemon.signal(signal);
        listener.until("the event of the end", |m| m.is_event("shutdown"));
        daemon.finish().code(0).says(&["shutting down", "recording ended"]);
        listener.decodes().last().unwrap().assert_neutral("fail", "shutdown");
        assert_ended(&rig);
    }
}

#[test]
fn a_closed_terminal_and_the_end_of_its_session_are_one_stop_and_not_impatience() {
    for _ in 0..3 {
        let rig = Rig::new(small());
        let more = recording(&rig);
        let daemon = rig.daemon(&texts(&more));
        // All pending at once, as when a login ends: the shell, the kernel and the service manager all send theirs.
        [Signal::STOP, Signal::HUP, Signal::TERM, Signal::CONT].into_iter().for_each(|signal| daemon.signal(signal));
        daemon.finish().code(0).says(&["recording ended"]);
        assert_ended(&rig);
    }
}

#[test]
fn nohup_is_respected_and_a_reader_that_left_ends_nothing() {
    let rig = Rig::new(small());
    let inner = rig.command(&[]);
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    let mut daemon = Process::start("run", &mut command);
    daemon.until_it_says("ready:");
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::PIPE);
    let mut listener = rig.listen();
    let heard = listener.during(Duration::from_millis(500));
    assert!(heard.iter().any(|m| m.kind == "heartbeat") && !heard.iter().any(|m| m.is_event("shutdown")));
    daemon.signal(Signal::TERM);
    daemon.finish().code(0).says(&["shutting down"]);
}

/// A pipe that is full from the start.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 512]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// A daemon whose log goes into a full pipe, with that pipe's other end.
fn unread(rig: &Rig) -> (Child, PipeReader, Listener) {
    let more = recording(rig);
    let mut command = rig.command(&texts(&more));
    // What cannot be decoded in time is skipped.
    command.args(["--set", "lane.overload=skip-to-latest"]);
    let (reader, writer) = full_pipe();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let mut listener = Listener::new(&rig.decodes);
    listener.until("a heartbeat", |m| m.kind == "heartbeat");
    (child, reader, listener)
}

/// Frames with more gaps than lines of the log may wait.
fn flood_the_log(rig: &Rig, listener: &mut Listener) {
    let microscope = Microscope::new(&rig.frames);
    // Two and three numbers apart in turns: a constant step is no gap, and the first one shows only with the second.
    let number = |frame: u64| 5 * frame / 2;
    for frame in 0..=GAPS + 1 {
        microscope.send(&[64, 64], &json!({ "frame": number(frame) }), |i| i as u16);
        if frame % 8 == 0 {
            std::thread::sleep(Duration::from_millis(4));
        }
    }
    listener.until("the last frame", |m| m.kind == "decode" && m.header["frame"].as_u64() == Some(number(GAPS + 1)));
}

/// SIGTERM ends it, as always.
fn end(rig: &Rig, mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= until {
            child.kill().unwrap();
            panic!("the daemon does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0), "{status}");
    assert_ended(rig);
}

#[test]
fn a_log_that_nobody_reads_delays_no_answer_no_stop_and_no_end_of_the_session() {
    let rig = Rig::new(small());
    let (child, _reader, mut listener) = unread(&rig);
    flood_the_log(&rig, &mut listener);
    assert_eq!(rig.status()["gaps"].as_u64(), Some(GAPS), "control answers");
    end(&rig, child);
    listener.until("the event of the end", |m| m.is_event("shutdown"));
    listener.decodes().last().unwrap().assert_neutral("fail", "shutdown");
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_were_lost() {
    let rig = Rig::new(small());
    let (child, mut pipe, mut listener) = unread(&rig);
    flood_the_log(&rig, &mut listener);
    assert!(rig.status()["gaps"].is_u64());
    let mut text = String::new();
    let mut piece = [0; 4096];
    wait_for("the lines that were lost", || {
        let length = pipe.read(&mut piece).unwrap();
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
        text.contains("log line(s) were lost").then_some(())
    });
    assert!(text.contains("ready:") && text.contains("missing before frame"), "the first lines are there");
    // From here on nobody can read it at all.
    drop(pipe);
    end(&rig, child);
}

#[test]
fn a_log_whose_reader_left_ends_nothing() {
    let rig = Rig::new(small());
    let (child, reader, mut listener) = unread(&rig);
    drop(reader);
    flood_the_log(&rig, &mut listener);
    assert!(rig.status()["gaps"].is_u64(), "control answers");
    end(&rig, child);
}

#[test]
fn systemd_is_told_that_the_daemon_is_ready_that_its_loop_turns_and_that_it_stops() {
    let rig = Rig::new(small());
    let path = rig.path("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = rig.command(&SMALL_FRAMES);
    let daemon = Process::start("run", command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000"));
    let next = || {
        let mut bytes = [0; 512];
        let read = systemd.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    };
    let ready = next();
    assert!(ready.starts_with("READY=1\nSTATUS=frames from ") && ready.contains(&rig.decodes), "{ready}");
    // No frame has come: the loop turns all the same.
    (0..3).for_each(|_| assert_eq!(next(), "WATCHDOG=1"));
    daemon.signal(Signal::STOP);
    systemd.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut bytes = [0; 64];
    let after = std::iter::from_fn(|| systemd.recv(&mut bytes).ok()).take(9).count();
    assert!(after < 9, "a daemon that stands gives no sign of life");
    daemon.signal(Signal::CONT);
    daemon.signal(Signal::TERM);
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(std::iter::from_fn(|| Some(next())).take(9).any(|said| said == "STOPPING=1"));
    daemon.finish().code(0);
}
