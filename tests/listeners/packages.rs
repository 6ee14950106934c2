//! Wheel, Debian package and archive as a user gets them: installed where nothing is known of this checkout, they find what they need.
//!
//! Method: `scripts/make-wheel.sh` packs the program under test (nothing is compiled again); pip installs it, with what it depends on from
//! `.venv/wheels`, where `make setup` put it, so that the test needs no network. `haltere demo` then runs with an empty environment in an
//! empty folder. The Debian package is unpacked instead of installed, which needs no rights: the program looks for its files by its own place.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::process::{Process, skip};

/// From `pip install` to the first decode that can be trusted.
const A_MINUTE: Duration = Duration::from_secs(60);
/// Most bytes of the wheel.
const WHEEL_BYTES_MAX: u64 = 40_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `make setup` fetched: a Python that can build a wheel and make an environment, and the packages that the wheel depends on.
fn fetched() -> Option<(PathBuf, PathBuf)> {
    let (python, wheels) = (root().join(".venv/bin/python"), root().join(".venv/wheels"));
    let can = "import auditwheel, hatchling, venv, ensurepip";
    let able = Command::new(&python).args(["-c", can]).status().is_ok_and(|status| status.success());
    let there = able && wheels.is_dir();
    if there { Some((python, wheels)) } else { skip("no hatchling, auditwheel, venv or .venv/wheels: `make setup`") }
}

/// A command that inherits nothing and works in `folder`.
fn isolated(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder).env("TMPDIR", folder).current_dir(folder);
    command
}

#[test]
fn in_a_fresh_environment_the_wheels_demo_decodes_within_a_minute_of_pip_install() {
    let Some((python, wheels)) = fetched() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (out, environment, empty) =
        (folder.path().join("dist"), folder.path().join("env"), folder.path().join("empty"));
    std::fs::create_dir(&empty).unwrap();
    let mut make = Command::new(root().join("scripts/make-wheel.sh"));
    Process::start("make-wheel.sh", make.arg(env!("CARGO_BIN_EXE_haltere")).arg(&out)).finish().code(0);
    let wheel = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    let name = wheel.file_name().unwrap().to_str().unwrap().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert!(name.starts_with(&format!("haltere-{version}-py3-none-manylinux_2_")), "{name}");
    let bytes = wheel.metadata().unwrap().len();
    assert!(bytes <= WHEEL_BYTES_MAX, "{name}: {bytes} bytes, at most {WHEEL_BYTES_MAX}");

    let mut venv = Command::new(&python);
    Process::start("venv", venv.args(["-m", "venv"]).arg(&environment)).finish().code(0);
    let began = Instant::now();
    let mut install = isolated(&environment.join("bin/pip"), &empty);
    install.args(["install", "--quiet", "--disable-pip-version-check", "--no-index", "--find-links"]);
    Process::start("pip", install.arg(&wheels).arg(&wheel)).finish().code(0);

    let mut demo = isolated(&environment.join("bin/haltere"), &empty);
    let mut demo = Process::start("demo", demo.args(["demo", "--seconds", "2"]));
    demo.until_it_says(" ok ");
    let first = began.elapsed();
    eprintln!("{name}: {bytes} bytes, {:.1} s from pip install to the first decode", first.as_secs_f64());
    assert!(first <= A_MINUTE, "the first decode came {first:?} after pip install began");
    let shown = demo.finish().code(0).out;
    for words in [
        "share/haltere/models/fly.toml",
        "seconds left:",
        "balanced",
        "closed loop",
        "trained on other flies",
        "[decision.walk]",
    ] {
        assert!(shown.contains(words), "{words:?} is not in\n{shown}");
    }

    let mut package = isolated(&environment.join("bin/python"), &empty);
    let use_it = "import haltere\nfor name in ('models/fly.toml', 'models/fly.onnx', 'config/default.toml'): print(haltere.share(name))";
    let said = Process::start("python", package.args(["-c", use_it])).finish().code(0).out;
    assert!(said.lines().all(|path| Path::new(path).is_file()) && said.lines().count() == 3, "{said}");
    let share = environment.join("share");
    for file in
        ["man/man1/haltere.1", "man/man1/haltere-demo.1", "bash-completion/completions/haltere", "haltere/LICENSE-MIT"]
    {
        assert!(share.join(file).metadata().is_ok_and(|file| file.len() > 500), "{file}");
    }
    let left = std::fs::read_dir(&empty).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with('.')), "nothing but caches of pip: {left:?}");
}

