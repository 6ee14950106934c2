//! Another model goes in between two frames: no decode is lost, none is late by a period, none is a warm-up again.
//!
//! Method: a daemon decodes a simulated fly live; in mid-run it is told to take a model of the same weights under another name.
//! Then every embedding, before and after, must be that of an offline run without a swap, to the bit. Models with another
//! preprocessing, and models that fail in the shadow, are fed frame by frame, so that it is known with which frame a shadow began:
//! what it decodes must be what a daemon of its own decodes that began with this frame.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::fly as pixels;
use crate::support::process as support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use haltere::model::Manifest;
use haltere::session::Outline;
use haltere::sys::files::sha256_of;
use ndarray::Array2;
use rustix::process::Signal;
use serde_json::Value;
use support::{Finished, LOSSLESS, Listener, Microscope, Process, Rig, haltere, model, skip};

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
    // A machine that does something else for a period makes a decode late in one run; a swap would in each.
    let late: Vec<Vec<String>> =
        std::iter::repeat_with(late_in_a_swap).take(3).take_while(|late| !late.is_empty()).collect();
    assert!(late.len() < 3, "in each of three runs: {late:?}");
}

/// A run with a swap, in which nothing is lost or changed; returns the decodes that took longer than a period.
fn late_in_a_swap() -> Vec<String> {
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
    let mut late = Vec::new();
    for decode in &decodes {
        let frame = decode.number("frame") as usize;
        let same = decode.embedding.iter().zip(expected.row(frame)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "frame {frame} of generation {}", decode.header["model"]["generation"]);
        let total = decode.header["latency_us"]["total"].as_f64().unwrap();
        if total > 1e6 / RATE_HZ {
            late.push(format!("frame {frame}: {total} µs"));
        }
    }
    let again: Vec<_> = decodes[trusted..].iter().filter(|d| d.quality() == "warmup").collect();
    assert!(again.is_empty(), "no second warm-up: {again:?}");
    assert!(first.number("frame") >= 32, "{}", first.header);
    late
}

/// Side of the frames and of the untrained models' input, px.
const SIDE: usize = 64;
/// Frames of the movie below.
const FRAMES: usize = 220;

/// By frame: generation, embedding as bits, quality.
type Decodes = BTreeMap<u64, (u64, Vec<u32>, String)>;

/// A daemon that gets its frames one by one, from the test.
struct Fed {
    rig: Rig,
    daemon: Process,
    microscope: Microscope,
    listener: Listener,
}

impl Fed {
    fn new(model: &Path) -> Self {
        Self::with(model, |_| Vec::new())
    }

    /// With more arguments, which may name paths of the rig.
    fn with(model: &Path, more: impl Fn(&Rig) -> Vec<String>) -> Self {
        let rig = Rig::new(model.to_owned());
        let microscope = Microscope::new(&rig.frames);
        let more = more(&rig);
        let daemon = rig.daemon(&LOSSLESS.into_iter().chain(more.iter().map(String::as_str)).collect::<Vec<_>>());
        let listener = rig.listen();
        Self { rig, daemon, microscope, listener }
    }

    /// Sends these frames and waits until the last of them is decoded.
    fn feed(&mut self, frames: Range<usize>) {
        static MOVIE: OnceLock<Vec<f32>> = OnceLock::new();
        let movie = MOVIE.get_or_init(|| pixels::frames(1, SIDE, FRAMES));
        let last = frames.end as u64 - 1;
        for number in frames {
            let frame = &movie[number * SIDE * SIDE..][..SIDE * SIDE];
            let light = |pixel: usize| (frame[pixel] * 1000.0 + 5000.0).clamp(0.0, 65535.0) as u16;
            self.microscope.send(&[SIDE, SIDE], &serde_json::json!({ "frame": number }), light);
        }
        self.listener.until("the last decode", |m| m.kind == "decode" && m.header["frame"].as_u64() == Some(last));
    }

    /// An event that has come or will.
    fn event(&mut self, name: &str) -> support::Message {
        let heard = self.listener.heard.iter().find(|m| m.is_event(name)).cloned();
        heard.unwrap_or_else(|| self.listener.until(name, |m| m.is_event(name)))
    }

    /// Gives the running daemon another model; what it answers.
    fn swap(&self, model: &Path) -> Value {
        answer(&self.rig.control(&["model", model.to_str().unwrap()]).code(0))
    }

    /// Ends the daemon; generation, embedding as bits and quality of every frame's decode.
    fn end(mut self) -> Decodes {
        self.daemon.signal(Signal::INT);
        self.daemon.finish().code(0);
        self.listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
        self.listener.assert_gapless_from_zero();
        let of_frames = self.listener.decodes().into_iter().filter(|d| d.quality() != "fail");
        let row = |d: &support::Message| {
            let bits = d.embedding.iter().map(|value| value.to_bits()).collect();
            (d.number("frame"), (d.header["model"]["generation"].as_u64().unwrap(), bits, d.quality().to_owned()))
        };
        of_frames.map(row).collect()
    }
}

