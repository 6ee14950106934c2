//! Light goes into the animal: the decodes of a simulated fly, disturbed as an experiment disturbs them, against those of the same fly left
//! alone. A small form of `benches/light.py`.
//!
//! Method: the shipped model and forty seconds of frames go through the daemon's own corridor, once as they are and once for each
//! disturbance. While it lasts nothing may be `ok`, an event must tell its beginning and its end. From two seconds after it the decodes
//! must be, bit for bit, those of a run in which its frames never came: nothing was learnt from them. And the actions must be those of the
//! undisturbed run, as far as that many frames that were not learnt from allow.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::support::corridor as support;

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use haltere::config::Config;
use haltere::corridor;
use haltere::corridor::Handles;
use haltere::decoder::Decoder;
use haltere::frame::event::Event;
use haltere::frame::{Decode, Distrust, Frame, Quality, Relearn, Shown};
use haltere::simulate::SimulatedSource;
use haltere::source::{Next, Source, SourceError};
use support::{Keeper, Kept};

const RATE: usize = 16;
const FRAMES: usize = 40 * RATE;
/// The disturbances begin here: the decodes have been `ok` for two seconds.
const BEGINS: usize = 20 * RATE;

/// Numbers and counts of every frame of the fly.
fn fly() -> &'static [Vec<u16>] {
    static FLY: OnceLock<Vec<Vec<u16>>> = OnceLock::new();
    FLY.get_or_init(|| {
        let spec = format!("sim:seed=7,animal=9,trial=1,seconds={}", FRAMES / RATE);
        let mut source = SimulatedSource::new(&spec.parse().unwrap(), "sim".parse().unwrap());
        let mut frame = Frame::with_capacity(source.frame_bytes_max());
        let mut frames = Vec::new();
        while source.next(&mut frame).unwrap() == Next::Frame {
            frames.push(bytemuck::cast_slice(frame.bytes()).to_vec());
        }
        frames
    })
}

/// The fly, whose counts something happens to, or whose frames do not all come.
struct Disturbed<F> {
    fly: SimulatedSource,
    lost: Range<usize>,
    disturb: F,
}

impl<F: FnMut(usize, &mut [u16]) + Send> Source for Disturbed<F> {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        loop {
            let next = self.fly.next(into)?;
            let number = into.info.number as usize;
            if next == Next::Frame && self.lost.contains(&number) {
                continue;
            }
            if next == Next::Frame {
                (self.disturb)(number, bytemuck::cast_slice_mut(into.bytes_mut()));
            }
            return Ok(next);
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.fly.frame_bytes_max()
    }
}

fn run(seconds: usize, disturb: impl FnMut(usize, &mut [u16]) + Send + 'static) -> Kept {
    run_without(0..0, seconds, disturb)
}

fn run_without(lost: Range<usize>, seconds: usize, disturb: impl FnMut(usize, &mut [u16]) + Send + 'static) -> Kept {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml");
    let decoder = Decoder::open(&Config { model, ..Config::default() }).unwrap();
    let spec = format!("sim:seed=7,animal=9,trial=1,seconds={seconds}");
    let fly = SimulatedSource::new(&spec.parse().unwrap(), "sim".parse().unwrap());
    let (keeper, handles) = (Keeper::default(), Handles::default());
    let source = Box::new(Disturbed { fly, lost, disturb });
    corridor::run(support::corridor(decoder, source, vec![Box::new(keeper.clone())], &handles), || {}).unwrap();
    std::sync::Arc::into_inner(keeper.0).unwrap().into_inner().unwrap()
}

/// The events about frames that are not believed.
fn told(kept: &Kept) -> Vec<Event> {
    let about = |event: &&Event| {
        matches!(event, Event::FramesDistrusted { .. } | Event::FramesTrusted { .. } | Event::Relearning { .. })
    };
    kept.events.iter().filter(about).copied().collect()
}

/// Dark counts with noise, the same for the same frame.
fn darken(number: usize, counts: &mut [u16]) {
    let mut state = number as u64 + 1;
    for count in counts {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *count = 1285 + ((state >> 33) % 31) as u16;
    }
}

type Disturb = fn(usize, &mut [u16]);

