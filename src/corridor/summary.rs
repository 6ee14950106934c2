//! What a run did, in numbers: for the last lines of the log, the control socket and `--report`.
//!
//! Why it exists: three readers, one summary. What it must never do: run on the frame path (it allocates).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::frame::Distrust;
use crate::frame::event::Reason;
use crate::sys::counters::{Quantiles, Stats};

/// Counters and latencies of a run, at one moment.
#[derive(Clone, Debug)]
pub struct Summary {
    model: String,
    uptime: Duration,
    counters: Vec<(&'static str, u64)>,
    rejected: Vec<(&'static str, u64)>,
    distrusted: Vec<(&'static str, u64)>,
    /// Of the recorder, as far as they are not 0.
    record: Vec<(&'static str, u64)>,
    novelty_mean: Option<f32>,
    stages: Vec<(&'static str, Quantiles)>,
}

impl Summary {
    /// Reads all counters once.
    pub fn of(stats: &Stats, model: &str, uptime: Duration) -> Self {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let (intake, compute, publish, record) = (&stats.intake, &stats.compute, &stats.publish, &stats.record);
        let rejected = Reason::ALL.iter().map(|reason| reason.name()).zip(stats.rejected());
        Self {
            model: model.to_owned(),
            uptime,
            counters: vec![
                ("received", read(&intake.received)),
                ("accepted", read(&intake.accepted)),
                ("ignored_keys", read(&intake.ignored_keys)),
                ("gaps", read(&intake.gaps)),
                ("missing", read(&intake.missing)),
                ("skipped", read(&compute.skipped)),
                ("caught_up", read(&compute.caught_up)),
                ("preprocessed", read(&compute.preprocessed)),
                ("encoded", read(&compute.encoded)),
                ("non_finite_embeddings", read(&compute.non_finite_embeddings)),
                ("non_finite_pixels", read(&compute.non_finite_pixels)),
                ("saturated_pixels", read(&compute.saturated_pixels)),
                ("decodes_dropped", read(&compute.decodes_dropped)),
                ("published", read(&publish.published)),
                ("stale", read(&publish.stale)),
                ("relay_lost", read(&publish.relay_lost)),
                ("peers_let_in", read(&stats.connections.let_in)),
                ("peers_refused", read(&stats.connections.refused)),
            ],
            record: [
                ("recorded", read(&record.frames)),
                ("not_recorded_queue", read(&record.frames_lost_queue)),
                ("not_recorded_disk", read(&record.frames_lost_disk)),
                ("messages_not_recorded", read(&record.messages_lost)),
            ]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect(),
            rejected: rejected.filter(|(_, count)| *count > 0).collect(),
            distrusted: distrusted(stats),
            novelty_mean: compute.novelty_mean.get(),
            stages: vec![
                ("queue", compute.queue.quantiles()),
                ("preprocess", compute.preprocess.quantiles()),
                ("encode", compute.encode.quantiles()),
                ("total", publish.total.quantiles()),
            ]
            .into_iter()
            .chain(Some(("age", publish.age.quantiles())).filter(|(_, age)| age.count > 0))
            .collect(),
        }
    }

    /// As one JSON object: counters flat, `rejected` and `distrusted` by reason, `latency_us` by stage.
    pub fn to_json(&self) -> Value {
        let us = |ns: u64| ns as f64 / 1e3;
        let stage = |q: &Quantiles| json!({ "count": q.count, "p50": us(q.p50_ns), "p99": us(q.p99_ns), "p999": us(q.p999_ns), "max": us(q.max_ns) });
        let pairs = |pairs: &[(&str, u64)]| -> Map<String, Value> {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect()
        };
        let mut object = pairs(&self.counters);
        object.extend(pairs(&self.record));
        object.insert("rejected".to_owned(), Value::Object(pairs(&self.rejected)));
        object.insert("distrusted".to_owned(), Value::Object(pairs(&self.distrusted)));
        let stages = self.stages.iter().map(|(name, q)| ((*name).to_owned(), stage(q))).collect();
        object.insert("latency_us".to_owned(), Value::Object(stages));
        object.extend(self.novelty_mean.map(|mean| ("novelty_mean".to_owned(), json!(mean))));
        object.insert("model".to_owned(), json!(self.model));
        object.insert("uptime_s".to_owned(), json!(self.uptime.as_secs_f64()));
        Value::Object(object)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.1} s:", self.uptime.as_secs_f64())?;
        for (name, count) in self.counters.iter().chain(&self.record).filter(|(_, count)| *count > 0) {
            write!(f, " {name} {count}")?;
        }
        for (name, count) in &self.rejected {
            write!(f, ", rejected for {name} {count}")?;
        }
        for (name, count) in &self.distrusted {
            write!(f, ", not believed for {name} {count}")?;
        }
        if let Some(mean) = self.novelty_mean {
            write!(f, ", mean novelty {mean:.2} (0.5 is expected)")?;
        }
        write!(f, "\n{:>12} {:>10} {:>10} {:>10} {:>10} {:>9}", "latency, µs", "p50", "p99", "p99.9", "max", "count")?;
        for (name, q) in &self.stages {
            let us = |ns: u64| ns as f64 / 1e3;
            let (p50, p99, p999, max) = (us(q.p50_ns), us(q.p99_ns), us(q.p999_ns), us(q.max_ns));
            write!(f, "\n{name:>12} {p50:>10.1} {p99:>10.1} {p999:>10.1} {max:>10.1} {:>9}", q.count)?;
        }
        Ok(())
    }
}

/// Frames that are not trusted, by reason, without the reasons that did not occur.
pub fn distrusted(stats: &Stats) -> Vec<(&'static str, u64)> {
    let all = Distrust::ALL.iter().map(|reason| reason.name()).zip(stats.distrusted());
    all.filter(|(_, count)| *count > 0).collect()
}
