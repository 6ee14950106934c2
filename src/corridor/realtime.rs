//! Real-time rights and the one place that idles.
//!
//! Why it exists: pinning, priority, locked memory and waiting are properties of a machine, not of a stage. What it must
//! never do: fail a run. A right that is denied is a named [`Warning`] that the status repeats.

use std::time::Duration;

use crossbeam::sync::{Parker, Unparker};
use rustix::mm::{MlockAllFlags, mlockall};
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, unix};

use crate::config::{Realtime, Wait};

/// A right or a resource that was asked for and not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The core does not exist, or this process may not run on it.
    #[error(
        "realtime.{stage}_core = {core}: not available ({cores} cores can be used); the thread may run on any core"
    )]
    CoreDenied {
        /// Which thread.
        stage: &'static str,
        /// Which core.
        core: usize,
        /// How many there are.
        cores: usize,
    },
    /// SCHED_FIFO was refused.
    #[error(
        "realtime.priority = {priority}: refused for the {stage} thread ({cause}); run as root, or allow it: `ulimit -r` / LimitRTPRIO={priority}"
    )]
    PriorityDenied {
        /// Which thread.
        stage: &'static str,
        /// What was asked for.
        priority: u8,
        /// The system's words.
        cause: String,
    },
    /// Memory could not be locked.
    #[error(
        "realtime.lock_memory: refused ({cause}); run as root, or allow it: `ulimit -l unlimited` / LimitMEMLOCK=infinity"
    )]
    MemoryLockDenied {
        /// The system's words.
        cause: String,
    },
}

/// Locks all memory, now and later, if the configuration asks for it.
fn lock_memory(realtime: &Realtime) -> Option<Warning> {
    if !realtime.lock_memory {
        return None;
    }
    let cause = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).err()?.to_string();
    Some(Warning::MemoryLockDenied { cause })
}

/// Asks for everything the configuration wants, on threads that end at once, and returns what was denied: before the start,
/// so that the first status already knows.
pub fn try_out(realtime: &Realtime) -> Vec<Warning> {
    let stages =
        [("ingest", realtime.ingest_core), ("compute", realtime.compute_core), ("publish", realtime.publish_core)];
    let mut warnings: Vec<Warning> = lock_memory(realtime).into_iter().collect();
    std::thread::scope(|threads| {
        for (stage, core) in stages {
            let denied = threads.spawn(move || settle(stage, core, realtime.priority)).join();
            warnings.extend(denied.unwrap_or_default());
        }
    });
    warnings
}

/// Gives the calling thread its core and its priority; what was denied comes back.
pub fn settle(stage: &'static str, core: Option<usize>, priority: Option<u8>) -> Vec<Warning> {
    core.and_then(|core| pin(stage, core)).into_iter().chain(priority.and_then(|p| raise(stage, p))).collect()
}

/// Does `work` on a thread of this priority. Threads that it starts inherit it, as those of ZeroMQ do, which carry every frame and
/// decode: else they would wait for the corridor's threads. What is denied was reported by [`try_out`].
pub fn with_priority<T: Send>(priority: Option<u8>, work: impl FnOnce() -> T + Send) -> T {
    let Some(priority) = priority else { return work() };
    let raised = || {
        // Reported at the start.
        let _ = raise("socket", priority);
        work()
    };
    std::thread::scope(|threads| threads.spawn(raised).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn pin(stage: &'static str, core: usize) -> Option<Warning> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let pinned = cores.iter().find(|id| id.id == core).is_some_and(|&id| core_affinity::set_for_current(id));
    (!pinned).then_some(Warning::CoreDenied { stage, core, cores: cores.len() })
}

fn raise(stage: &'static str, priority: u8) -> Option<Warning> {
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let denied = |cause: String| Warning::PriorityDenied { stage, priority, cause };
    let value = match priority.try_into() {
        Ok(value) => ThreadPriority::Crossplatform(value),
        Err(cause) => return Some(denied(cause.to_string())),
    };
    let this = unix::thread_native_id();
    unix::set_thread_priority_and_policy(this, value, fifo).err().map(|cause| denied(format!("{cause:?}")))
}

/// How a thread idles, and how it is woken.
pub struct Idle {
    wait: Wait,
    parker: Parker,
}

impl Idle {
    /// An idler of this policy; it belongs to one thread.
    pub fn new(wait: Wait) -> Self {
        Self { wait, parker: Parker::new() }
    }

    /// What wakes it: nothing is needed for a thread that spins or yields.
    pub fn bell(&self) -> Option<Unparker> {
        matches!(self.wait, Wait::Park | Wait::Anticipate).then(|| self.parker.unparker().clone())
    }

    /// Lets time pass: a moment when spinning or yielding, else until woken or for `at_most`.
    pub fn idle(&self, at_most: Duration) {
        match self.wait {
            Wait::Spin => std::hint::spin_loop(),
            Wait::Yield => std::thread::yield_now(),
            Wait::Park | Wait::Anticipate => self.parker.park_timeout(at_most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_exist_is_a_named_warning() {
        let warnings = settle("compute", Some(100_000), None);
        assert!(matches!(warnings[..], [Warning::CoreDenied { stage: "compute", core: 100_000, .. }]));
        assert!(warnings[0].to_string().contains("realtime.compute_core = 100000"));
    }

    #[test]
    fn a_thread_that_is_started_by_work_of_a_priority_has_it_and_the_caller_has_not() {
        let policy = || unix::thread_schedule_policy().expect("the system says it");
        let before = policy();
        let started = with_priority(Some(7), || std::thread::spawn(policy).join().expect("no panic"));
        let allowed = std::thread::spawn(|| raise("test", 7)).join().expect("no panic").is_none();
        let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        assert_eq!(started, if allowed { fifo } else { before });
        assert_eq!(policy(), before);
        assert_eq!(with_priority(None, || 3), 3);
    }

    #[test]
    fn a_parked_thread_is_woken_by_its_bell_and_not_by_time_alone() {
        let idle = Idle::new(Wait::Park);
        let bell = idle.bell().expect("parking has a bell");
        bell.unpark();
        let began = std::time::Instant::now();
        idle.idle(Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(Idle::new(Wait::Spin).bell().is_none());
    }
}
