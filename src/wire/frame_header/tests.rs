//! Headers that must be read, and headers that must be refused, each with its reason.

use super::*;
use crate::frame::event::Reason;
use crate::frame::{Clock, SIDE_PX_MAX, Stamp};

fn frame(json: &str) -> Result<FrameHeader, HeaderError> {
    match parse(json.as_bytes())? {
        Message::Frame(header) => Ok(header),
        other => panic!("{other:?} for {json}"),
    }
}

fn reason(json: &str) -> Reason {
    frame(json).expect_err(json).reason()
}

#[test]
fn pyzmq_send_array_is_understood_unmodified() {
    let header = frame(r#"{"dtype": "uint16", "shape": [512, 256]}"#).unwrap();
    assert_eq!((header.shape, header.pixel_type), (Shape::new(1, 512, 256), PixelType::U16));
    assert_eq!(header.payload_bytes(), 512 * 256 * 2);
    assert_eq!((header.number, header.t_device, header.order), (None, None, Order::C));
}

#[test]
fn area_detector_is_understood_unmodified_and_its_fastest_axis_comes_first() {
    let json = r#"{"htype":["array-1.0"], "type":"int16", "shape":[640,480], "frame":17,
        "timeStamp":1000000000.25, "encoding":"", "ndattr":{"Gain":2,"ColorMode":0,"Name":"x"}}"#;
    let header = frame(json).unwrap();
    assert_eq!((header.shape, header.pixel_type), (Shape::new(1, 480, 640), PixelType::I16));
    assert_eq!(header.number, Some(17));
    let time = header.t_device.unwrap();
    assert_eq!((time.ns, time.clock), (1_000_000_000_250_000_000, Clock::Device));
}

#[test]
fn the_array_1_0_note_is_understood_and_has_its_fastest_axis_last() {
    let json = r#"{"htype":"array-1.0","tags":[],"source":"cam","shape":[480,640],"frame":434,"type":"uint16","endianess":"big"}"#;
    let header = frame(json).unwrap();
    assert_eq!((header.shape, header.big_endian), (Shape::new(1, 480, 640), true));
    assert_eq!(header.source.unwrap().as_str(), "cam");
}

#[test]
fn the_full_header_is_read_key_by_key() {
    let json = r#"{"dtype":"uint16","shape":[2,8,9],"frame":1234,"timestamp_ns":1730000000000000000,"clock":"monotonic",
        "stamp":"end","source":"rig1","series":"2026-11-22_03","channels":["green","red"],"plane":3,"order":"F",
        "endianness":"little","later":{"a":[1,2,{"b":null}]}}"#;
    let header = frame(json).unwrap();
    assert_eq!((header.shape, header.order, header.plane), (Shape::new(2, 8, 9), Order::F, Some(3)));
    let time = DeviceTime { ns: 1_730_000_000_000_000_000, clock: Clock::Monotonic, stamp: Some(Stamp::End) };
    assert_eq!((header.number, header.t_device), (Some(1234), Some(time)));
    assert_eq!(header.series.unwrap().as_str(), "2026-11-22_03");
    assert_eq!(header.channels.map(|n| n.unwrap().to_string()), ["green", "red"]);
}

