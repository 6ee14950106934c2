//! Memory stays flat: the daemon as a process of its own, flooded with small frames over a real socket.
//!
//! Method: the resident memory of the process (`VmRSS`) after the first 2,000 frames and at the end of 20,000 (100,000 with
//! HALTERE_LONG=1, for a release) may differ by what a page or two of a library's heap explains, not by what a leak per
//! frame would: 100 bytes a frame are 1.8 MB here and 10 MB there.
#![cfg(all(feature = "train", target_os = "linux"))]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::time::{Duration, Instant};

use support::{GIVE_UP_S, Process, RAW, Small};

/// Most that resident memory may grow, KiB.
const GROWTH_KIB_MAX: u64 = 1536;
const FIRST: u64 = 2_000;

fn resident_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Published decodes, asked for over the control socket.
fn published(control: &str) -> u64 {
    haltere::client::ask::ask(control, "status", 5000)
        .map_or(0, |answer| answer["status"]["published"].as_u64().unwrap_or(0))
}

fn wait_for(control: &str, frames: u64) {
    let mut until = Instant::now() + Duration::from_secs(GIVE_UP_S);
    let mut before = 0;
    loop {
        let now = published(control);
        if now >= frames {
            return;
        }
        if now > before {
            (before, until) = (now, Instant::now() + Duration::from_secs(GIVE_UP_S));
        }
        assert!(Instant::now() < until, "no progress at {now} of {frames} decodes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn resident_memory_does_not_grow_with_the_number_of_frames() {
    let frames = if std::env::var_os("HALTERE_LONG").is_some() { 100_000 } else { 20_000 };
    let small = Small::new();
    let movie = small.folder.path().join("movie.raw");
    support::write_raw(&movie, 600);
    let (movie, model) = (movie.to_str().unwrap(), small.manifest.to_str().unwrap());
    let (frames_at, decodes_at, control) =
        (small.endpoint("frames"), small.endpoint("decodes"), small.endpoint("control"));
    let sets = [
        format!("source.endpoint={frames_at}"),
        format!("publish.endpoint={decodes_at}"),
        format!("control.endpoint={control}"),
        "source.pattern=pull".into(),
        "lane.overload=wait".into(),
        "publish.status_ms=100".into(),
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let daemon = Process::start(&[&["run", "--model", model][..], &sets].concat());
    let _listener = Process::start(&["watch", "--json", "--endpoint", &decodes_at]);
    let args = ["play", movie, "--raw", RAW, "--push", "--flood", "--loop", "0", "--endpoint", &frames_at];
    let _microscope = Process::start(&args);
    wait_for(&control, FIRST);
    let early = resident_kib(&daemon);
    wait_for(&control, frames);
    let late = resident_kib(&daemon);
    eprintln!("resident memory: {early} KiB after {FIRST} frames, {late} KiB after {frames}");
    assert!(late <= early + GROWTH_KIB_MAX, "from {early} to {late} KiB in {frames} frames");
    haltere::client::ask::ask(&control, "shutdown", 5000).unwrap();
    daemon.join();
}
