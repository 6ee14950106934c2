//! Time on the way to the daemon: slow links, stalls, a stopped daemon, bursts. A frame that was taken too long ago must never come out as
//! one that may be acted upon.
//!
//! Method: the sender is a process of its own, or this one; between it and the daemon lies a relay that passes bytes on as fast as the
//! test allows. What a decode's age truly is, is known from the sender's stamp, or from when this process sent the frame, on the
//! one monotonic clock of the machine.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::fly as pixels;
use crate::support::process as support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use haltere::sys::clock::now_ns;
use rustix::process::Signal;
use serde_json::json;
use support::{Message, Microscope, Process, Rig, cheap_model};

const MS: u64 = 1_000_000;
const DEADLINE_MS: u64 = 500;
const DEADLINE: [&str; 2] = ["--set", "publish.deadline_ms=500"];
/// A frame of `play` with its header and framing, bytes, and how many come in a second.
const FRAME_BYTES: u64 = 32 * 32 * 2 + 200;
const RATE: u64 = 30;

fn cheap() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| cheap_model("cheap")).clone()
}

/// A movie of 32×32 px, and `play`'s words for it.
fn movie(rig: &Rig) -> Vec<String> {
    let path = rig.path("movie.raw");
    let counts = pixels::frames(1, 32, 36).into_iter().map(|v| (v * 1000.0 + 5000.0).clamp(0.0, 65535.0) as u16);
    std::fs::write(&path, counts.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let words = ["--rate", "30", "--loop", "0", "--raw", "uint16:32x32", path.to_str().unwrap()];
    words.map(str::to_owned).to_vec()
}

/// A microscope at an endpoint, until it is killed.
fn play(rig: &Rig, endpoint: &str) -> Process {
    let mut command = support::haltere(["play", "--endpoint", endpoint]);
    Process::start("play", command.args(movie(rig)))
}

/// May be acted upon.
fn is_trusted(message: &Message) -> bool {
    message.kind == "decode" && matches!(message.quality(), "ok" | "degraded")
}

/// Age of a decode's frame when it was published, ns, by the stamp of a sender on this machine.
fn age_ns(decode: &Message) -> u64 {
    decode.number("t_pub_ns") - decode.number("t_device_ns")
}

/// Passes bytes on from a sender to the daemon.
struct Relay {
    /// Bytes a second; 0 = none.
    rate: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// From the sender, which binds `from`, to the daemon, which connects to `to`.
    fn start(from: String, to: &str, rate: u64) -> Self {
        let (rate, ended) = (Arc::new(AtomicU64::new(rate)), Arc::new(AtomicBool::new(false)));
        let listener = TcpListener::bind(to.trim_start_matches("tcp://")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (allowed, ends) = (rate.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Relaxed) {
                match listener.accept() {
                    Ok((daemon, _)) => Self::join(daemon, &from, &allowed, &ends),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { rate, ended, thread: Some(thread) }
    }

    fn join(daemon: TcpStream, from: &str, rate: &AtomicU64, ended: &Arc<AtomicBool>) {
        // The sender may not be there yet: the daemon's socket tries again.
        let Ok(sender) = TcpStream::connect(from.trim_start_matches("tcp://")) else { return };
        daemon.set_nonblocking(false).unwrap();
        let (mut back_in, mut back_out) = (daemon.try_clone().unwrap(), sender.try_clone().unwrap());
        let back = std::thread::spawn(move || std::io::copy(&mut back_in, &mut back_out));
        let (mut sender, mut daemon) = (sender, daemon);
        let mut buffer = [0; 2048];
        let mut due_ns = now_ns();
        sender.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while !ended.load(Relaxed) {
            let rate = rate.load(Relaxed);
            if rate == 0 || now_ns() < due_ns {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            match sender.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    if daemon.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                    due_ns = due_ns.max(now_ns() - 10 * MS) + read as u64 * 1_000_000_000 / rate;
                }
                Err(_) => {}
            }
        }
        let _ = (daemon.shutdown(Shutdown::Both), sender.shutdown(Shutdown::Both));
        let _ = back.join();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Every trusted decode is of a frame that was younger than the deadline, by its stamp.
fn assert_none_is_old(decodes: &[&Message]) {
    for decode in decodes.iter().filter(|decode| is_trusted(decode)) {
        let (age_ns, told_us) = (age_ns(decode), decode.header["age_us"].as_f64().unwrap());
        assert!(age_ns <= DEADLINE_MS * MS, "{} ms old: {}", age_ns / MS, decode.header);
        assert!((told_us - age_ns as f64 / 1e3).abs() < 1.0, "{}", decode.header);
    }
}

#[test]
fn over_a_link_that_is_a_quarter_too_slow_no_frame_older_than_the_deadline_is_trusted() {
    let rig = Rig::over_tcp(cheap());
    let sender = Rig::over_tcp(cheap()).frames;
    let relay = Relay::start(sender.clone(), &rig.frames, FRAME_BYTES * RATE * 4);
    let daemon = rig.daemon(&DEADLINE);
    let mut listener = rig.listen();
    let play = play(&rig, &sender);
    listener.until("a decode to be trusted", is_trusted);
    relay.rate.store(FRAME_BYTES * RATE * 3 / 4, Relaxed);
    let far_behind = |m: &Message| m.header["reason"] == "aged" && m.header["age_us"].as_f64() > Some(1e6);
    listener.until("a frame a second old", |m| m.kind == "decode" && far_behind(m));
    let from = listener.heard.len();
    let heard = listener.during(Duration::from_secs(3));
    assert!(!heard.iter().any(|m| m.kind == "heartbeat"), "the heartbeat stops");
    let decodes: Vec<&Message> = heard.iter().filter(|m| m.kind == "decode").collect();
    assert!(decodes.len() > 20, "frames go on arriving: {}", decodes.len());
    decodes.iter().for_each(|decode| decode.assert_neutral("stale", "aged"));
    assert!(age_ns(decodes[decodes.len() - 1]) > age_ns(decodes[0]), "the link falls behind");
    assert_none_is_old(&listener.decodes());
    assert!(listener.heard.len() > from);
    let status = listener.until("a status", |m| m.kind == "status");
    assert!(status.header["age_us"]["max"].as_f64().unwrap() > DEADLINE_MS as f64 * 1e3, "{}", status.header);
    play.kill();
    daemon.kill();
}

#[test]
fn after_a_stall_of_the_link_no_old_frame_is_trusted_and_the_window_goes_on() {
    let rig = Rig::over_tcp(cheap());
    let sender = Rig::over_tcp(cheap()).frames;
    let relay = Relay::start(sender.clone(), &rig.frames, 100_000_000);
    // Every frame is decoded, also those that waited.
    let daemon = rig.daemon(&[&DEADLINE[..], &["--set", "lane.overload=wait"]].concat());
    let mut listener = rig.listen();
    let play = play(&rig, &sender);
    listener.until("a decode to be trusted", is_trusted);
    relay.rate.store(0, Relaxed);
    listener.until("the event of silence", |m| m.is_event("stale"));
    listener.during(Duration::from_millis(2_500));
    let from = listener.heard.len();
    relay.rate.store(100_000_000, Relaxed);
    let aged = listener.until("an old frame", |m| m.kind == "decode");
    aged.assert_neutral("stale", "aged");
    assert!(age_ns(&aged) > 2_000 * MS, "{}", aged.header);
    listener.until("a decode to be trusted again", is_trusted);
    listener.during(Duration::from_secs(1));
    assert_none_is_old(&listener.decodes());
    let restarted = listener.heard[from..].iter().any(|m| m.is_event("window_restarted"));
    let lost = listener.heard[from..].iter().any(|m| m.is_event("gap") || m.is_event("skipped"));
    assert!(lost || !restarted, "by their own times the frames are consecutive");
    play.kill();
    daemon.kill();
}

#[test]
fn after_the_daemon_was_stopped_no_old_frame_is_trusted() {
    let rig = Rig::new(cheap());
    let daemon = rig.daemon(&DEADLINE);
    let mut listener = rig.listen();
    let play = play(&rig, &rig.frames);
    listener.until("a decode to be trusted", is_trusted);
    for _ in 0..2 {
        daemon.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(3));
        daemon.signal(Signal::CONT);
        // What was published before the stop is heard first.
        listener.until("the end of the silence", |m| m.is_event("recovered"));
        listener.until("a decode to be trusted again", is_trusted);
        listener.during(Duration::from_millis(500));
    }
    assert_none_is_old(&listener.decodes());
    play.kill();
    daemon.kill();
}

/// Sends a frame without a stamp 30 times a second, and remembers when.
struct Unstamped {
    sent: Vec<Arc<AtomicU64>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Unstamped {
    fn start(endpoint: &str) -> Self {
        let sent: Vec<Arc<AtomicU64>> = (0..10_000).map(|_| Arc::default()).collect();
        let ended = Arc::new(AtomicBool::new(false));
        let (times, ends, endpoint) = (sent.clone(), ended.clone(), endpoint.to_owned());
        let thread = std::thread::spawn(move || {
            let microscope = Microscope::new(&endpoint);
            let began = now_ns();
            for (frame, time) in times.iter().enumerate() {
                let due = began + frame as u64 * 1_000_000_000 / RATE;
                std::thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
                if ends.load(Relaxed) {
                    return;
                }
                time.store(now_ns(), Relaxed);
                microscope.send(&[32, 32], &json!({ "frame": frame }), |i| ((i * 31 + frame * 7) % 977) as u16);
            }
        });
        Self { sent, ended, thread: Some(thread) }
    }

    fn age_ns(&self, decode: &Message) -> u64 {
        let sent = self.sent[decode.number("frame") as usize].load(Relaxed);
        decode.number("t_pub_ns").saturating_sub(sent)
    }
}

impl Drop for Unstamped {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn frames_without_a_stamp_that_waited_while_the_daemon_was_stopped_are_called_old() {
    let rig = Rig::new(cheap());
    let daemon =
        rig.daemon(&[&DEADLINE[..], &["--set", "source.pattern=pull", "--set", "lane.overload=wait"]].concat());
    let mut listener = rig.listen();
    let microscope = Unstamped::start(&rig.frames);
    let fits = |m: &Message| m.kind == "decode" && m.quality() != "warmup";
    listener.until("a decode", fits);
    listener.during(Duration::from_secs(2));
    daemon.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(3));
    let stopped = listener.heard.len();
    daemon.signal(Signal::CONT);
    listener.until("the end of the silence", |m| m.is_event("recovered"));
    listener.during(Duration::from_secs(2));
    let after: Vec<&Message> = listener.heard[stopped..].iter().filter(|m| m.kind == "decode").collect();
    let aged = after.iter().filter(|m| m.header["reason"] == "aged").count();
    assert!(aged > 5, "{aged} of {} decodes", after.len());
    for decode in after.iter().filter(|decode| decode.quality() != "stale") {
        // The period is measured, so the estimate is not exact.
        let age = microscope.age_ns(decode);
        assert!(age <= (DEADLINE_MS + 150) * MS, "{} ms old: {}", age / MS, decode.header);
    }
    let restarts = listener.heard[stopped..].iter().filter(|m| m.is_event("window_restarted"));
    assert!(
        restarts.into_iter().any(|m| m.header["reason"] == "pause"),
        "by its receipt the stream paused: the window begins anew"
    );
    drop(microscope);
    daemon.kill();
}

#[test]
fn bursts_are_decoded_while_there_is_time_and_nobody_says_that_decoding_is_slow() {
    const BURSTS: u64 = 60;
    let rig = Rig::new(cheap());
    let mut daemon = rig.daemon(&[
        "--set",
        "publish.deadline_ms=5000",
        "--set",
        "source.pattern=pull",
        "--set",
        "lane.depth_frames=64",
    ]);
    let mut listener = rig.listen();
    let microscope = Microscope::new(&rig.frames);
    for frame in 0..4 * BURSTS {
        let stamp = now_ns();
        let more = json!({ "frame": frame, "timestamp_ns": stamp, "clock": "monotonic", "stamp": "end" });
        microscope.send(&[32, 32], &more, |i| ((i * 31 + frame as usize * 7) % 977) as u16);
        if frame % 4 == 3 {
            std::thread::sleep(Duration::from_millis(133));
        }
    }
    let last = listener.until("the last decode", |m| m.kind == "decode" && m.number("frame") == 4 * BURSTS - 1);
    assert_ne!(last.quality(), "stale");
    let status = listener.until("a status", |m| m.kind == "status" && m.number("accepted") == 4 * BURSTS).header;
    let sum = |key: &str| listener.decodes().iter().map(|decode| decode.number(key)).sum::<u64>();
    // A machine that is busy with other things may hold the daemon up now and then; half of all frames were skipped once.
    assert!(sum("skipped") <= BURSTS / 5 && sum("frame_gap") == 0, "{} frames skipped", sum("skipped"));
    assert_eq!(listener.decodes().len() as u64 + sum("caught_up") + sum("skipped"), 4 * BURSTS);
    let counted = (&status["dropped"]["skip_to_latest"], &status["caught_up"]);
    assert_eq!(counted, (&sum("skipped").into(), &sum("caught_up").into()));
    assert!(sum("caught_up") > BURSTS, "{}", sum("caught_up"));
    let events = |name: &str| listener.heard.iter().filter(|m| m.is_event(name)).count();
    assert!(events("caught_up") > 0 && (events("skipped") == 0) == (sum("skipped") == 0));
    daemon.until_it_says("caught up with a burst");
    assert!(!daemon.err().contains("slower than the stream"), "{}", daemon.err());
    daemon.kill();
}
