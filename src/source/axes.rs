//! What texts and the user say about the axes of a recording, and what was decided: plain values.
//!
//! Why it exists: every format's text becomes the same `Told`, so that `axes_decision` can compare them. What it must never do: decide.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::about::About;

/// The way out of every contradiction.
pub(super) const SAY_AXES: &str = "if you know better, say it: --axes T,C2 (slowest first: pages alternate between two channels), \
    --axes T,Z3,C2 (volumes of three planes), --axes T (every page is a frame); `axes = \"T,C2\"` in a dataset.toml";

/// An axis of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// Channel.
    C,
    /// Plane of a volume.
    Z,
    /// Time.
    T,
}

impl Letter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::C, Self::Z, Self::T];

    /// From its letter, in either case.
    pub(super) fn of(letter: char) -> Option<Self> {
        match letter.to_ascii_uppercase() {
            'C' => Some(Self::C),
            'Z' => Some(Self::Z),
            'T' => Some(Self::T),
            _ => None,
        }
    }
}

/// The axes of the pages as a user states them: `T,Z3,C2`, slowest first. At most one size is left out; it follows from the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedAxes {
    /// Fastest first; an axis that was not written has the size 1.
    pub(super) axes: [(Letter, Option<usize>); 3],
}

const FORM: &str = "write T, C and Z slowest first, each with its size except the one that follows from the number of pages: \
    T,C2 or T,Z3,C2 or C2,T";

impl FromStr for AskedAxes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = |what: String| format!("{text:?}: {what}; {FORM}");
        let mut axes = Vec::new();
        for part in text.split(',').map(str::trim) {
            let mut letters = part.chars();
            let letter = letters.next().and_then(Letter::of).ok_or_else(|| fail(format!("{part:?} is no axis")))?;
            let size = match letters.as_str() {
                "" => None,
                digits => Some(
                    digits
                        .parse()
                        .ok()
                        .filter(|n| (1..=1 << 24).contains(n))
                        .ok_or_else(|| fail(format!("{digits:?} is not a size")))?,
                ),
            };
            if axes.iter().any(|(other, _)| *other == letter) {
                return Err(fail(format!("{letter:?} stands twice")));
            }
            axes.push((letter, size));
        }
        if axes.iter().filter(|(_, size)| size.is_none()).count() > 1 {
            return Err(fail("more than one size is left out".to_owned()));
        }
        axes.reverse();
        let missing: Vec<Letter> = Letter::ALL.into_iter().filter(|l| axes.iter().all(|(own, _)| own != l)).collect();
        axes.extend(missing.into_iter().map(|letter| (letter, Some(1))));
        let axes = axes.try_into().map_err(|_| fail("has too many axes".to_owned()))?;
        Ok(Self { axes })
    }
}

impl fmt::Display for AskedAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self
            .axes
            .iter()
            .rev()
            .filter(|(_, size)| *size != Some(1))
            .map(|(letter, size)| format!("{letter:?}{}", size.map(|n| n.to_string()).unwrap_or_default()));
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

/// What the user says about a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub axes: Option<AskedAxes>,
    pub plane: Option<u64>,
    /// Which of several regions in a frame (ScanImage's mROI), counted from 0.
    pub roi: Option<usize>,
    /// Channels are chosen among those of the recording, so that it may have more than a model can read.
    pub chooses_channels: bool,
    /// Refuse whatever is incomplete.
    pub strict: bool,
}

impl Asked {
    /// Most channels that a recording may have.
    pub fn channels_max(&self) -> usize {
        if self.chooses_channels { super::chosen::HELD_MAX } else { crate::frame::CHANNELS_MAX }
    }
}

