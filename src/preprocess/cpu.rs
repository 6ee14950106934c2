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

use super::accept::{check_frame, takes};
use super::affine::AffineResampler;
use super::average::Average;
use super::baseline::Baseline;
use super::convert::{convert, planes};
use super::line_phase::{LinePhaseEstimator, correct};
use super::normalise::Normalise;
use super::placement::Placer;
use super::rate::{Began, RateMeter};
use super::resample::{FieldResampler, Resampler};
use super::simd::Simd;
use super::tracker::{Tracked, Tracker};
use super::trial::Trial;
use super::trust::{PeakWatch, Trust};
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
        let other = animal.trial.is_some() && (animal.shape, animal.pixel_type) != (info.shape, info.pixel_type);
        if other {
            self.refused = Some(Mismatch::Geometry);
        }
        if other || animal.spent {
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
            (Request::RenewTemplate, Some(animal)) => {
                if let Some(tracker) = &mut animal.tracker {
                    tracker.renew();
                    animal.trust.begin_template();
                }
            }
            (Request::ResetBaseline, Some(animal)) => {
                animal.trust.forget();
                animal.forget_light();
            }
            // Before the first frame there is nothing to forget.
            (Request::RenewTemplate | Request::ResetBaseline, None) => {}
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
        let checked = memory::check(state, &self.parameters, self.input, &self.fingerprint);
        let (shape, pixel_type) = checked.inspect_err(|_| self.refused = Some(Mismatch::Preprocessing))?;
        let info = FrameInfo { shape, pixel_type, ..Frame::with_capacity(0).info };
        if takes(&self.parameters, shape).is_err() {
            self.refused = Some(Mismatch::Geometry);
            return Ok(());
        }
        let mut animal = Animal::new(&self.parameters, self.input, self.frame_rate_hz, self.simd, &info);
        animal.take_up(state);
        self.animal = Some(animal);
        Ok(())
    }

    fn keep_warm(&mut self) {
        if let Some(animal) = &mut self.animal
            && let Some(tracker) = &mut animal.tracker
        {
            tracker.rehearse(&animal.planes[animal.guide].light);
        }
    }

    fn template(&self) -> Option<Template<'_>> {
        let animal = self.animal.as_ref()?;
        let (pixels, generation) = animal.tracker.as_ref()?.template()?;
        let Shape { height, width, .. } = animal.shape;
        Some(Template { pixels, height, width, generation })
    }

    fn geometry(&self) -> Option<Geometry> {
        // What is on trial has not shown that it is the same animal.
        self.animal
            .as_ref()
            .filter(|animal| animal.trial.is_none())
            .map(|animal| Geometry { shape: animal.shape, pixel_type: animal.pixel_type })
    }

    fn placement(&self) -> Option<Placement> {
        let believed = self.animal.as_ref().filter(|animal| animal.trial.is_none() && !animal.spent);
        believed?.placing.as_ref()?.placer.found()
    }

    fn device(&self) -> &str {
        &self.device
    }
}

/// Share of its running level that a correlation peak must reach.
pub(super) fn peak_share_min(parameters: &Parameters) -> f32 {
    if parameters.trust.enabled { parameters.trust.peak_share_min } else { 0.0 }
}

/// The shift of one frame, as observed.
pub(super) fn tell_shift(tracked: &Tracked, observation: &mut Observation) {
    let Tracked { shift, rejected, .. } = tracked;
    observation.shift_doubtful = *rejected;
    observation.shift_px = Some([shift.dy, shift.dx]);
    observation.shift_peak = shift.peak;
    observation.shift_at_bound = shift.at_bound;
}

/// One channel of the frame as light.
struct Plane {
    channel: usize,
    light: Vec<f32>,
}

/// The search for the placement, and the resampling that follows from it.
struct Placing {
    placer: Placer,
    resampler: AffineResampler,
}

impl Placing {
    /// Goes on looking for the placement; frames after the one that finds it are laid.
    fn step(&mut self, template: &[f32]) {
        if self.placer.step(template) {
            self.lay();
        }
    }

