//! What stands in for `parquet.rs` in a build without the feature `parquet`: an error message.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;

use super::Table;
use super::columns::Numbers;
use crate::sys::exit::{ExitCode, Failure};

/// Refuses: this build cannot write the file.
///
/// # Errors
/// Always; names the file and what to do.
pub(super) fn table(
    path: &Path,
    _numbers: Numbers,
    _about: &BTreeMap<String, String>,
) -> anyhow::Result<Box<dyn Table>> {
    let what = format!(
        "{}: this haltere was built without Parquet; build it with `cargo build --release --features parquet`, or export --to csv",
        path.display()
    );
    bail!(Failure { code: ExitCode::Usage, what })
}
