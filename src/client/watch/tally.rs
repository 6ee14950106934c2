//! A subscriber's counts: lost messages, qualities, the latency of every stage, and the table at the end.
//!
//! Why it exists: PUB drops messages silently, so only the subscriber knows what arrived. What it must never do: subtract
//! times of different clocks.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use crate::client::state::events::Fate;
use crate::frame::{Clock, Quality};
use crate::sys::counters::{Histogram, Quantiles};
use crate::wire::decode::tenths_us;
use crate::wire::subscriber::{DecisionMessage, DecodeMessage};

use super::truth::{Score, TruthReport};

/// A longer closed loop means that the time stamp is from another machine's clock, ns.
const CLOSED_LOOP_NS_MAX: i64 = 60_000_000_000;
/// Stages in the order of the table.
const STAGES: [&str; 7] = ["queue", "preprocess", "encode", "publish", "daemon", "age", "closed loop"];
/// Places of the last two.
const AGE: usize = 5;
const CLOSED_LOOP: usize = 6;

/// Summary of what was received.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct WatchReport {
    /// Decodes received.
    pub decodes: u64,
    /// Decodes published but not received, by `seq`.
    pub lost: u64,
    /// Restarts of the daemon, seen by `seq` going back.
    pub restarts: u64,
    /// Frames missing according to the microscope's numbers.
    pub frames_missing: u64,
    /// Frames skipped by the daemon under overload.
    pub skipped: u64,
    /// Times the daemon fell silent beyond its own deadline.
    pub silences: u64,
    /// Messages that could not be read.
    pub damaged: u64,
    /// Decodes by quality, in the order of [`Quality::ALL`]: ok, degraded, warmup, stale, fail.
    pub qualities: [u64; 5],
    /// Seconds watched.
    pub duration_s: f64,
    /// Quantiles by stage, µs; stages without a value are left out.
    pub latency_us: Vec<StageReport>,
    /// The last status received.
    pub status: Option<Value>,
    /// Decisions received, by rule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub decisions: BTreeMap<String, DecisionCounts>,
    /// How well the decodes match the truth, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truth: Option<TruthReport>,
}

/// Decisions of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DecisionCounts {
    /// With an output.
    pub outputs: u64,
    /// Sham trials.
    pub shams: u64,
    /// Withheld for another reason.
    pub withheld: u64,
    /// Outputs that had to end before their time.
    pub ended: u64,
}

/// Quantiles of one stage, µs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StageReport {
    /// `queue`, `preprocess`, `encode`, `publish`, `daemon` (all of these together), `age` (of the frame at publication, where the daemon
    /// knows it), `closed loop` (from the microscope's time stamp to this program; only when that stamp is on this machine's
    /// monotonic clock).
    pub stage: &'static str,
    /// Median.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
    /// Values.
    pub count: u64,
}

/// Running counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) report: WatchReport,
    pub(super) score: Score,
    seq: Option<u64>,
    stages: [Histogram; STAGES.len()],
}

/// Time from the microscope's stamp to now, ns, if both are on the same clock.
pub(super) fn closed_loop_ns(decode: &DecodeMessage, seen_ns: u64) -> Option<u64> {
    let stamp = decode.t_device_ns.filter(|_| decode.t_device_clock == Some(Clock::Monotonic))?;
    let elapsed = i64::try_from(seen_ns).ok()?.checked_sub(stamp)?;
    (0..=CLOSED_LOOP_NS_MAX).contains(&elapsed).then_some(elapsed as u64)
}

