//! Refits the classifier to a few labelled bouts of the new animal, penalised towards the present one.
//!
//! Why it exists: two minutes of labels are too few for a classifier of a hundred dimensions, but enough to correct one. What it
//! must never do: keep a classifier that is worse than the present one on bouts it did not see.
//!
//! Neighbouring frames share most of their window, so frames cannot be held out one by one. Whole bouts are joined into pieces of
//! some windows, the pieces are assigned to folds, and frames within a window of a held-out piece are not used for training. The
//! strength of the penalty is a constant. Choosing it inside each fold was tried and was worse: two minutes contain some forty
//! bouts, most of them of two actions, and the choice followed their chance.

use ndarray::{Array2, ArrayView2, Axis};

use super::CalibrateError;
use crate::model::head::Classifier;

/// Minimum length of a piece of whole bouts, windows.
pub const PIECE_WINDOWS: usize = 2;
/// Minimum number of pieces.
pub const PIECES_MIN: usize = 4;
/// Maximum number of folds.
const FOLDS_MAX: usize = 5;
/// Strength of the penalty, windows of labelled samples: neighbours share their window, so a window of them counts once. Chosen on
/// simulated animals of a separate seed, two minutes of labels each: less gains as much on the mean and loses more on the worst.
const HOLD_WINDOWS: f64 = 1.0;

/// Fits a classifier to embeddings `[samples, dimensions]` and labels, penalised towards the present one with this strength.
pub type Fit<'a> = dyn Fn(&Classifier, f64, ArrayView2<f32>, &[usize]) -> Result<Classifier, String> + 'a;

/// Labelled samples of one recording, in order of time.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Embeddings of length 1, `[samples, dimensions]`.
    pub values: ArrayView2<'a, f32>,
    /// Index of each one among the decodes of the recording; neighbours in time differ by 1.
    pub at: &'a [usize],
    /// Index into the model's labels.
    pub label: &'a [usize],
}

/// Scores of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Scores {
    /// Share of samples decoded correctly.
    pub accuracy: f64,
    /// Mean recall of the actions that occur.
    pub balanced_accuracy: f64,
}

impl Scores {
    /// What a classifier is judged by. Balanced accuracy alone depends on the two or three bouts of a rare action.
    fn sum(&self) -> f64 {
        self.accuracy + self.balanced_accuracy
    }
}

/// The result of a refit.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Refit {
    /// Fitted to all labelled samples.
    #[serde(skip)]
    pub classifier: Classifier,
    /// Strength of the penalty.
    pub strength: f64,
    /// Number of labelled samples.
    #[serde(rename = "moments")]
    pub samples: usize,
    /// Number of pieces of whole bouts.
    pub pieces: usize,
    /// The present classifier on every bout.
    pub before: Scores,
    /// On every bout, the classifier that was fitted without it.
    pub after: Scores,
    /// Why it must not be used; `None` = use it.
    pub refused: Option<String>,
}

/// Accuracy and balanced accuracy of decoded labels.
pub fn scores(truth: &[usize], decoded: &[usize], labels: usize) -> Scores {
    let mut counts = vec![(0_u64, 0_u64); labels];
    for (truth, decoded) in truth.iter().zip(decoded) {
        counts[*truth].0 += 1;
        counts[*truth].1 += u64::from(truth == decoded);
    }
    let hits: u64 = counts.iter().map(|(_, hits)| hits).sum();
    let there: Vec<f64> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, hits)| *hits as f64 / *n as f64).collect();
    Scores {
        accuracy: hits as f64 / truth.len().max(1) as f64,
        balanced_accuracy: there.iter().sum::<f64>() / there.len().max(1) as f64,
    }
}

