//! The decodes of a session, as recorded or as decoded again.
//!
//! Why it exists: comparison, export and report use the same rows. What it must never do: match different frames of the same
//! number: numbers that go back start a new part.

use std::path::Path;

use anyhow::Context;

use crate::frame::{Decode, Quality, RoundTrips};
use crate::publish::decisions::{RuleTable, Stamps};
use crate::session::messages::{ClockRecord, DecisionRecord, DecodeRecord, Decoded, EventRecord, MarkRecord};
use crate::session::{Damage, Item, Outline, Reader, Topic};
use crate::sys::exit::{ExitCode, Failure};
use crate::wire::round_trip::take_decision;

/// A session without its pixels.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Its metadata and counts.
    pub outline: Outline,
    /// Decodes in the order of publishing, neutral ones too.
    pub decodes: Vec<DecodeRecord>,
    /// Events.
    pub events: Vec<EventRecord>,
    /// Marks.
    pub marks: Vec<MarkRecord>,
    /// Decisions, and ends of outputs, as published.
    pub decisions: Vec<DecisionRecord>,
    /// Decisions with an output, and who acknowledged them.
    pub round_trips: RoundTrips,
    /// How the sender's clock lay, each time that it was published.
    pub clocks: Vec<ClockRecord>,
    /// The last status.
    pub status: Option<serde_json::Value>,
    /// Number of frames whose pixels are in the file.
    pub frames: u64,
    /// Messages that could not be read: written by another version.
    pub odd: u64,
    /// What is missing, because the file is damaged.
    pub damage: Damage,
}

impl Recorded {
    /// Names of the model's continuous outputs, as the session states them.
    pub fn outputs(&self) -> Vec<String> {
        self.outline.about.get("outputs").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Reads a session to its end, or to where it was truncated.
    ///
    /// # Errors
    /// A file that is not a session.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let no_source = || Failure { code: ExitCode::Source, what: path.display().to_string() };
        let outline = Outline::of(path).with_context(no_source)?;
        let mut reader = Reader::open(path).with_context(no_source)?;
        let mut recorded = Self { outline, ..Self::default() };
        while let Some(item) = reader.read().with_context(no_source)? {
            if let Item::Message { topic, data, .. } = item {
                recorded.take(topic, &data);
            }
        }
        recorded.damage = reader.damage().clone();
        Ok(recorded)
    }

    /// What to know before trusting it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.outline.warnings();
        warnings.extend(self.damage.warnings(&self.outline));
        warnings
    }

    fn take(&mut self, topic: Topic, data: &[u8]) {
        let understood = match topic {
            Topic::Frames => {
                self.frames += 1;
                true
            }
            Topic::Requests => true,
            Topic::Decodes => push(&mut self.decodes, data),
            Topic::Events => push(&mut self.events, data),
            Topic::Marks => {
                let understood = push(&mut self.marks, data);
                self.take_acknowledgement();
                understood
            }
            Topic::Decisions => {
                if let Ok(header) = serde_json::from_slice(data) {
                    take_decision(&header, &mut self.round_trips);
                }
                push(&mut self.decisions, data)
            }
            Topic::Status => {
                // A status without it says nothing of a clock.
                push(&mut self.clocks, data);
                self.status = serde_json::from_slice(data).ok();
                self.status.is_some()
            }
        };
        self.odd += u64::from(!understood);
    }

    /// The last mark may acknowledge a decision.
    fn take_acknowledgement(&mut self) {
        let Some(MarkRecord { t_ns, inlet: Some(mark), .. }) = self.marks.last() else { return };
        if let Some(decision) = mark.decision {
            self.round_trips.acknowledged(decision, mark.timestamp_ns.map(|_| *t_ns), mark.t_recv_ns);
        }
    }

    /// The decodes of frames.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Rows::default();
        let of_frames = self.decodes.iter().filter_map(|decode| Some((decode.frame?, decode.decoded.as_ref()?)));
        of_frames.for_each(|(frame, decoded)| rows.add(frame, decoded.clone()));
        rows.into_rows()
    }
}

fn push<T: serde::de::DeserializeOwned>(into: &mut Vec<T>, data: &[u8]) -> bool {
    let read = serde_json::from_slice(data).ok();
    let understood = read.is_some();
    into.extend(read);
    understood
}

/// One decoded frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Counted up whenever the frame numbers go back.
    pub part: u32,
    /// The frame's number.
    pub frame: u64,
    /// What was decoded.
    pub decoded: Decoded,
}

impl Row {
    /// Rows of two runs with the same key belong to the same frame.
    pub fn key(&self) -> (u32, u64) {
        (self.part, self.frame)
    }

    /// The action, unless still warming up.
    pub fn action(&self) -> Option<usize> {
        self.decoded.action_id.filter(|_| self.decoded.quality != Quality::Warmup)
    }
}

/// Makes rows, and counts the parts.
#[derive(Default)]
pub struct Rows {
    part: u32,
    rows: Vec<Row>,
    decisions: Vec<DecisionRecord>,
    /// Gives decisions their names; without it they are left out.
    rules: Option<RuleTable>,
}

impl Rows {
    /// With the decisions of these rules.
    pub fn deciding(rules: RuleTable) -> Self {
        Self { rules: Some(rules), ..Self::default() }
    }

    /// A decode as it came down the corridor.
    pub fn push(&mut self, decode: &Decode) {
        self.add(decode.frame.number, Decoded::from(decode));
        let Some(rules) = &self.rules else { return };
        let headers = decode.decisions.iter().filter_map(|made| rules.header(made, &decode.frame, Stamps::default()));
        // Through the same words as live: what is equal there is equal here.
        let records = headers.filter_map(|header| serde_json::from_slice(&serde_json::to_vec(&header).ok()?).ok());
        self.decisions.extend(records);
    }

    /// All of them.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// All of them, and the decisions.
    pub fn into_all(self) -> (Vec<Row>, Vec<DecisionRecord>) {
        (self.rows, self.decisions)
    }

    fn add(&mut self, frame: u64, decoded: Decoded) {
        if self.rows.last().is_some_and(|last| frame <= last.frame) {
            self.part += 1;
        }
        self.rows.push(Row { part: self.part, frame, decoded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_read_is_counted_behind_one_that_can() {
        let mut recorded = Recorded::default();
        recorded.take(Topic::Marks, br#"{"t_ns":7,"unix_ns":9,"text":"light on"}"#);
        recorded.take(Topic::Marks, b"of another version");
        assert_eq!((recorded.marks.len(), recorded.odd), (1, 1));
    }
}
