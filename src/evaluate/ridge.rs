//! Ridge regression: a linear read-out of numbers, in closed form, its penalty chosen inside its own training rows.
//!
//! Why it exists: a model's continuous outputs are read from its frozen embedding as its actions are, by one linear layer. What it must
//! never do: look at a test row.
//!
//! Columns are centred; the penalty counts against the mean variance of a column, so that it means the same for every embedding
//! (Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, 3.4.1). Sums are in f64.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::readout::folds;
use crate::sys::cholesky::Cholesky;

/// Penalties that are tried, in shares of the mean variance of a column.
const PENALTIES: [f64; 8] = [1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0];

/// A number read from an embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// One for each dimension.
    pub weights: Array1<f64>,
    /// Added to the product.
    pub intercept: f64,
    /// What it was penalised with.
    pub penalty: f64,
}

/// Rows to learn from.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    /// `[rows, dimensions]`.
    pub values: ArrayView2<'a, f32>,
    /// The number of each row; all of them finite.
    pub truth: &'a [f64],
}

impl Ridge {
    /// Fits with the penalty of the least squared error on groups left out. `group` states the group of each row. `None` without rows, or where
    /// the truth is the same in all of them.
    pub fn fit(rows: Numbers<'_>, group: &[usize]) -> Option<Self> {
        let all = Moments::of(rows, |_| true)?;
        let folds = folds(group);
        let mut errors = [0.0; PENALTIES.len()];
        for fold in 0..folds.iter().max().map_or(0, |last| last + 1) {
            let Some(others) = Moments::of(rows, |row| folds[row] != fold) else { continue };
            let tested: Vec<usize> = (0..folds.len()).filter(|&row| folds[row] == fold).collect();
            let values = rows.values.select(Axis(0), &tested);
            for (error, &penalty) in errors.iter_mut().zip(&PENALTIES) {
                let found = others.solve(penalty)?.predict(values.view());
                *error += tested.iter().zip(found).map(|(&row, found)| (found - rows.truth[row]).powi(2)).sum::<f64>();
            }
        }
        let best = PENALTIES.iter().zip(errors).rev().min_by(|a, b| a.1.total_cmp(&b.1));
        all.solve(*best?.0)
    }

    /// Fits with this penalty; `None` as of [`Ridge::fit`].
    pub fn with_penalty(rows: Numbers<'_>, penalty: f64) -> Option<Self> {
        Moments::of(rows, |_| true)?.solve(penalty)
    }

    /// The number of each row of `values` `[rows, dimensions]`.
    pub fn predict(&self, values: ArrayView2<f32>) -> Vec<f64> {
        let one = |row: ArrayView1<f32>| row.iter().zip(&self.weights).map(|(&v, w)| f64::from(v) * w).sum::<f64>();
        values.rows().into_iter().map(|row| one(row) + self.intercept).collect()
    }
}

/// Means and centred second moments of some rows.
struct Moments {
    mean: Array1<f64>,
    truth: f64,
    covariance: Array2<f64>,
    with_truth: Array1<f64>,
}

impl Moments {
    fn of(rows: Numbers<'_>, keep: impl Fn(usize) -> bool) -> Option<Self> {
        let kept: Vec<usize> = (0..rows.truth.len()).filter(|&row| keep(row)).collect();
        let count = kept.len() as f64;
        let mut values = rows.values.select(Axis(0), &kept).mapv(f64::from);
        let mean = values.mean_axis(Axis(0))?;
        let truth = kept.iter().map(|&row| rows.truth[row]).sum::<f64>() / count;
        values -= &mean;
        let centred: Array1<f64> = kept.iter().map(|&row| rows.truth[row] - truth).collect();
        let varies = centred.iter().any(|value| *value != 0.0);
        let (covariance, with_truth) = (values.t().dot(&values) / count, values.t().dot(&centred) / count);
        varies.then_some(Self { mean, truth, covariance, with_truth })
    }

