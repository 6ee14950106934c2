//! ScanImage's header: channels, slices, flyback, averaging, rates, and the number and time of each page.
//!
//! Why it exists: ScanImage's TIFFs hold it as MATLAB lines, and only they tell which page is a frame. What it must never do: take a
//! flyback page for a frame, or decide anything (that is `axes`).
//!
//! The lines begin with `SI.` in the `Software` tag (from 2016 on), with `scanimage.SI.` or `scanimage.SI5.` in every page's
//! description (5.x), with `scanimage.SI4.` (4.x), or with `state.` (3.x). Order of pages (ScanImage's "BigTIFF specification"):
//! channel fastest, then the frames of a slice, then the slices of a volume with the flyback frames of a fast z actuator at its end,
//! then volumes; where frames are averaged, `logAverageFactor` of them become one page. The stream of pages goes on through the
//! numbered files of an acquisition, which may split a volume.

use std::path::PathBuf;

use super::about::file_name;
use super::axes::{Letter, Refusal, Seen, Told};

/// What the header is called in messages.
pub(super) const BY: &str = "the ScanImage header";

/// Beginnings of the header's lines.
const PREFIXES: [&str; 5] = ["SI.", "scanimage.SI.", "scanimage.SI5.", "scanimage.SI4.", "state."];

/// The header's lines.
pub(super) struct ScanImage<'a>(&'a str);

impl<'a> ScanImage<'a> {
    /// `None` when the text is not from ScanImage.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let begins = |line: &str| PREFIXES.iter().any(|prefix| line.trim_start().starts_with(prefix));
        text.split(['\n', '\r']).any(begins).then_some(Self(text))
    }

    /// The right side of the first line with one of these keys.
    fn value(&self, keys: &[&str]) -> Option<&'a str> {
        let of_line = |line: &'a str, key: &str| {
            let line = line.trim();
            let own = PREFIXES.iter().find_map(|prefix| line.strip_prefix(prefix))?;
            own.strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim)
        };
        keys.iter().find_map(|key| self.0.split(['\n', '\r']).find_map(|line| of_line(line, key)))
    }

    fn number(&self, keys: &[&str]) -> Option<f64> {
        self.value(keys)?.parse().ok().filter(|n: &f64| n.is_finite())
    }

    fn count(&self, keys: &[&str]) -> Option<usize> {
        self.number(keys).filter(|n| (0.0..1e6).contains(n)).map(|n| n as usize)
    }

    pub(super) fn is_on(&self, keys: &[&str]) -> bool {
        matches!(self.value(keys), Some("1" | "true"))
    }

    /// Numbers of the saved channels: `1`, `[1 2]` or `[1;2]`; in version 3 a line for each.
    fn channels(&self) -> Vec<usize> {
        if let Some(list) = self.value(&["hChannels.channelSave", "channelsSave"]) {
            let numbers = list.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
            return numbers.collect();
        }
        (1..=4).filter(|n| self.is_on(&[&format!("acq.savingChannel{n}")])).collect()
    }

    /// Names of the saved channels, where the header has them: `{'green' 'red'}`.
    fn names(&self, saved: &[usize]) -> Vec<String> {
        let Some(list) = self.value(&["hChannels.channelName"]) else { return Vec::new() };
        let all: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
        saved.iter().filter_map(|n| all.get(n.checked_sub(1)?).map(|name| (*name).to_owned())).collect()
    }

    /// What the header says about the order of pages.
    ///
    /// # Errors
    /// A header that contradicts itself, or describes frames of several regions.
    pub(super) fn told(&self) -> Result<Told, String> {
        let saved = self.channels();
        let channels = saved.len().max(1);
        let fast =
            self.is_on(&["hFastZ.enable", "fastZEnable"]) || self.value(&["hStackManager.stackMode"]) == Some("'fast'");
        let stacked = self.value(&["hStackManager.enable"]).is_none_or(|on| matches!(on, "1" | "true"));
        let slices = self.count(&[
            "hStackManager.actualNumSlices",
            "hStackManager.numSlices",
            "hStackManager.slicesPerAcq",
            "stackNumSlices",
            "acq.numberOfZSlices",
        ]);
        let slices = if stacked || fast { slices.unwrap_or(1).max(1) } else { 1 };
        let averaged = self.averaged();
        let frame_rate_hz =
            self.number(&["hRoiManager.scanFrameRate", "scanFrameRate", "acq.frameRate"]).filter(|hz| *hz > 0.0);
        let mut told = Told::new(BY, [(Letter::C, Some(channels)), (Letter::Z, Some(slices)), (Letter::T, None)]);
        told.whole = true;
        told.names = self.names(&saved);
        told.rate_hz = frame_rate_hz.map(|hz| hz / averaged as f64);
        if slices == 1 {
            return Ok(told);
        }
        let slow = ["hStackManager.framesPerSlice", "acqNumFrames", "acq.numberOfFrames"];
        let frames = self.count(if fast { &slow[..1] } else { &slow }).unwrap_or(1).max(1);
        if !frames.is_multiple_of(averaged) {
            return Err(format!(
                "{BY} says {frames} frame(s) a slice and averages {averaged} into a page: the pages of a slice cannot be told"
            ));
        }
        told.repeats = frames / averaged;
        if fast {
            told.skipped = self.flyback(slices * frames, averaged)?;
            let pages = slices * told.repeats + told.skipped;
            let volume_rate_hz = self.number(&["hRoiManager.scanVolumeRate"]).filter(|hz| *hz > 0.0);
            let of_volume = volume_rate_hz.or(told.rate_hz.map(|hz| hz / pages as f64));
            told.rate_hz = of_volume.map(|hz| hz * told.repeats as f64);
        }
        Ok(told)
    }

    /// Frames that are averaged into a page. Version 3 averages all frames of a slice where `numAvgFramesSave` is not there yet.
    fn averaged(&self) -> usize {
        let of_version_3 = ["acq.numAvgFramesSave", "acq.numberOfFrames"];
        let keys: &[&str] = match self.is_on(&["acq.averaging"]) {
            true => &of_version_3,
            false => &["hScan2D.logAverageFactor", "acqNumAveragedFrames"],
        };
        self.count(keys).unwrap_or(1).max(1)
    }

    /// Pages of each channel that a volume has beyond its slices: the total of newer versions, or the number of flyback frames.
    fn flyback(&self, frames: usize, averaged: usize) -> Result<usize, String> {
        let discards = self.is_on(&["hFastZ.discardFlybackFrames", "fastZDiscardFlybackFrames"]);
        let flyback =
            self.count(&["hFastZ.numDiscardFlybackFrames", "fastZNumDiscardFrames"]).filter(|_| discards).unwrap_or(0);
        let total = self.count(&["hStackManager.numFramesPerVolumeWithFlyback"]).filter(|total| *total > 0);
        let flyback = match total {
            Some(total) if total != frames + flyback => {
                return Err(format!(
                    "{BY} says {total} frames per volume with flyback, but also {frames} frames in slices and {flyback} of flyback; {}",
                    super::axes::SAY_AXES
                ));
            }
            _ => flyback,
        };
        if !flyback.is_multiple_of(averaged) {
            return Err(format!(
                "{BY} says {flyback} flyback frame(s) and averages {averaged} into a page: their pages cannot be told"
            ));
        }
        Ok(flyback / averaged)
    }
}

