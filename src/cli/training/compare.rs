//! `haltere compare`: every method on every population, several at once, resumable; the table and its report.
//!
//! Why it exists: a claim about methods is a table. What it must never do: leave a method out of the table because its
//! result is bad, or mix results of different settings.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use indicatif::ProgressBar;

use super::data::{DataArgs, Loader};
use super::eval::write_all;
use super::learn::{LearnArgs, device, settings};
use super::{prepare_folder, show, usage};
use crate::dataset::trials::Dataset;
use crate::evaluate::table::{gap, gap_closed, to_csv};
use crate::evaluate::{Evaluation, Metric, Options, Question, Run, Score, Summary, Table, summarise};
use crate::report::data as report;
use crate::report::html;
use crate::report::provenance::Provenance;
use crate::sys::progress::progress_bar;
use crate::train::NetworkKind;
use crate::train::compare::{CompareError, Contender, Job, Outcome};
use crate::train::domain_gaps::{GapRow, augmentation_gaps};
use crate::train::fit::Progress;
use crate::train::settings::Method;

/// `haltere compare`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere compare --mc2p flies_1/ --mc2p flies_2/ --mc2p flies_3/ --out comparison
  haltere compare --mc2p flies/ --methods simclr,haltere --seeds 1,2,3 --ablation --out comparison
  haltere compare --mc2p flies/ --ladder --seeds 1,2,3,4,5 --out ladder      what each step of the preparation is worth

Each data set with each seed is one repetition. The same command continues an interrupted comparison.")]
pub struct CompareArgs {
    /// Data sets, one for each population.
    #[command(flatten)]
    pub data: DataArgs,
    /// Methods to compare [default: all].
    #[arg(long, value_enum, value_name = "METHOD,…", value_delimiter = ',')]
    pub methods: Vec<Method>,
    /// Also train `haltere` without each of its augmentations, after all methods.
    #[arg(long)]
    pub ablation: bool,
    /// Instead of methods, compare the steps of the preparation, one at a time, with the same linear decoder: as the animals lie or on an
    /// atlas, with F₀ or without; then the network on labels, and, for animals of `haltere simulate --truth activity`, the true light
    /// of every axon, which is what the data allow.
    #[arg(long, conflicts_with_all = ["methods", "ablation", "atlas", "preprocess", "ready_made", "input"])]
    pub ladder: bool,
    /// Seeds for each population.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1])]
    pub seeds: Vec<u64>,
    /// Number of animals of each population to hold out of training; the seed decides which.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub unseen: usize,
    /// Ask about the unseen animals only, with all labels: the other questions take much longer.
    #[arg(long)]
    pub unseen_only: bool,
    /// How much.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// Number of training runs in parallel.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub jobs: u64,
    /// Folder for results, tables and the report.
    #[arg(long, short, value_name = "FOLDER", default_value = "comparison")]
    pub out: PathBuf,
}

/// Seeds behind each chance level: one permutation of each run, for every animal and repetition, is many together.
pub(super) const PERMUTATIONS: usize = 2;

/// A population of which a seed leaves out some animals.
struct Population {
    name: String,
    seed: u64,
    unseen: Vec<usize>,
    as_asked: View,
    /// For the methods that read an atlas, if one of them was asked for.
    prepared: Option<View>,
    /// Do the animals lie on an atlas in `prepared`?
    on_atlas: bool,
}

/// One preparation of its frames: of all animals, and of those that training sees.
struct View {
    all: Dataset,
    seen: Dataset,
}

impl Population {
    /// What a method reads; `None` for the discriminant on an atlas where there is none.
    fn view(&self, method: Method) -> Option<&View> {
        match method {
            Method::LdaAtlas if !self.on_atlas => None,
            _ if method.reads_an_atlas() => self.prepared.as_ref(),
            _ => Some(&self.as_asked),
        }
    }
}

