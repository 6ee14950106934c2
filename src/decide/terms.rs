//! What conditions are made of: values of a decode, comparisons, and the steps that join them.

use std::fmt;

/// A value of a decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Probability of an action, 0 to 1.
    Probability(String),
    /// Probability of the action in question; only in `[decision.action]`.
    OwnProbability,
    /// The largest probability, 0 to 1.
    Confidence,
    /// Novelty, 0 to 1.
    Novelty,
    /// Euclidean distance of the embedding to a named point.
    Distance(String),
    /// A continuous output of the model, in its unit.
    Output(String),
    /// Mean light of the registered channel, counts above the dark level.
    Light,
    /// Length of the registration shift, px.
    Shift,
    /// Height of the correlation peak, 0 to 1.
    ShiftPeak,
    /// The most probable action.
    Action,
    /// The quality of the decode.
    Quality,
}

impl Quantity {
    /// Does it lie between 0 and 1?
    pub(super) const fn is_share(&self) -> bool {
        matches!(self, Self::Probability(_) | Self::OwnProbability | Self::Confidence | Self::Novelty | Self::ShiftPeak)
    }

    /// Is it compared with words?
    pub(super) const fn is_word(&self) -> bool {
        matches!(self, Self::Action | Self::Quality)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probability(label) => write!(f, "p({label})"),
            Self::OwnProbability => f.write_str("p"),
            Self::Confidence => f.write_str("confidence"),
            Self::Novelty => f.write_str("novelty"),
            Self::Distance(point) => write!(f, "distance({point})"),
            Self::Output(name) => write!(f, "output({name})"),
            Self::Light => f.write_str("light"),
            Self::Shift => f.write_str("shift"),
            Self::ShiftPeak => f.write_str("shift_peak"),
            Self::Action => f.write_str("action"),
            Self::Quality => f.write_str("quality"),
        }
    }
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Above(f32),
    AtLeast(f32),
    Below(f32),
    AtMost(f32),
    Is(String),
    IsNot(String),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub quantity: Quantity,
    pub test: Test,
}

/// A step of the evaluation, on a stack of truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Puts the outcome of this comparison on the stack.
    Compare(usize),
    Not,
    And,
    Or,
}
