//! A text of bounded length that needs no memory of its own.

use std::fmt;

use super::HEADER_BYTES_MAX;

/// Bytes of a text that are kept; the length is always exact.
pub(super) const WORD_BYTES_MAX: usize = 64;

/// A text kept inline, cut after 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    kept: u8,
    length: u16,
}

impl Word {
    pub(super) fn new(text: &str) -> Self {
        let kept = text.floor_char_boundary(WORD_BYTES_MAX);
        let mut bytes = [0; WORD_BYTES_MAX];
        bytes[..kept].copy_from_slice(&text.as_bytes()[..kept]);
        // A header is at most 16 KiB long, and so is a text in it.
        Self { bytes, kept: kept as u8, length: text.len().min(HEADER_BYTES_MAX) as u16 }
    }

    pub(super) fn as_str(&self) -> &str {
        // Cut at a character border, so the conversion cannot fail.
        std::str::from_utf8(&self.bytes[..usize::from(self.kept)]).unwrap_or_default()
    }

    /// Bytes of the whole text, also of the part that was cut.
    pub(super) fn length(&self) -> usize {
        usize::from(self.length)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
