//! The results table: one line per method, one column per question, one table per label share.
//!
//! Why it exists: terminal, report and results folder must show the same numbers. What it must never do: show a mean without its
//! spread and its chance level, or round what goes into a file.

use std::fmt::Write;

use super::questions::Question;
use super::summary::{Metric, Spread, Summary};
use crate::sys::csv::csv_field;

/// The reference method, whose gap is to be closed.
pub const REFERENCE: &str = "simclr";
/// Maximum difference between single- and across-animal that counts as no gap.
const NO_GAP: f64 = 1e-9;

/// A table of text, ready for output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What the numbers are.
    pub caption: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Cells, as many in each row as in the header.
    pub rows: Vec<Vec<String>>,
}

/// The reference method's loss from single-animal to across-animal, all labels; `None` when it was not measured.
pub fn gap(summaries: &[Summary], metric: Metric) -> Option<f64> {
    let single = mean_of(summaries, REFERENCE, Question::SingleAnimal, metric)?;
    Some(single - mean_of(summaries, REFERENCE, Question::AcrossAnimal, metric)?)
}

/// Share of that gap that `method` closes: (across of the method − across of the reference) / gap. 1 = as good across animals
/// as the reference is within; below 0 = worse than the reference. `None` without a gap.
pub fn gap_closed(summaries: &[Summary], method: &str, metric: Metric) -> Option<f64> {
    let gap = gap(summaries, metric).filter(|gap| *gap > NO_GAP)?;
    let across = |method: &str| mean_of(summaries, method, Question::AcrossAnimal, metric);
    Some((across(method)? - across(REFERENCE)?) / gap)
}

fn mean_of(summaries: &[Summary], method: &str, question: Question, metric: Metric) -> Option<f64> {
    let wanted = |s: &&Summary| s.method == method && s.question == question && s.label_share == 1.0;
    summaries.iter().find(wanted).map(|summary| summary.spread(metric).mean)
}

impl Table {
    /// Methods against questions, in percent, of probes that learnt from `label_share` of the labelled bouts: mean ± spread over
    /// animals ± spread over seeds (chance).
    pub fn new(summaries: &[Summary], metric: Metric, label_share: f64) -> Self {
        let own: Vec<Summary> = summaries.iter().filter(|s| s.label_share == label_share).cloned().collect();
        let questions: Vec<Question> =
            Question::ALL.into_iter().filter(|question| own.iter().any(|s| s.question == *question)).collect();
        let all_labels = label_share == 1.0;
        let mut header = vec!["method".to_owned()];
        header.extend(questions.iter().map(|question| {
            let arrow = if question.higher_is_better() { "↑" } else { "↓" };
            format!("{question} {arrow}")
        }));
        if all_labels {
            header.push("gap closed".into());
        }
        let rows = methods(&own).into_iter().map(|method| {
            let mut row = vec![method.to_owned()];
            row.extend(questions.iter().map(|&question| {
                let wanted = |s: &&Summary| s.method == method && s.question == question;
                own.iter().find(wanted).map_or_else(dash, |s| cell(s.spread(metric)))
            }));
            if all_labels {
                let closed = gap_closed(&own, method, metric);
                row.push(closed.map_or_else(dash, |share| format!("{:.0} %", share * 100.0)));
            }
            row
        });
        Self { caption: caption(&own, metric, label_share), rows: rows.collect(), header }
    }

    /// Columns aligned by blanks, for a terminal.
    pub fn to_text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.header]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        };
        let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let mut lines = vec![line(&self.header), rule];
        lines.extend(self.rows.iter().map(line));
        format!("{}\n{}\n", lines.join("\n"), self.caption)
    }

    /// A Markdown table and its caption.
    pub fn to_markdown(&self) -> String {
        let line = |row: &Vec<String>| {
            format!("| {} |", row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let mut lines = vec![line(&self.header), format!("|{}", "---|".repeat(self.header.len()))];
        lines.extend(self.rows.iter().map(line));
        format!("{}\n\n{}\n", lines.join("\n"), self.caption)
    }
}

/// Every number unrounded, one line per method, question, label share and metric; what was not measured is empty.
pub fn to_csv(summaries: &[Summary]) -> String {
    let mut text =
        String::from("method,setting,label_share,metric,mean,sd_animals,sd_seeds,chance,animals,seeds,gap_closed\n");
    let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
    for s in summaries {
        for metric in Metric::ALL {
            let spread = s.spread(metric);
            let of_gap = s.question == Question::AcrossAnimal && s.label_share == 1.0;
            let closed = of_gap.then(|| gap_closed(summaries, &s.method, metric)).flatten();
            let (question, metric, share) = (s.question, metric.name().replace(' ', "_"), s.label_share);
            let [animals, seeds, chance, closed] =
                [spread.sd_animals, spread.sd_seeds, spread.chance, closed].map(number);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{},{question},{share},{metric},{},{animals},{seeds},{chance},{},{},{closed}",
                csv_field(&s.method),
                spread.mean,
                s.animals,
                s.seeds
            );
        }
    }
    text
}

fn methods(summaries: &[Summary]) -> Vec<&str> {
    let mut methods: Vec<&str> = Vec::new();
    for summary in summaries {
        if !methods.contains(&summary.method.as_str()) {
            methods.push(&summary.method);
        }
    }
    methods
}

/// The label shares that occur, the largest first.
pub fn label_shares(summaries: &[Summary]) -> Vec<f64> {
    let mut shares: Vec<f64> = summaries.iter().map(|s| s.label_share).collect();
    shares.sort_by(|a, b| b.total_cmp(a));
    shares.dedup();
    shares
}

