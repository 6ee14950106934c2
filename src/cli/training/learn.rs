//! How `train` and `compare` train: preset, settings, device.

use burn::tensor::Device;
use clap::{Args, ValueEnum};

#[cfg(not(feature = "train-cuda"))]
use super::usage;
use crate::cli::progress::Progress;
use crate::train::settings::{Method, Preset, TrainSettings};

/// Devices that training can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrainDevice {
    /// This machine's processor.
    Cpu,
    /// The first NVIDIA GPU; needs a build with `--features train-cuda`.
    Cuda,
}

/// How to train. Shared by `train` and `compare`.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    /// Preset of network size and number of steps.
    #[arg(long, value_enum, value_name = "PRESET", default_value_t = Preset::Quick)]
    pub preset: Preset,
    /// Optimiser steps [default: the preset's].
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Number of future frames in a window. 0 is causal, as live decoding requires; 16 of 32 is the published, centred
    /// window.
    #[arg(long, value_name = "FRAMES", default_value_t = 0)]
    pub look_ahead: usize,
    /// Set one training setting; repeatable. Example: --set augment.calcium.probability=0
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Device to train on.
    #[arg(long, value_enum, value_name = "DEVICE", default_value_t = TrainDevice::Cpu)]
    pub device: TrainDevice,
    /// Show a progress bar; `auto` shows it on a terminal.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// The settings that were asked for.
pub(super) fn settings(method: Method, seed: u64, learn: &LearnArgs) -> anyhow::Result<TrainSettings> {
    let mut settings = TrainSettings::preset(learn.preset, method, seed);
    if let Some(steps) = learn.steps {
        let share = settings.optimiser.warmup_steps as f64 / settings.steps as f64;
        settings.steps = steps;
        settings.validate_every = (steps / 15).max(1);
        settings.optimiser.warmup_steps = ((share * steps as f64) as usize).max(1);
    }
    settings.look_ahead_frames = learn.look_ahead;
    for assignment in &learn.set {
        settings.set(assignment)?;
    }
    settings.check()?;
    Ok(settings)
}

/// The device that was asked for; asked for and not there is an error, never a silent fall-back.
pub(super) fn device(asked: TrainDevice) -> anyhow::Result<Device> {
    match asked {
        TrainDevice::Cpu => Ok(Device::flex()),
        #[cfg(feature = "train-cuda")]
        TrainDevice::Cuda => cuda(),
        #[cfg(not(feature = "train-cuda"))]
        TrainDevice::Cuda => Err(usage(
            "--device cuda: this build has no CUDA training; build it with `cargo build --release --features \
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
