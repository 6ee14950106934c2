//! The first three principal components of an embedding, for viewing.
//!
//! Why it exists: a picture of the embedding that is the same on every run (t-SNE and UMAP depend on a seed and invent
//! clusters). What it must never do: show frequent actions only, or flip an axis between two runs.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::sys::linalg::Components;

/// Components kept.
pub const COMPONENTS: usize = 3;
/// Maximum number of samples for the covariance; more change nothing visible.
const COVARIANCE_SAMPLES_MAX: usize = 20_000;

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
        let components = Components::<COMPONENTS>::of(values, &evenly(&finite, COVARIANCE_SAMPLES_MAX));
        let project = |row: usize| {
            components.axes.each_ref().map(|axis| {
                let centred = values.row(row).into_iter().zip(&components.mean).map(|(&v, m)| f64::from(v) - m);
                centred.zip(axis).map(|(v, c)| v * c).sum::<f64>() as f32
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
            explained: components.shares,
            moments: values.nrows(),
            dimensions: values.ncols(),
        }
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
    use ndarray::Array2;

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
