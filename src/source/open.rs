//! Opens a recording with the reader for its path.
//!
//! Why it exists: one place knows which reader opens which file. What it must never do: try readers until one does not fail.

use std::path::{Path, PathBuf};

use crate::frame::Name;
use crate::session::is_session;

use super::mcap::McapSource;
use super::nwb::{self, NwbSource};
use super::raw::{RawLayout, RawSource};
use super::recording::{file_error, natural_order};
use super::tiff::TiffSource;
use super::{Source, SourceError, thorimage};

/// Readable formats, for messages.
const READABLE: &str = "readable formats: .tif/.tiff files, a folder of them, a pattern such as 'run_*.tif'; a recorded session (.mcap); an NWB file (one of \
    several series: FILE.nwb#NAME); a ThorImage folder (with Experiment.xml) or a .raw file in it; any raw file if you give its layout (--raw uint16:512x512)";

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
    /// Name of the rig in the frames.
    pub source: Name,
}

impl RecordingSpec {
    /// A recording at one path, everything else from its metadata.
    pub fn new(path: impl Into<PathBuf>, source: Name) -> Self {
        Self { channels: vec![vec![path.into()]], raw: None, rate_hz: None, plane: None, source }
    }
}

/// Opens a recording.
///
/// # Errors
/// What is wrong with the path or the file, and which formats are readable.
pub fn open_recording(spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    if let Some(rate) = spec.rate_hz.filter(|r| !(r.is_finite() && *r > 0.0)) {
        return Err(file_error(first_path(spec), format!("the given frame rate is {rate} Hz; it must be positive")));
    }
    if let Some(path) = single_path(spec) {
        if let Some(layout) = spec.raw {
            return open_raw(path, layout, spec);
        }
        if is_session(path) {
            return open_session(path, spec);
        }
        if is_thorimage(path) {
            return thorimage::open(path, spec.rate_hz, spec.plane, spec.source);
        }
    } else if spec.raw.is_some() {
        return Err(file_error(first_path(spec), "a raw layout describes a single file; give one file"));
    }
    if let Some(channels) = nwb_channels(spec)? {
        return Ok(Box::new(NwbSource::open(&channels, spec.rate_hz, spec.plane, spec.source)?));
    }
    let channels: Result<Vec<_>, _> = spec.channels.iter().map(|paths| tiff_files(paths)).collect();
    Ok(Box::new(TiffSource::open(channels?, spec.rate_hz, spec.plane, spec.source)?))
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
    }
    if let Some(channels) = nwb_channels(spec)? {
        return Ok(channels.into_iter().map(|path| nwb::split(path).0).collect());
    }
    spec.channels.iter().map(|paths| tiff_files(paths)).collect::<Result<Vec<_>, _>>().map(|files| files.concat())
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

fn is_thorimage(path: &Path) -> bool {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let beside = folder.is_some_and(|f| f.join("Experiment.xml").is_file());
    let name = path.file_name().unwrap_or_default();
    beside && (path.is_dir() || name == "Experiment.xml" || extension(path) == "raw")
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn is_tiff(path: &Path) -> bool {
    matches!(extension(path).as_str(), "tif" | "tiff" | "btf" | "tf8")
}

/// Replaces folders and patterns by their files.
fn tiff_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(listed(path, is_tiff)?);
        } else if path.is_file() && is_tiff(path) {
            files.push(path.clone());
        } else if path.is_file() {
            return Err(file_error(path, format!("no reader for this type of file; {READABLE}")));
        } else {
            files.extend(matching(path)?);
        }
    }
    Ok(files)
}

/// Files of a folder that satisfy `wanted`, in natural order; at least one.
fn listed(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, SourceError> {
    let entries = std::fs::read_dir(folder).map_err(|e| file_error(folder, e.to_string()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file() && wanted(p)).collect();
    files.sort_by(|a, b| natural_order(a, b));
    if files.is_empty() {
        return Err(file_error(folder, format!("contains no readable file; {READABLE}")));
    }
    Ok(files)
}

/// Files whose name matches the last part of `path`, if that is a pattern.
fn matching(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let pattern = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !pattern.contains(['*', '?']) {
        return Err(file_error(path, "no such file or folder"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fits = |p: &Path| is_tiff(p) && p.file_name().is_some_and(|n| like(&pattern, &n.to_string_lossy()));
    listed(folder, fits).map_err(|_| file_error(path, format!("no file matches this pattern; {READABLE}")))
}

/// `*` stands for any text, `?` for one byte.
fn like(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|n| fits(rest, &name[n..])),
            ([b'?', p @ ..], [_, n @ ..]) => fits(p, n),
            ([a, p @ ..], [b, n @ ..]) if a == b => fits(p, n),
            _ => false,
        }
    }
    fits(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("run_*.tif", "run_001.tif", true),
            ("run_*.tif", "run_.tif", true),
            ("run_?.tif", "run_10.tif", false),
            ("*", "a.tif", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b", "a", false),
        ] {
            assert_eq!(like(pattern, name), fits, "{pattern} {name}");
        }
    }

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
