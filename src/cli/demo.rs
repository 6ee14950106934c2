//! `haltere demo`: a closed loop without any equipment.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::parse::{rate, seconds};
use super::stop_flag;
use crate::client::demo::{DemoOptions, FLY, demo};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::installed;

/// The model that comes with the program.
const MODEL: &str = "models/fly.toml";

/// `haltere demo`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere demo                                       a simulated fly that the model never saw, its true actions beside the decoded ones
  haltere demo --page                                the same, with a web page at http://127.0.0.1:5713
  haltere demo sim:seed=3,animal=2,seconds=120       another fly
  haltere demo fly.tif --model models/mine.toml      a recording and a model of yours

Three processes over real sockets: `play` in place of the microscope, `run`, and this program in place of the stimulus \
controller. Your configuration is not read, except for what the environment sets under HALTERE__COMPUTE__ and HALTERE__LOG__. The exit \
code is 10 if no decode could be trusted.")]
pub struct DemoArgs {
    /// What to play: a simulated fly (sim:…) or a recording, as `play` takes it [default: a simulated fly].
    #[arg(value_name = "RECORDING", default_value = FLY, hide_default_value = true)]
    pub recording: Vec<PathBuf>,
    /// Read the second channel from this file.
    #[arg(long, value_name = "FILE")]
    pub channel_file: Option<PathBuf>,
    /// Frame rate [default: the recording's, else 30].
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub rate: Option<f64>,
    /// Manifest of the model [default: models/fly.toml that comes with the program].
    #[arg(long, short, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// How long to show decodes, after the warm-up (8 s with the default model).
    #[arg(long, value_name = "S", value_parser = seconds, default_value_t = 20.0)]
    pub seconds: f64,
    /// Serve the page of `haltere monitor` as well.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:5713")]
    pub page: Option<SocketAddr>,
    /// Set one key of the daemon's configuration; repeatable. Example: --set compute.onnxruntime=/opt/onnxruntime/libonnxruntime.so
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// Shows the loop.
///
/// # Errors
/// What could not be found or started, or that nothing was decoded.
pub fn run(args: &DemoArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let stop = stop_flag()?;
    let options = DemoOptions {
        model: args.model.clone().map_or_else(shipped_model, Ok)?,
        recording: args.recording.clone(),
        channel_file: args.channel_file.clone(),
        rate_hz: args.rate,
        seconds: args.seconds,
        page: args.page,
        set: args.set.clone(),
    };
    demo(&options, &stop, out)?;
    Ok(ExitCode::Ok)
}

/// The model that comes with the program.
fn shipped_model() -> anyhow::Result<PathBuf> {
    let places = installed::places(Path::new(MODEL));
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return Ok(found.clone());
    }
    let shown: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    let what = format!("the model of the demo is at none of {}: name a manifest with --model", shown.join(", "));
    Err(Failure { code: ExitCode::Model, what }.into())
}
