//! The web server: one page, one WebSocket, metrics, health, and requests to the control socket, which are off by default.
//!
//! Why it exists: every machine in a lab has a browser. What it must never do: load anything from elsewhere, trust a page of
//! another site (`Host` and `Origin` are checked), or pass on a command that is not on the short list.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Request, State as Given};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::live::{Cursor, messages, row};
use super::{MonitorOptions, metrics};
use crate::client::ask::ask_with;
use crate::client::state::State;
use crate::sys::clock::now_ns;
use crate::sys::palette;
use crate::sys::sockets::ClientKeys;

/// The page of one rig; nothing else is ever loaded.
const PAGE: &str = include_str!("page.html");
/// The page of several rigs, a row each.
const RIGS: &str = include_str!("rigs.html");
/// Where both have the colours of the actions.
const COLOURS: &str = "/*COLOURS*/[]";
/// Nothing from elsewhere, even if a text tried to inject it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How often a page is checked for updates. Together with the wait below this bounds how late an urgent change is shown.
const LOOK_EVERY: Duration = Duration::from_millis(80);
/// Longest wait for a decode, so that an update follows it.
const DECODE_WAIT_MAX: Duration = Duration::from_millis(50);
/// A page that does not accept an update for this long is dropped.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Pages open at once.
const VIEWERS_MAX: usize = 16;
/// Longest request to the control socket, bytes.
const REQUEST_BYTES_MAX: usize = 1024;
/// Longest wait for the daemon's answer, ms.
const ANSWER_WAIT_MS: i32 = 3000;

/// One daemon.
pub(super) struct Rig {
    pub(super) state: Mutex<State>,
    /// A decode was received.
    pub(super) decoded: Notify,
    viewers: AtomicUsize,
}

impl Rig {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), decoded: Notify::const_new(), viewers: AtomicUsize::new(0) })
    }

    /// Is any page open?
    pub(super) fn is_watched(&self) -> bool {
        self.viewers.load(Relaxed) > 0
    }
}

/// Everything that the handlers share.
pub(super) struct Site {
    /// At least one.
    pub(super) rigs: Vec<Arc<Rig>>,
    control: Option<String>,
    keys: Option<ClientKeys>,
    /// Where the page is served.
    bound: IpAddr,
    /// Names that the user gave it.
    hosts: Vec<String>,
}

impl Site {
    pub(super) fn new(rigs: Vec<Arc<Rig>>, options: &MonitorOptions) -> Self {
        Self {
            rigs,
            control: options.control.clone(),
            keys: options.keys.clone(),
            bound: options.bind.ip(),
            hosts: options.hosts.clone(),
        }
    }

    /// The rig of `?rig=N`, counted from 1; without it the only one.
    fn rig(&self, uri: &Uri) -> Result<&Arc<Rig>, String> {
        let count = self.rigs.len();
        let Some(given) = uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("rig=")))
        else {
            return match &self.rigs[..] {
                [only] => Ok(only),
                _ => Err(format!("this monitor shows {count} rigs: ask for one of them with ?rig=1 to ?rig={count}\n")),
            };
        };
        let at = given.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        at.and_then(|at| self.rigs.get(at)).ok_or_else(|| format!("?rig is a number from 1 to {count}\n"))
    }

    /// Is this `Host` ours? A page of another site can make its own name lead here (DNS rebinding), but neither an address nor a name that it
    /// does not own.
    fn is_called(&self, host: &str) -> bool {
        let name = name_of(host);
        match name.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || self.bound.is_unspecified() || address == self.bound,
            Err(_) => ["localhost"]
                .into_iter()
                .chain(self.hosts.iter().map(String::as_str))
                .any(|own| own.eq_ignore_ascii_case(name)),
        }
    }
}

/// Which handler serves which path.
pub(super) fn router(site: &Arc<Site>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/live", get(live))
        .route("/rigs", get(rigs))
        .route("/control", post(ask))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(site.clone(), guard))
        .with_state(site.clone())
}

/// Refuses requests from pages of other sites: a foreign `Origin`, or a `Host` that is not this page's.
async fn guard(Given(site): Given<Arc<Site>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let ours = site.is_called(host);
    let from_us = text(header::ORIGIN).is_none_or(|origin| origin == format!("http://{host}"));
    if ours && from_us && has_one_origin(headers) {
        return next.run(request).await;
    }
    let why = "the monitor answers only its own page; open it at the address that the monitor printed, or start it with --host and the name \
               that you use\n";
    (StatusCode::FORBIDDEN, why).into_response()
}

