//! `haltere monitor`: a page that shows a daemon at work.
//!
//! Why it exists: the page takes its endpoints and its model from the rig's configuration, or from options where that is on
//! another machine. What it must never do: open a door to other machines, or to the control socket, that nobody asked for.

use std::net::SocketAddr;

use clap::Args;

use super::config::ConfigArgs;
use super::stop_flag;
use crate::client::monitor::{MonitorOptions, monitor};
use crate::config::endpoint::Endpoint;
use crate::model::Model;
use crate::sys::exit::ExitCode;

/// `haltere monitor`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere monitor                                  the daemon on this machine; then open http://127.0.0.1:5713
  haltere monitor --config rig.toml --allow-control       with buttons for recording and marks
  haltere monitor --endpoint tcp://10.0.0.1:5711 --model models/fly.toml      a daemon on another machine
  curl -s http://127.0.0.1:5713/metrics            the numbers for a metrics server; also /healthz, /readyz

It only listens: the daemon does not know that it is there. --model is read for the training embedding that is drawn beneath
the live one; without it (or with another model than the daemon's) the page draws what was received, and says so.")]
pub struct MonitorArgs {
    /// Configuration: its `publish.endpoint`, `control.endpoint` and `model`.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The daemon's PUB endpoint, over the configuration's.
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: Option<Endpoint>,
    /// Where the page is served; port 0 = any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5713")]
    pub bind: SocketAddr,
    /// Let other machines see the page: it has no password and no encryption.
    #[arg(long)]
    pub allow_remote: bool,
    /// Let the page start and stop recordings and set marks, over the control socket.
    #[arg(long)]
    pub allow_control: bool,
}

/// Serves the page until it is stopped.
///
/// # Errors
/// The model that was asked for, or a socket.
pub fn run(args: &MonitorArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.0;
    let stop = stop_flag()?;
    let control = match config.control.endpoint {
        Some(endpoint) if args.allow_control => Some(endpoint),
        None if args.allow_control => anyhow::bail!("--allow-control: `control.endpoint` is off in this configuration"),
        _ => None,
    };
    let endpoint = args.endpoint.clone().map_or_else(|| to_connect(&config.publish.endpoint), |e| e.to_string());
    // Asked for by name, a model must be one; that of a configuration may be on the daemon's machine only.
    if args.config.model.is_some() {
        Model::load(&config.model)?;
    }
    let options = MonitorOptions {
        endpoint: endpoint.clone(),
        bind: args.bind,
        allow_remote: args.allow_remote,
        control,
        model: config.model,
    };
    monitor(&options, &stop, |address| eprintln!("http://{address} shows what {endpoint} says; Ctrl-C ends it"))?;
    Ok(ExitCode::Ok)
}

/// Every interface is where a daemon binds; here it is reached on this machine.
fn to_connect(bound: &str) -> String {
    match bound.parse::<Endpoint>() {
        Ok(endpoint @ Endpoint::Tcp { port, .. }) if endpoint.is_wildcard() => format!("tcp://127.0.0.1:{port}"),
        _ => bound.to_owned(),
    }
}
