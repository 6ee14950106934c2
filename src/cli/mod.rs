//! The command line: clap types and their parsers. What is typed is decided in `config` and done in the module of each
//! subcommand.
//!
//! Why it exists: `--help` is the first thing a user reads; it must teach. What it must never do: act on it.

pub mod bench;
pub mod check;
pub mod commands;
pub mod diff_command;
pub mod log;
pub mod model;
#[cfg(feature = "train")]
pub mod report_command;
pub mod simulate_command;
#[cfg(feature = "train")]
pub mod train_command;

#[cfg(feature = "train")]
pub mod calibrate;
pub mod monitor;
#[cfg(feature = "train")]
pub mod report;
mod session;
pub mod simulate;
#[cfg(feature = "train")]
pub mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::endpoint::Endpoint;
use crate::config::{self, Config, ConfigError, Warning};
use crate::frame::Name;
#[cfg(feature = "train")]
use crate::frame::Shape;
use crate::source::raw::RawLayout;

#[cfg(feature = "train")]
pub use calibrate::CalibrateArgs;
pub use session::{DiffArgs, ExportArgs, ExportForm};

/// Live two-photon frames in, action embeddings out.
#[derive(Debug, Parser)]
#[command(name = "haltere", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Begin with `haltere check`: it says what is right, what is not, and what to do.")]
#[command(after_long_help = "\
A closed loop on one machine, in three terminals:
  haltere play recording.tif --rate 30      stands in for the microscope
  haltere run --model models/fly.toml       decodes
  haltere watch                             stands in for the stimulus controller

Exit codes: 0 done, 1 other, 2 command line, 3 configuration, 4 model, 5 ONNX Runtime, 6 source, 7 sink or port,
8 a stage failed in mid-run, 9 check found faults, 10 a comparison differs or a session missed its deadline, 130 interrupted twice.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The daemon: frames in over ZeroMQ, decodes out.
    Run(RunArgs),
    /// Send a recording over ZeroMQ as a microscope would, or as a bad one would.
    Play(PlayArgs),
    /// Subscribe to a daemon and show its decodes.
    Watch(WatchArgs),
    /// Serve a page that shows a daemon at work, and its numbers for a metrics server.
    Monitor(monitor::MonitorArgs),
    /// Run a recording through the same corridor, as fast as it goes, into a file.
    Embed(EmbedArgs),
    /// Compare a recorded session with its replay, with another model, or with another session, frame by frame.
    Diff(DiffArgs),
    /// Write a recorded session as NWB, or its decodes as CSV or npy.
    Export(ExportArgs),
    /// Fit a trained model to a new animal, from a few minutes of it, with or without labels.
    #[cfg(feature = "train")]
    Calibrate(CalibrateArgs),
    /// Look at configuration, model, ports, ONNX Runtime, device and real-time rights without running.
    Check(CheckArgs),
    /// Ask a running daemon: status, a new animal, a new template, shutdown …
    Control(ControlArgs),
    /// Look at a model, make an untrained one, or adopt an ONNX file of your own.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Train a model on recordings of several animals.
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
    /// Score a model: within an animal, across animals, which animal it is, animals never seen.
    #[cfg(feature = "train")]
    Eval(train::EvalArgs),
    /// Train and score all methods on all populations; the table of the project.
    #[cfg(feature = "train")]
    Compare(train::CompareArgs),
    /// Draw the page of an earlier run, evaluation or comparison anew from its report.json, or that of a recorded session.
    #[cfg(feature = "train")]
    Report(report::ReportArgs),
    /// Make recordings of simulated flies with known truth: MC2P folders, raw TIFFs.
    Simulate(simulate::SimulateArgs),
    /// Measure this machine: latency per stage, sustained rate, registration.
    Bench(BenchArgs),
    /// Print completions for a shell.
    #[command(after_help = "Example: haltere completions bash > ~/.local/share/bash-completion/completions/haltere")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from. Shared by every subcommand that has one.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file, TOML; without it $HALTERE_CONFIG, else the defaults. `config/default.toml` explains every key.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The model's manifest, or the .onnx beside it; over the configuration's `model`.
    #[arg(long, short, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Set one key, over file and environment; may be given many times. Example: --set publish.deadline_ms=500
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// Reads file, environment and options, and decides.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<(Config, Vec<Warning>), ConfigError> {
        let (mut config, warnings) = Config::load(self.config.as_deref(), config::environment(), &self.set)?;
        if let Some(model) = &self.model {
            config.model.clone_from(model);
        }
        Ok((config, warnings))
    }
}

