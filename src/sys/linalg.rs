//! Principal components: exactly for a report, quickly for a display or for a step of training.
//!
//! Both give the same on every run: nothing is drawn here, and an axis does not flip.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

/// Sweeps of the Jacobi method; it converges quadratically, 128 dimensions need about 8.
const SWEEPS_MAX: usize = 50;
/// Smallest length that a column is divided by.
const LENGTH_MIN: f32 = 1e-12;

/// The first `N` principal components of a cloud of points, with every digit.
pub struct Components<const N: usize> {
    /// Of each dimension.
    pub mean: Array1<f64>,
    /// Rows of length 1 whose largest entry is positive; zero where there are fewer dimensions.
    pub axes: [Vec<f64>; N],
    /// Share of the variance along each, 0 to 1.
    pub shares: [f64; N],
}

impl<const N: usize> Components<N> {
    /// Of these rows of `values`, `[rows, dimensions]`.
    pub fn of(values: ArrayView2<'_, f32>, rows: &[usize]) -> Self {
        let dimensions = values.ncols();
        let mut mean = Array1::zeros(dimensions);
        for &row in rows {
            mean += &values.row(row).mapv(f64::from);
        }
        mean /= rows.len().max(1) as f64;
        let mut covariance = Array2::<f64>::zeros((dimensions, dimensions));
        for &row in rows {
            let centred = values.row(row).mapv(f64::from) - &mean;
            for (i, a) in centred.iter().enumerate() {
                covariance.row_mut(i).scaled_add(*a, &centred);
            }
        }
        let vectors = eigenvectors(&mut covariance);
        let variances: Vec<f64> = covariance.diag().iter().map(|v| v.max(0.0)).collect();
        let total = variances.iter().sum::<f64>();
        let mut order: Vec<usize> = (0..dimensions).collect();
        order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
        let axis = |rank: usize| order.get(rank).map(|&i| signed(vectors.column(i).to_vec()));
        let share = |rank: usize| order.get(rank).filter(|_| total > 0.0).map_or(0.0, |&i| variances[i] / total);
        let axes = std::array::from_fn(|rank| axis(rank).unwrap_or_else(|| vec![0.0; dimensions]));
        Self { mean, axes, shares: std::array::from_fn(share) }
    }
}

/// Of a vector and its negative the one whose largest entry (the first, if several) is positive.
fn signed(mut vector: Vec<f64>) -> Vec<f64> {
    let largest = vector.iter().copied().fold(0.0, |best: f64, v| if v.abs() > best.abs() { v } else { best });
    if largest < 0.0 {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
    vector
}

/// Cyclic Jacobi rotations (Golub & Van Loan, section 8.5): a symmetric `matrix` becomes diagonal, the columns of the result are
/// its eigenvectors.
pub fn eigenvectors(matrix: &mut Array2<f64>) -> Array2<f64> {
    let n = matrix.nrows();
    let mut vectors = Array2::eye(n);
    for _ in 0..SWEEPS_MAX {
        let off: f64 = matrix.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, v)| v * v).sum();
        let on: f64 = matrix.diag().iter().map(|v| v * v).sum();
        if off <= 1e-24 * on {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(matrix, &mut vectors, p, q);
            }
        }
    }
    vectors
}

