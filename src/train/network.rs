//! The network, defined once: a small convolutional network on each frame, then convolutions over time on its features.
//!
//! Why it exists: training, export and the parity check all use this definition and no other. Because the frame network sees
//! one frame at a time and the convolutions over time cover the window exactly (kernel = stride, no padding), a live decoder
//! encodes only the newest frame and keeps the features of the others; both ways are the same function.
//! What it must never do: look at a frame outside the window, or draw from a random generator that is not its own: the same
//! seed gives the same weights on every device.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use super::spec::{NetworkSpec, PATCH_PX, SpecError};
use crate::sys::random::SplitMix;

/// Smallest length an embedding is divided by, so that a zero vector stays zero.
pub const NORM_MIN: f64 = 1e-12;

/// One layer of the frame network: convolution without bias, batch normalisation; ReLU follows.
#[derive(Module, Debug)]
pub struct Block {
    /// 4×4 stride 4, or 3×3 stride 2 with one pixel of padding.
    pub convolution: Conv2d,
    /// Statistics over batch and space; running ones outside training.
    pub norm: BatchNorm,
}

/// One frame `[B,C,H,W]` → features `[B,D]`.
#[derive(Module, Debug)]
pub struct FrameNet {
    /// The patch layer, then the halvings.
    pub blocks: Vec<Block>,
    /// Flattened map → features.
    pub linear: Linear,
}

/// The features of a window `[B,T,D]` → embedding of length 1 `[B,E]`.
#[derive(Module, Debug)]
pub struct StreamingHead {
    /// Convolutions over time, kernel = stride, ReLU between them.
    pub convolutions: Vec<Conv1d>,
}

/// The whole network.
#[derive(Module, Debug)]
pub struct Network {
    /// Frame → features.
    pub frame: FrameNet,
    /// Features of a window → embedding.
    pub head: StreamingHead,
    /// Embedding → one logit for each label; `None` without labels.
    pub classifier: Option<Linear>,
}

impl Network {
    /// A network with seeded random weights (uniform, He). Make it on an autodiff device to train it.
    ///
    /// The weights come from a generator of our own in plain arithmetic: the same seed gives the same bytes on every device
    /// and backend of burn.
    ///
    /// # Errors
    /// [`SpecError`] for a network that cannot be built.
    pub fn new(spec: &NetworkSpec, seed: u64, device: &Device) -> Result<Self, SpecError> {
        spec.check()?;
        let mut make = Maker { random: SplitMix(seed), device };
        let (mut blocks, mut before) = (Vec::new(), spec.input.channels);
        for (index, &width) in spec.widths.iter().enumerate() {
            blocks.push(make.block(before, width, index == 0));
            before = width;
        }
        let frame = FrameNet { blocks, linear: make.linear(spec.flattened(), spec.features) };
        let kernels = spec.kernels().unwrap_or_default();
        let last = kernels.len().saturating_sub(1);
        let over_time = |(index, &kernel): (usize, &usize)| {
            make.over_time(spec.features, if index == last { spec.embedding } else { spec.features }, kernel)
        };
        let head = StreamingHead { convolutions: kernels.iter().enumerate().map(over_time).collect() };
        let labels = spec.labels.len();
        let classifier = (labels > 0).then(|| make.linear(spec.embedding, labels));
        Ok(Self { frame, head, classifier })
    }

    /// Frames `[B,C,H,W]` → features `[B,D]`. Batch statistics are used, and learnt, on an autodiff device only.
    pub fn forward_frame(&self, frames: Tensor<4>) -> Tensor<2> {
        let mut map = frames;
        for block in &self.frame.blocks {
            map = relu(block.norm.forward(block.convolution.forward(map)));
        }
        self.frame.linear.forward(map.flatten::<2>(1, 3))
    }

    /// Features of windows `[B,T,D]`, oldest first → embeddings `[B,E]` of length 1.
    pub fn forward_features(&self, features: Tensor<3>) -> Tensor<2> {
        unit_length(self.forward_raw(features))
    }

    /// The same before normalisation to length 1.
    pub fn forward_raw(&self, features: Tensor<3>) -> Tensor<2> {
        let mut rows = features.swap_dims(1, 2);
        for (index, convolution) in self.head.convolutions.iter().enumerate() {
            if index > 0 {
                rows = relu(rows);
            }
            rows = convolution.forward(rows);
        }
        rows.flatten::<2>(1, 2)
    }

    /// Windows `[B,T,C,H,W]`, oldest frame first → embeddings `[B,E]` of length 1.
    pub fn forward_window(&self, windows: Tensor<5>) -> Tensor<2> {
        let [batch, frames, channels, height, width] = windows.dims();
        let features = self.forward_frame(windows.reshape([batch * frames, channels, height, width]));
        let [_, columns] = features.dims();
        self.forward_features(features.reshape([batch, frames, columns]))
    }

