//! From files on disk to a [`Dataset`].
//!
//! Why it exists: training works on plain trials; formats, synchrony, labels, masks and preprocessing are handled here once, and
//! everything wrong with a recording is reported before training starts. What it must never do: convert a user's files, run a
//! pickle, or preprocess differently from the daemon.
//!
//! [`DataSpec`] lists the files, from a `dataset.toml` ([`DataSpec::from_toml`]) or by walking MC2P folders ([`DataSpec::mc2p`]);
//! [`load`] reads and checks the small files of all trials, then prepares the frames, two trials at a time, into a cache.

#![allow(clippy::result_large_err, reason = "loading fails once, on a cold path, and its errors name many things")]

pub mod axon_light;
pub mod imports;
mod missing_frames;
pub mod trials;

mod arrays;
mod assemble;
mod atlas;
mod cache;
mod checks;
mod consistency;
mod error;
mod frames;
mod inspect;
mod labels;
mod mc2p;
mod npy;
mod own_times;
mod prepare;
mod recipe;
mod row_clock;
mod sheet;
mod spec;
mod synchrony;
mod table;
mod target_rows;
mod targets;
#[cfg(test)]
mod tests;
mod thorsync;
mod toml_spec;
mod voltage;
mod warning;
mod whole;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use self::assemble::{Read, assemble};
use self::cache::Cache;
use self::prepare::{Prepared, Recipe, prepare};
use self::spec::TrialSpec;
use self::trials::Dataset;
use crate::frame::Shape;
use crate::model::parameters::Parameters;

pub use self::atlas::with_atlas;
pub use self::error::{DatasetError, LabelFault};
pub use self::inspect::{ColumnFacts, TrialFacts, inspect};
pub use self::mc2p::Mc2pOptions;
pub use self::recipe::training_parameters;
pub use self::spec::DataSpec;
pub use self::targets::{TARGETS_MAX, Target};
pub use self::toml_spec::schema;
pub use self::warning::DataWarning;

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// One model frame; `None` = as many channels as preprocessing chooses, a square of `side_px_max` (of the frames' own size when smaller).
    pub input: Option<Shape>,
    /// Side of a model frame where `input` is `None`, px.
    pub side_px_max: usize,
    /// Preprocessing; overrides that of the description. Without either, [`training_parameters`].
    pub parameters: Option<Parameters>,
    /// Single parameters in place of those of the description or the defaults, `key=value`; not beside `parameters`.
    pub set: Vec<String>,
    /// Only these animals; empty = all.
    pub animals: Vec<String>,
    /// Without these animals.
    pub leave_out: Vec<String>,
    /// Cache folder; `None` = `.haltere-cache` beside the data, or in the working directory when that cannot be written.
    pub cache: Option<PathBuf>,
    /// Do not warn of animals that never show some actions.
    pub accept_missing_classes: bool,
    /// Frames of a window, to find trials that are too short.
    pub window_frames: usize,
    /// Trials prepared at once.
    pub threads: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            input: None,
            side_px_max: recipe::SIDE_PX,
            parameters: None,
            set: Vec::new(),
            animals: Vec::new(),
            leave_out: Vec::new(),
            cache: None,
            accept_missing_classes: false,
            window_frames: 32,
            threads: 2,
        }
    }
}

/// How far the preparation of frames is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The trial that progressed.
    pub trial: &'a str,
    /// Its frames were found in the cache.
    pub cached: bool,
    /// Two-photon frames done, over all trials.
    pub frames_done: u64,
    /// Two-photon frames of all trials.
    pub frames_total: u64,
}

/// Loads a data set: checks everything, prepares the frames (or finds them in the cache), and returns plain trials.
///
/// # Errors
/// Any [`DatasetError`]; faults of several trials are reported together.
pub fn load(
    spec: &DataSpec,
    options: &LoadOptions,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<(Dataset, Vec<DataWarning>), DatasetError> {
    let mut warnings = spec.warnings.clone();
    let trials = checks::chosen(spec, options)?;
    let labels = checks::label_names(spec)?;
    let (recipe, probes) = recipe::settle(spec, &trials, options)?;
    warnings.extend(recipe::squeezed(&trials, &probes, &recipe));
    let read = read_all(spec, &trials, &probes, &recipe, &labels, &mut warnings)?;
    let facts = inspect::facts(spec, (&trials, &probes), &recipe, &labels, &read);
    let (cache, elsewhere) = Cache::open(&spec.home, options.cache.as_deref())?;
    warnings.extend(elsewhere);
    let prepared = prepare_all(&trials, &recipe, &read, &cache, options.threads, progress);
    // Also after an error: what was hashed need not be hashed again.
    cache.remember();
    let prepared = prepared?;
    consistency::finite_frames(&trials, &prepared)?;
    let mut dataset = assemble(spec, &trials, &recipe, labels, read, prepared, &mut warnings);
    dataset.data.facts = facts;
    consistency::after(&dataset, options, &mut warnings)?;
    Ok((dataset.data, warnings))
}

/// Everything but the frames, of every trial.
fn read_all(
    spec: &DataSpec,
    trials: &[&TrialSpec],
    probes: &[frames::Probe],
    recipe: &Recipe,
    labels: &[String],
    warnings: &mut Vec<DataWarning>,
) -> Result<Vec<Read>, DatasetError> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for (trial, probe) in trials.iter().zip(probes) {
        match assemble::read(trial, probe, (spec, recipe.frame_rate_hz), labels, warnings) {
            Ok(read) => all.push(read),
            Err(error) => errors.push(error),
        }
    }
    DatasetError::gathered(errors)?;
    consistency::same_columns(trials, &all)?;
    Ok(all)
}

/// The frames of every trial, `threads` trials at a time.
fn prepare_all(
    trials: &[&TrialSpec],
    recipe: &Recipe,
    read: &[Read],
    cache: &Cache,
    threads: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Vec<Prepared>, DatasetError> {
    let frames_total = read.iter().map(|r| r.frames as u64).sum();
    let done = AtomicU64::new(0);
    let one = |(trial, read): (&&TrialSpec, &Read)| {
        let tick = |frames: u64, cached: bool| {
            let frames_done = done.fetch_add(frames, Ordering::Relaxed) + frames;
            progress(Progress { trial: &trial.name, cached, frames_done, frames_total });
        };
        prepare(trial, recipe, read.frames, cache, &tick)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    let pool = pool.map_err(|e| DatasetError::file(std::path::Path::new("threads"), e))?;
    let all: Vec<Result<Prepared, DatasetError>> =
        pool.install(|| trials.par_iter().zip(read.par_iter()).map(one).collect());
    let (mut prepared, mut errors) = (Vec::new(), Vec::new());
    for result in all {
        match result {
            Ok(one) => prepared.push(one),
            Err(error) => errors.push(error),
        }
    }
    DatasetError::gathered(errors)?;
    Ok(prepared)
}