/// Makes `matrix[p, q]` zero.
fn rotate(matrix: &mut Array2<f64>, vectors: &mut Array2<f64>, p: usize, q: usize) {
    if matrix[[p, q]] == 0.0 {
        return;
    }
    let tau = (matrix[[q, q]] - matrix[[p, p]]) / (2.0 * matrix[[p, q]]);
    let t = tau.signum() / (tau.abs() + tau.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..matrix.nrows() {
        let (a, b) = (matrix[[k, p]], matrix[[k, q]]);
        (matrix[[k, p]], matrix[[k, q]]) = (c * a - s * b, s * a + c * b);
    }
    for k in 0..matrix.nrows() {
        let (a, b) = (matrix[[p, k]], matrix[[q, k]]);
        (matrix[[p, k]], matrix[[q, k]]) = (c * a - s * b, s * a + c * b);
        let (a, b) = (vectors[[k, p]], vectors[[k, q]]);
        (vectors[[k, p]], vectors[[k, q]]) = (c * a - s * b, s * a + c * b);
    }
}

/// The strongest eigenvectors of the positive matrix that `multiply` multiplies by, as columns at right angles, by subspace
/// iteration (Golub & Van Loan, section 8.2) from the columns of `start`. More rounds, more digits.
pub fn strongest(start: Array2<f32>, rounds: usize, multiply: impl Fn(&Array2<f32>) -> Array2<f32>) -> Array2<f32> {
    let mut basis = start;
    for _ in 0..rounds {
        basis = multiply(&basis);
        orthonormalise(&mut basis);
    }
    basis
}

/// Gram–Schmidt on the columns.
fn orthonormalise(basis: &mut Array2<f32>) {
    for column in 0..basis.ncols() {
        for before in 0..column {
            let along = basis.column(before).dot(&basis.column(column));
            let earlier = basis.column(before).to_owned();
            basis.column_mut(column).scaled_add(-along, &earlier);
        }
        let length = basis.column(column).dot(&basis.column(column)).sqrt().max(LENGTH_MIN);
        basis.slice_mut(s![.., column]).mapv_inplace(|v| v / length);
    }
}

/// The two strongest directions through a cloud of points, good enough to draw in.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Of each dimension.
    mean: Vec<f32>,
    /// Of length 1, or 0 where the points do not spread.
    axes: [Vec<f32>; 2],
    /// Standard deviation along each axis.
    sd: [f32; 2],
    /// Share of the variance that lies in their plane, 0 to 1.
    explained: f32,
}

