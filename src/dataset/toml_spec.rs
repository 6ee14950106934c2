//! `dataset.toml`: a user's description of recordings in any form; `config/dataset-example.toml` explains every key.
//!
//! What it must never do: accept an unknown key.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::error::DatasetError;
use super::frames::RIG;
use super::npy::Header;
use super::spec::{DataSpec, LabelFile, Neural, Per, Synchrony, TrialSpec, Who};
use super::table::{Columns, Pick};
use super::targets::{self, Target};
use crate::model::parameters::Parameters;
use crate::source::raw::RawLayout;
use crate::source::{FrameClock, Orientation, RecordingSpec, session_of};
use crate::sys::files::{Bound, read_text_or_pipe};

/// Largest dataset.toml read, bytes: a hundred thousand trials.
const SPEC_BYTES_MAX: u64 = 64 << 20;

/// The trials of a data set and their files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Names of the actions, in the order of the probabilities; absent = those of the label files, by name.
    labels: Option<Vec<String>>,
    /// Two-photon frames per second, before averaging; absent = by the recordings' own metadata.
    frame_rate_hz: Option<f64>,
    /// Behaviour frames per second.
    behaviour_rate_hz: f64,
    /// Preprocessing, as it will stand in the model's manifest; absent = its defaults.
    preprocess: Option<Parameters>,
    /// Numbers that a model shall decode beside or instead of actions.
    #[serde(rename = "target", default)]
    targets: Vec<Target>,
    /// The recordings.
    #[serde(rename = "trial", default)]
    trials: Vec<WrittenTrial>,
}

/// One recording with its behaviour.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenTrial {
    /// Name of the animal: trials of one animal are trained on, or held out, together.
    animal: String,
    /// Name of the trial; absent = the animal and a number.
    name: Option<String>,
    /// The recording; either this or `dff`.
    frames: Option<WrittenFrames>,
    /// Ready-made ΔF/F of another program, float32: a .npy file or a memory map. No live daemon can produce it.
    dff: Option<PathBuf>,
    /// Height and width of a headerless memory map, px.
    dff_shape: Option<[usize; 2]>,
    /// Behaviour: arrays, CSV, DeepLabCut, Anipose, FicTrac, SLEAP or DeepFly3D.
    behaviour: PathBuf,
    /// Columns of a headerless memory map.
    columns: Option<usize>,
    /// Use these columns, in this order.
    column_names: Option<Vec<String>>,
    /// SLEAP: the track, by name or number; DeepLabCut: the individual.
    track: Option<String>,
    /// DeepFly3D: the array, if not points3d.
    points: Option<String>,
    /// The two-photon frame of every behaviour frame; negative = before imaging began.
    index: Option<PathBuf>,
    /// Time of every behaviour frame, s.
    behaviour_times_s: Option<PathBuf>,
    /// Start of every two-photon frame on the same clock, s; absent = regular from 0 s, or a session's own times.
    frame_times_s: Option<PathBuf>,
    /// The clock of `behaviour_times_s`, beside a recorded session.
    frame_clock: Option<FrameClock>,
    /// Behaviour frame 0 starts this many seconds after two-photon frame 0.
    offset_s: Option<f64>,
    /// The lines recorded by ThorSync.
    thorsync: Option<PathBuf>,
    /// PrairieView's voltage recording, a CSV beside the XML of the frames.
    voltage_recording: Option<PathBuf>,
    /// Name of the camera's line in ThorSync or in a voltage recording.
    camera_line: Option<String>,
    /// Counts of "Frame Counter" per two-photon frame: volumes, frames averaged by the microscope.
    counts_per_frame: Option<usize>,
    /// Actions, by frame or by time: CSV, BORIS, or an array with one entry per frame.
    labels: Option<PathBuf>,
    /// What the frames of `labels` count.
    #[serde(default)]
    labels_per: Per,
    /// BORIS: whose bouts.
    label_subject: Option<String>,
    /// BORIS: which observation.
    label_observation: Option<String>,
    /// The columns that `[[target]]` names, one row per behaviour frame; absent = in `behaviour`.
    targets: Option<PathBuf>,
    /// True = leave out; one flag per behaviour frame or per two-photon frame.
    mask: Option<PathBuf>,
}

