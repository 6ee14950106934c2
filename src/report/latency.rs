//! The time from a frame to the stimulus and back, as numbers, as a table and as a picture.
//!
//! What it must never do: average an outlier away. Quantiles are those of the sorted values, and the histogram counts in logarithms, so that
//! one late pulse among thousands is seen.

use serde::Serialize;

use super::plot::canvas::{Align, INK, SECOND, TEXT_PX, nothing, svg};
use super::plot::panel::{Panel, Range};
use crate::frame::RoundTrips;
use crate::sys::statistics::quantiles;

const WIDTH_PX: f64 = 880.0;
const LEFT_PX: f64 = 70.0;
const TOP_PX: f64 = 36.0;
const PANEL_PX: f64 = 90.0;
/// From one stage to the next.
const ROW_PX: f64 = PANEL_PX + 80.0;
const BINS: usize = 90;
/// What is shorter is drawn here, µs.
const SHORTEST_US: f64 = 1.0;

/// One stage, µs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageTimes {
    /// From what to what.
    pub stage: &'static str,
    /// Round trips in which it is known.
    pub count: usize,
    /// Median.
    pub p50_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// Largest.
    pub max_us: f64,
    /// Jitter: standard deviation.
    pub jitter_rms_us: f64,
    /// Jitter: from the median to 99.9 %.
    pub jitter_p999_us: f64,
}

/// All stages of which something is known.
pub fn stages(trips: &RoundTrips) -> Vec<StageTimes> {
    let of = |stage| {
        let values = trips.sorted_us(stage);
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let jitter_rms_us = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64).sqrt();
        let [p50_us, p99_us, p999_us, max_us] = quantiles(values.iter().copied());
        let jitter_p999_us = p999_us - p50_us;
        Some(StageTimes { stage: stage.0, count, p50_us, p99_us, p999_us, max_us, jitter_rms_us, jitter_p999_us })
    };
    RoundTrips::STAGES.into_iter().filter_map(of).collect()
}

/// A table for people.
pub fn table(trips: &RoundTrips) -> String {
    let mut text = format!(
        "{:<28}{:>8}{:>11}{:>11}{:>11}{:>11}{:>11}{:>13}\n",
        "[µs]", "count", "p50", "p99", "p99.9", "max", "rms", "p99.9 − p50"
    );
    for stage in stages(trips) {
        let StageTimes { stage, count, p50_us, p99_us, p999_us, max_us, jitter_rms_us, jitter_p999_us } = stage;
        text += &format!(
            "{stage:<28}{count:>8}{p50_us:>11.1}{p99_us:>11.1}{p999_us:>11.1}{max_us:>11.1}{jitter_rms_us:>11.1}{jitter_p999_us:>13.1}\n"
        );
    }
    text + &format!(
        "outputs without an acknowledgement: {}; acknowledgements of nothing that is known: {}\n",
        trips.unanswered(),
        trips.strays
    )
}

/// A histogram of each stage, one below the other, over the same logarithmic axis.
pub fn picture(trips: &RoundTrips) -> String {
    let stages = stages(trips);
    let logs = |stage| -> Vec<f64> { trips.sorted_us(stage).iter().map(|us| us.max(SHORTEST_US).log10()).collect() };
    let all: Vec<Vec<f64>> = RoundTrips::STAGES.into_iter().map(logs).filter(|logs| !logs.is_empty()).collect();
    let Some(x) = Range::around(all.iter().flatten().copied(), 0.04) else { return nothing("round trips") };
    let height = TOP_PX + ROW_PX * all.len() as f64;
    svg(WIDTH_PX, height, "histograms of the time from a frame to the stimulus and back", |canvas| {
        for (row, (logs, times)) in all.iter().zip(&stages).enumerate() {
            let mut counts = [0_u64; BINS];
            for log in logs {
                counts[(((log - x.low) / (x.high - x.low) * BINS as f64) as usize).min(BINS - 1)] += 1;
            }
            let high = |count: u64| if count == 0 { 0.0 } else { (count as f64).log10() + 0.5 };
            let most = counts.iter().map(|count| high(*count)).fold(1.0, f64::max);
            let (top, width) = (TOP_PX + ROW_PX * row as f64, WIDTH_PX - LEFT_PX - 14.0);
            let panel = Panel { left: LEFT_PX, top, width, height: PANEL_PX, x, y: Range::new(0.0, most * 1.12) };
            panel.heading(canvas, &format!("{}: {} round trips", times.stage, times.count));
            panel.x_axis(canvas, "log₁₀ µs");
            panel.y_axis(canvas, "log₁₀ n + ½");
            for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let edge = |index: usize| x.low + index as f64 / BINS as f64 * (x.high - x.low);
                canvas.rect(panel.at(edge(index), 0.0), panel.at(edge(index + 1), high(*count)), SECOND);
            }
            let lines = [("p50", times.p50_us), ("p99", times.p99_us), ("p99.9", times.p999_us)];
            for (line, (name, us)) in lines.into_iter().enumerate() {
                let at = us.max(SHORTEST_US).log10();
                canvas.dashed(panel.at(at, 0.0), panel.at(at, panel.y.high), 1.25, INK);
                let beside = panel.at(at, 0.0).0;
                let right = beside > WIDTH_PX - 170.0;
                let (left, align) = if right { (beside - 5.0, Align::Right) } else { (beside + 5.0, Align::Left) };
                canvas.text(&format!("{name} {us:.0} µs"), (left, top + 9.0 + 14.0 * line as f64), align, TEXT_PX, INK);
            }
            panel.outline(canvas);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Decided;

    fn trips(count: u64) -> RoundTrips {
        let mut trips = RoundTrips::default();
        for seq in 0..count {
            let at = 1_000_000_000 * seq;
            let late = if seq == 7 { 50_000_000 } else { 0 };
            trips.decided(Decided {
                seq,
                frame_ns: at,
                decided_ns: at + 1_000_000,
                published_ns: at + 1_020_000,
                delay_ns: 0,
            });
            trips.acknowledged(seq, (seq % 2 == 0).then_some(at + 1_200_000), at + 1_400_000 + late);
        }
        trips
    }

    #[test]
    fn the_numbers_are_those_of_the_round_trips_and_one_late_pulse_is_seen() {
        let stages = stages(&trips(100));
        let names: Vec<_> = stages.iter().map(|stage| (stage.stage, stage.count, stage.p50_us)).collect();
        assert_eq!(
            names,
            [
                ("frame to decision", 100, 1_000.0),
                ("decision to publication", 100, 20.0),
                ("publication to pulse", 50, 180.0),
                ("pulse to acknowledgement", 50, 200.0),
                ("decision to acknowledgement", 100, 400.0),
                ("frame to acknowledgement", 100, 1_400.0)
            ]
        );
        let whole = stages[5];
        assert_eq!((whole.max_us, whole.jitter_p999_us), (51_400.0, 50_000.0));
        assert!((whole.jitter_rms_us - 4_974.9).abs() < 1.0, "{whole:?}");
        let table = table(&trips(100));
        assert!(table.lines().count() == 8 && table.contains("without an acknowledgement: 0"), "{table}");
    }

    #[test]
    fn every_stage_has_its_histogram_and_nothing_is_said_to_be_nothing() {
        let svg = picture(&trips(30));
        assert!(RoundTrips::STAGES.iter().all(|(name, _)| svg.contains(name)) && svg.starts_with("<svg "));
        assert!(picture(&RoundTrips::default()).contains("no data"));
    }
}
