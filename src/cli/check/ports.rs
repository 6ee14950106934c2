//! Endpoints: can they be had?
//!
//! Why it exists: libzmq says "Address already in use"; a user wants to know whose. What it must never do: bind an
//! `ipc://` path, since libzmq unlinks what is there, and that may belong to a running daemon.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Line;
use crate::config::endpoint::Endpoint;
use crate::config::{Attach, Config, Curve, Pattern};
use crate::frame::Shape;
use crate::preprocess::Squeeze;
use crate::source::thorimage::{FollowSettings, Follower};
use crate::sys::sockets::{Clients, KeyError, KeyPair, PublicKey};

/// Longest time an attempt to connect may take.
const CONNECT_WAIT: Duration = Duration::from_millis(500);

pub(super) fn lines(config: &Config) -> Vec<Line> {
    let source = &config.source;
    let pattern = match source.pattern {
        Pattern::Sub => zmq::SocketType::SUB,
        Pattern::Pull => zmq::SocketType::PULL,
    };
    let mut lines = vec![match (&source.follow, source.attach) {
        (Some(path), _) => follow(path, config),
        (None, Attach::Bind) => bind("source.endpoint", &source.endpoint, pattern),
        (None, Attach::Connect) => connect("source.endpoint", &source.endpoint),
    }];
    lines.push(bind("publish.endpoint", &config.publish.endpoint, zmq::SocketType::PUB));
    lines.push(match &config.control.endpoint {
        Some(endpoint) => bind("control.endpoint", endpoint, zmq::SocketType::REP),
        None => Line::good("control.endpoint", "off"),
    });
    let inlet = config.inlet.endpoint.as_ref();
    lines.extend(inlet.map(|endpoint| bind("inlet.endpoint", endpoint, zmq::SocketType::PULL)));
    lines.extend(keys(&config.curve));
    lines
}

/// The keys that the sockets ask for.
fn keys(curve: &Curve) -> Vec<Line> {
    let advice = "`haltere keys` makes keys; [curve] in config/default.toml explains them";
    let line = |key, found: Result<String, KeyError>| match found {
        Ok(found) => Line::good(key, found),
        Err(error) => Line::fault(key, error.to_string(), advice),
    };
    let own = curve
        .key
        .as_deref()
        .map(|path| line("curve.key", KeyPair::read(path).map(|pair| format!("public key {}", pair.public()))));
    let named = |path| Clients::of(path).and_then(|clients| clients.names()).map(|names| names.join(", "));
    let clients = curve.clients.as_deref().map(|path| line("curve.clients", named(path)));
    let public = |path| PublicKey::read(path).map(|key| format!("public key {key}"));
    let sender = curve.sender.as_deref().map(|path| line("curve.sender", public(path)));
    [own, clients, sender].into_iter().flatten().collect()
}

/// The file that is followed instead of a socket.
fn follow(path: &Path, config: &Config) -> Line {
    let how = FollowSettings::new(&config.source, config.lane.overload, config.realtime.wait, false);
    match Follower::open(path, how, config.rig) {
        Ok(follower) => Line::good("source.follow", follower.describe()),
        Err(error) => Line::fault("source.follow", error.to_string(), "set `source.follow`, or \"off\" for a socket"),
    }
}

/// A followed file's frames that the model's input squeezes. Of frames over a socket nothing is known yet.
pub(super) fn squeeze(config: &Config, input: Shape) -> Option<Line> {
    let how = FollowSettings::new(&config.source, config.lane.overload, config.realtime.wait, false);
    let follower = Follower::open(config.source.follow.as_ref()?, how, config.rig).ok()?;
    let found = Squeeze::of(follower.shape(), input)?.to_string();
    let advice =
        "right only if the model was trained on frames of this shape; otherwise crop the field of view or train anew";
    Some(Line::warning("aspect ratio", found, advice))
}

fn bind(key: &'static str, text: &str, kind: zmq::SocketType) -> Line {
    match text.parse() {
        Ok(Endpoint::Ipc { path }) => bind_ipc(key, text, &path),
        Ok(Endpoint::Tcp { port, .. }) => bind_tcp(key, text, port, kind),
        Err(error) => Line::fault(key, format!("{text} {error}"), ""),
    }
}

