//! Counters and latency histograms: written by one thread each, read by any thread at any time.
//!
//! Why it exists: an instrument says what it did with every frame it was given. What it must never do: lock, allocate
//! after it is made, or make a stage wait.

use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};

use crossbeam::utils::CachePadded;

use super::sockets::Connections;
use crate::frame::event::Reason;
use crate::frame::placement::Placement;
use crate::frame::{Clock, Distrust, FIRST_GENERATION, Name, RULES_MAX, SenderClock};

/// Everything that is counted. Relaxed atomics: each is a number of its own, none guards other memory, but for `trial_ended`.
#[derive(Debug, Default)]
pub struct Stats {
    /// Written by the ingest thread.
    pub intake: CachePadded<Intake>,
    /// Written by the compute thread.
    pub compute: CachePadded<Compute>,
    /// Written by the publish thread.
    pub publish: CachePadded<Publish>,
    /// Written by the recorder, and by whoever finds it behind.
    pub record: CachePadded<Record>,
    /// Rules: written by the compute thread and the publish thread, each its own part.
    pub decisions: Decisions,
    /// Written by the inlet's thread.
    pub inlet: CachePadded<Inlet>,
    /// Written by the thread that makes pulses.
    pub ttl: CachePadded<Ttl>,
    /// Written by the guards of the bound sockets.
    pub connections: Arc<Connections>,
}

impl Stats {
    /// Frames that are not believed, by reason, in the order of [`Distrust::ALL`].
    pub fn distrusted(&self) -> [u64; Distrust::ALL.len()] {
        std::array::from_fn(|reason| self.compute.distrusted[reason].load(Relaxed))
    }

    /// Refused messages and frames by reason, in the order of [`Reason::ALL`]: by the source and by preprocessing.
    pub fn rejected(&self) -> [u64; Reason::ALL.len()] {
        std::array::from_fn(|reason| {
            self.intake.rejected[reason].load(Relaxed) + self.compute.rejected[reason].load(Relaxed)
        })
    }

    /// Has something come, and was all of it refused?
    pub fn refuses_everything(&self) -> bool {
        self.compute.preprocessed.load(Relaxed) == 0 && self.rejected().iter().any(|&count| count > 0)
    }

    /// Generation of the model that decodes now.
    pub fn generation(&self) -> u64 {
        self.compute.generation.load(Relaxed).max(FIRST_GENERATION)
    }

    /// How the trial of the model of this generation ended: `Some(true)` when it took over; `None` while it goes on.
    pub fn trial_of(&self, generation: u64) -> Option<bool> {
        // Pairs with the Release in `end_trial`: who sees the trial ended sees the model that decodes since.
        let ended = self.compute.trial_ended.load(Acquire) >= generation;
        ended.then(|| self.generation() == generation)
    }

    /// The trial of a model has ended, and the model of generation `decoding` decodes. Compute thread only.
    pub fn end_trial(&self, generation: u64, decoding: u64) {
        self.compute.generation.store(decoding, Relaxed);
        self.compute.trial_ended.store(generation, Release);
    }
}

/// Counters of the ingest thread.
#[derive(Debug, Default)]
pub struct Intake {
    /// Messages or frames that came.
    pub received: AtomicU64,
    /// Frames handed to the lane.
    pub accepted: AtomicU64,
    /// Refused, by reason, in the order of [`Reason::ALL`].
    pub rejected: [AtomicU64; Reason::ALL.len()],
    /// Frames taken without an optional key of their header that could not be read.
    pub ignored_keys: AtomicU64,
    /// Jumps in the sender's numbers.
    pub gaps: AtomicU64,
    /// Frames missing in all jumps together.
    pub missing: AtomicU64,
    /// Frames evicted from a full lane (`skip-to-latest`).
    pub evicted: AtomicU64,
    /// How the sender's clock lies to ours.
    pub sender_clock: ClockGauge,
}

