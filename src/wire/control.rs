//! Requests on the control socket: what may be asked of a running daemon, in which words.

/// Longest request, bytes.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// The commands, each with what it does.
pub const COMMANDS: [(&str, &str); 16] = [
    ("status", "counters, latencies, model and quality, as published under status/<source>"),
    ("reset", "a new animal: forget template, baseline, statistics and window"),
    ("template reset", "build a new registration template from the next frames"),
    ("baseline reset", "forget F0; keep the template"),
    ("normalisation freeze", "stop updating the running mean and standard deviation"),
    ("normalisation resume", "update them again"),
    ("model <path>", "load another model and warm it up while the current one runs, then switch between two frames"),
    (
        "animal",
        "animal NAME: this animal comes now; what was learnt of it before is taken up, if the first frames match it",
    ),
    ("animal save", "animal save [NAME]: save what was learnt of the present animal"),
    ("decision", "decision NAME on|off|arm|disarm: throw a switch of this rule; `arm` lets it give outputs"),
    (
        "rehearse",
        "rehearse WHAT [SECONDS]: speak as if something were wrong, if `control.rehearse` allows it; `rehearse off` ends it",
    ),
    ("record start", "start a session file in `record.folder`"),
    ("record stop", "finish the session file"),
    ("mark", "mark TEXT: add a time-stamped note to the recording"),
    ("help", "this list"),
    ("shutdown", "publish the neutral action and shut down"),
];
