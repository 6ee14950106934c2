//! Novelty: the distance of an embedding from those of training, ranked among samples of held-out animals.
//!
//! Why it exists: a decoder always names an action; novelty shows when a sample is unlike anything it learnt from. What it must
//! never do: rank novelty among training samples, which are near their own prototypes.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand::RngExt;
use rand_pcg::Pcg64;

use super::rows::{below, choose, generator};
use crate::model::head::NoveltyReference;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::statistics::{Metric, k_means, spread_starts};

/// Most training rows that prototypes are fitted to.
const ROWS_MAX: usize = 20_000;
/// Rounds of k-means; fewer when nothing moves any more.
const ROUNDS: usize = 25;

/// Why no novelty reference can be fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoveltyError {
    /// No embedding that is finite and longer than 0.
    #[error("novelty needs {what} embeddings that are finite and not zero; there are none among {rows}")]
    Empty {
        /// Training or held-out.
        what: &'static str,
        /// Rows given.
        rows: usize,
    },
    /// Different numbers of dimensions.
    #[error("training embeddings have {training} dimensions, held-out ones {held_out}")]
    Dimensions {
        /// Of training.
        training: usize,
        /// Of the held-out samples.
        held_out: usize,
    },
    /// No prototype or no threshold requested.
    #[error("novelty needs at least one prototype and one threshold")]
    Nothing,
}

impl HasExitCode for NoveltyError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

/// Fits `prototypes` directions to `training` (spherical k-means) and takes `thresholds` quantiles of the distances of
/// `held_out` to them; both `[samples, dimensions]`. Rows that are not finite, or zero, are left out. There are never more
/// prototypes than training rows.
///
/// # Errors
/// [`NoveltyError`] when nothing is left or the dimensions differ.
pub fn fit_novelty(
    training: ArrayView2<f32>,
    held_out: ArrayView2<f32>,
    prototypes: usize,
    thresholds: usize,
    seed: u64,
) -> Result<NoveltyReference, NoveltyError> {
    if prototypes == 0 || thresholds == 0 {
        return Err(NoveltyError::Nothing);
    }
    if training.ncols() != held_out.ncols() {
        return Err(NoveltyError::Dimensions { training: training.ncols(), held_out: held_out.ncols() });
    }
    let known = directions(training, "training")?;
    let others = directions(held_out, "held-out")?;
    let mut rng = generator(seed, 20);
    let rows = choose(known.nrows(), ROWS_MAX, &mut rng);
    let known = known.select(Axis(0), &rows);
    let prototypes = prototypes_of(&known, prototypes.min(known.nrows()), &mut rng);
    let served = Metric::Cosine.nearest(&others, &prototypes);
    let mut distances: Vec<f32> = served.into_iter().map(|(_, distance)| distance).collect();
    distances.sort_unstable_by(f32::total_cmp);
    let quantile = |rank: usize| interpolated(&distances, (rank as f64 + 0.5) / thresholds as f64);
    Ok(NoveltyReference { prototypes, thresholds: (0..thresholds).map(quantile).collect() })
}

/// Novelty of one embedding, 0 to 1: the share of held-out samples that lie nearer to training. 1 for an embedding that is
/// not finite.
pub fn novelty_of(reference: &NoveltyReference, embedding: ArrayView1<f32>) -> f32 {
    let length = embedding.dot(&embedding).sqrt();
    if !length.is_finite() {
        return 1.0;
    }
    // An embedding of length 0 points nowhere: its cosine to all is 0.
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    let nearest = reference.prototypes.rows().into_iter().map(|row| row.dot(&embedding) * scale);
    let distance = 1.0 - nearest.fold(-1.0, f32::max);
    let nearer = reference.thresholds.partition_point(|&threshold| threshold < distance);
    nearer as f32 / reference.thresholds.len().max(1) as f32
}

/// Rows of length 1; those without a direction left out.
fn directions(values: ArrayView2<f32>, what: &'static str) -> Result<Array2<f32>, NoveltyError> {
    let length = |row: ArrayView1<f32>| row.dot(&row).sqrt();
    let good: Vec<usize> = (0..values.nrows())
        .filter(|&row| {
            let length = length(values.row(row));
            length.is_finite() && length > 0.0
        })
        .collect();
    if good.is_empty() {
        return Err(NoveltyError::Empty { what, rows: values.nrows() });
    }
    let mut rows = values.select(Axis(0), &good);
    rows.rows_mut().into_iter().for_each(normalise);
    Ok(rows)
}

fn normalise(mut row: ndarray::ArrayViewMut1<f32>) {
    let length = row.dot(&row).sqrt();
    if length > 0.0 {
        row /= length;
    }
}

/// Spherical k-means from k-means++ starts: each further one is drawn with probability ∝ distance to the nearest one so far.
fn prototypes_of(rows: &Array2<f32>, count: usize, rng: &mut Pcg64) -> Array2<f32> {
    let first = below(rng, rows.nrows());
    let draw = |distances: &Array1<f32>| {
        let total: f64 = distances.iter().map(|&d| f64::from(d)).sum();
        let mut left = rng.random::<f64>() * total;
        let drawn = distances.iter().position(|&d| {
            left -= f64::from(d);
            left < 0.0
        });
        // All rows the same: any will do.
        drawn.unwrap_or_else(|| below(rng, rows.nrows()))
    };
    let starts = spread_starts(rows, count, Metric::Cosine, first, draw);
    k_means(rows, starts, Metric::Cosine, ROUNDS)
}