/// Counters and times of the compute thread.
#[derive(Debug, Default)]
pub struct Compute {
    /// Turns of the decode loop, with or without a frame: while they rise, it does not hang.
    pub turns: AtomicU64,
    /// Frames that arrived and were not decoded because a newer one was there (`skip-to-latest`), evicted ones included.
    pub skipped: AtomicU64,
    /// Frames decoded without being published, because newer ones had already arrived (`skip-to-latest`).
    pub caught_up: AtomicU64,
    /// Frames preprocessed.
    pub preprocessed: AtomicU64,
    /// Frames encoded.
    pub encoded: AtomicU64,
    /// Decodes after the warm-up.
    pub warm: AtomicU64,
    /// Frames that preprocessing refused, by reason, in the order of [`Reason::ALL`].
    pub rejected: [AtomicU64; Reason::ALL.len()],
    /// Frames whose embedding was NaN or infinite: never published.
    pub non_finite_embeddings: AtomicU64,
    /// Frames that are not believed, by reason, in the order of [`Distrust::ALL`].
    pub distrusted: [AtomicU64; Distrust::ALL.len()],
    /// Frames left of the warm-up, as far as is known; 0 outside a warm-up.
    pub warmup_frames_left: AtomicU64,
    /// Decodes that found the lane to the publisher full.
    pub decodes_dropped: AtomicU64,
    /// NaN or infinite pixels since start.
    pub non_finite_pixels: AtomicU64,
    /// Saturated pixels since start.
    pub saturated_pixels: AtomicU64,
    /// Correlation peak as a share of that at the start.
    pub focus: Gauge,
    /// Running mean of the novelty.
    pub novelty_mean: Gauge,
    /// Generation of the model that decodes; 0 until the thread has started.
    pub generation: AtomicU64,
    /// Generation of the newest model whose trial has ended, in whichever way; 0 before the first.
    pub trial_ended: AtomicU64,
    /// How the animal lies on the model's atlas.
    pub placement: PlacementGauge,
    /// Time in the lane, ns.
    pub queue: Histogram,
    /// Time in preprocessing, ns.
    pub preprocess: Histogram,
    /// Time in the encoder, ns.
    pub encode: Histogram,
}

/// Counters and times of the publish thread.
#[derive(Debug, Default)]
pub struct Publish {
    /// Decodes published.
    pub published: AtomicU64,
    /// Times the fail-safe spoke.
    pub stale: AtomicU64,
    /// Decodes that a relay's outlet did not take.
    pub relay_lost: AtomicU64,
    /// From receipt of the frame to the hand-over of the decode to the socket, ns.
    pub total: Histogram,
    /// Age of the frame when its decode was published, where it was known at receipt, ns.
    pub age: Histogram,
}

/// Pulses on lines.
#[derive(Debug, Default)]
pub struct Ttl {
    /// Are there lines?
    pub open: AtomicBool,
    /// Edges made.
    pub edges: AtomicU64,
    /// Pulses that were left out because their time had passed.
    pub missed: AtomicU64,
    /// From when an edge was due to when it was made, ns.
    pub late: Histogram,
}

/// How the rules stand, and what came of their decisions.
#[derive(Debug, Default)]
pub struct Decisions {
    /// In the order of the configuration; set once, before frames flow.
    names: OnceLock<Vec<Name>>,
    /// Written by the compute thread.
    pub rules: CachePadded<[RuleCounters; RULES_MAX]>,
    /// Written by the publish thread.
    pub published: CachePadded<[OutputCounters; RULES_MAX]>,
}

impl Decisions {
    /// Names the rules, once.
    pub fn name(&self, names: impl Iterator<Item = Name>) {
        // A second run with the same counters has the same rules.
        let _ = self.names.set(names.collect());
    }

    /// Their names.
    pub fn names(&self) -> &[Name] {
        self.names.get().map_or(&[], Vec::as_slice)
    }
}

/// A rule as the compute thread sees it.
#[derive(Debug, Default)]
pub struct RuleCounters {
    /// Does it look at decodes?
    pub on: AtomicBool,
    /// Does it give outputs?
    pub armed: AtomicBool,
    /// Decisions.
    pub decisions: AtomicU64,
    /// Of these, with an output.
    pub outputs: AtomicU64,
    /// Of these, withheld by lot.
    pub shams: AtomicU64,
    /// What is left of the dose of a minute, ms; without a limit not known.
    pub minute_left_ms: Gauge,
    /// What is left of the dose of the session, ms.
    pub session_left_ms: Gauge,
}

/// What the publisher did against a decision.
#[derive(Debug, Default)]
pub struct OutputCounters {
    /// Outputs that were decided and not published as such: the decode was stale, or the rule had been switched.
    pub overruled: AtomicU64,
    /// Outputs that were ended before their time.
    pub ended: AtomicU64,
}

