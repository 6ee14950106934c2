//! From a trial's frames to the model's input: exactly the frames that `run` would give the encoder.
//!
//! Why it exists: training must see what runs, so raw frames go through the daemon's own preprocessing, in order, restarted for
//! each trial, and the requests recorded in a session are repeated. What it must never do: do arithmetic of its own on raw frames.
//!
//! Ready-made ΔF/F is not raw: it is scaled to mean 0 and standard deviation 1 per pixel over the whole trial, and, if larger by
//! an integer factor, reduced by area means. Pixels that are NaN in every frame (the padding of a registered movie) become 0; a
//! frame with NaN elsewhere is left out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::cache::{Cache, Notes, Writer};
use super::error::DatasetError;
use super::frames::{self, broken};
use super::spec::{Neural, TrialSpec};
use super::trials::FrameStore;
use crate::config::Device;
use crate::frame::{Frame, Observation, Shape, Tensor};
use crate::model::parameters::Parameters;
use crate::preprocess;
use crate::sys::denormals::flushed;

/// Minimum standard deviation that ready-made ΔF/F is divided by.
const SD_FLOOR: f64 = 1e-6;

/// The preparation of the frames of every trial.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    /// The daemon's parameters; `None` for ready-made ΔF/F.
    pub parameters: Option<Parameters>,
    /// One model frame.
    pub input: Shape,
    /// Two-photon frames per second, before averaging.
    pub frame_rate_hz: f64,
    /// Model frames of a window.
    pub window_frames: usize,
}

impl Recipe {
    /// Model frames per second.
    pub fn model_rate_hz(&self) -> f64 {
        self.frame_rate_hz / self.parameters.as_ref().map_or(1, |p| p.average_frames) as f64
    }
}

/// The model frames of one trial.
#[derive(Debug)]
pub(super) struct Prepared {
    pub store: FrameStore,
    pub notes: Notes,
    /// Cache key of the content they were made from.
    pub key: String,
}

/// Prepares a trial, or finds it in the cache. `tick(frames done, cached)` reports progress.
pub(super) fn prepare(
    trial: &TrialSpec,
    recipe: &Recipe,
    frames: usize,
    cache: &Cache,
    tick: &dyn Fn(u64, bool),
) -> Result<Prepared, DatasetError> {
    let key = key(trial, recipe, cache)?;
    let pixels = recipe.input.pixels();
    if let Some((store, notes)) = cache.find(&key, pixels) {
        tick(frames as u64, true);
        return Ok(Prepared { store, notes, key });
    }
    let mut writer = cache.write(&key, &trial.name, (frames * pixels * 4) as u64)?;
    let notes = match (&recipe.parameters, &trial.neural) {
        (None, Neural::Ready { path, frames, height, width, data_at }) => {
            let movie = Movie { path, frames: *frames, height: *height, width: *width, data_at: *data_at };
            movie.standardise(recipe.input, &mut writer, tick)?
        }
        (Some(parameters), _) => flushed(|| preprocessed(trial, parameters, recipe, frames, &mut writer, tick))?,
        (None, _) => return Err(broken(trial, 0, "raw frames need preprocessing parameters")),
    };
    Ok(Prepared { store: writer.finish(&notes)?, notes, key })
}

fn key(trial: &TrialSpec, recipe: &Recipe, cache: &Cache) -> Result<String, DatasetError> {
    let (files, how) = frames::files(trial)?;
    let mut parts = vec![how, recipe.input.to_string(), recipe.frame_rate_hz.to_bits().to_string()];
    let parameters = recipe.parameters.as_ref().map(serde_json::to_string).transpose();
    parts.push(parameters.map_err(|e| broken(trial, 0, e))?.unwrap_or_default());
    for file in files {
        parts.push(cache.sha256(&file)?);
    }
    Ok(Cache::key(&parts))
}

