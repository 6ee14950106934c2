//! The compute thread: decode, judge, send, hand the frame to the recorder.
//!
//! Why it exists: preprocessing and encoding share a thread because passing a frame to another one costs more than it gains. What it must
//! never do: read a clock to compute (only to stamp), allocate, or let a decode look better than it is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::config::{Overload, Wait};
use crate::decoder::{DecodeError, Decoder, IdleWork, Step};
use crate::frame::event::Event;
use crate::frame::{Decode, FrameSlot, Quality, Request, Requests};
use crate::session::recorder::Recorder;
use crate::source::arrival::{Advice, ArrivalPredictor};
use crate::sys::clock::now_ns;
use crate::sys::counters::count;

use super::judge::Judge;
use super::lane::{Consumer, Producer, Received};
use super::preview::Photographer;
use super::realtime::Idle;
use super::running::{Running, follow};
use super::series::Series;
use super::shadow::SharedTensor;
use super::{Failure, IDLE_MAX, Shared};

/// Decodes frames until the lane of frames or that of decodes is closed.
pub(super) fn compute(
    decoder: &mut Decoder,
    frames: &mut Consumer<FrameSlot>,
    decodes: &mut Producer<Decode>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    shared.settle("compute", shared.settings.realtime.compute_core);
    let mut judge = Judge::new(shared.settings.window_frames, shared.settings.drift);
    let mut photographer = Photographer::new(shared.settings.preview, &shared.previews);
    let mut arrivals = ArrivalPredictor::default();
    let mut since = Requests::default();
    let mut series = Series::default();
    let mut to_recorder = ToRecorder::new(shared.handles.recorder.as_deref());
    let anticipates = shared.settings.realtime.wait == Wait::Anticipate;
    let mut running = Running::new(decoder, shared);
    let mut pulse = Pulse::new(shared.settings.pulse);
    while !decodes.is_closed() {
        while let Some(request) = shared.handles.requests.pop() {
            since.add(request);
            carry_out(request, &mut running, &mut judge, shared);
        }
        if let Some(drift) = running.exchange(shared) {
            judge.begin_drift(drift, shared);
        }
        match receive(frames, shared) {
            Received::Slot(slot, _) => {
                arrivals.note(slot.frame.info.t_received_ns);
                if anticipates {
                    shared.decoding.store(true, Relaxed);
                    decodes.ring();
                }
                for request in series.before(slot, running.decoder, shared) {
                    since.add(request);
                    carry_out(request, &mut running, &mut judge, shared);
                }
                slot.requests = since;
                let number = slot.frame.info.number;
                let stepped = step(slot, &mut running, decodes, &mut judge, &mut photographer, idle, shared);
                shared.decoding.store(false, Relaxed);
                series.after(&slot.frame.info, running.decoder, shared);
                judge.place(running.decoder.placement(), number, shared);
                photographer.template(&slot.frame.info, running.decoder);
                if to_recorder.frame(frames, number, shared) {
                    since = Requests::default();
                }
                stepped.or_else(|failure| running.fall_back(failure, number, shared))?;
            }
            Received::Empty => {
                let pause = pulse.beat(&mut running);
                if anticipates { prepare(&mut arrivals, &mut running, idle, pause) } else { idle.idle(pause) }
            }
            Received::Closed => break,
        }
    }
    Ok(())
}

/// The frame that the overload policy wants next.
fn receive<'a>(frames: &'a mut Consumer<FrameSlot>, shared: &Shared<'_>) -> Received<'a, FrameSlot> {
    match shared.settings.lane.overload {
        Overload::SkipToLatest => frames.latest(),
        Overload::Wait => frames.oldest(),
    }
}

/// The compute thread's side of the recorder: a recorded frame is not copied, its buffer changes hands. Without a spare buffer the
/// frame stays in the lane, is counted as not recorded, and one event reports the whole burst.
struct ToRecorder<'a> {
    recorder: Option<&'a Recorder>,
    /// The last frame was not recorded: the burst has its event.
    behind: bool,
}

impl<'a> ToRecorder<'a> {
    fn new(recorder: Option<&'a Recorder>) -> Self {
        Self { recorder, behind: false }
    }

