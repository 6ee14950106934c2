//! Lab Streaming Layer says of each frame what its decode over ZeroMQ says, and falls back to neutral with it.
//!
//! Method: a daemon with the shipped model and a simulated fly; pylsl, LSL's own client, reads both streams with the library of its
//! wheel, which is also the daemon's. A file named by LSLAPICFG keeps LSL to 127.0.0.1. Every sample is held against the decode of
//! the same frame. Python is `$HALTERE_PYTHON`, else `.venv/bin/python` (`make setup` makes it).
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Message, Process, Rig, skip};

/// 40 s of a fly, four times as fast as it lived: its decodes are `degraded` for their rate, and name actions.
const FLY: &str = "sim:seed=9001,animal=2,trial=3,seconds=40";
const RATE_HZ: &str = "64";

/// No packet leaves this machine.
const ALONE: &str = "[multicast]\nResolveScope = machine\nMachineAddresses = {127.0.0.1}\nListenAddress = 127.0.0.1\n\
                     [ports]\nIPv6 = disable\n";

/// Reads both streams until the one says `fail`, and writes what it heard as JSON lines.
const READER: &str = r#"
import json, math, sys, time
import pylsl

def find(name):
    found = pylsl.resolve_byprop("name", name, timeout=30)
    assert len(found) == 1, (name, len(found))
    inlet = pylsl.StreamInlet(found[0], max_buflen=3600, recover=False)
    inlet.open_stream(timeout=30)
    return inlet

def about(inlet):
    info = inlet.info(timeout=30)
    return {"name": info.name(), "type": info.type(), "source_id": info.source_id(), "rate": info.nominal_srate(),
            "channels": info.channel_count(), "xml": info.as_xml()}

numbers, markers, decisions = (find(f"{sys.argv[1]}-{what}") for what in ("embedding", "action", "decision"))
with open(sys.argv[2], "w") as out:
    tell = lambda kind, value: print(json.dumps([kind, value]), file=out)
    tell("about", about(numbers))
    tell("about", about(markers))
    # LSL's clock minus the one in the headers.
    tell("offset", pylsl.local_clock() - time.clock_gettime(time.CLOCK_MONOTONIC))
    print("listening", flush=True)
    def sample(kind, inlet, patience):
        try:
            values, stamp = inlet.pull_sample(timeout=patience)
        except Exception:
            return None  # The stream is gone, and everything that came has been read.
        if values is not None:
            safe = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
            tell(kind, {"stamp": stamp, "values": safe})
        return values
    until = time.time() + 300
    while time.time() < until:
        values = sample("numbers", numbers, 1.0)
        if values is not None and values[-4] == 4.0:
            break
    while sample("markers", markers, 1.0) is not None:
        pass
    while sample("decisions", decisions, 1.0) is not None:
        pass
"#;

/// A Python with pylsl, and the liblsl that its wheel brings.
fn python() -> Option<(PathBuf, PathBuf)> {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("HALTERE_PYTHON").map_or_else(installed, PathBuf::from);
    let script = "import pathlib, pylsl; print(next(pathlib.Path(pylsl.__file__).parent.glob('lib/liblsl.so*')))";
    let found = Command::new(&python).args(["-c", script]).output().ok().filter(|said| said.status.success());
    let Some(said) = found else { return skip(&format!("{} has no pylsl: `make setup`", python.display())) };
    let library = PathBuf::from(String::from_utf8(said.stdout).unwrap().trim());
    Some((python, library))
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml")
}

fn manifest() -> toml::Table {
    std::fs::read_to_string(model()).unwrap().parse().unwrap()
}

/// Dimensions of the model's embedding.
fn dimensions() -> usize {
    manifest()["embedding"].as_integer().unwrap() as usize
}

fn labels() -> Vec<String> {
    manifest()["labels"].as_array().unwrap().iter().map(|label| label.as_str().unwrap().to_owned()).collect()
}

/// What pylsl heard, by kind.
fn heard(path: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut kinds = BTreeMap::<String, Vec<Value>>::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let (kind, value): (String, Value) = serde_json::from_str(line).unwrap();
        kinds.entry(kind).or_default().push(value);
    }
    kinds
}

