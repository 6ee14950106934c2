//! An event of the daemon as a line for people, and how serious it is.

use serde::Serialize;
use serde_json::Value;

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
    let fields = header.as_object().into_iter().flatten().filter(|(key, _)| !NOT_LISTED.contains(&key.as_str()));
    let line = fields.fold(name.replace('_', " "), |line, (key, value)| {
        format!("{line}, {key} {}", value.as_str().map_or_else(|| value.to_string(), String::from))
    });
    header["message"].as_str().map_or(line.clone(), |message| format!("{line}: {message}"))
}
