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
  haltere export session.mcap --to csv --out decodes.csv      time, latency, quality, action, shift, embedding
  haltere export session.mcap --to parquet --out fly.parquet  the same columns, typed, for pandas, R or DuckDB
  haltere export session.mcap --to npy --out embedding.npy    [decodes, dimensions], float32
  haltere export session.mcap --to nwb --out session.nwb --metadata fly.toml

An NWB file holds a TwoPhotonSeries (time, x, y) for each channel; embedding, probabilities, quality and \
latency under processing/behavior; decoded bouts as intervals; marks and events as tables. Times are when \
this machine received a frame, in seconds after session_start_time; lost frames have no row. --metadata \
supplies what a session cannot know (subject, lab, indicator, wavelengths); config/nwb-example.toml explains \
every key. Missing values are left out, or are \"unknown\" or NaN where NWB requires one. An existing file \
is replaced only once the new one is complete.")]
pub struct ExportArgs {
    /// A recorded session.
    #[arg(value_name = "SESSION.mcap")]
    pub session: PathBuf,
    /// Output format.
    #[arg(long, value_enum, value_name = "FORM")]
    pub to: ExportForm,
    /// Output file.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
    /// With --to nwb: animal, lab and microscope; config/nwb-example.toml explains every key.
    #[arg(long, value_name = "FILE.toml")]
    pub metadata: Option<PathBuf>,
}

/// Output formats of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// One row per decode.
    Csv,
    /// The same rows, typed, with the model's hash.
    Parquet,
    /// The embeddings only, for NumPy.
    Npy,
    /// Everything including the frames: Neurodata Without Borders 2, HDF5.
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
