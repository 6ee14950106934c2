//! A linear read-out whose penalty is chosen inside its own training rows.
//!
//! Why it exists: a rival with hardly a penalty loses on many correlated pixels, and a penalty chosen on the test would win
//! everywhere. So each read-out leaves out groups of its training rows in turn (animals, or the trials of one animal) and takes
//! the strength that decodes the groups left out best. What it must never do: look at a test row.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::lda::Moments;
use super::metrics::Confusion;
use super::probe::{Probe, ProbeError, ProbeOptions};
use super::rows::stratified;

/// Most folds that a strength is chosen by; more groups than that are left out together.
const FOLDS_MAX: usize = 4;
/// Rows of a probe that is fitted only to choose a strength, and its precision.
const CHOICE: (usize, f64, usize) = (2000, 1e-3, 60);

/// The kind of a linear read-out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readout {
    /// Multinomial logistic regression ([`Probe::fit`]).
    #[default]
    Logistic,
    /// Linear discriminant analysis with shrinkage and equal priors ([`Moments::discriminant`]).
    Discriminant,
}

/// Which strengths are tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Strengths {
    /// Of the penalty ½ Σ w² of a logistic read-out against the *mean* loss of a row: 1 / (C · rows) in scikit-learn's terms.
    pub penalties: Vec<f64>,
    /// Of the shrinkage of a discriminant, above 0, below 1.
    pub shrinkages: Vec<f64>,
}

impl Default for Strengths {
    fn default() -> Self {
        Self { penalties: vec![1e-4, 1e-3, 1e-2, 1e-1, 1.0], shrinkages: vec![0.05, 0.2, 0.5] }
    }
}

impl Strengths {
    /// Those of a kind of read-out, in their order.
    pub fn of(&self, readout: Readout) -> &[f64] {
        match readout {
            Readout::Logistic => &self.penalties,
            Readout::Discriminant => &self.shrinkages,
        }
    }
}

/// The rows that a read-out learns from.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `[rows, dimensions]`.
    pub values: ArrayView2<'a, f32>,
    /// Class of each row.
    pub labels: &'a [usize],
    /// Number of classes.
    pub classes: usize,
}

impl Readout {
    /// Fits with one strength. `options` hold for a logistic read-out, but for its `c`; of a discriminant, `rows_max` does.
    ///
    /// # Errors
    /// As [`Probe::fit`], and [`ProbeError::Option`] for a strength without a solution.
    pub fn fit(self, rows: Rows<'_>, strength: f64, options: &ProbeOptions) -> Result<Probe, ProbeError> {
        match self {
            Self::Logistic => logistic(rows, strength, options),
            Self::Discriminant => {
                let mut values = rows.values.to_owned();
                let mut labels = rows.labels.to_vec();
                if labels.len() > options.rows_max {
                    let (chosen, _) = stratified(&labels, rows.classes, options.rows_max, options.seed);
                    values = values.select(Axis(0), &chosen);
                    labels = chosen.iter().map(|&row| rows.labels[row]).collect();
                }
                checked(Rows { values: values.view(), labels: &labels, ..rows })?;
                let mut moments = Moments::new(mean(values.view()), rows.classes);
                moments.add_rows(values.view(), &labels);
                discriminant(&moments, strength)
            }
        }
    }

    /// The strength of `strengths` with the highest balanced accuracy on groups left out; of equals the largest. `group` states
    /// the group of each row. With fewer than two groups the rows are cut in two where they lie.
    ///
    /// # Errors
    /// As [`Readout::fit`].
    pub fn choose(
        self,
        rows: Rows<'_>,
        group: &[usize],
        strengths: &[f64],
        options: &ProbeOptions,
    ) -> Result<f64, ProbeError> {
        let [first, _, ..] = strengths else {
            let none = ProbeError::Option { name: "the number of strengths", value: 0.0 };
            return strengths.first().copied().ok_or(none);
        };
        checked(rows)?;
        let folds = folds(group);
        let scored = match self {
            Self::Logistic => logistic_scores(rows, &folds, strengths, options)?,
            Self::Discriminant => discriminant_scores(rows, &folds, strengths)?,
        };
        let mut best = (*first, f64::NEG_INFINITY);
        for (&strength, confusion) in strengths.iter().zip(&scored) {
            // NaN, of no rows, is never better.
            let score = confusion.balanced_accuracy();
            if score > best.1 || (score == best.1 && strength > best.0) {
                best = (strength, score);
            }
        }
        Ok(best.0)
    }
}

