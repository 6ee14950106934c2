//! The decodes of frames in a session, one at a time.
//!
//! Why it exists: an hour is a hundred thousand decodes, and an export needs one at a time. What it must never do: return a decode
//! without a frame, as the fail-safe publishes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::session::messages::{DecisionRecord, DecodeRecord};
use crate::session::{Item, Outline, Reader, Topic};
use crate::sys::exit::{ExitCode, Failure};
use crate::wire::decision::What;

/// A session being read.
pub(super) struct Decodes {
    path: PathBuf,
    reader: Reader,
    outline: Outline,
    /// Of the decode that comes next: decisions are published, and recorded, before their decode.
    decided: Option<(u64, String)>,
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
        Ok(Self { path: path.into(), reader, outline, decided: None, odd: 0 })
    }

    /// The next decode of a frame; `None` at the end, or where the file was truncated.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<DecodeRecord>> {
        while let Some(item) = self.reader.read().with_context(|| no_source(&self.path))? {
            let Item::Message { topic, data, .. } = item else { continue };
            match topic {
                Topic::Decisions => self.take_decision(&data),
                Topic::Decodes => match serde_json::from_slice::<DecodeRecord>(&data) {
                    Ok(mut decode) if decode.decoded.is_some() => {
                        decode.decisions =
                            self.decided.take().filter(|(seq, _)| *seq == decode.seq).map(|(_, made)| made);
                        return Ok(Some(decode));
                    }
                    Ok(_) => {}
                    Err(_) => self.odd += 1,
                },
                _ => {}
            }
        }
        Ok(None)
    }

    /// Keeps a decision for its decode: `walk:output`, `walk:sham`, several joined by `;`.
    fn take_decision(&mut self, data: &[u8]) {
        let Ok(DecisionRecord { name, what, reason, decode_seq: Some(seq), .. }) = serde_json::from_slice(data) else {
            return;
        };
        let became = if what == What::Output { What::Output.name().to_owned() } else { reason.unwrap_or_default() };
        let made = format!("{name}:{became}");
        let before = self.decided.take().filter(|(of, _)| *of == seq);
        self.decided = Some((seq, before.map_or_else(|| made.clone(), |(_, before)| format!("{before};{made}"))));
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
