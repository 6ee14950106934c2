//! Method: `haltere info` through its own command line, on recordings whose facts are known because they were written here.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use clap::Parser;
use haltere::cli::{Cli, dispatch};
use serde_json::Value;

use crate::support::scanbox::Scanbox;
use crate::support::tiffs::Tiff;

fn info(path: &Path, more: &[&str]) -> Result<String, String> {
    let words = [&["haltere", "info", path.to_str().unwrap()], more].concat();
    let mut out = Vec::new();
    let command = Cli::try_parse_from(words).map_err(|e| e.to_string())?.command;
    dispatch(command, &mut out).map_err(|e| format!("{e:#}"))?;
    Ok(String::from_utf8(out).unwrap())
}

fn json(path: &Path, more: &[&str]) -> Value {
    serde_json::from_str(&info(path, &[more, &["--json"]].concat()).unwrap()).unwrap()
}

fn fact<'j>(json: &'j Value, name: &str) -> (&'j Value, &'j str) {
    let facts = json["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}"));
    (&fact["value"], fact["by"].as_str().unwrap())
}

#[test]
fn every_fact_is_printed_with_the_text_that_decided_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tif");
    let jumping = |page: usize| {
        format!(
            "frameNumbers = {}\nframeTimestamps_sec = {:.4}\n",
            page / 2 + 1,
            (page / 2 + 4 * usize::from(page > 9)) as f64 / 30.0
        )
    };
    let header = [
        "hChannels.channelSave = [1;2]",
        "hChannels.channelName = {'GCaMP' 'tdTom'}",
        "hRoiManager.scanFrameRate = 30",
    ];
    Tiff { of_page: Some(jumping), ..Tiff::scanimage(20, &header) }.write(&path);
    let found = json(&path, &[]);
    assert_eq!(fact(&found, "channels"), (&2.into(), "the ScanImage header"));
    assert_eq!(fact(&found, "channel_names").0, &serde_json::json!(["GCaMP", "tdTom"]));
    assert_eq!(fact(&found, "rate_hz"), (&30.0.into(), "the ScanImage header"));
    assert_eq!((fact(&found, "frames").0, fact(&found, "pixel_type").0), (&10.into(), &"int16".into()));
    assert_eq!(
        (fact(&found, "shape").0, fact(&found, "gaps").0, fact(&found, "restarts").0),
        (&"2×16×24".into(), &1.into(), &0.into())
    );
    assert_eq!(fact(&found, "range").0, &serde_json::json!([0.0, 1949.0]));
    assert!(found["warnings"][0].as_str().unwrap().contains("about 4 frames"), "{found:#}");
    let text = info(&path, &[]).unwrap();
    assert!(text.contains("channels          2                        by the ScanImage header"), "{text}");
    // What the user says decides, and is shown.
    assert_eq!(fact(&json(&path, &["--axes", "T"]), "channels"), (&1.into(), "--axes"));
    assert!(info(&path, &["--axes", "T,Q2"]).unwrap_err().contains("T,Z3,C2"));
    assert!(info(&path, &["--plane", "3"]).unwrap_err().contains("plane 3"));
    // A movie that nobody described, and a fly that lives in the program.
    Tiff::pages(5).write(&path);
    let plain = json(&path, &[]);
    assert!(fact(&plain, "channels").1.contains("no text says more"));
    assert!(plain["warnings"][0].as_str().unwrap().contains("--rate"), "{plain:#}");
    assert_eq!(*fact(&json(Path::new("sim:animal=2,seconds=2"), &[]), "frames").0, 32);
}

