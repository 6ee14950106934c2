//! Results of a run or a comparison as people read them: tables, the data of the report, the model card.
//!
//! Why it exists: `report` draws plain values and `evaluate` computes others; here they meet. What it must never do:
//! round or leave out a number that is worse than hoped for.

use std::path::Path;

use ndarray::{Axis, concatenate};

use crate::dataset::trials::{Dataset, Origin, Representation};
use crate::evaluate as scores;
use crate::evaluate::table::label_shares;
use crate::evaluate::{Evaluation, Metric, OutputRun, Question, Run, Summary, Table, output_table, summarise};
use crate::report::data as shown;
use crate::report::model_card::ModelCard;
use crate::report::pca::{EmbeddingView, Embeddings};
use crate::report::provenance::Provenance;
use crate::sys::files::sha256_of;
use crate::train::export::accept::Head;
use crate::train::fit::Progress;
use crate::train::learner::StepMetrics;
use crate::train::settings::TrainSettings;

/// Points of an embedding that a picture can take.
const POINTS_MAX: usize = 3000;
/// Points of a curve that a picture can take.
const CURVE_POINTS_MAX: usize = 400;

/// What happened while a run learnt.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Step, and what it showed.
    pub steps: Vec<(usize, StepMetrics)>,
    /// Looks at the held-out part.
    pub validations: Vec<(usize, StepMetrics)>,
    /// Step of the checkpoint that was kept.
    pub best_step: Option<u64>,
}

impl Curves {
    /// Keeps what happened.
    pub fn add(&mut self, progress: &Progress) {
        match progress {
            Progress::Step { step, metrics, .. } => self.steps.push((*step, *metrics)),
            Progress::Validation { step, metrics, .. } => self.validations.push((*step, *metrics)),
        }
    }

    fn shown(&self) -> shown::LossCurves {
        let every = self.steps.len().div_ceil(CURVE_POINTS_MAX).max(1);
        // Means over neighbouring steps: a single batch says little.
        let thinned = |value: fn(&StepMetrics) -> f32| -> Vec<shown::Point> {
            let point = |chunk: &[(usize, StepMetrics)]| shown::Point {
                step: chunk.last().map_or(0, |(step, _)| *step as u64),
                value: f64::from(chunk.iter().map(|(_, s)| value(s)).sum::<f32>() / chunk.len() as f32),
            };
            self.steps.chunks(every).map(point).filter(|p| p.value.is_finite()).collect()
        };
        let validations =
            self.validations.iter().map(|(step, s)| shown::Point { step: *step as u64, value: f64::from(s.loss) });
        shown::LossCurves {
            train: thinned(|s| s.loss),
            held_out: validations.filter(|p| p.value.is_finite()).collect(),
            unit: "nats".into(),
            positive: thinned(|s| s.similarity_paired),
            negative: thinned(|s| s.similarity_others),
            best_step: self.best_step,
        }
    }
}

fn finite(value: f32) -> Option<f64> {
    value.is_finite().then_some(f64::from(value))
}

/// The columns of a step; see `COLUMNS` of `train`.
pub fn step_row(metrics: &StepMetrics, learning_rate: f64) -> [Option<f64>; 7] {
    let values = [metrics.loss, metrics.similarity_paired, metrics.similarity_others].map(finite);
    [values[0], values[1], values[2], Some(learning_rate), None, None, None]
}

/// The row to be written: a look's columns beside an otherwise empty row.
pub fn row_of(progress: &Progress, step_row: [Option<f64>; 7]) -> (u64, [Option<f64>; 7]) {
    match progress {
        Progress::Step { step, .. } => (*step as u64, step_row),
        Progress::Validation { step, metrics, .. } => {
            let values = [metrics.loss, metrics.similarity_paired, metrics.similarity_others].map(finite);
            (*step as u64, [None, None, None, None, values[0], values[1], values[2]])
        }
    }
}

/// Two parts of one data set must name the same actions in the same order.
///
/// # Errors
/// When they do not.
pub fn same_labels(a: &Dataset, b: &Dataset) -> anyhow::Result<()> {
    anyhow::ensure!(
        a.labels == b.labels,
        "the animals' labels differ ([{}] and [{}]): give one order by `labels = [...]` in dataset.toml",
        a.labels.join(", "),
        b.labels.join(", ")
    );
    Ok(())
}

/// A representation as the report's plain values.
pub fn plain(representation: &Representation) -> Embeddings<'_> {
    let Representation { animals, labels, values, animal, label, .. } = representation;
    Embeddings { animals, labels, values: values.view(), animal, label }
}

