//! Medians and clusters: one of each, so that the same word means the same number everywhere.

use std::cmp::Ordering;

use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, Axis};

/// The median, of an even number of values the upper of the two in the middle; `None` of none. Reorders `values`.
pub fn median<T: Copy>(values: &mut [T], order: impl FnMut(&T, &T) -> Ordering) -> Option<T> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, order).1)
}

/// p50, p99, p99.9 and the largest: exact, of the sorted values.
pub fn quantiles(values: impl Iterator<Item = f64>) -> [f64; 4] {
    let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    [0.5, 0.99, 0.999, 1.0].map(|share| {
        let rank = (values.len() as f64 * share).ceil().max(1.0) as usize;
        values.get(rank - 1).copied().unwrap_or(f64::NAN)
    })
}

/// Index of the largest value; the first of equals.
pub fn largest(row: ArrayView1<f32>) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

/// What lies near what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Squared Euclidean distance; the centre of rows is their mean.
    Euclidean,
    /// 1 − cosine, of rows of length 1; the centre of rows is the direction of their sum (spherical k-means).
    Cosine,
}

impl Metric {
    /// Of each row its nearest centre and the distance to it.
    pub fn nearest(self, rows: &Array2<f32>, centres: &Array2<f32>) -> Vec<(usize, f32)> {
        match self {
            Self::Euclidean => {
                let distances = |row: ArrayView1<f32>| -> Vec<f32> {
                    centres.rows().into_iter().map(|centre| squared_distance(row, centre)).collect()
                };
                let smallest = |(index, distance): (usize, f32), (at, other): (usize, &f32)| {
                    if *other < distance { (at, *other) } else { (index, distance) }
                };
                let nearest = |row| distances(row).iter().enumerate().fold((0, f32::INFINITY), smallest);
                rows.rows().into_iter().map(nearest).collect()
            }
            Self::Cosine => {
                let cosines = rows.dot(&centres.t());
                let best = |row: ArrayView1<f32>| {
                    let at = largest(row);
                    (at, 1.0 - row[at])
                };
                cosines.rows().into_iter().map(best).collect()
            }
        }
    }

    fn distances(self, rows: &Array2<f32>, to: ArrayView1<f32>) -> Array1<f32> {
        match self {
            Self::Euclidean => rows.rows().into_iter().map(|row| squared_distance(row, to)).collect(),
            Self::Cosine => rows.dot(&to).mapv(|cosine| (1.0 - cosine).max(0.0)),
        }
    }

    /// Makes the sum of `count` rows their centre. False when they have none.
    fn settle(self, mut sum: ArrayViewMut1<f32>, count: f32) -> bool {
        let divisor = match self {
            Self::Euclidean => count,
            Self::Cosine => sum.dot(&sum).sqrt(),
        };
        if divisor > 0.0 {
            sum /= divisor;
        }
        divisor > 0.0
    }
}

fn squared_distance(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Starts for [`k_means`] far from one another (k-means++): the row `first`, then rows that `draw` chooses by the distances of all
/// rows to the nearest start so far, which it should do with a probability ∝ distance.
pub fn spread_starts(
    rows: &Array2<f32>,
    count: usize,
    metric: Metric,
    first: usize,
    mut draw: impl FnMut(&Array1<f32>) -> usize,
) -> Array2<f32> {
    let mut starts = vec![first];
    let mut distances = metric.distances(rows, rows.row(first));
    while starts.len() < count {
        let start = draw(&distances);
        distances.zip_mut_with(&metric.distances(rows, rows.row(start)), |a, b| *a = a.min(*b));
        starts.push(start);
    }
    rows.select(Axis(0), &starts)
}

/// k-means (Lloyd) from `starts`, `[centres, dimensions]`, for at most so many rounds; fewer when nothing moves any more. A centre
/// that loses all its rows moves to the row that is worst served.
pub fn k_means(rows: &Array2<f32>, starts: Array2<f32>, metric: Metric, rounds: usize) -> Array2<f32> {
    let mut centres = starts;
    let mut before = Vec::new();
    for _ in 0..rounds {
        let served = metric.nearest(rows, &centres);
        let assigned: Vec<usize> = served.iter().map(|(centre, _)| *centre).collect();
        if assigned == before {
            break;
        }
        let mut sums = Array2::<f32>::zeros(centres.dim());
        let mut counts = vec![0.0_f32; centres.nrows()];
        for (&own, row) in assigned.iter().zip(rows.rows()) {
            let mut sum = sums.row_mut(own);
            sum += &row;
            counts[own] += 1.0;
        }
        let mut worst: Vec<usize> = (0..served.len()).collect();
        worst.sort_by(|&a, &b| served[b].1.total_cmp(&served[a].1));
        let mut worst = worst.into_iter();
        for (mut sum, count) in sums.rows_mut().into_iter().zip(counts) {
            if !metric.settle(sum.view_mut(), count)
                && let Some(row) = worst.next()
            {
                sum.assign(&rows.row(row));
                metric.settle(sum, 1.0);
            }
        }
        centres = sums;
        before = assigned;
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_median_is_the_upper_middle_and_nothing_has_none() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0], f64::total_cmp), Some(2.0));
        assert_eq!(median(&mut [4, 1, 3, 2], usize::cmp), Some(3));
        assert_eq!(median(&mut [] as &mut [f32], f32::total_cmp), None);
    }

    #[test]
    fn both_metrics_find_the_clouds_and_no_centre_stays_without_rows() {
        let rows = array![[10.0f32, 0.0], [10.0, 0.5], [0.0, 10.0], [0.5, 10.0], [-10.0, 0.0], [-10.0, -0.5]];
        // Two starts in one cloud: the other one must move.
        let starts = rows.select(Axis(0), &[0, 0, 2]);
        let centres = k_means(&rows, starts, Metric::Euclidean, 20);
        let served = Metric::Euclidean.nearest(&rows, &centres);
        assert!(served.iter().all(|(_, distance)| *distance < 0.1), "{centres}");
        let mut directions = rows.clone();
        directions.rows_mut().into_iter().for_each(|mut row| row /= row.dot(&row).sqrt());
        let starts = directions.select(Axis(0), &[0, 0, 2]);
        let centres = k_means(&directions, starts, Metric::Cosine, 20);
        assert!(
            Metric::Cosine.nearest(&directions, &centres).iter().all(|(_, distance)| *distance < 0.01),
            "{centres}"
        );
        assert!(centres.rows().into_iter().all(|c| (c.dot(&c) - 1.0).abs() < 1e-5));
    }

    #[test]
    fn starts_are_drawn_by_the_distance_to_those_before() {
        let rows = array![[0.0f32], [1.0], [5.0]];
        let mut seen = Vec::new();
        let starts = spread_starts(&rows, 3, Metric::Euclidean, 0, |distances| {
            seen.push(distances.to_vec());
            largest(distances.view())
        });
        assert_eq!(seen, [[0.0, 1.0, 25.0], [0.0, 1.0, 0.0]]);
        assert_eq!(starts, array![[0.0], [5.0], [1.0]]);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        assert_eq!(quantiles((1..=1000).rev().map(f64::from)), [500.0, 990.0, 999.0, 1000.0]);
        assert!(quantiles(std::iter::empty())[0].is_nan());
    }
}
