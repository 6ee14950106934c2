//! The plots of a session's report, in the style of the training report.
//!
//! Why it exists: an hour has too many frames for one mark each, and the one that was late must be seen all the same. What it must
//! never do: average an outlier away; where several decodes fall into one pixel, the smallest and the largest are drawn.

use plotters::style::RGBColor;

use crate::report::plot::canvas::{
    Align, Canvas, FIRST, GREY, GRID, INK, SECOND, TEXT_PX, colour, fitted, nothing, svg,
};
use crate::report::plot::panel::{Panel, Range};
use crate::sys::palette::GROUPS;

use super::summary::{Moment, Summary};

const WIDTH_PX: f64 = 880.0;
const LEFT_PX: f64 = 100.0;
const TOP_PX: f64 = 30.0;
const ROW_PX: f64 = 22.0;
/// Steps along the time axis.
const BINS: usize = 780;
/// Bins of the histogram.
const HISTOGRAM_BINS: usize = 90;

fn panel(height: f64, x: Range, y: Range) -> Panel {
    Panel { left: LEFT_PX, top: TOP_PX, width: WIDTH_PX - LEFT_PX - 14.0, height, x, y }
}

fn seconds(summary: &Summary) -> Range {
    Range::new(0.0, summary.seconds.max(1e-3))
}

/// Smallest and largest value of each step along the time axis.
fn envelope(summary: &Summary, value: impl Fn(&Moment) -> Option<f64>) -> Vec<(f64, f64, f64)> {
    let span = summary.seconds.max(1e-3);
    let mut bins = vec![None; BINS];
    for moment in &summary.moments {
        let Some(value) = value(moment).filter(|v| v.is_finite()) else { continue };
        let bin = &mut bins[((moment.at_s / span * BINS as f64) as usize).min(BINS - 1)];
        let (low, high) = bin.unwrap_or((value, value));
        *bin = Some((value.min(low), value.max(high)));
    }
    let at = |index: usize| (index as f64 + 0.5) / BINS as f64 * span;
    bins.iter().enumerate().filter_map(|(index, bin)| bin.map(|(low, high)| (at(index), low, high))).collect()
}

/// Draws an envelope: a line where one decode is, a stroke from the smallest to the largest where several are.
fn draw(canvas: &mut Canvas, panel: &Panel, envelope: &[(f64, f64, f64)], colour: RGBColor) {
    for (at, low, high) in envelope {
        let (from, to) = (panel.at(*at, *low), panel.at(*at, *high));
        // A stroke of no length is not seen.
        canvas.line((from.0, from.1 + 0.75), (to.0, to.1 - 0.75), 1.25, colour);
    }
}

/// Latency over the session, with the deadline.
pub(super) fn latency(summary: &Summary) -> String {
    let values = envelope(summary, |moment| Some(moment.total_ms));
    let most = values.iter().map(|v| v.2).fold(0.0, f64::max);
    let deadline = summary.deadline_ms;
    // A deadline far above would press everything else flat.
    let shown = deadline <= 4.0 * most;
    let y = Range::new(0.0, if shown { most.max(deadline) } else { most }.max(1e-3) * 1.08);
    svg(WIDTH_PX, TOP_PX + 260.0, "latency over the session", |canvas| {
        let panel = panel(180.0, seconds(summary), y);
        panel.x_axis(canvas, "seconds");
        panel.y_axis(canvas, "receipt to publication [ms]");
        draw(canvas, &panel, &values, SECOND);
        if shown {
            canvas.dashed(panel.at(0.0, deadline), panel.at(panel.x.high, deadline), 1.5, FIRST);
        }
        let place = if shown { "dashed" } else { "off scale" };
        let words = format!("deadline {deadline:.0} ms ({place})");
        canvas.text(&words, (panel.right(), TOP_PX - 14.0), Align::Right, TEXT_PX, FIRST);
        panel.outline(canvas);
    })
}

