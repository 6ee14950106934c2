//! Batch normalisation and ReLU on channels-last rows.
//!
//! Why it exists: both are one multiply-add and a comparison for each value, done while a value is written or read anyway.
//! What it must never do: sum in single precision; a channel's statistics run over 10⁵ values and more.
//!
//! Each plain loop is a structure of its own, because a closure might not be compiled for the machine's vector unit.

use pulp::{Simd, WithSimd};

use super::weights::LayerWeights;

/// Batch or running statistics of one layer and what they make of a value: relu(scale·v + shift). Padded channels are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Norm {
    /// Per channel.
    pub mean: Vec<f64>,
    /// Biased.
    pub variance: Vec<f64>,
    inverse: Vec<f64>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    centre: Vec<f32>,
}

impl Norm {
    /// From sums of values and squares over `count` values of each channel.
    pub fn of_batch(sums: &[f64], count: usize, weights: &LayerWeights) -> Self {
        let (values, squares) = sums.split_at(sums.len() / 2);
        let mean: Vec<f64> = values.iter().map(|sum| sum / count as f64).collect();
        // Rounding must not make it negative; NaN stays NaN, so that it is noticed.
        let variance = squares.iter().zip(&mean).map(|(sum, mean)| sum / count as f64 - mean * mean);
        let variance = variance.map(|v| if v < 0.0 { 0.0 } else { v }).collect();
        Self::new(mean, variance, weights)
    }

    /// From the running statistics, for `columns` channels after padding.
    pub fn running(weights: &LayerWeights, columns: usize) -> Self {
        let padded = |values: &[f32]| {
            let mut values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
            values.resize(columns, 0.0);
            values
        };
        Self::new(padded(&weights.running_mean), padded(&weights.running_variance), weights)
    }

    fn new(mean: Vec<f64>, variance: Vec<f64>, weights: &LayerWeights) -> Self {
        let at = |values: &[f32], channel: usize| values.get(channel).map_or(0.0, |&v| f64::from(v));
        let inverse: Vec<f64> = variance.iter().map(|v| 1.0 / (v + weights.epsilon).sqrt()).collect();
        let scale: Vec<f64> = inverse.iter().enumerate().map(|(c, inverse)| at(&weights.gamma, c) * inverse).collect();
        let shift = (0..mean.len()).map(|c| (at(&weights.beta, c) - mean[c] * scale[c]) as f32).collect();
        let scale = scale.iter().map(|&v| v as f32).collect();
        let centre = mean.iter().map(|&v| v as f32).collect();
        Self { mean, variance, inverse, scale, shift, centre }
    }

    /// Gradients of γ and β from the sums of [`mask`].
    pub fn gradients(&self, sums: &[f64], width: usize) -> [Vec<f32>; 2] {
        let (plain, centred) = sums.split_at(sums.len() / 2);
        let gamma = centred.iter().zip(&self.inverse).map(|(sum, inverse)| (sum * inverse) as f32);
        [gamma.take(width).collect(), plain.iter().map(|&sum| sum as f32).take(width).collect()]
    }
}

/// What the gradient behind normalisation is before it: a·d + b·(v − mean) + c, per channel (Ioffe & Szegedy 2015).
#[derive(Debug, Default)]
pub(super) struct Slope {
    terms: [Vec<f32>; 4],
}

impl Slope {
    /// From the sums of [`mask`] over `count` values of each channel.
    pub fn new(norm: &Norm, sums: &[f64], count: usize) -> Self {
        let (plain, centred) = sums.split_at(sums.len() / 2);
        let factor = |c: usize| -f64::from(norm.scale[c]) / count as f64;
        let b = (0..plain.len()).map(|c| (factor(c) * norm.inverse[c] * norm.inverse[c] * centred[c]) as f32);
        let c = (0..plain.len()).map(|c| (factor(c) * plain[c]) as f32);
        Self { terms: [norm.scale.clone(), b.collect(), c.collect(), norm.centre.clone()] }
    }
}

/// Adds values and squares to the channels' sums: first all of the one, then all of the other.
pub(super) struct AddValues<'a> {
    pub rows: &'a [f32],
    pub sums: &'a mut [f64],
}

impl WithSimd for AddValues<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.sums.len() / 2;
        let (values, squares) = self.sums.split_at_mut(channels);
        let squares = &mut squares[..channels];
        for row in self.rows.chunks_exact(channels) {
            for c in 0..channels {
                let value = f64::from(row[c]);
                values[c] += value;
                squares[c] += value * value;
            }
        }
    }
}

/// relu(scale·v + shift). NaN stays NaN.
pub(super) struct Activate<'a> {
    pub from: &'a [f32],
    pub to: &'a mut [f32],
    pub norm: &'a Norm,
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.norm.scale.len();
        let (scale, shift) = (&self.norm.scale[..channels], &self.norm.shift[..channels]);
        for (from, to) in self.from.chunks_exact(channels).zip(self.to.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let value = from[c] * scale[c] + shift[c];
                to[c] = if value < 0.0 { 0.0 } else { value };
            }
        }
    }
}

/// Sets the gradient to zero where ReLU cut, and adds it, and it times (v − mean), to the channels' sums.
pub(super) struct Mask<'a> {
    pub map: &'a [f32],
    pub gradient: &'a mut [f32],
    pub norm: &'a Norm,
    pub sums: &'a mut [f64],
}

impl WithSimd for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.sums.len() / 2;
        let (plain, centred) = self.sums.split_at_mut(channels);
        let centred = &mut centred[..channels];
        let Norm { scale, shift, centre, .. } = self.norm;
        let (scale, shift, centre) = (&scale[..channels], &shift[..channels], &centre[..channels]);
        for (map, gradient) in self.map.chunks_exact(channels).zip(self.gradient.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let kept = if map[c] * scale[c] + shift[c] > 0.0 { gradient[c] } else { 0.0 };
                gradient[c] = kept;
                plain[c] += f64::from(kept);
                centred[c] += f64::from(kept) * f64::from(map[c] - centre[c]);
            }
        }
    }
}

/// The gradient before normalisation.
pub(super) struct Before<'a> {
    pub map: &'a [f32],
    pub gradient: &'a [f32],
    pub to: &'a mut [f32],
    pub slope: &'a Slope,
}

impl WithSimd for Before<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [a, b, c, centre] = &self.slope.terms;
        let channels = a.len();
        let (b, c, centre) = (&b[..channels], &c[..channels], &centre[..channels]);
        let rows = self.map.chunks_exact(channels).zip(self.gradient.chunks_exact(channels));
        for ((map, gradient), to) in rows.zip(self.to.chunks_exact_mut(channels)) {
            for i in 0..channels {
                to[i] = a[i] * gradient[i] + b[i] * (map[i] - centre[i]) + c[i];
            }
        }
    }
}
