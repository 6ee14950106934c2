//! The report as one self-contained HTML file: no scripts, and no fonts or images from elsewhere.
//!
//! Why it exists: it is mailed, archived and opened on the rig's computer without a network. What it must never do: trust a name
//! that comes from data (everything is escaped), or show a score without its chance level and its look-ahead.

use std::fmt::{Display, Write};

use quick_xml::escape::escape;

use super::data::{
    Calibration, Confusion, DataSummary, LookAhead, Method, ReportData, Reproduce, ScoreRow, Spread, TrialSummary,
};
use super::plot;

const STYLE: &str = include_str!("report.css");

/// The whole file.
pub fn render(report: &ReportData) -> String {
    let mut page = Page::default();
    page.list("warnings", "Warnings", &report.warnings);
    page.plots(report);
    page.scores(&report.scores, report.look_ahead.as_ref());
    if let Some(method) = &report.method {
        page.method(method);
    }
    if let Some(data) = &report.data {
        page.data(data);
    }
    if let Some(look_ahead) = &report.look_ahead {
        page.section("look-ahead", "Look-ahead", &paragraph(&look_ahead_text(look_ahead)));
    }
    if let Some(reproduce) = &report.reproduce {
        page.reproduce(reproduce);
    }
    page.finish(&report.title, &report.summary)
}

/// How far windows look ahead, in words.
pub fn look_ahead_text(look_ahead: &LookAhead) -> String {
    let LookAhead { window_frames, frames, seconds } = look_ahead;
    if *frames == 0 {
        format!(
            "None: each window of {window_frames} frames ends at the current frame. Live decoding is as accurate as shown here."
        )
    } else {
        format!(
            "{frames} of the {window_frames} frames of a window come after the time point that is decoded ({seconds:.2} s). Live \
             decodes are delayed by the same time; do not compare this accuracy with that of causal windows."
        )
    }
}

/// Per cent with one decimal; `–` for a missing value.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}", share * 100.0) } else { "–".into() }
}

/// `71.2 ± 3.4`, in per cent.
pub(super) fn spread_text(spread: &Spread) -> String {
    if spread.count > 1 && spread.sd.is_finite() {
        format!("{} ± {}", percent(spread.mean), percent(spread.sd))
    } else {
        percent(spread.mean)
    }
}

/// Sections written so far, and the list of contents.
#[derive(Default)]
pub(crate) struct Page {
    contents: String,
    body: String,
}

impl Page {
    /// `content` is HTML.
    pub(crate) fn section(&mut self, id: &str, heading: &str, content: &str) {
        let heading = escape(heading);
        self.contents += &format!("<a href=\"#{id}\">{heading}</a>\n");
        self.body += &format!("<section id=\"{id}\"><h2>{heading}</h2>\n{content}</section>\n");
    }

    pub(crate) fn figure(&mut self, id: &str, heading: &str, svgs: &[String], caption: &str) {
        let mut figure = String::from("<figure>\n");
        svgs.iter().for_each(|svg| figure += &format!("<div class=\"plot\">{svg}</div>\n"));
        figure += &format!("<figcaption>{}</figcaption></figure>\n", escape(caption));
        self.section(id, heading, &figure);
    }

    pub(crate) fn list(&mut self, id: &str, heading: &str, items: &[String]) {
        if !items.is_empty() {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
            self.section(id, heading, &format!("<ul>{items}</ul>\n"));
        }
    }

    fn scores(&mut self, scores: &[ScoreRow], look_ahead: Option<&LookAhead>) {
        if scores.is_empty() {
            return;
        }
        let head = [
            "method",
            "protocol",
            "labels [%]",
            "accuracy [%]",
            "balanced accuracy [%]",
            "macro-F1 [%]",
            "chance [%]",
            "n",
        ];
        let rows = scores.iter().map(|row| {
            let arrow = if row.lower_is_better { "↓" } else { "↑" };
            vec![
                row.method.clone(),
                format!("{} {arrow}", row.protocol),
                format!("{:.0}", row.labels_percent),
                spread_text(&row.accuracy),
                spread_text(&row.balanced_accuracy),
                spread_text(&row.macro_f1),
                percent(row.chance),
                row.balanced_accuracy.count.to_string(),
            ]
        });
        let ahead = look_ahead.map_or("Look-ahead: not stated.".into(), |l| {
            if l.frames == 0 {
                "Look-ahead: none (causal).".into()
            } else {
                format!("Look-ahead: {} frames, {:.2} s.", l.frames, l.seconds)
            }
        });
        let note = format!(
            "Mean ± standard deviation over n animals and seeds. Chance is the balanced accuracy with permuted labels. ↑: higher \
             is better, ↓: lower is better. {ahead}"
        );
        self.section("scores", "Scores", &(table(&head, 2, rows) + &paragraph(&note)));
    }

