//! Exit codes by cause, so that a script, a unit file or a supervisor can tell a typing error from a dead socket.
//!
//! Why it exists: 1 says nothing. Each error says its own number, beside its definition. What it must never do: change
//! the meaning of a number; scripts rely on it.

/// What the process says when it leaves. docs/configuration.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Ok = 0,
    /// Anything without a number of its own.
    Other = 1,
    /// The command line is wrong (clap leaves by itself with this number).
    Usage = 2,
    /// The configuration is wrong.
    Config = 3,
    /// The model or its manifest is wrong.
    Model = 4,
    /// ONNX Runtime, or the device that was asked for, is missing, too old, or refuses the model.
    OnnxRuntime = 5,
    /// Frames cannot be had: file unreadable, socket not to be opened.
    Source = 6,
    /// Results cannot be delivered: port taken, file not writable.
    Sink = 7,
    /// A stage failed in mid-run.
    Stage = 8,
    /// `check` found faults.
    Faults = 9,
    /// What was asked about is not so: `diff` found a difference, `report` a missed deadline, `demo` saw no decode.
    Unmet = 10,
    /// Interrupted before its end: a training or a comparison that goes on later, or anything that was interrupted
    /// twice.
    Interrupted = 130,
}

impl ExitCode {
    /// Every one, by number.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Other,
        Self::Usage,
        Self::Config,
        Self::Model,
        Self::OnnxRuntime,
        Self::Source,
        Self::Sink,
        Self::Stage,
        Self::Faults,
        Self::Unmet,
        Self::Interrupted,
    ];

    /// What a process of this program said when it left; `None` for a number that it never says.
    pub fn of(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| i32::from(*code as u8) == number)
    }

    /// Ends the process at once: no other thread is waited for, and nothing that runs at an ordinary end runs.
    pub fn leave(self) -> ! {
        signal_hook::low_level::exit(i32::from(self as u8))
    }
}

/// An error that knows with which number the process leaves because of it.
pub trait HasExitCode: std::error::Error {
    /// The number; [`ExitCode::Other`] when the error has none of its own.
    fn exit_code(&self) -> ExitCode;
}

/// A failure whose number its type does not tell: put before the cause with `anyhow::Context`.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// The number to leave with.
    pub code: ExitCode,
    /// What failed, for people.
    pub what: String,
}

impl HasExitCode for Failure {
    fn exit_code(&self) -> ExitCode {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_lists_every_exit_code() {
        let page = include_str!("../../docs/configuration.md");
        for code in ExitCode::ALL {
            assert!(
                page.contains(&format!("| {} |", code as u8)),
                "docs/configuration.md does not list exit code {}",
                code as u8
            );
        }
    }
}
