//! Frames that arrive in a burst are decoded, and only the newest is published; a recording repeats exactly that.
//!
//! Method: as in `overload.rs`, a gate holds compute at one frame until the whole burst lies in the lane, so that nothing depends on
//! speed. The deadline leaves time enough to catch up. The run is recorded, and its replay must publish the same decodes, to the bit.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use haltere::config::{Overload, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles, Settings};
use haltere::frame::event::Event;
use haltere::source::mcap::McapSource;
use support::{GIVE_UP_S, Keeper, Kept, Recording, Scripted, Small, Step, gated};

/// Frames one at a time before the burst, of which the first are warm-up.
const BEFORE: u64 = 40;

/// One burst of `burst` frames into a lane of four, then `after` frames one at a time.
fn live(small: &Small, burst: u64, after: u64, handles: &Handles) -> Kept {
    let keeper = Keeper::default();
    let decoder = small.decoder();
    let settings = support::settings(&decoder, Overload::SkipToLatest, 4, Wait::Park);
    let settings = Settings { deadline: Duration::from_secs(3600), ..settings };
    let sinks = vec![Box::new(keeper.clone()) as _];
    let corridor = Corridor { settings, ..support::corridor(decoder, support::recording(0), sinks, handles) };
    let (corridor, was_taken, open) = gated(corridor);
    let source = Scripted::new(move |call| {
        let taken = || was_taken.recv_timeout(Duration::from_secs(GIVE_UP_S)).expect("compute takes a frame");
        // Frame `BEFORE` is with compute, which is held there, while the burst arrives.
        if (1..=BEFORE).contains(&call) {
            assert_eq!(taken(), call - 1);
            open.send(()).unwrap();
        } else if call == BEFORE + 1 {
            assert_eq!(taken(), BEFORE);
        } else if call == BEFORE + 1 + burst {
            open.send(()).unwrap();
            for frame in BEFORE + 1 + burst.saturating_sub(4)..=BEFORE + burst {
                assert_eq!(taken(), frame, "what lies in the lane is decoded in order");
                open.send(()).unwrap();
            }
        } else if call > BEFORE + 1 + burst {
            assert_eq!(taken(), call - 1);
            open.send(()).unwrap();
        }
        if call <= BEFORE + burst + after { Step::Frame(call) } else { Step::End }
    });
    corridor::run(Corridor { source: Box::new(source), ..corridor }, || {}).unwrap();
    std::mem::take(&mut *keeper.0.lock().unwrap())
}

#[test]
fn of_a_burst_every_frame_that_the_lane_holds_is_decoded_and_the_newest_published() {
    let small = Small::new();
    for (burst, evicted) in [(2, 0), (4, 0), (7, 3)] {
        let handles = Handles::default();
        let kept = live(&small, burst, 5, &handles);
        let newest = BEFORE + burst;
        let published: Vec<u64> = (0..=BEFORE).chain(newest..=newest + 5).collect();
        assert_eq!(kept.numbers(), published, "burst of {burst}");
        let decode = &kept.decodes[BEFORE as usize + 1];
        let held = burst - evicted;
        assert_eq!((decode.caught_up, decode.skipped), (held - 1, evicted));
        let stats = &handles.stats.compute;
        assert_eq!((stats.caught_up.load(Relaxed), stats.skipped.load(Relaxed)), (held - 1, evicted));
        assert_eq!(stats.encoded.load(Relaxed), published.len() as u64 + held - 1);
        let caught_up = Event::CaughtUp { frame: newest, count: held - 1 };
        assert!(kept.events.contains(&caught_up), "{:?}", kept.events);
        let skipped = kept.events.iter().filter(|event| matches!(event, Event::Skipped { .. })).count();
        assert_eq!(skipped, usize::from(evicted > 0), "what was caught up with was not skipped");
        // Nothing is missing in the window: the decodes are those of a stream without a burst.
        if evicted == 0 {
            let all = support::recording(newest + 6);
            let steady = Keeper::default();
            let sinks = vec![Box::new(steady.clone()) as _];
            let corridor = support::corridor(small.decoder(), all, sinks, &Handles::default());
            corridor::run(corridor, || {}).unwrap();
            let steady = steady.0.lock().unwrap().bits();
            let expected: Vec<_> = published.iter().map(|number| steady[*number as usize].clone()).collect();
            assert!(kept.bits() == expected, "burst of {burst}");
        }
    }
}

#[test]
fn a_replay_decodes_what_was_caught_up_with_and_publishes_what_was_published() {
    let small = Small::new();
    let folder = tempfile::tempdir().unwrap();
    let mut handles = Handles::default();
    let recording = Recording::begin(&small, folder.path(), &mut handles);
    let live = live(&small, 4, 30, &handles);
    let session = recording.end();

    let again = Keeper::default();
    let source = Box::new(McapSource::open(&session, None).unwrap());
    let replay = Handles::default();
    let corridor = support::corridor(small.decoder(), source, vec![Box::new(again.clone())], &replay);
    corridor::run(corridor, || {}).unwrap();
    let again = again.0.lock().unwrap();
    assert!(again.bits() == live.bits());
    assert_eq!(again.decodes[BEFORE as usize + 1].caught_up, 3);
    assert_eq!(replay.stats.compute.encoded.load(Relaxed), live.decodes.len() as u64 + 3);
}
