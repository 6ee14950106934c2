//! Everything that is trained, and what each method minimises.
//!
//! Why it exists: the exported network is the same for all methods; what is trained alongside it is not. What it must never do:
//! read data, or change the definition of the network.

use burn::module::Module;
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::Array2;

use super::batch::{Batch, Mix};
use super::behaviour::network::{BehaviourNet, ProjectionHead};
use super::loss::{self, Target};
use super::network::{Network, unit_length};
use super::seeded::Maker;
use super::settings::{Method, TrainSettings};
use super::spec::{NetworkSpec, SpecError};
use super::target_loss;
use super::time_filters::Dropout;
use crate::evaluate::probe::Probe;
use crate::sys::random::SplitMix;

/// σ² of the middle kernel of the maximum mean discrepancy: embeddings have length 1, so unrelated ones are √2 apart.
pub const MMD_VARIANCE: f64 = 0.5;

/// The network and what is trained alongside it.
#[derive(Module, Debug)]
pub struct Learner {
    /// The exported network.
    pub network: Network,
    /// The behaviour encoder.
    pub behaviour: Option<BehaviourNet>,
    /// Neural embedding → contrasted space.
    pub neural_head: Option<ProjectionHead>,
    /// Behavioural embedding → contrasted space.
    pub behaviour_head: Option<ProjectionHead>,
    /// Neural embedding → animal, behind a gradient reversal.
    pub neural_domain: Option<ProjectionHead>,
    /// Behavioural embedding → animal, behind a gradient reversal.
    pub behaviour_domain: Option<ProjectionHead>,
    /// Features of a window → its last hidden state.
    pub recurrent: Option<Gru>,
    /// Embedding → behaviour window.
    pub pose: Option<Linear>,
    /// Embedding → standardised targets.
    pub targets: Option<Linear>,
}

/// The metrics of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepMetrics {
    /// The total loss.
    pub loss: f32,
    /// Mean cosine of the two views of a sample; NaN where nothing is contrasted.
    pub similarity_paired: f32,
    /// Mean cosine of views of different samples; NaN where nothing is contrasted.
    pub similarity_others: f32,
}

/// The loss and its similarities, as tensors.
pub struct Loss {
    /// To be minimised.
    pub total: Tensor<1>,
    similarities: Option<(Tensor<1>, Tensor<1>)>,
}

impl Loss {
    fn plain(total: Tensor<1>) -> Self {
        Self { total, similarities: None }
    }

    /// As numbers.
    pub fn metrics(&self) -> StepMetrics {
        let similarities = self.similarities.as_ref();
        StepMetrics {
            loss: scalar(&self.total),
            similarity_paired: similarities.map_or(f32::NAN, |(paired, _)| scalar(paired)),
            similarity_others: similarities.map_or(f32::NAN, |(_, others)| scalar(others)),
        }
    }
}

/// The only value of a tensor; NaN if it cannot be read.
pub fn scalar(tensor: &Tensor<1>) -> f32 {
    let data = tensor.clone().into_data();
    data.try_to_vec::<f32>().ok().and_then(|v| v.first().copied()).unwrap_or(f32::NAN)
}

impl Learner {
    /// A learner with seeded random weights, for data with `animals` animals and `columns` behaviour columns.
    ///
    /// # Errors
    /// [`SpecError`] for a network that cannot be built.
    pub fn new(
        spec: &NetworkSpec,
        settings: &TrainSettings,
        animals: usize,
        columns: usize,
        device: &Device,
    ) -> Result<Self, SpecError> {
        let (method, seed) = (settings.method, settings.seed);
        let network = Network::new(spec, seed, device)?;
        let embedding = spec.embedding;
        let head = |n: u64, before: usize, after: usize| ProjectionHead::new(before, after, seed ^ (n << 32), device);
        let projects = method.contrasts() && settings.projection > 0;
        let contrast = |n| projects.then(|| head(n, embedding, settings.projection));
        let domain = |n| (method == Method::SimclrGrl).then(|| head(n, embedding, animals));
        let recurrent = (method == Method::RegressionRecurrent).then(|| gru(spec.features, embedding, seed, device));
        let regresses = matches!(method, Method::Regression | Method::RegressionRecurrent);
        let mut make = Maker { random: SplitMix(seed ^ (6 << 32)), device };
        Ok(Self {
            network,
            behaviour: method.contrasts().then(|| BehaviourNet::new(columns, embedding, seed ^ (1 << 32), device)),
            neural_head: contrast(2),
            behaviour_head: contrast(3),
            neural_domain: domain(4),
            behaviour_domain: domain(5),
            recurrent,
            pose: regresses.then(|| make.linear(embedding, columns * settings.behaviour.frames)),
            targets: None,
        })
    }

