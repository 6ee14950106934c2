//! A rule as it was written, checked by itself.
//!
//! What it must never do: know the model. Whether it has the actions that a rule names is said when both are brought together.

use std::fmt;
use std::str::FromStr;

use super::condition::Condition;
use super::yoke::Yoke;
use crate::frame::{Name, Quality};
use crate::sys::exit::{ExitCode, HasExitCode};

/// The rule that decides the published action; no other may have this name.
pub const ACTION: &str = "action";
/// Most frames that a rule looks back.
const FRAMES_MAX: u32 = 64;
/// Most decisions that a window may hold.
const COUNT_MAX: u32 = 1000;
/// Longest window, s.
const WINDOW_S_MAX: u32 = 86_400;

/// At least so many of the last frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShare {
    /// So many …
    pub least: u32,
    /// … of so many.
    pub of: u32,
}

impl FrameShare {
    /// Every frame by itself.
    pub const ONE: Self = Self { least: 1, of: 1 };
}

impl FromStr for FrameShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(" of ").and_then(|(least, of)| {
            let (least, of) = (least.trim().parse().ok()?, of.trim().parse().ok()?);
            Some(Self { least, of })
        });
        let fits = |share: &Self| (1..=share.of).contains(&share.least) && share.of <= FRAMES_MAX;
        let what = format!("must be written \"3 of 4\": 1 to {FRAMES_MAX} frames, of which at least so many");
        numbers.filter(fits).ok_or(what)
    }
}

impl fmt::Display for FrameShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.least, self.of)
    }
}

/// At most so many decisions in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtMost {
    /// Decisions.
    pub count: u32,
    /// Window, s.
    pub window_s: u32,
}

impl FromStr for AtMost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(" in ").and_then(|(count, window)| {
            let window = window.trim().strip_suffix('s')?.trim();
            Some(Self { count: count.trim().parse().ok()?, window_s: window.parse().ok()? })
        });
        let fits = |most: &Self| (1..=COUNT_MAX).contains(&most.count) && (1..=WINDOW_S_MAX).contains(&most.window_s);
        let what =
            format!("must be written \"10 in 60 s\": 1 to {COUNT_MAX} decisions in 1 to {WINDOW_S_MAX} s, or \"off\"");
        numbers.filter(fits).ok_or(what)
    }
}

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} s", self.count, self.window_s)
    }
}

/// Which decodes a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// Those of quality `ok`.
    Ok,
    /// Those of quality `degraded` as well, unless their frame is not trusted.
    Degraded,
}

impl Trusted {
    pub(super) const fn takes(self, quality: Quality) -> bool {
        match quality {
            Quality::Ok => true,
            Quality::Degraded => matches!(self, Self::Degraded),
            Quality::Warmup | Quality::Stale | Quality::Fail => false,
        }
    }
}

/// How long something must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// In so many of the last frames, this one among them.
    pub frames: FrameShare,
    /// And without a break for this long, ms.
    pub ms: u32,
}

impl Hold {
    /// One frame suffices.
    pub const ONE_FRAME: Self = Self { frames: FrameShare::ONE, ms: 0 };
}

/// The output of a decision: pulses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// From the decision to the first pulse, ms.
    pub delay_ms: u32,
    /// Up to so much more, drawn for each decision, ms.
    pub jitter_ms: u32,
    /// Length of a pulse, ms.
    pub width_ms: u32,
    /// From the beginning of a pulse to that of the next, ms.
    pub period_ms: u32,
    /// Pulses.
    pub count: u32,
}

impl Train {
    /// From the beginning of the first pulse to the end of the last, ms.
    pub const fn length_ms(self) -> u64 {
        (self.count as u64 - 1) * self.period_ms as u64 + self.width_ms as u64
    }

    /// Output that it gives, ms.
    pub const fn dose_ms(self) -> u64 {
        self.count as u64 * self.width_ms as u64
    }

    /// Longest time from the decision to the end of the last pulse, ms.
    pub const fn span_ms(self) -> u64 {
        self.delay_ms as u64 + self.jitter_ms as u64 + self.length_ms()
    }
}

