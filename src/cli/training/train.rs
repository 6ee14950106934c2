//! `haltere train`: one run from recordings to a model that the daemon accepted.
//!
//! Why it exists: settings, checkpoints, metrics, model, report and card of a run belong into one folder, and a run
//! that was stopped must go on as if it had not been. What it must never do: put a model into `models/` that was not
//! accepted.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use clap::{Args, ValueEnum};

use super::data::{DataArgs, Loader};
use super::learn::{LearnArgs, device, settings};
use super::show::{self, Curves};
use super::{prepare_folder, usage};
use crate::dataset::trials::{Dataset, Origin, Representation};
use crate::encode::Encoder;
use crate::evaluate::{Evaluation, Options, OutputScore, Question, evaluate, evaluate_outputs};
use crate::frame::Name;
use crate::model::{Kind, Model, Provenance as ModelProvenance};
use crate::report::provenance::Provenance;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::temporary_folder;
use crate::sys::progress::progress_bar;
use crate::train::behaviour::Behaviour;
use crate::train::export::accept;
use crate::train::export::{Details, write};
use crate::train::fit::{Checkpoints, Ended, Fit, Progress};
use crate::train::learner::Learner;
use crate::train::metrics_log::Column;
use crate::train::represent::represent;
use crate::train::run_folder::{Checkpoint, Opening, RunFolder};
use crate::train::settings::{Method, TrainSettings};
use crate::train::spec::NetworkSpec;

/// `haltere train`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere train --mc2p flies/ --name fly --hold-out fly_08     the method that suits the data, validated on fly_08
  haltere train --mc2p flies/ --method haltere                 without labels: neural against behavioural windows
  haltere train --data dataset.toml --method simclr --preset standard
  haltere train --mc2p flies/ --name fly --resume              continue an interrupted run
  haltere train --mc2p flies/ --name fly --resume auto         the same, or begin it

The folder runs/NAME holds everything about a run: effective settings, metrics, TensorBoard scalars, \
checkpoints, report.html and a model card. The model is written to --out only after the daemon's own encoder \
has reproduced it. Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint after the current step.")]
pub struct TrainArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Training method [default: `supervised` where every trial has labels, otherwise `haltere`, which needs none]. Unless --atlas=off,
    /// --preprocess or --input say otherwise, animals are laid on an atlas if their recordings allow it, without F₀, pixels by their share of
    /// signal, frames of 32 x 32.
    #[arg(long, value_enum, value_name = "METHOD")]
    pub method: Option<Method>,
    /// How much.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// Seed for weights, batches and augmentations; the same seed gives the same model.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Name of the run and of the model.
    #[arg(long, value_name = "NAME", default_value = "haltere")]
    pub name: Name,
    /// Animals to hold out of training: they calibrate probabilities and novelty and are scored as unseen. `none` holds
    /// out none [default: the last animal, if there are at least four].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub hold_out: Vec<String>,
    /// Folder for the model, NAME.onnx and NAME.toml.
    #[arg(long, short, value_name = "FOLDER", default_value = "models")]
    pub out: PathBuf,
    /// Folder for the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub runs: PathBuf,
    /// Continue an interrupted run. `auto` begins it if it has not begun: the same command for every attempt of a job on a cluster.
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, default_missing_value = "begun", conflicts_with = "force")]
    pub resume: Option<Resume>,
    /// Overwrite an existing run and model of this name.
    #[arg(long)]
    pub force: bool,
}

/// Which runs `--resume` continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    /// One that has begun.
    Begun,
    /// One that has begun; otherwise begin it.
    Auto,
}

/// What is written of every step and every look.
const COLUMNS: [Column; 7] = [
    Column { name: "loss", unit: "nats" },
    Column { name: "similarity_paired", unit: "cosine" },
    Column { name: "similarity_others", unit: "cosine" },
    Column { name: "learning_rate", unit: "1" },
    Column { name: "held_out_loss", unit: "nats" },
    Column { name: "held_out_similarity_paired", unit: "cosine" },
    Column { name: "held_out_similarity_others", unit: "cosine" },
];
/// Steps whose mean loss the bar shows.
const SMOOTHED_STEPS: usize = 20;
/// Animals from which one is held out unasked.
const HELD_OUT_FROM: usize = 4;

