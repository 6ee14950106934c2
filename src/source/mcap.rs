//! A recorded session as a source: the frames decoded live, with their numbers, times, series and requests.
//!
//! Why it exists: a replay must reproduce the live decodes bit for bit, even where frames were skipped or a template was renewed
//! mid-run; the file holds the frames that were decoded and the requests carried out before each. What it must never do: replace
//! a missing frame by another.

use std::path::Path;
use std::sync::Arc;

use crate::frame::animal::ANIMAL_EXTENSION;
use crate::frame::slot::TAKE_UP;
use crate::frame::{CHANNELS_MAX, Frame, Request, Requests, SIDE_PX_MAX, SavedAnimal};
use crate::session::messages::{AnimalRecord, RequestRecord};
use crate::session::{HeldItem, Outline, Reader, SessionError, Topic, layout};
use crate::sys::clock::now_ns;
use crate::sys::files::sha256_of_bytes;

use super::recording::file_error;
use super::{About, Next, Source, SourceError};

/// Largest frame there can be, bytes: what a session's metadata says is memory to be taken.
const FRAME_BYTES_MAX: u64 = (CHANNELS_MAX * SIDE_PX_MAX * SIDE_PX_MAX * size_of::<f32>()) as u64;

/// The frames of one session.
pub struct McapSource {
    reader: Reader,
    outline: Outline,
    rate_hz: Option<f64>,
    /// The rate was given.
    stated: bool,
    requests: Requests,
    /// The last saved state of an animal in the file: its attachment's name and bytes.
    state: Option<(String, Vec<u8>)>,
    damaged_chunks: u64,
}

impl McapSource {
    /// Opens a session. `rate_hz` overrides its own rate.
    ///
    /// # Errors
    /// A file that is not a session, or contains no frame.
    pub fn open(path: &Path, rate_hz: Option<f64>) -> Result<Self, SourceError> {
        let failed = |cause: SessionError| file_error(path, cause_text(path, &cause));
        let outline = Outline::of(path).map_err(failed)?;
        if outline.count(Topic::Frames) == 0 {
            let cause =
                "this session contains no frame (`record.frames` was false, or it was cut off before the first frame)";
            return Err(file_error(path, cause));
        }
        let frame_bytes_max = outline.number("frame_bytes_max").unwrap_or(0);
        if frame_bytes_max > FRAME_BYTES_MAX {
            let cause = format!(
                "`frame_bytes_max` = {frame_bytes_max} in the session's metadata; a frame has at most {FRAME_BYTES_MAX} bytes: the file was \
                 damaged or made by another program"
            );
            return Err(file_error(path, cause));
        }
        let reader = Reader::open(path).map_err(failed)?;
        let stated = rate_hz.is_some();
        let rate_hz = rate_hz.or(outline.frame_rate_hz);
        Ok(Self { reader, outline, rate_hz, stated, requests: Requests::default(), state: None, damaged_chunks: 0 })
    }

    fn path(&self) -> &Path {
        &self.outline.path
    }

    /// Takes the requests of a message.
    fn take_requests(&mut self, data: &[u8]) -> Result<(), SourceError> {
        let record: RequestRecord = serde_json::from_slice(data).map_err(|cause| {
            file_error(self.path(), format!("a message of the topic `requests` is not valid JSON: {cause}"))
        })?;
        // Requests unknown to this version are skipped; `diff` then shows that the replay differs.
        for name in &record.requests {
            let request = match &record.animal {
                Some(animal) if name == TAKE_UP => Some(Request::TakeUp(self.saved_state(animal)?)),
                _ => Request::of_name(name),
            };
            request.into_iter().for_each(|request| self.requests.add(request));
        }
        Ok(())
    }

    /// The state of this animal, which is attached before the request that takes it up.
    fn saved_state(&self, animal: &AnimalRecord) -> Result<Arc<SavedAnimal>, SourceError> {
        let (name, sha256) = (animal.attachment(), &animal.sha256);
        let broken = |cause: String| file_error(self.path(), format!("its attachment {name} {cause}"));
        let found = self.state.as_ref().filter(|(found, _)| *found == name).map(|(_, bytes)| bytes);
        let bytes = found.ok_or_else(|| broken("is missing: its frames cannot be decoded again".into()))?;
        let is = sha256_of_bytes(bytes);
        if is != *sha256 {
            return Err(broken(format!("is not the one that was taken up: its SHA-256 is {is}, not {sha256}")));
        }
        let saved = SavedAnimal::read(animal.name, bytes.clone(), is);
        saved.map(Arc::new).map_err(|cause| broken(format!("is damaged: {cause}")))
    }

    fn report_damage(&mut self) {
        let damaged = self.reader.damaged_chunks();
        if damaged > self.damaged_chunks {
            let path = self.path().display();
            tracing::warn!("{path}: skipped a damaged chunk ({damaged} so far): its frames are missing");
            self.damaged_chunks = damaged;
        }
    }
}

impl Source for McapSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        self.requests = Requests::default();
        loop {
            // What the last reading passed over.
            self.report_damage();
            let path = &self.outline.path;
            let item = self.reader.read_held().map_err(|cause| file_error(path, cause_text(path, &cause)))?;
            match item {
                None => {
                    self.report_damage();
                    return Ok(Next::End);
                }
                Some(HeldItem::Message { topic: Topic::Frames, data, .. }) => {
                    take_frame(data, into).map_err(|cause| file_error(path, cause))?;
                    return Ok(Next::Frame);
                }
                Some(HeldItem::Message { topic: Topic::Requests, data, .. }) => {
                    let data = data.to_vec();
                    self.take_requests(&data)?;
                }
                Some(HeldItem::Message { .. }) => {}
                Some(HeldItem::Attachment { name, data }) => {
                    if name.strip_suffix(ANIMAL_EXTENSION).is_some_and(|name| name.ends_with('.')) {
                        self.state = Some((name, data));
                    }
                }
            }
        }
    }

    fn requests(&self) -> Requests {
        self.requests.clone()
    }

    fn frame_bytes_max(&self) -> usize {
        self.outline.number("frame_bytes_max").unwrap_or(0) as usize
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.outline.count(Topic::Frames))
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.rate_hz
    }

    fn about(&self) -> About {
        let mut about = About::default();
        about.fact("times", self.outline.count(Topic::Frames), "the session's index");
        about.maybe("rate_hz", self.rate_hz, if self.stated { "the given rate" } else { "the times of receipt" });
        about.warnings = self.outline.warnings();
        about
    }
}

/// Copies a frame of a message.
fn take_frame(data: &[u8], into: &mut Frame) -> Result<(), String> {
    let (mut info, _) = layout::read(data).map_err(|cause| format!("a frame {cause}"))?;
    if info.shape.pixels() * info.pixel_type.bytes() > into.capacity_bytes() {
        return Err("a frame is larger than `frame_bytes_max` in the session's metadata".to_owned());
    }
    // The receipt of this run; `t_live_ns` keeps the recorded one.
    info.t_received_ns = now_ns();
    into.info = info;
    into.bytes_mut().copy_from_slice(&data[layout::HEAD_BYTES..]);
    Ok(())
}

/// The cause without the path, which [`SourceError`] adds itself.
pub(super) fn cause_text(path: &Path, cause: &SessionError) -> String {
    let text = cause.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).map_or(text.clone(), str::to_owned)
}