/// One rule of `[decision.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What follows the dot in its section.
    pub name: Name,
    /// Look at decodes from the start?
    pub on: bool,
    /// Give outputs from the start?
    pub armed: bool,
    /// When a bout begins.
    pub when: Option<Condition>,
    /// When it ends; `None` = when `when` does not hold.
    pub leave: Option<Condition>,
    /// How long `when` must hold.
    pub enter: Hold,
    /// How long `leave` must hold.
    pub left: Hold,
    /// Decide again and again while the bout goes on?
    pub repeat: bool,
    /// Which decodes count.
    pub quality: Trusted,
    /// After this long without such a decode the rule begins anew, ms.
    pub forget_ms: u32,
    /// Shortest time between two decisions, ms; never shorter than the output takes.
    pub refractory_ms: u32,
    /// Most decisions in a window.
    pub at_most: Option<AtMost>,
    /// Most output in any minute, ms.
    pub dose_minute_ms: Option<u32>,
    /// Most output since the start of the run, ms.
    pub dose_session_ms: Option<u32>,
    /// The output.
    pub train: Train,
    /// Share of the decisions whose output is withheld by lot, %.
    pub sham_percent: u32,
    /// Of the lots: sham and jitter.
    pub seed: u32,
    /// Outputs at these times, in place of the condition.
    pub yoke: Option<Yoke>,
}

impl Rule {
    /// A rule of this name as it is before anything is written of it.
    pub fn named(name: Name) -> Self {
        Self {
            name,
            on: true,
            armed: false,
            when: None,
            leave: None,
            enter: Hold::ONE_FRAME,
            left: Hold::ONE_FRAME,
            repeat: false,
            quality: Trusted::Ok,
            forget_ms: 1000,
            refractory_ms: 0,
            at_most: None,
            dose_minute_ms: None,
            dose_session_ms: None,
            train: Train { delay_ms: 0, jitter_ms: 0, width_ms: 10, period_ms: 100, count: 1 },
            sham_percent: 0,
            seed: 1,
            yoke: None,
        }
    }

    /// Both conditions, as far as they are written.
    pub fn conditions(&self) -> impl Iterator<Item = (&'static str, &Condition)> {
        [("when", &self.when), ("leave", &self.leave)]
            .into_iter()
            .filter_map(|(key, written)| Some((key, written.as_ref()?)))
    }
}

/// `[decision.action]`: what the published action must show before it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRule {
    /// Is it used?
    pub on: bool,
    /// When another action may take over; `p` is its probability.
    pub when: Condition,
    /// How long that must hold.
    pub enter: Hold,
}

/// A named point of the embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What follows the dot in `[point.NAME]`.
    pub name: Name,
    /// One value per dimension.
    pub values: Vec<f32>,
}

/// Everything that decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// In the order in which they were first written.
    pub rules: Vec<Rule>,
    /// Points that conditions name.
    pub points: Vec<Point>,
    /// The published action.
    pub action: ActionRule,
}

impl Default for ActionRule {
    fn default() -> Self {
        let when = Condition::read("p > 0.5", true).unwrap_or_else(|_| Condition::never());
        Self { on: false, when, enter: Hold { frames: FrameShare { least: 3, of: 4 }, ms: 0 } }
    }
}

impl Rules {
    /// Is there nothing to decide?
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.action.on
    }
}

/// A rule that does not fit the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It names an action that the model does not have.
    #[error("`decision.{rule}.{key}` names the action {label:?}, which the model {model} does not decode: {known}")]
    Action {
        /// Name of the rule.
        rule: String,
        /// Which condition.
        key: &'static str,
        /// The action.
        label: String,
        /// The model.
        model: String,
        /// What it decodes, or that it decodes none.
        known: String,
    },
    /// It names a continuous output that the model does not have.
    #[error("`decision.{rule}.{key}` names the output {output:?}, which the model {model} does not have: {known}")]
    Output {
        /// Name of the rule.
        rule: String,
        /// Which condition.
        key: &'static str,
        /// The output.
        output: String,
        /// The model.
        model: String,
        /// What it has, or that it has none.
        known: String,
    },
    /// It names a point that is not there.
    #[error("`decision.{rule}.{key}` names the point {point:?}: there is no [point.{point}]; {known}")]
    NoPoint {
        /// Name of the rule.
        rule: String,
        /// Which condition.
        key: &'static str,
        /// The point.
        point: String,
        /// The points that there are.
        known: String,
    },
    /// A point of another embedding.
    #[error("`point.{point}` has {found} values; the embedding of the model {model} has {needed}")]
    Dimensions {
        /// The point.
        point: String,
        /// Its values.
        found: usize,
        /// Those of the embedding.
        needed: usize,
        /// The model.
        model: String,
    },
    /// The smoothed action of a model without actions.
    #[error(
        "`decision.action.on` = true, but the model {model} decodes no actions: choose another model, or set it to false"
    )]
    NoActions {
        /// The model.
        model: String,
    },
}

impl HasExitCode for RuleError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}
