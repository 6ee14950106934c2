//! `haltere export`: a session as NWB, its decodes as a table or as an array.
//!
//! Why it exists: an analysis begins in pandas or numpy, not in MCAP. What it must never do: leave half a file under the name of a
//! whole one, round a value, or hold the session in memory: rows go from one file to the other.

pub mod nwb;

mod columns;
mod csv;
mod decodes;
mod npy;
#[cfg_attr(not(feature = "parquet"), path = "no_parquet.rs")]
mod parquet;

use std::path::Path;

use anyhow::bail;
use tracing::warn;

use super::rows::Recorded;
use super::unpacked::warn_of;
use crate::publish::SinkError;
use crate::session::messages::DecodeRecord;
use crate::sys::exit::{ExitCode, Failure};

use columns::Numbers;
use decodes::Decodes;

/// A file that is being made of decodes.
trait Table {
    /// Adds the decode of a frame.
    ///
    /// # Errors
    /// A decode that does not fit, or a disk that refuses.
    fn row(&mut self, decode: &DecodeRecord) -> Result<(), SinkError>;

    /// The file is whole and gets its name.
    ///
    /// # Errors
    /// A disk that refuses.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// What a session becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One row for each decode.
    Csv,
    /// The same rows with types and the model's hash.
    Parquet,
    /// The embeddings alone, numpy's.
    Npy,
    /// Everything with its frames, HDF5.
    Nwb,
}

/// Writes a session into the file `out`; returns what is in it, in words.
///
/// # Errors
/// A file that is not a session or holds no decode, or one that cannot be written.
pub fn export(session: &Path, form: Form, out: &Path, metadata: Option<&Path>) -> anyhow::Result<String> {
    warn_of(session)?;
    if form == Form::Nwb {
        let recorded = Recorded::read(session)?;
        let damage = recorded.damage.warnings(&recorded.outline);
        damage.iter().for_each(|line| warn!("{}: {line}", session.display()));
        return nwb::export(&recorded, out, metadata);
    }
    if let Some(file) = metadata {
        let what = format!("--metadata {}: only NWB can store it; leave it out, or export --to nwb", file.display());
        bail!(Failure { code: ExitCode::Usage, what });
    }
    let mut decodes = Decodes::open(session)?;
    let Some(mut decode) = decodes.next()? else {
        let what = format!("{}: contains no decoded frame", session.display());
        bail!(Failure { code: ExitCode::Source, what });
    };
    let outputs = decodes.about().get("outputs").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let numbers = Numbers::of(&decode, outputs);
    let mut table: Box<dyn Table> = match form {
        Form::Csv => Box::new(csv::Csv::create(out, numbers)?),
        // What is neither of the others; NWB went its own way above.
        Form::Npy | Form::Nwb => Box::new(npy::Npy::create(out, numbers.dimensions)?),
        Form::Parquet => parquet::table(out, numbers, decodes.about())?,
    };
    let mut rows = 0_u64;
    loop {
        table.row(&decode)?;
        rows += 1;
        match decodes.next()? {
            Some(next) => decode = next,
            None => break,
        }
    }
    table.finish()?;
    if decodes.odd() > 0 {
        warn!("{} decodes were written by another version and are left out", decodes.odd());
    }
    let damage = decodes.damage();
    damage.iter().for_each(|line| warn!("{}: {line}", session.display()));
    let missing = damage.last().map(|sum| format!(" ({sum})")).unwrap_or_default();
    Ok(format!("{rows} rows{missing}"))
}

/// Of the decode of a frame, what the network said.
fn embedding(decode: &DecodeRecord) -> &[f32] {
    decode.decoded.as_ref().map_or(&[], |decoded| &decoded.embedding)
}
