//! Preprocessing on the CPU: the steps in their order. The oracle for every other implementation.
//!
//! Why it exists: each step knows its own arithmetic; this module defines their order, what is learnt when, and which frames are
//! accepted. What it must never do: choose parameters, or change any state for a frame that it rejects.
//!
//! **Warm-up.** Until the line phase is known, the first template is ready and, with an atlas, the animal's placement is found, frames
//! are not all corrected, registered and laid on the atlas.
//! They still become tensors (marked `warming_up`), but what F₀ and the statistics learn from them is discarded at the first
//! registered frame. While a template is being *renewed*, the old one stays in use and nothing is discarded.

use super::accept::check_frame;
use super::affine::AffineResampler;
use super::average::Average;
use super::baseline::Baseline;
use super::convert::convert;
use super::line_phase::{LinePhaseEstimator, correct};
use super::normalise::Normalise;
use super::placement::Placer;
use super::rate::RateMeter;
use super::resample::{FieldResampler, Resampler};
use super::simd::Simd;
use super::tracker::{Tracked, Tracker};
use super::{Prepared, Preprocess, PreprocessError, Request, Template};
use crate::frame::placement::Placement;
use crate::frame::{Frame, FrameInfo, Geometry, Observation, PixelType, Shape, Tensor};
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
                }
            }
            (Request::ResetBaseline, Some(animal)) => {
                if let Some(baseline) = &mut animal.baseline {
                    baseline.forget();
                }
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

    fn placement(&self) -> Option<Placement> {
        self.animal.as_ref()?.placing.as_ref()?.placer.found()
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

/// Frame channels that are converted: the model's in its order, then the one registration needs if it is none of them; and
/// which of them line phase and shift are measured on.
pub(super) fn planes(parameters: &Parameters) -> (Vec<usize>, usize) {
    let mut channels = parameters.channels.clone();
    let guide_channel = parameters.registration.as_ref().map_or(channels[0], |r| r.channel);
    if !channels.contains(&guide_channel) {
        channels.push(guide_channel);
    }
    let guide = channels.iter().position(|&c| c == guide_channel).unwrap_or(0);
    (channels, guide)
}

/// The search for the placement, and the resampling that follows from it.
struct Placing {
    placer: Placer,
    resampler: AffineResampler,
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
            rate: RateMeter::new(frame_rate_hz * parameters.average_frames as f64),
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
            normalise: normalise.map(|p| Normalise::new(p, simd, input.channels, input.plane())),
            image: vec![0.0; input.pixels()],
            settled: false,
        }
    }

    fn take(&mut self, frame: &Frame, parameters: &Parameters) -> Prepared<'_> {
        let mut observation = Observation::default();
        self.convert(frame, parameters, &mut observation);
        self.measure_rate(&frame.info, &mut observation);
        // As it was before this frame: the frame that completes the template is itself not registered.
        let straight = self.line_phase.as_ref().is_none_or(|p| p.offset_px().is_some());
        let placed = self.placing.as_ref().is_none_or(|p| p.placer.found().is_some());
        let steady = straight && placed && self.tracker.as_ref().is_none_or(Tracker::is_ready);
        if steady && !self.settled {
            self.settle();
        }
        self.straighten(&mut observation);
        if straight {
            self.track(&mut observation);
        }
        self.resample();
        if straight {
            self.place();
        }
        let full = self.average.add(frame.info.ordinal(), &mut self.image);
        if full {
            self.relate();
        }
        observation.warming_up = !steady
            || self.baseline.as_ref().is_some_and(|b| !b.is_warm())
            || self.normalise.as_ref().is_some_and(|n| !n.is_warm());
        Prepared { observation, tensor: full.then_some(Tensor::Host(&self.image)) }
    }

    fn convert(&mut self, frame: &Frame, parameters: &Parameters, observation: &mut Observation) {
        let pixels = frame.pixels();
        for plane in &mut self.planes {
            let flaws = convert(self.simd, pixels, plane.channel, &parameters.convert, &mut plane.light);
            observation.non_finite_pixels += flaws.non_finite;
            observation.saturated_pixels += flaws.saturated;
        }
    }

    fn measure_rate(&mut self, info: &FrameInfo, observation: &mut Observation) {
        self.rate.add(info);
        if let Some(hz) = self.rate.hz() {
            observation.frame_rate_hz = hz as f32;
            observation.frame_rate_off = self.rate.is_off(hz);
        }
    }

    /// At the first corrected and registered frame: discards what was learnt from the frames before it.
    fn settle(&mut self) {
        self.settled = true;
        self.average.forget();
        if let Some(baseline) = &mut self.baseline {
            baseline.forget();
        }
        if let Some(normalise) = &mut self.normalise {
            normalise.forget();
        }
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

    fn track(&mut self, observation: &mut Observation) {
        let Some(tracker) = &mut self.tracker else { return };
        if let Some(Tracked { shift, rejected }) = tracker.follow(&self.planes[self.guide].light) {
            observation.shift_doubtful = rejected;
            observation.shift_px = Some([shift.dy, shift.dx]);
            observation.shift_peak = shift.peak;
            observation.shift_at_bound = shift.at_bound;
        }
    }

    /// Goes on looking for the placement, from the first template on; frames after the one that finds it are laid. It does not change with a renewed template, whose
    /// displacement from the first is undone with the shift.
    fn place(&mut self) {
        let template = self.tracker.as_ref().and_then(Tracker::template);
        let (Some(placing), Some((template, _))) = (&mut self.placing, template) else { return };
        let is_new = placing.placer.found().is_none() && placing.placer.step(template);
        if let Some(affine) = placing.placer.affine().filter(|_| is_new) {
            placing.resampler.lay(&affine);
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
