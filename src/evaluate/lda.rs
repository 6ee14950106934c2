//! Linear discriminant analysis with shrinkage: what a careful linear decoder reads from many pixels and few animals.
//!
//! Why it exists: logistic regression with hardly a penalty is a weak rival on hundreds of correlated pixels; this is the one that
//! a method must beat. What it must never do: weight classes by how often they occur: the priors are equal.
//!
//! Σ = (1 − s) S + s · tr(S)/d · I with the covariance S within classes, pooled over all rows; the logit of class c with mean μ is
//! x·Σ⁻¹μ − ½ μ·Σ⁻¹μ (scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s)` with its log priors taken out).
//! S is a sum over rows, so the moments of groups of rows are taken once and any of the groups can be left out.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::probe::{ABSENT_LOGIT, Probe};
use crate::sys::cholesky::Cholesky;

/// Rows whose products are summed in f32 before they join the f64 total.
const CHUNK_ROWS: usize = 512;
/// Columns whose products are taken at once: half of a symmetric matrix need not be computed.
const PANEL: usize = 256;

/// Counts, sums and products of rows, by class.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Subtracted from every row, so that products keep their digits.
    origin: Array1<f32>,
    /// Rows of each class.
    counts: Vec<f64>,
    /// `[classes, dimensions]`.
    sums: Array2<f64>,
    /// Σ x xᵀ; only its lower triangle is right.
    products: Array2<f64>,
}

impl Moments {
    /// No rows yet, for rows that lie around `origin`.
    pub fn new(origin: Array1<f32>, classes: usize) -> Self {
        let d = origin.len();
        Self { origin, counts: vec![0.0; classes], sums: Array2::zeros((classes, d)), products: Array2::zeros((d, d)) }
    }

    /// Adds the rows of `values`, `[rows, dimensions]`, with their classes.
    ///
    /// # Panics
    /// When lists differ in length, or a class is too large.
    pub fn add_rows(&mut self, values: ArrayView2<'_, f32>, labels: &[usize]) {
        assert_eq!((values.nrows(), values.ncols()), (labels.len(), self.origin.len()), "rows and labels");
        for (chunk, labels) in values.axis_chunks_iter(Axis(0), CHUNK_ROWS).zip(labels.chunks(CHUNK_ROWS)) {
            let centred = &chunk - &self.origin;
            for (row, &class) in centred.rows().into_iter().zip(labels) {
                self.counts[class] += 1.0;
                self.sums.row_mut(class).zip_mut_with(&row, |sum, v| *sum += f64::from(*v));
            }
            self.add_products(centred.view());
        }
    }

    fn add_products(&mut self, rows: ArrayView2<'_, f32>) {
        let d = self.origin.len();
        for first in (0..d).step_by(PANEL) {
            let last = (first + PANEL).min(d);
            let mut part = Array2::<f32>::zeros((d - first, last - first));
            general_mat_mul(1.0, &rows.slice(s![.., first..]).t(), &rows.slice(s![.., first..last]), 0.0, &mut part);
            let mut whole = self.products.slice_mut(s![first.., first..last]);
            whole.zip_mut_with(&part, |sum, v| *sum += f64::from(*v));
        }
    }

