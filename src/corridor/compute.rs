//! The compute thread: preprocess, encode, judge, send.
//!
//! Why it exists: preprocessing and encoding share a thread because a hand-over costs more than it gains. What it must
//! never do: read a clock to compute (only to stamp), allocate, or let a decode look better than it is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::config::{NewSeries, Overload, Wait};
use crate::corridor::lane::{Consumer, Producer, Received};
use crate::corridor::realtime::Idle;
use crate::encode::Encoder;
use crate::frame::event::{Event, Reason};
use crate::frame::{
    Decode, Embedding, FIRST_GENERATION, Frame, FrameInfo, FrameSlot, Observation, Quality, Request, Requests,
    StageTimes, Tensor,
};
use crate::preprocess::{Preprocess, PreprocessError};
use crate::source::arrival::{Advice, ArrivalPredictor};
use crate::sys::clock::now_ns;
use crate::sys::counters::count;

use super::drift::{Change, Drift, DriftSettings};
use super::preview::Photographer;
use super::shadow::{Running, Shadow};
use super::to_recorder::HandOver;
use super::{Failure, IDLE_MAX, Shared};

impl Decode {
    /// A slot of the decode lane; nothing in it is valid yet but the sizes of the embedding.
    pub fn with_embedding(embedding: Embedding) -> Self {
        Self {
            frame: Frame::with_capacity(0).info,
            observation: Observation::default(),
            embedding,
            quality: Quality::Warmup,
            skipped: 0,
            action: None,
            generation: FIRST_GENERATION,
            times: StageTimes::default(),
        }
    }
}

/// Decodes frames until the lane of frames is closed or nobody takes the decodes.
pub(super) fn compute(
    preprocess: &mut Box<dyn Preprocess>,
    encoder: &mut Encoder,
    frames: &mut Consumer<FrameSlot>,
    decodes: &mut Producer<Decode>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    shared.settle("compute", shared.settings.realtime.compute_core);
    let mut judge = Judge::new(shared.settings.window_frames, shared.settings.drift);
    let mut photographer = Photographer::new(shared.settings.preview, &shared.previews);
    let mut rhythm = ArrivalPredictor::default();
    let mut since = Requests::default();
    let mut series = 0;
    let mut hand_over = HandOver::new(shared.line.recorder.as_deref());
    let anticipates = shared.settings.realtime.wait == Wait::Anticipate;
    let mut running = Running::new(preprocess, encoder, shared);
    let mut pulse = Pulse::new(shared.settings.pulse);
    while !decodes.is_closed() {
        while let Some(request) = shared.line.requests.pop() {
            since.add(request);
            carry_out(request, &mut running, &mut judge, shared);
        }
        if let Some(drift) = running.look(shared) {
            judge.begin_drift(drift, shared);
        }
        let received = match shared.settings.lane.overload {
            Overload::SkipToLatest => frames.latest(),
            Overload::Wait => frames.oldest(),
        };
        match received {
            Received::Slot(slot, _) => {
                rhythm.note(slot.frame.info.t_received_ns);
                // A skipped frame takes its word with it that it began a series: the first one decoded says it in its place.
                slot.frame.info.series_began = std::mem::replace(&mut series, slot.series) != slot.series;
                if anticipates {
                    shared.decoding.store(true, Relaxed);
                    decodes.ring();
                }
                for request in before(slot, shared) {
                    since.add(request);
                    carry_out(request, &mut running, &mut judge, shared);
                }
                slot.requests = since;
                let number = slot.frame.info.number;
                let stepped = step(slot, &mut running, decodes, &mut judge, &mut photographer, idle, shared);
                shared.decoding.store(false, Relaxed);
                photographer.template(&slot.frame.info, running.preprocess.as_ref());
                if hand_over.frame(frames, number, shared) {
                    since = Requests::default();
                }
                stepped.or_else(|failure| running.fall_back(failure, number, shared))?;
            }
            Received::Empty => {
                let pause = pulse.beat(&mut running);
                if anticipates { prepare(&mut rhythm, &mut running, idle, pause) } else { idle.idle(pause) }
            }
            Received::Closed => break,
        }
    }
    Ok(())
}

