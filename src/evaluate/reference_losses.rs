//! The losses that tie representations together, by the letter and in f64: InfoNCE, MMD, CORAL.
//!
//! Why it exists: these loops are the oracle for the network's own, fast ones; they are themselves held against numpy. What it
//! must never do: be fast at the price of being read.

use ndarray::{Array2, ArrayView1, ArrayView2};

/// Symmetric InfoNCE of paired rows, cosine similarity, temperature `tau`:
/// `Lᵢ = −log( exp(⟨b̂ᵢ,n̂ᵢ⟩/τ) / Σₖ exp(⟨b̂ᵢ,n̂ₖ⟩/τ) )`, the same with b and n exchanged, and the mean over both and the batch.
///
/// # Panics
/// When the shapes differ.
pub fn info_nce(behaviour: ArrayView2<f64>, neural: ArrayView2<f64>, tau: f64) -> f64 {
    assert_eq!(behaviour.dim(), neural.dim(), "rows are pairs");
    let rows = behaviour.nrows();
    let mut sum = 0.0;
    for i in 0..rows {
        let pair = cosine(behaviour.row(i), neural.row(i)) / tau;
        let among_neural: f64 = (0..rows).map(|k| (cosine(behaviour.row(i), neural.row(k)) / tau).exp()).sum();
        let among_behaviour: f64 = (0..rows).map(|k| (cosine(neural.row(i), behaviour.row(k)) / tau).exp()).sum();
        sum += (among_neural.ln() - pair) + (among_behaviour.ln() - pair);
    }
    sum / (2 * rows) as f64
}

/// Squared maximum mean discrepancy between two samples (Gretton et al. 2012, eq. 3), of the mean of Gaussian kernels
/// `exp(−‖x−y‖² / (2σ²))` over `sigmas`. `unbiased` leaves out the distance of each point to itself and may be below 0.
///
/// # Panics
/// When a sample has fewer than two rows.
pub fn mmd2(a: ArrayView2<f64>, b: ArrayView2<f64>, sigmas: &[f64], unbiased: bool) -> f64 {
    assert!(a.nrows() > 1 && b.nrows() > 1, "a distance between samples needs two rows of each");
    let kernel = |x: ArrayView1<f64>, y: ArrayView1<f64>| {
        let square: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
        sigmas.iter().map(|sigma| (-square / (2.0 * sigma * sigma)).exp()).sum::<f64>() / sigmas.len() as f64
    };
    let within = |x: ArrayView2<f64>| {
        let n = x.nrows();
        let all = (0..n).flat_map(|i| (0..n).map(move |k| (i, k))).filter(|(i, k)| !unbiased || i != k);
        let sum: f64 = all.map(|(i, k)| kernel(x.row(i), x.row(k))).sum();
        sum / (n * if unbiased { n - 1 } else { n }) as f64
    };
    let mut between = 0.0;
    for x in a.rows() {
        between += b.rows().into_iter().map(|y| kernel(x, y)).sum::<f64>();
    }
    within(a) + within(b) - 2.0 * between / (a.nrows() * b.nrows()) as f64
}

/// Correlation alignment, `‖C_a − C_b‖²_F / (4 d²)`, C the covariances with n − 1 (Sun & Saenko 2016, eq. 1).
///
/// # Panics
/// When a sample has fewer than two rows.
pub fn coral(a: ArrayView2<f64>, b: ArrayView2<f64>) -> f64 {
    assert!(a.nrows() > 1 && b.nrows() > 1, "a covariance needs two rows");
    let dimensions = a.ncols();
    let (a, b) = (covariance(a), covariance(b));
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(&b) {
        sum += (a - b).powi(2);
    }
    sum / (4 * dimensions * dimensions) as f64
}

fn covariance(x: ArrayView2<f64>) -> Array2<f64> {
    let n = x.nrows();
    let mean: Vec<f64> = x.columns().into_iter().map(|column| column.sum() / n as f64).collect();
    Array2::from_shape_fn((x.ncols(), x.ncols()), |(i, k)| {
        (0..n).map(|row| (x[[row, i]] - mean[i]) * (x[[row, k]] - mean[k])).sum::<f64>() / (n - 1) as f64
    })
}

fn cosine(a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
    a.dot(&b) / (a.dot(&a).sqrt() * b.dot(&b).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn info_nce_of_two_right_angles_is_known() {
        // Pairs alike, the others at right angles: every term is ln(e¹ + e⁰) − 1 at τ = 1.
        let b = array![[2.0, 0.0], [0.0, 3.0]];
        let n = array![[5.0, 0.0], [0.0, 1.0]];
        let expected = (1f64.exp() + 1.0).ln() - 1.0;
        assert!((info_nce(b.view(), n.view(), 1.0) - expected).abs() < 1e-12);
    }

    #[test]
    fn info_nce_weighs_both_directions_alike() {
        // Both behaviours look at neural row 0: b→n is not n→b.
        let b = array![[1.0, 0.0], [1.0, 0.0]];
        let n = array![[1.0, 0.0], [0.0, 1.0]];
        let (e, l) = (1f64.exp(), f64::ln);
        let b_to_n = (l(e + 1.0) - 1.0) + l(e + 1.0);
        let n_to_b = (l(2.0 * e) - 1.0) + l(2.0);
        assert!((info_nce(b.view(), n.view(), 1.0) - (b_to_n + n_to_b) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn mmd_of_two_pairs_of_points_is_known() {
        let (a, b) = (array![[0.0], [1.0]], array![[2.0], [3.0]]);
        let k = |d: f64| (-d * d / 2.0f64).exp();
        let between = 2.0 * (2.0 * k(2.0) + k(1.0) + k(3.0)) / 4.0;
        assert!((mmd2(a.view(), b.view(), &[1.0], true) - (2.0 * k(1.0) - between)).abs() < 1e-12);
        assert!((mmd2(a.view(), b.view(), &[1.0], false) - (1.0 + k(1.0) - between)).abs() < 1e-12);
        assert!(mmd2(a.view(), a.view(), &[0.5, 2.0], false).abs() < 1e-12);
    }

    #[test]
    fn coral_of_two_variances_is_known() {
        // Variances 2 and 8 in one dimension: (2 − 8)² / 4.
        let (a, b) = (array![[0.0], [2.0]], array![[0.0], [4.0]]);
        assert!((coral(a.view(), b.view()) - 9.0).abs() < 1e-12);
    }
}
