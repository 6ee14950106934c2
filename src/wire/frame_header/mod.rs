//! The header of an incoming frame: bytes to a checked value, or to one named error.
//!
//! Why it exists: senders speak three conventions (pyzmq's `send_array`, areaDetector's `array-1.0`, numpy dtype strings)
//! and make every mistake; behind this module there is one kind of header and it is right.
//! What it must never do: allocate for a header that is right, guess what a sender meant, or trust a number.
//!
//! Values are first taken as they stand (`Leaf`, `List`: inline, no memory of their own), then judged. serde_json takes
//! memory only for escapes in keys and values known here, for unknown values nested two deep, and for syntax errors.
//!
//! areaDetector's ZeroMQ plugin gives `shape` with the fastest axis *first* (`[width, height]`), while the `array-1.0` note
//! and numpy have it last. Its headers are known by their `ndattr` key, and their shape is read backwards.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::frame::{CHANNELS_MAX, Clock, DeviceTime, Name, NameError, PixelType, SIDE_PX_MAX, Shape, Stamp};

mod error;
pub use self::error::HeaderError;

/// Longest header taken, bytes.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most parts of a message: topic, header, pixels.
pub const PARTS_MAX: usize = 3;
/// List entries that are kept; more are counted only.
const LIST_MAX: usize = 4;
/// Bytes of a text that are kept; the length is always exact.
const WORD_BYTES_MAX: usize = 64;

/// What a message says.
#[expect(clippy::large_enum_variant, reason = "a box would allocate on the frame path")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message {
    /// Pixels follow.
    Frame(FrameHeader),
    /// An acquisition begins (`"htype":"header"`).
    SeriesBegins,
    /// The acquisition is over (`"htype":"end"`).
    SeriesEnds,
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

/// Everything a frame's header says, checked.
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
    /// Names of the channels, if told.
    pub channels: [Option<Name>; CHANNELS_MAX],
}

impl FrameHeader {
    /// Bytes of pixels that must follow.
    pub fn payload_bytes(&self) -> usize {
        // At most 2 × 4096 × 4096 × 4: `shape` is bounded, so no product overflows.
        self.shape.pixels() * self.pixel_type.bytes()
    }

    /// Does the payload fit the header, and both the slot?
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
/// [`HeaderError`]; whether the pixels fit the header is [`FrameHeader::check_payload`]'s business.
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
        Kind::Begin => Ok(Message::SeriesBegins),
        Kind::End => Ok(Message::SeriesEnds),
        Kind::Frame => written.judge().map(Message::Frame),
    }
}

/// A text kept inline, cut after 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    kept: u8,
    length: u16,
}

impl Word {
    fn new(text: &str) -> Self {
        let kept = text.floor_char_boundary(WORD_BYTES_MAX);
        let mut bytes = [0; WORD_BYTES_MAX];
        bytes[..kept].copy_from_slice(&text.as_bytes()[..kept]);
        // A header is at most 16 KiB long, and so is a text in it.
        Self { bytes, kept: kept as u8, length: text.len().min(HEADER_BYTES_MAX) as u16 }
    }

    fn as_str(&self) -> &str {
        // Cut at a character border, so the conversion cannot fail.
        std::str::from_utf8(&self.bytes[..usize::from(self.kept)]).unwrap_or_default()
    }

    fn to_name(self, key: &'static str) -> Result<Name, HeaderError> {
        let length = usize::from(self.length);
        if length > WORD_BYTES_MAX {
            return Err(HeaderError::Name { key, cause: NameError::Length(length) });
        }
        self.as_str().parse().map_err(|cause| HeaderError::Name { key, cause })
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One value as it was written.
#[derive(Clone, Copy, Default)]
enum Leaf {
    /// Absent, or `null`.
    #[default]
    Nothing,
    Whole(i128),
    Float(f64),
    Text(Word),
    List,
    Other,
}

/// A list as it was written.
#[derive(Clone, Copy, Default)]
struct List {
    items: [Leaf; LIST_MAX],
    length: usize,
}

/// The keys that mean something.
#[derive(Clone, Copy)]
enum Key {
    Htype,
    Dtype,
    Type,
    Shape,
    Frame,
    TimestampNs,
    TimeStamp,
    Clock,
    Stamp,
    Source,
    Series,
    Channels,
    Plane,
    Order,
    Endianness,
    Encoding,
    Ndattr,
    Unknown,
}

/// Every key as it is written; all others are ignored.
const KEYS: [(&str, Key); 18] = [
    ("htype", Key::Htype),
    ("dtype", Key::Dtype),
    ("type", Key::Type),
    ("shape", Key::Shape),
    ("frame", Key::Frame),
    ("timestamp_ns", Key::TimestampNs),
    ("timeStamp", Key::TimeStamp),
    ("clock", Key::Clock),
    ("stamp", Key::Stamp),
    ("source", Key::Source),
    ("series", Key::Series),
    ("channels", Key::Channels),
    ("plane", Key::Plane),
    ("order", Key::Order),
    ("endianness", Key::Endianness),
    // The example in the `array-1.0` note is spelt this way.
    ("endianess", Key::Endianness),
    ("encoding", Key::Encoding),
    ("ndattr", Key::Ndattr),
];

/// The keys of a frame header that are read; a header may have others.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(KEYS.iter().find(|(name, _)| *name == text).map_or(Key::Unknown, |(_, key)| *key))
            }
        }
        json.deserialize_identifier(Name)
    }
}

