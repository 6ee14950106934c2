//! Writes simulated animals to disk: a folder in the MC2P layout for each trial, and raw TIFFs.
//!
//! Why it exists: training and other tools read files. What it must never do: leave an incomplete trial under its final name (a
//! trial is written as `NNN.part` and renamed), or overwrite unasked.

mod files;
mod tiff;
mod truth;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::behaviour::{ACTIONS, RESTING};
use super::recipe::{Recipe, RecipeError};
use super::spec::Spec;
use super::tissue::bilinear;
use super::trial::Trial;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{flush, rename, write_whole};

use self::files::{Output, npy_bool, npy_i64};
use self::tiff::TiffStack;
use self::truth::write_truth;

pub use self::truth::Known;

/// Frames of the moving average whose minimum is F₀, as in the published pipeline.
const AVERAGE_FRAMES: usize = 15;
/// Maximum number of animals or trials in one command.
const COUNT_MAX: u64 = 10_000;

/// Which files a trial gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `green.mm`, `red.mm`, `2p_dff.mm`.
    Mc2p,
    /// `raw.tif`.
    Tiff,
    /// All of them.
    Both,
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Order {
    /// Folder for the animals.
    pub out: PathBuf,
    /// Number of animals.
    pub animals: u64,
    /// Number of the first.
    pub first_animal: u64,
    /// Number of trials of each.
    pub trials: u64,
    /// Length of a trial, s.
    pub seconds: f64,
    /// Other seed, other animals.
    pub seed: u64,
    /// The parameters of the animals.
    pub recipe: Recipe,
    /// Which files.
    pub format: Format,
    /// What only the simulation knows, beside the actions, which are always written.
    pub truth: Vec<Known>,
    /// Write into a folder that is not empty.
    pub force: bool,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The recipe, or a number of the order.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The folder is not empty.
    #[error("{} is not empty; choose another folder, or use --force to overwrite files of the same name", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("{}: {cause}; choose another folder, or make room there", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

impl HasExitCode for WriteError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Recipe(error) => error.exit_code(),
            Self::Exists(_) | Self::File { .. } => ExitCode::Sink,
        }
    }
}

fn failed(path: &Path, cause: impl std::fmt::Display) -> WriteError {
    WriteError::File { path: path.into(), cause: cause.to_string() }
}

impl Order {
    /// Total number of two-photon frames, for a progress bar.
    pub fn frames(&self) -> u64 {
        let each = (self.seconds * self.recipe.optics.rate_hz) as u64;
        self.animals.saturating_mul(self.trials).saturating_mul(each)
    }

    fn spec(&self, animal: u64, trial: u64) -> Spec {
        Spec { seed: self.seed, animal, trial, seconds: self.seconds, recipe: self.recipe.clone() }
    }

    fn check(&self) -> Result<(), WriteError> {
        for (key, value) in [("animals", self.animals), ("trials", self.trials)] {
            if !(1..=COUNT_MAX).contains(&value) {
                let (key, value, high) = (key.to_owned(), value as f64, COUNT_MAX as f64);
                return Err(RecipeError::Bound { key, value, low: 1.0, high }.into());
            }
        }
        self.spec(1, 1).check()?;
        let holds_something = std::fs::read_dir(&self.out).is_ok_and(|mut entries| entries.next().is_some());
        if holds_something && !self.force {
            return Err(WriteError::Exists(self.out.clone()));
        }
        Ok(())
    }

    /// The recipe as used, and the order: enough to make the same data again.
    fn protocol(&self) -> Result<String, WriteError> {
        let path = self.out.join("recipe.toml");
        let mut table = toml::Table::try_from(&self.recipe).map_err(|e| failed(&path, e))?;
        let count = |n: u64| toml::Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        let mut simulation = toml::Table::new();
        // A TOML integer has 63 bits; a larger seed is kept as text.
        let seed = i64::try_from(self.seed).map_or(toml::Value::String(self.seed.to_string()), toml::Value::Integer);
        simulation.insert("seed".to_owned(), seed);
        simulation.insert("animals".to_owned(), count(self.animals));
        simulation.insert("first_animal".to_owned(), count(self.first_animal));
        simulation.insert("trials".to_owned(), count(self.trials));
        simulation.insert("seconds".to_owned(), toml::Value::Float(self.seconds));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        simulation.insert("haltere".to_owned(), toml::Value::String(version));
        table.insert("simulation".to_owned(), toml::Value::Table(simulation));
        toml::to_string(&table).map_err(|e| failed(&path, e))
    }
}

