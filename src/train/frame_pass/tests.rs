//! Method: burn's own network is the oracle for values and gradients, finite differences for the derivation itself.

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::burn_side::{step_gradients, update_running};
use super::*;
use crate::frame::Shape;
use crate::sys::random::SplitMix;
use crate::train::network::Head;
use crate::train::{Network, NetworkKind};

/// Largest difference to burn, relative to the largest value of the tensor: both sum 10⁴ products in single precision, in
/// another order.
const TOLERANCE: f32 = 1e-4;

fn spec(channels: usize, height: usize, width: usize, widths: &[usize], features: usize) -> NetworkSpec {
    NetworkSpec {
        kind: NetworkKind::Patches,
        input: Shape::new(channels, height, width),
        widths: widths.to_vec(),
        features,
        window_frames: 2,
        embedding: 5,
        labels: Vec::new(),
    }
}

/// The cases: one and two channels, odd maps (9×11 → 5×6 → 3×3), widths that need padding and widths that do not, counts
/// that fill no slice and no block evenly.
fn cases() -> Vec<(NetworkSpec, usize)> {
    vec![
        (spec(1, 64, 64, &[24, 48, 64], 64), 35),
        (spec(2, 36, 44, &[6, 10, 16], 7), 53),
        (spec(1, 32, 64, &[16, 40, 12], 20), 3),
        (spec(2, 128, 32, &[8, 24, 8, 8], 8), 17),
    ]
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix(seed);
    (0..count).map(|_| random.signed() + 0.3).collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn assert_close(own: &[f32], burn: &[f32], what: &str) {
    assert_eq!(own.len(), burn.len(), "{what}");
    let largest = burn.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = own.iter().zip(burn).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= TOLERANCE * largest, "{what}: {worst} of {largest}");
}

/// A network whose normalisation is not at its start values.
fn network(spec: &NetworkSpec, device: &Device) -> Network {
    let mut network = Network::new(spec, 3, device).unwrap();
    for (index, block) in network.frame.blocks.iter_mut().enumerate() {
        let gamma: Vec<f32> = noise(spec.widths[index], 11).iter().map(|v| 1.0 + 0.3 * v).collect();
        let beta = noise(spec.widths[index], 12);
        block.norm.gamma = Param::from_data(TensorData::new(gamma, [spec.widths[index]]), device);
        block.norm.beta = Param::from_data(TensorData::new(beta, [spec.widths[index]]), device);
    }
    network
}

fn loss(features: Tensor<2>, target: &[f32]) -> Tensor<1> {
    let target = tensor(target, features.dims(), &features.device());
    (features * target).sum()
}

#[test]
fn features_gradients_and_running_statistics_equal_those_of_burn() {
    for (spec, count) in cases() {
        let device = Device::flex().autodiff();
        // Running statistics are shared by clones, so that each side gets a network of its own.
        let (mine, theirs) = (network(&spec, &device), network(&spec, &device));
        let Shape { channels, height, width } = spec.input;
        let frames = noise(count * spec.input.pixels(), 5);
        let target = noise(count * spec.features, 6);

        let features = theirs.forward_frame(tensor(&frames, [count, channels, height, width], &device));
        let gradients = loss(features.clone(), &target).backward();
        let gradients = GradientsParams::from_grads(gradients, &theirs);

        let mut pass = FramePass::new(&spec).unwrap();
        let weights = FrameWeights::of(&mine.frame).unwrap();
        assert_close(
            &pass.forward_train(&weights, &frames).unwrap(),
            &values(features),
            &format!("features of {spec:?}"),
        );
        let own = pass.backward(&weights, &target).unwrap();
        for (index, (block, layer)) in theirs.frame.blocks.iter().zip(&own.layers).enumerate() {
            let of = |name: &str| format!("{name} of layer {index} of {spec:?}");
            assert_close(
                &layer.convolution,
                &values(gradients.get::<4>(block.convolution.weight.id).unwrap()),
                &of("weights"),
            );
            assert_close(&layer.gamma, &values(gradients.get::<1>(block.norm.gamma.id).unwrap()), &of("gamma"));
            assert_close(&layer.beta, &values(gradients.get::<1>(block.norm.beta.id).unwrap()), &of("beta"));
        }
        let linear = &theirs.frame.linear;
        assert_close(&own.linear, &values(gradients.get::<2>(linear.weight.id).unwrap()), "linear weights");
        assert_close(&own.bias, &values(gradients.get::<1>(linear.bias.as_ref().unwrap().id).unwrap()), "linear bias");

        update_running(&mine.frame, &pass.batch_statistics());
        let (mine, theirs) = (mine.valid(), theirs.valid());
        for (mine, theirs) in mine.frame.blocks.iter().zip(&theirs.frame.blocks) {
            let (mine, theirs) = (&mine.norm, &theirs.norm);
            assert_close(&values(mine.running_mean.value()), &values(theirs.running_mean.value()), "running mean");
            assert_close(&values(mine.running_var.value()), &values(theirs.running_var.value()), "running variance");
        }
    }
}

