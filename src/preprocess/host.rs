//! What the host decides about frames and learns of an animal, whichever processor does the arithmetic on pixels.
//!
//! Why it exists: whether a frame is believed, where it lies, when a warm-up is over and whether a saved state matches are decided by the
//! same code on the CPU and for a device. What it must never do: touch F₀ or the statistics, which lie where they are computed.

use super::average::Group;
use super::line_phase::LinePhaseEstimator;
use super::memory::Needed;
use super::placement::Placer;
use super::rate::{Began, RateMeter};
use super::simd::Simd;
use super::tracker::{Tracked, Tracker};
use super::trial::Trial;
use super::trust::{PeakWatch, Trust};
use crate::frame::placement::Placement;
use crate::frame::{AnimalState, Distrust, FrameInfo, Observation, PixelType, Relearn, Shape, TakenUp};
use crate::model::parameters::Parameters;

/// Everything learnt of one animal but F₀ and statistics.
pub(super) struct Host {
    pub trust: Trust,
    pub peaks: PeakWatch,
    pub began: Began,
    pub rate: RateMeter,
    pub line_phase: Option<LinePhaseEstimator>,
    pub tracker: Option<Tracker>,
    /// With an atlas.
    pub placer: Option<Placer>,
    /// Line phase, template and placement have been ready once: what is learnt now is kept.
    pub settled: bool,
    /// A state was taken up, and its first frames are compared with it.
    pub trial: Option<Trial>,
    /// They did not match: everything is forgotten before the next frame.
    pub spent: bool,
}

/// How far F₀ and statistics are, and the frames that are averaged into one.
#[derive(Clone, Copy)]
pub(super) struct Progress<'a> {
    pub needed: [Option<Needed>; 2],
    pub group: &'a Group,
}

impl Progress<'_> {
    /// F₀ or statistics have not seen enough frames.
    pub fn warms_up(&self) -> bool {
        self.needed.iter().flatten().any(|needed| needed.left > 0)
    }
}

impl Host {
    /// For frames of this shape, `frame_rate_hz` model frames per second.
    pub fn new(parameters: &Parameters, simd: Simd, frame_rate_hz: f64, shape: Shape) -> Self {
        let Shape { height, width, .. } = shape;
        let share_min = if parameters.trust.enabled { parameters.trust.peak_share_min } else { 0.0 };
        Self {
            trust: Trust::new(parameters, simd, frame_rate_hz, shape),
            peaks: PeakWatch::new(share_min),
            began: Began::default(),
            rate: RateMeter::new(frame_rate_hz * parameters.average_frames as f64, parameters.pause_periods),
            line_phase: parameters.line_phase.as_ref().map(|p| LinePhaseEstimator::new(p, simd, height, width)),
            tracker: parameters.registration.as_ref().map(|p| Tracker::new(p, height, width)),
            placer: parameters.atlas.as_ref().map(|p| Placer::new(p, height, width)),
            settled: false,
            trial: None,
            spent: false,
        }
    }

    /// Correction of odd lines, px, once it is known.
    pub fn line_phase_px(&self) -> Option<f32> {
        self.line_phase.as_ref().and_then(LinePhaseEstimator::offset_px)
    }

    /// The line phase is known.
    pub fn is_straight(&self) -> bool {
        self.line_phase.is_none() || self.line_phase_px().is_some()
    }

    /// Where the animal lies on the atlas, once it is found.
    pub fn placement(&self) -> Option<Placement> {
        self.placer.as_ref().and_then(Placer::found)
    }

    /// The same, unless what was taken up is still on trial or did not match.
    pub fn believed_placement(&self) -> Option<Placement> {
        self.placement().filter(|_| self.trial.is_none() && !self.spent)
    }

    /// Line phase and template are ready, and the placement is found.
    pub fn is_steady(&self) -> bool {
        let placed = self.placer.is_none() || self.placement().is_some();
        self.is_straight() && placed && self.tracker.as_ref().is_none_or(Tracker::is_ready)
    }

    /// Goes on looking for the placement, from the first template on; true when it was found just now. It does not change with a renewed
    /// template, whose displacement from the first is undone with the shift.
    pub fn place(&mut self) -> bool {
        let template = self.tracker.as_ref().and_then(Tracker::template);
        let (Some(placer), Some((template, _))) = (&mut self.placer, template) else { return false };
        placer.step(template)
    }

    pub fn tell_rate(&self, observation: &mut Observation) {
        if let Some(hz) = self.rate.hz() {
            observation.frame_rate_hz = hz as f32;
            observation.frame_rate_off = self.rate.is_off(hz);
        }
    }

