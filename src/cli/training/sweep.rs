//! `haltere sweep`: one training of a sweep by its index, as a job array of a cluster wants it, and the table of all of them.
//!
//! What it must never do: let two trainings share a file, or leave a training out of the table without saying so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, ValueEnum};

use super::compare::{PERMUTATIONS, scores_of};
use super::data::{DataArgs, Loader};
use super::eval::write_all;
use super::learn::{LearnArgs, device, settings};
use super::{prepare_folder, show, usage};
use crate::dataset::trials::Dataset;
use crate::evaluate::summary::Spread;
use crate::evaluate::table::to_csv;
use crate::evaluate::{Metric, Options, Question, Run, Summary, Table, summarise};
use crate::report::data as report;
use crate::report::html;
use crate::report::provenance::Provenance;
use crate::sys::csv::csv_field;
use crate::sys::files::{Bound, read_text_bounded, write_whole};
use crate::sys::progress::progress_bar;
use crate::train::compare::{Contender, Job, Outcome};
use crate::train::fit::Progress;
use crate::train::settings::{Method, TrainSettings};
use crate::train::sweep::{Sweep, SweepError, Training};

/// The settings of a training, as its folder keeps them.
const SETTINGS: Bound = Bound::new("the settings of a training", 1 << 20);

/// `haltere sweep`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere sweep sweep.toml --list                            what would be trained
  haltere sweep sweep.toml --index 0                         one of them, or the rest of one that was stopped
  haltere sweep sweep.toml --collect                         table and report of those that are finished

config/sweep-example.toml explains the file, config/slurm-sweep.sh runs it as a SLURM job array. SIGTERM and SIGUSR1 save a checkpoint after the current step (exit code 130); the same \
command continues from it. A finished training is not repeated.")]
pub struct SweepArgs {
    /// The sweep.
    #[arg(value_name = "SWEEP")]
    pub file: PathBuf,
    /// What to do.
    #[command(flatten)]
    pub what: SweepWhat,
    /// Folder for the results, the same for all trainings [default: the sweep's file without its extension].
    #[arg(long, short, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// One of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SweepWhat {
    /// Run the training of this index, from 0, and print its line of results.
    #[arg(long, value_name = "N")]
    pub index: Option<usize>,
    /// Print the number of trainings.
    #[arg(long)]
    pub count: bool,
    /// Print every training: index, settings, seed and held-out animals.
    #[arg(long)]
    pub list: bool,
    /// Write results.csv (a line for each training), table and report of the finished trainings.
    #[arg(long)]
    pub collect: bool,
}

/// The options that all trainings share.
#[derive(Debug, Parser)]
#[command(name = "options", no_binary_name = true, disable_help_flag = true)]
struct Shared {
    #[arg(long, value_enum, default_value_t = Method::Haltere)]
    method: Method,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    learn: LearnArgs,
}

/// A sweep whose every training has sound settings.
struct Checked {
    sweep: Sweep,
    shared: Shared,
    out: PathBuf,
}

/// Does what was asked.
///
/// # Errors
/// What was wrong with the sweep, the data, the training or the files.
pub fn run(args: &SweepArgs, stop: &Arc<AtomicBool>, out: &mut dyn Write) -> anyhow::Result<()> {
    let checked = Checked::read(args)?;
    match args.what {
        SweepWhat { index: Some(index), .. } => {
            let training = checked.sweep.training(index).ok_or_else(|| {
                let count = checked.sweep.count();
                usage(format!("--index {index}: {} has {count} trainings, 0 to {}", args.file.display(), count - 1))
            })?;
            let outcome = checked.train(&training, stop)?;
            writeln!(out, "{}", line(&training, &outcome, ' '))?;
        }
        SweepWhat { count: true, .. } => writeln!(out, "{}", checked.sweep.count())?,
        SweepWhat { list: true, .. } => {
            for t in checked.sweep.trainings() {
                writeln!(out, "{:>5}  {}  seed={} hold_out={}", t.index, t.name(), t.seed, t.hold_out.join(","))?;
            }
        }
        _ => checked.collect(out)?,
    }
    Ok(())
}

impl Checked {
    fn read(args: &SweepArgs) -> anyhow::Result<Self> {
        let sweep = Sweep::read(&args.file)?;
        let wrong = |what: String| SweepError { path: args.file.clone(), what };
        let shared = Shared::try_parse_from(&sweep.options).map_err(|error| wrong(format!("options: {error}")))?;
        let out = args.out.clone().unwrap_or_else(|| args.file.with_extension(""));
        let checked = Self { sweep, shared, out };
        for training in checked.sweep.trainings() {
            checked.settings(&training).map_err(|error| wrong(format!("training {}: {error}", training.index)))?;
        }
        Ok(checked)
    }

    /// The settings of a training; the method comes first, because the others' defaults depend on it.
    fn settings(&self, training: &Training) -> anyhow::Result<TrainSettings> {
        let method = match training.method() {
            Some(name) => Method::from_str(name, false).map_err(|_| usage(format!("method={name}: no such method")))?,
            None => self.shared.method,
        };
        let mut settings = settings(method, training.seed, &self.shared.learn)?;
        for assignment in training.settings.iter().filter(|setting| !setting.starts_with("method=")) {
            settings.set(assignment)?;
        }
        Ok(settings)
    }