/// How often which latency, on a logarithmic axis, with its quantiles and the deadline.
pub(super) fn histogram(summary: &Summary) -> String {
    let logs: Vec<f64> = summary.moments.iter().map(|moment| moment.total_ms.max(1e-3).log10()).collect();
    let deadline = summary.deadline_ms.max(1e-3).log10();
    let Some(x) = Range::around(logs.iter().copied().chain([deadline]), 0.04) else { return nothing("latencies") };
    let mut counts = vec![0_u64; HISTOGRAM_BINS];
    for log in &logs {
        counts[(((log - x.low) / (x.high - x.low) * HISTOGRAM_BINS as f64) as usize).min(HISTOGRAM_BINS - 1)] += 1;
    }
    // Of counts too: one late decode among a million is what matters.
    let height = |count: u64| if count == 0 { 0.0 } else { (count as f64).log10() + 0.5 };
    let most = counts.iter().map(|count| height(*count)).fold(1.0, f64::max);
    svg(WIDTH_PX, TOP_PX + 260.0, "latency histogram", |canvas| {
        let panel = panel(180.0, x, Range::new(0.0, most * 1.12));
        decades(canvas, &panel);
        for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let edge = |index: usize| x.low + index as f64 / HISTOGRAM_BINS as f64 * (x.high - x.low);
            canvas.rect(panel.at(edge(index), 0.0), panel.at(edge(index + 1), height(*count)), SECOND);
        }
        let names = ["p50", "p99", "p99.9"].into_iter().zip(summary.quantiles_ms);
        let lines = names.map(|(name, ms)| (name, ms, INK)).chain([("deadline", summary.deadline_ms, FIRST)]);
        for (row, (name, ms, ink)) in lines.enumerate() {
            let at = ms.max(1e-3).log10();
            canvas.dashed(panel.at(at, 0.0), panel.at(at, panel.y.high), 1.25, ink);
            let y = TOP_PX + 9.0 + 14.0 * row as f64;
            let beside = panel.at(at, 0.0).0;
            let (x, align) =
                if beside > WIDTH_PX - 170.0 { (beside - 5.0, Align::Right) } else { (beside + 5.0, Align::Left) };
            canvas.text(&format!("{name} {ms:.2} ms"), (x, y), align, TEXT_PX, ink);
        }
        panel.outline(canvas);
    })
}

/// Grid and numbers of the two logarithmic axes.
fn decades(canvas: &mut Canvas, panel: &Panel) {
    let within = |log: f64, range: Range| (range.low..=range.high).contains(&log);
    for (decade, digit) in (-3..6).flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| (decade, digit))) {
        let ms = digit * 10f64.powi(decade);
        if within(ms.log10(), panel.x) {
            let x = panel.at(ms.log10(), 0.0).0;
            canvas.line((x, panel.top), (x, panel.bottom()), 0.75, GRID);
            canvas.text(&format!("{ms}"), (x, panel.bottom() + 12.0), Align::Middle, TEXT_PX, INK);
        }
    }
    for decade in 0..9 {
        let log = f64::from(decade) + 0.5;
        if within(log, panel.y) {
            let y = panel.at(panel.x.low, log).1;
            canvas.line((panel.left, y), (panel.right(), y), 0.75, GRID);
            canvas.text(&format!("{}", 10f64.powi(decade)), (panel.left - 6.0, y), Align::Right, TEXT_PX, INK);
        }
    }
    let middle = (panel.left + panel.right()) / 2.0;
    canvas.text("receipt to publication [ms]", (middle, panel.bottom() + 32.0), Align::Middle, TEXT_PX, INK);
    let upright = (panel.top + panel.bottom()) / 2.0;
    canvas.text_upwards("decodes", (panel.left - 50.0, upright), Align::Middle, TEXT_PX, INK);
}