impl Projection {
    /// Of `rows`, from the axes of `former`, so that a picture turns slowly. `None` without rows, or when their lengths differ.
    pub fn of<'a>(rows: impl Iterator<Item = &'a [f32]>, rounds: usize, former: Option<&Self>) -> Option<Self> {
        let rows: Vec<&[f32]> = rows.collect();
        let (count, dimensions) = (rows.len(), rows.first()?.len());
        if dimensions == 0 || rows.iter().any(|row| row.len() != dimensions) {
            return None;
        }
        let mut centred = Array2::from_shape_fn((count, dimensions), |(row, column)| rows[row][column]);
        let mean = centred.mean_axis(Axis(0))?;
        centred -= &mean;
        let former = |i: usize| {
            let axis = &former?.axes[i];
            // Nothing turns away from an axis of length 0.
            (axis.len() == dimensions && axis.iter().any(|v| *v != 0.0)).then_some(axis)
        };
        let begin = |(k, i): (usize, usize)| match former(i) {
            Some(axis) => axis[k],
            // Any start that is orthogonal to nothing in particular.
            None => ((k * 37 + i * 11 + 5) % 23) as f32 - 10.9,
        };
        let start = Array2::from_shape_fn((dimensions, 2), begin);
        // The scatter matrix times the axes, without forming the matrix.
        let axes = strongest(start, rounds, |axes| centred.t().dot(&centred.dot(axes)));
        let along = centred.dot(&axes);
        let variances = [0, 1].map(|i| along.column(i).dot(&along.column(i)) / count as f32);
        let total = centred.iter().map(|v| v * v).sum::<f32>() / count as f32;
        Some(Self {
            mean: mean.to_vec(),
            axes: [0, 1].map(|i| axes.column(i).to_vec()),
            sd: variances.map(f32::sqrt),
            explained: if total > 0.0 { variances.iter().sum::<f32>() / total } else { 0.0 },
        })
    }

    /// Where a point lies in the plane; of as many dimensions as the rows that the plane was found from.
    pub fn project(&self, values: &[f32]) -> [f32; 2] {
        let along =
            |axis: &Vec<f32>| values.iter().zip(&self.mean).zip(axis).map(|((v, m), a)| (v - m) * a).sum::<f32>();
        [along(&self.axes[0]), along(&self.axes[1])]
    }

    /// Dimensions of its points.
    pub fn dimensions(&self) -> usize {
        self.mean.len()
    }

    /// Standard deviation of the points along each axis.
    pub fn sd(&self) -> [f32; 2] {
        self.sd
    }

    /// Share of the variance that lies in their plane, 0 to 1.
    pub fn explained(&self) -> f32 {
        self.explained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on an ellipsoid with axes (1, 1, 0)/√2, (1, −1, 0)/√2 and z, of standard deviations 3, 2, 1.
    fn ellipsoid() -> Array2<f32> {
        let corners = (0..8).map(|i| [i & 1, i >> 1 & 1, i >> 2 & 1].map(|bit| 2.0 * bit as f32 - 1.0));
        let half = 0.5_f32.sqrt();
        let rows: Vec<f32> =
            corners.flat_map(|[a, b, c]| [(3.0 * a + 2.0 * b) * half + 5.0, (3.0 * a - 2.0 * b) * half, c]).collect();
        Array2::from_shape_vec((8, 3), rows).unwrap()
    }

    #[test]
    fn an_axis_does_not_flip_when_the_data_come_in_another_order() {
        let forward = ellipsoid();
        let mut backward = forward.clone();
        backward.invert_axis(Axis(0));
        let rows: Vec<usize> = (0..8).collect();
        let (a, b) = (Components::<3>::of(forward.view(), &rows), Components::<3>::of(backward.view(), &rows));
        assert!(a.axes.iter().flatten().zip(b.axes.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-9));
    }

    #[test]
    fn eigenvectors_of_a_large_matrix_are_orthonormal_and_rebuild_it() {
        let n = 40;
        let original =
            Array2::from_shape_fn((n, n), |(i, j)| 1.0 / (1.0 + i.abs_diff(j) as f64) + (i * j % 7 + j * i % 5) as f64);
        let mut matrix = original.clone();
        let vectors = eigenvectors(&mut matrix);
        let unit = vectors.t().dot(&vectors);
        let rebuilt = vectors.dot(&Array2::from_diag(&matrix.diag())).dot(&vectors.t());
        assert!(unit.iter().zip(Array2::<f64>::eye(n).iter()).all(|(a, b)| (a - b).abs() < 1e-10));
        assert!(rebuilt.iter().zip(original.iter()).all(|(a, b)| (a - b).abs() < 1e-8));
    }

    #[test]
    fn the_quick_way_finds_what_the_exact_way_finds() {
        let values = ellipsoid();
        let exact = Components::<2>::of(values.view(), &(0..8).collect::<Vec<_>>());
        let rows: Vec<Vec<f32>> = values.rows().into_iter().map(|row| row.to_vec()).collect();
        let plane = Projection::of(rows.iter().map(Vec::as_slice), 40, None).unwrap();
        for (axis, other) in exact.axes.iter().zip(&plane.axes) {
            let cosine: f64 = axis.iter().zip(other).map(|(a, b)| a * f64::from(*b)).sum();
            assert!(cosine.abs() > 0.999_99, "{cosine}");
        }
        assert!((f64::from(plane.explained) - exact.shares.iter().sum::<f64>()).abs() < 1e-5);
        assert!((plane.sd[0] - 3.0).abs() < 1e-4 && (plane.sd[1] - 2.0).abs() < 1e-4, "{:?}", plane.sd);
    }

    #[test]
    fn a_plane_turns_from_its_former_axes_and_begins_anew_from_none() {
        let rows: Vec<Vec<f32>> = ellipsoid().rows().into_iter().map(|row| row.to_vec()).collect();
        let fit = |former: Option<&Projection>| Projection::of(rows.iter().map(Vec::as_slice), 30, former).unwrap();
        let first = fit(None);
        let mirrored =
            Projection { axes: first.axes.clone().map(|axis| axis.iter().map(|v| -v).collect()), ..first.clone() };
        let again = fit(Some(&mirrored));
        assert!(again.axes[0].iter().zip(&mirrored.axes[0]).all(|(a, b)| (a - b).abs() < 1e-4));
        let still = [[1.0, 2.0, 3.0]; 4];
        let flat = Projection::of(still.iter().map(<[f32; 3]>::as_slice), 30, None).unwrap();
        assert_eq!((flat.project(&[1.0, 2.0, 3.0]), flat.explained()), ([0.0; 2], 0.0));
        assert!(fit(Some(&flat)).explained() > 0.9);
        assert!(Projection::of(std::iter::empty(), 30, None).is_none());
        assert!(Projection::of([&[1.0][..], &[1.0, 2.0]].into_iter(), 30, None).is_none());
    }
}
