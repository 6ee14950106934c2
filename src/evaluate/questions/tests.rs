//! The questions on made-up representations whose actions and animals lie at known dimensions.

use ndarray::Array2;
use rand::RngExt;

use super::*;
use crate::evaluate::rows::generator;

const ANIMALS: usize = 4;
const ACTIONS: usize = 3;

/// Bouts of 5 to 20 samples; action a of animal s is a bump at dimension `place(s, a)`, the animal one at 3 + s.
fn made(trials: usize, samples: usize, own_mark: f32, place: impl Fn(usize, usize) -> usize) -> Representation {
    let mut rng = generator(5, 77);
    let (mut rows, mut animal, mut trial, mut label) = (Vec::new(), vec![], vec![], vec![]);
    for (s, t) in (0..ANIMALS).flat_map(|s| (0..trials).map(move |t| (s, t))) {
        let (mut action, mut left) = (0, 0);
        for _ in 0..samples {
            if left == 0 {
                action = (action + rng.random_range(1..ACTIONS)) % ACTIONS;
                left = rng.random_range(5..=20);
            }
            left -= 1;
            let mut row: Vec<f32> = (0..8).map(|_| rng.random::<f32>() - 0.5).collect();
            row[place(s, action)] += 1.0;
            row[3 + s] += own_mark;
            rows.extend(row);
            animal.push(s);
            trial.push(s * 10 + t);
            label.push(Some(action as u8));
        }
    }
    Representation {
        animals: (0..ANIMALS).map(|s| format!("fly {s}")).collect(),
        labels: ["rest", "walk", "groom"].map(String::from).to_vec(),
        values: Array2::from_shape_vec((animal.len(), 8), rows).unwrap(),
        animal,
        trial,
        targets: Vec::new(),
        target: Array2::zeros((label.len(), 0)),
        label,
    }
}

#[test]
fn a_number_that_all_animals_share_is_read_from_each_and_chance_is_none() {
    let mut r = made(2, 300, 0.0, |_, action| action);
    let speed = |row: usize| 3.0 * r.values[[row, 1]] - r.values[[row, 7]] + 5.0;
    let of = |row: usize| [if row.is_multiple_of(50) { f32::NAN } else { speed(row) }, (row / 7 % 5) as f32];
    let target: Vec<f32> = (0..r.label.len()).flat_map(of).collect();
    r.target = Array2::from_shape_vec((r.label.len(), 2), target).unwrap();
    r.targets = vec!["speed".into(), "clock".into()];
    r.label.fill(None);
    let scores = evaluate_outputs(&r, &[3], &Options { permutations: 30, ..Options::default() });
    assert_eq!(scores.len(), (3 + 3 + 1) * 2, "three animals in two questions, one unseen, two outputs");
    for score in &scores {
        // Few bouts, turned round, still resemble each other now and then: each run is far from chance, their mean is not.
        let [r2, correlation] = score.chance.unwrap();
        assert!(r2 < 0.1 && correlation.abs() < 0.4, "{score:?}");
        assert_eq!(score.samples, if score.output == "speed" { 588 } else { 600 });
        if score.output == "speed" {
            assert!(score.r2 > 0.999 && score.correlation > 0.999, "{score:?}");
        } else {
            assert!(score.r2 < 0.1, "{score:?}");
        }
    }
    let published = evaluate_published(&r, &[3], &r.target);
    assert_eq!(published.iter().map(|s| (s.r2, s.samples)).collect::<Vec<_>>(), [(1.0, 588), (1.0, 600)]);
}

fn mean(evaluation: &Evaluation, question: Question, share: f64, of: impl Fn(&Score) -> f64) -> f64 {
    let chosen: Vec<f64> =
        evaluation.scores.iter().filter(|s| s.question == question && s.label_share == share).map(of).collect();
    assert!(!chosen.is_empty(), "no score of {question}");
    chosen.iter().sum::<f64>() / chosen.len() as f64
}

#[test]
fn what_all_animals_share_carries_over_and_chance_is_a_third() {
    let representation = made(3, 200, 0.0, |_, action| action);
    // Clusters this clear are given a whole wrong name by a permutation: each run is far from chance, their mean is not.
    let found = evaluate(&representation, &[3], &Options { permutations: 30, ..Options::default() }).unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    for question in [Question::SingleAnimal, Question::AcrossAnimal, Question::Unseen] {
        for share in [0.5, 1.0] {
            let accuracy = mean(&found, question, share, |s| s.balanced_accuracy);
            assert!(accuracy > 0.9, "{question} {share}: {accuracy}");
            let chance = mean(&found, question, share, |s| s.chance.unwrap().balanced_accuracy);
            assert!((chance - 1.0 / 3.0).abs() < 0.1, "{question}: {chance}");
        }
    }
    let identity = mean(&found, Question::Identity, 1.0, |s| s.balanced_accuracy);
    assert!((identity - 1.0 / 3.0).abs() < 0.1, "{identity}");
    let animals = |question| found.scores.iter().filter(|s| s.question == question).count();
    assert_eq!(Question::ALL.map(animals), [6, 6, 2, 2]);
    // Three trials of 200, each tested once.
    assert!(found.scores.iter().filter(|s| s.question == Question::SingleAnimal).all(|s| s.samples == 600));
}