#[test]
fn the_debian_package_holds_what_the_program_needs() {
    if !Command::new("dpkg-shlibdeps").arg("--version").output().is_ok_and(|found| found.status.success()) {
        return skip("no dpkg-shlibdeps: apt install dpkg-dev").unwrap_or_default();
    }
    let folder = tempfile::tempdir().unwrap();
    let mut make = Command::new(root().join("scripts/make-deb.sh"));
    Process::start("make-deb.sh", make.arg(env!("CARGO_BIN_EXE_haltere")).arg(folder.path())).finish().code(0);
    let version = env!("CARGO_PKG_VERSION");
    let package = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    assert!(package.file_name().unwrap().to_str().unwrap().starts_with(&format!("haltere_{version}_")), "{package:?}");
    let mut fields = Command::new("dpkg-deb");
    let needed = Process::start("dpkg-deb", fields.arg("--field").arg(&package).arg("Depends")).finish().code(0).out;
    assert!(needed.contains("libc6 (>= ") && needed.contains("libstdc++6"), "{needed}");

    let installed = folder.path().join("root");
    Process::start("dpkg-deb", Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&installed))
        .finish()
        .code(0);
    finds_its_own(&installed.join("usr"), folder.path());
    a_sound_and_hardened_service(&installed);
}

/// The program below `prefix` decodes with the model and the ONNX Runtime that lie beside it.
fn finds_its_own(prefix: &Path, empty: &Path) {
    let mut check = isolated(&prefix.join("bin/haltere"), empty);
    let model = prefix.join("share/haltere/models/fly.toml");
    let checked = Process::start("check", check.args(["check", "--json", "--model"]).arg(model)).finish();
    let library = prefix.join("lib/haltere/libonnxruntime.so").display().to_string();
    assert!(checked.out.contains(&library), "ONNX Runtime is not that of the package: {}", checked.out);
}

/// systemd's own tool reads the unit, and says how exposed it is: 0 is nothing, 10 everything.
fn a_sound_and_hardened_service(installed: &Path) {
    let unit = std::fs::read_to_string(installed.join("usr/lib/systemd/system/haltere@.service")).unwrap();
    assert!(installed.join("etc/haltere").is_dir());
    if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|found| found.status.success()) {
        // A container has no systemd, wherever it runs.
        return eprintln!("SKIPPED: the unit is not read by systemd: no systemd-analyze");
    }
    let here = installed.join("haltere@rig1.service");
    let program = installed.join("usr/bin/haltere").display().to_string();
    std::fs::write(&here, unit.replace("/usr/bin/haltere", &program)).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let said = Process::start("systemd-analyze", verify.args(["--man=no", "verify"]).arg(&here)).finish().code(0);
    assert!(!said.err.contains("haltere@rig1"), "{}", said.err);
    let mut security = Command::new("systemd-analyze");
    Process::start("systemd-analyze", security.args(["security", "--offline=true", "--threshold=30"]).arg(&here))
        .finish()
        .code(0);
}

#[test]
fn the_archive_runs_where_it_is_unpacked_and_says_what_it_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        Process::start("the archive", command.args(words).current_dir(folder.path())).finish().code(0).out
    };
    let script = root().join("scripts/make-archive.sh");
    run(script.to_str().unwrap(), &[env!("CARGO_BIN_EXE_haltere"), folder.path().to_str().unwrap()]);
    run("sha256sum", &["--check", "SHA256SUMS"]);
    let name = format!("haltere-{}-linux-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    run("tar", &["-xzf", &format!("{name}.tar.gz")]);
    let prefix = folder.path().join(name);
    finds_its_own(&prefix, folder.path());

    let bill = std::fs::read(prefix.join("share/haltere/sbom.cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_slice(&bill).unwrap();
    let components = bill["components"].as_array().unwrap();
    let crates: Vec<&str> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["ort", "zmq", "zeromq-src", "libsodium-sys-stable", "ndarray", "burn"] {
        assert!(crates.contains(&name) && lock.contains(&format!("name = \"{name}\"")), "{name} is not in {crates:?}");
    }
    let unpinned = components.iter().filter(|component| component["hashes"][0]["content"].as_str().is_none());
    assert_eq!(unpinned.map(|component| component["name"].as_str().unwrap()).collect::<Vec<_>>(), ["zeromq-src"]);
}