/// Appends the samples of other animals to those of `all`.
pub fn append(all: &mut Representation, other: Representation) {
    let (animals, trials) = (all.animals.len(), all.trial.iter().max().map_or(0, |t| t + 1));
    all.animals.extend(other.animals);
    all.animal.extend(other.animal.iter().map(|animal| animal + animals));
    all.trial.extend(other.trial.iter().map(|trial| trial + trials));
    all.label.extend(other.label);
    if let Ok(target) = concatenate(Axis(0), &[all.target.view(), other.target.view()]) {
        all.target = target;
    }
    if let Ok(values) = concatenate(Axis(0), &[all.values.view(), other.values.view()]) {
        all.values = values;
    }
}

/// `8 animals, 16 trials, 61440 frames of 1×64×64 at 16 Hz`.
pub fn data_in_words(data: &Dataset) -> String {
    let frames: usize = data.trials.iter().map(|t| t.frames.len()).sum();
    format!(
        "{} animals, {} trials, {frames} frames of {} at {} Hz",
        data.animals.len(),
        data.trials.len(),
        data.input,
        data.frame_rate_hz
    )
}

/// The table of one run, in three measures.
pub fn table(method: &str, seed: u64, evaluation: &Evaluation) -> String {
    let runs = [Run { method: method.into(), seed, scores: evaluation.scores.clone() }];
    let outputs = [OutputRun { method: method.into(), scores: evaluation.outputs.clone() }];
    with_outputs(tables(&summarise(&runs), Table::to_text), &outputs, Table::to_text)
}

/// The tables of actions, and that of the continuous outputs behind them.
pub fn with_outputs(tables: String, outputs: &[OutputRun], write: fn(&Table) -> String) -> String {
    match output_table(outputs) {
        Some(table) if tables.is_empty() => write(&table),
        Some(table) => format!("{tables}\n{}", write(&table)),
        None => tables,
    }
}

