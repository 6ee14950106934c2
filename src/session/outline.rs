//! What a session contains, without reading its chunks: metadata, channels and counts.
//!
//! What it must never do: hold more than one record in memory, or fail because of a part that is damaged while another says the same.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use mcap::records::{Record, op};

use super::decoded_by::{DecodeChunks, model_of};
use super::messages::ModelRecord;
use super::records::{Records, parsed, records_of};
use super::{BEGIN, END, FORM, MODEL, SessionError, Topic};
use crate::sys::statistics::median;

/// Frame times used to estimate the frame rate.
const TIMES_MAX: usize = 1024;

/// What a session contains, without reading its chunks.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Which file.
    pub path: PathBuf,
    /// The metadata at the start.
    pub about: BTreeMap<String, String>,
    /// The metadata at the end; `None` when the file was truncated.
    pub end: Option<BTreeMap<String, String>>,
    /// Messages of each topic in complete chunks, in the order of [`Topic::ALL`]; a chunk without its index is not counted.
    pub messages: [u64; Topic::ALL.len()],
    /// Messages of each topic that were written, by the summary of a complete file.
    pub written: Option<[u64; Topic::ALL.len()]>,
    /// Median rate of the recorded frames, Hz, from their times of receipt.
    pub frame_rate_hz: Option<f64>,
    /// Bytes after the last complete record of a truncated file.
    pub bytes_lost: u64,
    /// Models that took over during the recording and whose files are attached, in order.
    pub taken_over: Vec<ModelRecord>,
    /// The models of the first and of the last decode in complete chunks; `None` without a decode.
    pub decoded_by: Option<[ModelRecord; 2]>,
    /// Topics of the channels.
    pub(super) channels: HashMap<u16, Topic>,
    /// Messages of each channel, and times of the first of them: the channels may be named behind them.
    counted: HashMap<u16, (u64, Vec<u64>)>,
    /// Where decodes are.
    decodes: DecodeChunks,
    /// The summary's counts.
    stated: Option<BTreeMap<u16, u64>>,
}

impl Outline {
    /// Scans a file.
    ///
    /// # Errors
    /// A file that cannot be read or is not a session.
    pub fn of(path: &Path) -> Result<Self, SessionError> {
        let mut records = Records::open(path)?;
        let mut outline = Self { path: path.into(), ..Self::default() };
        let (mut ended, mut whole) = (false, true);
        loop {
            let Some(head) = records.head()? else {
                if ended || !records.find_chunk()? {
                    break;
                }
                whole = false;
                continue;
            };
            if head.opcode == op::CHUNK {
                outline.decodes.meet(records.position(), head);
            }
            match head.opcode {
                op::FOOTER => break,
                op::DATA_END => {
                    ended = true;
                    records.skip(head)?;
                }
                // Channels stand in the first chunk, and again in the summary.
                op::CHUNK if !outline.channels.is_empty() && whole => {
                    records.skip(head)?;
                    if records.goes_on() {
                        records.chunk_is_whole();
                    }
                }
                op::CHUNK => {
                    let body = records.body(head)?;
                    match records_of(&body) {
                        Some(inside) => {
                            records.chunk_is_whole();
                            inside.iter().for_each(|record| outline.take(record));
                        }
                        None if !records.goes_on() && !records.find_chunk()? => break,
                        None => whole = false,
                    }
                }
                op::MESSAGE_INDEX | op::CHANNEL | op::METADATA | op::STATISTICS => {
                    let body = records.body(head)?;
                    if let Some(record) = parsed(head.opcode, &body) {
                        outline.take(&record);
                    }
                }
                _ => records.skip(head)?,
            }
        }
        if outline.end.is_none() && !ended {
            outline.bytes_lost = records.left();
        }
        outline.settle();
        outline.check()?;
        outline.decoded_by = std::mem::take(&mut outline.decodes).models(&records, &outline.channels)?;
        Ok(outline)
    }

