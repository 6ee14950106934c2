//! When a decode can be trusted: the fail-safe as a state machine without clock, socket or file.
//!
//! Why it exists: a stimulus or a laser follows the decodes, so a stale decode must never look fresh, and tests must prove that
//! without waiting in real time. What it must never do: read a clock (times are passed in), or report the same silence twice.
//!
//! ```text
//! waiting ──fresh decode──▶ fresh ──deadline passed / decode too old──▶ stale
//!                             ▲──────────────fresh decode────────────────┘
//! any ──finish──▶ ended
//! ```
//! The age of a decode is that of its frame: at receipt, as far as it is known, and since then. So an old frame is stale, whether
//! it was decoded late or arrived late. The heartbeat runs while waiting (alive, nothing seen yet) and while fresh; in the other
//! states there is silence.

use crate::frame::event::{Event, StaleReason};

/// State of the fail-safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Alive; no decode yet.
    Waiting,
    /// The last decode is younger than the deadline.
    Fresh,
    /// It is not; the neutral action was published.
    Stale,
    /// The run has ended: nothing more is published.
    Ended,
}

/// How to publish one decode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// `Some`: publish it with quality `stale`, the neutral action, no embedding and this reason.
    pub stale: Option<StaleReason>,
    /// To be published with it: a silence begins or ends.
    pub event: Option<Event>,
}

/// The fail-safe of one sink.
#[derive(Clone, Copy, Debug)]
pub struct FailSafe {
    deadline_ns: u64,
    state: State,
    /// When the last fresh frame was taken, as far as is known.
    fresh_taken_ns: u64,
}

impl FailSafe {
    /// Decodes older than `deadline_ns` are stale.
    pub const fn new(deadline_ns: u64) -> Self {
        Self { deadline_ns, state: State::Waiting, fresh_taken_ns: 0 }
    }

    /// The current state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// True while a heartbeat may be sent.
    pub const fn alive(&self) -> bool {
        matches!(self.state, State::Waiting | State::Fresh)
    }

    /// Judges a decode whose frame number `frame` arrived at `received_ns`, when it was `age_ns` old; both times on the same
    /// clock, ns.
    pub fn decode(&mut self, frame: u64, received_ns: u64, age_ns: u64, now_ns: u64) -> Verdict {
        let since_receipt_ns = now_ns.saturating_sub(received_ns);
        let age_ns = since_receipt_ns.saturating_add(age_ns);
        let before = self.state;
        if before == State::Ended {
            return Verdict { stale: Some(StaleReason::Late), event: None };
        }
        if age_ns > self.deadline_ns {
            self.state = State::Stale;
            let late = since_receipt_ns > self.deadline_ns;
            let reason = if late { StaleReason::Late } else { StaleReason::Aged };
            let event = Event::Stale { age_ms: age_ns / 1_000_000, reason };
            return Verdict { stale: Some(reason), event: (before != State::Stale).then_some(event) };
        }
        self.state = State::Fresh;
        self.fresh_taken_ns = now_ns.saturating_sub(age_ns);
        Verdict { stale: None, event: (before == State::Stale).then_some(Event::Recovered { frame }) }
    }

    /// Checks the deadline. `Some` exactly once per silence: publish one neutral decode and this event, then nothing.
    pub fn tick(&mut self, now_ns: u64) -> Option<Event> {
        let age_ns = now_ns.saturating_sub(self.fresh_taken_ns);
        if self.state != State::Fresh || age_ns <= self.deadline_ns {
            return None;
        }
        self.state = State::Stale;
        Some(Event::Stale { age_ms: age_ns / 1_000_000, reason: StaleReason::NoFrame })
    }