    /// The same, learning `count` targets as well. The layer begins with zeros, so that it does not disturb what the network begins with.
    #[must_use]
    pub fn with_targets(self, count: usize, spec: &NetworkSpec, device: &Device) -> Self {
        let layer = || LinearConfig::new(spec.embedding, count).with_initializer(Initializer::Zeros).init(device);
        Self { targets: (count > 0).then(layer), ..self }
    }

    /// Features of a batch's frames `[frames, D]` → its loss. `alignment` is the current weight of the terms between animals.
    pub fn loss(&self, features: Tensor<2>, batch: &Batch, settings: &TrainSettings, alignment: f64) -> Loss {
        let windows = gather_windows(features, batch, settings.network.window_frames);
        let dropout = batch.dropout.filter(|_| settings.dropout > 0.0 && self.recurrent.is_none());
        let embedding = match dropout {
            Some(seed) => {
                let mut dropout = Dropout { share: settings.dropout, random: SplitMix(seed) };
                unit_length(self.network.forward_dropping(windows, Some(&mut dropout)))
            }
            None => self.embed_windows(windows),
        };
        let read = self.targets.as_ref().filter(|_| settings.target_weight > 0.0);
        let targets =
            read.map(|layer| target_loss::squared_error(layer, embedding.clone(), batch) * settings.target_weight);
        let mut loss = match settings.method {
            Method::Linear | Method::Lda | Method::LdaAtlas => Loss::plain(embedding.sum() * 0.0),
            Method::Supervised => Loss::plain(self.supervised(embedding, batch)),
            Method::Regression | Method::RegressionRecurrent => Loss::plain(self.regression(embedding, batch)),
            _ => {
                let labels = (settings.label_weight > 0.0).then(|| self.supervised(embedding.clone(), batch));
                let mut loss = self.contrast(embedding, batch, settings, alignment);
                if let Some(labels) = labels {
                    loss.total = loss.total + labels * settings.label_weight;
                }
                loss
            }
        };
        if let Some(targets) = targets {
            loss.total = loss.total + targets;
        }
        loss
    }

    /// The read-out that was trained with the embedding, if there is one.
    pub fn own_classifier(&self) -> Option<Probe> {
        let own = self.network.classifier.as_ref()?;
        let [dimensions, labels] = own.weight.val().dims();
        let values = |data: TensorData| -> Option<Vec<f32>> {
            let values: Vec<f32> = data.try_to_vec().ok()?;
            Some(values.into_iter().map(|v| v * LOGIT_SCALE as f32).collect())
        };
        let weights = Array2::from_shape_vec((dimensions, labels), values(own.weight.val().into_data())?).ok()?;
        let intercept = match &own.bias {
            Some(bias) => values(bias.val().into_data())?,
            None => vec![0.0; labels],
        };
        Some(Probe { weights, intercept: intercept.into(), trained: vec![true; labels], outcome: None })
    }

    /// Windows of features `[B,T,D]` → representation `[B,E]`.
    pub fn embed_windows(&self, windows: Tensor<3>) -> Tensor<2> {
        let Some(recurrent) = &self.recurrent else { return self.network.forward_features(windows) };
        let [batch, length, _] = windows.dims();
        let hidden = recurrent.forward(windows, None);
        let [_, _, width] = hidden.dims();
        hidden.slice([0..batch, length - 1..length, 0..width]).reshape([batch, width])
    }

    fn supervised(&self, embedding: Tensor<2>, batch: &Batch) -> Tensor<1> {
        let of = |row: usize, window: usize, share: f32| {
            let class = batch.labels[window].map_or(0, usize::from);
            Target { row, class, weight: share * batch.label_weights[window] }
        };
        let targets = (0..batch.labels.len()).flat_map(|row| {
            let mix = batch.mix.as_ref().map_or(Mix { window: row, share: 0.0 }, |mix| mix[row]);
            [of(row, row, 1.0 - mix.share), of(row, mix.window, mix.share)]
        });
        match self.network.logits(embedding.clone()) {
            Some(logits) => loss::mixed_cross_entropy(logits * LOGIT_SCALE, targets),
            None => embedding.sum() * 0.0,
        }
    }

    fn regression(&self, embedding: Tensor<2>, batch: &Batch) -> Tensor<1> {
        let Some(pose) = &self.pose else { return embedding.sum() * 0.0 };
        let predicted = pose.forward(embedding);
        let wanted = behaviour_of(batch, &predicted.device());
        let dims = predicted.dims();
        (predicted - wanted.reshape(dims)).square().mean()
    }

