//! Files of behaviour, times, masks and labels, read whole.

use std::path::Path;

use super::error::DatasetError;
use crate::sys::files::{Bound, read_bounded};

/// The largest: an hour of a hundred float32 at 300 Hz has half a GB.
const TABLE: Bound = Bound::new("a file of behaviour or labels", 4 << 30);

/// All bytes of a regular file.
pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>, DatasetError> {
    read_bounded(path, TABLE).map_err(|error| DatasetError::file(path, error.cause))
}
