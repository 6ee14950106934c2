//! The corridor itself: three threads, two lanes, one direction.
//!
//! Why it exists: the daemon, `embed`, the benches and the tests must run frames through exactly the same stages in the
//! same order. What it must never do: open a socket or a file (it is given a source and sinks), hide a failure (the first
//! stage that fails ends the corridor and is named), or let one stage wait for another except where the overload policy
//! says `wait`.

pub mod gather;
pub mod lane;
pub mod offline;
pub mod realtime;
pub mod shadow;
pub mod summary;
pub mod supervisor;
pub mod to_recorder;

mod compute;
mod drift;
mod preview;
mod silence;
mod standby;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::config::{self, Overload, Wait};
use crate::corridor::lane::{Bells, Consumer, Producer, Received, WhenFull, lane};
use crate::corridor::realtime::Idle;
use crate::encode::{EncodeError, Encoder};
use crate::frame::event::{Event, Reason};
use crate::frame::{Decode, FIRST_GENERATION, Frame, FrameSlot};
use crate::preprocess::{Preprocess, PreprocessError, Request};
use crate::publish::zmq::ModelTag;
use crate::publish::{Sink, SinkError};
use crate::session::recorder::Recorder;
use crate::source::{Next, Source, SourceError};
use crate::sys::stats::{Stats, count, now_ns};

pub use drift::DriftSettings;
pub use preview::PreviewSettings;
use preview::Previews;
pub use shadow::Swap;
use silence::Silence;
pub use standby::Standby;

/// Decodes that may wait for the publish thread; it takes microseconds for each.
pub const DECODES_WAITING_MAX: usize = 64;
/// Events that may wait; beyond it the oldest are dropped (their counters are kept).
pub const EVENTS_WAITING_MAX: usize = 256;
/// Requests that may wait for the next frame.
pub const REQUESTS_WAITING_MAX: usize = 16;

/// Models that may wait to be dropped; the supervisor looks every 20 ms, and one swap takes a window of frames.
const SWAPS_RETIRED_MAX: usize = 4;

/// How long an idle thread sleeps at most before it looks around: a tick of the sinks comes at least that often.
const IDLE_MAX: Duration = Duration::from_millis(5);

/// How often the supervisor looks around.
const SUPERVISE_EVERY: Duration = Duration::from_millis(20);

/// What a corridor is made of.
pub struct Corridor {
    /// Where frames come from.
    pub source: Box<dyn Source>,
    /// What turns them into tensors.
    pub preprocess: Box<dyn Preprocess>,
    /// What turns tensors into embeddings.
    pub encoder: Encoder,
    /// Where decodes go, in this order.
    pub sinks: Vec<Box<dyn Sink>>,
    /// How it runs.
    pub settings: Settings,
    /// The line to the supervisor.
    pub line: Line,
}

/// How a corridor runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Depth and overload policy of the frame lane.
    pub lane: config::Lane,
    /// Cores, priority, wait policy.
    pub realtime: config::Realtime,
    /// What a new series means.
    pub new_series: config::NewSeries,
    /// End when the sender ends its acquisition (`--once`), or has sent nothing for so long after a frame: its word that it ended
    /// may have been lost. `None` = go on for ever.
    pub end_with_series: Option<Duration>,
    /// Does the model decode actions (trained, with labels)?
    pub decodes_actions: bool,
    /// Frames of the stream per window, for judging gaps within it.
    pub window_frames: usize,
    /// Frames per second that the model needs of the stream, before averaging, for the events.
    pub needed_hz: f64,
    /// When the mean novelty is told as an event; `None` = the model does not say.
    pub drift: Option<DriftSettings>,
    /// Pictures for people; `None` = none.
    pub preview: Option<PreviewSettings>,
    /// A device without a frame gets something short to do this often; `None` = never.
    pub pulse: Option<Duration>,
}

