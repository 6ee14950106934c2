//! Who is let in at the daemon's sockets: nobody by a web page, nobody older than ZMTP 3, and with keys only those on the list.
//!
//! Method: real processes and sockets. Requests are written to plain TCP connections, and sent by a page of another origin in Chromium. Keys
//! are made by `haltere keys` and used by every program that comes with haltere, and by pyzmq.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::old_peers;
use crate::support::process as support;
use crate::support::web;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Process, Rig, fly, haltere, skip, small, wait_for};
use web::{Browser, chromium, get, request};

/// A frame's header in one part: no frame, but counted as received.
const HEADER: &[u8] = br#"{"dtype":"uint8","shape":[64,64]}"#;
/// The daemon receives frames from whoever connects.
const BOUND: [&str; 4] = ["--set", "source.attach=bind", "--set", "source.pattern=pull"];

/// More ports that were free a moment ago.
fn more_ports() -> [String; 3] {
    [(); 3]
        .map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|port| format!("tcp://{}", port.local_addr().unwrap()))
}

/// A daemon with every socket there is, and the endpoints of all.
fn open_daemon(rig: &Rig) -> (Process, [String; 6]) {
    let [plain, binary, inlet] = more_ports();
    let sets =
        [format!("plain.endpoint={plain}"), format!("binary.endpoint={binary}"), format!("inlet.endpoint={inlet}")];
    let daemon = rig.daemon(&[&BOUND[..], &["--set", &sets[0], "--set", &sets[1], "--set", &sets[2]]].concat());
    (daemon, [rig.frames.clone(), rig.decodes.clone(), rig.control.clone(), plain, binary, inlet])
}

fn refused(rig: &Rig) -> u64 {
    rig.status()["peers_refused"].as_u64().unwrap()
}

#[test]
fn no_request_of_a_web_page_and_no_peer_of_an_older_protocol_changes_anything_on_any_socket() {
    let rig = Rig::over_tcp(small());
    let (mut daemon, endpoints) = open_daemon(&rig);
    let mut sent = 0;
    for endpoint in &endpoints {
        for content in [&b"shutdown"[..], HEADER] {
            for (_, bytes) in old_peers::requests(endpoint.trim_start_matches("tcp://"), content) {
                old_peers::send(endpoint, &bytes);
                sent += 1;
            }
        }
    }
    assert!(daemon.is_running(), "shut down by a request");
    wait_for("every one to be counted", || (refused(&rig) == sent).then_some(()));
    assert_eq!(rig.status()["received"], 0, "a request was a message");
    daemon.until_it_says("frames: refused a connection: it speaks a protocol older than ZMTP 3");
    daemon.until_it_says("or it is a web page");

    // And a microscope of today gets in.
    let mut listener = rig.listen();
    let play = rig.play(&[&fly("GC6s.tif")], &["--push", "--connect", "--loop", "0"]);
    listener.until("a decode", |m| m.kind == "decode" && m.quality() == "ok");
    play.kill();
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0);
}

/// Serves a page with nothing in it until the process ends, at an origin that is nobody's else.
fn foreign_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<p>a page</p>");
        }
    });
    url
}

#[test]
fn a_page_of_another_origin_in_a_real_browser_commands_nothing_and_sends_no_frame() {
    let Some(chromium) = chromium() else {
        return skip("no chromium: apt-get install chromium, or set HALTERE_CHROMIUM").unwrap_or_default();
    };
    let rig = Rig::over_tcp(small());
    let (mut daemon, endpoints) = open_daemon(&rig);
    let mut browser = Browser::open(&chromium, &foreign_page());
    // The page does not know how long the browser's headers are. A slide of empty parts takes every frame that began there to the message,
    // if its length is right by one.
    let script = |url: &str| {
        format!(
            "globalThis.done = 0; for (const odd of [0, 1]) for (const rep of [0, 1]) {{
               const part = (more, text) => [text.length + 1, more, ...new TextEncoder().encode(text)];
               const message = [...part(0, ''), ...(rep ? part(1, '') : []), ...part(0, 'shutdown')];
               const body = new Uint8Array([...Array(300 + odd).fill(1), ...message, ...Array(300).fill(1)]);
               fetch('{url}', {{method: 'POST', mode: 'no-cors', body}}).catch(() => 0).finally(() => ++globalThis.done);
             }} true"
        )
    };
    for endpoint in &endpoints {
        let before = refused(&rig);
        assert_eq!(browser.evaluate(&script(&endpoint.replace("tcp://", "http://"))), true);
        browser.until("the requests are over", "globalThis.done === 4");
        assert!(daemon.is_running(), "a web page shut the daemon down");
        wait_for("the refusals to be counted", || (refused(&rig) >= before + 4).then_some(()));
    }
    assert_eq!(rig.status()["received"], 0, "a web page sent a frame");
    browser.close();
}

