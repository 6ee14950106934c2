//! `haltere eval`: what a finished model is worth, by the daemon's own preprocessing and encoder.
//!
//! Why it exists: the numbers of a model must be those of what runs on the rig. What it must never do: use the network
//! in another form than the file that the daemon loads.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::{Compute, Config, Device};
use clap::Args;
use ndarray::Array2;

use super::data::{DataArgs, Loader};
use super::{embeddings, prepare_folder, show, usage};
use crate::cli::progress::Progress;
use crate::dataset::trials::{Dataset, Representation, Sample};
use crate::decoder::Decoder;
use crate::evaluate::rivals::Rival;
use crate::evaluate::table::to_csv;
use crate::evaluate::{
    Evaluation, Options, OutputRun, OutputScore, Question, Run, Summary, Table, evaluate, evaluate_outputs,
    evaluate_published, outputs_to_csv, summarise,
};
use crate::frame::{Request, Tensor};
use crate::model::{Manifest, Model};
use crate::preprocess::Chosen;
use crate::report::data::{LookAhead, ReportData};
use crate::report::html;
use crate::report::pca::EmbeddingView;
use crate::report::provenance::Provenance;
use crate::sys::progress::progress_bar;
use crate::train::settings::Method;

/// `haltere eval`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  haltere eval models/fly.toml --mc2p flies/ --unseen fly_08 --out evaluation