#[test]
fn an_own_read_out_decodes_unseen_animals_with_all_labels_and_nothing_else() {
    let representation = made(3, 200, 0.0, |_, action| action);
    // It takes each action for the next one.
    let weights = Array2::from_shape_fn((8, 3), |(d, class)| if (d + 1) % 3 == class && d < 3 { 5.0 } else { 0.0 });
    let own = Probe { weights, intercept: vec![0.0; 3].into(), trained: vec![true; 3], outcome: None };
    let found = evaluate(&representation, &[3], &Options { own: Some(own), ..Options::default() }).unwrap();
    let unseen: Vec<&Score> = found.scores.iter().filter(|s| s.question == Question::Unseen).collect();
    assert_eq!((unseen.len(), unseen[0].label_share, unseen[0].samples), (1, 1.0, 600));
    assert!(unseen[0].balanced_accuracy < 0.1, "{}", unseen[0].balanced_accuracy);
    assert!(unseen[0].chance.is_some());
    assert!(mean(&found, Question::AcrossAnimal, 1.0, |s| s.balanced_accuracy) > 0.9);
}

#[test]
fn a_code_of_its_own_in_each_animal_is_the_domain_gap() {
    let representation = made(2, 200, 2.0, |animal, action| (action + animal) % ACTIONS);
    let found = evaluate(&representation, &[], &Options { permutations: 6, ..Options::default() }).unwrap();
    assert!(mean(&found, Question::SingleAnimal, 1.0, |s| s.balanced_accuracy) > 0.9);
    assert!(mean(&found, Question::AcrossAnimal, 1.0, |s| s.balanced_accuracy) < 0.5);
    assert!(mean(&found, Question::Identity, 0.5, |s| s.balanced_accuracy) > 0.95);
    let chance = mean(&found, Question::Identity, 1.0, |s| s.chance.unwrap().balanced_accuracy);
    assert!((chance - 0.25).abs() < 0.15, "{chance}");
}

#[test]
fn one_trial_is_cut_in_time_with_a_gap() {
    let representation = made(1, 100, 2.0, |_, action| action);
    let options = Options { gap_samples: 10, ..Options::default() };
    let samples = Samples::new(&representation, Question::SingleAnimal, 1);
    let split = samples.within(&[1], &options, &mut vec![]).remove(0);
    assert_eq!(split.train, (100..170).collect::<Vec<_>>());
    assert_eq!(split.test, (180..200).collect::<Vec<_>>());
    let thinned = Samples::new(&representation, Question::SingleAnimal, 3);
    let split = thinned.within(&[0], &options, &mut vec![]).remove(0);
    let time = |at: &usize| thinned.time[*at];
    assert_eq!((time(split.train.last().unwrap()), time(&split.test[0])), (69, 81));
    let found = evaluate_question(&representation, Question::Identity, &[], &options).unwrap();
    assert!(found.scores[0].balanced_accuracy > 0.9);
    assert_eq!(found.scores[0].samples, 80);
}

#[test]
fn folds_test_each_moment_once_and_never_train_on_its_trial() {
    let representation = made(3, 50, 0.0, |_, action| action);
    let samples = Samples::new(&representation, Question::SingleAnimal, 1);
    let splits = samples.within(&[2], &Options::default(), &mut vec![]);
    let mut tested: Vec<usize> = splits.iter().flat_map(|s| s.test.clone()).collect();
    tested.sort_unstable();
    assert_eq!(tested, (300..450).collect::<Vec<_>>());
    for split in &splits {
        assert!(split.train.iter().all(|&a| split.test.iter().all(|&b| samples.trial[a] != samples.trial[b])));
        assert_eq!(split.train.len() + split.test.len(), 150);
    }
}

#[test]
fn half_of_the_labels_are_half_of_the_bouts_of_each_action() {
    let representation = made(2, 400, 0.0, |_, action| action);
    let samples = Samples::new(&representation, Question::AcrossAnimal, 1);
    let all: Vec<usize> = (0..samples.row.len()).collect();
    let half = labels::share_of_bouts(&samples, &all, 0.5, 1);
    let bouts = |rows: &[usize], action: usize| {
        let same = |a: usize, b: usize| samples.trial[a] == samples.trial[b] && samples.label[a] == samples.label[b];
        rows.chunk_by(|&a, &b| b == a + 1 && same(a, b)).filter(|bout| samples.target[bout[0]] == action).count()
    };
    for action in 0..ACTIONS {
        let whole = bouts(&all, action);
        assert_eq!(bouts(&half, action), (whole as f64 / 2.0).round() as usize);
    }
    assert_eq!(half, labels::share_of_bouts(&samples, &all, 0.5, 1));
    assert_ne!(half, labels::share_of_bouts(&samples, &all, 0.5, 2));
}

