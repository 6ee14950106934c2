//! The first three principal components of a representation: what a person can look at of 128 dimensions.
//!
//! Why it exists: a picture of the embedding that is the same on every run (t-SNE and UMAP depend on a seed and invent
//! clusters). What it must never do: show only frequent actions, or flip an axis between two runs.

use serde::{Deserialize, Serialize};

use crate::dataset::trials::Representation;
use crate::sys::linalg::Components;

/// Components that are kept.
pub const COMPONENTS: usize = 3;
/// Moments from which the covariance is taken at most; more change nothing that can be seen.
const COVARIANCE_MOMENTS_MAX: usize = 20_000;

/// Some moments in the first three principal components.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingView {
    /// Names of the actions.
    pub labels: Vec<String>,
    /// Names of the animals.
    pub animals: Vec<String>,
    /// The moments, in an order in which no group covers another.
    pub points: Vec<EmbeddingPoint>,
    /// Share of the variance that each component explains.
    pub explained: [f64; COMPONENTS],
    /// Moments that there are; `points` is a choice with as many of each action as possible.
    pub moments: usize,
    /// Dimensions before.
    pub dimensions: usize,
}

/// One moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingPoint {
    /// Its components.
    pub at: [f32; COMPONENTS],
    /// Index into [`EmbeddingView::labels`].
    pub label: Option<u8>,
    /// Index into [`EmbeddingView::animals`].
    pub animal: usize,
}

impl EmbeddingView {
    /// Projects at most `points_max` moments, chosen evenly over time within each action. Rows with a value that is not finite
    /// are left out.
    pub fn of(representation: &Representation, points_max: usize) -> Self {
        let values = &representation.values;
        let finite: Vec<usize> =
            (0..values.nrows()).filter(|&row| values.row(row).iter().all(|v| v.is_finite())).collect();
        let components = Components::<COMPONENTS>::of(values, &evenly(&finite, COVARIANCE_MOMENTS_MAX));
        let project = |row: usize| {
            components.axes.each_ref().map(|axis| {
                let centred = values.row(row).into_iter().zip(&components.mean).map(|(&v, m)| f64::from(v) - m);
                centred.zip(axis).map(|(v, c)| v * c).sum::<f64>() as f32
            })
        };
        let points = choose(&finite, &representation.label, points_max)
            .into_iter()
            .map(|row| EmbeddingPoint {
                at: project(row),
                label: representation.label[row],
                animal: representation.animal[row],
            })
            .collect();
        Self {
            labels: representation.labels.clone(),
            animals: representation.animals.clone(),
            points,
            explained: components.shares,
            moments: values.nrows(),
            dimensions: values.ncols(),
        }
    }
}

/// At most `most` of `rows`, so that rare actions are seen: all groups get the same number as far as they have it. Moments
/// without a label are one group. The result is shuffled by a fixed rule.
fn choose(rows: &[usize], label: &[Option<u8>], most: usize) -> Vec<usize> {
    let mut groups: std::collections::BTreeMap<Option<u8>, Vec<usize>> = std::collections::BTreeMap::new();
    rows.iter().for_each(|&row| groups.entry(label[row]).or_default().push(row));
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    // Smallest first: what a small group leaves is shared by the larger ones.
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
    fn ellipsoid() -> Representation {
        let corners = (0..8).map(|i| [i & 1, i >> 1 & 1, i >> 2 & 1].map(|bit| 2.0 * bit as f32 - 1.0));
        let half = 0.5_f32.sqrt();
        let rows: Vec<f32> =
            corners.flat_map(|[a, b, c]| [(3.0 * a + 2.0 * b) * half + 5.0, (3.0 * a - 2.0 * b) * half, c]).collect();
        Representation {
            animals: vec!["a".into()],
            labels: vec!["rest".into(), "walk".into()],
            values: Array2::from_shape_vec((8, 3), rows).unwrap(),
            animal: vec![0; 8],
            trial: vec![0; 8],
            label: vec![Some(0), Some(0), Some(0), Some(0), Some(0), Some(0), Some(0), Some(1)],
        }
    }

    #[test]
    fn the_components_are_the_axes_of_an_ellipsoid_in_the_order_of_their_length() {
        let view = EmbeddingView::of(&ellipsoid(), 100);
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
        let mut representation = ellipsoid();
        representation.values[[0, 1]] = f32::NAN;
        let view = EmbeddingView::of(&representation, 4);
        assert_eq!(view.points.len(), 4);
        assert_eq!(view.points.iter().filter(|p| p.label == Some(1)).count(), 1);
        assert!(view.points.iter().all(|p| p.at.iter().all(|v| v.is_finite())));
    }

    #[test]
    fn no_moments_and_one_dimension_make_no_nan() {
        let mut representation = ellipsoid();
        representation.values = Array2::zeros((8, 1));
        let view = EmbeddingView::of(&representation, 8);
        assert!(view.points.iter().all(|p| p.at == [0.0; 3]));
        representation.values = Array2::zeros((0, 4));
        assert!(EmbeddingView::of(&representation, 8).points.is_empty());
    }
}
