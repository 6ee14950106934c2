//! ThorImageLS recordings: `Experiment.xml` beside `Image_*.raw`, or beside `Chan?_*.tif` files.
//!
//! Why it exists: many fly rigs run on ThorImage. The raw file is u16 little-endian, times × planes (with flyback) ×
//! channels × rows × columns; the number of times follows from the file's size, never from the XML (runs are aborted).
//! What it must never do: decode a flyback frame, or take a disabled channel for an enabled one.
//!
//! Averaging: with fast z ThorImage averages nothing, whatever `averageNum` says: its own code has "do not average if the fast Z is enabled"
//! (`AcquireTStream.cpp`, published in cajigaslab/thorimagels_dev_vs2019), and hong2p (`thor.py`) found all frames in such files. Only a scanner of
//! two galvos beside a resonant one (`LSM@name` ResonanceGalvoGalvo) may average by itself; what such a file holds is not known.

mod follow;
mod raw;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::frame::{Name, SIDE_PX_MAX};
use crate::sys::files::{Bound, read_bounded};

use super::axes::Asked;
use super::recording::{Axis, choose_plane, file_error, natural_order};
use super::tiff::TiffSource;
use super::xml::{attribute, elements, value_of};
use super::{About, Source, SourceError};

pub use follow::{FollowSettings, Follower};
use raw::ThorRaw;

/// Detectors of a ThorImage microscope; without `onlyEnabledChannels` the raw file holds them all.
const DETECTORS: usize = 4;
/// Most planes, and flyback frames, of a volume.
const COUNT_MAX: f64 = 1e6;
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
    /// Frames that should have been averaged, and were not, because planes were scanned fast.
    pub not_averaged: Option<u32>,
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
        let channels = required(xml, "ChannelEnable", "Set")? as u8 & ((1 << DETECTORS) - 1);
        if channels == 0 {
            return Err("ChannelEnable Set=\"0\": no channel is enabled".to_string());
        }
        let streaming = optional(xml, "Streaming", "enable")?.unwrap_or(0.0) > 0.0;
        let fast_z = streaming && optional(xml, "Streaming", "zFastEnable")?.unwrap_or(0.0) > 0.0;
        let (averages, not_averaged) = averages(xml, fast_z)?;
        // Without streaming, a z-stack that is switched off leaves its steps behind.
        let stacked = fast_z || !streaming && optional(xml, "ZStage", "enable")?.unwrap_or(1.0) > 0.0;
        let steps = z_steps(xml)?;
        let flyback = optional(xml, "Streaming", "flybackFrames")?.unwrap_or(0.0).max(0.0);
        if flyback > COUNT_MAX {
            return Err(format!("Streaming@flybackFrames is {flyback}; at most {COUNT_MAX} are supported"));
        }
        let flyback = flyback as usize;
        let planes = if stacked { steps } else { 1 };
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
            not_averaged,
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

/// Frames that became one, and how many should have but did not.
fn averages(xml: &str, fast_z: bool) -> Result<(f64, Option<u32>), String> {
    let averaged = optional(xml, "LSM", "averageMode")?.unwrap_or(0.0) > 0.0;
    let count = if averaged { optional(xml, "LSM", "averageNum")?.unwrap_or(1.0).clamp(1.0, COUNT_MAX) } else { 1.0 };
    if !fast_z || count <= 1.0 {
        return Ok((count, None));
    }
    let scanner = attribute(xml, "LSM", "name")?.unwrap_or_default();
    if scanner.to_lowercase().replace([' ', '_', '-'], "").contains("resonancegalvogalvo") {
        return Err(format!(
            "says that {count} frames are averaged and that planes are scanned fast, by a scanner ({scanner}) that may average by itself: whether its              planes come at the frame rate or at 1/{count} of it is not known; set averageMode=\"0\" in a copy of the file, and state the rate (--rate)"
        ));
    }
    Ok((1.0, Some(count as u32)))
}

