//! `haltere calibrate`: a trained model for a new animal.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::config::ConfigArgs;
use crate::cli::log;
use crate::cli::progress::Progress;
use crate::cli::recording::RecordingArgs;
use crate::config::{Compute, Config, Device};
use crate::corridor::offline;
use crate::decoder::Decoder;
use crate::model::Model;
use crate::preprocess::Chosen;
use crate::source::{Source, SourceError};
use crate::train::calibrate::{CalibrateArguments, CalibrateReport, Embeddings, calibrate};

/// `haltere calibrate`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere calibrate models/fly.toml fly8.tif --out models/fly8     from a few minutes of the new animal
  haltere calibrate models/fly.toml fly8.tif --labels fly8.csv --out models/fly8
                                                                   with labels for part of it
  haltere calibrate models/fly.toml sim:seed=1,animal=9,seconds=180 --out models/sim9
  haltere run --model models/fly8.toml

For an animal that the model was not trained on: record it, calibrate, run. The original model stays \
unchanged; calibrate writes a new model for this animal only. It discards a change that does not help, and \
reports it.

Without labels, calibrate aligns the embedding: it runs the recording through the daemon's preprocessing and \
encoder and finds one shift of the raw embedding that brings this animal closer to the training animals. It \
keeps the shift only if held-out samples come closer too and the median embedding turns by at most 45 \
degrees.

With labels, it also refits the classifier, regularised towards the original, and keeps it only if it is \
better on held-out bouts. Start with two minutes that contain several bouts of each action; actions without \
a bout keep what the model knew.

Labels are CSV with the columns frame,label (frame numbers of the recording, from 0) or \
start_s,stop_s,label.")]
pub struct CalibrateArgs {
    /// Trained model: its manifest, or the .onnx beside it.
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    pub base: PathBuf,
    /// Recording of the new animal.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// New model: writes OUT.onnx and OUT.toml.
    #[arg(long, short, value_name = "OUT")]
    pub out: PathBuf,
    /// Actions of the animal in some frames, by the model's names (`haltere model inspect MODEL` lists them).
    #[arg(long, value_name = "LABELS.csv")]
    pub labels: Option<PathBuf>,
    /// With --labels: do not align the embedding.
    #[arg(long, requires = "labels")]
    pub no_align: bool,
    /// Overwrite an existing model.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Show a progress bar; `auto` shows it on a terminal.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// Calibrates the model and says what came of it.
///
/// # Errors
/// What is wrong with model, recording or labels; nothing is written then.
pub fn run(mut args: CalibrateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    args.config.model = Some(args.base);
    let (config, warnings) = args.config.load()?;
    log::start(&config.log)?;
    log::warn(&warnings);
    let rate_hz = Model::load(&config.model)?.manifest.frame_rate_hz;
    let named: Vec<String> = args.recording.recording.iter().map(|path| path.display().to_string()).collect();
    let arguments = CalibrateArguments {
        out: args.out,
        recording: named.join(", "),
        labels: args.labels,
        align: !args.no_align,
        force: args.force,
    };
    let mut open = || args.recording.open_limited(config.rig, Some(rate_hz));
    let report = calibrate_on(&config, &arguments, &mut open, args.progress.is_shown())?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

/// Opens the recording, from its first frame, each time it is called.
pub type Open<'a> = dyn FnMut() -> Result<Box<dyn Source>, SourceError> + 'a;

/// Calibrates the configuration's model on a recording, which goes through the daemon's own corridor.
///
/// # Errors
/// What is wrong with model, recording or labels; nothing is written then.
pub fn calibrate_on(
    config: &Config,
    arguments: &CalibrateArguments,
    open: &mut Open<'_>,
    shown: bool,
) -> anyhow::Result<CalibrateReport> {
    let model = Model::load(&config.model)?;
    model.refuse_ready_made(config.accept_ready_made_input)?;
    // Proven to 1e-5 against arithmetic on the CPU's embeddings.
    let compute = Compute { device: Device::Cpu, ..config.compute.clone() };
    let mut embed = |model: &Model| {
        let decoder = Decoder::open_on(model, &compute, &Chosen::cpu(""))?;
        Embeddings::of(offline::embeddings(config, decoder, open()?, shown)?, model)
    };
    calibrate(&model, arguments, &mut embed)
}