impl Tally {
    /// Counts a decode. `Some` is a line that a person must see: a loss or a restart.
    pub(super) fn count_decode(&mut self, decode: &DecodeMessage, seen_ns: u64) -> Option<String> {
        let report = &mut self.report;
        report.decodes += 1;
        report.frames_missing += decode.frame_gap;
        report.skipped += decode.skipped;
        let quality = usize::from(decode.quality.code());
        report.qualities[quality] += 1;
        if let Some(latency) = &decode.latency_us {
            let publish = latency.total - latency.queue - latency.preprocess - latency.encode;
            let parts = [latency.queue, latency.preprocess, latency.encode, publish, latency.total];
            self.stages.iter().zip(parts).for_each(|(stage, us)| stage.record((us.max(0.0) * 1000.0) as u64));
        }
        if let Some(us) = decode.age_us {
            self.stages[AGE].record((us.max(0.0) * 1000.0) as u64);
        }
        if let Some(ns) = closed_loop_ns(decode, seen_ns) {
            self.stages[CLOSED_LOOP].record(ns);
        }
        let expected = self.seq.replace(decode.seq).map(|last| last + 1)?;
        if decode.seq < expected {
            self.report.restarts += 1;
            return Some(format!("the daemon restarted: seq {} after {}", decode.seq, expected - 1));
        }
        let lost = decode.seq - expected;
        self.report.lost += lost;
        (lost > 0).then(|| format!("{lost} decode(s) lost in transit before seq {}", decode.seq))
    }

    pub(super) fn count_decision(&mut self, decision: &DecisionMessage) {
        let counts = self.report.decisions.entry(decision.name.clone()).or_default();
        let count = match Fate::of(decision) {
            Fate::Output => &mut counts.outputs,
            Fate::Sham => &mut counts.shams,
            Fate::Withheld => &mut counts.withheld,
            Fate::Ended => &mut counts.ended,
        };
        *count += 1;
    }

    /// `compared`: was there a truth to compare with?
    pub(super) fn finish(mut self, duration_s: f64, compared: bool) -> WatchReport {
        self.report.truth = compared.then(|| self.score.report());
        self.report.duration_s = duration_s;
        let measured = STAGES.iter().zip(&self.stages).map(|(stage, histogram)| (*stage, histogram.quantiles()));
        self.report.latency_us = measured.filter(|(_, q)| q.count > 0).map(stage_report).collect();
        self.report
    }
}

fn stage_report((stage, q): (&'static str, Quantiles)) -> StageReport {
    let [p50, p99, p999, max] = [q.p50_ns, q.p99_ns, q.p999_ns, q.max_ns].map(tenths_us);
    StageReport { stage, p50, p99, p999, max, count: q.count }
}

impl WatchReport {
    /// The table for people.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rate_hz = self.decodes as f64 / self.duration_s.max(1e-9);
        writeln!(out, "\n{} decodes in {:.1} s ({rate_hz:.1} per second)", self.decodes, self.duration_s)?;
        let counted = Quality::ALL.iter().zip(self.qualities).filter(|(_, n)| *n > 0);
        let qualities: Vec<String> = counted.map(|(q, n)| format!("{} {n}", q.name())).collect();
        writeln!(out, "quality    {}", if qualities.is_empty() { "-".into() } else { qualities.join(", ") })?;
        writeln!(
            out,
            "gaps       {} frames missing at the microscope, {} skipped by the daemon, {} decodes lost in transit",
            self.frames_missing, self.skipped, self.lost
        )?;
        writeln!(
            out,
            "daemon     {} silence(s), {} restart(s), {} damaged message(s)",
            self.silences, self.restarts, self.damaged
        )?;
        if let Some(status) = &self.status {
            write_status(status, out)?;
        }
        if let Some(truth) = &self.truth {
            truth.write(self.duration_s, out)?;
        }
        for (name, counts) in &self.decisions {
            let DecisionCounts { outputs, shams, withheld, ended } = counts;
            writeln!(
                out,
                "decisions  {name}: {outputs} with output, {shams} sham, {withheld} withheld otherwise, {ended} ended early"
            )?;
        }
        if self.latency_us.is_empty() {
            return writeln!(out, "no latency measured");
        }
        writeln!(out, "{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p99", "p99.9", "max", "count")?;
        for s in &self.latency_us {
            let [p50, p99, p999, max] = [s.p50, s.p99, s.p999, s.max].map(|us| us / 1000.0);
            writeln!(out, "{:<12}{p50:>10.3}{p99:>10.3}{p999:>10.3}{max:>10.3}{:>10}", s.stage, s.count)?;
        }
        if !self.latency_us.iter().any(|s| s.stage == "closed loop") {
            writeln!(
                out,
                "closed loop: not measurable, because the microscope's time stamps are not on this machine's monotonic clock"
            )?;
        }
        Ok(())
    }
}

