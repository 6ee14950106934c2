//! TIFF recordings: classic and BigTIFF, ImageJ, OME, tifffile and ScanImage stacks, one file or many, one channel per file or both.
//!
//! Why it exists: every lab has TIFF. Pages are read one by one, so a recording may be larger than memory. What it must never do:
//! skip an unreadable page (the error names the damaged file and the page), or decide which page is which (that is `axes`).

mod directory;
mod file;
mod ome;
mod page_metadata;
mod texts;
mod time_units;

use std::path::{Path, PathBuf};

use crate::frame::{CHANNELS_MAX, Clock, DeviceTime, Frame, Name, PixelType, Shape, Stamp};

use self::file::{Files, TiffFile};
use super::about::{About, file_name};
use super::axes::{Asked, Place, Plan, SAY_AXES};
use super::axes_decision::decide;
use super::recording::{Stamper, file_error};
use super::{Next, Source, SourceError};

/// Frames of one or several TIFF files.
pub struct TiffSource {
    /// One stack per channel; a single stack may hold both channels.
    stacks: Vec<Stack>,
    stamper: Stamper,
    about: About,
    next: usize,
    total: usize,
}

impl TiffSource {
    /// Opens a recording: for each channel its files in temporal order.
    ///
    /// `rate_hz` overrides the rate in the file.
    ///
    /// # Errors
    /// Files that cannot be read, contradict themselves or each other, or do not match.
    pub(super) fn open(
        channels: Vec<Vec<PathBuf>>,
        rate_hz: Option<f64>,
        asked: &Asked,
        source: Name,
    ) -> Result<Self, SourceError> {
        let stacks: Result<Vec<Stack>, SourceError> =
            channels.into_iter().map(|files| Stack::open(files, asked, true)).collect();
        Self::join(stacks?, rate_hz, asked, source)
    }

    /// As [`TiffSource::open`], for files of one page each, whose descriptions cover other files too.
    pub(super) fn open_pages(
        channels: Vec<Vec<PathBuf>>,
        rate_hz: Option<f64>,
        asked: &Asked,
        source: Name,
    ) -> Result<Self, SourceError> {
        let asked = Asked { plane: None, axes: None, ..*asked };
        let stacks: Result<Vec<Stack>, SourceError> =
            channels.into_iter().map(|files| Stack::open(files, &asked, false)).collect();
        Self::join(stacks?, rate_hz, &asked, source)
    }

    /// For a recording of which another text says where every page is: `places` (file, page) of every channel of every frame.
    pub(super) fn open_places(
        paths: Vec<PathBuf>,
        channels: usize,
        places: Vec<(usize, usize)>,
        times_ns: Option<Vec<i64>>,
        (rate_hz, about): (Option<f64>, About),
        (asked, source): (&Asked, Name),
    ) -> Result<Self, SourceError> {
        let Some(first) = paths.first() else { return Err(file_error(Path::new("recording"), "no file was given")) };
        let file = TiffFile::open(first, &Asked::default(), false).map_err(|cause| file_error(first, cause))?.file;
        let (side, pixel_type) = (file.side(), file.pixel_type());
        if channels > asked.channels_max() {
            let cause = format!(
                "has {channels} channels; at most {CHANNELS_MAX} are read: choose them with --channels, e.g. --channels 0,1"
            );
            return Err(file_error(first, cause));
        }
        let places = places.iter().map(|(file, page)| Place { file: *file as u32, page: *page as u32 }).collect();
        let plan = Plan { channels, places, rate_hz, about: about.clone() };
        let total = plan.frames();
        let stamper = Stamper { source, rate_hz, shape: Shape::new(channels, side[0], side[1]), pixel_type };
        let stack = Stack { files: Files::new(paths, &Asked::default()), plan, side, pixel_type, times_ns };
        Ok(Self { stacks: vec![stack], stamper, about, next: 0, total })
    }

    /// Whole pages of a file; `None` where it cannot be read.
    pub(super) fn pages_of(path: &Path) -> Option<usize> {
        TiffFile::open(path, &Asked::default(), false).ok().map(|opened| opened.seen.pages)
    }

