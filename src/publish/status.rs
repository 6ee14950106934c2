//! The status message: the counters of all threads and the sink's own facts, as one header.
//!
//! Why it exists: an instrument accounts for every frame it was given. What it must never do: wait for the writer of a counter,
//! allocate, or count anything itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::frame::{Name, Quality};
use crate::sys::counters::{Decisions, Gauge, Histogram, Inlet, Record, Stats};
use crate::wire::decision::{RuleStanding, RuleStandings};
use crate::wire::decode::{CLOCK, ModelHeader, tenths_us};
use crate::wire::report::{
    DistrustedFrames, Dropped, InletCounts, LatencySummary, PeerCounts, Queues, Recording, RecordingLost, Rejected,
    StageLatencies, StatusHeader, TtlCounts,
};

/// The parts of a status that stay the same.
pub(super) struct Reporter {
    started_ns: u64,
    stats: Arc<Stats>,
    warnings: Vec<String>,
    deadline: Duration,
    /// Kept open: reading it at offset zero is a fresh measurement without allocation.
    memory: Option<File>,
}

/// Whose status it is, and how it stands.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) source: Name,
    pub(super) model: ModelHeader<'a>,
    pub(super) trained: bool,
    pub(super) labels: &'a [String],
    pub(super) outputs: &'a [String],
    /// Of the last decode.
    pub(super) quality: Quality,
    /// Measured; 0 until it is known.
    pub(super) frame_rate_hz: f32,
}

impl Reporter {
    pub(super) fn new(stats: Arc<Stats>, warnings: Vec<String>, deadline: Duration, started_ns: u64) -> Self {
        Self { started_ns, stats, warnings, deadline, memory: File::open("/proc/self/status").ok() }
    }

    /// Age at which a decode is stale, ms; also the silence after which a subscriber must assume the daemon dead.
    pub(super) fn deadline_ms(&self) -> u64 {
        self.deadline.as_millis() as u64
    }

    pub(super) fn shared_stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The status of this moment.
    pub(super) fn status<'a>(&'a self, subject: Subject<'a>, now_ns: u64) -> StatusHeader<'a> {
        let Stats { intake, compute, publish, record, connections, decisions, .. } = &*self.stats;
        let latency_us = StageLatencies {
            queue: summary(&compute.queue),
            preprocess: summary(&compute.preprocess),
            encode: summary(&compute.encode),
            total: summary(&publish.total),
        };
        let dropped =
            Dropped { skip_to_latest: compute.skipped.load(Relaxed), decodes: compute.decodes_dropped.load(Relaxed) };
        StatusHeader {
            htype: "status-1.0",
            source: subject.source,
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: (now_ns.saturating_sub(self.started_ns) / 1_000_000) as f64 / 1000.0,
            t_pub_ns: now_ns,
            clock: CLOCK,
            received: intake.received.load(Relaxed),
            accepted: intake.accepted.load(Relaxed),
            rejected: Rejected(self.stats.rejected()),
            ignored_keys: intake.ignored_keys.load(Relaxed),
            gaps: intake.gaps.load(Relaxed),
            missing: intake.missing.load(Relaxed),
            dropped,
            caught_up: compute.caught_up.load(Relaxed),
            published: publish.published.load(Relaxed),
            stale: publish.stale.load(Relaxed),
            relay_lost: publish.relay_lost.load(Relaxed),
            non_finite_pixels: compute.non_finite_pixels.load(Relaxed),
            saturated_pixels: compute.saturated_pixels.load(Relaxed),
            distrusted: DistrustedFrames(self.stats.distrusted()),
            latency_us,
            queue_depth: waiting(&self.stats),
            non_finite_embeddings: compute.non_finite_embeddings.load(Relaxed),
            model: subject.model,
            trained: subject.trained,
            labels: subject.labels,
            outputs: subject.outputs,
            deadline_ms: self.deadline_ms(),
            age_us: summary(&publish.age),
            quality: subject.quality,
            warnings: &self.warnings,
            memory_bytes: self.memory.as_ref().and_then(resident_bytes),
            frame_rate_hz: (subject.frame_rate_hz > 0.0).then_some(subject.frame_rate_hz),
            record: recording(record),
            peers: PeerCounts { let_in: connections.let_in.load(Relaxed), refused: connections.refused.load(Relaxed) },
            novelty_mean: compute.novelty_mean.get(),
            focus: compute.focus.get(),
            warmup_frames_left: Some(compute.warmup_frames_left.load(Relaxed)).filter(|left| *left > 0),
            placement: compute.placement.get(),
            sender_clock: intake.sender_clock.get(),
            inlet: inlet_counts(&self.stats),
            ttl: ttl_counts(&self.stats),
            decisions: (!decisions.names().is_empty()).then(|| standings(decisions)),
        }
    }
}

