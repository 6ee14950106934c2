//! The decodes of frames in a session, one after the other.
//!
//! Why it exists: an hour is a hundred thousand decodes, and an export needs one at a time. What it must never do: hand out a
//! decode that has no frame: the neutral ones stand for nobody's time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::session::messages::DecodeRecord;
use crate::session::{Item, Outline, Reader, Topic};
use crate::sys::exit::{ExitCode, Failure};

/// A session on its way through.
pub(super) struct Decodes {
    path: PathBuf,
    reader: Reader,
    about: BTreeMap<String, String>,
    odd: u64,
}

impl Decodes {
    /// Opens a session.
    ///
    /// # Errors
    /// A file that is no session.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let about = Outline::of(path).with_context(|| no_source(path))?.about;
        let reader = Reader::open(path).with_context(|| no_source(path))?;
        Ok(Self { path: path.into(), reader, about, odd: 0 })
    }

    /// The next decode of a frame; `None` at the end, or where the file was cut off.
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

    /// What the session says of itself.
    pub(super) fn about(&self) -> &BTreeMap<String, String> {
        &self.about
    }

    /// Decodes that could not be understood.
    pub(super) fn odd(&self) -> u64 {
        self.odd
    }
}

fn no_source(path: &Path) -> Failure {
    Failure { code: ExitCode::Source, what: path.display().to_string() }
}