#[test]
fn a_data_set_shows_columns_alignment_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    Tiff { bits: 8, ..Tiff::pages(160) }.write(&folder.join("a.tif"));
    let rows: String = (0..1000).map(|row| format!("{row},{:.3}\n", (f64::from(row) / 9.0).sin())).collect();
    std::fs::write(folder.join("b.csv"), format!("frame,speed\n{rows}")).unwrap();
    std::fs::write(folder.join("l.csv"), "start_s,stop_s,label\n0,5,rest\n").unwrap();
    std::fs::write(
        folder.join("dataset.toml"),
        "frame_rate_hz = 16.0\nbehaviour_rate_hz = 100.0\n[[trial]]\nanimal = \"a\"\nframes = { path = \"a.tif\" }\nbehaviour = \"b.csv\"\nlabels = \"l.csv\"\n",
    )
    .unwrap();
    let found = json(&folder.join("dataset.toml"), &[]);
    let trial = &found["trials"][0];
    assert_eq!((trial["rows"].as_u64(), trial["with_behaviour"].as_u64()), (Some(1000), Some(160)));
    assert_eq!(trial["columns"][0]["name"], "speed");
    assert_eq!((trial["labels"].to_string(), trial["unlabelled"].as_u64()), ("[[\"rest\",80]]".to_owned(), Some(80)));
    let text = info(&folder.join("dataset.toml"), &[]).unwrap();
    assert!(
        text.contains("speed                    -1 to 1") && text.contains("160 of 160 frames have behaviour"),
        "{text}"
    );
}

/// Rows and columns of a PNG, and how many of its pixels are this red.
fn png(path: &Path) -> ([u32; 2], usize) {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    ([info.height, info.width], pixels.as_chunks::<3>().0.iter().filter(|pixel| **pixel == [220, 30, 30]).count())
}

#[test]
fn a_picture_shows_every_channel_and_plane_and_what_saturates() {
    let folder = tempfile::tempdir().unwrap();
    let (path, picture) = (folder.path().join("x.tif"), folder.path().join("x.png"));
    let volumes = [
        "hChannels.channelSave = [1;2]",
        "hFastZ.enable = true",
        "hStackManager.numSlices = 3",
        "hRoiManager.scanFrameRate = 30",
    ];
    Tiff::scanimage(12, &volumes).write(&path);
    let draw = |more: &[&str]| json(&path, &[&["--picture", picture.to_str().unwrap()], more].concat());
    let error = info(&path, &["--picture", picture.to_str().unwrap()]).unwrap_err();
    assert!(error.contains("plane 0 to 2"), "{error}");
    let found = draw(&["--plane", "1"]);
    let of_two = png(&picture).0;
    assert_eq!(fact(&found, "light").0.as_array().unwrap().len(), 2, "two channels of one plane");
    let light: Vec<f64> = fact(&found, "light").0.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!((light[1] - light[0] - 100.0).abs() < 1e-6, "a channel is a page further: {light:?}");
    // A stack without time is drawn plane by plane.
    Tiff::described(3, "ImageJ=1.53\nimages=3\nslices=3\n").write(&path);
    let found = draw(&[]);
    assert_eq!(fact(&found, "light").0.as_array().unwrap().len(), 3);
    assert!(png(&picture).0[0] > of_two[0], "three tiles");
    // Pages of 8 bit run over at 256; one of them ends at 255.
    Tiff { bits: 8, ..Tiff::pages(3) }.write(&path);
    let found = draw(&[]);
    assert_eq!(png(&picture).1, 0, "nothing saturates: {found:#}");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 24 * 16;
    bytes[last..last + 30].fill(255);
    std::fs::write(&path, bytes).unwrap();
    let found = draw(&[]);
    // Images of 24 px are enlarged sixteen times.
    assert_eq!(png(&picture).1, 30 * 16 * 16);
    let share = fact(&found, "saturated_share").0[0].as_f64().unwrap();
    assert!((share - 30.0 / (3.0 * 384.0)).abs() < 1e-9, "{share}");
    // Of a whole recording, or its first frames.
    assert_ne!(fact(&draw(&["--frames", "1"]), "light").0, fact(&found, "light").0);
    let error = info(&path, &["--picture", "/nowhere/x.png"]).unwrap_err();
    assert!(error.contains("/nowhere"), "{error}");
}

