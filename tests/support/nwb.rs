//! Python's own NWB as a process, and haltere beside it.
#![allow(dead_code, reason = "every test binary uses its part")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use haltere::source::RecordingSpec;

use super::process::{Finished, Process, haltere, skip};

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn run(arguments: &[&str]) -> Finished {
    Process::start("haltere", &mut haltere(arguments)).finish()
}

pub fn python() -> Option<PathBuf> {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("HALTERE_PYTHON").map_or_else(installed, PathBuf::from);
    let found = Command::new(&python).args(["-c", "import pynwb, nwbinspector"]).status().is_ok_and(|s| s.success());
    if found {
        Some(python)
    } else {
        skip(&format!("{} has no pynwb and nwbinspector: `make setup`", python.display()))
    }
}

pub fn script(python: &Path, name: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name);
    Process::start("python", Command::new(python).arg(script).args(arguments)).finish().code(0);
}

pub fn spec(paths: &[&str]) -> RecordingSpec {
    let channels = paths.iter().map(|path| vec![PathBuf::from(path)]).collect();
    RecordingSpec { channels, ..RecordingSpec::new("", "rig".parse().unwrap()) }
}
