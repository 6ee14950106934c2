//! How fast recordings are read from the page cache, beside a plain copy of the same bytes.
//!
//! What it must never do: time a reader that gave other pixels than were written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rust_hdf5::H5File;

use crate::config::Compression;
use crate::frame::{Frame, FrameSlot, Name, PixelType, Shape};
use crate::session::SessionWriter;
use crate::source::{Next, Orientation, RecordingSpec, open_recording};

/// Frames of a recording, and how often it is read: the fastest counts, because the others were disturbed.
const FRAMES: usize = 100;
const REPEATS: usize = 7;

/// One format.
#[derive(Debug, serde::Serialize)]
pub struct Row {
    /// Its name.
    pub format: &'static str,
    /// Frames per second, 512×512 u16.
    pub frames_per_s: f64,
    /// Share of the speed of a plain copy.
    pub of_copy: f64,
}

/// Writes a recording of `side`² u16 in each format into `folder`, reads it and prints a row.
///
/// # Errors
/// A folder that cannot be written, or a reader that refuses or changes what was written.
pub fn measure(folder: &Path, side: usize, out: &mut dyn Write) -> anyhow::Result<Vec<Row>> {
    let pixels: Vec<u8> = (0..side * side).flat_map(|i| ((i * 7919 % 4001) as u16).to_le_bytes()).collect();
    let raw = folder.join("Image_0001_0001.raw");
    std::fs::write(&raw, pixels.repeat(FRAMES))?;
    writeln!(out, "reading {side}×{side} u16 from the page cache, {FRAMES} frames, the fastest of {REPEATS}\n")?;
    writeln!(out, "| format | frames/s | a copy beside it | share |\n|---|---|---|---|")?;
    let rig = Name::literal("bench");
    let layout = format!("uint16:{side}x{side}").parse().map_err(anyhow::Error::msg)?;
    let by_rows = Some(Orientation::RowsFirst);
    let nwb = RecordingSpec::new(nwb(folder, &pixels, side)?, rig);
    let specs = [
        ("raw file", RecordingSpec { raw: Some(layout), ..RecordingSpec::new(&raw, rig) }),
        ("TIFF", RecordingSpec::new(tiff(folder, &pixels, side)?, rig)),
        ("ThorImage", RecordingSpec::new(thorimage(folder, side)?, rig)),
        ("Scanbox", RecordingSpec::new(scanbox(folder, &pixels, side)?, rig)),
        ("session", RecordingSpec::new(session(folder, &pixels, side)?, rig)),
        ("NWB, rows first", RecordingSpec { rate_hz: Some(30.0), orientation: by_rows, ..nwb }),
    ];
    let mut rows = Vec::new();
    for (format, spec) in specs {
        // By turns, because a busy machine is slow by turns.
        let (mut seconds, mut copied) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..REPEATS {
            copied = copied.min(copy(&raw, pixels.len())?);
            seconds = seconds.min(read(&spec, &pixels)?);
        }
        let row = Row { format, frames_per_s: 1.0 / seconds, of_copy: copied / seconds };
        writeln!(out, "| {format} | {:.0} | {:.0} | {:.0} % |", row.frames_per_s, 1.0 / copied, 100.0 * row.of_copy)?;
        rows.push(row);
    }
    Ok(rows)
}

/// Seconds per frame.
fn copy(path: &Path, frame_bytes: usize) -> anyhow::Result<f64> {
    // Memory that was used before, as a slot of the lane is.
    let (file, mut slot) = (File::open(path)?, vec![1; frame_bytes]);
    let began = Instant::now();
    for frame in 0..FRAMES {
        file.read_exact_at(&mut slot, (frame * frame_bytes) as u64)?;
    }
    Ok(began.elapsed().as_secs_f64() / FRAMES as f64)
}

fn read(spec: &RecordingSpec, pixels: &[u8]) -> anyhow::Result<f64> {
    let mut source = open_recording(spec)?;
    let mut slot = Frame::with_capacity(source.frame_bytes_max());
    let began = Instant::now();
    let mut frames = 0;
    while source.next(&mut slot)? == Next::Frame {
        frames += 1;
    }
    let seconds = began.elapsed().as_secs_f64() / FRAMES as f64;
    anyhow::ensure!(frames == FRAMES && slot.bytes() == pixels, "{frames} frames were read, or other pixels");
    Ok(seconds)
}

