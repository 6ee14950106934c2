//! The machine: cores, real-time rights, locked memory, clock speed.
//!
//! Why it exists: denied rights make no error in a run, only a worse tail. What it must never do: keep a priority it
//! tried.

use rustix::process::{Resource, getrlimit};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::Line;
use crate::config::Realtime;

/// `CAP_IPC_LOCK`, which lifts the limit of locked memory, in the kernel's list of capabilities.
const CAP_IPC_LOCK: u32 = 14;

pub(super) fn lines(realtime: &Realtime) -> Vec<Line> {
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let mut lines = vec![cores(realtime, &allowed), priority(realtime.priority), memory(realtime.lock_memory)];
    lines.extend(governor());
    lines
}

fn cores(realtime: &Realtime, allowed: &[usize]) -> Line {
    let wanted = [
        ("ingest_core", realtime.ingest_core),
        ("compute_core", realtime.compute_core),
        ("publish_core", realtime.publish_core),
    ];
    let missing: Vec<_> = wanted.iter().filter_map(|&(key, core)| Some((key, core?))).collect();
    let pinned = missing.len();
    let missing: Vec<_> = missing.into_iter().filter(|(_, core)| !allowed.contains(core)).collect();
    let list = |cores: &[usize]| cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if !missing.is_empty() {
        let named: Vec<_> = missing.iter().map(|(key, core)| format!("`realtime.{key}` = {core}")).collect();
        let found = format!("{}: this process may use cores {}", named.join(", "), list(allowed));
        return Line::warning("cores", found, "the thread will run unpinned: choose one of those, or \"any\"");
    }
    let found = format!("{} usable, {pinned} of 3 threads pinned", allowed.len());
    if allowed.len() < 3 {
        let advice = "three threads share them: expect longer tail latencies; use `realtime.wait` = \"park\"";
        return Line::warning("cores", found, advice);
    }
    Line::good("cores", found)
}

fn priority(wanted: Option<u8>) -> Line {
    let limit = getrlimit(Resource::Rtprio).current.map_or("unlimited".to_owned(), |n| n.to_string());
    let allowed = try_fifo(wanted.unwrap_or(1));
    match (wanted, allowed) {
        (Some(priority), true) => Line::good("real time", format!("SCHED_FIFO {priority} is granted")),
        (Some(priority), false) => {
            let found = format!("SCHED_FIFO {priority} is denied (RLIMIT_RTPRIO {limit})");
            let advice = "in /etc/security/limits.d/haltere.conf: `@realtime - rtprio 60`, join the group, log in again;\n\
                          under systemd: LimitRTPRIO=60; or setcap cap_sys_nice+ep on the program";
            Line::warning("real time", found, advice)
        }
        (None, true) => Line::good("real time", "ordinary scheduling; SCHED_FIFO would be granted"),
        (None, false) => {
            Line::good("real time", format!("ordinary scheduling; SCHED_FIFO would be denied (RLIMIT_RTPRIO {limit})"))
        }
    }
}

/// Tries on a thread of its own, which then ends with its priority.
fn try_fifo(priority: u8) -> bool {
    let Ok(value) = ThreadPriorityValue::try_from(priority) else { return false };
    let attempt = move || {
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(value), policy).is_ok()
    };
    std::thread::spawn(attempt).join().unwrap_or(false)
}

fn memory(wanted: bool) -> Line {
    let limit = getrlimit(Resource::Memlock).current;
    let free = limit.is_none() || has_capability(CAP_IPC_LOCK);
    let shown = limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    match (wanted, free) {
        (false, true) => Line::good("locked memory", "not requested; would be granted"),
        (false, false) => Line::good("locked memory", format!("not requested (RLIMIT_MEMLOCK {shown})")),
        (true, true) => Line::good("locked memory", "granted"),
        (true, false) => {
            let advice = "in /etc/security/limits.d/haltere.conf: `@realtime - memlock unlimited`, log in again;\n\
                          under systemd: LimitMEMLOCK=infinity";
            Line::warning("locked memory", format!("RLIMIT_MEMLOCK is {shown}: too little for all memory"), advice)
        }
    }
}

fn has_capability(bit: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask >> bit & 1 == 1)
}

/// Nothing where the kernel does not say, as in most virtual machines.
fn governor() -> Option<Line> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok()?;
    let governor = text.trim();
    if governor == "performance" {
        return Some(Line::good("clock speed", "governor `performance`"));
    }
    let found = format!("governor `{governor}`: a core slows down between frames and wakes late");
    Some(Line::warning("clock speed", found, "`sudo cpupower frequency-set -g performance`"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_core_that_is_not_there_is_named_with_its_key() {
        let mut realtime = Config::default().realtime;
        realtime.compute_core = Some(77);
        let line = cores(&realtime, &[0, 1, 2, 3]);
        assert_eq!(line.level, Level::Warning);
        assert!(line.found.contains("`realtime.compute_core` = 77") && line.found.contains("0 1 2 3"), "{line:?}");
        realtime.compute_core = Some(3);
        assert_eq!(cores(&realtime, &[0, 1, 2, 3]).found, "4 usable, 1 of 3 threads pinned");
    }

    #[test]
    fn what_was_not_asked_for_is_never_a_fault() {
        for line in lines(&Config::default().realtime) {
            assert_ne!(line.level, Level::Fault, "{line:?}");
        }
        assert_eq!(priority(None).level, Level::Good);
        assert_eq!(memory(false).level, Level::Good);
    }
}