    fn method(&mut self, method: &Method) {
        let rows = method.settings.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
        let settings = if method.settings.is_empty() { String::new() } else { table(&["setting", "value"], 2, rows) };
        self.section("method", &format!("Method: {}", method.name), &(paragraph(&method.description) + &settings));
    }

    fn data(&mut self, data: &DataSummary) {
        let facts = [
            ("source", data.name.clone()),
            ("input", data.input.clone()),
            ("frame rate", format!("{:.2} Hz", data.frame_rate_hz)),
            ("behaviour rate", format!("{:.2} Hz", data.behaviour_rate_hz)),
            ("preprocessing", data.preprocessing.clone()),
            ("split", data.split.clone()),
            ("licence", data.licence.clone()),
            ("SHA-256", data.sha256.clone()),
        ];
        let facts = facts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(k, v)| vec![k.into(), v]);
        let mut head = vec!["animal", "trials", "frames", "usable"];
        head.extend(data.labels.iter().map(String::as_str));
        head.push("unlabelled");
        let rows = data.animals.iter().map(|animal| {
            let mut row = vec![
                animal.name.clone(),
                animal.trials.to_string(),
                thousands(animal.frames),
                thousands(animal.usable),
            ];
            row.extend(balance(animal.usable, &animal.per_label, data.labels.len()));
            row
        });
        let animals = table(&head, 1, rows.chain([total_row(data)]));
        let note = "Action columns: percentage of the usable frames; “–” if the animal has none.";
        self.section(
            "data",
            "Data",
            &(table(&["", ""], 2, facts) + "<div class=\"wide\">" + &animals + "</div>" + &paragraph(note)),
        );
        self.trials(data);
    }

    /// What was read of every trial: a wrong column or alignment is seen here.
    fn trials(&mut self, data: &DataSummary) {
        if data.trials.is_empty() {
            return;
        }
        let head = ["trial", "imaging", "decided by", "behaviour", "aligned", "labels"];
        let rows = data.trials.iter().map(|trial| {
            let TrialSummary { name, imaging, decided, behaviour, aligned, labels } = trial.clone();
            vec![name, imaging, decided, behaviour, aligned, labels]
        });
        let columns = data
            .columns
            .iter()
            .map(|column| vec![column.name.clone(), format!("{:.4}", column.least), format!("{:.4}", column.most)]);
        let note = "Columns of behaviour, with their range over all trials. Frame numbers or time stamps among them would be no behaviour.";
        self.section(
            "trials",
            "Trials as they were read",
            &("<div class=\"wide\">".to_owned()
                + &table(&head, head.len(), rows)
                + "</div>"
                + &paragraph(note)
                + &table(&["column", "least", "largest"], 1, columns)),
        );
    }

    /// What came out first, then how it came about.
    fn plots(&mut self, report: &ReportData) {
        if let Some(comparison) = &report.comparison {
            let caption = format!(
                "Measure: {}. All methods on the same animals and seeds. ↑: higher is better, ↓: lower is better.",
                comparison.measure
            );
            self.figure("comparison", "Comparison of methods", &[plot::comparison(comparison)], &caption);
        }
        if let Some(per_animal) = &report.per_animal {
            let caption = format!("Measure: {}. One dot per seed.", per_animal.measure);
            self.figure("animals", "Per-animal accuracy", &[plot::per_animal(per_animal)], &caption);
        }
        if let Some(view) = &report.embedding {
            let caption = format!(
                "{} of {} samples of {} dimensions, projected onto their principal components; rare actions are over-represented. \
                 A good embedding forms groups by action and none by animal.",
                view.points.len(),
                view.moments,
                view.dimensions
            );
            self.figure("embedding", "Embedding", &[plot::embedding_2d(view), plot::embedding_3d(view)], &caption);
        }
        if let Some(confusion) = &report.confusion {
            self.figure("confusion", "Confusion matrix", &[plot::confusion(confusion)], &confusion_text(confusion));
        }
        if let Some(calibration) = &report.calibration {
            self.figure(
                "calibration",
                "Calibration",
                &[plot::calibration(calibration)],
                &calibration_text(calibration),
            );
        }
        if let Some(loss) = &report.loss {
            let caption = "Loss on training batches and on held-out samples. Cosine similarity should rise for pairs from the same time \
                           point, not for pairs from different ones.";
            self.figure("loss", "Training", &[plot::loss_curves(loss)], caption);
        }
        if !report.domain_gap.is_empty() {
            let caption = "Squared maximum mean discrepancy (MMD²) between animals; 0 means identical distributions.";
            self.figure("domain-gap", "Domain gap", &[plot::domain_gap(&report.domain_gap)], caption);
        }
        if !report.ablation.is_empty() {
            let plots: Vec<String> = report.ablation.iter().map(plot::ablation).collect();
            let caption = "Each bar is a training run with one component left out; mean ± standard deviation over animals and seeds.";
            self.figure("ablation", "Ablation", &plots, caption);
        }
    }

    fn reproduce(&mut self, reproduce: &Reproduce) {
        let facts = [
            ("seed".to_owned(), reproduce.seed.to_string()),
            ("haltere".to_owned(), reproduce.program_version.clone()),
            ("git revision".to_owned(), revision_text(&reproduce.git_revision)),
            ("machine".to_owned(), reproduce.host.clone()),
        ];
        let hashes = reproduce.hashes.iter().map(|(name, hash)| (format!("SHA-256 of {name}"), hash.clone()));
        let rows = facts.into_iter().chain(hashes).map(|(name, value)| vec![name, value]);
        let command = format!("<pre>{}</pre>\n", escape(&reproduce.command));
        self.section("reproduce", "How to reproduce", &(command + &table(&["", ""], 2, rows)));
    }

    pub(crate) fn finish(self, title: &str, summary: &str) -> String {
        let title = escape(title);
        let Self { contents, body } = self;
        let summary = if summary.is_empty() { String::new() } else { paragraph(summary) };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n{summary}</header>\n\
             <nav>{contents}</nav>\n<main>\n{body}</main>\n</body>\n</html>\n"
        )
    }
}

