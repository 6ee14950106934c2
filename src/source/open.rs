//! Opens a recording with the reader for its path.
//!
//! Why it exists: one place knows which reader opens which file. What it must never do: try readers until one does not fail.

use std::path::{Path, PathBuf};

use crate::frame::Name;
use crate::session::is_session;

use super::axes::{Asked, AskedAxes};
use super::chosen::Chosen;
use super::file_names::{by_channel, count_one_thing, missing_numbers, paired};
use super::mcap::McapSource;
use super::nwb::{self, NwbSource, Orientation};
use super::raw::{RawLayout, RawSource};
use super::recording::{extension, file_error};
use super::tiff::{TiffSource, lists_files};
use super::tiff_files::{is_tiff, listed, tiff_files};
use super::{Source, SourceError, bruker, scanbox, thorimage};

/// Which recording, and what the user knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingSpec {
    /// For each channel its files in temporal order; a folder or a `*` pattern stands for its files in natural order. One entry
    /// if the files hold all channels; two entries for one channel per file.
    pub channels: Vec<Vec<PathBuf>>,
    /// Layout of a raw file without metadata.
    pub raw: Option<RawLayout>,
    /// Frames per second; overrides the file's metadata.
    pub rate_hz: Option<f64>,
    /// Which plane of a volume.
    pub plane: Option<u64>,
    /// Order of the pages of TIFF files; overrides what the files say.
    pub axes: Option<AskedAxes>,
    /// Order of rows and columns in an NWB file; overrides what the file says.
    pub orientation: Option<Orientation>,
    /// Only these of its channels, counted from 0; empty: all.
    pub use_channels: Vec<usize>,
    /// Which of several regions in a frame (ScanImage's mROI), counted from 0.
    pub roi: Option<usize>,
    /// Refuse a recording of which something is missing, instead of reading what is whole.
    pub strict: bool,
    /// Name of the rig in the frames.
    pub source: Name,
}

impl RecordingSpec {
    /// A recording at one path, everything else from its metadata.
    pub fn new(path: impl Into<PathBuf>, source: Name) -> Self {
        let channels = vec![vec![path.into()]];
        let (raw, rate_hz, plane, axes, orientation) = (None, None, None, None, None);
        let (use_channels, roi) = (Vec::new(), None);
        Self { channels, raw, rate_hz, plane, axes, orientation, use_channels, roi, strict: false, source }
    }

    fn asked(&self) -> Asked {
        let chooses_channels = !self.use_channels.is_empty();
        Asked { axes: self.axes, plane: self.plane, roi: self.roi, chooses_channels, strict: self.strict }
    }
}

/// Opens a recording.
///
/// # Errors
/// What is wrong with the path or the file, and which formats are readable.
pub fn open_recording(spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    let whole = open_whole(spec)?;
    if spec.use_channels.is_empty() {
        return Ok(whole);
    }
    if single_path(spec).is_some_and(is_session) {
        let cause =
            "a session contains the channels that were decoded, and its replay reads them all; leave out the channels";
        return Err(file_error(first_path(spec), cause));
    }
    Ok(Box::new(Chosen::open(whole, &spec.use_channels, first_path(spec))?))
}

