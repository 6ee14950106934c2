//! Everything that can be wrong with a header, each with its message and its counter.
//!
//! Why it exists: whoever fixes the sender must be told the key, the value and the bound.
//! What it must never do: hold text made at run time.

use super::HEADER_BYTES_MAX;
use super::word::Word;
use crate::frame::event::{Reason, Refusal};
use crate::frame::{CHANNELS_MAX, NameError, PixelType, Sentence, Shape};

/// Why a message is rejected.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// Too many or too few parts.
    #[error("message has {0} part(s); a frame has 2 or 3 ([topic] header pixels), a lifecycle message 1 or 2")]
    Parts(usize),
    /// Header too long.
    #[error("header is {0} bytes long; at most {HEADER_BYTES_MAX} are accepted")]
    Size(usize),
    /// Not a JSON object.
    #[error("header is not a JSON object in UTF-8 (line {line}, column {column})")]
    Syntax {
        /// Line of the first mistake.
        line: usize,
        /// Column of the first mistake.
        column: usize,
    },
    /// A key that must be there is not.
    #[error("header has no {key:?}; it must give {wanted}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it must hold.
        wanted: &'static str,
    },
    /// A value of another kind.
    #[error("{key:?} must be {wanted}")]
    Kind {
        /// The key.
        key: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// An unknown word.
    #[error("{key:?} is {word:?}; it must be {wanted}")]
    Unknown {
        /// The key.
        key: &'static str,
        /// The word, cut after 64 bytes.
        word: Word,
        /// Words that are known.
        wanted: &'static str,
    },
    /// Two keys that contradict each other.
    #[error("{0:?} and {1:?} contradict each other; leave one out")]
    Contradiction(&'static str, &'static str),
    /// A number out of range.
    #[error("{key:?} is {value}; it must be a whole number from {min} to {max}")]
    Range {
        /// The key.
        key: &'static str,
        /// The number.
        value: f64,
        /// Smallest accepted.
        min: i128,
        /// Largest accepted.
        max: i128,
    },
    /// Neither `[h, w]` nor `[c, h, w]`.
    #[error("\"shape\" has {0} axes; it must be [height, width] or [channels, height, width]")]
    Rank(usize),
    /// More channels than are supported.
    #[error("\"shape\" has {0} channels; 1 to {CHANNELS_MAX} are accepted, and channels are the first axis")]
    Channels(u64),
    /// Channel names do not match the shape.
    #[error("\"channels\" names {names} channel(s), the frame has {channels}")]
    ChannelNames {
        /// Names given.
        names: usize,
        /// Channels by the shape.
        channels: usize,
    },
    /// Not a name.
    #[error("{key:?} {cause}")]
    Name {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        cause: NameError,
    },
    /// Another number of bytes than the header declares.
    #[error("received {bytes} bytes of pixels; {shape} {pixel_type} needs {expected}")]
    Length {
        /// Bytes received.
        bytes: usize,
        /// Bytes needed.
        expected: usize,
        /// By this shape.
        shape: Shape,
        /// And this type.
        pixel_type: PixelType,
    },
    /// A frame that no slot can hold.
    #[error("frame has {bytes} bytes; at most {bytes_max} are accepted: raise `source.frame_max_mib`")]
    TooLarge {
        /// Bytes by the header.
        bytes: usize,
        /// Bytes of a slot.
        bytes_max: usize,
    },
}

impl HeaderError {
    /// The counter it belongs to.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Parts(_) => Reason::Parts,
            Self::Size(_) => Reason::HeaderSize,
            Self::Syntax { .. } => Reason::HeaderSyntax,
            Self::Missing { key, .. } | Self::Kind { key, .. } | Self::Unknown { key, .. } => reason_of(key),
            Self::Contradiction(..) => Reason::PixelType,
            Self::Range { key, .. } => reason_of(key),
            Self::Rank(_) => Reason::Shape,
            Self::Channels(_) | Self::ChannelNames { .. } => Reason::Channel,
            Self::Name { .. } => Reason::Name,
            Self::Length { .. } => Reason::Length,
            Self::TooLarge { .. } => Reason::TooLarge,
        }
    }

    /// The key that is wrong, where it is one.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Missing { key, .. }
            | Self::Kind { key, .. }
            | Self::Unknown { key, .. }
            | Self::Range { key, .. }
            | Self::Name { key, .. } => key,
            Self::Contradiction(key, _) => key,
            Self::ChannelNames { .. } => "channels",
            Self::Rank(_) | Self::Channels(_) => "shape",
            Self::Parts(_) | Self::Size(_) | Self::Syntax { .. } | Self::Length { .. } | Self::TooLarge { .. } => "",
        }
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self { reason: error.reason(), message: Sentence::of(&error) }
    }
}

fn reason_of(key: &str) -> Reason {
    match key {
        "shape" => Reason::Shape,
        "dtype" | "type" => Reason::PixelType,
        "source" | "series" | "channels" => Reason::Name,
        _ => Reason::Field,
    }
}