/// The revision of the folder that the program was called in, which need not be a checkout.
fn revision_text(revision: &str) -> String {
    if revision == "unknown" { "none: not called in a git checkout".into() } else { revision.into() }
}

fn confusion_text(confusion: &Confusion) -> String {
    let note = if confusion.note.is_empty() { String::new() } else { format!(" Samples: {}.", confusion.note) };
    format!("Rows: true action; columns: decoded action. Each row sums to 100 %.{note}")
}

fn calibration_text(calibration: &Calibration) -> String {
    let note = if calibration.note.is_empty() { String::new() } else { format!(" Samples: {}.", calibration.note) };
    format!("ECE is the expected calibration error: the mean difference between confidence and accuracy.{note}")
}

/// Shares of the usable frames, and of those without a label.
fn balance(usable: u64, per_label: &[u64], labels: usize) -> Vec<String> {
    let share = |count: u64| {
        if count == 0 || usable == 0 { "–".into() } else { format!("{:.1}", count as f64 / usable as f64 * 100.0) }
    };
    let labelled: u64 = per_label.iter().sum();
    let each = (0..labels).map(|i| share(per_label.get(i).copied().unwrap_or(0)));
    each.chain([share(usable.saturating_sub(labelled))]).collect()
}

fn total_row(data: &DataSummary) -> Vec<String> {
    let sum = |of: fn(&super::data::AnimalSummary) -> u64| data.animals.iter().map(of).sum::<u64>();
    let per_label: Vec<u64> = (0..data.labels.len())
        .map(|i| data.animals.iter().map(|a| a.per_label.get(i).copied().unwrap_or(0)).sum())
        .collect();
    let trials: usize = data.animals.iter().map(|a| a.trials).sum();
    let usable = sum(|a| a.usable);
    let mut row = vec!["all".into(), trials.to_string(), thousands(sum(|a| a.frames)), thousands(usable)];
    row.extend(balance(usable, &per_label, data.labels.len()));
    row
}

