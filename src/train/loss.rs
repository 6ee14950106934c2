//! What training minimises: the contrast between the two views of a sample, and what other methods add to it.
//!
//! Why it exists: each loss is a plain function of tensors that can be tested against a reference in plain loops. What it must
//! never do: know a batch, an animal's name or a network.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Symmetric InfoNCE over a batch of pairs, mean over both directions; `a` and `b` `[B,E]` of length 1, temperature τ.
///
/// `½ (L(a→b) + L(b→a))`, `L(a→b) = −1/B Σᵢ log( exp(⟨aᵢ,bᵢ⟩/τ) / Σₖ exp(⟨aᵢ,bₖ⟩/τ) )`.
pub fn info_nce(a: Tensor<2>, b: Tensor<2>, temperature: f64) -> Tensor<1> {
    let logits = a.matmul(b.transpose()) / temperature;
    (diagonal_nll(logits.clone()) + diagonal_nll(logits.transpose())) / 2.0
}

/// The partner of one row in the contrast within a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Which row.
    pub row: usize,
    /// Is the row pulled towards it? Otherwise the row does not count.
    pub pulled: bool,
}

/// The contrast within one view: row `i` of `rows` `[B,E]` (length 1) is pulled towards its partner and pushed away from all
/// others; mean over the rows that are pulled, 0 without any. A row is never its own negative.
pub fn partner_nce(rows: Tensor<2>, partners: &[Partner], temperature: f64) -> Tensor<1> {
    let device = rows.device();
    let [batch, _] = rows.dims();
    let itself = Tensor::<2>::eye(batch, &device) * -1e4;
    let logits = rows.clone().matmul(rows.transpose()) / temperature + itself;
    let classes: Vec<usize> = partners.iter().map(|partner| partner.row).collect();
    let weights: Vec<f32> = partners.iter().map(|partner| if partner.pulled { 1.0 } else { 0.0 }).collect();
    cross_entropy(logits, &classes, &weights)
}

/// Mean of −log softmax at the diagonal, row by row.
fn diagonal_nll(logits: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let eye = Tensor::<2>::eye(batch, &logits.device());
    (log_softmax(logits, 1) * eye).sum() / -(batch as f64)
}

/// Mean cosine of the pairs, and of all other combinations, for progress display. `a` and `b` `[B,E]` of length 1.
pub fn similarities(a: Tensor<2>, b: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
    let [batch, _] = a.dims();
    let paired = (a.clone() * b.clone()).sum();
    let all = a.sum_dim(0).mul(b.sum_dim(0)).sum();
    let others = (all - paired.clone()) / (batch * (batch - 1)).max(1) as f64;
    (paired / batch as f64, others)
}

/// Identity forwards, −`strength` times the gradient backwards (Ganin and Lempitsky 2015).
pub fn reverse_gradient<const D: usize>(rows: Tensor<D>, strength: f64) -> Tensor<D> {
    let still = rows.clone().detach();
    still.mul_scalar(1.0 + strength) - rows.mul_scalar(strength)
}

/// Weighted cross-entropy of logits `[B,L]` with the class of each row; mean over the weights.
///
/// Rows of weight 0 do not count, whatever their class.
pub fn cross_entropy(logits: Tensor<2>, classes: &[usize], weights: &[f32]) -> Tensor<1> {
    let targets = classes.iter().zip(weights).enumerate();
    mixed_cross_entropy(logits, targets.map(|(row, (&class, &weight))| Target { row, class, weight }))
}

/// A class that a row has, with its weight; a row that is a mixture has several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Which row.
    pub row: usize,
    /// Its class.
    pub class: usize,
    /// 0 = does not count.
    pub weight: f32,
}

/// Weighted cross-entropy of logits `[B,L]` with rows of any number of classes; mean over the weights.
pub fn mixed_cross_entropy(logits: Tensor<2>, targets: impl Iterator<Item = Target>) -> Tensor<1> {
    let [batch, labels] = logits.dims();
    let mut chosen = vec![0.0_f32; batch * labels];
    targets.for_each(|target| chosen[target.row * labels + target.class] -= target.weight);
    let total = -chosen.iter().sum::<f32>();
    chosen.iter_mut().for_each(|v| *v /= total.max(f32::MIN_POSITIVE));
    let chosen = Tensor::from_data(TensorData::new(chosen, [batch, labels]), &logits.device());
    (log_softmax(logits, 1) * chosen).sum()
}

