//! The header of an incoming frame: bytes to a checked value, or to one named error.
//!
//! Why it exists: senders follow three conventions (pyzmq's `send_array`, areaDetector's `array-1.0`, numpy dtype strings)
//! and make every mistake; behind this module there is one kind of header, and it is valid.
//! What it must never do: allocate for a valid header, guess what a sender meant, or trust a number.
//!
//! A key that is wrong costs the frame where the frame would mean something else without it: pixels, number, plane, names. Times,
//! their clock and stamp, and the channels' names are left out instead, and the header says so in `ignored`.
//!
//! `written` takes the values as they stand, `judge` checks them.
//!
//! areaDetector's ZeroMQ plugin gives `shape` with the fastest axis *first* (`[width, height]`); the `array-1.0` note
//! and numpy have it last. Its headers are recognised by their `ndattr` key, and their shape is read backwards.

mod error;
mod judge;
mod word;
mod written;

use serde::de::Deserializer;

use crate::frame::{CHANNELS_MAX, DeviceTime, Marks, Name, PixelType, Shape};

pub use self::error::HeaderError;
use self::judge::Kind;
pub use self::word::Word;
pub use self::written::keys;
use self::written::{Fill, Written};

/// Longest header accepted, bytes.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most parts of a message: topic, header, pixels.
pub const PARTS_MAX: usize = 3;

/// A parsed message.
#[expect(clippy::large_enum_variant, reason = "a box would allocate on the frame path")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message {
    /// Pixels follow.
    Frame(FrameHeader),
    /// An acquisition begins (`"htype":"header"`), of this source if it says so.
    SeriesBegins(Option<Name>),
    /// The acquisition is over (`"htype":"end"`), of this source if it says so.
    SeriesEnds(Option<Name>),
}

/// Order of the axes in the sender's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Last axis fastest: numpy, C.
    #[default]
    C,
    /// First axis fastest: MATLAB, Fortran.
    F,
}

/// The checked contents of a frame's header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameHeader {
    /// Channels × height × width.
    pub shape: Shape,
    /// How pixels are stored.
    pub pixel_type: PixelType,
    /// Most significant byte first.
    pub big_endian: bool,
    /// Order of the axes in memory; `shape` is the array's shape in either case.
    pub order: Order,
    /// The sender's number of the frame.
    pub number: Option<u64>,
    /// The sender's time of the frame.
    pub t_device: Option<DeviceTime>,
    /// Which rig.
    pub source: Option<Name>,
    /// Which acquisition.
    pub series: Option<Name>,
    /// Which plane of a volume.
    pub plane: Option<u64>,
    /// Names of the channels, if given.
    pub channels: [Option<Name>; CHANNELS_MAX],
    /// What the sender said of the frame.
    pub marks: Marks,
    /// The first optional key that could not be read and without which the frame still means the same: it is left out.
    pub ignored: Option<HeaderError>,
    /// The animal, if the sender names it.
    pub animal: Option<Name>,
}

impl FrameHeader {
    /// Bytes of pixels that must follow.
    pub fn payload_bytes(&self) -> usize {
        // At most 2 × 4096 × 4096 × 4: `shape` is bounded, so no product overflows.
        self.shape.pixels() * self.pixel_type.bytes()
    }

    /// Checks that the payload matches the header, and that both fit into the slot.
    ///
    /// # Errors
    /// [`HeaderError::TooLarge`] before [`HeaderError::Length`].
    pub fn check_payload(&self, bytes: usize, bytes_max: usize) -> Result<(), HeaderError> {
        let expected = self.payload_bytes();
        if expected > bytes_max {
            return Err(HeaderError::TooLarge { bytes: expected, bytes_max });
        }
        if bytes != expected {
            return Err(HeaderError::Length { bytes, expected, shape: self.shape, pixel_type: self.pixel_type });
        }
        Ok(())
    }
}

/// Finds header and pixels among the parts of a message, by position and by the header's opening brace.
///
/// # Errors
/// [`HeaderError`]; [`FrameHeader::check_payload`] checks the pixels against the header.
pub fn parse_message<'p>(parts: &[&'p [u8]]) -> Result<(Message, &'p [u8]), HeaderError> {
    let (header, pixels) = match *parts {
        [header] => (header, None),
        [header, pixels] if looks_like_header(header) => (header, Some(pixels)),
        [_topic, header] => (header, None),
        [_topic, header, pixels] => (header, Some(pixels)),
        _ => return Err(HeaderError::Parts(parts.len())),
    };
    match (parse(header)?, pixels) {
        (Message::Frame(_), None) => Err(HeaderError::Parts(parts.len())),
        (message, pixels) => Ok((message, pixels.unwrap_or_default())),
    }
}

fn looks_like_header(part: &[u8]) -> bool {
    part.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
}

/// Reads one header.
///
/// # Errors
/// [`HeaderError`], naming the first thing that is wrong.
pub fn parse(bytes: &[u8]) -> Result<Message, HeaderError> {
    if bytes.len() > HEADER_BYTES_MAX {
        return Err(HeaderError::Size(bytes.len()));
    }
    let mut written = Written::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    json.deserialize_map(Fill(&mut written))
        .and_then(|()| json.end())
        .map_err(|e| HeaderError::Syntax { line: e.line(), column: e.column() })?;
    match written.kind()? {
        Kind::Begin => written.source().map(Message::SeriesBegins),
        Kind::End => written.source().map(Message::SeriesEnds),
        Kind::Frame => written.judge().map(Message::Frame),
    }
}

#[cfg(test)]
mod tests;
