//! The same facts as OpenMetrics text, for a metrics server such as Prometheus.
//!
//! What it must never do: repeat the numbers of a daemon that has fallen silent; stale values are left out.

use std::fmt::{Display, Write};

use serde_json::Value;

use crate::client::state::latency::{EDGES_S, STAGES};
use crate::client::state::{Daemon, State};
use crate::frame::Quality;

/// Media type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// An older status is left out, ns.
const STATUS_OLD_NS: u64 = 5_000_000_000;

/// Counters of the status: key, name, help.
const COUNTERS: [(&str, &str, &str); 10] = [
    ("received", "frames_received", "Messages received from the microscope."),
    ("accepted", "frames_accepted", "Frames accepted."),
    ("gaps", "frame_gaps", "Jumps in the microscope's frame numbers."),
    ("missing", "frames_missing", "Frames missing according to these jumps."),
    ("published", "decodes_published", "Decodes of frames published."),
    ("caught_up", "frames_caught_up", "Frames decoded without being published, because newer ones had arrived."),
    ("stale", "stale", "Times the fail-safe took over."),
    ("non_finite_pixels", "non_finite_pixels", "Pixels that are NaN or infinite."),
    ("saturated_pixels", "saturated_pixels", "Saturated pixels."),
    (
        "non_finite_embeddings",
        "non_finite_embeddings",
        "Frames without a decode because the encoder returned NaN or infinity.",
    ),
];

/// Everything known that is not stale.
pub(crate) fn text(state: &State, now_ns: u64) -> String {
    let mut page = Page(String::new());
    page.family("haltere_monitor", "info", "The monitor.");
    page.sample("haltere_monitor_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one(
        "haltere_up",
        "gauge",
        "1 while the daemon's heartbeat is fresh.",
        u8::from(state.daemon(now_ns) == Daemon::Alive),
    );
    page.one(
        "haltere_ready",
        "gauge",
        "1 while decodes can be trusted, as reported by /readyz.",
        u8::from(state.ready(now_ns).is_ok()),
    );
    page.one(
        "haltere_series_ended",
        "gauge",
        "1 after the sender ended its series and until frames arrive again: no heartbeat is then to be expected.",
        u8::from(state.has_ended(now_ns)),
    );
    if let Some(ns) = state.silence_ns(now_ns) {
        page.family_with_unit("haltere_silence_seconds", "gauge", "seconds", "Time since the last sign of life.");
        page.sample("haltere_silence_seconds", &[], ns as f64 / 1e9);
    }
    write_own(&mut page, state);
    write_decode(&mut page, state, now_ns);
    if let Some((seen_ns, status)) = &state.status
        && now_ns.saturating_sub(*seen_ns) <= STATUS_OLD_NS
    {
        write_status(&mut page, status);
    }
    write_latencies(&mut page, state);
    page.0.push_str("# EOF\n");
    page.0
}

fn write_own(page: &mut Page, state: &State) {
    let tally = &state.tally;
    for (name, help, value) in [
        ("decodes_heard", "Decodes that reached the monitor.", tally.decodes),
        ("decodes_lost", "Decodes that did not reach the monitor.", tally.lost),
        ("daemon_restarts", "Restarts of the daemon.", tally.restarts),
        ("daemon_silences", "Times the heartbeat stopped.", tally.silences),
        ("messages_damaged", "Messages that the monitor could not read.", tally.damaged),
    ] {
        page.counter(&format!("haltere_{name}"), help, &[(&[], value)]);
    }
}