#[test]
fn an_inlet_receives_what_a_subscriber_receives_and_the_end_is_neutral() {
    let Some((python, library)) = python() else { return };
    let rig = Rig::new(model());
    let (alone, out) = (rig.path("lsl.cfg"), rig.path("heard.jsonl"));
    std::fs::write(&alone, ALONE).unwrap();
    // Other tests may run beside this one on the same loopback.
    let name = format!("test{}", std::process::id());
    let sets = [
        format!("lsl.name={name}"),
        format!("lsl.library={}", library.display()),
        "lsl.decisions=true".to_owned(),
        // Its last output goes on when the daemon ends.
        "decision.move.when=not p(resting) > 0.5".to_owned(),
        "decision.move.armed=true".to_owned(),
        "decision.move.quality=degraded".to_owned(),
        "decision.move.width_ms=9000".to_owned(),
        "publish.deadline_ms=3000".to_owned(),
        "source.pattern=pull".to_owned(),
        "lane.overload=wait".to_owned(),
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let mut daemon = Process::start("run", rig.command(&sets).env("LSLAPICFG", &alone));
    daemon.until_it_says("ready:");
    let mut listener = rig.listen();
    let mut command = Command::new(python);
    let mut reader = Process::start("pylsl", command.args(["-c", READER, &name]).arg(&out).env("LSLAPICFG", &alone));
    reader.until_it_says("listening");
    let fly: [&Path; 1] = [Path::new(FLY)];
    rig.play(&fly, &["--rate", RATE_HZ, "--push"]).finish().code(0);
    listener.during(Duration::from_millis(500));
    daemon.signal(Signal::INT);
    daemon.finish().code(0).says(&["Lab Streaming Layer announces its streams"]);
    reader.finish().code(0);
    listener.during(Duration::from_millis(300));

    let decodes = listener.decodes();
    let of_frames: BTreeMap<u64, &Message> =
        decodes.iter().filter(|d| d.quality() != "fail").map(|d| (d.number("frame"), *d)).collect();
    let heard = heard(&out);
    assert_described(&heard["about"], &name);
    let actions = assert_numbers(&heard["numbers"], &of_frames, heard["offset"][0].as_f64().unwrap());
    assert_markers(&heard["markers"], &actions);
    let markers: Vec<&str> = heard["decisions"].iter().map(|marker| marker["values"][0].as_str().unwrap()).collect();
    let decided: Vec<String> =
        listener.heard.iter().filter(|m| m.kind == "decision").map(|m| super::decided::words(&m.header)).collect();
    assert!(decided.len() > 1 && markers == decided, "{markers:?} and {decided:?}");
    assert!(markers.iter().any(|words| words.starts_with("move output 1 ")), "{markers:?}");
}

/// The channels have names, and the model is named by its hash.
fn assert_described(about: &[Value], name: &str) {
    let text = |about: &Value, key: &str| about[key].as_str().unwrap().to_owned();
    let (numbers, markers, channels) = (&about[0], &about[1], dimensions() + 6);
    assert_eq!((text(numbers, "name"), text(numbers, "type")), (format!("{name}-embedding"), "Embedding".to_owned()));
    assert_eq!((text(markers, "name"), text(markers, "type")), (format!("{name}-action"), "Markers".to_owned()));
    assert_eq!(
        (&numbers["channels"], &markers["channels"], &numbers["rate"]),
        (&channels.into(), &1.into(), &0.0.into())
    );
    assert!(text(numbers, "source_id").ends_with(&format!(":rig1:{name}:embedding")), "{}", numbers["source_id"]);
    let manifest = manifest();
    let hash = format!("<sha256>{}</sha256>", manifest["sha256"].as_str().unwrap());
    for xml in [text(numbers, "xml"), text(markers, "xml")] {
        for part in
            [hash.as_str(), "<name>fly</name>", "<label>walking</label>", "<label>neutral</label>", "publication"]
        {
            assert!(xml.contains(part), "{part} is not in {xml}");
        }
    }
    let xml = text(numbers, "xml");
    assert_eq!(xml.matches("<channel>").count(), channels);
    let last = format!("e{}", dimensions() - 1);
    for label in ["e0", &last, "action_id", "confidence", "quality", "frame", "latency_ms", "generation"] {
        assert!(xml.contains(&format!("<label>{label}</label>")), "{label} is not in {xml}");
    }
}

/// Sample by sample what the decodes say, stamped with their publication; gives the action of each and its stamp.
fn assert_numbers(samples: &[Value], of_frames: &BTreeMap<u64, &Message>, offset_s: f64) -> Vec<(f64, i64)> {
    assert!(samples.len() > 600, "{}", samples.len());
    let (labels, dimensions) = (labels(), dimensions());
    let (mut actions, mut named) = (Vec::new(), 0);
    for sample in samples {
        let values: Vec<f32> =
            sample["values"].as_array().unwrap().iter().map(|v| v.as_f64().map_or(f32::NAN, |v| v as f32)).collect();
        let (embedding, more) = values.split_at(dimensions);
        let [id, confidence, quality, frame, latency_ms, generation] = more else { panic!("{more:?}") };
        let stamp = sample["stamp"].as_f64().unwrap();
        actions.push((stamp, *id as i64));
        if frame.is_nan() {
            assert!(embedding.iter().all(|value| *value == 0.0) && *id == -1.0 && *quality >= 3.0, "{more:?}");
            assert!(latency_ms.is_nan());
            continue;
        }
        let decode = of_frames[&(*frame as u64)];
        assert!(embedding.iter().zip(&decode.embedding).all(|(a, b)| a.to_bits() == b.to_bits()), "frame {frame}");
        let word = ["ok", "degraded", "warmup", "stale", "fail"][*quality as usize];
        assert_eq!(word, decode.quality(), "frame {frame}");
        let action = labels.iter().position(|label| decode.header["action"] == **label).map_or(-1, |at| at as i64);
        assert_eq!((*id as i64, *generation), (action, 1.0), "frame {frame}");
        let believed = matches!(word, "ok" | "degraded");
        let expected = if believed { decode.header["confidence"].as_f64().unwrap() as f32 } else { 0.0 };
        assert_eq!(*confidence, expected, "frame {frame}");
        named += usize::from(action >= 0);
        // The relay speaks after the decode itself; on a busy machine a while after.
        let published_s = decode.number("t_pub_ns") as f64 * 1e-9;
        assert!((-0.001..0.1).contains(&(stamp - offset_s - published_s)), "frame {frame}: {stamp} and {published_s}");
        let received_s = decode.number("t_recv_ns") as f64 * 1e-9;
        let moment_s = stamp - offset_s - f64::from(*latency_ms) * 1e-3;
        assert!((moment_s - received_s).abs() < 0.001, "frame {frame}: received at {received_s}, {moment_s} by LSL");
    }
    assert!(named > 200, "the fly must do something: {named}");
    assert!(samples.last().unwrap()["values"][dimensions + 2] == 4.0, "the last word is `fail`");
    actions
}

/// One marker for each change of the action, of the same time as its sample; the last is neutral.
fn assert_markers(markers: &[Value], actions: &[(f64, i64)]) {
    let labels = labels();
    let mut changes = actions.to_vec();
    changes.dedup_by_key(|(_, id)| *id);
    assert!(changes.len() > 3, "{changes:?}");
    assert_eq!(markers.len(), changes.len());
    for (marker, (stamp, id)) in markers.iter().zip(&changes) {
        let action = usize::try_from(*id).map_or("neutral", |id| labels[id].as_str());
        assert_eq!((marker["values"][0].as_str(), marker["stamp"].as_f64()), (Some(action), Some(*stamp)));
    }
    assert_eq!(markers.last().unwrap()["values"][0], "neutral");
}

#[test]
fn a_library_that_is_not_there_is_refused_at_the_start_with_what_was_searched() {
    let rig = Rig::new(model());
    let mut command = rig.command(&["--set", "lsl.name=nobody", "--set", "lsl.library=no/liblsl.so"]);
    let refused = Process::start("run", &mut command).finish().code(7);
    refused.says(&["lsl: there is no library", "no/liblsl.so", "pip install pylsl", "lsl.library"]);
}

/// Sends markers as a stimulus program does, once somebody reads.
const SENDER: &str = r#"
import sys, time
import pylsl

outlet = pylsl.StreamOutlet(pylsl.StreamInfo(sys.argv[1], "Markers", 1, pylsl.IRREGULAR_RATE, "string", "haltere-test"))
assert outlet.wait_for_consumers(60)
time.sleep(1)
for number in range(10):
    print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)
    outlet.push_sample([f"flash {number}"])
    time.sleep(0.1)
