//! The corridor itself: three threads, two lanes, one direction.
//!
//! Why it exists: the daemon, `embed`, the benches and the tests must run frames through exactly the same stages in the
//! same order. What it must never do: open a socket or a file (it is given a source and sinks), hide a failure (the first
//! stage that fails ends the corridor and is named), or let one stage wait for another except where the overload policy
//! says `wait`.

pub mod lane;
pub mod offline;
pub mod realtime;
pub mod summary;
pub mod supervisor;

mod animal;
mod catch_up;
mod compute;
mod countdown;
mod deciding;
mod drift;
mod focus;
mod ingest;
mod judge;
mod preview;
mod publish;
mod running;
mod series;
mod shadow;
mod silence;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::config::{self, Config, Overload, Wait};
use crate::decide::{RuleError, Rules};
use crate::decoder::{DecodeError, Decoder};
use crate::frame::event::{Event, Reason, Refusal};
use crate::frame::{Frame, FrameSlot, ModelTag, Request};
use crate::publish::{Sink, SinkError};
use crate::session::recorder::Recorder;
use crate::source::{Source, SourceError};
use crate::sys::counters::{Stats, count};
use crate::sys::exit::{ExitCode, HasExitCode};

use lane::{Bells, WhenFull, lane};
use preview::Previews;
use realtime::Idle;

pub use animal::{AnimalHandles, Keep};
pub use drift::DriftSettings;
pub use preview::PreviewSettings;
pub use shadow::Swap;

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
    /// What turns each into a decode.
    pub decoder: Decoder,
    /// Where decodes go, in this order.
    pub sinks: Vec<Box<dyn Sink>>,
    /// How it runs.
    pub settings: Settings,
    /// What the supervisor holds of it.
    pub handles: Handles,
}

/// How a corridor runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Depth and overload policy of the frame lane.
    pub lane: config::Lane,
    /// Cores, priority, wait policy.
    pub realtime: config::Realtime,
    /// Age at which a decode is stale: how long catching up with a burst may take depends on it.
    pub deadline: Duration,
    /// What a new series means.
    pub new_series: config::NewSeries,
    /// End when the sender ends its acquisition (`--once`), or has sent nothing for so long after a frame: its end message
    /// may have been lost. `None` = go on for ever.
    pub end_with_series: Option<Duration>,
    /// Frames of the stream per window, for judging gaps within it.
    pub window_frames: usize,
    /// Frames of the stream that are averaged into one model frame.
    pub average_frames: usize,
    /// Frames per second that the model needs of the stream, before averaging, for the events.
    pub needed_hz: f64,
    /// When the mean novelty is an event; `None` = the model does not say.
    pub drift: Option<DriftSettings>,
    /// Pictures for people; `None` = none.
    pub preview: Option<PreviewSettings>,
    /// A device without a frame gets something short to do this often; `None` = never.
    pub pulse: Option<Duration>,
    /// Keep what was learnt of an animal at the end of a series and of the run.
    pub keeps_animals: bool,
    /// What is decided with the decodes.
    pub decision: Rules,
}

impl Settings {
    /// What the corridor must know of model and configuration.
    pub fn of(decoder: &Decoder, config: &Config) -> Self {
        let manifest = &decoder.model().manifest;
        Self {
            lane: config.lane,
            realtime: config.realtime.clone(),
            deadline: config.publish.deadline,
            new_series: config.source.new_series,
            end_with_series: None,
            window_frames: manifest.stream_window_frames(),
            average_frames: manifest.preprocess.average_frames,
            needed_hz: manifest.stream_rate_hz(),
            drift: DriftSettings::of(manifest),
            preview: config.publish.preview_every.map(|every| PreviewSettings { every, input: manifest.input }),
            pulse: config.compute.pulse.filter(|_| decoder.on_device()),
            keeps_animals: config.animal.save,
            decision: config.decision.clone(),
        }
    }
}

/// What the supervisor and the corridor share. A clone shares the same counters and queues.
#[derive(Clone)]
pub struct Handles {
    /// Counters and histograms.
    pub stats: Arc<Stats>,
    /// Set by any thread: end the run normally.
    pub stop: Arc<AtomicBool>,
    /// Requests for the compute thread, carried out between two frames.
    pub requests: Arc<ArrayQueue<Request>>,
    /// A model that is to take over; one at a time.
    pub swaps: Arc<ArrayQueue<Box<Swap>>>,
    /// What takes over when a device fails, put in before the start; without it the run ends.
    pub standby: Arc<ArrayQueue<Box<Decoder>>>,
    /// Models that were replaced or given up, to be dropped by the supervisor.
    pub retired: Arc<ArrayQueue<Box<Swap>>>,
    /// Every event once more, for the log.
    pub log: Arc<ArrayQueue<Event>>,
    /// Events on their way to the sinks; any thread may add one.
    pub events: Arc<ArrayQueue<Event>>,
    /// Takes the frames after their decode, if there is one.
    pub recorder: Option<Arc<Recorder>>,
    /// Animals: what is kept of them, and who names them.
    pub animals: AnimalHandles,
}

