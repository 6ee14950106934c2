//! The control socket: requests to a running daemon, answered by the supervisor whenever it wakes, about every 20 ms.
//!
//! Why it exists: a new animal, a new template, a frozen normalisation and the end of the day are requested while frames flow.
//! What it must never do: touch a frame, make the corridor wait, or make one request wait for another. Requests cross to the compute thread through a bounded
//! queue and take effect between two frames.
//!
//! A request is one message, `{"command":"template reset"}` or the bare words; so is the answer: `{"ok":true,…}` or
//! `{"ok":false,"error":"…"}`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};

use crate::corridor::Handles;
use crate::corridor::supervisor::animals::Animals;
use crate::corridor::supervisor::load_model::SwapError;
use crate::frame::event::Event;
use crate::frame::{Name, Scene, Switch};
use crate::preprocess::Request;
use crate::session::recorder::Recorder;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::sockets::{Door, GuardedSocket};
use crate::wire::control::{COMMANDS, REQUEST_BYTES_MAX};

/// A control socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint}: {cause}")]
pub struct ControlError {
    /// Which endpoint.
    pub endpoint: String,
    /// Why, and what to do.
    pub cause: String,
}

impl HasExitCode for ControlError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}

fn failed(endpoint: &str, cause: zmq::Error) -> ControlError {
    let advice = match cause {
        zmq::Error::EADDRINUSE => {
            "; another program (perhaps another haltere) is using it: stop that program, or set `control.endpoint`"
        }
        _ => "",
    };
    ControlError { endpoint: endpoint.to_owned(), cause: format!("{cause}{advice}") }
}

/// Loads another model and hands it to the corridor; its answer goes to whoever asked.
pub type LoadModel = Arc<dyn Fn(&Path) -> Result<Value, SwapError> + Send + Sync>;

/// Requests answered before the supervisor looks at its other work.
const ANSWERS_AT_ONCE: usize = 64;

/// The daemon's end.
pub struct Control {
    socket: GuardedSocket,
    /// May the running daemon be made to rehearse?
    rehearse: bool,
    load_model: LoadModel,
    loading: Option<Loading>,
}

/// A model that is being loaded. Whoever asked for it gets the answer when it is done; meanwhile everybody else is answered.
struct Loading {
    thread: JoinHandle<Value>,
    path: PathBuf,
    since: Instant,
    asker: Envelope,
}

/// The parts before the empty one, which lead an answer back to whoever asked.
type Envelope = Vec<Vec<u8>>;

impl Control {
    /// Binds the socket behind `door`. `rehearse`: may the daemon be made to rehearse?
    ///
    /// # Errors
    /// When the endpoint is taken or not an endpoint.
    pub fn bind(door: &Door, endpoint: &str, rehearse: bool, load_model: LoadModel) -> Result<Self, ControlError> {
        // libzmq would silently take the path of a living daemon away from it.
        if endpoint.strip_prefix("ipc://").is_some_and(|path| UnixStream::connect(path).is_ok()) {
            return Err(failed(endpoint, zmq::Error::EADDRINUSE));
        }
        let open = || {
            let context = zmq::Context::new();
            // To those who ask it is a REP; but a REP cannot answer the next one while an answer is due.
            let socket = context.socket(zmq::ROUTER)?;
            socket.set_linger(0)?;
            socket.set_maxmsgsize(REQUEST_BYTES_MAX as i64)?;
            door.bind(&context, socket, endpoint, "control")
        };
        let socket = open().map_err(|cause| failed(endpoint, cause))?;
        Ok(Self { socket, rehearse, load_model, loading: None })
    }

