//! What a decode holds at each quality: `clients/PROTOCOL.md` says which keys are there and which are not, exactly when it matters.
//!
//! Method: the document's table is read, and a real daemon is brought to every quality: it warms up, decodes, loses frames, is flooded until its
//! decodes are late, is left by its sender and is shut down. Each decode that was heard is held against its column.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::corridor::{RAW, Small, write_raw};
use crate::support::process as support;

use std::collections::BTreeMap;

use support::{Listener, Message, Process, Rig};

const DOCUMENT: &str = include_str!("../../clients/PROTOCOL.md");
/// The columns of the table, in their order.
const COLUMNS: [&str; 4] = ["decoded", "warmup", "stale decode", "fail-safe"];

/// For each key its cells.
fn table() -> BTreeMap<String, Vec<String>> {
    let under = DOCUMENT.lines().skip_while(|line| *line != "### What a decode holds at each quality").skip(1);
    let rows = under.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let mut table = BTreeMap::new();
    for row in rows {
        let cells: Vec<String> = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        assert_eq!(cells.len(), 1 + COLUMNS.len(), "{row}");
        for key in cells[0].split('`').skip(1).step_by(2) {
            assert!(table.insert(key.to_owned(), cells[1..].to_vec()).is_none(), "{key} stands there twice");
        }
    }
    assert!(table.len() > 25, "{table:?}");
    table
}

fn column(decode: &Message) -> &'static str {
    let reason = decode.header["reason"].as_str().unwrap_or_default();
    match decode.quality() {
        "ok" | "degraded" => COLUMNS[0],
        "warmup" => COLUMNS[1],
        "stale" if reason != "no_frame" => COLUMNS[2],
        "stale" | "fail" => COLUMNS[3],
        other => panic!("{other}"),
    }
}

/// Holds a decode against its column. Its model decodes actions, and its sender gives a time, a stamp and a series.
fn hold(decode: &Message, table: &BTreeMap<String, Vec<String>>) {
    let at = COLUMNS.iter().position(|name| *name == column(decode)).unwrap();
    let header = decode.header.as_object().unwrap();
    for (key, cells) in table {
        let (cell, found) = (cells[at].as_str(), header.get(key));
        let there = found.is_some_and(|value| !value.is_null());
        let as_said = match cell {
            "yes"
            | "neutral"
            | "if the model decodes actions"
            | "if the sender gives one"
            | "if the sender gives them" => there,
            "neutral, if the model decodes actions" => there,
            // The model here has none.
            "no" | "if the model has continuous outputs" => found.is_none(),
            "null" => found.is_some_and(serde_json::Value::is_null),
            // `rest` is the neutral action here, and one of the labels.
            "if the neutral action is a label" | "with `action`" => there,
            "not if `ok`" => there == (decode.quality() != "ok"),
            "with a template" => there != header["shift_px"].is_null(),
            _ if cell.starts_with("of the last frame")
                || cell.starts_with("null without")
                || cell == "if the model measures it"
                || cell == "if it is known" =>
            {
                true
            }
            other => panic!("the table says {other:?} of {key}"),
        };
        assert!(as_said, "{key} should be {cell:?} in {}: {}", column(decode), decode.header);
        if cell.starts_with("neutral") {
            assert_eq!(header["action"], "rest", "{}", decode.header);
        }
    }
    let zeros = decode.embedding.iter().all(|value| *value == 0.0);
    // Before there is a template there is nothing to embed.
    assert!(zeros == (at >= 2) || at == 1, "the embedding of {}", decode.header);
    let unknown: Vec<&String> = header.keys().filter(|key| !table.contains_key(*key)).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
}

const NEUTRAL: [&str; 2] = ["--set", "publish.neutral_action=rest"];

fn hear(listener: &mut Listener, what: &str, wanted: impl Fn(&Message) -> bool) {
    listener.until(what, |m| m.kind == "decode" && wanted(m));
}

fn assert_all(listener: &Listener, columns: &[&str]) {
    let table = table();
    listener.decodes().iter().for_each(|decode| hold(decode, &table));
    for wanted in columns {
        assert!(listener.decodes().iter().any(|decode| column(decode) == *wanted), "no {wanted} was heard");
    }
}

#[test]
fn a_daemon_that_warms_up_decodes_loses_frames_waits_and_ends_sends_the_keys_that_are_documented() {
    let model = Small::strange();
    let rig = Rig::new(model.manifest.clone());
    write_raw(&rig.path("movie.raw"), 600);
    let daemon = rig.daemon(&[&NEUTRAL[..], &["--set", "publish.deadline_ms=1500"]].concat());
    let mut listener = rig.listen();
    let play = |more: &[&str]| -> Process {
        rig.play(
            &[&rig.path("movie.raw")],
            &[&["--raw", RAW, "--rate", "30", "--loop", "0", "--series", "s1"][..], more].concat(),
        )
    };
    let even = play(&[]);
    hear(&mut listener, "a decode to be trusted", |m| m.quality() == "ok");
    even.kill();
    hear(&mut listener, "the fail-safe", |m| m.quality() == "stale");
    let holes = play(&["--skip-every", "2"]);
    hear(&mut listener, "a degraded decode", |m| m.quality() == "degraded");
    rig.control(&["shutdown"]).code(0);
    listener.until("the event of the end", |m| m.is_event("shutdown"));
    daemon.finish().code(0);
    holes.kill();
    assert_all(&listener, &["decoded", "warmup", "fail-safe"]);
    for quality in ["ok", "degraded", "warmup", "stale", "fail"] {
        assert!(listener.decodes().iter().any(|decode| decode.quality() == quality), "{quality}");
    }
}

#[test]
fn a_decode_that_comes_too_late_keeps_the_keys_of_its_frame_and_nothing_of_what_was_decoded() {
    let model = Small::strange();
    let rig = Rig::new(model.manifest.clone());
    write_raw(&rig.path("movie.raw"), 600);
    let sets = [
        "source.pattern=pull",
        "lane.overload=wait",
        "lane.depth_frames=256",
        "publish.deadline_ms=20",
        "publish.heartbeat_ms=10",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let daemon = rig.daemon(&[&NEUTRAL[..], &sets].concat());
    let mut listener = rig.listen();
    let flood =
        rig.play(&[&rig.path("movie.raw")], &["--raw", RAW, "--push", "--flood", "--loop", "0", "--series", "s1"]);
    hear(&mut listener, "a late decode", |m| column(m) == "stale decode");
    flood.kill();
    daemon.kill();
    assert_all(&listener, &["stale decode"]);
}
