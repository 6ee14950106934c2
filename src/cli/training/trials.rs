//! The facts of each trial, as `haltere info` prints them, in the words of a report.
//!
//! What it must never do: compute a fact that `info` would show otherwise.

use crate::dataset::TrialFacts;
use crate::report::data::{ColumnSummary, TrialSummary};

/// A row for each trial.
pub fn summaries(facts: &[TrialFacts]) -> Vec<TrialSummary> {
    facts.iter().map(summary).collect()
}

fn summary(trial: &TrialFacts) -> TrialSummary {
    let second = |frame: usize| frame as f64 / trial.frame_rate_hz;
    let aligned = match trial.first_with_behaviour.zip(trial.last_with_behaviour) {
        Some((first, last)) => format!(
            "{} of {} frames have behaviour, from {:.2} s to {:.2} s",
            trial.with_behaviour,
            trial.frames,
            second(first),
            second(last + 1)
        ),
        None => "no frame has behaviour".to_owned(),
    };
    let labels = trial.labels.iter().filter(|(_, frames)| *frames > 0);
    let labels =
        labels.map(|(name, frames)| format!("{name} {frames}")).chain([format!("unlabelled {}", trial.unlabelled)]);
    let decided = trial.recording.iter().filter(|fact| ["channels", "planes", "rate_hz"].contains(&fact.name));
    let decided = decided.map(|fact| format!("{} {} by {}", fact.name, fact.value, fact.by));
    TrialSummary {
        name: trial.name.clone(),
        imaging: format!(
            "{} frames of {} at {} Hz, {:.2} s",
            trial.frames, trial.shape, trial.frame_rate_hz, trial.imaging_s
        ),
        decided: decided.collect::<Vec<_>>().join("; "),
        behaviour: format!("{} rows, {:.2} s", trial.rows, trial.behaviour_s),
        aligned,
        labels: labels.collect::<Vec<_>>().join(", "),
    }
}

/// The range of each column over all trials; all trials have the same columns.
pub fn columns(facts: &[TrialFacts]) -> Vec<ColumnSummary> {
    let Some(first) = facts.first() else { return Vec::new() };
    let range = |(at, column): (usize, &crate::dataset::ColumnFacts)| {
        let all = || facts.iter().filter_map(|trial| trial.columns.get(at));
        let least = all().map(|column| f64::from(column.least)).fold(f64::INFINITY, f64::min);
        let most = all().map(|column| f64::from(column.most)).fold(f64::NEG_INFINITY, f64::max);
        ColumnSummary { name: column.name.clone(), least, most }
    };
    first.columns.iter().enumerate().map(range).collect()
}
