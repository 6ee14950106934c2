//! The head of a recorded frame: 256 bytes, little-endian, followed by the pixels as in memory, C order, channel by channel.
//!
//! | byte | type | what |
//! |---|---|---|
//! | 0 | 4 bytes | `HFRM` |
//! | 4 | u16 | version, 1 |
//! | 6 | u16 | bytes of this head, 256 |
//! | 8 | u8 | pixels: 0 uint8, 1 uint16, 2 int16, 3 float32 |
//! | 9 | u8 | flags: 1 first of its series, 2 has a device time, 4 has a series, 8 has a stamp, 16 pixels are big-endian, 32 marked as not valid, 64 light went in |
//! | 10 | u8 | clock of the device time: 0 monotonic, 1 unix, 2 device, 3 ptp |
//! | 11 | u8 | stamp: 0 start, 1 mid, 2 end of the exposure |
//! | 12 | 3 × u32 | channels, height, width |
//! | 24 | u64 | frame number, the sender's |
//! | 32 | u64 | frames missing just before it, by the sender's numbers |
//! | 40 | u64 | frames that arrived before it: a step above 1 means that frames were skipped and are not in the file |
//! | 48 | u64 | received, `CLOCK_MONOTONIC`, ns |
//! | 56 | i64 | device time, ns |
//! | 64 | 64 bytes | source, zero-padded |
//! | 128 | 64 bytes | series, zero-padded |
//! | 192 | u64 | age at receipt, ns, if it is known |
//! | 200 | u8 | more flags: 1 the age is known, 2 decoded without being published |
//! | 201 | 47 bytes | zeros |
//! | 248 | i64 | what must be added to the frame number to count frames one by one |
//!
//! Why it exists: pixels as JSON would take ten times the space, and numpy reads this with an offset of 256. What it must never
//! do: accept a head that does not match its pixels.

use crate::frame::{
    CHANNELS_MAX, Clock, DeviceTime, Frame, FrameInfo, Marks, NAME_BYTES_MAX, Name, PixelType, SIDE_PX_MAX, Shape,
    Stamp,
};

/// Bytes before the pixels.
pub const HEAD_BYTES: usize = 256;
const MAGIC: [u8; 4] = *b"HFRM";
const VERSION: u16 = 1;

const SERIES_BEGAN: u8 = 1;
const HAS_DEVICE_TIME: u8 = 2;
const HAS_SERIES: u8 = 4;
const HAS_STAMP: u8 = 8;
const BIG_ENDIAN: u8 = 16;
const INVALID: u8 = 32;
const STIMULUS: u8 = 64;
/// Where the offset of the ordinal lies; 0 in files of before.
const ORDINAL_AT: usize = 248;
/// Where the age lies, and the flags beside it; zeros in files that know neither.
const AGE_AT: usize = 192;
const MORE_FLAGS_AT: usize = 200;
const HAS_AGE: u8 = 1;
const UNPUBLISHED: u8 = 2;

const PIXELS: [PixelType; 4] = [PixelType::U8, PixelType::U16, PixelType::I16, PixelType::F32];
const CLOCKS: [Clock; 4] = [Clock::Monotonic, Clock::Unix, Clock::Device, Clock::Ptp];
const STAMPS: [Stamp; 3] = [Stamp::Start, Stamp::Mid, Stamp::End];

/// Writes head and pixels into `into`, replacing what was there.
pub fn write(frame: &Frame, arrival: u64, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&head(&frame.info, arrival));
    into.extend_from_slice(frame.bytes());
}

/// The head alone.
pub fn head(info: &FrameInfo, arrival: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let stamp = info.t_device.and_then(|time| time.stamp);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(info.series_began, SERIES_BEGAN)
        | flag(info.t_device.is_some(), HAS_DEVICE_TIME)
        | flag(info.series.is_some(), HAS_SERIES)
        | flag(stamp.is_some(), HAS_STAMP)
        | flag(cfg!(target_endian = "big"), BIG_ENDIAN)
        | flag(info.marks.invalid, INVALID)
        | flag(info.marks.stimulus, STIMULUS);
    put(0, &MAGIC);
    put(4, &VERSION.to_le_bytes());
    put(6, &(HEAD_BYTES as u16).to_le_bytes());
    put(
        8,
        &[
            place(&PIXELS, info.pixel_type),
            flags,
            info.t_device.map_or(0, |time| place(&CLOCKS, time.clock)),
            stamp.map_or(0, |stamp| place(&STAMPS, stamp)),
        ],
    );
    for (index, side) in [info.shape.channels, info.shape.height, info.shape.width].into_iter().enumerate() {
        put(12 + 4 * index, &(side as u32).to_le_bytes());
    }
    for (index, number) in [info.number, info.gap, arrival, info.t_received_ns].into_iter().enumerate() {
        put(24 + 8 * index, &number.to_le_bytes());
    }
    put(56, &info.t_device.map_or(0, |time| time.ns).to_le_bytes());
    put(64, info.source.as_str().as_bytes());
    put(ORDINAL_AT, &info.ordinal_offset.to_le_bytes());
    put(128, info.series.as_ref().map_or("", |series| series.as_str()).as_bytes());
    put(AGE_AT, &info.age_ns.unwrap_or(0).to_le_bytes());
    put(MORE_FLAGS_AT, &[flag(info.age_ns.is_some(), HAS_AGE) | flag(info.unpublished, UNPUBLISHED)]);
    head
}

