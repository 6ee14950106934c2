//! From a checked value to a field of the configuration, and back.
//!
//! What it must never do: check anything. Values have passed `Kind::check`, so only one case of each conversion can occur; a test of the whole table
//! rules out the other.

use std::time::Duration;

use super::kind::Value;

pub(super) fn put_number<T: TryFrom<i64>>(into: &mut T, value: &Value) {
    if let Some(number) = value.number().and_then(|n| T::try_from(n).ok()) {
        *into = number;
    }
}

pub(super) fn put_maybe<T: TryFrom<i64>>(into: &mut Option<T>, value: &Value) {
    *into = value.number().and_then(|n| T::try_from(n).ok());
}

pub(super) fn put_ms(into: &mut Duration, value: &Value) {
    if let Some(ms) = value.number().and_then(|n| u64::try_from(n).ok()) {
        *into = Duration::from_millis(ms);
    }
}

pub(super) fn put_parsed<T: std::str::FromStr>(into: &mut T, value: &Value) {
    if let Some(parsed) = value.text().and_then(|text| text.parse().ok()) {
        *into = parsed;
    }
}

pub(super) fn put_text(into: &mut String, value: &Value) {
    value.text().unwrap_or_default().clone_into(into);
}

pub(super) fn put_switch(into: &mut bool, value: &Value) {
    *into = matches!(value, Value::Switch(true));
}

pub(super) fn put_choice<T: Copy>(into: &mut T, value: &Value, variants: &[T]) {
    if let Value::Choice(at, _) = value
        && let Some(variant) = variants.get(*at)
    {
        *into = *variant;
    }
}

pub(super) fn number<T: TryInto<i64>>(n: T) -> Value {
    Value::Integer(n.try_into().unwrap_or(i64::MAX))
}

pub(super) fn number_or<T: TryInto<i64>>(n: Option<T>, word: &'static str) -> Value {
    n.map_or(Value::Word(word), number)
}

pub(super) fn ms(duration: Duration) -> Value {
    number(duration.as_millis().min(u128::from(u32::MAX)) as i64)
}

pub(super) fn path(path: &std::path::Path) -> Value {
    Value::Text(path.to_string_lossy().into_owned())
}

pub(super) fn path_or(written: Option<&std::path::Path>, word: &'static str) -> Value {
    written.map_or(Value::Word(word), path)
}

pub(super) fn choice(words: &'static [&'static str], at: usize) -> Value {
    Value::Choice(at, words[at])
}
