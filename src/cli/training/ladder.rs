//! `haltere compare --ladder`: what each step of the preparation is worth, on the daemon's own frames.
//!
//! Why it exists: where accuracy is lost decides what is worth building; anybody can draw this for their animals. What it must never
//! do: change two things between two rungs.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::compare::{CompareArgs, PERMUTATIONS, left_out, run_all};
use super::data::Loader;
use super::eval::write_all;
use super::learn::settings;
use super::{prepare_folder, show, usage};
use crate::dataset::axon_light;
use crate::dataset::trials::Dataset;
use crate::evaluate::ladder::{Rung, table, to_csv};
use crate::evaluate::pixels::recent_bins;
use crate::evaluate::questions::evaluate_question;
use crate::evaluate::{Evaluation, Options, Question, Readout};
use crate::report::data as report;
use crate::report::html;
use crate::report::provenance::Provenance;
use crate::train::compare::{Contender, Job};
use crate::train::settings::Method;

/// A rung that reads frames.
struct Step {
    name: &'static str,
    method: Method,
    on_atlas: bool,
    baseline: bool,
    signal_share: bool,
    against: Option<usize>,
}

const AS_THEY_LIE: Step = Step {
    name: "as they lie, F₀",
    method: Method::Lda,
    on_atlas: false,
    baseline: true,
    signal_share: false,
    against: None,
};
const ON_ATLAS: Step = Step { name: "on the atlas, F₀", on_atlas: true, against: Some(0), ..AS_THEY_LIE };
const LIGHT: Step = Step { name: "on the atlas, without F₀", baseline: false, against: Some(2), ..ON_ATLAS };
const SIGNAL: Step = Step { name: "pixels by their share of signal", signal_share: true, against: Some(3), ..LIGHT };
const STEPS: [Step; 6] = [
    AS_THEY_LIE,
    Step { name: "as they lie, without F₀", baseline: false, against: Some(0), ..AS_THEY_LIE },
    ON_ATLAS,
    LIGHT,
    SIGNAL,
    Step { name: "the network on the same", method: Method::Supervised, against: Some(BEST_FRAMES), ..SIGNAL },
];
/// The rung of the linear decoder on the best frames, which the ceiling is compared with.
const BEST_FRAMES: usize = 4;
const CEILING: &str = "true light of every axon";

/// Runs what is not finished, then prints and writes the ladder.
///
/// # Errors
/// What was wrong with the arguments, the data, a training or a file.
pub(super) fn run(args: &CompareArgs, stop: &Arc<AtomicBool>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut rungs: Vec<Rung> = STEPS
        .iter()
        .map(|step| Rung { name: step.name.to_owned(), against: step.against, ..Rung::default() })
        .collect();
    rungs.push(Rung { name: CEILING.to_owned(), against: Some(BEST_FRAMES), ceiling: true, ..Rung::default() });
    let results = args.out.join("results");
    prepare_folder(&results)?;
    let mut hash = String::new();
    for (population, loader) in Loader::all(&args.data, args.learn.progress)? {
        let (trials, labelled) = loader.labelled_trials();
        if labelled < trials {
            return Err(usage(format!(
                "--ladder: {} of {trials} trials of {population} have no labels",
                trials - labelled
            )));
        }
        left_out_once(args, &population, &loader.animals())?;
        for &seed in &args.seeds {
            for (number, step) in STEPS.iter().enumerate() {
                let fold = Fold { args, population: &population, loader: &loader, seed };
                let (data, evaluation) = fold.score(step, stop)?;
                add(&mut rungs[number], &population, &evaluation);
                if number == BEST_FRAMES {
                    hash.clone_from(&data.sha256);
                    let ceiling = fold.ceiling(&data)?;
                    ceiling.iter().for_each(|scores| add(&mut rungs[STEPS.len()], &population, scores));
                }
            }
        }
    }
    // Without the truth there is no such rung.
    rungs.retain(|rung| !rung.scores.is_empty());
    finish(args, &rungs, &hash, out)
}

/// An animal that two seeds leave out would count by the second alone.
fn left_out_once(args: &CompareArgs, population: &str, animals: &[String]) -> anyhow::Result<()> {
    let mut before = BTreeSet::new();
    for &seed in &args.seeds {
        let (unseen, _) = left_out(args, seed, population, animals)?;
        if let Some(again) = unseen.into_iter().find(|animal| !before.insert(*animal)) {
            let (most, animal) = (animals.len() / args.unseen.max(1), &animals[again]);
            return Err(usage(format!(
                "--seeds: seed {seed} leaves out {animal} of {population} again, and each animal counts once: at most {most} seeds in a row \
                 with --unseen {}",
                args.unseen
            )));
        }
    }
    Ok(())
}

