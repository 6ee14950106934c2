//! Another model goes in between two frames: no decode is lost, none is late by a period, none is a warm-up again.
//!
//! Method: a daemon decodes a simulated fly live; in mid-run it is told to take a model of the same weights under another name.
//! Then every embedding, before and after, must be that of an offline run without a swap, to the bit.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod support;

use std::path::{Path, PathBuf};

use ndarray::Array2;
use rustix::process::Signal;
use serde_json::Value;
use support::{Finished, Process, Rig, haltere};

const FLY: &str = "sim:seed=9001,animal=2,trial=3,seconds=60";
/// The model's own, so that decodes can be `ok`.
const RATE_HZ: f64 = 16.0;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml")
}

/// The shipped model under another name, perhaps with something else changed in its manifest.
fn renamed(folder: &Path, name: &str, change: impl Fn(String) -> String) -> PathBuf {
    let text = std::fs::read_to_string(shipped()).unwrap();
    let text = text.replace("name = \"fly\"", &format!("name = \"{name}\""));
    std::fs::copy(shipped().with_extension("onnx"), folder.join("fly.onnx")).unwrap();
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, change(text)).unwrap();
    path
}

fn offline(rig: &Rig) -> Array2<f32> {
    let out = rig.path("offline.npy");
    let mut command = haltere(["embed", FLY, "--progress", "never", "--model"]);
    command.arg(shipped()).arg("--out").arg(&out);
    Process::start("embed", &mut command).finish().code(0);
    ndarray_npy::read_npy(out).unwrap()
}

fn answer(finished: &Finished) -> Value {
    serde_json::from_str(&finished.out).unwrap()
}

#[test]
fn a_model_goes_in_without_a_lost_a_late_or_a_changed_decode_and_a_bad_one_stays_out() {
    let rig = Rig::new(shipped());
    let expected = offline(&rig);
    let daemon = rig.daemon(&["--set", "source.pattern=pull", "--set", "lane.overload=wait"]);
    let mut listener = rig.listen();
    let fly: [&Path; 1] = [Path::new(FLY)];
    let play = rig.play(&fly, &["--push", "--rate", &RATE_HZ.to_string()]);
    listener.until("a decode to be trusted", |m| m.kind == "decode" && m.quality() == "ok");

    let missing = rig.control(&["model", "no-such-model.toml"]).code(1);
    assert!(answer(&missing)["error"].as_str().unwrap().contains("no-such-model.toml"), "{}", missing.out);
    let folder = rig.path("");
    let strange = renamed(&folder, "strange", |text| text.replace("\"walking\"", "\"flying\""));
    let refused = rig.control(&["model", strange.to_str().unwrap()]).code(1);
    assert!(answer(&refused)["error"].as_str().unwrap().contains("labels"), "{}", refused.out);

    let other = renamed(&folder, "other", |text| text);
    let taken = answer(&rig.control(&["model", other.to_str().unwrap()]).code(0));
    assert_eq!((&taken["model"], &taken["generation"]), (&"other".into(), &2.into()));
    let swapped = listener.until("the swap", |m| m.is_event("swapped"));
    assert_eq!(swapped.number("generation"), 2);
    let first = listener.until("a decode of the new model", |m| m.header["model"]["name"] == "other");
    for _ in 0..30 {
        listener.until("a decode", |m| m.kind == "decode");
    }
    play.kill();
    daemon.signal(Signal::INT);
    daemon.finish().code(0);

    listener.assert_gapless_from_zero();
    let decodes: Vec<_> = listener.decodes().into_iter().filter(|d| !matches!(d.quality(), "stale" | "fail")).collect();
    let trusted = decodes.iter().position(|d| d.quality() == "ok").unwrap();
    let generations: Vec<u64> = decodes.iter().map(|d| d.header["model"]["generation"].as_u64().unwrap()).collect();
    assert!(generations.is_sorted() && generations.last() == Some(&2), "{generations:?}");
    for (before, after) in decodes.iter().zip(&decodes[1..]) {
        assert_eq!(before.number("frame") + 1, after.number("frame"), "no frame is left out");
    }
    let period_us = 1e6 / RATE_HZ;
    for decode in &decodes {
        let frame = decode.number("frame") as usize;
        let same = decode.embedding.iter().zip(expected.row(frame)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "frame {frame} of generation {}", decode.header["model"]["generation"]);
        let total = decode.header["latency_us"]["total"].as_f64().unwrap();
        assert!(total < period_us, "frame {frame}: {total} µs");
    }
    let again: Vec<_> = decodes[trusted..].iter().filter(|d| d.quality() == "warmup").collect();
    assert!(again.is_empty(), "no second warm-up: {again:?}");
    assert!(first.number("frame") >= 32, "{}", first.header);
}