    /// Where a training keeps its checkpoints and its result; nothing else writes there.
    fn folder(&self, training: &Training) -> PathBuf {
        self.out.join(format!("{:05}", training.index))
    }

    /// Trains and scores, from where an earlier attempt stopped.
    fn train(&self, training: &Training, stop: &Arc<AtomicBool>) -> anyhow::Result<Outcome> {
        let settings = self.settings(training)?;
        let loader = Loader::one(&self.shared.data, self.shared.learn.progress)?
            .for_method(settings.method, settings.network.kind);
        let (all, seen) = split(&loader, &training.hold_out, settings.network.window_frames)?;
        let unseen = (0..all.animals.len()).filter(|&a| training.hold_out.contains(&all.animals[a])).collect();
        let folder = self.folder(training);
        prepare_folder(&folder)?;
        one_training_only(&folder, &settings, &all.sha256)?;
        let job = Job {
            contender: Contender { method: settings.method, without: None },
            settings,
            population: "training".to_owned(),
            all: &all,
            training: &seen,
            unseen,
            unseen_only: false,
        };
        if let Some(finished) = job.finished(&folder) {
            return Ok(finished);
        }
        let bar = progress_bar(None, self.shared.learn.progress.is_shown(), "{prefix:>12} {bar:30} {pos}/{len} steps");
        bar.set_prefix(format!("training {}", training.index));
        bar.set_length(job.settings.steps as u64);
        let options = Options { permutations: PERMUTATIONS, seed: training.seed, ..Options::default() };
        let device = device(self.shared.learn.device)?;
        let outcome = job.run(&folder, &options, &device, stop, &mut |progress| {
            if let Progress::Step { step, .. } = progress {
                bar.set_position(step as u64);
            }
        });
        bar.finish_and_clear();
        Ok(outcome?)
    }

    /// The result of a training, if it is finished; of other settings than the sweep's now, it is none.
    fn finished(&self, training: &Training) -> anyhow::Result<Option<Outcome>> {
        let settings = self.settings(training)?;
        let found = Outcome::only_one_in(&self.folder(training))?;
        Ok(found.filter(|outcome| outcome.settings == settings))
    }

    fn collect(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for training in self.sweep.trainings() {
            match self.finished(&training)? {
                Some(outcome) => found.push((training, outcome)),
                None => missing.push(training.index.to_string()),
            }
        }
        let Some((_, first)) = found.first() else {
            let folder = self.out.display();
            return Err(usage(format!(
                "--collect: {folder} holds no finished training of this sweep; run --index first"
            )));
        };
        let runs: Vec<Run> = found
            .iter()
            .map(|(training, outcome)| Run { method: training.name(), seed: training.seed, scores: scores_of(outcome) })
            .collect();
        let summaries = ranked(summarise(&runs));
        let verdict = verdict(&summaries, found.len(), &missing);
        let table = format!("{}\n{verdict}", show::tables(&summaries, Table::to_text));
        let data = report_of(&summaries, &found, first, &verdict);
        let files = [
            ("results.csv", results(&found)),
            ("table.txt", format!("{table}\n")),
            ("table.csv", to_csv(&summaries)),
            ("report.json", data.to_json()?),
            ("report.html", html::render(&data)),
        ];
        write_all(&self.out, &files, &table, out)
    }
}

/// A folder belongs to one training: a checkpoint of other settings or other data must not be continued from.
fn one_training_only(folder: &Path, settings: &TrainSettings, data_sha256: &str) -> anyhow::Result<()> {
    let path = folder.join("settings.toml");
    let text = format!("# Of the data {data_sha256}\n{}", toml::to_string(settings)?);
    match read_text_bounded(&path, SETTINGS) {
        Ok(before) if before == text => Ok(()),
        Ok(_) => Err(usage(format!(
            "{}: this training was begun with other settings or data: choose another --out, or remove {}",
            path.display(),
            folder.display()
        ))),
        Err(error) if error.cause.kind() == std::io::ErrorKind::NotFound => Ok(write_whole(&path, text.as_bytes())?),
        Err(error) => Err(error.into()),
    }
}

/// All animals, and those that are trained on; whatever is learnt of animals before training is learnt of the latter.
fn split(loader: &Loader<'_>, held: &[String], window_frames: usize) -> anyhow::Result<(Dataset, Dataset)> {
    let animals = loader.animals();
    if let Some(unknown) = held.iter().find(|name| !animals.contains(name)) {
        return Err(usage(format!("hold_out: no animal {unknown}; the animals are {}", animals.join(", "))));
    }
    let rest: Vec<String> = animals.iter().filter(|name| !held.contains(name)).cloned().collect();
    if rest.is_empty() {
        return Err(usage(format!("hold_out leaves no animal to train on; the animals are {}", animals.join(", "))));
    }
    let loader = loader.fitted_to(&rest)?;
    let all = loader.load(&animals, window_frames, true)?;
    let seen = loader.load(&rest, window_frames, false)?;
    show::same_labels(&all, &seen)?;
    Ok((all, seen))
}

