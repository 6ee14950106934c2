//! The page of a session's report.
//!
//! Why it exists: one file that is mailed and archived with the recording. What it must never do: leave out what speaks against the
//! session.

use ndarray::Array2;

use super::summary::Summary;
use super::{decisions, plots};
use crate::report::html::{Page, paragraph, table};
use crate::report::pca::{EmbeddingView, Embeddings};
use crate::report::{latency, plot};
use crate::session::Topic;
use crate::session::rows::Recorded;
use crate::sys::statistics::quantiles;

/// Decodes in the plot of the embedding.
const POINTS_MAX: usize = 3000;
/// Parts of the session that the plot of the embedding distinguishes, so that drift becomes visible.
const PARTS: [&str; 3] = ["first third", "second third", "last third"];

/// The whole file.
pub(super) fn render(name: &str, recorded: &Recorded, summary: &Summary) -> String {
    let mut page = Page::default();
    let mut warnings = recorded.warnings();
    if recorded.odd > 0 {
        warnings.push(format!("{} messages could not be parsed and were left out", recorded.odd));
    }
    page.list("warnings", "Warnings", &warnings);
    let caption = "From receipt of the whole frame to publication. Where several decodes share a pixel, the line spans the fastest to the slowest.";
    page.figure("over-time", "Latency over the session", &[plots::latency(summary)], caption);
    let caption = "Both axes are logarithmic, so that a single late decode is visible.";
    page.figure("histogram", "Latency histogram", &[plots::histogram(summary)], caption);
    let caption = format!(
        "By the sender's numbers, {} frames are missing. {} frames were skipped because newer ones were there.",
        summary.missing, summary.skipped
    );
    page.figure("events", "Gaps, skipped frames and events", &[plots::events(summary)], &caption);
    page.figure(
        "shifts",
        "Shifts",
        &[plots::shifts(summary), plots::peaks(summary)],
        "Displacement of the content relative to the template, and height of the correlation peak.",
    );
    page.figure("quality", "Quality", &[plots::qualities(summary)], &quality_text(summary));
    page.figure("actions", "Actions", &[plots::actions(summary)], &action_text(summary));
    let view = embedding(recorded, summary);
    let caption = format!(
        "{} of {} decodes of {} dimensions, projected onto their principal components.",
        view.points.len(),
        view.moments,
        view.dimensions
    );
    page.figure("embedding", "Embedding", &[plot::embedding_2d_by(&view, "by time")], &caption);
    decisions::section(&mut page, recorded, summary);
    let trips = &recorded.round_trips;
    if !trips.done.is_empty() {
        let caption = "From the frame to the decision, its publication, the pulse, and its acknowledgement at the inlet. The delay that a rule asks for \
                       is taken out.";
        page.figure("loop", "The loop", &[latency::picture(trips)], caption);
        page.section("loop-times", "Times of the loop", &format!("<pre>{}</pre>", latency::table(trips)));
    }
    page.section("latency", "Times", &latencies(summary));
    marks(&mut page, summary);
    clock(&mut page, recorded);
    page.section("session", "About the session", &facts(recorded));
    page.finish(&format!("Session {name}"), &summary.verdict())
}

fn latencies(summary: &Summary) -> String {
    let row = |name: &str, values: [f64; 4]| {
        let mut row = vec![name.to_owned()];
        row.extend(values.map(|ms| format!("{ms:.3}")));
        row
    };
    let rows = summary.stages_ms.iter().map(|(name, values)| row(name, *values));
    let all = rows.chain([row("receipt to publication", summary.quantiles_ms)]);
    let known = !summary.ages_ms[0].is_nan();
    let all = all.chain(known.then(|| row("age of the frame at publication", summary.ages_ms)));
    let jitter = quantiles(summary.moments.windows(2).map(|pair| (pair[1].at_s - pair[0].at_s) * 1e3));
    let all = all.chain([row("interval between frames", jitter)]);
    let words = format!(
        "The deadline is {:.0} ms. Decodes that missed it: {}. Decodes of frames that were too old when they arrived: {}. Silences \
         although frames arrived: {}. Failed stages: {}.",
        summary.deadline_ms, summary.late, summary.aged, summary.overdue, summary.faults
    );
    table(&["[ms]", "p50", "p99", "p99.9", "max"], 1, all) + &paragraph(&words)
}

fn marks(page: &mut Page, summary: &Summary) {
    if !summary.marks.is_empty() {
        let rows = summary.marks.iter().map(|(text, at)| vec![format!("{at:.2}"), text.clone()]);
        page.section("marks", "Marks", &table(&["time [s]", "note"], 2, rows));
    }
}

