//! Preprocessing on the CPU: the steps in their order. The oracle for every other implementation.
//!
//! Why it exists: each step knows its own arithmetic; this module defines their order, what is learnt when, and which frames are
//! accepted. What it must never do: choose parameters, or change any state for a frame that it rejects.
//!
//! **Warm-up.** Until the line phase is known, the first template is ready and, with an atlas, the animal's placement is found, frames
//! are not all corrected, registered and laid on the atlas.
//! They still become tensors (marked `warming_up`), but what F₀ and the statistics learn from them is discarded at the first
//! registered frame. While a template is being *renewed*, the old one stays in use and nothing is discarded.
//!
//! **Frames that are not believed.** A frame is judged first, from its raw counts, and once more when its correlation peak is known.
//! One that is not believed changes nothing that was learnt, and has no tensor.
//!
//! **A saved state that is taken up** stands where all this was learnt when it was saved, and is on trial for the first frames that show
//! a picture; they are no warm-up. If they do not match it, the next frame is the first of an animal of which nothing is known.

use super::accept::check_frame;
use super::affine::AffineResampler;
use super::average::Average;
use super::baseline::Baseline;
use super::convert::{convert, planes};
use super::host::{Host, Progress};
use super::line_phase::correct;
use super::normalise::Normalise;
use super::placement::Placer;
use super::resample::{FieldResampler, Resampler};
use super::simd::Simd;
use super::tracker::Tracker;
use super::{Prepared, Preprocess, PreprocessError, Request, TakeUpError, Template, memory};
use crate::cuda::Fault;
use crate::frame::placement::Placement;
use crate::frame::{
    AnimalState, Distrust, Frame, FrameInfo, Geometry, Mismatch, Observation, PixelType, Relearn, Shape, TakenUp,
    Tensor,
};
use crate::model::parameters::Parameters;

/// The steps with their parameters, and what they learnt of the present animal.
pub struct CpuPreprocess {
    parameters: Parameters,
    input: Shape,
    frame_rate_hz: f64,
    simd: Simd,
    device: String,
    /// Kept here as well, because it may be asked before the first frame.
    frozen: bool,
    /// Made at the first frame of an animal, because the geometry is known only then.
    animal: Option<Animal>,
    /// What a state must have come of to fit.
    fingerprint: String,
    /// A state that was not taken up, for the next frame to report.
    refused: Option<Mismatch>,
}

impl CpuPreprocess {
    /// For checked parameters, a model frame of shape `input`, and `frame_rate_hz` model frames per second.
    pub(super) fn new(parameters: &Parameters, input: Shape, frame_rate_hz: f64, device: String) -> Self {
        Self {
            parameters: parameters.clone(),
            input,
            frame_rate_hz,
            simd: Simd::detect(),
            device,
            frozen: false,
            animal: None,
            fingerprint: memory::fingerprint(parameters, input, frame_rate_hz),
            refused: None,
        }
    }

    /// Forgets an animal whose saved state its frames did not match, or of which frames of another geometry come.
    fn forget_mismatch(&mut self, info: &FrameInfo) {
        let Some(animal) = &self.animal else { return };
        let other = animal.host.trial.is_some() && (animal.shape, animal.pixel_type) != (info.shape, info.pixel_type);
        if other {
            self.refused = Some(Mismatch::Geometry);
        }
        if other || animal.host.spent {
            self.animal = None;
        }
    }
}

