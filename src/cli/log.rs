//! Log lines on standard error, as text or JSON.
//!
//! Why it exists: one place decides what a log line looks like. What it must never do: make a daemon wait for whoever reads its
//! log, or end it because nobody does; so its lines are written by a thread of their own.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Config, Log, Warning};
use crate::sys::log_lines::LogLines;

/// How long the last lines of a daemon may take to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The writer of a daemon.
static LINES: OnceLock<LogLines> = OnceLock::new();

/// Starts the log of this process.
///
/// # Errors
/// When `log.filter` is not a filter.
pub fn start(log: &Log) -> anyhow::Result<()> {
    start_on(log, io::stderr)
}

/// Starts the log of a daemon: no line makes anybody wait, and one that nobody can read ends nothing. Panics go the same way.
///
/// # Errors
/// When `log.filter` is not a filter, or the system gives no thread.
pub fn start_live(log: &Log) -> anyhow::Result<()> {
    let lines = LogLines::start(io::stderr()).context("cannot start the thread that writes the log")?;
    start_on(log, lines.clone())?;
    let hook = lines.clone();
    let _ = LINES.set(lines);
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("unnamed"));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text = format!("{text}{trace}\n");
        }
        hook.line(text.as_bytes());
        if thread.name() == Some("main") {
            hook.flush(LAST_LINES);
        }
    }));
    Ok(())
}

fn start_on<W>(log: &Log, writer: W) -> anyhow::Result<()>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.filter)
        .with_context(|| format!("log.filter = {:?} is not a filter; try \"info\" or \"haltere=debug\"", log.filter))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // It would tell of a failed write where the write failed, and panic there.
        .log_internal_errors(false)
        // Colours are for terminals; in a file or a journal they would cut words apart.
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // A second start in the same process (tests) keeps the first log.
    let _ = if log.json { lines.json().try_init() } else { lines.try_init() };
    Ok(())
}

/// A line for people on standard error, behind the log's. That nobody can read it is no failure.
pub fn say(text: &str) {
    let line = format!("{text}\n");
    match LINES.get() {
        Some(lines) => lines.line(line.as_bytes()),
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Gives the last lines of a daemon's log a moment to be read.
pub fn finish() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_LINES);
    }
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