fn bind_tcp(key: &'static str, text: &str, port: u16, kind: zmq::SocketType) -> Line {
    let context = zmq::Context::new();
    let bound = context.socket(kind).and_then(|socket| socket.bind(text));
    match bound {
        Ok(()) => Line::good(key, format!("{text} is free")),
        Err(zmq::Error::EADDRINUSE) => {
            let found = format!("{text}: port {port} is in use by another program");
            let advice = format!("is a haltere running already? `ss -ltnp 'sport = :{port}'` names it; or set `{key}`");
            Line::fault(key, found, advice)
        }
        Err(zmq::Error::ENODEV | zmq::Error::EADDRNOTAVAIL) => {
            let advice = "`ip -brief address` lists this machine's addresses; * binds to every interface";
            Line::fault(key, format!("{text}: this machine has no such address"), advice)
        }
        Err(error) => Line::fault(key, format!("{text}: {error}"), format!("set `{key}` to another endpoint")),
    }
}

fn bind_ipc(key: &'static str, text: &str, path: &str) -> Line {
    if path.starts_with('@') {
        return Line::good(key, format!("{text} (abstract socket: no file)"));
    }
    if UnixStream::connect(path).is_ok() {
        let found = format!("{text}: another program listens there");
        return Line::fault(key, found, format!("is a haltere running already? stop it, or set `{key}`"));
    }
    let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
    let probe = folder.join(format!(".haltere-check-{}", std::process::id()));
    match std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe)) {
        Ok(()) => Line::good(key, format!("{text}: the folder is writable")),
        Err(error) => {
            let advice = format!("create the folder, choose a writable one, or set `{key}`");
            Line::fault(key, format!("{text}: cannot write in {}: {error}", folder.display()), advice)
        }
    }
}

fn connect(key: &'static str, text: &str) -> Line {
    let reached = match text.parse() {
        Ok(Endpoint::Tcp { host, port }) => reach_tcp(&host, port),
        Ok(Endpoint::Ipc { path }) if path.starts_with('@') => {
            return Line::good(key, format!("{text} (abstract socket: cannot be tested)"));
        }
        Ok(Endpoint::Ipc { path }) => UnixStream::connect(path).map(drop).map_err(|e| e.to_string()),
        Err(error) => return Line::fault(key, format!("{text} {error}"), ""),
    };
    match reached {
        Ok(()) => Line::good(key, format!("{text} answers")),
        Err(cause) => {
            let advice = "start the microscope's sender or `haltere play`; the daemon waits for it and reconnects";
            Line::warning(key, format!("{text}: nothing is listening yet ({cause})"), advice)
        }
    }
}

fn reach_tcp(host: &str, port: u16) -> Result<(), String> {
    let mut addresses = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    let address = addresses.next().ok_or("the name has no address")?;
    TcpStream::connect_timeout(&address, CONNECT_WAIT).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_port_is_free_until_somebody_has_it() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let text = format!("tcp://127.0.0.1:{port}");
        let line = bind("publish.endpoint", &text, zmq::SocketType::PUB);
        assert_eq!(line.level, Level::Fault);
        assert!(line.found.contains(&format!("port {port} is in use")), "{line:?}");
        assert_eq!(connect("source.endpoint", &text).level, Level::Good);
        drop(holder);
        assert_eq!(connect("source.endpoint", &text).level, Level::Warning);
        assert_eq!(bind("publish.endpoint", &text, zmq::SocketType::PUB).level, Level::Good);
    }

    #[test]
    fn a_path_is_good_when_its_folder_is_writable_and_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decodes");
        let text = format!("ipc://{}", path.display());
        assert_eq!(bind("publish.endpoint", &text, zmq::SocketType::PUB).level, Level::Good);
        assert!(!path.exists(), "the check left a file behind");
        let _holder = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(bind("publish.endpoint", &text, zmq::SocketType::PUB).level, Level::Fault);
        assert_eq!(bind("publish.endpoint", "ipc:///nowhere/x", zmq::SocketType::PUB).level, Level::Fault);
    }

    #[test]
    fn an_address_of_another_machine_cannot_be_bound() {
        // TEST-NET-1 belongs to nobody.
        let line = bind("publish.endpoint", "tcp://192.0.2.1:5711", zmq::SocketType::PUB);
        assert_eq!(line.level, Level::Fault);
        assert!(line.found.contains("no such address"), "{line:?}");
    }
}
