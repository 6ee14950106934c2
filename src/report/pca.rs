//! The first three principal components of an embedding, for viewing.
//!
//! Why it exists: a picture of the embedding that is the same on every run (t-SNE and UMAP depend on a seed and invent
//! clusters). What it must never do: show frequent actions only, or flip an axis between two runs.

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// Components kept.
pub const COMPONENTS: usize = 3;
/// Maximum number of samples for the covariance; more change nothing visible.
const COVARIANCE_SAMPLES_MAX: usize = 20_000;
/// Sweeps of the Jacobi method; it converges quadratically, 128 dimensions need about 8.
const SWEEPS_MAX: usize = 50;

/// Some samples in the first three principal components.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingView {
    /// Names of the actions.
    pub labels: Vec<String>,
    /// Names of the animals.
    pub animals: Vec<String>,
    /// The samples, in an order in which no group covers another.
    pub points: Vec<EmbeddingPoint>,
    /// Share of the variance that each component explains.
    pub explained: [f64; COMPONENTS],
    /// Number of samples; `points` is a selection with as many of each action as possible.
    pub moments: usize,
    /// Dimensions of the embedding.
    pub dimensions: usize,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingPoint {
    /// Its components.
    pub at: [f32; COMPONENTS],
    /// Index into [`EmbeddingView::labels`].
    pub label: Option<u8>,
    /// Index into [`EmbeddingView::animals`].
    pub animal: usize,
}

/// Embeddings of some animals, with the action of each, as plain values.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings<'a> {
    /// Names of the animals.
    pub animals: &'a [String],
    /// Names of the actions.
    pub labels: &'a [String],
    /// `[samples, dimensions]`, in order of time.
    pub values: ArrayView2<'a, f32>,
    /// Animal of each sample: index into `animals`.
    pub animal: &'a [usize],
    /// Action of each sample: index into `labels`; `None` = unlabelled.
    pub label: &'a [Option<u8>],
}

impl EmbeddingView {
    /// Projects at most `points_max` samples, chosen evenly over time within each action. Rows with a value that is not finite
    /// are left out.
    pub fn of(embeddings: &Embeddings<'_>, points_max: usize) -> Self {
        let values = embeddings.values;
        let finite: Vec<usize> =
            (0..values.nrows()).filter(|&row| values.row(row).iter().all(|v| v.is_finite())).collect();
        let (mean, components, explained) = principal(values, &finite);
        let project = |row: usize| {
            components.each_ref().map(|component| {
                let centred = values.row(row).into_iter().zip(&mean).map(|(&v, m)| f64::from(v) - m);
                centred.zip(component).map(|(v, c)| v * c).sum::<f64>() as f32
            })
        };
        let points = choose(&finite, embeddings.label, points_max)
            .into_iter()
            .map(|row| EmbeddingPoint {
                at: project(row),
                label: embeddings.label[row],
                animal: embeddings.animal[row],
            })
            .collect();
        Self {
            labels: embeddings.labels.to_vec(),
            animals: embeddings.animals.to_vec(),
            points,
            explained,
            moments: values.nrows(),
            dimensions: values.ncols(),
        }
    }
}

/// Mean, components (rows of length 1, zero where there are fewer dimensions) and their shares of the variance.
fn principal(values: ArrayView2<'_, f32>, rows: &[usize]) -> (Array1<f64>, [Vec<f64>; COMPONENTS], [f64; COMPONENTS]) {
    let dimensions = values.ncols();
    let used: Vec<usize> = evenly(rows, COVARIANCE_SAMPLES_MAX);
    let mut mean = Array1::zeros(dimensions);
    for &row in &used {
        mean += &values.row(row).mapv(f64::from);
    }
    mean /= used.len().max(1) as f64;
    let mut covariance = Array2::<f64>::zeros((dimensions, dimensions));
    for &row in &used {
        let centred = values.row(row).mapv(f64::from) - &mean;
        for (i, a) in centred.iter().enumerate() {
            covariance.row_mut(i).scaled_add(*a, &centred);
        }
    }
    let vectors = jacobi(&mut covariance);
    let variances: Vec<f64> = covariance.diag().iter().map(|v| v.max(0.0)).collect();
    let total = variances.iter().sum::<f64>();
    let mut order: Vec<usize> = (0..dimensions).collect();
    order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
    let component = |rank: usize| order.get(rank).map(|&i| signed(vectors.column(i).to_vec()));
    let share = |rank: usize| order.get(rank).filter(|_| total > 0.0).map_or(0.0, |&i| variances[i] / total);
    (
        mean,
        std::array::from_fn(|rank| component(rank).unwrap_or_else(|| vec![0.0; dimensions])),
        std::array::from_fn(share),
    )
}

