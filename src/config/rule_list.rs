//! From the keys that were written to rules and points, with what no single key can tell.

use std::path::Path;

use super::error::{ConfigError, Place, Problem};
use super::kind::{Kind, Value};
use super::raw::RawConfig;
use super::rules::{DECISION, POINT};
use crate::decide::{Point, Rule, Yoke};
use crate::frame::{RULES_MAX, TERMS_MAX};
use crate::sys::files::{Bound, read_bounded};
use crate::sys::npy_read::Array;

/// An embedding as an array of numpy.
const POINT_FILE: Bound = Bound::new("a point of the embedding", 1 << 20);
/// Times of outputs as a table.
const YOKE_FILE: Bound = Bound::new("a table of outputs", 1 << 20);

/// The rules and points that were written, each checked by itself.
pub(super) fn decide(raw: &RawConfig) -> Result<(Vec<Rule>, Vec<Point>), ConfigError> {
    let (mut rules, mut points) = (Vec::<Rule>::new(), Vec::<Point>::new());
    for (name, key, value, place) in raw.rules() {
        let at = rules.iter().position(|rule| rule.name == *name);
        if at.is_none() && rules.len() == RULES_MAX {
            let (key, value) = (format!("{DECISION}.{name}"), format!("rule {}", RULES_MAX + 1));
            let allowed = format!("there are at most {RULES_MAX} rules");
            return Err(ConfigError::new(place.clone(), Problem::Range { key, value, allowed }));
        }
        let at = at.unwrap_or_else(|| {
            rules.push(Rule::named(*name));
            rules.len() - 1
        });
        match (&key.kind, value.path()) {
            (Kind::Yoke, Some(path)) => {
                let yoke = read_yoke(&path).map_err(|cause| {
                    let (key, value) = (format!("{DECISION}.{name}.{}", key.leaf), value.to_toml());
                    ConfigError::new(place.clone(), Problem::Range { key, value, allowed: cause })
                })?;
                (key.set)(&mut rules[at], &Value::Yoke(yoke));
            }
            _ => (key.set)(&mut rules[at], value),
        }
    }
    rules.iter().try_for_each(|rule| check(rule, raw))?;
    for (name, _, value, place) in raw.points() {
        let values = match (value.numbers(), value.path()) {
            (Some(numbers), _) => numbers.to_vec(),
            (None, path) => read_point(&path.unwrap_or_default()).map_err(|cause| {
                let (key, value) = (format!("{POINT}.{name}.file"), value.to_toml());
                ConfigError::new(place.clone(), Problem::Range { key, value, allowed: cause })
            })?,
        };
        points.retain(|point| point.name != *name);
        points.push(Point { name: *name, values });
    }
    Ok((rules, points))
}

/// What no single key of a rule can tell.
fn check(rule: &Rule, raw: &RawConfig) -> Result<(), ConfigError> {
    let name = rule.name;
    let place = |leaf: &str| match raw.place_of_rule(name, leaf) {
        Place::Default => raw.place_of_rule(name, ""),
        place => place,
    };
    let refuse = |leaf: &str, value: String, allowed: String| {
        let key = format!("{DECISION}.{name}.{leaf}");
        Err(ConfigError::new(place(leaf), Problem::Range { key, value, allowed }))
    };
    if rule.when.is_none() && rule.yoke.is_none() {
        let help = "a rule needs a condition, such as when = \"p(grooming) > 0.8\", or a `yoke`";
        let problem = Problem::Missing { key: format!("{DECISION}.{name}.when"), help };
        return Err(ConfigError::new(place("when"), problem));
    }
    let terms: usize = rule.conditions().map(|(_, condition)| condition.quantities().count()).sum();
    if terms > TERMS_MAX {
        let allowed = format!("`when` and `leave` together may have at most {TERMS_MAX} comparisons");
        return refuse("leave", format!("{terms} comparisons"), allowed);
    }
    let train = rule.train;
    if train.count > 1 && train.period_ms <= train.width_ms {
        let allowed = format!("must be longer than `width_ms` = {}, or the pulses are one", train.width_ms);
        return refuse("period_ms", train.period_ms.to_string(), allowed);
    }
    for (leaf, dose) in [("dose_minute_ms", rule.dose_minute_ms), ("dose_session_ms", rule.dose_session_ms)] {
        if let Some(dose) = dose
            && u64::from(dose) < train.dose_ms()
        {
            let allowed =
                format!("one output alone is `count` × `width_ms` = {} ms: the rule could never act", train.dose_ms());
            return refuse(leaf, dose.to_string(), allowed);
        }
    }
    Ok(())
}

/// The times of a table, from its column `time_s`.
fn read_yoke(path: &Path) -> Result<Yoke, String> {
    let bytes = read_bounded(path, YOKE_FILE).map_err(|error| error.to_string())?;
    let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(&bytes[..]);
    let head = table.headers().map_err(|error| error.to_string())?;
    let column = head.iter().position(|name| name == "time_s").ok_or("has no column `time_s`")?;
    let time = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| error.to_string())?;
        let text = record.get(column).unwrap_or_default();
        text.parse().map_err(|_| format!("{text:?} in the column `time_s` is no number"))
    };
    let times = table.records().map(time).collect::<Result<Vec<f64>, String>>()?;
    Yoke::of_seconds(&times).map_err(|cause| format!("holds {cause}"))
}

/// The values of an array of numpy with one axis of numbers.
fn read_point(path: &Path) -> Result<Vec<f32>, String> {
    let bytes = read_bounded(path, POINT_FILE).map_err(|error| error.to_string())?;
    let array = Array::of(bytes)?.ok_or("is no .npy: save it with np.save(name, embedding)")?;
    if array.header.shape.iter().filter(|side| **side > 1).count() > 1 {
        return Err(format!("has the shape {:?}; a point is one row of numbers", array.header.shape));
    }
    let numbers = array.numbers().ok_or("holds text; a point is one row of numbers")?;
    if numbers.is_empty() || numbers.iter().any(|number| !(*number as f32).is_finite()) {
        return Err("holds no number, or one that is NaN or infinite".to_owned());
    }
    Ok(numbers.into_iter().map(|number| number as f32).collect())
}
