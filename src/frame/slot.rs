//! A frame with its arrival count and the requests carried out just before it.
//!
//! Why it exists: a replay is bit-identical only if every change of state lies between the same two frames as in the live run;
//! so requests travel with the frame. What it must never do: allocate. However many requests arrive between two frames, their
//! combined effect is one small value.

use std::sync::Arc;

use super::{Frame, Name, SavedAnimal, Switch, Switches};

/// Name of [`Request::TakeUp`] in recordings.
pub const TAKE_UP: &str = "animal";

/// Requests that change the state of preprocessing and encoder between two frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new animal: forget template, baseline, statistics, frame rate.
    Reset,
    /// The same, and what is learnt from now on is saved under this name.
    NewAnimal(Name),
    /// A new animal of which a state was saved: go on with that, if the first frames match it.
    TakeUp(Arc<SavedAnimal>),
    /// Build a new template from the next frames; keep baseline and statistics.
    RenewTemplate,
    /// Forget F₀ and the moving average; keep the template.
    ResetBaseline,
    /// Stop or resume the update of the normalisation statistics.
    FreezeNormalisation(bool),
    /// Throw a switch of the rule of this name. Changes no decode.
    Decision(Name, Switch),
}

/// First word of a switch of a rule in recordings, and of the command.
const DECISION: &str = "decision";

impl Request {
    /// The request's name on the control socket and in recordings.
    pub const fn name(&self) -> &'static str {
        match self {
            // The name of an animal changes no decode.
            Self::Reset | Self::NewAnimal(_) => "reset",
            Self::TakeUp(_) => TAKE_UP,
            Self::RenewTemplate => "template reset",
            Self::ResetBaseline => "baseline reset",
            Self::FreezeNormalisation(true) => "normalisation freeze",
            Self::FreezeNormalisation(false) => "normalisation resume",
            Self::Decision(..) => DECISION,
        }
    }

    /// All its words, as they are recorded.
    pub fn words(&self) -> String {
        match self {
            Self::Decision(rule, switch) => format!("{DECISION} {rule} {}", switch.name()),
            other => other.name().to_owned(),
        }
    }

    /// Everything learnt before it is forgotten.
    pub const fn begins_animal(&self) -> bool {
        matches!(self, Self::Reset | Self::NewAnimal(_) | Self::TakeUp(_))
    }

    /// The request with these words; none of those that carry a state, which are recorded with it.
    pub fn of_name(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix(DECISION) {
            let (rule, switch) = rest.trim().split_once(' ')?;
            return Some(Self::Decision(rule.parse().ok()?, Switch::of_name(switch)?));
        }
        let all = [
            Self::Reset,
            Self::RenewTemplate,
            Self::ResetBaseline,
            Self::FreezeNormalisation(true),
            Self::FreezeNormalisation(false),
        ];
        all.into_iter().find(|request| request.name() == name)
    }
}

/// The combined effect of the requests since the previous frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The last one with which an animal begins.
    animal: Option<Request>,
    renew_template: bool,
    reset_baseline: bool,
    freeze: Option<bool>,
    switches: Switches,
}

impl Requests {
    /// Adds a request after those before it.
    pub fn add(&mut self, request: Request) {
        match request {
            // A new animal discards the requests before it, but for the rules: they are not the animal's.
            Request::Reset | Request::NewAnimal(_) | Request::TakeUp(_) => {
                *self = Self { animal: Some(request), switches: self.switches, ..Self::default() };
            }
            Request::RenewTemplate => self.renew_template = true,
            Request::ResetBaseline => self.reset_baseline = true,
            Request::FreezeNormalisation(frozen) => self.freeze = Some(frozen),
            Request::Decision(rule, switch) => self.switches.add(rule, switch),
        }
    }

    /// True without any request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Requests of the same effect, in the order in which they must be carried out.
    pub fn iter(&self) -> impl Iterator<Item = Request> + use<> {
        [
            self.animal.clone(),
            self.renew_template.then_some(Request::RenewTemplate),
            self.reset_baseline.then_some(Request::ResetBaseline),
            self.freeze.map(Request::FreezeNormalisation),
        ]
        .into_iter()
        .flatten()
        .chain(self.switches.iter().map(|(rule, switch)| Request::Decision(rule, switch)))
    }
}

/// What travels on the first lane, and on to the recorder.
pub struct FrameSlot {
    /// The frame.
    pub frame: Frame,
    /// Number of this frame among those that entered the lane, so that skipped frames can be counted.
    pub arrival: u64,
    /// Series begun up to and including this frame: if the first frames of a series are skipped, the first decoded one begins it.
    pub series: u64,
    /// Carried out between the previous frame and this one: those of a recorded session come from the source, the compute thread
    /// adds the others.
    pub requests: Requests,
}

impl FrameSlot {
    /// A slot for a frame of at most `capacity_bytes` of pixels.
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        Self::of(Frame::with_capacity(capacity_bytes))
    }

    /// A slot around a frame's memory.
    pub fn of(frame: Frame) -> Self {
        Self { frame, arrival: 0, series: 0, requests: Requests::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(requests: &[Request]) -> Vec<Request> {
        let mut all = Requests::default();
        requests.iter().for_each(|request| all.add(request.clone()));
        all.iter().collect()
    }

    #[test]
    fn a_reset_forgets_what_was_asked_before_it_and_nothing_that_comes_after() {
        use Request::{FreezeNormalisation, RenewTemplate, Reset, ResetBaseline};
        assert_eq!(after(&[]), []);
        assert_eq!(after(&[FreezeNormalisation(true), RenewTemplate, Reset]), [Reset]);
        assert_eq!(after(&[Reset, FreezeNormalisation(true)]), [Reset, FreezeNormalisation(true)]);
        let fly = Request::NewAnimal("fly3".parse().unwrap());
        assert_eq!(after(&[Reset, fly.clone(), RenewTemplate]), [fly.clone(), RenewTemplate]);
        assert_eq!(after(&[fly, Reset]), [Reset]);
        assert_eq!(after(&[ResetBaseline, RenewTemplate, ResetBaseline]), [RenewTemplate, ResetBaseline]);
        assert_eq!(after(&[FreezeNormalisation(true), FreezeNormalisation(false)]), [FreezeNormalisation(false)]);
    }

    #[test]
    fn words_lead_back_to_their_request() {
        for request in after(&[Request::Reset, Request::RenewTemplate, Request::ResetBaseline]) {
            assert_eq!(Request::of_name(request.name()), Some(request));
        }
        let arm = Request::Decision("groom".parse().unwrap(), Switch::Arm);
        assert_eq!(Request::of_name(&arm.words()), Some(arm.clone()));
        assert_eq!(after(&[arm.clone(), Request::Reset]), [Request::Reset, arm]);
        assert_eq!(Request::of_name("decision groom explode"), None);
        assert_eq!(Request::of_name("shutdown"), None);
    }
}
