//! Latencies of the received decodes: quantiles, bins for a plot, buckets for a metrics server.
//!
//! What it must never do: mix the latencies of two daemons; it starts afresh when the daemon restarts.

use serde_json::{Value, json};

use crate::sys::counters::Histogram;
use crate::wire::subscriber::MessageLatency;

/// Bins of the plot per factor of ten.
const BINS_PER_DECADE: usize = 12;
/// Where the plot begins, µs, and how many factors of ten it spans: to 10 s.
const FIRST_US: f64 = 10.0;
const DECADES: usize = 6;
/// The stages, in the order of [`Latencies::stages`].
pub(crate) const STAGES: [&str; 4] = ["queue", "preprocess", "encode", "total"];
/// Upper edges of the buckets for a metrics server, s.
pub(crate) const EDGES_S: [f64; 13] =
    [0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.1, 0.25, 0.5, 1.0];

/// Latencies of all decodes received since the daemon started.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    quantiles: Histogram,
    bins: Vec<u64>,
    /// Of each stage.
    pub(crate) stages: [Stage; 4],
}

/// One stage for a metrics server.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Values under each of [`EDGES_S`] and above those before; the last counts the rest.
    pub(crate) counts: [u64; EDGES_S.len() + 1],
    /// Of all values, s.
    pub(crate) sum_s: f64,
}

impl Latencies {
    /// Adds one decode.
    pub(crate) fn record(&mut self, latency: &MessageLatency) {
        let MessageLatency { queue, preprocess, encode, total } = *latency;
        for (stage, us) in self.stages.iter_mut().zip([queue, preprocess, encode, total]) {
            stage.record(us.max(0.0) / 1e6);
        }
        let total = total.max(0.0);
        self.quantiles.record((total * 1e3) as u64);
        self.bins.resize(DECADES * BINS_PER_DECADE, 0);
        let bin = ((total / FIRST_US).log10() * BINS_PER_DECADE as f64).max(0.0) as usize;
        let last = self.bins.len() - 1;
        self.bins[bin.min(last)] += 1;
    }

    /// For the page, ms.
    pub(crate) fn to_json(&self) -> Value {
        let q = self.quantiles.quantiles();
        let [p50, p99, p999, max] = [q.p50_ns, q.p99_ns, q.p999_ns, q.max_ns].map(|ns| ns as f64 / 1e6);
        json!({"count": q.count, "p50": p50, "p99": p99, "p999": p999, "max": max, "bins": self.bins,
            "first_ms": FIRST_US / 1e3, "bins_per_decade": BINS_PER_DECADE})
    }
}

impl Stage {
    fn record(&mut self, seconds: f64) {
        let bucket = EDGES_S.iter().position(|edge| seconds <= *edge).unwrap_or(EDGES_S.len());
        self.counts[bucket] += 1;
        self.sum_s += seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_bin_and_the_bucket_that_hold_it() {
        let mut latencies = Latencies::default();
        for total in [0.0, 9.0, 900.0, 1000.0, 33_000.0, 1e9] {
            latencies.record(&MessageLatency { queue: 0.0, preprocess: 1.0, encode: 2.0, total });
        }
        let bins = latencies.to_json();
        assert_eq!((&bins["bins"][0], &bins["bins"][24], &bins["count"]), (&2.into(), &1.into(), &6.into()));
        assert_eq!(bins["bins"][DECADES * BINS_PER_DECADE - 1], 1, "what is beyond the picture is at its edge");
        let total = &latencies.stages[3];
        assert_eq!((total.counts[3], total.counts[8], total.counts[13]), (2, 1, 1));
        assert!((total.sum_s - 1_000.034_909).abs() < 1e-6, "{}", total.sum_s);
    }
}