/// Trains a model and puts it into `models/`.
///
/// # Errors
/// What was wrong with the arguments, the data, the training or the files.
pub fn run(args: &TrainArgs, stop: &Arc<AtomicBool>, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(method) = args.method.filter(|method| !method.exports()) {
        let name = method.name();
        return Err(usage(format!(
            "--method {name}: no daemon could run the result; use `haltere compare` to compare this method with others"
        )));
    }
    refuse_to_overwrite(args)?;
    let loader = Loader::one(&args.data, args.learn.progress)?;
    let method = args.method.unwrap_or_else(|| method_for(&loader));
    let settings = settings(method, args.seed, &args.learn)?;
    tracing::info!(
        "{}: animals on an atlas, without F₀, each pixel by its share of signal, unless --atlas=off or --preprocess say otherwise",
        method.name()
    );
    let loader = loader.for_method(method, settings.network.kind);
    let (training, held_out) = split(&loader, args, &settings)?;
    prepare_folder(&args.out)?;
    let resumes = resumes(args);
    let opening = match (resumes, args.resume.is_some() || args.force) {
        (true, _) => Opening::Resume,
        // What an attempt left that was killed before its run began is replaced.
        (false, true) => Opening::Replace,
        (false, false) => Opening::New,
    };
    let folder = RunFolder::create(&args.runs, &args.name.to_string(), opening)?;
    let resumed = resume_point(&folder, resumes, &settings, &training)?;
    folder.write_config(&settings)?;
    if resumed.is_none() {
        folder.write_provenance(&Provenance::now(&training.sha256, args.seed))?;
    }
    let run = Run { args, settings: &settings, training: &training, held_out: held_out.as_ref(), folder: &folder };
    let plain = device(args.learn.device)?;
    let trained = run.learn(resumed.as_deref(), &plain, stop)?;
    run.finish(&trained, &plain, out)
}

/// The method that decodes the next animal best with what the data hold.
fn method_for(loader: &Loader<'_>) -> Method {
    match loader.labelled_trials() {
        (trials, labelled) if labelled == trials => {
            tracing::info!("every trial has labels: --method supervised");
            Method::Supervised
        }
        (trials, labelled) => {
            let (without, have) = (trials - labelled, if trials - labelled == 1 { "has" } else { "have" });
            tracing::info!("{without} of {trials} trials {have} no labels: --method haltere");
            Method::Haltere
        }
    }
}

/// Is this the continuation of a run?
fn resumes(args: &TrainArgs) -> bool {
    let begun = || RunFolder::existing(&args.runs.join(args.name.to_string())).is_ok();
    args.resume.is_some_and(|when| when == Resume::Begun || begun())
}

