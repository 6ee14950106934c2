//! Decisions in a session's report: what each rule decided, when, and on what values.
//!
//! Why it exists: whoever judges the experiment must see each stimulus beside what caused it. What it must never do: show a sham trial as a
//! stimulus, or count an output that ended early as given in full.

use std::collections::BTreeMap;

use super::summary::Summary;
use crate::frame::Quality;
use crate::report::decisions::{Mark, RuleView, timeline};
use crate::report::html::{Page, paragraph, table};
use crate::session::messages::{DecisionRecord, DecodeRecord, What};
use crate::session::rows::Recorded;

/// Decisions listed; an hour can have thousands.
const LISTED_MAX: usize = 200;
/// The value of a cause that is drawn: the first of these beginnings that there is.
const DRAWN: [&str; 5] = ["p(", "novelty", "confidence", "light", "shift_peak"];

/// Picture, counts and list; nothing for a session without decisions.
pub(super) fn section(page: &mut Page, recorded: &Recorded, summary: &Summary) {
    if recorded.decisions.is_empty() {
        return;
    }
    let mut rules: BTreeMap<&str, Vec<&DecisionRecord>> = BTreeMap::new();
    recorded.decisions.iter().for_each(|decision| rules.entry(&decision.name).or_default().push(decision));
    let views: Vec<RuleView> = rules.iter().map(|(name, of)| view(name, of, recorded, summary)).collect();
    let caption = "Each line is a decision: over the whole height if an output began, in the upper quarter if it was withheld. Grey: the \
                   value that the condition compared, where there is one.";
    page.figure("decisions", "Decisions", &[timeline(&views, summary.seconds)], caption);
    let head = [
        "rule",
        "withheld, by reason",
        "decisions",
        "outputs",
        "sham",
        "withheld",
        "ended early",
        "output [s], at most",
    ];
    let counts = table(&head, 2, rules.iter().map(|(name, of)| counts(name, of)));
    page.section("decision-counts", "Decisions by rule", &(counts + &paragraph(&listed(recorded.decisions.len()))));
    let rows = recorded.decisions.iter().take(LISTED_MAX).map(|decision| row(decision, summary));
    let head = ["rule", "what", "reason", "cause", "number", "frame", "time [s]"];
    page.section("decision-list", "Decisions one by one", &table(&head, 4, rows));
}

fn listed(all: usize) -> String {
    let of =
        if all > LISTED_MAX { format!(" The first {LISTED_MAX} of {all} are listed below.") } else { String::new() };
    format!("Output is what the pulses of all outputs add up to; what ended early gave less.{of}")
}

/// Decisions and outputs of one rule.
fn counts(name: &str, decisions: &[&DecisionRecord]) -> Vec<String> {
    let count = |what: What| decisions.iter().filter(|decision| decision.what == what).count();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let withheld = decisions.iter().filter(|decision| decision.what == What::Withheld);
    withheld.filter_map(|decision| decision.reason.as_deref()).for_each(|why| *reasons.entry(why).or_default() += 1);
    let sham = reasons.get("sham").copied().unwrap_or(0);
    let reasons = reasons.iter().map(|(why, count)| format!("{why} {count}")).collect::<Vec<_>>().join(", ");
    let pulses_ms = |train: &serde_json::Value| Some(train["width_ms"].as_u64()? * train["count"].as_u64()?);
    let outputs = decisions.iter().filter(|decision| decision.what == What::Output);
    let output_ms: u64 = outputs.filter_map(|decision| pulses_ms(decision.train.as_ref()?)).sum();
    vec![
        name.to_owned(),
        reasons,
        (count(What::Output) + count(What::Withheld)).to_string(),
        count(What::Output).to_string(),
        sham.to_string(),
        (count(What::Withheld) - sham).to_string(),
        count(What::Ended).to_string(),
        format!("{:.3}", output_ms as f64 / 1e3),
    ]
}

fn row(decision: &DecisionRecord, summary: &Summary) -> Vec<String> {
    let value = |value: &serde_json::Value| match (value.as_f64(), value.as_str()) {
        (Some(number), _) => format!("{number:.3}"),
        (_, Some(word)) => word.to_owned(),
        _ => "unknown".to_owned(),
    };
    let cause = decision.cause.iter().map(|(key, of)| format!("{key} = {}", value(of))).collect::<Vec<_>>().join(", ");
    vec![
        decision.name.clone(),
        decision.yoked.map_or(decision.what.name().to_owned(), |of| format!("{}, yoked to {of}", decision.what.name())),
        decision.reason.clone().unwrap_or_default(),
        cause,
        decision.number.to_string(),
        decision.frame.to_string(),
        format!("{:.3}", summary.seconds_of(decision.t_pub_ns)),
    ]
}

