//! Model, preprocessing and encoder, made ready together: what every subcommand that decodes begins with.
//!
//! Why it exists: `run`, `embed` and `bench` must open a model in one way. What it must never do: open a socket.

use crate::config::Config;
use crate::encode::Encoder;
use crate::frame::FIRST_GENERATION;
use crate::model::{Manifest, Model};
use crate::pipeline::{DriftSettings, PreviewSettings, Settings};
use crate::preprocess::{self, Preprocess};
use crate::publish::zmq::ModelTag;

/// When the model's drift is told, in its frames.
pub fn drift_of(manifest: &Manifest) -> Option<DriftSettings> {
    manifest.drift.map(|drift| DriftSettings {
        time_constant_frames: drift.time_constant_s * manifest.frame_rate_hz,
        limit: drift.limit,
    })
}

/// Everything that turns frames into embeddings, warmed.
pub struct Decoder {
    /// The model with its manifest.
    pub model: Model,
    /// Frame to tensor.
    pub preprocess: Box<dyn Preprocess>,
    /// Tensor to embedding.
    pub encoder: Encoder,
}

impl Decoder {
    /// Loads and verifies the model of the configuration, opens ONNX Runtime, builds the preprocessing.
    ///
    /// # Errors
    /// Whatever is wrong with the model, ONNX Runtime or the device.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let model = Model::load(&config.model)?;
        model.refuse_ready_made(config.accept_ready_made_input)?;
        let manifest = &model.manifest;
        let encoder = Encoder::open(&model, config.compute.onnxruntime.as_deref(), config.compute.threads)?;
        let preprocess =
            preprocess::build(&manifest.preprocess, manifest.input, manifest.frame_rate_hz, config.compute.device)?;
        Ok(Self { model, preprocess, encoder })
    }

    /// What the corridor must know of model and configuration.
    pub fn settings(&self, config: &Config) -> Settings {
        let manifest = &self.model.manifest;
        Settings {
            lane: config.lane,
            realtime: config.realtime.clone(),
            new_series: config.source.new_series,
            end_with_series: None,
            decodes_actions: self.model.decodes_actions(),
            window_frames: manifest.window_frames * manifest.preprocess.average_frames,
            drift: drift_of(manifest),
            preview: config.publish.preview_every.map(|every| PreviewSettings { every, input: manifest.input }),
            needed_hz: manifest.frame_rate_hz * manifest.preprocess.average_frames as f64,
        }
    }

    /// How the model is named in decodes.
    pub fn tag(&self) -> ModelTag {
        let manifest = &self.model.manifest;
        ModelTag {
            name: manifest.name.clone(),
            sha256: manifest.sha256.clone(),
            generation: FIRST_GENERATION,
            labels: manifest.labels.clone(),
            embedding: manifest.embedding,
            trained: manifest.provenance.trained,
        }
    }
}