fn refuse_to_overwrite(args: &TrainArgs) -> anyhow::Result<()> {
    let there = ["toml", "onnx"].map(|e| args.out.join(format!("{}.{e}", args.name))).into_iter().find(|p| p.exists());
    match there {
        Some(path) if !args.force && !resumes(args) => anyhow::bail!(
            "{} is there already: choose another --name or --out, or overwrite it with --force",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// The animals to train on, and those that judge.
fn split(
    loader: &Loader<'_>,
    args: &TrainArgs,
    settings: &TrainSettings,
) -> anyhow::Result<(Dataset, Option<Dataset>)> {
    let all = loader.animals();
    let held: Vec<String> = match args.hold_out.as_slice() {
        [] if all.len() >= HELD_OUT_FROM => all.last().cloned().into_iter().collect(),
        [] => Vec::new(),
        [none] if none == "none" => Vec::new(),
        named => named.to_vec(),
    };
    if let Some(unknown) = held.iter().find(|name| !all.contains(name)) {
        return Err(usage(format!("--hold-out {unknown}: no such animal; the animals are {}", all.join(", "))));
    }
    let rest: Vec<String> = all.iter().filter(|name| !held.contains(name)).cloned().collect();
    if rest.is_empty() {
        return Err(usage(format!("--hold-out leaves no animal to train on; the animals are {}", all.join(", "))));
    }
    let window = settings.network.window_frames;
    let loader = loader.fitted_to(&rest)?;
    let training = loader.load(&rest, window, true)?;
    if held.is_empty() {
        return Ok((training, None));
    }
    let held_out = loader.load(&held, window, false)?;
    show::same_labels(&training, &held_out)?;
    Ok((training, Some(held_out)))
}

/// The checkpoint to go on from; refuses one of other settings or other data.
fn resume_point(
    folder: &RunFolder,
    resume: bool,
    settings: &TrainSettings,
    training: &Dataset,
) -> anyhow::Result<Option<PathBuf>> {
    if !resume {
        return Ok(None);
    }
    let before: TrainSettings = toml::from_str(&folder.config_text()?)?;
    anyhow::ensure!(
        before == *settings,
        "--resume: the settings differ from {}: repeat the command that began the run, or start a new run",
        folder.path().join("config.toml").display()
    );
    let data = folder.provenance()?.data_sha256;
    anyhow::ensure!(
        data == training.sha256,
        "--resume: the data differ from those of the run (SHA-256 {} now, {data} then): start a new run",
        training.sha256
    );
    Ok(folder.newest_checkpoint(Checkpoint::Last))
}

struct Run<'a> {
    args: &'a TrainArgs,
    settings: &'a TrainSettings,
    training: &'a Dataset,
    held_out: Option<&'a Dataset>,
    folder: &'a RunFolder,
}

/// What training made.
struct Trained {
    learner: Learner,
    spec: NetworkSpec,
    curves: Curves,
}

impl Run<'_> {
    /// Trains.
    fn learn(&self, resumed: Option<&Path>, device: &Device, stop: &AtomicBool) -> anyhow::Result<Trained> {
        let behaviour = Behaviour::standardised(self.training, self.settings.augment.standardise_behaviour);
        let mut fit = Fit::new(self.training, &behaviour, self.settings, device)?;
        self.rehearse_export(&fit)?;
        if let Some(checkpoint) = resumed {
            fit = fit.resume(checkpoint)?;
            self.folder.note_resumption(fit.state().step as u64)?;
        }
        let after = resumed.map(|_| fit.state().step as u64);
        let mut metrics = self.folder.metrics(&COLUMNS, after)?;
        let mut curves = Curves::default();
        let bar = progress_bar(
            None,
            self.args.learn.progress.is_shown(),
            "{prefix:>12} {bar:30} {pos}/{len} {msg}, {eta} left",
        );
        bar.set_prefix(self.settings.method.name());
        bar.set_length(self.settings.steps as u64);
        bar.set_position(fit.state().step as u64);
        bar.reset_eta();
        let (mut recent, mut row, mut failed) = (VecDeque::new(), [None; COLUMNS.len()], None);
        let [best, last] = [Checkpoint::Best, Checkpoint::Last].map(|which| self.folder.checkpoint(which));
        let checkpoints = Checkpoints { best, last };
        let temperature = self.settings.temperature;
        let ended = fit.run(Some(&checkpoints), stop, &mut |progress| {
            curves.add(&progress);
            if let Progress::Step { step, metrics, learning_rate } = &progress {
                recent.push_back(metrics.loss);
                recent.drain(..recent.len().saturating_sub(SMOOTHED_STEPS));
                let mean = recent.iter().sum::<f32>() / recent.len() as f32;
                let (paired, others) = (metrics.similarity_paired, metrics.similarity_others);
                bar.set_position(*step as u64);
                bar.set_message(format!("loss {mean:.3}, τ {temperature}, pairs {paired:+.2}, others {others:+.2}"));
                row = show::step_row(metrics, *learning_rate);
            }
            let (step, row) = show::row_of(&progress, row);
            failed = failed.take().or(metrics.record(step, &row).err());
        })?;
        bar.finish_and_clear();
        if let Some(error) = failed {
            return Err(error.into());
        }
        if ended == Ended::Stopped {
            let what = format!(
                "stopped after step {} of {}; saved to {}: continue with --resume",
                fit.state().step,
                self.settings.steps,
                checkpoints.last.display()
            );
            // A script must not go on to a model that is not there.
            return Err(Failure { code: ExitCode::Interrupted, what }.into());
        }
        fit = fit.at_best(&checkpoints)?;
        curves.best_step = Some(fit.state().step as u64);
        Ok(Trained { learner: fit.learner(), spec: fit.spec().clone(), curves })
    }

    /// Exports the untrained network and opens it: a missing ONNX Runtime is reported before hours of training, not after.
    fn rehearse_export(&self, fit: &Fit<'_>) -> anyhow::Result<()> {
        let folder = temporary_folder("train")?;
        let path = write(&fit.learner().network, fit.spec(), &self.details(), folder.path())?;
        Encoder::open(&Model::load(&path)?, None, 1)?;
        Ok(())
    }

    /// Probe, calibration, scores, export, report, card.
    fn finish(&self, trained: &Trained, device: &Device, out: &mut dyn Write) -> anyhow::Result<()> {
        let Trained { learner, spec, .. } = trained;
        let head = accept::fit_head(learner, spec, self.settings, self.training, self.held_out, device)?;
        let evaluation = self.scores(learner, spec, device)?;
        let details = self.details();
        let judge = self.held_out.unwrap_or(self.training);
        let (path, parity) = accept::export(learner, spec, &details, &head.fitted, judge, &self.args.out, None)?;
        tracing::info!(
            "{}: the daemon's encoder reproduces it to within {:e} over {} frames",
            path.display(),
            parity.max_abs_difference,
            parity.frames
        );
        let look_ahead = self.settings.look_ahead_frames;
        let samples = accept::samples_of(self.training, self.settings).0;
        let representation = represent(learner, spec, look_ahead, self.training, &samples, device);
        self.report(
            &show::RunShown {
                name: &self.args.name.to_string(),
                settings: self.settings,
                training: self.training,
                held_out: self.held_out,
                judged_on: &judge.animals,
                head: &head,
                evaluation: &evaluation,
                curves: &trained.curves,
                representation: &representation,
                provenance: &self.folder.provenance()?,
                model: &path,
            },
            out,
        )
    }

    fn scores(&self, learner: &Learner, spec: &NetworkSpec, device: &Device) -> anyhow::Result<Evaluation> {
        let look_ahead = self.settings.look_ahead_frames;
        let of = |data: &Dataset| {
            represent(learner, spec, look_ahead, data, &accept::samples_of(data, self.settings).0, device)
        };
        let mut all = of(self.training);
        let seen = all.animals.len();
        if let Some(held_out) = self.held_out {
            show::append(&mut all, of(held_out));
        }
        let unseen: Vec<usize> = (seen..all.animals.len()).collect();
        let outputs = self.output_scores(&all, &unseen);
        if !all.label.iter().any(Option::is_some) {
            return Ok(Evaluation { outputs, ..Evaluation::default() });
        }
        let labels = self.settings.learns_from_labels();
        let own = labels.then(|| learner.own_classifier()).flatten();
        let mut evaluation = evaluate(&all, &unseen, &Options { own, ..Options::default() })?;
        if labels {
            // It learnt from the labels of these animals: such scores would flatter it.
            evaluation.scores.retain(|s| matches!(s.question, Question::Identity | Question::Unseen));
        }
        Ok(Evaluation { outputs, ..evaluation })
    }

    /// The scores of the continuous outputs; of animals whose labels or targets the encoder learnt, none: they would flatter it.
    fn output_scores(&self, all: &Representation, unseen: &[usize]) -> Vec<OutputScore> {
        let mut scores = evaluate_outputs(all, unseen, &Options::default());
        if self.settings.target_weight > 0.0 || self.settings.learns_from_labels() {
            scores.retain(|score| score.question == Question::Unseen);
        }
        scores
    }

    fn details(&self) -> Details {
        let preprocess = match &self.training.origin {
            Origin::Preprocessed(parameters) => (**parameters).clone(),
            Origin::ReadyMade { .. } => crate::model::parameters::Parameters {
                registration: None,
                baseline: None,
                ..crate::model::parameters::Parameters::default()
            },
        };
        let method = self.settings.method;
        Details {
            name: self.args.name.to_string(),
            kind: Kind::Streaming,
            frame_rate_hz: self.training.frame_rate_hz,
            look_ahead_frames: self.settings.look_ahead_frames,
            provenance: ModelProvenance {
                trained: true,
                made_by: format!("haltere {} train --method {}", env!("CARGO_PKG_VERSION"), method.name()),
                trained_on: show::data_in_words(self.training),
                note: match &self.training.origin {
                    Origin::Preprocessed(_) => method.in_words().to_owned(),
                    Origin::ReadyMade { note } => format!("{}; {note}", method.in_words()),
                },
            },
            preprocess,
        }
    }

    /// Writes page and card, and prints the table and where everything is.
    fn report(&self, shown: &show::RunShown<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
        let (report, card) = show::of_run(shown)?;
        let path = self.folder.write_report(&report)?;
        self.folder.write("MODEL_CARD.md", card.as_bytes())?;
        writeln!(out, "{}", show::table(self.settings.method.name(), self.settings.seed, shown.evaluation))?;
        shown.evaluation.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        writeln!(out, "model   {}", shown.model.display())?;
        writeln!(out, "report  {}", path.display())?;
        Ok(())
    }
}
