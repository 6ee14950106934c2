//! A report with made-up but life-like values, for the tests and for the eye.

use ndarray::Array2;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::rand_core::SeedableRng;

use super::data::*;
use super::pca::{EmbeddingView, Embeddings};

const LABELS: [&str; 8] = [
    "resting",
    "forward walking",
    "pushing",
    "foreleg grooming",
    "hindleg grooming",
    "antennal grooming",
    "eye grooming",
    "abdominal grooming",
];
const SHARE: [f64; 8] = [0.56, 0.33, 0.03, 0.03, 0.02, 0.012, 0.01, 0.008];

struct Random(rand_pcg::Pcg64);

impl Random {
    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    fn around(&mut self, mean: f64, sd: f64, count: usize) -> Vec<f64> {
        (0..count).map(|_| (mean + sd * self.normal()).clamp(0.0, 1.0)).collect()
    }
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("fly-{i}")).collect()
}

fn labels() -> Vec<String> {
    LABELS.map(str::to_owned).to_vec()
}

/// Eight flies, eight actions, all sections filled.
pub fn report() -> ReportData {
    let mut random = Random(rand_pcg::Pcg64::seed_from_u64(3));
    ReportData {
        title: "haltere on 8 simulated flies".into(),
        summary: "Trained on seven flies, decoded an eighth that it never saw with a balanced accuracy of 71 % (chance 12.5 %); \
                  the identity of the fly can hardly be read from the embedding (16 %, chance 12.5 %)."
            .into(),
        scores: scores(&mut random),
        method: Some(method()),
        data: Some(data()),
        look_ahead: Some(LookAhead { window_frames: 32, frames: 0, seconds: 0.0 }),
        loss: Some(loss(&mut random)),
        embedding: Some(embedding(&mut random)),
        confusion: Some(confusion()),
        per_animal: Some(per_animal(&mut random)),
        calibration: Some(calibration()),
        domain_gap: domain_gap(),
        ablation: ablation(),
        comparison: Some(comparison(&mut random)),
        warnings: vec![
            "fly-7 has no labelled moment of `pushing`: its balanced accuracy is over 7 actions.".into(),
            "The data are simulated; the numbers say nothing about real flies.".into(),
        ],
        reproduce: Some(reproduce()),
    }
}

fn scores(random: &mut Random) -> Vec<ScoreRow> {
    let rows = [
        ("single-animal", 0.82, 0.125),
        ("across-animal", 0.76, 0.125),
        ("unseen animal", 0.71, 0.125),
        ("identity", 0.16, 0.125),
    ];
    let mut spread = |mean: f64| Spread::of(&random.around(mean, 0.04, 24));
    rows.iter()
        .flat_map(|row| [(row, 50.0), (row, 100.0)])
        .map(|(&(protocol, mean, chance), labels_percent)| ScoreRow {
            method: "haltere".into(),
            protocol: protocol.into(),
            labels_percent,
            accuracy: spread(mean + 0.08),
            balanced_accuracy: spread(mean),
            macro_f1: spread(mean - 0.03),
            chance,
            lower_is_better: protocol == "identity",
        })
        .collect()
}

fn method() -> Method {
    Method {
        name: "haltere".into(),
        description: "Two encoders, one for imaging and one for behaviour, were trained so that windows of the same moment land on \
                      the same point of a sphere (symmetric InfoNCE). Behaviour frames were swapped between animals."
            .into(),
        settings: vec![
            ("loss".into(), "symmetric InfoNCE, τ = 0.1".into()),
            ("batch".into(), "256 windows, balanced over animals".into()),
            ("behavioural swap".into(), "p = 1.0, 128 neighbours".into()),
            ("steps".into(), "4000".into()),
        ],
    }
}

