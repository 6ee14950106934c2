//! `[decision.NAME]` and `[point.NAME]`: sections of which there may be any number, by names of the user's choice.
//!
//! Why it exists: every other key has one place; these are read by the same kinds, checks and messages, into a list. What it must never
//! do: know a model.

use super::keys::period;
use super::kind::{Kind, Value};
use super::put::{choice, number, number_or, put_choice, put_maybe, put_number, put_parsed, put_switch};
use crate::decide::{ACTION, Condition, Rule, Rules, Trusted};
use crate::frame::Name;

/// The section of rules.
pub(super) const DECISION: &str = "decision";
/// The section of points.
pub(super) const POINT: &str = "point";

/// One key of a rule.
#[derive(Debug)]
pub(super) struct RuleKey {
    /// Name within the section.
    pub leaf: &'static str,
    pub kind: Kind,
    pub set: fn(&mut Rule, &Value),
    get: fn(&Rule) -> Value,
}

/// One key of a point.
#[derive(Debug)]
pub(super) struct PointKey {
    pub leaf: &'static str,
    pub kind: Kind,
}

const QUALITIES: &[&str] = &["ok", "degraded"];
/// Times of an output: a minute at most.
const OF_OUTPUT: Kind = period(0, 60_000);

const fn condition(of_action: bool) -> Kind {
    Kind::Condition { of_action }
}

fn text_of(condition: Option<&Condition>) -> Value {
    // A rule without one is refused before anything is printed.
    Value::Text(condition.map_or("", Condition::text).to_owned())
}

fn read(value: &Value) -> Option<Condition> {
    value.text().and_then(|text| text.parse().ok())
}

