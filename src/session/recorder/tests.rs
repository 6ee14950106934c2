//! The recorder without a corridor: queues, files, and what is refused.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::config::Compression;
use crate::frame::{Embedding, PixelType, Shape};
use crate::session::{Item, Reader, Topic, layout};

fn config(folder: Option<PathBuf>, queue_frames: usize) -> config::Record {
    config::Record { folder, at_start: false, frames: true, queue_frames, compression: Compression::None }
}

fn decode() -> Decode {
    Decode::with_embedding(Embedding { values: vec![0.0; 4], probabilities: vec![0.0; 2], ..Embedding::default() })
}

fn recorder(config: &config::Record) -> (Arc<Recorder>, Worker, Arc<Stats>) {
    let stats = Arc::<Stats>::default();
    let about = About { rig: "rig1".into(), ..About::default() };
    let events = Arc::new(ArrayQueue::new(16));
    let buffers = Buffers { frame_bytes_max: 128, decode: &decode() };
    let (recorder, worker) = Recorder::new(config, buffers, about, stats.clone(), events);
    (recorder, worker, stats)
}

/// What the compute thread does with a frame.
fn hand_frame(recorder: &Recorder, number: u64) -> bool {
    let Some(mut slot) = recorder.spare() else { return false };
    let info = &mut slot.frame.info;
    (info.shape, info.pixel_type, info.number) = (Shape::new(1, 8, 8), PixelType::U16, number);
    info.source = "rig1".parse().unwrap();
    recorder.keep(slot);
    true
}

#[test]
fn frames_and_messages_reach_the_file_and_their_buffers_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, worker, stats) = recorder(&config(Some(folder.path().into()), 4));
    let thread = std::thread::spawn(|| worker.run());
    assert!(!recorder.takes_frames());
    let path = recorder.start().unwrap();
    assert!(recorder.start().unwrap_err().contains("already being recorded"));
    let mut witness = recorder.clone();
    for number in 0..50 {
        while !hand_frame(&recorder, number) {
            std::thread::yield_now();
        }
        let mut decode = decode();
        decode.embedding.values = vec![number as f32, -0.0, f32::MIN_POSITIVE, 1.0 / 3.0];
        witness.published(Kind::Decode, format!("{{\"seq\":{number}}}").as_bytes(), number, Some(&decode));
    }
    recorder.mark("light on").unwrap();
    assert_eq!(recorder.stop().unwrap(), path);
    assert!(recorder.mark("too late").unwrap_err().contains("record start"));
    assert!(recorder.stop().unwrap_err().contains("nothing is being recorded"));
    recorder.end();
    thread.join().unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let (mut frames, mut decodes, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(item) = reader.read().unwrap() {
        match item {
            Item::Message { topic: Topic::Frames, data, .. } => frames.push(layout::read(&data).unwrap().0.number),
            Item::Message { topic: Topic::Decodes, data, .. } => {
                let value: serde_json::Value = serde_json::from_slice(&data).unwrap();
                let decoded: crate::session::messages::Decoded =
                    serde_json::from_value(value["decoded"].clone()).unwrap();
                let expected = [decodes.len() as f32, -0.0, f32::MIN_POSITIVE, 1.0 / 3.0].map(f32::to_bits);
                assert_eq!(decoded.embedding.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
                decodes.push(value["seq"].as_u64().unwrap());
            }
            Item::Message { topic: Topic::Marks, data, .. } => marks.push(String::from_utf8(data).unwrap()),
            _ => {}
        }
    }
    assert_eq!((frames, decodes), ((0..50).collect(), (0..50).collect()));
    assert!(marks.len() == 1 && marks[0].contains("light on"), "{marks:?}");
    assert_eq!((stats.record.frames.load(Relaxed), stats.record.frames_lost_disk.load(Relaxed)), (50, 0));
}

#[test]
fn a_recorder_that_does_not_get_on_costs_frames_that_are_counted_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, mut worker, stats) = recorder(&config(Some(folder.path().into()), 4));
    worker.start().unwrap();
    // Nobody runs the worker: its disk has stopped.
    let kept: Vec<bool> = (0..10).map(|number| hand_frame(&recorder, number)).collect();
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 4);
    assert_eq!(stats.record.frames_lost_queue.load(Relaxed), 6);
    let mut witness = recorder.clone();
    (0..300).for_each(|number| witness.published(Kind::Event, b"{}", number, None));
    assert_eq!(stats.record.messages_lost.load(Relaxed), 300 - MESSAGES_WAITING_MAX as u64);
}

#[test]
fn what_cannot_be_recorded_is_said_in_words() {
    let (recorder, worker, _) = recorder(&config(Some("/proc/nowhere".into()), 4));
    let thread = std::thread::spawn(|| worker.run());
    let error = recorder.start().unwrap_err();
    assert!(error.contains("/proc/nowhere") && error.contains("`record.folder`"), "{error}");
    for text in ["", "two\nlines", &"x".repeat(MARK_BYTES_MAX + 1)] {
        assert!(recorder.mark(text).unwrap_err().contains("1 to 1024 bytes"));
    }
    recorder.end();
    thread.join().unwrap();
}
