//! Bouts, marks and events: tables of time points and intervals. An empty table is never written.

use rust_hdf5::{H5Group, Result};
use serde_json::Value;

use super::bouts;
use super::h5::{Column, INTERVALS, Nwb, TABLE};
use super::timeline::Timeline;
use crate::session::messages::MarkRecord;
use crate::session::rows::Recorded;

/// Writes the decoded bouts.
pub(super) fn bouts(nwb: &Nwb, intervals: &H5Group, bouts: &[bouts::Bout], timeline: Timeline) -> Result<()> {
    if bouts.is_empty() {
        return Ok(());
    }
    let seconds =
        |of: fn(&bouts::Bout) -> u64| Column::Number(bouts.iter().map(|bout| timeline.seconds(of(bout))).collect());
    let columns = [
        ("start_time", "Receipt of the first frame.", seconds(|bout| bout.start_ns)),
        (
            "stop_time",
            "Receipt of the frame that ended it, if that frame followed directly; else one (median) frame period after its last frame.",
            seconds(|bout| bout.stop_ns),
        ),
        ("action", "As published.", Column::Text(bouts.iter().map(|bout| bout.action.clone()).collect())),
        (
            "mean_confidence",
            "Mean of the published confidence over its frames.",
            Column::Number(bouts.iter().map(|bout| bout.confidence).collect()),
        ),
        ("frames", "Number of frames.", Column::Count(bouts.iter().map(|bout| bout.frames as i64).collect())),
    ];
    let description = "Consecutive frames decoded as the same action. A bout consists of decodes of quality ok; it ends at any other decode, a neutral decode, a missing or skipped frame, or a new series.";
    nwb.table(intervals, "decoded_bouts", INTERVALS, description, &columns)
}

/// Writes the experimenter's notes, and what came in at the inlet.
pub(super) fn marks(nwb: &Nwb, acquisition: &H5Group, recorded: &Recorded, timeline: Timeline) -> Result<()> {
    let marks = &recorded.marks;
    if marks.is_empty() {
        return Ok(());
    }
    let times = marks.iter().map(|mark| timeline.seconds(mark.t_ns)).collect();
    let from = |mark: &MarkRecord| mark.inlet.map_or_else(|| "experimenter".to_owned(), |inlet| inlet.from.to_string());
    let error_s = |mark: &MarkRecord| {
        let clock = mark.inlet.and_then(|inlet| inlet.sender_clock);
        clock.map_or(f64::NAN, |clock| f64::from(clock.offset_error_us) * 1e-6)
    };
    let acknowledged = |mark: &MarkRecord| mark.inlet.and_then(|inlet| inlet.decision).map_or(-1, |seq| seq as i64);
    let columns = [
        ("timestamp", "Time of the mark, seconds after the session's start.", Column::Number(times)),
        (
            "text",
            "The note, or the name of what happened.",
            Column::Text(marks.iter().map(|mark| mark.text.clone()).collect()),
        ),
        (
            "from",
            "Who says so: the experimenter, or a sender at the inlet.",
            Column::Text(marks.iter().map(from).collect()),
        ),
        (
            "clock_error",
            "Of a mark with a time of its own: error of its clock's offset, s.",
            Column::Number(marks.iter().map(error_s).collect()),
        ),
        (
            "decision",
            "Number of the decision's message that it acknowledges, or -1.",
            Column::Count(marks.iter().map(acknowledged).collect()),
        ),
    ];
    let description = "The experimenter's notes during the session, and what came in at the inlet.";
    nwb.table(acquisition, "marks", TABLE, description, &columns)
}

/// Writes the daemon's events, and the neutral decodes published by the fail-safe.
pub(super) fn events(nwb: &Nwb, module: &H5Group, recorded: &Recorded, timeline: Timeline) -> Result<()> {
    let events = recorded.events.iter().map(|event| (event.t_pub_ns, event.event.clone(), detail(&event.more)));
    let neutral = recorded.decodes.iter().filter(|decode| decode.decoded.is_none()).map(|decode| {
        let reason = decode.reason.as_deref().unwrap_or("unknown");
        (decode.t_pub_ns, "neutral_decode".to_owned(), format!("quality={} reason={reason}", decode.quality.name()))
    });
    let mut rows: Vec<(u64, String, String)> = events.chain(neutral).collect();
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by_key(|(t_ns, ..)| *t_ns);
    let times = rows.iter().map(|(t_ns, ..)| timeline.seconds(*t_ns)).collect();
    let (names, details) = rows.into_iter().map(|(_, name, detail)| (name, detail)).unzip();
    let columns = [
        ("timestamp", "Publishing, seconds after the session's start.", Column::Number(times)),
        ("event", "Name of the event.", Column::Text(names)),
        ("detail", "Its other fields, key=value.", Column::Text(details)),
    ];
    let description =
        "Events as published by the daemon; neutral_decode is a decode without a frame, published by the fail-safe.";
    nwb.table(module, "events", TABLE, description, &columns)
}

/// All fields but the rig and the message type, which are the same in every row.
fn detail(more: &serde_json::Map<String, Value>) -> String {
    let own = more.iter().filter(|(key, _)| !["source", "htype"].contains(&key.as_str()));
    key_value_words(own)
}

/// `key=value` words, because inspectors of NWB files refuse JSON in a column.
pub(super) fn key_value_words<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let mut words = Vec::new();
    fields.into_iter().for_each(|(key, value)| flat(key, value, &mut words));
    words.join(" ")
}

/// Nested keys, joined by points.
fn flat(key: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(inner, value)| flat(&format!("{key}.{inner}"), value, into)),
        Value::Array(list) => list.iter().enumerate().for_each(|(at, value)| flat(&format!("{key}.{at}"), value, into)),
        Value::String(text) => into.push(format!("{key}={text}")),
        other => into.push(format!("{key}={other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_become_flat_words() {
        let mut words = Vec::new();
        flat("a", &serde_json::json!({ "b": [1, "x"], "c": { "d": null } }), &mut words);
        assert_eq!(words, ["a.b.0=1", "a.b.1=x", "a.c.d=null"]);
    }
}
