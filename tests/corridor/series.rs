//! A series whose first frames are skipped begins with the first one that is decoded: live, in the recording, and in its replay.
//!
//! Method: the source and a preprocessing that is held fast by a gate take turns, as in `overload.rs`, so that nothing depends on
//! speed: while compute is held at the last frame of a series, the first three of the next one come, of which a lane of depth one
//! keeps the third. What is decoded from there on is held against a run that began with that frame.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use haltere::config::{NewSeries, Overload, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles};
use haltere::frame::event::Event;
use haltere::frame::{Quality, Restart};
use haltere::source::Source;
use haltere::source::mcap::McapSource;
use support::{GIVE_UP_S, Keeper, Kept, Recording, Scripted, Small, Step};

/// The last frame of the first series.
const LAST: u64 = 30;
/// The first one decoded of the second.
const FIRST: u64 = 2;
/// The last one of the second.
const END: u64 = 40;

/// Two series, of the second of which the first two frames are skipped.
fn source(was_taken: Receiver<u64>, open: Sender<()>) -> impl Source {
    let numbers: Vec<u64> = (0..=LAST).chain(0..=END).collect();
    let held = LAST as usize;
    let burst = held + 1..=held + 1 + FIRST as usize;
    Scripted::new(move |call| {
        let call = call as usize;
        let taken = |expected: u64| {
            let taken = was_taken.recv_timeout(Duration::from_secs(GIVE_UP_S)).expect("compute takes a frame");
            assert_eq!(taken, expected);
        };
        match call.checked_sub(1) {
            None => {}
            // The last frame of the first series is with compute, which is held there.
            Some(before) if before == held => taken(numbers[before]),
            Some(before) if before == *burst.end() => {
                open.send(()).unwrap();
                taken(FIRST);
                open.send(()).unwrap();
            }
            Some(before) if burst.contains(&before) => {}
            Some(before) => {
                taken(numbers[before]);
                open.send(()).unwrap();
            }
        }
        numbers.get(call).map_or(Step::End, |number| Step::Frame(*number))
    })
}

fn corridor(small: &Small, new_series: NewSeries, overload: Overload, handles: &Handles) -> (Corridor, Keeper) {
    let keeper = Keeper::default();
    let decoder = small.decoder();
    let settings = support::settings(&decoder, overload, 1, Wait::Park);
    // No time to catch up: what is not the newest is skipped.
    let settings = corridor::Settings { deadline: Duration::ZERO, ..settings };
    let sinks = vec![Box::new(keeper.clone()) as _];
    let corridor = support::corridor(decoder, support::recording(0), sinks, handles);
    (Corridor { settings: corridor::Settings { new_series, ..settings }, ..corridor }, keeper)
}

/// Runs the two series live, recorded into `folder`.
fn live(small: &Small, new_series: NewSeries, folder: &Path) -> (Kept, PathBuf) {
    let mut handles = Handles::default();
    let recording = Recording::begin(small, folder, &mut handles);
    let (corridor, keeper) = corridor(small, new_series, Overload::SkipToLatest, &handles);
    let (corridor, was_taken, open) = support::gated(corridor);
    let source = Box::new(source(was_taken, open));
    corridor::run(Corridor { source, ..corridor }, || {}).unwrap();
    (kept(keeper), recording.end())
}

fn kept(keeper: Keeper) -> Kept {
    Arc::into_inner(keeper.0).unwrap().into_inner().unwrap()
}

fn replayed(small: &Small, new_series: NewSeries, source: Box<dyn Source>) -> Kept {
    let (corridor, keeper) = corridor(small, new_series, Overload::Wait, &Handles::default());
    corridor::run(Corridor { source, ..corridor }, || {}).unwrap();
    kept(keeper)
}

/// Bits of the decodes of the second series.
fn second(kept: &Kept) -> Vec<(u64, Vec<u32>, String)> {
    kept.bits().split_off(LAST as usize + 1)
}

#[test]
fn the_first_frame_decoded_of_a_series_resets_live_and_in_the_replay() {
    let small = Small::new();
    let folder = tempfile::tempdir().unwrap();
    let (live, session) = live(&small, NewSeries::Reset, folder.path());
    let expected: Vec<u64> = (0..=LAST).chain(FIRST..=END).collect();
    assert_eq!(live.numbers(), expected);
    let first = &live.decodes[LAST as usize + 1];
    assert!(first.frame.series_began && first.skipped == FIRST, "{first:?}");
    assert!(live.decodes[LAST as usize].quality != Quality::Warmup && first.quality == Quality::Warmup);
    let resets = live.events.iter().filter(|event| matches!(event, Event::Request { what: "reset" })).count();
    assert_eq!(resets, 2, "one for each series");
    // Nothing is left of the first series.
    let alone = Scripted::new(|n| if n + FIRST <= END { Step::Frame(n + FIRST) } else { Step::End });
    let alone = replayed(&small, NewSeries::Reset, Box::new(alone));
    assert!(second(&live) == alone.bits());
    for new_series in [NewSeries::Reset, NewSeries::Keep] {
        let again = replayed(&small, new_series, Box::new(McapSource::open(&session, None).unwrap()));
        assert!(again.bits() == live.bits(), "what was carried out is in the file, whatever a series means now");
        assert_eq!(again.decodes[LAST as usize + 1].frame, first_as_replayed(&first.frame, &again));
    }
}

/// Only the receipt is that of the replay.
fn first_as_replayed(first: &haltere::frame::FrameInfo, again: &Kept) -> haltere::frame::FrameInfo {
    let t_received_ns = again.decodes[LAST as usize + 1].frame.t_received_ns;
    haltere::frame::FrameInfo { t_received_ns, t_live_ns: Some(first.t_received_ns), ..*first }
}

#[test]
fn a_series_that_is_kept_begins_a_new_window_and_nothing_is_reset() {
    let small = Small::new();
    let folder = tempfile::tempdir().unwrap();
    let (live, session) = live(&small, NewSeries::Keep, folder.path());
    let began: Vec<usize> =
        live.decodes.iter().enumerate().filter(|(_, decode)| decode.frame.series_began).map(|(at, _)| at).collect();
    assert_eq!(began, [0, LAST as usize + 1]);
    // The window of four frames is filled anew; the template is still there.
    let second = &live.decodes[LAST as usize + 1..];
    let why: Vec<_> =
        second.iter().map(|decode| (decode.quality == Quality::Warmup).then_some(decode.restart)).collect();
    assert_eq!(
        why[..4],
        [Some(Some(Restart::NewSeries)), Some(Some(Restart::NewSeries)), Some(Some(Restart::NewSeries)), None]
    );
    assert!(second.iter().all(|decode| decode.observation.shift_px.is_some() && !decode.observation.warming_up));
    assert!(live.events.contains(&Event::WindowRestarted { frame: FIRST, reason: Restart::NewSeries }));
    let again = replayed(&small, NewSeries::Keep, Box::new(McapSource::open(&session, None).unwrap()));
    assert!(again.bits() == live.bits());
}
