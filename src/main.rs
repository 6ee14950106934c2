//! The binary: parse, match the subcommand, turn a cause chain into an exit code.

use std::io::Write;

use clap::Parser;
use haltere::cli::output::{Stdout, is_closed};
use haltere::cli::{Cli, dispatch, exit};
use haltere::sys::exit::ExitCode;

/// Training takes and gives back megabytes in every step; this allocator keeps them.
#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let mut out = Stdout::new();
    let done = dispatch(Cli::parse().command, &mut out).and_then(|code| Ok(out.flush().map(|()| code)?));
    let code = done.unwrap_or_else(|error| {
        // Whoever read the results has seen enough.
        if is_closed(&error) {
            return ExitCode::Ok;
        }
        eprintln!("error: {error:#}");
        exit::exit_code(&error)
    });
    code.into()
}
