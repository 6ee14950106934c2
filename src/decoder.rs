//! Model, preprocessing and encoder, made ready together: what every subcommand that decodes begins with.
//!
//! Why it exists: `run`, `embed` and `bench` must open a model in one way. What it must never do: open a socket.

use crate::config::{Compute, Config, Device, OnDeviceFault};
use crate::corridor::{DriftSettings, PreviewSettings, Settings, Standby};
use crate::encode::{EncodeError, Encoder, Place};
use crate::frame::{FIRST_GENERATION, ModelTag};
use crate::model::{Manifest, Model};
use crate::preprocess::{self, Chosen, Preprocess};

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
    /// Do both run on a device?
    pub on_device: bool,
}

impl Decoder {
    /// Loads and verifies the model of the configuration, opens ONNX Runtime, builds the preprocessing.
    ///
    /// # Errors
    /// Whatever is wrong with the model, ONNX Runtime or the device.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let model = Model::load(&config.model)?;
        model.refuse_ready_made(config.accept_ready_made_input)?;
        let chosen = preprocess::choose(config.compute.device, &model.manifest.preprocess)?;
        match Self::open_on(config, &model, &chosen) {
            // Preprocessing on a device and encoding on the CPU would be slower than either; so `auto` takes neither half.
            Err(error) if config.compute.device == Device::Auto && is_of_a_device(&error) => {
                let why = format!("{error:#}");
                Self::open_on(config, &model, &Chosen::cpu(why))
            }
            opened => opened,
        }
        .map(|(preprocess, encoder, on_device)| Self { model, preprocess, encoder, on_device })
    }

    fn open_on(
        config: &Config,
        model: &Model,
        chosen: &Chosen,
    ) -> anyhow::Result<(Box<dyn Preprocess>, Encoder, bool)> {
        let (manifest, compute) = (&model.manifest, &config.compute);
        let place = place(compute, chosen);
        let encoder = Encoder::open_on(model, compute.onnxruntime.as_deref(), &place)?;
        let preprocess = preprocess::build_on(&manifest.preprocess, manifest.input, manifest.frame_rate_hz, chosen)?;
        Ok((preprocess, encoder, chosen.machine.is_some()))
    }

    /// What takes over when the device fails, if the configuration wants that.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn standby(&self, config: &Config) -> anyhow::Result<Option<Box<Standby>>> {
        if !self.on_device || config.compute.on_device_fault == OnDeviceFault::Stop {
            return Ok(None);
        }
        let why = "the device that was chosen failed";
        let (preprocess, encoder, _) = Self::open_on(config, &self.model, &Chosen::cpu(why))?;
        Ok(Some(Box::new(Standby { preprocess, encoder })))
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
            pulse: config.compute.pulse.filter(|_| self.on_device),
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

/// Where a model runs that was chosen to run there.
pub fn place(compute: &Compute, chosen: &Chosen) -> Place {
    Place { threads: compute.threads, machine: chosen.machine.clone(), graph: compute.encoder_graph }
}

/// Would the CPU have done?
fn is_of_a_device(error: &anyhow::Error) -> bool {
    error.downcast_ref::<EncodeError>().is_some_and(EncodeError::is_of_a_device)
        || matches!(error.downcast_ref(), Some(preprocess::BuildError::Device(_)))
}