#[test]
fn numpy_dtype_strings_say_type_and_byte_order() {
    let cases = [
        ("uint8", PixelType::U8, false),
        ("|u1", PixelType::U8, false),
        (">u1", PixelType::U8, false),
        ("uint16", PixelType::U16, false),
        ("<u2", PixelType::U16, false),
        (">u2", PixelType::U16, true),
        ("<i2", PixelType::I16, false),
        (">i2", PixelType::I16, true),
        ("int16", PixelType::I16, false),
        ("float32", PixelType::F32, false),
        ("single", PixelType::F32, false),
        (">f4", PixelType::F32, true),
    ];
    for (word, pixel_type, big_endian) in cases {
        let header = frame(&format!(r#"{{"dtype":"{word}","shape":[4,4]}}"#)).unwrap();
        assert_eq!((header.pixel_type, header.big_endian), (pixel_type, big_endian), "{word}");
    }
}

#[test]
fn byte_order_comes_from_either_key_and_must_not_contradict() {
    assert!(frame(r#"{"dtype":"uint16","shape":[4,4],"endianness":"big"}"#).unwrap().big_endian);
    assert!(frame(r#"{"dtype":">u2","type":"uint16","shape":[4,4]}"#).unwrap().big_endian);
    assert_eq!(reason(r#"{"dtype":">u2","shape":[4,4],"endianness":"little"}"#), Reason::PixelType);
    assert_eq!(reason(r#"{"dtype":"<u2","type":">u2","shape":[4,4]}"#), Reason::PixelType);
    assert_eq!(reason(r#"{"dtype":"uint16","type":"int16","shape":[4,4]}"#), Reason::PixelType);
}

#[test]
fn whole_floats_are_whole_numbers_and_others_are_refused() {
    let json = r#"{"dtype":"single","shape":[4.0,5e0],"frame":1234.0,"timestamp_ns":1.73e18,"plane":0.0}"#;
    let header = frame(json).unwrap();
    assert_eq!((header.shape, header.number), (Shape::new(1, 4, 5), Some(1234)));
    assert_eq!(header.t_device.unwrap().ns, 1_730_000_000_000_000_000);
    for bad in ["1.5", "-1", "1e40", "18446744073709551616", "\"7\"", "[7]", "true"] {
        let json = format!(r#"{{"dtype":"u2","shape":[4,4],"frame":{bad}}}"#);
        assert_eq!(reason(&json), Reason::Field, "{bad}");
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let json = r#"{"dtype":"u2","type":null,"shape":[4,4],"frame":null,"source":null,"series":null,"channels":null,
        "clock":null,"order":null,"endianness":null,"plane":null,"htype":null}"#;
    assert_eq!(frame(json).unwrap(), frame(r#"{"dtype":"u2","shape":[4,4]}"#).unwrap());
}

#[test]
fn escapes_are_undone_before_a_value_is_judged() {
    let header = frame(r#"{"dtype":"\u0075int16","sh\u0061pe":[4,4],"source":"rig\u0031"}"#).unwrap();
    assert_eq!(header.source.unwrap().as_str(), "rig1");
    assert_eq!(reason(r#"{"dtype":"u2","shape":[4,4],"source":"rig\u0000"}"#), Reason::Name);
    assert_eq!(reason(r#"{"dtype":"u2","shape":[4,4],"source":"a/b"}"#), Reason::Name);
}

#[test]
fn names_are_1_to_64_bytes() {
    for (length, taken) in [(0, false), (1, true), (64, true), (65, false), (5000, false)] {
        let json = format!(r#"{{"dtype":"u2","shape":[4,4],"series":"{}"}}"#, "s".repeat(length));
        assert_eq!(frame(&json).is_ok(), taken, "{length}");
    }
}

#[test]
fn shapes_out_of_bounds_say_which_bound() {
    for (shape, expected) in [
        ("[4]", Reason::Shape),
        ("[1,1,4,4]", Reason::Shape),
        ("[1,1,1,1,4,4]", Reason::Shape),
        ("[0,4]", Reason::Shape),
        ("[4,4097]", Reason::Shape),
        ("[18446744073709551615,18446744073709551615]", Reason::Shape),
        ("[-4,4]", Reason::Shape),
        ("[\"4\",4]", Reason::Shape),
        ("4", Reason::Shape),
        ("[3,4,4]", Reason::Channel),
        ("[512,512,2]", Reason::Channel),
        ("[0,4,4]", Reason::Shape),
    ] {
        assert_eq!(reason(&format!(r#"{{"dtype":"u2","shape":{shape}}}"#)), expected, "{shape}");
    }
    let error = frame(r#"{"dtype":"u2","shape":[4,4097]}"#).unwrap_err().to_string();
    assert_eq!(error, "\"shape\" is 4097; it must be a whole number from 1 to 4096");
}

#[test]
fn a_wrong_time_clock_stamp_or_channel_name_is_left_out_and_named_and_the_frame_is_taken() {
    let header = |more: &str| frame(&format!(r#"{{"dtype":"u2","shape":[1,4,4],{more}}}"#)).unwrap();
    let device = |ns| Some(DeviceTime { ns, clock: Clock::Device, stamp: None });
    for (more, key, time) in [
        (r#""timeStamp":"14:31:09""#, "timeStamp", None),
        (r#""timeStamp":[1,2]"#, "timeStamp", None),
        (r#""timeStamp":1e30"#, "timeStamp", None),
        (r#""timestamp_ns":"now""#, "timestamp_ns", None),
        (r#""timestamp_ns":1.5"#, "timestamp_ns", None),
        (r#""timestamp_ns":"now","timeStamp":2"#, "timestamp_ns", device(2_000_000_000)),
        (r#""timestamp_ns":5,"clock":"gps""#, "clock", device(5)),
        (r#""timestamp_ns":5,"stamp":7"#, "stamp", device(5)),
        (r#""channels":"green""#, "channels", None),
        (r#""channels":["far red"]"#, "channels", None),
        (r#""channels":[7]"#, "channels", None),
    ] {
        let header = header(more);
        assert_eq!(header.ignored.map(|error| error.key()), Some(key), "{more}");
        assert_eq!((header.t_device, header.channels), (time, [None; CHANNELS_MAX]), "{more}");
        assert!(header.ignored.unwrap().to_string().contains(key), "{more}");
    }
    assert_eq!(header(r#""timestamp_ns":5,"clock":"ptp","stamp":"mid","channels":["green"]"#).ignored, None);
    // Without these the frame would mean something else.
    for more in
        [r#""frame":"7""#, r#""plane":"0""#, r#""order":"c""#, r#""endianness":"middle""#, r#""channels":["a","b"]"#]
    {
        assert!(frame(&format!(r#"{{"dtype":"u2","shape":[1,4,4],{more}}}"#)).is_err(), "{more}");
    }
}

#[test]
fn lifecycle_messages_are_told_from_frames() {
    assert_eq!(parse(br#"{"htype":"header","series":"x"}"#), Ok(Message::SeriesBegins(None)));
    assert_eq!(parse(br#" {"htype":["end"]}"#), Ok(Message::SeriesEnds(None)));
    assert_eq!(parse(br#"{"htype":"end","source":"rig2"}"#), Ok(Message::SeriesEnds("rig2".parse().ok())));
    assert_eq!(parse(br#"{"htype":"end","source":"a/b"}"#).unwrap_err().reason(), Reason::Name);
    assert_eq!(reason(r#"{"htype":"decode-1.0","dtype":"float32","shape":[128]}"#), Reason::Field);
    let end: &[u8] = br#"{"htype":"end"}"#;
    for parts in [&[end][..], &[b"frames", end], &[end, b""], &[b"frames", end, b""]] {
        assert_eq!(parse_message(parts).map(|m| m.0), Ok(Message::SeriesEnds(None)), "{} parts", parts.len());
    }
}

#[test]
fn a_frame_is_found_with_and_without_a_topic_and_not_in_other_numbers_of_parts() {
    let header: &[u8] = br#"{"dtype":"u1","shape":[1,3]}"#;
    for parts in [&[header, b"abc"][..], &[b"topic", header, b"abc"]] {
        let (message, pixels) = parse_message(parts).unwrap();
        assert!(matches!(message, Message::Frame(_)));
        assert_eq!(pixels, b"abc");
    }
    for parts in [&[][..], &[header], &[b"t", header], &[b"t", header, b"abc", b"d"]] {
        assert_eq!(parse_message(parts).unwrap_err().reason(), Reason::Parts, "{} parts", parts.len());
    }
}

#[test]
fn payload_is_checked_against_the_slot_and_then_against_the_header() {
    let header = frame(r#"{"dtype":"u2","shape":[2,4,4]}"#).unwrap();
    assert_eq!(header.check_payload(64, 64), Ok(()));
    assert_eq!(header.check_payload(63, 64).unwrap_err().reason(), Reason::Length);
    assert_eq!(header.check_payload(64, 63).unwrap_err().reason(), Reason::TooLarge);
}

#[test]
fn headers_beyond_16_kib_are_refused_and_deep_nesting_is_harmless() {
    let padded = |bytes: usize| {
        let head = r#"{"dtype":"u2","shape":[4,4],"pad":""#;
        format!("{head}{}\"}}", " ".repeat(bytes - head.len() - 2))
    };
    assert!(parse(padded(HEADER_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(parse(padded(HEADER_BYTES_MAX + 1).as_bytes()).unwrap_err().reason(), Reason::HeaderSize);
    for key in ["dtype", "shape", "channels", "unknown", "ndattr"] {
        let deep = format!("{{\"{key}\":{}", "[".repeat(16_000));
        assert_eq!(parse(deep.as_bytes()).unwrap_err().reason(), Reason::HeaderSyntax, "{key}");
    }
}

/// A small generator, so that a failure can be repeated: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

#[test]
fn random_and_mutated_bytes_never_panic_and_what_is_accepted_is_within_bounds() {
    let seeds = [
        r#"{"dtype":"<u2","shape":[2,8,9],"frame":1234,"timestamp_ns":1.73e18,"clock":"monotonic","stamp":"end"}"#,
        r#"{"htype":["array-1.0"],"type":"int16","shape":[640,480],"timeStamp":1e9,"ndattr":{"a":[1,{"b":2}]}}"#,
        r#"{"dtype":"u1","shape":[1,4,4],"source":"r\u0031","series":"s","channels":["green"],"plane":0,"order":"F"}"#,
        r#"{"htype":"end"}"#,
    ];
    let tokens =
        ["\"", "{", "}", "[", "]", ",", ":", "\\u00e9", "-", "1e999", "18446744073709551615", "null", "é", "\0"];
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..40_000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len().max(1)).min(bytes.len());
            match random.below(5) {
                0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, tokens[random.below(tokens.len())].bytes())),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at..),
            }
        }
        if round % 7 == 0 {
            bytes = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        }
        match parse_message(&[&bytes, b"pixels"]) {
            Ok((Message::Frame(header), _)) => {
                let s = header.shape;
                assert!((1..=CHANNELS_MAX).contains(&s.channels), "{s}");
                assert!((1..=SIDE_PX_MAX).contains(&s.height) && (1..=SIDE_PX_MAX).contains(&s.width), "{s}");
            }
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