/// Every key of a rule, in the order in which they are printed.
pub(super) const RULE_KEYS: &[RuleKey] = &[
    RuleKey { leaf: "when", kind: condition(false), set: |r, v| r.when = read(v), get: |r| text_of(r.when.as_ref()) },
    RuleKey {
        leaf: "leave",
        kind: condition(false),
        set: |r, v| r.leave = read(v),
        get: |r| text_of(r.leave.as_ref()),
    },
    RuleKey { leaf: "on", kind: Kind::Switch, set: |r, v| put_switch(&mut r.on, v), get: |r| Value::Switch(r.on) },
    RuleKey {
        leaf: "armed",
        kind: Kind::Switch,
        set: |r, v| put_switch(&mut r.armed, v),
        get: |r| Value::Switch(r.armed),
    },
    RuleKey {
        leaf: "quality",
        kind: Kind::Choice(QUALITIES),
        set: |r, v| put_choice(&mut r.quality, v, &[Trusted::Ok, Trusted::Degraded]),
        get: |r| choice(QUALITIES, r.quality as usize),
    },
    RuleKey {
        leaf: "enter_frames",
        kind: Kind::Frames,
        set: |r, v| put_parsed(&mut r.enter.frames, v),
        get: |r| Value::Text(r.enter.frames.to_string()),
    },
    RuleKey {
        leaf: "enter_ms",
        kind: OF_OUTPUT,
        set: |r, v| put_number(&mut r.enter.ms, v),
        get: |r| number(r.enter.ms),
    },
    RuleKey {
        leaf: "leave_frames",
        kind: Kind::Frames,
        set: |r, v| put_parsed(&mut r.left.frames, v),
        get: |r| Value::Text(r.left.frames.to_string()),
    },
    RuleKey {
        leaf: "leave_ms",
        kind: OF_OUTPUT,
        set: |r, v| put_number(&mut r.left.ms, v),
        get: |r| number(r.left.ms),
    },
    RuleKey {
        leaf: "forget_ms",
        kind: period(10, 60_000),
        set: |r, v| put_number(&mut r.forget_ms, v),
        get: |r| number(r.forget_ms),
    },
    RuleKey {
        leaf: "repeat",
        kind: Kind::Switch,
        set: |r, v| put_switch(&mut r.repeat, v),
        get: |r| Value::Switch(r.repeat),
    },
    RuleKey {
        leaf: "refractory_ms",
        kind: period(0, 3_600_000),
        set: |r, v| put_number(&mut r.refractory_ms, v),
        get: |r| number(r.refractory_ms),
    },
    RuleKey {
        leaf: "at_most",
        kind: Kind::AtMost,
        set: |r, v| r.at_most = v.text().and_then(|text| text.parse().ok()),
        get: |r| r.at_most.map_or(Value::Word("off"), |most| Value::Text(most.to_string())),
    },
    RuleKey {
        leaf: "dose_minute_ms",
        kind: Kind::Integer { min: 1, max: 60_000, unit: " ms", word: Some("off") },
        set: |r, v| put_maybe(&mut r.dose_minute_ms, v),
        get: |r| number_or(r.dose_minute_ms, "off"),
    },
    RuleKey {
        leaf: "dose_session_ms",
        kind: Kind::Integer { min: 1, max: 86_400_000, unit: " ms", word: Some("off") },
        set: |r, v| put_maybe(&mut r.dose_session_ms, v),
        get: |r| number_or(r.dose_session_ms, "off"),
    },
    RuleKey {
        leaf: "delay_ms",
        kind: OF_OUTPUT,
        set: |r, v| put_number(&mut r.train.delay_ms, v),
        get: |r| number(r.train.delay_ms),
    },
    RuleKey {
        leaf: "jitter_ms",
        kind: OF_OUTPUT,
        set: |r, v| put_number(&mut r.train.jitter_ms, v),
        get: |r| number(r.train.jitter_ms),
    },
    RuleKey {
        leaf: "width_ms",
        kind: period(1, 60_000),
        set: |r, v| put_number(&mut r.train.width_ms, v),
        get: |r| number(r.train.width_ms),
    },
    RuleKey {
        leaf: "period_ms",
        kind: period(1, 60_000),
        set: |r, v| put_number(&mut r.train.period_ms, v),
        get: |r| number(r.train.period_ms),
    },
    RuleKey {
        leaf: "count",
        kind: Kind::Integer { min: 1, max: 1000, unit: " pulses", word: None },
        set: |r, v| put_number(&mut r.train.count, v),
        get: |r| number(r.train.count),
    },
    RuleKey {
        leaf: "sham_percent",
        kind: Kind::Integer { min: 0, max: 100, unit: " %", word: None },
        set: |r, v| put_number(&mut r.sham_percent, v),
        get: |r| number(r.sham_percent),
    },
    RuleKey {
        leaf: "seed",
        kind: Kind::Integer { min: 0, max: u32::MAX as i64, unit: "", word: None },
        set: |r, v| put_number(&mut r.seed, v),
        get: |r| number(r.seed),
    },
    RuleKey {
        leaf: "yoke",
        kind: Kind::Yoke,
        set: |r, v| r.yoke = v.yoke().cloned(),
        get: |r| r.yoke.clone().map_or(Value::Word("off"), Value::Yoke),
    },
];

/// Both keys of a point; one of them is written.
pub(super) const POINT_KEYS: &[PointKey] =
    &[PointKey { leaf: "values", kind: Kind::Numbers }, PointKey { leaf: "file", kind: Kind::Path { word: None } }];

/// Sections that read back to the same rules and points. Points and yokes are printed with their values: a file may be gone tomorrow.
pub(super) fn to_toml(rules: &Rules) -> String {
    let mut text = String::new();
    for rule in &rules.rules {
        text.push_str(&format!("\n[{DECISION}.{}]\n", quoted(rule.name)));
        let written = |key: &&RuleKey| match key.leaf {
            "when" => rule.when.is_some(),
            "leave" => rule.leave.is_some(),
            _ => true,
        };
        for key in RULE_KEYS.iter().filter(written) {
            text.push_str(&format!("{} = {}\n", key.leaf, (key.get)(rule).to_toml()));
        }
    }
    for point in &rules.points {
        let values = Value::Numbers(point.values.clone()).to_toml();
        text.push_str(&format!("\n[{POINT}.{}]\nvalues = {values}\n", quoted(point.name)));
    }
    text
}

/// A dot in a name would be read as another table.
fn quoted(name: Name) -> String {
    if name.as_str().contains('.') { format!("\"{name}\"") } else { name.to_string() }
}

/// The rule and the key that `rest`, what follows `decision.`, means; `None` = it is `[decision.action]`.
pub(super) fn is_action(rest: &str) -> bool {
    rest.split_once('.').is_some_and(|(rule, _)| rule == ACTION)
}
