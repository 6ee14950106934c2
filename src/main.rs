//! The binary: parse, match the subcommand, turn a cause chain into an exit code.

use std::io::Write;

use clap::Parser;
use haltere::cli::output::{Stdout, is_closed};
use haltere::cli::{Cli, dispatch, exit, log};
use haltere::sys::exit::ExitCode;

/// Training takes and gives back megabytes in every step; this allocator keeps them.
#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut out = Stdout::new();
    let command = Cli::parse().command;
    let answers = command.answers_by_exit_code();
    let done = dispatch(command, &mut out).and_then(|code| Ok(out.flush().map(|()| code)?));
    let code = done.unwrap_or_else(|error| {
        // The reader has seen enough. Where the exit code is the answer, there is none.
        if is_closed(&error) {
            return if answers { ExitCode::Sink } else { ExitCode::Ok };
        }
        log::say(&format!("error: {error:#}"));
        exit::exit_code(&error)
    });
    // What is left of an answer that ended with an error; whether it arrives is told above.
    let _ = out.flush();
    log::finish();
    // Not `return`: whoever still loads a model from a dead mount is neither waited for, nor met by the destructors of libraries.
    code.leave()
}
