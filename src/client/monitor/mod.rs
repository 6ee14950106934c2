//! `haltere monitor`: a page to hang over the rig, and numbers for a metrics server.
//!
//! Why it exists: while an experiment runs, people look: at the picture, at what was decoded, at how late, at whether to
//! believe it. What it must never do: hurt the loop. It is a process of its own with low priority, one more subscriber that the
//! daemon never waits for; it asks the daemon for nothing unless it was told that it may. And a number that is old must look old.
//!
//! ```text
//!  daemon ──PUB──▶ listen (thread) ──▶ state ──▶ web (page, WebSocket, /metrics, /healthz, /readyz)
//!    ▲                                             │
//!    └──────────── control, if allowed ────────────┘
//! ```

mod listen;
pub(crate) mod live;
pub(crate) mod metrics;
pub mod plane;
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
use web::Site;

/// How often it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Steps by which the monitor's priority is below that of ordinary programs.
const NICE: i32 = 10;

/// Whom to listen to and where to show it.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// The daemon's PUB endpoint.
    pub endpoint: String,
    /// Where the page is served.
    pub bind: SocketAddr,
    /// Serve it to other machines as well.
    pub allow_remote: bool,
    /// The daemon's control socket, when recording and marks may be asked for from the page.
    pub control: Option<String>,
    /// Manifest of the model, for its training embedding. A model that is not there costs only that.
    pub model: PathBuf,
}

/// Why there is no monitor.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The endpoint is not one, or the socket failed.
    #[error("{endpoint}: {cause}; an endpoint is written tcp://ADDRESS:PORT or ipc://PATH, as in tcp://127.0.0.1:5711")]
    Socket {
        /// Which endpoint.
        endpoint: String,
        /// ZeroMQ's words.
        cause: zmq::Error,
    },
    /// An address that other machines can reach, and nobody said that they may.
    #[error(
        "--bind {0} can be reached from other machines, and the page has no password and no encryption: bind 127.0.0.1 (from \
         elsewhere: `ssh -L 5713:127.0.0.1:5713 rig`), or say --allow-remote on a network of the rig's own"
    )]
    Remote(SocketAddr),
    /// The page cannot be served there.
    #[error("the page cannot be served at {bind}: {cause}; another monitor there? Choose another --bind")]
    Bind {
        /// Address and port.
        bind: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
    },
    /// The machine gives no thread or no event queue.
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
/// Any [`MonitorError`]. A daemon that is not there is none: it may come, go and come again.
pub fn monitor(
    options: &MonitorOptions,
    stop: &Arc<AtomicBool>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), MonitorError> {
    if !options.bind.ip().is_loopback() && !options.allow_remote {
        return Err(MonitorError::Remote(options.bind));
    }
    let socket = listen::connect(&options.endpoint)?;
    let refused = |cause| MonitorError::Bind { bind: options.bind, cause };
    let listener = TcpListener::bind(options.bind).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    // Denied where it is already lower: as well.
    let _ = rustix::process::nice(NICE);
    let state = State::new(&options.endpoint, training::load(&options.model), now_ns());
    let site = Arc::new(Site::new(state, options.control.clone(), !options.allow_remote));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(MonitorError::Start)?;
    ready(address);
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().name("listen".to_owned());
        let ear = thread
            .spawn_scoped(threads, {
                let site = site.clone();
                move || listen::listen(&socket, &site, stop)
            })
            .map_err(MonitorError::Start)?;
        let served = runtime.block_on(serve(listener, &site, stop, || ear.is_finished()));
        // Viewers that are still there are left: they come back by themselves.
        runtime.shutdown_background();
        stop.store(true, Relaxed);
        let heard = ear.join().unwrap_or(Ok(()));
        let heard = heard.map_err(|cause| MonitorError::Socket { endpoint: options.endpoint.clone(), cause });
        heard.and(served.map_err(refused))
    })
}

/// Serves until `stop`, or until nobody listens to the daemon any more.
async fn serve(
    listener: TcpListener,
    site: &Arc<Site>,
    stop: &AtomicBool,
    deaf: impl Fn() -> bool,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = tokio::spawn(IntoFuture::into_future(axum::serve(listener, web::router(site))));
    while !stop.load(Relaxed) && !deaf() && !server.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    server.abort();
    server.await.unwrap_or(Ok(()))
}
