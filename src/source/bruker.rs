//! Bruker's PrairieView: a folder of OME-TIFFs and the XML (`PVScan`) that says which page of which file is which frame.
//!
//! Why it exists: PrairieView writes a file for each page, or one for each channel, in cycles that are volumes or times, and only its XML
//! tells them apart and knows the times. What it must never do: read a page that the XML does not name, or take the file's name for it.
//!
//! A `Sequence` is a cycle, a `Frame` of it a plane ("TSeries ZSeries Element") or a time (any other TSeries), and a `File` of that one
//! channel; `page` counts from 1 in a file of many pages (PrairieView 5.8; roiextractors#230). Times are `absoluteTime`, s. Where z-series run back
//! and forth (`bidirectionalZ`), every second cycle lists its planes the other way round (as the Clandinin lab's brukerbridge reads them); the z
//! positions of the frames, where they are there, say it better than the cycle's number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use quick_xml::events::BytesStart;

use super::about::{About, file_name};
use super::axes::Asked;
use super::recording::{Axis, choose_plane, extension, file_error};
use super::tiff::TiffSource;
use super::xml::{elements, value_of};
use super::{Source, SourceError};
use crate::frame::Name;
use crate::sys::files::{Bound, read_bounded};
use crate::sys::statistics::median;

/// What decides.
const BY: &str = "PrairieView's XML";
/// The largest XML: a million frames of half a KiB.
const XML: Bound = Bound::new("an XML of PrairieView", 1 << 30);
/// Bytes in which the XML says what it is.
const HEAD_BYTES: usize = 4096;

/// One cycle.
#[derive(Debug, Default)]
struct Cycle {
    is_volume: bool,
    /// Its planes run back and forth from cycle to cycle.
    to_and_fro: bool,
    frames: Vec<Moment>,
}

/// One plane at one time.
#[derive(Debug, Default)]
struct Moment {
    time_s: Option<f64>,
    /// Positions of all focusing devices, summed up, µm.
    z_um: Option<f64>,
    /// File and page of each channel.
    files: BTreeMap<usize, (String, usize)>,
}

/// The XML.
#[derive(Debug, Default)]
struct Scan {
    cycles: Vec<Cycle>,
    names: BTreeMap<usize, String>,
    odd: Option<String>,
    /// The data file and the begin, s, of every voltage recording.
    voltages: Vec<(String, f64)>,
    /// The value that is being read is a z position of a frame.
    in_position: bool,
    in_z: bool,
}

impl Scan {
    /// Planes of a volume, 1 without volumes.
    ///
    /// # Errors
    /// Cycles that are volumes beside others that are not.
    fn planes(&self) -> Result<usize, String> {
        let volumes = self.cycles.iter().filter(|cycle| cycle.is_volume).count();
        match volumes {
            0 => Ok(1),
            _ if self.cycles.len() == 1 => Ok(1),
            all if all == self.cycles.len() => Ok(self.cycles[0].frames.len()),
            _ => Err(format!(
                "has {volumes} cycles that are z-series and {} that are not: they are not one recording; export one kind of them by itself",
                self.cycles.len() - volumes
            )),
        }
    }

    /// The frames in the order of their times, and within a volume of their planes, with how many cycles were turned round. A cycle of another number
    /// of planes ends them: what follows it would be of other planes.
    fn frames(&self, planes: usize) -> (Vec<&Moment>, usize) {
        if planes == 1 {
            return (self.cycles.iter().flat_map(|cycle| &cycle.frames).collect(), 0);
        }
        let (mut frames, mut turned) = (Vec::new(), 0);
        for (at, cycle) in self.cycles.iter().enumerate().take_while(|(_, cycle)| cycle.frames.len() == planes) {
            if is_turned(at, cycle, &self.cycles[0]) {
                turned += 1;
                frames.extend(cycle.frames.iter().rev());
            } else {
                frames.extend(&cycle.frames);
            }
        }
        (frames, turned)
    }
}

/// Does a cycle list its planes in the opposite order of the first one? By the z positions of both, or by its number.
fn is_turned(at: usize, cycle: &Cycle, first: &Cycle) -> bool {
    let positions = |cycle: &Cycle| cycle.frames.iter().map(|frame| frame.z_um).collect::<Option<Vec<f64>>>();
    let distance =
        |a: &[f64], b: &mut dyn Iterator<Item = &f64>| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>();
    match positions(cycle).zip(positions(first)) {
        Some((own, of_first)) if of_first.iter().any(|z| (z - of_first[0]).abs() > 1e-6) => {
            distance(&of_first, &mut own.iter().rev()) < distance(&of_first, &mut own.iter())
        }
        _ => cycle.to_and_fro && at % 2 == 1,
    }
}

