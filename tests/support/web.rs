//! A web client of the tests' own: HTTP and WebSocket over a plain TCP stream, and through the latter a real browser.
//!
//! Why it exists: what a browser would be sent must be looked at without the server's own code. What it must never do: wait
//! without end.
#![allow(dead_code, reason = "every test binary uses its part")]
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{PATIENCE, Process, wait_for};

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }
}

/// `address` is `127.0.0.1:port`. `more` are header lines; a `Host` among them replaces the usual one.
pub fn request(address: &str, method: &str, path: &str, more: &[&str], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host =
        if more.iter().any(|line| line.starts_with("Host:")) { String::new() } else { format!("Host: {address}\r\n") };
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{host}{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let text = read_answer(&mut stream);
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let code = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    Answer { code: code.unwrap_or_else(|| panic!("no answer but {text:?}")), headers, body: body.to_owned() }
}

/// Up to the length that the head tells; some servers do not hang up.
fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let head = text.windows(4).position(|w| w == b"\r\n\r\n");
        let length = head.and_then(|end| {
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            Some(end + 4 + head.split("content-length:").nth(1)?.lines().next()?.trim().parse::<usize>().ok()?)
        });
        if length.is_some_and(|length| text.len() >= length) {
            return text;
        }
        match stream.read(&mut part).unwrap() {
            0 => return text,
            n => text.extend_from_slice(&part[..n]),
        }
    }
}

pub fn get(address: &str, path: &str) -> Answer {
    request(address, "GET", path, &[], "")
}

/// A message of a WebSocket.
#[derive(Debug)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
}

/// A WebSocket.
pub struct WebSocket {
    stream: TcpStream,
}

impl WebSocket {
    /// Shakes hands with `ws://<address><path>`.
    pub fn connect(address: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        // The answer to this key stands in RFC 6455.
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream }
    }

    /// The next whole message.
    pub fn next(&mut self) -> Message {
        let (mut kind, mut data) = (0, Vec::new());
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).unwrap();
            let length = match head[1] & 0x7f {
                126 => u64::from(u16::from_be_bytes(self.bytes())),
                127 => u64::from_be_bytes(self.bytes()),
                short => u64::from(short),
            };
            let mut part = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut part).unwrap();
            match head[0] & 0x0f {
                0 => {}
                opcode @ (1 | 2) => kind = opcode,
                8 => panic!("the other side closed: {part:?}"),
                _ => continue,
            }
            data.extend(part);
            if head[0] & 0x80 != 0 {
                break;
            }
        }
        if kind == 1 { Message::Text(String::from_utf8(data).unwrap()) } else { Message::Binary(data) }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Sends a text; the mask of zeros leaves it as it is.
    pub fn send(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match text.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }
}

/// Chromium without a window, at one page.
pub struct Browser {
    process: Process,
    socket: WebSocket,
    next: u64,
    _profile: tempfile::TempDir,
}

/// `$HALTERE_CHROMIUM`, else the usual names.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("HALTERE_CHROMIUM").map(PathBuf::from);
    let usual = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].map(PathBuf::from);
    let starts = |path: &PathBuf| Command::new(path).arg("--version").output().is_ok_and(|out| out.status.success());
    named.into_iter().chain(usual).find(starts)
}

impl Browser {
    /// Opens `url` in a window of 1920×1080.
    pub fn open(chromium: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(chromium);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.args([
            "--window-size=1920,1080",
            "--remote-debugging-port=0",
            "--no-first-run",
            "--disable-extensions",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        let mut process = Process::start("chromium", &mut command);
        process.until_it_says("DevTools listening on ws://");
        let said = process.err();
        let address = said.split("DevTools listening on ws://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        let path = wait_for("the page in the browser", || {
            let pages = get(&address, "/json/list").json();
            let page = pages.as_array()?.iter().find(|page| page["type"] == "page")?["webSocketDebuggerUrl"]
                .as_str()?
                .to_owned();
            Some(page.split_once(&address)?.1.to_owned())
        });
        let socket = WebSocket::connect(&address, &path);
        let mut browser = Self { process, socket, next: 0, _profile: profile };
        browser.until("the page is loaded", "document.readyState === 'complete' && location.href !== 'about:blank'");
        browser
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        self.socket.send(&json!({ "id": self.next, "method": method, "params": parameters }).to_string());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let Message::Text(text) = self.socket.next() else { continue };
            let said: Value = serde_json::from_str(&text).unwrap();
            if said["id"] == self.next {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].clone();
            }
        }
        panic!("{method} was never answered")
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let said = self.call("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }));
        assert!(said.get("exceptionDetails").is_none(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// The text of an element.
    pub fn text(&mut self, id: &str) -> String {
        self.evaluate(&format!("document.getElementById({id:?}).textContent")).as_str().unwrap().to_owned()
    }

    /// Shows the page in a window of this size, px.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        // The page draws itself anew.
        std::thread::sleep(Duration::from_millis(400));
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, what: &str, expression: &str) {
        let until = Instant::now() + PATIENCE;
        while self.evaluate(expression) != true {
            if Instant::now() >= until {
                let seen = self.evaluate("document.body.innerText");
                panic!("{what} never came true ({expression}); the page says:\n{}", seen.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes a picture of the page, PNG.
    pub fn screenshot(&mut self, path: &Path) {
        let said = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let mut decoder = Command::new("base64");
        decoder.arg("--decode").stdin(Stdio::piped()).stdout(File::create(path).unwrap());
        let mut decoder = decoder.spawn().unwrap();
        // Dropped at the end of the statement, which is the end of the input.
        decoder.stdin.take().unwrap().write_all(said["data"].as_str().unwrap().as_bytes()).unwrap();
        assert!(decoder.wait().unwrap().success());
    }

    /// Share of a core that the page's own thread takes for scripts, layout and painting: processor time, not time on the clock.
    pub fn busy_share(&mut self, over: Duration) -> f64 {
        self.call("Performance.enable", &json!({ "timeDomain": "threadTicks" }));
        let mut busy_s = || {
            let said = self.call("Performance.getMetrics", &json!({}));
            let all = said["metrics"].as_array().unwrap();
            all.iter().find(|metric| metric["name"] == "TaskDuration").unwrap()["value"].as_f64().unwrap()
        };
        let (before, begin) = (busy_s(), Instant::now());
        std::thread::sleep(over);
        (busy_s() - before) / begin.elapsed().as_secs_f64()
    }

    /// Ends the browser.
    pub fn close(self) {
        self.process.kill();
    }
}
