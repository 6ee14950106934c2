//! `haltere export`: a recorded session as NWB, its decodes as a table or as an array.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::log;
use crate::session::export::{Form, export};
use crate::sys::exit::ExitCode;

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

impl From<ExportForm> for Form {
    fn from(form: ExportForm) -> Self {
        match form {
            ExportForm::Csv => Self::Csv,
            ExportForm::Parquet => Self::Parquet,
            ExportForm::Npy => Self::Npy,
            ExportForm::Nwb => Self::Nwb,
        }
    }
}

/// Writes what was asked for and says what is in it.
///
/// # Errors
/// A file that is no session or holds no decode, or one that cannot be written.
pub fn run(args: &ExportArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    log::start_default()?;
    let said = export(&args.session, args.to.into(), &args.out, args.metadata.as_deref())?;
    writeln!(out, "{said}  {}", args.out.display())?;
    Ok(ExitCode::Ok)
}
