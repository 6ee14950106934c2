//! The manifest beside an ONNX file: what the model expects, what it says, where it comes from.
//!
//! Why it exists: a network is only as good as the input it was trained on. The manifest holds shapes, frame rate, every
//! preprocessing parameter, labels, look-ahead, the file's hash and its measured parity, and refuses a mismatch at start.
//! What it must never do: open an ONNX session (that is `encode`), or fill a gap with a guess.

pub mod head;
pub mod labels;
pub mod onnx_read;
pub mod onnx_write;
pub mod parameters;

mod trained;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::frame::{CHANNELS_MAX, Name, SIDE_PX_MAX, Shape};
use crate::model::parameters::Parameters;
use crate::sys::files::{Action, FileError, sha256_of, write_whole};

pub use trained::{
    Adapted, Calibration, DRIFT_S, Drift, InputOrigin, NOVELTY_EXPECTED, Novelty, PROTOTYPES_MAX, TEMPERATURE,
    THRESHOLDS_MAX,
};

/// Version of the manifest's layout that this program writes and reads.
pub const FORMAT: u32 = 1;
/// Largest manifest read, bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout version, [`FORMAT`].
    pub format: u32,
    /// Name of the model, as published in every decode: `[A-Za-z0-9_.-]`, at most 64.
    pub name: String,
    /// The ONNX file, relative to the manifest.
    pub file: PathBuf,
    /// SHA-256 of the ONNX file, hexadecimal.
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
    /// Where it comes from.
    pub provenance: Provenance,
    /// How exactly the daemon's own encoder reproduced it when it was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// Where the input of training came from; absent = live.
    #[serde(default, skip_serializing_if = "InputOrigin::is_live")]
    pub input_origin: InputOrigin,
    /// How the probabilities were calibrated; absent = nobody measured it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// (`frame` `[1,C,H,W]`, `state` `[1,R,D]`) → (`embedding` `[1,E]`, optional `probabilities` `[1,L]`, `next_state` `[1,R,D]`).
    Streaming,
    /// one input `[1,T,C,H,W]` → `embedding` `[1,E]` (or the only output), optional `probabilities` `[1,L]`.
    Windowed,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// What it was compared with.
    pub against: String,
    /// Frames compared.
    pub frames: usize,
    /// Largest absolute difference of any embedding value.
    pub max_abs_difference: f32,
}

/// A manifest that was read, checked against its file, and knows where that file is.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the manifest says.
    pub manifest: Manifest,
    /// The ONNX file, resolved.
    pub onnx_path: PathBuf,
    /// Where the manifest was read.
    pub manifest_path: PathBuf,
}

/// A manifest or a model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(FileError),
    /// There is no such file.
    #[error(
        "{}: there is no such file; --model (or `model` in the configuration) names a manifest, `haltere model init` makes \
         an untrained model, `haltere model adopt` a manifest for an ONNX file", path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Not a manifest: syntax, unknown or missing keys, with the line.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, key and reason.
        message: String,
    },
    /// A value that cannot be.
    #[error("{}: {key} = {value}: {bound}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// What was written.
        value: String,
        /// What is allowed.
        bound: String,
    },
    /// The ONNX file is not the one the manifest was written for.
    #[error("{}: SHA-256 is {found}, the manifest says {expected}: the file was changed or exchanged; `haltere model inspect` shows both", path.display())]
    Hash {
        /// The ONNX file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// A model of input that no running daemon can make.
    #[error(
        "{}: this model was trained on ready-made ΔF/F (input_origin = \"ready-made\": F0 of whole trials, perhaps denoised with \
         future frames), which no running daemon can make from raw frames; its decodes would mean nothing. Train on the raw \
         channels, or set `accept_ready_made_input = true` if the frames you send are such ΔF/F", path.display()
    )]
    ReadyMade {
        /// The manifest.
        path: PathBuf,
    },
}

impl From<FileError> for ModelError {
    fn from(error: FileError) -> Self {
        match error.action {
            Action::Read => unreadable(&error.path, error.cause),
            Action::Write => Self::Write(error),
        }
    }
}