/// Frame numbers must go on from file to file, and pages of one frame need channels. Returns what the user must know of them.
pub(super) fn check_numbers(files: &[Seen], told: &Told) -> Result<Vec<String>, Refusal> {
    let channels = told.size(Letter::C);
    if let Some(file) = files.iter().find(|file| channels == 1 && file.paired == Some(true)) {
        let cause = format!(
            "{BY} says 1 channel, but the first two pages have the same frame number, as with 2 channels; {}",
            super::axes::SAY_AXES
        );
        return Err((file.path.clone(), cause));
    }
    let mut notes = Vec::new();
    if channels > 1 && files[0].paired == Some(false) {
        notes.push(format!(
            "{BY} says {channels} channels, but the first two pages have frame numbers of their own, as pages of one channel have: if a program \
             took one channel out and kept the header, say --axes T"
        ));
    }
    let mut before: Option<(u64, &PathBuf)> = None;
    for file in files {
        let Some([first, last]) = file.numbers else { continue };
        // A frame whose channels are in two files has its number in both.
        if let Some((end, other)) = before.filter(|(end, _)| first < *end || first == *end && channels == 1) {
            let cause = format!(
                "begins with ScanImage's frame {first}, but {} before it ends with frame {end}: they are different acquisitions; name the \
                 files of one, e.g. with a pattern",
                file_name(other)
            );
            return Err((file.path.clone(), cause));
        }
        if let Some((end, other)) = before.filter(|(end, _)| first > *end + file.number_step) {
            notes.push(format!(
                "{} begins with frame number {first}, but {} before it ends with {end}: what lies between is missing, a file?",
                file_name(&file.path),
                file_name(other)
            ));
        }
        before = Some((last, &file.path));
        let lost = lost(file, told);
        if lost > 0 {
            notes.push(format!("{}: {lost} frame number(s) are missing: frames were dropped", file_name(&file.path)));
        }
    }
    Ok(notes)
}

/// Pages that bear one frame number.
fn pages_of_a_number(file: &Seen, told: &Told) -> usize {
    if file.paired == Some(true) { told.size(Letter::C) } else { 1 }
}

/// Frame numbers that a file lacks.
pub(super) fn lost(file: &Seen, told: &Told) -> u64 {
    let Some([first, last]) = file.numbers else { return 0 };
    let there = file.pages.div_ceil(pages_of_a_number(file, told)) as u64;
    let spanned = last.saturating_sub(first) / file.number_step.max(1) + 1;
    spanned.saturating_sub(there)
}