/// A header as it was written.
#[derive(Default)]
struct Written {
    htype: Leaf,
    htypes: List,
    dtype: Leaf,
    kind: Leaf,
    shape: Leaf,
    sides: List,
    frame: Leaf,
    timestamp_ns: Leaf,
    timestamp_s: Leaf,
    clock: Leaf,
    stamp: Leaf,
    source: Leaf,
    series: Leaf,
    channels: Leaf,
    names: List,
    plane: Leaf,
    order: Leaf,
    endianness: Leaf,
    encoding: Leaf,
    from_area_detector: bool,
}

/// Fills [`Written`] from a JSON object.
struct Fill<'w>(&'w mut Written);

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let w = self.0;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Htype => w.htype = map.next_value_seed(Take(Some(&mut w.htypes)))?,
                Key::Shape => w.shape = map.next_value_seed(Take(Some(&mut w.sides)))?,
                Key::Channels => w.channels = map.next_value_seed(Take(Some(&mut w.names)))?,
                Key::Dtype => w.dtype = map.next_value_seed(Take(None))?,
                Key::Type => w.kind = map.next_value_seed(Take(None))?,
                Key::Frame => w.frame = map.next_value_seed(Take(None))?,
                Key::TimestampNs => w.timestamp_ns = map.next_value_seed(Take(None))?,
                Key::TimeStamp => w.timestamp_s = map.next_value_seed(Take(None))?,
                Key::Clock => w.clock = map.next_value_seed(Take(None))?,
                Key::Stamp => w.stamp = map.next_value_seed(Take(None))?,
                Key::Source => w.source = map.next_value_seed(Take(None))?,
                Key::Series => w.series = map.next_value_seed(Take(None))?,
                Key::Plane => w.plane = map.next_value_seed(Take(None))?,
                Key::Order => w.order = map.next_value_seed(Take(None))?,
                Key::Endianness => w.endianness = map.next_value_seed(Take(None))?,
                Key::Encoding => w.encoding = map.next_value_seed(Take(None))?,
                Key::Ndattr => {
                    map.next_value::<IgnoredAny>()?;
                    w.from_area_detector = true;
                }
                Key::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Takes one value as it stands; entries of a list go into the list, if there is one to hold them.
struct Take<'l>(Option<&'l mut List>);

impl<'de> DeserializeSeed<'de> for Take<'_> {
    type Value = Leaf;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Leaf, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Take(None))
    }
}