/// With all its channels.
fn open_whole(spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    if let Some(rate) = spec.rate_hz.filter(|r| !(r.is_finite() && *r > 0.0)) {
        return Err(file_error(first_path(spec), format!("the given frame rate is {rate} Hz; it must be positive")));
    }
    let path = single_path(spec);
    if path.is_none() && spec.raw.is_some() {
        return Err(file_error(first_path(spec), "a raw layout describes a single file; give one file"));
    }
    let nwb = nwb_channels(spec)?;
    let is_tiff = spec.raw.is_none() && nwb.is_none() && !path.is_some_and(is_other);
    // Who states the axes has read the XML.
    let prairie = match path.filter(|_| is_tiff && spec.axes.is_none()) {
        Some(path) => bruker::xml_of(path)?,
        None => None,
    };
    options_fit(spec, is_tiff, prairie.is_some(), nwb.is_some())?;
    if let Some(xml) = prairie {
        return bruker::open(&xml, spec.rate_hz, &spec.asked(), spec.source);
    }
    match (path, spec.raw) {
        (Some(path), Some(layout)) => return open_raw(path, layout, spec),
        (Some(path), None) if is_session(path) => return open_session(path, spec),
        (Some(path), None) if is_thorimage(path) => {
            return thorimage::open(path, spec.rate_hz, &spec.asked(), spec.source);
        }
        (Some(path), None) if scanbox::is_scanbox(path) => {
            return scanbox::open(path, spec.rate_hz, &spec.asked(), spec.source);
        }
        _ => {}
    }
    if let Some(channels) = nwb {
        return Ok(Box::new(NwbSource::open(&channels, spec.rate_hz, spec.plane, spec.orientation, spec.source)?));
    }
    open_tiffs(spec, path.is_some())
}

/// TIFF files: `found` by a folder or pattern, or listed by the user in the order that is meant.
fn open_tiffs(spec: &RecordingSpec, found: bool) -> Result<Box<dyn Source>, SourceError> {
    let channels: Result<Vec<_>, _> = spec.channels.iter().map(|paths| tiff_files(paths)).collect();
    let (mut channels, mut warnings) = (channels?, Vec::new());
    if let [one] = channels.as_slice()
        && spec.axes.is_none()
        && one.len() > 1
        && !lists_files(&one[0])
    {
        channels = by_channel(one)?;
        if found {
            channels.iter().try_for_each(|files| count_one_thing(files))?;
            let (fitting, left_out) = paired(channels);
            channels = fitting;
            warnings.extend(left_out);
        }
    }
    if found {
        warnings.extend(channels.iter().find_map(|files| missing_numbers(files)));
    }
    if let Some(warning) = warnings.first().filter(|_| spec.strict) {
        return Err(file_error(first_path(spec), format!("{warning}; --strict refuses that")));
    }
    let mut opened = TiffSource::open(channels, spec.rate_hz, &spec.asked(), spec.source)?;
    opened.about_mut().warnings.extend(warnings);
    Ok(Box::new(opened))
}

/// Options that mean nothing for a format are refused: the user means something by them.
fn options_fit(spec: &RecordingSpec, is_tiff: bool, is_prairie: bool, is_nwb: bool) -> Result<(), SourceError> {
    let of_scanimage = is_tiff && !is_prairie;
    let cause = match () {
        () if spec.axes.is_some() && !is_tiff => "--axes states the order of TIFF pages",
        () if spec.roi.is_some() && !of_scanimage => "--roi is for ScanImage's TIFF files",
        () if spec.orientation.is_some() && !is_nwb => "--orientation is for NWB files",
        () => return Ok(()),
    };
    Err(file_error(first_path(spec), format!("{cause}, but this is another format; leave it out")))
}

/// The file, if the recording is a session.
pub fn session_of(spec: &RecordingSpec) -> Option<&Path> {
    single_path(spec).filter(|path| spec.raw.is_none() && is_session(path))
}

/// The files of a recording, in order: to check whether it has changed.
///
/// # Errors
/// As [`open_recording`], as far as possible without opening a file.
pub fn files_of(spec: &RecordingSpec) -> Result<Vec<PathBuf>, SourceError> {
    if let Some(path) = single_path(spec) {
        if spec.raw.is_some() {
            return Ok(vec![path.into()]);
        }
        if is_session(path) {
            return Ok(vec![path.into()]);
        }
        if is_thorimage(path) {
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
            return listed(folder, |p| is_tiff(p) || matches!(extension(p).as_str(), "xml" | "raw"));
        }
        if scanbox::is_scanbox(path) {
            return Ok(scanbox::files(path).into());
        }
        if let Some(xml) = bruker::xml_of(path)? {
            let folder = xml.parent().unwrap_or(Path::new("."));
            return listed(folder, |p| is_tiff(p) || extension(p) == "xml");
        }
    }
    if let Some(channels) = nwb_channels(spec)? {
        return Ok(channels.into_iter().map(|path| nwb::split(path).0).collect());
    }
    spec.channels.iter().map(|paths| tiff_files(paths)).collect::<Result<Vec<_>, _>>().map(|files| files.concat())
}

