//! Targets: numbers such as walking speed, which a model shall decode beside or instead of actions.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::error::DatasetError;

/// Most targets of a data set.
pub const TARGETS_MAX: usize = 64;
/// Longest name or unit of a target, bytes.
const TEXT_BYTES_MAX: usize = 64;
/// Longest smoothing, s.
const SMOOTH_S_MAX: f64 = 60.0;

/// A number to decode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The column, and the name of the model's output.
    pub name: String,
    /// Its unit, for people; absent = none.
    #[serde(default)]
    pub unit: String,
    /// Mean over so many seconds around each moment, half before and half after; 0 = as measured.
    #[serde(default)]
    pub smooth_s: f64,
}

/// Checks a list of targets from `path`.
pub(super) fn check(path: &Path, targets: &[Target]) -> Result<(), DatasetError> {
    let wrong = |key: String, value: String, bound: &str| {
        Err(DatasetError::Value { path: path.into(), key, value, bound: bound.into() })
    };
    if targets.len() > TARGETS_MAX {
        return wrong("target".into(), format!("{} targets", targets.len()), "at most 64");
    }
    for (at, target) in targets.iter().enumerate() {
        let key = |key: &str| format!("target[{at}].{key}");
        let fits = |text: &str| text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
        if target.name.is_empty() || !fits(&target.name) {
            return wrong(
                key("name"),
                target.name.clone(),
                "a column's name, at most 64 bytes without control characters",
            );
        }
        if targets[..at].iter().any(|other| other.name == target.name) {
            return wrong(key("name"), target.name.clone(), "a name that was not there before");
        }
        if !fits(&target.unit) {
            return wrong(key("unit"), target.unit.clone(), "at most 64 bytes without control characters");
        }
        if !(0.0..=SMOOTH_S_MAX).contains(&target.smooth_s) {
            return wrong(key("smooth_s"), target.smooth_s.to_string(), "0 to 60 s");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_targets_has_plain_names_once_each() {
        let of = |names: &[&str]| -> Vec<Target> {
            names.iter().map(|name| Target { name: (*name).into(), ..Target::default() }).collect()
        };
        let refused = |targets: &[Target]| check(Path::new("d.toml"), targets).unwrap_err().to_string();
        assert!(check(Path::new("d.toml"), &of(&["speed", "turning"])).is_ok());
        assert!(refused(&of(&["speed", "speed"])).contains("target[1].name"));
        assert!(refused(&of(&[""])).contains("target[0].name"));
        let late = Target { name: "speed".into(), smooth_s: f64::NAN, ..Target::default() };
        assert!(refused(&[late]).contains("smooth_s"));
    }
}