/// The last decode; left out while the daemon is silent.
fn write_decode(page: &mut Page, state: &State, now_ns: u64) {
    let Some(last) = state.last.as_ref().filter(|_| state.daemon(now_ns) == Daemon::Alive) else { return };
    page.family("haltere_quality", "stateset", "How far decodes can be trusted.");
    for quality in Quality::ALL {
        let on = u8::from(quality == last.decode.quality);
        page.sample("haltere_quality", &[("haltere_quality", quality.name())], on);
    }
    let model = |key: &str| last.model[key].as_str().unwrap_or_default().to_owned();
    let generation = last.model["generation"].as_u64().unwrap_or_default().to_string();
    page.family("haltere_model", "info", "The model in use.");
    let labels = [("name", model("name")), ("sha256", model("sha256")), ("generation", generation)];
    page.sample("haltere_model_info", &labels.each_ref().map(|(key, value)| (*key, value.as_str())), 1);
    if let Some([Some(dy), Some(dx)]) = last.decode.shift_px {
        page.family("haltere_shift_px", "gauge", "Displacement relative to the template, pixels.");
        page.sample("haltere_shift_px", &[("axis", "y")], dy);
        page.sample("haltere_shift_px", &[("axis", "x")], dx);
    }
    for (name, help, value) in [
        ("confidence", "Probability of the decoded action.", last.decode.confidence),
        ("novelty", "Novelty of the embedding, 0 to 1.", last.decode.novelty),
        ("shift_peak", "Height of the correlation peak.", last.decode.shift_peak),
        (
            "frame_age_ms",
            "Age of the frame when its decode was published.",
            last.decode.age_us.map(|us| (us / 1e3) as f32),
        ),
    ] {
        if let Some(value) = value {
            page.one(&format!("haltere_{name}"), "gauge", help, value);
        }
    }
}

fn write_status(page: &mut Page, status: &Value) {
    for (key, name, help) in COUNTERS {
        if let Some(value) = status[key].as_u64() {
            page.counter(&format!("haltere_{name}"), help, &[(&[], value)]);
        }
    }
    for (key, label, help) in [
        ("rejected", "reason", "Messages rejected, by reason."),
        ("distrusted", "reason", "Frames that are not trusted, by reason."),
        ("dropped", "policy", "Frames and decodes lost to overload."),
    ] {
        let counts = status[key].as_object().into_iter().flatten();
        let counts: Vec<_> = counts.filter_map(|(word, n)| Some(([(label, word.as_str())], n.as_u64()?))).collect();
        let samples: Vec<(&[(&str, &str)], u64)> = counts.iter().map(|(labels, n)| (&labels[..], *n)).collect();
        page.counter(&format!("haltere_{key}"), help, &samples);
    }
    for (value, name, help) in [
        (&status["frame_rate_hz"], "frame_rate_hz", "Frame rate according to the microscope's time stamps."),
        (&status["novelty_mean"], "novelty_mean", "Running mean of the novelty; 0.5 is expected."),
        (&status["focus"], "focus", "Correlation peak as a share of that at the start."),
        (
            &status["placement"]["likeness"],
            "placement_likeness",
            "Likeness of the animal to the model's atlas; 1 is a copy.",
        ),
        (&status["memory_bytes"], "memory_bytes", "Resident memory of the daemon."),
        (&status["uptime_s"], "uptime_seconds", "Time since the daemon started."),
        (&status["queue_depth"]["frames"], "waiting_frames", "Frames waiting to be decoded."),
        (&status["queue_depth"]["decodes"], "waiting_decodes", "Decodes waiting to be published."),
        (&status["deadline_ms"], "deadline_ms", "Age at which a decode becomes stale."),
    ] {
        if let Some(value) = value.as_f64() {
            page.one(&format!("haltere_{name}"), "gauge", help, value);
        }
    }
}

fn write_latencies(page: &mut Page, state: &State) {
    let name = "haltere_latency_seconds";
    page.family_with_unit(
        name,
        "histogram",
        "seconds",
        "Latency of the decodes received since the daemon started, by stage.",
    );
    for (stage, measured) in STAGES.iter().zip(&state.latencies.stages) {
        let mut so_far = 0;
        for (edge, count) in EDGES_S.iter().map(f64::to_string).chain(["+Inf".to_owned()]).zip(measured.counts) {
            so_far += count;
            page.sample(&format!("{name}_bucket"), &[("stage", stage), ("le", &edge)], so_far);
        }
        page.sample(&format!("{name}_count"), &[("stage", stage)], so_far);
        page.sample(&format!("{name}_sum"), &[("stage", stage)], measured.sum_s);
    }
}

/// The text being written.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn family_with_unit(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# UNIT {name} {unit}\n# HELP {name} {help}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[(&[(&str, &str)], u64)]) {
        self.family(name, "counter", help);
        samples.iter().for_each(|(labels, value)| self.sample(&format!("{name}_total"), labels, value));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (key, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{key}=\"{escaped}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}
