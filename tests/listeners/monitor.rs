//! `haltere monitor` beside a real daemon and a real microscope, as processes over real sockets.
//!
//! Method: HTTP and WebSocket are spoken by the test's own client; the page is opened in Chromium without a window and asked what
//! it shows. The daemon is killed and comes again under the eyes of both. The model is trained for nothing, but has labels and a
//! training embedding, and is ready after a dozen frames.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::corridor as small;
use crate::support::process as support;
use crate::support::web;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use small::{RAW, Small, write_raw};
use support::{LOSSLESS, Microscope, Process, Rig, haltere, skip, wait_for};
use web::{Browser, Message, WebSocket, chromium, get, request};

/// A rig with its model; both folders live as long.
pub(crate) struct Lab {
    pub(crate) rig: Rig,
    _model: Small,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let model = Small::strange();
        let rig = Rig::new(model.manifest.clone());
        write_raw(&rig.path("movie.raw"), 600);
        Self { rig, _model: model }
    }

    pub(crate) fn microscope(&self) -> Process {
        self.rig
            .play(&[&self.rig.path("movie.raw")], &["--raw", RAW, "--rate", "30", "--loop", "0", "--source", "rig7"])
    }

    /// A monitor and the address of its page.
    pub(crate) fn monitor(&self, more: &[&str]) -> (Process, String) {
        let mut command = haltere(["monitor", "--bind", "127.0.0.1:0", "--endpoint", &self.rig.decodes, "--model"]);
        command.arg(&self.rig.model).arg("--set").arg(format!("control.endpoint={}", self.rig.control)).args(more);
        let mut monitor = Process::start("monitor", &mut command);
        monitor.until_it_says(" shows the daemon");
        let said = monitor.err();
        let address = said.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        (monitor, address)
    }
}

fn until_ready(address: &str) {
    wait_for("decodes that may be trusted", || (get(address, "/readyz").code == 200).then_some(()));
}

fn until_not_ready(address: &str, why: &str) {
    wait_for(why, || {
        let answer = get(address, "/readyz");
        (answer.code == 503 && answer.json()["reason"].as_str().unwrap().contains(why)).then_some(())
    });
}

/// Name with labels → value; every line must be as OpenMetrics wants it.
fn metrics(address: &str) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics");
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.body.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {}", answer.body));
    let (mut kinds, mut values) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => assert!(kinds.insert(name, kind).is_none(), "{name} is declared twice"),
            ["#", "UNIT", name, unit] => assert!(name.ends_with(&format!("_{unit}")), "{line}"),
            ["#", "HELP", name, _] => assert!(kinds.contains_key(name), "{line}"),
            _ => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let bare = name.split('{').next().unwrap();
                let (family, kind) = kinds.iter().next_back().unwrap();
                let family =
                    kinds.keys().filter(|family| bare.starts_with(**family)).max_by_key(|f| f.len()).unwrap_or(family);
                let allowed: &[&str] = match *kinds.get(family).unwrap_or(kind) {
                    "counter" => &["_total"],
                    "info" => &["_info"],
                    "histogram" => &["_bucket", "_count", "_sum"],
                    _ => &[""],
                };
                assert!(allowed.contains(&&bare[family.len()..]), "{line} in the family {family}");
                assert!(values.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} stands there twice");
            }
        }
    }
    values
}