outlet.push_sample(['{"name":"pulse","from":"laser","decision":5}'])
time.sleep(3)
"#;

#[test]
fn markers_of_another_program_come_in_at_the_inlet_with_their_times() {
    let Some((python, liblsl)) = python() else { return };
    let rig = Rig::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml"));
    let (alone, name) = (rig.path("lsl.cfg"), format!("stimulus-{}", std::process::id()));
    std::fs::write(&alone, ALONE).unwrap();
    let sets = [format!("inlet.lsl={name}"), format!("lsl.library={}", liblsl.display())];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let mut daemon = Process::start("run", rig.command(&sets).env("LSLAPICFG", &alone));
    daemon.until_it_says("ready:");
    let mut listener = rig.listen();
    let mut command = Command::new(python);
    let sender = Process::start("pylsl", command.args(["-c", SENDER, &name]).env("LSLAPICFG", &alone));
    let last = listener.until("the acknowledgement", |m| m.is_event("inlet") && m.header["name"] == "pulse");
    assert_eq!((&last.header["from"], &last.header["decision"]), (&"laser".into(), &5.into()));
    let flashes: Vec<u64> = listener
        .heard
        .iter()
        .filter(|m| m.is_event("inlet") && m.header["from"] == "lsl")
        .map(|m| m.number("t_ns"))
        .collect();
    let said = sender.finish().code(0).out;
    let sent: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!((flashes.len(), sent.len()), (10, 10), "{flashes:?}");
    let late: Vec<i64> = flashes.iter().zip(&sent).map(|(came, sent)| *came as i64 - *sent as i64).collect();
    println!("from the clock to LSL's stamp, ns: {late:?}");
    assert!(late.iter().all(|ns| (-2_000_000..50_000_000).contains(ns)), "{late:?}");
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
}
