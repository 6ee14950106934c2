//! Says on the log what the daemon waits for when nothing comes.
//!
//! Why it exists: a sender that binds where it should connect, or publishes where it should push, is met with silence on both
//! sides. What it must never do: say so twice, or once anything has come.

use std::time::Duration;

use tracing::warn;

use crate::config::{Attach, Pattern, Source};

/// Silence from the start after which it is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is waited for, until it is told or has come.
pub(super) struct Waiting {
    hint: Option<String>,
}

impl Waiting {
    /// For frames as configured, from `at`.
    pub(super) fn new(source: &Source, at: &str) -> Self {
        Self { hint: Some(hint(source, at)) }
    }

    /// Looks again, `after` the start, with so many messages `received`.
    pub(super) fn look(&mut self, received: u64, after: Duration) {
        if received > 0 {
            self.hint = None;
        } else if let Some(hint) = self.hint.take_if(|_| after >= PATIENCE) {
            warn!("{hint}");
        }
    }
}

fn hint(source: &Source, at: &str) -> String {
    let seconds = PATIENCE.as_secs();
    if source.follow.is_some() {
        return format!(
            "no frame after {seconds} s from {at}: waiting for ThorImage to write there; check `source.follow` and that the \
             acquisition streams to this folder"
        );
    }
    let (ours, theirs) = match source.pattern {
        Pattern::Sub => ("SUB", "PUB"),
        Pattern::Pull => ("PULL", "PUSH"),
    };
    let (we, they) = match source.attach {
        Attach::Bind => ("bound", "connects to"),
        Attach::Connect => ("connecting", "binds"),
    };
    let topic = if source.topic.is_empty() || source.pattern == Pattern::Pull {
        String::new()
    } else {
        format!("; only messages whose first part begins with {:?} (`source.topic`) are received", source.topic)
    };
    format!(
        "no message after {seconds} s from {at} ({ours}, {we}): check that the microscope's program is sending, that its socket is \
         a {theirs} that {they} this address (`source.pattern`, `source.attach`), and that no firewall lies between{topic}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_hint_names_endpoint_both_sockets_who_binds_and_the_topic() {
        let source = Config::default().source;
        let said = hint(&source, "tcp://127.0.0.1:5710");
        for word in ["tcp://127.0.0.1:5710", "SUB, connecting", "a PUB that binds"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(!said.contains("source.topic"), "{said}");
        let topic = Source { topic: "two".into(), ..source.clone() };
        assert!(hint(&topic, "x").contains("\"two\" (`source.topic`)"));
        let pull = Source { pattern: Pattern::Pull, attach: Attach::Bind, ..source };
        assert!(hint(&pull, "x").contains("PULL, bound") && hint(&pull, "x").contains("a PUSH that connects to"));
    }

    #[test]
    fn it_is_told_once_and_not_when_something_came() {
        let source = Config::default().source;
        let mut waiting = Waiting::new(&source, "x");
        waiting.look(0, PATIENCE / 2);
        assert!(waiting.hint.is_some());
        waiting.look(0, PATIENCE);
        assert!(waiting.hint.is_none());
        let mut waiting = Waiting::new(&source, "x");
        waiting.look(1, Duration::ZERO);
        assert!(waiting.hint.is_none());
    }
}