    /// Answers what has been asked since the last call; never waits. `status` makes the status object.
    pub fn answer(&mut self, handles: &Handles, animals: &mut Animals, mut status: impl FnMut() -> Value) {
        if let Some(loaded) = self.loading.take_if(|loading| loading.thread.is_finished()) {
            let defect = |_| refusal("internal error while loading the model; please report this");
            self.reply(loaded.asker, &loaded.thread.join().unwrap_or_else(defect));
        }
        for _ in 0..ANSWERS_AT_ONCE {
            let Ok(mut parts) = self.socket.recv_multipart(zmq::DONTWAIT) else { return };
            // Without the empty part it does not come from a REQ, and nothing would be done with an answer.
            let Some(empty) = parts.iter().position(Vec::is_empty) else { continue };
            let request = parts.split_off(empty + 1);
            let answer = match &request[..] {
                [one] => match command_of(one) {
                    Ok(command) if command.starts_with(MODEL) => {
                        self.load(command[MODEL.len()..].trim().into(), parts);
                        continue;
                    }
                    Ok(command) if command == "status" => self.status(status()),
                    Ok(command) => match command.strip_prefix(ANIMAL) {
                        Some(rest) => animal(rest.trim(), handles, animals),
                        None => match words_after(REHEARSE, &command) {
                            Some(words) => rehearsed(words, self.rehearse, handles),
                            None => carry_out(&command, handles),
                        },
                    },
                    Err(error) => refusal(&error),
                },
                _ => refusal("a request must have exactly one part"),
            };
            self.reply(parts, &answer);
        }
    }

    fn reply(&self, mut asker: Envelope, answer: &Value) {
        asker.push(answer.to_string().into_bytes());
        // A client that is gone does not get its answer; nothing to be done.
        let _ = self.socket.send_multipart(asker, zmq::DONTWAIT);
    }

    fn status(&self, mut status: Value) -> Value {
        if let (Some(loading), Some(object)) = (&self.loading, status.as_object_mut()) {
            let since_s = loading.since.elapsed().as_secs_f64();
            object.insert("loading".to_owned(), json!({ "path": loading.path.to_string_lossy(), "since_s": since_s }));
        }
        json!({ "ok": true, "status": status })
    }

    /// Loads a model on a thread of its own: it takes a second, or for ever on a share that does not answer.
    fn load(&mut self, path: PathBuf, asker: Envelope) {
        if let Some(other) = &self.loading {
            let (path, s) = (other.path.display(), other.since.elapsed().as_secs());
            let text = format!(
                "{path} has been loading for {s} s: only one model can be loaded at a time; wait for its answer"
            );
            return self.reply(asker, &refusal(&text));
        }
        let (load_model, from) = (Arc::clone(&self.load_model), path.clone());
        let load = move || load_model(&from).unwrap_or_else(|error| refusal(&error.to_string()));
        match std::thread::Builder::new().name("model".to_owned()).spawn(load) {
            Ok(thread) => self.loading = Some(Loading { thread, path, since: Instant::now(), asker }),
            Err(cause) => self.reply(asker, &refusal(&format!("cannot start a thread to load the model: {cause}"))),
        }
    }
}

/// What the request for another model begins with.
const MODEL: &str = "model ";
/// What a request about the animal begins with.
const ANIMAL: &str = "animal ";
/// The word of a request that is not the name of an animal.
const SAVE: &str = "save";

/// The request for a rehearsal.
const REHEARSE: &str = "rehearse";
/// How long a rehearsal lasts if nobody says, and at most, s.
const REHEARSAL_S: u32 = 10;
const REHEARSAL_S_MAX: u32 = 600;

/// The words after the first one, if it is this one.
fn words_after<'a>(first: &str, command: &'a str) -> Option<&'a str> {
    command.strip_prefix(first).filter(|rest| rest.is_empty() || rest.starts_with(' ')).map(str::trim)
}

