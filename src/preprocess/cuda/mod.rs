//! Preprocessing on a device: the frame stays there from the first kernel to the tensor.
//!
//! Why it exists: each frame needs one copy to the device, one launch of a captured program, and one small outcome that the device
//! writes into host memory. Decisions about whole frames – line phase, template, which shifts are accepted, when F₀ and the
//! statistics start – are made by the CPU implementation's own code; the device does the bulk of the arithmetic.
//! What it must never do: allocate after the first frame of a geometry, or continue after the device failed.
//!
//! While line phase and template are being learnt, and while a template is refreshed, the guide channel is also converted on the
//! host, which learns from it as the CPU implementation does; this delays such a frame. The host waits for the device twice per
//! frame: after preprocessing, whose outcome decides which shift is accepted, and after the encoder.

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
use super::average::Group;
use super::baseline::{Pace, Step};
use super::convert::{convert, planes};
use super::cpu::{peak_share_min, tell_shift};
use super::line_phase::{LinePhaseEstimator, correct};
use super::normalise::{Census, Entry};
use super::placement::Placer;
use super::rate::{Began, RateMeter};
use super::registration::Shift;
use super::simd::Simd;
use super::tracker::{Tracked, Tracker};
use super::trial::Trial;
use super::trust::{PeakWatch, Trust};
use super::{Prepared, Preprocess, PreprocessError, Request, TakeUpError, Template, memory};
use crate::cuda::{DeviceMemory, Fault, HostMemory, Machine, Pulse};
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
    trust: Trust,
    peaks: PeakWatch,
    began: Began,
    rate: RateMeter,
    line_phase: Option<LinePhaseEstimator>,
    tracker: Option<Tracker>,
    placer: Option<Placer>,
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
    settled: bool,
    /// A state was taken up, and its first frames are compared with it.
    trial: Option<Trial>,
    /// They did not match: everything is forgotten before the next frame.
    spent: bool,
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
            let registrar = self.animal.as_ref().and_then(|a| a.tracker.as_ref()).map(Tracker::registrar);
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
            (Request::RenewTemplate | Request::ResetBaseline, None) => {}
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
        animal.began.note(&frame.info);
        if let Some(distrust) = animal.trust.judge(frame) {
            animal.count_flaws(frame, &self.parameters, &mut observation);
            return Ok(animal.disbelieve(distrust, observation));
        }
        self.sequence += 1;
        let state = animal.begin(stage, &mut observation)?;
        let before = (animal.group, animal.pace, animal.census, animal.rate, animal.began);
        animal.measure_rate(&frame.info, &mut observation);
        let order = animal.order(frame.info.ordinal(), self.sequence, state);
        stage.order.put(0, order);
        self.machine.run(frame.bytes(), stage.raw, stage.frame.as_ref())?;
        let outcome: Outcome = stage.outcome.get(0);
        if outcome.sequence != self.sequence {
            let cause = format!("the device answered for frame {}, not for {}", outcome.sequence, self.sequence);
            return Err(Fault { device: self.machine.name().to_owned(), doing: "running the kernels", cause }.into());
        }
        if !animal.end(frame, &self.parameters, state, &outcome, &mut observation) {
            (animal.group, animal.pace, animal.census, animal.rate, animal.began) = before;
            let mut observation = Observation { restart: None, ..observation };
            animal.try_out(&mut observation, &self.parameters);
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

    fn template(&self) -> Option<Template<'_>> {
        let (animal, stage) = (self.animal.as_ref()?, self.stage.as_ref()?);
        let (pixels, generation) = animal.tracker.as_ref()?.template()?;
        let Shape { height, width, .. } = stage.shape;
        Some(Template { pixels, height, width, generation })
    }

    fn geometry(&self) -> Option<Geometry> {
        // What is on trial has not shown that it is the same animal.
        let stage = self.animal.as_ref().filter(|animal| animal.trial.is_none()).and(self.stage.as_ref())?;
        Some(Geometry { shape: stage.shape, pixel_type: stage.pixel_type })
    }

    fn placement(&self) -> Option<Placement> {
        let believed = self.animal.as_ref().filter(|animal| animal.trial.is_none() && !animal.spent);
        believed?.placer.as_ref()?.found()
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
            trust: Trust::new(parameters, simd, frame_rate_hz, info.shape),
            peaks: PeakWatch::new(peak_share_min(parameters)),
            began: Began::default(),
            rate: RateMeter::new(frame_rate_hz * parameters.average_frames as f64, parameters.pause_periods),
            line_phase: parameters.line_phase.as_ref().map(|p| LinePhaseEstimator::new(p, simd, height, width)),
            tracker: parameters.registration.as_ref().map(|p| Tracker::new(p, height, width)),
            placer: parameters.atlas.as_ref().map(|p| Placer::new(p, height, width)),
            laid: false,
            group: Group::new(parameters.average_frames),
            pace: parameters.baseline.as_ref().map(|p| Pace::new(p, frame_rate_hz)),
            census: parameters.normalise.as_ref().map(|p| Census::new(p, frame_rate_hz)),
            guide_channel: channels[guide],
            channels,
            light: vec![0.0; height * width],
            width,
            templates: 0,
            settled: false,
            trial: None,
            spent: false,
        }
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
            let needed = [self.pace.as_ref().map(Pace::needed), self.census.as_ref().map(Census::needed)];
            let (line_phase, tracker) = (self.line_phase.as_ref(), self.tracker.as_ref());
            let placer = self.placer.as_ref();
            observation.warmup_left =
                memory::warmup_left(line_phase, tracker, placer, self.settled, needed, &self.group);
        }
    }

    /// What happens before the frame is given to the device.
    fn begin(&mut self, stage: &Stage, observation: &mut Observation) -> Result<State, Fault> {
        observation.relearn = self.trust.relearn();
        self.relearn(observation.relearn);
        self.tell_rate(observation);
        observation.line_phase_px = self.line_phase.as_ref().and_then(LinePhaseEstimator::offset_px).unwrap_or(0.0);
        let (straight, steady) = self.is_steady();
        let has_template = self.tracker.as_ref().is_some_and(Tracker::is_ready);
        if steady && !self.settled {
            self.settled = true;
            self.forget_light();
        }
        self.hand_over_template(stage.reference.as_ref())?;
        self.hand_over_placement(stage)?;
        Ok(State { straight, steady, registers: straight && has_template })
    }

    /// Is the line phase known, and are there a template and a placement as well?
    fn is_steady(&self) -> (bool, bool) {
        let straight = self.line_phase.as_ref().is_none_or(|p| p.offset_px().is_some());
        let placed = self.placer.as_ref().is_none_or(|p| p.found().is_some());
        (straight, straight && placed && self.tracker.as_ref().is_none_or(Tracker::is_ready))
    }

    /// F₀ or statistics have not seen enough frames.
    fn warms_up(&self) -> bool {
        self.pace.as_ref().is_some_and(|pace| !pace.is_warm())
            || self.census.as_ref().is_some_and(|census| !census.is_warm())
    }

    fn measure_rate(&mut self, info: &FrameInfo, observation: &mut Observation) {
        observation.restart = self.rate.add(&self.began.with(info));
        if observation.restart.is_some() {
            self.group.forget();
        }
        self.tell_rate(observation);
    }

    fn tell_rate(&self, observation: &mut Observation) {
        if let Some(hz) = self.rate.hz() {
            observation.frame_rate_hz = hz as f32;
            observation.frame_rate_off = self.rate.is_off(hz);
        }
    }

    /// A frame that is not believed: nothing is learnt from it.
    fn disbelieve(&self, distrust: Distrust, mut observation: Observation) -> Prepared<'static> {
        self.tell_rate(&mut observation);
        let warming_up = !self.is_steady().1 || self.warms_up() || self.spent;
        let taken_up = observation.taken_up.or(self.trial.as_ref().map(Trial::standing));
        let mut observation = Observation { distrust: Some(distrust), warming_up, taken_up, ..observation };
        self.count_down(&mut observation);
        Prepared { observation, tensor: None }
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
                if let Some(placer) = &mut self.placer {
                    placer.forget();
                }
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
        let standard = self.tracker.as_ref().and_then(|tracker| tracker.registrar().standard());
        let (Some((standard, templates)), Some(to)) = (standard, to) else { return Ok(()) };
        if templates != self.templates {
            to.fill(&standard.reference.values)?;
            self.templates = templates;
        }
        Ok(())
    }

    /// A placement that was found goes to the device once.
    fn hand_over_placement(&mut self, stage: &Stage) -> Result<(), Fault> {
        let affine = self.placer.as_ref().and_then(Placer::affine).filter(|_| !self.laid);
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
            line_shift: self
                .line_phase
                .as_ref()
                .and_then(LinePhaseEstimator::offset_px)
                .map_or(0, |px| px.round() as i32),
            group_begins: i32::from(place.begins),
            group_full: i32::from(place.full),
            lowest: self.peaks.lowest(),
            laid: i32::from(self.laid),
            ..Order::default()
        };
        if let Some(tracker) = &self.tracker {
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
            && let Some(tracker) = &mut self.tracker
        {
            let [dy, dx] = outcome.shift;
            let measured = Shift { dy, dx, peak: outcome.peak, at_bound: outcome.at_bound != 0 };
            let found = tracker.accept(measured, self.peaks.lowest());
            tell_shift(&found, observation);
            if found.mismatch {
                return false;
            }
            self.peaks.learn(found.shift.peak);
            tracked = Some(found);
        }
        if let Some(relearn) = self.learn_on_host(frame, parameters, state, tracked) {
            observation.relearn = Some(relearn);
        }
        self.place(state);
        self.trust.learn();
        observation.warming_up = !state.steady || self.warms_up();
        self.try_out(observation, parameters);
        self.count_down(observation);
        true
    }

    /// Goes on looking for the placement, from the first template on.
    fn place(&mut self, state: State) {
        let template = self.tracker.as_ref().filter(|_| state.straight).and_then(Tracker::template);
        if let (Some(placer), Some((template, _))) = (&mut self.placer, template) {
            placer.step(template);
        }
    }

    /// Line phase and template are learnt on the host, from the guide channel.
    fn learn_on_host(
        &mut self,
        frame: &Frame,
        parameters: &Parameters,
        state: State,
        tracked: Option<Tracked>,
    ) -> Option<Relearn> {
        let learns_template = state.straight && self.tracker.as_ref().is_some_and(|t| t.learns(tracked));
        if state.straight && !learns_template {
            return None;
        }
        convert(self.simd, frame.pixels(), self.guide_channel, &parameters.convert, &mut self.light);
        match (&mut self.line_phase, &mut self.tracker) {
            (Some(line_phase), _) if !state.straight => line_phase.add(&self.light),
            (line_phase, Some(tracker)) => {
                if let Some(offset_px) = line_phase.as_ref().and_then(LinePhaseEstimator::offset_px) {
                    correct(&mut self.light, self.width, offset_px);
                }
                let templates = tracker.template_count();
                let used = tracker.learn(&self.light, tracked, || self.trust.template_shows_tissue());
                if tracker.template_count() != templates {
                    self.peaks.forget();
                }
                if !used {
                    self.trust.begin_template();
                    return Some(Relearn::Template);
                }
            }
            _ => {}
        }
        None
    }
}