/// Fold of each row.
pub(super) fn folds(group: &[usize]) -> Vec<usize> {
    let mut groups = group.to_vec();
    groups.sort_unstable();
    groups.dedup();
    if groups.len() < 2 {
        return (0..group.len()).map(|at| usize::from(2 * at >= group.len())).collect();
    }
    let folds = groups.len().min(FOLDS_MAX);
    group.iter().map(|of| groups.binary_search(of).unwrap_or(0) % folds).collect()
}

fn logistic(rows: Rows<'_>, penalty: f64, options: &ProbeOptions) -> Result<Probe, ProbeError> {
    // Weights of balanced classes sum to the number of rows, whichever of them are chosen.
    let c = 1.0 / (penalty * rows.labels.len().max(1) as f64);
    let options = ProbeOptions { c, ..options.clone() };
    Probe::fit(rows.values, rows.labels, rows.classes, None, &options)
}

/// The rows of a fold, or of all others.
fn part(rows: Rows<'_>, folds: &[usize], keep: impl Fn(usize) -> bool) -> (Array2<f32>, Vec<usize>) {
    let chosen: Vec<usize> = (0..folds.len()).filter(|&row| keep(folds[row])).collect();
    (rows.values.select(Axis(0), &chosen), chosen.iter().map(|&row| rows.labels[row]).collect())
}

fn count(folds: &[usize]) -> usize {
    folds.iter().max().map_or(0, |last| last + 1)
}

fn logistic_scores(
    rows: Rows<'_>,
    folds: &[usize],
    penalties: &[f64],
    options: &ProbeOptions,
) -> Result<Vec<Confusion>, ProbeError> {
    let (rows_max, tolerance, iterations_max) = CHOICE;
    let options =
        ProbeOptions { rows_max: options.rows_max.min(rows_max), tolerance, iterations_max, ..options.clone() };
    let mut scores = vec![Confusion::new(rows.classes); penalties.len()];
    for fold in 0..count(folds) {
        let ((values, labels), (tested, truth)) = (part(rows, folds, |f| f != fold), part(rows, folds, |f| f == fold));
        if labels.is_empty() {
            continue;
        }
        let training = Rows { values: values.view(), labels: &labels, ..rows };
        for (score, &penalty) in scores.iter_mut().zip(penalties) {
            let decoded = logistic(training, penalty, &options)?.predict(tested.view());
            score.add(&Confusion::of(&truth, &decoded, rows.classes));
        }
    }
    Ok(scores)
}

/// The moments of each fold are taken once; a fold is left out by taking them away.
fn discriminant_scores(rows: Rows<'_>, folds: &[usize], shrinkages: &[f64]) -> Result<Vec<Confusion>, ProbeError> {
    let none = Moments::new(mean(rows.values), rows.classes);
    let moments_of = |fold: usize| {
        let (values, labels) = part(rows, folds, |f| f == fold);
        let mut moments = none.clone();
        moments.add_rows(values.view(), &labels);
        (moments, values, labels)
    };
    let of_folds: Vec<_> = (0..count(folds)).map(moments_of).collect();
    let mut all = none.clone();
    of_folds.iter().for_each(|(moments, ..)| all.add(moments));
    let mut scores = vec![Confusion::new(rows.classes); shrinkages.len()];
    for (moments, tested, truth) in &of_folds {
        let mut others = all.clone();
        others.take_out(moments);
        for (score, &shrinkage) in scores.iter_mut().zip(shrinkages) {
            // One fold may hold all that varies; the others then say nothing about it.
            let Ok(probe) = discriminant(&others, shrinkage) else { continue };
            score.add(&Confusion::of(truth, &probe.predict(tested.view()), rows.classes));
        }
    }
    Ok(scores)
}

