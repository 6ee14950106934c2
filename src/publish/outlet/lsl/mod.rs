//! Lab Streaming Layer: one stream of numbers per decode, and one stream of markers that name the action.
//!
//! Why it exists: EEG, eye trackers and LabRecorder share a clock through LSL, and decodes belong beside them. What it must
//! never do: wait for a reader, or stamp a sample with any time but that of its publication, on LSL's clock. The frame was
//! received `latency_ms` earlier.
//!
//! Decisions, if wanted: a third stream, of markers.
//!
//! Numbers: `e0` to `e<n-1>`, then [`MORE`]. Markers: one text channel, the action, when it changes (or for every decode).
//! Both follow the relay's rules: a decode that cannot be trusted becomes the neutral action.

mod library;
mod marker_reader;

pub use marker_reader::{Marker, MarkerReader};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::write_decision;
use crate::config::{Lsl as Settings, LslMarkers};
use crate::frame::{ModelTag, Name, Quality};
use crate::publish::NeutralAction;
use crate::publish::SinkError;
use crate::publish::relay::{Outlet, RelayedDecode};
use crate::sys::clock::now_ns;
use crate::wire::decision::DecisionHeader;

use library::{About, Library, Node, Stream};

/// Channels after the embedding: label, unit, content type.
const MORE: [(&str, &str, &str); 6] = [
    ("action_id", "id", "Action"),
    ("confidence", "probability", "Action"),
    ("quality", "code", "Quality"),
    ("frame", "number modulo 16777216", "Frame"),
    ("latency_ms", "milliseconds", "Latency"),
    ("generation", "count of models since start", "Model"),
];
/// Larger integers are not exact in float32.
const FRAMES_EXACT: u64 = 1 << 24;
/// What the time stamps mean, for whoever reads the file in ten years.
const STAMP: &str =
    "publication of the decode, on LSL's clock; its frame was received latency_ms earlier; NaN = no frame";
/// Longest wait at the end for readers to fetch the neutral decode.
const FINAL_WAIT: Duration = Duration::from_millis(200);

/// Two streams, or three.
pub struct Lsl {
    library: Arc<Library>,
    numbers: Stream,
    markers: Stream,
    decisions: Option<Stream>,
    text: String,
    every: bool,
    row: Vec<f32>,
    last: Option<i32>,
}

impl Lsl {
    /// Loads liblsl and announces the streams `<name>-embedding` and `<name>-action`, and if wanted `<name>-decision`.
    ///
    /// # Errors
    /// When liblsl is missing or cannot open a stream; the message says where it was searched for and what to do.
    pub fn open(
        name: Name,
        settings: &Settings,
        rig: Name,
        model: &ModelTag,
        neutral: &str,
    ) -> Result<Self, SinkError> {
        let fail = |cause: String| SinkError { sink: "lsl".to_owned(), cause };
        let library = Library::open(settings.library.as_deref()).map_err(fail)?;
        let host = host();
        let open = |what: &str, kind: &str, floats: Option<usize>, meta: &[Node]| {
            let (name, source_id) = (format!("{name}-{what}"), format!("haltere:{host}:{rig}:{name}:{what}"));
            Stream::open(&library, &About { name: &name, kind, floats, source_id: &source_id, meta }).map_err(fail)
        };
        let channels = model.embedding + MORE.len();
        let numbers = open("embedding", "Embedding", Some(channels), &meta(numbers(model.embedding), model, neutral))?;
        let action = vec![channel("action".to_owned(), "", "Marker")];
        let markers = open("action", "Markers", None, &meta(action, model, neutral))?;
        let of_rule = || open("decision", "Markers", None, &meta(vec![decision_channel()], model, neutral));
        let decisions = settings.decisions.then(of_rule).transpose()?;
        let every = settings.markers == LslMarkers::Every;
        let text = String::with_capacity(256);
        Ok(Self { library, numbers, markers, decisions, text, every, row: vec![0.0; channels], last: None })
    }

    /// A time of our clock on LSL's clock, s.
    fn stamp(&self, t_pub_ns: u64) -> f64 {
        self.library.clock() - now_ns().saturating_sub(t_pub_ns) as f64 * 1e-9
    }
}

impl Outlet for Lsl {
    fn name(&self) -> &'static str {
        "lsl"
    }

    fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()> {
        let stamp = self.stamp(decode.t_pub_ns);
        fill(&mut self.row, decode);
        self.numbers.push(&self.row, stamp)?;
        if !self.every && self.last == Some(decode.action_id) {
            return Ok(());
        }
        self.markers.push_text(decode.action, stamp)?;
        // Only a marker that was accepted counts as sent.
        self.last = Some(decode.action_id);
        Ok(())
    }

    fn decision(&mut self, _rule: usize, decision: &DecisionHeader<'_>) -> std::io::Result<()> {
        let stamp = self.stamp(decision.t_pub_ns);
        let Some(stream) = &mut self.decisions else { return Ok(()) };
        self.text.clear();
        write_decision(decision, &mut self.text);
        stream.push_text(&self.text, stamp)
    }
}