/// What the supervisor and the corridor share. Cloning gives another handle to the same line.
#[derive(Clone)]
pub struct Line {
    /// Counters and histograms.
    pub stats: Arc<Stats>,
    /// Set by anybody: end in order.
    pub stop: Arc<AtomicBool>,
    /// Requests for the compute thread, carried out between two frames.
    pub requests: Arc<ArrayQueue<Request>>,
    /// A model that is to take over; one at a time.
    pub swaps: Arc<ArrayQueue<Box<Swap>>>,
    /// What takes over when a device fails, put in before the start; without it the run ends.
    pub standby: Arc<ArrayQueue<Box<Standby>>>,
    /// Models that were replaced or given up, to be dropped by the supervisor.
    pub retired: Arc<ArrayQueue<Box<Swap>>>,
    /// Every event once more, for the log.
    pub log: Arc<ArrayQueue<Event>>,
    /// Events on their way to the sinks; whoever has news puts them in.
    pub events: Arc<ArrayQueue<Event>>,
    /// Takes the frames after their decode, if there is one.
    pub recorder: Option<Arc<Recorder>>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            stats: Arc::default(),
            stop: Arc::default(),
            requests: Arc::new(ArrayQueue::new(REQUESTS_WAITING_MAX)),
            swaps: Arc::new(ArrayQueue::new(1)),
            standby: Arc::new(ArrayQueue::new(1)),
            retired: Arc::new(ArrayQueue::new(SWAPS_RETIRED_MAX)),
            log: Arc::new(ArrayQueue::new(EVENTS_WAITING_MAX)),
            events: Arc::new(ArrayQueue::new(EVENTS_WAITING_MAX)),
            recorder: None,
        }
    }
}

/// Why a corridor ended before its source did.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source is gone for good.
    #[error("the source failed: {0}")]
    Source(#[from] SourceError),
    /// The device that preprocesses failed.
    #[error("preprocessing failed: {0}")]
    Preprocess(#[from] PreprocessError),
    /// The model could not be run.
    #[error("the encoder failed: {0}")]
    Encode(#[from] EncodeError),
    /// A sink is gone for good.
    #[error("a sink failed: {0}")]
    Sink(#[from] SinkError),
    /// A defect of haltere.
    #[error("internal error in the {stage} stage: {message}; please report it")]
    Defect {
        /// Which stage.
        stage: &'static str,
        /// The panic's words.
        message: String,
    },
}

/// What the three threads share beside the lanes.
struct Shared<'a> {
    settings: &'a Settings,
    line: &'a Line,
    /// Names of the models that took over, for the publish thread.
    tags: ArrayQueue<ModelTag>,
    previews: Previews,
    fault: OnceLock<&'static str>,
    /// A decode is on its way: with `anticipate` the publish thread stays awake for it.
    decoding: AtomicBool,
}

impl Shared<'_> {
    fn tell(&self, event: Event) {
        // A full queue drops its oldest event; what it said is still in the counters.
        let _ = self.line.events.force_push(event);
    }

    fn stopping(&self) -> bool {
        self.line.stop.load(Ordering::Relaxed)
    }

    fn settle(&self, stage: &'static str, core: Option<usize>) {
        // What is denied here was denied to `realtime::try_out` before the start, which told everybody.
        realtime::settle(stage, core, self.settings.realtime.priority);
    }

    /// Runs one stage to its end; a failure or a panic is remembered as the cause if it is the first.
    ///
    /// The stage only borrows its lane ends: they close after the cause is known, so that whoever sees a lane closed
    /// sees the cause as well.
    fn stage<Ends>(
        &self,
        name: &'static str,
        mut ends: Ends,
        body: impl FnOnce(&mut Ends) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let ended = catch_unwind(AssertUnwindSafe(|| body(&mut ends))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Failure::Defect { stage: name, message })
        });
        if ended.is_err() {
            // Only the first cause is the cause; the others follow from it.
            let _ = self.fault.set(name);
        }
        ended
    }
}