/// Counters of the inlet.
#[derive(Debug, Default)]
pub struct Inlet {
    /// Is there one?
    pub open: AtomicBool,
    /// Messages that came.
    pub received: AtomicU64,
    /// Of these, such as were no marks.
    pub refused: AtomicU64,
    /// Marks that were not recorded although a file was open: the queue was full.
    pub lost: AtomicU64,
    /// Marks without an event, because they came too fast.
    pub untold: AtomicU64,
}

/// Counters of the recorder. Each has one writer: the thread that its text names.
#[derive(Debug, Default)]
pub struct Record {
    /// 1 while a file is open (recorder).
    pub recording: AtomicU64,
    /// Frames written since start (recorder).
    pub frames: AtomicU64,
    /// Bytes of the present file's messages (recorder).
    pub bytes: AtomicU64,
    /// Frames that were decoded and not recorded, because the queue was full: the disk is too slow (compute).
    pub frames_lost_queue: AtomicU64,
    /// Frames that were handed over and not recorded, because the disk refused, or the file had just been ended (recorder).
    pub frames_lost_disk: AtomicU64,
    /// Decodes, events and status that were not recorded because the queue was full (publish).
    pub messages_lost: AtomicU64,
}

/// A value that goes up and down, or is not known. Single writer, any readers.
#[derive(Debug)]
pub struct Gauge(AtomicU32);

impl Default for Gauge {
    /// Not known.
    fn default() -> Self {
        Self(AtomicU32::new(f32::NAN.to_bits()))
    }
}

impl Gauge {
    /// Sets it; `None` = not known.
    pub fn set(&self, value: Option<f32>) {
        self.0.store(value.unwrap_or(f32::NAN).to_bits(), Relaxed);
    }

    /// What was set last.
    pub fn get(&self) -> Option<f32> {
        Some(f32::from_bits(self.0.load(Relaxed))).filter(|value| !value.is_nan())
    }
}

/// A placement that one thread sets and others read. It changes once an animal, so a reader that meets the change may see numbers of
/// both.
#[derive(Debug, Default)]
pub struct PlacementGauge {
    /// Turn, shift, scale.
    five: [Gauge; 5],
    likeness: Gauge,
    fits: AtomicBool,
}

impl PlacementGauge {
    /// Sets it; `None` = not known.
    pub fn set(&self, placement: Option<Placement>) {
        let numbers = placement.map(|p| [p.turn_deg, p.shift_px[0], p.shift_px[1], p.scale[0], p.scale[1]]);
        self.five.iter().enumerate().for_each(|(at, gauge)| gauge.set(numbers.map(|numbers| numbers[at])));
        self.likeness.set(placement.map(|p| p.likeness));
        self.fits.store(placement.is_some_and(|p| p.fits), Relaxed);
    }

    /// What was set last.
    pub fn get(&self) -> Option<Placement> {
        let [turn_deg, dy, dx, y, x] = self.five.each_ref().map(Gauge::get);
        let (shift_px, scale) = ([dy?, dx?], [y?, x?]);
        let fits = self.fits.load(Relaxed);
        Some(Placement { turn_deg: turn_deg?, shift_px, scale, likeness: self.likeness.get()?, fits })
    }
}

/// How a clock lies, set by one thread and read by others. It changes once a second and little, so a reader that meets the change may
/// see numbers of both.
#[derive(Debug, Default)]
pub struct ClockGauge {
    /// Place in [`CLOCKS`], from 1; 0 = not known.
    clock: AtomicU64,
    offset_ns: AtomicI64,
    steps: AtomicU32,
    /// Span; error of the offset; drift and its error.
    four: [Gauge; 4],
}

/// Every clock, by its place.
const CLOCKS: [Clock; 4] = [Clock::Monotonic, Clock::Unix, Clock::Device, Clock::Ptp];

impl ClockGauge {
    /// Sets it; `None` = not known.
    pub fn set(&self, lies: Option<SenderClock>) {
        let place = lies.and_then(|lies| CLOCKS.iter().position(|clock| *clock == lies.clock));
        if let Some(lies) = lies {
            self.offset_ns.store(lies.offset_ns, Relaxed);
            self.steps.store(lies.steps, Relaxed);
            let four = [Some(lies.span_s), Some(lies.offset_error_us), lies.drift_ppm, lies.drift_error_ppm];
            self.four.iter().zip(four).for_each(|(gauge, value)| gauge.set(value));
        }
        self.clock.store(place.map_or(0, |place| place as u64 + 1), Relaxed);
    }

