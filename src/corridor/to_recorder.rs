//! From the compute thread to the recorder: the buffer of a frame whose decode has left.
//!
//! Why it exists: a recorded frame is not copied, it changes hands. What it must never do: wait, or take memory: without a spare
//! buffer the frame stays in the lane, is counted as not recorded, and one event reports the whole burst.

use std::sync::atomic::Ordering::Relaxed;

use super::Shared;
use crate::corridor::lane::Consumer;
use crate::frame::FrameSlot;
use crate::frame::event::Event;
use crate::session::recorder::Recorder;

/// The compute thread's side of the recorder.
pub(super) struct ToRecorder<'a> {
    recorder: Option<&'a Recorder>,
    /// The last frame was not recorded: the burst has its event.
    behind: bool,
}

impl<'a> ToRecorder<'a> {
    pub(super) fn new(recorder: Option<&'a Recorder>) -> Self {
        Self { recorder, behind: false }
    }

    /// Hands over the slot received last, frame `number`. False when it was to be recorded and could not be: what was carried
    /// out before it is then recorded with the next one.
    pub(super) fn frame(&mut self, frames: &mut Consumer<FrameSlot>, number: u64, shared: &Shared<'_>) -> bool {
        let Some(recorder) = self.recorder.filter(|recorder| recorder.takes_frames()) else {
            self.behind = false;
            return true;
        };
        let Some(spare) = recorder.spare() else {
            if !std::mem::replace(&mut self.behind, true) {
                let count = shared.handles.stats.record.frames_lost_queue.load(Relaxed);
                shared.emit(Event::RecordLost { frame: number, count });
            }
            return false;
        };
        self.behind = false;
        match frames.exchange(spare) {
            Ok(used) => recorder.keep(used),
            // Nothing in hand: there is nothing to record.
            Err(spare) => recorder.give_back(spare),
        }
        true
    }
}
