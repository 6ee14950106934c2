//! A rig that cannot train still records, replays, exports, reports and watches its sessions.
//!
//! Method: the shipped model, a simulated fly and real processes, from the microscope to the page. `make test` runs this file with
//! the feature `train` and without it; only the answer to `haltere train` may differ.
#![allow(clippy::unwrap_used)]

use crate::support::process as support;
use crate::support::web::get;

use std::path::Path;

use clap::CommandFactory;
use haltere::cli::Cli;
use haltere::model::Manifest;
use rustix::process::Signal;
use support::{LOSSLESS, Process, Rig, haltere, wait_for};

/// 30 s of a fly that the shipped model never saw, four times as fast as it lived.
const FLY: &str = "sim:seed=9001,animal=2,trial=3,seconds=30";
const RATE_HZ: &str = "64";
const FRAMES: usize = 480;

fn run(arguments: &[&str]) -> support::Finished {
    Process::start("haltere", &mut haltere(arguments)).finish()
}

#[test]
fn a_rig_that_cannot_train_records_watches_replays_exports_and_reports_a_session() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml");
    let rig = Rig::new(model.clone());
    let sessions = rig.path("sessions");
    let mut monitor = haltere(["monitor", "--bind", "127.0.0.1:0", "--endpoint", &rig.decodes, "--model"]);
    let mut monitor = Process::start("monitor", monitor.arg(&model));
    monitor.until_it_says("http://");
    let address = monitor.err().split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();

    let mut options = LOSSLESS.to_vec();
    options.extend(["--record", sessions.to_str().unwrap()]);
    let daemon = rig.daemon(&options);
    rig.play(&[Path::new(FLY)], &["--rate", RATE_HZ, "--push"]).finish().code(0);
    let embedding = Manifest::read(&model).unwrap().embedding;
    wait_for("all frames on the page", || {
        let metrics = get(&address, "/metrics").body;
        metrics.contains(&format!("haltere_frames_received_total {FRAMES}\n")).then_some(())
    });
    daemon.signal(Signal::INT);
    daemon.finish().code(0);

    let session = std::fs::read_dir(&sessions).unwrap().next().unwrap().unwrap().path();
    let at = |name: &str| rig.path(name).to_str().unwrap().to_owned();
    let session = session.to_str().unwrap();
    run(&["diff", session]).code(0);
    run(&["export", session, "--to", "npy", "--out", &at("live.npy")]).code(0);
    run(&["export", session, "--to", "csv", "--out", &at("live.csv")]).code(0);
    run(&["embed", session, "--out", &at("again.npy")]).code(0);
    // Header and values: what was decoded live is what the session decodes to.
    let [live, again] = ["live.npy", "again.npy"].map(|name| std::fs::read(rig.path(name)).unwrap());
    assert!(live.len() > 4 * FRAMES / 2 * embedding, "{} bytes", live.len());
    assert_eq!(live, again);
    assert!(std::fs::read_to_string(rig.path("live.csv")).unwrap().lines().count() > FRAMES / 2);

    let reported = run(&["report", session, "--out", &at("session.html")]);
    // 0 or 10: whether this machine met the deadline is not the question here.
    assert!(matches!(reported.code, Some(0 | 10)), "{reported:?}");
    let page = std::fs::read_to_string(rig.path("session.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("</html>"), "{} bytes", page.len());
}

#[test]
fn what_needs_training_says_how_to_get_it() {
    for command in [&["train"][..], &["eval"], &["compare"], &["calibrate"], &["model", "init"]] {
        let answer = run(&[command, &["--help"]].concat());
        if cfg!(feature = "train") {
            answer.code(0);
        } else {
            answer.code(2).says(&["this build cannot train", "`make build`"]);
        }
    }
}

#[test]
fn every_subcommand_and_every_option_explains_itself() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            let known = ["help", "version"].contains(&argument.get_id().as_str());
            assert!(known || argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}
