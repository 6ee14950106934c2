//! Alignment without labels: one shift of the raw embedding that turns a new animal's directions to those of training.
//!
//! Why it exists: an animal's own anatomy and brightness shift all its raw embeddings alike. What it must never do: mistake
//! another mixture of actions for a gap between animals.
//!
//! A few minutes of an animal are mostly rest, so the mean of its embeddings differs from that of training with or without a gap,
//! and means are never compared. Each sample is compared with its nearest prototype of training, and what counts is the mean turn
//! within each prototype's cell; the cells then weigh nearly the same, however many samples they have (n / (n + window)). An
//! animal that only rests is compared with resting, and one without a gap is not shifted. As in iterative closest points (Besl &
//! McKay 1992), samples are reassigned after each step.
//!
//! Only directions count, because length is normalised away: of each difference, the component orthogonal to the prototype is used.
//! The shift is shrunk by the number of independent samples (windows), each of its values is bounded by the spread of that
//! dimension, and it is judged by two-fold cross-validation: samples of one half by the shift of the other half.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::CalibrateError;
use crate::model::head::{AlignmentReference, NoveltyReference};
use crate::sys::statistics;

/// Maximum number of rounds of assigning and shifting.
const ROUNDS: usize = 20;
/// Minimum length of a raw embedding: the network's own bound.
const LENGTH_MIN: f64 = 1e-12;
/// Converged when a step is shorter than this share of the shift.
const SETTLED: f64 = 1e-3;
/// Maximum number of samples for a shift, evenly spread: neighbours share most of their window.
const ROWS_MAX: usize = 4000;
/// Number of windows at which the shift is shrunk to half.
const HALF_WINDOWS: f64 = 10.0;
/// The halves consist of alternating blocks of this many windows.
const BLOCK_WINDOWS: usize = 2;
/// Minimum number of windows: two blocks for each half.
const WINDOWS_MIN: usize = 4 * BLOCK_WINDOWS;
/// Maximum of one value of the shift, standard deviations of its dimension.
const SHIFT_SD_MAX: f64 = 2.0;
/// Maximum turn of the median embedding, degrees: beyond it, it is another experiment, not another animal.
pub const TURN_MAX_DEGREES: f32 = 45.0;

/// What alignment found, whether or not it is used.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Alignment {
    /// To be added to every raw embedding.
    #[serde(skip)]
    pub shift: Vec<f32>,
    /// Number of samples it was found from.
    #[serde(rename = "moments")]
    pub samples: usize,
    /// Median distance from the nearest prototype as it is.
    pub distance_before: f32,
    /// The same, each half of the samples moved by the shift that the other half gave.
    pub distance_after: f32,
    /// Median novelty as it is.
    pub novelty_before: f32,
    /// The same, cross-validated.
    pub novelty_after: f32,
    /// Turn of the median embedding, degrees.
    pub turned_degrees: f32,
    /// Number of values of the shift that reached their bound.
    pub bounded: usize,
    /// Why it must not be used; `None` = use it.
    pub refused: Option<String>,
}

/// Finds and judges the shift from raw embeddings `[samples, dimensions]`, in order of time.
///
/// `reference` gives the unit of the bound; without it, the spread of these samples is the unit.
///
/// # Errors
/// [`CalibrateError::TooShort`], [`CalibrateError::NonFinite`] or [`CalibrateError::Dimensions`].
pub fn align(
    raw: ArrayView2<f32>,
    window_frames: usize,
    novelty: &NoveltyReference,
    reference: Option<&AlignmentReference>,
) -> Result<Alignment, CalibrateError> {
    check(raw, window_frames, novelty, reference)?;
    let own = AlignmentReference::of(raw);
    let bound: Vec<f64> = reference.unwrap_or(&own).sd.iter().map(|sd| SHIFT_SD_MAX * f64::from(*sd)).collect();
    let fit = Fit { prototypes: novelty.prototypes.mapv(f64::from), bound, window: window_frames as f64 };
    let half = |row: usize| row / (BLOCK_WINDOWS * window_frames) % 2;
    let rows = |wanted: usize| (0..raw.nrows()).filter(|row| half(*row) == wanted).collect::<Vec<_>>();
    let crossed = [fit.shift(raw, &rows(1)), fit.shift(raw, &rows(0))];
    let shift = fit.shift(raw, &(0..raw.nrows()).collect::<Vec<_>>());

    let still = vec![0.0; raw.ncols()];
    let distances = |shift_of: &dyn Fn(usize) -> Vec<f64>| -> Vec<f32> {
        raw.rows().into_iter().enumerate().map(|(row, r)| novelty.distance(&unit(r, &shift_of(row)))).collect()
    };
    let before = distances(&|_| still.clone());
    let after = distances(&|row| crossed[half(row)].clone());
    let turned = raw.rows().into_iter().map(|r| {
        let cosine: f32 = unit(r, &still).iter().zip(unit(r, &shift)).map(|(a, b)| a * b).sum();
        cosine.clamp(-1.0, 1.0).acos().to_degrees()
    });
    let ranks = |distances: &[f32]| median(distances.iter().map(|d| novelty.rank(*d)).collect());
    let mut found = Alignment {
        samples: raw.nrows(),
        distance_before: median(before.clone()),
        distance_after: median(after.clone()),
        novelty_before: ranks(&before),
        novelty_after: ranks(&after),
        turned_degrees: median(turned.collect()),
        bounded: shift.iter().zip(&fit.bound).filter(|(s, bound)| s.abs() >= **bound).count(),
        refused: None,
        shift: shift.iter().map(|&s| s as f32).collect(),
    };
    found.refused = refusal(&found);
    Ok(found)
}

