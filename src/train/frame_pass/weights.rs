//! Weights and gradients of the frame network as plain values, in burn's layouts.
//!
//! Why it exists: the kernels know nothing of burn, so that their results can be compared with burn's. What it must never do:
//! hold a layout of the kernels' own.

use super::PassError;
use crate::train::spec::{NetworkSpec, PATCH_PX};

/// One convolution with its batch normalisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerWeights {
    /// `[out, in, k, k]`.
    pub convolution: Vec<f32>,
    /// `[out]`.
    pub gamma: Vec<f32>,
    /// `[out]`.
    pub beta: Vec<f32>,
    /// `[out]`; read by `forward_eval` only.
    pub running_mean: Vec<f32>,
    /// `[out]`; read by `forward_eval` only.
    pub running_variance: Vec<f32>,
    /// Added to the variance before the root.
    pub epsilon: f64,
}

/// The weights of a frame network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameWeights {
    /// The patch layer, then the halvings.
    pub layers: Vec<LayerWeights>,
    /// `[C·H·W of the last map, features]`.
    pub linear: Vec<f32>,
    /// `[features]`.
    pub bias: Vec<f32>,
}

/// The gradient of one layer, shaped as its weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerGradients {
    /// `[out, in, k, k]`.
    pub convolution: Vec<f32>,
    /// `[out]`.
    pub gamma: Vec<f32>,
    /// `[out]`.
    pub beta: Vec<f32>,
}

/// The gradients of a frame network, shaped as its weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameGradients {
    /// The patch layer, then the halvings.
    pub layers: Vec<LayerGradients>,
    /// `[C·H·W of the last map, features]`.
    pub linear: Vec<f32>,
    /// `[features]`.
    pub bias: Vec<f32>,
}

/// Mean and biased variance of each channel of one layer over a batch, before normalisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchStatistics {
    /// `[out]`.
    pub mean: Vec<f32>,
    /// `[out]`.
    pub variance: Vec<f32>,
}

impl FrameWeights {
    /// Compares every length with the specification.
    pub(super) fn check(&self, spec: &NetworkSpec) -> Result<(), PassError> {
        let equal = |what: String, found: usize, expected: usize| {
            if found == expected { Ok(()) } else { Err(PassError::Weights { what, found, expected }) }
        };
        equal("layers".into(), self.layers.len(), spec.widths.len())?;
        let mut fan_in = spec.input.channels * PATCH_PX * PATCH_PX;
        for (index, (layer, &width)) in self.layers.iter().zip(&spec.widths).enumerate() {
            equal(format!("weights of layer {index}"), layer.convolution.len(), width * fan_in)?;
            for vector in [&layer.gamma, &layer.beta, &layer.running_mean, &layer.running_variance] {
                equal(format!("normalisation of layer {index}"), vector.len(), width)?;
            }
            fan_in = width * 9;
        }
        equal("linear weights".into(), self.linear.len(), spec.flattened() * spec.features)?;
        equal("linear bias".into(), self.bias.len(), spec.features)
    }
}