    fn lay(&mut self) {
        if let Some(affine) = self.placer.affine() {
            self.resampler.lay(&affine);
        }
    }
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
    trust: Trust,
    peaks: PeakWatch,
    began: Began,
    rate: RateMeter,
    line_phase: Option<LinePhaseEstimator>,
    tracker: Option<Tracker>,
    resampler: Resampler,
    field_resampler: Option<FieldResampler>,
    /// With an atlas.
    placing: Option<Placing>,
    average: Average,
    baseline: Option<Baseline>,
    normalise: Option<Normalise>,
    /// The model's frame, all channels.
    image: Vec<f32>,
    /// Line phase, template and placement have been ready once: what is learnt now is kept.
    settled: bool,
    /// A state was taken up, and its first frames are compared with it.
    trial: Option<Trial>,
    /// They did not match: everything is forgotten before the next frame.
    spent: bool,
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
            trust: Trust::new(parameters, simd, frame_rate_hz, info.shape),
            peaks: PeakWatch::new(peak_share_min(parameters)),
            began: Began::default(),
            rate: RateMeter::new(frame_rate_hz * parameters.average_frames as f64, parameters.pause_periods),
            line_phase: parameters.line_phase.as_ref().map(|p| LinePhaseEstimator::new(p, simd, height, width)),
            tracker: parameters.registration.as_ref().map(|p| Tracker::new(p, height, width)),
            resampler: Resampler::new(simd, from, to),
            field_resampler: is_piecewise.then(|| FieldResampler::new(from, to)),
            placing: parameters.atlas.as_ref().map(|p| Placing {
                placer: Placer::new(p, height, width),
                resampler: AffineResampler::new(simd, from, to),
            }),
            average: Average::new(simd, parameters.average_frames, input.pixels()),
            baseline: baseline.map(|p| Baseline::new(p, simd, frame_rate_hz, input.pixels())),
            normalise: normalise.map(|p| Normalise::new(p, simd, frame_rate_hz, input.channels, input.plane())),
            image: vec![0.0; input.pixels()],
            settled: false,
            trial: None,
            spent: false,
        }
    }

    fn keep(&self) -> Option<AnimalState> {
        if !self.is_steady() || !self.settled || self.warms_up() || self.trial.is_some() || self.spent {
            return None;
        }
        let (line_phase, tracker) = (self.line_phase.as_ref(), self.tracker.as_ref());
        let placer = self.placing.as_ref().map(|placing| &placing.placer);
        let frames = (self.shape, self.pixel_type);
        let state = memory::keep(frames, line_phase, tracker, placer, &self.peaks, &self.trust)?;
        let baseline = self.baseline.as_ref().map(Baseline::keep);
        Some(AnimalState { baseline, statistics: self.normalise.as_ref().map(Normalise::keep), ..state })
    }

    /// Goes on from a state that fits.
    fn take_up(&mut self, state: &AnimalState) {
        let (line_phase, tracker) = (self.line_phase.as_mut(), self.tracker.as_mut());
        let placer = self.placing.as_mut().map(|placing| &mut placing.placer);
        memory::Host { line_phase, tracker, placer, peaks: &mut self.peaks }.take_up(state);
        if let Some(placing) = &mut self.placing {
            placing.lay();
        }
        if let (Some(baseline), Some(saved)) = (&mut self.baseline, &state.baseline) {
            baseline.take_up(saved);
        }
        if let (Some(normalise), Some(saved)) = (&mut self.normalise, &state.statistics) {
            normalise.take_up(saved);
        }
        self.settled = true;
        self.trial = Some(Trial::of(state));
    }

    fn take(&mut self, frame: &Frame, parameters: &Parameters) -> Prepared<'_> {
        let mut observation = Observation::default();
        let distrust = self.trust.judge(frame);
        self.began.note(&frame.info);
        self.convert(frame, parameters, &mut observation);
        self.tell_rate(&mut observation);
        if let Some(distrust) = distrust {
            return self.disbelieve(distrust, observation);
        }
        observation.relearn = self.trust.relearn();
        self.relearn(observation.relearn);
        // As it was before this frame: the frame that completes the template is itself not registered.
        let straight = self.line_phase.as_ref().is_none_or(|p| p.offset_px().is_some());
        let steady = self.is_steady();
        if steady && !self.settled {
            self.settle();
        }
        self.straighten(&mut observation);
        if straight && !self.track(&mut observation) {
            self.try_out(&mut observation, parameters);
            return self.disbelieve(Distrust::TemplateMismatch, observation);
        }
        self.trust.learn();
        observation.restart = self.rate.add(&self.began.with(&frame.info));
        if observation.restart.is_some() {
            self.average.forget();
        }
        self.tell_rate(&mut observation);
        self.resample();
        if straight {
            self.place();
        }
        let full = self.average.add(frame.info.ordinal(), &mut self.image);
        if full {
            self.relate();
        }
        observation.warming_up = !steady || self.warms_up();
        self.try_out(&mut observation, parameters);
        self.count_down(&mut observation);
        Prepared { observation, tensor: full.then_some(Tensor::Host(&self.image)) }
    }

    /// A frame that is not believed: nothing is learnt from it.
    fn disbelieve(&mut self, distrust: Distrust, observation: Observation) -> Prepared<'_> {
        let warming_up = !self.is_steady() || self.warms_up() || self.spent;
        let taken_up = observation.taken_up.or(self.trial.as_ref().map(Trial::standing));
        let mut observation = Observation { distrust: Some(distrust), warming_up, taken_up, ..observation };
        self.count_down(&mut observation);
        Prepared { observation, tensor: None }
    }

    /// While a state that was taken up is on trial: this frame shows a picture, does it match?
    fn try_out(&mut self, observation: &mut Observation, parameters: &Parameters) {
        let Some(trial) = &mut self.trial else { return };
        let standing = trial.add(observation.shift_peak, &self.trust, &parameters.trust);
        observation.taken_up = Some(standing);
        if !matches!(standing, TakenUp::OnTrial(_)) {
            self.trial = None;
        }
        if matches!(standing, TakenUp::Mismatch(_)) {
            self.spent = true;
            observation.warming_up = true;
        }
    }

    /// How long the warm-up will take.
    fn count_down(&self, observation: &mut Observation) {
        if observation.warming_up {
            let needed = [self.baseline.as_ref().map(Baseline::needed), self.normalise.as_ref().map(Normalise::needed)];
            let (line_phase, tracker) = (self.line_phase.as_ref(), self.tracker.as_ref());
            let placer = self.placing.as_ref().map(|placing| &placing.placer);
            observation.warmup_left =
                memory::warmup_left(line_phase, tracker, placer, self.settled, needed, self.average.group());
        }
    }

    /// Line phase and template are ready, and the placement is found.
    fn is_steady(&self) -> bool {
        let straight = self.line_phase.as_ref().is_none_or(|p| p.offset_px().is_some());
        let placed = self.placing.as_ref().is_none_or(|p| p.placer.found().is_some());
        straight && placed && self.tracker.as_ref().is_none_or(Tracker::is_ready)
    }

    /// F₀ or statistics have not seen enough frames.
    fn warms_up(&self) -> bool {
        self.baseline.as_ref().is_some_and(|b| !b.is_warm()) || self.normalise.as_ref().is_some_and(|n| !n.is_warm())
    }

    /// Forgets what came of another light.
    fn relearn(&mut self, what: Option<Relearn>) {
        match what {
            None | Some(Relearn::Template) => {}
            Some(Relearn::Light) => self.forget_light(),
            Some(Relearn::Everything) => {
                (self.settled, self.trial) = (false, None);
                self.rate.forget();
                self.peaks.forget();
                self.trust.begin_template();
                if let Some(line_phase) = &mut self.line_phase {
                    line_phase.forget();
                }
                if let Some(tracker) = &mut self.tracker {
                    tracker.forget();
                }
                if let Some(placing) = &mut self.placing {
                    placing.placer.forget();
                }
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

    fn tell_rate(&self, observation: &mut Observation) {
        if let Some(hz) = self.rate.hz() {
            observation.frame_rate_hz = hz as f32;
            observation.frame_rate_off = self.rate.is_off(hz);
        }
    }

    /// At the first corrected and registered frame: discards what was learnt from the frames before it.
    fn settle(&mut self) {
        self.settled = true;
        self.forget_light();
    }

    fn straighten(&mut self, observation: &mut Observation) {
        let Some(estimator) = &mut self.line_phase else { return };
        let Some(offset_px) = estimator.offset_px() else {
            estimator.add(&self.planes[self.guide].light);
            return;
        };
        observation.line_phase_px = offset_px;
        self.planes.iter_mut().for_each(|plane| correct(&mut plane.light, self.shape.width, offset_px));
    }

    /// Measures the shift and learns the template; false when the frame does not match it.
    fn track(&mut self, observation: &mut Observation) -> bool {
        let Some(tracker) = &mut self.tracker else { return true };
        let light = &self.planes[self.guide].light;
        let tracked = tracker.follow(light, self.peaks.lowest());
        if let Some(tracked) = &tracked {
            tell_shift(tracked, observation);
            if tracked.mismatch {
                return false;
            }
            self.peaks.learn(tracked.shift.peak);
        }
        let templates = tracker.template_count();
        if !tracker.learn(light, tracked, || self.trust.template_shows_tissue()) {
            self.trust.begin_template();
            observation.relearn = Some(Relearn::Template);
        }
        if tracker.template_count() != templates {
            self.peaks.forget();
        }
        true
    }

    /// Goes on looking for the placement, from the first template on. It does not change with a renewed template, whose displacement
    /// from the first is undone with the shift.
    fn place(&mut self) {
        let template = self.tracker.as_ref().and_then(Tracker::template);
        if let (Some(placing), Some((template, _))) = (&mut self.placing, template) {
            placing.step(template);
        }
    }

    fn resample(&mut self) {
        let images = self.image.chunks_exact_mut(self.model_plane).zip(&self.planes);
        let field = self.tracker.as_ref().and_then(Tracker::field);
        if let (Some(field), Some(resampler)) = (field, &mut self.field_resampler) {
            resampler.aim(field);
            images.for_each(|(image, plane)| resampler.resample(&plane.light, image));
            return;
        }
        let shift_px = self.tracker.as_ref().map_or([0.0; 2], Tracker::shift_px);
        if let Some(placing) = self.placing.as_mut().filter(|p| p.placer.found().is_some()) {
            placing.resampler.aim(shift_px);
            images.for_each(|(image, plane)| placing.resampler.resample(&plane.light, image));
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