/// The value at `share` of ascending `values`, ranks counted from the middle of each.
fn interpolated(values: &[f32], share: f64) -> f32 {
    let place = (share * values.len() as f64 - 0.5).clamp(0.0, (values.len() - 1) as f64);
    let (low, part) = (place as usize, place.fract() as f32);
    let high = (low + 1).min(values.len() - 1);
    values[low] + part * (values[high] - values[low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Directions around three axes of four.
    fn around_axes(rows: usize, spread: f32, seed: u64) -> Array2<f32> {
        let mut rng = generator(seed, 1);
        Array2::from_shape_fn((rows, 4), |(row, axis)| {
            let noise = (rng.random::<f32>() - 0.5) * spread;
            noise + if row % 3 == axis { 2.0 } else { 0.0 }
        })
    }

    #[test]
    fn prototypes_are_the_directions_that_training_has() {
        let reference = fit_novelty(around_axes(300, 0.1, 1).view(), around_axes(90, 0.3, 2).view(), 3, 50, 0).unwrap();
        for axis in 0..3 {
            let best = reference.prototypes.column(axis).fold(0.0f32, |a, &b| a.max(b));
            assert!(best > 0.999, "{:?}", reference.prototypes);
        }
        let lengths = reference.prototypes.rows().into_iter().map(|r| r.dot(&r));
        assert!(lengths.into_iter().all(|l| (l - 1.0).abs() < 1e-5));
        assert!(reference.thresholds.is_sorted() && reference.thresholds.len() == 50);
    }

    #[test]
    fn held_out_moments_are_spread_evenly_over_novelty_and_a_new_direction_is_the_strangest() {
        let held_out = around_axes(600, 0.5, 3);
        let reference = fit_novelty(around_axes(300, 0.1, 1).view(), held_out.view(), 3, 100, 0).unwrap();
        let novelties: Vec<f32> = held_out.rows().into_iter().map(|row| novelty_of(&reference, row)).collect();
        let share_below = |x: f32| novelties.iter().filter(|&&n| n < x).count() as f32 / 600.0;
        for x in [0.25, 0.5, 0.9] {
            assert!((share_below(x) - x).abs() < 0.02, "{x}: {}", share_below(x));
        }
        assert_eq!(novelty_of(&reference, array![0.0, 0.0, 0.0, 5.0].view()), 1.0);
        assert_eq!(novelty_of(&reference, array![-1.0, 0.0, 0.0, 0.0].view()), 1.0);
        assert_eq!(novelty_of(&reference, array![f32::NAN, 0.0, 0.0, 0.0].view()), 1.0);
        assert!(novelty_of(&reference, array![9.0, 0.0, 0.0, 0.0].view()) < 0.02);
    }

    #[test]
    fn novelty_is_the_share_of_thresholds_below_the_distance() {
        let prototypes = array![[1.0f32, 0.0]];
        let reference = NoveltyReference { prototypes, thresholds: vec![0.0, 0.1, 0.5, 1.5] };
        // A little less than 60° away: distance 0.46, which two thresholds are below.
        let near_60 = array![1.0f32, 0.9 * 3f32.sqrt()];
        assert_eq!(novelty_of(&reference, near_60.view()), 0.5);
        assert_eq!(novelty_of(&reference, array![0.0, 3.0].view()), 0.75);
        assert_eq!(novelty_of(&reference, array![0.0, 0.0].view()), 0.75);
    }

    #[test]
    fn more_prototypes_than_rows_are_as_many_as_rows_and_a_seed_repeats() {
        let few = around_axes(5, 0.1, 1);
        let reference = fit_novelty(few.view(), few.view(), 64, 10, 3).unwrap();
        assert_eq!(reference.prototypes.nrows(), 5);
        assert_eq!(reference, fit_novelty(few.view(), few.view(), 64, 10, 3).unwrap());
        let same = Array2::from_elem((10, 4), 1.0f32);
        let reference = fit_novelty(same.view(), same.view(), 4, 10, 3).unwrap();
        assert!(reference.prototypes.iter().all(|v| (v - 0.5).abs() < 1e-6));
    }

    #[test]
    fn nothing_to_learn_from_is_named() {
        let good = around_axes(5, 0.1, 1);
        let zero = Array2::<f32>::zeros((7, 4));
        let fails = |a: &Array2<f32>, b: &Array2<f32>| fit_novelty(a.view(), b.view(), 2, 2, 0).unwrap_err();
        assert_eq!(fails(&zero, &good), NoveltyError::Empty { what: "training", rows: 7 });
        assert_eq!(fails(&good, &zero), NoveltyError::Empty { what: "held-out", rows: 7 });
        let narrow = Array2::<f32>::zeros((7, 3));
        assert_eq!(fails(&good, &narrow), NoveltyError::Dimensions { training: 4, held_out: 3 });
        assert_eq!(fit_novelty(good.view(), good.view(), 0, 2, 0).unwrap_err(), NoveltyError::Nothing);
    }
}
