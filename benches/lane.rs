//! Handing a slot of half a megabyte over the lane: within one thread (what the rings cost), and between two threads.
//!
//! The slots hold 512×512 u16 and are not written: what is timed is the hand-over. That slots arrive in order, and that
//! none is lost on a lane that refuses, is asserted in every run.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haltere::corridor::lane::{Bells, Received, WhenFull, lane};
use haltere::frame::Frame;

const FRAME_BYTES: usize = 512 * 512 * 2;
const DEPTH_FRAMES: usize = 4;

fn new_slot() -> Frame {
    Frame::with_capacity(FRAME_BYTES)
}

/// Sends and takes in turn, and gives the time for all.
fn alone(when_full: WhenFull, slots: u64) -> Duration {
    let (mut into, mut out) = lane(DEPTH_FRAMES, when_full, Bells::default(), new_slot);
    let began = Instant::now();
    for number in 0..slots {
        into.slot().unwrap().info.number = number;
        into.send();
        let Received::Slot(frame) = out.oldest() else { panic!("slot {number} is not there") };
        assert_eq!(black_box(frame).info.number, number);
    }
    began.elapsed()
}

/// Sends as fast as it goes to a thread that takes as fast as it can.
fn between_threads(when_full: WhenFull, slots: u64) -> Duration {
    let (mut into, mut out) = lane(DEPTH_FRAMES, when_full, Bells::default(), new_slot);
    let reader = std::thread::spawn(move || {
        let (mut read, mut last) = (0, None);
        loop {
            match out.oldest() {
                Received::Slot(frame) => {
                    assert!(last < Some(frame.info.number), "in order");
                    (read, last) = (read + 1, Some(frame.info.number));
                }
                Received::Empty => std::thread::yield_now(),
                Received::Closed => return read,
            }
        }
    });
    let (began, mut evicted) = (Instant::now(), 0);
    for number in 0..slots {
        let slot = loop {
            match into.slot() {
                Some(_) => break into.slot().unwrap(),
                None => std::thread::yield_now(),
            }
        };
        slot.info.number = number;
        evicted += u64::from(into.send());
    }
    drop(into);
    let read: u64 = reader.join().unwrap();
    let took = began.elapsed();
    assert_eq!(read + evicted, slots);
    assert!(when_full == WhenFull::EvictOldest || evicted == 0);
    took
}

fn hand_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(1));
    for (name, when_full) in [("evict", WhenFull::EvictOldest), ("refuse", WhenFull::Refuse)] {
        group.bench_function(format!("{name}/one_thread"), |b| b.iter_custom(|slots| alone(when_full, slots)));
        group.bench_function(format!("{name}/two_threads"), |b| {
            b.iter_custom(|slots| between_threads(when_full, slots))
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = hand_over
}
criterion_main!(benches);
