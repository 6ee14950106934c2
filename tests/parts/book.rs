//! The book of docs/ as `make book` makes it: every page has its place, every link and every anchor leads somewhere.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, skip};

#[test]
fn the_book_is_made_without_a_warning_and_holds_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    if !Command::new(&python).args(["-c", "import mkdocs"]).status().is_ok_and(|status| status.success()) {
        return skip("no mkdocs: `make setup`").unwrap_or_default();
    }
    let folder = tempfile::tempdir().unwrap();
    let mut make = Command::new(python);
    make.args(["-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", "build/book/mkdocs.yml", "--site-dir"]);
    make.arg(folder.path()).current_dir(root).env("HALTERE", env!("CARGO_BIN_EXE_haltere"));
    let made = Process::start("mkdocs", &mut make).finish();
    assert_eq!(made.code, Some(0), "{}", made.err);
    for (page, words) in [
        ("index.html", "Two commands"),
        ("reference/commands/index.html", "haltere model inspect"),
        ("reference/config/default/index.html", "deadline_ms"),
        ("reference/wire/index.html", "heartbeat"),
        ("reference/results/2026-11-light/index.html", "shutter"),
    ] {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(words), "{page} does not say {words:?}");
    }
}
