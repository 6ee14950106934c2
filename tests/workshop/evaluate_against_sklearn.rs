//! The probe, the scores and the losses are those that people know from scikit-learn and numpy.
//!
//! Method: seeded arrays go to Python as npy files; `support/sklearn_reference.py` fits scikit-learn's `LogisticRegression` with
//! the same penalty, weights and standardisation, scores the same decodes, and writes the losses once more in numpy.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use haltere::evaluate::probe::softmax;
use haltere::evaluate::reference_losses::{coral, info_nce, mmd2};
use haltere::evaluate::{ClassWeight, Confusion, Probe, ProbeOptions};
use ndarray::{Array1, Array2};
use ndarray_npy::write_npy;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// Coefficients: products in f32 here, f64 there.
const COEFFICIENTS: f64 = 1e-3;
const PROBABILITIES: f64 = 1e-4;
/// Both in f64.
const ROUNDING: f64 = 1e-10;

const ROWS: usize = 900;
const DIMENSIONS: usize = 12;
const CLASSES: usize = 5;

#[derive(Serialize, Debug)]
struct Case {
    c: f64,
    balanced: bool,
    standardise: bool,
    weighted: bool,
    /// Only rows whose label is below this.
    classes: usize,
}

#[derive(Deserialize)]
struct Reference {
    fits: Vec<Fit>,
    scores: Scores,
    info_nce: f64,
    mmd2_unbiased: f64,
    mmd2_biased: f64,
    coral: f64,
}