impl Preprocess for CpuPreprocess {
    fn request(&mut self, request: Request) {
        match (request, &mut self.animal) {
            (Request::Reset | Request::NewAnimal(_), animal) => {
                *animal = None;
                (self.frozen, self.refused) = (false, None);
            }
            // What does not fit is reported with the next frame.
            (Request::TakeUp(saved), _) => drop(self.take_up(&saved.state)),
            (Request::FreezeNormalisation(frozen), animal) => {
                self.frozen = frozen;
                if let Some(normalise) = animal.as_mut().and_then(|a| a.normalise.as_mut()) {
                    normalise.freeze(frozen);
                }
            }
            (Request::RenewTemplate, Some(animal)) => animal.host.renew_template(),
            (Request::ResetBaseline, Some(animal)) => {
                animal.host.trust.forget();
                animal.forget_light();
            }
            // Before the first frame there is nothing to forget.
            (Request::RenewTemplate | Request::ResetBaseline, None) | (Request::Decision(..), _) => {}
        }
    }

    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
        self.forget_mismatch(&frame.info);
        check_frame(&self.parameters, self.geometry(), &frame.info)?;
        let refused = self.refused.take().map(TakenUp::Mismatch);
        let make = || {
            let mut animal = Animal::new(&self.parameters, self.input, self.frame_rate_hz, self.simd, &frame.info);
            if let Some(normalise) = &mut animal.normalise {
                normalise.freeze(self.frozen);
            }
            animal
        };
        let prepared = self.animal.get_or_insert_with(make).take(frame, &self.parameters);
        let observation = Observation { taken_up: refused.or(prepared.observation.taken_up), ..prepared.observation };
        Ok(Prepared { observation, ..prepared })
    }

    fn keep(&self) -> Result<Option<AnimalState>, Fault> {
        let Some(animal) = &self.animal else { return Ok(None) };
        let state = animal.keep();
        Ok(state.map(|state| AnimalState { preprocessing: self.fingerprint.clone(), ..state }))
    }

    fn take_up(&mut self, state: &AnimalState) -> Result<(), TakeUpError> {
        self.request(Request::Reset);
        let (parameters, refused) = (&self.parameters, &mut self.refused);
        let Some(info) = memory::frames_of(state, parameters, self.input, &self.fingerprint, refused)? else {
            return Ok(());
        };
        let mut animal = Animal::new(&self.parameters, self.input, self.frame_rate_hz, self.simd, &info);
        animal.take_up(state);
        self.animal = Some(animal);
        Ok(())
    }

    fn keep_warm(&mut self) {
        if let Some(animal) = &mut self.animal
            && let Some(tracker) = &mut animal.host.tracker
        {
            tracker.rehearse(&animal.planes[animal.guide].light);
        }
    }

    fn template(&self) -> Option<Template<'_>> {
        let animal = self.animal.as_ref()?;
        let (pixels, generation) = animal.host.tracker.as_ref()?.template()?;
        let Shape { height, width, .. } = animal.shape;
        Some(Template { pixels, height, width, generation })
    }

    fn geometry(&self) -> Option<Geometry> {
        // What is on trial has not shown that it is the same animal.
        self.animal
            .as_ref()
            .filter(|animal| animal.host.trial.is_none())
            .map(|animal| Geometry { shape: animal.shape, pixel_type: animal.pixel_type })
    }

    fn placement(&self) -> Option<Placement> {
        self.animal.as_ref()?.host.believed_placement()
    }

    fn device(&self) -> &str {
        &self.device
    }
}

/// One channel of the frame as light.
struct Plane {
    channel: usize,
    light: Vec<f32>,
}

/// Memory and everything learnt of one animal.
struct Animal {
    simd: Simd,
    shape: Shape,
    pixel_type: PixelType,
    /// Pixels of one channel of the model's frame.
    model_plane: usize,
    /// Channels of the model in its order, then the one registration needs if it is none of them.
    planes: Vec<Plane>,
    /// Plane on which line phase and shift are measured.
    guide: usize,
    host: Host,
    resampler: Resampler,
    field_resampler: Option<FieldResampler>,
    /// With an atlas.
    affine_resampler: Option<AffineResampler>,
    average: Average,
    baseline: Option<Baseline>,
    normalise: Option<Normalise>,
    /// The model's frame, all channels.
    image: Vec<f32>,
}