#[test]
fn no_frame_of_a_fly_that_is_left_alone_is_doubted_and_after_a_disturbance_its_decodes_are_as_if_there_had_been_none() {
    assert_eq!(fly().len(), FRAMES);
    let alone = run(FRAMES / RATE, |_, _| ());
    assert_eq!(told(&alone), []);
    assert!(alone.decodes[BEGINS].quality == Quality::Ok);
    let cases: [(&str, Range<usize>, Distrust, Disturb); 5] = [
        ("one saturated frame", BEGINS..BEGINS + 1, Distrust::Saturated, |_, counts| counts.fill(u16::MAX)),
        ("three dark frames", BEGINS..BEGINS + 3, Distrust::Dark, darken),
        ("two seconds of shutter", BEGINS..BEGINS + 2 * RATE, Distrust::Dark, darken),
        ("300 counts for two seconds", BEGINS..BEGINS + 2 * RATE, Distrust::Flash, |_, counts| {
            counts.iter_mut().for_each(|count| *count += 300);
        }),
        ("lit lines", BEGINS..BEGINS + 8, Distrust::Banded, |_, counts| {
            counts.chunks_mut(4096).for_each(|plane| plane[1024..2048].iter_mut().for_each(|count| *count += 2000));
        }),
    ];
    for (name, when, reason, disturb) in cases {
        let lit = when.clone();
        let kept = run(FRAMES / RATE, move |number, counts| {
            if lit.contains(&number) {
                disturb(number, counts);
            }
        });
        assert_while(name, &kept, &when, reason);
        let after = when.end + 2 * RATE;
        let pairs = || kept.decodes.iter().zip(&alone.decodes).skip(after);
        let (compared, good) = (pairs().count(), pairs().filter(|(a, _)| a.quality == Quality::Ok).count());
        let equal = pairs().filter(|(a, b)| a.action == b.action).count();
        // Two seconds without learning are a tenth of all that the statistics had seen so far: they move the embeddings by half a
        // percent of their usual distance, which names some frames between two actions otherwise.
        let share = if when.len() <= RATE { 0.97 } else { 0.93 };
        assert!(compared > 4 * RATE && equal as f64 >= share * compared as f64, "{name}: {equal} of {compared}");
        assert_eq!(good, compared, "{name}");
        let without = run_without(when.clone(), FRAMES / RATE, |_, _| ());
        let same = |a: &&Decode| {
            without.decodes.iter().any(|b| b.frame.number == a.frame.number && b.embedding == a.embedding)
        };
        assert!(kept.decodes[after..].iter().all(|decode| same(&decode)), "{name}: something was learnt");
    }
}

/// While a disturbance lasts.
fn assert_while(name: &str, kept: &Kept, when: &Range<usize>, reason: Distrust) {
    assert_eq!(kept.decodes.len(), FRAMES, "{name}: every frame has a decode");
    let (first, last) = (when.start as u64, when.end as u64);
    let expected = [
        Event::FramesDistrusted { reason, frame: first },
        Event::FramesTrusted { reason, frame: last, count: last - first },
    ];
    assert_eq!(told(kept), expected, "{name}");
    let before = &kept.decodes[when.start - 1];
    for (index, decode) in kept.decodes[when.clone()].iter().enumerate() {
        assert_eq!(decode.quality, Quality::Degraded, "{name}, frame {index}");
        assert_eq!(decode.embedding, before.embedding, "{name}: the last believed decode is held");
        assert_eq!(decode.action, before.action, "{name}");
        let Shown::Held { age_ns } = decode.shown else { panic!("{name}: {:?}", decode.shown) };
        let expected_ns = (index as u64 + 1) * 1_000_000_000 / RATE as u64;
        assert!(age_ns.abs_diff(expected_ns) < 1000, "{name}: {age_ns}");
    }
}

#[test]
fn darkness_at_the_start_is_no_template_and_the_light_after_it_makes_a_normal_one() {
    const DARK: usize = 150;
    let kept = run(40, |number, counts| {
        if number < DARK {
            darken(number, counts);
        }
    });
    let (dark, light) = kept.decodes.split_at(DARK);
    let doubted = |decode: &Decode| decode.observation.distrust == Some(Distrust::Blank);
    assert!(dark.iter().all(|decode| decode.quality == Quality::Warmup && doubted(decode)));
    let reason = Distrust::Blank;
    let expected = [
        Event::FramesDistrusted { reason, frame: 0 },
        Event::FramesTrusted { reason, frame: DARK as u64, count: DARK as u64 },
    ];
    assert_eq!(told(&kept), expected);
    assert!(told(&kept).iter().all(|e| !matches!(e, Event::Relearning { what: Relearn::Everything, .. })));
    let good: Vec<&Decode> = light.iter().filter(|decode| decode.quality == Quality::Ok).collect();
    assert!(good.len() > 5 * RATE, "{} decodes are ok", good.len());
    assert!(good.iter().all(|decode| decode.observation.shift_peak > 0.8), "the template shows the tissue");
}