/// An `Origin` that is not text must not count as absent.
fn has_one_origin(headers: &HeaderMap) -> bool {
    headers.get_all(header::ORIGIN).iter().all(|value| value.to_str().is_ok()) && {
        headers.get_all(header::ORIGIN).iter().count() <= 1
    }
}

/// A `Host` without its port and brackets.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// The page of one rig, or of all.
async fn page(Given(site): Given<Arc<Site>>, uri: Uri) -> Response {
    let html = match site.rig(&uri) {
        Ok(_) => PAGE,
        Err(_) if uri.query().is_none() => RIGS,
        Err(why) => return (StatusCode::NOT_FOUND, why).into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, html.replace(COLOURS, &json!(palette::COLOURS).to_string())).into_response()
}

/// All rigs, a row each.
async fn rigs(Given(site): Given<Arc<Site>>) -> Response {
    let rows: Vec<Value> = site.rigs.iter().map(|rig| row(&rig.state(), now_ns())).collect();
    answer(StatusCode::OK, &json!(rows))
}

async fn metrics_text(Given(site): Given<Arc<Site>>, uri: Uri) -> Response {
    match site.rig(&uri) {
        Ok(rig) => {
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&rig.state(), now_ns())).into_response()
        }
        Err(why) => (StatusCode::NOT_FOUND, why).into_response(),
    }
}

/// The monitor itself is running.
async fn healthz() -> Response {
    answer(StatusCode::OK, &json!({ "ok": true }))
}

/// Whether decodes can be trusted, and if not, why; of several rigs, whether all can.
async fn readyz(Given(site): Given<Arc<Site>>, uri: Uri) -> Response {
    let rigs = match site.rig(&uri) {
        Ok(rig) => std::slice::from_ref(rig),
        Err(_) if uri.query().is_none() => &site.rigs,
        Err(why) => return (StatusCode::NOT_FOUND, why).into_response(),
    };
    let several = rigs.len() > 1;
    for (rig, number) in rigs.iter().zip(1..) {
        let state = rig.state();
        if let Err(reason) = state.ready(now_ns()) {
            let reason = if several { format!("rig {number} ({}): {reason}", state.endpoint) } else { reason };
            return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "reason": reason }));
        }
    }
    answer(StatusCode::OK, &json!({ "ready": true }))
}

fn answer(code: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, format!("{body}\n")).into_response()
}

async fn live(Given(site): Given<Arc<Site>>, uri: Uri, upgrade: WebSocketUpgrade) -> Response {
    let rig = match site.rig(&uri) {
        Ok(rig) => rig,
        Err(why) => return (StatusCode::NOT_FOUND, why).into_response(),
    };
    let Some(viewer) = Viewer::enter(rig) else {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{VIEWERS_MAX} pages are open already; close one\n"))
            .into_response();
    };
    let may_control = site.control.is_some();
    upgrade.max_message_size(REQUEST_BYTES_MAX).on_upgrade(move |socket| show(viewer, may_control, socket))
}

/// One open page; counted as long as this lives.
struct Viewer(Arc<Rig>);

impl Viewer {
    fn enter(rig: &Arc<Rig>) -> Option<Self> {
        // Counted first: dropping the viewer takes it back in either case.
        let before = rig.viewers.fetch_add(1, Relaxed);
        let viewer = Self(rig.clone());
        (before < VIEWERS_MAX).then_some(viewer)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Relaxed);
    }
}

