//! Endpoints: `tcp://host:port` and `ipc:///path`, checked before a socket sees them.
//!
//! Why it exists: libzmq rejects a wrong endpoint with "Invalid argument"; users need to know which part is wrong.
//! What it must never do: resolve a host name or open a socket.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest path of an `ipc://` endpoint, bytes: the kernel's `sun_path` without its final zero.
pub const IPC_PATH_BYTES_MAX: usize = 107;

/// A checked endpoint. Prints as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `tcp://host:port`; an IPv6 host without its brackets.
    Tcp {
        /// Address, host name, interface, or `*`.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// `ipc:///path`, or `ipc://@name` in Linux's abstract name space.
    Ipc {
        /// The part after `ipc://`.
        path: String,
    },
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No scheme, or an unknown one.
    #[error("begins with neither tcp:// nor ipc://; write tcp://127.0.0.1:5710 or ipc:///run/haltere/frames")]
    Scheme,
    /// `inproc://` cannot work.
    #[error("inproc:// reaches only sockets of the same program; use ipc:// or tcp://")]
    Inproc,
    /// tcp without a port.
    #[error("has no port; write tcp://host:port, such as tcp://127.0.0.1:5710")]
    NoPort,
    /// A port that is not one.
    #[error("has the port `{0}`; a port is 1 to 65535")]
    Port(String),
    /// An empty or impossible host.
    #[error("has the host `{0}`; write an address such as 127.0.0.1, a host name, or * to bind to every interface")]
    Host(String),
    /// An ipc path that depends on the current folder.
    #[error(
        "has the path `{0}`, which depends on the folder the program is started in; write three slashes and a full path"
    )]
    RelativePath(String),
    /// An ipc path the kernel cannot take.
    #[error("has a path of {0} bytes; the kernel accepts 1 to {IPC_PATH_BYTES_MAX}")]
    PathLength(usize),
}

impl Endpoint {
    /// True if only this machine can reach it.
    pub fn is_local(&self) -> bool {
        let Self::Tcp { host, .. } = self else { return true };
        let v4 = host.parse::<Ipv4Addr>().map(|a| a.is_loopback());
        let v6 = host.parse::<Ipv6Addr>().map(|a| a.is_loopback());
        host == "localhost" || host == "lo" || v4.unwrap_or(false) || v6.unwrap_or(false)
    }

    /// True if it means every interface, which only a bound socket can.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } if host == "*" || host == "0.0.0.0" || host == "::")
    }

    /// True if two sockets cannot use both: the same path, or the same port on the same or on every interface.
    pub fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { host: a, port: p }, Self::Tcp { host: b, port: q }) => {
                let same = a == b || (self.is_local() && other.is_local());
                p == q && (same || self.is_wildcard() || other.is_wildcard())
            }
            (Self::Ipc { path: a }, Self::Ipc { path: b }) => a == b,
            _ => false,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with("inproc://") {
            return Err(EndpointError::Inproc);
        }
        if let Some(path) = text.strip_prefix("ipc://") {
            return ipc(path);
        }
        let rest = text.strip_prefix("tcp://").ok_or(EndpointError::Scheme)?;
        let (host, port) = rest.rsplit_once(':').ok_or(EndpointError::NoPort)?;
        if port.ends_with(']') {
            return Err(EndpointError::NoPort);
        }
        let number = port.parse::<u16>().ok().filter(|&n| n > 0 && port.bytes().all(|b| b.is_ascii_digit()));
        let port = number.ok_or_else(|| EndpointError::Port(port.to_owned()))?;
        Ok(Self::Tcp { host: tcp_host(host)?, port })
    }
}

fn tcp_host(host: &str) -> Result<String, EndpointError> {
    let refuse = || EndpointError::Host(host.to_owned());
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map(|_| inner.to_owned()).map_err(|_| refuse());
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let good = host == "*" || (!host.is_empty() && host.bytes().all(allowed));
    // What looks like an IPv4 address must be one: 127.0.0.256 would be resolved as a name.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if good && (!numeric || host.parse::<Ipv4Addr>().is_ok()) { Ok(host.to_owned()) } else { Err(refuse()) }
}

fn ipc(path: &str) -> Result<Endpoint, EndpointError> {
    if path.is_empty() || path.len() > IPC_PATH_BYTES_MAX {
        return Err(EndpointError::PathLength(path.len()));
    }
    if !path.starts_with('/') && !path.starts_with('@') {
        return Err(EndpointError::RelativePath(path.to_owned()));
    }
    Ok(Endpoint::Ipc { path: path.to_owned() })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc { path } => write!(f, "ipc://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_endpoints_print_as_they_are_written() {
        for text in
            ["tcp://127.0.0.1:5710", "tcp://*:1", "tcp://scope-pc.lab:65535", "tcp://[::1]:5710", "ipc:///run/h/f"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_part_that_is_wrong_is_named() {
        let of = |text: &str| text.parse::<Endpoint>().unwrap_err();
        assert_eq!(of("127.0.0.1:5710"), EndpointError::Scheme);
        assert_eq!(of("inproc://frames"), EndpointError::Inproc);
        assert_eq!(of("tcp://127.0.0.1"), EndpointError::NoPort);
        assert_eq!(of("tcp://[::1]"), EndpointError::NoPort);
        for port in ["0", "65536", "+5", "x", ""] {
            assert_eq!(of(&format!("tcp://127.0.0.1:{port}")), EndpointError::Port(port.to_owned()));
        }
        for host in ["", "127.0.0.256", "a b", "[::g]", "1.2.3"] {
            assert_eq!(of(&format!("tcp://{host}:5710")), EndpointError::Host(host.to_owned()));
        }
        assert_eq!(of("ipc://run/frames"), EndpointError::RelativePath("run/frames".to_owned()));
        assert_eq!(of(&format!("ipc:///{}", "x".repeat(107))), EndpointError::PathLength(108));
    }

    #[test]
    fn a_port_collides_on_the_same_interface_and_with_every_interface() {
        let of = |text: &str| text.parse::<Endpoint>().unwrap();
        let collide = |a: &str, b: &str| of(a).collides_with(&of(b));
        assert!(collide("tcp://127.0.0.1:5711", "tcp://localhost:5711"));
        assert!(collide("tcp://*:5711", "tcp://10.0.0.2:5711"));
        assert!(!collide("tcp://127.0.0.1:5711", "tcp://127.0.0.1:5712"));
        assert!(!collide("tcp://10.0.0.1:5711", "tcp://10.0.0.2:5711"));
        assert!(collide("ipc:///a", "ipc:///a") && !collide("ipc:///a", "ipc:///b"));
    }
}