/// Adds `shift` to every row and normalises it to length 1.
pub fn unit_rows(raw: ArrayView2<f32>, shift: &[f32]) -> Array2<f32> {
    let shift: Vec<f64> = shift.iter().map(|&s| f64::from(s)).collect();
    let mut rows = Array2::zeros(raw.dim());
    for (mut row, r) in rows.axis_iter_mut(Axis(0)).zip(raw.rows()) {
        row.iter_mut().zip(unit(r, &shift)).for_each(|(to, from)| *to = from);
    }
    rows
}

fn check(
    raw: ArrayView2<f32>,
    window: usize,
    novelty: &NoveltyReference,
    reference: Option<&AlignmentReference>,
) -> Result<(), CalibrateError> {
    let (found, needed) = (raw.nrows(), WINDOWS_MIN * window);
    if found < needed {
        return Err(CalibrateError::TooShort { found, needed, windows: WINDOWS_MIN, window });
    }
    if let Some(row) = raw.rows().into_iter().position(|r| r.iter().any(|v| !v.is_finite())) {
        return Err(CalibrateError::NonFinite { row });
    }
    let expected = raw.ncols();
    let widths = [("novelty", novelty.prototypes.ncols()), ("alignment", reference.map_or(expected, |r| r.sd.len()))];
    match widths.into_iter().find(|(_, found)| *found != expected) {
        Some((what, found)) => Err(CalibrateError::Dimensions { what, found, expected }),
        None => Ok(()),
    }
}

fn refusal(found: &Alignment) -> Option<String> {
    let Alignment { distance_before, distance_after, turned_degrees, .. } = found;
    if distance_after >= distance_before {
        return Some(format!(
            "it does not bring this animal closer to training (median distance {distance_before:.4} → {distance_after:.4})"
        ));
    }
    (*turned_degrees > TURN_MAX_DEGREES).then(|| {
        format!("it would turn the median embedding by {turned_degrees:.0}°, more than {TURN_MAX_DEGREES:.0}°")
    })
}

/// What the shift is found with.
struct Fit {
    prototypes: Array2<f64>,
    bound: Vec<f64>,
    window: f64,
}

impl Fit {
    /// The shift that these rows give, shrunk and bounded.
    fn shift(&self, raw: ArrayView2<f32>, rows: &[usize]) -> Vec<f64> {
        let stride = rows.len().div_ceil(ROWS_MAX).max(1);
        let spread: Vec<usize> = rows.iter().copied().step_by(stride).collect();
        let mut shift = vec![0.0; raw.ncols()];
        for _ in 0..ROUNDS {
            let step = self.step(raw, &spread, self.window / stride as f64, &shift);
            shift.iter_mut().zip(&step).for_each(|(s, more)| *s += more);
            let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length(&step) <= SETTLED * length(&shift) {
                break;
            }
        }
        let windows = rows.len() as f64 / self.window;
        let kept = windows / (windows + HALF_WINDOWS);
        shift.iter().zip(&self.bound).map(|(s, bound)| (s * kept).clamp(-bound, *bound)).collect()
    }

