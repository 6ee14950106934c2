//! Seconds since 1970, now and as a date.
//!
//! Why it exists: names of sessions and the clock of an export speak UTC, and nothing else of a calendar is needed. What it must
//! never do: know a time zone.

use std::time::SystemTime;

/// Year, month, day, hour, minute and second, UTC; reckoned by a calendar that begins each year in March.
pub fn utc(unix_s: u64) -> [u64; 6] {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    [year, month, day, second / 3600, second / 60 % 60, second % 60]
}

/// Nanoseconds since 1970 UTC.
pub fn unix_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Seconds since 1970 UTC.
pub fn unix_s() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
