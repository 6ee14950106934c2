//! The frames of a trial: how many, how large, which files, and a source for them.
//!
//! Why it exists: raw channels in separate files, and every recording that the corridor reads, look alike to preprocessing.
//! What it must never do: change a pixel.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::DatasetError;
use super::spec::{Neural, TrialSpec};
use crate::frame::{Frame, Name, Shape};
use crate::source::raw::{RawLayout, RawSource};
use crate::source::{About, Next, SessionIndex, Source, SourceError, files_of, open_recording, series_of, session_of};

/// Name of the rig in frames used for training.
pub(super) const RIG: Name = Name::literal("train");

/// Frames of a recording whose every time stamp is read.
const TIMES_MAX: u64 = 2_000_000;

/// What is known about the frames before they are read.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub frames: usize,
    pub shape: Shape,
    pub rate_hz: Option<f64>,
    /// Number and times of each frame, for frames of a session.
    pub session: Option<Arc<SessionIndex>>,
    /// What the reader of other recordings tells.
    pub about: About,
    /// The own time of every frame of another recording, where it has them.
    pub times_ns: Vec<i64>,
}

/// The session file of a trial's frames, if there is one.
pub(super) fn session(trial: &TrialSpec) -> Option<&Path> {
    match &trial.neural {
        Neural::Recording(spec) => session_of(spec),
        _ => None,
    }
}

/// Opens the frames of a trial and describes them, from at most one of them.
pub(super) fn probe(trial: &TrialSpec) -> Result<Probe, DatasetError> {
    if let Neural::Ready { frames, height, width, .. } = trial.neural {
        return Ok(Probe {
            frames,
            shape: Shape::new(1, height, width),
            rate_hz: None,
            session: None,
            about: About::default(),
            times_ns: Vec::new(),
        });
    }
    let mut source = open(trial, None)?;
    if let Some(path) = session(trial) {
        return probe_session(trial, path);
    }
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    let (total, rate_hz, about) = (source.frames_total(), source.frame_rate_hz(), source.about());
    if !pull(trial, source.as_mut(), &mut frame, 0)? {
        return Err(broken(trial, 0, "the recording contains no frame"));
    }
    let shape = frame.info.shape;
    let mut frames = total.unwrap_or(1);
    while total.is_none() && pull(trial, source.as_mut(), &mut frame, frames)? {
        frames += 1;
    }
    let times_ns = if frames <= TIMES_MAX { source.times_ns().map_err(|e| broken(trial, 0, e))? } else { Vec::new() };
    Ok(Probe { frames: frames as usize, shape, rate_hz, session: None, about, times_ns })
}

/// The index of a truncated session may lack its last chunks, so its frames are counted.
fn probe_session(trial: &TrialSpec, path: &Path) -> Result<Probe, DatasetError> {
    let session = SessionIndex::read(path).map_err(|e| broken(trial, 0, e))?;
    let stated = match &trial.neural {
        Neural::Recording(spec) => spec.rate_hz,
        _ => None,
    };
    let rate_hz = stated.or_else(|| session.frame_rate_hz());
    let (frames, shape) = (session.frames(), session.shape());
    let mut about = About::default();
    about.fact("frames", frames, "the frames that are in the session");
    about.maybe("rate_hz", rate_hz, if stated.is_some() { "the given rate" } else { "the session" });
    Ok(Probe { frames, shape, rate_hz, session: Some(Arc::new(session)), about, times_ns: Vec::new() })
}

/// Opens the frames of a trial. `rate_hz` is used where the recording does not state its own.
pub(super) fn open(trial: &TrialSpec, rate_hz: Option<f64>) -> Result<Box<dyn Source>, DatasetError> {
    let failed = |e: SourceError| broken(trial, 0, e);
    match &trial.neural {
        Neural::Recording(spec) => open_recording(spec).map_err(failed),
        Neural::Planar { channels, layout } => {
            let source = Planar::open(channels, *layout, rate_hz).map_err(failed)?;
            let lengths = source.lengths();
            if let Some(other) = lengths.iter().position(|n| *n != lengths[0]) {
                return Err(DatasetError::Lengths {
                    trial: trial.name.clone(),
                    path: channels[other].clone(),
                    found: lengths[other].to_string(),
                    expected: lengths[0].to_string(),
                    unit: "frames",
                    by: channels[0].display().to_string(),
                    advice: "the channels of one recording must have the same number of frames",
                });
            }
            Ok(Box::new(source))
        }
        Neural::Ready { path, .. } => Err(DatasetError::file(path, "contains ready-made ΔF/F and no raw frames")),
    }
}

