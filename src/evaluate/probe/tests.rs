//! The probe against cases of hand; `tests/workshop/evaluate_against_sklearn.rs` holds it against scikit-learn.

use ndarray::{Array2, array};
use rand::RngExt;

use super::*;
use crate::evaluate::rows::generator;

/// Three clouds, class c around e_c · 2, in five dimensions.
fn clouds(rows: usize, seed: u64) -> (Array2<f32>, Vec<usize>) {
    let mut rng = generator(seed, 9);
    let labels: Vec<usize> = (0..rows).map(|row| if row % 10 < 7 { 0 } else { 1 + row % 2 }).collect();
    let mut values = Array2::from_shape_fn((rows, 5), |_| rng.random::<f32>() * 2.0 - 1.0);
    labels.iter().enumerate().for_each(|(row, &class)| values[[row, class]] += 2.0);
    (values, labels)
}

#[test]
fn two_points_on_a_line_give_the_weight_that_solves_the_equation() {
    // Binary, x = ±1, no class weights: the slope w of scikit-learn's single vector solves w = 2 C (1 − σ(w)).
    let values = array![[-1.0f32], [1.0]];
    let options = ProbeOptions { standardise: false, tolerance: 1e-7, ..ProbeOptions::default() };
    let probe = Probe::fit(values.view(), &[0, 1], 2, None, &options).unwrap();
    let slope = f64::from(probe.weights[[0, 1]] - probe.weights[[0, 0]]);
    let left = 2.0 * (1.0 - 1.0 / (1.0 + (-slope).exp()));
    assert!((slope - left).abs() < 1e-4, "{slope} {left}");
    assert!((probe.intercept[0] - probe.intercept[1]).abs() < 1e-4);
}

#[test]
fn a_rare_class_is_decoded_and_a_class_never_seen_never_is() {
    let (values, labels) = clouds(600, 1);
    let probe = Probe::fit(values.view(), &labels, 5, None, &ProbeOptions::default()).unwrap();
    assert_eq!(probe.trained, [true, true, true, false, false]);
    assert_eq!((probe.intercept[3], probe.intercept[4]), (ABSENT_LOGIT, ABSENT_LOGIT));
    let decoded = probe.predict(values.view());
    let wrong = decoded.iter().zip(&labels).filter(|(a, b)| a != b).count();
    assert!(wrong < 30, "{wrong}");
    assert!(decoded.iter().all(|&class| class < 3));
    assert!(probe.outcome.unwrap().converged);
}

