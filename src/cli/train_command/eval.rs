//! `haltere eval`: what a finished model is worth, by the daemon's own preprocessing and encoder.
//!
//! Why it exists: the numbers of a model must be those of what runs on the rig. What it must never do: use the network in
//! another form than the file that the daemon loads.

use std::path::Path;

use super::{Loader, bar, show, shown, usage};
use crate::cli::train::EvalArgs;
use crate::dataset::trials::{Dataset, Representation};
use crate::encode::Encoder;
use crate::evaluate::table::to_csv;
use crate::evaluate::{Options, Question, Run, Table, evaluate, summarise};
use crate::frame::Tensor;
use crate::model::Model;
use crate::report::data::{LookAhead, ReportData};
use crate::report::html;
use crate::report::pca::EmbeddingView;
use crate::report::provenance::Provenance;
use crate::train::represent::of_samples;

/// Points of the embedding's picture.
const POINTS_MAX: usize = 3000;

/// Scores a model and prints the table.
///
/// # Errors
/// What was wrong with the model, the data or the files.
pub fn eval(args: &EvalArgs) -> anyhow::Result<()> {
    let model = Model::load(&args.model)?;
    let manifest = &model.manifest;
    let mut loader = Loader::one(&args.data, args.progress)?;
    loader.parameters = Some(manifest.preprocess.clone());
    loader.input = Some(manifest.input);
    let animals = loader.animals();
    if let Some(unknown) = args.unseen.iter().find(|name| !animals.contains(name)) {
        return Err(usage(format!("--unseen {unknown}: no such animal; there are {}", animals.join(", "))));
    }
    let data = loader.load(&animals, manifest.window_frames, true)?;
    let off = (data.frame_rate_hz / manifest.frame_rate_hz - 1.0).abs();
    anyhow::ensure!(
        off <= 0.1,
        "the recordings have {} frames/s, the model was made for {}: its decodes would mean nothing",
        data.frame_rate_hz,
        manifest.frame_rate_hz
    );
    let representation = embedded(&model, &data, shown(args.progress))?;
    let unseen: Vec<usize> = (0..data.animals.len()).filter(|&a| args.unseen.contains(&data.animals[a])).collect();
    let options = Options { seed: args.seed, ..Options::default() };
    let evaluation = evaluate(&representation, &unseen, &options)?;
    println!("{}", show::table(&manifest.name, args.seed, &evaluation));
    evaluation.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let Some(out) = &args.out else { return Ok(()) };
    let runs = [Run { method: manifest.name.clone(), seed: args.seed, scores: evaluation.scores.clone() }];
    let summaries = summarise(&runs);
    let rows = show::score_rows(&summaries);
    let ahead = manifest.look_ahead_frames;
    let setting = if unseen.is_empty() { Question::AcrossAnimal } else { Question::Unseen };
    let provenance = Provenance::now(&data.sha256, args.seed);
    let hashes = vec![("model".into(), manifest.sha256.clone()), ("data".into(), data.sha256.clone())];
    let report = ReportData {
        title: format!("{} on {}", manifest.name, show::data_in_words(&data)),
        summary: show::in_words(&rows),
        scores: rows,
        data: Some(show::data_summary(&data, format!("never seen by the encoder: {}", or_none(&args.unseen)))),
        look_ahead: Some(LookAhead {
            window_frames: manifest.window_frames,
            frames: ahead,
            seconds: ahead as f64 / manifest.frame_rate_hz,
        }),
        embedding: Some(EmbeddingView::of(&show::plain(&representation), POINTS_MAX)),
        confusion: show::confusion(&[&evaluation], setting, &data.labels, setting.name()),
        per_animal: show::per_animal(&[&evaluation], setting),
        warnings: evaluation.warnings.clone(),
        reproduce: Some(show::reproduce(&provenance, hashes)),
        ..ReportData::default()
    };
    let text = serde_json::to_string_pretty(&evaluation)?;
    let csv = to_csv(&summaries);
    let files = [
        ("evaluation.json", text),
        ("table.txt", show::tables(&summaries, Table::to_text)),
        ("table.md", show::tables(&summaries, Table::to_markdown)),
        ("table.csv", csv),
        ("report.json", report.to_json()?),
        ("report.html", html::render(&report)),
    ];
    write_all(out, &files)
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Writes the files of a result into a folder.
pub(super) fn write_all(folder: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in files {
        crate::model::write_whole(&folder.join(name), text.as_bytes())?;
    }
    println!("report  {}", folder.join("report.html").display());
    Ok(())
}

/// Every trial through the daemon's encoder, frame by frame; the moments that `run` would call ok.
fn embedded(model: &Model, data: &Dataset, progress: bool) -> anyhow::Result<Representation> {
    let manifest = &model.manifest;
    let mut encoder = Encoder::open(model, None, 1)?;
    let mut embedding = encoder.new_embedding();
    let moments = data.samples(manifest.window_frames, manifest.look_ahead_frames);
    let mut wanted = moments.iter().peekable();
    let mut values = Vec::with_capacity(moments.len() * manifest.embedding);
    let bar = bar(progress, "{prefix:>12} {bar:40} {pos}/{len} frames, {eta} left");
    bar.set_prefix("encode");
    bar.set_length(data.trials.iter().map(|t| t.frames.len() as u64).sum());
    for (index, trial) in data.trials.iter().enumerate() {
        encoder.reset();
        for frame in 0..trial.frames.len() {
            encoder.encode(&Tensor::Host(trial.frames.frame(frame)), &mut embedding)?;
            // A window that ends here is about a moment that lies `look_ahead_frames` back.
            let due = wanted.next_if(|m| m.trial == index && m.frame + manifest.look_ahead_frames == frame);
            if due.is_some() {
                values.extend_from_slice(&embedding.values);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(of_samples(data, &moments, values))
}