impl Model {
    /// Reads a manifest (or the manifest beside an `.onnx`), checks every value, and verifies the hash of the ONNX file.
    ///
    /// # Errors
    /// Any [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let model = Self::load_unverified(path)?;
        let found = sha256_of(&model.onnx_path)?;
        if !found.eq_ignore_ascii_case(&model.manifest.sha256) {
            let expected = model.manifest.sha256;
            return Err(ModelError::Hash { path: model.onnx_path, found, expected });
        }
        Ok(model)
    }

    /// As [`Model::load`], without reading the ONNX file. For showing a manifest whose file was exchanged; never for running it.
    ///
    /// # Errors
    /// Any [`ModelError`] but [`ModelError::Hash`].
    pub fn load_unverified(path: &Path) -> Result<Self, ModelError> {
        let is_onnx = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
        let manifest_path = if is_onnx { path.with_extension("toml") } else { path.to_path_buf() };
        let manifest = Manifest::read(&manifest_path)?;
        let onnx_path = manifest_path.parent().unwrap_or(Path::new("")).join(&manifest.file);
        Ok(Self { manifest, onnx_path, manifest_path })
    }

    /// True when its probabilities may be called actions: it was trained, and its classes have names.
    pub fn decodes_actions(&self) -> bool {
        self.manifest.decodes_actions()
    }
}

impl Manifest {
    /// Reads and checks a manifest; does not look at the ONNX file.
    ///
    /// # Errors
    /// [`ModelError::Missing`], [`ModelError::File`], [`ModelError::Syntax`] or [`ModelError::Value`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = read_text(path)?;
        let manifest: Self = toml::from_str(&text)
            .map_err(|error| ModelError::Syntax { path: path.into(), message: describe(&error) })?;
        manifest.check(path)?;
        Ok(manifest)
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

    /// See [`Model::decodes_actions`].
    pub fn decodes_actions(&self) -> bool {
        self.provenance.trained && !self.labels.is_empty()
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
        self.check_trained(&check)?;
        if let Some(p) = &self.parity {
            check.that(!p.against.is_empty(), "parity.against", &p.against, "what it was compared with")?;
            check.that(p.frames >= 1, "parity.frames", &p.frames, "at least 1 frame")?;
            let difference = p.max_abs_difference;
            let good = difference.is_finite() && difference >= 0.0;
            check.that(good, "parity.max_abs_difference", &difference, "finite, not negative")?;
        }
        self.preprocess.check().map_err(|e| check.error(&format!("preprocess.{}", e.key), e.value, e.bound))?;
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
        let named = self.file.file_name().is_some() && self.file.is_relative();
        check.that(named, "file", &self.file, "an ONNX file, relative to the manifest")?;
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
}

/// Says which manifest a value stands in.
struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn that(&self, good: bool, key: &str, value: &dyn std::fmt::Debug, bound: &str) -> Result<(), ModelError> {
        if good { Ok(()) } else { Err(self.error(key, format!("{value:?}"), bound)) }
    }

    fn error(&self, key: &str, value: String, bound: &str) -> ModelError {
        ModelError::Value { path: self.path.into(), key: key.into(), value, bound: bound.into() }
    }
}

fn unreadable(path: &Path, cause: std::io::Error) -> ModelError {
    match cause.kind() {
        std::io::ErrorKind::NotFound => ModelError::Missing { path: path.into() },
        _ => ModelError::File { path: path.into(), cause },
    }
}

