//! Decisions on the outlets for other devices: each says what `decision/<source>` says, and every output ends with the fail-safe.
//!
//! Method: a daemon whose rule holds on every decode that counts, and what devices would hear: sockets, a UDP port, a pseudo-terminal. Lab
//! Streaming Layer is in `lsl.rs`.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::io::Read;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rosc::{OscMessage, OscPacket, OscType};
use rustix::process::Signal;
use serialport::{SerialPort, TTYPort};
use support::{Listener, Message, Process, Rig, fly, model};

/// Enough of a deadline for a busy machine.
const DEADLINE_MS: u64 = 1500;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a device is told, in the words of the `plain` outlet.
pub fn words(header: &serde_json::Value) -> String {
    let text = |key: &str| header[key].as_str().unwrap_or("-").to_owned();
    let train = |key: &str| header["train"][key].as_u64().unwrap_or(0);
    let delay_ms = header["train"]["delay_ms"].as_f64().unwrap_or(0.0);
    format!(
        "{} {} {} {} {} {delay_ms:.3} {} {} {}",
        text("name"),
        text("what"),
        header["number"],
        header["frame"],
        text("reason"),
        train("width_ms"),
        train("period_ms"),
        train("count")
    )
}

/// What devices hear on every outlet of one daemon.
struct Devices {
    plain: zmq::Socket,
    binary: zmq::Socket,
    osc: UdpSocket,
    line: TTYPort,
    /// Held open, so that the line is not hung up before the last byte was read.
    _held: std::fs::File,
    lines: Vec<String>,
    structures: Vec<Vec<u8>>,
    messages: Vec<OscMessage>,
    bytes: Vec<u8>,
}

impl Devices {
    /// All outlets of a daemon with the rule `light`, whose further keys are these.
    fn of_daemon(rig: &Rig, rule: &[&str]) -> (Self, Process) {
        let [plain_at, binary_at] = ["plain", "binary"].map(|name| format!("ipc://{}", rig.path(name).display()));
        let osc = UdpSocket::bind("127.0.0.1:0").unwrap();
        osc.set_nonblocking(true).unwrap();
        let (mut line, device) = TTYPort::pair().unwrap();
        line.set_timeout(Duration::ZERO).unwrap();
        let serial = device.name().unwrap();
        drop(device);
        let held = std::fs::File::options().read(true).write(true).open(&serial).unwrap();
        let mut sets = vec![
            format!("plain.endpoint={plain_at}"),
            format!("binary.endpoint={binary_at}"),
            format!("osc.receiver={}", osc.local_addr().unwrap()),
            format!("serial.device={serial}"),
            format!("publish.deadline_ms={DEADLINE_MS}"),
        ];
        sets.extend(["plain", "binary", "osc", "serial"].map(|outlet| format!("{outlet}.decisions=true")));
        let always = ["when=light > 0.001", "armed=true", "quality=degraded", "repeat=true"];
        sets.extend(always.iter().chain(rule).map(|key| format!("decision.light.{key}")));
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let daemon = rig.daemon(&sets);
        let [plain, binary] = [plain_at, binary_at].map(|endpoint| super::outlets::subscriber(&endpoint));
        let nothing = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (lines, structures, messages, bytes) = nothing;
        (Self { plain, binary, osc, line, _held: held, lines, structures, messages, bytes }, daemon)
    }

    /// Takes what has come so far: decisions only.
    fn hear(&mut self) {
        while let Ok(line) = self.plain.recv_bytes(zmq::DONTWAIT) {
            let line = String::from_utf8(line).unwrap();
            self.lines.extend(line.strip_prefix("decision ").map(str::to_owned));
        }
        while let Ok(bytes) = self.binary.recv_bytes(zmq::DONTWAIT) {
            self.structures.extend((bytes.len() == 48).then_some(bytes));
        }
        let mut buffer = [0; 4096];
        while let Ok(count) = self.osc.recv(&mut buffer) {
            let OscPacket::Message(message) = rosc::decoder::decode_udp(&buffer[..count]).unwrap().1 else { panic!() };
            self.messages.extend((message.addr == "/haltere/decision").then_some(message));
        }
        while let Ok(count) = self.line.read(&mut buffer) {
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    /// Hears until this holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "no {what}: {:?} {:?} {:?}", self.lines, self.messages, self.bytes);
            std::thread::sleep(Duration::from_millis(5));
            self.hear();
        }
    }

    /// How often each outlet has said that an output begins, or that it ends.
    fn said(&self, what: &str, code: u8) -> [usize; 3] {
        let lines = self.lines.iter().filter(|line| line.split(' ').nth(1) == Some(what)).count();
        let structures = self.structures.iter().filter(|bytes| bytes[47] == code).count();
        let messages = self.messages.iter().filter(|said| said.args[1] == OscType::String(what.to_owned())).count();
        [lines, structures, messages]
    }

    fn forget(&mut self) {
        self.hear();
        self.lines.clear();
        self.structures.clear();
        self.messages.clear();
        self.bytes.clear();
    }
}

fn decisions(listener: &Listener) -> Vec<&Message> {
    listener.heard.iter().filter(|message| message.kind == "decision").collect()
}

fn microscope(rig: &Rig) -> Process {
    rig.play(&[&fly("GC6s.tif")], &["--rate", "30", "--loop", "0"])
}

