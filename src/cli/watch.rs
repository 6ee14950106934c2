//! `haltere watch`: a daemon's decodes on a terminal.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::curve::CurveArgs;
use super::parse::seconds;
use super::stop_flag;
use crate::client::watch::{WatchOptions, screen, truth_of, watch};
use crate::config::endpoint::Endpoint;
use crate::frame::Name;
use crate::sys::exit::ExitCode;

/// What a person can read, lines per second.
const LINES_PER_S: f64 = 5.0;

/// `haltere watch`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere watch                                five lines a second, and a table of latencies at the end
  haltere watch --screen                       the whole terminal, for use over ssh
  haltere watch --json --frames 100 | jq .     the header of every message, one JSON object per line
  haltere watch --truth labels.csv             compare with the true actions and score the decodes
  haltere watch --truth sim:seed=7,animal=9    the same for a simulated fly played with the same name
  haltere watch --source rig2 --endpoint tcp://10.0.0.1:5711")]
pub struct WatchArgs {
    /// The daemon's `publish.endpoint`.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5711")]
    pub endpoint: Endpoint,
    /// Show only this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<Name>,
    /// Print one JSON object per line, for scripts.
    #[arg(long)]
    pub json: bool,
    /// Fill the terminal with action, probabilities, shift, latency and events, like the page of `haltere monitor`.
    #[arg(long, conflicts_with_all = ["json", "every_line", "truth", "source"])]
    pub screen: bool,
    /// Exit after this many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Exit after this many decodes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    /// Print every decode instead of five lines a second.
    #[arg(long)]
    pub every_line: bool,
    /// True actions to compare with: a CSV with the columns frame,label (the microscope's frame numbers), or the name
    /// of a simulated fly exactly as it is played, including `seconds=`. Shows the true action beside the decoded one,
    /// and the accuracy and balanced accuracy of decodes of quality ok.
    #[arg(long, value_name = "FILE.csv|sim:SPEC")]
    pub truth: Option<String>,
    /// With --truth: compare each decode with the label N frames earlier (the model's look-ahead).
    #[arg(long, value_name = "N", default_value_t = 0, requires = "truth")]
    pub look_ahead: u64,
    /// Keys.
    #[command(flatten)]
    pub keys: CurveArgs,
}

/// Shows decodes until it is stopped.
///
/// # Errors
/// The socket, the truth, or an output that cannot be written.
pub fn run(args: &WatchArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let stop = stop_flag()?;
    let options = WatchOptions {
        endpoint: args.endpoint.to_string(),
        source: args.source.map(|name| name.to_string()),
        json: args.json,
        duration: args.seconds.map(Duration::from_secs_f64),
        frames: args.frames,
        lines_per_s: if args.every_line { f64::INFINITY } else { LINES_PER_S },
        truth: args.truth.as_deref().map(truth_of).transpose()?,
        look_ahead: args.look_ahead,
        labels: Vec::new(),
        keys: args.keys.keys()?,
    };
    if args.screen {
        screen(&options, &stop, out)?;
    } else {
        watch(&options, &stop, out)?;
    }
    Ok(ExitCode::Ok)
}