    /// The time of a believed frame: its rate, and whether the window begins anew with it.
    pub fn measure_rate(&mut self, info: &FrameInfo, observation: &mut Observation) {
        observation.restart = self.rate.add(&self.began.with(info));
        self.tell_rate(observation);
    }

    /// The shift of a frame, as measured; false when the frame does not match the template.
    pub fn matches(&mut self, tracked: &Tracked, observation: &mut Observation) -> bool {
        let Tracked { shift, rejected, mismatch } = *tracked;
        observation.shift_doubtful = rejected;
        observation.shift_px = Some([shift.dy, shift.dx]);
        observation.shift_peak = shift.peak;
        observation.shift_at_bound = shift.at_bound;
        if !mismatch {
            self.peaks.learn(shift.peak);
        }
        !mismatch
    }

    /// Adds the guide channel of a believed frame to the template that is being built or refreshed.
    pub fn learn_template(&mut self, light: &[f32], tracked: Option<Tracked>) -> Option<Relearn> {
        let tracker = self.tracker.as_mut()?;
        let templates = tracker.template_count();
        let used = tracker.learn(light, tracked, || self.trust.template_shows_tissue());
        if tracker.template_count() != templates {
            self.peaks.forget();
        }
        if used {
            return None;
        }
        self.trust.begin_template();
        Some(Relearn::Template)
    }

    /// The next frames make a new template; the old one stays in use until then.
    pub fn renew_template(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.renew();
            self.trust.begin_template();
        }
    }

    /// What was learnt came from darkness.
    pub fn forget(&mut self) {
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
    }

    /// Of a frame that is not believed: nothing is learnt from it.
    pub fn disbelieve(&self, distrust: Distrust, mut observation: Observation, progress: Progress<'_>) -> Observation {
        observation.distrust = Some(distrust);
        observation.warming_up = !self.is_steady() || progress.warms_up() || self.spent;
        observation.taken_up = observation.taken_up.or(self.trial.as_ref().map(Trial::standing));
        self.count_down(&mut observation, progress);
        observation
    }

    /// While a state that was taken up is on trial: this frame shows a picture, does it match?
    pub fn try_out(&mut self, observation: &mut Observation, parameters: &Parameters) {
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

    /// How long the warm-up will take, in frames of the stream: those of line phase, template and placement, then those of F₀ and statistics,
    /// which begin with the first registered frame.
    pub fn count_down(&self, observation: &mut Observation, Progress { needed, group }: Progress<'_>) {
        if !observation.warming_up {
            return;
        }
        let before = self.line_phase.as_ref().map_or(0, LinePhaseEstimator::frames_left)
            + self.tracker.as_ref().map_or(0, Tracker::frames_left)
            + self.placer.as_ref().map_or(0, Placer::frames_left);
        let left = |needed: Needed| if self.settled { needed.left } else { needed.whole };
        let learning = needed.into_iter().flatten().map(left).max().unwrap_or(0);
        let begun = if self.settled { group.frames() } else { 0 };
        // The last of them is no warm-up any more.
        let learning = (learning * group.wanted() as u64).saturating_sub(begun as u64 + 1);
        observation.warmup_left = u32::try_from(before as u64 + learning).unwrap_or(u32::MAX);
    }

    /// The state of frames like these, without F₀ and statistics; `None` unless all of it is warm and believed.
    pub fn keep(&self, shape: Shape, pixel_type: PixelType, progress: Progress<'_>) -> Option<AnimalState> {
        let unsure = progress.warms_up() || self.trial.is_some() || self.spent;
        if !self.is_steady() || !self.settled || unsure {
            return None;
        }
        let mut template = None;
        if let Some(tracker) = &self.tracker {
            self.peaks.keep(template.insert(tracker.keep()?));
        }
        let light: Vec<[f64; 2]> = self.trust.light().collect();
        let state = AnimalState {
            line_phase_px: self.line_phase_px(),
            template,
            placement: self.placer.as_ref().and_then(Placer::keep),
            light_levels: light.iter().map(|[level, _]| *level).collect(),
            light_contrasts: light.iter().map(|[_, contrast]| *contrast).collect(),
            ..AnimalState::default()
        };
        Some(state.of_frames(shape, pixel_type))
    }

    /// Goes on from a state that fits; it is on trial.
    pub fn take_up(&mut self, state: &AnimalState) {
        if let (Some(line_phase), Some(offset_px)) = (&mut self.line_phase, state.line_phase_px) {
            line_phase.take_up(offset_px);
        }
        if let (Some(tracker), Some(template)) = (&mut self.tracker, &state.template) {
            tracker.take_up(template);
            self.peaks.take_up(template);
        }
        if let (Some(placer), Some(placement)) = (&mut self.placer, &state.placement) {
            placer.take_up(placement);
        }
        (self.settled, self.trial) = (true, Some(Trial::of(state)));
    }
}