impl Drop for Lsl {
    fn drop(&mut self) {
        // Destroying an outlet discards what its readers have not fetched yet, which is the neutral action.
        if self.numbers.has_readers()
            || self.markers.has_readers()
            || self.decisions.as_ref().is_some_and(Stream::has_readers)
        {
            std::thread::sleep(FINAL_WAIT);
        }
    }
}

/// The library that [`Lsl::open`] would load, and its version, for `haltere check`.
///
/// # Errors
/// Why none can be loaded, and what to do.
pub fn liblsl(wanted: Option<&Path>) -> Result<String, String> {
    let library = Library::open(wanted)?;
    let version = library.version();
    Ok(format!("{} ({}.{})", library.name, version / 100, version % 100))
}

/// Writes one sample into `row`.
fn fill(row: &mut [f32], decode: &RelayedDecode<'_>) {
    let (embedding, more) = row.split_at_mut(row.len().saturating_sub(MORE.len()));
    embedding.iter_mut().zip(decode.embedding).for_each(|(to, from)| *to = *from);
    let latency_ns = decode.t_received_ns.map(|received| decode.t_pub_ns.saturating_sub(received));
    let values = [
        decode.action_id as f32,
        decode.confidence,
        f32::from(decode.quality.code()),
        decode.frame.map_or(f32::NAN, |frame| (frame % FRAMES_EXACT) as f32),
        latency_ns.map_or(f32::NAN, |ns| (ns as f64 * 1e-6) as f32),
        decode.generation as f32,
    ];
    more.copy_from_slice(&values);
}

fn channel(label: String, unit: &str, kind: &str) -> Node {
    let values = [("label", label), ("unit", unit.to_owned()), ("type", kind.to_owned())];
    Node::Group("channel", values.map(|(name, value)| Node::Value(name, value)).into())
}

/// The words of a decision, in order.
fn decision_channel() -> Node {
    channel("rule what number frame reason delay_ms width_ms period_ms count".to_owned(), "", "Marker")
}

fn numbers(dimensions: usize) -> Vec<Node> {
    let embedding = (0..dimensions).map(|index| channel(format!("e{index}"), "normalised", "Embedding"));
    embedding.chain(MORE.iter().map(|(label, unit, kind)| channel((*label).to_owned(), unit, kind))).collect()
}

/// Metadata of both streams: their channels, the model, its actions, the meaning of codes and time stamps.
fn meta(channels: Vec<Node>, model: &ModelTag, neutral: &str) -> Vec<Node> {
    let pair = |group, id: String, label: &str| {
        Node::Group(group, vec![Node::Value("id", id), Node::Value("label", label.to_owned())])
    };
    let actions = model.labels.iter().enumerate().map(|(id, label)| pair("action", id.to_string(), label)).collect();
    let neutral_id = NeutralAction::of(neutral, model).code();
    let qualities = Quality::ALL.map(|quality| pair("quality", quality.code().to_string(), quality.name()));
    let of_model = vec![
        Node::Value("name", model.name.clone()),
        Node::Value("sha256", model.sha256.clone()),
        // The metadata cannot change when another model takes over; the channel of this name counts models.
        Node::Value("generation", model.generation.to_string()),
        Node::Value("dimensions", model.embedding.to_string()),
    ];
    vec![
        Node::Group("channels", channels),
        Node::Group("model", of_model),
        Node::Group("actions", actions),
        pair("neutral", neutral_id.to_string(), neutral),
        Node::Group("qualities", qualities.into()),
        Node::Value("time_stamps", STAMP.to_owned()),
        Node::Group("acquisition", vec![Node::Value("haltere", env!("CARGO_PKG_VERSION").to_owned())]),
    ]
}

/// The machine's name, so that the same rig name on two machines is two sources.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_embedding_and_then_what_belongs_to_it() {
        let decode = RelayedDecode {
            seq: 9,
            t_pub_ns: 7_500_000,
            t_received_ns: Some(5_000_000),
            frame: Some(FRAMES_EXACT + 3),
            generation: 2,
            quality: Quality::Degraded,
            action: "walking",
            action_id: 6,
            confidence: 0.5,
            embedding: &[0.25, -0.75],
        };
        let mut row = vec![9.0; 8];
        fill(&mut row, &decode);
        assert_eq!(row, [0.25, -0.75, 6.0, 0.5, 1.0, 3.0, 2.5, 2.0]);
        let nothing =
            RelayedDecode { frame: None, t_received_ns: None, quality: Quality::Stale, embedding: &[0.0; 2], ..decode };
        fill(&mut row, &nothing);
        assert_eq!((row[4], row[5].is_nan(), row[6].is_nan()), (3.0, true, true));
    }

    #[test]
    fn every_channel_of_a_sample_has_a_name() {
        assert_eq!(numbers(128).len(), 128 + MORE.len());
    }
}