/// Rows of a batch by group: 1/size where a row belongs to a group, `[groups, B]`; groups of fewer than two rows are left out.
fn membership(group_of: &[usize], device: &Device) -> Option<Tensor<2>> {
    let count = group_of.iter().max().map_or(0, |m| m + 1);
    let sizes: Vec<usize> = (0..count).map(|g| group_of.iter().filter(|&&o| o == g).count()).collect();
    let kept: Vec<usize> = (0..count).filter(|&g| sizes[g] > 1).collect();
    let values: Vec<f32> = kept
        .iter()
        .flat_map(|&g| group_of.iter().map(move |&o| (g, o)))
        .map(|(g, o)| if g == o { 1.0 / sizes[g] as f32 } else { 0.0 })
        .collect();
    (kept.len() > 1).then(|| Tensor::from_data(TensorData::new(values, [kept.len(), group_of.len()]), device))
}

/// Squared maximum mean discrepancy between groups of rows (biased, mean of Gaussian kernels `exp(−‖x−y‖² / 2s²)` with s = σ/2,
/// σ and 2σ, σ² = `variance`), mean over all pairs of groups (Gretton et al. 2012). 0 when there are fewer than two groups.
pub fn mmd(rows: Tensor<2>, group_of: &[usize], variance: f64) -> Tensor<1> {
    let device = rows.device();
    let Some(member) = membership(group_of, &device) else { return Tensor::zeros([1], &device) };
    let squares = rows.clone().square().sum_dim(1);
    let distances = squares.clone() + squares.transpose() - rows.clone().matmul(rows.transpose()) * 2.0;
    let distances = distances.clamp_min(0.0);
    let kernel = [0.25, 1.0, 4.0]
        .map(|scale| (distances.clone() / (-2.0 * scale * variance)).exp())
        .into_iter()
        .reduce(|a, b| a + b)
        .unwrap_or_else(|| distances.clone());
    // Mean kernel between every two groups; MMD²(p,q) = k(p,p) + k(q,q) − 2 k(p,q).
    let means = member.clone().matmul(kernel / 3.0).matmul(member.transpose());
    let [groups, _] = means.dims();
    let trace = (means.clone() * Tensor::eye(groups, &device)).sum();
    let pairs = (groups * (groups - 1)) as f64;
    (trace.clone() * (2.0 * (groups - 1) as f64) - (means.sum() - trace) * 2.0) / pairs
}

