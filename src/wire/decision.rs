//! A published decision: topic and JSON header.
//!
//! Why it exists: a stimulus controller acts on it, and a session keeps it, so what made it and what it asks for stand in one place. What it
//! must never do: allocate once its buffer has grown, or say "output" for a decision that has none.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::decode::{CLOCK, tenths_us};
use crate::frame::{Clock, Decision, FrameInfo, Name, Quality, RULES_MAX};

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// An output begins.
    Output,
    /// A decision without an output.
    Withheld,
    /// An output that is still going on must end now.
    Ended,
}

impl What {
    /// The word in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Withheld => "withheld",
            Self::Ended => "ended",
        }
    }
}

/// How the value of a comparison is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseForm {
    /// As a number.
    Number,
    /// As the name of an action.
    Action,
    /// As the word of a quality.
    Quality,
    /// Not at all: it stands there already.
    Repeated,
}

/// The values that made a decision.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// What was compared, in the order of the conditions, and how it is written.
    pub keys: &'a [(String, CauseForm)],
    /// The values; NaN = not known.
    pub values: &'a [f32],
    /// Actions of the model.
    pub labels: &'a [String],
}

impl Serialize for Cause<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for ((key, form), value) in self.keys.iter().zip(self.values) {
            let known = (!value.is_nan()).then_some(*value);
            match form {
                CauseForm::Number => map.serialize_entry(key, &known)?,
                CauseForm::Action => map.serialize_entry(key, &known.and_then(|id| self.labels.get(id as usize)))?,
                CauseForm::Quality => {
                    let quality = known.and_then(|code| Quality::ALL.get(code as usize));
                    map.serialize_entry(key, &quality.map(|quality| quality.name()))?;
                }
                CauseForm::Repeated => {}
            }
        }
        map.end()
    }
}

/// The pulses of an output, ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct TrainHeader {
    /// From the decision to the first pulse, the jitter drawn included, to a thousandth.
    pub delay_ms: f64,
    /// Length of a pulse.
    pub width_ms: u32,
    /// From the beginning of a pulse to that of the next.
    pub period_ms: u32,
    /// Pulses.
    pub count: u32,
}

/// What is left of the doses, ms; a dose without a limit is left out.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
struct DoseHeader {
    #[serde(skip_serializing_if = "Option::is_none")]
    minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u32>,
}

/// The header of `decision/<source>`, field by field as documented.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct DecisionHeader<'a> {
    htype: &'static str,
    /// Number of the message, gapless since the start.
    pub seq: u64,
    /// The rule.
    pub name: Name,
    /// Decisions of this rule so far; of an end, that of the decision whose output ends.
    pub number: u64,
    /// Whether an output begins, is withheld or ends.
    pub what: What,
    /// Why there is no output, or why it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<&'static str>,
    source: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<Name>,
    /// The frame of the decision.
    pub frame: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_device_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_device_clock: Option<Clock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_recv_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_decided_ns: Option<u64>,
    /// `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    clock: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    armed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sham: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    yoked: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The output; `None` of an end.
    pub train: Option<TrainHeader>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dose_left_ms: Option<DoseHeader>,
}

/// How a decision is published.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// Number of the message, gapless since the start.
    pub seq: u64,
    /// The rule.
    pub name: Name,
    /// Why its output is withheld in spite of the decision: the decode is stale, or the rule was switched meanwhile.
    pub overruled: Option<&'a str>,
    /// Number of the decode.
    pub decode_seq: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// The values that made it.
    pub cause: Cause<'a>,
    /// The rule's output, whether it is given or not.
    pub train: TrainHeader,
}

/// The word of a decision that nothing withholds.
pub const OUTPUT: &str = "output";

impl<'a> DecisionHeader<'a> {
    /// Of a decision that was made with a frame.
    pub fn of(decision: &Decision, frame: &FrameInfo, issued: Issued<'a>) -> Self {
        let Issued { seq, name, overruled, decode_seq, t_pub_ns, cause, train } = issued;
        let reason = decision.withheld.map(|withheld| withheld.name());
        let since_ns = t_pub_ns.saturating_sub(frame.t_received_ns);
        let (minute, session) = (decision.minute_left_ms, decision.session_left_ms);
        Self {
            htype: "decision-1.0",
            seq,
            name,
            number: decision.number,
            what: if reason.or(overruled).is_none() { What::Output } else { What::Withheld },
            reason: reason.or(overruled),
            decided: Some(reason.unwrap_or(OUTPUT)),
            source: frame.source,
            series: frame.series,
            frame: frame.number,
            decode_seq: Some(decode_seq),
            t_device_ns: frame.t_device.map(|time| time.ns),
            t_device_clock: frame.t_device.map(|time| time.clock),
            t_recv_ns: Some(frame.t_received_ns),
            t_decided_ns: Some(decision.t_decided_ns),
            t_pub_ns,
            clock: CLOCK,
            age_us: frame.age_ns.map(|age_ns| tenths_us(age_ns.saturating_add(since_ns))),
            armed: Some(decision.armed),
            sham: Some(decision.sham),
            yoked: decision.yoked,
            cause: Some(cause),
            train: Some(train),
            dose_left_ms: minute.or(session).map(|_| DoseHeader { minute, session }),
        }
    }

    /// The output of decision `number`, which was made with `frame`, must end now.
    pub fn ended(
        seq: u64,
        name: Name,
        number: u64,
        reason: &'a str,
        (source, frame): (Name, u64),
        t_pub_ns: u64,
    ) -> Self {
        Self {
            htype: "decision-1.0",
            seq,
            name,
            number,
            what: What::Ended,
            reason: Some(reason),
            decided: None,
            source,
            series: None,
            frame,
            decode_seq: None,
            t_device_ns: None,
            t_device_clock: None,
            t_recv_ns: None,
            t_decided_ns: None,
            t_pub_ns,
            clock: CLOCK,
            age_us: None,
            armed: None,
            sham: None,
            yoked: None,
            cause: None,
            train: None,
            dose_left_ms: None,
        }
    }
}

/// How a rule stands, in the status.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct RuleStanding {
    /// The rule.
    #[serde(skip)]
    pub name: Name,
    /// Does it look at decodes?
    pub on: bool,
    /// Does it give outputs?
    pub armed: bool,
    /// Decisions since the start.
    pub decisions: u64,
    /// Of these, with an output.
    pub outputs: u64,
    /// Of these, withheld by lot.
    pub shams: u64,
    /// Outputs withheld after the decision, because the decode was stale or the rule had been switched.
    pub overruled: u64,
    /// Outputs ended before their time.
    pub ended: u64,
    /// What is left of the dose of a minute, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minute_left_ms: Option<u64>,
    /// What is left of the dose of the session, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_left_ms: Option<u64>,
}

/// All rules, by name.
#[derive(Clone, Copy, Debug)]
pub struct RuleStandings(pub [Option<RuleStanding>; RULES_MAX]);

impl Serialize for RuleStandings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().flatten().map(|standing| (standing.name, standing)))
    }
}
