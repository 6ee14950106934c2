//! Numbers too small for the ordinary form become zero, on this thread.
//!
//! Why it exists: a processor computes with denormal numbers in microcode, many times slower. A blank stream or tiny weights lead to
//! them, and a frame must not take longer for it. What it must never do: change a result that is not denormal.

/// Makes every denormal operand and result of this thread zero, or lets them be; returns what was so before. Without effect on
/// processors where that cannot be chosen.
#[allow(unsafe_code)]
pub fn flush_to_zero(flush: bool) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        /// Flush results to zero (bit 15), take operands for zero (bit 6).
        const FLUSH: u32 = 1 << 15 | 1 << 6;
        let mut control = 0u32;
        // SAFETY: every x86-64 processor has the register; both instructions only read or write the four bytes given, which live
        // on this stack. Rust's floating-point code must see rounding and masks as they were, and these bits are none of them.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack));
            let before = control & FLUSH == FLUSH;
            control = if flush { control | FLUSH } else { control & !FLUSH };
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, readonly));
            before
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        /// Flush operands and results to zero.
        const FLUSH: u64 = 1 << 24;
        let mut control: u64;
        // SAFETY: every aarch64 processor has the register; only the bit for denormal numbers changes.
        unsafe {
            std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack));
            let changed = if flush { control | FLUSH } else { control & !FLUSH };
            std::arch::asm!("msr fpcr, {}", in(reg) changed, options(nomem, nostack));
        }
        control & FLUSH == FLUSH
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = flush;
        false
    }
}

/// Does work on this thread in which denormal numbers are zero, as they are on the compute thread: for everything outside it that must
/// compute the same bits.
pub fn flushed<T>(work: impl FnOnce() -> T) -> T {
    let before = flush_to_zero(true);
    let done = work();
    flush_to_zero(before);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denormal_result_becomes_zero_where_it_is_asked_for_and_nowhere_else() {
        let half = |value: f32| std::hint::black_box(value) * std::hint::black_box(0.5);
        let on = std::thread::spawn(move || {
            flush_to_zero(false);
            let flushed = flushed(|| (half(f32::MIN_POSITIVE), half(3.0)));
            (flushed, half(f32::MIN_POSITIVE), flush_to_zero(true), flush_to_zero(true))
        });
        let ((denormal, ordinary), after, was, is) = on.join().unwrap();
        assert_eq!(ordinary, 1.5);
        assert!(after > 0.0, "as before");
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert_eq!((denormal, was, is), (0.0, false, true));
        }
    }
}