/// Reads the head of a message of the topic `frames`: the frame without its pixels, which start at [`HEAD_BYTES`], and the number
/// of frames that had arrived before it.
///
/// # Errors
/// What is wrong with the head.
pub fn read(message: &[u8]) -> Result<(FrameInfo, u64), String> {
    let head: &[u8; HEAD_BYTES] = message.first_chunk().ok_or("is shorter than its head")?;
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if head[..4] != MAGIC {
        return Err("does not begin with HFRM".into());
    }
    let version = u32_at(4) as u16;
    if version != VERSION || usize::from((u32_at(4) >> 16) as u16) != HEAD_BYTES {
        return Err(format!("has version {version}; this haltere reads {VERSION}"));
    }
    let [pixels, flags, clock, stamp] = [head[8], head[9], head[10], head[11]];
    let has = |flag: u8| flags & flag != 0;
    if has(BIG_ENDIAN) != cfg!(target_endian = "big") {
        return Err("was recorded on a machine with the other byte order".into());
    }
    let pixel_type = of(&PIXELS, pixels, "pixel type")?;
    let shape = shape([u32_at(12), u32_at(16), u32_at(20)])?;
    let length = shape.pixels() * pixel_type.bytes();
    if message.len() - HEAD_BYTES != length {
        return Err(format!("has {} bytes of pixels for {shape} {pixel_type}", message.len() - HEAD_BYTES));
    }
    let stamp = if has(HAS_STAMP) { Some(of(&STAMPS, stamp, "stamp")?) } else { None };
    let ns = u64_at(56) as i64;
    let t_device =
        if has(HAS_DEVICE_TIME) { Some(DeviceTime { ns, clock: of(&CLOCKS, clock, "clock")?, stamp }) } else { None };
    let info = FrameInfo {
        shape,
        pixel_type,
        number: u64_at(24),
        gap: u64_at(32),
        ordinal_offset: u64_at(ORDINAL_AT) as i64,
        t_device,
        t_received_ns: u64_at(48),
        t_live_ns: Some(u64_at(48)),
        age_ns: (head[MORE_FLAGS_AT] & HAS_AGE != 0).then(|| u64_at(AGE_AT)),
        unpublished: head[MORE_FLAGS_AT] & UNPUBLISHED != 0,
        source: name(&head[64..128])?,
        series: if has(HAS_SERIES) { Some(name(&head[128..192])?) } else { None },
        series_began: has(SERIES_BEGAN),
        marks: Marks { invalid: has(INVALID), stimulus: has(STIMULUS) },
        animal: None,
    };
    Ok((info, u64_at(40)))
}

fn shape([channels, height, width]: [u32; 3]) -> Result<Shape, String> {
    let shape = Shape::new(channels as usize, height as usize, width as usize);
    let side = 1..=SIDE_PX_MAX;
    if (1..=CHANNELS_MAX).contains(&shape.channels) && side.contains(&shape.height) && side.contains(&shape.width) {
        Ok(shape)
    } else {
        Err(format!("has the shape {shape}"))
    }
}

fn name(bytes: &[u8]) -> Result<Name, String> {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES_MAX);
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| "has a name that is not text".to_owned())?;
    text.parse().map_err(|cause| format!("has a name that {cause}"))
}

fn place<T: PartialEq>(all: &[T], one: T) -> u8 {
    all.iter().position(|other| *other == one).unwrap_or_default() as u8
}

fn of<T: Copy>(all: &[T], place: u8, what: &str) -> Result<T, String> {
    all.get(usize::from(place)).copied().ok_or_else(|| format!("has no {what} {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let mut frame = Frame::with_capacity(2 * 3 * 4 * 2);
        frame.info = FrameInfo {
            shape: Shape::new(2, 3, 4),
            pixel_type: PixelType::I16,
            number: 7_000_000_000,
            gap: 2,
            ordinal_offset: -5,
            t_device: Some(DeviceTime { ns: -5, clock: Clock::Ptp, stamp: Some(Stamp::Mid) }),
            t_received_ns: u64::MAX - 1,
            t_live_ns: Some(u64::MAX - 1),
            age_ns: Some(3_600_000_000),
            unpublished: true,
            source: "a".repeat(64).parse().unwrap(),
            series: "s-1".parse().ok(),
            series_began: true,
            marks: Marks { invalid: true, stimulus: false },
            animal: None,
        };
        frame.bytes_mut().iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
        frame
    }

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let mut message = Vec::new();
        let lit = Marks { invalid: false, stimulus: true };
        for (t_device, series, marks) in
            [(frame().info.t_device, "s-1".parse().ok(), frame().info.marks), (None, None, lit)]
        {
            let mut frame = frame();
            (frame.info.t_device, frame.info.series, frame.info.marks) = (t_device, series, marks);
            frame.info.age_ns = frame.info.age_ns.filter(|_| series.is_some());
            frame.info.unpublished &= series.is_some();
            write(&frame, 99, &mut message);
            assert_eq!(read(&message), Ok((frame.info, 99)));
            assert_eq!(&message[HEAD_BYTES..], frame.bytes());
        }
    }

    #[test]
    fn a_head_that_does_not_fit_is_refused() {
        let mut whole = Vec::new();
        write(&frame(), 0, &mut whole);
        let damaged = |at: usize, byte: u8| {
            let mut message = whole.clone();
            message[at] = byte;
            read(&message).unwrap_err()
        };
        assert!(read(&whole[..100]).unwrap_err().contains("shorter"));
        assert!(read(&whole[..whole.len() - 1]).unwrap_err().contains("bytes of pixels"));
        for (at, byte, word) in [
            (0, b'X', "HFRM"),
            (4, 2, "version 2"),
            (8, 4, "pixel type"),
            (9, 0xff, "byte order"),
            (10, 9, "clock"),
            (12, 3, "shape"),
            (16, 4, "bytes of pixels"),
            (64, b'/', "name"),
            (64, 0, "name"),
        ] {
            assert!(damaged(at, byte).contains(word), "byte {at}: {}", damaged(at, byte));
        }
    }
}