fn discriminant(moments: &Moments, shrinkage: f64) -> Result<Probe, ProbeError> {
    if !(shrinkage > 0.0 && shrinkage < 1.0) {
        return Err(ProbeError::Option { name: "shrinkage", value: shrinkage });
    }
    moments.discriminant(shrinkage).ok_or(ProbeError::Still)
}

fn mean(values: ArrayView2<'_, f32>) -> Array1<f32> {
    let mut mean = Array1::<f64>::zeros(values.ncols());
    values.rows().into_iter().for_each(|row| mean.zip_mut_with(&row, |m, v| *m += f64::from(*v)));
    mean.mapv(|m| (m / values.nrows().max(1) as f64) as f32)
}

fn checked(rows: Rows<'_>) -> Result<(), ProbeError> {
    super::probe::checked(rows.values, rows.labels, rows.classes, None, &ProbeOptions::default())
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::evaluate::rows::generator;

    /// Two classes that differ in dimension 0, and a dimension per group that tells them apart better within the group alone.
    fn misleading(dimensions: usize) -> (Array2<f32>, Vec<usize>, Vec<usize>) {
        let (groups, each) = (6, 40);
        let mut rng = generator(3, 9);
        let mut values = Array2::from_shape_simple_fn((groups * each, dimensions), || rng.random::<f32>() - 0.5);
        let (mut labels, mut group) = (Vec::new(), Vec::new());
        for row in 0..groups * each {
            let (class, of) = (row % 2, row / each);
            values[[row, 0]] += 0.35 * (class as f32 - 0.5);
            for own in 1..dimensions {
                let sign = if (of * 7 + own * 3) % 5 < 2 { 1.0 } else { -1.0 };
                values[[row, own]] += 0.12 * sign * (class as f32 - 0.5);
            }
            labels.push(class);
            group.push(of);
        }
        (values, labels, group)
    }

    #[test]
    fn groups_that_contradict_each_other_ask_for_a_strong_penalty() {
        let (values, labels, group) = misleading(60);
        let rows = Rows { values: values.view(), labels: &labels, classes: 2 };
        for readout in [Readout::Logistic, Readout::Discriminant] {
            let strengths = Strengths::default();
            let chosen = readout.choose(rows, &group, strengths.of(readout), &ProbeOptions::default()).unwrap();
            assert!(chosen > strengths.of(readout)[0], "{readout:?}: {chosen}");
            let again = readout.choose(rows, &group, strengths.of(readout), &ProbeOptions::default()).unwrap();
            assert_eq!(chosen, again);
        }
    }

    #[test]
    fn one_strength_is_not_chosen_and_one_group_is_cut_in_two() {
        let (values, labels, _) = misleading(4);
        let rows = Rows { values: values.view(), labels: &labels, classes: 2 };
        let options = ProbeOptions::default();
        let one = |strengths: &[f64]| Readout::Logistic.choose(rows, &[0; 240], strengths, &options);
        assert_eq!(one(&[0.5]), Ok(0.5));
        assert!(one(&[1e-3, 1e-1]).is_ok());
        assert!(one(&[]).is_err());
        assert_eq!(folds(&[7; 4]), [0, 0, 1, 1]);
        assert_eq!(folds(&[3, 3, 9, 5, 9]), [0, 0, 2, 1, 2]);
        assert_eq!(folds(&[0, 1, 2, 3, 4, 5]), [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn a_discriminant_is_refused_by_name_where_there_is_none() {
        let values = Array2::from_elem((4, 2), 1.0);
        let rows = Rows { values: values.view(), labels: &[0, 1, 0, 1], classes: 2 };
        let fit = |strength| Readout::Discriminant.fit(rows, strength, &ProbeOptions::default()).unwrap_err();
        assert_eq!(fit(0.5), ProbeError::Still);
        assert!(fit(1.0).to_string().starts_with("shrinkage is 1"));
    }
}