/// Drives the daemon's preprocessing as its compute thread does: requests that a session recorded before a frame are repeated, and
/// a frame of a session that preprocessing rejects is skipped, as it was live.
fn preprocessed(
    trial: &TrialSpec,
    parameters: &Parameters,
    recipe: &Recipe,
    frames: usize,
    writer: &mut Writer<'_>,
    tick: &dyn Fn(u64, bool),
) -> Result<Notes, DatasetError> {
    let mut steps = preprocess::build(parameters, recipe.input, recipe.model_rate_hz(), Device::Cpu)?;
    let mut source = frames::open(trial, Some(recipe.frame_rate_hz))?;
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    let mut notes = Notes { pixels: recipe.input.pixels(), ..Notes::default() };
    let recorded_live = frames::session(trial).is_some();
    let (mut number, mut damaged, mut refusal) = (0, false, None);
    while number <= frames as u64 && frames::pull(trial, source.as_mut(), &mut frame, number)? {
        for request in source.requests().iter() {
            if request.begins_animal() {
                notes.resets.push(number as u32);
            }
            steps.request(request);
        }
        let prepared = match steps.apply(&frame) {
            Ok(prepared) => prepared,
            Err(why) if recorded_live => {
                refusal.get_or_insert(why);
                notes.refused += 1;
                number += 1;
                tick(1, false);
                continue;
            }
            Err(refusal) => return Err(broken(trial, number, refusal)),
        };
        let seen = prepared.observation;
        damaged |= notes.observe(number, &seen);
        notes.restarts.extend(seen.restart.map(|_| number as u32));
        if let Some(Tensor::Host(values)) = prepared.tensor {
            writer.frame(values)?;
            notes.last_frame.push(number as u32);
            notes.usable.push(!seen.warming_up && !seen.on_trial() && !damaged);
            notes.warmup += usize::from(seen.warming_up);
            notes.non_finite += usize::from(std::mem::take(&mut damaged));
        }
        number += 1;
        tick(1, false);
    }
    if number != frames as u64 {
        return Err(broken(
            trial,
            number,
            format!("the recording ends here, but announced {frames} frames: it is truncated"),
        ));
    }
    match refusal {
        Some(why) if notes.refused == frames => {
            Err(broken(trial, 0, format!("like all {frames} frames of the session, it is refused: {why}")))
        }
        _ => Ok(notes),
    }
}

impl Notes {
    /// Notes what was observed on a two-photon frame; true when its pixels are damaged.
    fn observe(&mut self, number: u64, seen: &Observation) -> bool {
        if seen.distrust.is_some() {
            self.distrusted.push(number as u32);
            return false;
        }
        self.at_bound += usize::from(seen.shift_at_bound);
        seen.non_finite_pixels > 0
    }
}

/// A movie of ready-made ΔF/F.
struct Movie<'a> {
    path: &'a Path,
    frames: usize,
    height: usize,
    width: usize,
    data_at: usize,
}

impl Movie<'_> {
    /// Two passes: statistics, then frames.
    fn standardise(
        &self,
        input: Shape,
        writer: &mut Writer<'_>,
        tick: &dyn Fn(u64, bool),
    ) -> Result<Notes, DatasetError> {
        let pixels = input.pixels();
        let (mut count, mut mean, mut m2) = (vec![0u32; pixels], vec![0f64; pixels], vec![0f64; pixels]);
        let mut image = vec![0f32; pixels];
        self.each(input, &mut image, |image| {
            for (p, &value) in image.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                count[p] += 1;
                let distance = f64::from(value) - mean[p];
                mean[p] += distance / f64::from(count[p]);
                m2[p] += distance * (f64::from(value) - mean[p]);
            }
            Ok(())
        })?;
        let sd = |p: usize| (m2[p] / f64::from(count[p].max(1))).sqrt().max(SD_FLOOR);
        let mut notes = Notes { pixels, ..Notes::default() };
        self.each(input, &mut image, |image| {
            let damaged = image.iter().zip(&count).any(|(v, &n)| n > 0 && !v.is_finite());
            for (p, value) in image.iter_mut().enumerate() {
                let known = value.is_finite();
                *value = if known { ((f64::from(*value) - mean[p]) / sd(p)) as f32 } else { 0.0 };
            }
            writer.frame(image)?;
            notes.last_frame.push(notes.usable.len() as u32);
            notes.usable.push(!damaged);
            notes.non_finite += usize::from(damaged);
            tick(1, false);
            Ok(())
        })?;
        Ok(notes)
    }

    /// Every frame in order, at the model's size.
    fn each(
        &self,
        input: Shape,
        image: &mut [f32],
        mut take: impl FnMut(&mut [f32]) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let failed = |e: std::io::Error| DatasetError::file(self.path, e);
        let file = File::open(self.path).map_err(failed)?;
        let frame_bytes = self.height * self.width * 4;
        let mut bytes = vec![0; frame_bytes];
        let factor = self.height / input.height;
        for frame in 0..self.frames {
            file.read_exact_at(&mut bytes, (self.data_at + frame * frame_bytes) as u64).map_err(failed)?;
            reduce(&bytes, self.width, factor, input.width, image);
            take(image)?;
        }
        Ok(())
    }
}

/// Means over squares of `factor` × `factor` px. NaN stays NaN.
fn reduce(bytes: &[u8], width: usize, factor: usize, columns: usize, image: &mut [f32]) {
    let value = |at: usize| f64::from(f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    for (index, pixel) in image.iter_mut().enumerate() {
        let (top, left) = (index / columns * factor, index % columns * factor);
        let square = (0..factor).flat_map(|y| (0..factor).map(move |x| (top + y) * width + left + x));
        let sum: f64 = square.map(|at| value(4 * at)).sum();
        *pixel = (sum / (factor * factor) as f64) as f32;
    }
}
