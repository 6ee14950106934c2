//! Layers whose weights come from a seed.
//!
//! Why it exists: the same seed gives the same weights on every device and backend of burn. What it must never do: draw from a generator
//! that a crate can change.

use burn::module::Param;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

use crate::sys::random::SplitMix;

/// Makes layers with seeded weights.
pub(super) struct Maker<'a> {
    pub(super) random: SplitMix,
    pub(super) device: &'a Device,
}

impl Maker<'_> {
    /// Uniform with the variance 2 / fan-in that keeps ReLU layers at one scale (He et al. 2015).
    pub(super) fn weights<const D: usize>(&mut self, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        let bound = (6.0 / fan_in as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| bound * self.random.signed()).collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    /// Weights as above, a bias of zero.
    pub(super) fn linear(&mut self, before: usize, after: usize) -> Linear {
        let mut linear = LinearConfig::new(before, after).with_initializer(Initializer::Zeros).init(self.device);
        linear.weight = self.weights([before, after], before);
        linear
    }
}