/// How the rules stand, at this moment.
pub fn standings(decisions: &Decisions) -> RuleStandings {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let standing = |rule: usize| {
        let name = *decisions.names().get(rule)?;
        let (counters, published) = (&decisions.rules[rule], &decisions.published[rule]);
        let ms = |gauge: &Gauge| gauge.get().map(|ms| ms as u64);
        Some(RuleStanding {
            name,
            on: counters.on.load(Relaxed),
            armed: counters.armed.load(Relaxed),
            decisions: read(&counters.decisions),
            outputs: read(&counters.outputs),
            shams: read(&counters.shams),
            overruled: read(&published.overruled),
            ended: read(&published.ended),
            minute_left_ms: ms(&counters.minute_left_ms),
            session_left_ms: ms(&counters.session_left_ms),
        })
    };
    RuleStandings(std::array::from_fn(standing))
}

/// Frames and decodes in flight. The counters are read one after the other, so a frame in transit may be missed.
fn waiting(stats: &Stats) -> Queues {
    let Stats { intake, compute, publish, .. } = stats;
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let refused: u64 = compute.rejected.iter().map(read).sum();
    let taken = read(&compute.preprocessed) + read(&compute.skipped) + refused;
    let sent = read(&publish.published) + read(&compute.decodes_dropped) + read(&compute.caught_up);
    Queues {
        frames: read(&intake.accepted).saturating_sub(taken),
        // A frame that is not believed has a decode, too.
        decodes: (read(&compute.encoded) + stats.distrusted().iter().sum::<u64>()).saturating_sub(sent),
    }
}

/// `None` without an inlet.
fn inlet_counts(stats: &Stats) -> Option<InletCounts> {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let Inlet { open, received, refused, lost, untold } = &*stats.inlet;
    let counts =
        || InletCounts { received: read(received), refused: read(refused), lost: read(lost), untold: read(untold) };
    open.load(Relaxed).then(counts)
}

/// `None` without lines.
fn ttl_counts(stats: &Stats) -> Option<TtlCounts> {
    let ttl = &stats.ttl;
    let counts =
        || TtlCounts { edges: ttl.edges.load(Relaxed), missed: ttl.missed.load(Relaxed), late_us: summary(&ttl.late) };
    ttl.open.load(Relaxed).then(counts)
}

/// `None` until anything was recorded or should have been.
fn recording(record: &Record) -> Option<Recording> {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let lost = RecordingLost {
        queue: read(&record.frames_lost_queue),
        disk: read(&record.frames_lost_disk),
        messages: read(&record.messages_lost),
    };
    let (recording, frames, bytes) = (read(&record.recording) > 0, read(&record.frames), read(&record.bytes));
    let any = recording || frames + bytes + lost.queue + lost.disk + lost.messages > 0;
    any.then_some(Recording { recording, frames, bytes, lost })
}

fn summary(histogram: &Histogram) -> LatencySummary {
    let q = histogram.quantiles();
    let [p50, p99, p999, max] = [q.p50_ns, q.p99_ns, q.p999_ns, q.max_ns].map(tenths_us);
    LatencySummary { p50, p99, p999, max, count: q.count }
}

