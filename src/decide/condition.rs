//! A condition as it was understood: comparisons, joined by `and`, `or` and `not`.
//!
//! What it must never do: take what is not known for true or for false. A comparison with an unknown value is unknown, and what follows
//! from it only as far as it follows whatever the value is.

use std::str::FromStr;

use super::parse::{Fault, parse};
use super::terms::{Op, Quantity, Term, Test};

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As written.
    text: String,
    pub(super) terms: Vec<Term>,
    pub(super) ops: Vec<Op>,
}

impl Condition {
    /// Reads a condition. With `of_action` it is that of `[decision.action]`, in which `p` is the probability of the action in question.
    ///
    /// # Errors
    /// What is wrong, where in the text, and what would be right.
    pub fn read(text: &str, of_action: bool) -> Result<Self, String> {
        let (terms, ops) = parse(text, of_action).map_err(|Fault { at, what }| {
            let place = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
            format!("{what} (at character {place})")
        })?;
        Ok(Self { text: text.to_owned(), terms, ops })
    }

    /// One that is never known to hold.
    pub(super) fn never() -> Self {
        Self { text: String::new(), terms: Vec::new(), ops: Vec::new() }
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is compared, in the order of the text.
    pub fn quantities(&self) -> impl Iterator<Item = &Quantity> {
        self.terms.iter().map(|term| &term.quantity)
    }

    /// The one action that it is about, if there is just one.
    pub fn action(&self) -> Option<&str> {
        let mut named = self.terms.iter().filter_map(|term| match (&term.quantity, &term.test) {
            (Quantity::Probability(label), _) | (Quantity::Action, Test::Is(label)) => Some(label.as_str()),
            _ => None,
        });
        let first = named.next()?;
        named.all(|other| other == first).then_some(first)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, false)
    }
}

/// Follows the steps of a condition. `outcome` is that of each comparison; `None` = not known.
pub(super) fn evaluate(ops: &[Op], outcome: impl Fn(usize) -> Option<bool>) -> Option<bool> {
    // A comparison adds one, everything else removes one or none: as many as there are comparisons at most.
    let mut stack = [None; crate::frame::TERMS_MAX];
    let mut height = 0;
    for op in ops {
        match op {
            Op::Compare(term) => {
                stack[height] = outcome(*term);
                height += 1;
            }
            Op::Not => stack[height - 1] = stack[height - 1].map(|truth: bool| !truth),
            Op::And | Op::Or => {
                let (a, b) = (stack[height - 2], stack[height - 1]);
                // What decides alone: false an `and`, true an `or`.
                let alone = Some(*op == Op::Or);
                height -= 1;
                stack[height - 1] = if a == alone || b == alone {
                    alone
                } else if a.is_none() || b.is_none() {
                    None
                } else {
                    a
                };
            }
        }
    }
    stack[0]
}
