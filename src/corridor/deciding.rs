//! The rules beside the decoder: every decode that is published is shown to them, and their decisions travel with it.
//!
//! Why it exists: the compute thread sees every decode once, in order, with the requests between them; a later thread may miss one, and
//! a replay must decide the same. What it must never do: read a clock but to stamp a decision.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::Shared;
use crate::decide::{Decider, RuleError, Seen, Standing};
use crate::decoder::Decoder;
use crate::frame::event::Event;
use crate::frame::{Decode, Name, Switch, Withheld};
use crate::sys::clock::now_ns;
use crate::sys::counters::{RuleCounters, count};

/// The rules of a run.
pub(super) struct Deciding {
    decider: Decider,
    /// Nothing is to be decided.
    idle: bool,
}

impl Deciding {
    /// The rules of the settings, brought together with the model; says how they stand.
    ///
    /// # Errors
    /// A rule that does not fit the model.
    pub(super) fn new(decoder: &Decoder, shared: &Shared<'_>) -> Result<Self, RuleError> {
        let rules = &shared.settings.decision;
        let deciding =
            Self { decider: Decider::new(rules, decoder.tag(), shared.settings.needed_hz)?, idle: rules.is_empty() };
        shared.handles.stats.decisions.name(rules.rules.iter().map(|rule| rule.name));
        deciding.tell(shared);
        Ok(deciding)
    }

    /// Shows a decode that is about to be published to the rules.
    pub(super) fn decide(&mut self, decode: &mut Decode, shared: &Shared<'_>) {
        // The slot may still hold what was decided with an earlier frame.
        decode.decisions.clear();
        decode.smoothed = None;
        if self.idle {
            return;
        }
        let mut made = std::mem::take(&mut decode.decisions);
        decode.smoothed = self.decider.step(&Seen::of(decode), &mut made);
        decode.decisions = made;
        if decode.decisions.is_empty() {
            return;
        }
        let now_ns = now_ns();
        for decision in &mut decode.decisions {
            decision.t_decided_ns = now_ns;
            let counters = &shared.handles.stats.decisions.rules[decision.rule];
            count(&counters.decisions, 1);
            let also: Option<&AtomicU64> = match decision.withheld {
                None => Some(&counters.outputs),
                Some(Withheld::Sham) => Some(&counters.shams),
                Some(_) => None,
            };
            also.into_iter().for_each(|counter| count(counter, 1));
        }
        self.tell(shared);
    }

    /// Throws a switch of a rule.
    pub(super) fn switch(&mut self, rule: Name, switch: Switch, shared: &Shared<'_>) {
        // A session may name a rule that the configuration of its replay does not have.
        if self.decider.switch(rule, switch) {
            self.tell(shared);
            shared.emit(Event::DecisionSwitched { rule, what: switch.name() });
        }
    }

    /// Says how the rules stand, to the status and to the publisher.
    fn tell(&self, shared: &Shared<'_>) {
        let counters = &shared.handles.stats.decisions.rules;
        for (Standing { on, armed, minute_left_ms, session_left_ms }, rule) in
            self.decider.standing().zip(counters.iter())
        {
            let RuleCounters { on: is_on, armed: is_armed, minute_left_ms: minute, session_left_ms: session, .. } =
                rule;
            is_on.store(on, Relaxed);
            is_armed.store(armed, Relaxed);
            minute.set(minute_left_ms.map(|ms| ms as f32));
            session.set(session_left_ms.map(|ms| ms as f32));
        }
    }
}
