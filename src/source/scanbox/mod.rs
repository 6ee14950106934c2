//! Scanbox recordings: `NAME.sbx`, raw and inverted, and `NAME.mat`, which describes it.
//!
//! Why it exists: Scanbox runs many two-photon rigs and writes no TIFF. What it must never do: guess a geometry that the `.mat` does not
//! give, or hand on inverted pixels.
//!
//! By the public reader of Scanbox (`sbxread.m`) and that of CaImAn (`sbx_utils.py`): u16, little-endian, 65535 − value; the channel varies
//! fastest, then columns, rows, planes of the tunable lens, times. `recordsPerBuffer` is the number of rows of a frame, half of it where lines run
//! both ways (`scanmode` 0); `channels` is 1 for both, 2 or 3 for one; newer versions have `chan.nchan`.

mod matlab;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use self::matlab::Numbers;
use super::axes::Asked;
use super::recording::{Axis, Stamper, Walk, choose_plane, extension, file_error};
use super::{About, Next, Source, SourceError};
use crate::frame::{Frame, Name, PixelType, SIDE_PX_MAX, Shape};
use crate::sys::files::{Bound, read_bounded};

/// What decides.
const BY: &str = "Scanbox's .mat";
/// Bytes that are read and turned upright at once.
const PART_BYTES: usize = 1 << 16;
/// The largest .mat: real ones have some kB, with all their events.
const MAT: Bound = Bound::new("a .mat of Scanbox", 256 << 20);

/// Is it a recording of Scanbox with its description beside it?
pub(super) fn is_scanbox(path: &Path) -> bool {
    extension(path) == "sbx" && path.is_file() && path.with_extension("mat").is_file()
}

/// Its files.
pub(super) fn files(path: &Path) -> [PathBuf; 2] {
    [path.to_path_buf(), path.with_extension("mat")]
}

/// What the .mat says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scan {
    rows: usize,
    columns: usize,
    channels: usize,
    planes: usize,
    /// Frames of one plane per second.
    rate_hz: Option<f64>,
}

impl Scan {
    fn of(numbers: &Numbers) -> Result<Self, String> {
        let list = |key: &str| numbers.get(&format!("info.{key}")).map_or(&[][..], Vec::as_slice);
        let number = |key: &str| list(key).first().copied();
        let count = |key: &str| number(key).filter(|n| n.fract() == 0.0 && (1.0..=1e6).contains(n)).map(|n| n as usize);
        let both_ways = number("scanmode") == Some(0.0);
        let records = count("recordsPerBuffer").map(|n| if both_ways { 2 * n } else { n });
        let [of_rows, columns] = match list("sz") {
            [rows, columns] => [*rows as usize, *columns as usize],
            _ => return Err("has no info.sz (rows, columns): is it the .mat that Scanbox wrote?".to_owned()),
        };
        let rows = records.unwrap_or(of_rows);
        if rows != of_rows {
            return Err(format!(
                "says {of_rows} rows (info.sz), but {rows} rows in a frame (info.recordsPerBuffer, info.scanmode); give the layout yourself with \
                 --raw"
            ));
        }
        if [rows, columns].iter().any(|side| !(1..=SIDE_PX_MAX).contains(side)) {
            return Err(format!("says {rows}×{columns} px; sides of 1 to {SIDE_PX_MAX} px are supported"));
        }
        let channels = match (count("chan.nchan"), number("channels").map(|n| n as i64)) {
            (Some(count), _) => count,
            (None, Some(1)) => 2,
            (None, Some(2 | 3)) => 1,
            (None, other) => return Err(format!("says channels = {other:?}; 1 (both), 2 or 3 (one) are known")),
        };
        let tuned = number("volscan").is_some_and(|on| on > 0.0);
        let wave = list("otwave").len();
        let planes = match (tuned, wave, list("otparam").get(2)) {
            (true, 1.., _) => wave,
            (true, 0, Some(planes)) if *planes >= 1.0 => *planes as usize,
            _ => 1,
        };
        let lines_hz = number("resfreq").filter(|hz| hz.is_finite() && *hz > 0.0);
        let lines_hz = lines_hz.map(|hz| if both_ways { 2.0 * hz } else { hz });
        let rate_hz = lines_hz.map(|hz| hz / rows as f64 / planes as f64);
        Ok(Self { rows, columns, channels, planes, rate_hz })
    }
}

