//! Preprocessing on a device: the frame stays there from the first kernel to the tensor.
//!
//! Why it exists: each frame needs one copy to the device, one launch of a captured program, and one small outcome that the device
//! writes into host memory. Decisions about whole frames – line phase, template, which shifts are accepted, when F₀ and the
//! statistics start – are made by the CPU implementation's own code; the device does the bulk of the arithmetic.
//! What it must never do: allocate after the first frame of a geometry, or continue after the device failed.
//!
//! While line phase and template are being learnt, and while a template is refreshed, the guide channel is also converted on the
//! host, which learns from it as the CPU implementation does; this delays such a frame. The host waits for the device twice per
//! frame, each time for a number that the last kernel writes into its memory: after preprocessing, whose outcome decides which shift
//! is accepted, and after the encoder.

mod animal;
mod plan;
mod ready;
mod stage;

use std::sync::Arc;

use self::plan::{Order, Outcome};
use self::ready::Ready;
use self::stage::{Stage, Terms};
use super::accept::check_frame;
use super::affine::Laying;
use super::alone::KernelAlone;
use super::average::Group;
use super::baseline::{Pace, Step};
use super::convert::{convert, planes};
use super::host::{Host, Progress};
use super::line_phase::correct;
use super::normalise::{Census, Entry};
use super::placement::Placer;
use super::registration::Shift;
use super::simd::Simd;
use super::tracker::{Tracked, Tracker};
use super::{Prepared, Preprocess, PreprocessError, Request, TakeUpError, Template, memory};
use crate::cuda::{Answer, DeviceMemory, Fault, HostMemory, Machine, Pulse};
use crate::frame::placement::Placement;
use crate::frame::{
    AnimalState, Distrust, Frame, FrameInfo, Geometry, Mismatch, Observation, PixelMemory, Relearn, Shape, TakenUp,
    Tensor,
};
use crate::model::parameters::Parameters;

/// The steps with their parameters on a device, and what was learnt of the present animal.
pub struct CudaPreprocess {
    parameters: Parameters,
    input: Shape,
    frame_rate_hz: f64,
    machine: Arc<dyn Machine>,
    pulse: Pulse,
    device: String,
    frozen: bool,
    /// Made at the first frame, and kept through a reset as long as the geometry stays.
    stage: Option<Stage>,
    animal: Option<Animal>,
    /// Counts the frames that were given to the device.
    sequence: u64,
    ready: Ready,
    /// What a state must have come of to fit.
    fingerprint: String,
    /// A state that was not taken up, for the next frame to report.
    refused: Option<Mismatch>,
}

/// Everything learnt of one animal that does not lie on the device.
struct Animal {
    simd: Simd,
    host: Host,
    /// The device knows the placement.
    laid: bool,
    group: Group,
    pace: Option<Pace>,
    census: Option<Census>,
    channels: Vec<usize>,
    guide_channel: usize,
    /// The guide channel as light, for what the host learns from.
    light: Vec<f32>,
    width: usize,
    /// Templates of which the device knows.
    templates: u64,
}

impl CudaPreprocess {
    /// For checked parameters without piecewise registration, a model frame of shape `input`, and `frame_rate_hz` model frames
    /// per second.
    pub(super) fn new(
        parameters: &Parameters,
        input: Shape,
        frame_rate_hz: f64,
        machine: Arc<dyn Machine>,
        why: &str,
    ) -> Result<Self, Fault> {
        Ok(Self {
            parameters: parameters.clone(),
            input,
            frame_rate_hz,
            pulse: Pulse::new(&machine)?,
            device: if why.is_empty() { machine.name().to_owned() } else { format!("{}: {why}", machine.name()) },
            frozen: false,
            stage: None,
            animal: None,
            sequence: 0,
            fingerprint: memory::fingerprint(parameters, input, frame_rate_hz),
            refused: None,
            ready: Ready { machine: machine.clone(), address: 0, values: input.pixels(), finite: true },
            machine,
        })
    }

    /// Memory and an animal for this frame.
    fn prepare(&mut self, info: &FrameInfo) -> Result<(), Fault> {
        if self.animal.is_none() {
            let mut animal = Animal::new(&self.parameters, self.frame_rate_hz, info);
            if let Some(census) = &mut animal.census {
                census.freeze(self.frozen);
            }
            self.animal = Some(animal);
        }
        let geometry = (info.shape, info.pixel_type);
        if self.stage.as_ref().is_none_or(|stage| (stage.shape, stage.pixel_type) != geometry) {
            // The old memory first: there may not be room for both.
            self.stage = None;
            let (parameters, input, frame_rate_hz) = (&self.parameters, self.input, self.frame_rate_hz);
            let registrar = self.animal.as_ref().and_then(|a| a.host.tracker.as_ref()).map(Tracker::registrar);
            let terms = Terms { parameters, input, frame_rate_hz };
            self.stage = Some(Stage::new(&self.machine, &terms, geometry, registrar)?);
        }
        Ok(())
    }
}