    /// The mean over the cells of the shift that each of them still lacks: the one that would make the directions of its
    /// samples sum to nothing across the prototype, as they did in training, where prototypes are the mean directions of
    /// their cells. A shift turns a sample by itself over the sample's length. A cell of `half` samples weighs half.
    fn step(&self, raw: ArrayView2<f32>, rows: &[usize], half: f64, shift: &[f64]) -> Vec<f64> {
        let (cells, width) = self.prototypes.dim();
        let mut sums = Array2::<f64>::zeros((cells, width));
        let (mut counts, mut turns) = (vec![0.0_f64; cells], vec![0.0_f64; cells]);
        for &row in rows {
            let mut moved: Vec<f64> = raw.row(row).iter().zip(shift).map(|(&r, s)| f64::from(r) + s).collect();
            let length = moved.iter().map(|v| v * v).sum::<f64>().sqrt().max(LENGTH_MIN);
            moved.iter_mut().for_each(|v| *v /= length);
            let along = |cell: usize| self.prototypes.row(cell).iter().zip(&moved).map(|(p, v)| p * v).sum::<f64>();
            let dots: Vec<f64> = (0..cells).map(along).collect();
            let nearest = (0..cells).fold(0, |best, cell| if dots[cell] > dots[best] { cell } else { best });
            counts[nearest] += 1.0;
            turns[nearest] += 1.0 / length;
            let prototype = self.prototypes.row(nearest);
            let lacks = prototype.iter().zip(&moved).map(|(p, v)| dots[nearest] * p - v);
            sums.row_mut(nearest).iter_mut().zip(lacks).for_each(|(sum, lack)| *sum += lack);
        }
        let mut step = vec![0.0; width];
        let total: f64 = counts.iter().map(|n| n / (n + half)).sum();
        for ((sum, n), turn) in sums.rows().into_iter().zip(&counts).zip(&turns).filter(|((_, n), _)| **n > 0.0) {
            let weight = n / (n + half) / total / turn;
            step.iter_mut().zip(sum).for_each(|(s, lack)| *s += weight * lack);
        }
        step
    }
}

/// A row plus the shift, normalised to length 1 as the network does.
fn unit(raw: ArrayView1<f32>, shift: &[f64]) -> Vec<f32> {
    // The sum is rounded to f32 where the network rounds it: its bias holds the shift.
    let moved: Vec<f32> = raw.iter().zip(shift).map(|(r, s)| r + *s as f32).collect();
    let length = moved.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    moved.iter().map(|v| (f64::from(*v) / length) as f32).collect()
}

