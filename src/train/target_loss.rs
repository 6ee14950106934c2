//! The loss of the targets that an encoder learns beside its method's own loss.
//!
//! What it must never do: learn from a target that is not known.

use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};

use super::batch::{Batch, Mix};

/// Embeddings have length 1; what is read from them should be at the scale of the targets.
const SCALE: f64 = 10.0;

/// Mean squared error of what `layer` reads from the embeddings `[windows, E]`, over the targets that are known.
pub(super) fn squared_error(layer: &Linear, embedding: Tensor<2>, batch: &Batch) -> Tensor<1> {
    let read = layer.forward(embedding) * SCALE;
    let [windows, count] = read.dims();
    let at = |window: usize, target: usize| batch.targets[window * count + target];
    let (mut wanted, mut known) = (Vec::with_capacity(windows * count), Vec::with_capacity(windows * count));
    for window in 0..windows {
        let mix = batch.mix.as_ref().map_or(Mix { window, share: 0.0 }, |mix| mix[window]);
        for target in 0..count {
            let value = at(window, target) * (1.0 - mix.share) + at(mix.window, target) * mix.share;
            wanted.push(if value.is_finite() { value } else { 0.0 });
            known.push(f32::from(u8::from(value.is_finite())));
        }
    }
    let device = read.device();
    let total = known.iter().sum::<f32>().max(1.0);
    let of = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [windows, count]), &device);
    ((read - of(wanted)).square() * of(known)).sum() / f64::from(total)
}
