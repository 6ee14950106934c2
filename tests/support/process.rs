//! The daemon and its company as processes: start, listen, ask, end. Whatever is started here dies with its handle.
//!
//! Every wait has the deadline [`PATIENCE`], which no machine should need and no test measures.
#![allow(dead_code, reason = "every test binary uses its part")]
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use haltere::model::Manifest;
use haltere::model::parameters::Parameters;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// `path` of the shared data. Without it a test is skipped loudly, and fails where `CI` is set.
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let found = std::env::var_os("HALTERE_SHARED").map_or_else(beside, PathBuf::from).join("data").join(path);
    found.exists().then_some(found.clone()).or_else(|| skip(&format!("{} is not there", found.display())))
}

/// Says why a test is skipped; fails where `CI` is set.
pub fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{why}, and nothing may be skipped where CI is set");
    eprintln!("SKIPPED: {why}");
    None
}

/// A file of the committed fly recording.
pub fn fly(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fly_vnc_2p").join(file)
}

/// The binary under test with its arguments and nothing of the user's configuration.
pub fn haltere<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haltere"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HALTERE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The same, working in `folder`: ONNX Runtime is then not found by a relative path.
pub fn in_folder<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = haltere(arguments);
    command.current_dir(folder);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/libonnxruntime.so");
    if std::env::var_os("ORT_DYLIB_PATH").is_none() && fetched.is_file() {
        command.env("ORT_DYLIB_PATH", fetched);
    }
    command
}

/// What a process left.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Finished {
    /// Requires an exit code.
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "stdout:\n{}\nstderr:\n{}", tail(&self.out), tail(&self.err));
        self
    }

    /// Requires words in the message, and no panic.
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in\n{}", self.err);
        }
        self
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(6000);
    (from..text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}

/// A running process; what it writes is kept and shown when a test fails.
pub struct Process {
    name: &'static str,
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
        let (out, out_reader) = collect(child.stdout.take().unwrap());
        let (err, err_reader) = collect(child.stderr.take().unwrap());
        Self { name, child, out, err, readers: vec![out_reader, err_reader] }
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// Standard error so far.
    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    /// Waits for words on standard output or standard error.
    pub fn until_it_says(&mut self, words: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.out().contains(words) && !self.err().contains(words) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "{} never said {words:?}; ended: {ended:?}", self.name);
            std::thread::sleep(LOOK);
        }
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end. No process of haltere may ever show a user a panic.
    pub fn finish(mut self) -> Finished {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "{} does not end", self.name);
            std::thread::sleep(LOOK);
        };
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let finished = Finished { code: status.code(), out: self.out(), err: self.err() };
        assert!(!finished.err.contains("panicked at"), "{}", finished.err);
        finished
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (out, err) = (self.out(), self.err());
            eprintln!("--- {} stdout\n{}\n--- {} stderr\n{}", self.name, tail(&out), self.name, tail(&err));
        }
    }
}

fn collect(pipe: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    let reader = std::thread::spawn(move || {
        let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
        while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    (text, reader)
}

/// An untrained model of one channel.
pub fn small() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| model("small", &[0], 0)).clone()
}

/// An untrained model of two channels.
pub fn two_channels() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| model("two", &[0, 1], 0)).clone()
}

/// An untrained model of 64×64 px at 30 Hz with a short warm-up that reads `channels` and registers on `registered`.
/// It lies in a folder of the file that asks for it: files whose tests run at the same time may each have a model of this name.
#[track_caller]
pub fn model(name: &str, channels: &[usize], registered: usize) -> PathBuf {
    let asking = Path::new(std::panic::Location::caller().file()).file_stem().unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models").join(asking);
    std::fs::create_dir_all(&folder).unwrap();
    let list: Vec<String> = channels.iter().map(ToString::to_string).collect();
    let mut command = haltere(["model", "init", "--force", "--window", "8", "--name", name, "--out"]);
    command.arg(&folder).arg("--input").arg(format!("{}x64x64", channels.len())).arg("--channels").arg(list.join(","));
    Process::start("model init", &mut command).finish().code(0);
    let path = folder.join(format!("{name}.toml"));
    let mut manifest = Manifest::read(&path).unwrap();
    let preprocess = &mut manifest.preprocess;
    let registration = preprocess.registration.as_mut().unwrap();
    (registration.channel, registration.template_frames) = (registered, 10);
    preprocess.normalise.as_mut().unwrap().warmup_frames = 10;
    // A sender or a daemon that a busy machine holds up for a moment is no pause of the microscope.
    preprocess.pause_periods = 1e6;
    manifest.save(&path).unwrap();
    path
}