impl Default for Handles {
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
            animals: AnimalHandles::default(),
        }
    }
}

/// Why a corridor ended before its source did.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source is gone for good.
    #[error("the source failed: {0}")]
    Source(#[from] SourceError),
    /// A frame could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A rule does not fit the model.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A sink is gone for good.
    #[error("a sink failed: {0}")]
    Sink(#[from] SinkError),
    /// A defect of haltere.
    #[error("internal error in the {stage} stage: {message}; please report this")]
    Defect {
        /// Which stage.
        stage: &'static str,
        /// The panic's message.
        message: String,
    },
}

impl HasExitCode for Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::Decode(error) => error.exit_code(),
            Self::Sink(error) => error.exit_code(),
            Self::Rule(error) => error.exit_code(),
            Self::Defect { .. } => ExitCode::Other,
        }
    }
}

/// What the three threads share beside the lanes.
struct Shared<'a> {
    settings: &'a Settings,
    handles: &'a Handles,
    /// Names of the models that took over, for the publish thread.
    tags: ArrayQueue<ModelTag>,
    previews: Previews,
    fault: OnceLock<&'static str>,
    /// A decode is on its way: with `anticipate` the publish thread stays awake for it.
    decoding: AtomicBool,
}

impl Shared<'_> {
    fn emit(&self, event: Event) {
        // A full queue drops its oldest event; what it reported is still in the counters.
        let _ = self.handles.events.force_push(event);
    }

    /// Counts a refusal; emits the first of its kind and then every hundredth, so that a flood of rubbish is not a flood of
    /// events.
    fn refuse(&self, counters: &[AtomicU64; Reason::ALL.len()], refusal: &Refusal) {
        let Refusal { reason, message } = *refusal;
        let counter = &counters[reason as usize];
        count(counter, 1);
        let so_far = counter.load(Ordering::Relaxed);
        if so_far % 100 == 1 {
            self.emit(Event::Rejected { reason, count: so_far, message });
        }
    }

    fn stopping(&self) -> bool {
        self.handles.stop.load(Ordering::Relaxed)
    }

    fn settle(&self, stage: &'static str, core: Option<usize>) {
        // What is denied here was denied to `realtime::try_out` as well, which reported it before the start.
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

/// Runs a corridor until its source ends, it is stopped, or a stage fails. `supervise` is called on the calling thread
/// about every 20 ms meanwhile.
///
/// # Errors
/// The first stage that failed. Everything survivable is in the statistics.
pub fn run(corridor: Corridor, mut supervise: impl FnMut()) -> Result<(), Failure> {
    let Corridor { mut source, mut decoder, mut sinks, settings, handles } = corridor;
    let shared = Shared {
        settings: &settings,
        handles: &handles,
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
    let slot = || decoder.frame_memory(bytes).map_or_else(|| Frame::with_capacity(bytes), Frame::in_memory);
    let (frames_in, frames_out) = lane(settings.lane.depth_frames, when_full, bells, || FrameSlot::of(slot()));
    let bells = Bells { filled: publish_idle.bell(), freed: compute_idle.bell() };
    let (decodes_in, decodes_out) = lane(DECODES_WAITING_MAX, when_full, bells, || decoder.new_decode());

    let (source, decoder, sinks, shared) = (source.as_mut(), &mut decoder, &mut sinks[..], &shared);
    let mut results = Vec::with_capacity(3);
    std::thread::scope(|threads| {
        let stages = [
            spawn(threads, shared, "ingest", frames_in, move |lane| ingest::ingest(source, lane, &ingest_idle, shared)),
            spawn(threads, shared, "compute", (frames_out, decodes_in), move |(frames, decodes)| {
                compute::compute(decoder, frames, decodes, &compute_idle, shared)
            }),
            spawn(threads, shared, "publish", decodes_out, move |lane| {
                publish::publish(sinks, lane, &publish_idle, shared)
            }),
        ];
        while stages.iter().flatten().any(|handle| !handle.is_finished()) {
            supervise();
            std::thread::sleep(SUPERVISE_EVERY);
        }
        results.extend(stages.into_iter().map(|handle| match handle {
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
