//! `haltere latency`: from a frame to the stimulus and back.
//!
//! Why it exists: what a closed loop takes is known only once somebody at its end answers. What it must never do: count the delay that
//! a rule asks for as latency.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::curve::CurveArgs;
use super::parse::seconds;
use super::stop_flag;
use crate::client::latency::{LatencyOptions, listen};
use crate::config::endpoint::Endpoint;
use crate::frame::{Name, RoundTrips};
use crate::report::latency::{picture, stages, table};
use crate::session::rows::Recorded;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::write_whole;

/// `haltere latency`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere latency --count 1000                     of a running daemon, until 1000 outputs were acknowledged
  haltere latency --seconds 60 --out latency.svg   the same for a minute, and a histogram of each stage
  haltere latency session.mcap --json              of a recorded session

The daemon needs an inlet (`inlet.endpoint`) and a rule that gives outputs. Whoever gives the pulse, or sees it (a photodiode), \
sends {\"name\":\"pulse\",\"decision\":SEQ,\"timestamp_ns\":T,\"clock\":\"monotonic\"} to the inlet; clients/python/controller.py does. \
The moment of the frame is the one that its time stamp marks (`stamp`), or its receipt if it has none.")]
pub struct LatencyArgs {
    /// A recorded session instead of a running daemon.
    #[arg(value_name = "SESSION.mcap", conflicts_with_all = ["endpoint", "seconds", "count", "source"])]
    pub session: Option<PathBuf>,
    /// The daemon's `publish.endpoint`.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5711")]
    pub endpoint: Endpoint,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<Name>,
    /// End after this many acknowledged outputs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Draw a histogram of each stage.
    #[arg(long, short, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
    /// Keys.
    #[command(flatten)]
    pub keys: CurveArgs,
}

/// Measures, and says the numbers.
///
/// # Errors
/// A file that is no session, no acknowledgement at all, or a picture that cannot be written.
pub fn run(args: &LatencyArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let trips = match &args.session {
        Some(session) => Recorded::read(session)?.round_trips,
        None => live(args)?,
    };
    if trips.done.is_empty() {
        let what = format!(
            "no output was acknowledged ({} outputs, {} acknowledgements of nothing that is known): is a rule armed, and does the controller \
             send the `seq` of each decision to `inlet.endpoint`?",
            trips.unanswered(),
            trips.strays
        );
        bail!(Failure { code: ExitCode::Source, what });
    }
    if args.json {
        let said = json!({ "stages": stages(&trips), "unanswered": trips.unanswered(), "strays": trips.strays });
        writeln!(out, "{said}")?;
    } else {
        write!(out, "{}", table(&trips))?;
    }
    if let Some(path) = &args.out {
        let failed = || Failure { code: ExitCode::Sink, what: format!("--out {}", path.display()) };
        write_whole(path, picture(&trips).as_bytes()).with_context(failed)?;
    }
    Ok(ExitCode::Ok)
}

fn live(args: &LatencyArgs) -> anyhow::Result<RoundTrips> {
    let stop = stop_flag()?;
    let options = LatencyOptions {
        endpoint: args.endpoint.to_string(),
        source: args.source.map(|name| name.to_string()),
        count: args.count.map(|count| count as usize),
        duration: args.seconds.map(Duration::from_secs_f64),
        keys: args.keys.keys()?,
    };
    listen(&options, &stop).with_context(|| Failure { code: ExitCode::Source, what: options.endpoint.clone() })
}
