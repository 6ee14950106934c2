//! ThorImageLS recordings: `Experiment.xml` beside `Image_*.raw`, or beside `Chan?_*.tif` files.
//!
//! Why it exists: many fly rigs run on ThorImage. The raw file is u16 little-endian, times × planes (with flyback) ×
//! channels × rows × columns; the number of times follows from the file's size, never from the XML (runs are aborted).
//! What it must never do: decode a flyback frame, or take a disabled channel for an enabled one.

mod follow;
mod raw;

use std::path::{Path, PathBuf};

use crate::frame::{Name, SIDE_PX_MAX};
use crate::sys::files::{Bound, read_bounded};

use super::recording::{Axis, choose_plane, file_error, natural_order};
use super::tiff::TiffSource;
use super::xml::attribute;
use super::{Source, SourceError};

pub use follow::{FollowSettings, Follower};
use raw::ThorRaw;

/// Detectors of a ThorImage microscope; without `onlyEnabledChannels` the raw file holds them all.
const DETECTORS: usize = 4;
/// Most bytes of an Experiment.xml; real ones have some tens of kB.
const XML: Bound = Bound::new("an Experiment.xml", 16 << 20);

/// The imaging parameters in `Experiment.xml`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experiment {
    /// Rows, px.
    pub height: usize,
    /// Columns, px.
    pub width: usize,
    /// Frames per second of the stream, after averaging, over all planes.
    pub frame_rate_hz: f64,
    /// Bit n set: channel A + n is enabled.
    pub channels: u8,
    /// The raw file holds the enabled channels only.
    pub only_enabled: bool,
    /// Planes of a volume.
    pub planes: usize,
    /// Flyback frames after each volume.
    pub flyback: usize,
    /// Planes requested in total, flyback included; the file may hold fewer.
    pub requested: Option<u64>,
}

impl Experiment {
    /// Reads the text of an `Experiment.xml`.
    ///
    /// # Errors
    /// What is missing or not a number.
    pub fn parse(xml: &str) -> Result<Self, String> {
        let lsm = |key: &str| required(xml, "LSM", key);
        let (width, height) = (lsm("pixelX")? as usize, lsm("pixelY")? as usize);
        if !(1..=SIDE_PX_MAX).contains(&width) || !(1..=SIDE_PX_MAX).contains(&height) {
            return Err(format!("LSM is {width}×{height} px; 1 to {SIDE_PX_MAX} px are supported"));
        }
        let averaged = optional(xml, "LSM", "averageMode")?.unwrap_or(0.0) > 0.0;
        let averages = if averaged { optional(xml, "LSM", "averageNum")?.unwrap_or(1.0).max(1.0) } else { 1.0 };
        let channels = required(xml, "ChannelEnable", "Set")? as u8 & ((1 << DETECTORS) - 1);
        if channels == 0 {
            return Err("ChannelEnable Set=\"0\": no channel is enabled".to_string());
        }
        let streaming = optional(xml, "Streaming", "enable")?.unwrap_or(0.0) > 0.0;
        let fast_z = streaming && optional(xml, "Streaming", "zFastEnable")?.unwrap_or(0.0) > 0.0;
        let steps = optional(xml, "ZStage", "steps")?.unwrap_or(1.0).max(1.0) as usize;
        let flyback = optional(xml, "Streaming", "flybackFrames")?.unwrap_or(0.0).max(0.0) as usize;
        let planes = if fast_z || !streaming { steps } else { 1 };
        let requested = if streaming {
            optional(xml, "Streaming", "frames")?
        } else {
            optional(xml, "Timelapse", "timepoints")?.map(|times| times * planes as f64)
        };
        Ok(Self {
            height,
            width,
            frame_rate_hz: lsm("frameRate")? / averages,
            channels,
            only_enabled: optional(xml, "RawData", "onlyEnabledChannels")?.unwrap_or(1.0) > 0.0,
            planes,
            flyback: if fast_z && planes > 1 { flyback } else { 0 },
            requested: requested.filter(|count| *count >= 1.0).map(|count| count as u64),
        })
    }

    /// Reads the `Experiment.xml` of a folder.
    ///
    /// # Errors
    /// A file that is missing or incomplete.
    fn of_folder(folder: &Path) -> Result<Self, SourceError> {
        let path = folder.join("Experiment.xml");
        let xml = read_bounded(&path, XML).map_err(|e| file_error(&path, e.cause.to_string()))?;
        Self::parse(&String::from_utf8_lossy(&xml)).map_err(|cause| file_error(&path, cause))
    }

    /// Indices of the enabled channels, 0 = A.
    fn enabled(&self) -> impl Iterator<Item = usize> {
        let set = self.channels;
        (0..DETECTORS).filter(move |c| set >> c & 1 == 1)
    }
}

/// Opens a ThorImage folder, its `Experiment.xml`, or a raw file in it.
///
/// # Errors
/// What the folder lacks, or a plane that does not exist.
pub fn open(
    path: &Path,
    rate_hz: Option<f64>,
    plane: Option<u64>,
    source: Name,
) -> Result<Box<dyn Source>, SourceError> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let experiment = Experiment::of_folder(folder)?;
    let raw = if path.extension().is_some_and(|e| e == "raw") { Some(path.to_path_buf()) } else { find_raw(folder)? };
    match raw {
        Some(raw) => Ok(Box::new(ThorRaw::open(&raw, experiment, rate_hz, plane, source)?)),
        None => open_tiffs(folder, experiment, rate_hz, plane, source),
    }
}