/// Resident memory of this process. `/proc/self/status` gives it in kB; `statm` would need the machine's page size.
fn resident_bytes(status: &File) -> Option<u64> {
    let mut text = [0; 4096];
    let length = status.read_at(&mut text, 0).ok()?;
    let after = text[..length].windows(6).position(|w| w == b"VmRSS:")? + 6;
    let digits = text[after..length].iter().skip_while(|b| !b.is_ascii_digit()).take_while(|b| b.is_ascii_digit());
    let kilobytes = digits.fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (kilobytes > 0).then_some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::event::Reason;
    use crate::frame::placement::Placement;

    #[test]
    fn resident_memory_is_read_again_every_time() {
        let file = File::open("/proc/self/status").unwrap();
        let read = || resident_bytes(&file).unwrap();
        assert!(read() > 100_000, "{} bytes", read());
        // The other tests of this process take and free memory meanwhile: now and then one hides a block, never all of them.
        let grew = |_| {
            let before = read();
            let block = std::hint::black_box(vec![1u8; 64 << 20]);
            let after = read();
            after >= before + (60 << 20) && block.len() == 64 << 20
        };
        assert!((0..20).any(grew), "64 MiB more never showed in {} bytes", read());
    }

    #[test]
    fn a_status_holds_the_counters_and_leaves_out_what_nobody_knows() {
        let stats = Arc::new(Stats::default());
        stats.intake.received.store(10, Relaxed);
        stats.intake.rejected[4].store(3, Relaxed);
        stats.compute.encode.record(2_000_000);
        let reporter =
            Reporter::new(stats.clone(), vec!["realtime: denied".into()], Duration::from_millis(250), 5_000_000_000);
        let model = ModelHeader { name: "m", sha256: "ab", generation: 1 };
        let labels = ["rest".to_owned()];
        let source = "rig".parse().unwrap();
        let (quality, frame_rate_hz) = (Quality::Ok, 0.0);
        let subject = Subject { source, model, trained: false, labels: &labels, outputs: &[], quality, frame_rate_hz };
        let json = |r: &Reporter| serde_json::to_value(r.status(subject, 7_500_000_000)).unwrap();
        let first = json(&reporter);
        assert_eq!(first["htype"], "status-1.0");
        assert_eq!((&first["received"], &first["rejected"]["shape"]), (&10.into(), &3.into()));
        assert_eq!(first["rejected"].as_object().unwrap().len(), Reason::ALL.len());
        assert_eq!(first["latency_us"]["encode"]["max"], 2000.0);
        assert_eq!((&first["uptime_s"], &first["warnings"][0]), (&2.5.into(), &"realtime: denied".into()));
        assert_eq!((&first["labels"][0], &first["deadline_ms"]), (&"rest".into(), &250.into()));
        assert!(first.get("frame_rate_hz").is_none() && first.get("novelty_mean").is_none());
        assert!(first.get("placement").is_none());
        stats.compute.novelty_mean.set(Some(0.25));
        assert_eq!(json(&reporter)["novelty_mean"], 0.25);
        let scale = [1.0, 1.25];
        let placement = Placement { turn_deg: 4.5, shift_px: [-2.0, 0.5], scale, likeness: 0.75, fits: true };
        stats.compute.placement.set(Some(placement));
        let shown = &json(&reporter)["placement"];
        assert_eq!((&shown["turn_deg"], &shown["shift_px"][0]), (&4.5.into(), &(-2.0).into()));
        assert_eq!(
            (&shown["scale"][1], &shown["likeness"], &shown["fits"]),
            (&1.25.into(), &0.75.into(), &true.into())
        );
        stats.compute.placement.set(None);
        assert!(json(&reporter).get("placement").is_none());
        assert_eq!(first["queue_depth"], serde_json::json!({ "frames": 0, "decodes": 0 }));
        stats.intake.accepted.store(9, Relaxed);
        stats.compute.preprocessed.store(4, Relaxed);
        stats.compute.skipped.store(2, Relaxed);
        stats.compute.rejected[Reason::Geometry as usize].store(1, Relaxed);
        assert_eq!(json(&reporter)["queue_depth"]["frames"], 2);
        assert_eq!(json(&reporter)["rejected"]["geometry"], 1);
    }
}
