//! Forward and backward of the frame network on the CPU, with kernels of our own.
//!
//! Why it exists: the frame network is nearly all of a training step, and burn's convolutions leave most of the processor
//! unused in the backward pass. burn does the rest: the head, the loss, the optimiser; [`burn_side`] joins the two. On a GPU
//! burn's own `forward_frame` is used. What it must never do: compute anything but [`super::Network::forward_frame`] (the tests
//! compare every value with burn's), or give a result that depends on the number of threads.
//!
//! The maps of a batch before normalisation are kept for the backward pass, then their gradients: 8 bytes per frame and value of
//! every map. This memory is reused from step to step.

use rayon::prelude::*;

use self::norm::{Norm, Slope};
use self::packed::Packed;
use self::plan::Plan;
use self::slice::Slice;
use super::spec::{NetworkSpec, SpecError};

pub mod burn_side;
mod kernel;
mod norm;
mod packed;
mod plan;
mod slice;
mod weights;

pub use weights::{BatchStatistics, FrameGradients, FrameWeights, LayerGradients, LayerWeights};

/// Number of slices a batch is always cut into, whatever the number of threads.
const SLICES: usize = 16;
/// Frames that [`FramePass::forward_eval`] takes at a time, so that a whole trial needs no more memory than a batch.
const EVAL_FRAMES: usize = 1024;

/// Why a pass fails.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The specification is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Weights of another network.
    #[error("{what}: {found} values, but the network's specification needs {expected}")]
    Weights {
        /// Which.
        what: String,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Frames or gradients that are not a whole number of rows, or none at all.
    #[error("{what}: {found} values, must be {expected}")]
    Length {
        /// Which.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: String,
    },
    /// burn could not return its values.
    #[error("burn: {0}")]
    Values(String),
}

/// The frame network on the CPU, with its memory.
#[derive(Debug)]
pub struct FramePass {
    spec: NetworkSpec,
    plan: Plan,
    packed: Packed,
    slices: Vec<Slice>,
    norms: Vec<Norm>,
    /// The batch of the last forward pass; the backward pass reads it again.
    frames: Vec<f32>,
    trained: usize,
}

impl FramePass {
    /// A pass for networks of this specification.
    ///
    /// # Errors
    /// [`PassError::Spec`].
    pub fn new(spec: &NetworkSpec) -> Result<Self, PassError> {
        spec.check()?;
        let slices = (0..SLICES).map(|_| Slice::default()).collect();
        let (plan, packed, norms, frames) = (Plan::new(spec), Packed::default(), Vec::new(), Vec::new());
        Ok(Self { spec: spec.clone(), plan, packed, slices, norms, frames, trained: 0 })
    }

    /// Frames `[n,C,H,W]` → features `[n,D]`, normalised by the statistics of this batch.
    ///
    /// # Errors
    /// [`PassError::Weights`] or [`PassError::Length`].
    pub fn forward_train(&mut self, weights: &FrameWeights, frames: &[f32]) -> Result<Vec<f32>, PassError> {
        let count = self.check(weights, frames)?;
        self.frames.clear();
        self.frames.extend_from_slice(frames);
        self.trained = count;
        self.packed.forward(&self.plan, weights);
        self.forward(weights, frames, None)
    }

    /// Frames `[n,C,H,W]` → features `[n,D]`, normalised by the running statistics. Forgets the last batch of training.
    ///
    /// # Errors
    /// [`PassError::Weights`] or [`PassError::Length`].
    pub fn forward_eval(&mut self, weights: &FrameWeights, frames: &[f32]) -> Result<Vec<f32>, PassError> {
        let count = self.check(weights, frames)?;
        self.trained = 0;
        self.packed.forward(&self.plan, weights);
        let layers = self.plan.layers.iter().zip(&weights.layers);
        let norms: Vec<Norm> = layers.map(|(layer, weights)| Norm::running(weights, layer.columns)).collect();
        let mut features = Vec::with_capacity(count * self.spec.features);
        for frames in frames.chunks(EVAL_FRAMES * self.spec.input.pixels()) {
            features.extend(self.forward(weights, frames, Some(&norms))?);
        }
        Ok(features)
    }

    /// The statistics of the last [`FramePass::forward_train`], layer by layer.
    pub fn batch_statistics(&self) -> Vec<BatchStatistics> {
        let single = |values: &[f64], width: usize| values[..width].iter().map(|&v| v as f32).collect();
        let layers = self.norms.iter().zip(&self.spec.widths);
        let of = |(norm, &width): (&Norm, &usize)| BatchStatistics {
            mean: single(&norm.mean, width),
            variance: single(&norm.variance, width),
        };
        layers.map(of).collect()
    }

