//! Invariant 3: nothing waits that must not; overload is a named policy, and every frame is accounted for.
//!
//! Method: the source and a preprocessing that is held fast by a gate take turns, so that nothing depends on speed. While
//! compute is held, the source hands over a burst; it is called for the next frame only when the last one lies in the lane,
//! so it knows what the newest frame is when it opens the gate. Without a deadline there is no time to catch up.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use haltere::config::{Overload, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles, Settings};
use haltere::frame::event::Event;
use haltere::frame::{Frame, Geometry};
use haltere::preprocess::{Prepared, Preprocess, PreprocessError, Request};
use support::{GIVE_UP_S, Keeper, Scripted, Small, Step, gated};

/// Bursts of 1 to 9 frames while compute is held. Returns what was decoded and what should have been.
fn bursts(small: &Small, depth_frames: usize, bursts: u64) -> (Keeper, Handles, Vec<u64>) {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let decoder = small.decoder();
    let settings = support::settings(&decoder, Overload::SkipToLatest, depth_frames, Wait::Park);
    let settings = Settings { deadline: Duration::ZERO, ..settings };
    let sinks = vec![Box::new(keeper.clone()) as _];
    let corridor = Corridor { settings, ..support::corridor(decoder, support::recording(0), sinks, &handles) };
    let (corridor, was_taken, open) = gated(corridor);
    let wait = Duration::from_secs(GIVE_UP_S);
    let (told, expected) = channel();
    let (mut sent, mut burst, mut left) = (0, 0, 1);
    let source = Scripted::new(move |_| {
        if left == 0 {
            // Everything sent lies in the lane. The first frame of all is taken before the gate has ever been opened.
            if burst > 0 {
                open.send(()).unwrap();
            }
            let taken = was_taken.recv_timeout(wait).expect("compute takes a frame");
            assert_eq!(taken, sent - 1, "the newest frame is the one that is decoded");
            told.send(taken).unwrap();
            burst += 1;
            left = 1 + burst % 9;
        }
        if burst == bursts {
            open.send(()).unwrap();
            return Step::End;
        }
        left -= 1;
        sent += 1;
        Step::Frame(sent - 1)
    });
    corridor::run(Corridor { source: Box::new(source), ..corridor }, || {}).unwrap();
    (keeper, handles, expected.iter().collect())
}

#[test]
fn skip_to_latest_decodes_the_newest_frame_and_counts_every_other_one() {
    let small = Small::new();
    for depth_frames in [1, 2, 4] {
        let (keeper, handles, expected) = bursts(&small, depth_frames, 40);
        let kept = keeper.0.lock().unwrap();
        assert_eq!(kept.numbers(), expected, "depth {depth_frames}");
        let stats = &handles.stats;
        let accepted = stats.intake.accepted.load(Relaxed);
        let (decoded, skipped) = (stats.compute.encoded.load(Relaxed), stats.compute.skipped.load(Relaxed));
        assert_eq!(accepted, expected.last().unwrap() + 1);
        assert_eq!((decoded, decoded + skipped), (40, accepted), "depth {depth_frames}");
        assert!(stats.intake.evicted.load(Relaxed) > 0, "a burst longer than the lane is deep evicts");
        // What a decode says was skipped before it, what the event says, and what the numbers say is the same.
        let mut next = 0;
        let mut events = kept.events.iter().filter(|event| matches!(event, Event::Skipped { .. }));
        for decode in &kept.decodes {
            let (frame, count) = (decode.frame.number, decode.frame.number - next);
            assert_eq!(decode.skipped, count, "before frame {frame}");
            if count > 0 {
                let event = events.next();
                let skipped =
                    matches!(event, Some(&Event::Skipped { frame: f, count: c, .. }) if (f, c) == (frame, count));
                assert!(skipped, "{event:?} before frame {frame}");
            }
            next = frame + 1;
        }
        assert_eq!(events.next(), None);
    }
}

#[test]
fn frames_that_came_before_the_first_decode_are_counted_as_skipped_as_well() {
    let small = Small::new();
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let decoder = small.decoder();
    let settings = support::settings(&decoder, Overload::SkipToLatest, 1, Wait::Park);
    let settings = Settings { deadline: Duration::ZERO, ..settings };
    let sinks = vec![Box::new(keeper.clone()) as _];
    // A request is carried out before the first frame is looked for: it holds compute until ten frames have come.
    struct Held(Box<dyn Preprocess>, Receiver<()>);
    impl Preprocess for Held {
        fn request(&mut self, request: Request) {
            self.1.recv_timeout(Duration::from_secs(GIVE_UP_S)).expect("ten frames come");
            self.0.request(request);
        }
        fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
            self.0.apply(frame)
        }
        fn geometry(&self) -> Option<Geometry> {
            self.0.geometry()
        }
        fn device(&self) -> &str {
            self.0.device()
        }
    }
    let (open, gate) = channel();
    let source = Scripted::new(move |n| {
        if n < 10 {
            return Step::Frame(n);
        }
        open.send(()).unwrap();
        Step::End
    });
    handles.requests.push(Request::ResetBaseline).unwrap();
    let corridor = Corridor { settings, ..support::corridor(decoder, Box::new(source), sinks, &handles) };
    let decoder = corridor.decoder.with_preprocessing(|inner| Box::new(Held(inner, gate)));
    corridor::run(Corridor { decoder, ..corridor }, || {}).unwrap();
    assert_eq!(keeper.0.lock().unwrap().numbers(), [9]);
    assert_eq!(handles.stats.compute.skipped.load(Relaxed), 9);
    assert_eq!(keeper.0.lock().unwrap().decodes[0].skipped, 9);
}

#[test]
fn wait_decodes_every_frame_and_reads_no_further_than_the_lane_is_deep() {
    let small = Small::new();
    for depth_frames in [1, 3] {
        let (keeper, handles) = (Keeper::default(), Handles::default());
        let decoder = small.decoder();
        let settings = support::settings(&decoder, Overload::Wait, depth_frames, Wait::Park);
        let sinks = vec![Box::new(keeper.clone()) as _];
        let corridor = Corridor { settings, ..support::corridor(decoder, support::recording(60), sinks, &handles) };
        let (corridor, was_taken, open) = gated(corridor);
        let stats = handles.stats.clone();
        let checker = std::thread::spawn(move || {
            for expected in 0..60 {
                assert_eq!(was_taken.recv_timeout(Duration::from_secs(GIVE_UP_S)).unwrap(), expected);
                // One frame is with compute, the lane is full, and there is no slot for another.
                let ahead = stats.intake.accepted.load(Relaxed).saturating_sub(expected + 1);
                assert!(ahead <= depth_frames as u64, "{ahead} frames ahead, depth {depth_frames}");
                open.send(()).unwrap();
            }
        });
        corridor::run(corridor, || {}).unwrap();
        checker.join().unwrap();
        assert_eq!(keeper.0.lock().unwrap().numbers(), (0..60).collect::<Vec<_>>());
        let stats = &handles.stats;
        assert_eq!((stats.compute.skipped.load(Relaxed), stats.intake.evicted.load(Relaxed)), (0, 0));
    }
}
