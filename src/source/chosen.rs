//! Some channels of a recording that has more: `--channels 0` or `--channels 0,2`.
//!
//! Why it exists: microscopes save up to four channels, of which a model reads one or two. What it must never do: change a pixel, or
//! take another channel when one does not exist.

use std::path::Path;

use crate::frame::{CHANNELS_MAX, Frame};

use super::recording::file_error;
use super::{About, Next, Source, SourceError};

/// Most channels of a recording of which some are chosen.
pub(super) const HELD_MAX: usize = 16;

/// A recording with only the chosen channels, in the order in which they were named.
pub(super) struct Chosen {
    source: Box<dyn Source>,
    channels: Vec<usize>,
    whole: Frame,
}

impl Chosen {
    /// Chooses channels, counted from 0.
    ///
    /// # Errors
    /// None or too many, one named twice, or a channel that does not exist; the message names `path`.
    pub fn open(source: Box<dyn Source>, channels: &[usize], path: &Path) -> Result<Self, SourceError> {
        let fail = |cause: String| file_error(path, cause);
        if channels.is_empty() || channels.len() > CHANNELS_MAX {
            let cause = format!("{} channels are chosen; 1 to {CHANNELS_MAX} are supported", channels.len());
            return Err(fail(cause));
        }
        if let Some(twice) = channels.iter().enumerate().find(|(at, own)| channels[..*at].contains(own)) {
            return Err(fail(format!("channel {} is chosen twice", twice.1)));
        }
        let about = source.about();
        let held = about.get("channels").and_then(|fact| fact.value.as_u64()).map(|n| n as usize);
        // Sources that learn it only by their first frame have one sort of them.
        let held = held.unwrap_or(CHANNELS_MAX);
        if let Some(beyond) = channels.iter().find(|channel| **channel >= held) {
            let cause =
                format!("has {held} channel(s), 0 to {}; channel {beyond} is not one of them", held.saturating_sub(1));
            return Err(fail(cause));
        }
        let whole = Frame::with_capacity(source.frame_bytes_max());
        Ok(Self { source, channels: channels.to_vec(), whole })
    }
}

impl Source for Chosen {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let next = self.source.next(&mut self.whole)?;
        if next != Next::Frame {
            return Ok(next);
        }
        let mut info = self.whole.info;
        let plane_bytes = info.shape.plane() * info.pixel_type.bytes();
        info.shape.channels = self.channels.len();
        into.info = info;
        let slots = into.bytes_mut().chunks_exact_mut(plane_bytes.max(1));
        for (slot, channel) in slots.zip(&self.channels) {
            let held = self.whole.bytes().get(channel * plane_bytes..(channel + 1) * plane_bytes);
            let missing = || file_error(Path::new("recording"), format!("a frame has no channel {channel}"));
            slot.copy_from_slice(held.ok_or_else(missing)?);
        }
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.source.frame_bytes_max()
    }

    fn frames_total(&self) -> Option<u64> {
        self.source.frames_total()
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.source.frame_rate_hz()
    }

    fn about(&self) -> About {
        let mut about = self.source.about();
        let held = about.get("channels").cloned();
        about.facts.retain(|fact| !["channels", "channel_names"].contains(&fact.name));
        if let Some(held) = held {
            about.fact("channels_held", held.value, held.by);
        }
        let names = self.source.about().get("channel_names").cloned();
        if let Some(names) = names.filter(|names| names.value.is_array()) {
            let chosen: Vec<_> = self.channels.iter().filter_map(|n| names.value.get(*n).cloned()).collect();
            about.fact("channel_names", chosen, names.by);
        }
        about.fact("channels", self.channels.len(), "--channels");
        about.fact("channels_chosen", self.channels.clone(), "--channels");
        about
    }

    fn times_ns(&mut self) -> Result<Vec<i64>, SourceError> {
        self.source.times_ns()
    }
}
