//! The linear probe: multinomial logistic regression on a frozen representation.
//!
//! Why it exists: the field compares methods by what a linear layer can read from an embedding. What it must never do: depend on
//! the order of classes, or forget that rest is half of all samples.
//!
//! The minimised function is scikit-learn's `LogisticRegression(C=c)`: ½ Σ w² + C Σᵢ sᵢ lossᵢ, the intercept free of penalty.
//! For two classes scikit-learn fits one vector of weights; the same probabilities come out of two vectors with C / 2, which
//! is what is done here.

mod fit;
mod precondition;

use ndarray::{Array1, Array2, ArrayView2};

use crate::sys::statistics::largest;

use super::lbfgs::Outcome;
use crate::sys::exit::{ExitCode, HasExitCode};
pub(super) use fit::checked;
use fit::{Parameters, Problem};

/// Logit of a class that no training row has: far below any other, and finite, so that files and networks can carry it.
/// The logits of the classes that were trained sum to 0, so the largest of them is never below 0.
pub const ABSENT_LOGIT: f32 = -50.0;

/// How classes are weighted in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassWeight {
    /// Each row counts 1.
    None,
    /// Halfway to `Balanced`, by ratios: a row of class c counts in proportion to 1 / √(rows of c), 1 on the mean.
    Root,
    /// Each class counts the same: a row of class c counts rows / (classes × rows of c), rows by their sample weights.
    #[default]
    Balanced,
}

/// How a probe is fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOptions {
    /// Inverse strength of the penalty, as in scikit-learn.
    pub c: f64,
    /// How classes are weighted.
    pub class_weight: ClassWeight,
    /// Fit on features of mean 0 and standard deviation 1 over the training rows. The weights that come out are for the
    /// features as they are.
    pub standardise: bool,
    /// Ends when no component of the mean gradient exceeds this.
    pub tolerance: f64,
    /// Ends after this many steps.
    pub iterations_max: usize,
    /// With more rows than this, a seeded choice stratified by class; each chosen row stands for those that were not.
    pub rows_max: usize,
    /// Seed of that choice.
    pub seed: u64,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            c: 1.0,
            class_weight: ClassWeight::Balanced,
            standardise: true,
            tolerance: 1e-4,
            iterations_max: 200,
            rows_max: 20_000,
            seed: 0,
        }
    }
}

/// Why a probe cannot be fitted or applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// Nothing to learn from.
    #[error("a probe needs at least one labelled sample and one feature; there are {rows} and {features}")]
    Empty {
        /// Rows given.
        rows: usize,
        /// Columns given.
        features: usize,
    },
    /// Lists that must be of one length are not.
    #[error("{rows} samples but {found} {what}: each sample needs one")]
    Length {
        /// Labels or sample weights.
        what: &'static str,
        /// Rows of the features.
        rows: usize,
        /// Entries of the list.
        found: usize,
    },
    /// An invalid weight.
    #[error("sample {row} has weight {value}; weights must be finite and not below 0")]
    SampleWeight {
        /// Which row.
        row: usize,
        /// Its weight.
        value: f64,
    },
    /// A label outside the list of classes.
    #[error("sample {row} has label {label}; there are {classes} classes, counted from 0")]
    Label {
        /// Which row.
        row: usize,
        /// Its label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A value that is not finite.
    #[error("sample {row}, dimension {column} is {value}; leave out samples without a finite embedding")]
    NotFinite {
        /// Which row.
        row: usize,
        /// Which column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// Values without any variation within classes.
    #[error(
        "no value varies within a class: there is no discriminant; leave out constant features, or give more samples"
    )]
    Still,
    /// An option out of bounds.
    #[error("{name} is {value}; it must be finite and above 0")]
    Option {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A prior of another shape.
    #[error("the prior probe has {found:?} weights (dimensions, classes), but the data need {needed:?}")]
    Prior {
        /// Shape of the prior's weights.
        found: (usize, usize),
        /// Shape that fits.
        needed: (usize, usize),
    },
}

impl HasExitCode for ProbeError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

/// One linear layer: logits = x · weights + intercept.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// `[dimensions, classes]`, for features as they are (not standardised).
    pub weights: Array2<f32>,
    /// `[classes]`; [`ABSENT_LOGIT`] for classes that no training row has.
    pub intercept: Array1<f32>,
    /// Which classes training rows had.
    pub trained: Vec<bool>,
    /// How the fit ended; `None` when there was one class, hence nothing to fit.
    pub outcome: Option<Outcome>,
}

