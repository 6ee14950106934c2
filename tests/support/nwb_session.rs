//! What `pynwb` read of an exported session, and what the session says by its own reader.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haltere::frame::FrameInfo;
use haltere::session::{Item, Outline, Reader, Topic, layout};
use serde_json::{Value, json};

use super::nwb::{script, text};

/// What `pynwb` found in a file.
pub struct Opened {
    folder: PathBuf,
    pub what: Value,
}

impl Opened {
    pub fn of(python: &Path, nwb: &Path) -> Self {
        let folder = nwb.with_extension("read");
        script(python, "read_nwb.py", &[text(nwb), text(&folder)]);
        let what = serde_json::from_str(&std::fs::read_to_string(folder.join("what.json")).unwrap()).unwrap();
        Self { folder, what }
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(format!("{name}.data"))).unwrap()
    }

    pub fn words(&self, name: &str) -> Vec<u32> {
        self.bytes(name).chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn longs(&self, name: &str) -> Vec<i64> {
        self.bytes(name).chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn doubles(&self, file: &str) -> Vec<f64> {
        let bytes = std::fs::read(self.folder.join(file)).unwrap();
        bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn series(&self, name: &str) -> &Value {
        &self.what["series"][name]
    }

    pub fn column(&self, table: &str, column: &str) -> Vec<Value> {
        self.what["tables"][table][column].as_array().unwrap_or_else(|| panic!("no {table}.{column}")).clone()
    }

    /// Nobody has anything to say against it, not even as a suggestion.
    pub fn assert_clean(&self) {
        assert_eq!(self.what["errors"], json!([]), "pynwb.validate");
        assert_eq!(self.what["found"], json!([]), "nwbinspector");
        assert_eq!((&self.what["same_zero"], &self.what["ids_differ"]), (&json!(true), &json!(true)));
    }
}

/// What a session says, by its own reader.
pub struct Session {
    pub about: BTreeMap<String, String>,
    pub frames: Vec<(FrameInfo, Vec<u8>)>,
    pub decodes: Vec<Value>,
    pub events: Vec<Value>,
    pub marks: Vec<Value>,
}

impl Session {
    pub fn read(path: &Path) -> Self {
        let about = Outline::of(path).unwrap().about;
        let mut session = Self { about, frames: vec![], decodes: vec![], events: vec![], marks: vec![] };
        let mut reader = Reader::open(path).unwrap();
        while let Some(item) = reader.read().unwrap() {
            let Item::Message { topic, data, .. } = item else { continue };
            let json = || serde_json::from_slice(&data).unwrap();
            match topic {
                Topic::Frames => {
                    session.frames.push((layout::read(&data).unwrap().0, data[layout::HEAD_BYTES..].to_vec()));
                }
                Topic::Decodes => session.decodes.push(json()),
                Topic::Events => session.events.push(json()),
                Topic::Marks => session.marks.push(json()),
                Topic::Requests | Topic::Status | Topic::Decisions => {}
            }
        }
        session
    }

    pub fn of_frames(&self) -> Vec<&Value> {
        self.decodes.iter().filter(|decode| decode.get("decoded").is_some()).collect()
    }

    /// Seconds on the clock of a file whose zero is so many ms after 1970.
    pub fn seconds(&self, opened: &Opened, t_ns: u64) -> f64 {
        let offset: i128 = self.about["monotonic_to_unix_ns"].parse().unwrap();
        let zero = i128::from(opened.what["zero_unix_ms"].as_i64().unwrap()) * 1_000_000;
        (i128::from(t_ns) + offset - zero) as f64 / 1e9
    }

    /// Pixels of one channel of some frames, and when they came.
    pub fn assert_movie(&self, opened: &Opened, name: &str, frames: &[(FrameInfo, Vec<u8>)], channel: usize) {
        let info = &frames[0].0;
        let plane = info.shape.plane() * info.pixel_type.bytes();
        let pixels: Vec<u8> =
            frames.iter().flat_map(|(_, all)| &all[channel * plane..(channel + 1) * plane]).copied().collect();
        assert!(opened.bytes(name) == pixels, "pixels of {name}");
        let times: Vec<f64> = frames.iter().map(|(info, _)| self.seconds(opened, info.t_received_ns)).collect();
        assert_eq!(opened.doubles(&format!("{name}.times")), times, "{name}");
        let series = opened.series(name);
        let shape = json!([frames.len(), info.shape.height, info.shape.width]);
        assert_eq!((&series["type"], &series["shape"]), (&json!("TwoPhotonSeries"), &shape));
        assert_eq!(series["dtype"], info.pixel_type.name());
        assert_eq!(series["dimension"], json!([info.shape.width, info.shape.height]));
        assert_eq!(opened.what["stored"][name]["compression"], "gzip");
    }

    /// Every series of the decodes, at the receipt of its frame.
    pub fn assert_decodes(&self, opened: &Opened) {
        let rows = self.of_frames();
        let times: Vec<f64> = rows.iter().map(|row| self.seconds(opened, row["t_recv_ns"].as_u64().unwrap())).collect();
        for name in ["Quality", "DecodedQuality", "DecodedFrame", "FramesMissing", "Latency"] {
            assert_eq!(opened.doubles(&format!("{name}.times")), times, "{name}");
        }
        let qualities = ["ok", "degraded", "warmup", "stale", "fail"];
        let code = |value: &Value| qualities.iter().position(|name| value == name).unwrap() as u8;
        assert_eq!(opened.bytes("Quality"), rows.iter().map(|row| code(&row["quality"])).collect::<Vec<_>>());
        let decoded: Vec<u8> = rows.iter().map(|row| code(&row["decoded"]["quality"])).collect();
        assert_eq!(opened.bytes("DecodedQuality"), decoded);
        let frames: Vec<i64> = rows.iter().map(|row| row["frame"].as_i64().unwrap()).collect();
        assert_eq!(opened.longs("DecodedFrame"), frames);
        let stages = ["queue", "preprocess", "encode", "total"];
        let latency = rows.iter().flat_map(|row| stages.map(|stage| row["latency_us"][stage].as_f64().unwrap()));
        assert_eq!(opened.doubles("Latency.data"), latency.collect::<Vec<_>>());
        assert!((opened.series("Latency")["conversion"].as_f64().unwrap() - 1e-6).abs() < 1e-12);
    }
}