/// Correlation alignment between groups of rows: ‖Cₚ − C_q‖²_F / 4E², mean over all pairs (Sun and Saenko 2016). 0 when there
/// are fewer than two groups.
pub fn coral(rows: Tensor<2>, group_of: &[usize]) -> Tensor<1> {
    let device = rows.device();
    let [_, columns] = rows.dims();
    let count = group_of.iter().max().map_or(0, |m| m + 1);
    let covariances: Vec<Tensor<2>> = (0..count)
        .filter_map(|g| {
            let chosen: Vec<i32> = (0..group_of.len()).filter(|&i| group_of[i] == g).map(|i| i as i32).collect();
            let size = chosen.len();
            (size > 1).then(|| {
                let index = Tensor::<1, Int>::from_data(TensorData::new(chosen, [size]), &device);
                let own = rows.clone().select(0, index);
                let centred = own.clone() - own.mean_dim(0);
                centred.clone().transpose().matmul(centred) / (size - 1) as f64
            })
        })
        .collect();
    let mut total = Tensor::<1>::zeros([1], &device);
    let mut pairs = 0;
    for (index, a) in covariances.iter().enumerate() {
        for b in &covariances[..index] {
            total = total + (a.clone() - b.clone()).square().sum();
            pairs += 1;
        }
    }
    total / (4 * columns * columns * pairs.max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::reference_losses;
    use ndarray::Array2;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64;

    fn rows(values: &[f32], columns: usize, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / columns, columns]), device)
    }

    fn scalar(tensor: Tensor<1>) -> f32 {
        tensor.into_data().try_to_vec::<f32>().unwrap()[0]
    }

    #[test]
    fn info_nce_of_two_orthogonal_pairs_is_the_hand_computation() {
        let device = Device::flex();
        let unit = rows(&[1.0, 0.0, 0.0, 1.0], 2, &device);
        // each row: −log( e^2 / (e^2 + 1) ) at τ = 0.5
        let expected = (1.0 + (-2.0_f32).exp()).ln();
        assert!((scalar(info_nce(unit.clone(), unit.clone(), 0.5)) - expected).abs() < 1e-6);
        let (paired, others) = similarities(unit.clone(), unit);
        assert_eq!((scalar(paired), scalar(others)), (1.0, 0.0));
    }

    #[test]
    fn a_partner_contrast_is_the_hand_computation_and_leaves_out_rows_that_are_not_drawn() {
        let device = Device::flex();
        let three = rows(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2, &device);
        // row 0: its partner 1 has cosine 1, the rival 2 has cosine 0, at τ = 1
        let partners = |of: [(usize, bool); 3]| of.map(|(row, pulled)| Partner { row, pulled });
        let found = scalar(partner_nce(three.clone(), &partners([(1, true), (0, false), (2, false)]), 1.0));
        assert!((found - (1.0 + (-1.0_f32).exp()).ln()).abs() < 1e-6, "{found}");
        assert_eq!(scalar(partner_nce(three, &partners([(1, false), (0, false), (0, false)]), 1.0)), 0.0);
    }

    #[test]
    fn a_reversed_gradient_is_minus_strength_times_the_finite_difference() {
        let device = Device::flex().autodiff();
        let at = [0.3_f32, -0.7, 1.1, 0.2];
        let loss = |x: Tensor<2>| (x.clone().square() * x.clone()).sum() + x.sum();
        let point = rows(&at, 2, &device).require_grad();
        let gradients = loss(reverse_gradient(point.clone(), 0.7)).backward();
        let reversed: Vec<f32> = point.grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
        let plain = Device::flex();
        for (index, reversed) in reversed.iter().enumerate() {
            let moved = |by: f32| {
                let mut moved = at;
                moved[index] += by;
                // forwards it is the identity
                scalar(loss(reverse_gradient(rows(&moved, 2, &plain), 0.7)))
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((reversed + 0.7 * slope).abs() < 2e-3, "{reversed} {slope}");
        }
    }

    #[test]
    fn cross_entropy_counts_rows_by_their_weight() {
        let device = Device::flex();
        let logits = rows(&[0.0, 0.0, 5.0, 0.0, 0.0, 3.0], 2, &device);
        let expected = (2.0_f32.ln() + 3.0 * (1.0 + (3.0_f32).exp()).ln()) / 4.0;
        let found = scalar(cross_entropy(logits, &[1, 1, 0], &[1.0, 0.0, 3.0]));
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn a_row_of_two_classes_counts_for_both_by_their_weights() {
        let device = Device::flex();
        let logits = rows(&[0.0, 0.0, 5.0, 0.0], 2, &device);
        let targets = [(0, 1, 1.0), (1, 0, 1.5), (1, 1, 0.5), (1, 0, 0.0)];
        let targets = targets.map(|(row, class, weight)| Target { row, class, weight });
        let (right, wrong) = ((1.0 + (-5.0_f32).exp()).ln(), (1.0 + (5.0_f32).exp()).ln());
        let expected = (2.0_f32.ln() + 1.5 * right + 0.5 * wrong) / 3.0;
        let found = scalar(mixed_cross_entropy(logits, targets.into_iter()));
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn mmd_and_coral_vanish_between_equal_groups_and_grow_with_their_distance() {
        let device = Device::flex();
        let same = rows(&[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2, &device);
        let groups = [0, 0, 1, 1];
        assert!(scalar(mmd(same.clone(), &groups, 1.0)).abs() < 1e-6);
        assert!(scalar(coral(same.clone(), &groups)).abs() < 1e-6);
        let near = rows(&[0.0, 1.0, 1.0, 0.0, 0.5, 1.0, 1.5, 0.0], 2, &device);
        let far = rows(&[0.0, 1.0, 1.0, 0.0, 3.0, 1.0, 4.0, 0.0], 2, &device);
        assert!(scalar(mmd(near, &groups, 1.0)) < scalar(mmd(far, &groups, 1.0)));
        let wide = rows(&[0.0, 1.0, 1.0, 0.0, 0.0, 3.0, 3.0, 0.0], 2, &device);
        // C = ½[[1,−1],[−1,1]] and 9·C: the difference 8·C has a squared norm of 64; 64 / (4·4)
        assert!((scalar(coral(wide, &groups)) - 4.0).abs() < 1e-4);
        assert_eq!(scalar(mmd(same.clone(), &[0; 4], 1.0)), 0.0);
        assert_eq!(scalar(coral(same, &[0; 4])), 0.0);
    }

    /// Rows that a seed draws, as numbers for the reference and as a tensor.
    fn drawn(count: usize, columns: usize, unit: bool, seed: u64, device: &Device) -> (Array2<f64>, Tensor<2>) {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut draw = Array2::from_shape_simple_fn((count, columns), || StandardNormal.sample(&mut random));
        if unit {
            draw.outer_iter_mut().for_each(|mut row: ndarray::ArrayViewMut1<f64>| row /= row.dot(&row).sqrt());
        }
        let values: Vec<f32> = draw.iter().map(|&v| v as f32).collect();
        (draw, rows(&values, columns, device))
    }

    fn assert_close(found: f32, expected: f64, what: &str) {
        assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{what}: {found}, {expected}");
    }

    /// Mean over all pairs of groups.
    fn over_pairs(
        groups: &[Array2<f64>],
        distance: impl Fn(ndarray::ArrayView2<f64>, ndarray::ArrayView2<f64>) -> f64,
    ) -> f64 {
        let pairs: Vec<f64> = (0..groups.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| distance(groups[a].view(), groups[b].view()))
            .collect();
        pairs.iter().sum::<f64>() / pairs.len() as f64
    }

    #[test]
    fn info_nce_is_that_of_plain_loops() {
        let device = Device::flex();
        for (seed, count, temperature) in [(1, 2, 1.0), (2, 33, 0.1), (3, 64, 0.5)] {
            let (a, a_rows) = drawn(count, 7, true, seed, &device);
            let (b, b_rows) = drawn(count, 7, true, seed + 100, &device);
            let expected = reference_losses::info_nce(a.view(), b.view(), temperature);
            assert_close(scalar(info_nce(a_rows, b_rows, temperature)), expected, "InfoNCE");
        }
    }

    #[test]
    fn mmd_and_coral_are_those_of_plain_loops_over_all_pairs_of_groups() {
        let device = Device::flex();
        // Three groups of different size, interleaved, each moved and stretched; the fourth has one row and does not count.
        let group_of: Vec<usize> = (0..41).map(|row| if row == 40 { 3 } else { [0, 1, 2, 1, 0, 1][row % 6] }).collect();
        let (mut values, _) = drawn(group_of.len(), 5, false, 9, &device);
        for (mut row, &group) in values.outer_iter_mut().zip(&group_of) {
            row.mapv_inplace(|v| v * (1.0 + 0.4 * group as f64) + 0.3 * group as f64);
        }
        let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        let groups: Vec<Array2<f64>> = (0..3)
            .map(|g| {
                let own: Vec<usize> = (0..group_of.len()).filter(|&row| group_of[row] == g).collect();
                values.select(ndarray::Axis(0), &own)
            })
            .collect();
        for variance in [0.3, 4.0] {
            let sigmas = [0.5, 1.0, 2.0].map(|times: f64| times * f64::sqrt(variance));
            let expected = over_pairs(&groups, |a, b| reference_losses::mmd2(a, b, &sigmas, false));
            assert_close(scalar(mmd(rows(&narrow, 5, &device), &group_of, variance)), expected, "MMD");
            assert!(expected > 0.01, "nothing to be found: {expected}");
        }
        let expected = over_pairs(&groups, reference_losses::coral);
        assert_close(scalar(coral(rows(&narrow, 5, &device), &group_of)), expected, "CORAL");
        assert!(expected > 0.01, "nothing to be found: {expected}");
    }
}