    /// What is known, to be completed by who knows more.
    pub(super) fn about_mut(&mut self) -> &mut About {
        &mut self.about
    }

    fn join(stacks: Vec<Stack>, rate_hz: Option<f64>, asked: &Asked, source: Name) -> Result<Self, SourceError> {
        let Some(first) = stacks.first() else {
            return Err(file_error(Path::new("recording"), "no file was given"));
        };
        let mut about = first.plan.about.clone();
        let (side, pixel_type) = (first.side, first.pixel_type);
        for other in &stacks[1..] {
            about.warnings.extend(other.plan.about.warnings.iter().cloned());
            // An acquisition that is stopped between two channels leaves one of them a frame longer.
            let fits = other.total().abs_diff(first.total()) <= 1 || !about.warnings.is_empty();
            if (other.side, other.pixel_type) != (side, pixel_type) || !fits {
                let cause = format!(
                    "channels must match: this one has {}, {} has {}",
                    other.describe(),
                    first.path().display(),
                    first.describe()
                );
                return Err(file_error(other.path(), cause));
            }
        }
        let total = stacks.iter().map(Stack::total).min().unwrap_or(0);
        if let Some(longer) = stacks.iter().find(|stack| stack.total() > total) {
            let text = format!(
                "has {} frames, the other channel {total}: what only one channel has is left out",
                longer.total()
            );
            if asked.strict {
                return Err(file_error(longer.path(), format!("{text}; --strict refuses that")));
            }
            about.warn(format!("{} {text}", file_name(longer.path())));
        }
        let channels = stacks.iter().map(|stack| stack.plan.channels).sum();
        if channels > asked.channels_max() {
            let by = about.get("channels").map_or("", |fact| fact.by.as_str());
            let cause = format!(
                "has {channels} channels ({by}); at most {CHANNELS_MAX} are read: choose them with --channels, e.g. --channels 0 or --channels 0,1 \
                 (`use_channels` in a dataset.toml); {SAY_AXES}"
            );
            return Err(file_error(first.path(), cause));
        }
        if let Some(roi) = asked.roi {
            about.fact("roi", roi, "--roi, cut from the page by ScanImage's list of regions");
        }
        if stacks.len() > 1 {
            about.facts.retain(|fact| fact.name != "channels");
            about.fact("channels", channels, "one file or group of files for each");
        }
        let by = if rate_hz.is_some() { "the given rate".to_owned() } else { first.by() };
        let rate_hz = rate_hz.or(first.plan.rate_hz);
        about.maybe("rate_hz", rate_hz, by);
        let stamper = Stamper { source, rate_hz, shape: Shape::new(channels, side[0], side[1]), pixel_type };
        Ok(Self { stacks, stamper, about, next: 0, total })
    }
}

impl Source for TiffSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.total {
            return Ok(Next::End);
        }
        self.stamper.stamp(self.next as u64, self.stacks[0].path(), into)?;
        let mut slot = into.bytes_mut();
        for stack in &mut self.stacks {
            let (own, rest) = slot.split_at_mut(stack.page_bytes() * stack.plan.channels);
            stack.read(self.next, own)?;
            slot = rest;
        }
        // The file's time stamp is better than frame / rate; both channels of a frame share it.
        if let Some(ns) = self.stacks[0].time_ns(self.next)? {
            into.info.t_device = Some(DeviceTime { ns, clock: Clock::Device, stamp: Some(Stamp::Start) });
        }
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.stamper.frame_bytes()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.total as u64)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.stamper.rate_hz
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    fn times_ns(&mut self) -> Result<Vec<i64>, SourceError> {
        let total = self.total;
        let Some(stack) = self.stacks.first_mut() else { return Ok(Vec::new()) };
        (0..total).map_while(|frame| stack.time_ns(frame).transpose()).collect()
    }
}

