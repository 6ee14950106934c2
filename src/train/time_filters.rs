//! Filters over time that overlap: the head of the network of pixels.
//!
//! Why it exists: calcium of one bout lasts for about a second, and where in the window it begins says which action it was; so short
//! filters look at the window at many places, a long one at all of them together, and the means of a few stretches of the window, finer
//! where they are newer, stand beside both: what a linear decoder reads. All of it is matrix products, in training and in the daemon. What it must never do: look at a frame
//! outside the window.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor, TensorData};

use super::seeded::Maker;
use super::spec::{NetworkSpec, frames_read, short_frames, short_starts};
use crate::evaluate::pixels::recent_bins;
use crate::sys::random::SplitMix;

/// Features of a window `[B,T,D]` → raw embedding `[B,E]`.
#[derive(Module, Debug)]
pub struct TimeFilters {
    /// Consecutive frames, oldest first `[B,K·D]` → `[B,D]`; the same at every place. ReLU follows.
    pub short: Linear,
    /// All places, oldest first `[B,N·D]` → `[B,D]`. ReLU follows.
    pub long: Linear,
    /// What the long filters found, and the means of the window's bins, newest first `[B,(1+N)·D]` → `[B,E]`.
    pub out: Linear,
}

/// Values left out at random, from a generator of its own: a step that is repeated leaves out the same.
pub struct Dropout {
    /// Share of the values, below 1; the others are scaled up so that their sum stays.
    pub share: f32,
    /// The generator.
    pub random: SplitMix,
}

impl Dropout {
    fn apply(&mut self, rows: Tensor<2>) -> Tensor<2> {
        let ([count, width], kept) = (rows.dims(), 1.0 / (1.0 - self.share));
        let mut one = || if self.random.signed() < 2.0 * self.share - 1.0 { 0.0 } else { kept };
        let mask: Vec<f32> = (0..count * width).map(|_| one()).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [count, width]), &rows.device());
        rows * mask
    }
}

impl TimeFilters {
    /// Filters with seeded random weights.
    pub(super) fn new(spec: &NetworkSpec, make: &mut Maker<'_>) -> Self {
        let width = spec.features;
        Self {
            short: make.linear(short_frames(spec.window_frames) * width, width),
            long: make.linear(short_starts(spec.window_frames).len() * width, width),
            out: make.linear((1 + recent_bins(spec.window_frames).len()) * width, spec.embedding),
        }
    }

    /// Windows `[B,T,D]`, oldest frame first → raw embeddings `[B,E]`.
    pub fn forward(&self, windows: Tensor<3>, mut dropout: Option<&mut Dropout>) -> Tensor<2> {
        let [batch, window, width] = windows.dims();
        let mut thin_out = |rows: Tensor<2>| match &mut dropout {
            Some(dropout) => dropout.apply(rows),
            None => rows,
        };
        let rows: Vec<i32> = frames_read(window).into_iter().map(|row| row as i32).collect();
        let (places, covered) = (short_starts(window).len(), short_frames(window) * width);
        let index = TensorData::new(rows, [places * short_frames(window)]);
        let index = Tensor::<1, Int>::from_data(index, &windows.device());
        let means = means_of_bins(windows.clone());
        let read = windows.select(1, index).reshape([batch * places, covered]);
        let short = relu(self.short.forward(read)).reshape([batch, places * width]);
        let long = relu(self.long.forward(thin_out(short)));
        self.out.forward(thin_out(Tensor::cat(vec![long, means], 1)))
    }
}

/// Windows `[B,T,D]`, oldest frame first → the means of their bins `[B,N·D]`, newest first.
fn means_of_bins(windows: Tensor<3>) -> Tensor<2> {
    let [batch, window, width] = windows.dims();
    let mut end = window;
    let mean = |frames: usize| {
        let bin = windows.clone().slice([0..batch, end - frames..end, 0..width]);
        end -= frames;
        bin.mean_dim(1).reshape([batch, width])
    };
    Tensor::cat(recent_bins(window).into_iter().map(mean).collect(), 1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::frame::Shape;
    use crate::train::spec::NetworkKind;

    fn spec() -> NetworkSpec {
        NetworkSpec {
            kind: NetworkKind::Pixels,
            widths: Vec::new(),
            features: 3,
            embedding: 2,
            ..NetworkSpec::for_input(Shape::new(1, 32, 32))
        }
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Rows × matrix + bias in plain loops, burn's layout `[in, out]`.
    fn product(rows: &[f32], linear: &Linear) -> Vec<f64> {
        let [inputs, outputs] = linear.weight.val().dims();
        let (weight, bias) = (values(linear.weight.val()), values(linear.bias.as_ref().unwrap().val()));
        let one = |o: usize| {
            (0..inputs).map(|i| f64::from(rows[i]) * f64::from(weight[i * outputs + o])).sum::<f64>()
                + f64::from(bias[o])
        };
        (0..outputs).map(one).collect()
    }

    #[test]
    fn they_are_the_causal_convolutions_of_eight_frames_and_of_nine_places_three_apart() {
        let device = Device::flex();
        let filters = TimeFilters::new(&spec(), &mut Maker { random: SplitMix(4), device: &device });
        let mut random = SplitMix(9);
        let window: Vec<f32> = (0..32 * 3).map(|_| random.signed()).collect();
        let positive = |v: Vec<f64>| v.into_iter().map(|v| v.max(0.0) as f32).collect::<Vec<f32>>();
        // Newest frame of each place: 31, 28, … 7; each sees the eight frames up to its own.
        let places = (0..9).rev().map(|back| 31 - 3 * back);
        let short: Vec<f32> = places
            .flat_map(|newest| positive(product(&window[(newest - 7) * 3..(newest + 1) * 3], &filters.short)))
            .collect();
        let mut joined = positive(product(&short, &filters.long));
        for bin in [30..32, 28..30, 24..28, 19..24, 11..19, 0..11] {
            let frames = bin.len() as f32;
            joined.extend((0..3).map(|column| bin.clone().map(|row| window[row * 3 + column]).sum::<f32>() / frames));
        }
        let expected = product(&joined, &filters.out);
        let found = values(filters.forward(Tensor::from_data(TensorData::new(window, [1, 32, 3]), &device), None));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn what_is_left_out_depends_on_the_generator_alone_and_the_mean_stays() {
        let device = Device::flex();
        let ones = || Tensor::<2>::ones([200, 50], &device);
        let left = |seed| values(Dropout { share: 0.3, random: SplitMix(seed) }.apply(ones()));
        assert_eq!(left(1), left(1));
        assert_ne!(left(1), left(2));
        let none = left(1).iter().filter(|v| **v == 0.0).count() as f32 / 1e4;
        let mean = left(1).iter().sum::<f32>() / 1e4;
        assert!((none - 0.3).abs() < 0.02 && (mean - 1.0).abs() < 0.03, "{none} {mean}");
    }
}
