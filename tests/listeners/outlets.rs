//! Text, fixed bytes, OSC and the serial line say what the decodes say, and fall back to neutral with them.
//!
//! Method: one daemon with all outlets, the shipped model and a simulated fly; sockets, a UDP port and a pseudo-terminal of the
//! test's own hear what devices would hear, and every message is held against the decode of the same frame.
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rosc::{OscPacket, OscType};
use rustix::process::Signal;
use serialport::{SerialPort, TTYPort};
use support::{Message, Rig, wait_for};

/// 40 s of a fly, four times as fast as it lived: its decodes are `degraded` for their rate, and name actions.
const FLY: &str = "sim:seed=9001,animal=2,trial=3,seconds=40";
const RATE_HZ: &str = "64";

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml")
}

pub fn subscriber(endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvhwm(0).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_subscribe(b"").unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

fn all_of(socket: &zmq::Socket) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| (socket.poll(zmq::POLLIN, 300).unwrap() > 0).then(|| socket.recv_bytes(0).unwrap())).collect()
}

/// Everything that comes down the line until it is hung up.
fn bytes_of(mut line: TTYPort) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 256]);
    line.set_timeout(Duration::from_millis(100)).unwrap();
    loop {
        match line.read(&mut buffer) {
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(cause) if cause.kind() == std::io::ErrorKind::TimedOut => {}
            Err(_) => return all,
        }
    }
}

/// Action, id and confidence as a device must see them.
fn expected(decode: &Message, labels: &[String]) -> (String, i32, f32) {
    let believed = matches!(decode.quality(), "ok" | "degraded");
    let action = decode.header["action"].as_str().unwrap().to_owned();
    let id = labels.iter().position(|label| *label == action).map_or(-1, |id| id as i32);
    let confidence = if believed { decode.header["confidence"].as_f64().unwrap() as f32 } else { 0.0 };
    (action, id, confidence)
}