The recordings run through the daemon's own preprocessing and encoder. Linear probes on the embedding answer \
four questions: how well actions are decoded within an animal, across animals and in animals the encoder has \
never seen, and whether the embedding reveals which animal it is (lower is better).")]
pub struct EvalArgs {
    /// Manifest of the model, or the .onnx beside it.
    pub model: PathBuf,
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Animals that the encoder was not trained on.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub unseen: Vec<String>,
    /// Rivals without a network to score on the same frames: linear, lda.
    #[arg(long, value_enum, value_name = "METHOD,…", value_delimiter = ',')]
    pub rivals: Vec<Method>,
    /// Seed for the random splits of the probes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Folder for the table (text, Markdown, CSV), evaluation.json and the report.
    #[arg(long, short, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Also write every embedding into the folder, for other programs: embeddings.npy, and row by row behaviour.npy and samples.csv (animal, trial,
    /// frame, time, action).
    #[arg(long, requires = "out")]
    pub embeddings: bool,
    /// Show a progress bar; `auto` shows it on a terminal.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// Points of the embedding's picture.
const POINTS_MAX: usize = 3000;

/// Scores a model and prints the table.
///
/// # Errors
/// What was wrong with the model, the data or the files.
pub fn run(args: &EvalArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let rivals = rivals(args)?;
    let model = Model::load(&args.model)?;
    let manifest = &model.manifest;
    let data = load(args, manifest)?;
    if let Some(folder) = &args.out {
        prepare_folder(folder)?;
    }
    let samples = data.samples(manifest.window_frames, manifest.look_ahead_frames);
    let (representation, read) = embedded(&model, &data, &samples, args.progress.is_shown())?;
    let unseen: Vec<usize> = (0..data.animals.len()).filter(|&a| args.unseen.contains(&data.animals[a])).collect();
    if let Some(folder) = args.out.as_deref().filter(|_| args.embeddings) {
        embeddings::write(folder, &data, &samples, &representation, &unseen)?;
    }
    let options = Options { seed: args.seed, ..Options::default() };
    let evaluation = Evaluation {
        outputs: output_scores(manifest, &representation, &unseen, &read, &options),
        ..evaluate(&representation, &unseen, &options)?
    };
    evaluation.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let mut runs = vec![Run { method: manifest.name.clone(), seed: args.seed, scores: evaluation.scores.clone() }];
    for (method, rival) in rivals {
        let pixels = rival.represent(&data, &samples, manifest.window_frames, manifest.look_ahead_frames);
        let options = Options { readout: rival.readout(), ..options.clone() };
        let scores = evaluate(&pixels, &unseen, &options)?.scores;
        runs.push(Run { method: method.name().to_owned(), seed: args.seed, scores });
    }
    let summaries = summarise(&runs);
    let outputs = [OutputRun { method: manifest.name.clone(), scores: evaluation.outputs.clone() }];
    let table = show::with_outputs(show::tables(&summaries, Table::to_text), &outputs, Table::to_text);
    let Some(folder) = &args.out else { return Ok(writeln!(out, "{table}")?) };
    let report = report(args, manifest, &data, &evaluation, &summaries);
    let report = ReportData { embedding: Some(EmbeddingView::of(&show::plain(&representation), POINTS_MAX)), ..report };
    let text = serde_json::to_string_pretty(&evaluation)?;
    let csv = to_csv(&summaries);
    let files = [
        ("evaluation.json", text),
        ("table.txt", table.clone()),
        ("table.md", show::with_outputs(show::tables(&summaries, Table::to_markdown), &outputs, Table::to_markdown)),
        ("table.csv", csv),
        ("outputs.csv", outputs_to_csv(&outputs)),
        ("report.json", report.to_json()?),
        ("report.html", html::render(&report)),
    ];
    write_all(folder, &files, &table, out)
}

/// The rivals that were asked for.
fn rivals(args: &EvalArgs) -> anyhow::Result<Vec<(Method, Rival)>> {
    let rival = |&method: &Method| {
        let name = method.name();
        let none =
            || usage(format!("--rivals {name}: this method trains a network; `haltere compare` compares with it"));
        if method == Method::LdaAtlas {
            return Err(usage(format!(
                "--rivals {name}: write lda; it reads the frames as the model does, on its atlas if it has one"
            )));
        }
        method.rival().map(|rival| (method, rival)).ok_or_else(none)
    };
    args.rivals.iter().map(rival).collect()
}

/// The recordings, preprocessed as the model wants them.
fn load(args: &EvalArgs, manifest: &Manifest) -> anyhow::Result<Dataset> {
    Loader::refuse_preprocessing(&args.data)?;
    let mut loader = Loader::one(&args.data, args.progress)?;
    loader.parameters = Some(manifest.preprocess.clone());
    loader.input = Some(manifest.input);
    let animals = loader.animals();
    if let Some(unknown) = args.unseen.iter().find(|name| !animals.contains(name)) {
        return Err(usage(format!("--unseen {unknown}: no such animal; the animals are {}", animals.join(", "))));
    }
    let data = loader.load(&animals, manifest.window_frames, true)?;
    let off = (data.frame_rate_hz / manifest.frame_rate_hz - 1.0).abs();
    anyhow::ensure!(
        off <= 0.1,
        "the recordings have {} frames/s but the model was made for {}: its decodes would be meaningless",
        data.frame_rate_hz,
        manifest.frame_rate_hz
    );
    Ok(data)
}

/// Everything on the page but the picture of the embedding.
fn report(
    args: &EvalArgs,
    manifest: &Manifest,
    data: &Dataset,
    evaluation: &Evaluation,
    summaries: &[Summary],
) -> ReportData {
    let rows = show::score_rows(summaries);
    let ahead = manifest.look_ahead_frames;
    let question = if args.unseen.is_empty() { Question::AcrossAnimal } else { Question::Unseen };
    let provenance = Provenance::now(&data.sha256, args.seed);
    let hashes = vec![("model".into(), manifest.sha256.clone()), ("data".into(), data.sha256.clone())];
    ReportData {
        title: format!("{} on {}", manifest.name, show::data_in_words(data)),
        summary: show::in_words(&rows),
        scores: rows,
        data: Some(show::data_summary(data, format!("not seen in training: {}", or_none(&args.unseen)))),
        look_ahead: Some(LookAhead {
            window_frames: manifest.window_frames,
            frames: ahead,
            seconds: ahead as f64 / manifest.frame_rate_hz,
        }),
        confusion: show::confusion(&[evaluation], question, &data.labels, question.name()),
        per_animal: show::per_animal(&[evaluation], question),
        warnings: evaluation.warnings.clone(),
        reproduce: Some(show::reproduce(&provenance, hashes)),
        ..ReportData::default()
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Writes the files of a result into a folder, then prints its table: whoever stops reading loses no file.
pub(super) fn write_all(
    folder: &Path,
    files: &[(&str, String)],
    table: &str,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for (name, text) in files {
        crate::sys::files::write_whole(&folder.join(name), text.as_bytes())?;
    }
    writeln!(out, "{table}")?;
    writeln!(out, "report  {}", folder.join("report.html").display())?;
    Ok(())
}

/// The scores of the continuous outputs. Unseen animals are judged by what the model itself says, if it has these outputs; everything else
/// by read-outs that are fitted here.
fn output_scores(
    manifest: &Manifest,
    representation: &Representation,
    unseen: &[usize],
    read: &Array2<f32>,
    options: &Options,
) -> Vec<OutputScore> {
    let mut scores = evaluate_outputs(representation, unseen, options);
    if !manifest.outputs.iter().map(|output| &output.name).eq(&representation.targets) {
        return scores;
    }
    for own in evaluate_published(representation, unseen, read) {
        let same =
            |s: &&mut OutputScore| (s.question, &s.output, &s.animal) == (own.question, &own.output, &own.animal);
        match scores.iter_mut().find(same) {
            // The chance is that of a read-out fitted in the same way.
            Some(score) => *score = OutputScore { chance: score.chance, ..own },
            None => scores.push(own),
        }
    }
    scores
}

/// Every trial through the daemon's decoder, frame by frame; the samples that `run` would call ok. Also what the model's continuous outputs
/// are of each, `[samples, outputs]`.
fn embedded(
    model: &Model,
    data: &Dataset,
    samples: &[Sample],
    progress: bool,
) -> anyhow::Result<(Representation, Array2<f32>)> {
    let manifest = &model.manifest;
    let compute = Compute { device: Device::Cpu, threads: 1, ..Config::default().compute };
    let mut decoder = Decoder::open_on(model, &compute, &Chosen::cpu(""))?;
    let mut decode = decoder.new_decode();
    let mut wanted = samples.iter().peekable();
    let (mut values, mut read) = (Vec::with_capacity(samples.len() * manifest.embedding), Vec::new());
    let bar = progress_bar(None, progress, "{prefix:>12} {bar:40} {pos}/{len} frames, {eta} left");
    bar.set_prefix("encode");
    bar.set_length(data.trials.iter().map(|t| t.frames.len() as u64).sum());
    for (index, trial) in data.trials.iter().enumerate() {
        decoder.request(Request::Reset);
        for frame in 0..trial.frames.len() {
            decoder.step_tensor(&Tensor::Host(trial.frames.frame(frame)), false, &mut decode)?;
            // A window that ends here is about a sample that lies `look_ahead_frames` back.
            let due = wanted.next_if(|m| m.trial == index && m.frame + manifest.look_ahead_frames == frame);
            if due.is_some() {
                values.extend_from_slice(&decode.embedding.values);
                read.extend_from_slice(&decode.embedding.outputs);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let read = Array2::from_shape_vec((samples.len(), manifest.outputs.len()), read)?;
    Ok((Representation::of(data, samples, values), read))
}
