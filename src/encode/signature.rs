//! The inputs and outputs of an ONNX file, compared with the manifest.
//!
//! Why it exists: a model whose tensors differ from its manifest must be refused at start, naming the tensor that differs.
//! What it must never do: run anything, or fill a dimension that neither the file nor the manifest gives.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType};

use super::EncodeError;
use crate::model::names::{EMBEDDING, NEXT_STATE, NOVELTY, OUTPUTS, PROBABILITIES};
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
    pub(super) outputs: Option<Bound>,
    pub(super) novelty: Option<Bound>,
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
                let after = side.named("output", &file.outputs, NEXT_STATE, &[1, rows, columns])?;
                (frame, Some((before, after)))
            }
            _ => {
                let frames = [1, window, shape.channels, shape.height, shape.width];
                (side.named("input", &file.inputs, &file.inputs[0].name, &frames)?, None)
            }
        };
        let only = manifest.kind == Kind::Windowed && file.outputs.len() == 1;
        let name = if only { &file.outputs[0].name } else { EMBEDDING };
        let embedding = side.named("output", &file.outputs, name, &[1, manifest.embedding])?;
        let labels = manifest.labels.len();
        let probabilities =
            (labels > 0).then(|| side.named("output", &file.outputs, PROBABILITIES, &[1, labels])).transpose()?;
        let count = manifest.outputs.len();
        let outputs = (count > 0).then(|| side.named("output", &file.outputs, OUTPUTS, &[1, count])).transpose()?;
        // The novelty of a file that has it is read even if a hand-written manifest does not mention it.
        let tells = manifest.novelty.is_some() || file.outputs.iter().any(|tensor| tensor.name == NOVELTY);
        let novelty = tells.then(|| side.named("output", &file.outputs, NOVELTY, &[1, 1])).transpose()?;
        Ok(Self { frames, embedding, probabilities, outputs, novelty, state })
    }
}

/// Describes the differences of one file.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Shape;
    use crate::model::parameters::Parameters;
    use crate::model::{FORMAT, InputOrigin, Novelty, Provenance};

    fn tensor(name: &str, shape: &[i64]) -> TensorInfo {
        TensorInfo { name: name.into(), dtype: "float32".into(), shape: shape.into() }
    }

    fn windowed() -> Manifest {
        Manifest {
            format: FORMAT,
            name: "m".into(),
            file: "m.onnx".into(),
            sha256: String::new(),
            kind: Kind::Windowed,
            frame_rate_hz: 16.0,
            window_frames: 32,
            look_ahead_frames: 0,
            input: Shape::new(2, 64, 96),
            embedding: 7,
            state: None,
            labels: Vec::new(),
            outputs: Vec::new(),
            provenance: Provenance::default(),
            parity: None,
            input_origin: InputOrigin::Live,
            calibration: None,
            novelty: None,
            drift: None,
            adapted: None,
            preprocess: Parameters::default(),
        }
    }

    fn plan(inputs: &[TensorInfo], outputs: &[TensorInfo]) -> Result<Plan, EncodeError> {
        Plan::new("m.onnx", &Signature { inputs: inputs.into(), outputs: outputs.into() }, &windowed())
    }

    #[test]
    fn free_dimensions_take_the_value_of_the_manifest() {
        let plan = plan(&[tensor("x", &[-1, -1, 2, -1, 96])], &[tensor("y", &[-1, 7])]).unwrap();
        assert_eq!(plan.frames, Bound { name: "x".into(), shape: vec![1, 32, 2, 64, 96] });
        assert_eq!(plan.embedding, Bound { name: "y".into(), shape: vec![1, 7] });
    }

    #[test]
    fn a_novelty_is_one_value_and_is_there_when_the_manifest_says_so() {
        let x = [tensor("x", &[1, 32, 2, 64, 96])];
        let embedding = tensor("embedding", &[1, 7]);
        let with = |novelty: &[i64]| plan(&x, &[embedding.clone(), tensor("novelty", novelty)]);
        assert_eq!(with(&[1, 1]).unwrap().novelty, Some(Bound { name: "novelty".into(), shape: vec![1, 1] }));
        for bad in [&[1][..], &[1, 2], &[]] {
            assert!(matches!(with(bad), Err(EncodeError::Mismatch { what, .. }) if what == "output `novelty`"));
        }
        assert_eq!(plan(&x, std::slice::from_ref(&embedding)).unwrap().novelty, None);
        let mut manifest = windowed();
        manifest.novelty = Some(Novelty { prototypes: 3, thresholds: 2, measured_on: "fly7".into() });
        let file = Signature { inputs: x.to_vec(), outputs: vec![embedding] };
        let error = Plan::new("m.onnx", &file, &manifest).unwrap_err().to_string();
        assert!(error.contains("output `novelty` is not there"), "{error}");
    }

    #[test]
    fn other_ranks_types_and_batches_are_refused() {
        let (x, y) = (tensor("x", &[1, 32, 2, 64, 96]), tensor("y", &[1, 7]));
        assert!(plan(std::slice::from_ref(&x), std::slice::from_ref(&y)).is_ok());
        let double = TensorInfo { dtype: "float64".into(), ..x.clone() };
        for bad in [double, tensor("x", &[32, 2, 64, 96]), tensor("x", &[2, 32, 2, 64, 96]), tensor("x", &[])] {
            assert!(matches!(plan(&[bad], std::slice::from_ref(&y)), Err(EncodeError::Mismatch { .. })));
        }
        for bad in [vec![], vec![tensor("y", &[7])], vec![tensor("a", &[1, 7]), tensor("b", &[1, 7])]] {
            assert!(matches!(plan(std::slice::from_ref(&x), &bad), Err(EncodeError::Mismatch { .. })));
        }
    }
}
