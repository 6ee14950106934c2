//! The inputs and outputs of an ONNX file, and whether they are what the manifest says.
//!
//! Why it exists: a model whose tensors differ from its manifest must be refused at start, by the tensor that differs.
//! What it must never do: run anything, or fill a dimension that neither the file nor the manifest gives.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType};

use super::EncodeError;
use crate::model::{Kind, Manifest};

/// Name, type and shape of one input or output of an ONNX file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// `float32`, or what else ONNX calls it.
    pub dtype: String,
    /// Its dimensions; −1 = not fixed by the file.
    pub shape: Vec<i64>,
}

impl std::fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.name, self.dtype, self.shape)
    }
}

/// Inputs and outputs of an ONNX file, in its order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorInfo>,
    /// What it gives.
    pub outputs: Vec<TensorInfo>,
}

impl Signature {
    pub(super) fn of(session: &Session) -> Self {
        let all = |outlets: &[Outlet]| outlets.iter().map(TensorInfo::of).collect();
        Self { inputs: all(session.inputs()), outputs: all(session.outputs()) }
    }
}

impl TensorInfo {
    fn of(outlet: &Outlet) -> Self {
        let dtype = match outlet.dtype().tensor_type() {
            Some(TensorElementType::Float32) => "float32".into(),
            Some(other) => other.to_string(),
            None => "not a tensor".into(),
        };
        let shape = outlet.dtype().tensor_shape().map(|s| s.to_vec()).unwrap_or_default();
        Self { name: outlet.name().into(), dtype, shape }
    }

    /// True when this tensor can hold exactly `wanted`: free dimensions take the manifest's value.
    fn fits(&self, wanted: &[usize]) -> bool {
        let same = |(&have, &want): (&i64, &usize)| have < 0 || usize::try_from(have) == Ok(want);
        self.dtype == "float32" && self.shape.len() == wanted.len() && self.shape.iter().zip(wanted).all(same)
    }
}

/// One tensor to bind: its name in the file and its full shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

/// Every tensor the encoder binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) frames: Bound,
    pub(super) embedding: Bound,
    pub(super) probabilities: Option<Bound>,
    /// `state` and `next_state`.
    pub(super) state: Option<(Bound, Bound)>,
}

impl Plan {
    /// Compares a file with its manifest; the first difference is the error.
    pub(super) fn new(model: &str, file: &Signature, manifest: &Manifest) -> Result<Self, EncodeError> {
        let side = Side { model };
        let (shape, window) = (manifest.input, manifest.window_frames);
        let count = if manifest.kind == Kind::Streaming { 2 } else { 1 };
        if file.inputs.len() != count {
            let names = if count == 2 { "2: `frame` and `state`" } else { "1: the window of frames" };
            return Err(side.mismatch("the number of inputs", side.list(&file.inputs), names.into()));
        }
        let (frames, state) = match (manifest.kind, manifest.state) {
            (Kind::Streaming, Some([rows, columns])) => {
                let frame = [1, shape.channels, shape.height, shape.width];
                let frame = side.named("input", &file.inputs, "frame", &frame)?;
                let before = side.named("input", &file.inputs, "state", &[1, rows, columns])?;
                let after = side.named("output", &file.outputs, "next_state", &[1, rows, columns])?;
                (frame, Some((before, after)))
            }
            _ => {
                let frames = [1, window, shape.channels, shape.height, shape.width];
                (side.named("input", &file.inputs, &file.inputs[0].name, &frames)?, None)
            }
        };
        let only = manifest.kind == Kind::Windowed && file.outputs.len() == 1;
        let name = if only { &file.outputs[0].name } else { "embedding" };
        let embedding = side.named("output", &file.outputs, name, &[1, manifest.embedding])?;
        let labels = manifest.labels.len();
        let probabilities =
            (labels > 0).then(|| side.named("output", &file.outputs, "probabilities", &[1, labels])).transpose()?;
        Ok(Self { frames, embedding, probabilities, state })
    }
}

/// Words the differences of one file.
struct Side<'a> {
    model: &'a str,
}

impl Side<'_> {
    fn named(&self, side: &str, all: &[TensorInfo], name: &str, shape: &[usize]) -> Result<Bound, EncodeError> {
        let what = format!("{side} `{name}`");
        let expected = format!("float32 {shape:?}");
        let Some(found) = all.iter().find(|tensor| tensor.name == name) else {
            return Err(self.mismatch(&what, format!("not there (there is {})", self.list(all)), expected));
        };
        if !found.fits(shape) {
            return Err(self.mismatch(&what, format!("{} {:?}", found.dtype, found.shape), expected));
        }
        Ok(Bound { name: name.into(), shape: shape.into() })
    }

    fn list(&self, all: &[TensorInfo]) -> String {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        format!("{}: {}", all.len(), names.join(", "))
    }

    fn mismatch(&self, what: &str, found: String, expected: String) -> EncodeError {
        EncodeError::Mismatch { model: self.model.into(), what: what.into(), found, expected }
    }
}
