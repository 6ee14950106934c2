//! Where a stream pauses or a series begins, the network's window begins anew; everything that preprocessing has learnt stays.
//!
//! Method: the frames' own times jump, by a number that jumps. What is decoded once the window is full again must be what the same
//! network makes of those frames alone, given the same preprocessing: it is stepped by hand for that.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use haltere::corridor;
use haltere::corridor::Handles;
use haltere::decoder::{Decoder, Step as Stepped};
use haltere::frame::event::Event;
use haltere::frame::{Frame, Quality, Restart};
use haltere::source::Source;
use support::{Keeper, Kept, Scripted, Small, Step};

/// Frames of the window of [`Small`].
const WINDOW: usize = 4;
/// Frames before the pause.
const BEFORE: u64 = 60;

/// Consecutive frames, then others after `pause` frames that were never sent.
fn paused(pause: u64) -> Box<dyn Source> {
    Box::new(Scripted::new(move |n| match n {
        0..BEFORE => Step::Frame(n),
        BEFORE..80 => Step::Frame(n + pause),
        _ => Step::End,
    }))
}

fn run(small: &Small, source: Box<dyn Source>) -> Kept {
    let keeper = Keeper::default();
    let corridor = support::corridor(small.decoder(), source, vec![Box::new(keeper.clone())], &Handles::default());
    corridor::run(corridor, || {}).unwrap();
    std::mem::take(&mut *keeper.0.lock().unwrap())
}

/// The embeddings from the frame after the pause on, as a network gives them that has seen no frame before it.
fn without_the_past(small: &Small, mut source: Box<dyn Source>) -> Vec<Vec<u32>> {
    let (mut taught, mut fresh) = (small.decoder(), small.decoder());
    let (mut frame, mut decode) = (Frame::with_capacity(source.frame_bytes_max()), taught.new_decode());
    let mut embeddings = Vec::new();
    for n in 0..80 {
        source.next(&mut frame).unwrap();
        let Stepped::Decoded(tensor) = taught.step(&frame, &mut decode).unwrap() else { panic!("no decode") };
        if n >= BEFORE {
            fresh.step_tensor(&tensor, false, &mut decode).unwrap();
            embeddings.push(decode.embedding.values.iter().map(|v| v.to_bits()).collect());
        }
    }
    embeddings
}

#[test]
fn a_pause_empties_the_window_and_nothing_else() {
    let small = Small::new();
    let kept = run(&small, paused(20));
    let after = &kept.decodes[BEFORE as usize..];
    assert_eq!(kept.decodes[BEFORE as usize - 1].quality, Quality::Ok);
    for (n, decode) in after.iter().enumerate() {
        let expected = if n + 1 < WINDOW { (Quality::Warmup, Some(Restart::Pause)) } else { (Quality::Ok, None) };
        assert_eq!((decode.quality, decode.restart), expected, "frame {n} after the pause");
        assert!(decode.observation.shift_px.is_some() && !decode.observation.warming_up, "the template stays");
    }
    let restarted = Event::WindowRestarted { frame: BEFORE + 20, reason: Restart::Pause };
    assert_eq!(kept.events.iter().filter(|event| **event == restarted).count(), 1);
    let bits = kept.bits().split_off(BEFORE as usize);
    let alone = without_the_past(&small, paused(20));
    assert!(bits.iter().map(|(_, values, _)| values).eq(&alone), "the window holds nothing from before the pause");
}

#[test]
fn a_few_lost_frames_are_no_pause() {
    let small = Small::new();
    let kept = run(&small, paused(3));
    let after = &kept.decodes[BEFORE as usize..];
    assert!(after.iter().all(|decode| decode.quality != Quality::Warmup && decode.restart.is_none()));
    assert_eq!(after[0].quality, Quality::Degraded, "three of four frames of its window are missing");
}

#[test]
fn averaged_frames_of_a_group_lie_on_one_side_of_a_pause() {
    let small = Small::new();
    let mut manifest = haltere::model::Manifest::read(&small.manifest).unwrap();
    (manifest.preprocess.average_frames, manifest.frame_rate_hz) = (2, support::RATE_HZ / 2.0);
    manifest.save(&small.manifest).unwrap();
    // One frame of a group has come when the stream pauses.
    let source = Scripted::new(|n| match n {
        0..BEFORE => Step::Frame(n),
        BEFORE..80 => Step::Frame(n + 30),
        _ => Step::End,
    });
    let kept = run(&small, Box::new(source));
    let last: Vec<u64> = kept.numbers().into_iter().filter(|number| *number > 57).take(3).collect();
    assert_eq!(last, [58, 91, 93], "no decode is made of frames 59 and 90");
    let first = kept.decodes.iter().find(|decode| decode.frame.number == 91).unwrap();
    assert_eq!((first.quality, first.restart), (Quality::Warmup, Some(Restart::Pause)));
}

#[test]
fn a_model_that_is_to_take_over_does_not_do_so_with_a_window_across_a_pause() {
    fn decoder(small: &Small) -> Decoder {
        small.decoder().with_generation(2)
    }
    let small = Small::new();
    let (handles, keeper) = (Handles::default(), Keeper::default());
    handles.swaps.push(Box::new(corridor::Swap::new(decoder(&small), true))).ok().unwrap();
    // The shadow's window is full after frame 3 of preprocessing's end; the pause comes one frame before that.
    let ready = run(&small, paused(0)).decodes.iter().position(|decode| decode.quality == Quality::Ok).unwrap() as u64;
    let source = Scripted::new(move |n| match n {
        _ if n < ready => Step::Frame(n),
        0..80 => Step::Frame(n + 20),
        _ => Step::End,
    });
    let corridor = support::corridor(small.decoder(), Box::new(source), vec![Box::new(keeper.clone())], &handles);
    corridor::run(corridor, || {}).unwrap();
    let kept = keeper.0.lock().unwrap();
    let taken_over = kept.decodes.iter().find(|decode| decode.generation == 2).unwrap();
    assert_eq!(taken_over.quality, Quality::Ok);
    assert!(taken_over.frame.number >= ready + 20 + WINDOW as u64, "{}", taken_over.frame.number);
}
