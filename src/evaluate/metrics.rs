//! Scores of decoded samples against the truth.
//!
//! Why it exists: rest is more than half of all samples, so accuracy alone is too optimistic; balanced accuracy and macro-F1 are
//! reported with it. What it must never do: drop a sample silently, or count a class that does not occur as a failure.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::probe::softmax;
use crate::sys::statistics::largest;

/// Counts of truth against decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// `counts[truth][decoded]`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// No samples yet.
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![vec![0; classes]; classes] }
    }

    /// Counts pairs of truth and decoded class.
    ///
    /// # Panics
    /// When the lists differ in length or a class is not below `classes`.
    pub fn of(truth: &[usize], decoded: &[usize], classes: usize) -> Self {
        assert_eq!(truth.len(), decoded.len(), "each sample needs a truth and a decoded class");
        let mut confusion = Self::new(classes);
        truth.iter().zip(decoded).for_each(|(&truth, &decoded)| confusion.counts[truth][decoded] += 1);
        confusion
    }

    /// Adds the samples of another one with the same classes.
    pub fn add(&mut self, other: &Self) {
        for (row, other) in self.counts.iter_mut().zip(&other.counts) {
            row.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        }
    }

    /// Samples counted.
    pub fn samples(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of samples decoded correctly; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.counts.len()).map(|class| self.counts[class][class]).sum();
        right as f64 / self.samples() as f64
    }

    /// Share of the samples of each class decoded correctly; `None` for a class that does not occur.
    pub fn recalls(&self) -> Vec<Option<f64>> {
        let share = |(class, row): (usize, &Vec<u64>)| {
            let all: u64 = row.iter().sum();
            (all > 0).then(|| row[class] as f64 / all as f64)
        };
        self.counts.iter().enumerate().map(share).collect()
    }

    /// Mean recall over the classes that occur in the truth (scikit-learn's `balanced_accuracy_score`); NaN without samples.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.recalls().into_iter().flatten())
    }

    /// Mean F1 over the classes that occur in the truth; NaN without samples. Never decoded and never right = 0.
    pub fn macro_f1(&self) -> f64 {
        let f1 = |class: usize| {
            let occurs: u64 = self.counts[class].iter().sum();
            let decoded: u64 = self.counts.iter().map(|row| row[class]).sum();
            (occurs > 0).then(|| 2.0 * self.counts[class][class] as f64 / (occurs + decoded) as f64)
        };
        mean((0..self.counts.len()).filter_map(f1))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Confidence (largest probability) above this …
    pub above: f64,
    /// … up to this.
    pub up_to: f64,
    /// Samples in the bin.
    #[serde(rename = "moments")]
    pub samples: u64,
    /// Their mean confidence; 0 without samples.
    pub confidence: f64,
    /// Share of them decoded correctly; 0 without samples.
    pub accuracy: f64,
}

/// How well confidence matches accuracy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Expected calibration error: mean |accuracy − confidence| over bins, weighted by samples; NaN without samples.
    pub ece: f64,
    /// Equal widths from 0 to 1.
    pub bins: Vec<ReliabilityBin>,
}

/// Reliability of `probabilities` `[samples, classes]` in `bins` bins of equal width (Guo et al. 2017, eq. 3).
///
/// # Panics
/// When the lists differ in length or `bins` is 0.
pub fn reliability(probabilities: ArrayView2<f32>, truth: &[usize], bins: usize) -> Reliability {
    assert_eq!(probabilities.nrows(), truth.len(), "each sample needs a truth");
    assert!(bins > 0, "at least one bin");
    let edge = |bin: usize| bin as f64 / bins as f64;
    let mut found: Vec<ReliabilityBin> =
        (0..bins).map(|bin| ReliabilityBin { above: edge(bin), up_to: edge(bin + 1), ..Default::default() }).collect();
    for (row, &truth) in probabilities.rows().into_iter().zip(truth) {
        let decoded = largest(row);
        let confidence = f64::from(row[decoded]);
        let bin = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        found[bin].samples += 1;
        found[bin].confidence += confidence;
        found[bin].accuracy += f64::from(u8::from(decoded == truth));
    }
    let mut ece = 0.0;
    for bin in found.iter_mut().filter(|bin| bin.samples > 0) {
        ece += (bin.accuracy - bin.confidence).abs();
        bin.confidence /= bin.samples as f64;
        bin.accuracy /= bin.samples as f64;
    }
    Reliability { ece: ece / truth.len() as f64, bins: found }
}

