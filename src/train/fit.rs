//! The training loop: batches in, weights out, with regular validation on held-out data and checkpoints that survive a kill.
//!
//! Why it exists: one loop for all methods, so that they differ only in what they minimise. A resumed run continues as if it had
//! never stopped: a batch depends on its step alone, and the checkpoint holds weights, optimiser and running statistics. What it
//! must never do: print, or decide where a run's folder is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::batch::{Batch, Sampler, TooShort};
use super::behaviour::Behaviour;
use super::frame_pass::burn_side::update_running;
use super::frame_pass::{FramePass, FrameWeights, PassError};
use super::learner::{Learner, StepMetrics};
use super::linear_start::begin_linear;
use super::settings::{SettingError, TrainSettings};
use super::spec::{NetworkKind, NetworkSpec, SpecError};
use super::statistics::retake_statistics;
use crate::dataset::trials::Dataset;
use crate::evaluate::probe::ProbeError;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_text_bounded};
use crate::sys::replace_folder::{ReplaceError, newest_whole, replace_folder};

/// Largest state of a training read, bytes.
const STATE_BYTES_MAX: u64 = 64 << 20;

/// Batches that are made before they are needed.
const BATCHES_AHEAD: usize = 2;
/// Batches of one validation on the held-out part.
const HELD_OUT_BATCHES: usize = 4;
/// Files of a checkpoint.
const FILES: [&str; 3] = ["learner.bpk", "optimiser.bpk", "state.toml"];

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A setting outside its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A network that cannot be made.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Too little data in a row.
    #[error(transparent)]
    TooShort(#[from] TooShort),
    /// The fast frame pass.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The linear decoder that the network begins as.
    #[error(transparent)]
    Start(#[from] ProbeError),
    /// Labels are to be learnt from, and there are none.
    #[error(
        "method `supervised`, or a `label_weight` above 0, learns from labels, but no usable frame has one: add labels or choose another method"
    )]
    NoLabels,
    /// The loss is no longer finite.
    #[error(
        "the loss became {loss} at step {step}: training diverged. The last checkpoint is still good; lower \
         `optimiser.learning_rate` (now {rate:.2e}) or look for damaged frames"
    )]
    Diverged {
        /// Which step.
        step: usize,
        /// NaN or infinite.
        loss: f32,
        /// Step size there.
        rate: f64,
    },
    /// A checkpoint cannot be written. The previous one is intact.
    #[error(transparent)]
    Save(#[from] ReplaceError),
    /// A checkpoint cannot be read.
    #[error("checkpoint {path}: {cause}: use the other checkpoint, or start again without --resume")]
    Load {
        /// Which folder.
        path: String,
        /// Why.
        cause: String,
    },
}

impl HasExitCode for FitError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Setting(error) => error.exit_code(),
            Self::Spec(error) => error.exit_code(),
            Self::TooShort(_) | Self::NoLabels => ExitCode::Source,
            Self::Diverged { .. } => ExitCode::Stage,
            Self::Save(error) => error.exit_code(),
            Self::Start(error) => error.exit_code(),
            Self::Pass(_) | Self::Load { .. } => ExitCode::Other,
        }
    }
}

/// The progress of a run, as the checkpoint keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps done.
    pub step: usize,
    /// Lowest held-out loss so far.
    pub best_loss: Option<f32>,
    /// The step it was measured after.
    pub best_step: usize,
    /// Looks since then.
    #[serde(rename = "looks_without_better")]
    pub validations_without_improvement: usize,
}

/// What the loop reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// A step was done.
    Step {
        /// Steps done.
        step: usize,
        /// Its metrics.
        metrics: StepMetrics,
        /// Step size.
        learning_rate: f64,
    },
    /// A validation on the held-out part.
    Validation {
        /// Steps done.
        step: usize,
        /// Means over the batches looked at.
        metrics: StepMetrics,
        /// The lowest so far.
        best: bool,
    },
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All steps are done.
    Done,
    /// The held-out loss has not fallen for `patience` validations.
    Early,
    /// A stop was requested; the checkpoint is written.
    Stopped,
}