#[test]
fn permuted_labels_keep_their_counts_within_each_trial_and_their_bouts() {
    let representation = made(2, 100, 0.0, |_, action| action);
    let samples = Samples::new(&representation, Question::AcrossAnimal, 1);
    let all: Vec<usize> = (0..samples.row.len()).collect();
    let turned = labels::rotated(&samples, &all, samples.target.clone(), 3);
    let count = |t: &[usize], from: usize, action| t[from..from + 100].iter().filter(|&&a| a == action).count();
    for (trial, action) in (0..8).flat_map(|t| (0..ACTIONS).map(move |a| (t, a))) {
        assert_eq!(count(&turned, trial * 100, action), count(&samples.target, trial * 100, action));
    }
    let changes = |t: &[usize]| t[..100].windows(2).filter(|w| w[0] != w[1]).count();
    assert!(changes(&turned).abs_diff(changes(&samples.target)) <= 1);
    assert_ne!(turned, samples.target);
}

#[test]
fn a_missing_action_is_scored_as_it_is_and_said() {
    let mut representation = made(2, 100, 0.0, |_, action| action);
    let only_fly_0 = |(row, l): (usize, &Option<u8>)| l.filter(|&a| a != 2 || representation.animal[row] == 0);
    representation.label = representation.label.iter().enumerate().map(only_fly_0).collect();
    let found = evaluate_question(&representation, Question::AcrossAnimal, &[], &Options::default()).unwrap();
    let expected = "across-animal, fly 0: groom occurs in the test but not in training; no probe can decode it";
    assert_eq!(found.warnings, [expected]);
    let fly_0 = &found.scores.iter().find(|s| s.animal.as_deref() == Some("fly 0")).unwrap().confusion;
    assert_eq!(fly_0.recalls()[2], Some(0.0));
    let fly_1 = &found.scores.iter().find(|s| s.animal.as_deref() == Some("fly 1")).unwrap().confusion;
    assert_eq!(fly_1.recalls()[2], None);
}

#[test]
fn one_animal_alone_gives_what_can_be_given() {
    let mut representation = made(2, 60, 0.0, |_, action| action);
    representation.animal.fill(0);
    representation.animals.truncate(1);
    let found = evaluate(&representation, &[], &Options::default()).unwrap();
    assert!(found.scores.iter().all(|s| s.question == Question::SingleAnimal));
    assert_eq!(found.scores.len(), 2);
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
}

#[test]
fn the_same_seed_gives_the_same_scores_and_they_survive_a_file() {
    let representation = made(2, 80, 1.0, |_, action| action);
    let run = || evaluate(&representation, &[2], &Options::default()).unwrap();
    let (a, b) = (run(), run());
    assert_eq!(a, b);
    let text = serde_json::to_string(&a).unwrap();
    assert!(text.contains("\"single-animal\""));
    let read: Evaluation = serde_json::from_str(&text).unwrap();
    assert_eq!(read.scores.len(), a.scores.len());
    for (read, written) in read.scores.iter().zip(&a.scores) {
        // serde_json's numbers may differ in the last bit.
        assert!((read.macro_f1 - written.macro_f1).abs() < 1e-12);
        assert_eq!(
            (&read.confusion, &read.animal, read.question),
            (&written.confusion, &written.animal, written.question)
        );
    }
}

#[test]
fn wrong_lists_are_named() {
    let good = made(2, 20, 0.0, |_, action| action);
    let fails = |change: &dyn Fn(&mut Representation)| {
        let mut bad = Representation { values: good.values.clone(), ..good.clone() };
        change(&mut bad);
        evaluate(&bad, &[], &Options::default()).unwrap_err()
    };
    let short = fails(&|r| r.label.truncate(159));
    assert_eq!(short, EvaluateError::Length { what: "label", rows: 160, found: 159 });
    let wrong = fails(&|r| r.label[7] = Some(9));
    assert_eq!(wrong, EvaluateError::Index { what: "label", row: 7, found: 9, known: 3 });
    let nan = fails(&|r| r.values[[0, 0]] = f32::NAN);
    assert!(matches!(nan, EvaluateError::Probe { cause: ProbeError::NotFinite { .. }, .. }), "{nan}");
    let unseen = evaluate(&good, &[4], &Options::default()).unwrap_err();
    assert_eq!(unseen, EvaluateError::Unseen { found: 4, known: 4 });
    let share = Options { label_shares: vec![0.0], ..Options::default() };
    assert_eq!(evaluate(&good, &[], &share).unwrap_err(), EvaluateError::LabelShare(0.0));
}
