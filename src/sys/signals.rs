//! Signals that end a run in order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use super::exit::ExitCode;

/// First SIGINT or SIGTERM: `stop` is set, and the run ends in order. Second: the process leaves at once.
///
/// # Errors
/// When the system refuses the handlers.
pub fn stop_on_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // Registered first, so that it looks at the flag before the same signal sets it.
        let impatient = ExitCode::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, impatient, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot install the signal handlers")?;
    }
    // A file that may not grow is an error of its writer, not the end of the daemon.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).context("cannot install the signal handlers")?;
    Ok(())
}
