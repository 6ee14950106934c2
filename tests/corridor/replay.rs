//! Invariant 1, same in, same out.
//!
//! Method: one recording goes through the corridor at every pace, lane depth and wait policy, and as real processes over real
//! sockets; every embedding and every observation must agree with the first run to the last bit. The reference itself is
//! checked for being about something: embeddings differ from frame to frame, and a shift is measured.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use haltere::config::{Overload, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles};
use haltere::decoder;
use haltere::frame::event::Event;
use haltere::frame::placement::Placement;
use haltere::frame::{Decision, Decode, Frame, Geometry, Quality};
use haltere::model::Manifest;
use haltere::preprocess::{Prepared, Preprocess, PreprocessError, Request};
use haltere::source::{Next, Source};
use support::{GIVE_UP_S, HALTERE, Keeper, Kept, Process, RAW, Scripted, Small, Step};

const FRAMES: u64 = 150;

fn run(small: &Small, source: Box<dyn Source>, depth_frames: usize, wait: Wait) -> Kept {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let decoder = small.decoder();
    let settings = support::settings(&decoder, Overload::Wait, depth_frames, wait);
    let corridor =
        Corridor { settings, ..support::corridor(decoder, source, vec![Box::new(keeper.clone())], &handles) };
    corridor::run(corridor, || {}).unwrap();
    Arc::into_inner(keeper.0).unwrap().into_inner().unwrap()
}

/// The same frames, late by a different time each, some of them after an idle call.
fn jittering(frames: u64) -> Box<dyn Source> {
    let (mut number, mut state) = (0, 7_u64);
    Box::new(Scripted::new(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match state >> 62 {
            0 => return Step::Idle,
            1 => std::thread::sleep(Duration::from_micros(state >> 53)),
            _ => {}
        }
        number += 1;
        if number <= frames { Step::Frame(number - 1) } else { Step::End }
    }))
}

#[test]
fn pace_lane_depth_and_wait_policy_change_no_bit() {
    let small = Small::new();
    let reference = run(&small, support::recording(FRAMES), 4, Wait::Park).bits();
    assert_eq!(reference.len() as u64, FRAMES);
    let distinct: std::collections::BTreeSet<_> = reference.iter().map(|(_, values, _)| values).collect();
    assert!(distinct.len() as u64 > FRAMES - 10, "embeddings follow the frames: {}", distinct.len());
    assert!(reference[60].2.contains("shift_px: Some"), "{}", reference[60].2);
    for wait in [Wait::Park, Wait::Yield, Wait::Spin] {
        for depth_frames in [1, 2, 8] {
            let fast = run(&small, support::recording(FRAMES), depth_frames, wait).bits();
            assert!(fast == reference, "as fast as it goes, depth {depth_frames}, {wait:?}");
        }
        let uneven = run(&small, jittering(FRAMES), 2, wait).bits();
        assert!(uneven == reference, "with jitter, {wait:?}");
    }
}

/// What the rules decided with each frame, without the stamps.
fn decided(kept: &Kept) -> Vec<(u64, String)> {
    let stampless = |decision: &Decision| format!("{:?}", Decision { t_decided_ns: 0, ..*decision });
    let of_frame =
        |decode: &Decode| decode.decisions.iter().map(stampless).map(|made| (decode.frame.number, made)).collect();
    kept.decodes.iter().flat_map(|decode| -> Vec<_> { of_frame(decode) }).collect()
}