/// Opens a ThorImage folder, its `Experiment.xml`, or a raw file in it.
///
/// # Errors
/// What the folder lacks, or a plane that does not exist.
pub(super) fn open(
    path: &Path,
    rate_hz: Option<f64>,
    asked: &Asked,
    source: Name,
) -> Result<Box<dyn Source>, SourceError> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let experiment = Experiment::of_folder(folder)?;
    let raw = if path.extension().is_some_and(|e| e == "raw") { Some(path.to_path_buf()) } else { find_raw(folder)? };
    match raw {
        Some(raw) => Ok(Box::new(ThorRaw::open(&raw, experiment, rate_hz, asked, source)?)),
        None => open_tiffs(folder, experiment, rate_hz, asked, source),
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

/// `ChanA_0001_0001_<z>_<t>.tif`: one page per file; the whole times of the chosen plane in order.
fn open_tiffs(
    folder: &Path,
    experiment: Experiment,
    rate_hz: Option<f64>,
    asked: &Asked,
    source: Name,
) -> Result<Box<dyn Source>, SourceError> {
    let files = list(folder)?;
    let mut channels: Vec<Vec<([usize; 2], PathBuf)>> = Vec::new();
    for letter in experiment.enabled().map(|c| (b'A' + c as u8) as char) {
        let mut pages: Vec<([usize; 2], PathBuf)> =
            files.iter().filter_map(|p| Some((place_of(p, letter)?, p.clone()))).collect();
        pages.sort();
        if pages.is_empty() {
            let there = (b'A'..=b'D').map(char::from).filter(|l| files.iter().any(|p| place_of(p, *l).is_some()));
            let there: String = there.map(|l| format!(" Chan{l}")).collect();
            let cause = format!(
                "contains neither Image_*.raw nor Chan{letter}_*_*_*_*.tif, although Experiment.xml enables that channel; it has files of:{}",
                if there.is_empty() { " no channel" } else { &there }
            );
            return Err(file_error(folder, cause));
        }
        channels.push(pages);
    }
    let planes = channels.iter().flatten().map(|(place, _)| place[1]).max().unwrap_or(1);
    let last = channels.iter().flatten().map(|(place, _)| place[0]).max().unwrap_or(0);
    let whole = |pages: &Vec<([usize; 2], PathBuf)>| {
        let fits = |(n, (place, _)): &(usize, &([usize; 2], PathBuf))| *place == [n / planes + 1, n % planes + 1];
        pages.iter().enumerate().take_while(fits).count() / planes
    };
    let times = channels.iter().map(whole).min().unwrap_or(0);
    let mut warnings = Vec::new();
    if times < last {
        let missing = last * planes * channels.len() - channels.iter().map(Vec::len).sum::<usize>();
        let text = format!(
            "{missing} file(s) are missing: of {last} times × {planes} plane(s) × {} channel(s) the first {times} times are whole",
            channels.len()
        );
        if asked.strict || times == 0 {
            return Err(file_error(folder, text));
        }
        warnings.push(text);
    }
    let walk =
        choose_plane(Axis::new(planes, 1), Axis::new(times, planes), asked.plane).map_err(|c| file_error(folder, c))?;
    let chosen = |pages: Vec<([usize; 2], PathBuf)>| {
        (0..walk.count).map(|n| pages[walk.first + n * walk.step].1.clone()).collect()
    };
    let rate_hz = rate_hz.or(Some(experiment.frame_rate_hz / walk.step as f64)).filter(|r| *r > 0.0);
    let mut opened = TiffSource::open_pages(channels.into_iter().map(chosen).collect(), rate_hz, asked, source)?;
    opened.about_mut().warnings.extend(warnings);
    opened.about_mut().by("Experiment.xml and the names of the files", planes, times, asked.plane);
    tell_averaging(&experiment, opened.about_mut());
    Ok(Box::new(opened))
}

/// What `info` says of averaging that did not happen.
fn tell_averaging(experiment: &Experiment, about: &mut About) {
    let by = "Experiment.xml: with fast z ThorImage averages nothing, whatever averageNum says";
    about.maybe("averaging_ignored", experiment.not_averaged, by);
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

/// Planes of the stage in use. Newer versions list several stages, and only the one in use has a name (ThorImage 4.3; noted in
/// hong2p's `thor.py`).
fn z_steps(xml: &str) -> Result<usize, String> {
    let (mut named, mut all) = (BTreeSet::new(), Vec::new());
    elements(xml, |element| {
        if element.local_name().as_ref() == "ZStage" {
            let text = value_of(element, "steps")?.unwrap_or_else(|| "1".to_owned());
            let steps = text.trim().parse::<f64>().map_err(|_| format!("ZStage@steps is {text:?}, not a number"))?;
            let steps = steps.clamp(1.0, COUNT_MAX) as usize;
            if value_of(element, "name")?.is_some_and(|name| !name.trim().is_empty()) {
                named.insert(steps);
            }
            all.push(steps);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if named.len() > 1 {
        return Err(format!(
            "has several named ZStage elements with {named:?} steps: nobody knows which one moved; delete the others from a copy of the file"
        ));
    }
    Ok(named.first().or(all.first()).copied().unwrap_or(1))
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

    fn asked(plane: Option<u64>) -> Asked {
        Asked { plane, ..Asked::default() }
    }

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
        let mut source = open(folder.path(), None, &asked(Some(2)), "rig".parse().unwrap()).unwrap();
        assert_eq!(
            (source.frames_total(), source.frame_rate_hz()),
            (Some(4), Some(60.0 / 7.0)),
            "with fast z nothing is averaged"
        );
        let mut frame = Frame::with_capacity(source.frame_bytes_max());
        for time in 0..4u16 {
            assert_eq!(source.next(&mut frame).unwrap(), Next::Frame);
            let crate::frame::Pixels::U16(pixels) = frame.pixels() else { panic!("u16") };
            let (a, c) = pixels.split_at(64 * 128);
            assert_eq!((a[0], c[0]), ((time * 7 + 2) * 10, (time * 7 + 2) * 10 + 2), "channels A and C");
        }
        assert_eq!(source.next(&mut frame).unwrap(), Next::End);
        let error = open(folder.path(), None, &asked(None), "rig".parse().unwrap()).err().unwrap().to_string();
        assert!(error.contains("4 planes"), "{error}");
    }

    #[test]
    fn averaging_counts_without_fast_z_only_and_a_scanner_that_may_do_both_is_refused() {
        let of = |xml: &str| Experiment::parse(xml).map(|e| (e.frame_rate_hz, e.not_averaged));
        assert_eq!(of(XML), Ok((60.0, Some(2))));
        assert_eq!(of(&XML.replace("zFastEnable=\"1\"", "zFastEnable=\"0\"")), Ok((30.0, None)));
        assert_eq!(of(&XML.replace("averageMode=\"1\"", "averageMode=\"0\"")), Ok((60.0, None)));
        let error = of(&XML.replace("<LSM ", "<LSM name=\"Resonance Galvo Galvo\" ")).unwrap_err();
        assert!(error.contains("2 frames are averaged") && error.contains("1/2"), "{error}");
    }

    #[test]
    fn a_stack_that_is_switched_off_has_one_plane() {
        let slow = XML.replace("Streaming enable=\"1\"", "Streaming enable=\"0\"");
        assert_eq!(Experiment::parse(&slow).unwrap().planes, 4);
        let off = slow.replace("<ZStage ", "<ZStage enable=\"0\" ");
        assert_eq!(Experiment::parse(&off).unwrap().planes, 1);
    }

    #[test]
    fn what_is_missing_in_the_xml_is_named() {
        for (without, word) in [("pixelX", "LSM@pixelX"), ("Set", "ChannelEnable@Set"), ("frameRate", "LSM@frameRate")]
        {
            let error = Experiment::parse(&XML.replace(without, "other")).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(Experiment::parse(&XML.replace("\"128\"", "\"many\"")).unwrap_err().contains("\"many\""));
        let hostile = XML.replace("flybackFrames=\"3\"", "flybackFrames=\"1e308\"");
        assert!(Experiment::parse(&hostile).unwrap_err().contains("flybackFrames"));
    }
}
