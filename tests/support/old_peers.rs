//! What is sent to a ZeroMQ socket by peers that are none of ours: web pages, and programs that speak the first two versions of ZMTP.
//!
//! Method: libzmq takes the first bytes of an HTTP request for frames of ZMTP 1.0, each with its length before it. So a page that chooses the
//! body can place a message behind them. The requests here do, and are messages to a socket without a guard.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;

use super::process::PATIENCE;

/// A frame of ZMTP 1.0: its length with the flags, flags (1 = more follows), and what it holds.
fn frame(more: bool, content: &[u8]) -> Vec<u8> {
    [&[content.len() as u8 + 1, u8::from(more)], content].concat()
}

/// Ends whatever message has begun, then a whole one, as a REQ or a PUSH would send it: the former needs an empty part first.
fn message(content: &[u8], as_request: bool) -> Vec<u8> {
    let delimiter = if as_request { frame(true, b"") } else { Vec::new() };
    [frame(false, b""), delimiter, frame(false, content)].concat()
}

/// A POST whose body is aimed: the bytes before the message are as many as libzmq takes for frames that began in the head.
pub fn aimed_post(address: &str, content: &[u8], as_request: bool) -> Vec<u8> {
    let message = message(content, as_request);
    let head = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
    };
    // As long as its length has three digits, the head's is known.
    let bytes = head(999).into_bytes();
    let (mut at, end) = (0, bytes.len());
    // Digits of the length do not matter for where a frame ends, unless one of them begins a frame; then the test would say so.
    while at < end {
        at += 1 + usize::from(bytes[at]);
    }
    let body = [vec![b' '; at - end], message].concat();
    let padded = [body, vec![1; 400]].concat();
    [head(padded.len()).into_bytes(), padded].concat()
}

/// Requests with `content`, by name.
pub fn requests(address: &str, content: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let zmtp_1 = |as_request| [frame(false, b""), message(content, as_request)].concat();
    let greeting = |revision: u8| {
        [&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, revision, 3, 0, 0][..], &[0, content.len() as u8], content].concat()
    };
    vec![
        ("an aimed POST to a REP", aimed_post(address, content, true)),
        ("an aimed POST to a PULL", aimed_post(address, content, false)),
        ("a GET", format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()),
        ("ZMTP 1.0 to a REP", zmtp_1(true)),
        ("ZMTP 1.0 to a PULL", zmtp_1(false)),
        ("ZMTP 1.0 by its newer greeting", greeting(0)),
        ("ZMTP 2.0", greeting(1)),
    ]
}

/// Sends bytes to `tcp://…`; returns when the other side has closed the connection.
pub fn send(endpoint: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A connection that is cut while it is written to is closed as well.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection was not closed");
    }
}
