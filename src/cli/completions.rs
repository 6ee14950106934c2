//! `haltere completions`: what a shell needs to complete commands and options.

use std::io::Write;

use clap::{Args, CommandFactory};

use super::Cli;
use crate::sys::exit::ExitCode;

/// `haltere completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example: haltere completions bash > ~/.local/share/bash-completion/completions/haltere")]
pub struct CompletionsArgs {
    /// Your shell.
    pub shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// An output that cannot be written.
pub fn run(args: &CompletionsArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    // The generator panics when it cannot write; memory never refuses.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "haltere", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::Ok)
}
