//! The fit of a probe: standardised rows, their weights, the loss and its gradient.
//!
//! What it must never do: let the order of threads or chunks change a sum.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

use super::precondition::Precondition;
use super::{ClassWeight, Probe, ProbeError, ProbeOptions};
use crate::evaluate::lbfgs::{Outcome, minimise};
use crate::evaluate::rows::stratified;

/// Rows whose gradient is summed in f32 before it joins the f64 total.
const CHUNK_ROWS: usize = 1024;

/// Weights `[dimensions, classes]` and intercepts, in the features of the fit.
pub(super) struct Parameters {
    pub weights: Array2<f64>,
    pub intercept: Array1<f64>,
}

impl Parameters {
    pub fn zeros(dimensions: usize, classes: usize) -> Self {
        Self { weights: Array2::zeros((dimensions, classes)), intercept: Array1::zeros(classes) }
    }

    pub fn to_flat(&self) -> Vec<f64> {
        self.weights.iter().chain(&self.intercept).copied().collect()
    }

    fn from_flat(flat: &[f64], dimensions: usize, classes: usize) -> Self {
        let weights = Array2::from_shape_fn((dimensions, classes), |(d, c)| flat[d * classes + c]);
        Self { weights, intercept: Array1::from_iter(flat[dimensions * classes..].iter().copied()) }
    }
}

/// ½ `strength` × squared distance to zero (weights only) or to `anchor` (weights and intercepts). Adds its gradient.
fn penalty(flat: &[f64], weights: usize, anchor: Option<&[f64]>, strength: f64, gradient: &mut [f64]) -> f64 {
    let penalised = if anchor.is_some() { flat.len() } else { weights };
    let mut sum = 0.0;
    for index in 0..penalised {
        let away = flat[index] - anchor.map_or(0.0, |anchor| anchor[index]);
        gradient[index] += strength * away;
        sum += away * away;
    }
    0.5 * strength * sum
}

/// The rows of the fit, as the minimisation sees them.
pub(super) struct Problem {
    values: Array2<f32>,
    labels: Vec<usize>,
    row_weights: Vec<f64>,
    pub mean: Array1<f64>,
    pub deviation: Array1<f64>,
    pub trained: Vec<bool>,
}

impl Problem {
    pub fn new(
        values: ArrayView2<f32>,
        labels: &[usize],
        classes: usize,
        sample_weights: Option<&[f64]>,
        options: &ProbeOptions,
    ) -> Result<Self, ProbeError> {
        checked(values, labels, classes, sample_weights, options)?;
        let (rows, stands_for) = stratified(labels, classes, options.rows_max.max(1), options.seed);
        let of_class = class_weights(labels, classes, sample_weights, options.class_weight);
        let row_weights = rows.iter().zip(&stands_for).map(|(&row, stands_for)| {
            stands_for * of_class[labels[row]] * sample_weights.map_or(1.0, |weights| weights[row])
        });
        let row_weights = row_weights.collect();
        let mut trained = vec![false; classes];
        labels.iter().for_each(|&class| trained[class] = true);
        let labels = rows.iter().map(|&row| labels[row]).collect();
        let mut values = values.select(Axis(0), &rows);
        let (mean, deviation) = mean_and_deviation(values.view(), options.standardise);
        Zip::from(values.rows_mut()).for_each(|mut row| {
            Zip::from(&mut row).and(&mean).and(&deviation).for_each(|v, m, d| *v = ((f64::from(*v) - m) / d) as f32);
        });
        Ok(Self { values, labels, row_weights, mean, deviation, trained })
    }

    /// A probe's weights for `classes`, in the features of this problem. A class unknown to the probe starts at 0.
    pub fn scaled(&self, probe: &Probe, classes: &[usize]) -> Parameters {
        let mut scaled = Parameters::zeros(self.values.ncols(), classes.len());
        for (column, &class) in classes.iter().enumerate().filter(|&(_, &class)| probe.trained[class]) {
            let raw = probe.weights.column(class).mapv(f64::from);
            scaled.intercept[column] = f64::from(probe.intercept[class]) + self.mean.dot(&raw);
            scaled.weights.column_mut(column).assign(&(&raw * &self.deviation));
        }
        scaled
    }

    /// The weights of `classes` that minimise ½ `strength` × squared distance (to `anchor`, or to zero) + Σ loss.
    pub fn minimise(
        &self,
        classes: &[usize],
        start: &Parameters,
        strength: f64,
        anchor: Option<&[f64]>,
        options: &ProbeOptions,
    ) -> (Parameters, Outcome) {
        let mut column_of = vec![0; self.trained.len()];
        classes.iter().enumerate().for_each(|(column, &class)| column_of[class] = column);
        let targets: Vec<usize> = self.labels.iter().map(|&label| column_of[label]).collect();
        let weights = self.values.ncols() * classes.len();
        // The mean loss, as scikit-learn does it: the tolerance then means the same for any number of rows.
        let total: f64 = self.row_weights.iter().sum();
        let scale = if total > 0.0 { 1.0 / total } else { 1.0 };
        let mut flat = start.to_flat();
        let strength = strength * scale;
        let guess = Precondition::new(self.values.view(), &self.row_weights, classes.len(), strength, anchor.is_some());
        let value = |flat: &[f64], gradient: &mut [f64]| {
            let loss = self.loss(flat, &targets, classes.len(), gradient);
            gradient.iter_mut().for_each(|g| *g *= scale);
            loss * scale + penalty(flat, weights, anchor, strength, gradient)
        };
        let outcome = minimise(&mut flat, options.tolerance, options.iterations_max, |v| guess.apply(v), value);
        (Parameters::from_flat(&flat, self.values.ncols(), classes.len()), outcome)
    }

