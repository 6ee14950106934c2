//! What is known about a recording, and by which text: the facts that `haltere info` prints.
//!
//! Why it exists: a recording that is read wrong is worse than one that is refused, and a wrong number of channels is seen at once
//! when it is printed with its reason. What it must never do: change how a recording is read.

use std::path::Path;

use serde_json::Value;

/// One fact.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Fact {
    /// Which: `channels`, `planes`, `rate_hz` …
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// The text, count or option that decided it.
    pub by: String,
}

/// What is known about an opened recording.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct About {
    /// Facts, each name at most once.
    pub facts: Vec<Fact>,
    /// What its user must know: frames lost, gaps, assumptions.
    pub warnings: Vec<String>,
}

impl About {
    /// Adds a fact.
    pub fn fact(&mut self, name: &'static str, value: impl Into<Value>, by: impl Into<String>) {
        self.facts.push(Fact { name, value: value.into(), by: by.into() });
    }

    /// Adds a fact if there is one.
    pub fn maybe(&mut self, name: &'static str, value: Option<impl Into<Value>>, by: impl Into<String>) {
        if let Some(value) = value {
            self.fact(name, value, by);
        }
    }

    /// States planes and times anew, where another text than that of the pages decided.
    pub(super) fn by(&mut self, by: &str, planes: usize, times: usize, plane: Option<u64>) {
        self.facts.retain(|fact| !["planes", "plane", "times"].contains(&fact.name));
        self.fact("planes", planes, by);
        self.maybe("plane", plane, "--plane");
        self.fact("times", times, by);
    }

    /// Adds a warning.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// A fact by its name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.name == name)
    }
}

/// The file's name without its folder, for messages about several files.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