/// Does a file list the pages of other files too, so that their names need not be understood?
pub(super) fn lists_files(path: &Path) -> bool {
    let opened = TiffFile::open(path, &Asked::default(), true);
    let told = |opened: file::Opened| opened.seen.told.into_iter().next();
    opened
        .ok()
        .and_then(told)
        .and_then(|told| told.listed)
        .is_some_and(|all| all.iter().any(|page| page.file.is_some()))
}

/// Files in temporal order, and where each frame lies in them.
struct Stack {
    files: Files,
    plan: Plan,
    side: [usize; 2],
    pixel_type: PixelType,
    /// Time of every frame, where a text outside the files has them.
    times_ns: Option<Vec<i64>>,
}

impl Stack {
    fn open(paths: Vec<PathBuf>, asked: &Asked, described: bool) -> Result<Self, SourceError> {
        let mut form: Option<([usize; 2], PixelType)> = None;
        let mut seen = Vec::with_capacity(paths.len());
        let mut files = Files::new(paths.clone(), asked);
        let mut signed = false;
        for (index, path) in paths.iter().enumerate() {
            let opened = TiffFile::open(path, asked, described).map_err(|cause| file_error(path, cause))?;
            let own = (opened.file.side(), opened.file.pixel_type());
            let first = *form.get_or_insert(own);
            if own != first {
                let text = |([h, w], kind): ([usize; 2], PixelType)| format!("{h}×{w} {kind}");
                let cause = format!(
                    "has pages of {}, which cannot continue {} with pages of {}: does it belong to this recording?",
                    text(own),
                    paths[0].display(),
                    text(first)
                );
                return Err(file_error(path, cause));
            }
            seen.push(opened.seen);
            signed |= opened.file.is_signed();
            files.keep(index, opened.file);
        }
        let mut plan = decide(&seen, asked).map_err(|(path, cause)| file_error(&path, cause))?;
        if signed {
            plan.about.fact(
                "pixel_offset",
                -32768,
                "the ImageJ description (cf=0, c0=-32768): its values are signed, and were kept unsigned",
            );
        }
        let Some((side, pixel_type)) = form else {
            return Err(file_error(Path::new("recording"), "no file was given"));
        };
        Ok(Self { files, plan, side, pixel_type, times_ns: None })
    }

    fn total(&self) -> usize {
        self.plan.frames()
    }

    fn path(&self) -> &Path {
        self.files.path(0)
    }

    /// What decided the rate.
    fn by(&self) -> String {
        self.plan.about.get("channels").map_or_else(String::new, |fact| fact.by.clone())
    }

    fn page_bytes(&self) -> usize {
        self.side[0] * self.side[1] * self.pixel_type.bytes()
    }

    fn describe(&self) -> String {
        let [height, width] = self.side;
        format!("{} frames of {} channel(s), {height}×{width} {}", self.total(), self.plan.channels, self.pixel_type)
    }

    /// Reads all channels of one frame.
    fn read(&mut self, frame: usize, slot: &mut [u8]) -> Result<(), SourceError> {
        let page_bytes = self.page_bytes();
        for (channel, into) in slot.chunks_exact_mut(page_bytes).enumerate() {
            let place = self.plan.places[frame * self.plan.channels + channel];
            let (side, pixel_type) = (self.side, self.pixel_type);
            let file = self.files.at(place.file as usize)?;
            let read = match (file.side(), file.pixel_type()) {
                own if own == (side, pixel_type) => file.read(place.page as usize, into),
                ([h, w], kind) => {
                    Err(format!("has pages of {h}×{w} {kind}, the first file {}×{} {pixel_type}", side[0], side[1]))
                }
            };
            read.map_err(|cause| file_error(self.files.path(place.file as usize), cause))?;
        }
        Ok(())
    }

    /// Time of a frame by its first page, ns.
    fn time_ns(&mut self, frame: usize) -> Result<Option<i64>, SourceError> {
        if let Some(times) = &self.times_ns {
            return Ok(times.get(frame).copied());
        }
        let place = self.plan.places[frame * self.plan.channels];
        let time_s = self.files.at(place.file as usize)?.time_s(place.page as usize);
        Ok(time_s.map(|time_s| (time_s * 1e9).round() as i64))
    }
}