/// What one text says about the order of pages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// Which text, for messages: `the ImageJ description`.
    pub by: &'static str,
    /// Sizes in the order in which they vary, fastest first; no size for the times: as many as there are pages.
    pub axes: [(Letter, Option<usize>); 3],
    /// Pages of one plane, and of one channel, before the next plane: frames of a slice.
    pub repeats: usize,
    /// Pages of each channel at the end of a volume that are not of a plane: flyback.
    pub skipped: usize,
    /// Pages in total, where the text gives that number too.
    pub pages: Option<usize>,
    /// The text describes the whole recording, however many files it has.
    pub whole: bool,
    /// Pages one by one, where the text lists them.
    pub listed: Option<Vec<Listed>>,
    /// Frames (of one plane) per second.
    pub rate_hz: Option<f64>,
    /// Names of the channels, as far as known.
    pub names: Vec<String>,
    /// What the reader of the text must be told.
    pub notes: Vec<String>,
}

/// One page of a list (OME's TiffData).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Channel, plane, time.
    pub at: [usize; 3],
    /// Name of its file; none: the file that holds the text.
    pub file: Option<String>,
    /// Page of that file.
    pub page: usize,
}

impl Told {
    pub fn new(by: &'static str, axes: [(Letter, Option<usize>); 3]) -> Self {
        Self {
            by,
            axes,
            repeats: 1,
            skipped: 0,
            pages: None,
            whole: false,
            listed: None,
            rate_hz: None,
            names: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Size of an axis; 1 for times without number.
    pub fn size(&self, letter: Letter) -> usize {
        self.axes.iter().find(|(own, _)| *own == letter).and_then(|(_, size)| *size).unwrap_or(1)
    }

    pub fn times(&self) -> Option<usize> {
        self.axes.iter().find(|(own, _)| *own == Letter::T).and_then(|(_, size)| *size)
    }

    /// Pages that the sizes need; `None`: more than can be counted.
    pub fn needed(&self) -> Option<usize> {
        let planes = self.size(Letter::Z).checked_mul(self.repeats)?.checked_add(self.skipped)?;
        self.size(Letter::C).checked_mul(planes)?.checked_mul(self.times().unwrap_or(1))
    }

    /// Is the time the slowest axis of those that vary?
    pub fn time_is_slowest(&self) -> bool {
        let varies = |(_, size): &&(Letter, Option<usize>)| *size != Some(1);
        self.axes.iter().rev().find(varies).is_none_or(|(letter, _)| *letter == Letter::T)
    }

    pub fn sizes(&self) -> String {
        let word = |letter, name: &str| format!("{} {name}(s)", self.size(letter));
        let times = self.times().map(|n| format!(" × {n} time(s)")).unwrap_or_default();
        format!("{} × {}{times}", word(Letter::C, "channel"), word(Letter::Z, "plane"))
    }
}

/// One file, as far as the decision needs to know it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub path: PathBuf,
    /// Whole pages.
    pub pages: usize,
    /// Why there are no more, where the file is cut.
    pub cut: Option<String>,
    /// What its texts say, the most trustworthy first.
    pub told: Vec<Told>,
    /// ScanImage's number of the first and of the last page.
    pub numbers: Option<[u64; 2]>,
    /// The first two pages carry the same frame number: they are channels of one frame.
    pub paired: Option<bool>,
    /// By how much the number goes up from frame to frame: averaged frames count all that went into them.
    pub number_step: u64,
    /// ScanImage's number of every page, where they jump in a recording of volumes.
    pub all_numbers: Option<Vec<u64>>,
}

impl Seen {
    /// A file of so many whole pages, which says nothing yet.
    pub fn of(path: &Path, pages: usize, cut: Option<String>) -> Self {
        let (numbers, paired, all_numbers) = (None, None, None);
        Self { path: path.into(), pages, cut, told: Vec::new(), numbers, paired, number_step: 1, all_numbers }
    }
}

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: u32,
    pub page: u32,
}

/// The decision.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub channels: usize,
    /// The pages of every frame, its channels one after the other.
    pub places: Vec<Place>,
    pub rate_hz: Option<f64>,
    pub about: About,
}

impl Plan {
    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.places.len() / self.channels
    }
}

/// Why a recording is refused: the file, and the sentence.
pub(super) type Refusal = (PathBuf, String);