/// The XML of a PrairieView folder; `None` for another folder.
///
/// # Errors
/// Several recordings in one folder.
pub(super) fn xml_of(path: &Path) -> Result<Option<PathBuf>, SourceError> {
    if path.is_file() {
        return Ok((extension(path) == "xml" && is_scan(path)).then(|| path.to_path_buf()));
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(None) };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut all: Vec<PathBuf> = files.filter(|path| extension(path) == "xml" && is_scan(path)).collect();
    all.sort();
    match all.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => {
            let cause =
                format!("contains {} recordings of PrairieView; name the XML of one, e.g. {first:?}", all.len());
            Err(file_error(path, cause))
        }
    }
}

fn is_scan(path: &Path) -> bool {
    use std::io::Read;
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && String::from_utf8_lossy(&head).contains("<PVScan")
}

/// Opens the recording of an XML.
///
/// # Errors
/// What the XML lacks, a plane that does not exist, or files that are missing from the first frame on.
pub(super) fn open(
    xml: &Path,
    rate_hz: Option<f64>,
    asked: &Asked,
    source: Name,
) -> Result<Box<dyn Source>, SourceError> {
    let fail = |cause: String| file_error(xml, cause);
    let text = read_bounded(xml, XML).map_err(|error| fail(error.cause.to_string()))?;
    let scan = parse(&String::from_utf8_lossy(&text)).map_err(fail)?;
    let planes = scan.planes().map_err(fail)?;
    let listed: usize = scan.cycles.iter().map(|cycle| cycle.frames.len()).sum();
    let (frames, turned) = scan.frames(planes);
    let folder = xml.parent().unwrap_or(Path::new("."));
    let mut files = Shelf::new(folder);
    let channels: Vec<usize> = scan.names.keys().copied().collect();
    let is_whole = |frame: &&&Moment, files: &mut Shelf| {
        channels.iter().all(|c| frame.files.get(c).is_some_and(|one| files.holds(one)))
    };
    let whole = frames.iter().take_while(|frame| is_whole(frame, &mut files)).count();
    let times = whole / planes;
    let mut about = About::default();
    if times * planes < listed {
        let text = format!(
            "it names {listed} frames in {} channel(s), of which the first {} are whole: the rest is missing{}",
            channels.len(),
            times * planes,
            match &files.missing {
                Some(name) => format!(
                    " ({name}; if the folder still holds RAWDATA files, convert them with PrairieView's Image-Block Ripping Utility)"
                ),
                None => ", or of cycles with another number of planes".to_owned(),
            }
        );
        if times == 0 || asked.strict {
            return Err(fail(text));
        }
        about.warn(text);
    }
    let walk = choose_plane(Axis::new(planes, 1), Axis::new(times, planes), asked.plane).map_err(fail)?;
    let chosen: Vec<&Moment> = (0..walk.count).map(|n| frames[walk.first + n * walk.step]).collect();
    let places =
        chosen.iter().flat_map(|frame| channels.iter().filter_map(|c| files.place(frame.files.get(c)?))).collect();
    let times_ns: Option<Vec<i64>> =
        chosen.iter().map(|frame| frame.time_s.map(|s| (s * 1e9).round() as i64)).collect();
    let own = own_rate_hz(times_ns.as_deref().unwrap_or_default(), turned > 0);
    about.by(BY, planes, times, asked.plane);
    if turned > 0 {
        about.fact("volumes_reversed", turned, "PrairieView's XML: z positions, bidirectionalZ");
    }
    about.fact("channels", channels.len(), BY);
    about.fact("channel_names", scan.names.values().cloned().collect::<Vec<_>>(), BY);
    about.maybe(
        "rate_hz",
        rate_hz.or(own),
        if rate_hz.is_some() { "the given rate" } else { "the times in PrairieView's XML" },
    );
    let (rate, asked) = ((rate_hz.or(own), about), (asked, source));
    let opened = TiffSource::open_places(files.paths, channels.len(), places, times_ns, rate, asked)?;
    Ok(Box::new(opened))
}

/// Frames per second by their times: the usual step, or, where the steps alternate because the planes run back and forth, the mean.
fn own_rate_hz(times_ns: &[i64], alternate: bool) -> Option<f64> {
    if let ([first, .., last], true) = (times_ns, alternate) {
        let (steps, span) = ((times_ns.len() - 1) as f64, last.checked_sub(*first).filter(|span| *span > 0)?);
        return Some(1e9 * steps / span as f64);
    }
    let steps = times_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let mut steps: Vec<i64> = steps.filter(|step| *step > 0).collect();
    median(&mut steps, i64::cmp).map(|ns| 1e9 / ns as f64)
}

/// The files that the XML names.
struct Shelf {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    /// Place in `paths` and pages of each name.
    known: HashMap<String, Option<(usize, usize)>>,
    /// The first that is missing.
    missing: Option<String>,
}

