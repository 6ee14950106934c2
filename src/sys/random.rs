//! Seeded random numbers, one independent stream for each thing that is drawn.
//!
//! Why it exists: what is drawn for one thing must not move when another is drawn more often, or not at all: a parameter
//! at 0 removes one difference between animals and nothing else. What it must never do: read a clock or the machine.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// A stream of random numbers.
pub(crate) struct Random(Pcg64Mcg);

/// Largest mean at which photons are counted one by one; above it the normal form is as good.
const COUNTED_MEAN_MAX: f64 = 10.0;

impl Random {
    /// The stream of one thing of one seed, animal, trial, …
    pub(crate) fn new(stream: impl Into<u64>, keys: &[u64]) -> Self {
        let start = mixed(stream.into());
        Self(Pcg64Mcg::seed_from_u64(keys.iter().fold(start, |state, &key| mixed(state ^ mixed(key)))))
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// Mean 0, standard deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// A factor around 1 whose logarithm has this standard deviation.
    pub(crate) fn factor(&mut self, log_sd: f64) -> f64 {
        (log_sd * self.normal()).exp()
    }

    /// A count with this mean: exact up to a mean of 10, above it a normal number with the skewness put right.
    pub(crate) fn poisson(&mut self, mean: f64) -> f64 {
        if mean > COUNTED_MEAN_MAX {
            let z = self.normal();
            return (mean + mean.sqrt() * z + (z * z - 1.0) / 6.0).round().max(0.0);
        }
        let u = self.uniform();
        let (mut count, mut chance) = (0.0, (-mean).exp());
        let mut below = chance;
        while u > below && count < 60.0 {
            count += 1.0;
            chance *= mean / count;
            below += chance;
        }
        count
    }

    /// An index, with these weights.
    pub(crate) fn choice(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.iter().rposition(|&w| w > 0.0).unwrap_or(0)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, passes BigCrush. The start of a network's weights is part of what a
/// seed means, so it comes from a generator that no crate can change.
pub struct SplitMix(pub u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        let drawn = mixed(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        drawn
    }

    /// Uniform in [−1, 1), with 24 bits.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// 2⁶⁴ divided by the golden ratio, odd: the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A step of SplitMix64 from `value`: a bijection that leaves no pattern.
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Noise that forgets: mean 0, standard deviation 1, correlation time in steps.
pub(crate) struct Wander {
    value: f64,
    keep: f64,
}

impl Wander {
    pub(crate) fn new(steps: f64, random: &mut Random) -> Self {
        Self { value: random.normal(), keep: (-1.0 / steps.max(1e-9)).exp() }
    }

    pub(crate) fn next(&mut self, random: &mut Random) -> f64 {
        self.value = self.keep * self.value + (1.0 - self.keep * self.keep).sqrt() * random.normal();
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_mean_and_variance_of_their_mean_in_both_forms() {
        for mean in [0.3, 4.0, 9.9, 10.1, 40.0] {
            let mut random = Random::new(52_u64, &[1, 2]);
            let n = 40_000;
            let counts: Vec<f64> = (0..n).map(|_| random.poisson(mean)).collect();
            let average = counts.iter().sum::<f64>() / n as f64;
            let variance = counts.iter().map(|c| (c - average).powi(2)).sum::<f64>() / n as f64;
            assert!((average / mean - 1.0).abs() < 0.03, "{mean}: mean {average}");
            assert!((variance / mean - 1.0).abs() < 0.05, "{mean}: variance {variance}");
        }
    }

    #[test]
    fn splitmix_agrees_with_the_published_sequence() {
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn streams_differ_by_purpose_and_by_every_key() {
        let first = |stream: u64, keys: &[u64]| Random::new(stream, keys).uniform();
        let one = first(52_u64, &[1, 2, 3]);
        assert_eq!(one, first(52_u64, &[1, 2, 3]));
        for other in [first(50_u64, &[1, 2, 3]), first(52_u64, &[2, 1, 3]), first(52_u64, &[1, 2, 4])] {
            assert_ne!(one, other);
        }
    }
}
