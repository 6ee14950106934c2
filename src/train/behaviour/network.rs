//! The behaviour encoder: a window of behaviour → an embedding, for the contrast with the neural embedding.
//!
//! What it must never do: be exported; only training needs it.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Initializer, Linear, PaddingConfig1d};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};

use crate::sys::random::SplitMix;
use crate::train::network::unit_length;
use crate::train::seeded::Maker;

/// Channels of the convolutions over time, before and after the pooling by two (the sizes of the published encoder).
const WIDTHS: [usize; 4] = [64, 80, 96, 128];

/// Behaviour `[B,D,T]` → embedding `[B,E]`.
#[derive(Module, Debug)]
pub struct BehaviourNet {
    /// Convolutions over time, kernel 3, one step of padding; ReLU follows; pooling by two after the second.
    pub convolutions: Vec<Conv1d>,
    /// One weight for each time point (attention pooling).
    pub attention: Linear,
    /// Pooled features → embedding.
    pub linear: Linear,
}

impl BehaviourNet {
    /// A network with seeded random weights.
    pub fn new(columns: usize, embedding: usize, seed: u64, device: &Device) -> Self {
        let mut make = Maker { random: SplitMix(seed), device };
        let (mut convolutions, mut before) = (Vec::new(), columns);
        for width in WIDTHS {
            let config = Conv1dConfig::new(before, width, 3).with_padding(PaddingConfig1d::Explicit(1, 1));
            let mut convolution = config.with_initializer(Initializer::Zeros).init(device);
            convolution.weight = make.weights([width, before, 3], before * 3);
            convolutions.push(convolution);
            before = width;
        }
        let attention = make.linear(before, 1);
        Self { convolutions, attention, linear: make.linear(before, embedding) }
    }

    /// Windows `[B,D,T]`, oldest frame first → embeddings `[B,E]` of length 1. T must be even.
    pub fn forward(&self, windows: Tensor<3>) -> Tensor<2> {
        let mut rows = windows;
        for (index, convolution) in self.convolutions.iter().enumerate() {
            rows = relu(convolution.forward(rows));
            if index == 1 {
                let [batch, width, length] = rows.dims();
                rows = rows.reshape([batch, width, length / 2, 2]).mean_dim(3).squeeze_dim::<3>(3);
            }
        }
        let time_points = rows.swap_dims(1, 2);
        let weights = softmax(self.attention.forward(time_points.clone()), 1);
        let pooled = (time_points * weights).sum_dim(1).squeeze_dim::<2>(1);
        unit_length(self.linear.forward(pooled))
    }
}

/// Two layers between the embedding and the contrast; dropped after training.
#[derive(Module, Debug)]
pub struct ProjectionHead {
    /// Embedding → hidden.
    pub hidden: Linear,
    /// Hidden → contrast.
    pub out: Linear,
}

impl ProjectionHead {
    /// A head with seeded random weights.
    pub fn new(before: usize, after: usize, seed: u64, device: &Device) -> Self {
        let mut make = Maker { random: SplitMix(seed), device };
        Self { hidden: make.linear(before, before), out: make.linear(before, after) }
    }

    /// Embeddings `[B,E]` → points `[B,P]` of length 1.
    pub fn forward(&self, embeddings: Tensor<2>) -> Tensor<2> {
        unit_length(self.raw(embeddings))
    }

    /// The same before normalisation to length 1.
    pub fn raw(&self, embeddings: Tensor<2>) -> Tensor<2> {
        self.out.forward(relu(self.hidden.forward(embeddings)))
    }
}
