//! The binary: parse, match the subcommand, turn a cause chain into an exit code.

use clap::Parser;
use haltere::cli::{self, Cli};
use haltere::sys::exit::ExitCode;

/// Training takes and gives back megabytes in every step; this allocator keeps them.
#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let code = cli::dispatch(Cli::parse().command, &mut std::io::stdout()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::of(&error)
    });
    code.into()
}
