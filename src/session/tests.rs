//! Sessions written here and read back, whole, cut at every place, and with a flipped bit.

use std::collections::BTreeMap;

use super::*;
use crate::config::Compression;
use crate::frame::{Decode, Embedding, FrameSlot, PixelType, Request, Shape};

/// A session of so many frames, each with a message of a decode behind it; a reset before the fourth.
fn write(path: &Path, frames: u64, compression: Compression) {
    let about = BTreeMap::from([("rig".to_owned(), "rig1".to_owned())]);
    let attachments = [(MODEL_TOML, "text/plain", &b"name = 1"[..])];
    let mut session = SessionWriter::create(path, compression, 1_000, &about, &attachments).unwrap();
    let mut slot = FrameSlot::with_capacity(32 * 32 * 2);
    for number in 0..frames {
        let info = &mut slot.frame.info;
        (info.shape, info.pixel_type, info.number) = (Shape::new(1, 32, 32), PixelType::U16, number);
        (info.source, info.t_received_ns) = ("rig1".parse().unwrap(), number * 10_000_000);
        slot.frame.bytes_mut().fill(number as u8);
        slot.requests = Default::default();
        if number == 3 {
            slot.requests.add(Request::Reset);
        }
        session.write_frame(&slot).unwrap();
        session.write_message(Topic::Decodes, number, format!("{{\"seq\":{number}}}").as_bytes()).unwrap();
        if number % 10 == 9 {
            session.flush().unwrap();
        }
    }
    session.finish(BTreeMap::from([("frames_lost".to_owned(), "2".to_owned())])).unwrap();
}

fn read(path: &Path) -> (Vec<Item>, u64) {
    let mut reader = Reader::open(path).unwrap();
    let mut items = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        items.push(item);
    }
    (items, reader.damaged_chunks())
}

fn frames(items: &[Item]) -> Vec<u64> {
    let number = |item: &Item| match item {
        Item::Message { topic: Topic::Frames, data, .. } => Some(layout::read(data).unwrap().0.number),
        _ => None,
    };
    items.iter().filter_map(number).collect()
}

#[test]
fn what_was_written_is_read_in_order_and_its_outline_counts_it() {
    for compression in [Compression::None, Compression::Lz4] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mcap");
        write(&path, 25, compression);
        let (items, damaged) = read(&path);
        assert_eq!((frames(&items), damaged), ((0..25).collect(), 0));
        assert_eq!(items[0], Item::Attachment { name: MODEL_TOML.into(), data: b"name = 1".to_vec() });
        let requests =
            items.iter().position(|item| matches!(item, Item::Message { topic: Topic::Requests, .. })).unwrap();
        assert_eq!(frames(&items[requests..])[0], 3, "the request lies just before its frame");
        let Item::Message { data, unix_ns, .. } = &items[requests] else { panic!() };
        assert_eq!(*unix_ns, 30_001_000);
        let record: messages::RequestRecord = serde_json::from_slice(data).unwrap();
        assert_eq!(record, messages::RequestRecord { frame: 3, requests: vec!["reset".into()], animal: None });
        let outline = Outline::of(&path).unwrap();
        assert_eq!(
            (outline.count(Topic::Frames), outline.count(Topic::Requests), outline.count(Topic::Decodes)),
            (25, 1, 25)
        );
        assert_eq!((outline.about["rig"].as_str(), outline.bytes_lost), ("rig1", 0));
        assert!((outline.frame_rate_hz.unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(outline.end.as_ref().unwrap()["frames_lost"], "2");
        assert!(outline.warnings()[0].contains("2 frames were decoded live but not recorded"));
    }
}

#[test]
fn a_file_that_was_cut_anywhere_gives_its_whole_chunks_and_says_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cut) = (folder.path().join("a.mcap"), folder.path().join("cut.mcap"));
    write(&path, 30, Compression::None);
    let whole = std::fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for length in (0..whole.len()).step_by(997) {
        std::fs::write(&cut, &whole[..length]).unwrap();
        let Ok(outline) = Outline::of(&cut) else { continue };
        let found = frames(&read(&cut).0);
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "cut at {length}");
        assert!(found.len().is_multiple_of(10), "only whole chunks");
        if outline.end.is_none() {
            assert!(outline.warnings()[0].contains("cut off"), "{:?}", outline.warnings());
            assert!(outline.bytes_lost < 10 * 2400 + 600, "{} of {length}", outline.bytes_lost);
        }
        seen.insert(found.len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 10, 20, 30]);
}