/// Mean −log p(truth) in nats of `logits` `[samples, classes]` divided by `temperature`; NaN without samples.
///
/// # Panics
/// When the lists differ in length.
pub fn negative_log_likelihood(logits: ArrayView2<f32>, truth: &[usize], temperature: f64) -> f64 {
    assert_eq!(logits.nrows(), truth.len(), "each sample needs a truth");
    let of_row = |(row, &truth): (ndarray::ArrayView1<f32>, &usize)| {
        let top = f64::from(row.fold(f32::NEG_INFINITY, |a, &b| a.max(b)));
        let sum: f64 = row.iter().map(|&v| ((f64::from(v) - top) / temperature).exp()).sum();
        sum.ln() - (f64::from(row[truth]) - top) / temperature
    };
    mean(logits.rows().into_iter().zip(truth).map(of_row))
}

/// Reliability of logits divided by `temperature`.
pub fn reliability_of_logits(logits: ArrayView2<f32>, truth: &[usize], temperature: f64, bins: usize) -> Reliability {
    reliability(softmax(logits.mapv(|v| v / temperature as f32).view()).view(), truth, bins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Truth 0 0 0 1 1 2, decoded 0 0 1 1 0 3; class 3 occurs only as an answer.
    fn small() -> Confusion {
        Confusion::of(&[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 0, 3], 4)
    }

    #[test]
    fn scores_are_those_computed_by_hand() {
        let c = small();
        assert_eq!(c.samples(), 6);
        assert!((c.accuracy() - 3.0 / 6.0).abs() < 1e-12);
        assert_eq!(c.recalls(), vec![Some(2.0 / 3.0), Some(0.5), Some(0.0), None]);
        assert!((c.balanced_accuracy() - (2.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
        // F1: 2·2/(3+3), 2·1/(2+2), 0.
        assert!((c.macro_f1() - (2.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn confusions_add_up_and_nothing_scores_nothing() {
        let mut twice = small();
        twice.add(&small());
        assert_eq!(twice.samples(), 12);
        assert!((twice.accuracy() - small().accuracy()).abs() < 1e-12);
        assert!(Confusion::new(2).accuracy().is_nan() && Confusion::new(2).macro_f1().is_nan());
    }

    #[test]
    fn the_calibration_error_is_the_gap_between_confidence_and_truth() {
        let p = array![[0.9f32, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]];
        let r = reliability(p.view(), &[0, 1, 1, 0], 10);
        // Bin (0.8, 0.9]: 2 samples, confidence 0.9, accuracy 0.5; (0.5, 0.6]: 0.6 against 1; (0.9, 1]: 1 against 1.
        assert!((r.ece - (2.0 * 0.4 + 0.4) / 4.0).abs() < 1e-6, "{r:?}");
        assert_eq!(r.bins.iter().map(|b| b.samples).sum::<u64>(), 4);
        assert_eq!(r.bins[9].samples, 1);
    }

    #[test]
    fn the_likelihood_of_even_logits_is_the_logarithm_of_the_classes() {
        let even = array![[1.0f32, 1.0, 1.0]];
        assert!((negative_log_likelihood(even.view(), &[2], 1.0) - 3f64.ln()).abs() < 1e-12);
        let one = array![[2.0f32, 0.0]];
        let expected = (1.0 + (-1.0f64).exp()).ln();
        assert!((negative_log_likelihood(one.view(), &[0], 2.0) - expected).abs() < 1e-12);
    }
}
