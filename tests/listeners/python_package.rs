//! The Python package `haltere` (`clients/python/haltere`) against the real daemon, and its types.
//!
//! Method: one script (`tests/support/use_package.py`) plays microscope, stimulus controller and reader of the session; all that the package
//! says is held against what was sent, and its embeddings against `haltere embed`, bit for bit. The package is used from the checkout, as
//! somebody who copied it would; `packages.rs` uses it installed.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use super::clients::{movie, python};
use super::doors::Keys;
use crate::support::process::{LOSSLESS, Process, Rig, haltere, model, skip};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Python that finds the package, and leaves no compiled files beside it.
fn with_package(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.env("PYTHONPATH", root().join("clients/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn session_in(folder: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "mcap")).unwrap()
}

#[test]
fn frames_decodes_requests_keys_and_the_recorded_session_are_those_of_the_daemon() {
    let Some(python) = python() else { return };
    for compression in ["none", "lz4"] {
        let keys = Keys::new();
        let rig = Rig::over_tcp(model("small", &[0], 0));
        let (sessions, folder) = (rig.path("sessions"), keys.path(""));
        let sets = ["source.attach=bind".to_owned(), format!("record.compression={compression}")];
        let mut arguments = vec!["--record", sessions.to_str().unwrap(), "--set", "source.frame_max_mib=1"];
        arguments.extend(LOSSLESS);
        arguments.extend(["--set", &sets[0], "--set", &sets[1], "--set", "publish.deadline_ms=2000"]);
        let of_daemon = keys.of_daemon();
        arguments.extend(of_daemon.iter().map(String::as_str));
        let daemon = rig.daemon(&arguments);
        let mut script = with_package(&python);
        script.arg(root().join("tests/support/use_package.py")).args([
            &rig.frames,
            &rig.decodes,
            &rig.control,
            &folder,
        ]);
        Process::start("use_package.py", script.arg(movie(&rig, 36)).arg(&sessions)).finish().code(0);
        daemon.finish().code(0);

        let (session, npy) = (session_in(&sessions), rig.path("again.npy"));
        let embed = &mut haltere(["embed", "--out"]);
        Process::start("embed", embed.arg(&npy).arg(&session)).finish().code(0);
        let same = "import sys, haltere\nfirst, again = haltere.Session(sys.argv[1]).embeddings()[1], haltere.read_embeddings(sys.argv[2])\n\
                    assert first.tobytes() == again.tobytes() and first.shape == again.shape";
        let compare = &mut with_package(&python);
        Process::start("compare", compare.args(["-c", same]).args([&session, &npy])).finish().code(0);
    }
}

#[test]
fn the_types_of_the_package_hold() {
    let Some(python) = python() else { return };
    if !Command::new(&python).args(["-c", "import mypy"]).status().unwrap().success() {
        return skip("no mypy: `make setup`").unwrap_or_default();
    }
    let cache = tempfile::tempdir().unwrap();
    let mut check = Command::new(&python);
    check.args(["-m", "mypy", "--strict", "--cache-dir"]).arg(cache.path()).arg("haltere");
    Process::start("mypy", check.current_dir(root().join("clients/python"))).finish().code(0);
}
