//! The embeddings alone, as numpy's array.
//!
//! Why it exists: a scatter plot needs nothing else. What it must never do: write an array otherwise than `embed` does.

use std::path::Path;

use super::{Table, embedding};
use crate::publish::SinkError;
use crate::publish::npy::Rows;
use crate::session::messages::DecodeRecord;

pub(super) struct Npy(Rows);

impl Npy {
    /// Begins the array.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub(super) fn create(path: &Path, dimensions: usize) -> Result<Self, SinkError> {
        Rows::create(path, dimensions).map(Self)
    }
}

impl Table for Npy {
    fn row(&mut self, decode: &DecodeRecord) -> Result<(), SinkError> {
        self.0.push(embedding(decode)).map(drop)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.0.finish()
    }
}
