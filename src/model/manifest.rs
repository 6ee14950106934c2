//! The manifest: what the model expects, what it says, where it comes from, every value within its bounds.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::error::{ModelError, describe};
use super::external::stays_inside;
use super::parameters::Parameters;
use super::trained::{Adapted, Calibration, Drift, InputOrigin, Novelty, OUTPUTS_MAX, Output};
use crate::frame::{CHANNELS_MAX, FIRST_GENERATION, ModelTag, Name, SIDE_PX_MAX, Shape};
use crate::sys::files::{Bound, read_text_bounded, write_whole};

/// Version of the manifest's layout that this program writes and reads.
pub const FORMAT: u32 = 1;
/// Largest manifest read, bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// What a manifest may hold, in a file of a regular kind.
const MANIFEST: Bound = Bound::new("a manifest", MANIFEST_BYTES_MAX);
/// Most model frames in a window.
pub const WINDOW_FRAMES_MAX: usize = 1024;
/// Most values in an embedding, in a row of the state, and most rows of a state.
pub const WIDTH_MAX: usize = 16384;
/// Most action labels.
pub const LABELS_MAX: usize = 256;
/// Longest action label, bytes.
pub const LABEL_BYTES_MAX: usize = 64;
/// Most values in one input of a model (a window of frames, or a state): 1 GiB of f32.
pub const VALUES_MAX: usize = 1 << 28;

/// `<name>.toml` beside `<name>.onnx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout version, [`FORMAT`].
    #[schemars(range(min = 1, max = 1))]
    pub format: u32,
    /// Name of the model, as published in every decode: `[A-Za-z0-9_.-]`, at most 64.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// The ONNX file, relative to the manifest.
    pub file: PathBuf,
    /// SHA-256 of the ONNX file, hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub sha256: String,
    /// How the model is fed.
    pub kind: Kind,
    /// Model frames per second it was made for (after averaging).
    pub frame_rate_hz: f64,
    /// Model frames it sees at once.
    pub window_frames: usize,
    /// Future frames the windows of training saw; 0 = causal. Above 0 the decode is late by as much.
    #[serde(default)]
    pub look_ahead_frames: usize,
    /// Channels × height × width of one model frame.
    pub input: Shape,
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// Streaming models: shape of the state, `[rows, columns]` (31 × 128 feature vectors, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<[usize; 2]>,
    /// Action labels, in the order of the probabilities; empty = the model decodes no action.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Continuous outputs, in their order; absent = none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// How exactly the daemon's own encoder reproduced it when it was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// Where the input of training came from; absent = live.
    #[serde(default, skip_serializing_if = "InputOrigin::is_live")]
    pub input_origin: InputOrigin,
    /// How the probabilities were calibrated; absent = not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What the file's output `novelty` is measured against; absent = it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<Novelty>,
    /// When the novelty says that the animal has drifted away; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// What `calibrate` made it from; absent = it is as it was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted: Option<Adapted>,
    /// What happens to a frame before it reaches the model.
    #[serde(default)]
    pub preprocess: Parameters,
}

/// How a model is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// (`frame` `[1,C,H,W]`, `state` `[1,R,D]`) → (`embedding` `[1,E]`, optional `probabilities` `[1,L]`, `next_state` `[1,R,D]`).
    Streaming,
    /// one input `[1,T,C,H,W]` → `embedding` `[1,E]` (or the only output), optional `probabilities` `[1,L]`.
    Windowed,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Provenance {
    /// False for random weights: such a model decodes no action, whatever labels it has.
    pub trained: bool,
    /// Program and version, or person, that made it.
    pub made_by: String,
    /// Data it was trained on.
    pub trained_on: String,
    /// Anything a user must know.
    pub note: String,
}

/// A measured agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// What it was compared with.
    pub against: String,
    /// Frames compared.
    pub frames: usize,
    /// Largest absolute difference of any embedding value.
    pub max_abs_difference: f32,
}

/// The JSON Schema of a manifest, as text.
pub fn schema() -> String {
    crate::sys::schema::schema_of::<Manifest>("the manifest of a model of haltere")
}

