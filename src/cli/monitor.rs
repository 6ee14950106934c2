//! `haltere monitor`: a page that shows a daemon at work.
//!
//! Why it exists: the page takes its endpoints and its model from the rig's configuration, or from options where that
//! is on another machine. What it must never do: open a door to other machines, or to the control socket, that nobody
//! asked for.

use std::net::SocketAddr;

use clap::Args;

use super::config::ConfigArgs;
use super::curve::CurveArgs;
use super::{log, stop_flag};
use crate::client::monitor::{MonitorOptions, monitor};
use crate::config::endpoint::Endpoint;
use crate::model::Model;
use crate::sys::exit::{ExitCode, Failure};

/// `haltere monitor`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere monitor                                  the daemon on this machine; open http://127.0.0.1:5713
  haltere monitor --config rig.toml --allow-control       with buttons to record and to add marks
  haltere monitor --endpoint tcp://10.0.0.1:5711 --model models/fly.toml      a daemon on another machine
  haltere monitor --endpoint tcp://10.0.0.1:5711 --endpoint tcp://10.0.0.2:5711      several rigs on one page
  curl -s http://127.0.0.1:5713/metrics            metrics; also /healthz and /readyz

The monitor only subscribes; it cannot disturb the daemon. It reads --model to draw the training embedding \
beneath the live one. Without the daemon's own model the page shows only the received embeddings, and says \
so.")]
pub struct MonitorArgs {
    /// Configuration: its `publish.endpoint`, `control.endpoint` and `model`.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The daemon's PUB endpoint; overrides the configuration's. Repeatable: several rigs are shown on one page, a row each.
    #[arg(long = "endpoint", value_name = "ENDPOINT")]
    pub endpoints: Vec<Endpoint>,
    /// Address of the page; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5713")]
    pub bind: SocketAddr,
    /// Let other machines open the page, which has neither password nor encryption.
    #[arg(long)]
    pub allow_remote: bool,
    /// Let the page start and stop recordings and add marks, through the control socket.
    #[arg(long)]
    pub allow_control: bool,
    /// Name by which browsers address this machine, with --allow-remote; repeatable. Requests by any other name are refused, so that a web
    /// page cannot pretend to be this one.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Keys.
    #[command(flatten)]
    pub keys: CurveArgs,
}

/// Serves the page until it is stopped.
///
/// # Errors
/// The model that was asked for, or a socket.
pub fn run(args: &MonitorArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.0;
    let stop = stop_flag()?;
    if args.allow_control && args.endpoints.len() > 1 {
        let what = "--allow-control is for one rig: start another monitor for the rig that a page may control";
        return Err(Failure { code: ExitCode::Usage, what: what.to_owned() }.into());
    }
    let control = match config.control.endpoint {
        Some(endpoint) if args.allow_control => Some(endpoint),
        None if args.allow_control => {
            anyhow::bail!("--allow-control: `control.endpoint` is off in this configuration; set it to the daemon's")
        }
        _ => None,
    };
    let mut endpoints: Vec<String> = args.endpoints.iter().map(Endpoint::to_string).collect();
    if endpoints.is_empty() {
        endpoints.push(to_connect(&config.publish.endpoint));
    }
    let shown = match &endpoints[..] {
        [only] => format!("the daemon at {only}"),
        all => format!("the daemons at {}", all.join(", ")),
    };
    // Asked for by name, a model must be one; that of a configuration may be on the daemon's machine only.
    if args.config.model.is_some() {
        Model::load(&config.model)?;
    }
    let options = MonitorOptions {
        endpoints,
        bind: args.bind,
        allow_remote: args.allow_remote,
        control,
        hosts: args.hosts.clone(),
        keys: args.keys.keys()?,
        model: config.model,
    };
    if args.allow_remote && !args.bind.ip().is_loopback() {
        let warning = "can be reached from other machines, without password or encryption (--allow-remote)";
        log::say(&format!("{} {warning}", args.bind));
    }
    let said = |address| log::say(&format!("http://{address} shows {shown}; Ctrl-C ends it"));
    monitor(&options, &stop, said)?;
    Ok(ExitCode::Ok)
}

/// Every interface is where a daemon binds; here it is reached on this machine.
fn to_connect(bound: &str) -> String {
    match bound.parse::<Endpoint>() {
        Ok(endpoint @ Endpoint::Tcp { port, .. }) if endpoint.is_wildcard() => format!("tcp://127.0.0.1:{port}"),
        _ => bound.to_owned(),
    }
}
