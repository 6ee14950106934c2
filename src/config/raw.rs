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
use super::{Config, FILE_BYTES_MAX, VARIABLE_PREFIX};
use crate::sys::files::{Bound, read_text_or_pipe};

/// Smallest similarity (Jaro-Winkler, 0 to 1) for a suggestion.
const NEAR: f64 = 0.8;

/// Every value that was written, each checked by itself, with its place. The last layer that wrote a key wins.
#[derive(Debug, Default)]
pub struct RawConfig {
    written: Vec<(&'static Key, Value, Place)>,
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
            let key = find(&entry.name).map_err(|problem| ConfigError::new(at(entry.key_span.clone()), problem))?;
            self.write(key, input_of(entry.value), at(entry.value_span), Some(folder))?;
        }
        Ok(())
    }

    /// Forgets every key that is not in `names`. Gives those forgotten whose value is not the default.
    pub(super) fn keep_only(&mut self, names: &[&str]) -> Vec<&'static str> {
        let default = Config::default();
        let (kept, forgotten) = self.written.drain(..).partition(|(key, ..)| names.contains(&key.name));
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
                Ok(key) => self.write(key, input_of_text(&key.kind, text), place, None)?,
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
                Ok(key) => self.write(key, input_of_text(&key.kind, text.trim()), place, None)?,
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

    fn write(
        &mut self,
        key: &'static Key,
        input: Input,
        place: Place,
        folder: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let value = match key.kind.check(input) {
            Ok(value) => value,
            Err(fault) => return Err(ConfigError::new(place, problem_of(key, fault))),
        };
        let value = match (&key.kind, value, folder) {
            (Kind::Path { .. }, Value::Text(text), Some(folder)) => {
                Value::Text(folder.join(text).to_string_lossy().into_owned())
            }
            (_, value, _) => value,
        };
        self.written.push((key, value, place));
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

fn problem_of(key: &'static Key, fault: Fault) -> Problem {
    match fault {
        Fault::Type { found } => Problem::Type { key: key.name, found, expected: key.kind.describe() },
        Fault::Range { value, allowed } => Problem::Range { key: key.name, value, allowed },
    }
}

fn find(name: &str) -> Result<&'static Key, Problem> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| unknown(name))
}

/// Suggests what an unknown name may have meant.
fn unknown(name: &str) -> Problem {
    let (section, leaf) = name.split_once('.').unwrap_or(("", name));
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
