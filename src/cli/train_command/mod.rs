//! What `haltere train`, `eval` and `compare` do: load, learn, score, show, with progress on the terminal and everything of a
//! run in its folder.
//!
//! Why it exists: `train` computes and knows neither a terminal nor a run's folder; somebody must bring them together. What it
//! must never do: compute a score of its own.

mod compare;
mod eval;
mod show;
mod train;

use std::path::Path;

use anyhow::Context;
use burn::tensor::Device;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use compare::compare;
pub use eval::eval;
pub use train::train;

use crate::cli::Progress;
use crate::cli::train::{DataArgs, LearnArgs, TrainDevice};
use crate::dataset;
use crate::dataset::trials::Dataset;
use crate::dataset::{DataSpec, LoadOptions, Mc2pOptions};
use crate::frame::Shape;
use crate::model::parameters::Parameters;
use crate::sys::exit::{ExitCode, Failure};
use crate::train::settings::{Method, TrainSettings};

/// A data set that can be loaded, whole or in part.
pub(crate) struct Loader<'a> {
    spec: DataSpec,
    args: &'a DataArgs,
    /// Preprocessing of a model, instead of the default.
    parameters: Option<Parameters>,
    /// Input of a model, instead of the default.
    input: Option<Shape>,
    shown: bool,
}

impl<'a> Loader<'a> {
    /// One for each data set that was named.
    fn all(args: &'a DataArgs, progress: Progress) -> anyhow::Result<Vec<(String, Self)>> {
        let shown = shown(progress);
        let name = |path: &Path| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let options = mc2p_options(args);
        let folders = args.mc2p.iter().map(|folder| Ok((name(folder), DataSpec::mc2p(folder, &options)?)));
        let files = args.data.iter().map(|file| Ok((name(file), DataSpec::from_toml(file)?)));
        let loader = |(name, spec)| (name, Self { spec, args, parameters: None, input: args.input, shown });
        let loaders: anyhow::Result<Vec<_>> = folders.chain(files).map(|found| found.map(loader)).collect();
        loaders
    }

    /// The only one that was named.
    fn one(args: &'a DataArgs, progress: Progress) -> anyhow::Result<Self> {
        let mut all = Self::all(args, progress)?;
        if all.len() != 1 {
            return Err(usage(format!("this command takes one data set, {} were named", all.len())));
        }
        all.pop().map(|(_, loader)| loader).context("no data set was named")
    }

    /// Animals in the order of their trials, of those that were asked for.
    fn animals(&self) -> Vec<String> {
        let chosen = |animal: &String| self.args.animals.is_empty() || self.args.animals.contains(animal);
        self.spec.animals().into_iter().filter(chosen).collect()
    }

    /// Loads some animals, with the labels of `like` if there is one.
    fn load(&self, only: &[String], window_frames: usize, whole: bool) -> anyhow::Result<Dataset> {
        let options = LoadOptions {
            input: self.input,
            parameters: self.parameters.clone(),
            animals: only.to_vec(),
            cache: self.args.cache.clone(),
            accept_missing_classes: !whole,
            window_frames,
            ..LoadOptions::default()
        };
        let bar = bar(self.shown, "{prefix:>12} {bar:40} {pos}/{len} frames, {eta} left");
        bar.set_prefix("preprocess");
        let tell = |progress: dataset::Progress<'_>| {
            bar.set_length(progress.frames_total);
            bar.set_position(progress.frames_done);
        };
        let loaded = dataset::load(&self.spec, &options, &tell);
        bar.finish_and_clear();
        let (data, warnings) = loaded?;
        if whole {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Ok(data)
    }
}

fn mc2p_options(args: &DataArgs) -> Mc2pOptions {
    Mc2pOptions {
        frame_rate_hz: args.frame_rate,
        behaviour_rate_hz: args.behaviour_rate,
        mask_rest: args.mask_rest,
        prefer_dff: args.ready_made,
        ..Mc2pOptions::default()
    }
}

/// The settings that were asked for.
fn settings(method: Method, seed: u64, learn: &LearnArgs) -> anyhow::Result<TrainSettings> {
    let mut settings = TrainSettings::preset(learn.preset, method, seed);
    if let Some(steps) = learn.steps {
        settings.steps = steps;
        settings.validate_every = (steps / 15).max(1);
        settings.optimiser.warmup_steps = (steps / 20).max(1);
    }
    settings.look_ahead_frames = learn.look_ahead;
    for assignment in &learn.set {
        settings.set(assignment)?;
    }
    settings.check()?;
    Ok(settings)
}

/// The device that was asked for; asked for and not there is an error, never a silent fall-back.
fn device(asked: TrainDevice) -> anyhow::Result<Device> {
    match asked {
        TrainDevice::Cpu => Ok(Device::flex()),
        #[cfg(feature = "train-cuda")]
        TrainDevice::Cuda => cuda(),
        #[cfg(not(feature = "train-cuda"))]
        TrainDevice::Cuda => Err(usage(
            "--device cuda: this haltere was built without CUDA training; build it with `cargo build --release --features \
             train-cuda` on a machine with an NVIDIA driver, or leave --device out"
                .to_owned(),
        )),
    }
}

/// The first NVIDIA GPU. burn compiles its kernels by itself: a driver is all it needs, and without one it panics.
///
/// # Errors
/// What is missing, and what to do.
#[cfg(feature = "train-cuda")]
pub fn cuda() -> anyhow::Result<Device> {
    crate::cuda::find().map_err(crate::preprocess::BuildError::from)?;
    Ok(Device::cuda(0))
}

/// Something that was typed cannot be done.
fn usage(what: String) -> anyhow::Error {
    Failure { code: ExitCode::Usage, what }.into()
}

fn shown(progress: Progress) -> bool {
    use std::io::IsTerminal;
    match progress {
        Progress::Auto => std::io::stderr().is_terminal(),
        Progress::Always => true,
        Progress::Never => false,
    }
}

fn bar(shown: bool, template: &str) -> ProgressBar {
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