/// Refits the classifier and judges it on held-out bouts. `names` are the model's labels.
///
/// # Errors
/// [`CalibrateError::OneAction`], [`CalibrateError::FewBouts`] or [`CalibrateError::Fit`].
pub fn refit<'a>(
    present: &'a Classifier,
    labelled: Labelled<'a>,
    window_frames: usize,
    names: &[String],
    fit: &'a Fit<'_>,
) -> Result<Refit, CalibrateError> {
    let truth = labelled.label;
    if let Some(&first) = truth.first().filter(|first| truth.iter().all(|label| label == *first)) {
        return Err(CalibrateError::OneAction { action: names.get(first).cloned().unwrap_or_default() });
    }
    let pieces = pieces_of(labelled, PIECE_WINDOWS * window_frames);
    let found = pieces.iter().max().map_or(0, |last| last + 1);
    if found < PIECES_MIN {
        return Err(CalibrateError::FewBouts { found, frames: PIECE_WINDOWS * window_frames });
    }
    let strength = HOLD_WINDOWS * window_frames as f64;
    let judge = Judge { present, labelled, window_frames, strength, fit };
    let folds = deal(truth, &pieces, FOLDS_MAX.min(found));
    let all: Vec<usize> = (0..truth.len()).collect();
    let mut decoded = vec![0; truth.len()];
    for fold in 0..=folds.iter().copied().max().unwrap_or(0) {
        let (learnt, left_out) = judge.split(&all, &folds, fold);
        let classifier = judge.fitted(&learnt)?;
        left_out.iter().for_each(|&row| decoded[row] = classifier.strongest(&judge.row(row)));
    }
    let before: Vec<usize> = all.iter().map(|&row| present.strongest(&judge.row(row))).collect();
    let (before, after) = (scores(truth, &before, names.len()), scores(truth, &decoded, names.len()));
    let refused = (after.sum() <= before.sum()).then(|| {
        let percent = |s: Scores| format!("{:.1} and {:.1} %", s.accuracy * 100.0, s.balanced_accuracy * 100.0);
        let (before, after) = (percent(before), percent(after));
        format!("it is no better on held-out bouts (accuracy and balanced accuracy {before} → {after})")
    });
    let classifier = judge.fitted(&all)?;
    Ok(Refit { classifier, strength, samples: truth.len(), pieces: found, before, after, refused })
}

struct Judge<'a, 'f> {
    present: &'a Classifier,
    labelled: Labelled<'a>,
    window_frames: usize,
    strength: f64,
    fit: &'a Fit<'f>,
}

impl Judge<'_, '_> {
    fn row(&self, row: usize) -> Vec<f32> {
        self.labelled.values.row(row).to_vec()
    }

    /// Splits `rows` into those to learn from when this fold is held out, and those held out. Rows that share a window with the
    /// latter are in neither.
    fn split(&self, rows: &[usize], folds: &[usize], fold: usize) -> (Vec<usize>, Vec<usize>) {
        let left_out: Vec<usize> = rows.iter().copied().filter(|&row| folds[row] == fold).collect();
        let at = self.labelled.at;
        let out_at: Vec<usize> = left_out.iter().map(|&row| at[row]).collect();
        let near = |row: usize| {
            let next = out_at.partition_point(|&other| other < at[row]);
            let gaps = [next.checked_sub(1), Some(next)].into_iter().flatten().filter_map(|i| out_at.get(i));
            gaps.map(|other| other.abs_diff(at[row])).min().is_some_and(|gap| gap < self.window_frames)
        };
        (rows.iter().copied().filter(|&row| folds[row] != fold && !near(row)).collect(), left_out)
    }

    /// Fitted to these rows; the present one if there are none.
    fn fitted(&self, rows: &[usize]) -> Result<Classifier, CalibrateError> {
        if rows.is_empty() {
            return Ok(self.present.clone());
        }
        let values: Array2<f32> = self.labelled.values.select(Axis(0), rows);
        let labels: Vec<usize> = rows.iter().map(|&row| self.labelled.label[row]).collect();
        (self.fit)(self.present, self.strength, values.view(), &labels).map_err(CalibrateError::Fit)
    }
}

/// The piece of each sample: consecutive whole bouts, at least `frames` long together. The rest at the end is added to the last
/// piece.
fn pieces_of(labelled: Labelled<'_>, frames: usize) -> Vec<usize> {
    let Labelled { at, label, .. } = labelled;
    let (mut pieces, mut piece, mut began) = (Vec::with_capacity(at.len()), 0, 0);
    for row in 0..at.len() {
        let bout_began = row > 0 && (label[row] != label[row - 1] || at[row] != at[row - 1] + 1);
        if bout_began && row - began >= frames {
            (piece, began) = (piece + 1, row);
        }
        pieces.push(piece);
    }
    if at.len() - began < frames && piece > 0 {
        pieces[began..].iter_mut().for_each(|p| *p -= 1);
    }
    pieces
}

