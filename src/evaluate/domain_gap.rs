//! The domain gap: the distance between animals, in pixels or in an embedding.
//!
//! Why it exists: the gap that augmentations should close must be measured before and after, without labels and without a probe.
//! What it must never do: compare numbers of different kernels: all pairs of one call share one bandwidth.
//!
//! Animals also differ because they do different things; [`DomainGap::within`], the same measure between the first and the
//! second half of each animal's own samples, shows how much distance arises over time alone.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::rows::{choose, generator};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::statistics::median;

/// Maximum number of rows for the median distance.
const BANDWIDTH_ROWS: usize = 1000;

/// How the distance between animals is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct GapOptions {
    /// Multiples of the median distance that serve as the kernels' σ; their mean is the kernel.
    pub bandwidths: Vec<f64>,
    /// Maximum number of samples of each animal, chosen by `seed`.
    pub rows_max: usize,
    /// Seed of that choice.
    pub seed: u64,
}

impl Default for GapOptions {
    fn default() -> Self {
        Self { bandwidths: vec![1.0], rows_max: 500, seed: 0 }
    }
}

/// The median heuristic at five scales, for data whose structure may be finer or coarser than the median distance.
pub const MULTI_KERNEL: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// Distances between animals.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DomainGap {
    /// Mean unbiased MMD² over pairs of animals.
    pub between: f64,
    /// Mean unbiased MMD² between the first and the second half of the same animal.
    pub within: f64,
    /// Mean CORAL distance over pairs of animals.
    pub coral: f64,
    /// The median distance between samples, in the units of the values.
    pub median_distance: f64,
    /// Animals compared, as they were numbered.
    pub animals: Vec<usize>,
    /// MMD² of each pair, `pairs[a][b]`, in the order of `animals`; the diagonal is the halves of one animal.
    pub pairs: Vec<Vec<f64>>,
}

impl DomainGap {
    /// Between animals, in multiples of within; `None` when the halves of an animal do not differ measurably.
    pub fn relative(&self) -> Option<f64> {
        (self.within > 0.0).then(|| self.between / self.within)
    }
}

/// Why animals cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GapError {
    /// Too few animals with enough samples.
    #[error("a domain gap needs two animals with at least 4 samples each; there are {0}")]
    Animals(usize),
    /// Lists of different length.
    #[error("{rows} samples but {found} animal indices: each sample needs one")]
    Length {
        /// Rows of the values.
        rows: usize,
        /// Entries of the list.
        found: usize,
    },
    /// A value that is not finite.
    #[error("sample {0} has a value that is not finite; leave it out")]
    NotFinite(usize),
    /// No kernel.
    #[error("bandwidths must be one or more numbers above 0")]
    Bandwidths,
}

impl HasExitCode for GapError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

/// Distances between the animals of `values` `[samples, dimensions]`; `animal` says whose each sample is, samples of an
/// animal in the order of time.
///
/// # Errors
/// [`GapError`] when fewer than two animals have enough samples, lists differ in length, or a value is not finite.
pub fn domain_gap(values: ArrayView2<f32>, animal: &[usize], options: &GapOptions) -> Result<DomainGap, GapError> {
    let groups = chosen(values, animal, options)?;
    let median_distance = median_distance(&groups, options.seed);
    let sigmas: Vec<f64> = options.bandwidths.iter().map(|b| b * median_distance).collect();
    let halves = |group: &Array2<f64>| {
        let (a, b) = group.view().split_at(Axis(0), group.nrows() / 2);
        mmd2(a, b, &sigmas)
    };
    let count = groups.len();
    let mut pairs = vec![vec![0.0; count]; count];
    let mut coral_sum = 0.0;
    for a in 0..count {
        pairs[a][a] = halves(&groups[a].1);
        for b in 0..a {
            pairs[a][b] = mmd2(groups[a].1.view(), groups[b].1.view(), &sigmas);
            pairs[b][a] = pairs[a][b];
            coral_sum += coral(groups[a].1.view(), groups[b].1.view());
        }
    }
    let of_pairs = (count * (count - 1) / 2) as f64;
    let between: f64 = (0..count).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| pairs[a][b]).sum();
    let within: f64 = (0..count).map(|a| pairs[a][a]).sum();
    Ok(DomainGap {
        between: between / of_pairs,
        within: within / count as f64,
        coral: coral_sum / of_pairs,
        median_distance,
        animals: groups.into_iter().map(|(animal, _)| animal).collect(),
        pairs,
    })
}

