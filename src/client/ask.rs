//! Asks a running daemon over its control socket.

use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::sockets::ClientKeys;
use crate::wire::control::REQUEST_BYTES_MAX;

/// A daemon that could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint}: {cause}")]
pub struct AskError {
    /// Which endpoint.
    pub endpoint: String,
    /// Why, and what to do.
    pub cause: String,
}

/// Asks a running daemon and gives its answer, waiting at most `timeout_ms`.
///
/// # Errors
/// When the request is too long, nobody answers in time, or the answer is not JSON.
pub fn ask(endpoint: &str, command: &str, timeout_ms: i32) -> Result<serde_json::Value, AskError> {
    ask_with(endpoint, command, timeout_ms, None)
}

/// As [`ask`], with keys.
///
/// # Errors
/// As [`ask`].
pub fn ask_with(
    endpoint: &str,
    command: &str,
    timeout_ms: i32,
    keys: Option<&ClientKeys>,
) -> Result<serde_json::Value, AskError> {
    let request = serde_json::json!({ "command": command }).to_string();
    if request.len() > REQUEST_BYTES_MAX {
        // The daemon's socket would close the connection without an answer.
        let cause = format!("the request has {} bytes; at most {REQUEST_BYTES_MAX} are accepted", request.len());
        return Err(AskError { endpoint: endpoint.to_owned(), cause });
    }
    let open = || {
        let socket = zmq::Context::new().socket(zmq::REQ)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(timeout_ms)?;
        socket.set_sndtimeo(timeout_ms)?;
        keys.map_or(Ok(()), |keys| keys.put_on(&socket))?;
        socket.connect(endpoint)?;
        socket.send(request.as_bytes(), 0)?;
        socket.recv_bytes(0)
    };
    let answer = open().map_err(|cause| match cause {
        zmq::Error::EAGAIN => AskError {
            endpoint: endpoint.to_owned(),
            cause: format!(
                "no answer within {timeout_ms} ms: is `haltere run` running with this `control.endpoint`{}",
                match keys {
                    Some(_) =>
                        ", is --server its public key, and yours in its `curve.clients`? Its log says whom it refused",
                    None => "? If it asks for keys ([curve] in its configuration), pass --curve and --server",
                }
            ),
        },
        cause => AskError { endpoint: endpoint.to_owned(), cause: cause.to_string() },
    })?;
    serde_json::from_slice(&answer)
        .map_err(|cause| AskError { endpoint: endpoint.to_owned(), cause: format!("the answer is not JSON: {cause}") })
}

impl HasExitCode for AskError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Other
    }
}