    /// What was set last.
    pub fn get(&self) -> Option<SenderClock> {
        let place = usize::try_from(self.clock.load(Relaxed)).ok()?.checked_sub(1)?;
        let [span_s, offset_error_us, drift_ppm, drift_error_ppm] = self.four.each_ref().map(Gauge::get);
        Some(SenderClock {
            clock: *CLOCKS.get(place)?,
            offset_ns: self.offset_ns.load(Relaxed),
            offset_error_us: offset_error_us?,
            drift_ppm,
            drift_error_ppm,
            span_s: span_s?,
            steps: self.steps.load(Relaxed),
        })
    }
}

/// Adds one to a counter that only this thread writes.
pub fn count(counter: &AtomicU64, more: u64) {
    // A load and a store instead of a read-modify-write: each counter has a single writer.
    counter.store(counter.load(Relaxed) + more, Relaxed);
}

/// Sub-buckets per power of two: quantiles are exact to 1/32, about 3 %.
const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Values up to 2⁴⁰ ns (18 minutes); larger ones fall into the last bucket.
const BUCKETS: usize = (40 - SUB_BITS as usize + 1) * SUB;

/// A log-linear histogram of nanoseconds, single writer, any readers; the maximum is exact.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

/// Quantiles of a histogram, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Values recorded.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// Largest, exact.
    pub max_ns: u64,
}

impl Histogram {
    /// Adds one value. Single writer.
    pub fn record(&self, ns: u64) {
        count(&self.buckets[bucket_of(ns)], 1);
        if ns > self.max.load(Relaxed) {
            self.max.store(ns, Relaxed);
        }
    }

    /// Forgets everything. Only for measurements that discard a warm-up; called by the single writer.
    pub fn clear(&self) {
        self.buckets.iter().for_each(|b| b.store(0, Relaxed));
        self.max.store(0, Relaxed);
    }

    /// The quantiles now. A value recorded meanwhile may or may not be in them.
    pub fn quantiles(&self) -> Quantiles {
        let total: u64 = self.buckets.iter().map(|b| b.load(Relaxed)).sum();
        let max_ns = self.max.load(Relaxed);
        let at = |share: f64| self.value_at(((total as f64 * share).ceil() as u64).max(1)).min(max_ns);
        Quantiles { count: total, p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999), max_ns }
    }

    /// Upper edge of the bucket in which the `rank`-th smallest value lies.
    fn value_at(&self, rank: u64) -> u64 {
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank {
                return upper_edge(index);
            }
        }
        0
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros();
    let sub = (ns >> (power - SUB_BITS)) as usize & (SUB - 1);
    (((power - SUB_BITS + 1) as usize) * SUB + sub).min(BUCKETS - 1)
}

fn upper_edge(index: usize) -> u64 {
    let (power, sub) = (index / SUB, index % SUB);
    if power == 0 { sub as u64 } else { ((SUB + sub + 1) as u64) << (power - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thirtysecond_of_the_truth() {
        let histogram = Histogram::default();
        (1..=100_000u64).for_each(|v| histogram.record(v * 10));
        let q = histogram.quantiles();
        for (found, truth) in [(q.p50_ns, 500_000.0), (q.p99_ns, 990_000.0), (q.p999_ns, 999_000.0)] {
            assert!((found as f64 / truth - 1.0).abs() <= 1.0 / 32.0, "{found} for {truth}");
        }
        assert_eq!((q.count, q.max_ns), (100_000, 1_000_000));
    }

    #[test]
    fn a_gauge_is_unknown_until_it_is_set_and_can_be_unknown_again() {
        let gauge = Gauge::default();
        assert_eq!(gauge.get(), None);
        gauge.set(Some(0.0));
        assert_eq!(gauge.get(), Some(0.0));
        gauge.set(None);
        assert_eq!(gauge.get(), None);
    }

    #[test]
    fn every_value_falls_into_a_bucket_whose_edges_hold_it() {
        for ns in (0..2000).chain((11..40).flat_map(|p| [(1u64 << p) - 1, 1 << p, (1 << p) + 1])) {
            let index = bucket_of(ns);
            assert!(ns <= upper_edge(index), "{ns} above bucket {index}");
            assert!(index == 0 || ns >= upper_edge(index - 1), "{ns} below bucket {index}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