/// How the sender's clock lay, at the beginning, in the middle and at the end.
fn clock(page: &mut Page, recorded: &Recorded) {
    let clocks = &recorded.clocks;
    let (Some(first), Some(last)) = (clocks.first(), clocks.last()) else { return };
    let number = |value: Option<f32>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.3}"));
    let rows = [first, &clocks[clocks.len() / 2], last].map(|record| {
        let lies = record.sender_clock;
        vec![
            format!("{:.1}", record.t_pub_ns.saturating_sub(first.t_pub_ns) as f64 / 1e9),
            lies.offset_ns.to_string(),
            format!("{:.1}", lies.offset_error_us),
            number(lies.drift_ppm),
            number(lies.drift_error_ppm),
            lies.steps.to_string(),
        ]
    });
    let head = ["time [s]", "offset [ns]", "± [µs]", "drift [ppm]", "± [ppm]", "began anew"];
    let words = "A time stamp plus the offset is the daemon's time of that moment, later by the smallest delay on the way. A positive drift \
                 is a clock that runs fast.";
    page.section("clock", "Clock of the sender", &(table(&head, 0, rows.into_iter()) + &paragraph(words)));
}

fn quality_text(summary: &Summary) -> String {
    let total = summary.moments.len().max(1) as f64;
    let each = summary
        .qualities
        .iter()
        .map(|(name, count)| format!("{name} {count} ({:.1} %)", *count as f64 / total * 100.0));
    each.collect::<Vec<_>>().join(", ")
}

fn action_text(summary: &Summary) -> String {
    let decoded = summary.moments.iter().filter(|moment| moment.action.is_some()).count();
    if decoded == 0 {
        return "No actions were decoded: the model is untrained, has no labels, or was still warming up.".into();
    }
    let share =
        |index: usize| summary.moments.iter().filter(|m| m.action == Some(index)).count() as f64 / decoded as f64;
    let each = summary.labels.iter().enumerate().map(|(index, name)| format!("{name} {:.1} %", share(index) * 100.0));
    each.collect::<Vec<_>>().join(", ")
}

/// The decodes after warm-up, by action and by third of the session.
fn embedding(recorded: &Recorded, summary: &Summary) -> EmbeddingView {
    let rows: Vec<_> =
        recorded.rows().into_iter().filter(|row| row.decoded.quality != crate::frame::Quality::Warmup).collect();
    let dimensions = rows.first().map_or(0, |row| row.decoded.embedding.len());
    let rows: Vec<_> = rows.iter().filter(|row| row.decoded.embedding.len() == dimensions).collect();
    let values: Vec<f32> = rows.iter().flat_map(|row| row.decoded.embedding.iter().copied()).collect();
    let count = rows.len();
    let values = Array2::from_shape_vec((count, dimensions), values).unwrap_or_default();
    let part: Vec<usize> = (0..count).map(|index| index * PARTS.len() / count.max(1)).collect();
    let action = rows.iter().map(|row| row.action().and_then(|action| u8::try_from(action).ok()));
    let embeddings = Embeddings {
        animals: &PARTS.map(str::to_owned),
        labels: &summary.labels,
        values: values.view(),
        animal: &part,
        label: &action.collect::<Vec<_>>(),
    };
    EmbeddingView::of(&embeddings, POINTS_MAX)
}

fn facts(recorded: &Recorded) -> String {
    let outline = &recorded.outline;
    let hidden = ["labels", "outputs", "form", "monotonic_to_unix_ns", "frame_bytes_max"];
    let about = outline.about.iter().filter(|(key, _)| !hidden.contains(&key.as_str()));
    let counts = [
        ("frames recorded".to_owned(), recorded.frames.to_string()),
        ("decodes recorded".to_owned(), recorded.decodes.len().to_string()),
        ("status messages".to_owned(), outline.count(Topic::Status).to_string()),
    ];
    let end = outline.end.iter().flatten().map(|(key, value)| (format!("at the end: {key}"), value.clone()));
    let about = about.map(|(key, value)| (key.clone(), value.clone()));
    table(&["", ""], 2, about.chain(counts).chain(end).map(|(key, value)| vec![key, value]))
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::recorded;
    use super::*;

    fn page(recorded: &Recorded) -> String {
        render("a.mcap", recorded, &Summary::of(recorded).unwrap())
    }

    #[test]
    fn the_page_stands_alone_and_has_a_plot_for_everything() {
        let html = page(&recorded());
        assert!(html.matches("<svg").count() >= 8 && html.contains("deadline of 50 ms met"));
        let outside = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for forbidden in ["http", "<script", "<link", "<img", "@import", "url(", "src="] {
            assert!(!outside.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn words_of_the_experimenter_are_escaped() {
        let mut recorded = recorded();
        let mark = serde_json::json!({ "text": "<script>", "t_ns": 7, "unix_ns": 8 });
        recorded.marks.push(serde_json::from_value(mark).unwrap());
        assert!(page(&recorded).contains("&lt;script&gt;"));
        assert!(!page(&recorded).contains("<script"));
    }
}