fn find_raw(folder: &Path) -> Result<Option<PathBuf>, SourceError> {
    let mut found = list(folder)?;
    found.retain(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("Image_") && name.ends_with(".raw")
    });
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => Err(file_error(folder, format!("contains {} raw files; name one, e.g. {first:?}", found.len()))),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let entries = std::fs::read_dir(folder).map_err(|e| file_error(folder, e.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort_by(|a, b| natural_order(a, b));
    Ok(paths)
}

/// `ChanA_0001_0001_<z>_<t>.tif`: one page per file; the times of the chosen plane in order.
fn open_tiffs(
    folder: &Path,
    experiment: Experiment,
    rate_hz: Option<f64>,
    plane: Option<u64>,
    source: Name,
) -> Result<Box<dyn Source>, SourceError> {
    let files = list(folder)?;
    let mut channels = Vec::new();
    let mut step = 1;
    for letter in experiment.enabled().map(|c| (b'A' + c as u8) as char) {
        let mut pages: Vec<([usize; 2], PathBuf)> =
            files.iter().filter_map(|p| Some((place_of(p, letter)?, p.clone()))).collect();
        pages.sort();
        let Some(&([times, _], _)) = pages.last() else {
            return Err(file_error(folder, format!("contains neither Image_*.raw nor Chan{letter}_*_*_*_*.tif")));
        };
        let planes = pages.iter().map(|(place, _)| place[1]).max().unwrap_or(1);
        if pages.len() != times * planes {
            let cause = format!(
                "contains {} files of channel {letter}; {times} times × {planes} planes need {}",
                pages.len(),
                times * planes
            );
            return Err(file_error(folder, cause));
        }
        let walk =
            choose_plane(Axis::new(planes, 1), Axis::new(times, planes), plane).map_err(|c| file_error(folder, c))?;
        step = walk.step;
        channels.push((0..walk.count).map(|n| pages[walk.first + n * walk.step].1.clone()).collect());
    }
    let rate_hz = rate_hz.or(Some(experiment.frame_rate_hz / step as f64)).filter(|r| *r > 0.0);
    Ok(Box::new(TiffSource::open_pages(channels, rate_hz, source)?))
}

/// [time, plane], counted from 1, of a file of this channel.
fn place_of(path: &Path, letter: char) -> Option<[usize; 2]> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".tif")?.strip_prefix("Chan")?.strip_prefix(letter)?;
    let numbers: Result<Vec<usize>, _> = stem.strip_prefix('_')?.split('_').map(str::parse).collect();
    match numbers.ok()?.as_slice() {
        [_well, _site, plane, time] => Some([*time, *plane]),
        _ => None,
    }
}

fn required(xml: &str, element: &str, key: &str) -> Result<f64, String> {
    optional(xml, element, key)?.ok_or_else(|| format!("has no {element}@{key}"))
}

fn optional(xml: &str, element: &str, key: &str) -> Result<Option<f64>, String> {
    let Some(text) = attribute(xml, element, key)? else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| format!("{element}@{key} is {text:?}, not a number"))
}

#[cfg(test)]
mod tests {
    use super::super::Next;
    use super::*;
    use crate::frame::Frame;

    const XML: &str = r#"<?xml version="1.0"?><ThorImageExperiment>
        <Wavelengths><ChannelEnable Set="5" /></Wavelengths>
        <ZStage steps="4" /><LSM pixelX="128" pixelY="64" frameRate="60" averageMode="1" averageNum="2" />
        <Streaming enable="1" zFastEnable="1" flybackFrames="3" /><RawData onlyEnabledChannels="0" />
        </ThorImageExperiment>"#;

    /// Five volumes of 4 planes + 3 flyback × 4 detectors; every pixel says where it comes from. The last volume is cut.
    fn write_raw(folder: &Path) {
        std::fs::write(folder.join("Experiment.xml"), XML).unwrap();
        let mut bytes = Vec::new();
        for (page, channel) in (0..5 * 7).flat_map(|p| (0..4).map(move |c| (p, c))) {
            bytes.extend([(page * 10 + channel) as u16; 64 * 128].iter().flat_map(|v| v.to_le_bytes()));
        }
        bytes.truncate(bytes.len() - 1);
        std::fs::write(folder.join("Image_0001_0001.raw"), bytes).unwrap();
    }

    #[test]
    fn flyback_disabled_channels_and_a_cut_off_volume_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        write_raw(folder.path());
        let mut source = open(folder.path(), None, Some(2), "rig".parse().unwrap()).unwrap();
        assert_eq!((source.frames_total(), source.frame_rate_hz()), (Some(4), Some(60.0 / 2.0 / 7.0)));
        let mut frame = Frame::with_capacity(source.frame_bytes_max());
        for time in 0..4u16 {
            assert_eq!(source.next(&mut frame).unwrap(), Next::Frame);
            let crate::frame::Pixels::U16(pixels) = frame.pixels() else { panic!("u16") };
            let (a, c) = pixels.split_at(64 * 128);
            assert_eq!((a[0], c[0]), ((time * 7 + 2) * 10, (time * 7 + 2) * 10 + 2), "channels A and C");
        }
        assert_eq!(source.next(&mut frame).unwrap(), Next::End);
        let error = open(folder.path(), None, None, "rig".parse().unwrap()).err().unwrap().to_string();
        assert!(error.contains("4 planes"), "{error}");
    }

    #[test]
    fn what_is_missing_in_the_xml_is_named() {
        for (without, word) in [("pixelX", "LSM@pixelX"), ("Set", "ChannelEnable@Set"), ("frameRate", "LSM@frameRate")]
        {
            let error = Experiment::parse(&XML.replace(without, "other")).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(Experiment::parse(&XML.replace("\"128\"", "\"many\"")).unwrap_err().contains("\"many\""));
    }
}