/// `haltere run`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere run --config rig.toml
  haltere run --model models/fly.toml --set source.endpoint=tcp://10.0.0.7:5710
  HALTERE__LOG__FILTER=debug haltere run --once --report report.json

Ctrl-C ends the run in order: the neutral action is published, then the heartbeat stops. A second Ctrl-C leaves at once.")]
pub struct RunArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Leave after the sender's end message, when every frame before it is decoded.
    #[arg(long)]
    pub once: bool,
    /// With --once: leave when no message has come for so many seconds after a frame, because a publisher's end message can be
    /// lost; this is said and the exit code is 6. 0 waits for ever.
    #[arg(long, value_name = "SECONDS", requires = "once", default_value_t = 60)]
    pub silence: u64,
    /// Record the session into this folder; over the configuration's `record.folder`.
    #[arg(long, value_name = "FOLDER")]
    pub record: Option<PathBuf>,
    /// At the end, write counters and latencies into this file, JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Which recording, and how to read it. Shared by `play` and `embed`.
#[derive(Clone, Debug, Args)]
pub struct RecordingArgs {
    /// TIFF files in order, a ThorImage folder, a recorded session (.mcap), an NWB file (of several series one: FILE.nwb#NAME), a raw
    /// file (with --raw), or a simulated fly: sim:seed=7,animal=9,trial=1 (also seconds=, recipe=FILE, and any key of a recipe).
    #[arg(required = true, value_name = "RECORDING")]
    pub recording: Vec<PathBuf>,
    /// Take the second channel from this file, or this series of an NWB file (FILE.nwb#NAME), frame by frame.
    #[arg(long, value_name = "FILE")]
    pub channel_file: Option<PathBuf>,
    /// Of a volume, only this plane, from 0.
    #[arg(long, value_name = "N")]
    pub plane: Option<u64>,
    /// Raw pixels without a header: type, [channels x] height x width, and bytes to skip. Example: uint16:2x512x512:1024
    #[arg(long, value_name = "TYPE:SHAPE[:HEADER_BYTES[:F]]")]
    pub raw: Option<RawLayout>,
    /// Frames per second; without it what the recording says, else the model's rate (`embed`) or 30 (`play`).
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub rate: Option<f64>,
    /// At most this many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
}

/// `haltere play`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere play fly_00001.tif fly_00002.tif           at the recording's own rate, once
  haltere play green.tif --channel-file red.tif      two channels from two files
  haltere play fly.tif --rate 60 --loop 0            twice as fast as usual, until Ctrl-C
  haltere play session.mcap                          what was recorded, with its frame numbers and gaps
  haltere play fly.nwb#/acquisition/TwoPhotonSeries1 of an NWB file with several series, this one
  haltere play sim:seed=7,animal=9,seconds=60        a simulated fly, whose truth is known
  haltere play fly.tif --jitter-ms 5 --skip-every 50 --burst 3     a bad microscope, the same one for the same --seed
  haltere play movie.raw --raw uint16:512x512 --push --connect --endpoint tcp://10.0.0.1:5710")]
pub struct PlayArgs {
    /// The recording.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// How often the recording is played; 0 = until interrupted. Frame numbers go on.
    #[arg(long = "loop", value_name = "N", default_value_t = 1)]
    pub repeat: u64,
    /// Stop after this long.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Each frame is late by a random time up to this.
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = milliseconds)]
    pub jitter_ms: f64,
    /// Leave out every N-th frame: a gap in the numbers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub skip_every: Option<u64>,
    /// Send every N-th frame twice.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat_every: Option<u64>,
    /// Send N frames at once, then wait for N periods.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub burst: u64,
    /// Where to send.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5710")]
    pub endpoint: Endpoint,
    /// PUSH instead of PUB: wait for a slow daemon (its `source.pattern` must be "pull").
    #[arg(long)]
    pub push: bool,
    /// Connect instead of bind (the daemon's `source.attach` must be "bind").
    #[arg(long)]
    pub connect: bool,
    /// `source` in every header.
    #[arg(long, value_name = "NAME", default_value = "play")]
    pub source: Name,
    /// `series` in every header; without it one is made from the time.
    #[arg(long, value_name = "NAME")]
    pub series: Option<Name>,
    /// As fast as the socket takes them, instead of at a rate.
    #[arg(long, conflicts_with = "rate")]
    pub flood: bool,
    /// Begin at once instead of waiting for the first subscriber.
    #[arg(long)]
    pub no_wait: bool,
    /// Of the random times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// `haltere watch`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere watch                                five lines a second; a table of latencies at the end
  haltere watch --screen                       the facts of `haltere monitor` on a terminal, over ssh
  haltere watch --json --frames 100 | jq .     every message's header as one JSON object a line
  haltere watch --truth labels.csv             the true action beside the decoded one, and the score
  haltere watch --truth sim:seed=7,animal=9    the same of a simulated fly that is played by the same word
  haltere watch --source rig2 --endpoint tcp://10.0.0.1:5711")]
