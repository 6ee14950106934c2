//! `haltere diff` and `haltere export`: what can be typed.
//!
//! Why it exists: the options of what is done with a recorded session. What it must never do: act on them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ConfigArgs;

/// `haltere diff`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere diff session.mcap                              against its own replay: must be bit-identical
  haltere diff session.mcap --model models/new.toml      against another model on the same frames
  haltere diff monday.mcap tuesday.mcap

Exit code 0: every frame is in both, with the same bits and the same action. 10: something differs.")]
pub struct DiffArgs {
    /// A recorded session.
    #[arg(value_name = "A.mcap")]
    pub a: PathBuf,
    /// Another; without it the frames of the first are decoded again.
    #[arg(value_name = "B.mcap", conflicts_with_all = ["config", "model", "set"])]
    pub b: Option<PathBuf>,
    /// Configuration of the replay; without it the session's own.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `haltere export`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere export session.mcap --to csv --out decodes.csv     times, latencies, quality, action, shift, embedding
  haltere export session.mcap --to parquet --out decodes.parquet   the same columns with their types, for pandas, R, DuckDB
  haltere export session.mcap --to npy --out embedding.npy   [decodes, dimensions], float32
  haltere export session.mcap --to nwb --out session.nwb --metadata fly.toml

NWB: a TwoPhotonSeries for each channel, (time, x, y), and under processing/behavior embedding, probabilities, quality, latency; the
decoded bouts as intervals; marks and events as tables. All times are receipts on this machine's clock, in seconds after the file's
session_start_time; frames that did not arrive have no row. What a session cannot know (subject, lab, indicator, wavelengths) comes
from --metadata, explained in config/nwb-example.toml; what nobody said is left out, or \"unknown\" or NaN where NWB wants a value.
A file that is there is replaced when the new one is whole.")]
pub struct ExportArgs {
    /// A recorded session.
    #[arg(value_name = "SESSION.mcap")]
    pub session: PathBuf,
    /// What to make of it.
    #[arg(long, value_enum, value_name = "FORM")]
    pub to: ExportForm,
    /// Where it goes.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
    /// With --to nwb: what the session does not know of animal, lab and microscope; config/nwb-example.toml shows every key.
    #[arg(long, value_name = "FILE.toml")]
    pub metadata: Option<PathBuf>,
}

/// What a session becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// One row for each decode.
    Csv,
    /// The same rows with types and the model's hash: Parquet.
    Parquet,
    /// The embeddings alone, numpy's.
    Npy,
    /// Everything with its frames: Neurodata Without Borders 2, HDF5.
    Nwb,
}