/// Runs a corridor until its source ends, somebody stops it, or a stage fails. `supervise` is called on the calling thread
/// about every 20 ms meanwhile.
///
/// # Errors
/// The first stage that failed. Everything survivable is in the statistics.
pub fn run(corridor: Corridor, mut supervise: impl FnMut()) -> Result<(), Failure> {
    let Corridor { mut source, mut preprocess, mut encoder, mut sinks, settings, line } = corridor;
    let shared = Shared {
        settings: &settings,
        line: &line,
        tags: ArrayQueue::new(SWAPS_RETIRED_MAX),
        previews: Previews::new(settings.preview.is_some()),
        fault: OnceLock::new(),
        decoding: AtomicBool::new(false),
    };
    let realtime = &settings.realtime;
    let (ingest_idle, compute_idle, publish_idle) =
        (Idle::new(realtime.wait), Idle::new(realtime.wait), Idle::new(realtime.wait));

    let when_full = match settings.lane.overload {
        Overload::SkipToLatest => WhenFull::EvictOldest,
        Overload::Wait => WhenFull::Refuse,
    };
    let bytes = source.frame_bytes_max();
    let bells = Bells { filled: compute_idle.bell(), freed: ingest_idle.bell() };
    // In memory that the device reads by itself, if there is one: a frame is then copied once, to the device.
    let slot = || preprocess.frame_memory(bytes).map_or_else(|| Frame::with_capacity(bytes), Frame::in_memory);
    let (frames_in, frames_out) = lane(settings.lane.depth_frames, when_full, bells, || FrameSlot::of(slot()));
    let bells = Bells { filled: publish_idle.bell(), freed: compute_idle.bell() };
    let (decodes_in, decodes_out) =
        lane(DECODES_WAITING_MAX, when_full, bells, || Decode::with_embedding(encoder.new_embedding()));

    let (source, preprocess, encoder, sinks) = (source.as_mut(), &mut preprocess, &mut encoder, &mut sinks[..]);
    let shared = &shared;
    let mut results = Vec::with_capacity(3);
    std::thread::scope(|threads| {
        let handles = [
            spawn(threads, shared, "ingest", frames_in, move |lane| ingest(source, lane, &ingest_idle, shared)),
            spawn(threads, shared, "compute", (frames_out, decodes_in), move |(frames, decodes)| {
                compute::compute(preprocess, encoder, frames, decodes, &compute_idle, shared)
            }),
            spawn(threads, shared, "publish", decodes_out, move |lane| publish(sinks, lane, &publish_idle, shared)),
        ];
        while handles.iter().flatten().any(|handle| !handle.is_finished()) {
            supervise();
            std::thread::sleep(SUPERVISE_EVERY);
        }
        results.extend(handles.into_iter().map(|handle| match handle {
            Ok(handle) => handle.join().unwrap_or(Ok(())),
            Err(cause) => Err(Failure::Defect { stage: "start", message: cause.to_string() }),
        }));
    });
    supervise();
    first_cause(results, shared.fault.get().copied())
}

type Stage<'scope> = std::io::Result<ScopedJoinHandle<'scope, Result<(), Failure>>>;

fn spawn<'scope, Ends: Send + 'scope>(
    threads: &'scope Scope<'scope, '_>,
    shared: &'scope Shared<'_>,
    name: &'static str,
    ends: Ends,
    body: impl FnOnce(&mut Ends) -> Result<(), Failure> + Send + 'scope,
) -> Stage<'scope> {
    std::thread::Builder::new().name(name.to_owned()).spawn_scoped(threads, move || shared.stage(name, ends, body))
}

/// Of the stages' results, the failure of the stage that failed first.
fn first_cause(results: Vec<Result<(), Failure>>, first: Option<&'static str>) -> Result<(), Failure> {
    let index = ["ingest", "compute", "publish"].iter().position(|&name| Some(name) == first);
    let mut failures: Vec<(usize, Failure)> = results
        .into_iter()
        .enumerate()
        .filter_map(|(stage, result)| result.err().map(|cause| (stage, cause)))
        .collect();
    failures.sort_by_key(|(stage, _)| Some(*stage) != index);
    failures.into_iter().next().map_or(Ok(()), |(_, cause)| Err(cause))
}

/// Fills slots from the source until it ends, the run is stopped, or nobody reads any more.
fn ingest(
    source: &mut dyn Source,
    lane: &mut Producer<FrameSlot>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    shared.settle("ingest", shared.settings.realtime.ingest_core);
    let intake = &shared.line.stats.intake;
    let (mut arrivals, mut series) = (0, 0);
    let mut silence = Silence::new(shared.settings.end_with_series);
    while !lane.is_closed() && !shared.stopping() {
        let Some(slot) = lane.slot() else {
            silence.is_not_the_senders();
            idle.idle(IDLE_MAX);
            continue;
        };
        let next = source.next(&mut slot.frame)?;
        match next {
            Next::Frame => {
                let info = slot.frame.info;
                series += u64::from(info.series_began);
                (slot.arrival, slot.series) = (arrivals, series);
                silence.broken_by_frame();
                slot.requests = source.requests();
                arrivals += 1;
                count(&intake.received, 1);
                if info.series_began {
                    shared.tell(Event::SeriesBegan { frame: info.number });
                }
                if info.gap > 0 {
                    count(&intake.gaps, 1);
                    count(&intake.missing, info.gap);
                    shared.tell(Event::Gap { frame: info.number, missing: info.gap });
                }
                if lane.send() {
                    count(&intake.evicted, 1);
                }
                count(&intake.accepted, 1);
            }
            Next::Rejected(reason) => {
                silence.is_not_the_senders();
                count(&intake.received, 1);
                reject(&intake.rejected, reason, shared);
            }
            Next::Idle => {
                if let Some(silent) = silence.too_long() {
                    shared.tell(Event::EndMissing { silent_s: silent.as_secs() });
                    break;
                }
            }
            Next::SeriesBegan => silence.is_not_the_senders(),
            Next::SeriesEnded | Next::FileLost(_) if shared.settings.end_with_series.is_some() => {
                tell_end(next, shared);
                break;
            }
            Next::SeriesEnded | Next::FileLost(_) => tell_end(next, shared),
            Next::End => break,
        }
    }
    Ok(())
}