    fn solve(&self, penalty: f64) -> Option<Ridge> {
        let mut matrix = self.covariance.clone();
        let mean_variance = matrix.diag().mean().filter(|mean| *mean > 0.0)?;
        matrix.diag_mut().iter_mut().for_each(|value| *value += penalty * mean_variance);
        let right = self.with_truth.clone().insert_axis(Axis(1));
        let weights = Cholesky::of(matrix)?.solve(right).remove_axis(Axis(1));
        let intercept = self.truth - weights.dot(&self.mean);
        Some(Ridge { weights, intercept, penalty })
    }
}

/// How well numbers were read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// 1 − squared error / squared distance from the truth's own mean: 1 is perfect, 0 no better than that mean, negative worse.
    pub r2: f64,
    /// Pearson's correlation; 0 where what was read never changes.
    pub correlation: f64,
}

impl Agreement {
    /// Of what was read with the truth; `None` where the truth never changes.
    pub fn of(truth: &[f64], read: &[f64]) -> Option<Self> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (mean_truth, mean_read) = (mean(truth), mean(read));
        let sum = |of: &dyn Fn(f64, f64) -> f64| truth.iter().zip(read).map(|(&t, &r)| of(t, r)).sum::<f64>();
        let total = sum(&|t, _| (t - mean_truth).powi(2));
        let spread = sum(&|_, r| (r - mean_read).powi(2));
        let together = sum(&|t, r| (t - mean_truth) * (r - mean_read));
        let correlation = if spread > 0.0 { together / (total * spread).sqrt() } else { 0.0 };
        (total > 0.0).then(|| Self { r2: 1.0 - sum(&|t, r| (t - r).powi(2)) / total, correlation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::random::SplitMix;

    fn made(rows: usize, noise: f64) -> (Array2<f32>, Vec<f64>, Vec<usize>) {
        let mut random = SplitMix(7);
        let values = Array2::from_shape_fn((rows, 6), |_| random.signed() + 3.0);
        let truth =
            values.rows().into_iter().map(|r| 2.0 * f64::from(r[1]) - f64::from(r[4]) + 10.0).collect::<Vec<_>>();
        let truth = truth.into_iter().map(|v| v + noise * f64::from(random.signed())).collect();
        (values, truth, (0..rows).map(|row| row * 4 / rows).collect())
    }

    #[test]
    fn a_linear_number_is_read_exactly_and_noise_asks_for_a_penalty() {
        let (values, truth, group) = made(400, 0.0);
        let ridge = Ridge::fit(Numbers { values: values.view(), truth: &truth }, &group).unwrap();
        let found = Agreement::of(&truth, &ridge.predict(values.view())).unwrap();
        assert!(found.r2 > 0.99999 && ridge.penalty == PENALTIES[0], "{found:?} {}", ridge.penalty);
        assert!((ridge.weights[1] - 2.0).abs() < 1e-3 && (ridge.intercept - 10.0).abs() < 1e-2, "{ridge:?}");
        let (values, truth, group) = made(40, 30.0);
        let noisy = Ridge::fit(Numbers { values: values.view(), truth: &truth }, &group).unwrap();
        assert!(noisy.penalty >= 1.0, "{}", noisy.penalty);
    }

    #[test]
    fn agreement_is_that_of_the_textbook() {
        let found = Agreement::of(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0]).unwrap();
        assert!((found.r2 - 0.5).abs() < 1e-12 && (found.correlation - 0.981_980_506).abs() < 1e-9, "{found:?}");
        let flat = Agreement::of(&[1.0, 2.0, 3.0], &[2.0; 3]).unwrap();
        assert_eq!((flat.r2, flat.correlation), (0.0, 0.0));
        assert_eq!(Agreement::of(&[1.0, 1.0], &[0.0, 1.0]), None);
    }

    #[test]
    fn what_never_changes_cannot_be_learnt() {
        let (values, _, group) = made(40, 0.0);
        assert_eq!(Ridge::fit(Numbers { values: values.view(), truth: &[1.0; 40] }, &group), None);
        let none = Array2::zeros((0, 6));
        assert_eq!(Ridge::fit(Numbers { values: none.view(), truth: &[] }, &[]), None);
    }
}
