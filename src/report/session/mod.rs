//! `haltere report session.mcap`: one page on how a session went, and an exit code that tells whether it met its deadline.
//!
//! Why it exists: after an experiment, someone must decide whether it counts. What it must never do: approve a session that it
//! has not seen completely, or measure anything that was not recorded.

mod decisions;
mod page;
mod plots;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::session::rows::Recorded;
use crate::session::unpacked::warn_of;
use crate::sys::exit::{ExitCode, Failure};

pub use summary::Summary;

/// Writes the page, and says in words and by the exit code whether the deadline was met.
///
/// # Errors
/// A file that is not a session or contains no decode, or a page that cannot be written.
pub fn report(session: &Path, out: Option<&Path>, say: &mut dyn std::io::Write) -> anyhow::Result<ExitCode> {
    warn_of(session)?;
    let recorded = Recorded::read(session)?;
    let Some(summary) = Summary::of(&recorded) else {
        let what = format!("{}: contains no decoded frame, so there is nothing to report", session.display());
        bail!(Failure { code: ExitCode::Source, what });
    };
    let page = out.map_or_else(|| session.with_extension("html"), PathBuf::from);
    let name = session.file_name().unwrap_or_default().to_string_lossy().into_owned();
    crate::sys::files::write_whole(&page, page::render(&name, &recorded, &summary).as_bytes())?;
    writeln!(say, "{}", summary.verdict())?;
    writeln!(say, "report  {}", page.display())?;
    Ok(if summary.met() { ExitCode::Ok } else { ExitCode::Unmet })
}