/// Where a run's checkpoints go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// The one with the lowest held-out loss.
    pub best: PathBuf,
    /// The newest.
    pub last: PathBuf,
}

/// A run in progress.
pub struct Fit<'a> {
    data: &'a Dataset,
    settings: &'a TrainSettings,
    spec: NetworkSpec,
    sampler: Arc<Sampler<'a>>,
    learner: Learner,
    optimiser: ModuleOptimizer,
    device: Device,
    /// On the CPU the network of patches runs on kernels of our own.
    pass: Option<FramePass>,
    state: State,
}

impl<'a> Fit<'a> {
    /// Starts a run. `device` is a plain one; gradients are handled here.
    ///
    /// # Errors
    /// Any [`FitError`] about settings or data.
    pub fn new(
        data: &'a Dataset,
        behaviour: &'a Behaviour,
        settings: &'a TrainSettings,
        device: &Device,
    ) -> Result<Self, FitError> {
        settings.check()?;
        let spec = settings.network.spec(data.input, &data.labels)?;
        let labelled = data.trials.iter().flat_map(|t| &t.label).any(Option::is_some);
        if settings.learns_from_labels() && !labelled {
            return Err(FitError::NoLabels);
        }
        let sampler = Arc::new(Sampler::new(data, behaviour, settings)?);
        let own_kernels = *device == Device::flex();
        let device = device.clone().autodiff();
        let mut learner = Learner::new(&spec, settings, data.animals.len(), behaviour.columns, &device)?;
        learner = learner.with_targets(data.targets.len(), &spec, &device);
        if settings.linear_start && settings.learns_from_labels() {
            begin_linear(&mut learner.network, &spec, data, settings)?;
        }
        let optimiser = AdamWConfig::new().with_weight_decay(settings.optimiser.weight_decay).init();
        let pass = (own_kernels && spec.kind == NetworkKind::Patches).then(|| FramePass::new(&spec)).transpose()?;
        let state = State { step: 0, best_loss: None, best_step: 0, validations_without_improvement: 0 };
        Ok(Self { data, settings, spec, sampler, learner, optimiser, device, pass, state })
    }

    /// Continues from a checkpoint.
    ///
    /// # Errors
    /// [`FitError::Load`].
    pub fn resume(mut self, checkpoint: &Path) -> Result<Self, FitError> {
        let failed = |cause: String| FitError::Load { path: checkpoint.display().to_string(), cause };
        let [learner, optimiser, state] = FILES.map(|file| checkpoint.join(file));
        let bound = Bound::new("the state of a training", STATE_BYTES_MAX);
        let text = read_text_bounded(&state, bound).map_err(|e| failed(e.to_string()))?;
        self.state = toml::from_str(&text).map_err(|e| failed(e.to_string()))?;
        self.learner = self.learner.try_load_file(&learner).map_err(|e| failed(e.to_string()))?;
        self.optimiser = self.optimiser.load(&optimiser).map_err(|e| failed(e.to_string()))?;
        Ok(self)
    }

    /// The weights of the lowest held-out loss: those that become a model, and those that a comparison judges. The network of pixels
    /// gets the statistics of frames as they are, not as they were augmented.
    ///
    /// # Errors
    /// [`FitError::Load`].
    pub fn at_best(self, checkpoints: &Checkpoints) -> Result<Self, FitError> {
        let best = match newest_whole(&checkpoints.best) {
            Some(best) if self.state.best_step < self.state.step => self.resume(&best)?,
            _ => self,
        };
        retake_statistics(&best.learner.network.frame, best.data);
        Ok(best)
    }

