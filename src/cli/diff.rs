//! `haltere diff`: two sessions, or a session and its replay, frame by frame.
//!
//! Why it exists: "bit-identical" is a claim that anyone must be able to check on their own recording, and a new model
//! is judged by where it decides differently. What it must never do: call two floats equal that are not the same bits.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::config::ConfigArgs;
use super::log;
use crate::corridor::offline::decoded_again;
use crate::frame::Quality;
use crate::session::messages::DecisionRecord;
use crate::session::rows::{Recorded, Row};
use crate::session::unpacked::{Unpacked, must_be_by_one_model, warn_of};
use crate::sys::exit::{ExitCode, Failure};

/// `haltere diff`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere diff session.mcap                              with its own replay, which must be bit-identical
  haltere diff session.mcap --model models/new.toml      with another model on the same frames
  haltere diff monday.mcap tuesday.mcap

Exit code 0: both contain every frame, with identical embeddings and actions. 10: they differ.")]
pub struct DiffArgs {
    /// A recorded session.
    #[arg(value_name = "A.mcap")]
    pub a: PathBuf,
    /// Another session; without it, the frames of the first are decoded again.
    #[arg(value_name = "B.mcap", conflicts_with_all = ["config", "model", "set"])]
    pub b: Option<PathBuf>,
    /// Configuration of the replay [default: the session's own].
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What two runs have in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The first.
    pub a: String,
    /// The second.
    pub b: String,
    /// Frames decoded in both.
    pub frames: u64,
    /// Frames decoded in the first only.
    pub only_a: u64,
    /// Frames decoded in the second only.
    pub only_b: u64,
    /// Frames whose embeddings are the same to the last bit.
    pub identical: u64,
    /// Dimensions of the two embeddings; different ones are not compared.
    pub dimensions: [usize; 2],
    /// Largest difference of two values of a frame.
    pub largest: f32,
    /// Where it is.
    pub largest_at: Option<u64>,
    /// Frame and dimension of the first bit that differs, and both values.
    pub first: Option<First>,
    /// Frames in which both decode an action.
    pub actions: u64,
    /// And not the same.
    pub actions_differ: u64,
    /// The first of them.
    pub first_action: Option<u64>,
    /// Frames whose quality differs.
    pub quality_differs: u64,
    /// Decisions of each.
    pub decisions: [u64; 2],
    /// Decisions that only one of them made, or that differ in anything but what became of them when they were published.
    pub decisions_differ: u64,
    /// The frame of the first of them.
    pub first_decision: Option<u64>,
}

/// The first difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct First {
    /// Number of the frame.
    pub frame: u64,
    /// Which value.
    pub dimension: usize,
    /// In the first.
    pub a: f32,
    /// In the second.
    pub b: f32,
}

