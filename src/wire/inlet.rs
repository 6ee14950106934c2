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

/// A text that came over Lab Streaming Layer, stamped at `t_ns` of our clock: an object of the documented form, or a mark of that name.
///
/// # Errors
/// A text of which no name can be made, or an object that is no mark.
pub fn of_marker(text: &str, t_ns: Option<i64>) -> Result<InletMessage, InletError> {
    let stamped = |message: InletMessage| match message.timestamp_ns {
        Some(_) => message,
        None => InletMessage { timestamp_ns: t_ns, clock: Clock::Monotonic, ..message },
    };
    if text.starts_with('{') {
        return parse(&[text]).map(stamped);
    }
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    let name: String = text.chars().take(NAME_CHARS_MAX).map(fits).collect();
    let name = name.parse().map_err(|_| InletError::Empty)?;
    Ok(stamped(InletMessage {
        name,
        from: Name::literal("lsl"),
        timestamp_ns: None,
        clock: Clock::Monotonic,
        decision: None,
    }))
}

/// Longest name.
const NAME_CHARS_MAX: usize = 64;

/// Why a message is not a mark.
#[derive(Debug, thiserror::Error)]
pub enum InletError {
    /// More than one part.
    #[error("a message of {0} parts; a mark has one")]
    Parts(usize),
    /// Too long.
    #[error("{0} bytes; a mark has at most {INLET_BYTES_MAX}")]
    Size(usize),
    /// No text.
    #[error("an empty text")]
    Empty,
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

    #[test]
    fn a_text_of_lsl_is_a_mark_of_that_name_or_the_object_that_it_spells() {
        let mark = of_marker("light on!", Some(7)).unwrap();
        assert_eq!((mark.name.as_str(), mark.from.as_str()), ("light_on_", "lsl"));
        assert_eq!((mark.timestamp_ns, mark.clock), (Some(7), Clock::Monotonic));
        let ack = of_marker(r#"{"name":"pulse","from":"laser","decision":17}"#, Some(9)).unwrap();
        assert_eq!((ack.from.as_str(), ack.decision, ack.timestamp_ns), ("laser", Some(17), Some(9)));
        let own = of_marker(r#"{"name":"pulse","timestamp_ns":3,"clock":"device"}"#, Some(9)).unwrap();
        assert_eq!((own.timestamp_ns, own.clock), (Some(3), Clock::Device));
        assert!(of_marker("", None).is_err() && of_marker("{", None).is_err());
    }
}