fn labels() -> Vec<String> {
    let manifest: toml::Table = std::fs::read_to_string(model()).unwrap().parse().unwrap();
    manifest["labels"].as_array().unwrap().iter().map(|label| label.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_outlet_says_of_each_frame_what_its_decode_says_and_ends_neutral() {
    let rig = Rig::new(model());
    let [plain_at, binary_at] = ["plain", "binary"].map(|name| format!("ipc://{}", rig.path(name).display()));
    let ear = UdpSocket::bind("127.0.0.1:0").unwrap();
    ear.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (line, device) = TTYPort::pair().unwrap();
    let serial = device.name().unwrap();
    let sets = [
        format!("plain.endpoint={plain_at}"),
        "plain.template={action} {confidence} {frame}".to_owned(),
        format!("binary.endpoint={binary_at}"),
        format!("osc.receiver={}", ear.local_addr().unwrap()),
        "osc.embedding=true".to_owned(),
        format!("serial.device={serial}"),
        "publish.deadline_ms=3000".to_owned(),
        "source.pattern=pull".to_owned(),
        "lane.overload=wait".to_owned(),
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    drop(device);
    // Held open until the last byte was read: `serialport` reads nothing more of a line that was hung up.
    let held = File::options().read(true).write(true).open(serial).unwrap();
    let daemon = rig.daemon(&sets);
    let line = std::thread::spawn(move || bytes_of(line));
    let (plain, binary) = (subscriber(&plain_at), subscriber(&binary_at));
    let mut listener = rig.listen();
    let osc = std::thread::spawn(move || datagrams(&ear));
    let fly: [&Path; 1] = [Path::new(FLY)];
    rig.play(&fly, &["--rate", RATE_HZ, "--push"]).finish().code(0);
    listener.during(Duration::from_millis(500));
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
    listener.during(Duration::from_millis(300));
    drop(held);

    let labels = labels();
    let decodes = listener.decodes();
    assert!(decodes.len() > 600, "{}", decodes.len());
    let of_frames: BTreeMap<u64, &Message> =
        decodes.iter().filter(|d| d.quality() != "fail").map(|d| (d.number("frame"), *d)).collect();
    let named = of_frames.values().filter(|d| expected(d, &labels).1 >= 0).count();
    assert!(named > 200, "the fly must do something: {named}");

    let lines: Vec<String> = all_of(&plain).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    assert_lines(&lines, &of_frames, &labels);
    let structures = all_of(&binary);
    let ids = assert_structures(&structures, &lines, &labels);

    let osc = osc.join().unwrap();
    assert!(osc.len() > 600, "{}", osc.len());
    for (frame, (action, id, confidence, embedding)) in &osc {
        let decode = of_frames[frame];
        assert_eq!((action.clone(), *id, *confidence), expected(decode, &labels), "frame {frame}");
        assert_eq!(*embedding, decode.embedding, "frame {frame}");
    }

    assert_bytes(line.join().unwrap(), &ids);
}

/// The line says changes, and the same byte once more every second.
fn assert_bytes(mut bytes: Vec<u8>, ids: &[i32]) {
    bytes.dedup();
    let mut changes = vec![0];
    changes.extend(ids.iter().map(|&id| (id + 1) as u8));
    changes.dedup();
    assert_eq!(bytes, changes);
    assert!(bytes.len() > 3, "{bytes:?}");
    assert_eq!(bytes.last(), Some(&0));
}

/// Text by text what the decodes of the frames say, and a neutral end.
fn assert_lines(lines: &[String], of_frames: &BTreeMap<u64, &Message>, labels: &[String]) {
    let mut compared = 0;
    for words in lines.iter().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|words| words[2] != "-1") {
        let (action, _, confidence) = expected(of_frames[&words[2].parse().unwrap()], labels);
        assert_eq!((words[0], words[1]), (action.as_str(), format!("{confidence:.2}").as_str()));
        compared += 1;
    }
    assert!(compared > 600, "{compared}");
    assert_eq!(lines.last().unwrap(), "neutral 0.00 -1");
}

/// Without gaps, and of the actions that the lines name; gives their ids.
fn assert_structures(structures: &[Vec<u8>], lines: &[String], labels: &[String]) -> Vec<i32> {
    assert!(structures.iter().all(|bytes| bytes.len() == 24));
    let seq = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(structures.iter().zip(&structures[1..]).all(|(before, after)| seq(before) + 1 == seq(after)));
    let ids: Vec<i32> = structures.iter().map(|b| i32::from_le_bytes(b[16..20].try_into().unwrap())).collect();
    let from_plain = |line: &String| {
        let action = line.split(' ').next().unwrap();
        labels.iter().position(|label| label == action).map_or(-1, |id| id as i32)
    };
    // Both sockets were heard from some frame on, to the end.
    let count = ids.len().min(lines.len());
    let said: Vec<i32> = lines[lines.len() - count..].iter().map(from_plain).collect();
    assert_eq!(ids[ids.len() - count..], said);
    ids
}

type Heard = BTreeMap<u64, (String, i32, f32, Vec<f32>)>;

/// Datagrams by frame, until none came for a while after the first.
fn datagrams(ear: &UdpSocket) -> Heard {
    let (mut heard, mut decode) = (Heard::new(), None);
    let (mut buffer, patience) = ([0; 4096], Instant::now() + Duration::from_secs(300));
    while Instant::now() < patience {
        let Ok(count) = ear.recv(&mut buffer) else { if heard.is_empty() { continue } else { break } };
        let (rest, packet) = rosc::decoder::decode_udp(&buffer[..count]).unwrap();
        assert!(rest.is_empty());
        let OscPacket::Message(message) = packet else { panic!("a bundle") };
        match (message.addr.as_str(), &message.args[..]) {
            (
                "/haltere/decode",
                [
                    OscType::String(action),
                    OscType::Int(id),
                    OscType::Float(confidence),
                    OscType::Int(frame),
                    OscType::String(_),
                ],
            ) => decode = u64::try_from(*frame).ok().map(|frame| (frame, action.clone(), *id, *confidence)),
            ("/haltere/embedding", values) => {
                let values = values.iter().map(|v| v.clone().float().unwrap()).collect();
                if let Some((frame, action, id, confidence)) = decode.take() {
                    heard.insert(frame, (action, id, confidence, values));
                }
            }
            (address, arguments) => panic!("{address} {arguments:?}"),
        }
    }
    heard
}

/// A terminal that another process holds: with that process it is gone, as a device that is unplugged.
fn terminal() -> Option<(std::process::Child, String)> {
    let script = "import os, time; m, s = os.openpty(); print(os.ttyname(s), flush=True); time.sleep(600)";
    let mut command = std::process::Command::new("python3");
    let Ok(mut holder) = command.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn() else {
        return support::skip("no python3 in the path");
    };
    let mut name = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.as_mut().unwrap()), &mut name).unwrap();
    Some((holder, name.trim().to_owned()))
}

#[test]
fn a_line_that_is_unplugged_is_told_and_counted_and_the_decodes_go_on() {
    let Some((mut holder, device)) = terminal() else { return };
    let rig = Rig::new(model());
    let set = format!("serial.device={device}");
    let mut daemon = rig.daemon(&["--set", &set, "--set", "serial.write=every"]);
    let mut listener = rig.listen();
    let fly: [&Path; 1] = [Path::new(FLY)];
    let play = rig.play(&fly, &["--rate", "32"]);
    listener.until("a decode", |m| m.kind == "decode");
    holder.kill().unwrap();
    holder.wait().unwrap();
    daemon.until_it_says("the serial outlet does not accept decodes");
    let told = listener.until("the event", |m| m.is_event("outlet_lost"));
    assert_eq!(told.header["outlet"], "serial");
    let lost = wait_for("losses in the status", || rig.status()["relay_lost"].as_u64().filter(|&lost| lost > 5));
    let more = listener.during(Duration::from_millis(500));
    assert!(more.iter().any(|m| m.kind == "decode"), "after {lost} losses the decodes must go on");
    play.kill();
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
}

#[test]
fn a_device_that_is_not_there_is_refused_at_the_start_by_name() {
    let rig = Rig::new(model());
    let mut command = rig.command(&["--set", "serial.device=/dev/no-such-line"]);
    let refused = support::Process::start("run", &mut command).finish().code(7);
    refused.says(&["serial /dev/no-such-line", "is it the right device"]);
    let mut command = rig.command(&["--set", "plain.template={speed}"]);
    support::Process::start("run", &mut command).finish().code(3).says(&["{speed}", "{action}"]);
}
