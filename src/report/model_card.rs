//! The model card: what a model is for, what it was measured at, and where it must not be trusted.
//!
//! Why it exists: a model file travels without its run. What it must never do: leave a question out because nobody answered it
//! (it then says `not stated`), or show a score without chance, spread and look-ahead.

use std::fmt::Write;

use super::data::{Calibration, DataSummary, LookAhead, ScoreRow};
use super::html::{look_ahead_text, percent, spread_text};

/// What a model card says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCard {
    /// Name of the model, as in its manifest.
    pub name: String,
    /// What it is, in a paragraph.
    pub description: String,
    /// What it is meant for, point by point.
    pub intended_use: Vec<String>,
    /// When not to use it, point by point.
    pub not_for: Vec<String>,
    /// What it was trained on.
    pub data: DataSummary,
    /// How far windows looked into the future; `None` = unknown.
    pub look_ahead: Option<LookAhead>,
    /// Measured scores.
    pub scores: Vec<ScoreRow>,
    /// Calibration of the probabilities.
    pub calibration: Option<Calibration>,
    /// Known limits, point by point.
    pub limits: Vec<String>,
    /// The command that made it.
    pub command: String,
    /// Seed.
    pub seed: u64,
    /// Program's version and revision.
    pub made_by: String,
    /// Licence of the model itself.
    pub licence: String,
    /// SHA-256 of the ONNX file.
    pub sha256: String,
}

impl ModelCard {
    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut card = format!("# Model card: {}\n\n{}\n", line(&self.name), stated(&self.description));
        section(&mut card, "Intended use", &points(&self.intended_use));
        section(&mut card, "When not to use it", &points(&self.not_for));
        section(&mut card, "Training data", &training_data(&self.data));
        section(&mut card, "Preprocessing", &stated(&self.data.preprocessing));
        section(&mut card, "Look-ahead", &self.look_ahead.as_ref().map_or("not stated".into(), look_ahead_text));
        section(&mut card, "Metrics", &self.metrics());
        section(&mut card, "Calibration", &self.calibration.as_ref().map_or_else(uncalibrated, calibrated));
        section(&mut card, "Limits", &points(&self.limits));
        section(&mut card, "Origin", &self.origin());
        card
    }

    fn metrics(&self) -> String {
        if self.scores.is_empty() {
            return "not measured".into();
        }
        let mut table = String::from(
            "| method | protocol | labels | accuracy [%] | balanced accuracy [%] | macro-F1 [%] | chance [%] | n |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.scores {
            let arrow = if row.lower_is_better { "↓" } else { "↑" };
            let (method, protocol) = (cell(&row.method), cell(&row.protocol));
            let [accuracy, balanced, f1] = [&row.accuracy, &row.balanced_accuracy, &row.macro_f1].map(spread_text);
            let (labels, chance, n) = (row.labels_percent, percent(row.chance), row.balanced_accuracy.count);
            // Writing to a String cannot fail.
            writeln!(
                table,
                "| {method} | {protocol} {arrow} | {labels:.0} % | {accuracy} | {balanced} | {f1} | {chance} | {n} |"
            )
            .ok();
        }
        let ahead = match self.look_ahead {
            None => "look-ahead not stated".into(),
            Some(LookAhead { frames: 0, .. }) => "no look-ahead (causal)".into(),
            Some(LookAhead { frames, seconds, .. }) => format!("look-ahead {frames} frames ({seconds:.2} s)"),
        };
        table
            + &format!(
                "\nMean ± standard deviation over n animals and seeds; {ahead}. Chance: balanced accuracy with permuted labels. ↓: lower \
             is better.\n"
            )
    }

    fn origin(&self) -> String {
        let lines = [
            ("made by", stated(&self.made_by)),
            (
                "command",
                if self.command.is_empty() { "not stated".into() } else { format!("`{}`", line(&self.command)) },
            ),
            ("seed", self.seed.to_string()),
            ("licence of the model", stated(&self.licence)),
            ("licence of the data", stated(&self.data.licence)),
            ("SHA-256 of the data", code(&self.data.sha256)),
            ("SHA-256 of the model", code(&self.sha256)),
        ];
        lines.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect()
    }
}

fn section(card: &mut String, heading: &str, content: &str) {
    // Writing to a String cannot fail.
    write!(card, "\n## {heading}\n\n{}\n", content.trim_end()).ok();
}

