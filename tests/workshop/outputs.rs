//! Continuous outputs as a user has them: simulate with targets, train, eval, a live loop with a rule, a session, all through the binary.
//!
//! Method: three simulated flies of 32×32 px, forty steps on two of them, the third judges. What is published live over real sockets is held
//! against what `embed` writes of the same recording and of the recorded session, to the last bit.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use haltere::model::Model;
use serde_json::Value;
use support::{Finished, LOSSLESS, Process, Rig, in_folder};

/// The recording that is decoded, as one word: the second trial of the animal that nothing was trained on.
const UNSEEN: &str = "sim:seed=3,animal=3,trial=2,seconds=60,optics.side_px=32";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    run(&folder, "simulate flies --animals 3 --trials 2 --seconds 60 --seed 3 --format mc2p --set optics.side_px=32");
    let train = "train --mc2p flies --targets speed,turning --method supervised --preprocess baseline=off --name tiny --hold-out fly_03 --steps 40";
    let said = run(&folder, train);
    assert!(said.out.contains("continuous outputs: R²"), "{}", said.out);
    folder
});

fn run(folder: &Path, line: &str) -> Finished {
    Process::start("haltere", &mut in_folder(folder, line.split(' ').collect::<Vec<_>>())).finish().code(0)
}

fn table(path: &str) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let mut reader = csv::Reader::from_path(FOLDER.join(path)).unwrap();
    let head = reader.headers().unwrap().clone();
    (head, reader.records().map(Result::unwrap).collect())
}

fn column(head: &csv::StringRecord, name: &str) -> usize {
    head.iter().position(|own| own == name).unwrap_or_else(|| panic!("no column {name} in {head:?}"))
}

#[test]
fn the_manifest_says_what_each_output_is_worth_and_eval_finds_it_above_chance() {
    let outputs = Model::load(&FOLDER.join("models/tiny.toml")).unwrap().manifest.outputs;
    assert_eq!(outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["speed", "turning"]);
    for output in &outputs {
        assert!(output.sd > 0.1 && output.measured_on == "held-out fly_03" && output.r2.is_some(), "{output:?}");
    }
    assert!(outputs[0].correlation.unwrap() > 0.3, "speed of an unseen fly: {outputs:?}");
    run(&FOLDER, "eval models/tiny.toml --mc2p flies --targets speed,turning --unseen fly_03 --out evaluation");
    let (head, rows) = table("evaluation/outputs.csv");
    let number = |row: &csv::StringRecord, name: &str| row[column(&head, name)].parse::<f64>().unwrap();
    let of = |question: &str, output: &str| {
        rows.iter().filter(|r| &r[1] == question && &r[2] == output).cloned().collect::<Vec<_>>()
    };
    assert_eq!([of("single-animal", "speed").len(), of("across-animal", "speed").len()], [2, 2]);
    let unseen = &of("unseen", "speed")[0];
    let (r2, chance) = (number(unseen, "r2"), number(unseen, "chance_r2"));
    assert!(r2 > chance + 0.05, "{unseen:?}");
    let stated = outputs[0].r2.unwrap();
    assert!((r2 - stated).abs() < 1e-3, "eval {r2}, the manifest {stated}");
    let text = std::fs::read_to_string(FOLDER.join("evaluation/table.txt")).unwrap();
    assert!(text.contains("turning") && text.contains("unseen R² ↑"), "{text}");
}

#[test]
fn a_live_loop_publishes_what_embed_writes_to_the_last_bit_and_a_session_keeps_it() {
    run(&FOLDER, &format!("embed {UNSEEN} --model models/tiny.toml --out offline.npy --csv offline.csv"));
    let (head, offline) = table("offline.csv");
    let columns = ["output_speed", "output_turning"].map(|name| column(&head, name));
    let rig = Rig::new(FOLDER.join("models/tiny.toml"));
    let sessions = rig.path("sessions");
    let rule =
        ["--set", "decision.fast.when=output(speed) > 0.3", "--set", "decision.fast.quality=degraded", "--record"];
    // At a rate that the recorder follows as well.
    let daemon = rig.daemon(&[&["--once"][..], &LOSSLESS, &rule, &[sessions.to_str().unwrap()]].concat());
    let mut listener = rig.listen();
    listener.until("a heartbeat", |m| m.kind == "heartbeat");
    rig.play(&[Path::new(UNSEEN)], &["--push", "--rate", "100"]).finish().code(0);
    daemon.finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    let status = listener.heard.iter().rfind(|m| m.kind == "status").unwrap();
    assert_eq!(status.header["outputs"], serde_json::json!(["speed", "turning"]));
    let decodes: Vec<_> = listener.decodes().into_iter().filter(|d| d.quality() != "fail").collect();
    assert_eq!(decodes.len(), offline.len());
    let mut told = 0;
    for (decode, row) in decodes.iter().zip(&offline) {
        let outputs = decode.header["outputs"].as_array();
        assert_eq!(outputs.is_some(), decode.quality() != "warmup", "{}", decode.header);
        for (value, column) in outputs.into_iter().flatten().zip(columns) {
            assert_eq!(as_written(value), row[column], "{}", decode.header);
            told += 1;
        }
    }
    assert!(told > 1000, "{told}");
    let fast = listener.heard.iter().filter(|m| m.kind == "decision" && m.header["name"] == "fast").count();
    assert!(fast > 0, "the fly walked, and no rule saw it");

    let session = std::fs::read_dir(sessions).unwrap().next().unwrap().unwrap().path();
    let session = session.to_str().unwrap();
    run(&FOLDER, &format!("embed {session} --model models/tiny.toml --out again.npy --csv again.csv"));
    for (again, row) in table("again.csv").1.iter().zip(&offline) {
        // Its quality is that of frames that came faster than life.
        assert!(again.iter().skip(2).eq(row.iter().skip(2)), "{again:?} {row:?}");
    }
    run(&FOLDER, &format!("export {session} --to csv --out session.csv"));
    let (head, recorded) = table("session.csv");
    for (output, column_offline) in ["output_speed", "output_turning"].into_iter().zip(columns) {
        let at = column(&head, output);
        let known = recorded.iter().zip(&offline).filter(|(_, row)| !row[column_offline].is_empty());
        known.for_each(|(recorded, row)| assert_eq!(recorded[at], row[column_offline]));
    }
}

/// A header's value as the table of `embed` has it: f32 as the shortest text.
fn as_written(value: &Value) -> String {
    (value.as_f64().unwrap() as f32).to_string()
}