/// The frames of one plane.
struct Scanbox {
    file: File,
    path: PathBuf,
    scan: Scan,
    walk: Walk,
    stamper: Stamper,
    about: About,
    payload: Vec<u8>,
    next: usize,
}

/// Opens a recording.
///
/// # Errors
/// A .mat that cannot be read or contradicts itself, a file without a whole frame, or a plane that does not exist.
pub(super) fn open(
    path: &Path,
    rate_hz: Option<f64>,
    asked: &Asked,
    source: Name,
) -> Result<Box<dyn Source>, SourceError> {
    let mat = path.with_extension("mat");
    let bytes = read_bounded(&mat, MAT).map_err(|e| file_error(&mat, e.cause.to_string()))?;
    let scan = matlab::numbers(&bytes).and_then(|all| Scan::of(&all)).map_err(|cause| file_error(&mat, cause))?;
    let fail = |cause: String| file_error(path, cause);
    if scan.channels > asked.channels_max() {
        return Err(fail(format!("has {} channels; choose them with --channels, e.g. --channels 0,1", scan.channels)));
    }
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let length = file.metadata().map_err(|e| fail(e.to_string()))?.len();
    let frame_bytes = 2 * (scan.rows * scan.columns * scan.channels) as u64;
    let (pages, rest) = (length / frame_bytes, length % frame_bytes);
    let times = (pages / scan.planes as u64) as usize;
    if times == 0 {
        let cause =
            format!("is {length} bytes long, less than one time of {} plane(s) of {frame_bytes} bytes", scan.planes);
        return Err(fail(cause));
    }
    let mut about = About::default();
    let left_over = pages - (times * scan.planes) as u64;
    if rest > 0 || left_over > 0 {
        let text = format!(
            "the file ends within time {times}: {left_over} whole plane(s) and {rest} bytes are left out; it was cut off, or the run was aborted"
        );
        if asked.strict {
            return Err(fail(format!("{text}; --strict refuses that")));
        }
        about.warn(text);
    }
    let walk = choose_plane(Axis::new(scan.planes, 1), Axis::new(times, scan.planes), asked.plane).map_err(fail)?;
    about.by(BY, scan.planes, times, asked.plane);
    about.fact("channels", scan.channels, BY);
    about.fact("inverted", true, "Scanbox writes 65535 − value; values are shown upright");
    let by = if rate_hz.is_some() { "the given rate" } else { "Scanbox's .mat: resfreq, scanmode, rows and planes" };
    let rate_hz = rate_hz.or(scan.rate_hz);
    about.maybe("rate_hz", rate_hz, by);
    let shape = Shape::new(scan.channels, scan.rows, scan.columns);
    let stamper = Stamper { source, rate_hz, shape, pixel_type: PixelType::U16 };
    let payload = vec![0; frame_bytes as usize];
    Ok(Box::new(Scanbox { file, path: path.into(), scan, walk, stamper, about, payload, next: 0 }))
}

impl Source for Scanbox {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.walk.count {
            return Ok(Next::End);
        }
        self.stamper.stamp(self.next as u64, &self.path, into)?;
        let page = (self.walk.first + self.next * self.walk.step) as u64;
        let at = page * self.payload.len() as u64;
        let channels = self.scan.channels;
        let into = into.bytes_mut();
        let unreadable = |e| file_error(&self.path, format!("frame {} cannot be read: {e}", self.next));
        let upright = |from: [u8; 2]| (u16::MAX - u16::from_le_bytes(from)).to_ne_bytes();
        if channels == 1 {
            // A single channel is turned upright where it lies, part by part, while the part is in the cache.
            for (n, part) in into.chunks_mut(PART_BYTES).enumerate() {
                self.file.read_exact_at(part, at + (n * PART_BYTES) as u64).map_err(unreadable)?;
                part.as_chunks_mut::<2>().0.iter_mut().for_each(|pixel| *pixel = upright(*pixel));
            }
        } else {
            self.file.read_exact_at(&mut self.payload, at).map_err(unreadable)?;
            for (channel, slot) in into.chunks_exact_mut(self.payload.len() / channels).enumerate() {
                let held = self.payload.as_chunks::<2>().0.iter().skip(channel).step_by(channels);
                slot.as_chunks_mut::<2>().0.iter_mut().zip(held).for_each(|(to, from)| *to = upright(*from));
            }
        }
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.payload.len()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.walk.count as u64)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.stamper.rate_hz
    }

    fn about(&self) -> About {
        self.about.clone()
    }
}