/// What must be carried out before this frame: what was before it when it was recorded, and a new animal when a series means one.
fn before(slot: &FrameSlot, shared: &Shared<'_>) -> impl Iterator<Item = Request> + use<> {
    let new_animal = slot.frame.info.series_began && shared.settings.new_series == NewSeries::Reset;
    slot.requests.iter().chain(new_animal.then_some(Request::Reset))
}

/// Idles towards the next frame, no longer than `pause` at a time: asleep, then once through code and data, then awake.
fn prepare(rhythm: &mut ArrivalPredictor, running: &mut Running<'_>, idle: &Idle, pause: Duration) {
    match rhythm.advise(now_ns()) {
        Advice::Sleep(ns) => idle.idle(pause.min(Duration::from_nanos(ns))),
        Advice::Warm => {
            running.preprocess.keep_warm();
            running.encoder.keep_warm();
        }
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
            running.preprocess.rest();
            self.due_ns = now_ns + every.as_nanos() as u64;
        }
        IDLE_MAX.min(every)
    }
}

fn carry_out(request: Request, running: &mut Running<'_>, judge: &mut Judge, shared: &Shared<'_>) {
    running.preprocess.request(request);
    running.shadow.iter_mut().for_each(|shadow| shadow.request(request));
    running.prepare_standby(request);
    if request == Request::Reset {
        running.encoder.reset();
        judge.forget_drift(shared);
    }
    shared.tell(Event::Request { what: request.name() });
}

/// One frame: preprocess, encode, judge, send; then once more for a model that waits in the shadow.
fn step(
    slot: &FrameSlot,
    running: &mut Running<'_>,
    decodes: &mut Producer<Decode>,
    judge: &mut Judge,
    photographer: &mut Photographer<'_>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    let (frame, stats) = (&slot.frame, &shared.line.stats.compute);
    let began_ns = now_ns();
    let skipped = judge.skipped(slot);
    if skipped > 0 {
        count(&stats.skipped, skipped);
        shared.tell(Event::Skipped { frame: frame.info.number, count: skipped });
    }
    let prepared = match running.preprocess.apply(frame) {
        Ok(prepared) => prepared,
        Err(refusal) if refusal.is_survivable() => {
            refuse(&refusal, shared);
            return Ok(());
        }
        Err(fault) => return Err(fault.into()),
    };
    let prepared_ns = now_ns();
    count(&stats.preprocessed, 1);
    count(&stats.non_finite_pixels, u64::from(prepared.observation.non_finite_pixels));
    count(&stats.saturated_pixels, u64::from(prepared.observation.saturated_pixels));
    let times = StageTimes {
        queue_ns: began_ns.saturating_sub(frame.info.t_received_ns),
        preprocess_ns: prepared_ns - began_ns,
        encode_ns: 0,
    };
    stats.queue.record(times.queue_ns);
    stats.preprocess.record(times.preprocess_ns);
    let observation = prepared.observation;
    let Some(tensor) = prepared.tensor else {
        judge.observe(&frame.info, &observation, shared);
        follow(&mut running.shadow, frame, None, shared);
        return Ok(());
    };

    if judge.settled(&observation) {
        // The model has only learnt from whole windows of settled frames: what came before must not be in its window.
        running.encoder.reset();
    }
    let Some(decode) = wait_for_slot(decodes, idle, shared) else { return Ok(()) };
    if !encode((running.encoder, running.generation), &tensor, decode, frame.info.number, shared)? {
        // What one model cannot decode, the other may.
        follow(&mut running.shadow, frame, Some((&tensor, observation.warming_up)), shared);
        return Ok(());
    }
    let encode_ns = now_ns() - prepared_ns;
    stats.encode.record(encode_ns);
    count(&stats.encoded, 1);

    judge.observe(&frame.info, &observation, shared);
    let quality = judge.quality(&observation, running.encoder.warming_up(), frame.info.number, shared);
    judge.drift(decode.embedding.novelty.filter(|_| quality == Quality::Ok), frame.info.number, shared);
    decode.frame = frame.info;
    decode.observation = observation;
    decode.quality = quality;
    decode.skipped = skipped;
    decode.times = StageTimes { encode_ns, ..times };
    let acts = running.decodes_actions && quality != Quality::Warmup;
    decode.action = if acts { strongest(&decode.embedding.probabilities) } else { None };
    if decodes.send() {
        count(&stats.decodes_dropped, 1);
    }
    follow(&mut running.shadow, frame, Some((&tensor, observation.warming_up)), shared);
    photographer.frame(&frame.info, &tensor);
    Ok(())
}

