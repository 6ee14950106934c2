//! The model and the configuration that lie in a recorded session, as files.
//!
//! Why it exists: a recording is trusted when its replay says the same, bit for bit, and a replay needs both. What it
//! must never do: change either.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

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
    /// A file that is not a session, or lacks one of them.
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

    /// The configuration with which it was recorded.
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG_TOML)
    }
}

/// Tells on the log what makes a replay differ.
///
/// # Errors
/// A file that is not a session.
pub fn warn_of(session: &Path) -> anyhow::Result<()> {
    let outline = Outline::of(session)
        .with_context(|| Failure { code: ExitCode::Source, what: session.display().to_string() })?;
    outline.warnings().iter().for_each(|warning| tracing::warn!("{}: {warning}", session.display()));
    Ok(())
}