/// Shift of the content in both directions.
pub(super) fn shifts(summary: &Summary) -> String {
    let of = |axis: usize| envelope(summary, |moment| moment.shift_px.map(|shift| shift[axis]));
    let both = [("dy, + is down", of(0), FIRST), ("dx, + is right", of(1), SECOND)];
    let values = both.iter().flat_map(|(_, values, _)| values).flat_map(|v| [v.1, v.2]);
    let Some(y) = Range::around(values, 0.08) else { return nothing("shifts") };
    svg(WIDTH_PX, TOP_PX + 230.0, "shift over the session", |canvas| {
        let panel = panel(150.0, seconds(summary), y);
        panel.x_axis(canvas, "seconds");
        panel.y_axis(canvas, "shift [px]");
        for (index, (name, values, ink)) in both.iter().enumerate() {
            draw(canvas, &panel, values, *ink);
            let at = (panel.left + 130.0 * index as f64, TOP_PX - 14.0);
            canvas.text(name, at, Align::Left, TEXT_PX, *ink);
        }
        panel.outline(canvas);
    })
}

/// Height of the correlation peak.
pub(super) fn peaks(summary: &Summary) -> String {
    let values = envelope(summary, |moment| moment.shift_peak);
    if values.is_empty() {
        return nothing("correlation with the template");
    }
    svg(WIDTH_PX, TOP_PX + 180.0, "correlation with the template", |canvas| {
        let panel = panel(100.0, seconds(summary), Range::new(0.0, 1.0));
        panel.x_axis(canvas, "seconds");
        panel.y_axis(canvas, "correlation peak");
        draw(canvas, &panel, &values, INK);
        panel.outline(canvas);
    })
}

/// Rows with a mark wherever something was: name, colour and times of each.
fn strips(title: &str, span: Range, rows: &[(String, RGBColor, Vec<f64>)]) -> String {
    if rows.is_empty() {
        return nothing(title);
    }
    let height = rows.len() as f64 * ROW_PX;
    svg(WIDTH_PX, TOP_PX + height + 60.0, title, |canvas| {
        let panel = panel(height, span, Range::new(0.0, rows.len() as f64));
        panel.x_axis(canvas, "seconds");
        for (row, (name, ink, times)) in rows.iter().enumerate() {
            let y = TOP_PX + (row as f64 + 0.5) * ROW_PX;
            canvas.text(&fitted(name, TEXT_PX, LEFT_PX - 14.0), (LEFT_PX - 8.0, y), Align::Right, TEXT_PX, INK);
            let mut last = f64::NEG_INFINITY;
            for at in times.iter().map(|at| panel.at(*at, 0.0).0) {
                // A hundred marks in one pixel look like one.
                if at - last >= 0.5 && (panel.left..=panel.right()).contains(&at) {
                    canvas.line((at, y - 8.0), (at, y + 8.0), 1.25, *ink);
                    last = at;
                }
            }
        }
        panel.outline(canvas);
    })
}

/// Gaps, skips, silences, marks …
pub(super) fn events(summary: &Summary) -> String {
    let mut names: Vec<&str> = summary.events.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |wanted: &str| summary.events.iter().filter(|(name, _)| name == wanted).map(|(_, at)| *at).collect();
    let mut rows: Vec<_> = names.iter().map(|name| ((*name).to_owned(), FIRST, of(name))).collect();
    if !summary.marks.is_empty() {
        rows.push(("marks".to_owned(), SECOND, summary.marks.iter().map(|(_, at)| *at).collect()));
    }
    strips("events and marks", seconds(summary), &rows)
}

/// Quality over the session.
pub(super) fn qualities(summary: &Summary) -> String {
    let rows: Vec<_> = summary
        .qualities
        .keys()
        .map(|name| {
            let times = summary.moments.iter().filter(|m| m.quality.name() == *name).map(|m| m.at_s).collect();
            ((*name).to_owned(), if *name == "ok" { SECOND } else { FIRST }, times)
        })
        .collect();
    strips("quality over the session", seconds(summary), &rows)
}

/// Decoded actions over the session.
pub(super) fn actions(summary: &Summary) -> String {
    let row = |(index, name): (usize, &String)| {
        let times = summary.moments.iter().filter(|m| m.action == Some(index)).map(|m| m.at_s).collect();
        (name.clone(), if index < GROUPS { colour(index) } else { GREY }, times)
    };
    let any = summary.moments.iter().any(|moment| moment.action.is_some());
    let rows: Vec<_> = if any { summary.labels.iter().enumerate().map(row).collect() } else { Vec::new() };
    strips("actions over the session", seconds(summary), &rows)
}