impl Shelf {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), paths: Vec::new(), known: HashMap::new(), missing: None }
    }

    /// Is this page there?
    fn holds(&mut self, (name, page): &(String, usize)) -> bool {
        if !self.known.contains_key(name) {
            // A name is a file of this folder, never a path out of it.
            let plain = Path::new(name).file_name().is_some_and(|own| own == name.as_str());
            let path = self.folder.join(name);
            let pages = if plain { TiffSource::pages_of(&path) } else { None };
            let found = pages.map(|pages| (self.paths.len(), pages));
            if found.is_some() {
                self.paths.push(path);
            }
            self.known.insert(name.clone(), found);
        }
        let there = self.known.get(name).copied().flatten().is_some_and(|(_, pages)| *page < pages);
        if !there {
            self.missing.get_or_insert_with(|| name.clone());
        }
        there
    }

    fn place(&self, (name, page): &(String, usize)) -> Option<(usize, usize)> {
        self.known.get(name).copied().flatten().map(|(file, _)| (file, *page))
    }
}

/// When a voltage recording of this folder or XML began, s on the clock of its frames.
///
/// # Errors
/// Another kind of recording, or one whose XML does not name that file.
pub(super) fn voltage_begins_s(recording: &Path, data: &Path) -> Result<f64, SourceError> {
    let Some(xml) = xml_of(recording)? else {
        return Err(file_error(recording, "is not a recording of PrairieView, to which a voltage recording belongs"));
    };
    let fail = |cause: String| file_error(&xml, cause);
    let text = read_bounded(&xml, XML).map_err(|error| fail(error.cause.to_string()))?;
    let scan = parse(&String::from_utf8_lossy(&text)).map_err(fail)?;
    let wanted = file_name(data);
    let begins = scan.voltages.iter().find(|(name, _)| *name == wanted).map(|(_, begin)| *begin);
    let names = || scan.voltages.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    begins.ok_or_else(|| fail(format!("names no voltage recording {wanted:?}; it names: {}", names())))
}

fn parse(xml: &str) -> Result<Scan, String> {
    let mut scan = Scan::default();
    elements(xml, |element| take(element, &mut scan).map(ControlFlow::Continue))?;
    if let Some(odd) = scan.odd {
        return Err(format!("describes a {odd}, which has no frames; a TSeries is read"));
    }
    scan.cycles.retain(|cycle| !cycle.frames.is_empty());
    let of_first = scan.cycles.first().and_then(|cycle| cycle.frames.first());
    let first: BTreeSet<usize> = of_first.map(|frame| frame.files.keys().copied().collect()).unwrap_or_default();
    if first.is_empty() {
        return Err("names no frame: was the recording finished, and is this its XML?".to_owned());
    }
    scan.names.retain(|channel, _| first.contains(channel));
    Ok(scan)
}

fn take(element: &BytesStart<'_>, scan: &mut Scan) -> Result<(), String> {
    let text = |key: &str| value_of(element, key);
    let last = scan.cycles.last_mut();
    match element.local_name().as_ref() {
        "Sequence" => {
            let kind = text("type")?.unwrap_or_default();
            if kind.to_lowercase().contains("linescan") || kind.to_lowercase().contains("point") {
                scan.odd = Some(kind.clone());
            }
            let to_and_fro = text("bidirectionalZ")?.is_some_and(|on| on.eq_ignore_ascii_case("true"));
            scan.cycles.push(Cycle { is_volume: kind.contains("ZSeries"), to_and_fro, frames: Vec::new() });
        }
        "VoltageRecording" => {
            let begin = text("absoluteTime")?.and_then(|time| time.trim().parse().ok()).filter(|s: &f64| s.is_finite());
            scan.voltages.extend(text("dataFile")?.map(|name| file_name(Path::new(&name))).zip(begin));
        }
        "PVStateValue" => scan.in_position = text("key")?.as_deref() == Some("positionCurrent"),
        "SubindexedValues" => scan.in_z = scan.in_position && text("index")?.as_deref() == Some("ZAxis"),
        "SubindexedValue" if scan.in_z => {
            let z: Option<f64> = text("value")?.and_then(|z| z.trim().parse().ok()).filter(|z: &f64| z.is_finite());
            if let Some((frame, z)) = last.and_then(|cycle| cycle.frames.last_mut()).zip(z) {
                frame.z_um = Some(frame.z_um.unwrap_or(0.0) + z);
            }
        }
        "Frame" => {
            let time_s = text("absoluteTime")?
                .and_then(|time| time.trim().parse().ok())
                .filter(|s: &f64| s.is_finite() && s.abs() < 9e9);
            if let Some(cycle) = last {
                cycle.frames.push(Moment { time_s, z_um: None, files: BTreeMap::new() });
            }
        }
        "File" => {
            let number = |key: &str| text(key).map(|value| value.and_then(|value| value.trim().parse::<usize>().ok()));
            let (Some(channel), Some(name)) = (number("channel")?, text("filename")?) else { return Ok(()) };
            let page = number("page")?.unwrap_or(1).saturating_sub(1);
            let named = text("channelName")?.unwrap_or_else(|| format!("Ch{channel}"));
            scan.names.entry(channel).or_insert(named);
            if let Some(frame) = last.and_then(|cycle| cycle.frames.last_mut()) {
                frame.files.insert(channel, (file_name(Path::new(&name)), page));
            }
        }
        _ => {}
    }
    Ok(())
}