fn cell(spread: Spread) -> String {
    let percent = |value: f64| format!("{:.1}", value * 100.0);
    let mut text = percent(spread.mean);
    // With one animal (identity) and several seeds, the first place stays visibly empty.
    match (spread.sd_animals, spread.sd_seeds) {
        (Some(animals), Some(seeds)) => text += &format!(" ± {} ± {}", percent(animals), percent(seeds)),
        (Some(animals), None) => text += &format!(" ± {}", percent(animals)),
        (None, Some(seeds)) => text += &format!(" ± – ± {}", percent(seeds)),
        (None, None) => {}
    }
    spread.chance.map_or(text.clone(), |chance| format!("{text} ({})", percent(chance)))
}

fn dash() -> String {
    "–".into()
}

fn caption(summaries: &[Summary], metric: Metric, label_share: f64) -> String {
    let seeds = summaries.iter().map(|s| s.seeds).max().unwrap_or(0);
    let over_seeds = if seeds > 1 { " ± sd over seeds" } else { "" };
    let seeds = if seeds == 1 { "1 seed".to_owned() } else { format!("up to {seeds} seeds") };
    let gap = gap(summaries, metric).map_or_else(String::new, |gap| {
        format!(
            " Gap = {REFERENCE}'s single-animal − its across-animal, all labels = {:.1} points; closed = what of it a \
             method regains across animals.",
            gap * 100.0
        )
    });
    let (name, share) = (metric.name(), 100.0 * label_share);
    format!("{name} in %, {share:.0} % of the labels: mean ± sd over animals{over_seeds} (chance), {seeds}.{gap}")
}

#[cfg(test)]
mod tests {
    use super::super::summary::{
        summarise,
        tests::{run, score},
    };
    use super::*;

    fn summaries() -> Vec<Summary> {
        let of = |single, across, identity| {
            let both = |question, value: f64| [score(question, "a", value - 0.1), score(question, "b", value + 0.1)];
            let mut scores = Vec::from(both(Question::SingleAnimal, single));
            scores.extend(both(Question::AcrossAnimal, across));
            scores.push(score(Question::Identity, "", identity));
            scores
        };
        summarise(&[run("simclr", 1, of(0.8, 0.5, 0.9)), run("haltere", 1, of(0.85, 0.74, 0.25))])
    }

    #[test]
    fn the_gap_and_what_is_closed_of_it() {
        let s = summaries();
        let metric = Metric::BalancedAccuracy;
        assert!((gap(&s, metric).unwrap() - 0.3).abs() < 1e-12);
        assert!((gap_closed(&s, "haltere", metric).unwrap() - 0.8).abs() < 1e-12);
        assert!(gap_closed(&s, "simclr", metric).unwrap().abs() < 1e-12);
        assert_eq!(gap_closed(&s, "linear", metric), None);
        assert_eq!(gap_closed(&s[3..], "haltere", metric), None);
    }

    #[test]
    fn a_terminal_sees_aligned_columns() {
        let text = Table::new(&summaries(), Metric::BalancedAccuracy, 1.0).to_text();
        let expected = "\
method   single-animal ↑     across-animal ↑     identity ↓   gap closed
────────────────────────────────────────────────────────────────────────
simclr   80.0 ± 14.1 (20.0)  50.0 ± 14.1 (20.0)  90.0 (20.0)  0 %
haltere  85.0 ± 14.1 (20.0)  74.0 ± 14.1 (20.0)  25.0 (20.0)  80 %
balanced accuracy in %, 100 % of the labels: mean ± sd over animals (chance), 1 seed. Gap = simclr's \
single-animal − its across-animal, all labels = 30.0 points; closed = what of it a method regains across animals.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn markdown_has_the_same_cells_and_a_missing_one_is_a_dash() {
        let s = summaries();
        // Without simclr's identity.
        let some: Vec<Summary> =
            s.into_iter().filter(|s| s.method != "simclr" || s.question != Question::Identity).collect();
        let text = Table::new(&some, Metric::Accuracy, 1.0).to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "|---|---|---|---|---|");
        assert_eq!(lines[2], "| simclr | 80.0 ± 14.1 (20.0) | 50.0 ± 14.1 (20.0) | – | 0 % |");
    }

    #[test]
    fn a_file_gets_every_number_unrounded() {
        let csv = to_csv(&summaries());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 3 * 3);
        let across = lines.iter().find(|l| l.starts_with("haltere,across-animal,1,balanced_accuracy,")).unwrap();
        let fields: Vec<&str> = across.split(',').collect();
        assert_eq!(fields.len(), 11);
        assert!((fields[4].parse::<f64>().unwrap() - 0.74).abs() < 1e-12);
        assert!((fields[10].parse::<f64>().unwrap() - 0.8).abs() < 1e-12);
        assert_eq!((fields[6], fields[8], fields[9]), ("", "2", "1"));
    }

    #[test]
    fn several_seeds_have_their_own_spread() {
        let one = |seed, value| run("linear", seed, vec![score(Question::Identity, "", value)]);
        let table = Table::new(&summarise(&[one(1, 0.2), one(2, 0.4)]), Metric::Accuracy, 1.0);
        assert_eq!(table.rows[0][1], "30.0 ± – ± 14.1 (20.0)");
        assert!(table.caption.contains("± sd over seeds (chance), up to 2 seeds."), "{}", table.caption);
    }
}
