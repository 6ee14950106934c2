//! Sets one value of a structure by its dotted key, as the command line writes it: `augment.calcium.probability=0.3`.
//!
//! What it must never do: accept a key that is not there.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What stands in place of a table that is switched off; a key below it switches it on.
const OFF: &str = "off";

/// Sets one value of `of`. A value that is not TOML is taken as text.
///
/// # Errors
/// What is wrong, for people: no `=`, a key that is not there (with those that are), or a value of another kind.
pub fn assign<T: Serialize + DeserializeOwned>(of: &mut T, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or_else(|| "write KEY=VALUE".to_owned())?;
    let mut whole = toml::Table::try_from(&*of).map_err(|e| e.to_string())?;
    let parsed: toml::Table = format!("value = {value}")
        .parse()
        .or_else(|_| format!("value = {value:?}").parse())
        .map_err(|e: toml::de::Error| e.message().to_owned())?;
    let mut place = &mut whole;
    let mut parts = key.trim().split('.').peekable();
    // Below a table that is off, the structure itself says which keys there are.
    let mut is_new = false;
    while let Some(part) = parts.next() {
        let known = place.keys().cloned().collect::<Vec<_>>().join(", ");
        if is_new {
            place.insert(part.to_owned(), toml::Value::Table(toml::Table::new()));
        }
        let entry = place.get_mut(part).ok_or_else(|| format!("no key `{part}`; the keys are: {known}"))?;
        if parts.peek().is_none() {
            *entry = parsed["value"].clone();
            break;
        }
        if entry.as_str() == Some(OFF) {
            *entry = toml::Value::Table(toml::Table::new());
            is_new = true;
        }
        place = entry.as_table_mut().ok_or_else(|| format!("`{part}` is a value and has no keys"))?;
    }
    *of = whole.try_into().map_err(|e: toml::de::Error| e.message().to_owned())?;
    Ok(())
}
