//! Weights as the kernels read them, and gradients back in burn's layout.
//!
//! Why it exists: the one place where the order channel, row, column of the files meets the order row, column, channel of the
//! kernels. What it must never do: keep a weight of an earlier step.

use super::kernel::Panels;
use super::plan::{Layer, Plan};
use super::weights::{FrameWeights, LayerGradients};

/// All weights of one step, cut into panels.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Input → output, layer by layer.
    pub forward: Vec<Panels>,
    /// Gradient of the output → gradient of the input, layer by layer and parity by parity.
    pub backward: Vec<Vec<Panels>>,
    /// Last map → features, and back.
    pub linear: Panels,
    /// Features' gradient → last map's.
    pub linear_back: Panels,
}

impl Packed {
    /// What a forward pass needs.
    pub fn forward(&mut self, plan: &Plan, weights: &FrameWeights) {
        self.forward.resize_with(plan.layers.len(), Panels::default);
        for ((layer, weights), panels) in plan.layers.iter().zip(&weights.layers).zip(&mut self.forward) {
            let value = |k: usize, out: usize| match layer.source(k) {
                Some(source) if out < layer.width => weights.convolution[out * layer.fan_in() + source],
                _ => 0.0,
            };
            panels.fill(layer.panel, layer.depth(), layer.columns, value);
        }
        let value = |k: usize, feature: usize| plan.linear_source(k, feature).map_or(0.0, |at| weights.linear[at]);
        self.linear.fill(plan.panel, plan.flattened, plan.columns, value);
    }

    /// What a backward pass needs in addition.
    pub fn backward(&mut self, plan: &Plan, weights: &FrameWeights) {
        self.backward.resize_with(plan.layers.len(), Vec::new);
        for (index, layer) in plan.layers.iter().enumerate().skip(1) {
            let (weights, before) = (&weights.layers[index].convolution, &plan.layers[index - 1]);
            self.backward[index].resize_with(layer.parities.len(), Panels::default);
            for (parity, panels) in layer.parities.iter().zip(&mut self.backward[index]) {
                let value = |k: usize, channel: usize| {
                    let ([ky, kx], out) = (parity.taps[k / layer.columns], k % layer.columns);
                    let inside = out < layer.width && channel < before.width;
                    if inside { weights[((out * before.width + channel) * 3 + ky) * 3 + kx] } else { 0.0 }
                };
                panels.fill(before.panel, parity.taps.len() * layer.columns, before.columns, value);
            }
        }
        let last = &plan.layers[plan.layers.len() - 1];
        let value = |feature: usize, k: usize| plan.linear_source(k, feature).map_or(0.0, |at| weights.linear[at]);
        self.linear_back.fill(last.panel, plan.columns, plan.flattened, value);
    }
}

impl Layer {
    /// Weights of one output in burn's layout.
    pub fn fan_in(&self) -> usize {
        if self.parities.is_empty() { self.depth() } else { self.channels[0] * 9 }
    }

    /// Where the kernel's product `k` lies among the weights of one output in burn's layout; `None` in padded channels.
    fn source(&self, k: usize) -> Option<usize> {
        if self.parities.is_empty() {
            return Some(k);
        }
        let (tap, channel) = (k / self.channels[1], k % self.channels[1]);
        (channel < self.channels[0]).then_some(channel * 9 + tap)
    }

    /// The gradient `[k, column]` of the kernels → burn's `[out, in, k, k]`.
    pub fn unpack(&self, gradient: &[f32], gamma: Vec<f32>, beta: Vec<f32>) -> LayerGradients {
        let mut convolution = vec![0.0; self.width * self.fan_in()];
        for (k, row) in gradient.chunks_exact(self.columns).enumerate() {
            if let Some(source) = self.source(k) {
                for (out, &value) in row[..self.width].iter().enumerate() {
                    convolution[out * self.fan_in() + source] = value;
                }
            }
        }
        LayerGradients { convolution, gamma, beta }
    }
}

impl Plan {
    /// Where the weight from value `k` of the last map as it lies to `feature` is in burn's `[C·H·W, features]`.
    fn linear_source(&self, k: usize, feature: usize) -> Option<usize> {
        let last = &self.layers[self.layers.len() - 1];
        let (pixel, channel) = (k / last.columns, k % last.columns);
        let inside = channel < last.width && feature < self.features;
        inside.then(|| (channel * last.pixels() + pixel) * self.features + feature)
    }

    /// The linear layer's gradient `[k, column]` of the kernels → burn's `[C·H·W, features]`.
    pub fn unpack_linear(&self, gradient: &[f32]) -> Vec<f32> {
        let last = &self.layers[self.layers.len() - 1];
        let mut linear = vec![0.0; last.width * last.pixels() * self.features];
        for (k, row) in gradient.chunks_exact(self.columns).enumerate() {
            for (feature, &value) in row.iter().enumerate() {
                if let Some(at) = self.linear_source(k, feature) {
                    linear[at] = value;
                }
            }
        }
        linear
    }
}
