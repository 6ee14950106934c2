//! Text as comma-separated values.

use std::borrow::Cow;

/// A text as one field of a table: quoted when it contains what would end the field.
pub fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}
