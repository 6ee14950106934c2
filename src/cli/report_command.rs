//! `haltere report`: a report's page made anew from the numbers that were kept.
//!
//! Why it exists: a page is drawn better by a later version, and its numbers took hours. What it must never do: change a number.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::report::ReportArgs;
use crate::report::data::ReportData;
use crate::report::html;
use crate::sys::exit::{ExitCode, Failure};

/// Name of the numbers in a folder.
const NUMBERS: &str = "report.json";

/// Draws the page and says where it is.
///
/// # Errors
/// The file that could not be read, understood or written.
pub fn report(args: &ReportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let (numbers, page) = paths(args);
    let failed = |code, what: String| Failure { code, what };
    let text = std::fs::read_to_string(&numbers).with_context(|| {
        failed(
            ExitCode::Source,
            format!(
                "{}: not a report that can be read; name the folder of a finished train, eval or compare",
                numbers.display()
            ),
        )
    })?;
    let report = ReportData::from_json(&text).with_context(|| {
        failed(ExitCode::Source, format!("{}: not the report.json of train, eval or compare", numbers.display()))
    })?;
    crate::sys::files::write_whole(&page, html::render(&report).as_bytes())
        .with_context(|| failed(ExitCode::Sink, format!("{}: cannot be written", page.display())))?;
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

    fn run(report: PathBuf, out: Option<PathBuf>) -> anyhow::Result<String> {
        let mut said = Vec::new();
        report_of(report, out, &mut said)?;
        Ok(String::from_utf8(said)?)
    }

    fn report_of(path: PathBuf, out: Option<PathBuf>, said: &mut Vec<u8>) -> anyhow::Result<()> {
        report(&ReportArgs { report: path, out }, said)
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
        assert!(format!("{error:#}").contains("report.json: not a report that can be read"), "{error:#}");
        assert_eq!(ExitCode::of(&error), ExitCode::Source);
        std::fs::write(folder.path().join(NUMBERS), "[1").unwrap();
        let error = run(folder.path().into(), None).unwrap_err();
        assert!(format!("{error:#}").contains("line 1"), "{error:#}");
    }
}
