//! The outputs that a rule gave in a session, as a table of times for the key `yoke` of another animal's rule.
//!
//! What it must never do: list what was not given: sham trials, and outputs that ended before their first pulse.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;

use super::seen::seen_in;
use crate::decide::{Decider, Rules, YOKE_OUTPUTS_MAX};
use crate::frame::ModelTag;
use crate::session::messages::{DecisionRecord, What};
use crate::session::rows::Recorded;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::write_whole;

/// Writes what `asked`, RULE=FILE.csv, means.
///
/// # Errors
/// A rule that gave no output, or more than a yoke may hold; a file that cannot be written.
pub(super) fn write(asked: &str, recorded: &Recorded, model: &ModelTag, rate_hz: f64) -> anyhow::Result<()> {
    let refuse = |code: ExitCode, why: String| Failure { code, what: format!("--yoke {asked}: {why}") };
    let (rule, path) =
        asked.split_once('=').ok_or_else(|| refuse(ExitCode::Usage, "write RULE=FILE.csv".to_owned()))?;
    let seconds = seconds_of(recorded, model, rate_hz)?;
    let given: Vec<(f64, u64)> = recorded
        .decisions
        .iter()
        .filter(|decision| decision.name == rule && decision.what == What::Output)
        .filter_map(|output| began(output, &recorded.decisions, &seconds))
        .collect();
    if given.is_empty() {
        let why = format!("the rule {rule:?} gave no output in this session");
        return Err(refuse(ExitCode::Source, why).into());
    }
    if given.len() > YOKE_OUTPUTS_MAX {
        let why = format!("{} outputs; a yoke may hold {YOKE_OUTPUTS_MAX}", given.len());
        return Err(refuse(ExitCode::Source, why).into());
    }
    let rows: String = given.iter().map(|(time_s, number)| format!("{time_s:.6},{number}\n")).collect();
    let written = write_whole(Path::new(path), format!("time_s,number\n{rows}").as_bytes());
    written.with_context(|| refuse(ExitCode::Sink, "cannot be written".to_owned()))
}

/// The time of every decode by its number, s since the first, as rules count it.
fn seconds_of(recorded: &Recorded, model: &ModelTag, rate_hz: f64) -> anyhow::Result<HashMap<u64, f64>> {
    let mut clock = Decider::new(&Rules::default(), model, rate_hz)?;
    let mut times = HashMap::new();
    for (record, seen) in recorded.decodes.iter().filter_map(|record| Some((record, seen_in(record)?))) {
        clock.step(&seen, &mut Vec::new());
        times.insert(record.seq, clock.now_ns() as f64 / 1e9);
    }
    Ok(times)
}

/// When the first pulse of an output began, s, and the number of its decision; `None` if it had to end before.
fn began(output: &DecisionRecord, all: &[DecisionRecord], seconds: &HashMap<u64, f64>) -> Option<(f64, u64)> {
    let delay_s = output.train.as_ref()?["delay_ms"].as_f64()? / 1e3;
    let end = all
        .iter()
        .find(|other| other.what == What::Ended && other.name == output.name && other.number == output.number);
    if let Some(end) = end {
        let lasted_s = end.t_pub_ns.saturating_sub(output.t_pub_ns) as f64 / 1e9;
        if lasted_s <= delay_s {
            return None;
        }
        tracing::warn!(
            "output {} of {} ended early ({}); as a yoke it is given in full",
            output.number,
            output.name,
            end.reason.as_deref().unwrap_or("unknown")
        );
    }
    Some((seconds.get(&output.decode_seq?)? + delay_s, output.number))
}