    /// Embeddings `[B,E]` → logits `[B,L]`; `None` without labels.
    pub fn logits(&self, embeddings: Tensor<2>) -> Option<Tensor<2>> {
        self.classifier.as_ref().map(|classifier| classifier.forward(embeddings))
    }

    /// Embeddings `[B,E]` → probabilities `[B,L]`; `None` without labels.
    pub fn probabilities(&self, embeddings: Tensor<2>) -> Option<Tensor<2>> {
        self.logits(embeddings).map(|logits| softmax(logits, 1))
    }
}

/// x / max(|x|, 1e-12), row by row. The bound is applied under the root, where the gradient stays finite.
pub(super) fn unit_length(rows: Tensor<2>) -> Tensor<2> {
    let norm = rows.clone().square().sum_dim(1).clamp_min(NORM_MIN * NORM_MIN).sqrt();
    rows / norm
}

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

    fn block(&mut self, before: usize, width: usize, patches: bool) -> Block {
        let (kernel, stride, padding) = if patches { (PATCH_PX, PATCH_PX, 0) } else { (3, 2, 1) };
        let mut convolution = Conv2dConfig::new([before, width], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .with_bias(false)
            .with_initializer(Initializer::Zeros)
            .init(self.device);
        convolution.weight = self.weights([width, before, kernel, kernel], before * kernel * kernel);
        Block { convolution, norm: BatchNormConfig::new(width).init(self.device) }
    }

    /// Weights as above, a bias of zero.
    pub(super) fn linear(&mut self, before: usize, after: usize) -> Linear {
        let mut linear = LinearConfig::new(before, after).with_initializer(Initializer::Zeros).init(self.device);
        linear.weight = self.weights([before, after], before);
        linear
    }

    fn over_time(&mut self, before: usize, after: usize, kernel: usize) -> Conv1d {
        let config = Conv1dConfig::new(before, after, kernel).with_stride(kernel);
        let mut convolution = config.with_initializer(Initializer::Zeros).init(self.device);
        convolution.weight = self.weights([after, before, kernel], before * kernel);
        convolution
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::{GradientsParams, SgdConfig};

    use super::*;
    use crate::frame::Shape;

    fn small() -> NetworkSpec {
        NetworkSpec {
            input: Shape::new(1, 32, 32),
            widths: vec![4, 6],
            features: 8,
            window_frames: 6,
            embedding: 5,
            labels: vec!["rest".into(), "walk".into(), "groom".into()],
        }
    }

    fn noise<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
        let mut random = SplitMix(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.signed()).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn embeddings_have_length_one_and_probabilities_sum_to_one() {
        let device = Device::flex();
        let network = Network::new(&small(), 7, &device).unwrap();
        let embeddings = network.forward_window(noise([3, 6, 1, 32, 32], 1, &device));
        assert_eq!(embeddings.dims(), [3, 5]);
        for norm in values(embeddings.clone().square().sum_dim(1)) {
            assert!((norm - 1.0).abs() < 1e-6, "{norm}");
        }
        for sum in values(network.probabilities(embeddings).unwrap().sum_dim(1)) {
            assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        }
        assert_eq!(values(unit_length(Tensor::zeros([1, 3], &device))), [0.0; 3]);
    }

    #[test]
    fn a_step_of_training_changes_every_weight_and_the_running_statistics() {
        let device = Device::flex().autodiff();
        let network = Network::new(&small(), 7, &device).unwrap();
        let windows = noise([4, 6, 1, 32, 32], 2, &device) + 0.5;
        let logits = network.logits(network.forward_window(windows)).unwrap();
        let loss = logits.square().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let before = network.clone().valid();
        let mut optimiser = SgdConfig::new().init();
        let after = optimiser.step(0.1, network, gradients).valid();
        let changed = |a: Vec<f32>, b: Vec<f32>| a != b && b.iter().all(|v| v.is_finite());
        for (a, b) in before.frame.blocks.iter().zip(&after.frame.blocks) {
            assert!(changed(values(a.convolution.weight.val()), values(b.convolution.weight.val())));
            assert!(changed(values(a.norm.beta.val()), values(b.norm.beta.val())));
            assert!(changed(vec![0.0; a.norm.running_mean.value().dims()[0]], values(b.norm.running_mean.value())));
        }
        for (a, b) in before.head.convolutions.iter().zip(&after.head.convolutions) {
            assert!(changed(values(a.weight.val()), values(b.weight.val())));
        }
        assert!(changed(values(before.frame.linear.weight.val()), values(after.frame.linear.weight.val())));
    }

    #[test]
    fn a_window_sees_each_of_its_frames() {
        let device = Device::flex();
        let network = Network::new(&small(), 7, &device).unwrap();
        let window = noise([1, 6, 1, 32, 32], 3, &device);
        let whole = values(network.forward_window(window.clone()));
        for frame in 0..6 {
            let changed =
                window.clone().slice_assign([0..1, frame..frame + 1], Tensor::zeros([1, 1, 1, 32, 32], &device));
            assert_ne!(values(network.forward_window(changed)), whole, "frame {frame}");
        }
    }
}
