//! The command line: one file for each subcommand, with what can be typed and a `run` that does it.
//!
//! Why it exists: `--help` is the first thing a user reads; it must teach. What it must never do: compute. A subcommand
//! turns what was typed into plain values and hands them to the rooms that know nothing of a command line.

pub mod bench;
pub mod check;
mod completions;
mod config;
mod control;
mod curve;
mod decide;
mod demo;
mod diff;
mod embed;
#[macro_use]
pub mod exit;
mod export;
mod info;
mod keys;
mod latency;
pub mod log;
mod man;
pub mod model;
mod monitor;
pub mod output;
mod parse;
mod play;
mod progress;
mod recording;
mod rehearse;
mod report;
mod run;
mod seen;
mod simulate;
#[cfg_attr(not(feature = "train"), path = "without_training.rs")]
pub mod training;
mod watch;
mod yoke;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

use crate::sys::exit::ExitCode;
use crate::sys::signals;

/// Live two-photon frames in, action embeddings out.
#[derive(Debug, Parser)]
#[command(name = "haltere", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Start with `haltere demo`; then `haltere check` tests your setup and says what to fix.")]
#[command(after_long_help = "\
A closed loop on one machine, in three terminals:
  haltere play recording.tif --rate 30      in place of the microscope
  haltere run --model models/fly.toml       the decoder
  haltere watch                             in place of the stimulus controller

Exit codes: 0 success, 1 other error, 2 command line, 3 configuration, 4 model, 5 ONNX Runtime or device, 6 \
source of frames, 7 an output cannot be written or its port is in use, 8 a stage failed during a run, 9 `check` \
found problems, 10 a comparison differs, a session missed its deadline or the demo saw no decode, 130 interrupted.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it decode, without any equipment: a simulated fly, its true actions beside the decoded ones.
    Demo(demo::DemoArgs),
    /// Say what a recording holds, and by which of its texts: shape, channels, planes, rate, times; of a data set also behaviour and labels.
    Info(info::InfoArgs),
    /// Run the daemon: receive frames over ZeroMQ, publish decodes.
    Run(run::RunArgs),
    /// Send a recording over ZeroMQ as a microscope would, with faults on request.
    Play(Box<play::PlayArgs>),
    /// Show the decodes of a running daemon.
    Watch(watch::WatchArgs),
    /// Serve a web page that shows a running daemon, and its metrics for a metrics server.
    Monitor(monitor::MonitorArgs),
    /// Decode a recording offline, as fast as possible and exactly as the daemon would.
    Embed(embed::EmbedArgs),
    /// Compare a recorded session frame by frame with its replay, another model or another session.
    Diff(diff::DiffArgs),
    /// Say what rules would have decided on a recorded session: hits, misses, false alarms and latency.
    Decide(decide::DecideArgs),
    /// Measure the loop: from a frame to the decision, to the pulse, to its acknowledgement.
    Latency(latency::LatencyArgs),
    /// Speak as the daemon would when it is late, silent, restarted …, to see what your controller does.
    Rehearse(rehearse::RehearseArgs),
    /// Convert a recorded session to NWB, or its decodes to CSV, Parquet or npy.
    Export(export::ExportArgs),
    /// Check configuration, model, ports, ONNX Runtime, device and real-time permissions without running.
    Check(check::CheckArgs),
    /// Send a command to a running daemon: status, new animal, new template, shutdown …
    Control(control::ControlArgs),
    /// Make keys for encrypted sockets.
    Keys(keys::KeysArgs),
    /// Inspect a model, create an untrained one, or adopt your own ONNX file.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// What a build with training adds.
    #[command(flatten)]
    Training(training::TrainingCommand),
    /// Report on a recorded session, or redraw the report of an earlier run, evaluation or comparison.
    Report(report::ReportArgs),
    /// Simulate recordings of flies with known ground truth, as MC2P folders or TIFF files.
    Simulate(simulate::SimulateArgs),
    /// Benchmark this machine: latency per stage, sustained frame rate, registration.
    Bench(bench::BenchArgs),
    /// Print completions for your shell.
    Completions(completions::CompletionsArgs),
    /// Write manual pages.
    Man(man::ManArgs),
}

/// Does what was asked; results go to `out`.
///
/// # Errors
/// Whatever the subcommand could not do; [`exit::exit_code`] says with which number to leave.
pub fn dispatch(command: Command, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(&args, out),
        Command::Info(args) => info::run(&args, out),
        Command::Run(args) => run::run(&args),
        Command::Play(args) => play::run(&args),
        Command::Watch(args) => watch::run(&args, out),
        Command::Monitor(args) => monitor::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Diff(args) => diff::run(&args, out),
        Command::Decide(args) => decide::run(&args, out),
        Command::Latency(args) => latency::run(&args, out),
        Command::Rehearse(args) => rehearse::run(&args, out),
        Command::Export(args) => export::run(&args, out),
        Command::Check(args) => check::run(&args, out),
        Command::Control(args) => control::run(&args, out),
        Command::Keys(args) => keys::run(&args, out),
        Command::Model(command) => model::run(command, out),
        Command::Training(command) => training::run(command, out),
        Command::Report(args) => report::run(&args, out),
        Command::Simulate(args) => simulate::run(&args, out),
        Command::Bench(args) => bench::run(&args, out),
        Command::Completions(args) => completions::run(&args, out),
        Command::Man(args) => man::run(&args),
    }
}

impl Command {
    /// Is the exit code part of the answer (`diff`: equal, `check`: sound, `report`: in time, `control`: carried out)?
    pub fn answers_by_exit_code(&self) -> bool {
        matches!(self, Self::Diff(_) | Self::Check(_) | Self::Report(_) | Self::Control(_))
    }
}

/// Set by the first Ctrl-C or SIGTERM; a second one ends the process.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    signals::stop_on_signals(&stop)?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::BenchPart;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn typing_errors_are_told_what_would_be_right() {
        assert!(parse("haltere play a.tif --rate 0").unwrap_err().contains("0.01 to 100000 Hz"));
        assert!(parse("haltere watch --endpoint 127.0.0.1:5711").unwrap_err().contains("begins with neither tcp://"));
        assert!(parse("haltere wach").unwrap_err().contains("watch"));
        assert!(parse("haltere play").unwrap_err().contains("RECORDING"));
    }

    #[test]
    fn the_bench_of_one_part_takes_no_options_of_the_whole() {
        let line = "haltere bench registration m.tif --template t.tif --out s.csv";
        let Command::Bench(bench) = parse(line).unwrap().command else { panic!("not bench") };
        assert!(matches!(bench.part, Some(BenchPart::Registration { .. })));
        assert!(parse("haltere bench --quick registration m.tif --template t.tif --out s.csv").is_err());
    }
}