impl Preprocess for CudaPreprocess {
    fn request(&mut self, request: Request) {
        match (request, &mut self.animal) {
            (Request::Reset | Request::NewAnimal(_), animal) => {
                *animal = None;
                (self.frozen, self.refused) = (false, None);
            }
            // What does not fit is reported with the next frame; a device that fails here fails there as well.
            (Request::TakeUp(saved), _) => drop(self.take_up(&saved.state)),
            (Request::FreezeNormalisation(frozen), animal) => {
                self.frozen = frozen;
                if let Some(census) = animal.as_mut().and_then(|animal| animal.census.as_mut()) {
                    census.freeze(frozen);
                }
            }
            (Request::RenewTemplate, Some(animal)) => animal.host.renew_template(),
            (Request::ResetBaseline, Some(animal)) => {
                animal.host.trust.forget();
                animal.forget_light();
            }
            (Request::RenewTemplate | Request::ResetBaseline, None) | (Request::Decision(..), _) => {}
        }
    }

    fn apply(&mut self, frame: &Frame) -> Result<Prepared<'_>, PreprocessError> {
        self.forget_mismatch(&frame.info);
        check_frame(&self.parameters, self.geometry(), &frame.info)?;
        self.prepare(&frame.info)?;
        let (Some(animal), Some(stage)) = (&mut self.animal, &mut self.stage) else {
            return Ok(Prepared { observation: Observation::default(), tensor: None });
        };
        let taken_up = self.refused.take().map(TakenUp::Mismatch);
        let mut observation = Observation { taken_up, ..Observation::default() };
        animal.host.began.note(&frame.info);
        let distrust = animal.host.trust.judge(frame);
        observation.light = animal.host.trust.level();
        if let Some(distrust) = distrust {
            animal.count_flaws(frame, &self.parameters, &mut observation);
            return Ok(animal.disbelieve(distrust, observation));
        }
        self.sequence += 1;
        let state = animal.begin(stage, &mut observation)?;
        let before = (animal.group, animal.pace, animal.census, animal.host.rate, animal.host.began);
        animal.measure_rate(&frame.info, &mut observation);
        let order = animal.order(frame.info.ordinal(), self.sequence, state);
        stage.order.put(0, order);
        // The outcome begins with the number of the frame, which is written last.
        let answer = Answer { address: stage.outcome.address(), value: self.sequence };
        self.machine.run(frame.bytes(), stage.raw, stage.frame.as_ref(), answer)?;
        let outcome: Outcome = stage.outcome.get(0);
        if !animal.end(frame, &self.parameters, state, &outcome, &mut observation) {
            (animal.group, animal.pace, animal.census, animal.host.rate, animal.host.began) = before;
            let mut observation = Observation { restart: None, ..observation };
            animal.host.try_out(&mut observation, &self.parameters);
            return Ok(animal.disbelieve(Distrust::TemplateMismatch, observation));
        }
        self.ready.address = stage.tensor.address();
        self.ready.finite = outcome.unusable == 0;
        let tensor = (order.group_full != 0).then_some(Tensor::Cuda(&self.ready));
        Ok(Prepared { observation, tensor })
    }

    fn keep(&self) -> Result<Option<AnimalState>, Fault> {
        self.keep_animal()
    }

    fn take_up(&mut self, state: &AnimalState) -> Result<(), TakeUpError> {
        self.request(Request::Reset);
        self.take_up_animal(state)
    }

    fn keep_warm(&mut self) {
        let rehearsal = self.stage.as_ref().and_then(|stage| stage.rehearsal.as_ref());
        if let Some(rehearsal) = rehearsal.filter(|_| self.animal.is_some()) {
            // A failure here recurs, and is reported, when it matters.
            let _ = rehearsal.launch();
        }
    }

    fn rest(&mut self) {
        self.pulse.beat();
    }

    fn frame_memory(&self, bytes: usize) -> Option<Box<dyn PixelMemory>> {
        // Without it frames are copied once more, by the driver.
        HostMemory::new(&self.machine, bytes).ok().map(|memory| Box::new(memory) as Box<dyn PixelMemory>)
    }

    fn device_work(&self) -> Option<(usize, usize)> {
        self.stage.as_ref().map(|stage| stage.work)
    }

    fn device_kernels(&self, times: usize) -> Result<Vec<KernelAlone>, Fault> {
        self.stage.as_ref().map_or(Ok(Vec::new()), |stage| stage.kernels(&self.machine, times))
    }

    fn template(&self) -> Option<Template<'_>> {
        let (animal, stage) = (self.animal.as_ref()?, self.stage.as_ref()?);
        let (pixels, generation) = animal.host.tracker.as_ref()?.template()?;
        let Shape { height, width, .. } = stage.shape;
        Some(Template { pixels, height, width, generation })
    }

    fn geometry(&self) -> Option<Geometry> {
        // What is on trial has not shown that it is the same animal.
        let stage = self.animal.as_ref().filter(|animal| animal.host.trial.is_none()).and(self.stage.as_ref())?;
        Some(Geometry { shape: stage.shape, pixel_type: stage.pixel_type })
    }

    fn placement(&self) -> Option<Placement> {
        self.animal.as_ref()?.host.believed_placement()
    }

    fn device(&self) -> &str {
        &self.device
    }
}

