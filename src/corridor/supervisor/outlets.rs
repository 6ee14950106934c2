//! Which outlets the configuration asks for, opened, each behind a relay with its own fail-safe.
//!
//! Why it exists: a device that is not there must be known by name before the daemon says `ready`. What it must never do: open
//! what was not asked for.

use crate::config::Config;
use crate::config::template::TemplateError;
use crate::corridor::Handles;
use crate::corridor::supervisor::doors::Doors;
use crate::frame::{ModelTag, Name};
use crate::publish::decisions::RuleTable;
use crate::publish::outlet::{Binary, Lsl, Osc, Plain, Serial, Ttl};
use crate::publish::relay::{Fallback, Outlet, Relay};
use crate::publish::{Sink, SinkError};

/// The outlets, as sinks.
///
/// # Errors
/// The first that cannot be opened.
pub(super) fn relays(
    config: &Config,
    model: &ModelTag,
    handles: &Handles,
    doors: &Doors,
) -> Result<Vec<Box<dyn Sink>>, SinkError> {
    let neutral_action = config.publish.neutral_action.as_str();
    let fallback = Fallback {
        deadline_ns: config.publish.deadline.as_nanos() as u64,
        neutral_action,
        hold_ns: config.publish.hold_ns(),
    };
    let rules = &config.decision;
    let relay = |(outlet, decisions): (Box<dyn Outlet>, bool)| {
        let (stats, events) = (handles.stats.clone(), handles.events.clone());
        let relay = Relay::new(outlet, fallback, model.clone(), stats, events);
        if decisions {
            Box::new(relay.deciding(RuleTable::new(rules, model))) as Box<dyn Sink>
        } else {
            Box::new(relay)
        }
    };
    let mut outlets = outlets(config, model, neutral_action, doors)?;
    if let Some(device) = &config.ttl.device {
        let rules: Vec<Name> = rules.rules.iter().map(|rule| rule.name).collect();
        let ttl = Ttl::open(device, &config.ttl, &rules, fallback.deadline_ns, handles.stats.clone())?;
        outlets.push((Box::new(ttl), true));
    }
    Ok(outlets.into_iter().map(relay).collect())
}

/// An outlet, and whether it is to have the decisions as well.
type Opened = (Box<dyn Outlet>, bool);

fn outlets(config: &Config, model: &ModelTag, neutral: &str, doors: &Doors) -> Result<Vec<Opened>, SinkError> {
    let mut outlets: Vec<Opened> = Vec::new();
    if let Some(endpoint) = &config.plain.endpoint {
        let unfit = |e: TemplateError| SinkError { sink: "plain.template".to_owned(), cause: e.to_string() };
        let template = config.plain.template.parse().map_err(unfit)?;
        outlets.push((Box::new(Plain::bind(doors.at(endpoint), endpoint, template)?), config.plain.decisions));
    }
    if let Some(endpoint) = &config.binary.endpoint {
        outlets.push((Box::new(Binary::bind(doors.at(endpoint), endpoint)?), config.binary.decisions));
    }
    if let Some(receiver) = config.osc.receiver {
        let osc = Osc::open(receiver, config.osc.embedding.then_some(model.embedding))?;
        outlets.push((Box::new(osc), config.osc.decisions));
    }
    if let Some(device) = &config.serial.device {
        let rules = config.decision.rules.len();
        let serial = Serial::open(device, &config.serial, &model.labels, neutral, rules)?;
        outlets.push((Box::new(serial), config.serial.decisions));
    }
    if let Some(name) = config.lsl.name {
        let lsl = Lsl::open(name, &config.lsl, config.rig, model, neutral)?;
        outlets.push((Box::new(lsl), config.lsl.decisions));
    }
    Ok(outlets)
}