    /// The gradients of every weight from the features' gradient `[n,D]`. Belongs to the last [`FramePass::forward_train`],
    /// with the same weights.
    ///
    /// # Errors
    /// [`PassError::Weights`], or [`PassError::Length`] when the gradient is not one row for each frame of that batch.
    pub fn backward(&mut self, weights: &FrameWeights, d_features: &[f32]) -> Result<FrameGradients, PassError> {
        weights.check(&self.spec)?;
        let rows = self.trained * self.spec.features;
        if d_features.len() != rows || rows == 0 {
            let expected = format!("{} frames of the last batch × {} features", self.trained, self.spec.features);
            return Err(PassError::Length { what: "gradient of the features", found: d_features.len(), expected });
        }
        self.packed.backward(&self.plan, weights);
        let Self { plan, packed, slices, norms, frames, spec, trained, .. } = self;
        let (plan, packed, norms, frames) = (&*plan, &*packed, &*norms, &frames[..]);
        let mut parts = by_slice(slices, d_features, spec.features);
        parts.par_iter_mut().for_each(|(slice, d)| slice.linear_back(plan, packed, norms, d));
        let mut normalisation = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate().rev() {
            let sums = total(slices, |slice| &slice.sums);
            normalisation.push(norms[index].gradients(&sums, layer.width));
            let slope = &Slope::new(&norms[index], &sums, *trained * layer.pixels());
            slices.par_iter_mut().for_each(|s| s.convolve_back(plan, packed, index, norms, slope, frames));
        }
        Ok(self.collect(normalisation))
    }

    fn collect(&self, normalisation: Vec<[Vec<f32>; 2]>) -> FrameGradients {
        let (plan, slices) = (&self.plan, &self.slices);
        let mut gradients: Vec<Vec<f32>> = (0..=plan.layers.len())
            .map(|index| total(slices, |slice| slice.gradients.get(index).map_or(&[][..], |g| g)))
            .collect();
        let linear = plan.unpack_linear(&gradients.pop().unwrap_or_default());
        let layers = plan.layers.iter().zip(&gradients).zip(normalisation.into_iter().rev());
        let layers = layers.map(|((layer, gradient), [gamma, beta])| layer.unpack(gradient, gamma, beta)).collect();
        let bias = total(slices, |slice| &slice.bias).into_iter().map(|v: f64| v as f32).collect();
        FrameGradients { layers, linear, bias }
    }

    fn check(&self, weights: &FrameWeights, frames: &[f32]) -> Result<usize, PassError> {
        weights.check(&self.spec)?;
        let pixels = self.spec.input.pixels();
        if frames.is_empty() || !frames.len().is_multiple_of(pixels) {
            let expected = format!("one frame of {} ({pixels} values) or more", self.spec.input);
            return Err(PassError::Length { what: "frames", found: frames.len(), expected });
        }
        Ok(frames.len() / pixels)
    }

    /// With the given normalisation, or with that of the batch, which is kept.
    fn forward(
        &mut self,
        weights: &FrameWeights,
        frames: &[f32],
        running: Option<&[Norm]>,
    ) -> Result<Vec<f32>, PassError> {
        let (plan, count) = (&self.plan, frames.len() / self.spec.input.pixels());
        let each = count.div_ceil(SLICES);
        for (index, slice) in self.slices.iter_mut().enumerate() {
            let first = (index * each).min(count);
            slice.prepare(plan, first, each.min(count - first), running.is_none());
        }
        let packed = &self.packed;
        let mut norms = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            let before = running.unwrap_or(&norms);
            self.slices.par_iter_mut().for_each(|slice| slice.convolve(plan, packed, index, before, frames));
            if running.is_none() {
                let sums = total(&self.slices, |slice| &slice.sums);
                norms.push(Norm::of_batch(&sums, count * layer.pixels(), &weights.layers[index]));
            }
        }
        let applied = running.unwrap_or(&norms);
        let mut features = vec![0.0; count * self.spec.features];
        let mut rest = &mut features[..];
        let mut parts = Vec::with_capacity(SLICES);
        for slice in &mut self.slices {
            let (part, after) = rest.split_at_mut(slice.frames() * self.spec.features);
            rest = after;
            parts.push((slice, part));
        }
        parts.par_iter_mut().for_each(|(slice, part)| slice.features(plan, packed, applied, &weights.bias, part));
        self.norms = norms;
        Ok(features)
    }
}

/// The slices with their rows of a `[n, columns]` matrix.
fn by_slice<'a>(slices: &'a mut [Slice], rows: &'a [f32], columns: usize) -> Vec<(&'a mut Slice, &'a [f32])> {
    let mut rest = rows;
    let mut parts = Vec::with_capacity(slices.len());
    for slice in slices {
        let (part, after) = rest.split_at(slice.frames() * columns);
        rest = after;
        parts.push((slice, part));
    }
    parts
}

/// The sum over the slices, in their order.
fn total<T: Copy + std::ops::AddAssign>(slices: &[Slice], of: impl Fn(&Slice) -> &[T]) -> Vec<T> {
    let mut sum = of(&slices[0]).to_vec();
    for slice in &slices[1..] {
        sum.iter_mut().zip(of(slice)).for_each(|(sum, &value)| *sum += value);
    }
    sum
}

#[cfg(test)]
mod tests;
