//! `haltere embed`: a recording through the daemon's corridor, into a file.

use std::path::PathBuf;

use clap::Args;

use super::config::ConfigArgs;
use super::log;
use super::progress::Progress;
use super::recording::RecordingArgs;
use crate::corridor::offline;
use crate::decoder::Decoder;
use crate::session::is_session;
use crate::session::unpacked::{self, Unpacked};
use crate::sys::exit::ExitCode;

/// `haltere embed`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere embed fly.tif --model models/fly.toml --out fly.npy
  haltere embed session.mcap --out again.npy         a session, with its own model and configuration
  haltere embed thorimage_folder/ --model models/fly.toml --out fly.npy --csv fly.csv

The result is a float32 array of shape [frames, dimensions], bit-identical to what `run` publishes for the \
same frames on the same device. The CSV holds frame, quality, shift, peak, action, confidence and novelty of \
each row.")]
pub struct EmbedArgs {
    /// Recording.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// File for the embeddings, in NumPy format.
    #[arg(long, short, value_name = "FILE.npy")]
    pub out: PathBuf,
    /// File for everything but the embedding, one row per embedding.
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Show a progress bar; `auto` shows it on a terminal.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// Decodes the recording and writes the embeddings.
///
/// # Errors
/// The recording, the model, the stage that failed, or a file that cannot be written.
pub fn run(args: &EmbedArgs) -> anyhow::Result<ExitCode> {
    let session = match args.recording.recording.as_slice() {
        [one] if is_session(one) && args.recording.raw.is_none() => Some(one),
        _ => None,
    };
    if let Some(session) = session.filter(|_| args.config.model.is_none()) {
        unpacked::must_be_by_one_model(session)?;
    }
    // Lives until the model has been read.
    let unpacked = session.map(|session| Unpacked::of(session)).transpose()?;
    let (config, warnings) = match &unpacked {
        Some(unpacked) => args.config.load_over(unpacked)?,
        None => args.config.load()?,
    };
    log::start(&config.log)?;
    log::warn(&warnings);
    session.map_or(Ok(()), |session| unpacked::warn_of(session))?;
    let decoder = Decoder::open(&config)?;
    let recording = args.recording.open_limited(config.rig, Some(decoder.model().manifest.frame_rate_hz))?;
    let shown = args.progress.is_shown();
    let report = offline::embed(&config, decoder, recording, &args.out, args.csv.as_deref(), shown)?;
    tracing::info!("{report}");
    Ok(ExitCode::Ok)
}