fn median(mut values: Vec<f32>) -> f32 {
    statistics::median(&mut values, f32::total_cmp).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;
    use crate::sys::random::SplitMix;

    const WIDTH: usize = 16;
    const WINDOW: usize = 8;
    const ACTIONS: usize = 5;

    /// Directions of the actions, and a sample of one of them: noise around it, in bouts of 40 frames.
    struct World {
        actions: Array2<f32>,
        random: SplitMix,
    }

    impl World {
        fn new() -> Self {
            let mut random = SplitMix(7);
            let mut actions = Array2::from_shape_fn((ACTIONS, WIDTH), |_| random.signed());
            for mut row in actions.rows_mut() {
                let length = row.dot(&row).sqrt();
                row.mapv_inplace(|v| v / length);
            }
            Self { actions, random }
        }

        /// Raw embeddings of an animal whose actions are drawn with these weights and whose raw space is shifted.
        fn animal(&mut self, samples: usize, weights: [f32; ACTIONS], shift: &[f32]) -> (Array2<f32>, Vec<usize>) {
            let (mut raw, mut truth) = (Array2::zeros((samples, WIDTH)), Vec::new());
            let mut action = 0;
            for mut row in raw.rows_mut() {
                if truth.len() % 40 == 0 {
                    let mut at = (self.random.signed() + 1.0) / 2.0 * weights.iter().sum::<f32>();
                    action = weights
                        .iter()
                        .position(|w| {
                            at -= w;
                            at < 0.0
                        })
                        .unwrap_or(ACTIONS - 1);
                }
                let length = 3.0 + self.random.signed();
                let noise = Array1::from_shape_fn(WIDTH, |_| 0.25 * self.random.signed());
                row.assign(&((&self.actions.row(action) + &noise) * length));
                row.iter_mut().zip(shift).for_each(|(v, s)| *v += s);
                truth.push(action);
            }
            (raw, truth)
        }

        /// Prototypes as training finds them: one for each action; thresholds from an animal of training.
        fn reference(&mut self) -> NoveltyReference {
            let (raw, _) = self.animal(4000, [1.0; ACTIONS], &[0.0; WIDTH]);
            let mut reference = NoveltyReference { prototypes: self.actions.clone(), thresholds: Vec::new() };
            let units = unit_rows(raw.view(), &[0.0; WIDTH]);
            let mut distances: Vec<f32> = units.rows().into_iter().map(|r| reference.distance(&r.to_vec())).collect();
            distances.sort_by(f32::total_cmp);
            reference.thresholds = distances.iter().copied().step_by(40).collect();
            reference
        }

        fn correct(&self, raw: &Array2<f32>, truth: &[usize], shift: &[f32]) -> f64 {
            let units = unit_rows(raw.view(), shift);
            let hit = |(row, truth): (ArrayView1<f32>, &usize)| {
                let dots: Vec<f32> = self.actions.rows().into_iter().map(|a| a.dot(&row)).collect();
                (0..ACTIONS).all(|other| dots[other] <= dots[*truth])
            };
            units.rows().into_iter().zip(truth).filter(|pair| hit(*pair)).count() as f64 / truth.len() as f64
        }
    }

    fn length(values: &[f32]) -> f32 {
        values.iter().map(|v| v * v).sum::<f32>().sqrt()
    }

    const MOSTLY_REST: [f32; ACTIONS] = [0.9, 0.04, 0.02, 0.02, 0.02];

    #[test]
    fn a_shifted_animal_is_brought_back_and_its_novelty_falls() {
        let mut world = World::new();
        let reference = world.reference();
        let gap: Vec<f32> = (0..WIDTH).map(|d| if d % 3 == 0 { 0.9 } else { -0.4 }).collect();
        for weights in [[1.0; ACTIONS], MOSTLY_REST] {
            let (raw, truth) = world.animal(3000, weights, &gap);
            let found = align(raw.view(), WINDOW, &reference, None).unwrap();
            assert_eq!(found.refused, None, "{found:?}");
            assert!(found.novelty_before > 0.8 && found.novelty_after < found.novelty_before - 0.2, "{found:?}");
            let before = world.correct(&raw, &truth, &[0.0; WIDTH]);
            let after = world.correct(&raw, &truth, &found.shift);
            println!("{weights:?}: correct {before:.3} → {after:.3}, {found:?}");
            assert!(after >= before && after > 0.9, "{before} → {after}");
        }
    }

    #[test]
    fn an_animal_without_a_gap_is_left_where_it_is_even_if_it_only_rests() {
        let mut world = World::new();
        let reference = world.reference();
        for weights in [[1.0; ACTIONS], MOSTLY_REST, [1.0, 0.0, 0.0, 0.0, 0.0]] {
            let (raw, truth) = world.animal(1500, weights, &[0.0; WIDTH]);
            let found = align(raw.view(), WINDOW, &reference, None).unwrap();
            // Matching means would move it by the distance of this mixture's mean from that of training.
            let naive = raw.mean_axis(Axis(0)).unwrap() - world.actions.mean_axis(Axis(0)).unwrap() * 3.0;
            println!(
                "{weights:?}: moved {:.3}, naively {:.3}, {found:?}",
                length(&found.shift),
                length(&naive.to_vec())
            );
            assert!(length(&found.shift) < 0.15, "{found:?}");
            assert!(found.turned_degrees < 3.0, "{found:?}");
            let (before, after) =
                (world.correct(&raw, &truth, &[0.0; WIDTH]), world.correct(&raw, &truth, &found.shift));
            assert!(after >= before - 0.005, "{before} → {after}");
        }
    }

    #[test]
    fn what_is_no_animal_is_not_bent_until_it_looks_like_one() {
        let mut world = World::new();
        let reference = world.reference();
        // Far away in one direction: to bring it back would turn everything.
        let gap = [30.0; WIDTH];
        let (raw, _) = world.animal(1500, [1.0; ACTIONS], &gap);
        let wide = AlignmentReference { mean: vec![0.0; WIDTH], sd: vec![100.0; WIDTH] };
        let found = align(raw.view(), WINDOW, &reference, Some(&wide)).unwrap();
        assert!(found.refused.as_ref().is_some_and(|why| why.contains('°')), "{found:?}");
        // With the spread of training as its unit the shift is bounded.
        let tight = AlignmentReference { mean: vec![0.0; WIDTH], sd: vec![0.01; WIDTH] };
        let found = align(raw.view(), WINDOW, &reference, Some(&tight)).unwrap();
        assert!(found.bounded > 0 && found.shift.iter().all(|s| s.abs() <= 0.0201), "{found:?}");
    }

    #[test]
    fn few_moments_move_little() {
        let mut world = World::new();
        let reference = world.reference();
        let gap = [0.4; WIDTH];
        let moved = [100, 3000].map(|samples| {
            let (raw, _) = world.animal(samples, [1.0; ACTIONS], &gap);
            length(&align(raw.view(), WINDOW, &reference, None).unwrap().shift)
        });
        assert!(moved[0] < 0.75 * moved[1], "{moved:?}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let mut world = World::new();
        let reference = world.reference();
        let (mut raw, _) = world.animal(200, [1.0; ACTIONS], &[0.0; WIDTH]);
        let short = align(raw.slice(ndarray::s![..63, ..]), WINDOW, &reference, None).unwrap_err().to_string();
        assert!(short.contains("63 embeddings") && short.contains("64 are needed"), "{short}");
        let narrow = align(raw.slice(ndarray::s![.., ..7]), WINDOW, &reference, None).unwrap_err();
        assert_eq!(narrow, CalibrateError::Dimensions { what: "novelty", found: WIDTH, expected: 7 });
        raw[[77, 3]] = f32::NAN;
        let error = align(raw.view(), WINDOW, &reference, None).unwrap_err();
        assert_eq!(error, CalibrateError::NonFinite { row: 77 });
    }
}