impl Manifest {
    /// Reads and checks a manifest; does not look at the ONNX file.
    ///
    /// # Errors
    /// [`ModelError::Missing`], [`ModelError::File`], [`ModelError::Syntax`] or [`ModelError::Value`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        Self::read_with_text(path).map(|(manifest, _)| manifest)
    }

    /// As [`Manifest::read`], with the text as it is in the file.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn read_with_text(path: &Path) -> Result<(Self, String), ModelError> {
        let text = read_text_bounded(path, MANIFEST)?;
        let broken = |error: toml::de::Error| ModelError::Syntax { path: path.into(), message: describe(&error) };
        let mut manifest: Self = toml::from_str(&text).map_err(broken)?;
        let table: toml::Table = toml::from_str(&text).map_err(broken)?;
        let written = |section: &str, key: &str| table.get("preprocess")?.get(section)?.get(key);
        manifest.preprocess = manifest.preprocess.of_their_time(|section, key| written(section, key).is_some());
        manifest.check(path)?;
        Ok((manifest, text))
    }

    /// Checks every value, then writes the manifest; a reader never sees half of it.
    ///
    /// # Errors
    /// [`ModelError::Value`] for a manifest that could not be read back, [`ModelError::Write`] when the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.check(path)?;
        let body = toml::to_string_pretty(self)
            .map_err(|error| ModelError::Syntax { path: path.into(), message: error.to_string() })?;
        let text =
            format!("# What {} expects and what it says; `haltere model inspect` explains it.\n{body}", self.name);
        Ok(write_whole(path, text.as_bytes())?)
    }

    /// Frames per second that the model needs of the stream, before averaging.
    pub fn stream_rate_hz(&self) -> f64 {
        self.frame_rate_hz * self.preprocess.average_frames as f64
    }

    /// Frames of the stream until decodes are no longer warm-up, if each is accepted.
    pub fn stream_warm_up_frames(&self) -> usize {
        let p = &self.preprocess;
        let template = p.registration.as_ref().map_or(0, |r| r.template_frames * (1 + r.template_rounds));
        let line_phase = p.line_phase.as_ref().map_or(0, |l| l.frames);
        let model_frames = p.baseline.as_ref().map_or(0, |b| b.average_frames)
            + p.normalise.as_ref().map_or(0, |n| n.warmup_frames)
            + self.window_frames;
        template + line_phase + model_frames * p.average_frames
    }

    /// Frames of the stream in the model's window.
    pub fn stream_window_frames(&self) -> usize {
        self.window_frames * self.preprocess.average_frames
    }

    /// See [`decodes_actions`](crate::model::Model::decodes_actions).
    pub fn decodes_actions(&self) -> bool {
        self.provenance.trained && !self.labels.is_empty()
    }

    /// How the model is named in decodes, as the first one of a run.
    pub fn tag(&self) -> ModelTag {
        ModelTag {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            generation: FIRST_GENERATION,
            labels: self.labels.clone(),
            outputs: self.outputs.iter().map(|output| output.name.clone()).collect(),
            embedding: self.embedding,
            trained: self.provenance.trained,
        }
    }

    /// Checks every value against its bound; `path` is named in the message.
    ///
    /// # Errors
    /// [`ModelError::Value`] for the first value outside its range.
    pub fn check(&self, path: &Path) -> Result<(), ModelError> {
        let check = Check { path };
        self.check_identity(&check)?;
        self.check_shapes(&check)?;
        self.check_labels(&check)?;
        self.check_measured(&check)?;
        self.preprocess.check().map_err(|e| check.error(&format!("preprocess.{}", e.key), e.value, &e.bound))?;
        let (reads, takes) = (self.preprocess.channels.len(), self.input.channels);
        let bound = format!("as many channels as input.channels, which is {takes}");
        check.that(reads == takes, "preprocess.channels", &self.preprocess.channels, &bound)
    }

    fn check_identity(&self, check: &Check) -> Result<(), ModelError> {
        let bound = format!("{FORMAT}, the only layout this program knows");
        check.that(self.format == FORMAT, "format", &self.format, &bound)?;
        if let Err(error) = self.name.parse::<Name>() {
            return Err(check.error("name", format!("{:?}", self.name), &error.to_string()));
        }
        let named = self.file.file_name().is_some() && stays_inside(&self.file);
        check.that(named, "file", &self.file, "an ONNX file beside the manifest or in a folder there, without `..`")?;
        let hash = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        check.that(hash, "sha256", &self.sha256, "64 hexadecimal digits")?;
        let rate = self.frame_rate_hz;
        check.that(rate > 0.0 && rate <= 100_000.0, "frame_rate_hz", &rate, "above 0, to 100000 Hz")
    }

    fn check_shapes(&self, check: &Check) -> Result<(), ModelError> {
        let (window, width) = (self.window_frames, self.embedding);
        let bound = format!("1 to {WINDOW_FRAMES_MAX} frames");
        check.that((1..=WINDOW_FRAMES_MAX).contains(&window), "window_frames", &window, &bound)?;
        let late = self.look_ahead_frames;
        check.that(late < window, "look_ahead_frames", &late, "0, or less than window_frames")?;
        let Shape { channels, height, width: columns } = self.input;
        let bound = format!("1 to {CHANNELS_MAX} channels");
        check.that((1..=CHANNELS_MAX).contains(&channels), "input.channels", &channels, &bound)?;
        let bound = format!("1 to {SIDE_PX_MAX} px");
        check.that((1..=SIDE_PX_MAX).contains(&height), "input.height", &height, &bound)?;
        check.that((1..=SIDE_PX_MAX).contains(&columns), "input.width", &columns, &bound)?;
        let bound = format!("1 to {WIDTH_MAX} values");
        check.that((1..=WIDTH_MAX).contains(&width), "embedding", &width, &bound)?;
        match (self.kind, self.state) {
            (Kind::Streaming, Some(state)) => {
                let good = state.iter().all(|side| (1..=WIDTH_MAX).contains(side));
                check.that(good, "state", &state, &format!("[rows, columns], each 1 to {WIDTH_MAX}"))
            }
            (Kind::Windowed, None) => {
                let values = window * self.input.pixels();
                let bound = format!("window_frames × input is at most {VALUES_MAX} values");
                check.that(values <= VALUES_MAX, "window_frames", &window, &bound)
            }
            (Kind::Streaming, None) => {
                Err(check.error("state", "absent".into(), "[rows, columns] of a streaming model"))
            }
            (Kind::Windowed, Some(state)) => {
                Err(check.error("state", format!("{state:?}"), "absent: a windowed model keeps no state"))
            }
        }
    }

    fn check_labels(&self, check: &Check) -> Result<(), ModelError> {
        let count = self.labels.len();
        check.that(count <= LABELS_MAX, "labels", &format!("{count} labels"), &format!("at most {LABELS_MAX}"))?;
        for (index, label) in self.labels.iter().enumerate() {
            let plain = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.chars().any(char::is_control);
            let key = format!("labels[{index}]");
            check.that(plain, &key, label, &format!("1 to {LABEL_BYTES_MAX} bytes without control characters"))?;
            check.that(!self.labels[..index].contains(label), &key, label, "a label that was not there before")?;
        }
        Ok(())
    }

    /// What training and `calibrate` measured.
    fn check_measured(&self, check: &Check) -> Result<(), ModelError> {
        let count = self.outputs.len();
        check.that(count <= OUTPUTS_MAX, "outputs", &format!("{count} outputs"), &format!("at most {OUTPUTS_MAX}"))?;
        for (index, output) in self.outputs.iter().enumerate() {
            let key = format!("outputs[{index}]");
            output.check(&key, check)?;
            let new = self.outputs[..index].iter().all(|other| other.name != output.name);
            check.that(new, &format!("{key}.name"), &output.name, "a name that was not there before")?;
        }
        if let Some(calibration) = &self.calibration {
            calibration.check(self.labels.len(), check)?;
        }
        if let Some(novelty) = &self.novelty {
            novelty.check(check)?;
        }
        if let Some(adapted) = &self.adapted {
            adapted.check(check)?;
        }
        if let Some(drift) = &self.drift {
            drift.check(self.novelty.is_some(), check)?;
        }
        if let Some(p) = &self.parity {
            check.that(!p.against.is_empty(), "parity.against", &p.against, "what it was compared with")?;
            check.that(p.frames >= 1, "parity.frames", &p.frames, "at least 1 frame")?;
            let difference = p.max_abs_difference;
            let good = difference.is_finite() && difference >= 0.0;
            check.that(good, "parity.max_abs_difference", &difference, "finite, not negative")?;
        }
        Ok(())
    }
}
