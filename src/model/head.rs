//! The pieces of an exported model that are about meaning and not about pixels: classifier, novelty, raw embedding.
//!
//! Why it exists: `calibrate` looks at them and exchanges them; their names in the file are in [`names`](super::names). What it must never do: change anything but the piece it was asked to change.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::names::{ALIGNMENT_MEAN, ALIGNMENT_SD, EMBEDDING, LOGITS, NOVELTY, OUTPUTS, PROBABILITIES, RAW};
use super::onnx::{OnnxFile, OnnxReadError};

/// What makes an embedding strange: how far it lies from those of training, ranked among samples of held-out animals.
#[derive(Clone, Debug, PartialEq)]
pub struct NoveltyReference {
    /// Typical embeddings of training, `[prototypes, dimensions]`, rows of length 1.
    pub prototypes: Array2<f32>,
    /// Ascending quantiles of the distance 1 − max cosine over held-out samples, equally spaced in rank. The novelty of an
    /// embedding is the share of them below its own distance: 0.99 = stranger than 99 % of held-out samples.
    pub thresholds: Vec<f32>,
}

impl NoveltyReference {
    /// Distance of an embedding from the nearest prototype, 1 − max cosine: 0 = the same direction.
    pub fn distance(&self, embedding: &[f32]) -> f32 {
        let cosine = |row: ArrayView1<f32>| row.iter().zip(embedding).map(|(a, b)| a * b).sum::<f32>();
        1.0 - self.prototypes.rows().into_iter().map(cosine).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Novelty of that distance, 0 to 1: the share of thresholds strictly below it.
    pub fn rank(&self, distance: f32) -> f32 {
        self.thresholds.partition_point(|threshold| *threshold < distance) as f32 / self.thresholds.len() as f32
    }
}

/// The last linear layer: embedding → one logit for each label.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[dimensions, labels]`.
    pub weight: Array2<f32>,
    /// One for each label.
    pub bias: Vec<f32>,
}

impl Classifier {
    /// The logits of one embedding.
    pub fn logits(&self, embedding: &[f32]) -> Vec<f32> {
        let mut logits = self.bias.clone();
        for (value, row) in embedding.iter().zip(self.weight.rows()) {
            logits.iter_mut().zip(row).for_each(|(logit, weight)| *logit += value * weight);
        }
        logits
    }

    /// The index of the largest logit, the first of equal ones.
    pub fn strongest(&self, embedding: &[f32]) -> usize {
        let logits = self.logits(embedding);
        (0..logits.len()).fold(0, |best, index| if logits[index] > logits[best] { index } else { best })
    }
}

/// The linear layer that gives continuous outputs: embedding → one number for each, in its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputLayer {
    /// `[dimensions, outputs]`.
    pub weight: Array2<f32>,
    /// One for each output.
    pub bias: Vec<f32>,
}

impl OutputLayer {
    /// The outputs of embeddings `[samples, dimensions]`: `[samples, outputs]`.
    pub fn read(&self, values: ArrayView2<f32>) -> Array2<f32> {
        values.dot(&self.weight) + ArrayView1::from(&self.bias)
    }
}

/// How raw embeddings (before they are brought to length 1) lay in training: the unit for the shift of another animal.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignmentReference {
    /// Mean of each dimension.
    pub mean: Vec<f32>,
    /// Standard deviation of each dimension.
    pub sd: Vec<f32>,
}

impl AlignmentReference {
    /// Of raw embeddings `[samples, dimensions]`; sums in f64 and in order.
    pub fn of(raw: ArrayView2<f32>) -> Self {
        let count = raw.nrows().max(1) as f64;
        let mean: Vec<f64> =
            raw.columns().into_iter().map(|c| c.iter().map(|&v| f64::from(v)).sum::<f64>() / count).collect();
        let spread = raw.columns().into_iter().zip(&mean);
        let sd =
            spread.map(|(c, m)| (c.iter().map(|&v| (f64::from(v) - m).powi(2)).sum::<f64>() / count).sqrt() as f32);
        Self { sd: sd.collect(), mean: mean.iter().map(|&m| m as f32).collect() }
    }
}

/// What stands behind the features in an exported file.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its weights already hold the temperature.
    pub classifier: Option<Classifier>,
    /// Continuous outputs.
    pub outputs: Option<OutputLayer>,
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
        let outputs = matrix(file, &format!("{OUTPUTS}.weight"))?.map(|weight| {
            let bias = needed(file, &format!("{OUTPUTS}.bias"))?;
            Ok(OutputLayer { weight, bias })
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
            outputs: outputs.transpose()?,
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
    let behind = ["length", "divisor", EMBEDDING, LOGITS, PROBABILITIES, OUTPUTS, NOVELTY];
    let written = file.nodes().iter().flat_map(|node| &node.outputs).map(String::as_str);
    let of_novelty = written.filter(|name| name.starts_with("novelty."));
    let removed: Vec<&str> = behind.into_iter().chain(of_novelty).collect();
    raw.remove(&removed);
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

/// Exchanges the layer of the continuous outputs.
///
/// # Errors
/// [`OnnxReadError::Piece`] when there is none, or one of another size.
pub fn set_outputs(file: &mut OnnxFile, layer: &OutputLayer) -> Result<(), OnnxReadError> {
    let weight: Vec<f32> = layer.weight.iter().copied().collect();
    file.set_floats(&format!("{OUTPUTS}.weight"), &weight)?;
    file.set_floats(&format!("{OUTPUTS}.bias"), &layer.bias)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novelty_is_the_share_of_thresholds_strictly_below_the_distance_to_the_nearest_prototype() {
        let prototypes = ndarray::array![[1.0, 0.0], [0.0, 1.0]];
        let reference = NoveltyReference { prototypes, thresholds: vec![0.0, 0.1, 0.2, 0.9] };
        assert_eq!(reference.distance(&[0.8, 0.6]), 1.0 - 0.8);
        let ranks = [0.0, 0.05, 0.1, 0.15, 1.5].map(|distance| reference.rank(distance));
        assert_eq!(ranks, [0.0, 0.25, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn a_classifier_gives_the_products_of_hand() {
        let classifier = Classifier { weight: ndarray::array![[1.0, 2.0], [3.0, -4.0]], bias: vec![0.5, 0.0] };
        assert_eq!(classifier.logits(&[2.0, 1.0]), [5.5, 0.0]);
        assert_eq!((classifier.strongest(&[2.0, 1.0]), classifier.strongest(&[0.0, -1.0])), (0, 1));
    }

    #[test]
    fn outputs_are_the_products_of_hand() {
        let layer = OutputLayer { weight: ndarray::array![[1.0, 2.0], [3.0, -4.0]], bias: vec![0.5, 0.0] };
        assert_eq!(
            layer.read(ndarray::array![[2.0, 1.0], [0.0, 1.0]].view()),
            ndarray::array![[5.5, 0.0], [3.5, -4.0]]
        );
    }

    #[test]
    fn mean_and_sd_are_those_of_hand() {
        let reference = AlignmentReference::of(ndarray::array![[1.0_f32, 5.0], [3.0, 5.0]].view());
        assert_eq!((reference.mean, reference.sd), (vec![2.0, 5.0], vec![1.0, 0.0]));
    }
}
