//! `haltere control`: a request to a running daemon, and its answer.

use std::io::Write;

use anyhow::Context;
use clap::Args;

use super::config::ConfigArgs;
use super::curve::CurveArgs;
use crate::client::ask::ask_with;
use crate::sys::exit::ExitCode;

/// `haltere control`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere control status
  haltere control template reset
  haltere control normalisation freeze
  haltere control model models/fly8.toml      switch models without losing a frame
  haltere control animal fly3                 the next animal is fly3: take up what was learnt of it before
  haltere control mark \"light on\"             add a time-stamped note to the recording
  haltere control record stop
  haltere control help                        list all commands")]
pub struct ControlArgs {
    /// The command and its arguments.
    #[arg(required = true, value_name = "WORDS")]
    pub command: Vec<String>,
    /// Configuration; its `control.endpoint` names the daemon.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How long to wait for the answer; `model` answers once the new model is loaded and warm.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..=60_000))]
    pub timeout_ms: i32,
    /// Keys.
    #[command(flatten)]
    pub keys: CurveArgs,
}

/// Sends the request and prints the answer.
///
/// # Errors
/// A configuration without a control socket, or a daemon that does not answer.
pub fn run(args: &ControlArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.0;
    let endpoint =
        config.control.endpoint.context("`control.endpoint` is off in this configuration: set it to the daemon's")?;
    let command = match args.command.as_slice() {
        // The daemon was started in another folder.
        [word, path] if word == "model" => {
            let path = std::path::absolute(path).with_context(|| format!("model {path}"))?;
            format!("model {}", path.display())
        }
        words => words.join(" "),
    };
    let answer = ask_with(&endpoint, &command, args.timeout_ms, args.keys.keys()?.as_ref())?;
    writeln!(out, "{answer:#}")?;
    Ok(if answer["ok"] == true { ExitCode::Ok } else { ExitCode::Other })
}
