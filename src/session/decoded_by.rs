//! Which models decoded a session: those attached, and those that the first and the last decode name.
//!
//! Why it exists: a replay runs one model, and must not claim to repeat what another one decoded. What it must never do: read all decodes.

use std::collections::{BTreeMap, HashMap};

use mcap::records::Record;

use super::messages::{DecodeRecord, ModelRecord};
use super::records::{Head, Records, records_of};
use super::{Outline, SessionError, Topic};
use crate::frame::FIRST_GENERATION;

impl Outline {
    /// The model whose files are attached as [`MODEL_ONNX`](super::MODEL_ONNX), and those that took over during the recording. Files
    /// of earlier versions do not say a generation; it is then that of the first model.
    pub fn models(&self) -> Vec<ModelRecord> {
        model_of(&self.about).into_iter().chain(self.taken_over.iter().cloned()).collect()
    }

    /// What does not fit between the decodes and the attached models; `None` when the first attached model made every decode, so
    /// that a replay with it can be bit-identical.
    pub fn not_by_one_model(&self) -> Option<String> {
        let ([first, last], models) = (self.decoded_by.as_ref()?, self.models());
        let attached = models.first()?;
        let listed = || models.iter().map(described).collect::<Vec<_>>().join(", ");
        let strange = [first, last].into_iter().find(|by| models.iter().all(|model| model.sha256 != by.sha256));
        if let Some(by) = strange {
            return Some(format!(
                "decodes are by model {}, whose files are not attached; attached: {}",
                described(by),
                listed()
            ));
        }
        // Of three models the first may have come back: its generation is another one then.
        let swapped = last.generation != first.generation;
        (swapped || first.sha256 != attached.sha256 || last.sha256 != attached.sha256)
            .then(|| format!("more than one model decoded this session (hot swap): {}", listed()))
    }
}

/// Chunks that are read at most to find the first or the last decode of a frame; in between there may be neutral ones.
const CHUNKS_SEARCHED_MAX: usize = 256;

/// Where decodes are, without having read them.
#[derive(Clone, Debug, Default)]
pub(super) struct DecodeChunks {
    /// The chunk that was met last: position of its content, and its head.
    met: Option<(u64, Head)>,
    /// Those that hold messages of a channel.
    all: Vec<(u16, (u64, Head))>,
}

impl DecodeChunks {
    /// A chunk is passed.
    pub fn meet(&mut self, at: u64, head: Head) {
        self.met = Some((at, head));
    }

    /// The chunk that was met last holds messages of a channel, of which it may not be known yet whether it is that of decodes.
    pub fn note(&mut self, channel: u16) {
        self.all.extend(self.met.map(|met| (channel, met)));
    }

    /// The models of the first and of the last decode of a frame.
    pub fn models(
        &self,
        records: &Records,
        channels: &HashMap<u16, Topic>,
    ) -> Result<Option<[ModelRecord; 2]>, SessionError> {
        let in_chunk = |at: &(u64, Head)| -> Result<Vec<ModelRecord>, SessionError> {
            let body = records.body_at(*at)?;
            let inside = records_of(&body).unwrap_or_default();
            Ok(inside.iter().filter_map(|record| model_in(record, channels)).collect())
        };
        let of_decodes = |(channel, _): &&(u16, (u64, Head))| channels.get(channel) == Some(&Topic::Decodes);
        let all: Vec<(u64, Head)> = self.all.iter().filter(of_decodes).map(|(_, at)| *at).collect();
        let (mut first, mut last) = (None, None);
        for at in all.iter().take(CHUNKS_SEARCHED_MAX) {
            first = in_chunk(at)?.into_iter().next();
            if first.is_some() {
                break;
            }
        }
        for at in all.iter().rev().take(CHUNKS_SEARCHED_MAX) {
            last = in_chunk(at)?.pop();
            if last.is_some() {
                break;
            }
        }
        Ok(first.zip(last).map(|(first, last)| [first, last]))
    }
}

/// The model that a decode names.
fn model_in(record: &Record<'_>, channels: &HashMap<u16, Topic>) -> Option<ModelRecord> {
    let Record::Message { header, data } = record else { return None };
    if channels.get(&header.channel_id) != Some(&Topic::Decodes) {
        return None;
    }
    // A neutral decode, which has no frame, says nothing about what was decoded.
    let decode: DecodeRecord = serde_json::from_slice(data).ok()?;
    decode.decoded.and(decode.model)
}

pub(super) fn model_of(facts: &BTreeMap<String, String>) -> Option<ModelRecord> {
    let generation = facts.get("generation").and_then(|text| text.parse().ok()).unwrap_or(FIRST_GENERATION);
    Some(ModelRecord { name: facts.get("model")?.clone(), sha256: facts.get("model_sha256")?.clone(), generation })
}

/// For people.
fn described(model: &ModelRecord) -> String {
    let short: String = model.sha256.chars().take(12).collect();
    format!("{} (generation {}, SHA-256 {short}…)", model.name, model.generation)
}