    fn take(&mut self, record: &Record<'_>) {
        match record {
            Record::Metadata(found) if found.name == BEGIN => self.about.extend(found.metadata.clone()),
            Record::Metadata(found) if found.name == END => self.end = Some(found.metadata.clone()),
            Record::Metadata(found) if found.name == MODEL => self.taken_over.extend(model_of(&found.metadata)),
            Record::Channel(channel) => note_channel(&mut self.channels, channel),
            Record::MessageIndex(index) => {
                if self.channels.get(&index.channel_id).is_none_or(|topic| *topic == Topic::Decodes) {
                    self.decodes.note(index.channel_id);
                }
                let (count, times) = self.counted.entry(index.channel_id).or_default();
                *count += index.records.len() as u64;
                if times.len() < TIMES_MAX {
                    times.extend(index.records.iter().map(|entry| entry.log_time));
                }
            }
            Record::Statistics(statistics) => self.stated = Some(statistics.channel_message_counts.clone()),
            _ => {}
        }
    }

    /// From channels to topics, once all are known.
    fn settle(&mut self) {
        for (id, topic) in &self.channels {
            if let Some((count, times)) = self.counted.get(id) {
                self.messages[*topic as usize] += count;
                if *topic == Topic::Frames {
                    self.frame_rate_hz = rate_hz(times);
                }
            }
        }
        self.written = self.stated.take().map(|stated| {
            let mut written = [0; Topic::ALL.len()];
            self.channels.iter().for_each(|(id, topic)| written[*topic as usize] += stated.get(id).unwrap_or(&0));
            written
        });
        self.counted.clear();
    }

    /// Is it a session, and of this format? Its metadata may be damaged: its topics then say that it is one.
    fn check(&mut self) -> Result<(), SessionError> {
        let path = self.path.clone();
        match self.about.get("form").map(String::as_str) {
            Some(FORM) => Ok(()),
            Some(other) => Err(SessionError::form(
                &path,
                format!(
                    "is a session of format {other}; this haltere reads format {FORM}: use the version that wrote it, or a newer one"
                ),
            )),
            // Sessions of earlier versions have no decisions.
            None if self.channels.values().filter(|topic| **topic != Topic::Decisions).count()
                == Topic::ALL.len() - 1 =>
            {
                Ok(())
            }
            None => Err(SessionError::form(
                &path,
                "is an MCAP file but not a haltere session (it has no `haltere.session`)",
            )),
        }
    }

    /// Messages of one topic.
    pub fn count(&self, topic: Topic) -> u64 {
        self.messages[topic as usize]
    }

    /// A number from the metadata at the start.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.about.get(key)?.parse().ok()
    }

    /// What to know before trusting a replay of this file; empty for a complete recording from the start of the run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let of_end = |key: &str| self.end.as_ref().and_then(|end| end.get(key)?.parse::<u64>().ok()).unwrap_or(0);
        if self.about.is_empty() {
            warnings.push("its metadata are damaged: rig, deadline and labels are not known".to_owned());
        }
        if self.end.is_none() && self.written.is_none() {
            warnings.push(format!(
                "the recording was cut off (daemon killed, or disk full): {} frames and {} decodes are intact; {} bytes of an \
                 unfinished chunk at the end are lost, which may be up to the last second",
                self.count(Topic::Frames),
                self.count(Topic::Decodes),
                self.bytes_lost
            ));
        }
        let lost = of_end("frames_lost");
        if lost > 0 {
            warnings.push(format!(
                "{lost} frames were decoded live but not recorded because the disk was too slow: from the first of them until the \
                 next reset a replay is not bit-identical"
            ));
        }
        if let Some(what) = self.not_by_one_model() {
            warnings.push(format!("{what}: every decode names its model"));
        }
        if self.about.get("from_start").is_some_and(|from_start| from_start == "false") {
            warnings.push(
                "the recording was started mid-run and does not contain the state built up before it (template, baseline, \
                 statistics): a replay is bit-identical only after the next reset"
                    .to_owned(),
            );
        }
        warnings
    }
}

pub(super) fn note_channel(channels: &mut HashMap<u16, Topic>, channel: &mcap::records::Channel) {
    if let Some(topic) = Topic::ALL.into_iter().find(|topic| topic.name() == channel.topic) {
        channels.insert(channel.id, topic);
    }
}

fn rate_hz(times: &[u64]) -> Option<f64> {
    let mut intervals: Vec<u64> = times.windows(2).filter_map(|pair| pair[1].checked_sub(pair[0])).collect();
    intervals.retain(|ns| *ns > 0);
    median(&mut intervals, u64::cmp).map(|ns| 1e9 / ns as f64)
}
