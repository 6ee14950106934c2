//! The configuration as a JSON Schema, for editors (taplo, VS Code's "Even Better TOML") that check and explain a file while it is written.
//!
//! Why it exists: it is made from the table of keys and from the comments of the manual, so that neither is written twice. What it must
//! never do: refuse what the program accepts. It may accept more: contradictions between keys are found by `haltere check`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::Config;
use super::keys::{KEYS, Key};
use super::kind::{Kind, NUMBERS_MAX, TEXT_BYTES_MAX, Value};
use super::rules::{DECISION, POINT, POINT_KEYS, RULE_KEYS};
use crate::decide::YOKE_OUTPUTS_MAX;

/// The manual of every key: a comment stands above each, and keys of one line each may share one.
const MANUAL: &str = include_str!("../../config/default.toml");
/// The newest draft that taplo reads.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of a configuration file, as text.
pub fn schema() -> String {
    let comments = comments();
    let defaults = Config::default();
    let mut properties = Map::new();
    for key in KEYS {
        let mut described = of_kind(&key.kind);
        described.insert("default".into(), of_value(&(key.get)(&defaults)));
        if let Some(comment) = comments.get(key.name) {
            described.insert("description".into(), comment.as_str().into());
        }
        place(&mut properties, key).insert(key.leaf().into(), described.into());
    }
    named(&mut properties, DECISION, RULE_KEYS.iter().map(|key| (key.leaf, &key.kind)));
    named(&mut properties, POINT, POINT_KEYS.iter().map(|key| (key.leaf, &key.kind)));
    let whole = json!({
        "$schema": DRAFT,
        "title": "haltere's configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    format!("{whole:#}\n")
}

/// The properties among which a key stands: those of the file, or of its section.
fn place<'a>(top: &'a mut Map<String, Json>, key: &Key) -> &'a mut Map<String, Json> {
    key.section().split('.').filter(|section| !section.is_empty()).fold(top, |table, section| {
        match table.entry(section).or_insert_with(object).get_mut("properties") {
            Some(Json::Object(properties)) => properties,
            // Made above.
            _ => unreachable!("a section has properties"),
        }
    })
}

fn object() -> Json {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

/// A section of which there may be several, by names of the user's choice.
fn named<'a>(top: &mut Map<String, Json>, section: &str, keys: impl Iterator<Item = (&'a str, &'a Kind)>) {
    let keys: Map<String, Json> = keys.map(|(leaf, kind)| (leaf.to_owned(), of_kind(kind).into())).collect();
    let one = json!({ "type": "object", "additionalProperties": false, "properties": keys });
    if let Json::Object(section) = top.entry(section).or_insert_with(object) {
        section.insert("additionalProperties".into(), one);
    }
}

fn of_kind(kind: &Kind) -> Map<String, Json> {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    // Bounds of the program are in bytes: no text that it accepts has more characters.
    let plain =
        |empty: bool| json!({ "type": "string", "minLength": usize::from(!empty), "maxLength": TEXT_BYTES_MAX });
    let (schema, word) = match kind {
        Kind::Integer { min, max, word, .. } => (json!({ "type": "integer", "minimum": min, "maximum": max }), word),
        Kind::Text { empty } => (plain(*empty), &None),
        Kind::Template | Kind::Filter => (plain(false), &None),
        Kind::Name { word } => (text("^[A-Za-z0-9_.-]{1,64}$"), word),
        Kind::Path { word } => (plain(false), word),
        Kind::Endpoint { word } => (text("^(tcp|ipc)://."), word),
        Kind::Address { word } => (text(":[0-9]{1,5}$"), word),
        Kind::Device => (text("^(cpu|auto|cuda(:[0-9]{1,2})?)$"), &None),
        Kind::Switch => (json!({ "type": "boolean" }), &None),
        Kind::Choice(words) => (json!({ "enum": words }), &None),
        Kind::Condition { .. } => (text("."), &None),
        Kind::Frames => (text(" of "), &None),
        Kind::AtMost => (text(" in "), &Some("off")),
        Kind::Numbers => {
            let item = json!({ "type": "number" });
            (json!({ "type": "array", "items": item, "minItems": 1, "maxItems": NUMBERS_MAX }), &None)
        }
        Kind::Yoke => {
            let item = json!({ "type": "number", "minimum": 0 });
            let times = json!({ "type": "array", "items": item, "minItems": 1, "maxItems": YOKE_OUTPUTS_MAX });
            (json!({ "anyOf": [plain(false), times] }), &None)
        }
    };
    let schema = match word {
        Some(word) => json!({ "anyOf": [schema, { "const": word }] }),
        None => schema,
    };
    schema.as_object().cloned().unwrap_or_default()
}

fn of_value(value: &Value) -> Json {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Switch(on) => (*on).into(),
        Value::Numbers(numbers) => json!(numbers),
        Value::Yoke(yoke) => json!(yoke.seconds().collect::<Vec<_>>()),
        Value::Word(word) | Value::Choice(_, word) => (*word).into(),
    }
}

/// What the manual says above each key, by the key's name.
fn comments() -> BTreeMap<String, String> {
    let (mut found, mut section, mut lines, mut last) = (BTreeMap::new(), String::new(), Vec::new(), String::new());
    for line in MANUAL.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            lines.push(comment.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
            lines.clear();
        } else if let Some((leaf, _)) = line.split_once(" = ") {
            if !lines.is_empty() {
                last = lines.join(" ");
                lines.clear();
            }
            found.insert(format!("{section}{leaf}"), last.clone());
        } else {
            lines.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_bounded_and_has_its_default() {
        let schema: Json = serde_json::from_str(&schema()).unwrap();
        for key in KEYS {
            let sections = key.section().split('.').filter(|section| !section.is_empty());
            let table = sections.fold(&schema["properties"], |table, section| &table[section]["properties"]);
            let found = table[key.leaf()].clone();
            assert!(found["description"].as_str().is_some_and(|text| text.len() > 20), "{}: {found}", key.name);
            assert!(found.get("default").is_some(), "{}", key.name);
        }
        let deadline = &schema["properties"]["publish"]["properties"]["deadline_ms"];
        assert_eq!((&deadline["default"], &deadline["type"]), (&250.into(), &"integer".into()));
        let cores = &schema["properties"]["realtime"]["properties"];
        assert_eq!(cores["compute_core"]["description"], cores["ingest_core"]["description"], "they share a comment");
    }
}
