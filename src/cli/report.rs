//! `haltere report`: what can be typed.
//!
//! Why it exists: the options of one subcommand, apart from the others. What it must never do: act on them.

use std::path::PathBuf;

use clap::Args;

/// `haltere report`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere report runs/fly                           runs/fly/report.html, made anew
  haltere report comparison/report.json --out table.html
  haltere report session.mcap                       session.html: latency, gaps, shifts, quality, actions, embedding

`train`, `eval` and `compare` write report.json beside report.html. It holds every number that is shown, so that the page can
be made again by a later version, without the data and without the model.

Of a recorded session the exit code says whether it met the deadline of its configuration: 0 met, 10 missed.")]
pub struct ReportArgs {
    /// The folder of a run, of an evaluation or of a comparison; or its report.json; or a recorded session.
    #[arg(value_name = "FOLDER|REPORT.json|SESSION.mcap")]
    pub report: PathBuf,
    /// Where the page goes; without it report.html beside the report.json, or beside the session under its name.
    #[arg(long, short, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}
