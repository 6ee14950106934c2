//! When does a decode become a decision? Rules that an experimenter writes, and the machine that follows them.
//!
//! Why it exists: thresholds, dwell times, refractory periods, doses and sham trials are part of an experiment, so they must be checked,
//! recorded and repeatable. Live, in a replay and in `haltere decide` one and the same object is stepped. What it must never do: read
//! a clock (time is the frames' own), allocate once it is made, or decide by anything but the decodes and the recorded requests.
//!
//! A rule may be yoked: its outputs are then those of an earlier session, at their times ([`Yoke`]), and its condition only names the values that
//! are recorded with them. Whatever else withholds or ends an output holds for these as well.
//!
//! ```text
//!  decode ─▶ quality ─▶ condition ─▶ N of M frames, T ms ─▶ bout begins ─▶ refractory, rate ─▶ armed ─▶ dose ─▶ lot (sham) ─▶ output
//!                          leave ◀───────────────────────── bout ends
//! ```

mod action;
mod bound;
mod clock;
mod condition;
mod dwell;
mod limits;
mod machine;
mod parse;
mod rule;
mod score;
mod seen;
mod terms;
mod yoke;

pub use clock::Moment;
pub use condition::Condition;
pub use machine::{Decider, Standing};
pub use rule::{ACTION, ActionRule, AtMost, FrameShare, Hold, Point, Rule, RuleError, Rules, Train, Trusted};
pub use score::{Bout, Outcome, Score, bouts, score};
pub use seen::Seen;
pub use terms::Quantity;
pub use yoke::{YOKE_OUTPUTS_MAX, Yoke};

#[cfg(test)]
mod tests;