/// As [`model`], of one channel, with hardly any registration: frames of 32×32 px are so little work that a busy machine keeps up with 30
/// of them a second. A pause is one as by default. For tests of time.
#[track_caller]
pub fn cheap_model(name: &str) -> PathBuf {
    let path = model(name, &[0], 0);
    let mut manifest = Manifest::read(&path).unwrap();
    let preprocess = &mut manifest.preprocess;
    let registration = preprocess.registration.as_mut().unwrap();
    (registration.reach_px, registration.frequencies) = (4, 8);
    (registration.template_frames, registration.template_rounds) = (2, 1);
    preprocess.normalise.as_mut().unwrap().warmup_frames = 4;
    preprocess.pause_periods = Parameters::default().pause_periods;
    manifest.save(&path).unwrap();
    path
}

/// Endpoints, model and a folder of one test.
pub struct Rig {
    pub folder: TempDir,
    pub model: PathBuf,
    pub frames: String,
    pub decodes: String,
    pub control: String,
}

impl Rig {
    /// Over Unix sockets.
    pub fn new(model: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [frames, decodes, control] =
            ["frames", "decodes", "control"].map(|name| format!("ipc://{}/{name}", folder.path().display()));
        Self { folder, model, frames, decodes, control }
    }

    /// Over TCP on this machine, on ports that were free a moment ago.
    pub fn over_tcp(model: PathBuf) -> Self {
        let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [frames, decodes, control] = held.map(|port| format!("tcp://{}", port.local_addr().unwrap()));
        Self { frames, decodes, control, ..Self::new(model) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `haltere run` with this rig's model and endpoints; `more` comes last, so that it wins.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = haltere(["run", "--model"]);
        command.arg(&self.model);
        for (key, endpoint) in [("source", &self.frames), ("publish", &self.decodes), ("control", &self.control)] {
            command.arg("--set").arg(format!("{key}.endpoint={endpoint}"));
        }
        command.args(more);
        command
    }

    /// A daemon that is ready.
    pub fn daemon(&self, more: &[&str]) -> Process {
        let mut daemon = Process::start("run", &mut self.command(more));
        daemon.until_it_says("ready:");
        daemon
    }

    pub fn play(&self, recording: &[&Path], more: &[&str]) -> Process {
        let mut command = haltere(["play", "--endpoint", &self.frames]);
        Process::start("play", command.args(more).args(recording))
    }

    /// `haltere watch`; it listens when this returns (it has shown a heartbeat or waits for lines, see `listen`).
    pub fn watch(&self, more: &[&str]) -> Process {
        let mut command = haltere(["watch", "--endpoint", &self.decodes]);
        Process::start("watch", command.args(more))
    }

    /// A subscriber of the test's own, which has heard the daemon.
    pub fn listen(&self) -> Listener {
        let mut listener = Listener::new(&self.decodes);
        listener.until("a heartbeat", |m| m.kind == "heartbeat");
        listener
    }

    /// `haltere control …` with this rig's endpoint.
    pub fn control(&self, words: &[&str]) -> Finished {
        let mut command = haltere(["control", "--set"]);
        command.arg(format!("control.endpoint={}", self.control)).args(["--timeout-ms", "30000"]).args(words);
        Process::start("control", &mut command).finish()
    }

    /// The status that the daemon gives when asked.
    pub fn status(&self) -> Value {
        let answer: Value = serde_json::from_str(&self.control(&["status"]).code(0).out).unwrap();
        answer["status"].clone()
    }
}

/// One published message, read here once more, without the daemon's own reader.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: String,
    pub source: String,
    pub header: Value,
    pub embedding: Vec<f32>,
}

impl Message {
    fn read(parts: &[Vec<u8>]) -> Self {
        let topic = std::str::from_utf8(&parts[0]).unwrap();
        let (kind, source) = topic.split_once('/').unwrap();
        assert_eq!(parts.len(), if kind == "decode" { 3 } else { 2 }, "{topic}");
        let header: Value = serde_json::from_slice(&parts[1]).unwrap();
        assert_eq!(header["source"], source);
        let body = parts.get(2).map_or(&[][..], |body| body);
        assert_eq!(body.len() % 4, 0, "{header}");
        let embedding = body.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Self { kind: kind.to_owned(), source: source.to_owned(), header, embedding }
    }