fn data() -> DataSummary {
    let animal = |(index, name): (usize, String)| {
        let usable = 9600 - 37 * index as u64;
        let mut per_label: Vec<u64> = SHARE.iter().map(|s| (s * usable as f64 * 0.97) as u64).collect();
        if index == 6 {
            per_label[2] = 0;
        }
        AnimalSummary { name, trials: 3, frames: 9800, usable, per_label }
    };
    DataSummary {
        name: "simulated flies, seed 11".into(),
        labels: labels(),
        animals: names(8).into_iter().enumerate().map(animal).collect(),
        frame_rate_hz: 16.1,
        behaviour_rate_hz: 100.0,
        input: "1 × 64 × 64".into(),
        preprocessing: "the daemon's own: rigid registration, running F₀ over 30 s, ΔF/F, z-score per pixel".into(),
        split: "one animal held out in turn".into(),
        licence: "CC0 (made by this program)".into(),
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        trials: vec![TrialSummary {
            name: "fly_01/001".into(),
            imaging: "3200 frames of 2×128×128 at 16.1 Hz, 198.76 s".into(),
            decided: "channels 2 by the ScanImage header".into(),
            behaviour: "19876 rows, 198.76 s".into(),
            aligned: "3200 of 3200 frames have behaviour, from 0.00 s to 198.76 s".into(),
            labels: "resting 1600, walking 1500, unlabelled 100".into(),
        }],
        columns: vec![ColumnSummary { name: "nose_x".into(), least: -1.5, most: 2.25 }],
    }
}

fn loss(random: &mut Random) -> LossCurves {
    let curve = |random: &mut Random, every: u64, from: f64, to: f64, noise: f64| -> Vec<Point> {
        (1..=4000 / every)
            .map(|i| {
                let step = i * every;
                let value = to + (from - to) * (-(step as f64) / 700.0).exp() + noise * random.normal();
                Point { step, value }
            })
            .collect()
    };
    LossCurves {
        train: curve(random, 5, 5.5, 2.6, 0.08),
        held_out: curve(random, 200, 5.5, 3.1, 0.03),
        unit: "nats".into(),
        positive: curve(random, 5, 0.05, 0.72, 0.015),
        negative: curve(random, 5, 0.02, 0.04, 0.008),
        best_step: Some(3400),
    }
}

fn embedding(random: &mut Random) -> EmbeddingView {
    let (dimensions, per_animal) = (16, 500);
    let centres: Vec<Vec<f64>> = (0..8).map(|_| (0..dimensions).map(|_| 1.4 * random.normal()).collect()).collect();
    let shifts: Vec<Vec<f64>> = (0..8).map(|_| (0..dimensions).map(|_| 0.3 * random.normal()).collect()).collect();
    let (mut values, mut animal, mut label) = (Vec::new(), Vec::new(), Vec::new());
    for (fly, shift) in shifts.iter().enumerate() {
        for moment in 0..per_animal {
            let at = (f64::from(moment) + 0.5) / f64::from(per_animal);
            let mut sum = 0.0;
            let action = SHARE
                .iter()
                .take_while(|share| {
                    sum += **share;
                    sum < at
                })
                .count()
                .min(7);
            for d in 0..dimensions {
                values.push((centres[action][d] + shift[d] + 0.45 * random.normal()) as f32);
            }
            animal.push(fly);
            label.push((moment % 25 != 0).then_some(action as u8));
        }
    }
    let values = Array2::from_shape_vec((animal.len(), dimensions), values).unwrap();
    let (animals, labels, values) = (names(8), labels(), values.view());
    let embeddings = Embeddings { animals: &animals, labels: &labels, values, animal: &animal, label: &label };
    EmbeddingView::of(&embeddings, 1500)
}

fn confusion() -> Confusion {
    let rows = SHARE.iter().enumerate().map(|(row, share)| {
        let total = share * 76_000.0;
        let right = [0.91, 0.88, 0.62, 0.7, 0.66, 0.58, 0.61, 0.64][row];
        let weight = |column: usize| 1.0 / (1.0 + row.abs_diff(column) as f64).powi(2);
        let wrong: f64 = (0..8).filter(|c| *c != row).map(weight).sum();
        let share = |column| if column == row { right } else { (1.0 - right) * weight(column) / wrong };
        (0..8).map(|column| (total * share(column)) as u64).collect()
    });
    Confusion { labels: labels(), counts: rows.collect(), note: "unseen animal, 3 seeds, 100 % of the labels".into() }
}

fn per_animal(random: &mut Random) -> PerAnimal {
    let animals = names(8)
        .into_iter()
        .enumerate()
        .map(|(i, name)| Values { name, values: random.around(if i == 6 { 0.55 } else { 0.72 }, 0.03, 3) });
    PerAnimal { measure: "balanced accuracy, unseen animal".into(), animals: animals.collect(), chance: Some(0.125) }
}

