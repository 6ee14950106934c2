//! The network, defined once: a small network on each frame, convolutional or linear, then a head over time on its features.
//!
//! Why it exists: training, export and the parity check all use this definition and no other. Because the frame network sees
//! one frame at a time and the head covers the window exactly (no padding), a live decoder encodes only the newest frame and keeps
//! the features of the others; both ways are the same function.
//! What it must never do: look at a frame outside the window, or draw from a random generator that is not its own: the same
//! seed gives the same weights on every device.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, PaddingConfig2d};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};

use super::seeded::Maker;
use super::spec::{NetworkKind, NetworkSpec, PATCH_PX, SpecError};
use super::time_filters::{Dropout, TimeFilters};
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
    /// The patch layer, then the halvings; none where the pixels themselves are read.
    pub blocks: Vec<Block>,
    /// Flattened map, or binned pixels → features.
    pub linear: Linear,
    /// Of the features, where there are no blocks.
    pub norm: Option<BatchNorm>,
    /// Pixels along each axis that are averaged first.
    pub bin_px: usize,
}

/// The features of a window `[B,T,D]` → embedding of length 1 `[B,E]`.
#[derive(Module, Debug)]
pub struct StreamingHead {
    /// Convolutions over time, kernel = stride, ReLU between them.
    pub convolutions: Vec<Conv1d>,
}

/// The features of a window `[B,T,D]` → embedding.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has one, and a module of burn is not boxed")]
pub enum Head {
    /// Convolutions that do not overlap.
    Strided(StreamingHead),
    /// Overlapping filters beside the mean.
    Filters(TimeFilters),
}