/// The frames of a trial.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenFrames {
    /// The recording; either this or `channels`.
    path: Option<PathBuf>,
    /// One file per channel.
    channels: Option<Vec<PathBuf>>,
    /// Layout of a raw file: pixel type, shape of one frame, header bytes. Example: float32:128x128
    raw: Option<String>,
    /// Frames per second of this recording.
    rate_hz: Option<f64>,
    /// One imaging plane of a volume, from 0.
    plane: Option<u64>,
    /// Order of TIFF pages, slowest first. Example: T,Z3,C2
    axes: Option<String>,
    /// Which axis of an NWB frame comes first.
    orientation: Option<Orientation>,
    /// Use only these channels, from 0.
    #[serde(default)]
    use_channels: Vec<usize>,
    /// One of several regions of a ScanImage frame, from 0.
    roi: Option<usize>,
    /// Refuse a recording that was cut off.
    #[serde(default)]
    strict: bool,
}

/// The JSON Schema of a `dataset.toml`, as text.
pub fn schema() -> String {
    crate::sys::schema::schema_of::<Written>("haltere's description of a data set")
}

impl DataSpec {
    /// Reads a `dataset.toml`; paths in it are relative to it.
    ///
    /// # Errors
    /// Syntax and unknown keys with their line, and invalid values.
    pub fn from_toml(path: &Path) -> Result<Self, DatasetError> {
        let bound = Bound::new("a dataset.toml", SPEC_BYTES_MAX);
        let text = read_text_or_pipe(path, bound).map_err(|e| DatasetError::file(path, e.cause))?;
        let written: Written = toml::from_str(&text)
            .map_err(|error| DatasetError::Syntax { path: path.into(), message: crate::model::describe(&error) })?;
        let home = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let reader = Reader { path, home: &home };
        super::checks::rate(path, "behaviour_rate_hz", written.behaviour_rate_hz)?;
        if written.trials.is_empty() {
            return Err(reader.value("trial", "absent", "at least one [[trial]]"));
        }
        if let Some(parameters) = &written.preprocess {
            parameters.check().map_err(|e| reader.value(&format!("preprocess.{}", e.key), e.value, &e.bound))?;
        }
        targets::check(path, &written.targets)?;
        let trials = written.trials.into_iter().enumerate().map(|(at, trial)| reader.trial(at, trial));
        let mut trials = trials.collect::<Result<Vec<_>, _>>()?;
        reader.names_differ(&trials)?;
        let mut animals: Vec<String> = trials.iter().map(|t| t.animal.clone()).collect();
        animals.dedup();
        trials.sort_by_key(|trial| animals.iter().position(|animal| *animal == trial.animal));
        Ok(Self {
            path: path.into(),
            labels: written.labels,
            targets: written.targets,
            parameters: written.preprocess,
            frame_rate_hz: written.frame_rate_hz,
            behaviour_rate_hz: written.behaviour_rate_hz,
            trials,
            warnings: Vec::new(),
            home,
        })
    }
}

fn is_session(neural: &Neural) -> bool {
    matches!(neural, Neural::Recording(spec) if session_of(spec).is_some())
}

/// Knows the file, for messages and relative paths.
struct Reader<'a> {
    path: &'a Path,
    home: &'a Path,
}