impl Difference {
    /// Compares two runs whose rows are in the order of their keys.
    pub fn of((a, a_rows): (&str, &[Row]), (b, b_rows): (&str, &[Row])) -> Self {
        let dimensions = [a_rows, b_rows].map(|rows| rows.first().map_or(0, |row| row.decoded.embedding.len()));
        let mut found = Self {
            a: a.into(),
            b: b.into(),
            frames: 0,
            only_a: 0,
            only_b: 0,
            identical: 0,
            dimensions,
            largest: 0.0,
            largest_at: None,
            first: None,
            actions: 0,
            actions_differ: 0,
            first_action: None,
            quality_differs: 0,
            decisions: [0; 2],
            decisions_differ: 0,
            first_decision: None,
        };
        let (mut a, mut b) = (a_rows.iter().peekable(), b_rows.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) => x.key().cmp(&y.key()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return found,
            };
            match order {
                std::cmp::Ordering::Less => found.only_a += u64::from(a.next().is_some()),
                std::cmp::Ordering::Greater => found.only_b += u64::from(b.next().is_some()),
                std::cmp::Ordering::Equal => {
                    if let (Some(x), Some(y)) = (a.next(), b.next()) {
                        found.pair(x, y);
                    }
                }
            }
        }
    }

    /// Compares the decisions of the two, in the order in which they were made. Where an output ended is no decision.
    #[must_use]
    pub fn with_decisions(mut self, a: &[DecisionRecord], b: &[DecisionRecord]) -> Self {
        let made = |all: &[DecisionRecord]| all.iter().filter(|one| one.decided.is_some()).cloned().collect::<Vec<_>>();
        let (a, b) = (made(a), made(b));
        self.decisions = [a.len() as u64, b.len() as u64];
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            let same = matches!((a.get(i), b.get(j)), (Some(x), Some(y)) if x.repeats(y));
            let key = |one: Option<&DecisionRecord>| one.map(|one| one.frame);
            let (x, y) = (key(a.get(i)), key(b.get(j)));
            if !same {
                self.decisions_differ += 1;
                self.first_decision = self.first_decision.or(x.into_iter().chain(y).min());
            }
            // Of two that differ the earlier one stands alone; numbers that went back begin a new series in both.
            let (step_a, step_b) = match (x, y) {
                (Some(x), Some(y)) => (x <= y, y <= x),
                (x, y) => (x.is_some(), y.is_some()),
            };
            (i, j) = (i + usize::from(step_a), j + usize::from(step_b));
        }
        self
    }

    fn pair(&mut self, a: &Row, b: &Row) {
        self.frames += 1;
        self.quality_differs += u64::from(a.decoded.quality != b.decoded.quality);
        if let (Some(x), Some(y)) = (a.action(), b.action()) {
            self.actions += 1;
            if x != y {
                self.actions_differ += 1;
                self.first_action.get_or_insert(a.frame);
            }
        }
        let (x, y) = (&a.decoded.embedding, &b.decoded.embedding);
        if x.len() != y.len() {
            return;
        }
        let pairs = || x.iter().zip(y);
        let Some(dimension) = pairs().position(|(x, y)| x.to_bits() != y.to_bits()) else {
            self.identical += 1;
            return;
        };
        let (frame, a, b) = (a.frame, x[dimension], y[dimension]);
        self.first.get_or_insert(First { frame, dimension, a, b });
        let largest = pairs().map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        if largest > self.largest || self.largest_at.is_none() {
            (self.largest, self.largest_at) = (largest, Some(frame));
        }
    }

    /// Is every frame in both, with the same bits and the same action?
    pub fn is_none(&self) -> bool {
        self.frames > 0
            && self.only_a + self.only_b == 0
            && self.identical == self.frames
            && self.actions_differ == 0
            && self.decisions_differ == 0
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a  {}", self.a)?;
        writeln!(f, "b  {}", self.b)?;
        writeln!(f, "frames in both   {} ({} only in a, {} only in b)", self.frames, self.only_a, self.only_b)?;
        let share = 100.0 * self.identical as f64 / self.frames.max(1) as f64;
        if self.dimensions[0] != self.dimensions[1] {
            let [a, b] = self.dimensions;
            writeln!(f, "embeddings       of {a} and of {b} dimensions: not compared")?;
        } else {
            writeln!(f, "bit-identical    {} ({share:.1} %)", self.identical)?;
        }
        if let Some(First { frame, dimension, a, b }) = self.first {
            writeln!(f, "first difference frame {frame}, dimension {dimension}: {a:?} and {b:?}")?;
            writeln!(f, "largest          {:e} at frame {}", self.largest, self.largest_at.unwrap_or_default())?;
        }
        let first = self.first_action.map(|frame| format!(", first at frame {frame}")).unwrap_or_default();
        writeln!(f, "actions          {} of {} differ{first}", self.actions_differ, self.actions)?;
        writeln!(f, "quality          {} of {} differ", self.quality_differs, self.frames)?;
        let [a, b] = self.decisions;
        if a + b == 0 {
            return Ok(());
        }
        let first = self.first_decision.map(|frame| format!(", first at frame {frame}")).unwrap_or_default();
        writeln!(f, "decisions        {a} and {b}, {} differ{first}", self.decisions_differ)
    }
}

