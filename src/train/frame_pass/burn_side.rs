//! Converts between burn's modules and the plain values of the kernels.
//!
//! Why it exists: burn owns the weights and the optimiser; the kernels compute on copies. What it must never do: leave a
//! parameter without its gradient, or the running statistics out of date.
//!
//! A step is [`step_gradients`] and then `optimiser.step(rate, network, gradients)`.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use super::{BatchStatistics, FrameGradients, FramePass, FrameWeights, LayerWeights, PassError};
use crate::train::network::{FrameNet, Network};

/// The loss and all gradients of one step: frames `[n,C,H,W]` through the kernels, `loss` of their features `[n,D]` through
/// burn. The running statistics of the network are updated, as burn's forward pass would do.
///
/// The network must be on an autodiff device. `loss` may use any part of `network` but its frame network.
///
/// # Errors
/// Any [`PassError`].
pub fn step_gradients(
    pass: &mut FramePass,
    network: &Network,
    frames: &[f32],
    loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
) -> Result<(f32, GradientsParams), PassError> {
    let weights = FrameWeights::of(&network.frame)?;
    let features = pass.forward_train(&weights, frames)?;
    update_running(&network.frame, &pass.batch_statistics());
    let columns = weights.bias.len();
    let shape = [features.len() / columns, columns];
    let device = network.frame.linear.weight.val().device();
    // A leaf of burn's graph: the kernels continue from its gradient.
    let features = Tensor::<2>::from_data(TensorData::new(features, shape), &device).require_grad();
    let loss = loss(features.clone());
    let mut gradients = loss.backward();
    let value = values_of(loss)?.first().copied().unwrap_or(f32::NAN);
    let d_features = match features.grad_remove(&mut gradients) {
        Some(gradient) => values_of(gradient)?,
        None => vec![0.0; shape[0] * columns],
    };
    let mut gradients = GradientsParams::from_grads(gradients, network);
    pass.backward(&weights, &d_features)?.register(&network.frame, &mut gradients);
    Ok((value, gradients))
}

/// What burn's batch normalisation does to its running statistics: (1 − momentum)·old + momentum·batch, biased variance.
/// Call it on the thread that calls the network.
pub fn update_running(network: &FrameNet, batch: &[BatchStatistics]) {
    for (block, batch) in network.blocks.iter().zip(batch) {
        let norm = &block.norm;
        for (state, new) in [(&norm.running_mean, &batch.mean), (&norm.running_var, &batch.variance)] {
            let old = state.value_sync();
            let new = Tensor::from_data(TensorData::new(new.clone(), [new.len()]), &old.device());
            let mixed = old.mul_scalar(1.0 - norm.momentum).add(new.mul_scalar(norm.momentum));
            state.update(mixed.detach());
        }
    }
}

impl FrameWeights {
    /// Copies the weights and the running statistics of a network on any device.
    ///
    /// # Errors
    /// [`PassError::Values`].
    pub fn of(network: &FrameNet) -> Result<Self, PassError> {
        let mut layers = Vec::with_capacity(network.blocks.len());
        for block in &network.blocks {
            let norm = &block.norm;
            layers.push(LayerWeights {
                convolution: values_of(block.convolution.weight.val())?,
                gamma: values_of(norm.gamma.val())?,
                beta: values_of(norm.beta.val())?,
                running_mean: values_of(norm.running_mean.value_sync())?,
                running_variance: values_of(norm.running_var.value_sync())?,
                epsilon: norm.epsilon,
            });
        }
        let linear = values_of(network.linear.weight.val())?;
        let bias = match &network.linear.bias {
            Some(bias) => values_of(bias.val())?,
            None => Vec::new(),
        };
        Ok(Self { layers, linear, bias })
    }
}

impl FrameGradients {
    /// Adds them to an optimiser's gradients, next to those of the rest of the network.
    pub fn register(self, network: &FrameNet, gradients: &mut GradientsParams) {
        for (block, layer) in network.blocks.iter().zip(self.layers) {
            register(&block.convolution.weight, layer.convolution, gradients);
            register(&block.norm.gamma, layer.gamma, gradients);
            register(&block.norm.beta, layer.beta, gradients);
        }
        register(&network.linear.weight, self.linear, gradients);
        if let Some(bias) = &network.linear.bias {
            register(bias, self.bias, gradients);
        }
    }
}

fn register<const D: usize>(parameter: &Param<Tensor<D>>, gradient: Vec<f32>, gradients: &mut GradientsParams) {
    let value = parameter.val();
    let data = TensorData::new(gradient, value.dims());
    gradients.register(parameter.id, Tensor::<D>::from_data(data, &value.device().without_autodiff()));
}

fn values_of<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, PassError> {
    let data = tensor.try_into_data().map_err(|error| PassError::Values(error.to_string()))?;
    data.try_to_vec().map_err(|error| PassError::Values(format!("{error:?}")))
}