#[test]
fn the_rules_decide_the_same_at_every_pace() {
    let small = Small::new();
    let deciding = |source: Box<dyn Source>, depth_frames: usize| {
        let (keeper, handles) = (Keeper::default(), Handles::default());
        let decoder = small.decoder();
        let settings = support::settings(&decoder, Overload::Wait, depth_frames, Wait::Park);
        let settings = corridor::Settings { decision: support::rules(), ..settings };
        let sinks: Vec<Box<dyn haltere::publish::Sink>> = vec![Box::new(keeper.clone())];
        corridor::run(Corridor { settings, ..support::corridor(decoder, source, sinks, &handles) }, || {}).unwrap();
        decided(&Arc::into_inner(keeper.0).unwrap().into_inner().unwrap())
    };
    let reference = deciding(support::recording(FRAMES), 4);
    assert!(reference.len() > 50 && reference.iter().any(|(_, made)| made.contains("rule: 1")), "{reference:?}");
    for (source, depth_frames) in [(support::recording(FRAMES), 1), (jittering(FRAMES), 2), (jittering(FRAMES), 8)] {
        assert_eq!(deciding(source, depth_frames), reference);
    }
}

#[test]
fn what_comes_later_changes_nothing_that_was_decoded_before() {
    let small = Small::new();
    let whole = run(&small, support::recording(FRAMES), 4, Wait::Park).bits();
    for frames in [3, 40, 99] {
        let beginning = run(&small, support::recording(frames), 4, Wait::Park).bits();
        assert!(beginning == whole[..frames as usize], "{frames} frames");
    }
    // The same beginning with other frames after it.
    let other = Scripted::new(|n| match n {
        0..50 => Step::Frame(n),
        50..FRAMES => Step::Frame(n + 13),
        _ => Step::End,
    });
    let other = run(&small, Box::new(other), 4, Wait::Park).bits();
    assert!(other[..50] == whole[..50]);
    assert!(other[50..] != whole[50..], "other frames, other embeddings");
}

#[test]
fn a_reset_begins_anew_as_if_nothing_had_been_before() {
    let small = Small::new();
    let fresh = run(&small, support::recording(60), 4, Wait::Park).bits();
    let handles = Handles::default();
    let requests = handles.requests.clone();
    let done = handles.stats.clone();
    // 70 frames of another part of the movie; when all of them are decoded the reset, and then the movie from its begin.
    let (mut next, until) = (0, Instant::now() + Duration::from_secs(GIVE_UP_S));
    let source = Scripted::new(move |_| {
        if next == 70 && done.compute.encoded.load(Relaxed) < 70 {
            assert!(Instant::now() < until, "70 frames are never decoded");
            return Step::Idle;
        }
        if next == 70 {
            requests.push(Request::Reset).unwrap();
        }
        next += 1;
        match next - 1 {
            n @ 0..70 => Step::Frame(n + 1000),
            n @ 70..130 => Step::Frame(n - 70),
            _ => Step::End,
        }
    });
    let keeper = Keeper::default();
    let corridor = support::corridor(small.decoder(), Box::new(source), vec![Box::new(keeper.clone())], &handles);
    corridor::run(corridor, || {}).unwrap();
    let kept = keeper.0.lock().unwrap();
    assert!(kept.events.contains(&Event::Request { what: "reset" }));
    assert!(kept.bits()[70..] == fresh[..]);
    assert!(kept.bits()[..60] != fresh[..]);
}

fn placements(kept: &Kept) -> Vec<(u64, Placement)> {
    let placed = |event: &Event| match event {
        Event::Placement { frame, placement } => Some((*frame, *placement)),
        Event::PlacementPoor { frame, placement } => Some((*frame, *placement)),
        _ => None,
    };
    kept.events.iter().filter_map(placed).collect()
}

