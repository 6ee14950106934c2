//! Sockets for people and devices beside the frames: control and inlet.

/// The inlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlet {
    /// PULL endpoint, bound; `None` = no inlet.
    pub endpoint: Option<String>,
    /// Name of a stream of markers on Lab Streaming Layer; `None` = none.
    pub lsl: Option<String>,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// REP endpoint, bound; `None` = no control socket.
    pub endpoint: Option<String>,
    /// May the running daemon be made to rehearse?
    pub rehearse: bool,
}
