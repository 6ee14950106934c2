//! One value of a manifest against its bound.

use std::path::Path;

use super::error::ModelError;

/// Longest text of a measurement, bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Says which manifest a value stands in.
pub(super) struct Check<'a> {
    pub(super) path: &'a Path,
}

impl Check<'_> {
    pub(super) fn that(
        &self,
        good: bool,
        key: &str,
        value: &dyn std::fmt::Debug,
        bound: &str,
    ) -> Result<(), ModelError> {
        if good { Ok(()) } else { Err(self.error(key, format!("{value:?}"), bound)) }
    }

    pub(super) fn error(&self, key: &str, value: String, bound: &str) -> ModelError {
        ModelError::Value { path: self.path.into(), key: key.into(), value, bound: bound.into() }
    }

    pub(super) fn text(&self, key: &str, text: &str) -> Result<(), ModelError> {
        let plain = (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        let bound = format!("1 to {TEXT_BYTES_MAX} bytes without control characters");
        // A text of a megabyte is not shown whole.
        let shown: String = text.chars().take(80).collect();
        self.that(plain, key, &shown, &bound)
    }
}