#[test]
fn weights_are_for_features_as_they_are() {
    let (values, labels) = clouds(600, 2);
    let stretched = values.mapv(|v| 40.0 * v + 1000.0);
    let near = Probe::fit(values.view(), &labels, 3, None, &ProbeOptions::default()).unwrap();
    let far = Probe::fit(stretched.view(), &labels, 3, None, &ProbeOptions::default()).unwrap();
    let (a, b) = (near.predict_logits(values.view()), far.predict_logits(stretched.view()));
    let worst = (&a - &b).mapv(f32::abs).fold(0.0f32, |x, &y| x.max(y));
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn a_sample_of_weight_two_counts_as_two_samples() {
    let (values, labels) = clouds(200, 3);
    let options = ProbeOptions { class_weight: ClassWeight::None, tolerance: 1e-6, ..ProbeOptions::default() };
    let options = ProbeOptions { standardise: false, ..options };
    let weights: Vec<f64> = (0..200).map(|row| if row < 50 { 2.0 } else { 1.0 }).collect();
    let weighted = Probe::fit(values.view(), &labels, 3, Some(&weights), &options).unwrap();
    let rows: Vec<usize> = (0..200).chain(0..50).collect();
    let twice = values.select(ndarray::Axis(0), &rows);
    let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
    let repeated = Probe::fit(twice.view(), &labels, 3, None, &options).unwrap();
    let worst = (&weighted.weights - &repeated.weights).mapv(f32::abs).fold(0.0f32, |x, &y| x.max(y));
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn roots_weigh_a_class_by_the_root_of_its_rows() {
    let (values, labels) = clouds(400, 4);
    let of =
        |class_weight| ProbeOptions { class_weight, standardise: false, tolerance: 1e-6, ..ProbeOptions::default() };
    let found = Probe::fit(values.view(), &labels, 3, None, &of(ClassWeight::Root)).unwrap();
    let rows = [0, 1, 2].map(|class| labels.iter().filter(|&&label| label == class).count() as f64);
    let roots: f64 = rows.iter().map(|n| n.sqrt()).sum();
    let weights: Vec<f64> = labels.iter().map(|&class| 400.0 / roots / rows[class].sqrt()).collect();
    assert!((weights.iter().sum::<f64>() - 400.0).abs() < 1e-9, "{rows:?}");
    let by_hand = Probe::fit(values.view(), &labels, 3, Some(&weights), &of(ClassWeight::None)).unwrap();
    let worst = (&found.weights - &by_hand.weights).mapv(f32::abs).fold(0.0f32, |x, &y| x.max(y));
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn a_choice_of_rows_gives_nearly_the_same_probe_and_the_same_one_again() {
    let (values, labels) = clouds(6000, 4);
    let some = ProbeOptions { rows_max: 1500, ..ProbeOptions::default() };
    let all = Probe::fit(values.view(), &labels, 3, None, &ProbeOptions::default()).unwrap();
    let few = Probe::fit(values.view(), &labels, 3, None, &some).unwrap();
    assert_eq!(few, Probe::fit(values.view(), &labels, 3, None, &some).unwrap());
    assert_ne!(few, all);
    let (a, b) = (softmax(all.predict_logits(values.view()).view()), softmax(few.predict_logits(values.view()).view()));
    let mean = (&a - &b).mapv(f32::abs).mean().unwrap();
    assert!(mean < 0.02, "{mean}");
}

#[test]
fn a_strong_prior_stays_a_weak_one_goes_and_a_class_without_bouts_keeps_its_place() {
    let (values, labels) = clouds(600, 5);
    let prior = Probe::fit(values.view(), &labels, 3, None, &ProbeOptions::default()).unwrap();
    // The new animal: shifted, and only classes 0 and 1 were labelled.
    let (mut moved, labels) = clouds(60, 6);
    moved.column_mut(0).mapv_inplace(|v| v + 1.5);
    let few: Vec<usize> = (0..60).filter(|&row| labels[row] < 2).collect();
    let (few_values, few_labels) =
        (moved.select(ndarray::Axis(0), &few), few.iter().map(|&row| labels[row]).collect::<Vec<_>>());
    let towards = |strength| {
        Probe::fit_towards(&prior, strength, few_values.view(), &few_labels, &ProbeOptions::default()).unwrap()
    };
    let moved_by = |probe: &Probe| (&probe.weights - &prior.weights).mapv(|v| v * v).sum();
    let (stiff, soft) = (towards(1e6), towards(1.0));
    assert!(moved_by(&stiff) < 1e-4 && moved_by(&soft) > 0.1, "{} {}", moved_by(&stiff), moved_by(&soft));
    let right = |probe: &Probe| probe.predict(moved.view()).iter().zip(&labels).filter(|(a, b)| a == b).count();
    assert!(right(&soft) > right(&prior), "{} {}", right(&soft), right(&prior));
    assert_eq!(soft.trained, [true; 3]);
    assert!(soft.predict(moved.view()).contains(&2));
}

#[test]
fn one_class_alone_is_always_said() {
    let probe = Probe::fit(array![[1.0f32], [2.0]].view(), &[1, 1], 3, None, &ProbeOptions::default()).unwrap();
    assert_eq!(probe.predict(array![[-9.0f32], [9.0]].view()), [1, 1]);
    assert_eq!(probe.outcome, None);
}

#[test]
fn bad_input_is_named() {
    let options = ProbeOptions::default();
    let good = array![[1.0f32, 2.0], [3.0, 4.0]];
    let fit =
        |values: &Array2<f32>, labels: &[usize]| Probe::fit(values.view(), labels, 2, None, &options).unwrap_err();
    assert_eq!(fit(&Array2::zeros((0, 2)), &[]), ProbeError::Empty { rows: 0, features: 2 });
    assert_eq!(fit(&good, &[0]), ProbeError::Length { what: "labels", rows: 2, found: 1 });
    assert_eq!(fit(&good, &[0, 2]), ProbeError::Label { row: 1, label: 2, classes: 2 });
    let message = fit(&array![[1.0, 2.0], [3.0, f32::NAN]], &[0, 1]).to_string();
    assert_eq!(message, "sample 1, dimension 1 is NaN; leave out samples without a finite embedding");
    let below = Probe::fit(good.view(), &[0, 1], 2, Some(&[1.0, -1.0]), &options).unwrap_err();
    assert_eq!(below, ProbeError::SampleWeight { row: 1, value: -1.0 });
    let none = ProbeOptions { c: 0.0, ..options.clone() };
    assert!(matches!(Probe::fit(good.view(), &[0, 1], 2, None, &none), Err(ProbeError::Option { name: "c", .. })));
}
