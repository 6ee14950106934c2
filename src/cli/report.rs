//! `haltere report`: the page of a recorded session, or of an earlier result, made anew from the numbers that were kept.
//!
//! Why it exists: a page is drawn better by a later version, and its numbers took hours. What it must never do: change
//! a number.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::log;
use crate::report::data::ReportData;
use crate::report::{html, session};
use crate::session::is_session;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::{Bound, read_text_bounded};

/// Name of the numbers in a folder.
const NUMBERS: &str = "report.json";
/// An embedding of a hundred thousand samples has some tens of MB.
const REPORT: Bound = Bound::new("a report.json", 1 << 30);

/// `haltere report`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere report runs/fly                redraw runs/fly/report.html
  haltere report comparison/report.json --out table.html
  haltere report session.mcap            write session.html: latency, gaps, shifts, quality, actions, embedding

`train`, `eval` and `compare` write report.json beside report.html. It holds every number on the page, so a \
later version can redraw the page without data or model.

For a recorded session the exit code says whether it met the deadline of its configuration: 0 met, 10 \
missed.")]
pub struct ReportArgs {
    /// Folder of a run, evaluation or comparison, or its report.json, or a recorded session.
    #[arg(value_name = "FOLDER|REPORT.json|SESSION.mcap")]
    pub report: PathBuf,
    /// Output file [default: report.html beside report.json, or the session's name with .html].
    #[arg(long, short, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}

/// Draws the page that was asked for and says where it is; of a session also whether its deadline was met.
///
/// # Errors
/// The file that could not be read, understood or written.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if is_session(&args.report) {
        log::start_default()?;
        return session::report(&args.report, args.out.as_deref(), out);
    }
    redraw(args, out)?;
    Ok(ExitCode::Ok)
}

/// Draws the page and says where it is.
///
/// # Errors
/// The file that could not be read, understood or written.
fn redraw(args: &ReportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let (numbers, page) = paths(args);
    let failed = |code, what: String| Failure { code, what };
    let text = read_text_bounded(&numbers, REPORT).with_context(|| {
        failed(
            ExitCode::Source,
            format!(
                "{}: cannot be read as a report; give the folder of a finished train, eval or compare",
                numbers.display()
            ),
        )
    })?;
    let report = ReportData::from_json(&text).with_context(|| {
        failed(ExitCode::Source, format!("{}: not the report.json of train, eval or compare", numbers.display()))
    })?;
    crate::sys::files::write_whole(&page, html::render(&report).as_bytes())?;
    writeln!(out, "report  {}", page.display())?;
    Ok(())
}

/// Where the numbers are, and where the page goes.
fn paths(args: &ReportArgs) -> (PathBuf, PathBuf) {
    let numbers = if args.report.is_dir() { args.report.join(NUMBERS) } else { args.report.clone() };
    let beside = || numbers.parent().unwrap_or(Path::new("")).join("report.html");
    let page = args.out.clone().unwrap_or_else(beside);
    (numbers, page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::exit_code;

    fn run(report: PathBuf, out: Option<PathBuf>) -> anyhow::Result<String> {
        let mut said = Vec::new();
        report_of(report, out, &mut said)?;
        Ok(String::from_utf8(said)?)
    }

    fn report_of(path: PathBuf, out: Option<PathBuf>, said: &mut Vec<u8>) -> anyhow::Result<()> {
        redraw(&ReportArgs { report: path, out }, said)
    }

    #[test]
    fn a_page_is_made_anew_from_a_folder_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let kept = ReportData { title: "haltere on 8 flies".into(), ..ReportData::default() };
        std::fs::write(folder.path().join(NUMBERS), kept.to_json().unwrap()).unwrap();
        let said = run(folder.path().into(), None).unwrap();
        let page = folder.path().join("report.html");
        assert_eq!(said, format!("report  {}\n", page.display()));
        let text = std::fs::read_to_string(&page).unwrap();
        assert_eq!(text, html::render(&kept));
        let other = folder.path().join("other.html");
        run(folder.path().join(NUMBERS), Some(other.clone())).unwrap();
        assert_eq!(std::fs::read_to_string(other).unwrap(), text);
    }

    #[test]
    fn what_is_no_report_is_named_and_has_a_code() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(folder.path().into(), None).unwrap_err();
        assert!(format!("{error:#}").contains("report.json: cannot be read as a report"), "{error:#}");
        assert_eq!(exit_code(&error), ExitCode::Source);
        std::fs::write(folder.path().join(NUMBERS), "[1").unwrap();
        let error = run(folder.path().into(), None).unwrap_err();
        assert!(format!("{error:#}").contains("line 1"), "{error:#}");
    }
}
