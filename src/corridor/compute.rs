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
use crate::sys::denormals::flush_to_zero;

use super::animal::Animal;
use super::catch_up::CatchUp;
use super::countdown::Countdown;
use super::deciding::Deciding;
use super::judge::Judge;
use super::lane::{Consumer, Producer, Received};
use super::preview::Photographer;
use super::realtime::Idle;
use super::running::{Running, follow};
use super::series::Series;
use super::shadow::{Ran, SharedInput};
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
    flush_to_zero(true);
    let mut aside = Aside::new(decoder, shared)?;
    let (mut arrivals, mut since, mut series) = (ArrivalPredictor::default(), Requests::default(), Series::default());
    let mut to_recorder = ToRecorder::new(shared.handles.recorder.as_deref());
    let anticipates = shared.settings.realtime.wait == Wait::Anticipate;
    let mut running = Running::new(decoder, shared);
    let mut pulse = Pulse::new(shared.settings.pulse);
    while turns(decodes, shared) {
        while let Some(request) = shared.handles.requests.pop() {
            carry_out(request, &mut since, &mut running, &mut aside, shared);
        }
        if let Some(drift) = running.exchange(shared) {
            aside.judge.begin_drift(drift, shared);
        }
        match receive(frames, &mut aside.catch_up, shared) {
            Received::Slot(slot) => {
                arrivals.note(slot.frame.info.t_received_ns);
                if anticipates {
                    shared.decoding.store(true, Relaxed);
                    decodes.ring();
                }
                series.arrives(slot);
                for request in slot.requests.iter() {
                    carry_out(request, &mut since, &mut running, &mut aside, shared);
                }
                let another = series.is_of_another_animal(&slot.frame.info, running.decoder);
                if let Some(request) = aside.animal.arrives(&slot.frame.info, another, shared) {
                    carry_out(request, &mut since, &mut running, &mut aside, shared);
                }
                slot.requests.clone_from(&since);
                let number = slot.frame.info.number;
                let stepped = step(slot, &mut running, decodes, &mut aside, idle, shared);
                shared.decoding.store(false, Relaxed);
                series.after(&slot.frame.info, running.decoder, shared);
                aside.judge.place(running.decoder.placement(), number, shared);
                aside.photographer.after(&slot.frame, running.decoder);
                if to_recorder.frame(frames, number, shared) {
                    since = Requests::default();
                }
                stepped.or_else(|failure| running.fall_back(failure, number, shared))?;
            }
            Received::Empty => {
                aside.animal.keep_when_asked(running.decoder, shared);
                let pause = pulse.beat(&mut running);
                if anticipates { prepare(&mut arrivals, &mut running, idle, pause) } else { idle.idle(pause) }
            }
            Received::Closed => break,
        }
    }
    aside.animal.end(running.decoder, shared);
    Ok(())
}

/// Another turn of the loop? It is counted: a watchdog looks whether the loop turns.
fn turns(decodes: &Producer<Decode>, shared: &Shared<'_>) -> bool {
    count(&shared.handles.stats.compute.turns, 1);
    !decodes.is_closed()
}

/// What is done beside decoding.
struct Aside<'a> {
    judge: Judge,
    animal: Animal,
    countdown: Countdown,
    deciding: Deciding,
    photographer: Photographer<'a>,
    catch_up: CatchUp,
    /// Backlogs caught up with.
    backlogs: u64,
}

impl<'a> Aside<'a> {
    fn new(decoder: &Decoder, shared: &'a Shared<'_>) -> Result<Self, Failure> {
        let settings = shared.settings;
        Ok(Self {
            judge: Judge::new(settings.window_frames, settings.drift),
            animal: Animal::new(),
            countdown: Countdown::default(),
            deciding: Deciding::new(decoder, shared)?,
            photographer: Photographer::new(settings.preview, &shared.previews),
            catch_up: CatchUp::new(settings.deadline, settings.average_frames),
            backlogs: 0,
        })
    }

    /// Sends a decode that is complete, unless a newer frame's is to be published in its place.
    fn send(&mut self, decodes: &mut Producer<Decode>, shared: &Shared<'_>) {
        let stats = &shared.handles.stats.compute;
        let Some(decode) = decodes.slot() else { return };
        if decode.frame.unpublished {
            self.judge.pass_over();
            return count(&stats.caught_up, 1);
        }
        self.deciding.decide(decode, shared);
        let frame = decode.frame.number;
        if self.judge.complete(decode) > 0 {
            self.backlogs += 1;
            if self.backlogs % 100 == 1 {
                shared.emit(Event::CaughtUp { frame, count: stats.caught_up.load(Relaxed) });
            }
        }
        if decodes.send() {
            count(&stats.decodes_dropped, 1);
        }
    }
}

