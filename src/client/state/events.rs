//! An event or a decision of the daemon as a line for people, and how serious or what it is.

use serde::Serialize;
use serde_json::Value;

use crate::wire::decision::What;
use crate::wire::subscriber::DecisionMessage;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Info,
    Warn,
    Bad,
}

/// How serious the event of this header is.
pub(super) fn level_of(event: &Value) -> Level {
    match event["event"].as_str().unwrap_or_default() {
        "fault" | "stale" | "drift" | "placement_poor" | "shutdown" => Level::Bad,
        "ready" | "series_began" | "series_ended" | "request" | "recovered" | "frame_rate_back" | "drift_back"
        | "frames_trusted" | "focus_back" | "placement" | "warming_up" | "animal_known" | "animal_saved"
        | "file_back" | "outlet_back" | "swapped" | "record_began" | "record_ended" | "mark" | "decision_switched" => {
            Level::Info
        }
        _ => Level::Warn,
    }
}

/// An event for people: its name, its own fields, and its sentence if it has one.
pub(crate) fn event_line(header: &Value) -> String {
    const NOT_LISTED: [&str; 6] = ["htype", "event", "source", "t_pub_ns", "clock", "message"];
    let name = header["event"].as_str().unwrap_or("event");
    if let ("mark", Some(text)) = (name, header["text"].as_str()) {
        return format!("mark {}: {text}", header["number"]);
    }
    let fields = header.as_object().into_iter().flatten().filter(|(key, _)| !NOT_LISTED.contains(&key.as_str()));
    let line = fields.fold(name.replace('_', " "), |line, (key, value)| {
        format!("{line}, {key} {}", value.as_str().map_or_else(|| value.to_string(), String::from))
    });
    header["message"].as_str().map_or(line.clone(), |message| format!("{line}: {message}"))
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fate {
    Output,
    /// A sham trial: withheld by lot.
    Sham,
    /// Withheld for another reason.
    Withheld,
    /// An output that had to end.
    Ended,
}

impl Fate {
    pub(crate) fn of(decision: &DecisionMessage) -> Self {
        match decision.what {
            What::Output => Self::Output,
            What::Withheld if decision.reason.as_deref() == Some("sham") => Self::Sham,
            What::Withheld => Self::Withheld,
            What::Ended => Self::Ended,
        }
    }
}

/// A decision for people: what became of it, and the values that made it.
pub(crate) fn decision_line(decision: &DecisionMessage) -> String {
    let DecisionMessage { name, number, frame, reason, yoked, .. } = decision;
    let because = reason.as_deref().map_or(String::new(), |reason| format!(" ({})", reason.replace('_', " ")));
    let fate = match Fate::of(decision) {
        Fate::Output => "output".to_owned(),
        Fate::Sham => "SHAM trial, no output".to_owned(),
        Fate::Withheld => format!("no output{because}"),
        Fate::Ended => format!("output ended{because}"),
    };
    let cause = cause_text(&decision.cause);
    let yoked = yoked.map_or(String::new(), |output| format!(", yoked to output {output}"));
    format!(
        "decision {name} {number} at frame {frame}: {fate}{yoked}{}{cause}",
        if cause.is_empty() { "" } else { "; " }
    )
}

/// The values that made a decision, to two digits.
fn cause_text(cause: &serde_json::Map<String, Value>) -> String {
    let value = |value: &Value| match (value.as_f64(), value.as_str()) {
        (Some(number), _) => format!("{number:.2}"),
        (_, Some(word)) => word.to_owned(),
        _ => "unknown".to_owned(),
    };
    cause.iter().map(|(key, of)| format!("{key} {}", value(of))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sham_trial_is_called_one_and_a_decision_shows_what_made_it() {
        let line = |what: &str, reason: Option<&str>, cause: Value| {
            let header = serde_json::json!({
                "seq": 0, "name": "walk", "number": 3, "what": what, "reason": reason, "frame": 12, "t_pub_ns": 1, "cause": cause,
            });
            decision_line(&serde_json::from_value(header).unwrap())
        };
        let cause = serde_json::json!({ "p(walking)": 0.9123, "novelty": null, "quality": "ok" });
        let shown = line("output", None, cause);
        assert!(shown.starts_with("decision walk 3 at frame 12: output; "), "{shown}");
        for words in ["p(walking) 0.91", "novelty unknown", "quality ok"] {
            assert!(shown.contains(words), "{words} is not in {shown}");
        }
        let none = || serde_json::json!({});
        assert_eq!(line("withheld", Some("sham"), none()), "decision walk 3 at frame 12: SHAM trial, no output");
        assert_eq!(
            line("withheld", Some("dose_minute"), none()),
            "decision walk 3 at frame 12: no output (dose minute)"
        );
        assert_eq!(line("ended", Some("no_frame"), none()), "decision walk 3 at frame 12: output ended (no frame)");
    }
}