impl<'de> Visitor<'de> for Take<'_> {
    type Value = Leaf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Leaf, E> {
        Ok(Leaf::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Leaf, E> {
        Ok(Leaf::Other)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Leaf, E> {
        Ok(Leaf::Whole(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Leaf, E> {
        Ok(Leaf::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Leaf, E> {
        Ok(Leaf::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Leaf, E> {
        Ok(Leaf::Text(Word::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaf, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Leaf, A::Error> {
        let Some(into) = self.0 else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Leaf::Other);
        };
        *into = List::default();
        while into.length < LIST_MAX {
            let Some(item) = list.next_element::<Leaf>()? else { return Ok(Leaf::List) };
            into.items[into.length] = item;
            into.length += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            into.length += 1;
        }
        Ok(Leaf::List)
    }
}

/// What `htype` announces.
enum Kind {
    Frame,
    Begin,
    End,
}

const HTYPES: &str = "\"array-1.0\", \"header\" or \"end\"";

impl Written {
    fn kind(&self) -> Result<Kind, HeaderError> {
        let words = match &self.htype {
            Leaf::Nothing => return Ok(Kind::Frame),
            word @ Leaf::Text(_) => std::slice::from_ref(word),
            Leaf::List => &self.htypes.items[..self.htypes.length.min(LIST_MAX)],
            _ => return Err(HeaderError::Kind { key: "htype", wanted: HTYPES }),
        };
        let mut unknown = HeaderError::Kind { key: "htype", wanted: HTYPES };
        for word in words {
            let Leaf::Text(word) = word else { continue };
            match word.as_str().split('-').next().unwrap_or_default() {
                "array" => return Ok(Kind::Frame),
                "header" => return Ok(Kind::Begin),
                "end" => return Ok(Kind::End),
                _ => unknown = HeaderError::Unknown { key: "htype", word: *word, wanted: HTYPES },
            }
        }
        Err(unknown)
    }

    fn judge(&self) -> Result<FrameHeader, HeaderError> {
        let (pixel_type, big_endian) = self.pixel_type()?;
        let shape = self.shape()?;
        if let Leaf::Text(word) = self.encoding
            && !matches!(word.as_str(), "" | "raw" | "none")
        {
            return Err(HeaderError::Unknown { key: "encoding", word, wanted: "absent: pixels come uncompressed" });
        }
        Ok(FrameHeader {
            shape,
            pixel_type,
            big_endian,
            order: choice("order", self.order, "\"C\" or \"F\"", order_of)?.unwrap_or_default(),
            number: unsigned("frame", self.frame)?,
            t_device: self.device_time()?,
            source: name("source", self.source)?,
            series: name("series", self.series)?,
            plane: unsigned("plane", self.plane)?,
            channels: self.channel_names(shape)?,
        })
    }

    fn pixel_type(&self) -> Result<(PixelType, bool), HeaderError> {
        let dtype = choice("dtype", self.dtype, DTYPES, dtype_of)?;
        let kind = choice("type", self.kind, DTYPES, dtype_of)?;
        let ((pixel_type, mut big_endian), key) = match (dtype, kind) {
            (None, None) => return Err(HeaderError::Missing { key: "dtype", wanted: DTYPES }),
            (Some(one), None) => (one, "dtype"),
            (None, Some(one)) => (one, "type"),
            (Some(a), Some(b)) if a.0 == b.0 && agree(a.1, b.1) => ((a.0, a.1.or(b.1)), "dtype"),
            _ => return Err(HeaderError::Contradiction("dtype", "type")),
        };
        let told = choice("endianness", self.endianness, "\"little\" or \"big\"", endianness_of)?;
        if !agree(big_endian, told) {
            return Err(HeaderError::Contradiction(key, "endianness"));
        }
        big_endian = big_endian.or(told);
        Ok((pixel_type, big_endian.unwrap_or(false)))
    }

    fn shape(&self) -> Result<Shape, HeaderError> {
        const WANTED: &str = "a list: [height, width] or [channels, height, width]";
        match self.shape {
            Leaf::List => {}
            Leaf::Nothing => return Err(HeaderError::Missing { key: "shape", wanted: WANTED }),
            _ => return Err(HeaderError::Kind { key: "shape", wanted: WANTED }),
        }
        let rank = self.sides.length;
        if rank != 2 && rank != 3 {
            return Err(HeaderError::Rank(rank));
        }
        let mut axes = [0u64; 3];
        for (axis, &leaf) in axes.iter_mut().zip(&self.sides.items[..rank]) {
            *axis = whole("shape", leaf, 0, u64::MAX.into())?
                .ok_or(HeaderError::Kind { key: "shape", wanted: WANTED })? as u64;
        }
        if self.from_area_detector {
            axes[..rank].reverse();
        }
        let (channels, height, width) = if rank == 2 { (1, axes[0], axes[1]) } else { (axes[0], axes[1], axes[2]) };
        if channels > CHANNELS_MAX as u64 {
            return Err(HeaderError::Channels(channels));
        }
        for (side, max) in [(channels, CHANNELS_MAX), (height, SIDE_PX_MAX), (width, SIDE_PX_MAX)] {
            if side == 0 || side > max as u64 {
                return Err(HeaderError::Range { key: "shape", value: side as f64, min: 1, max: max as i128 });
            }
        }
        Ok(Shape::new(channels as usize, height as usize, width as usize))
    }

    fn device_time(&self) -> Result<Option<DeviceTime>, HeaderError> {
        let clock = choice("clock", self.clock, "\"monotonic\", \"unix\", \"device\" or \"ptp\"", clock_of)?;
        let stamp = choice("stamp", self.stamp, "\"start\", \"mid\" or \"end\"", stamp_of)?;
        let ns = match whole("timestamp_ns", self.timestamp_ns, i64::MIN.into(), i64::MAX.into())? {
            Some(ns) => Some(ns as i64),
            None => seconds("timeStamp", self.timestamp_s)?,
        };
        Ok(ns.map(|ns| DeviceTime { ns, clock: clock.unwrap_or(Clock::Device), stamp }))
    }

    fn channel_names(&self, shape: Shape) -> Result<[Option<Name>; CHANNELS_MAX], HeaderError> {
        let mut names = [None; CHANNELS_MAX];
        match self.channels {
            Leaf::Nothing => return Ok(names),
            Leaf::List => {}
            _ => return Err(HeaderError::Kind { key: "channels", wanted: "a list of names" }),
        }
        if self.names.length != shape.channels {
            return Err(HeaderError::ChannelNames { names: self.names.length, channels: shape.channels });
        }
        for (into, &leaf) in names.iter_mut().zip(&self.names.items[..shape.channels]) {
            *into = name("channels", leaf)?;
        }
        Ok(names)
    }
}

const DTYPES: &str = "uint8, uint16, int16 or float32 (numpy: <u2, >u2, |u1, <i2, <f4 …)";

/// Pixel type, and whether the most significant byte comes first, if the word says so.
fn dtype_of(word: &str) -> Option<(PixelType, Option<bool>)> {
    let (big_endian, rest) = match word.as_bytes().first()? {
        b'<' => (Some(false), &word[1..]),
        b'>' => (Some(true), &word[1..]),
        b'|' | b'=' => (None, &word[1..]),
        _ => (None, word),
    };
    let pixel_type = match rest {
        "uint8" | "u1" | "B" => PixelType::U8,
        "uint16" | "u2" | "H" => PixelType::U16,
        "int16" | "i2" | "h" => PixelType::I16,
        "float32" | "f4" | "f" | "single" => PixelType::F32,
        _ => return None,
    };
    Some((pixel_type, big_endian.filter(|_| pixel_type.bytes() > 1)))
}

fn agree(a: Option<bool>, b: Option<bool>) -> bool {
    a.is_none() || b.is_none() || a == b
}

fn endianness_of(word: &str) -> Option<bool> {
    match word {
        "little" => Some(false),
        "big" => Some(true),
        _ => None,
    }
}

fn order_of(word: &str) -> Option<Order> {
    match word {
        "C" => Some(Order::C),
        "F" => Some(Order::F),
        _ => None,
    }
}

fn clock_of(word: &str) -> Option<Clock> {
    match word {
        "monotonic" => Some(Clock::Monotonic),
        "unix" => Some(Clock::Unix),
        "device" => Some(Clock::Device),
        "ptp" => Some(Clock::Ptp),
        _ => None,
    }
}

fn stamp_of(word: &str) -> Option<Stamp> {
    match word {
        "start" => Some(Stamp::Start),
        "mid" => Some(Stamp::Mid),
        "end" => Some(Stamp::End),
        _ => None,
    }
}

fn choice<T>(
    key: &'static str,
    leaf: Leaf,
    wanted: &'static str,
    of: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, HeaderError> {
    match leaf {
        Leaf::Nothing => Ok(None),
        Leaf::Text(word) => of(word.as_str()).map(Some).ok_or(HeaderError::Unknown { key, word, wanted }),
        _ => Err(HeaderError::Kind { key, wanted }),
    }
}

fn name(key: &'static str, leaf: Leaf) -> Result<Option<Name>, HeaderError> {
    match leaf {
        Leaf::Nothing => Ok(None),
        Leaf::Text(word) => word.to_name(key).map(Some),
        _ => Err(HeaderError::Kind { key, wanted: "a name: A-Z a-z 0-9 _ . -" }),
    }
}

fn unsigned(key: &'static str, leaf: Leaf) -> Result<Option<u64>, HeaderError> {
    Ok(whole(key, leaf, 0, u64::MAX.into())?.map(|value| value as u64))
}

/// A whole number; MATLAB and JavaScript write large ones as 1.73e18.
fn whole(key: &'static str, leaf: Leaf, min: i128, max: i128) -> Result<Option<i128>, HeaderError> {
    let value = match leaf {
        Leaf::Nothing => return Ok(None),
        Leaf::Whole(value) => value,
        // A cast of a float saturates, so that the bound below still refuses it.
        Leaf::Float(value) if value.fract() == 0.0 => value as i128,
        Leaf::Float(value) => return Err(HeaderError::Range { key, value, min, max }),
        _ => return Err(HeaderError::Kind { key, wanted: "a whole number" }),
    };
    if value < min || value > max {
        return Err(HeaderError::Range { key, value: value as f64, min, max });
    }
    Ok(Some(value))
}

/// Seconds as areaDetector writes them, to ns.
fn seconds(key: &'static str, leaf: Leaf) -> Result<Option<i64>, HeaderError> {
    let value = match leaf {
        Leaf::Nothing => return Ok(None),
        Leaf::Whole(value) => value as f64,
        Leaf::Float(value) => value,
        _ => return Err(HeaderError::Kind { key, wanted: "a number of seconds" }),
    };
    // i64 nanoseconds last 292 years.
    const MAX_S: f64 = 9.2e9;
    if value.abs() > MAX_S {
        return Err(HeaderError::Range { key, value, min: -(MAX_S as i128), max: MAX_S as i128 });
    }
    Ok(Some((value * 1e9).round() as i64))
}

#[cfg(test)]
mod tests;
