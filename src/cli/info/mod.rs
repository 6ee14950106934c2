//! `haltere info`: what a recording or a data set holds, and by which text.
//!
//! Why it exists: frames of one channel taken for two, planes that rotate, or time stamps taken for behaviour spoil an experiment
//! without a word; printed with its reason, a wrong number is seen at once. What it must never do: read a recording differently from
//! the commands that use it, or read all of a large one.

mod facts;
mod look;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::log;
use super::recording::RecordingArgs;
use crate::dataset::{DataSpec, DatasetError, Mc2pOptions, TrialFacts, inspect};
use crate::source::{About, Fact};
use crate::sys::exit::ExitCode;

/// `haltere info`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere info recording.tif            shape, channels, planes, rate, times, and the text that decided each
  haltere info folder/ --json           the same for scripts
  haltere info volume.tif --plane 2     as the other commands see it with these options
  haltere info dataset.toml             each trial: behaviour columns with their range, alignment, labels
  haltere info session.mcap             a recorded session
  haltere info x.tif --picture x.png    also as a picture: mean image, first frame, light over time, saturation

Every command reads the recording as shown here. If a number is wrong, say it: --axes, --plane, --channels, --roi,
--orientation, --rate.")]
pub struct InfoArgs {
    /// Recording.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Also draw it, PNG: mean image and first frame of every channel and plane, light over time; saturated pixels are red. All frames are
    /// read, or the first --frames of them.
    #[arg(long, value_name = "FILE.png")]
    pub picture: Option<PathBuf>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Described {
    /// As it was named.
    recording: Vec<String>,
    /// Facts about it.
    facts: Vec<Fact>,
    /// What its user must know.
    warnings: Vec<String>,
    /// Trials of a data set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trials: Vec<TrialFacts>,
}

/// Prints what is known.
///
/// # Errors
/// A recording or data set that is refused, with the reason.
pub fn run(args: &InfoArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    log::start_default()?;
    let recording: Vec<String> = args.recording.recording.iter().map(|path| path.display().to_string()).collect();
    let described = match data_set(&args.recording.recording)? {
        Some(spec) => {
            if args.picture.is_some() {
                anyhow::bail!(
                    "--picture draws a recording, but {} describes a data set: name one of its recordings",
                    recording.join(" ")
                );
            }
            let (trials, warnings) = inspect(&spec)?;
            let warnings = warnings.iter().map(ToString::to_string).collect();
            Described { recording, facts: Vec::new(), warnings, trials }
        }
        None => {
            let mut about = facts::of_recording(&args.recording)?;
            if let Some(path) = &args.picture {
                look::draw(&args.recording, &mut about, path)?;
            }
            let About { facts, warnings } = about;
            Described { recording, facts, warnings, trials: Vec::new() }
        }
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&described)?)?;
    } else {
        print(&described, out)?;
    }
    Ok(ExitCode::Ok)
}

/// A `dataset.toml`, or a folder of MC2P trials; `None` for a recording.
#[expect(clippy::result_large_err, reason = "it fails once, on a cold path")]
fn data_set(paths: &[PathBuf]) -> Result<Option<DataSpec>, DatasetError> {
    let [path] = paths else { return Ok(None) };
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return DataSpec::from_toml(path).map(Some);
    }
    if !path.is_dir() {
        return Ok(None);
    }
    match DataSpec::mc2p(path, &Mc2pOptions::default()) {
        Ok(spec) => Ok(Some(spec)),
        Err(DatasetError::Empty { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

fn print(described: &Described, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "recording         {}", described.recording.join(" "))?;
    for Fact { name, value, by } in &described.facts {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(out, "{name:<17} {value:<24} by {by}")?;
    }
    for trial in &described.trials {
        print_trial(trial, out)?;
    }
    described.warnings.iter().try_for_each(|warning| writeln!(out, "warning           {warning}"))
}

fn print_trial(trial: &TrialFacts, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "trial             {} of animal {}", trial.name, trial.animal)?;
    writeln!(
        out,
        "  imaging         {:.2} s: {} frames of {} at {} Hz",
        trial.imaging_s, trial.frames, trial.shape, trial.frame_rate_hz
    )?;
    for Fact { name, value, by } in &trial.recording {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(out, "    {name:<24} {value:<24} by {by}")?;
    }
    writeln!(
        out,
        "  behaviour       {:.2} s: {} rows of {} columns",
        trial.behaviour_s,
        trial.rows,
        trial.columns.len()
    )?;
    for column in &trial.columns {
        writeln!(out, "    {:<24} {} to {}", column.name, column.least, column.most)?;
    }
    for target in &trial.targets {
        writeln!(out, "  target          {:<24} {} to {}", target.name, target.least, target.most)?;
    }
    if let Some((first, last)) = trial.first_with_behaviour.zip(trial.last_with_behaviour) {
        let second = |frame: usize| frame as f64 / trial.frame_rate_hz;
        writeln!(
            out,
            "  aligned         {} of {} frames have behaviour, from {:.2} s to {:.2} s of the imaging",
            trial.with_behaviour,
            trial.frames,
            second(first),
            second(last + 1)
        )?;
    }
    for (label, frames) in &trial.labels {
        writeln!(out, "  label           {label:<24} {frames} frames, {:.1} s", *frames as f64 / trial.frame_rate_hz)?;
    }
    writeln!(out, "  unlabelled      {} frames", trial.unlabelled)
}
