//! `haltere monitor`: a page to hang over the rig, and numbers for a metrics server.
//!
//! Why it exists: during an experiment people watch the image, the decodes, their latency and whether to trust them. What it
//! must never do: slow the loop down. It is a separate process with low priority, one more subscriber that the daemon never
//! waits for; it sends the daemon no request unless it is allowed to. Stale numbers must look stale.
//!
//! ```text
//!  daemon ──PUB──▶ listen (thread) ──▶ state ──▶ web (page, WebSocket, /metrics, /healthz, /readyz); of several rigs, one of each
//!    ▲                                             │
//!    └──────────── control, if allowed ────────────┘
//! ```

mod listen;
pub(crate) mod live;
pub(crate) mod metrics;
mod training;
mod web;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::state::State;
use crate::sys::clock::now_ns;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::sockets::ClientKeys;
use web::{Rig, Site};

/// How often it checks whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Steps by which the monitor's priority is below that of ordinary programs.
const NICE: i32 = 10;

/// What to show, and where.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// The daemons' PUB endpoints, one for each rig; at least one.
    pub endpoints: Vec<String>,
    /// Where the page is served.
    pub bind: SocketAddr,
    /// Serve it to other machines as well.
    pub allow_remote: bool,
    /// The daemon's control socket, if the page may start and stop recordings and set marks.
    pub control: Option<String>,
    /// Names by which browsers may address the page, beside those of this machine and its address.
    pub hosts: Vec<String>,
    /// Keys of this side and of the daemon; `None` = it asks for none.
    pub keys: Option<ClientKeys>,
    /// Manifest of the model, for its training embedding. Without it only that plot is missing.
    pub model: PathBuf,
}

/// Why the monitor cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Not an endpoint, or the socket failed.
    #[error("{endpoint}: {cause}; an endpoint is written tcp://ADDRESS:PORT or ipc://PATH, as in tcp://127.0.0.1:5711")]
    Socket {
        /// Which endpoint.
        endpoint: String,
        /// ZeroMQ's message.
        cause: zmq::Error,
    },
    /// An address that other machines can reach, without `--allow-remote`.
    #[error(
        "--bind {0} is reachable from other machines, and the page has no password and no encryption: bind to 127.0.0.1 (from \
         elsewhere: `ssh -L 5713:127.0.0.1:5713 rig`), or pass --allow-remote on a network used only by the rig"
    )]
    Remote(SocketAddr),
    /// The page cannot be served there.
    #[error("the page cannot be served at {bind}: {cause}; is another monitor running there? Choose another --bind")]
    Bind {
        /// Address and port.
        bind: SocketAddr,
        /// The system's message.
        cause: std::io::Error,
    },
    /// The system provides no thread or no event queue.
    #[error("the monitor cannot start: {0}")]
    Start(std::io::Error),
}

impl HasExitCode for MonitorError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Remote(_) => ExitCode::Usage,
            Self::Socket { .. } | Self::Bind { .. } => ExitCode::Sink,
            Self::Start(_) => ExitCode::Other,
        }
    }
}

/// Listens and serves until `stop`. `ready` is called once, with the address of the page.
///
/// # Errors
/// Any [`MonitorError`]. An absent daemon is no error: it may start, stop and start again.
pub fn monitor(
    options: &MonitorOptions,
    stop: &Arc<AtomicBool>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), MonitorError> {
    if !options.bind.ip().is_loopback() && !options.allow_remote {
        return Err(MonitorError::Remote(options.bind));
    }
    let connect = |endpoint: &String| listen::connect(endpoint, options.keys.as_ref());
    let sockets = options.endpoints.iter().map(connect).collect::<Result<Vec<_>, _>>()?;
    let refused = |cause| MonitorError::Bind { bind: options.bind, cause };
    let listener = TcpListener::bind(options.bind).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    // Refused only where the priority is already lower, which is just as good.
    let _ = rustix::process::nice(NICE);
    let training = training::load(&options.model);
    let rig = |endpoint: &String| Rig::new(State::new(endpoint, training.clone(), now_ns()));
    let site = Arc::new(Site::new(options.endpoints.iter().map(rig).collect(), options));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(MonitorError::Start)?;
    ready(address);
    std::thread::scope(|threads| {
        let begin = |(socket, rig): (zmq::Socket, Arc<Rig>)| {
            let thread = std::thread::Builder::new().name("listen".to_owned());
            thread.spawn_scoped(threads, move || listen::listen(&socket, &rig, stop)).map_err(MonitorError::Start)
        };
        let begun = sockets.into_iter().zip(site.rigs.iter().cloned()).map(begin).collect::<Result<Vec<_>, _>>();
        let listeners = begun.inspect_err(|_| stop.store(true, Relaxed))?;
        let has_ended = || listeners.iter().any(std::thread::ScopedJoinHandle::is_finished);
        let served = runtime.block_on(serve(listener, &site, stop, has_ended));
        // Open pages reconnect by themselves.
        runtime.shutdown_background();
        stop.store(true, Relaxed);
        let ends = listeners.into_iter().zip(&options.endpoints).map(|(thread, endpoint)| {
            let received = thread.join().unwrap_or(Ok(()));
            received.map_err(|cause| MonitorError::Socket { endpoint: endpoint.clone(), cause })
        });
        ends.fold(Ok(()), Result::and).and(served.map_err(refused))
    })
}

/// Serves until `stop`, or until the listening thread has ended.
async fn serve(
    listener: TcpListener,
    site: &Arc<Site>,
    stop: &AtomicBool,
    listener_ended: impl Fn() -> bool,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = tokio::spawn(IntoFuture::into_future(axum::serve(listener, web::router(site))));
    while !stop.load(Relaxed) && !listener_ended() && !server.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    server.abort();
    server.await.unwrap_or(Ok(()))
}