/// When a voltage recording of PrairieView began, s on the clock of the frames of its recording.
///
/// # Errors
/// Another kind of recording, or one that does not name the file.
pub fn voltage_begins_s(spec: &RecordingSpec, data: &Path) -> Result<f64, SourceError> {
    bruker::voltage_begins_s(first_path(spec), data)
}

/// The chosen series, where a file holds more than one recording.
pub fn series_of(spec: &RecordingSpec) -> Vec<String> {
    spec.channels.iter().flatten().filter(|path| nwb::is_nwb(path)).filter_map(|path| nwb::split(path).1).collect()
}

/// The series of an NWB recording, one per channel; `None` for another kind of recording.
fn nwb_channels(spec: &RecordingSpec) -> Result<Option<Vec<&Path>>, SourceError> {
    let mut all = spec.channels.iter().flatten();
    if !all.any(|path| nwb::is_nwb(path)) {
        return Ok(None);
    }
    spec.channels.iter().map(|paths| only_nwb(paths)).collect::<Result<_, _>>().map(Some)
}

fn only_nwb(paths: &[PathBuf]) -> Result<&Path, SourceError> {
    match paths {
        [path] if nwb::is_nwb(path) => Ok(path),
        [path] => Err(file_error(path, "is not an NWB file, but the other channel is: both must be")),
        _ => {
            let first = paths.first().map_or(Path::new("recording"), PathBuf::as_path);
            let cause = format!("{} paths for one channel; an NWB file is a complete recording: give one", paths.len());
            Err(file_error(first, cause))
        }
    }
}

fn open_raw(path: &Path, layout: RawLayout, spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    if spec.plane.is_some() {
        return Err(file_error(path, "a raw layout has no planes; leave out the plane"));
    }
    Ok(Box::new(RawSource::open(path, layout, spec.rate_hz, spec.source)?))
}

fn open_session(path: &Path, spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    if spec.plane.is_some() {
        return Err(file_error(path, "a session contains the planes that were decoded; leave out the plane"));
    }
    Ok(Box::new(McapSource::open(path, spec.rate_hz)?))
}

fn single_path(spec: &RecordingSpec) -> Option<&Path> {
    match spec.channels.as_slice() {
        [one] if one.len() == 1 => Some(&one[0]),
        _ => None,
    }
}

fn first_path(spec: &RecordingSpec) -> &Path {
    spec.channels.iter().flatten().next().map_or(Path::new("recording"), PathBuf::as_path)
}

/// Neither TIFF nor NWB nor a raw file.
fn is_other(path: &Path) -> bool {
    is_session(path) || is_thorimage(path) || scanbox::is_scanbox(path)
}

fn is_thorimage(path: &Path) -> bool {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let beside = folder.is_some_and(|f| f.join("Experiment.xml").is_file());
    let name = path.file_name().unwrap_or_default();
    beside && (path.is_dir() || name == "Experiment.xml" || extension(path) == "raw")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_says_what_can() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("movie.avi");
        std::fs::write(&file, b"RIFF").unwrap();
        let source: Name = "rig".parse().unwrap();
        let error = |spec: &RecordingSpec| open_recording(spec).err().unwrap().to_string();
        assert!(error(&RecordingSpec::new(&file, source)).contains(".tif"));
        assert!(error(&RecordingSpec::new(dir.path(), source)).contains("Experiment.xml"));
        assert!(error(&RecordingSpec::new(dir.path().join("*.tif"), source)).contains("pattern"));
        assert!(error(&RecordingSpec::new(dir.path().join("no.tif"), source)).contains("no such file"));
        let told = RecordingSpec { rate_hz: Some(-1.0), ..RecordingSpec::new(&file, source) };
        assert!(error(&told).contains("-1 Hz"));
    }
}
