//! Another model for a running daemon: load, check, warm, hand over.
//!
//! Why it exists: a model that was calibrated while the animal waits must go in without stopping the loop, and a wrong one must
//! be refused while the old one runs on. What it must never do: accept a model whose decodes subscribers would misread.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::config::Config;
use crate::corridor::{Handles, Swap};
use crate::decoder::Decoder;
use crate::frame::FIRST_GENERATION;
use crate::model::Manifest;
use crate::session::recorder::About;

/// Why a model is refused.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// It cannot be opened.
    #[error("{0:#}; the previous model keeps running")]
    Open(anyhow::Error),
    /// It is another kind of model.
    #[error(
        "the new model's {what} is {new}, the running one's {old}: subscribers would misread its decodes; restart the daemon \
         with it instead. The previous model keeps running"
    )]
    Differs {
        /// Which property.
        what: &'static str,
        /// Of the new model.
        new: String,
        /// Of the old one.
        old: String,
    },
    /// A file of a session holds one model.
    #[error(
        "a session is being recorded, and a session file holds only one model: send `record stop`, then `model`, then `record start`"
    )]
    Recording,
    /// One at a time.
    #[error("another model is still warming up beside the running one: wait for the event `swapped`")]
    UnderWay,
}

/// What a swap must know of the daemon.
pub struct Swapper {
    config: Config,
    handles: Handles,
    /// Locked for moments only: never while a file is read.
    models: Mutex<Models>,
}

/// The models of a run, as far as their fate is known.
struct Models {
    /// The one that decodes.
    running: Manifest,
    /// One that was handed over, with its generation.
    on_trial: Option<(Manifest, u64)>,
    /// The newest generation given to anything; none is given twice, not even after a failure.
    newest: u64,
}

impl Models {
    /// Learns how a trial ended, if it did.
    fn settle(&mut self, handles: &Handles) {
        let ended = |(_, generation): &mut (Manifest, u64)| handles.stats.trial_of(*generation).is_some();
        if let Some((manifest, generation)) = self.on_trial.take_if(ended)
            && handles.stats.trial_of(generation) == Some(true)
        {
            self.running = manifest;
        }
    }
}

impl Swapper {
    /// For a daemon that began with the model of `manifest`.
    pub fn new(config: &Config, handles: &Handles, manifest: &Manifest) -> Self {
        let models = Models { running: manifest.clone(), on_trial: None, newest: FIRST_GENERATION };
        Self { config: config.clone(), handles: handles.clone(), models: Mutex::new(models) }
    }

    /// Loads, checks and warms the model at `path`, and hands it to the corridor. Takes as long as it takes: not for a thread
    /// that others wait for.
    ///
    /// # Errors
    /// [`SwapError`]; the previous model keeps running.
    pub fn swap(&self, path: &Path) -> Result<Value, SwapError> {
        let recorder = self.handles.recorder.as_ref();
        if recorder.is_some_and(|recorder| recorder.is_open()) {
            return Err(SwapError::Recording);
        }
        if self.settled().on_trial.is_some() {
            return Err(SwapError::UnderWay);
        }
        let config = Config { model: path.to_owned(), ..self.config.clone() };
        let decoder = Decoder::open(&config).map_err(SwapError::Open)?;
        let about = recorder.map(|_| About::of(&config, &decoder)).transpose().map_err(SwapError::Open)?;
        let manifest = decoder.model().manifest.clone();
        let (name, sha256) = (manifest.name.clone(), manifest.sha256.clone());
        // Between here and the end nothing waits: the corridor may not change models meanwhile, as there is none on trial.
        let mut models = self.settled();
        must_equal(&manifest, &models.running)?;
        let (same_input, generation) = (manifest.preprocess == models.running.preprocess, models.newest + 1);
        models.newest = generation;
        if let (Some(recorder), Some(about)) = (recorder, about) {
            // Known before its first decode can come.
            recorder.describe(generation, about);
        }
        let swap = Swap::new(decoder.with_generation(generation), same_input);
        self.handles.swaps.push(Box::new(swap)).map_err(|_| SwapError::UnderWay)?;
        models.on_trial = Some((manifest, generation));
        let warms = if same_input { "one window" } else { "its own preprocessing and one window" };
        Ok(json!({ "ok": true, "model": name, "sha256": sha256, "generation": generation, "takes_over_after": warms }))
    }

    /// The name of the model that decodes.
    pub fn running(&self) -> String {
        self.settled().running.name.clone()
    }

    /// Name and generation of a model on trial.
    pub fn on_trial(&self) -> Option<(String, u64)> {
        self.settled().on_trial.as_ref().map(|(manifest, generation)| (manifest.name.clone(), *generation))
    }

    fn settled(&self) -> MutexGuard<'_, Models> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.settle(&self.handles);
        models
    }
}

fn must_equal(new: &Manifest, old: &Manifest) -> Result<(), SwapError> {
    let differs =
        |what, new: String, old: String| if new == old { Ok(()) } else { Err(SwapError::Differs { what, new, old }) };
    differs("labels", new.labels.join(", "), old.labels.join(", "))?;
    let outputs = |m: &Manifest| m.outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>().join(", ");
    differs("outputs", outputs(new), outputs(old))?;
    differs("embedding", new.embedding.to_string(), old.embedding.to_string())?;
    differs("input", new.input.to_string(), old.input.to_string())?;
    differs("frame rate", format!("{} Hz", new.stream_rate_hz()), format!("{} Hz", old.stream_rate_hz()))?;
    differs("look-ahead", format!("{} frames", new.look_ahead_frames), format!("{} frames", old.look_ahead_frames))?;
    let window = |m: &Manifest| format!("{} frames of the stream", m.stream_window_frames());
    differs("window", window(new), window(old))
}
