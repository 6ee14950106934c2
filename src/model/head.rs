//! The pieces of an exported model that are about meaning and not about pixels: classifier, novelty, raw embedding.
//!
//! Why it exists: `calibrate` looks at them and exchanges them; the names they have in the file are known here and in `export`
//! only. What it must never do: change anything but the piece it was asked to change.

use ndarray::Array2;

use super::onnx_read::{OnnxFile, OnnxReadError};
use crate::dataset::trials::{AlignmentReference, Classifier, NoveltyReference};

/// Names of tensors in the file that others look for.
pub(crate) const RAW: &str = "embedding.raw";
pub(crate) const EMBEDDING: &str = "embedding";
pub(crate) const LOGITS: &str = "logits";
pub(crate) const PROBABILITIES: &str = "probabilities";
pub(crate) const NOVELTY: &str = "novelty";
/// Keys of the file's metadata: how raw embeddings lay in training.
pub(crate) const ALIGNMENT_MEAN: &str = "alignment.mean";
pub(crate) const ALIGNMENT_SD: &str = "alignment.sd";

/// What stands behind the features in an exported file.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its weights already hold the temperature.
    pub classifier: Option<Classifier>,
    /// What the output `novelty` is measured against.
    pub novelty: Option<NoveltyReference>,
    /// How raw embeddings lay in training.
    pub alignment: Option<AlignmentReference>,
}

impl Head {
    /// Finds the pieces.
    ///
    /// # Errors
    /// [`OnnxReadError::Piece`] when one is there that cannot be.
    pub fn of(file: &OnnxFile) -> Result<Self, OnnxReadError> {
        let weight = matrix(file, &format!("{LOGITS}.weight"))?;
        let classifier = weight.map(|weight| {
            let bias = needed(file, &format!("{LOGITS}.bias"))?;
            Ok(Classifier { weight, bias })
        });
        let novelty = matrix(file, &format!("{NOVELTY}.prototypes"))?.map(|prototypes| {
            let thresholds = needed(file, &format!("{NOVELTY}.thresholds"))?;
            Ok(NoveltyReference { prototypes, thresholds })
        });
        let alignment = file.metadata(ALIGNMENT_MEAN).map(|mean| {
            let sd = file.metadata(ALIGNMENT_SD).unwrap_or_default();
            Ok(AlignmentReference { mean: numbers(ALIGNMENT_MEAN, mean)?, sd: numbers(ALIGNMENT_SD, sd)? })
        });
        Ok(Self {
            classifier: classifier.transpose()?,
            novelty: novelty.transpose()?,
            alignment: alignment.transpose()?,
        })
    }
}

/// The same file, but what it calls its embedding is not brought to length 1, and it says nothing else: for looking at raw
/// embeddings through the daemon's own encoder.
///
/// # Errors
/// [`OnnxReadError::Piece`] for a file of a version that did not name its raw embedding.
pub fn raw_only(file: &OnnxFile) -> Result<OnnxFile, OnnxReadError> {
    raw_bias(file)?;
    let mut raw = file.clone();
    let behind = ["length", "divisor", EMBEDDING, LOGITS, PROBABILITIES, NOVELTY];
    let nodes = raw.nodes()?;
    let of_novelty = nodes.iter().map(|n| n.output.as_str()).filter(|name| name.starts_with("novelty."));
    let removed: Vec<&str> = behind.into_iter().chain(of_novelty).collect();
    raw.remove(&removed)?;
    let width = raw_bias(file)?.len();
    raw.node("Identity", &[RAW], EMBEDDING, &[]);
    raw.output(EMBEDDING, &[1, width]);
    Ok(raw)
}

/// Adds a shift to every raw embedding. It goes into the bias of the last layer, so the graph and its speed stay as they are.
///
/// # Errors
/// [`OnnxReadError::Piece`] when there is no such layer or the shift has another length.
pub fn shift_raw(file: &mut OnnxFile, shift: &[f32]) -> Result<(), OnnxReadError> {
    let bias = raw_bias(file)?;
    let name = format!("{RAW}.bias");
    if bias.len() != shift.len() {
        let cause = format!("has {} values, the shift {}", bias.len(), shift.len());
        return Err(OnnxReadError::Piece { name, cause });
    }
    let shifted: Vec<f32> = bias.iter().zip(shift).map(|(b, s)| b + s).collect();
    file.set_floats(&name, &shifted)
}

/// Exchanges the classifier.
///
/// # Errors
/// [`OnnxReadError::Piece`] when there is none, or one of another size.
pub fn set_classifier(file: &mut OnnxFile, classifier: &Classifier) -> Result<(), OnnxReadError> {
    let weight: Vec<f32> = classifier.weight.iter().copied().collect();
    file.set_floats(&format!("{LOGITS}.weight"), &weight)?;
    file.set_floats(&format!("{LOGITS}.bias"), &classifier.bias)
}

fn raw_bias(file: &OnnxFile) -> Result<Vec<f32>, OnnxReadError> {
    needed(file, &format!("{RAW}.bias"))
}

fn needed(file: &OnnxFile, name: &str) -> Result<Vec<f32>, OnnxReadError> {
    let found = file.floats(name)?;
    found.map(|(_, values)| values).ok_or_else(|| OnnxReadError::Piece {
        name: name.into(),
        cause: "is not there: an earlier version exported this file; export it anew".into(),
    })
}

fn matrix(file: &OnnxFile, name: &str) -> Result<Option<Array2<f32>>, OnnxReadError> {
    let Some((shape, values)) = file.floats(name)? else { return Ok(None) };
    let [rows, columns] = shape[..] else {
        return Err(OnnxReadError::Piece { name: name.into(), cause: format!("has the shape {shape:?}") });
    };
    let matrix = Array2::from_shape_vec((rows, columns), values);
    matrix.map(Some).map_err(|e| OnnxReadError::Piece { name: name.into(), cause: e.to_string() })
}

fn numbers(name: &str, text: &str) -> Result<Vec<f32>, OnnxReadError> {
    let parsed = text.split(',').map(str::parse::<f32>).collect::<Result<Vec<_>, _>>();
    parsed.map_err(|e| OnnxReadError::Piece { name: name.into(), cause: format!("is no list of numbers: {e}") })
}