/// What was so before a frame, and holds for it.
#[derive(Clone, Copy)]
struct State {
    /// The line phase is known.
    straight: bool,
    /// There are a template and a placement as well.
    steady: bool,
    /// This frame is measured against the template.
    registers: bool,
}

impl Animal {
    fn new(parameters: &Parameters, frame_rate_hz: f64, info: &FrameInfo) -> Self {
        let (simd, Shape { height, width, .. }) = (Simd::detect(), info.shape);
        let (channels, guide) = planes(parameters);
        Self {
            simd,
            host: Host::new(parameters, simd, frame_rate_hz, info.shape),
            laid: false,
            group: Group::new(parameters.average_frames),
            pace: parameters.baseline.as_ref().map(|p| Pace::new(p, frame_rate_hz)),
            census: parameters.normalise.as_ref().map(|p| Census::new(p, frame_rate_hz)),
            guide_channel: channels[guide],
            channels,
            light: vec![0.0; height * width],
            width,
            templates: 0,
        }
    }

    fn progress(&self) -> Progress<'_> {
        let needed = [self.pace.as_ref().map(Pace::needed), self.census.as_ref().map(Census::needed)];
        Progress { needed, group: &self.group }
    }

    /// What happens before the frame is given to the device.
    fn begin(&mut self, stage: &Stage, observation: &mut Observation) -> Result<State, Fault> {
        observation.relearn = self.host.trust.relearn();
        self.relearn(observation.relearn);
        self.host.tell_rate(observation);
        observation.line_phase_px = self.host.line_phase_px().unwrap_or(0.0);
        let (straight, steady) = (self.host.is_straight(), self.host.is_steady());
        let has_template = self.host.tracker.as_ref().is_some_and(Tracker::is_ready);
        if steady && !self.host.settled {
            self.host.settled = true;
            self.forget_light();
        }
        self.hand_over_template(stage.reference.as_ref())?;
        self.hand_over_placement(stage)?;
        Ok(State { straight, steady, registers: straight && has_template })
    }

    fn measure_rate(&mut self, info: &FrameInfo, observation: &mut Observation) {
        self.host.measure_rate(info, observation);
        if observation.restart.is_some() {
            self.group.forget();
        }
    }

    /// A frame that is not believed: nothing is learnt from it.
    fn disbelieve(&self, distrust: Distrust, mut observation: Observation) -> Prepared<'static> {
        self.host.tell_rate(&mut observation);
        Prepared { observation: self.host.disbelieve(distrust, observation, self.progress()), tensor: None }
    }

    /// What is wrong with the pixels of a frame that the device is not given.
    fn count_flaws(&mut self, frame: &Frame, parameters: &Parameters, observation: &mut Observation) {
        for &channel in &self.channels {
            let flaws = convert(self.simd, frame.pixels(), channel, &parameters.convert, &mut self.light);
            observation.non_finite_pixels += flaws.non_finite;
            observation.saturated_pixels += flaws.saturated;
        }
    }

    /// Forgets what came of another light.
    fn relearn(&mut self, what: Option<Relearn>) {
        match what {
            None | Some(Relearn::Template) => {}
            Some(Relearn::Light) => self.forget_light(),
            Some(Relearn::Everything) => {
                self.host.forget();
                self.laid = false;
                self.forget_light();
            }
        }
    }

    /// Discards an incomplete group, F₀ and the statistics (unless these are frozen on request): what lies on the device of no
    /// frames is not read.
    fn forget_light(&mut self) {
        self.group.forget();
        if let Some(pace) = &mut self.pace {
            pace.forget();
        }
        if let Some(census) = &mut self.census {
            census.forget();
        }
    }

    /// A template that was made since the last frame goes to the device.
    fn hand_over_template(&mut self, to: Option<&DeviceMemory>) -> Result<(), Fault> {
        let standard = self.host.tracker.as_ref().and_then(|tracker| tracker.registrar().standard());
        let (Some((standard, templates)), Some(to)) = (standard, to) else { return Ok(()) };
        if templates != self.templates {
            to.fill(&standard.reference.values)?;
            self.templates = templates;
        }
        Ok(())
    }

    /// A placement that was found goes to the device once.
    fn hand_over_placement(&mut self, stage: &Stage) -> Result<(), Fault> {
        let affine = self.host.placer.as_ref().and_then(Placer::affine).filter(|_| !self.laid);
        let (Some(affine), Some(to)) = (affine, &stage.laying) else { return Ok(()) };
        let (Shape { height, width, .. }, input) = (stage.shape, stage.input);
        let mut laying = Laying::new((height, width), (input.height, input.width));
        laying.lay(&affine);
        to.fill(&laying.table)?;
        self.laid = true;
        Ok(())
    }

    fn order(&mut self, ordinal: u64, sequence: u64, state: State) -> Order {
        let place = self.group.take(ordinal);
        let mut order = Order {
            sequence,
            registers: i32::from(state.registers),
            line_shift: self.host.line_phase_px().map_or(0, |px| px.round() as i32),
            group_begins: i32::from(place.begins),
            group_full: i32::from(place.full),
            lowest: self.host.peaks.lowest(),
            laid: i32::from(self.laid),
            ..Order::default()
        };
        if let Some(tracker) = &self.host.tracker {
            (order.origin, order.believed) = tracker.place_px();
            if let Some((standard, _)) = tracker.registrar().standard() {
                let [[a, b], [c, d]] = standard.correction;
                (order.offset, order.correction) = (standard.offset, [a, b, c, d]);
                order.reference_energy = standard.reference.energy;
                order.reference_blank = i32::from(standard.reference.blank);
            }
        }
        if place.full {
            self.learn(&mut order);
        }
        order
    }

    /// What a full group does to F₀ and the statistics.
    fn learn(&mut self, order: &mut Order) {
        match self.pace.as_mut().map(Pace::step) {
            Some(Step::Minimum { slot, filled, begins }) => {
                (order.ring_slot, order.ring_filled) = (slot as i32, filled as i32);
                order.baseline_begins = i32::from(begins);
            }
            Some(Step::Quantile { begins, alpha, gain, influence }) => {
                (order.quantile_alpha, order.quantile_gain, order.quantile_influence) = (alpha, gain, influence);
                order.baseline_begins = i32::from(begins);
            }
            None => {}
        }
        if let Some(census) = &mut self.census {
            order.frames_before = census.frames() as f64;
            let entry = census.learns();
            let kept = Entry { frames: order.frames_before, fade: 1.0, influence_sd: f64::INFINITY };
            let Entry { frames, fade, influence_sd } = entry.unwrap_or(kept);
            order.learns = i32::from(entry.is_some());
            (order.frames_after, order.fade, order.influence_sd) = (frames, fade, influence_sd);
            order.frames_now = census.frames() as f64;
        }
    }

    /// What happens after the device has answered; false when the frame does not match the template.
    fn end(
        &mut self,
        frame: &Frame,
        parameters: &Parameters,
        state: State,
        outcome: &Outcome,
        observation: &mut Observation,
    ) -> bool {
        observation.non_finite_pixels = outcome.non_finite;
        observation.saturated_pixels = outcome.saturated;
        let mut tracked = None;
        if state.registers
            && let Some(tracker) = &mut self.host.tracker
        {
            let [dy, dx] = outcome.shift;
            let measured = Shift { dy, dx, peak: outcome.peak, at_bound: outcome.at_bound != 0 };
            let found = tracker.accept(measured, self.host.peaks.lowest());
            if !self.host.matches(&found, observation) {
                return false;
            }
            tracked = Some(found);
        }
        observation.relearn = self.learn_on_host(frame, parameters, state, tracked).or(observation.relearn);
        if state.straight {
            self.host.place();
        }
        self.host.trust.learn();
        observation.warming_up = !state.steady || self.progress().warms_up();
        self.host.try_out(observation, parameters);
        self.host.count_down(observation, self.progress());
        true
    }

    /// Line phase and template are learnt on the host, from the guide channel.
    fn learn_on_host(
        &mut self,
        frame: &Frame,
        parameters: &Parameters,
        state: State,
        tracked: Option<Tracked>,
    ) -> Option<Relearn> {
        let learns_template = state.straight && self.host.tracker.as_ref().is_some_and(|t| t.learns(tracked));
        if state.straight && !learns_template {
            return None;
        }
        convert(self.simd, frame.pixels(), self.guide_channel, &parameters.convert, &mut self.light);
        match &mut self.host.line_phase {
            Some(line_phase) if !state.straight => {
                line_phase.add(&self.light);
                return None;
            }
            _ => {}
        }
        if let Some(offset_px) = self.host.line_phase_px() {
            correct(&mut self.light, self.width, offset_px);
        }
        self.host.learn_template(&self.light, tracked)
    }
}