    /// Hands over the slot received last, frame `number`. False when it was to be recorded and could not be: what was carried
    /// out before it is then recorded with the next one.
    fn frame(&mut self, frames: &mut Consumer<FrameSlot>, number: u64, shared: &Shared<'_>) -> bool {
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

/// Idles towards the next frame, no longer than `pause` at a time: asleep, then once through code and data, then awake.
fn prepare(arrivals: &mut ArrivalPredictor, running: &mut Running<'_>, idle: &Idle, pause: Duration) {
    match arrivals.advise(now_ns()) {
        Advice::Sleep(ns) => idle.idle(pause.min(Duration::from_nanos(ns))),
        Advice::Warm => running.decoder.idle(IdleWork::KeepWarm),
        Advice::Awake => std::thread::yield_now(),
    }
}

/// Gives an idle device something to do, every so often.
struct Pulse {
    every: Option<Duration>,
    due_ns: u64,
}

impl Pulse {
    const fn new(every: Option<Duration>) -> Self {
        Self { every, due_ns: 0 }
    }

    /// A beat, if one is due. How long may now be slept.
    fn beat(&mut self, running: &mut Running<'_>) -> Duration {
        let Some(every) = self.every else { return IDLE_MAX };
        let now_ns = now_ns();
        if now_ns >= self.due_ns {
            running.decoder.idle(IdleWork::Pulse);
            self.due_ns = now_ns + every.as_nanos() as u64;
        }
        IDLE_MAX.min(every)
    }
}

fn carry_out(request: Request, running: &mut Running<'_>, judge: &mut Judge, shared: &Shared<'_>) {
    running.request(request);
    if request == Request::Reset {
        judge.forget_drift(shared);
    }
    shared.emit(Event::Request { what: request.name() });
}

/// One frame: decode, judge, send; then once more for a model that waits in the shadow.
fn step(
    slot: &FrameSlot,
    running: &mut Running<'_>,
    decodes: &mut Producer<Decode>,
    judge: &mut Judge,
    photographer: &mut Photographer<'_>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), DecodeError> {
    let (frame, stats) = (&slot.frame, &shared.handles.stats.compute);
    let skipped = judge.skipped(slot);
    if skipped > 0 {
        count(&stats.skipped, skipped);
        shared.emit(Event::Skipped { frame: frame.info.number, count: skipped });
    }
    let Some(decode) = wait_for_slot(decodes, idle, shared) else { return Ok(()) };
    let stepped = running.decoder.step(frame, decode);
    account(&stepped, decode, shared);
    let observation = decode.observation;
    let warming_up = observation.warming_up;
    match stepped? {
        // A fault of the device ends the run, or is dealt with, before it comes here.
        Step::Refused(error) => error.refusal().iter().for_each(|refusal| shared.refuse(&stats.rejected, refusal)),
        Step::Averaged => {
            judge.observe(&frame.info, &observation, shared);
            follow(&mut running.shadow, frame, None, shared);
        }
        Step::NonFinite(tensor) => {
            count(&stats.non_finite_embeddings, 1);
            shared.emit(Event::NonFiniteEmbedding { frame: frame.info.number });
            // What one model cannot decode, the other may.
            follow(&mut running.shadow, frame, Some(SharedTensor { tensor: &tensor, warming_up }), shared);
        }
        Step::Decoded(tensor) => {
            judge.observe(&frame.info, &observation, shared);
            decode.quality = judge.quality(decode, shared);
            count(&stats.warm, u64::from(decode.quality != Quality::Warmup));
            let novelty = decode.embedding.novelty.filter(|_| decode.quality == Quality::Ok);
            judge.drift(novelty, frame.info.number, shared);
            decode.skipped = skipped;
            if decodes.send() {
                count(&stats.decodes_dropped, 1);
            }
            follow(&mut running.shadow, frame, Some(SharedTensor { tensor: &tensor, warming_up }), shared);
            photographer.frame(&frame.info, &tensor);
        }
    }
    Ok(())
}

/// Counts and times what was done, even of a frame on which the network failed.
fn account(stepped: &Result<Step<'_>, DecodeError>, decode: &Decode, shared: &Shared<'_>) {
    if matches!(stepped, Ok(Step::Refused(_)) | Err(DecodeError::Preprocess(_))) {
        return;
    }
    let (stats, observation, times) = (&shared.handles.stats.compute, &decode.observation, &decode.times);
    count(&stats.preprocessed, 1);
    count(&stats.non_finite_pixels, u64::from(observation.non_finite_pixels));
    count(&stats.saturated_pixels, u64::from(observation.saturated_pixels));
    stats.queue.record(times.queue_ns);
    stats.preprocess.record(times.preprocess_ns);
    if let Ok(Step::Decoded(_)) = stepped {
        stats.encode.record(times.encode_ns);
        count(&stats.encoded, 1);
    }
}

/// A slot for a decode. Only offline (`wait`) can there be none for a while.
fn wait_for_slot<'a>(decodes: &'a mut Producer<Decode>, idle: &Idle, shared: &Shared<'_>) -> Option<&'a mut Decode> {
    while decodes.slot().is_none() {
        if decodes.is_closed() || shared.fault.get().is_some() {
            return None;
        }
        idle.idle(IDLE_MAX);
    }
    decodes.slot()
}