#[test]
fn a_flipped_bit_costs_its_chunk_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    write(&path, 30, Compression::None);
    let mut bytes = std::fs::read(&path).unwrap();
    // Pixels of frame 13: a run of its number.
    let at = bytes.windows(64).position(|window| window.iter().all(|byte| *byte == 13)).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (items, damaged) = read(&path);
    assert_eq!((frames(&items), damaged), ((0..10).chain(20..30).collect(), 1));
}

/// Changes bytes from `from` on within the first chunk with frames, which is the second. Its head: start, end, uncompressed size (each 8
/// bytes), CRC (4), ….
fn forge(path: &Path, from: usize, value: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let (mut at, mut chunks) = (mcap::MAGIC.len(), 0);
    loop {
        chunks += usize::from(bytes[at] == mcap::records::op::CHUNK);
        if chunks == 2 {
            break;
        }
        at += 9 + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
    }
    bytes[at + 9 + from..at + 9 + from + value.len()].copy_from_slice(value);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_chunk_does_not_say_how_much_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for compression in [Compression::None, Compression::Lz4] {
        for size in [1u64 << 40, 1 << 62, u64::MAX, u64::MAX / 2] {
            let path = folder.path().join(format!("{compression:?}{size}.mcap"));
            write(&path, 30, compression);
            forge(&path, 16, &size.to_le_bytes());
            let _ = Outline::of(&path);
            let (items, damaged) = read(&path);
            let whole = compression == Compression::None;
            assert!(whole || damaged == 1, "{compression:?} {size}: {damaged}");
            assert!(frames(&items).len() >= 20, "{compression:?} {size}");
        }
    }
}

#[test]
fn a_record_within_a_chunk_does_not_say_how_much_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    write(&path, 30, Compression::None);
    // No CRC.
    forge(&path, 24, &[0; 4]);
    assert_eq!(read(&path).1, 0);
    // Behind the chunk's head of 40 bytes: opcode, length.
    for length in [1u64 << 40, 1 << 62, u64::MAX, u64::MAX - 8] {
        forge(&path, 41, &length.to_le_bytes());
        let _ = Outline::of(&path);
        assert_eq!(read(&path).1, 1, "{length}");
    }
}

/// Reads to the end within a time and a number of items that no loop keeps; returns the numbers of the frames.
fn within_bounds(path: &Path) -> Option<Vec<u64>> {
    let began = std::time::Instant::now();
    let outline = Outline::of(path).ok()?;
    let mut reader = Reader::open(path).ok()?;
    let mut items = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        items.push(item);
        assert!(items.len() < 1000, "more than was written");
    }
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let found = frames(&items);
    if found.len() < 30 && outline.end.is_some() && outline.written.is_some() {
        assert!(!reader.damage().is_none() || reader.damage().lost(Topic::Frames, &outline).is_some_and(|n| n > 0));
    }
    Some(found)
}

#[test]
fn a_flipped_bit_or_a_lost_byte_anywhere_costs_one_chunk_at_most_and_never_hangs() {
    for compression in [Compression::None, Compression::Lz4] {
        let folder = tempfile::tempdir().unwrap();
        let (path, damaged) = (folder.path().join("a.mcap"), folder.path().join("b.mcap"));
        write(&path, 30, compression);
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        let places = (8..whole.len()).step_by(331).chain((8..700).step_by(3));
        for (n, at) in places.enumerate() {
            for lose in [false, true] {
                let mut bytes = whole.clone();
                if lose {
                    bytes.remove(at);
                } else {
                    bytes[at] ^= 1 << (n % 8);
                }
                std::fs::write(&damaged, &bytes).unwrap();
                match within_bounds(&damaged) {
                    Some(found) => assert!(
                        found.len() >= 20 && found.windows(2).all(|pair| pair[0] < pair[1]),
                        "byte {at} of {}, lost: {lose}: {found:?}",
                        whole.len()
                    ),
                    None => refused += 1,
                }
            }
        }
        // Only what says that this is a session of this format may lead to a refusal.
        assert!(refused < 30, "{refused} were refused");
    }
}

