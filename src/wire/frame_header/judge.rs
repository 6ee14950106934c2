//! From the values of a header to a checked [`FrameHeader`], or to the first thing that is wrong.

use super::error::HeaderError;
use super::word::WORD_BYTES_MAX;
use super::written::{LIST_MAX, Leaf, Written};
use super::{FrameHeader, Order};
use crate::frame::{CHANNELS_MAX, Clock, DeviceTime, Marks, Name, NameError, PixelType, SIDE_PX_MAX, Shape, Stamp};

/// The type of message that `htype` announces.
pub(super) enum Kind {
    Frame,
    Begin,
    End,
}

const HTYPES: &str = "\"array-1.0\", \"header\" or \"end\"";

impl Written {
    pub(super) fn kind(&self) -> Result<Kind, HeaderError> {
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

    pub(super) fn judge(&self) -> Result<FrameHeader, HeaderError> {
        let (pixel_type, big_endian) = self.pixel_type()?;
        let shape = self.shape()?;
        if let Leaf::Text(word) = self.encoding
            && !matches!(word.as_str(), "" | "raw" | "none")
        {
            return Err(HeaderError::Unknown { key: "encoding", word, wanted: "absent: pixels must be uncompressed" });
        }
        let mut ignored = None;
        Ok(FrameHeader {
            shape,
            pixel_type,
            big_endian,
            order: choice("order", self.order, "\"C\" or \"F\"", order_of)?.unwrap_or_default(),
            number: unsigned("frame", self.frame)?,
            t_device: self.device_time(&mut ignored),
            source: self.source()?,
            series: name("series", self.series)?,
            plane: unsigned("plane", self.plane)?,
            channels: self.channel_names(shape, &mut ignored)?,
            animal: name("animal", self.animal)?,
            marks: Marks {
                invalid: flag("valid", self.valid)? == Some(false),
                stimulus: flag("stimulus", self.stimulus)? == Some(true),
            },
            ignored,
        })
    }

    pub(super) fn source(&self) -> Result<Option<Name>, HeaderError> {
        name("source", self.source)
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
        let declared = choice("endianness", self.endianness, "\"little\" or \"big\"", endianness_of)?;
        if !agree(big_endian, declared) {
            return Err(HeaderError::Contradiction(key, "endianness"));
        }
        big_endian = big_endian.or(declared);
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

    /// The microscope's time, as far as it can be read.
    fn device_time(&self, ignored: &mut Option<HeaderError>) -> Option<DeviceTime> {
        let clock = choice("clock", self.clock, "\"monotonic\", \"unix\", \"device\" or \"ptp\"", clock_of);
        let stamp = choice("stamp", self.stamp, "\"start\", \"mid\" or \"end\"", stamp_of);
        let (stamp, clock) = (leave_out(stamp, ignored), leave_out(clock, ignored));
        let ns =
            whole("timestamp_ns", self.timestamp_ns, i64::MIN.into(), i64::MAX.into()).map(|ns| ns.map(|ns| ns as i64));
        let ns = leave_out(ns, ignored).or_else(|| leave_out(seconds("timeStamp", self.timestamp_s), ignored))?;
        Some(DeviceTime { ns, clock: clock.unwrap_or(Clock::Device), stamp })
    }

    fn channel_names(
        &self,
        shape: Shape,
        ignored: &mut Option<HeaderError>,
    ) -> Result<[Option<Name>; CHANNELS_MAX], HeaderError> {
        let mut names = [None; CHANNELS_MAX];
        match self.channels {
            Leaf::Nothing => return Ok(names),
            Leaf::List => {}
            _ => {
                leave_out::<Name>(Err(HeaderError::Kind { key: "channels", wanted: "a list of names" }), ignored);
                return Ok(names);
            }
        }
        // Another number of names than of channels is a contradiction about what the pixels are.
        if self.names.length != shape.channels {
            return Err(HeaderError::ChannelNames { names: self.names.length, channels: shape.channels });
        }
        for (into, &leaf) in names.iter_mut().zip(&self.names.items[..shape.channels]) {
            *into = leave_out(name("channels", leaf), ignored);
        }
        Ok(names)
    }
}

/// The value, or nothing where it cannot be read; the first such key is kept to be told.
fn leave_out<T>(value: Result<Option<T>, HeaderError>, ignored: &mut Option<HeaderError>) -> Option<T> {
    value.unwrap_or_else(|error| {
        ignored.get_or_insert(error);
        None
    })
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
        Leaf::Text(word) if word.length() > WORD_BYTES_MAX => {
            Err(HeaderError::Name { key, cause: NameError::Length(word.length()) })
        }
        Leaf::Text(word) => word.as_str().parse().map(Some).map_err(|cause| HeaderError::Name { key, cause }),
        _ => Err(HeaderError::Kind { key, wanted: "a name: A-Z a-z 0-9 _ . -" }),
    }
}

fn unsigned(key: &'static str, leaf: Leaf) -> Result<Option<u64>, HeaderError> {
    Ok(whole(key, leaf, 0, u64::MAX.into())?.map(|value| value as u64))
}

fn flag(key: &'static str, leaf: Leaf) -> Result<Option<bool>, HeaderError> {
    match leaf {
        Leaf::Nothing => Ok(None),
        Leaf::Flag(value) => Ok(Some(value)),
        _ => Err(HeaderError::Kind { key, wanted: "true or false" }),
    }
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