    /// Adds the rows of another one with the same origin.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.sums += &other.sums;
        self.products += &other.products;
    }

    /// Takes rows out that were added before.
    pub fn take_out(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a -= b);
        self.sums -= &other.sums;
        self.products -= &other.products;
    }

    /// The discriminant of these rows with this shrinkage, 0 to 1; `None` when it does not exist: no rows, or a covariance that
    /// cannot be inverted (shrinkage 0, or values that do not vary).
    pub fn discriminant(&self, shrinkage: f64) -> Option<Probe> {
        let (classes, d) = self.sums.dim();
        let trained: Vec<bool> = self.counts.iter().map(|&count| count > 0.5).collect();
        let present: Vec<usize> = (0..classes).filter(|&class| trained[class]).collect();
        let rows: f64 = self.counts.iter().sum();
        if present.is_empty() || d == 0 {
            return None;
        }
        let mut means = self.sums.select(Axis(0), &present);
        for (mut mean, &class) in means.rows_mut().into_iter().zip(&present) {
            mean /= self.counts[class];
        }
        let factor = Cholesky::of(self.covariance(&means, &present, rows, shrinkage))?;
        let directions = factor.solve(means.t().to_owned());
        let mut weights = Array2::<f64>::zeros((d, classes));
        let mut intercept = Array1::<f64>::zeros(classes);
        let origin = self.origin.mapv(f64::from);
        for (column, &class) in present.iter().enumerate() {
            let direction = directions.column(column);
            weights.column_mut(class).assign(&direction);
            intercept[class] = -direction.dot(&means.row(column)) / 2.0 - direction.dot(&origin);
        }
        // As those of every probe: the logits of the classes that were trained sum to 0.
        let mean = weights.sum_axis(Axis(1)) / present.len() as f64;
        let level = intercept.sum() / present.len() as f64;
        for &class in &present {
            weights.column_mut(class).zip_mut_with(&mean, |w, m| *w -= m);
            intercept[class] -= level;
        }
        let intercept = (0..classes).map(|class| if trained[class] { intercept[class] as f32 } else { ABSENT_LOGIT });
        Some(Probe { weights: weights.mapv(|w| w as f32), intercept: intercept.collect(), trained, outcome: None })
    }

    /// Lower triangle of the shrunk covariance within classes.
    fn covariance(&self, means: &Array2<f64>, present: &[usize], rows: f64, shrinkage: f64) -> Array2<f64> {
        let mut covariance = self.products.clone();
        // Σ n μ μᵀ, written as one product.
        let mut weighted = means.clone();
        for (mut mean, &class) in weighted.rows_mut().into_iter().zip(present) {
            mean *= self.counts[class];
        }
        general_mat_mul(-1.0, &weighted.t(), means, 1.0, &mut covariance);
        let level = shrinkage * covariance.diag().sum() / rows / means.ncols() as f64;
        covariance *= (1.0 - shrinkage) / rows;
        covariance.diag_mut().mapv_inplace(|v| v + level);
        covariance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve rows of three values, three classes; the numbers below are scikit-learn's for them.
    fn rows() -> (Array2<f32>, Vec<usize>) {
        let value = |(i, j): (usize, usize)| ((i * 37 + j * 11 + i * j * 5) % 29) as f32 / 10.0 + (i % 3 * j) as f32;
        (Array2::from_shape_fn((12, 3), value), (0..12).map(|i| i % 3).collect())
    }

    fn of(values: &Array2<f32>, labels: &[usize], classes: usize) -> Moments {
        let mut moments = Moments::new(values.mean_axis(Axis(0)).unwrap(), classes);
        moments.add_rows(values.view(), labels);
        moments
    }

    #[test]
    fn the_discriminant_is_that_of_scikit_learn() {
        let cases = [
            (
                0.2,
                [[0.14375, 0.181011, -0.324761], [-1.159493, 0.675623, 0.48387], [-2.283582, -0.630566, 2.914148]],
                [9.864765, 2.266836, -12.131601],
            ),
            (
                0.9,
                [[0.248996, 0.356041, -0.605037], [-1.92373, 0.390193, 1.533537], [-2.753283, -0.386554, 3.139837]],
                [12.895806, 2.546289, -15.442095],
            ),
        ];
        let (values, labels) = rows();
        for (shrinkage, weights, intercept) in cases {
            let found = of(&values, &labels, 3).discriminant(shrinkage).unwrap();
            let truth = weights.iter().flatten().chain(&intercept);
            for (found, truth) in found.weights.iter().chain(&found.intercept).zip(truth) {
                assert!((f64::from(*found) - truth).abs() < 1e-3 * truth.abs().max(0.1), "{found} for {truth}");
            }
        }
    }

    #[test]
    fn groups_left_out_are_as_if_they_had_never_been_there() {
        let (values, labels) = rows();
        let mut all = of(&values, &labels, 3);
        let mut last = Moments::new(all.origin.clone(), 3);
        last.add_rows(values.slice(s![8.., ..]), &labels[8..]);
        all.take_out(&last);
        let direct = of(&values.slice(s![..8, ..]).to_owned(), &labels[..8], 3).discriminant(0.3).unwrap();
        let left = all.discriminant(0.3).unwrap();
        let close = |a: &Array2<f32>, b: &Array2<f32>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close(&direct.weights, &left.weights), "{} {}", direct.weights, left.weights);
        let mut both = all.clone();
        both.add(&last);
        let whole = of(&values, &labels, 3).discriminant(0.3).unwrap();
        assert!(close(&both.discriminant(0.3).unwrap().weights, &whole.weights));
    }

    #[test]
    fn a_class_without_rows_is_never_decoded_and_values_that_do_not_vary_have_no_discriminant() {
        let (values, labels) = rows();
        let probe = of(&values, &labels, 5).discriminant(0.2).unwrap();
        assert_eq!(probe.trained, [true, true, true, false, false]);
        assert_eq!((probe.intercept[3], probe.intercept[4]), (ABSENT_LOGIT, ABSENT_LOGIT));
        assert!(probe.predict(values.view()).iter().all(|&class| class < 3));
        let still = Array2::from_elem((6, 2), 1.0);
        assert!(of(&still, &[0, 1, 0, 1, 0, 1], 2).discriminant(0.5).is_none());
        assert!(Moments::new(Array1::zeros(2), 2).discriminant(0.5).is_none());
    }
}