#[test]
fn an_animal_is_laid_on_the_atlas_by_its_frames_alone_and_it_is_reported_once() {
    let small = Small::on_an_atlas(0.3);
    let first = run(&small, support::recording(FRAMES), 4, Wait::Park);
    let placed = placements(&first);
    assert_eq!(placed.len(), 1, "{:?}", first.events);
    let (frame, placement) = placed[0];
    assert!(placement.fits && placement.likeness > 0.6, "{placement:?}");
    assert!(first.events.contains(&Event::Placement { frame, placement }));
    // Warm-up lasts until then, and a few frames for F₀ and the statistics.
    let warm = first.decodes.iter().find(|decode| decode.quality == Quality::Warmup && decode.frame.number == frame);
    assert!(warm.is_some(), "frame {frame} is still warm-up");
    let ready = first.decodes.iter().find(|decode| decode.quality != Quality::Warmup).unwrap();
    assert!(ready.frame.number > frame && ready.frame.number < frame + 20, "{}", ready.frame.number);
    for (source, depth_frames) in [(support::recording(FRAMES), 1), (jittering(FRAMES), 2)] {
        let again = run(&small, source, depth_frames, Wait::Yield);
        assert_eq!(placements(&again), placed);
        assert!(again.bits() == first.bits());
    }
    let as_it_lies = run(&Small::new(), support::recording(FRAMES), 4, Wait::Park).bits();
    assert!(as_it_lies[FRAMES as usize - 1] != first.bits()[FRAMES as usize - 1], "the placement is undone");
}

#[test]
fn an_animal_that_does_not_look_like_the_atlas_is_reported() {
    let kept = run(&Small::on_an_atlas(1.0), support::recording(40), 4, Wait::Park);
    let [(frame, placement)] = placements(&kept)[..] else { panic!("{:?}", kept.events) };
    assert!(!placement.fits && kept.events.contains(&Event::PlacementPoor { frame, placement }));
    let said = Event::PlacementPoor { frame, placement }.to_string();
    assert!(said.contains("does not fit the model's atlas") && said.contains("check field of view"), "{said}");
}

#[test]
fn a_decoder_stepped_by_hand_gives_what_the_corridor_gives() {
    let small = Small::new();
    let corridor = run(&small, support::recording(FRAMES), 4, Wait::Park);
    let (mut decoder, mut source) = (small.decoder(), support::recording(FRAMES));
    let (mut frame, mut decode) = (Frame::with_capacity(source.frame_bytes_max()), decoder.new_decode());
    let mut by_hand = Kept::default();
    while source.next(&mut frame).unwrap() == Next::Frame {
        assert!(matches!(decoder.step(&frame, &mut decode).unwrap(), decoder::Step::Decoded(_)));
        by_hand.decodes.push(decode.clone());
    }
    assert_eq!(corridor.decodes.len() as u64, FRAMES);
    assert_eq!(by_hand.numbers(), corridor.numbers());
    for (hand, lane) in by_hand.decodes.iter().zip(&corridor.decodes) {
        let bits = |decode: &Decode| decode.embedding.values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert!(bits(hand) == bits(lane), "frame {}", lane.frame.number);
        assert_eq!((&hand.observation, hand.action), (&lane.observation, lane.action));
        assert_eq!(hand.embedding.probabilities, lane.embedding.probabilities);
        assert_eq!(hand.embedding.novelty, lane.embedding.novelty);
        // The judge of the corridor may only lower what the decoder calls ok.
        assert_eq!(hand.quality == Quality::Warmup, lane.quality == Quality::Warmup, "frame {}", lane.frame.number);
    }
}

/// Number and payload of every decode of a frame that the daemon publishes, until its last word.
fn listen(decodes: &zmq::Socket) -> Vec<(u64, Vec<u8>)> {
    let (mut heard, until) = (Vec::new(), Instant::now() + Duration::from_secs(GIVE_UP_S));
    loop {
        assert!(Instant::now() < until, "the daemon never ended; {} decodes", heard.len());
        if decodes.poll(zmq::POLLIN, 100).unwrap() == 0 {
            continue;
        }
        let parts = decodes.recv_multipart(0).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&parts[1]).unwrap();
        match (parts[0].starts_with(b"decode/"), header["quality"].as_str()) {
            (true, Some("fail")) => return heard,
            (true, quality) => {
                assert!(matches!(quality, Some("ok" | "warmup" | "degraded")), "{header}");
                heard.push((header["frame"].as_u64().unwrap(), parts[2].clone()));
            }
            _ => {}
        }
    }
}

