//! The one clock that frames, decodes and counters are stamped by.

/// Nanoseconds on `CLOCK_MONOTONIC`, comparable between processes of this machine.
pub fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