/// The samples of each animal that are compared.
fn chosen(
    values: ArrayView2<f32>,
    animal: &[usize],
    options: &GapOptions,
) -> Result<Vec<(usize, Array2<f64>)>, GapError> {
    if animal.len() != values.nrows() {
        return Err(GapError::Length { rows: values.nrows(), found: animal.len() });
    }
    if options.bandwidths.is_empty() || options.bandwidths.iter().any(|b| !(*b > 0.0 && b.is_finite())) {
        return Err(GapError::Bandwidths);
    }
    let finite = |row: ndarray::ArrayView1<f32>| row.iter().all(|v| v.is_finite());
    if let Some(row) = values.rows().into_iter().position(|row| !finite(row)) {
        return Err(GapError::NotFinite(row));
    }
    let mut animals = animal.to_vec();
    animals.sort_unstable();
    animals.dedup();
    let mut groups = Vec::with_capacity(animals.len());
    for own in animals {
        let rows: Vec<usize> = (0..animal.len()).filter(|&row| animal[row] == own).collect();
        if rows.len() >= 4 {
            let mut rng = generator(options.seed, 10 + own as u64);
            let kept: Vec<usize> =
                choose(rows.len(), options.rows_max.max(4), &mut rng).into_iter().map(|at| rows[at]).collect();
            groups.push((own, values.select(Axis(0), &kept).mapv(f64::from)));
        }
    }
    if groups.len() < 2 { Err(GapError::Animals(groups.len())) } else { Ok(groups) }
}

/// Median distance between samples of all animals together; 1 when all are the same.
fn median_distance(groups: &[(usize, Array2<f64>)], seed: u64) -> f64 {
    let views: Vec<_> = groups.iter().map(|(_, group)| group.view()).collect();
    let Ok(all) = ndarray::concatenate(Axis(0), &views) else { return 1.0 };
    let rows = choose(all.nrows(), BANDWIDTH_ROWS, &mut generator(seed, 9));
    let some = all.select(Axis(0), &rows);
    let squares = squared_distances(some.view(), some.view());
    let mut upper: Vec<f64> =
        squares.indexed_iter().filter(|((i, k), _)| i < k).map(|(_, square)| square.sqrt()).collect();
    median(&mut upper, f64::total_cmp).filter(|median| *median > 0.0).unwrap_or(1.0)
}

/// Unbiased squared maximum mean discrepancy, mean of Gaussian kernels of `sigmas`. The same as
/// [`reference_losses::mmd2`](super::reference_losses::mmd2), by matrix products.
pub fn mmd2(a: ArrayView2<f64>, b: ArrayView2<f64>, sigmas: &[f64]) -> f64 {
    let kernel_sum = |x: ArrayView2<f64>, y: ArrayView2<f64>| -> f64 {
        let squares = squared_distances(x, y);
        let of_sigma = |sigma: &f64| squares.iter().map(|square| (-square / (2.0 * sigma * sigma)).exp()).sum::<f64>();
        sigmas.iter().map(of_sigma).sum::<f64>() / sigmas.len() as f64
    };
    let within = |x: ArrayView2<f64>| {
        let n = x.nrows() as f64;
        (kernel_sum(x, x) - n) / (n * (n - 1.0))
    };
    within(a) + within(b) - 2.0 * kernel_sum(a, b) / (a.nrows() * b.nrows()) as f64
}

/// Correlation alignment `‖C_a − C_b‖²_F / (4 d²)`; the same as [`reference_losses::coral`](super::reference_losses::coral).
pub fn coral(a: ArrayView2<f64>, b: ArrayView2<f64>) -> f64 {
    let covariance = |x: ArrayView2<f64>| {
        let mean: Array1<f64> = x.sum_axis(Axis(0)) / x.nrows() as f64;
        let centred = &x - &mean;
        centred.t().dot(&centred) / (x.nrows() as f64 - 1.0)
    };
    let difference = covariance(a) - covariance(b);
    difference.iter().map(|v| v * v).sum::<f64>() / (4 * a.ncols() * a.ncols()) as f64
}

/// ‖x‖² + ‖y‖² − 2⟨x, y⟩, never below 0; exactly 0 of a row to itself.
fn squared_distances(x: ArrayView2<f64>, y: ArrayView2<f64>) -> Array2<f64> {
    let same = x.as_ptr() == y.as_ptr() && x.dim() == y.dim();
    let square = |v: ArrayView2<f64>| -> Vec<f64> { v.rows().into_iter().map(|row| row.dot(&row)).collect() };
    let (of_x, of_y) = (square(x), square(y));
    let mut squares = x.dot(&y.t());
    for ((i, k), v) in squares.indexed_iter_mut() {
        *v = if same && i == k { 0.0 } else { (of_x[i] + of_y[k] - 2.0 * *v).max(0.0) };
    }
    squares
}

