//! Where a subcommand's configuration comes from: file, environment, options; for a recorded session, the session's
//! own.

use std::path::PathBuf;

use clap::Args;

use crate::config::{self, Config, ConfigError, FILE_VARIABLE, NewSeries, Warning};
use crate::session::unpacked::Unpacked;

/// Options of every subcommand that has a configuration.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file, TOML [default: $HALTERE_CONFIG, else built-in values]; config/default.toml explains every
    /// key.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Manifest of the model, or the .onnx beside it; overrides `model` of the configuration.
    #[arg(long, short, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Set one key, overriding file and environment; repeatable. Example: --set publish.deadline_ms=500
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// Reads file, environment and options, and decides.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<(Config, Vec<Warning>), ConfigError> {
        let (mut config, warnings) = Config::load(self.config.as_deref(), config::environment(), &self.set)?;
        if let Some(model) = &self.model {
            config.model.clone_from(model);
        }
        Ok((config, warnings))
    }

    /// The configuration with which a session was recorded, under what was typed now; with the recorded model, unless
    /// another was typed.
    ///
    /// # Errors
    /// As [`ConfigArgs::load`].
    pub fn load_over(&self, session: &Unpacked) -> Result<(Config, Vec<Warning>), ConfigError> {
        let named = std::env::var_os(FILE_VARIABLE).is_some_and(|file| !file.is_empty());
        let (mut config, warnings) = if self.config.is_some() || named {
            self.load()?
        } else {
            Config::load_recorded(&session.config(), config::environment(), &self.set)?
        };
        config.model = self.model.clone().unwrap_or_else(|| session.model());
        // What a series meant live lies among the recorded requests.
        config.source.new_series = NewSeries::Keep;
        config.record.folder = None;
        Ok((config, warnings))
    }
}