/// Runs what is not finished, then prints and writes the table.
///
/// # Errors
/// What was wrong with the arguments, the data, a training or a file.
pub fn run(args: &CompareArgs, stop: &Arc<AtomicBool>, out: &mut dyn Write) -> anyhow::Result<()> {
    let contenders = contenders(args);
    let populations = populations(args)?;
    let results = args.out.join("results");
    prepare_folder(&results)?;
    let jobs = jobs(args, &contenders, &populations)?;
    let outcomes = run_all(args, jobs, &results, stop)?;
    let gaps = gaps_of(args, &populations)?;
    finish(args, &populations, &outcomes, &gaps, out)
}

fn contenders(args: &CompareArgs) -> Vec<Contender> {
    let methods = if args.methods.is_empty() { Method::ALL.to_vec() } else { args.methods.clone() };
    let plain = methods.into_iter().map(|method| Contender { method, without: None });
    let ablation = if args.ablation { Contender::ablation() } else { Vec::new() };
    plain.chain(ablation).collect()
}

fn populations(args: &CompareArgs) -> anyhow::Result<Vec<Population>> {
    let mut populations = Vec::new();
    for (name, loader) in Loader::all(&args.data, args.learn.progress)? {
        for &seed in &args.seeds {
            let network = settings(Method::Haltere, seed, &args.learn)?.network;
            let window = network.window_frames;
            let animals = loader.animals();
            let (unseen, rest) = left_out(args, seed, &name, &animals)?;
            let view = |loader: &Loader<'_>, whole| -> anyhow::Result<View> {
                let (all, seen) = (loader.load(&animals, window, whole)?, loader.load(&rest, window, false)?);
                show::same_labels(&all, &seen)?;
                Ok(View { all, seen })
            };
            let as_asked = view(&loader.fitted_to(&rest)?, true)?;
            let prepared = prepared(args, &loader, network.kind, &rest)?;
            let on_atlas = prepared.as_ref().is_some_and(Loader::is_on_atlas);
            let prepared = prepared.map(|loader| view(&loader, false)).transpose()?;
            populations.push(Population { name: name.clone(), seed, unseen, as_asked, prepared, on_atlas });
        }
    }
    Ok(populations)
}

/// The animals that a seed leaves out, and the names of the others.
pub(super) fn left_out(
    args: &CompareArgs,
    seed: u64,
    population: &str,
    animals: &[String],
) -> anyhow::Result<(Vec<usize>, Vec<String>)> {
    let (unseen, count) = (args.unseen, animals.len());
    if unseen >= count {
        return Err(usage(format!(
            "--unseen {unseen}: {population} has {count} animals, and at least one must be left to train on: lower --unseen, or add \
             animals"
        )));
    }
    // Another seed leaves out others.
    let first = seed as usize * unseen;
    let unseen: Vec<usize> = (0..unseen).map(|n| (first + n) % count).collect();
    let rest = (0..count).filter(|a| !unseen.contains(a)).map(|a| animals[a].clone()).collect();
    Ok((unseen, rest))
}

/// The loader for the methods that read an atlas of the animals `rest`, if one of them was asked for. Where there can be no atlas, that is
/// an error if `lda-atlas` was named, and a warning otherwise.
fn prepared<'a>(
    args: &CompareArgs,
    loader: &Loader<'a>,
    network: NetworkKind,
    rest: &[String],
) -> anyhow::Result<Option<Loader<'a>>> {
    let asked = |method: &Method| args.methods.is_empty() || args.methods.contains(method);
    let Some(method) = Method::ALL.into_iter().find(|method| method.reads_an_atlas() && asked(method)) else {
        return Ok(None);
    };
    let loader = loader.clone().for_method(method, network);
    if args.methods.contains(&Method::LdaAtlas) {
        return loader.on_atlas_of(rest).map(Some);
    }
    let fitted = loader.fitted_to(rest)?;
    if args.methods.is_empty() && !fitted.is_on_atlas() {
        tracing::warn!("{} is left out: there is no atlas", Method::LdaAtlas.name());
    }
    Ok(Some(fitted))
}