/// The frame number of every page of a recording of volumes whose numbers jump: planes after a dropped frame are told apart by them alone.
/// `None`: they do not jump, or there are none.
pub(super) fn jumping_numbers(files: &[Seen], told: &Told) -> Option<Vec<u64>> {
    if told.by != BY || told.size(Letter::Z) == 1 {
        return None;
    }
    let step = files[0].number_step.max(1);
    let (mut all, mut jumps) = (Vec::new(), false);
    for file in files {
        let [first, last] = file.numbers?;
        // Where the numbers of a file jump, all of them were read.
        let own = match &file.all_numbers {
            Some(own) => own.clone(),
            None if lost(file, told) > 0 => return None,
            None => (0..file.pages).map(|page| first + (page / pages_of_a_number(file, told)) as u64 * step).collect(),
        };
        let after = all.last().is_some_and(|end: &u64| first > *end + step);
        jumps |= after || lost(file, told) > 0 && last > first;
        all.extend(own);
    }
    jumps.then_some(all)
}

/// The value of `key = …` in the description of a page.
fn page_value<'a>(description: &'a str, keys: &[&str]) -> Option<&'a str> {
    let of_line =
        |line: &'a str, key: &str| line.trim().strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim);
    keys.iter().find_map(|key| description.split(['\n', '\r']).find_map(|line| of_line(line, key)))
}

/// Time of a page since the start of the acquisition, s.
pub(super) fn page_time_s(description: &str) -> Option<f64> {
    let keys = ["frameTimestamps_sec", "frameTimestamps", "Frame Timestamp(s)"];
    page_value(description, &keys)?.parse().ok().filter(|time: &f64| time.is_finite())
}

/// Number of the frame of a page.
pub(super) fn page_number(description: &str) -> Option<u64> {
    page_value(description, &["frameNumbers", "Frame Number"])?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("SI.{line}\n")).collect()
    }

    fn told(text: &str) -> Told {
        ScanImage::of(text).unwrap().told().unwrap()
    }

    #[test]
    fn every_version_names_its_channels() {
        for text in [
            "SI.hChannels.channelSave = [1;2]\n",
            "frameNumbers = 1\nscanimage.SI.hChannels.channelSave = [1 2]\n",
            "scanimage.SI5.channelsSave = [1;3]\n",
            "scanimage.SI4.channelsSave = [1;2]\r\n",
            "state.software.version=3.8\rstate.acq.savingChannel1=1\rstate.acq.savingChannel2=1\rstate.acq.savingChannel3=0\r",
        ] {
            assert_eq!(told(text).size(Letter::C), 2, "{text}");
        }
        let names =
            told("SI.hChannels.channelSave = [1;3]\nSI.hChannels.channelName = {'GCaMP' 'none' 'tdTom'}\n").names;
        assert_eq!(names, ["GCaMP", "tdTom"]);
    }

    #[test]
    fn a_fast_volume_has_its_flyback_and_its_frames_of_a_slice() {
        let mut lines = vec![
            "hChannels.channelSave = 1",
            "hFastZ.enable = 1",
            "hFastZ.discardFlybackFrames = true",
            "hFastZ.numDiscardFlybackFrames = 2",
            "hStackManager.numSlices = 3",
            "hRoiManager.scanFrameRate = 30",
            "hRoiManager.scanVolumeRate = 6",
        ];
        let found = told(&text(&lines));
        assert_eq!((found.size(Letter::Z), found.repeats, found.skipped, found.rate_hz), (3, 1, 2, Some(6.0)));
        lines.push("hStackManager.framesPerSlice = 4");
        lines.push("hScan2D.logAverageFactor = 2");
        assert_eq!((told(&text(&lines)).repeats, told(&text(&lines)).skipped), (2, 1));
        lines.push("hStackManager.numFramesPerVolumeWithFlyback = 13");
        let error = ScanImage::of(&text(&lines)).unwrap().told().unwrap_err();
        assert!(error.contains("13 frames") && error.contains("12 frames") && error.contains("--axes"), "{error}");
    }

    #[test]
    fn version_3_averages_where_it_says_so() {
        let text = |more: &str| {
            format!("state.acq.numberOfZSlices=5\rstate.acq.numberOfFrames=8\rstate.acq.frameRate=16\r{more}")
        };
        let found = |more: &str| (told(&text(more)).repeats, told(&text(more)).rate_hz);
        assert_eq!(found("state.acq.averaging=0\r"), (8, Some(16.0)));
        assert_eq!(found("state.acq.averaging=1\rstate.acq.numAvgFramesSave=4\r"), (2, Some(4.0)));
        assert_eq!(found("state.acq.averaging=1\r"), (1, Some(2.0)), "older: all frames of a slice");
    }

    #[test]
    fn other_text_is_none_and_a_page_tells_its_number_and_time() {
        assert!(ScanImage::of("ImageJ=1.53\nimages=3").is_none());
        assert_eq!(page_time_s("frameNumbers = 2\nframeTimestamps_sec = 0.066667\n"), Some(0.066_667));
        assert_eq!(page_number("frameNumbers = 2\nframeTimestamps_sec = 0.066667\n"), Some(2));
        assert_eq!(page_time_s("nothing"), None);
    }
}
