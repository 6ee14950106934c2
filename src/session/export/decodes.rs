//! The decodes of frames in a session, one at a time.
//!
//! Why it exists: an hour is a hundred thousand decodes, and an export needs one at a time. What it must never do: return a decode
//! without a frame, as the fail-safe publishes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::session::messages::DecodeRecord;
use crate::session::{Item, Outline, Reader, Topic};
use crate::sys::exit::{ExitCode, Failure};

/// A session being read.
pub(super) struct Decodes {
    path: PathBuf,
    reader: Reader,
    outline: Outline,
    odd: u64,
}

impl Decodes {
    /// Opens a session.
    ///
    /// # Errors
    /// A file that is not a session.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let outline = Outline::of(path).with_context(|| no_source(path))?;
        let reader = Reader::open(path).with_context(|| no_source(path))?;
        Ok(Self { path: path.into(), reader, outline, odd: 0 })
    }

    /// The next decode of a frame; `None` at the end, or where the file was truncated.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<DecodeRecord>> {
        while let Some(item) = self.reader.read().with_context(|| no_source(&self.path))? {
            let Item::Message { topic: Topic::Decodes, data, .. } = item else { continue };
            match serde_json::from_slice::<DecodeRecord>(&data) {
                Ok(decode) if decode.decoded.is_some() => return Ok(Some(decode)),
                Ok(_) => {}
                Err(_) => self.odd += 1,
            }
        }
        Ok(None)
    }

    /// The session's metadata.
    pub(super) fn about(&self) -> &BTreeMap<String, String> {
        &self.outline.about
    }

    /// What is missing, in words, once the end was reached.
    pub(super) fn damage(&self) -> Vec<String> {
        self.reader.damage().warnings(&self.outline)
    }

    /// Decodes that could not be read.
    pub(super) fn odd(&self) -> u64 {
        self.odd
    }
}

fn no_source(path: &Path) -> Failure {
    Failure { code: ExitCode::Source, what: path.display().to_string() }
}
