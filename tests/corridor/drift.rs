//! Drift through the daemon's own corridor, of the embeddings and of the focus: told once, at the same frame at every pace, and forgotten
//! with the animal.
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
use haltere::frame::event::Event;
use haltere::frame::{Frame, Quality};
use haltere::model::Manifest;
use haltere::preprocess::Request;
use haltere::source::{Next, Source, SourceError};
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

/// A microscope whose picture fades into noise, as tissue does that leaves the focus: from `from` on, over `over` frames, and back at `back`.
struct Fading {
    inner: Box<dyn Source>,
    from: u64,
    over: u64,
    back: u64,
}

impl Source for Fading {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let next = self.inner.next(into)?;
        if next == Next::Frame {
            let number = into.info.number;
            let faded = (number.saturating_sub(self.from) as f64 / self.over as f64).min(1.0);
            let kept = if number < self.back { 1.0 - 0.9 * faded } else { 1.0 };
            let counts: &mut [u16] = bytemuck::cast_slice_mut(into.bytes_mut());
            let mean = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / counts.len() as f64;
            for (at, count) in counts.iter_mut().enumerate() {
                let mut noise = (at as u64 ^ (number << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                noise = (noise ^ (noise >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                *count = (mean + kept * (f64::from(*count) - mean) + (noise >> 56) as f64) as u16;
            }
        }
        Ok(next)
    }

    fn frame_bytes_max(&self) -> usize {
        self.inner.frame_bytes_max()
    }
}

#[test]
fn a_picture_that_leaves_the_focus_is_told_after_a_minute_and_when_it_is_back_and_changes_nothing() {
    let small = Small::new();
    // So that a minute is 180 frames.
    let mut manifest = Manifest::read(&small.manifest).unwrap();
    manifest.frame_rate_hz = 3.0;
    manifest.save(&small.manifest).unwrap();
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let source = Box::new(Fading { inner: support::recording(460), from: 80, over: 60, back: 380 });
    let corridor = support::corridor(small.decoder(), source, vec![Box::new(keeper.clone())], &handles);
    corridor::run(corridor, || {}).unwrap();
    let kept = Arc::into_inner(keeper.0).unwrap().into_inner().unwrap();
    let of_focus = |event: &&Event| matches!(event, Event::FocusDrift { .. } | Event::FocusBack { .. });
    let told: Vec<Event> = kept.events.iter().filter(of_focus).copied().collect();
    let [Event::FocusDrift { frame, shift_peak, start }, Event::FocusBack { frame: back, .. }] = told[..] else {
        panic!("{told:?}")
    };
    assert!((80 + 180..380).contains(&frame) && shift_peak < 0.8 * start, "{told:?}");
    assert!((380..460).contains(&back), "{told:?}");
    let sinking = kept.decodes.iter().filter(|decode| decode.frame.number < 380);
    assert!(sinking.into_iter().all(|decode| decode.observation.distrust.is_none()), "no frame is doubted for it");
    assert!(handles.stats.compute.focus.get().unwrap() > 0.9);
}
