//! Log lines on standard error, as text or JSON.
//!
//! Why it exists: one place decides what a log line looks like. What it must never do: be called from a thread of the
//! corridor; a terminal that does not read must not delay a decode.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Log, Warning};

/// Starts the log of this process.
///
/// # Errors
/// When `log.filter` is not a filter.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter)
        .with_context(|| format!("log.filter = {:?} is not a filter; try \"info\" or \"haltere=debug\"", log.filter))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for terminals; in a file or a journal they would cut words apart.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start in the same process (tests) keeps the first log.
    let _ = if log.json { lines.json().try_init() } else { lines.try_init() };
    Ok(())
}

/// Starts the log of a subcommand that has no configuration.
///
/// # Errors
/// Never with the default filter.
pub fn start_default() -> anyhow::Result<()> {
    start(&Config::default().log)
}

/// What may not be meant, on the log.
pub(super) fn warn(warnings: &[Warning]) {
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}