    /// Σ weight × −log p(target), and its gradient. Products in f32, sums over rows in f64.
    fn loss(&self, flat: &[f64], targets: &[usize], classes: usize, gradient: &mut [f64]) -> f64 {
        let dimensions = self.values.ncols();
        let weights = Array2::from_shape_fn((dimensions, classes), |(d, c)| flat[d * classes + c] as f32);
        let intercept = &flat[dimensions * classes..];
        gradient.fill(0.0);
        let mut loss = 0.0;
        let mut excess = vec![0.0; classes];
        for first in (0..self.values.nrows()).step_by(CHUNK_ROWS) {
            let last = (first + CHUNK_ROWS).min(self.values.nrows());
            let chunk = self.values.slice(s![first..last, ..]);
            let mut logits = chunk.dot(&weights);
            for (row, mut logits) in (first..last).zip(logits.rows_mut()) {
                excess.iter_mut().zip(&logits).zip(intercept).for_each(|((e, l), b)| *e = f64::from(*l) + b);
                loss += residual(&mut excess, targets[row], self.row_weights[row]);
                for (class, excess) in excess.iter().enumerate() {
                    gradient[dimensions * classes + class] += excess;
                    logits[class] = *excess as f32;
                }
            }
            let part = chunk.t().dot(&logits);
            gradient.iter_mut().zip(&part).for_each(|(sum, part)| *sum += f64::from(*part));
        }
        loss
    }
}

/// Turns the logits of one row into weight × (probability − target) per class, and returns its weighted loss.
fn residual(logits: &mut [f64], target: usize, weight: f64) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let of_target = logits[target] - top;
    logits.iter_mut().for_each(|v| *v = (*v - top).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|v| *v *= weight / sum);
    logits[target] -= weight;
    weight * (sum.ln() - of_target)
}

/// Mean and standard deviation (of the rows, not estimated for more) of each column. The deviation is 1 when not `wanted`, and
/// for a column that does not vary. The mean is always taken out: the free intercept absorbs it, and f32 keeps more digits.
fn mean_and_deviation(values: ArrayView2<f32>, wanted: bool) -> (Array1<f64>, Array1<f64>) {
    let columns = values.ncols();
    let (mut mean, mut square) = (Array1::<f64>::zeros(columns), Array1::<f64>::zeros(columns));
    let rows = values.nrows() as f64;
    values.rows().into_iter().for_each(|row| mean.zip_mut_with(&row, |m, v| *m += f64::from(*v)));
    mean /= rows;
    if !wanted {
        return (mean, Array1::ones(columns));
    }
    for row in values.rows() {
        Zip::from(&mut square).and(&row).and(&mean).for_each(|s, v, m| *s += (f64::from(*v) - m).powi(2));
    }
    let deviation = Zip::from(&square).and(&mean).map_collect(|square, mean| {
        let deviation = (square / rows).sqrt();
        // Rounding in f32 alone is not variation.
        if deviation > 1e-7 * mean.abs() && deviation > 0.0 { deviation } else { 1.0 }
    });
    (mean, deviation)
}

/// As scikit-learn's `compute_class_weight`: sample weights count.
fn class_weights(labels: &[usize], classes: usize, sample_weights: Option<&[f64]>, how: ClassWeight) -> Vec<f64> {
    let (mut sums, mut occurs) = (vec![0.0; classes], vec![false; classes]);
    for (row, &class) in labels.iter().enumerate() {
        sums[class] += sample_weights.map_or(1.0, |weights| weights[row]);
        occurs[class] = true;
    }
    let (all, present) = (sums.iter().sum::<f64>(), occurs.iter().filter(|&&occurs| occurs).count());
    let roots: f64 = sums.iter().map(|sum| sum.sqrt()).sum();
    let weight = |&sum: &f64| match how {
        ClassWeight::Root if sum > 0.0 => all / (roots * sum.sqrt()),
        ClassWeight::Balanced if sum > 0.0 => all / (present as f64 * sum),
        _ => 1.0,
    };
    sums.iter().map(weight).collect()
}

pub(in crate::evaluate) fn checked(
    values: ArrayView2<f32>,
    labels: &[usize],
    classes: usize,
    sample_weights: Option<&[f64]>,
    options: &ProbeOptions,
) -> Result<(), ProbeError> {
    let (rows, features) = values.dim();
    if rows == 0 || features == 0 {
        return Err(ProbeError::Empty { rows, features });
    }
    positive("c", options.c)?;
    let lists = [("labels", labels.len()), ("sample weights", sample_weights.map_or(rows, <[f64]>::len))];
    for (what, found) in lists {
        if found != rows {
            return Err(ProbeError::Length { what, rows, found });
        }
    }
    let wrong = |&(_, weight): &(usize, &f64)| !(weight.is_finite() && *weight >= 0.0);
    if let Some((row, &value)) = sample_weights.and_then(|weights| weights.iter().enumerate().find(wrong)) {
        return Err(ProbeError::SampleWeight { row, value });
    }
    if let Some((row, &label)) = labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
        return Err(ProbeError::Label { row, label, classes });
    }
    match values.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), &value)) => Err(ProbeError::NotFinite { row, column, value }),
        None => Ok(()),
    }
}

pub(super) fn positive(name: &'static str, value: f64) -> Result<(), ProbeError> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(ProbeError::Option { name, value }) }
}
