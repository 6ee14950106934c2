//! Which recording `info`, `play`, `embed` and `calibrate` read, and the one place that knows that it may be simulated.
//!
//! Why it exists: `source` opens files and sockets and must not know of simulation; the subcommands take both. What it
//! must never do: make a frame itself.

use std::path::PathBuf;

use clap::Args;

use super::parse::rate;
use crate::frame::Name;
use crate::simulate::{SimulatedSource, is_simulated};
use crate::source::axes::AskedAxes;
use crate::source::limit::Limited;
use crate::source::raw::RawLayout;
use crate::source::{Orientation, RecordingSpec, Source, SourceError, open_recording};

/// Which recording, and how to read it. Shared by `info`, `play`, `embed` and `calibrate`.
#[derive(Clone, Debug, Args)]
pub struct RecordingArgs {
    /// The recording: TIFF files in order, a ThorImage or PrairieView folder, a Scanbox file (.sbx), a recorded session (.mcap), an NWB file (FILE.nwb#NAME
    /// picks one of several series), a raw file (with --raw), or a simulated fly: sim:seed=7,animal=9,trial=1 (also
    /// seconds=, recipe=FILE, and any key of a recipe).
    #[arg(required = true, value_name = "RECORDING")]
    pub recording: Vec<PathBuf>,
    /// Read the second channel from this file, or from this series of an NWB file (FILE.nwb#NAME).
    #[arg(long, value_name = "FILE")]
    pub channel_file: Option<PathBuf>,
    /// Use only this plane of a volume, counted from 0.
    #[arg(long, value_name = "N")]
    pub plane: Option<u64>,
    /// Order of the pages of TIFF files, slowest first, when the files say it wrong or not at all: T,C2 (two channels alternate), T,Z3,C2
    /// (volumes of three planes), C2,T (all of one channel first), T (every page is a frame).
    #[arg(long, value_name = "T,Z3,C2")]
    pub axes: Option<AskedAxes>,
    /// Order of a frame's axes in an NWB file [default: the file's, else columns-first, which is NWB's].
    #[arg(long, value_name = "rows-first|columns-first")]
    pub orientation: Option<Orientation>,
    /// Use only these channels, counted from 0, in this order: 0 or 0,2 (for microscopes that save more than a model reads).
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub channels: Vec<usize>,
    /// Use only this region of a frame that holds several (ScanImage's mROI), counted from 0.
    #[arg(long, value_name = "N")]
    pub roi: Option<usize>,
    /// Refuse a recording that was cut off or lacks pages, instead of reading what is whole.
    #[arg(long)]
    pub strict: bool,
    /// Layout of a raw file: pixel type, [channels x] height x width, bytes to skip. Example: uint16:2x512x512:1024
    #[arg(long, value_name = "TYPE:SHAPE[:HEADER_BYTES[:F]]")]
    pub raw: Option<RawLayout>,
    /// Frame rate [default: the recording's, else the model's (`embed`, `calibrate`) or 30 (`play`)].
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub rate: Option<f64>,
    /// Maximum number of frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
}

impl RecordingArgs {
    /// What was typed, as `source` takes it; frames carry `source` as the rig's name.
    pub(super) fn spec(&self, source: Name) -> RecordingSpec {
        let second = self.channel_file.iter().map(|file| vec![file.clone()]);
        RecordingSpec {
            channels: std::iter::once(self.recording.clone()).chain(second).collect(),
            raw: self.raw,
            rate_hz: self.rate,
            plane: self.plane,
            axes: self.axes,
            orientation: self.orientation,
            use_channels: self.channels.clone(),
            roi: self.roi,
            strict: self.strict,
            source,
        }
    }

    /// Opens the recording, at most `--frames` of it; one that knows no rate is taken at `rate_hz`.
    ///
    /// # Errors
    /// As [`open`].
    pub(super) fn open_limited(&self, rig: Name, rate_hz: Option<f64>) -> Result<Box<dyn Source>, SourceError> {
        let mut spec = self.spec(rig);
        let mut recording = open(&spec)?;
        if recording.frame_rate_hz().is_none() && rate_hz.is_some() {
            spec.rate_hz = rate_hz;
            recording = open(&spec)?;
        }
        warn(&spec, recording.as_ref());
        Ok(match self.frames {
            Some(frames) => Box::new(Limited::new(recording, frames)),
            None => recording,
        })
    }
}

/// Tells on the log what is missing or uncertain in a recording.
pub(super) fn warn(spec: &RecordingSpec, recording: &dyn Source) {
    let name = spec.channels.iter().flatten().next().map(|path| path.display().to_string()).unwrap_or_default();
    recording.about().warnings.iter().for_each(|warning| tracing::warn!("{name}: {warning}"));
}

/// Opens a recording, or lets a simulated animal live when the only path begins with `sim:`.
///
/// # Errors
/// As [`open_recording`], or what is wrong with the word.
pub(super) fn open(spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    let Some(word) = spec.channels.iter().flatten().find(|path| is_simulated(path)) else {
        return open_recording(spec);
    };
    let failed = |cause: &str| Err(SourceError::File { path: word.clone(), cause: cause.to_owned() });
    if spec.channels.len() > 1 || spec.channels[0].len() > 1 {
        return failed("a simulated recording cannot be combined with others; it has both channels");
    }
    if spec.raw.is_some() || spec.plane.is_some() || spec.roi.is_some() || !spec.use_channels.is_empty() {
        return failed(
            "a simulated recording has no raw layout, planes or regions and both channels; omit --raw, --plane, --roi and --channels",
        );
    }
    Ok(Box::new(SimulatedSource::open(word, spec.source)?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::frame::Frame;
    use crate::simulate::Recipe;
    use crate::simulate::write::{Format, Order, dataset};
    use crate::source::Next;

    fn frames(path: &Path) -> Vec<Vec<u8>> {
        let mut source = open(&RecordingSpec::new(path, Name::literal("rig"))).unwrap();
        assert_eq!(source.frame_rate_hz(), Some(16.0));
        let mut frame = Frame::with_capacity(source.frame_bytes_max());
        let mut all = Vec::new();
        while source.next(&mut frame).unwrap() == Next::Frame {
            assert_eq!(frame.info.shape.channels, 2);
            all.push(frame.bytes().to_vec());
        }
        all
    }

    #[test]
    fn a_written_tiff_and_the_live_source_are_the_same_recording_to_every_reader() {
        let dir = tempfile::tempdir().unwrap();
        let order = Order {
            out: dir.path().into(),
            animals: 1,
            first_animal: 3,
            trials: 1,
            seconds: 2.0,
            seed: 5,
            recipe: Recipe::default(),
            format: Format::Tiff,
            truth: Vec::new(),
            force: false,
        };
        dataset(&order, &|_| ()).unwrap();
        let written = frames(&dir.path().join("fly_03/001/raw.tif"));
        assert_eq!(written.len(), 32);
        assert_eq!(written, frames(Path::new("sim:seed=5,animal=3,seconds=2")));
    }

    #[test]
    fn a_simulated_recording_stands_alone() {
        let mut spec = RecordingSpec::new("sim:animal=2", Name::literal("rig"));
        spec.plane = Some(1);
        assert!(open(&spec).err().unwrap().to_string().contains("--plane"));
        let spec = RecordingSpec::new("sim:animel=2", Name::literal("rig"));
        assert!(open(&spec).err().unwrap().to_string().contains("did you mean `animal`"));
    }
}
