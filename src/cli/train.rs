//! The command line of training: data, methods, where results go.
//!
//! Why it exists: as `cli`. What it must never do: act on it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Progress, rate};
use crate::frame::{Name, Shape};
use crate::train::settings::{Method, Preset};

/// Which recordings, and how to read them. Shared by `train`, `eval` and `compare`.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// A folder of the MC2P layout, as it is on disk: one folder a trial, read without conversion.
    #[arg(long, value_name = "FOLDER", required_unless_present = "data", conflicts_with = "data")]
    pub mc2p: Vec<PathBuf>,
    /// A list of trials, `dataset.toml`; `config/dataset-example.toml` explains every key.
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Only these animals; `--hold-out` and `--unseen` choose among them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub animals: Vec<String>,
    /// Two-photon frames per second of MC2P folders.
    #[arg(long, value_name = "HZ", default_value = "16", value_parser = rate)]
    pub frame_rate: f64,
    /// Behaviour frames per second of MC2P folders.
    #[arg(long, value_name = "HZ", default_value = "100", value_parser = rate)]
    pub behaviour_rate: f64,
    /// Channels x height x width of one model frame; without it one channel of at most 64 x 64.
    #[arg(long, value_name = "CxHxW", value_parser = super::shape)]
    pub input: Option<Shape>,
    /// Take ready-made ΔF/F even where raw channels are. No live daemon can make that input: `run` will refuse the model.
    #[arg(long)]
    pub ready_made: bool,
    /// Leave out what `rest.npy` marks.
    #[arg(long)]
    pub mask_rest: bool,
    /// Where preprocessed frames are kept; without it `.haltere-cache` beside the data.
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// Where training computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrainDevice {
    /// This machine's processor.
    Cpu,
    /// The first CUDA device; needs a build with `--features cuda`.
    Cuda,
}

/// How to train. Shared by `train` and `compare`.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    /// Sizes and steps.
    #[arg(long, value_enum, value_name = "PRESET", default_value_t = Preset::Quick)]
    pub preset: Preset,
    /// Optimiser steps, instead of the preset's.
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Future model frames in a window. 0 is causal: what a live decoder can do. 16 of 32 is the published, centred window.
    #[arg(long, value_name = "FRAMES", default_value_t = 0)]
    pub look_ahead: usize,
    /// Set one setting by its key; may be given many times. Example: --set augment.calcium.probability=0
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to compute.
    #[arg(long, value_enum, value_name = "DEVICE", default_value_t = TrainDevice::Cpu)]
    pub device: TrainDevice,
    /// Show progress: by default on a terminal only.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// `haltere train`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere train --mc2p flies/ --name fly --hold-out fly_08     the default method; fly_08 judges the probabilities
  haltere train --data dataset.toml --method simclr --preset standard
  haltere train --mc2p flies/ --name fly --resume              goes on where a stopped run was

Everything of a run is in runs/NAME: effective settings, metrics, TensorBoard scalars, checkpoints, report.html and a model
card. The model goes to --out only after the daemon's own encoder reproduced it. Ctrl-C leaves a checkpoint.")]
pub struct TrainArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// How.
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = Method::Haltere)]
    pub method: Method,
    /// How much.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// Of weights, batches and augmentations: the same seed makes the same model.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Name of the run and of the model.
    #[arg(long, value_name = "NAME", default_value = "haltere")]
    pub name: Name,
    /// Animals that nothing is trained on: they calibrate probabilities and novelty, and are scored as unseen. Without it the
    /// last one when there are at least four; `none` for none.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub hold_out: Vec<String>,
    /// Folder that gets the model, NAME.onnx and NAME.toml; neither may be there already unless --force is given.
    #[arg(long, short, value_name = "FOLDER", default_value = "models")]
    pub out: PathBuf,
    /// Folder of all runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub runs: PathBuf,
    /// Go on with a run that was stopped.
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Overwrite a run and a model of this name.
    #[arg(long)]
    pub force: bool,
}

/// `haltere eval`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  haltere eval models/fly.toml --mc2p flies/ --unseen fly_08 --out evaluation

The recordings go through the daemon's own preprocessing and encoder. A linear probe on the embedding answers four questions:
within an animal, across animals, which animal it is (low is good), and on animals that the encoder never saw.")]
pub struct EvalArgs {
    /// The model's manifest, or the .onnx beside it.
    pub model: PathBuf,
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Animals that the encoder never saw.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub unseen: Vec<String>,
    /// Of the probes' draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Folder for the table (text, Markdown, CSV, JSON) and the report.
    #[arg(long, short, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Show progress: by default on a terminal only.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// `haltere compare`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere compare --mc2p flies_1/ --mc2p flies_2/ --mc2p flies_3/ --out comparison
  haltere compare --mc2p flies/ --methods simclr,haltere --seeds 1,2,3 --ablation --out comparison

Each data set with each seed is one repetition. A comparison that was stopped goes on where it was.")]
pub struct CompareArgs {
    /// The data; several are several populations.
    #[command(flatten)]
    pub data: DataArgs,
    /// Which methods; without it all.
    #[arg(long, value_enum, value_name = "METHOD,…", value_delimiter = ',')]
    pub methods: Vec<Method>,
    /// Also `haltere` without each of its augmentations; trained after all methods.
    #[arg(long)]
    pub ablation: bool,
    /// Seeds, for each population.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1])]
    pub seeds: Vec<u64>,
    /// How many animals of each population no encoder is trained on; which ones follows from the seed.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub unseen: usize,
    /// How much.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// Trainings at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub jobs: u64,
    /// Folder for results, tables and the report.
    #[arg(long, short, value_name = "FOLDER", default_value = "comparison")]
    pub out: PathBuf,
}
