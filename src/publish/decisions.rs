//! Decisions as they are published, and the outputs that go on.
//!
//! Why it exists: whether an output may begin is known only when its decode is published, and one that has begun must end when decodes are
//! no longer fresh. What it must never do: decide. It withholds and ends; nothing here begins anything.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::decide::{Quantity, Rules, Train};
use crate::frame::{Decision, Decode, FrameInfo, ModelTag, Name, RULES_MAX};
use crate::sys::counters::{Stats, count};
use crate::wire::decision::{Cause, CauseForm, DecisionHeader, Issued, TrainHeader};

/// The rules as their decisions are published.
#[derive(Clone, Debug)]
pub struct RuleTable {
    rules: Vec<Known>,
    labels: Vec<String>,
}

#[derive(Clone, Debug)]
struct Known {
    name: Name,
    causes: Vec<(String, CauseForm)>,
    train: Train,
}

impl RuleTable {
    /// Of these rules over the decodes of this model, or of one with the same actions.
    pub fn new(rules: &Rules, model: &ModelTag) -> Self {
        let known = |rule: &crate::decide::Rule| {
            let mut causes: Vec<(String, CauseForm)> = Vec::new();
            for quantity in rule.conditions().flat_map(|(_, condition)| condition.quantities()) {
                let key = quantity.to_string();
                let form = match quantity {
                    _ if causes.iter().any(|(known, _)| *known == key) => CauseForm::Repeated,
                    Quantity::Action => CauseForm::Action,
                    Quantity::Quality => CauseForm::Quality,
                    _ => CauseForm::Number,
                };
                causes.push((key, form));
            }
            Known { name: rule.name, causes, train: rule.train }
        };
        Self { rules: rules.rules.iter().map(known).collect(), labels: model.labels.clone() }
    }

    /// The header of a decision; `None` for a rule that this table does not have.
    pub fn header<'a>(
        &'a self,
        decision: &'a Decision,
        frame: &FrameInfo,
        stamps: Stamps<'a>,
    ) -> Option<DecisionHeader<'a>> {
        let known = self.rules.get(decision.rule)?;
        let Train { width_ms, period_ms, count, .. } = known.train;
        let delay_ms = f64::from(decision.delay_us) / 1e3;
        let Stamps { seq, decode_seq, overruled, t_pub_ns } = stamps;
        let issued = Issued {
            seq,
            name: known.name,
            overruled,
            decode_seq,
            t_pub_ns,
            cause: Cause { keys: &known.causes, values: &decision.values, labels: &self.labels },
            train: TrainHeader { delay_ms, width_ms, period_ms, count },
        };
        Some(DecisionHeader::of(decision, frame, issued))
    }
}

/// What the publisher adds to a decision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamps<'a> {
    /// Number of the message.
    pub seq: u64,
    /// Number of the decode.
    pub decode_seq: u64,
    /// Why its output is withheld all the same.
    pub overruled: Option<&'a str>,
    /// `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
}

/// An output that goes on.
#[derive(Clone, Copy, Debug)]
struct Running {
    number: u64,
    frame: u64,
    source: Name,
    until_ns: u64,
}

/// The table, and what goes on.
pub(super) struct Outputs {
    table: RuleTable,
    running: [Option<Running>; RULES_MAX],
    stats: Arc<Stats>,
    /// Does it count what it withholds and ends? One of them all does.
    counts: bool,
    seq: u64,
}

impl Outputs {
    /// Those of the publisher, which count.
    pub fn counting(table: RuleTable, stats: Arc<Stats>) -> Self {
        Self { table, running: [None; RULES_MAX], stats, counts: true, seq: 0 }
    }

    /// Those of an outlet, which says the same once more.
    pub fn repeating(table: RuleTable, stats: Arc<Stats>) -> Self {
        Self { counts: false, ..Self::counting(table, stats) }
    }

    /// The rules whose outputs go on: bit n is the n-th rule.
    pub fn going_on(&self) -> u16 {
        self.running.iter().enumerate().fold(0, |bits, (rule, running)| bits | (u16::from(running.is_some()) << rule))
    }

    /// The headers of the decisions that were made with a decode, one after the other. `stale`: why the decode is, if it is.
    pub fn issue<E>(
        &mut self,
        decode: &Decode,
        (decode_seq, stale): (u64, Option<&'static str>),
        t_pub_ns: u64,
        mut send: impl FnMut(usize, &DecisionHeader<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for decision in &decode.decisions {
            let overruled = stale.or_else(|| self.switched_off(decision.rule));
            let stamps = Stamps { seq: self.seq, decode_seq, overruled, t_pub_ns };
            let Some(header) = self.table.header(decision, &decode.frame, stamps) else { continue };
            send(decision.rule, &header)?;
            self.seq += 1;
            let is_output = decision.withheld.is_none();
            if is_output && overruled.is_none() {
                let train = self.table.rules[decision.rule].train;
                let length_ns = u64::from(decision.delay_us) * 1000 + train.length_ms() * 1_000_000;
                let running = Running {
                    number: decision.number,
                    frame: decode.frame.number,
                    source: decode.frame.source,
                    until_ns: t_pub_ns.saturating_add(length_ns),
                };
                self.running[decision.rule] = Some(running);
            } else if is_output && self.counts {
                count(&self.stats.decisions.published[decision.rule].overruled, 1);
            }
        }
        Ok(())
    }

    /// Headers that end outputs which go on: all of them for `reason`, or without one those whose rule was switched off or disarmed.
    pub fn end<E>(
        &mut self,
        reason: Option<&'static str>,
        now_ns: u64,
        mut send: impl FnMut(usize, &DecisionHeader<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for rule in 0..self.table.rules.len() {
            let Some(running) = self.running[rule] else { continue };
            if now_ns >= running.until_ns {
                self.running[rule] = None;
                continue;
            }
            let Some(reason) = reason.or_else(|| self.switched_off(rule)) else { continue };
            self.running[rule] = None;
            let name = self.table.rules[rule].name;
            let Running { number, frame, source, .. } = running;
            send(rule, &DecisionHeader::ended(self.seq, name, number, reason, (source, frame), now_ns))?;
            self.seq += 1;
            if self.counts {
                count(&self.stats.decisions.published[rule].ended, 1);
            }
        }
        Ok(())
    }

    /// Why a rule may give no output at this moment, whatever it decided.
    fn switched_off(&self, rule: usize) -> Option<&'static str> {
        let standing = &self.stats.decisions.rules[rule];
        if !standing.on.load(Relaxed) {
            Some("off")
        } else if standing.armed.load(Relaxed) {
            None
        } else {
            Some("disarmed")
        }
    }
}