/// Keys of a rig, made by the program itself.
pub(super) struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    /// `rig`, `scope`, `anna` and `mallory`; the second and third are clients of the first.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = haltere(["keys", "rig", "scope", "anna", "mallory", "--folder"]);
        let made = Process::start("keys", command.arg(folder.path())).finish().code(0);
        assert!(made.out.contains("rig.key_secret: secret"), "{}", made.out);
        let keys = Self { folder };
        std::fs::create_dir(keys.folder.path().join("clients")).unwrap();
        for name in ["scope", "anna"] {
            std::fs::copy(keys.path(&format!("{name}.key")), keys.path(&format!("clients/{name}.key"))).unwrap();
        }
        keys
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The daemon's settings.
    pub(super) fn of_daemon(&self) -> Vec<String> {
        let sets =
            [format!("curve.key={}", self.path("rig.key_secret")), format!("curve.clients={}", self.path("clients"))];
        sets.into_iter().flat_map(|set| ["--set".to_owned(), set]).collect()
    }

    /// A client's options.
    fn of(&self, name: &str) -> [String; 4] {
        ["--curve".into(), self.path(&format!("{name}.key_secret")), "--server".into(), self.path("rig.key")]
    }

    fn control(&self, rig: &Rig, name: &str, words: &[&str]) -> support::Finished {
        let mut command =
            haltere(["control", "--set", &format!("control.endpoint={}", rig.control), "--timeout-ms", "3000"]);
        Process::start("control", command.args(self.of(name)).args(words)).finish()
    }

    fn status(&self, rig: &Rig) -> serde_json::Value {
        let answer: serde_json::Value =
            serde_json::from_str(&self.control(rig, "anna", &["status"]).code(0).out).unwrap();
        answer["status"].clone()
    }
}