/// Mean balanced accuracy of a question, all labels.
fn mean(outcome: &Outcome, question: Question) -> Option<f64> {
    let scores = scores_of(outcome);
    let own = scores.iter().filter(|s| s.question == question && s.label_share == 1.0);
    let values: Vec<f64> = own.map(|s| s.balanced_accuracy).filter(|v| v.is_finite()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// One training in one line: what it was, its balanced accuracies, and how long it took.
fn line(training: &Training, outcome: &Outcome, between: char) -> String {
    let mut parts = vec![format!("index={}", training.index)];
    parts.extend(training.settings.iter().cloned());
    parts.push(format!("seed={}", training.seed));
    parts.push(format!("hold_out={}", training.hold_out.join("+")));
    for question in Question::ALL {
        if let Some(mean) = mean(outcome, question) {
            parts.push(format!("{}={mean:.4}", question.name().replace(' ', "_")));
        }
    }
    parts.push(format!("training_s={:.1}", outcome.training_s));
    parts.join(&between.to_string())
}

/// The same as a table, unrounded.
fn results(found: &[(Training, Outcome)]) -> String {
    let keys = found.first().map_or(&[][..], |(training, _)| training.settings.as_slice());
    let name = |setting: &String| setting.split('=').next().unwrap_or_default().to_owned();
    let mut header: Vec<String> = ["index", "seed", "hold_out"].map(str::to_owned).into();
    header.extend(keys.iter().map(name));
    header.extend(Question::ALL.map(|question| format!("{}_balanced_accuracy", question.name().replace(' ', "_"))));
    header.push("training_s".to_owned());
    let mut text = header.join(",") + "\n";
    for (training, outcome) in found {
        let mut row = vec![training.index.to_string(), training.seed.to_string(), training.hold_out.join("+")];
        let value =
            |setting: &String| setting.split_once('=').map_or("", |(_, value)| value).trim_matches('"').to_owned();
        row.extend(training.settings.iter().map(value));
        row.extend(Question::ALL.map(|question| mean(outcome, question).map_or_else(String::new, |v| v.to_string())));
        row.push(outcome.training_s.to_string());
        text += &(row.iter().map(|field| csv_field(field)).collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

/// How a setting did on animals never seen; where that was not measured, it comes last.
fn of_unseen(summaries: &[Summary], name: &str) -> Option<Spread> {
    let wanted = |s: &&Summary| s.method == name && s.question == Question::Unseen && s.label_share == 1.0;
    summaries.iter().find(wanted).map(|s| s.spread(Metric::BalancedAccuracy))
}

/// The best on unseen animals first.
fn ranked(mut summaries: Vec<Summary>) -> Vec<Summary> {
    let unranked = summaries.clone();
    let score = |s: &Summary| of_unseen(&unranked, &s.method).map_or(f64::NEG_INFINITY, |spread| spread.mean);
    summaries.sort_by(|a, b| score(b).total_cmp(&score(a)));
    summaries
}

/// The result in words.
fn verdict(summaries: &[Summary], found: usize, missing: &[String]) -> String {
    let mut text = match summaries.first().and_then(|s| Some((&s.method, of_unseen(summaries, &s.method)?))) {
        Some((name, spread)) => format!(
            "Best on unseen animals: {name}, {:.1} % balanced accuracy. The best of several is flattered: train it once more on other \
             animals before you trust the number.",
            100.0 * spread.mean
        ),
        None => "No training was scored on unseen animals.".to_owned(),
    };
    if !missing.is_empty() {
        let total = found + missing.len();
        text += &format!(" Not finished: {} of {total} (--index {}).", missing.len(), missing.join(", "));
    }
    text
}

fn report_of(
    summaries: &[Summary],
    found: &[(Training, Outcome)],
    first: &Outcome,
    verdict: &str,
) -> report::ReportData {
    let best = summaries.first().map(|s| s.method.clone()).unwrap_or_default();
    let of_best: Vec<_> = found.iter().filter(|(t, _)| t.name() == best).map(|(_, o)| &o.evaluation).collect();
    let mut warnings: Vec<String> = found.iter().flat_map(|(_, o)| o.evaluation.warnings.clone()).collect();
    warnings.sort();
    warnings.dedup();
    let provenance = Provenance::now(&first.data_sha256, first.seed);
    let hashes = vec![("data".to_owned(), first.data_sha256.clone())];
    report::ReportData {
        title: "Sweep".into(),
        summary: verdict.into(),
        scores: show::score_rows(summaries),
        confusion: show::confusion(&of_best, Question::Unseen, &first.labels, &format!("{best}, unseen animals")),
        per_animal: show::per_animal(&of_best, Question::Unseen),
        warnings,
        reproduce: Some(show::reproduce(&provenance, hashes)),
        ..report::ReportData::default()
    }
}
