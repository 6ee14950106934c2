//! Drift through the daemon's own corridor: told once, at the same frame at every pace, and forgotten with the animal.
//!
//! Method: a model that finds every embedding as strange as can be (all thresholds are 0). The arithmetic of the mean itself is
//! tested beside it; here is what the corridor does with it.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use haltere::config::{Overload, Wait};
use haltere::corridor;
use haltere::corridor::{Corridor, Handles};
use haltere::frame::Quality;
use haltere::frame::event::Event;
use haltere::preprocess::Request;
use support::{GIVE_UP_S, Keeper, Kept, Scripted, Small, Step};

fn run(small: &Small, frames: u64, depth_frames: usize, wait: Wait) -> (Kept, Handles) {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let decoder = small.decoder();
    let settings = support::settings(&decoder, Overload::Wait, depth_frames, wait);
    let sinks = vec![Box::new(keeper.clone()) as _];
    let corridor = Corridor { settings, ..support::corridor(decoder, support::recording(frames), sinks, &handles) };
    corridor::run(corridor, || {}).unwrap();
    (Arc::into_inner(keeper.0).unwrap().into_inner().unwrap(), handles)
}

fn drifts(kept: &Kept) -> Vec<Event> {
    let of_drift = |event: &&Event| matches!(event, Event::Drift { .. } | Event::DriftBack { .. });
    kept.events.iter().filter(of_drift).copied().collect()
}

#[test]
fn drift_is_told_once_at_the_frame_that_counting_says_at_every_pace() {
    let small = Small::strange();
    let (kept, handles) = run(&small, 150, 4, Wait::Park);
    assert!(kept.decodes.iter().all(|d| d.embedding.novelty == Some(1.0)));
    let good: Vec<u64> = kept.decodes.iter().filter(|d| d.quality == Quality::Ok).map(|d| d.frame.number).collect();
    // 1 − 0.5·exp(−n/30) > 0.8 from n = 30·ln(2.5) = 27.5 on: the 28th decode of quality `ok`.
    let [Event::Drift { frame, novelty_mean, limit }] = drifts(&kept)[..] else { panic!("{:?}", drifts(&kept)) };
    assert_eq!((frame, limit), (good[27], 0.8));
    assert!(novelty_mean > 0.8 && novelty_mean < 0.81, "{novelty_mean}");
    assert!(handles.stats.compute.novelty_mean.get().unwrap() > 0.95);
    for (depth, wait) in [(1, Wait::Yield), (8, Wait::Spin), (2, Wait::Anticipate)] {
        assert_eq!(drifts(&run(&small, 150, depth, wait).0), drifts(&kept), "depth {depth}, {wait:?}");
    }
}

#[test]
fn a_model_that_tells_no_novelty_tells_no_drift() {
    let (kept, handles) = run(&Small::new(), 100, 4, Wait::Park);
    assert!(kept.decodes.iter().all(|d| d.embedding.novelty.is_none()) && drifts(&kept).is_empty());
    assert_eq!(handles.stats.compute.novelty_mean.get(), None);
}

#[test]
fn a_new_animal_is_judged_anew() {
    let small = Small::strange();
    let handles = Handles::default();
    let (requests, stats) = (handles.requests.clone(), handles.stats.clone());
    let until = Instant::now() + Duration::from_secs(GIVE_UP_S);
    let mut next = 0;
    let source = Scripted::new(move |_| {
        if next == 100 && stats.compute.encoded.load(Relaxed) < 100 {
            assert!(Instant::now() < until, "100 frames are never decoded");
            return Step::Idle;
        }
        if next == 100 {
            requests.push(Request::Reset).unwrap();
        }
        next += 1;
        if next <= 200 { Step::Frame(next - 1) } else { Step::End }
    });
    let keeper = Keeper::default();
    let corridor = support::corridor(small.decoder(), Box::new(source), vec![Box::new(keeper.clone())], &handles);
    corridor::run(corridor, || {}).unwrap();
    let kept = keeper.0.lock().unwrap();
    let told: Vec<u64> = drifts(&kept)
        .iter()
        .filter_map(|e| if let Event::Drift { frame, .. } = e { Some(*frame) } else { None })
        .collect();
    assert!(matches!(told[..], [first, second] if first < 100 && second >= 128), "{told:?}");
    assert_eq!(drifts(&kept).len(), 2, "forgetting is no recovery");
}