/// `rehearse WHAT [SECONDS]`, `rehearse off`.
fn rehearsed(words: &str, allowed: bool, handles: &Handles) -> Value {
    if !allowed {
        return refusal(
            "this daemon may not rehearse while it runs: set `control.rehearse` = true, or use `haltere rehearse` in its place",
        );
    }
    let (word, length) = words.split_once(' ').unwrap_or((words, ""));
    let seconds = if length.is_empty() { Some(REHEARSAL_S) } else { length.trim().parse().ok() };
    let Some(seconds) = seconds.filter(|seconds| (1..=REHEARSAL_S_MAX).contains(seconds)) else {
        return refusal(&format!("`rehearse {words}`: write 1 to {REHEARSAL_S_MAX} seconds after what is rehearsed"));
    };
    let event = match Scene::of_name(word) {
        Some(scene) => Event::Rehearsal { scene, seconds },
        None if word == "off" => Event::RehearsalOver,
        None => {
            let known = Scene::ALL.map(Scene::name).join(", ");
            return refusal(&format!("there is no rehearsal {word:?}; write {known}, or off"));
        }
    };
    let _ = handles.events.force_push(event);
    json!({ "ok": true })
}

/// `animal NAME` and `animal save [NAME]`.
fn animal(words: &str, handles: &Handles, animals: &mut Animals) -> Value {
    let saving = words.strip_prefix(SAVE).filter(|rest| rest.is_empty() || rest.starts_with(' ')).map(str::trim);
    let written = saving.unwrap_or(words);
    let name = match written.parse::<Name>() {
        Ok(name) => Some(name),
        Err(_) if saving == Some("") => None,
        Err(cause) => return refusal(&format!("the animal's name {written:?} {cause}")),
    };
    let done = match (saving, name) {
        (Some(_), name) => Animals::save(name, handles).map(|()| json!({ "ok": true })),
        (None, Some(name)) => {
            animals.begin(name, handles).map(|known| json!({ "ok": true, "animal": name, "saved_state": known }))
        }
        (None, None) => return refusal("`animal NAME` or `animal save [NAME]`"),
    };
    done.unwrap_or_else(|cause| refusal(&cause.to_string()))
}

fn refusal(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

/// The words of a request: bare, or under `command` of a JSON object.
fn command_of(message: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(message).map_err(|_| "the request is not valid UTF-8".to_owned())?.trim();
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let object: Value = serde_json::from_str(text).map_err(|cause| format!("the request is not JSON: {cause}"))?;
    let command = object.get("command").and_then(Value::as_str);
    command.map(str::to_owned).ok_or_else(|| "the request has no string under `command`".to_owned())
}

fn carry_out(command: &str, handles: &Handles) -> Value {
    if let Some(text) = words_after("mark", command) {
        return recorded(handles, |recorder| recorder.mark(text).map(|()| None));
    }
    if let Some(words) = words_after("decision", command) {
        return switched(words, handles);
    }
    let request = match command {
        "reset" => Request::Reset,
        "template reset" => Request::RenewTemplate,
        "baseline reset" => Request::ResetBaseline,
        "normalisation freeze" => Request::FreezeNormalisation(true),
        "normalisation resume" => Request::FreezeNormalisation(false),
        "record start" => return recorded(handles, |recorder| recorder.start().map(Some)),
        "record stop" => return recorded(handles, |recorder| recorder.stop().map(Some)),
        "help" => {
            return json!({ "ok": true, "commands": COMMANDS.iter().copied().collect::<std::collections::BTreeMap<_, _>>() });
        }
        "shutdown" => {
            handles.stop.store(true, Ordering::Relaxed);
            return json!({ "ok": true });
        }
        _ => {
            let known: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(command, a).total_cmp(&strsim::jaro_winkler(command, b)));
            let nearest = nearest.copied().unwrap_or_default();
            return refusal(&format!(
                "unknown command {command:?}; did you mean {nearest:?}? Known: {}",
                known.join(", ")
            ));
        }
    };
    pushed(request, handles)
}

fn pushed(request: Request, handles: &Handles) -> Value {
    match handles.requests.push(request) {
        Ok(()) => json!({ "ok": true }),
        Err(_) => refusal("too many requests are waiting for the next frame; is the microscope sending?"),
    }
}

