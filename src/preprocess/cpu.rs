//! Preprocessing on the CPU: the steps in their order. The oracle for every other implementation.
//!
//! Why it exists: each step knows its own arithmetic; this module defines their order, what is learnt when, and which frames are
//! accepted. What it must never do: choose parameters, or change any state for a frame that it rejects.
//!
//! **Warm-up.** Until the line phase is known and the first template is ready, frames are neither corrected nor registered.
//! They still become tensors (marked `warming_up`), but what F₀ and the statistics learn from them is discarded at the first
//! registered frame. While a template is being *renewed*, the old one stays in use and nothing is discarded.
//!
//! **Frames that are not believed.** A frame is judged first, from its raw counts, and once more when its correlation peak is known.
//! One that is not believed changes nothing that was learnt, and has no tensor.

use super::accept::check_frame;
use super::average::Average;
use super::baseline::Baseline;
use super::convert::{convert, planes};
use super::line_phase::{LinePhaseEstimator, correct};
use super::normalise::Normalise;
use super::rate::{Began, RateMeter};
use super::resample::{FieldResampler, Resampler};
use super::simd::Simd;
use super::tracker::{Tracked, Tracker};
use super::trust::{PeakWatch, Trust};
use super::{Prepared, Preprocess, PreprocessError, Request, Template};
use crate::frame::{Distrust, Frame, FrameInfo, Geometry, Observation, PixelType, Relearn, Shape, Tensor};
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
}

impl CpuPreprocess {
    /// For checked parameters, a model frame of shape `input`, and `frame_rate_hz` model frames per second.
    pub(super) fn new(parameters: &Parameters, input: Shape, frame_rate_hz: f64, device: String) -> Self {
        let parameters = parameters.clone();
        Self { parameters, input, frame_rate_hz, simd: Simd::detect(), device, frozen: false, animal: None }
    }
}

impl Preprocess for CpuPreprocess {
    fn request(&mut self, request: Request) {
        match (request, &mut self.animal) {
            (Request::Reset, animal) => {
                *animal = None;
                self.frozen = false;
            }
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
        check_frame(&self.parameters, self.geometry(), &frame.info)?;
        let make = || {
            let mut animal = Animal::new(&self.parameters, self.input, self.frame_rate_hz, self.simd, &frame.info);
            if let Some(normalise) = &mut animal.normalise {
                normalise.freeze(self.frozen);
            }
            animal
        };
        Ok(self.animal.get_or_insert_with(make).take(frame, &self.parameters))
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
        self.animal.as_ref().map(|animal| Geometry { shape: animal.shape, pixel_type: animal.pixel_type })
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
    average: Average,
    baseline: Option<Baseline>,
    normalise: Option<Normalise>,
    /// The model's frame, all channels.
    image: Vec<f32>,
    /// Line phase and template have been ready once: what is learnt now is kept.
    settled: bool,
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
            average: Average::new(simd, parameters.average_frames, input.pixels()),
            baseline: baseline.map(|p| Baseline::new(p, simd, frame_rate_hz, input.pixels())),
            normalise: normalise.map(|p| Normalise::new(p, simd, frame_rate_hz, input.channels, input.plane())),
            image: vec![0.0; input.pixels()],
            settled: false,
        }
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
            return self.disbelieve(Distrust::TemplateMismatch, observation);
        }
        self.trust.learn();
        observation.restart = self.rate.add(&self.began.with(&frame.info));
        if observation.restart.is_some() {
            self.average.forget();
        }
        self.tell_rate(&mut observation);
        self.resample();
        let full = self.average.add(frame.info.ordinal(), &mut self.image);
        if full {
            self.relate();
        }
        observation.warming_up = !steady || self.warms_up();
        Prepared { observation, tensor: full.then_some(Tensor::Host(&self.image)) }
    }

    /// A frame that is not believed: nothing is learnt from it.
    fn disbelieve(&mut self, distrust: Distrust, observation: Observation) -> Prepared<'_> {
        let warming_up = !self.is_steady() || self.warms_up();
        let observation = Observation { distrust: Some(distrust), warming_up, ..observation };
        Prepared { observation, tensor: None }
    }

    /// Line phase and template are ready.
    fn is_steady(&self) -> bool {
        let straight = self.line_phase.as_ref().is_none_or(|p| p.offset_px().is_some());
        straight && self.tracker.as_ref().is_none_or(Tracker::is_ready)
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
                self.settled = false;
                self.rate.forget();
                self.peaks.forget();
                self.trust.begin_template();
                if let Some(line_phase) = &mut self.line_phase {
                    line_phase.forget();
                }
                if let Some(tracker) = &mut self.tracker {
                    tracker.forget();
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

    fn resample(&mut self) {
        let images = self.image.chunks_exact_mut(self.model_plane).zip(&self.planes);
        let field = self.tracker.as_ref().and_then(Tracker::field);
        if let (Some(field), Some(resampler)) = (field, &mut self.field_resampler) {
            resampler.aim(field);
            images.for_each(|(image, plane)| resampler.resample(&plane.light, image));
            return;
        }
        self.resampler.aim(self.tracker.as_ref().map_or([0.0; 2], Tracker::shift_px));
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