impl Animal {
    fn new(parameters: &Parameters, input: Shape, frame_rate_hz: f64, simd: Simd, info: &FrameInfo) -> Self {
        let Shape { height, width, .. } = info.shape;
        let (channels, guide) = planes(parameters);
        let plane = |channel| Plane { channel, light: vec![0.0; height * width] };
        let (from, to) = ((height, width), (input.height, input.width));
        let is_piecewise = parameters.registration.as_ref().is_some_and(|r| r.piecewise.is_some());
        let baseline = parameters.baseline.as_ref();
        let normalise = parameters.normalise.as_ref();
        Self {
            simd,
            shape: info.shape,
            pixel_type: info.pixel_type,
            model_plane: input.plane(),
            planes: channels.into_iter().map(plane).collect(),
            guide,
            host: Host::new(parameters, simd, frame_rate_hz, info.shape),
            resampler: Resampler::new(simd, from, to),
            field_resampler: is_piecewise.then(|| FieldResampler::new(from, to)),
            affine_resampler: parameters.atlas.as_ref().map(|_| AffineResampler::new(simd, from, to)),
            average: Average::new(simd, parameters.average_frames, input.pixels()),
            baseline: baseline.map(|p| Baseline::new(p, simd, frame_rate_hz, input.pixels())),
            normalise: normalise.map(|p| Normalise::new(p, simd, frame_rate_hz, input.channels, input.plane())),
            image: vec![0.0; input.pixels()],
        }
    }

    fn keep(&self) -> Option<AnimalState> {
        let state = self.host.keep(self.shape, self.pixel_type, self.progress())?;
        let baseline = self.baseline.as_ref().map(Baseline::keep);
        Some(AnimalState { baseline, statistics: self.normalise.as_ref().map(Normalise::keep), ..state })
    }

    /// Goes on from a state that fits.
    fn take_up(&mut self, state: &AnimalState) {
        self.host.take_up(state);
        self.lay();
        if let (Some(baseline), Some(saved)) = (&mut self.baseline, &state.baseline) {
            baseline.take_up(saved);
        }
        if let (Some(normalise), Some(saved)) = (&mut self.normalise, &state.statistics) {
            normalise.take_up(saved);
        }
    }