#[test]
fn metrics_and_readiness_follow_a_daemon_through_its_death_and_return() {
    let lab = Lab::new();
    let (monitor, address) = lab.monitor(&[]);
    assert_eq!(get(&address, "/healthz").code, 200);
    until_not_ready(&address, "nothing received");
    assert_eq!(metrics(&address)["haltere_up"], 0.0);

    let daemon = lab.rig.daemon(&[]);
    let _microscope = lab.microscope();
    until_ready(&address);
    // One answer that says all of it: on a busy machine the next may already be another.
    let ok = ["haltere_up", "haltere_ready", "haltere_quality{haltere_quality=\"ok\"}"];
    let first = wait_for("a status and good decodes", || {
        let is_whole = |m: &BTreeMap<String, f64>| m.contains_key("haltere_frames_received_total");
        Some(metrics(&address)).filter(|m| is_whole(m) && ok.iter().all(|name| m.get(*name) == Some(&1.0)))
    });
    let count = "haltere_latency_seconds_count{stage=\"total\"}";
    assert_eq!(first[count], first["haltere_latency_seconds_bucket{stage=\"total\",le=\"+Inf\"}"]);
    assert!(first["haltere_latency_seconds_sum{stage=\"total\"}"] > 0.0);
    wait_for("more decodes", || (metrics(&address)[count] > first[count] + 20.0).then_some(()));
    wait_for("a later status", || {
        let later = metrics(&address);
        (later["haltere_frames_received_total"] > first["haltere_frames_received_total"]).then_some(())
    });

    daemon.kill();
    until_not_ready(&address, "no heartbeat for");
    let dead = wait_for("the silence to be counted", || {
        Some(metrics(&address)).filter(|m| m["haltere_up"] == 0.0 && m["haltere_daemon_silences_total"] >= 1.0)
    });
    assert!(!dead.keys().any(|name| name.starts_with("haltere_quality")), "the quality of the dead: {dead:?}");
    assert_eq!(get(&address, "/healthz").code, 200, "the monitor lives");

    let _again = lab.rig.daemon(&[]);
    until_ready(&address);
    let back = metrics(&address);
    assert_eq!((back["haltere_daemon_restarts_total"], back["haltere_decodes_lost_total"]), (1.0, 0.0));
    monitor.signal(rustix::process::Signal::INT);
    monitor.finish().code(0);
}

#[test]
fn frames_that_stop_are_no_longer_ready_though_the_daemon_lives() {
    let lab = Lab::new();
    let (_monitor, address) = lab.monitor(&[]);
    let _daemon = lab.rig.daemon(&[]);
    let microscope = lab.microscope();
    until_ready(&address);
    microscope.kill();
    until_not_ready(&address, "no heartbeat for");
    let _microscope = lab.microscope();
    until_ready(&address);
}

/// What a page was sent so far.
#[derive(Default)]
struct Told {
    points: Vec<Value>,
    pictures: BTreeMap<String, (Value, Vec<f32>)>,
    plane: Value,
    latency: Value,
    status: Value,
    last: Value,
}

