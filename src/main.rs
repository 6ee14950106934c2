//! The binary: parse, match the subcommand, turn a cause chain into an exit code.

use clap::{CommandFactory, Parser};
use haltere::check;
use haltere::cli::{Cli, Command};
use haltere::exit::ExitCode;

fn main() -> std::process::ExitCode {
    let code = run(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::of(&error)
    });
    code.into()
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => check::command(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "haltere", &mut std::io::stdout());
            Ok(ExitCode::Ok)
        }
        other => anyhow::bail!("{other:?} is done elsewhere"),
    }
}