#[test]
fn what_the_user_says_in_a_dataset_toml_is_what_the_options_say() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let of_four = |page: usize| format!("frameTimestamps_sec = {:.6}\n", (page / 4) as f64 / 16.0);
    let four = ["hChannels.channelSave = [1;2;3;4]", "hRoiManager.scanFrameRate = 16"];
    Tiff { of_page: Some(of_four), ..Tiff::scanimage(640, &four) }.write(&folder.join("four.tif"));
    Tiff { bits: 8, ..Tiff::pages(320) }.write(&folder.join("plain.tif"));
    Tiff::described(480, "ImageJ=1.53\nimages=480\nslices=3\nframes=160\n").write(&folder.join("volume.tif"));
    let rows: String = (0..1000).map(|row| format!("{:.3}\n", (f64::from(row) / 9.0).sin())).collect();
    std::fs::write(folder.join("b.csv"), format!("speed\n{rows}")).unwrap();
    let facts = |frames: &str| {
        let toml = format!(
            "frame_rate_hz = 16.0\nbehaviour_rate_hz = 100.0\n[[trial]]\nanimal = \"a\"\nframes = {{ {frames} }}\nbehaviour = \"b.csv\"\n"
        );
        std::fs::write(folder.join("dataset.toml"), toml).unwrap();
        info(&folder.join("dataset.toml"), &["--json"]).map(|text| {
            let found: Value = serde_json::from_str(&text).unwrap();
            let trial = &found["trials"][0];
            (
                trial["shape"].as_str().unwrap().to_owned(),
                trial["frames"].as_u64().unwrap(),
                trial["recording"].to_string(),
            )
        })
    };
    let (shape, frames, recording) = facts("path = \"four.tif\", use_channels = [0, 2]").unwrap();
    assert_eq!((shape.as_str(), frames), ("2×16×24", 160));
    assert!(recording.contains("--channels") && recording.contains("the ScanImage header"), "{recording}");
    assert!(facts("path = \"four.tif\"").unwrap_err().contains("use_channels"));
    let (shape, frames, recording) = facts("path = \"plain.tif\", axes = \"T,C2\"").unwrap();
    assert_eq!((shape.as_str(), frames), ("2×16×24", 160));
    assert!(recording.contains("--axes"), "{recording}");
    assert_eq!(facts("path = \"volume.tif\", plane = 2").unwrap().1, 160);
    assert!(facts("path = \"plain.tif\", roi = 1").unwrap_err().contains("--roi"));
    assert!(facts("path = \"plain.tif\", orientation = \"rows-first\"").unwrap_err().contains("NWB"));
}

/// A microscope that paused for a second after frame 80, at 16 Hz.
fn paused(page: usize) -> String {
    format!(
        "frameNumbers = {}\nframeTimestamps_sec = {:.6}\n",
        page + 1,
        page as f64 / 16.0 + f64::from(u8::from(page >= 80))
    )
}

fn backwards(page: usize) -> String {
    format!("frameTimestamps_sec = {:.6}\n", (page % 80) as f64 / 16.0)
}

#[test]
fn behaviour_is_laid_beside_the_time_stamps_of_frames_that_are_not_regular() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let rows: String = (0..1100).map(|row| format!("{:.3}\n", (f64::from(row) / 9.0).sin())).collect();
    std::fs::write(folder.join("b.csv"), format!("speed\n{rows}")).unwrap();
    std::fs::write(folder.join("l.csv"), "start_s,stop_s,label\n0,5,rest\n6,11,walk\n").unwrap();
    let facts = |of_page: fn(usize) -> String, rate: &str| {
        let header = ["hChannels.channelSave = 1", "hRoiManager.scanFrameRate = 16"];
        Tiff { of_page: Some(of_page), ..Tiff::scanimage(160, &header) }.write(&folder.join("a.tif"));
        let toml = format!(
            "frame_rate_hz = {rate}\nbehaviour_rate_hz = 100.0\n[[trial]]\nanimal = \"a\"\nframes = {{ path = \"a.tif\" }}\nbehaviour = \"b.csv\"\nlabels = \"l.csv\"\n"
        );
        std::fs::write(folder.join("dataset.toml"), toml).unwrap();
        info(&folder.join("dataset.toml"), &["--json"]).map(|text| serde_json::from_str::<Value>(&text).unwrap())
    };
    let found = facts(paused, "16.0").unwrap();
    assert_eq!(
        found["trials"][0]["labels"].to_string(),
        r#"[["rest",79],["walk",80]]"#,
        "the last before the pause ends in it: {found:#}"
    );
    assert!(found["warnings"].to_string().contains("aligned by the time stamps"), "{found:#}");
    let regular = facts(|page| format!("frameTimestamps_sec = {:.6}\n", page as f64 / 16.0), "16.0").unwrap();
    assert!(!regular["warnings"].to_string().contains("time stamps"), "{regular:#}");
    assert_eq!(regular["trials"][0]["labels"].to_string(), r#"[["rest",80],["walk",64]]"#);
    assert!(facts(backwards, "16.0").unwrap_err().contains("several runs"));
}

