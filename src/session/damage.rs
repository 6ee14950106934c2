//! What is missing in a damaged session: where, when, and how many messages.
//!
//! Why it exists: a report, an export or a comparison of a session with a hole must say so, with the same numbers everywhere.

use super::{Outline, Topic};

/// A part of a session that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hole {
    /// Chunks before it, damaged ones too.
    pub chunk: u64,
    /// Time of the last message before it, UTC, ns.
    pub after_ns: Option<u64>,
    /// Time of the first message behind it, UTC, ns.
    pub before_ns: Option<u64>,
    /// Messages of each topic in it, where the index of the chunk is whole, in the order of [`Topic::ALL`].
    pub messages: Option<[u64; Topic::ALL.len()]>,
}

/// All that is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The holes, in the order of the file.
    pub holes: Vec<Hole>,
    /// Time of the first message, UTC, ns.
    pub first_ns: Option<u64>,
    /// Messages of each topic that were read, in the order of [`Topic::ALL`].
    pub read: [u64; Topic::ALL.len()],
}

impl Damage {
    /// Is there a hole?
    pub fn is_none(&self) -> bool {
        self.holes.is_empty()
    }

    /// Messages of a topic that were written and are missing, as far as it is known.
    pub fn lost(&self, topic: Topic, outline: &Outline) -> Option<u64> {
        match outline.written {
            Some(written) => Some(written[topic as usize].saturating_sub(self.read[topic as usize])),
            None => self.holes.iter().map(|hole| Some(hole.messages?[topic as usize])).sum(),
        }
    }

    /// In words, once the file was read to its end: one line for each hole, and one for the sum.
    pub fn warnings(&self, outline: &Outline) -> Vec<String> {
        let counted =
            |topic: &Topic| outline.written.is_some() && self.lost(*topic, outline).is_some_and(|lost| lost > 0);
        if self.is_none() && !Topic::ALL.iter().any(counted) {
            return Vec::new();
        }
        let mut lines: Vec<String> = self.holes.iter().map(|hole| self.line(hole)).collect();
        let number = |topic| self.lost(topic, outline).map_or("an unknown number of".to_owned(), |n| n.to_string());
        lines.push(format!(
            "damaged: {} frames, {} decodes and {} requests are missing; what lies between the holes is whole",
            number(Topic::Frames),
            number(Topic::Decodes),
            number(Topic::Requests)
        ));
        lines
    }

    fn line(&self, hole: &Hole) -> String {
        let second = |ns: Option<u64>, none: &str| match ns.zip(self.first_ns) {
            Some((ns, first)) => format!("{:.2} s", ns.saturating_sub(first) as f64 / 1e9),
            None => none.to_owned(),
        };
        let held = hole.messages.map(|held| {
            format!(": {} frames and {} decodes", held[Topic::Frames as usize], held[Topic::Decodes as usize])
        });
        format!(
            "chunk {} is damaged and skipped, between {} and {} of the recording{}",
            hole.chunk,
            second(hole.after_ns, "its start"),
            second(hole.before_ns, "its end"),
            held.unwrap_or_default()
        )
    }
}