fn training_data(data: &DataSummary) -> String {
    let trials: usize = data.animals.iter().map(|a| a.trials).sum();
    let frames: u64 = data.animals.iter().map(|a| a.frames).sum();
    let usable: u64 = data.animals.iter().map(|a| a.usable).sum();
    let counts = data.labels.iter().enumerate().map(|(index, label)| {
        let of = |per_label: &[u64]| per_label.get(index).copied().unwrap_or(0);
        let moments: u64 = data.animals.iter().map(|a| of(&a.per_label)).sum();
        let without = data.animals.iter().filter(|a| of(&a.per_label) == 0).count();
        let share = if usable == 0 { f64::NAN } else { moments as f64 / usable as f64 };
        format!("| {} | {moments} | {} | {without} |\n", cell(label), percent(share))
    });
    let table = if data.labels.is_empty() {
        "No labels.\n".into()
    } else {
        let head = "| action | frames | share [%] | animals without it |\n|---|---|---|---|\n";
        head.to_owned() + &counts.collect::<String>()
    };
    format!(
        "{}\n\n- {} animals, {trials} trials, {frames} frames ({usable} usable) at {:.2} Hz; behaviour at {:.2} Hz\n- input: {}\n\
         - split: {}\n\n{table}",
        stated(&data.name),
        data.animals.len(),
        data.frame_rate_hz,
        data.behaviour_rate_hz,
        stated(&data.input),
        stated(&data.split)
    )
}

fn uncalibrated() -> String {
    "Not calibrated: probabilities rank the actions, but their values mean nothing.".into()
}

fn calibrated(calibration: &Calibration) -> String {
    let (before, after) = (percent(calibration.before.expected_error), percent(calibration.after.expected_error));
    let on = if calibration.note.is_empty() { String::new() } else { format!(", on: {}", line(&calibration.note)) };
    format!(
        "Logits are divided by a temperature of {:.3}. Expected calibration error {before} % before, {after} % after{on}.",
        calibration.temperature
    )
}

fn points(items: &[String]) -> String {
    if items.is_empty() { "not stated".into() } else { items.iter().map(|i| format!("- {}\n", line(i))).collect() }
}

fn stated(text: &str) -> String {
    if text.trim().is_empty() { "not stated".into() } else { line(text) }
}

fn code(hash: &str) -> String {
    if hash.is_empty() { "not stated".into() } else { format!("`{}`", line(hash)) }
}

/// A text that stays within its line: a name from data can begin neither a heading nor a list.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "&lt;")
}

/// The same within a cell of a table.
fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn card() -> ModelCard {
        let report = example::report();
        ModelCard {
            name: "fly".into(),
            description: "A small decoder of fly behaviour.".into(),
            intended_use: vec!["demonstrations".into()],
            not_for: vec!["real flies: it saw simulated ones only".into()],
            data: report.data.unwrap(),
            look_ahead: report.look_ahead,
            scores: report.scores,
            calibration: report.calibration,
            limits: vec!["fly-7 never pushed".into()],
            command: "haltere train".into(),
            seed: 1,
            made_by: "haltere 0.1.0".into(),
            licence: "CC0".into(),
            sha256: "ab12".into(),
        }
    }

    #[test]
    fn a_card_answers_every_question() {
        let text = card().to_markdown();
        for expected in [
            "# Model card: fly",
            "## Intended use",
            "## When not to use it\n\n- real flies",
            "8 animals, 24 trials",
            "| pushing |",
            "| haltere | unseen animal ↑ | 100 % |",
            "no look-ahead (causal)",
            "temperature of 1.830",
            "licence of the data: CC0",
            "SHA-256 of the model: `ab12`",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("not stated"));
    }

    #[test]
    fn what_nobody_said_is_said_to_be_missing() {
        let text = ModelCard::default().to_markdown();
        assert!(text.matches("not stated").count() >= 8, "{text}");
        assert!(text.contains("not measured") && text.contains("Not calibrated"));
    }

    #[test]
    fn names_from_data_break_neither_table_nor_heading() {
        let mut card = card();
        card.scores[0].method = "a|b\n# c".into();
        card.data.labels[0] = "<b>".into();
        let text = card.to_markdown();
        assert!(text.contains("a\\|b # c") && !text.contains("\n# c") && !text.contains("<b>"));
    }
}
