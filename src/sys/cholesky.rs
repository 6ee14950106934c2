//! The Cholesky factor of a symmetric positive matrix, and the linear equations that it solves.
//!
//! The matrix is worked on in panels of columns, so that nearly all of the arithmetic is products of matrices (Golub & Van Loan,
//! section 4.2). Nothing depends on the number of threads: there is one.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, s};

/// Columns of a panel.
const PANEL: usize = 64;

/// A lower triangle L with matrix = L · Lᵀ.
pub struct Cholesky {
    /// What lies above the diagonal is not used.
    lower: Array2<f64>,
}

impl Cholesky {
    /// Of a symmetric `matrix`, of which only the lower triangle is read; `None` when it is not positive definite.
    ///
    /// # Panics
    /// When it is not square.
    pub fn of(mut matrix: Array2<f64>) -> Option<Self> {
        let n = matrix.nrows();
        assert_eq!(n, matrix.ncols(), "a square matrix");
        for first in (0..n).step_by(PANEL) {
            let last = (first + PANEL).min(n);
            factor(&mut matrix, first, last)?;
            // What this panel says of all that lies to the right of it.
            let below = matrix.slice(s![last.., first..last]).to_owned();
            for start in (last..n).step_by(PANEL) {
                let end = (start + PANEL).min(n);
                let (rows, columns) =
                    (below.slice(s![start - last.., ..]), below.slice(s![start - last..end - last, ..]));
                general_mat_mul(-1.0, &rows, &columns.t(), 1.0, &mut matrix.slice_mut(s![start.., start..end]));
            }
        }
        Some(Self { lower: matrix })
    }

    /// The columns x with matrix · x = the columns of `right`.
    ///
    /// # Panics
    /// When `right` has not as many rows as the matrix.
    pub fn solve(&self, mut right: Array2<f64>) -> Array2<f64> {
        let n = self.lower.nrows();
        assert_eq!(n, right.nrows(), "a row for each row of the matrix");
        for i in 0..n {
            let (before, mut row) = right.view_mut().split_at(ndarray::Axis(0), i);
            let mut row = row.row_mut(0);
            row -= &self.lower.slice(s![i, ..i]).dot(&before);
            row /= self.lower[[i, i]];
        }
        for i in (0..n).rev() {
            let (mut row, after) = right.view_mut().split_at(ndarray::Axis(0), i + 1);
            let mut row = row.row_mut(i);
            row -= &self.lower.slice(s![i + 1.., i]).dot(&after);
            row /= self.lower[[i, i]];
        }
        right
    }
}

/// Columns `first` to `last`, given that all before them are taken out.
fn factor(matrix: &mut Array2<f64>, first: usize, last: usize) -> Option<()> {
    let n = matrix.nrows();
    for j in first..last {
        let own = matrix.slice(s![j, first..j]).to_owned();
        let pivot = matrix[[j, j]] - own.dot(&own);
        // Not `<=`: NaN must not pass.
        let positive = pivot > 0.0;
        if !positive {
            return None;
        }
        let root = pivot.sqrt();
        matrix[[j, j]] = root;
        for i in j + 1..n {
            let product = matrix.slice(s![i, first..j]).dot(&own);
            matrix[[i, j]] = (matrix[[i, j]] - product) / root;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_three_has_the_factor_of_the_textbook() {
        let matrix = ndarray::array![[4.0, 12.0, -16.0], [12.0, 37.0, -43.0], [-16.0, -43.0, 98.0]];
        let factor = Cholesky::of(matrix).unwrap();
        let lower = [[2.0, 0.0, 0.0], [6.0, 1.0, 0.0], [-8.0, 5.0, 3.0]];
        for (i, row) in lower.iter().enumerate() {
            (0..=i).for_each(|j| assert!((factor.lower[[i, j]] - row[j]).abs() < 1e-12, "({i}, {j})"));
        }
        let x = factor.solve(ndarray::array![[-20.0], [-43.0], [192.0]]);
        assert!(x.iter().zip([1.0, 2.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{x}");
    }

    #[test]
    fn equations_of_more_than_a_panel_are_solved() {
        let n = 2 * PANEL + 11;
        let root = Array2::from_shape_fn((n, n), |(i, j)| ((i * 31 + j * 17) % 23) as f64 / 23.0 - 0.5);
        let matrix = root.dot(&root.t()) + Array2::<f64>::eye(n);
        let truth = Array2::from_shape_fn((n, 3), |(i, j)| (i * 7 % 13) as f64 - j as f64);
        let found = Cholesky::of(matrix.clone()).unwrap().solve(matrix.dot(&truth));
        assert!(found.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-8));
    }

    #[test]
    fn a_matrix_that_is_not_positive_has_none() {
        assert!(Cholesky::of(ndarray::array![[1.0, 2.0], [2.0, 1.0]]).is_none());
        assert!(Cholesky::of(ndarray::array![[f64::NAN]]).is_none());
        assert!(Cholesky::of(Array2::zeros((0, 0))).is_some());
    }
}
