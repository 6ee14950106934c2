//! Which outlets the configuration asks for, opened, each behind a relay with its own fail-safe.
//!
//! Why it exists: a device that is not there must be known by name before the daemon says `ready`. What it must never do: open
//! what was not asked for.

use crate::config::Config;
use crate::config::template::TemplateError;
use crate::corridor::Handles;
use crate::corridor::supervisor::doors::Doors;
use crate::frame::ModelTag;
use crate::publish::outlet::{Binary, Lsl, Osc, Plain, Serial};
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
    let relay = |outlet| {
        let (stats, events) = (handles.stats.clone(), handles.events.clone());
        Box::new(Relay::new(outlet, fallback, model.clone(), stats, events)) as Box<dyn Sink>
    };
    Ok(outlets(config, model, neutral_action, doors)?.into_iter().map(relay).collect())
}

fn outlets(config: &Config, model: &ModelTag, neutral: &str, doors: &Doors) -> Result<Vec<Box<dyn Outlet>>, SinkError> {
    let mut outlets: Vec<Box<dyn Outlet>> = Vec::new();
    if let Some(endpoint) = &config.plain.endpoint {
        let unfit = |e: TemplateError| SinkError { sink: "plain.template".to_owned(), cause: e.to_string() };
        outlets.push(Box::new(Plain::bind(
            doors.at(endpoint),
            endpoint,
            config.plain.template.parse().map_err(unfit)?,
        )?));
    }
    if let Some(endpoint) = &config.binary.endpoint {
        outlets.push(Box::new(Binary::bind(doors.at(endpoint), endpoint)?));
    }
    if let Some(receiver) = config.osc.receiver {
        outlets.push(Box::new(Osc::open(receiver, config.osc.embedding.then_some(model.embedding))?));
    }
    if let Some(device) = &config.serial.device {
        let (baud, write) = (config.serial.baud, config.serial.write);
        outlets.push(Box::new(Serial::open(device, baud, write, &model.labels, neutral)?));
    }
    if let Some(name) = config.lsl.name {
        outlets.push(Box::new(Lsl::open(name, &config.lsl, config.rig, model, neutral)?));
    }
    Ok(outlets)
}
