//! Embeds every sample of a data set: the input of every probe and measure.
//!
//! Why it exists: each frame is encoded once, and each window is then made from the features, as in the daemon. What it must
//! never do: learn; it takes a network on a plain device.

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;

use super::frame_pass::{FramePass, FrameWeights};
use super::learner::Learner;
use super::spec::{NetworkKind, NetworkSpec};
use crate::dataset::trials::{Dataset, Representation, Sample};

/// Frames encoded at once.
const FRAMES_AT_ONCE: usize = 512;
/// Windows embedded at once.
const WINDOWS_AT_ONCE: usize = 512;

/// Embeds `samples` (in order of trial and frame) with a learner on a plain device.
pub fn represent(
    learner: &Learner,
    spec: &NetworkSpec,
    look_ahead_frames: usize,
    data: &Dataset,
    samples: &[Sample],
    device: &Device,
) -> Representation {
    let walk = Walk { learner, spec, look_ahead_frames, data, device };
    Representation::of(data, samples, walk.over(samples, |windows| learner.embed_windows(windows)))
}

/// The same before normalisation to length 1, `[samples, dimensions]`.
pub fn represent_raw(
    learner: &Learner,
    spec: &NetworkSpec,
    look_ahead_frames: usize,
    data: &Dataset,
    samples: &[Sample],
    device: &Device,
) -> Array2<f32> {
    let walk = Walk { learner, spec, look_ahead_frames, data, device };
    let values = walk.over(samples, |windows| learner.network.forward_raw(windows));
    Array2::from_shape_vec((samples.len(), spec.embedding), values).unwrap_or_default()
}

/// A walk over the windows of a data set.
struct Walk<'a> {
    learner: &'a Learner,
    spec: &'a NetworkSpec,
    look_ahead_frames: usize,
    data: &'a Dataset,
    device: &'a Device,
}

impl Walk<'_> {
    fn over(&self, samples: &[Sample], embed: impl Fn(Tensor<3>) -> Tensor<2>) -> Vec<f32> {
        let spec = self.spec;
        let mut values = Vec::with_capacity(samples.len() * spec.embedding);
        for of_trial in samples.chunk_by(|a, b| a.trial == b.trial) {
            let features = features_of_trial(self, of_trial[0].trial);
            for samples in of_trial.chunks(WINDOWS_AT_ONCE) {
                let mut windows = Vec::with_capacity(samples.len() * spec.window_frames * spec.features);
                for sample in samples {
                    let end = (sample.frame + self.look_ahead_frames + 1) * spec.features;
                    windows.extend_from_slice(&features[end - spec.window_frames * spec.features..end]);
                }
                let shape = [samples.len(), spec.window_frames, spec.features];
                values.extend(floats(embed(Tensor::from_data(TensorData::new(windows, shape), self.device))));
            }
        }
        values
    }
}

/// `[frames, features]` of a whole trial: on the CPU by the kernels of training, elsewhere by burn.
fn features_of_trial(walk: &Walk<'_>, trial: usize) -> Vec<f32> {
    let (frames, network) = (&walk.data.trials[trial].frames, &walk.learner.network);
    let own = *walk.device == Device::flex() && walk.spec.kind == NetworkKind::Patches;
    let ready = || FramePass::new(walk.spec).and_then(|pass| Ok((pass, FrameWeights::of(&network.frame)?)));
    let mut kernels = own.then(ready).and_then(Result::ok);
    let mut features = Vec::with_capacity(frames.len() * walk.spec.features);
    for first in (0..frames.len()).step_by(FRAMES_AT_ONCE) {
        let last = (first + FRAMES_AT_ONCE).min(frames.len());
        let pixels: Vec<f32> = (first..last).flat_map(|index| frames.frame(index)).copied().collect();
        let fast = kernels.as_mut().and_then(|(pass, weights)| pass.forward_eval(weights, &pixels).ok());
        features.extend(fast.unwrap_or_else(|| {
            let shape = walk.data.input;
            let shape = [last - first, shape.channels, shape.height, shape.width];
            floats(network.forward_frame(Tensor::from_data(TensorData::new(pixels, shape), walk.device)))
        }));
    }
    features
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap_or_default()
}
