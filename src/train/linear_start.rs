//! The network of pixels begins as a linear decoder.
//!
//! Why it exists: from few recordings a network that begins at random learns less than a linear decoder reads from the same frames. A
//! shrinkage discriminant of binned pixels in bins of time is a special case of this network; so it is fitted first, written into
//! the weights, and training goes on from there. What it must never do: see an animal that training does not see, or need more features
//! or dimensions than the network has.
//!
//! The discriminant's weights are a matrix M `[bins·classes, pixels]`. With M·Mᵀ = U·Λ·Uᵀ, the rows of Λ^−½·Uᵀ·M are the spatial filters
//! (features), and U·Λ^½ says how each is weighed in each bin for each class; the discriminant's logits are the first dimensions of the
//! embedding. Everything else keeps its random weights, made small where it meets the embedding.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, s};

use super::network::{Head, Network};
use super::settings::TrainSettings;
use super::spec::NetworkSpec;
use super::statistics::retake_statistics;
use crate::dataset::trials::{Dataset, Representation, Sample};
use crate::evaluate::pixels::{LDA_SIDE, downsample, recent_bins};
use crate::evaluate::probe::{Probe, ProbeError, ProbeOptions};
use crate::evaluate::readout::{Readout, Rows, Strengths};
use crate::evaluate::rivals::Rival;
use crate::frame::Shape;
use crate::sys::linalg::eigenvectors;

/// Samples that the discriminant is fitted to, at most.
const SAMPLES_MAX: usize = 20_000;
/// Share of the features that the discriminant may take.
const FEATURES_SHARE: f64 = 0.75;
/// Classes whose discriminant is taken over: the products of M with itself grow with their square.
const CLASSES_MAX: usize = 32;
/// An eigenvalue below this share of the largest is rounding.
const RANK_MIN: f64 = 1e-9;
/// Length of the classifier's row of a logit: with the scale of logits, embeddings of length 1 then name actions without certainty.
const CONFIDENCE: f32 = 0.5;
/// What the random weights that meet the embedding are multiplied by.
const REST: f32 = 0.05;
/// Bias of a class that no training animal performed; times the scale of logits it is never decoded.
const ABSENT_BIAS: f32 = -1.0;
/// What batch normalisation adds to a variance.
const VARIANCE_MIN: f64 = 1e-5;

/// Writes the discriminant of the labels of `data` into `network`. Nothing happens where it does not exist or does not fit in: `false`.
///
/// # Errors
/// [`ProbeError`] for frames that are not finite.
pub(super) fn begin_linear(
    network: &mut Network,
    spec: &NetworkSpec,
    data: &Dataset,
    settings: &TrainSettings,
) -> Result<bool, ProbeError> {
    let classes = data.labels.len();
    if classes < 2 || classes > CLASSES_MAX.min(spec.embedding / 2) || network.frame.norm.is_none() {
        return Ok(false);
    }
    let samples = labelled_samples(data, settings);
    let features =
        Rival::Discriminant.represent(data, &samples, settings.network.window_frames, settings.look_ahead_frames);
    let Some(probe) = discriminant(&features)? else { return Ok(false) };
    let logits_length = mean_length(&features, &probe);
    let Some(matrix) = of_pixels(&probe, spec) else { return Ok(false) };
    let (filters, weighed) = factors(&matrix, rank_max(spec));
    set_filters(network, &filters);
    retake_statistics(&network.frame, data);
    set_head(network, &weighed, &probe, logits_length);
    Ok(true)
}

/// Evenly thinned.
fn labelled_samples(data: &Dataset, settings: &TrainSettings) -> Vec<Sample> {
    let all = data.samples(settings.network.window_frames, settings.look_ahead_frames);
    let labelled: Vec<Sample> = all.into_iter().filter(|m| data.trials[m.trial].label[m.frame].is_some()).collect();
    let stride = labelled.len().div_ceil(SAMPLES_MAX).max(1);
    labelled.into_iter().step_by(stride).collect()
}

