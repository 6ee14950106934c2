//! Marks with times, as they come in at the inlet.
//!
//! Why it exists: a photodiode, a projector or a controller says when something happened, on a clock of its own. What it must never do:
//! take what cannot be read for something else: a mark at a wrong time is worse than none.

use serde::Deserialize;

use crate::frame::{Clock, Name};

/// Longest message, bytes.
pub const INLET_BYTES_MAX: usize = 4 << 10;
/// The keys that are read.
pub const KEYS: [&str; 5] = ["name", "from", "timestamp_ns", "clock", "decision"];

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct InletMessage {
    /// What happened.
    pub name: Name,
    /// Who says so; clocks are kept apart by it.
    #[serde(default = "unnamed")]
    pub from: Name,
    /// When, ns.
    pub timestamp_ns: Option<i64>,
    /// On which clock.
    #[serde(default = "device")]
    pub clock: Clock,
    /// `seq` of the decision that is acknowledged.
    pub decision: Option<u64>,
}

const fn unnamed() -> Name {
    Name::literal("inlet")
}

const fn device() -> Clock {
    Clock::Device
}

/// Why a message is not a mark.
#[derive(Debug, thiserror::Error)]
pub enum InletError {
    /// More than one part.
    #[error("a message of {0} parts; a mark has one")]
    Parts(usize),
    /// Too long.
    #[error("{0} bytes; a mark has at most {INLET_BYTES_MAX}")]
    Size(usize),
    /// Not an object of the documented form.
    #[error("{0}; write e.g. {{\"name\":\"flash\",\"timestamp_ns\":1,\"clock\":\"monotonic\"}}")]
    Form(#[from] serde_json::Error),
}

/// Reads one message.
///
/// # Errors
/// Why it is not a mark.
pub fn parse(parts: &[impl AsRef<[u8]>]) -> Result<InletMessage, InletError> {
    let [message] = parts else { return Err(InletError::Parts(parts.len())) };
    let message = message.as_ref();
    if message.len() > INLET_BYTES_MAX {
        return Err(InletError::Size(message.len()));
    }
    Ok(serde_json::from_slice(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_with_all_its_keys_or_with_its_name_alone() {
        let full = br#"{"name":"flash","from":"diode","timestamp_ns":-5,"clock":"unix","decision":7,"gain":[1]}"#;
        let mark = parse(&[full]).unwrap();
        assert_eq!((mark.name.as_str(), mark.from.as_str(), mark.timestamp_ns), ("flash", "diode", Some(-5)));
        assert_eq!((mark.clock, mark.decision), (Clock::Unix, Some(7)));
        let bare = parse(&[br#"{"name":"flash"}"#]).unwrap();
        assert_eq!((bare.from.as_str(), bare.timestamp_ns, bare.clock), ("inlet", None, Clock::Device));
    }

    #[test]
    fn what_is_no_mark_is_refused_by_name() {
        for (message, word) in [
            (&br#"{"timestamp_ns":1}"#[..], "name"),
            (br#"{"name":"a b"}"#, "a b"),
            (br#"{"name":"a","clock":"sundial"}"#, "sundial"),
            (br#"{"name":"a","timestamp_ns":"noon"}"#, "noon"),
            (br#"{"name":"a","timestamp_ns":1e30}"#, "timestamp_ns\":1"),
            (b"\xff", "line 1"),
            (&[b' '; INLET_BYTES_MAX + 1], "4096"),
        ] {
            let error = parse(&[message]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(parse(&[b"{}", b"{}"]).unwrap_err().to_string().contains("2 parts"));
    }
}
