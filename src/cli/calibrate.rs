//! `haltere calibrate`: what is typed.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigArgs, Progress, RecordingArgs};
use crate::config::Config;
use crate::corridor::gather::{Gathered, gather};
use crate::model::Model;
use crate::source::{Source, SourceError};
use crate::train::calibrate::{self, CalibrateArguments, CalibrateReport, Embeddings};

/// `haltere calibrate`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere calibrate models/fly.toml fly8.tif --out models/fly8                      from some minutes of the new animal
  haltere calibrate models/fly.toml fly8.tif --labels fly8.csv --out models/fly8    and what it did in some of them
  haltere calibrate models/fly.toml sim:seed=1,animal=9,seconds=180 --out models/sim9
  haltere run --model models/fly8.toml

For an animal under the microscope that no model was trained on: record it, calibrate, run. The model's weights stay as they are;
what is written is a model beside it, for this animal only. A change that does not help is not kept, and said so.

Without labels the embedding is aligned: the recording goes through the daemon's own preprocessing and encoder, and one shift
of the raw embedding is found that brings the animal's moments nearer to those of training. It is kept only if moments that
it was not found from come nearer and the median embedding turns by at most 45 degrees.

With labels the classifier is fitted anew as well, held to what it was, and kept only if it is better on bouts that were left
out. Two minutes with some bouts of each action are a good beginning; actions without a bout keep what the model knew.

Labels are CSV: frame,label by the recording's frame numbers (from 0), or start_s,stop_s,label.")]
pub struct CalibrateArgs {
    /// The trained model: its manifest, or the .onnx beside it.
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    pub base: PathBuf,
    /// The recording of the new animal.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The new model: OUT.onnx and OUT.toml.
    #[arg(long, short, value_name = "OUT")]
    pub out: PathBuf,
    /// What the animal did, for some frames; the names of actions are the model's (`haltere model inspect MODEL` lists them).
    #[arg(long, value_name = "LABELS.csv")]
    pub labels: Option<PathBuf>,
    /// Leave the embedding where it is; only with labels.
    #[arg(long, requires = "labels")]
    pub no_align: bool,
    /// Overwrite a model that is there.
    #[arg(long)]
    pub force: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show progress: by default on a terminal only.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// Opens the recording, from its first frame, each time it is called.
pub type Open<'a> = dyn FnMut() -> Result<Box<dyn Source>, SourceError> + 'a;

/// Calibrates the configuration's model through the daemon's own corridor. `shown`: with a progress bar.
///
/// # Errors
/// What is wrong with model, recording or labels; nothing is written then.
pub fn calibrate(
    config: &Config,
    arguments: &CalibrateArguments,
    shown: bool,
    open: &mut Open<'_>,
) -> anyhow::Result<CalibrateReport> {
    let model = Model::load(&config.model)?;
    model.refuse_ready_made(config.accept_ready_made_input)?;
    let mut embed = |model: &Model| {
        let Gathered { good, at, number, span, all, rate_hz } = gather(config, model, open()?, shown)?;
        Ok(Embeddings { good, at, number, span, all, rate_hz })
    };
    calibrate::calibrate(&model, arguments, &mut embed)
}