/// `decision NAME on|off|arm|disarm`.
fn switched(words: &str, handles: &Handles) -> Value {
    let rules = handles.stats.decisions.names();
    if rules.is_empty() {
        return refusal("there are no rules: write a section [decision.NAME] into the configuration and start again");
    }
    let known = || rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (name, word) = words.split_once(' ').unwrap_or((words, ""));
    let Some(rule) = rules.iter().find(|rule| rule.as_str() == name) else {
        return refusal(&format!("there is no rule {name:?}; rules are {}", known()));
    };
    match Switch::of_name(word.trim()) {
        Some(switch) => pushed(Request::Decision(*rule, switch), handles),
        None => refusal(&format!("`decision {name} {}`: write on, off, arm or disarm", word.trim())),
    }
}

/// Asks the recorder; the answer names the file, where there is one to name.
fn recorded(handles: &Handles, ask: impl FnOnce(&Recorder) -> Result<Option<PathBuf>, String>) -> Value {
    let Some(recorder) = &handles.recorder else {
        return refusal(
            "this daemon has no recorder: set `record.folder`, or start it with `haltere run --record FOLDER`",
        );
    };
    match ask(recorder) {
        Ok(None) => json!({ "ok": true }),
        Ok(Some(path)) => json!({ "ok": true, "file": path.to_string_lossy() }),
        Err(error) => refusal(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ask::ask;
    use crate::corridor::Keep;

    fn ask_once(command: &str, handles: &Handles) -> Value {
        carry_out(command, handles)
    }

    #[test]
    fn requests_reach_the_compute_thread_in_order() {
        let handles = Handles::default();
        for command in ["reset", "template reset", "baseline reset", "normalisation freeze"] {
            assert_eq!(ask_once(command, &handles)["ok"], true, "{command}");
        }
        let queued: Vec<Request> = std::iter::from_fn(|| handles.requests.pop()).collect();
        let expected =
            [Request::Reset, Request::RenewTemplate, Request::ResetBaseline, Request::FreezeNormalisation(true)];
        assert_eq!(queued, expected);
    }

    #[test]
    fn shutdown_stops() {
        let handles = Handles::default();
        assert!(!handles.stop.load(Ordering::Relaxed));
        ask_once("shutdown", &handles);
        assert!(handles.stop.load(Ordering::Relaxed));
    }

    #[test]
    fn a_rehearsal_is_refused_unless_it_is_allowed_and_named_with_a_length() {
        let handles = Handles::default();
        let error = |words: &str, allowed: bool| rehearsed(words, allowed, &handles)["error"].to_string();
        assert!(error("silent", false).contains("set `control.rehearse` = true"));
        assert!(error("sleepy", true).contains("write ok, late, stale, silent") && error("", true).contains("or off"));
        assert!(error("silent 601", true).contains("1 to 600 seconds") && error("late x", true).contains("1 to 600"));
        assert!(handles.events.pop().is_none());
        assert!(["silent 3", "late", "off"].iter().all(|words| rehearsed(words, true, &handles)["ok"] == true));
        let events: Vec<Event> = std::iter::from_fn(|| handles.events.pop()).collect();
        let of = |scene, seconds| Event::Rehearsal { scene, seconds };
        assert_eq!(events, [of(Scene::Silent, 3), of(Scene::Late, 10), Event::RehearsalOver]);
    }

    #[test]
    fn an_unknown_command_is_answered_with_the_nearest_one() {
        let answer = ask_once("templat reset", &Handles::default());
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().unwrap().contains("did you mean \"template reset\"?"));
    }

    #[test]
    fn a_full_queue_refuses_instead_of_forgetting() {
        let handles = Handles::default();
        let answers: Vec<bool> = (0..20).map(|_| ask_once("baseline reset", &handles)["ok"] == true).collect();
        assert_eq!(answers.iter().filter(|ok| **ok).count(), crate::corridor::REQUESTS_WAITING_MAX);
    }

    #[test]
    fn a_client_gets_its_answer_over_a_real_socket_and_rubbish_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("ipc://{}/control", folder.path().display());
        let mut control =
            Control::bind(&Door::default(), &endpoint, false, Arc::new(|_| Err(SwapError::UnderWay))).unwrap();
        let handles = Handles::default();
        let config = crate::config::Animal { name: None, folder: folder.path().to_owned(), save: true };
        let mut animals = Animals::new(&config);
        let asked = [
            "help",
            "status",
            "\u{7f}{",
            "model x.toml",
            "animal ../fly3",
            "animal fly3",
            "animal save",
            "animal save fly4",
        ];
        let client = std::thread::spawn({
            let endpoint = endpoint.clone();
            move || asked.map(|words| ask(&endpoint, words, 5000).unwrap())
        });
        while !client.is_finished() {
            control.answer(&handles, &mut animals, || json!({ "received": 7 }));
            std::thread::yield_now();
        }
        let [help, status, rubbish, model, outside, fly, save, save_as] = client.join().unwrap();
        assert!(outside["error"].as_str().unwrap().contains("the byte 0x2f"), "{outside}");
        assert_eq!(fly, json!({ "ok": true, "animal": "fly3", "saved_state": false }));
        assert_eq!(handles.requests.pop(), Some(Request::NewAnimal("fly3".parse().unwrap())));
        assert_eq!((&save["ok"], &save_as["ok"]), (&true.into(), &true.into()));
        assert_eq!(handles.animals.keep.pop(), Some(Keep::Asked(None)));
        assert_eq!(handles.animals.keep.pop(), Some(Keep::Asked("fly4".parse().ok())));
        assert!(model["error"].as_str().unwrap().contains("warming up"), "{model}");
        assert!(help["commands"]["shutdown"].is_string());
        assert_eq!(status["status"], json!({ "received": 7 }));
        assert_eq!(rubbish["ok"], false);
        assert!(command_of(b"{\"command\":7}").is_err() && command_of(b"\xff").is_err() && command_of(b"{").is_err());
    }

    #[test]
    fn while_a_model_loads_others_are_answered_and_a_second_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("ipc://{}/control", folder.path().display());
        let (release, held) = crossbeam::channel::bounded::<()>(0);
        let load = move |_: &Path| held.recv().map_or(Err(SwapError::UnderWay), |()| Ok(json!({ "ok": true })));
        let mut control = Control::bind(&Door::default(), &endpoint, false, Arc::new(load)).unwrap();
        let animal = crate::config::Config::default().animal;
        let (handles, mut animals) = (Handles::default(), Animals::new(&animal));
        let first = std::thread::spawn({
            let endpoint = endpoint.clone();
            move || ask(&endpoint, "model slow.toml", 60_000).unwrap()
        });
        let client = std::thread::spawn(move || {
            let ask = |words| ask(&endpoint, words, 60_000).unwrap();
            let status = std::iter::repeat_with(|| ask("status")).find(|answer| !answer["status"]["loading"].is_null());
            assert_eq!(status.unwrap()["status"]["loading"]["path"], "slow.toml");
            let second = ask("model other.toml")["error"].as_str().unwrap().to_owned();
            assert!(second.contains("slow.toml has been loading"), "{second}");
            release.send(()).unwrap();
            let settled = std::iter::repeat_with(|| ask("status")).find(|answer| answer["status"]["loading"].is_null());
            assert!(settled.is_some());
        });
        while !(client.is_finished() && first.is_finished()) {
            control.answer(&handles, &mut animals, || json!({}));
            std::thread::yield_now();
        }
        client.join().unwrap();
        assert_eq!(first.join().unwrap()["ok"], true, "the first gets its answer when it is done");
    }
}