/// Compares what was asked for, and says so by the exit code.
///
/// # Errors
/// A file that is no session, or a model that cannot be run.
pub fn run(args: &DiffArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    log::start_default()?;
    warn_of(&args.a)?;
    let a = rows_of(&args.a)?;
    let (name, b) = match &args.b {
        Some(b) => {
            warn_of(b)?;
            (b.display().to_string(), rows_of(b)?)
        }
        None => again(&args.a, args)?,
    };
    expect_warm(&args.a.display().to_string(), &a.0)?;
    expect_warm(&name, &b.0)?;
    let difference = Difference::of((&args.a.display().to_string(), &a.0), (&name, &b.0)).with_decisions(&a.1, &b.1);
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&difference)?)?;
    } else {
        write!(out, "{difference}")?;
    }
    Ok(if difference.is_none() { ExitCode::Ok } else { ExitCode::Unmet })
}

/// Two runs that agree on nothing but their warm-up prove nothing.
fn expect_warm(name: &str, rows: &[Row]) -> anyhow::Result<()> {
    if rows.iter().any(|row| row.decoded.quality != Quality::Warmup) {
        return Ok(());
    }
    let decodes = match rows.len() {
        0 => "contains no decoded frame".to_owned(),
        n => format!("all {n} decodes are of the warm-up"),
    };
    Err(Failure { code: ExitCode::Source, what: format!("{name}: {decodes}, so there is nothing to compare") }.into())
}

/// The decodes of a run, and its decisions.
type Run = (Vec<Row>, Vec<DecisionRecord>);

/// The decodes of a session; tells of what is missing in it.
fn rows_of(session: &Path) -> anyhow::Result<Run> {
    let recorded = Recorded::read(session)?;
    let damage = recorded.damage.warnings(&recorded.outline);
    damage.iter().for_each(|line| tracing::warn!("{}: {line}", session.display()));
    Ok((recorded.rows(), recorded.decisions))
}

fn again(session: &Path, args: &DiffArgs) -> anyhow::Result<(String, Run)> {
    if args.config.model.is_none() {
        must_be_by_one_model(session)?;
    }
    let unpacked = Unpacked::of(session)?;
    let (config, warnings) = args.config.load_over(&unpacked)?;
    log::warn(&warnings);
    let model = args.config.model.as_ref().map_or("its own model".to_owned(), |model| model.display().to_string());
    let rows = decoded_again(session, &config, std::io::IsTerminal::is_terminal(&std::io::stderr()))?;
    Ok((format!("the same frames decoded again with {model}"), rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::messages::Decoded;

    fn rows() -> Vec<Row> {
        let decoded = |frame: u64| Decoded {
            quality: Quality::Ok,
            action_id: Some(frame as usize % 3),
            embedding: vec![frame as f32, 0.0, 1.0 / 3.0],
            ..Decoded::default()
        };
        (0..10).map(|frame| Row { part: 0, frame, decoded: decoded(frame) }).collect()
    }

    fn compare(a: &[Row], b: &[Row]) -> Difference {
        Difference::of(("a", a), ("b", b))
    }

    #[test]
    fn the_same_is_the_same_and_nothing_is_not() {
        assert!(compare(&rows(), &rows()).is_none());
        assert!(!compare(&[], &[]).is_none(), "two empty sessions prove nothing");
    }

    #[test]
    fn one_changed_bit_is_found_and_named() {
        let mut other = rows();
        let value = &mut other[7].decoded.embedding[2];
        *value = f32::from_bits(value.to_bits() + 1);
        let found = compare(&rows(), &other);
        assert!(!found.is_none());
        assert_eq!((found.identical, found.first.map(|f| (f.frame, f.dimension))), (9, Some((7, 2))));
        // A negative zero is another bit, though it is no difference.
        let mut other = rows();
        other[3].decoded.embedding[1] = -0.0;
        let found = compare(&rows(), &other);
        assert_eq!((found.identical, found.largest, found.largest_at), (9, 0.0, Some(3)));
    }

    #[test]
    fn frames_of_one_run_only_and_other_actions_are_counted() {
        let mut other = rows();
        other.remove(4);
        other[0].decoded.action_id = Some(2);
        let found = compare(&rows(), &other);
        assert_eq!((found.frames, found.only_a, found.only_b), (9, 1, 0));
        assert_eq!((found.actions_differ, found.first_action), (1, Some(0)));
    }
}