/// What a daemon of this model decodes of these frames.
fn alone(model: &Path, frames: Range<usize>) -> Decodes {
    let mut fed = Fed::new(model);
    fed.feed(frames);
    fed.end()
}

/// The model beside `of` under another name, with something changed.
fn sibling(of: &Path, name: &str, change: impl Fn(&mut Manifest)) -> PathBuf {
    let mut manifest = Manifest::read(of).unwrap();
    manifest.name = name.to_owned();
    change(&mut manifest);
    let path = of.with_file_name(format!("{name}.toml"));
    manifest.save(&path).unwrap();
    path
}

/// Another template and another warm-up: other pixels for the network from the first frame on.
fn other_preprocessing(manifest: &mut Manifest) {
    manifest.preprocess.registration.as_mut().unwrap().template_frames = 6;
    manifest.preprocess.normalise.as_mut().unwrap().warmup_frames = 25;
}

/// Every frame of `range` has this generation, and the bits that `expected` has.
fn assert_same(found: &Decodes, range: Range<u64>, generation: u64, expected: &Decodes) {
    for frame in range {
        assert_eq!(found[&frame].0, generation, "frame {frame}");
        assert!(found[&frame].1 == expected[&frame].1, "frame {frame} of generation {generation} differs");
    }
}

#[test]
fn a_model_with_another_preprocessing_decodes_as_if_it_had_begun_when_it_was_given() {
    let first = model("first", &[0], 0);
    let other = sibling(&first, "other", other_preprocessing);
    let (given, end) = (60, 160);
    let mut fed = Fed::new(&first);
    fed.feed(0..given);
    let taken = fed.swap(&other);
    assert_eq!(
        (&taken["generation"], &taken["takes_over_after"]),
        (&2.into(), &"its own preprocessing and one window".into())
    );
    fed.feed(given..end);
    fed.event("swapped");
    let found = fed.end();
    let (old, new) = (alone(&first, 0..end), alone(&other, given..end));
    // It takes over with the frame behind the first one that it decodes without warming up.
    let warm = *new.iter().find(|(_, (_, _, quality))| quality != "warmup").unwrap().0;
    assert!(warm > given as u64 + 25, "{warm}: the warm-up is the new model's own");
    assert_same(&found, 0..warm + 1, 1, &old);
    assert_same(&found, warm + 1..end as u64, 2, &new);
    assert!(found[&(warm + 1)].1 != old[&(warm + 1)].1, "the two models must tell the same frame apart");
    let again = found.range(warm..).find(|(_, (_, _, quality))| quality == "warmup");
    assert!(again.is_none(), "no second warm-up: {:?}", again.map(|(frame, _)| frame));
}

/// A network that runs on darkness, as it does when it is opened, and fails of the first frame with light in it.
const FAILS_IN_LIGHT: &str = r#"
graph.initializer.append(helper.make_tensor("much", TensorProto.FLOAT, [], [1e6]))
graph.initializer.append(helper.make_tensor("only", TensorProto.FLOAT, [1], [0.0]))
graph.node.extend([
    helper.make_node("Abs", [frame], ["size"]),
    helper.make_node("ReduceMax", ["size"], ["light"], keepdims=0),
    helper.make_node("Mul", ["light", "much"], ["scaled"]),
    helper.make_node("Cast", ["scaled"], ["place"], to=TensorProto.INT64),
    helper.make_node("Gather", ["only", "place"], ["nothing"]),
    helper.make_node("Add", ["inner", "nothing"], [out]),
])
"#;

/// A network that runs on darkness and returns NaN for every frame with light in it.
const NAN_IN_LIGHT: &str = r#"
graph.node.extend([
    helper.make_node("Abs", [frame], ["size"]),
    helper.make_node("ReduceMax", ["size"], ["light"], keepdims=0),
    helper.make_node("Neg", ["light"], ["below"]),
    helper.make_node("Sqrt", ["below"], ["nothing"]),
    helper.make_node("Add", ["inner", "nothing"], [out]),
])
"#;

/// Gives the output of a network to the nodes that come between.
const OPEN: &str = r#"
import sys, onnx
from onnx import TensorProto, helper
model = onnx.load(sys.argv[1])
graph = model.graph
frame, out = graph.input[0].name, graph.output[0].name
for node in graph.node:
    for names in (node.input, node.output):
        for at, name in enumerate(names):
            if name == out:
                names[at] = "inner"
"#;