pub struct WatchArgs {
    /// The daemon's `publish.endpoint`.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5711")]
    pub endpoint: Endpoint,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<Name>,
    /// One JSON object a line, for scripts.
    #[arg(long)]
    pub json: bool,
    /// The whole terminal: action, probabilities, shift, latency, events, as on the page of `haltere monitor`.
    #[arg(long, conflicts_with_all = ["json", "every_line", "truth", "source"])]
    pub screen: bool,
    /// Leave after this long.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Leave after this many decodes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    /// A line for every decode instead of five a second.
    #[arg(long)]
    pub every_line: bool,
    /// What the animal really did, by the microscope's frame numbers: a CSV with the columns frame,label, or the word that a
    /// simulated fly is played by (with its `seconds`; rounds of `play --loop` are known from it). Shows the true action beside the
    /// decoded one, and accuracy and balanced accuracy over the decodes of quality ok.
    #[arg(long, value_name = "FILE.csv|sim:SPEC")]
    pub truth: Option<String>,
    /// With --truth: a decode speaks of the frame so many frames before its own (the model's look-ahead).
    #[arg(long, value_name = "FRAMES", default_value_t = 0, requires = "truth")]
    pub look_ahead: u64,
}

/// `haltere embed`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere embed fly.tif --model models/fly.toml --out fly.npy
  haltere embed session.mcap --out again.npy         a recorded session with its own model and configuration
  haltere embed thorimage_folder/ --model models/fly.toml --out fly.npy --csv fly.csv

The embeddings are those that `run` publishes for the same frames, bit for bit on the same device: [frames, dimensions],
float32. The CSV holds frame, quality, shift, peak, action, confidence and novelty of each row.")]
pub struct EmbedArgs {
    /// The recording.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where the embeddings go, numpy's .npy.
    #[arg(long, short, value_name = "FILE.npy")]
    pub out: PathBuf,
    /// Where everything but the embedding goes, a row for each.
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Show progress: by default on a terminal only.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// When a progress bar is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `haltere check`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere check --config rig.toml
  haltere check --config rig.toml --show > effective.toml
  haltere check --json | jq '.lines[] | select(.level != \"good\")'

✓ is right, ! works but may not be meant, ✗ will not work (exit code 9); each with what to do. Stop a running daemon first,
else its own ports are reported as taken.")]
pub struct CheckArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the effective configuration as a TOML file and nothing else.
    #[arg(long, conflicts_with = "json")]
    pub show: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `haltere control`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere control status
  haltere control template reset
  haltere control normalisation freeze
  haltere control model models/fly8.toml      another model, without a lost frame
  haltere control mark light on
  haltere control record stop
  haltere control help                        all commands")]
pub struct ControlArgs {
    /// The command, in words.
    #[arg(required = true, value_name = "WORDS")]
    pub command: Vec<String>,
    /// Configuration: its `control.endpoint` is asked.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How long to wait for the answer; a model is loaded and warmed before it comes.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..=60_000))]
    pub timeout_ms: i32,
}

/// `haltere model …`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// What a manifest says and whether its file is the one it was written for.
    Inspect {
        /// The manifest, or the .onnx beside it.
        path: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an untrained model: right shapes, random weights. Its decodes carry an embedding and no action.
    #[command(after_long_help = "Example: haltere model init --name untrained --out models --input 1x128x128 --seed 1")]
    #[cfg(feature = "train")]
    Init(ModelInitArgs),
    /// Write a manifest for an ONNX file of your own, `[1,T,C,H,W]` → embedding.
    #[command(after_long_help = "\
Example: haltere model adopt mine.onnx --frame-rate 30

The manifest is written beside the file, with the shapes that are in it and the default preprocessing. Read it, and make
[preprocess] what the network was trained with: a difference there is silent.")]
    Adopt(ModelAdoptArgs),
}

/// `haltere model init`.
#[cfg(feature = "train")]
#[derive(Debug, Args)]
pub struct ModelInitArgs {
    /// Of the random weights: the same seed makes the same file.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Name of the model and of its two files.
    #[arg(long, value_name = "NAME", default_value = "untrained")]
    pub name: Name,
    /// Folder that gets NAME.onnx and NAME.toml.
    #[arg(long, short, value_name = "FOLDER", default_value = "models")]
    pub out: PathBuf,
    /// Channels x height x width of one model frame.
    #[arg(long, value_name = "CxHxW", default_value = "1x128x128", value_parser = shape)]
    pub input: Shape,
    /// Frame channels it reads, as many as it has input channels; without it the first ones.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub channels: Option<Vec<usize>>,
    /// Frames in a window.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub window: usize,
    /// Frames per second that the model is made for.
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = rate)]
    pub frame_rate: f64,
    /// How the model is fed.
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ModelKind::Streaming)]
    pub kind: ModelKind,
    /// Overwrite files that are there.
    #[arg(long)]
    pub force: bool,
}

