//! ScanImage's metadata: channels, slices, flyback, rates, and the time of each page.
//!
//! Why it exists: ScanImage's TIFFs hold it as MATLAB lines (`SI.hChannels.channelSave = [1;2]`) in the `Software` tag and again at
//! byte 16 of the file (magic 0x07030301); only they tell which page is a frame. What it must never do: take a flyback page for a
//! frame, or trust metadata that the number of pages contradicts.
//!
//! Order of pages (ScanImage's "BigTIFF specification", format version 3 and 4): channel fastest; then, with a fast z actuator, the
//! slices of a volume with its flyback pages at the end; without one, the frames of a slice before the next slice.

use super::recording::Axis;
use super::tiff_order::PageOrder;

/// The metadata lines of one file.
pub(super) struct ScanImage<'a>(&'a str);

impl<'a> ScanImage<'a> {
    /// `None` when the text is not from ScanImage.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        text.lines().any(|line| line.trim_start().starts_with("SI.")).then_some(Self(text))
    }

    /// The right side of `SI.key = …`.
    fn value(&self, key: &str) -> Option<&'a str> {
        self.0
            .lines()
            .find_map(|line| line.trim().strip_prefix("SI.")?.strip_prefix(key)?.trim_start().strip_prefix('='))
            .map(str::trim)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.value(key)?.parse().ok().filter(|n: &f64| n.is_finite())
    }

    fn count(&self, key: &str) -> Option<usize> {
        self.number(key).filter(|n| (0.0..1e6).contains(n)).map(|n| n as usize)
    }

    fn is_on(&self, key: &str) -> bool {
        matches!(self.value(key), Some("1" | "true"))
    }

    /// Number of saved channels: `1`, `[1 2]` or `[1;2]`.
    fn channels(&self) -> usize {
        let list = self.value("hChannels.channelSave").unwrap_or("1");
        list.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).count().max(1)
    }

    /// The order of channels, slices and times in `pages` pages.
    ///
    /// # Errors
    /// Metadata that the number of pages contradicts.
    pub(super) fn order(&self, pages: usize) -> Result<PageOrder, String> {
        let channels = self.channels();
        let slices = self.count("hStackManager.actualNumSlices").or_else(|| self.count("hStackManager.numSlices"));
        let stacked = self.value("hStackManager.enable").is_none_or(|on| matches!(on, "1" | "true"));
        let fast = self.is_on("hFastZ.enable");
        let slices = if stacked || fast { slices.unwrap_or(1).max(1) } else { 1 };
        let frame_rate_hz = self.number("hRoiManager.scanFrameRate").filter(|rate| *rate > 0.0);
        if slices == 1 {
            let averaged = self.count("hScan2D.logAverageFactor").unwrap_or(1).max(1);
            return Ok(PageOrder {
                channels: Axis::new(channels, 1),
                slices: Axis::new(1, 1),
                times: Axis::new(whole(pages, channels, "page")?, channels),
                rate_hz: frame_rate_hz.map(|rate| rate / averaged as f64),
            });
        }
        if fast {
            let flyback =
                self.count("hFastZ.numDiscardFlybackFrames").filter(|_| self.is_on("hFastZ.discardFlybackFrames"));
            let volume = slices + flyback.unwrap_or(0);
            let volume_rate_hz = self.number("hRoiManager.scanVolumeRate").filter(|rate| *rate > 0.0);
            return Ok(PageOrder {
                channels: Axis::new(channels, 1),
                slices: Axis::new(slices, channels),
                // An incomplete last volume is left out.
                times: Axis::new(pages / (channels * volume), channels * volume),
                rate_hz: volume_rate_hz.or(frame_rate_hz.map(|rate| rate / volume as f64)),
            });
        }
        let frames = self.count("hStackManager.framesPerSlice").unwrap_or(1).max(1);
        let planned = channels * frames * slices;
        if !pages.is_multiple_of(planned) {
            return Err(format!(
                "ScanImage planned {slices} slices of {frames} frames in {channels} channel(s), but there are {pages} pages: \
                 the stack was stopped early, or some files belong to another acquisition"
            ));
        }
        Ok(PageOrder {
            channels: Axis::new(channels, 1),
            slices: Axis::new(slices, channels * frames),
            times: Axis::new(frames, channels),
            rate_hz: frame_rate_hz,
        })
    }
}

fn whole(pages: usize, parts: usize, what: &str) -> Result<usize, String> {
    if pages.is_multiple_of(parts) {
        return Ok(pages / parts);
    }
    Err(format!(
        "ScanImage saved {parts} channels, but {pages} {what}s are not a multiple of that: the file is truncated"
    ))
}

/// Time of a page since the start of the acquisition, s: `frameTimestamps_sec = 0.033` in its description.
pub(super) fn page_time_s(description: &str) -> Option<f64> {
    let line = description.lines().find_map(|line| line.trim().strip_prefix("frameTimestamps_sec"))?;
    line.trim_start().strip_prefix('=')?.trim().parse().ok().filter(|time: &f64| time.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("SI.{line}\n")).collect()
    }

    #[test]
    fn a_plane_in_two_channels_has_the_channel_fastest_and_its_own_rate() {
        let text = text(&[
            "hChannels.channelSave = [1;2]",
            "hRoiManager.scanFrameRate = 30.01",
            "hStackManager.numSlices = 1",
        ]);
        let order = ScanImage::of(&text).unwrap().order(20).unwrap();
        assert_eq!((order.channels, order.slices, order.times), (Axis::new(2, 1), Axis::new(1, 1), Axis::new(10, 2)));
        assert_eq!(order.rate_hz, Some(30.01));
        assert!(ScanImage::of(&text).unwrap().order(21).unwrap_err().contains("21 pages"));
    }

    #[test]
    fn a_fast_volume_leaves_its_flyback_out() {
        let text = text(&[
            "hChannels.channelSave = 1",
            "hFastZ.enable = 1",
            "hFastZ.discardFlybackFrames = true",
            "hFastZ.numDiscardFlybackFrames = 2",
            "hStackManager.numSlices = 3",
            "hRoiManager.scanFrameRate = 30",
            "hRoiManager.scanVolumeRate = 6",
        ]);
        let order = ScanImage::of(&text).unwrap().order(27).unwrap();
        assert_eq!(
            (order.slices, order.times),
            (Axis::new(3, 1), Axis::new(5, 5)),
            "the volume that was stopped is not there"
        );
        assert_eq!(order.rate_hz, Some(6.0));
    }

    #[test]
    fn a_slow_stack_has_the_frames_of_a_slice_together() {
        let text = text(&["hFastZ.enable = 0", "hStackManager.numSlices = 3", "hStackManager.framesPerSlice = 10"]);
        let order = ScanImage::of(&text).unwrap().order(30).unwrap();
        assert_eq!((order.slices, order.times), (Axis::new(3, 10), Axis::new(10, 1)));
        assert!(ScanImage::of(&text).unwrap().order(31).is_err());
    }

    #[test]
    fn other_text_is_none_and_a_page_tells_its_time() {
        assert!(ScanImage::of("ImageJ=1.53\nimages=3").is_none());
        assert_eq!(page_time_s("frameNumbers = 2\nframeTimestamps_sec = 0.066667\n"), Some(0.066_667));
        assert_eq!(page_time_s("nothing"), None);
    }
}
