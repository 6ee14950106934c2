//! The description that is written into a recorded session.
//!
//! Why it exists: the first model and every one that replaces it must be described in one way.

use std::path::Path;

use anyhow::Context;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::session::recorder::About;
use crate::session::{CONFIG_TOML, MODEL_ONNX, MODEL_TOML};
use crate::sys::revision::git_revision;

impl About {
    /// Describes a session: enough to run it again on another machine.
    ///
    /// # Errors
    /// When a file of the model cannot be read.
    pub(super) fn of(config: &Config, decoder: &Decoder) -> anyhow::Result<Self> {
        let model = decoder.model();
        let manifest = &model.manifest;
        let facts = [
            ("haltere", env!("CARGO_PKG_VERSION").to_owned()),
            ("git_revision", git_revision()),
            ("rig", config.rig.to_string()),
            ("model", manifest.name.clone()),
            ("model_sha256", manifest.sha256.clone()),
            ("labels", serde_json::to_string(&manifest.labels)?),
            ("deadline_ms", config.publish.deadline.as_millis().to_string()),
            ("frame_bytes_max", config.source.frame_bytes_max.to_string()),
            ("device", decoder.device().to_owned()),
            ("host", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ];
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        Ok(Self {
            rig: config.rig.to_string(),
            facts: facts.map(|(key, value)| (key.to_owned(), value)).into(),
            attachments: vec![
                (MODEL_ONNX, "application/octet-stream", read(&model.onnx_path)?),
                (MODEL_TOML, "application/toml", read(&model.manifest_path)?),
                (CONFIG_TOML, "application/toml", config.to_toml().into_bytes()),
            ],
        })
    }
}
