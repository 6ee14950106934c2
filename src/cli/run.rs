//! `haltere run`: the daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::config::ConfigArgs;
use super::log;
use crate::corridor::supervisor;
use crate::sys::exit::ExitCode;

/// `haltere run`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere run --config rig.toml
  haltere run --model models/fly.toml --set source.endpoint=tcp://10.0.0.7:5710
  HALTERE__LOG__FILTER=debug haltere run --once --report report.json

Ctrl-C ends the run cleanly: haltere publishes the neutral action, then stops the heartbeat; so do SIGTERM, \
SIGQUIT and SIGHUP (a closed terminal, unless started with nohup). A second Ctrl-C exits at once.")]
pub struct RunArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Exit once the sender has announced the end of its series and every frame is decoded.
    #[arg(long)]
    pub once: bool,
    /// With --once: exit with code 6 if no message arrives for this long after a frame, in case the end message was
    /// lost; 0 waits forever.
    #[arg(long, value_name = "SECONDS", requires = "once", default_value_t = 60)]
    pub silence: u64,
    /// Record the session into this folder; overrides `record.folder` of the configuration.
    #[arg(long, value_name = "FOLDER")]
    pub record: Option<PathBuf>,
    /// Write counters and latencies to this JSON file when the run ends.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Runs the daemon until it is stopped.
///
/// # Errors
/// What prevents the start, or the stage that failed.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (mut config, warnings) = args.config.load()?;
    if let Some(folder) = &args.record {
        config.record.folder = Some(folder.clone());
    }
    log::start_live(&config.log)?;
    let silence = if args.silence == 0 { Duration::MAX } else { Duration::from_secs(args.silence) };
    supervisor::run(&config, &warnings, args.once.then_some(silence), args.report.as_deref())?;
    Ok(ExitCode::Ok)
}
