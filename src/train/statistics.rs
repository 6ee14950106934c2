//! Statistics of a trained network's features, taken again on frames as they are.
//!
//! Why it exists: the running statistics of training are those of augmented frames, and of the last few batches; what the daemon
//! normalises by must be that of frames as it sees them. What it must never do: see a label, or change a weight.

use burn::tensor::{Tensor, TensorData};

use super::network::FrameNet;
use crate::dataset::trials::Dataset;

/// Frames that statistics are taken from, at most.
const FRAMES_MAX: usize = 8192;
/// Frames encoded at once.
const FRAMES_AT_ONCE: usize = 512;

/// Sets the running mean and variance of the features to those of frames of `data`, evenly thinned. Nothing to do for a network of patches.
pub(super) fn retake_statistics(frame: &FrameNet, data: &Dataset) {
    let Some(norm) = &frame.norm else { return };
    let total: usize = data.trials.iter().map(|trial| trial.frames.len()).sum();
    let stride = total.div_ceil(FRAMES_MAX).max(1);
    let chosen: Vec<&[f32]> = data
        .trials
        .iter()
        .flat_map(|trial| {
            let usable = (0..trial.frames.len()).step_by(stride).filter(|&index| trial.usable[index]);
            usable.map(|index| trial.frames.frame(index))
        })
        .collect();
    let device = norm.gamma.val().device();
    let width = norm.gamma.val().dims()[0];
    let (mut sums, mut squares) = (vec![0.0_f64; width], vec![0.0_f64; width]);
    for frames in chosen.chunks(FRAMES_AT_ONCE) {
        let shape = [frames.len(), data.input.channels, data.input.height, data.input.width];
        let pixels = Tensor::from_data(TensorData::new(frames.concat(), shape), &device);
        let features: Vec<f32> = frame.linear_features(pixels).into_data().try_to_vec().unwrap_or_default();
        for row in features.chunks_exact(width) {
            for (column, &value) in row.iter().enumerate() {
                sums[column] += f64::from(value);
                squares[column] += f64::from(value).powi(2);
            }
        }
    }
    if chosen.is_empty() {
        return;
    }
    let count = chosen.len() as f64;
    let mean: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
    let variance: Vec<f32> = squares.iter().zip(&mean).map(|(s, m)| (s / count - m * m).max(0.0) as f32).collect();
    let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
    for (state, values) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
        // Read first: burn defers updates until they are read, and the newest must be this one.
        let before = state.value_sync();
        state.update(Tensor::from_data(TensorData::new(values, [width]), &before.device()).detach());
    }
}
