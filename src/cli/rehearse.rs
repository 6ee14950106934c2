//! `haltere rehearse`: speaks as the daemon would when something is wrong.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValue;

use super::config::ConfigArgs;
use super::parse::seconds;
use super::stop_flag;
use crate::corridor::supervisor::rehearse::rehearse;
use crate::frame::Scene;
use crate::sys::exit::ExitCode;

/// `haltere rehearse`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere rehearse --config rig.toml                     everything, for ten seconds each
  haltere rehearse --config rig.toml silent restarted    these two, each after a time in which all is well
  haltere rehearse --seconds 60 late

It speaks in place of the daemon, at `publish.endpoint`, with the labels of its model and the rules of its configuration; no frame is read. \
Every rule decides every two seconds. Every header says `rehearsal` and what is played.")]
pub struct RehearseArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How long each lasts.
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "10")]
    pub seconds: f64,
    /// What is rehearsed [default: everything].
    #[arg(value_name = "WHAT")]
    pub what: Vec<Scene>,
}

impl clap::ValueEnum for Scene {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(format!("the controller {}", self.expected())))
    }
}

/// Plays what was asked for.
///
/// # Errors
/// A configuration or model that cannot be read, or an endpoint that is taken.
pub fn run(args: &RehearseArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (config, _) = args.config.load()?;
    let stop = stop_flag()?;
    let scenes = if args.what.is_empty() { Scene::ALL.to_vec() } else { args.what.clone() };
    let mut say = |scene: Scene| {
        writeln!(out, "{:<10} the controller {}", scene.name(), scene.expected())?;
        Ok(out.flush()?)
    };
    rehearse(&config, &scenes, Duration::from_secs_f64(args.seconds), &stop, &mut say)?;
    Ok(ExitCode::Ok)
}
