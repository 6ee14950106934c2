//! Numbers too small for the ordinary form become zero, on this thread.
//!
//! Why it exists: a processor computes with denormal numbers in microcode, many times slower. A blank stream or tiny weights lead to
//! them, and a frame must not take longer for it. What it must never do: change a result that is not denormal.

/// Makes every denormal operand and result of this thread zero; without effect on processors where that cannot be chosen.
#[allow(unsafe_code)]
pub fn flush_to_zero() {
    #[cfg(target_arch = "x86_64")]
    {
        /// Flush results to zero (bit 15), take operands for zero (bit 6).
        const FLUSH: u32 = 1 << 15 | 1 << 6;
        let mut control = 0u32;
        // SAFETY: every x86-64 processor has the register; both instructions only read or write the four bytes given, which live
        // on this stack. Rust's floating-point code must see rounding and masks as they were, and these bits are none of them.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack));
            control |= FLUSH;
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, readonly));
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
            std::arch::asm!("msr fpcr, {}", in(reg) control | FLUSH, options(nomem, nostack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denormal_result_becomes_zero_on_this_thread_only() {
        let half = |value: f32| std::hint::black_box(value) * std::hint::black_box(0.5);
        let flushed = std::thread::spawn(move || {
            flush_to_zero();
            (half(f32::MIN_POSITIVE), half(3.0))
        });
        let (denormal, ordinary) = flushed.join().unwrap();
        assert_eq!(ordinary, 1.5);
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert_eq!(denormal, 0.0);
        }
        assert!(half(f32::MIN_POSITIVE) > 0.0, "other threads compute as before");
    }
}