impl Probe {
    /// Fits a probe to `values` `[samples, dimensions]` and `labels`, each below `classes`. `sample_weights` multiply the
    /// loss of each sample.
    ///
    /// # Errors
    /// [`ProbeError`] when there is nothing to fit, lists differ in length, a label is too large, a value is not finite, or
    /// an option is not positive. A single class is no error: the probe then always predicts it.
    pub fn fit(
        values: ArrayView2<f32>,
        labels: &[usize],
        classes: usize,
        sample_weights: Option<&[f64]>,
        options: &ProbeOptions,
    ) -> Result<Self, ProbeError> {
        let problem = Problem::new(values, labels, classes, sample_weights, options)?;
        let present: Vec<usize> = (0..classes).filter(|&class| problem.trained[class]).collect();
        if present.len() == 1 {
            return Ok(Self::constant(values.ncols(), present[0], problem.trained));
        }
        let c = if present.len() == 2 { options.c / 2.0 } else { options.c };
        let start = Parameters::zeros(values.ncols(), present.len());
        let (found, outcome) = problem.minimise(&present, &start, 1.0 / c, None, options);
        Ok(Self::from_parameters(&found, &present, &problem, outcome))
    }

    /// Fits a probe that stays near `prior`: minimises ½ `strength` (Σ (w − w₀)² + Σ (b − b₀)²) + C Σ loss, in features of mean 0
    /// (and deviation 1 if the options say so). For a few labelled bouts of a new animal: classes without a bout stay near the
    /// prior.
    ///
    /// # Errors
    /// As [`Probe::fit`], and [`ProbeError::Prior`] when the prior has other dimensions.
    pub fn fit_towards(
        prior: &Self,
        strength: f64,
        values: ArrayView2<f32>,
        labels: &[usize],
        options: &ProbeOptions,
    ) -> Result<Self, ProbeError> {
        let classes = prior.intercept.len();
        if prior.weights.dim() != (values.ncols(), classes) {
            return Err(ProbeError::Prior { found: prior.weights.dim(), needed: (values.ncols(), classes) });
        }
        fit::positive("strength", strength)?;
        let mut problem = Problem::new(values, labels, classes, None, options)?;
        problem.trained.iter_mut().zip(&prior.trained).for_each(|(now, before)| *now |= before);
        let known: Vec<usize> = (0..classes).filter(|&class| problem.trained[class]).collect();
        let start = problem.scaled(prior, &known);
        let anchor = start.to_flat();
        let (found, outcome) = problem.minimise(&known, &start, strength / options.c, Some(&anchor), options);
        Ok(Self::from_parameters(&found, &known, &problem, outcome))
    }

    /// A probe from a network's last layer: weights `[dimensions, classes]`, intercept `[classes]`.
    pub fn from_layer(weights: Array2<f32>, intercept: Array1<f32>) -> Self {
        let trained = intercept.iter().map(|&b| b > ABSENT_LOGIT).collect();
        Self { weights, intercept, trained, outcome: None }
    }

    /// Logits `[samples, classes]`.
    pub fn predict_logits(&self, values: ArrayView2<f32>) -> Array2<f32> {
        let mut logits = values.dot(&self.weights);
        logits += &self.intercept;
        logits
    }

    /// Class of each sample; the first of equals.
    pub fn predict(&self, values: ArrayView2<f32>) -> Vec<usize> {
        self.predict_logits(values).rows().into_iter().map(largest).collect()
    }

    fn constant(dimensions: usize, class: usize, trained: Vec<bool>) -> Self {
        let mut intercept = Array1::from_elem(trained.len(), ABSENT_LOGIT);
        intercept[class] = 0.0;
        Self { weights: Array2::zeros((dimensions, trained.len())), intercept, trained, outcome: None }
    }

    /// Undoes the standardisation and puts each class in its place.
    fn from_parameters(found: &Parameters, classes: &[usize], problem: &Problem, outcome: Outcome) -> Self {
        let count = problem.trained.len();
        let mut weights = Array2::zeros((found.weights.nrows(), count));
        let mut intercept = Array1::from_elem(count, ABSENT_LOGIT);
        for (column, &class) in classes.iter().enumerate() {
            let scaled = &found.weights.column(column) / &problem.deviation;
            intercept[class] = (found.intercept[column] - scaled.dot(&problem.mean)) as f32;
            weights.column_mut(class).assign(&scaled.mapv(|v| v as f32));
        }
        Self { weights, intercept, trained: problem.trained.clone(), outcome: Some(outcome) }
    }
}

/// Probabilities of each row of logits.
pub fn softmax(logits: ArrayView2<f32>) -> Array2<f32> {
    let mut probabilities = logits.to_owned();
    for mut row in probabilities.rows_mut() {
        let top = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|v| (v - top).exp());
        let sum = row.sum();
        row.mapv_inplace(|v| v / sum);
    }
    probabilities
}

#[cfg(test)]
mod tests;
