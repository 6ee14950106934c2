//! The model and the configuration that lie in a recorded session, as files.
//!
//! Why it exists: a recording is trusted when its replay says the same, bit for bit, and a replay needs both. What it
//! must never do: change either.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::model::Manifest;
use crate::session::{CONFIG_TOML, Item, MODEL_ONNX, MODEL_TOML, Outline, Reader};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::temporary_folder;

/// Model and configuration of a session, laid out in a folder of their own for as long as this lives.
pub struct Unpacked {
    folder: TempDir,
}

impl Unpacked {
    /// Takes the attachments out of a session.
    ///
    /// # Errors
    /// A file that is not a session, or lacks one of them.
    pub fn of(session: &Path) -> anyhow::Result<Self> {
        let no_source = || Failure { code: ExitCode::Source, what: session.display().to_string() };
        let unpacked = Self { folder: temporary_folder("session")? };
        let mut reader = Reader::open(session).with_context(no_source)?;
        let mut found = std::collections::BTreeMap::new();
        while let Some(Item::Attachment { name, data }) = reader.read().with_context(no_source)? {
            found.insert(name, data);
        }
        for name in [CONFIG_TOML, MODEL_TOML, MODEL_ONNX] {
            let Some(data) = found.get(name) else {
                bail!(Failure {
                    code: ExitCode::Source,
                    what: format!(
                        "{}: lacks its {name}: it was cut off before it, or is damaged there",
                        session.display()
                    ),
                });
            };
            let at = if name == MODEL_ONNX { unpacked.onnx()? } else { unpacked.folder.path().join(name) };
            std::fs::write(&at, data).with_context(|| at.display().to_string())?;
        }
        Ok(unpacked)
    }

    /// Where the manifest says that its file lies: beside it.
    fn onnx(&self) -> anyhow::Result<PathBuf> {
        let manifest = Manifest::read(&self.model())?;
        let name = Path::new(&manifest.file).file_name().context("the session's manifest names no file")?;
        Ok(self.folder.path().join(name))
    }

    /// The manifest.
    pub fn model(&self) -> PathBuf {
        self.folder.path().join(MODEL_TOML)
    }

    /// The configuration with which it was recorded.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join(CONFIG_TOML)
    }
}

/// Refuses a replay with the attached model of a session that it did not decode, or not alone.
///
/// # Errors
/// Which models decoded it, or a file that is not a session.
pub fn must_be_by_one_model(session: &Path) -> anyhow::Result<()> {
    let source = |what: String| Failure { code: ExitCode::Source, what };
    let outline = Outline::of(session).with_context(|| source(session.display().to_string()))?;
    if let Some(what) = outline.not_by_one_model() {
        let path = session.display();
        bail!(source(format!("{path}: {what}; a replay runs one model: choose it with --model, for all frames")));
    }
    let unpacked = Unpacked::of(session)?;
    let (attached, named) = (Manifest::read(&unpacked.model())?.sha256, outline.about.get("model_sha256"));
    if named.is_some_and(|named| !named.eq_ignore_ascii_case(&attached)) {
        let path = session.display();
        bail!(source(format!(
            "{path}: the attached model is not the one that the session names; choose one with --model"
        )));
    }
    Ok(())
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
