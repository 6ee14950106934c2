//! Runs a kernel compiled for this machine's vector unit.
//!
//! Why it exists: a binary built for every x86-64 uses 128-bit vectors; the same loop compiled for AVX2 takes half the time.
//! A kernel is an ordinary function over slices marked `#[inline(always)]`, compiled once per vector unit.
//! What it must never do: change a result. Kernels hold no fused multiply-add and sum in a fixed order, so every unit gives
//! the same bits. On aarch64 the baseline has NEON and there is nothing to choose.

/// The vector unit found at start.
#[derive(Clone, Copy)]
pub struct Simd {
    #[cfg(target_arch = "x86_64")]
    avx2: Option<pulp::x86::V3>,
}

#[cfg(target_arch = "x86_64")]
impl Simd {
    /// Asks the processor.
    pub fn detect() -> Self {
        Self { avx2: pulp::x86::V3::try_new() }
    }

    /// Without run-time dispatch, for tests of bit-identity.
    #[cfg(test)]
    pub fn baseline() -> Self {
        Self { avx2: None }
    }

    /// Calls `kernel(arguments)` with the best vectors. `kernel` must be the name of an `#[inline(always)]` function.
    #[inline(always)]
    pub fn run<A, R>(self, kernel: impl FnOnce(A) -> R, arguments: A) -> R {
        match self.avx2 {
            Some(unit) => unit.vectorize(Call { kernel, arguments }),
            None => kernel(arguments),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Simd {
    /// Nothing to ask: the baseline is all there is.
    pub fn detect() -> Self {
        Self {}
    }

    /// As [`Simd::detect`].
    #[cfg(test)]
    pub fn baseline() -> Self {
        Self {}
    }

    /// Calls `kernel(arguments)`.
    #[inline(always)]
    pub fn run<A, R>(self, kernel: impl FnOnce(A) -> R, arguments: A) -> R {
        kernel(arguments)
    }
}

#[cfg(test)]
impl Simd {
    /// What `run` makes, which no vector unit changes by a bit.
    pub fn same_bits(run: impl Fn(Self) -> Vec<f32>) -> Vec<f32> {
        let out = run(Self::detect());
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out), bits(&run(Self::baseline())), "the vector unit changed a result");
        out
    }
}

/// A closure would not surely be inlined into the function that carries the vector unit; this is.
#[cfg(target_arch = "x86_64")]
struct Call<F, A> {
    kernel: F,
    arguments: A,
}

#[cfg(target_arch = "x86_64")]
impl<A, R, F: FnOnce(A) -> R> pulp::NullaryFnOnce for Call<F, A> {
    type Output = R;

    #[inline(always)]
    fn call(self) -> R {
        (self.kernel)(self.arguments)
    }
}
