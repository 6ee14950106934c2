//! Decisions of rules: a table of all of them, and the outputs as intervals. An empty table is never written.
//!
//! Why it exists: a stimulus is analysed beside the activity that caused it. What it must never do: claim that a stimulus was given: an
//! output is what the daemon asked for.

use rust_hdf5::{H5Group, Result};
use serde_json::Value;

use super::events::key_value_words;
use super::h5::{Column, INTERVALS, Nwb, TABLE};
use super::timeline::Timeline;
use crate::session::messages::DecisionRecord;
use crate::session::rows::Recorded;
use crate::wire::decision::What;

/// Writes every decision, and every end of an output before its time.
pub(super) fn decisions(nwb: &Nwb, module: &H5Group, recorded: &Recorded, timeline: Timeline) -> Result<()> {
    let made = &recorded.decisions;
    if made.is_empty() {
        return Ok(());
    }
    let texts = |of: fn(&DecisionRecord) -> String| Column::Text(made.iter().map(of).collect());
    let columns = [
        (
            "timestamp",
            "Publishing, seconds after the session's start.",
            Column::Number(made.iter().map(|decision| timeline.seconds(decision.t_pub_ns)).collect()),
        ),
        ("rule", "Name of the rule.", texts(|decision| decision.name.clone())),
        ("number", "Decisions of the rule so far.", Column::Count(made.iter().map(|d| d.number as i64).collect())),
        ("what", "output, withheld, or ended: an output that had to end.", texts(|d| d.what.name().to_owned())),
        (
            "reason",
            "Why there was no output, or why it ended; empty for an output.",
            texts(|decision| decision.reason.clone().unwrap_or_default()),
        ),
        (
            "frame",
            "The microscope's number of the frame it was made with.",
            Column::Count(made.iter().map(|decision| decision.frame as i64).collect()),
        ),
        (
            "armed",
            "Whether the rule was armed: armed or disarmed; empty where an output ends.",
            texts(|d| word(d.armed, ["armed", "disarmed"])),
        ),
        (
            "lot",
            "Whether the lot made it a sham trial: sham or not sham; empty where an output ends.",
            texts(|d| word(d.sham, ["sham", "not sham"])),
        ),
        (
            "yoked",
            "Which output of an earlier session it repeats, counted from 1; -1 if a condition made it.",
            Column::Count(made.iter().map(|decision| decision.yoked.map_or(-1, i64::from)).collect()),
        ),
        ("cause", "The values that the conditions compared.", texts(|d| key_value_words(&d.cause))),
        (
            "train",
            "The pulses: delay, width and period in ms, and their count; empty in the end of an output.",
            texts(|d| d.train.as_ref().and_then(Value::as_object).map(key_value_words).unwrap_or_default()),
        ),
    ];
    let description = "What the rules of the configuration decided on the decodes, each published before its decode.";
    nwb.table(module, "decisions", TABLE, description, &columns)
}

fn word(flag: Option<bool>, [yes, no]: [&str; 2]) -> String {
    flag.map_or("", |flag| if flag { yes } else { no }).to_owned()
}

/// An output as the daemon asked for it.
#[derive(Debug, PartialEq)]
pub(super) struct Output<'a> {
    rule: &'a str,
    number: u64,
    start_ns: u64,
    stop_ns: u64,
    /// Why it ended before its time; empty if it did not.
    ended: &'a str,
}

/// The outputs of a session, in the order of their decisions.
pub(super) fn outputs(decisions: &[DecisionRecord]) -> Vec<Output<'_>> {
    let mut outputs: Vec<Output<'_>> = Vec::new();
    for decision in decisions {
        match (decision.what, &decision.train) {
            (What::Output, Some(train)) => {
                let ms = |key: &str| train[key].as_u64().unwrap_or(0);
                let length_ms = ms("count").saturating_sub(1) * ms("period_ms") + ms("width_ms");
                let delay_ns = (train["delay_ms"].as_f64().unwrap_or(0.0) * 1e6) as u64;
                let start_ns = decision.t_pub_ns + delay_ns;
                let stop_ns = start_ns + length_ms * 1_000_000;
                outputs.push(Output { rule: &decision.name, number: decision.number, start_ns, stop_ns, ended: "" });
            }
            (What::Ended, _) => {
                let same = |output: &&mut Output<'_>| output.rule == decision.name && output.number == decision.number;
                if let Some(output) = outputs.iter_mut().rev().find(same) {
                    // It may have ended before its first pulse.
                    output.stop_ns = output.stop_ns.min(decision.t_pub_ns);
                    output.start_ns = output.start_ns.min(output.stop_ns);
                    output.ended = decision.reason.as_deref().unwrap_or("unknown");
                }
            }
            _ => {}
        }
    }
    outputs
}

/// Writes the outputs.
pub(super) fn intervals(nwb: &Nwb, intervals: &H5Group, outputs: &[Output<'_>], timeline: Timeline) -> Result<()> {
    if outputs.is_empty() {
        return Ok(());
    }
    let seconds = |of: fn(&Output<'_>) -> u64| {
        Column::Number(outputs.iter().map(|output| timeline.seconds(of(output))).collect())
    };
    let texts = |of: fn(&Output<'_>) -> String| Column::Text(outputs.iter().map(of).collect());
    let columns = [
        (
            "start_time",
            "Beginning of the first pulse, counted from the publishing of the decision.",
            seconds(|o| o.start_ns),
        ),
        ("stop_time", "End of the last pulse, or the message that ended the output.", seconds(|o| o.stop_ns)),
        ("rule", "Name of the rule.", texts(|output| output.rule.to_owned())),
        ("number", "Number of its decision.", Column::Count(outputs.iter().map(|o| o.number as i64).collect())),
        ("ended", "Why it ended before its time; empty if it did not.", texts(|output| output.ended.to_owned())),
    ];
    let description =
        "Outputs as the daemon asked for them. Whether the stimulus was given, and when, is known to the device alone.";
    nwb.table(intervals, "decided_outputs", INTERVALS, description, &columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(what: &str, number: u64, at_ms: u64) -> DecisionRecord {
        let header = serde_json::json!({
            "name": "walk", "number": number, "what": what, "reason": (what == "ended").then_some("late"), "frame": 1,
            "t_pub_ns": at_ms * 1_000_000, "train": { "delay_ms": 1.5, "width_ms": 10, "period_ms": 100, "count": 3 },
        });
        serde_json::from_value(header).unwrap()
    }

    #[test]
    fn an_output_lasts_to_the_end_of_its_last_pulse_or_to_where_it_had_to_end() {
        let made = [
            decision("output", 1, 1000),
            decision("withheld", 2, 2000),
            decision("output", 3, 3000),
            decision("ended", 3, 3050),
            decision("output", 4, 4000),
            decision("ended", 4, 4001),
        ];
        let found: Vec<_> =
            outputs(&made).iter().map(|o| (o.number, o.start_ns / 1000, o.stop_ns / 1000, o.ended)).collect();
        let expected =
            [(1, 1_001_500, 1_211_500, ""), (3, 3_001_500, 3_050_000, "late"), (4, 4_001_000, 4_001_000, "late")];
        assert_eq!(found, expected);
    }
}
