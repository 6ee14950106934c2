//! The values as written, with their places, layer by layer.
//!
//! Why it exists: an error message must name the place of the effective value, which is known only while reading.
//! What it must never do: decide anything that depends on more than one key (that is `checks`).

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, Problem};
use super::keys::{KEYS, Key};
use super::kind::{Fault, Input, Kind, Value};
use super::rules::{DECISION, POINT, POINT_KEYS, PointKey, RULE_KEYS, RuleKey, is_action};
use super::{Config, FILE_BYTES_MAX, VARIABLE_PREFIX};
use crate::frame::Name;
use crate::sys::files::{Bound, read_text_or_pipe};

/// Smallest similarity (Jaro-Winkler, 0 to 1) for a suggestion.
const NEAR: f64 = 0.8;

/// Every value that was written, each checked by itself, with its place. The last layer that wrote a key wins.
#[derive(Debug, Default)]
pub struct RawConfig {
    written: Vec<(&'static Key, Value, Place)>,
    rules: Vec<(Name, &'static RuleKey, Value, Place)>,
    points: Vec<(Name, &'static PointKey, Value, Place)>,
}

/// What a dotted name means.
enum Target {
    Key(&'static Key),
    Rule(Name, &'static RuleKey),
    Point(Name, &'static PointKey),
}

impl Target {
    fn kind(&self) -> &'static Kind {
        match self {
            Self::Key(key) => &key.kind,
            Self::Rule(_, key) => &key.kind,
            Self::Point(_, key) => &key.kind,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Key(key) => key.name.to_owned(),
            Self::Rule(rule, key) => format!("{DECISION}.{rule}.{}", key.leaf),
            Self::Point(point, key) => format!("{POINT}.{point}.{}", key.leaf),
        }
    }
}

impl RawConfig {
    /// Adds a TOML file; `named_by` is the option or variable that named it, for the message if it is missing.
    pub(super) fn read_file(&mut self, path: &Path, named_by: &'static str) -> Result<(), ConfigError> {
        let whole = |problem| ConfigError::new(Place::in_file(path.to_owned(), "", 0..0), problem);
        let content = read_text(path).map_err(|cause| whole(Problem::File { named_by, cause }))?;
        let at = |span| Place::in_file(path.to_owned(), &content, span);
        let table = DeTable::parse(&content)
            .map_err(|e| ConfigError::new(at(e.span().unwrap_or(0..0)), Problem::Syntax(e.message().to_owned())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        // By position, so that the first error in the file is reported.
        let mut entries: Vec<_> = table.get_ref().iter().flat_map(|(name, value)| flatten(name, value)).collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        for entry in entries {
            let target = find(&entry.name).map_err(|problem| ConfigError::new(at(entry.key_span.clone()), problem))?;
            self.write(&target, input_of(entry.value), at(entry.value_span), Some(folder))?;
        }
        Ok(())
    }

    /// Forgets every key that is not in `names`, by itself or by its section, and points that are files; the rules stay. Gives those forgotten whose value is not the default.
    pub(super) fn keep_only(&mut self, names: &[&str]) -> Vec<&'static str> {
        let default = Config::default();
        self.points.retain(|(.., value, _)| value.numbers().is_some());
        let (kept, forgotten) =
            self.written.drain(..).partition(|(key, ..)| names.contains(&key.name) || names.contains(&key.section()));
        let forgotten: Vec<(&'static Key, Value, Place)> = forgotten;
        self.written = kept;
        forgotten
            .into_iter()
            .filter(|(key, value, _)| *value != (key.get)(&default))
            .map(|(key, ..)| key.name)
            .collect()
    }

    /// Adds the variables `HALTERE__SECTION__KEY`.
    pub(super) fn read_environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        for (variable, text) in environment {
            let Some(rest) = variable.strip_prefix(VARIABLE_PREFIX) else { continue };
            let place = Place::Variable(variable.clone());
            let name = rest.to_lowercase().replace("__", ".");
            match find(&name) {
                Ok(target) => self.write(&target, input_of_text(target.kind(), text), place, None)?,
                Err(problem) => return Err(ConfigError::new(place, problem)),
            }
        }
        Ok(())
    }

    /// Adds the texts of `--set`, in their order.
    pub(super) fn read_sets(&mut self, sets: &[String]) -> Result<(), ConfigError> {
        for set in sets {
            let place = Place::Set(set.clone());
            let Some((name, text)) = set.split_once('=') else {
                return Err(ConfigError::new(place, Problem::NoEquals));
            };
            match find(name.trim()) {
                Ok(target) => self.write(&target, input_of_text(target.kind(), text.trim()), place, None)?,
                Err(problem) => return Err(ConfigError::new(place, problem)),
            }
        }
        Ok(())
    }

    /// The defaults, overridden by everything that was written.
    pub(super) fn decide(&self) -> Config {
        let mut config = Config::default();
        for (key, value, _) in &self.written {
            (key.set)(&mut config, value);
        }
        config
    }

    /// Where the value of a key was written.
    pub(super) fn place_of(&self, name: &str) -> Place {
        let last = self.written.iter().rev().find(|(key, _, _)| key.name == name);
        last.map_or(Place::Default, |(_, _, place)| place.clone())
    }

    /// Where a key of a rule was written; with an empty `leaf`, where the first of its keys was.
    pub(super) fn place_of_rule(&self, rule: Name, leaf: &str) -> Place {
        let mut written =
            self.rules.iter().filter(|(name, key, ..)| *name == rule && (leaf.is_empty() || key.leaf == leaf));
        let entry = if leaf.is_empty() { written.next() } else { written.next_back() };
        entry.map_or(Place::Default, |(.., place)| place.clone())
    }

    /// Keys of rules, in the order in which they were written.
    pub(super) fn rules(&self) -> &[(Name, &'static RuleKey, Value, Place)] {
        &self.rules
    }

    /// Keys of points, in the order in which they were written.
    pub(super) fn points(&self) -> &[(Name, &'static PointKey, Value, Place)] {
        &self.points
    }

    fn write(&mut self, target: &Target, input: Input, place: Place, folder: Option<&Path>) -> Result<(), ConfigError> {
        let value = match target.kind().check(input) {
            Ok(value) => value,
            Err(fault) => return Err(ConfigError::new(place, problem_of(target, fault))),
        };
        let value = match (target.kind(), value, folder) {
            (Kind::Path { .. }, Value::Text(text), Some(folder)) => {
                Value::Text(folder.join(text).to_string_lossy().into_owned())
            }
            (_, value, _) => value,
        };
        match target {
            Target::Key(key) => self.written.push((key, value, place)),
            Target::Rule(rule, key) => self.rules.push((*rule, key, value, place)),
            Target::Point(point, key) => self.points.push((*point, key, value, place)),
        }
        Ok(())
    }
}

/// One `section.key` of a file.
struct Entry<'a> {
    name: String,
    key_span: std::ops::Range<usize>,
    value_span: std::ops::Range<usize>,
    value: &'a DeValue<'a>,
}

/// The keys of a section, or the one key at the top.
fn flatten<'a>(name: &'a Spanned<std::borrow::Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Vec<Entry<'a>> {
    if [DECISION, POINT].contains(&name.get_ref().as_ref())
        && let DeValue::Table(named) = value.get_ref()
    {
        return named.iter().flat_map(|(inner, value)| flatten_named(name.get_ref(), inner, value)).collect();
    }
    let is_section = KEYS.iter().any(|key| !key.section().is_empty() && key.section() == name.get_ref().as_ref());
    match value.get_ref() {
        DeValue::Table(table) if is_section => table
            .iter()
            .map(|(leaf, value)| Entry {
                name: format!("{}.{}", name.get_ref(), leaf.get_ref()),
                key_span: leaf.span(),
                value_span: value.span(),
                value: value.get_ref(),
            })
            .collect(),
        other => {
            // A table that is no section keeps its dot, so that it is reported as a section.
            let known = KEYS.iter().any(|key| key.name == name.get_ref().as_ref());
            let dot = if matches!(other, DeValue::Table(_)) && !known { "." } else { "" };
            let name_text = format!("{}{dot}", name.get_ref());
            vec![Entry { name: name_text, key_span: name.span(), value_span: value.span(), value: other }]
        }
    }
}

/// The keys of one `[decision.NAME]` or `[point.NAME]`.
fn flatten_named<'a>(
    section: &str,
    name: &'a Spanned<std::borrow::Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
) -> Vec<Entry<'a>> {
    let entry = |name: String, key_span, value: &'a Spanned<DeValue<'a>>| Entry {
        name,
        key_span,
        value_span: value.span(),
        value: value.get_ref(),
    };
    match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .map(|(leaf, value)| entry(format!("{section}.{}.{}", name.get_ref(), leaf.get_ref()), leaf.span(), value))
            .collect(),
        // A key right below [decision] belongs to no rule.
        _ => vec![entry(format!("{section}.{}", name.get_ref()), name.span(), value)],
    }
}

fn read_text(path: &Path) -> Result<String, std::io::Error> {
    read_text_or_pipe(path, Bound::new("a configuration", FILE_BYTES_MAX)).map_err(|error| error.cause)
}

fn input_of(value: &DeValue<'_>) -> Input {
    match value {
        DeValue::String(text) => Input::Text(text.to_string()),
        DeValue::Boolean(value) => Input::Switch(*value),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or_else(|_| Input::Other(format!("the number {}", digits.as_str())), Input::Integer),
        DeValue::Float(digits) => Input::Other(format!("the number {}", digits.as_str())),
        DeValue::Array(items) => {
            let number = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::Float(digits) => digits.as_str().replace('_', "").parse().ok(),
                DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(|n| n as f64),
                _ => None,
            };
            let numbers: Option<Vec<f64>> = items.iter().map(number).collect();
            numbers.map_or_else(|| Input::Other("a TOML array".to_owned()), Input::Numbers)
        }
        other => Input::Other(format!("a TOML {}", other.type_str())),
    }
}

/// Text from outside TOML gets the type of its key; quotes around it are removed.
fn input_of_text(kind: &Kind, text: &str) -> Input {
    let unquoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    match kind {
        Kind::Integer { .. } => unquoted.parse().map_or_else(|_| Input::Text(unquoted.to_owned()), Input::Integer),
        Kind::Switch => unquoted.parse().map_or_else(|_| Input::Text(unquoted.to_owned()), Input::Switch),
        _ => Input::Text(unquoted.to_owned()),
    }
}

fn problem_of(target: &Target, fault: Fault) -> Problem {
    match fault {
        Fault::Type { found } => Problem::Type { key: target.name(), found, expected: target.kind().describe() },
        Fault::Range { value, allowed } => Problem::Range { key: target.name(), value, allowed },
    }
}

fn find(name: &str) -> Result<Target, Problem> {
    let after = |section: &str| name.strip_prefix(section)?.strip_prefix('.');
    if let Some(rest) = after(DECISION).filter(|rest| !is_action(rest)) {
        let (rule, leaf) = named(DECISION, rest)?;
        let key = RULE_KEYS.iter().find(|key| key.leaf == leaf);
        let leaves: Vec<_> = RULE_KEYS.iter().map(|key| key.leaf).collect();
        return key.map(|key| Target::Rule(rule, key)).ok_or_else(|| unknown_leaf(name, leaf, &leaves));
    }
    if let Some(rest) = after(POINT) {
        let (point, leaf) = named(POINT, rest)?;
        let key = POINT_KEYS.iter().find(|key| key.leaf == leaf);
        let leaves: Vec<_> = POINT_KEYS.iter().map(|key| key.leaf).collect();
        return key.map(|key| Target::Point(point, key)).ok_or_else(|| unknown_leaf(name, leaf, &leaves));
    }
    KEYS.iter().find(|key| key.name == name).map(Target::Key).ok_or_else(|| unknown(name))
}

/// The name and the key of a section of which there may be several.
fn named<'a>(section: &str, rest: &'a str) -> Result<(Name, &'a str), Problem> {
    let Some((name, leaf)) = rest.rsplit_once('.') else {
        let help = format!("write [{section}.NAME], with a name of your choice, and its keys below it");
        return Err(Problem::Unknown { what: "key", key: format!("{section}.{rest}"), help });
    };
    let bad = |cause| Problem::Unknown {
        what: "section",
        key: format!("{section}.{name}"),
        help: format!("the name {cause}"),
    };
    Ok((name.parse().map_err(bad)?, leaf))
}

fn unknown_leaf(name: &str, leaf: &str, leaves: &[&'static str]) -> Problem {
    let section = name.strip_suffix(leaf).unwrap_or(name).trim_end_matches('.');
    let help = suggestion(leaf, leaves, &format!("[{section}] takes: {}", leaves.join(", ")));
    Problem::Unknown { what: "key", key: name.to_owned(), help }
}

/// Suggests what an unknown name may have meant.
fn unknown(name: &str) -> Problem {
    let (section, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let sections = sections();
    if section.is_empty() && sections.contains(&leaf) {
        let help = format!("`{leaf}` is a section: write [{leaf}] and its keys below it");
        return Problem::Unknown { what: "key", key: leaf.to_owned(), help };
    }
    if section == "preprocess" || leaf == "preprocess" {
        let help = "preprocessing belongs to the model: its parameters are in the model's manifest, [preprocess]";
        return Problem::Unknown { what: "section", key: "preprocess".to_owned(), help: help.to_owned() };
    }
    if !section.is_empty() && !sections.contains(&section) {
        let help = suggestion(section, &sections, &format!("sections: {}", sections.join(", ")));
        return Problem::Unknown { what: "section", key: section.to_owned(), help };
    }
    let leaves: Vec<_> = KEYS.iter().filter(|key| key.section() == section).map(Key::leaf).collect();
    let (candidates, listed) = if section.is_empty() {
        let all = [leaves.clone(), sections.clone()].concat();
        (all, format!("keys at the top: {}; sections: {}", leaves.join(", "), sections.join(", ")))
    } else {
        (leaves.clone(), format!("[{section}] takes: {}", leaves.join(", ")))
    };
    let elsewhere = KEYS.iter().find(|key| key.leaf() == leaf);
    let help = match elsewhere {
        Some(key) if key.section().is_empty() => format!("`{leaf}` belongs at the top of the file, before any section"),
        Some(key) if nearest(leaf, &candidates).is_none() => {
            format!("did you mean `{leaf}` in [{}]? {listed}", key.section())
        }
        _ => suggestion(leaf, &candidates, &listed),
    };
    Problem::Unknown { what: "key", key: name.to_owned(), help }
}

fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(Key::section).filter(|s| !s.is_empty()).collect();
    sections.dedup();
    sections
}

fn nearest(written: &str, known: &[&'static str]) -> Option<&'static str> {
    let scored = known.iter().map(|&name| (strsim::jaro_winkler(written, name), name));
    scored.filter(|(score, _)| *score >= NEAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn suggestion(written: &str, known: &[&'static str], listed: &str) -> String {
    nearest(written, known).map_or_else(|| listed.to_owned(), |name| format!("did you mean `{name}`? {listed}"))
}