/// The frame that the overload policy wants next.
fn receive<'a>(
    frames: &'a mut Consumer<FrameSlot>,
    catch_up: &mut CatchUp,
    shared: &Shared<'_>,
) -> Received<'a, FrameSlot> {
    if shared.settings.lane.overload == Overload::Wait {
        // A replay publishes what was published.
        return frames.oldest();
    }
    frames.skip(catch_up.skips(frames.waiting()));
    let received = frames.oldest();
    let Received::Slot(slot) = received else { return received };
    slot.frame.info.unpublished = catch_up.takes(slot.frame.info.t_received_ns, slot.arrival);
    Received::Slot(slot)
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

/// Between two frames: carries out a request and notes it for the recorder.
fn carry_out(
    request: Request,
    since: &mut Requests,
    running: &mut Running<'_>,
    aside: &mut Aside<'_>,
    shared: &Shared<'_>,
) {
    let Aside { judge, animal, deciding, .. } = aside;
    if animal.contradicts(&request) {
        return;
    }
    since.add(request.clone());
    if let Request::Decision(rule, switch) = request {
        return deciding.switch(rule, switch, shared);
    }
    animal.before(&request, running.decoder, shared);
    if request.begins_animal() {
        judge.forget_drift(shared);
    }
    if request.begins_animal() || request == Request::RenewTemplate {
        judge.forget_focus(shared);
    }
    shared.emit(Event::Request { what: request.name() });
    running.request(request);
}

/// One frame: decode, judge, send; then once more for a model that waits in the shadow.
fn step(
    slot: &FrameSlot,
    running: &mut Running<'_>,
    decodes: &mut Producer<Decode>,
    aside: &mut Aside<'_>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), DecodeError> {
    let (frame, stats) = (&slot.frame, &shared.handles.stats.compute);
    let skipped = aside.judge.skipped(slot);
    if skipped > 0 {
        count(&stats.skipped, skipped);
        shared.emit(Event::Skipped { frame: frame.info.number, count: skipped, cause: aside.catch_up.cause() });
    }
    let Some(decode) = wait_for_slot(decodes, idle, shared) else { return Ok(()) };
    let stepped = running.decoder.step(frame, decode);
    account(&stepped, decode, &mut aside.animal, shared);
    aside.catch_up.took(decode.times.preprocess_ns + decode.times.encode_ns);
    let observation = decode.observation;
    let input = |tensor| SharedInput { tensor, observation: &observation };
    match stepped? {
        // A fault of the device ends the run, or is dealt with, before it comes here.
        Step::Refused(error) => error.refusal().iter().for_each(|refusal| shared.refuse(&stats.rejected, refusal)),
        Step::Distrusted => {
            aside.judge.observe(&frame.info, &observation, shared);
            decode.quality = aside.judge.quality(decode, shared);
            aside.countdown.observe(decode, shared);
            aside.send(decodes, shared);
            follow(&mut running.shadow, frame, &input(None), Ran::Well, shared);
        }
        Step::Averaged => {
            aside.judge.observe(&frame.info, &observation, shared);
            follow(&mut running.shadow, frame, &input(None), Ran::Well, shared);
        }
        Step::NonFinite(tensor) => {
            count(&stats.non_finite_embeddings, 1);
            shared.emit(Event::NonFiniteEmbedding { frame: frame.info.number });
            // What one model cannot decode, the other may.
            follow(&mut running.shadow, frame, &input(Some(&tensor)), Ran::Not, shared);
        }
        Step::Decoded(tensor) => {
            aside.judge.observe(&frame.info, &observation, shared);
            decode.quality = aside.judge.quality(decode, shared);
            count(&stats.warm, u64::from(decode.quality != Quality::Warmup));
            let novelty = decode.embedding.novelty.filter(|_| decode.quality == Quality::Ok);
            aside.judge.drift(novelty, frame.info.number, shared);
            aside.countdown.observe(decode, shared);
            aside.send(decodes, shared);
            follow(&mut running.shadow, frame, &input(Some(&tensor)), Ran::Well, shared);
            aside.photographer.frame(&frame.info, &tensor);
        }
    }
    Ok(())
}

/// Counts and times what was done, even of a frame on which the network failed.
fn account(stepped: &Result<Step<'_>, DecodeError>, decode: &Decode, animal: &mut Animal, shared: &Shared<'_>) {
    if matches!(stepped, Ok(Step::Refused(_)) | Err(DecodeError::Preprocess(_))) {
        return;
    }
    let (stats, observation, times) = (&shared.handles.stats.compute, &decode.observation, &decode.times);
    animal.observe(decode.frame.number, observation.taken_up, shared);
    count(&stats.preprocessed, 1);
    count(&stats.non_finite_pixels, u64::from(observation.non_finite_pixels));
    count(&stats.saturated_pixels, u64::from(observation.saturated_pixels));
    stats.queue.record(times.queue_ns);
    stats.preprocess.record(times.preprocess_ns);
    if let Some(distrust) = observation.distrust {
        count(&stats.distrusted[distrust as usize], 1);
    }
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
