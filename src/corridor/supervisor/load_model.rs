//! Another model for a running daemon: load, check, warm, hand over.
//!
//! Why it exists: a model that was calibrated while the animal waits must go in without stopping the loop, and a wrong one must
//! be refused while the old one runs on. What it must never do: accept a model whose decodes subscribers would misread.

use std::path::Path;
use std::sync::Mutex;

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
    /// Of the newest model handed over, its generation, and whether every model so far wanted the preprocessing of the first. One
    /// that did not may have taken over or failed in the shadow, and nobody here knows: from then on each brings its own.
    newest: Mutex<(Manifest, u64, bool)>,
}

impl Swapper {
    /// For a daemon that began with the model of `manifest`.
    pub fn new(config: &Config, handles: &Handles, manifest: &Manifest) -> Self {
        Self {
            config: config.clone(),
            handles: handles.clone(),
            newest: Mutex::new((manifest.clone(), FIRST_GENERATION, true)),
        }
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
        let config = Config { model: path.to_owned(), ..self.config.clone() };
        let decoder = Decoder::open(&config).map_err(SwapError::Open)?;
        let manifest = decoder.model().manifest.clone();
        let mut newest = self.newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (old, generation) = (&newest.0, newest.1 + 1);
        must_equal(&manifest, old)?;
        let same_input = newest.2 && manifest.preprocess == old.preprocess;
        let about = recorder.map(|_| About::of(&config, &decoder)).transpose().map_err(SwapError::Open)?;
        let (name, sha256) = (manifest.name.clone(), manifest.sha256.clone());
        let swap = Swap::new(decoder.with_generation(generation), same_input);
        self.handles.swaps.push(Box::new(swap)).map_err(|_| SwapError::UnderWay)?;
        *newest = (manifest, generation, same_input);
        if let (Some(recorder), Some(about)) = (recorder, about) {
            recorder.describe(about);
        }
        let warms = if same_input { "one window" } else { "its own preprocessing and one window" };
        Ok(json!({ "ok": true, "model": name, "sha256": sha256, "generation": generation, "takes_over_after": warms }))
    }
}

fn must_equal(new: &Manifest, old: &Manifest) -> Result<(), SwapError> {
    let differs =
        |what, new: String, old: String| if new == old { Ok(()) } else { Err(SwapError::Differs { what, new, old }) };
    differs("labels", new.labels.join(", "), old.labels.join(", "))?;
    differs("embedding", new.embedding.to_string(), old.embedding.to_string())?;
    differs("input", new.input.to_string(), old.input.to_string())?;
    differs("frame rate", format!("{} Hz", new.stream_rate_hz()), format!("{} Hz", old.stream_rate_hz()))?;
    differs("look-ahead", format!("{} frames", new.look_ahead_frames), format!("{} frames", old.look_ahead_frames))?;
    let window = |m: &Manifest| format!("{} frames of the stream", m.stream_window_frames());
    differs("window", window(new), window(old))
}
