//! Units of time, as descriptions write them.
//!
//! What it must never do: guess at a word that it does not know.

/// Seconds of a unit of time, as ImageJ and OME write it.
pub(super) fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit.trim().to_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "msec" | "millisec" | "millisecond" | "milliseconds" => 1e-3,
        // Both signs for micro: Latin-1 has the one, Greek letters the other.
        "us" | "usec" | "\u{b5}s" | "\u{3bc}s" | "\u{b5}sec" | "microsecond" | "microseconds" => 1e-6,
        "ns" | "nanosecond" | "nanoseconds" => 1e-9,
        "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    })
}