fn thorimage(folder: &Path, side: usize) -> anyhow::Result<PathBuf> {
    let xml = format!(
        r#"<ThorImageExperiment><Wavelengths><ChannelEnable Set="1"/></Wavelengths><LSM pixelX="{side}" pixelY="{side}" frameRate="30"/>
        <Streaming enable="1" frames="{FRAMES}"/></ThorImageExperiment>"#
    );
    std::fs::write(folder.join("Experiment.xml"), xml)?;
    Ok(folder.join("Image_0001_0001.raw"))
}

/// A classic TIFF with a directory before the pixels of each page, as microscopes write it.
fn tiff(folder: &Path, pixels: &[u8], side: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join("bench.tif");
    let mut bytes = b"II\x2a\0\x08\0\0\0".to_vec();
    for page in 0..FRAMES {
        let entries = [
            (256, side),
            (257, side),
            (258, 16),
            (259, 1),
            (262, 1),
            (273, bytes.len() + 2 + 10 * 12 + 4),
            (277, 1),
            (278, side),
            (279, pixels.len()),
            (339, 1),
        ];
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            bytes.extend((tag as u16).to_le_bytes());
            bytes.extend(4_u16.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend((value as u32).to_le_bytes());
        }
        let next = if page + 1 < FRAMES { bytes.len() + 4 + pixels.len() } else { 0 };
        bytes.extend((next as u32).to_le_bytes());
        bytes.extend(pixels);
    }
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// A recording of Scanbox: inverted, with the numbers of its .mat (MATLAB 5: a structure of arrays of doubles).
fn scanbox(folder: &Path, pixels: &[u8], side: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join("bench.sbx");
    let inverted: Vec<u8> = pixels.iter().map(|byte| !byte).collect();
    std::fs::write(&path, inverted.repeat(FRAMES))?;
    let fields: [(&str, &[f64]); 4] = [
        ("sz", &[side as f64, side as f64]),
        ("recordsPerBuffer", &[side as f64]),
        ("channels", &[2.0]),
        ("scanmode", &[1.0]),
    ];
    let words = |all: &[u32]| all.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [words(&[kind, data.len() as u32]), data.to_vec()].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let of_class = |class: u32, sizes: &[u32]| [element(6, &words(&[class, 0])), element(5, &words(sizes))].concat();
    let mut names = Vec::new();
    for (name, _) in fields {
        names.extend(name.bytes());
        names.resize(names.len().next_multiple_of(32), 0);
    }
    let mut body = [of_class(2, &[1, 1]), element(1, b"info"), element(5, &words(&[32])), element(1, &names)].concat();
    for (_, values) in fields {
        let numbers: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let held = [of_class(6, &[1, values.len() as u32]), element(1, b""), element(9, &numbers)].concat();
        body.extend(element(14, &held));
    }
    let head = format!("{:<124}\0\u{1}IM", "MATLAB 5.0 MAT-file");
    std::fs::write(path.with_extension("mat"), [head.into_bytes(), element(14, &body)].concat())?;
    Ok(path)
}

/// A recorded session as the daemon writes it, frames alone.
fn session(folder: &Path, pixels: &[u8], side: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join("bench.mcap");
    let about = BTreeMap::from([("frame_bytes_max".to_owned(), pixels.len().to_string())]);
    let mut writer = SessionWriter::create(&path, Compression::None, 0, &about, &[])?;
    let mut slot = FrameSlot::with_capacity(pixels.len());
    let info = &mut slot.frame.info;
    (info.shape, info.pixel_type, info.source) = (Shape::new(1, side, side), PixelType::U16, Name::literal("bench"));
    slot.frame.bytes_mut().copy_from_slice(pixels);
    for number in 0..FRAMES as u64 {
        slot.arrival = number;
        (slot.frame.info.number, slot.frame.info.t_received_ns) = (number, number * 33_333_333);
        writer.write_frame(&slot)?;
    }
    writer.finish(BTreeMap::new())?;
    Ok(path)
}

/// An NWB file with one series, uncompressed, in one piece.
fn nwb(folder: &Path, pixels: &[u8], side: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join("bench.nwb");
    let file = H5File::create(&path)?;
    file.root_group().set_attr_string("neurodata_type", "NWBFile")?;
    let series = file.root_group().create_group("acquisition")?.create_group("TwoPhotonSeries")?;
    series.set_attr_string("neurodata_type", "TwoPhotonSeries")?;
    let frame: Vec<u16> = pixels.as_chunks::<2>().0.iter().map(|pixel| u16::from_le_bytes(*pixel)).collect();
    series.new_dataset::<u16>().shape([FRAMES, side, side]).create("data")?.write_raw(&frame.repeat(FRAMES))?;
    file.close()?;
    Ok(path)
}