/// The discriminant that decodes training animals left out best; `None` where there is none.
fn discriminant(features: &Representation) -> Result<Option<Probe>, ProbeError> {
    let labels: Vec<usize> = features.label.iter().flatten().map(|&label| usize::from(label)).collect();
    let rows = Rows { values: features.values.view(), labels: &labels, classes: features.labels.len() };
    let (readout, options) = (Readout::Discriminant, ProbeOptions { rows_max: SAMPLES_MAX, ..ProbeOptions::default() });
    let group = if features.animals.len() > 1 { &features.animal } else { &features.trial };
    let fitted = readout
        .choose(rows, group, &Strengths::default().shrinkages, &options)
        .and_then(|shrinkage| readout.fit(rows, shrinkage, &options));
    match fitted {
        Ok(probe) if probe.trained.iter().filter(|&&trained| trained).count() > 1 => Ok(Some(probe)),
        Ok(_) | Err(ProbeError::Still | ProbeError::Empty { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Root of the mean square length of the logits of the classes that were trained.
fn mean_length(features: &Representation, probe: &Probe) -> f64 {
    let logits = probe.predict_logits(features.values.view());
    let of_trained = logits.columns().into_iter().zip(&probe.trained).filter(|(_, trained)| **trained);
    let squares: f64 = of_trained.flat_map(|(column, _)| column.to_vec()).map(|v| f64::from(v).powi(2)).sum();
    (squares / logits.nrows().max(1) as f64).sqrt().max(f64::MIN_POSITIVE)
}

/// The weights of the discriminant for the pixels that the network reads, `[bins·classes, pixels]`; `None` where these are coarser than
/// the discriminant's.
fn of_pixels(probe: &Probe, spec: &NetworkSpec) -> Option<Array2<f64>> {
    let (bin, bins) = (spec.bin_px(), recent_bins(spec.window_frames).len());
    let read = Shape::new(spec.input.channels, spec.input.height / bin, spec.input.width / bin);
    let classes = probe.weights.ncols();
    let mut impulse = vec![0.0; read.pixels()];
    let cells = downsample(&impulse, read, LDA_SIDE).len();
    if cells * bins != probe.weights.nrows() {
        return None;
    }
    let mut matrix = Array2::zeros((bins * classes, read.pixels()));
    for pixel in 0..read.pixels() {
        impulse[pixel] = 1.0;
        let shares = downsample(&impulse, read, LDA_SIDE);
        impulse[pixel] = 0.0;
        for (cell, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            for (at, class) in (0..bins * classes).map(|at| (at, at % classes)) {
                let weight = probe.weights[[at / classes * cells + cell, class]];
                matrix[[at, pixel]] += f64::from(share) * f64::from(weight);
            }
        }
    }
    Some(matrix)
}

fn rank_max(spec: &NetworkSpec) -> usize {
    ((FEATURES_SHARE * spec.features as f64) as usize).max(1)
}

/// `matrix` ≈ second · first: at most `rank` rows at right angles, and how they are weighed.
fn factors(matrix: &Array2<f64>, rank: usize) -> (Array2<f64>, Array2<f64>) {
    let mut square = matrix.dot(&matrix.t());
    let vectors = eigenvectors(&mut square);
    let mut order: Vec<usize> = (0..square.nrows()).collect();
    order.sort_by(|&a, &b| square[[b, b]].total_cmp(&square[[a, a]]));
    let least = RANK_MIN * order.first().map_or(0.0, |&first| square[[first, first]]);
    order.retain(|&at| square[[at, at]] > least);
    order.truncate(rank);
    let (mut rows, mut weighed) =
        (Array2::zeros((order.len(), matrix.ncols())), Array2::zeros((matrix.nrows(), order.len())));
    for (to, &from) in order.iter().enumerate() {
        let (vector, length) = (vectors.column(from), square[[from, from]].sqrt());
        rows.row_mut(to).assign(&(vector.dot(matrix) / length));
        weighed.column_mut(to).assign(&(&vector * length));
    }
    (rows, weighed)
}

/// The first features of a frame become the rows of `filters`.
fn set_filters(network: &mut Network, filters: &Array2<f64>) {
    let weight = &mut network.frame.linear.weight;
    let mut values = matrix_of(weight);
    values.slice_mut(s![.., ..filters.nrows()]).assign(&filters.t().mapv(|v| v as f32));
    set(weight, values);
}

/// The first dimensions of the embedding become the discriminant's logits, of mean length 1, and each names its class.
fn set_head(network: &mut Network, weighed: &Array2<f64>, probe: &Probe, logits_length: f64) {
    let (Head::Filters(head), Some(classifier), Some(norm)) =
        (&mut network.head, &mut network.classifier, &network.frame.norm)
    else {
        return;
    };
    let mean = values_of(norm.running_mean.value_sync());
    let deviation: Vec<f64> =
        values_of(norm.running_var.value_sync()).iter().map(|v| (f64::from(*v) + VARIANCE_MIN).sqrt()).collect();
    let (features, classes) = (mean.len(), probe.trained.len());
    let mut weights = matrix_of(&head.out.weight);
    weights.slice_mut(s![.., ..classes]).fill(0.0);
    weights.slice_mut(s![.., classes..]).mapv_inplace(|v| REST * v);
    let mut bias = vec![0.0_f64; weights.ncols()];
    for (class, _) in probe.trained.iter().enumerate().filter(|(_, trained)| **trained) {
        bias[class] = f64::from(probe.intercept[class]) / logits_length;
    }
    for ((at, filter), weight) in weighed.indexed_iter() {
        let (bin, class, weight) = (at / classes, at % classes, weight / logits_length);
        weights[[(1 + bin) * features + filter, class]] = (weight * deviation[filter]) as f32;
        bias[class] += weight * f64::from(mean[filter]);
    }
    set(&mut head.out.weight, weights);
    set_bias(&mut head.out, bias.into_iter().map(|v| v as f32).collect());
    let mut names = matrix_of(&classifier.weight).mapv(|v| REST * v);
    names.slice_mut(s![..classes, ..]).assign(&(Array2::<f32>::eye(classes) * CONFIDENCE));
    set(&mut classifier.weight, names);
    set_bias(classifier, probe.trained.iter().map(|&trained| if trained { 0.0 } else { ABSENT_BIAS }).collect());
}

fn values_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap_or_default()
}

fn matrix_of(weight: &Param<Tensor<2>>) -> Array2<f32> {
    let [rows, columns] = weight.val().dims();
    Array2::from_shape_vec((rows, columns), values_of(weight.val())).unwrap_or_default()
}

fn set(weight: &mut Param<Tensor<2>>, values: Array2<f32>) {
    let (shape, device) = ([values.nrows(), values.ncols()], weight.val().device());
    *weight = Param::from_data(TensorData::new(values.into_iter().collect::<Vec<f32>>(), shape), &device);
}

fn set_bias(linear: &mut Linear, values: Vec<f32>) {
    let (shape, device) = ([values.len()], linear.weight.val().device());
    linear.bias = Some(Param::from_data(TensorData::new(values, shape), &device));
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::dataset::trials::{FrameStore, Origin, Trial};
    use crate::sys::random::SplitMix;
    use crate::train::learner::Learner;
    use crate::train::represent::{represent, represent_raw};
    use crate::train::settings::{Method, Preset};

    const SIDE: usize = 32;
    const FRAMES: usize = 300;

    /// An animal that does one of two things at a time, each of which lights one corner, in noise.
    fn trial(folder: &std::path::Path, animal: usize) -> Trial {
        let mut random = SplitMix(animal as u64 + 1);
        let doing = |frame: usize| (frame / 25 + animal) % 2;
        let mut values = Vec::with_capacity(FRAMES * SIDE * SIDE);
        for frame in 0..FRAMES {
            for (y, x) in (0..SIDE * SIDE).map(|at| (at / SIDE, at % SIDE)) {
                let lit = if doing(frame) == 0 { y < 8 && x < 8 } else { y > 20 && x > 20 };
                values.push(random.signed() + if lit { 1.0 } else { 0.0 });
            }
        }
        let path = folder.join(format!("{animal}.f32"));
        std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&values)).unwrap();
        Trial {
            name: animal.to_string(),
            animal,
            frames: FrameStore::open(&path, SIDE * SIDE).unwrap(),
            usable: vec![true; FRAMES],
            behaviour: Array2::zeros((FRAMES, 1)),
            behaviour_at: (0..FRAMES as u32).collect(),
            label: (0..FRAMES).map(|frame| Some(doing(frame) as u8)).collect(),
            targets: Array2::zeros((FRAMES, 0)),
        }
    }

    fn data(folder: &std::path::Path, labels: usize) -> Dataset {
        Dataset {
            animals: vec!["a".into(), "b".into()],
            labels: ["left", "right", "never"][..labels].iter().map(|&label| label.to_owned()).collect(),
            trials: (0..2).map(|animal| trial(folder, animal)).collect(),
            targets: Vec::new(),
            behaviour_columns: vec!["0".into()],
            input: Shape::new(1, SIDE, SIDE),
            frame_rate_hz: 10.0,
            behaviour_rate_hz: 10.0,
            origin: Origin::ReadyMade { note: String::new() },
            sha256: String::new(),
            facts: Vec::new(),
        }
    }

    #[test]
    fn the_untrained_network_says_what_the_discriminant_says() {
        let folder = tempfile::tempdir().unwrap();
        let data = data(folder.path(), 3);
        let settings = TrainSettings::preset(Preset::Quick, Method::Supervised, 4);
        let spec = settings.network.spec(data.input, &data.labels).unwrap();
        let device = Device::flex();
        let mut learner = Learner::new(&spec, &settings, 2, 1, &device).unwrap();
        assert!(begin_linear(&mut learner.network, &spec, &data, &settings).unwrap());
        let samples = labelled_samples(&data, &settings);
        let features = Rival::Discriminant.represent(&data, &samples, spec.window_frames, 0);
        let probe = discriminant(&features).unwrap().unwrap();
        let (logits, length) = (probe.predict_logits(features.values.view()), mean_length(&features, &probe));
        let raw = represent_raw(&learner, &spec, 0, &data, &samples, &device);
        for (found, expected) in raw.rows().into_iter().zip(logits.rows()) {
            for class in 0..2 {
                let expected = f64::from(expected[class]) / length;
                assert!((f64::from(found[class]) - expected).abs() < 1e-4, "{} {expected}", found[class]);
            }
            assert_eq!(found[2], 0.0);
        }
        let embedded = represent(&learner, &spec, 0, &data, &samples, &device);
        let named = learner.own_classifier().unwrap().predict(embedded.values.view());
        let of_discriminant = probe.predict(features.values.view());
        let alike = named.iter().zip(&of_discriminant).filter(|(a, b)| a == b).count();
        assert!(alike as f64 > 0.98 * named.len() as f64, "{alike} of {}", named.len());
    }

    #[test]
    fn where_there_is_no_discriminant_the_network_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = data(folder.path(), 2);
        data.trials.iter_mut().for_each(|trial| trial.label = vec![Some(0); FRAMES]);
        let settings = TrainSettings::preset(Preset::Quick, Method::Supervised, 4);
        let spec = settings.network.spec(data.input, &data.labels).unwrap();
        let mut network = Network::new(&spec, 4, &Device::flex()).unwrap();
        let before = matrix_of(&network.frame.linear.weight);
        assert!(!begin_linear(&mut network, &spec, &data, &settings).unwrap());
        assert_eq!(matrix_of(&network.frame.linear.weight), before);
    }

    #[test]
    fn a_matrix_is_the_product_of_its_factors_and_few_of_them_are_the_best() {
        let mut random = SplitMix(3);
        let low = Array2::from_shape_simple_fn((6, 2), || f64::from(random.signed()));
        let wide = Array2::from_shape_simple_fn((2, 40), || f64::from(random.signed()));
        let matrix = low.dot(&wide);
        let (rows, weighed) = factors(&matrix, 5);
        assert_eq!(rows.nrows(), 2);
        let worst = |found: &Array2<f64>| found.iter().zip(&matrix).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst(&weighed.dot(&rows)) < 1e-9);
        let (one, weighed) = factors(&matrix, 1);
        assert_eq!(one.nrows(), 1);
        assert!((&weighed.dot(&one) - &matrix).iter().map(|v| v * v).sum::<f64>() < matrix.iter().map(|v| v * v).sum());
    }
}
