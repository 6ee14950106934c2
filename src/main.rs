//! The binary: parse, log, match the subcommand, turn a cause chain into an exit code.

fn main() {}
