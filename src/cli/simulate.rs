//! `haltere simulate`: recordings of simulated animals with known truth.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::parse::seconds;
use super::progress::Progress;
use crate::simulate::Recipe;
use crate::simulate::write::{Format, Known, Order, dataset};
use crate::sys::exit::ExitCode;
use crate::sys::progress::{FRAMES, progress_bar};

/// `haltere simulate`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere simulate flies              8 animals, 2 trials of 240 s each, for `haltere train --mc2p flies`
  haltere simulate new --first-animal 9 --animals 1 --format tiff
                                      an animal that no model trained on `flies` has seen, as TIFF
  haltere simulate alike --set optics.rotation_deg_sd=0 --set optics.shift_px_sd=0
                                      every animal placed alike under the objective
  haltere simulate again --recipe flies/recipe.toml --seed 2 --format both
  haltere simulate known --truth activity,placement,motion
                                      also the light of every axon, the placement of every animal, its motion
  haltere simulate --show-recipe > recipe.toml
                                      every parameter with its default

All animals share the same actions and kinds of neurons. They differ in placement, cells, expression, limbs, \
gait and habits, which is what a decoder must generalise across; each difference is a parameter of the \
recipe.

Each trial is a folder in MC2P layout, OUT/fly_01/001: green.mm and red.mm (float32 counts), 2p_dff.mm, \
pose_3d.mm, targets.csv (walking speed and turning), indices.npy, rest.npy, and the ground truth: labels.csv by \
behaviour frame, truth.csv by two-photon frame. The same seed, recipe and numbers give the same bytes. To play a fly you need not write \
it: `haltere play sim:seed=1,animal=1,trial=1` sends exactly the frames of fly_01/001, and `haltere watch \
--truth sim:seed=1,animal=1,trial=1` knows what that fly does.")]
pub struct SimulateArgs {
    /// Output folder; must be empty or new unless --force is given.
    #[arg(value_name = "OUT", required_unless_present = "show_recipe")]
    pub out: Option<PathBuf>,
    /// Number of animals.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub animals: u64,
    /// Number of the first animal. An animal does not depend on which others are simulated with it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first_animal: u64,
    /// Number of trials per animal.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub trials: u64,
    /// Duration of a trial.
    #[arg(long, value_name = "S", default_value_t = crate::simulate::SECONDS_DEFAULT, value_parser = seconds)]
    pub seconds: f64,
    /// Seed of the population: another seed gives other animals of the same species.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Recipe of the animals, TOML; recipe.toml of an earlier simulation works, too.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Set one key of the recipe; repeatable. Example: --set neurons.missing=0
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Format of the frames; pose and ground truth are always written.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = SimulateFormat::Mc2p)]
    pub format: SimulateFormat,
    /// Also write what only the simulation knows: files truth_… in each trial's folder, which training does not read.
    #[arg(long, value_enum, value_name = "WHAT,…", value_delimiter = ',')]
    pub truth: Vec<Known>,
    /// Write into a folder that is not empty, overwriting trials of the same name.
    #[arg(long)]
    pub force: bool,
    /// Print the recipe and exit.
    #[arg(long)]
    pub show_recipe: bool,
    /// Show a progress bar; `auto` shows it on a terminal.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// Files of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SimulateFormat {
    /// Memory maps of the MC2P layout, for `train`.
    Mc2p,
    /// raw.tif with both channels, for `play`, `embed` and `calibrate`.
    Tiff,
    /// Both.
    Both,
}

impl From<SimulateFormat> for Format {
    fn from(format: SimulateFormat) -> Self {
        match format {
            SimulateFormat::Mc2p => Self::Mc2p,
            SimulateFormat::Tiff => Self::Tiff,
            SimulateFormat::Both => Self::Both,
        }
    }
}

/// Makes recordings.
///
/// # Errors
/// What is wrong with recipe or numbers, or the file that could not be written.
pub fn run(args: &SimulateArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::load(args.recipe.as_deref(), &args.set)?;
    if args.show_recipe {
        write!(out, "{}", toml::to_string(&recipe)?)?;
        return Ok(ExitCode::Ok);
    }
    let order = Order {
        out: args.out.as_deref().unwrap_or(Path::new(".")).to_owned(),
        animals: args.animals,
        first_animal: args.first_animal,
        trials: args.trials,
        seconds: args.seconds,
        seed: args.seed,
        recipe,
        format: args.format.into(),
        truth: args.truth.clone(),
        force: args.force,
    };
    let bar = progress_bar(Some(order.frames()), args.progress.is_shown(), FRAMES);
    let written = dataset(&order, &|frames| bar.inc(frames));
    bar.finish_and_clear();
    written?;
    let (animals, trials) = (order.animals, order.trials);
    writeln!(out, "{}: {animals} animals, {trials} trials of {} s each", order.out.display(), order.seconds)?;
    Ok(ExitCode::Ok)
}