/// 20 GB of pages whose pixels were never written: the file takes no room.
#[test]
fn a_recording_of_20_gb_is_described_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.tif");
    let one = Tiff { height: 1024, width: 2048, big: true, ..Tiff::pages(1) };
    let mut head = one.bytes();
    head.truncate(head.len() - 2 * 1024 * 2048);
    let directory = head[16..].to_vec();
    let (step, pages) = (4_u64 << 20 | 4096, 5000_u64);
    let file = std::fs::File::create(&path).unwrap();
    file.write_all_at(&head[..8], 0).unwrap();
    file.write_all_at(&16_u64.to_le_bytes(), 8).unwrap();
    for page in 0..pages {
        let at = 16 + page * step;
        let mut own = directory.clone();
        let offset_entry = own.windows(2).position(|tag| tag == 273_u16.to_le_bytes()).unwrap();
        own[offset_entry + 12..offset_entry + 20].copy_from_slice(&(at + 512).to_le_bytes());
        let end = own.len() - 8;
        own[end..].copy_from_slice(&if page + 1 < pages { at + step } else { 0 }.to_le_bytes());
        file.write_all_at(&own, at).unwrap();
    }
    file.set_len(16 + pages * step).unwrap();
    // Other tests run beside this one: the fastest of a few counts.
    let took = (0..4).map(|_| {
        let began = Instant::now();
        assert_eq!(*fact(&json(&path, &[]), "frames").0, 5000);
        began.elapsed().as_secs_f64()
    });
    let fastest = took.fold(f64::INFINITY, f64::min);
    assert!(fastest < 2.0, "{fastest} s");
}

/// The same of formats without a chain of directories: their length is all that is needed.
#[test]
fn raw_recordings_of_20_gb_are_described_within_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let long = |path: &Path| {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.set_len(20 << 30).unwrap();
    };
    let raw = dir.path().join("x.bin");
    long(&raw);
    let scanbox =
        Scanbox { rows: 512, columns: 512, ..Scanbox::default() }.with("recordsPerBuffer", &[512.0]).write(dir.path());
    long(&scanbox);
    let xml = r#"<ThorImageExperiment><Wavelengths><ChannelEnable Set="1"/></Wavelengths><LSM pixelX="512" pixelY="512" frameRate="30"/>
        <Streaming enable="1" frames="40960"/></ThorImageExperiment>"#;
    std::fs::write(dir.path().join("Experiment.xml"), xml).unwrap();
    let thor = dir.path().join("Image_0001_0001.raw");
    std::fs::write(&thor, [7; 512 * 512 * 2]).unwrap();
    long(&thor);
    for (path, more, frames) in
        [(&raw, &["--raw", "uint16:512x512"][..], 40960), (&scanbox, &[], 40960), (&thor, &[], 1)]
    {
        let took = (0..3).map(|_| {
            let began = Instant::now();
            assert_eq!(*fact(&json(path, more), "frames").0, frames, "{}", path.display());
            began.elapsed().as_secs_f64()
        });
        let fastest = took.fold(f64::INFINITY, f64::min);
        assert!(fastest < 2.0, "{}: {fastest} s", path.display());
    }
}