/// The acquisition is over, in order or not.
fn tell_end(next: Next, shared: &Shared<'_>) {
    shared.tell(match next {
        Next::FileLost(how) => Event::FileLost { how },
        _ => Event::SeriesEnded,
    });
}

/// Counts a refusal; tells the first of its kind and then every hundredth, so that a flood of rubbish is not a flood of events.
fn reject(counters: &[std::sync::atomic::AtomicU64; Reason::ALL.len()], reason: Reason, shared: &Shared<'_>) {
    let counter = &counters[reason as usize];
    count(counter, 1);
    let so_far = counter.load(Ordering::Relaxed);
    if so_far % 100 == 1 {
        shared.tell(Event::Rejected { reason, count: so_far });
    }
}

/// Hands decodes and events to the sinks until the compute thread is gone, and tells every sink the end: one that failed
/// does not keep the others from saying so to whoever listens to them.
fn publish(
    sinks: &mut [Box<dyn Sink>],
    lane: &mut Consumer<Decode>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    shared.settle("publish", shared.settings.realtime.publish_core);
    let mut ended = hand_on(sinks, lane, idle, shared);
    let fault = shared.fault.get().copied().or(ended.is_err().then_some("publish"));
    // For the log only: each sink says it itself, after its last decode.
    let _ = shared.line.log.force_push(fault.map_or(Event::Shutdown, |stage| Event::Fault { stage }));
    for sink in sinks {
        // The first failure is the cause; the other sinks are told the end all the same.
        ended = ended.and(sink.finish(fault).map_err(Failure::from));
    }
    ended
}

/// The work of the publish thread until there is nothing more to come.
fn hand_on(
    sinks: &mut [Box<dyn Sink>],
    lane: &mut Consumer<Decode>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    let (mut ticked_ns, mut generation) = (0, FIRST_GENERATION);
    loop {
        tell_events(sinks, shared)?;
        match lane.oldest() {
            Received::Slot(decode, _) => {
                while generation < decode.generation {
                    let Some(model) = shared.tags.pop() else { break };
                    generation = model.generation;
                    sinks.iter_mut().for_each(|sink| sink.model_changed(&model));
                }
                for sink in sinks.iter_mut() {
                    sink.publish(decode)?;
                }
            }
            Received::Empty if shared.decoding.load(Ordering::Relaxed) => std::thread::yield_now(),
            Received::Empty if show_picture(sinks, shared)? => {}
            Received::Empty => idle.idle(IDLE_MAX),
            Received::Closed => return tell_events(sinks, shared),
        }
        let now = now_ns();
        if now - ticked_ns >= IDLE_MAX.as_nanos() as u64 {
            ticked_ns = now;
            // Under full load there is no idle moment: a picture now and then is shown all the same.
            if shared.previews.are_stuck() {
                show_picture(sinks, shared)?;
            }
            for sink in sinks.iter_mut() {
                sink.tick(now)?;
            }
        }
    }
}

/// Sends one picture, when no decode waits. True if there was one.
fn show_picture(sinks: &mut [Box<dyn Sink>], shared: &Shared<'_>) -> Result<bool, Failure> {
    let Some(picture) = shared.previews.pop() else { return Ok(false) };
    for sink in sinks.iter_mut() {
        sink.preview(&picture)?;
    }
    shared.previews.give_back(picture);
    Ok(true)
}

fn tell_events(sinks: &mut [Box<dyn Sink>], shared: &Shared<'_>) -> Result<(), Failure> {
    while let Some(event) = shared.line.events.pop() {
        // The log is the supervisor's work: a terminal that does not read must not delay a decode.
        let _ = shared.line.log.force_push(event);
        for sink in sinks.iter_mut() {
            sink.event(&event)?;
        }
    }
    Ok(())
}

/// A realtime configuration that asks for nothing: offline work and tests.
pub fn no_realtime(wait: Wait) -> config::Realtime {
    config::Realtime {
        ingest_core: None,
        compute_core: None,
        publish_core: None,
        priority: None,
        lock_memory: false,
        wait,
    }
}