/// The whole network.
#[derive(Module, Debug)]
pub struct Network {
    /// Frame → features.
    pub frame: FrameNet,
    /// Features of a window → embedding.
    pub head: Head,
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
        let frame = make.frame_net(spec);
        let head = match spec.kind {
            NetworkKind::Patches => Head::Strided(make.strided(spec)),
            NetworkKind::Pixels => Head::Filters(TimeFilters::new(spec, &mut make)),
        };
        let labels = spec.labels.len();
        let classifier = (labels > 0).then(|| make.linear(spec.embedding, labels));
        Ok(Self { frame, head, classifier })
    }

    /// Frames `[B,C,H,W]` → features `[B,D]`. Batch statistics are used, and learnt, on an autodiff device only.
    pub fn forward_frame(&self, frames: Tensor<4>) -> Tensor<2> {
        let features = self.frame.linear_features(frames);
        match &self.frame.norm {
            Some(norm) => norm.forward(features),
            None => features,
        }
    }

    /// Features of windows `[B,T,D]`, oldest first → embeddings `[B,E]` of length 1.
    pub fn forward_features(&self, features: Tensor<3>) -> Tensor<2> {
        unit_length(self.forward_raw(features))
    }

    /// The same before normalisation to length 1.
    pub fn forward_raw(&self, features: Tensor<3>) -> Tensor<2> {
        self.forward_dropping(features, None)
    }

    /// The same, with values left out at random where the head has a place for that: in training.
    pub fn forward_dropping(&self, features: Tensor<3>, dropout: Option<&mut Dropout>) -> Tensor<2> {
        match &self.head {
            Head::Strided(head) => head.forward(features),
            Head::Filters(filters) => filters.forward(features, dropout),
        }
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

impl FrameNet {
    /// Frames `[B,C,H,W]` → features `[B,D]`, before their own normalisation where they have one.
    pub(super) fn linear_features(&self, frames: Tensor<4>) -> Tensor<2> {
        let mut map = frames;
        for block in &self.blocks {
            map = relu(block.norm.forward(block.convolution.forward(map)));
        }
        if self.bin_px > 1 {
            let ([frames, channels, height, width], bin) = (map.dims(), self.bin_px);
            let boxes = map.reshape([frames, channels, height / bin, bin, width / bin, bin]);
            map = boxes.mean_dim(5).mean_dim(3).reshape([frames, channels, height / bin, width / bin]);
        }
        self.linear.forward(map.flatten::<2>(1, 3))
    }
}

impl StreamingHead {
    fn forward(&self, features: Tensor<3>) -> Tensor<2> {
        let mut rows = features.swap_dims(1, 2);
        for (index, convolution) in self.convolutions.iter().enumerate() {
            if index > 0 {
                rows = relu(rows);
            }
            rows = convolution.forward(rows);
        }
        rows.flatten::<2>(1, 2)
    }
}

/// x / max(|x|, 1e-12), row by row. The bound is applied under the root, where the gradient stays finite.
pub(super) fn unit_length(rows: Tensor<2>) -> Tensor<2> {
    let norm = rows.clone().square().sum_dim(1).clamp_min(NORM_MIN * NORM_MIN).sqrt();
    rows / norm
}

impl Maker<'_> {
    fn frame_net(&mut self, spec: &NetworkSpec) -> FrameNet {
        let (mut blocks, mut before) = (Vec::new(), spec.input.channels);
        for (index, &width) in spec.widths.iter().enumerate() {
            blocks.push(self.block(before, width, index == 0));
            before = width;
        }
        let linear = self.linear(spec.flattened(), spec.features);
        match spec.kind {
            NetworkKind::Patches => FrameNet { blocks, linear, norm: None, bin_px: 1 },
            NetworkKind::Pixels => {
                let norm = Some(BatchNormConfig::new(spec.features).init(self.device));
                FrameNet { blocks, linear, norm, bin_px: spec.bin_px() }
            }
        }
    }

    fn strided(&mut self, spec: &NetworkSpec) -> StreamingHead {
        let kernels = spec.kernels().unwrap_or_default();
        let last = kernels.len().saturating_sub(1);
        let over_time = |(index, &kernel): (usize, &usize)| {
            self.over_time(spec.features, if index == last { spec.embedding } else { spec.features }, kernel)
        };
        StreamingHead { convolutions: kernels.iter().enumerate().map(over_time).collect() }
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
    use burn::tensor::TensorData;

    use super::*;
    use crate::frame::Shape;

    fn small() -> NetworkSpec {
        NetworkSpec {
            kind: NetworkKind::Patches,
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
        for (a, b) in strided(&before).convolutions.iter().zip(&strided(&after).convolutions) {
            assert!(changed(values(a.weight.val()), values(b.weight.val())));
        }
        assert!(changed(values(before.frame.linear.weight.val()), values(after.frame.linear.weight.val())));
    }

    /// A network of pixels, which it bins by two.
    fn pixels() -> NetworkSpec {
        let input = Shape::new(1, 64, 64);
        NetworkSpec { kind: NetworkKind::Pixels, input, widths: Vec::new(), window_frames: 12, ..small() }
    }

    fn strided(network: &Network) -> &StreamingHead {
        match &network.head {
            Head::Strided(head) => head,
            Head::Filters(_) => panic!("a network of pixels"),
        }
    }

    #[test]
    fn a_window_sees_each_of_its_frames() {
        let device = Device::flex();
        for spec in [small(), pixels()] {
            let network = Network::new(&spec, 7, &device).unwrap();
            let (length, side) = (spec.window_frames, spec.input.height);
            let window = noise([1, length, 1, side, side], 3, &device);
            let whole = values(network.forward_window(window.clone()));
            for frame in 0..length {
                let dark = Tensor::zeros([1, 1, 1, side, side], &device);
                let changed = window.clone().slice_assign([0..1, frame..frame + 1], dark);
                assert_ne!(values(network.forward_window(changed)), whole, "frame {frame}");
            }
        }
    }

    #[test]
    fn the_features_of_pixels_are_normalised_sums_of_binned_pixels_and_all_of_it_learns() {
        let device = Device::flex().autodiff();
        let spec = pixels();
        let network = Network::new(&spec, 7, &device).unwrap();
        let frames = noise([40, 1, 64, 64], 2, &device) + 0.5;
        let features = network.forward_frame(frames.clone());
        assert_eq!(features.dims(), [40, 8]);
        let mean = values(features.clone().mean_dim(0));
        assert!(mean.iter().all(|m| m.abs() < 1e-4), "{mean:?}");
        // A pattern within a bin is not seen.
        let plain = network.clone().valid();
        let checks: Vec<f32> = (0..64 * 64).map(|i| if (i / 64 + i) % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let checks = Tensor::<4>::from_data(TensorData::new(checks, [1, 1, 64, 64]), &Device::flex());
        let dark = values(plain.forward_frame(checks.clone() * 0.0));
        for (seen, dark) in values(plain.forward_frame(checks)).iter().zip(dark) {
            assert!((seen - dark).abs() < 1e-5);
        }
        let windows = features.slice([0..36, 0..8]).reshape([3, 12, 8]);
        let loss = network.logits(network.forward_features(windows)).unwrap().square().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        // Frame: weight, bias, scale and offset; three layers over time and the classifier: weight and bias.
        assert_eq!(gradients.len(), 4 + 4 * 2);
    }
}