fn texts(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn with_keys_every_program_of_haltere_gets_in_by_name_and_wrong_keys_are_refused_and_counted() {
    let keys = Keys::new();
    assert_eq!(std::fs::metadata(keys.path("rig.key_secret")).unwrap().mode() & 0o777, 0o600);
    let rig = Rig::over_tcp(small());
    let mut daemon = rig.daemon(&[&texts(&keys.of_daemon())[..], &BOUND].concat());
    let play = |name: &str| {
        let movie = fly("GC6s.tif");
        rig.play(&[&movie], &[&["--push", "--connect", "--loop", "0"][..], &texts(&keys.of(name))].concat())
    };

    // Without a key, with one that is not on the list, and to somebody who is not the daemon.
    let mut command = haltere(["control", "--timeout-ms", "2000", "status", "--set"]);
    let done = Process::start("control", command.arg(format!("control.endpoint={}", rig.control))).finish();
    done.code(1).says(&["no answer", "--curve"]);
    keys.control(&rig, "mallory", &["shutdown"]).code(1).says(&["no answer", "curve.clients"]);
    let stranger = rig.watch(&["--seconds", "1", "--json"]).finish().code(0);
    assert!(!stranger.out.contains("\"topic\":\"decode") && !stranger.out.contains("heartbeat"), "{}", stranger.out);
    let _mallory = play("mallory");
    daemon.until_it_says("frames: refused a connection from 127.0.0.1: no file in ");
    daemon.until_it_says("it has no key");
    assert!(daemon.is_running());

    let _scope = play("scope");
    daemon.until_it_says("frames: let in `scope` from 127.0.0.1");
    let watched = rig.watch(&[&texts(&keys.of("anna"))[..], &["--frames", "20", "--json"]].concat()).finish().code(0);
    assert!(watched.out.contains("\"quality\":\"ok\"") || watched.out.contains("warmup"), "{}", watched.out);
    daemon.until_it_says("decodes: let in `anna` from 127.0.0.1");

    let status = keys.status(&rig);
    let counted = |what: &str| status[what].as_u64().unwrap();
    assert!(counted("peers_refused") >= 4 && counted("peers_let_in") >= 3, "{status}");
    assert!(status["received"].as_u64().unwrap() > 0);

    let mut command = haltere(["monitor", "--bind", "127.0.0.1:0", "--endpoint", &rig.decodes]);
    let mut monitor = Process::start("monitor", command.args(keys.of("anna")));
    monitor.until_it_says(" shows the daemon at ");
    let said = monitor.err();
    let address = said.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    wait_for("the monitor to be ready", || (get(&address, "/readyz").code == 200).then_some(()));

    keys.control(&rig, "anna", &["shutdown"]).code(0);
    daemon.finish().code(0);
}

#[test]
fn a_daemon_that_connects_gets_frames_from_a_sender_with_keys_and_from_nobody_who_pretends_to_be_it() {
    let keys = Keys::new();
    let rig = Rig::over_tcp(small());
    let clients = keys.path("of-scope");
    std::fs::create_dir(&clients).unwrap();
    std::fs::copy(keys.path("rig.key"), format!("{clients}/rig.key")).unwrap();
    let play = |name: &str| {
        let secret = keys.path(&format!("{name}.key_secret"));
        rig.play(&[&fly("GC6s.tif")], &["--loop", "0", "--no-wait", "--curve", &secret, "--clients", &clients])
    };
    let sender = format!("curve.sender={}", keys.path("scope.key"));
    let daemon = rig.daemon(&[&texts(&keys.of_daemon())[..], &["--set", &sender]].concat());
    let pretender = play("mallory");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(keys.status(&rig)["received"], 0);
    pretender.kill();
    let _scope = play("scope");
    wait_for("frames", || (keys.status(&rig)["received"].as_u64() > Some(10)).then_some(()));
    daemon.kill();
}

#[test]
fn sockets_of_this_machine_may_stay_open_where_only_others_need_keys() {
    let keys = Keys::new();
    let rig = Rig::over_tcp(small());
    let port = rig.decodes.rsplit_once(':').unwrap().1;
    let decodes = format!("publish.endpoint=tcp://0.0.0.0:{port}");
    let daemon =
        rig.daemon(&[&texts(&keys.of_daemon())[..], &["--set", "curve.local=false", "--set", &decodes]].concat());
    assert!(!daemon.err().contains("without keys"), "{}", daemon.err());
    rig.control(&["status"]).code(0);
    let stranger = rig.watch(&["--seconds", "1", "--json"]).finish().code(0);
    assert!(!stranger.out.contains("heartbeat"), "{}", stranger.out);
    let anna = rig.watch(&[&texts(&keys.of("anna"))[..], &["--seconds", "2", "--json"]].concat()).finish().code(0);
    assert!(anna.out.contains("heartbeat"), "{}", anna.out);
    daemon.kill();
}

#[test]
fn an_address_that_others_can_reach_needs_keys_or_a_word_of_the_user() {
    let start = |arguments: &[&str]| {
        Process::start("haltere", haltere(["run", "--model"]).arg(small()).args(arguments)).finish()
    };
    for key in ["publish", "control", "plain", "binary"] {
        let set = format!("{key}.endpoint=tcp://0.0.0.0:5799");
        start(&["--set", &set]).code(3).says(&[&format!("{key}.endpoint"), "`curve.key`", "`insecure` = true"]);
    }
    start(&["--set", "source.endpoint=tcp://*:5799", "--set", "source.attach=bind"])
        .code(3)
        .says(&["`insecure` = true"]);
    let movie = fly("GC6s.tif");
    let play = |more: &[&str]| {
        let mut command = haltere(["play", "--endpoint", "tcp://0.0.0.0:5799", "--no-wait", "--frames", "1"]);
        Process::start("play", command.args(more).arg(&movie)).finish()
    };
    play(&[]).code(2).says(&["--curve and --clients", "--insecure"]);
    play(&["--insecure"]).code(0).says(&["without keys"]);

    let rig = Rig::over_tcp(small());
    let port = rig.decodes.rsplit_once(':').unwrap().1;
    let set = format!("publish.endpoint=tcp://0.0.0.0:{port}");
    let daemon = rig.daemon(&["--set", "insecure=true", "--set", &set]);
    assert!(daemon.err().contains("because `insecure` = true"), "{}", daemon.err());
    assert!(rig.status().to_string().contains("received"));
    daemon.kill();
}

#[test]
fn keys_that_cannot_be_had_are_named_before_anything_runs() {
    let keys = Keys::new();
    let start = |key: &str, clients: &str| {
        let sets = [format!("curve.key={}", keys.path(key)), format!("curve.clients={}", keys.path(clients))];
        let mut command = haltere(["run", "--set", &sets[0], "--set", &sets[1], "--model"]);
        Process::start("run", command.arg(small())).finish()
    };
    start("nobody.key_secret", "clients").code(3).says(&["nobody.key_secret"]);
    start("rig.key_secret", "nowhere").code(3).says(&["nowhere"]);
    start("rig.key", "clients").code(3).says(&["rig.key", "chmod 600"]);
    let mut again = haltere(["keys", "rig", "--folder"]);
    Process::start("keys", again.arg(keys.folder.path())).finish().code(3).says(&["not overwritten"]);
}

#[test]
fn the_python_clients_use_keys_of_haltere_and_of_pyzmq() {
    let python = std::env::var_os("HALTERE_PYTHON")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python"), PathBuf::from);
    let has = "import zmq, numpy, sys; sys.exit(not zmq.has('curve'))";
    if !Command::new(&python).args(["-c", has]).status().is_ok_and(|status| status.success()) {
        return skip("no pyzmq with CURVE: `make setup`").unwrap_or_default();
    }
    let keys = Keys::new();
    let folder = keys.folder.path().to_str().unwrap();
    let make = format!("import zmq.auth; zmq.auth.create_certificates({folder:?}, 'pia')");
    assert!(Command::new(&python).args(["-c", &make]).status().unwrap().success());
    Command::new("chmod").arg("600").arg(keys.path("pia.key_secret")).status().unwrap();
    std::fs::copy(keys.path("pia.key"), keys.path("clients/pia.key")).unwrap();
    let rig = Rig::over_tcp(small());
    let mut daemon = rig.daemon(&[&texts(&keys.of_daemon())[..], &BOUND].concat());
    let client = |script: &str, name: &str, more: &[&str]| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python").join(script);
        Process::start("client", Command::new(&python).arg(script).args(keys.of(name)).args(more))
    };
    let mut subscriber = client("subscriber.py", "pia", &["--endpoint", &rig.decodes]);
    daemon.until_it_says("decodes: let in `pia`");
    let _publisher = client("publisher.py", "scope", &["--endpoint", &rig.frames, "--connect", "--push"]);
    daemon.until_it_says("frames: let in `scope`");
    subscriber.until_it_says("frame ");
    daemon.kill();

    // A publisher that binds lets in the daemon, whose key it has.
    let rig = Rig::over_tcp(small());
    let clients = keys.path("of-scope");
    std::fs::create_dir(&clients).unwrap();
    std::fs::copy(keys.path("rig.key"), format!("{clients}/rig.key")).unwrap();
    let sender = format!("curve.sender={}", keys.path("scope.key"));
    let _daemon = rig.daemon(&[&texts(&keys.of_daemon())[..], &["--set", &sender]].concat());
    let _publisher = client("publisher.py", "scope", &["--endpoint", &rig.frames, "--clients", &clients]);
    wait_for("frames", || (keys.status(&rig)["received"].as_u64() > Some(10)).then_some(()));
}