#[derive(Deserialize)]
struct Fit {
    coef: Vec<Vec<f64>>,
    intercept: Vec<f64>,
    probabilities: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Scores {
    confusion: Vec<Vec<u64>>,
    accuracy: f64,
    balanced_accuracy: f64,
    macro_f1: f64,
}

struct Data {
    x: Array2<f32>,
    y: Vec<usize>,
    weight: Vec<f64>,
    truth: Vec<usize>,
    decoded: Vec<usize>,
    behaviour: Array2<f64>,
    neural: Array2<f64>,
}

/// Overlapping clouds, unequal in size, on features of unequal scale and offset.
fn data() -> Data {
    let mut rng = Pcg64::seed_from_u64(2111);
    let mut normal = move || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let y: Vec<usize> = (0..ROWS).map(|row| [0, 0, 0, 0, 1, 1, 1, 2, 3, 0, 4, 1][row % 12]).collect();
    let x = Array2::from_shape_fn((ROWS, DIMENSIONS), |(row, d)| {
        let centre = if d % CLASSES == y[row] { 1.2 } else { 0.0 };
        let (scale, offset) = ([0.3, 1.0, 4.0][d % 3], [0.0, 2.0, -5.0, 1.0][d % 4]);
        (offset + scale * (centre + normal())) as f32
    });
    let weight = (0..ROWS).map(|_| 0.2 + normal().abs()).collect();
    // Class 4 is only decoded, class 5 never: what occurs in the truth is 0 to 3.
    let truth: Vec<usize> = (0..400).map(|row| [0, 0, 0, 1, 2, 3, 1][row % 7]).collect();
    let decoded = truth.iter().map(|&t| if normal() > 0.3 { (t + 1) % 5 } else { t }).collect();
    let behaviour = Array2::from_shape_fn((40, 6), |_| normal());
    let neural = Array2::from_shape_fn((40, 6), |at| behaviour[at] + 1.3 * normal() + 0.2);
    Data { x, y, weight, truth, decoded, behaviour, neural }
}

fn cases() -> Vec<Case> {
    let plain = |c, classes| Case { c, balanced: false, standardise: false, weighted: false, classes };
    vec![
        plain(1.0, CLASSES),
        plain(0.01, CLASSES),
        Case { balanced: true, standardise: true, ..plain(1.0, CLASSES) },
        Case { balanced: true, standardise: true, weighted: true, ..plain(2.0, CLASSES) },
        Case { balanced: true, standardise: true, ..plain(0.1, 2) },
    ]
}

fn column(values: &[usize]) -> Array1<i64> {
    values.iter().map(|&v| v as i64).collect()
}

fn write(data: &Data, folder: &Path) {
    let file = |name: &str| folder.join(format!("{name}.npy"));
    write_npy(file("x"), &data.x).unwrap();
    write_npy(file("y"), &column(&data.y)).unwrap();
    write_npy(file("weight"), &Array1::from(data.weight.clone())).unwrap();
    write_npy(file("truth"), &column(&data.truth)).unwrap();
    write_npy(file("decoded"), &column(&data.decoded)).unwrap();
    write_npy(file("behaviour"), &data.behaviour).unwrap();
    write_npy(file("neural"), &data.neural).unwrap();
    std::fs::write(folder.join("cases.json"), serde_json::to_string(&cases()).unwrap()).unwrap();
}

/// What Python says; `None` without a Python that has scikit-learn: loud, and in CI a failure.
fn reference(data: &Data) -> Option<Reference> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("HALTERE_PYTHON").map_or(root.join(".venv/bin/python"), PathBuf::from);
    let works = Command::new(&python).args(["-c", "import numpy, sklearn"]).output();
    if !works.is_ok_and(|o| o.status.success()) {
        let why = format!("{} has no numpy and scikit-learn: `make test` makes a .venv that has", python.display());
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    write(data, folder.path());
    let script = root.join("tests/support/sklearn_reference.py");
    let output = Command::new(&python).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn probes_scores_and_losses_are_those_of_scikit_learn_and_numpy() {
    let data = data();
    let Some(reference) = reference(&data) else { return };
    assert_eq!(reference.fits.len(), cases().len());
    for (case, theirs) in cases().iter().zip(&reference.fits) {
        probe_is(&data, case, theirs);
    }
    scores_are(&data, &reference.scores);
    let (b, n) = (data.behaviour.view(), data.neural.view());
    close(info_nce(b, n, 0.1), reference.info_nce, ROUNDING, "InfoNCE");
    close(mmd2(b, n, &[0.5, 2.0], true), reference.mmd2_unbiased, ROUNDING, "MMD², unbiased");
    close(mmd2(b, n, &[0.5, 2.0], false), reference.mmd2_biased, ROUNDING, "MMD², biased");
    close(coral(b, n), reference.coral, ROUNDING, "CORAL");
}

fn probe_is(data: &Data, case: &Case, theirs: &Fit) {
    let rows: Vec<usize> = (0..ROWS).filter(|&row| data.y[row] < case.classes).collect();
    let x = data.x.select(ndarray::Axis(0), &rows);
    let y: Vec<usize> = rows.iter().map(|&row| data.y[row]).collect();
    let weight: Vec<f64> = rows.iter().map(|&row| data.weight[row]).collect();
    let options = ProbeOptions {
        c: case.c,
        class_weight: if case.balanced { ClassWeight::Balanced } else { ClassWeight::None },
        standardise: case.standardise,
        tolerance: 1e-7,
        iterations_max: 2000,
        ..ProbeOptions::default()
    };
    let weight = case.weighted.then_some(weight.as_slice());
    let ours = Probe::fit(x.view(), &y, case.classes, weight, &options).unwrap();
    let (w, b) = (ours.weights.mapv(f64::from), ours.intercept.mapv(f64::from));
    for (class, (coef, intercept)) in theirs.coef.iter().zip(&theirs.intercept).enumerate() {
        // For two classes scikit-learn has one vector: the difference of ours.
        let binary = theirs.coef.len() == 1;
        let own = |of_class: &dyn Fn(usize) -> f64| if binary { of_class(1) - of_class(0) } else { of_class(class) };
        for (dimension, coef) in coef.iter().enumerate() {
            close(own(&|c| w[[dimension, c]]), *coef, COEFFICIENTS, &format!("{case:?} class {class} {dimension}"));
        }
        close(own(&|c| b[c]), *intercept, 3.0 * COEFFICIENTS, &format!("{case:?} class {class} intercept"));
    }
    let probabilities = softmax(ours.predict_logits(x.view()).view());
    assert_eq!(probabilities.nrows(), theirs.probabilities.len());
    for (ours, theirs) in probabilities.rows().into_iter().zip(&theirs.probabilities) {
        ours.iter().zip(theirs).for_each(|(a, b)| close(f64::from(*a), *b, PROBABILITIES, &format!("{case:?}")));
    }
}

fn scores_are(data: &Data, theirs: &Scores) {
    let ours = Confusion::of(&data.truth, &data.decoded, 5);
    assert_eq!(ours.counts, theirs.confusion);
    close(ours.accuracy(), theirs.accuracy, ROUNDING, "accuracy");
    close(ours.balanced_accuracy(), theirs.balanced_accuracy, ROUNDING, "balanced accuracy");
    close(ours.macro_f1(), theirs.macro_f1, ROUNDING, "macro-F1");
}

fn close(ours: f64, theirs: f64, tolerance: f64, what: &str) {
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} here, {theirs} there");
}
