//! Standard output, and files that a subcommand writes itself.
//!
//! Why it exists: a result that cannot be delivered has an exit code of its own, and `println!` panics where nobody
//! reads. What it must never do: complain of a reader that left; `haltere … | head` is no mistake.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};

use crate::sys::exit::ExitCode;

/// Standard output, whose errors are known as such wherever they arrive.
pub struct Stdout(io::Stdout);

impl Stdout {
    /// That of this process.
    pub fn new() -> Self {
        Self(io::stdout())
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(known)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(known)
    }
}

/// Standard output cannot be written.
#[derive(Debug)]
struct OutputFailed(io::Error);

impl fmt::Display for OutputFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output cannot be written: {}; is the disk full?", self.0)
    }
}

impl Error for OutputFailed {}

fn known(cause: io::Error) -> io::Error {
    // `Write` tries again by itself after this one.
    if cause.kind() == ErrorKind::Interrupted {
        return cause;
    }
    io::Error::new(cause.kind(), OutputFailed(cause))
}

fn is_of_output<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let cause = cause.downcast_ref::<io::Error>()?;
    cause.get_ref().filter(|inner| inner.is::<OutputFailed>()).map(|_| cause)
}

/// [`ExitCode::Sink`] for a standard output that cannot be written.
pub(super) fn exit_code(cause: &(dyn Error + 'static)) -> Option<ExitCode> {
    is_of_output(cause).map(|_| ExitCode::Sink)
}

/// Did whoever read standard output leave?
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().filter_map(is_of_output).any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}