#[test]
fn what_the_daemon_publishes_live_is_what_embed_writes_bit_for_bit() {
    let small = Small::new();
    // The flooding sender stamps its frames; where a busy machine holds it up, the movie has no pause.
    let mut manifest = Manifest::read(&small.manifest).unwrap();
    manifest.preprocess.pause_periods = 1e6;
    manifest.save(&small.manifest).unwrap();
    let movie = small.folder.path().join("movie.raw");
    support::write_raw(&movie, FRAMES as usize);
    let (movie, model) = (movie.to_str().unwrap(), small.manifest.to_str().unwrap());
    let (frames_at, decodes_at) = (small.endpoint("frames"), small.endpoint("decodes"));
    let sets = [
        format!("source.endpoint={frames_at}"),
        format!("publish.endpoint={decodes_at}"),
        "control.endpoint=off".into(),
        "source.pattern=pull".into(),
        // libzmq drops what lies in the kernel's buffer when a sender closes an ipc connection whose receive queue is full.
        "source.hwm=10000".into(),
        "lane.overload=wait".into(),
        // A busy machine may be slow; what is compared is what was computed.
        "publish.deadline_ms=60000".into(),
        "publish.heartbeat_ms=10".into(),
        "publish.hwm=10000".into(),
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let daemon = Process::start(&[&["run", "--once", "--model", model][..], &sets].concat());
    let decodes = zmq::Context::new().socket(zmq::SUB).unwrap();
    decodes.set_rcvhwm(0).unwrap();
    decodes.set_subscribe(b"").unwrap();
    decodes.connect(&decodes_at).unwrap();
    // A status comes before the first frame: from now on nothing is missed.
    assert_ne!(decodes.poll(zmq::POLLIN, GIVE_UP_S as i64 * 1000).unwrap(), 0, "the daemon says nothing");
    let microscope = Process::start(&["play", movie, "--raw", RAW, "--push", "--flood", "--endpoint", &frames_at]);
    let live = listen(&decodes);
    microscope.join();
    daemon.join();

    let out = small.folder.path().join("out.npy");
    let args = ["embed", movie, "--raw", RAW, "--model", model, "--out", out.to_str().unwrap()];
    assert!(Command::new(HALTERE).args(args).status().unwrap().success());
    let array = std::fs::read(out).unwrap();
    let rows: Vec<&[u8]> = array[128..].chunks_exact(4 * 128).collect();
    assert_eq!((live.len() as u64, rows.len() as u64), (FRAMES, FRAMES));
    for (index, (number, values)) in live.iter().enumerate() {
        assert_eq!(*number, index as u64);
        assert!(values == rows[index], "frame {number}");
    }
}

/// Can this processor take denormal numbers for zero?
const FLUSHES: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Halves the smallest ordinary number on the thread that preprocesses.
struct Halving {
    inner: Box<dyn Preprocess>,
    least: f32,
}

impl Preprocess for Halving {
    fn request(&mut self, request: Request) {
        self.inner.request(request);
    }

    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
        let denormal = std::hint::black_box(self.least) * 0.5;
        assert!(denormal == 0.0 || !FLUSHES, "{denormal:e} is many times slower to compute with");
        self.inner.apply(frame)
    }

    fn geometry(&self) -> Option<Geometry> {
        self.inner.geometry()
    }

    fn device(&self) -> &str {
        self.inner.device()
    }
}

#[test]
fn denormal_numbers_are_zero_on_the_compute_thread() {
    let small = Small::new();
    let corridor = support::corridor(small.decoder(), support::recording(3), Vec::new(), &Handles::default());
    let decoder = corridor.decoder.with_preprocessing(|inner| Box::new(Halving { inner, least: f32::MIN_POSITIVE }));
    // Whatever ONNX Runtime has set on this thread is inherited by those that it starts.
    haltere::sys::denormals::flush_to_zero(false);
    corridor::run(Corridor { decoder, ..corridor }, || {}).unwrap();
}