/// Keeps one page up to date until it closes or stops accepting updates.
///
/// An update follows a decode: a browser on the rig's own machine then paints while the daemon waits for the next frame.
async fn show(viewer: Viewer, may_control: bool, mut socket: WebSocket) {
    let rig = &viewer.0;
    let mut cursor = Cursor::default();
    let mut look = Instant::now();
    loop {
        match timeout_at(look, socket.recv()).await {
            // A page sends nothing here; the library answers pings.
            Ok(Some(Ok(_))) => continue,
            Ok(_) => return,
            Err(_) => look = Instant::now() + LOOK_EVERY,
        }
        if !cursor.is_due(&rig.state(), now_ns()) {
            continue;
        }
        // Without a decode, the update says so.
        let _ = timeout(DECODE_WAIT_MAX, rig.decoded.notified()).await;
        let fresh = messages(&rig.state(), &mut cursor, may_control, now_ns());
        for message in fresh {
            if !matches!(timeout(SEND_MAX, socket.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// Sends a page's request to the daemon, if pages may control it.
async fn ask(Given(site): Given<Arc<Site>>, headers: HeaderMap, body: Bytes) -> Response {
    let refuse = |code: StatusCode, error: &str| answer(code, &json!({ "ok": false, "error": error }));
    let Some(endpoint) = site.control.clone() else {
        return refuse(StatusCode::FORBIDDEN, "the monitor was started without --allow-control");
    };
    // A form of another site cannot send this type without a preflight request, which is never granted.
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    let request = serde_json::from_slice::<Value>(&body).ok().filter(|_| is_json);
    let Some(command) = request.as_ref().and_then(command_of) else {
        let error =
            "not a request: {\"command\":\"record start\"}, \"record stop\" or \"mark TEXT\" as application/json";
        return refuse(StatusCode::BAD_REQUEST, error);
    };
    let keys = site.keys.clone();
    let asked = tokio::task::spawn_blocking(move || ask_with(&endpoint, &command, ANSWER_WAIT_MS, keys.as_ref())).await;
    match asked {
        Ok(Ok(said)) => answer(StatusCode::OK, &said),
        Ok(Err(error)) => refuse(StatusCode::BAD_GATEWAY, &error.to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The command of a request, if pages may give it: recording and marks, nothing that changes what is decoded.
fn command_of(request: &Value) -> Option<String> {
    let command = request["command"].as_str()?;
    let text = command.strip_prefix("mark ").map(str::trim);
    let is_mark = text.is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control));
    (is_mark || ["record start", "record stop"].contains(&command)).then(|| command.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_and_those_that_were_given_are_its_own() {
        let site = |bind: &str, hosts: &[&str]| {
            let options = MonitorOptions {
                endpoints: vec!["tcp://127.0.0.1:5711".to_owned()],
                bind: bind.parse().unwrap(),
                allow_remote: true,
                control: None,
                hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
                keys: None,
                model: std::path::PathBuf::new(),
            };
            Site::new(vec![Rig::new(State::new("", Err(String::new()), 0))], &options)
        };
        let always = ["127.0.0.1:5713", "localhost:5713", "LocalHost", "[::1]:5713", "127.9.9.9"];
        let never = ["", "evil.example:5713", "127.0.0.1.evil.example", "localhost.evil:1", "rig.evil"];
        let (local, of_rig) = (site("127.0.0.1:5713", &[]), site("10.0.0.1:5713", &["rig.lab"]));
        let (all, named) = (site("0.0.0.0:5713", &[]), ["rig.lab", "RIG.lab:5713"]);
        for (site, good, bad) in [
            (&local, &[][..], &["10.0.0.1:5713", "[::2]:1", "rig.lab"][..]),
            (&of_rig, &["10.0.0.1:5713", named[0], named[1]], &["10.0.0.2:5713"]),
            (&all, &["10.0.0.1:5713", "[::2]:1"], &named),
        ] {
            always.iter().chain(good).for_each(|host| assert!(site.is_called(host), "{host}"));
            never.iter().chain(bad).for_each(|host| assert!(!site.is_called(host), "{host}"));
        }
    }

    #[test]
    fn one_rig_needs_no_number_and_of_several_each_has_its_own() {
        let rigs = |count: usize| {
            let options = MonitorOptions {
                endpoints: Vec::new(),
                bind: "127.0.0.1:0".parse().unwrap(),
                allow_remote: false,
                control: None,
                hosts: Vec::new(),
                keys: None,
                model: std::path::PathBuf::new(),
            };
            let rigs = (1..=count).map(|n| Rig::new(State::new(&n.to_string(), Err(String::new()), 0))).collect();
            Site::new(rigs, &options)
        };
        let of =
            |site: &Site, path: &'static str| site.rig(&Uri::from_static(path)).map(|rig| rig.state().endpoint.clone());
        assert_eq!(of(&rigs(1), "/live").as_deref(), Ok("1"));
        assert_eq!(of(&rigs(3), "/live?rig=2").as_deref(), Ok("2"));
        assert!(of(&rigs(3), "/metrics").unwrap_err().contains("?rig=1 to ?rig=3"));
        for wrong in ["/live?rig=0", "/live?rig=4", "/live?rig=x", "/live?rig="] {
            assert!(of(&rigs(3), wrong).unwrap_err().contains("from 1 to 3"), "{wrong}");
        }
    }

    #[test]
    fn a_page_may_record_and_mark_and_nothing_else() {
        let of = |command: &str| command_of(&json!({ "command": command }));
        for command in ["record start", "record stop", "mark second stimulus, left"] {
            assert_eq!(of(command).as_deref(), Some(command));
        }
        for command in ["shutdown", "reset", "record", "mark ", "mark a\nb", "model other.toml", ""] {
            assert_eq!(of(command), None, "{command:?}");
        }
        assert_eq!(command_of(&json!(["record start"])), None);
    }
}