fn calibration() -> Calibration {
    let bins = |bend: f64, peak: f64| {
        (0..10).map(move |i| {
            let (low, high) = (f64::from(i) / 10.0, f64::from(i + 1) / 10.0);
            let middle = (low + high) / 2.0;
            let count = (9000.0 * (-((middle - peak) / 0.2_f64).powi(2)).exp()) as u64;
            let (confidence, accuracy) = if count == 0 { (0.5, 0.5) } else { (middle, middle.powf(bend)) };
            ReliabilityBin { low, high, confidence, accuracy, count }
        })
    };
    Calibration {
        temperature: 1.83,
        before: Reliability { expected_error: 0.112, bins: bins(1.7, 0.95).collect() },
        after: Reliability { expected_error: 0.021, bins: bins(1.06, 0.75).collect() },
        note: "one animal held out in turn".into(),
    }
}

fn domain_gap() -> Vec<GapBar> {
    let spread = |mean: f64| Spread { mean, sd: mean * 0.25, count: 28 };
    let bar = |augmentation: &str, space: &str, before: f64, after: f64| GapBar {
        augmentation: augmentation.into(),
        space: space.into(),
        before: spread(before),
        after: spread(after),
    };
    vec![
        bar("behaviour standardised per animal", "behaviour", 0.31, 0.09),
        bar("behavioural swap", "behaviour", 0.31, 0.012),
        bar("standard behavioural", "behaviour", 0.31, 0.28),
        bar("calcium", "pixels", 0.052, 0.049),
        bar("neural mix", "pixels", 0.052, 0.021),
        bar("standard neural", "pixels", 0.052, 0.047),
        bar("all together", "embedding", 0.42, 0.06),
    ]
}

fn ablation() -> Vec<Ablation> {
    let bars = |values: [f64; 6]| {
        let names = [
            "haltere (all)",
            "without behavioural swap",
            "without neural mix",
            "without calcium",
            "without standard augmentations",
            "without standardised behaviour",
        ];
        let bar = |(name, mean): (&str, f64)| Bar { name: name.into(), score: Spread { mean, sd: 0.025, count: 24 } };
        names.into_iter().zip(values).map(bar).collect::<Vec<_>>()
    };
    vec![
        Ablation {
            measure: "across-animal balanced accuracy".into(),
            bars: bars([0.76, 0.64, 0.72, 0.74, 0.71, 0.745]),
            chance: Some(0.125),
            lower_is_better: false,
        },
        Ablation {
            measure: "identity balanced accuracy".into(),
            bars: bars([0.16, 0.55, 0.31, 0.2, 0.24, 0.19]),
            chance: Some(0.125),
            lower_is_better: true,
        },
    ]
}

fn comparison(random: &mut Random) -> Comparison {
    const METHODS: [&str; 8] =
        ["linear", "supervised", "regression", "simclr", "simclr+grl", "simclr+mmd", "simclr+coral", "haltere"];
    let mut panel = |name: &str, means: [f64; 8], lower_is_better: bool| {
        let values = METHODS
            .iter()
            .zip(means)
            .map(|(method, mean)| Values { name: (*method).into(), values: random.around(mean, 0.05, 24) });
        ProtocolPanel { name: name.into(), methods: values.collect(), chance: Some(0.125), lower_is_better }
    };
    Comparison {
        measure: "balanced accuracy".into(),
        protocols: vec![
            panel("single-animal", [0.62, 0.84, 0.7, 0.8, 0.79, 0.79, 0.78, 0.82], false),
            panel("across-animal", [0.3, 0.6, 0.5, 0.58, 0.61, 0.6, 0.62, 0.76], false),
            panel("unseen animal", [0.28, 0.55, 0.45, 0.5, 0.52, 0.54, 0.55, 0.71], false),
            panel("identity", [0.97, 0.9, 0.8, 0.88, 0.5, 0.6, 0.58, 0.16], true),
        ],
    }
}

fn reproduce() -> Reproduce {
    Reproduce {
        command: "haltere train --dataset flies/dataset.toml --method haltere --seed 1 --name first && echo \"<done>\""
            .into(),
        seed: 1,
        program_version: "0.1.0".into(),
        git_revision: "0123456789abcdef0123456789abcdef01234567".into(),
        host: "linux x86_64, 2 cores".into(),
        hashes: vec![
            ("data".into(), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into()),
            ("fly.onnx".into(), "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".into()),
        ],
    }
}
