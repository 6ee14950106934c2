//! A frame with its arrival count and the requests carried out just before it.
//!
//! Why it exists: a replay is bit-identical only if every change of state lies between the same two frames as in the live run;
//! so requests travel with the frame. What it must never do: allocate. However many requests arrive between two frames, their
//! combined effect is one small value.

use super::Frame;

/// Requests that change the state of preprocessing and encoder between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new animal: forget template, baseline, statistics, frame rate.
    Reset,
    /// Build a new template from the next frames; keep baseline and statistics.
    RenewTemplate,
    /// Forget F₀ and the moving average; keep the template.
    ResetBaseline,
    /// Stop or resume the update of the normalisation statistics.
    FreezeNormalisation(bool),
}

impl Request {
    /// The request's name on the control socket and in recordings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::RenewTemplate => "template reset",
            Self::ResetBaseline => "baseline reset",
            Self::FreezeNormalisation(true) => "normalisation freeze",
            Self::FreezeNormalisation(false) => "normalisation resume",
        }
    }

    /// The request with this name.
    pub fn of_name(name: &str) -> Option<Self> {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    reset: bool,
    renew_template: bool,
    reset_baseline: bool,
    freeze: Option<bool>,
}

impl Requests {
    /// Adds a request after those before it.
    pub fn add(&mut self, request: Request) {
        match request {
            // A reset discards the requests before it.
            Request::Reset => *self = Self { reset: true, ..Self::default() },
            Request::RenewTemplate => self.renew_template = true,
            Request::ResetBaseline => self.reset_baseline = true,
            Request::FreezeNormalisation(frozen) => self.freeze = Some(frozen),
        }
    }

    /// True without any request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Requests of the same effect, in the order in which they must be carried out.
    pub fn iter(&self) -> impl Iterator<Item = Request> + use<> {
        [
            self.reset.then_some(Request::Reset),
            self.renew_template.then_some(Request::RenewTemplate),
            self.reset_baseline.then_some(Request::ResetBaseline),
            self.freeze.map(Request::FreezeNormalisation),
        ]
        .into_iter()
        .flatten()
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
        requests.iter().for_each(|request| all.add(*request));
        all.iter().collect()
    }

    #[test]
    fn a_reset_forgets_what_was_asked_before_it_and_nothing_that_comes_after() {
        use Request::{FreezeNormalisation, RenewTemplate, Reset, ResetBaseline};
        assert_eq!(after(&[]), []);
        assert_eq!(after(&[FreezeNormalisation(true), RenewTemplate, Reset]), [Reset]);
        assert_eq!(after(&[Reset, FreezeNormalisation(true)]), [Reset, FreezeNormalisation(true)]);
        assert_eq!(after(&[ResetBaseline, RenewTemplate, ResetBaseline]), [RenewTemplate, ResetBaseline]);
        assert_eq!(after(&[FreezeNormalisation(true), FreezeNormalisation(false)]), [FreezeNormalisation(false)]);
    }

    #[test]
    fn words_lead_back_to_their_request() {
        for request in after(&[Request::Reset, Request::RenewTemplate, Request::ResetBaseline]) {
            assert_eq!(Request::of_name(request.name()), Some(request));
        }
        assert_eq!(Request::of_name("shutdown"), None);
    }
}
