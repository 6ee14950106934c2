//! Temperature scaling: one number that calibrates a probe's confidence.
//!
//! Why it exists: a probability of 0.9 must be right nine times in ten, on an animal without labels. What it must never do:
//! change which class is decoded. Source: Guo et al. 2017, *On Calibration of Modern Neural Networks*.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::metrics::{Reliability, negative_log_likelihood, reliability_of_logits};
use crate::sys::exit::{ExitCode, HasExitCode};

/// Bins of a reliability diagram.
pub const BINS: usize = 15;
/// Temperatures that are considered.
const COLDEST: f64 = 0.02;
const HOTTEST: f64 = 50.0;
/// Steps of the golden section: the bracket in ln T shrinks to 10⁻⁷.
const STEPS: usize = 40;

/// A temperature, and its effect on the samples it was fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Divide logits by this.
    pub temperature: f64,
    /// Mean −log p(truth) before, nats.
    pub nll_before: f64,
    /// And after.
    pub nll_after: f64,
    /// Reliability before.
    pub before: Reliability,
    /// And after.
    pub after: Reliability,
}

/// Why a probe cannot be calibrated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// Nothing to fit.
    #[error("a temperature needs labelled samples of held-out animals; there are none")]
    Empty,
    /// Lists of different length, or a label too large.
    #[error("{rows} samples of {classes} classes but {labels} labels, the largest {largest}")]
    Labels {
        /// Rows of the logits.
        rows: usize,
        /// Columns of the logits.
        classes: usize,
        /// Number of labels.
        labels: usize,
        /// The largest label.
        largest: usize,
    },
    /// A logit that is not finite.
    #[error("sample {0} has a logit that is not finite; leave it out")]
    NotFinite(usize),
}

impl HasExitCode for CalibrationError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

/// The temperature that minimises the negative log likelihood of `truth` under held-out `logits` `[samples, classes]`; 1 where it would
/// not bring confidence nearer to the share that is right: on few animals the likelihood, which a few confident errors rule, and the
/// expected calibration error can disagree.
///
/// # Errors
/// [`CalibrationError`] when there is nothing to fit or the lists do not belong together.
pub fn fit_temperature(logits: ArrayView2<f32>, truth: &[usize]) -> Result<Calibration, CalibrationError> {
    let (rows, classes) = logits.dim();
    if rows == 0 {
        return Err(CalibrationError::Empty);
    }
    let largest = truth.iter().copied().max().unwrap_or(0);
    if truth.len() != rows || largest >= classes {
        return Err(CalibrationError::Labels { rows, classes, labels: truth.len(), largest });
    }
    if let Some(((row, _), _)) = logits.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(CalibrationError::NotFinite(row));
    }
    let nll = |temperature: f64| negative_log_likelihood(logits, truth, temperature);
    let found = golden_section(COLDEST.ln(), HOTTEST.ln(), |log| nll(log.exp())).exp();
    let nll_before = nll(1.0);
    let before = reliability_of_logits(logits, truth, 1.0, BINS);
    let after = reliability_of_logits(logits, truth, found, BINS);
    // The bracket is finite; where 1 is as good, 1 is kept.
    if nll(found) < nll_before && after.ece <= before.ece {
        return Ok(Calibration { temperature: found, nll_before, nll_after: nll(found), before, after });
    }
    Ok(Calibration { temperature: 1.0, nll_before, nll_after: nll_before, after: before.clone(), before })
}

/// Minimum of a unimodal function. The likelihood is convex in 1 / T, hence unimodal in ln T.
fn golden_section(mut low: f64, mut high: f64, function: impl Fn(f64) -> f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_a, mut at_b) = (function(a), function(b));
    for _ in 0..STEPS {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - golden * (high - low);
            at_a = function(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + golden * (high - low);
            at_b = function(b);
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Logits (0, l) in which class 1 is right with `right` of 100.
    fn said(l: f32, right: usize) -> (Array2<f32>, Vec<usize>) {
        let logits = Array2::from_shape_fn((100, 2), |(_, class)| if class == 1 { l } else { 0.0 });
        (logits, (0..100).map(|i| usize::from(i < right)).collect())
    }

    #[test]
    fn the_temperature_brings_confidence_down_to_the_share_that_is_right() {
        // σ(l / T) = 0.8 ⇒ T = l / ln 4.
        let (logits, truth) = said(5.0, 80);
        let c = fit_temperature(logits.view(), &truth).unwrap();
        assert!((c.temperature - 5.0 / 4f64.ln()).abs() < 1e-4, "{}", c.temperature);
        assert!(c.before.ece > 0.19 && c.after.ece < 1e-4, "{} {}", c.before.ece, c.after.ece);
        assert!(c.nll_after < c.nll_before);
    }

    #[test]
    fn and_up_where_it_was_too_modest() {
        let (logits, truth) = said(0.5, 90);
        let c = fit_temperature(logits.view(), &truth).unwrap();
        assert!((c.temperature - 0.5 / 9f64.ln()).abs() < 1e-4, "{}", c.temperature);
    }

    #[test]
    fn a_temperature_that_takes_confidence_away_from_the_truth_is_not_kept() {
        // Nine samples in ten say 0.9 and are right so often; the tenth is sure and wrong, which alone rules the likelihood.
        let (mut logits, truth) = said(9f32.ln(), 90);
        (0..90).for_each(|i| logits[[i, 1]] = if i % 10 == 0 { 9f32.ln() } else { 2.2 });
        (90..100).for_each(|i| logits[[i, 1]] = if i < 93 { 30.0 } else { 2.0 });
        let c = fit_temperature(logits.view(), &truth).unwrap();
        assert_eq!((c.temperature, c.before == c.after), (1.0, true), "{c:?}");
    }

    #[test]
    fn what_cannot_be_calibrated_is_named() {
        let (mut logits, truth) = said(1.0, 50);
        let fails = |l: &Array2<f32>, t: &[usize]| fit_temperature(l.view(), t).unwrap_err();
        assert_eq!(fails(&Array2::zeros((0, 2)), &[]), CalibrationError::Empty);
        let wrong = fails(&logits, &[2]);
        assert_eq!(wrong, CalibrationError::Labels { rows: 100, classes: 2, labels: 1, largest: 2 });
        logits[[3, 1]] = f32::NAN;
        assert_eq!(fails(&logits, &truth), CalibrationError::NotFinite(3));
    }
}