#[test]
fn every_outlet_says_of_each_decision_what_its_message_says() {
    let rig = Rig::new(model("decided_outlets", &[0], 0));
    let rule = ["refractory_ms=200", "width_ms=40", "jitter_ms=20", "sham_percent=40"];
    let (mut devices, daemon) = Devices::of_daemon(&rig, &rule);
    let mut listener = rig.listen();
    let play = microscope(&rig);
    devices.until("twelve decisions", |devices| devices.said("output", 1)[0] > 6 && devices.said("withheld", 0)[0] > 3);
    play.kill();
    listener.during(Duration::from_millis(DEADLINE_MS + 500));
    daemon.signal(Signal::INT);
    daemon.finish().code(0);
    listener.during(Duration::from_millis(200));
    devices.hear();

    let published = decisions(&listener);
    let expected: Vec<String> = published.iter().map(|message| words(&message.header)).collect();
    // Each socket was heard from some decision on, to the end.
    let tail = |count: usize| &expected[expected.len() - count..];
    assert!(devices.lines.len() >= 10 && devices.lines == tail(devices.lines.len()), "{:?}", devices.lines);
    let numbers = |bytes: &Vec<u8>, from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap());
    let short = |bytes: &Vec<u8>, from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().unwrap());
    for (bytes, message) in devices.structures.iter().rev().zip(published.iter().rev()) {
        let header = &message.header;
        assert_eq!([numbers(bytes, 16), numbers(bytes, 24)], ["number", "frame"].map(|key| message.number(key)));
        let delay_us = header["train"]["delay_ms"].as_f64().map_or(0.0, |ms| (ms * 1e3).round());
        assert_eq!((f64::from(short(bytes, 32)), bytes[46]), (delay_us, 0));
        let code = ["withheld", "output", "ended"].iter().position(|what| header["what"] == *what).unwrap();
        assert_eq!((usize::from(bytes[47]), short(bytes, 36) > 0), (code, code < 2), "{header}");
    }
    assert!(devices.structures.len() >= 10 && devices.messages.len() == expected.len(), "UDP was heard from the first");
    for (said, message) in devices.messages.iter().zip(&published) {
        let of = &message.header;
        let text = |key: &str| OscType::String(of[key].as_str().unwrap_or_default().to_owned());
        assert_eq!(said.args[..3], [text("name"), text("what"), text("reason")]);
        assert_eq!(said.args[3..5], ["number", "frame"].map(|key| OscType::Int(message.number(key) as i32)));
        let OscType::Float(delay_ms) = said.args[5] else { panic!("{said:?}") };
        assert!((f64::from(delay_ms) - of["train"]["delay_ms"].as_f64().unwrap_or(0.0)).abs() < 1e-3);
    }
    // The line shows each output as a one and a zero; nothing for sham trials.
    let outputs = published.iter().filter(|message| message.header["what"] == "output").count();
    devices.bytes.dedup();
    assert_eq!(devices.bytes, [0, 1].repeat(outputs).into_iter().chain([0]).collect::<Vec<u8>>());
}

#[test]
fn whatever_ends_the_decodes_ends_the_output_on_every_outlet() {
    let rig = Rig::new(model("ended_outlets", &[0], 0));
    // An output of a minute: within this test none ends by itself.
    let (mut devices, daemon) = Devices::of_daemon(&rig, &["width_ms=60000"]);
    let begun = |devices: &Devices| devices.said("output", 1) == [1; 3] && devices.bytes.last() == Some(&1);
    let play = microscope(&rig);
    // A socket may be heard too late for the one decision; a new daemon is then as good, but here all are open before the first frame.
    devices.until("output on every outlet", begun);
    rig.control(&["decision", "light", "disarm"]).code(0);
    devices.until("end on every outlet", |d| d.said("ended", 2) == [1; 3] && d.bytes.last() == Some(&0));
    assert!(devices.lines.last().unwrap().contains(" ended 1 "), "{:?}", devices.lines);
    play.kill();
    daemon.kill();

    for (how, reasons) in [
        ("frames stop", vec!["no_frame"]),
        ("the daemon stops", vec!["shutdown"]),
        ("it stood still", vec!["no_frame", "late", "aged"]),
    ] {
        let (mut devices, daemon) = Devices::of_daemon(&rig, &["width_ms=60000"]);
        let play = microscope(&rig);
        devices.until("output on every outlet", begun);
        devices.forget();
        let mut play = Some(play);
        match how {
            "frames stop" => play.take().unwrap().kill(),
            "the daemon stops" => daemon.signal(Signal::INT),
            _ => {
                daemon.signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(DEADLINE_MS + 300));
                daemon.signal(Signal::CONT);
            }
        }
        devices.until(how, |d| d.said("ended", 2) == [1; 3] && d.bytes.last() == Some(&0));
        let line = &devices.lines[0];
        assert!(reasons.iter().any(|reason| line.split(' ').nth(4) == Some(reason)), "{how}: {line}");
        play.into_iter().for_each(Process::kill);
        daemon.kill();
    }
}

#[test]
fn more_rules_than_a_byte_can_show_are_refused_with_what_to_do() {
    let rig = Rig::new(model("crowded_line", &[0], 0));
    let (_line, device) = TTYPort::pair().unwrap();
    let mut sets = vec![format!("serial.device={}", device.name().unwrap()), "serial.decisions=true".to_owned()];
    sets.extend((0..9).map(|rule| format!("decision.r{rule}.when=light > 1")));
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let refused = Process::start("run", &mut rig.command(&sets)).finish().code(7);
    refused.says(&["serial.decisions", "at most 8 rules", "there are 9"]);
}
