//! `haltere man`: manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::Cli;
use crate::sys::exit::ExitCode;
use crate::sys::files::FileError;

/// `haltere man`.
#[derive(Debug, Args)]
#[command(after_help = "Example: haltere man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Folder for the pages, one for each subcommand; it must exist. Pages that are there already are replaced.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// A folder that cannot be written to.
pub fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(|cause| FileError::write(&args.folder, cause))?;
    Ok(ExitCode::Ok)
}