/// Writes every trial of every animal, several at a time; `progress` is called for each two-photon frame.
///
/// # Errors
/// What is wrong with the order, or the first file that could not be written.
pub fn dataset(order: &Order, progress: &(dyn Fn(u64) + Sync)) -> Result<(), WriteError> {
    order.check()?;
    std::fs::create_dir_all(&order.out).map_err(|e| failed(&order.out, e))?;
    let path = order.out.join("recipe.toml");
    write_whole(&path, order.protocol()?.as_bytes()).map_err(|e| failed(&path, e.cause))?;
    let animals = order.first_animal..order.first_animal.saturating_add(order.animals);
    let jobs: Vec<(u64, u64)> = animals.flat_map(|animal| (1..=order.trials).map(move |t| (animal, t))).collect();
    let (next, stop, error) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    let work = || {
        while let Some(&(animal, trial)) = jobs.get(next.fetch_add(1, Relaxed)).filter(|_| !stop.load(Relaxed)) {
            if let Err(e) = write_trial(order, animal, trial, progress) {
                stop.store(true, Relaxed);
                error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(e);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

fn write_trial(order: &Order, animal: u64, trial: u64, progress: &(dyn Fn(u64) + Sync)) -> Result<(), WriteError> {
    let name = |suffix: &str| order.out.join(format!("fly_{animal:02}")).join(format!("{trial:03}{suffix}"));
    let (folder, part) = (name(""), name(".part"));
    remove_folder(&part)?;
    std::fs::create_dir_all(&part).map_err(|e| failed(&part, e))?;
    let mut recording = Trial::new(&order.spec(animal, trial));
    write_frames(&mut recording, order.format, &part, progress)?;
    write_behaviour(&recording, &part)?;
    write_truth(&recording, &order.truth, &part)?;
    // The old trial goes only when the new one is safe on the disk.
    flush(&part).map_err(|e| failed(&part, e))?;
    remove_folder(&folder)?;
    rename(&part, &folder).map_err(|e| failed(&folder, e))
}

fn remove_folder(folder: &Path) -> Result<(), WriteError> {
    if !folder.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(folder).map_err(|e| failed(folder, e))
}

fn write_frames(
    trial: &mut Trial,
    format: Format,
    folder: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), WriteError> {
    let plane = trial.side_px().pow(2);
    let memory_maps = format != Format::Tiff;
    let file = |name: &str| memory_maps.then(|| Output::create(&folder.join(name))).transpose();
    let mut channels = [file("green.mm")?, file("red.mm")?];
    let mut stack = match format {
        Format::Mc2p => None,
        _ => Some(TiffStack::create(&folder.join("raw.tif"), trial.side_px(), trial.frames(), trial.rate_hz())?),
    };
    let mut baseline = Baseline::new(plane, AVERAGE_FRAMES.min(trial.frames()));
    let mut counts = vec![0u16; 2 * plane];
    for frame in 0..trial.frames() {
        trial.expose(frame, &mut counts);
        for (channel, output) in counts.chunks_exact(plane).zip(&mut channels) {
            if let Some(output) = output {
                output.write_f32(channel.iter().map(|&count| f32::from(count)))?;
            }
            if let Some(stack) = &mut stack {
                stack.write(channel)?;
            }
        }
        if memory_maps {
            baseline.take(&registered(trial, frame, &counts[..plane]));
        }
        progress(1);
    }
    channels.into_iter().flatten().try_for_each(Output::finish)?;
    if memory_maps { write_dff(trial, &baseline.lowest, folder) } else { Ok(()) }
}

/// Green light of one frame without dark level, moved back to the tissue's position: the result of perfect registration.
fn registered(trial: &Trial, frame: usize, green: &[u16]) -> Vec<f32> {
    let (side, [dy, dx]) = (trial.side_px(), trial.motion_px(frame));
    let dark = trial.dark_level() as f32;
    let light: Vec<f32> = green.iter().map(|&count| f32::from(count) - dark).collect();
    let at = |index: usize| [(index / side) as f64 + dy, (index % side) as f64 + dx];
    (0..light.len()).map(at).map(|[y, x]| bilinear(&light, side, y, x)).collect()
}

/// ΔF/F of the whole trial, from the frames that were just written. F₀ is at least one photon, so that dark pixels stay finite.
fn write_dff(trial: &Trial, lowest: &[f32], folder: &Path) -> Result<(), WriteError> {
    let mut green = files::Input::open(&folder.join("green.mm"), lowest.len())?;
    let mut dff = Output::create(&folder.join("2p_dff.mm"))?;
    let photon = trial.gain() as f32;
    for frame in 0..trial.frames() {
        let counts: Vec<u16> = green.next()?.iter().map(|&count| count as u16).collect();
        let light = registered(trial, frame, &counts);
        dff.write_f32(light.iter().zip(lowest).map(|(&f, &f0)| (f - f0) / f0.max(photon)))?;
    }
    dff.finish()
}

fn write_behaviour(trial: &Trial, folder: &Path) -> Result<(), WriteError> {
    let mut pose = Output::create(&folder.join("pose_3d.mm"))?;
    trial.pose(|values| pose.write_f32(values.iter().copied()))?;
    pose.finish()?;
    let actions = trial.actions();
    npy_i64(&folder.join("indices.npy"), trial.indices().iter().map(|&frame| frame as i64))?;
    npy_bool(&folder.join("rest.npy"), actions.iter().map(|&action| action == RESTING))?;
    write_labels(&folder.join("labels.csv"), &actions)?;
    write_labels(&folder.join("truth.csv"), &trial.action_of_frame())?;
    write_targets(&folder.join("targets.csv"), trial)
}

/// What a treadmill would measure, a row for each behaviour frame: walking speed, of which 1 is usual, and turning, of which the standard
/// deviation while walking is 1 and + is left; both 0 while the animal does not walk, though its speed takes a tenth of a second to fall.
fn write_targets(path: &Path, trial: &Trial) -> Result<(), WriteError> {
    let mut table = Output::create(path)?;
    table.write(b"speed,turning\n")?;
    for [speed, turning] in trial.locomotion() {
        table.write(format!("{speed},{turning}\n").as_bytes())?;
    }
    table.finish()
}

fn write_labels(path: &Path, actions: &[u8]) -> Result<(), WriteError> {
    let mut table = Output::create(path)?;
    table.write(b"frame,label\n")?;
    for (frame, &action) in actions.iter().enumerate() {
        table.write(format!("{frame},{}\n", ACTIONS[usize::from(action)]).as_bytes())?;
    }
    table.finish()
}

/// Per pixel, the smallest moving average of the frames taken so far.
struct Baseline {
    ring: Vec<Vec<f32>>,
    sums: Vec<f64>,
    taken: usize,
    lowest: Vec<f32>,
}

impl Baseline {
    fn new(pixels: usize, frames: usize) -> Self {
        Self {
            ring: vec![vec![0.0; pixels]; frames.max(1)],
            sums: vec![0.0; pixels],
            taken: 0,
            lowest: vec![f32::INFINITY; pixels],
        }
    }

    fn take(&mut self, light: &[f32]) {
        let frames = self.ring.len();
        let oldest = &mut self.ring[self.taken % frames];
        for ((sum, old), new) in self.sums.iter_mut().zip(oldest.iter_mut()).zip(light) {
            *sum += f64::from(*new) - f64::from(*old);
            *old = *new;
        }
        self.taken += 1;
        if self.taken >= frames {
            let means = self.sums.iter().map(|sum| (sum / frames as f64) as f32);
            self.lowest.iter_mut().zip(means).for_each(|(low, mean)| *low = low.min(mean));
        }
    }
}