#[test]
fn a_page_for_other_machines_answers_to_its_own_names_only() {
    let mut command =
        haltere(["monitor", "--bind", "0.0.0.0:0", "--allow-remote", "--allow-control", "--host", "rig.lab"]);
    let mut monitor = Process::start("monitor", &mut command);
    monitor.until_it_says(" shows the daemon at ");
    assert!(monitor.err().contains("without password or encryption"), "{}", monitor.err());
    let said = monitor.err();
    let port = said.split("http://").nth(1).unwrap().split(' ').next().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let address = format!("127.0.0.1:{port}");
    let (json, mark) = ("Content-Type: application/json", r#"{"command":"mark x"}"#);
    for host in ["evil.example", "rig.lab.evil.example", "localhost.evil.example"] {
        // A page whose name was made to lead here: Host and Origin agree.
        let [own, origin] = [format!("Host: {host}:{port}"), format!("Origin: http://{host}:{port}")];
        assert_eq!(request(&address, "GET", "/", &[&own], "").code, 403, "{host}");
        assert_eq!(request(&address, "POST", "/control", &[&own, &origin, json], mark).code, 403, "{host}");
        let upgrade =
            ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"];
        assert_eq!(
            request(&address, "GET", "/live", &[&upgrade[..], &[&own, &origin]].concat(), "").code,
            403,
            "{host}"
        );
    }
    for host in ["rig.lab", "RIG.lab", "localhost", "127.0.0.1"] {
        let own = format!("Host: {host}:{port}");
        assert_eq!(request(&address, "GET", "/healthz", &[&own], "").code, 200, "{host}");
        assert_eq!(request(&address, "POST", "/control", &[&own, "Origin: http://evil.example", json], mark).code, 403);
    }
}
