//! A decision on its way to the sinks, and the switches that a request throws.
//!
//! Why it exists: a decision is made with a frame and travels with its decode, so that a replay makes the same one. What it must never
//! do: hold text or memory of its own; names, limits and pulses stand once in the configuration.

use super::Name;

/// Rules that a configuration may hold.
pub const RULES_MAX: usize = 16;
/// Comparisons in the two conditions of one rule together.
pub const TERMS_MAX: usize = 8;

/// Why a decision has no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The rule is not armed.
    Disarmed,
    /// By lot: a sham trial.
    Sham,
    /// The last decision was too short a time ago.
    Refractory,
    /// There were as many decisions as allowed within the window.
    Rate,
    /// The output would exceed the dose of a minute.
    DoseMinute,
    /// The output would exceed the dose of the session.
    DoseSession,
    /// The time of a yoked output passed while no decode counted.
    Missed,
}

impl Withheld {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Disarmed, Self::Sham, Self::Refractory, Self::Rate, Self::DoseMinute, Self::DoseSession, Self::Missed];

    /// The word in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disarmed => "disarmed",
            Self::Sham => "sham",
            Self::Refractory => "refractory",
            Self::Rate => "rate",
            Self::DoseMinute => "dose_minute",
            Self::DoseSession => "dose_session",
            Self::Missed => "missed",
        }
    }
}

/// What one rule decided with one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Which rule: its place in the configuration.
    pub rule: usize,
    /// Decisions of this rule so far, this one included.
    pub number: u64,
    /// Why there is no output; `None` = there is.
    pub withheld: Option<Withheld>,
    /// Was the rule armed?
    pub armed: bool,
    /// Did the lot make it a sham trial? Drawn for every decision, whatever else withholds its output.
    pub sham: bool,
    /// Which output of the earlier session it repeats, counted from 1; `None` = the rule's own condition made it.
    pub yoked: Option<u32>,
    /// From the decision to the first pulse, µs: the delay and the jitter drawn, or what is left to the time of a yoked output.
    pub delay_us: u32,
    /// Output that the dose of a minute leaves after this one, ms.
    pub minute_left_ms: Option<u32>,
    /// Output that the dose of the session leaves after this one, ms.
    pub session_left_ms: Option<u32>,
    /// The values that the conditions compared, in the order of their text; NaN = not known.
    pub values: [f32; TERMS_MAX],
    /// When it was made, `CLOCK_MONOTONIC`, ns. A stamp: it is no part of what a replay repeats.
    pub t_decided_ns: u64,
}

/// What a request does to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Look at decodes again, as if for the first time.
    On,
    /// Do not look at decodes.
    Off,
    /// Outputs from now on.
    Arm,
    /// Decisions, but no outputs.
    Disarm,
}

impl Switch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::On, Self::Off, Self::Arm, Self::Disarm];

    /// The word on the control socket and in recordings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Arm => "arm",
            Self::Disarm => "disarm",
        }
    }

    /// The switch of this word.
    pub fn of_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|switch| switch.name() == word)
    }
}

/// What requests since the last frame do to the rules, by name, in the order in which the rules were first named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    of: [Option<Thrown>; RULES_MAX],
}

/// The last words about one rule: on or off, armed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thrown {
    rule: Name,
    on: Option<bool>,
    armed: Option<bool>,
}

impl Switches {
    /// Adds one. The control socket takes only names of the configuration, which has no more than fit.
    pub fn add(&mut self, rule: Name, switch: Switch) {
        let at = self.of.iter().position(|thrown| thrown.is_none_or(|thrown| thrown.rule == rule));
        let Some(slot) = at.map(|at| &mut self.of[at]) else { return };
        let thrown = slot.get_or_insert(Thrown { rule, on: None, armed: None });
        match switch {
            Switch::On => thrown.on = Some(true),
            Switch::Off => thrown.on = Some(false),
            Switch::Arm => thrown.armed = Some(true),
            Switch::Disarm => thrown.armed = Some(false),
        }
    }

    /// Switches of the same effect, one after the other.
    pub fn iter(self) -> impl Iterator<Item = (Name, Switch)> {
        self.of.into_iter().flatten().flat_map(|Thrown { rule, on, armed }| {
            let on = on.map(|on| if on { Switch::On } else { Switch::Off });
            let armed = armed.map(|armed| if armed { Switch::Arm } else { Switch::Disarm });
            [on, armed].into_iter().flatten().map(move |switch| (rule, switch))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_rule_the_last_word_about_on_and_about_armed_counts() {
        let (groom, walk) = (Name::literal("groom"), Name::literal("walk"));
        let mut switches = Switches::default();
        for (rule, switch) in [
            (walk, Switch::Off),
            (groom, Switch::Arm),
            (walk, Switch::Arm),
            (groom, Switch::Disarm),
            (walk, Switch::On),
        ] {
            switches.add(rule, switch);
        }
        let all: Vec<_> = switches.iter().collect();
        assert_eq!(all, [(walk, Switch::On), (walk, Switch::Arm), (groom, Switch::Disarm)]);
    }

    #[test]
    fn words_lead_back_to_their_switch() {
        Switch::ALL.into_iter().for_each(|switch| assert_eq!(Switch::of_name(switch.name()), Some(switch)));
        assert_eq!(Switch::of_name("ON"), None);
    }
}