/// Of a vector and its negative the one whose largest entry (the first, if several) is positive.
fn signed(mut vector: Vec<f64>) -> Vec<f64> {
    let largest = vector.iter().copied().fold(0.0, |best: f64, v| if v.abs() > best.abs() { v } else { best });
    if largest < 0.0 {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
    vector
}

/// Cyclic Jacobi rotations (Golub & Van Loan, section 8.5): `matrix` becomes diagonal, the columns of the result are its
/// eigenvectors.
fn jacobi(matrix: &mut Array2<f64>) -> Array2<f64> {
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

/// At most `most` of `rows`, chosen so that rare actions are visible: all groups get the same number, as far as they have it.
/// Unlabelled samples are one group. The result is shuffled by a fixed rule.
fn choose(rows: &[usize], label: &[Option<u8>], most: usize) -> Vec<usize> {
    let mut groups: std::collections::BTreeMap<Option<u8>, Vec<usize>> = std::collections::BTreeMap::new();
    rows.iter().for_each(|&row| groups.entry(label[row]).or_default().push(row));
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    // Smallest first: the larger groups share what a small group leaves over.
    groups.sort_by_key(Vec::len);
    let mut left = most;
    let count = groups.len();
    let mut chosen = Vec::new();
    for (index, group) in groups.into_iter().enumerate() {
        let taken = evenly(&group, left / (count - index));
        left -= taken.len();
        chosen.extend(taken);
    }
    // Fibonacci hashing: neighbours in time end up far from one another, and no group is painted over another.
    chosen.sort_by_key(|&row| (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    chosen
}

/// At most `most` entries, evenly spaced.
fn evenly(rows: &[usize], most: usize) -> Vec<usize> {
    if rows.len() <= most { rows.to_vec() } else { (0..most).map(|i| rows[i * rows.len() / most]).collect() }
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

    /// Of one animal that rests, and walks at the end.
    fn view_of(values: &Array2<f32>, points_max: usize) -> EmbeddingView {
        let (animals, labels) = (["a".to_owned()], ["rest", "walk"].map(str::to_owned));
        let (animal, mut label) = ([0; 8], [Some(0); 8]);
        label[7] = Some(1);
        let values = values.view();
        let embeddings = Embeddings { animals: &animals, labels: &labels, values, animal: &animal, label: &label };
        EmbeddingView::of(&embeddings, points_max)
    }

    #[test]
    fn the_components_are_the_axes_of_an_ellipsoid_in_the_order_of_their_length() {
        let view = view_of(&ellipsoid(), 100);
        for (share, expected) in view.explained.iter().zip([9.0 / 14.0, 4.0 / 14.0, 1.0 / 14.0]) {
            assert!((share - expected).abs() < 1e-6, "{:?}", view.explained);
        }
        for point in &view.points {
            for (value, expected) in point.at.iter().zip([3.0, 2.0, 1.0]) {
                assert!((value.abs() - expected).abs() < 1e-5, "{point:?}");
            }
        }
    }

    #[test]
    fn an_axis_does_not_flip_when_the_data_come_in_another_order() {
        let forward = ellipsoid();
        let mut backward = forward.clone();
        backward.invert_axis(ndarray::Axis(0));
        let (_, a, _) = principal(forward.view(), &(0..8).collect::<Vec<_>>());
        let (_, b, _) = principal(backward.view(), &(0..8).collect::<Vec<_>>());
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((a - b).abs() < 1e-9);
        }
    }

    #[test]
    fn eigenvectors_of_a_large_matrix_are_orthonormal_and_rebuild_it() {
        let n = 40;
        let original =
            Array2::from_shape_fn((n, n), |(i, j)| 1.0 / (1.0 + i.abs_diff(j) as f64) + (i * j % 7 + j * i % 5) as f64);
        let mut matrix = original.clone();
        let vectors = jacobi(&mut matrix);
        let unit = vectors.t().dot(&vectors);
        let rebuilt = vectors.dot(&Array2::from_diag(&matrix.diag())).dot(&vectors.t());
        assert!(unit.iter().zip(Array2::<f64>::eye(n).iter()).all(|(a, b)| (a - b).abs() < 1e-10));
        assert!(rebuilt.iter().zip(original.iter()).all(|(a, b)| (a - b).abs() < 1e-8));
    }

    #[test]
    fn a_rare_action_is_shown_and_rows_that_are_not_finite_are_not() {
        let mut values = ellipsoid();
        values[[0, 1]] = f32::NAN;
        let view = view_of(&values, 4);
        assert_eq!(view.points.len(), 4);
        assert_eq!(view.points.iter().filter(|p| p.label == Some(1)).count(), 1);
        assert!(view.points.iter().all(|p| p.at.iter().all(|v| v.is_finite())));
    }

    #[test]
    fn no_samples_and_one_dimension_make_no_nan() {
        let view = view_of(&Array2::zeros((8, 1)), 8);
        assert!(view.points.iter().all(|p| p.at == [0.0; 3]));
        assert!(view_of(&Array2::zeros((0, 4)), 8).points.is_empty());
    }
}