    fn take(&mut self, frame: &Frame, parameters: &Parameters) -> Prepared<'_> {
        let mut observation = Observation::default();
        // First what reads every pixel in its order: it fetches them from the memory of the core that received them.
        self.convert(frame, parameters, &mut observation);
        let distrust = self.host.trust.judge(frame);
        observation.light = self.host.trust.level();
        self.host.began.note(&frame.info);
        self.host.tell_rate(&mut observation);
        if let Some(distrust) = distrust {
            return self.disbelieve(distrust, observation);
        }
        observation.relearn = self.host.trust.relearn();
        self.relearn(observation.relearn);
        // As it was before this frame: the frame that completes the template is itself not registered.
        let (straight, steady) = (self.host.is_straight(), self.host.is_steady());
        if steady && !self.host.settled {
            self.settle();
        }
        self.straighten(&mut observation);
        if straight && !self.track(&mut observation) {
            self.host.try_out(&mut observation, parameters);
            return self.disbelieve(Distrust::TemplateMismatch, observation);
        }
        self.host.trust.learn();
        self.host.measure_rate(&frame.info, &mut observation);
        if observation.restart.is_some() {
            self.average.forget();
        }
        self.resample();
        if straight && self.host.place() {
            self.lay();
        }
        let full = self.average.add(frame.info.ordinal(), &mut self.image);
        if full {
            self.relate();
        }
        observation.warming_up = !steady || self.progress().warms_up();
        self.host.try_out(&mut observation, parameters);
        self.host.count_down(&mut observation, self.progress());
        Prepared { observation, tensor: full.then_some(Tensor::Host(&self.image)) }
    }

    /// A frame that is not believed: nothing is learnt from it.
    fn disbelieve(&self, distrust: Distrust, observation: Observation) -> Prepared<'_> {
        Prepared { observation: self.host.disbelieve(distrust, observation, self.progress()), tensor: None }
    }

    fn progress(&self) -> Progress<'_> {
        let needed = [self.baseline.as_ref().map(Baseline::needed), self.normalise.as_ref().map(Normalise::needed)];
        Progress { needed, group: self.average.group() }
    }

    /// Forgets what came of another light.
    fn relearn(&mut self, what: Option<Relearn>) {
        match what {
            None | Some(Relearn::Template) => {}
            Some(Relearn::Light) => self.forget_light(),
            Some(Relearn::Everything) => {
                self.host.forget();
                self.forget_light();
            }
        }
    }

    /// Discards an incomplete group, F₀ and the statistics (unless these are frozen on request).
    fn forget_light(&mut self) {
        self.average.forget();
        if let Some(baseline) = &mut self.baseline {
            baseline.forget();
        }
        if let Some(normalise) = &mut self.normalise {
            normalise.forget();
        }
    }

    fn convert(&mut self, frame: &Frame, parameters: &Parameters, observation: &mut Observation) {
        let pixels = frame.pixels();
        for plane in &mut self.planes {
            let flaws = convert(self.simd, pixels, plane.channel, &parameters.convert, &mut plane.light);
            observation.non_finite_pixels += flaws.non_finite;
            observation.saturated_pixels += flaws.saturated;
        }
    }

    /// At the first corrected and registered frame: discards what was learnt from the frames before it.
    fn settle(&mut self) {
        self.host.settled = true;
        self.forget_light();
    }

    fn straighten(&mut self, observation: &mut Observation) {
        let Some(estimator) = &mut self.host.line_phase else { return };
        let Some(offset_px) = estimator.offset_px() else {
            estimator.add(&self.planes[self.guide].light);
            return;
        };
        observation.line_phase_px = offset_px;
        self.planes.iter_mut().for_each(|plane| correct(&mut plane.light, self.shape.width, offset_px));
    }

    /// Measures the shift and learns the template; false when the frame does not match it.
    fn track(&mut self, observation: &mut Observation) -> bool {
        let Some(tracker) = &mut self.host.tracker else { return true };
        let light = &self.planes[self.guide].light;
        let tracked = tracker.follow(light, self.host.peaks.lowest());
        if tracked.is_some_and(|tracked| !self.host.matches(&tracked, observation)) {
            return false;
        }
        observation.relearn = self.host.learn_template(light, tracked).or(observation.relearn);
        true
    }

    /// Frames after the one that finds the placement are laid on the atlas.
    fn lay(&mut self) {
        let affine = self.host.placer.as_ref().and_then(Placer::affine);
        if let (Some(resampler), Some(affine)) = (&mut self.affine_resampler, affine) {
            resampler.lay(&affine);
        }
    }

    fn resample(&mut self) {
        let images = self.image.chunks_exact_mut(self.model_plane).zip(&self.planes);
        let field = self.host.tracker.as_ref().and_then(Tracker::field);
        if let (Some(field), Some(resampler)) = (field, &mut self.field_resampler) {
            resampler.aim(field);
            images.for_each(|(image, plane)| resampler.resample(&plane.light, image));
            return;
        }
        let shift_px = self.host.tracker.as_ref().map_or([0.0; 2], Tracker::shift_px);
        if let Some(resampler) = self.affine_resampler.as_mut().filter(|_| self.host.placement().is_some()) {
            resampler.aim(shift_px);
            images.for_each(|(image, plane)| resampler.resample(&plane.light, image));
            return;
        }
        self.resampler.aim(shift_px);
        images.for_each(|(image, plane)| self.resampler.resample(&plane.light, image));
    }

    /// Light becomes ΔF/F, and that the model's input.
    fn relate(&mut self) {
        if let Some(baseline) = &mut self.baseline {
            baseline.learn(&self.image);
            baseline.relative_change(&mut self.image);
        }
        if let Some(normalise) = &mut self.normalise {
            normalise.learn(&self.image);
            normalise.apply(&mut self.image);
        }
    }
}