fn read_text(path: &Path) -> Result<String, ModelError> {
    let failed = |cause| unreadable(path, cause);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MANIFEST_BYTES_MAX {
        let message = format!("{size} bytes; a manifest has at most {MANIFEST_BYTES_MAX}");
        return Err(ModelError::Syntax { path: path.into(), message });
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// The parser's message (line, key, reason) and, for an unknown word, the nearest known one.
pub fn describe(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let text = text.trim_end();
    // serde says: unknown field `x`, expected one of `a`, `b`
    let mut words = error.message().split('`').skip(1).step_by(2);
    let unknown = error.message().starts_with("unknown ").then(|| words.next()).flatten();
    let Some(unknown) = unknown else { return text.into() };
    let nearest = words.map(|known| (strsim::jaro_winkler(unknown, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, known)) if likeness > 0.7 => format!("{text}\ndid you mean `{known}`?"),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `m.onnx` (five bytes) and its manifest, changed by `edit`.
    fn written(edit: impl FnOnce(&mut Manifest)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.onnx"), b"bytes").unwrap();
        let mut manifest = sound(&sha256_of(&folder.path().join("m.onnx")).unwrap());
        edit(&mut manifest);
        std::fs::write(folder.path().join("m.toml"), toml::to_string_pretty(&manifest).unwrap()).unwrap();
        folder
    }

    fn sound(sha256: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            name: "m".into(),
            file: "m.onnx".into(),
            sha256: sha256.into(),
            kind: Kind::Streaming,
            frame_rate_hz: 16.0,
            window_frames: 32,
            look_ahead_frames: 0,
            input: Shape::new(1, 128, 128),
            embedding: 128,
            state: Some([31, 128]),
            labels: vec!["rest".into(), "walk".into()],
            provenance: Provenance { trained: true, ..Provenance::default() },
            parity: Some(Parity { against: "burn".into(), frames: 3, max_abs_difference: 1e-6 }),
            input_origin: InputOrigin::ReadyMade,
            calibration: Some(Calibration {
                temperature: 1.5,
                measured_on: "fly7".into(),
                moments: 300,
                ece_before: 0.1,
                ece_after: 0.02,
            }),
            novelty: Some(Novelty { prototypes: 64, thresholds: 101, measured_on: "fly7".into() }),
            drift: Some(Drift { time_constant_s: 60.0, limit: 0.8 }),
            adapted: Some(Adapted {
                from_name: "fly".into(),
                from_sha256: "0a".repeat(32),
                recording: "fly8.tif".into(),
                frames: 4000,
                aligned: true,
                refitted_on: 0,
            }),
            preprocess: Parameters::default(),
        }
    }

    #[test]
    fn a_saved_manifest_reads_back_the_same_by_either_of_its_two_names() {
        let folder = written(|_| {});
        let saved = sound(&sha256_of(&folder.path().join("m.onnx")).unwrap());
        saved.save(&folder.path().join("m.toml")).unwrap();
        for name in ["m.toml", "m.onnx"] {
            let model = Model::load(&folder.path().join(name)).unwrap();
            assert_eq!(model.manifest, saved);
            assert_eq!(model.onnx_path, folder.path().join("m.onnx"));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no partial file is left");
    }

    #[test]
    fn every_value_that_cannot_be_is_refused_by_its_key() {
        type Edit = fn(&mut Manifest);
        let cases: [(&str, Edit); 43] = [
            ("format", |m| m.format = 2),
            ("name", |m| m.name = "a/b".into()),
            ("name", |m| m.name.clear()),
            ("file", |m| m.file = "".into()),
            ("file", |m| m.file = "/m.onnx".into()),
            ("sha256", |m| m.sha256 = "12".into()),
            ("frame_rate_hz", |m| m.frame_rate_hz = 0.0),
            ("frame_rate_hz", |m| m.frame_rate_hz = f64::NAN),
            ("window_frames", |m| m.window_frames = 0),
            ("window_frames", |m| m.window_frames = 1025),
            ("look_ahead_frames", |m| m.look_ahead_frames = 32),
            ("input.channels", |m| m.input.channels = 3),
            ("input.height", |m| m.input.height = 0),
            ("input.width", |m| m.input.width = 4097),
            ("embedding", |m| m.embedding = 0),
            ("state", |m| m.state = None),
            ("state", |m| m.state = Some([0, 128])),
            ("state", |m| m.kind = Kind::Windowed),
            ("labels", |m| m.labels = (0..257).map(|i| i.to_string()).collect()),
            ("labels[1]", |m| m.labels[1].clear()),
            ("labels[1]", |m| m.labels[1] = "rest".into()),
            ("labels[0]", |m| m.labels[0] = "a\nb".into()),
            ("parity.frames", |m| m.parity.as_mut().unwrap().frames = 0),
            ("parity.max_abs_difference", |m| m.parity.as_mut().unwrap().max_abs_difference = f32::NAN),
            ("parity.against", |m| m.parity.as_mut().unwrap().against.clear()),
            ("calibration.temperature", |m| m.calibration.as_mut().unwrap().temperature = 0.0),
            ("calibration.measured_on", |m| m.calibration.as_mut().unwrap().measured_on.clear()),
            ("calibration.moments", |m| m.calibration.as_mut().unwrap().moments = 0),
            ("calibration.ece_after", |m| m.calibration.as_mut().unwrap().ece_after = f64::NAN),
            ("calibration", |m| m.labels.clear()),
            ("novelty.prototypes", |m| m.novelty.as_mut().unwrap().prototypes = 0),
            ("novelty.thresholds", |m| m.novelty.as_mut().unwrap().thresholds = 1),
            ("novelty.measured_on", |m| m.novelty.as_mut().unwrap().measured_on = "a\nb".into()),
            ("drift.time_constant_s", |m| m.drift.as_mut().unwrap().time_constant_s = 0.0),
            ("drift.limit", |m| m.drift.as_mut().unwrap().limit = 0.5),
            ("drift.limit", |m| m.drift.as_mut().unwrap().limit = f64::NAN),
            ("drift", |m| m.novelty = None),
            ("adapted.from_name", |m| m.adapted.as_mut().unwrap().from_name.clear()),
            ("adapted.from_sha256", |m| m.adapted.as_mut().unwrap().from_sha256 = "0g".repeat(32)),
            ("adapted.recording", |m| m.adapted.as_mut().unwrap().recording = "x".repeat(1025)),
            ("adapted.frames", |m| m.adapted.as_mut().unwrap().frames = 0),
            ("preprocess.average_frames", |m| m.preprocess.average_frames = 0),
            ("preprocess.channels", |m| m.preprocess.channels = vec![0, 1]),
        ];
        for (expected, edit) in cases {
            let folder = written(edit);
            match Model::load(&folder.path().join("m.toml")) {
                Err(ModelError::Value { key, .. }) => assert_eq!(key, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_exchanged_onnx_file_is_refused_with_both_hashes() {
        let folder = written(|_| {});
        std::fs::write(folder.path().join("m.onnx"), b"other").unwrap();
        let error = Model::load(&folder.path().join("m.toml")).unwrap_err();
        assert!(matches!(&error, ModelError::Hash { found, expected, .. } if found != expected), "{error}");
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line_and_the_nearest_known_key() {
        let folder = written(|_| {});
        let path = folder.path().join("m.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("window_frames", "window_frame");
        std::fs::write(&path, text).unwrap();
        let message = Model::load(&path).unwrap_err().to_string();
        assert!(message.contains("line 7"), "{message}");
        assert!(message.contains("did you mean `window_frames`?"), "{message}");
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_known_word() {
        let folder = written(|_| {});
        let path = folder.path().join("m.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("\"streaming\"", "\"steaming\"");
        std::fs::write(&path, text).unwrap();
        let message = Model::load(&path).unwrap_err().to_string();
        assert!(message.contains("did you mean `streaming`?"), "{message}");
    }

    #[test]
    fn missing_files_and_oversized_manifests_are_named() {
        let folder = written(|_| {});
        let missing = Model::load(&folder.path().join("none.toml")).unwrap_err();
        assert!(missing.to_string().contains("none.toml"), "{missing}");
        std::fs::remove_file(folder.path().join("m.onnx")).unwrap();
        let missing = Model::load(&folder.path().join("m.toml")).unwrap_err();
        assert!(missing.to_string().contains("m.onnx"), "{missing}");
        std::fs::write(folder.path().join("m.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(matches!(Model::load(&folder.path().join("m.toml")), Err(ModelError::Syntax { .. })));
    }

    #[test]
    fn a_manifest_of_an_earlier_version_is_read_as_live_and_as_having_measured_nothing() {
        let folder = written(|_| {});
        let path = folder.path().join("m.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut table: toml::Table = text.parse().unwrap();
        for key in ["input_origin", "calibration", "novelty", "drift", "adapted"] {
            assert!(table.remove(key).is_some(), "{key} is written");
        }
        std::fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
        let model = Model::load(&path).unwrap();
        let m = &model.manifest;
        assert!(m.calibration.is_none() && m.novelty.is_none() && m.drift.is_none() && m.adapted.is_none());
        assert_eq!(m.input_origin, InputOrigin::Live);
        model.refuse_ready_made(false).unwrap();
    }

    #[test]
    fn a_model_of_ready_made_input_is_refused_with_the_reason_and_the_key_that_accepts_it() {
        let folder = written(|_| {});
        let model = Model::load(&folder.path().join("m.toml")).unwrap();
        let message = model.refuse_ready_made(false).unwrap_err().to_string();
        for words in ["m.toml", "ready-made", "no running daemon", "accept_ready_made_input = true"] {
            assert!(message.contains(words), "{words:?} is not in {message}");
        }
        model.refuse_ready_made(true).unwrap();
    }

    #[test]
    fn a_model_without_training_or_without_labels_decodes_no_action() {
        let mut manifest = sound("");
        assert!(manifest.decodes_actions());
        manifest.provenance.trained = false;
        assert!(!manifest.decodes_actions());
        manifest.provenance.trained = true;
        manifest.labels.clear();
        assert!(!manifest.decodes_actions());
    }
}