    /// Writes a checkpoint, replacing the previous one.
    ///
    /// # Errors
    /// [`FitError::Save`].
    pub fn save(&self, checkpoint: &Path) -> Result<(), FitError> {
        let other = |e: &dyn std::fmt::Display| std::io::Error::other(e.to_string());
        // burn defers the newest running statistics until they are read; without this it would write those of the step before.
        drop(self.learner());
        replace_folder(checkpoint, |folder| {
            self.learner.clone().save_file(folder.join(FILES[0])).map_err(|e| other(&e))?;
            self.optimiser.save(folder.join(FILES[1])).map_err(|e| other(&e))?;
            std::fs::write(folder.join(FILES[2]), toml::to_string(&self.state).map_err(|e| other(&e))?)
        })?;
        Ok(())
    }

    /// Trains until the end, or until `stop`. Checkpoints are written to `last` after every validation and at the end, and to `best`
    /// when the held-out loss is the lowest so far.
    ///
    /// # Errors
    /// Any [`FitError`]; the last checkpoint is then still good.
    pub fn run(
        &mut self,
        checkpoints: Option<&Checkpoints>,
        stop: &AtomicBool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Ended, FitError> {
        let (sampler, steps) = (Arc::clone(&self.sampler), self.state.step..self.settings.steps);
        let (ahead, batches) = sync_channel(BATCHES_AHEAD);
        std::thread::scope(|scope| {
            // A batch depends on its step alone: it can be made while the step before is computed.
            scope.spawn(move || {
                for step in steps {
                    if ahead.send(sampler.training_batch(step)).is_err() {
                        break;
                    }
                }
            });
            // Moved, and so gone when training ends: then the other thread ends, too.
            let batches = batches;
            self.run_on(&batches, checkpoints, stop, report)
        })
    }

    fn run_on(
        &mut self,
        batches: &Receiver<Batch>,
        checkpoints: Option<&Checkpoints>,
        stop: &AtomicBool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Ended, FitError> {
        let mut ended = Ended::Done;
        while self.state.step < self.settings.steps {
            if stop.load(Relaxed) {
                ended = Ended::Stopped;
                break;
            }
            let batch = batches.recv().unwrap_or_else(|_| self.sampler.training_batch(self.state.step));
            report(self.step_on(&batch)?);
            let last = self.state.step == self.settings.steps;
            if !last && !self.state.step.is_multiple_of(self.settings.validate_every) {
                continue;
            }
            let validation = self.validate()?;
            let best = matches!(validation, Progress::Validation { best: true, .. });
            report(validation);
            if let Some(folders) = checkpoints {
                // `best` first: after a kill between the two, these steps are repeated and give the same again.
                if best {
                    self.save(&folders.best)?;
                }
                self.save(&folders.last)?;
            }
            let patience = self.settings.patience;
            if patience > 0 && self.state.validations_without_improvement >= patience {
                ended = Ended::Early;
                break;
            }
        }
        if let (Some(Checkpoints { best, last }), Ended::Stopped) = (checkpoints, ended) {
            self.save(last)?;
            if !best.exists() {
                self.save(best)?;
            }
        }
        Ok(ended)
    }

    /// One optimiser step.
    ///
    /// # Errors
    /// [`FitError::Diverged`], [`FitError::Pass`].
    pub fn step(&mut self) -> Result<Progress, FitError> {
        let batch = self.sampler.training_batch(self.state.step);
        self.step_on(&batch)
    }

    fn step_on(&mut self, batch: &Batch) -> Result<Progress, FitError> {
        let (metrics, gradients) = self.gradients(batch)?;
        let learning_rate = self.settings.optimiser.rate(self.state.step, self.settings.steps);
        if !metrics.loss.is_finite() {
            return Err(FitError::Diverged { step: self.state.step, loss: metrics.loss, rate: learning_rate });
        }
        self.learner = self.optimiser.step(learning_rate, self.learner.clone(), gradients);
        self.state.step += 1;
        Ok(Progress::Step { step: self.state.step, metrics, learning_rate })
    }

    fn gradients(&mut self, batch: &Batch) -> Result<(StepMetrics, GradientsParams), FitError> {
        let alignment = self.settings.alignment_at(self.state.step);
        let columns = self.spec.features;
        let shape = [batch.frame_count, columns];
        let Some(pass) = &mut self.pass else {
            let features = self.learner.network.forward_frame(self.frames(batch, &self.device));
            let loss = self.learner.loss(features, batch, self.settings, alignment);
            let metrics = loss.metrics();
            return Ok((metrics, GradientsParams::from_grads(loss.total.backward(), &self.learner)));
        };
        let weights = FrameWeights::of(&self.learner.network.frame)?;
        let values = pass.forward_train(&weights, &batch.frames)?;
        update_running(&self.learner.network.frame, &pass.batch_statistics());
        // A leaf of burn's graph: our kernels continue from its gradient.
        let features = Tensor::<2>::from_data(TensorData::new(values, shape), &self.device).require_grad();
        let loss = self.learner.loss(features.clone(), batch, self.settings, alignment);
        let metrics = loss.metrics();
        let mut graph = loss.total.backward();
        let backwards = features.grad_remove(&mut graph).map(|g| g.into_data().try_to_vec::<f32>().unwrap_or_default());
        let mut gradients = GradientsParams::from_grads(graph, &self.learner);
        if let Some(backwards) = backwards {
            pass.backward(&weights, &backwards)?.register(&self.learner.network.frame, &mut gradients);
        }
        Ok((metrics, gradients))
    }

    fn frames(&self, batch: &Batch, device: &Device) -> Tensor<4> {
        let shape = self.data.input;
        let sides = [batch.frame_count, shape.channels, shape.height, shape.width];
        Tensor::from_data(TensorData::new(batch.frames.clone(), sides), device)
    }

    /// The mean loss over the held-out batches, with running statistics and the augmentations of training, and with the whole
    /// weight of the alignment, so that early and late validations are comparable.
    fn validate(&mut self) -> Result<Progress, FitError> {
        let step = self.state.step;
        if !self.sampler.has_held_out() {
            (self.state.best_loss, self.state.best_step) = (None, step);
            return Ok(Progress::Validation {
                step,
                metrics: StepMetrics { loss: f32::NAN, ..StepMetrics::default() },
                best: true,
            });
        }
        let learner = self.learner.clone().valid();
        let plain = self.device.clone().without_autodiff();
        let mut all = StepMetrics::default();
        for number in 0..HELD_OUT_BATCHES {
            let batch = self.sampler.held_out_batch(number);
            let features = match &mut self.pass {
                Some(pass) => {
                    let weights = FrameWeights::of(&learner.network.frame)?;
                    let values = pass.forward_eval(&weights, &batch.frames)?;
                    Tensor::from_data(TensorData::new(values, [batch.frame_count, self.spec.features]), &plain)
                }
                None => learner.network.forward_frame(self.frames(&batch, &plain)),
            };
            let loss = learner.loss(features, &batch, self.settings, self.settings.alignment);
            let (metrics, share) = (loss.metrics(), 1.0 / HELD_OUT_BATCHES as f32);
            all.loss += share * metrics.loss;
            all.similarity_paired += share * metrics.similarity_paired;
            all.similarity_others += share * metrics.similarity_others;
        }
        let best = self.state.best_loss.is_none_or(|lowest| all.loss < lowest);
        if best {
            (self.state.best_loss, self.state.best_step) = (Some(all.loss), step);
        }
        self.state.validations_without_improvement =
            if best { 0 } else { self.state.validations_without_improvement + 1 };
        Ok(Progress::Validation { step, metrics: all, best })
    }

    /// Where the run is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is learnt, on a plain device.
    pub fn learner(&self) -> Learner {
        self.learner.clone().valid()
    }

    /// The sizes of the network.
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }
}
