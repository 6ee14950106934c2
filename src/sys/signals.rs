//! Signals that end a run in order.
//!
//! Why it exists: a process that is killed cannot publish the neutral action, and a stimulus device then keeps the last one. So
//! every signal that would kill by default, and may be caught, is a request to stop. What it must never do: take a signal that
//! came by itself (a terminal that was closed, a session that was ended) for the impatience of a person.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};

use super::exit::ExitCode;

/// What a person sends to end a program; the second one means "at once".
const ASKED: [i32; 3] = [SIGINT, SIGTERM, SIGQUIT];
/// What comes by itself or by mistake, perhaps several times: the terminal was closed, a limit of CPU time was reached, a script
/// meant another daemon.
const CAME: [i32; 5] = [SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2, SIGALRM];
/// What is an error of a write and no reason to end: nobody reads the other end, or the file may not grow.
const OF_A_WRITE: [i32; 2] = [SIGPIPE, SIGXFSZ];

/// The first signal that would end the process sets `stop`, and the run ends in order. A second SIGINT, SIGTERM or SIGQUIT leaves
/// at once. `nohup` is respected: a SIGHUP that was ignored at the start stays ignored.
///
/// # Errors
/// When the system refuses the handlers.
pub fn stop_on_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    const REFUSED: &str = "cannot install the signal handlers";
    let asked = Arc::new(AtomicBool::new(false));
    for signal in ASKED {
        // Registered first, so that it looks at the flag before the same signal sets it.
        let impatient = ExitCode::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, impatient, asked.clone())
            .and_then(|_| signal_hook::flag::register(signal, asked.clone()))
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context(REFUSED)?;
    }
    for signal in CAME.into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP)) {
        signal_hook::flag::register(signal, stop.clone()).context(REFUSED)?;
    }
    for signal in OF_A_WRITE {
        signal_hook::flag::register(signal, Arc::default()).context(REFUSED)?;
    }
    Ok(())
}

/// Did whoever started this process want it to ignore this signal? Only Linux says.
fn is_ignored(signal: i32) -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
