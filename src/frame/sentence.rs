//! A sentence for people, kept inline.
//!
//! Why it exists: an event crosses threads without allocating, and still says key, value and bound. What it must never do: grow; a
//! longer sentence is cut and ends with an ellipsis.

use std::fmt::{self, Write};

/// Longest sentence kept, bytes.
pub const SENTENCE_BYTES_MAX: usize = 240;
/// Ends a sentence that was cut.
const CUT: &str = "…";

/// A text of at most [`SENTENCE_BYTES_MAX`] bytes. Copying and writing it never allocate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sentence {
    bytes: [u8; SENTENCE_BYTES_MAX],
    length: u8,
}

impl Sentence {
    /// What `text` displays, as far as it fits.
    pub fn of(text: &impl fmt::Display) -> Self {
        let mut sentence = Self { bytes: [0; SENTENCE_BYTES_MAX], length: 0 };
        if write!(sentence, "{text}").is_err() {
            let kept = sentence.as_str().floor_char_boundary(SENTENCE_BYTES_MAX - CUT.len());
            sentence.length = kept as u8;
            // Just made room for it.
            let _ = sentence.write_str(CUT);
        }
        sentence
    }

    /// The sentence as text.
    pub fn as_str(&self) -> &str {
        // Cut between characters, so the conversion cannot fail.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl Write for Sentence {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let from = usize::from(self.length);
        let kept = text.floor_char_boundary(SENTENCE_BYTES_MAX - from);
        self.bytes[from..from + kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.length = (from + kept) as u8;
        if kept == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Debug for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Sentence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_kept_whole_or_cut_between_characters_with_an_ellipsis() {
        assert_eq!(Sentence::of(&format_args!("{} is {}", "shape", 4097)).as_str(), "shape is 4097");
        let exact = "x".repeat(SENTENCE_BYTES_MAX);
        assert_eq!(Sentence::of(&exact).as_str(), exact);
        for letter in ["x", "µ", "…", "🪰"] {
            let cut = Sentence::of(&letter.repeat(SENTENCE_BYTES_MAX + 1));
            let kept = cut.as_str().strip_suffix(CUT).unwrap();
            assert!(kept.len() + CUT.len() + letter.len() > SENTENCE_BYTES_MAX, "{kept}");
            assert!(kept.chars().all(|c| letter.starts_with(c)), "{kept}");
        }
    }
}