impl Told {
    fn take(&mut self, message: Message) {
        match message {
            Message::Text(text) => {
                let update: Value = serde_json::from_str(&text).unwrap();
                self.points.extend(update["points"].as_array().unwrap().iter().cloned());
                for (key, into) in [
                    ("plane", &mut self.plane),
                    ("latency", &mut self.latency),
                    ("status", &mut self.status),
                    ("last", &mut self.last),
                ] {
                    update.get(key).into_iter().for_each(|value| *into = value.clone());
                }
            }
            Message::Binary(bytes) => {
                let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
                let header: Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
                let values = bytes[4 + length..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                self.pictures.insert(header["what"].as_str().unwrap().to_owned(), (header.clone(), values.collect()));
            }
        }
    }
}

#[test]
fn a_page_is_sent_pictures_points_plane_and_latencies() {
    let lab = Lab::new();
    let (_monitor, address) = lab.monitor(&[]);
    let _daemon = lab.rig.daemon(&[]);
    let _microscope = lab.microscope();
    let mut socket = WebSocket::connect(&address, "/live");
    let (mut told, until) = (Told::default(), Instant::now() + support::PATIENCE);
    let whole = |told: &Told| {
        told.pictures.len() == 3
            && told.points.len() > 60
            && told.last["quality"] == "ok"
            && told.latency["count"].as_u64() > Some(60)
            && told.plane["trail"].as_array().is_some()
            && told.status["labels"].is_array()
    };
    while !whole(&told) {
        assert!(Instant::now() < until, "the page was never told everything: last {}", told.last);
        told.take(socket.next());
    }
    let (frame, pixels) = &told.pictures["frame"];
    assert_eq!((&frame["shape"], frame["source"].as_str(), pixels.len()), (&json!([1, 64, 64]), Some("rig7"), 64 * 64));
    let (template, light) = &told.pictures["template"];
    assert_eq!(
        (&template["full_shape"], &template["generation"], light.len()),
        (&json!([1, 64, 64]), &1.into(), 64 * 64)
    );
    let (raw, counts) = &told.pictures["raw"];
    assert_eq!((&raw["full_shape"], counts.len()), (&json!([1, 64, 64]), 64 * 64), "the frame as it came");
    assert!(counts.iter().all(|count| count.fract() == 0.0), "counts are whole");
    for values in [pixels, light, counts] {
        let spread = values.iter().fold(f32::MIN, |a, b| a.max(*b)) - values.iter().fold(f32::MAX, |a, b| a.min(*b));
        assert!(values.iter().all(|v| v.is_finite()) && spread > 0.5, "a picture has something in it: {spread}");
    }
    let ok = told.points.iter().rev().find(|point| point["q"] == "ok").unwrap();
    assert_eq!((ok["p"].as_array().unwrap().len(), ok["s"].as_array().unwrap().len()), (2, 2), "{ok}");
    assert!(ok["xy"][0].is_number() && ok["l"].as_f64().unwrap() > 0.0, "{ok}");
    assert_eq!(
        (&told.plane["of"], told.plane["dots"].as_array().unwrap().len()),
        (&"training".into(), 2),
        "{}",
        told.plane
    );
    assert_eq!((&told.status["labels"], &told.status["deadline_ms"]), (&json!(["rest", "walk"]), &250.into()));
    assert!(told.latency["p999"].as_f64().unwrap() >= told.latency["p50"].as_f64().unwrap());
}

#[test]
fn pages_of_other_sites_are_refused_and_so_is_every_command_that_is_not_for_pages() {
    let lab = Lab::new();
    let (_shut, address) = lab.monitor(&[]);
    let page = get(&address, "/");
    assert!(page.code == 200 && page.header("content-security-policy").contains("default-src 'none'"));
    assert!(!page.body.contains("https://") && !page.body.contains("src=\"http"), "nothing from outside");
    assert_eq!(request(&address, "GET", "/metrics", &["Host: evil.example"], "").code, 403);
    let upgrade =
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAA", "Origin: http://evil.example"];
    assert_eq!(request(&address, "GET", "/live", &upgrade, "").code, 403);

    let json_type = "Content-Type: application/json";
    let record = r#"{"command":"record start"}"#;
    let refused = request(&address, "POST", "/control", &[json_type], record);
    assert!(refused.code == 403 && refused.body.contains("--allow-control"), "{refused:?}");

    let (_open, address) = lab.monitor(&["--allow-control"]);
    let silent = request(&address, "POST", "/control", &[json_type], record);
    assert!(silent.code == 502 && silent.json()["error"].as_str().unwrap().contains("no answer"), "{silent:?}");
    let mut daemon = lab.rig.daemon(&[]);
    assert_eq!(request(&address, "POST", "/control", &[json_type], r#"{"command":"shutdown"}"#).code, 400);
    assert_eq!(request(&address, "POST", "/control", &["Content-Type: text/plain"], record).code, 400);
    assert_eq!(request(&address, "POST", "/control", &[json_type, "Origin: http://evil.example"], record).code, 403);
    let answered = request(&address, "POST", "/control", &[json_type], r#"{"command":"mark stimulus"}"#);
    assert!(answered.code == 200 && answered.json()["ok"].is_boolean(), "the daemon's own answer: {answered:?}");
    assert!(daemon.is_running());
}

#[test]
fn pictures_come_to_whom_asks_for_them_and_only_as_often_as_configured() {
    let lab = Lab::new();
    let _daemon = lab.rig.daemon(&["--set", "publish.preview_hz=10"]);
    let _microscope = lab.microscope();
    let context = zmq::Context::new();
    let [pictures, decodes] = ["preview/", "decode/"].map(|topic| {
        let socket = context.socket(zmq::SUB).unwrap();
        socket.set_subscribe(topic.as_bytes()).unwrap();
        socket.set_rcvtimeo(20).unwrap();
        socket.connect(&lab.rig.decodes).unwrap();
        socket
    });
    let hear = |socket: &zmq::Socket| socket.recv_multipart(0).ok();
    wait_for("a template", || hear(&pictures).filter(|parts| parts[1].windows(8).any(|w| w == b"template")));
    // Raw images come half as often.
    let (mut frames, until) = (0, Instant::now() + Duration::from_millis(1500));
    while Instant::now() < until {
        let Some(parts) = hear(&pictures) else { continue };
        let header: Value = serde_json::from_slice(&parts[1]).unwrap();
        assert_eq!((parts.len(), parts[0].as_slice()), (3, &b"preview/rig7"[..]), "{header}");
        assert_eq!(
            (&header["htype"], &header["dtype"], parts[2].len()),
            (&"preview-1.0".into(), &"float32".into(), 4 * 64 * 64)
        );
        frames += usize::from(header["what"] == "frame");
    }
    assert!((2..=17).contains(&frames), "{frames} pictures in 1.5 s at 10 per second");
    let mut heard = 0;
    while let Some(parts) = hear(&decodes) {
        assert!(parts[0].starts_with(b"decode/"));
        heard += 1;
    }
    assert!(heard > 15, "{heard} decodes");
}

#[test]
fn whom_the_configuration_gives_no_pictures_gets_none() {
    let lab = Lab::new();
    let _daemon = lab.rig.daemon(&["--set", "publish.preview_hz=0"]);
    let _microscope = lab.microscope();
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_subscribe(b"").unwrap();
    socket.set_rcvtimeo(1000).unwrap();
    socket.connect(&lab.rig.decodes).unwrap();
    let mut decodes = 0;
    wait_for("sixty decodes", || {
        let parts = socket.recv_multipart(0).ok()?;
        assert!(!parts[0].starts_with(b"preview/"), "{:?}", String::from_utf8_lossy(&parts[1]));
        decodes += usize::from(parts[0].starts_with(b"decode/"));
        (decodes > 60).then_some(())
    });
}

#[test]
fn an_address_for_others_a_taken_port_and_a_wrong_model_are_refused_with_what_to_do() {
    let start = |arguments: &[&str]| Process::start("monitor", haltere(["monitor"]).args(arguments)).finish();
    start(&["--bind", "0.0.0.0:0"]).code(2).says(&["--allow-remote", "no password", "ssh -L"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    start(&["--bind", &address]).code(7).says(&[&address, "Choose another --bind"]);
    start(&["--model", "nowhere.toml", "--bind", "127.0.0.1:0"]).code(4).says(&["nowhere.toml"]);
    start(&["--allow-control", "--set", "control.endpoint=off"]).code(1).says(&["`control.endpoint` is off"]);
}

#[test]
fn a_page_says_why_frames_are_refused_how_many_are_not_believed_and_how_well_the_picture_matches() {
    let Some(chromium) = chromium() else {
        return skip("no chromium: apt-get install chromium, or set HALTERE_CHROMIUM").unwrap_or_default();
    };
    let lab = Lab::new();
    let _daemon = lab.rig.daemon(&LOSSLESS);
    let (_monitor, address) = lab.monitor(&[]);
    let mut browser = Browser::open(&chromium, &format!("http://{address}/"));
    browser.until("a daemon without frames", "document.getElementById('action').textContent === 'ready'");
    let scope = Microscope::new(&lab.rig.frames);
    scope.send(&[64, 64], &json!({ "frame": -1 }), |_| 7);
    browser.until("the reason", "document.getElementById('sure').textContent.includes('\"frame\" is -1')");
    assert_eq!(browser.text("action"), "REFUSED");
    // A little more than twenty seconds by the frames' own times.
    for frame in 0..640 {
        let time = json!({ "frame": frame, "timestamp_ns": frame as u64 * 33_333_333, "clock": "device" });
        let counts = &small::movie()[frame % small::movie().len()];
        scope.send(&[64, 64], &time, |at| if frame == 630 { u16::MAX } else { counts[at] });
    }
    browser.until("the frame's age", "document.getElementById('late-note').textContent.includes('frame age')");
    let shown = |words: &str| format!("document.getElementById('counts').textContent.includes('{words}')");
    browser.until("the frame that is not trusted", &shown("not trusted 1 (saturated 1)"));
    browser.until("the refusal", &shown("rejected 1 (field 1)"));
    browser.until("the focus", "/focus \\d+ % of the start/.test(document.getElementById('counts').textContent)");
    browser.close();
}

#[test]
fn a_page_shows_how_rules_stand_and_what_they_decided_and_no_rule_as_armed_of_a_silent_daemon() {
    let Some(chromium) = chromium() else {
        return skip("no chromium: apt-get install chromium, or set HALTERE_CHROMIUM").unwrap_or_default();
    };
    let lab = Lab::new();
    let rule = [
        "when=light > 0.001",
        "quality=degraded",
        "repeat=true",
        "refractory_ms=300",
        "sham_percent=40",
        "dose_minute_ms=9000",
        "armed=true",
    ];
    let rule = rule.map(|key| format!("decision.light.{key}"));
    let second = "decision.dark.when=light < 0.001".to_owned();
    let sets: Vec<&str> = rule.iter().chain([&second]).flat_map(|set| ["--set", set]).collect();
    let (_monitor, address) = lab.monitor(&[]);
    let mut browser = Browser::open(&chromium, &format!("http://{address}/"));
    let daemon = lab.rig.daemon(&sets);
    let _microscope = lab.microscope();
    let rules = "document.getElementById('rules').textContent";
    browser.until(
        "the rules",
        &format!("{rules}.includes('light') && {rules}.includes('armed') && {rules}.includes('disarmed')"),
    );
    browser.until("what is left of the dose", &format!("/dose: \\d+ ms left of this minute/.test({rules})"));
    let made = |kind: &str| format!("document.querySelectorAll('#made li.{kind}').length > 0");
    browser.until("an output", &made("output"));
    browser.until("a sham trial", &made("sham"));
    browser.until("its words", "document.getElementById('made').textContent.includes('SHAM trial, no output; light ')");
    // Nothing of the section is cut off on a telephone.
    browser.resize(390, 844);
    let fits = "(() => { const box = document.getElementById('decided').getBoundingClientRect(); return box.width > 300 && box.right <= 390 && \
                [...document.querySelectorAll('#rules p > *')].every(e => e.getBoundingClientRect().right <= box.right); })()";
    browser.until("a section that fits", fits);
    daemon.kill();
    browser.until("no rule as armed", &format!("{rules}.includes('unknown') && !{rules}.includes('armed')"));
    browser.close();
}

#[test]
fn a_browser_shows_action_and_latency_keeps_up_and_cries_when_the_heart_stops() {
    let Some(chromium) = chromium() else {
        return skip("no chromium: apt-get install chromium, or set HALTERE_CHROMIUM").unwrap_or_default();
    };
    let lab = Lab::new();
    let (monitor, address) = lab.monitor(&["--allow-control"]);
    let mut browser = Browser::open(&chromium, &format!("http://{address}/"));
    browser.until("waiting", "document.getElementById('action').textContent === 'waiting'");
    // What the page says while the daemon learns, however short that is.
    browser.evaluate(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('sure').textContent))\
         .observe(document.getElementById('sure'), { childList: true, characterData: true, subtree: true })",
    );
    let daemon = lab.rig.daemon(&[]);
    let _microscope = lab.microscope();
    browser.until("an action", "['rest', 'walk'].includes(document.getElementById('action').textContent)");
    let counted_down = "said.some(text => /^\\d+ frames left/.test(text))";
    assert_eq!(browser.evaluate(counted_down), true, "{}", browser.evaluate("said"));
    browser.until("a latency", "parseFloat(document.getElementById('p999').textContent) > 0");
    browser.until(
        "all pictures",
        "['frame', 'template', 'raw'].every(w => document.getElementById(w + '-picture').dataset.frame > 0)",
    );
    assert_eq!((browser.text("model"), browser.text("rig")), ("small".into(), "rig7".into()));
    browser.until("the plane's name", "document.getElementById('plane-of').textContent.includes('over training')");
    // A busy machine may skip a frame now and then.
    browser.until("quality ok", "document.getElementById('quality').textContent === 'ok'");
    browser.until("nothing old", "document.querySelectorAll('section.old').length === 0");
    // It goes on: the number of the frame, and the pixels of every chart.
    let pixels = "['strip', 'plane', 'shift', 'light', 'histogram', 'frame-picture', 'raw-picture'].map(id => document.getElementById(id).toDataURL())";
    let (frame, drawn) = (browser.text("frame"), browser.evaluate(pixels));
    browser.until("a later frame", &format!("document.getElementById('frame').textContent !== {frame:?}"));
    wait_for("every chart to move", || {
        let now = browser.evaluate(pixels);
        (0..7).all(|chart| now[chart] != drawn[chart]).then_some(())
    });
    browser.evaluate("document.getElementById('text').value = 'odour'; document.getElementById('mark').click()");
    browser.until("an answer of the daemon", "!['', '…'].includes(document.getElementById('answer').textContent)");

    daemon.kill();
    browser.until("no heartbeat", "document.getElementById('action').textContent === 'NO HEARTBEAT'");
    browser.until("that old numbers look old", "document.querySelectorAll('section.old').length >= 6");
    assert_eq!(browser.text("quality"), "silent");
    let _again = lab.rig.daemon(&[]);
    browser.until("the action again", "['rest', 'walk'].includes(document.getElementById('action').textContent)");
    browser.until("nothing old", "document.querySelectorAll('section.old').length === 0");
    assert_eq!(browser.evaluate("events.some(line => line.text.includes('daemon restarted'))"), true);

    monitor.kill();
    browser.until("no monitor", "document.getElementById('action').textContent === 'NO MONITOR'");
    browser.close();
}