/// A sibling that opens well and fails on live frames. `None` without a Python that has onnx.
fn failing(of: &Path, name: &str, nodes: &str, change: impl Fn(&mut Manifest)) -> Option<PathBuf> {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("HALTERE_PYTHON").map_or_else(installed, PathBuf::from);
    let onnx = of.with_file_name(format!("{name}.onnx"));
    let mut command = Command::new(&python);
    let program = format!("{OPEN}{nodes}onnx.save(model, sys.argv[2])");
    command.args(["-c", &program]).arg(of.with_extension("onnx")).arg(&onnx);
    if !command.status().is_ok_and(|status| status.success()) {
        return skip(&format!("{} has no onnx: `make setup`", python.display()));
    }
    let hash = sha256_of(&onnx).unwrap();
    Some(sibling(of, name, |manifest| {
        (manifest.file, manifest.sha256) = (format!("{name}.onnx").into(), hash.clone());
        change(manifest);
    }))
}

/// Frames 0 to 40 of the first model, then one that fails, from 80 on a good one, which is compared with the one that runs: it takes over
/// after one window.
fn good_after_failed(first: &Path, bad: &Path, good: &Path, reason: &str) {
    let mut fed = Fed::new(first);
    fed.feed(0..40);
    assert_eq!(fed.swap(bad)["generation"], 2);
    fed.feed(40..80);
    let failed = fed.event("swap_failed");
    assert_eq!((failed.number("generation"), &failed.header["reason"]), (2, &reason.into()));
    let taken = fed.swap(good);
    assert_eq!((&taken["model"], &taken["generation"]), (&Manifest::read(good).unwrap().name.into(), &3.into()));
    fed.feed(80..180);
    let swapped = fed.event("swapped");
    assert_eq!(swapped.number("generation"), 3);
    assert!(!fed.listener.heard.iter().any(|m| m.is_event("fault")));
    assert_eq!(taken["takes_over_after"], "one window");
    let (found, expected) = (fed.end(), alone(first, 0..180));
    // A window of 8 frames, seen in the shadow from frame 80 on.
    assert_same(&found, 0..88, 1, &expected);
    assert_same(&found, 88..180, 3, &expected);
}

#[test]
fn a_good_model_goes_in_after_one_that_failed_in_the_shadow() {
    let first = model("steady", &[0], 0);
    let Some(bad) = failing(&first, "dark", FAILS_IN_LIGHT, |_| {}) else { return };
    let good = sibling(&first, "good", |_| {});
    good_after_failed(&first, &bad, &good, "encoder");
}

#[test]
fn after_a_failure_with_another_preprocessing_a_good_model_is_compared_with_the_one_that_runs() {
    let first = model("before", &[0], 0);
    let Some(bad) = failing(&first, "dim", FAILS_IN_LIGHT, other_preprocessing) else { return };
    let good = sibling(&first, "after", |_| {});
    // The one that failed is forgotten with its preprocessing.
    good_after_failed(&first, &bad, &good, "encoder");
}

#[test]
fn a_model_that_returns_nan_is_given_up_and_a_good_one_goes_in_after_it() {
    let first = model("finite", &[0], 0);
    let good = sibling(&first, "follower", |_| {});
    let same = |_: &mut Manifest| {};
    for (name, change) in [("nan", &same as &dyn Fn(&mut Manifest)), ("nan_other", &other_preprocessing)] {
        let Some(bad) = failing(&first, name, NAN_IN_LIGHT, change) else { return };
        good_after_failed(&first, &bad, &good, "non_finite");
    }
}

#[test]
fn sessions_of_a_failed_trial_hold_the_model_that_decodes() {
    let first = model("kept", &[0], 0);
    let Some(bad) = failing(&first, "given_up", NAN_IN_LIGHT, |_| {}) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut fed = Fed::with(&first, |_| {
        let folder = folder.path().to_str().unwrap().to_owned();
        ["--record", &folder, "--set", "record.at_start=false", "--set", "source.frame_max_mib=1"]
            .map(str::to_owned)
            .into()
    });
    fed.feed(0..30);
    fed.swap(&bad);
    let control = |fed: &Fed, words: &[&str]| answer(&fed.rig.control(words).code(0));
    let begun = |fed: &Fed| PathBuf::from(control(fed, &["record", "start"])["file"].as_str().unwrap());
    let during = begun(&fed);
    fed.feed(30..60);
    fed.event("swap_failed");
    control(&fed, &["record", "stop"]);
    let after = begun(&fed);
    fed.feed(60..90);
    control(&fed, &["record", "stop"]);
    fed.end();
    for session in [during, after] {
        let outline = Outline::of(&session).unwrap();
        assert_eq!((outline.about["model"].as_str(), outline.models().len()), ("kept", 1), "{}", session.display());
        assert_eq!(outline.not_by_one_model(), None);
    }
}