/// One rule over the session.
fn view(name: &str, decisions: &[&DecisionRecord], recorded: &Recorded, summary: &Summary) -> RuleView {
    let keys: Vec<&String> = decisions.iter().flat_map(|decision| decision.cause.keys()).collect();
    let drawn = DRAWN.iter().find_map(|begin| keys.iter().find(|key| key.starts_with(begin)));
    let trusted = recorded.decodes.iter().filter(|decode| matches!(decode.quality, Quality::Ok | Quality::Degraded));
    let point = |decode: &DecodeRecord| {
        Some((summary.seconds_of(decode.t_recv_ns?), f64::from(value_of(decode, drawn?, &summary.labels)?)))
    };
    let mark = |decision: &&DecisionRecord| {
        let mark = match (decision.what, decision.reason.as_deref()) {
            (What::Output, _) => Mark::Right,
            (What::Withheld, Some("sham")) => Mark::Sham,
            (What::Withheld, _) => Mark::Withheld,
            (What::Ended, _) => Mark::Ended,
        };
        (summary.seconds_of(decision.t_pub_ns), mark)
    };
    RuleView {
        heading: name.to_owned(),
        value: drawn.map_or_else(String::new, |key| (*key).clone()),
        trace: trusted.filter_map(point).collect(),
        bouts: Vec::new(),
        decisions: decisions.iter().map(mark).collect(),
    }
}

/// A value that conditions compare, of a recorded decode.
fn value_of(decode: &DecodeRecord, key: &str, labels: &[String]) -> Option<f32> {
    let decoded = decode.decoded.as_ref()?;
    match key {
        "novelty" => decoded.novelty,
        "confidence" => decode.confidence,
        "light" => decoded.light,
        "shift_peak" => decode.shift_peak,
        _ => {
            let label = key.strip_prefix("p(")?.strip_suffix(')')?.trim_matches('\'');
            decoded.probs.get(labels.iter().position(|known| known == label)?).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::recorded;
    use super::*;

    fn with_decisions() -> Recorded {
        let mut recorded = recorded();
        let decisions = [
            ("output", None, r#"{"p(walk)":0.75}"#),
            ("withheld", Some("sham"), r#"{"p(walk)":0.5}"#),
            ("withheld", Some("refractory"), "{}"),
            ("ended", Some("no_frame"), "{}"),
        ];
        for (number, (what, reason, cause)) in decisions.into_iter().enumerate() {
            let at_ns = (number as u64 + 1) * 1_000_000_000;
            let header = serde_json::json!({
                "name": "walk", "number": number, "what": what, "reason": reason, "frame": 10 * number, "t_pub_ns": at_ns,
                "cause": serde_json::from_str::<serde_json::Value>(cause).unwrap(),
                "train": { "delay_ms": 0.0, "width_ms": 20, "period_ms": 100, "count": 5 },
            });
            recorded.decisions.push(serde_json::from_value(header).unwrap());
        }
        recorded
    }

    #[test]
    fn a_rule_is_drawn_counted_and_listed_and_a_sham_trial_is_no_output() {
        let recorded = with_decisions();
        let summary = Summary::of(&recorded).unwrap();
        let counted = counts("walk", &recorded.decisions.iter().collect::<Vec<_>>());
        assert_eq!(counted, ["walk", "refractory 1, sham 1", "3", "1", "1", "1", "1", "0.100"]);
        let listed = row(&recorded.decisions[0], &summary);
        assert_eq!(listed, ["walk", "output", "", "p(walk) = 0.750", "0", "0", "1.000"]);
        let view = view("walk", &recorded.decisions.iter().collect::<Vec<_>>(), &recorded, &summary);
        assert_eq!((view.value.as_str(), view.trace.len(), view.trace[0].1 as f32), ("p(walk)", 100, 0.8));
        let marks: Vec<Mark> = view.decisions.iter().map(|(_, mark)| *mark).collect();
        assert_eq!(marks, [Mark::Right, Mark::Sham, Mark::Withheld, Mark::Ended]);
        let mut page = Page::default();
        section(&mut page, &recorded, &summary);
        let html = page.finish("s", "v");
        assert!(html.contains("Decisions by rule") && html.contains("sham trial") && html.contains("<svg"), "{html}");
    }

    #[test]
    fn a_session_without_decisions_has_no_such_section() {
        let recorded = recorded();
        let mut page = Page::default();
        section(&mut page, &recorded, &Summary::of(&recorded).unwrap());
        assert!(!page.finish("s", "v").contains("Decisions"));
    }
}
