//! Invariant 4: stop is end-of-stream.
//!
//! Method: each stage fails in turn, in a corridor whose source would go on for ever; that `run` returns at all is half of
//! what is shown. The cause must be the first failure, every sink must be told the end once, and before an orderly end
//! nothing that was accepted may be lost.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::sync::atomic::Ordering::Relaxed;

use haltere::corridor;
use haltere::corridor::{Corridor, Failure, Handles};
use haltere::frame::event::{Event, Reason};
use haltere::frame::{Decode, Frame, Geometry};
use haltere::preprocess::{Prepared, Preprocess, PreprocessError, Request};
use haltere::publish::{Sink, SinkError};
use haltere::source::Source;
use support::{Keeper, Scripted, Small, Step};

fn endless() -> Box<dyn Source> {
    Box::new(Scripted::new(Step::Frame))
}

/// A preprocessing that panics at a frame.
struct Panicking(Box<dyn Preprocess>, u64);

impl Preprocess for Panicking {
    fn request(&mut self, request: Request) {
        self.0.request(request);
    }

    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
        assert!(frame.info.number < self.1, "on purpose, at frame {}", frame.info.number);
        self.0.apply(frame)
    }

    fn geometry(&self) -> Option<Geometry> {
        self.0.geometry()
    }

    fn device(&self) -> &str {
        self.0.device()
    }
}

fn panicking(corridor: Corridor, frame: u64) -> Corridor {
    let decoder = corridor.decoder.with_preprocessing(|inner| Box::new(Panicking(inner, frame)));
    Corridor { decoder, ..corridor }
}

/// A sink that fails at its `n`-th decode, or at the end.
struct Failing {
    decodes_left: u64,
    at_the_end: bool,
}

fn broken() -> SinkError {
    SinkError { sink: "test".into(), cause: "the disk is full".into() }
}

impl Sink for Failing {
    fn publish(&mut self, _decode: &Decode) -> Result<(), SinkError> {
        self.decodes_left = self.decodes_left.checked_sub(1).ok_or_else(broken)?;
        Ok(())
    }

    fn finish(&mut self, _fault: Option<&'static str>) -> Result<(), SinkError> {
        if self.at_the_end { Err(broken()) } else { Ok(()) }
    }
}

struct Ended {
    result: Result<(), Failure>,
    keeper: Keeper,
    handles: Handles,
}

/// Runs a corridor that ends in `sinks` and a keeper behind them.
fn run(source: Box<dyn Source>, mut sinks: Vec<Box<dyn Sink>>, change: impl FnOnce(Corridor) -> Corridor) -> Ended {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    sinks.push(Box::new(keeper.clone()));
    let corridor = change(support::corridor(Small::new().decoder(), source, sinks, &handles));
    Ended { result: corridor::run(corridor, || {}), keeper, handles }
}

impl Ended {
    /// The keeper was told this end, once, by `finish` (which says it in its own words), and the log as its last event.
    fn assert_told(&self, fault: Option<&'static str>) {
        let kept = self.keeper.0.lock().unwrap();
        assert_eq!(kept.finished, [fault]);
        let last = fault.map_or(Event::Shutdown, |stage| Event::Fault { stage });
        let logged: Vec<Event> = std::iter::from_fn(|| self.handles.log.pop()).collect();
        assert_eq!(logged.last(), Some(&last));
        assert!(!kept.events.contains(&last), "said twice");
    }

    fn decoded(&self) -> Vec<u64> {
        self.keeper.0.lock().unwrap().numbers()
    }
}

#[test]
fn a_source_that_ends_ends_the_corridor_in_order_and_nothing_is_lost() {
    let ended = run(support::recording(70), Vec::new(), |corridor| corridor);
    ended.result.as_ref().unwrap();
    assert_eq!(ended.decoded(), (0..70).collect::<Vec<_>>());
    ended.assert_told(None);
}

#[test]
fn a_source_that_fails_is_the_cause_and_what_it_gave_before_is_decoded() {
    let source = Scripted::new(|n| if n < 20 { Step::Frame(n) } else { Step::Fail });
    let ended = run(Box::new(source), Vec::new(), |corridor| corridor);
    assert!(matches!(&ended.result, Err(Failure::Source(cause)) if cause.to_string().contains("the cable was pulled")));
    assert_eq!(ended.decoded(), (0..20).collect::<Vec<_>>());
    ended.assert_told(Some("ingest"));
}