/// Writes the embedding into the slot; false when this frame has none.
fn encode(
    (encoder, generation): (&mut Encoder, u64),
    tensor: &Tensor<'_>,
    decode: &mut Decode,
    number: u64,
    shared: &Shared<'_>,
) -> Result<bool, Failure> {
    if decode.generation != generation {
        // The first use of this slot since the model changed.
        decode.embedding = encoder.new_embedding();
        decode.generation = generation;
    }
    match encoder.encode(tensor, &mut decode.embedding) {
        Ok(()) => Ok(true),
        Err(cause) if cause.is_survivable() => {
            // The encoder kept the state of the frame before, so the window goes on without this frame.
            count(&shared.line.stats.compute.non_finite_embeddings, 1);
            shared.tell(Event::NonFiniteEmbedding { frame: number });
            Ok(false)
        }
        Err(cause) => Err(cause.into()),
    }
}

/// The model in the shadow sees the frame as well, after the decode of the old one is on its way; one that fails is given up.
fn follow(shadow: &mut Option<Shadow>, frame: &Frame, shared_tensor: Option<(&Tensor<'_>, bool)>, shared: &Shared<'_>) {
    let Some(model) = shadow else { return };
    let alive = shared_tensor.is_none_or(|(tensor, warming_up)| model.share(tensor, warming_up));
    if (!alive || !model.follow(frame))
        && let Some(model) = shadow.take()
    {
        model.give_up(shared);
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

fn refuse(refusal: &PreprocessError, shared: &Shared<'_>) {
    let stats = &shared.line.stats.compute;
    let (counter, reason) = match refusal {
        PreprocessError::Channel { .. } => (&stats.refused_channel, Reason::Channel),
        PreprocessError::Side { .. } => (&stats.refused_geometry, Reason::Shape),
        PreprocessError::Geometry { .. } => (&stats.refused_geometry, Reason::Geometry),
        // Ends the run, or is dealt with, before it comes here.
        PreprocessError::Device(_) => return,
    };
    count(counter, 1);
    let so_far = counter.load(Relaxed);
    if so_far % 100 == 1 {
        shared.tell(Event::Rejected { reason, count: so_far });
    }
}

/// Index of the largest probability.
fn strongest(probabilities: &[f32]) -> Option<usize> {
    probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index)
}

/// Share of a window that may be missing before its decode is `degraded`, and relative error of the frame rate alike.
const MISSING_SHARE_MAX: f64 = 0.1;

/// What was seen before, to tell what begins and what ends, and how far a decode may be trusted.
struct Judge {
    /// Frames that have arrived up to and including the last one seen.
    arrived: u64,
    number: Option<u64>,
    /// Frames missing before each of the last decodes, one window long.
    missing: Vec<u64>,
    next: usize,
    ready: bool,
    /// The last frame was one of preprocessing's warm-up.
    unsettled: bool,
    rate_off: bool,
    non_finite: bool,
    at_bound: bool,
    drift: Option<Drift>,
}

impl Judge {
    fn new(window_frames: usize, drift: Option<DriftSettings>) -> Self {
        Self {
            arrived: 0,
            number: None,
            missing: vec![0; window_frames.max(1)],
            next: 0,
            ready: false,
            unsettled: false,
            rate_off: false,
            non_finite: false,
            at_bound: false,
            drift: drift.map(Drift::new),
        }
    }

    /// One more novelty. Only decodes of quality `ok` count: whatever else is off is told by its own name.
    fn drift(&mut self, novelty: Option<f32>, frame: u64, shared: &Shared<'_>) {
        let (Some(drift), Some(novelty)) = (&mut self.drift, novelty) else { return };
        let change = drift.push(novelty);
        shared.line.stats.compute.novelty_mean.set(drift.mean());
        let novelty_mean = drift.mean().unwrap_or_default();
        match change {
            Change::None => {}
            Change::Began => shared.tell(Event::Drift { frame, novelty_mean, limit: drift.limit() }),
            Change::Ended => shared.tell(Event::DriftBack { frame, novelty_mean }),
        }
    }

    /// Another model: what it finds strange is another thing.
    fn begin_drift(&mut self, settings: Option<DriftSettings>, shared: &Shared<'_>) {
        self.drift = settings.map(Drift::new);
        shared.line.stats.compute.novelty_mean.set(None);
    }

    /// A new animal: what was strange about the old one says nothing of it.
    fn forget_drift(&mut self, shared: &Shared<'_>) {
        self.drift.iter_mut().for_each(Drift::reset);
        shared.line.stats.compute.novelty_mean.set(None);
    }

    /// True for the first frame after preprocessing's warm-up.
    fn settled(&mut self, seen: &Observation) -> bool {
        std::mem::replace(&mut self.unsettled, seen.warming_up) && !seen.warming_up
    }

    /// Frames that arrived after the last one taken, or since the start, and before this one.
    fn skipped(&mut self, slot: &FrameSlot) -> u64 {
        let arrived = std::mem::replace(&mut self.arrived, slot.arrival + 1);
        slot.arrival.saturating_sub(arrived)
    }

    /// Notes what begins and ends with this frame.
    fn observe(&mut self, frame: &FrameInfo, seen: &Observation, shared: &Shared<'_>) {
        let expected = if frame.series_began { None } else { self.number };
        self.number = Some(frame.number);
        self.missing[self.next] = expected.map_or(0, |n| frame.number.saturating_sub(n + 1));
        self.next = (self.next + 1) % self.missing.len();

        if began(&mut self.rate_off, seen.frame_rate_off) {
            let (measured_hz, needed_hz) = (seen.frame_rate_hz, shared.settings.needed_hz as f32);
            shared.tell(Event::FrameRateOff { measured_hz, needed_hz });
        } else if !seen.frame_rate_off && std::mem::take(&mut self.rate_off) {
            shared.tell(Event::FrameRateBack { measured_hz: seen.frame_rate_hz });
        }
        if began(&mut self.non_finite, seen.non_finite_pixels > 0) {
            shared.tell(Event::NonFinitePixels { frame: frame.number, pixels: seen.non_finite_pixels });
        }
        self.non_finite = seen.non_finite_pixels > 0;
        if began(&mut self.at_bound, seen.shift_at_bound) {
            shared.tell(Event::ShiftAtBound { frame: frame.number });
        }
        self.at_bound = seen.shift_at_bound;
    }

    fn quality(&mut self, seen: &Observation, window_filling: bool, frame: u64, shared: &Shared<'_>) -> Quality {
        if seen.warming_up || window_filling {
            self.ready = false;
            return Quality::Warmup;
        }
        if began(&mut self.ready, true) {
            shared.tell(Event::Ready { frame });
        }
        let missing: u64 = self.missing.iter().sum();
        let torn = missing as f64 > MISSING_SHARE_MAX * self.missing.len() as f64;
        let off = seen.frame_rate_off || seen.non_finite_pixels > 0 || seen.shift_at_bound || seen.shift_doubtful;
        if torn || off { Quality::Degraded } else { Quality::Ok }
    }
}

/// Sets `flag` if `now`; true when it was not set before.
fn began(flag: &mut bool, now: bool) -> bool {
    now && !std::mem::replace(flag, true)
}