/// Balanced accuracy, accuracy and macro-F1, one table each.
pub fn tables(summaries: &[Summary], write: fn(&Table) -> String) -> String {
    let metrics = [Metric::BalancedAccuracy, Metric::Accuracy, Metric::MacroF1];
    let shares = label_shares(summaries);
    let table = |(metric, share)| write(&Table::new(summaries, metric, share));
    metrics
        .iter()
        .flat_map(|&metric| shares.iter().map(move |&share| (metric, share)))
        .map(table)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The scores as a report shows them.
pub fn score_rows(summaries: &[Summary]) -> Vec<shown::ScoreRow> {
    let spread = |s: scores::summary::Spread, count| shown::Spread {
        mean: s.mean,
        sd: s.sd_animals.or(s.sd_seeds).unwrap_or(0.0),
        count,
    };
    let row = |s: &Summary| {
        let count = s.animals * s.seeds;
        shown::ScoreRow {
            method: s.method.clone(),
            protocol: s.question.name().into(),
            labels_percent: 100.0 * s.label_share,
            accuracy: spread(s.accuracy, count),
            balanced_accuracy: spread(s.balanced_accuracy, count),
            macro_f1: spread(s.macro_f1, count),
            chance: s.balanced_accuracy.chance.unwrap_or(f64::NAN),
            lower_is_better: !s.question.higher_is_better(),
        }
    };
    summaries.iter().map(row).collect()
}

/// The data as a report shows them.
pub fn data_summary(data: &Dataset, split: String) -> shown::DataSummary {
    let animal = |(index, name): (usize, &String)| {
        let own = || data.trials.iter().filter(move |t| t.animal == index);
        let usable = |t: &&crate::dataset::trials::Trial| t.usable.iter().filter(|u| **u).count() as u64;
        let mut per_label = vec![0; data.labels.len()];
        for trial in own() {
            let labels = trial.label.iter().zip(&trial.usable).filter(|(_, usable)| **usable);
            labels.filter_map(|(label, _)| *label).for_each(|label| per_label[usize::from(label)] += 1);
        }
        shown::AnimalSummary {
            name: name.clone(),
            trials: own().count(),
            frames: own().map(|t| t.frames.len() as u64).sum(),
            usable: own().map(|t| usable(&t)).sum(),
            per_label,
        }
    };
    shown::DataSummary {
        name: data_in_words(data),
        labels: data.labels.clone(),
        animals: data.animals.iter().enumerate().map(animal).collect(),
        frame_rate_hz: data.frame_rate_hz,
        behaviour_rate_hz: data.behaviour_rate_hz,
        input: data.input.to_string(),
        preprocessing: match &data.origin {
            Origin::Preprocessed(_) => "raw frames, preprocessed by the daemon's own causal code; \
                its parameters are in the model's manifest"
                .into(),
            Origin::ReadyMade { note } => format!("precomputed ΔF/F, not by the daemon: {note}"),
        },
        split,
        licence: String::new(),
        sha256: data.sha256.clone(),
        trials: super::trials::summaries(&data.facts),
        columns: super::trials::columns(&data.facts),
    }
}

/// How far the windows of a run look into the future.
pub fn look_ahead(settings: &TrainSettings, frame_rate_hz: f64) -> shown::LookAhead {
    let frames = settings.look_ahead_frames;
    shown::LookAhead { window_frames: settings.network.window_frames, frames, seconds: frames as f64 / frame_rate_hz }
}

/// The method as a report shows it.
pub fn method(settings: &TrainSettings) -> shown::Method {
    let values = [
        ("steps", settings.steps.to_string()),
        ("windows per step", (settings.batch.segments * settings.batch.windows).to_string()),
        ("window", format!("{} frames", settings.network.window_frames)),
        ("embedding", settings.network.embedding.to_string()),
        ("temperature τ", settings.temperature.to_string()),
        ("maximum learning rate", settings.optimiser.learning_rate.to_string()),
        ("seed", settings.seed.to_string()),
    ];
    shown::Method {
        name: settings.method.name().into(),
        description: settings.method.in_words().into(),
        settings: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// The confusions of one question, all labels, all its animals added.
pub fn confusion(
    evaluation: &[&Evaluation],
    question: Question,
    labels: &[String],
    note: &str,
) -> Option<shown::Confusion> {
    let mut sum = scores::Confusion::new(labels.len());
    let all = evaluation.iter().flat_map(|e| &e.scores).filter(|s| s.question == question && s.label_share == 1.0);
    let mut any = false;
    all.for_each(|score| {
        any = true;
        sum.add(&score.confusion);
    });
    any.then(|| shown::Confusion { labels: labels.to_vec(), counts: sum.counts.clone(), note: note.into() })
}

/// Balanced accuracy of each animal of a question, all labels; values of several evaluations beside each other.
pub fn per_animal(evaluations: &[&Evaluation], question: Question) -> Option<shown::PerAnimal> {
    let mut animals: Vec<shown::Values> = Vec::new();
    let mut chances = Vec::new();
    let all = evaluations.iter().flat_map(|e| &e.scores).filter(|s| s.question == question && s.label_share == 1.0);
    for score in all {
        let name = score.animal.clone().unwrap_or_default();
        chances.extend(score.chance.map(|c| c.balanced_accuracy));
        match animals.iter_mut().find(|a| a.name == name) {
            Some(animal) => animal.values.push(score.balanced_accuracy),
            None => animals.push(shown::Values { name, values: vec![score.balanced_accuracy] }),
        }
    }
    let chance = (!chances.is_empty()).then(|| chances.iter().sum::<f64>() / chances.len() as f64);
    let measure = format!("balanced accuracy, {question}");
    (!animals.is_empty()).then_some(shown::PerAnimal { measure, animals, chance })
}

/// The calibration as a report shows it.
fn calibration(head: &Head) -> Option<shown::Calibration> {
    let found = head.calibration.as_ref()?;
    let reliability = |r: &scores::Reliability| shown::Reliability {
        expected_error: r.ece,
        bins: r
            .bins
            .iter()
            .map(|b| shown::ReliabilityBin {
                low: b.above,
                high: b.up_to,
                confidence: b.confidence,
                accuracy: b.accuracy,
                count: b.samples,
            })
            .collect(),
    };
    Some(shown::Calibration {
        temperature: found.temperature,
        before: reliability(&found.before),
        after: reliability(&found.after),
        note: format!("{} samples of {}", head.measured_samples, head.measured_on),
    })
}

/// Everything that a run's report and card are about.
pub struct RunShown<'a> {
    /// Of the run and the model.
    pub name: &'a str,
    /// As it was trained.
    pub settings: &'a TrainSettings,
    /// What it was trained on.
    pub training: &'a Dataset,
    /// Animals that judged.
    pub held_out: Option<&'a Dataset>,
    /// Their names, or those of training.
    pub judged_on: &'a [String],
    /// Probe, temperature, novelty.
    pub head: &'a Head,
    /// Scores.
    pub evaluation: &'a Evaluation,
    /// How the loss fell.
    pub curves: &'a Curves,
    /// Of the animals trained on.
    pub representation: &'a Representation,
    /// Of the run.
    pub provenance: &'a Provenance,
    /// The manifest.
    pub model: &'a Path,
}

/// The report and the model card of a run.
///
/// # Errors
/// When the model's file cannot be hashed.
pub fn of_run(run: &RunShown<'_>) -> anyhow::Result<(shown::ReportData, String)> {
    let (settings, data) = (run.settings, run.training);
    let runs =
        [Run { method: settings.method.name().into(), seed: settings.seed, scores: run.evaluation.scores.clone() }];
    let rows = score_rows(&summarise(&runs));
    let split = match run.held_out {
        Some(held_out) => {
            format!("trained on {}; held out: {}", data.animals.join(", "), held_out.animals.join(", "))
        }
        None => format!("trained on {}; no animal was held out", data.animals.join(", ")),
    };
    let question = if run.held_out.is_some() { Question::Unseen } else { Question::AcrossAnimal };
    let onnx = run.model.with_extension("onnx");
    let sha256 = sha256_of(&onnx)?;
    let summary = data_summary(data, split);
    let ahead = look_ahead(settings, data.frame_rate_hz);
    let note = format!("{question}, {}", run.judged_on.join(", "));
    let p = run.provenance;
    let report = shown::ReportData {
        title: format!("{}: {}", run.name, settings.method.name()),
        summary: in_words(&rows),
        scores: rows.clone(),
        method: Some(method(settings)),
        data: Some(summary.clone()),
        look_ahead: Some(ahead),
        loss: Some(run.curves.shown()),
        embedding: Some(EmbeddingView::of(&plain(run.representation), POINTS_MAX)),
        confusion: confusion(&[run.evaluation], question, &data.labels, &note),
        per_animal: per_animal(&[run.evaluation], Question::AcrossAnimal),
        calibration: calibration(run.head),
        warnings: run.evaluation.warnings.clone(),
        reproduce: Some(reproduce(p, vec![("model".into(), sha256.clone()), ("data".into(), p.data_sha256.clone())])),
        ..shown::ReportData::default()
    };
    let card = card(run, rows, summary, ahead, sha256);
    Ok((report, card.to_markdown()))
}

/// Where a result comes from.
pub fn reproduce(p: &Provenance, hashes: Vec<(String, String)>) -> shown::Reproduce {
    shown::Reproduce {
        command: command(p),
        seed: p.seed,
        program_version: p.program_version.clone(),
        git_revision: p.git_revision.clone(),
        host: format!("{}, {} cores", p.host, p.host_cores),
        hashes,
    }
}

/// The command without the path of the program.
fn command(p: &Provenance) -> String {
    std::iter::once("haltere").chain(p.command_line.iter().skip(1).map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn card(
    run: &RunShown<'_>,
    scores: Vec<shown::ScoreRow>,
    data: shown::DataSummary,
    look_ahead: shown::LookAhead,
    sha256: String,
) -> ModelCard {
    let method = run.settings.method;
    ModelCard {
        name: run.name.into(),
        description: format!(
            "A streaming encoder of two-photon frames into action embeddings, trained by the method `{}`: {}.",
            method.name(),
            method.in_words()
        ),
        intended_use: vec![
            "decoding with `haltere run`, from recordings like those it was trained on: same indicator, region and \
             frame rate"
                .into(),
            "a starting point for `haltere calibrate` with a new animal".into(),
        ],
        not_for: vec![
            "other tissue, indicators, magnifications or frame rates".into(),
            "decisions that tolerate no errors: see the scores, their spread and chance level below".into(),
        ],
        calibration: calibration(run.head),
        limits: vec![
            "Novelty and probabilities are calibrated on few animals; monitor the novelty of a new one.".into(),
            "Calcium lags behaviour: an action is decoded a few tenths of a second after it begins.".into(),
        ],
        data,
        look_ahead: Some(look_ahead),
        scores,
        command: command(run.provenance),
        seed: run.settings.seed,
        made_by: format!("haltere {} ({})", run.provenance.program_version, run.provenance.git_revision),
        licence: "that of the training data".into(),
        sha256,
    }
}

/// The result in a few sentences, the next animal first.
pub fn in_words(rows: &[shown::ScoreRow]) -> String {
    use Question::{AcrossAnimal, Identity, SingleAnimal, Unseen};
    let said = [
        (Unseen, "On animals that training did not see, balanced accuracy is"),
        (AcrossAnimal, "Across the animals of the training, balanced accuracy is"),
        (SingleAnimal, "Within one animal, balanced accuracy is"),
        (Identity, "Which animal it is, is told with an accuracy of"),
    ];
    let sentence = |(question, begin): (Question, &str)| {
        let row = rows.iter().find(|row| row.protocol == question.name() && row.labels_percent == 100.0)?;
        let score = row.balanced_accuracy;
        let spread = if score.count > 1 { format!(" ± {:.1}", 100.0 * score.sd) } else { String::new() };
        Some(format!("{begin} {:.1}{spread} % (chance {:.1}).", 100.0 * score.mean, 100.0 * row.chance))
    };
    said.into_iter().filter_map(sentence).collect::<Vec<_>>().join(" ")
}
