//! What can be done with a recorded session after the run: run it again, compare, export, report.
//!
//! Why it exists: a recording is trusted when its replay says the same, bit for bit. What it must never do: decode in a way of its
//! own; a session is run again by `embed`'s corridor, with the model and the configuration that lie in the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::ConfigArgs;
use crate::config::{Config, FILE_VARIABLE, NewSeries, Warning};
use crate::model::Manifest;
use crate::session::{CONFIG_TOML, Item, MODEL_ONNX, MODEL_TOML, Outline, Reader};
use crate::sys::exit::{ExitCode, Failure};

/// Model and configuration of a session, laid out in a folder of their own for as long as this lives.
pub struct Unpacked {
    folder: PathBuf,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // A folder that cannot be removed lies among the system's temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Unpacked {
    /// Takes the attachments out of a session.
    ///
    /// # Errors
    /// A file that is no session, or lacks one of them.
    pub fn of(session: &Path) -> anyhow::Result<Self> {
        let no_source = || Failure { code: ExitCode::Source, what: session.display().to_string() };
        // Several may be unpacked by one process, one after the other or at once.
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("haltere-session-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let unpacked = Self { folder };
        let mut reader = Reader::open(session).with_context(no_source)?;
        let mut found = std::collections::BTreeMap::new();
        while let Some(Item::Attachment { name, data }) = reader.read().with_context(no_source)? {
            found.insert(name, data);
        }
        for name in [CONFIG_TOML, MODEL_TOML, MODEL_ONNX] {
            let Some(data) = found.get(name) else {
                bail!(Failure {
                    code: ExitCode::Source,
                    what: format!("{}: the session was cut off before its {name}", session.display()),
                });
            };
            let at = if name == MODEL_ONNX { unpacked.onnx()? } else { unpacked.folder.join(name) };
            std::fs::write(&at, data).with_context(|| at.display().to_string())?;
        }
        Ok(unpacked)
    }

    /// Where the manifest says that its file lies: beside it.
    fn onnx(&self) -> anyhow::Result<PathBuf> {
        let manifest = Manifest::read(&self.folder.join(MODEL_TOML))?;
        let name = Path::new(&manifest.file).file_name().context("the session's manifest names no file")?;
        Ok(self.folder.join(name))
    }

    /// The manifest.
    pub fn model(&self) -> PathBuf {
        self.folder.join(MODEL_TOML)
    }

    /// The configuration with which it was recorded, under what was typed now; with the recorded model, unless another was typed.
    ///
    /// # Errors
    /// As [`ConfigArgs::load`].
    pub fn config(&self, args: &ConfigArgs) -> anyhow::Result<(Config, Vec<Warning>)> {
        let mut args = args.clone();
        let named = std::env::var_os(FILE_VARIABLE).is_some_and(|file| !file.is_empty());
        if args.config.is_none() && !named {
            args.config = Some(self.folder.join(CONFIG_TOML));
        }
        let other_model = args.model.is_some();
        let (mut config, warnings) = args.load()?;
        if !other_model {
            config.model = self.model();
        }
        // What a series meant live lies among the recorded requests.
        config.source.new_series = NewSeries::Keep;
        config.record.folder = None;
        // A path of the rig, perhaps not of this machine.
        config.compute.onnxruntime = config.compute.onnxruntime.filter(|library| library.is_file());
        Ok((config, warnings))
    }
}

/// Tells on the log what makes a replay differ.
///
/// # Errors
/// A file that is no session.
pub fn warn_of(session: &Path) -> anyhow::Result<()> {
    let outline = Outline::of(session)
        .with_context(|| Failure { code: ExitCode::Source, what: session.display().to_string() })?;
    outline.warnings().iter().for_each(|warning| tracing::warn!("{}: {warning}", session.display()));
    Ok(())
}