/// How a model is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelKind {
    /// (frame, state) → (embedding, next state): one new frame a step.
    Streaming,
    /// The whole window in every step.
    Windowed,
}

impl From<ModelKind> for crate::model::Kind {
    fn from(kind: ModelKind) -> Self {
        match kind {
            ModelKind::Streaming => Self::Streaming,
            ModelKind::Windowed => Self::Windowed,
        }
    }
}

/// `haltere model adopt`.
#[derive(Debug, Args)]
pub struct ModelAdoptArgs {
    /// The ONNX file.
    #[arg(value_name = "FILE.onnx")]
    pub file: PathBuf,
    /// Frames per second that the model was made for.
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub frame_rate: f64,
    /// Name of the model; without it the file's.
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Action labels in the order of its probabilities.
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Its weights are random: its decodes shall carry no action.
    #[arg(long)]
    pub untrained: bool,
    /// ONNX Runtime's shared library.
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Overwrite a manifest that is there.
    #[arg(long)]
    pub force: bool,
}

/// `haltere bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  haltere bench                      closed loop at 30 Hz and as fast as it goes, over real sockets
  haltere bench --quick --json
  haltere bench registration movie.tif --template template.tif --out shifts.csv")]
pub struct BenchArgs {
    /// One part only.
    #[command(subcommand)]
    pub part: Option<BenchPart>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Frames measured in each part, after the warm-up.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    pub frames: u64,
    /// Rate of the paced part.
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = rate)]
    pub hz: f64,
    /// A tenth of the frames: seconds instead of a minute, and coarser tails.
    #[arg(long)]
    pub quick: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Parts of the bench that stand alone.
#[derive(Debug, Subcommand)]
pub enum BenchPart {
    /// From bytes in memory to an embedding in memory, on the configured device: paced at --hz, at 1000 Hz, and without pause.
    Device {
        /// Most frames of the part that is paced at --hz: 20,000 frames at 30 Hz would be eleven minutes.
        #[arg(long, value_name = "N", default_value_t = 6000)]
        paced_frames: usize,
    },
    /// Measure the shift of every frame against a given template.
    Registration {
        /// The movie, TIFF.
        #[arg(value_name = "MOVIE.tif")]
        movie: PathBuf,
        /// The template, TIFF of one page.
        #[arg(long, value_name = "TEMPLATE.tif")]
        template: PathBuf,
        /// Where the shifts go: frame, dy, dx, peak, microseconds.
        #[arg(long, value_name = "SHIFTS.csv")]
        out: PathBuf,
    },
}

/// `HxW` or `CxHxW`, within what a frame can be.
#[cfg(feature = "train")]
fn shape(text: &str) -> Result<Shape, String> {
    use crate::frame::{CHANNELS_MAX, SIDE_PX_MAX};
    let sides: Vec<usize> = text.split('x').map(str::parse).collect::<Result<_, _>>().unwrap_or_default();
    let shape = match sides[..] {
        [height, width] => Shape::new(1, height, width),
        [channels, height, width] => Shape::new(channels, height, width),
        _ => return Err("write HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH, such as 1x128x128".to_owned()),
    };
    let sides_fit = [shape.height, shape.width].iter().all(|side| (1..=SIDE_PX_MAX).contains(side));
    if (1..=CHANNELS_MAX).contains(&shape.channels) && sides_fit {
        return Ok(shape);
    }
    Err(format!("{shape}: 1 to {CHANNELS_MAX} channels, 1 to {SIDE_PX_MAX} px a side"))
}

fn number_within(text: &str, least: f64, most: f64, unit: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("must be a number, {least} to {most} {unit}"))
}

fn rate(text: &str) -> Result<f64, String> {
    number_within(text, 0.01, 100_000.0, "Hz")
}

fn seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.001, 1e7, "s")
}

fn milliseconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 60_000.0, "ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_and_every_option_explains_itself() {
        fn look(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let known = ["help", "version"].contains(&argument.get_id().as_str());
                assert!(known || argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
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