#[test]
fn evaluation_equals_the_network_off_the_autodiff_device() {
    for (spec, count) in cases() {
        let device = Device::flex().autodiff();
        let learnt = network(&spec, &device);
        let Shape { channels, height, width } = spec.input;
        let frames = noise(count * spec.input.pixels(), 5);
        let mut pass = FramePass::new(&spec).unwrap();
        pass.forward_train(&FrameWeights::of(&learnt.frame).unwrap(), &frames).unwrap();
        update_running(&learnt.frame, &pass.batch_statistics());
        let plain = learnt.valid();
        let weights = FrameWeights::of(&plain.frame).unwrap();
        assert_ne!(weights.layers[0].running_mean, vec![0.0; spec.widths[0]]);
        let shape = [count, channels, height, width];
        let expected = values(plain.forward_frame(tensor(&frames, shape, &Device::flex())));
        assert_close(&pass.forward_eval(&weights, &frames).unwrap(), &expected, &format!("{spec:?}"));
        // The batch of training is gone: a gradient of it cannot be asked for any more.
        let error = pass.backward(&weights, &expected).unwrap_err().to_string();
        assert!(error.contains("gradient of the features"), "{error}");
    }
}

#[test]
fn evaluation_of_many_frames_equals_that_of_each_frame() {
    let spec = spec(1, 32, 32, &[4, 4], 3);
    let weights = FrameWeights::of(&network(&spec, &Device::flex()).frame).unwrap();
    let frames = noise((EVAL_FRAMES + 3) * spec.input.pixels(), 8);
    let mut pass = FramePass::new(&spec).unwrap();
    let all = pass.forward_eval(&weights, &frames).unwrap();
    for index in [0, 100, EVAL_FRAMES - 1, EVAL_FRAMES, EVAL_FRAMES + 2] {
        let frame = &frames[index * spec.input.pixels()..][..spec.input.pixels()];
        assert_eq!(pass.forward_eval(&weights, frame).unwrap(), all[index * 3..index * 3 + 3], "frame {index}");
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let spec = spec(1, 32, 32, &[3, 2], 2);
    let weights = FrameWeights::of(&network(&spec, &Device::flex()).frame).unwrap();
    let (count, mut pass) = (40, FramePass::new(&spec).unwrap());
    let (frames, target) = (noise(count * spec.input.pixels(), 5), noise(count * 2, 6));
    pass.forward_train(&weights, &frames).unwrap();
    let gradients = pass.backward(&weights, &target).unwrap();
    let mut loss = |weights: &FrameWeights| -> f64 {
        let features = pass.forward_train(weights, &frames).unwrap();
        features.iter().zip(&target).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    type Part = fn(&mut FrameWeights) -> &mut Vec<f32>;
    let parts: [(&str, Part, &[f32]); 6] = [
        ("patch weights", |w| &mut w.layers[0].convolution, &gradients.layers[0].convolution),
        ("3×3 weights", |w| &mut w.layers[1].convolution, &gradients.layers[1].convolution),
        ("gamma", |w| &mut w.layers[0].gamma, &gradients.layers[0].gamma),
        ("beta", |w| &mut w.layers[1].beta, &gradients.layers[1].beta),
        ("linear", |w| &mut w.linear, &gradients.linear),
        ("bias", |w| &mut w.bias, &gradients.bias),
    ];
    for (name, part, gradient) in parts {
        let scale = gradient.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for index in (0..gradient.len()).step_by(gradient.len().div_ceil(7)) {
            let mut moved = |step: f32| {
                let mut weights = weights.clone();
                part(&mut weights)[index] += step;
                loss(&weights)
            };
            // Kinks of ReLU inside the step and single precision: some per cent of the largest.
            let difference = (moved(3e-4) - moved(-3e-4)) / 6e-4;
            let error = (difference as f32 - gradient[index]).abs();
            assert!(error < 0.03 * scale, "{name} {index}: {difference} by difference, {} by kernel", gradient[index]);
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let spec = spec(2, 36, 44, &[6, 10, 16], 7);
    let weights = FrameWeights::of(&network(&spec, &Device::flex()).frame).unwrap();
    let (frames, target) = (noise(53 * spec.input.pixels(), 5), noise(53 * 7, 6));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut pass = FramePass::new(&spec).unwrap();
            let features = pass.forward_train(&weights, &frames).unwrap();
            (features, pass.backward(&weights, &target).unwrap())
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn a_batch_leaves_nothing_behind_in_the_next() {
    let spec = spec(1, 36, 44, &[6, 10, 16], 7);
    let weights = FrameWeights::of(&network(&spec, &Device::flex()).frame).unwrap();
    let (frames, target) = (noise(21 * spec.input.pixels(), 5), noise(21 * 7, 6));
    let (mut used, mut fresh) = (FramePass::new(&spec).unwrap(), FramePass::new(&spec).unwrap());
    let other = noise(64 * spec.input.pixels(), 9);
    used.forward_train(&weights, &other).unwrap();
    used.backward(&weights, &noise(64 * 7, 10)).unwrap();
    used.forward_eval(&weights, &other).unwrap();
    for pass in [&mut used, &mut fresh] {
        pass.forward_train(&weights, &frames).unwrap();
    }
    assert_eq!(used.backward(&weights, &target).unwrap(), fresh.backward(&weights, &target).unwrap());
}

#[test]
fn a_step_changes_the_same_weights_as_burn_alone() {
    let spec = NetworkSpec { window_frames: 4, ..spec(1, 32, 32, &[4, 6], 8) };
    let device = Device::flex().autodiff();
    let (mine, theirs) = (network(&spec, &device), network(&spec, &device));
    let frames = noise(12 * spec.input.pixels(), 5);
    let mut pass = FramePass::new(&spec).unwrap();
    let head = |network: &Network, features: Tensor<2>| -> Tensor<1> {
        let embeddings = network.forward_features(features.reshape([3, 4, 8]));
        (embeddings - 0.1).abs().sum()
    };
    let (value, gradients) = step_gradients(&mut pass, &mine, &frames, |f| head(&mine, f)).unwrap();
    let expected = head(&theirs, theirs.forward_frame(tensor(&frames, [12, 1, 32, 32], &device)));
    assert_close(&[value], &values(expected.clone()), "loss");
    let burn = GradientsParams::from_grads(expected.backward(), &theirs);
    assert_eq!(gradients.len(), burn.len(), "a parameter without gradient");
    let mine = SgdConfig::new().init().step(0.1, mine, gradients).valid();
    let theirs = SgdConfig::new().init().step(0.1, theirs, burn).valid();
    for (a, b) in mine.frame.blocks.iter().zip(&theirs.frame.blocks) {
        assert_close(&values(a.convolution.weight.val()), &values(b.convolution.weight.val()), "convolution");
        assert_close(&values(a.norm.running_var.value()), &values(b.norm.running_var.value()), "running variance");
    }
    let [mine, theirs] = [&mine, &theirs].map(|network| match &network.head {
        Head::Strided(head) => &head.convolutions,
        Head::Filters(_) => panic!("a network of pixels"),
    });
    for (a, b) in mine.iter().zip(theirs) {
        assert_close(&values(a.weight.val()), &values(b.weight.val()), "head");
    }
}

#[test]
fn not_a_number_in_a_frame_is_seen_in_the_features() {
    let spec = spec(1, 32, 32, &[4, 6], 8);
    let weights = FrameWeights::of(&network(&spec, &Device::flex()).frame).unwrap();
    let mut frames = noise(4 * spec.input.pixels(), 5);
    frames[2000] = f32::NAN;
    let features = FramePass::new(&spec).unwrap().forward_train(&weights, &frames).unwrap();
    assert!(features.iter().all(|v| v.is_nan()), "the batch's statistics carry it to every frame");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let spec = spec(1, 32, 32, &[4, 6], 8);
    let weights = FrameWeights::of(&network(&spec, &Device::flex()).frame).unwrap();
    let mut pass = FramePass::new(&spec).unwrap();
    let frames = noise(4 * spec.input.pixels(), 5);
    let message = |error: Result<Vec<f32>, PassError>| error.unwrap_err().to_string();
    assert!(message(pass.forward_train(&weights, &frames[1..])).contains("frames: 4095 values"));
    assert!(
        message(pass.forward_train(&weights, &[])).contains("1×32×32"),
        "{}",
        message(pass.forward_eval(&weights, &[]))
    );
    let mut wrong = weights.clone();
    wrong.layers[1].convolution.pop();
    assert!(message(pass.forward_train(&wrong, &frames)).contains("weights of layer 1: 215 values"));
    let error = pass.backward(&weights, &[0.0; 32]).unwrap_err().to_string();
    assert!(error.contains("0 frames of the last batch"), "{error}");
}