    /// The run ends. True the first time: publish one neutral decode with quality `fail`.
    pub fn finish(&mut self) -> bool {
        std::mem::replace(&mut self.state, State::Ended) != State::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn stale(age_ms: u64, reason: StaleReason) -> Event {
        Event::Stale { age_ms, reason }
    }

    #[test]
    fn waiting_for_the_first_frame_is_alive_for_ever() {
        let mut failsafe = FailSafe::new(100 * MS);
        assert_eq!(failsafe.tick(u64::MAX), None);
        assert!(failsafe.alive());
        assert_eq!(failsafe.state(), State::Waiting);
    }

    #[test]
    fn the_deadline_counts_from_the_receipt_of_the_frame() {
        let mut failsafe = FailSafe::new(100 * MS);
        assert_eq!(failsafe.decode(1, 1000 * MS, 0, 1060 * MS), Verdict { stale: None, event: None });
        assert_eq!(failsafe.tick(1100 * MS), None, "exactly at the deadline is not yet late");
        assert_eq!(failsafe.tick(1101 * MS), Some(stale(101, StaleReason::NoFrame)), "though decoded 41 ms ago");
        assert!(!failsafe.alive());
    }

    #[test]
    fn a_silence_is_announced_once() {
        let mut failsafe = FailSafe::new(100 * MS);
        failsafe.decode(1, 0, 0, 0);
        assert!(failsafe.tick(101 * MS).is_some());
        assert!((102..1000).all(|ms| failsafe.tick(ms * MS).is_none()));
    }

    #[test]
    fn an_old_frame_decoded_late_is_stale_and_does_not_end_a_silence() {
        let mut failsafe = FailSafe::new(100 * MS);
        failsafe.decode(1, 0, 0, 0);
        let late = failsafe.decode(2, 10 * MS, 0, 111 * MS);
        let why = Some(StaleReason::Late);
        assert_eq!(late, Verdict { stale: why, event: Some(stale(101, StaleReason::Late)) });
        assert_eq!(failsafe.decode(3, 20 * MS, 0, 130 * MS), Verdict { stale: why, event: None });
        assert_eq!(failsafe.tick(140 * MS), None, "the late decode has already said it");
        assert!(!failsafe.alive());
    }

    #[test]
    fn a_fresh_frame_ends_the_silence_and_says_so() {
        let mut failsafe = FailSafe::new(100 * MS);
        failsafe.decode(1, 0, 0, 0);
        failsafe.tick(200 * MS);
        let back = failsafe.decode(7, 300 * MS, 0, 301 * MS);
        assert_eq!(back, Verdict { stale: None, event: Some(Event::Recovered { frame: 7 }) });
        assert!(failsafe.alive());
        assert_eq!(failsafe.decode(8, 330 * MS, 0, 331 * MS).event, None);
        assert!(failsafe.tick(431 * MS).is_some(), "and the next silence is announced again");
    }

    #[test]
    fn a_frame_that_was_old_when_it_arrived_is_stale_however_fast_it_is_decoded() {
        let mut failsafe = FailSafe::new(100 * MS);
        let aged = Verdict { stale: Some(StaleReason::Aged), event: Some(stale(3_601, StaleReason::Aged)) };
        assert_eq!(failsafe.decode(1, 5000 * MS, 3600 * MS, 5001 * MS), aged);
        assert!(!failsafe.alive());
        assert_eq!(failsafe.decode(2, 5033 * MS, 90 * MS, 5034 * MS).stale, None);
        assert_eq!(failsafe.tick(5043 * MS), None);
        assert!(failsafe.tick(5044 * MS).is_some(), "the deadline counts from when the frame was taken");
    }

    #[test]
    fn after_the_end_nothing_is_fresh() {
        let mut failsafe = FailSafe::new(100 * MS);
        failsafe.decode(1, 0, 0, 0);
        assert!(failsafe.finish());
        assert!(!failsafe.finish());
        assert!(failsafe.decode(2, 10 * MS, 0, 11 * MS).stale.is_some());
        assert_eq!(failsafe.tick(1000 * MS), None);
        assert!(!failsafe.alive());
    }
}
