//! Which moments a step sees: as many kinds of behaviour as there are, not as often as they occur.
//!
//! Why it exists: a fly rests half of its time, and two resting windows teach a contrast nothing; what is rare would hardly
//! ever be seen. So the moments of each animal are sorted by what the body does (its mean posture and how much it moves about
//! it, without regard to the phase of a gait), and batches draw from all sorts alike. What it must never do: see a label.

use ndarray::{Array1, Array2, Axis};
use rand::RngExt;
use rand_pcg::Pcg64;

use super::Behaviour;
use crate::dataset::trials::{Dataset, Moment};
use crate::sys::statistics::{Metric, k_means, spread_starts};

/// Behaviour frames looked back over, and the step between them: about 0.8 s at 100 frames/s.
const REACH: usize = 80;
const STEP: usize = 4;
/// Moments that the sorts are found from, and rounds of it.
const SAMPLES_MAX: usize = 3000;
const ROUNDS: usize = 15;

/// Sorts the moments of one animal into at most `sorts` kinds; empty kinds are left out.
pub fn sorted(
    data: &Dataset,
    behaviour: &Behaviour,
    basis: &Array2<f32>,
    moments: &[Moment],
    sorts: usize,
    random: &mut Pcg64,
) -> Vec<Vec<Moment>> {
    if moments.is_empty() || sorts < 2 {
        return if moments.is_empty() { Vec::new() } else { vec![moments.to_vec()] };
    }
    let mut features = Array2::zeros((moments.len(), 2 * basis.ncols()));
    for (moment, row) in moments.iter().zip(features.outer_iter_mut()) {
        posture_and_motion(data, behaviour, basis, *moment, row);
    }
    standardise(&mut features);
    let centres = centres(&features, sorts, random);
    let mut kinds = vec![Vec::new(); centres.nrows()];
    for (moment, (kind, _)) in moments.iter().zip(Metric::Euclidean.nearest(&features, &centres)) {
        kinds[kind].push(*moment);
    }
    kinds.retain(|kind| !kind.is_empty());
    kinds
}

/// Mean and standard deviation of each component over the last moments.
fn posture_and_motion(
    data: &Dataset,
    behaviour: &Behaviour,
    basis: &Array2<f32>,
    moment: Moment,
    mut row: ndarray::ArrayViewMut1<'_, f32>,
) {
    let components = basis.ncols();
    let newest = data.trials[moment.trial].behaviour_at[moment.frame] as usize;
    let (mut sums, mut squares) = (Array1::<f32>::zeros(components), Array1::<f32>::zeros(components));
    let count = (REACH / STEP + 1) as f32;
    for back in (0..=REACH).step_by(STEP) {
        let at = behaviour.pose(moment.trial, newest.saturating_sub(back)).dot(basis);
        squares += &(&at * &at);
        sums += &at;
    }
    for component in 0..components {
        let mean = sums[component] / count;
        row[component] = mean;
        row[components + component] = (squares[component] / count - mean * mean).max(0.0).sqrt();
    }
}

fn standardise(features: &mut Array2<f32>) {
    for mut column in features.axis_iter_mut(Axis(1)) {
        let mean = column.mean().unwrap_or_default();
        let sd = column.std(0.0).max(1e-6);
        column.mapv_inplace(|v| (v - mean) / sd);
    }
}

/// k-means from a seeded k-means++ start, over moments drawn at random.
fn centres(features: &Array2<f32>, sorts: usize, random: &mut Pcg64) -> Array2<f32> {
    let rows: Vec<usize> =
        (0..features.nrows().min(SAMPLES_MAX)).map(|_| random.random_range(0..features.nrows())).collect();
    let samples = features.select(Axis(0), &rows);
    let draw = |distances: &Array1<f32>| {
        let mut left = random.random::<f32>() * distances.iter().sum::<f32>();
        let drawn = distances.iter().position(|d| {
            left -= d;
            left <= 0.0
        });
        drawn.unwrap_or(samples.nrows() - 1)
    };
    let starts = spread_starts(&samples, sorts.min(samples.nrows()), Metric::Euclidean, 0, draw);
    k_means(&samples, starts, Metric::Euclidean, ROUNDS)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn centres_find_three_separate_clouds_of_unequal_size() {
        let mut random = Pcg64::seed_from_u64(3);
        let (count, at) = (600, [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]);
        let rows: Vec<f32> = (0..count)
            .flat_map(|row| {
                let cloud = if row < 540 { 0 } else { 1 + row % 2 };
                at[cloud].map(|v| v + random.random::<f32>() - 0.5)
            })
            .collect();
        let features = Array2::from_shape_vec((count, 2), rows).unwrap();
        let centres = centres(&features, 3, &mut random);
        for cloud in at {
            let cloud = Array2::from(vec![cloud]);
            assert!(Metric::Euclidean.nearest(&cloud, &centres)[0].1 < 0.2, "{centres}");
        }
    }
}
