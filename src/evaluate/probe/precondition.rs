//! An estimate of the inverse Hessian of a probe's loss: that of equally likely classes.
//!
//! Why it exists: the dimensions of an embedding are correlated, and plain L-BFGS then needs hundreds of passes over the data; with
//! this estimate, tens. What it must never do: change where the minimum lies (a preconditioner cannot, it only steers).

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

/// Above this only the diagonal is used: the inverse would take longer than it saves.
const DIMENSIONS_MAX: usize = 512;
/// Rows whose products are summed in f32.
const CHUNK_ROWS: usize = 1024;

/// The estimate, the same for each class.
pub(super) struct Precondition {
    weights: Inverse,
    intercept: f64,
    classes: usize,
}

enum Inverse {
    Full(Array2<f64>),
    Diagonal(Array1<f64>),
}

impl Precondition {
    /// For rows `values` with `row_weights` summing to `total`, `classes` classes, and a penalty of `strength` on weights and,
    /// if `anchored`, intercepts.
    pub fn new(values: ArrayView2<f32>, row_weights: &[f64], classes: usize, strength: f64, anchored: bool) -> Self {
        let total: f64 = row_weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        // p (1 − p) at p = 1 / classes.
        let curvature = (1.0 - 1.0 / classes as f64) / classes as f64;
        let ridge = strength + 1e-9;
        let weights = if values.ncols() > DIMENSIONS_MAX {
            let mut diagonal = Array1::from_elem(values.ncols(), ridge);
            for (row, weight) in values.rows().into_iter().zip(row_weights) {
                diagonal.zip_mut_with(&row, |d, v| *d += curvature / total * weight * f64::from(*v).powi(2));
            }
            Inverse::Diagonal(diagonal.mapv(f64::recip))
        } else {
            let mut hessian = second_moments(values, row_weights) * (curvature / total);
            hessian.diag_mut().mapv_inplace(|d| d + ridge);
            inverted(hessian)
        };
        let intercept = 1.0 / (curvature + if anchored { strength } else { 0.0 });
        Self { weights, intercept, classes }
    }

    /// Multiplies a gradient, weights `[dimensions, classes]` then intercepts, by the estimate.
    pub fn apply(&self, flat: &mut [f64]) {
        let at = flat.len() - self.classes;
        let (weights, intercepts) = flat.split_at_mut(at);
        intercepts.iter_mut().for_each(|v| *v *= self.intercept);
        match &self.weights {
            Inverse::Diagonal(inverse) => {
                let rows = weights.chunks_exact_mut(self.classes).zip(inverse);
                rows.for_each(|(row, inverse)| row.iter_mut().for_each(|v| *v *= inverse));
            }
            Inverse::Full(inverse) => {
                let Ok(gradient) = ArrayView2::from_shape((inverse.nrows(), self.classes), &*weights) else { return };
                let product = inverse.dot(&gradient);
                weights.iter_mut().zip(&product).for_each(|(v, product)| *v = *product);
            }
        }
    }
}

/// Σ weight × x xᵀ.
fn second_moments(values: ArrayView2<f32>, row_weights: &[f64]) -> Array2<f64> {
    let mut sum = Array2::<f64>::zeros((values.ncols(), values.ncols()));
    for first in (0..values.nrows()).step_by(CHUNK_ROWS) {
        let last = (first + CHUNK_ROWS).min(values.nrows());
        let chunk = values.slice(s![first..last, ..]);
        let weights: Array1<f32> = row_weights[first..last].iter().map(|&w| w as f32).collect();
        let weighted = &chunk * &weights.insert_axis(Axis(1));
        sum.zip_mut_with(&chunk.t().dot(&weighted), |sum, part| *sum += f64::from(*part));
    }
    // Rounding leaves it slightly asymmetric.
    (&sum + &sum.t()) * 0.5
}

/// The inverse of a symmetric positive matrix by elimination; its diagonal's where rounding has made it not positive.
fn inverted(matrix: Array2<f64>) -> Inverse {
    let diagonal = matrix.diag().mapv(f64::recip);
    let size = matrix.nrows();
    let mut m = matrix;
    for pivot in 0..size {
        let by = m[[pivot, pivot]];
        if !(by > 0.0 && by.is_finite()) {
            return Inverse::Diagonal(diagonal);
        }
        m[[pivot, pivot]] = 1.0;
        m.row_mut(pivot).mapv_inplace(|v| v / by);
        let row = m.row(pivot).to_owned();
        for other in (0..size).filter(|&other| other != pivot) {
            let factor = std::mem::replace(&mut m[[other, pivot]], 0.0);
            m.row_mut(other).scaled_add(-factor, &row);
        }
    }
    let symmetric = (&m + &m.t()) * 0.5;
    Inverse::Full(symmetric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_small_inverse_is_the_one_computed_by_hand() {
        let Inverse::Full(found) = inverted(array![[4.0, 1.0], [1.0, 3.0]]) else { panic!("it is positive") };
        let expected = array![[3.0, -1.0], [-1.0, 4.0]] / 11.0;
        assert!((&found - &expected).iter().all(|v: &f64| v.abs() < 1e-12), "{found}");
        assert!(matches!(inverted(array![[1.0, 2.0], [2.0, 1.0]]), Inverse::Diagonal(_)));
    }

    #[test]
    fn the_guess_times_the_hessian_of_equal_classes_is_one() {
        let values = array![[1.0f32, 0.5], [-1.0, 0.2], [0.3, -2.0]];
        let weights = [1.0, 2.0, 1.0];
        let guess = Precondition::new(values.view(), &weights, 2, 0.1, true);
        // Hessian of one class: ¼ Σ w x xᵀ / 4 + 0.1.
        let hessian = second_moments(values.view(), &weights) / 16.0 + Array2::<f64>::eye(2) * 0.1;
        let along = array![[0.7, 0.0], [-0.4, 0.0]];
        let mut flat: Vec<f64> = hessian.dot(&along).iter().copied().chain([0.35, 0.0]).collect();
        guess.apply(&mut flat);
        let expected = [0.7, 0.0, -0.4, 0.0, 1.0, 0.0];
        assert!(flat.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{flat:?}");
    }
}