fn jobs<'a>(
    args: &CompareArgs,
    contenders: &[Contender],
    populations: &'a [Population],
) -> anyhow::Result<VecDeque<Job<'a>>> {
    let mut jobs = VecDeque::new();
    // The methods of all populations before the first ablation: a comparison that is cut short has its main table.
    let (plain, ablation): (Vec<&Contender>, Vec<&Contender>) = contenders.iter().partition(|c| c.without.is_none());
    for of_rows in [plain, ablation] {
        for population in populations {
            for contender in &of_rows {
                let Some(view) = population.view(contender.method) else { continue };
                jobs.push_back(Job {
                    contender: (*contender).clone(),
                    settings: contender.settings(settings(contender.method, population.seed, &args.learn)?),
                    population: population.name.clone(),
                    all: &view.all,
                    training: &view.seen,
                    unseen: population.unseen.clone(),
                    unseen_only: args.unseen_only,
                });
            }
        }
    }
    Ok(jobs)
}

/// Works through the jobs, `--jobs` at once; the first error ends all of them.
pub(super) fn run_all(
    args: &CompareArgs,
    jobs: VecDeque<Job<'_>>,
    results: &Path,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<Outcome>> {
    let whole = progress_bar(None, args.learn.progress.is_shown(), "{prefix:>12} {bar:30} {pos}/{len} trainings {msg}");
    whole.set_prefix("compare");
    whole.set_length(jobs.len() as u64);
    let device = device(args.learn.device)?;
    let queue = Mutex::new(jobs);
    let done = Mutex::new((Vec::new(), None::<CompareError>));
    let worker = || {
        while !stop.load(Relaxed) {
            let Some(job) = lock(&queue).pop_front() else { break };
            let outcome = job.finished(results).map_or_else(
                || {
                    let mut options =
                        Options { permutations: PERMUTATIONS, seed: job.settings.seed, ..Options::default() };
                    if job.unseen_only {
                        options.label_shares = vec![1.0];
                    }
                    job.run(results, &options, &device, stop, &mut |progress| tell(&whole, &job, &progress))
                },
                Ok,
            );
            whole.inc(1);
            match outcome {
                Ok(outcome) => {
                    tracing::info!("{} in {:.0} s", job.file().trim_end_matches(".json"), outcome.training_s);
                    lock(&done).0.push(outcome);
                }
                Err(error) => {
                    lock(&done).1.get_or_insert(error);
                    stop.store(true, Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..args.jobs).for_each(|_| drop(scope.spawn(worker))));
    whole.finish_and_clear();
    let (outcomes, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    match error {
        Some(error) => Err(error.into()),
        None if stop.load(Relaxed) => Err(CompareError::Stopped.into()),
        None => Ok(outcomes),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A worker that panicked has not left a half-written value: both are pushed to and popped from only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(bar: &ProgressBar, job: &Job<'_>, progress: &Progress) {
    if let Progress::Step { step, metrics, .. } = progress {
        let (name, steps) = (job.contender.name(), job.settings.steps);
        bar.set_message(format!("{name} step {step}/{steps}, loss {:.2}", metrics.loss));
    }
}

/// The scores of an outcome. What an encoder that learnt from labels scores on animals it saw says nothing: its across-animal score is
/// the unseen one.
pub(super) fn scores_of(outcome: &Outcome) -> Vec<Score> {
    let mut scores = outcome.evaluation.scores.clone();
    if outcome.settings.learns_from_labels() {
        let unseen: Vec<_> = scores.iter().filter(|s| s.question == Question::Unseen).cloned().collect();
        scores.extend(unseen.into_iter().map(|score| Score { question: Question::AcrossAnimal, ..score }));
    }
    scores
}

/// Outcomes as runs of the table.
fn runs_of(outcomes: &[Outcome]) -> Vec<Run> {
    let run = |o: &Outcome| Run { method: o.contender.name(), seed: o.seed, scores: scores_of(o) };
    outcomes.iter().map(run).collect()
}

/// How far apart animals lie before and after each augmentation, of the first population.
fn gaps_of(args: &CompareArgs, populations: &[Population]) -> anyhow::Result<Vec<GapRow>> {
    let Some(first) = populations.first() else { return Ok(Vec::new()) };
    Ok(augmentation_gaps(&first.as_asked.all, &settings(Method::Haltere, first.seed, &args.learn)?)?)
}

fn finish(
    args: &CompareArgs,
    populations: &[Population],
    outcomes: &[Outcome],
    gaps: &[GapRow],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut ordered: Vec<Outcome> = outcomes.to_vec();
    ordered.sort_by(|a, b| (&a.contender, &a.population, a.seed).cmp(&(&b.contender, &b.population, b.seed)));
    let summaries = summarise(&runs_of(&ordered));
    let text = show::tables(&summaries, Table::to_text);
    let verdict = verdict(&summaries);
    let table = format!("{text}\n{verdict}");
    let provenance = Provenance::now(
        &populations.first().map(|p| p.as_asked.all.sha256.clone()).unwrap_or_default(),
        args.seeds.first().copied().unwrap_or_default(),
    );
    let report = report_data(populations, &ordered, &summaries, gaps, &verdict, &provenance);
    let files = [
        ("table.txt", format!("{table}\n")),
        ("table.md", show::tables(&summaries, Table::to_markdown)),
        ("table.csv", to_csv(&summaries)),
        ("report.json", report.to_json()?),
        ("report.html", html::render(&report)),
    ];
    write_all(&args.out, &files, &table, out)
}

/// What a reader wants to know first, in words: which method decodes the next animal best, and what a linear decoder does.
fn verdict(summaries: &[Summary]) -> String {
    let metric = Metric::BalancedAccuracy;
    let mut text = best_unseen(summaries).unwrap_or_else(|| "No animal was held out and scored.".into());
    let Some(gap) = gap(summaries, metric) else { return text };
    text +=
        &format!(" simclr loses {:.1} points of balanced accuracy from single-animal to across-animal.", 100.0 * gap);
    if let Some(closed) = gap_closed(summaries, Method::Haltere.name(), metric) {
        text += &format!(" haltere closes {:.0} % of that gap.", 100.0 * closed);
    }
    text
}

fn best_unseen(summaries: &[Summary]) -> Option<String> {
    let score = |s: &Summary| s.balanced_accuracy.mean;
    let of = |linear: bool| {
        let is_linear = |s: &Summary| Method::ALL.iter().any(|m| m.name() == s.method && m.rival().is_some());
        let rows = summaries.iter().filter(|s| s.question == Question::Unseen && s.label_share == 1.0);
        rows.filter(|s| score(s).is_finite() && is_linear(s) == linear).max_by(|a, b| score(a).total_cmp(&score(b)))
    };
    let (network, linear) = (of(false), of(true));
    let chance = network.or(linear)?.balanced_accuracy.chance;
    let chance = chance.map_or(String::new(), |chance| format!(" (chance {:.1})", 100.0 * chance));
    let said = |s: &Summary| format!("{} reaches {:.1} % balanced accuracy", s.method, 100.0 * score(s));
    Some(match (network, linear) {
        (Some(network), Some(linear)) => format!(
            "On animals that training did not see, {}{chance}; the best linear decoder, {}, {:.1} %.",
            said(network),
            linear.method,
            100.0 * score(linear)
        ),
        (one, other) => format!("On animals that training did not see, {}{chance}.", said(one.or(other)?)),
    })
}

fn report_data(
    populations: &[Population],
    outcomes: &[Outcome],
    summaries: &[Summary],
    gaps: &[GapRow],
    verdict: &str,
    provenance: &Provenance,
) -> report::ReportData {
    let plain: Vec<Summary> = summaries.iter().filter(|s| !s.method.contains(" without ")).cloned().collect();
    let haltere: Vec<&Evaluation> = outcomes
        .iter()
        .filter(|o| o.contender.name() == Method::Haltere.name())
        .map(|outcome| &outcome.evaluation)
        .collect();
    let first = populations.first();
    let labels = first.map(|p| p.as_asked.all.labels.clone()).unwrap_or_default();
    let hashes = populations.iter().map(|p| (format!("data {}", p.name), p.as_asked.all.sha256.clone())).collect();
    let mut warnings: Vec<String> = outcomes.iter().flat_map(|o| o.evaluation.warnings.clone()).collect();
    warnings.sort();
    warnings.dedup();
    let gap = |row: &GapRow| report::GapBar {
        augmentation: row.augmentation.clone(),
        space: row.space.into(),
        before: report::Spread { mean: row.before, sd: 0.0, count: 1 },
        after: report::Spread { mean: row.after, sd: 0.0, count: 1 },
    };
    report::ReportData {
        title: "Comparison of methods".into(),
        summary: verdict.into(),
        scores: show::score_rows(summaries),
        data: first.map(|p| {
            let folds = populations.iter().map(|p| {
                let names: Vec<&str> = p.unseen.iter().map(|&a| p.as_asked.all.animals[a].as_str()).collect();
                format!("{} (seed {}): {}", p.name, p.seed, names.join(", "))
            });
            show::data_summary(&p.as_asked.all, format!("unseen in {}", folds.collect::<Vec<_>>().join("; ")))
        }),
        look_ahead: first
            .zip(outcomes.first())
            .map(|(p, o)| show::look_ahead(&o.settings, p.as_asked.all.frame_rate_hz)),
        method: outcomes.iter().find(|o| o.contender.method == Method::Haltere).map(|o| show::method(&o.settings)),
        confusion: show::confusion(&haltere, Question::Unseen, &labels, "haltere, unseen animals"),
        per_animal: show::per_animal(&haltere, Question::Unseen),
        domain_gap: gaps.iter().map(gap).collect(),
        ablation: ablations(outcomes),
        comparison: Some(comparison(&plain, outcomes)),
        warnings,
        reproduce: Some(show::reproduce(provenance, hashes)),
        ..report::ReportData::default()
    }
}

/// Every value of a contender in a question, all labels.
fn values(outcomes: &[Outcome], name: &str, question: Question) -> Vec<f64> {
    let own = outcomes.iter().filter(|o| o.contender.name() == name);
    let scores = own.flat_map(|o| &o.evaluation.scores).filter(|s| s.question == question && s.label_share == 1.0);
    scores.map(|s| s.balanced_accuracy).collect()
}

fn comparison(plain: &[Summary], outcomes: &[Outcome]) -> report::Comparison {
    let mut names: Vec<&str> = plain.iter().map(|s| s.method.as_str()).collect();
    names.dedup();
    let panel = |question: Question| {
        let chances: Vec<f64> =
            plain.iter().filter(|s| s.question == question).filter_map(|s| s.balanced_accuracy.chance).collect();
        report::ProtocolPanel {
            name: question.name().into(),
            methods: names
                .iter()
                .map(|name| report::Values { name: (*name).to_owned(), values: values(outcomes, name, question) })
                .collect(),
            chance: (!chances.is_empty()).then(|| chances.iter().sum::<f64>() / chances.len() as f64),
            lower_is_better: !question.higher_is_better(),
        }
    };
    report::Comparison {
        measure: "balanced accuracy".into(),
        protocols: Question::ALL.into_iter().map(panel).collect(),
    }
}

fn ablations(outcomes: &[Outcome]) -> Vec<report::Ablation> {
    let rows: Vec<String> = std::iter::once(Method::Haltere.name().to_owned())
        .chain(Contender::ablation().iter().map(Contender::name))
        .filter(|name| outcomes.iter().any(|o| o.contender.name() == *name))
        .collect();
    let bars = |question| {
        let bar = |name: &String| report::Bar {
            name: name.clone(),
            score: report::Spread::of(&values(outcomes, name, question)),
        };
        rows.iter().map(bar).collect()
    };
    let ablation = |question: Question| report::Ablation {
        measure: format!("{question}: balanced accuracy"),
        bars: bars(question),
        chance: None,
        lower_is_better: !question.higher_is_better(),
    };
    if rows.len() < 2 {
        return Vec::new();
    }
    [Question::AcrossAnimal, Question::Unseen, Question::Identity].map(ablation).into()
}
