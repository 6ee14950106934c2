//! Model, preprocessing and network, made ready together: what every subcommand that decodes begins with.

use super::believed::Believed;
use super::{Decoder, Network};
use crate::config::{Compute, Config, Device};
use crate::encode::{EncodeError, Encoder, Place};
use crate::model::Model;
use crate::preprocess::{self, Chosen};

impl Decoder {
    /// Loads and verifies the model of the configuration, opens ONNX Runtime, builds the preprocessing.
    ///
    /// # Errors
    /// Whatever is wrong with the model, ONNX Runtime or the device.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let model = Model::load(&config.model)?;
        model.refuse_ready_made(config.accept_ready_made_input)?;
        let chosen = preprocess::choose(config.compute.device, &model.manifest.preprocess)?;
        match Self::open_on(&model, &config.compute, &chosen) {
            // Preprocessing on a device and encoding on the CPU would be slower than either; so `auto` takes neither half.
            Err(error) if config.compute.device == Device::Auto && is_of_a_device(&error) => {
                let why = format!("{error:#}");
                Self::open_on(&model, &config.compute, &Chosen::cpu(why))
            }
            opened => opened,
        }
    }

    /// A model that was loaded before, where it was chosen to run.
    ///
    /// # Errors
    /// Whatever is wrong with the model, ONNX Runtime or the device.
    pub fn open_on(model: &Model, compute: &Compute, chosen: &Chosen) -> anyhow::Result<Self> {
        let manifest = &model.manifest;
        let encoder = Encoder::open_on(model, compute.onnxruntime.as_deref(), &place(compute, chosen))?;
        let preprocess = preprocess::build_on(&manifest.preprocess, manifest.input, manifest.frame_rate_hz, chosen)?;
        let network = Network::new(encoder, manifest.tag(), manifest.preprocess.average_frames);
        let believed = Believed::new(network.new_embedding());
        Ok(Self { model: model.clone(), preprocess, network, believed, on_device: chosen.machine.is_some() })
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