/// `12 345`, with narrow spaces that do not break.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// The first `left` columns are texts, the others numbers.
pub(crate) fn table<C: Display>(head: &[&str], left: usize, rows: impl Iterator<Item = Vec<C>>) -> String {
    let mut html = String::from("<table>\n");
    let class = |column: usize| if column < left { "" } else { " class=\"number\"" };
    if head.iter().any(|cell| !cell.is_empty()) {
        html += "<thead><tr>";
        head.iter().enumerate().for_each(|(i, cell)| html += &format!("<th{}>{}</th>", class(i), escape(*cell)));
        html += "</tr></thead>\n";
    }
    html += "<tbody>\n";
    for row in rows {
        html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            // Writing to a String cannot fail.
            write!(html, "<td{}>{}</td>", class(column), escape(cell.to_string())).ok();
        }
        html += "</tr>\n";
    }
    html + "</tbody></table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_file_asks_for_nothing_from_outside_and_holds_no_script() {
        let html = render(&example::report());
        let outside = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for forbidden in ["http", "//", "<script", "<link", "<img", "@import", "url(", "src="] {
            assert!(!outside.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_section_is_there_and_every_entry_of_the_contents_leads_to_one() {
        let html = render(&example::report());
        assert_eq!(html.matches("<section id=").count(), 15);
        for link in html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(html.contains(&format!("<section id=\"{link}\">")), "{link}");
        }
        assert_eq!(html.matches("<svg ").count(), 10);
    }

    #[test]
    fn figures_come_before_tables_and_the_result_before_how_it_came_about() {
        let html = render(&example::report());
        let at = |what: &str| html.find(what).unwrap_or_else(|| panic!("no {what}"));
        assert!(html.rfind("<figure").unwrap() < at("<table"));
        assert!(at("id=\"comparison\"") < at("id=\"embedding\"") && at("id=\"embedding\"") < at("id=\"loss\""));
    }

    #[test]
    fn a_revision_that_is_not_known_is_said_in_words() {
        let mut report = example::report();
        report.reproduce.as_mut().unwrap().git_revision = "unknown".into();
        let html = render(&report);
        assert!(html.contains("not called in a git checkout") && html.contains(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn what_is_not_there_has_no_section() {
        let html = render(&ReportData { title: "nothing".into(), ..ReportData::default() });
        assert!(!html.contains("<section") && html.contains("<h1>nothing</h1>"));
    }

    #[test]
    fn texts_from_data_and_command_line_are_escaped() {
        let mut report = example::report();
        let evil = "<script>alert('x')</script>\"&";
        report.title = evil.into();
        report.summary = evil.into();
        report.warnings = vec![evil.into()];
        report.scores[0].method = evil.into();
        let data = report.data.as_mut().unwrap();
        data.animals[0].name = evil.into();
        data.labels[0] = evil.into();
        report.method.as_mut().unwrap().settings[0].1 = evil.into();
        report.reproduce.as_mut().unwrap().command = evil.into();
        report.confusion.as_mut().unwrap().labels[0] = evil.into();
        assert!(!render(&report).contains("<script"));
    }

    /// All of it but the doctype is also XML, so an unclosed tag is found.
    #[test]
    fn tags_are_closed() {
        let html = render(&example::report());
        let body = html.split_once("<body>").unwrap().1.split_once("</body>").unwrap().0.to_owned();
        let mut reader = quick_xml::Reader::from_str(&body);
        while !matches!(reader.read_event().unwrap(), quick_xml::events::Event::Eof) {}
    }

    #[test]
    fn a_score_that_does_not_exist_is_a_dash_and_look_ahead_is_said() {
        assert_eq!(spread_text(&Spread { mean: f64::NAN, sd: f64::NAN, count: 0 }), "–");
        assert_eq!(spread_text(&Spread { mean: 0.7123, sd: 0.034, count: 24 }), "71.2 ± 3.4");
        let text = look_ahead_text(&LookAhead { window_frames: 32, frames: 16, seconds: 1.0 });
        assert!(text.contains("16 of the 32") && text.contains("1.00 s"), "{text}");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }
}