#[test]
fn a_hole_is_told_with_its_time_and_its_frames_also_in_the_chunk_that_names_the_channels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    write(&path, 30, Compression::None);
    let whole = std::fs::read(&path).unwrap();
    // Frames 10 to 19, and the chunk of the channels, which is the first: a word of its schemas.
    let pixels = whole.windows(64).position(|window| window.iter().all(|byte| *byte == 13)).unwrap();
    let topic = whole.windows(8).position(|window| window == b"decodes\x04" || window.starts_with(b"decodes")).unwrap();
    for (at, lost) in [(pixels, 10), (topic, 0)] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let recorded = rows::Recorded::read(&path).unwrap();
        assert_eq!((recorded.frames, recorded.damage.lost(Topic::Frames, &recorded.outline)), (30 - lost, Some(lost)));
        let told = recorded.warnings().join("\n");
        assert!(told.contains("is damaged and skipped"), "{told}");
        if lost > 0 {
            assert!(told.contains("between 0.09 s and 0.20 s") && told.contains("10 frames and 10 decodes"), "{told}");
        }
    }
}

#[test]
fn what_is_no_session_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    std::fs::write(&path, b"RIFF").unwrap();
    assert!(Outline::of(&path).unwrap_err().to_string().contains("not an MCAP file"));
    let other = mcap::Writer::new(std::io::BufWriter::new(std::fs::File::create(&path).unwrap())).unwrap().finish();
    assert!(other.is_ok());
    assert!(Outline::of(&path).unwrap_err().to_string().contains("not a haltere session"));
}

/// A session whose metadata name the model `attached`, with a decode by each of `by` (SHA-256 and generation).
fn decoded_by(path: &Path, attached: &str, by: &[(&str, u64)]) -> Outline {
    let about = [("model", "fly"), ("model_sha256", attached)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut session = SessionWriter::create(path, Compression::None, 0, &about.into(), &[]).unwrap();
    for (seq, (sha256, generation)) in by.iter().enumerate() {
        let header = serde_json::json!({
            "seq": seq, "frame": seq, "source": "rig1", "t_pub_ns": 1, "quality": "ok",
            "model": { "name": "fly", "sha256": sha256, "generation": generation },
        });
        let mut message = Vec::new();
        let decode =
            Decode::with_embedding(Embedding { values: vec![0.5], probabilities: Vec::new(), ..Embedding::default() });
        messages::write_decode(header.to_string().as_bytes(), Some(&decode), &mut message);
        session.write_message(Topic::Decodes, 1, &message).unwrap();
        // A chunk for each.
        session.flush().unwrap();
    }
    session.finish(BTreeMap::new()).unwrap();
    Outline::of(path).unwrap()
}

#[test]
fn decodes_by_another_model_than_the_attached_one_are_noticed_without_reading_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    let found = |attached, by: &[(&str, u64)]| {
        let _ = std::fs::remove_file(&path);
        decoded_by(&path, attached, by).not_by_one_model()
    };
    assert_eq!(found("aa", &[("aa", 1), ("aa", 1)]), None);
    // Loaded before the recording began: a daemon's later model keeps its generation.
    assert_eq!(found("aa", &[("aa", 4), ("aa", 4)]), None);
    assert_eq!(found("aa", &[]), None);
    let strange = found("bb", &[("aa", 1), ("bb", 2)]).unwrap();
    assert!(strange.contains("generation 1, SHA-256 aa") && strange.contains("attached: fly"), "{strange}");
    assert!(found("aa", &[("aa", 1), ("bb", 2)]).is_some());
    let back = found("aa", &[("aa", 1), ("bb", 2), ("aa", 3)]).unwrap();
    assert!(back.contains("more than one model"), "{back}");
}
