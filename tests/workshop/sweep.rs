//! A sweep: each training by its index, stopped and continued, and all of them in one table; by hand, and as a job array of a real SLURM
//! of one node in which one task is preempted.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rustix::process::Signal;

use crate::support::process::{Process, in_folder, wait_for};

/// Three flies of one short trial each, in a folder of their own.
static FLIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweep");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let line = "simulate flies --animals 3 --trials 1 --seconds 60 --seed 5 --set optics.side_px=32";
    start(&folder, line).finish().code(0);
    folder
});

fn start(folder: &Path, line: &str) -> Process {
    Process::start("haltere", &mut in_folder(folder, line.split(' ').collect::<Vec<_>>()))
}

/// A sweep of small trainings: two temperatures for each held-out animal.
fn sweep(name: &str, steps: usize, hold_out: &str) -> &'static Path {
    let text = format!(
        "options = ['--mc2p', 'flies', '--method', 'simclr', '--steps', '{steps}', '--set', 'batch.segments=2', '--set', \
         'batch.windows=2', '--set', 'network.widths=[4,8]', '--set', 'validate_every=4', '--progress', 'never']\n\
         hold_out = {hold_out}\n[grid]\ntemperature = [0.1, 0.2]\n"
    );
    std::fs::write(FLIES.join(name), text).unwrap();
    &FLIES
}

/// The result of a training; its time differs.
fn scores(folder: &str, index: usize) -> String {
    let folder = FLIES.join(folder).join(format!("{index:05}"));
    let text = std::fs::read_to_string(folder.join("training__seed1__simclr.json")).unwrap();
    text.lines().filter(|line| !line.contains("training_s")).collect()
}

/// Waits until a training has a checkpoint.
fn until_checkpoint(folder: &str, index: usize) {
    let last = format!("{folder}/{index:05}/checkpoints/training__seed1__simclr.json/last/state.toml");
    wait_for("a checkpoint", || FLIES.join(&last).exists().then_some(()));
}

#[test]
fn trainings_by_index_are_stopped_continued_and_collected() {
    let folder = sweep("hand.toml", 12, "[['fly_01'], ['fly_02']]");
    assert_eq!(start(folder, "sweep hand.toml --count").finish().code(0).out, "4\n");
    let list = start(folder, "sweep hand.toml --list").finish().code(0).out;
    assert!(list.lines().nth(3).unwrap().contains("3  temperature=0.2  seed=1 hold_out=fly_02"), "{list}");
    start(folder, "sweep hand.toml --collect").finish().code(2).says(&["no finished training", "--index"]);
    start(folder, "sweep hand.toml --index 4").finish().code(2).says(&["4 trainings", "0 to 3"]);

    let line = start(folder, "sweep hand.toml --index 1").finish().code(0).out;
    assert!(
        line.starts_with("index=1 temperature=0.1 seed=1 hold_out=fly_02 ") && line.contains(" unseen=0."),
        "{line}"
    );
    let again = start(folder, "sweep hand.toml --index 1").finish().code(0).out;
    assert_eq!(again, line, "a finished training is not repeated: its time is the same");

    let some = start(folder, "sweep hand.toml --collect").finish().code(0).out;
    assert!(some.contains("Not finished: 3 of 4 (--index 0, 2, 3)"), "{some}");
    [0, 2, 3].iter().for_each(|index| {
        start(folder, &format!("sweep hand.toml --index {index}")).finish().code(0);
    });
    let all = start(folder, "sweep hand.toml --collect").finish().code(0).out;
    assert!(all.contains("Best on unseen animals: temperature=0.") && !all.contains("Not finished"), "{all}");
    let mut rows = csv::Reader::from_path(folder.join("hand/results.csv")).unwrap();
    let header = rows.headers().unwrap().clone();
    assert_eq!(header.iter().take(4).collect::<Vec<_>>(), ["index", "seed", "hold_out", "temperature"]);
    assert_eq!(
        rows.records().map(Result::unwrap).map(|row| row[3].to_owned()).collect::<Vec<_>>(),
        ["0.1", "0.1", "0.2", "0.2"]
    );
    let report = std::fs::read_to_string(folder.join("hand/report.html")).unwrap();
    assert!(report.contains("temperature=0.2") && report.contains("Best on unseen animals"));

    let other = std::fs::read_to_string(folder.join("hand.toml")).unwrap().replace("0.1, 0.2", "0.3, 0.2");
    std::fs::write(folder.join("hand.toml"), other).unwrap();
    start(folder, "sweep hand.toml --index 0").finish().code(2).says(&["other settings", "--out"]);
}