/// Assigns the pieces to folds in turn, ordered by their rarest action, so that each fold gets some of each.
fn deal(label: &[usize], pieces: &[usize], folds: usize) -> Vec<usize> {
    let labels = label.iter().max().map_or(0, |m| m + 1);
    let mut frames = vec![0_usize; labels];
    label.iter().for_each(|&label| frames[label] += 1);
    let count = pieces.iter().max().map_or(0, |m| m + 1);
    let mut rarest = vec![0_usize; count];
    let mut fewest = vec![usize::MAX; count];
    for (&piece, &label) in pieces.iter().zip(label) {
        if frames[label] < fewest[piece] {
            (rarest[piece], fewest[piece]) = (label, frames[label]);
        }
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&piece| (frames[rarest[piece]], rarest[piece], piece));
    let mut fold_of = vec![0; count];
    order.iter().enumerate().for_each(|(place, &piece)| fold_of[piece] = place % folds);
    pieces.iter().map(|&piece| fold_of[piece]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::random::SplitMix;

    const WIDTH: usize = 6;
    const LABELS: usize = 3;

    /// Full-batch descent on the balanced logistic loss plus ½·strength·|w − w₀|²: slow, short, and its own oracle.
    fn descend(prior: &Classifier, strength: f64, x: ArrayView2<f32>, y: &[usize]) -> Result<Classifier, String> {
        let mut counts = vec![0.0_f64; prior.bias.len()];
        y.iter().for_each(|&label| counts[label] += 1.0);
        let weigh = |label: usize| y.len() as f64 / (counts.len() as f64 * counts[label]);
        let mut now = prior.clone();
        let rate = 1.0 / (strength + y.len() as f64);
        for _ in 0..300 {
            let mut gradient = Array2::<f64>::zeros((WIDTH, LABELS));
            for (row, &label) in x.rows().into_iter().zip(y) {
                let logits = now.logits(&row.to_vec());
                let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
                for class in 0..LABELS {
                    let miss = f64::from(logits[class]).exp() / sum - f64::from(u8::from(class == label));
                    (0..WIDTH).for_each(|d| gradient[[d, class]] += weigh(label) * miss * f64::from(row[d]));
                }
            }
            for ((at, weight), gradient) in now.weight.indexed_iter_mut().zip(&gradient) {
                let pull = strength * f64::from(*weight - prior.weight[at]);
                *weight -= (rate * (gradient + pull)) as f32;
            }
        }
        Ok(now)
    }

    fn names() -> Vec<String> {
        ["rest", "walk", "groom"].map(String::from).to_vec()
    }

    fn prior() -> Classifier {
        let weight = Array2::from_shape_fn((WIDTH, LABELS), |(d, l)| if d == l { 4.0 } else { 0.0 });
        Classifier { weight, bias: vec![0.0; LABELS] }
    }

    /// Bouts of 12 frames of each action in turn; action `l` lies along axis `axis[l]`, with noise.
    fn animal(frames: usize, axis: [usize; LABELS], noise: f32) -> (Array2<f32>, Vec<usize>, Vec<usize>) {
        let mut random = SplitMix(3);
        let mut values = Array2::zeros((frames, WIDTH));
        let label: Vec<usize> = (0..frames).map(|frame| frame / 12 % LABELS).collect();
        for (mut row, label) in values.rows_mut().into_iter().zip(&label) {
            row.iter_mut().for_each(|v| *v = noise * random.signed());
            row[axis[*label]] += 1.0;
            let length = row.dot(&row).sqrt();
            row.mapv_inplace(|v: f32| v / length);
        }
        (values, (0..frames).collect(), label)
    }

    #[test]
    fn an_animal_that_speaks_another_dialect_is_learnt() {
        // What the model takes for walking and grooming lies elsewhere in this animal.
        let (values, at, label) = animal(360, [0, 3, 4], 0.4);
        let labelled = Labelled { values: values.view(), at: &at, label: &label };
        let found = refit(&prior(), labelled, 4, &names(), &descend).unwrap();
        println!("{found:?}");
        assert_eq!(found.refused, None);
        assert!(found.before.balanced_accuracy < 0.75 && found.after.balanced_accuracy > 0.9, "{found:?}");
    }

    #[test]
    fn an_animal_that_the_model_knows_changes_nothing() {
        let (values, at, label) = animal(360, [0, 1, 2], 0.4);
        let labelled = Labelled { values: values.view(), at: &at, label: &label };
        let found = refit(&prior(), labelled, 4, &names(), &descend).unwrap();
        assert!(found.before.balanced_accuracy > 0.95, "{found:?}");
        assert!(found.refused.is_some() || found.after.sum() > found.before.sum(), "{found:?}");
    }

    #[test]
    fn labels_that_say_nothing_are_refused_on_the_bouts_that_were_left_out() {
        // Each bout has an embedding of its own, so that what is learnt of one says nothing of another.
        let (mut values, at, label) = animal(360, [0, 1, 2], 0.0);
        let mut random = SplitMix(9);
        for bout in 0..30 {
            let direction: Vec<f32> = (0..WIDTH).map(|_| random.signed()).collect();
            (bout * 12..(bout + 1) * 12)
                .for_each(|row| values.row_mut(row).iter_mut().zip(&direction).for_each(|(v, d)| *v = *d));
        }
        let labelled = Labelled { values: values.view(), at: &at, label: &label };
        let found = refit(&prior(), labelled, 4, &names(), &descend).unwrap();
        assert!(found.after.balanced_accuracy < 0.7, "nothing can be learnt: {found:?}");
        // On the bouts themselves it would look good.
        let own: Vec<usize> = values.rows().into_iter().map(|r| found.classifier.strongest(&r.to_vec())).collect();
        let own = scores(&label, &own, LABELS);
        assert!(own.balanced_accuracy >= found.after.balanced_accuracy, "{own:?} {found:?}");
    }

    #[test]
    fn too_few_bouts_and_one_action_alone_are_said() {
        let (values, at, label) = animal(360, [0, 1, 2], 0.1);
        let cut = |rows: usize, window: usize| {
            let labelled =
                Labelled { values: values.slice(ndarray::s![..rows, ..]), at: &at[..rows], label: &label[..rows] };
            refit(&prior(), labelled, window, &names(), &descend).unwrap_err()
        };
        assert_eq!(cut(12, 4), CalibrateError::OneAction { action: "rest".into() });
        assert_eq!(cut(36, 6), CalibrateError::FewBouts { found: 3, frames: 12 });
        assert!(cut(36, 6).to_string().contains("make 3 pieces"), "{}", cut(36, 6));
    }

    #[test]
    fn what_shares_a_window_with_a_left_out_bout_is_not_learnt_from() {
        let (values, at, label) = animal(120, [0, 1, 2], 0.1);
        let labelled = Labelled { values: values.view(), at: &at, label: &label };
        let present = prior();
        let judge = Judge { present: &present, labelled, window_frames: 5, strength: 1.0, fit: &descend };
        let pieces = pieces_of(labelled, 10);
        assert_eq!((pieces[11], pieces[12], pieces[119]), (0, 1, 9));
        let folds = deal(&label, &pieces, 5);
        for fold in 0..5 {
            let there = |wanted| folds.iter().zip(&label).any(|(f, l)| (*f, *l) == (fold, wanted));
            assert!((0..LABELS).filter(|l| there(*l)).count() == 2, "ten bouts of three actions in five folds");
        }
        let all: Vec<usize> = (0..120).collect();
        for fold in 0..5 {
            let (learnt, left_out) = judge.split(&all, &folds, fold);
            assert_eq!(left_out.len(), 24);
            assert!(learnt.iter().all(|a| left_out.iter().all(|b| a.abs_diff(*b) >= 5)));
            assert!(learnt.len() >= 120 - 24 - 4 * 4, "{}", learnt.len());
        }
        // A gap in time ends a bout as well.
        let gapped: Vec<usize> = (0..120).map(|row| if row < 6 { row } else { row + 50 }).collect();
        assert_eq!(pieces_of(Labelled { at: &gapped, ..labelled }, 6)[6], 1);
    }

    #[test]
    fn scores_are_those_of_hand() {
        let found = scores(&[0, 0, 0, 1], &[0, 0, 1, 1], 3);
        assert_eq!((found.accuracy, found.balanced_accuracy), (0.75, (2.0 / 3.0 + 1.0) / 2.0));
    }
}