    fn contrast(&self, embedding: Tensor<2>, batch: &Batch, settings: &TrainSettings, alignment: f64) -> Loss {
        let Some(behaviour) = &self.behaviour else { return Loss::plain(embedding.sum() * 0.0) };
        let other = behaviour.forward(behaviour_of(batch, &embedding.device()));
        let project = |head: &Option<ProjectionHead>, view: &Tensor<2>| match head {
            Some(head) => head.forward(view.clone()),
            None => view.clone(),
        };
        let (a, b) = (project(&self.neural_head, &embedding), project(&self.behaviour_head, &other));
        let mut total = loss::info_nce(a.clone(), b.clone(), settings.temperature);
        let neural_swap = settings.augment.neural_swap;
        if let Some(partners) = batch.partners.as_ref().filter(|_| neural_swap.probability > 0.0) {
            let second = loss::partner_nce(a.clone(), partners, settings.temperature);
            total = total + second * f64::from(neural_swap.magnitude);
        }
        let views = match settings.method {
            // Its behaviour carries no identity: poses are standardised and swapped between animals.
            Method::Haltere => vec![(embedding, &None)],
            _ => vec![(embedding, &self.neural_domain), (other, &self.behaviour_domain)],
        };
        for (view, domain) in views.into_iter().filter(|_| alignment > 0.0) {
            if let Some(extra) = between_animals(view, domain.as_ref(), batch, settings.method, alignment) {
                total = total + extra;
            }
        }
        Loss { total, similarities: Some(loss::similarities(a.detach(), b.detach())) }
    }
}

/// The term that a method adds to the contrast to align animals in one view.
fn between_animals(
    view: Tensor<2>,
    domain: Option<&ProjectionHead>,
    batch: &Batch,
    method: Method,
    alignment: f64,
) -> Option<Tensor<1>> {
    match method {
        Method::SimclrGrl => domain.map(|domain| {
            let logits = domain.raw(loss::reverse_gradient(view, alignment));
            loss::cross_entropy(logits, &batch.animals, &vec![1.0; batch.animals.len()])
        }),
        Method::SimclrMmd | Method::Haltere => Some(loss::mmd(view, &batch.animals, MMD_VARIANCE) * alignment),
        Method::SimclrCoral => {
            // The covariance of unit vectors of E dimensions is of order 1/E: scaled to the order of the contrast.
            let [_, columns] = view.dims();
            Some(loss::coral(view, &batch.animals) * (alignment * 4.0 * (columns * columns) as f64))
        }
        _ => None,
    }
}

/// Logits of embeddings of length 1 are too small to express confidence; the exported classifier is fitted separately.
const LOGIT_SCALE: f64 = 10.0;

/// A gated recurrent unit whose weights come from the seed.
fn gru(before: usize, after: usize, seed: u64, device: &Device) -> Gru {
    let mut gru = GruConfig::new(before, after, true).init(device);
    let mut make = Maker { random: SplitMix(seed ^ (7 << 32)), device };
    for gate in [&mut gru.update_gate, &mut gru.reset_gate, &mut gru.new_gate] {
        gate.input_transform = make.linear(before, after);
        gate.hidden_transform = make.linear(after, after);
    }
    gru
}

fn behaviour_of(batch: &Batch, device: &Device) -> Tensor<3> {
    let shape = [batch.samples.len(), batch.behaviour_columns, batch.behaviour_frames];
    Tensor::from_data(TensorData::new(batch.behaviour.clone(), shape), device)
}

/// Features of frames `[frames, D]` → windows `[B,T,D]`, mixed with those of other animals where the batch says so.
fn gather_windows(features: Tensor<2>, batch: &Batch, window_frames: usize) -> Tensor<3> {
    let [_, columns] = features.dims();
    let device = features.device();
    let rows: Vec<i32> =
        batch.first_frames.iter().flat_map(|&first| (first..first + window_frames).map(|row| row as i32)).collect();
    let count = rows.len();
    let index = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &device);
    let windows = features.select(0, index).reshape([batch.first_frames.len(), window_frames, columns]);
    let Some(mix) = &batch.mix else { return windows };
    let partners: Vec<i32> = mix.iter().map(|mix| mix.window as i32).collect();
    let shares: Vec<f32> = mix.iter().map(|mix| mix.share).collect();
    let index = Tensor::<1, Int>::from_data(TensorData::new(partners, [mix.len()]), &device);
    let share = Tensor::<3>::from_data(TensorData::new(shares, [mix.len(), 1, 1]), &device);
    let others = windows.clone().select(0, index);
    windows.clone() + (others - windows) * share
}