impl Reader<'_> {
    fn value(&self, key: &str, value: impl ToString, bound: &str) -> DatasetError {
        DatasetError::Value { path: self.path.into(), key: key.into(), value: value.to_string(), bound: bound.into() }
    }

    fn at(&self, path: PathBuf) -> PathBuf {
        self.home.join(path)
    }

    fn trial(&self, at: usize, written: WrittenTrial) -> Result<TrialSpec, DatasetError> {
        let key = |key: &str| format!("trial[{at}].{key}");
        if written.animal.is_empty() {
            return Err(self.value(&key("animal"), "\"\"", "the name of an animal"));
        }
        let synchrony = self.synchrony(&key, &written)?;
        let neural = match (written.frames, written.dff) {
            (Some(frames), None) => self.frames(&key, frames)?,
            (None, Some(dff)) => self.ready(&key, self.at(dff), written.dff_shape)?,
            _ => return Err(self.value(&key("frames"), "both or neither", "either `frames` or `dff`")),
        };
        if written.frame_clock.is_some() && !is_session(&neural) {
            return Err(self.value(
                &key("frame_clock"),
                "without a session",
                "only where `frames` is a recorded session (.mcap)",
            ));
        }
        let columns = match (written.columns, written.column_names) {
            (Some(0), _) => return Err(self.value(&key("columns"), 0, "at least 1")),
            (_, Some(names)) => Columns::Names(names),
            (Some(count), None) => Columns::Count(count),
            (None, None) => Columns::Own,
        };
        let who = Who { subject: written.label_subject, observation: written.label_observation };
        if written.labels.is_none() && who != Who::default() {
            return Err(self.value(&key("label_subject"), "without labels", "only beside `labels`"));
        }
        let labels = written.labels.map(|path| LabelFile { path: self.at(path), per: written.labels_per, who });
        Ok(TrialSpec {
            name: written.name.unwrap_or_else(|| format!("{}/{:03}", written.animal, at + 1)),
            animal: written.animal,
            neural,
            behaviour: self.at(written.behaviour),
            columns,
            pick: Pick { track: written.track, points: written.points },
            synchrony,
            labels,
            targets: written.targets.map(|path| self.at(path)),
            mask: written.mask.map(|path| self.at(path)),
        })
    }

    fn names_differ(&self, trials: &[TrialSpec]) -> Result<(), DatasetError> {
        for (at, trial) in trials.iter().enumerate() {
            if trials[..at].iter().any(|other| other.name == trial.name) {
                return Err(self.value(&format!("trial[{at}].name"), &trial.name, "a name no other trial has"));
            }
        }
        Ok(())
    }

    fn synchrony(&self, key: &dyn Fn(&str) -> String, written: &WrittenTrial) -> Result<Synchrony, DatasetError> {
        let at = |path: &PathBuf| self.at(path.clone());
        let ways = [
            written.index.is_some(),
            written.behaviour_times_s.is_some() || written.frame_times_s.is_some(),
            written.offset_s.is_some(),
            written.thorsync.is_some(),
            written.voltage_recording.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() > 1 {
            let bound = "one of `index`, `behaviour_times_s` (with `frame_times_s`), `offset_s`, `thorsync`, `voltage_recording`";
            return Err(self.value(&key("index"), "more than one way to synchronise", bound));
        }
        let (camera, counts) = (written.camera_line.clone(), written.counts_per_frame);
        if written.thorsync.is_none() && (counts.is_some() || camera.is_some() && written.voltage_recording.is_none()) {
            let bound = "only beside `thorsync` (and `camera_line` beside `voltage_recording`)";
            return Err(self.value(&key("camera_line"), "without thorsync", bound));
        }
        if written.frame_clock.is_some() && (written.behaviour_times_s.is_none() || written.frame_times_s.is_some()) {
            let bound = "only beside `behaviour_times_s`, and in place of `frame_times_s`";
            return Err(self.value(&key("frame_clock"), "without times to compare", bound));
        }
        if let Some(index) = &written.index {
            return Ok(Synchrony::Index(at(index)));
        }
        if let Some(path) = &written.thorsync {
            let counts_per_frame = counts.unwrap_or(1);
            if counts_per_frame == 0 {
                return Err(self.value(&key("counts_per_frame"), 0, "at least 1"));
            }
            return Ok(Synchrony::ThorSync { path: at(path), camera_line: camera, counts_per_frame });
        }
        if let Some(path) = &written.voltage_recording {
            return Ok(Synchrony::Voltage { path: at(path), camera_line: camera });
        }
        match (&written.behaviour_times_s, &written.frame_times_s) {
            (Some(behaviour), frames) => {
                let clock = written.frame_clock.unwrap_or_default();
                Ok(Synchrony::Times { behaviour: at(behaviour), frames: frames.as_ref().map(at), clock })
            }
            (None, Some(_)) => Err(self.value(&key("behaviour_times_s"), "absent", "times of the behaviour frames")),
            (None, None) => {
                let offset_s = written.offset_s.unwrap_or(0.0);
                let good = offset_s.is_finite();
                let stated = written.offset_s.is_some();
                good.then_some(Synchrony::Offset { seconds: offset_s, stated })
                    .ok_or_else(|| self.value(&key("offset_s"), offset_s, "finite seconds"))
            }
        }
    }

    fn frames(&self, key: &dyn Fn(&str) -> String, written: WrittenFrames) -> Result<Neural, DatasetError> {
        let layout: Option<RawLayout> = written
            .raw
            .map(|text| text.parse().map_err(|e: String| self.value(&key("frames.raw"), &text, &e)))
            .transpose()?;
        let paths: Vec<PathBuf> = match (written.path, written.channels) {
            (Some(path), None) => vec![self.at(path)],
            (None, Some(channels)) if !channels.is_empty() => channels.into_iter().map(|c| self.at(c)).collect(),
            _ => return Err(self.value(&key("frames"), "both or neither", "either `path` or `channels`")),
        };
        if let Some(rate) = written.rate_hz {
            super::checks::rate(self.path, &key("frames.rate_hz"), rate)?;
        }
        match layout {
            Some(layout) if paths.len() > 1 && super::frames::is_planar(&layout) => {
                Ok(Neural::Planar { channels: paths, layout })
            }
            raw => {
                let channels = paths.into_iter().map(|path| vec![path]).collect();
                let (rate_hz, plane) = (written.rate_hz, written.plane);
                let (orientation, strict, roi) = (written.orientation, written.strict, written.roi);
                let use_channels = written.use_channels;
                let axes = written
                    .axes
                    .map(|text| text.parse().map_err(|e: String| self.value(&key("frames.axes"), &text, &e)));
                let axes = axes.transpose()?;
                Ok(Neural::Recording(Box::new(RecordingSpec {
                    channels,
                    raw,
                    rate_hz,
                    plane,
                    axes,
                    orientation,
                    use_channels,
                    roi,
                    strict,
                    source: RIG,
                })))
            }
        }
    }

    fn ready(
        &self,
        key: &dyn Fn(&str) -> String,
        path: PathBuf,
        shape: Option<[usize; 2]>,
    ) -> Result<Neural, DatasetError> {
        if let Some(header) = Header::read(&path)? {
            let [frames, height, width] = header.shape[..] else {
                return Err(DatasetError::file(
                    &path,
                    format!("its shape is {:?}; ΔF/F is (frames, height, width)", header.shape),
                ));
            };
            if !header.is_plain_f32() {
                return Err(DatasetError::file(&path, "must be little-endian float32: np.save(name, a.astype('<f4'))"));
            }
            let file = std::fs::metadata(&path).map_err(|e| DatasetError::file(&path, e))?.len();
            if file < (header.data_at + header.items() * 4) as u64 {
                return Err(DatasetError::file(&path, "is shorter than its header states: it is truncated"));
            }
            return Ok(Neural::Ready { path, frames, height, width, data_at: header.data_at });
        }
        super::npy::refuse_foreign(&path)?;
        let Some([height, width]) = shape.filter(|[h, w]| *h > 0 && *w > 0) else {
            return Err(self.value(&key("dff_shape"), "absent", "[height, width] of a headerless memory map, px"));
        };
        let bytes = std::fs::metadata(&path).map_err(|e| DatasetError::file(&path, e))?.len() as usize;
        let each = 4 * height * width;
        if bytes == 0 || !bytes.is_multiple_of(each) {
            let cause = format!("{bytes} bytes are not a whole number of float32 frames of {height}×{width}");
            return Err(DatasetError::file(&path, cause));
        }
        Ok(Neural::Ready { path, frames: bytes / each, height, width, data_at: 0 })
    }
}