#[test]
fn a_panic_in_compute_is_a_defect_with_its_words_and_ends_the_corridor() {
    let ended = run(endless(), Vec::new(), |corridor| panicking(corridor, 10));
    let Err(Failure::Defect { stage: "compute", message }) = &ended.result else { panic!("{:?}", ended.result) };
    assert!(message.contains("on purpose, at frame 10"), "{message}");
    assert_eq!(ended.decoded(), (0..10).collect::<Vec<_>>());
    ended.assert_told(Some("compute"));
}

#[test]
fn a_panic_in_the_source_is_a_defect_of_the_ingest_stage() {
    let source = Scripted::new(|n| {
        assert!(n < 5, "on purpose");
        Step::Frame(n)
    });
    let ended = run(Box::new(source), Vec::new(), |corridor| corridor);
    assert!(matches!(&ended.result, Err(Failure::Defect { stage: "ingest", .. })));
    ended.assert_told(Some("ingest"));
}

#[test]
fn a_sink_that_fails_is_the_cause_and_the_other_sinks_are_told() {
    let sink = Failing { decodes_left: 5, at_the_end: false };
    let ended = run(endless(), vec![Box::new(sink)], |corridor| corridor);
    assert!(matches!(&ended.result, Err(Failure::Sink(cause)) if cause.to_string().contains("the disk is full")));
    assert_eq!(ended.decoded(), (0..5).collect::<Vec<_>>());
    ended.assert_told(Some("publish"));
}

#[test]
fn a_sink_that_cannot_finish_is_a_failure_and_the_others_still_finish() {
    let sink = || Box::new(Failing { decodes_left: u64::MAX, at_the_end: true }) as Box<dyn Sink>;
    let ended = run(support::recording(3), vec![sink(), sink()], |corridor| corridor);
    assert!(matches!(ended.result, Err(Failure::Sink(_))));
    ended.assert_told(None);
}

#[test]
fn of_two_failures_the_first_is_named() {
    let sink = || Box::new(Failing { decodes_left: u64::MAX, at_the_end: true }) as Box<dyn Sink>;
    let ended = run(endless(), vec![sink()], |corridor| panicking(corridor, 10));
    assert!(matches!(ended.result, Err(Failure::Defect { stage: "compute", .. })), "{:?}", ended.result);
    ended.assert_told(Some("compute"));
    let source = Scripted::new(|n| if n < 20 { Step::Frame(n) } else { Step::Fail });
    let ended = run(Box::new(source), vec![sink()], |corridor| corridor);
    assert!(matches!(ended.result, Err(Failure::Source(_))), "{:?}", ended.result);
}

#[test]
fn the_stop_flag_ends_in_order_and_everything_accepted_is_decoded() {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let sinks = vec![Box::new(keeper.clone()) as _];
    let corridor = support::corridor(Small::new().decoder(), endless(), sinks, &handles);
    corridor::run(corridor, || {
        if handles.stats.compute.encoded.load(Relaxed) >= 30 {
            handles.stop.store(true, Relaxed);
        }
    })
    .unwrap();
    let accepted = handles.stats.intake.accepted.load(Relaxed);
    let ended = Ended { result: Ok(()), keeper, handles };
    assert_eq!(ended.decoded(), (0..accepted).collect::<Vec<_>>());
    ended.assert_told(None);
}

#[test]
fn a_silent_source_does_not_keep_the_corridor_from_stopping() {
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let sinks = vec![Box::new(keeper.clone()) as _];
    let source = Box::new(Scripted::new(|_| Step::Idle));
    let corridor = support::corridor(Small::new().decoder(), source, sinks, &handles);
    corridor::run(corridor, || handles.stop.store(true, Relaxed)).unwrap();
    Ended { result: Ok(()), keeper, handles }.assert_told(None);
}

#[test]
fn a_frame_that_cannot_be_processed_is_a_counter_and_an_event_and_the_stream_goes_on() {
    let source = Scripted::new(|n| match n {
        50 => Step::End,
        n if n % 10 == 5 => Step::Cropped(n),
        n => Step::Frame(n),
    });
    let ended = run(Box::new(source), Vec::new(), |corridor| corridor);
    ended.result.as_ref().unwrap();
    assert_eq!(ended.decoded(), (0..50).filter(|n| n % 10 != 5).collect::<Vec<_>>());
    let stats = &ended.handles.stats;
    assert_eq!(stats.intake.accepted.load(Relaxed), 50);
    assert_eq!(stats.rejected()[Reason::Geometry as usize], 5);
    let first = |event: &Event| {
        let Event::Rejected { reason: Reason::Geometry, count: 1, message } = event else { return false };
        ["1×56×64 uint16", "1×64×64 uint16"].iter().all(|geometry| message.as_str().contains(geometry))
    };
    assert!(ended.keeper.0.lock().unwrap().events.iter().any(first));
    ended.assert_told(None);
}