/// The next frame; false at the end.
pub(super) fn pull(
    trial: &TrialSpec,
    source: &mut dyn Source,
    frame: &mut Frame,
    number: u64,
) -> Result<bool, DatasetError> {
    loop {
        match source.next(frame) {
            Ok(Next::Frame) => return Ok(true),
            Ok(Next::End) => return Ok(false),
            Ok(
                Next::Idle
                | Next::SeriesBegan
                | Next::SeriesEnded
                | Next::FileLost(_)
                | Next::FileUnreachable(_)
                | Next::FileBack(_),
            ) => {}
            Ok(Next::Rejected(refusal)) => {
                let cause = format!("is damaged ({}): repair or shorten the recording", refusal.message);
                return Err(broken(trial, number, cause));
            }
            Err(error) => return Err(broken(trial, number, error)),
        }
    }
}

pub(super) fn broken(trial: &TrialSpec, frame: u64, cause: impl ToString) -> DatasetError {
    DatasetError::Frame { trial: trial.name.clone(), frame, cause: cause.to_string() }
}

/// The files of the frames, and how they are read, in words: the cache key is made from them.
pub(super) fn files(trial: &TrialSpec) -> Result<(Vec<PathBuf>, String), DatasetError> {
    match &trial.neural {
        Neural::Recording(spec) => {
            let files = files_of(spec).map_err(|e| broken(trial, 0, e))?;
            let series = series_of(spec);
            let chosen = if series.is_empty() { String::new() } else { format!(", series {series:?}") };
            let axes = spec.axes.map(|axes| format!(", axes {axes}")).unwrap_or_default();
            let orientation = spec.orientation.map(|order| format!(", {}", order.name())).unwrap_or_default();
            let roi = spec.roi.map(|roi| format!(", roi {roi}")).unwrap_or_default();
            let of_channels = match spec.use_channels.as_slice() {
                [] => String::new(),
                channels => format!(", channels {channels:?}"),
            };
            let chosen = format!("{axes}{orientation}{roi}{of_channels}{chosen}");
            Ok((files, format!("{} channel(s), {:?}, plane {:?}{chosen}", spec.channels.len(), spec.raw, spec.plane)))
        }
        Neural::Planar { channels, layout } => Ok((channels.clone(), format!("planar {layout:?}"))),
        Neural::Ready { path, height, width, data_at, .. } => {
            Ok((vec![path.clone()], format!("ready {height}×{width} from {data_at}")))
        }
    }
}

/// Raw files of one channel each, read side by side.
struct Planar {
    channels: Vec<RawSource>,
    one: Frame,
}

impl Planar {
    fn open(paths: &[PathBuf], layout: RawLayout, rate_hz: Option<f64>) -> Result<Self, SourceError> {
        let open = |path: &PathBuf| RawSource::open(path, layout, rate_hz, RIG);
        let channels = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { channels, one: Frame::with_capacity(layout.frame.bytes()) })
    }

    fn lengths(&self) -> Vec<u64> {
        self.channels.iter().map(|channel| channel.frames_total().unwrap_or(0)).collect()
    }
}

impl Source for Planar {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let count = self.channels.len();
        for (index, channel) in self.channels.iter_mut().enumerate() {
            let next = channel.next(&mut self.one)?;
            if next != Next::Frame {
                return Ok(next);
            }
            let bytes = self.one.len_bytes();
            into.info = self.one.info;
            into.info.shape.channels = count;
            into.bytes_mut()[index * bytes..(index + 1) * bytes].copy_from_slice(self.one.bytes());
        }
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.channels.iter().map(RawSource::frame_bytes_max).sum()
    }

    fn frames_total(&self) -> Option<u64> {
        self.lengths().into_iter().min()
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.channels.first().and_then(RawSource::frame_rate_hz)
    }
}

/// One float32 channel without a header, as MC2P folders have them.
pub(super) fn is_planar(layout: &RawLayout) -> bool {
    layout.frame.shape.channels == 1
}

/// Name of a file without its folder.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
