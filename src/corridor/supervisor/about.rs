//! The description that is written into a recorded session.
//!
//! Why it exists: the first model and every one that replaces it must be described in one way.

use anyhow::bail;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::model::{Manifest, ONNX};
use crate::session::recorder::About;
use crate::session::{CONFIG_TOML, MODEL_ONNX, MODEL_TOML};
use crate::sys::files::{read_bounded, sha256_of_bytes};
use crate::sys::revision::git_revision;

impl About {
    /// Describes a session that this model decodes: enough to run it again on another machine.
    ///
    /// # Errors
    /// When a file of the model cannot be read, or is not the one that was loaded.
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
            ("outputs", serde_json::to_string(&decoder.tag().outputs)?),
            ("deadline_ms", config.publish.deadline.as_millis().to_string()),
            ("frame_bytes_max", config.source.frame_bytes_max.to_string()),
            ("device", decoder.device().to_owned()),
            ("host", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ];
        let (found, text) = Manifest::read_with_text(&model.manifest_path)?;
        let onnx = read_bounded(&model.onnx_path, ONNX)?;
        // A training may write a new model under the old name at any time.
        if found != *manifest || !sha256_of_bytes(&onnx).eq_ignore_ascii_case(&manifest.sha256) {
            bail!("{}: was exchanged while it was being loaded; load it again", model.manifest_path.display());
        }
        Ok(Self {
            rig: config.rig.to_string(),
            facts: facts.map(|(key, value)| (key.to_owned(), value)).into(),
            attachments: vec![
                (MODEL_ONNX, "application/octet-stream", onnx),
                (MODEL_TOML, "application/toml", text.into_bytes()),
                (CONFIG_TOML, "application/toml", config.to_toml().into_bytes()),
            ],
        })
    }
}