#[cfg(test)]
mod tests {
    use super::super::reference_losses as slow;
    use super::*;
    use rand::RngExt;

    /// Rows of noise around `centre` in 6 dimensions.
    fn cloud(rows: usize, centre: f32, seed: u64) -> Array2<f32> {
        let mut rng = generator(seed, 0);
        Array2::from_shape_fn((rows, 6), |_| centre + rng.random::<f32>())
    }

    fn of_animals(centres: &[f32]) -> (Array2<f32>, Vec<usize>) {
        let clouds: Vec<_> = centres.iter().enumerate().map(|(s, &c)| cloud(200, c, s as u64 + 1)).collect();
        let views: Vec<_> = clouds.iter().map(|c| c.view()).collect();
        let animal = (0..centres.len()).flat_map(|s| [s; 200]).collect();
        (ndarray::concatenate(Axis(0), &views).unwrap(), animal)
    }

    #[test]
    fn the_fast_distances_are_the_slow_ones() {
        let (a, b) = (cloud(30, 0.0, 1).mapv(f64::from), cloud(40, 0.4, 2).mapv(f64::from));
        let fast = mmd2(a.view(), b.view(), &[0.5, 1.5]);
        assert!((fast - slow::mmd2(a.view(), b.view(), &[0.5, 1.5], true)).abs() < 1e-12);
        assert!((coral(a.view(), b.view()) - slow::coral(a.view(), b.view())).abs() < 1e-12);
    }

    #[test]
    fn animals_of_one_distribution_have_no_gap_and_shifted_ones_have() {
        let (alike, animal) = of_animals(&[0.0, 0.0, 0.0]);
        let none = domain_gap(alike.view(), &animal, &GapOptions::default()).unwrap();
        assert!(none.between.abs() < 0.01 && none.within.abs() < 0.02, "{none:?}");
        let (apart, animal) = of_animals(&[0.0, 1.0, 2.0]);
        let gap = domain_gap(apart.view(), &animal, &GapOptions::default()).unwrap();
        assert!(gap.between > 0.3 && gap.within.abs() < 0.02, "{gap:?}");
        assert!(gap.pairs[0][2] > gap.pairs[0][1]);
        assert!((gap.pairs[1][2] + gap.pairs[0][1] + gap.pairs[2][0] - 3.0 * gap.between).abs() < 1e-12);
    }

    #[test]
    fn an_animal_that_drifts_has_a_distance_to_itself() {
        let (mut values, animal) = of_animals(&[0.0, 1.0]);
        values.slice_mut(ndarray::s![100..200, ..]).mapv_inplace(|v| v + 1.0);
        let gap = domain_gap(values.view(), &animal, &GapOptions::default()).unwrap();
        assert!(gap.pairs[0][0] > 0.2 && gap.pairs[1][1].abs() < 0.03, "{gap:?}");
        assert!(gap.relative().unwrap() < 5.0);
    }

    #[test]
    fn a_choice_is_bounded_and_repeats() {
        let (values, animal) = of_animals(&[0.0, 0.5]);
        let options = GapOptions { rows_max: 50, bandwidths: MULTI_KERNEL.to_vec(), seed: 4 };
        let run = || domain_gap(values.view(), &animal, &options).unwrap();
        assert_eq!(run(), run());
        assert!(run().between > 0.05);
        // All samples the same: no distance, no division by nothing.
        let flat = Array2::from_elem((400, 6), 1.0f32);
        assert_eq!(domain_gap(flat.view(), &animal, &options).unwrap().between, 0.0);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let (mut values, animal) = of_animals(&[0.0, 0.5]);
        let gap = |v: &Array2<f32>, a: &[usize]| domain_gap(v.view(), a, &GapOptions::default()).unwrap_err();
        assert_eq!(gap(&values, &[0; 400]), GapError::Animals(1));
        assert_eq!(gap(&values, &[0]), GapError::Length { rows: 400, found: 1 });
        values[[7, 2]] = f32::INFINITY;
        assert_eq!(gap(&values, &animal), GapError::NotFinite(7));
        let none = GapOptions { bandwidths: vec![], ..GapOptions::default() };
        assert_eq!(domain_gap(values.view(), &animal, &none).unwrap_err(), GapError::Bandwidths);
    }
}