/// Dropped frames, rejected messages and frames that are not trusted since the daemon started, by reason; zeros are left out.
fn write_status(status: &Value, out: &mut dyn Write) -> io::Result<()> {
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    writeln!(
        out,
        "since start: received {}, accepted {}, published {}",
        number("received"),
        number("accepted"),
        number("published")
    )?;
    for key in ["dropped", "rejected", "distrusted"] {
        let reasons = status[key].as_object().into_iter().flatten();
        let counted = reasons.filter(|(_, n)| n.as_u64().is_some_and(|n| n > 0));
        let counted: Vec<String> = counted.map(|(reason, n)| format!("{reason} {n}")).collect();
        writeln!(out, "{key:<11}{}", if counted.is_empty() { "none".into() } else { counted.join(", ") })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn message(json: Value) -> DecodeMessage {
        serde_json::from_value(json).unwrap()
    }

    fn numbered(seq: u64) -> DecodeMessage {
        message(serde_json::json!({"seq": seq, "shape": [0], "t_pub_ns": 1, "quality": "ok", "frame_gap": 2}))
    }

    #[test]
    fn losses_and_restarts_are_told_apart_by_seq() {
        let mut tally = Tally::default();
        let lines: Vec<_> =
            [5, 6, 9, 0, 1].map(|seq| tally.count_decode(&numbered(seq), 0)).into_iter().flatten().collect();
        assert_eq!((tally.report.lost, tally.report.restarts, tally.report.decodes), (2, 1, 5));
        assert_eq!((lines.len(), tally.report.frames_missing), (2, 10), "{lines:?}");
    }

    #[test]
    fn only_times_of_one_clock_are_subtracted() {
        let stamped = |ns: i64, clock: &str| {
            message(serde_json::json!({"seq": 0, "shape": [0], "t_pub_ns": 1, "quality": "ok",
                "t_device_ns": ns, "t_device_clock": clock}))
        };
        assert_eq!(closed_loop_ns(&stamped(1_000, "monotonic"), 5_000), Some(4_000));
        assert_eq!(closed_loop_ns(&stamped(1_000, "unix"), 5_000), None);
        assert_eq!(closed_loop_ns(&stamped(6_000, "monotonic"), 5_000), None, "from the future: another machine");
        assert_eq!(closed_loop_ns(&stamped(0, "monotonic"), 70_000_000_000), None, "a minute ago: another machine");
    }

    #[test]
    fn the_table_shows_every_stage_and_what_was_dropped() {
        let mut tally = Tally::default();
        let decode = message(serde_json::json!({"seq": 0, "shape": [0], "t_pub_ns": 1, "quality": "degraded",
            "latency_us": {"queue": 10.0, "preprocess": 700.0, "encode": 1000.0, "total": 1800.0}}));
        tally.count_decode(&decode, 0);
        tally.report.status = Some(serde_json::json!({"received": 7, "rejected": {"shape": 3, "parts": 0}}));
        let mut text = Vec::new();
        tally.finish(2.0, false).write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let publish = text.lines().find(|l| l.starts_with("publish")).unwrap();
        assert!(publish.contains("0.090"), "1800 − 10 − 700 − 1000 µs: {publish}");
        assert!(text.contains("degraded 1") && text.contains("rejected   shape 3\n"), "{text}");
        assert!(text.contains("closed loop: not measurable"), "{text}");
    }
}