#[test]
fn both_signals_of_a_cluster_leave_a_checkpoint_and_the_same_command_ends_as_if_there_had_been_none() {
    let folder = sweep("signals.toml", 60, "[['fly_01']]");
    for (index, signal) in [(0, Signal::TERM), (1, Signal::USR1)] {
        let command = format!("sweep signals.toml --index {index}");
        let training = start(folder, &command);
        until_checkpoint("signals", index);
        training.signal(signal);
        training.finish().code(130).says(&["stopped", "continues"]);
        start(folder, &command).finish().code(0);
        let whole = format!("sweep signals.toml --out whole --index {index}");
        start(folder, &whole).finish().code(0);
        assert_eq!(scores("signals", index), scores("whole", index));
    }
}

#[test]
fn a_job_array_of_a_real_slurm_with_one_task_preempted_and_requeued_gives_what_single_commands_give() {
    let programs = ["slurmctld", "slurmd", "munged", "sbatch"];
    let there = |name: &&str| ["/usr/sbin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(name).exists());
    if !programs.iter().all(there) || !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: a real SLURM array; needs root and Debian's slurmctld, slurmd, slurm-client and munge");
        return;
    }
    let folder = sweep("slurm.toml", 160, "[['fly_01']]");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cluster = tempfile::tempdir().unwrap();
    // The second job preempts task 0 of the first once it has a checkpoint.
    let script = format!(
        "set -e
        id=$(sbatch --parsable --array=0-1 -o slurm-%a.log {jobs} slurm.toml)
        until [ -e slurm/00000/checkpoints/training__seed1__simclr.json/last/state.toml ]; do sleep 0.05; done
        sbatch --wait -p high -o high.log --wrap 'sleep 1'
        # SLURM would let a requeued task wait for two minutes.
        scontrol update JobId=\"$id\"_0 StartTime=now
        while [ -n \"$(squeue -h -j $id)\" ]; do sleep 0.2; done
        scontrol -o show job $id",
        jobs = root.join("config/slurm-sweep.sh").display()
    );
    // The schedulers of a cluster look every few seconds: longer than tests wait elsewhere.
    let mut command = Command::new("timeout");
    command.args(["--signal=TERM", "600"]).arg(root.join("tests/support/slurm.sh"));
    command.arg(cluster.path()).args(["bash", "-c", &script]).current_dir(folder);
    command
        .env("HALTERE", env!("CARGO_BIN_EXE_haltere"))
        .env("ORT_DYLIB_PATH", root.join(".runtime/libonnxruntime.so"));
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let jobs: Vec<&str> = said.lines().filter(|line| line.contains("ArrayTaskId=")).collect();
    let of = |index: usize| jobs.iter().find(|job| job.contains(&format!("ArrayTaskId={index} "))).unwrap();
    (0..2).for_each(|index| assert!(of(index).contains("JobState=COMPLETED"), "{said}"));
    assert!(of(0).contains("Restarts=1") && of(1).contains("Restarts=0"), "task 0 was preempted once: {said}");
    let log = std::fs::read_to_string(folder.join("slurm-0.log")).unwrap();
    assert!(log.contains("stopped; finished results are kept"), "it was stopped in order: {log}");
    start(folder, "sweep slurm.toml --out alone --index 0").finish().code(0);
    assert_eq!(scores("slurm", 0), scores("alone", 0), "a preempted training ends as one that was not");
    start(folder, "sweep slurm.toml --collect").finish().code(0);
}