/// One population, of which one seed leaves out some animals.
struct Fold<'a> {
    args: &'a CompareArgs,
    population: &'a str,
    loader: &'a Loader<'a>,
    seed: u64,
}

impl Fold<'_> {
    fn score(&self, step: &Step, stop: &Arc<AtomicBool>) -> anyhow::Result<(Dataset, Evaluation)> {
        let animals = self.loader.animals();
        let (unseen, rest) = left_out(self.args, self.seed, self.population, &animals)?;
        let contender = Contender { method: step.method, without: None };
        let settings = contender.settings(settings(step.method, self.seed, &self.args.learn)?);
        let window = settings.network.window_frames;
        let loader = self.loader.clone().for_rung(step.on_atlas, step.baseline, step.signal_share).fitted_to(&rest)?;
        let (all, seen) = (loader.load(&animals, window, true)?, loader.load(&rest, window, false)?);
        show::same_labels(&all, &seen)?;
        let population = format!("{} {}", self.population, step.name);
        let job = Job { contender, settings, population, all: &all, training: &seen, unseen, unseen_only: true };
        let results = self.args.out.join("results");
        let outcome = run_all(self.args, VecDeque::from([job]), &results, stop)?.pop();
        Ok((all, outcome.map(|outcome| outcome.evaluation).unwrap_or_default()))
    }

    /// What the same read-out makes of the true light; `None` where nobody knows it.
    fn ceiling(&self, data: &Dataset) -> anyhow::Result<Option<Evaluation>> {
        let folders = self.loader.trial_folders();
        if !axon_light::is_known(&folders) {
            return Ok(None);
        }
        let (unseen, _) = left_out(self.args, self.seed, self.population, &data.animals)?;
        let settings = settings(Method::Lda, self.seed, &self.args.learn)?;
        let (window, look_ahead) = (settings.network.window_frames, settings.look_ahead_frames);
        let samples = data.samples(window, look_ahead);
        let light = axon_light::represent(data, &samples, &folders, &recent_bins(window), look_ahead)?;
        let (readout, permutations) = (Readout::Discriminant, PERMUTATIONS);
        let label_shares = vec![1.0];
        let options = Options { readout, permutations, label_shares, seed: self.seed, ..Options::default() };
        Ok(Some(evaluate_question(&light, Question::Unseen, &unseen, &options)?))
    }
}

fn add(rung: &mut Rung, population: &str, evaluation: &Evaluation) {
    let all_labels = evaluation.scores.iter().filter(|s| s.question == Question::Unseen && s.label_share == 1.0);
    for score in all_labels {
        let Some(animal) = &score.animal else { continue };
        let key = (population.to_owned(), animal.clone());
        rung.chance.extend(score.chance.map(|chance| (key.clone(), chance.balanced_accuracy)));
        rung.scores.insert(key, score.balanced_accuracy);
    }
}

fn finish(args: &CompareArgs, rungs: &[Rung], hash: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let table = table(rungs);
    let text = table.to_text();
    let bar = |rung: &Rung| report::Bar {
        name: rung.name.clone(),
        score: report::Spread::of(&rung.scores.values().copied().collect::<Vec<f64>>()),
    };
    let provenance = Provenance::now(hash, args.seeds.first().copied().unwrap_or_default());
    let page = report::ReportData {
        title: "What each step of the preparation is worth".into(),
        summary: format!("The same animals on every rung, each left out of training once. {}.", table.caption),
        ablation: vec![report::Ablation {
            measure: "unseen animals: balanced accuracy".into(),
            bars: rungs.iter().map(bar).collect(),
            chance: rungs.first().map(|rung| rung.chance.values().sum::<f64>() / rung.chance.len().max(1) as f64),
            lower_is_better: false,
        }],
        reproduce: Some(show::reproduce(&provenance, Vec::new())),
        ..report::ReportData::default()
    };
    let files = [
        ("ladder.txt", text.clone()),
        ("ladder.md", table.to_markdown()),
        ("ladder.csv", to_csv(rungs)),
        ("report.json", page.to_json()?),
        ("report.html", html::render(&page)),
    ];
    write_all(&args.out, &files, &text, out)
}
