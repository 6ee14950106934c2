//! Sorts samples into kinds of behaviour, so that batches draw from all kinds equally, not as often as they occur.
//!
//! Why it exists: a fly rests half of the time, two resting windows teach a contrast nothing, and rare behaviour would hardly
//! ever be seen. So the samples of each animal are clustered by mean posture and by how much the body moves around it, whatever
//! the phase of a gait. What it must never do: see a label.

use ndarray::{Array1, Array2, Axis};
use rand::RngExt;
use rand_pcg::Pcg64;

use super::Behaviour;
use crate::dataset::trials::{Dataset, Sample};
use crate::sys::statistics::{Metric, k_means, spread_starts};

/// Number of past behaviour frames considered, and the step between them: about 0.8 s at 100 frames/s.
const REACH: usize = 80;
const STEP: usize = 4;
/// Maximum number of samples for k-means, and its rounds.
const SAMPLES_MAX: usize = 3000;
const ROUNDS: usize = 15;

/// Sorts the samples of one animal into at most `sorts` kinds; empty kinds are left out.
pub fn sorted(
    data: &Dataset,
    behaviour: &Behaviour,
    basis: &Array2<f32>,
    samples: &[Sample],
    sorts: usize,
    random: &mut Pcg64,
) -> Vec<Vec<Sample>> {
    if samples.is_empty() || sorts < 2 {
        return if samples.is_empty() { Vec::new() } else { vec![samples.to_vec()] };
    }
    let mut features = Array2::zeros((samples.len(), 2 * basis.ncols()));
    for (sample, row) in samples.iter().zip(features.outer_iter_mut()) {
        posture_and_motion(data, behaviour, basis, *sample, row);
    }
    standardise(&mut features);
    let centres = centres(&features, sorts, random);
    let mut kinds = vec![Vec::new(); centres.nrows()];
    for (sample, (kind, _)) in samples.iter().zip(Metric::Euclidean.nearest(&features, &centres)) {
        kinds[kind].push(*sample);
    }
    kinds.retain(|kind| !kind.is_empty());
    kinds
}

/// Mean and standard deviation of each component over the last behaviour frames.
fn posture_and_motion(
    data: &Dataset,
    behaviour: &Behaviour,
    basis: &Array2<f32>,
    sample: Sample,
    mut row: ndarray::ArrayViewMut1<'_, f32>,
) {
    let components = basis.ncols();
    let newest = data.trials[sample.trial].behaviour_at[sample.frame] as usize;
    let (mut sums, mut squares) = (Array1::<f32>::zeros(components), Array1::<f32>::zeros(components));
    let count = (REACH / STEP + 1) as f32;
    for back in (0..=REACH).step_by(STEP) {
        let at = behaviour.pose(sample.trial, newest.saturating_sub(back)).dot(basis);
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