    pub fn number(&self, key: &str) -> u64 {
        self.header[key].as_u64().unwrap_or_else(|| panic!("no {key} in {}", self.header))
    }

    pub fn quality(&self) -> &str {
        self.header["quality"].as_str().unwrap()
    }

    pub fn is_event(&self, name: &str) -> bool {
        self.kind == "event" && self.header["event"] == name
    }

    /// What a controller must be able to rely on in a decode that may not be believed.
    pub fn assert_neutral(&self, quality: &str, reason: &str) {
        let header = &self.header;
        assert_eq!((self.kind.as_str(), self.quality()), ("decode", quality), "{header}");
        assert_eq!((&header["reason"], &header["action"]), (&reason.into(), &"neutral".into()), "{header}");
        assert!(header.get("probs").is_none() && header.get("confidence").is_none(), "{header}");
        assert!(self.embedding.len() == 128 && self.embedding.iter().all(|v| *v == 0.0), "{header}");
    }
}

/// A SUB socket that keeps everything.
pub struct Listener {
    socket: zmq::Socket,
    /// Everything heard so far.
    pub heard: Vec<Message>,
}

impl Listener {
    pub fn new(endpoint: &str) -> Self {
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.set_linger(0).unwrap();
        for kind in ["decode/", "decision/", "status/", "event/", "heartbeat/"] {
            socket.set_subscribe(kind.as_bytes()).unwrap();
        }
        socket.connect(endpoint).unwrap();
        Self { socket, heard: Vec::new() }
    }

    fn next(&mut self, patience: Duration) -> Option<&Message> {
        let ready = self.socket.poll(zmq::POLLIN, patience.as_millis() as i64).unwrap();
        if ready == 0 {
            return None;
        }
        self.heard.push(Message::read(&self.socket.recv_multipart(0).unwrap()));
        self.heard.last()
    }

    /// Hears messages until one is the wanted one.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(message) = self.next(Duration::from_millis(100)).filter(|m| wanted(m)) {
                return message.clone();
            }
        }
        let last = self.heard.iter().rev().take(5).map(|m| format!("{} {}", m.kind, m.header));
        panic!("{what} never came; the last messages were\n{}", last.collect::<Vec<_>>().join("\n"));
    }

    /// Everything that comes within `time`.
    pub fn during(&mut self, time: Duration) -> Vec<Message> {
        let (until, from) = (Instant::now() + time, self.heard.len());
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.next(left);
        }
        self.heard[from..].to_vec()
    }

    /// All decodes heard so far.
    pub fn decodes(&self) -> Vec<&Message> {
        self.heard.iter().filter(|m| m.kind == "decode").collect()
    }

    /// Requires that no decode was lost, from the first one on.
    pub fn assert_gapless_from_zero(&self) {
        for (expected, decode) in self.decodes().iter().enumerate() {
            assert_eq!(decode.number("seq"), expected as u64, "{}", decode.header);
        }
    }
}

/// A microscope of the test's own, for what `haltere play` would never send. The daemon's source must be a PULL.
pub struct Microscope {
    socket: zmq::Socket,
}

impl Microscope {
    pub fn new(endpoint: &str) -> Self {
        Self::try_new(endpoint).unwrap()
    }

    /// `None` while another still has the endpoint.
    pub fn try_new(endpoint: &str) -> Option<Self> {
        let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
        socket.set_linger(0).unwrap();
        socket.bind(endpoint).ok().map(|()| Self { socket })
    }

    /// Sends one frame of uint16, all pixels from `pixel`, with more keys in its header.
    pub fn send(&self, shape: &[usize], more: &Value, pixel: impl Fn(usize) -> u16) {
        let mut header = serde_json::json!({ "dtype": "uint16", "shape": shape });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let pixels: Vec<u8> = (0..shape.iter().product()).flat_map(|i| pixel(i).to_le_bytes()).collect();
        self.socket.send_multipart([header.to_string().into_bytes(), pixels], 0).unwrap();
    }
}

/// Settings with which no frame is lost on a machine however busy. The long queue is for senders that leave at once: libzmq
/// forgets what it has not read of a connection that was closed while the queue was full.
pub const LOSSLESS: [&str; 10] = [
    "--set",
    "source.hwm=10000",
    "--set",
    "source.pattern=pull",
    "--set",
    "lane.overload=wait",
    "--set",
    "publish.deadline_ms=60000",
    "--set",
    "publish.hwm=10000",
];
